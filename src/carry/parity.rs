//! Parity volumes: so many lost volumes, or so many damaged blocks at one place of the volumes, can be made again.
//!
//! ```text
//! parity = head stripe* tail              a sequence of skippable frames: `zstd -t` reads it
//! head   = 5E 2A 4D 18 u32(length) what
//! stripe = 5E 2A 4D 18 u32(1 MiB) bytes   as many as the longest volume has blocks of 1 MiB
//! tail   = 5E 2A 4D 18 u32(length) what sums sha256(of what and sums) u64(bytes of the tail)
//! what   = "haversack parity" 01 id(16 bytes) varint(number, from 1) varint(parity volumes) varint(volumes) varint(bytes of each)*
//! sums   = sha256*                        of each block of each volume, in order, the last of a volume shorter; then of each
//!                                         block of each parity volume
//! ```
//!
//! A stripe is the blocks of all volumes at one place, zeros behind the end of a volume, and the parity volumes' blocks there. Each
//! 64 KiB of the blocks are coded together: the volumes' are the original shards of `reed-solomon-simd` 3 (Leopard, GF(2^16)),
//! the parity volumes' the recovery shards, in order. That code is a part of the format.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::carry::document::{CarryDocument, VolumeFile};
use crate::carry::sign::PublicKey;
use crate::carry::volume::skippable;
use crate::carry::wire::{Reader, put};
use crate::carry::{Error, verify};
use crate::digest::{self, Algorithm, HashingWriter};
use crate::fs::{self, AtomicFile, PathContext};
use crate::progress::{Progress, Task, Unit};

type Sum = [u8; 32];

/// Which volume, and its block.
type Made = (usize, Vec<u8>);

/// What is at both ends of a parity volume.
#[derive(Clone, Debug, PartialEq, Eq)]
struct What {
    id: [u8; 16],
    number: u32,
    parity: u32,
    /// Bytes of each volume.
    sizes: Vec<u64>,
}

/// What was made again of a carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// The carry.
    pub carry: String,
    /// Volumes that were made again, by their names.
    pub repaired: Vec<String>,
    /// Volumes of which too much is lost: the first range of bytes that cannot be made again.
    pub lost: Vec<(String, (u64, u64))>,
    /// Parity volumes that are missing or damaged; they are as they were.
    pub parity_damaged: Vec<String>,
}

/// Bytes that a parity volume has beside its stripes, at most, for volumes of these many bytes together in blocks.
pub(super) fn overhead(volumes: usize, parity: u32, longest: u64) -> u64 {
    let blocks = longest.div_ceil(BLOCK);
    let what = 64 + 10 * volumes as u64;
    2 * what + blocks * (8 + 32 * (volumes as u64 + u64::from(parity))) + 64
}

/// Writes parity volumes of the finished volumes in a directory.
pub(super) fn write(
    directory: &Path,
    id: [u8; 16],
    volumes: &[VolumeFile],
    parity: u32,
    task: &Task,
) -> Result<Vec<VolumeFile>, Error> {
    let sizes: Vec<u64> = volumes.iter().map(|volume| volume.size).collect();
    let files: Vec<File> = volumes
        .iter()
        .map(|volume| Ok(fs::open_regular(&directory.join(&volume.file))?))
        .collect::<Result<_, Error>>()?;
    let mut sums: Vec<Vec<Sum>> = vec![Vec::new(); volumes.len() + parity as usize];
    let mut outs = Vec::new();
    for number in 1..=parity {
        let path = directory.join(name(number));
        let what = What { id, number, parity, sizes: sizes.clone() }.to_bytes();
        let mut out = HashingWriter::new(AtomicFile::create(&path)?, Algorithm::Sha256);
        out.write_all(&skippable(&what)).at("write", &path)?;
        outs.push((path, what, out));
    }
    let stripes = sizes.iter().map(|size| size.div_ceil(BLOCK)).max().unwrap_or_default();
    for stripe in 0..stripes {
        let mut hashes: Vec<Sha256> = vec![Sha256::new(); files.len()];
        let mut blocks: Vec<Vec<u8>> = vec![Vec::with_capacity(BLOCK as usize); parity as usize];
        let mut encoder = ReedSolomonEncoder::new(files.len(), parity as usize, SHARD).map_err(code)?;
        for part in 0..BLOCK / SHARD as u64 {
            for ((file, hash), (size, volume)) in files.iter().zip(&mut hashes).zip(sizes.iter().zip(volumes)) {
                let from = stripe * BLOCK + part * SHARD as u64;
                let (shard, there) = shard(file, from, *size).at("read", directory.join(&volume.file))?;
                hash.update(&shard[..there]);
                encoder.add_original_shard(shard).map_err(code)?;
            }
            let encoded = encoder.encode().map_err(code)?;
            for (block, shard) in blocks.iter_mut().zip(encoded.recovery_iter()) {
                block.extend_from_slice(shard);
            }
        }
        for (at, hash) in hashes.into_iter().enumerate() {
            if stripe * BLOCK < sizes[at] {
                sums[at].push(hash.finalize().into());
            }
        }
        for (at, ((path, _, out), block)) in outs.iter_mut().zip(&blocks).enumerate() {
            sums[volumes.len() + at].push(Sha256::digest(block).into());
            out.write_all(&skippable(block)).at("write", &path)?;
        }
        task.add(sizes.iter().map(|size| BLOCK.min(size.saturating_sub(stripe * BLOCK))).sum());
    }
    let all: Vec<u8> = sums.iter().flatten().flatten().copied().collect();
    let mut written = Vec::new();
    for (number, (path, what, mut out)) in (1..).zip(outs) {
        let mut tail = [&what[..], &all].concat();
        tail.extend_from_slice(&Sha256::digest(&tail));
        let length = tail.len() as u64 + 16;
        tail.extend(length.to_le_bytes());
        out.write_all(&skippable(&tail)).at("write", &path)?;
        let (digest, size, file) = out.finish();
        file.finish()?;
        written.push(VolumeFile { file: name(number), size, digest });
    }
    Ok(written)
}

