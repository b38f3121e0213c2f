//! A registry of what it is given, over plain HTTP on the loopback interface.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use haversack::digest::Digest;
use serde_json::{Value, json};

/// A running registry; it ends with the test.
pub(crate) struct Registry {
    pub(crate) address: String,
    shared: Arc<Mutex<Shared>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Shared {
    /// By digest, or by `REPOSITORY:TAG` the digest.
    blobs: HashMap<String, Vec<u8>>,
    tags: HashMap<String, String>,
    files: HashMap<String, Vec<u8>>,
    requests: Vec<String>,
    is_locked: bool,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Registry { address, shared, _runtime: runtime }
    }

    /// An image with one layer; returns its digest.
    pub(crate) fn image(&self, labels: &Value, layer: &[(&str, &str)]) -> String {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in layer {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let (layer, layer_size) = self.blob(tar.into_inner().unwrap());
        let config = json!({ "architecture": "amd64", "os": "linux", "config": { "Labels": labels } });
        let (config, config_size) = self.blob(config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size }],
        });
        self.blob(manifest.to_string().into_bytes()).0
    }

    pub(crate) fn tag(&self, name: &str, digest: &str) {
        self.shared.lock().unwrap().tags.insert(name.into(), digest.into());
    }

    /// Tags an index.
    pub(crate) fn document(&self, name: &str, document: &Value) {
        let (digest, _) = self.blob(document.to_string().into_bytes());
        self.tag(name, &digest);
    }

    pub(crate) fn untag(&self, name: &str) {
        self.shared.lock().unwrap().tags.remove(name);
    }

    /// A file that is no part of any image.
    pub(crate) fn file(&self, path: &str, content: Vec<u8>) {
        self.shared.lock().unwrap().files.insert(path.into(), content);
    }

    /// From now on nobody is let in.
    pub(crate) fn lock(&self) {
        self.shared.lock().unwrap().is_locked = true;
    }

    /// What was asked for since the last time.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().requests)
    }

    fn blob(&self, bytes: Vec<u8>) -> (String, usize) {
        let (digest, size) = (Digest::sha256(&bytes).to_string(), bytes.len());
        self.shared.lock().unwrap().blobs.insert(digest.clone(), bytes);
        (digest, size)
    }
}

async fn answer(State(shared): State<Arc<Mutex<Shared>>>, request: Request) -> Response {
    let mut shared = shared.lock().unwrap();
    let path = request.uri().path().to_owned();
    shared.requests.push(request.uri().to_string());
    if let Some(file) = shared.files.get(&path) {
        return file.clone().into_response();
    }
    if shared.is_locked {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"x\"")]).into_response();
    }
    if path == "/v2/" {
        return StatusCode::OK.into_response();
    }
    let parts: Vec<&str> = path.trim_start_matches("/v2/").split('/').collect();
    let [name @ .., _, reference] = &parts[..] else { return StatusCode::NOT_FOUND.into_response() };
    let tagged = shared.tags.get(&format!("{}:{reference}", name.join("/"))).cloned();
    let digest = tagged.unwrap_or_else(|| (*reference).to_owned());
    match shared.blobs.get(&digest) {
        Some(blob) => ([(header::CONTENT_TYPE, MANIFEST)], blob.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
