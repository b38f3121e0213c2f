//! One package: there and right already, copied from a file, or transferred from the first place that has it.

use std::io;
use std::path::{Path, PathBuf};

use url::Url;

use crate::causes;
use crate::digest::{Algorithm, Digest, HashingReader, HashingWriter};
use crate::fs::{self, AtomicFile, PathContext, PathError};
use crate::http::{self, Retriable, Verdict};
use crate::kernel::checksum::Checksum;
use crate::kernel::download::transfer::{Part, transfer};
use crate::kernel::download::{Elsewhere, Error, Origin};
use crate::kernel::package::Package;
use crate::kernel::source::Mismatch;
use crate::kernel::unpack;
use crate::progress::Task;

/// What became of one package.
pub(super) struct Fetched {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) how: How,
    /// Bytes.
    pub(super) transferred: u64,
    /// Where it came from, when the first place of it did not give it.
    pub(super) elsewhere: Option<Elsewhere>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    New,
    Replaced,
    Unchanged,
}

/// How often a place is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tries {
    /// Once, because there are other places.
    One,
    /// As often as the options say.
    Many,
}

/// Brings a package to `target`.
pub(super) async fn one(origin: &Origin, package: &Package, target: &Path, task: &Task) -> Result<Fetched, Error> {
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
        if let Some(found) = right(package, target).await? {
            let target = target.display();
            // Without a stated digest nothing was compared but the size, where that is stated.
            let why = if package.has_digest() { " and checksums match" } else { "" };
            origin.narration.line(format_args!("A local {target} exists{why}, so it will not be downloaded."));
            let Found { sha256: digest, size, .. } = found;
            task.add(size);
            return Ok(Fetched { digest, size, how: How::Unchanged, transferred: 0, elsewhere: None });
        }
        how = How::Replaced;
    }
    let Some(url) = url else { return copied(origin, package, target, how, task).await };
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let part = Part::new(target.with_file_name(format!(".{name}.part")));
    if !package.has_digest() {
        fs::remove_file(&part.path)?;
    }
    origin.narration.mark("v");
    origin.narration.line(format_args!("Downloading {name}"));
    let others = origin.mirrors.iter().map(|mirrors| mirrors.elsewhere(&url)).find(|others| !others.is_empty());
    let mut others = others.unwrap_or_default();
    others.truncate(MOST_MIRRORS);
    let (found, transferred, elsewhere) = from_any(origin, &url, &others, &part, package, task).await?;
    publish(&part.path, target)?;
    origin.narration.line(format_args!("Successfully downloaded {name}"));
    Ok(Fetched { digest: found.sha256, size: found.size, how, transferred, elsewhere })
}

/// What lies at `target`, where that is the package and is left as it is.
pub(super) async fn right(package: &Package, target: &Path) -> Result<Option<Found>, PathError> {
    let found = Found::of(target, package).await?;
    let is_right = found.fault(package).is_none() && (package.has_digest() || wholeness(target, package).await.is_ok());
    Ok(is_right.then_some(found))
}

/// Asks the mirrors one after the other, without waiting for any; and the first one with patience, when none has it now.
async fn from_any(
    origin: &Origin,
    url: &Url,
    others: &[Url],
    part: &Part,
    package: &Package,
    task: &Task,
) -> Result<(Found, u64, Option<Elsewhere>), Error> {
    let mut first: Option<Error> = None;
    for place in std::iter::once(url).chain(others).filter(|_| !others.is_empty()) {
        match from(origin, place, Tries::One, part, package, task).await {
            Ok((found, transferred)) => {
                let why = first.map(|error| causes::line(&error));
                let elsewhere = why.map(|why| Elsewhere { from: http::shown(place), why });
                return Ok((found, transferred, elsewhere));
            }
            // It is here that something is wrong.
            Err(error @ (Error::Path(_) | Error::Http(http::Error::Offline { .. }))) => return Err(error),
            Err(error) => {
                tracing::info!("{}", causes::line(&error));
                first = first.or(Some(error));
            }
        }
    }
    match first {
        Some(first) if first.verdict() == Verdict::Permanent => {
            Err(Error::NoMirror { first: causes::line(&first), others: others.len() })
        }
        _ => {
            let (found, transferred) = from(origin, url, Tries::Many, part, package, task).await?;
            Ok((found, transferred, None))
        }
    }
}

