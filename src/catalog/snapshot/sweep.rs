//! What a walk and a delta cannot see: rows that are gone, rows that neither brought, rows that no date leads to.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::catalog::client::{Error as ClientError, Fields, PageRequest, Row};
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::snapshot::job::{Job, State};
use crate::catalog::snapshot::walk::{Key, Range, Walk};
use crate::catalog::snapshot::{Error, KindReport};
use crate::limits;
use crate::progress::{Task, Unit};

impl Job<'_> {
    /// Compares our rows with the server's `_id`s until both agree. False when a refresh turns out to have missed rows.
    ///
    /// What agrees is noted after every few ranges, so that an interrupted sweep goes on with the rest.
    pub(super) async fn sweep(&self, state: &mut State, report: &mut KindReport) -> Result<bool, Error> {
        let task = Arc::new(self.progress.task(format!("Comparing {}", self.kind.plural()), Unit::Rows, None));
        let mut ranges = match &state.unswept {
            Some(left) => left.clone(),
            None => {
                let everything = Range { from: Instant::FIRST, to: Some(state.upper), page: 0 };
                let ids = self.dated()?;
                match ids.len() as u64 > SWEPT_BY_ID {
                    true => self.differing(&ids, &everything).await?,
                    false => vec![everything],
                }
            }
        };
        for round in 0..SWEEPS {
            if ranges.is_empty() {
                return Ok(true);
            }
            let ids = self.dated()?;
            let leaves: Vec<Range> =
                ranges.iter().flat_map(|range| cut(&ids, range, (self.throttle.page_size() * 9 / 10).max(1))).collect();
            task.set_total(leaves.iter().map(|range| bounds(&ids, range)).map(|(from, to)| (to - from) as u64).sum());
            let mut differing = Vec::new();
            let mut done = 0;
            for some in leaves.chunks(SWEPT_AT_ONCE) {
                let trusting = state.refresh && round == 0;
                let Some(unlike) = self.compare(&ids, some, trusting, state, &task, report).await? else {
                    return Ok(false);
                };
                done += some.len();
                differing.extend(unlike);
                state.unswept = Some([&differing[..], &leaves[done..]].concat());
                self.keep(state)?;
            }
            ranges = differing;
        }
        if ranges.is_empty() {
            return Ok(true);
        }
        Err(Error::Restless { kind: self.kind, source_name: self.catalog.name(), rounds: SWEEPS })
    }

    /// Compares the `_id`s in a few ranges, takes out what is gone, fetches what is missing, and returns the ranges that were
    /// not alike. `None` when rows are missing although the delta is trusted (`trusting`) to have brought them.
    async fn compare(
        &self,
        ids: &[(String, Instant)],
        leaves: &[Range],
        trusting: bool,
        state: &State,
        task: &Arc<Task>,
        report: &mut KindReport,
    ) -> Result<Option<Vec<Range>>, Error> {
        let seen = Cell::new(HashSet::new());
        self.along(Key::Created, Fields::Ids)
            .run(self.catalog, self.throttle, leaves.to_vec(), task, |page, _| {
                let mut ids = seen.take();
                // A server that rounds instants may give what has none.
                let counted = page.rows.iter().filter(|row| row.counts && row.created >= Instant::FIRST);
                ids.extend(counted.map(|row| (row.created, row.id.clone())));
                seen.set(ids);
                Ok::<_, Error>(())
            })
            .await?;
        let seen = seen.take();
        let of = |created: Instant| {
            leaves.iter().find(|range| created >= range.from && range.to.is_none_or(|to| created < to))
        };
        let ours: HashSet<&str> = ids.iter().map(|(id, _)| id.as_str()).collect();
        let theirs: HashSet<&str> = seen.iter().map(|(_, id)| id.as_str()).collect();
        let gone: Vec<&(String, Instant)> =
            ids.iter().filter(|(id, created)| !theirs.contains(id.as_str()) && of(*created).is_some()).collect();
        let missing: Vec<Instant> =
            seen.iter().filter(|(_, id)| !ours.contains(id.as_str())).map(|(created, _)| *created).collect();
        if !missing.is_empty() && trusting {
            return Ok(None);
        }
        let mut differing: Vec<Range> = Vec::new();
        for created in gone.iter().map(|(_, created)| *created).chain(missing.iter().copied()) {
            if let Some(range) = of(created).filter(|range| !differing.contains(range)) {
                differing.push(range.clone());
            }
        }
        self.draft.transaction(|draft| gone.iter().try_for_each(|(id, _)| draft.remove(self.kind, id)))?;
        report.removed += gone.len() as u64;
        if !missing.is_empty() {
            let walk = self.along(Key::Created, Fields::All);
            walk.run(self.catalog, self.throttle, differing.clone(), task, |page, _| {
                report.read += page.rows.len() as u64;
                self.take(&page.rows, state)
            })
            .await?;
        }
        Ok(Some(differing))
    }

    /// Fetches the rows that a walk by creation cannot meet: those without a date, and those from before 1970.
    ///
    /// Whether there are any is counted: all rows of the kind, and those that have a date.
    pub(super) async fn outside(&self, state: &State, report: &mut KindReport) -> Result<(), Error> {
        let mut walk = self.along(Key::Created, Fields::All);
        if self.kind == Kind::Container {
            walk.filter.push_str(" and deleted!=true");
        }
        let mut expected = self.count_outside(&walk).await;
        let mut found: Vec<Row> = Vec::new();
        if expected != Some(0) {
            for condition in ["creation_date==null".to_owned(), format!("creation_date<{}", Instant::FIRST)] {
                match self.undated(&format!("{} and {condition}", walk.filter)).await {
                    Ok(rows) => found.extend(rows),
                    // Not every server knows what it is to be nothing; the count says whether that matters.
                    Err(error) if error.is_bad_request() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let kind = self.kind.plural();
        let ids: HashSet<&str> = found.iter().filter(|row| row.counts).map(|row| row.id.as_str()).collect();
        let ours = self.draft.ids(self.kind)?;
        let gone: Vec<&String> = ours
            .iter()
            .filter(|(id, created)| *created < Instant::FIRST && !ids.contains(id.as_str()))
            .map(|(id, _)| id)
            .collect();
        self.draft.transaction(|draft| gone.iter().try_for_each(|id| draft.remove(self.kind, id)))?;
        self.take(&found, state)?;
        report.removed += gone.len() as u64;
        report.read += found.len() as u64;
        let fetched = ids.len() as u64;
        if fetched > 0 {
            let rows_have = if fetched == 1 { "row has" } else { "rows have" };
            report.notes.push(format!(
                "{kind}: {fetched} {rows_have} no creation date, or one before 1970; fetched all the same"
            ));
        }
        if expected.is_some_and(|expected| expected > fetched) {
            // A row may have come between one count and the other.
            expected = expected.min(self.count_outside(&walk).await);
        }
        match expected {
            Some(expected) if expected > fetched => report.odd.push(format!(
                "{kind}: the catalog counts {expected} rows without a usable creation date and gives {fetched} of them"
            )),
            Some(_) => {}
            None => report.notes.push(format!(
                "{kind}: the catalog does not say how many rows it has, so that those without a creation date may be missing"
            )),
        }
        Ok(())
    }

    /// How many rows have no date that a walk could meet, where the server counts.
    async fn count_outside(&self, walk: &Walk) -> Option<u64> {
        // A row each, of which nothing is wanted.
        let walk = Walk { fields: Fields::Ids, ..walk.clone() };
        let dated = walk.request(&Range { from: Instant::FIRST, to: None, page: 0 }, 1, true);
        let all = PageRequest { filter: walk.filter.clone(), ..dated.clone() };
        let count = |request| async move { self.throttle.count(self.catalog, &request).await };
        let (all, dated) = tokio::join!(count(all), count(dated));
        Some(all?.saturating_sub(dated?))
    }

    /// The rows without a date that satisfy a filter which leaves few, page by page. Others, of a server that does not apply the
    /// filter, are not held.
    async fn undated(&self, filter: &str) -> Result<Vec<Row>, ClientError> {
        let mut found = Vec::new();
        for page in 0..limits::PAGES as u64 {
            let request = PageRequest {
                kind: self.kind,
                filter: filter.to_owned(),
                sort_by: "_id[asc]".to_owned(),
                ties_by_id: false,
                fields: Fields::All,
                page,
                page_size: self.throttle.page_size(),
                total: false,
            };
            let rows = self.throttle.page(self.catalog, &request).await?.rows;
            if rows.is_empty() {
                break;
            }
            found.extend(rows.into_iter().filter(|row| row.created < Instant::FIRST));
        }
        Ok(found)
    }

    /// Our rows that a walk by creation meets, by creation.
    fn dated(&self) -> Result<Vec<(String, Instant)>, Error> {
        let mut ids = self.draft.ids(self.kind)?;
        ids.retain(|(_, created)| *created >= Instant::FIRST);
        Ok(ids)
    }

    /// Counts rows in ever smaller ranges, and returns the ranges of a few pages where the server counts differently.
    async fn differing(&self, ids: &[(String, Instant)], everything: &Range) -> Result<Vec<Range>, Error> {
        let mut walk = self.along(Key::Created, Fields::Ids);
        if self.kind == Kind::Container {
            walk.filter.push_str(" and deleted!=true");
        }
        let mut level = cut(ids, everything, (ids.len() as u64).div_ceil(FIRST_COUNTS));
        let mut found = Vec::new();
        let mut cannot_count = false;
        while !level.is_empty() {
            let mut counts = JoinSet::new();
            for range in std::mem::take(&mut level) {
                let request = walk.request(&range, 1, true);
                let (catalog, throttle) = (self.catalog.clone(), self.throttle.clone());
                counts.spawn(async move { (range, throttle.count(&catalog, &request).await) });
            }
            while let Some(done) = counts.join_next().await {
                let (range, count) = done.expect("a request neither panics nor is cancelled");
                let (start, end) = bounds(ids, &range);
                let ours = (end - start) as u64;
                if count == Some(ours) {
                    continue;
                }
                // A server that cannot count has its rows compared one by one.
                cannot_count |= count.is_none();
                if cannot_count || ours <= COUNTED_TO * self.throttle.page_size() {
                    found.push(range);
                } else {
                    level.extend(cut(ids, &range, ours.div_ceil(NEXT_COUNTS)));
                }
            }
        }
        Ok(found)
    }
}

/// Where the rows of a range stand among ours, which are sorted by creation.
fn bounds(ids: &[(String, Instant)], range: &Range) -> (usize, usize) {
    let start = ids.partition_point(|(_, created)| *created < range.from);
    let end = range.to.map_or(ids.len(), |to| ids.partition_point(|(_, created)| *created < to));
    (start, end.max(start))
}

/// Cuts a range into ranges with at most `rows` of our rows each, but never between rows of one instant.
///
/// Cuts lie between two instants, so that it does not matter how the server compares a row with the end of a range.
fn cut(ids: &[(String, Instant)], range: &Range, rows: u64) -> Vec<Range> {
    let (mut start, end) = bounds(ids, range);
    let rows = usize::try_from(rows).unwrap_or(usize::MAX).max(1);
    let mut ranges = Vec::new();
    let mut from = range.from;
    while end - start > rows {
        let last = ids[start + rows - 1].1;
        start = ids.partition_point(|(_, created)| *created <= last);
        if start >= end {
            break;
        }
        let next = ids[start].1;
        let middle = Instant::from_micros(last.micros().midpoint(next.micros()) + 1).min(next);
        ranges.push(Range { from, to: Some(middle), page: 0 });
        from = middle;
    }
    ranges.push(Range { from, to: range.to, page: 0 });
    ranges
}

/// How many ranges are swept before it is noted what agrees.
const SWEPT_AT_ONCE: usize = 16;

/// Up to this many rows, a kind is swept by `_id` without counting first: twice what the real operators were.
const SWEPT_BY_ID: u64 = 10_000;

/// In how many ranges a large kind is counted first: one round of requests.
const FIRST_COUNTS: u64 = 2;

/// In how many ranges a range whose count differs is counted next.
const NEXT_COUNTS: u64 = 8;

/// Ranges of this many pages are swept by `_id`: counting on would cost as much where several rows are gone.
const COUNTED_TO: u64 = 8;

/// Sweeps after which a catalog that never agrees with itself is given up.
const SWEEPS: u32 = 5;
