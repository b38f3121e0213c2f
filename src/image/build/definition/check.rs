//! What can be seen to be wrong with a definition before anything is read for it.

use std::collections::HashSet;
use std::path::Path;

use crate::image::build::definition::{Definition, LayerDefinition};
use crate::reference;

/// The first thing in a definition that cannot be.
pub(super) fn problem(definition: &Definition) -> Option<String> {
    let Definition { name, tags, env, layers, .. } = definition;
    if format!("localhost/{name}").parse::<reference::Remote>().is_err() || name.contains([':', '@']) {
        return Some(format!("name: `{name}` is no repository's name"));
    }
    if let Some(tag) = tags.iter().find(|tag| !reference::is_tag(tag)) {
        return Some(format!("tags: `{tag}` is no tag"));
    }
    if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains('=')) {
        return Some(format!("env: `{name}` is no variable's name"));
    }
    let mut numbered = layers.iter().enumerate();
    numbered.find_map(|(number, layer)| Some(format!("layers[{number}]{}", of_layer(layer)?)))
}

fn of_layer(layer: &LayerDefinition) -> Option<String> {
    if let Some(file) = layer.files.iter().find(|file| file.src.is_some() == file.text.is_some()) {
        return Some(format!(".files: {}: give either `src` or `text`", file.dest));
    }
    if let Some(file) = layer.files.iter().find(|file| file.yields && file.text.is_none()) {
        return Some(format!(".files: {}: `yields` is for files with `text`", file.dest));
    }
    if let Some(kernels) = &layer.kernels {
        let inside = |list: &String, dest: &String| Path::new(list).starts_with(dest) && list != dest;
        match (&kernels.dest, &kernels.list) {
            (None, Some(_)) => return Some(".kernels: `list` goes with `dest`".into()),
            (None, None) if kernels.unpacked => return Some(".kernels: `unpacked` goes with `dest`".into()),
            (Some(dest), Some(list)) if !inside(list, dest) => {
                return Some(format!(".kernels: `list` is a file in {dest}, beside what it lists"));
            }
            _ => {}
        }
    }
    // What takes a name for itself, and what may share it with others.
    let files = layer.files.iter().map(|file| &file.dest);
    let empty = layer.directories.iter().filter(|directory| directory.src.is_none()).map(|directory| &directory.dest);
    let catalog = layer.catalog.iter().flat_map(|catalog| [&catalog.tree, &catalog.db]);
    let list = layer.kernels.iter().flat_map(|kernels| &kernels.list);
    let single = layer.binary.iter().chain(&layer.ca_roots).chain(catalog).chain(list);
    let own: Vec<&String> = files.chain(empty).chain(layer.links.keys()).chain(single).chain(&layer.remove).collect();
    let merged = layer
        .packages
        .iter()
        .flat_map(|packages| packages.merge.iter().flat_map(|(from, to)| [from, to]).chain(&packages.exclude));
    let kernels = layer.kernels.iter().flat_map(|kernels| &kernels.dest);
    let filled = layer.directories.iter().filter(|directory| directory.src.is_some()).map(|directory| &directory.dest);
    let shared = merged.chain(kernels).chain(filled);
    let mut names = own.iter().copied().chain(shared);
    if let Some(name) = names.find(|name| !name.starts_with('/')) {
        return Some(format!(": `{name}` does not start with a slash"));
    }
    let mut seen = HashSet::new();
    if let Some(name) = own.iter().find(|name| !seen.insert(name.trim_end_matches('/'))) {
        return Some(format!(": `{name}` is in it twice"));
    }
    if let Some((name, _)) = layer.links.iter().find(|(_, target)| target.is_empty()) {
        return Some(format!(".links: {name}: it leads nowhere"));
    }
    (*layer == LayerDefinition { name: layer.name.clone(), ..LayerDefinition::default() })
        .then(|| ": nothing is in it".to_owned())
}
