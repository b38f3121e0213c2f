//! `haversack run`, `dump` and `refresh`: what the catalog image does when it is started. (What an image of kernels does is
//! in [`kernel_image`].)
//!
//! ```text
//! podman run --rm -v DIR:/tmp/dump:Z --env OCT_DUMP_ONLY=true IMAGE     dump: no network, no other writable place
//! podman run --rm -v DIR:/tmp/dump:Z IMAGE                              refresh, then dump
//! ```
//!
//! The snapshot in the image is named by `HAVERSACK_DB` in its environment, like any other default.

use std::path::PathBuf;

use clap::Args;

use crate::catalog::tree::DumpReport;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::snapshots::{DumpOptionArgs, SourceArgs, notes};
use crate::cli::sources::SourceArgs as KernelSourceArgs;
use crate::cli::{Context, block_on};
use crate::ops::catalog_image::{self, CatalogImage, Refresh};
use crate::ops::kernel_image::{self, KernelImageOptions};
use crate::plural;

/// Entrypoint of a catalog or kernel image: refresh its content and dump it; with OCT_DUMP_ONLY=true only dump it
#[derive(Args)]
#[command(after_help = RUN_HELP)]
pub(super) struct RunArgs {
    #[command(flatten)]
    refresh: RefreshArgs,
}

/// Inside a catalog or kernel image: write its content to the dump directory
#[derive(Args)]
#[command(after_help = DUMP_HELP)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    what: DumpOptionArgs,
    #[command(flatten)]
    kernels: KernelSetArgs,
    /// Keep only this release, or those that begin with it, such as 6.1 or 5.14.0-427; may be repeated
    #[arg(long, value_name = "RELEASE", help_heading = IN_KERNEL_IMAGES)]
    release: Vec<String>,
}

/// Inside a catalog or kernel image: bring its content up to date and write it to the dump directory
#[derive(Args)]
#[command(after_help = REFRESH_HELP)]
pub(super) struct RefreshArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    what: DumpOptionArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// If the catalog cannot be read, dump the newer of the snapshots in this image and in the dump directory, and end with status 3
    #[arg(long)]
    fallback: bool,
    #[command(flatten)]
    kernels: KernelSetArgs,
    /// Refresh from these sources, as for `kernel list`
    #[arg(long, value_name = "SOURCE", num_args = 1.., help_heading = IN_KERNEL_IMAGES)]
    kernel_source: Vec<String>,
    #[command(flatten)]
    kernel_options: KernelSourceArgs,
}

/// What tells an image of kernels from one of the catalog.
#[derive(Args)]
#[command(next_help_heading = IN_KERNEL_IMAGES)]
struct KernelSetArgs {
    /// List of the kernels in this image
    #[arg(long, value_name = "FILE")]
    kernel_set: Option<PathBuf>,
}

#[derive(Args)]
struct PlaceArgs {
    /// Directory to write to; it must exist and be writable
    #[arg(long, value_name = "DIR", default_value = "/tmp/dump")]
    dump_dir: PathBuf,
    /// Snapshot in this image
    #[arg(long, value_name = "FILE", default_value = "catalog.db")]
    db: PathBuf,
    /// Prepared tree in this image, copied instead of generated anew
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
}

pub(super) fn run(args: RunArgs, context: &Context) -> Outcome {
    let RefreshArgs { kernels, kernel_source, kernel_options, .. } = &args.refresh;
    // An image of kernels that names no source has nothing to refresh from.
    let has_source = !kernel_source.is_empty() || kernel_options.has_distro();
    if context.config.environment.is_true("OCT_DUMP_ONLY") || (kernels.kernel_set.is_some() && !has_source) {
        let release = kernel_options.releases().to_vec();
        let RefreshArgs { place, what, kernels, .. } = args.refresh;
        return dump(&DumpArgs { place, what, kernels, release }, context);
    }
    refresh(&args.refresh, context)
}

pub(super) fn dump(args: &DumpArgs, context: &Context) -> Outcome {
    if let Some(set) = &args.kernels.kernel_set {
        catalog_image::check_place(&args.place.dump_dir)?;
        let options = KernelImageOptions { releases: args.release.clone(), to: args.place.dump_dir.clone() };
        let count = kernel_image::dump(set, &options)?;
        context.ui.say(format_args!("{} in {}", plural::count(count, "kernel"), args.place.dump_dir.display()));
        return Ok(Exit::Done);
    }
    if !args.release.is_empty() {
        return Err(Failure::usage("--release: this image holds the catalog, and no kernels"));
    }
    let image = args.place.image(&args.what);
    let embedded = image.embedded()?;
    dumping(&args.place, context)?;
    Ok(dumped(&image.dump(&embedded)?, context))
}

