//! An OCI image layout: the only image store there is (image-spec, `image-layout.md`, version 1.0.0).
//!
//! ```text
//! DIR/oci-layout             {"imageLayoutVersion":"1.0.0"}; locked while index.json is changed
//!     index.json             what is named here: descriptors with org.opencontainers.image.ref.name
//!     blobs/sha256/HEX       everything else, under the digest of its bytes
//!     .blob.XXXXXX.partial   a blob on its way, or what a killed process left; .build.XXXXXX.partial/ likewise
//!     .carry-ID.partial/     what has come of a carry that is being unpacked
//!     .sha256-HEX.partial    the beginning of a blob, for the next attempt (see [`partial`](crate::image::store::partial))
//!     .haversack/            what `serve --writable`, `gc` and `unpack` know of it; no part of the layout
//! ```
//!
//! A blob gets its name when all its bytes are written and their digest is known to be right. `index.json` is replaced
//! in one step and under a lock, so that two programs of this kind may write to one layout at the same time.

mod blob;
mod document;
mod fresh;
mod kinds;
mod lease;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{Descriptor, ImageIndex, MediaType, OciLayout};

pub use self::blob::{BlobWriter, VerifyingReader};
pub use self::document::{DOCUMENT_LIMIT, Entries, KIND, REF_NAME, canonical, descriptor, digest_of, parse, ref_name};
use self::document::{INDEX_LIMIT, with_name};
pub(crate) use self::document::{ReadError, find, index_of, is_artifact, is_referrer, kind_of, named, read_document};
pub(crate) use self::fresh::Fresh;
pub(crate) use self::lease::Lease;
use crate::digest::{self, Algorithm, Digest, HashingWriter};
use crate::fs::{self, AtomicFile, PathContext, PathError};
use crate::plural;

/// A layout directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    /// Held by whoever may write: what it finds there stays.
    _lease: Option<Arc<Lease>>,
}

