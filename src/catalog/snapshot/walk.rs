//! Walks a list of the catalog by key, several ranges at once, so that rows which come and go cannot shift pages.
//!
//! A page number means nothing in a list that changes. A walk asks for `KEY>=CURSOR` sorted by `KEY` instead, and goes
//! on a second before the last key it saw: rows that share an instant are met twice rather than not at all. Only where
//! one second fills a whole page does it ask for the next page of the same cursor; rows of one instant are sorted by `_id`,
//! or they would stand on another page each time.
//!
//! ```text
//!  from ───────────────────────────────────────────────────────── to
//!  ▓▓▓▓▓▓▓▓▓▓▓cursor░░░░░░░░░░░|          range 1          |░░░░░░░░   range 2, cut off from 1 when a worker was free
//! ```
//!
//! When fewer ranges are open than requests may be under way, the one with most left to do, by how dense its last page
//! was, is cut in two. How many requests may be under way is shared by all walks of a run ([`Throttle`]): it is halved
//! when the server is overloaded, and grows again one by one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

use crate::catalog::client::{Catalog, Error as ClientError, Fields, Page, PageRequest};
use crate::catalog::entry::{Instant, Kind};
use crate::http::shown;
use crate::plural;
use crate::progress::Task;

/// What is walked: a list, which of its rows, along which key.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) kind: Kind,
    /// RSQL that every row satisfies, without the range.
    pub(super) filter: String,
    pub(super) key: Key,
    pub(super) fields: Fields,
}

/// The instant that a walk goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Created,
    Updated,
}

/// A part of the walk that is not done yet. `to` is exclusive; without it there is no end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Range {
    pub(super) from: Instant,
    pub(super) to: Option<Instant>,
    /// The page within `from`, where one instant fills pages.
    #[serde(default)]
    pub(super) page: u64,
}

/// What stops a walk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed, and trying again did not help.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The server gave rows that were not asked for.
    #[error(
        "{}: row {index} (_id {id}) has {key} {instant}, which is outside of the range that was asked for: the server \
         does not apply the filter",
        shown(url)
    )]
    Filter {
        /// What was requested.
        url: Box<Url>,
        /// Which row, counted from 0.
        index: usize,
        /// Its `_id`.
        id: String,
        /// The field of the key.
        key: &'static str,
        /// The key.
        instant: Instant,
    },
    /// The server gave rows in another order.
    #[error(
        "{}: row {index} (_id {id}) is older than the one before it: the server does not sort as asked",
        shown(url)
    )]
    Order {
        /// What was requested.
        url: Box<Url>,
        /// Which row, counted from 0.
        index: usize,
        /// Its `_id`.
        id: String,
    },
    /// The server's pages overlap or leave gaps.
    #[error(
        "{}: page {second} repeats {} of page {first}, each time they are asked for: the server's paging \
         is wrong",
        shown(url),
        plural::count(*repeated, "row")
    )]
    Paging {
        /// What was requested last.
        url: Box<Url>,
        /// One page.
        first: u64,
        /// The other page.
        second: u64,
        /// How many rows stand on both.
        repeated: usize,
    },
}

/// How many requests may be under way, in all walks of a run together.
pub(super) struct Throttle {
    permits: Semaphore,
    state: Mutex<ThrottleState>,
}

struct ThrottleState {
    most: usize,
    now: usize,
    /// Permits to swallow as they come back, because the limit was lowered while they were out.
    owed: usize,
    successes: usize,
    page_size: u64,
    /// Most rows that a page had.
    proven: u64,
    /// Whether the server sorts by a second key, as far as is known.
    ties_by_id: bool,
    /// What has been said of requests that failed, for each kind.
    said: BTreeSet<(Kind, String)>,
}

impl Throttle {
    /// `proven` is how many rows a page of this server is known to have had.
    pub(super) fn new(parallel: usize, page_size: u64, proven: u64) -> Self {
        let (owed, successes, ties_by_id, said) = (0, 0, true, BTreeSet::new());
        let state =
            ThrottleState { most: parallel, now: parallel, owed, successes, page_size, proven, ties_by_id, said };
        Throttle { permits: Semaphore::new(parallel), state: Mutex::new(state) }
    }

    fn limit(&self) -> usize {
        self.state().now
    }

    pub(super) fn page_size(&self) -> u64 {
        self.state().page_size
    }

    /// Most rows that a page had.
    pub(super) fn proven(&self) -> u64 {
        self.state().proven
    }

    /// Takes the server's word for how large a page may be.
    fn echoed(&self, page_size: u64) {
        let mut state = self.state();
        state.page_size = state.page_size.min(page_size);
    }

    async fn acquire(&self) {
        self.permits.acquire().await.expect("the semaphore is never closed").forget();
    }

