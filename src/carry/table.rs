//! What is made of the contents: the table that comes first in a carry.
//!
//! ```text
//! table    = "haversack carry table" 01
//!            varint(frames)  varint(contents)*                        contents of each frame
//!            varint(contents) varint(length)*                         bytes of each content
//!            varint(gzip files) (bytes(recipe) varint(size) refs)*    they are numbered first, the contents behind them
//!            varint(blobs) blob*
//! blob     = bytes(digest) varint(size) form
//! form     = 00 refs                                                  as it is
//!          | 01 refs(skeleton) varint(plain)                          a tar
//!          | 02 refs(skeleton) varint(plain) bytes(recipe)            a tar in gzip
//!          | 03 refs(skeleton) varint(plain) varint(level) varint(library)    a tar in our own zstd
//! refs     = varint(number) step*                                     contents; steps as zigzag varints, from 0
//! bytes(x) = varint(length) x
//! ```

use std::ops::Range;

use crate::carry::Error;
use crate::carry::contents::Nested;
use crate::carry::wire::{Reader, put, put_bytes, put_step};
use crate::digest::Digest;

/// The table of a carry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Contents of each frame.
    pub(super) frames: Vec<u64>,
    /// Bytes of each content.
    pub(super) lengths: Vec<u64>,
    /// Contents that are made of others; numbered before those that lie in frames.
    pub(super) nested: Vec<Nested>,
    /// Blobs of images.
    pub(super) blobs: Vec<Blob>,
}

/// A blob, and how it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    /// Bytes.
    pub(super) size: u64,
    pub(super) form: Form,
}

/// How a blob is made of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// They are the blob.
    Whole(Vec<u32>),
    /// They are the skeleton of a tar, and the others are named in it.
    Tar {
        /// Its skeleton.
        skeleton: Vec<u32>,
        /// Bytes of the tar.
        plain: u64,
        /// What it is compressed by.
        packing: Packing,
    },
}

/// How a tar is compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// Not at all.
    None,
    /// A [`GzipRecipe`](crate::compression::encode::GzipRecipe).
    Gzip(Vec<u8>),
    /// [`Encoder`](crate::compression::Encoder)'s zstd.
    Zstd {
        /// Compression level.
        level: u8,
        /// zstd's version as a number; another version may make other bytes.
        library: u32,
    },
}

