//! Digests as repositories state them, of every kind that dnf and apt take.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest as _;

use crate::digest::{self, Digest};

/// A digest of a stated kind.
///
/// `FromStr` and `Display` have it as `sha512:HEX`; the kinds are md5, sha1, sha224, sha256, sha384 and sha512.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
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
    pub(crate) fn new(kind: &str, hex: &str) -> Option<Self> {
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
    pub fn is_strong(&self) -> bool {
        self.kind > Kind::Sha1
    }

    /// What kind it is, as people write it: `SHA-1`.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Md5 => "MD5",
            Kind::Sha1 => "SHA-1",
            Kind::Sha224 => "SHA-224",
            Kind::Sha256 => "SHA-256",
            Kind::Sha384 => "SHA-384",
            Kind::Sha512 => "SHA-512",
        }
    }

    /// Whether it is that of these bytes.
    pub(crate) fn is_of(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher(io::sink());
        hasher.write_all(bytes).expect("a sink takes all");
        hasher.finish().0 == *self
    }

    /// The same as a SHA-256 digest, if it is one.
    pub(crate) fn sha256(&self) -> Option<Digest> {
        (self.kind == Kind::Sha256).then(|| format!("sha256:{}", self.hex).parse().expect("it was parsed"))
    }

    /// The digits.
    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    /// The name of its directory in `by-hash`.
    pub(crate) fn directory(&self) -> &'static str {
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
    pub(crate) fn hasher<W: Write>(&self, inner: W) -> Hasher<W> {
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

impl FromStr for Checksum {
    type Err = NotAChecksum;

    fn from_str(text: &str) -> Result<Self, NotAChecksum> {
        let parts = text.split_once(':');
        parts.and_then(|(kind, hex)| Checksum::new(kind, hex)).ok_or_else(|| NotAChecksum(text.to_owned()))
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Checksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Reads a SHA-256 digest whose digits may be capitals, as other programs write them; it is one in small letters from then on.
pub(crate) fn sha256_in_any_case<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.to_ascii_lowercase().parse().map_err(de::Error::custom)).transpose()
}

/// A text that is not a digest of a known kind.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a valid digest")]
pub struct NotAChecksum(String);

/// A writer that computes a digest of what goes through it.
pub(crate) struct Hasher<W> {
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
    pub(crate) fn finish(self) -> (Checksum, W) {
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
