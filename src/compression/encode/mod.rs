//! Encoders whose bytes are frozen: what other programs' gzip writers made, made again byte for byte.
//!
//! A family is a file; a [`Class`] is a family with its settings, named by behaviour: programs and releases that write the
//! same bytes are one class. A class never changes and never goes, since carries name it. [`find`] tells which class
//! made a gzip file, and proves it.

mod bits;
mod chains;
mod class;
mod find;
mod go;
mod go127;
mod go_fastest;
mod huffman;
mod klauspost;
mod links;
mod matches;
mod member;
mod ours;
mod pieces;
mod recipe;
mod reuse;
mod tokens;
mod trees;
mod writes;
mod zlib;

use std::io::{self, Write};

pub use crate::compression::encode::class::{Class, PgzipBlock, UnknownClass};
pub use crate::compression::encode::find::{Budget, Outcome, Reason, find, find_in_memory, find_watched};
pub use crate::compression::encode::klauspost::PgzipVariant;
pub use crate::compression::encode::recipe::{Error, GzipRecipe, Member};
pub use crate::compression::encode::writes::Writes;

impl Class {
    /// Writes the raw DEFLATE stream (no header, no trailer) of what is written. What comes out depends on the bytes
    /// alone, not on how they are cut here. A few megabytes are held at most, 40 for pgzip on many cores.
    pub fn encoder<W: Write>(self, inner: W) -> DeflateEncoder<W> {
        let family: Box<dyn Family> = match self {
            Class::Pgzip { variant, block } => Box::new(pieces::Pieces::pgzip(variant, block.bytes())),
            Class::Pigz { level } => Box::new(pieces::Pieces::pigz(level)),
            Class::Go { level: 1, .. } => Box::new(go_fastest::GoFastest::new()),
            Class::Go { level, writes } => Box::new(go::Go::new(level, writes)),
            Class::Go127 { level } => Box::new(go127::Go127::new(level)),
            Class::Ours { level } => Box::new(ours::Ours::new(level)),
            Class::Zlib { level, mem_level } => Box::new(zlib::Zlib::new(zlib::Flavour::Zlib { mem_level }, level)),
            Class::Gnu { level } => Box::new(zlib::Zlib::new(zlib::Flavour::Gnu, level)),
        };
        DeflateEncoder { inner, family }
    }
}

/// What a family of encoders does.
trait Family: Send {
    fn write(&mut self, data: &[u8]);

    /// Works on what was only collected so far, as far as that changes nothing in what comes out.
    fn hand_on(&mut self) {}

    fn finish(&mut self);

    /// What came out and was not taken yet.
    fn out(&mut self) -> &mut Vec<u8>;
}

/// Writes a DEFLATE stream; see [`Class::encoder`]. `flush` adds nothing to the stream.
pub struct DeflateEncoder<W: Write> {
    inner: W,
    family: Box<dyn Family>,
}

impl<W: Write> DeflateEncoder<W> {
    /// Ends the stream and returns the writer underneath.
    pub fn finish(mut self) -> io::Result<W> {
        self.family.finish();
        self.inner.write_all(self.family.out())?;
        Ok(self.inner)
    }

    fn pass(&mut self) -> io::Result<()> {
        let out = self.family.out();
        self.inner.write_all(out)?;
        out.clear();
        Ok(())
    }
}

impl<W: Write> Write for DeflateEncoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.family.write(buf);
        self.pass()?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.family.hand_on();
        self.pass()?;
        self.inner.flush()
    }
}

/// A table of zeros that is too large for the stack.
fn boxed<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    vec![T::default(); N].try_into().ok().expect("the length is given")
}
