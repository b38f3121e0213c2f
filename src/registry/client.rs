//! One registry, as distribution-spec 1.1 has it.
//!
//! oci-client has this protocol, too, but not what we need around it: its requests do not go through [`Http`]
//! (`--offline`, the trusted roots, `Retry-After`), an interrupted download is not continued, and what a redirect is
//! told cannot be seen. So it is written here, on the types of oci-spec.
//!
//! Secrets go to the registry itself and to the token service that it names over https, and nowhere else: a redirect
//! to another host, as registries answer blobs with, is followed without them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;
use url::Url;

use crate::digest::{self, Digest, Hasher};
use crate::http::{self, Http, Retriable, Verdict};
use crate::image::layout;
use crate::reference::{Remote, Target};
use crate::registry::auth::{self, AuthFiles, Login};

/// A registry that answers. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    http: Http,
    host: String,
    base: Url,
    auth: AuthFiles,
    /// `Authorization` by scope.
    tokens: Mutex<HashMap<String, String>>,
}

/// One repository of a registry.
#[derive(Clone)]
pub struct Repository {
    registry: Registry,
    name: String,
    write: bool,
}

/// A blob on its way, in pieces.
pub type Chunks = mpsc::Receiver<Result<Bytes, Error>>;

/// What a registry, or the way to it, can do wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request failed.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// It is not there, or not for us to see.
    #[error("{0}: not found")]
    NotFound(String),
    /// Credentials are missing or wrong.
    #[error("{0}: not allowed with the credentials there are")]
    Unauthorized(String),
    /// A token that ran out while a body was sent.
    #[error("{0}: the token ran out")]
    TokenExpired(String),
    /// Something else than a registry answers.
    #[error("{0}: no registry answers here")]
    NotARegistry(Url),
    /// It does not speak TLS, or nobody vouches for its certificate.
    #[error("{host}: no trusted connection")]
    Tls {
        /// The registry.
        host: String,
        /// What is wrong.
        source: Box<http::Error>,
    },
    /// An answer without what the protocol promises.
    #[error("{url}: {problem}")]
    Protocol {
        /// What was asked.
        url: Url,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The content is not what its name says.
    #[error("{place}: expected {expected}, found {found}")]
    Mismatch {
        /// Where it came from.
        place: String,
        /// Digest or size as announced.
        expected: String,
        /// As it is.
        found: String,
    },
    /// A digest that is none.
    #[error("{0}")]
    Digest(#[from] digest::Error),
    /// Credentials that cannot be read.
    #[error("{0}")]
    Auth(#[from] auth::Error),
    /// A document that does not parse, or the layout at the other end.
    #[error("{0}")]
    Layout(#[from] layout::Error),
    /// What is read from the disk.
    #[error("{0}")]
    Store(#[from] crate::image::store::Error),
    /// The disk, while something was on its way.
    #[error("cannot read what is to be sent")]
    Io(#[from] std::io::Error),
    /// The platforms that were asked for are not in the index.
    #[error("no image for {0} in it")]
    NoPlatform(String),
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            Error::TokenExpired(_) => Verdict::Again { after: None },
            _ => Verdict::Permanent,
        }
    }
}

impl Registry {
    /// Finds out how a registry wants to be spoken to. Without `tls`, plain HTTP will do where HTTPS does not answer.
    pub async fn connect(http: &Http, host: &str, tls: bool, auth: &AuthFiles) -> Result<Self, Error> {
        // Docker's own hub has its API under another name.
        let api = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let schemes: &[&str] = if tls { &["https"] } else { &["https", "http"] };
        let mut failed = None;
        for scheme in schemes {
            let base: Url = format!("{scheme}://{api}/v2/")
                .parse()
                .map_err(|_| Error::NotFound(format!("{host}: not the name of a registry")))?;
            let attempt = async || {
                let response = http.send(http.get(&base)).await?;
                if matches!(response.status().as_u16(), 429 | 500 | 502 | 503 | 504) {
                    return Err(http::Error::status(response).await);
                }
                Ok(response)
            };
            // Whether a port speaks TLS is found out once; a name that does not answer may be tried again.
            let answer =
                if schemes.len() > 1 && *scheme == "https" { attempt().await } else { http.retry().run(attempt).await };
            match answer {
                Ok(response) if matches!(response.status().as_u16(), 200 | 401 | 403) => {
                    let (http, host, auth) = (http.clone(), host.to_owned(), auth.clone());
                    return Ok(Registry(Arc::new(Inner { http, host, base, auth, tokens: Mutex::default() })));
                }
                Ok(_) => failed = Some(Error::NotARegistry(base)),
                Err(error) if error.is_tls() && tls => {
                    failed = Some(Error::Tls { host: host.to_owned(), source: Box::new(error) });
                }
                Err(error) => failed = Some(error.into()),
            }
        }
        Err(failed.expect("at least one scheme was tried"))
    }

    /// Its name in references.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// A repository, to be read or to be written, too.
    pub fn repository(&self, name: &str, write: bool) -> Repository {
        Repository { registry: self.clone(), name: name.to_owned(), write }
    }

    /// Sends a request with what is known to open the scope, and if that is refused, asks for more and tries again.
    async fn send(&self, scope: &Scope<'_>, build: impl Fn() -> RequestBuilder) -> Result<Response, Error> {
        let response = self.0.http.send(self.authorized(scope, build())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.permitted(scope, response);
        }
        let challenge = challenge(response.headers());
        let authorization = self.authorization(scope, challenge).await?;
        self.0.tokens.lock().expect("no holder panics").insert(scope.key(), authorization);
        let response = self.0.http.send(self.authorized(scope, build())).await?;
        self.permitted(scope, response)
    }

    fn permitted(&self, scope: &Scope<'_>, response: Response) -> Result<Response, Error> {
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Error::Unauthorized(format!("{}/{}", self.0.host, scope.repository)))
            }
            _ => Ok(response),
        }
    }

    fn authorized(&self, scope: &Scope<'_>, request: RequestBuilder) -> RequestBuilder {
        match self.0.tokens.lock().expect("no holder panics").get(&scope.key()) {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    /// What to put into `Authorization`, by the registry's challenge.
    async fn authorization(&self, scope: &Scope<'_>, challenge: Option<Challenge>) -> Result<String, Error> {
        let refused = || Error::Unauthorized(format!("{}/{}", self.0.host, scope.repository));
        let login = self.0.auth.login(&self.0.host, scope.repository)?;
        let (realm, service) = match challenge {
            None => return Err(refused()),
            Some(Challenge::Basic) => {
                let Login::Basic { user, password } = login else { return Err(refused()) };
                return Ok(basic(&user, &password));
            }
            Some(Challenge::Bearer { realm, service }) => (realm, service),
        };
        let mut url: Url = realm.parse().map_err(|_| refused())?;
        // A registry over TLS has no reason to send a password elsewhere without.
        if url.scheme() != "https" && self.0.base.scheme() == "https" {
            let problem = format!("names a token service without TLS: {url}");
            return Err(Error::Protocol { url: self.0.base.clone(), problem });
        }
        let wanted = scope.text();
        let attempt = || async {
            let request = match &login {
                Login::Identity(token) => {
                    let mut form = url::form_urlencoded::Serializer::new(String::new());
                    form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token);
                    form.append_pair("client_id", "haversack").append_pair("scope", &wanted);
                    form.extend_pairs(service.iter().map(|service| ("service", service)));
                    let client = self.0.http.client();
                    let request = client.post(url.clone()).body(form.finish());
                    request.header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                }
                other => {
                    let mut url = url.clone();
                    url.query_pairs_mut().extend_pairs(service.iter().map(|service| ("service", service)));
                    url.query_pairs_mut().append_pair("scope", &wanted);
                    let request = self.0.http.get(&url);
                    match other {
                        Login::Basic { user, password } => request.header(AUTHORIZATION, basic(user, password)),
                        _ => request,
                    }
                }
            };
            let response = self.0.http.send(request).await?;
            match response.status() {
                StatusCode::OK => Ok(http::read_limited(response, 1 << 20).await?),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(refused()),
                _ => Err(http::Error::status(response).await.into()),
            }
        };
        let body = again(self.0.http.retry(), attempt).await?;
        url.set_query(None);
        let token: Token = serde_json::from_slice(&body)
            .map_err(|_| Error::Protocol { url, problem: "the token service gave no token".into() })?;
        let token = token.token.or(token.access_token).ok_or_else(refused)?;
        Ok(format!("Bearer {token}"))
    }
}

impl Repository {
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

/// [`http::Retry::run`] for what is spawned: the compiler cannot yet show that an `AsyncFn`'s future may move to
/// another thread.
async fn again<T, F>(retry: http::Retry, attempt: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut tries = 0;
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Verdict::Again { after } = error.verdict() else { return Err(error) };
        if tries == retry.retries {
            return Err(error);
        }
        let wait = retry.wait(tries, after);
        tries += 1;
        tracing::warn!("{error}; trying again in {:.1} s ({tries} of {})", wait.as_secs_f64(), retry.retries);
        tokio::time::sleep(wait).await;
    }
}

/// What a request needs to be allowed.
struct Scope<'a> {
    repository: &'a str,
    write: bool,
}

impl Scope<'_> {
    fn text(&self) -> String {
        format!("repository:{}:{}", self.repository, if self.write { "pull,push" } else { "pull" })
    }

    fn key(&self) -> String {
        self.text()
    }
}

enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct MediaTypeOnly {
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
}

/// The first challenge that we can answer (RFC 9110, 11.6.1), of which Bearer is better.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let texts: Vec<&str> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|text| text.to_str().ok()).collect();
    let starts = |text: &str, scheme: &str| text.get(..scheme.len()).is_some_and(|it| it.eq_ignore_ascii_case(scheme));
    for text in &texts {
        if starts(text, "bearer ") {
            let realm = parameter(text, "realm")?;
            return Some(Challenge::Bearer { realm, service: parameter(text, "service") });
        }
    }
    texts.iter().any(|text| starts(text, "basic")).then_some(Challenge::Basic)
}

fn parameter(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("{name}=\""))?;
    Some(rest.split_once('"')?.0.to_owned())
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
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
const CHUNKS_AHEAD: usize = 16;
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
     */*;q=0.1";
