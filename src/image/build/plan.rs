//! Decides what every layer of an image will hold, from a definition and what it takes from elsewhere.
//!
//! Nothing of the machine or the hour goes into it. The image's time is `SOURCE_DATE_EPOCH`, else the catalog's, else
//! that of the youngest file in it. A layer without the program in it is the same for all platforms and planned once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::fs::{self, OutsideError};
use crate::image::build::definition::{Base, Definition, LayerDefinition};
use crate::image::build::sbom::Component;
use crate::image::layer::rootfs::RootFs;
use crate::image::layer::roots;
use crate::image::layer::tree::{self, Below, Kind, Node, Overrides, Tree};
use crate::image::{LayerCache, Platform};

/// What a definition takes from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The directory of the definition, where its `src` files are.
    pub directory: PathBuf,
    /// For which platforms, at least one.
    pub platforms: Vec<Platform>,
    /// The program for each platform.
    pub binaries: BTreeMap<Platform, PathBuf>,
    /// The certified catalog, where a layer asks for it.
    pub catalog: Option<CatalogInput>,
    /// Layers of packages, by the number of the layer in the definition; each is a layer of its own.
    pub parts: BTreeMap<usize, Vec<Part>>,
    /// Layers that are in the layout already.
    pub cache: LayerCache,
    /// What is known only now: labels and annotations beside those of the definition, which win.
    pub annotations: BTreeMap<String, String>,
    /// What of all this has a name of its own, beside the packages: for the SBOM.
    pub components: Vec<Component>,
    /// `SOURCE_DATE_EPOCH`: no time in the image is later.
    pub epoch: Option<i64>,
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

/// The certified catalog, ready to be packed.
#[derive(Clone, Debug)]
pub struct CatalogInput {
    /// The tree that certsuite reads.
    pub tree: PathBuf,
    /// The snapshot.
    pub db: PathBuf,
    /// When the snapshot was taken, in seconds since 1970: the time of the files.
    pub taken: i64,
}

/// What will be in an image.
#[derive(Clone, Debug)]
pub struct Plan {
    layers: Vec<PlannedLayer>,
    created: i64,
    pub(crate) epoch: Option<i64>,
}

/// What will be in a layer.
#[derive(Clone, Debug)]
pub struct PlannedLayer {
    /// Its name in the definition.
    pub name: Option<String>,
    /// What its content follows from, where that has a digest and the content need not be read to be known.
    pub identity: Option<Digest>,
    /// The time of what has none of its own, in seconds since 1970, where not the image's.
    pub time: Option<i64>,
    /// Its entries: one tree for all platforms, or one for each.
    pub trees: Trees,
}

/// Why an image cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A platform for which there is no program.
    #[error("no haversack binary for {platform}")]
    NoBinary {
        /// The platform.
        platform: Platform,
    },
    /// A layer asks for the catalog, and there is none.
    #[error("layers[{layer}] holds the certified catalog, and none was given")]
    NoCatalog {
        /// Number of the layer.
        layer: usize,
    },
    /// A layer asks for packages, and there are none.
    #[error("layers[{layer}] is made of packages, and none were given")]
    NoPackages {
        /// Number of the layer.
        layer: usize,
    },
    /// A `src` outside the definition's directory.
    #[error("`{0}` is not a path inside the definition's directory")]
    Outside(String),
    /// What is to be in a layer.
    #[error("{0}")]
    Tree(#[from] tree::Error),
}

impl From<OutsideError> for Error {
    // That error says the same, of no directory in particular.
    fn from(error: OutsideError) -> Self {
        Error::Outside(error.name)
    }
}

