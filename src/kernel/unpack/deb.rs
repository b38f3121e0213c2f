//! deb packages (deb(5)): an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`.
//!
//! ```text
//! "!<arch>\n", then per member 60 bytes: name 16, time 12, owner 6, group 6, mode 8, size 10, "`\n"; padding to 2
//! ```
//!
//! A deb has no digest or signature of its own: it is checked by the SHA-256 that a repository's index gives.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

use tar::EntryType;

use crate::compression::{LimitedReader, decoder, read_ahead};
use crate::fs;
use crate::kernel::package::{Format, Name, Relations};
use crate::kernel::unpack::Error;
use crate::kernel::unpack::tree::{Attributes, Tree, refused};
use crate::limits::{self, Count, Exceeded};
use crate::tarball;

/// The fields of a deb's control file, as they are.
pub(crate) struct Control(BTreeMap<String, String>);

impl Control {
    /// Reads a deb's control file, and passes over the rest, all of which has to be there.
    pub(crate) fn read(reader: impl BufRead + Send) -> Result<Self, Error> {
        let mut archive = Ar::open(reader)?;
        let (mut found, mut has_data) = (None, false);
        while let Some(member) = archive.next()? {
            if member.name.starts_with("control.tar") && found.is_none() {
                found = control_file(archive.data(member.size))?;
            }
            has_data |= member.name.starts_with("data.tar");
        }
        match found {
            Some(text) if has_data => Ok(Control(fields(&text))),
            Some(_) => Err(Error::Malformed("it has no data")),
            None => Err(Error::Malformed("it has no control file")),
        }
    }

    /// The package's name.
    pub(crate) fn name(&self) -> Result<Name, Error> {
        let field = |name: &str| self.0.get(name).cloned().unwrap_or_default();
        let version = field("version");
        let version = version.split_once(':').map_or(&*version, |(_, version)| version).to_owned();
        let name = Name { name: field("package"), version, architecture: field("architecture"), format: Format::Deb };
        match name.to_string().parse::<Name>() {
            Ok(parsed) if parsed == name => Ok(name),
            _ => Err(Error::Malformed("the name in its control file is none")),
        }
    }

    /// What it needs and offers.
    pub(crate) fn relations(&self) -> Relations {
        Relations::from_deb_fields(&self.0)
    }
}

/// The text of `control` in `control.tar.*`.
fn control_file(data: impl Read + Send) -> Result<Option<String>, Error> {
    let (_, control) = decoder(BufReader::new(data)).map_err(Error::Payload)?;
    let mut tar = tarball::open(LimitedReader::new(control, CONTROL_LIMIT));
    for entry in tar.entries().map_err(Error::Payload)? {
        let entry = entry.map_err(Error::Payload)?;
        let path = entry.path_bytes();
        if matches!(&*path, b"control" | b"./control") && entry.header().entry_type() == EntryType::Regular {
            let text = fs::read_limited(entry, limits::DOCUMENT).map_err(Error::Payload)?;
            // Maintainers' names in Latin-1 are for people; what counts is ASCII. Indexes of apt are read alike.
            let text = String::from_utf8_lossy(&text).into_owned();
            return checked(&text).map(|()| Some(text)).map_err(|exceeded| Error::Payload(exceeded.into()));
        }
    }
    Ok(None)
}

/// Unpacks a deb into a tree. `limit` bounds what it may decompress to, in bytes.
pub(crate) fn unpack(reader: impl BufRead + Send, tree: &mut Tree, limit: u64) -> Result<(), Error> {
    let mut archive = Ar::open(reader)?;
    while let Some(member) = archive.next()? {
        if !member.name.starts_with("data.tar") {
            continue;
        }
        {
            let data = archive.data(member.size);
            let (_, data) = decoder(BufReader::with_capacity(128 << 10, data)).map_err(Error::Payload)?;
            read_ahead(LimitedReader::new(data, limit), |data| {
                let mut tar = tarball::open(&mut *data);
                extract(&mut tar, tree)?;
                // The compressor's own check sum stands at the end.
                io::copy(data, &mut io::sink()).map_err(Error::Payload)
            })?;
        }
        archive.finish_member()?;
        return Ok(());
    }
    Err(Error::Malformed("it has no data"))
}

fn extract(tar: &mut tar::Archive<impl Read>, tree: &mut Tree) -> Result<(), Error> {
    for entry in tar.entries().map_err(Error::Payload)? {
        let mut entry = entry.map_err(Error::Payload)?;
        let name = entry.path_bytes().into_owned();
        let attributes = Attributes {
            mode: entry.header().mode().map_err(Error::Payload)?,
            mtime: entry.header().mtime().map_err(Error::Payload)?,
        };
        let is_sparse = |record: Result<tar::PaxExtension<'_>, _>| {
            record.is_ok_and(|record| record.key_bytes().starts_with(b"GNU.sparse."))
        };
        if entry.pax_extensions().map_err(Error::Payload)?.is_some_and(|mut records| records.any(is_sparse)) {
            return Err(refused(&name, "it is sparse in a form that only GNU tar reads"));
        }
        // An absolute name, as tar itself would strip and write elsewhere.
        match entry.header().entry_type() {
            EntryType::Directory => tree.directory(&name, attributes)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                tree.file(&name, attributes, &mut entry)?;
            }
            EntryType::Symlink | EntryType::Link => {
                let Some(target) = entry.link_name_bytes().map(std::borrow::Cow::into_owned) else {
                    return Err(refused(&name, "it is a link to nothing"));
                };
                if entry.header().entry_type() == EntryType::Symlink {
                    tree.symlink(&name, &target)?;
                } else {
                    tree.hard_link(&name, &target)?;
                }
            }
            EntryType::XGlobalHeader => {}
            _ => return Err(refused(&name, "it is a device, a pipe or a socket")),
        }
    }
    Ok(())
}

