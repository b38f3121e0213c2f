//! Takes from a layout what nothing in it needs.
//!
//! ```text
//!  needed            what index.json leads to; a referrer (unnamed, by digest, or a tag that says what it is about) with its subject
//!  kept for a while  what was written, linked or pushed within the grace time, and what was needed within it
//!  taken away        the rest, and the beginnings of blobs and other files on their way that nobody goes on with
//! ```
//!
//! How long something has not been needed no file says. It is as long as `index.json` was not changed, or since a run found it so
//! the first time: runs note that in `.haversack/gc`, as `SECONDS DIGEST` lines (seconds since 1970). Who begins to pull an image
//! just before it is deleted so has the grace time to end.
//!
//! Blobs go while nobody relies on them: under the lock that all who write hold from beginning to end
//! (`Layout::lease`), for a moment at a time, and after a look whether `index.json` is still the same. A program of another kind
//! that writes to the layout takes no such lock; what it wrote within the grace time is safe from us, what it found there is not.
//!
//! `index.json` is written first, blobs go after it. Killed at any moment, a run leaves a layout that lacks nothing.

mod collected;
mod mark;
mod record;

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oci_spec::image::Descriptor;
use serde::Serialize;

pub use self::collected::Collected;
use self::mark::{Documents, Mark};
use self::record::Record;
use crate::digest::Digest;
use crate::fs::{self, PathContext, PathError};
use crate::image::store::layout::{self, BLOBS, INDEX, Layout, Lease, ref_name};
use crate::plural;

/// What is taken away.
#[derive(Clone, Copy, Debug)]
pub struct GcOptions {
    /// What was written or needed within this time stays.
    pub grace: Duration,
    /// Also images whose tag was deleted or given to another one ([`UNTAGGED`]), that long ago.
    pub untagged: bool,
    /// Only say what would go.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        GcOptions { grace: Duration::from_secs(24 * 3600), untagged: false, dry_run: false }
    }
}

/// Blobs or other files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What a run took away, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GcReport {
    /// Blobs that nothing needed.
    pub removed: Tally,
    /// Of these, those that have another name elsewhere, as of a copy by links: their bytes are not free yet.
    pub linked: Tally,
    /// Files that were on their way and that nobody goes on with.
    pub leftovers: Tally,
    /// Entries of `index.json` that were there for nothing any more, by name or digest.
    pub entries: Vec<String>,
    /// Blobs that nothing needs and that stay for the rest of the grace time.
    pub waiting: Tally,
    /// Blobs that are needed.
    pub needed: Tally,
    /// Manifests of lists that are not there, as when some platforms only were copied: what they would need is not known.
    pub missing_manifests: usize,
    /// What could not be taken away, and why.
    pub failed: Vec<String>,
    /// The digests of `removed`.
    pub blobs: Vec<Digest>,
}

