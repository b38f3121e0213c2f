//! What an image says of itself: its documents, read and put side by side.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Serialize;

use crate::image::store::layout;
use crate::image::{Platform, manifest};
use crate::limits;

/// An image, or an index of several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InspectReport {
    /// Digest of the outermost document.
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// What an index lists, or the one manifest.
    pub images: Vec<ImageReport>,
}

/// One manifest and its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageReport {
    /// Digest of the manifest.
    pub digest: String,
    /// What the index or the configuration says it runs on; artifacts say nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Of an artifact: what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Of a referrer: the digest of what it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was made, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Compressed bytes of all layers.
    pub layer_bytes: u64,
    /// The layers, lowest first.
    pub layers: Vec<LayerLine>,
    /// The configuration document as it is.
    pub config: serde_json::Value,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerLine {
    /// Digest of the blob.
    pub digest: String,
    /// What it is.
    pub media_type: String,
    /// Compressed bytes.
    pub size: u64,
    /// What the history says about it: a comment, or the command that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<String>,
}

/// Reads an image's documents; `read` gives the bytes of indexes, manifests and configurations.
///
/// Manifests that an index lists and that are not there are left out: parts of a mirror may lack platforms.
pub fn inspect<E: From<layout::Error>>(
    image: &Descriptor,
    read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, E>,
) -> Result<InspectReport, E> {
    let bytes = read(image)?;
    let mut annotations = BTreeMap::new();
    let mut images = Vec::new();
    if manifest::is_index(image.media_type()) {
        let index: ImageIndex = layout::parse(image.digest().as_ref(), &bytes)?;
        annotations.extend(index.annotations().clone().unwrap_or_default());
        for listed in index.manifests() {
            let bytes = read(listed)?;
            images.push(image_report(listed, &bytes, read)?);
        }
    } else {
        let document: ImageManifest = layout::parse(image.digest().as_ref(), &bytes)?;
        annotations.extend(document.annotations().clone().unwrap_or_default());
        images.push(image_report(image, &bytes, read)?);
    }
    Ok(InspectReport {
        digest: image.digest().to_string(),
        media_type: image.media_type().to_string(),
        size: image.size(),
        annotations,
        images,
    })
}

fn image_report<E: From<layout::Error>>(
    listed: &Descriptor,
    bytes: &[u8],
    read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, E>,
) -> Result<ImageReport, E> {
    let document: ImageManifest = layout::parse(listed.digest().as_ref(), bytes)?;
    let config_bytes = read(document.config())?;
    let name = document.config().digest().to_string();
    let config: serde_json::Value = layout::parse(&name, &config_bytes)?;
    // An artifact's configuration is anything.
    let parsed: Option<ImageConfiguration> = serde_json::from_value(config.clone()).ok();
    let mut history = parsed
        .iter()
        .flat_map(|config| config.history().iter().flatten())
        .filter(|step| step.empty_layer().is_none_or(|empty| !empty));
    let layers: Vec<LayerLine> = document
        .layers()
        .iter()
        .map(|layer| LayerLine {
            digest: layer.digest().to_string(),
            media_type: layer.media_type().to_string(),
            size: layer.size(),
            history: history.next().and_then(|step| step.comment().clone().or(step.created_by().clone())),
        })
        .collect();
    let configured = parsed.as_ref().map(|config| Platform {
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        variant: config.variant().clone(),
    });
    Ok(ImageReport {
        digest: listed.digest().to_string(),
        platform: listed.platform().as_ref().map(Platform::from).or(configured),
        artifact_type: document.artifact_type().as_ref().map(ToString::to_string),
        subject: document.subject().as_ref().map(|subject| subject.digest().to_string()),
        created: parsed.as_ref().and_then(|config| config.created().clone()),
        layer_bytes: limits::total(layers.iter().map(|layer| layer.size)),
        layers,
        config,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture;

    #[test]
    fn the_documents_are_put_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(dir.path());
        let children = manifest::children(&image, &layout.read_document(&image).unwrap()).unwrap();
        let report = inspect(&image, &mut |described| layout.read_document(described)).unwrap();
        let layer = LayerLine {
            digest: children[1].digest().to_string(),
            media_type: "application/vnd.oci.image.layer.v1.tar".into(),
            size: 2048,
            history: None,
        };
        let config: serde_json::Value = serde_json::from_slice(&layout.read_document(&children[0]).unwrap()).unwrap();
        let expected = InspectReport {
            digest: image.digest().to_string(),
            media_type: "application/vnd.oci.image.manifest.v1+json".into(),
            size: image.size(),
            annotations: BTreeMap::new(),
            images: vec![ImageReport {
                digest: image.digest().to_string(),
                platform: Some("linux/amd64".parse().unwrap()),
                artifact_type: None,
                subject: None,
                created: None,
                layer_bytes: 2048,
                layers: vec![layer],
                config,
            }],
        };
        assert_eq!(report, expected);
    }
}
