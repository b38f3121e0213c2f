//! Writes one layer: a tar, compressed and hashed while it flows.
//!
//! ```text
//! entries ─► tar ─► SHA-256: diff id ─► compressor ─► SHA-256: digest, size ─► the writer underneath
//! ```
//!
//! See [`pax`](crate::image::layer::pax) for the tar.

pub mod cache;
pub mod pax;
pub mod rootfs;
pub mod roots;
pub(crate) mod sparse;
pub mod tree;

pub use cache::LayerCache;
pub use tree::Tree;

use std::io::{self, Write};
use std::ops::{Deref, DerefMut};

use oci_spec::image::MediaType;

use crate::compression::{Compression, Encoder};
use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::image::layer::pax::TarWriter;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerOptions {
    /// The compressor: zstd, gzip or none.
    pub compression: Compression,
    /// The compressor's own scale, `None` for its default.
    pub level: Option<i32>,
}

impl Default for LayerOptions {
    fn default() -> Self {
        LayerOptions { compression: Compression::Zstd, level: None }
    }
}

impl LayerOptions {
    /// The compressor of that name, at a level that it has.
    pub fn parse(compressor: &str, level: Option<i32>) -> Result<Self, String> {
        let compression = match compressor {
            "zstd" => Compression::Zstd,
            "gzip" => Compression::Gzip,
            "none" => Compression::None,
            other => return Err(format!("`{other}` is not a compressor of layers: zstd, gzip or none")),
        };
        match level {
            Some(level) if compression == Compression::Gzip && level > 9 => {
                Err(format!("--level {level}: gzip has the levels 1 to 9"))
            }
            level => Ok(LayerOptions { compression, level }),
        }
    }
}

/// A layer that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Which compressor made it.
    pub media_type: MediaType,
    /// Of the compressed bytes: the blob's name.
    pub digest: Digest,
    /// Of the uncompressed tar, as the image configuration lists it.
    pub diff_id: Digest,
    /// Compressed bytes.
    pub size: u64,
    /// Uncompressed bytes.
    pub tar_size: u64,
}

/// Writes the entries of a layer in the order they are given; [`Tree`](crate::image::Tree) gives them sorted.
///
/// Entries are added by the methods of [`TarWriter`].
pub struct LayerWriter<W: Write> {
    tar: TarWriter<HashingWriter<Encoder<HashingWriter<W>>>>,
    media_type: MediaType,
}

impl<W: Write> LayerWriter<W> {
    /// Starts a layer. Compressors that no layer may have (xz, bzip2) are an error.
    pub fn new(inner: W, options: &LayerOptions) -> io::Result<Self> {
        let media_type = match options.compression {
            Compression::None => MediaType::ImageLayer,
            Compression::Gzip => MediaType::ImageLayerGzip,
            _ => MediaType::ImageLayerZstd,
        };
        let encoder = Encoder::new(HashingWriter::new(inner, Algorithm::Sha256), options.compression, options.level)?;
        Ok(LayerWriter { tar: TarWriter::new(HashingWriter::new(encoder, Algorithm::Sha256)), media_type })
    }

    /// Ends the tar and the compressed stream.
    pub fn finish(self) -> io::Result<(Layer, W)> {
        let (diff_id, tar_size, encoder) = self.tar.finish()?.finish();
        let (digest, size, inner) = encoder.finish()?.finish();
        Ok((Layer { media_type: self.media_type, digest, diff_id, size, tar_size }, inner))
    }
}

impl<W: Write> Deref for LayerWriter<W> {
    type Target = TarWriter<HashingWriter<Encoder<HashingWriter<W>>>>;

    fn deref(&self) -> &Self::Target {
        &self.tar
    }
}

impl<W: Write> DerefMut for LayerWriter<W> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tar
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::image::layer::pax::Meta;

    #[test]
    fn the_bytes_of_a_layer_are_known() {
        let write = |compression| {
            let mut writer = LayerWriter::new(Vec::new(), &LayerOptions { compression, level: None }).unwrap();
            writer.directory(Path::new("etc"), &Meta { mode: 0o755, ..Meta::default() }).unwrap();
            writer.file(Path::new("etc/x"), &Meta { mode: 0o644, ..Meta::default() }, 1, &b"x"[..]).unwrap();
            writer.whiteout(Path::new("etc/y"), 0).unwrap();
            writer.finish().unwrap().0
        };
        let plain = write(Compression::None);
        assert_eq!(plain.digest, plain.diff_id);
        assert_eq!(plain.tar_size, 6 * 512);
        for compression in [Compression::Gzip, Compression::Zstd] {
            assert_eq!(write(compression).diff_id, plain.diff_id);
            assert_eq!(write(compression), write(compression));
        }
    }
}
