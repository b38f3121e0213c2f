//! One repository of a registry: its manifests, its blobs, and what refers to them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;
use url::Url;

use crate::digest::{self, Digest, Hasher};
use crate::http::{self, Retriable, Verdict};
use crate::image::layout;
use crate::reference::{Remote, Target};
use crate::registry::client::{Error, Registry, Scope, again};

/// One repository of a registry.
#[derive(Clone)]
pub struct Repository {
    registry: Registry,
    name: String,
    write: bool,
}

/// A blob on its way, in pieces.
pub type Chunks = mpsc::Receiver<Result<Bytes, Error>>;

impl Repository {
    pub(super) fn new(registry: Registry, name: &str, write: bool) -> Self {
        Repository { registry, name: name.to_owned(), write }
    }

    /// The registry it is in.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Its path in the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As a reference to what `target` names in it.
    pub fn reference(&self, target: Target) -> Remote {
        Remote { registry: self.registry.0.host.clone(), repository: self.name.clone(), target }
    }

    /// Reads a manifest or an index by tag or digest: at most 4 MiB, its digest checked.
    pub async fn document(&self, target: &str) -> Result<(Descriptor, Vec<u8>), Error> {
        let url = self.url(&format!("manifests/{target}"));
        let response = self.get(&url, target, |request| request.header(ACCEPT, MANIFEST_TYPES)).await?;
        let announced = header(response.headers(), "docker-content-digest");
        let media_type = header(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        let bytes = http::read_limited(response, layout::DOCUMENT_LIMIT).await?;
        let inside = serde_json::from_slice::<MediaTypeOnly>(&bytes);
        let Ok(inside) = inside else { return Err(Error::NotARegistry(url)) };
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let media_type = inside.media_type.unwrap_or(media_type);
        let expected = match target.parse::<Digest>() {
            Ok(digest) => Some(digest),
            // What a tag means is the registry's to say; what it says has to hold.
            Err(_) => announced.as_deref().map(str::parse).transpose()?,
        };
        let mut hasher = Hasher::new(expected.as_ref().map_or(digest::Algorithm::Sha256, Digest::algorithm));
        hasher.update(&bytes);
        let found = hasher.finish();
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(Error::Mismatch { place: url.to_string(), expected, found });
        }
        Ok((layout::descriptor(MediaType::from(media_type.as_str()), &found, bytes.len() as u64), bytes))
    }

