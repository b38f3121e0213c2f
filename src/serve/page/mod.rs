//! The page for people, and the same as JSON: what is here, how large, from when, and whether it is whole.
//!
//! Rendered here and complete without a script; nothing is loaded from elsewhere, and the policy that is sent along lets nothing else
//! be. It reads the view and not the registry's own interface, and changes nothing: there is no form but for searching. What comes
//! from images is text, with what controls a terminal or the direction of reading spelled out.
//!
//! ```text
//! /                          repositories, a hundred at a time, ?q= for those with a text in their names
//! /images/REPOSITORY         its tags, a hundred at a time
//! /api/v1/repositories       the same as JSON
//! /api/v1/repositories/NAME
//! ```

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use askama::Template;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, REFERRER_POLICY};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs;
use crate::image::store::layout::DOCUMENT_LIMIT;
use crate::progress::{Unit, amount};
use crate::serve::answer::{self, Answer, JSON, Refusal, set};
use crate::serve::body::{Body, Part};
use crate::serve::document::Document;
use crate::serve::request::Request;
use crate::serve::store::Store;
use crate::serve::view::{Repository, View};

/// A repository in the list.
#[derive(Serialize)]
struct Row {
    name: String,
    tags: usize,
    manifests: usize,
}

/// A tag of a repository.
#[derive(Serialize)]
struct Tag {
    tag: String,
    digest: Digest,
    /// `linux/amd64`
    platforms: Vec<String>,
    /// Of everything that it needs, each blob once.
    size: u64,
    #[serde(skip)]
    size_text: String,
    /// As the image says, where it says so.
    created: Option<String>,
    /// What refers to it, by type. Nothing of it was verified.
    referrers: Vec<String>,
    /// What keeps it from being served.
    lacking: Vec<String>,
}

#[derive(Template)]
#[template(path = "repositories.html")]
struct Repositories<'a> {
    host: &'a str,
    version: &'static str,
    now: String,
    query: &'a str,
    total: usize,
    tags: usize,
    manifests: usize,
    bad: usize,
    damaged: Vec<Digest>,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "repository.html")]
struct OneRepository<'a> {
    host: &'a str,
    version: &'static str,
    now: String,
    name: &'a str,
    total: usize,
    tags: Vec<Tag>,
    last: Option<&'a str>,
    next: Option<String>,
}

/// What an image's configuration says of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Configuration {
    created: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
}

/// Answers for a path that is not the registry's; `None` where there is nothing.
pub(super) async fn answer(store: &Arc<Store>, request: &Request) -> Option<Result<Answer, Refusal>> {
    let path = request.path.as_str();
    let of_repository = path.strip_prefix("/images/").or_else(|| path.strip_prefix("/api/v1/repositories/"));
    Some(match path {
        "/style.css" => Ok(page(STYLE.to_owned(), "text/css; charset=utf-8")),
        "/" | "/api/v1/repositories" => repositories(store, request).await,
        _ => repository(store, request, of_repository?).await,
    })
}

async fn repositories(store: &Arc<Store>, request: &Request) -> Result<Answer, Refusal> {
    let view = request.view(store).await?;
    let query = request.one("q").unwrap_or_default();
    let (wanted, last) = (query.to_lowercase(), request.one("last").unwrap_or_default());
    let found = view
        .repositories
        .iter()
        .filter(|(name, _)| name.contains(&wanted) && (last.is_empty() || name.as_str() > last));
    let row = |(name, it): (&String, &Repository)| Row {
        name: name.clone(),
        tags: it.tags.len(),
        manifests: it.manifests.len(),
    };
    let mut rows: Vec<Row> = found.map(row).take(LENGTH + 1).collect();
    let next = (rows.len() > LENGTH).then(|| {
        rows.truncate(LENGTH);
        further(&rows[LENGTH - 1].name, query)
    });
    if request.path != "/" {
        return Ok(json(&serde_json::json!({ "repositories": rows, "next": next })));
    }
    let bad = view.documents.values().filter(|document| document.is_err()).count();
    html(&Repositories {
        host: request.header(HOST).unwrap_or_default(),
        version: VERSION,
        now: now(),
        query,
        total: view.repositories.len(),
        tags: view.repositories.values().map(|it| it.tags.len()).sum(),
        manifests: view.documents.len() - bad,
        bad,
        damaged: store.damaged().into_iter().map(|(_, digest, _)| digest).collect(),
        rows,
        next,
    })
}

