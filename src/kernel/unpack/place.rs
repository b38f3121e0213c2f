//! Where a [`Tree`](super::tree::Tree) is: a directory on the disk, or a spool on the way into a layer.
//!
//! Neither checks anything: names are inside, parents are there, nothing is overwritten.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, linkat, mkdirat, openat, symlinkat};

use crate::fs::{self, PathContext, Slice, SpoolWriter};
use crate::kernel::unpack::Error;
use crate::kernel::unpack::tree::Attributes;

/// One of the two.
pub(crate) enum Place {
    Directory(Directory),
    Spool(Spooled),
}

impl Place {
    pub(crate) fn directory(&mut self, path: &Path) -> Result<(), Error> {
        match self {
            Place::Directory(place) => place.directory(path),
            Place::Spool(_) => Ok(()),
        }
    }

    pub(crate) fn file(&mut self, path: &Path, attributes: Attributes, data: &mut impl Read) -> Result<u64, Error> {
        match self {
            Place::Directory(place) => place.file(path, attributes, data),
            Place::Spool(place) => place.file(path, attributes, data),
        }
    }

    /// Whether a file has this content.
    pub(crate) fn is_same(&self, path: &Path, data: &mut impl Read) -> Result<bool, Error> {
        match self {
            Place::Directory(place) => is_same(fs::open(&place.root.join(path))?, path, data),
            Place::Spool(place) => is_same(place.files[path].slice.reader(), path, data),
        }
    }

    /// Whether two files have the same content.
    pub(crate) fn are_same(&self, path: &Path, other: &Path) -> Result<bool, Error> {
        match self {
            Place::Directory(place) => self.is_same(path, &mut fs::open(&place.root.join(other))?),
            Place::Spool(place) => Ok(place.files[path].slice.is_same(&place.files[other].slice).at("read", path)?),
        }
    }

    pub(crate) fn hard_link(&mut self, path: &Path, of: &Path) -> Result<(), Error> {
        match self {
            Place::Directory(place) => place.hard_link(path, of),
            Place::Spool(place) => {
                let file = place.files[of].clone();
                place.files.insert(path.to_owned(), file);
                Ok(())
            }
        }
    }

    pub(crate) fn symlink(&mut self, path: &Path, to: &Path) -> Result<(), Error> {
        match self {
            Place::Directory(place) => place.symlink(path, to),
            Place::Spool(_) => Ok(()),
        }
    }

    pub(crate) fn relink(&mut self, path: &Path, to: &Path) -> Result<(), Error> {
        match self {
            Place::Directory(place) => {
                fs::remove_file(&place.root.join(path))?;
                place.symlink(path, to)
            }
            Place::Spool(_) => Ok(()),
        }
    }

    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
        match self {
            Place::Directory(place) => Ok(fs::read(&place.root.join(path), limit)?),
            Place::Spool(place) => Ok(fs::read_limited(place.files[path].slice.reader(), limit).at("read", path)?),
        }
    }

    pub(crate) fn rewrite(&mut self, path: &Path, content: &[u8]) -> Result<(), Error> {
        match self {
            Place::Directory(place) => place.rewrite(path, content),
            Place::Spool(place) => {
                let SpooledFile { mode, mtime, .. } = place.files[path];
                place.file(path, Attributes { mode, mtime }, &mut &*content)?;
                Ok(())
            }
        }
    }
}

/// A directory on the disk.
pub(crate) struct Directory {
    root: PathBuf,
    /// The directory of the last member. The next one is mostly in it too, and its path need not be walked again.
    current: Option<(PathBuf, OwnedFd)>,
    /// What is copied goes through here; a new one for each of 12,000 files would cost more than most of them.
    buffer: Vec<u8>,
}

impl Directory {
    pub(crate) fn new(root: PathBuf) -> Self {
        Directory { root, current: None, buffer: vec![0; BUFFER] }
    }

    fn directory(&mut self, path: &Path) -> Result<(), Error> {
        let target = self.root.join(path);
        let directory = self.directory_of(path)?;
        mkdirat(directory, file_name(path), Mode::from_raw_mode(0o755))
            .map_err(io::Error::from)
            .at("create", &target)?;
        Ok(())
    }

    fn file(&mut self, path: &Path, attributes: Attributes, data: &mut impl Read) -> Result<u64, Error> {
        let target = self.root.join(path);
        let mode = attributes.mode & 0o777;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(self.directory_of(path)?, file_name(path), flags, Mode::from_raw_mode(mode));
        let mut file = opened.map(File::from).map_err(io::Error::from).at("create", &target)?;
        let size = copy_sparsely(data, &mut self.buffer, &mut (&mut file, &*target))?;
        // The process's mask may have taken something away; asking costs less than saying it once more each time.
        if file.metadata().at("read", &target)?.permissions().mode() & 0o777 != mode {
            file.set_permissions(Permissions::from_mode(mode)).at("set the permissions of", &target)?;
        }
        set_time(&file, attributes.mtime).at("set the time of", &target)?;
        Ok(size)
    }

    fn hard_link(&mut self, path: &Path, of: &Path) -> Result<(), Error> {
        let (target, source) = (self.root.join(path), self.root.join(of));
        let directory = self.directory_of(path)?;
        linkat(CWD, &source, directory, file_name(path), AtFlags::empty())
            .map_err(io::Error::from)
            .at("create", &target)?;
        Ok(())
    }

    fn symlink(&mut self, path: &Path, to: &Path) -> Result<(), Error> {
        let target = self.root.join(path);
        symlinkat(to, self.directory_of(path)?, file_name(path)).map_err(io::Error::from).at("create", &target)?;
        Ok(())
    }

