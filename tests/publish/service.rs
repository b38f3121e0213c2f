//! IMS and its token server as they were recorded: paths, answers, what is refused and in which words.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::{JOB, login_page};

/// A running service.
pub(crate) struct Service {
    pub(crate) url: String,
    shared: Arc<Mutex<Shared>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct Shared {
    /// Where the bucket's objects are.
    store: PathBuf,
    images: Vec<Value>,
    jobs: BTreeMap<String, Value>,
    requests: Vec<Asked>,
    faults: Vec<Fault>,
    tokens: usize,
    /// Seconds that a token is said to live.
    lifetime: u64,
    /// How long the answer about a new record takes, after it has been made.
    slow: Duration,
    /// How many tokens from the first on are not taken.
    stale: usize,
    /// Whether links are taken as they come.
    is_trusting: bool,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `PATCH /images/ID`
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

struct Fault {
    method: Method,
    path: String,
    times: usize,
    status: u16,
    media_type: &'static str,
    body: &'static str,
    /// Whether it is done all the same.
    is_done: bool,
    /// Where a redirect leads.
    to: Option<String>,
}

impl Service {
    pub(crate) fn start(store: &Path) -> Self {
        let job: Value = json!({
            "arch": "x86_64", "artifact_id": "2233c82a-5081-4f67-bec4-4b59a60017a6", "build_env_size": 15,
            "created": "2026-11-17T15:44:17.389010+00:00", "enable_debug": false, "id": JOB,
            "image_root_archive_name": "sles15_barebones_image", "job_type": "create", "kernel_file_name": "vmlinuz",
            "kubernetes_secret": null, "remote_build_node": "", "require_dkms": true, "resultant_image_id": null,
            "ssh_containers": null, "status": "creating",
        });
        let shared = Arc::new(Mutex::new(Shared {
            store: store.to_owned(),
            jobs: BTreeMap::from([(JOB.to_owned(), job)]),
            lifetime: 300,
            ..Shared::default()
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Service { url, shared, _runtime: runtime }
    }

    /// The next `times` requests are answered with this status and body; with `is_done`, they are also done.
    pub(crate) fn fault(
        &self,
        method: Method,
        path: &str,
        times: usize,
        (status, media_type, body): (u16, &'static str, &'static str),
        is_done: bool,
    ) {
        let fault = Fault { method, path: path.into(), times, status, media_type, body, is_done, to: None };
        self.shared.lock().unwrap().faults.push(fault);
    }

    /// All such requests are redirected.
    pub(crate) fn redirect(&self, method: Method, path: &str, status: u16, to: &str) {
        let to = Some(to.to_owned());
        let (path, media_type, is_done) = (path.to_owned(), "text/html", false);
        let fault = Fault { method, path, times: usize::MAX, status, media_type, body: "", is_done, to };
        self.shared.lock().unwrap().faults.push(fault);
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.shared.lock().unwrap().faults.clear();
    }

    pub(crate) fn lifetime(&self, seconds: u64) {
        self.shared.lock().unwrap().lifetime = seconds;
    }

    /// The answer about a new record comes this late.
    pub(crate) fn slow(&self, wait: Duration) {
        self.shared.lock().unwrap().slow = wait;
    }

    /// All records were created long ago.
    pub(crate) fn backdate(&self) {
        let mut shared = self.shared.lock().unwrap();
        shared.images.iter_mut().for_each(|image| image["created"] = "2026-01-02T03:04:05.678901".into());
    }

    /// The first tokens are refused by the service.
    pub(crate) fn stale(&self, tokens: usize) {
        self.shared.lock().unwrap().stale = tokens;
    }

    /// Links are taken as they come: the objects are in a store that is not seen from here.
    pub(crate) fn trust(&self) {
        self.shared.lock().unwrap().is_trusting = true;
    }

    pub(crate) fn images(&self) -> Vec<Value> {
        self.shared.lock().unwrap().images.clone()
    }

    pub(crate) fn remove_images(&self) {
        self.shared.lock().unwrap().images.clear();
    }

    pub(crate) fn job(&self) -> Value {
        self.shared.lock().unwrap().jobs[JOB].clone()
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.shared.lock().unwrap().requests.clone()
    }

    /// Requests with the image's id as ID.
    pub(crate) fn lines(&self, id: &str) -> Vec<String> {
        self.requests().iter().map(|asked| asked.line.replace(id, "ID").replace(JOB, "JOB")).collect()
    }

    pub(crate) fn forget(&self) {
        self.shared.lock().unwrap().requests.clear();
    }
}

async fn answer(
    State(shared): State<Arc<Mutex<Shared>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (answer, wait) = answer_now(&shared, &method, &uri, &headers, &body);
    tokio::time::sleep(wait).await;
    answer
}

fn answer_now(
    shared: &Mutex<Shared>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> (Response, Duration) {
    let mut shared = shared.lock().unwrap();
    let path = uri.path().to_owned();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let wait = if method == Method::POST && path.ends_with("/images") { shared.slow } else { Duration::ZERO };
    shared.requests.push(Asked { line: format!("{method} {path}"), headers: headers.clone(), body: body.clone() });
    let is_meant = |fault: &&mut Fault| fault.times > 0 && fault.method == *method && path.starts_with(&fault.path);
    let fault = shared.faults.iter_mut().find(is_meant).map(|fault| {
        fault.times -= 1;
        (fault.status, fault.media_type, fault.body, fault.is_done, fault.to.clone())
    });
    if path == "/login" {
        return (login_page::page(), wait);
    }
    if let Some((status, media_type, text, is_done, to)) = fault {
        if let Some(to) = to {
            return ((StatusCode::from_u16(status).unwrap(), [("location", to)]).into_response(), wait);
        }
        if is_done {
            shared.answer(method, &path, headers, &body);
        }
        return ((StatusCode::from_u16(status).unwrap(), [("content-type", media_type)], text).into_response(), wait);
    }
    (shared.answer(method, &path, headers, &body), wait)
}

impl Shared {
    fn answer(&mut self, method: &Method, path: &str, headers: &HeaderMap, body: &str) -> Response {
        if path == "/token" {
            return self.token(headers, body);
        }
        let token = headers.get("authorization").and_then(|value| value.to_str().unwrap().strip_prefix("Bearer "));
        let number = token.and_then(|token| token.strip_prefix("fake-token-")?.parse::<usize>().ok());
        if number.is_none_or(|number| number <= self.stale || number > self.tokens) {
            return (StatusCode::UNAUTHORIZED, "<html><body>401 Authorization Required</body></html>").into_response();
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let change: Value = serde_json::from_str(body).unwrap_or_default();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["images"]) => json_answer(200, &self.images.clone().into()),
            ("POST", ["images"]) => self.create(&change),
            (_, ["images", id]) => {
                let Some(at) = self.images.iter().position(|image| image["id"] == *id) else { return unknown() };
                match method.as_str() {
                    "GET" => json_answer(200, &self.images[at]),
                    "PATCH" => self.patch(at, &change),
                    "DELETE" => {
                        let image = self.images.remove(at);
                        let _ =
                            std::fs::remove_dir_all(self.store.join("boot-images").join(image["id"].as_str().unwrap()));
                        StatusCode::NO_CONTENT.into_response()
                    }
                    _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
                }
            }
            ("GET", ["jobs", id]) => match self.jobs.get(*id) {
                Some(job) => json_answer(200, job),
                None => unknown(),
            },
            ("PATCH", ["jobs", id]) => self.patch_job(id, &change),
            _ => problem(404, "Not Found", "The requested URL was not found on the server.", Value::Null),
        }
    }

    fn token(&mut self, headers: &HeaderMap, body: &str) -> Response {
        // admin-client:not-a-real-secret
        let is_known = headers["authorization"] == "Basic YWRtaW4tY2xpZW50Om5vdC1hLXJlYWwtc2VjcmV0";
        if !is_known || body != "grant_type=client_credentials" {
            let error = json!({ "error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials" });
            return json_answer(401, &error);
        }
        self.tokens += 1;
        let token = json!({
            "access_token": format!("fake-token-{}", self.tokens), "expires_in": self.lifetime, "refresh_expires_in": 0,
            "token_type": "Bearer", "not-before-policy": 0, "scope": "profile email",
        });
        json_answer(200, &token)
    }

    fn create(&mut self, change: &Value) -> Response {
        let fields = change.as_object().unwrap();
        if fields.keys().any(|key| !["name", "arch", "link", "metadata"].contains(&key.as_str())) {
            return problem(422, "Unprocessable Entity", INVALID, json!({ "foo": ["Unknown field."] }));
        }
        let number = self.images.len() + self.requests.len();
        let image = json!({
            "name": change["name"], "link": null, "arch": change["arch"], "metadata": {},
            "id": format!("18a6414f-52d5-475d-b925-{number:012x}"), "created": jiff::Timestamp::now().to_string().trim_end_matches('Z'),
        });
        self.images.push(image.clone());
        json_answer(201, &image)
    }

    fn patch(&mut self, at: usize, change: &Value) -> Response {
        if let Some(link) = change.get("link") {
            let current = &self.images[at]["link"];
            if !current.is_null() && current != link {
                return problem(
                    409,
                    "Conflict",
                    "Requested resource exists, but cannot be patched due to a patch conflict.",
                    Value::Null,
                );
            }
            if let Some(refusal) = self.refused_manifest(link).filter(|_| !self.is_trusting) {
                return refusal;
            }
            self.images[at]["link"] = link.clone();
        }
        if let Some(metadata) = change.get("metadata") {
            assert_eq!(metadata["operation"], "set");
            self.images[at]["metadata"][metadata["key"].as_str().unwrap()] = metadata["value"].clone();
        }
        json_answer(200, &self.images[at])
    }

    /// The refusal of a link, after what the service looks at before it takes one.
    fn refused_manifest(&self, link: &Value) -> Option<Response> {
        let path = |link: &Value| self.store.join(link["path"].as_str().unwrap().strip_prefix("s3://").unwrap());
        let Ok(manifest) = std::fs::read(path(link)) else {
            return Some(problem(422, "Unprocessable Entity", "The s3 artifact cannot be validated.", Value::Null));
        };
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["version"], "1.0");
        let artifacts = manifest["artifacts"].as_array().unwrap();
        let rootfs = |artifact: &&Value| {
            artifact["type"].as_str().unwrap().starts_with("application/vnd.cray.image.rootfs.squashfs")
        };
        if !artifacts.iter().all(|artifact| artifact["link"]["type"] == "s3" && path(&artifact["link"]).is_file()) {
            return Some(problem(422, "Unprocessable Entity", "The s3 artifact cannot be validated.", Value::Null));
        }
        match artifacts.iter().filter(rootfs).count() {
            1 => None,
            _ => Some(problem(400, "Bad Request", "The manifest does not include any rootfs artifacts.", Value::Null)),
        }
    }

    fn patch_job(&mut self, id: &str, change: &Value) -> Response {
        let Some(job) = self.jobs.get_mut(id) else { return unknown() };
        if let Some(status) = change.get("status") {
            if !["creating", "packaging_artifacts", "success", "error"].contains(&status.as_str().unwrap()) {
                let errors =
                    json!({ "status": ["Job state must be one of: creating, packaging_artifacts, success, error."] });
                return problem(422, "Unprocessable Entity", INVALID, errors);
            }
            job["status"] = status.clone();
        }
        if let Some(image) = change.get("resultant_image_id") {
            job["resultant_image_id"] = image.clone();
        }
        json_answer(200, job)
    }
}

fn json_answer(status: u16, document: &Value) -> Response {
    let headers = [("content-type", "application/json")];
    (StatusCode::from_u16(status).unwrap(), headers, document.to_string()).into_response()
}

fn unknown() -> Response {
    problem(404, "Not Found", "Requested resource does not exist. Re-run request with valid ID.", Value::Null)
}

fn problem(status: u16, title: &str, detail: &str, errors: Value) -> Response {
    let mut document = json!({ "status": status, "title": title, "detail": detail });
    if !errors.is_null() {
        document["errors"] = errors;
    }
    let headers = [("content-type", "application/problem+json")];
    (StatusCode::from_u16(status).unwrap(), headers, document.to_string()).into_response()
}

const INVALID: &str = "Input data was understood, but failed validation.";
