//! What an upload is asked to do, what comes of it, and what can go wrong.

use std::path::PathBuf;

use serde_json::Value;

use crate::publish::ims::api::{self, Record};
use crate::publish::ims::artifact::{self, Artifact};
use crate::publish::ims::manifest::Entry;
use crate::publish::s3;

/// What is to be uploaded.
#[derive(Debug)]
pub struct Order {
    /// The image's name, any text.
    pub name: String,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// The job that the image came of, in lower case.
    pub job: Option<String>,
    /// The files, at most one of each kind, in the order of their kinds.
    pub artifacts: Vec<Artifact>,
    /// Entries of the record's metadata.
    pub metadata: Vec<(String, String)>,
    /// Whether to take an image that is there with the same name, architecture and content.
    pub skip_existing: bool,
    /// Where journals are; without one, an upload cannot be resumed.
    pub state: Option<PathBuf>,
    /// Parts under way at one time.
    pub parallel: usize,
}

/// What was done.
#[derive(Debug)]
pub struct Published {
    /// The image's record after the last change.
    pub record: Record,
    /// The artifacts and the manifest; nothing when the image was there.
    pub entries: Vec<Entry>,
    /// The job's record.
    pub job: Option<Value>,
    /// Whether the image was there.
    pub is_existing: bool,
    /// Bytes of artifacts that this run sent.
    pub sent: u64,
}

/// Why an image was not uploaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service.
    #[error("{0}")]
    Ims(#[from] api::Error),
    /// The store.
    #[error("{0}")]
    S3(#[from] s3::Error),
    /// A file.
    #[error("{0}")]
    Artifact(#[from] artifact::Error),
    /// The run is to end.
    #[error("stopped")]
    Stopped,
    /// There is no such job.
    #[error("job {job}: the service does not know it")]
    NoSuchJob {
        /// Its id.
        job: String,
    },
    /// What was uploaded is not there.
    #[error("{place}: not there after it was uploaded")]
    Vanished {
        /// `s3://BUCKET/KEY`
        place: String,
    },
}
