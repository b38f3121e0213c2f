//! Layouts, archives and directories: where images are read from without a network.

pub mod archive;
pub mod dir;
pub mod docker_archive;
pub mod gc;
pub mod inspect;
pub mod layout;
pub(crate) mod members;
pub mod partial;
pub mod place;
pub mod referrers;
pub mod verify;

pub use archive::Archive;
pub use dir::Dir;
pub use docker_archive::DockerArchive;
pub use layout::Layout;
pub use partial::PartialBlob;
pub use place::Place;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};

use crate::digest::Digest;
use crate::fs::{self, PathContext, PathError};
use crate::image::manifest;
use crate::image::store::layout::VerifyingReader;
use crate::reference::ImageRef;

/// Something on the disk with images in it.
#[derive(Debug)]
pub enum Store {
    /// `oci:`
    Layout(Layout),
    /// `oci-archive:`
    Archive(Box<Archive>),
    /// `docker-archive:`
    DockerArchive(Box<DockerArchive>),
    /// `dir:`
    Dir(Box<Dir>),
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of an archive.
    #[error("{0}")]
    Archive(#[from] archive::Error),
    /// Of a layout.
    #[error("{0}")]
    Layout(#[from] layout::Error),
    /// Something on the disk.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A number or a digest for what is to be written.
    #[error("{0}: an image that is written has a name of its own, not a place in a list")]
    Selection(ImageRef),
    /// Another transport.
    #[error("{0}: not on the disk; `haversack copy` it to an oci: layout first")]
    Transport(ImageRef),
}

impl Error {
    /// Whether it is only that there is no image of that name.
    pub fn is_not_found(&self) -> bool {
        let (Error::Layout(error) | Error::Archive(archive::Error::Layout(error))) = self else { return false };
        matches!(error, layout::Error::NotFound { .. })
    }
}

impl Error {
    /// Whether it is only that a blob is not there.
    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Error::Path(error)
            | Error::Layout(layout::Error::Path(error))
            | Error::Archive(archive::Error::Path(error) | archive::Error::Layout(layout::Error::Path(error))) => {
                error.source.kind() == io::ErrorKind::NotFound
            }
            Error::Archive(error) => matches!(error, archive::Error::Missing { .. }),
            _ => false,
        }
    }
}

impl Store {
    /// Opens what a reference names, and finds the image in it.
    pub fn open_image(reference: &ImageRef) -> Result<(Self, Descriptor), Error> {
        let store = Store::open(reference)?;
        let image = store.find(reference.name())?;
        Ok((store, image))
    }

