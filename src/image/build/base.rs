//! The image that others are built over: its configuration, its layers, and what they make together.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::sync::{Arc, Mutex};

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, MediaType};

use crate::compression;
use crate::image::Platform;
use crate::image::build::assemble::Error;
use crate::image::build::plan::Plan;
use crate::image::layer::rootfs::RootFs;
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout::{self, Layout};
use crate::progress::{Progress, Unit};

/// A base in a layout. Its layers are read once for each platform, however many images are built over it.
#[derive(Clone, Debug)]
pub struct BaseImage {
    layout: Layout,
    image: Descriptor,
    files: Arc<Mutex<BTreeMap<Platform, Arc<RootFs>>>>,
}

impl BaseImage {
    /// An image, or an index of images, and the layout it is in.
    pub fn new(layout: &Layout, image: &Descriptor) -> Self {
        BaseImage { layout: layout.clone(), image: image.clone(), files: Arc::default() }
    }

    /// The image or index itself.
    pub fn image(&self) -> &Descriptor {
        &self.image
    }

    /// Where it is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The plan laid over it, for each of these platforms.
    pub fn lay(&self, plan: &Plan, platforms: &[Platform], progress: &Progress) -> Result<Plan, Error> {
        let mut files = BTreeMap::new();
        for platform in platforms.iter().filter(|_| !plan.layers().is_empty()) {
            files.insert(platform, self.files(platform, progress)?);
        }
        Ok(plan.over(platforms, |platform| files.get(platform).map(|files| &**files))?)
    }

    /// What its layers make together for a platform. Only names and attributes are kept; a layer that cannot be read is an
    /// error that names it.
    pub fn files(&self, platform: &Platform, progress: &Progress) -> Result<Arc<RootFs>, Error> {
        // Whoever comes second waits for what the first one reads.
        let mut known = self.files.lock().expect("no holder panics");
        if let Some(files) = known.get(platform) {
            return Ok(files.clone());
        }
        let layers = self.of(platform)?.layers;
        let total = layers.iter().map(Descriptor::size).sum();
        let task = progress.task("looking at the base", Unit::Bytes, Some(total));
        let mut files = RootFs::default();
        for layer in &layers {
            let failed = |source| Error::BaseLayer { layer: layer.digest().to_string(), source };
            let blob = BufReader::with_capacity(BUFFER, task.reading(self.layout.open_blob(layer)?));
            let (_, content) = compression::decoder(blob).map_err(failed)?;
            files.apply(content).map_err(failed)?;
        }
        Ok(known.entry(platform.clone()).or_insert(Arc::new(files)).clone())
    }

    /// Configuration and layers for a platform.
    pub(crate) fn of(&self, platform: &Platform) -> Result<BaseParts, Error> {
        let BaseImage { layout, image, .. } = self;
        let missing = || Error::NoBase { platform: platform.clone() };
        let mut chosen = image.clone();
        if manifest::is_index(image.media_type()) {
            let index: ImageIndex = layout::parse(image.digest().as_ref(), &layout.read_document(image)?)?;
            chosen = choose(&index, platform)?;
        }
        let document = Manifest::parse(chosen.digest().as_ref(), &layout.read_document(&chosen)?)?;
        let described = document.config.as_ref().filter(|_| document.is_image()).ok_or_else(missing)?;
        let bytes = layout.read_document(described)?;
        let config = manifest::configuration(described.digest().as_ref(), &bytes)?;
        let mut raw: serde_json::Value = layout::parse(described.digest().as_ref(), &bytes)?;
        let docker = DOCKERS.iter().map(|name| (*name, raw["config"][name].take()));
        let docker = docker.filter(|(_, value)| !value.is_null()).collect();
        let offered = Platform {
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
        };
        if !platform.accepts(&offered) {
            return Err(missing());
        }
        let layers = document.layers().iter().cloned().map(|mut layer| {
            // The bytes are the same in both formats, the names are not, and an OCI manifest has its own.
            let media_type = match layer.media_type().as_ref() {
                "application/vnd.docker.image.rootfs.diff.tar.gzip" => MediaType::ImageLayerGzip,
                "application/vnd.docker.image.rootfs.diff.tar" => MediaType::ImageLayer,
                _ => return layer,
            };
            layer.set_media_type(media_type);
            layer
        });
        Ok(BaseParts { config, layers: layers.collect(), docker })
    }
}

/// Configuration and layers of an image.
#[derive(Default)]
pub(crate) struct BaseParts {
    pub(crate) config: ImageConfiguration,
    pub(crate) layers: Vec<Descriptor>,
    /// What Docker has in `config` and image-spec only reserves, by name.
    pub(crate) docker: BTreeMap<&'static str, serde_json::Value>,
}

/// The image for a platform in the index of a base.
pub fn choose(index: &ImageIndex, platform: &Platform) -> Result<Descriptor, Error> {
    let fits = |there: &&Descriptor| {
        there.platform().as_ref().is_some_and(|offered| platform.accepts(&Platform::from(offered)))
    };
    index.manifests().iter().find(fits).cloned().ok_or_else(|| Error::NoBase { platform: platform.clone() })
}

/// <https://github.com/opencontainers/image-spec/blob/main/config.md#properties>, reserved there; Docker and podman use them.
const DOCKERS: &[&str] = &["ArgsEscaped", ON_BUILD, "Healthcheck", "Shell", "StopTimeout"];
/// What whoever builds over an image with a builder runs first.
pub(crate) const ON_BUILD: &str = "OnBuild";

const BUFFER: usize = 128 << 10;
