//! `haversack carry`: what changes from one carry to the next.

use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::outcome::{Exit, Outcome};
use crate::cli::stop::stoppable;
use crate::ops::diff::{self, DiffReport};
use crate::ops::{Scratch, place};
use crate::reference::ImageRef;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Compare two carries for people: images, the packages in them, kernels, the certified catalog
    #[command(after_help = HELP)]
    Diff(DiffArgs),
}

#[derive(clap::Args)]
pub(super) struct DiffArgs {
    /// The old carry; or a layout or an archive, of any transport or just its path
    #[arg(value_name = "OLD", value_parser = place::carry_or_image)]
    old: ImageRef,
    /// The new one
    #[arg(value_name = "NEW", value_parser = place::carry_or_image)]
    new: ImageRef,
    /// A layout with what the carries are built on, such as that of the site [default: what is made of it is not compared]
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// End with 1 where anything differs
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    let Command::Diff(args) = command;
    let (scratch, progress) = (Scratch::default(), context.ui.progress());
    let compare = || diff::compare(&args.old, &args.new, args.base.as_deref(), &scratch, progress);
    let report = stoppable(&scratch, |signal| context.stopped(signal), compare)?;
    context.ui.result(&report, DiffReport::to_text)?;
    let is_no = args.exit_code && report.differs();
    Ok(if is_no { Exit::No } else { Exit::of(report.not_compared.is_empty()) })
}

const HELP: &str = "\
Examples:
  haversack carry diff carry-1 carry-2
  haversack carry diff oci:mirror carry-2 --base mirror

Exit status: 0 compared, 1 failed, or something differs with --exit-code, 2 wrong command line, 3 something could not be
compared";
