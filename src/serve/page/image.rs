//! One image, list or artifact: what it is made of, what it shares, what is about it, and what to type to use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::escape::in_line;
use crate::progress::{Unit, amount};
use crate::serve::answer::{Answer, Refusal};
use crate::serve::document::Document;
use crate::serve::page::picture::{Bar, Picture};
use crate::serve::page::repositories::{self, configuration};
use crate::serve::page::{Frame, Page, blocking, html, json};
use crate::serve::request::Request;
use crate::serve::store::Store;
use crate::serve::view::{Repository, View};

#[derive(Template)]
#[template(path = "image.html")]
struct Shown<'a> {
    frame: Frame<'a>,
    image: Image,
    picture: Picture,
    commands: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct Image {
    name: String,
    digest: Digest,
    /// Tags of this repository that name it.
    tags: Vec<String>,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    /// Of everything that it needs.
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Digest>,
    /// What keeps it from being served.
    lacking: Vec<String>,
    platforms: Vec<Listed>,
    layers: Vec<Layer>,
    /// What was done to make it, layer by layer and between them.
    history: Vec<String>,
    labels: BTreeMap<String, String>,
    /// Nothing of these was verified here.
    referrers: Vec<Listed>,
}

/// A manifest that is a part of it, or about it.
#[derive(Serialize)]
struct Listed {
    digest: Digest,
    /// A platform, or the type of what is about it.
    what: String,
    size: u64,
}

#[derive(Serialize)]
struct Layer {
    digest: Digest,
    media_type: String,
    size: u64,
    /// How many other manifests here have it.
    others: usize,
}

/// What a configuration says of how an image was made.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Step {
    created_by: Option<String>,
    comment: Option<String>,
}

impl Listed {
    fn size_text(&self) -> String {
        amount(self.size, Unit::Bytes)
    }
}

impl Layer {
    fn size_text(&self) -> String {
        amount(self.size, Unit::Bytes)
    }
}

