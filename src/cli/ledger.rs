//! Where the ledger of sites is: an option of `pack` and of `site`.

use std::path::PathBuf;

use crate::cli::Context;
use crate::cli::outcome::Failure;

/// Where the ledger is.
#[derive(clap::Args)]
pub(super) struct LedgerArgs {
    /// Directory of the ledger, which also keeps the packed blobs [default: $XDG_STATE_HOME/haversack/sites, or
    /// ~/.local/state/haversack/sites]
    #[arg(long, value_name = "DIR")]
    ledger: Option<PathBuf>,
}

impl LedgerArgs {
    /// The directory that was given, or the usual one.
    pub(super) fn directory(&self, context: &Context) -> Result<PathBuf, Failure> {
        let usual = || Some(context.config.environment.state_dir()?.join("sites"));
        self.ledger.clone().or_else(usual).ok_or_else(|| {
            Failure::usage("there is no place for the ledger: neither XDG_STATE_HOME nor HOME is set")
                .hint("name a directory with `--ledger DIR`")
        })
    }
}
