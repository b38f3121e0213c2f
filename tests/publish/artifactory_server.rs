//! Artifactory as a stand-in that keeps files, knows content, says what it may to whom, and has a fault on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use haversack::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Run, haversack, login_page};

/// A running server with the repository `redhat-sources`.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) shared: Arc<Mutex<Shared>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    requests: Vec<(String, HeaderMap)>,
    faults: Vec<Fault>,
    pub(crate) properties: BTreeMap<String, String>,
    /// Whether nobody needs credentials.
    pub(crate) is_open: bool,
    /// How many results a search shows, after which it is trimmed.
    pub(crate) search_limit: Option<usize>,
    /// Whether properties are dropped without a word.
    pub(crate) drops_properties: bool,
    /// Whether listings have addresses in place of names.
    pub(crate) lists_addresses: bool,
    /// Whether answers do not say what was stored.
    pub(crate) is_silent: bool,
    /// The status with which everything below /artifactory is redirected to /jfrog/artifactory, where the server is too.
    pub(crate) moved: Option<u16>,
}

/// What happens with the next requests that match.
struct Fault {
    method: Method,
    /// Part of method, path and query.
    part: &'static str,
    times: usize,
    /// 0 breaks the connection off.
    status: u16,
    /// Where a redirect leads.
    to: Option<String>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let url = format!("http://{}/artifactory", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Server { url, shared, _runtime: runtime }
    }

    pub(crate) fn fault(&self, method: Method, part: &'static str, times: usize, status: u16) {
        self.shared.lock().unwrap().faults.push(Fault { method, part, times, status, to: None });
    }

    /// All such requests are redirected.
    pub(crate) fn redirect(&self, method: Method, part: &'static str, status: u16, to: &str) {
        let fault = Fault { method, part, times: usize::MAX, status, to: Some(to.to_owned()) };
        self.shared.lock().unwrap().faults.push(fault);
    }

    pub(crate) fn put(&self, path: &str, content: &str) {
        self.shared.lock().unwrap().files.insert(path.to_owned(), content.into());
    }

    pub(crate) fn files(&self) -> Vec<String> {
        self.shared.lock().unwrap().files.keys().cloned().collect()
    }

    /// Requests since the last call.
    pub(crate) fn requests(&self) -> Vec<(String, HeaderMap)> {
        std::mem::take(&mut self.shared.lock().unwrap().requests)
    }

