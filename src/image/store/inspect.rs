//! What an image says of itself: its documents, read and put side by side.

use std::collections::{BTreeMap, HashSet};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex};
use serde::Serialize;
use serde_json::Value;

use crate::causes;
use crate::image::Platform;
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout;
use crate::limits::{self, Count};

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
    /// The configuration document as it is; `null` where there is none, or none in JSON.
    pub config: Value,
    /// Why something of it is not shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
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

/// Puts an image's documents side by side; `bytes` are those of the image or index itself, `read` gives those of manifests and
/// configurations, or says why they cannot be had. What cannot is in the report with the reason: mirrors may lack
/// platforms, and configurations be anything.
pub fn inspect(
    image: &Descriptor,
    bytes: &[u8],
    read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, String>,
) -> Result<InspectReport, layout::Error> {
    let mut listed = Listed::default();
    let annotations = match manifest::is_index(image.media_type()) {
        true => {
            let index: ImageIndex = layout::parse(image.digest().as_ref(), bytes)?;
            listed.add(&index, 1, read);
            index.annotations().clone().unwrap_or_default()
        }
        false => {
            listed.images.push(ImageReport::of(image, bytes, read, &mut room())?);
            Manifest::parse(image.digest().as_ref(), bytes).map(|manifest| manifest.annotations()).unwrap_or_default()
        }
    };
    Ok(InspectReport {
        digest: image.digest().to_string(),
        media_type: image.media_type().to_string(),
        size: image.size(),
        annotations: annotations.into_iter().collect(),
        images: listed.images,
    })
}

/// What an index lists, with what the indexes in it list.
struct Listed {
    images: Vec<ImageReport>,
    /// Indexes that were looked into: one that is listed a thousand times by one that is listed a thousand times says nothing new.
    indexes: HashSet<String>,
    room: Count,
}

impl Default for Listed {
    fn default() -> Self {
        Listed { images: Vec::new(), indexes: HashSet::new(), room: room() }
    }
}

/// How many bytes of documents are taken apart: an index may list one manifest for as many platforms as it likes.
fn room() -> Count {
    Count::new("bytes of manifests and configurations", limits::SHOWN)
}

impl Listed {
    fn add(&mut self, index: &ImageIndex, depth: usize, read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, String>) {
        for listed in index.manifests() {
            let name = listed.digest().as_ref();
            let is_index = manifest::is_index(listed.media_type()) && depth <= limits::INDEX_LEVELS;
            if is_index && !self.indexes.insert(name.to_owned()) {
                continue;
            }
            let found = read(listed).and_then(|bytes| match is_index {
                true => match layout::parse(name, &bytes) {
                    Ok(inner) => {
                        self.add(&inner, depth + 1, read);
                        Ok(None)
                    }
                    Err(error) => Err(causes::line(&error)),
                },
                false => ImageReport::of(listed, &bytes, read, &mut self.room)
                    .map(Some)
                    .map_err(|error| causes::line(&error)),
            });
            match found {
                Ok(report) => self.images.extend(report),
                Err(problem) => self.images.push(ImageReport { problem: Some(problem), ..ImageReport::new(listed) }),
            }
        }
    }
}

impl ImageReport {
    /// What its descriptor says.
    fn new(listed: &Descriptor) -> Self {
        ImageReport {
            digest: listed.digest().to_string(),
            platform: listed.platform().as_ref().map(Platform::from),
            artifact_type: listed.artifact_type().as_ref().map(ToString::to_string),
            subject: None,
            created: None,
            layer_bytes: 0,
            layers: Vec::new(),
            config: Value::Null,
            problem: None,
        }
    }

    fn of(
        listed: &Descriptor,
        bytes: &[u8],
        read: &mut impl FnMut(&Descriptor) -> Result<Vec<u8>, String>,
        room: &mut Count,
    ) -> Result<Self, layout::Error> {
        let mut report = ImageReport::new(listed);
        if let Err(exceeded) = room.several(bytes.len()) {
            report.problem = Some(format!("it is not shown: {exceeded}"));
            return Ok(report);
        }
        let document = match Manifest::parse(listed.digest().as_ref(), bytes) {
            Ok(document) => document,
            Err(error @ layout::Error::Schema1(_)) => {
                report.problem = Some(error.to_string());
                report.layers = schema1_layers(bytes);
                return Ok(report);
            }
            Err(error) => return Err(error),
        };
        let mut configured: Option<ImageConfiguration> = None;
        if let Some(config) = &document.config {
            // An artifact's configuration is anything; that of an image is to be what it says it is.
            let bytes = read(config).and_then(|bytes| match room.several(bytes.len()) {
                Ok(()) => Ok(bytes),
                Err(exceeded) => Err(exceeded.to_string()),
            });
            match bytes {
                Ok(bytes) => {
                    report.config = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                    configured = manifest::configuration(config.digest().as_ref(), &bytes).ok();
                    if report.config.is_null() && document.is_image() {
                        report.problem = Some("its configuration is not JSON".to_owned());
                    }
                }
                Err(problem) => report.problem = Some(format!("its configuration is not shown: {problem}")),
            }
        }
        let history = configured.iter().flat_map(|config| config.history().iter().flatten());
        let mut history = history.filter(|step| step.empty_layer().is_none_or(|empty| !empty));
        let layers = document.layers().iter().map(|layer| LayerLine {
            digest: layer.digest().to_string(),
            media_type: layer.media_type().to_string(),
            size: layer.size(),
            history: history.next().and_then(|step| step.comment().clone().or(step.created_by().clone())),
        });
        report.layers = layers.collect();
        report.layer_bytes = limits::total(report.layers.iter().map(|layer| layer.size));
        report.platform =
            report.platform.or(configured.as_ref().filter(|_| document.is_image()).map(|config| Platform {
                os: config.os().to_string(),
                architecture: config.architecture().to_string(),
                variant: config.variant().clone(),
            }));
        // As image-spec has it: what says nothing is what its configuration is.
        let by_config = || document.config.as_ref().filter(|_| !document.is_image()).map(Descriptor::media_type);
        report.artifact_type = document.artifact_type.as_ref().or_else(by_config).map(ToString::to_string);
        report.subject = document.subject.as_ref().map(|subject| subject.digest().to_string());
        report.created = configured.and_then(|config| config.created().clone());
        Ok(report)
    }
}

/// The layers of a manifest of schema 1, which lists the topmost first and no sizes.
fn schema1_layers(bytes: &[u8]) -> Vec<LayerLine> {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let listed = document["fsLayers"].as_array().into_iter().flatten().rev();
    let digests = listed.filter_map(|layer| layer["blobSum"].as_str());
    let line = |digest: &str| LayerLine {
        digest: digest.to_owned(),
        media_type: "application/vnd.docker.container.image.rootfs.diff+x-gtar".to_owned(),
        size: 0,
        history: None,
    };
    digests.map(line).collect()
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
        let mut read = |described: &Descriptor| layout.read_document(described).map_err(|error| error.to_string());
        let report = inspect(&image, &layout.read_document(&image).unwrap(), &mut read).unwrap();
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
                problem: None,
            }],
        };
        assert_eq!(report, expected);
    }
}
