//! Files, with names in the errors and nothing half-written.
//!
//! `std::fs` says "No such file or directory" and not which. Every function here returns a [`PathError`] that says
//! what was being done to which path. What others may read is written beside its place, synced and renamed
//! ([`AtomicFile`], [`AtomicDir`]): a reader sees the old state or the new one, and so does the next run after a
//! `kill -9`.

mod spool;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

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

/// Opens a file for buffered reading.
pub fn open(path: &Path) -> Result<BufReader<File>, PathError> {
    File::open(path).map(|file| BufReader::with_capacity(128 << 10, file)).at("open", path)
}

/// Opens a file that is one: a link could lead anywhere on the host, a pipe would wait for ever.
pub fn open_regular(path: &Path) -> Result<File, PathError> {
    let refuse = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    if !fs::symlink_metadata(path).at("open", path)?.is_file() {
        return Err(refuse()).at("open", path);
    }
    // It may have been replaced in between.
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag of open(2)");
    fs::OpenOptions::new().read(true).custom_flags(flags).open(path).at("open", path)
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
    File::open(directory).and_then(|dir| dir.sync_all()).at("sync", directory)
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

/// Removes what killed processes left of earlier attempts at `path`: files and directories named as [`AtomicFile`] and
/// [`AtomicDir`] name them, whose lock nobody holds. What cannot be removed stays.
pub fn remove_abandoned(path: &Path) {
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    for entry in list(parent(path)).unwrap_or_default() {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let Some(random) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".partial")) else { continue };
        let ours = random.len() == 6 && random.chars().all(char::is_alphanumeric);
        if !ours || File::open(&entry).is_ok_and(|file| file.try_lock().is_err()) {
            continue;
        }
        let _ = if entry.is_dir() { remove_dir_all(&entry) } else { remove_file(&entry) };
    }
}

/// A file that appears under its name when it is finished, and never before.
///
/// Dropped unfinished, it leaves nothing behind. The temporary file lies in the same directory, so the rename is
/// atomic; its name starts with a dot and ends in `.partial`, so that what a killed process left can be told.
pub struct AtomicFile {
    writer: BufWriter<tempfile::NamedTempFile>,
    path: PathBuf,
}

impl AtomicFile {
    /// Starts a new file that will become `path`, whose directory must exist.
    pub fn create(path: &Path) -> Result<Self, PathError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".partial")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(parent(path))
            .at("create", path)?;
        // So that others can tell whether its writer is alive. Where the file system has no locks, they cannot.
        let _locked = file.as_file().try_lock();
        Ok(AtomicFile { writer: BufWriter::with_capacity(128 << 10, file), path: path.to_owned() })
    }

    /// Flushes, syncs and renames: after this the file is there, whole, whatever happens to the machine.
    pub fn finish(self) -> Result<(), PathError> {
        let path = self.path.clone();
        self.finish_as(&path)
    }

    /// Like [`AtomicFile::finish`], under a name that was not known before the content was, on the same file system.
    pub fn finish_as(self, path: &Path) -> Result<(), PathError> {
        let writer = self.writer;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error).at("write", path)?;
        file.as_file().sync_all().at("sync", path)?;
        file.persist(path).map_err(|error| error.error).at("write", path)?;
        sync_dir(parent(path))
    }
}

/// The lock of something that one process at a time may work on: a file beside it that is removed with the lock.
pub struct Lock {
    _file: std::fs::File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock, or says of `target` that somebody else has it, in the words of `busy`.
    pub fn take(path: &Path, target: &Path, busy: &'static str) -> Result<Self, PathError> {
        Self::hold(path, |file| {
            file.try_lock().map_err(|error| {
                let source = match error {
                    std::fs::TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, busy),
                    std::fs::TryLockError::Error(error) => error,
                };
                PathError { action: "lock", path: target.to_owned(), source }
            })
        })
    }

    /// Takes the lock as soon as nobody else has it.
    pub fn wait(path: &Path) -> Result<Self, PathError> {
        Self::hold(path, |file| file.lock().at("lock", path))
    }

    fn hold(path: &Path, lock: impl Fn(&std::fs::File) -> Result<(), PathError>) -> Result<Self, PathError> {
        loop {
            let file = std::fs::File::create(path).at("create", path)?;
            lock(&file)?;
            // The one before us removes the file when it is done; a lock on a file without a name keeps nobody out.
            let ours = file.metadata().at("read", path)?.ino();
            if std::fs::metadata(path).is_ok_and(|named| named.ino() == ours) {
                return Ok(Lock { _file: file, path: path.to_owned() });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held. A lock file that stays is no harm.
        let _ = remove_file(&self.path);
    }
}

impl Write for AtomicFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.writer.seek(position)
    }
}