    fn release(&self, overloaded: bool, slow: bool) {
        let mut state = self.state();
        if overloaded {
            state.successes = 0;
            let lower = (state.now / 2).max(1);
            state.owed += state.now - lower;
            state.now = lower;
            if slow {
                state.page_size = state.page_size.min((state.page_size / 2).max(SMALLEST_PAGE));
            }
            let rows = state.page_size;
            tracing::info!("the catalog is overloaded: {lower} requests at once and {rows} rows a page from now on");
        } else {
            state.successes += 1;
            if state.successes.is_multiple_of(GROW_AFTER) && state.now < state.most {
                state.now += 1;
                match state.owed {
                    0 => self.permits.add_permits(1),
                    _ => state.owed -= 1,
                }
            }
        }
        match state.owed {
            0 => self.permits.add_permits(1),
            _ => state.owed -= 1,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, ThrottleState> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    /// Requests one page, again and again as the run's retries say, and minds how large the server makes it.
    pub(super) async fn page(&self, catalog: &Catalog, request: &PageRequest) -> Result<Page, ClientError> {
        let page = self.any_page(catalog, request).await?;
        let mut state = self.state();
        state.proven = state.proven.max(page.rows.len() as u64);
        drop(state);
        // A page of one row says nothing about the largest.
        if let Some(page_size) = page.page_size.filter(|_| request.page_size > 1) {
            self.echoed(page_size);
        }
        Ok(page)
    }

    /// Asks once how many rows match; `None` when the server does not say or cannot.
    ///
    /// Counting is what this service takes longest for. That it fails says nothing about pages, so it is neither tried
    /// again nor a reason to slow down.
    pub(super) async fn count(&self, catalog: &Catalog, request: &PageRequest) -> Option<u64> {
        self.acquire().await;
        let result = catalog.page(request).await;
        self.release(false, false);
        result.ok()?.total
    }

    async fn any_page(&self, catalog: &Catalog, request: &PageRequest) -> Result<Page, ClientError> {
        let retry = catalog.http().retry();
        let mut tries = 0;
        loop {
            self.acquire().await;
            let mut request = request.clone();
            // A smaller page moves the offset of later pages of one cursor back, which repeats rows and loses none.
            request.page_size = request.page_size.min(self.page_size());
            request.ties_by_id &= self.state().ties_by_id;
            let result = catalog.page(&request).await;
            let failed = |is: fn(&ClientError) -> bool| result.as_ref().is_err_and(is);
            self.release(failed(ClientError::is_overload), failed(ClientError::is_slow));
            match result {
                // Some other thing may be wrong with the request; then the next answer says so.
                Err(error) if request.ties_by_id && error.is_bad_request() => {
                    tracing::info!(
                        "the catalog does not sort by a second key; rows of one instant may come in any order"
                    );
                    self.state().ties_by_id = false;
                }
                // Nothing says that there is a catalog: a wrong address is told at once. What a slow one says, too, is asked again:
                // meanwhile another request may have shown that it is one.
                Err(error)
                    if error.is_of_another_service() && self.proven() == 0 && (tries > 0 || !error.is_slow()) =>
                {
                    return Err(error);
                }
                Err(error) => {
                    let is_news = self.state().said.insert((request.kind, error.sort()));
                    if !retry.pause_saying(&error, &mut tries, is_news).await {
                        return Err(error);
                    }
                }
                Ok(page) => return Ok(page),
            }
        }
    }
}

/// A range that is open, and how it goes.
struct Open {
    range: Range,
    in_flight: bool,
    /// Rows a microsecond on the last page; 0 before the first.
    density: f64,
}

impl Walk {
    /// Walks all `ranges` to their ends. `visit` is given every page and what is left to do after it, so that it can
    /// keep both in one transaction. Rows may be passed more than once.
    pub(super) async fn run<E: From<Error>>(
        &self,
        catalog: &Catalog,
        throttle: &Arc<Throttle>,
        ranges: Vec<Range>,
        task: &Arc<Task>,
        mut visit: impl FnMut(&Page, &[Range]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut open: Vec<Option<Open>> =
            ranges.into_iter().map(|range| Some(Open { range, in_flight: false, density: 0.0 })).collect();
        let mut requests = JoinSet::new();
        let catalog = &catalog.watched(task);
        let mut arrived: Option<(Page, Vec<Range>)> = None;
        loop {
            self.share_out(&mut open, throttle);
            for (number, slot) in open.iter_mut().enumerate() {
                let Some(part) = slot.as_mut().filter(|part| !part.in_flight) else { continue };
                if requests.len() >= throttle.limit() {
                    break;
                }
                part.in_flight = true;
                let request = self.request(&part.range, throttle.page_size(), false);
                let (catalog, throttle, range) = (catalog.clone(), throttle.clone(), part.range.clone());
                requests.spawn(async move { (number, range, throttle.page(&catalog, &request).await) });
            }
            // The page at hand is taken in while the next ones are under way. What is left was noted before they went
            // out, so they count as not done.
            if let Some((page, left)) = arrived.take() {
                task.add(page.rows.len() as u64);
                tokio::task::block_in_place(|| visit(&page, &left))?;
            }
            let Some(done) = requests.join_next().await else { return Ok(()) };
            let (number, asked, page) = done.expect("a request neither panics nor is cancelled");
            let page = page.map_err(Error::from)?;
            self.check(&asked, &page)?;
            let part = open[number].as_mut().expect("a range stays open while its request is under way");
            part.in_flight = false;
            match self.next(&part.range, &page, throttle.proven()) {
                Some(range) => {
                    // Within one instant there is no density; such a range is not cut.
                    let span = (range.from.micros() - asked.from.micros()) as f64;
                    part.density = if span > 0.0 { page.rows.len() as f64 / span } else { 0.0 };
                    part.range = range;
                }
                None => open[number] = None,
            }
            let left: Vec<Range> = open.iter().flatten().map(|part| part.range.clone()).collect();
            arrived = Some((page, left));
        }
    }

    pub(super) fn request(&self, range: &Range, page_size: u64, total: bool) -> PageRequest {
        let key = self.key.field();
        let below = range.to.map(|to| format!(" and {key}<{to}")).unwrap_or_default();
        PageRequest {
            kind: self.kind,
            filter: format!("{} and {key}>={}{below}", self.filter, range.from),
            sort_by: format!("{key}[asc]"),
            ties_by_id: true,
            fields: self.fields,
            page: range.page,
            page_size,
            total,
        }
    }

    /// What is left of a range after a page, or nothing.
    ///
    /// A page with fewer rows than the server says it gives is the last one, but only when some page had as many
    /// (`proven`): a server that says nothing, or more than it ever gives, is asked on until nothing comes.
    fn next(&self, range: &Range, page: &Page, proven: u64) -> Option<Range> {
        let last = self.key.of(page.rows.last()?);
        let short = page.page_size.is_some_and(|size| (page.rows.len() as u64) < size && size <= proven);
        if short || range.to.is_some_and(|to| last >= to) {
            return None;
        }
        // A second is read again: servers round instants, and compare those without a fraction in ways of their own.
        let cursor = last.plus_seconds(-SLACK_SECONDS);
        Some(if cursor > range.from {
            Range { from: cursor, to: range.to, page: 0 }
        } else {
            Range { page: range.page + 1, ..range.clone() }
        })
    }

    /// Checks that the rows are those of the range, in order.
    pub(super) fn check(&self, asked: &Range, page: &Page) -> Result<(), Error> {
        let mut before = None;
        for (index, row) in page.rows.iter().enumerate() {
            let instant = self.key.of(row);
            let (earlier, later) = (instant.plus_seconds(-SLACK_SECONDS), instant.plus_seconds(SLACK_SECONDS));
            if later < asked.from || asked.to.is_some_and(|to| earlier >= to) {
                let (url, id) = (Box::new(page.url.clone()), row.id.clone());
                return Err(Error::Filter { url, index, id, key: self.key.field(), instant });
            }
            if before.is_some_and(|before| later < before) {
                return Err(Error::Order { url: Box::new(page.url.clone()), index, id: row.id.clone() });
            }
            before = Some(instant);
        }
        Ok(())
    }

    /// Cuts ranges until there is work for every request that may be under way, or nothing worth cutting.
    fn share_out(&self, open: &mut Vec<Option<Open>>, throttle: &Throttle) {
        while open.iter().flatten().count() < throttle.limit() {
            let left = |part: &Open| {
                let to = part.range.to?;
                let span = (to.micros() - part.range.from.micros()) as f64;
                // Before the first page nothing is known of a range; it may be empty.
                let rows = if part.density > 0.0 { span * part.density } else { 0.0 };
                (rows > 1.5 * throttle.page_size() as f64).then_some(rows)
            };
            let largest = open
                .iter_mut()
                .flatten()
                .filter_map(|part| left(part).map(|rows| (rows, part)))
                .max_by(|one, other| one.0.total_cmp(&other.0));
            let Some((_, part)) = largest else { return };
            let to = part.range.to.expect("only ranges with an end are cut");
            let middle = Instant::from_micros(part.range.from.micros().midpoint(to.micros()));
            let upper =
                Open { range: Range { from: middle, to: Some(to), page: 0 }, in_flight: false, density: part.density };
            part.range.to = Some(middle);
            open.push(Some(upper));
        }
    }
}

impl Key {
    fn field(self) -> &'static str {
        match self {
            Key::Created => "creation_date",
            Key::Updated => "last_update_date",
        }
    }

    pub(super) fn of(self, row: &crate::catalog::client::Row) -> Instant {
        match self {
            Key::Created => row.created,
            Key::Updated => row.updated,
        }
    }
}

/// How far a row may be from where its instant belongs.
const SLACK_SECONDS: i64 = 1;

/// Successful requests after which one more may be under way.
const GROW_AFTER: usize = 10;

/// Below this, a smaller page does not make a slow server faster.
const SMALLEST_PAGE: u64 = 25;
