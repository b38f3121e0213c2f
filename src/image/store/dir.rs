//! One image in a directory: `dir:`, as containers/image has it.
//!
//! ```text
//! DIR/version              Directory Transport Version: 1.1
//!     manifest.json        the image: a manifest, or the list of several
//!     HEX.manifest.json    the manifests that such a list has, by their digests
//!     HEX                  configurations and layers, by theirs
//!     signature-N, HEX.signature-N      simple signatures; passed over: no other place but a lookaside server has them
//! ```
//!
//! What refers to an image has no place here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex, MediaType};

use crate::digest::{Algorithm, Digest};
use crate::fs::{self, AtomicDir, PathContext, PathError};
use crate::image::manifest;
use crate::image::store::layout::{self, Error, Layout};
use crate::plural;

/// A `dir:` directory that is open for reading.
#[derive(Debug)]
pub struct Dir {
    root: PathBuf,
    image: Descriptor,
}

impl Dir {
    /// Reads which image there is.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let path = root.join(MANIFEST);
        if !path.is_file() {
            std::fs::metadata(root).at("open", root)?;
            return Err(Error::NotADir(root.to_owned()));
        }
        let bytes = fs::read(&path, layout::DOCUMENT_LIMIT)?;
        let document: serde_json::Value = layout::parse(&path.display().to_string(), &bytes)?;
        // Both OCI documents may do without a media type of their own.
        let media_type = match (document["mediaType"].as_str(), document.get("manifests")) {
            (Some(own), _) => MediaType::from(own),
            (None, Some(_)) => MediaType::ImageIndex,
            (None, None) => MediaType::ImageManifest,
        };
        if !manifest::is_index(&media_type) && !manifest::is_manifest(&media_type) {
            let (name, found) = (path.display().to_string(), media_type.to_string());
            return Err(Error::Mismatch { name, expected: "a manifest or an index".into(), found });
        }
        let image = layout::descriptor(media_type, &Digest::sha256(&bytes), bytes.len() as u64);
        let names = fs::list(root)?;
        let signatures =
            names.iter().filter(|path| is_signature(&path.file_name().unwrap_or_default().to_string_lossy()));
        let signatures = signatures.count();
        if signatures > 0 {
            let place = root.display();
            tracing::warn!(
                "{place}: passed over: {} (signature-N), which only dir: has",
                plural::count(signatures, "simple signature")
            );
        }
        Ok(Dir { root: root.to_owned(), image })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image, as the index of a layout would list it.
    pub fn index(&self) -> ImageIndex {
        layout::index_of(vec![self.image.clone()])
    }