impl Table {
    /// The table as bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for numbers in [&self.frames, &self.lengths] {
            put(numbers.len() as u64, &mut bytes);
            numbers.iter().for_each(|number| put(*number, &mut bytes));
        }
        put(self.nested.len() as u64, &mut bytes);
        for nested in &self.nested {
            put_bytes(&nested.recipe, &mut bytes);
            put(nested.size, &mut bytes);
            put_refs(&nested.refs, &mut bytes);
        }
        put(self.blobs.len() as u64, &mut bytes);
        for blob in &self.blobs {
            put_bytes(blob.digest.as_str().as_bytes(), &mut bytes);
            put(blob.size, &mut bytes);
            match &blob.form {
                Form::Whole(refs) => {
                    bytes.push(0);
                    put_refs(refs, &mut bytes);
                }
                Form::Tar { skeleton, plain, packing } => {
                    bytes.push(match packing {
                        Packing::None => 1,
                        Packing::Gzip(_) => 2,
                        Packing::Zstd { .. } => 3,
                    });
                    put_refs(skeleton, &mut bytes);
                    put(*plain, &mut bytes);
                    match packing {
                        Packing::None => {}
                        Packing::Gzip(recipe) => put_bytes(recipe, &mut bytes),
                        Packing::Zstd { level, library } => {
                            put((*level).into(), &mut bytes);
                            put((*library).into(), &mut bytes);
                        }
                    }
                }
            }
        }
        bytes
    }

    /// Reads a table, and checks that everything in it refers to something.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, WHAT);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Error::Odd { what: WHAT, why: "not one, or of a later version" });
        }
        let mut table = Table::default();
        for numbers in [&mut table.frames, &mut table.lengths] {
            for _ in 0..reader.count(1)? {
                numbers.push(reader.number()?);
            }
        }
        let in_frames = table.frames.iter().try_fold(0_u64, |sum, contents| sum.checked_add(*contents));
        if in_frames != Some(table.lengths.len() as u64) {
            return Err(Error::Odd { what: WHAT, why: "its frames hold another number of contents" });
        }
        let total = table.lengths.iter().try_fold(0_u64, |sum, length| sum.checked_add(*length));
        if total.is_none() {
            return Err(Error::Odd { what: WHAT, why: "more bytes than can be" });
        }
        let nested = reader.count(3)?;
        let contents = table.lengths.len() + nested;
        if u32::try_from(contents).is_err() {
            return Err(Error::TooMany("contents"));
        }
        for _ in 0..nested {
            let (recipe, size) = (reader.bytes()?.to_vec(), reader.number()?);
            // Of what is stored alone: what refers to itself is refused here.
            let refs = refs(&mut reader, nested..contents)?;
            table.nested.push(Nested { recipe, size, refs });
        }
        for _ in 0..reader.count(4)? {
            let digest = std::str::from_utf8(reader.bytes()?).ok().and_then(|text| text.parse().ok());
            let Some(digest) = digest else { return Err(Error::Odd { what: WHAT, why: "a digest that is none" }) };
            let size = reader.number()?;
            let form = match reader.byte()? {
                0 => Form::Whole(refs(&mut reader, 0..contents)?),
                kind @ 1..=3 => {
                    let (skeleton, plain) = (refs(&mut reader, nested..contents)?, reader.number()?);
                    let packing = match kind {
                        1 => Packing::None,
                        2 => Packing::Gzip(reader.bytes()?.to_vec()),
                        _ => {
                            let (level, library) = (reader.number()?, reader.number()?);
                            let numbers = u8::try_from(level).ok().zip(u32::try_from(library).ok());
                            let odd = Error::Odd { what: WHAT, why: "a compression level that there is not" };
                            let (level, library) = numbers.ok_or(odd)?;
                            Packing::Zstd { level, library }
                        }
                    };
                    Form::Tar { skeleton, plain, packing }
                }
                _ => return Err(Error::Odd { what: WHAT, why: "a blob of an unknown form" }),
            };
            table.blobs.push(Blob { digest, size, form });
        }
        if !reader.is_empty() {
            return Err(Error::Odd { what: WHAT, why: "bytes follow its end" });
        }
        Ok(table)
    }
}

fn put_refs(refs: &[u32], bytes: &mut Vec<u8>) {
    put(refs.len() as u64, bytes);
    let mut before = 0;
    for content in refs {
        put_step(before, *content, bytes);
        before = *content;
    }
}

fn refs(reader: &mut Reader<'_>, contents: Range<usize>) -> Result<Vec<u32>, Error> {
    let (mut refs, mut before) = (Vec::new(), 0);
    for _ in 0..reader.count(1)? {
        before = reader.step(before)?;
        if !contents.contains(&(before as usize)) {
            return Err(Error::Odd { what: WHAT, why: "a content that is not there" });
        }
        refs.push(before);
    }
    Ok(refs)
}

const MAGIC: &[u8] = b"haversack carry table\x01";
const WHAT: &str = "the table of the carry";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_back_and_a_wrong_one_is_an_error() {
        let digest = Digest::sha256(b"x");
        let tar = |packing| Form::Tar { skeleton: vec![2, 1], plain: 10240, packing };
        let forms = [
            Form::Whole(vec![0, 3]),
            tar(Packing::None),
            tar(Packing::Gzip(b"recipe".to_vec())),
            tar(Packing::Zstd { level: 3, library: 10507 }),
        ];
        let table = Table {
            frames: vec![2, 1],
            lengths: vec![5, 0, 1 << 40],
            nested: vec![Nested { recipe: b"r".to_vec(), size: 9, refs: vec![2, 1] }],
            blobs: forms.into_iter().map(|form| Blob { digest: digest.clone(), size: 7, form }).collect(),
        };
        let bytes = table.to_bytes();
        assert_eq!(Table::from_bytes(&bytes).unwrap(), table);
        for end in 0..bytes.len() {
            Table::from_bytes(&bytes[..end]).unwrap_err();
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // Whatever it is, it is read to an end.
                assert!(Table::from_bytes(&changed).is_err() || at >= MAGIC.len());
            }
        }
        let looped = Table { nested: vec![Nested { refs: vec![0], ..table.nested[0].clone() }], ..Table::default() };
        assert!(Table::from_bytes(&looped.to_bytes()).is_err());
    }
}
