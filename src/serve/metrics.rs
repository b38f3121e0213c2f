//! Counters for `/metrics`, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::image::store::gc::GcReport;

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

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP haversack_{name} {help}\n# TYPE haversack_{name} {kind}");
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
