//! Where built images go.

use std::path::Path;
use std::sync::Arc;

use oci_spec::image::Descriptor;
use tempfile::TempDir;

use crate::digest::Digest;
use crate::fs::AtomicDir;
use crate::image::build::fingerprint::FINGERPRINT;
use crate::image::build::sbom;
use crate::image::store::{layout, place};
use crate::image::{Definition, Layout, Place, Store};
use crate::ops::make::MakeOptions;
use crate::ops::{Error, Scratch, block_on};
use crate::progress::Progress;
use crate::reference::{ImageRef, Remote, Target as RemoteTarget};
use crate::registry::{self, CopyOptions, LeftOut, Source, Target, copy, existing};

/// Everywhere that images go.
pub(crate) struct Outputs<'a> {
    stored: Option<ImageRef>,
    pushes: Vec<Push<'a>>,
}

/// An image that outputs were given.
pub(crate) struct Given {
    /// Where it is.
    pub(crate) output: Vec<ImageRef>,
    /// The manifest that has its SBOM.
    pub(crate) sbom: Option<Digest>,
    /// What an output has no place for.
    pub(crate) left_out: Vec<LeftOut>,
}

/// Where a run builds.
pub(crate) struct Workplace {
    pub(crate) place: Option<Place>,
    /// What is prepared for images, which may be large: it lies where they will, and goes away before the place is left.
    pub(crate) beside: AtomicDir,
    /// Holds the images that are only pushed.
    pub(crate) passing: Option<TempDir>,
}

impl<'a> Outputs<'a> {
    /// What the arguments name, for so many images.
    pub(crate) fn new(options: &'a MakeOptions, images: usize, progress: &'a Progress) -> Result<Self, Error> {
        let mut outputs = Outputs { stored: None, pushes: Vec::new() };
        match &options.output {
            Some(ImageRef::Docker(remote)) => outputs.pushes.push(Push::new(remote, options, progress)?),
            stored => outputs.stored = stored.clone(),
        }
        match &options.push {
            Some(ImageRef::Docker(remote)) => outputs.pushes.push(Push::new(remote, options, progress)?),
            Some(other) => return Err(Error::PushTo(other.clone())),
            None => {}
        }
        let named = outputs.stored.as_ref().is_some_and(|output| output.name().is_some());
        match &outputs.stored {
            _ if images <= 1 => Ok(outputs),
            Some(_) if named => Err(Error::SameName(images)),
            Some(ImageRef::Dir { .. }) => Err(Error::OneInDir),
            _ if !outputs.pushes.is_empty() => Err(Error::SameRepository),
            _ => Ok(outputs),
        }
    }

    /// Where images are built; with `explain` nowhere.
    pub(crate) fn workplace(&self, explain: bool, scratch: &Scratch) -> Result<Workplace, Error> {
        let reference = match (&self.stored, explain) {
            (Some(stored), false) => {
                let place = Place::open(stored)?;
                return Ok(Workplace { beside: place.scratch()?, place: Some(place), passing: None });
            }
            (None, false) => Some(|path| ImageRef::Oci { path, name: None }),
            (_, true) => None,
        };
        let passing = scratch.directory("haversack-build.")?;
        let place = reference.map(|to| Place::open(&to(passing.path().join("layout")))).transpose()?;
        let beside = AtomicDir::create(&passing.path().join("scratch"))?;
        Ok(Workplace { beside, place, passing: Some(passing) })
    }

    /// Where an image of that fingerprint is, if it is everywhere it would go.
    pub(crate) fn hold(&self, definition: &Definition, fingerprint: &Digest) -> Result<Option<Vec<ImageRef>>, Error> {
        let mut all = Vec::new();
        if let Some(output) = &self.stored {
            let Some(there) = stored(output, definition, FINGERPRINT, fingerprint)? else { return Ok(None) };
            all.extend(there);
        }
        for push in &self.pushes {
            let Some(there) = push.holds(definition, fingerprint)? else { return Ok(None) };
            all.extend(there);
        }
        Ok(Some(all))
    }

