//! Why a bucket cannot be used.

use std::time::Duration;

use reqwest::StatusCode;
use url::Url;

use crate::http::{self, Retriable, Verdict};

/// Where a server says that a bucket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Its region.
    pub region: Option<String>,
    /// The host that is to be asked.
    pub endpoint: Option<String>,
}

/// Why the bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or one without a reason.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// An answer that gives a reason.
    #[error("{place}: {code} ({status}){}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// `s3://BUCKET/KEY`
        place: String,
        /// The answer's status.
        status: StatusCode,
        /// `NoSuchBucket`, `SlowDown`, …
        code: String,
        /// The server's words.
        message: String,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
        /// Where the bucket is, as far as the answer says.
        at: Box<Location>,
    },
    /// Another address answered than was asked, to which a signature does not belong.
    #[error("{place}: redirected to {}, but the request was signed for {}", http::shown(to), http::shown(endpoint))]
    Redirected {
        /// `s3://BUCKET/KEY`
        place: String,
        /// Who answered.
        to: Box<Url>,
        /// The server that was asked.
        endpoint: Box<Url>,
    },
    /// A name that is none.
    #[error("bucket `{name}`: {why}")]
    BadName {
        /// As it was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An answer that lacks what it should have.
    #[error("{place}: the answer has no {what}")]
    Malformed {
        /// `s3://BUCKET/KEY`
        place: String,
        /// What is missing.
        what: &'static str,
    },
    /// What is there is not what was sent.
    #[error("{place}: the {what} is {found}, expected {expected}")]
    Different {
        /// `s3://BUCKET/KEY`
        place: String,
        /// `size`, `ETag`, …
        what: &'static str,
        /// What the server says.
        found: String,
        /// What was sent.
        expected: String,
    },
}

impl Error {
    /// The code of an answer that gives one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Error::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            Error::Refused { status, code, retry_after, .. } => {
                // A damaged payload may arrive whole the next time; the codes are those that Amazon's own clients repeat.
                let passing = ["RequestTimeout", "BadDigest", "XAmzContentSHA256Mismatch", "OperationAborted"];
                let is_passing = status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED
                    || matches!(status.as_u16(), 408 | 429)
                    || passing.contains(&code.as_str());
                if is_passing { Verdict::Again { after: *retry_after } } else { Verdict::Permanent }
            }
            Error::BadName { .. } | Error::Redirected { .. } | Error::Malformed { .. } | Error::Different { .. } => {
                Verdict::Permanent
            }
        }
    }
}