/// Checks how many fields and names of others a control file or a stanza may have, before it is taken apart: each takes a
/// hundred times its bytes.
pub(crate) fn checked(text: &str) -> Result<(), Exceeded> {
    let (mut fields, mut relations) = (
        Count::new("fields of a package", limits::CONTROL_LINES),
        Count::new("names that a package needs", limits::RELATIONS),
    );
    for line in text.lines() {
        fields.one()?;
        relations.several(line.bytes().filter(|byte| matches!(byte, b',' | b'|')).count())?;
    }
    Ok(())
}

/// Fields of a control file or of one stanza of an index; continuation lines are joined.
pub(crate) fn fields(text: &str) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        // As apt and dpkg read them, also with the ends of lines of other systems.
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            if let Some(value) = fields.get_mut(&last) {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            last = name.to_ascii_lowercase();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    fields
}

/// An `ar` archive, read from its beginning to its end.
struct Ar<R> {
    reader: R,
    left: u64,
    is_padded: bool,
}

struct Member {
    name: String,
    size: u64,
}

impl<R: BufRead + Send> Ar<R> {
    fn open(mut reader: R) -> Result<Self, Error> {
        let mut magic = [0; 8];
        reader.read_exact(&mut magic).map_err(Error::Payload)?;
        if &magic != b"!<arch>\n" {
            return Err(Error::Malformed("it does not begin like a deb"));
        }
        let mut archive = Ar { reader, left: 0, is_padded: false };
        let first = archive.next()?;
        let mut version = String::new();
        match first {
            Some(member) if member.name == "debian-binary" && member.size <= 64 => {
                archive.data(member.size).read_to_string(&mut version).map_err(Error::Payload)?;
            }
            _ => return Err(Error::Malformed("its first member is not debian-binary")),
        }
        if !version.starts_with("2.") {
            return Err(Error::Malformed("its format is not 2.x"));
        }
        Ok(archive)
    }

    /// Passes over the rest of the current member and reads the next one's header.
    fn next(&mut self) -> Result<Option<Member>, Error> {
        self.finish_member()?;
        if self.reader.fill_buf().map_err(Error::Payload)?.is_empty() {
            return Ok(None);
        }
        let mut header = [0; 60];
        self.reader.read_exact(&mut header).map_err(Error::Payload)?;
        let text = |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(str::trim_end).ok();
        let size = text(48..58).filter(|size| size.bytes().all(|b| b.is_ascii_digit()));
        let (Some(name), Some(size), b"`\n") = (text(0..16), size.and_then(|size| size.parse().ok()), &header[58..])
        else {
            return Err(Error::Malformed("a member's header is damaged"));
        };
        self.left = size;
        self.is_padded = size % 2 == 1;
        Ok(Some(Member { name: name.trim_end_matches('/').to_owned(), size }))
    }

    fn data(&mut self, size: u64) -> impl Read + Send + '_ {
        Data { archive: self, left: size }
    }

    /// Reads the current member to its end, which must be there.
    fn finish_member(&mut self) -> Result<(), Error> {
        let rest = self.left + u64::from(std::mem::take(&mut self.is_padded));
        let passed = io::copy(&mut self.reader.by_ref().take(rest), &mut io::sink()).map_err(Error::Payload)?;
        // Some writers leave out the padding after the last member.
        if passed < self.left {
            return Err(Error::Payload(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left = 0;
        Ok(())
    }
}

struct Data<'a, R> {
    archive: &'a mut Ar<R>,
    left: u64,
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.archive.reader.read(&mut buf[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        self.archive.left -= n as u64;
        Ok(n)
    }
}

/// Control files of kernel packages are some hundred KiB, nearly all of it lists of check sums.
const CONTROL_LIMIT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_reading_a_deb_panic(
            header in prop::collection::vec(any::<u8>(), 60..61),
            size in 0_u64..u64::MAX,
            noise in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let first = format!("!<arch>\n{:16}{:32}{:<10}`\n2.0\n", "debian-binary", 0, 4);
            let second = format!("{:16}{:32}{:<10.10}`\n", "control.tar", 0, size.to_string());
            for parts in [vec![&noise[..]], vec![first.as_bytes(), &header, &noise], vec![first.as_bytes(), second.as_bytes(), &noise]] {
                let bytes = parts.concat();
                let _ = Control::read(&bytes[..]).and_then(|control| control.name());
                let directory = tempfile::tempdir().unwrap();
                let _ = unpack(&bytes[..], &mut Tree::new(directory.path().to_owned()), 1 << 20);
            }
        }
    }
}