    /// Names an image that was built, attaches its SBOM, and pushes it.
    pub(crate) fn give(
        &self,
        place: &mut Place,
        image: &Descriptor,
        definition: &Definition,
        sbom: Option<&[u8]>,
    ) -> Result<Given, Error> {
        let mut given = self.name(place, image, definition, sbom)?;
        given.output.extend(self.push(place.layout(), image, definition)?);
        Ok(given)
    }

    /// Names an image that was built, and attaches its SBOM, where there is a place for it.
    pub(crate) fn name(
        &self,
        place: &mut Place,
        image: &Descriptor,
        definition: &Definition,
        sbom: Option<&[u8]>,
    ) -> Result<Given, Error> {
        let names = place.names(&own_names(definition));
        let listed = place.add(image, &names)?;
        let mut left_out = Vec::new();
        if sbom.is_some() && !place.takes_referrers() {
            let because = registry::Error::NoPlaceForReferrers.to_string();
            left_out.push(LeftOut { what: "SBOM".to_owned(), because });
        }
        // Registries get it from the layout.
        let sbom = sbom.filter(|_| left_out.is_empty() || !self.pushes.is_empty());
        let sbom = sbom.map(|document| sbom::attach(place.layout(), &listed, document)).transpose()?;
        let sbom = sbom.map(|described| layout::digest_of(&described)).transpose()?;
        let output = self.stored.as_ref().map(|output| references(output, names)).unwrap_or_default();
        Ok(Given { output, sbom, left_out })
    }

    /// Pushes an image that was built to all registries.
    pub(crate) fn push(
        &self,
        layout: &Layout,
        image: &Descriptor,
        definition: &Definition,
    ) -> Result<Vec<ImageRef>, Error> {
        let sent = self.pushes.iter().map(|push| push.send(image, definition, layout));
        Ok(sent.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Whether an output names the image, so that it can be only one.
    pub(crate) fn has_name(&self) -> bool {
        let is_named = |output: &ImageRef| output.name().is_some() || matches!(output, ImageRef::Dir { .. });
        let is_tagged = |push: &Push<'_>| matches!(push.remote.target, RemoteTarget::Tag(_));
        self.stored.as_ref().is_some_and(is_named) || self.pushes.iter().any(is_tagged)
    }

    /// For each definition: where it is, if all outputs have it with an annotation of that value. Asked for many at once.
    pub(crate) fn hold_all(
        &self,
        wanted: &[(Definition, Digest)],
        annotation: &str,
    ) -> Result<Vec<Option<Vec<ImageRef>>>, Error> {
        let mut places: Vec<Option<Vec<ImageRef>>> = vec![Some(Vec::new()); wanted.len()];
        let mut also = |more: Vec<Option<Vec<ImageRef>>>| {
            for (place, more) in places.iter_mut().zip(more) {
                *place = place.take().zip(more).map(|(place, more)| [place, more].concat());
            }
        };
        if let Some(output) = &self.stored {
            let stored = wanted.iter().map(|(definition, value)| stored(output, definition, annotation, value));
            also(stored.collect::<Result<_, _>>()?);
        }
        for push in &self.pushes {
            also(push.hold_all(wanted, annotation)?);
        }
        Ok(places)
    }
}

/// A registry that images are pushed to.
struct Push<'a> {
    remote: Remote,
    options: &'a MakeOptions,
    progress: &'a Progress,
}

impl<'a> Push<'a> {
    fn new(remote: &Remote, options: &'a MakeOptions, progress: &'a Progress) -> Result<Self, Error> {
        match remote.target.digest() {
            Some(_) => Err(Error::PushTo(ImageRef::Docker(remote.clone()))),
            None => Ok(Push { remote: remote.clone(), options, progress }),
        }
    }

    /// Sends an image under the tag that was named, or all of the definition's; returns where it is then.
    fn send(&self, image: &Descriptor, definition: &Definition, layout: &Layout) -> Result<Vec<ImageRef>, Error> {
        let Push { remote, options, progress } = self;
        block_on(async {
            let repository = options.destination.repository(remote, true).await?;
            let source = Source::Store(Arc::new(Store::Layout(layout.clone())));
            let sending = CopyOptions { retry: options.destination.http.retry, ..CopyOptions::default() };
            let mut pushed = Vec::new();
            for tag in self.tags(definition) {
                let target = Target::Repository(repository.clone());
                copy(&source, image, &target, Some(&tag), &sending, progress).await?;
                pushed.push(ImageRef::Docker(remote.with(RemoteTarget::Tag(tag))));
            }
            Ok(pushed)
        })
    }

