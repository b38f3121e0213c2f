//! Where built images go.

use std::path::Path;
use std::sync::Arc;

use oci_spec::image::Descriptor;

use super::BuildArgs;
use crate::cli::copy::repository;
use crate::cli::outcome::Failure;
use crate::cli::{Context, block_on};
use crate::digest::Digest;
use crate::image::fingerprint::FINGERPRINT;
use crate::image::{Definition, Layout, Store, archive, layout};
use crate::reference::{ImageRef, Remote, Target as RemoteTarget};
use crate::registry::{CopyOptions, Source, Target, copy, existing};

/// A registry that images are pushed to.
pub(super) struct Push<'a> {
    remote: Remote,
    args: &'a BuildArgs,
    context: &'a Context,
}

impl<'a> Push<'a> {
    pub(super) fn new(reference: &ImageRef, args: &'a BuildArgs, context: &'a Context) -> Result<Self, Failure> {
        match reference {
            ImageRef::Docker(remote) if !matches!(remote.target, RemoteTarget::Digest(_)) => {
                Ok(Push { remote: remote.clone(), args, context })
            }
            other => Err(Failure::usage(format!("{other}: images are pushed to docker://HOST/REPOSITORY[:TAG]"))),
        }
    }

    /// Sends an image under the tag that was named, or all of the definition's; returns where it is then.
    pub(super) fn send(
        &self,
        image: &Descriptor,
        definition: &Definition,
        layout: &Layout,
    ) -> Result<Vec<ImageRef>, Failure> {
        let Push { remote, args, context } = self;
        block_on(async {
            let auth = args.registries.auth(context);
            let repository = repository(remote, args.registries.dest_tls_verify, true, &auth, context).await?;
            let source = Source::Store(Arc::new(Store::Layout(layout.clone())));
            let options = CopyOptions { referrers: false, retry: context.http.retry, ..CopyOptions::default() };
            let mut pushed = Vec::new();
            for tag in self.tags(definition) {
                let target = Target::Repository(repository.clone());
                copy(&source, image, &target, Some(&tag), &options, context.ui.progress()).await?;
                pushed.push(ImageRef::Docker(remote.with(RemoteTarget::Tag(tag))));
            }
            Ok(pushed)
        })
    }

    /// Where the image is, if all its tags have been made of what the fingerprint says.
    pub(super) fn holds(
        &self,
        definition: &Definition,
        fingerprint: &Digest,
    ) -> Result<Option<Vec<ImageRef>>, Failure> {
        let Push { remote, args, context } = self;
        let tags = self.tags(definition);
        let answers = block_on(async {
            let auth = args.registries.auth(context);
            let repository = repository(remote, args.registries.dest_tls_verify, false, &auth, context).await?;
            Ok(existing(&repository, &tags, PARALLEL).await)
        })?;
        for answer in answers {
            if answer?.and_then(|there| there.fingerprint).as_deref() != Some(fingerprint.as_str()) {
                return Ok(None);
            }
        }
        Ok(Some(tags.into_iter().map(|tag| ImageRef::Docker(remote.with(RemoteTarget::Tag(tag)))).collect()))
    }

    fn tags(&self, definition: &Definition) -> Vec<String> {
        match &self.remote.target {
            RemoteTarget::Tag(tag) => vec![tag.clone()],
            _ => definition.tags.clone(),
        }
    }
}

/// Where the image is in a layout or archive, if all its names there have been made of what the fingerprint says.
pub(super) fn stored(
    output: &ImageRef,
    definition: &Definition,
    fingerprint: &Digest,
) -> Result<Option<Vec<ImageRef>>, Failure> {
    if !output.path().is_some_and(Path::exists) {
        return Ok(None);
    }
    let store = Store::open(output)?;
    let names = names(output, definition);
    for name in &names {
        let image = match store.find(Some(name)) {
            Ok(image) => image,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let document: serde_json::Value = layout::parse(image.digest().as_ref(), &store.read_document(&image)?)?;
        if document["annotations"][FINGERPRINT].as_str() != Some(fingerprint.as_str()) {
            return Ok(None);
        }
    }
    Ok(Some(names.into_iter().map(|name| output.with_name(name)).collect()))
}

fn names(output: &ImageRef, definition: &Definition) -> Vec<String> {
    match output.name() {
        Some(name) => vec![name.to_owned()],
        None => definition.tags.iter().map(|tag| format!("{}:{tag}", definition.name)).collect(),
    }
}

/// Where images are built, and what happens at the end.
pub(super) struct Work {
    pub(super) layout: Layout,
    output: ImageRef,
    /// The images by name, and the youngest image's time.
    images: Vec<Descriptor>,
    created: i64,
    /// An archive is built in a layout beside it, which goes away.
    temporary: Option<tempfile::TempDir>,
}

impl Work {
    pub(super) fn start(output: &ImageRef) -> Result<Self, Failure> {
        let (layout, temporary) = match output {
            ImageRef::Oci { path, .. } => (Layout::create(path)?, None),
            ImageRef::OciArchive { path, .. } => {
                let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let temporary = tempfile::Builder::new().prefix(".haversack-build.").tempdir_in(beside)?;
                (Layout::create(&temporary.path().join("layout"))?, Some(temporary))
            }
            other => {
                return Err(Failure::usage(format!("{other}: images are built into oci: or oci-archive:"))
                    .hint("build into oci:DIR and `haversack copy` from there"));
            }
        };
        Ok(Work { layout, output: output.clone(), images: Vec::new(), created: 0, temporary })
    }

    /// Gives the image its names; returns where it can be found under them.
    pub(super) fn name(
        &mut self,
        image: &Descriptor,
        definition: &Definition,
        created: i64,
    ) -> Result<Vec<ImageRef>, Failure> {
        let names = names(&self.output, definition);
        self.created = self.created.max(created);
        for name in &names {
            self.layout.tag(image, Some(name))?;
            self.images.push(self.layout.find(Some(name))?);
        }
        Ok(names.into_iter().map(|name| self.output.with_name(name)).collect())
    }

    pub(super) fn finish(self) -> Result<(), Failure> {
        if let (ImageRef::OciArchive { path, .. }, false) = (&self.output, self.images.is_empty()) {
            archive::write(&self.layout, &self.images, path, self.created)?;
        }
        drop(self.temporary);
        Ok(())
    }
}

/// Tags asked for at one time.
const PARALLEL: usize = 16;
