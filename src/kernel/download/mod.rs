//! Packages fetched into a directory: several at once, resumed, checked, and visible only when they are right.
//!
//! A package is written to `.FILE.part` and renamed when its digest is right. What a killed run left there is continued
//! (`Range`), provided that the digest is known in advance; otherwise one would not know of which file it is the beginning.
//! Where a source states no digest, the size must be the one that it states, and the package be whole by what it says about
//! itself ([`unpack::whole`]). Packages that are files here are copied and checked alike.
//!
//! Where a list of mirrors led to the repository, a package that one of them lacks is asked of the next.
//!
//! At the end `fetch.lock` holds the kernels that are in the directory, in the form of `kernels.json` with every digest:
//! given as a source (`set:DIR/fetch.lock`), it fetches the same again. Kernels of earlier runs stay in it as long as
//! their packages are there.

mod one;
mod transfer;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use url::Url;

use crate::causes;
use crate::digest::Digest;
use crate::fs::{self, PathError};
use crate::http::{self, Http, Retriable, Verdict};
use crate::kernel::download::one::{Fetched, How, one, right};
use crate::kernel::group::Kernel;
use crate::kernel::package::Package;
use crate::kernel::release::Release;
use crate::kernel::set::{self, EntryPackage, KernelSet, Mirrors};
use crate::kernel::source::Mismatch;
use crate::kernel::source::redhat::{self, RedHat};
use crate::kernel::unpack;
use crate::limits;
use crate::plural;
use crate::progress::{Narration, Progress, Unit};

/// How packages are fetched.
#[derive(Clone)]
pub struct FetchOptions {
    /// How many at once from one host.
    pub per_host: usize,
    /// The subscriber API, whose packages need its token.
    pub redhat: Option<Arc<RedHat>>,
    /// Repositories of which there are several: a package that one lacks is asked of the others.
    pub mirrors: Vec<Mirrors>,
    /// What is said while packages are fetched, beside progress.
    pub narration: Narration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        // Red Hat's servers answer the fifth with 429.
        FetchOptions { per_host: 4, redhat: None, mirrors: Vec::new(), narration: Narration::default() }
    }
}

/// What became of the packages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FetchReport {
    /// Files that were fetched.
    pub fetched: Vec<String>,
    /// Files that were there and right.
    pub unchanged: Vec<String>,
    /// Of those fetched: files that were there with other content.
    pub replaced: Vec<String>,
    /// Files whose digest no source stated, so that nothing was compared with it; they are whole by what they say themselves.
    pub unverified: Vec<String>,
    /// Files of which only MD5 or SHA-1 was stated: they are not damaged, but may be forged.
    pub weak: Vec<String>,
    /// Signed repositories whose signatures were not checked, for want of a key ring.
    pub unchecked: Vec<String>,
    /// Of those fetched: files that the first mirror of a list did not give.
    pub elsewhere: BTreeMap<String, Elsewhere>,
    /// Files that could not be fetched, and why.
    pub failed: BTreeMap<String, String>,
    /// How many bytes were transferred.
    pub bytes: u64,
}

/// From where a file came that the first mirror of a list did not give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Elsewhere {
    /// Its URL, without credentials.
    pub from: String,
    /// What was wrong at the first.
    pub why: String,
}

