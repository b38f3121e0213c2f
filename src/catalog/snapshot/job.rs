//! The work on one kind of the API: walk, delta, sweep. `snapshot` explains why it is done so.

use std::collections::HashSet;
use std::sync::Arc;

use crate::catalog::client::{Catalog, Content, Fields, Page, Row};
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::snapshot::walk::{self, Key, Range, Throttle, Walk};
use crate::catalog::snapshot::{Error, How, KindReport, SnapshotOptions, Taken};
use crate::catalog::store::{self, Draft, KindInfo};
use crate::progress::{Progress, Task, Unit};
use serde::{Deserialize, Serialize};

/// The work on one kind of the API.
pub(super) struct Job<'a> {
    pub(super) draft: &'a Draft,
    pub(super) catalog: &'a Catalog,
    pub(super) throttle: &'a Arc<Throttle>,
    pub(super) kind: Kind,
    pub(super) filter: String,
    /// What the old snapshot has of it, when it asked the same of the same server.
    pub(super) old: Option<KindInfo>,
    pub(super) options: &'a SnapshotOptions,
    pub(super) progress: &'a Progress,
}

/// How far a job is, kept in the work file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// The server's clock when the job began.
    pub(super) taken: Instant,
    /// Changes are looked for from here: the server's clock, or the newest change there was, whichever is older.
    pub(super) since: Instant,
    /// The set is what was created before this.
    pub(super) upper: Instant,
    pub(super) refresh: bool,
    /// What is left of the walk or delta.
    pub(super) left: Vec<Range>,
    /// What is left of the sweep, once it has begun.
    #[serde(default)]
    pub(super) unswept: Option<Vec<Range>>,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Stage {
    Walk,
    Delta,
    Sweep,
    Outside,
    Done,
}

