//! Many images to where a list says: `haversack sync`.
//!
//! What the list means is found out first ([`plan`]): which repositories and tags there are. Then the images are
//! copied side by side ([`sync`]), each as [`copy`] does it. One that cannot be had does not keep the others.

pub mod list;
pub mod mirror_config;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use oci_spec::image::Descriptor;
use serde::Serialize;

pub use self::list::{Entry, List, Way};
use crate::image::manifest::{self, Manifest};
use crate::image::store::layout;
use crate::image::{Layout, Store};
use crate::progress::{Progress, Unit};
use crate::reference::{ImageRef, Remote, Target as RemoteTarget};
use crate::registry::client::Error;
use crate::registry::copied::CopyReport;
use crate::registry::copy::{CopyOptions, copy};
use crate::registry::ends::{Source, Target};
use crate::registry::session::Session;

/// How to copy many images.
#[derive(Clone, Debug)]
pub struct SyncOptions {
    /// Images under way at one time.
    pub images: usize,
    /// How each is copied; platforms and referrers are the list's to say.
    pub copy: CopyOptions,
}

/// What a list means.
#[derive(Debug, Default)]
pub struct Plan {
    /// Each image's way, in the list's order.
    pub ways: Vec<Way>,
    /// What in the list could not be found out, or means nothing.
    pub failures: Vec<Failed>,
}

/// Something that could not be done.
#[derive(Debug)]
pub struct Failed {
    /// The image, the repository or the registry.
    pub what: String,
    /// Where it was to go, where that was known.
    pub destination: Option<ImageRef>,
    /// Why.
    pub error: Error,
}

/// What became of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Synced {
    /// From where to where.
    #[serde(flatten)]
    pub way: Way,
    /// What happened, or with `dry_run` would.
    pub status: Status,
    /// What was copied.
    #[serde(flatten)]
    pub report: CopyReport,
}

/// What happened to an image, or with `dry_run` would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It, or something that it needs, was not there.
    Copied,
    /// It, or something that it needs, is not there; nothing was copied, for this was a dry run.
    ToCopy,
    /// All was there.
    Present,
}

/// Finds out what a list means. Asks registries for their repositories and tags where the list has patterns or ranges.
pub async fn plan(list: &List, session: &Session, parallel: usize) -> Plan {
    let entries = stream::iter(&list.images).map(|entry| async move {
        let mut plan = Plan::default();
        match (&entry.registry, &entry.from) {
            (Some(host), _) => of_registry(list, entry, host, session, &mut plan).await,
            (_, Some(from)) => of_store(list, entry, from, &mut plan),
            (None, None) => {}
        }
        plan
    });
    let mut whole = Plan::default();
    let mut sources: BTreeMap<ImageRef, ImageRef> = BTreeMap::new();
    let plans: Vec<Plan> = entries.buffered(parallel).collect().await;
    for mut plan in plans {
        whole.failures.append(&mut plan.failures);
        for way in plan.ways {
            match sources.get(&way.destination) {
                None => {
                    sources.insert(way.destination.clone(), way.source.clone());
                    whole.ways.push(way);
                }
                Some(other) if *other == way.source => {}
                Some(other) => {
                    let error = Error::SamePlace(other.to_string());
                    let destination = Some(way.destination);
                    whole.failures.push(Failed { what: way.source.to_string(), destination, error });
                }
            }
        }
    }
    whole
}

