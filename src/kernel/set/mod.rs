//! `kernels.json`: what is known of kernels and their packages, and the list that driverkit reads.
//!
//! ```json
//! {
//!   "format": "haversack.kernels",
//!   "version": 2,
//!   "kernels": [
//!     {
//!       "distribution": "debian", "uname": "6.1.0-56-amd64", "machine": "x86_64", "flavour": "default",
//!       "build": "6.1.192-2",
//!       "packages": [
//!         { "role": "headers", "name": "linux-headers-6.1.0-56-amd64", "version": "6.1.192-2",
//!           "architecture": "amd64", "format": "deb", "location": "https://…/….deb", "size": 1841552, "sha256": "sha256:…",
//!           "relations": { "depends": ["linux-headers-6.1.0-56-common (= 6.1.192-2)", …] } }
//!       ],
//!       "missing": ["linux-kbuild-6.1 (>= 6.1.192-2)"]
//!     }
//!   ],
//!   "unplaced": [
//!     { "name": "linux-base", "version": "4.9", "architecture": "all", "format": "deb", "location": "…", "reason": "not-kernel" }
//!   ],
//!   "mirrors": [ { "base": "https://a.example/os/", "others": ["https://b.example/os/", …] } ],
//!   "unchecked": [ "https://a.example/os/" ]
//! }
//! ```
//!
//! The list is the truth: a reader takes each package for what its entry says it is to its kernel, whatever its name, and
//! joins nothing anew. Headers keep their relations, since an image that has them needs what they need. Version 1 had no
//! relations; it is still read.
//!
//! Kernels are sorted from the oldest to the newest within a distribution, packages by role and name; the same input gives
//! the same bytes. A reader refuses another format or version; fields may be added within a version.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use crate::digest::Digest;
use crate::fs;
use crate::kernel::checksum::{self, Checksum};
use crate::kernel::classify::{Reason, Role};
use crate::kernel::group::Kernel;
use crate::kernel::package::{Format, Name, Package, Relation, Relations};
use crate::kernel::release::{Machine, Release};
use crate::reference;

/// Kernels with their packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSet {
    format: String,
    version: u32,
    /// The kernels, sorted.
    pub kernels: Vec<Entry>,
    /// What was found and belongs to none, sorted by name, in what `kernel list` prints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unplaced: Vec<Unplaced>,
    /// Repositories of these packages that others have, too: whoever fetches from the list asks them as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirrors>,
    /// Repositories of these packages that are signed and whose signatures were not checked, in what `kernel list` prints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<String>,
}

/// A repository, and where its packages can be had besides, as a list of mirrors says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrors {
    /// The one that was read, with a slash at its end.
    pub base: Url,
    /// The others, each with a slash at its end.
    pub others: Vec<Url>,
}

impl Mirrors {
    /// Where a package of this repository can be had besides; nowhere, when it is not one of this repository.
    pub fn elsewhere(&self, location: &Url) -> Vec<Url> {
        // Amazon's packages lie beside their repositories, on the same host.
        let Some(path) = self.base.make_relative(location).filter(|path| !path.is_empty()) else { return Vec::new() };
        self.others.iter().filter_map(|other| reference::resolve(other, &path).ok()).collect()
    }
}

/// A package that belongs to no kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unplaced {
    /// What it is called.
    #[serde(flatten)]
    pub name: Name,
    /// Its URL or path.
    pub location: String,
    /// Why.
    pub reason: Reason,
}

/// A kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which kernel.
    #[serde(flatten)]
    pub release: Release,
    /// Its packages, sorted by role and name.
    pub packages: Vec<EntryPackage>,
    /// What its packages depend on for building and was not among those given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// A package of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPackage {
    /// As what it belongs to the kernel.
    pub role: Role,
    /// What it is called.
    #[serde(flatten)]
    pub name: Name,
    /// Its URL or path.
    pub location: String,
    /// Its size in bytes, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its SHA-256 digest, where known.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "checksum::sha256_in_any_case")]
    pub sha256: Option<Digest>,
    /// A digest of another kind (`sha512:HEX`), where the source states that one and no SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// What it needs and offers, of packages that modules are built with, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relations: Option<EntryRelations>,
}

/// What a package says about others, each relation as a text: `gcc-12`, `a (>= 1.2)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRelations {
    /// The epoch of its version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u32,
    /// All of these; of alternatives, parted by ` | `, one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends: Vec<String>,
    /// What it offers beside its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provides: Vec<String>,
    /// What it cannot be beside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// The packages whose place it takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obsoletes: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(epoch: &u32) -> bool {
    *epoch == 0
}

