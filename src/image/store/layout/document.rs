//! Documents: manifests, indexes and configurations, and the descriptors that lead to them.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex, ImageIndexBuilder, MediaType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::{self, Digest};
use crate::image::manifest;
use crate::image::store::layout::Error;
use crate::image::store::referrers::subject_of_tag;
use crate::limits;
use crate::plural;

/// Why a document could not be read; the caller knows the file.
pub(crate) enum ReadError {
    Io(io::Error),
    Other(Error),
}

/// Reads all of a described document, which may not be larger than documents are.
pub(crate) fn read_document(reader: impl Read, described: &Descriptor) -> Result<Vec<u8>, ReadError> {
    if described.size() > DOCUMENT_LIMIT {
        let (name, size) = (described.digest().to_string(), described.size());
        return Err(ReadError::Other(Error::TooLarge { name, size, limit: DOCUMENT_LIMIT }));
    }
    let mut bytes = Vec::new();
    let mut reader = reader;
    reader.read_to_end(&mut bytes).map_err(ReadError::Io)?;
    Ok(bytes)
}

/// Parses a document; `name` is for the error.
pub fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Document { name: name.to_owned(), source })
}

/// The one way a value is written as JSON: keys sorted, no spaces. Digests of documents depend on it.
pub fn canonical(value: &impl Serialize) -> Vec<u8> {
    // `Value` keeps its objects in a BTreeMap, while the maps of the spec's types have no order.
    let value = serde_json::to_value(value).expect("documents have string keys and finite numbers");
    serde_json::to_vec(&value).expect("a value can always be written")
}

/// A plain descriptor.
pub fn descriptor(media_type: MediaType, digest: &Digest, size: u64) -> Descriptor {
    let digest: oci_spec::image::Digest = digest.as_str().parse().expect("ours are a subset of theirs");
    Descriptor::new(media_type, size, digest)
}

/// The digest of a descriptor, refused where it is not as the specification has it.
pub fn digest_of(described: &Descriptor) -> Result<Digest, digest::Error> {
    described.digest().to_string().parse()
}

/// The name of an image in the index of a layout.
pub fn ref_name(described: &Descriptor) -> Option<&str> {
    described.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

/// What `cosign save` says an entry is: `image`, `imageIndex`, `sigs`, `atts`. hauler says it in the same words, or its own.
pub(crate) fn kind_of(described: &Descriptor) -> Option<&str> {
    let kind = described.annotations().as_ref()?.get(KIND)?;
    ["dev.cosignproject.cosign/", "dev.hauler/"].iter().find_map(|prefix| kind.strip_prefix(prefix))
}

/// Whether an index says that an entry is an artifact. go-containerregistry says of images that they are of the type of their
/// configuration.
pub(crate) fn is_artifact(described: &Descriptor) -> bool {
    described.artifact_type().as_ref().is_some_and(|artifact| !manifest::is_config(artifact))
}

/// Whether an entry is there for another's sake, by what the index says of it.
fn is_beside(described: &Descriptor) -> bool {
    let about = ref_name(described).and_then(subject_of_tag);
    about.is_some() || matches!(kind_of(described), Some("sigs" | "atts" | "sboms"))
}

/// Whether an entry of an index is there for another's sake, as [`Entries`] has it.
pub(crate) fn is_referrer(entry: &Descriptor) -> bool {
    is_beside(entry) || ref_name(entry).is_none() && is_artifact(entry)
}

/// How many entries of an index are images, and how many are there for another's sake: signatures, SBOMs, attestations. What else
/// has no name and is an artifact is one of those, too. It is what every command counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Images, and artifacts with names.
    pub images: usize,
    /// What refers to them.
    pub referrers: usize,
}

impl Entries {
    /// Counts the entries of an index.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Descriptor>) -> Self {
        entries.into_iter().fold(Entries::default(), |mut counted, entry| {
            *if is_referrer(entry) { &mut counted.referrers } else { &mut counted.images } += 1;
            counted
        })
    }
}

impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plural::count(self.images, "image"))?;
        match self.referrers {
            0 => Ok(()),
            more => write!(f, " and {}", plural::count(more, "referrer")),
        }
    }
}

/// The descriptor with that name in it.
pub(crate) fn named(image: &Descriptor, name: &str) -> Descriptor {
    with_name(image, Some(name))
}

pub(super) fn with_name(image: &Descriptor, name: Option<&str>) -> Descriptor {
    let mut image = image.clone();
    let mut annotations = image.annotations().clone().unwrap_or_default();
    annotations.remove(REF_NAME);
    annotations.extend(name.map(|name| (REF_NAME.to_owned(), name.to_owned())));
    image.set_annotations((!annotations.is_empty()).then_some(annotations));
    image
}

/// Finds an image in the index of a layout or archive, for `path` see the errors.
pub(crate) fn find(path: &Path, index: &ImageIndex, name: Option<&str>) -> Result<Descriptor, Error> {
    let sorted = |there: Vec<&Descriptor>| {
        let call = |it: &Descriptor| ref_name(it).map_or_else(|| it.digest().to_string(), str::to_owned);
        let mut names: Vec<String> = there.into_iter().map(call).collect();
        names.sort();
        names
    };
    match (name, &index.manifests()[..]) {
        (None, manifests) => {
            // What has no name beside one that has is there because something refers to it, or refers to that; so is an
            // artifact beside an image.
            let only = |fits: fn(&&Descriptor) -> bool| {
                Some(manifests.iter().filter(fits).collect::<Vec<_>>()).filter(|found| !found.is_empty())
            };
            let candidates = only(|there| ref_name(there).is_some() && !is_beside(there))
                .or_else(|| only(|there| !is_artifact(there) && !is_beside(there)))
                .or_else(|| only(|there| !is_artifact(there)))
                .unwrap_or_else(|| manifests.iter().collect());
            match &candidates[..] {
                [first, others @ ..] if others.iter().all(|other| other.digest() == first.digest()) => {
                    Ok((*first).clone())
                }
                _ => Err(Error::Ambiguous { path: path.to_owned(), known: sorted(candidates) }),
            }
        }
        (Some(name), manifests) => {
            let called = || manifests.iter().filter(|there| ref_name(there) == Some(name));
            // `cosign save` gives an image's name to its signatures.
            let images = || called().filter(|there| kind_of(there).is_none() || !is_beside(there));
            let named = images().next().or_else(|| called().next());
            let mut digests: Vec<String> = images().map(|there| there.digest().to_string()).collect();
            digests.sort();
            digests.dedup();
            if digests.len() > 1 {
                return Err(Error::SameName { path: path.to_owned(), name: name.to_owned(), digests });
            }
            // As in containers/image, `@2` is the third one listed; `@` may also stand before a digest.
            let behind = name.strip_prefix('@');
            let by_number = || manifests.get(behind?.parse::<usize>().ok()?);
            let digest = behind.unwrap_or(name);
            let by_digest = || manifests.iter().find(|there| there.digest().as_ref() == digest);
            named.or_else(by_number).or_else(by_digest).cloned().ok_or_else(|| Error::NotFound {
                path: path.to_owned(),
                name: name.to_owned(),
                known: sorted(manifests.iter().collect()),
            })
        }
    }
}

/// An index document with these images.
pub(crate) fn index_of(manifests: Vec<Descriptor>) -> ImageIndex {
    ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .expect("version and manifests are set")
}

/// The annotation that names an image in a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which `cosign save` tells images from signatures.
pub const KIND: &str = "kind";
/// Manifests, indexes and configurations above 4 MiB are refused, as by registries and containers/image.
pub const DOCUMENT_LIMIT: u64 = limits::DOCUMENT;
/// `index.json` itself may be larger: at about 300 bytes for a name, this is 200,000 of them.
pub(super) const INDEX_LIMIT: u64 = 64 << 20;
