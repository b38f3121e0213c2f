//! What is made of the contents: the table that comes first in a carry.
//!
//! ```text
//! table    = "haversack carry table" version
//!            varint(frames)  varint(contents)*                        contents of each frame
//!            varint(contents) varint(length)*                         bytes of each content
//!            base                                                     version 02 only
//!            varint(gzip files) (bytes(recipe) varint(size) refs)*    they are numbered first, what is held behind them,
//!            varint(blobs) blob*                                      the contents of frames last
//! base     = varint(layers) (bytes(digest) varint(runs) (varint(gap) varint(length))*)*     contents that are held, by numbers
//!            varint(frames) prefix*                                   what each frame is compressed against
//! prefix   = 00 | 01 refs(held) | 02 varint(layer)                    nothing; contents; the skeleton of a layer
//! blob     = bytes(digest) varint(size) form
//! form     = 00 refs                                                  as it is
//!          | 01 refs(skeleton) varint(plain)                          a tar
//!          | 02 refs(skeleton) varint(plain) bytes(recipe)            a tar in gzip
//!          | 03 refs(skeleton) varint(plain) varint(level) varint(library)    a tar in our own zstd
//! refs     = varint(number) step*                                     contents; steps as zigzag varints, from 0
//! bytes(x) = varint(length) x
//! ```
//!
//! The version is 01 where nothing is built on, else 02.

use std::collections::HashSet;
use std::ops::Range;

use crate::carry::Error;
use crate::carry::entries::Nested;
use crate::carry::wire::{Reader, put, put_bytes, put_step};
use crate::digest::Digest;

/// The table of a carry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Contents of each frame.
    pub(super) frames: Vec<u64>,
    /// Bytes of each content.
    pub(super) lengths: Vec<u64>,
    /// Layers that are built on.
    pub(super) bases: Vec<BaseLayer>,
    /// What each frame is compressed against; empty where nothing is built on.
    pub(super) prefixes: Vec<Prefix>,
    /// Contents that are made of others; numbered before those that are held, and before those in frames.
    pub(super) nested: Vec<Nested>,
    /// Blobs of images.
    pub(super) blobs: Vec<Blob>,
}

/// A layer that the far side holds, and which of its contents are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseLayer {
    pub(super) digest: Digest,
    /// Runs of [numbers](crate::carry::numbering), ascending.
    pub(super) contents: Vec<Range<u32>>,
}

/// What a frame is compressed against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Nothing.
    None,
    /// Contents that are held, one after another.
    Contents(Vec<u32>),
    /// The skeleton of a layer that is built on, with the layer's own numbers.
    Skeleton(u32),
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

impl BaseLayer {
    /// A layer with some of its numbers, which ascend.
    pub(super) fn new(digest: Digest, numbers: &[u32]) -> Self {
        let mut contents: Vec<Range<u32>> = Vec::new();
        for number in numbers {
            match contents.last_mut() {
                Some(run) if run.end == *number => run.end += 1,
                _ => contents.push(*number..number + 1),
            }
        }
        BaseLayer { digest, contents }
    }

    /// How many contents are taken.
    pub(super) fn count(&self) -> u64 {
        self.contents.iter().map(|run| u64::from(run.end - run.start)).sum()
    }
}

impl Table {
    /// How many contents are held.
    pub(super) fn held(&self) -> u64 {
        self.bases.iter().map(BaseLayer::count).sum()
    }

    /// Of each frame its first content with bytes of its own, and of each of those where it begins in its frame.
    pub(super) fn places(&self) -> (Vec<usize>, Vec<u64>) {
        let (mut firsts, mut starts) = (Vec::with_capacity(self.frames.len()), Vec::with_capacity(self.lengths.len()));
        for contents in &self.frames {
            firsts.push(starts.len());
            let mut start = 0;
            // As many as there are: that was checked when it was read.
            for length in self.lengths[starts.len()..].iter().take(usize::try_from(*contents).unwrap_or(usize::MAX)) {
                starts.push(start);
                start += length;
            }
        }
        (firsts, starts)
    }

    /// Bytes of a frame, decompressed; `firsts` as [`Table::places`] gives it.
    pub(super) fn frame_bytes(&self, firsts: &[usize], frame: usize) -> u64 {
        let end = firsts.get(frame + 1).copied().unwrap_or(self.lengths.len());
        self.lengths[firsts[frame]..end].iter().sum()
    }

