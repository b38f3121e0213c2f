//! A registry in the test's own process that takes uploads in pieces, and loses one of them half-way.

use std::collections::{BTreeSet, HashMap};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use haversack::digest::Digest;

/// What becomes of the second piece of the first upload that has several, or of the first manifest.
#[derive(Clone, Copy)]
pub(crate) enum Accident {
    /// The connection breaks when half of it has arrived, which the registry keeps.
    Breaks,
    /// The registry is gone from then on.
    Ends,
    /// The registry takes no second piece, as some do, and says so with this status.
    Refused(u16),
    /// The connection breaks, and the registry knows nothing of the upload any more.
    Forgotten,
    /// So many manifests are answered with this status and code.
    Manifest(u16, &'static str, usize),
    /// What it says of how much arrived: the `Range` for a piece that begins and ends at these bytes.
    Counts(fn(usize, usize) -> String),
    /// Blobs of some size are not looked at: they are answered with this status, and with this digest or, where it is empty, that of what arrived.
    Blobs(u16, Option<&'static str>),
    /// It says that it mounts blobs and does not, and answers manifests that name what it lacks with this status.
    Mounts(u16),
    /// None: it says of each blob which digest it found.
    Says,
}

pub(crate) struct Taker {
    pub(crate) address: String,
    shared: Shared,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Shared {
    state: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    accident: Option<Accident>,
    gone: bool,
    uploads: HashMap<String, Vec<u8>>,
    /// By repository and digest.
    blobs: HashMap<String, Vec<u8>>,
    /// How often one was sent.
    manifests: usize,
    /// Method, and bytes from and to, of each piece of a large blob.
    asked: Vec<String>,
}

impl Taker {
    pub(crate) fn start(accident: Accident) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Shared { state: Arc::new(Mutex::new(Inner { accident: Some(accident), ..Inner::default() })) };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = shared.clone();
        runtime.spawn(async move {
            let app = axum::Router::new().fallback(answer).with_state(state);
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await
        });
        Taker { address, shared, _runtime: runtime }
    }

    /// What was asked about pieces since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state.lock().unwrap().asked)
    }

    /// How often a manifest was sent.
    pub(crate) fn manifests(&self) -> usize {
        self.shared.state.lock().unwrap().manifests
    }

    /// The registry is there again.
    pub(crate) fn come_back(&self) {
        self.shared.state.lock().unwrap().gone = false;
    }

    /// The repositories and digests of the blobs that it has.
    pub(crate) fn blobs(&self) -> BTreeSet<String> {
        self.shared.state.lock().unwrap().blobs.keys().cloned().collect()
    }

    pub(crate) fn holds(&self, size: usize) -> bool {
        self.shared.state.lock().unwrap().blobs.values().any(|blob| blob.len() == size)
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let query = request.uri().query().unwrap_or_default().replace("%3A", ":");
    let repository = path.split("/blobs/").next().unwrap().split("/manifests/").next().unwrap().to_owned();
    let range = request.headers().get(header::CONTENT_RANGE).map(|range| range.to_str().unwrap().to_owned());
    let field = |name: header::HeaderName, value: String| [(name, value)];
    let arrived = |inner: &Inner| format!("0-{}", inner.uploads[&path].len().saturating_sub(1));
    if shared.state.lock().unwrap().gone {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let mut body = request.into_body().into_data_stream();
    match (method.as_str(), path.as_str()) {
        ("GET", "/v2/") => StatusCode::OK.into_response(),
        ("POST", _) => {
            let mut inner = shared.state.lock().unwrap();
            if query.starts_with("mount=") && matches!(inner.accident, Some(Accident::Mounts(_))) {
                return StatusCode::CREATED.into_response();
            }
            let upload = format!("{repository}/blobs/uploads/{}", inner.uploads.len());
            inner.uploads.insert(upload.clone(), Vec::new());
            (StatusCode::ACCEPTED, field(header::LOCATION, upload)).into_response()
        }
        ("GET", upload) if upload.contains("/uploads/") => {
            let mut inner = shared.state.lock().unwrap();
            inner.asked.push("GET".to_owned());
            if let Some(Accident::Forgotten) = inner.accident {
                inner.accident = None;
                return StatusCode::NOT_FOUND.into_response();
            }
            (StatusCode::NO_CONTENT, [(header::LOCATION, path.clone()), (header::RANGE, arrived(&inner))])
                .into_response()
        }
        ("PATCH", _) => {
            let range = range.unwrap();
            let start: usize = range.split_once('-').unwrap().0.parse().unwrap();
            let accident = {
                let mut inner = shared.state.lock().unwrap();
                inner.asked.push(format!("PATCH {range}"));
                if start != inner.uploads[&path].len() {
                    return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
                }
                inner.accident.filter(|_| start > 0)
            };
            let mut piece = Vec::new();
            while let Some(Ok(bytes)) = body.next().await {
                piece.extend_from_slice(&bytes);
                match accident {
                    Some(Accident::Ends) => {
                        let mut inner = shared.state.lock().unwrap();
                        (inner.gone, inner.accident) = (true, None);
                        return StatusCode::SERVICE_UNAVAILABLE.into_response();
                    }
                    Some(accident @ (Accident::Breaks | Accident::Forgotten)) if piece.len() >= 1 << 20 => {
                        let mut inner = shared.state.lock().unwrap();
                        inner.uploads.get_mut(&path).unwrap().extend_from_slice(&piece[..1 << 20]);
                        if let Accident::Breaks = accident {
                            inner.accident = None;
                        }
                        drop(inner);
                        // Ends the connection without a word.
                        std::panic::resume_unwind(Box::new("cut"));
                    }
                    _ => {}
                }
            }
            let mut inner = shared.state.lock().unwrap();
            if let Some(Accident::Refused(status)) = accident {
                return StatusCode::from_u16(status).unwrap().into_response();
            }
            inner.uploads.get_mut(&path).unwrap().extend_from_slice(&piece);
            let arrived = match inner.accident {
                Some(Accident::Counts(counts)) => counts(start, start + piece.len()),
                _ => arrived(&inner),
            };
            (StatusCode::ACCEPTED, [(header::LOCATION, path.clone()), (header::RANGE, arrived)]).into_response()
        }
        ("PUT", upload) if upload.contains("/blobs/") => {
            let mut whole = Vec::new();
            while let Some(Ok(bytes)) = body.next().await {
                whole.extend_from_slice(&bytes);
            }
            let mut inner = shared.state.lock().unwrap();
            if whole.len() > 1 << 20 {
                inner.asked.push("PUT whole".to_owned());
            }
            let content = if whole.is_empty() { inner.uploads[&path].clone() } else { whole };
            let digest = Digest::sha256(&content).to_string();
            if let Some(Accident::Blobs(status, says)) = inner.accident
                && content.len() > 10_000
            {
                let says = says.map(|says| if says.is_empty() { digest } else { says.to_owned() });
                let mut response = StatusCode::from_u16(status).unwrap().into_response();
                if let Some(says) = says {
                    response.headers_mut().insert("docker-content-digest", says.parse().unwrap());
                }
                return response;
            }
            if query != format!("digest={digest}") {
                return StatusCode::BAD_REQUEST.into_response();
            }
            inner.blobs.insert(format!("{repository}/{digest}"), content);
            match inner.accident {
                Some(Accident::Says) => (StatusCode::CREATED, [("docker-content-digest", digest)]).into_response(),
                _ => StatusCode::CREATED.into_response(),
            }
        }
        ("PUT", _) => {
            let mut manifest = Vec::new();
            while let Some(Ok(bytes)) = body.next().await {
                manifest.extend_from_slice(&bytes);
            }
            let refused = |status: u16, code: &str| {
                let body = format!(r#"{{"errors":[{{"code":"{code}","message":"refused"}}]}}"#);
                (StatusCode::from_u16(status).unwrap(), body).into_response()
            };
            let mut inner = shared.state.lock().unwrap();
            inner.manifests += 1;
            match inner.accident {
                Some(Accident::Manifest(status, code, times)) if times > 0 => {
                    inner.accident = Some(Accident::Manifest(status, code, times - 1));
                    refused(status, code)
                }
                Some(Accident::Mounts(status)) => {
                    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
                    let mut named = manifest["layers"].as_array().unwrap().iter().chain([&manifest["config"]]);
                    let key = |blob: &serde_json::Value| format!("{repository}/{}", blob["digest"].as_str().unwrap());
                    match named.all(|blob| inner.blobs.contains_key(&key(blob))) {
                        true => StatusCode::CREATED.into_response(),
                        false => refused(status, "MANIFEST_BLOB_UNKNOWN"),
                    }
                }
                _ => StatusCode::CREATED.into_response(),
            }
        }
        ("HEAD", _) if shared.state.lock().unwrap().blobs.contains_key(&format!("{repository}/{name}")) => {
            StatusCode::OK.into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
