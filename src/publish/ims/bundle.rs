//! A directory that holds an image's artifacts until they are where the service can be reached.
//!
//! ```text
//! DIR/rootfs  DIR/kernel  DIR/initrd  DIR/debug_kernel  DIR/boot_parameters     as their keys in S3
//! DIR/ims-bundle.json     version 1: name, arch, metadata, and of each artifact kind, file, size, md5, sha256
//! ```
//!
//! What does not have the size and the digests that are stated is not uploaded.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::{self, AtomicDir, AtomicFile, PathContext, PathError};
use crate::publish::ims::artifact::{Artifact, Kind};
use crate::publish::ims::manifest::pretty;

/// What is stated in `ims-bundle.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// 1
    pub version: u32,
    /// The image's name.
    pub name: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// Entries of the record's metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The files.
    pub artifacts: Vec<Stated>,
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// What it is, and its name in the bundle.
    pub kind: Kind,
    /// What it was called before.
    pub file: String,
    /// In bytes.
    pub size: u64,
    /// In hexadecimal digits.
    pub md5: String,
    /// In hexadecimal digits.
    pub sha256: String,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory.
    #[error("{0}")]
    Path(#[from] PathError),
    /// `ims-bundle.json` is none.
    #[error("{}: not the description of a bundle", path.display())]
    Malformed {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// A later version.
    #[error("{}: version {version}, and only 1 is known", path.display())]
    Version {
        /// Where it is.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// A file is not the one that was put in.
    #[error("{}: not what the bundle states: damaged or exchanged", path.display())]
    Different {
        /// Where it is.
        path: PathBuf,
    },
}

/// Whether a directory is a bundle.
pub fn is_bundle(directory: &Path) -> bool {
    directory.join(DESCRIPTION).is_file()
}

impl Bundle {
    /// Describes artifacts.
    pub fn new(name: &str, arch: &str, metadata: &[(String, String)], artifacts: &[Artifact]) -> Self {
        let stated = |artifact: &Artifact| Stated {
            kind: artifact.kind,
            file: artifact.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size: artifact.size,
            md5: artifact.md5.clone(),
            sha256: artifact.sha256.clone(),
        };
        Bundle {
            version: 1,
            name: name.to_owned(),
            arch: arch.to_owned(),
            metadata: metadata.iter().cloned().collect(),
            artifacts: artifacts.iter().map(stated).collect(),
        }
    }

    /// Writes the bundle in place of a directory that is there.
    pub fn write(&self, artifacts: &[Artifact], directory: &Path) -> Result<(), Error> {
        let whole = AtomicDir::create(directory)?;
        for artifact in artifacts {
            let path = whole.path().join(artifact.kind.key());
            let mut from = fs::open(&artifact.path)?;
            let mut to = AtomicFile::create(&path)?;
            io::copy(&mut from, &mut to).at("write", &path)?;
            to.finish()?;
            if artifact.is_changed() {
                return Err(Error::Different { path: artifact.path.clone() });
            }
        }
        let mut text = pretty(self);
        text.write_all(b"\n").at("write", directory)?;
        fs::write(&whole.path().join(DESCRIPTION), &text)?;
        Ok(whole.finish()?)
    }

    /// Reads what a bundle states.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(DESCRIPTION);
        let bytes = fs::read(&path, DESCRIPTION_LIMIT)?;
        let bundle: Bundle =
            serde_json::from_slice(&bytes).map_err(|source| Error::Malformed { path: path.clone(), source })?;
        match bundle.version {
            1 => Ok(bundle),
            version => Err(Error::Version { path, version }),
        }
    }

    /// Whether an artifact that was read from the bundle is what is stated.
    pub fn check(&self, artifact: &Artifact) -> Result<(), Error> {
        let is_same = |stated: &Stated| {
            (stated.kind, stated.size, &stated.md5, &stated.sha256)
                == (artifact.kind, artifact.size, &artifact.md5, &artifact.sha256)
        };
        if self.artifacts.iter().any(is_same) {
            return Ok(());
        }
        Err(Error::Different { path: artifact.path.clone() })
    }
}

const DESCRIPTION: &str = "ims-bundle.json";
const DESCRIPTION_LIMIT: u64 = 1 << 20;
