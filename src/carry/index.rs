//! What contents a layer has, for the side that packs: kept beside the ledger's layout, made again when it is lost.
//!
//! ```text
//! index  = "haversack layer index" 01 record* sha256(of all before)
//! record = sha256 likeness(8) name(8) size(4, little-endian)      of the content whose number is the record's
//! ```

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::carry::entries::Hash;
use crate::carry::order::likeness;
use crate::carry::{Error, numbering};
use crate::digest::Digest;
use crate::fs;
use crate::image::Layout;

/// What is known of a content of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Indexed {
    pub(super) hash: Hash,
    /// The first bytes of the SHA-256 of what relatives have in common.
    pub(super) likeness: [u8; 8],
    /// The same of its last name, numbers as they are: of relatives, those that have that in common are nearest.
    pub(super) name: [u8; 8],
    /// Bytes.
    pub(super) size: u32,
}

/// The contents of a layer, by their numbers: from the index, which is made where it is not there. A blob that is no archive
/// has none; one that is damaged is an error.
pub(super) fn of(layout: &Layout, directory: &Path, layer: &Digest) -> Result<Vec<Indexed>, Error> {
    let path = path_of(directory, layer);
    if let Some(records) = fs::read(&path, LIMIT).ok().and_then(|bytes| parse(&bytes)) {
        return Ok(records);
    }
    let mut records = Vec::new();
    let split = numbering::split(layout, layer, &mut |met| {
        records.push(Indexed {
            hash: met.hash,
            likeness: likeness_hash(met.path),
            name: name_hash(met.path),
            size: u32::try_from(met.bytes.len()).map_err(|_| Error::TooMany("bytes of a content"))?,
        });
        Ok(())
    });
    match split {
        Ok(_) => {}
        // Compressed in a way that nobody reads: it travelled as it is, and is the base of nothing.
        Err(Error::Io(_) | Error::Odd { .. } | Error::Cut(_)) => records.clear(),
        Err(error) => return Err(error),
    }
    let mut bytes = MAGIC.to_vec();
    for record in &records {
        bytes.extend_from_slice(&record.hash);
        bytes.extend_from_slice(&record.likeness);
        bytes.extend_from_slice(&record.name);
        bytes.extend_from_slice(&record.size.to_le_bytes());
    }
    let sum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&sum);
    fs::create_dir_all(directory)?;
    fs::write(&path, &bytes)?;
    Ok(records)
}

/// Takes the index of a layer away.
pub fn forget(directory: &Path, layer: &Digest) -> Result<(), Error> {
    match fs::remove_file(&path_of(directory, layer)) {
        Err(error) if error.source.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// What relatives have in common, in few bytes.
pub(super) fn likeness_hash(path: &[u8]) -> [u8; 8] {
    Sha256::digest(likeness(path).collect::<Vec<u8>>())[..8].try_into().expect("eight of 32 bytes")
}

/// The last name of a path, in few bytes.
pub(super) fn name_hash(path: &[u8]) -> [u8; 8] {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    Sha256::digest(name)[..8].try_into().expect("eight of 32 bytes")
}

fn path_of(directory: &Path, layer: &Digest) -> PathBuf {
    directory.join(format!("{}-{}", layer.algorithm().name(), layer.hex()))
}

fn parse(bytes: &[u8]) -> Option<Vec<Indexed>> {
    let (bytes, sum) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
    if Sha256::digest(bytes)[..] != *sum {
        return None;
    }
    let records = bytes.strip_prefix(MAGIC)?.chunks_exact(RECORD);
    Some(
        records
            .map(|record| Indexed {
                hash: record[..32].try_into().expect("32 bytes"),
                likeness: record[32..40].try_into().expect("8 bytes"),
                name: record[40..48].try_into().expect("8 bytes"),
                size: u32::from_le_bytes(record[48..].try_into().expect("4 bytes")),
            })
            .collect(),
    )
}

const MAGIC: &[u8] = b"haversack layer index\x01";
const RECORD: usize = 52;

/// Bytes of an index, at most: of ten million contents.
const LIMIT: u64 = 512 << 20;
