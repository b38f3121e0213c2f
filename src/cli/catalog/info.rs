//! `haversack catalog info` and `diff`: what a snapshot is, and what two differ in.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use crate::catalog::diff::{self, Diff};
use crate::catalog::{Info, Snapshot};
use crate::cli::Context;
use crate::cli::outcome::{Exit, Outcome};

#[derive(Args)]
pub(super) struct DiffArgs {
    /// Old snapshot
    old: PathBuf,
    /// New snapshot
    new: PathBuf,
    /// End with status 1 if they differ
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn compare(args: &DiffArgs, context: &Context) -> Outcome {
    let diff = diff::diff(&Snapshot::open(&args.old)?, &Snapshot::open(&args.new)?)?;
    context.ui.result(&diff, Diff::to_text)?;
    context.ui.warn_of(diff.warnings());
    Ok(if args.exit_code && !diff.is_empty() { Exit::No } else { Exit::of(diff.not_compared.is_empty()) })
}

#[derive(Serialize)]
struct About {
    #[serde(flatten)]
    info: Info,
    age_seconds: i64,
    bytes: u64,
}

pub(super) fn info(db: &Path, context: &Context) -> Outcome {
    let snapshot = Snapshot::open(db)?;
    let info = snapshot.info()?;
    let about = About { age_seconds: info.taken.age(), bytes: std::fs::metadata(db)?.len(), info };
    context.ui.result(&about, |about| about.info.to_text(about.bytes))?;
    Ok(Exit::Done)
}
