//! The members of a tar that is read where it lies: names and ranges, nothing is unpacked.
//!
//! Archives come from outside. Names that lead out of the archive, devices and names that are there twice are refused,
//! and links too, but where an archive of that kind has them: then they may only lead to other members.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use crate::compression::{self, Compression, LimitedReader};
use crate::fs::{self, PathContext, PathError};
use crate::image::store::archive::Error;
use crate::image::store::layout;
use crate::limits;
use crate::tarball;

/// Where the content of each member of a tar file lies.
#[derive(Debug)]
pub(crate) struct Members {
    path: PathBuf,
    /// The tar, where the file is one that is compressed.
    spooled: Option<TempPath>,
    /// Offset and size by name, without a leading `./`.
    files: BTreeMap<String, (u64, u64)>,
    /// What links stand for, as names of members.
    links: BTreeMap<String, String>,
    /// Its size, and whether a block of zeros follows the last member, as it does in whole archives.
    size: u64,
    has_end: bool,
}

/// What becomes of links between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// They are no part of such an archive.
    Refuse,
    /// They stand for another member; `docker save` writes a layer that two images have so.
    Follow,
}

impl Members {
    /// Lists the members of a tar file. One that is compressed with gzip or zstd, as people send them, is decompressed into a
    /// temporary file first: its members are read where they lie, in any order.
    pub(crate) fn list(path: &Path, links: Links) -> Result<Self, Error> {
        let spooled = match compression_of(path)? {
            Compression::None => None,
            Compression::Gzip | Compression::Zstd => {
                tracing::warn!(
                    "{}: compressed as a whole, decompressing it into a temporary file first",
                    path.display()
                );
                let size = std::fs::metadata(path).at("read", path)?.len();
                Some(spool(path, size.saturating_mul(limits::SPOOLED_RATIO).max(limits::SPOOLED))?)
            }
            _ => return Err(Error::Compressed { path: path.to_owned(), written: false }),
        };
        let file = fs::open_file(spooled.as_deref().unwrap_or(path))?;
        let size = file.metadata().at("read", path)?.len();
        let (files, links_of) = (BTreeMap::new(), BTreeMap::new());
        let mut members = Members { path: path.to_owned(), spooled, files, links: links_of, size, has_end: false };
        let mut tar = tarball::open(file);
        let mut end = 0;
        for entry in tar.entries_with_seek().at("read", path)? {
            let entry = match entry {
                // Tar files are made of blocks.
                Err(_) if size % BLOCK != 0 => return Err(Error::Cut { path: path.to_owned(), size, member: None }),
                entry => entry.at("read", path)?,
            };
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let refuse = |problem| Error::BadMember { path: path.to_owned(), member: name.clone(), problem };
            let kind = entry.header().entry_type();
            let content = if kind.is_file() || kind.is_pax_global_extensions() { entry.size() } else { 0 };
            end = entry.raw_file_position().saturating_add(content);
            if end > size {
                return Err(Error::Cut { path: path.to_owned(), size, member: Some(name) });
            }
            // Defaults for those that read PAX headers, such as the commit that git made an archive of.
            if kind.is_pax_global_extensions() {
                continue;
            }
            let link = kind.is_symlink() || kind.is_hard_link();
            // A link could make a blob of any file of the host, a device could hang or answer for ever.
            if link && links == Links::Refuse {
                return Err(refuse("a link"));
            }
            if !kind.is_file() && !kind.is_dir() && !link {
                return Err(refuse("neither a file nor a directory"));
            }
            // Nothing is unpacked here, but whoever does so next should not find such a name in what passed.
            let plain = inside(Path::new(""), Path::new(&name), false).ok_or_else(|| refuse("outside the archive"))?;
            if kind.is_dir() {
                continue;
            }
            if link {
                let target = entry.link_name().at("read", path)?.unwrap_or_default();
                let from = if kind.is_symlink() { Path::new(&plain).parent() } else { None };
                let target = inside(from.unwrap_or(Path::new("")), &target, true);
                members.links.insert(plain, target.ok_or_else(|| refuse("a link that leads outside the archive"))?);
                continue;
            }
            let range = (entry.raw_file_position(), entry.size());
            // Which of the two would count depends on the reader: one of them may be there to deceive.
            if members.files.insert(plain, range).is_some() {
                return Err(refuse("there twice"));
            }
        }
        members.has_end = size >= end.next_multiple_of(BLOCK) + BLOCK;
        Ok(members)
    }

