//! Manifests and indexes as a registry needs them: what they are, what they need, what they are about.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use oci_spec::image::MediaType;
use serde::Deserialize;

use crate::digest::Digest;
use crate::fs;
use crate::image::manifest;
use crate::image::store::Layout;
use crate::image::store::layout::DOCUMENT_LIMIT;
use crate::serve::bad::Bad;

/// A manifest or an index whose bytes were read and have its digest.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: String,
    /// Manifests of an index.
    pub(super) manifests: Vec<Part>,
    /// Configuration and layers of a manifest; of an index what is no manifest.
    pub(super) blobs: Vec<Part>,
    pub(super) subject: Option<Digest>,
    pub(super) artifact_type: Option<String>,
    /// Kept in memory unless it is large.
    bytes: Option<Bytes>,
    /// When everything that it needs was last seen to be there, in milliseconds of the store's clock.
    pub(super) complete_at: AtomicU64,
}

/// What a document refers to.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: String,
    /// A layer that is not distributed with the image, and may be absent.
    pub(super) is_foreign: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<Vec<RawPart>>,
    config: Option<RawPart>,
    layers: Option<Vec<RawPart>>,
    blobs: Option<Vec<RawPart>>,
    subject: Option<RawPart>,
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPart {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Document {
    /// Parses a document; `described` is the media type that refers to it. The error says what is wrong with it.
    pub(super) fn parse(digest: Digest, bytes: &[u8], described: &str) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
        if raw.schema_version == Some(1) {
            return Err("a manifest of Docker's schema 1, which has no media types and no configuration".to_owned());
        }
        let media_type = raw.media_type.clone().unwrap_or_else(|| described.to_owned());
        // Valid as both, it would be an image to one reader and a list to another (CVE-2021-41190).
        let is_image = raw.config.is_some() || raw.layers.is_some();
        if raw.manifests.is_some() && is_image {
            return Err("it has manifests, as an index has, and a configuration or layers, as an image has".to_owned());
        }
        let typed = MediaType::from(media_type.as_str());
        let is_index = manifest::is_index(&typed);
        if is_index && is_image || raw.manifests.is_some() && manifest::is_manifest(&typed) {
            return Err(format!("its content is not what its media type says: {media_type}"));
        }
        let artifact_type = raw.artifact_type.filter(|kind| !kind.is_empty()).or_else(|| {
            let config = raw.config.as_ref().filter(|_| !is_index)?;
            Some(config.media_type.clone()).filter(|kind| !kind.is_empty())
        });
        let (manifests, others): (Vec<_>, Vec<_>) =
            raw.manifests.unwrap_or_default().into_iter().partition(|part| is_document(&part.media_type));
        let of_image =
            raw.config.into_iter().chain(raw.layers.unwrap_or_default()).chain(raw.blobs.unwrap_or_default());
        Ok(Document {
            digest,
            size: bytes.len() as u64,
            media_type,
            manifests: manifests.into_iter().map(Part::from).collect(),
            blobs: others.into_iter().chain(of_image).map(Part::from).collect(),
            subject: raw.subject.map(|subject| subject.digest),
            artifact_type,
            bytes: (bytes.len() <= KEPT).then(|| Bytes::copy_from_slice(bytes)),
            complete_at: AtomicU64::new(0),
        })
    }

    /// Reads a document from the first layout that has it undamaged.
    pub(super) fn load(layouts: &[&Layout], digest: &Digest, described: &str) -> Result<Self, Bad> {
        let bytes = read(layouts, digest)?;
        Document::parse(digest.clone(), &bytes, described).map_err(Bad::lasting)
    }

    /// Its bytes, when they are in memory.
    pub(super) fn kept(&self) -> Option<&Bytes> {
        self.bytes.as_ref()
    }

    /// Its bytes.
    pub(super) fn bytes(&self, layouts: &[&Layout]) -> Result<Bytes, Bad> {
        match &self.bytes {
            Some(bytes) => Ok(bytes.clone()),
            None => read(layouts, &self.digest).map(Bytes::from),
        }
    }

    /// Whether this was asked lately, after anything was found to be damaged, and the answer was yes.
    pub(super) fn was_complete(&self, now: u64, damaged: u64) -> bool {
        let at = self.complete_at.load(Ordering::Relaxed);
        at > damaged && now.saturating_sub(at) < COMPLETE_FOR
    }
}

/// The annotations of a document.
pub(super) fn annotations(bytes: &[u8]) -> BTreeMap<String, String> {
    serde_json::from_slice::<Annotated>(bytes).ok().and_then(|it| it.annotations).unwrap_or_default()
}

/// Whether a media type is that of a manifest or an index.
pub(super) fn is_document(media_type: &str) -> bool {
    let typed = MediaType::from(media_type);
    manifest::is_index(&typed) || manifest::is_manifest(&typed)
}

fn read(layouts: &[&Layout], digest: &Digest) -> Result<Vec<u8>, Bad> {
    let mut bad = Bad::lasting("not there");
    for layout in layouts {
        let path = layout.blob_path(digest);
        match fs::read_regular(&path, DOCUMENT_LIMIT) {
            Ok(bytes) => {
                let mut hasher = crate::digest::Hasher::new(digest.algorithm());
                hasher.update(&bytes);
                if hasher.finish() == *digest {
                    return Ok(bytes);
                }
                bad = Bad::lasting("damaged: its bytes have another digest");
            }
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => bad = Bad::unreadable(&error.source),
        }
    }
    Err(bad)
}

impl From<RawPart> for Part {
    fn from(raw: RawPart) -> Self {
        let is_foreign = raw.urls.is_some_and(|urls| !urls.is_empty()) || manifest::is_foreign(&raw.media_type);
        Part { digest: raw.digest, size: raw.size, media_type: raw.media_type, is_foreign }
    }
}

/// Documents above this are read again each time: nearly all are smaller, and a few of 4 MiB must not fill the memory.
const KEPT: usize = 32 << 10;
/// Milliseconds for which an image that was complete is taken to be so.
const COMPLETE_FOR: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_two_things_at_once_or_not_what_it_says_is_refused() {
        let (image, index) = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json");
        for (text, described, refused) in [
            (r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#, image, "as an index has"),
            (r#"{"schemaVersion":2,"layers":[]}"#, index, "not what its media type says"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, image, "not what its media type says"),
            (r#"{"schemaVersion":1,"layers":null}"#, image, "schema 1"),
            (r#"{"schemaVersion":2,"layers":[{"digest":"sha256:00","size":1}]}"#, image, "hexadecimal digits"),
            ("{", image, "not a manifest"),
        ] {
            let error = Document::parse(Digest::sha256(text), text.as_bytes(), described).unwrap_err();
            assert!(error.contains(refused), "{text}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(Document::parse(Digest::sha256(&deep), deep.as_bytes(), image).is_err());
    }
}
