//! What a run of `haversack gc` took away, and how that is said.

use std::path::PathBuf;

use serde::Serialize;

use crate::escape::in_line;
use crate::image::store::gc::{GcReport, Tally};
use crate::plural;
use crate::progress::{Unit, amount};

/// What was taken away in which layout, or would be.
#[derive(Clone, Debug, Serialize)]
pub struct Collected {
    /// The layout.
    pub layout: PathBuf,
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// What was, or would be.
    #[serde(flatten)]
    pub report: GcReport,
}

impl Collected {
    /// What was removed, for people.
    pub fn to_text(&self) -> String {
        let GcReport { removed, linked, leftovers, entries, waiting, needed, missing_manifests, .. } = &self.report;
        let verb = if self.dry_run { "would remove" } else { "removed" };
        let mut text: String = entries.iter().map(|entry| format!("{verb} {}\n", in_line(entry))).collect();
        let tally = |Tally { files, bytes }: &Tally| {
            format!("{}, {}", plural::count(*files, "blob"), amount(*bytes, Unit::Bytes))
        };
        text += &format!("{verb}: {}\n", tally(removed));
        if linked.files > 0 {
            text += &format!("of these linked elsewhere, so no room is won: {}\n", tally(linked));
        }
        if leftovers.files > 0 {
            let Tally { files, bytes } = leftovers;
            text += &format!("{verb}: {} on the way, {}\n", plural::count(*files, "file"), amount(*bytes, Unit::Bytes));
        }
        text += &format!("needed: {}\n", tally(needed));
        if waiting.files > 0 {
            text += &format!("not needed, within the grace time: {}\n", tally(waiting));
        }
        if *missing_manifests > 0 {
            text += &format!("listed and not there: {}\n", plural::count(*missing_manifests, "manifest"));
        }
        text
    }
}
