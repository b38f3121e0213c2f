//! `haversack sync`: the images of a list to where it says.

use std::path::PathBuf;

use crate::causes;
use crate::cli::Context;
use crate::cli::global::ParallelArgs;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::RegistryArgs;
use crate::ops::Done;
use crate::ops::sync::{self, SyncListOptions, SyncReport};
use crate::registry::CopyOptions;
use crate::registry::sync::list;

/// Copy the images of a list between registries, layouts and archives; only what is missing is sent
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct SyncArgs {
    /// List of images and their destinations (see below)
    #[arg(value_name = "LIST.toml")]
    list: PathBuf,
    #[command(flatten)]
    parallel: ParallelArgs<6>,
    /// Maximum number of parallel images
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel_images: u16,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Check every blob even if a registry has the image already, and send again what it has lost
    #[arg(long)]
    check_blobs: bool,
    /// Write the files that OpenShift, podman and containerd need to use the mirror into this directory
    #[arg(long, value_name = "DIR")]
    mirror_config: Option<PathBuf>,
    #[command(flatten)]
    registries: RegistryArgs,
}

pub(super) fn run(args: &SyncArgs, context: &Context) -> Outcome {
    let report = sync::sync_list(&args.options(context)?, context.ui.progress()).map_err(|error| {
        let is_of_the_list = causes::find::<list::Error>(&error).is_some();
        let failure = Failure::from(error);
        if is_of_the_list { failure.and_hint("`haversack sync --help` shows how a list is written") } else { failure }
    })?;
    let unwritten = args.mirror_config.as_ref().filter(|_| report.mirror_config.is_empty() && !args.dry_run);
    if let Some(place) = unwritten {
        let place = place.display();
        let why = "nothing was written, because no image went from a registry to a registry";
        context.ui.warn(format_args!("{place}: {why}"));
    }
    for repository in &report.not_for_containerd {
        context.ui.warn(format_args!("{repository}: containerd cannot be told of a mirror with another path"));
    }
    context.ui.result(&report, SyncReport::to_text)?;
    report.reasons().into_iter().for_each(|reason| context.ui.error(reason));
    Ok(match report.done() {
        Done::All => Exit::of(unwritten.is_none()),
        done => done.into(),
    })
}

impl SyncArgs {
    fn options(&self, context: &Context) -> Result<SyncListOptions, Failure> {
        Ok(SyncListOptions {
            list: self.list.clone(),
            images: self.parallel_images.into(),
            copying: CopyOptions {
                dry_run: self.dry_run,
                check_blobs: self.check_blobs,
                ..context.copying(self.parallel.count())
            },
            cache: context.config.environment.cache_dir(),
            mirror_config: self.mirror_config.clone(),
            from: self.registries.source(context)?,
            to: self.registries.destination(context)?,
        })
    }
}

const HELP: &str = "\
A list:
  to = \"docker://mirror.example:5000\"

  [[images]]
  registry = \"quay.io\"
  repositories = [\"podman/stable\", \"podman/*\"]
  tags = [\"v5\", \"v5.*\"]

  [[images]]
  from = \"oci:mirror\"

  [registries.\"mirror.example:5000\"]
  tls-verify = false

Repositories and tags are names or patterns; `semver = \">=1.2, <2\"` takes tags that are versions, \
`digests` takes images without a tag, and `as` gives the repository another name. In a registry the others keep their path below that \
of `to`, without their host (docker.io/alpine is library/alpine); in a layout or an archive their names are HOST/REPOSITORY:TAG.

Examples:
  haversack sync list.toml --dry-run
  haversack sync list.toml --mirror-config nodes

Exit status: 0 all copied, 1 failed, or none of the images could be copied, 2 wrong command line, 3 finished, but some images failed, \
each of which is named, or there was nothing to write for --mirror-config";
