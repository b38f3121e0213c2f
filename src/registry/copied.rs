//! What a copy did: counted while it is under way, and told at its end.

use std::collections::HashSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::causes;
use crate::digest::Digest;
use crate::escape::in_line;
use crate::registry::client::Error;

/// What was copied, or with `dry_run` would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// Digest of the image at the target.
    pub digest: Digest,
    /// Whether the index was rewritten for the platforms that were asked for.
    pub rewritten: bool,
    /// Blobs that were sent, and their bytes.
    pub sent_blobs: u64,
    /// Bytes of the blobs that were sent.
    pub sent_bytes: u64,
    /// Blobs that the registry took from another of its repositories.
    pub mounted_blobs: u64,
    /// Blobs that were there.
    pub present_blobs: u64,
    /// Bytes of the blobs that were there.
    pub present_bytes: u64,
    /// Manifests and indexes that were written.
    pub documents: u64,
    /// Signatures, SBOMs and attestations that came along.
    pub referrers: u64,
    /// Layers that are not in the source, since they may not be distributed: their own registry has them.
    pub foreign: u64,
    /// Entries of a layout's or an archive's index, without names of their own, that belong to nothing that was copied and do not
    /// refer to another image either.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_asked: u64,
    /// What may belong to the image and did not come along.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Something that did not come along, while the image did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// A referrer, or what is not known to have any.
    pub what: String,
    /// Why.
    pub because: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left out: {}: {}", in_line(&self.what), in_line(&self.because))
    }
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) mounted: AtomicU64,
    pub(super) present: AtomicU64,
    pub(super) present_bytes: AtomicU64,
    pub(super) documents: AtomicU64,
    pub(super) referrers: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) left_out: Mutex<Vec<LeftOut>>,
    /// Digests of the documents that were copied.
    pub(super) documents_seen: Mutex<HashSet<String>>,
}

impl Counts {
    /// Says that something did not come along.
    pub(super) fn leave_out(&self, what: String, error: &Error) {
        let because = causes::line(error);
        tracing::warn!("{what} left out: {because}");
        self.left_out.lock().expect("no holder panics").push(LeftOut { what, because });
    }

    pub(super) fn report(&self, digest: Digest, rewritten: bool) -> CopyReport {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CopyReport {
            digest,
            rewritten,
            sent_blobs: of(&self.sent),
            sent_bytes: of(&self.sent_bytes),
            mounted_blobs: of(&self.mounted),
            present_blobs: of(&self.present),
            present_bytes: of(&self.present_bytes),
            documents: of(&self.documents),
            referrers: of(&self.referrers),
            foreign: of(&self.foreign),
            not_asked: 0,
            left_out: self.left_out.lock().expect("no holder panics").clone(),
        }
    }
}
