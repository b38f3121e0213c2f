//! One repository of a registry: its manifests, its blobs, and what refers to them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use oci_spec::image::{Descriptor, MediaType};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, LINK, RANGE};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::digest::{self, Digest, Hasher};
use crate::http;
use crate::image::manifest;
use crate::image::store::layout;
use crate::limits;
use crate::reference::{self, Remote, Tag, Target};
use crate::registry::auth::token::Scope;
use crate::registry::client::{Error, Registry, again};
use crate::registry::lists::{Listed, next_page};

/// One repository of a registry.
#[derive(Clone)]
pub struct Repository {
    pub(super) registry: Registry,
    pub(super) name: String,
    write: bool,
}

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
        let known = |digest: &str| format!("{}@{digest}", self.name);
        if let Some(known) = self.registry.0.recent.lock().expect("no holder panics").remove(&known(target)) {
            return Ok(known);
        }
        let url = self.url(&format!("manifests/{target}"));
        let response = self.get(&url, target, |request| request.header(ACCEPT, ACCEPT_MANIFESTS)).await?;
        let announced = announced(response.headers());
        let media_type = header(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
        let bytes = http::read_limited(response, layout::DOCUMENT_LIMIT).await?;
        let inside = serde_json::from_slice::<Inside>(&bytes);
        let Ok(inside) = inside else { return Err(Error::NotARegistry(url)) };
        let media_type = inside.media_type(media_type.split(';').next().unwrap_or_default().trim());
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
        let described = layout::descriptor(MediaType::from(media_type.as_str()), &found, bytes.len() as u64);
        if found.as_str() != target {
            let mut recent = self.registry.0.recent.lock().expect("no holder panics");
            if recent.len() == RECENT {
                recent.clear();
            }
            recent.insert(known(found.as_str()), (described.clone(), bytes.clone()));
        }
        Ok((described, bytes))
    }

    /// The digest of what a tag or digest names, without reading it.
    pub async fn digest_of(&self, target: &str) -> Result<Option<Digest>, Error> {
        let url = self.url(&format!("manifests/{target}"));
        let head = || self.client().request(Method::HEAD, url.clone()).header(ACCEPT, ACCEPT_MANIFESTS);
        let response = self.retried(head).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            // Some answer nothing but GET.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => match self.document(target).await {
                Ok((described, _)) => Ok(Some(layout::digest_of(&described)?)),
                Err(Error::NotFound(_)) => Ok(None),
                Err(error) => Err(error),
            },
            StatusCode::OK => {
                match announced(response.headers()).and_then(|text| text.parse().ok()).or_else(|| target.parse().ok()) {
                    Some(digest) => Ok(Some(digest)),
                    // Not all registries say so, and what is there must not count as missing.
                    None => Ok(Some(layout::digest_of(&self.document(target).await?.0)?)),
                }
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
            // One byte says so, too.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                let first = |request: RequestBuilder| request.header(RANGE, "bytes=0-0");
                match self.get(&url, digest.as_str(), first).await {
                    Ok(_) => Ok(true),
                    Err(Error::NotFound(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            }
            _ => Err(http::Error::status(response).await.into()),
        }
    }

    /// Reads a small blob whole, its digest checked.
    pub async fn small_blob(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        if described.size() > layout::DOCUMENT_LIMIT {
            let (name, size) = (described.digest().to_string(), described.size());
            return Err(layout::Error::TooLarge { name, size, limit: layout::DOCUMENT_LIMIT }.into());
        }
        let mut chunks = self.blob(described, 0);
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

    /// All its tags, in the registry's order, from however many pages.
    pub async fn tags(&self) -> Result<Listed<Tag>, Error> {
        let what = || format!("{}/{}", self.registry.0.host, self.name);
        let mut url = self.url("tags/list");
        url.set_query(Some("n=1000"));
        let listed: Listed<Tag> = self.registry.pages(&self.scope(), url, what, |page: TagPage| page.tags).await?;
        let names = listed.names.iter().map(Tag::to_string).collect();
        let mut known = self.registry.0.tags.lock().expect("no holder panics");
        known.insert(self.name.clone(), Arc::new(names));
        drop(known);
        Ok(listed)
    }

    /// Whether the list of tags, where it was read in this run, has this one not: one that is asked for of each image need not be,
    /// then.
    pub(super) fn is_not_listed(&self, tag: &str) -> bool {
        let known = self.registry.0.tags.lock().expect("no holder panics");
        known.get(&self.name).is_some_and(|tags| !tags.contains(tag))
    }

    /// Writes a manifest or an index under a tag or its digest. Returns whether the registry lists it as a referrer.
    pub async fn put_document(&self, target: &str, media_type: &MediaType, bytes: &[u8]) -> Result<bool, Error> {
        let url = self.url(&format!("manifests/{target}"));
        let body = Bytes::copy_from_slice(bytes);
        let put = || {
            let request = self.client().put(url.clone()).header(CONTENT_TYPE, media_type.as_ref());
            request.body(body.clone())
        };
        let attempt = || async {
            let response = self.registry.send(&self.scope(), &put).await?;
            match response.status() {
                StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => {
                    Ok(response.headers().contains_key("oci-subject"))
                }
                StatusCode::BAD_REQUEST => Err(refusal(http::Error::status(response).await)),
                _ => Err(http::Error::status(response).await.into()),
            }
        };
        again(self.registry.0.http.retry(), attempt).await
    }

    /// Deletes a manifest by its digest, with all tags that name it, or a tag alone where `target` is one and the registry can.
    pub async fn delete(&self, target: &str) -> Result<(), Error> {
        let url = self.url(&format!("manifests/{target}"));
        // Token services have no common word for it; `*` is what skopeo asks for.
        let scope = Scope { actions: "*", ..self.scope() };
        let response = self.retried_as(&scope, || self.client().delete(url.clone())).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND => Err(Error::NotFound(self.place(target))),
            // Distribution takes a tag for a digest that is wrong.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => Err(match target.parse::<Digest>() {
                Ok(_) => Error::NoDelete(self.place(target)),
                Err(_) => Error::NoTagDelete { place: self.place(target), others: None },
            }),
            _ => Err(http::Error::status(response).await.into()),
        }
    }

    /// What the registry lists as referring to a digest, from however many pages; `None` when it has no such list to
    /// give.
    pub async fn referrers(&self, digest: &Digest) -> Result<Option<Vec<Descriptor>>, Error> {
        if self.registry.0.lists_none.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut url = self.url(&format!("referrers/{digest}"));
        let mut seen = HashSet::from([url.clone()]);
        let mut found = Vec::new();
        for page in 0..limits::REFERRER_PAGES {
            let response = self.retried(|| self.client().get(url.clone())).await?;
            let index = header(response.headers(), CONTENT_TYPE.as_str())
                .is_some_and(|media_type| media_type.starts_with(MediaType::ImageIndex.as_ref()));
            // Who has such lists answers with an empty one (distribution-spec 1.1, "Listing Referrers"), or says what is unknown.
            if page == 0 && response.status() == StatusCode::NOT_FOUND {
                let has_code = matches!(http::Error::status(response).await, http::Error::Status { code: Some(_), .. });
                self.registry.0.lists_none.fetch_or(!has_code, Ordering::Relaxed);
                return Ok(None);
            }
            if response.status() != StatusCode::OK || !index {
                // Without the rest, signatures would be left behind and nobody would know.
                return if page == 0 { Ok(None) } else { Err(http::Error::status(response).await.into()) };
            }
            let next = header(response.headers(), LINK.as_str()).and_then(|link| next_page(&url, &link));
            let bytes = http::read_limited(response, layout::DOCUMENT_LIMIT).await?;
            let listed: ReferrerPage = layout::parse(&http::shown(&url), &bytes)?;
            found.extend(listed.manifests.unwrap_or_default());
            match next {
                None => return Ok(Some(found)),
                Some(next) if next.origin() == url.origin() && seen.insert(next.clone()) => url = next,
                Some(next) => {
                    let problem = format!("names a next page that cannot be: {}", http::shown(&next));
                    return Err(Error::Protocol { url, problem });
                }
            }
        }
        let pages = limits::REFERRER_PAGES;
        Err(Error::Protocol { url, problem: format!("lists more than {pages} pages of referrers") })
    }

    pub(super) async fn get(
        &self,
        url: &Url,
        what: &str,
        complete: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        // What is known by its digest must arrive as it is: some servers compress, and some decompress layers.
        let plain = || self.registry.0.http.get(url).header(ACCEPT_ENCODING, "identity");
        let response = self.retried(|| complete(plain())).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(Error::NotFound(self.place(what))),
            _ => Err(http::Error::status(response).await.into()),
        }
    }

    /// Sends a request that may be repeated, and repeats it when that can help.
    pub(super) async fn retried(&self, build: impl Fn() -> RequestBuilder) -> Result<Response, Error> {
        self.retried_as(&self.scope(), build).await
    }

    /// The same, with the permissions of another scope.
    pub(super) async fn retried_as(
        &self,
        scope: &Scope<'_>,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Response, Error> {
        let attempt = || async {
            let response = self.registry.send(scope, &build).await?;
            if matches!(response.status().as_u16(), 408 | 429 | 500 | 502 | 503 | 504) {
                return Err(Error::from(http::Error::status(response).await));
            }
            Ok(response)
        };
        again(self.registry.0.http.retry(), attempt).await
    }

    pub(super) fn client(&self) -> &reqwest::Client {
        self.registry.0.http.client()
    }

    pub(super) fn scope(&self) -> Scope<'_> {
        Scope { repository: &self.name, actions: if self.write { "pull,push" } else { "pull" }, from: None }
    }

    /// The URL of something in the repository: `manifests/TAG`, `blobs/DIGEST`.
    #[expect(clippy::disallowed_methods, reason = "a slash behind parts that are encoded")]
    pub(super) fn url(&self, path: &str) -> Url {
        let of_hub = self.registry.0.host == "docker.io" && !self.name.contains('/');
        let parts = of_hub.then_some("library").into_iter().chain(self.name.split('/')).chain(path.split('/'));
        // What would lead elsewhere is dropped: names, tags and digests were checked when they came in.
        let mut url =
            reference::url_below(&self.registry.0.base, parts.filter(|part| !matches!(*part, "" | "." | "..")))
                .expect("what it refuses is left out, and a registry's address has a path");
        if path.ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        url
    }

    pub(super) fn place(&self, what: &str) -> String {
        let separator = if what.contains(':') { '@' } else { ':' };
        format!("{}/{}{separator}{what}", self.registry.0.host, self.name)
    }
}

