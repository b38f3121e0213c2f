//! Packages of kernels fetched and unpacked: what `haversack kernel fetch` and `kernel unpack` do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use crate::fs;
use crate::http::{HttpOptions, shown};
use crate::kernel::classify::Role;
use crate::kernel::download::{self, FetchReport};
use crate::kernel::source::keyring::Keyring;
use crate::kernel::source::{AptRepository, Source, SourceOptions};
use crate::kernel::unpack::{self, Keys, Status, UnpackReport};
use crate::limits;
use crate::ops::gather::{self, Gathered};
use crate::ops::nothing::NothingFound;
use crate::ops::{Done, Error, block_on};
use crate::plural::count;
use crate::progress::{Progress, Unit, amount};

/// What is fetched, and where to.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// Sources, and which of their kernels are wanted.
    pub from: SourceOptions,
    /// Only packages of these roles; all, when empty.
    pub roles: Vec<Role>,
    /// The directory to fetch into.
    pub to: PathBuf,
    /// Maximum number of transfers from one host at a time.
    pub per_host: usize,
    /// How servers are spoken to.
    pub http: HttpOptions,
}

/// A role, or `build` for all that modules are built with.
#[derive(Clone, Debug)]
pub struct Roles(pub Vec<Role>);

impl FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "build" {
            return Ok(Roles(vec![Role::Devel, Role::Headers, Role::Common, Role::Kbuild, Role::Config]));
        }
        let found = Role::ALL.into_iter().find(|role| role.name() == text);
        let known = || format!("known roles: build, {}", Role::ALL.map(Role::name).join(", "));
        found.map(|role| Roles(vec![role])).ok_or_else(known)
    }
}

/// What a fetch would bring.
#[derive(Debug, Serialize)]
pub struct WouldFetch {
    /// Always true.
    pub dry_run: bool,
    /// The packages, by name.
    pub packages: Vec<WouldFetchPackage>,
    /// Files that are there and right, and stay.
    pub unchanged: Vec<String>,
    /// Signed repositories whose signatures were not checked, for want of a key ring.
    pub unchecked: Vec<String>,
    /// Bytes of those to be fetched whose size is stated.
    pub bytes: u64,
    #[serde(skip)]
    complete: bool,
}

/// A package that would be fetched.
#[derive(Debug, Serialize)]
pub struct WouldFetchPackage {
    /// Its file.
    pub file: String,
    /// Bytes, where the source states them.
    pub size: Option<u64>,
    /// Where it is.
    pub location: String,
    /// Whether a file with other content is there, which it would replace.
    pub replaces: bool,
}

/// What is unpacked, and where to.
#[derive(Clone, Debug)]
pub struct UnpackKernels {
    /// Sources on the disk, and which of their kernels are wanted; rpm packages are signed by a key in its key ring.
    pub from: SourceOptions,
    /// The directory to unpack into.
    pub to: PathBuf,
    /// The most that one package may decompress to, in bytes.
    pub package_limit: u64,
    /// How servers are spoken to.
    pub http: HttpOptions,
}

/// What was unpacked.
#[derive(Debug)]
pub struct UnpackedKernels {
    /// What became of each kernel.
    pub report: UnpackReport,
    /// What is wrong with some, a line each.
    pub warnings: Vec<String>,
    /// How much there is: all, where all sources could be read and modules can be built for all kernels.
    pub done: Done,
}

impl FetchOptions {
    /// The kernels with the packages that are wanted of them.
    pub fn gather(&self, progress: &Progress) -> Result<Gathered, Error> {
        let mut gathered = gather::kernels(&self.from, &self.http, progress)?.or_nothing()?;
        if !self.roles.is_empty() {
            let kernels = &mut gathered.kernels;
            let there: BTreeSet<Role> =
                kernels.iter().flat_map(|kernel| &kernel.packages).map(|(role, _)| *role).collect();
            kernels.iter_mut().for_each(|kernel| kernel.packages.retain(|(role, _)| self.roles.contains(role)));
            kernels.retain(|kernel| !kernel.packages.is_empty());
            if kernels.is_empty() {
                return Err(NothingFound::NoRole { wanted: self.roles.iter().copied().collect(), there }.into());
            }
        }
        Ok(gathered)
    }
}

/// Says what a fetch of what was gathered would bring to what is in the directory.
pub fn would_fetch(gathered: &Gathered, options: &FetchOptions, progress: &Progress) -> Result<WouldFetch, Error> {
    let packages = gathered.kernels.iter().flat_map(|kernel| &kernel.packages);
    let packages = packages.map(|(_, package)| (package.name.to_string(), package)).collect::<BTreeMap<_, _>>();
    let there =
        block_on::<_, Error>(async { Ok(download::there(packages.values().copied(), &options.to, progress).await?) })?;
    let unchanged: Vec<String> =
        there.iter().filter(|(_, is_right)| **is_right).map(|(file, _)| file.clone()).collect();
    let packages = packages.into_iter().filter(|(file, _)| there.get(file) != Some(&true));
    let packages = packages.map(|(file, package)| WouldFetchPackage {
        size: package.size,
        location: package.location.clone(),
        replaces: there.contains_key(&file),
        file,
    });
    let packages: Vec<_> = packages.collect();
    let bytes = limits::total(packages.iter().filter_map(|package| package.size));
    let unchecked = gathered.unchecked.clone();
    Ok(WouldFetch { dry_run: true, packages, unchanged, unchecked, bytes, complete: gathered.complete })
}

