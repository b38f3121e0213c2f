//! `haversack sync`: the images of a list to where it says.

use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::RegistryArgs;
use crate::ops::sync::{self, SyncListOptions, SyncReport};
use crate::registry::CopyOptions;

/// Copy the images of a list between registries, layouts and archives; what is there is not sent again
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct SyncArgs {
    /// The list: which images of which registries, and where to
    #[arg(value_name = "LIST.toml")]
    list: PathBuf,
    /// Maximum number of parallel transfers with one host, where the list says nothing else
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Maximum number of parallel images
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel_images: u16,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Look for every blob at registries that hold the image already, and send those that they lost
    #[arg(long)]
    check_blobs: bool,
    /// Write there what OpenShift, podman and containerd need to use the mirror
    #[arg(long, value_name = "DIR")]
    mirror_config: Option<PathBuf>,
    #[command(flatten)]
    registries: RegistryArgs,
}

pub(super) fn run(args: &SyncArgs, context: &Context) -> Outcome {
    let report = sync::sync_list(&args.options(context)?, context.ui.progress())?;
    if report.mirror_config.is_empty()
        && let (Some(place), false) = (&args.mirror_config, args.dry_run)
    {
        let place = place.display();
        let why = "nothing was written, because no image went from a registry to a registry";
        context.ui.warn(format_args!("{place}: {why}"));
    }
    for repository in &report.not_for_containerd {
        context.ui.warn(format_args!("{repository}: containerd cannot be told of a mirror with another path"));
    }
    context.ui.result(&report, SyncReport::to_text)?;
    report.reasons().into_iter().for_each(|reason| context.ui.error(reason));
    Ok(Exit::of(report.is_complete()))
}

impl SyncArgs {
    fn options(&self, context: &Context) -> Result<SyncListOptions, Failure> {
        Ok(SyncListOptions {
            list: self.list.clone(),
            images: self.parallel_images.into(),
            copying: CopyOptions {
                dry_run: self.dry_run,
                check_blobs: self.check_blobs,
                ..context.copying(self.parallel.into())
            },
            cache: context.config.environment.cache_dir(),
            mirror_config: self.mirror_config.clone(),
            from: self.registries.source(context)?,
            to: self.registries.destination(context)?,
        })
    }
}

const HELP: &str = "\
Example:
  haversack sync LIST.toml --dry-run

Exit status: 0 all copied, 1 failed, 2 wrong command line, 3 finished, but some images failed; each is named";
