//! Digests as repositories state them, of every kind that dnf and apt take.

use std::fmt;
use std::io::{self, Write};

use sha2::Digest as _;

use crate::digest::{self, Digest};

/// A digest of a stated kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    kind: Kind,
    hex: String,
}

/// What is computed, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Checksum {
    /// A digest in hexadecimal digits, of a kind as `repomd.xml` (`sha`, `sha256`) or a Release file (`SHA512`) names it.
    pub(super) fn new(kind: &str, hex: &str) -> Option<Self> {
        let (kind, digits) = match &*kind.to_ascii_lowercase() {
            "md5" | "md5sum" => (Kind::Md5, 32),
            "sha" | "sha1" => (Kind::Sha1, 40),
            "sha224" => (Kind::Sha224, 56),
            "sha256" => (Kind::Sha256, 64),
            "sha384" => (Kind::Sha384, 96),
            "sha512" => (Kind::Sha512, 128),
            _ => return None,
        };
        let is_right = hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
        is_right.then(|| Checksum { kind, hex: hex.to_ascii_lowercase() })
    }

    /// Whether nobody can make another file with it: everything but SHA-1 and MD5.
    pub(super) fn is_strong(&self) -> bool {
        self.kind > Kind::Sha1
    }

    /// Whether it is that of these bytes.
    pub(super) fn is_of(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher(io::sink());
        hasher.write_all(bytes).expect("a sink takes all");
        hasher.finish().0 == *self
    }

    /// The digits.
    pub(super) fn hex(&self) -> &str {
        &self.hex
    }

    /// The name of its directory in `by-hash`.
    pub(super) fn directory(&self) -> &'static str {
        match self.kind {
            Kind::Md5 => "MD5Sum",
            Kind::Sha1 => "SHA1",
            Kind::Sha224 => "SHA224",
            Kind::Sha256 => "SHA256",
            Kind::Sha384 => "SHA384",
            Kind::Sha512 => "SHA512",
        }
    }

    /// Computes a digest of the same kind of what is written through it.
    pub(super) fn hasher<W: Write>(&self, inner: W) -> Hasher<W> {
        let state = match self.kind {
            Kind::Md5 => State::Md5(md5::Md5::new()),
            Kind::Sha1 => State::Sha1(sha1::Sha1::new()),
            Kind::Sha224 => State::Sha224(sha2::Sha224::new()),
            Kind::Sha256 => State::Sha256(sha2::Sha256::new()),
            Kind::Sha384 => State::Sha384(sha2::Sha384::new()),
            Kind::Sha512 => State::Sha512(sha2::Sha512::new()),
        };
        Hasher { kind: self.kind, state, inner }
    }
}

impl From<&Digest> for Checksum {
    fn from(digest: &Digest) -> Self {
        let kind = match digest.algorithm() {
            digest::Algorithm::Sha256 => Kind::Sha256,
            digest::Algorithm::Sha512 => Kind::Sha512,
        };
        Checksum { kind, hex: digest.hex().to_owned() }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.directory().to_ascii_lowercase().trim_end_matches("sum"), self.hex)
    }
}

/// A writer that computes a digest of what goes through it.
pub(super) struct Hasher<W> {
    kind: Kind,
    state: State,
    inner: W,
}

enum State {
    Md5(md5::Md5),
    Sha1(sha1::Sha1),
    Sha224(sha2::Sha224),
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl<W: Write> Hasher<W> {
    /// The digest, and what was written to.
    pub(super) fn finish(self) -> (Checksum, W) {
        let hex = match self.state {
            State::Md5(state) => digest::hex(&state.finalize()),
            State::Sha1(state) => digest::hex(&state.finalize()),
            State::Sha224(state) => digest::hex(&state.finalize()),
            State::Sha256(state) => digest::hex(&state.finalize()),
            State::Sha384(state) => digest::hex(&state.finalize()),
            State::Sha512(state) => digest::hex(&state.finalize()),
        };
        (Checksum { kind: self.kind, hex }, self.inner)
    }
}

impl<W: Write> Write for Hasher<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        let written = &bytes[..n];
        match &mut self.state {
            State::Md5(state) => state.update(written),
            State::Sha1(state) => state.update(written),
            State::Sha224(state) => state.update(written),
            State::Sha256(state) => state.update(written),
            State::Sha384(state) => state.update(written),
            State::Sha512(state) => state.update(written),
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