    /// Where the image is, if all its tags have been made of what the fingerprint says.
    fn holds(&self, definition: &Definition, fingerprint: &Digest) -> Result<Option<Vec<ImageRef>>, Error> {
        let Push { remote, options, .. } = self;
        let tags = self.tags(definition);
        let answers = block_on::<_, Error>(async {
            let repository = options.destination.repository(remote, false).await?;
            Ok(existing(&repository, &tags, PARALLEL).await)
        })?;
        for answer in answers {
            if answer?.and_then(|there| there.fingerprint).as_deref() != Some(fingerprint.as_str()) {
                return Ok(None);
            }
        }
        Ok(Some(tags.into_iter().map(|tag| ImageRef::Docker(remote.with(RemoteTarget::Tag(tag)))).collect()))
    }

    fn hold_all(&self, wanted: &[(Definition, Digest)], annotation: &str) -> Result<Vec<Option<Vec<ImageRef>>>, Error> {
        let Push { remote, options, .. } = self;
        let tags: Vec<Vec<String>> = wanted.iter().map(|(definition, _)| self.tags(definition)).collect();
        let answers = block_on::<_, Error>(async {
            let repository = options.destination.repository(remote, false).await?;
            Ok(existing(&repository, &tags.concat(), PARALLEL).await)
        })?;
        let mut answers = answers.into_iter();
        let mut places = Vec::new();
        for (tags, (_, expected)) in tags.into_iter().zip(wanted) {
            let mut is_there = !tags.is_empty();
            for _ in &tags {
                let there = answers.next().expect("there is an answer for each tag")?;
                let value = there.as_ref().and_then(|there| there.annotations.get(annotation));
                is_there &= value.map(String::as_str) == Some(expected.as_str());
            }
            let place = |tag| ImageRef::Docker(remote.with(RemoteTarget::Tag(tag)));
            places.push(is_there.then(|| tags.into_iter().map(place).collect()));
        }
        Ok(places)
    }

    fn tags(&self, definition: &Definition) -> Vec<String> {
        match &self.remote.target {
            RemoteTarget::Tag(tag) => vec![tag.clone()],
            _ => definition.tags.clone(),
        }
    }
}

/// Where the image is in a layout or archive, if under all its names there it has an annotation of that value.
fn stored(
    output: &ImageRef,
    definition: &Definition,
    annotation: &str,
    value: &Digest,
) -> Result<Option<Vec<ImageRef>>, Error> {
    if !output.path().is_some_and(Path::exists) {
        return Ok(None);
    }
    let store = Store::open(output)?;
    let names = match output {
        ImageRef::Dir { .. } => Vec::new(),
        _ => place::names(output, &own_names(definition)),
    };
    // A directory has one image and no names.
    let wanted = if names.is_empty() { vec![None] } else { names.iter().map(|name| Some(name.as_str())).collect() };
    for name in wanted {
        let image = match store.find(name) {
            Ok(image) => image,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let document: serde_json::Value = layout::parse(image.digest().as_ref(), &store.read_document(&image)?)?;
        if document["annotations"][annotation].as_str() != Some(value.as_str()) {
            return Ok(None);
        }
    }
    Ok(Some(references(output, names)))
}

/// What an image is called where the output names nothing.
fn own_names(definition: &Definition) -> Vec<String> {
    definition.tags.iter().map(|tag| format!("{}:{tag}", definition.name)).collect()
}

/// The place under each of the names that an image has there.
fn references(output: &ImageRef, names: Vec<String>) -> Vec<ImageRef> {
    if names.is_empty() {
        return vec![output.clone()];
    }
    names.into_iter().map(|name| output.with_name(name)).collect()
}

/// Tags asked for at one time.
const PARALLEL: usize = 16;
