//! A tar, put together again.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;

use crate::carry::skeleton::header::{
    BLOCK, FIELDS, NAME, SIZE, SIZE_FIELD, SUM, SUM_FIELD, padding_of, size_field, sum_field,
};
use crate::carry::skeleton::{
    BODY, COLUMNS, CUT, END, FIRST_FIELD, FLAGS, FURTHER, HEADER, META, META_CUT, METAS, NUMBERS, OPS, PADDING,
    PADDINGS, PIECES, RAW, Skeleton, WHAT, ZEROS,
};
use crate::carry::wire::Reader;
use crate::carry::{Error, Lookup};

/// Reads the tar that a skeleton was made of.
pub(in crate::carry) struct Joined<L> {
    /// Each with what of it is still to be read.
    columns: [(Range<usize>, Vec<u8>); COLUMNS],
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
    /// By their places in the list of what is referred to.
    Contents(Range<usize>),
}

impl<L: Lookup> Joined<L> {
    /// Begins to join. What it refers to is looked up in `contents`.
    pub(in crate::carry) fn new(skeleton: Skeleton, contents: L) -> Self {
        let Skeleton { columns, refs } = skeleton;
        let columns = columns.map(|column| (0..column.len(), column));
        Joined {
            columns,
            refs,
            next_ref: 0,
            before: [0; BLOCK],
            contents,
            pieces: VecDeque::new(),
            current: None,
            is_at_end: false,
        }
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
                self.pieces.push_back(Piece::Contents(range));
                self.padding(size, kind != CUT)?;
            }
            RAW => {
                let number = self.column(NUMBERS, |column| column.number())?;
                let (range, _) = self.contents(number)?;
                self.pieces.push_back(Piece::Contents(range));
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
                Some(Piece::Contents(mut range)) => {
                    let Some(place) = range.next() else { continue };
                    self.pieces.push_front(Piece::Contents(range));
                    self.current = Some(self.contents.open(self.refs[place]).map_err(io::Error::other)?);
                }
                None if self.is_at_end => return Ok(0),
                None => self.step().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
            }
        }
    }
}
