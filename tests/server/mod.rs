//! A web server of files on the loopback interface, with `Range`, `ETag`, a record of requests, and answers that break off
//! or come to a halt.

#![allow(dead_code, reason = "each user takes a part")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A running server; it ends with the test.
pub(crate) struct Server {
    pub(crate) url: String,
    shared: Arc<Mutex<Shared>>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    root: PathBuf,
    requests: Vec<String>,
    ranges: Vec<String>,
    /// Of each request for a range its `If-Range`, or nothing.
    conditions: Vec<String>,
    /// By file: after how many bytes to break off, and how often.
    breaks: HashMap<String, (usize, usize)>,
    /// The file after whose so many bytes nothing more comes.
    stall: Option<(String, usize)>,
    /// How many were told that what they have is still right.
    not_modified: usize,
    /// By file: how often to answer with a status.
    failures: HashMap<String, (u16, usize)>,
    /// By file: what it is once an answer with it has broken off.
    successors: HashMap<String, Vec<u8>>,
    /// By file: to send so many bytes as if that were all, without a length.
    shortened: HashMap<String, usize>,
    validators: Validators,
    /// Whether directories are answered with a page of what is in them.
    lists: bool,
}

/// What the server says of the state of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validators {
    /// An `ETag`, and it knows `If-Range`.
    Tags,
    /// An `ETag`, and a range is sent whatever the file is by now.
    TagsIgnored,
    /// A date of an hour ago and one of now, and it knows `If-Range`.
    Dates,
    /// A date of this second.
    Fresh,
    /// A weak tag.
    Weak,
    /// Nothing.
    Nothing,
}

impl Server {
    pub(crate) fn start(root: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            root: root.to_owned(),
            requests: Vec::new(),
            ranges: Vec::new(),
            conditions: Vec::new(),
            breaks: HashMap::new(),
            stall: None,
            not_modified: 0,
            failures: HashMap::new(),
            successors: HashMap::new(),
            shortened: HashMap::new(),
            validators: Validators::Tags,
            lists: false,
        }));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(file).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Server { url, shared, _runtime: runtime }
    }

    /// Breaks off each of the next `times` answers with `file` after so many bytes.
    pub(crate) fn break_off(&self, file: String, after: usize, times: usize) {
        self.shared.lock().unwrap().breaks.insert(file, (after, times));
    }

    /// Answers the next `times` requests of `file` with a status.
    pub(crate) fn fail(&self, file: &str, status: u16, times: usize) {
        self.shared.lock().unwrap().failures.insert(file.to_owned(), (status, times));
    }

    /// Has another content of `file` once an answer with it has broken off.
    pub(crate) fn change_when_broken_off(&self, file: &str, content: &[u8]) {
        self.shared.lock().unwrap().successors.insert(file.to_owned(), content.to_owned());
    }

    /// Sends so many bytes of `file` as if that were all, without saying how many there are; `None` sends all again.
    pub(crate) fn shorten(&self, file: &str, to: Option<usize>) {
        let mut shared = self.shared.lock().unwrap();
        match to {
            Some(to) => drop(shared.shortened.insert(file.to_owned(), to)),
            None => drop(shared.shortened.remove(file)),
        }
    }

    /// Answers directories with a page that leads to what is in them, as most servers of mirrors do.
    pub(crate) fn list_directories(&self) {
        self.shared.lock().unwrap().lists = true;
    }

    pub(crate) fn say(&self, validators: Validators) {
        self.shared.lock().unwrap().validators = validators;
    }

    /// Sends so many bytes of each answer with `file` and then nothing; `None` sends all again.
    pub(crate) fn stall(&self, stall: Option<(String, usize)>) {
        self.shared.lock().unwrap().stall = stall;
    }

    pub(crate) fn not_modified(&self) -> usize {
        self.shared.lock().unwrap().not_modified
    }

    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().requests)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.lock().unwrap().requests.clone()
    }

    /// Of each request for a range its `If-Range`, or nothing.
    pub(crate) fn conditions(&self) -> Vec<String> {
        self.shared.lock().unwrap().conditions.clone()
    }

    pub(crate) fn ranges(&self) -> Vec<String> {
        self.shared.lock().unwrap().ranges.clone()
    }
}

