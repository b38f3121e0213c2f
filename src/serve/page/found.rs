//! Catalogs and lists of kernels that lie in images here, for the page: nobody has to tell the server where they are.
//!
//! An image that this product built says so in an annotation, and in its environment where in it the snapshot (`HAVERSACK_DB`) or
//! the list of kernels (`HAVERSACK_KERNEL_SET`) is. In the background, when the layouts have changed, those files are taken out of the layers,
//! from the top one down, once for each image:
//!
//! ```text
//! FOUND/HEX/catalog.db       of the image sha256:HEX; the newest catalog of all
//! FOUND/HEX/kernels.json     the lists of the first images in the order of their digests
//! ```
//!
//! FOUND is `.haversack/found` in a layout that takes pushes, else `found` in the directory that the server was given for such
//! things, else a temporary directory. What is in it and belongs to no image any more is removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::catalog::store::Snapshot;
use crate::causes;
use crate::digest::Digest;
use crate::fs::{self, AtomicFile, PathContext, PathError};
use crate::image::build::fingerprint::FINGERPRINT;
use crate::image::build::plan::CATALOG_TAKEN;
use crate::kernel::set::KernelSet;
use crate::serve::document::{Document, annotations};
use crate::serve::layer;
use crate::serve::page::repositories::configuration;
use crate::serve::page::{Page, Shown};
use crate::serve::store::Store;
use crate::serve::view::View;

/// What there is now.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The newest catalog.
    pub(super) catalog: Option<File>,
    /// Lists of kernels.
    pub(super) kernels: Vec<File>,
}

/// A file that was taken out of an image.
#[derive(Clone, Debug, Serialize)]
pub(super) struct File {
    /// Where the image is.
    pub(super) repository: String,
    pub(super) digest: Digest,
    #[serde(skip)]
    pub(super) path: PathBuf,
}

/// Looks for them.
pub(super) struct Finder {
    /// Where they are put; a temporary directory is made when there is something to put there.
    place: Option<PathBuf>,
    /// Of what the server was given no file.
    wanted: Vec<Kind>,
    temporary: Mutex<Option<tempfile::TempDir>>,
    found: RwLock<Arc<Found>>,
    /// Where in an image something is, by the manifest's digest; nothing in most.
    known: Mutex<HashMap<Digest, Option<Inside>>>,
    /// Images that were of no use, and when that was found.
    useless: Mutex<HashMap<Digest, Instant>>,
}

/// What is in an image, and at which path.
#[derive(Clone, Debug)]
struct Inside {
    kind: Kind,
    path: PathBuf,
    /// When the catalog was taken; nothing for a list of kernels.
    taken: Option<jiff::Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Catalog,
    Kernels,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Kind::Catalog => "catalog.db",
            Kind::Kernels => "kernels.json",
        }
    }

    fn most(self) -> u64 {
        match self {
            Kind::Catalog => 4 << 30,
            Kind::Kernels => 64 << 20,
        }
    }
}