    /// That it is cut between two members, when it may be: to be said when one is missing.
    pub(crate) fn cut(&self) -> Option<Error> {
        (!self.has_end).then(|| Error::Cut { path: self.path.clone(), size: self.size, member: None })
    }

    /// The tar file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of all files, sorted, with their sizes; links are not among them.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, (_, size))| (name.as_str(), *size))
    }

    /// The size of a member, links followed.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        self.range(name).map(|(_, size)| size)
    }

    /// Opens a member, links followed.
    pub(crate) fn open(&self, name: &str) -> Result<Option<io::Take<File>>, PathError> {
        let Some((offset, size)) = self.range(name) else { return Ok(None) };
        let mut file = fs::open_file(self.spooled.as_deref().unwrap_or(&self.path))?;
        file.seek(SeekFrom::Start(offset)).at("read", &self.path)?;
        Ok(Some(file.take(size)))
    }

    /// Reads a member that is a document, links followed: at most 4 MiB.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(size) = self.size(name) else { return Ok(None) };
        if size > layout::DOCUMENT_LIMIT {
            let name = format!("{}: {name}", self.path.display());
            return Err(layout::Error::TooLarge { name, size, limit: layout::DOCUMENT_LIMIT }.into());
        }
        let mut bytes = Vec::new();
        if let Some(mut member) = self.open(name)? {
            member.read_to_end(&mut bytes).at("read", &self.path)?;
        }
        Ok(Some(bytes))
    }

    fn range(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = name;
        // Links that lead in a circle end here, too.
        for _ in 0..limits::LINKS {
            match self.links.get(name) {
                Some(target) => name = target,
                None => break,
            }
        }
        self.files.get(name).copied()
    }
}

/// How a file is compressed as a whole.
pub(crate) fn compression_of(path: &Path) -> Result<Compression, PathError> {
    let mut start = [0; 6];
    let n = fs::open_file(path)?.read(&mut start).at("read", path)?;
    Ok(Compression::detect(&start[..n]))
}

/// Decompresses a file into one that goes away with its owner, and is at most `limit` bytes: a small file must not fill a disk.
fn spool(path: &Path, limit: u64) -> Result<TempPath, PathError> {
    let (_, content) = compression::decoder(fs::open(path)?).at("read", path)?;
    let mut content = LimitedReader::new(content, limit);
    let mut spooled = NamedTempFile::new().at("create", std::env::temp_dir())?;
    io::copy(&mut content, &mut spooled).at("decompress", path)?;
    Ok(spooled.into_temp_path())
}

/// A name below the archive's root, seen from `from`; `None` when it leads out. `..` is only for links.
fn inside(from: &Path, name: &Path, up: bool) -> Option<String> {
    let mut parts: Vec<&str> = from.iter().map(|part| part.to_str()).collect::<Option<_>>()?;
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir if up => drop(parts.pop()?),
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

/// Bytes that headers and contents of a tar are multiples of.
const BLOCK: u64 = 512;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_archive_that_is_compressed_as_a_whole_is_decompressed_up_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&[0; 100_000]).unwrap();
        fs::write(&path, &encoder.finish().unwrap()).unwrap();
        assert_eq!(std::fs::metadata(spool(&path, 100_000).unwrap()).unwrap().len(), 100_000);
        let error = spool(&path, 99_999).unwrap_err();
        assert_eq!(error.source.to_string(), "decompresses to more than the limit of 99999 bytes");
    }
}
