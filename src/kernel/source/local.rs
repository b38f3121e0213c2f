//! Packages in a local directory: what their headers say, or only their names.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::digest::{Algorithm, HashingReader};
use crate::fs::{PathContext, PathError};
use crate::kernel::package::{Name, NameError, Package};
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
}

/// Finds the packages below a directory, sorted by path. Files that are no packages are passed over.
pub fn packages(
    directory: &Path,
    depth: Depth,
    progress: &Progress,
) -> Result<(Vec<Package>, Vec<Problem>), PathError> {
    let mut paths = Vec::new();
    for entry in walkdir::WalkDir::new(directory).follow_links(true) {
        let entry = entry.map_err(io::Error::from).at("list", directory)?;
        let is_package = entry.path().extension().is_some_and(|ending| ending == "rpm" || ending == "deb");
        if is_package && entry.file_type().is_file() {
            paths.push(entry.into_path());
        }
    }
    paths.sort();
    let task = progress.task("reading packages", Unit::Items, Some(paths.len() as u64));
    let read: Vec<Result<Package, Problem>> = paths
        .into_par_iter()
        .map(|path| {
            let package = package(&path, depth).map_err(|error| Problem { path, error });
            task.add(1);
            package
        })
        .collect();
    let (mut packages, mut problems) = (Vec::new(), Vec::new());
    for package in read {
        match package {
            Ok(package) => packages.push(package),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((packages, problems))
}

fn package(path: &Path, depth: Depth) -> Result<Package, Error> {
    let location = path.to_string_lossy().into_owned();
    let size = std::fs::metadata(path).at("read", path)?.len();
    if depth == Depth::Names {
        return Ok(Package { size: Some(size), ..Package::from_location(&location)? });
    }
    let file = File::open(path).at("open", path)?;
    let mut reader = BufReader::with_capacity(128 << 10, HashingReader::new(file, Algorithm::Sha256));
    let (name, relations, vendor): (Name, _, _) = if path.extension().is_some_and(|ending| ending == "rpm") {
        let head = unpack::rpm::Head::read(&mut reader)?;
        (head.name()?, head.relations(), head.vendor())
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
        sha256: Some(sha256),
        is_digest_stated: false,
        relations: Some(relations),
        vendor,
    })
}
