//! Files out of an image: its layers, each read where it is, seen as the one file system that they make.
//!
//! A first look reads the names in all layers ([`RootFs`]). After that, a file is read out of the layer that has its last
//! version, or all of them go as one tar stream to `mksquashfs`, which needs neither root nor the unpacked files.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use oci_spec::image::{Descriptor, ImageIndex};
use tar::{EntryType, Header};

use crate::compression;
use crate::fs::{self, PathContext, PathError};
use crate::image::layer::pax::Meta;
use crate::image::layer::rootfs::{Kind, Member, RootFs, XATTR};
use crate::image::manifest::{self, Manifest};
use crate::image::name::Name;
use crate::image::store::layout;
use crate::image::{Platform, Store, store};
use crate::tarball::{self, Guarded};

/// An image's file system.
pub struct ImageFiles<'a> {
    store: &'a Store,
    layers: Vec<Descriptor>,
    files: RootFs,
}

/// Why files cannot be had of an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// A layer, or a file that is written.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A layer that is no tar.
    #[error("layer {layer}: cannot be read")]
    Layer {
        /// Its digest.
        layer: String,
        /// Why not.
        source: io::Error,
    },
    /// There is no image for the architecture.
    #[error("the image has no variant for linux/{architecture}")]
    NoPlatform {
        /// `amd64`, `arm64`
        architecture: String,
    },
    /// There is no such file.
    #[error("the image has no file {}{}", path.display(), near(similar))]
    NoFile {
        /// Its path in the image.
        path: PathBuf,
        /// Files in other places whose names begin with the same word.
        similar: Vec<String>,
    },
    /// A hard link to a file that a later layer replaced.
    #[error("{}: a hard link to what a later layer replaced cannot be taken along", path.display())]
    LostLink {
        /// Its path in the image.
        path: PathBuf,
    },
    /// `mksquashfs` is not installed.
    #[error("mksquashfs is not installed")]
    NoMksquashfs,
    /// `mksquashfs` failed.
    #[error("mksquashfs: {0}")]
    Mksquashfs(String),
}

