//! Why a repository cannot be used.

use std::path::PathBuf;

use reqwest::StatusCode;
use url::Url;

use crate::digest::Digest;
use crate::fs::PathError;
use crate::http::{self, Retriable, Verdict};

/// Why the repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// A file or directory here.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A file that is another than the list says.
    #[error("{}: it has {found}, and the list of its kernel says {expected}; fetch it again", file.display())]
    Changed {
        /// Where it is.
        file: PathBuf,
        /// What the list says.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// The credentials are not taken.
    #[error("{}: {status}{}{detail}", http::shown(url), if detail.is_empty() { "" } else { ": " })]
    Unauthorized {
        /// What was requested.
        url: Box<Url>,
        /// 401 or 403.
        status: StatusCode,
        /// Whether there were none.
        is_anonymous: bool,
        /// The server's words.
        detail: String,
    },
    /// There is no such repository, or no Artifactory.
    #[error("{}: not found (404): no repository `{repository}`, or no Artifactory at this address", http::shown(base))]
    NoRepository {
        /// The server.
        base: Box<Url>,
        /// Its name.
        repository: String,
    },
    /// An answer that is not what it should be.
    #[error("{}: the answer cannot be understood", http::shown(url))]
    Malformed {
        /// What was requested.
        url: Box<Url>,
        /// Why not.
        source: serde_json::Error,
    },
    /// The server has another content than was sent.
    #[error("{}: the server reports checksum {found}, expected {expected}", http::shown(url))]
    Different {
        /// Where it was sent.
        url: Box<Url>,
        /// What the server says.
        found: String,
        /// What was sent.
        expected: String,
    },
    /// The server has the file and not what it is to be marked with.
    #[error("the server did not store {names}; this login may lack the permission to annotate")]
    WithoutProperties {
        /// The keys, separated by commas.
        names: String,
    },
    /// An answer like success of a server that does not say what it has now.
    #[error("{}: answered with {status}, but the server does not confirm that it has the file", http::shown(url))]
    Unconfirmed {
        /// Where it was sent.
        url: Box<Url>,
        /// The answer's status.
        status: StatusCode,
    },
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            _ => Verdict::Permanent,
        }
    }
}