    /// Opens what a reference names: a whole layout or archive, whichever images are in it.
    pub fn open(reference: &ImageRef) -> Result<Self, Error> {
        Ok(match reference {
            ImageRef::Oci { path, .. } => Store::Layout(Layout::open(path)?),
            ImageRef::OciArchive { path, .. } => Store::Archive(Box::new(Archive::open(path)?)),
            ImageRef::DockerArchive { path, .. } => Store::DockerArchive(Box::new(DockerArchive::open(path)?)),
            ImageRef::Dir { path } => Store::Dir(Box::new(Dir::open(path)?)),
            ImageRef::Docker(_) => return Err(Error::Transport(reference.clone())),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Store::Layout(layout) => layout.root(),
            Store::Archive(archive) => archive.path(),
            Store::DockerArchive(archive) => archive.path(),
            Store::Dir(dir) => dir.root(),
        }
    }

    /// What its `index.json` lists.
    pub fn index(&self) -> Result<ImageIndex, Error> {
        Ok(match self {
            Store::Layout(layout) => layout.index()?,
            Store::Archive(archive) => archive.index().clone(),
            Store::DockerArchive(archive) => archive.index(),
            Store::Dir(dir) => dir.index(),
        })
    }

    /// The image of that name; without one, the only image.
    pub fn find(&self, name: Option<&str>) -> Result<Descriptor, Error> {
        Ok(match self {
            Store::Layout(layout) => layout.find(name)?,
            Store::Archive(archive) => archive.find(name)?,
            Store::DockerArchive(archive) => archive.find(name)?,
            Store::Dir(dir) => layout::find(dir.root(), &dir.index(), name)?,
        })
    }

    /// A reader of a blob that ends with an error when size or digest are not as described.
    pub fn open_blob(&self, described: &Descriptor) -> Result<Box<dyn Read + Send>, Error> {
        let digest = layout::digest_of(described).map_err(layout::Error::from)?;
        Ok(Box::new(VerifyingReader::new(self.open_raw(&digest)?, digest, described.size())))
    }

    /// A reader of a blob as it is, whatever its name says.
    pub(crate) fn open_raw(&self, digest: &Digest) -> Result<Box<dyn Read + Send>, Error> {
        Ok(match self {
            Store::Archive(archive) => Box::new(archive.open_raw(digest)?),
            Store::DockerArchive(archive) => archive.open_raw(digest)?,
            Store::Layout(_) | Store::Dir(_) => {
                let path = self.blob_path(digest).expect("these two have files");
                Box::new(fs::open_regular(&path)?)
            }
        })
    }

    /// How large a blob is, where there is one.
    pub(crate) fn blob_size(&self, digest: &Digest) -> Option<u64> {
        match self {
            Store::Archive(archive) => archive.blob_size(digest),
            Store::DockerArchive(archive) => archive.blob_size(digest),
            Store::Layout(_) | Store::Dir(_) => {
                let found = std::fs::symlink_metadata(self.blob_path(digest)?).ok()?;
                found.is_file().then_some(found.len())
            }
        }
    }

    /// The file that is or would be a blob; `None` in archives.
    pub(crate) fn blob_path(&self, digest: &Digest) -> Option<PathBuf> {
        match self {
            Store::Layout(layout) => Some(layout.blob_path(digest)),
            Store::Dir(dir) => Some(dir.blob_path(digest)),
            Store::Archive(_) | Store::DockerArchive(_) => None,
        }
    }

    /// What to call the place of a blob: its file, or the archive that it is in.
    pub(crate) fn place_of(&self, digest: &Digest) -> String {
        match self.blob_path(digest) {
            Some(path) => path.display().to_string(),
            None => format!("{}: {digest}", self.path().display()),
        }
    }

    /// Every blob with its size.
    pub(crate) fn blobs(&self) -> Result<Vec<(Digest, u64)>, Error> {
        match self {
            Store::Layout(layout) => {
                let mut blobs = Vec::new();
                for path in layout.files()? {
                    if let Some(digest) = layout.digest_at(&path) {
                        blobs.push((digest, std::fs::symlink_metadata(&path).at("read", &path)?.len()));
                    }
                }
                Ok(blobs)
            }
            Store::Archive(archive) => Ok(archive.blobs()),
            Store::DockerArchive(archive) => Ok(archive.blobs()),
            Store::Dir(dir) => Ok(dir.blobs()?),
        }
    }

    /// Files that no layout has, and whether they are what a killed writer left.
    pub(crate) fn strays(&self) -> Result<Vec<(PathBuf, bool)>, Error> {
        match self {
            Store::Layout(layout) => Ok(layout.strays()?),
            // `manifest.json` and what else lies beside a layout in an archive does no harm.
            Store::Archive(_) | Store::DockerArchive(_) => Ok(Vec::new()),
            Store::Dir(dir) => Ok(dir.strays()?.into_iter().map(|name| (name, false)).collect()),
        }
    }

    /// Reads a manifest, an index or a configuration: at most 4 MiB, checked, as its very bytes.
    pub fn read_document(&self, described: &Descriptor) -> Result<Vec<u8>, Error> {
        layout::read_document(self.open_blob(described)?, described).map_err(|error| match error {
            layout::ReadError::Io(error) => Err::<(), _>(error).at("read", self.path()).expect_err("it is one").into(),
            layout::ReadError::Other(error) => error.into(),
        })
    }

    /// Copies everything of an image that is not there yet into a layout, what is referred to first. It gets no name.
    pub fn copy_to(&self, image: &Descriptor, layout: &Layout) -> Result<(), Error> {
        manifest::walk(image, &mut |described| self.read_document(described), &mut |described| {
            let digest = layout::digest_of(described).map_err(layout::Error::from)?;
            if layout.holds(&digest, described.size()) {
                return Ok(());
            }
            let mut blob = layout.blob_writer(digest.algorithm())?;
            io::copy(&mut self.open_blob(described)?, &mut blob).at("copy", self.path())?;
            blob.finish_expecting(described)?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture;

    #[test]
    fn an_image_goes_from_layout_to_archive_to_layout_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(&dir.path().join("one"));
        layout.tag(&image, Some("x:1")).unwrap();
        let tar = dir.path().join("x.tar");
        archive::write(&layout, layout.index().unwrap().manifests(), &tar, 0).unwrap();

        let reference = format!("oci-archive:{}:x:1", tar.display()).parse().unwrap();
        let (store, found) = Store::open_image(&reference).unwrap();
        let other = Layout::create(&dir.path().join("two")).unwrap();
        store.copy_to(&found, &other).unwrap();
        other.tag(&found, Some("x:1")).unwrap();
        let files = |layout: &Layout| {
            let blobs = crate::fs::list(&layout.root().join("blobs/sha256")).unwrap();
            let names: Vec<_> = blobs.iter().map(|path| path.file_name().unwrap().to_owned()).collect();
            (names, layout.index().unwrap())
        };
        assert_eq!(files(&layout), files(&other));
    }
}