    /// The digest of what a tag or digest names, without reading it.
    pub async fn digest_of(&self, target: &str) -> Result<Option<Digest>, Error> {
        let url = self.url(&format!("manifests/{target}"));
        let head = || self.client().request(Method::HEAD, url.clone()).header(ACCEPT, MANIFEST_TYPES);
        let response = self.retried(head).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => {
                Ok(header(response.headers(), "docker-content-digest").and_then(|text| text.parse().ok()))
            }
            _ => Err(http::Error::status(response).await.into()),
        }
    }

    /// Whether a blob is there.
    pub async fn holds(&self, digest: &Digest) -> Result<bool, Error> {
        let url = self.url(&format!("blobs/{digest}"));
        let response = self.retried(|| self.client().request(Method::HEAD, url.clone())).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(http::Error::status(response).await.into()),
        }
    }

    /// Reads a small blob whole, its digest checked.
    pub async fn small_blob(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        if described.size() > layout::DOCUMENT_LIMIT {
            let (name, size) = (described.digest().to_string(), described.size());
            return Err(layout::Error::TooLarge { name, size, limit: layout::DOCUMENT_LIMIT }.into());
        }
        let mut chunks = self.blob(described);
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            bytes.extend_from_slice(&chunk?);
        }
        let expected = layout::digest_of(described)?;
        let mut hasher = Hasher::new(expected.algorithm());
        hasher.update(&bytes);
        let found = hasher.finish();
        if found != expected {
            let (expected, found) = (expected.to_string(), found.to_string());
            return Err(Error::Mismatch { place: self.place(&expected), expected, found });
        }
        Ok(bytes)
    }

    /// Reads a blob in pieces, exactly as many bytes as described. The digest is for the receiver to check.
    ///
    /// A connection that breaks is taken up again where it broke, as often as requests are tried again; what arrives
    /// in between starts the count anew.
    pub fn blob(&self, described: &Descriptor) -> Chunks {
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let (repository, described) = (self.clone(), described.clone());
        tokio::spawn(async move {
            if let Err(error) = repository.pump(&described, &sender).await {
                // When nobody listens any more, nobody needs to know.
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }

    async fn pump(&self, described: &Descriptor, sender: &mpsc::Sender<Result<Bytes, Error>>) -> Result<(), Error> {
        let (size, retry) = (described.size(), self.registry.0.http.retry());
        let (mut offset, mut tries) = (0, 0);
        loop {
            let before = offset;
            let error = match self.pump_from(described, &mut offset, sender).await {
                Ok(()) if offset == size => return Ok(()),
                Ok(()) => Error::Http(http::Error::Status {
                    url: Box::new(self.url(&format!("blobs/{}", described.digest()))),
                    status: StatusCode::GATEWAY_TIMEOUT,
                    detail: format!("ended after {offset} of {size} bytes"),
                    retry_after: None,
                }),
                Err(error) => error,
            };
            let Verdict::Again { after } = error.verdict() else { return Err(error) };
            tries = if offset > before { 0 } else { tries + 1 };
            if tries > retry.retries {
                return Err(error);
            }
            tracing::info!("{error}; going on at byte {offset}");
            tokio::time::sleep(retry.wait(tries, after)).await;
        }
    }

    async fn pump_from(
        &self,
        described: &Descriptor,
        offset: &mut u64,
        sender: &mpsc::Sender<Result<Bytes, Error>>,
    ) -> Result<(), Error> {
        let url = self.url(&format!("blobs/{}", described.digest()));
        let start = *offset;
        let ranged = |request: RequestBuilder| match start {
            0 => request,
            start => request.header(RANGE, format!("bytes={start}-")),
        };
        let what = described.digest().to_string();
        let mut response = self.get(&url, &what, ranged).await?;
        // A server that ignores the range begins anew.
        let mut skip = if response.status() == StatusCode::PARTIAL_CONTENT { 0 } else { start };
        let wanted = format!("bytes {start}-");
        let range = response.headers().get(CONTENT_RANGE).filter(|_| skip == 0 && start > 0);
        if let Some(range) = range.filter(|range| !range.to_str().is_ok_and(|range| range.starts_with(&wanted))) {
            return Err(Error::Protocol { url, problem: format!("another range than asked for: {range:?}") });
        }
        while let Some(mut chunk) =
            response.chunk().await.map_err(|error| http::Error::transport(url.clone(), error))?
        {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let _ = chunk.split_to(usize::try_from(skipped).expect("at most a chunk"));
            *offset += chunk.len() as u64;
            if *offset > described.size() {
                let (expected, found) = (format!("{} bytes", described.size()), "more".to_owned());
                return Err(Error::Mismatch { place: self.place(&what), expected, found });
            }
            if !chunk.is_empty() && sender.send(Ok(chunk)).await.is_err() {
                // The receiver gave up and knows why; the count says that all is done.
                *offset = described.size();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Lets the registry take a blob from another of its repositories; false when it does not.
    pub async fn mount(&self, digest: &Digest, from: &str) -> Result<bool, Error> {
        let mut url = self.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let response = self.retried(|| self.client().post(url.clone())).await?;
        // 202 is an upload that was started instead; it is left to end by itself.
        Ok(response.status() == StatusCode::CREATED)
    }

    /// Sends a blob in one go. Its digest is checked before its last piece leaves: what is wrong is never complete.
    pub async fn put_blob(&self, described: &Descriptor, chunks: Chunks) -> Result<(), Error> {
        let digest = layout::digest_of(described)?;
        let start = self.url("blobs/uploads/");
        let scope = self.scope();
        let response = self.registry.send(&scope, || self.client().post(start.clone())).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(http::Error::status(response).await.into());
        }
        let location = header(response.headers(), LOCATION.as_str());
        let mut url = location.and_then(|location| start.join(&location).ok()).ok_or_else(|| Error::Protocol {
            url: start.clone(),
            problem: "started an upload without saying where".into(),
        })?;
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let (body, failure) = checked_body(chunks, digest.clone(), described.size(), self.place(digest.as_str()));
        let mut request = self.client().put(url.clone()).body(body);
        request = request.header(CONTENT_LENGTH, described.size()).header(CONTENT_TYPE, "application/octet-stream");
        // An upload may be sent somewhere else, without what opens this registry.
        if url.origin() == start.origin() {
            request = self.registry.authorized(&scope, request);
        }
        let answer = self.registry.0.http.send(request).await;
        if let Some(error) = failure.lock().expect("no holder panics").take() {
            return Err(error);
        }
        let response = answer?;
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::ACCEPTED => Ok(()),
            StatusCode::UNAUTHORIZED => {
                self.registry.0.tokens.lock().expect("no holder panics").remove(&scope.key());
                Err(Error::TokenExpired(self.place(digest.as_str())))
            }
            StatusCode::FORBIDDEN => Err(Error::Unauthorized(self.place(digest.as_str()))),
            _ => Err(http::Error::status(response).await.into()),
        }
    }

    /// Writes a manifest or an index under a tag or its digest. Returns whether the registry lists it as a referrer.
    pub async fn put_document(&self, target: &str, media_type: &MediaType, bytes: &[u8]) -> Result<bool, Error> {
        let url = self.url(&format!("manifests/{target}"));
        let body = Bytes::copy_from_slice(bytes);
        let put = || {
            let request = self.client().put(url.clone()).header(CONTENT_TYPE, media_type.as_ref());
            request.body(body.clone())
        };
        let response = self.retried(put).await?;
        match response.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => {
                Ok(response.headers().contains_key("oci-subject"))
            }
            _ => Err(http::Error::status(response).await.into()),
        }
    }

    /// What the registry lists as referring to a digest; `None` when it has no such list to give.
    pub async fn referrers(&self, digest: &Digest) -> Result<Option<ImageIndex>, Error> {
        let url = self.url(&format!("referrers/{digest}"));
        let response = self.retried(|| self.client().get(url.clone())).await?;
        let index = header(response.headers(), CONTENT_TYPE.as_str())
            .is_some_and(|media_type| media_type.starts_with(MediaType::ImageIndex.as_ref()));
        if response.status() != StatusCode::OK || !index {
            return Ok(None);
        }
        let bytes = http::read_limited(response, layout::DOCUMENT_LIMIT).await?;
        Ok(Some(layout::parse(url.as_str(), &bytes)?))
    }

    async fn get(
        &self,
        url: &Url,
        what: &str,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let response = self.retried(|| complete(self.registry.0.http.get(url))).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(Error::NotFound(self.place(what))),
            _ => Err(http::Error::status(response).await.into()),
        }
    }

    /// Sends a request that may be repeated, and repeats it when that can help.
    async fn retried(&self, build: impl Fn() -> RequestBuilder) -> Result<Response, Error> {
        let scope = self.scope();
        let attempt = || async {
            let response = self.registry.send(&scope, &build).await?;
            if matches!(response.status().as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
                return Err(Error::from(http::Error::status(response).await));
            }
            Ok(response)
        };
        again(self.registry.0.http.retry(), attempt).await
    }

    fn client(&self) -> &reqwest::Client {
        self.registry.0.http.client()
    }

    fn scope(&self) -> Scope<'_> {
        Scope { repository: &self.name, write: self.write }
    }

    fn url(&self, path: &str) -> Url {
        let name = if self.registry.0.host == "docker.io" && !self.name.contains('/') {
            format!("library/{}", self.name)
        } else {
            self.name.clone()
        };
        self.registry.0.base.join(&format!("{name}/{path}")).expect("a repository's name and a path are no scheme")
    }

    fn place(&self, what: &str) -> String {
        let separator = if what.contains(':') { '@' } else { ':' };
        format!("{}/{}{separator}{what}", self.registry.0.host, self.name)
    }
}

