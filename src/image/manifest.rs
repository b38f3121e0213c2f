//! What manifests and indexes refer to, in the words of OCI and of Docker.

use std::collections::{HashMap, HashSet};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, MediaType};
use serde::Deserialize;

use crate::image::store::layout;
use crate::limits;

/// The manifest of an image or an artifact, as people have them: an artifact may be without configuration, and what has no
/// layers may say `null`, as Go's writers do.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The configuration, where there is one.
    #[serde(default)]
    pub config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    /// What an artifact is.
    #[serde(default)]
    pub artifact_type: Option<MediaType>,
    /// What a referrer is about.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<HashMap<String, String>>,
    #[serde(default)]
    schema_version: u32,
}

impl Manifest {
    /// Parses a manifest; `name` is for the error. One of Docker's schema 1 is an error that says so.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, layout::Error> {
        let manifest: Manifest = layout::parse(name, bytes)?;
        match manifest.schema_version {
            1 => Err(layout::Error::Schema1(name.to_owned())),
            _ => Ok(manifest),
        }
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        self.layers.as_deref().unwrap_or_default()
    }

    /// The annotations.
    pub fn annotations(&self) -> HashMap<String, String> {
        self.annotations.clone().unwrap_or_default()
    }

    /// Whether an engine can run it: its configuration and its layers are of the types of OCI or Docker. cosign's signatures
    /// have the configuration of an image, and layers that are no file systems.
    pub fn is_image(&self) -> bool {
        let is_config = self.config.as_ref().is_some_and(|config| is_config(config.media_type()));
        is_config && self.layers().iter().all(|layer| is_layer(layer.media_type()))
    }
}

/// Parses the configuration of an image; `name` is for the error. Lists that are `null` are empty.
pub fn configuration(name: &str, bytes: &[u8]) -> Result<ImageConfiguration, layout::Error> {
    let mut value: serde_json::Value = layout::parse(name, bytes)?;
    if let Some(diff_ids) = value.pointer_mut("/rootfs/diff_ids").filter(|diff_ids| diff_ids.is_null()) {
        *diff_ids = serde_json::json!([]);
    }
    serde_json::from_value(value).map_err(|source| layout::Error::Document { name: name.to_owned(), source })
}

/// Whether a media type is that of a list of manifests.
pub fn is_index(media_type: &MediaType) -> bool {
    matches!(media_type.as_ref(), INDEX | DOCKER_LIST)
}

/// Whether a media type is that of one image's manifest.
pub fn is_manifest(media_type: &MediaType) -> bool {
    matches!(media_type.as_ref(), MANIFEST | DOCKER_MANIFEST)
}

/// Whether a media type is that of an image's configuration.
pub fn is_config(media_type: &MediaType) -> bool {
    matches!(media_type.as_ref(), CONFIG | DOCKER_CONFIG)
}

/// Whether a media type is that of a layer of a file system, compressed or encrypted as it may be.
pub fn is_layer(media_type: &MediaType) -> bool {
    LAYERS.iter().any(|start| media_type.as_ref().starts_with(start))
}

/// Whether a layer is encrypted (ocicrypt): what the configuration says of its content cannot be checked.
pub fn is_encrypted(media_type: &MediaType) -> bool {
    media_type.as_ref().ends_with("+encrypted")
}

/// What a document refers to directly: manifests of an index; configuration, where there is one, and layers of a manifest, in
/// this order.
pub fn children(described: &Descriptor, bytes: &[u8]) -> Result<Vec<Descriptor>, layout::Error> {
    let name = described.digest().as_ref();
    if is_index(described.media_type()) {
        let index: ImageIndex = layout::parse(name, bytes)?;
        return Ok(index.manifests().clone());
    }
    let manifest = Manifest::parse(name, bytes)?;
    Ok(manifest.config.iter().chain(manifest.layers()).cloned().collect())
}

/// Whether a media type is that of a layer that may not be distributed (image-spec, layer.md, "Non-Distributable Layers"; Docker
/// calls them foreign): an image is whole without it, for its own registry has it.
pub fn is_foreign(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

/// Visits everything that an image is made of: children before what refers to them, the image itself last. Indexes and manifests
/// are visited once; other blobs by each of the manifests that has them.
///
/// `read` gives the bytes of indexes and manifests. Lists may not lie in lists more than [`limits::INDEX_LEVELS`] deep, and what a list names
/// again is not read again: a document cannot contain itself, but a thousand times the same list, which has a thousand
/// times the same list, would take for ever.
pub fn walk<E: From<layout::Error>>(
    image: &Descriptor,
    read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, E>,
    visit: &mut impl FnMut(&Descriptor) -> Result<(), E>,
) -> Result<(), E> {
    walk_at(image, 0, &mut HashSet::new(), read, visit)
}

fn walk_at<E: From<layout::Error>>(
    described: &Descriptor,
    depth: usize,
    known: &mut HashSet<(String, String)>,
    read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, E>,
    visit: &mut impl FnMut(&Descriptor) -> Result<(), E>,
) -> Result<(), E> {
    if is_index(described.media_type()) || is_manifest(described.media_type()) {
        if depth > limits::INDEX_LEVELS {
            return Err(layout::Error::TooDeep(described.digest().to_string()).into());
        }
        // Under another type it is another document.
        if !known.insert((described.digest().to_string(), described.media_type().to_string())) {
            return Ok(());
        }
        let bytes = read(described)?;
        for child in children(described, &bytes)? {
            walk_at(&child, depth + 1, known, read, visit)?;
        }
    }
    visit(described)
}

/// How the types of layers begin; what follows is the compression, or that a layer is encrypted.
const LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture;

    #[test]
    fn children_come_before_what_refers_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(dir.path());
        let index = layout::index_of(vec![image]);
        let index = layout.write_blob(MediaType::ImageIndex, &layout::canonical(&index)).unwrap();
        let mut seen = Vec::new();
        let mut read = |described: &Descriptor| layout.read_document(described);
        walk(&index, &mut read, &mut |described| {
            seen.push(described.media_type().to_string().rsplit('.').next().unwrap().to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["v1+json", "tar", "v1+json", "v1+json"]);
    }

    #[test]
    fn lists_in_lists_end_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, mut image) = fixture::image(dir.path());
        for _ in 0..limits::INDEX_LEVELS + 1 {
            let index = layout::index_of(vec![image]);
            image = layout.write_blob(MediaType::ImageIndex, &layout::canonical(&index)).unwrap();
        }
        let mut read = |described: &Descriptor| layout.read_document(described);
        let error = walk(&image, &mut read, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.ends_with("lists of manifests are nested too deeply"), "{error}");
    }
}