/// Which kernels of a set are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Exactly these releases, or those that begin with one of them and a dot, a dash or a plus; all, when empty.
    pub releases: Vec<String>,
    /// Not older than this version, by the rules of each kernel's packager ([`Order::is_since`]).
    ///
    /// [`Order::is_since`]: crate::kernel::version::Order::is_since
    pub since: Option<String>,
    /// Only these machines; all, when empty.
    pub machines: Vec<Machine>,
    /// Only these flavours; all, when empty.
    pub flavours: Vec<String>,
    /// Of each distribution, machine and flavour only so many releases, the newest, each with all its builds.
    pub latest: Option<usize>,
}

/// Where a package of a set is, seen from this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Behind a URL.
    Url,
    /// In this file.
    File(PathBuf),
    /// There is a file outside the set's directory, and a set does not say which files of this machine are read.
    Outside,
    /// There is no such file.
    Nowhere,
}

/// Finds a package of a set: behind a URL, where the set says, as seen from here or from the set, or beside the set, where
/// `kernel fetch` puts what it fetches.
///
/// A set may come from elsewhere. What is not below its directory counts only where the user says so (`anywhere`).
pub fn place(location: &str, name: &Name, set: &Path, anywhere: bool) -> Place {
    if let Some((scheme, _)) = location.split_once("://") {
        return if matches!(scheme, "http" | "https") { Place::Url } else { Place::Nowhere };
    }
    let directory = fs::parent(set);
    let stated = Path::new(location);
    let files = [stated.to_owned(), directory.join(stated), directory.join(name.to_string())];
    let there = || files.iter().filter(|file| file.is_file());
    match there().find(|file| anywhere || fs::is_beneath(directory, file)) {
        Some(file) => Place::File(file.clone()),
        None if there().next().is_some() => Place::Outside,
        None => Place::Nowhere,
    }
}

/// Why a text is no kernel set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON of this shape.
    #[error("not a list of kernels")]
    Parse(#[from] serde_json::Error),
    /// It is something else, or from a later program.
    #[error(
        "a list of kernels of format `{format}` version {version}; this program reads {FORMAT} up to version {VERSION}"
    )]
    Version {
        /// What it says it is.
        format: String,
        /// The version that it says.
        version: u32,
    },
    /// A package's name would not be the name of a file.
    #[error("`{0}` is no name of a package")]
    Name(String),
    /// A kernel's release would not be the name of a directory.
    #[error("`{0}` is no name of a kernel")]
    Release(String),
}

impl KernelSet {
    /// What is known of these kernels.
    pub fn new(kernels: Vec<Kernel>) -> Self {
        let entry = |kernel: Kernel| Entry {
            release: kernel.release,
            packages: kernel
                .packages
                .into_iter()
                .map(|(role, package)| EntryPackage {
                    role,
                    relations: package.relations.filter(|_| is_for_building(role)).map(EntryRelations::from),
                    name: package.name,
                    location: without_credentials(package.location),
                    size: package.size,
                    checksum: package.checksum.filter(|_| package.sha256.is_none()),
                    sha256: package.sha256,
                })
                .collect(),
            missing: kernel.missing,
        };
        let kernels = kernels.into_iter().map(entry).collect();
        KernelSet {
            format: FORMAT.into(),
            version: VERSION,
            kernels,
            unplaced: Vec::new(),
            mirrors: Vec::new(),
            unchecked: Vec::new(),
        }
    }

    /// The same, with what belongs to none of the kernels.
    #[must_use]
    pub fn with_unplaced(self, unplaced: Vec<(Package, Reason)>) -> Self {
        let unplaced = unplaced.into_iter().map(|(package, reason)| {
            let Package { name, location, .. } = package;
            Unplaced { name, location: without_credentials(location), reason }
        });
        KernelSet { unplaced: unplaced.collect(), ..self }
    }

    /// The same, with the repositories whose signatures were not checked.
    #[must_use]
    pub fn with_unchecked(self, unchecked: Vec<String>) -> Self {
        KernelSet { unchecked, ..self }
    }

