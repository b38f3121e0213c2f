//! What tells that a file is the one that was looked at before, and what was found then.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;

use crate::digest::Digest;

/// Size, times and inode: whoever writes to a file or puts another one in its place changes one of them. Bits that rot under
/// unchanged metadata are found by `haversack verify` and not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i64,
    /// When the inode was changed, in nanoseconds since 1970.
    pub(super) changed: i64,
    pub(super) inode: u64,
}

impl Stamp {
    pub(super) fn of(found: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Stamp {
            size: found.size(),
            modified: nanoseconds(found.mtime(), found.mtime_nsec()),
            changed: nanoseconds(found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
        }
    }

    /// Of a regular file; links are followed.
    pub(super) fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().filter(Metadata::is_file).map(|found| Stamp::of(&found))
    }
}

/// What is known of a blob's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// They were read and have its digest.
    Good,
    /// They were read and do not.
    Damaged,
    /// They were not read since the file was last changed.
    Nothing,
}

/// Blobs whose bytes were read, by layout and digest.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<(usize, Digest), (Stamp, bool)>>);

impl Seen {
    pub(super) fn known(&self, layout: usize, digest: &Digest, stamp: Stamp) -> Known {
        let seen = self.0.lock().expect("no holder panics");
        match seen.get(&(layout, digest.clone())) {
            Some((then, is_good)) if *then == stamp => {
                if *is_good {
                    Known::Good
                } else {
                    Known::Damaged
                }
            }
            _ => Known::Nothing,
        }
    }

    /// How many are damaged.
    pub(super) fn damaged(&self) -> u64 {
        let seen = self.0.lock().expect("no holder panics");
        seen.values().filter(|(_, is_good)| !is_good).map(|_| 1).sum()
    }

    pub(super) fn record(&self, layout: usize, digest: &Digest, stamp: Stamp, is_good: bool) {
        self.0.lock().expect("no holder panics").insert((layout, digest.clone()), (stamp, is_good));
    }
}
