//! Bodies of answers: bytes in memory, and parts of files that are read while they are sent.
//!
//! A blob whose bytes were not read since it was last changed is hashed while it is sent, and its last piece is held back until
//! the digest is known to be right: else the body ends early and the connection is closed, which no client takes for a blob.
//! One that was read is sent as it is, and its last piece is held back when somebody has written to the file meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use rustix::fs::{FsWord, fstatfs};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

use crate::digest::{Digest, Hasher};
use crate::serve::log::Line;
use crate::serve::stamp::Stamp;
use crate::serve::store::Store;

/// The body of an answer. When it is dropped, sent or not, the access log gets its line.
pub(super) struct Body {
    parts: VecDeque<Part>,
    left: u64,
    reading: Option<Reading>,
    /// Filled in when everything else of the answer is known.
    pub(super) line: Option<Line>,
}

pub(super) enum Part {
    Bytes(Bytes),
    /// A part of a blob that is known to be right.
    File(Arc<Sound>, Range<u64>),
    /// A whole blob that is not.
    Unverified(Box<Unverified>),
}

/// A blob whose bytes are known to be right for as long as its file is what it was.
pub(super) struct Sound {
    pub(super) file: File,
    pub(super) stamp: Stamp,
}

impl Sound {
    /// Fails when the file was written to since it was known to be right.
    pub(super) fn check(&self) -> io::Result<()> {
        if Stamp::of(&self.file.metadata()?) == self.stamp {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the blob was changed while it was sent"))
    }
}

/// A blob that is hashed while it is sent.
pub(super) struct Unverified {
    pub(super) store: Arc<Store>,
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    pub(super) hasher: Hasher,
    pub(super) digest: Digest,
    pub(super) stamp: Stamp,
    pub(super) layout: usize,
}

pub(super) type Read = (Bytes, Option<Part>);
type Reading = Pin<Box<dyn Future<Output = io::Result<Read>> + Send>>;

impl Body {
    pub(super) fn empty() -> Self {
        Body::new(Vec::new())
    }

    pub(super) fn new(parts: Vec<Part>) -> Self {
        let left = parts.iter().map(Part::len).sum();
        Body { parts: parts.into(), left, reading: None, line: None }
    }

    pub(super) fn len(&self) -> u64 {
        self.left
    }

    /// The next part, for who sends it in a way of his own.
    pub(super) fn next_part(&mut self) -> Option<Part> {
        self.parts.pop_front()
    }

    /// What is left of the part that was taken last.
    pub(super) fn put_back(&mut self, rest: Option<Part>) {
        if let Some(rest) = rest {
            self.parts.push_front(rest);
        }
    }

    /// Reads a piece of a part.
    pub(super) async fn read(&mut self, part: Part) -> io::Result<Read> {
        let read = match part.read() {
            Ok(read) => read,
            Err(reading) => reading.await,
        };
        if let Err(error) = &read {
            self.failed(&error.to_string());
        }
        read
    }

    /// Counts bytes that were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let Some(line) = &mut self.line {
            line.bytes += bytes as u64;
        }
    }

    /// Says in the log why no more is sent.
    pub(super) fn failed(&mut self, why: &str) {
        if let Some(line) = &mut self.line {
            line.error = Some(why.to_owned());
        }
    }
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File(_, range) => range.end.saturating_sub(range.start),
            Part::Unverified(blob) => blob.stamp.size - blob.at,
        }
    }

    /// Its next piece, and what is left of it.
    fn read(self) -> Result<io::Result<Read>, Reading> {
        match self {
            Part::Bytes(bytes) => Ok(Ok((bytes, None))),
            Part::File(sound, range) => match cached(&sound.file, &range) {
                Ok(Some(bytes)) => Ok(Part::rest(sound, range, bytes)),
                Ok(None) => Err(Box::pin(async move {
                    let reading = move || {
                        let bytes = read(&sound.file, &range)?;
                        Part::rest(sound, range, bytes)
                    };
                    tokio::task::spawn_blocking(reading).await.map_err(io::Error::other)?
                })),
                Err(error) => Ok(Err(error)),
            },
            Part::Unverified(blob) => {
                Err(Box::pin(
                    async move { tokio::task::spawn_blocking(|| blob.read()).await.map_err(io::Error::other)? },
                ))
            }
        }
    }

    fn rest(sound: Arc<Sound>, range: Range<u64>, bytes: Bytes) -> io::Result<Read> {
        let range = range.start + bytes.len() as u64..range.end;
        if range.is_empty() {
            sound.check()?;
            return Ok((bytes, None));
        }
        Ok((bytes, Some(Part::File(sound, range))))
    }
}

