//! An image in a registry as something to be checked: read to its last byte, and nothing kept.

use std::io::{self, Read};
use std::path::PathBuf;

use bytes::{Buf, Bytes};
use oci_spec::image::Descriptor;
use tokio::runtime::Handle;

use crate::causes;
use crate::digest::Digest;
use crate::image::manifest;
use crate::image::store::verify::Contents;
use crate::registry::client::Error;
use crate::registry::download::Chunks;
use crate::registry::ends::Source;
use crate::registry::repository::Repository;

/// One image of a repository, with others that belong to it.
pub struct RemoteImage {
    repository: Repository,
    image: Descriptor,
    beside: Vec<Descriptor>,
    runtime: Handle,
}

impl RemoteImage {
    /// Checks `image`, and what is `beside` it, with the runtime that this is called in.
    pub fn new(repository: Repository, image: Descriptor, beside: Vec<Descriptor>) -> Self {
        RemoteImage { repository, image, beside, runtime: Handle::current() }
    }
}

impl Contents for RemoteImage {
    type Error = Error;

    fn place(&self) -> String {
        self.image.digest().to_string()
    }

    fn images(&self) -> Result<Vec<Descriptor>, Error> {
        Ok(std::iter::once(&self.image).chain(&self.beside).cloned().collect())
    }

    /// As described: whether it is so shows when it is read. A layer that may not be distributed need not be there.
    fn size(&self, described: &Descriptor, digest: &Digest) -> Option<u64> {
        let is_there = || self.runtime.block_on(self.repository.holds(digest)).unwrap_or(true);
        (!manifest::is_foreign(described.media_type().as_ref()) || is_there()).then_some(described.size())
    }

    fn read_document(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        let source = Source::Repository(self.repository.clone());
        self.runtime.block_on(async {
            match manifest::is_index(described.media_type()) || manifest::is_manifest(described.media_type()) {
                true => source.document(described).await,
                false => source.config(described).await,
            }
        })
    }

    fn open(&self, described: &Descriptor, _digest: &Digest) -> Result<Box<dyn Read + Send>, Error> {
        if manifest::is_index(described.media_type()) || manifest::is_manifest(described.media_type()) {
            return Ok(Box::new(io::Cursor::new(self.read_document(described)?)));
        }
        let _entered = self.runtime.enter();
        Ok(Box::new(Arriving { chunks: self.repository.blob(described, 0), rest: Bytes::new(), failure: None }))
    }

    /// What else is in a repository is not for us to see.
    fn blobs(&self) -> Result<Vec<(Digest, u64)>, Error> {
        Ok(Vec::new())
    }

    fn strays(&self) -> Result<Vec<(PathBuf, bool)>, Error> {
        Ok(Vec::new())
    }
}

/// A blob that is read while it arrives.
struct Arriving {
    chunks: Chunks,
    rest: Bytes,
    /// Why nothing more comes. Whoever reads on hears it again, and does not take it for the end.
    failure: Option<String>,
}

impl Read for Arriving {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            if let Some(failure) = &self.failure {
                return Err(io::Error::other(failure.clone()));
            }
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(Ok(chunk)) => self.rest = chunk,
                Some(Err(error)) => self.failure = Some(causes::line(&error)),
            }
        }
        let n = self.rest.len().min(buf.len());
        self.rest.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}