/// Makes damaged and missing volumes of a carry again, those that can be; each takes its name when it is what `carry.json` says.
/// With a key, only of a carry that it signed.
pub fn repair(directory: &Path, key: Option<&PublicKey>, progress: &Progress) -> Result<RepairReport, Error> {
    let carry = CarryDocument::read(directory, key)?;
    let checked = verify(directory, key, progress)?;
    let is_good = |file: &str| checked.volumes.iter().any(|it| it.file == file && it.state == verify::State::Good);
    let bad: Vec<usize> = (0..carry.volumes.len()).filter(|at| !is_good(&carry.volumes[*at].file)).collect();
    let names = carry.parity.iter().map(|it| it.file.clone());
    let mut report = RepairReport {
        carry: carry.id.clone(),
        repaired: Vec::new(),
        lost: Vec::new(),
        parity_damaged: names.filter(|file| !is_good(file)).collect(),
    };
    if bad.is_empty() {
        return Ok(report);
    }
    if carry.parity.is_empty() {
        return Err(Error::NoParity { path: directory.to_owned() });
    }
    let set = Set::open(directory, &carry)?;
    let total = bad.iter().map(|at| carry.volumes[*at].size).fold(0, u64::saturating_add);
    let task = progress.task("repairing", Unit::Bytes, Some(total));
    let mut outs: Vec<_> = bad
        .iter()
        .map(|at| {
            let path = directory.join(&carry.volumes[*at].file);
            Ok((*at, Some(HashingWriter::new(AtomicFile::create(&path)?, Algorithm::Sha256)), path))
        })
        .collect::<Result<_, Error>>()?;
    for stripe in 0..set.stripes {
        let lost = set.lost(stripe, &bad)?;
        let made = match set.restore(stripe, &lost)? {
            Some(made) => made,
            None => {
                // The others may still be made.
                for (at, out, _) in outs.iter_mut().filter(|(at, out, _)| lost.contains(at) && out.is_some()) {
                    let end = carry.volumes[*at].size.min((stripe + 1) * BLOCK) - 1;
                    report.lost.push((carry.volumes[*at].file.clone(), (stripe * BLOCK, end)));
                    *out = None;
                }
                Vec::new()
            }
        };
        for (at, out, path) in &mut outs {
            let Some(out) = out else { continue };
            let length = BLOCK.min(carry.volumes[*at].size.saturating_sub(stripe * BLOCK));
            if length == 0 {
                continue;
            }
            let block = match made.iter().find(|(made, _)| made == at) {
                Some((_, block)) => block.clone(),
                None => set.block(*at, stripe)?,
            };
            out.write_all(&block[..length as usize]).at("write", &path)?;
            task.add(length);
        }
    }
    for (at, out, _) in outs {
        let Some(out) = out else { continue };
        let (digest, _, file) = out.finish();
        let volume = &carry.volumes[at];
        // Whoever signed carry.json has the last word.
        if digest == volume.digest {
            file.finish()?;
            report.repaired.push(volume.file.clone());
        } else {
            report.lost.push((volume.file.clone(), (0, volume.size.saturating_sub(1))));
        }
    }
    Ok(report)
}

/// The volumes of a carry, with what its parity says of them.
struct Set {
    /// Those that are there, the parity volumes last, with the names of all.
    files: Vec<(Option<File>, PathBuf)>,
    sizes: Vec<u64>,
    /// Of each volume, and behind them of each parity volume.
    sums: Vec<Vec<Sum>>,
    /// Bytes before the first stripe of each parity volume.
    head: Vec<u64>,
    stripes: u64,
    parity: usize,
}

