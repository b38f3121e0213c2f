//! A tree read into a snapshot: what `haversack catalog import` does.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::catalog::store::{Draft, Info, Open};
use crate::catalog::tree::{self, ImportReport};

/// What was read.
#[derive(Debug, Serialize)]
pub struct Imported {
    /// The snapshot.
    #[serde(skip)]
    pub db: PathBuf,
    /// What was in the tree.
    pub read: ImportReport,
    /// The snapshot that it is now.
    pub info: Info,
}

/// Reads a tree, or its `data/`, into the snapshot `db`, which is as it was when that fails.
pub fn import(tree: &Path, db: &Path) -> Result<Imported, tree::Error> {
    let job = format!("import {}", tree.display());
    let (mut draft, open) = Draft::open(db, &job, false)?;
    if open == Open::Resumed {
        // An import is quick, and the tree may be another one by now.
        draft.discard()?;
        draft = Draft::open(db, &job, false)?.0;
    }
    let (read, kinds) = match tree::read(tree, &draft) {
        Ok(read) => read,
        Err(error) => {
            draft.discard()?;
            return Err(error);
        }
    };
    let taken = kinds.iter().map(|(_, info)| info.taken).min().unwrap_or_default();
    let info = draft.finish(taken, kinds)?.info()?;
    Ok(Imported { db: db.to_owned(), read, info })
}
