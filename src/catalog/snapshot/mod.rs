//! How a consistent snapshot is taken from a catalog that changes meanwhile.
//!
//! The service has no snapshots of its own: rows arrive, change and vanish while it is read, its pages shift with them,
//! and it never says that a row was removed. Oct lost 69 of the newest rows on a median day, and once 27 rows for a
//! week because the total happened to be the same. So:
//!
//! 1. **A fixed set.** `upper` is the server's clock less a minute for replication, or just above the newest row where
//!    the data are ahead of that clock. The snapshot is of the rows created before `upper`; what arrives later cannot
//!    disturb the walk.
//! 2. **A full walk** along `creation_date` (see `walk`): by key, not by page number, several ranges at once. One page is
//!    also asked for by number, and must follow the one before it: a server whose paging is wrong is refused.
//! 3. **The delta** closes the gap: rows with `last_update_date` since the walk began, by the server's clock or by the
//!    newest change there was, whichever is older, are read again. A **refresh** is a
//!    delta without a walk, since the last snapshot or the newest change it has, whichever is older. Images are asked
//!    for without `certified==true`, so that those which are no longer certified are seen to leave.
//! 4. **The sweep** finds removals: the `_id`s of the whole set, in ranges cut along our own rows, so that a page seldom
//!    fills. What we have and the server has not is removed; what the server has and we have not is fetched, and in a
//!    refresh means that the delta cannot be trusted: then everything is walked again. Ranges that differ are swept
//!    once more, until they agree. A kind of more than 10,000 rows is counted in a few ranges first, and swept by `_id`
//!    only where counts differ: 120 requests for images each time would make a refresh as slow as a walk. That is sound
//!    as far as rows enter only with a new `last_update_date` (as they did in all 59 real steps that were measured): then
//!    we hold every row that the server has, and equal counts mean equal sets. Where one row was replaced by another
//!    that is as old, it takes until 5.
//! 5. **A full walk once a week**, whatever the deltas say.
//! 6. **What no date leads to**, since it has none or one before 1970, is counted (all rows against those with a date) and
//!    fetched by itself.
//!
//! Charts are one file beside that (see `chart_job`): whatever is wrong with it costs the charts only.
//!
//! Pages go into a work file as they come (see `store::Draft`) together with what is left to do, so that an interrupted
//! run goes on where it stopped. The old snapshot is replaced in one step when everything agrees, and a kind that lost
//! more than a fifth of its answers needs the user's word first.

mod chart_job;
mod job;
pub mod recorded;
mod sweep;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use url::Url;

use self::job::Job;
pub use self::walk::Error as WalkError;
use self::walk::Throttle;
use crate::catalog::charts;
use crate::catalog::client::{Catalog, Error as ClientError};
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::store::{self, Draft, Info, KindInfo, Open, Snapshot};
use crate::causes;
use crate::http::{Http, shown, without_secrets};
use crate::plural;
use crate::progress::Progress;

/// Where a snapshot is taken from.
#[derive(Clone)]
pub enum Source {
    /// The services.
    Online {
        /// The client to ask with.
        http: Http,
        /// The API's base, such as `https://catalog.redhat.com/api/containers`.
        api: Box<Url>,
        /// The chart index.
        charts: Box<Url>,
    },
    /// Bodies that were recorded, see [`recorded`].
    Recorded(PathBuf),
}

/// What is taken, and how.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// Which kinds; the others stay as they are in the old snapshot.
    pub kinds: Vec<Kind>,
    /// Whose operators.
    pub organizations: Vec<String>,
    /// Requests at once, at most.
    pub parallel: usize,
    /// Rows a page, at most; the server may give fewer.
    pub page_size: u64,
    /// Walks everything, even where a refresh would do.
    pub full: bool,
    /// Walks everything when the last full walk is older than this.
    pub full_after: Duration,
    /// Takes a snapshot that lost more than a fifth of the answers of a kind.
    pub accept_shrink: bool,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        SnapshotOptions {
            kinds: Kind::ALL.into(),
            organizations: vec!["certified-operators".into()],
            parallel: 4,
            page_size: 500,
            full: false,
            full_after: Duration::from_secs(7 * 24 * 3600),
            accept_shrink: false,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotReport {
    /// What the snapshot is now.
    pub info: Info,
    /// What was done for each kind that was asked for.
    pub kinds: BTreeMap<Kind, KindReport>,
    /// Whether an earlier run that had not come to its end was gone on with.
    pub resumed: bool,
}

/// What was done for one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindReport {
    /// How.
    pub how: How,
    /// Rows that were read in full.
    pub read: u64,
    /// Rows that were taken out because the catalog no longer has them.
    pub removed: u64,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What could not be taken as it stands, a line each: what was passed over, or taken without some field.
    pub odd: Vec<String>,
    /// Why the kind could not be had, where the others went on without it. What the old snapshot has of it was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl SnapshotReport {
    /// Whether everything that was asked for was taken, as it stands.
    pub fn is_complete(&self) -> bool {
        self.kinds.values().all(|kind| kind.odd.is_empty() && kind.failed.is_none())
    }
}

