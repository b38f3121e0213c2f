//! The files here: which there are, and their checksums.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha1::Digest as _;

use crate::digest::{Algorithm, Digest, Hasher, hex};
use crate::fs::{self, PathContext, PathError};

/// What is to be in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where the file is.
    pub file: PathBuf,
    /// Where it goes: parts separated by `/`.
    pub path: String,
}

/// What the server compares.
pub(super) struct Sums {
    pub(super) size: u64,
    pub(super) sha256: Digest,
    pub(super) sha1: String,
    pub(super) md5: String,
}

/// The files below a directory, each to the same path in the repository. Names that begin with a dot are passed over:
/// they are what is being written. A link is followed to a file that lies in the directory, too; others, and what is no
/// file, are left out and listed second, for only what the user pointed at leaves this machine.
pub fn files_below(directory: &Path) -> Result<(Vec<Wanted>, Vec<PathBuf>), PathError> {
    let (mut files, mut left_out) = (Vec::new(), Vec::new());
    let root = directory.canonicalize().at("list", directory)?;
    let is_inside = |link: &Path| link.canonicalize().is_ok_and(|target| target.starts_with(&root) && target.is_file());
    let is_visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().filter_entry(is_visible) {
        let entry = entry.map_err(io::Error::from).at("list", directory)?;
        if entry.file_type().is_dir() {
            continue;
        }
        let inside = entry.path().strip_prefix(directory).unwrap_or(entry.path());
        // A name that is no text has no address there.
        let path: Option<Vec<&str>> = inside.iter().map(|part| part.to_str()).collect();
        let is_link = entry.path_is_symlink();
        match path.filter(|_| entry.file_type().is_file() || is_link && is_inside(entry.path())) {
            Some(parts) => files.push(Wanted { path: parts.join("/"), file: entry.into_path() }),
            None => left_out.push(entry.into_path()),
        }
    }
    Ok((files, left_out))
}

/// Reads a file once for its checksums; a brief look has only SHA-256.
pub(super) async fn sums(path: PathBuf, is_brief: bool) -> Result<Sums, PathError> {
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
