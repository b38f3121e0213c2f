//! `haversack gc`: what nothing in a layout needs goes.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::carry::{KeptContents, collect_contents, collectable_contents};
use crate::causes;
use crate::cli::Context;
use crate::cli::outcome::{Exit, Outcome};
use crate::image::Layout;
use crate::image::store::gc::{Collected, GcOptions};
use crate::ops::place;
use crate::plural;
use crate::progress::{Unit, amount};
use crate::serve::collect;

/// Remove from a layout what no image in it needs
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct GcArgs {
    /// Directory of an OCI layout
    #[arg(value_name = "LAYOUT", value_parser = place::layout)]
    layout: PathBuf,
    /// Keep what was written or needed within this time: 12h, 7d; 0 keeps nothing
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = crate::duration::with_unit)]
    grace: Duration,
    /// Also remove images whose tag a client of `serve` deleted or moved, longer ago than --grace
    #[arg(long)]
    untagged: bool,
    /// Print what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &GcArgs, context: &Context) -> Outcome {
    let layout = Layout::open(&args.layout)?;
    let options = GcOptions { grace: args.grace, untagged: args.untagged, dry_run: args.dry_run };
    let report = collect(&layout, &options)?;
    let contents = match args.dry_run {
        true => collectable_contents(&layout, &report.blobs),
        false => collect_contents(&layout),
    };
    let is_whole = contents.is_ok();
    // What was removed before is said in any case.
    let kept_contents = contents.unwrap_or_else(|error| {
        context.ui.warn(format_args!("not removed: {}", causes::line(&error)));
        KeptContents::default()
    });
    let gone =
        Gone { collected: Collected { layout: args.layout.clone(), dry_run: args.dry_run, report }, kept_contents };
    let failed = &gone.collected.report.failed;
    failed.iter().for_each(|failed| context.ui.warn(format_args!("not removed: {failed}")));
    context.ui.result(&gone, Gone::to_text)?;
    Ok(Exit::of(failed.is_empty() && is_whole))
}

/// What was removed, contents among it that were kept of layers that are gone.
#[derive(Serialize)]
struct Gone {
    #[serde(flatten)]
    collected: Collected,
    kept_contents: KeptContents,
}

impl Gone {
    fn to_text(&self) -> String {
        let mut text = self.collected.to_text();
        if self.kept_contents.layers > 0 {
            let verb = if self.collected.dry_run { "would remove" } else { "removed" };
            let KeptContents { layers, bytes } = self.kept_contents;
            text += &format!(
                "{verb}: kept contents of {}, {}\n",
                plural::count(layers, "layer"),
                amount(bytes, Unit::Bytes)
            );
        }
        text
    }
}

const HELP: &str = "\
Removed are blobs that no image, index or referrer in the layout needs, referrers whose image is gone, and what \
`unpack --keep-contents` kept of layers that are gone. An image without a tag \
stays, unless a push to `serve` deleted or moved its tag and --untagged is given; one whose name `copy`, `sync`, `unpack` or `build` gave \
to another image is not in the layout any more, and goes without --untagged. The layout may be served, pushed to or copied to \
meanwhile; only with `--grace 0` nobody may write to it.

Examples:
  haversack gc mirror --dry-run
  haversack gc mirror --grace 7d
  haversack gc mirror --untagged --grace 0

Exit status: 0 done, 1 failed or somebody writes to the layout, 2 wrong command line, 3 something could not be removed";