async fn file(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let mut shared = shared.lock().unwrap();
    let path = request.uri().path().to_owned();
    shared.requests.push(path.clone());
    let name = path.rsplit('/').next().unwrap().to_owned();
    if let Some((status, times)) = shared.failures.get_mut(&name).filter(|(_, times)| *times > 0) {
        *times -= 1;
        return StatusCode::from_u16(*status).unwrap().into_response();
    }
    let place = shared.root.join(path.trim_start_matches('/'));
    if shared.lists && place.is_dir() {
        let mut names: Vec<String> = std::fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| entry.file_name().into_string().unwrap() + if entry.path().is_dir() { "/" } else { "" })
            .collect();
        names.sort();
        let lines: String = names.iter().map(|name| format!("<a href=\"{name}\">{name}</a>\n")).collect();
        return ([(header::CONTENT_TYPE, "text/html")], format!("<a href=\"../\">../</a>\n{lines}")).into_response();
    }
    let Ok(content) = std::fs::read(place) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let digest = haversack::digest::Digest::sha256(&content);
    let etag = match shared.validators {
        Validators::Weak => format!("W/\"{}\"", digest.hex()),
        _ => format!("\"{}\"", digest.hex()),
    };
    // Another content, another date, within a day of long ago.
    let seconds = u32::from_str_radix(&digest.hex()[..4], 16).unwrap();
    let date = format!("Mon, 01 Jan 2024 {:02}:{:02}:{:02} GMT", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        shared.not_modified += 1;
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let range = request.headers().get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let condition = request.headers().get(header::IF_RANGE).map(|it| it.to_str().unwrap().to_owned());
    if range.is_some() {
        shared.conditions.push(condition.clone().unwrap_or_default());
    }
    let is_same = condition.is_none_or(|condition| match shared.validators {
        Validators::TagsIgnored => true,
        Validators::Dates => condition == date,
        _ => condition == etag,
    });
    let is_partial = range.is_some() && is_same;
    let start: usize = match &range {
        Some(range) => {
            shared.ranges.push(range.clone());
            if is_same { range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap() } else { 0 }
        }
        None => 0,
    };
    if start >= content.len() && start > 0 {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let mut answer = Response::builder();
    answer = match shared.validators {
        Validators::Nothing => answer,
        Validators::Dates => answer.header(header::LAST_MODIFIED, date),
        Validators::Fresh => answer.header(header::LAST_MODIFIED, now()),
        _ => answer.header(header::ETAG, etag),
    };
    if let Some(to) = shared.shortened.get(&name) {
        let first = Bytes::from(content).slice(..*to);
        return answer.body(Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(first)]))).unwrap();
    }
    answer = answer.header(header::CONTENT_LENGTH, content.len() - start);
    if is_partial {
        let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let content = Bytes::from(content).slice(start..);
    if let Some((_, after)) = shared.stall.as_ref().filter(|(file, _)| *file == name) {
        let first = content.slice(..*after);
        return answer.body(Body::from_stream(futures_util::stream::unfold(Some(first), stalled))).unwrap();
    }
    let body = match shared.breaks.get_mut(&name).filter(|(_, times)| *times > 0) {
        Some((after, times)) => {
            *times -= 1;
            let first = content.slice(..*after);
            if let Some(next) = shared.successors.remove(&name) {
                std::fs::write(shared.root.join(path.trim_start_matches('/')), next).unwrap();
            }
            Body::from_stream(futures_util::stream::unfold(Some(first), broken))
        }
        None => Body::from(content),
    };
    answer.body(body).unwrap()
}

/// As servers say it.
fn now() -> String {
    jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// The bytes, and never more.
async fn stalled(bytes: Option<Bytes>) -> Option<(std::io::Result<Bytes>, Option<Bytes>)> {
    match bytes {
        Some(bytes) => Some((Ok(bytes), None)),
        None => std::future::pending().await,
    }
}

/// The bytes, and a moment later, so that they are sent, an error.
async fn broken(bytes: Option<Bytes>) -> Option<(std::io::Result<Bytes>, Option<Bytes>)> {
    match bytes {
        Some(bytes) => Some((Ok(bytes), None)),
        None => {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            Some((Err(std::io::Error::other("broken off")), None))
        }
    }
}