/// Why a layout cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is there, but is no layout.
    #[error("{}: not an OCI image layout", .0.display())]
    NotALayout(PathBuf),
    /// The directory is there, but not one of the `dir:` transport.
    #[error("{}: not a directory that holds one image (dir:)", .0.display())]
    NotADir(PathBuf),
    /// Something in the place of a `dir:` directory that must not be replaced.
    #[error("{}: holds other things than an image; it is not replaced", .0.display())]
    Occupied(PathBuf),
    /// A version that is not ours.
    #[error("{}: image layout version `{version}` is not known (known: 1.0.0)", path.display())]
    Version {
        /// The layout.
        path: PathBuf,
        /// What it says it is.
        version: String,
    },
    /// No image of that name, or none at all.
    #[error("{}: holds no image called `{name}`{}", path.display(), list(.known))]
    NotFound {
        /// The layout or archive.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// One name for different images.
    #[error("{}: `{name}` names {} different images, choose one by its digest: {}", path.display(), digests.len(), digests.join(", "))]
    SameName {
        /// The layout or archive.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// What is called so.
        digests: Vec<String>,
    },
    /// No name was given, and there is not exactly one image.
    #[error("{}: holds {}, name one{}", path.display(), plural::count(known.len(), "image"), list(.known))]
    Ambiguous {
        /// The layout or archive.
        path: PathBuf,
        /// What there is.
        known: Vec<String>,
    },
    /// Bytes that are not what their name says.
    #[error("{name}: expected {expected}, found {found}")]
    Mismatch {
        /// What was read or written.
        name: String,
        /// Digest or size as announced.
        expected: String,
        /// As it is.
        found: String,
    },
    /// A manifest of the first kind, which has no media types and no configuration.
    #[error("{0}: a manifest of Docker's schema 1, which nothing is made of any more")]
    Schema1(String),
    /// A document that is too large to be one.
    #[error("{name}: {size} bytes is above the limit of {limit} bytes for a document")]
    TooLarge {
        /// Which.
        name: String,
        /// Its size.
        size: u64,
        /// [`DOCUMENT_LIMIT`].
        limit: u64,
    },
    /// A document that does not parse.
    #[error("{name}: not what its media type says")]
    Document {
        /// Which.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Indexes in indexes without an end.
    #[error("{0}: lists of manifests are nested too deeply")]
    TooDeep(String),
    /// A digest in a document that is none.
    #[error("{0}")]
    Digest(#[from] digest::Error),
    /// Something on the disk.
    #[error("{0}")]
    Path(#[from] PathError),
}

impl Layout {
    /// Opens a layout that is there.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let marker = root.join(MARKER);
        // Stores of hauler have all of a layout but the marker.
        let is_unmarked = !marker.exists() && root.join(BLOBS).join("sha256").is_dir();
        if !(marker.is_file() || is_unmarked) || !root.join(INDEX).is_file() {
            // The system's own words for a directory that is not there.
            std::fs::metadata(root).at("open", root)?;
            return Err(Error::NotALayout(root.to_owned()));
        }
        if is_unmarked {
            tracing::warn!("{}: read as an OCI image layout, although it has no {MARKER} file", root.display());
            return Ok(Layout { root: root.to_owned(), _lease: None });
        }
        let bytes = fs::read(&marker, DOCUMENT_LIMIT)?;
        let found: OciLayout = parse(&marker.display().to_string(), &bytes)?;
        if found.image_layout_version() != VERSION {
            let version = found.image_layout_version().clone();
            return Err(Error::Version { path: root.to_owned(), version });
        }
        Ok(Layout { root: root.to_owned(), _lease: None })
    }

    /// Opens a layout to write to it, and makes an empty one where there is none. A directory with other things in it is refused.
    ///
    /// What lies in it stays there until the value and its clones are dropped: [`gc`](crate::image::store::gc) waits, or gives up.
    pub fn create(root: &Path) -> Result<Self, Error> {
        // Listed before the marker is looked for: what another program creates meanwhile begins with the marker.
        let foreign = root.is_dir() && !fs::list(root)?.iter().all(|path| hidden(path));
        if foreign && !root.join(MARKER).exists() {
            return Err(Error::NotALayout(root.to_owned()));
        }
        let layout = Layout { root: root.to_owned(), _lease: None };
        // The marker first: whoever comes meanwhile sees whose directory it is, and waits.
        let marker = root.join(MARKER);
        let mut file = loop {
            fs::create_dir_all(root)?;
            let file = layout.lock()?;
            // Who took back an empty one meanwhile removed the very file that we waited for.
            if fs::is_same_file(&file, &marker) {
                break file;
            }
        };
        fs::create_dir_all(&root.join(BLOBS).join("sha256"))?;
        if file.metadata().at("read", &marker)?.len() == 0 {
            file.write_all(canonical(&serde_json::json!({ "imageLayoutVersion": VERSION })).as_slice())
                .at("write", &marker)?;
        }
        if !root.join(INDEX).exists() {
            layout.write_index(Vec::new())?;
        }
        // What writers that were killed left behind, save what the next attempt goes on with.
        let useless = |path: &&PathBuf| is_partial(path) && !is_resumable(path) && fs::is_unlocked(path);
        for path in fs::list(root)?.iter().filter(useless) {
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        drop(file);
        // Where a file system has no locks nobody can take them all, and so nothing is taken away.
        let _lease = layout.lease().ok().map(Arc::new);
        Ok(Layout { _lease, ..Layout::open(root)? })
    }

    /// The same layout, for somebody who relies on nothing in it for longer than a moment.
    pub(crate) fn without_lease(self) -> Self {
        Layout { _lease: None, ..self }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob is or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.algorithm().name()).join(digest.hex())
    }

    /// Whether a blob of that digest and size is there. What is in it is for [`verify`](crate::image::store::verify) to say.
    pub fn holds(&self, digest: &Digest, size: u64) -> bool {
        // A link is not a blob, wherever it leads.
        std::fs::symlink_metadata(self.blob_path(digest)).is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Takes a blob from another layout that goes away, unless it is here: as another link to it where that is possible.
    pub fn take_blob(&self, from: &Layout, described: &Descriptor) -> Result<(), Error> {
        let digest = digest_of(described)?;
        if self.holds(&digest, described.size()) {
            return Ok(());
        }
        // The other was checked when it was written, by this very process: it is where a base was brought to.
        if from.holds(&digest, described.size()) {
            fs::create_dir_all(fs::parent(&self.blob_path(&digest)))?;
            if std::fs::hard_link(from.blob_path(&digest), self.blob_path(&digest)).is_ok() {
                return Ok(());
            }
        }
        let mut blob = self.blob_writer(digest.algorithm())?;
        io::copy(&mut from.open_blob(described)?, &mut blob).at("copy", from.blob_path(&digest))?;
        blob.finish_expecting(described)
    }

    /// Starts a blob whose digest will be known at its end.
    pub fn blob_writer(&self, algorithm: Algorithm) -> Result<BlobWriter<'_>, Error> {
        // Under the lock, so that nobody takes the new file for one that was left behind, before it is locked itself.
        let _lock = self.lock()?;
        let file = AtomicFile::create(&self.root.join("blob"))?;
        Ok(BlobWriter { layout: self, file: HashingWriter::new(file, algorithm) })
    }

    /// Writes a small blob, unless it is there.
    pub fn write_blob(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, Error> {
        let digest = Digest::sha256(bytes);
        if !self.holds(&digest, bytes.len() as u64) {
            let mut blob = self.blob_writer(Algorithm::Sha256)?;
            blob.write_all(bytes).at("write", self.blob_path(&digest))?;
            blob.finish()?;
        }
        Ok(descriptor(media_type, &digest, bytes.len() as u64))
    }

    /// A reader of a blob that ends with an error when size or digest are not as described.
    pub fn open_blob(&self, described: &Descriptor) -> Result<VerifyingReader<File>, Error> {
        let digest = digest_of(described)?;
        let path = self.blob_path(&digest);
        Ok(VerifyingReader::new(fs::open_regular(&path)?, digest, described.size()))
    }

    /// Reads a manifest, an index or a configuration: at most 4 MiB, checked, as its very bytes.
    pub fn read_document(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(&digest_of(described)?);
        read_document(self.open_blob(described)?, described).map_err(|error| match error {
            ReadError::Io(source) => PathError { action: "read", path, source }.into(),
            ReadError::Other(error) => error,
        })
    }

    /// What `index.json` lists.
    pub fn index(&self) -> Result<ImageIndex, Error> {
        let path = self.root.join(INDEX);
        parse(&path.display().to_string(), &fs::read(&path, INDEX_LIMIT)?)
    }

    /// The image of that name; without one, the only image.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, Error> {
        find(&self.root, &self.index()?, name)
    }

    /// Lists an image in `index.json` under `name`, which then is no other image's; without one, just as there.
    ///
    /// The list is kept sorted by name and digest: what it says does not depend on what was added first.
    pub fn tag(&self, image: &Descriptor, name: Option<&str>) -> Result<(), Error> {
        let image = with_name(image, name);
        let _lock = self.lock()?;
        let mut manifests = self.index()?.manifests().clone();
        manifests.retain(|there| match (name, ref_name(there)) {
            (Some(name), Some(other)) => name != other,
            // An image without a name is listed for its content alone.
            (_, None) => there.digest() != image.digest(),
            (None, Some(_)) => true,
        });
        if name.is_some() || manifests.iter().all(|there| there.digest() != image.digest()) {
            manifests.push(image);
        }
        self.write_index(manifests)
    }

    /// Lists images in `index.json` as they are described, names and all, in one step. A name is then no other image's; one
    /// without a name is listed once.
    pub fn tag_all(&self, images: &[Descriptor]) -> Result<(), Error> {
        let names: BTreeSet<&str> = images.iter().filter_map(ref_name).collect();
        let unnamed: BTreeSet<&str> =
            images.iter().filter(|image| ref_name(image).is_none()).map(|image| image.digest().as_ref()).collect();
        let _lock = self.lock()?;
        let mut manifests = self.index()?.manifests().clone();
        manifests.retain(|there| match ref_name(there) {
            Some(name) => !names.contains(name),
            None => !unnamed.contains(there.digest().as_ref()),
        });
        manifests.extend(images.iter().cloned());
        self.write_index(manifests)
    }

    /// Takes an image out of `index.json`, under whatever name. Its blobs stay.
    pub fn untag(&self, image: &Descriptor) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut manifests = self.index()?.manifests().clone();
        manifests.retain(|there| there.digest() != image.digest());
        self.write_index(manifests)
    }

    /// Changes what `index.json` lists, under the lock and in one step.
    pub(crate) fn change<T>(&self, edit: impl FnOnce(&mut Vec<Descriptor>) -> T) -> Result<T, Error> {
        let _lock = self.lock()?;
        let mut manifests = self.index()?.manifests().clone();
        let result = edit(&mut manifests);
        self.write_index(manifests)?;
        Ok(result)
    }

    /// Every file below the root.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, PathError> {
        let mut files = Vec::new();
        let walk = walkdir::WalkDir::new(&self.root).sort_by_file_name().into_iter();
        // What lies in a directory that will go away is not the layout's.
        for entry in
            walk.filter_entry(|entry| entry.depth() != 1 || !entry.file_type().is_dir() || !is_beside(entry.path()))
        {
            let entry = entry.map_err(io::Error::from).at("list", &self.root)?;
            if !entry.file_type().is_dir() {
                files.push(entry.into_path());
            }
        }
        Ok(files)
    }

    /// The digest that a file of the layout has for a name.
    pub(crate) fn digest_at(&self, path: &Path) -> Option<Digest> {
        let mut parts = path.strip_prefix(self.root.join(BLOBS)).ok()?.iter().map(|part| part.to_str());
        let digest = format!("{}:{}", parts.next()??, parts.next()??).parse().ok()?;
        parts.next().is_none().then_some(digest)
    }

    /// Files that are no part of a layout, by name, and whether a writer that is gone left them. What has come of carries is
    /// neither, see [`Layout::half_unpacked`].
    pub(crate) fn strays(&self) -> Result<Vec<(PathBuf, bool)>, PathError> {
        let mut strays = Vec::new();
        let left = |path: &&PathBuf| path.is_dir() && is_partial(path) && !is_carry(path) && fs::is_unlocked(path);
        for path in fs::list(&self.root)?.iter().filter(left) {
            strays.push((path.strip_prefix(&self.root).expect("it was listed there").to_owned(), true));
        }
        for path in self.files()? {
            let name = path.strip_prefix(&self.root).expect("the walk stays below").to_owned();
            // People keep the blobs of several layouts in one place, with a link to it in each.
            if self.digest_at(&path).is_some() || name == Path::new(MARKER) || name == Path::new(INDEX) || path.is_dir()
            {
                continue;
            }
            if !is_partial(&path) {
                strays.push((name, false));
            } else if fs::is_unlocked(&path) {
                strays.push((name, true));
            }
        }
        Ok(strays)
    }

    /// What writers that are gone left, but the parts of carries, whose volumes may come weeks apart.
    pub(crate) fn left_behind(&self) -> Result<Vec<PathBuf>, PathError> {
        let left = |path: &PathBuf| is_partial(path) && !is_carry(path) && fs::is_unlocked(path);
        Ok(fs::list(&self.root)?.into_iter().filter(left).collect())
    }

    /// Directories with what has come of carries, by name; nobody is at work on them.
    pub(crate) fn half_unpacked(&self) -> Result<Vec<PathBuf>, PathError> {
        let half = |path: &PathBuf| path.is_dir() && is_partial(path) && is_carry(path) && fs::is_unlocked(path);
        let name = |path: PathBuf| path.file_name().map(PathBuf::from);
        Ok(fs::list(&self.root)?.into_iter().filter(half).filter_map(name).collect())
    }

    fn write_index(&self, mut manifests: Vec<Descriptor>) -> Result<(), Error> {
        // Images first: `@0` is one of them.
        let key =
            |it: &Descriptor| (document::is_artifact(it), ref_name(it).map(str::to_owned), it.digest().to_string());
        manifests.sort_by_key(key);
        kinds::mark(&mut manifests);
        let (path, bytes) = (self.root.join(INDEX), canonical(&index_of(manifests)));
        // Nobody could read it any more.
        if bytes.len() as u64 > INDEX_LIMIT {
            let (name, size) = (path.display().to_string(), bytes.len() as u64);
            return Err(Error::TooLarge { name, size, limit: INDEX_LIMIT });
        }
        // Most of what is copied again is there, and syncing takes longer than seeing that.
        if fs::read(&path, INDEX_LIMIT).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        Ok(fs::write(&path, &bytes)?)
    }

    /// Waits for and takes the lock; it is given back when the file is closed, also by a `kill -9`.
    fn lock(&self) -> Result<File, Error> {
        let path = self.root.join(MARKER);
        let file = fs::lock_file(&path)?;
        file.lock().at("lock", &path)?;
        Ok(file)
    }
}

fn list(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (it holds: {})", known.join(", ")) }
}

/// Whether a file is one on its way, by its name.
fn is_partial(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "partial") && hidden(path)
}

/// Whether something on its way is a carry that is being unpacked.
fn is_carry(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(CARRY))
}

/// Whether a directory beside the blobs is somebody's who works here.
fn is_beside(path: &Path) -> bool {
    is_partial(path) || path.file_name().is_some_and(|name| name == WORK)
}

/// Whether a file on its way is one that is named for the blob it will be.
fn is_resumable(path: &Path) -> bool {
    is_carry(path) || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".sha"))
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

pub(crate) const MARKER: &str = "oci-layout";
pub(crate) const INDEX: &str = "index.json";
const CARRY: &str = ".carry-";
pub(crate) const BLOBS: &str = "blobs";
/// Where `serve` keeps what is no part of the layout.
pub(crate) const WORK: &str = ".haversack";
pub(crate) const VERSION: &str = "1.0.0";

#[cfg(test)]
mod tests;