    /// The same, with the mirrors that have packages of the kernels.
    #[must_use]
    pub fn with_mirrors(self, mirrors: impl IntoIterator<Item = Mirrors>) -> Self {
        let locations: Vec<Url> = self.each_package().iter().filter_map(|it| it.location.parse().ok()).collect();
        let has_some = |it: &Mirrors| {
            locations.iter().any(|location| it.base.make_relative(location).is_some_and(|path| !path.is_empty()))
        };
        let plain = |url: Url| without_credentials(url.into()).parse().ok();
        let mirrors = mirrors.into_iter().filter_map(|Mirrors { base, others }| {
            Some(Mirrors { base: plain(base)?, others: others.into_iter().filter_map(plain).collect() })
        });
        KernelSet { mirrors: mirrors.filter(has_some).collect(), ..self }
    }

    /// Reads `kernels.json`.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let Head { format, version } = serde_json::from_slice(json)?;
        if format != FORMAT || !(1..=VERSION).contains(&version) {
            return Err(Error::Version { format, version });
        }
        let set = KernelSet { version: VERSION, ..serde_json::from_slice(json)? };
        // Packages are put into directories under these names, and a list may come from anywhere.
        let is_path = |name: &str| name.contains(['/', '\0']) || name.starts_with('.');
        let mut names = set.kernels.iter().flat_map(|kernel| &kernel.packages).map(|package| package.name.to_string());
        if let Some(name) = names.find(|name| is_path(name)) {
            return Err(Error::Name(name));
        }
        let parts = |release: &Release| {
            [release.distribution.clone(), release.uname.clone(), release.build.clone(), release.machine.to_string()]
        };
        let mut parts = set.kernels.iter().flat_map(|kernel| parts(&kernel.release));
        match parts.find(|part| part.is_empty() || is_path(part)) {
            Some(part) => Err(Error::Release(part)),
            None => Ok(set),
        }
    }

    /// The kernels with their packages.
    pub fn into_kernels(self) -> Vec<Kernel> {
        let kernel = |entry: Entry| Kernel {
            release: entry.release,
            packages: entry.packages.into_iter().map(|package| (package.role, package.into())).collect(),
            missing: entry.missing,
        };
        self.kernels.into_iter().map(kernel).collect()
    }

    /// The packages of all kernels, those that several share once.
    pub fn each_package(&self) -> Vec<&EntryPackage> {
        let mut seen = HashSet::new();
        let packages = self.kernels.iter().flat_map(|kernel| &kernel.packages);
        packages.filter(|package| seen.insert((&package.name, &package.location))).collect()
    }

    /// The list that driverkit reads, as kernel-crawler writes it: by distribution, kernels with the URLs of their headers.
    ///
    /// `kernelrelease` is what `uname -r` prints; the crawler writes something else for Debian and Ubuntu, which no kernel
    /// reports. Kernels without headers are left out.
    pub fn kernel_crawler(&self) -> serde_json::Value {
        let mut distributions: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
        for kernel in &self.kernels {
            let headers: Vec<&str> = kernel
                .packages
                .iter()
                .filter(|package| is_for_building(package.role))
                .map(|package| &*package.location)
                .collect();
            if !kernel.packages.iter().any(|package| matches!(package.role, Role::Devel | Role::Headers)) {
                continue;
            }
            let release = &kernel.release;
            let distribution = crawler_name(release);
            let target = match &*release.distribution {
                "ubuntu" => format!("ubuntu-{}", release.flavour),
                _ => distribution.clone(),
            };
            distributions.entry(distribution).or_default().push(json!({
                "kernelversion": crawler_version(release),
                "kernelrelease": release.uname,
                "target": target,
                "headers": headers,
            }));
        }
        json!(distributions)
    }
}

impl From<EntryPackage> for Package {
    fn from(entry: EntryPackage) -> Self {
        let EntryPackage { role: _, name, location, size, sha256, checksum, relations } = entry;
        let relations = relations.map(|relations| relations.read(name.format));
        Package { name, location, size, is_digest_stated: sha256.is_some(), sha256, checksum, relations, vendor: None }
    }
}

impl From<Relations> for EntryRelations {
    fn from(relations: Relations) -> Self {
        let texts = |list: Vec<Relation>| list.iter().map(Relation::to_string).collect::<Vec<_>>();
        let Relations { depends, provides, conflicts, obsoletes, epoch, release: _ } = relations;
        EntryRelations {
            epoch,
            depends: depends.into_iter().map(|any| texts(any).join(" | ")).collect(),
            // Paths are there in great number, and nobody builds with those of headers.
            provides: texts(provides.into_iter().filter(|provided| !provided.name.starts_with('/')).collect()),
            conflicts: texts(conflicts),
            obsoletes: texts(obsoletes),
        }
    }
}

