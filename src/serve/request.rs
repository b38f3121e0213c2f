//! A request's head as the answers need it.

use std::sync::Arc;

use hyper::header::{AsHeaderName, HeaderMap};
use hyper::{Method, StatusCode};

use crate::serve::answer::Refusal;
use crate::serve::store::Store;
use crate::serve::view::View;

/// The head of a request, taken apart.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) query: Vec<(String, String)>,
    /// The registry that is meant (distribution-spec on main, "Registry Proxying").
    pub(super) ns: Option<String>,
}

impl Request {
    pub(super) fn of(head: hyper::http::request::Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let ns = query.iter().find(|(key, value)| key == "ns" && !value.is_empty()).map(|(_, value)| value.clone());
        Request { method: head.method, path: head.uri.path().to_owned(), headers: head.headers, query, ns }
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// A parameter of the query.
    pub(super) fn one(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(there, _)| there == key).map(|(_, value)| value.as_str())
    }

    /// A parameter that may be given several times.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(there, _)| there == key).map(|(_, value)| value.as_str())
    }

    /// A header, unless it is no text.
    pub(super) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What the layouts hold now.
    pub(super) async fn view(&self, store: &Arc<Store>) -> Result<Arc<View>, Refusal> {
        store.view().await.map_err(|error| {
            tracing::error!("{error}");
            let words = "the layout cannot be read; the log of this server says why";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", words)
        })
    }
}
