//! The files that nodes need to find what is served here, by the name that they know this server under.

use std::path::PathBuf;

use crate::fs::{self, PathError};
use crate::mirrors::{Mirrors, Served};
use crate::reference::Remote;
use crate::serve::view::View;

/// How nodes are to speak to this server.
#[derive(Clone, Debug, Default)]
pub(super) struct Speaking {
    /// The authority that it has of its own; `None` when its certificate is trusted anyway.
    pub(super) trust: Option<PathBuf>,
    pub(super) is_tls: bool,
    /// Whether it asks for passwords when images are pulled.
    pub(super) asks_password: bool,
}

/// The files for every repository whose registry is known, by their names, and what is in them.
pub(super) fn files(view: &View, name: &str, speaking: &Speaking) -> Result<Vec<(String, String)>, PathError> {
    let trust = match &speaking.trust {
        Some(path) => Some(String::from_utf8_lossy(&fs::read(path, 1 << 20)?).into_owned()),
        None => None,
    };
    let served = Some(Served { asks_password: speaking.asks_password });
    let mut mirrors = Mirrors::default();
    (mirrors.trust, mirrors.served) = (trust, served);
    for (key, repository) in &view.repositories {
        // Of a registry: its key is the host and the path, the host as a part of a path.
        let Ok(remote) = repository.written.parse::<Remote>() else { continue };
        let Some((_, path)) = key.split_once('/').filter(|(_, path)| path.ends_with(&remote.repository)) else {
            continue;
        };
        mirrors.add(&remote.registry, path, name, key, !repository.tags.is_empty());
    }
    Ok(mirrors.files(&|_| !speaking.is_tls))
}
