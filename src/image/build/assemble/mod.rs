//! Puts a planned image together: layers, written in parallel, then configurations, manifests and the index.
//!
//! All documents are canonical JSON, and nothing in them was not in the definition, the inputs or the base: the same
//! plan gives the same digest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use oci_spec::image::{
    ConfigBuilder, Descriptor, HistoryBuilder, ImageConfiguration, ImageIndex, ImageManifest, ImageManifestBuilder,
    MediaType,
};
use rayon::prelude::*;
use serde::Serialize;

use crate::digest::{Algorithm, Digest};
use crate::image::Platform;
use crate::image::build::base::{BaseImage, BaseParts, ON_BUILD};
use crate::image::build::definition::Definition;
use crate::image::build::fingerprint::{self, FINGERPRINT};
use crate::image::build::plan::{Inputs, Plan, PlannedLayer};
use crate::image::layer::tree::{self, Tree};
use crate::image::layer::{Layer, LayerCache, LayerOptions};
use crate::image::store::layout::{self, Layout};
use crate::progress::{Progress, Task, Unit};

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildReport {
    /// Digest of the index, or of the manifest where there is but one platform.
    pub digest: Digest,
    /// What it is made of, as one digest.
    pub fingerprint: Digest,
    /// Its size.
    pub size: u64,
    /// What of the two it is.
    pub media_type: MediaType,
    /// The image's time.
    #[serde(serialize_with = "as_text")]
    pub created: jiff::Timestamp,
    /// Each platform's image.
    pub images: Vec<PlatformReport>,
}

/// The image of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformReport {
    /// Which platform.
    pub platform: Platform,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the configuration.
    pub config: Digest,
    /// The layers that were made, those of the base not among them.
    pub layers: Vec<LayerReport>,
}

/// A layer that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// Its name in the definition.
    pub name: Option<String>,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob.
    pub size: u64,
    /// Size of the tar in it.
    pub tar_size: u64,
}

/// Why an image cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base has no image for a platform.
    #[error("the base has no image for {platform}")]
    NoBase {
        /// The platform.
        platform: Platform,
    },
    /// A layer of the base that is no file system.
    #[error("the base's layer {layer}: cannot be read")]
    BaseLayer {
        /// Its digest.
        layer: String,
        /// Why not.
        source: io::Error,
    },
    /// What is to be in a layer.
    #[error("{0}")]
    Tree(#[from] tree::Error),
    /// The layout.
    #[error("{0}")]
    Layout(#[from] layout::Error),
}

/// What an image is put together of, and where.
///
/// The layers of the base are copied; over a base, they are read as well, since layers have the directories that they lie
/// in as those have them.
#[derive(Clone, Copy)]
pub struct Assembly<'a> {
    /// What it is to be.
    pub definition: &'a Definition,
    /// What that takes from elsewhere.
    pub inputs: &'a Inputs,
    /// What will be in its layers.
    pub plan: &'a Plan,
    /// What it lies over.
    pub base: Option<&'a BaseImage>,
    /// How layers are compressed.
    pub options: &'a LayerOptions,
    /// Where it is written.
    pub layout: &'a Layout,
    /// Who is told how far it is.
    pub progress: &'a Progress,
}

/// A planned layer: what is said of it, for which platform only, and what is in it.
type Planned<'a> = (&'a PlannedLayer, Option<&'a Platform>, &'a Tree);

/// The same, and what was written.
type Written<'a> = (Planned<'a>, Layer);

/// The image of a platform, as manifests and the report have it.
struct OfPlatform {
    manifest: Descriptor,
    report: PlatformReport,
}