/// Copies what was planned. `stores` are the layouts behind the destinations that are no registries, without names.
pub async fn sync(
    plan: &Plan,
    session: &Session,
    stores: &BTreeMap<ImageRef, Layout>,
    options: &SyncOptions,
    progress: &Progress,
) -> (Vec<Synced>, Vec<Failed>) {
    let task = progress.task("images", Unit::Items, Some(plan.ways.len() as u64));
    let task = &task;
    let results = stream::iter(&plan.ways).map(|way| async move {
        let result = one(way, session, stores, options, progress).await;
        task.add(1);
        (way, result)
    });
    let results: Vec<_> = results.buffered(options.images).collect().await;
    let (mut synced, mut failed) = (Vec::new(), Vec::new());
    for (way, result) in results {
        match result {
            Ok(report) => {
                let nothing = report.sent_blobs + report.mounted_blobs + report.documents == 0;
                let status = match nothing {
                    true => Status::Present,
                    false if options.copy.dry_run => Status::ToCopy,
                    false => Status::Copied,
                };
                synced.push(Synced { way: way.clone(), status, report });
            }
            Err(error) => {
                let destination = Some(way.destination.clone());
                failed.push(Failed { what: way.source.to_string(), destination, error });
            }
        }
    }
    (synced, failed)
}

async fn one(
    way: &Way,
    session: &Session,
    stores: &BTreeMap<ImageRef, Layout>,
    options: &SyncOptions,
    progress: &Progress,
) -> Result<CopyReport, Error> {
    let (source, image) = match &way.source {
        ImageRef::Docker(remote) => {
            let repository = session.repository(&remote.registry, &remote.repository, false).await?;
            let (image, _) = repository.document(remote.target()).await?;
            (Source::Repository(repository), image)
        }
        stored => {
            let (store, mut image) = Store::open_image(stored)?;
            // The name is the place's, not the image's.
            image.set_annotations(None);
            (Source::Store(Arc::new(store)), image)
        }
    };
    let (target, name) = match &way.destination {
        ImageRef::Docker(remote) => {
            let repository = session.repository(&remote.registry, &remote.repository, true).await?;
            let tag = remote.target.digest().is_none().then(|| remote.target().to_owned());
            (Target::Repository(repository), tag)
        }
        stored => {
            let layout = stores.get(&without_name(stored)).expect("all were opened").clone();
            (Target::Layout(layout), stored.name().map(str::to_owned))
        }
    };
    let options = CopyOptions { platforms: way.platforms.clone(), referrers: way.referrers, ..options.copy.clone() };
    copy(&source, &image, &target, name.as_deref(), &options, progress).await
}

async fn of_registry(list: &List, entry: &Entry, host: &str, session: &Session, plan: &mut Plan) {
    let fail = |plan: &mut Plan, what: String, error| plan.failures.push(Failed { what, destination: None, error });
    let mut repositories: Vec<(String, bool)> = Vec::new();
    let (plain, patterns): (Vec<_>, Vec<_>) = entry.repositories.iter().partition(|name| name.plain().is_some());
    repositories.extend(plain.iter().filter_map(|name| Some((name.plain()?.to_owned(), true))));
    if !patterns.is_empty() {
        let listed = async { session.registry(host).await?.repositories().await };
        match listed.await {
            Ok(all) => {
                for pattern in patterns {
                    let matching = all.names.iter().filter(|name| pattern.matches(name));
                    let before = repositories.len();
                    repositories.extend(matching.map(|name| (name.to_string(), false)));
                    if repositories.len() == before {
                        fail(plan, host.to_owned(), Error::NothingMatches(format!("no repository is `{pattern}`")));
                    }
                }
                if let Some(error) = Error::refused("repositories", &all.refused) {
                    fail(plan, host.to_owned(), error);
                }
            }
            Err(error) => fail(plan, host.to_owned(), error),
        }
    }
    let mut done = BTreeSet::new();
    for (name, named) in repositories {
        if !done.insert(name.clone()) {
            continue;
        }
        match targets(entry, host, &name, named, session).await {
            Ok(Chosen { targets, refused, unmatched }) => {
                for wanted in unmatched {
                    let error = Error::NothingMatches(format!("no tag is `{wanted}`"));
                    fail(plan, format!("docker://{host}/{name}"), error);
                }
                plan.ways.extend(targets.into_iter().map(|target| {
                    let image = Remote { registry: host.to_owned(), repository: name.clone(), target };
                    list.way(entry, ImageRef::Docker(image.clone()), &image)
                }));
                if let Some(error) = Error::refused("tags", &refused) {
                    fail(plan, format!("docker://{host}/{name}"), error);
                }
            }
            Err(error) => fail(plan, format!("docker://{host}/{name}"), error),
        }
    }
}

