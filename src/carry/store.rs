//! Contents, decompressed, and the blobs that are made of them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use oci_spec::image::MediaType;

use crate::carry::contents::{Chained, Recent};
use crate::carry::import::frame_path;
use crate::carry::skeleton::{Joined, Skeleton};
use crate::carry::table::{self, Blob, Form, Packing, Table};
use crate::carry::{Error, Lookup};
use crate::compression::encode::GzipRecipe;
use crate::compression::{Compression, Encoder, LimitedReader};
use crate::fs::{self, PathContext, Slice};
use crate::image::store::layout::{BlobWriter, Layout, descriptor};
use crate::progress::Task;

/// Contents, decompressed, and what is made of them.
pub(super) struct Store {
    pub(super) table: Table,
    /// Contents that were held, in order.
    held: Vec<Slice>,
    /// Of each content with bytes of its own, where it begins in its frame.
    starts: Vec<u64>,
    /// Of each frame, its first content, and its file.
    frames: Vec<(usize, Arc<File>)>,
    recent: Recent,
}

impl Store {
    /// Opens the decompressed frames in a directory.
    pub(super) fn open(work: &Path, table: Table, held: Vec<Slice>) -> Result<Self, Error> {
        let (firsts, starts) = table.places();
        let mut frames = Vec::new();
        for (number, (at, first)) in (1_u64..).zip(firsts.iter().enumerate()) {
            let path = frame_path(work, number);
            let file = fs::open_regular(&path)?;
            if file.metadata().at("read", &path)?.len() != table.frame_bytes(&firsts, at) {
                return Err(Error::Odd {
                    what: "a frame",
                    why: "its contents have another length than the table says",
                });
            }
            frames.push((*first, Arc::new(file)));
        }
        Ok(Store { table, held, starts, frames, recent: Recent::default() })
    }

    /// Some contents, one after another.
    pub(super) fn chained<'a>(self: &Arc<Self>, refs: &'a [u32]) -> impl Read + use<'a> {
        let store = self.clone();
        Chained::new(refs.iter().copied(), move |content| store.open(content))
    }

    /// Makes a blob, unless it is there. Returns whether it was made.
    pub(super) fn blob(self: &Arc<Self>, blob: &Blob, layout: &Layout, task: &Task) -> Result<bool, Error> {
        if layout.holds(&blob.digest, blob.size) {
            task.add(blob.size);
            return Ok(false);
        }
        let mut writer = Limited { left: blob.size, inner: layout.blob_writer(blob.digest.algorithm())?, task };
        let made = self.write(blob, &mut writer);
        let wrong = |source: io::Error| Error::Blob { digest: blob.digest.clone(), source };
        made.map_err(|error| match error {
            Error::Io(source) => wrong(source),
            error => wrong(io::Error::other(error)),
        })?;
        let described = descriptor(MediaType::Other(String::new()), &blob.digest, blob.size);
        writer.inner.finish_expecting(&described)?;
        Ok(true)
    }

    fn write(self: &Arc<Self>, blob: &Blob, out: &mut Limited<'_>) -> Result<(), Error> {
        match &blob.form {
            Form::Whole(refs) => {
                io::copy(&mut self.chained(refs), out)?;
            }
            Form::Tar { skeleton, plain, packing } => {
                let mut bytes = Vec::new();
                self.chained(skeleton).take(SKELETON).read_to_end(&mut bytes)?;
                let tar = LimitedReader::new(Joined::new(Skeleton::from_bytes(&bytes)?, self.clone()), *plain);
                drop(bytes);
                match packing {
                    Packing::None => {
                        io::copy(&mut io::BufReader::with_capacity(128 << 10, tar), out)?;
                    }
                    Packing::Gzip(recipe) => {
                        let recipe = GzipRecipe::from_bytes(recipe)?;
                        recipe.rebuild(io::BufReader::with_capacity(128 << 10, tar), out)?;
                    }
                    Packing::Zstd { level, library } => {
                        if *library != zstd::zstd_safe::version_number() {
                            return Err(Error::Library(*library));
                        }
                        let mut encoder = Encoder::new(out, Compression::Zstd, Some((*level).into()))?;
                        io::copy(&mut io::BufReader::with_capacity(128 << 10, tar), &mut encoder)?;
                        encoder.finish()?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Lookup for Arc<Store> {
    fn size(&self, content: u32) -> Result<u64, Error> {
        let content = content as usize;
        if let Some(nested) = self.table.nested.get(content) {
            return Ok(nested.size);
        }
        let held = content - self.table.nested.len();
        if let Some(held) = self.held.get(held) {
            return Ok(held.size());
        }
        let stored = held - self.held.len();
        self.table
            .lengths
            .get(stored)
            .copied()
            .ok_or(Error::Odd { what: "the carry", why: "a content that is not there" })
    }

    fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error> {
        if let Some(nested) = self.table.nested.get(content as usize) {
            return nested.open(content, self, &self.recent);
        }
        let size = self.size(content)?;
        let held = content as usize - self.table.nested.len();
        if let Some(held) = self.held.get(held) {
            return Ok(Box::new(held.reader()));
        }
        let stored = held - self.held.len();
        let frame = self.frames.partition_point(|(first, _)| *first <= stored) - 1;
        Ok(Box::new(Slice::of(self.frames[frame].1.clone(), self.starts[stored], size).reader()))
    }
}

/// Takes no more than a blob has bytes: what is wrong must not fill the disk.
struct Limited<'a> {
    inner: BlobWriter<'a>,
    left: u64,
    /// Is told what comes out.
    task: &'a Task,
}

impl io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "more bytes come out than the blob has"))?;
        self.inner.write_all(bytes)?;
        self.task.add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads the table of a carry whose first frame is there.
pub(super) fn table(work: &Path) -> Result<Table, Error> {
    Table::from_bytes(&fs::read(&frame_path(work, 0), table::MOST)?)
}

/// Bytes of a skeleton, at most: what the side that packs lets one have, and its numbers as they are written.
pub(super) const SKELETON: u64 = 96 << 20;
