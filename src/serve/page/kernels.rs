//! Kernels: which packages belong to what `uname -r` prints, and which images here are toolkits for it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use askama::Template;
use hyper::StatusCode;
use serde::Serialize;

use crate::causes;
use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs;
use crate::kernel::release::Release;
use crate::kernel::set::{Entry, EntryPackage, KernelSet};
use crate::progress::{Unit, amount};
use crate::serve::answer::{Answer, Refusal};
use crate::serve::page::found::{File, Found};
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
    /// Those that were read, by their files.
    sets: Mutex<HashMap<PathBuf, (Stamp, Arc<KernelSet>)>>,
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
    from: Vec<File>,
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

    /// What was given, or else what was found in images.
    fn sets(&self, found: &Found) -> Result<Vec<Arc<KernelSet>>, Refusal> {
        let paths: Vec<&PathBuf> = match &self.path {
            Some(path) => vec![path],
            None => found.kernels.iter().map(|file| &file.path).collect(),
        };
        if paths.is_empty() {
            return Err(not_given("list of kernels", "--kernels kernels.json"));
        }
        let mut there = self.sets.lock().expect("no holder panics");
        there.retain(|path, _| paths.contains(&path));
        paths.into_iter().map(|path| read(&mut there, path)).collect()
    }
}

/// Reads a list, unless that was done since its file changed.
fn read(there: &mut HashMap<PathBuf, (Stamp, Arc<KernelSet>)>, path: &Path) -> Result<Arc<KernelSet>, Refusal> {
    let stamp = Stamp::at(path);
    if let (Some((known, set)), Some(stamp)) = (there.get(path), stamp)
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
    if let Some(stamp) = stamp {
        there.insert(path.to_owned(), (stamp, set.clone()));
    }
    Ok(set)
}

/// Every kernel of the lists, from the oldest to the newest of its distribution; what several lists have alike, once.
fn entries(sets: &[Arc<KernelSet>]) -> Vec<&Entry> {
    let mut seen: HashMap<&Release, Vec<&[EntryPackage]>> = HashMap::new();
    let mut entries: Vec<&Entry> = Vec::new();
    for entry in sets.iter().flat_map(|set| &set.kernels) {
        let there = seen.entry(&entry.release).or_default();
        if !there.contains(&&entry.packages[..]) {
            there.push(&entry.packages);
            entries.push(entry);
        }
    }
    // Each list is; several are not.
    entries.sort_by(|one, other| one.release.cmp(&other.release));
    entries
}

pub(super) async fn answer(page: &Arc<Page>, request: &Request, is_json: bool) -> Result<Answer, Refusal> {
    let view = request.view(&page.store).await?;
    let query = request.one("q").unwrap_or_default().trim();
    let (at, asked) = (page.clone(), query.to_owned());
    let found = blocking(move || {
        let found = at.finder.found();
        let sets = at.kernels.sets(&found)?;
        let entries = entries(&sets);
        let toolkits = if asked.is_empty() { Vec::new() } else { at.kernels.toolkits(&at.store, &view, &asked) };
        let from = if at.shown.kernels.is_some() { Vec::new() } else { found.kernels.clone() };
        Ok::<_, Refusal>((groups(&entries), find(&entries, &asked), toolkits, entries.len(), from))
    });
    let (groups, (kernels, is_cut), toolkits, total, from) = found.await??;
    if is_json {
        let more = serde_json::json!({ "total": total, "distributions": groups, "kernels": kernels, "cut": is_cut, "toolkits": toolkits, "from": from });
        return Ok(json(&more));
    }
    html(&Shown { frame: page.frame(request), query, total, groups, kernels, toolkits, is_cut, from })
}

fn groups(entries: &[&Entry]) -> Vec<Group> {
    let mut groups: BTreeMap<(&str, &str), (usize, &str)> = BTreeMap::new();
    for Entry { release, .. } in entries {
        // A list is sorted from the oldest to the newest.
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
fn find(entries: &[&Entry], asked: &str) -> (Vec<Kernel>, bool) {
    if asked.is_empty() {
        return (Vec::new(), false);
    }
    let exact: Vec<&Entry> = entries.iter().copied().filter(|entry| entry.release.uname == asked).collect();
    let like = || entries.iter().copied().rev().filter(|entry| entry.release.uname.contains(asked)).take(SHOWN + 1);
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