/// Why a package cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or a bad one.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// The subscriber API cannot be used.
    #[error("{0}")]
    RedHat(#[from] redhat::Error),
    /// It cannot be written.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The list of what earlier runs fetched, which would be lost.
    #[error("{}: cannot be gone on with", path.display())]
    Lock {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        source: set::Error,
    },
    /// What came is not what should have come.
    #[error("{0}")]
    Mismatch(#[from] Mismatch),
    /// A file here is not what it should be.
    #[error("{}: has the digest {actual}, where {expected} was stated", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// The digest that a source stated.
        expected: Digest,
        /// The digest that it has.
        actual: Digest,
    },
    /// A file here has another size than was stated, whatever its digest is.
    #[error("{}: {actual} bytes are there, where {expected} were stated", path.display())]
    CopySize {
        /// The file.
        path: PathBuf,
        /// How many bytes there should be.
        expected: u64,
        /// How many there are.
        actual: u64,
    },
    /// What came has another size than was stated, whatever its digest is.
    #[error("{}: {actual} bytes came, where {expected} were stated", http::shown(url))]
    Size {
        /// From where.
        url: Box<Url>,
        /// How many there should be.
        expected: u64,
        /// How many there were.
        actual: u64,
    },
    /// It is not a whole package, and there is no digest to go by.
    #[error("{}: what came is not a whole package", http::shown(url))]
    Damaged {
        /// From where.
        url: Box<Url>,
        /// What is wrong with it.
        source: Box<unpack::Error>,
    },
    /// Nobody has it.
    #[error("{first}; {} of the list did not give it either", plural::count(*others, "more mirror"))]
    NoMirror {
        /// What was wrong at the first mirror.
        first: String,
        /// How many others were asked.
        others: usize,
    },
    /// Its place is no URL.
    #[error("`{0}` is not a URL of a web server")]
    NoUrl(String),
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            Error::RedHat(error) => error.verdict(),
            _ => Verdict::Permanent,
        }
    }
}

/// Who is asked for packages.
struct Origin {
    http: Http,
    redhat: Option<Arc<RedHat>>,
    mirrors: Vec<Mirrors>,
    narration: Narration,
}

/// Fetches the packages of kernels into a directory, each once, and writes `fetch.lock` there.
///
/// Packages that cannot be fetched are in the report; kernels that miss some for that reason are not in `fetch.lock`. One that is there
/// and cannot be read is an error before anything is fetched: what it lists would be lost.
pub async fn fetch(
    http: &Http,
    kernels: Vec<Kernel>,
    directory: &Path,
    options: &FetchOptions,
    progress: &Progress,
) -> Result<FetchReport, Error> {
    let path = directory.join("fetch.lock");
    earlier(&path)?;
    let packages = kernels.iter().flat_map(|kernel| &kernel.packages).map(|(_, package)| package);
    let (report, right) = fetch_packages(http, packages, directory, options, progress).await?;
    let mut set = KernelSet::new(locked(kernels, &right)).with_mirrors(options.mirrors.iter().cloned());
    if let Some(earlier) = earlier(&path)? {
        keep_earlier(&mut set, earlier, directory);
    }
    let lock = serde_json::to_vec_pretty(&set).expect("a set is plain data");
    fs::write(&path, &lock)?;
    Ok(report)
}

/// What earlier runs fetched, where there were some.
fn earlier(lock: &Path) -> Result<Option<KernelSet>, Error> {
    if lock.symlink_metadata().is_err() {
        return Ok(None);
    }
    let set = KernelSet::parse(&fs::read(lock, LOCK_LIMIT)?);
    Ok(Some(set.map_err(|source| Error::Lock { path: lock.to_owned(), source })?))
}

/// Takes over from the lock of earlier runs the kernels that this one is not about, or could not get, and whose packages
/// lie there.
fn keep_earlier(set: &mut KernelSet, earlier: KernelSet, directory: &Path) {
    let new: HashSet<Release> = set.kernels.iter().map(|kernel| kernel.release.clone()).collect();
    let is_there = |package: &EntryPackage| {
        let metadata = std::fs::metadata(directory.join(package.name.to_string()));
        metadata.is_ok_and(|there| package.size.is_none_or(|size| there.len() == size))
    };
    let others = earlier.mirrors.into_iter().filter(|it| !set.mirrors.contains(it)).collect::<Vec<_>>();
    set.mirrors.extend(others);
    let kept = earlier.kernels.into_iter().filter(|kernel| !new.contains(&kernel.release));
    set.kernels.extend(kept.filter(|kernel| kernel.packages.iter().all(is_there)));
    set.kernels.sort_by(|one, other| one.release.cmp(&other.release));
}

/// Which of these packages lie in a directory: true for those that [`fetch_packages`] would leave, false for those that it would
/// replace.
pub async fn there(
    packages: impl IntoIterator<Item = &Package>,
    directory: &Path,
    progress: &Progress,
) -> Result<BTreeMap<String, bool>, PathError> {
    let mut there = BTreeMap::new();
    let task = progress.task("comparing", Unit::Bytes, None);
    for package in packages {
        let (file, target) = (package.name.to_string(), directory.join(package.name.to_string()));
        if target.exists() && !there.contains_key(&file) {
            let found = right(package, &target).await?;
            task.add(found.as_ref().map_or(0, |found| found.size));
            there.insert(file, found.is_some());
        }
    }
    Ok(there)
}

