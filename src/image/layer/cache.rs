//! Layers that are written once for all images that have them.

use std::sync::{Arc, Mutex};

use crate::digest::Digest;
use crate::image::Tree;
use crate::image::layer::{Layer, LayerOptions, tree};
use crate::progress::Task;

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
