//! A registry (OCI distribution 1.1 and what is on the specification's main) over layouts where they lie. Nothing is copied or
//! converted: the layout is the truth, before, while and after it is served.
//!
//! # Names
//!
//! A layout has names, a registry has repositories and tags. One becomes the other so:
//!
//! ```text
//!  name in index.json              repository (its key)           tag          also found as
//!  quay.io/org/app:1.2             quay.io/org/app                1.2          org/app, or org/app with ?ns=quay.io
//!  docker.io/alpine:3              docker.io/library/alpine       3            library/alpine, alpine
//!  host:5000/app:1                 host_5000/app                  1            app, or app with ?ns=host:5000
//!  org/app:1                       org/app                        1
//!  quay.io/org/app@sha256:HEX      quay.io/org/app                –            (known by its digest only)
//!  1.2, latest                     --repository, or else the directory's name
//!  sha256-HEX.sig, .att, .sbom     wherever HEX is                the name
//!  sha256-HEX                      wherever HEX is                the name     (its entries are referrers of HEX)
//!  none, with a subject            wherever the subject is        –            (a referrer of it)
//!  none                            --repository, or else the directory's name, by digest
//! ```
//!
//! * A path that is a key means that repository. One without its registry means each that has the path: the answer is given
//!   when all agree which manifest is meant, else 404 with the candidates. `?ns=HOST`, which containerd sends when this is a
//!   mirror, chooses one exactly.
//! * Of several layouts the first that is named on the command line decides where two have one tag for different images, and it
//!   takes what is pushed; digests are found in all.
//! * A name that one layout gives to two images is no tag; both are there by digest.
//!
//! # Membership
//!
//! All repositories of a layout share its blobs. A manifest belongs to a repository when a name puts it there, when an index there
//! lists it, or when it is about a manifest there. A blob belongs where a manifest of the repository needs it, or where it was
//! pushed or mounted. What does not belong is not there, whatever lies in `blobs/`.
//!
//! With `--writable` the first layout takes pushes ([`push`]): tags and manifests become names in its `index.json` ([`change`]),
//! and which blob was pushed where is in a file beside ([`ledger`]).
//!
//! # Never served wrong
//!
//! Manifests are in memory and were checked when they were read. A blob is checked once and remembered by size, times and inode;
//! see [`body`] for those that were not. What is damaged is not served any more, and an image that lacks anything is refused at
//! its manifest, in words: a node that gets the manifest of a mirror and not the layers asks for ever.
//!
//! # The page
//!
//! `/` shows people what is here; see [`page`].
//!
//! # Connections
//!
//! HTTP/1.1 only, from an accept loop of our own ([`accept`]), without TLS by `sendfile` ([`plain`]): heads, silence while something is to be sent or received, and the
//! number of connections are limited; no limit is on a whole request.

mod accept;
mod access;
mod answer;
mod bad;
mod body;
mod build;
mod change;
mod collect;
mod document;
mod layer;
mod ledger;
mod lists;
mod log;
mod metrics;
mod names;
mod nodes;
mod page;
mod plain;
mod pull;
mod push;
mod range;
mod request;
mod route;
mod scrub;
mod stamp;
mod store;
mod tls;
mod view;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};

pub use self::accept::{Limits, Listener, connections};
use self::access::Guard;
pub use self::access::{Access, PushRule};
use self::answer::{Answer, Refusal, set};
use self::build::Source;
pub use self::collect::{Collecting, Error as CollectError, collect};
pub use self::log::{Entry, Log};
use self::metrics::Metrics;
use self::nodes::Speaking;
use self::page::Page;
pub use self::page::Shown;
use self::push::Writer;
use self::request::Request;
use self::route::Route;
pub use self::scrub::Scrubbing;
use self::store::Store;
pub use self::tls::Identity;
use self::tls::Tls;
use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::image::Layout;
use crate::image::store::layout::{self, WORK};

/// What is served, and how.
pub struct Options {
    /// The layouts, the one that decides first.
    pub layouts: Vec<Layout>,
    /// The repository of images that have none in their names; without it, the name of each layout's directory.
    pub repository: Option<String>,
    /// Limits of connections.
    pub limits: Limits,
    /// Whether the first layout takes pushes, and after how long without a byte an upload is given up.
    pub writable: Option<Duration>,
    /// How often what nothing needs is taken from the first layout, if it takes pushes.
    pub collecting: Option<Collecting>,
    /// How often every blob is read, to find bits that rot.
    pub scrubbing: Option<Scrubbing>,
    /// A directory of this server's own, where it is kept which blobs were read, of layouts that take no pushes.
    pub state: Option<PathBuf>,
    /// Who may do what.
    pub access: Access,
    /// What the page shows besides images.
    pub shown: Shown,
    /// The certificate, for TLS.
    pub tls: Option<Identity>,
    /// Who is told of each request.
    pub log: Log,
}