/// Which images of a repository are meant.
struct Chosen {
    targets: Vec<RemoteTarget>,
    /// What of its list is not a tag.
    refused: Vec<String>,
    /// Patterns and ranges for which there is no tag.
    unmatched: Vec<String>,
}

/// Chooses images of a repository. In one that was `named` each pattern has to have some; what others have is taken all the
/// same.
async fn targets(entry: &Entry, host: &str, repository: &str, named: bool, session: &Session) -> Result<Chosen, Error> {
    let (mut refused, mut unmatched) = (Vec::new(), Vec::new());
    let mut tags: Vec<String> = entry.tags.iter().filter_map(|name| name.plain().map(str::to_owned)).collect();
    if tags.len() < entry.tags.len() || !entry.semver.is_empty() {
        let listed = session.repository(host, repository, false).await?.tags().await?;
        refused = listed.refused;
        let mut all: Vec<String> = listed.names.into_iter().map(String::from).collect();
        // Registries list them in any order.
        all.sort_by_cached_key(|tag| (version(tag), tag.clone()));
        let patterns = entry.tags.iter().filter(|name| name.plain().is_none());
        for (wanted, found) in patterns
            .map(|name| (name.to_string(), all.iter().filter(|tag| name.matches(tag)).collect::<Vec<_>>()))
            .chain(entry.semver.iter().map(|range| {
                let inside = |tag: &&String| {
                    let is_version = entry.short_versions || is_full_version(tag);
                    is_version && version(tag).is_some_and(|version| range.matches(&version))
                };
                (range.to_string(), all.iter().filter(inside).collect())
            }))
        {
            if found.is_empty() && named {
                unmatched.push(wanted);
            }
            // What signatures are found by goes along with what they sign.
            tags.extend(found.into_iter().filter(|tag| !is_referrer(tag)).cloned());
        }
    }
    let mut seen = BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    let digests = entry.digests.iter().cloned().map(RemoteTarget::Digest);
    Ok(Chosen { targets: tags.into_iter().map(RemoteTarget::Tag).chain(digests).collect(), refused, unmatched })
}

fn of_store(list: &List, entry: &Entry, from: &ImageRef, plan: &mut Plan) {
    let fail = |plan: &mut Plan, error| {
        plan.failures.push(Failed { what: from.to_string(), destination: None, error });
    };
    let (store, index) = match Store::open(from).and_then(|store| Ok((store.index()?, store))) {
        Ok((index, store)) => (store, index),
        Err(error) => return fail(plan, error.into()),
    };
    let mut found = false;
    for listed in index.manifests() {
        let own = layout::ref_name(listed);
        // buildx and containerd have only the tag in the first, and the whole name in the second.
        let full = listed.annotations().as_ref().and_then(|all| all.get(CONTAINERD_NAME)).map(String::as_str);
        let Some(name) = full.or(own) else {
            if entry.names.is_empty() && is_image(&store, listed) {
                let problem = format!("{}: has no name there; copy it with one", listed.digest());
                fail(plan, Error::NothingMatches(problem));
            }
            continue;
        };
        let is_meant = |wanted: &list::Name| [Some(name), own].into_iter().flatten().any(|name| wanted.matches(name));
        let wanted = entry.names.is_empty() || entry.names.iter().any(is_meant);
        if !wanted || own.is_some_and(is_referrer) {
            continue;
        }
        found = true;
        let place = own.map_or_else(|| format!("@{}", listed.digest()), str::to_owned);
        // A name without a host is a path all the same.
        match name.parse::<Remote>().or_else(|_| format!("localhost/{name}").parse()) {
            Ok(image) => plan.ways.push(list.way(entry, with_name(from, &place), &image)),
            Err(_) => fail(plan, Error::NothingMatches(format!("`{name}` is no name for an image of a registry"))),
        }
    }
    if !found {
        fail(plan, Error::NothingMatches("no image in it is meant".to_owned()));
    }
}

