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
    /// By file: after how many bytes to break off, and how often.
    breaks: HashMap<String, (usize, usize)>,
    /// The file after whose so many bytes nothing more comes.
    stall: Option<(String, usize)>,
    /// How many were told that what they have is still right.
    not_modified: usize,
}

impl Server {
    pub(crate) fn start(root: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            root: root.to_owned(),
            requests: Vec::new(),
            ranges: Vec::new(),
            breaks: HashMap::new(),
            stall: None,
            not_modified: 0,
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

    pub(crate) fn ranges(&self) -> Vec<String> {
        self.shared.lock().unwrap().ranges.clone()
    }
}

async fn file(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let mut shared = shared.lock().unwrap();
    let path = request.uri().path().to_owned();
    shared.requests.push(path.clone());
    let Ok(content) = std::fs::read(shared.root.join(path.trim_start_matches('/'))) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = format!("\"{}\"", haversack::digest::Digest::sha256(&content).hex());
    if request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        shared.not_modified += 1;
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let range = request.headers().get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let start: usize = match &range {
        Some(range) => {
            shared.ranges.push(range.clone());
            range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
        }
        None => 0,
    };
    if start >= content.len() && start > 0 {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let mut answer =
        Response::builder().header(header::CONTENT_LENGTH, content.len() - start).header(header::ETAG, etag);
    if range.is_some() {
        let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let content = Bytes::from(content).slice(start..);
    let name = path.rsplit('/').next().unwrap();
    if let Some((_, after)) = shared.stall.as_ref().filter(|(file, _)| file == name) {
        let first = content.slice(..*after);
        return answer.body(Body::from_stream(futures_util::stream::unfold(Some(first), stalled))).unwrap();
    }
    let body = match shared.breaks.get_mut(name).filter(|(_, times)| *times > 0) {
        Some((after, times)) => {
            *times -= 1;
            Body::from_stream(futures_util::stream::unfold(Some(content.slice(..*after)), broken))
        }
        None => Body::from(content),
    };
    answer.body(body).unwrap()
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