    /// Where a blob is or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        if self.image.digest().to_string() == digest.as_str() {
            return self.root.join(MANIFEST);
        }
        let document = self.root.join(format!("{}.{MANIFEST}", digest.hex()));
        if document.is_file() { document } else { self.root.join(digest.hex()) }
    }

    /// Every blob with its size.
    pub(crate) fn blobs(&self) -> Result<Vec<(Digest, u64)>, PathError> {
        let mut blobs = Vec::new();
        for path in fs::list(&self.root)? {
            if let Some(digest) = Dir::digest_at(&path) {
                blobs.push((digest, std::fs::symlink_metadata(&path).at("read", &path)?.len()));
            }
        }
        Ok(blobs)
    }

    /// The names of files that such a directory does not have.
    pub(crate) fn strays(&self) -> Result<Vec<PathBuf>, PathError> {
        let mut strays = Vec::new();
        for path in fs::list(&self.root)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = name == MANIFEST || name == VERSION_FILE || is_signature(&name);
            if !known && Dir::digest_at(&path).is_none() {
                strays.push(PathBuf::from(name));
            }
        }
        Ok(strays)
    }

    /// The digest that a file has for a name.
    fn digest_at(path: &Path) -> Option<Digest> {
        let name = path.file_name()?.to_str()?;
        let hex = name.strip_suffix(&format!(".{MANIFEST}")).unwrap_or(name);
        let algorithm = if hex.len() == 128 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        format!("{}:{hex}", algorithm.name()).parse().ok().filter(|_| path.is_file())
    }

    /// Whether `path` may be replaced by such a directory: it is one with nothing else in it, it is empty, or it is not
    /// there. Everything in it goes away, so two files of the right names are not enough.
    pub(crate) fn may_replace(path: &Path) -> Result<(), Error> {
        let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(()) };
        let ours = there.is_dir() && (fs::list(path)?.is_empty() || Dir::is_nothing_else(path)?);
        if ours { Ok(()) } else { Err(Error::Occupied(path.to_owned())) }
    }

    /// Whether a directory says that it is such a directory, and each file in it is of the image that it holds.
    fn is_nothing_else(path: &Path) -> Result<bool, Error> {
        let version = fs::read_regular(&path.join(VERSION_FILE), 100).unwrap_or_default();
        if !version.starts_with(VERSION_BEGIN) {
            return Ok(false);
        }
        let Ok(dir) = Dir::open(path) else { return Ok(false) };
        let mut names = BTreeSet::from([MANIFEST.to_owned(), VERSION_FILE.to_owned()]);
        let document = |described: &Descriptor| {
            let bytes = fs::read_regular(&dir.blob_path(&layout::digest_of(described)?), layout::DOCUMENT_LIMIT)?;
            Ok::<_, Error>(bytes)
        };
        // A document that names nothing is JSON of anybody's.
        let mut is_image = false;
        let walked = manifest::walk(&dir.image, &mut |described| document(described), &mut |described| {
            let digest = layout::digest_of(described)?;
            is_image |= described.digest() != dir.image.digest();
            names.extend([digest.hex().to_owned(), format!("{}.{MANIFEST}", digest.hex())]);
            Ok::<(), Error>(())
        });
        let is_known = |file: &PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let is_file = std::fs::symlink_metadata(file).is_ok_and(|found| found.is_file());
            is_file && (names.contains(&*name) || is_signature(&name))
        };
        Ok(walked.is_ok() && is_image && fs::list(path)?.iter().all(is_known))
    }
}

/// Whether a file has a simple signature: containers/image writes `signature-N`, and `HEX.signature-N` for the images of an index.
fn is_signature(name: &str) -> bool {
    let number = name.rsplit_once("signature-").map(|(_, number)| number);
    number.is_some_and(|it| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Writes an image of a layout to a directory, in place of the image that is there. It appears in one step.
///
/// The blobs are hard links to those of the layout where that can be done: it is to be one that goes away.
pub(crate) fn write(layout: &Layout, image: &Descriptor, path: &Path) -> Result<(), Error> {
    Dir::may_replace(path)?;
    let directory = AtomicDir::create(path)?;
    let mut written = BTreeSet::new();
    manifest::walk(image, &mut |described| layout.read_document(described), &mut |described| {
        let digest = layout::digest_of(described)?;
        let document = manifest::is_index(described.media_type()) || manifest::is_manifest(described.media_type());
        let name = match document {
            true if described.digest() == image.digest() => MANIFEST.to_owned(),
            true => format!("{}.{MANIFEST}", digest.hex()),
            false => digest.hex().to_owned(),
        };
        if !written.insert(name.clone()) {
            return Ok(());
        }
        let (from, to) = (layout.blob_path(&digest), directory.path().join(name));
        if std::fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
        }
        Ok::<(), Error>(())
    })?;
    fs::write(&directory.path().join(VERSION_FILE), VERSION.as_bytes())?;
    Ok(directory.finish()?)
}

const MANIFEST: &str = "manifest.json";
const VERSION_FILE: &str = "version";
const VERSION_BEGIN: &[u8] = b"Directory Transport Version: 1.";
const VERSION: &str = "Directory Transport Version: 1.1\n";