/// Why a file is not taken out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Layer(#[from] layer::Error),
    #[error("no layer has {} as a file", .0.display())]
    Absent(PathBuf),
    #[error("{} has {size} bytes, more than {most}", path.display())]
    Large { path: PathBuf, size: u64, most: u64 },
    #[error("there is no room for its {size} bytes at {}", path.display())]
    Full { path: PathBuf, size: u64 },
    #[error("what it has is no catalog")]
    Catalog(#[from] crate::catalog::store::Error),
    #[error("what it has is no list of kernels")]
    Kernels(#[from] crate::kernel::set::Error),
    #[error(transparent)]
    Path(#[from] PathError),
}

/// Looks again and again, as long as the page is there.
pub(super) async fn repeat(weak: Weak<Page>) {
    let mut seen: Weak<View> = Weak::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(page) = weak.upgrade() else { return };
        let Ok(view) = page.store.view().await else { continue };
        if seen.ptr_eq(&Arc::downgrade(&view)) {
            continue;
        }
        seen = Arc::downgrade(&view);
        let looking = tokio::task::spawn_blocking(move || page.finder.look(&page.store, &view));
        if let Err(error) = looking.await {
            tracing::error!("looking for catalogs and kernels in images: {error}");
        }
    }
}

impl Finder {
    /// `place` is where what is found is put. What is in a file that was given is not looked for.
    pub(super) fn new(place: Option<PathBuf>, shown: &Shown) -> Self {
        let given = [(Kind::Catalog, shown.catalog.is_some()), (Kind::Kernels, shown.kernels.is_some())];
        Finder {
            place,
            wanted: given.into_iter().filter(|(_, is_given)| !is_given).map(|(kind, _)| kind).collect(),
            temporary: Mutex::default(),
            found: RwLock::default(),
            known: Mutex::default(),
            useless: Mutex::default(),
        }
    }

    pub(super) fn found(&self) -> Arc<Found> {
        self.found.read().expect("no holder panics").clone()
    }

    fn look(&self, store: &Arc<Store>, view: &View) {
        let mut candidates = self.candidates(store, view);
        // The newest catalog first, whatever it is called.
        candidates.sort_by(|one, other| other.1.taken.cmp(&one.1.taken).then_with(|| one.0.cmp(&other.0)));
        let mut found = Found::default();
        for (digest, inside, repository) in candidates {
            let is_wanted = match inside.kind {
                Kind::Catalog => found.catalog.is_none(),
                Kind::Kernels => found.kernels.len() < LISTS,
            };
            let Some(Ok(document)) = view.documents.get(&digest).filter(|_| is_wanted && self.is_of_use(&digest))
            else {
                continue;
            };
            match self.take(store, document, &inside) {
                Ok(path) => {
                    let file = File { repository, digest, path };
                    match inside.kind {
                        Kind::Catalog => found.catalog = Some(file),
                        Kind::Kernels => found.kernels.push(file),
                    }
                }
                Err(error) => {
                    tracing::warn!("{repository}@{digest} is not shown on the page: {}", causes::line(&error));
                    self.useless.lock().expect("no holder panics").insert(digest, Instant::now());
                }
            }
        }
        self.tidy(&found);
        *self.found.write().expect("no holder panics") = Arc::new(found);
    }

    /// Images that have something in them, and the first repository of each.
    fn candidates(&self, store: &Store, view: &View) -> Vec<(Digest, Inside, String)> {
        let mut candidates: BTreeMap<&Digest, (Inside, &String)> = BTreeMap::new();
        let mut known = self.known.lock().expect("no holder panics");
        known.retain(|digest, _| view.documents.contains_key(digest));
        for (key, repository) in &view.repositories {
            for digest in &repository.manifests {
                let Some(Ok(document)) = view.documents.get(digest) else { continue };
                let inside = known.entry(digest.clone()).or_insert_with(|| inside(store, document));
                if let Some(inside) = inside.as_ref().filter(|it| self.wanted.contains(&it.kind)) {
                    candidates.entry(digest).or_insert_with(|| (inside.clone(), key));
                }
            }
        }
        candidates.into_iter().map(|(digest, (inside, key))| (digest.clone(), inside, key.clone())).collect()
    }

    /// Whether an image was of use, or was not looked at for a while.
    fn is_of_use(&self, digest: &Digest) -> bool {
        let mut useless = self.useless.lock().expect("no holder panics");
        useless.retain(|_, since| since.elapsed() < USELESS);
        !useless.contains_key(digest)
    }

    /// Takes the file out of an image, unless that was done before.
    fn take(&self, store: &Arc<Store>, document: &Document, inside: &Inside) -> Result<PathBuf, Error> {
        let directory = self.directory()?.join(document.digest.hex());
        let path = directory.join(inside.kind.file());
        if !path.is_file() {
            fs::create_dir_all(&directory)?;
            fs::remove_abandoned(&path);
            take_out(store, document, inside, &path)?;
        }
        // What is not what it should be does not stay, and is not taken out again and again.
        let usable = match inside.kind {
            Kind::Catalog => Snapshot::open(&path).and_then(|snapshot| snapshot.info()).map(drop).map_err(Error::from),
            Kind::Kernels => KernelSet::parse(&fs::read(&path, inside.kind.most())?).map(drop).map_err(Error::from),
        };
        if usable.is_err() {
            fs::remove_file(&path)?;
        }
        usable.map(|()| path)
    }

    fn directory(&self) -> Result<PathBuf, Error> {
        if let Some(place) = &self.place {
            fs::create_dir_all(place)?;
            return Ok(place.clone());
        }
        let mut temporary = self.temporary.lock().expect("no holder panics");
        if temporary.is_none() {
            *temporary = Some(tempfile::tempdir().at("create a directory in", std::env::temp_dir())?);
        }
        Ok(temporary.as_ref().expect("it was just made").path().to_owned())
    }

    /// Removes what belongs to no image any more.
    fn tidy(&self, found: &Found) {
        let temporary = self.temporary.lock().expect("no holder panics").as_ref().map(|it| it.path().to_owned());
        let Some(directory) = self.place.clone().or(temporary) else { return };
        let kept: BTreeSet<&Path> =
            found.catalog.iter().chain(&found.kernels).filter_map(|file| file.path.parent()).collect();
        let others = fs::list(&directory).unwrap_or_default().into_iter().filter(|it| !kept.contains(it.as_path()));
        for other in others {
            if let Err(error) = fs::remove_dir_all(&other) {
                tracing::warn!("{}", causes::line(&error));
            }
        }
    }
}

/// What is in an image, as it says itself.
fn inside(store: &Store, document: &Document) -> Option<Inside> {
    // Most images were built by others: not even their annotations are parsed.
    let bytes = document.kept()?;
    std::str::from_utf8(bytes).ok()?.contains(FINGERPRINT).then_some(())?;
    let annotations = annotations(bytes);
    annotations.get(FINGERPRINT)?;
    let environment = configuration(store, document).config?.environment?;
    let variable = |name: &str| environment.iter().find_map(|it| it.strip_prefix(name)?.strip_prefix('='));
    let (kind, path) = match (variable("HAVERSACK_DB"), variable("HAVERSACK_KERNEL_SET")) {
        (Some(path), _) => (Kind::Catalog, path),
        (None, Some(path)) => (Kind::Kernels, path),
        (None, None) => return None,
    };
    let taken = annotations.get(CATALOG_TAKEN).and_then(|text| text.parse().ok());
    Some(Inside { kind, path: path.trim_start_matches('/').into(), taken })
}

/// Looks for a file in the layers, from the top one down, and writes it.
fn take_out(store: &Arc<Store>, document: &Document, inside: &Inside, to: &Path) -> Result<(), Error> {
    let absent = || Error::Absent(inside.path.clone());
    for part in document.blobs.iter().skip(1).rev() {
        let unreadable = |source| layer::Error::Read { digest: part.digest.clone(), source };
        let mut tar = layer::open(store, &part.digest, LAYER)?;
        let mut is_hidden = false;
        for entry in tar.entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            let name = entry.path().map_err(unreadable)?.into_owned();
            let name = name.strip_prefix("/").or_else(|_| name.strip_prefix("./")).unwrap_or(&name);
            is_hidden |= hides(name, &inside.path);
            if name != inside.path {
                continue;
            }
            if !entry.header().entry_type().is_file() {
                return Err(absent());
            }
            let (size, most) = (entry.size(), inside.kind.most());
            if size > most {
                return Err(Error::Large { path: inside.path.clone(), size, most });
            }
            let found = rustix::fs::statvfs(fs::parent(to)).map_err(io::Error::from).at("look at", to)?;
            if found.f_bavail.saturating_mul(found.f_frsize) / 2 < size {
                return Err(Error::Full { path: to.to_owned(), size });
            }
            let mut file = AtomicFile::create(to)?;
            io::copy(&mut entry, &mut file).at("write", to)?;
            return Ok(file.finish()?);
        }
        if is_hidden {
            break;
        }
    }
    Err(absent())
}

