//! The tar inside a layer, for the page: read from its start, within limits, after the blob's bytes were found to be right.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use crate::compression::{LimitedReader, decoder};
use crate::digest::Digest;
use crate::serve::bad::Bad;
use crate::serve::store::Store;
use crate::tarball::{self, Guarded};

/// Why a layer cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The blob is not here or damaged.
    #[error("layer {digest}: {bad}")]
    Blob {
        /// Which.
        digest: Digest,
        /// Why.
        bad: Bad,
    },
    /// It is no tar archive in a compression that is known, or larger than is looked at.
    #[error("layer {digest} cannot be read as a tar archive")]
    Read {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// The archive in a layer.
pub(super) type Tar = tar::Archive<Guarded<LimitedReader<Box<dyn Read + Send>>>>;

/// Opens a layer, of which at most so many bytes of tar are read. Blocks, the first time until the whole blob was hashed; within a
/// runtime.
pub(super) fn open(store: &Arc<Store>, digest: &Digest, most: u64) -> Result<Tar, Error> {
    let blob = store.open(digest).map_err(|bad| Error::Blob { digest: digest.clone(), bad })?;
    let unreadable = |source| Error::Read { digest: digest.clone(), source };
    let is_good = tokio::runtime::Handle::current().block_on(store.verify(&blob));
    if !is_good.map_err(|bad| Error::Blob { digest: digest.clone(), bad })? {
        return Err(Error::Blob { digest: digest.clone(), bad: Bad::lasting("its bytes are damaged") });
    }
    let (_, plain) = decoder(BufReader::with_capacity(128 << 10, blob.file)).map_err(unreadable)?;
    Ok(tarball::open(LimitedReader::new(plain, most)))
}
