//! Takes from a layout what nothing needs, pushes of late included: once, or every so often while it is served.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::causes;
use crate::image::Layout;
use crate::image::store::gc::{self, GcOptions, GcReport, gc};
use crate::image::store::layout::WORK;
use crate::plural;
use crate::serve::ledger::{self, Ledger};
use crate::serve::metrics::Metrics;
use crate::serve::push::Writer;

/// How often, and what is taken away.
#[derive(Clone, Copy, Debug)]
pub struct Collecting {
    /// From one run to the next.
    pub every: Duration,
    /// What goes.
    pub options: GcOptions,
}

/// Why nothing is taken away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layout.
    #[error("{0}")]
    Gc(#[from] gc::Error),
    /// What was pushed to it is not known.
    #[error("{0}")]
    Ledger(#[from] ledger::Error),
}

/// Takes away what nothing needs. A blob that was pushed, or asked for where it was pushed, within the grace time is needed: its
/// manifest may be about to come.
pub fn collect(layout: &Layout, options: &GcOptions) -> Result<GcReport, Error> {
    let directory = layout.root().join(WORK);
    let ledger = directory.join(ledger::NAME).exists().then(|| Ledger::open(&directory)).transpose()?;
    Ok(collect_with(layout, options, ledger.as_ref())?)
}

fn collect_with(layout: &Layout, options: &GcOptions, ledger: Option<&Ledger>) -> Result<GcReport, gc::Error> {
    let pushed = || {
        let members = ledger.map_or_else(|| Ok(HashMap::new()), Ledger::members);
        members.unwrap_or_else(|error| {
            tracing::warn!("{}: what was pushed of late is not known: {error}", layout.root().display());
            HashMap::new()
        })
    };
    let report = gc(layout, options, &pushed)?;
    if !options.dry_run
        && let Some(ledger) = ledger
        && let Err(error) = ledger.forget(&report.blobs)
    {
        tracing::warn!("{}: {error}", layout.root().display());
    }
    Ok(report)
}

/// Does so for as long as the writer is there. The first run is soon: who starts it each day wants it, too.
pub(super) async fn repeat(writer: Weak<Writer>, collecting: Collecting, metrics: Arc<Metrics>) {
    let mut pause = collecting.every.min(SOON);
    loop {
        tokio::time::sleep(pause).await;
        pause = collecting.every;
        let Some(writer) = writer.upgrade() else { return };
        let run = move || collect_with(writer.layout(), &collecting.options, Some(&writer.ledger));
        match tokio::task::spawn_blocking(run).await {
            Ok(Ok(report)) => {
                tell(&report);
                metrics.collected(&report);
            }
            // What is written now is done some time.
            Ok(Err(error @ gc::Error::Busy { .. })) => tracing::info!("{error}; it is tried again"),
            Ok(Err(error)) => tracing::error!("gc: {}", causes::line(&error)),
            Err(error) => tracing::error!("gc: {error}"),
        }
    }
}

fn tell(report: &GcReport) {
    let GcReport { removed, entries, waiting, failed, .. } = report;
    tracing::info!(
        "gc: removed {} ({} bytes) and {}; {} waiting",
        plural::count(removed.files, "blob"),
        removed.bytes,
        plural::count(entries.len(), "entry"),
        plural::count(waiting.files, "blob")
    );
    failed.iter().for_each(|failed| tracing::error!("gc: {failed}"));
}

/// After a start.
const SOON: Duration = Duration::from_secs(60);
