//! Takes a snapshot from recorded bodies, for tests, demonstrations and hosts that a proxy keeps from the API.
//!
//! ```text
//! DIR/operators/*.json   pages of bundles as the API gave them, in the order of the numbers in their names
//! DIR/images/*.json      pages of images
//! DIR/index.yaml         the chart index
//! DIR/unpublished-certified-charts.yaml
//! ```
//!
//! A part that is missing is not taken. Pages are checked as live ones are; and since they were recorded by number, no
//! `_id` may stand on two of them, and where they say a total, they must hold as many rows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use url::Url;

use crate::catalog::chart_index::{self, Index, IndexError};
use crate::catalog::charts::UNPUBLISHED;
use crate::catalog::client::{self, Content, Fields};
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::snapshot::chart_job;
use crate::catalog::snapshot::{KindReport, SnapshotOptions, Taken};
use crate::catalog::store::{self, Draft, KindInfo};
use crate::catalog::wire;
use crate::fs::{self, PathError};
use crate::limits;
use crate::plural;
use crate::progress::{Progress, Unit};

/// Why recorded bodies cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("{}: no recorded bodies here (expected operators/, images/ or index.yaml)", path.display())]
    Nothing {
        /// Where they were looked for.
        path: PathBuf,
    },
    /// A body is no page.
    #[error("{0}")]
    Page(#[from] client::Error),
    /// Pages overlap.
    #[error("{} and {} both hold the row with _id {id}: the pages overlap", first.display(), second.display())]
    Overlap {
        /// One page.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// The row.
        id: String,
    },
    /// Pages are missing.
    #[error("{}: the pages hold {}, and say that there are {total}", path.display(), plural::count(*rows, "row"))]
    Incomplete {
        /// The directory.
        path: PathBuf,
        /// Distinct rows.
        rows: u64,
        /// What the last page says.
        total: u64,
    },
    /// The index is none.
    #[error("{}: not a chart index", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IndexError,
    },
    /// The file system failed.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The snapshot file failed.
    #[error("{0}")]
    Store(#[from] store::Error),
}

/// Reads the bodies below `directory` into the draft, in place of what it has of these kinds.
pub(super) fn read(
    directory: &Path,
    draft: &Draft,
    options: &SnapshotOptions,
    progress: &Progress,
) -> Result<[Option<Taken>; 3], Error> {
    let mut taken = [None, None, None];
    for (slot, kind) in taken.iter_mut().zip(Kind::ALL) {
        if !options.kinds.contains(&kind) {
            continue;
        }
        *slot = match kind {
            Kind::Operator => pages(&directory.join("operators"), kind, draft, options, progress)?,
            Kind::Container => pages(&directory.join("images"), kind, draft, options, progress)?,
            Kind::Chart => charts(directory, draft)?,
        };
    }
    if taken.iter().all(Option::is_none) {
        return Err(Error::Nothing { path: directory.to_owned() });
    }
    Ok(taken)
}

fn pages(
    directory: &Path,
    kind: Kind,
    draft: &Draft,
    options: &SnapshotOptions,
    progress: &Progress,
) -> Result<Option<Taken>, Error> {
    if !directory.is_dir() {
        return Ok(None);
    }
    let mut files = fs::list(directory)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort_by_key(|path| (numbers(path), path.clone()));
    let task = progress.task(format!("Reading {}", kind.plural()), Unit::Items, None);
    let mut report = KindReport::default();
    let mut place: HashMap<String, usize> = HashMap::new();
    let (mut total, mut newest) = (None, Instant::default());
    draft.transaction(|draft| draft.clear(kind))?;
    for (number, path) in files.iter().enumerate() {
        let bytes = fs::read(path, PAGE_LIMIT)?;
        let name = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let url = Url::from_file_path(name).expect("an absolute path is a file URL");
        let page = wire::parse(&bytes, kind, Fields::All, &url)?;
        total = page.total.or(total);
        for row in &page.rows {
            if let Some(first) = place.insert(row.id.clone(), number) {
                return Err(Error::Overlap { first: files[first].clone(), second: path.clone(), id: row.id.clone() });
            }
            newest = newest.max(row.updated);
        }
        draft.transaction(|draft| {
            page.rows.iter().filter(|row| row.counts).try_for_each(|row| match &row.content {
                Content::Bundle(bundle)
                    if !bundle.organization.is_empty() && !options.organizations.contains(&bundle.organization) =>
                {
                    Ok(())
                }
                Content::Bundle(bundle) => draft.put_bundle(bundle),
                Content::Image(image) => draft.put_image(image),
                Content::Id => Ok(()),
            })
        })?;
        report.read += page.rows.len() as u64;
        task.add(page.rows.len() as u64);
    }
    let rows = place.len() as u64;
    if let Some(total) = total.filter(|total| *total != rows) {
        return Err(Error::Incomplete { path: directory.to_owned(), rows, total });
    }
    Ok(Some((Some(about(directory, newest)), report)))
}

fn charts(directory: &Path, draft: &Draft) -> Result<Option<Taken>, Error> {
    let index = directory.join("index.yaml");
    if !index.is_file() {
        return Ok(None);
    }
    let mut report = KindReport::default();
    for (path, unpublished) in [(index.clone(), false), (directory.join(UNPUBLISHED), true)] {
        let mut list = Index::default();
        let place = path.display().to_string();
        if path.is_file() {
            let bytes = fs::read(&path, limits::CHART_INDEX)?;
            list = chart_index::parse(&bytes).map_err(|source| Error::Index { path, source })?;
            list.odd.extend(list.half());
        }
        draft.transaction(|draft| chart_job::put(draft, list, unpublished, &place, &mut report))?;
    }
    let modified = std::fs::metadata(&index).and_then(|metadata| metadata.modified()).ok();
    let taken = modified.and_then(|time| jiff::Timestamp::try_from(time).ok()).map(Instant::from);
    Ok(Some((Some(about(&index, taken.unwrap_or_default())), report)))
}

fn about(path: &Path, taken: Instant) -> KindInfo {
    KindInfo { source: path.display().to_string(), taken, walked: taken, ..KindInfo::default() }
}

/// The numbers in a file's name, so that page 10 follows page 9.
fn numbers(path: &Path) -> Vec<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// A page of 500 full rows has 4 MB.
const PAGE_LIMIT: u64 = 64 << 20;
