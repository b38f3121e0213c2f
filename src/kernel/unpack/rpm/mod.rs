//! rpm packages: the headers read by the `rpm` crate behind a guard, the payload by our own cpio reader.
//!
//! ```text
//! lead (96 bytes) │ signature header │ padding to 8 │ header │ payload: a compressed cpio
//! ```
//!
//! What can be checked is: the header against the digests in the signature header, the payload against the digest in the
//! header, the header's signature with given keys, which then covers everything. Packages before 2018 have no payload
//! digest; there each file is compared with its SHA-256 in the header.

mod head;
mod header;

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rpm::signature::pgp::Verifier;
use rpm::{FileFlags, IndexTag, PackageMetadata};

pub(crate) use self::head::Head;
use crate::compression::{Compression, LimitedReader, read_ahead};
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::kernel::unpack::cpio::{Entry, Reader};
use crate::kernel::unpack::tree::{Attributes, Tree, refused};
use crate::kernel::unpack::{Check, Checks, Error, Special};
use crate::limits;

/// What the header says about one file.
struct Listed {
    name: Vec<u8>,
    mode: u32,
    size: u64,
    mtime: u64,
    target: Option<Vec<u8>>,
    sha256: Option<String>,
    /// Device and inode, the same for all names of one file.
    inode: (u32, u32),
    is_ghost: bool,
}

/// Unpacks an rpm into a tree. `limit` bounds what it may decompress to, in bytes.
pub(crate) fn unpack<R: Read + Send>(
    mut reader: R,
    tree: &mut Tree,
    limit: u64,
    keys: Option<&Verifier>,
) -> Result<(Checks, Vec<Special>), Error> {
    let head = Head::read(&mut reader)?;
    let mut checks = Checks::default();
    head.check(keys, &mut checks)?;
    let (files, specials) = files(&head)?;
    let expected = payload_digest(&head.metadata);

    let mut payload = BufReader::with_capacity(256 << 10, HashingReader::new(reader, Algorithm::Sha256));
    let compression = Compression::detect(payload.fill_buf().map_err(Error::Payload)?);
    let decoder = compression.decoder(&mut payload).map_err(Error::Payload)?;
    let by_file = expected.is_none() && !files.is_empty();
    let all_hashed = read_ahead(LimitedReader::new(decoder, limit), |data| {
        let all_hashed = extract(&mut Reader::new(&mut *data), &files, tree, by_file)?;
        // A digest covers the bytes to the last one, padding behind the trailer included.
        io::copy(data, &mut io::sink()).map_err(Error::Payload).map(|_| all_hashed)
    })?;
    io::copy(&mut payload, &mut io::sink()).map_err(Error::Payload)?;
    let (actual, _, _) = payload.into_inner().finish();
    match expected {
        Some(expected) if expected != actual => {
            return Err(Error::Mismatch {
                what: "payload",
                expected: expected.to_string(),
                actual: actual.to_string(),
            });
        }
        Some(_) => checks.record(Check::PayloadDigest, true),
        None => checks.record(Check::PayloadDigest, by_file && all_hashed || files.is_empty()),
    }
    Ok((checks, specials))
}

/// Reads an rpm to its end, which must be where its headers say.
pub(crate) fn whole(mut reader: impl Read + Send) -> Result<(), Error> {
    let head = Head::read(&mut reader)?;
    head.check(None, &mut Checks::default())?;
    let mut payload = BufReader::with_capacity(256 << 10, HashingReader::new(reader, Algorithm::Sha256));
    let (expected, stated) = (payload_digest(&head.metadata), head.payload_size());
    if expected.is_none() && stated.is_none() {
        // Nothing but the compressor tells where it ends.
        let mut decoder = Compression::detect(payload.fill_buf().map_err(Error::Payload)?)
            .decoder(&mut payload)
            .map_err(Error::Payload)?;
        io::copy(&mut decoder, &mut io::sink()).map_err(Error::Payload)?;
        return Ok(());
    }
    io::copy(&mut payload, &mut io::sink()).map_err(Error::Payload)?;
    let (actual, size, _) = payload.into_inner().finish();
    match (expected, stated) {
        (Some(expected), _) if expected != actual => {
            Err(Error::Mismatch { what: "payload", expected: expected.to_string(), actual: actual.to_string() })
        }
        (None, Some(stated)) if stated != size => {
            Err(Error::Malformed("its payload has another size than its header says"))
        }
        _ => Ok(()),
    }
}

