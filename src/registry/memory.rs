//! What a run remembers about the places it writes to, so that no blob is sent twice, and how much it does at one time.
//!
//! Where blobs of a registry were seen is kept on the disk, too, for the next run can have a registry take them from
//! there (a cross-repository mount) instead of sending them. What is remembered is a hint: a registry that has lost the
//! blob gets it anew. Uploads that broke off are remembered with the address at which the registry takes the rest.
//!
//! ```text
//! CACHE/blobs/HOST_PORT      one line for each: DIGEST REPOSITORY, the newest last
//! CACHE/uploads/HEX          the address of an upload; HEX is the SHA-256 of HOST/REPOSITORY@DIGEST
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::digest::Digest;
use crate::fs::{self, PathContext, PathError};

/// What a run remembers. Share it between the copies of one run.
pub struct Memory {
    cache: Option<PathBuf>,
    parallel: usize,
    /// Other limits than `parallel`, by host.
    limits: HashMap<String, usize>,
    hosts: Mutex<HashMap<String, Seen>>,
    turns: Mutex<HashMap<String, Arc<Turn<()>>>>,
    permits: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Where blobs of one registry are: repositories by digest, the newest first.
#[derive(Default)]
struct Seen {
    repositories: HashMap<String, Vec<String>>,
    file: Option<File>,
}

impl Memory {
    /// Remembers in `cache`, where one is given, and lets `parallel` blobs be on their way to or from a host at one
    /// time, or as many as `limits` says for it.
    pub fn new(cache: Option<PathBuf>, parallel: usize, limits: HashMap<String, usize>) -> Arc<Self> {
        let (hosts, turns, permits) = Default::default();
        Arc::new(Memory { cache, parallel, limits, hosts, turns, permits })
    }

    /// Waits until nobody else brings this blob to this place; what was brought meanwhile is there then.
    pub(super) async fn turn(&self, place: &str, digest: &Digest) -> OwnedMutexGuard<()> {
        let key = format!("{place}@{digest}");
        let turn = self.turns.lock().expect("no holder panics").entry(key).or_default().clone();
        turn.lock_owned().await
    }

    /// Waits until another blob may be on its way between these hosts.
    pub(super) async fn permits(&self, hosts: impl IntoIterator<Item = &str>) -> Vec<OwnedSemaphorePermit> {
        let mut hosts: Vec<&str> = hosts.into_iter().collect();
        // Everybody in the same order, or two could wait for each other.
        hosts.sort_unstable();
        hosts.dedup();
        let mut permits = Vec::new();
        for host in hosts {
            let limit = self.limits.get(host).copied().unwrap_or(self.parallel);
            let semaphore = (self.permits.lock().expect("no holder panics").entry(host.to_owned()))
                .or_insert_with(|| Arc::new(Semaphore::new(limit)))
                .clone();
            permits.push(semaphore.acquire_owned().await.expect("it is never closed"));
        }
        permits
    }

    /// Repositories of a registry in which a blob was seen, the newest first.
    pub(super) fn seen(&self, host: &str, digest: &Digest) -> Vec<String> {
        self.with(host, |seen| seen.repositories.get(digest.as_str()).cloned().unwrap_or_default())
    }

    /// Remembers that a blob is in a repository; for this run only unless `keep`.
    pub(super) fn note(&self, host: &str, repository: &str, digest: &Digest, keep: bool) {
        self.with(host, |seen| {
            if seen.add(digest.as_str(), repository)
                && keep
                && let Some(file) = &mut seen.file
            {
                // A cache that cannot be written costs time, nothing else.
                let _ = file.write_all(format!("{digest} {repository}\n").as_bytes());
            }
        });
    }

    /// Forgets that a blob is in a repository: it turned out not to be. The disk forgets it in time.
    pub(super) fn forget(&self, host: &str, repository: &str, digest: &Digest) {
        self.with(host, |seen| {
            if let Some(repositories) = seen.repositories.get_mut(digest.as_str()) {
                repositories.retain(|known| known != repository);
            }
        });
    }

    /// Where an upload that broke off goes on.
    pub(super) fn upload(&self, place: &str) -> Option<Url> {
        let bytes = fs::read(&self.upload_file(place)?, 64 << 10).ok()?;
        String::from_utf8(bytes).ok()?.parse().ok()
    }

