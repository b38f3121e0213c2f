//! The one way to read a tar archive that comes from outside.
//!
//! The tar crate reads extended headers whole, however long they say they are, and passes over sizes in them that are no
//! numbers, which other readers do not. So what it reads is looked at on the way: [`open`] gives an archive whose headers are
//! within the [`limits`] and mean the same to every reader.
//!
//! ```text
//! header, 512 bytes: … size, type …     [further blocks of holes, where it is sparse]     data, padded to 512
//!   of type L or K (GNU), x or g (PAX): its data describes the next entry
//! a header of zeros ends the archive; what follows is not looked at
//! ```

use std::io::{self, Read, Seek, SeekFrom};

use tar::{EntryType, Header, PaxExtensions};

use crate::limits::{self, Count};

/// Opens an archive. Names that are too long or too deep, headers that are too large, sizes that are none and too many entries
/// are errors of its entries, of the kind [`io::ErrorKind::InvalidData`].
pub fn open<R: Read>(reader: R) -> tar::Archive<Guarded<R>> {
    tar::Archive::new(Guarded {
        inner: reader,
        at: At::Header,
        block: Vec::with_capacity(BLOCK),
        described: Described::default(),
        entries: Count::new("entries in an archive", limits::ENTRIES),
    })
}

/// A reader whose bytes are those of a tar archive within the limits.
pub struct Guarded<R> {
    inner: R,
    at: At,
    /// The block that is being read, or the data of an extended header.
    block: Vec<u8>,
    /// What extended headers said about the next entry.
    described: Described,
    entries: Count,
}

/// Where in an archive the next byte stands.
#[derive(Clone, Copy)]
enum At {
    Header,
    /// A block that lists holes; then so many bytes of data.
    Holes(u64),
    /// An extended header, of which so many bytes are left, and its padding.
    Extension(EntryType, usize, u64),
    Data(u64),
    End,
}

#[derive(Default)]
struct Described {
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R> Guarded<R> {
    /// Looks at bytes as they pass.
    fn watch(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let passed = match self.at {
                At::End => return Ok(()),
                At::Data(left) => usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()),
                At::Extension(_, left, _) => left.min(bytes.len()),
                At::Header | At::Holes(_) => (BLOCK - self.block.len()).min(bytes.len()),
            };
            let (now, later) = bytes.split_at(passed);
            bytes = later;
            if !matches!(self.at, At::Data(_)) {
                self.block.extend_from_slice(now);
            }
            self.at = match self.at {
                At::Header if self.block.len() == BLOCK => self.header()?,
                At::Holes(size) if self.block.len() == BLOCK => {
                    let is_extended = self.block[EXT_IS_EXTENDED] == 1;
                    self.block.clear();
                    if is_extended { At::Holes(size) } else { data(size) }
                }
                At::Extension(kind, left, padding) if left == passed => {
                    self.extension(kind)?;
                    self.block.clear();
                    data(padding)
                }
                At::Extension(kind, left, padding) => At::Extension(kind, left - passed, padding),
                At::Data(left) => data(left - passed as u64),
                at => at,
            };
        }
        Ok(())
    }

    fn header(&mut self) -> io::Result<At> {
        if self.block.iter().all(|byte| *byte == 0) {
            return Ok(At::End);
        }
        let header = Header::from_byte_slice(&self.block);
        let kind = header.entry_type();
        let is_known = header.as_gnu().is_some() || header.as_ustar().is_some();
        let is_extension =
            is_known && matches!(kind, EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader);
        let (mut size, is_sparse) = (header.entry_size()?, kind == EntryType::GNUSparse);
        let is_extended = is_sparse && header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        self.entries.one()?;
        if is_extension || kind == EntryType::XGlobalHeader {
            limits::bytes(size, limits::HEADER, "bytes in a header")?;
            let padding = size.next_multiple_of(BLOCK as u64) - size;
            self.block.clear();
            // An empty one describes nothing.
            return Ok(if size == 0 { At::Header } else { At::Extension(kind, size as usize, padding) });
        }
        let Described { name, size: described } = std::mem::take(&mut self.described);
        limits::name(name.as_deref().unwrap_or(&header.path_bytes()))?;
        size = described.unwrap_or(size);
        let padded = size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| invalid("a size is out of bounds"))?;
        self.block.clear();
        Ok(if is_extended { At::Holes(padded) } else { data(padded) })
    }

    fn extension(&mut self, kind: EntryType) -> io::Result<()> {
        match kind {
            EntryType::GNULongName => self.described.name = Some(without_nul(&self.block).to_vec()),
            EntryType::GNULongLink => limits::at_most(without_nul(&self.block).len(), limits::NAME_BYTES, LINK)?,
            EntryType::XHeader => {
                for record in PaxExtensions::new(&self.block) {
                    let record = record?;
                    match record.key_bytes() {
                        b"path" => self.described.name = Some(record.value_bytes().to_vec()),
                        b"linkpath" => limits::at_most(record.value_bytes().len(), limits::NAME_BYTES, LINK)?,
                        b"size" => {
                            let digits = record.value_bytes();
                            let text =
                                std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
                            let size = text.and_then(|text| text.parse().ok());
                            let size = size.ok_or_else(|| invalid("a size in an extended header is no number"))?;
                            if self.described.size.is_some_and(|there| there != size) {
                                return Err(invalid("an extended header has two sizes"));
                            }
                            self.described.size = Some(size);
                        }
                        _ => {}
                    }
                }
            }
            // Of what holds for all that follows we take nothing, and a size for everything is nonsense.
            _ => {}
        }
        Ok(())
    }
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.watch(&buf[..n])?;
        Ok(n)
    }
}

