//! The one way to open and to create files.
//!
//! A directory that others may write to can hold anything under the name that we are about to use: a link to a file of ours,
//! a pipe that nobody writes to, a file of somebody who keeps it open. So:
//!
//! * what is read is a regular file ([`open_file`]), and nobody is waited for when it is not;
//! * what is written is new ([`create_new`]), or a file that we wrote before ([`resume`]);
//! * no link is followed when writing, and nothing is truncated before its lock is held ([`lock_file`]).

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::fs::{PathContext, PathError};

/// Opens a file for reading. What is not a regular file is refused and not waited for, but for a pipe that the user's
/// shell made (`<(…)`, `/dev/stdin`), which is how secrets are handed over.
pub fn open_file(path: &Path) -> Result<File, PathError> {
    if is_given_pipe(path) {
        return File::open(path).at("open", path);
    }
    let file = options(OFlags::empty()).read(true).open(path).at("open", path)?;
    regular(file).at("open", path)
}

/// Opens a file for reading that is no link either: one in a directory that came from elsewhere could lead anywhere.
pub fn open_regular(path: &Path) -> Result<File, PathError> {
    let file = options(OFlags::NOFOLLOW).read(true).open(path).map_err(without_loop).at("open", path)?;
    regular(file).at("open", path)
}

/// Opens a file or a directory for nothing but its lock or to sync it. No link is followed, and nobody is waited for.
pub fn open_any(path: &Path) -> Result<File, PathError> {
    options(OFlags::NOFOLLOW).read(true).open(path).map_err(without_loop).at("open", path)
}

/// Creates a file to write and read that was not there.
pub fn create_new(path: &Path) -> Result<File, PathError> {
    options(OFlags::NOFOLLOW).read(true).write(true).create_new(true).open(path).at("create", path)
}

/// Opens what an earlier run left of a file, to be read and gone on with, or creates it. The position is at its start.
///
/// Whoever else may write to it could give it any content after it was checked: a file of another owner or with a second name
/// is removed and begun anew, and what is not a regular file is refused. Nothing is truncated: another run may hold its lock.
pub fn resume(path: &Path) -> Result<File, PathError> {
    resume_with(path, false)
}

/// Like [`resume`], with every write at the file's end, wherever that is by then: for records that several runs share.
pub fn append(path: &Path) -> Result<File, PathError> {
    resume_with(path, true)
}

fn resume_with(path: &Path, append: bool) -> Result<File, PathError> {
    loop {
        let mut options = options(OFlags::NOFOLLOW);
        let open = options.read(true).write(true).append(append).create(true).truncate(false).open(path);
        let file = match open {
            // In a sticky directory the kernel itself refuses others' files to O_CREAT (fs.protected_regular).
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_foreign(path) => None,
            file => Some(regular(file.map_err(without_loop).at("create", path)?).at("create", path)?),
        };
        if let Some(file) = file
            && is_ours(&file.metadata().at("read", path)?)
        {
            return Ok(file);
        }
        fs::remove_file(path).at("remove", path)?;
    }
}

/// Opens a file that is there to change it: no link, and with no other name, by which somebody else would see the change.
pub fn open_to_change(path: &Path) -> Result<File, PathError> {
    let file = options(OFlags::NOFOLLOW).read(true).write(true).open(path).map_err(without_loop).at("open", path)?;
    let file = regular(file).at("open", path)?;
    match file.metadata().at("read", path)?.nlink() {
        1 => Ok(file),
        _ => Err(io::Error::other("it has another name")).at("change", path),
    }
}

/// Opens the file that a lock is on, or creates it. Whoever owns it: a lock is shared, and nothing in the file is believed.
pub fn lock_file(path: &Path) -> Result<File, PathError> {
    let open = || options(OFlags::NOFOLLOW).read(true).write(true).create(true).truncate(false).open(path);
    match open() {
        Ok(file) => regular(file).at("create", path),
        // Somebody else's in a sticky directory, which the kernel refuses to O_CREAT; for a lock it will do.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_foreign(path) => open_regular(path),
        Err(error) => Err(without_loop(error)).at("create", path),
    }
}

/// Whether a path names a regular file of ours that has no other name: one that we may go on with.
pub fn is_resumable(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && is_ours(&found))
}

/// Whether the path names this open file, and not one that took its place.
pub fn is_same_file(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

/// Refuses to replace what is not a file: a pipe whose reader would get nothing, a device, a link to one.
pub(super) fn replaceable(path: &Path) -> Result<Option<Metadata>, PathError> {
    let refuse = |what: &str| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, and files are replaced whole"));
        Err(PathError { action: "replace", path: path.to_owned(), source })
    };
    // A link that leads nowhere is replaced as other links are.
    let Ok(found) = fs::metadata(path) else { return Ok(None) };
    match FileType::from_raw_mode(found.mode()) {
        FileType::RegularFile => Ok(Some(found)),
        FileType::Directory => refuse("a directory"),
        FileType::Fifo => refuse("a pipe"),
        FileType::Socket => refuse("a socket"),
        _ => refuse("a device"),
    }
}

/// Copies a file into a new one. Returns its size in bytes.
pub fn copy(from: &Path, to: &Path) -> Result<u64, PathError> {
    let (mut from_file, mut to_file) = (open_file(from)?, create_new(to)?);
    // Through the kernel where it can (copy_file_range), as std does for two files.
    io::copy(&mut from_file, &mut to_file).at("copy", from)
}

