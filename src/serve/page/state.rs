//! What is wrong or unclear here, how much room there is, and which carries came.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use askama::Template;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs;
use crate::image::store::layout::WORK;
use crate::progress::{Unit, amount};
use crate::serve::answer::{Answer, Refusal};
use crate::serve::page::{Frame, Page, age, blocking, html, json};
use crate::serve::request::Request;
use crate::serve::store::Store;
use crate::serve::view::View;

#[derive(Template)]
#[template(path = "state.html")]
struct Shown<'a> {
    frame: Frame<'a>,
    state: State,
}

#[derive(Serialize)]
struct State {
    repositories: usize,
    tags: usize,
    manifests: usize,
    is_writable: bool,
    damaged: Vec<Damaged>,
    /// Manifests that are missing or damaged, and why; the first hundred.
    bad: Vec<Bad>,
    bad_manifests: usize,
    /// What the operator should know of names.
    notes: Vec<String>,
    layouts: Vec<Room>,
    /// Blobs that were read since the start to find bits that rot, and those that are due.
    scrubbed: u64,
    scrub_due: u64,
    uploads: usize,
    /// Of TLS, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Certificate>,
}

#[derive(Serialize)]
struct Certificate {
    /// When it ends, RFC 3339.
    ends: String,
    /// Whole days from now until then; below zero when it has ended.
    days: i64,
}

impl Certificate {
    fn until(ends: jiff::Timestamp) -> Self {
        let seconds = ends.as_second() - jiff::Timestamp::now().as_second();
        Certificate { ends: ends.to_string(), days: seconds.div_euclid(86_400) }
    }
}

#[derive(Serialize)]
struct Damaged {
    digest: Digest,
    layout: String,
    /// When that was found, RFC 3339.
    found: String,
    /// The repositories that need it.
    repositories: Vec<String>,
}

#[derive(Serialize)]
struct Bad {
    digest: Digest,
    why: String,
}

#[derive(Serialize)]
struct Room {
    layout: String,
    free: u64,
    of: u64,
}

impl Room {
    fn text(&self) -> String {
        format!("{} free of {}", amount(self.free, Unit::Bytes), amount(self.of, Unit::Bytes))
    }
}

pub(super) async fn state(page: &Arc<Page>, request: &Request, is_json: bool) -> Result<Answer, Refusal> {
    let view = request.view(&page.store).await?;
    let at = page.clone();
    let mut state = blocking(move || look(&at.store, &view, at.shown.is_writable)).await?;
    state.certificate = page.tls.as_ref().and_then(|tls| tls.ends()).map(Certificate::until);
    if is_json {
        return Ok(json(&state));
    }
    html(&Shown { frame: page.frame(request), state })
}

fn look(store: &Store, view: &View, is_writable: bool) -> State {
    let needed_by = |digest: &Digest| {
        let needs =
            view.repositories.iter().filter(|(_, it)| it.blobs.contains(digest) || it.manifests.contains(digest));
        needs.map(|(key, _)| key.clone()).collect()
    };
    let layout = |at: usize| in_line(store.sources[at].layout.root().display());
    let damaged = store.damaged().into_iter().map(|(at, digest, checked)| Damaged {
        repositories: needed_by(&digest),
        layout: layout(at),
        found: jiff::Timestamp::from_second(checked.at).unwrap_or_default().to_string(),
        digest,
    });
    let bad = view.documents.iter().filter_map(|(digest, document)| Some((digest, document.as_ref().err()?)));
    let mut bad: Vec<Bad> = bad.map(|(digest, why)| Bad { digest: digest.clone(), why: in_line(why) }).collect();
    bad.sort_by(|one, other| one.digest.cmp(&other.digest));
    let bad_manifests = bad.len();
    bad.truncate(SHOWN);
    let room = |at: usize| {
        let found = rustix::fs::statvfs(store.sources[at].layout.root()).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Some(Room { layout: layout(at), free: bytes(found.f_bavail), of: bytes(found.f_blocks) })
    };
    let uploads = store.sources[0].layout.root().join(WORK).join("uploads");
    State {
        repositories: view.repositories.len(),
        tags: view.repositories.values().map(|it| it.tags.len()).sum(),
        manifests: view.documents.len() - bad_manifests,
        is_writable,
        damaged: damaged.collect(),
        bad,
        bad_manifests,
        notes: view.notes.iter().map(in_line).collect(),
        layouts: (0..store.sources.len()).filter_map(room).collect(),
        scrubbed: store.scrubbed.blobs.load(Ordering::Relaxed),
        scrub_due: store.scrubbed.due.load(Ordering::Relaxed),
        uploads: if is_writable { fs::list(&uploads).map_or(0, |files| files.len()) } else { 0 },
        certificate: None,
    }
}

#[derive(Template)]
#[template(path = "carries.html")]
struct Carries<'a> {
    frame: Frame<'a>,
    carries: Vec<Carry>,
    unreadable: usize,
}

/// A carry that was unpacked into a layout, as its receipt there says.
#[derive(Serialize)]
struct Carry {
    #[serde(flatten)]
    receipt: Receipt,
    layout: String,
    #[serde(skip)]
    age: String,
}

/// `.haversack/receipts/ID.json`, which `unpack` writes when every image of a carry is whole.
#[derive(Serialize, Deserialize)]
struct Receipt {
    carry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    state: Digest,
    unpacked: String,
    code: String,
}

pub(super) async fn carries(page: &Arc<Page>, request: &Request, is_json: bool) -> Result<Answer, Refusal> {
    let store = page.store.clone();
    let (carries, unreadable) = blocking(move || {
        let (mut carries, mut unreadable) = (Vec::new(), 0);
        for source in &store.sources {
            let root = source.layout.root();
            let files = fs::list(&root.join(WORK).join("receipts")).unwrap_or_default();
            for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "json")) {
                match receipt(file) {
                    Some(receipt) => carries.push(Carry {
                        layout: in_line(root.display()),
                        age: receipt.unpacked.parse().map_or_else(|_| "at an unknown time".to_owned(), age),
                        receipt,
                    }),
                    None => unreadable += 1,
                }
            }
        }
        carries.sort_by(|one, other| other.receipt.unpacked.cmp(&one.receipt.unpacked));
        (carries, unreadable)
    })
    .await?;
    if is_json {
        return Ok(json(&serde_json::json!({ "carries": carries, "unreadable": unreadable })));
    }
    html(&Carries { frame: page.frame(request), carries, unreadable })
}

fn receipt(file: &Path) -> Option<Receipt> {
    let receipt: Receipt = serde_json::from_slice(&fs::read_regular(file, 64 << 10).ok()?).ok()?;
    Some(Receipt {
        carry: in_line(receipt.carry),
        site: receipt.site.map(in_line),
        unpacked: in_line(receipt.unpacked),
        code: in_line(receipt.code),
        ..receipt
    })
}

/// Manifests that are shown.
const SHOWN: usize = 100;