/// Transfers a package from one place into `part`, where it is right then. Returns how many bytes came.
async fn from(
    origin: &Origin,
    url: &Url,
    tries: Tries,
    part: &Part,
    package: &Package,
    task: &Task,
) -> Result<(Found, u64), Error> {
    let mut transferred = 0;
    // Its beginning may be that of another file of that name: then once more from the start.
    for is_last in [false, true] {
        let before = part.size();
        let attempt = async || transfer(origin, url, part, package, task).await;
        match tries {
            Tries::One => attempt().await?,
            Tries::Many => origin.http.retry().run(attempt).await?,
        }
        let found = Found::of(&part.path, package).await?;
        transferred += found.size.saturating_sub(before);
        let fault = match found.fault(package) {
            Some(fault) => fault,
            None if package.has_digest() => return Ok((found, transferred)),
            None => match wholeness(&part.path, package).await {
                Ok(()) => return Ok((found, transferred)),
                Err(source) => {
                    fs::remove_file(&part.path)?;
                    return Err(Error::Damaged { url: Box::new(url.clone()), source: Box::new(source) });
                }
            },
        };
        fs::remove_file(&part.path)?;
        match fault {
            Fault::Digest { expected, actual } if is_last || !part.is_pieced() => {
                return Err(Mismatch { url: Box::new(url.clone()), expected, actual }.into());
            }
            Fault::Digest { .. } => {}
            Fault::Size { expected, actual } => {
                return Err(Error::Size { url: Box::new(url.clone()), expected, actual });
            }
        }
    }
    unreachable!("the second round returns")
}

/// Copies a package that is a file here.
async fn copied(origin: &Origin, package: &Package, target: &Path, how: How, task: &Task) -> Result<Fetched, Error> {
    let (from, to) = (PathBuf::from(&package.location), target.to_owned());
    let (expected, stated) = (package.sha256.clone(), package.size);
    let copy = move || -> Result<(Digest, u64), Error> {
        let mut reader = fs::open(&from)?;
        let mut writer = HashingWriter::new(AtomicFile::create(&to)?, Algorithm::Sha256);
        io::copy(&mut reader, &mut writer).at("write", &to)?;
        let (digest, size, file) = writer.finish();
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(Error::Copy { path: from, expected, actual: digest });
        }
        if let Some(expected) = stated.filter(|expected| *expected != size) {
            return Err(Error::CopySize { path: from, expected, actual: size });
        }
        file.finish()?;
        Ok((digest, size))
    };
    let (digest, size) = tokio::task::spawn_blocking(copy).await.expect("copying does not panic")?;
    task.add(size);
    origin.narration.line(format_args!("Copied {}", package.location));
    Ok(Fetched { digest, size, how, transferred: size, elsewhere: None })
}

/// A file that was read.
pub(super) struct Found {
    sha256: Digest,
    /// Bytes.
    pub(super) size: u64,
    /// Of the kind that the source states, where that is not SHA-256.
    checksum: Option<Checksum>,
}

/// In what a file is not the one that a source states.
enum Fault {
    Digest { expected: String, actual: String },
    Size { expected: u64, actual: u64 },
}

impl Found {
    async fn of(path: &Path, package: &Package) -> Result<Self, PathError> {
        let (path, stated) = (path.to_owned(), package.checksum.clone());
        let read = move || {
            let mut reader = HashingReader::new(fs::open(&path)?, Algorithm::Sha256);
            let checksum = match stated {
                Some(stated) => {
                    let mut hasher = stated.hasher(io::sink());
                    io::copy(&mut reader, &mut hasher).at("read", &path)?;
                    Some(hasher.finish().0)
                }
                None => {
                    io::copy(&mut reader, &mut io::sink()).at("read", &path)?;
                    None
                }
            };
            let (sha256, size, _) = reader.finish();
            Ok(Found { sha256, size, checksum })
        };
        tokio::task::spawn_blocking(read).await.expect("hashing does not panic")
    }

    /// What is wrong with it, as far as the source states what is right.
    fn fault(&self, package: &Package) -> Option<Fault> {
        let differs =
            |expected: String, actual: String| (expected != actual).then_some(Fault::Digest { expected, actual });
        let digest = match (&package.sha256, &package.checksum, &self.checksum) {
            (Some(expected), ..) => differs(expected.to_string(), self.sha256.to_string()),
            (None, Some(expected), Some(actual)) => differs(expected.to_string(), actual.to_string()),
            _ => None,
        };
        // As for apt and dnf, what is stated has to be right, all of it: an index that contradicts itself is not to be believed.
        let size = package.size.filter(|expected| *expected != self.size);
        digest.or_else(|| size.map(|expected| Fault::Size { expected, actual: self.size }))
    }
}

/// Whether a package is whole by what it says about itself.
async fn wholeness(path: &Path, package: &Package) -> Result<(), unpack::Error> {
    let (path, format) = (path.to_owned(), package.name.format);
    let read = move || unpack::whole(&path, format);
    tokio::task::spawn_blocking(read).await.expect("reading a package does not panic")
}

fn publish(part: &Path, target: &Path) -> Result<(), PathError> {
    fs::open_regular(part)?.sync_all().at("sync", part)?;
    fs::rename(part, target)?;
    fs::sync_dir(fs::parent(target))
}

/// So many mirrors beside the first are asked for a package. Lists have some hundred, and what ten do not have is nowhere.
const MOST_MIRRORS: usize = 10;