impl<'a> ImageFiles<'a> {
    /// Looks through the layers of an image, of an index those for `architecture` (`amd64`).
    pub fn open(store: &'a Store, image: &Descriptor, architecture: &str) -> Result<Self, Error> {
        let mut image = image.clone();
        while manifest::is_index(image.media_type()) {
            let index: ImageIndex = parse(store, &image)?;
            let wanted = Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None };
            let is_wanted = |listed: &&Descriptor| match listed.platform() {
                Some(platform) => wanted.accepts(&Platform::from(platform)),
                None => index.manifests().len() == 1,
            };
            let found = index.manifests().iter().find(is_wanted).cloned();
            image = found.ok_or_else(|| Error::NoPlatform { architecture: architecture.to_owned() })?;
        }
        let bytes = store.read_document(&image)?;
        let document = Manifest::parse(image.digest().as_ref(), &bytes).map_err(store::Error::from)?;
        let mut image = ImageFiles { store, layers: document.layers().to_vec(), files: RootFs::default() };
        for layer in 0..image.layers.len() {
            let content = image.open_layer(layer)?;
            image.files.apply(content).map_err(|source| image.unreadable(layer, source))?;
        }
        Ok(image)
    }

    /// Files of the image whose names begin like that of a path, a few.
    fn similar(&self, path: &Path) -> Vec<String> {
        let Some(wanted) = path.file_name() else { return Vec::new() };
        let files = self.files.members().filter(|(_, member)| matches!(member.kind, Kind::File | Kind::HardLink(_)));
        let similar = files.filter(|(name, _)| name.last().starts_with(wanted.as_encoded_bytes()));
        similar.take(SIMILAR).map(|(name, _)| format!("/{}", name.path().display())).collect()
    }

    /// Copies a file out of the image; links are followed inside it.
    pub fn extract(&self, path: &Path, to: &Path) -> Result<(), Error> {
        let missing = || Error::NoFile { path: path.to_owned(), similar: self.similar(path) };
        let found = self.files.resolve(path).ok_or_else(missing)?;
        let member = match self.files.get(&found).ok_or_else(missing)? {
            Member { kind: Kind::HardLink(target), .. } => self.files.get(target).ok_or_else(missing)?,
            member => member,
        };
        if !matches!(member.kind, Kind::File) {
            return Err(missing());
        }
        let mut file = fs::create_new(to)?;
        self.read_layer(member.layer, |entry, data| {
            if entry != member.entry {
                return Ok(true);
            }
            io::copy(data, &mut file)?;
            Ok(false)
        })?;
        file.flush().at("write", to)?;
        Ok(())
    }

    /// Makes a squashfs of everything, with `mksquashfs` of squashfs-tools 4.5 or later.
    pub fn squashfs(&self, to: &Path) -> Result<(), Error> {
        let mut command = Command::new("mksquashfs");
        command.arg("-").arg(to).args(["-tar", "-noappend", "-no-progress", "-quiet"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::NoMksquashfs),
            result => result.map_err(|error| Error::Mksquashfs(error.to_string()))?,
        };
        let stdin = child.stdin.take().expect("it is piped");
        let written = self.write_tar(stdin);
        let output = child.wait_with_output().map_err(|error| Error::Mksquashfs(error.to_string()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Mksquashfs(if said.is_empty() { output.status.to_string() } else { said }));
        }
        written
    }

    /// One tar of everything: directories first, so that none comes after what is in it.
    fn write_tar(&self, to: impl Write) -> Result<(), Error> {
        let stream = Path::new("the tar stream");
        let mut tar = tar::Builder::new(to);
        for (name, member) in self.files.members() {
            if let Kind::Directory(Some(meta)) = &member.kind {
                append_attributes(&mut tar, &of_directory(meta)).at("write", stream)?;
                let mut header = header(meta);
                tar.append_data(&mut header, name.path(), io::empty()).at("write", stream)?;
            }
        }
        for layer in 0..self.layers.len() {
            // Directories are there already, and those that an entry implies have its number.
            let is_wanted = |member: &Member| member.layer == layer && !matches!(member.kind, Kind::Directory(_));
            let of_layer = self.files.members().filter(|(_, member)| is_wanted(member));
            let wanted: HashMap<usize, (&Name, &Kind)> =
                of_layer.map(|(name, member)| (member.entry, (name, &member.kind))).collect();
            let mut lost = None;
            self.read_layer(layer, |entry, data| {
                let Some((name, kind)) = wanted.get(&entry) else { return Ok(true) };
                let path = name.path();
                let mut header = data.header().clone();
                append_attributes(&mut tar, &attributes(data)?)?;
                match kind {
                    Kind::Directory(_) => {}
                    Kind::Symlink(target) => {
                        header.set_entry_type(EntryType::Symlink);
                        tar.append_link(&mut header, &path, target)?;
                    }
                    Kind::HardLink(target) => match self.files.get(target) {
                        Some(of) if of.layer == layer && matches!(of.kind, Kind::File) => {
                            tar.append_link(&mut header, &path, target.path())?;
                        }
                        _ => {
                            lost = Some(path);
                            return Ok(false);
                        }
                    },
                    Kind::File => {
                        // Sparse ones, too: they are read with their holes filled.
                        header.set_entry_type(EntryType::Regular);
                        header.set_size(data.size());
                        tar.append_data(&mut header, &path, data)?;
                    }
                    Kind::Other => tar.append_data(&mut header, &path, io::empty())?,
                }
                Ok(true)
            })?;
            if let Some(path) = lost {
                return Err(Error::LostLink { path });
            }
        }
        tar.into_inner().and_then(|mut to| to.flush()).at("write", stream)?;
        Ok(())
    }

    /// Hands each entry of a layer with its number to `visit`, until that says false.
    fn read_layer(
        &self,
        layer: usize,
        mut visit: impl FnMut(usize, &mut tar::Entry<'_, Content<'_>>) -> io::Result<bool>,
    ) -> Result<(), Error> {
        let failed = |source| self.unreadable(layer, source);
        let mut archive = tarball::open(self.open_layer(layer)?);
        for (number, entry) in archive.entries().map_err(failed)?.enumerate() {
            let mut entry = entry.map_err(failed)?;
            if !visit(number, &mut entry).map_err(failed)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The tar of a layer.
    fn open_layer(&self, layer: usize) -> Result<Box<dyn Read + Send + 'a>, Error> {
        let blob = BufReader::with_capacity(128 << 10, self.store.open_blob(&self.layers[layer])?);
        let (_, content) = compression::decoder(blob).map_err(|source| self.unreadable(layer, source))?;
        Ok(content)
    }

    fn unreadable(&self, layer: usize, source: io::Error) -> Error {
        Error::Layer { layer: self.layers[layer].digest().to_string(), source }
    }
}

fn parse<T: serde::de::DeserializeOwned>(store: &Store, described: &Descriptor) -> Result<T, Error> {
    let bytes = store.read_document(described)?;
    Ok(layout::parse(described.digest().as_ref(), &bytes).map_err(store::Error::from)?)
}

fn header(meta: &Meta) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(meta.mode);
    header.set_uid(meta.uid);
    header.set_gid(meta.gid);
    header.set_mtime(meta.mtime.try_into().unwrap_or(0));
    header.set_size(0);
    header
}

fn of_directory(meta: &Meta) -> Attributes {
    meta.xattrs.iter().map(|(name, value)| (format!("{XATTR}{name}"), value.clone())).collect()
}

/// What there is in place of what is not.
fn near(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!("; it has {}", similar.join(", ")) }
}

/// So many files are named in place of one that is not there.
const SIMILAR: usize = 3;

/// A layer without its compression.
type Content<'a> = Guarded<Box<dyn Read + Send + 'a>>;

/// Extended attributes, as pax writes them.
type Attributes = Vec<(String, Vec<u8>)>;

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Attributes> {
    let mut attributes = Attributes::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        match extension.key() {
            Ok(key) if key.starts_with(XATTR) => {
                attributes.push((key.to_owned(), extension.value_bytes().to_vec()));
            }
            _ => {}
        }
    }
    Ok(attributes)
}

fn append_attributes(tar: &mut tar::Builder<impl Write>, attributes: &Attributes) -> io::Result<()> {
    if attributes.is_empty() {
        return Ok(());
    }
    tar.append_pax_extensions(attributes.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
}
