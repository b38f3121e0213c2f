//! What is left of a tar when the contents of its files are taken out, and the tar again.
//!
//! A tar is a list of blocks of 512 bytes (POSIX.1-2024, pax, "ustar Interchange Format"). Whatever it is, splitting and
//! joining give its very bytes: what is not understood is raw content, to the end.
//!
//! ```text
//! a skeleton   VERSION, then each column: its length and its bytes
//!   ops        what comes next: a byte each
//!   flags      of each header: two bytes, a bit for each field that is as expected (as before, or computed)
//!   numbers    counts of zero blocks, of contents, lengths of what is cut
//!   fields     of each header, those of the 16 fields that are not as expected, a column each
//!   meta       the bodies of PAX headers and long names; the further blocks of GNU's sparse headers
//!   padding    where it is not zeros
//!   refs       which contents, each as the step from the one before
//! ```
//!
//! Headers of one program differ in little, and a column of one field compresses to hardly anything: a checksum that is
//! right, a size that is that of the content, an owner like the one before take a bit.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;

use crate::carry::wire::{Reader, put, put_bytes, put_step};
use crate::carry::{Error, Lookup};
use crate::limits;

/// Takes the contents of a tar while it is split.
pub(super) trait Sink {
    /// Takes the content of a file: everything that `body` gives. `path` is what it is called in the archive; empty for what
    /// is no file's. Adds the numbers of its pieces to `refs`.
    fn content(&mut self, path: &[u8], body: &mut dyn Read, refs: &mut Vec<u32>) -> Result<u64, Error>;
}

/// The columns, while or after a tar is split.
#[derive(Default)]
pub(super) struct Skeleton {
    columns: [Vec<u8>; COLUMNS],
    /// Which contents, by the numbers of the sink.
    pub(super) refs: Vec<u32>,
}

impl Skeleton {
    /// Splits what `tar` gives until its end.
    pub(super) fn split(tar: &mut dyn Read, sink: &mut impl Sink) -> Result<Self, Error> {
        let mut skeleton = Skeleton::default();
        let mut before = [0; BLOCK];
        let mut next = Next::default();
        let mut zeros = 0_u64;
        loop {
            let mut block = [0; BLOCK];
            let read = read_full(tar, &mut block)?;
            if read == BLOCK && block == [0; BLOCK] {
                zeros += 1;
                continue;
            }
            if zeros > 0 {
                skeleton.columns[OPS].push(ZEROS);
                put(std::mem::take(&mut zeros), &mut skeleton.columns[NUMBERS]);
            }
            if read == 0 {
                break;
            }
            if read < BLOCK || !has_right_sum(&block) {
                skeleton.raw(&block[..read], tar, sink)?;
                break;
            }
            let size = next.size.take().or_else(|| number(&block[SIZE]));
            let Some(size) = size else {
                skeleton.raw(&block, tar, sink)?;
                break;
            };
            if !skeleton.entry(&block, &before, size, &mut next, tar, sink)? {
                break;
            }
            before = block;
        }
        skeleton.columns[OPS].push(END);
        Ok(skeleton)
    }

