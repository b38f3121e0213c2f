//! A blob on its way to a repository: whole, in pieces that can be taken up again, or taken from another repository.
//!
//! ```text
//! small   POST uploads/ → PUT ADDRESS?digest= with all of it
//! large   POST uploads/ → PATCH ADDRESS with one piece … → PUT ADDRESS?digest=
//!         what breaks off: GET ADDRESS says how much arrived, and the next PATCH sends what follows
//! ```
//!
//! The address of a large upload is remembered, so that the next run, too, can go on with it. A registry that takes no
//! pieces gets the blob whole.
//!
//! Whatever arrives becomes a blob only when the registry finds the digest to be right (distribution-spec, "Pushing blobs"). What
//! lies on the disk is hashed by the registry alone; when that refuses it, or does not say that it compared it, it is read again, to
//! see whether it is damaged. What comes over the network cannot be read again so cheaply: it is hashed here, too, before its last
//! byte leaves, until the registry has said of a blob what it found. Only a registry that repeats the digest and compares nothing can
//! hold what was damaged.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, RequestBuilder, Response, StatusCode};
use tokio::sync::Mutex;
use url::Url;

use crate::digest::{Digest, Hasher};
use crate::http;
use crate::image::Store;
use crate::image::store::layout;
use crate::reference;
use crate::registry::auth::token::Scope;
use crate::registry::client::Error;
use crate::registry::download::Chunks;
use crate::registry::memory::Memory;
use crate::registry::repository::{Repository, announced, header};
use crate::registry::stored::checked;

/// What became of the wish to have a blob taken from another repository.
#[derive(Debug, PartialEq, Eq)]
pub enum Mounted {
    /// It is there.
    Done,
    /// It is not, and the registry waits for it here.
    Upload(Url),
    /// It is not.
    No,
}

impl Repository {
    /// Lets the registry take a blob from another of its repositories, when it can and we may read there.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<Mounted, Error> {
        let mut url = self.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let scope = Scope { from: Some(from), ..self.scope() };
        // Registries say no in many ways (401, 404, 405, 500); the blob is sent then.
        let Ok(response) = self.registry.send(&scope, || self.client().post(url.clone())).await else {
            return Ok(Mounted::No);
        };
        Ok(match response.status() {
            StatusCode::CREATED => Mounted::Done,
            StatusCode::ACCEPTED => upload_address(&url, &response).map_or(Mounted::No, Mounted::Upload),
            _ => Mounted::No,
        })
    }

    /// Sends a blob, which `open` reads from an offset on. `begun` is the address of an upload of which nothing was
    /// sent yet.
    ///
    /// A blob that is `kept` on the disk is not hashed unless the registry refuses it, or says that it got another one.
    pub async fn put_blob(
        &self,
        described: &Descriptor,
        open: impl Fn(u64) -> Chunks,
        kept: Option<&Arc<Store>>,
        begun: Option<Url>,
        memory: &Memory,
    ) -> Result<(), Error> {
        let place = self.place(described.digest().as_ref());
        let is_hashed = kept.is_none() && !self.registry.0.says_digests.load(Ordering::Relaxed);
        let digest = layout::digest_of(described)?;
        let blob = Outgoing { repository: self, described, digest, open: &open, kept, is_hashed, place };
        if described.size() <= PIECE {
            let url = blob.begin(begun).await?;
            return blob.whole(url).await;
        }
        match blob.in_pieces(begun, memory).await {
            Err(error) if takes_no_pieces(&error) => {
                tracing::info!("{}: takes no pieces ({error}), so it is sent whole", blob.place);
                memory.note_upload(&blob.place, None);
                let url = blob.begin(None).await?;
                blob.whole(url).await
            }
            result => result,
        }
    }
}

/// A blob that is being sent.
struct Outgoing<'a, O> {
    repository: &'a Repository,
    described: &'a Descriptor,
    digest: Digest,
    /// Reads it from an offset on.
    open: O,
    kept: Option<&'a Arc<Store>>,
    /// Whether it is hashed on its way.
    is_hashed: bool,
    /// HOST/REPOSITORY@DIGEST
    place: String,
}

