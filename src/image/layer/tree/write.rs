//! A tree on its way into a tar.

use std::io::{self, Write};

use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::fs::PathContext;
use crate::image::layer::pax::{Meta, TarWriter};
use crate::image::layer::sparse::SparseReader;
use crate::image::layer::tree::{Error, Kind, Tree};
use crate::image::layer::{Layer, LayerOptions, LayerWriter};
use crate::image::name::Name;
use crate::progress::Task;

impl Tree {
    /// Writes the layer. Times after `clamp` become `clamp`; what has no time of its own gets `created`.
    pub fn write<W: Write>(
        &self,
        inner: W,
        options: &LayerOptions,
        created: i64,
        clamp: Option<i64>,
        task: &Task,
    ) -> Result<(Layer, W), Error> {
        let mut layer = LayerWriter::new(inner, options).at("start", OUT)?;
        self.write_entries(&mut layer, created, clamp, task)?;
        layer.finish().at("finish", OUT).map_err(Into::into)
    }

    /// The digest that the uncompressed layer would have.
    pub fn diff_id(&self, created: i64, clamp: Option<i64>, task: &Task) -> Result<Digest, Error> {
        let mut tar = TarWriter::new(HashingWriter::new(io::sink(), Algorithm::Sha256));
        self.write_entries(&mut tar, created, clamp, task)?;
        Ok(tar.finish().at("finish", OUT)?.finish().0)
    }

    fn write_entries<W: Write>(
        &self,
        layer: &mut TarWriter<W>,
        created: i64,
        clamp: Option<i64>,
        task: &Task,
    ) -> Result<(), Error> {
        for (path, node) in self.nodes() {
            let path = &path;
            let mtime = node.mtime.map_or(created, |mtime| clamp.map_or(mtime, |clamp| mtime.min(clamp)));
            let meta = Meta { mode: node.mode, uid: node.uid, gid: node.gid, mtime, xattrs: node.xattrs.clone() };
            match &node.kind {
                Kind::Directory | Kind::Parent => layer.directory(path, &meta).at("write", OUT)?,
                Kind::Opaque => {
                    layer.directory(path, &meta).at("write", OUT)?;
                    layer.opaque(path, mtime).at("write", OUT)?;
                }
                Kind::Bytes(bytes) | Kind::Yielding(bytes) => {
                    layer.file(path, &meta, bytes.len() as u64, task.reading(&bytes[..])).at("write", OUT)?;
                }
                Kind::File { source, size } => {
                    let file = SparseReader::new(crate::fs::open_file(source)?).at("open", source)?;
                    layer.file(path, &meta, *size, task.reading(file)).at("pack", source)?;
                }
                Kind::Slice(slice) => {
                    layer.file(path, &meta, slice.size(), task.reading(slice.reader())).at("pack", path)?;
                }
                Kind::Symlink(target) | Kind::Merge(target) => layer.symlink(path, &meta, target).at("write", OUT)?,
                Kind::HardLink(target) => {
                    if !self.nodes.get(&Name::new(target)).is_some_and(|node| node.kind.is_file()) {
                        return Err(Error::LostTarget { path: path.clone(), target: target.clone() });
                    }
                    layer.hard_link(path, &meta, target).at("write", OUT)?;
                }
                Kind::Whiteout => layer.whiteout(path, mtime).at("write", OUT)?,
            }
        }
        Ok(())
    }
}

/// For errors of what has no name yet.
const OUT: &str = "the layer";
