//! Repositories and their tags.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use askama::Template;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs;
use crate::image::store::layout::DOCUMENT_LIMIT;
use crate::progress::{Unit, amount};
use crate::serve::answer::{Answer, Refusal};
use crate::serve::document::Document;
use crate::serve::page::files;
use crate::serve::page::image::{self, Step, bars};
use crate::serve::page::picture::Picture;
use crate::serve::page::{Frame, Page, blocking, html, json};
use crate::serve::request::Request;
use crate::serve::route;
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
pub(super) struct Tag {
    tag: String,
    digest: Digest,
    /// `linux/amd64`
    platforms: Vec<String>,
    /// Of everything that it needs, each blob once.
    pub(super) size: u64,
    #[serde(skip)]
    size_text: String,
    /// As the image says, where it says so.
    pub(super) created: Option<String>,
    /// What refers to it, by type. Nothing of it was verified.
    referrers: Vec<String>,
    /// What keeps it from being served.
    pub(super) lacking: Vec<String>,
}

#[derive(Template)]
#[template(path = "repositories.html")]
struct Repositories<'a> {
    frame: Frame<'a>,
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
    frame: Frame<'a>,
    name: &'a str,
    total: usize,
    tags: Vec<Tag>,
    picture: Picture,
    last: Option<&'a str>,
    next: Option<String>,
}

/// What an image's configuration says of it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    created: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    pub(super) config: Option<RunConfiguration>,
    pub(super) history: Option<Vec<Step>>,
}

impl Configuration {
    /// `linux/arm64/v8`, where it says so.
    pub(super) fn platform(&self) -> Option<String> {
        let (os, architecture) = (self.os.as_ref()?, self.architecture.as_ref()?);
        let variant = self.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        Some(in_line(format_args!("{os}/{architecture}{variant}")))
    }
}

/// What it says for those who run it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RunConfiguration {
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// `NAME=VALUE`
    #[serde(rename = "Env")]
    pub(super) environment: Option<Vec<String>>,
}

pub(super) async fn all(page: &Page, request: &Request, is_json: bool) -> Result<Answer, Refusal> {
    let view = request.view(&page.store).await?;
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
    if is_json {
        return Ok(json(&serde_json::json!({ "repositories": rows, "next": next })));
    }
    let bad = view.documents.values().filter(|document| document.is_err()).count();
    html(&Repositories {
        frame: page.frame(request),
        query,
        total: view.repositories.len(),
        tags: view.repositories.values().map(|it| it.tags.len()).sum(),
        manifests: view.documents.len() - bad,
        bad,
        damaged: page.store.damaged().into_iter().map(|(_, digest, _)| digest).collect(),
        rows,
        next,
    })
}

pub(super) async fn one(page: &Arc<Page>, request: &Request, name: &str, is_json: bool) -> Result<Answer, Refusal> {
    if let Some((image, layer)) = name.rsplit_once("/layers/")
        && let Some((key, manifest)) = image.split_once('@')
    {
        let (manifest, layer) = (route::digest(manifest)?, route::digest(layer)?);
        return files::answer(page, request, key, manifest, layer, is_json).await;
    }
    let view = request.view(&page.store).await?;
    let Some(repository) = view.repositories.get(name) else {
        let split = name.split_once('@').or_else(|| name.rsplit_once(':'));
        if let Some((key, reference)) = split
            && let Some(repository) = view.repositories.get(key)
        {
            let digest = match name.contains('@') {
                true => reference.parse().ok(),
                false => repository.tags.get(reference).cloned(),
            };
            let words = || format!("{key} has nothing called {}", in_line(reference));
            let digest = digest.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", words()))?;
            return image::answer(page, request, view.clone(), key, digest, is_json).await;
        }
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
    let (looking, of, key) = (page.store.clone(), view.clone(), name.to_owned());
    // Configurations are read from the disk.
    let tags = blocking(move || {
        let repository = &of.repositories[&key];
        let tags: Vec<_> =
            found.into_iter().map(|(tag, digest)| look(&looking, &of, repository, tag, digest)).collect();
        let mut images = Vec::new();
        let mut drawn = HashSet::new();
        for tag in tags.iter().filter(|tag| drawn.insert(&tag.digest)) {
            if let Some(Ok(document)) = of.documents.get(&tag.digest).filter(|_| images.len() < BARS) {
                images.extend(bars(&looking, &of, document, &tag.tag));
            }
        }
        images.truncate(BARS);
        (tags, Picture::of(images))
    });
    let (tags, picture) = tags.await?;
    if is_json {
        return Ok(json(&serde_json::json!({ "name": name, "tags": tags, "layers": picture, "next": next })));
    }
    let total = repository.tags.len();
    html(&OneRepository { frame: page.frame(request), name, total, tags, picture, last, next })
}

/// What there is to be said of a tag.
pub(super) fn look(store: &Store, view: &View, repository: &Repository, tag: String, digest: Digest) -> Tag {
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
                // BuildKit's attestations are no platform.
                seen.platforms.extend(configuration.platform().filter(|platform| platform != "unknown/unknown"));
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

pub(super) fn configuration(store: &Store, document: &Document) -> Configuration {
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

/// Rows of a page.
const LENGTH: usize = 100;
/// Images of a picture.
const BARS: usize = 30;
/// Larger ones are not read for a list.
const CONFIGURATION: u64 = 256 << 10;
