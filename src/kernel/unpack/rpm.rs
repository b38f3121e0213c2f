//! rpm packages: the headers read by the `rpm` crate behind a guard, the payload by our own cpio reader.
//!
//! ```text
//! lead (96 bytes) │ signature header │ padding to 8 │ header │ payload: a compressed cpio
//! ```
//!
//! What can be checked is: the header against the digests in the signature header, the payload against the digest in the
//! header, the header's signature with given keys, which then covers everything. Packages before 2018 have no payload
//! digest; there each file is compared with its SHA-256 in the header.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rpm::signature::Verifying;
use rpm::signature::pgp::Verifier;
use rpm::{FileFlags, IndexSignatureTag, IndexTag, PackageMetadata};

use crate::compression::{Compression, LimitedReader, read_ahead};
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::kernel::classify::release_of;
use crate::kernel::package::{Comparison, Format, Name, Relation, Relations};
use crate::kernel::unpack::cpio::{Entry, Reader};
use crate::kernel::unpack::tree::{Attributes, Tree, refused};
use crate::kernel::unpack::{Check, Checks, Error, Special};
use crate::limits;

/// The beginning of an rpm, up to the payload.
pub(crate) struct Head {
    metadata: PackageMetadata,
    /// The bytes of the main header, which a signature covers.
    header: Vec<u8>,
}

