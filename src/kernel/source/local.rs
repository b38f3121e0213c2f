//! Packages in a local directory: what their headers say, or only their names.
//!
//! Where `kernel fetch` left its `fetch.lock` beside them, a package must still have the digest that stands there.

use std::collections::HashMap;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::{Algorithm, Digest, HashingReader};
use crate::fs::{self, PathContext, PathError};
use crate::kernel::group::{Kernel, Offer};
use crate::kernel::package::{Name, NameError, Package};
use crate::kernel::set::{self, KernelSet};
use crate::kernel::unpack;
use crate::progress::{Progress, Unit};

/// What is read of each package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Its headers, and all of it for its digest.
    Headers,
    /// Nothing but its name.
    Names,
}

/// A package that cannot be used.
#[derive(Debug)]
pub struct Problem {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub error: Error,
}

/// Why a package cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its name is no package's.
    #[error("{0}")]
    Name(#[from] NameError),
    /// It cannot be read.
    #[error("{0}")]
    Path(#[from] PathError),
    /// It is damaged.
    #[error("{0}")]
    Content(#[from] unpack::Error),
    /// The list of digests beside it cannot be understood.
    #[error("{0}")]
    Lock(#[from] set::Error),
    /// It is another file than the one that was fetched.
    #[error("changed since it was fetched: the digest is {actual}, and fetch.lock beside it says {expected}")]
    Changed {
        /// What it was.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
}

/// What the system said of a directory, without the words around it.
fn of_the_system(error: walkdir::Error) -> io::Error {
    let circle = error.to_string();
    error.into_io_error().unwrap_or_else(|| io::Error::other(circle))
}

/// Finds the packages below a directory, sorted by path. Files that are no packages are passed over. One that is not what
/// `fetch.lock` says is a problem and is listed with the digest that it should have: whoever opens it refuses it, and no kernel is
/// taken for whole without it.
///
/// Where only names are read, a `fetch.lock` beside the packages has the last word on the kernels that they belong to.
pub fn offer(directory: &Path, depth: Depth, progress: &Progress) -> Result<(Offer, Vec<Problem>), PathError> {
    let is_package = |path: &Path| path.extension().is_some_and(|ending| ending == "rpm" || ending == "deb");
    let (mut paths, mut packages, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for entry in walkdir::WalkDir::new(directory).follow_links(true) {
        match entry {
            Ok(entry) if is_package(entry.path()) && entry.file_type().is_file() => paths.push(entry.into_path()),
            Ok(_) => {}
            Err(error) if error.depth() == 0 => return Err(of_the_system(error)).at("list", directory),
            // A directory that may not be read, or a link that leads nowhere or in a circle: the others are there.
            Err(error) => {
                let path = error.path().unwrap_or(directory).to_owned();
                if is_package(&path) || path.is_dir() {
                    let error = Err::<(), _>(of_the_system(error)).at("read", &path).map_err(Error::from);
                    problems.extend(error.err().map(|error| Problem { path, error }));
                }
            }
        }
    }
    paths.sort();
    let lock = directory.join("fetch.lock");
    let set = locked(&lock).unwrap_or_else(|error| {
        problems.push(Problem { path: lock, error });
        None
    });
    let stated: HashMap<String, Digest> = set
        .iter()
        .flat_map(KernelSet::each_package)
        .filter_map(|package| Some((package.name.to_string(), package.sha256.clone()?)))
        .collect();
    let task = progress.task("reading packages", Unit::Items, Some(paths.len() as u64));
    let read: Vec<(PathBuf, Result<Package, Error>)> = paths
        .into_par_iter()
        .map(|path| {
            let package = package(&path, depth);
            task.add(1);
            (path, package)
        })
        .collect();
    for (path, package) in read {
        match package {
            Ok(package) => {
                let (package, error) = as_stated(package, depth, &stated);
                packages.push(package);
                problems.extend(error.map(|error| Problem { path, error }));
            }
            Err(error) => problems.push(Problem { path, error }),
        }
    }
    let placed = match set {
        Some(set) if depth == Depth::Names => placed(set, &packages),
        _ => Vec::new(),
    };
    Ok((Offer { packages, placed, together: Vec::new() }, problems))
}

/// The kernels of a `fetch.lock` of which every package is among those that were found.
fn placed(set: KernelSet, packages: &[Package]) -> Vec<Kernel> {
    let found: HashMap<&Name, &Package> = packages.iter().map(|package| (&package.name, package)).collect();
    let mut kernels = set.into_kernels();
    kernels.retain_mut(|kernel| {
        kernel.packages.iter_mut().all(|(_, package)| match found.get(&package.name) {
            Some(here) => {
                (package.location, package.size) = (here.location.clone(), here.size);
                true
            }
            None => false,
        })
    });
    kernels
}

/// What `kernel fetch` left beside the packages.
fn locked(lock: &Path) -> Result<Option<KernelSet>, Error> {
    if !lock.exists() {
        return Ok(None);
    }
    Ok(Some(KernelSet::parse(&fs::read(lock, LOCK_LIMIT)?)?))
}

/// The package with the digest that `fetch.lock` states; the error says that it has another one. Where only names were read, that is
/// for whoever unpacks it to find out.
fn as_stated(package: Package, depth: Depth, stated: &HashMap<String, Digest>) -> (Package, Option<Error>) {
    let Some(expected) = stated.get(&package.name.to_string()).cloned() else { return (package, None) };
    let changed = package.sha256.clone().filter(|actual| depth == Depth::Headers && *actual != expected);
    let error = changed.map(|actual| Error::Changed { expected: expected.clone(), actual });
    (Package { is_digest_stated: true, sha256: Some(expected), ..package }, error)
}

fn package(path: &Path, depth: Depth) -> Result<Package, Error> {
    let location = path.to_string_lossy().into_owned();
    let size = std::fs::metadata(path).at("read", path)?.len();
    if depth == Depth::Names {
        return Ok(Package { size: Some(size), ..Package::from_location(&location)? });
    }
    let file = fs::open_file(path)?;
    let mut reader = BufReader::with_capacity(128 << 10, HashingReader::new(file, Algorithm::Sha256));
    let (name, relations, vendor): (Name, _, _) = if path.extension().is_some_and(|ending| ending == "rpm") {
        let head = unpack::rpm::Head::read(&mut reader)?;
        (head.name()?, head.relations()?, head.vendor())
    } else {
        let control = unpack::deb::Control::read(&mut reader)?;
        (control.name()?, control.relations(), None)
    };
    io::copy(&mut reader, &mut io::sink()).at("read", path)?;
    let (sha256, size, _) = reader.into_inner().finish();
    Ok(Package {
        name,
        location,
        size: Some(size),
        is_digest_stated: false,
        sha256: Some(sha256),
        checksum: None,
        relations: Some(relations),
        vendor,
    })
}

const LOCK_LIMIT: u64 = 256 << 20;
