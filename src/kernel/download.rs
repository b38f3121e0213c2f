//! Packages fetched into a directory: several at once, resumed, checked, and visible only when they are right.
//!
//! A package is written to `.FILE.part` and renamed when its digest is right. What a killed run left there is continued
//! (`Range`), provided that the digest is known in advance; otherwise one would not know of which file it is the beginning.
//! Packages that are files here are copied and checked alike.
//!
//! At the end `fetch.lock` holds the kernels that are in the directory, in the form of `kernels.json` with every digest:
//! given as a source (`set:DIR/fetch.lock`), it fetches the same again. Kernels of earlier runs stay in it as long as
//! their packages are there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use url::Url;

use crate::causes;
use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::fs::{self, AtomicFile, PathContext, PathError};
use crate::http::{self, Http, Retriable, Verdict};
use crate::kernel::group::Kernel;
use crate::kernel::package::Package;
use crate::kernel::release::Release;
use crate::kernel::set::{EntryPackage, KernelSet};
use crate::kernel::source::Mismatch;
use crate::kernel::source::redhat::{self, RedHat};
use crate::limits;
use crate::progress::{Narration, Progress, Task, Unit};

/// How packages are fetched.
#[derive(Clone)]
pub struct FetchOptions {
    /// How many at once from one host.
    pub per_host: usize,
    /// The subscriber API, whose packages need its token.
    pub redhat: Option<Arc<RedHat>>,
    /// What is said while packages are fetched, beside progress.
    pub narration: Narration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        // Red Hat's servers answer the fifth with 429.
        FetchOptions { per_host: 4, redhat: None, narration: Narration::default() }
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
    /// Of those fetched: files whose digest no source stated, so that nothing was checked.
    pub unverified: Vec<String>,
    /// Files that could not be fetched, and why.
    pub failed: BTreeMap<String, String>,
    /// How many bytes were transferred.
    pub bytes: u64,
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
    /// What came has another size than was stated, and there is no digest to go by.
    #[error("{url}: {actual} bytes came, where {expected} were stated")]
    Size {
        /// From where.
        url: Box<Url>,
        /// How many there should be.
        expected: u64,
        /// How many there were.
        actual: u64,
    },
    /// Its place is no URL.
    #[error("`{0}` is no URL of a web server")]
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

/// What became of one package.
struct Fetched {
    digest: Digest,
    size: u64,
    how: How,
    transferred: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    New,
    Replaced,
    Unchanged,
}

/// Fetches the packages of kernels into a directory, each once, and writes `fetch.lock` there.
///
/// Packages that cannot be fetched are in the report; kernels that miss some for that reason are not in `fetch.lock`.
pub async fn fetch(
    http: &Http,
    kernels: Vec<Kernel>,
    directory: &Path,
    options: &FetchOptions,
    progress: &Progress,
) -> Result<FetchReport, PathError> {
    let packages = kernels.iter().flat_map(|kernel| &kernel.packages).map(|(_, package)| package);
    let (report, right) = fetch_packages(http, packages, directory, options, progress).await?;
    let path = directory.join("fetch.lock");
    let mut set = KernelSet::new(locked(kernels, &right));
    keep_earlier(&mut set, &path, directory);
    let lock = serde_json::to_vec_pretty(&set).expect("a set is plain data");
    fs::write(&path, &lock)?;
    Ok(report)
}

/// Takes over from the lock of earlier runs the kernels that this one is not about, or could not get, and whose packages
/// lie there. A lock that cannot be read has nothing to keep.
fn keep_earlier(set: &mut KernelSet, lock: &Path, directory: &Path) {
    let Some(earlier) = fs::read(lock, LOCK_LIMIT).ok().and_then(|json| KernelSet::parse(&json).ok()) else { return };
    let new: HashSet<Release> = set.kernels.iter().map(|kernel| kernel.release.clone()).collect();
    let is_there = |package: &EntryPackage| {
        let metadata = std::fs::metadata(directory.join(package.name.to_string()));
        metadata.is_ok_and(|there| package.size.is_none_or(|size| there.len() == size))
    };
    let kept = earlier.kernels.into_iter().filter(|kernel| !new.contains(&kernel.release));
    set.kernels.extend(kept.filter(|kernel| kernel.packages.iter().all(is_there)));
    set.kernels.sort_by(|one, other| one.release.cmp(&other.release));
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
        let source = Origin { http: http.clone(), redhat: options.redhat.clone(), narration: options.narration };
        let (target, task) = (directory.join(&file), task.clone());
        running.spawn_local_on(
            async move {
                let _permit = gate.acquire_owned().await.expect("the gate is never closed");
                let fetched = one(&source, &package, &target, &task).await;
                (file, package.sha256.is_some(), fetched)
            },
            &local,
        );
    }
    let mut report = FetchReport::default();
    let mut right: HashMap<String, (Digest, u64)> = HashMap::new();
    while let Some(finished) = local.run_until(running.join_next()).await {
        let (file, is_stated, fetched) = finished.expect("fetching does not panic");
        match fetched {
            Err(error) => {
                report.failed.insert(file, causes::line(&error));
            }
            Ok(Fetched { digest, size, how, transferred }) => {
                report.bytes += transferred;
                match how {
                    How::Unchanged => report.unchanged.push(file.clone()),
                    How::New | How::Replaced => report.fetched.push(file.clone()),
                }
                if how == How::Replaced {
                    report.replaced.push(file.clone());
                }
                if !is_stated {
                    report.unverified.push(file.clone());
                }
                right.insert(file, (digest, size));
            }
        }
    }
    if !report.fetched.is_empty() || !report.failed.is_empty() {
        options.narration.mark("\n");
    }
    match report.failed.len() {
        0 if nothing_wanted => {}
        0 => options.narration.line(format_args!("All done")),
        failed => options.narration.line(format_args!("Done, but for {failed} that failed")),
    }
    for list in [&mut report.fetched, &mut report.unchanged, &mut report.replaced, &mut report.unverified] {
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

async fn one(source: &Origin, package: &Package, target: &Path, task: &Task) -> Result<Fetched, Error> {
    let url = match package.location.contains("://") {
        false => None,
        true => {
            let url: Url = package.location.parse().map_err(|_| Error::NoUrl(package.location.clone()))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(Error::NoUrl(package.location.clone()));
            }
            Some(url)
        }
    };
    let mut how = How::New;
    if target.exists() {
        let (digest, size) = hash(target).await?;
        let is_right = match (&package.sha256, package.size) {
            (Some(expected), _) => *expected == digest,
            (None, Some(expected)) => expected == size,
            (None, None) => true,
        };
        if is_right {
            let target = target.display();
            // Without a stated digest nothing was compared but the size, where that is stated.
            let why = if package.sha256.is_some() { " and checksums match" } else { "" };
            source.narration.line(format_args!("A local {target} exists{why}, so it will not be downloaded."));
            task.add(size);
            return Ok(Fetched { digest, size, how: How::Unchanged, transferred: 0 });
        }
        how = How::Replaced;
    }
    let Some(url) = url else { return copied(source, package, target, how, task).await };
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let part = target.with_file_name(format!(".{name}.part"));
    if package.sha256.is_none() {
        fs::remove_file(&part)?;
    }
    source.narration.mark("v");
    source.narration.line(format_args!("Downloading {name}"));
    let mut transferred = 0;
    // What lay there may be the beginning of another file of that name: then once more from the start.
    for is_last in [false, true] {
        let before = part.metadata().map_or(0, |metadata| metadata.len());
        source.http.retry().run(async || transfer(source, &url, &part, package, task).await).await?;
        let (digest, size) = hash(&part).await?;
        transferred += size.saturating_sub(before);
        match &package.sha256 {
            Some(expected) if *expected != digest => {
                fs::remove_file(&part)?;
                if is_last || before == 0 {
                    let (expected, actual) = (expected.to_string(), digest.to_string());
                    return Err(Mismatch { url: Box::new(url), expected, actual }.into());
                }
            }
            None if package.size.is_some_and(|expected| expected != size) => {
                fs::remove_file(&part)?;
                let expected = package.size.unwrap_or_default();
                return Err(Error::Size { url: Box::new(url), expected, actual: size });
            }
            _ => {
                publish(&part, target)?;
                source.narration.line(format_args!("Successfully downloaded {name}"));
                return Ok(Fetched { digest, size, how, transferred });
            }
        }
    }
    unreachable!("the second round returns")
}

/// Copies a package that is a file here.
async fn copied(source: &Origin, package: &Package, target: &Path, how: How, task: &Task) -> Result<Fetched, Error> {
    let (from, to) = (PathBuf::from(&package.location), target.to_owned());
    let expected = package.sha256.clone();
    let copy = move || -> Result<(Digest, u64), Error> {
        let mut reader = fs::open(&from)?;
        let mut writer = HashingWriter::new(AtomicFile::create(&to)?, Algorithm::Sha256);
        io::copy(&mut reader, &mut writer).at("write", &to)?;
        let (digest, size, file) = writer.finish();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::Copy { path: from, expected, actual: digest });
        }
        file.finish()?;
        Ok((digest, size))
    };
    let (digest, size) = tokio::task::spawn_blocking(copy).await.expect("copying does not panic")?;
    task.add(size);
    source.narration.line(format_args!("Copied {}", package.location));
    Ok(Fetched { digest, size, how, transferred: size })
}

