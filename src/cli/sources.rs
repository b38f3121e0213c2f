//! The options of every command that reads sources of packages.

use std::path::PathBuf;

use url::Url;

use crate::cli::Context;
use crate::cli::outcome::{Exit, Failure};
use crate::fs;
use crate::http::ClientIdentity;
use crate::kernel::release::Machine;
use crate::kernel::set::Filter;
use crate::kernel::source::modulemd::Stream;
use crate::kernel::source::redhat::RedHatOptions;
use crate::kernel::source::{Source, SourceOptions};
use crate::kernel::version;
use crate::progress::Narration;

/// What sources need, and which kernels of them are wanted.
#[derive(clap::Args)]
#[command(next_help_heading = "Sources")]
pub(super) struct SourceArgs {
    /// Distribution whose repositories are read, in all its versions or in one: debian, debian:bookworm, rocky:9
    #[arg(long, value_name = "NAME[:VERSION]")]
    distro: Vec<String>,
    /// Mirror of the distribution's repositories: the URL of the directory that they are in; or a line of sources.list, of which
    /// the suite that it names is read, and no other [default: the distribution's own]
    #[arg(long, value_name = "URL", requires = "distro")]
    mirror: Option<String>,
    /// File with the offline token for redhat: [default: $REDHAT_OFFLINE_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Package to list from redhat:; may be repeated
    #[arg(long, value_name = "NAME", default_values = ["kernel-core", "kernel-devel"])]
    package: Vec<String>,
    /// Address of Red Hat's subscriber API
    #[arg(
        long,
        value_name = "URL",
        hide_short_help = true,
        default_value = "https://api.access.redhat.com/management/v1"
    )]
    redhat_api: Url,
    /// Address where access tokens for the subscriber API come from
    #[arg(long, value_name = "URL", hide_short_help = true, default_value = SSO)]
    redhat_sso: Url,
    /// Client certificate in PEM, for rpm: and apt: sources that ask for one
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Key of the client certificate [default: in the same file]
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Directory that keeps repositories' metadata, so that only changes are read again [default: none]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Module stream to resolve dependencies with, instead of the default one: perl:5.32
    #[arg(long, value_name = "NAME:STREAM")]
    module: Vec<Stream>,
    /// Accept apt repositories whose Valid-Until has passed
    #[arg(long)]
    allow_expired: bool,
    #[command(flatten)]
    local: LocalArgs,
}

/// What packages need that are here, and which kernels are wanted.
#[derive(clap::Args)]
pub(super) struct LocalArgs {
    /// Trust the names of local files instead of reading their headers
    #[arg(long)]
    names_only: bool,
    /// File with public keys, one of which must have signed each repository and rpm file [default: signatures are not checked]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Accept local files that a set names outside its own directory
    #[arg(long)]
    allow_local: bool,
    /// Keep only this release, or those that begin with it, such as 6.1 or 5.14.0-427; may be repeated
    #[arg(long, value_name = "RELEASE")]
    release: Vec<String>,
    /// Keep only kernels of this version or newer: 6.1, or the beginning of what `uname -r` prints, such as 5.14.0-427
    #[arg(long, value_name = "VERSION", value_parser = version::bound)]
    since: Option<String>,
    /// Keep only this flavour: default, rt, 64k, cloud, azure …; may be repeated
    #[arg(long, value_name = "FLAVOUR")]
    flavour: Vec<String>,
    /// Keep only the N newest kernels of each distribution, machine and flavour
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

impl SourceArgs {
    /// The options, with the sources that these words name.
    pub(super) fn options(&self, words: &[String], context: &Context) -> Result<SourceOptions, Failure> {
        Ok(SourceOptions {
            distros: self.distro.clone(),
            mirror: self.mirror.clone(),
            redhat: self.redhat(context)?,
            identity: self.client_cert.as_ref().map(|certificate| ClientIdentity {
                certificate: certificate.clone(),
                key: self.client_key.as_ref().unwrap_or(certificate).clone(),
            }),
            cache_dir: self.cache_dir.clone(),
            modules: self.module.clone(),
            allow_expired: self.allow_expired,
            narration: Narration { marks: false, lines: context.ui.is_logged() },
            ..self.local.options(words, &[])?
        })
    }

    /// Whether a distribution is named.
    pub(super) fn has_distro(&self) -> bool {
        !self.distro.is_empty()
    }

    /// The releases that are named.
    pub(super) fn releases(&self) -> &[String] {
        &self.local.release
    }

    fn redhat(&self, context: &Context) -> Result<Option<RedHatOptions>, Failure> {
        let token = match &self.token_file {
            Some(path) => Some(String::from_utf8_lossy(&fs::read(path, TOKEN_LIMIT)?).trim().to_owned()),
            None => context.config.environment.variable("REDHAT_OFFLINE_TOKEN").map(str::to_owned),
        };
        let (api, sso, names) = (self.redhat_api.clone(), self.redhat_sso.clone(), self.package.clone());
        Ok(token.map(|offline_token| RedHatOptions { api, sso, offline_token, names }))
    }
}

impl LocalArgs {
    /// The options, with the sources that these words name, and for these machines.
    pub(super) fn options(&self, words: &[String], machines: &[String]) -> Result<SourceOptions, Failure> {
        let filter = Filter {
            releases: self.release.clone(),
            since: self.since.clone(),
            machines: self::machines(machines),
            flavours: self.flavour.clone(),
            latest: self.latest,
        };
        Ok(SourceOptions {
            sources: Source::parse_all(words).map_err(|error| Failure::from(error).exit(Exit::Usage))?,
            names_only: self.names_only,
            keyring: self.keyring.clone(),
            allow_local: self.allow_local,
            filter,
            ..SourceOptions::default()
        })
    }
}

/// Machines as `uname -m` names them.
pub(super) fn machines(names: &[String]) -> Vec<Machine> {
    names.iter().map(|name| name.parse().unwrap_or_else(|never| match never {})).collect()
}

const SSO: &str = "https://sso.redhat.com/auth/realms/redhat-external/protocol/openid-connect/token";
const TOKEN_LIMIT: u64 = 1 << 20;
