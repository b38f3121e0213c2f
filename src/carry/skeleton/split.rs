//! A tar, taken apart.

use std::io::Read;

use crate::carry::Error;
use crate::carry::skeleton::header::{
    BLOCK, FIELDS, NAME, SIZE, SPARSE_BLOCK_GOES_ON, SPARSE_GOES_ON, SUM, TYPE, has_right_sum, number, padding_of,
    path_of, size_field, sum_field, trim,
};
use crate::carry::skeleton::{
    BODY, COLUMNS, CUT, END, FIRST_FIELD, FLAGS, FURTHER, HEADER, META, META_CUT, METAS, NUMBERS, OPS, PADDING,
    PADDINGS, PIECES, RAW, VERSION, WHAT, ZEROS,
};
use crate::carry::wire::{Reader, put, put_bytes, put_step};
use crate::fs::{Slice, read_full};
use crate::limits;

/// Takes the contents of a tar while it is split.
pub(in crate::carry) trait Sink {
    /// Takes the content of a file: everything that `body` gives. `path` is what it is called in the archive; empty for what
    /// is no file's. Adds the numbers of its pieces to `refs`.
    fn content(&mut self, path: &[u8], body: &mut dyn Read, refs: &mut Vec<u32>) -> Result<u64, Error>;
}

/// The columns, while or after a tar is split.
#[derive(Default)]
pub(in crate::carry) struct Skeleton {
    pub(super) columns: [Vec<u8>; COLUMNS],
    /// Which contents, by the numbers of the sink.
    pub(super) refs: Vec<u32>,
}

impl Skeleton {
    /// Splits what `tar` gives until its end.
    pub(in crate::carry) fn split(tar: &mut dyn Read, sink: &mut impl Sink) -> Result<Self, Error> {
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
            // The far side holds skeletons in memory, several at one time.
            if read < BLOCK || !has_right_sum(&block) || skeleton.size() > MOST {
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

    /// Bytes that it takes in memory.
    fn size(&self) -> usize {
        self.columns.iter().map(Vec::len).sum::<usize>() + self.refs.len() * size_of::<u32>()
    }

    /// Which contents, by the numbers of the sink, as often as they are met.
    pub(in crate::carry) fn refs(&self) -> &[u32] {
        &self.refs
    }

    /// The skeleton of which these are the bytes.
    pub(in crate::carry) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, WHAT);
        if reader.byte()? != VERSION {
            return Err(Error::Odd { what: WHAT, why: "of an unknown version" });
        }
        let mut skeleton = Skeleton::default();
        for column in &mut skeleton.columns {
            *column = reader.bytes()?.to_vec();
        }
        let mut before = 0;
        while !reader.is_empty() {
            if skeleton.refs.len() == REFS {
                return Err(Error::TooMany("contents in one layer"));
            }
            before = reader.step(before)?;
            skeleton.refs.push(before);
        }
        Ok(skeleton)
    }

    /// The skeleton whose bytes wait in a spool.
    pub(in crate::carry) fn from_slice(slice: &Slice) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        slice.reader().read_to_end(&mut bytes)?;
        Skeleton::from_bytes(&bytes)
    }

    /// The bytes of the skeleton; `renumber` says which number a content has got.
    pub(in crate::carry) fn to_bytes(&self, renumber: impl Fn(u32) -> u32) -> Vec<u8> {
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

/// Bytes of a skeleton after which the rest of its archive is content: some million files, as a kernel's headers are named.
pub(super) const MOST: usize = 32 << 20;

/// Contents of a skeleton that is read, at most: twice as many as the side that packs lets one have, and a file more.
const REFS: usize = MOST / 2;

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
