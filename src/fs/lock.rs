//! Locks that end with the process, whatever ends it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{PathContext, PathError, is_same_file, open, open_any, parent, remove_file};

/// The lock of something that one process at a time may work on: a file beside it that is removed with the lock, or the
/// directory itself.
pub struct Lock {
    file: File,
    /// What goes away with the lock.
    beside: Option<PathBuf>,
}

impl Lock {
    /// Takes the lock at `path`, or says of `target` that somebody else has it, in the words of `busy`.
    pub fn take(path: &Path, target: &Path, busy: &'static str) -> Result<Self, PathError> {
        Self::hold(path, |file| try_lock(file, target, busy))
    }

    /// Takes the lock at `path` as soon as nobody else has it.
    pub fn wait(path: &Path) -> Result<Self, PathError> {
        Self::hold(path, |file| file.lock().at("lock", path))
    }

    /// Takes the lock of a directory, or says that somebody else has it, in the words of `busy`.
    pub fn directory(directory: &Path, busy: &'static str) -> Result<Self, PathError> {
        let file = directory_file(directory)?;
        try_lock(&file, directory, busy)?;
        Ok(Lock { file, beside: None })
    }

    /// Takes the lock of a directory as soon as nobody else has it.
    pub fn wait_for_directory(directory: &Path) -> Result<Self, PathError> {
        let file = directory_file(directory)?;
        file.lock().at("lock", directory)?;
        Ok(Lock { file, beside: None })
    }

    /// Takes a share of the lock of a directory as soon as nobody has the whole.
    pub fn share_directory(directory: &Path) -> Result<Self, PathError> {
        let file = directory_file(directory)?;
        file.lock_shared().at("lock", directory)?;
        Ok(Lock { file, beside: None })
    }

    /// What the lock is on: a file that may be written to, or the directory.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn hold(path: &Path, lock: impl Fn(&File) -> Result<(), PathError>) -> Result<Self, PathError> {
        loop {
            let file = open::lock_file(path).map_err(|error| of_directory(path, error))?;
            lock(&file)?;
            // The one before us removes the file when it is done; a lock on a file without a name keeps nobody out.
            if is_same_file(&file, path) {
                return Ok(Lock { file, beside: Some(path.to_owned()) });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held. A lock file that stays is no harm.
        if let Some(path) = &self.beside {
            let _ = remove_file(path);
        }
    }
}

/// Whether nobody holds the lock of a file or directory, which is then free for a moment only.
pub fn is_unlocked(path: &Path) -> bool {
    open_any(path).is_ok_and(|file| file.try_lock().is_ok())
}

/// The user names the directory, and it may be a link.
fn directory_file(directory: &Path) -> Result<File, PathError> {
    let path = directory.canonicalize().at("open", directory)?;
    open_any(&path)
}

/// Nobody has named the file of a lock: that it cannot be made is said of the directory that it is to be in.
fn of_directory(path: &Path, error: PathError) -> PathError {
    let action = match error.source.kind() {
        io::ErrorKind::NotFound => "find",
        _ if !path.exists() => "write to",
        _ => return error,
    };
    PathError { action, path: parent(path).to_owned(), source: error.source }
}

fn try_lock(file: &File, target: &Path, busy: &'static str) -> Result<(), PathError> {
    file.try_lock().map_err(|error| {
        let source = match error {
            TryLockError::WouldBlock => io::Error::new(io::ErrorKind::ResourceBusy, busy),
            TryLockError::Error(error) => error,
        };
        PathError { action: "lock", path: target.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_missing_is_named_and_not_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &Path| Lock::wait(path).map(drop).unwrap_err().to_string();
        let gone = dir.path().join("gone");
        assert_eq!(said(&gone.join(".x.lock")), format!("cannot find {}", gone.display()));
        std::fs::write(dir.path().join("file"), "").unwrap();
        let file = dir.path().join("file");
        assert_eq!(said(&file.join(".x.lock")), format!("cannot write to {}", file.display()));
        std::fs::create_dir(&gone).unwrap();
        assert_eq!(said(&gone), format!("cannot create {}", gone.display()));
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_is_dropped_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".x.lock");
        std::fs::write(&path, "not truncated").unwrap();
        let first = Lock::take(&path, dir.path(), "busy").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "not truncated");
        let error = Lock::take(&path, dir.path(), "busy").map(drop).unwrap_err();
        assert_eq!((error.source.to_string(), is_unlocked(&path)), ("busy".to_owned(), false));
        drop(first);
        assert!(!path.exists());
        let whole = Lock::directory(dir.path(), "busy").unwrap();
        assert!(Lock::directory(dir.path(), "busy").is_err());
        drop(whole);
        drop(Lock::wait_for_directory(dir.path()).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
