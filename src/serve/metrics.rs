//! Counters for `/metrics`, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;

use crate::image::store::gc::GcReport;
use crate::serve::Server;
use crate::serve::answer::{self, Answer, Refusal, set};
use crate::serve::body::{Body, Part};
use crate::serve::request::Request;

/// What has happened since the start.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    sent: AtomicU64,
    pub(super) connections: AtomicU64,
    removed: AtomicU64,
    removed_bytes: AtomicU64,
}

impl Metrics {
    /// Counts an answer that was sent.
    pub(super) fn count(&self, method: &str, status: u16, bytes: u64) {
        // Whatever a client calls its method is not another counter.
        let method = if METHODS.contains(&method) { method } else { "OTHER" };
        *self.requests.lock().expect("no holder panics").entry((method.to_owned(), status)).or_default() += 1;
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts what was taken away.
    pub(super) fn collected(&self, report: &GcReport) {
        self.removed.fetch_add(report.removed.files, Ordering::Relaxed);
        self.removed_bytes.fetch_add(report.removed.bytes, Ordering::Relaxed);
    }

    /// The text, with numbers of what there is.
    pub(super) fn text(&self, counters: &[(&str, &str, u64)], gauges: &[(&str, &str, u64)]) -> String {
        let mut text = String::new();
        head(&mut text, "requests_total", "counter", "Requests by method and status.");
        for ((method, status), n) in self.requests.lock().expect("no holder panics").iter() {
            let _ = writeln!(text, "haversack_requests_total{{method=\"{method}\",status=\"{status}\"}} {n}");
        }
        head(&mut text, "sent_bytes_total", "counter", "Bytes of bodies that were sent.");
        let _ = writeln!(text, "haversack_sent_bytes_total {}", self.sent.load(Ordering::Relaxed));
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let removed = [
            ("gc_removed_blobs_total", "Blobs that were taken away because nothing needed them.", of(&self.removed)),
            ("gc_removed_bytes_total", "Their bytes.", of(&self.removed_bytes)),
        ];
        for (name, help, value) in removed.iter().chain(counters) {
            head(&mut text, name, "counter", help);
            let _ = writeln!(text, "haversack_{name} {value}");
        }
        head(&mut text, "connections", "gauge", "Open connections.");
        let _ = writeln!(text, "haversack_connections {}", self.connections.load(Ordering::Relaxed));
        for (name, help, value) in gauges {
            head(&mut text, name, "gauge", help);
            let _ = writeln!(text, "haversack_{name} {value}");
        }
        text
    }
}

/// Answers `/metrics`.
pub(super) async fn answer(server: &Server, request: &Request) -> Result<Answer, Refusal> {
    let view = request.view(&server.store).await?;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let tags = view.repositories.values().map(|repository| repository.tags.len()).sum();
    let bad = view.documents.values().filter(|document| document.is_err()).count();
    let scrubbed = &server.store.scrubbed;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = [
        ("scrubbed_blobs_total", "Blobs that were read to find bits that rot.", of(&scrubbed.blobs)),
        ("scrubbed_bytes_total", "Their bytes.", of(&scrubbed.bytes)),
        ("scrub_failed_total", "Such readings that failed.", of(&scrubbed.failed)),
        ("password_checks_total", "Passwords that were compared with their hashes.", server.guard.checks()),
    ];
    let ends = server.tls.as_ref().and_then(|tls| tls.ends()).and_then(|ends| u64::try_from(ends.as_second()).ok());
    let certificate =
        ends.map(|ends| ("certificate_end_seconds", "When the certificate ends, in seconds since 1970.", ends));
    let gauges: Vec<_> = [
        ("repositories", "Repositories that are served.", count(view.repositories.len())),
        ("tags", "Tags of all repositories.", count(tags)),
        ("manifests", "Manifests and indexes that are served.", count(view.documents.len() - bad)),
        ("bad_manifests", "Manifests that are missing or damaged.", count(bad)),
        (
            "damaged_blobs",
            "Blobs that were found to be damaged and are not served.",
            count(server.store.damaged().len()),
        ),
        ("scrub_due_blobs", "Blobs that were not read for longer than they should be.", of(&scrubbed.due)),
    ]
    .into_iter()
    .chain(certificate)
    .collect();
    let text = server.metrics.text(&counters, &gauges);
    let mut answer = answer::with_body(StatusCode::OK, Body::new(vec![Part::Bytes(text.into())]));
    set(&mut answer, CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    Ok(answer)
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP haversack_{name} {help}\n# TYPE haversack_{name} {kind}");
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
