//! `haversack copy`: an image from one place to another, unchanged.

use std::collections::HashMap;

use serde::Serialize;

use crate::cli::outcome::{Exit, Outcome};
use crate::cli::registries::RegistryArgs;
use crate::cli::{Context, block_on, place};
use crate::escape::in_line;
use crate::image::store::archive;
use crate::image::{Platform, manifest};
use crate::ops::connect::Destination;
use crate::progress::{Unit, amount};
use crate::reference::ImageRef;
use crate::registry::{CopyOptions, CopyReport, Memory, copy};

/// Copy an image between registries, layouts and archives; its digest stays what it is
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct CopyArgs {
    /// From where: docker://HOST/REPOSITORY[:TAG][@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME:TAG] or dir:DIR
    #[arg(value_name = "SRC", value_parser = place::image)]
    source: ImageRef,
    /// To where, in the same words
    #[arg(value_name = "DST", value_parser = place::image)]
    destination: ImageRef,
    /// Only this platform of a multi-platform image, whose index is then rewritten
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<Platform>,
    /// Leave signatures, SBOMs and attestations behind
    #[arg(long)]
    no_referrers: bool,
    /// Maximum number of parallel transfers
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Look for every blob at a registry that holds the image already, and send those that it lost
    #[arg(long)]
    check_blobs: bool,
    #[command(flatten)]
    registries: RegistryArgs,
}

#[derive(Serialize)]
struct Copied {
    source: ImageRef,
    destination: ImageRef,
    dry_run: bool,
    #[serde(flatten)]
    report: CopyReport,
}

pub(super) fn run(args: &CopyArgs, context: &Context) -> Outcome {
    let is_source = |host: &str| matches!(&args.source, ImageRef::Docker(remote) if remote.registry == host);
    let option = |host: &str| if is_source(host) { "--src-tls-verify=false" } else { "--dest-tls-verify=false" };
    copy_image(args, context).map_err(|failure| failure.without_tls(option))
}

fn copy_image(args: &CopyArgs, context: &Context) -> Outcome {
    let options = CopyOptions {
        platforms: args.platform.clone(),
        // A directory has no place for them.
        referrers: !args.no_referrers && !matches!(args.destination, ImageRef::Dir { .. }),
        parallel: args.parallel.into(),
        dry_run: args.dry_run,
        retry: context.http.retry,
        memory: Memory::new(context.config.cache_dir(), args.parallel.into(), HashMap::new()),
        expected: match &args.destination {
            ImageRef::Docker(remote) => remote.target.digest().cloned(),
            _ => None,
        },
        check_blobs: args.check_blobs,
    };
    // It outlives the runtime: when a copy fails, others of its writers may still be at work in what then goes away.
    let mut held = None;
    let (image, mut report) = block_on(async {
        let (source, image) = args.registries.source(context)?.open(&args.source).await?;
        if let ImageRef::DockerArchive { path, .. } = &args.destination
            && manifest::is_index(image.media_type())
            && args.platform.len() != 1
        {
            let platforms = manifest::children(&image, &source.document(&image).await?)?.len();
            if platforms != 1 {
                return Err(archive::Error::SeveralPlatforms { path: path.clone(), platforms }.into());
            }
        }
        let access = args.registries.destination(context)?;
        let place = Destination::open(&args.destination, &access, args.dry_run).await?;
        let (place, progress) = (held.insert(place), context.ui.progress());
        let report = copy(&source, &image, &place.target, place.name.as_deref(), &options, progress).await?;
        Ok((image, report))
    })?;
    if let Some(place) = held.filter(|_| !args.dry_run) {
        report.digest = place.finish(&image, &report)?;
    }
    if report.rewritten {
        context.ui.say(format_args!("the index was rewritten for the platforms asked for: {}", report.digest));
    }
    let (source, destination) = (args.source.clone(), args.destination.clone());
    let copied = Copied { source, destination, dry_run: args.dry_run, report };
    context.ui.result(&copied, Copied::to_text)?;
    Ok(Exit::of(copied.report.left_out.is_empty()))
}

impl Copied {
    fn to_text(&self) -> String {
        let CopyReport {
            digest,
            sent_blobs,
            sent_bytes,
            mounted_blobs,
            present_blobs,
            referrers,
            foreign,
            not_asked,
            ..
        } = &self.report;
        let sent = amount(*sent_bytes, Unit::Bytes);
        let verb = if self.dry_run { "would be sent" } else { "sent" };
        let place = match &self.destination {
            ImageRef::Docker(remote) if remote.target.digest().is_some() => self.destination.to_string(),
            destination => format!("{destination}@{digest}"),
        };
        let mut text = format!("{place}\n  {sent_blobs} blobs {verb}: {sent}\n");
        for (count, what) in [
            (present_blobs, "blobs were there"),
            (mounted_blobs, "blobs mounted from another repository"),
            (referrers, "signatures, SBOMs or attestations came along"),
            (foreign, "layers may not be distributed and are not in the source: they stay where their URLs lead"),
            (not_asked, "entries without names there were not asked for: they belong to other images, or to none"),
        ] {
            if *count > 0 {
                text += &format!("  {count} {what}\n");
            }
        }
        for left_out in &self.report.left_out {
            text += &format!("  left out: {}: {}\n", in_line(&left_out.what), in_line(&left_out.because));
        }
        text
    }
}

const HELP: &str = "\
Examples:
  haversack copy docker://quay.io/podman/stable:v5 oci:mirror:podman
  haversack copy oci:mirror:podman oci-archive:podman.tar:podman
  haversack copy oci-archive:podman.tar:podman docker://registry.local:5000/podman/stable:v5

Exit status: 0 copied, 1 failed, 2 wrong command line, 3 copied, but for what refers to the image and could not be had";