impl Head {
    /// Reads lead and headers; the reader stands at the payload then.
    ///
    /// Sizes and offsets are looked at before anything is believed: the parser behind takes them as they are.
    pub(crate) fn read(reader: &mut impl Read) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        take(reader, LEAD, &mut bytes)?;
        if !bytes.starts_with(&[0xed, 0xab, 0xee, 0xdb]) {
            return Err(Error::Malformed("it does not begin like an rpm"));
        }
        let size = take_header(reader, &mut bytes)?;
        take(reader, size.next_multiple_of(8) - size, &mut bytes)?;
        let start = bytes.len();
        take_header(reader, &mut bytes)?;
        let header = bytes[start..].to_vec();
        let metadata = PackageMetadata::parse(&mut Cursor::new(bytes)).map_err(Error::rpm)?;
        Ok(Head { metadata, header })
    }

    /// The package's name as its header has it.
    pub(crate) fn name(&self) -> Result<Name, Error> {
        let rpm = &self.metadata;
        let architecture =
            if rpm.is_source_package() { "src".to_owned() } else { rpm.get_arch().map_err(Error::rpm)?.to_owned() };
        let name = Name {
            name: rpm.get_name().map_err(Error::rpm)?.to_owned(),
            version: format!("{}-{}", rpm.get_version().map_err(Error::rpm)?, rpm.get_release().map_err(Error::rpm)?),
            architecture,
            format: Format::Rpm,
        };
        // The parts become file names: they must be such.
        name.to_string().parse().map_err(|_| Error::Malformed("the name in its header is none"))
    }

    /// Who made it.
    pub(crate) fn vendor(&self) -> Option<String> {
        self.metadata.get_vendor().ok().map(str::to_owned)
    }

    /// What it needs and offers.
    pub(crate) fn relations(&self) -> Relations {
        let relation = |dependency: rpm::Dependency| {
            use rpm::DependencyFlags as Flags;
            let bits = dependency.flags & (Flags::LESS | Flags::GREATER | Flags::EQUAL);
            let comparison = match () {
                () if bits == Flags::EQUAL => Some(Comparison::Equal),
                () if bits == Flags::GREATER | Flags::EQUAL => Some(Comparison::AtLeast),
                () if bits == Flags::LESS | Flags::EQUAL => Some(Comparison::AtMost),
                () if bits == Flags::GREATER => Some(Comparison::Later),
                () if bits == Flags::LESS => Some(Comparison::Earlier),
                () => None,
            };
            Relation { name: dependency.name, version: comparison.map(|comparison| (comparison, dependency.version)) }
        };
        let list = |dependencies: Result<Vec<rpm::Dependency>, _>| dependencies.unwrap_or_default().into_iter();
        let paths = self.metadata.get_file_paths().unwrap_or_default();
        let release = release_of(paths.iter().filter_map(|path| path.to_str()));
        let paths = paths.iter().filter_map(|path| path.to_str()).filter(|path| may_be_required(path));
        let paths = paths.map(|path| Relation { name: path.to_owned(), version: None });
        Relations {
            depends: list(self.metadata.get_requires()).map(|dependency| vec![relation(dependency)]).collect(),
            provides: list(self.metadata.get_provides()).map(relation).chain(paths).collect(),
            conflicts: list(self.metadata.get_conflicts()).map(relation).collect(),
            obsoletes: list(self.metadata.get_obsoletes()).map(relation).collect(),
            epoch: self.metadata.get_epoch().unwrap_or(0),
            release,
        }
    }

    /// How large the payload is, compressed, in bytes: what the signature header says of header and payload together.
    fn payload_size(&self) -> Option<u64> {
        let signature = &self.metadata.signature;
        let both = match signature.get_entry_data_as_u64(IndexSignatureTag::RPMSIGTAG_LONGSIZE) {
            Ok(size) => size,
            Err(_) => u64::from(signature.get_entry_data_as_u32(IndexSignatureTag::RPMSIGTAG_SIZE).ok()?),
        };
        both.checked_sub(self.header.len() as u64)
    }

    /// Compares the header with its own digests and, with keys, its signatures.
    fn check(&self, keys: Option<&Verifier>, checks: &mut Checks) -> Result<(), Error> {
        let digests = self.metadata.check_digests().map_err(Error::rpm)?;
        for digest in [&digests.header_sha256, &digests.header_sha1, &digests.header_sha3_256] {
            if let rpm::DigestStatus::Mismatch { expected, actual } = digest {
                return Err(Error::Mismatch { what: "header", expected: expected.clone(), actual: actual.clone() });
            }
        }
        let strong = digests.header_sha256.is_verified() || digests.header_sha3_256.is_verified();
        checks.record(Check::HeaderDigest, strong);
        let Some(keys) = keys else {
            checks.record(Check::Signature, false);
            return Ok(());
        };
        let signatures = self.metadata.raw_signatures().map_err(Error::rpm)?;
        if signatures.is_empty() {
            return Err(Error::Unsigned);
        }
        let mut last = None;
        for signature in &signatures {
            match keys.verify(&self.header[..], signature) {
                Ok(()) => {
                    checks.record(Check::Signature, true);
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
        }
        Err(Error::BadSignature(Box::new(last.expect("there is at least one signature"))))
    }
}

/// Whether others may require this path: createrepo_c puts the same into `primary.xml`.
fn may_be_required(path: &str) -> bool {
    path.starts_with("/etc/") || path.contains("bin/") || path == "/usr/lib/sendmail"
}

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
    let (names, targets) = (raw_names(&head.header), raw_texts(&head.header, LINK_TARGETS));
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

/// The names of all files as their bytes are: the parser has other characters in the place of what is not UTF-8, and the payload has
/// the bytes.
fn raw_names(header: &[u8]) -> Vec<Vec<u8>> {
    let (bases, directories) = (raw_texts(header, BASE_NAMES), raw_texts(header, DIRECTORIES));
    let numbers = entry_of(header, DIRECTORY_NUMBERS, &[4]).map(|(data, count)| data.chunks_exact(4).take(count));
    let numbers = numbers.into_iter().flatten().map(|number| word(number, 0));
    let named = bases.iter().zip(numbers).filter_map(|(base, number)| Some([directories.get(number)?, *base].concat()));
    let named: Vec<Vec<u8>> = named.collect();
    if named.is_empty() { raw_texts(header, OLD_NAMES).into_iter().map(<[u8]>::to_vec).collect() } else { named }
}

/// The texts of an entry of a header whose sizes and offsets were looked at.
fn raw_texts(header: &[u8], tag: usize) -> Vec<&[u8]> {
    let entry = entry_of(header, tag, &[6, 8, 9]);
    entry.map(|(data, count)| data.split(|byte| *byte == 0).take(count).collect()).unwrap_or_default()
}

/// Where the data of an entry begins, and how many there are, when it is of one of these kinds.
fn entry_of<'a>(header: &'a [u8], tag: usize, kinds: &[usize]) -> Option<(&'a [u8], usize)> {
    let (index, data) = header.get(INTRO..)?.split_at_checked(word(header, 8) * ENTRY)?;
    let entry = index.chunks_exact(ENTRY).find(|entry| word(entry, 0) == tag && kinds.contains(&word(entry, 4)))?;
    Some((data.get(word(entry, 8)..)?, word(entry, 12)))
}

