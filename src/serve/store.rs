//! The layouts that are served: the current view of them, and their blobs as files that are known to be right.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::Instant;

use crate::digest::{Digest, Hasher};
use crate::fs::{self, PathContext};
use crate::image::Layout;
use crate::image::store::layout::{self, INDEX};
use crate::serve::bad::{AGAIN, Bad};
use crate::serve::build::{Source, build};
use crate::serve::change::{self, Change};
use crate::serve::document::{Document, Part};
use crate::serve::ledger::{self, Ledger};
use crate::serve::scrub::Scrubbed;
use crate::serve::stamp::{Checked, Known, Seen, Stamp, now};
use crate::serve::view::View;

/// Layouts under one address.
pub(super) struct Store {
    pub(super) sources: Vec<Source>,
    view: RwLock<Option<Arc<View>>>,
    /// Held while a view is made. In it, what the layouts were when that failed last, and until when nobody tries again.
    building: tokio::sync::Mutex<Option<(Vec<Option<Stamp>>, Instant)>>,
    pub(super) seen: Seen,
    /// Where it is kept what was found in each layout, if anywhere.
    ledgers: Vec<OnceLock<Arc<Ledger>>>,
    pub(super) scrubbed: Scrubbed,
    /// Held while a blob is read to be verified, so that many who ask for parts of it have it read once.
    verifying: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    started: Instant,
    /// When a blob was last found to be damaged, by [`Store::now`].
    damaged_at: AtomicU64,
}

/// A blob that is open.
pub(super) struct Blob {
    pub(super) file: File,
    pub(super) stamp: Stamp,
    pub(super) known: Known,
    pub(super) layout: usize,
    pub(super) digest: Digest,
}

impl Store {
    pub(super) fn new(sources: Vec<Source>) -> Arc<Self> {
        Arc::new(Store {
            ledgers: sources.iter().map(|_| OnceLock::new()).collect(),
            scrubbed: Scrubbed::default(),
            sources,
            view: RwLock::default(),
            building: tokio::sync::Mutex::default(),
            seen: Seen::default(),
            verifying: Mutex::default(),
            started: Instant::now(),
            damaged_at: AtomicU64::new(0),
        })
    }

    /// Takes what was found in a layout before, and keeps what is found from now on.
    pub(super) fn remember(&self, layout: usize, ledger: Arc<Ledger>) {
        match ledger.checked() {
            Ok(checked) => checked.into_iter().for_each(|(digest, it)| self.seen.record(layout, &digest, it)),
            Err(error) => tracing::warn!("what was checked before is not known: {error}"),
        }
        let _ = self.ledgers[layout].set(ledger);
    }

    /// Whether what is found is kept for all layouts.
    pub(super) fn remembers(&self) -> bool {
        self.ledgers.iter().all(|ledger| ledger.get().is_some())
    }

    /// Blobs that were damaged when they were read and were not changed since, with the layouts that they are in.
    pub(super) fn damaged(&self) -> Vec<(usize, Digest, Checked)> {
        let is_there = |(layout, digest, checked): &(usize, Digest, Checked)| {
            Stamp::at(&self.sources[*layout].layout.blob_path(digest)) == Some(checked.stamp)
        };
        let mut damaged: Vec<_> = self.seen.damaged().into_iter().filter(is_there).collect();
        damaged.sort_by(|one, other| one.1.cmp(&other.1));
        damaged
    }

    /// What the layouts hold now. When one of them cannot be read any more, what it held before.
    pub(super) async fn view(self: &Arc<Self>) -> Result<Arc<View>, Arc<layout::Error>> {
        let stamps = self.stamps();
        let current = || self.view.read().expect("no holder panics").clone();
        if let Some(view) = current().filter(|view| view.is_of(&stamps)) {
            return Ok(view);
        }
        let mut failed = self.building.lock().await;
        let older = current();
        let has_failed = failed.as_ref().is_some_and(|(of, until)| *of == stamps && Instant::now() < *until);
        if let Some(view) = older.clone().filter(|view| has_failed || view.is_of(&stamps)) {
            return Ok(view);
        }
        let (store, known) = (self.clone(), older.clone());
        let built = tokio::task::spawn_blocking(move || build(&store.sources, known.as_deref())).await;
        match (built.expect("building a view does not panic"), older) {
            (Ok(view), _) => {
                *failed = None;
                Ok(self.replace(view))
            }
            (Err(error), Some(older)) => {
                tracing::error!("{error}; what was there before is served");
                *failed = Some((stamps, Instant::now() + AGAIN));
                Ok(older)
            }
            (Err(error), None) => Err(Arc::new(error)),
        }
    }

