//! Files out of an image: its layers, each read where it is, seen as the one file system that they make.
//!
//! A first look reads the names in all layers, from the lowest up, with the whiteouts of the image specification
//! (`layer.md#whiteouts`): `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` everything in its directory. After that,
//! a file is read out of the layer that has its last version, or all of them go as one tar stream to `mksquashfs`, which
//! needs neither root nor the unpacked files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, Read, Write};
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use tar::{EntryType, Header};

use crate::compression;
use crate::fs::{self, PathContext, PathError, join_inside};
use crate::image::store::layout;
use crate::image::{Platform, Store, manifest, store};
use crate::tarball::{self, Guarded};

/// An image's file system.
pub struct ImageFiles<'a> {
    store: &'a Store,
    layers: Vec<Descriptor>,
    members: BTreeMap<PathBuf, Member>,
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
    #[error("the image has no file {}", path.display())]
    NoFile {
        /// Its path in the image.
        path: PathBuf,
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

/// The last version of a path.
struct Member {
    layer: usize,
    /// Which entry of the layer.
    entry: usize,
    kind: Kind,
}

enum Kind {
    File,
    /// With what else is known of it, since directories go first.
    Directory(Box<(Header, Attributes)>),
    Symlink(PathBuf),
    HardLink(PathBuf),
    Other,
}

/// A layer without its compression.
type Content<'a> = Guarded<Box<dyn Read + Send + 'a>>;

/// Extended attributes, as pax writes them.
type Attributes = Vec<(String, Vec<u8>)>;

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
        let document: ImageManifest = parse(store, &image)?;
        let mut files = ImageFiles { store, layers: document.layers().clone(), members: BTreeMap::new() };
        for layer in 0..files.layers.len() {
            let mut members = std::mem::take(&mut files.members);
            let mut hidden = BTreeSet::new();
            files.read_layer(layer, |entry, path, data| {
                note(&mut members, &mut hidden, layer, entry, &path, data)?;
                Ok(true)
            })?;
            files.members = members;
        }
        Ok(files)
    }

    /// Copies a file out of the image; links are followed inside it.
    pub fn extract(&self, path: &Path, to: &Path) -> Result<(), Error> {
        let missing = || Error::NoFile { path: path.to_owned() };
        let found = self.resolve(path).ok_or_else(missing)?;
        let member = match &self.members[&found] {
            Member { kind: Kind::HardLink(target), .. } => self.members.get(target).ok_or_else(missing)?,
            member => member,
        };
        if !matches!(member.kind, Kind::File) {
            return Err(missing());
        }
        let mut file = fs::create_new(to)?;
        self.read_layer(member.layer, |entry, _, data| {
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
        for (path, member) in &self.members {
            if let Kind::Directory(known) = &member.kind {
                let (mut header, attributes) = (known.0.clone(), &known.1);
                append_attributes(&mut tar, attributes).at("write", stream)?;
                tar.append_data(&mut header, path, io::empty()).at("write", stream)?;
            }
        }
        for layer in 0..self.layers.len() {
            let mut lost = None;
            self.read_layer(layer, |entry, path, data| {
                let is_last = |member: &&Member| member.layer == layer && member.entry == entry;
                let Some(member) = self.members.get(&path).filter(is_last) else { return Ok(true) };
                let mut header = data.header().clone();
                append_attributes(&mut tar, &attributes(data)?)?;
                match &member.kind {
                    Kind::Directory(_) => {}
                    Kind::Symlink(target) => tar.append_link(&mut header, &path, target)?,
                    Kind::HardLink(target) => match self.members.get(target) {
                        Some(of) if of.layer == layer && matches!(of.kind, Kind::File) => {
                            tar.append_link(&mut header, &path, target)?;
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

    /// Where a path leads after all links on the way.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut left: Vec<PathBuf> = vec![path.to_owned()];
        let mut at = PathBuf::new();
        let mut links = 0;
        while let Some(next) = left.pop() {
            let mut parts = next.components();
            let Some(part) = parts.next() else { continue };
            left.push(parts.as_path().to_owned());
            match part {
                Component::RootDir => at = PathBuf::new(),
                Component::ParentDir => {
                    at.pop();
                }
                Component::Normal(name) => {
                    at.push(name);
                    if let Some(Member { kind: Kind::Symlink(target), .. }) = self.members.get(&at) {
                        links += 1;
                        if links > MOST_LINKS {
                            return None;
                        }
                        at.pop();
                        left.push(target.clone());
                    }
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        self.members.contains_key(&at).then_some(at)
    }

    /// Hands each entry of a layer with its number and normal path to `visit`, until that says false.
    fn read_layer(
        &self,
        layer: usize,
        mut visit: impl FnMut(usize, PathBuf, &mut tar::Entry<'_, Content<'_>>) -> io::Result<bool>,
    ) -> Result<(), Error> {
        let described = &self.layers[layer];
        let failed = |source| Error::Layer { layer: described.digest().to_string(), source };
        let blob = BufReader::with_capacity(128 << 10, self.store.open_blob(described)?);
        let (_, content) = compression::decoder(blob).map_err(failed)?;
        let mut archive = tarball::open(content);
        for (number, entry) in archive.entries().map_err(failed)?.enumerate() {
            let mut entry = entry.map_err(failed)?;
            let name = entry.path().map_err(failed)?.into_owned();
            // `./` and names that lead out of it are nothing in it.
            let Ok(path) = join_inside(Path::new(""), &name) else { continue };
            if !visit(number, path, &mut entry).map_err(failed)? {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn parse<T: serde::de::DeserializeOwned>(store: &Store, described: &Descriptor) -> Result<T, Error> {
    let bytes = store.read_document(described)?;
    Ok(layout::parse(described.digest().as_ref(), &bytes).map_err(store::Error::from)?)
}

/// Notes an entry of a layer over those of the layers below.
fn note<R: Read>(
    members: &mut BTreeMap<PathBuf, Member>,
    hidden: &mut BTreeSet<PathBuf>,
    layer: usize,
    entry: usize,
    path: &Path,
    data: &mut tar::Entry<'_, R>,
) -> io::Result<()> {
    let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
    if let Some(whiteout) = name.as_encoded_bytes().strip_prefix(b".wh.") {
        // Each once for a layer: what is below it and of this layer stays, and would be looked at again.
        if !hidden.insert(path.to_owned()) {
            return Ok(());
        }
        let is_opaque = whiteout == b".wh..opq";
        let gone = if is_opaque { parent.to_owned() } else { parent.join(String::from_utf8_lossy(whiteout).as_ref()) };
        remove_below(members, &gone, |path, member| member.layer != layer && !(is_opaque && *path == gone));
        return Ok(());
    }
    let target = || -> io::Result<PathBuf> { Ok(data.link_name()?.unwrap_or_default().into_owned()) };
    let kind = match data.header().entry_type() {
        EntryType::Directory => {
            let header = data.header().clone();
            Kind::Directory(Box::new((header, attributes(data)?)))
        }
        EntryType::Symlink => Kind::Symlink(target()?),
        EntryType::Link => Kind::HardLink(join_inside(Path::new(""), &target()?).unwrap_or_default()),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        _ => Kind::Other,
    };
    // What was a directory and is none any more has nothing in it.
    let was_directory = matches!(members.get(path), Some(Member { kind: Kind::Directory(_), .. }));
    if was_directory && !matches!(kind, Kind::Directory(_)) {
        remove_below(members, path, |_, _| true);
    }
    members.insert(path.to_owned(), Member { layer, entry, kind });
    Ok(())
}

/// Takes out what is at or below a path, as far as `is_gone` says so.
fn remove_below(members: &mut BTreeMap<PathBuf, Member>, path: &Path, is_gone: impl Fn(&PathBuf, &Member) -> bool) {
    // Paths are sorted by their parts: what is below one stands right behind it.
    let below = members
        .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
        .take_while(|(member, _)| member.starts_with(path));
    let gone: Vec<PathBuf> =
        below.filter(|(path, member)| is_gone(path, member)).map(|(path, _)| path.clone()).collect();
    for path in gone {
        members.remove(&path);
    }
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Attributes> {
    let mut attributes = Attributes::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        match extension.key() {
            Ok(key) if key.starts_with("SCHILY.xattr.") => {
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

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;