impl EntryRelations {
    fn read(&self, format: Format) -> Relations {
        let list = |texts: &[String]| texts.iter().map(|text| Relation::parse(text)).collect();
        let any = |text: &String| match format {
            Format::Deb => text.split(" | ").map(Relation::parse).collect(),
            // Alternatives are within the text of a rich dependency.
            Format::Rpm => vec![Relation::parse(text)],
        };
        Relations {
            epoch: self.epoch,
            depends: self.depends.iter().map(any).collect(),
            provides: list(&self.provides),
            conflicts: list(&self.conflicts),
            obsoletes: list(&self.obsoletes),
            // The kernel's entry says it.
            release: None,
        }
    }
}

/// A URL without user and password: a list is passed on, and they are nobody else's business.
fn without_credentials(location: String) -> String {
    match location.parse::<Url>() {
        Ok(mut url) if url.has_host() && !(url.username().is_empty() && url.password().is_none()) => {
            let _ = url.set_password(None).and_then(|()| url.set_username(""));
            url.into()
        }
        _ => location,
    }
}

/// Whether modules are built with what is in a package.
fn is_for_building(role: Role) -> bool {
    matches!(role, Role::Devel | Role::Headers | Role::Common | Role::Kbuild)
}

impl Filter {
    /// Drops the kernels that are not wanted from a sorted list.
    pub fn apply(&self, kernels: &mut Vec<Kernel>) {
        kernels.retain(|kernel| self.admits(&kernel.release));
        let Some(latest) = self.latest else { return };
        let mut counts: HashMap<(String, Machine, String), HashSet<String>> = HashMap::new();
        // Sorted from the oldest to the newest, so the newest come first from behind.
        kernels.reverse();
        kernels.retain(|kernel| {
            let Release { distribution, machine, flavour, uname, .. } = kernel.release.clone();
            let releases = counts.entry((distribution, machine, flavour)).or_default();
            // A further build of a release that is kept is no further release.
            releases.len() < latest && releases.insert(uname.clone()) || releases.contains(&uname)
        });
        kernels.reverse();
    }

    /// The releases that were asked for and that none of these kernels is.
    pub fn unmet<'a>(asked: &[String], kernels: &(impl Iterator<Item = &'a Release> + Clone)) -> Vec<String> {
        let is_met = |release: &&String| {
            let only = Filter { releases: vec![(*release).clone()], ..Filter::default() };
            kernels.clone().any(|kernel| only.admits(kernel))
        };
        asked.iter().filter(|release| !is_met(release)).cloned().collect()
    }

    /// Whether a kernel is wanted, but for how many of its kind are.
    pub fn admits(&self, release: &Release) -> bool {
        let is_named = |wanted: &String| match release.uname.strip_prefix(&**wanted) {
            Some(rest) => rest.is_empty() || rest.starts_with(['.', '-', '+']),
            None => false,
        };
        (self.releases.is_empty() || self.releases.iter().any(is_named))
            && self.since.as_ref().is_none_or(|since| release.order().is_since(&release.uname, since))
            && (self.machines.is_empty() || self.machines.contains(&release.machine))
            && (self.flavours.is_empty() || self.flavours.contains(&release.flavour))
    }
}

/// What kernel-crawler calls a distribution.
fn crawler_name(release: &Release) -> String {
    match &*release.distribution {
        "el" => "centos".into(),
        "suse" => "opensuse".into(),
        "amazonlinux" => {
            let tag = release.build.split('.').find_map(|part| part.strip_prefix("amzn"));
            format!("amazonlinux{}", tag.filter(|tag| *tag != "1").unwrap_or_default())
        }
        other => other.into(),
    }
}

/// Ubuntu's upload number (`97` of `5.4.0-86.97`), 2 for Oracle's own kernels, else 1.
fn crawler_version(release: &Release) -> String {
    match &*release.distribution {
        "ubuntu" => {
            let upload = release.build.split_once('-').and_then(|(_, abi)| abi.split_once('.'));
            upload.map_or("1", |(_, upload)| upload).to_owned()
        }
        "ol" => "2".into(),
        _ => "1".into(),
    }
}

const FORMAT: &str = "haversack.kernels";
const VERSION: u32 = 2;

#[cfg(test)]
mod tests;
