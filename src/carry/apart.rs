//! Blobs, taken apart: which encoder made each, its skeleton, its contents; and the proof that it comes back.
//!
//! A layer is decompressed once: what the search for its encoder reads is split on another thread meanwhile, as long as the first
//! encoder that seems right is the one.

use std::io::{self, Read};
use std::sync::mpsc::Receiver;

use oci_spec::image::Descriptor;
use twox_hash::XxHash3_128;

use crate::carry::Error;
use crate::carry::contents::{Contents, Taker};
use crate::carry::maker::Maker;
use crate::carry::skeleton::{Joined, Sink, Skeleton};
use crate::carry::table::Packing;
use crate::compression::encode::Budget;
use crate::digest::Digest;
use crate::fs::Slice;
use crate::image::store::layout::{self, Layout};
use crate::progress::Task;

/// What takes blobs apart, each on a thread of its own.
pub(super) struct Job<'a> {
    pub(super) layout: &'a Layout,
    /// Where contents are collected.
    pub(super) contents: Contents,
    pub(super) budget: Budget,
    pub(super) task: Task,
}

/// A blob, taken apart.
pub(super) struct Taken {
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
    pub(super) form: TakenForm,
    /// What made it, see [`Maker`].
    pub(super) made: String,
    /// Why it travels as it is, where that was not to be expected.
    pub(super) reason: Option<String>,
}

/// A blob as contents, by their ids.
pub(super) enum TakenForm {
    Whole(Vec<u32>),
    /// The skeleton refers to contents by their ids, too. It waits on the disk: those of a large carry do not fit into memory together.
    Tar {
        skeleton: Slice,
        plain: u64,
        packing: Packing,
    },
}

impl Job<'_> {
    /// Takes a blob apart, if it is known how to put it together.
    pub(super) fn take_apart(&self, described: &Descriptor) -> Result<Taken, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        let size = described.size();
        let mut taker = self.contents.taker()?;
        let (maker, split) = self.find(described, &mut taker)?;
        let Maker { packing, made, reason, is_given } = maker;
        if let Some((packing, limit)) = packing {
            let split = match split {
                Some(split) if is_given => split,
                _ => self.split(&mut self.plain(described, limit)?, &mut taker)?,
            };
            let skeleton = split.skeleton.to_bytes(|id| id);
            if self.comes_back(&skeleton, &split.print)? {
                self.task.add(size);
                let form = TakenForm::Tar { skeleton: taker.keep(&skeleton)?, plain: split.print.size, packing };
                return Ok(Taken { digest, size, form, made, reason });
            }
            // What does not come back as it was is not taken apart. It is not known to happen.
            let reason = Some("its archive did not come back as it was".to_owned());
            let refs = self.whole(described, &mut taker)?;
            return Ok(Taken { digest, size, form: TakenForm::Whole(refs), made: "whole".to_owned(), reason });
        }
        let refs = self.whole(described, &mut taker)?;
        Ok(Taken { digest, size, form: TakenForm::Whole(refs), made, reason })
    }

    /// The blob as it is, checked.
    fn whole(&self, described: &Descriptor, taker: &mut Taker<'_>) -> Result<Vec<u32>, Error> {
        let mut refs = Vec::new();
        let name = format!("\0{}", described.media_type());
        taker.content(name.as_bytes(), &mut self.layout.open_blob(described)?, &mut refs)?;
        self.task.add(described.size());
        Ok(refs)
    }

    /// Looks for a blob's encoder, and splits what is in the blob meanwhile.
    fn find(&self, described: &Descriptor, taker: &mut Taker<'_>) -> Result<(Maker, Option<Split>), Error> {
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::sync_channel(AHEAD);
            let mut taker = Some((taker, receiver));
            let mut splitter = None;
            let mut piece = Vec::with_capacity(PIECE);
            let maker = Maker::find(self.layout, described, &self.budget, &mut |plain| {
                // Most blobs are small or have no encoder, and nothing is given of them.
                if let Some((taker, receiver)) = taker.take() {
                    splitter = Some(scope.spawn(move || self.split(&mut Received::new(receiver), taker)));
                }
                piece.extend_from_slice(plain);
                if piece.len() >= PIECE {
                    // Who has failed says so in the end.
                    let _ = sender.send(std::mem::replace(&mut piece, Vec::with_capacity(PIECE)));
                }
            });
            let _ = sender.send(piece);
            drop(sender);
            let split =
                splitter.map(|splitter| splitter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            let maker = maker?;
            // A split of what turned out to be nothing has failed for nothing.
            let split = if maker.is_given { split.transpose()? } else { None };
            Ok((maker, split))
        })
    }

    /// The tar in a blob.
    fn plain(&self, described: &Descriptor, limit: u64) -> Result<impl Read, Error> {
        let blob = io::BufReader::with_capacity(128 << 10, self.layout.open_blob(described)?);
        Ok(crate::compression::decoder(blob)?.1.take(limit))
    }

    /// Splits a tar.
    fn split(&self, plain: &mut dyn Read, taker: &mut Taker<'_>) -> Result<Split, Error> {
        let mut plain = Printed::new(plain);
        let skeleton = Skeleton::split(&mut plain, taker)?;
        Ok(Split { skeleton, print: plain.print() })
    }

    /// Whether a tar comes back from a skeleton.
    fn comes_back(&self, skeleton: &[u8], print: &Print) -> Result<bool, Error> {
        let mut joined = Printed::new(Joined::new(Skeleton::from_bytes(skeleton)?, &self.contents));
        io::copy(&mut joined, &mut io::sink())?;
        Ok(joined.print() == *print)
    }
}

/// A tar that was split.
struct Split {
    skeleton: Skeleton,
    /// Of the tar.
    print: Print,
}

/// What a tar is told by within one run: XXH3, of 128 bits, is ten times as fast as SHA-256 and tells apart what a mistake of ours
/// makes. Against what others make of a carry there are the digests, which the far side compares.
#[derive(PartialEq, Eq)]
struct Print {
    hash: u128,
    /// Bytes.
    size: u64,
}

/// Takes the print of what is read.
struct Printed<R> {
    inner: R,
    hasher: XxHash3_128,
    size: u64,
}

impl<R: Read> Printed<R> {
    fn new(inner: R) -> Self {
        Printed { inner, hasher: XxHash3_128::new(), size: 0 }
    }

    fn print(&self) -> Print {
        Print { hash: self.hasher.finish_128(), size: self.size }
    }
}

impl<R: Read> Read for Printed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.write(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}

/// Reads what another thread sends.
struct Received {
    from: Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Received {
    fn new(from: Receiver<Vec<u8>>) -> Self {
        Received { from, piece: io::Cursor::default() }
    }
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.from.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece),
                Err(_) => return Ok(0),
            }
        }
    }
}

/// Bytes that are handed from one thread to another at a time.
const PIECE: usize = 256 << 10;

/// How many of them may wait.
const AHEAD: usize = 4;