/// Renames a file or directory on one file system, in the place of what is there.
pub fn rename(from: &Path, to: &Path) -> Result<(), PathError> {
    fs::rename(from, to).at("create", to)
}

/// Reads a whole regular file of at most `limit` bytes that is no link.
pub fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>, PathError> {
    crate::fs::read_limited(open_regular(path)?, limit).at("read", path)
}

/// Whether somebody else than this user and root may write to a file, or owns it. The user's own group may: where each user
/// has one, files are made like that.
pub fn is_writable_by_others(path: &Path) -> io::Result<bool> {
    let found = fs::metadata(path)?;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let others_own = found.uid() != user && found.uid() != 0;
    Ok(others_own || found.mode() & 0o002 != 0 || (found.mode() & 0o020 != 0 && found.gid() != group))
}

fn options(flags: OFlags) -> OpenOptions {
    let flags = i32::try_from((flags | OFlags::NONBLOCK).bits()).expect("flags of open(2)");
    let mut options = OpenOptions::new();
    options.custom_flags(flags);
    options
}

fn regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// What O_NOFOLLOW and openat2 say of links is "too many levels of symbolic links", which nobody understands.
pub(super) fn without_loop(error: io::Error) -> io::Error {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP) => io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file but a link"),
        // A pipe that is opened for writing and has no reader.
        Some(Errno::NXIO) => io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"),
        _ => error,
    }
}

fn is_ours(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw() && found.nlink() <= 1
}

fn is_foreign(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && !is_ours(&found))
}

fn is_given_pipe(path: &Path) -> bool {
    // What lies in a directory that is held (see [`Held`]) is none of them.
    let is_one = |prefix| path.strip_prefix(prefix).is_ok_and(|rest| rest.components().count() == 1);
    path == Path::new("/dev/stdin") || is_one("/dev/fd") || is_one("/proc/self/fd")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use rustix::fs::{CWD, Mode};

    use super::*;
    use crate::fs::{AtomicFile, Lock};

    /// A file with a name that somebody planted a link, a pipe or a second name at, and the victim.
    fn planted() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (name, victim) = (dir.path().join("name"), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        (dir, name, victim)
    }

    type Use = fn(&Path) -> Result<(), PathError>;
    const WRITERS: &[(&str, Use)] = &[
        ("create_new", |path| create_new(path).map(drop)),
        ("resume", |path| resume(path).map(|mut file| file.write_all(b"evil").unwrap())),
        ("append", |path| append(path).map(|mut file| file.write_all(b"evil").unwrap())),
        ("Lock::wait", |path| Lock::wait(path).map(drop)),
    ];

    #[test]
    fn no_planted_link_or_pipe_is_written_through_and_none_is_waited_for() {
        for (who, write) in WRITERS {
            for kind in ["link", "dangling link", "pipe", "directory", "device"] {
                let (dir, name, victim) = planted();
                match kind {
                    "link" => symlink(&victim, &name).unwrap(),
                    "dangling link" => symlink(dir.path().join("not there"), &name).unwrap(),
                    "directory" => fs::create_dir(&name).unwrap(),
                    "device" => symlink("/dev/null", &name).unwrap(),
                    _ => rustix::fs::mkfifoat(CWD, &name, Mode::from_raw_mode(0o600)).unwrap(),
                }
                assert!(write(&name).is_err(), "{who}: {kind}");
                assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{who}: {kind}");
                assert!(!dir.path().join("not there").exists(), "{who}: {kind}");
            }
        }
    }

    #[test]
    fn a_file_with_a_second_name_is_not_gone_on_with() {
        let (_dir, name, victim) = planted();
        fs::hard_link(&victim, &name).unwrap();
        assert!(!is_resumable(&name));
        resume(&name).unwrap().write_all(b"ours").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&name).unwrap(), "ours");
        assert!(is_resumable(&name));
        let mut text = String::new();
        resume(&name).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "ours");
    }

    #[test]
    fn only_regular_files_are_read() {
        let (dir, name, victim) = planted();
        rustix::fs::mkfifoat(CWD, &name, Mode::from_raw_mode(0o600)).unwrap();
        let link = dir.path().join("link");
        symlink(&victim, &link).unwrap();
        let reason = |result: Result<File, PathError>| result.map(drop).map_err(|error| error.source.to_string());
        for (path, followed, not_followed) in [
            (&victim, Ok(()), Ok(())),
            (&link, Ok(()), Err("it is not a regular file but a link".to_owned())),
            (&name, Err("it is not a regular file".to_owned()), Err("it is not a regular file".to_owned())),
        ] {
            assert_eq!(reason(open_file(path)), followed, "{}", path.display());
            assert_eq!(reason(open_regular(path)), not_followed, "{}", path.display());
        }
        assert!(open_file(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn a_pipe_or_a_device_is_not_replaced_and_a_file_keeps_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, name, victim) = planted();
        rustix::fs::mkfifoat(CWD, &name, Mode::from_raw_mode(0o600)).unwrap();
        let link = dir.path().join("link");
        symlink("/dev/null", &link).unwrap();
        for path in [&name, &link] {
            let error = AtomicFile::create(path).map(drop).unwrap_err();
            assert_eq!(error.action, "replace");
        }
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
        crate::fs::write(&victim, b"new").unwrap();
        let found = fs::metadata(&victim).unwrap();
        assert_eq!((found.mode() & 0o7777, fs::read_to_string(&victim).unwrap()), (0o640, "new".to_owned()));
    }
}
