//! Temporary directories of one run.
//!
//! What lies half-made beside its place is found and removed by the next run; a directory in `TMPDIR` is not. So whoever ends
//! the program on a signal removes these first ([`Scratch::remove`]).

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;

use crate::fs::PathError;
use crate::ops::Error;

/// Directories for the time of the run.
#[derive(Default)]
pub struct Scratch(Mutex<Vec<PathBuf>>);

impl Scratch {
    /// Makes a temporary directory, which goes away when it is dropped or by [`Scratch::remove`].
    pub fn directory(&self, prefix: &str) -> Result<TempDir, Error> {
        // Held while it is made: whoever removes them must not pass between a directory's making and its being noted.
        let mut directories = self.0.lock().expect("no holder panics");
        let made = tempfile::Builder::new().prefix(prefix).tempdir().map_err(|source| {
            let source = std::io::Error::from(source.kind());
            let path = std::env::temp_dir();
            Error::NoScratch(PathError { action: "create a temporary directory in", path, source })
        })?;
        directories.push(made.path().to_owned());
        Ok(made)
    }

    /// Removes all of them, whoever holds them, before the program ends: from now on nobody gets another one, and who asks waits
    /// for the end.
    pub fn remove(&self) {
        let directories = self.0.lock().expect("no holder panics");
        for directory in &*directories {
            // Who writes into it meanwhile makes it not empty again. In the end nobody is left to be told.
            for _ in 0..ATTEMPTS {
                if std::fs::remove_dir_all::<&Path>(directory).is_ok() || !directory.exists() {
                    break;
                }
            }
        }
        std::mem::forget(directories);
    }
}

/// How often the removal of a directory into which somebody still writes is tried.
const ATTEMPTS: u32 = 100;
