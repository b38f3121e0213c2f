//! Reads every blob again from time to time, for bits rot while no file's times change.
//!
//! One blob after the other, those first that were not read for longest, and no faster than is allowed, so that nodes that pull
//! notice nothing. What the memory holds of a file is dropped before it is read: it is the disk that is asked. When each blob was
//! read last is kept where the ledger is, and a pass goes on where the last one ended.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};

use crate::causes;
use crate::digest::{Digest, Hasher};
use crate::fs;
use crate::image::store::layout::BLOBS;
use crate::serve::stamp::{Stamp, now};
use crate::serve::store::Store;

/// How often each blob is read, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Scrubbing {
    /// From one reading of a blob to the next.
    pub every: Duration,
    /// Bytes per second, at most.
    pub rate: NonZeroU64,
}

/// What was done since the start.
#[derive(Debug, Default)]
pub(super) struct Scrubbed {
    pub(super) blobs: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Blobs that were not read for longer than they should be, when that was last counted.
    pub(super) due: AtomicU64,
    /// Readings that failed, which says nothing of the bytes.
    pub(super) failed: AtomicU64,
}

/// Does so for as long as the store is there.
pub(super) async fn repeat(weak: Weak<Store>, scrubbing: Scrubbing) {
    let mut pause = scrubbing.every.min(SOON);
    loop {
        tokio::time::sleep(pause).await;
        pause = (scrubbing.every / 10).clamp(Duration::from_secs(1), Duration::from_secs(3600));
        let Some(store) = weak.upgrade() else { return };
        let due = tokio::task::spawn_blocking(move || due(&store, scrubbing.every)).await.unwrap_or_default();
        for (n, (layout, digest)) in due.iter().enumerate() {
            let Some(store) = weak.upgrade() else { return };
            store.scrubbed.due.store((due.len() - n) as u64, Ordering::Relaxed);
            if let Err(error) = scrub(&store, *layout, digest, scrubbing.rate).await {
                store.scrubbed.failed.fetch_add(1, Ordering::Relaxed);
                let path = store.sources[*layout].layout.blob_path(digest);
                tracing::error!("{}: cannot be read: {}", path.display(), causes::line(&error));
            }
        }
        let Some(store) = weak.upgrade() else { return };
        store.scrubbed.due.store(0, Ordering::Relaxed);
    }
}

/// Blobs that were not read for so long, those that were not read for longest first.
fn due(store: &Store, every: Duration) -> Vec<(usize, Digest)> {
    let before = now().saturating_sub(i64::try_from(every.as_secs()).unwrap_or(i64::MAX));
    let mut due = Vec::new();
    for (at, source) in store.sources.iter().enumerate() {
        let layout = &source.layout;
        for directory in fs::list(&layout.root().join(BLOBS)).unwrap_or_default() {
            for path in fs::list(&directory).unwrap_or_default() {
                let (Some(digest), Ok(found)) = (layout.digest_at(&path), std::fs::symlink_metadata(&path)) else {
                    continue;
                };
                let last = store.seen.last(at, &digest, Stamp::of(&found)).unwrap_or(i64::MIN);
                if found.is_file() && last <= before {
                    due.push((last, at, digest));
                }
            }
        }
    }
    due.sort();
    due.into_iter().map(|(_, at, digest)| (at, digest)).collect()
}

/// Reads one blob to its end and remembers what was found.
async fn scrub(store: &Arc<Store>, layout: usize, digest: &Digest, rate: NonZeroU64) -> io::Result<()> {
    let path = store.sources[layout].layout.blob_path(digest);
    let file = match fs::open_regular(&path) {
        Ok(file) => Arc::new(file),
        // Taken away meanwhile.
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.source),
    };
    let stamp = Stamp::of(&file.metadata()?);
    let (mut hasher, mut at, began) = (Hasher::new(digest.algorithm()), 0, Instant::now());
    loop {
        let reading = file.clone();
        let read = tokio::task::spawn_blocking(move || read(&reading, at, hasher)).await.map_err(io::Error::other)?;
        let n;
        (hasher, n) = read?;
        at += n;
        store.scrubbed.bytes.fetch_add(n, Ordering::Relaxed);
        if n == 0 {
            break;
        }
        #[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
        let allowed = Duration::from_secs_f64(at as f64 / rate.get() as f64);
        tokio::time::sleep(allowed.saturating_sub(began.elapsed())).await;
    }
    store.scrubbed.blobs.fetch_add(1, Ordering::Relaxed);
    // Of what was changed while it was read nothing is known.
    if Stamp::at(&path) == Some(stamp) {
        store.record(layout, digest, stamp, hasher.finish() == *digest);
    }
    Ok(())
}

fn read(file: &File, at: u64, mut hasher: Hasher) -> io::Result<(Hasher, u64)> {
    // A file system that does not know how is one where the memory is asked.
    let _ = fadvise(file, at, NonZeroU64::new(PIECE as u64), Advice::DontNeed);
    let mut buffer = vec![0; PIECE];
    let n = file.read_at(&mut buffer, at)?;
    hasher.update(&buffer[..n]);
    let _ = fadvise(file, at, NonZeroU64::new(n as u64), Advice::DontNeed);
    Ok((hasher, n as u64))
}

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;
/// After a start, in which there is enough to do.
const SOON: Duration = Duration::from_secs(60);
