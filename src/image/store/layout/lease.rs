//! Who may rely on what lies in a layout: those who write to it, and nobody while blobs are taken away.
//!
//! A copy that finds a blob there does not fetch it, and names its image only at the end. So whoever writes holds a shared lock on
//! `blobs/`, and [`gc`](crate::image::store::gc) removes under an exclusive one. Both end with their process.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::fs::{self, PathContext, PathError};
use crate::image::store::layout::{BLOBS, Layout};

/// A lock on the blobs of a layout, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    _file: File,
}

impl Layout {
    /// Keeps everything that is there from being taken away. Waits while somebody does that, which is for moments.
    pub(crate) fn lease(&self) -> Result<Lease, PathError> {
        let (path, file) = self.blobs()?;
        file.lock_shared().at("lock", &path)?;
        Ok(Lease { _file: file })
    }

    /// Keeps everybody from relying on what is there. `None` when somebody does, and goes on with it for so long.
    pub(crate) fn exclusive(&self, patience: Duration) -> Result<Option<Lease>, PathError> {
        let (path, file) = self.blobs()?;
        let until = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Lease { _file: file })),
                Err(std::fs::TryLockError::Error(error)) => return Err(error).at("lock", &path),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() >= until => return Ok(None),
                Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn blobs(&self) -> Result<(PathBuf, File), PathError> {
        let path = self.root().join(BLOBS);
        let file = fs::open_any(&path)?;
        Ok((path, file))
    }
}

/// Between two looks at a lock that somebody has.
const PAUSE: Duration = Duration::from_millis(20);
