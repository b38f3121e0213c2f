//! What a check finds.

use std::fmt;

use serde::Serialize;

use crate::digest::Digest;
use crate::plural;

/// What was checked and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Images of the index, or the one that was asked for.
    pub images: usize,
    /// Signatures, SBOMs and attestations of the index.
    pub referrers: usize,
    /// Different blobs that were read.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, sorted by what it is wrong with.
    pub findings: Vec<Finding>,
    /// Blobs that no image needs, sorted: they take room and do no harm.
    pub unneeded: Vec<Unneeded>,
}

/// A blob that no image needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unneeded {
    /// Its digest, as its name says it.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// A digest, or a file's name.
    pub subject: String,
    /// What is wrong with it.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "problem", rename_all = "kebab-case")]
pub enum Problem {
    /// It is referred to and not there.
    Missing {
        /// By which document.
        referred_by: String,
    },
    /// It is larger or smaller than whoever refers to it says.
    Size {
        /// As described.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// Its bytes have another digest.
    Digest {
        /// Theirs.
        found: Digest,
    },
    /// The tar in a layer is another one than the configuration says.
    DiffId {
        /// As configured.
        expected: String,
        /// As it is.
        found: Digest,
    },
    /// It is described as something else than it is.
    MediaType {
        /// As described.
        expected: String,
        /// As it is.
        found: String,
    },
    /// It cannot be read as what it is described as.
    Unreadable {
        /// Why not.
        reason: String,
    },
    /// A digest that is none.
    BadDigest {
        /// In which document.
        referred_by: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A manifest and its configuration do not have the same number of layers.
    LayerCount {
        /// In the configuration.
        configured: usize,
        /// In the manifest.
        listed: usize,
    },
    /// What a writer that was killed left behind.
    Leftover,
    /// A file that no layout has.
    Stray,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.subject)?;
        match &self.problem {
            Problem::Missing { referred_by } => write!(f, "missing, and {referred_by} refers to it"),
            Problem::Size { expected, found } => write!(f, "expected {expected} bytes, found {found}"),
            Problem::Digest { found } => write!(f, "its content has another digest: {found}"),
            Problem::DiffId { expected, found } => {
                write!(f, "holds another tar than configured: expected {expected}, found {found}")
            }
            Problem::MediaType { expected, found } => write!(f, "described as {expected}, but is {found}"),
            Problem::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
            Problem::BadDigest { referred_by, reason } => write!(f, "no valid digest, in {referred_by}: {reason}"),
            Problem::LayerCount { configured, listed } => {
                write!(f, "lists {}, and its configuration has {configured}", plural::count(*listed, "layer"))
            }
            Problem::Leftover => f.write_str("left by a writer that was killed"),
            Problem::Stray => f.write_str("not a part of a layout"),
        }
    }
}
