//! A gzip file taken apart: headers as they are, streams inflated piece by piece beside the bytes that they were.

use std::io::{self, Read, Seek, SeekFrom};

use flate2::{Decompress, FlushDecompress, Status};

use crate::compression::encode::recipe::HEADER;

/// A file that is read with a look back at where things began.
pub(super) struct Input<R> {
    inner: R,
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
    /// Where the end of the buffer is in the file.
    end_position: u64,
}

/// What a piece of a stream came to.
pub(super) enum Inflated {
    /// So many bytes, and more will come.
    Some(usize),
    /// So many bytes, and the stream is over.
    Last(usize),
    /// No DEFLATE stream, or not all of one.
    Broken,
}

impl<R: Read + Seek> Input<R> {
    pub(super) fn new(inner: R) -> Self {
        Input { inner, buffer: vec![0; BUFFER].into(), at: 0, end: 0, end_position: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.end_position - (self.end - self.at) as u64
    }

    pub(super) fn seek(&mut self, position: u64) -> io::Result<()> {
        let start = self.end_position - self.end as u64;
        if (start..=self.end_position).contains(&position) {
            self.at = (position - start) as usize;
            return Ok(());
        }
        self.inner.seek(SeekFrom::Start(position))?;
        (self.at, self.end, self.end_position) = (0, 0, position);
        Ok(())
    }

    /// What is buffered; empty at the end of the file.
    fn fill(&mut self) -> io::Result<&[u8]> {
        while self.at == self.end {
            match self.inner.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => {
                    (self.at, self.end) = (0, n);
                    self.end_position += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.at..self.end])
    }

    /// Appends up to `count` bytes; fewer only at the end of the file.
    pub(super) fn read(&mut self, count: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let mut left = count;
        while left > 0 {
            let some = self.fill()?;
            if some.is_empty() {
                break;
            }
            let n = some.len().min(left);
            into.extend_from_slice(&some[..n]);
            self.at += n;
            left -= n;
        }
        Ok(count - left)
    }

    /// The header of the member that begins here (RFC 1952, 2.3), all of it. None, if there is none or it is cut; then
    /// some of it has been read.
    pub(super) fn header(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut header = Vec::new();
        if self.read(10, &mut header)? < 10 || header[..3] != [0x1f, 0x8b, 8] || header[3] & 0xe0 != 0 {
            return Ok(None);
        }
        let flags = header[3];
        if flags & EXTRA != 0 {
            if self.read(2, &mut header)? < 2 {
                return Ok(None);
            }
            let length = usize::from(u16::from_le_bytes([header[10], header[11]]));
            if self.read(length, &mut header)? < length {
                return Ok(None);
            }
        }
        for _text in [NAME, COMMENT].iter().filter(|text| flags & **text != 0) {
            loop {
                if self.read(1, &mut header)? < 1 || header.len() > HEADER - 2 {
                    return Ok(None);
                }
                if header.last() == Some(&0) {
                    break;
                }
            }
        }
        if flags & HEADER_CRC != 0 && self.read(2, &mut header)? < 2 {
            return Ok(None);
        }
        Ok(Some(header))
    }

    /// Inflates the next piece of a stream into `plain` and appends the bytes that it took to `eaten`.
    pub(super) fn inflate(
        &mut self,
        stream: &mut Decompress,
        plain: &mut [u8],
        eaten: &mut Vec<u8>,
    ) -> io::Result<Inflated> {
        loop {
            let input = self.fill()?;
            let is_end = input.is_empty();
            let (taken, made) = (stream.total_in(), stream.total_out());
            let Ok(status) = stream.decompress(input, plain, FlushDecompress::None) else {
                return Ok(Inflated::Broken);
            };
            let taken = (stream.total_in() - taken) as usize;
            let made = (stream.total_out() - made) as usize;
            eaten.extend_from_slice(&input[..taken]);
            self.at += taken;
            match status {
                Status::StreamEnd => return Ok(Inflated::Last(made)),
                _ if made > 0 => return Ok(Inflated::Some(made)),
                _ if is_end || taken == 0 => return Ok(Inflated::Broken),
                _ => {}
            }
        }
    }
}

const BUFFER: usize = 64 << 10;
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