/// Whether something is more than what another image has beside it.
fn is_image(store: &Store, listed: &Descriptor) -> bool {
    let parsed = || Manifest::parse(listed.digest().as_ref(), &store.read_document(listed).ok()?).ok();
    manifest::is_index(listed.media_type()) || parsed().is_some_and(|it| it.is_image() && it.subject.is_none())
}

/// The annotation that has the whole name of an image in layouts of containerd and buildx.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// A tag as a version: with a `v` or without, and missing parts are zero.
fn version(tag: &str) -> Option<semver::Version> {
    let text = tag.strip_prefix('v').unwrap_or(tag);
    text.parse().ok().or_else(|| {
        let parts = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
        match parts[..] {
            [major] => Some(semver::Version::new(major, 0, 0)),
            [major, minor] => Some(semver::Version::new(major, minor, 0)),
            _ => None,
        }
    })
}

/// Whether a tag has three numbers, as versions have: `20240329` and `8` are other things to most.
fn is_full_version(tag: &str) -> bool {
    let numbers = tag.strip_prefix('v').unwrap_or(tag).split(['-', '+']).next().unwrap_or_default();
    numbers.split('.').count() == 3
}

/// Whether a tag is one that refers to another image: cosign's, and the referrers' fallback tag.
fn is_referrer(tag: &str) -> bool {
    let Some((algorithm, rest)) = tag.split_once('-') else { return false };
    let hex = rest.split('.').next().unwrap_or_default();
    matches!((algorithm, hex.len()), ("sha256", 64) | ("sha512", 128)) && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

fn without_name(store: &ImageRef) -> ImageRef {
    renamed(store, None)
}

fn with_name(store: &ImageRef, name: &str) -> ImageRef {
    renamed(store, Some(name.to_owned()))
}

fn renamed(store: &ImageRef, name: Option<String>) -> ImageRef {
    match store.clone() {
        ImageRef::Oci { path, .. } => ImageRef::Oci { path, name },
        ImageRef::OciArchive { path, .. } => ImageRef::OciArchive { path, name },
        ImageRef::DockerArchive { path, .. } => ImageRef::DockerArchive { path, name },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_versions_with_a_v_or_without_and_missing_parts_are_zero() {
        for (tag, expected) in [
            ("1.2.3", Some("1.2.3")),
            ("v1.2.3-rc.1", Some("1.2.3-rc.1")),
            ("v4.15", Some("4.15.0")),
            ("8", Some("8.0.0")),
            ("latest", None),
            ("1.2.3.4", None),
            ("1.x", None),
        ] {
            assert_eq!(version(tag).map(|version| version.to_string()).as_deref(), expected, "{tag}");
        }
    }

    #[test]
    fn ranges_take_what_has_three_numbers() {
        for (tag, is_full) in
            [("1.2.3", true), ("v1.2.3-rc.1", true), ("1.2.3+b.1", true), ("20240329", false), ("v4.15", false)]
        {
            assert_eq!(is_full_version(tag), is_full, "{tag}");
        }
    }

    #[test]
    fn tags_of_signatures_are_told_from_tags_of_images() {
        let hex = "0".repeat(64);
        for (tag, referrer) in [
            (format!("sha256-{hex}"), true),
            (format!("sha256-{hex}.sig"), true),
            (format!("sha256-{}", &hex[1..]), false),
            ("1.0-amd64".to_owned(), false),
        ] {
            assert_eq!(is_referrer(&tag), referrer, "{tag}");
        }
    }
}
