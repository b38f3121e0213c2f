//! Kernels: which packages belong to what `uname -r` prints, and which images here are toolkits for it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use askama::Template;
use hyper::StatusCode;
use serde::Serialize;

use crate::causes;
use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs;
use crate::kernel::set::{Entry, KernelSet};
use crate::progress::{Unit, amount};
use crate::serve::answer::{Answer, Refusal};
use crate::serve::page::repositories::configuration;
use crate::serve::page::{Frame, Page, blocking, html, json, not_given};
use crate::serve::request::Request;
use crate::serve::stamp::Stamp;
use crate::serve::store::Store;
use crate::serve::view::View;

/// A set of kernels, read again when its file changes, and what is known of toolkits.
#[derive(Debug, Default)]
pub(super) struct Kernels {
    path: Option<PathBuf>,
    set: Mutex<Option<(Stamp, Arc<KernelSet>)>>,
    /// The kernel that an image says it is for, by the digest of its configuration.
    toolkits: Mutex<HashMap<Digest, Option<String>>>,
}

#[derive(Template)]
#[template(path = "kernels.html")]
struct Shown<'a> {
    frame: Frame<'a>,
    query: &'a str,
    total: usize,
    groups: Vec<Group>,
    kernels: Vec<Kernel>,
    toolkits: Vec<Toolkit>,
    is_cut: bool,
}

/// Kernels of one distribution and machine.
#[derive(Serialize)]
struct Group {
    distribution: String,
    machine: String,
    kernels: usize,
    newest: String,
}

#[derive(Serialize)]
struct Kernel {
    uname: String,
    distribution: String,
    machine: String,
    flavour: String,
    build: String,
    packages: Vec<Package>,
    /// What its packages need for building and the list does not have.
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Package {
    role: String,
    file: String,
    location: String,
    size: Option<u64>,
    sha256: Option<Digest>,
}

/// An image for building modules for a kernel.
#[derive(Clone, Serialize)]
struct Toolkit {
    repository: String,
    tag: String,
    digest: Digest,
    kernel: String,
}

impl Package {
    fn size_text(&self) -> String {
        self.size.map_or_else(|| "not known".to_owned(), |size| amount(size, Unit::Bytes))
    }
}

impl Kernels {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Kernels { path, ..Kernels::default() }
    }

    fn set(&self) -> Result<Arc<KernelSet>, Refusal> {
        let path = self.path.as_ref().ok_or_else(|| not_given("list of kernels", "--kernels kernels.json"))?;
        let mut there = self.set.lock().expect("no holder panics");
        let stamp = Stamp::at(path);
        if let (Some((known, set)), Some(stamp)) = (&*there, stamp)
            && *known == stamp
        {
            return Ok(set.clone());
        }
        let unreadable = |why: String| {
            tracing::error!("{}: {why}", path.display());
            let words = "the list of kernels cannot be read; the log says why";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", words)
        };
        let bytes = fs::read(path, LIMIT).map_err(|error| unreadable(causes::line(&error)))?;
        let set = Arc::new(KernelSet::parse(&bytes).map_err(|error| unreadable(causes::line(&error)))?);
        *there = stamp.map(|stamp| (stamp, set.clone()));
        Ok(set)
    }
}

pub(super) async fn answer(page: &Arc<Page>, request: &Request, is_json: bool) -> Result<Answer, Refusal> {
    let view = request.view(&page.store).await?;
    let query = request.one("q").unwrap_or_default().trim();
    let (at, asked) = (page.clone(), query.to_owned());
    let found = blocking(move || {
        let set = at.kernels.set()?;
        let toolkits = if asked.is_empty() { Vec::new() } else { at.kernels.toolkits(&at.store, &view, &asked) };
        Ok::<_, Refusal>((groups(&set), find(&set, &asked), toolkits, set.kernels.len()))
    });
    let (groups, (kernels, is_cut), toolkits, total) = found.await??;
    if is_json {
        let more = serde_json::json!({ "total": total, "distributions": groups, "kernels": kernels, "cut": is_cut, "toolkits": toolkits });
        return Ok(json(&more));
    }
    html(&Shown { frame: page.frame(request), query, total, groups, kernels, toolkits, is_cut })
}

