//! What an image of the certified catalog does when it is started: `dump` writes its snapshot as a tree, `refresh` brings the
//! snapshot up to date first. Nothing but the dump directory may be writable.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::catalog::entry::Instant;
use crate::catalog::snapshot::{self, SnapshotOptions, SnapshotReport, Source};
use crate::catalog::tree::{self, DumpOptions, DumpReport};
use crate::catalog::{Snapshot, store};
use crate::fs;
use crate::ops::Error;
use crate::progress::Progress;

/// Where an image has what, and where it writes to.
#[derive(Clone, Debug)]
pub struct CatalogImage {
    /// The directory to write to, which must be there and writable.
    pub dump_dir: PathBuf,
    /// The snapshot of the image.
    pub db: PathBuf,
    /// The tree that was written from it, to be copied.
    pub tree: Option<PathBuf>,
    /// What a dump leaves out.
    pub what: DumpOptions,
}

/// Refuses a dump directory that is not there or not writable.
pub fn check_place(directory: &Path) -> Result<(), Error> {
    if !directory.is_dir() {
        return Err(Error::NoDumpDirectory(directory.to_owned()));
    }
    let probe = tempfile::Builder::new().prefix(".haversack.").tempfile_in(directory);
    probe.map(drop).map_err(|source| Error::NotWritable { directory: directory.to_owned(), source })
}

impl CatalogImage {
    /// Opens the snapshot of the image. What is wrong with it is the first thing to know.
    pub fn embedded(&self) -> Result<Snapshot, Error> {
        check_place(&self.dump_dir)?;
        Ok(Snapshot::open(&self.db)?)
    }

    /// Writes the snapshot of the image, whose tree is copied where there is one.
    pub fn dump(&self, embedded: &Snapshot) -> Result<DumpReport, tree::Error> {
        tree::dump(embedded, &self.dump_dir, &DumpOptions { ready: self.tree.clone(), ..self.what.clone() })
    }

    fn dump_other(&self, snapshot: &Snapshot) -> Result<DumpReport, tree::Error> {
        tree::dump(snapshot, &self.dump_dir, &self.what)
    }

    /// What a refresh starts from: the snapshot that an earlier one left in the dump directory, unless that of the image is newer.
    fn base(&self, embedded: &Snapshot) -> Snapshot {
        let open = |path: &Path| Snapshot::open(path).ok();
        let of = |snapshot: &Snapshot| snapshot.info().ok().map(|info| (info.taken, info.digest));
        // Servers' clocks tell seconds: of two that are as old, the dumped one was taken from the other.
        let newer = |earlier: &Snapshot| match (of(earlier), of(embedded)) {
            (Some(earlier), Some(embedded)) => {
                earlier.0 > embedded.0 || (earlier.0 == embedded.0 && earlier.1 != embedded.1)
            }
            (earlier, _) => earlier.is_some(),
        };
        let earlier = open(&self.dump_dir.join("catalog.db")).filter(newer);
        earlier.or_else(|| open(embedded.path())).expect("it is open already")
    }
}

/// A refresh under way, in the dump directory, since nothing else may be writable; a killed run is gone on with from there.
pub struct Refresh {
    image: CatalogImage,
    embedded: Snapshot,
    work: PathBuf,
    /// Only who holds it may copy or remove.
    _lock: File,
}

impl Refresh {
    /// Makes sure that this is the only one, before anything is written.
    pub fn start(image: CatalogImage) -> Result<Self, Error> {
        let embedded = image.embedded()?;
        let work = image.dump_dir.join(".haversack-refresh");
        fs::create_dir_all(&work)?;
        let lock = fs::open_any(&work)?;
        if lock.try_lock().is_err() {
            return Err(Error::RefreshUnderWay(image.dump_dir));
        }
        Ok(Refresh { image, embedded, work, _lock: lock })
    }

    /// The snapshot of the image.
    pub fn embedded(&self) -> &Snapshot {
        &self.embedded
    }

    fn db(&self) -> PathBuf {
        self.work.join("catalog.db")
    }

    /// Brings the newest snapshot there is up to date.
    pub async fn take(
        &self,
        source: &Source,
        options: &SnapshotOptions,
        progress: &Progress,
    ) -> Result<SnapshotReport, snapshot::Error> {
        self.image.base(&self.embedded).copy_to(&self.db())?;
        snapshot::snapshot(source, &self.db(), options, progress).await
    }

    /// Writes what was taken, and takes the work away.
    pub fn finish(self) -> Result<DumpReport, Error> {
        let written = Snapshot::open(&self.db()).map_err(tree::Error::from).and_then(|it| self.image.dump_other(&it));
        fs::remove_dir_all(&self.work)?;
        Ok(written?)
    }

    /// After a failure: what was fetched stays for the next run, as beside any snapshot; the copy that it began with goes away. On
    /// a full disk all of it goes, or it would stay full.
    pub fn put_away(&self, is_full_disk: bool) -> Result<(), Error> {
        let mut files = fs::list(&self.work)?.into_iter();
        let left = files.any(|path| path.extension().is_some_and(|extension| extension == "work"));
        if is_full_disk || !left {
            fs::remove_dir_all(&self.work)?;
        } else {
            fs::remove_file(&self.db())?;
        }
        Ok(())
    }

    /// The newest that can be dumped without the catalog.
    pub fn newest(&self) -> Result<Newest, store::Error> {
        let mut newest = Newest { place: Place::Image, taken: self.embedded.info()?.taken };
        let beside = self.image.base(&self.embedded);
        if beside.path() != self.embedded.path() {
            newest = Newest { place: Place::Dump, taken: beside.info()?.taken };
        }
        match tree::written(&self.image.dump_dir) {
            Some(taken) if taken > newest.taken => Ok(Newest { place: Place::TreeAlone, taken }),
            _ => Ok(newest),
        }
    }

    /// Dumps that, unless it is a tree without its snapshot, which can only stay as it is.
    pub fn fall_back(&self, newest: &Newest) -> Result<Option<DumpReport>, tree::Error> {
        match newest.place {
            Place::Image => self.image.dump(&self.embedded).map(Some),
            Place::Dump => self.image.dump_other(&self.image.base(&self.embedded)).map(Some),
            Place::TreeAlone => Ok(None),
        }
    }
}

/// The newest that can be dumped without the catalog.
#[derive(Clone, Copy, Debug)]
pub struct Newest {
    place: Place,
    /// When that was taken.
    taken: Instant,
}

impl Newest {
    /// Whether there is a snapshot to dump.
    pub fn is_dumped(&self) -> bool {
        self.place != Place::TreeAlone
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The snapshot of the image.
    Image,
    /// The snapshot that an earlier refresh or dump left beside the tree.
    Dump,
    /// A tree without a snapshot beside it, which can only stay as it is.
    TreeAlone,
}

impl fmt::Display for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (taken, age) = (self.taken, self.taken.age_text());
        match self.place {
            Place::Image => write!(f, "dumping the snapshot of {taken} in this image, {age}"),
            Place::Dump => write!(
                f,
                "keeping the snapshot of {taken} that was dumped before, {age}: that in this image is no newer"
            ),
            Place::TreeAlone => write!(
                f,
                "keeping the tree of {taken} that was dumped before, {age}: the snapshot in this image is no newer"
            ),
        }
    }
}