/// Passes over data, and over nothing else.
impl<R: Seek> Seek for Guarded<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let ahead = match to {
            SeekFrom::Current(ahead) => u64::try_from(ahead).ok(),
            _ => None,
        };
        let left = match self.at {
            At::Data(left) => left,
            // Nothing is taken of it, and so nobody need read it.
            At::Extension(EntryType::XGlobalHeader, left, padding) => left as u64 + padding,
            _ => 0,
        };
        let left = ahead.and_then(|ahead| left.checked_sub(ahead)).ok_or(io::ErrorKind::InvalidInput)?;
        if matches!(self.at, At::Data(_) | At::Extension(EntryType::XGlobalHeader, ..)) {
            self.block.clear();
            self.at = data(left);
        }
        self.inner.seek(to)
    }
}

fn data(left: u64) -> At {
    if left == 0 { At::Header } else { At::Data(left) }
}

fn without_nul(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("tar: {why}"))
}

const BLOCK: usize = 512;
/// Where a block of holes says whether another follows.
const EXT_IS_EXTENDED: usize = 504;
const LINK: &str = "bytes in a link";

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Names and contents of an archive's entries.
    fn entries(bytes: &[u8], seek: bool) -> io::Result<Vec<(String, usize)>> {
        let mut archive = open(Cursor::new(bytes));
        let entries = if seek { archive.entries_with_seek()? } else { archive.entries()? };
        entries
            .map(|entry| {
                let mut entry = entry?;
                let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                // Half of it, so that the rest is passed over.
                let half = entry.size() / 2;
                let read = io::copy(&mut entry.by_ref().take(half), &mut io::sink())?;
                Ok((name, read as usize))
            })
            .collect()
    }

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn archive(parts: &[(EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, content) in parts {
            let mut header = header(*kind, content.len() as u64);
            header.as_old_mut().name[..3].copy_from_slice(b"x/y");
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn pax(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
        format!("{length}{rest}").into_bytes()
    }

    #[test]
    fn what_is_within_the_limits_is_read_as_it_is_with_and_without_seeking() {
        let (file, long, x) = (EntryType::Regular, EntryType::GNULongName, EntryType::XHeader);
        let name = "a".repeat(300);
        for (parts, expected) in [
            (
                vec![(file, &b"12345678"[..]), (file, b""), (file, &[b'x'; 1024])],
                vec![("x/y", 4), ("x/y", 0), ("x/y", 512)],
            ),
            (vec![(long, name.as_bytes()), (file, b"1234")], vec![(&*name, 2)]),
            (vec![(x, &pax("path", "p/q")), (file, b"1234"), (file, b"12")], vec![("p/q", 2), ("x/y", 1)]),
            (vec![(EntryType::XGlobalHeader, &pax("comment", "c")), (file, b"12")], vec![("x/y", 6), ("x/y", 1)]),
        ] {
            let bytes = archive(&parts);
            let expected: Vec<_> = expected.into_iter().map(|(name, read)| (name.to_owned(), read)).collect();
            for seek in [false, true] {
                assert_eq!(entries(&bytes, seek).unwrap(), expected, "seek: {seek}");
            }
            // What stands behind the end is nobody's business.
            assert_eq!(entries(&[&bytes[..], &[7; 5000]].concat(), false).unwrap(), expected);
        }
    }

    #[test]
    fn a_size_in_an_extended_header_counts_and_must_be_one() {
        let (file, x) = (EntryType::Regular, EntryType::XHeader);
        let mut header = header(file, 0);
        header.as_old_mut().name[..1].copy_from_slice(b"f");
        header.set_cksum();
        let with = |record: &[u8]| {
            let mut bytes = archive(&[(x, record)]);
            bytes.truncate(1024);
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&[b'd'; 1024]);
            bytes.extend_from_slice(&archive(&[(file, b"1234")]));
            entries(&bytes, false).map_err(|error| error.to_string())
        };
        assert_eq!(with(&pax("size", "1000")).unwrap(), [("f".to_owned(), 500), ("x/y".to_owned(), 2)]);
        for value in ["", "+5", "-1", "1e3", "0x10", "99999999999999999999999", " 5"] {
            assert_eq!(
                with(&pax("size", value)).unwrap_err(),
                "tar: a size in an extended header is no number",
                "{value}"
            );
        }
        let two = [pax("size", "1000"), pax("size", "10")].concat();
        assert_eq!(with(&two).unwrap_err(), "tar: an extended header has two sizes");
    }

    #[test]
    fn what_is_beyond_the_limits_is_refused_before_it_is_read() {
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
            // 2 GiB of which only the header is there.
            let bytes = header(kind, 2 << 30).as_bytes().to_vec();
            assert_eq!(entries(&bytes, false).unwrap_err().to_string(), "more than 1048576 bytes in a header");
        }
        let deep = "a/".repeat(limits::NAME_DEPTH + 1);
        for (kind, content, why) in [
            (EntryType::GNULongName, deep.clone().into_bytes(), "more than 256 directories in a name"),
            (EntryType::GNULongName, vec![b'a'; 5000], "more than 4096 bytes in a name"),
            (EntryType::GNULongLink, vec![b'a'; 5000], "more than 4096 bytes in a link"),
            (EntryType::XHeader, pax("path", &deep), "more than 256 directories in a name"),
            (EntryType::XHeader, pax("linkpath", &"a".repeat(5000)), "more than 4096 bytes in a link"),
        ] {
            let bytes = archive(&[(kind, &content), (EntryType::Regular, b"")]);
            assert_eq!(entries(&bytes, true).unwrap_err().to_string(), why);
        }
    }
}
