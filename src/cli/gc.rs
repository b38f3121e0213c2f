//! `haversack gc`: what nothing in a layout needs goes.

use std::path::PathBuf;
use std::time::Duration;

use crate::cli::Context;
use crate::cli::outcome::{Exit, Outcome};
use crate::image::Layout;
use crate::image::store::gc::{Collected, GcOptions};
use crate::ops::place;
use crate::serve::collect;

/// Remove from a layout what no image in it needs
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct GcArgs {
    /// Directory of an OCI layout
    #[arg(value_name = "LAYOUT", value_parser = place::layout)]
    layout: PathBuf,
    /// Keep what was written or needed within this time
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = crate::duration::parse)]
    grace: Duration,
    /// Also remove images whose tag was deleted or moved longer ago than --grace
    #[arg(long)]
    untagged: bool,
    /// Print what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &GcArgs, context: &Context) -> Outcome {
    let layout = Layout::open(&args.layout)?;
    let options = GcOptions { grace: args.grace, untagged: args.untagged, dry_run: args.dry_run };
    let collected =
        Collected { layout: args.layout.clone(), dry_run: args.dry_run, report: collect(&layout, &options)? };
    collected.report.failed.iter().for_each(|failed| context.ui.warn(format_args!("not removed: {failed}")));
    context.ui.result(&collected, Collected::to_text)?;
    Ok(Exit::of(collected.report.failed.is_empty()))
}

const HELP: &str = "\
Removed are blobs that no image, index or referrer in the layout needs, and referrers whose image is gone. An image without a tag \
stays, unless a push deleted or moved its tag and --untagged is given. The layout may be served, pushed to or copied to \
meanwhile; only with `--grace 0` nobody may write to it.

Examples:
  haversack gc mirror --dry-run
  haversack gc mirror --grace 7d
  haversack gc mirror --untagged --grace 0

Exit status: 0 done, 1 failed or somebody writes to the layout, 2 wrong command line, 3 something could not be removed";