/// Whether an entry of a layer says that a path of the layers below is not there any more (image-spec, `layer.md#whiteouts`).
fn hides(entry: &Path, path: &Path) -> bool {
    let Some(name) = entry.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(".wh.")) else {
        return false;
    };
    let directory = entry.parent().unwrap_or(Path::new(""));
    if name == ".wh..opq" { path.starts_with(directory) } else { path.starts_with(directory.join(name)) }
}

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(2);
/// After how long an image that was of no use is looked at again, if the layouts have changed.
const USELESS: Duration = Duration::from_secs(600);
/// Lists of kernels that are shown together.
const LISTS: usize = 16;
/// Bytes of tar that are read of a layer.
const LAYER: u64 = 64 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_hide_what_is_below_them() {
        for (entry, hidden) in [
            ("usr/oct/.wh.catalog.db", true),
            ("usr/.wh.oct", true),
            (".wh.usr", true),
            ("usr/oct/.wh..wh..opq", true),
            (".wh..wh..opq", true),
            ("usr/oct/.wh.other", false),
            ("usr/bin/.wh..wh..opq", false),
            ("usr/oct/catalog.db", false),
        ] {
            assert_eq!(hides(Path::new(entry), Path::new("usr/oct/catalog.db")), hidden, "{entry}");
        }
    }
}
