//! Manifests that are pushed and deleted.

use std::collections::HashSet;
use std::io::Write;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use crate::digest::{Algorithm, Digest, Hasher};
use crate::fs::PathContext;
use crate::image::store::layout::{self, DOCUMENT_LIMIT};
use crate::reference::is_tag;
use crate::serve::answer::{self, Answer, Refusal, set};
use crate::serve::change::{Change, Put};
use crate::serve::document::{Document, is_document};
use crate::serve::names;
use crate::serve::push::{Writer, created, location, not_written};
use crate::serve::request::Request;
use crate::serve::route::{self, Reference};
use crate::serve::view::View;

impl Writer {
    /// `PUT /v2/NAME/manifests/REFERENCE`, with further tags as `?tag=`.
    pub(super) async fn put_manifest(
        &self,
        request: &Request,
        name: &str,
        reference: &str,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        let reference = route::reference(reference)?;
        let more: Vec<String> = request.all("tag").map(str::to_owned).collect();
        if let Some(tag) = more.iter().find(|tag| !is_tag(tag)) {
            return Err(Refusal::bad("MANIFEST_INVALID", format!("`tag={tag}` is no tag")));
        }
        if more.len() > TAGS {
            return Err(Refusal::bad("MANIFEST_INVALID", format!("more than {TAGS} tags at one time")));
        }
        let bytes = self.document(body).await?;
        let algorithm = match &reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let mut hasher = Hasher::new(algorithm);
        hasher.update(&bytes);
        let digest = hasher.finish();
        if let Reference::Digest(expected) = &reference
            && *expected != digest
        {
            let words = format!("the manifest's digest is {digest}, not {expected}");
            return Err(Refusal::bad("DIGEST_INVALID", words));
        }
        let document = parse(request, &digest, &bytes)?;
        let repository = self.repository(request, name).await?;
        let _lease = self.lease().await;
        let view = request.view(&self.store).await?;
        self.needs(&view, &repository, &document)?;
        self.keep(algorithm, bytes).await?;
        let tags = match &reference {
            Reference::Tag(tag) => std::iter::once(tag.clone()).chain(more.iter().cloned()).collect(),
            Reference::Digest(_) => more.clone(),
        };
        let is_image = document.artifact_type.as_deref().is_none_or(|kind| CONFIGS.contains(&kind));
        let there = view.repositories.get(&repository.key);
        self.change(Change::Put(Put {
            is_known: there.is_some_and(|it| it.manifests.contains(&digest)),
            below: below(&view, &document),
            repository,
            digest: digest.clone(),
            size: document.size,
            media_type: document.media_type.clone(),
            artifact_type: document.artifact_type.clone().filter(|_| !is_image),
            tags,
        }))
        .await?;
        let at = match &reference {
            Reference::Tag(tag) => tag.clone(),
            Reference::Digest(digest) => digest.to_string(),
        };
        let mut answer = created(&location(format!("/v2/{name}/manifests/{at}"), request), &digest);
        if let Some(subject) = &document.subject {
            set(&mut answer, SUBJECT, subject.as_str());
        }
        for tag in &more {
            answer.headers_mut().append(TAG, HeaderValue::from_str(tag).expect("tags are letters and digits"));
        }
        Ok(answer)
    }