fn groups(set: &KernelSet) -> Vec<Group> {
    let mut groups: BTreeMap<(&str, &str), (usize, &str)> = BTreeMap::new();
    for Entry { release, .. } in &set.kernels {
        // The list is sorted from the oldest to the newest.
        let group = groups.entry((&release.distribution, release.machine.as_str())).or_default();
        *group = (group.0 + 1, &release.uname);
    }
    let group = |((distribution, machine), (kernels, newest)): ((&str, &str), (usize, &str))| Group {
        distribution: in_line(distribution),
        machine: in_line(machine),
        kernels,
        newest: in_line(newest),
    };
    groups.into_iter().map(group).collect()
}

/// Kernels of exactly that name; if there is none, those that have the text in theirs, and whether these are not all.
fn find(set: &KernelSet, asked: &str) -> (Vec<Kernel>, bool) {
    if asked.is_empty() {
        return (Vec::new(), false);
    }
    let exact: Vec<&Entry> = set.kernels.iter().filter(|entry| entry.release.uname == asked).collect();
    let like = || set.kernels.iter().rev().filter(|entry| entry.release.uname.contains(asked)).take(SHOWN + 1);
    let mut found = if exact.is_empty() { like().collect() } else { exact };
    let is_cut = found.len() > SHOWN;
    found.truncate(SHOWN);
    let kernel = |Entry { release, packages, missing }: &Entry| Kernel {
        uname: in_line(&release.uname),
        distribution: in_line(&release.distribution),
        machine: in_line(release.machine.as_str()),
        flavour: in_line(&release.flavour),
        build: in_line(&release.build),
        packages: packages
            .iter()
            .map(|it| Package {
                role: it.role.name().to_owned(),
                file: in_line(&it.name),
                location: in_line(&it.location),
                size: it.size,
                sha256: it.sha256.clone(),
            })
            .collect(),
        missing: missing.iter().map(in_line).collect(),
    };
    (found.into_iter().map(kernel).collect(), is_cut)
}

impl Kernels {
    /// Images whose label says that they are for this kernel, as driver toolkits have it.
    fn toolkits(&self, store: &Store, view: &View, uname: &str) -> Vec<Toolkit> {
        let mut found = Vec::new();
        let mut looks = 0;
        for (key, repository) in &view.repositories {
            for (tag, digest) in &repository.tags {
                let is_likely =
                    key.contains("toolkit") || tag.len() > 4 && uname.replace('+', "_").starts_with(tag.as_str());
                let (true, Some(Ok(document))) = (is_likely && looks < LOOKS, view.documents.get(digest)) else {
                    continue;
                };
                let children =
                    document.manifests.iter().filter_map(|part| view.documents.get(&part.digest)?.as_ref().ok());
                for image in std::iter::once(document).chain(children) {
                    let Some(config) = image.blobs.first() else { continue };
                    let known = self.toolkits.lock().expect("no holder panics").get(&config.digest).cloned();
                    let kernel = known.unwrap_or_else(|| {
                        looks += 1;
                        let labels = configuration(store, image).config.unwrap_or_default().labels.unwrap_or_default();
                        let kernel = KERNEL_LABELS.iter().find_map(|key| labels.get(*key).filter(|it| !it.is_empty()));
                        let mut toolkits = self.toolkits.lock().expect("no holder panics");
                        toolkits.insert(config.digest.clone(), kernel.cloned());
                        kernel.cloned()
                    });
                    if let Some(kernel) = kernel.filter(|kernel| kernel == uname) {
                        let (repository, digest) = (key.clone(), image.digest.clone());
                        found.push(Toolkit { repository, tag: tag.clone(), digest, kernel: in_line(&kernel) });
                    }
                }
            }
        }
        found
    }
}

/// What toolkits call the kernel that they are for.
const KERNEL_LABELS: [&str; 2] = ["kernel-version", "kernel-rt-version"];
/// Kernels that are shown at a time.
const SHOWN: usize = 50;
/// Configurations that are read from the disk for one question.
const LOOKS: usize = 2000;
/// Bytes of a list of kernels.
const LIMIT: u64 = 256 << 20;
