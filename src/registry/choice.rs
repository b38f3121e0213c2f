//! Which platforms of an index are copied.
//!
//! Only what is wanted is read, so that an index whose other images are elsewhere will do. Indexes in an index are narrowed
//! likewise. An entry without a platform is for the platform that its configuration names. buildx's attestations go where
//! the images go that they are about (`vnd.docker.reference.digest`).

use std::collections::{BTreeSet, HashMap};

use oci_spec::image::{Descriptor, ImageIndex};

use crate::digest::Digest;
use crate::image::Platform;
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout;
use crate::limits;
use crate::registry::client::Error;
use crate::registry::copy::{CopyOptions, Parts};
use crate::registry::ends::Source;

/// A choice of platforms, and which of them were there.
pub(super) struct Choice<'a> {
    source: &'a Source,
    options: &'a CopyOptions,
    found: BTreeSet<&'a Platform>,
    /// All that were offered, for somebody who asked for others.
    there: BTreeSet<Platform>,
    /// What became of the indexes that were looked into, by their digests: nothing where nothing in them is wanted.
    narrowed: HashMap<String, Option<Descriptor>>,
    /// What manifests that are listed without a platform are for, by their digests.
    offered: HashMap<String, Offered>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(source: &'a Source, options: &'a CopyOptions) -> Self {
        Choice {
            source,
            options,
            found: BTreeSet::new(),
            there: BTreeSet::new(),
            narrowed: HashMap::new(),
            offered: HashMap::new(),
        }
    }

    /// Gathers what is wanted of an image. The result is the image itself, or the index with less in it.
    ///
    /// Each platform that was asked for must be there. An artifact is for every platform.
    pub(super) async fn apply(mut self, image: &Descriptor, parts: &mut Parts) -> Result<Descriptor, Error> {
        let narrowed = if manifest::is_index(image.media_type()) {
            self.narrow(image, parts, 0).await?
        } else {
            self.source.gather(image, parts, 0).await?;
            match self.offered(image).await? {
                Offered::Artifact => return Ok(image.clone()),
                Offered::Image(platform) => self.wants(&platform).then(|| image.clone()),
            }
        };
        let missing = self.options.platforms.iter().filter(|platform| !self.found.contains(platform));
        let missing: Vec<String> = missing.map(Platform::to_string).collect();
        narrowed.filter(|_| missing.is_empty()).ok_or_else(|| {
            let there: Vec<String> = self.there.iter().map(Platform::to_string).collect();
            Error::NoPlatform { asked: missing.join(", "), there: there.join(", ") }
        })
    }

    async fn narrow(
        &mut self,
        described: &Descriptor,
        parts: &mut Parts,
        depth: usize,
    ) -> Result<Option<Descriptor>, Error> {
        if depth > limits::INDEX_LEVELS {
            return Err(layout::Error::TooDeep(described.digest().to_string()).into());
        }
        let bytes = self.source.document(described).await?;
        let mut index: ImageIndex = layout::parse(described.digest().as_ref(), &bytes)?;
        // In the order of the index; what an attestation is about may stand behind it.
        let mut kept: Vec<Option<Descriptor>> = Vec::new();
        for child in index.manifests() {
            kept.push(if attested(child).is_some() { None } else { self.keep(child, parts, depth).await? });
        }
        if self.options.referrers {
            let images: BTreeSet<String> = kept.iter().flatten().map(|image| image.digest().to_string()).collect();
            for (child, kept) in index.manifests().iter().zip(&mut kept) {
                if attested(child).is_some_and(|subject| images.contains(subject)) {
                    self.source.gather(child, parts, depth + 1).await?;
                    *kept = Some(child.clone());
                }
            }
        }
        let kept: Vec<Descriptor> = kept.into_iter().flatten().collect();
        if kept.is_empty() {
            return Ok(None);
        }
        let (mut top, mut bytes) = (described.clone(), bytes);
        if kept != *index.manifests() {
            index.set_manifests(kept);
            bytes = layout::canonical(&index);
            let plain = layout::descriptor(top.media_type().clone(), &Digest::sha256(&bytes), bytes.len() as u64);
            top.set_digest(plain.digest().clone());
            top.set_size(plain.size());
        }
        parts.documents.push((top.clone(), bytes));
        Ok(Some(top))
    }

    /// Narrows an index in an index, or takes what came of it before: one that is listed a thousand times by one that is listed a
    /// thousand times is read once.
    async fn narrow_once(
        &mut self,
        described: &Descriptor,
        parts: &mut Parts,
        depth: usize,
    ) -> Result<Option<Descriptor>, Error> {
        let name = described.digest().to_string();
        if let Some(known) = self.narrowed.get(&name) {
            return Ok(known.as_ref().map(|known| {
                let mut listed = described.clone();
                listed.set_digest(known.digest().clone());
                listed.set_size(known.size());
                listed
            }));
        }
        let narrowed = Box::pin(self.narrow(described, parts, depth)).await?;
        self.narrowed.insert(name, narrowed.clone());
        Ok(narrowed)
    }

    /// An entry of an index, as it will be listed, when there is something wanted in it.
    async fn keep(&mut self, child: &Descriptor, parts: &mut Parts, depth: usize) -> Result<Option<Descriptor>, Error> {
        let listed = child.platform().as_ref().map(Platform::from);
        if manifest::is_index(child.media_type()) {
            let wanted = listed.is_none_or(|it| self.options.platforms.iter().any(|asked| asked.accepts(&it)));
            return if wanted { self.narrow_once(child, parts, depth + 1).await } else { Ok(None) };
        }
        let offered = match listed {
            Some(platform) => platform,
            None => match self.offered(child).await? {
                Offered::Image(platform) => platform,
                Offered::Artifact => return Ok(None),
            },
        };
        if !self.wants(&offered) {
            return Ok(None);
        }
        self.source.gather(child, parts, depth + 1).await?;
        Ok(Some(child.clone()))
    }

    /// Whether a platform was asked for; those for which it was are noted.
    fn wants(&mut self, offered: &Platform) -> bool {
        let options = self.options;
        self.there.insert(offered.clone());
        let asking: Vec<&Platform> = options.platforms.iter().filter(|asked| asked.accepts(offered)).collect();
        self.found.extend(&asking);
        !asking.is_empty()
    }

    /// The platform in the configuration of a manifest.
    async fn offered(&mut self, described: &Descriptor) -> Result<Offered, Error> {
        let name = described.digest().as_ref();
        if let Some(offered) = self.offered.get(name) {
            return Ok(offered.clone());
        }
        let offered = self.read_offered(described).await?;
        self.offered.insert(name.to_owned(), offered.clone());
        Ok(offered)
    }

    async fn read_offered(&self, described: &Descriptor) -> Result<Offered, Error> {
        let name = described.digest().as_ref();
        let parsed = Manifest::parse(name, &self.source.document(described).await?)?;
        let Some(config) = parsed.config.as_ref().filter(|_| parsed.is_image()) else { return Ok(Offered::Artifact) };
        let config = manifest::configuration(config.digest().as_ref(), &self.source.config(config).await?)?;
        Ok(Offered::Image(Platform {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
        }))
    }
}