async fn repository(store: &Arc<Store>, request: &Request, name: &str) -> Result<Answer, Refusal> {
    let view = request.view(store).await?;
    let Some(repository) = view.repositories.get(name) else {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            format!("no repository is called {}", in_line(name)),
        ));
    };
    let last = request.one("last");
    let after = repository.tags.iter().filter(|(tag, _)| last.is_none_or(|last| tag.as_str() > last));
    let mut found: Vec<(String, Digest)> = after.map(|(tag, it)| (tag.clone(), it.clone())).take(LENGTH + 1).collect();
    let next = (found.len() > LENGTH).then(|| {
        found.truncate(LENGTH);
        further(&found[LENGTH - 1].0, "")
    });
    let (looking, of, key) = (store.clone(), view.clone(), name.to_owned());
    // Configurations are read from the disk.
    let tags = tokio::task::spawn_blocking(move || {
        let repository = &of.repositories[&key];
        found.into_iter().map(|(tag, digest)| look(&looking, &of, repository, tag, digest)).collect::<Vec<_>>()
    });
    let tags = tags.await.map_err(|error| Refusal::internal(error.to_string()))?;
    if request.path.starts_with("/api/") {
        return Ok(json(&serde_json::json!({ "name": name, "tags": tags, "next": next })));
    }
    let total = repository.tags.len();
    let host = request.header(HOST).unwrap_or_default();
    html(&OneRepository { host, version: VERSION, now: now(), name, total, tags, last, next })
}

/// What there is to be said of a tag.
fn look(store: &Store, view: &View, repository: &Repository, tag: String, digest: Digest) -> Tag {
    let mut seen = Tag {
        tag,
        platforms: Vec::new(),
        size: 0,
        size_text: String::new(),
        created: None,
        referrers: Vec::new(),
        lacking: Vec::new(),
        digest,
    };
    let referrers = repository.referrers.get(&seen.digest).into_iter().flatten();
    let kinds: BTreeSet<String> = referrers
        .filter_map(|it| view.documents.get(it)?.as_ref().ok()?.artifact_type.as_deref().map(in_line))
        .collect();
    seen.referrers = kinds.into_iter().collect();
    match view.documents.get(&seen.digest) {
        Some(Ok(document)) => {
            seen.lacking = store.lacking(view, document).into_iter().map(in_line).collect();
            let (mut blobs, mut waiting, mut known) = (HashSet::new(), vec![document], HashSet::new());
            while let Some(document) = waiting.pop() {
                if !known.insert(&document.digest) {
                    continue;
                }
                seen.size += document.size;
                for part in document.blobs.iter().filter(|part| !part.is_foreign) {
                    if blobs.insert(&part.digest) {
                        seen.size = seen.size.saturating_add(part.size);
                    }
                }
                let configuration = configuration(store, document);
                if let (Some(os), Some(architecture)) = (configuration.os, configuration.architecture) {
                    let variant = configuration.variant.map(|variant| format!("/{variant}")).unwrap_or_default();
                    let platform = in_line(format_args!("{os}/{architecture}{variant}"));
                    // BuildKit's attestations are no platform.
                    seen.platforms.extend((platform != "unknown/unknown").then_some(platform));
                }
                seen.created = seen.created.or(configuration.created.map(in_line));
                waiting.extend(
                    document.manifests.iter().filter_map(|part| view.documents.get(&part.digest)?.as_ref().ok()),
                );
            }
        }
        Some(Err(why)) => seen.lacking.push(in_line(why)),
        None => seen.lacking.push("it is not there".to_owned()),
    }
    seen.platforms.sort();
    seen.size_text = amount(seen.size, Unit::Bytes);
    seen
}

fn configuration(store: &Store, document: &Document) -> Configuration {
    let part = document
        .blobs
        .first()
        .filter(|part| part.media_type.contains("config") || part.media_type.contains(".container.image."));
    let Some(part) = part.filter(|part| part.size <= CONFIGURATION) else { return Configuration::default() };
    let paths = store.sources.iter().map(|source| source.layout.blob_path(&part.digest));
    let bytes = paths.filter_map(|path| fs::read_regular(&path, DOCUMENT_LIMIT).ok());
    bytes
        .filter(|bytes| {
            let mut hasher = crate::digest::Hasher::new(part.digest.algorithm());
            hasher.update(bytes);
            hasher.finish() == part.digest
        })
        .find_map(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// The query of the next page.
fn further(last: &str, query: &str) -> String {
    let mut next = url::form_urlencoded::Serializer::new(String::new());
    next.append_pair("last", last);
    if !query.is_empty() {
        next.append_pair("q", query);
    }
    next.finish()
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

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const STYLE: &str = include_str!("style.css");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Rows of a page.
const LENGTH: usize = 100;
/// Larger ones are not read for a list.
const CONFIGURATION: u64 = 256 << 10;