impl<O: Fn(u64) -> Chunks> Outgoing<'_, O> {
    /// The address of a new upload.
    async fn begin(&self, begun: Option<Url>) -> Result<Url, Error> {
        if let Some(url) = begun {
            return Ok(url);
        }
        let start = self.repository.url("blobs/uploads/");
        let request = || self.repository.client().post(start.clone());
        let response = self.repository.registry.send(&self.repository.scope(), request).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(http::Error::status(response).await.into());
        }
        upload_address(&start, &response)
            .ok_or_else(|| Error::Protocol { url: start, problem: "started an upload without saying where".into() })
    }

    async fn whole(&self, url: Url) -> Result<(), Error> {
        let feed = Feed::new(0, self);
        self.finish(url, Feed::body(&feed, self.described.size()), self.described.size(), &feed).await
    }

    async fn in_pieces(&self, begun: Option<Url>, memory: &Memory) -> Result<(), Error> {
        let size = self.described.size();
        let remembered = match memory.upload(&self.place) {
            Some(url) => self.status(&url).await.ok().filter(|(_, offset)| *offset <= size),
            None => None,
        };
        let resumed = remembered.is_some();
        let (mut url, mut offset) = match remembered {
            Some(there) => there,
            None => (self.begin(begun).await?, 0),
        };
        if offset > 0 {
            tracing::info!("{}: going on with an upload at byte {offset} of {size}", self.place);
        }
        let feed = Feed::new(offset, self);
        let mut tries = 0;
        while offset < size {
            memory.note_upload(&self.place, Some(&url));
            let error = match self.piece(&url, offset, &feed).await {
                Ok((next, end)) => {
                    (url, offset, tries) = (next, end, 0);
                    continue;
                }
                Err(error) => error,
            };
            if let Some(failure) = feed.lock().await.failure.take() {
                memory.note_upload(&self.place, None);
                return Err(failure);
            }
            if !self.repository.registry.0.http.retry().pause(&error, &mut tries).await {
                return Err(error);
            }
            let Ok(there) = self.status(&url).await else {
                memory.note_upload(&self.place, None);
                return Err(Error::UploadLost(self.place.clone()));
            };
            if there.1 > offset {
                tries = 0;
            }
            (url, offset) = there;
            feed.lock().await.restart((self.open)(offset), offset);
        }
        memory.note_upload(&self.place, Some(&url));
        let result = self.finish(url, Body::from(Bytes::new()), 0, &feed).await;
        if result.as_ref().is_ok() || result.as_ref().is_err_and(|error| error.is_permanent()) {
            memory.note_upload(&self.place, None);
        }
        match result {
            // What an earlier run sent may have been wrong, or lost.
            Err(error) if resumed && error.is_permanent() && !matches!(error, Error::Mismatch { .. }) => {
                Err(Error::UploadLost(self.place.clone()))
            }
            result => result,
        }
    }

    /// Sends one piece and returns where the next one goes and begins.
    async fn piece(&self, url: &Url, offset: u64, feed: &Arc<Mutex<Feed>>) -> Result<(Url, u64), Error> {
        let length = PIECE.min(self.described.size() - offset);
        let end = offset + length;
        let request = self.repository.client().patch(url.clone()).body(Feed::body(feed, length));
        let request = request
            .header(CONTENT_LENGTH, length)
            .header(CONTENT_RANGE, format!("{offset}-{}", end - 1))
            .header(CONTENT_TYPE, "application/octet-stream");
        let response = self.send(url, request).await?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED => {
                let next = upload_address(url, &response).unwrap_or_else(|| url.clone());
                match arrived(&response) {
                    // Some stand still, count from the piece, or one too many; the digest decides (see `put_blob`).
                    Some(arrived) if arrived != end => {
                        tracing::info!("{}: says that {arrived} bytes arrived of {end}", self.place);
                        Err(Error::Miscounted(self.place.clone()))
                    }
                    _ => Ok((next, end)),
                }
            }
            status => Err(self.refused(status, response).await),
        }
    }

    /// Says that all is there, which `body` is the rest of.
    async fn finish(&self, mut url: Url, body: Body, length: u64, feed: &Mutex<Feed>) -> Result<(), Error> {
        url.query_pairs_mut().append_pair("digest", self.digest.as_str());
        let request = self.repository.client().put(url.clone()).body(body);
        let request = request.header(CONTENT_LENGTH, length).header(CONTENT_TYPE, "application/octet-stream");
        let answer = self.send(&url, request).await;
        if let Some(failure) = feed.lock().await.failure.take() {
            return Err(failure);
        }
        let response = answer?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::ACCEPTED => {
                let stored = announced(response.headers()).and_then(|text| text.parse::<Digest>().ok());
                match stored.filter(|stored| stored.algorithm() == self.digest.algorithm()) {
                    Some(stored) if stored == self.digest && response.status() != StatusCode::ACCEPTED => {
                        self.repository.registry.0.says_digests.store(true, Ordering::Relaxed);
                        Ok(())
                    }
                    // It says that it got something else; some say so of the last piece alone.
                    Some(found) if found != self.digest => {
                        self.look_again().await?;
                        match self.repository.holds(&self.digest).await? {
                            true => Ok(()),
                            false => Err(Error::Protocol {
                                url,
                                problem: format!("says that it got {found}, and has no {}", self.digest),
                            }),
                        }
                    }
                    // It has not said that it looked.
                    _ => self.look_again().await,
                }
            }
            status => {
                let refused = self.refused(status, response).await;
                if !is_about_others(status) {
                    self.look_again().await?;
                }
                Err(refused)
            }
        }
    }

    /// Whether what was not hashed on its way is what was described: the error is that it is not.
    async fn look_again(&self) -> Result<(), Error> {
        if let Some(store) = self.kept {
            return checked(store.clone(), self.described.clone()).await;
        }
        if self.is_hashed {
            return Ok(());
        }
        let feed = Feed::new(0, self);
        let mut feed = feed.lock().await;
        feed.hasher = Some(Hasher::new(self.digest.algorithm()));
        while feed.at < feed.size {
            feed.next(u64::MAX).await?;
        }
        Ok(())
    }

    /// How much of an upload the registry has, and where to send the rest.
    async fn status(&self, url: &Url) -> Result<(Url, u64), Error> {
        let response = self.send(url, self.repository.client().get(url.clone())).await?;
        match response.status() {
            StatusCode::NO_CONTENT | StatusCode::ACCEPTED | StatusCode::OK => {
                let next = upload_address(url, &response).unwrap_or_else(|| url.clone());
                let arrived = arrived(&response).ok_or_else(|| Error::UploadLost(self.place.clone()))?;
                Ok((next, arrived))
            }
            status => Err(self.refused(status, response).await),
        }
    }

    /// An upload may be sent somewhere else, without what opens this registry.
    async fn send(&self, url: &Url, request: RequestBuilder) -> Result<Response, Error> {
        let registry = &self.repository.registry;
        let ours = url.origin() == registry.0.base.origin();
        let request = if ours { registry.authorized(&self.repository.scope(), request) } else { request };
        Ok(registry.0.http.send(request).await?)
    }

    async fn refused(&self, status: StatusCode, response: Response) -> Error {
        match status {
            StatusCode::UNAUTHORIZED => {
                let key = self.repository.scope().key();
                self.repository.registry.0.tokens.lock().expect("no holder panics").remove(&key);
                Error::TokenExpired(self.place.clone())
            }
            StatusCode::FORBIDDEN => Error::Unauthorized(self.place.clone()),
            _ => http::Error::status(response).await.into(),
        }
    }
}

