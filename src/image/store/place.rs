//! Where images are written to without a network: `oci:`, `oci-archive:`, `docker-archive:` and `dir:`.
//!
//! A layout is written where it is. The other three are put together in a layout that lies beside them, under a name
//! like `.NAME.work.XXXXXX.partial` and with a lock that ends with its process, and appear in one step; what killed
//! processes left there goes away with the next try. An archive that is there keeps its other images.

use oci_spec::image::{Descriptor, ImageIndex};

use crate::compression::Compression;
use crate::fs::{self, AtomicDir, Lock, PathError};
use crate::image::manifest;
use crate::image::store::layout::{self, Fresh, Layout, ref_name};
use crate::image::store::members::compression_of;
use crate::image::store::{Error, Store};
use crate::image::store::{archive, dir};
use crate::reference::ImageRef;

/// A place that is being written to.
pub struct Place {
    reference: ImageRef,
    layout: Layout,
    /// What goes into a directory: there is but one.
    last: Option<Descriptor>,
    /// Goes away when it is dropped.
    beside: Option<AtomicDir>,
    /// Who adds to an archive writes it anew: one at a time, or what the others add would be lost.
    _lock: Option<Lock>,
    /// A layout that was made and stays empty goes away. Behind all else: the lease of the layout must be given back.
    _fresh: Option<Fresh>,
}

impl Place {
    /// Opens a place for writing. What is there and is no such place is an error and left as it is. Waits while another
    /// process writes to the same archive or directory.
    pub fn open(reference: &ImageRef) -> Result<Self, Error> {
        let place = |layout, beside, lock, fresh| Place {
            reference: reference.clone(),
            layout,
            last: None,
            beside,
            _lock: lock,
            _fresh: fresh,
        };
        let Some(path) = reference.path() else { return Err(Error::Transport(reference.clone())) };
        if reference.name().is_some_and(|name| name.starts_with('@')) {
            return Err(Error::Selection(reference.clone()));
        }
        if let ImageRef::Oci { .. } = reference {
            let fresh = Fresh::before(path);
            return Ok(place(Layout::create(path)?, None, None, fresh));
        }
        if let ImageRef::Dir { .. } = reference {
            dir::Dir::may_replace(path)?;
        }
        if !fs::parent(path).is_dir() {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(PathError { action: "write", path: path.to_owned(), source }.into());
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        let lock = Lock::wait(&path.with_file_name(format!(".{}.lock", name.display())))?;
        name.push(".work");
        let beside = AtomicDir::create(&path.with_file_name(name))?;
        let layout = Layout::create(&beside.path().join("layout"))?;
        let archive = matches!(reference, ImageRef::OciArchive { .. } | ImageRef::DockerArchive { .. });
        // An empty file is what `mktemp` makes.
        if archive && std::fs::metadata(path).is_ok_and(|there| there.len() > 0) {
            // It would not be compressed any more.
            if compression_of(path)? != Compression::None {
                return Err(archive::Error::Compressed { path: path.to_owned(), written: true }.into());
            }
            let there = Store::open(reference)?;
            for image in there.index()?.manifests() {
                there.copy_to(image, &layout)?;
                layout.tag(image, ref_name(image))?;
            }
        }
        Ok(place(layout, Some(beside), Some(lock), None))
    }

    /// The layout to write into.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// [`names`] of this place.
    pub fn names(&self, otherwise: &[String]) -> Vec<String> {
        names(&self.reference, otherwise)
    }

    /// Lists an image, which is in the layout with all its parts, under its names; without any, just as there.
    ///
    /// Returns what is listed: `docker-archive:` has no lists of platforms, and takes the image of one that has one.
    pub fn add(&mut self, image: &Descriptor, names: &[String]) -> Result<Descriptor, Error> {
        let mut image = image.clone();
        if let (ImageRef::DockerArchive { path, .. }, true) = (&self.reference, manifest::is_index(image.media_type()))
        {
            let index: ImageIndex =
                layout::parse(image.digest().as_ref(), &self.layout.read_document(&image).map_err(Error::from)?)?;
            let [only] = &index.manifests()[..] else {
                let (path, platforms) = (path.clone(), index.manifests().len());
                return Err(archive::Error::SeveralPlatforms { path, platforms }.into());
            };
            // Its name may have been given to the list.
            self.layout.untag(&image)?;
            image = only.clone();
            image.set_platform(None);
        }
        if names.is_empty() {
            self.layout.tag(&image, None)?;
        }
        for name in names {
            self.layout.tag(&image, Some(name))?;
        }
        self.last = Some(image.clone());
        Ok(image)
    }

    /// Makes what was added appear. `mtime` is what the members of an archive get, in seconds since 1970.
    pub fn finish(self, mtime: i64) -> Result<(), Error> {
        let Some(last) = &self.last else { return Ok(()) };
        match &self.reference {
            ImageRef::OciArchive { path, .. } | ImageRef::DockerArchive { path, .. } => {
                archive::write(&self.layout, self.layout.index()?.manifests(), path, mtime)?;
            }
            ImageRef::Dir { path } => dir::write(&self.layout, last, path)?,
            ImageRef::Oci { .. } | ImageRef::Docker(_) => {}
        }
        drop(self.beside);
        Ok(())
    }

    /// A directory for what is needed on the way, on the same file system; it goes away with its owner.
    pub fn scratch(&self) -> Result<AtomicDir, Error> {
        Ok(AtomicDir::create(&self.layout.root().join("build"))?)
    }

    /// Whether what refers to an image can be here, too.
    pub fn takes_referrers(&self) -> bool {
        !matches!(self.reference, ImageRef::Dir { .. })
    }
}

/// The names that an image gets in a place: those of the reference, else `otherwise`; none in `dir:`. Docker's have a
/// tag.
pub fn names(reference: &ImageRef, otherwise: &[String]) -> Vec<String> {
    match reference {
        ImageRef::Docker(_) | ImageRef::Dir { .. } => Vec::new(),
        ImageRef::Oci { name, .. } | ImageRef::OciArchive { name, .. } => {
            name.as_ref().map_or_else(|| otherwise.to_vec(), |name| vec![name.clone()])
        }
        ImageRef::DockerArchive { name: None, .. } => otherwise.to_vec(),
        ImageRef::DockerArchive { name: Some(names), .. } => names.split(',').map(tagged).collect(),
    }
}

/// Docker has no names without a tag.
fn tagged(name: &str) -> String {
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture;
    use crate::image::store::verify::{VerifyOptions, verify};
    use crate::progress::Progress;

    fn put(reference: &str, from: &Layout, image: &Descriptor) -> Result<(), Error> {
        let mut place = Place::open(&reference.parse().unwrap())?;
        Store::Layout(from.clone()).copy_to(image, place.layout())?;
        let names = place.names(&["x:1".to_owned()]);
        place.add(image, &names)?;
        place.finish(0)
    }

    #[test]
    fn every_place_gives_back_the_image_with_its_digest_and_nothing_is_left_beside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (layout, image) = fixture::image(&dir.path().join("from"));
        for place in ["oci", "oci-archive", "docker-archive", "dir"] {
            let reference = format!("{place}:{}", at(place));
            for _ in 0..2 {
                put(&reference, &layout, &image).unwrap();
            }
            let (store, found) = Store::open_image(&reference.parse().unwrap()).unwrap();
            assert_eq!(found.digest(), image.digest(), "{place}");
            let report = verify(&store, None, &VerifyOptions::default(), &Progress::off()).unwrap();
            assert_eq!((report.images, report.blobs, report.findings), (1, 3, Vec::new()), "{place}");
        }
        let left: Vec<_> =
            fs::list(dir.path()).unwrap().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(left, ["dir", "docker-archive", "from", "oci", "oci-archive"]);
    }

