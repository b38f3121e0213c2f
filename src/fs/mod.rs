//! Files, with names in the errors and nothing half-written.
//!
//! `std::fs` says "No such file or directory" and not which. Every function here returns a [`PathError`] that says
//! what was being done to which path. What others may read is written beside its place, synced and renamed
//! ([`AtomicFile`], [`AtomicDir`]): a reader sees the old state or the new one, and so does the next run after a
//! `kill -9`.

#![expect(clippy::disallowed_methods, reason = "this is the place")]

mod atomic;
mod beneath;
mod lock;
mod open;
mod spool;

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::num::NonZeroU64;
use std::path::{Component, Path, PathBuf};

pub use self::atomic::{AtomicDir, AtomicFile, remove_abandoned};
pub use self::beneath::{Held, create_dir_beneath, hold_beneath};
pub use self::lock::{Lock, is_unlocked};
pub use self::open::{
    append, copy, create_new, is_resumable, is_same_file, is_writable_by_others, lock_file, open_any, open_file,
    open_regular, open_to_change, read_regular, rename, resume,
};
pub use self::spool::{Slice, SliceReader, Spool, SpoolWriter};

/// An operating system error with the path it happened to.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct PathError {
    /// What was being done, as a verb: `read`, `write`, `create`.
    pub action: &'static str,
    /// To what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Adds the action and the path to an [`io::Error`].
pub trait PathContext<T> {
    /// Turns the error into a [`PathError`]: `file.sync_all().at("sync", &path)?`.
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, PathError>;
}

impl<T> PathContext<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, PathError> {
        self.map_err(|source| PathError { action, path: path.as_ref().to_owned(), source })
    }
}

/// A name that would lead out of the directory that it is to be in, or is no name at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{name}` is not a path inside the directory")]
pub struct OutsideError {
    /// The offending name, lossily decoded.
    pub name: String,
}

/// Reads a whole file of at most `limit` bytes. A larger one is an error, not a truncation.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, PathError> {
    read_limited(open(path)?, limit).at("read", path)
}

/// Reads something to its end, which is at most `limit` bytes away.
pub fn read_limited(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Opens a regular file for buffered reading.
pub fn open(path: &Path) -> Result<BufReader<File>, PathError> {
    Ok(BufReader::with_capacity(128 << 10, open_file(path)?))
}

/// Writes a whole file so that it is complete or not there: temp beside, sync, rename.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes).at("write", path)?;
    file.finish()
}

/// Creates a directory and its parents.
pub fn create_dir_all(path: &Path) -> Result<(), PathError> {
    fs::create_dir_all(path).at("create", path)
}

/// Removes a file; one that is not there is fine.
pub fn remove_file(path: &Path) -> Result<(), PathError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at("remove", path),
    }
}

/// Removes a directory with everything in it; one that is not there is fine.
pub fn remove_dir_all(path: &Path) -> Result<(), PathError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at("remove", path),
    }
}

/// The entries of a directory, sorted by the bytes of their names.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, PathError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).at("list", path)? {
        entries.push(entry.at("list", path)?.path());
    }
    entries.sort();
    Ok(entries)
}

/// Makes a finished rename or creation in `directory` survive a power cut.
pub fn sync_dir(directory: &Path) -> Result<(), PathError> {
    File::open(directory).and_then(|opened| opened.sync_all()).at("sync", directory)
}

/// Reads until the buffer is full or there is no more, and says how much it was.
pub fn read_full(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Has the disk begin to write these bytes of a file, and waits for nothing: whoever syncs it later waits for less. A hint.
pub fn begin_writing(file: &File, from: u64, to: u64) {
    // What is not written yet stays in memory: for it this advice (fadvise(2)) means that it is written now.
    if let Some(length) = to.checked_sub(from).and_then(NonZeroU64::new) {
        let _ = rustix::fs::fadvise(file, from, Some(length), rustix::fs::Advice::DontNeed);
    }
}

/// Whether a path leads to something that is in a directory, links on the way followed. False for what is not there.
pub fn is_beneath(directory: &Path, path: &Path) -> bool {
    let (Ok(directory), Ok(path)) = (directory.canonicalize(), path.canonicalize()) else { return false };
    path.starts_with(directory)
}

/// The directory that holds `path`; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Joins a member name from an archive to `root`, refusing every name that could leave it.
///
/// `./a/b` and `a//b` are fine; absolute names, `..` and an empty name are not. Whether a directory on the way is a
/// symbolic link is for the caller to check when it writes, since that depends on what was unpacked before.
pub fn join_inside(root: &Path, name: &Path) -> Result<PathBuf, OutsideError> {
    let refuse = || OutsideError { name: name.display().to_string() };
    let mut joined = root.to_owned();
    let mut named = false;
    for component in name.components() {
        match component {
            Component::Normal(part) => {
                joined.push(part);
                named = true;
            }
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(refuse()),
        }
    }
    if named { Ok(joined) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let root = Path::new("/target");
        for (name, inside) in [
            ("a/b", Some("/target/a/b")),
            ("./a//b", Some("/target/a/b")),
            ("a/./b", Some("/target/a/b")),
            ("../a", None),
            ("a/../../b", None),
            ("/etc/passwd", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(join_inside(root, Path::new(name)).ok(), inside.map(PathBuf::from), "{name}");
        }
    }

    #[test]
    fn an_unfinished_file_or_directory_leaves_the_old_one_and_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let (file, tree) = (dir.path().join("file"), dir.path().join("tree"));
        write(&file, b"old").unwrap();
        fs::create_dir(&tree).unwrap();
        write(&tree.join("x"), b"old").unwrap();

        let mut half = AtomicFile::create(&file).unwrap();
        half.write_all(b"ne").unwrap();
        drop(half);
        drop(AtomicDir::create(&tree).unwrap());
        assert_eq!(read(&file, 10).unwrap(), b"old");
        assert_eq!(read(&tree.join("x"), 10).unwrap(), b"old");

        write(&file, b"new").unwrap();
        let new = AtomicDir::create(&tree).unwrap();
        write(&new.path().join("y"), b"new").unwrap();
        new.finish().unwrap();
        assert_eq!(read(&file, 10).unwrap(), b"new");
        assert_eq!(list(&tree).unwrap(), [tree.join("y")]);
        assert_eq!(list(dir.path()).unwrap(), [file.clone(), tree.clone()]);

        let (newer, other) = (AtomicDir::create(&tree).unwrap(), dir.path().join("other"));
        write(&newer.path().join("z"), b"newer").unwrap();
        let results = AtomicDir::finish_all(vec![newer, AtomicDir::create(&other).unwrap()]);
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(list(&tree).unwrap(), [tree.join("z")]);
        assert_eq!(list(dir.path()).unwrap(), [file, other, tree]);
    }

    #[test]
    fn errors_name_the_path_and_files_above_the_limit_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert_eq!(read(&missing, 1).unwrap_err().to_string(), format!("cannot open {}", missing.display()));
        write(&missing, b"12").unwrap();
        assert_eq!(read(&missing, 1).unwrap_err().source.to_string(), "larger than 1 bytes");
    }
}
