//! What reads a carry's bytes, one reader each, for [`crate::readers`]: nothing else uses this.
//!
//! Sums would keep whatever was changed from all that lies behind them, so what is in frames comes without them.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::carry::document::CARRY;
use crate::carry::import::frame_path;
use crate::carry::skeleton::{Joined, Skeleton};
use crate::carry::store::Store;
use crate::carry::table::Table;
use crate::carry::volume::Volume;
use crate::carry::{CarryDocument, Error, Lookup, Receipt};
use crate::compression::encode::GzipRecipe;
use crate::fs::{self, Slice, Spool};
use crate::image::Layout;
use crate::progress::{Progress, Unit};

/// `carry.json` in a directory, and a receipt, which is JSON as well.
pub(crate) fn document(directory: &Path, bytes: &[u8]) -> Result<(), Error> {
    let path = directory.join(CARRY);
    put(&path, bytes)?;
    let read = CarryDocument::read(directory, None).map(|carry| carry.lacking(None).len());
    Receipt::read(&path).map(drop).or(read.map(drop))
}

/// A volume: what it lists, its frames, and where it is damaged.
pub(crate) fn volume(directory: &Path, bytes: &[u8]) -> Result<(), Error> {
    let path = directory.join("volume-001.zst");
    put(&path, bytes)?;
    let volume = Volume::open(&path)?;
    for frame in &volume.listing.frames {
        let decoder = zstd::stream::read::Decoder::new(volume.frame(frame))?.single_frame();
        let _ = io::copy(&mut decoder.take(READ), &mut io::sink());
    }
    volume.damaged().map(drop)
}

/// The skeleton of a tar whose contents all are one byte.
pub(crate) fn skeleton(bytes: &[u8]) -> Result<(), Error> {
    io::copy(&mut Joined::new(Skeleton::from_bytes(bytes)?, Byte).take(READ), &mut io::sink())?;
    Ok(())
}

/// How a gzip file is made, of zeros as many as it asks for.
pub(crate) fn recipe(bytes: &[u8]) -> Result<(), Error> {
    let recipe = GzipRecipe::from_bytes(bytes)?;
    let plain = recipe.plain_size().min(READ);
    Ok(recipe.rebuild(io::repeat(0).take(plain), io::sink())?)
}

/// The table of a carry, what it is built on, and its frames, all decompressed: everything is made that can be.
///
/// `bytes` is a sequence of parts, each after its length in four bytes, little-endian: the table, contents that are held
/// (all in one), the frames.
pub(crate) fn parts(directory: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut rest = bytes;
    let mut part = || -> &[u8] {
        let Some((length, after)) = rest.split_first_chunk::<4>() else { return &[] };
        let (part, after) = after.split_at(after.len().min(u32::from_le_bytes(*length) as usize));
        rest = after;
        part
    };
    let table = Table::from_bytes(part())?;
    if table.frames.len() > FRAMES {
        return Ok(());
    }
    let mut writer = Spool::new(directory).writer()?;
    writer.append(part())?;
    let all = writer.slice(0)?;
    // As many as the table says, of equal lengths.
    let number = table.held().min(all.size());
    let held: Vec<Slice> = match all.size().checked_div(number) {
        None => Vec::new(),
        Some(each) => (0..number).map(|place| all.part(place * each, each)).collect(),
    };
    for number in 1..=table.frames.len() as u64 {
        put(&frame_path(directory, number), part())?;
    }
    let layout = Layout::create(&directory.join("layout"))?;
    let blobs = table.blobs.clone();
    let store = Arc::new(Store::open(directory, table, held)?);
    let task = Progress::off().task("", Unit::Bytes, None);
    for blob in blobs.iter().filter(|blob| blob.size <= READ) {
        let _ = store.blob(blob, &layout, &task);
    }
    Ok(())
}

/// Without waiting for the disk, as [`fs::write`] does.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    Ok(fs::create_new(path)?.write_all(bytes)?)
}

/// One byte, under any number.
struct Byte;

impl Lookup for Byte {
    fn size(&self, _: u32) -> Result<u64, Error> {
        Ok(1)
    }

    fn open(&self, _: u32) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(&b"a"[..]))
    }
}

/// Bytes that are made of anything.
const READ: u64 = 1 << 20;

/// Frames of a carry that are written to files.
const FRAMES: usize = 16;
