//! The options of commands that speak to registries.

use std::path::PathBuf;

use clap::ArgAction;
use clap::error::{ContextKind, ContextValue};

use crate::cli::Context;
use crate::cli::outcome::Failure;
use crate::ops::Access;

/// How two ends are spoken to: what is read and what is written.
#[derive(clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct RegistryArgs {
    #[command(flatten)]
    read: ReadArgs,
    /// Check the destination's certificate; `false` also allows plain HTTP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    dest_tls_verify: bool,
}

/// How what is read is spoken to, where nothing is written.
#[derive(clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct ReadArgs {
    /// Check the source's certificate; `false` also allows plain HTTP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    src_tls_verify: bool,
    #[command(flatten)]
    auth: AuthArgs,
}

/// How one registry is spoken to.
#[derive(clap::Args)]
#[command(next_help_heading = "Registries")]
pub(super) struct OneRegistryArgs {
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    auth: AuthArgs,
}

/// Whether the one server is checked that a command speaks to.
#[derive(clap::Args)]
pub(super) struct TlsArgs {
    /// Check the server's certificate; `false` also allows plain HTTP
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub(super) tls_verify: bool,
}

/// Where credentials are.
#[derive(clap::Args)]
#[command(next_help_heading = "Registries")]
struct AuthArgs {
    /// File with credentials [default: podman's and docker's files]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

/// Tips in place of clap's own: of an option that two ends have each of their own it knows one alone, and `podman login` has one that
/// we have not.
pub(super) fn with_tips(mut error: clap::Error) -> clap::Error {
    let is = |kind, texts: &[&str]| matches!(error.get(kind), Some(ContextValue::String(it)) if texts.contains(&&**it));
    let ends = ["--src-tls-verify", "--dest-tls-verify"];
    let tip = if is(ContextKind::InvalidArg, &["--tls-verify"]) && is(ContextKind::SuggestedArg, &ends) {
        "each end has its own: '--src-tls-verify' for what is read, '--dest-tls-verify' for what is written"
    } else if is(ContextKind::InvalidArg, &["-p", "--password"]) && error.to_string().contains(" login ") {
        "others on this machine can read a command line: '--password-stdin' takes the password from standard input"
    } else {
        return error;
    };
    error.remove(ContextKind::SuggestedArg);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    error
}

impl RegistryArgs {
    /// What is read.
    pub(super) fn source(&self, context: &Context) -> Result<Access, Failure> {
        self.read.access(context)
    }

    /// What is written.
    pub(super) fn destination(&self, context: &Context) -> Result<Access, Failure> {
        self.read.auth.access(self.dest_tls_verify, context)
    }
}

impl ReadArgs {
    /// What is read.
    pub(super) fn access(&self, context: &Context) -> Result<Access, Failure> {
        self.auth.access(self.src_tls_verify, context)
    }
}

impl OneRegistryArgs {
    /// The registry.
    pub(super) fn access(&self, context: &Context) -> Result<Access, Failure> {
        self.auth.access(self.tls.tls_verify, context)
    }
}

impl AuthArgs {
    /// A registry whose certificate is checked or not.
    fn access(&self, verify_tls: bool, context: &Context) -> Result<Access, Failure> {
        let auth = Access::auth_files(self.authfile.as_deref(), context.config.environment.auth_files());
        Ok(Access { http: context.http.clone(), auth, verify_tls })
    }
}
