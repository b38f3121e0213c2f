//! The files of a layer, with `--layer-files`: what its tar says, a page at a time.
//!
//! A compressed tar has no index, so each page is read from the layer's start: as much as a node's pull costs and more. That is why
//! it is an option, why few are read at a time, and why it ends after so many bytes.

use std::sync::Arc;

use askama::Template;
use hyper::StatusCode;
use serde::Serialize;
use tokio::sync::Semaphore;

use crate::causes;
use crate::digest::Digest;
use crate::escape::in_line;
use crate::progress::{Unit, amount};
use crate::serve::answer::{Answer, Refusal};
use crate::serve::layer;
use crate::serve::page::{Frame, Page, html, json};
use crate::serve::request::Request;
use crate::serve::store::Store;

#[derive(Template)]
#[template(path = "files.html")]
struct Shown<'a> {
    frame: Frame<'a>,
    name: &'a str,
    manifest: Digest,
    layer: Digest,
    query: &'a str,
    listing: Listing,
    /// The query of the next page.
    next: Option<String>,
}

/// A page of entries, in the order of the tar.
#[derive(Default, Serialize)]
struct Listing {
    files: Vec<File>,
    /// The number to ask for the next page with, if there is one.
    next: Option<usize>,
    /// Why it ends before the layer does.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<String>,
}

#[derive(Serialize)]
struct File {
    path: String,
    /// `file`, `directory`, `link`, `hard link`, `whiteout` or `special`.
    kind: &'static str,
    /// Where a link leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Permissions as `ls` and `chmod` have them: `0755`.
    mode: String,
    /// `USER:GROUP` as numbers.
    owner: String,
    /// Bytes.
    size: u64,
    /// When it was changed, RFC 3339.
    modified: String,
}

impl File {
    fn size_text(&self) -> String {
        if self.kind == "file" { amount(self.size, Unit::Bytes) } else { String::new() }
    }
}

/// What limits such questions.
pub(super) struct Reading(Semaphore);

impl Default for Reading {
    fn default() -> Self {
        Reading(Semaphore::new(AT_ONCE))
    }
}

/// The page of a layer of an image that is in the repository `name`.
pub(super) async fn answer(
    page: &Arc<Page>,
    request: &Request,
    name: &str,
    manifest: Digest,
    layer: Digest,
    is_json: bool,
) -> Result<Answer, Refusal> {
    let unknown = |words: String| Refusal::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", words);
    if !page.shown.layer_files {
        return Err(unknown("this server does not look into layers (`serve --layer-files`)".to_owned()));
    }
    let view = request.view(&page.store).await?;
    let is_there = view.repositories.get(name).is_some_and(|repository| repository.manifests.contains(&manifest));
    let document = view.documents.get(&manifest).and_then(|it| it.as_ref().ok()).filter(|_| is_there);
    if !document.is_some_and(|it| it.blobs.iter().any(|part| part.digest == layer)) {
        return Err(unknown(format!("{name}@{manifest} has no layer {layer}")));
    }
    let query = request.one("q").unwrap_or_default();
    let from = request.one("last").map_or(Some(0), |text| text.parse().ok());
    let from: usize = from.ok_or_else(|| Refusal::bad("UNSUPPORTED", "`last` is not a number"))?;
    let _turn = page.reading.0.acquire().await.expect("it is never closed");
    let (store, of, wanted) = (page.store.clone(), layer.clone(), query.to_owned());
    let listing = super::blocking(move || list(&store, &of, &wanted, from)).await?;
    let listing = listing.map_err(|error| unknown(in_line(causes::line(&error))))?;
    if is_json {
        return Ok(json(&listing));
    }
    let next = listing.next.map(|next| {
        let mut further = url::form_urlencoded::Serializer::new(String::new());
        further.append_pair("last", &next.to_string());
        if !query.is_empty() {
            further.append_pair("q", query);
        }
        further.finish()
    });
    html(&Shown { frame: page.frame(request), name, manifest, layer, query, listing, next })
}

/// Entries from a number on whose paths hold the text. What cannot be read any further ends the list, with the reason in it.
fn list(store: &Arc<Store>, layer: &Digest, wanted: &str, from: usize) -> Result<Listing, layer::Error> {
    let mut tar = layer::open(store, layer, MOST)?;
    let unreadable = |source| layer::Error::Read { digest: layer.clone(), source };
    let mut listing = Listing::default();
    for (number, entry) in tar.entries().map_err(unreadable)?.enumerate() {
        let file = match entry.and_then(|entry| file(&entry)) {
            Ok(file) => file,
            // A first entry that is none: it is no tar at all.
            Err(error) if number == 0 => return Err(unreadable(error)),
            Err(error) => {
                listing.ends = Some(in_line(error));
                break;
            }
        };
        if number < from || !file.path.contains(wanted) {
            continue;
        }
        if listing.files.len() == LENGTH {
            listing.next = Some(number);
            break;
        }
        listing.files.push(file);
    }
    Ok(listing)
}

fn file<R: std::io::Read>(entry: &tar::Entry<'_, R>) -> std::io::Result<File> {
    let (header, path) = (entry.header(), entry.path()?);
    let kind = header.entry_type();
    let is_whiteout = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".wh."));
    let kind = match () {
        () if is_whiteout => "whiteout",
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "link",
        () if kind.is_hard_link() => "hard link",
        () if kind.is_file() => "file",
        () => "special",
    };
    // Some archivers leave numbers out that are 0.
    let modified = header.mtime().unwrap_or_default().try_into().unwrap_or_default();
    Ok(File {
        path: in_line(path.display()),
        kind,
        target: entry.link_name()?.map(|target| in_line(target.display())),
        mode: format!("{:04o}", header.mode().unwrap_or_default() & 0o7777),
        owner: format!("{}:{}", header.uid().unwrap_or_default(), header.gid().unwrap_or_default()),
        size: entry.size(),
        modified: jiff::Timestamp::from_second(modified).unwrap_or_default().to_string(),
    })
}

/// Entries of a page.
const LENGTH: usize = 500;
/// Layers that are read at one time.
const AT_ONCE: usize = 2;
/// Bytes of tar that are read for one page.
const MOST: u64 = 4 << 30;
