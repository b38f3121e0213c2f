//! Pushes and deletes, for a layout that takes them.
//!
//! ```text
//!  POST, PATCH, PUT ─► .haversack/uploads/ID ─► blobs/ALGORITHM/HEX      hashed while received, synced, renamed; then a member
//!  PUT manifest ─► blobs/ALGORITHM/HEX ─► index.json                     when all that it needs is there
//! ```
//!
//! All that is to be changed in `index.json` at one time is changed in one writing: while one is under way the next ones gather.

mod manifest;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, LOCATION};
use hyper::{Method, StatusCode};
use tokio::sync::{mpsc, oneshot};

use crate::causes;
use crate::digest::Digest;
use crate::fs;
use crate::image::Layout;
use crate::image::store::layout::{self, Lease, WORK};
use crate::serve::answer::{self, Answer, DIGEST, Refusal, set};
use crate::serve::change::Change;
use crate::serve::ledger::{self, Ledger};
use crate::serve::names;
use crate::serve::push::upload::Uploads;
use crate::serve::request::Request;
use crate::serve::route::{self, Route};
use crate::serve::store::Store;

/// The side of a registry that writes to its first layout.
pub(super) struct Writer {
    store: Arc<Store>,
    pub(super) ledger: Arc<Ledger>,
    uploads: Uploads,
    changes: mpsc::Sender<Waiting>,
    /// Without a byte received.
    idle: Duration,
}

type Waiting = (Change, oneshot::Sender<Result<(), Refusal>>);

/// Why a layout takes no pushes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is beside the layout.
    #[error("{0}")]
    Ledger(#[from] ledger::Error),
    /// Directories beside it.
    #[error("{0}")]
    Path(#[from] fs::PathError),
}

impl Writer {
    /// Opens what is beside the first layout, and begins to write. Uploads of an earlier run go on.
    pub(super) fn open(store: &Arc<Store>, idle: Duration, ttl: Duration) -> Result<Arc<Self>, Error> {
        let root = store.sources[0].layout.root();
        let uploads = fs::create_dir_beneath(root, &std::path::Path::new(WORK).join("uploads"))?;
        let ledger = Arc::new(Ledger::open(&root.join(WORK))?);
        store.remember(0, ledger.clone());
        let (changes, waiting) = mpsc::channel(1024);
        tokio::spawn(write(store.clone(), waiting));
        let uploads = Uploads::new(uploads, ledger.clone());
        let writer = Arc::new(Writer { store: store.clone(), ledger, uploads, changes, idle });
        let sweeping = Arc::downgrade(&writer);
        tokio::spawn(async move {
            let mut pause =
                tokio::time::interval((ttl / 4).clamp(Duration::from_millis(100), Duration::from_secs(600)));
            loop {
                pause.tick().await;
                let Some(writer) = sweeping.upgrade() else { return };
                let _ = tokio::task::spawn_blocking(move || writer.uploads.sweep(ttl)).await;
            }
        });
        Ok(writer)
    }

    /// Answers a request that is no mere question.
    pub(super) async fn answer(
        self: &Arc<Self>,
        request: &Arc<Request>,
        route: &Route<'_>,
        body: Option<Incoming>,
    ) -> Result<Answer, Refusal> {
        match (&request.method, route, body) {
            (&Method::POST, Route::Uploads(name), Some(body)) => {
                // A client that goes away must not break off what is half written.
                let (writer, request, name) = (self.clone(), request.clone(), (*name).to_owned());
                spawned(async move { writer.start_upload(&request, &name, body).await }).await
            }
            (&Method::PATCH | &Method::PUT, Route::Upload(name, id), Some(body)) => {
                let (writer, request) = (self.clone(), request.clone());
                let (name, id) = ((*name).to_owned(), (*id).to_owned());
                spawned(async move { writer.receive_upload(&request, &name, &id, body).await }).await
            }
            (&Method::GET | &Method::HEAD, Route::Upload(name, id), _) => self.upload_status(request, name, id).await,
            (&Method::DELETE, Route::Upload(name, id), _) => self.cancel_upload(request, name, id).await,
            (&Method::PUT, Route::Manifest(name, reference), Some(body)) => {
                let (writer, request) = (self.clone(), request.clone());
                let (name, reference) = ((*name).to_owned(), (*reference).to_owned());
                spawned(async move { writer.put_manifest(&request, &name, &reference, body).await }).await
            }
            (&Method::DELETE, Route::Manifest(name, reference), _) => {
                self.delete_manifest(request, name, reference).await
            }
            (&Method::DELETE, Route::Blob(name, digest), _) => self.delete_blob(request, name, digest).await,
            (method, route, _) => {
                let allowed = match route {
                    Route::Uploads(_) => "POST",
                    Route::Upload(..) => "GET, PATCH, PUT, DELETE",
                    Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
                    Route::Blob(..) => "GET, HEAD, DELETE",
                    _ => "GET, HEAD",
                };
                let words = format!("{method} cannot be done here");
                Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", words).header(ALLOW, allowed))
            }
        }
    }

    /// Whether a blob belongs to a repository because it was pushed there.
    pub(super) fn is_member(&self, key: &str, digest: &Digest) -> bool {
        let is_member = self.ledger.is_member(key, digest).and_then(|is_member| {
            if is_member {
                self.ledger.renew_member(key, digest)?;
            }
            Ok(is_member)
        });
        is_member.unwrap_or_else(|error| {
            tracing::error!("{error}");
            false
        })
    }

    /// The layout that is written to.
    pub(super) fn layout(&self) -> &Layout {
        &self.store.sources[0].layout
    }

    /// Keeps what is in the layout there, from when it was found until something says that it is needed.
    async fn lease(&self) -> Option<Lease> {
        let layout = self.layout().clone();
        // Where a file system has no locks, nothing is taken away.
        tokio::task::spawn_blocking(move || layout.lease().ok()).await.ok().flatten()
    }

    /// The repository that a request writes to.
    async fn repository(&self, request: &Request, name: &str) -> Result<names::Repository, Refusal> {
        let mut repository = names::Repository::asked(name, request.ns.as_deref());
        let view = request.view(&self.store).await?;
        if let Some(there) = view.repositories.get(&repository.key) {
            repository.written.clone_from(&there.written);
        }
        Ok(repository)
    }

    /// Changes `index.json`; returns when it is on the disk and seen by others.
    async fn change(&self, change: Change) -> Result<(), Refusal> {
        let (done, written) = oneshot::channel();
        let gone = || Refusal::internal("the layout's writer has ended");
        self.changes.send((change, done)).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }

    async fn delete_blob(&self, request: &Request, name: &str, digest: &str) -> Result<Answer, Refusal> {
        let (digest, view) = (route::digest(digest)?, request.view(&self.store).await?);
        let key = names::key(name, request.ns.as_deref());
        let there = view.repositories.get(&key);
        if there.is_some_and(|there| there.blobs.contains(&digest) || there.manifests.contains(&digest)) {
            let words = format!("a manifest of {name} needs {digest}: delete that first, by its digest");
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "DENIED", words));
        }
        match self.ledger.remove_member(&key, &digest).map_err(broken)? {
            true => Ok(answer::empty(StatusCode::ACCEPTED)),
            false => Err(Refusal::blob_unknown(format!("{name} has no blob {digest}"))),
        }
    }
}