    /// The bytes of the skeleton; `renumber` says which number a content has got.
    pub(super) fn to_bytes(&self, renumber: impl Fn(u32) -> u32) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for column in &self.columns {
            put_bytes(column, &mut bytes);
        }
        let mut before = 0;
        for content in &self.refs {
            let content = renumber(*content);
            put_step(before, content, &mut bytes);
            before = content;
        }
        bytes
    }

    /// Writes an entry down, its body included. Returns whether the archive goes on after it.
    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        before: &[u8; BLOCK],
        size: u64,
        next: &mut Next,
        tar: &mut dyn Read,
        sink: &mut impl Sink,
    ) -> Result<bool, Error> {
        let kind = block[TYPE.start];
        // Links and directories have no bodies, whatever size they say; GNU tar writes the size of what is linked to.
        if matches!(kind, b'1'..=b'6') {
            self.columns[OPS].push(HEADER);
            self.header(block, before, 0);
            *next = Next::default();
            return Ok(true);
        }
        if matches!(kind, b'x' | b'g' | b'L' | b'K') {
            if size > limits::HEADER {
                self.raw(block, tar, sink)?;
                return Ok(false);
            }
            let mut body = Vec::new();
            tar.take(size).read_to_end(&mut body)?;
            let whole = body.len() as u64 == size;
            self.columns[OPS].push(if whole { META } else { META_CUT });
            self.header(block, before, body.len() as u64);
            put_bytes(&body, &mut self.columns[METAS]);
            match kind {
                b'x' => next.read_pax(&body),
                b'L' => next.path = Some(trim(&body).to_vec()),
                _ => {}
            }
            return Ok(whole && self.padding(size, tar)?);
        }
        let mut further = Vec::new();
        if kind == b'S' && block[SPARSE_GOES_ON] == 1 {
            loop {
                let mut one = [0; BLOCK];
                let read = read_full(tar, &mut one)?;
                further.extend_from_slice(&one[..read]);
                if read < BLOCK {
                    let mut rest = block.to_vec();
                    rest.extend_from_slice(&further);
                    self.raw(&rest, tar, sink)?;
                    return Ok(false);
                }
                if one[SPARSE_BLOCK_GOES_ON] == 0 || further.len() as u64 > limits::HEADER {
                    break;
                }
            }
        }
        let path = next.path.take().unwrap_or_else(|| path_of(block));
        *next = Next::default();
        let first = self.refs.len();
        let taken = match size {
            0 => 0,
            _ => sink.content(&path, &mut tar.take(size), &mut self.refs)?,
        };
        let pieces = self.refs.len() - first;
        let op = match (pieces, taken == size) {
            (_, false) => CUT,
            (0, true) => HEADER,
            (1, true) => BODY,
            (_, true) => PIECES,
        };
        self.columns[OPS].push(if further.is_empty() { op } else { op | FURTHER });
        if matches!(op, CUT | PIECES) {
            put(pieces as u64, &mut self.columns[NUMBERS]);
        }
        if !further.is_empty() {
            put_bytes(&further, &mut self.columns[METAS]);
        }
        self.header(block, before, taken);
        Ok(taken == size && (pieces == 0 || self.padding(size, tar)?))
    }

    /// Writes down which fields of a header are not as expected.
    fn header(&mut self, block: &[u8; BLOCK], before: &[u8; BLOCK], body: u64) {
        let mut expected = *before;
        expected[SIZE].copy_from_slice(&size_field(before, body));
        expected[SUM].copy_from_slice(&sum_field(block));
        let mut flags = 0_u16;
        for (column, field) in FIELDS.iter().enumerate() {
            let (value, expected) = (&block[field.clone()], &expected[field.clone()]);
            if value == expected {
                flags |= 1 << column;
                continue;
            }
            let (to, mut own) = (&mut self.columns[FIRST_FIELD + column], trim(value));
            if column == NAME {
                let shared = own.iter().zip(expected).take_while(|(one, other)| one == other).count();
                put(shared as u64, to);
                own = &own[shared..];
            }
            put_bytes(own, to);
        }
        self.columns[FLAGS].extend_from_slice(&flags.to_le_bytes());
    }

    /// Reads the padding behind a body. Returns whether the archive goes on after it.
    fn padding(&mut self, size: u64, tar: &mut dyn Read) -> Result<bool, Error> {
        let length = padding_of(size);
        let mut bytes = [0; BLOCK];
        let read = read_full(tar, &mut bytes[..length])?;
        if bytes != [0; BLOCK] || read < length {
            self.columns[OPS].push(PADDING);
            put_bytes(&bytes[..read], &mut self.columns[PADDINGS]);
        }
        Ok(read == length)
    }

    /// Takes the rest of the archive, beginning with `begun`, for content.
    fn raw(&mut self, begun: &[u8], tar: &mut dyn Read, sink: &mut impl Sink) -> Result<(), Error> {
        let first = self.refs.len();
        sink.content(b"", &mut begun.chain(tar), &mut self.refs)?;
        self.columns[OPS].push(RAW);
        put((self.refs.len() - first) as u64, &mut self.columns[NUMBERS]);
        Ok(())
    }
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Next {
    size: Option<u64>,
    path: Option<Vec<u8>>,
}

impl Next {
    /// Reads records `LENGTH KEY=VALUE\n`. What is odd says nothing; the bytes come back all the same.
    fn read_pax(&mut self, body: &[u8]) {
        let mut rest = body;
        while let Some(blank) = rest.iter().position(|byte| *byte == b' ') {
            let length = std::str::from_utf8(&rest[..blank]).ok().and_then(|text| text.parse::<usize>().ok());
            let Some(record) = length.and_then(|length| rest.get(blank + 1..length)) else { return };
            rest = &rest[blank + 1 + record.len()..];
            let record = record.strip_suffix(b"\n").unwrap_or(record);
            if let Some(size) = record.strip_prefix(b"size=") {
                self.size = std::str::from_utf8(size).ok().and_then(|text| text.parse().ok());
            } else if let Some(path) = record.strip_prefix(b"path=") {
                self.path = Some(path.to_vec());
            }
        }
    }
}

