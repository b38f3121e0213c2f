//! A registry in the test's own process that keeps what it is sent, and is special in one way.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use haversack::digest::Digest;
use oci_spec::image::MediaType;

pub(crate) fn sorted(mut digests: Vec<String>) -> Vec<String> {
    digests.sort();
    digests
}

/// How a digest is written.
pub(crate) type Written = fn(&str) -> String;

/// Answers a request in the registry's place, by its method and path.
pub(crate) type Answers = Arc<dyn Fn(&str, &str) -> Option<Response> + Send + Sync>;

/// What is special about a registry.
#[derive(Clone, Default)]
pub(crate) struct Quirk {
    /// It lists referrers, two on a page, with links as few write them.
    pub(crate) pages: bool,
    /// So many times, the list that stands in is empty again after it was written.
    pub(crate) undone: usize,
    /// It sends such writes to a login page, which answers 200.
    pub(crate) redirected: Option<(&'static str, u16)>,
    /// It answers some requests otherwise.
    pub(crate) answers: Option<Answers>,
    /// How it writes the digest of what it sends, and the type; both, where this is not said, as they are.
    pub(crate) says: Option<(Written, &'static str)>,
}

/// A registry in the test's own process that keeps what it is sent.
pub(crate) struct Keeper {
    pub(crate) address: String,
    kept: Arc<Mutex<Kept>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Kept {
    quirk: Quirk,
    /// By the last part of their paths: blobs by digest, manifests by digest and tag.
    content: HashMap<String, Vec<u8>>,
    list_writes: usize,
}

impl Keeper {
    pub(crate) fn start(quirk: Quirk) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let kept = Arc::new(Mutex::new(Kept { quirk, ..Kept::default() }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let state = Arc::clone(&kept);
        runtime.spawn(async move {
            let app = axum::Router::new().fallback(answer).with_state(state);
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), app).await
        });
        Keeper { address, kept, _runtime: runtime }
    }

    pub(crate) fn at(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.address)
    }

    /// What the list that stands in holds, in order.
    pub(crate) fn listed(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap();
        let list = kept.content.iter().find(|(name, _)| name.starts_with("sha256-")).unwrap().1;
        let list: serde_json::Value = serde_json::from_slice(list).unwrap();
        let manifests = list["manifests"].as_array().unwrap();
        sorted(manifests.iter().map(|there| there["digest"].as_str().unwrap().to_owned()).collect())
    }

    pub(crate) fn list_writes(&self) -> usize {
        self.kept.lock().unwrap().list_writes
    }

    /// The names under which something is kept: digests and tags.
    pub(crate) fn names(&self) -> Vec<String> {
        sorted(self.kept.lock().unwrap().content.keys().cloned().collect())
    }

    pub(crate) fn kept(&self, name: &str) -> Vec<u8> {
        self.kept.lock().unwrap().content[name].clone()
    }

    /// Loses something.
    pub(crate) fn lose(&self, name: &str) {
        self.kept.lock().unwrap().content.remove(name).unwrap();
    }

    /// Keeps something without having been sent it.
    pub(crate) fn keep(&self, name: &str, bytes: &[u8]) {
        self.kept.lock().unwrap().content.insert(name.to_owned(), bytes.to_owned());
    }

    pub(crate) fn empty_list(&self) {
        let mut kept = self.kept.lock().unwrap();
        kept.content.iter_mut().filter(|(name, _)| name.starts_with("sha256-")).for_each(|it| *it.1 = EMPTY.into());
    }
}

async fn answer(State(kept): State<Arc<Mutex<Kept>>>, request: Request) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let query = request.uri().query().unwrap_or_default().replace("%3A", ":");
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap().to_vec();
    let mut kept = kept.lock().unwrap();
    if let Some(response) = kept.quirk.answers.as_ref().and_then(|answers| answers(&method, &path)) {
        return response;
    }
    match kept.quirk.redirected {
        Some((redirected, status))
            if redirected == method && !path.contains("/login") && path.contains("/uploads/") == (method == "POST") =>
        {
            let to =
                if status < 307 { "/login".to_owned() } else { path.replace("/blobs/uploads/", "/login/uploads/") };
            return (StatusCode::from_u16(status).unwrap(), [(header::LOCATION, to)]).into_response();
        }
        _ => {}
    }
    match method.as_str() {
        "GET" if matches!(path.as_str(), "/v2/" | "/login") => StatusCode::OK.into_response(),
        "GET" if path.contains("/referrers/") && kept.quirk.pages => {
            let referrers = kept.content.iter().filter(|(reference, bytes)| {
                let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
                reference.starts_with("sha256:") && document["subject"]["digest"] == name.as_str()
            });
            let all = sorted(referrers.map(|(digest, _)| digest.clone()).collect());
            let start: usize = query.trim_start_matches("last=").parse().unwrap_or(0);
            let end = all.len().min(start + 2);
            let listed = all[start..end].iter().map(|digest| {
                let size = kept.content[digest].len();
                serde_json::json!({ "mediaType": MediaType::ImageManifest, "digest": digest, "size": size })
            });
            let page = serde_json::json!({ "schemaVersion": 2, "manifests": listed.collect::<Vec<_>>() });
            let mut response = ([(header::CONTENT_TYPE, INDEX)], page.to_string()).into_response();
            if end < all.len() {
                let link = format!("<{path}?last={end}>; Rel=Next");
                response.headers_mut().insert(header::LINK, link.parse().unwrap());
            }
            response
        }
        "GET" if path.contains("/referrers/") => StatusCode::NOT_FOUND.into_response(),
        "POST" => (StatusCode::ACCEPTED, [(header::LOCATION, "/v2/r/x/blobs/uploads/1")]).into_response(),
        "PUT" if path.contains("/uploads/") => {
            kept.content.insert(query.trim_start_matches("digest=").to_owned(), body);
            StatusCode::CREATED.into_response()
        }
        "PUT" => {
            let list = name.starts_with("sha256-");
            kept.list_writes += usize::from(list);
            let undone = list && kept.list_writes <= kept.quirk.undone;
            kept.content.insert(Digest::sha256(&body).to_string(), body.clone());
            kept.content.insert(name, if undone { EMPTY.into() } else { body });
            StatusCode::CREATED.into_response()
        }
        _ => match kept.content.get(&name) {
            Some(bytes) => {
                let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
                let media_type = document["mediaType"].as_str().unwrap_or("application/octet-stream").to_owned();
                let digest = Digest::sha256(bytes).to_string();
                let (digest, media_type) = match kept.quirk.says {
                    Some((written, media_type)) => (written(&digest), media_type.to_owned()),
                    None => (digest, media_type),
                };
                ([("content-type", media_type), ("docker-content-digest", digest)], bytes.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