    /// The table as bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(if self.bases.is_empty() { FIRST } else { WITH_BASE });
        for numbers in [&self.frames, &self.lengths] {
            put(numbers.len() as u64, &mut bytes);
            numbers.iter().for_each(|number| put(*number, &mut bytes));
        }
        if !self.bases.is_empty() {
            self.put_bases(&mut bytes);
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

    fn put_bases(&self, bytes: &mut Vec<u8>) {
        put(self.bases.len() as u64, bytes);
        for base in &self.bases {
            put_bytes(base.digest.as_str().as_bytes(), bytes);
            put(base.contents.len() as u64, bytes);
            let mut end = 0;
            for run in &base.contents {
                put((run.start - end).into(), bytes);
                put((run.end - run.start).into(), bytes);
                end = run.end;
            }
        }
        put(self.prefixes.len() as u64, bytes);
        for prefix in &self.prefixes {
            match prefix {
                Prefix::None => bytes.push(0),
                Prefix::Contents(refs) => {
                    bytes.push(1);
                    put_refs(refs, bytes);
                }
                Prefix::Skeleton(layer) => {
                    bytes.push(2);
                    put((*layer).into(), bytes);
                }
            }
        }
    }

    /// Reads a table, and checks that everything in it refers to something.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, WHAT);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(Error::Odd { what: WHAT, why: "not one, or of a later version" });
        }
        let version = reader.byte()?;
        if !matches!(version, FIRST | WITH_BASE) {
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
        if table.lengths.contains(&0) {
            return Err(Error::Odd { what: WHAT, why: "a content without a byte" });
        }
        let total = table.lengths.iter().try_fold(0_u64, |sum, length| sum.checked_add(*length));
        if total.is_none() {
            return Err(Error::Odd { what: WHAT, why: "more bytes than can be" });
        }
        let prefixes = if version == WITH_BASE { table.take_bases(&mut reader)? } else { Vec::new() };
        let nested = reader.count(3)?;
        let contents = (table.lengths.len() + nested) as u64 + table.held();
        if contents > CONTENTS {
            return Err(Error::TooMany("contents"));
        }
        // It fits, as far fewer than 2^32 do.
        let (held, contents) = (nested + table.held() as usize, contents as usize);
        for prefix in &prefixes {
            if let Prefix::Contents(refs) = prefix
                && !(refs.iter().all(|content| (nested..held).contains(&(*content as usize))) && are_distinct(refs))
            {
                return Err(Error::Odd { what: WHAT, why: "a content that is not there" });
            }
        }
        table.prefixes = prefixes;
        for _ in 0..nested {
            let (recipe, size) = (reader.bytes()?.to_vec(), reader.number()?);
            // Of what is stored alone: what refers to itself is refused here.
            let refs = refs(&mut reader, nested..contents)?;
            table.nested.push(Nested { recipe, size, refs });
        }
        for _ in 0..reader.count(4)? {
            let digest = digest(&mut reader)?;
            let size = reader.number()?;
            let form = match reader.byte()? {
                0 => Form::Whole(refs(&mut reader, 0..contents)?),
                kind @ 1..=3 => {
                    let (skeleton, plain) = (refs(&mut reader, held..contents)?, reader.number()?);
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

impl Table {
    /// Reads what is built on. Whether prefixes refer to something is not known before all is counted.
    fn take_bases(&mut self, reader: &mut Reader<'_>) -> Result<Vec<Prefix>, Error> {
        let mut named = HashSet::new();
        for _ in 0..reader.count(2)? {
            let digest = digest(reader)?;
            let (mut contents, mut end) = (Vec::new(), 0_u32);
            for _ in 0..reader.count(2)? {
                let odd = || Error::Odd { what: WHAT, why: "a content that is not there" };
                let mut next = |from: u32| {
                    let step = u32::try_from(reader.number()?).map_err(|_| odd())?;
                    from.checked_add(step).ok_or_else(odd)
                };
                let start = next(end)?;
                end = next(start)?;
                contents.push(start..end);
            }
            // Each is read once, however small the table is.
            if !named.insert(digest.clone()) {
                return Err(Error::Odd { what: WHAT, why: "a layer that is named twice" });
            }
            self.bases.push(BaseLayer { digest, contents });
        }
        let layers = self.bases.len();
        let mut prefixes = Vec::new();
        for _ in 0..reader.count(1)? {
            prefixes.push(match reader.byte()? {
                0 => Prefix::None,
                1 => Prefix::Contents(refs(reader, 0..u32::MAX as usize)?),
                2 => match u32::try_from(reader.number()?) {
                    Ok(layer) if (layer as usize) < layers => Prefix::Skeleton(layer),
                    _ => return Err(Error::Odd { what: WHAT, why: "a layer that is not there" }),
                },
                _ => return Err(Error::Odd { what: WHAT, why: "a frame with an unknown prefix" }),
            });
        }
        match prefixes.len() == self.frames.len() {
            true => Ok(prefixes),
            false => Err(Error::Odd { what: WHAT, why: "another number of prefixes than frames" }),
        }
    }
}

fn digest(reader: &mut Reader<'_>) -> Result<Digest, Error> {
    let digest = std::str::from_utf8(reader.bytes()?).ok().and_then(|text| text.parse().ok());
    digest.ok_or(Error::Odd { what: WHAT, why: "a digest that is none" })
}

fn are_distinct(refs: &[u32]) -> bool {
    let mut sorted = refs.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
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

const MAGIC: &[u8] = b"haversack carry table";
/// The version of a table that stands alone.
const FIRST: u8 = 1;
/// The version of one that is built on layers.
const WITH_BASE: u8 = 2;
const WHAT: &str = "the table of the carry";

/// Contents of a carry, at most: some terabytes of files as images have them. Both sides have a few words of memory for each.
pub(super) const CONTENTS: u64 = 1 << 24;

/// Bytes of a table, at most.
pub(super) const MOST: u64 = 128 << 20;

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
            lengths: vec![5, 1, 1 << 40],
            nested: vec![Nested { recipe: b"r".to_vec(), size: 9, refs: vec![2, 1] }],
            blobs: forms.into_iter().map(|form| Blob { digest: digest.clone(), size: 7, form }).collect(),
            ..Table::default()
        };
        comes_back(&table);
        let empty = Table { frames: vec![1], lengths: vec![0], ..Table::default() };
        assert!(Table::from_bytes(&empty.to_bytes()).is_err());
        let looped = Table { nested: vec![Nested { refs: vec![0], ..table.nested[0].clone() }], ..Table::default() };
        assert!(Table::from_bytes(&looped.to_bytes()).is_err());

        // Gzip file 0, held 1 to 4, stored 5 to 7.
        let tar = Form::Tar { skeleton: vec![7], plain: 10240, packing: Packing::None };
        let built = Table {
            bases: vec![BaseLayer::new(digest.clone(), &[0, 7, 8, 9])],
            prefixes: vec![Prefix::Contents(vec![1, 4]), Prefix::Skeleton(0)],
            nested: vec![Nested { refs: vec![3, 6], ..table.nested[0].clone() }],
            blobs: vec![Blob { digest: digest.clone(), size: 7, form: tar }],
            ..table
        };
        assert_eq!((&built.bases[0].contents[..], built.held()), (&[0..1, 7..10][..], 4));
        comes_back(&built);
        let with = |prefix| Table {
            prefixes: vec![Prefix::None, prefix],
            blobs: built.blobs.clone(),
            bases: built.bases.clone(),
            frames: vec![2, 1],
            lengths: vec![5, 1, 1],
            nested: built.nested.clone(),
        };
        comes_back(&with(Prefix::None));
        let twice = BaseLayer::new(digest.clone(), &[0]);
        let twice = Table { bases: vec![twice.clone(), twice], ..with(Prefix::None) };
        assert!(Table::from_bytes(&twice.to_bytes()).is_err());
        for bad in
            [Prefix::Contents(vec![0]), Prefix::Contents(vec![1, 2, 1]), Prefix::Contents(vec![5]), Prefix::Skeleton(1)]
        {
            assert!(Table::from_bytes(&with(bad.clone()).to_bytes()).is_err(), "{bad:?}");
        }
        let skeleton_is_held = Form::Tar { skeleton: vec![4], plain: 10240, packing: Packing::None };
        let blobs = vec![Blob { digest, size: 7, form: skeleton_is_held }];
        assert!(Table::from_bytes(&Table { blobs, ..with(Prefix::None) }.to_bytes()).is_err());
    }

    fn comes_back(table: &Table) {
        let bytes = table.to_bytes();
        assert_eq!(Table::from_bytes(&bytes).unwrap(), *table);
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
    }
}
