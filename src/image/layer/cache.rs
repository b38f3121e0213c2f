//! Layers that are written once for all images that have them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::digest::Digest;
use crate::image::Tree;
use crate::image::layer::{Layer, LayerOptions, tree};
use crate::progress::Task;

/// Layers that were written into a layout, by what is in them.
///
/// A tree is known by its [key](Tree::key), so that none is kept, and none of some hundred thousand nodes compared with all others.
#[derive(Clone, Debug, Default)]
pub struct LayerCache {
    written: Arc<Mutex<HashMap<Digest, Layer>>>,
    /// Digests of the tars of layers that were only read.
    read: Arc<Mutex<HashMap<Digest, Digest>>>,
}

/// Where a layer is kept; nowhere when there is anything of the image's own time in it, for then it is another one in another image.
pub(crate) struct Key(Option<Digest>);

impl LayerCache {
    /// The key of a tree that is written so, with no time later than `clamp`.
    pub(crate) fn key(tree: &Tree, options: &LayerOptions, clamp: Option<i64>) -> Key {
        let told = || Digest::sha256(format!("{} {options:?} {clamp:?}", tree.key()));
        Key(tree.has_own_times().then(told))
    }

    /// The layer that was written from the same tree.
    pub(crate) fn find(&self, key: &Key) -> Option<Layer> {
        self.written.lock().expect("no holder panics").get(key.0.as_ref()?).cloned()
    }

    /// Remembers a layer.
    pub(crate) fn add(&self, key: Key, layer: &Layer) {
        if let Some(key) = key.0 {
            self.written.lock().expect("no holder panics").insert(key, layer.clone());
        }
    }

    /// [`Tree::diff_id`], read once for all images that have the layer.
    pub(crate) fn diff_id(
        &self,
        tree: &Tree,
        created: i64,
        clamp: Option<i64>,
        task: &Task,
    ) -> Result<Digest, tree::Error> {
        // However it is compressed.
        let Key(key) = LayerCache::key(tree, &LayerOptions::default(), clamp);
        let Some(key) = key else { return tree.diff_id(created, clamp, task) };
        if let Some(known) = self.read.lock().expect("no holder panics").get(&key) {
            return Ok(known.clone());
        }
        let diff_id = tree.diff_id(created, clamp, task)?;
        self.read.lock().expect("no holder panics").insert(key, diff_id.clone());
        Ok(diff_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Spool;
    use crate::image::layer::tree::{Kind, Node};

    #[test]
    fn equal_trees_have_one_key_and_whatever_differs_another() {
        let dir = tempfile::tempdir().unwrap();
        let slice = |text: &[u8]| {
            let mut writer = Spool::new(dir.path()).writer().unwrap();
            writer.append(text).unwrap();
            writer.slice(0).unwrap()
        };
        let one = slice(b"x");
        let file = |source: &str, size| Kind::File { source: source.into(), size };
        let tree = |path: &str, change: &dyn Fn(&mut Node)| {
            let mut node = Node { mtime: Some(1), ..Node::new(Kind::Slice(one.clone()), 0o644) };
            change(&mut node);
            let mut tree = Tree::default();
            tree.insert(path, node).unwrap();
            tree
        };
        let kind = |kind: Kind| move |node: &mut Node| node.kind = kind.clone();
        let trees = [
            tree("/a", &|_| {}),
            tree("/b", &|_| {}),
            tree("/a", &|node| node.mode = 0o600),
            tree("/a", &|node| node.uid = 1),
            tree("/a", &|node| node.gid = 1),
            tree("/a", &|node| node.mtime = Some(2)),
            tree("/a", &|node| drop(node.xattrs.insert("user.a".into(), b"b".to_vec()))),
            tree("/a", &|node| drop(node.xattrs.insert("user.ab".into(), Vec::new()))),
            tree("/a", &kind(Kind::Slice(slice(b"x")))),
            tree("/a", &kind(Kind::Bytes(b"x".to_vec()))),
            tree("/a", &kind(Kind::Yielding(b"x".to_vec()))),
            tree("/a", &kind(file("/x", 1))),
            tree("/a", &kind(file("/x", 2))),
            tree("/a", &kind(file("/y", 1))),
            tree("/a", &kind(Kind::Directory)),
            tree("/a", &kind(Kind::Opaque)),
            tree("/a", &kind(Kind::Parent)),
            tree("/a", &kind(Kind::Symlink("x".into()))),
            tree("/a", &kind(Kind::Merge("x".into()))),
            tree("/a", &kind(Kind::HardLink("x".into()))),
        ];
        for (at, one) in trees.iter().enumerate() {
            for (other, two) in trees.iter().enumerate() {
                assert_eq!(one.key() == two.key(), at == other, "{at} {other}");
            }
            assert_eq!(one.key(), one.clone().key());
        }
        let key = |tree: &Tree, clamp| LayerCache::key(tree, &LayerOptions::default(), clamp).0;
        assert!(key(&trees[0], None).is_some() && key(&trees[0], None) != key(&trees[0], Some(0)));
        // The image's own time would be in it.
        assert_eq!(key(&tree("/a", &|node| node.mtime = None), None), None);
    }
}