/// Appends what is missing of `url` to `part`.
async fn transfer(source: &Origin, url: &Url, part: &Path, package: &Package, task: &Task) -> Result<(), Error> {
    let size = package.size;
    let mut file = fs::resume(part)?;
    // Whether its beginning is right is seen by its digest, at the end. Without one, the server may have another version of the
    // file by now, and nothing would tell that two were mixed.
    if package.sha256.is_none() {
        empty(&mut file).at("write", part)?;
    }
    let have = file.seek(io::SeekFrom::End(0)).at("read", part)?;
    if size == Some(have) && have > 0 {
        return Ok(());
    }
    let mut response = source.get(url, have).await?;
    let continues = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    match response.status() {
        StatusCode::PARTIAL_CONTENT if continues.is_some_and(|range| range.starts_with(&format!("bytes {have}-"))) => {}
        // The server sends the whole, or something that was not asked for.
        StatusCode::OK => empty(&mut file).at("write", part)?,
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
            empty(&mut file).at("write", part)?;
            response = source.get(url, 0).await?;
            if response.status() != StatusCode::OK {
                return Err(http::Error::status(response).await.into());
            }
        }
        _ => return Err(http::Error::status(response).await.into()),
    }
    let limit = size.unwrap_or(PACKAGE_LIMIT);
    let mut length = file.metadata().at("read", part)?.len();
    while let Some(chunk) = response.chunk().await.map_err(|source| http::Error::transport(url.clone(), source))? {
        length += chunk.len() as u64;
        if length > limit {
            fs::remove_file(part)?;
            return Err(http::Error::TooLarge { url: Box::new(url.clone()), limit }.into());
        }
        file.write_all(&chunk).at("write", part)?;
        task.add(chunk.len() as u64);
    }
    Ok(())
}