/// Fetches packages into a directory, each once, under their file names. Returns digest and size of those that are there.
pub async fn fetch_packages(
    http: &Http,
    packages: impl IntoIterator<Item = &Package>,
    directory: &Path,
    options: &FetchOptions,
    progress: &Progress,
) -> Result<(FetchReport, HashMap<String, (Digest, u64)>), PathError> {
    fs::create_dir_all(directory)?;
    let mut wanted: BTreeMap<String, Package> = BTreeMap::new();
    for package in packages {
        wanted.entry(package.name.to_string()).or_insert_with(|| package.clone());
    }
    let nothing_wanted = wanted.is_empty();
    let sizes: Option<Vec<u64>> = wanted.values().map(|package| package.size).collect();
    let total = sizes.map(limits::total);
    let task = Arc::new(progress.task("fetching", Unit::Bytes, total));
    let mut hosts: HashMap<String, Arc<Semaphore>> = HashMap::new();
    // The transfers wait for the network most of the time: one thread serves them all, and hashing goes to others.
    let local = LocalSet::new();
    let mut running = JoinSet::new();
    for (file, package) in wanted {
        let host = package.location.split('/').nth(2).unwrap_or_default().to_owned();
        let gate = hosts.entry(host).or_insert_with(|| Arc::new(Semaphore::new(options.per_host.max(1)))).clone();
        let origin = Origin {
            http: http.clone(),
            redhat: options.redhat.clone(),
            mirrors: options.mirrors.clone(),
            narration: options.narration,
        };
        let (target, task) = (directory.join(&file), task.clone());
        running.spawn_local_on(
            async move {
                let _permit = gate.acquire_owned().await.expect("the gate is never closed");
                let fetched = one(&origin, &package, &target, &task).await;
                (file, package, fetched)
            },
            &local,
        );
    }
    let mut report = FetchReport::default();
    let mut right: HashMap<String, (Digest, u64)> = HashMap::new();
    while let Some(finished) = local.run_until(running.join_next()).await {
        let (file, package, fetched) = finished.expect("fetching does not panic");
        match fetched {
            Err(error) => {
                report.failed.insert(file, causes::line(&error));
            }
            Ok(Fetched { digest, size, how, transferred, elsewhere }) => {
                report.bytes += transferred;
                match how {
                    How::Unchanged => report.unchanged.push(file.clone()),
                    How::New | How::Replaced => report.fetched.push(file.clone()),
                }
                if how == How::Replaced {
                    report.replaced.push(file.clone());
                }
                match &package.checksum {
                    _ if package.sha256.is_some() => {}
                    None => report.unverified.push(file.clone()),
                    Some(stated) if !stated.is_strong() => report.weak.push(file.clone()),
                    Some(_) => {}
                }
                report.elsewhere.extend(elsewhere.map(|elsewhere| (file.clone(), elsewhere)));
                right.insert(file, (digest, size));
            }
        }
    }
    options.narration.end_marks();
    match report.failed.len() {
        0 if nothing_wanted => {}
        0 => options.narration.line(format_args!("All done")),
        failed => options.narration.line(format_args!("Done, but for {failed} that failed")),
    }
    let FetchReport { fetched, unchanged, replaced, unverified, weak, .. } = &mut report;
    for list in [fetched, unchanged, replaced, unverified, weak] {
        list.sort();
    }
    Ok((report, right))
}

/// The kernels of which every package is there, with digests and sizes.
fn locked(mut kernels: Vec<Kernel>, right: &HashMap<String, (Digest, u64)>) -> Vec<Kernel> {
    kernels.retain_mut(|kernel| {
        kernel.packages.iter_mut().all(|(_, package)| match right.get(&package.name.to_string()) {
            Some((digest, size)) => {
                package.sha256 = Some(digest.clone());
                package.size = Some(*size);
                true
            }
            None => false,
        })
    });
    kernels
}

/// A lock of a thousand kernels has some megabytes.
const LOCK_LIMIT: u64 = 256 << 20;