fn payload_digest(metadata: &PackageMetadata) -> Option<Digest> {
    let hex = metadata.header.get_entry_data_as_string_array(IndexTag::RPMTAG_PAYLOADSHA256).ok()?;
    format!("sha256:{}", hex.first()?).parse().ok()
}

/// Reads a header structure and looks at its sizes and offsets. Returns how long it is.
fn take_header(reader: &mut impl Read, bytes: &mut Vec<u8>) -> Result<usize, Error> {
    let start = bytes.len();
    take(reader, INTRO, bytes)?;
    let intro = &bytes[start..];
    if !intro.starts_with(&[0x8e, 0xad, 0xe8, 1]) {
        return Err(Error::Malformed("a header does not begin like one"));
    }
    let (entries, size) = (word(intro, 8), word(intro, 12));
    if entries > limits::RPM_ENTRIES || size > limits::RPM_HEADER {
        return Err(Error::Malformed("a header's size is out of bounds"));
    }
    take(reader, entries * ENTRY + size, bytes)?;
    let index = &bytes[start + INTRO..start + INTRO + entries * ENTRY];
    let data = &bytes[start + INTRO + entries * ENTRY..];
    // Entries do not overlap in what rpm writes; where thousands share one long text, reading them would never end.
    let (mut texts, mut room) = (0, 2 * size + INTRO);
    for entry in index.chunks_exact(ENTRY) {
        let (kind, offset, count) = (word(entry, 4), word(entry, 8), word(entry, 12));
        let each = match kind {
            3 => 2,
            4 => 4,
            5 => 8,
            _ => 1,
        };
        let fits = count.checked_mul(each).and_then(|size| size.checked_add(offset)).is_some_and(|end| end <= size);
        if kind > 9 || !fits {
            return Err(Error::Malformed("an entry of a header points out of it"));
        }
        if matches!(kind, 6 | 8 | 9) {
            let count = if kind == 6 { 1 } else { count };
            texts += count;
            if texts > limits::RPM_TEXTS {
                return Err(Error::Malformed("a header has more than 2,000,000 texts"));
            }
            let mut ends = data[offset..].iter().enumerate().filter(|(_, byte)| **byte == 0);
            let length = match count {
                0 => 0,
                count => ends.nth(count - 1).ok_or(Error::Malformed("a text in a header has no end"))?.0,
            };
            room = room.checked_sub(length).ok_or(Error::Malformed("texts in a header share their bytes"))?;
        }
    }
    Ok(INTRO + entries * ENTRY + size)
}

/// Appends exactly `size` bytes, allocating only as they come.
fn take(reader: &mut impl Read, size: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
    let n = reader.by_ref().take(size as u64).read_to_end(bytes).map_err(Error::Payload)?;
    if n < size { Err(Error::Payload(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// `RPMTAG_OLDFILENAMES`, `_FILELINKTOS`, `_DIRINDEXES`, `_BASENAMES` and `_DIRNAMES`.
const OLD_NAMES: usize = 1027;
const LINK_TARGETS: usize = 1036;
const DIRECTORY_NUMBERS: usize = 1116;
const BASE_NAMES: usize = 1117;
const DIRECTORIES: usize = 1118;

const LEAD: usize = 96;
const INTRO: usize = 16;
const ENTRY: usize = 16;

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