/// The page of what a tag or a digest of a repository names.
pub(super) async fn answer(
    page: &Arc<Page>,
    request: &Request,
    view: Arc<View>,
    name: &str,
    digest: Digest,
    is_json: bool,
) -> Result<Answer, Refusal> {
    let (at, key) = (page.clone(), name.to_owned());
    let found = blocking(move || {
        let repository = &view.repositories[&key];
        let document = match view.documents.get(&digest).filter(|_| repository.manifests.contains(&digest)) {
            Some(Ok(document)) => document,
            Some(Err(bad)) => return Err(format!("manifest {digest}: {}", in_line(bad))),
            None => return Err(format!("no manifest {digest} is in {key}")),
        };
        Ok((look(&at.store, &view, repository, &key, document), bars(&at.store, &view, document, &key)))
    });
    let (image, bars) = found.await?.map_err(|why| Refusal::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", why))?;
    if is_json {
        return Ok(json(&image));
    }
    let frame = page.frame(request);
    let commands = commands(&frame, name, &image);
    html(&Shown { frame, picture: Picture::of(bars), commands, image })
}

fn look(store: &Store, view: &View, repository: &Repository, name: &str, document: &Arc<Document>) -> Image {
    let seen = repositories::look(store, view, repository, String::new(), document.digest.clone());
    let is_list = !document.manifests.is_empty();
    let configuration = if is_list { repositories::Configuration::default() } else { configuration(store, document) };
    let child = |digest: &Digest| view.documents.get(digest).and_then(|it| it.as_ref().ok());
    let size = |digest: &Digest| repositories::look(store, view, repository, String::new(), digest.clone()).size;
    let platforms = document.manifests.iter().map(|part| Listed {
        digest: part.digest.clone(),
        what: child(&part.digest).and_then(|child| repositories::configuration(store, child).platform()).map_or_else(
            || in_line(&part.media_type),
            |it| if it == "unknown/unknown" { "attestation".to_owned() } else { it },
        ),
        size: size(&part.digest),
    });
    let referrers = repository.referrers.get(&document.digest).into_iter().flatten().map(|digest| Listed {
        what: child(digest).and_then(|it| it.artifact_type.as_deref()).map_or_else(|| "not said".to_owned(), in_line),
        size: size(digest),
        digest: digest.clone(),
    });
    let layers = layers(document);
    let mut others: BTreeMap<&Digest, usize> = layers.iter().map(|(digest, _, _)| (*digest, 0)).collect();
    for other in view.documents.values().filter_map(|it| it.as_ref().ok()).filter(|it| it.digest != document.digest) {
        let mut counted = Vec::new();
        for part in &other.blobs {
            if let Some(count) = others.get_mut(&part.digest).filter(|_| !counted.contains(&&part.digest)) {
                *count += 1;
                counted.push(&part.digest);
            }
        }
    }
    let history =
        configuration.history.unwrap_or_default().into_iter().filter_map(|step| step.created_by.or(step.comment));
    let labels = configuration.config.and_then(|it| it.labels).unwrap_or_default();
    Image {
        name: name.to_owned(),
        tags: repository.tags.iter().filter(|(_, it)| **it == document.digest).map(|(tag, _)| tag.clone()).collect(),
        media_type: in_line(&document.media_type),
        artifact_type: document.artifact_type.as_deref().filter(|kind| !kind.contains("image.config")).map(in_line),
        size: seen.size,
        created: seen.created,
        subject: document.subject.clone(),
        lacking: seen.lacking,
        platforms: platforms.collect(),
        layers: layers
            .iter()
            .map(|(digest, media_type, size)| Layer {
                digest: (*digest).clone(),
                media_type: in_line(media_type),
                size: *size,
                others: others[digest],
            })
            .collect(),
        history: history.map(in_line).collect(),
        labels: labels.into_iter().map(|(key, value)| (in_line(key), in_line(value))).collect(),
        referrers: referrers.collect(),
        digest: document.digest.clone(),
    }
}

/// All blobs but the configuration.
fn layers(document: &Document) -> Vec<(&Digest, &str, u64)> {
    let first = usize::from(document.manifests.is_empty());
    document.blobs.iter().skip(first).map(|part| (&part.digest, part.media_type.as_str(), part.size)).collect()
}

/// The images that a document is or lists, for a picture; `label` is for one that is no list.
pub(super) fn bars(store: &Store, view: &View, document: &Arc<Document>, label: &str) -> Vec<Bar> {
    let bar = |document: &Document, label: String| Bar {
        label,
        layers: layers(document).into_iter().map(|(digest, _, size)| (digest.clone(), size)).collect(),
    };
    if document.manifests.is_empty() {
        return vec![bar(document, in_line(label))];
    }
    let children = document.manifests.iter().filter_map(|part| view.documents.get(&part.digest)?.as_ref().ok());
    let named = children.filter_map(|child| {
        let platform = configuration(store, child).platform().filter(|it| it != "unknown/unknown")?;
        Some(bar(child, format!("{} {platform}", in_line(label))))
    });
    named.collect()
}

/// What to type on a node, for this very server.
fn commands(frame: &Frame, name: &str, image: &Image) -> Vec<(&'static str, String)> {
    let (host, lax) = (frame.host, !frame.is_tls);
    let when = |flag: &'static str| if lax { flag } else { "" };
    let by_digest = format!("{host}/{name}@{}", image.digest);
    let tag = image.tags.first().map_or_else(|| by_digest.clone(), |tag| format!("{host}/{name}:{tag}"));
    let skopeo = format!("skopeo copy{} --all docker://{by_digest} oci:DIR:NAME", when(" --src-tls-verify=false"));
    if image.artifact_type.is_some() {
        return vec![("oras", format!("oras pull{} {by_digest}", when(" --plain-http"))), ("skopeo", skopeo)];
    }
    vec![
        ("podman", format!("podman pull{} {tag}", when(" --tls-verify=false"))),
        ("Docker", format!("docker pull {tag}")),
        ("containerd", format!("ctr -n k8s.io images pull{} {tag}", when(" --plain-http"))),
        ("Kubernetes", format!("kubectl run NAME --image={by_digest}")),
        ("OpenShift", format!("oc import-image NAME --from={by_digest} --confirm{}", when(" --insecure"))),
        ("skopeo", skopeo),
    ]
}