pub(super) fn refresh(args: &RefreshArgs, context: &Context) -> Outcome {
    if args.kernels.kernel_set.is_some() {
        return refresh_kernels(args, context);
    }
    if !args.kernel_source.is_empty() || args.kernel_options.has_distro() {
        return Err(Failure::usage("--kernel-source, --distro: this image holds the catalog, and no kernels"));
    }
    let refresh = Refresh::start(args.place.image(&args.what))?;
    let mut options = args.source.options();
    if context.config.environment.is_true("OCT_FORCE_REGENERATE_DB") {
        context.ui.data("OCT: Forced db regeneration.")?;
        options.full = true;
    }
    let taken = args
        .source
        .online(context)
        .and_then(|source| block_on(async { Ok(refresh.take(&source, &options, context.ui.progress()).await?) }));
    let failure = match taken {
        Ok(report) => {
            notes(&report, context);
            dumping(&args.place, context)?;
            let exit = dumped(&refresh.finish()?, context);
            return Ok(if report.is_complete() { exit } else { Exit::Partial });
        }
        Err(failure) => failure,
    };
    refresh.put_away(failure.is_full_disk())?;
    let newest = refresh.newest()?;
    if !args.fallback {
        return Err(failure.and_hint(format!(
            "{} is as it was. Without a network, use dump-only mode (`--env OCT_DUMP_ONLY=true`), which writes the \
             snapshot of {} in this image; or `refresh --fallback`, which takes the newest of that and of what was \
             dumped before",
            args.place.dump_dir.display(),
            refresh.embedded().info()?.taken
        )));
    }
    context.ui.error(&failure);
    context.ui.warn(format_args!("the catalog could not be read; {newest}"));
    if newest.is_dumped() {
        dumping(&args.place, context)?;
    }
    if let Some(report) = refresh.fall_back(&newest)? {
        dumped(&report, context);
    }
    Ok(Exit::Partial)
}

fn refresh_kernels(args: &RefreshArgs, context: &Context) -> Outcome {
    catalog_image::check_place(&args.place.dump_dir)?;
    let words: Vec<String> =
        args.kernel_source.iter().flat_map(|source| source.split_whitespace()).map(str::to_owned).collect();
    let from = args.kernel_options.options(&words, context)?;
    let options = KernelImageOptions { to: args.place.dump_dir.clone(), ..KernelImageOptions::default() };
    let (count, complete) = kernel_image::refresh(&from, &options, &context.http, context.ui.progress())?;
    context.ui.say(format_args!("{} in {}", plural::count(count, "kernel"), args.place.dump_dir.display()));
    Ok(Exit::of(complete))
}

impl PlaceArgs {
    fn image(&self, what: &DumpOptionArgs) -> CatalogImage {
        CatalogImage {
            dump_dir: self.dump_dir.clone(),
            db: self.db.clone(),
            tree: self.tree.clone(),
            what: what.options(),
        }
    }
}

/// The line that those who start oct's image look for.
fn dumping(place: &PlaceArgs, context: &Context) -> Result<(), Failure> {
    Ok(context.ui.data(format_args!("OCT: Dumping current DB to {}", place.dump_dir.display()))?)
}

fn dumped(report: &DumpReport, context: &Context) -> Exit {
    context.ui.say(report.to_text().trim_end());
    context.ui.warn_of(report.warnings());
    Exit::of(report.missing.is_empty())
}

const IN_KERNEL_IMAGES: &str = "In kernel images";

const RUN_HELP: &str = "\
Examples:
  haversack run --dump-dir /tmp/dump

Exit status: 0 dumped, 1 failed, 2 wrong command line, 3 dumped, but not all of it or not up to date";

const DUMP_HELP: &str = "\
Examples:
  haversack dump --dump-dir /tmp/dump

Exit status: 0 dumped, 1 failed, 2 wrong command line, 3 dumped, but some of it is missing";

const REFRESH_HELP: &str = "\
Examples:
  haversack refresh --fallback

Exit status: 0 refreshed and dumped, 1 failed, 2 wrong command line, 3 dumped, but not all of it or not up to date";