/// Writes the archive's members; returns whether every file's digest was compared.
fn extract(
    archive: &mut Reader<impl Read>,
    files: &[Listed],
    tree: &mut Tree,
    hash_files: bool,
) -> Result<bool, Error> {
    let by_name: HashMap<&[u8], usize> = files.iter().enumerate().map(|(at, file)| (&*file.name, at)).collect();
    // Of all names of one file only the last carries the data; the others wait here for it.
    let mut waiting: HashMap<(u32, u32), Vec<usize>> = HashMap::new();
    let mut sets: HashMap<(u32, u32), usize> = HashMap::new();
    for file in files.iter().filter(|file| !file.is_ghost && file.mode & TYPE == REGULAR) {
        *sets.entry(file.inode).or_default() += 1;
    }
    let mut seen = vec![false; files.len()];
    let mut all_hashed = true;
    while let Some(entry) = archive.next().map_err(Error::Payload)? {
        let (at, stated) = match &entry {
            Entry::Named(named) => {
                let name = named.name.strip_prefix(b".").unwrap_or(&named.name);
                let name = name.strip_prefix(b"/").unwrap_or(name);
                let Some(at) = by_name.get(name) else {
                    return Err(refused(&named.name, "the header does not list it"));
                };
                (*at, Some(named))
            }
            Entry::Indexed(index) => match usize::try_from(*index).ok().filter(|at| *at < files.len()) {
                Some(at) => (at, None),
                None => return Err(Error::Malformed("its payload has a file that the header does not list")),
            },
        };
        let file = &files[at];
        if std::mem::replace(&mut seen[at], true) {
            return Err(refused(&file.name, "the payload has it twice"));
        }
        if stated.is_some_and(|stated| stated.mode & TYPE != file.mode & TYPE) {
            return Err(refused(&file.name, "header and payload disagree on what it is"));
        }
        let attributes = Attributes { mode: file.mode, mtime: file.mtime };
        match file.mode & TYPE {
            DIRECTORY => tree.directory(&file.name, attributes)?,
            SYMLINK => {
                let size = stated.map_or(file.size, |stated| stated.size);
                archive.expect(size.min(4096));
                let mut target = Vec::new();
                archive.read_to_end(&mut target).map_err(Error::Payload)?;
                if file.target.as_ref() != Some(&target) {
                    return Err(refused(&file.name, "header and payload disagree on where it points"));
                }
                tree.symlink(&file.name, &target)?;
            }
            REGULAR => {
                let names = sets.get(&file.inode).copied().unwrap_or(1);
                let others = waiting.entry(file.inode).or_default();
                let is_last = names <= 1 || others.len() + 1 == names;
                if !is_last && stated.is_none_or(|stated| stated.size == 0) {
                    others.push(at);
                    continue;
                }
                if stated.is_some_and(|stated| stated.size != file.size) {
                    return Err(refused(&file.name, "header and payload disagree on its size"));
                }
                archive.expect(file.size);
                match &file.sha256 {
                    Some(sha256) if hash_files => {
                        let mut data = HashingReader::new(&mut *archive, Algorithm::Sha256);
                        tree.file(&file.name, attributes, &mut data)?;
                        let (actual, _, _) = data.finish();
                        if actual.hex() != sha256 {
                            return Err(Error::Mismatch {
                                what: "file in it",
                                expected: sha256.clone(),
                                actual: actual.hex().to_owned(),
                            });
                        }
                    }
                    sha256 => {
                        all_hashed &= sha256.is_some();
                        tree.file(&file.name, attributes, archive)?;
                    }
                }
                for other in std::mem::take(others) {
                    tree.hard_link(&files[other].name, &file.name)?;
                }
            }
            // mknod as root, at a place of the packager's choice.
            _ => return Err(refused(&file.name, "it is a device, a pipe or a socket")),
        }
    }
    let missing = files.iter().zip(&seen).find(|(file, seen)| !file.is_ghost && !**seen);
    if let Some((file, _)) = missing {
        return Err(refused(&file.name, "the header lists it and the payload has it not"));
    }
    if waiting.values().any(|others| !others.is_empty()) {
        return Err(Error::Malformed("its payload has names of a file and not the file"));
    }
    Ok(all_hashed)
}

