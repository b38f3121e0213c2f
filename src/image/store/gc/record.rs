//! `.haversack/gc`: since when something was found not to be needed, so that the grace time runs from there and not from the last
//! change of a busy `index.json`.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::path::Path;

use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::image::store::layout::{Layout, WORK};

#[derive(Default)]
pub(super) struct Record(HashMap<Digest, i64>);

impl Record {
    /// Reads what earlier runs noted. What cannot be read was not noted: things stay longer then.
    pub(super) fn read(layout: &Layout) -> Self {
        let text = fs::read_regular(&layout.root().join(WORK).join(NAME), LIMIT).unwrap_or_default();
        let line = |line: &str| {
            let (seconds, digest) = line.split_once(' ')?;
            Some((digest.parse().ok()?, seconds.parse().ok()?))
        };
        Record(String::from_utf8_lossy(&text).lines().filter_map(line).collect())
    }

    /// Since when this is not needed, in seconds since 1970; if nobody noted it, since `changed`, which is noted.
    pub(super) fn since(&mut self, digest: &Digest, changed: i64) -> i64 {
        *self.0.entry(digest.clone()).or_insert(changed)
    }

    /// Forgets everything else: it is gone, or needed again.
    pub(super) fn keep(&mut self, unneeded: &HashSet<Digest>) {
        self.0.retain(|digest, _| unneeded.contains(digest));
    }

    pub(super) fn forget(&mut self, digest: &Digest) {
        self.0.remove(digest);
    }

    pub(super) fn write(&self, layout: &Layout) -> Result<(), PathError> {
        let path = layout.root().join(WORK).join(NAME);
        fs::remove_abandoned(&path);
        if self.0.is_empty() {
            return fs::remove_file(&path);
        }
        let mut lines: Vec<_> = self.0.iter().collect();
        lines.sort();
        let mut text = String::new();
        for (digest, seconds) in lines {
            let _ = writeln!(text, "{seconds} {digest}");
        }
        fs::create_dir_beneath(layout.root(), Path::new(WORK))?;
        fs::write(&path, text.as_bytes())
    }
}

const NAME: &str = "gc";
/// Some 200,000 lines and more are left out, which stay longer for it.
const LIMIT: u64 = 64 << 20;
