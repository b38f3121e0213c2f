//! Which packages are wanted, from where, and what sources need to be read.

use std::path::PathBuf;

use crate::http::ClientIdentity;
use crate::kernel::set::Filter;
use crate::kernel::source::Source;
use crate::kernel::source::modulemd::Stream;
use crate::kernel::source::redhat::RedHatOptions;
use crate::progress::Narration;

/// What every command that reads sources is told about them.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    /// The sources.
    pub sources: Vec<Source>,
    /// Distributions whose own repositories are read, too: `NAME` or `NAME:VERSION`.
    pub distros: Vec<String>,
    /// Where the repositories of [`SourceOptions::distros`] are mirrored.
    pub mirror: Option<String>,
    /// Believes the names of local files instead of reading their headers.
    pub names_only: bool,
    /// A file with keys of which one must have signed each repository.
    pub keyring: Option<PathBuf>,
    /// The subscriber API, for [`Source::RedHat`].
    pub redhat: Option<RedHatOptions>,
    /// The certificate that is shown to the hosts of the sources, and to no others.
    pub identity: Option<ClientIdentity>,
    /// Where metadata is kept for the next time.
    pub cache_dir: Option<PathBuf>,
    /// Streams of modules that count instead of the defaults, where dependencies are looked for.
    pub modules: Vec<Stream>,
    /// Takes apt repositories whose `Valid-Until` is past.
    pub allow_expired: bool,
    /// Takes files outside the directory of a set that names them.
    pub allow_local: bool,
    /// Takes what a set has behind URLs from beside the set, where `kernel fetch` puts it.
    pub beside_sets: bool,
    /// What is said while the subscriber API is read, beside progress.
    pub narration: Narration,
    /// Which kernels are wanted.
    pub filter: Filter,
}

impl SourceOptions {
    /// Whether no source is named.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.distros.is_empty()
    }
}
