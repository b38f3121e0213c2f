//! Why something is not published although no server has said so.

use std::path::PathBuf;

/// Why something is not published.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The name of a repository is empty.
    #[error("--repo: the name of the repository is missing")]
    NoRepositoryName,
    /// A repository or a prefix that leads elsewhere.
    #[error("{option}: `{text}` is not a path inside the repository")]
    RepositoryPath {
        /// The option.
        option: &'static str,
        /// Its value.
        text: String,
    },
    /// There is nothing to upload.
    #[error("{}: no files to upload", .0.display())]
    NoFiles(PathBuf),
    /// A set names a file outside its own directory.
    #[error("{package}: outside the directory of {}", set.display())]
    OutsideSet {
        /// The file as the set names it.
        package: String,
        /// The set.
        set: PathBuf,
    },
    /// A package of a set is not here yet.
    #[error("{0}: not fetched")]
    NotYetFetched(String),
    /// Two packages of a set that would be the same file.
    #[error("{name}: two packages of the set have this name: {} and {}", one.display(), other.display())]
    SameFile {
        /// The name.
        name: String,
        /// One.
        one: PathBuf,
        /// The other.
        other: PathBuf,
    },
    /// Something about a service is not said.
    #[error("not configured: {what}")]
    NotConfigured {
        /// What.
        what: &'static str,
        /// The option that says it.
        option: &'static str,
        /// The variable that does.
        variable: &'static str,
    },
    /// A secret on the command line.
    #[error("{option} is not taken: everybody on the machine can read a command line")]
    SecretOption {
        /// The option.
        option: &'static str,
        /// The variable that may have it.
        variable: &'static str,
    },
    /// An address in the environment or a file is not one.
    #[error("{what}: `{text}`: {why}")]
    Address {
        /// The variable, or what it is the address of.
        what: &'static str,
        /// What it says.
        text: String,
        /// What was expected.
        why: String,
    },
    /// An image for IMS without a root file system.
    #[error("no root file system is given, without which the service takes no image")]
    NoRootfs,
}

impl Refusal {
    /// Whether what was asked for makes no sense, whatever there is.
    pub fn is_usage(&self) -> bool {
        match self {
            Refusal::NoRepositoryName
            | Refusal::RepositoryPath { .. }
            | Refusal::SecretOption { .. }
            | Refusal::Address { .. } => true,
            Refusal::NoFiles(_)
            | Refusal::OutsideSet { .. }
            | Refusal::NotYetFetched(_)
            | Refusal::SameFile { .. }
            | Refusal::NotConfigured { .. }
            | Refusal::NoRootfs => false,
        }
    }
}