/// What is being sent of a blob: hashed on the way where nobody else can say that its source is wrong, and broken off instead of
/// ended when it is not what was described.
struct Feed {
    chunks: Chunks,
    rest: Bytes,
    /// Offset of the next byte.
    at: u64,
    size: u64,
    /// How far it was hashed; no hash where the beginning was sent by an earlier run, or the registry says what it found.
    hashed: u64,
    hasher: Option<Hasher>,
    digest: Digest,
    place: String,
    /// Why it was broken off.
    failure: Option<Error>,
}

impl Feed {
    fn new<O: Fn(u64) -> Chunks>(at: u64, blob: &Outgoing<'_, O>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Feed {
            chunks: (blob.open)(at),
            rest: Bytes::new(),
            at,
            size: blob.described.size(),
            hashed: at,
            hasher: (at == 0 && blob.is_hashed).then(|| Hasher::new(blob.digest.algorithm())),
            digest: blob.digest.clone(),
            place: blob.kept.map_or_else(|| blob.place.clone(), |store| store.place_of(&blob.digest)),
            failure: None,
        }))
    }

    /// Goes back to an offset, from which `chunks` comes.
    fn restart(&mut self, chunks: Chunks, at: u64) {
        (self.chunks, self.rest, self.at) = (chunks, Bytes::new(), at);
    }

    /// The next `length` bytes as the body of a request.
    fn body(feed: &Arc<Mutex<Self>>, length: u64) -> Body {
        let stream = futures_util::stream::unfold((feed.clone(), length), async |(feed, left)| {
            if left == 0 {
                return None;
            }
            let next = {
                let mut feed = feed.lock().await;
                feed.next(left).await.map_err(|failure| {
                    feed.failure = Some(failure);
                    std::io::Error::other("the source failed")
                })
            };
            let taken = next.as_ref().map_or(0, |piece| piece.len() as u64);
            Some((next, (feed, left - taken)))
        });
        Body::wrap_stream(stream)
    }

    async fn next(&mut self, most: u64) -> Result<Bytes, Error> {
        let mismatch = |expected: String, found: String| Error::Mismatch { place: self.place.clone(), expected, found };
        while self.rest.is_empty() {
            self.rest = match self.chunks.recv().await {
                Some(chunk) => chunk?,
                None => return Err(mismatch(format!("{} bytes", self.size), format!("{} bytes", self.at))),
            };
        }
        if self.at + self.rest.len() as u64 > self.size {
            return Err(mismatch(format!("{} bytes", self.size), "more".to_owned()));
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.rest.len());
        let piece = self.rest.split_to(most);
        self.at += piece.len() as u64;
        if self.at > self.hashed {
            let new = usize::try_from(self.at - self.hashed).expect("at most a piece");
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&piece[piece.len() - new..]);
            }
            self.hashed = self.at;
        }
        if self.hashed == self.size
            && let Some(found) = self.hasher.take().map(Hasher::finish).filter(|found| *found != self.digest)
        {
            let expected = self.digest.to_string();
            return Err(Error::Mismatch { place: self.place.clone(), expected, found: found.to_string() });
        }
        Ok(piece)
    }
}