#[derive(Deserialize)]
struct MediaTypeOnly {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// A request's body that breaks off instead of ending when its digest is wrong, and says why in the second value.
fn checked_body(chunks: Chunks, digest: Digest, size: u64, place: String) -> (Body, Arc<Mutex<Option<Error>>>) {
    let failure: Arc<Mutex<Option<Error>>> = Arc::default();
    let state = (chunks, Some(Hasher::new(digest.algorithm())), 0_u64, failure.clone());
    let stream = futures_util::stream::unfold(state, move |(mut chunks, mut hasher, mut sent, failure)| {
        let (digest, place) = (digest.clone(), place.clone());
        async move {
            let mismatch = |expected: String, found: String| Error::Mismatch { place, expected, found };
            let next = match chunks.recv().await {
                None if sent == size => return None,
                None => Err(mismatch(format!("{size} bytes"), format!("{sent} bytes"))),
                Some(Err(error)) => Err(error),
                Some(Ok(chunk)) => {
                    sent += chunk.len() as u64;
                    if let Some(hasher) = &mut hasher {
                        hasher.update(&chunk);
                    }
                    match hasher.take_if(|_| sent >= size).map(Hasher::finish) {
                        Some(found) if found != digest => Err(mismatch(digest.to_string(), found.to_string())),
                        _ => Ok(chunk),
                    }
                }
            };
            let next = next.map_err(|error| {
                *failure.lock().expect("no holder panics") = Some(error);
                std::io::Error::other("the source failed")
            });
            Some((next, (chunks, hasher, sent, failure)))
        }
    });
    (Body::wrap_stream(stream), failure)
}

/// How many pieces of a blob may wait for the other end.
const CHUNKS_AHEAD: usize = 4;
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
     */*;q=0.1";
