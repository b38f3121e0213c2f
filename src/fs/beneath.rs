//! Directories below one that others may write to: none of them is a link, and who exchanges one later does not send us elsewhere.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;

use crate::fs::open::without_loop;
use crate::fs::{PathContext, PathError};

/// A directory that stays the same one, whatever takes its name meanwhile.
#[derive(Clone)]
pub struct Held {
    /// Its name, open or not.
    named: PathBuf,
    /// A path that leads to it as long as this is there, see proc_pid_fd(5); its name, where `/proc` is not.
    through: PathBuf,
    _directory: Arc<OwnedFd>,
}

impl Held {
    fn new(directory: OwnedFd, named: PathBuf) -> Self {
        let through = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let through = if through.is_dir() { through } else { named.clone() };
        Held { named, through, _directory: Arc::new(directory) }
    }

    /// The path of something in it, to work on.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.through.join(name)
    }

    /// An error by the name that people know.
    pub fn told(&self, error: PathError) -> PathError {
        match error.path.strip_prefix(&self.through) {
            Ok(rest) => PathError { path: self.named.join(rest), ..error },
            Err(_) => error,
        }
    }
}

/// Creates the directories of `relative` below `root`, which exists, and returns the path of the last. None of them may be a
/// link, and `..` is refused: who may write to `root` must not send us elsewhere.
pub fn create_dir_beneath(root: &Path, relative: &Path) -> Result<PathBuf, PathError> {
    Ok(hold_beneath(root, relative)?.named)
}

/// Does the same and holds the last: who exchanges it for a link later does not send us elsewhere either.
pub fn hold_beneath(root: &Path, relative: &Path) -> Result<Held, PathError> {
    let path = root.join(relative);
    let mut parts = Vec::new();
    for component in relative.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it leads out")).at("create", &path),
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory = openat(CWD, root, flags, Mode::empty()).map_err(io::Error::from).at("open", root)?;
    for part in parts {
        match mkdirat(&directory, part, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(io::Error::from(error)).at("create", &path),
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        directory = match openat2(&directory, part, flags, Mode::empty(), resolve) {
            // Linux before 5.6, and seccomp profiles that do not know it. One part without links says the same.
            Err(Errno::NOSYS | Errno::PERM) => openat(&directory, part, flags | OFlags::NOFOLLOW, Mode::empty()),
            opened => opened,
        }
        .map_err(|error| without_loop(error.into()))
        .at("enter", &path)?;
    }
    Ok(Held::new(directory, path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn directories_are_made_beneath_and_never_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (dir.path().join("root"), dir.path().join("elsewhere"));
        for path in [&root, &elsewhere] {
            fs::create_dir(path).unwrap();
        }
        symlink(&elsewhere, root.join("link")).unwrap();
        for (relative, is_made) in
            [("a/b/c", true), ("./a/b", true), ("", true), ("link/x", false), ("a/../../x", false)]
        {
            let made = create_dir_beneath(&root, Path::new(relative));
            assert_eq!(made.is_ok(), is_made, "{relative}");
        }
        assert!(root.join("a/b/c").is_dir());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    }

    #[test]
    fn a_held_directory_is_the_one_that_was_entered_whatever_takes_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let (root, theirs) = (dir.path().join("root"), dir.path().join("theirs"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("file"), "theirs").unwrap();
        let held = hold_beneath(&root, Path::new("a/b")).unwrap();
        fs::rename(root.join("a/b"), root.join("aside")).unwrap();
        std::os::unix::fs::symlink(&theirs, root.join("a/b")).unwrap();
        crate::fs::write(&held.join("file"), b"ours").unwrap();
        let new = crate::fs::AtomicDir::create(&held.join("new")).unwrap();
        fs::write(new.path().join("x"), "ours").unwrap();
        new.finish().unwrap();
        assert_eq!(fs::read(theirs.join("file")).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 1);
        for file in ["file", "new/x"] {
            assert_eq!(fs::read(root.join("aside").join(file)).unwrap(), b"ours", "{file}");
        }
        let error = held.told(crate::fs::AtomicDir::create(&held.join("file")).map(drop).unwrap_err());
        assert_eq!(error.path, root.join("a/b/file"));
    }
}
