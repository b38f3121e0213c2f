//! The files here: which there are, and their checksums.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha1::Digest as _;

use crate::digest::{Algorithm, Digest, Hasher, hex};
use crate::fs::{self, PathContext, PathError};
use crate::publish::artifactory::Error;

/// What is to be in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the file is.
    pub file: PathBuf,
    /// Where it goes: parts separated by `/`.
    pub path: String,
    /// What it was when it was listed, where a list says so: another file does not go.
    pub sha256: Option<Digest>,
}

impl Wanted {
    /// Reads it once for its checksums; a brief look has only SHA-256.
    pub(super) async fn sums(&self, is_brief: bool) -> Result<Sums, Error> {
        let sums = sums(self.file.clone(), is_brief).await?;
        match &self.sha256 {
            Some(expected) if *expected != sums.sha256 => {
                Err(Error::Changed { file: self.file.clone(), expected: expected.clone(), found: sums.sha256 })
            }
            _ => Ok(sums),
        }
    }
}

/// What the server compares.
pub(super) struct Sums {
    pub(super) size: u64,
    pub(super) sha256: Digest,
    pub(super) sha1: String,
    pub(super) md5: String,
}

/// What is in a directory and does not go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Where it is; all that is in it where it is a directory.
    pub path: PathBuf,
    /// Why it was left out.
    pub why: &'static str,
}

/// The files below a directory, each to the same path in the repository, and what is left out of it.
///
/// What we are just writing is passed over. Other names that begin with a dot are left out unless `is_hidden_wanted`: they
/// are mostly of some tool. A link is followed to a file that lies in the directory, too; others, and what is no file, are
/// left out, for only what the user pointed at leaves this machine.
pub fn files_below(directory: &Path, is_hidden_wanted: bool) -> Result<(Vec<Wanted>, Vec<LeftOut>), PathError> {
    let (mut files, mut left_out) = (Vec::new(), Vec::new());
    let root = directory.canonicalize().at("list", directory)?;
    let is_inside = |link: &Path| link.canonicalize().is_ok_and(|target| target.starts_with(&root) && target.is_file());
    let mut walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(io::Error::from).at("list", directory)?;
        let name = entry.file_name().as_encoded_bytes();
        if entry.depth() > 0 && name.starts_with(b".") && (!is_hidden_wanted || name.ends_with(b".partial")) {
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            if !name.ends_with(b".partial") {
                left_out.push(LeftOut { path: entry.into_path(), why: "its name begins with a dot" });
            }
            continue;
        }
        if entry.file_type().is_dir() {
            continue;
        }
        let is_link_inside = entry.path_is_symlink() && is_inside(entry.path());
        if !entry.file_type().is_file() && !is_link_inside {
            left_out.push(LeftOut { path: entry.into_path(), why: "it is not a regular file inside this directory" });
            continue;
        }
        let inside = entry.path().strip_prefix(directory).unwrap_or(entry.path());
        let path: Option<Vec<&str>> = inside.iter().map(|part| part.to_str()).collect();
        match path.map(|parts| parts.join("/")) {
            Some(path) => files.push(Wanted { path, file: entry.into_path(), sha256: None }),
            None => left_out.push(LeftOut { path: entry.into_path(), why: "its name is not valid UTF-8" }),
        }
    }
    Ok((files, left_out))
}

/// Reads a file once for its checksums; a brief look has only SHA-256.
async fn sums(path: PathBuf, is_brief: bool) -> Result<Sums, PathError> {
    let read = move || -> Result<Sums, PathError> {
        let mut file = fs::open_file(&path)?;
        let (mut sha256, mut sha1, mut md5) = (Hasher::new(Algorithm::Sha256), sha1::Sha1::new(), md5::Md5::new());
        let (mut block, mut size) = (vec![0; 256 << 10], 0);
        loop {
            let read = match file.read(&mut block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.at("read", &path)?,
            };
            if read == 0 {
                break;
            }
            sha256.update(&block[..read]);
            if !is_brief {
                sha1.update(&block[..read]);
                md5.update(&block[..read]);
            }
            size += read as u64;
        }
        Ok(Sums { size, sha256: sha256.finish(), sha1: hex(&sha1.finalize()), md5: hex(&md5.finalize()) })
    };
    tokio::task::spawn_blocking(read).await.expect("reading does not panic")
}
