//! Contents on their way into layers, one after another in a few unnamed files.
//!
//! Packages have tens of thousands of small files. To create, read and remove each of them costs more than to
//! decompress and to compress all their bytes; a file system that has just removed as many costs ten times that.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::fs::{PathContext, PathError, create_dir_all};

/// Keeps contents until the last that reads them is done. Clones share it.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    /// Files that nobody writes to now, and where each ends.
    idle: Mutex<Vec<(Arc<Numbered>, u64)>>,
}

/// A file, and a number that no other file of the process has or had.
struct Numbered {
    file: Arc<File>,
    number: u64,
}

/// Writes contents, and has a file for itself while it does. There are as many files as there are writers at one time.
pub struct SpoolWriter {
    file: Arc<Numbered>,
    end: u64,
    /// Whether the file ends before `end`, with a hole that nothing followed.
    is_short: bool,
    spool: Spool,
}

/// Some bytes in a spool. Equal when they are the same ones. Carries have a million of them: it is kept small.
#[derive(Clone)]
pub struct Slice {
    file: Arc<Numbered>,
    offset: u64,
    size: u64,
}

/// Reads a [`Slice`].
pub struct SliceReader {
    slice: Slice,
    position: u64,
}

impl Spool {
    /// Prepares a spool whose files are in `directory`, on the disk that has room for them; it is created when it is needed.
    pub fn new(directory: &Path) -> Self {
        Spool(Arc::new(Inner { directory: directory.to_owned(), idle: Mutex::default() }))
    }

    /// A writer.
    pub fn writer(&self) -> Result<SpoolWriter, PathError> {
        let idle = self.0.idle.lock().expect("no holder panics").pop();
        let (file, end) = match idle {
            Some(idle) => idle,
            None => {
                let directory = &self.0.directory;
                create_dir_all(directory)?;
                (Numbered::new(Arc::new(tempfile::tempfile_in(directory).at("create a file in", directory)?)), 0)
            }
        };
        Ok(SpoolWriter { file, end, is_short: false, spool: self.clone() })
    }
}

impl SpoolWriter {
    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.end
    }

    /// Adds bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PathError> {
        self.file.file.write_all_at(bytes, self.end).at("write to a file in", &self.spool.0.directory)?;
        self.end += bytes.len() as u64;
        self.is_short &= bytes.is_empty();
        Ok(())
    }

    /// Adds bytes that are a slice of their own.
    pub fn keep(&mut self, bytes: &[u8]) -> Result<Slice, PathError> {
        let from = self.end;
        self.append(bytes)?;
        self.slice(from)
    }

    /// Adds so many zeros, which take no room.
    pub fn hole(&mut self, size: u64) {
        self.end += size;
        self.is_short |= size > 0;
    }

    /// What was added from a position on.
    pub fn slice(&mut self, from: u64) -> Result<Slice, PathError> {
        if self.is_short {
            self.file.file.set_len(self.end).at("write to a file in", &self.spool.0.directory)?;
            self.is_short = false;
        }
        Ok(Slice { file: self.file.clone(), offset: from, size: self.end - from })
    }
}

impl Numbered {
    fn new(file: Arc<File>) -> Arc<Self> {
        Arc::new(Numbered { file, number: FILES.fetch_add(1, Ordering::Relaxed) })
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        self.spool.0.idle.lock().expect("no holder panics").push((self.file.clone(), self.end));
    }
}

impl Slice {
    /// Bytes of a file that somebody else has written.
    pub fn of(file: Arc<File>, offset: u64, size: u64) -> Self {
        Slice { file: Numbered::new(file), offset, size }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A part of it. Panics where it is none.
    pub fn part(&self, offset: u64, size: u64) -> Self {
        assert!(offset.checked_add(size).is_some_and(|end| end <= self.size), "a part lies within the whole");
        Slice { file: self.file.clone(), offset: self.offset + offset, size }
    }

    /// Which bytes of which file they are: no other slice of the process has or had the same, but for its clones.
    pub(crate) fn identity(&self) -> [u64; 3] {
        [self.file.number, self.offset, self.size]
    }

    /// Whether another has the same bytes, wherever they are.
    pub fn is_same(&self, other: &Slice) -> io::Result<bool> {
        if self == other || self.size != other.size {
            return Ok(self == other);
        }
        let (mut ours, mut theirs) = (vec![0; COMPARED], vec![0; COMPARED]);
        let (mut one, mut two) = (self.reader(), other.reader());
        loop {
            let n = one.read(&mut ours)?;
            two.read_exact(&mut theirs[..n])?;
            if n == 0 || ours[..n] != theirs[..n] {
                return Ok(n == 0);
            }
        }
    }

    /// Reads it from its beginning.
    pub fn reader(&self) -> SliceReader {
        SliceReader { slice: self.clone(), position: 0 }
    }
}

impl Read for SliceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.slice.size - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.slice.file.file.read_at(&mut buffer[..wanted], self.slice.offset + self.position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        Ok(read)
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Slice {}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {}", self.size, self.offset)
    }
}

/// Bytes that are compared at one time.
const COMPARED: usize = 64 << 10;

/// How many files have had a number.
static FILES: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_read_again_and_writers_take_over_each_others_files() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::new(&dir.path().join("new"));
        let add = |writer: &mut SpoolWriter, parts: &[&[u8]], hole: u64| {
            let from = writer.position();
            parts.iter().for_each(|part| writer.append(part).unwrap());
            writer.hole(hole);
            writer.slice(from).unwrap()
        };
        let read = |slice: &Slice| {
            let mut bytes = Vec::new();
            slice.reader().read_to_end(&mut bytes).unwrap();
            bytes
        };
        let (mut one, mut two) = (spool.writer().unwrap(), spool.writer().unwrap());
        let slices = [
            add(&mut one, &[b"ab", b"c"], 0),
            add(&mut two, &[b"x"], 3),
            add(&mut one, &[], 0),
            add(&mut one, &[b"d"], 0),
        ];
        // A hole at the end of the file is there before anything follows it.
        assert_eq!(read(&slices[1]), b"x\0\0\0");
        drop((one, two));
        let mut three = spool.writer().unwrap();
        let last = add(&mut three, &[b"e"], 0);
        assert_eq!(slices.each_ref().map(read), [&b"abc"[..], b"x\0\0\0", b"", b"d"]);
        assert_eq!((read(&last), last.size()), (b"e".to_vec(), 1));
        assert_eq!(spool.0.idle.lock().unwrap().len(), 1);
        assert!(slices[0] == slices[0].clone() && slices[0] != slices[3]);
        let mut four = spool.writer().unwrap();
        for (bytes, is_same) in [(&b"abc"[..], true), (b"abd", false), (b"ab", false)] {
            assert_eq!(slices[0].is_same(&add(&mut four, &[bytes], 0)).unwrap(), is_same);
        }
    }
}
