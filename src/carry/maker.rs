//! Which encoder made a blob: what decides whether it is taken apart, and what `inspect --encoder` says.

use std::io::{self, Read, Write};

use oci_spec::image::Descriptor;
use rayon::prelude::*;
use serde::Serialize;

use crate::carry::Error;
use crate::carry::parts::Parts;
use crate::carry::table::Packing;
use crate::compression::encode::{Budget, Outcome, find_watched};
use crate::compression::{Compression, Encoder};
use crate::digest::Digest;
use crate::fs;
use crate::image::manifest;
use crate::image::store::layout::{self, Layout};
use crate::progress::{Progress, Unit};

/// Who made a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerEncoder {
    /// The layer.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// The class of the encoder that makes these bytes again, every one (`pgzip-b-1m`, `go-6`); `tar` for a layer without
    /// compression, `zstd` for one of haversack's own; `None` where none is known that does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// Why none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Says of each layer in the images that a layout lists who made it, in the order in which images name them.
///
/// Each layer is made again to know it: this costs as much as packing them. The second list has the layers that are not in
/// the layout, as they may not be distributed.
pub fn encoders(
    layout: &Layout,
    images: &[Descriptor],
    budget: &Budget,
    progress: &Progress,
) -> Result<(Vec<LayerEncoder>, Vec<Digest>), Error> {
    let Parts { blobs, left_out, .. } = Parts::of(layout, images)?;
    let layers: Vec<Descriptor> = blobs.into_iter().filter(|blob| manifest::is_layer(blob.media_type())).collect();
    let total = layers.iter().map(Descriptor::size).fold(0, u64::saturating_add);
    let task = progress.task("looking for encoders", Unit::Bytes, Some(total));
    let name = |layer: &Descriptor| -> Result<LayerEncoder, Error> {
        let Maker { packing, made, reason, .. } = Maker::find(layout, layer, budget, &mut |_| ())?;
        task.add(layer.size());
        let digest = layout::digest_of(layer).map_err(layout::Error::from)?;
        Ok(LayerEncoder { digest, size: layer.size(), encoder: packing.is_some().then_some(made), reason })
    };
    let named = threads()?.install(|| layers.par_iter().map(name).collect::<Result<_, Error>>())?;
    Ok((named, left_out))
}

/// Threads that look for encoders. Each may hold a gzip file of a layer with its plain bytes, whatever the number of cores.
pub(super) fn threads() -> Result<rayon::ThreadPool, Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(rayon::ThreadPoolBuilder::new().num_threads(cores.min(4)).build().map_err(io::Error::other)?)
}

/// What makes a blob of a tar, or that nothing does.
pub(super) struct Maker {
    /// How, and how many plain bytes there are at most.
    pub(super) packing: Option<(Packing, u64)>,
    /// What it is called; `whole` where nothing does.
    pub(super) made: String,
    /// Why nothing does, where that was to be expected.
    pub(super) reason: Option<String>,
    /// Whether `plain` was given exactly the tar.
    pub(super) is_given: bool,
}

impl Maker {
    /// Tries the encoders that there are. The blob's digest is checked, too. `plain` is given the tar on the way, where that is
    /// known to be worth it: decompressing once more would cost as much as all hashing does.
    pub(super) fn find(
        layout: &Layout,
        described: &Descriptor,
        budget: &Budget,
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<Self, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        // Whoever takes it apart may stop before its end, where its digest is found to be wrong.
        let mut blob = layout.open_blob(described)?;
        let mut start = Vec::new();
        blob.by_ref().take(6).read_to_end(&mut start)?;
        io::copy(&mut blob, &mut io::sink())?;
        let is_layer = manifest::is_layer(described.media_type());
        let whole = |reason| Maker { packing: None, made: "whole".to_owned(), reason, is_given: false };
        let made = |packing, made: String| Maker { packing: Some(packing), made, reason: None, is_given: false };
        Ok(match Compression::detect(&start) {
            Compression::Gzip => match find_watched(fs::open_regular(&layout.blob_path(&digest))?, budget, plain)? {
                (Outcome::Found(recipe), is_given) => {
                    let first = recipe.members.first().map(|member| member.class.to_string());
                    let packing = (Packing::Gzip(recipe.to_bytes()), recipe.plain_size());
                    Maker { is_given, ..made(packing, first.unwrap_or_default()) }
                }
                (Outcome::Not(reason), _) => whole(Some(reason.to_string())),
            },
            Compression::Zstd => match our_zstd(layout, described)? {
                Some(packing) => made((packing, u64::MAX), "zstd".to_owned()),
                None => whole(Some("zstd of another program or version".to_owned())),
            },
            Compression::None if is_layer => made((Packing::None, described.size()), "tar".to_owned()),
            Compression::None => whole(None),
            other => whole(Some(format!("compressed in another way: {other:?}"))),
        })
    }
}

/// Whether our own encoder makes these bytes, at the level that is its default.
fn our_zstd(layout: &Layout, described: &Descriptor) -> Result<Option<Packing>, Error> {
    let blob = io::BufReader::with_capacity(128 << 10, layout.open_blob(described)?);
    let Ok((_, mut plain)) = crate::compression::decoder(blob) else { return Ok(None) };
    let there = io::BufReader::with_capacity(128 << 10, layout.open_blob(described)?);
    let mut encoder = Encoder::new(Same(there), Compression::Zstd, Some(ZSTD_LEVEL.into()))?;
    let same = io::copy(&mut plain, &mut encoder).and_then(|_| encoder.finish());
    let is_same = match same {
        Ok(mut rest) => rest.0.read(&mut [0])? == 0,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => false,
        Err(error) => return Err(error.into()),
    };
    let library = zstd::zstd_safe::version_number();
    Ok(is_same.then_some(Packing::Zstd { level: ZSTD_LEVEL, library }))
}

/// Fails at the first byte that is not that of a reader.
struct Same<R>(R);

impl<R: Read> Write for Same<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        let is_same = self.0.read_exact(&mut there).is_ok() && there == bytes;
        if is_same { Ok(bytes.len()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The level that our own layers are written with.
const ZSTD_LEVEL: u8 = 3;