impl Job<'_> {
    /// Reads or refreshes the kind into the draft.
    pub(super) async fn run(&self) -> Result<Taken, Error> {
        let mut report = KindReport::default();
        let mut state = match self.state()? {
            // What was complete when another kind failed, or before a refusal, may be hours old by now.
            Some(mut state) if state.stage == Stage::Done => {
                let from = state.since.plus_seconds(-OVERLAP_SECONDS);
                state.left = vec![Range { from, to: None, page: 0 }];
                state.unswept = None;
                state.stage = Stage::Delta;
                state
            }
            Some(state) => state,
            None => self.begin(&mut report).await?,
        };
        loop {
            let started = std::time::Instant::now();
            let stage = state.stage;
            match stage {
                Stage::Walk => {
                    self.walk(&mut state, &mut report).await?;
                    state.left = vec![Range { from: state.since.plus_seconds(-OVERLAP_SECONDS), to: None, page: 0 }];
                    state.stage = Stage::Delta;
                }
                Stage::Delta => {
                    self.delta(&mut state, &mut report).await?;
                    state.stage = Stage::Sweep;
                }
                Stage::Sweep => {
                    if self.sweep(&mut state, &mut report).await? {
                        state.stage = Stage::Outside;
                    } else {
                        report.notes.push(format!(
                            "{}: the sweep found rows that the delta had not; everything was read again",
                            self.kind.plural()
                        ));
                        state = self.begin_full().await?;
                    }
                }
                Stage::Outside => {
                    self.outside(&state, &mut report).await?;
                    state.stage = Stage::Done;
                }
                Stage::Done => break,
            }
            tracing::info!("{}: {stage:?} took {:.1?}", self.kind.plural(), started.elapsed());
            self.keep(&state)?;
        }
        report.how = if state.refresh { How::Refresh } else { How::Full };
        let walked = match &self.old {
            Some(old) if state.refresh => old.walked,
            _ => state.taken,
        };
        let source = self.catalog.name();
        let (filter, taken) = (self.filter.clone(), state.taken);
        let known = self.old.as_ref().map(|old| old.newest).unwrap_or_default();
        let newest = self.draft.newest_update(self.kind)?.unwrap_or_default().max(known);
        let page_rows = self.throttle.proven();
        let info = KindInfo { source, filter, taken, newest, page_rows, walked, ..KindInfo::default() };
        Ok((Some(info), report))
    }

    /// Decides between refresh and full walk.
    async fn begin(&self, report: &mut KindReport) -> Result<State, Error> {
        let refreshable = self.old.as_ref().filter(|old| {
            let due = old.walked.plus_seconds(i64::try_from(self.options.full_after.as_secs()).unwrap_or(i64::MAX));
            !self.options.full && old.rows > 0 && due > Instant::now()
        });
        let Some(old) = refreshable else { return self.begin_full().await };
        // The newest change that we have is the catalog's own word on how far we are, whatever its clock says.
        let newest = if old.newest.is_known() { old.newest } else { old.taken };
        let since = old.taken.min(newest).plus_seconds(-OVERLAP_SECONDS);
        // Two ranges only so that a large delta is read in parallel; where they meet does not matter.
        let middle = Instant::now().plus_seconds(-OVERLAP_SECONDS).max(since.plus_seconds(1));
        let left = vec![Range { from: since, to: Some(middle), page: 0 }, Range { from: middle, to: None, page: 0 }];
        tracing::info!("{}: refresh since {since}", self.kind.plural());
        report.how = How::Refresh;
        // Set from the delta's first answer.
        let (taken, upper) = (Instant::default(), Instant::default());
        Ok(State { taken, since, upper, refresh: true, left, unswept: None, stage: Stage::Delta })
    }

    /// Finds the ends of the set, looks at the server's paging, and empties the draft for a full walk.
    async fn begin_full(&self) -> Result<State, Error> {
        let walk = self.along(Key::Created, Fields::Ids);
        let everything = Range { from: Instant::FIRST, to: None, page: 0 };
        let page_size = self.throttle.page_size();
        let first = walk.request(&everything, page_size, false);
        let mut newest = walk.request(&everything, 1, false);
        newest.sort_by = "creation_date[desc]".into();
        let mut changed = newest.clone();
        changed.sort_by = "last_update_date[desc]".into();
        let (first, newest, changed) = tokio::try_join!(
            self.throttle.page(self.catalog, &first),
            self.throttle.page(self.catalog, &newest),
            self.throttle.page(self.catalog, &changed),
        )?;
        walk.check(&everything, &first)?;
        let (Some(oldest), Some(newest)) = (first.rows.first(), newest.rows.first()) else {
            if !self.options.accept_shrink {
                let source_name = self.catalog.name();
                return Err(Error::Empty { kind: self.kind, source_name, filter: self.filter.clone() });
            }
            let taken = first.date.unwrap_or_else(Instant::now);
            let (left, unswept, stage) = (Vec::new(), None, Stage::Walk);
            return self.empty(State { taken, since: taken, upper: taken, refresh: false, left, unswept, stage });
        };
        self.look_at_paging(&walk, &first).await?;
        let taken = first.date.unwrap_or_else(Instant::now);
        warn_of_skew(taken);
        let above_newest = Instant::from_micros(newest.created.micros() + 1);
        let upper = taken.plus_seconds(-REPLICATION_SECONDS).max(above_newest);
        let left = vec![Range { from: oldest.created.plus_seconds(-1).max(Instant::FIRST), to: Some(upper), page: 0 }];
        let since = changed.rows.first().map_or(taken, |row| taken.min(row.updated));
        self.empty(State { taken, since, upper, refresh: false, left, unswept: None, stage: Stage::Walk })
    }

    /// Makes room for a full walk.
    fn empty(&self, state: State) -> Result<State, Error> {
        self.draft.transaction(|draft| draft.clear(self.kind).and_then(|()| self.note(draft, &state)))?;
        Ok(state)
    }

    /// Asks for the second page by its number. It must not repeat the first.
    ///
    /// The walk does not depend on it, but a server that gets this wrong (as it did on 2022-05-09, when page N began at
    /// row N²) is in no state to be trusted.
    async fn look_at_paging(&self, walk: &Walk, first: &Page) -> Result<(), Error> {
        let numbered = |page| Range { from: Instant::FIRST, to: None, page };
        let mut first = first.clone();
        for last in [false, true] {
            let Some(size) = first.page_size.filter(|size| *size <= first.rows.len() as u64) else { return Ok(()) };
            let second = self.throttle.page(self.catalog, &walk.request(&numbered(1), size, false)).await?;
            // Rows of one instant may come in another order each time; they prove nothing.
            let end = first.rows.last().map(|row| row.created);
            let ids: HashSet<&str> =
                first.rows.iter().filter(|row| Some(row.created) != end).map(|row| row.id.as_str()).collect();
            let repeated = second.rows.iter().filter(|row| ids.contains(row.id.as_str())).count();
            // A server in trouble may have been asked for less the second time; such pages cannot be compared.
            if repeated == 0 || second.page_size != first.page_size {
                return Ok(());
            }
            if last {
                return Err(walk::Error::Paging { url: Box::new(second.url), first: 0, second: 1, repeated }.into());
            }
            // Rows may have moved in between; that does not happen each time.
            first = self.throttle.page(self.catalog, &walk.request(&numbered(0), size, false)).await?;
        }
        Ok(())
    }

    async fn walk(&self, state: &mut State, report: &mut KindReport) -> Result<(), Error> {
        let total = self.old.as_ref().map(|old| old.rows).filter(|rows| *rows > 0);
        let task = Arc::new(self.progress.task(format!("Reading {}", self.kind.plural()), Unit::Rows, total));
        let walk = self.along(Key::Created, Fields::All);
        let ranges = std::mem::take(&mut state.left);
        if let ([everything], None) = (&ranges[..], total) {
            self.count_for(&task, &walk, everything);
        }
        let mut kept = state.clone();
        walk.run(self.catalog, self.throttle, ranges, &task, |page, left| {
            report.read += page.rows.len() as u64;
            kept.left = left.to_vec();
            self.take(&page.rows, &kept)
        })
        .await
    }

    /// Finds out how many rows there are, for whoever watches: beside the walk, which neither waits for it nor needs it, for
    /// counting is what the server takes longest for.
    fn count_for(&self, task: &Arc<Task>, walk: &Walk, range: &Range) {
        if !self.progress.is_shown() || self.options.parallel < 2 {
            return;
        }
        let walk = Walk { fields: Fields::Ids, ..walk.clone() };
        let (request, task) = (walk.request(range, 1, true), Arc::downgrade(task));
        let (catalog, throttle) = (self.catalog.clone(), self.throttle.clone());
        tokio::spawn(async move {
            let total = throttle.count(&catalog, &request).await;
            if let (Some(total), Some(task)) = (total, task.upgrade()) {
                task.set_total(total);
            }
        });
    }

    async fn delta(&self, state: &mut State, report: &mut KindReport) -> Result<(), Error> {
        let task = Arc::new(self.progress.task(format!("Updating {}", self.kind.plural()), Unit::Rows, None));
        let mut walk = self.along(Key::Updated, Fields::All);
        if self.kind == Kind::Container {
            // Without `certified==true`, or an image that is no longer certified would not be seen to leave.
            walk.filter = "isv_pid!=null".into();
        }
        let ranges = std::mem::take(&mut state.left);
        let mut kept = state.clone();
        walk.run(self.catalog, self.throttle, ranges, &task, |page, left| {
            report.read += page.rows.len() as u64;
            if !kept.taken.is_known() {
                kept.taken = page.date.unwrap_or_else(Instant::now);
                warn_of_skew(kept.taken);
            }
            kept.left = left.to_vec();
            // In a full run the set is fixed already; rows that came later belong to the next one.
            let belongs = |row: &&Row| !kept.upper.is_known() || row.created < kept.upper;
            let rows: Vec<Row> = page.rows.iter().filter(belongs).cloned().collect();
            self.take(&rows, &kept)
        })
        .await?;
        *state = kept;
        if !state.upper.is_known() {
            let newest = self.draft.newest_creation(self.kind)?.unwrap_or_default();
            let above_newest = Instant::from_micros(newest.micros() + 1);
            state.upper = state.taken.plus_seconds(-REPLICATION_SECONDS).max(above_newest);
        }
        Ok(())
    }

    /// Takes rows over, with how far the job is, in one transaction.
    pub(super) fn take(&self, rows: &[Row], state: &State) -> Result<(), Error> {
        Ok(self.draft.transaction(|draft| {
            for row in rows {
                match &row.content {
                    _ if !row.counts => draft.remove(self.kind, &row.id)?,
                    Content::Bundle(bundle) => draft.put_bundle(bundle)?,
                    Content::Image(image) => draft.put_image(image)?,
                    Content::Id => {}
                }
            }
            self.note(draft, state)
        })?)
    }

    pub(super) fn along(&self, key: Key, fields: Fields) -> Walk {
        Walk { kind: self.kind, filter: self.filter.clone(), key, fields }
    }

    fn state(&self) -> Result<Option<State>, Error> {
        let text = self.draft.note(&format!("state {}", self.kind.plural()))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub(super) fn keep(&self, state: &State) -> Result<(), Error> {
        Ok(self.note(self.draft, state)?)
    }

    fn note(&self, draft: &Draft, state: &State) -> Result<(), store::Error> {
        let text = serde_json::to_string(state).expect("a state is plain data");
        draft.set_note(&format!("state {}", self.kind.plural()), &text)
    }
}

fn warn_of_skew(server: Instant) {
    let ours = Instant::now();
    let minutes = (server.micros() - ours.micros()) / 60_000_000;
    if minutes.abs() >= 5 {
        tracing::warn!(
            "the catalog's clock says {server}, this host's {ours}: {} minutes apart; the snapshot goes by the catalog's",
            minutes.abs()
        );
    }
}

/// Rows that were created within this before the walk may not have reached every replica yet.
const REPLICATION_SECONDS: i64 = 60;

/// How much of the past a delta reads again, for clocks that differ between the catalog's own hosts.
const OVERLAP_SECONDS: i64 = 600;
