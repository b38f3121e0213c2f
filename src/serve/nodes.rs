//! The files that nodes need to find what is served here, by the name that they know this server under.

use std::path::{Path, PathBuf};

use crate::fs::PathError;
use crate::mirrors::Mirrors;
use crate::reference::Remote;
use crate::serve::view::View;

/// Writes them for every repository whose registry is known. `trust` is the authority of a server that has one of its own, `None`
/// of one that is trusted anyway, and `is_plain` says that there is no TLS.
pub(super) fn write(
    view: &View,
    name: &str,
    trust: Option<String>,
    is_plain: bool,
    directory: &Path,
) -> Result<Vec<PathBuf>, PathError> {
    let mut mirrors = Mirrors::default();
    mirrors.trust = trust;
    for (key, repository) in &view.repositories {
        // Of a registry: its key is the host and the path, the host as a part of a path.
        let Ok(remote) = repository.written.parse::<Remote>() else { continue };
        let Some((_, path)) = key.split_once('/').filter(|(_, path)| path.ends_with(&remote.repository)) else {
            continue;
        };
        mirrors.add(&remote.registry, path, name, key, !repository.tags.is_empty());
    }
    mirrors.write(&|_| is_plain, directory)
}