    /// Remembers where an upload goes on, or with `None` that it is over.
    pub(super) fn note_upload(&self, place: &str, at: Option<&Url>) {
        let Some(path) = self.upload_file(place) else { return };
        // As above: losing it costs time.
        let _ = match at {
            Some(url) => private_directory(fs::parent(&path)).and_then(|()| fs::write(&path, url.as_str().as_bytes())),
            None => fs::remove_file(&path),
        };
    }

    fn upload_file(&self, place: &str) -> Option<PathBuf> {
        Some(self.cache.as_ref()?.join("uploads").join(Digest::sha256(place).hex()))
    }

    fn with<T>(&self, host: &str, look: impl FnOnce(&mut Seen) -> T) -> T {
        let mut hosts = self.hosts.lock().expect("no holder panics");
        let open = || match &self.cache {
            Some(cache) => Seen::open(&cache.join("blobs").join(host.replace([':', '[', ']'], "_"))),
            None => Seen::default(),
        };
        look(hosts.entry(host.to_owned()).or_insert_with(open))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Arc::into_inner(Memory::new(None, PARALLEL, HashMap::new())).expect("nobody else has it")
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("cache", &self.cache).field("parallel", &self.parallel).finish_non_exhaustive()
    }
}

impl Seen {
    fn open(path: &Path) -> Self {
        let mut seen = Seen::default();
        let bytes = fs::read(path, 2 * CACHE_LIMIT).unwrap_or_default();
        // Of a file that became long, the newer half is enough.
        let long = bytes.len() as u64 > CACHE_LIMIT;
        let text = String::from_utf8_lossy(if long { &bytes[bytes.len() / 2..] } else { &bytes });
        for line in text.lines() {
            if let Some((digest, repository)) = line.split_once(' ').filter(|(digest, _)| digest.len() > 70) {
                seen.add(digest, repository);
            }
        }
        if long {
            let _ = fs::write(path, text.split_once('\n').map_or("", |(_, whole)| whole).as_bytes());
        }
        seen.file = private_directory(fs::parent(path)).and_then(|()| fs::append(path)).ok();
        seen
    }

    /// Whether that is new.
    fn add(&mut self, digest: &str, repository: &str) -> bool {
        let repositories = self.repositories.entry(digest.to_owned()).or_default();
        if repositories.iter().any(|known| known == repository) {
            return false;
        }
        repositories.insert(0, repository.to_owned());
        repositories.truncate(REPOSITORIES);
        true
    }
}

/// Which images somebody copies is nobody else's business.
fn private_directory(path: &Path) -> Result<(), PathError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("create", path)
}

/// Blobs on their way to or from one host at one time.
pub const PARALLEL: usize = 6;
/// Repositories remembered for a blob: one can lose it, not all of them.
const REPOSITORIES: usize = 3;
/// Size above which a host's file is cut to its newer half, in bytes: some 100,000 blobs.
const CACHE_LIMIT: u64 = 10 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_to_the_next_run_the_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let memory = || Memory::new(Some(dir.path().join("cache")), 1, HashMap::new());
        let (one, two) = (Digest::sha256("1"), Digest::sha256("2"));
        let first = memory();
        for repository in ["a", "b", "a", "c", "d"] {
            first.note("reg:5000", repository, &one, true);
        }
        first.note("reg:5000", "dry", &two, false);
        assert_eq!(first.seen("reg:5000", &two), ["dry"]);
        let second = memory();
        assert_eq!(second.seen("reg:5000", &one), ["d", "c", "b"]);
        assert_eq!(second.seen("reg:5000", &two), [""; 0]);
        assert_eq!(second.seen("reg", &one), [""; 0]);
        second.forget("reg:5000", "d", &one);
        assert_eq!(second.seen("reg:5000", &one), ["c", "b"]);
    }

    #[test]
    fn an_upload_is_remembered_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory::new(Some(dir.path().to_owned()), 1, HashMap::new());
        let url: Url = "http://reg/v2/a/blobs/uploads/1?_state=x".parse().unwrap();
        memory.note_upload("reg/a@sha256:0", Some(&url));
        assert_eq!(memory.upload("reg/a@sha256:0"), Some(url));
        assert_eq!(memory.upload("reg/b@sha256:0"), None);
        memory.note_upload("reg/a@sha256:0", None);
        assert_eq!(memory.upload("reg/a@sha256:0"), None);
    }
}
