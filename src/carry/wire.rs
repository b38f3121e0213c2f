//! Numbers and bytes as they lie in the tables of a carry.

use crate::carry::Error;
use crate::varint::{self, Bad};
pub(super) use crate::varint::{put, put_bytes};

/// Adds the difference to what came before, the sign in the lowest bit.
pub(super) fn put_step(from: u32, number: u32, to: &mut Vec<u8>) {
    let step = i64::from(number) - i64::from(from);
    put(((step << 1) ^ (step >> 63)).cast_unsigned(), to);
}

/// Reads what was put.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// What it is a part of, for errors.
    of: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], of: &'static str) -> Self {
        Reader { rest: bytes, of }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that were not read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Error::Cut(self.of))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        varint::take(&mut self.rest).map_err(|bad| match bad {
            Bad::Cut => Error::Cut(self.of),
            Bad::TooLarge => Error::Odd { what: self.of, why: "a number of more than 64 bits" },
        })
    }

    /// A number of things that follow, each of which takes at least `least` bytes: no more than there can be.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, Error> {
        let number = self.number()?;
        match usize::try_from(number) {
            Ok(number) if number.saturating_mul(least.max(1)) <= self.rest.len() => Ok(number),
            _ => Err(Error::Cut(self.of)),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.count(1)?;
        self.take(length)
    }

    pub(super) fn step(&mut self, from: u32) -> Result<u32, Error> {
        let coded = self.number()?;
        let step = (coded >> 1).cast_signed() ^ -(coded & 1).cast_signed();
        i64::from(from)
            .checked_add(step)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or(Error::Odd { what: self.of, why: "a number that is none of its contents" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read_again_and_what_is_cut_or_too_large_is_an_error() {
        let mut bytes = Vec::new();
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            put(number, &mut bytes);
        }
        put_bytes(b"text", &mut bytes);
        put_step(5, 3, &mut bytes);
        put_step(0, u32::MAX, &mut bytes);
        let mut reader = Reader::new(&bytes, "test");
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(reader.number().unwrap(), number);
        }
        assert_eq!(reader.bytes().unwrap(), b"text");
        assert_eq!((reader.step(5).unwrap(), reader.step(0).unwrap()), (3, u32::MAX));
        assert!(reader.is_empty());
        for bad in [&b""[..], b"\x80", &[0xff; 10], b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"] {
            assert!(Reader::new(bad, "test").number().is_err(), "{bad:?}");
        }
        assert!(Reader::new(b"\x05abcd", "test").bytes().is_err());
        assert!(Reader::new(b"\x01", "test").step(0).is_err());
    }
}