/// Reads the tar that a skeleton was made of.
pub(super) struct Joined<L> {
    /// Each with what of it is still to be read.
    columns: Vec<(Range<usize>, Vec<u8>)>,
    refs: Vec<u32>,
    next_ref: usize,
    before: [u8; BLOCK],
    contents: L,
    /// What comes next.
    pieces: VecDeque<Piece>,
    current: Option<Box<dyn Read + Send>>,
    is_at_end: bool,
}

enum Piece {
    Bytes(Vec<u8>),
    Zeros(u64),
    Content(u32),
}

impl<L: Lookup> Joined<L> {
    /// Begins to join. What it refers to is looked up in `contents`.
    pub(super) fn new(skeleton: &[u8], contents: L) -> Result<Self, Error> {
        let mut reader = Reader::new(skeleton, WHAT);
        if reader.byte()? != VERSION {
            return Err(Error::Odd { what: WHAT, why: "of an unknown version" });
        }
        let mut columns = Vec::new();
        for _ in 0..COLUMNS {
            let column = reader.bytes()?.to_vec();
            columns.push((0..column.len(), column));
        }
        let (mut refs, mut before) = (Vec::new(), 0);
        while !reader.is_empty() {
            before = reader.step(before)?;
            refs.push(before);
        }
        Ok(Joined {
            columns,
            refs,
            next_ref: 0,
            before: [0; BLOCK],
            contents,
            pieces: VecDeque::new(),
            current: None,
            is_at_end: false,
        })
    }