/// The files that the header lists, and those with owners or capabilities that only root could give.
fn files(head: &Head) -> Result<(Vec<Listed>, Vec<Special>), Error> {
    let metadata = &head.metadata;
    let entries = metadata.get_file_entries().map_err(Error::rpm)?;
    let numbers = |tag| metadata.header.get_entry_data_as_u32_array(tag).unwrap_or_default();
    let (devices, inodes) = (numbers(IndexTag::RPMTAG_FILEDEVICES), numbers(IndexTag::RPMTAG_FILEINODES));
    let (names, targets) = (header::names(&head.header), header::link_targets(&head.header));
    let is_whole = |list: usize| list == entries.len();
    let mut files = Vec::with_capacity(entries.len());
    let mut specials = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let path: PathBuf = entry.path();
        let name = if is_whole(names.len()) { &names[at] } else { path.as_os_str().as_bytes() };
        // Names in a header begin with a slash; more than one would still be absolute without it.
        let name = name.strip_prefix(b"/").unwrap_or(name).to_vec();
        limits::name(&name).map_err(|exceeded| Error::Payload(exceeded.into()))?;
        let is_ghost = entry.flags().contains(FileFlags::GHOST);
        let capabilities = entry.caps().filter(|caps| !caps.is_empty()).map(str::to_owned);
        if !is_ghost && (entry.user() != "root" || entry.group() != "root" || capabilities.is_some()) {
            specials.push(Special {
                path: String::from_utf8_lossy(&name).into_owned(),
                user: entry.user().to_owned(),
                group: entry.group().to_owned(),
                capabilities,
            });
        }
        files.push(Listed {
            mode: u32::from(entry.mode().raw_mode()),
            size: entry.size() as u64,
            mtime: u64::from(u32::from(entry.modified_at())),
            target: entry.linkto().map(|target| match is_whole(targets.len()) {
                true => targets[at].to_vec(),
                false => target.as_bytes().to_vec(),
            }),
            sha256: entry.digest().map(|digest| digest.as_hex().to_owned()).filter(|hex| hex.len() == 64),
            // Without inodes every file stands for itself.
            inode: (devices.get(at).copied().unwrap_or(0), inodes.get(at).copied().unwrap_or(at as u32)),
            name,
            is_ghost,
        });
    }
    Ok((files, specials))
}

fn payload_digest(metadata: &PackageMetadata) -> Option<Digest> {
    let hex = metadata.header.get_entry_data_as_string_array(IndexTag::RPMTAG_PAYLOADSHA256).ok()?;
    format!("sha256:{}", hex.first()?).parse().ok()
}

const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of one text, one list of texts and numbers, twice, as signature header and header.
    fn package() -> Vec<u8> {
        let mut section = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 24];
        for word in [1000_u32, 6, 0, 1, 1117, 8, 4, 2, 1030, 3, 8, 8] {
            section.extend(word.to_be_bytes());
        }
        section.extend(b"abc\0a\0b\0");
        section.extend([0; 16]);
        let mut bytes = vec![0xed, 0xab, 0xee, 0xdb, 3, 0];
        bytes.resize(96, 0);
        bytes.extend(&section);
        bytes.extend(&section);
        bytes
    }

    #[test]
    fn a_list_of_needs_that_cannot_be_read_is_not_taken_for_none() {
        let mut bytes = package();
        // The last two entries of the second section: names of files without their directories, which become something else, and numbers,
        // which become names of what is required, and then names without versions.
        let entry = bytes.len() - 24 - 16;
        let relations = |bytes: &[u8]| Head::read(&mut &bytes[..]).unwrap().relations();
        assert!(relations(&bytes).is_err());
        bytes[entry - 16..entry - 12].copy_from_slice(&1015_u32.to_be_bytes());
        assert!(relations(&bytes).unwrap().depends.is_empty());
        for (tag, kind, offset) in [(1049_u32, 3_u32, 8_u32), (1049, 8, 2), (1047, 8, 2), (1048, 3, 8)] {
            let mut bytes = bytes.clone();
            for (at, word) in [(0, tag), (4, kind), (8, offset), (12, 2)] {
                bytes[entry + at..entry + at + 4].copy_from_slice(&word.to_be_bytes());
            }
            assert!(relations(&bytes).is_err(), "{tag} of kind {kind}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// The parser behind the guard indexes and allocates by what the header says.
        #[test]
        fn no_bytes_make_reading_a_head_panic(
            changes in prop::collection::vec((96_usize..272, any::<u8>()), 1..6),
            cut in 0_usize..272,
            noise in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = package();
            for (at, byte) in changes {
                let last = bytes.len() - 1;
                bytes[at.min(last)] = byte;
            }
            if let Ok(head) = Head::read(&mut &bytes[..]) {
                let _ = (head.name(), head.relations(), head.vendor(), files(&head).is_ok());
                let _ = payload_digest(&head.metadata);
            }
            let cut = cut.min(bytes.len());
            let _ = Head::read(&mut &bytes[..cut]);
            let _ = Head::read(&mut &noise[..]);
        }
    }
}
