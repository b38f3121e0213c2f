//! The files of a carry.
//!
//! ```text
//! volume = head frame* tail                      a sequence of zstd and skippable frames: `zstd -t` reads it
//! frame  = a zstd frame | 5E 2A 4D 18 u32(length) a zstd frame that only those read who have its prefix: others skip it
//! head   = 5E 2A 4D 18 u32(length) contents      a skippable frame (RFC 8878, 3.1.2)
//! tail   = 5E 2A 4D 18 u32(length) contents sums u64(bytes of the tail)
//! contents = "haversack volume" 01 id(16 bytes) varint(number) varint(volumes) varint(frames of the carry)
//!            varint(frames here) (varint(frame) varint(start) varint(length) sha256)*     start: behind the head
//! sums   = varint(number) sha256*                of each MiB before the tail, the last one shorter
//! ```
//!
//! What is in it stands at both ends, so that a damaged beginning costs nothing but the frames in it. Numbers of volumes begin
//! with 1, those of frames with 0, the table. All fixed numbers are little-endian.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::carry::Error;
use crate::carry::frame::Frame;
use crate::carry::wire::{Reader, put};
use crate::digest::{self, Algorithm, Digest, HashingWriter};
use crate::fs::{self, AtomicFile, PathContext, Slice};

/// A volume, opened.
pub(super) struct Volume {
    path: PathBuf,
    file: Arc<File>,
    pub(super) listing: Listing,
}

/// What is in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// The carry.
    pub(super) id: [u8; 16],
    /// Which volume, from 1.
    pub(super) number: u32,
    /// Volumes of the carry.
    pub(super) volumes: u32,
    /// Frames of the carry.
    pub(super) all: u64,
    /// Frames here.
    pub(super) frames: Vec<Placed>,
}

/// A frame in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its number in the carry.
    pub(super) number: u64,
    /// First byte; behind the head.
    start: u64,
    /// Bytes.
    pub(super) length: u64,
    pub(super) sha256: [u8; 32],
}

/// Spreads frames over volumes of `most` bytes; each goes into the first that has room. `first` bytes of the first are for
/// other things.
pub(super) fn spread(frames: &[Frame], most: u64, first: u64) -> Result<Vec<Vec<usize>>, Error> {
    let mut volumes: Vec<(u64, Vec<usize>)> = Vec::new();
    for (number, frame) in frames.iter().enumerate() {
        let size = frame.data.size();
        // Its own two lines in the tables, and its part of the sums.
        let needed = size + WRAPPED + 2 * (32 + 30) + 32 * size.div_ceil(BLOCK);
        let room = |volume: usize| {
            let taken = if volume == 0 { first } else { 0 };
            most.saturating_sub(FIXED).saturating_sub(taken)
        };
        let fit = volumes.iter().enumerate().position(|(volume, (used, _))| used + needed <= room(volume));
        match fit {
            Some(volume) => {
                volumes[volume].0 += needed;
                volumes[volume].1.push(number);
            }
            None => {
                // The first may be too small for anything beside the program; its volume is empty then.
                if volumes.is_empty() && needed > room(0) && needed <= room(1) {
                    volumes.push((u64::MAX / 2, Vec::new()));
                }
                if needed > room(volumes.len()) {
                    return Err(Error::TooSmall { most, needed: needed + FIXED + first });
                }
                volumes.push((needed, vec![number]));
            }
        }
    }
    Ok(volumes.into_iter().map(|(_, frames)| frames).collect())
}