    /// Changes the `index.json` of the first layout. When this returns it is on the disk, and the view is of what it says.
    pub(super) async fn change(self: &Arc<Self>, changes: Vec<Change>) -> Result<(), layout::Error> {
        let mut failed = self.building.lock().await;
        let store = self.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let older = store.view.read().expect("no holder panics").clone();
            let Source { layout, repository } = &store.sources[0];
            layout.change(|entries| change::apply(&changes, entries, repository))?;
            store.replace(build(&store.sources, older.as_deref())?);
            Ok(())
        });
        *failed = None;
        changed.await.expect("changing an index does not panic")
    }

    fn replace(&self, view: View) -> Arc<View> {
        let view = Arc::new(view);
        *self.view.write().expect("no holder panics") = Some(view.clone());
        view
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        self.sources.iter().map(|source| Stamp::at(&source.layout.root().join(INDEX))).collect()
    }

    pub(super) fn layouts(&self) -> Vec<&Layout> {
        self.sources.iter().map(|source| &source.layout).collect()
    }

    /// Opens a blob where it is not known to be damaged.
    pub(super) fn open(&self, digest: &Digest) -> Result<Blob, Bad> {
        let mut bad = Bad::lasting("it is not there");
        for (at, source) in self.sources.iter().enumerate() {
            let path = source.layout.blob_path(digest);
            let opened = fs::open_regular(&path).and_then(|file| {
                let found = file.metadata();
                found.map(|found| (file, Stamp::of(&found))).map_err(|source| fs::PathError {
                    action: "read",
                    path,
                    source,
                })
            });
            match opened {
                Ok((file, stamp)) => match self.seen.known(at, digest, stamp) {
                    Known::Damaged => bad = Bad::lasting("its bytes are damaged"),
                    known => return Ok(Blob { file, stamp, known, layout: at, digest: digest.clone() }),
                },
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!("{error}: {}", error.source);
                    bad = Bad::unreadable(&error.source);
                }
            }
        }
        Err(bad)
    }

    /// Reads a blob to its end, unless that was done before. `false` for one that is damaged.
    pub(super) async fn verify(self: &Arc<Self>, blob: &Blob) -> Result<bool, Bad> {
        let turn = self.turn(&blob.digest);
        let _turn = turn.lock().await;
        match self.seen.known(blob.layout, &blob.digest, blob.stamp) {
            Known::Good => return Ok(true),
            Known::Damaged => return Ok(false),
            Known::Nothing => {}
        }
        let unreadable = |error| Bad::unreadable(&error);
        let (file, algorithm) = (blob.file.try_clone().map_err(unreadable)?, blob.digest.algorithm());
        let read = tokio::task::spawn_blocking(move || {
            let (mut hasher, mut at, mut buffer) = (Hasher::new(algorithm), 0, vec![0; 1 << 20]);
            loop {
                match std::os::unix::fs::FileExt::read_at(&file, &mut buffer, at)? {
                    0 => return Ok::<_, io::Error>((hasher.finish(), Stamp::of(&file.metadata()?))),
                    n => {
                        hasher.update(&buffer[..n]);
                        at += n as u64;
                    }
                }
            }
        });
        let (found, stamp) = read.await.map_err(|error| unreadable(io::Error::other(error)))?.map_err(unreadable)?;
        // Of what was changed while it was read nothing is known.
        if stamp != blob.stamp {
            return Err(Bad { why: "it is being written to".to_owned(), passes: true });
        }
        let is_good = found == blob.digest;
        self.record(blob.layout, &blob.digest, blob.stamp, is_good);
        Ok(is_good)
    }

    /// Remembers what was found when a blob was read to its end.
    pub(super) fn record(&self, layout: usize, digest: &Digest, stamp: Stamp, is_good: bool) {
        if !is_good {
            let path = self.sources[layout].layout.blob_path(digest);
            tracing::error!("{}: damaged, its bytes have another digest; it is not served any more", path.display());
        }
        let checked = Checked { stamp, is_good, at: now() };
        self.seen.record(layout, digest, checked);
        if let Some(ledger) = self.ledgers[layout].get()
            && let Err(error) = ledger.add_checked(digest, checked)
        {
            tracing::warn!("{error}");
        }
        if !is_good {
            self.damaged_at.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Milliseconds since the start, and one.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn turn(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut verifying = self.verifying.lock().expect("no holder panics");
        if let Some(turn) = verifying.get(digest).and_then(Weak::upgrade) {
            return turn;
        }
        verifying.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        verifying.insert(digest.clone(), Arc::downgrade(&turn));
        turn
    }

    /// Whether a blob of that size lies somewhere and is not known to be damaged. `Err` says what is wrong with it.
    pub(super) fn check(&self, part: &Part) -> Result<(), Bad> {
        let mut bad = Bad::lasting("is not there");
        for (at, source) in self.sources.iter().enumerate() {
            // A link is not a blob, wherever it leads.
            match std::fs::symlink_metadata(source.layout.blob_path(&part.digest)) {
                Ok(found) if !found.is_file() || found.len() != part.size => bad = Bad::lasting("has another size"),
                Ok(found) if self.seen.known(at, &part.digest, Stamp::of(&found)) == Known::Damaged => {
                    bad = Bad::lasting("is damaged");
                }
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => bad = Bad::unreadable(&error),
            }
        }
        Err(bad)
    }

    /// What an image lacks: whoever is given its manifest must get all the rest (CRI-O asks for ever for what a mirror lacks).
    pub(super) fn lacking(&self, view: &View, document: &Document) -> Vec<Bad> {
        let (now, damaged) = (self.now(), self.damaged_at.load(Ordering::Relaxed));
        let (mut lacking, mut waiting) = (Vec::new(), vec![document]);
        // A list may name one thing a thousand times, and that another.
        let mut looked_at = HashSet::new();
        while let Some(document) = waiting.pop() {
            if !looked_at.insert(&document.digest) || document.was_complete(now, damaged) {
                continue;
            }
            let before = lacking.len();
            for part in document.blobs.iter().filter(|part| !part.is_foreign) {
                lacking.extend(self.check(part).err().map(|bad| bad.of(&part.digest)));
            }
            for part in &document.manifests {
                match view.documents.get(&part.digest) {
                    Some(Ok(child)) if child.size == part.size => waiting.push(child),
                    Some(Ok(_)) => {
                        lacking.push(Bad::lasting("has another size").of(format_args!("manifest {}", part.digest)));
                    }
                    Some(Err(bad)) => lacking.push(bad.clone().of(format_args!("manifest {}:", part.digest))),
                    None => lacking.push(Bad::lasting("is not there").of(format_args!("manifest {}", part.digest))),
                }
            }
            // Of a list this would say nothing of what it lists.
            if lacking.len() == before && document.manifests.is_empty() {
                document.complete_at.store(now, Ordering::Relaxed);
            }
            if lacking.len() > TOLD {
                break;
            }
        }
        lacking
    }
}

/// Keeps what is found in all layouts from the one with that number on, in a directory for each.
pub(super) fn remember_all(store: &Store, state: &Path, from: usize) -> Result<(), ledger::Error> {
    for (at, source) in store.sources.iter().enumerate().skip(from) {
        let root = source.layout.root().canonicalize().at("open", source.layout.root())?;
        let name = Digest::sha256(root.as_os_str().as_encoded_bytes());
        fs::create_dir_all(state)?;
        let directory = fs::create_dir_beneath(state, Path::new(&name.hex()[..16]))?;
        store.remember(at, Arc::new(Ledger::open(&directory)?));
    }
    Ok(())
}

/// After so many missing parts no others are looked for.
const TOLD: usize = 20;