/// Writes what is to be changed, all that waits at one time together.
async fn write(store: Arc<Store>, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        let mut batch = vec![first];
        while let Ok(next) = waiting.try_recv() {
            batch.push(next);
        }
        let (changes, done): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let result = store.change(changes).await;
        for done in done {
            let result = result.as_ref().map(drop).map_err(|error| not_written(error));
            // Whoever asked may be gone.
            let _ = done.send(result);
        }
    }
}

/// Runs to its end what a client began.
async fn spawned(work: impl Future<Output = Result<Answer, Refusal>> + Send + 'static) -> Result<Answer, Refusal> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(Refusal::internal(format!("a request failed: {error}"))))
}

/// What is in place of a blob or a manifest that was taken.
fn created(location: &str, digest: &Digest) -> Answer {
    let mut answer = answer::empty(StatusCode::CREATED);
    set(&mut answer, LOCATION, location);
    set(&mut answer, DIGEST, digest.as_str());
    answer
}

/// The path of something, with what the client needs to be sent back.
fn location(path: String, request: &Request) -> String {
    let Some(ns) = &request.ns else { return path };
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("ns", ns).finish();
    format!("{path}?{query}")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: rusqlite::Error) -> Refusal {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => full(),
        _ => Refusal::internal(format!("{WORK}/serve.db: {error}")),
    }
}

fn not_written(error: &(dyn std::error::Error + 'static)) -> Refusal {
    if causes::is_full_disk(error) {
        return full();
    }
    if let Some(layout::Error::TooLarge { .. }) = causes::find(error) {
        return Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", format!("{error}: split the layout"));
    }
    Refusal::internal(causes::line(error))
}

fn full() -> Refusal {
    tracing::error!("the layout's disk is full");
    let words = "the disk of this registry is full; nothing was changed";
    Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "DENIED", words)
}
