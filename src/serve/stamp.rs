//! What tells that a file is the one that was looked at before, and what was found then.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;

use crate::digest::Digest;

/// Size, times and inode: whoever writes to a file or puts another one in its place changes one of them. Bits that rot under
/// unchanged metadata are found by [`scrub`](super::scrub).
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
pub(super) struct Seen(Mutex<HashMap<(usize, Digest), Checked>>);

/// What was found when a blob's bytes were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) stamp: Stamp,
    pub(super) is_good: bool,
    /// When, in seconds since 1970.
    pub(super) at: i64,
}

impl Seen {
    pub(super) fn known(&self, layout: usize, digest: &Digest, stamp: Stamp) -> Known {
        let seen = self.0.lock().expect("no holder panics");
        match seen.get(&(layout, digest.clone())) {
            Some(checked) if checked.stamp == stamp => {
                if checked.is_good {
                    Known::Good
                } else {
                    Known::Damaged
                }
            }
            _ => Known::Nothing,
        }
    }

    /// When it was read last, since it was changed.
    pub(super) fn last(&self, layout: usize, digest: &Digest, stamp: Stamp) -> Option<i64> {
        let seen = self.0.lock().expect("no holder panics");
        seen.get(&(layout, digest.clone())).filter(|checked| checked.stamp == stamp).map(|checked| checked.at)
    }

    /// Those that were damaged when they were read.
    pub(super) fn damaged(&self) -> Vec<(usize, Digest, Checked)> {
        let seen = self.0.lock().expect("no holder panics");
        let damaged = seen.iter().filter(|(_, checked)| !checked.is_good);
        damaged.map(|((layout, digest), checked)| (*layout, digest.clone(), *checked)).collect()
    }

    pub(super) fn record(&self, layout: usize, digest: &Digest, checked: Checked) {
        self.0.lock().expect("no holder panics").insert((layout, digest.clone()), checked);
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
