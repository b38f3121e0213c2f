//! What an image would hold, without building it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::image::build::plan::Plan;
use crate::image::layer::tree::{Kind, Node};
use crate::image::{Definition, Inputs, Platform};
use crate::progress::{Unit, amount};

/// One image that would be built.
#[derive(Serialize)]
pub struct Explained {
    name: String,
    platforms: Vec<Platform>,
    layers: Vec<ExplainedLayer>,
}

#[derive(Serialize)]
struct ExplainedLayer {
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    bytes: u64,
    entries: Vec<ExplainedEntry>,
}

#[derive(Serialize)]
struct ExplainedEntry {
    path: PathBuf,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    uid: u64,
    gid: u64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<PathBuf>,
}

impl Explained {
    /// An image with its layers and their entries, a line each.
    pub fn to_text(&self) -> String {
        let platforms: Vec<String> = self.platforms.iter().map(Platform::to_string).collect();
        let mut text = format!("{} for {}\n", self.name, platforms.join(", "));
        for (number, layer) in self.layers.iter().enumerate() {
            let name = layer.name.as_deref().unwrap_or("layer");
            let only = layer.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
            let _ = writeln!(text, "  {} {name}{only}: {}", number + 1, amount(layer.bytes, Unit::Bytes));
            for entry in &layer.entries {
                let target = entry.target.as_ref().map(|to| format!(" -> {}", to.display())).unwrap_or_default();
                let ExplainedEntry { kind, mode, uid, gid, size, path, .. } = entry;
                let _ = writeln!(text, "    {kind:9} {mode:>4} {uid}:{gid} {size:>10} {}{target}", path.display());
            }
        }
        text
    }
}

/// Lists what an image would hold.
pub fn explain(definition: &Definition, inputs: &Inputs, plan: &Plan) -> Explained {
    let layers = plan.layers().iter().flat_map(|layer| {
        layer.trees.iter().map(|(platform, tree)| ExplainedLayer {
            name: layer.name.clone(),
            platform: platform.clone(),
            bytes: tree.size(),
            entries: tree.nodes().map(|(path, node)| ExplainedEntry::new(&path, node)).collect(),
        })
    });
    Explained { name: definition.name.clone(), platforms: inputs.platforms.clone(), layers: layers.collect() }
}

impl ExplainedEntry {
    fn new(path: &Path, node: &Node) -> Self {
        let (kind, target) = match &node.kind {
            Kind::Directory => ("directory", None),
            Kind::Parent => ("parent", None),
            Kind::Opaque => ("emptied", None),
            Kind::Bytes(_) | Kind::Yielding(_) | Kind::File { .. } | Kind::Slice(_) => ("file", None),
            Kind::Symlink(target) | Kind::Merge(target) => ("link", Some(target.clone())),
            Kind::HardLink(target) => ("hardlink", Some(Path::new("/").join(target))),
            Kind::Whiteout => ("removed", None),
        };
        ExplainedEntry {
            path: Path::new("/").join(path),
            kind,
            mode: format!("{:o}", node.mode),
            uid: node.uid,
            gid: node.gid,
            size: node.size(),
            target,
        }
    }
}
