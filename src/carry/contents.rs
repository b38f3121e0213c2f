//! Everything that is carried, each content once.
//!
//! A content is a file of a layer, whole up to 8 MiB, a piece of a larger one, or a blob that is not taken apart. What is
//! itself a gzip file (change logs, manual pages, modules) is taken apart once more where its encoder is known: two builds
//! of a package share the text in it, hardly ever the compressed bytes.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};

use fastcdc::v2020::StreamCDC;
use sha2::{Digest as _, Sha256};

use crate::carry::entries::{Entries, Form, Hash, Known, Nested, piece_name};
use crate::carry::skeleton::Sink;
use crate::carry::{Error, Lookup};
use crate::compression::encode::{Budget, find_in_memory};
use crate::fs::{Slice, Spool, SpoolWriter};

/// The contents of a carry that is being put together. They wait in files on the disk.
pub(super) struct Contents {
    spool: Spool,
    known: Mutex<Known>,
}

impl Contents {
    /// Contents that wait in `directory`.
    pub(super) fn new(directory: &Path) -> Self {
        Contents { spool: Spool::new(directory), known: Mutex::default() }
    }

    /// Somebody who adds contents; each thread has one.
    pub(super) fn taker(&self) -> Result<Taker<'_>, Error> {
        Ok(Taker { contents: self, writer: self.spool.writer()?, buffer: Vec::new() })
    }

    /// The spool, for what is made of the contents.
    pub(super) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Ends the collection.
    pub(super) fn finish(self) -> Result<Entries, Error> {
        self.known.into_inner().expect("no holder panics").finish()
    }
}

/// Adds contents.
pub(super) struct Taker<'a> {
    contents: &'a Contents,
    writer: SpoolWriter,
    buffer: Vec<u8>,
}

impl Taker<'_> {
    /// Adds one content, unless it is known; returns its id.
    fn add(&mut self, name: &[u8], bytes: &[u8], is_nested: bool) -> Result<u32, Error> {
        let hash: Hash = Sha256::digest(bytes).into();
        let known = self.contents.known.lock().expect("no holder panics").find(&hash, name)?;
        if let Some(id) = known {
            return Ok(id);
        }
        let nested = self.take_apart(bytes, is_nested)?;
        let slice = self.writer.keep(bytes)?;
        let form = match nested {
            Some(nested) => Form::Gzip(Box::new((nested, slice))),
            None => Form::Stored(slice),
        };
        self.contents.known.lock().expect("no holder panics").add(hash, form, name)
    }

    /// Writes bytes down that are no content.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<Slice, Error> {
        Ok(self.writer.keep(bytes)?)
    }

    /// A gzip file's parts, where there is an encoder that makes it again.
    fn take_apart(&mut self, bytes: &[u8], is_nested: bool) -> Result<Option<Nested>, Error> {
        if is_nested || !may_be_nested(bytes) {
            return Ok(None);
        }
        let budget = Budget { plain: NESTED_PLAIN, ..Budget::default() };
        let Ok((recipe, plain)) = find_in_memory(bytes, &budget) else { return Ok(None) };
        let mut refs = Vec::new();
        self.pieces(UNNAMED, &mut &plain[..], true, &mut refs)?;
        Ok(Some(Nested { recipe: recipe.to_bytes(), size: bytes.len() as u64, refs }))
    }

    /// Adds all that `body` gives, in pieces where it is large.
    fn pieces(&mut self, path: &[u8], body: &mut dyn Read, is_nested: bool, refs: &mut Vec<u32>) -> Result<u64, Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let length = cut(path, body, &mut buffer, &mut |name, bytes, is_piece| {
            refs.push(self.add(name, bytes, is_nested || is_piece)?);
            Ok(())
        });
        self.buffer = buffer;
        length
    }
}

/// Takes a content or a piece of one: its name, its bytes, whether it is a piece.
pub(super) type Each<'a> = dyn FnMut(&[u8], &[u8], bool) -> Result<(), Error> + 'a;

/// Gives a content to `each`, in pieces where it is large. Nothing is given of what is empty. Returns how many bytes there were.
///
/// Where pieces end is a part of the format: the far side cuts what it holds in the same places (FastCDC 2020, with the sizes in
/// [`CHUNK`] and no further settings).
pub(super) fn cut(path: &[u8], body: &mut dyn Read, buffer: &mut Vec<u8>, each: &mut Each<'_>) -> Result<u64, Error> {
    buffer.clear();
    body.take(WHOLE + 1).read_to_end(buffer)?;
    if buffer.is_empty() {
        return Ok(0);
    }
    if buffer.len() as u64 <= WHOLE {
        each(path, buffer, false)?;
        return Ok(buffer.len() as u64);
    }
    let mut length = 0;
    let chunks = StreamCDC::new((&buffer[..]).chain(body), CHUNK.0, CHUNK.1, CHUNK.2);
    for (number, chunk) in chunks.enumerate() {
        let chunk = chunk.map_err(io::Error::from)?;
        each(&piece_name(path, number), &chunk.data, true)?;
        length += chunk.data.len() as u64;
    }
    Ok(length)
}

impl Sink for Taker<'_> {
    fn content(&mut self, path: &[u8], body: &mut dyn Read, refs: &mut Vec<u32>) -> Result<u64, Error> {
        self.pieces(path, body, false, refs)
    }
}

impl Lookup for &Contents {
    fn size(&self, content: u32) -> Result<u64, Error> {
        let known = self.known.lock().expect("no holder panics");
        Ok(known.get(content).form.as_it_was().size())
    }

    fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error> {
        let known = self.known.lock().expect("no holder panics");
        Ok(Box::new(known.get(content).form.as_it_was().reader()))
    }
}

impl Nested {
    /// The gzip file again; `number` is its own.
    pub(super) fn open(
        &self,
        number: u32,
        contents: &impl Lookup,
        recent: &Recent,
    ) -> Result<Box<dyn Read + Send>, Error> {
        let bytes = match recent.get(number) {
            Some(bytes) => bytes,
            None => recent.put(number, self.made(contents)?),
        };
        Ok(Box::new(io::Cursor::new(bytes)))
    }

    fn made(&self, contents: &impl Lookup) -> Result<Vec<u8>, Error> {
        let recipe = crate::compression::encode::GzipRecipe::from_bytes(&self.recipe)?;
        let mut length = 0_u64;
        for content in &self.refs {
            // One of no bytes would be named for nothing, however often.
            length = match contents.size(*content)? {
                0 => u64::MAX,
                size => length.saturating_add(size),
            };
        }
        if self.size > WHOLE || length > NESTED_PLAIN {
            return Err(Error::Odd { what: "a gzip file in a layer", why: "larger than any that is taken apart" });
        }
        let plain = Chained::new(self.refs.iter().copied(), |content| contents.open(content));
        let mut bytes = Vec::new();
        recipe.rebuild(plain, &mut bytes)?;
        if bytes.len() as u64 != self.size {
            return Err(Error::Odd { what: "a gzip file in a layer", why: "made again, it has another length" });
        }
        Ok(bytes)
    }
}

/// Contents, one after another, each opened when it is its turn.
pub(super) struct Chained<I, F> {
    contents: I,
    open: F,
    current: Option<Box<dyn Read + Send>>,
}

impl<I, F> Chained<I, F> {
    /// The contents of these numbers, as `open` gives them.
    pub(super) fn new(contents: I, open: F) -> Self {
        Chained { contents, open, current: None }
    }
}

impl<I, F> Read for Chained<I, F>
where
    I: Iterator<Item = u32>,
    F: FnMut(u32) -> Result<Box<dyn Read + Send>, Error>,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(reader) = &mut self.current {
                let read = reader.read(buffer)?;
                if read > 0 || buffer.is_empty() {
                    return Ok(read);
                }
            }
            let Some(content) = self.contents.next() else { return Ok(0) };
            self.current = Some((self.open)(content).map_err(io::Error::other)?);
        }
    }
}

/// Gzip files that were just made: packages of one release have the same change log, and `gzip -9` is slow.
#[derive(Default)]
pub(super) struct Recent(Mutex<VecDeque<(u32, Shared)>>);

/// Bytes with several readers.
#[derive(Clone)]
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Recent {
    fn get(&self, number: u32) -> Option<Shared> {
        let recent = self.0.lock().expect("no holder panics");
        recent.iter().find(|(there, _)| *there == number).map(|(_, bytes)| bytes.clone())
    }

    fn put(&self, number: u32, bytes: Vec<u8>) -> Shared {
        let bytes = Shared(Arc::new(bytes));
        let mut recent = self.0.lock().expect("no holder panics");
        recent.push_back((number, bytes.clone()));
        while recent.iter().map(|(_, bytes)| bytes.0.len()).sum::<usize>() > RECENT {
            recent.pop_front();
        }
        bytes
    }
}

/// Whether a content is to be taken for a gzip file.
pub(super) fn may_be_nested(bytes: &[u8]) -> bool {
    bytes.len() >= SMALLEST_NESTED && bytes.starts_with(b"\x1f\x8b\x08")
}

/// The name of what lies in a gzip file, as long as it has no other: behind all names.
const UNNAMED: &[u8] = b"\xff";

/// Bytes up to which a file is one content.
const WHOLE: u64 = 8 << 20;

/// How large the pieces of larger ones are: least, usual, most.
const CHUNK: (usize, usize, usize) = (256 << 10, 1 << 20, 4 << 20);

/// Bytes from which on a gzip file is worth being taken apart.
const SMALLEST_NESTED: usize = 4096;

/// Bytes of gzip files that are remembered.
const RECENT: usize = 32 << 20;

/// Plain bytes of a gzip file in a layer, at most.
pub(super) const NESTED_PLAIN: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// A content of one byte, under any number.
    struct Byte(u64);

    impl Lookup for Byte {
        fn size(&self, _: u32) -> Result<u64, Error> {
            Ok(self.0)
        }

        fn open(&self, _: u32) -> Result<Box<dyn Read + Send>, Error> {
            Ok(Box::new(io::Cursor::new(b"a")))
        }
    }

    #[test]
    fn a_gzip_file_of_a_million_contents_is_read_flat_and_one_of_empty_contents_not_at_all() {
        let plain = vec![b'a'; 1_000_000];
        let mut child = std::process::Command::new("gzip")
            .args(["-9nc"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &plain).unwrap();
        let packed = child.wait_with_output().unwrap().stdout;
        let Ok((recipe, _)) = find_in_memory(&packed, &Budget::default()) else { panic!("gzip is known") };
        let nested = Nested { recipe: recipe.to_bytes(), size: packed.len() as u64, refs: vec![0; plain.len()] };
        assert_eq!(nested.made(&Byte(1)).unwrap(), packed);
        assert!(matches!(nested.made(&Byte(0)), Err(Error::Odd { .. })));
    }
}