impl Assembly<'_> {
    /// Writes what was planned into the layout and returns the descriptor of the image, which has no name there yet.
    pub fn write(&self) -> Result<(Descriptor, BuildReport), Error> {
        let (laid, known) = self.over_the_base()?;
        let plan = laid.as_ref().unwrap_or(self.plan);
        let parts = plan.parts();
        let total = parts.iter().map(|(_, _, tree)| tree.size()).sum();
        let task = self.progress.task(format!("packing {}", self.definition.name), Unit::Bytes, Some(total));
        let layers = self.write_layers(plan, &parts, &task)?;
        let fingerprint = match known {
            Some(known) => known,
            None => self.fingerprint(plan, &parts, &layers, &task)?,
        };
        let parts: Vec<Written<'_>> = parts.into_iter().zip(layers).collect();
        self.write_documents(&parts, plan.created(), fingerprint)
    }

    /// What the layers become over the base, and the fingerprint, which then is that of the layers as they are defined: what they
    /// become over it follows from its digest.
    fn over_the_base(&self) -> Result<(Option<Plan>, Option<Digest>), Error> {
        let Some(base) = self.base else { return Ok((None, None)) };
        let digest = layout::digest_of(base.image()).map_err(layout::Error::from)?;
        let Assembly { definition, inputs, plan, options, progress, .. } = self;
        let known = fingerprint::fingerprint(definition, inputs, plan, Some(&digest), options, progress)?;
        Ok((Some(base.lay(plan, &inputs.platforms, progress)?), Some(known)))
    }

    /// First step: the layers, in parallel, but for those that another image has already.
    fn write_layers(&self, plan: &Plan, parts: &[Planned<'_>], task: &Task) -> Result<Vec<Layer>, Error> {
        let write = |(_, _, tree): &Planned<'_>| {
            let cache = &self.inputs.cache;
            let key = LayerCache::key(tree, self.options, plan.epoch);
            if let Some(layer) = cache.find(&key) {
                return Ok(layer);
            }
            let blob = self.layout.blob_writer(Algorithm::Sha256)?;
            let (layer, blob) = tree.write(blob, self.options, plan.created(), plan.epoch, task)?;
            blob.finish()?;
            cache.add(key, &layer);
            Ok(layer)
        };
        // Whoever is ready takes the next one, large as they are.
        parts.par_iter().with_max_len(1).map(write).collect()
    }

    /// What the image is made of, as one digest.
    fn fingerprint(
        &self,
        plan: &Plan,
        parts: &[Planned<'_>],
        layers: &[Layer],
        task: &Task,
    ) -> Result<Digest, tree::Error> {
        let by_content = fingerprint::is_by_content(self.inputs);
        let identity = |((layer, _, tree), written): (&Planned<'_>, &Layer)| match &layer.identity {
            Some(identity) => Ok(identity.clone()),
            None if by_content => tree.diff_id(fingerprint::created(self.inputs, plan), plan.epoch, task),
            None => Ok(written.diff_id.clone()),
        };
        let identities = parts.par_iter().zip(layers).map(identity).collect::<Result<Vec<Digest>, _>>()?;
        Ok(fingerprint::of(self.definition, self.inputs, plan, None, self.options, &identities))
    }

    /// Second and third step: configuration and manifest of each platform, then the index of them.
    fn write_documents(
        &self,
        parts: &[Written<'_>],
        created: i64,
        fingerprint: Digest,
    ) -> Result<(Descriptor, BuildReport), Error> {
        let created = jiff::Timestamp::from_second(created).unwrap_or_default();
        let base = self.base.map(BaseImage::image);
        let labels = annotations(&self.definition.annotations, self.inputs, created, base);
        let mut annotations = labels.clone();
        annotations.insert(FINGERPRINT.to_owned(), fingerprint.to_string());
        let of = |platform| self.write_platform(platform, parts, created, &labels, &annotations);
        let images = self.inputs.platforms.iter().map(of).collect::<Result<Vec<OfPlatform>, Error>>()?;
        let (manifests, images): (Vec<_>, Vec<_>) = images.into_iter().map(|it| (it.manifest, it.report)).unzip();
        let image = self.write_index(manifests, &images, annotations)?;
        let report = BuildReport {
            fingerprint,
            digest: layout::digest_of(&image).map_err(layout::Error::from)?,
            size: image.size(),
            media_type: image.media_type().clone(),
            created,
            images,
        };
        Ok((image, report))
    }

    fn write_platform(
        &self,
        platform: &Platform,
        parts: &[Written<'_>],
        created: jiff::Timestamp,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Result<OfPlatform, Error> {
        let Assembly { definition, layout, .. } = self;
        let mine = parts.iter().filter(|((_, only, _), _)| only.is_none_or(|only| only == platform));
        let layers: Vec<(Option<&str>, &Layer)> =
            mine.map(|((planned, ..), layer)| (planned.name.as_deref(), layer)).collect();
        let mut image = match self.base {
            Some(base) => base.of(platform)?,
            None => BaseParts::default(),
        };
        if let Some(base) = self.base {
            image.layers.iter().try_for_each(|layer| layout.take_blob(base.layout(), layer))?;
        }
        for (name, layer) in &layers {
            image.layers.push(layout::descriptor(layer.media_type.clone(), &layer.digest, layer.size));
            image.config.rootfs_mut().diff_ids_mut().push(layer.diff_id.to_string());
            let history = HistoryBuilder::default()
                .created(created.to_string())
                .created_by(format!("haversack build {}", definition.name))
                .comment(name.unwrap_or("layer"))
                .build()
                .expect("every field has a default");
            let mut all = image.config.history().clone().unwrap_or_default();
            all.push(history);
            image.config.set_history(Some(all));
        }
        configure(&mut image.config, definition, platform, labels, created);
        if image.docker.contains_key(ON_BUILD) {
            tracing::warn!("{}: the base's ONBUILD triggers are kept and were not run", definition.name);
        }
        let mut config = serde_json::to_value(&image.config).expect("a configuration is JSON");
        for (name, value) in image.docker {
            config["config"][name] = value;
        }
        let config = layout.write_blob(MediaType::ImageConfig, &layout::canonical(&config))?;
        let has_zstd = image.layers.iter().any(|layer| layer.media_type().as_ref().ends_with("+zstd"));
        let config_digest = layout::digest_of(&config).map_err(layout::Error::from)?;
        let document: ImageManifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(image.layers)
            .annotations(annotations.clone().into_iter().collect::<HashMap<_, _>>())
            .build()
            .expect("version, configuration and layers are set");
        let mut manifest = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&document))?;
        let report = PlatformReport {
            platform: platform.clone(),
            manifest: layout::digest_of(&manifest).map_err(layout::Error::from)?,
            config: config_digest,
            layers: layers.into_iter().map(|(name, layer)| LayerReport::new(name, layer)).collect(),
        };
        manifest.set_platform(Some(platform.to_spec()));
        if has_zstd {
            // skopeo would add it to the entries of an index that it copies, which then has another digest.
            manifest.set_annotations(Some([(ZSTD.to_owned(), "true".to_owned())].into()));
        }
        Ok(OfPlatform { manifest, report })
    }

    /// The index; of one platform, its manifest is the image.
    fn write_index(
        &self,
        manifests: Vec<Descriptor>,
        images: &[PlatformReport],
        annotations: BTreeMap<String, String>,
    ) -> Result<Descriptor, Error> {
        if let [only] = &manifests[..] {
            return Ok(layout::descriptor(MediaType::ImageManifest, &images[0].manifest, only.size()));
        }
        let mut index: ImageIndex = layout::index_of(manifests);
        index.set_annotations(Some(annotations.into_iter().collect()));
        Ok(self.layout.write_blob(MediaType::ImageIndex, &layout::canonical(&index))?)
    }
}

/// By which containers/image tells images with zstd from those that older engines can read.
const ZSTD: &str = "io.github.containers.compression.zstd";

impl LayerReport {
    fn new(name: Option<&str>, layer: &Layer) -> Self {
        LayerReport {
            name: name.map(str::to_owned),
            digest: layer.digest.clone(),
            size: layer.size,
            tar_size: layer.tar_size,
        }
    }
}

/// The labels of the configuration, which are annotations of manifest and index, too.
fn annotations(
    own: &BTreeMap<String, String>,
    inputs: &Inputs,
    created: jiff::Timestamp,
    base: Option<&Descriptor>,
) -> BTreeMap<String, String> {
    let mut all = inputs.annotations.clone();
    all.insert(oci_spec::image::ANNOTATION_CREATED.to_owned(), created.to_string());
    all.extend(base.map(|base| (oci_spec::image::ANNOTATION_BASE_IMAGE_DIGEST.to_owned(), base.digest().to_string())));
    all.extend(own.clone());
    all
}

fn configure(
    config: &mut ImageConfiguration,
    definition: &Definition,
    platform: &Platform,
    annotations: &BTreeMap<String, String>,
    created: jiff::Timestamp,
) {
    let old = config.config().clone().unwrap_or_else(|| ConfigBuilder::default().build().expect("all have defaults"));
    let mut new = old.clone();
    let mut env: BTreeMap<String, String> = old
        .env()
        .iter()
        .flatten()
        .filter_map(|variable| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    env.extend(definition.env.clone());
    new.set_env((!env.is_empty()).then(|| env.iter().map(|(name, value)| format!("{name}={value}")).collect()));
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    if !definition.entrypoint.is_empty() {
        new.set_entrypoint(some(&definition.entrypoint));
        // The base's arguments were for the base's program.
        new.set_cmd(None);
    }
    if !definition.cmd.is_empty() {
        new.set_cmd(some(&definition.cmd));
    }
    if definition.user.is_some() {
        new.set_user(definition.user.clone());
    }
    if definition.workdir.is_some() {
        new.set_working_dir(definition.workdir.clone());
    }
    if definition.stop_signal.is_some() {
        new.set_stop_signal(definition.stop_signal.clone());
    }
    let volumes: BTreeSet<String> = old.volumes().iter().flatten().chain(&definition.volumes).cloned().collect();
    new.set_volumes((!volumes.is_empty()).then(|| volumes.into_iter().collect()));
    let mut labels = old.labels().clone().unwrap_or_default();
    labels.extend(annotations.clone());
    labels.extend(definition.labels.clone());
    new.set_labels(Some(labels));
    config.set_config(Some(new));
    config.set_created(Some(created.to_string()));
    config.set_os(platform.os.as_str().into());
    config.set_architecture(platform.architecture.as_str().into());
    config.set_variant(platform.variant.clone().or(config.variant().clone()));
}

/// 1970 is what an image says of whose inputs no date is known.
fn as_text<S: serde::Serializer>(time: &jiff::Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    if *time == jiff::Timestamp::UNIX_EPOCH { serializer.serialize_none() } else { serializer.collect_str(time) }
}

#[cfg(test)]
mod tests;
