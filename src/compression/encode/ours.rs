//! The gzip that we write ourselves, by zlib-rs. What it makes may change with its version: that is in the name.

use std::io::Write;

use flate2::write::DeflateEncoder;

use crate::compression::InPieces;
use crate::compression::encode::Family;

/// The version that is linked in.
pub(super) const ZLIB_RS: &str = "0.6.8";

/// An encoder as [`Encoder::Gzip`](crate::compression::Encoder) uses it, in the same pieces.
pub(super) struct Ours(InPieces<DeflateEncoder<Vec<u8>>>);

impl Ours {
    pub(super) fn new(level: u8) -> Self {
        let encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::new(u32::from(level)));
        Ours(InPieces::new(encoder))
    }
}

impl Family for Ours {
    fn write(&mut self, data: &[u8]) {
        self.0.write_all(data).expect("memory takes it");
    }

    fn finish(&mut self) {
        let encoder = self.0.last_piece().expect("memory takes it");
        encoder.try_finish().expect("memory takes it");
    }

    fn out(&mut self) -> &mut Vec<u8> {
        self.0.get_mut().get_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_built_in() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"zlib-rs\"\nversion = \"{ZLIB_RS}\"\n")));
    }

    /// Layers are written header by header, in pieces of every length.
    #[test]
    fn what_it_makes_does_not_depend_on_how_it_is_written() {
        let text: Vec<u8> =
            (0..60_000).flat_map(|number: u32| format!("{number} of {}\n", number % 97).into_bytes()).collect();
        let made = |sizes: &[usize]| {
            let mut encoder = Ours::new(6);
            let (mut rest, mut sizes) = (&text[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                encoder.write(piece);
                rest = after;
            }
            encoder.finish();
            std::mem::take(encoder.out())
        };
        let whole = made(&[usize::MAX]);
        for sizes in [&[512][..], &[512, 3, 509, 8192], &[65536], &[1], &[32768, 1]] {
            assert!(made(sizes) == whole, "{sizes:?}");
        }
    }
}