    fn column<T>(&mut self, column: usize, read: impl FnOnce(&mut Reader<'_>) -> Result<T, Error>) -> Result<T, Error> {
        let (range, bytes) = &mut self.columns[column];
        let mut reader = Reader::new(&bytes[range.clone()], WHAT);
        let value = read(&mut reader)?;
        range.start = range.end - reader.left();
        Ok(value)
    }

    /// Takes the next contents, and says how long they are together.
    fn contents(&mut self, number: u64) -> Result<(Range<usize>, u64), Error> {
        let end = usize::try_from(number).ok().and_then(|number| self.next_ref.checked_add(number));
        let range = self.next_ref..end.unwrap_or(usize::MAX);
        let Some(some) = self.refs.get(range.clone()) else {
            return Err(Error::Odd { what: WHAT, why: "more contents than it names" });
        };
        let mut size = 0_u64;
        for content in some {
            size = size.saturating_add(self.contents.size(*content)?);
        }
        self.next_ref = range.end;
        Ok((range, size))
    }

    /// Goes on with the next thing in the archive.
    fn step(&mut self) -> Result<(), Error> {
        let op = self.column(OPS, |column| column.byte())?;
        let further = match op & FURTHER {
            0 => Vec::new(),
            _ => self.column(METAS, |column| Ok(column.bytes()?.to_vec()))?,
        };
        match op & !FURTHER {
            END => self.is_at_end = true,
            ZEROS => {
                let blocks = self.column(NUMBERS, |column| column.number())?;
                self.pieces.push_back(Piece::Zeros(blocks.saturating_mul(BLOCK as u64)));
            }
            HEADER => self.header(0, &further)?,
            META | META_CUT => {
                let body = self.column(METAS, |column| Ok(column.bytes()?.to_vec()))?;
                let size = body.len() as u64;
                self.header(size, &further)?;
                self.pieces.push_back(Piece::Bytes(body));
                self.padding(size, op == META)?;
            }
            kind @ (BODY | PIECES | CUT) => {
                let number = if kind == BODY { 1 } else { self.column(NUMBERS, |column| column.number())? };
                let (range, size) = self.contents(number)?;
                self.header(size, &further)?;
                self.pieces.extend(self.refs[range].iter().copied().map(Piece::Content));
                self.padding(size, kind != CUT)?;
            }
            RAW => {
                let number = self.column(NUMBERS, |column| column.number())?;
                let (range, _) = self.contents(number)?;
                self.pieces.extend(self.refs[range].iter().copied().map(Piece::Content));
            }
            _ => return Err(Error::Odd { what: WHAT, why: "something unknown in it" }),
        }
        Ok(())
    }

    /// Puts a header together.
    fn header(&mut self, body: u64, further: &[u8]) -> Result<(), Error> {
        let flags = self.column(FLAGS, |column| Ok(u16::from_le_bytes([column.byte()?, column.byte()?])))?;
        let mut block = self.before;
        for (column, field) in FIELDS.iter().enumerate() {
            if flags & (1 << column) != 0 {
                continue;
            }
            let (range, bytes) = &mut self.columns[FIRST_FIELD + column];
            let mut reader = Reader::new(&bytes[range.clone()], WHAT);
            let shared = if column == NAME { usize::try_from(reader.number()?).unwrap_or(usize::MAX) } else { 0 };
            let rest = reader.bytes()?;
            range.start = range.end - reader.left();
            let value = &mut block[field.clone()];
            let Some(own) = value.get_mut(shared..).filter(|own| own.len() >= rest.len()) else {
                return Err(Error::Odd { what: WHAT, why: "a field that is too long" });
            };
            own.fill(0);
            own[..rest.len()].copy_from_slice(rest);
        }
        if flags & (1 << SIZE_FIELD) != 0 {
            block[SIZE].copy_from_slice(&size_field(&self.before, body));
        }
        if flags & (1 << SUM_FIELD) != 0 {
            let sum = sum_field(&block);
            block[SUM].copy_from_slice(&sum);
        }
        self.before = block;
        self.pieces.push_back(Piece::Bytes([&block[..], further].concat()));
        Ok(())
    }

    /// Adds the padding behind a body of `size`.
    fn padding(&mut self, size: u64, is_whole: bool) -> Result<(), Error> {
        let (range, ops) = &self.columns[OPS];
        if is_whole && range.start < range.end && ops[range.start] == PADDING {
            self.column(OPS, |column| column.byte())?;
            let bytes = self.column(PADDINGS, |column| Ok(column.bytes()?.to_vec()))?;
            self.pieces.push_back(Piece::Bytes(bytes));
        } else if is_whole {
            self.pieces.push_back(Piece::Zeros(padding_of(size) as u64));
        }
        Ok(())
    }
}

impl<L: Lookup> Read for Joined<L> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(current) = &mut self.current {
                let read = current.read(buf)?;
                if read > 0 || buf.is_empty() {
                    return Ok(read);
                }
                self.current = None;
            }
            match self.pieces.pop_front() {
                Some(Piece::Bytes(bytes)) => self.current = Some(Box::new(io::Cursor::new(bytes))),
                Some(Piece::Zeros(length)) => self.current = Some(Box::new(io::repeat(0).take(length))),
                Some(Piece::Content(content)) => {
                    self.current = Some(self.contents.open(content).map_err(io::Error::other)?);
                }
                None if self.is_at_end => return Ok(0),
                None => self.step().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
            }
        }
    }
}

/// The size field that goes with a body: eleven octal digits, ended as in the header before.
fn size_field(before: &[u8; BLOCK], body: u64) -> [u8; 12] {
    let mut field = [before[SIZE.end - 1]; 12];
    let mut rest = body;
    for digit in field[..11].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest & 7).expect("three bits");
        rest >>= 3;
    }
    field
}

/// The checksum field that a header should have: six octal digits, NUL and a blank.
fn sum_field(block: &[u8; BLOCK]) -> [u8; 8] {
    let mut field = *b"000000\0 ";
    let mut rest = sum(block);
    for digit in field[..6].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest & 7).expect("three bits");
        rest >>= 3;
    }
    field
}

/// The sum of a header's bytes, its checksum taken for blanks.
fn sum(block: &[u8; BLOCK]) -> u32 {
    let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let field: u32 = block[SUM].iter().map(|byte| u32::from(*byte)).sum();
    all - field + 8 * u32::from(b' ')
}

/// Whether a block is a header. Old programs summed signed bytes.
fn has_right_sum(block: &[u8; BLOCK]) -> bool {
    let Some(said) = number(&block[SUM]) else { return false };
    let high = block.iter().enumerate().filter(|(at, byte)| !SUM.contains(at) && **byte >= 0x80).count();
    let signed = i64::from(sum(block)) - 256 * high as i64;
    said == u64::from(sum(block)) || u64::try_from(signed).is_ok_and(|signed| said == signed)
}