impl Unverified {
    fn read(mut self: Box<Self>) -> io::Result<Read> {
        let range = self.at..self.stamp.size;
        let bytes = if range.is_empty() { Bytes::new() } else { read(&self.file, &range)? };
        self.hasher.update(&bytes);
        self.at += bytes.len() as u64;
        if self.at < self.stamp.size {
            return Ok((bytes, Some(Part::Unverified(self))));
        }
        let Unverified { store, hasher, digest, stamp, layout, .. } = *self;
        let is_good = hasher.finish() == digest;
        store.record(layout, &digest, stamp, is_good);
        if is_good { Ok((bytes, None)) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "the blob is damaged")) }
    }
}

/// Reads what the page cache has; `None` where that would mean to wait for a disk.
fn cached(file: &File, range: &Range<u64>) -> io::Result<Option<Bytes>> {
    let mut buffer = vec![0; piece(range)];
    match read_now(file, &mut buffer, range.start) {
        // Not a byte of it is cached, or the file ends early: the other way tells.
        Ok(0) | Err(_) if buffer.is_empty() => Ok(Some(Bytes::new())),
        Ok(0) | Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
        Ok(n) => {
            buffer.truncate(n);
            Ok(Some(Bytes::from(buffer)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether the page cache has the byte at this place, so that nobody waits for a disk.
pub(super) fn is_cached(file: &File, at: u64) -> bool {
    matches!(read_now(file, &mut [0], at), Ok(1))
}

/// Reads what is in memory already. tmpfs does not know such reading, and has all of it there.
fn read_now(file: &File, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    match preadv2(file, &mut [IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT) {
        Err(Errno::OPNOTSUPP) if fstatfs(file).is_ok_and(|system| system.f_type == TMPFS) => pread(file, buffer, at),
        read => read,
    }
}

/// Its number in statfs(2).
const TMPFS: FsWord = 0x0102_1994;

/// Has the page cache take in what follows.
pub(super) fn read_ahead(file: &File, at: u64, bytes: usize) -> io::Result<()> {
    let mut buffer = vec![0; bytes.min(PIECE)];
    std::os::unix::fs::FileExt::read_at(file, &mut buffer, at).map(drop)
}

fn read(file: &File, range: &Range<u64>) -> io::Result<Bytes> {
    let mut buffer = vec![0; piece(range)];
    let n = std::os::unix::fs::FileExt::read_at(file, &mut buffer, range.start)?;
    if n == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob became shorter while it was sent"));
    }
    buffer.truncate(n);
    Ok(Bytes::from(buffer))
}

fn piece(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(PIECE).min(PIECE)
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let read = match &mut self.reading {
            Some(reading) => std::task::ready!(reading.as_mut().poll(context)),
            None => {
                let Some(part) = self.parts.pop_front() else { return Poll::Ready(None) };
                match part.read() {
                    Ok(read) => read,
                    Err(reading) => {
                        self.reading = Some(reading);
                        return self.poll_frame(context);
                    }
                }
            }
        };
        self.reading = None;
        match read {
            Ok((bytes, rest)) => {
                self.put_back(rest);
                self.left -= bytes.len() as u64;
                self.sent(bytes.len());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(error) => {
                self.parts.clear();
                self.failed(&error.to_string());
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.parts.is_empty() && self.reading.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Bytes that are read at a time: what one connection holds in memory.
const PIECE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_read_at_once() {
        for directory in ["/dev/shm", "/tmp"] {
            let mut file = tempfile::tempfile_in(directory).unwrap();
            std::io::Write::write_all(&mut file, b"abc").unwrap();
            assert!(is_cached(&file, 2) && !is_cached(&file, 3), "{directory}");
            assert_eq!(cached(&file, &(1..3)).unwrap().as_deref(), Some(&b"bc"[..]), "{directory}");
        }
    }
}
