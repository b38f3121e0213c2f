//! Encoders whose bytes are frozen, against what the real ones make, and recipes of gzip files.

mod docker;
mod golden;
mod properties;
mod real;
mod recipes;
mod vectors;

use std::io::Write;

use haversack::compression::encode::Class;

/// The raw stream that a class makes of `plain`, which arrives in odd pieces.
fn encode(class: Class, plain: &[u8]) -> Vec<u8> {
    let mut encoder = class.encoder(Vec::new());
    for piece in plain.chunks(50_021) {
        encoder.write_all(piece).unwrap();
    }
    encoder.finish().unwrap()
}

/// A whole gzip file of one member.
fn gzip(header: &[u8], class: Class, plain: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(plain);
    [header, &encode(class, plain), &crc.sum().to_le_bytes(), &(plain.len() as u32).to_le_bytes()].concat()
}

const PGZIP_HEADER: &[u8] = b"\x1f\x8b\x08\0\0\x09\x6e\x88\0\xff";
const GO_HEADER: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\xff";
const UNIX_HEADER: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";

/// The header that is usual for a class.
fn header_of(class: Class) -> &'static [u8] {
    match class {
        Class::Pgzip { .. } => PGZIP_HEADER,
        Class::Gnu { .. } | Class::Pigz { .. } => UNIX_HEADER,
        _ => GO_HEADER,
    }
}

/// Numbers that look random and are the same everywhere (PCG, 32 bits of 64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let shifted = ((self.0 >> 18 ^ self.0) >> 27) as u32;
        shifted.rotate_right((self.0 >> 59) as u32)
    }

    fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(limit)) >> 32) as u32
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// Bytes of which few values are frequent, without repetitions worth a match.
    fn skewed(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.below(16) * self.below(16)) as u8).collect()
    }

    /// Words of a small dictionary, now and then a new one, now and then something said before.
    fn text(&mut self, count: usize) -> Vec<u8> {
        let words: Vec<Vec<u8>> = (0..500)
            .map(|_| (0..2 + self.below(8)).map(|_| b'a' + (self.below(5) * self.below(6)) as u8).collect())
            .collect();
        let mut text = Vec::with_capacity(count + 300);
        while text.len() < count {
            match self.below(40) {
                0 => {
                    let length = 1 + self.below(12) as usize;
                    text.extend(self.bytes(length));
                }
                1 if text.len() > 1000 => {
                    let from = self.below(text.len() as u32 - 400) as usize;
                    let length = 5 + self.below(395) as usize;
                    text.extend_from_within(from..from + length);
                }
                _ => {
                    let word = self.below(500).min(self.below(500)) as usize;
                    text.extend_from_slice(&words[word]);
                    text.push(b' ');
                }
            }
        }
        text.truncate(count);
        text
    }
}