/// A directory that takes the place of another in one step when it is finished.
///
/// It is built beside its place under a name like `.NAME.XXXXXX.partial`. Dropped unfinished, it is removed and the
/// old directory is as it was.
pub struct AtomicDir {
    temp: tempfile::TempDir,
    path: PathBuf,
    /// Held so that others can tell that its writer is alive.
    _lock: Option<File>,
}

impl AtomicDir {
    /// Starts a directory that will become `path`, whose parent must exist and be writable. What is at `path` must be a
    /// directory, if anything: a file or a link there is somebody's.
    pub fn create(path: &Path) -> Result<Self, PathError> {
        match fs::symlink_metadata(path) {
            Ok(there) if !there.is_dir() => {
                let source = io::Error::new(io::ErrorKind::NotADirectory, "a file or a link is in its place");
                return Err(source).at("replace", path);
            }
            _ => remove_abandoned(path),
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temp = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".partial")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(parent(path))
            .at("create a directory beside", path)?;
        let lock = File::open(temp.path()).ok().filter(|directory| directory.try_lock().is_ok());
        Ok(AtomicDir { temp, path: path.to_owned(), _lock: lock })
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Exchanges the new directory with the old one (`renameat2(RENAME_EXCHANGE)`) and removes the old one.
    ///
    /// On file systems without the exchange (NFS, some FUSE) the old directory is moved aside first, so that for an
    /// instant there is none; it is put back when the second rename fails.
    pub fn finish(self) -> Result<(), PathError> {
        sync_tree(self.temp.path())?;
        let path = self.path.clone();
        let old = self.exchange()?;
        sync_dir(parent(&path))?;
        old.remove(&path)
    }

    /// Like [`AtomicDir::finish`] for several on one file system, synced together: what each costs alone, all cost once.
    /// Each has its own result.
    pub fn finish_all(directories: Vec<Self>) -> Vec<Result<(), PathError>> {
        if directories.first().is_some_and(|first| sync_tree(first.temp.path()).is_err()) {
            // So that each error is about the directory that it concerns.
            return directories.into_iter().map(AtomicDir::finish).collect();
        }
        let mut finished = Vec::new();
        for directory in directories {
            let path = directory.path.clone();
            finished.push((directory.exchange(), path));
        }
        let parents: BTreeSet<PathBuf> = finished.iter().map(|(_, path)| parent(path).to_owned()).collect();
        let synced: Vec<_> = parents.into_iter().map(|parent| (sync_dir(&parent).is_ok(), parent)).collect();
        let finish = |(old, path): (Result<Old, PathError>, PathBuf)| {
            let old = old?;
            if synced.iter().any(|(is_synced, parent)| !is_synced && path.starts_with(parent)) {
                sync_dir(parent(&path))?;
            }
            old.remove(&path)
        };
        finished.into_iter().map(finish).collect()
    }

    /// Puts the new directory in the place of the old one, which is returned.
    fn exchange(self) -> Result<Old, PathError> {
        let AtomicDir { temp, path, _lock } = self;
        if !path.exists() {
            fs::rename(temp.path(), &path).at("create", &path)?;
            // The name it had is free again; there is nothing to remove.
            let _moved = temp.keep();
            return Ok(Old::None);
        }
        match renameat_with(CWD, temp.path(), CWD, &path, RenameFlags::EXCHANGE) {
            // The temporary name now holds the old directory.
            Ok(()) => Ok(Old::Temporary(temp)),
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                let aside = temp.path().with_extension("old");
                fs::rename(&path, &aside).at("replace", &path)?;
                if let Err(error) = fs::rename(temp.path(), &path) {
                    fs::rename(&aside, &path).at("put back", &path)?;
                    return Err(error).at("replace", &path);
                }
                let _moved = temp.keep();
                Ok(Old::Aside(aside))
            }
            Err(error) => Err(io::Error::from(error)).at("replace", &path),
        }
    }
}

/// Where a directory is that another one took the place of.
enum Old {
    None,
    Temporary(tempfile::TempDir),
    Aside(PathBuf),
}

impl Old {
    fn remove(self, path: &Path) -> Result<(), PathError> {
        match self {
            Old::None => Ok(()),
            Old::Temporary(directory) => directory.close().at("remove the old", path),
            Old::Aside(directory) => remove_dir_all(&directory),
        }
    }
}

/// Syncs everything below `root`, so that a rename of `root` publishes only what is on the disk.
///
/// A tree of kernel headers has 12,000 files; one `syncfs` takes a fraction of the time of as many `fsync`s.
fn sync_tree(root: &Path) -> Result<(), PathError> {
    let directory = File::open(root).at("open", root)?;
    rustix::fs::syncfs(&directory).map_err(io::Error::from).at("sync", root)
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