/// Writes a volume; returns its size in bytes and its SHA-256.
pub(super) fn write(
    path: &Path,
    (id, number, volumes): ([u8; 16], u32, u32),
    frames: &[Frame],
    here: &[usize],
) -> Result<(u64, Digest), Error> {
    let mut start = 0;
    let mut placed = Vec::new();
    for number in here {
        let frame = &frames[*number];
        let length = frame.data.size();
        start += if frame.is_alone { 0 } else { WRAPPED };
        placed.push(Placed { number: *number as u64, start, length, sha256: frame.sha256 });
        start += length;
    }
    let contents = Listing { id, number, volumes, all: frames.len() as u64, frames: placed }.to_bytes();
    let file = HashingWriter::new(AtomicFile::create(path)?, Algorithm::Sha256);
    let mut out = Summing { inner: file, block: Sha256::new(), left: BLOCK, sums: Vec::new() };
    let mut write = || -> io::Result<()> {
        out.write_all(&skippable(&contents))?;
        for number in here {
            let frame = &frames[*number];
            if !frame.is_alone {
                out.write_all(&skippable_head(frame.data.size()))?;
            }
            io::copy(&mut frame.data.reader(), &mut out)?;
        }
        Ok(())
    };
    write().at("write", path)?;
    let Summing { inner: mut file, block, left, mut sums } = out;
    if left < BLOCK {
        sums.push(block.finalize().into());
    }
    let mut tail = contents;
    put(sums.len() as u64, &mut tail);
    tail.extend(sums.iter().flatten());
    let length = tail.len() as u64 + 16;
    tail.extend(length.to_le_bytes());
    file.write_all(&skippable(&tail)).at("write", path)?;
    let (digest, size, file) = file.finish();
    file.finish()?;
    Ok((size, digest))
}

impl Volume {
    /// Opens a volume and reads what is in it, from its end where the beginning is damaged.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let file = Arc::new(fs::open_regular(path)?);
        let mut start = Vec::new();
        (&*file).take(8).read_to_end(&mut start).at("read", path)?;
        let length = body_length(&start).filter(|length| *length <= TABLE);
        let mut head = None;
        if let Some(length) = length {
            let mut body = Vec::new();
            (&*file).take(length).read_to_end(&mut body).at("read", path)?;
            head = Listing::from_bytes(&mut Reader::new(&body, WHAT)).ok().map(|contents| (contents, 8 + length));
        }
        let (mut contents, behind) = match head {
            Some(head) => head,
            None => {
                let contents = tail(&file, path)?.1;
                let behind = 8 + contents.to_bytes().len() as u64;
                (contents, behind)
            }
        };
        for frame in &mut contents.frames {
            frame.start = frame.start.saturating_add(behind);
        }
        Ok(Volume { path: path.to_owned(), file, listing: contents })
    }

    /// Reads a frame. Nothing is checked; what is missing is an error at its place.
    pub(super) fn frame(&self, frame: &Placed) -> impl Read + use<> {
        Slice::of(self.file.clone(), frame.start, frame.length).reader()
    }

    /// Reads the whole volume, and says which ranges of bytes are not what was written. Without its end, nothing can be said
    /// but that.
    pub(super) fn damaged(&self) -> Result<Vec<(u64, u64)>, Error> {
        let (sums, _, end) = tail(&self.file, &self.path)?;
        let mut file = &*self.file;
        file.rewind().at("read", &self.path)?;
        let mut damaged: Vec<(u64, u64)> = Vec::new();
        let mut buffer = Vec::new();
        for (number, sum) in sums.iter().enumerate() {
            let start = number as u64 * BLOCK;
            let length = BLOCK.min(end.saturating_sub(start));
            buffer.clear();
            (&mut file).take(length).read_to_end(&mut buffer).at("read", &self.path)?;
            if Sha256::digest(&buffer)[..] == sum[..] {
                continue;
            }
            match damaged.last_mut() {
                Some(last) if last.1 == start => last.1 = start + length,
                _ => damaged.push((start, start + length)),
            }
        }
        Ok(damaged)
    }
}

