//! `haversack carry`: what changes from one carry to the next.

use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::outcome::{Exit, Outcome};
use crate::ops::diff::{self, DiffReport};
use crate::ops::{Scratch, place};
use crate::reference::ImageRef;
use crate::terminal::stop::stoppable;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show what differs between two carries: images, their packages, kernels, the certified catalog
    #[command(after_help = HELP)]
    Diff(DiffArgs),
}

#[derive(clap::Args)]
pub(super) struct DiffArgs {
    /// Old carry; or a layout or an archive, by transport or path
    #[arg(value_name = "OLD", value_parser = place::carry_or_image)]
    old: ImageRef,
    /// New carry, layout or archive
    #[arg(value_name = "NEW", value_parser = place::carry_or_image)]
    new: ImageRef,
    /// Layout with the images that the carries are built on, such as the site's [default: contents taken from it are not compared]
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// End with status 1 if anything differs
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    let Command::Diff(args) = command;
    let (scratch, progress) = (Scratch::default(), context.ui.progress());
    let compare = || diff::compare(&args.old, &args.new, args.base.as_deref(), &scratch, progress);
    let report = stoppable(|| scratch.remove(), |signal| context.stopped(signal), compare)?;
    context.ui.result(&report, DiffReport::to_text)?;
    let is_no = args.exit_code && report.differs();
    Ok(if is_no { Exit::No } else { Exit::of(report.not_compared.is_empty()) })
}

const HELP: &str = "\
Examples:
  haversack carry diff carry-1 carry-2
  haversack carry diff oci:mirror carry-2 --base mirror

Exit status: 0 compared, 1 failed, or they differ and --exit-code is given, 2 wrong command line, 3 not all could be compared";

/// After the help of `haversack carry`.
pub(super) const GROUP_HELP: &str = "\
Examples:
  haversack carry diff carry-1 carry-2

Exit status: 0 done, 1 failed, 2 wrong command line";
