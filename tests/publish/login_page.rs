//! What single sign-on puts before everything: a page, with 200, for any request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;

/// A running page, which remembers the headers of its requests.
pub(crate) struct LoginPage {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    _runtime: tokio::runtime::Runtime,
}

impl LoginPage {
    pub(crate) fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let url = format!("http://{}/login", listener.local_addr().unwrap());
        let answer = async |State(seen): State<Arc<Mutex<Vec<HeaderMap>>>>, headers: HeaderMap| {
            seen.lock().unwrap().push(headers);
            page()
        };
        let router = Router::new().fallback(answer).with_state(seen.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        LoginPage { url, seen, _runtime: runtime }
    }

    /// Whether somebody came with a secret.
    pub(crate) fn saw_secrets(&self) -> bool {
        let secrets = ["authorization", "x-jfrog-art-api", "x-amz-security-token"];
        self.seen.lock().unwrap().iter().any(|headers| secrets.iter().any(|name| headers.contains_key(*name)))
    }
}

/// The page, with an ETag as static pages have.
pub(crate) fn page() -> axum::response::Response {
    let headers = [("content-type", "text/html"), ("etag", "\"5d8c72a5edda8d6a\"")];
    (StatusCode::OK, headers, "<html><title>Log in</title></html>").into_response()
}