impl Set {
    fn open(directory: &Path, carry: &CarryDocument) -> Result<Self, Error> {
        let mut files = Vec::new();
        for file in carry.volumes.iter().chain(&carry.parity) {
            let path = directory.join(&file.file);
            let opened = match fs::open_regular(&path) {
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
                opened => Some(opened?),
            };
            files.push((opened, path));
        }
        let sizes: Vec<u64> = carry.volumes.iter().map(|volume| volume.size).collect();
        let stripes = sizes.iter().map(|size| size.div_ceil(BLOCK)).max().unwrap_or_default();
        let parity = carry.parity.len();
        let count = u32::try_from(parity).map_err(|_| Error::TooMany("parity volumes"))?;
        // It is 32 hexadecimal digits, or the document would not have been read.
        let id = HEXLOWER.decode(carry.id.as_bytes()).ok().and_then(|id| id.try_into().ok()).unwrap_or_default();
        let mut found = None;
        let mut head = Vec::new();
        for (number, (file, path)) in (1..).zip(&files[carry.volumes.len()..]) {
            let what = What { id, number, parity: count, sizes: sizes.clone() }.to_bytes();
            head.push(8 + what.len() as u64);
            if let (Some(file), None) = (file, &found) {
                found = sums_of(file, &what, &sizes, stripes, parity).at("read", path)?;
            }
        }
        let sums = found.ok_or_else(|| Error::Volume {
            path: directory.join(&carry.parity[0].file),
            why: "no parity volume has an end that can be read",
        })?;
        Ok(Set { files, sizes, sums, head, stripes, parity })
    }

    /// A block of a volume or of a parity volume, with zeros where there is nothing.
    fn block(&self, at: usize, stripe: u64) -> Result<Vec<u8>, Error> {
        let mut block = vec![0; BLOCK as usize];
        let from = match at.checked_sub(self.sizes.len()) {
            None => stripe * BLOCK,
            Some(parity) => self.head[parity] + stripe * (BLOCK + 8) + 8,
        };
        let (file, path) = &self.files[at];
        if let Some(file) = file {
            let length = match self.sizes.get(at) {
                Some(size) => BLOCK.min(size.saturating_sub(from)) as usize,
                None => BLOCK as usize,
            };
            read_as_far(file, &mut block[..length], from).at("read", path)?;
        }
        Ok(block)
    }

    /// Whether a block is what was written; what a volume does not have is.
    fn is_right(&self, at: usize, stripe: u64, block: &[u8]) -> bool {
        let length = match self.sizes.get(at) {
            Some(size) => BLOCK.min(size.saturating_sub(stripe * BLOCK)) as usize,
            None => BLOCK as usize,
        };
        let sum = usize::try_from(stripe).ok().and_then(|stripe| self.sums[at].get(stripe));
        sum.is_none_or(|sum| Sha256::digest(&block[..length])[..] == sum[..])
    }

    /// Which of some volumes have another block than was written.
    fn lost(&self, stripe: u64, of: &[usize]) -> Result<Vec<usize>, Error> {
        let mut lost = Vec::new();
        for at in of {
            if !self.is_right(*at, stripe, &self.block(*at, stripe)?) {
                lost.push(*at);
            }
        }
        Ok(lost)
    }

    /// Makes the lost blocks of a stripe again, unless too many are.
    fn restore(&self, stripe: u64, lost: &[usize]) -> Result<Option<Vec<Made>>, Error> {
        if lost.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut parity = Vec::new();
        for number in 0..self.parity {
            let at = self.sizes.len() + number;
            let block = self.block(at, stripe)?;
            if self.files[at].0.is_some() && self.is_right(at, stripe, &block) && parity.len() < lost.len() {
                parity.push((number, block));
            }
        }
        if parity.len() < lost.len() {
            return Ok(None);
        }
        let mut made: Vec<(usize, Vec<u8>)> = lost.iter().map(|at| (*at, Vec::new())).collect();
        for part in 0..BLOCK as usize / SHARD {
            let mut decoder = ReedSolomonDecoder::new(self.sizes.len(), self.parity, SHARD).map_err(code)?;
            for at in (0..self.sizes.len()).filter(|at| !lost.contains(at)) {
                let (file, path) = &self.files[at];
                let from = stripe * BLOCK + (part * SHARD) as u64;
                let shard = match file {
                    Some(file) => shard(file, from, self.sizes[at]).at("read", path)?.0,
                    None => vec![0; SHARD],
                };
                decoder.add_original_shard(at, shard).map_err(code)?;
            }
            for (number, block) in &parity {
                decoder.add_recovery_shard(*number, &block[part * SHARD..][..SHARD]).map_err(code)?;
            }
            let decoded = decoder.decode().map_err(code)?;
            for (at, block) in &mut made {
                block.extend_from_slice(decoded.restored_original(*at).unwrap_or(&[0; SHARD]));
            }
        }
        // What was good a moment ago may not be any more.
        Ok(made.iter().all(|(at, block)| self.is_right(*at, stripe, block)).then_some(made))
    }
}

