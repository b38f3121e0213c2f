//! A layout that a run makes goes away with it when nothing came into it.

use std::fs::remove_dir;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::{self, PathContext};
use crate::image::store::layout::{BLOBS, Error, INDEX, Layout, MARKER};

/// Remembers, from before a layout is made, what of its path was not there. Dropped while the layout is empty and nobody else
/// writes to it, it takes all of that away again.
#[derive(Debug)]
pub(crate) struct Fresh {
    root: PathBuf,
    /// The directories that are to be made for it, the innermost first.
    directories: Vec<PathBuf>,
}

impl Fresh {
    /// What a layout at `root` would be made of; `None` where there is one.
    pub(crate) fn before(root: &Path) -> Option<Self> {
        let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let directories = root.ancestors().take_while(is_new).map(Path::to_owned).collect();
        (!root.join(MARKER).exists()).then(|| Fresh { root: root.to_owned(), directories })
    }

    /// Whether the layout was empty, and is gone.
    fn take_back(&self) -> Result<bool, Error> {
        let layout = Layout::open(&self.root)?;
        let _lock = layout.lock()?;
        let blobs = self.root.join(BLOBS);
        let holds = |path: &Path, names: &[&str]| {
            let there = fs::list(path)?;
            Ok::<_, Error>(there.len() == names.len() && names.iter().all(|name| there.contains(&path.join(name))))
        };
        // A lease is somebody's who is about to write.
        let is_empty = layout.index()?.manifests().is_empty()
            && holds(&self.root, &[BLOBS, INDEX, MARKER])?
            && holds(&blobs, &["sha256"])?
            && holds(&blobs.join("sha256"), &[])?
            && layout.exclusive(Duration::ZERO)?.is_some();
        if is_empty {
            for directory in [blobs.join("sha256"), blobs] {
                remove_dir(&directory).at("remove", &directory)?;
            }
            fs::remove_file(&self.root.join(INDEX))?;
            // Last: who waits for the lock sees by it that the layout is gone.
            fs::remove_file(&self.root.join(MARKER))?;
        }
        Ok(is_empty)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // What cannot be removed is an empty layout, and no harm.
        if self.take_back().unwrap_or(false) {
            let _ = self.directories.iter().try_for_each(remove_dir);
        }
    }
}
