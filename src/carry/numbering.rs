//! What the contents of a layer are called by its digest and a number, on both sides of the gap.
//!
//! A layer's contents are counted from 0 as they are met when its tar is split: files, whole or in pieces; right behind each that
//! is a gzip file (see [`may_be_nested`]) and can be decompressed to its end, what is in it, whole or in pieces. A content that was
//! met before has its number already. None of this depends on which program compressed the layer or the file.
//!
//! This is a part of the format: both sides count alike, or the contents that a carry is built on are not found.

use std::collections::HashMap;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::carry::Error;
use crate::carry::contents::{NESTED_PLAIN, cut, may_be_nested};
use crate::carry::entries::{Hash, name_inside};
use crate::carry::skeleton::{Sink, Skeleton};
use crate::compression::{self, LimitedReader};
use crate::digest::{Digest, HashingReader};
use crate::fs::{self, PathContext};
use crate::image::Layout;

/// A content of a layer that is met for the first time.
pub(super) struct Met<'a> {
    pub(super) number: u32,
    pub(super) hash: Hash,
    /// What it is called in the layer.
    pub(super) path: &'a [u8],
    pub(super) bytes: &'a [u8],
}

/// Splits the layer in a file, and gives each content to `each`. Returns the layer's skeleton, whose references are numbers.
///
/// The layer is read to its end, and one that is not what its digest says is [`Error::BaseDamaged`], whatever else was wrong:
/// nothing of what was given to `each` is to be used then.
pub(super) fn split(
    layout: &Layout,
    digest: &Digest,
    each: &mut dyn FnMut(Met<'_>) -> Result<(), Error>,
) -> Result<Skeleton, Error> {
    let path = layout.blob_path(digest);
    let mut blob = HashingReader::new(fs::open_regular(&path)?, digest.algorithm());
    let split = {
        let blob = io::BufReader::with_capacity(128 << 10, &mut blob);
        compression::decoder(blob).map_err(Error::from).and_then(|(_, mut plain)| {
            Skeleton::split(&mut plain, &mut Numbering { known: HashMap::new(), each, buffer: Vec::new() })
        })
    };
    io::copy(&mut blob, &mut io::sink()).at("read", &path)?;
    match blob.finish().0 == *digest {
        true => split,
        false => Err(Error::BaseDamaged { path }),
    }
}

struct Numbering<'a> {
    known: HashMap<Hash, u32>,
    each: &'a mut dyn FnMut(Met<'_>) -> Result<(), Error>,
    buffer: Vec<u8>,
}

impl Numbering<'_> {
    /// The number of a content, and whether it is new.
    fn meet(&mut self, path: &[u8], bytes: &[u8]) -> Result<(u32, bool), Error> {
        let hash: Hash = Sha256::digest(bytes).into();
        if let Some(number) = self.known.get(&hash) {
            return Ok((*number, false));
        }
        let number = u32::try_from(self.known.len()).map_err(|_| Error::TooMany("contents"))?;
        self.known.insert(hash, number);
        (self.each)(Met { number, hash, path, bytes })?;
        Ok((number, true))
    }

    fn inside(&mut self, path: &[u8], bytes: &[u8]) -> Result<(), Error> {
        let Ok((_, plain)) = compression::decoder(bytes) else { return Ok(()) };
        let mut inflated = Vec::new();
        if LimitedReader::new(plain, NESTED_PLAIN).read_to_end(&mut inflated).is_err() {
            return Ok(());
        }
        let mut number = 0;
        cut(path, &mut &inflated[..], &mut Vec::new(), &mut |_, bytes, is_piece| {
            self.meet(&name_inside(path, is_piece.then_some(number)), bytes)?;
            number += 1;
            Ok(())
        })?;
        Ok(())
    }
}

impl Sink for Numbering<'_> {
    fn content(&mut self, path: &[u8], body: &mut dyn Read, refs: &mut Vec<u32>) -> Result<u64, Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let length = cut(path, body, &mut buffer, &mut |name, bytes, is_piece| {
            let (number, is_new) = self.meet(name, bytes)?;
            refs.push(number);
            match is_new && !is_piece && may_be_nested(bytes) {
                true => self.inside(name, bytes),
                false => Ok(()),
            }
        });
        self.buffer = buffer;
        length
    }
}