#[derive(Clone)]
enum Offered {
    Image(Platform),
    /// Something that is for no platform: a signature, a chart.
    Artifact,
}

/// The image that an entry is an attestation about, as buildx lists it.
fn attested(described: &Descriptor) -> Option<&str> {
    described.annotations().as_ref()?.get("vnd.docker.reference.digest").map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use oci_spec::image::MediaType;

    use super::*;
    use crate::image::store::{Layout, Store};

    /// A layout with the image of each platform, `attested` with what buildx lists beside it.
    fn image(layout: &Layout, platform: &str) -> Descriptor {
        let platform: Platform = platform.parse().unwrap();
        let mut config = serde_json::json!({
            "os": platform.os, "architecture": platform.architecture, "rootfs": { "type": "layers", "diff_ids": [] },
        });
        if let Some(variant) = platform.variant {
            config["variant"] = variant.into();
        }
        let config = layout.write_blob(MediaType::ImageConfig, &layout::canonical(&config)).unwrap();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [],
        });
        layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap()
    }

    fn of(platform: &str, mut image: Descriptor) -> Descriptor {
        image.set_platform(Some(platform.parse::<Platform>().unwrap().to_spec()));
        image
    }

    fn index(layout: &Layout, manifests: Vec<Descriptor>) -> Descriptor {
        layout.write_blob(MediaType::ImageIndex, &layout::canonical(&layout::index_of(manifests))).unwrap()
    }

    fn choose(layout: &Layout, top: &Descriptor, platforms: &[&str], referrers: bool) -> Result<Descriptor, String> {
        let platforms = platforms.iter().map(|platform| platform.parse().unwrap()).collect();
        let options = CopyOptions { platforms, referrers, ..CopyOptions::default() };
        let source = Source::Store(Arc::new(Store::Layout(layout.clone())));
        let mut parts = Parts::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let chosen = runtime.block_on(Choice::new(&source, &options).apply(top, &mut parts));
        // What comes last in the documents is what is tagged.
        let chosen = chosen.map_err(|error| match error {
            Error::NoPlatform { asked, .. } => format!("no image for {asked} in it"),
            error => error.to_string(),
        })?;
        let last = parts.documents.last().unwrap();
        assert_eq!(last.0.digest(), chosen.digest());
        assert_eq!(Digest::sha256(&last.1).as_str(), chosen.digest().as_ref());
        Ok(chosen)
    }

    /// What it is, the image, what is asked of it, and what is copied.
    type Case<'a> = (&'a str, &'a Descriptor, &'a [&'a str], Result<Descriptor, String>);

    #[test]
    fn each_platform_that_was_asked_for_is_there_or_it_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let [amd, arm, s390] = ["linux/amd64", "linux/arm64/v8", "linux/s390x"].map(|it| image(&layout, it));
        let plain = index(&layout, vec![amd.clone(), arm.clone()]);
        let told = vec![of("linux/amd64", amd.clone()), of("linux/arm64", arm.clone())];
        let full = index(&layout, told.clone());
        // The sibling is elsewhere: it was never pulled.
        let gone = layout::descriptor(MediaType::ImageManifest, &Digest::sha256(b"gone"), 4);
        let sparse = index(&layout, vec![told[0].clone(), of("linux/ppc64le", gone)]);
        let nested = index(&layout, vec![full.clone(), of("linux/s390x", s390.clone())]);
        let none = |which: &str| Err(format!("no image for {which} in it"));
        let one = |image: &Descriptor| Ok(index(&layout, vec![image.clone()]));
        let cases: [Case; 13] = [
            ("one image", &amd, &["linux/amd64"], Ok(amd.clone())),
            ("one image, another platform", &amd, &["linux/arm64"], none("linux/arm64")),
            ("one image, two platforms", &amd, &["linux/arm64", "linux/amd64"], none("linux/arm64")),
            ("arm64/v8 is arm64", &arm, &["linux/arm64"], Ok(arm.clone())),
            ("all there are", &full, &["linux/amd64", "linux/arm64"], Ok(full.clone())),
            ("arm64 is arm64/v8", &full, &["linux/arm64/v8"], one(&told[1])),
            ("one of two", &full, &["linux/amd64", "linux/s390x"], none("linux/s390x")),
            ("none", &full, &["linux/s390x"], none("linux/s390x")),
            ("entries without platform", &plain, &["linux/arm64"], one(&arm)),
            ("sparse", &sparse, &["linux/amd64"], one(&told[0])),
            ("nested", &nested, &["linux/arm64"], one(&index(&layout, vec![told[1].clone()]))),
            ("beside nested", &nested, &["linux/s390x"], one(&of("linux/s390x", s390))),
            ("all of nested", &nested, &["linux/amd64", "linux/arm64", "linux/s390x"], Ok(nested.clone())),
        ];
        for (case, top, platforms, expected) in cases {
            assert_eq!(choose(&layout, top, platforms, true), expected, "{case}");
        }
    }

    #[test]
    fn attestations_go_where_their_images_go() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path()).unwrap();
        let [amd, arm] = ["linux/amd64", "linux/arm64"].map(|it| of(it, image(&layout, it)));
        let statement = MediaType::from("application/vnd.in-toto+json");
        let about = |image: &Descriptor| {
            let config = layout.write_blob(MediaType::ImageConfig, image.digest().to_string().as_bytes()).unwrap();
            let layer = layout.write_blob(statement.clone(), image.digest().to_string().as_bytes()).unwrap();
            let manifest = serde_json::json!({
                "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
            });
            let manifest = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
            let mut manifest = of("unknown/unknown", manifest);
            let reference = ("vnd.docker.reference.digest".to_owned(), image.digest().to_string());
            manifest.set_annotations(Some([reference].into()));
            manifest
        };
        let (of_amd, of_arm) = (about(&amd), about(&arm));
        let top = index(&layout, vec![of_amd.clone(), amd.clone(), arm, of_arm]);
        let with = index(&layout, vec![of_amd, amd.clone()]);
        assert_eq!(choose(&layout, &top, &["linux/amd64"], true), Ok(with));
        assert_eq!(choose(&layout, &top, &["linux/amd64"], false), Ok(index(&layout, vec![amd])));
    }
}