/// Where to send a blob to. A registry may name another host, such as that of its storage: it gets the blob, which is said,
/// but never the credentials (see `Outgoing::send`), and never without TLS what was to go with it.
fn upload_address(asked: &Url, response: &Response) -> Option<Url> {
    let mut next = reference::resolve(asked, &header(response.headers(), LOCATION.as_str())?).ok()?;
    if asked.scheme() == "https" && next.scheme() == "http" {
        // Registries that do not know of the TLS before them name themselves without it.
        let is_itself = next.host_str() == asked.host_str() && next.port() == asked.port();
        if !is_itself || next.set_scheme("https").is_err() {
            return None;
        }
    }
    if next.origin() != asked.origin() {
        let (from, to) = (http::authority(asked), http::authority(&next));
        tracing::warn!("{from} has blobs sent to another host: {to}");
    }
    Some(next)
}

/// The number of bytes in `Range: 0-LAST`. Nothing at all is `0-0`, which one byte would be, too.
fn arrived(response: &Response) -> Option<u64> {
    let range = header(response.headers(), RANGE.as_str())?;
    let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}

/// Whether an answer to a whole blob has nothing to do with what is in it.
fn is_about_others(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 408 | 429 | 502..=504 | 507)
}

/// What registries say that know whole blobs only, a single piece or smaller pieces, or that lose count.
fn takes_no_pieces(error: &Error) -> bool {
    match error {
        Error::Miscounted(_) => true,
        Error::Http(http::Error::Status { status, .. }) => {
            matches!(status.as_u16(), 400 | 404 | 405 | 411 | 413 | 415 | 416 | 501)
        }
        _ => false,
    }
}

/// Larger blobs are sent in pieces of this many bytes: what is lost when a connection breaks. Most layers go in one PUT: registries
/// keep the state of their hash with each piece.
const PIECE: u64 = 64 << 20;