    #[test]
    fn a_layout_that_was_made_and_that_nothing_came_into_goes_away_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let open = |name: &str| Place::open(&ImageRef::Oci { path: at(name), name: None }).unwrap();
        let (from, image) = fixture::image(&at("from"));
        std::fs::create_dir(at("mine")).unwrap();
        // Not those that were there, that got something, or that somebody else writes to.
        drop(Layout::create(&at("there")).unwrap());
        Store::Layout(from).copy_to(&image, open("blobs").layout()).unwrap();
        drop([open("new"), open("mine"), open("a/b/new"), open("there")]);
        let other = open("both");
        drop(open("both"));
        let there = |name: &str| (at(name).exists(), Layout::open(&at(name)).is_ok());
        for (name, expected) in [
            ("new", (false, false)),
            ("mine", (true, false)),
            ("a", (false, false)),
            ("there", (true, true)),
            ("blobs", (true, true)),
            ("both", (true, true)),
        ] {
            assert_eq!(there(name), expected, "{name}");
        }
        assert_eq!(fs::list(&at("mine")).unwrap(), Vec::<std::path::PathBuf>::new());
        drop(other);
    }

    #[test]
    fn several_writers_of_one_archive_lose_none_of_their_images() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, image) = fixture::image(&dir.path().join("from"));
        for transport in ["oci-archive", "docker-archive"] {
            let reference = format!("{transport}:{}", dir.path().join(transport).display());
            std::thread::scope(|scope| {
                for number in 0..4 {
                    let (reference, layout, image) = (&reference, &layout, &image);
                    scope.spawn(move || put(&format!("{reference}:a:{number}"), layout, image).unwrap());
                }
            });
            let store = Store::open(&reference.parse().unwrap()).unwrap();
            for number in 0..4 {
                assert_eq!(store.find(Some(&format!("a:{number}"))).unwrap().digest(), image.digest(), "{transport}");
            }
        }
    }

    #[test]
    fn an_archive_keeps_its_other_images_and_what_is_no_such_place_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (layout, image) = fixture::image(&dir.path().join("from"));
        let index = layout::index_of(vec![image.clone(), image.clone()]);
        let index = layout.write_blob(oci_spec::image::MediaType::ImageIndex, &layout::canonical(&index)).unwrap();
        let archive = format!("oci-archive:{}", at("x.tar"));
        put(&format!("{archive}:a:1"), &layout, &image).unwrap();
        put(&format!("{archive}:b:1"), &layout, &index).unwrap();
        let store = Store::open(&archive.parse().unwrap()).unwrap();
        for (name, expected) in [("a:1", &image), ("b:1", &index), ("@1", &index), (index.digest().as_ref(), &index)] {
            assert_eq!(store.find(Some(name)).unwrap().digest(), expected.digest(), "{name}");
        }
        let error = put(&format!("docker-archive:{}:a", at("y.tar")), &layout, &index).unwrap_err().to_string();
        let expected = format!("{}: a docker archive has no lists of platforms, and this image has 2", at("y.tar"));
        assert_eq!(error, expected);
        std::fs::write(at("mine"), "x").unwrap();
        std::fs::create_dir(at("home")).unwrap();
        std::fs::write(at("home/mine"), "x").unwrap();
        for place in ["oci-archive:mine", "docker-archive:mine", "dir:mine", "dir:home", "oci:home"] {
            let (transport, name) = place.split_once(':').unwrap();
            put(&format!("{transport}:{}", at(name)), &layout, &image).unwrap_err();
        }
        assert_eq!(std::fs::read_to_string(at("mine")).unwrap(), "x");
        let left: Vec<_> =
            fs::list(dir.path()).unwrap().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(left, ["from", "home", "mine", "x.tar"]);
    }
}