/// The sums, the contents and the first byte of a volume's tail.
fn tail(file: &File, path: &Path) -> Result<(Vec<[u8; 32]>, Listing, u64), Error> {
    let mut file = file.try_clone().at("read", path)?;
    let size = file.metadata().at("read", path)?.len();
    let odd = || Error::Volume { path: path.to_owned(), why: "neither its beginning nor its end can be read" };
    let mut read = |from: u64, length: u64| -> Result<Vec<u8>, Error> {
        file.seek(SeekFrom::Start(from)).at("read", path)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(length).read_to_end(&mut bytes).at("read", path)?;
        Ok(bytes)
    };
    let last = read(size.checked_sub(8).ok_or_else(odd)?, 8)?;
    let length = u64::from_le_bytes(last.try_into().map_err(|_| odd())?);
    let start = size.checked_sub(length).filter(|_| length <= TABLE + 8).ok_or_else(odd)?;
    let bytes = read(start, length)?;
    if body_length(&bytes) != Some(length.wrapping_sub(8)) {
        return Err(odd());
    }
    let mut reader = Reader::new(&bytes[8..], WHAT);
    let contents = Listing::from_bytes(&mut reader).map_err(|_| odd())?;
    let mut sums = Vec::new();
    for _ in 0..reader.count(32).map_err(|_| odd())? {
        sums.push(reader.take(32)?.try_into().expect("32 bytes were taken"));
    }
    Ok((sums, contents, start))
}

impl Listing {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [MAGIC, &self.id].concat();
        for number in [u64::from(self.number), self.volumes.into(), self.all, self.frames.len() as u64] {
            put(number, &mut bytes);
        }
        for frame in &self.frames {
            for number in [frame.number, frame.start, frame.length] {
                put(number, &mut bytes);
            }
            bytes.extend_from_slice(&frame.sha256);
        }
        bytes
    }

    fn from_bytes(reader: &mut Reader<'_>) -> Result<Self, Error> {
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Error::Odd { what: WHAT, why: "not one, or of a later version" });
        }
        let id = reader.take(16)?.try_into().expect("16 bytes were taken");
        let small = |number: u64| {
            u32::try_from(number).map_err(|_| Error::Odd { what: WHAT, why: "a number that is too large" })
        };
        let (number, volumes, all) = (small(reader.number()?)?, small(reader.number()?)?, reader.number()?);
        let mut frames = Vec::new();
        for _ in 0..reader.count(35)? {
            let (number, start, length) = (reader.number()?, reader.number()?, reader.number()?);
            let sha256 = reader.take(32)?.try_into().expect("32 bytes were taken");
            frames.push(Placed { number, start, length, sha256 });
        }
        if frames.iter().any(|frame| frame.number >= all) {
            return Err(Error::Odd { what: WHAT, why: "a frame that the carry has not" });
        }
        Ok(Listing { id, number, volumes, all, frames })
    }

    /// The carry, as people see it.
    pub(super) fn carry(&self) -> String {
        digest::hex(&self.id)
    }
}

/// A skippable frame (RFC 8878, 3.1.2) of less than 4 GiB.
pub(super) fn skippable(body: &[u8]) -> Vec<u8> {
    [&skippable_head(body.len() as u64)[..], body].concat()
}

fn skippable_head(length: u64) -> Vec<u8> {
    let length = u32::try_from(length).expect("tables and frames are far below 4 GiB");
    [SKIPPABLE, length.to_le_bytes()].concat()
}

/// How long the body of a skippable frame is that begins so.
fn body_length(start: &[u8]) -> Option<u64> {
    let length = start.strip_prefix(&SKIPPABLE)?.get(..4)?;
    Some(u32::from_le_bytes(length.try_into().expect("four bytes")).into())
}

