//! The gzip that we write ourselves, by zlib-rs. What it makes may change with its version: that is in the name.

use std::io::Write;

use crate::compression::encode::Family;

/// The version that is linked in.
pub(super) const ZLIB_RS: &str = "0.6.8";

/// An encoder as [`Encoder::Gzip`](crate::compression::Encoder) uses it.
pub(super) struct Ours(flate2::write::DeflateEncoder<Vec<u8>>);

impl Ours {
    pub(super) fn new(level: u8) -> Self {
        Ours(flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(u32::from(level))))
    }
}

impl Family for Ours {
    fn write(&mut self, data: &[u8]) {
        self.0.write_all(data).expect("memory takes it");
    }

    fn finish(&mut self) {
        self.0.try_finish().expect("memory takes it");
    }

    fn out(&mut self) -> &mut Vec<u8> {
        self.0.get_mut()
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
}