    fn rewrite(&mut self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let target = self.root.join(path);
        let metadata = std::fs::metadata(&target).at("read", &target)?;
        fs::write(&target, content)?;
        std::fs::set_permissions(&target, metadata.permissions()).at("set the permissions of", &target)?;
        let written = fs::open_regular(&target)?;
        set_time(&written, metadata.mtime().try_into().unwrap_or(0)).at("set the time of", &target)?;
        Ok(())
    }

    /// Gives a directory its permissions.
    pub(crate) fn set_mode(&self, path: &Path, mode: u32) -> Result<(), Error> {
        let target = self.root.join(path);
        let mode = accessible(mode);
        let metadata = std::fs::symlink_metadata(&target).at("read", &target)?;
        if metadata.permissions().mode() & 0o7777 != mode {
            std::fs::set_permissions(&target, Permissions::from_mode(mode)).at("set the permissions of", &target)?;
        }
        Ok(())
    }

    /// The directory that a member stands in, open.
    fn directory_of(&mut self, path: &Path) -> Result<BorrowedFd<'_>, Error> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.current.as_ref().is_none_or(|(current, _)| current != parent) {
            let target = self.root.join(parent);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::open(&target, flags, Mode::empty());
            self.current = Some((parent.to_owned(), opened.map_err(io::Error::from).at("open", &target)?));
        }
        Ok(self.current.as_ref().expect("it was opened").1.as_fd())
    }
}

/// Files whose contents are in a spool.
pub(crate) struct Spooled {
    writer: SpoolWriter,
    files: HashMap<PathBuf, SpooledFile>,
    count: u64,
    buffer: Vec<u8>,
}

/// A file whose content is in a spool.
#[derive(Clone, Debug)]
pub(crate) struct SpooledFile {
    /// The same for all names of one file.
    pub(crate) number: u64,
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
    pub(crate) slice: Slice,
}

impl Spooled {
    pub(crate) fn new(writer: SpoolWriter) -> Self {
        Spooled { writer, files: HashMap::new(), count: 0, buffer: vec![0; BUFFER] }
    }

    pub(crate) fn into_files(self) -> HashMap<PathBuf, SpooledFile> {
        self.files
    }

    fn file(&mut self, path: &Path, attributes: Attributes, data: &mut impl Read) -> Result<u64, Error> {
        let from = self.writer.position();
        let size = copy_sparsely(data, &mut self.buffer, &mut self.writer)?;
        self.count += 1;
        let Attributes { mode, mtime } = attributes;
        let file = SpooledFile { number: self.count, mode: mode & 0o777, mtime, slice: self.writer.slice(from)? };
        self.files.insert(path.to_owned(), file);
        Ok(size)
    }
}

/// The owner keeps access: what cannot be entered cannot be removed or synced either.
pub(crate) fn accessible(mode: u32) -> u32 {
    mode | 0o700
}

/// Takes contents, and what in them is nothing.
trait Sink {
    fn data(&mut self, bytes: &[u8]) -> Result<(), Error>;
    fn hole(&mut self, size: u64) -> Result<(), Error>;
    /// All of it was given.
    fn end(&mut self, size: u64, is_hole: bool) -> Result<(), Error>;
}

impl Sink for (&mut File, &Path) {
    fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.0.write_all(bytes).at("write", self.1)?)
    }

    fn hole(&mut self, size: u64) -> Result<(), Error> {
        self.0.seek(SeekFrom::Current(size.try_into().unwrap_or(i64::MAX))).at("write", self.1)?;
        Ok(())
    }

    fn end(&mut self, size: u64, is_hole: bool) -> Result<(), Error> {
        if is_hole { Ok(self.0.set_len(size).at("write", self.1)?) } else { Ok(()) }
    }
}

impl Sink for SpoolWriter {
    fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.append(bytes)?)
    }

    fn hole(&mut self, size: u64) -> Result<(), Error> {
        SpoolWriter::hole(self, size);
        Ok(())
    }

    fn end(&mut self, _: u64, _: bool) -> Result<(), Error> {
        Ok(())
    }
}

/// Copies and leaves holes where there are only zeros: a `vmlinux` has many, and a made-up file may be nothing else.
fn copy_sparsely(data: &mut impl Read, buffer: &mut [u8], to: &mut impl Sink) -> Result<u64, Error> {
    let (mut size, mut is_hole) = (0_u64, false);
    loop {
        let filled = fs::read_full(data, buffer).map_err(Error::Payload)?;
        let chunk = &buffer[..filled];
        if filled == buffer.len() && chunk.iter().all(|byte| *byte == 0) {
            to.hole(filled as u64)?;
            is_hole = true;
        } else if filled > 0 {
            to.data(chunk)?;
            is_hole = false;
        }
        size += filled as u64;
        if filled < buffer.len() {
            to.end(size, is_hole)?;
            return Ok(size);
        }
    }
}

fn is_same(mut there: impl Read, path: &Path, data: &mut impl Read) -> Result<bool, Error> {
    let (mut ours, mut theirs) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let n = data.read(&mut ours).map_err(Error::Payload)?;
        if n == 0 {
            return Ok(there.read(&mut theirs).at("read", path)? == 0);
        }
        if there.read_exact(&mut theirs[..n]).is_err() || ours[..n] != theirs[..n] {
            return Ok(false);
        }
    }
}

fn file_name(path: &Path) -> &Path {
    Path::new(path.file_name().expect("the root is no member"))
}

fn set_time(file: &File, seconds: u64) -> io::Result<()> {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?;
    Ok(())
}

/// What is copied at one time, and the size of the holes that are seen.
const BUFFER: usize = 64 << 10;