fn empty(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}

/// Who is asked for packages.
struct Origin {
    http: Http,
    redhat: Option<Arc<RedHat>>,
    narration: Narration,
}

impl Origin {
    /// Asks for a file from its byte `from` on.
    async fn get(&self, url: &Url, from: u64) -> Result<Response, Error> {
        let request = || match from {
            0 => self.http.get(url),
            from => self.http.get(url).header(RANGE, format!("bytes={from}-")),
        };
        match &self.redhat {
            Some(redhat) if redhat.owns(url) => Ok(redhat.send(request).await?),
            _ => Ok(self.http.send(request()).await?),
        }
    }
}

fn publish(part: &Path, target: &Path) -> Result<(), PathError> {
    fs::open_regular(part)?.sync_all().at("sync", part)?;
    fs::rename(part, target)?;
    fs::sync_dir(fs::parent(target))
}

async fn hash(path: &Path) -> Result<(Digest, u64), PathError> {
    let path: PathBuf = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || Digest::of_file(&path));
    hashed.await.expect("hashing does not panic")
}

/// A lock of a thousand kernels has some megabytes.
const LOCK_LIMIT: u64 = 256 << 20;

/// The largest kernel package, with debug information, has 1 GiB.
const PACKAGE_LIMIT: u64 = 8 << 30;