/// What a document says of its type, in a word or by what it has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inside {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    schema_version: Option<u32>,
}

impl Inside {
    /// The type of the document. What the registry calls it counts where that can be: some say `text/plain`.
    fn media_type(self, called: &str) -> String {
        let known = |media_type: &str| {
            let media_type = MediaType::from(media_type);
            manifest::is_index(&media_type) || manifest::is_manifest(&media_type)
        };
        let by_members = || match self {
            Inside { schema_version: Some(1), .. } => None,
            Inside { manifests: Some(_), .. } => Some(MediaType::ImageIndex.to_string()),
            Inside { config: Some(_), .. } | Inside { layers: Some(_), .. } => {
                Some(MediaType::ImageManifest.to_string())
            }
            _ => None,
        };
        match self.media_type {
            Some(own) if !own.is_empty() => own,
            _ if known(called) => called.to_owned(),
            _ => by_members().unwrap_or_else(|| called.to_owned()),
        }
    }
}

/// `Docker-Content-Digest`, which some send empty and some in quotes.
pub(super) fn announced(headers: &HeaderMap) -> Option<String> {
    let text = header(headers, "docker-content-digest")?;
    let text = text.trim().trim_matches('"');
    (!text.is_empty()).then(|| text.to_owned())
}

#[derive(Deserialize)]
struct TagPage {
    // Some registries have `null` for none.
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ReferrerPage {
    // Some registries have `null` for none.
    manifests: Option<Vec<Descriptor>>,
}

/// Distribution before 3.0 empties the file by which a repository knows a blob before it writes it again. A manifest
/// that arrives while another client brings the same blob is refused with `DIGEST_INVALID`, and taken a moment later.
fn refusal(error: http::Error) -> Error {
    match &error {
        http::Error::Status { code, .. } if code.as_deref() == Some("DIGEST_INVALID") => Error::NotItsDigest(error),
        _ => error.into(),
    }
}

pub(super) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Documents kept at one time, each of at most 4 MiB and most of a few KiB.
const RECENT: usize = 4;
const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
     */*;q=0.1";
