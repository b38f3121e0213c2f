//! `haversack gc`: what nothing in a layout needs goes.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::cli::Context;
use crate::cli::outcome::{Exit, Outcome};
use crate::cli::serve::directory;
use crate::escape::in_line;
use crate::image::Layout;
use crate::image::store::gc::{GcOptions, GcReport, Tally};
use crate::progress::{Unit, amount};
use crate::serve::collect;

/// Remove from a layout what no image in it needs
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct GcArgs {
    /// Directory of an OCI layout
    #[arg(value_name = "LAYOUT", value_parser = directory)]
    layout: PathBuf,
    /// What was written or needed within this time stays
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = crate::cli::duration)]
    grace: Duration,
    /// Also remove images whose tag was deleted or given to another one, that long ago
    #[arg(long)]
    untagged: bool,
    /// Print what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Collected<'a> {
    layout: &'a PathBuf,
    dry_run: bool,
    #[serde(flatten)]
    report: GcReport,
}

pub(super) fn run(args: &GcArgs, context: &Context) -> Outcome {
    let layout = Layout::open(&args.layout)?;
    let options = GcOptions { grace: args.grace, untagged: args.untagged, dry_run: args.dry_run };
    let report = collect(&layout, &options)?;
    let exit = Exit::of(report.failed.is_empty());
    for failed in &report.failed {
        context.ui.warn(format_args!("not removed: {failed}"));
    }
    context.ui.result(&Collected { layout: &args.layout, dry_run: args.dry_run, report }, Collected::to_text)?;
    Ok(exit)
}

impl Collected<'_> {
    fn to_text(&self) -> String {
        let GcReport { removed, linked, leftovers, entries, waiting, needed, missing_manifests, .. } = &self.report;
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let mut text: String = entries.iter().map(|entry| format!("{verb} {}\n", in_line(entry))).collect();
        let tally = |Tally { files, bytes }: &Tally| format!("{files} blobs, {}", amount(*bytes, Unit::Bytes));
        text += &format!("{verb}: {}\n", tally(removed));
        if linked.files > 0 {
            text += &format!("of these linked elsewhere, so no room is won: {}\n", tally(linked));
        }
        if leftovers.files > 0 {
            let Tally { files, bytes } = leftovers;
            text += &format!("{verb}: {files} files on their way, {}\n", amount(*bytes, Unit::Bytes));
        }
        text += &format!("needed: {}\n", tally(needed));
        if waiting.files > 0 {
            text += &format!("not needed, within the grace time: {}\n", tally(waiting));
        }
        if *missing_manifests > 0 {
            text += &format!("listed and not there: {missing_manifests} manifests\n");
        }
        text
    }
}

const HELP: &str = "\
What goes: blobs that no tag, no index and no referrer of what is there leads to; referrers whose image is gone. An image that is
named by its digest stays, unless its tag was deleted or moved by a push and --untagged is given. It is safe while the layout is
served, pushed to or copied to. `--grace 0` is for when nobody writes to it.

Examples:
  haversack gc mirror --dry-run
  haversack gc mirror --grace 7d
  haversack gc mirror --untagged --grace 0

Exit status: 0 done, 1 failed or somebody writes to the layout, 2 wrong command line, 3 something could not be removed";
