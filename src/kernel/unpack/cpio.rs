//! The archive inside an rpm: cpio in the newc form, and rpm's own stripped form of it.
//!
//! ```text
//! newc      "070701", 13 fields of 8 hexadecimal digits, name with NUL, padding to 4, data, padding to 4
//!           ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
//! stripped  "07070X", 8 hexadecimal digits: the index of the file in the header, padding to 4, data, padding to 4
//! ```
//!
//! Both end with a newc entry called `TRAILER!!!`. The stripped form is for files above 4 GiB and for version 6 packages;
//! names, modes and sizes come from the package's header.

use std::io::{self, Read};

use crate::limits;

/// Reads entry after entry of an archive.
pub(crate) struct Reader<R> {
    inner: R,
    /// Bytes passed since the archive's beginning, for the padding.
    position: u64,
    /// What is left of the current entry's data.
    left: u64,
}

/// What stands before an entry's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Of the newc form. Its data is `size` bytes long.
    Named(Named),
    /// Of the stripped form. Its size is for the caller to say, with [`Reader::expect`].
    Indexed(u32),
}

/// An entry of the newc form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: Vec<u8>,
    pub(crate) inode: u32,
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) mtime: u32,
    pub(crate) size: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Reader { inner, position: 0, left: 0 }
    }

    /// Passes over the rest of the current entry and reads the next one's beginning; `None` at the trailer.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let left = self.left;
        let passed = io::copy(&mut self.by_ref().take(left), &mut io::sink())?;
        if passed < left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad()?;
        let mut magic = [0; 6];
        self.exactly(&mut magic)?;
        match &magic {
            b"070701" | b"070702" => {}
            b"07070X" => {
                let index = self.field()?;
                self.pad()?;
                return Ok((index != u32::MAX).then_some(Entry::Indexed(index)));
            }
            _ => return Err(invalid("an entry begins neither with 070701, 070702 nor 07070X")),
        }
        let mut fields = [0; 13];
        for field in &mut fields {
            *field = self.field()?;
        }
        let [inode, mode, _, _, links, mtime, size, _, _, _, _, name_size, _] = fields;
        // With its NUL.
        if !(2..=limits::NAME_BYTES).contains(&(name_size as usize)) {
            return Err(invalid("a name's length is out of bounds"));
        }
        let mut name = vec![0; name_size as usize];
        self.exactly(&mut name)?;
        if name.pop() != Some(0) || name.contains(&0) {
            return Err(invalid("a name does not end where it should"));
        }
        self.pad()?;
        if name == b"TRAILER!!!" {
            return Ok(None);
        }
        limits::name(&name)?;
        self.left = u64::from(size);
        Ok(Some(Entry::Named(Named { name, inode, mode, links, mtime, size: u64::from(size) })))
    }

    /// Says how long the data of the current indexed entry is.
    pub(crate) fn expect(&mut self, size: u64) {
        self.left = size;
    }

    fn field(&mut self) -> io::Result<u32> {
        let mut digits = [0; 8];
        self.exactly(&mut digits)?;
        let text = std::str::from_utf8(&digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        text.and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or_else(|| invalid("a field is no number"))
    }

    fn pad(&mut self) -> io::Result<()> {
        let over = (self.position % 4) as usize;
        if over == 0 { Ok(()) } else { self.exactly(&mut [0; 4][over..]) }
    }

    fn exactly(&mut self, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(buf)?;
        self.position += buf.len() as u64;
        Ok(())
    }
}

/// The data of the current entry.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buf[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cpio: {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn newc(name: &str, mode: u32, inode: u32, links: u32, data: &[u8]) -> Vec<u8> {
        let (size, name_size) = (data.len(), name.len() + 1);
        let mut bytes = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}",
            0, 0, 7, 0, 0, 0, 0, 0
        )
        .into_bytes();
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn names(bytes: &[u8]) -> io::Result<Vec<String>> {
        let mut reader = Reader::new(bytes);
        let mut names = Vec::new();
        while let Some(entry) = reader.next()? {
            match entry {
                Entry::Named(named) => names.push(String::from_utf8_lossy(&named.name).into_owned()),
                Entry::Indexed(index) => names.push(format!("#{index}")),
            }
        }
        Ok(names)
    }

    #[test]
    fn entries_are_read_with_their_data_and_stripped_ones_with_the_size_that_the_caller_gives() {
        let mut bytes = newc("./a", 0o100_644, 1, 1, b"hello");
        bytes.extend_from_slice(&newc("./bc", 0o100_755, 2, 1, b""));
        bytes.extend_from_slice(b"07070X0000000b\0\0data\0\0\0\0");
        bytes.truncate(bytes.len() - 4);
        bytes.extend_from_slice(&newc("TRAILER!!!", 0, 0, 1, b""));
        let mut reader = Reader::new(&bytes[..]);
        let Some(Entry::Named(a)) = reader.next().unwrap() else { panic!("a named entry") };
        assert_eq!(a, Named { name: b"./a".into(), inode: 1, mode: 0o100_644, links: 1, mtime: 7, size: 5 });
        let mut data = String::new();
        reader.read_to_string(&mut data).unwrap();
        assert_eq!(data, "hello");
        assert!(matches!(reader.next().unwrap(), Some(Entry::Named(_))));
        assert_eq!(reader.next().unwrap(), Some(Entry::Indexed(11)));
        reader.expect(4);
        data.clear();
        reader.read_to_string(&mut data).unwrap();
        assert_eq!(data, "data");
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn damaged_headers_are_refused() {
        let good = newc("./a", 0o100_644, 1, 1, b"hello");
        let with = |range: std::ops::Range<usize>, text: &str| {
            let mut bytes = good.clone();
            bytes[range].copy_from_slice(text.as_bytes());
            names(&bytes).unwrap_err().to_string()
        };
        for (error, expected) in [
            (with(0..6, "070707"), "cpio: an entry begins neither with 070701, 070702 nor 07070X"),
            (with(6..14, "+0000001"), "cpio: a field is no number"),
            // A name of 4 GiB must not be allocated.
            (with(94..102, "ffffffff"), "cpio: a name's length is out of bounds"),
            (with(94..102, "00000001"), "cpio: a name's length is out of bounds"),
            (with(94..102, "00000003"), "cpio: a name does not end where it should"),
            // Nor may 4 GiB of data be waited for in silence.
            (with(54..62, "ffffffff"), "unexpected end of file"),
        ] {
            assert_eq!(error, expected);
        }
        assert_eq!(names(&good).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), at in 0_usize..110) {
            let _ = names(&bytes);
            let mut good = newc("./a", 0o100_644, 1, 1, b"hello");
            for (n, byte) in bytes.iter().take(8).enumerate() {
                good[(at + n) % 110] = *byte;
            }
            let _ = names(&good);
        }
    }
}
