//! Content digests as OCI writes them, and readers and writers that compute them while bytes flow.
//!
//! A digest is `ALGORITHM:HEX` with a registered algorithm and lower-case hexadecimal digits of exactly the right
//! number (image-spec, `descriptor.md#digests`). Everything else is refused at the edge, upper case included: two
//! spellings of one content would be two names for it.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::fs::{self, PathContext, PathError};

/// A content digest that is well-formed: a registered algorithm and the right number of lower-case digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    text: String,
    algorithm: Algorithm,
}

/// The registered algorithms (image-spec, `descriptor.md#registered-algorithms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `sha256`, the one that everybody writes.
    Sha256,
    /// `sha512`, rare, but to be checked where it is met.
    Sha512,
}

/// Why a text is no digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// There is no colon between algorithm and digits.
    #[error("`{0}` is no digest: expected `sha256:` and 64 hexadecimal digits")]
    NoAlgorithm(String),
    /// The algorithm is not registered.
    #[error("`{text}`: unknown digest algorithm `{algorithm}` (known: sha256, sha512)")]
    UnknownAlgorithm {
        /// The whole text.
        text: String,
        /// What stands before the colon.
        algorithm: String,
    },
    /// The digits are too few, too many, in upper case or none.
    #[error("`{text}`: expected {expected} lower-case hexadecimal digits after the colon")]
    BadDigits {
        /// The whole text.
        text: String,
        /// How many digits the algorithm has.
        expected: usize,
    },
}

impl Algorithm {
    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// The digest and the size in bytes of what a reader gives until its end.
    pub fn of_reader(reader: impl Read, algorithm: Algorithm) -> io::Result<(Self, u64)> {
        let mut hashing = HashingReader::new(reader, algorithm);
        io::copy(&mut hashing, &mut io::sink())?;
        let (digest, size, _) = hashing.finish();
        Ok((digest, size))
    }

    /// The SHA-256 digest and the size in bytes of a regular file.
    pub fn of_file(path: &Path) -> Result<(Self, u64), PathError> {
        Digest::of_reader(fs::open(path)?, Algorithm::Sha256).at("read", path)
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digits after the colon.
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.name().len() + 1..]
    }

    /// The whole text, `ALGORITHM:HEX`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(Error::NoAlgorithm(text.to_owned()));
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => {
                return Err(Error::UnknownAlgorithm { text: text.to_owned(), algorithm: name.to_owned() });
            }
        };
        let expected = algorithm.digits();
        if hex.len() != expected || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Error::BadDigits { text: text.to_owned(), expected });
        }
        Ok(Digest { text: text.to_owned(), algorithm })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Starts with nothing hashed.
    pub fn new(algorithm: Algorithm) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::new(Sha512::new())),
        })
    }

    /// Adds `bytes` to what is hashed.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self.0 {
            State::Sha256(state) => (Algorithm::Sha256, hex(&state.finalize())),
            State::Sha512(state) => (Algorithm::Sha512, hex(&state.finalize())),
        };
        Digest { text: format!("{}:{hex}", algorithm.name()), algorithm }
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    hex_into(bytes, &mut text);
    text
}

/// Writes the lower-case hexadecimal digits of `bytes` behind what is there.
pub fn hex_into(bytes: &[u8], text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for some in bytes.chunks(32) {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(some) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text.push_str(std::str::from_utf8(&digits[..2 * some.len()]).expect("digits are ASCII"));
    }
}

/// Passes bytes through from a reader and hashes and counts them.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> HashingReader<R> {
    /// Hashes with `algorithm` whatever is read from `inner`.
    pub fn new(inner: R, algorithm: Algorithm) -> Self {
        HashingReader { inner, hasher: Hasher::new(algorithm), size: 0 }
    }

    /// The digest and the number of bytes that were read so far, and the reader.
    ///
    /// A parser may stop before the end: read the rest (`io::copy` to `io::sink`) before the digest is compared.
    pub fn finish(self) -> (Digest, u64, R) {
        (self.hasher.finish(), self.size, self.inner)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        self.size += n as u64;
        Ok(n)
    }
}

/// Passes bytes through to a writer and hashes and counts them.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    /// Hashes with `algorithm` whatever is written to `inner`.
    pub fn new(inner: W, algorithm: Algorithm) -> Self {
        HashingWriter { inner, hasher: Hasher::new(algorithm), size: 0 }
    }

    /// The digest and the number of bytes written, and the writer.
    pub fn finish(self) -> (Digest, u64, W) {
        (self.hasher.finish(), self.size, self.inner)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_round_trip_and_odd_spellings_are_refused() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap().to_string(), EMPTY);
        assert_eq!(Digest::sha256(b"").as_str(), EMPTY);
        assert_eq!(Digest::sha256(b"").hex(), &EMPTY[7..]);
        for (text, why) in [
            ("", "`` is no digest: expected `sha256:` and 64 hexadecimal digits"),
            ("md5:00", "`md5:00`: unknown digest algorithm `md5` (known: sha256, sha512)"),
            ("sha256:00", "`sha256:00`: expected 64 lower-case hexadecimal digits after the colon"),
            ("SHA256:00", "`SHA256:00`: unknown digest algorithm `SHA256` (known: sha256, sha512)"),
        ] {
            assert_eq!(text.parse::<Digest>().unwrap_err().to_string(), why);
        }
        let upper = EMPTY.replace('e', "E");
        assert_eq!(upper.parse::<Digest>().unwrap_err(), Error::BadDigits { text: upper, expected: 64 });
    }

    #[test]
    fn a_file_is_hashed_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        assert_eq!(Digest::of_file(file.path()).unwrap(), (Digest::sha256(b"abc"), 3));
    }

    #[test]
    fn readers_and_writers_hash_what_passes() {
        let mut reader = HashingReader::new(&b"abc"[..], Algorithm::Sha512);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let (digest, size, _) = reader.finish();
        assert_eq!(size, 3);
        assert!(digest.hex().starts_with("ddaf35a193617abacc417349ae204131"));

        let mut writer = HashingWriter::new(Vec::new(), Algorithm::Sha256);
        writer.write_all(b"abc").unwrap();
        let (digest, size, bytes) = writer.finish();
        assert_eq!((digest, size, bytes), (Digest::sha256(b"abc"), 3, b"abc".to_vec()));
    }
}
