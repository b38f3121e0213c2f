//! A header as it lies in an rpm: entries of a tag, a kind, an offset and a count, and the data that they point into.
//!
//! Sizes and offsets are looked at before anything is believed. What is not UTF-8 is read here: the parser of the `rpm` crate
//! replaces it.

use std::io::{self, Read};

use crate::kernel::unpack::Error;
use crate::limits;

/// Reads a header structure and looks at its sizes and offsets. Returns how long it is.
pub(super) fn take_header(reader: &mut impl Read, bytes: &mut Vec<u8>) -> Result<usize, Error> {
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
pub(super) fn take(reader: &mut impl Read, size: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
    let n = reader.by_ref().take(size as u64).read_to_end(bytes).map_err(Error::Payload)?;
    if n < size { Err(Error::Payload(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// The names of all files as their bytes are: the parser has other characters in the place of what is not UTF-8, and the payload has
/// the bytes.
pub(super) fn names(header: &[u8]) -> Vec<Vec<u8>> {
    let (bases, directories) = (texts(header, BASE_NAMES), texts(header, DIRECTORIES));
    let numbers = entry_of(header, DIRECTORY_NUMBERS, &[4]).map(|(data, count)| data.chunks_exact(4).take(count));
    let numbers = numbers.into_iter().flatten().map(|number| word(number, 0));
    let named = bases.iter().zip(numbers).filter_map(|(base, number)| Some([directories.get(number)?, *base].concat()));
    let named: Vec<Vec<u8>> = named.collect();
    if named.is_empty() { texts(header, OLD_NAMES).into_iter().map(<[u8]>::to_vec).collect() } else { named }
}

/// Where links point, as the bytes are; an empty text for each file that is no link.
pub(super) fn link_targets(header: &[u8]) -> Vec<&[u8]> {
    texts(header, LINK_TARGETS)
}

/// The texts of an entry of a header whose sizes and offsets were looked at.
fn texts(header: &[u8], tag: usize) -> Vec<&[u8]> {
    let entry = entry_of(header, tag, &[6, 8, 9]);
    entry.map(|(data, count)| data.split(|byte| *byte == 0).take(count).collect()).unwrap_or_default()
}

/// Where the data of an entry begins, and how many there are, when it is of one of these kinds.
fn entry_of<'a>(header: &'a [u8], tag: usize, kinds: &[usize]) -> Option<(&'a [u8], usize)> {
    let (index, data) = header.get(INTRO..)?.split_at_checked(word(header, 8) * ENTRY)?;
    let entry = index.chunks_exact(ENTRY).find(|entry| word(entry, 0) == tag && kinds.contains(&word(entry, 4)))?;
    Some((data.get(word(entry, 8)..)?, word(entry, 12)))
}

/// `RPMTAG_OLDFILENAMES`, `_FILELINKTOS`, `_DIRINDEXES`, `_BASENAMES` and `_DIRNAMES`.
const OLD_NAMES: usize = 1027;
const LINK_TARGETS: usize = 1036;
const DIRECTORY_NUMBERS: usize = 1116;
const BASE_NAMES: usize = 1117;
const DIRECTORIES: usize = 1118;

const INTRO: usize = 16;
const ENTRY: usize = 16;