/// Passes bytes through and sums up each block.
struct Summing<W> {
    inner: W,
    block: Sha256,
    left: u64,
    sums: Vec<[u8; 32]>,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        let written = self.inner.write(&bytes[..most])?;
        self.block.update(&bytes[..written]);
        self.left -= written as u64;
        if self.left == 0 {
            self.sums.push(self.block.finalize_reset().into());
            self.left = BLOCK;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

const MAGIC: &[u8] = b"haversack volume\x01";
const WHAT: &str = "a volume's table";
const SKIPPABLE: [u8; 4] = [0x5e, 0x2a, 0x4d, 0x18];

/// Bytes before a frame that is skipped.
const WRAPPED: u64 = 8;

/// Bytes that have a sum of their own.
const BLOCK: u64 = 1 << 20;

/// What a volume takes beside its frames, their lines and sums.
const FIXED: u64 = 512;

/// Bytes of a table, at most: sums of a volume of 1 TiB take 32 MiB.
const TABLE: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Spool;

    fn frames(dir: &Path, sizes: &[usize]) -> Vec<Frame> {
        let mut writer = Spool::new(dir).writer().unwrap();
        let mut frame = |(number, size): (usize, &usize)| {
            let bytes: Vec<u8> = (0..*size).map(|at| (at * 7 + number) as u8).collect();
            let from = writer.position();
            writer.append(&bytes).unwrap();
            let sha256 = Sha256::digest(&bytes).into();
            Frame { data: writer.slice(from).unwrap(), sha256, is_alone: number % 2 == 0 }
        };
        sizes.iter().enumerate().map(&mut frame).collect()
    }

    #[test]
    fn a_volume_is_read_from_either_end_and_says_which_bytes_are_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let frames = frames(dir.path(), &[100, 3 << 20, 0, 5000]);
        let path = dir.path().join("volume");
        let (size, digest) = write(&path, ([7; 16], 2, 3), &frames, &[0, 1, 3]).unwrap();
        assert_eq!(Digest::of_file(&path).unwrap(), (digest, size));
        let right = std::fs::read(&path).unwrap();
        let check = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let volume = Volume::open(&path)?;
            assert_eq!(
                (volume.listing.carry(), volume.listing.number, volume.listing.volumes),
                ("07".repeat(16), 2, 3)
            );
            let good = volume.listing.frames.iter().filter(|frame| {
                let mut bytes = Vec::new();
                volume.frame(frame).read_to_end(&mut bytes).is_ok() && Sha256::digest(&bytes)[..] == frame.sha256
            });
            let good: Vec<u64> = good.map(|frame| frame.number).collect();
            Ok::<_, Error>((good, volume.damaged().ok()))
        };
        assert_eq!(check(&right).unwrap(), (vec![0, 1, 3], Some(Vec::new())));
        let flipped = |at: usize| {
            let mut bytes = right.clone();
            bytes[at] ^= 1;
            bytes
        };
        assert_eq!(check(&flipped(4)).unwrap(), (vec![0, 1, 3], Some(vec![(0, 1 << 20)])));
        assert_eq!(check(&flipped(2 << 20)).unwrap(), (vec![0, 3], Some(vec![(2 << 20, 3 << 20)])));
        let last = right.len() - 1;
        assert_eq!(check(&flipped(last)).unwrap(), (vec![0, 1, 3], None));
        assert_eq!(check(&right[..1 << 20]).unwrap(), (vec![0], None));
        assert!(check(&right[..100]).is_err());
        let mut both = flipped(4);
        both[last] ^= 1;
        assert!(check(&both).is_err());
    }

    #[test]
    fn frames_go_into_the_first_volume_with_room_and_never_above_it() {
        let dir = tempfile::tempdir().unwrap();
        let frames = frames(dir.path(), &[60_000, 30_000, 50_000, 20_000, 70_000]);
        let volumes = spread(&frames, 100_000, 5_000).unwrap();
        assert_eq!(volumes, [vec![0, 1], vec![2, 3], vec![4]]);
        for (number, here) in volumes.iter().enumerate() {
            let (size, _) = write(&dir.path().join("v"), ([0; 16], 1, 3), &frames, here).unwrap();
            assert!(size + if number == 0 { 5_000 } else { 0 } <= 100_000, "{size}");
        }
        assert_eq!(spread(&frames, 72_000, 50_000).unwrap()[0], Vec::<usize>::new());
        assert!(matches!(spread(&frames, 70_000, 0), Err(Error::TooSmall { .. })));
        assert_eq!(spread(&frames, u64::MAX, 0).unwrap().len(), 1);
    }
}