/// The sums in the tail of a parity volume, if it is one of this set and undamaged.
fn sums_of(file: &File, what: &[u8], sizes: &[u64], stripes: u64, parity: usize) -> io::Result<Option<Vec<Vec<Sum>>>> {
    let counts: Vec<u64> = sizes.iter().map(|size| size.div_ceil(BLOCK)).chain(vec![stripes; parity]).collect();
    let sums = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(count.saturating_mul(32)));
    let length = (what.len() as u64).saturating_add(sums).saturating_add(32 + 8);
    let size = file.metadata()?.len();
    let (Some(from), true) = (size.checked_sub(length), length <= TAIL) else { return Ok(None) };
    let mut tail = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    read_as_far(file, &mut tail, from)?;
    let (said, rest) = tail.split_at(what.len() + sums as usize);
    if Sha256::digest(said)[..] != rest[..32] || said[..what.len()] != *what {
        return Ok(None);
    }
    let mut all = said[what.len()..].chunks_exact(32).map(|sum| sum.try_into().expect("32 bytes"));
    Ok(Some(counts.iter().map(|count| all.by_ref().take(*count as usize).collect()).collect()))
}

/// 64 KiB of a file with zeros behind its end, and how many bytes there are.
fn shard(file: &File, from: u64, size: u64) -> io::Result<(Vec<u8>, usize)> {
    let mut shard = vec![0; SHARD];
    let there = size.saturating_sub(from).min(SHARD as u64) as usize;
    read_as_far(file, &mut shard[..there], from)?;
    Ok((shard, there))
}

/// Reads as much as there is.
fn read_as_far(file: &File, mut buffer: &mut [u8], mut from: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, from) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                from += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl What {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = [MAGIC, &self.id].concat();
        for number in [u64::from(self.number), self.parity.into(), self.sizes.len() as u64] {
            put(number, &mut bytes);
        }
        self.sizes.iter().for_each(|size| put(*size, &mut bytes));
        bytes
    }
}

/// The carry of a parity volume, as people see it, if the file is one.
pub(super) fn carry_of(file: &File) -> Option<String> {
    let mut start = [0; 64];
    read_as_far(file, &mut start, 0).ok()?;
    let mut reader = Reader::new(&start[8..], "a parity volume");
    (reader.take(MAGIC.len()).ok()? == MAGIC).then_some(())?;
    Some(digest::hex(reader.take(16).ok()?))
}

fn name(number: u32) -> String {
    format!("parity-{number:03}.zst")
}

fn code(error: reed_solomon_simd::Error) -> Error {
    Error::Io(io::Error::other(error))
}

const MAGIC: &[u8] = b"haversack parity\x01";

/// Bytes of a block: what has a sum, and is lost or not.
const BLOCK: u64 = 1 << 20;

/// Bytes that are coded together.
const SHARD: usize = 64 << 10;

/// Bytes of a tail, at most.
const TAIL: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    /// The code is a part of the format: what it makes of these bytes, it makes for ever.
    #[test]
    fn parity_of_given_volumes_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let volume = |number: u8, size: usize| {
            let bytes: Vec<u8> = (0..size).map(|at| (at * 31 + at / 251 + usize::from(number)) as u8).collect();
            let file = format!("volume-00{number}.zst");
            std::fs::write(dir.path().join(&file), &bytes).unwrap();
            VolumeFile { file, size: size as u64, digest: Digest::sha256(&bytes) }
        };
        let volumes = [volume(1, (2 << 20) + 5), volume(2, 70_000), volume(3, 1 << 20)];
        let task = Progress::off().task("parity", Unit::Bytes, None);
        let written = write(dir.path(), [9; 16], &volumes, 2, &task).unwrap();
        let digests: Vec<(&str, u64, &str)> =
            written.iter().map(|it| (&*it.file, it.size, &it.digest.hex()[..16])).collect();
        assert_eq!(
            digests,
            [("parity-001.zst", 3_146_252, "a8a10f621c6bf861"), ("parity-002.zst", 3_146_252, "c0afd115dff1fc33")]
        );
        for it in &written {
            assert!(it.size <= (3 << 20) + overhead(3, 2, (2 << 20) + 5));
        }
    }
}