    /// `DELETE /v2/NAME/manifests/REFERENCE`
    pub(super) async fn delete_manifest(
        &self,
        request: &Request,
        name: &str,
        reference: &str,
    ) -> Result<Answer, Refusal> {
        let reference = route::reference(reference)?;
        let repository = self.repository(request, name).await?;
        let view = request.view(&self.store).await?;
        let there = view.repositories.get(&repository.key);
        let change = match reference {
            Reference::Tag(tag) => {
                if !there.is_some_and(|it| it.tags.contains_key(&tag) || it.conflicts.contains_key(&tag)) {
                    return Err(Refusal::manifest_unknown(format!("{name} has no tag {tag}")));
                }
                Change::DeleteTag { repository, tag }
            }
            Reference::Digest(digest) => {
                let Some(there) = there.filter(|it| it.manifests.contains(&digest)) else {
                    return Err(Refusal::manifest_unknown(format!("{name} has no manifest {digest}")));
                };
                let lists = |parent: &&Digest| {
                    let Some(Ok(parent)) = view.documents.get(parent) else { return false };
                    parent.manifests.iter().any(|part| part.digest == digest)
                };
                if let Some(parent) = there.manifests.iter().find(lists) {
                    let words = format!("{digest} is a part of {name}@{parent}: delete that first");
                    return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "DENIED", words));
                }
                Change::DeleteManifest { repository, digest }
            }
        };
        self.change(change).await?;
        Ok(answer::empty(StatusCode::ACCEPTED))
    }

    /// Reads a body that may not be larger than documents are.
    async fn document(&self, mut body: Incoming) -> Result<Vec<u8>, Refusal> {
        let too_large = || {
            let words = format!("a manifest has at most {DOCUMENT_LIMIT} bytes here, as with those who read it");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", words)
        };
        if body.size_hint().lower() > DOCUMENT_LIMIT {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        loop {
            let frame = match tokio::time::timeout(self.idle, body.frame()).await {
                Ok(None) => return Ok(bytes),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    return Err(Refusal::bad("MANIFEST_INVALID", format!("the body broke off: {error}")));
                }
                Err(_) => {
                    let words = format!("nothing arrived for {} seconds", self.idle.as_secs());
                    return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "MANIFEST_INVALID", words));
                }
            };
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() as u64 > DOCUMENT_LIMIT {
                return Err(too_large());
            }
        }
    }

    /// Whether everything that a manifest needs is in its repository. What is in another one only is not: who may push here
    /// could get at the blobs of repositories that he may not read (CVE-2024-39897).
    fn needs(&self, view: &View, repository: &names::Repository, document: &Document) -> Result<(), Refusal> {
        let there = view.repositories.get(&repository.key);
        let lacks = |what: &str, digest: &Digest, why: &str| {
            let words = format!("{what} {digest} {why}; push it to {} first", repository.key);
            Err(Refusal::bad("MANIFEST_BLOB_UNKNOWN", words))
        };
        for part in document.blobs.iter().filter(|part| !part.is_foreign) {
            let is_needed = there.is_some_and(|it| it.blobs.contains(&part.digest));
            if !is_needed && !self.is_member(&repository.key, &part.digest) {
                return lacks("blob", &part.digest, "is not in this repository");
            }
            if let Err(bad) = self.store.check(part) {
                return lacks("blob", &part.digest, &bad.why);
            }
        }
        for part in &document.manifests {
            match view.documents.get(&part.digest) {
                _ if !there.is_some_and(|it| it.manifests.contains(&part.digest)) => {
                    return lacks("manifest", &part.digest, "is not in this repository");
                }
                Some(Ok(child)) if child.size == part.size => {}
                Some(Ok(_)) => return lacks("manifest", &part.digest, "has another size"),
                Some(Err(why)) => return lacks("manifest", &part.digest, &format!("is of no use ({why})")),
                None => return lacks("manifest", &part.digest, "is not there"),
            }
        }
        Ok(())
    }

    async fn keep(&self, algorithm: Algorithm, bytes: Vec<u8>) -> Result<(), Refusal> {
        let store = self.store.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let layout = &store.sources[0].layout;
            let mut blob = layout.blob_writer(algorithm)?;
            blob.write_all(&bytes).at("write", layout.root())?;
            blob.finish()?;
            Ok::<_, layout::Error>(())
        });
        kept.await.map_err(|error| Refusal::internal(error.to_string()))?.map_err(|error| not_written(&error))
    }
}

fn parse(request: &Request, digest: &Digest, bytes: &[u8]) -> Result<Document, Refusal> {
    let invalid = |words: String| Refusal::bad("MANIFEST_INVALID", words);
    let sent = request.header(CONTENT_TYPE).unwrap_or_default();
    let sent = sent.split(';').next().unwrap_or_default().trim();
    let document = Document::parse(digest.clone(), bytes, sent).map_err(invalid)?;
    if !sent.is_empty() && sent != document.media_type {
        // Two readers could take it for two things (CVE-2021-41190).
        return Err(invalid(format!("it was sent as {sent} and says that it is {}", document.media_type)));
    }
    if !is_document(&document.media_type) {
        return Err(invalid(format!("`{}` is no type of manifest or index that is known here", document.media_type)));
    }
    Ok(document)
}

/// Everything that a document lists, however deep.
fn below(view: &View, document: &Document) -> HashSet<Digest> {
    let mut below = HashSet::new();
    let mut waiting: Vec<&Digest> = document.manifests.iter().map(|part| &part.digest).collect();
    while let Some(digest) = waiting.pop() {
        if below.insert(digest.clone())
            && let Some(Ok(child)) = view.documents.get(digest)
        {
            waiting.extend(child.manifests.iter().map(|part| &part.digest));
        }
    }
    below
}

/// Configurations of what is an image and no artifact.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Tags that one request may give (the specification asks for 10).
const TAGS: usize = 100;
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAG: HeaderName = HeaderName::from_static("oci-tag");
