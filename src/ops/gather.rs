//! What sources offer: packages, and the kernels that they belong to.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use url::Url;

use crate::causes;
use crate::fs;
use crate::http::{HostTls, Http, HttpOptions, shown};
use crate::kernel::classify::Reason;
use crate::kernel::group::{Grouping, Kernel, Offer, group};
use crate::kernel::package::{Name, Package};
use crate::kernel::set::{self, KernelSet, Mirrors};
use crate::kernel::source::cache::Cache;
use crate::kernel::source::filelists::FileList;
use crate::kernel::source::keyring::Keyring;
use crate::kernel::source::local::{self, Depth};
use crate::kernel::source::modulemd::Modules;
use crate::kernel::source::redhat::RedHat;
use crate::kernel::source::{self, Listing, Source, SourceOptions, Wanted, crawler, preset};
use crate::limits;
use crate::ops::nothing::{self, NothingFound};
use crate::ops::{Done, Error, block_on, hints};
use crate::plural::count;
use crate::progress::Progress;

/// The kernels that sources offer.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// Those that are wanted, from the oldest to the newest.
    pub kernels: Vec<Kernel>,
    /// What belongs to none, sorted by name, each with the reason.
    pub unplaced: Vec<(Package, Reason)>,
    /// The repositories that lists of mirrors led to.
    pub mirrors: Vec<Mirrors>,
    /// Signed repositories whose signatures were not checked, since there is no key ring.
    pub unchecked: Vec<String>,
    /// Whether all sources could be read, and all that the kernels need is there.
    pub complete: bool,
    /// Why there are none.
    nothing: Option<NothingFound>,
}

impl Gathered {
    /// How much of it was found.
    pub fn done(&self) -> Done {
        Done::of(self.kernels.len(), self.complete)
    }

    /// The same, where there are kernels.
    pub fn or_nothing(self) -> Result<Self, NothingFound> {
        self.nothing.clone().map_or(Ok(self), Err)
    }
}

/// The kernels that the sources offer and that are wanted. What could not be had is warned of.
pub fn kernels(from: &SourceOptions, http: &HttpOptions, progress: &Progress) -> Result<Gathered, Error> {
    let Offered { offer, mirrors, unchecked, mut complete, .. } = offer(from, Wanted::Kernels, http, progress)?;
    warn_of_unchecked(&unchecked);
    let packages = offer.packages.len();
    let mut grouping = group(offer);
    let (before, newest) = (grouping.kernels.len(), nothing::newest(&grouping.kernels));
    from.filter.apply(&mut grouping.kernels);
    complete &= warn_of(&grouping);
    let Grouping { kernels, unplaced, .. } = grouping;
    let nothing = match (before, kernels.len()) {
        (0, _) if packages > 0 => Some(NothingFound::no_kernel(packages, &unplaced)),
        (0, _) if complete => Some(NothingFound::NoPackage),
        (0, _) => Some(NothingFound::NothingRead),
        (_, 0) => Some(NothingFound::not_asked_for(before, newest, &from.filter)),
        _ => None,
    };
    Ok(Gathered { kernels, unplaced, mirrors, unchecked, complete, nothing })
}

/// Says of which repositories the signatures were not checked. Without a key ring that is nobody's fault, and all is there.
pub fn warn_of_unchecked<T: AsRef<str>>(repositories: &[T]) {
    let keys = "give the distribution's keyring or RPM-GPG-KEY file with `--keyring`";
    match repositories {
        [] => {}
        [one] => tracing::warn!("{}: its signature was not checked; {keys}", one.as_ref()),
        [first, others @ ..] => {
            let more = count(others.len(), "more repository");
            tracing::warn!("{} and {more}: their signatures were not checked; {keys}", first.as_ref());
        }
    }
}

/// What sources offer, before it is joined into kernels.
pub struct Offered {
    /// The packages.
    pub offer: Offer,
    /// The repositories that lists of mirrors led to.
    pub mirrors: Vec<Mirrors>,
    /// Signed repositories whose signatures were not checked.
    pub unchecked: Vec<String>,
    /// Where the files of packages are listed that the packages themselves do not say they have.
    pub files: Vec<FileList>,
    /// Whether all of it could be had; what could not is warned of.
    pub complete: bool,
}

