//! `carry.json`: what a carry is, for people and programs.

use std::collections::BTreeMap;
use std::path::Path;

use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

use crate::carry::sign::PublicKey;
use crate::carry::{Error, Need};
use crate::digest::Digest;
use crate::fs::{self, PathContext};

/// What `carry.json` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CarryDocument {
    /// Version of the format: 1, or 2 where something needs to be there before.
    pub format: u32,
    /// Sixteen bytes as hexadecimal digits; the same contents give the same.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The release that made it.
    pub haversack: String,
    /// The site that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Blobs that the images have and that do not travel, as the site holds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Need>,
    /// Entries of the layout's `index.json`: images, and what refers to them.
    pub images: Vec<Descriptor>,
    /// The files, in order.
    pub volumes: Vec<VolumeFile>,
    /// Files from which lost volumes can be made again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parity: Vec<VolumeFile>,
    /// The program that is carried along, on the medium of the first volume. Releases before this was written carried one, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<VolumeFile>,
    /// How much of everything.
    pub totals: Totals,
    /// Blobs and their bytes by what made them: an encoder's class, `tar`, `zstd`, or `whole` for what travels as it is.
    pub made_by: BTreeMap<String, Made>,
}

/// A file of a carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFile {
    /// Its name, beside `carry.json`.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of all of it.
    pub digest: Digest,
}

/// How much is in a carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Blobs of images: layers, configurations, manifests.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Distinct contents.
    pub contents: u64,
    /// Their bytes: the room that unpacking needs beside the blobs.
    pub content_bytes: u64,
    /// Bytes of contents that are taken out of layers that are there, for which there must be room, too.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_bytes: u64,
    /// Bytes of the volumes, parity not counted.
    pub carried_bytes: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Blobs that one encoder made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// How many.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl CarryDocument {
    /// Reads the document of the carry in `directory`; with a key, only one that it signed.
    pub fn read(directory: &Path, key: Option<&PublicKey>) -> Result<Self, Error> {
        let path = directory.join(CARRY);
        let bytes = match fs::read(&path, LIMIT) {
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {
                // The system's own words for a directory that is not there.
                std::fs::metadata(directory).at("open", directory)?;
                return Err(Error::NoCarry(directory.to_owned()));
            }
            // A file of it was named.
            Err(error) if error.source.kind() == std::io::ErrorKind::NotADirectory => {
                return Err(Error::NoCarry(directory.to_owned()));
            }
            read => read?,
        };
        if let Some(key) = key {
            key.check(directory, &bytes)?;
        }
        let document = |source| Error::Document { path: path.clone(), source };
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_slice(&bytes).map_err(document)?;
        if !(FIRST_FORMAT..=FORMAT).contains(&format) {
            return Err(Error::Format { path, found: format });
        }
        let carry: CarryDocument = serde_json::from_slice(&bytes).map_err(document)?;
        let is_plain = |name: &str| !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        if let Some(file) = carry.files().find(|file| !is_plain(&file.file)) {
            return Err(Error::Name { path, name: file.file.clone() });
        }
        if carry.id.len() != 32 || !carry.id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::Name { path, name: carry.id });
        }
        Ok(carry)
    }

    /// All that lies beside it.
    fn files(&self) -> impl Iterator<Item = &VolumeFile> {
        self.volumes.iter().chain(&self.parity).chain(&self.program)
    }

    /// The bytes of the document.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("it has no maps with odd keys");
        bytes.push(b'\n');
        bytes
    }
}

/// The name of the document.
pub const CARRY: &str = "carry.json";
/// The name of the program that is carried along.
pub(super) const PROGRAM: &str = "haversack";
/// The version of the format of a carry that stands alone.
pub const FIRST_FORMAT: u32 = 1;
/// The version of the format of a carry that is built on others, and the latest that this release reads.
pub const FORMAT: u32 = 2;
/// Bytes of the document, at most: 10,000 images take 4 MB, and 10,000 blobs that are needed as much.
pub const LIMIT: u64 = 64 << 20;
