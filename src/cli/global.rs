//! The options of every command, and values that several of them have.

use std::path::PathBuf;
use std::time::Duration;

use clap::ArgAction;

use crate::http::{HttpOptions, Retry};
use crate::settings::Config;
use crate::terminal::ProgressMode;

/// Options of every command.
#[derive(clap::Args)]
#[command(next_help_heading = "Common options")]
pub(super) struct Global {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Print only results, warnings and errors
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(super) quiet: bool,
    /// Print more; twice for requests and timings
    #[arg(short, long, global = true, hide_short_help = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Use no network: refuse every request to another host before it is made
    #[arg(long, global = true, hide_short_help = true)]
    offline: bool,
    /// How progress is shown: auto, plain or none
    #[arg(
        long,
        global = true,
        hide_short_help = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = true
    )]
    pub(super) progress: ProgressMode,
    /// Also trust the certificate authorities in this PEM file
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE")]
    ca_file: Vec<PathBuf>,
    /// Directory with certificates of hosts, DIR/HOST[:PORT]/*.{crt,cert,key} [default: podman's and docker's certs.d]
    #[arg(long, global = true, hide_short_help = true, value_name = "DIR")]
    cert_dir: Vec<PathBuf>,
    /// Maximum number of times that a failed request is tried again
    #[arg(long, global = true, hide_short_help = true, value_name = "N", default_value_t = 5)]
    retries: u32,
    /// Seconds before the first retry; doubled for each further one
    #[arg(long, global = true, hide_short_help = true, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    retry_delay: f64,
    /// Seconds without a byte after which a request is given up
    #[arg(long, global = true, hide_short_help = true, value_name = "SECONDS", default_value_t = 90.0, value_parser = seconds)]
    timeout: f64,
}

/// How much is asked for at one time; `DEFAULT` where nothing is said.
#[derive(clap::Args)]
pub(super) struct ParallelArgs<const DEFAULT: u16> {
    /// Maximum number of parallel requests to one host
    #[arg(long, value_name = "N", default_value = DEFAULT.to_string(), value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
}

impl<const DEFAULT: u16> ParallelArgs<DEFAULT> {
    /// As a number of things.
    pub(super) fn count(&self) -> usize {
        self.parallel.into()
    }
}

impl Global {
    /// How servers are spoken to.
    pub(super) fn http(self, config: &Config) -> HttpOptions {
        HttpOptions {
            offline: self.offline,
            ca_files: self.ca_file,
            cert_dirs: if self.cert_dir.is_empty() { config.environment.cert_dirs() } else { self.cert_dir },
            read_timeout: Duration::from_secs_f64(self.timeout),
            retry: Retry {
                retries: self.retries,
                first_wait: Duration::from_secs_f64(self.retry_delay),
                ..Retry::default()
            },
            ..HttpOptions::default()
        }
    }
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=86_400.0).contains(seconds))
        .ok_or_else(|| "expected seconds, 0 to 86400".into())
}