/// How a kind was brought up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// Everything was read.
    #[default]
    Full,
    /// What changed was read, and everything was swept.
    Refresh,
    /// The server said that nothing changed.
    Unchanged,
    /// It could not be read, and is what it was.
    Kept,
}

/// Why no snapshot was taken. The old one is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A walk failed.
    #[error("{0}")]
    Walk(#[from] walk::Error),
    /// A request failed.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The chart index failed.
    #[error("{0}")]
    Charts(#[from] charts::Error),
    /// The snapshot file failed.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// Recorded bodies failed.
    #[error("{0}")]
    Recorded(#[from] recorded::Error),
    /// There is no chart index.
    #[error("{}: there is no chart index", shown(url))]
    NoIndex {
        /// Where it was looked for.
        url: Box<Url>,
    },
    /// A kind is empty.
    #[error("{source_name}: the catalog has no {}{}", kind.plural(), where_filter(filter))]
    Empty {
        /// Which kind.
        kind: Kind,
        /// What was asked.
        source_name: String,
        /// Which rows were asked for.
        filter: String,
    },
    /// A kind lost much.
    #[error(
        "{source_name}: the catalog has {new} distinct {} where the snapshot has {old}, {} % fewer",
        kind.plural(),
        (old - new) * 100 / old
    )]
    Shrink {
        /// Which kind.
        kind: Kind,
        /// What was asked.
        source_name: String,
        /// Distinct answers of the old snapshot.
        old: u64,
        /// Distinct answers of the new one.
        new: u64,
    },
    /// Sweeps never agree.
    #[error("{source_name}: {} keep changing; {} in a row disagreed", kind.plural(), plural::count(*rounds, "sweep"))]
    Restless {
        /// Which kind.
        kind: Kind,
        /// What was asked.
        source_name: String,
        /// How many sweeps were made.
        rounds: u32,
    },
}

impl Error {
    /// Whether it is the chart index that could not be had or used, and nothing of ours failed.
    fn is_of_the_index(&self) -> bool {
        matches!(self, Error::Charts(_) | Error::NoIndex { .. } | Error::Empty { .. } | Error::Shrink { .. })
    }
}

/// Takes or refreshes the snapshot at `db`.
///
/// On any error the old snapshot is as it was, and what was fetched is kept beside it for six hours. Must run on a
/// multi-threaded runtime.
pub async fn snapshot(
    source: &Source,
    db: &Path,
    options: &SnapshotOptions,
    progress: &Progress,
) -> Result<SnapshotReport, Error> {
    let purpose = purpose(source, options);
    let (mut draft, mut open) = Draft::open(db, &purpose, true)?;
    let started = draft.note("started")?.and_then(|text| text.parse::<Instant>().ok());
    if open == Open::Resumed && started.is_none_or(|started| started.plus_seconds(RESUME_SECONDS) < Instant::now()) {
        draft.discard()?;
        (draft, open) = Draft::open(db, &purpose, true)?;
    }
    if open != Open::Resumed {
        draft.set_note("started", &Instant::now().to_string())?;
    }
    let gathered = gather(source, db, &draft, open, options, progress).await;
    let (kinds, reports) = match gathered {
        Ok(gathered) => gathered,
        Err(error) => {
            // Nothing was fetched: a work file would only lie about. And on a full disk it would keep the disk full.
            if matches!(source, Source::Recorded(_)) || draft.is_untouched() || causes::is_full_disk(&error) {
                draft.discard()?;
            }
            return Err(error);
        }
    };
    let of = kinds.values().map(|info| info.taken).min().unwrap_or_else(Instant::now);
    let started = std::time::Instant::now();
    let finished = tokio::task::block_in_place(|| draft.finish(of, kinds.into_iter().collect()))?;
    tracing::info!("checked and put in place in {:.1?}", started.elapsed());
    Ok(SnapshotReport { info: finished.info()?, kinds: reports, resumed: open == Open::Resumed })
}

/// What is known of a kind now, where it could be had, and what was done for it.
pub(super) type Taken = (Option<KindInfo>, KindReport);

