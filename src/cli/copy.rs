//! `haversack copy`: an image from one place to another, unchanged.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgAction;
use oci_spec::image::Descriptor;
use serde::Serialize;

use super::outcome::{Exit, Failure, Outcome};
use super::{Context, block_on};
use crate::digest::Digest;
use crate::fs::PathContext;
use crate::http::{HostTls, Http, HttpOptions};
use crate::image::store::{archive, layout};
use crate::image::{self, Layout, Platform, Store, manifest};
use crate::progress::{Unit, amount};
use crate::reference::{ImageRef, Remote, Target as RemoteTarget};
use crate::registry::{AuthFiles, CopyOptions, CopyReport, Memory, Registry, Repository, Source, Target, copy};

/// Copy an image between registries, layouts and archives; its digest stays what it is
#[derive(clap::Args)]
pub(super) struct CopyArgs {
    /// From where: docker://HOST/REPOSITORY[:TAG|@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME:TAG] or dir:DIR
    #[arg(value_name = "SRC")]
    source: ImageRef,
    /// To where, in the same words
    #[arg(value_name = "DST")]
    destination: ImageRef,
    /// Only this platform of a multi-platform image, whose index is then rewritten
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<Platform>,
    /// Leave signatures, SBOMs and attestations behind
    #[arg(long)]
    no_referrers: bool,
    /// Blobs under way at one time
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Print what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// How registries are spoken to.
#[derive(clap::Args)]
pub(super) struct RegistryArgs {
    /// Whether the source's certificate is checked; `false` also takes plain HTTP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub(super) src_tls_verify: bool,
    /// Whether the destination's certificate is checked; `false` also takes plain HTTP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub(super) dest_tls_verify: bool,
    /// Where credentials are, instead of podman's and docker's files
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
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
    let options = CopyOptions {
        platforms: args.platform.clone(),
        // A directory has no place for them.
        referrers: !args.no_referrers && !matches!(args.destination, ImageRef::Dir { .. }),
        parallel: args.parallel.into(),
        dry_run: args.dry_run,
        retry: context.http.retry,
        memory: Memory::new(context.config.cache_dir(), args.parallel.into(), HashMap::new()),
    };
    // It outlives the runtime: when a copy fails, others of its writers may still be at work in what then goes away.
    let mut held = None;
    let (image, mut report) = block_on(async {
        let auth = args.registries.auth(context)?;
        let (source, image) = open_source(&args.source, args.registries.src_tls_verify, &auth, context).await?;
        if let ImageRef::DockerArchive { path, .. } = &args.destination
            && manifest::is_index(image.media_type())
            && args.platform.len() != 1
        {
            let platforms = manifest::children(&image, &source.document(&image).await?)?.len();
            return Err(archive::Error::SeveralPlatforms { path: path.clone(), platforms }.into());
        }
        let place =
            Place::open(&args.destination, args.registries.dest_tls_verify, &auth, args.dry_run, context).await?;
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
    Ok(Exit::Done)
}

impl RegistryArgs {
    /// The files with credentials.
    pub(super) fn auth(&self, context: &Context) -> Result<AuthFiles, Failure> {
        auth_files(self.authfile.as_deref(), context)
    }
}

/// The files with credentials: the one that is named, which has to be there, or podman's and docker's.
pub(super) fn auth_files(named: Option<&Path>, context: &Context) -> Result<AuthFiles, Failure> {
    let Some(path) = named else { return Ok(AuthFiles { paths: context.config.auth_files() }) };
    std::fs::metadata(path).at("read", path)?;
    Ok(AuthFiles { paths: vec![path.to_owned()] })
}

/// Opens what a reference names for reading.
pub(super) async fn open_source(
    reference: &ImageRef,
    verify_tls: bool,
    auth: &AuthFiles,
    context: &Context,
) -> Result<(Source, Descriptor), Failure> {
    if let ImageRef::Docker(remote) = reference {
        let repository = repository(remote, verify_tls, false, auth, context).await?;
        let (image, _) = repository.document(remote.target()).await?;
        return Ok((Source::Repository(repository), image));
    }
    let (store, mut image) = Store::open_image(reference)?;
    // The name is the place's, not the image's.
    image.set_annotations(None);
    Ok((Source::Store(Arc::new(store)), image))
}

/// The repository that a reference names.
pub(super) async fn repository(
    remote: &Remote,
    verify_tls: bool,
    write: bool,
    auth: &AuthFiles,
    context: &Context,
) -> Result<Repository, Failure> {
    // What is known by its digest must arrive as it is.
    let mut options = HttpOptions { gzip: false, ..context.http.clone() };
    if !verify_tls {
        options.hosts.push(HostTls { verify: false, ..HostTls::new(&remote.registry) });
    }
    let http = Http::new(&options)?;
    let registry = Registry::connect(&http, &remote.registry, verify_tls, auth).await?;
    Ok(registry.repository(&remote.repository, write))
}

/// Where a copy goes.
pub(super) struct Place {
    target: Target,
    /// A registry's tag; places on the disk name what they have got when they are finished.
    name: Option<String>,
    local: Option<image::Place>,
    /// Stands for a place that is not there, in a dry run.
    _passing: Option<tempfile::TempDir>,
}

impl Place {
    async fn open(
        reference: &ImageRef,
        verify_tls: bool,
        auth: &AuthFiles,
        dry_run: bool,
        context: &Context,
    ) -> Result<Self, Failure> {
        let ImageRef::Docker(remote) = reference else { return Place::local(reference, dry_run) };
        if let RemoteTarget::Digest(_) = remote.target {
            return Err(Failure::usage(format!("{reference}: an image is copied to a tag, not to a digest")));
        }
        let target = Target::Repository(repository(remote, verify_tls, true, auth, context).await?);
        Ok(Place { target, name: Some(remote.target().to_owned()), local: None, _passing: None })
    }

    /// A place that is no registry. Nothing is made there for a dry run.
    pub(super) fn local(reference: &ImageRef, dry_run: bool) -> Result<Self, Failure> {
        if dry_run && reference.path().is_some_and(|path| !path.exists()) {
            let passing = tempfile::tempdir()?;
            let layout = Layout::create(&passing.path().join("layout"))?;
            return Ok(Place { target: Target::Layout(layout), name: None, local: None, _passing: Some(passing) });
        }
        let place = image::Place::open(reference)?;
        let target = Target::Layout(place.layout().clone());
        Ok(Place { target, name: None, local: Some(place), _passing: None })
    }

    /// The layout in which a place is filled that is no registry.
    pub(super) fn layout(&self) -> Option<Layout> {
        match &self.target {
            Target::Layout(layout) => Some(layout.clone()),
            Target::Repository(_) => None,
        }
    }

    /// Makes images appear that were listed in the layout under these names.
    pub(super) fn finish_all<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Result<(), Failure> {
        let Some(mut place) = self.local else { return Ok(()) };
        for name in names {
            let image = place.layout().find(Some(name))?;
            place.add(&image, &[name.to_owned()])?;
        }
        Ok(place.finish(0)?)
    }

    /// Lists the image under its names and makes it appear; returns the digest that it has there.
    fn finish(self, image: &Descriptor, report: &CopyReport) -> Result<Digest, Failure> {
        let Some(mut place) = self.local else { return Ok(report.digest.clone()) };
        let path = place.layout().blob_path(&report.digest);
        let size = std::fs::metadata(&path).at("read", &path)?.len();
        let copied = layout::descriptor(image.media_type().clone(), &report.digest, size);
        let names = place.names(&[]);
        let added = place.add(&copied, &names)?;
        place.finish(0)?;
        Ok(layout::digest_of(&added)?)
    }
}

impl Copied {
    fn to_text(&self) -> String {
        let CopyReport { digest, sent_blobs, sent_bytes, mounted_blobs, present_blobs, referrers, .. } = &self.report;
        let sent = amount(*sent_bytes, Unit::Bytes);
        let verb = if self.dry_run { "would be sent" } else { "sent" };
        let mut text = format!("{}@{digest}\n  {sent_blobs} blobs {verb}: {sent}\n", self.destination);
        for (count, what) in [
            (present_blobs, "blobs were there"),
            (mounted_blobs, "blobs mounted from another repository"),
            (referrers, "signatures, SBOMs or attestations came along"),
        ] {
            if *count > 0 {
                text += &format!("  {count} {what}\n");
            }
        }
        text
    }
}
