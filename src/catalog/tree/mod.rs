//! The directory that certsuite and oct read, written from a snapshot and read into one.
//!
//! ```text
//! DIR/data/archive.json                                  {"containers":N,"operators":N,"charts":N}
//! DIR/data/containers/containers.db                      one JSON object, DIGEST: image
//! DIR/data/helm/helm.db                                  a Helm index, YAML
//! DIR/data/operators/operator_catalog_page_P_500.db      {"data":[bundle, …]}, P from 0
//! DIR/catalog.db                                         the snapshot itself, unless it is not wanted
//! ```
//!
//! What unmodified certsuite answers from this tree is better than from oct's: an image is found by every digest it is
//! known by, that of its manifest list above all, which is what nodes report; entries that share a digest keep the
//! repositories of all; tags that were removed are gone; bundles without a dot in their name get the dot that the
//! reader asks for; constraints that would crash the reader are replaced by one that nothing satisfies. The same
//! snapshot always gives the same bytes.
//!
//! [`read`] follows certsuite's reader, its oddities with operators included, and answers what that answers. It differs
//! where that reader is at odds with itself: `registry.redhat.io` is found as it stands, and a key that stands twice in
//! containers.db keeps the tags of both. Field names are taken in the one spelling that trees have.

mod read;
mod write;

use std::path::PathBuf;

use serde::Serialize;

pub use self::read::{read, written};
pub use self::write::{dump, write_data};
use crate::catalog::chart_index::IndexError;
use crate::catalog::entry::Kind;
use crate::catalog::store;
use crate::digest::Digest;
use crate::fs::PathError;

/// What a dump writes.
#[derive(Clone, Debug, Default)]
pub struct DumpOptions {
    /// Leaves `catalog.db` out.
    pub without_db: bool,
    /// Leaves out charts of the community, which nobody certified although they stand in the index.
    pub without_community: bool,
    /// A `data` directory that was written from this very snapshot, to be copied instead of being written once more. The
    /// images hold one, for consumers that copy it out of them.
    pub ready: Option<PathBuf>,
}

/// What a dump wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpReport {
    /// The directory that holds `data`.
    pub directory: PathBuf,
    /// Keys of containers.db.
    pub containers: u64,
    /// Distinct bundles.
    pub operators: u64,
    /// Chart versions.
    pub charts: u64,
    /// Kinds that the snapshot does not hold, for which the tree is empty: certsuite takes nothing of them for certified.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Kind>,
}

/// What an import read, beside the rows that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Images by key.
    pub containers: u64,
    /// Bundles.
    pub operators: u64,
    /// Chart versions.
    pub charts: u64,
    /// What certsuite would pass over, and so did we; a line each.
    pub passed_over: Vec<String>,
    /// What could not be taken as it stands although certsuite might have read more of it; a line each.
    pub odd: Vec<String>,
}

/// Why a tree cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The snapshot failed.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// The file system failed.
    #[error("{0}")]
    Path(#[from] PathError),
    /// There is no tree.
    #[error("{}: no certification data here (expected containers/, helm/ and operators/, or data/ with them)", path.display())]
    NoTree {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The place for a dump is not a directory.
    #[error("{}: not a directory", path.display())]
    NotADirectory {
        /// The place.
        path: PathBuf,
    },
    /// The place for a dump is not there.
    #[error("{}: no such directory", path.display())]
    NoDirectory {
        /// The place.
        path: PathBuf,
    },
    /// A file is not what certsuite could read.
    #[error("{}: not a JSON object of images", path.display())]
    Containers {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The chart index cannot be read.
    #[error("{}: not a chart index", path.display())]
    Charts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IndexError,
    },
    /// A copy is not what was copied.
    #[error("{}: differs from {}, which was copied to it", path.display(), original.display())]
    Copy {
        /// The copy.
        path: PathBuf,
        /// What was copied.
        original: PathBuf,
    },
    /// A file has not the bytes that were written.
    #[error("{}: {found} bytes can be read, {expected} were written", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes written.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// What was written is not what was meant to be.
    #[error("{}: what was written reads back as {found}, not as {expected}", path.display())]
    Verify {
        /// The file.
        path: PathBuf,
        /// What was written.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
}
