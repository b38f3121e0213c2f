//! Blobs, written and read with their digests.

use std::io::{self, Read, Write};

use oci_spec::image::Descriptor;

use crate::digest::{Digest, HashingReader, HashingWriter};
use crate::fs::{self, AtomicFile};
use crate::image::store::layout::{Error, Layout, digest_of};

/// A blob that is being written; it has no name before [`BlobWriter::finish`].
pub struct BlobWriter<'a> {
    pub(super) layout: &'a Layout,
    pub(super) file: HashingWriter<AtomicFile>,
}

impl BlobWriter<'_> {
    /// Ends the blob and gives it the name of what was written.
    pub fn finish(self) -> Result<(Digest, u64), Error> {
        let (digest, size, file) = self.file.finish();
        let path = self.layout.blob_path(&digest);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        file.finish_as(&path)?;
        Ok((digest, size))
    }

    /// Ends the blob if it is what `described` says; else nothing is kept.
    pub fn finish_expecting(self, described: &Descriptor) -> Result<(), Error> {
        let (digest, size, file) = self.file.finish();
        let expected = digest_of(described)?;
        if size != described.size() {
            let (expected_size, found) = (format!("{} bytes", described.size()), format!("{size} bytes"));
            return Err(Error::Mismatch { name: expected.to_string(), expected: expected_size, found });
        }
        if digest != expected {
            let (name, expected, found) = (expected.to_string(), expected.to_string(), digest.to_string());
            return Err(Error::Mismatch { name, expected, found });
        }
        let path = self.layout.blob_path(&expected);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(file.finish_as(&path)?)
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Passes bytes through, and ends with an error when they are not those that the digest and the size promise.
pub struct VerifyingReader<R> {
    inner: Option<HashingReader<io::Take<R>>>,
    digest: Digest,
    size: u64,
}

impl<R: Read> VerifyingReader<R> {
    /// Expects exactly the bytes of `digest`, `size` of them.
    pub fn new(inner: R, digest: Digest, size: u64) -> Self {
        // One more than announced is enough to see that there are too many.
        let inner = HashingReader::new(inner.take(size.saturating_add(1)), digest.algorithm());
        VerifyingReader { inner: Some(inner), digest, size }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(inner) = &mut self.inner else { return Ok(0) };
        let n = inner.read(buf)?;
        if n > 0 || buf.is_empty() {
            return Ok(n);
        }
        let (digest, size, _) = self.inner.take().expect("it was there above").finish();
        if size != self.size {
            let more = if size > self.size { "more" } else { "fewer" };
            let text = format!("{}: {more} bytes than the {} described", self.digest, self.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if digest != self.digest {
            let text = format!("{}: the content has another digest: {digest}", self.digest);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(0)
    }
}
