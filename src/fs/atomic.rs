//! Files and directories that appear whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::fs::open::replaceable;
use crate::fs::{PathContext, PathError, is_unlocked, list, open_any, parent, remove_dir_all, remove_file, sync_dir};

/// Removes what killed processes left of earlier attempts at `path`: files and directories named as [`AtomicFile`] and
/// [`AtomicDir`] name them, whose lock nobody holds. What cannot be removed stays.
pub fn remove_abandoned(path: &Path) {
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    for entry in list(parent(path)).unwrap_or_default() {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let Some(random) = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".partial")) else { continue };
        let ours = random.len() == 6 && random.chars().all(char::is_alphanumeric);
        if !ours || !is_unlocked(&entry) {
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
    /// The file whose place it takes, whose mode and owner it keeps.
    replaces: Option<Metadata>,
    /// Of its mode, only what is in this one is kept.
    most: u32,
}

impl AtomicFile {
    /// Starts a new file that will become `path`, whose directory must exist. It will have the mode and, as far as this user
    /// may give files away, the owner of the file that it replaces; a pipe or a device is refused.
    pub fn create(path: &Path) -> Result<Self, PathError> {
        AtomicFile::create_as(path, 0o666, 0o777)
    }

    /// The same for a secret: only its owner may read the file, whatever the one that it replaces was.
    pub fn create_private(path: &Path) -> Result<Self, PathError> {
        AtomicFile::create_as(path, 0o600, 0o600)
    }

    fn create_as(path: &Path, mode: u32, most: u32) -> Result<Self, PathError> {
        let replaces = replaceable(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".partial")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(parent(path))
            .at("create", path)?;
        // So that others can tell whether its writer is alive. Where the file system has no locks, they cannot.
        let _locked = file.as_file().try_lock();
        Ok(AtomicFile { writer: BufWriter::with_capacity(128 << 10, file), path: path.to_owned(), replaces, most })
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
        if let Some(old) = &self.replaces {
            keep(file.as_file(), old, self.most).at("set the permissions of", path)?;
        }
        file.as_file().sync_all().at("sync", path)?;
        file.persist(path).map_err(|error| error.error).at("write", path)?;
        sync_dir(parent(path))
    }
}

/// Gives a file the mode and the owner of the one that it replaces. Who is not root may not give files away, which is no
/// reason to fail; then the group's rights are not kept either, as they would be another group's.
fn keep(file: &File, old: &Metadata, most: u32) -> io::Result<()> {
    let new = file.metadata()?;
    let mut mode = old.mode() & most;
    if (new.uid(), new.gid()) != (old.uid(), old.gid())
        && std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid())).is_err()
        && new.gid() != old.gid()
    {
        mode &= 0o707;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
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
            .permissions(fs::Permissions::from_mode(0o777))
            .tempdir_in(parent(path))
            .at("create a directory beside", path)?;
        let lock = open_any(temp.path()).ok().filter(|directory| directory.try_lock().is_ok());
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
    let directory = open_any(root)?;
    rustix::fs::syncfs(&directory).map_err(io::Error::from).at("sync", root)
}
