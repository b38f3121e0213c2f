//! What became of kernels that were unpacked: `haversack.unpacked`, version 1.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::kernel::classify::Role;
use crate::kernel::release::Machine;
use crate::kernel::unpack::Error;
use crate::kernel::unpack::inspect::{Compiler, Config};

/// What became of the kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnpackReport {
    /// Always `haversack.unpacked`.
    pub format: String,
    /// Always 1.
    pub version: u32,
    /// By `DISTRIBUTION/RELEASE`.
    pub kernels: BTreeMap<String, Unpacked>,
}

/// What became of one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unpacked {
    /// Whether it is there.
    pub status: Status,
    /// Why not, with all causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Which distribution made it.
    pub distribution: String,
    /// What `uname -r` prints, as the kernel directory says it, else the names of the packages.
    pub release: String,
    /// What `uname -m` prints.
    pub machine: Machine,
    /// What sets it apart from its siblings.
    pub flavour: String,
    /// Where it was unpacked.
    pub directory: PathBuf,
    /// Where modules are built (`make -C`), when headers are among its packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_directory: Option<PathBuf>,
    /// The release, where the kernel directory has another than the packages' names, after which the directory is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_in_headers: Option<String>,
    /// What the kernel was compiled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiler: Option<Compiler>,
    /// The kernel's configuration and its digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    /// What it was unpacked from.
    pub packages: Vec<UnpackedPackage>,
    /// Dependencies for building that none of the packages fulfils, and files that the makefiles include and nobody has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Whether a kernel is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was unpacked now.
    Unpacked,
    /// It was there, made from the same packages.
    Unchanged,
    /// It could not be unpacked; nothing of it is there that was not there before.
    Failed,
}

/// One package of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnpackedPackage {
    /// Its file name.
    pub file: String,
    /// As what it belongs to the kernel.
    pub role: Role,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 digest of the whole file.
    pub sha256: Digest,
    /// What was checked and is right.
    pub verified: Vec<Check>,
    /// What could not be checked, because the package or the source does not have it.
    pub unverified: Vec<Check>,
    /// Files whose owner is not root or that have capabilities, which were unpacked without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub special: Vec<Special>,
}

/// What can be checked of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The whole file against the digest that its source gave.
    SourceDigest,
    /// An rpm's header against the digest beside it.
    HeaderDigest,
    /// An rpm's payload against the digest in its header, or each file in it.
    PayloadDigest,
    /// An rpm's header against a signature.
    Signature,
}

/// A file that root would get with another owner or with capabilities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Special {
    /// Its path in the kernel's directory.
    pub path: String,
    /// The owning user's name.
    pub user: String,
    /// The owning group's name.
    pub group: String,
    /// File capabilities as text (`cap_net_admin=ep`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<String>,
}

impl Error {
    /// Whether the package is not what was once made.
    pub fn is_damage(&self) -> bool {
        match self {
            Error::Package { source, .. } => source.is_damage(),
            Error::Malformed(_) | Error::Payload(_) | Error::Header(_) | Error::Mismatch { .. } => true,
            Error::Incomplete { .. }
            | Error::NotHere(_)
            | Error::NoKeys(_)
            | Error::Unsigned
            | Error::BadSignature(_)
            | Error::Refused { .. }
            | Error::Path(_)
            | Error::Layer(_)
            | Error::Locked(_) => false,
        }
    }
}
