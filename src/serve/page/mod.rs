//! The page for people, and the same as JSON: what is here, how large, from when, and whether it is whole.
//!
//! Rendered here and complete without a script; nothing is loaded from elsewhere, and the policy that is sent along lets nothing else
//! be. It reads the view and not the registry's own interface, and changes nothing: there is no form but for searching. What comes
//! from images is text, with what controls a terminal or the direction of reading spelled out.
//!
//! ```text
//! /                          repositories, a hundred at a time, ?q= for those with a text in their names
//! /images/REPOSITORY         its tags, a hundred at a time, and a picture of what their layers share
//! /images/REPOSITORY:TAG     an image, a list or an artifact; by @DIGEST, too
//! /images/…@DIGEST/layers/DIGEST   files of a layer (--layer-files)
//! /catalog                   the certified catalog: ?q= asks whether something is certified (--catalog)
//! /kernels                   kernels, their packages, toolkits that fit: ?q= is what `uname -r` prints (--kernels)
//! /carries                   carries that were unpacked here
//! /nodes                     the files that nodes need to find these images here
//! /state                     what is damaged, missing or unclear, and how much room there is
//! /api/v1/…                  the same as JSON, as /api/v1/openapi.json says
//! ```

mod catalog;
mod files;
mod found;
mod image;
mod kernels;
mod nodes;
mod picture;
mod repositories;
mod state;

use std::path::PathBuf;
use std::sync::Arc;

use askama::Template;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, REFERRER_POLICY};
use serde::Serialize;

use self::files::Reading;
use self::found::Finder;
use self::kernels::Kernels;
use crate::serve::answer::{self, Answer, JSON, Refusal, set};
use crate::serve::body::{Body, Part};
use crate::serve::nodes::Speaking;
use crate::serve::request::Request;
use crate::serve::store::Store;
use crate::serve::tls::Tls;

/// What the page shows besides images.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// A snapshot of the certified catalog.
    pub catalog: Option<PathBuf>,
    /// A `kernels.json`.
    pub kernels: Option<PathBuf>,
    /// What this server is called by others; without it, what they call it in their requests.
    pub name: Option<String>,
    /// Whether it takes pushes.
    pub is_writable: bool,
    /// Whether the files of a layer are shown, for each of which the layer is read.
    pub layer_files: bool,
}

/// The page over a store.
pub(super) struct Page {
    store: Arc<Store>,
    shown: Shown,
    speaking: Speaking,
    tls: Option<Arc<Tls>>,
    kernels: Kernels,
    finder: Finder,
    reading: Reading,
}

/// What is around the content of each page.
struct Frame<'a> {
    /// How to call this server.
    host: &'a str,
    version: &'static str,
    now: String,
    is_tls: bool,
    has_catalog: bool,
    has_kernels: bool,
    has_files: bool,
}

impl Page {
    /// The page, and what looks for catalogs and kernels in images, which are put into `found`. Within a runtime.
    pub(super) fn new(
        store: Arc<Store>,
        shown: Shown,
        speaking: Speaking,
        tls: Option<Arc<Tls>>,
        found: Option<PathBuf>,
    ) -> Arc<Self> {
        let (kernels, finder) = (Kernels::new(shown.kernels.clone()), Finder::new(found, &shown));
        let page = Arc::new(Page { store, speaking, tls, kernels, finder, reading: Reading::default(), shown });
        tokio::spawn(found::repeat(Arc::downgrade(&page)));
        page
    }

    /// Answers for a path that is not the registry's; `None` where there is nothing.
    pub(super) async fn answer(self: &Arc<Self>, request: &Request) -> Option<Result<Answer, Refusal>> {
        let path = request.path.as_str();
        let (is_json, rest) = match path.strip_prefix("/api/v1") {
            Some(rest) => (true, rest),
            None => (false, path),
        };
        let of_repository = if is_json { "/repositories/" } else { "/images/" };
        Some(match (rest, is_json) {
            ("/style.css", false) => Ok(page(STYLE.to_owned(), "text/css; charset=utf-8")),
            ("/openapi.json", true) => Ok(page(OPENAPI.to_owned(), JSON)),
            ("/", false) | ("/repositories", true) => repositories::all(self, request, is_json).await,
            ("/catalog", _) => catalog::answer(self, request, is_json).await,
            ("/kernels", _) => kernels::answer(self, request, is_json).await,
            ("/carries", _) => state::carries(self, request, is_json).await,
            ("/nodes", false) => nodes::list(self, request).await,
            (file, false) if file.starts_with("/nodes/") => nodes::file(self, request, &file["/nodes/".len()..]).await,
            ("/state", _) => state::state(self, request, is_json).await,
            _ => repositories::one(self, request, rest.strip_prefix(of_repository)?, is_json).await,
        })
    }

    fn frame<'a>(&'a self, request: &'a Request) -> Frame<'a> {
        let found = self.finder.found();
        Frame {
            host: self.shown.name.as_deref().or_else(|| request.header(HOST)).unwrap_or_default(),
            version: VERSION,
            now: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            is_tls: self.speaking.is_tls,
            has_catalog: self.shown.catalog.is_some() || found.catalog.is_some(),
            has_kernels: self.shown.kernels.is_some() || !found.kernels.is_empty(),
            has_files: self.shown.layer_files,
        }
    }
}

/// Does what reads files, off the threads that serve others.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::internal(error.to_string()))
}

/// Nothing is shown at a path because the server was not told what.
fn not_given(what: &str, option: &str) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "UNSUPPORTED",
        format!("no image here holds a {what}, and none was given (`serve {option}`)"),
    )
}

fn html(template: &impl Template) -> Result<Answer, Refusal> {
    let text = template.render().map_err(|error| Refusal::internal(format!("a page: {error}")))?;
    Ok(page(text, "text/html; charset=utf-8"))
}

fn json(value: &impl Serialize) -> Answer {
    let mut answer = answer::json(StatusCode::OK, value, JSON);
    protect(&mut answer);
    answer
}

fn page(text: String, media_type: &str) -> Answer {
    let mut answer = answer::with_body(StatusCode::OK, Body::new(vec![Part::Bytes(text.into())]));
    set(&mut answer, CONTENT_TYPE, media_type);
    protect(&mut answer);
    answer
}

fn protect(answer: &mut Answer) {
    set(answer, CONTENT_SECURITY_POLICY, POLICY);
    set(answer, REFERRER_POLICY, "no-referrer");
    set(answer, CACHE_CONTROL, "no-cache");
    set(answer, OPENER, "same-origin");
    set(answer, RESOURCE, "same-origin");
}

/// How long ago an instant was, in words; of one that is to come, that.
fn age(since: jiff::Timestamp) -> String {
    let seconds = jiff::Timestamp::now().as_second() - since.as_second();
    let plural = |n: i64, unit: &str| if n == 1 { format!("1 {unit} ago") } else { format!("{n} {unit}s ago") };
    match seconds {
        i64::MIN..0 => "in the future: one of two clocks is wrong".to_owned(),
        0..120 => "just now".to_owned(),
        120..7200 => plural(seconds / 60, "minute"),
        7200..172_800 => plural(seconds / 3600, "hour"),
        _ => plural(seconds / 86_400, "day"),
    }
}

const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const STYLE: &str = include_str!("style.css");
const OPENAPI: &str = include_str!("openapi.json");
const VERSION: &str = env!("CARGO_PKG_VERSION");