impl Inputs {
    /// All that has a name of its own, sorted, once each.
    pub fn components(&self) -> Vec<Component> {
        let packages = self.parts.values().flatten().flat_map(|part| &part.components);
        self.components.iter().chain(packages).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl Plan {
    /// The plan with each layer laid over those before and the base's files, which are asked for by platform.
    ///
    /// A tree for all platforms becomes one for each where what lies below differs.
    pub fn over<'a>(
        &self,
        platforms: &[Platform],
        base: impl Fn(&Platform) -> Option<&'a RootFs>,
    ) -> Result<Plan, tree::Error> {
        let mut laid: Vec<PlannedLayer> = Vec::new();
        for layer in &self.layers {
            let mut trees: Trees = Vec::new();
            for (only, tree) in &layer.trees {
                let mut made: Trees = Vec::new();
                for platform in platforms.iter().filter(|it| only.as_ref().is_none_or(|only| only == *it)) {
                    let is_there = |only: &Option<Platform>| only.as_ref().is_none_or(|only| only == platform);
                    let beneath = laid.iter().flat_map(|layer| layer.trees.iter().filter(|(only, _)| is_there(only)));
                    let layers = beneath.map(|(_, tree)| tree).collect();
                    let (mut tree, useless) = tree.over(&Below { base: base(platform), layers })?;
                    for name in useless {
                        tracing::warn!("remove: /{} is not there for {platform}", name.path().display());
                    }
                    if let Some(time) = layer.time {
                        tree.settle_times(time);
                    }
                    made.push((Some(platform.clone()), tree));
                }
                match made.first() {
                    Some((_, first)) if only.is_none() && made.iter().all(|(_, tree)| tree == first) => {
                        made.truncate(1);
                        made[0].0 = None;
                    }
                    _ => {}
                }
                trees.append(&mut made);
            }
            laid.push(PlannedLayer { trees, ..layer.clone() });
        }
        Ok(Plan { layers: laid, ..self.clone() })
    }

    /// The layers in order.
    pub fn layers(&self) -> &[PlannedLayer] {
        &self.layers
    }

    /// The image's time, in seconds since 1970.
    pub fn created(&self) -> i64 {
        self.created
    }
}

/// Decides what every layer will hold. Reads names and metadata, not contents.
///
/// Over a base, entries are as the definition has them; [`Plan::over`] lays them over it.
pub fn plan(definition: &Definition, inputs: &Inputs) -> Result<Plan, Error> {
    let mut layers = Vec::new();
    // Looking at a hundred thousand files takes as long as reading them does, and no layer waits for another.
    let trees = definition.layers.par_iter().enumerate().map(|(number, described)| trees(described, number, inputs));
    let trees: Vec<Result<Trees, Error>> = trees.collect();
    for (number, (described, trees)) in definition.layers.iter().zip(trees).enumerate() {
        let trees = trees?;
        if is_of_packages(described) {
            layers.extend(parts(described, number, inputs)?);
            continue;
        }
        let identity = catalog_identity(described, inputs);
        layers.push(PlannedLayer { name: described.name.clone(), identity, time: None, trees });
    }
    let youngest = layers.iter().flat_map(|layer| &layer.trees).filter_map(|(_, tree)| tree.youngest()).max();
    let created = inputs.epoch.or(inputs.catalog.as_ref().map(|catalog| catalog.taken)).or(youngest).unwrap_or(0);
    let plan = Plan { layers, created, epoch: inputs.epoch };
    match definition.base {
        Base::Scratch => Ok(plan.over(&inputs.platforms, |_| None)?),
        Base::Image(_) => Ok(plan),
    }
}

/// A tree for all platforms, or one for each.
type Trees = Vec<(Option<Platform>, Tree)>;

/// What a layer will hold; nothing yet for one of packages.
fn trees(described: &LayerDefinition, number: usize, inputs: &Inputs) -> Result<Trees, Error> {
    let platforms: Vec<Option<&Platform>> = match described.binary {
        _ if is_of_packages(described) => Vec::new(),
        Some(_) => inputs.platforms.iter().map(Some).collect(),
        None => vec![None],
    };
    let tree = |platform: Option<&Platform>| Ok((platform.cloned(), tree_of(described, number, platform, inputs)?));
    platforms.into_iter().map(tree).collect()
}

fn is_of_packages(described: &LayerDefinition) -> bool {
    described.packages.is_some() || described.kernels.is_some()
}

/// What a layer of the catalog follows from: what the catalog says, not when it was asked. Of a layer with more in it, all
/// counts.
fn catalog_identity(described: &LayerDefinition, inputs: &Inputs) -> Option<Digest> {
    let catalog = described.catalog.as_ref()?;
    let alone = LayerDefinition { name: described.name.clone(), catalog: Some(catalog.clone()), ..Default::default() };
    let digest = inputs.annotations.get(CATALOG_DIGEST).filter(|_| *described == alone)?;
    Some(Digest::sha256(format!("{digest} {} {}", catalog.tree, catalog.db)))
}

/// The layers that a layer of packages becomes. What else the definition puts into it is in the last one.
fn parts(described: &LayerDefinition, number: usize, inputs: &Inputs) -> Result<Vec<PlannedLayer>, Error> {
    let parts = inputs.parts.get(&number).ok_or(Error::NoPackages { layer: number })?;
    let mut layers = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let mut tree = part.tree.clone();
        if !parts[at + 1..].iter().any(|later| later.platform == part.platform) {
            // A link stands for what would be chosen of several; a package that brings that name has chosen.
            let own = parts.iter().filter(|other| other.platform == part.platform);
            let mut described = described.clone();
            described.links.retain(|dest, _| !own.clone().any(|own| own.tree.holds(dest)));
            tree.merge(tree_of(&described, number, part.platform.as_ref(), inputs)?)?;
        }
        // Everything has a time, so that the layer is the same in every image.
        let time = tree.youngest().unwrap_or(0);
        tree.settle_times(time);
        let name = part.name.clone().or_else(|| described.name.clone());
        let trees = vec![(part.platform.clone(), tree)];
        layers.push(PlannedLayer { name, identity: None, time: Some(time), trees });
    }
    Ok(layers)
}

