//! s3s-fs in process: signatures and digests are checked. Before it, a record of requests and faults on demand.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;

use crate::login_page;

/// The server's name where buckets stand before it. Nobody resolves it: requests get here as to a proxy.
pub(crate) const DOMAIN: &str = "s3.test";

/// A running server with the bucket `boot-images`.
pub(crate) struct S3 {
    pub(crate) url: String,
    root: TempDir,
    shared: Arc<Shared>,
    _runtime: tokio::runtime::Runtime,
}

struct Shared {
    service: S3Service,
    state: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Asked>,
    faults: Vec<Fault>,
    /// How long it took to put parts together.
    completing: Duration,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `PUT /boot-images/ID/rootfs?partNumber=1`
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
}

/// What happens instead of the next requests that match.
struct Fault {
    method: Method,
    /// Part of path and query.
    part: String,
    times: usize,
    act: Act,
}

#[derive(Clone)]
pub(crate) enum Act {
    /// Answers with a status and a code.
    Refuse(u16, &'static str),
    /// Does it, and answers all the same.
    RefuseAfter(u16, &'static str),
    /// Never answers.
    Hang,
    /// Answers with another ETag, of zeros and this.
    WrongEtag(&'static str),
    /// Answers with a redirect.
    Redirect(u16, String),
    /// Answers with a status and this body, as S3 words it.
    Answer(u16, &'static str),
    /// Appends to a file before the request is read.
    Append(PathBuf),
}

impl S3 {
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("boot-images")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_host(s3s::host::SingleDomain::new(DOMAIN).unwrap());
        builder.set_auth(SimpleAuth::from_single("test", crate::SECRET));
        let shared = Arc::new(Shared { service: builder.build(), state: Mutex::default() });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(shared.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        S3 { url, root, shared, _runtime: runtime }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Something else happens with the next `times` requests of a method whose path and query contain `part`.
    pub(crate) fn fault(&self, method: Method, part: &str, times: usize, act: Act) {
        self.shared.state.lock().unwrap().faults.push(Fault { method, part: part.into(), times, act });
    }

    /// No more faults.
    pub(crate) fn heal(&self) {
        self.shared.state.lock().unwrap().faults.clear();
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.shared.state.lock().unwrap().requests.clone()
    }

    /// How long it took to put the parts of uploads together, which is no client's doing.
    #[allow(dead_code, reason = "only the benchmark asks")]
    pub(crate) fn completing(&self) -> Duration {
        self.shared.state.lock().unwrap().completing
    }

    pub(crate) fn forget(&self) {
        self.shared.state.lock().unwrap().requests.clear();
    }

    /// Requests without their bucket, the image's id as ID and upload ids as U.
    pub(crate) fn lines(&self, id: &str) -> Vec<String> {
        let line = |asked: &Asked| {
            let line = asked.line.replace("/boot-images", "").replace(id, "ID");
            match line.split_once("uploadId=") {
                Some((before, _)) => format!("{before}uploadId=U"),
                None => line,
            }
        };
        self.requests().iter().map(line).collect()
    }

    /// The keys of all objects.
    pub(crate) fn keys(&self) -> Vec<String> {
        let bucket = self.root().join("boot-images");
        let mut keys: Vec<String> = walkdir::WalkDir::new(&bucket)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned())
            .collect();
        keys.sort();
        keys
    }

    /// Files of multipart uploads that were not completed.
    pub(crate) fn open_parts(&self) -> usize {
        let names = std::fs::read_dir(self.root()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".part-")).count()
    }

    pub(crate) fn object(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.root().join("boot-images").join(key)).unwrap()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if request.uri().path() == "/login" {
        return login_page::page();
    }
    let line = request.uri().path_and_query().unwrap().to_string();
    let act = {
        let mut seen = shared.state.lock().unwrap();
        let asked = Asked { line: format!("{} {line}", request.method()), headers: request.headers().clone() };
        seen.requests.push(asked);
        let is_meant =
            |fault: &&mut Fault| fault.times > 0 && fault.method == *request.method() && line.contains(&fault.part);
        seen.faults.iter_mut().find(is_meant).map(|fault| {
            fault.times -= 1;
            fault.act.clone()
        })
    };
    match act {
        Some(Act::Refuse(status, code)) => {
            // The body is read first, or the connection would break off instead.
            let _ = axum::body::to_bytes(request.into_body(), usize::MAX).await;
            refusal(status, code)
        }
        Some(Act::RefuseAfter(status, code)) => {
            forward(&shared, request).await;
            refusal(status, code)
        }
        Some(Act::Redirect(status, to)) => {
            let _ = axum::body::to_bytes(request.into_body(), usize::MAX).await;
            (StatusCode::from_u16(status).unwrap(), [("location", to)]).into_response()
        }
        // An answer to HEAD has no body.
        Some(Act::Answer(status, body)) => {
            let _ = axum::body::to_bytes(request.into_body(), usize::MAX).await;
            (StatusCode::from_u16(status).unwrap(), [("content-type", "application/xml")], body).into_response()
        }
        Some(Act::Hang) => std::future::pending().await,
        Some(Act::WrongEtag(end)) => {
            let mut response = forward(&shared, request).await;
            response.headers_mut().insert("etag", format!("\"{}{end}\"", "0".repeat(32)).parse().unwrap());
            response
        }
        Some(Act::Append(path)) => {
            let content = [std::fs::read(&path).unwrap(), b"more".to_vec()].concat();
            std::fs::write(path, content).unwrap();
            forward(&shared, request).await
        }
        None => forward(&shared, request).await,
    }
}

async fn forward(shared: &Shared, request: Request) -> Response {
    let is_completion =
        request.method() == Method::POST && request.uri().query().is_some_and(|it| it.starts_with("uploadId="));
    let started = Instant::now();
    let response = shared.service.call(request.map(s3s::Body::http_body_unsync)).await.unwrap();
    if is_completion {
        shared.state.lock().unwrap().completing += started.elapsed();
    }
    response.map(Body::new).into_response()
}

fn refusal(status: u16, code: &str) -> Response {
    let body = if code.is_empty() {
        String::new()
    } else {
        format!(r#"<?xml version="1.0"?><Error><Code>{code}</Code><Message>x</Message></Error>"#)
    };
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/xml")], body).into_response()
}