/// What the sources offer, whichever kernel it belongs to.
pub fn offer(from: &SourceOptions, wanted: Wanted, http: &HttpOptions, progress: &Progress) -> Result<Offered, Error> {
    let (mut complete, mut mirrors, mut files, mut unchecked) = (true, Vec::new(), Vec::new(), Vec::new());
    let mut modules = Modules::default();
    let mut offer = Offer::default();
    let depth = if from.names_only { Depth::Names } else { Depth::Headers };
    let (mut repositories, mut failed) = (Vec::new(), Vec::new());
    let sources = sources(from)?;
    let is_remote = !sources.is_empty()
        && sources.iter().all(|it| matches!(it, Source::Rpm(_) | Source::Apt(_) | Source::RedHat(_)));
    for source in sources {
        match source {
            Source::Directory(path) => {
                let (found, problems) = local::offer(&path, depth, progress)?;
                for problem in problems {
                    complete = false;
                    let hint = causes::of(&problem.error).find_map(hints::hint);
                    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                    tracing::warn!("{}: {}{hint}", problem.path.display(), causes::line(&problem.error));
                }
                offer.extend(found);
            }
            Source::Set(path) => {
                let set = KernelSet::parse(&fs::read(&path, limits::KERNEL_SET)?);
                let set = set.map_err(|error| Error::from(error).about(path.display()))?;
                let stated = set.mirrors.iter().filter(|it| {
                    let mut urls = std::iter::once(&it.base).chain(&it.others);
                    urls.all(|url| matches!(url.scheme(), "http" | "https"))
                });
                mirrors.extend(stated.cloned());
                let mut kernels = set.into_kernels();
                for kernel in &mut kernels {
                    kernel.packages.retain_mut(|(_, package)| {
                        let is_taken = at_hand(package, &path, from);
                        complete &= is_taken;
                        is_taken
                    });
                }
                offer.placed.extend(kernels);
            }
            Source::Crawler(path) => {
                let list = crawler::offer(fs::open(&path)?);
                offer.extend(list.map_err(|error| Error::from(error).about(path.display()))?);
            }
            Source::Rpm(_) | Source::Apt(_) | Source::RedHat(_) => repositories.push(source),
        }
    }
    let (results, mut read) = (from_repositories(repositories, from, wanted, http)?, !is_remote);
    for result in results {
        match result {
            Ok(found) => {
                read = true;
                complete &= found.problems.is_empty();
                for problem in found.problems.iter().take(SAID) {
                    tracing::warn!("passed over: {problem}");
                }
                if found.problems.len() > SAID {
                    tracing::warn!("passed over: {} more", found.problems.len() - SAID);
                }
                offer.packages.extend(found.packages);
                mirrors.extend(found.mirrors);
                files.extend(found.files);
                unchecked.extend(found.unchecked.map(|url| shown(&url)));
                modules.extend(found.modules);
            }
            Err(error) => failed.push(error),
        }
    }
    // Where nothing could be read, that is the failure; where others could, it is a warning.
    if !read && failed.len() == 1 {
        return Err(failed.remove(0).into());
    }
    for error in &failed {
        complete = false;
        let more = match error {
            source::Error::Expired { .. } => "; ask another mirror, or take it as it is with `--allow-expired`",
            _ => "",
        };
        tracing::warn!("{}{more}", causes::line(error));
    }
    if !read {
        return Err(Error::NoSourceRead(failed.len()));
    }
    if wanted == Wanted::All {
        for unknown in modules.unknown(&from.modules) {
            complete = false;
            tracing::warn!("no repository has the stream {unknown}");
        }
        modules.apply(&from.modules, &mut offer.packages);
    }
    Ok(Offered { offer, mirrors, unchecked, files, complete })
}

/// The packages that have files which they do not say they have, each with the path, by the lists of their repositories.
pub fn owners(
    from: &SourceOptions,
    lists: &[FileList],
    paths: &BTreeSet<String>,
    http: &HttpOptions,
) -> Result<Vec<(Name, String)>, Error> {
    let http = client(from, lists.iter().map(FileList::place), http)?;
    let cache = from.cache_dir.as_deref().map(Cache::open).transpose()?;
    block_on(async {
        let mut owners = Vec::new();
        for list in lists {
            owners.extend(list.owners(&http, paths, cache.as_ref()).await?);
        }
        Ok(owners)
    })
}

/// The subscriber API, when there is a token for it.
pub fn redhat(from: &SourceOptions, http: &Http) -> Option<Arc<RedHat>> {
    let options = from.redhat.clone()?;
    Some(Arc::new(RedHat::new(http.clone(), options).narrated(from.narration)))
}