fn tree_of(
    described: &LayerDefinition,
    number: usize,
    platform: Option<&Platform>,
    inputs: &Inputs,
) -> Result<Tree, Error> {
    let mut tree = Tree::default();
    for directory in &described.directories {
        let Some(src) = &directory.src else {
            // Without a word about it, one that is there below stays as it is.
            let is_plain = directory.mode.is_none() && (directory.uid, directory.gid) == (0, 0);
            let kind = if is_plain { Kind::Parent } else { Kind::Directory };
            let mode = directory.mode.unwrap_or(0o755);
            let node = Node { uid: directory.uid, gid: directory.gid, ..Node::new(kind, mode) };
            tree.insert(&directory.dest, node)?;
            continue;
        };
        let overrides = Overrides {
            uid: directory.uid,
            gid: directory.gid,
            file_mode: directory.file_mode,
            directory_mode: directory.mode,
            forget_times: false,
        };
        tree.add_directory(&fs::join_inside(&inputs.directory, src)?, &directory.dest, &overrides)?;
    }
    if let Some(target) = &described.catalog {
        let catalog = inputs.catalog.as_ref().ok_or(Error::NoCatalog { layer: number })?;
        // What the umask and the hour of writing made of them is no part of the catalog.
        let overrides = Overrides {
            file_mode: Some(0o644),
            directory_mode: Some(0o755),
            forget_times: true,
            ..Overrides::default()
        };
        tree.add_directory(&catalog.tree, &target.tree, &overrides)?;
        tree.add_file(&catalog.db, &target.db, Some(0o644))?.mtime = None;
    }
    if let (Some(dest), Some(platform)) = (&described.binary, platform) {
        let Some(binary) = inputs.binaries.get(platform) else {
            return Err(Error::NoBinary { platform: platform.clone() });
        };
        // The same program is the same layer, wherever and whenever it was copied to.
        let node = tree.add_file(binary, dest, Some(0o755))?;
        (node.mtime, node.xattrs) = (None, BTreeMap::new());
    }
    if let Some(dest) = &described.ca_roots {
        tree.insert(dest, Node::new(Kind::Bytes(roots::pem()), 0o644))?;
    }
    for file in &described.files {
        let node = match (&file.src, &file.text) {
            (Some(src), _) => tree.add_file(&fs::join_inside(&inputs.directory, src)?, &file.dest, file.mode)?.clone(),
            (None, text) => {
                let bytes = text.clone().unwrap_or_default().into_bytes();
                let kind = if file.yields { Kind::Yielding(bytes) } else { Kind::Bytes(bytes) };
                Node::new(kind, file.mode.unwrap_or(0o644))
            }
        };
        tree.insert(&file.dest, Node { uid: file.uid, gid: file.gid, ..node })?;
    }
    for (dest, target) in described.packages.iter().flat_map(|packages| &packages.merge) {
        // As distributions have it, so that it works below another root, too.
        let is_top = dest.matches('/').count() == 1;
        let target = if is_top { target.trim_start_matches('/') } else { target };
        // A base that has directories there keeps them, with its own libraries in them.
        tree.insert(dest, Node::new(Kind::Merge(target.into()), 0o777))?;
    }
    for (dest, target) in &described.links {
        tree.insert(dest, Node::new(Kind::Symlink(target.into()), 0o777))?;
    }
    for dest in &described.remove {
        tree.insert(dest, Node::new(Kind::Whiteout, 0))?;
    }
    Ok(tree)
}

