//! `haversack copy`: an image from one place to another, unchanged.

use crate::cli::Context;
use crate::cli::global::ParallelArgs;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::RegistryArgs;
use crate::image::Platform;
use crate::ops::copy::{self, Copied, CopyImageOptions};
use crate::ops::place;
use crate::reference::ImageRef;
use crate::registry::CopyOptions;

/// Copy an image between registries, layouts and archives; its digest stays the same
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct CopyArgs {
    /// Source: docker://HOST/REPOSITORY[:TAG][@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME:TAG] or dir:DIR
    #[arg(value_name = "SRC", value_parser = place::image)]
    source: ImageRef,
    /// Destination, written like the source
    #[arg(value_name = "DST", value_parser = place::image)]
    destination: ImageRef,
    /// Copy only this platform of a multi-platform image, whose index is rewritten and gets another digest; may be repeated
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<Platform>,
    /// Leave signatures, SBOMs and attestations behind
    #[arg(long)]
    no_referrers: bool,
    #[command(flatten)]
    parallel: ParallelArgs<6>,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Check every blob even if the registry has the image already, and send again what it has lost
    #[arg(long)]
    check_blobs: bool,
    #[command(flatten)]
    registries: RegistryArgs,
}

pub(super) fn run(args: &CopyArgs, context: &Context) -> Outcome {
    let is_source = |host: &str| matches!(&args.source, ImageRef::Docker(remote) if remote.registry == host);
    let option = |host: &str| if is_source(host) { "--src-tls-verify=false" } else { "--dest-tls-verify=false" };
    let copied = copy::copy_image(&args.options(context)?, context.ui.progress());
    let copied = copied.map_err(|error| Failure::from(error).without_tls(option))?;
    if copied.report.rewritten {
        context.ui.say(format_args!("the index was rewritten for the platforms asked for: {}", copied.report.digest));
    }
    context.ui.result(&copied, Copied::to_text)?;
    Ok(Exit::of(copied.report.left_out.is_empty()))
}

impl CopyArgs {
    fn options(&self, context: &Context) -> Result<CopyImageOptions, Failure> {
        Ok(CopyImageOptions {
            source: self.source.clone(),
            destination: self.destination.clone(),
            copying: CopyOptions {
                platforms: self.platform.clone(),
                referrers: !self.no_referrers,
                dry_run: self.dry_run,
                check_blobs: self.check_blobs,
                ..context.copying(self.parallel.count())
            },
            from: self.registries.source(context)?,
            to: self.registries.destination(context)?,
        })
    }
}

const HELP: &str = "\
Examples:
  haversack copy docker://quay.io/podman/stable:v5 oci:mirror:podman
  haversack copy oci:mirror:podman oci-archive:podman.tar:podman
  haversack copy oci-archive:podman.tar:podman docker://registry.local:5000/podman/stable:v5

Exit status: 0 copied, 1 failed, 2 wrong command line, 3 copied, but without some signatures, SBOMs or attestations: they could not be read, or `dir:` has no place for them";
