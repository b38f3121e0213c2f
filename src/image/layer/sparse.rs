//! Files with holes, read without reading the holes.
//!
//! A layer has the zeros of a hole written out, and they compress to next to nothing. Tar has formats for sparse files,
//! but image-spec (`layer.md`) says not to use them: not all that unpack layers know all of them, and those that do
//! would write the zeros, too.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Reads a file; where the file system says there is nothing, zeros come without being read.
pub(crate) struct SparseReader {
    file: File,
    position: u64,
    segment: Segment,
}

/// What lies at the position, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Data { end: u64 },
    Hole { end: u64 },
}

impl SparseReader {
    /// Starts at the beginning of a file.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        // Where every byte has its place on the disk there are no holes to look for.
        let dense = metadata.blocks().saturating_mul(512) >= metadata.len();
        let end = if dense { u64::MAX } else { 0 };
        Ok(SparseReader { file, position: 0, segment: Segment::Data { end } })
    }

    fn next_segment(&mut self) -> io::Result<Segment> {
        let position = self.position;
        match seek(&self.file, SeekFrom::Data(position)) {
            Ok(start) if start > position => Ok(Segment::Hole { end: start }),
            Ok(_) => {
                let end = seek(&self.file, SeekFrom::Hole(position))?;
                // Asking moves where reading goes on.
                self.file.seek(io::SeekFrom::Start(position))?;
                Ok(Segment::Data { end })
            }
            // No more data: the rest is a hole, or there is no rest.
            Err(Errno::NXIO) => Ok(Segment::Hole { end: self.file.metadata()?.len() }),
            // A file system that does not know.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Segment::Data { end: u64::MAX }),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for SparseReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (Segment::Data { end } | Segment::Hole { end }) = self.segment;
        if self.position >= end {
            self.segment = self.next_segment()?;
        }
        let (Segment::Data { end } | Segment::Hole { end }) = self.segment;
        let left = usize::try_from(end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let n = buf.len().min(left);
        let n = match self.segment {
            Segment::Data { .. } => self.file.read(&mut buf[..n])?,
            Segment::Hole { .. } => {
                buf[..n].fill(0);
                n
            }
        };
        self.position += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_read_is_what_the_file_holds_wherever_its_holes_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        const MIB: u64 = 1 << 20;
        for (size, pieces) in [
            (0, vec![]),
            (5, vec![(0, 5)]),
            (8 * MIB, vec![]),
            (8 * MIB, vec![(0, 10)]),
            (8 * MIB, vec![(8 * MIB - 10, 10)]),
            (8 * MIB + 3, vec![(MIB, 100), (3 * MIB + 7, 70_000)]),
        ] {
            let file = File::create(&path).unwrap();
            file.set_len(size).unwrap();
            for (offset, length) in &pieces {
                file.write_all_at(&vec![7; *length], *offset).unwrap();
            }
            let mut read = Vec::new();
            SparseReader::new(File::open(&path).unwrap()).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == std::fs::read(&path).unwrap(), "{size} {pieces:?}");
        }
    }

    #[test]
    fn holes_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        file.write_all_at(b"end", (1 << 40) - 3).unwrap();
        let mut reader = SparseReader::new(File::open(&path).unwrap()).unwrap();
        let mut buf = [1; 512];
        assert_eq!((reader.read(&mut buf).unwrap(), buf), (512, [0; 512]));
        // One look finds where the data begins, a terabyte away: nothing in between has to be read.
        let Segment::Hole { end } = reader.segment else { panic!("{:?}", reader.segment) };
        assert!(end > (1 << 40) - (1 << 20), "{end}");
    }
}
