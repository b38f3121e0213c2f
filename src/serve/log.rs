//! The access log: a line for each request, written when its answer was sent or given up.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::escape::in_line;

/// Who is told of each request.
pub type Log = Arc<dyn Fn(&Entry) + Send + Sync>;

/// One request and its answer. There is no password, no query and no upload's secret in it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When it came, as RFC 3339 has it.
    pub time: String,
    /// From where.
    pub client: IpAddr,
    /// Who, where somebody has logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `GET`
    pub method: String,
    /// What was asked for.
    pub path: String,
    /// The registry that the client is really after, as containerd says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns: Option<String>,
    /// HTTP status.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub bytes: u64,
    /// From the request's head to the end of the answer.
    pub milliseconds: u64,
    /// Why the answer was refused or not sent to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The line for people.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { time, client, user, method, path, ns, status, bytes, milliseconds, error } = self;
        let user = user.as_ref().map(|user| format!(" {}", in_line(user))).unwrap_or_default();
        let ns = ns.as_ref().map(|ns| format!(" ns={}", in_line(ns))).unwrap_or_default();
        let error = error.as_ref().map(|error| format!(": {}", in_line(error))).unwrap_or_default();
        let path = in_line(path);
        write!(f, "{time} {client}{user} {method} {path}{ns} {status} {bytes} B {milliseconds} ms{error}")
    }
}

/// A request under way; when it is dropped the log gets its line.
pub(super) struct Line {
    pub(super) entry: Entry,
    pub(super) bytes: u64,
    pub(super) expected: u64,
    pub(super) error: Option<String>,
    pub(super) started: Instant,
    pub(super) log: Log,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.entry.bytes = self.bytes;
        self.entry.milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.error.is_none() && self.bytes < self.expected {
            self.error = Some(format!("given up after {} of {} bytes", self.bytes, self.expected));
        }
        self.entry.error = self.error.take();
        (self.log)(&self.entry);
    }
}