/// The annotation that says what is in the catalog of an image, as one digest.
pub const CATALOG_DIGEST: &str = "io.haversack.catalog.digest";
/// The annotation that says when the catalog of an image was taken.
pub const CATALOG_TAKEN: &str = "io.haversack.catalog.taken";

/// Where `/proc` says the running program is: the binary for its own platform.
pub fn running_program() -> io::Result<PathBuf> {
    std::fs::read_link(SELF).map(|_| PathBuf::from(SELF))
}

/// The link is opened, not followed by name: it leads to the running program even if its file was replaced meanwhile.
const SELF: &str = "/proc/self/exe";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_link_yields_to_what_a_package_brings_of_its_name() {
        let text = "name = 'x'\n[[layers]]\npackages = { rpm = ['gawk'] }\nlinks = { '/usr/bin/awk' = 'mawk', '/usr/bin/cc' = 'gcc' }\n";
        let definition = Definition::parse(Path::new("image.toml"), text).unwrap();
        let link = |to: &str| Node::new(Kind::Symlink(to.into()), 0o777);
        let mut tree = Tree::default();
        tree.insert("/usr/bin/awk", link("gawk")).unwrap();
        let part = Part { name: None, platform: None, tree, components: Vec::new() };
        let platforms = vec!["linux/amd64".parse().unwrap()];
        let inputs = Inputs { platforms, parts: BTreeMap::from([(0, vec![part])]), ..Inputs::default() };
        let planned = plan(&definition, &inputs).unwrap();
        let (_, tree) = &planned.layers()[0].trees[0];
        let links = tree.nodes().filter_map(|(path, node)| match &node.kind {
            Kind::Symlink(to) => Some((path.display().to_string(), to.display().to_string())),
            _ => None,
        });
        let expected =
            [("usr/bin/awk", "gawk"), ("usr/bin/cc", "gcc")].map(|(one, to)| (one.to_owned(), to.to_owned()));
        assert_eq!(links.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = Inputs {
            directory: dir.path().to_owned(),
            platforms: vec!["linux/amd64".parse().unwrap()],
            ..Inputs::default()
        };
        for (layer, expected) in [
            ("binary = '/x'", "no haversack binary for linux/amd64".to_owned()),
            (
                "catalog = { tree = '/t', db = '/d' }",
                "layers[0] holds the certified catalog, and none was given".into(),
            ),
            (
                "files = [{ src = '../x', dest = '/x' }]",
                "`../x` is not a path inside the definition's directory".into(),
            ),
            ("files = [{ src = 'x', dest = '/x' }]", format!("cannot read {}", dir.path().join("x").display())),
        ] {
            let text = format!("name = 'x'\n[[layers]]\n{layer}");
            let definition = Definition::parse(Path::new("image.toml"), &text).unwrap();
            assert_eq!(plan(&definition, &inputs).unwrap_err().to_string(), expected);
        }
    }
}