/// A number as fields have it: octal digits between blanks and NULs, or base-256 (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let is_small = high.split_first().is_some_and(|(first, rest)| *first == 0x80 && rest.iter().all(|it| *it == 0));
        let low = u64::from_be_bytes(low.try_into().expect("eight bytes"));
        return (is_small && low <= i64::MAX.cast_unsigned()).then_some(low);
    }
    let end = |byte: &u8| matches!(byte, 0 | b' ');
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = field[start..].split(end).next().unwrap_or_default();
    if digits.is_empty() {
        return field.iter().all(end).then_some(0);
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// What a header calls its entry.
fn path_of(block: &[u8; BLOCK]) -> Vec<u8> {
    let text = |field: Range<usize>| block[field].split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    // GNU's old headers have times where ustar has the prefix.
    let prefix = if block[MAGIC].starts_with(b"ustar\0") { text(PREFIX) } else { Vec::new() };
    if prefix.is_empty() {
        text(FIELDS[NAME].clone())
    } else {
        [&prefix, &b"/"[..], &text(FIELDS[NAME].clone())].concat()
    }
}

fn padding_of(size: u64) -> usize {
    usize::try_from(size.wrapping_neg() % BLOCK as u64).expect("below 512")
}

/// A field without the NULs at its end.
fn trim(field: &[u8]) -> &[u8] {
    let end = field.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &field[..end]
}

/// Reads until the buffer is full or there is no more.
fn read_full(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

const WHAT: &str = "a skeleton";
const VERSION: u8 = 1;
const BLOCK: usize = 512;

/// The fields of a header, which together are all of it.
const FIELDS: [Range<usize>; 16] = [
    0..100,
    100..108,
    108..116,
    116..124,
    SIZE,
    136..148,
    SUM,
    TYPE,
    157..257,
    MAGIC,
    265..297,
    297..329,
    329..337,
    337..345,
    PREFIX,
    500..512,
];
const NAME: usize = 0;
const SIZE_FIELD: usize = 4;
const SUM_FIELD: usize = 6;
const SIZE: Range<usize> = 124..136;
const SUM: Range<usize> = 148..156;
const TYPE: Range<usize> = 156..157;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
/// Whether further blocks with GNU's map of a sparse file follow the header, and one of those.
const SPARSE_GOES_ON: usize = 482;
const SPARSE_BLOCK_GOES_ON: usize = 504;

const OPS: usize = 0;
const FLAGS: usize = 1;
const NUMBERS: usize = 2;
const METAS: usize = 3;
const PADDINGS: usize = 4;
const FIRST_FIELD: usize = 5;
const COLUMNS: usize = FIRST_FIELD + FIELDS.len();

/// The archive is at its end.
const END: u8 = 0;
/// A number of blocks of zeros.
const ZEROS: u8 = 1;
/// A header without a body.
const HEADER: u8 = 2;
/// A header with a body of one content.
const BODY: u8 = 3;
/// A header with a body of a number of contents.
const PIECES: u8 = 4;
/// The same, after which the archive ends early.
const CUT: u8 = 5;
/// A header whose body lies in the column `meta`.
const META: u8 = 6;
/// The same, after which the archive ends early.
const META_CUT: u8 = 7;
/// The padding of the body before is not zeros, or too short.
const PADDING: u8 = 8;
/// A number of contents that are all the rest.
const RAW: u8 = 9;
/// Added to an op: further blocks of a sparse header lie in the column `meta`.
const FURTHER: u8 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps contents in memory.
    #[derive(Default)]
    struct Kept(Vec<Vec<u8>>, Vec<Vec<u8>>);

    impl Sink for Kept {
        fn content(&mut self, path: &[u8], body: &mut dyn Read, refs: &mut Vec<u32>) -> Result<u64, Error> {
            let mut bytes = Vec::new();
            body.read_to_end(&mut bytes)?;
            // In pieces, as what is large.
            for piece in bytes.chunks(1000) {
                refs.push(u32::try_from(self.0.len()).unwrap());
                self.0.push(piece.to_vec());
            }
            self.1.push(path.to_vec());
            Ok(bytes.len() as u64)
        }
    }

    impl Lookup for &Kept {
        fn size(&self, content: u32) -> Result<u64, Error> {
            Ok(self.0[content as usize].len() as u64)
        }

        fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error> {
            Ok(Box::new(io::Cursor::new(self.0[content as usize].clone())))
        }
    }

    fn there_and_back(tar: &[u8]) -> (Kept, usize) {
        let mut kept = Kept::default();
        let skeleton = Skeleton::split(&mut &*tar, &mut kept).unwrap().to_bytes(|content| content);
        let mut back = Vec::new();
        Joined::new(&skeleton, &kept).unwrap().read_to_end(&mut back).unwrap();
        assert!(back == tar, "{} and {} bytes", back.len(), tar.len());
        (kept, skeleton.len())
    }

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: tar::EntryType, body: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_size(body.len() as u64);
            header.set_mtime(1_700_000_000);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, body).unwrap();
        };
        for number in 0..300 {
            let body = vec![b'x'; number * 7];
            add(&format!("usr/src/linux-headers-6.1.0-{number}/include/file.h"), tar::EntryType::Regular, &body);
        }
        add(&"long/".repeat(60), tar::EntryType::Directory, b"");
        add(&format!("{}file", "longer/".repeat(40)), tar::EntryType::Regular, b"body");
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_tar_comes_back_and_its_contents_are_its_files() {
        let tar = archive();
        let (kept, skeleton) = there_and_back(&tar);
        assert_eq!(kept.1[2], b"usr/src/linux-headers-6.1.0-3/include/file.h");
        assert_eq!(kept.1.last().unwrap().len(), "longer/".len() * 40 + 4);
        assert_eq!(kept.1.len(), 300);
        // Before it is compressed; the tar has three times as many bytes in headers and padding as it has in contents.
        assert!(skeleton < 300 * 40, "{skeleton}");
    }

    #[test]
    fn what_is_cut_anywhere_or_has_a_byte_changed_anywhere_comes_back() {
        let tar = archive();
        let tail = &tar[tar.len() - 8 * BLOCK..];
        for end in (0..tail.len()).step_by(37) {
            there_and_back(&tail[..end]);
        }
        for at in (0..4 * BLOCK).chain(tar.len() - 6 * BLOCK..tar.len()) {
            let mut changed = tar[..].to_vec();
            changed[at] ^= 1 << (at % 8);
            let start = if at < 4 * BLOCK { 0 } else { tar.len() - 8 * BLOCK };
            let end = if at < 4 * BLOCK { 8 * BLOCK } else { tar.len() };
            there_and_back(&changed[start..end]);
        }
    }

    #[test]
    fn what_is_no_tar_and_several_tars_come_back() {
        let tar = archive();
        for bytes in [
            Vec::new(),
            vec![0; 100],
            vec![0; 3 * BLOCK],
            vec![7; 5000],
            [&tar[..], &tar[..], b"trailing"].concat(),
            [&[0; 1024][..], &tar[..]].concat(),
        ] {
            there_and_back(&bytes);
        }
    }

    #[test]
    #[ignore = "needs HAVERSACK_REAL_DATA; thirteen odd archives"]
    fn odd_archives_come_back() {
        let data = std::env::var("HAVERSACK_REAL_DATA").unwrap();
        let inputs = std::fs::File::open(format!("{data}/carry/inputs.tar.xz")).unwrap();
        let (_, inputs) = crate::compression::decoder(io::BufReader::new(inputs)).unwrap();
        let mut seen = 0;
        for entry in tar::Archive::new(inputs).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            there_and_back(&bytes);
            seen += usize::from(entry.path().unwrap().starts_with("odd") && !bytes.is_empty());
        }
        assert_eq!(seen, 13);
    }

    #[test]
    fn a_skeleton_that_is_wrong_is_an_error_and_never_a_panic_or_endless() {
        let tar = archive();
        let mut kept = Kept::default();
        let skeleton = Skeleton::split(&mut &tar[..40 * BLOCK], &mut kept).unwrap().to_bytes(|content| content);
        let mut errors = 0;
        for at in 0..skeleton.len() {
            for bit in [0, 3, 7] {
                let mut changed = skeleton.clone();
                changed[at] ^= 1 << bit;
                let kept = Bounded(&kept);
                let read = Joined::new(&changed, kept)
                    .map_err(io::Error::other)
                    .and_then(|joined| io::copy(&mut joined.take(1 << 20), &mut io::sink()));
                errors += usize::from(read.is_err());
            }
            assert!(Joined::new(&skeleton[..at], Bounded(&kept)).is_err() || at > skeleton.len() - kept.0.len() - 1);
        }
        assert!(errors > 100, "{errors}");
    }

    struct Bounded<'a>(&'a Kept);

    impl Lookup for Bounded<'_> {
        fn size(&self, content: u32) -> Result<u64, Error> {
            if content as usize >= self.0.0.len() {
                return Err(Error::Odd { what: WHAT, why: "a content that is not there" });
            }
            self.0.size(content)
        }

        fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error> {
            self.size(content)?;
            self.0.open(content)
        }
    }
}
