//! How a gzip file is made again: what cannot be told from its plain bytes.
//!
//! ```text
//! recipe  = 01 varint(members) member* varint(length) tail
//! member  = flags [name] [header] varint(plain bytes) [trailer]
//! name    = varint(length) class           unless flags & 1: as the member before
//! header  = varint(length) bytes           unless flags & 2: as the member before
//! trailer = 8 bytes                        if flags & 4: not CRC-32 and length
//! ```
//!
//! The first byte is the version. Varints are LEB128, of at most 64 bits.

use std::io::{self, Read, Write};

use crate::compression::encode::{Class, UnknownClass};
use crate::varint::{self, Bad, put, put_bytes};

/// How one gzip file is made again from its plain bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GzipRecipe {
    /// In the order of the file.
    pub members: Vec<Member>,
    /// What follows the last member, verbatim.
    pub tail: Vec<u8>,
}

/// One member of a gzip file (RFC 1952, 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// All before the compressed stream, verbatim.
    pub header: Vec<u8>,
    /// What makes the compressed stream.
    pub class: Class,
    /// How many plain bytes are in it.
    pub plain: u64,
    /// What follows the stream, if that is not the CRC-32 and the length of the plain bytes.
    pub trailer: Option<[u8; 8]>,
}

/// Why bytes are no recipe.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the recipe is of version {0}, which a later release may know")]
    Version(u8),
    #[error("the recipe ends too early")]
    Cut,
    #[error("bytes follow the recipe")]
    Longer,
    #[error("the recipe holds a number that is too large: {0}")]
    TooLarge(&'static str),
    #[error("the recipe has flags that are not defined: {0:#x}")]
    Flags(u8),
    #[error(transparent)]
    UnknownClass(#[from] UnknownClass),
}

/// Members of a file, at most: estargz has one a file.
pub(super) const MEMBERS: usize = 1 << 18;
/// Bytes of a header, at most: the extra field alone may have 64 KiB.
pub(super) const HEADER: usize = 128 << 10;
/// Bytes after the last member, at most.
pub(super) const TAIL: usize = 64 << 10;
/// All that is held verbatim, at most.
pub(super) const VERBATIM: usize = 16 << 20;

const VERSION: u8 = 1;
const SAME_CLASS: u8 = 1;
const SAME_HEADER: u8 = 2;
const OWN_TRAILER: u8 = 4;

impl GzipRecipe {
    /// Plain bytes of all members.
    pub fn plain_size(&self) -> u64 {
        self.members.iter().fold(0, |sum, member| sum.saturating_add(member.plain))
    }

    /// Reads the plain bytes of all members, one after the other, and writes the gzip file. The plain stream has to have
    /// exactly the bytes that the recipe counts. Nothing says here that the file is right: check its digest.
    pub fn rebuild(&self, mut plain: impl Read, mut out: impl Write) -> io::Result<()> {
        let mut buffer = vec![0; 128 << 10];
        for member in &self.members {
            out.write_all(&member.header)?;
            let mut encoder = member.class.encoder(&mut out);
            let mut crc = flate2::Crc::new();
            let mut left = member.plain;
            while left > 0 {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let n = match plain.read(&mut buffer[..most]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                crc.update(&buffer[..n]);
                encoder.write_all(&buffer[..n])?;
                left -= n as u64;
            }
            encoder.finish()?;
            out.write_all(&member.trailer.unwrap_or_else(|| trailer(&crc, member.plain)))?;
        }
        if plain.read(&mut buffer[..1])? > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is more than the gzip file held"));
        }
        out.write_all(&self.tail)
    }

    /// The recipe as bytes: some 30 for a layer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        put(self.members.len() as u64, &mut bytes);
        let mut before: Option<&Member> = None;
        for member in &self.members {
            let same_class = before.is_some_and(|before| before.class == member.class);
            let same_header = before.is_some_and(|before| before.header == member.header);
            let flag = |is: bool, flag| if is { flag } else { 0 };
            bytes.push(
                flag(same_class, SAME_CLASS)
                    | flag(same_header, SAME_HEADER)
                    | flag(member.trailer.is_some(), OWN_TRAILER),
            );
            if !same_class {
                put_bytes(member.class.to_string().as_bytes(), &mut bytes);
            }
            if !same_header {
                put_bytes(&member.header, &mut bytes);
            }
            put(member.plain, &mut bytes);
            bytes.extend_from_slice(member.trailer.as_ref().map_or(&[][..], |trailer| trailer));
            before = Some(member);
        }
        put_bytes(&self.tail, &mut bytes);
        bytes
    }

    /// Reads what [`GzipRecipe::to_bytes`] gave. What is larger than any that [`find`](super::find) makes is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        let version = take(&mut rest, 1)?[0];
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let count = varint(&mut rest)?;
        if count > MEMBERS as u64 {
            return Err(Error::TooLarge("members"));
        }
        let mut recipe = GzipRecipe::default();
        let mut verbatim = 0;
        for _ in 0..count {
            let flags = take(&mut rest, 1)?[0];
            let before = recipe.members.last();
            let may_repeat = if before.is_some() { SAME_CLASS | SAME_HEADER } else { 0 };
            if flags & !(may_repeat | OWN_TRAILER) != 0 {
                return Err(Error::Flags(flags));
            }
            let class = match before {
                Some(before) if flags & SAME_CLASS != 0 => before.class,
                _ => String::from_utf8_lossy(some(&mut rest, 64, "length of a name")?).parse()?,
            };
            let header = match before {
                Some(before) if flags & SAME_HEADER != 0 => before.header.clone(),
                _ => some(&mut rest, HEADER, "length of a header")?.to_vec(),
            };
            verbatim += header.len();
            if verbatim > VERBATIM {
                return Err(Error::TooLarge("length of all headers"));
            }
            let plain = varint(&mut rest)?;
            let trailer = match flags & OWN_TRAILER {
                0 => None,
                _ => Some(take(&mut rest, 8)?.try_into().expect("eight bytes")),
            };
            recipe.members.push(Member { header, class, plain, trailer });
        }
        recipe.tail = some(&mut rest, TAIL, "length of the tail")?.to_vec();
        if rest.is_empty() { Ok(recipe) } else { Err(Error::Longer) }
    }
}