/// A client that shows the certificate of `from` to the hosts of these places and to no other.
pub fn client<'a>(
    from: &SourceOptions,
    places: impl Iterator<Item = &'a str>,
    http: &HttpOptions,
) -> Result<Http, Error> {
    // Content is known by its digest; a server must not wrap it into another compression.
    let mut options = HttpOptions { gzip: false, ..http.clone() };
    if let Some(identity) = &from.identity {
        let hosts: BTreeSet<String> = places.filter_map(host).collect();
        let with = |host| HostTls { identity: Some(identity.clone()), ..HostTls::new(host) };
        options.hosts.extend(hosts.into_iter().map(with));
    }
    Ok(Http::new(&options)?)
}

/// The sources that are named, and those of the distributions that are.
fn sources(from: &SourceOptions) -> Result<Vec<Source>, Error> {
    let mut sources = from.sources.clone();
    let default = "x86_64".parse().unwrap_or_else(|never| match never {});
    let machines = &from.filter.machines;
    for distro in &from.distros {
        for machine in machines.iter().chain(machines.is_empty().then_some(&default)) {
            for source in preset::sources(distro, machine, from.mirror.as_deref())? {
                // One suite of an apt repository serves all machines.
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
        }
    }
    Ok(sources)
}

/// What repositories offer, side by side, each with its own error.
fn from_repositories(
    repositories: Vec<Source>,
    from: &SourceOptions,
    wanted: Wanted,
    http: &HttpOptions,
) -> Result<Vec<Result<Listing, source::Error>>, Error> {
    if repositories.is_empty() {
        return Ok(Vec::new());
    }
    let keyring = match &from.keyring {
        Some(path) => {
            let keyring = Keyring::read(&fs::read(path, limits::KEYRING)?);
            Some(Arc::new(keyring.map_err(|error| Error::from(error).about(path.display()))?))
        }
        None => None,
    };
    let places: Vec<&str> = repositories.iter().filter_map(place).collect();
    let http = client(from, places.into_iter(), http)?;
    let options = source::Options {
        machines: from.filter.machines.clone(),
        keyring,
        allow_expired: from.allow_expired,
        now: jiff::Timestamp::now(),
        redhat: redhat(from, &http),
        wanted,
        cache: from.cache_dir.as_deref().map(Cache::open).transpose()?,
    };
    block_on(async { Ok(source::packages_of_all(&http, repositories, &options).await) })
}

/// Says where a package of a set is: what was fetched from a disk lies beside its `fetch.lock` when the disk is gone. False, and a
/// warning, for a file that a set must not name.
fn at_hand(package: &mut Package, set: &Path, from: &SourceOptions) -> bool {
    let place = set::place(&package.location, &package.name, set, from.allow_local);
    let place = match place {
        set::Place::Url if from.beside_sets => set::place(&package.name.to_string(), &package.name, set, false),
        place => place,
    };
    match place {
        set::Place::File(file) => package.location = file.to_string_lossy().into_owned(),
        set::Place::Url | set::Place::Nowhere => {}
        set::Place::Outside => {
            let (set, location) = (set.display(), &package.location);
            tracing::warn!("{set}: names a file outside its directory, {location}; left out without --allow-local");
            return false;
        }
    }
    true
}

/// `HOST`, with the port where it is not that of the scheme.
fn host(place: &str) -> Option<String> {
    let url = place.parse::<Url>().ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// The address of a repository.
fn place(source: &Source) -> Option<&str> {
    match source {
        Source::Rpm(url) => Some(url.as_str()),
        Source::Apt(apt) => Some(apt.base.as_str()),
        _ => None,
    }
}

/// Says what was left out; false when any of it is a fault.
fn warn_of(grouping: &Grouping) -> bool {
    for (package, reason) in &grouping.unplaced {
        tracing::info!("{}: left out: {reason}", package.name);
    }
    for package in &grouping.conflicts {
        tracing::warn!("{}: another package has this name and other content; left out", package.location);
    }
    let missing = grouping.kernels.iter().flat_map(|kernel| kernel.missing.iter().map(|what| (&kernel.release, what)));
    for (release, what) in missing {
        tracing::warn!("{release}: {what} is not here");
    }
    grouping.conflicts.is_empty() && grouping.kernels.iter().all(|kernel| kernel.missing.is_empty())
}

/// So many of a repository's problems are said one by one.
const SAID: usize = 20;