/// Why nothing is taken away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that is named cannot be read, and so what it needs is not known.
    #[error("{}: {digest} is named and cannot be read ({reason}), so what it needs is not known and nothing is removed", layout.display())]
    Unreadable {
        /// The layout.
        layout: PathBuf,
        /// Which document.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// A link leads to the blobs, so they may be those of other layouts, too.
    #[error("{}: a link, so other layouts may need what is there; nothing is removed", .0.display())]
    Shared(PathBuf),
    /// Somebody writes to the layout.
    #[error("{}: a copy, unpack, sync, build or push is writing to it; removed before: {}", layout.display(), plural::count(*removed, "blob"))]
    Busy {
        /// The layout.
        layout: PathBuf,
        /// What was done before.
        removed: u64,
    },
    /// The layout.
    #[error("{0}")]
    Layout(#[from] layout::Error),
    /// Something on the disk.
    #[error("{0}")]
    Path(#[from] PathError),
}

/// Takes away what nothing needs. `pushed` says what is needed besides, with the seconds since 1970 when that began: it is asked
/// each time when nobody can change it.
pub fn gc(layout: &Layout, options: &GcOptions, pushed: &dyn Fn() -> HashMap<Digest, i64>) -> Result<GcReport, Error> {
    gc_at(layout, options, pushed, SystemTime::now())
}

fn gc_at(
    layout: &Layout,
    options: &GcOptions,
    pushed: &dyn Fn() -> HashMap<Digest, i64>,
    now: SystemTime,
) -> Result<GcReport, Error> {
    for path in [layout.root().join(BLOBS)].into_iter().chain(fs::list(&layout.root().join(BLOBS))?) {
        if std::fs::symlink_metadata(&path).at("read", &path)?.is_symlink() {
            return Err(Error::Shared(path));
        }
    }
    let mut run = Run {
        layout,
        options,
        pushed,
        now,
        record: Record::read(layout),
        documents: Documents::default(),
        report: GcReport::default(),
    };
    // What it reads is known then, and those who write need not wait for that.
    let plan = run.plan()?;
    if options.dry_run {
        return Ok(run.dry(plan));
    }
    let result = run.remove();
    run.record.write(layout)?;
    result.map(|()| run.report)
}

struct Run<'a> {
    layout: &'a Layout,
    options: &'a GcOptions,
    pushed: &'a dyn Fn() -> HashMap<Digest, i64>,
    now: SystemTime,
    record: Record,
    documents: Documents,
    report: GcReport,
}

/// What is to be done, as long as `index.json` is what it was.
struct Plan {
    mark: Mark,
    /// `index.json` before it was read.
    stamp: Option<(SystemTime, u64, u64)>,
    /// Entries that go, by their places.
    entries: Vec<usize>,
    blobs: Vec<(PathBuf, Digest)>,
    waiting: Tally,
    needed: Tally,
}

impl Run<'_> {
    /// Finds out what may go now.
    fn plan(&mut self) -> Result<Plan, Error> {
        let stamp = self.stamp();
        let mark = Mark::of(self.layout, self.options.untagged, &mut self.documents)?;
        let mut plan = Plan {
            mark,
            stamp,
            entries: Vec::new(),
            blobs: Vec::new(),
            waiting: Tally::default(),
            needed: Tally::default(),
        };
        let changed = seconds(plan.mark.changed);
        let mut kept = HashSet::new();
        for (at, digest, since) in &plan.mark.dead {
            let since = since.unwrap_or_else(|| self.record.since(digest, changed));
            let there = self.layout.blob_path(digest);
            let is_young = std::fs::symlink_metadata(&there).is_ok_and(|found| self.is_young(written(&found)));
            if self.is_young(since) || is_young {
                self.documents.add(digest, &mut kept);
            } else {
                plan.entries.push(*at);
            }
        }
        let pushed = (self.pushed)();
        let mut unneeded = HashSet::new();
        for algorithm in fs::list(&self.layout.root().join(BLOBS))?.iter().filter(|path| path.is_dir()) {
            for path in fs::list(algorithm)? {
                let Some(digest) = self.layout.digest_at(&path) else { continue };
                let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
                if plan.mark.live.contains(&digest) {
                    plan.needed.add(found.len());
                    continue;
                }
                let since = self.record.since(&digest, changed);
                let used = pushed.get(&digest).copied().unwrap_or(i64::MIN);
                unneeded.insert(digest.clone());
                let waits =
                    kept.contains(&digest) || [since, used, written(&found)].iter().any(|at| self.is_young(*at));
                if waits || !found.is_file() {
                    plan.waiting.add(found.len());
                } else {
                    plan.blobs.push((path, digest));
                }
            }
        }
        unneeded.extend(plan.mark.dead.iter().map(|(_, digest, _)| digest.clone()));
        self.record.keep(&unneeded);
        Ok(plan)
    }

    fn remove(&mut self) -> Result<(), Error> {
        let mut lease = self.exclusive()?;
        let mut plan = self.plan()?;
        while !plan.entries.is_empty() {
            let gone: HashSet<usize> = plan.entries.iter().copied().collect();
            let before = &plan.mark.entries;
            let is_done = self.layout.change(|entries| {
                if entries != before {
                    return false;
                }
                let mut at = 0..;
                entries.retain(|_| !gone.contains(&at.next().unwrap_or_default()));
                true
            })?;
            if is_done {
                self.report.entries.extend(plan.entries.iter().map(|at| name(&plan.mark.entries[*at])));
            }
            plan = self.plan()?;
        }
        let (mut began, mut pushed) = (Instant::now(), (self.pushed)());
        let mut directories = HashSet::new();
        let mut blobs = std::mem::take(&mut plan.blobs).into_iter();
        while let Some((path, digest)) = blobs.next() {
            if began.elapsed() > AT_A_TIME {
                // Others want to write, too.
                drop(lease);
                std::thread::sleep(BETWEEN);
                lease = self.exclusive()?;
                (began, pushed) = (Instant::now(), (self.pushed)());
                if self.stamp() != plan.stamp {
                    plan = self.plan()?;
                    blobs = std::mem::take(&mut plan.blobs).into_iter();
                    continue;
                }
            }
            let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
            let used = pushed.get(&digest).copied().unwrap_or(i64::MIN);
            if self.is_young(used.max(written(&found))) {
                plan.waiting.add(found.len());
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => {
                    self.report.removed.add(found.len());
                    if found.nlink() > 1 {
                        self.report.linked.add(found.len());
                    }
                    self.record.forget(&digest);
                    self.report.blobs.push(digest);
                    directories.insert(fs::parent(&path).to_owned());
                }
                Err(error) => self.report.failed.push(format!("{error}: {}", error.source)),
            }
        }
        self.leftovers()?;
        drop(lease);
        directories.iter().try_for_each(|directory| fs::sync_dir(directory))?;
        (self.report.waiting, self.report.needed) = (plan.waiting, plan.needed);
        self.report.missing_manifests = plan.mark.missing;
        Ok(())
    }

    /// What `remove` would do.
    fn dry(&self, plan: Plan) -> GcReport {
        let Plan { mark, entries, blobs, waiting, needed, .. } = plan;
        let mut report = GcReport { waiting, needed, missing_manifests: mark.missing, ..GcReport::default() };
        report.entries = entries.iter().map(|at| name(&mark.entries[*at])).collect();
        for (path, digest) in blobs {
            let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
            report.removed.add(found.len());
            if found.nlink() > 1 {
                report.linked.add(found.len());
            }
            report.blobs.push(digest);
        }
        for (_, bytes) in self.abandoned().unwrap_or_default() {
            report.leftovers.add(bytes);
        }
        report
    }

    /// Takes away what killed writers left, also what could be gone on with: nobody did for so long. Volumes of a carry may be
    /// brought weeks apart, and stay.
    fn leftovers(&mut self) -> Result<(), Error> {
        for (path, bytes) in self.abandoned()? {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Ok(()) => self.report.leftovers.add(bytes),
                Err(error) => self.report.failed.push(format!("{error}: {}", error.source)),
            }
        }
        Ok(())
    }

    fn abandoned(&self) -> Result<Vec<(PathBuf, u64)>, PathError> {
        let left = self.layout.left_behind()?.into_iter().filter_map(|path| {
            let found = std::fs::symlink_metadata(&path).ok()?;
            let files = walkdir::WalkDir::new(&path).into_iter().flatten().filter_map(|entry| entry.metadata().ok());
            let (mut newest, mut bytes) = (written(&found), 0);
            for file in files.filter(std::fs::Metadata::is_file) {
                (newest, bytes) = (newest.max(written(&file)), bytes + file.len());
            }
            (!self.is_young(newest)).then_some((path, bytes))
        });
        Ok(left.collect())
    }

    fn exclusive(&self) -> Result<Lease, Error> {
        let busy = || Error::Busy { layout: self.layout.root().to_owned(), removed: self.report.removed.files };
        self.layout.exclusive(PATIENCE)?.ok_or_else(busy)
    }

    fn is_young(&self, at: i64) -> bool {
        let grace = i64::try_from(self.options.grace.as_secs()).unwrap_or(i64::MAX);
        // Without a grace time what is of this very second goes, too.
        grace > 0 && at.saturating_add(grace) > seconds(self.now)
    }

    fn stamp(&self) -> Option<(SystemTime, u64, u64)> {
        stamp(&self.layout.root().join(INDEX))
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.ino(), found.len()))
}

/// When a file was written, linked or renamed last: a blob that was linked here keeps the time when it was written elsewhere.
fn written(found: &std::fs::Metadata) -> i64 {
    found.mtime().max(found.ctime())
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn name(entry: &Descriptor) -> String {
    ref_name(entry).map_or_else(|| entry.digest().to_string(), str::to_owned)
}

/// Since when an image is there without the tag that it had (RFC 3339), in the annotations of its entry of `index.json`.
pub const UNTAGGED: &str = "io.haversack.untagged";
/// How long blobs are removed before others may write in between.
const AT_A_TIME: Duration = Duration::from_millis(200);
const BETWEEN: Duration = Duration::from_millis(50);
/// How long a run waits for those who write. Pushes take moments; a copy may take hours.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