/// CRC-32 and the length modulo 2^32 (RFC 1952, 2.3.1).
pub(super) fn trailer(crc: &flate2::Crc, length: u64) -> [u8; 8] {
    (u64::from(crc.sum()) | length << 32).to_le_bytes()
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Error> {
    rest.split_off(..count).ok_or(Error::Cut)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Error> {
    varint::take(rest).map_err(|bad| match bad {
        Bad::Cut => Error::Cut,
        Bad::TooLarge => Error::TooLarge("more than 64 bits"),
    })
}

fn some<'a>(rest: &mut &'a [u8], most: usize, what: &'static str) -> Result<&'a [u8], Error> {
    let length = varint(rest)?;
    match usize::try_from(length) {
        Ok(length) if length <= most => take(rest, length),
        _ => Err(Error::TooLarge(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> Class {
        name.parse().unwrap()
    }

    fn recipe() -> GzipRecipe {
        let member = |header: &[u8], name, plain, trailer| Member {
            header: header.to_vec(),
            class: class(name),
            plain,
            trailer,
        };
        GzipRecipe {
            members: vec![
                member(b"header", "go-6", 300, None),
                member(b"header", "go-6", u64::MAX, Some(*b"8 bytes!")),
                member(b"other", "pgzip-a-1m", 0, None),
            ],
            tail: vec![0; 5],
        }
    }

    #[test]
    fn a_recipe_is_read_back_and_its_bytes_stay() {
        let bytes = recipe().to_bytes();
        let expected = b"\x01\x03\x00\x04go-6\x06header\xac\x02\x07\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\
            8 bytes!\x00\x0apgzip-a-1m\x05other\x00\x05\0\0\0\0\0";
        assert_eq!(bytes, expected);
        assert_eq!(GzipRecipe::from_bytes(&bytes), Ok(recipe()));
        assert_eq!(GzipRecipe::from_bytes(b"\x01\x00\x00"), Ok(GzipRecipe::default()));
    }

    #[test]
    fn what_is_no_recipe_is_refused_and_said_why() {
        let bytes = recipe().to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(GzipRecipe::from_bytes(&bytes[..length]), Err(Error::Cut), "{length}");
        }
        let longer = [&bytes[..], b"x"].concat();
        for (bytes, error) in [
            (&longer[..], Error::Longer),
            (b"\x02", Error::Version(2)),
            (b"\x01\xff\xff\xff\xff\x7f", Error::TooLarge("members")),
            (b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", Error::TooLarge("more than 64 bits")),
            (b"\x01\x01\x01", Error::Flags(1)),
            (b"\x01\x01\x08", Error::Flags(8)),
            (b"\x01\x01\x00\x41", Error::TooLarge("length of a name")),
            (b"\x01\x01\x00\x04go-x\x80\x80\x10", Error::UnknownClass(UnknownClass("go-x".to_owned()))),
            (b"\x01\x01\x00\x04go-6\x80\x80\x10", Error::TooLarge("length of a header")),
            (b"\x01\x00\x80\x80\x10", Error::TooLarge("length of the tail")),
        ] {
            assert_eq!(GzipRecipe::from_bytes(bytes), Err(error));
        }
        // Members that repeat a large header are few bytes each here, but not in memory.
        let mut many = b"\x01\xe8\x07\x00\x04go-6\x80\x80\x04".to_vec();
        many.resize(many.len() + (64 << 10), b'h');
        many.push(0);
        many.extend([3, 0].repeat(999));
        many.push(0);
        assert_eq!(GzipRecipe::from_bytes(&many), Err(Error::TooLarge("length of all headers")));
    }

    #[test]
    fn too_few_and_too_many_plain_bytes_are_errors() {
        let recipe = GzipRecipe {
            members: vec![Member { header: Vec::new(), class: class("go-6"), plain: 3, trailer: None }],
            tail: Vec::new(),
        };
        let rebuild = |plain: &[u8]| recipe.rebuild(plain, io::sink()).map_err(|error| error.kind());
        assert_eq!(rebuild(b"abc"), Ok(()));
        assert_eq!(rebuild(b"ab"), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(rebuild(b"abcd"), Err(io::ErrorKind::InvalidData));
    }
}
