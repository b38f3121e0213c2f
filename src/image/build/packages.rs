//! Layers that are made of packages: what a definition says about them, and how they come into a plan.
//!
//! Nothing here knows what a package is. Who builds the image turns packages into [`Part`]s, trees that are ready, and gives
//! them to the plan; a layer is written once for all images that have it ([`LayerCache`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;

use crate::digest::Digest;
use crate::image::build::assemble::{BuildReport, Error};
use crate::image::build::fingerprint::FINGERPRINT;
use crate::image::build::sbom::Component;
use crate::image::layer::tree;
use crate::image::layer::{Layer, LayerOptions};
use crate::image::store::layout::{self, Layout};
use crate::image::{Platform, Tree};
use crate::progress::Task;

/// `packages = { deb = ["gcc", "mawk | gawk"], rpm = ["gcc"], … }`: packages with all that they depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PackagesDefinition {
    /// What is wanted where packages are debs: names with bounds and alternatives, as in a `Depends` field.
    #[serde(default)]
    pub deb: Vec<String>,
    /// What is wanted where packages are rpms, in the same words.
    #[serde(default)]
    pub rpm: Vec<String>,
    /// Of these the version that the kernel was compiled with, where its configuration says and the sources have it.
    #[serde(default)]
    pub compiler: Vec<String>,
    /// What the base has already: packages, capabilities and paths.
    #[serde(default)]
    pub provided: Vec<String>,
    /// Directories that are others: `"/bin" = "/usr/bin"`. Links are made in their place.
    #[serde(default)]
    pub merge: BTreeMap<String, String>,
    /// What is left out of packages, with all that is below.
    #[serde(default)]
    pub exclude: Vec<String>,
}

/// `kernels = { … }`: the packages of kernels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KernelsDefinition {
    /// Where they are kept, as DEST/DISTRIBUTION/RELEASE, a layer for each release. Without it the packages of one kernel
    /// are laid over the root, with what they depend on, and the image is one kernel's.
    pub dest: Option<String>,
    /// Kept unpacked, as `kernel unpack` does, and not as files.
    #[serde(default)]
    pub unpacked: bool,
    /// Where `kernels.json` goes that says which kernels are kept.
    pub list: Option<String>,
    /// Which packages, by what they are to a kernel: core, devel, headers, common, kbuild, modules, image, config, meta.
    #[serde(default = "for_building")]
    pub roles: Vec<String>,
    /// Which other flavours of the same kernel come along where there are any: rt, 64k.
    #[serde(default)]
    pub flavours: Vec<String>,
}

/// A layer, or one of several that a layer of the definition becomes.
#[derive(Clone, Debug)]
pub struct Part {
    /// What the history says about it, where not what the definition says.
    pub name: Option<String>,
    /// For which platform; for all, without.
    pub platform: Option<Platform>,
    /// What is in it.
    pub tree: Tree,
    /// The packages that it is made of.
    pub components: Vec<Component>,
}

/// Layers that were written into a layout, by what is in them.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    written: Arc<Mutex<Vec<Written>>>,
    read: Arc<Mutex<Vec<Read>>>,
}

/// A layer that was only read, for the digest of its tar.
#[derive(Debug)]
struct Read {
    tree: Tree,
    clamp: Option<i64>,
    diff_id: Digest,
}

#[derive(Debug)]
struct Written {
    tree: Tree,
    options: LayerOptions,
    clamp: Option<i64>,
    layer: Layer,
}

impl LayerCache {
    /// The layer that was written from the same tree, when nothing of the image's own time is in it.
    pub(crate) fn find(&self, tree: &Tree, options: &LayerOptions, clamp: Option<i64>) -> Option<Layer> {
        let written = self.written.lock().expect("no holder panics");
        let same = written.iter().find(|it| it.options == *options && it.clamp == clamp && it.tree == *tree);
        same.map(|it| it.layer.clone())
    }

    /// [`Tree::diff_id`], read once for all images that have the layer.
    pub(crate) fn diff_id(
        &self,
        tree: &Tree,
        created: i64,
        clamp: Option<i64>,
        task: &Task,
    ) -> Result<Digest, tree::Error> {
        let read = self.read.lock().expect("no holder panics");
        if let Some(known) = read.iter().find(|it| it.clamp == clamp && it.tree == *tree) {
            return Ok(known.diff_id.clone());
        }
        drop(read);
        let diff_id = tree.diff_id(created, clamp, task)?;
        if tree.has_own_times() {
            let read = Read { tree: tree.clone(), clamp, diff_id: diff_id.clone() };
            self.read.lock().expect("no holder panics").push(read);
        }
        Ok(diff_id)
    }

    /// Remembers a layer. One with anything of the image's own time in it is another one in another image.
    pub(crate) fn add(&self, tree: &Tree, options: &LayerOptions, clamp: Option<i64>, layer: &Layer) {
        if tree.has_own_times() {
            let written = Written { tree: tree.clone(), options: *options, clamp, layer: layer.clone() };
            self.written.lock().expect("no holder panics").push(written);
        }
    }
}

/// Makes one image of several, each for one platform. One alone stays as it is.
///
/// The index has the annotations that all of them have.
pub fn join(images: &[(Descriptor, BuildReport)], layout: &Layout) -> Result<(Descriptor, BuildReport), Error> {
    if let [only] = images {
        return Ok(only.clone());
    }
    let mut manifests = Vec::new();
    let mut annotations: Option<HashMap<String, String>> = None;
    for (image, report) in images {
        let document: ImageManifest = layout::parse(image.digest().as_ref(), &layout.read_document(image)?)?;
        let own = document.annotations().clone().unwrap_or_default();
        match &mut annotations {
            None => annotations = Some(own),
            Some(common) => common.retain(|key, value| own.get(key) == Some(value)),
        }
        let mut manifest = image.clone();
        manifest.set_platform(report.images.first().map(|it| it.platform.to_spec()));
        manifests.push(manifest);
    }
    let fingerprints: Vec<&Digest> = images.iter().map(|(_, report)| &report.fingerprint).collect();
    let fingerprint = Digest::sha256(layout::canonical(&fingerprints));
    let mut annotations = annotations.unwrap_or_default();
    annotations.insert(FINGERPRINT.to_owned(), fingerprint.to_string());
    let mut index: ImageIndex = layout::index_of(manifests);
    index.set_annotations(Some(annotations));
    let image = layout.write_blob(MediaType::ImageIndex, &layout::canonical(&index))?;
    let report = BuildReport {
        digest: layout::digest_of(&image).map_err(layout::Error::from)?,
        size: image.size(),
        media_type: image.media_type().clone(),
        created: images.iter().map(|(_, report)| report.created).max().unwrap_or_default(),
        fingerprint,
        images: images.iter().flat_map(|(_, report)| report.images.clone()).collect(),
    };
    Ok((image, report))
}

fn for_building() -> Vec<String> {
    ["core", "devel", "headers", "common", "kbuild", "modules"].map(str::to_owned).to_vec()
}
