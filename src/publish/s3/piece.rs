//! What is sent in one request: a whole object or a part of one, in memory or in a file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::Body;

use crate::digest::{Digest, hex};

/// One part of a multipart upload, or a whole object.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What is sent.
    pub content: Content,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// Where the bytes of a piece are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Bytes(Bytes),
    /// In a file, which is read as it is sent.
    File {
        /// Open for reading.
        file: Arc<File>,
        /// Where the piece begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
}

impl Piece {
    /// A piece in memory.
    pub fn bytes(bytes: Bytes) -> Self {
        let sha256 = Digest::sha256(&bytes).hex().to_owned();
        Piece { sha256, content: Content::Bytes(bytes) }
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { length, .. } => *length,
        }
    }

    pub(super) fn body(&self) -> Body {
        match &self.content {
            Content::Bytes(bytes) => bytes.clone().into(),
            Content::File { file, offset, length } => file_body(file.clone(), *offset, *length),
        }
    }
}

/// The MD5 of `bytes`.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    use md5::Digest;
    md5::Md5::digest(bytes).into()
}

/// The ETag that servers give an object of parts: the MD5 of the parts' MD5s, and their number. None when the parts' ETags
/// are no MD5s, as with keys of a key service.
pub fn multipart_etag<'e>(parts: impl IntoIterator<Item = &'e String>) -> Option<String> {
    let mut digests = Vec::new();
    let mut count = 0;
    for etag in parts {
        let value = u128::from_str_radix(etag, 16).ok().filter(|_| etag.len() == 32)?;
        digests.extend_from_slice(&value.to_be_bytes());
        count += 1;
    }
    Some(format!("{}-{count}", hex(&md5(&digests))))
}

/// A piece of a file, read a step ahead of the connection, never whole in memory.
pub(in crate::publish) fn file_body(file: Arc<File>, offset: u64, length: u64) -> Body {
    let stream = futures_util::stream::try_unfold((file, offset, length), async |(file, offset, left)| {
        if left == 0 {
            return Ok(None);
        }
        let size = left.min(STEP);
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(size).expect("a step fits")];
            file.read_exact_at(&mut bytes, offset).map(|()| (file, Bytes::from(bytes)))
        });
        let (file, bytes) = reading.await.map_err(std::io::Error::other)??;
        Ok::<_, std::io::Error>(Some((bytes, (file, offset + size, left - size))))
    });
    Body::wrap_stream(stream)
}

/// How much of a file is read at one time.
const STEP: u64 = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_etag_of_parts_is_the_digest_of_their_digests() {
        let etags = [b"one".as_slice(), b"two"].map(|part| hex(&md5(part)));
        let whole = md5(&[md5(b"one"), md5(b"two")].concat());
        assert_eq!(multipart_etag(&etags), Some(format!("{}-2", hex(&whole))));
        assert_eq!(multipart_etag(&["not-an-md5".to_owned()]), None);
    }
}