    pub(crate) fn run(&self, dir: &TempDir, args: &[&str]) -> Run {
        let mut command = haversack(dir.path());
        let fixed = ["publish", "artifactory", "packages", "--url", &self.url, "--repo", "redhat-sources", "--json"];
        command.args(fixed).args(args).env("ARTIFACTORY_TOKEN", "t0ken");
        Run::of(command.output().unwrap())
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut shared = shared.lock().unwrap();
    let line = format!("{method} {uri}");
    shared.requests.push((line.clone(), headers.clone()));
    let line = line.replace("/jfrog/", "/");
    if uri.path() == "/login" {
        return login_page::page();
    }
    if let (Some(status), true) = (shared.moved, uri.path().starts_with("/artifactory/")) {
        let status = StatusCode::from_u16(status).unwrap();
        return (status, [("location", format!("/jfrog{uri}"))]).into_response();
    }
    let is_open = shared.is_open;
    if !is_open
        && headers.get("authorization").is_none_or(|value| value != "Bearer t0ken")
        && headers.get("x-jfrog-art-api").is_none_or(|value| value != "k3y")
    {
        return errors(401, "Bad credentials");
    }
    let is_meant = |fault: &&mut Fault| fault.times > 0 && fault.method == method && line.contains(fault.part);
    if let Some(Fault { times, status, to, .. }) = shared.faults.iter_mut().find(is_meant) {
        *times -= 1;
        if let Some(to) = to {
            return (StatusCode::from_u16(*status).unwrap(), [("location", to.as_str())]).into_response();
        }
        return match *status {
            0 => {
                let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("broken off"))]);
                Response::builder().header("content-length", 10).body(axum::body::Body::from_stream(broken)).unwrap()
            }
            429 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")], "").into_response(),
            status => errors(status, "not now"),
        };
    }
    let path = uri.path().trim_start_matches("/jfrog").strip_prefix("/artifactory/").unwrap();
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    match (method.as_str(), path) {
        ("GET", "api/storage/redhat-sources") => {
            assert_eq!(uri.query(), Some("list&deep=1&listFolders=0"));
            let listed = shared.files.iter().map(|(path, content)| {
                let path = if shared.lists_addresses { path.replace(' ', "%20") } else { path.clone() };
                json!({ "uri": format!("/{path}"), "size": content.len(), "folder": false, "sha1": "x", "sha2": Digest::sha256(content).hex() })
            });
            let listed: Vec<Value> = listed.collect();
            json!({ "uri": "u", "created": "c", "files": listed }).to_string().into_response()
        }
        ("GET", path) if path.starts_with("api/storage/redhat-sources/") => {
            assert_eq!(uri.query(), Some("properties"));
            let path = decoded(path.strip_prefix("api/storage/redhat-sources/").unwrap());
            let mut properties: BTreeMap<String, Vec<String>> = BTreeMap::new();
            let set = shared.properties.get(&path).into_iter().flat_map(|text| text.split(';'));
            for (key, value) in set.filter_map(|pair| pair.split_once('=')) {
                properties.entry(decoded(key)).or_default().push(decoded(value));
            }
            match properties.is_empty() {
                true => errors(404, "No properties could be found."),
                false => json!({ "uri": "u", "properties": properties }).to_string().into_response(),
            }
        }
        ("POST", "api/search/aql") => {
            assert!(body.starts_with(br#"items.find({"repo": "redhat-sources"})"#));
            let found = shared.files.iter().map(|(path, content)| {
                let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
                json!({ "repo": "redhat-sources", "path": folder, "name": name, "sha256": Digest::sha256(content).hex() })
            });
            let found: Vec<Value> = found.take(shared.search_limit.unwrap_or(usize::MAX)).collect();
            let mut range = json!({ "start_pos": 0, "end_pos": found.len(), "total": found.len() });
            if found.len() < shared.files.len() {
                range["notification"] = "AQL query reached the search hard limit, results are trimmed.".into();
            }
            json!({ "results": found, "range": range }).to_string().into_response()
        }
        ("HEAD", path) => match shared.files.get(&decoded(path.strip_prefix("redhat-sources/").unwrap())) {
            Some(content) => {
                (StatusCode::OK, [("x-checksum-sha256", Digest::sha256(content).hex().to_owned())]).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
        ("PUT", path) => {
            let path = path.strip_prefix("redhat-sources/").unwrap();
            let (path, properties) = path.split_once(';').unwrap_or((path, ""));
            let sha256 = header("x-checksum-sha256");
            assert_eq!((sha256.len(), header("x-checksum-sha1").len(), header("x-checksum-md5").len()), (64, 40, 32));
            let content = match header("x-checksum-deploy").as_str() {
                "true" => match shared.files.values().find(|content| Digest::sha256(content).hex() == sha256) {
                    Some(content) => content.clone(),
                    None => return errors(404, "Checksum deploy failed"),
                },
                _ if Digest::sha256(&body).hex() != sha256 => return errors(409, "Checksum mismatch"),
                _ => body.to_vec(),
            };
            let path = decoded(path);
            shared.files.insert(path.clone(), content);
            let properties = if shared.drops_properties { "" } else { properties };
            shared.properties.insert(path.clone(), properties.to_owned());
            if shared.is_silent {
                return StatusCode::CREATED.into_response();
            }
            let created = json!({ "repo": "redhat-sources", "path": path, "checksums": { "sha256": sha256 } });
            (StatusCode::CREATED, created.to_string()).into_response()
        }
        _ => errors(404, "Unable to find item"),
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let escaped = after.get(..2).filter(|_| *byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(escaped) => (bytes.push(escaped), rest = &after[2..]).1,
            None => (bytes.push(*byte), rest = after).1,
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn errors(status: u16, message: &str) -> Response {
    let body = json!({ "errors": [{ "status": status, "message": message }] }).to_string();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}

/// Three packages, two of the same content, and something that is being written.
pub(crate) fn packages() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("packages/el 9")).unwrap();
    for (name, content) in
        [("a.rpm", "one"), ("b.rpm", "two"), ("el 9/c+1.rpm", "three"), (".a.rpm.XXXXXX.partial", "on")]
    {
        std::fs::write(dir.path().join("packages").join(name), content).unwrap();
    }
    dir
}

pub(crate) fn paths(document: &Value, list: &str) -> Vec<String> {
    let path = |item: &Value| item.get("path").unwrap_or(item).as_str().unwrap().to_owned();
    document[list].as_array().unwrap().iter().map(path).collect()
}
