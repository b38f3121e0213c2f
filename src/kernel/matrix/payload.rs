//! What an OpenShift release consists of: `release-manifests/image-references` in the last layer of its image.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::compression::{LimitedReader, decoder};
use crate::fs;
use crate::tarball;

/// An OS image of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsImage {
    /// Its name among the release's images: `rhel-coreos`.
    pub name: String,
    /// Where it is, by digest.
    pub image: String,
}

/// Why a release does not say which OS it has.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layer cannot be read.
    #[error("the layer of its manifests cannot be read")]
    Layer(#[from] io::Error),
    /// The list cannot be understood.
    #[error("its image-references cannot be understood")]
    Parse(#[from] serde_json::Error),
    /// There is no OS in it.
    #[error("its image-references list no OS image")]
    NoOs,
}

/// Finds `image-references` in a layer, a compressed tar; `None` when the layer has none.
pub fn image_references(layer: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let (_, tar) = decoder(layer)?;
    let mut archive = tarball::open(LimitedReader::new(tar, LAYER_LIMIT));
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.strip_prefix("./").unwrap_or(&entry.path()?) == Path::new(REFERENCES) {
            return Ok(Some(fs::read_limited(entry, REFERENCES_LIMIT)?));
        }
    }
    Ok(None)
}

/// The OS images of a release, one for each stream; where a release has an old and a new name for it, both.
pub fn os_images(references: &[u8]) -> Result<Vec<OsImage>, Error> {
    #[derive(Deserialize)]
    struct ImageStream {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        tags: Vec<Tag>,
    }
    #[derive(Deserialize)]
    struct Tag {
        name: String,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
        from: Option<From>,
    }
    #[derive(Deserialize)]
    struct From {
        name: String,
    }
    let stream: ImageStream = serde_json::from_slice(references)?;
    let is_os = |tag: &Tag| {
        let versions = tag.annotations.as_ref().and_then(|all| all.get("io.openshift.build.versions"));
        let says_os =
            versions.is_some_and(|versions| versions.split(',').any(|it| it.trim().starts_with("machine-os=")));
        !tag.name.ends_with("-extensions") && (says_os || NAMES.contains(&&*tag.name))
    };
    let tags = stream.spec.tags.into_iter().filter(is_os);
    let images: Vec<OsImage> = tags.filter_map(|tag| Some(OsImage { name: tag.name, image: tag.from?.name })).collect();
    if images.is_empty() { Err(Error::NoOs) } else { Ok(images) }
}

const REFERENCES: &str = "release-manifests/image-references";
/// What OS images have been called: to 4.12, in 4.12, from 4.13, from 4.21 beside it, and in OKD.
const NAMES: &[&str] = &["machine-os-content", "rhel-coreos-8", "rhel-coreos", "rhel-coreos-10", "stream-coreos"];
const REFERENCES_LIMIT: u64 = 16 << 20;
const LAYER_LIMIT: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_images_are_those_that_say_so_by_name_or_version() {
        let tag = |name: &str, versions: &str| {
            serde_json::json!({ "name": name, "annotations": { "io.openshift.build.versions": versions },
                "from": { "kind": "DockerImage", "name": format!("quay.io/x@sha256:{name}") } })
        };
        let tags = [
            tag("etcd", "kubernetes=1.2"),
            serde_json::json!({ "name": "machine-os-content", "annotations": null, "from": { "name": "quay.io/a" } }),
            tag("rhel-coreos-extensions", "machine-os=1"),
            tag("some-os", "kubectl=1, machine-os=9.6"),
        ];
        let json = serde_json::json!({ "kind": "ImageStream", "new": 1, "spec": { "tags": tags } }).to_string();
        let images = os_images(json.as_bytes()).unwrap();
        let names: Vec<(&str, &str)> = images.iter().map(|it| (&*it.name, &*it.image)).collect();
        assert_eq!(names, [("machine-os-content", "quay.io/a"), ("some-os", "quay.io/x@sha256:some-os")]);
        let none = br#"{"spec": {"tags": []}}"#;
        assert_eq!(os_images(none).unwrap_err().to_string(), "its image-references list no OS image");
    }
}