/// Why a server cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The layout takes no pushes.
    #[error("{0}")]
    Push(#[from] push::Error),
    /// What is kept of layouts that take no pushes.
    #[error("{0}")]
    State(#[from] ledger::Error),
    /// Its directory.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The users.
    #[error("{0}")]
    Access(#[from] access::Error),
    /// The certificate.
    #[error("{0}")]
    Tls(#[from] tls::Error),
}

/// Why files for nodes are not written.
#[derive(Debug, thiserror::Error)]
pub enum MirrorConfigError {
    /// The layouts cannot be read.
    #[error("{0}")]
    Layout(#[from] Arc<layout::Error>),
    /// The files.
    #[error("{0}")]
    Path(#[from] PathError),
}

/// A registry over layouts.
pub struct Server {
    store: Arc<Store>,
    writer: Option<Arc<Writer>>,
    page: Arc<Page>,
    guard: Guard,
    tls: Option<Arc<Tls>>,
    speaking: Speaking,
    metrics: Arc<Metrics>,
    limits: Limits,
    log: Log,
}

/// What there is to be served.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Summary {
    /// Repositories by their keys.
    pub repositories: usize,
    /// Tags of all repositories.
    pub tags: usize,
    /// Manifests and indexes.
    pub manifests: usize,
    /// What the operator should know: names that mean nothing here, or two things; manifests that are damaged.
    pub notes: Vec<String>,
}

impl Server {
    /// Takes layouts to serve; nothing of them is read yet. Within a runtime.
    pub fn new(options: Options) -> Result<Arc<Self>, Error> {
        let source = |layout: Layout| {
            let repository = options.repository.clone().unwrap_or_else(|| default_repository(layout.root()));
            Source { layout, repository }
        };
        let store = Store::new(options.layouts.into_iter().map(source).collect());
        let writer = options.writable.map(|ttl| Writer::open(&store, options.limits.idle, ttl)).transpose()?;
        if let Some(state) = &options.state {
            store::remember_all(&store, state, usize::from(writer.is_some()))?;
        }
        if let Some(scrubbing) = options.scrubbing {
            tokio::spawn(scrub::repeat(Arc::downgrade(&store), scrubbing));
        }
        let asks_password = options.access.htpasswd.is_some() && !options.access.anonymous_pull;
        let guard = Guard::new(options.access)?;
        let trust = match &options.tls {
            Some(Identity::Own { directory, .. }) => Some(directory.join("ca.crt")),
            Some(Identity::Files { .. }) | None => None,
        };
        let (is_tls, tls) = (options.tls.is_some(), options.tls.map(Tls::new).transpose()?.map(Arc::new));
        let speaking = Speaking { trust, is_tls, asks_password };
        let metrics: Arc<Metrics> = Arc::default();
        if let (Some(writer), Some(collecting)) = (&writer, options.collecting) {
            tokio::spawn(collect::repeat(Arc::downgrade(writer), collecting, metrics.clone()));
        }
        let work = writer.is_some().then(|| store.sources[0].layout.root().join(WORK));
        let found = work.or(options.state).map(|directory| directory.join("found"));
        let page = Page::new(store.clone(), options.shown, speaking.clone(), tls.clone(), found);
        Ok(Arc::new(Server {
            store,
            writer,
            page,
            guard,
            tls,
            speaking,
            metrics,
            limits: options.limits,
            log: options.log,
        }))
    }

    /// Reads the layouts, unless that is done, and says what there is.
    pub async fn summary(&self) -> Result<Summary, Arc<layout::Error>> {
        let view = self.store.view().await?;
        let tags = view.repositories.values().map(|repository| repository.tags.len()).sum();
        let notes: BTreeSet<&String> = view.notes.iter().collect();
        Ok(Summary {
            repositories: view.repositories.len(),
            tags,
            manifests: view.documents.len(),
            notes: notes.into_iter().cloned().collect(),
        })
    }

    /// Whether a restart knows which blobs were read.
    pub fn remembers(&self) -> bool {
        self.store.remembers()
    }

    /// Writes what nodes need to find what is served here under `name`: files of their engines, with the authority that they are to
    /// trust. Which they are.
    pub async fn write_mirror_config(&self, name: &str, directory: &Path) -> Result<Vec<PathBuf>, MirrorConfigError> {
        let view = self.store.view().await?;
        let mut written = Vec::new();
        for (file, text) in nodes::files(&view, name, &self.speaking)? {
            let path = directory.join(file);
            fs::create_dir_all(fs::parent(&path))?;
            fs::write(&path, text.as_bytes())?;
            written.push(path);
        }
        Ok(written)
    }

    /// Has the certificate read or made again now. Users are read again at each request after their file changed, anyway.
    pub fn reload(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
        }
    }

    /// Answers requests until `stop` is ready, and then those that have begun.
    pub async fn run(self: &Arc<Self>, listener: Listener, stop: impl Future<Output = ()>) {
        accept::run(self.clone(), listener, stop).await;
    }

    /// Answers one request.
    async fn answer(self: Arc<Self>, client: SocketAddr, head: Parts, body: Option<Incoming>) -> Answer {
        let started = Instant::now();
        let request = Arc::new(Request::of(head));
        let mut entry = Entry::new(client.ip(), &request);
        let (mut answer, error) = match self.admitted(&request, body, &mut entry).await {
            Ok(answer) => (answer, None),
            Err(refusal) => (refusal.answer(), Some(refusal.message)),
        };
        entry.status = answer.status().as_u16();
        let headers = answer.headers_mut();
        headers.insert(VERSION, HeaderValue::from_static("registry/2.0"));
        headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
        if let Some(ns) = &request.ns {
            set(&mut answer, NAMESPACE, ns);
        }
        let expected = if request.is_head() { 0 } else { answer.body().len() };
        answer.body_mut().line = Some(log::Line { entry, bytes: 0, expected, error, started, log: self.counted() });
        answer
    }

    /// The log that counts, too.
    fn counted(&self) -> Log {
        let (log, metrics) = (self.log.clone(), self.metrics.clone());
        Arc::new(move |entry: &Entry| {
            metrics.count(&entry.method, entry.status, entry.bytes);
            log(entry);
        })
    }

    /// Answers a request of somebody who may make it.
    async fn admitted(
        &self,
        request: &Arc<Request>,
        body: Option<Incoming>,
        entry: &mut Entry,
    ) -> Result<Answer, Refusal> {
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        if request.path == "/healthz" && is_read {
            return Ok(answer::json(StatusCode::OK, &serde_json::json!({ "status": "ok" }), answer::JSON));
        }
        let route = Route::of(&request.path);
        // Who asks how far an upload is knows a secret of somebody who writes.
        let writes = match &route {
            Some(route @ (Route::Upload(..) | Route::Uploads(_))) => Some(route.repository()?),
            Some(route) if !is_read => Some(route.repository()?),
            None if !is_read => Some(""),
            _ => None,
        };
        let key = writes.map(|name| names::key(name, request.ns.as_deref()));
        entry.user = self.guard.check(request, entry.client, key.as_deref()).await?;
        match request.path.as_str() {
            "/readyz" if is_read => {
                request.view(&self.store).await?;
                Ok(answer::json(StatusCode::OK, &serde_json::json!({ "status": "ready" }), answer::JSON))
            }
            "/metrics" if is_read => metrics::answer(self, request).await,
            path if is_read && !path.starts_with("/v2") => match self.page.answer(request).await {
                Some(answer) => answer.map(|answer| if request.is_head() { without_body(answer) } else { answer }),
                None => Err(Refusal::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is nothing at this path")),
            },
            _ => self.dispatch(request, body).await,
        }
    }

    async fn dispatch(&self, request: &Arc<Request>, body: Option<Incoming>) -> Result<Answer, Refusal> {
        let Some(route) = Route::of(&request.path) else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is nothing at this path"));
        };
        let name = route.repository()?;
        let is_read = matches!(request.method, Method::GET | Method::HEAD);
        let store = &self.store;
        match route {
            Route::Support if is_read => Ok(answer::json(StatusCode::OK, &serde_json::json!({}), answer::JSON)),
            Route::Catalog if is_read => lists::catalog(store, request).await,
            Route::Tags(_) if is_read => lists::tags(store, request, name).await,
            Route::Referrers(_, subject) if is_read => lists::referrers(store, request, name, subject).await,
            Route::Manifest(_, reference) if is_read => pull::manifest(store, request, name, reference).await,
            Route::Blob(_, digest) if is_read => {
                let is_member = |digest: &Digest| {
                    let key = names::key(name, request.ns.as_deref());
                    self.writer.as_ref().is_some_and(|writer| writer.is_member(&key, digest))
                };
                pull::blob(store, request, name, digest, is_member).await
            }
            route => match &self.writer {
                Some(writer) => writer.answer(request, &route, body).await,
                None => Err(refused_method(request)),
            },
        }
        .map(|answer| if request.is_head() { without_body(answer) } else { answer })
    }
}

fn refused_method(request: &Request) -> Refusal {
    let words = format!("{}: this registry is for reading only (`serve --writable` takes pushes)", request.method);
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", words).header(ALLOW, "GET, HEAD")
}

/// What `GET` would say, of the same length.
fn without_body(answer: Answer) -> Answer {
    let (head, _) = answer.into_parts();
    debug_assert!(head.status == StatusCode::NOT_MODIFIED || head.headers.contains_key(CONTENT_LENGTH));
    Answer::from_parts(head, body::Body::empty())
}

impl Entry {
    fn new(client: IpAddr, request: &Request) -> Self {
        // Who knows the name of an upload can write to it.
        let path = match Route::of(&request.path) {
            Some(Route::Upload(name, _)) => format!("/v2/{name}/blobs/uploads/…"),
            _ => request.path.clone(),
        };
        Entry {
            time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
            client,
            user: None,
            method: request.method.to_string(),
            path,
            ns: request.ns.clone(),
            status: 0,
            bytes: 0,
            milliseconds: 0,
            error: None,
        }
    }
}

/// The repository of what has none in its name: the directory's name.
fn default_repository(root: &Path) -> String {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    names::from_directory(&root.file_name().unwrap_or_default().to_string_lossy())
}

const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
