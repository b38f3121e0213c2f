//! The options of what reads the certified catalog and dumps it: `catalog snapshot`, `catalog dump` and the entrypoint of images.

use std::time::Duration;

use clap::Args;
use url::Url;

use crate::catalog::snapshot::{SnapshotOptions, SnapshotReport, Source};
use crate::catalog::tree::DumpOptions;
use crate::cli::Context;
use crate::cli::global::ParallelArgs;
use crate::cli::outcome::Failure;
use crate::http;

/// Where the catalog is, and how to read it.
#[derive(Args)]
pub(super) struct SourceArgs {
    /// Base URL of the catalog's API
    #[arg(long, value_name = "URL", default_value = "https://catalog.redhat.com/api/containers", value_parser = http::web_url)]
    api: Url,
    /// URL of the chart index; the list of unpublished certified charts is expected beside it
    #[arg(long, value_name = "URL", default_value = "https://charts.openshift.io/index.yaml", value_parser = http::web_url)]
    charts: Url,
    /// Organization whose operators are taken, such as redhat-operators; may be repeated
    #[arg(long, value_name = "NAME", default_value = "certified-operators")]
    organization: Vec<String>,
    #[command(flatten)]
    parallel: ParallelArgs<4>,
    /// Rows to ask for in one request; the server may give fewer
    #[arg(long, value_name = "ROWS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    page_size: u64,
    /// Read everything, not only what has changed
    #[arg(long)]
    full: bool,
    /// Read everything if the last full read is this many days old
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    full_after: u16,
    /// Accept a snapshot that lost more than a fifth of its operators, containers or charts
    #[arg(long)]
    accept_shrink: bool,
}

/// What a dump leaves out.
#[derive(Args)]
pub(super) struct DumpOptionArgs {
    /// Leave `catalog.db` out
    #[arg(long)]
    no_db: bool,
    /// Leave out charts of the community, which nobody certified
    #[arg(long)]
    no_community: bool,
}

impl SourceArgs {
    /// The services, with the client of this run.
    pub(super) fn online(&self, context: &Context) -> Result<Source, Failure> {
        let (api, charts) = (Box::new(self.api.clone()), Box::new(self.charts.clone()));
        Ok(Source::Online { http: context.http()?, api, charts })
    }

    pub(super) fn options(&self) -> SnapshotOptions {
        SnapshotOptions {
            organizations: self.organization.clone(),
            parallel: self.parallel.count(),
            page_size: self.page_size,
            full: self.full,
            full_after: Duration::from_secs(u64::from(self.full_after) * 24 * 3600),
            accept_shrink: self.accept_shrink,
            ..SnapshotOptions::default()
        }
    }
}

impl DumpOptionArgs {
    pub(super) fn options(&self) -> DumpOptions {
        DumpOptions { without_db: self.no_db, without_community: self.no_community, ready: None }
    }
}

/// Says what the user should know of a snapshot beside its counts.
pub(super) fn notes(report: &SnapshotReport, context: &Context) {
    if report.resumed {
        context.ui.say("Went on with what an earlier run had fetched");
    }
    context.ui.warn_of(report.warnings());
}