/// Fetches what was gathered; also says how much of it is there now. Where there are [marks](crate::progress::Narration), there
/// is no other progress.
pub fn fetch(gathered: Gathered, options: &FetchOptions, progress: &Progress) -> Result<(FetchReport, Done), Error> {
    let Gathered { kernels, mirrors, unchecked, complete, .. } = gathered;
    let from = &options.from;
    let places = kernels.iter().flat_map(|kernel| &kernel.packages).map(|(_, package)| &*package.location);
    let http = gather::client(from, places, &options.http)?;
    let redhat = gather::redhat(from, &http);
    let how = download::FetchOptions { per_host: options.per_host, redhat, mirrors, narration: from.narration };
    // Bars and marks would write over each other.
    let off = Progress::off();
    let progress = if from.narration.marks { &off } else { progress };
    let report =
        block_on::<_, Error>(async { Ok(download::fetch(&http, kernels, &options.to, &how, progress).await?) })?;
    let report = FetchReport { unchecked, ..report };
    let done = Done::of(report.fetched.len() + report.unchanged.len(), complete && report.failed.is_empty());
    Ok((report, done))
}

/// Unpacks kernels whose packages are here.
pub fn unpack(options: &UnpackKernels, progress: &Progress) -> Result<UnpackedKernels, Error> {
    let elsewhere = |source: &Source| match source {
        Source::Directory(_) | Source::Set(_) => None,
        Source::Rpm(url) | Source::Apt(AptRepository { base: url, .. }) => Some(shown(url)),
        Source::RedHat(sets) => Some(format!("redhat:{}", sets.join(" "))),
        Source::Crawler(list) => Some(format!("what {} lists", list.display())),
    };
    if let Some(place) = options.from.sources.iter().find_map(elsewhere) {
        return Err(Error::NotHere(place));
    }
    let from = SourceOptions { beside_sets: true, ..options.from.clone() };
    let Gathered { kernels, complete, .. } = gather::kernels(&from, &options.http, progress)?.or_nothing()?;
    // One that is lost of many is its kernel's failure; where there is none, they were never fetched.
    let mut packages = kernels.iter().flat_map(|kernel| &kernel.packages).peekable();
    let first = packages.peek().map(|(_, package)| package.location.clone());
    if let Some(first) = first.filter(|_| packages.all(|(_, package)| package.location.contains("://"))) {
        return Err(Error::NotHere(first));
    }
    let keys = options.from.keyring.as_deref().map(keys).transpose()?;
    let how = unpack::UnpackOptions { package_limit: options.package_limit, keys };
    let report = unpack::unpack(&kernels, &options.to, &how, progress)?;
    let right = report.kernels.values().filter(|kernel| kernel.status != Status::Failed).count();
    let mut warnings = report.warnings(&kernels);
    let debs = report.kernels.values().flat_map(|kernel| &kernel.packages).filter(|it| it.file.ends_with(".deb"));
    let debs = if options.from.keyring.is_some() { debs.map(|it| &it.file).collect() } else { BTreeSet::new() };
    if let Some(first) = debs.first() {
        let more = if debs.len() > 1 { format!(" and {} more", debs.len() - 1) } else { String::new() };
        warnings.push(format!(
            "signatures of .deb files are not checked: {first}{more}; those of their repository are, with `--keyring` of `kernel fetch`"
        ));
    }
    let done = Done::of(right, complete && report.is_complete() && debs.is_empty());
    Ok(UnpackedKernels { warnings, done, report })
}

fn keys(path: &Path) -> Result<Keys, Error> {
    let keyring = Keyring::read(&fs::read(path, limits::KEYRING)?);
    let keyring = keyring.map_err(|error| Error::from(error).about(path.display()))?;
    Keys::of(keyring.armored()).map_err(|error| Error::from(error).about(path.display()))
}

impl WouldFetch {
    /// How much would be there.
    pub fn done(&self) -> Done {
        Done::of(self.packages.len() + self.unchanged.len(), self.complete)
    }

    /// The packages with their sizes, and the sum.
    pub fn to_text(&self) -> String {
        let size = |size: Option<u64>| size.map_or("unknown size".to_owned(), |size| amount(size, Unit::Bytes));
        let lines = self.packages.iter().map(|package| {
            let other = if package.replaces { "  (replaces one with other content)" } else { "" };
            format!("{:>12}  {}{other}\n", size(package.size), package.file)
        });
        let unknown = self.packages.iter().filter(|package| package.size.is_none()).count();
        let more = if unknown > 0 { format!(", and {unknown} of unknown size") } else { String::new() };
        let there = match self.unchanged.len() {
            0 => String::new(),
            1 => "; 1 is there".to_owned(),
            several => format!("; {several} are there"),
        };
        let (packages, total) = (count(self.packages.len(), "package"), amount(self.bytes, Unit::Bytes));
        lines.collect::<String>() + &format!("{packages} would be fetched: {total}{more}{there}\n")
    }
}
