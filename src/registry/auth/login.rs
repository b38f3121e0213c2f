//! A login, and why there may be none.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::fs::PathError;

/// How to introduce oneself. Its debug form holds no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Not at all.
    Anonymous,
    /// With a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// With a token that others are given for.
    Identity(String),
}

/// Why credentials cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read.
    #[error("{0}")]
    Read(#[from] PathError),
    /// A file that is something else.
    #[error("{}: not a file of credentials", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An entry that cannot be decoded.
    #[error("{}: the entry for `{key}` is not base64 of USER:PASSWORD", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which entry.
        key: String,
    },
    /// A helper that does not answer.
    #[error("the credential helper `{program}` gave no credentials for {registry}")]
    Helper {
        /// The program.
        program: String,
        /// For which registry.
        registry: String,
        /// What happened.
        source: io::Error,
    },
    /// A helper that keeps credentials does not do what it is told.
    #[error("the credential helper `{program}` failed to {verb} for {registry}")]
    Told {
        /// The program.
        program: String,
        /// What it was told: `store` or `erase`.
        verb: &'static str,
        /// For which registry.
        registry: String,
        /// What happened.
        source: io::Error,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::Anonymous => f.write_str("Anonymous"),
            Login::Basic { user, .. } => write!(f, "Basic({user})"),
            Login::Identity(_) => f.write_str("Identity"),
        }
    }
}