/// What is known of each kind, and what was done for it.
type Gathered = (BTreeMap<Kind, KindInfo>, BTreeMap<Kind, KindReport>);

/// Brings every kind that is asked for up to date in the draft.
async fn gather(
    source: &Source,
    db: &Path,
    draft: &Draft,
    open: Open,
    options: &SnapshotOptions,
    progress: &Progress,
) -> Result<Gathered, Error> {
    let old = if db.is_file() { Some(Snapshot::open(db)?.info()?) } else { None };
    let mut kinds = old.as_ref().map(|old| old.kinds.clone()).unwrap_or_default();
    let taken = match source {
        Source::Online { http, api, charts } => {
            let name = without_secrets(api);
            let proven = kinds.values().filter(|old| old.source == name).map(|old| old.page_rows).max();
            let throttle = Arc::new(Throttle::new(options.parallel, options.page_size, proven.unwrap_or(0)));
            let catalog = Catalog::new(http.clone(), api);
            let job = |kind| {
                let filter = filter(kind, options);
                let old = kinds.get(&kind).filter(|old| old.source == name && old.filter == filter).cloned();
                Job { draft, catalog: &catalog, throttle: &throttle, kind, filter, old, options, progress }
            };
            let wanted = |kind| options.kinds.contains(&kind);
            let api_kind = async |kind| if wanted(kind) { job(kind).run().await.map(Some) } else { Ok(None) };
            let chart_kind = async {
                if !wanted(Kind::Chart) {
                    return Ok(None);
                }
                let old = kinds.get(&Kind::Chart);
                let job = chart_job::ChartJob { draft, http, index: charts, old, open, options };
                match job.run().await {
                    // What is wrong with the charts' host or file says nothing about the catalog.
                    Err(error) if options.kinds.len() > 1 && error.is_of_the_index() => Ok(Some(job.kept(&error))),
                    done => done.map(Some),
                }
            };
            // On one task, so that all three write to the one draft in turn.
            let taken = tokio::try_join!(api_kind(Kind::Operator), api_kind(Kind::Container), chart_kind)?;
            <[Option<Taken>; 3]>::from(taken)
        }
        Source::Recorded(directory) => {
            tokio::task::block_in_place(|| recorded::read(directory, draft, options, progress))?
        }
    };
    let mut reports = BTreeMap::new();
    for (kind, taken) in Kind::ALL.into_iter().zip(taken) {
        let Some((info, report)) = taken else { continue };
        if let Some(info) = info {
            guard(draft, kind, &info, kinds.get(&kind), options)?;
            kinds.insert(kind, info);
        }
        reports.insert(kind, report);
    }
    Ok((kinds, reports))
}

fn where_filter(filter: &str) -> String {
    if filter.is_empty() { String::new() } else { format!(" where {filter}") }
}

/// Refuses a kind that is empty or lost much, unless the user said that this is fine.
pub(super) fn guard(
    draft: &Draft,
    kind: Kind,
    info: &KindInfo,
    old: Option<&KindInfo>,
    options: &SnapshotOptions,
) -> Result<(), Error> {
    if options.accept_shrink {
        return Ok(());
    }
    let (source_name, new) = (info.source.clone(), draft.answers(kind)?);
    if new == 0 {
        return Err(Error::Empty { kind, source_name, filter: info.filter.clone() });
    }
    // Another filter is another question; that it has fewer answers means nothing.
    let old = old.filter(|old| old.filter == info.filter);
    match old.map(|old| old.answers) {
        Some(old) if new * 5 < old * 4 => Err(Error::Shrink { kind, source_name, old, new }),
        _ => Ok(()),
    }
}

/// What a work file is for: only a run with the same purpose goes on with it.
fn purpose(source: &Source, options: &SnapshotOptions) -> String {
    let source = match source {
        Source::Online { api, charts, .. } => format!("{} {}", without_secrets(api), without_secrets(charts)),
        Source::Recorded(directory) => directory.display().to_string(),
    };
    format!("{source} {:?} {:?} full={}", options.kinds, options.organizations, options.full)
}

fn filter(kind: Kind, options: &SnapshotOptions) -> String {
    match (kind, options.organizations.as_slice()) {
        (Kind::Operator, [organization]) => format!("organization=={organization}"),
        (Kind::Operator, organizations) => format!("organization=in=({})", organizations.join(",")),
        _ => "isv_pid!=null and certified==true".into(),
    }
}

/// For how long the pages of an interrupted run are worth keeping.
const RESUME_SECONDS: i64 = 6 * 3600;
