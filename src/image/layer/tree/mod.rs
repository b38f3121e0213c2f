//! What a layer will hold, sorted, before a byte of it is written.
//!
//! A tree is names and metadata in memory and contents on the disk. It is what `--explain` shows and what is written.

mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

pub use self::disk::Overrides;
use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::fs::{self, OutsideError, PathContext, PathError, Slice};
use crate::image::layer::pax::{Meta, TarWriter};
use crate::image::layer::sparse::SparseReader;
use crate::image::layer::{Layer, LayerOptions, LayerWriter};
use crate::image::name::Name;
use crate::progress::Task;

/// Entries of a layer by name, relative to the image's root. Parents sort before what is in them, and are directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<Name, Node>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970; `None` for what is made here and takes the image's own time.
    pub mtime: Option<i64>,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file with its content here.
    Bytes(Vec<u8>),
    /// A file with its content on the disk.
    File {
        /// Where.
        source: PathBuf,
        /// How many bytes.
        size: u64,
    },
    /// A file with its content in a spool.
    Slice(Slice),
    /// A symbolic link.
    Symlink(PathBuf),
    /// Another name for a file of the same tree that sorts before it.
    HardLink(PathBuf),
    /// Removes what a layer below has under this name.
    Whiteout,
}

/// Why something cannot be in a tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that leaves the image's root.
    #[error("`{}` is not a path inside the image", .0.name)]
    Outside(#[from] OutsideError),
    /// A name below something that is no directory.
    #[error("/{}: /{} is not a directory", path.display(), above.display())]
    NotADirectory {
        /// The name.
        path: PathBuf,
        /// What stands in its way.
        above: PathBuf,
    },
    /// A name that means something else in a layer (image-spec, `layer.md#whiteouts`).
    #[error("/{}: a name with .wh. before it removes what a layer below has", .0.display())]
    Reserved(PathBuf),
    /// Sockets, pipes and devices.
    #[error("{}: neither a file, a directory nor a link, and cannot be in an image", .0.display())]
    OddFile(PathBuf),
    /// A hard link whose file was replaced by something else.
    #[error("/{}: the file it is a link to, /{}, is not in the layer", path.display(), target.display())]
    LostTarget {
        /// The link.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },
    /// Two packages have different files under one name.
    #[error("{package}: /{} is in another package with other content", path.display())]
    Clash {
        /// The name.
        path: PathBuf,
        /// The second package.
        package: String,
    },
    /// Something on the disk.
    #[error("{0}")]
    Path(#[from] PathError),
}

impl Node {
    /// An entry of root's, with the image's own time and no attributes.
    pub fn new(kind: Kind, mode: u32) -> Self {
        Node { kind, mode, uid: 0, gid: 0, mtime: None, xattrs: BTreeMap::new() }
    }

    /// Bytes of content; 0 for what has none.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.len() as u64,
            Kind::File { size, .. } => *size,
            Kind::Slice(slice) => slice.size(),
            _ => 0,
        }
    }
}

impl Tree {
    /// Adds an entry under an absolute name, in place of one of that name.
    pub fn insert(&mut self, dest: &str, node: Node) -> Result<(), Error> {
        self.put(Name::new(&relative(dest)?), node)
    }

    /// Adds an entry under a name relative to the root, in place of one of that name.
    pub fn add(&mut self, path: &Path, node: Node) -> Result<(), Error> {
        self.put(Name::new(path), node)
    }

    /// Adds what is in a package under an absolute name, beside what other packages put there.
    ///
    /// Packages share directories, links and files that are the same; a file with other content is an error.
    pub fn add_package(&mut self, package: &Tree, dest: &str, name: &str) -> Result<(), Error> {
        let root = if dest.bytes().all(|b| b == b'/') { PathBuf::new() } else { relative(dest)? };
        for (path, package_node) in package.nodes() {
            let path = root.join(path);
            let mut node = package_node.clone();
            if let Kind::HardLink(target) = &mut node.kind {
                *target = root.join(&*target);
            }
            let name_of = Name::new(&path);
            if let Some(there) = self.nodes.get(&name_of) {
                // Hard links are by their contents what files are; what is there may have more names.
                if let (Some(ours), Some(theirs)) = (self.slice(there), package.slice(package_node))
                    && ours.is_same(theirs).at("compare", &path)?
                {
                    continue;
                }
                if there.kind != node.kind {
                    return Err(Error::Clash { path, package: name.to_owned() });
                }
            }
            self.put(name_of, node)?;
        }
        Ok(())
    }

    /// The content of a file, of at most `limit` bytes; `None` where there is none.
    pub fn content(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
        let kind = |path: &Path| self.nodes.get(&Name::new(path)).map(|node| &node.kind);
        let found = match kind(path) {
            Some(Kind::HardLink(target)) => kind(target),
            found => found,
        };
        match found {
            Some(Kind::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(Kind::File { source, .. }) => fs::read(source, limit).map(Some),
            Some(Kind::Slice(slice)) => fs::read_limited(slice.reader(), limit).at("read", path).map(Some),
            _ => Ok(None),
        }
    }

    /// Adds the entries of another tree, in place of those of the same names.
    pub fn merge(&mut self, other: Tree) -> Result<(), Error> {
        other.nodes.into_iter().try_for_each(|(name, node)| self.put(name, node))
    }

    /// Gives what has no time of its own that of the youngest entry that has one: the layer is the same in every image.
    pub fn settle_times(&mut self) {
        let youngest = self.youngest().unwrap_or(0);
        for node in self.nodes.values_mut() {
            node.mtime.get_or_insert(youngest);
        }
    }

    /// Lets everybody read files and enter directories.
    pub fn make_readable(&mut self) {
        for node in self.nodes.values_mut() {
            node.mode |= if node.kind == Kind::Directory { 0o555 } else { 0o444 };
        }
    }

    /// Whether nothing in it takes the image's time.
    pub(crate) fn has_own_times(&self) -> bool {
        self.nodes.values().all(|node| node.mtime.is_some())
    }

    /// Adds directories that are needed and neither here nor in `present`; returns all that are here then.
    pub fn imply_directories(&mut self, present: &BTreeSet<Name>) -> BTreeSet<Name> {
        let mut implied = BTreeSet::new();
        for name in self.nodes.keys() {
            // What one that is here lies in is seen to when its turn comes.
            let missing = name.ancestors().take_while(|above| !self.nodes.contains_key(*above));
            implied.extend(missing.filter(|above| !present.contains(*above)).map(Name::from));
        }
        for name in implied {
            self.nodes.insert(name, Node::new(Kind::Directory, 0o755));
        }
        let directories = self.nodes.iter().filter(|(_, node)| node.kind == Kind::Directory);
        directories.map(|(name, _)| name.clone()).collect()
    }

    /// The entries with their names, relative to the root, in the order they are written.
    pub fn nodes(&self) -> impl Iterator<Item = (PathBuf, &Node)> {
        self.nodes.iter().map(|(name, node)| (name.path(), node))
    }

    /// Bytes of content of all entries.
    pub fn size(&self) -> u64 {
        self.nodes.values().map(Node::size).sum()
    }

    /// The time of the youngest thing that came from the disk.
    pub fn youngest(&self) -> Option<i64> {
        self.nodes.values().filter_map(|node| node.mtime).max()
    }

    /// Writes the layer. Times after `clamp` become `clamp`; what has no time of its own gets `created`.
    pub fn write<W: Write>(
        &self,
        inner: W,
        options: &LayerOptions,
        created: i64,
        clamp: Option<i64>,
        task: &Task,
    ) -> Result<(Layer, W), Error> {
        let mut layer = LayerWriter::new(inner, options).at("start", OUT)?;
        self.write_entries(&mut layer, created, clamp, task)?;
        layer.finish().at("finish", OUT).map_err(Into::into)
    }

    /// The digest that the uncompressed layer would have.
    pub fn diff_id(&self, created: i64, clamp: Option<i64>, task: &Task) -> Result<Digest, Error> {
        let mut tar = TarWriter::new(HashingWriter::new(io::sink(), Algorithm::Sha256));
        self.write_entries(&mut tar, created, clamp, task)?;
        Ok(tar.finish().at("finish", OUT)?.finish().0)
    }

    fn write_entries<W: Write>(
        &self,
        layer: &mut TarWriter<W>,
        created: i64,
        clamp: Option<i64>,
        task: &Task,
    ) -> Result<(), Error> {
        for (path, node) in self.nodes() {
            let path = &path;
            let mtime = node.mtime.map_or(created, |mtime| clamp.map_or(mtime, |clamp| mtime.min(clamp)));
            let meta = Meta { mode: node.mode, uid: node.uid, gid: node.gid, mtime, xattrs: node.xattrs.clone() };
            match &node.kind {
                Kind::Directory => layer.directory(path, &meta).at("write", OUT)?,
                Kind::Bytes(bytes) => {
                    layer.file(path, &meta, bytes.len() as u64, &bytes[..]).at("write", OUT)?;
                }
                Kind::File { source, size } => {
                    let file = SparseReader::new(crate::fs::open_file(source)?).at("open", source)?;
                    layer.file(path, &meta, *size, file).at("pack", source)?;
                }
                Kind::Slice(slice) => layer.file(path, &meta, slice.size(), slice.reader()).at("pack", path)?,
                Kind::Symlink(target) => layer.symlink(path, &meta, target).at("write", OUT)?,
                Kind::HardLink(target) => {
                    if !matches!(
                        self.nodes.get(&Name::new(target)),
                        Some(Node { kind: Kind::File { .. } | Kind::Slice(_), .. })
                    ) {
                        return Err(Error::LostTarget { path: path.clone(), target: target.clone() });
                    }
                    layer.hard_link(path, &meta, target).at("write", OUT)?;
                }
                Kind::Whiteout => layer.whiteout(path, mtime).at("write", OUT)?,
            }
            task.add(node.size());
        }
        Ok(())
    }

    /// The content of a file in a spool, also under its other names.
    fn slice<'a>(&'a self, node: &'a Node) -> Option<&'a Slice> {
        match &node.kind {
            Kind::Slice(slice) => Some(slice),
            Kind::HardLink(target) => match &self.nodes.get(&Name::new(target))?.kind {
                Kind::Slice(slice) => Some(slice),
                _ => None,
            },
            _ => None,
        }
    }

    fn put(&mut self, name: Name, node: Node) -> Result<(), Error> {
        let not_a_directory = |above: &Name, name: &Name| {
            let (above, path) = (above.path(), name.path());
            Err(Error::NotADirectory { above, path })
        };
        // What a directory that is here lies in was looked at when it came.
        let nearest = name.ancestors().find_map(|above| self.nodes.get_key_value(above));
        if let Some((above, _)) = nearest.filter(|(_, node)| node.kind != Kind::Directory) {
            return not_a_directory(above, &name);
        }
        if !matches!(node.kind, Kind::Directory | Kind::Whiteout) {
            if name.last().starts_with(b".wh.") {
                return Err(Error::Reserved(name.path()));
            }
            // What is in a directory that is only implied so far counts, too.
            let next = self.nodes.range::<Name, _>((Bound::Excluded(&name), Bound::Unbounded)).next();
            if let Some((inside, _)) = next.filter(|(next, _)| next.is_in(&name)) {
                return not_a_directory(&name, inside);
            }
        }
        self.nodes.insert(name, node);
        Ok(())
    }
}

/// A name in the image without its leading slash.
fn relative(dest: &str) -> Result<PathBuf, OutsideError> {
    fs::join_inside(Path::new(""), Path::new(dest.trim_start_matches('/')))
}

/// For errors of what has no name yet.
const OUT: &str = "the layer";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::compression::Compression;
    use crate::progress::{Progress, Unit};

    const PLAIN: LayerOptions = LayerOptions { compression: Compression::None, level: None };

    fn listing(tree: &Tree, created: i64, clamp: Option<i64>) -> Vec<String> {
        let task = Progress::off().task("x", Unit::Bytes, None);
        let (_, bytes) = tree.write(Vec::new(), &PLAIN, created, clamp, &task).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let lines = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            let link = entry.link_name().unwrap().map(|link| format!(" -> {}", link.display())).unwrap_or_default();
            let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
            format!("{mode:o} {mtime} {}{link}", entry.path().unwrap().display())
        });
        lines.collect()
    }

    #[test]
    fn entries_are_sorted_parents_first_and_times_are_clamped() {
        let dir = tempfile::tempdir().unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(50);
        for name in ["b", "a"] {
            fs::write(&dir.path().join(name), name.as_bytes()).unwrap();
        }
        std::fs::File::options().write(true).open(dir.path().join("a")).unwrap().set_modified(old).unwrap();
        std::fs::hard_link(dir.path().join("b"), dir.path().join("c")).unwrap();
        symlink("/nowhere", dir.path().join("d")).unwrap();
        let mut tree = Tree::default();
        tree.insert("/tmp", Node::new(Kind::Directory, 0o1777)).unwrap();
        let overrides = Overrides { file_mode: Some(0o600), directory_mode: Some(0o700), ..Overrides::default() };
        tree.add_directory(dir.path(), "/srv/data", &overrides).unwrap();
        tree.insert("/srv-x", Node::new(Kind::Bytes(b"x".to_vec()), 0o644)).unwrap();
        tree.insert("/old/thing", Node::new(Kind::Whiteout, 0)).unwrap();
        let present = tree.imply_directories(&BTreeSet::from([Name::new(Path::new("old"))]));
        assert_eq!(
            listing(&tree, 100, Some(100)),
            [
                "0 100 old/.wh.thing",
                "755 100 srv/",
                "700 100 srv/data/",
                "600 50 srv/data/a",
                "600 100 srv/data/b",
                "600 100 srv/data/c -> srv/data/b",
                "777 100 srv/data/d -> /nowhere",
                "644 100 srv-x",
                "1777 100 tmp/",
            ]
        );
        assert_eq!(present, ["srv", "srv/data", "tmp"].map(|path| Name::new(Path::new(path))).into());
    }

    #[test]
    fn what_cannot_be_in_an_image_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mut tree = Tree::default();
        let file = || Node::new(Kind::Bytes(Vec::new()), 0o644);
        tree.insert("/etc/x", file()).unwrap();
        let errors = [
            tree.insert("/etc/../../x", file()).unwrap_err(),
            tree.insert("/", file()).unwrap_err(),
            tree.insert("/etc/x/y", file()).unwrap_err(),
            tree.insert("/etc/x/y/z", file()).unwrap_err(),
            {
                tree.insert("/d", Node::new(Kind::Directory, 0o755)).unwrap();
                tree.insert("/d.x", file()).unwrap();
                tree.insert("/d/e/f", file()).unwrap();
                tree.insert("/d", file()).unwrap_err()
            },
            tree.insert("/d/e", file()).unwrap_err(),
            tree.insert("/d/.wh.e", file()).unwrap_err(),
            tree.add_file(&socket, "/s", None).unwrap_err(),
            tree.add_directory(dir.path(), "/s", &Overrides::default()).unwrap_err(),
            tree.add_file(&dir.path().join("none"), "/s", None).unwrap_err(),
        ];
        let odd = format!("{}: neither a file, a directory nor a link, and cannot be in an image", socket.display());
        assert_eq!(
            errors.map(|error| error.to_string()),
            [
                "`etc/../../x` is not a path inside the image".to_owned(),
                "`` is not a path inside the image".into(),
                "/etc/x/y: /etc/x is not a directory".into(),
                "/etc/x/y/z: /etc/x is not a directory".into(),
                "/d/e/f: /d is not a directory".into(),
                "/d/e/f: /d/e is not a directory".into(),
                "/d/.wh.e: a name with .wh. before it removes what a layer below has".into(),
                odd.clone(),
                odd,
                format!("cannot read {}", dir.path().join("none").display()),
            ]
        );
    }

    #[test]
    fn capabilities_and_the_users_attributes_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        fs::write(&file, b"x").unwrap();
        let mut xattrs = BTreeMap::from([("user.note".to_owned(), b"mine".to_vec())]);
        // Only root may give capabilities away: here cap_net_bind_service, as `setcap` writes it.
        if rustix::process::geteuid().is_root() {
            xattrs.insert("security.capability".to_owned(), [vec![1, 0, 0, 2, 0, 4], vec![0; 14]].concat());
        }
        for (name, value) in &xattrs {
            rustix::fs::setxattr(&file, name, value, rustix::fs::XattrFlags::empty()).unwrap();
        }
        let mut tree = Tree::default();
        tree.add_directory(dir.path(), "/", &Overrides::default()).unwrap();
        assert_eq!(tree.nodes().map(|(path, node)| (path, &node.xattrs)).collect::<Vec<_>>(), [("x".into(), &xattrs)]);
        let task = Progress::off().task("x", Unit::Bytes, None);
        let (_, bytes) = tree.write(Vec::new(), &PLAIN, 0, None, &task).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let records: Vec<_> =
            entry.pax_extensions().unwrap().unwrap().map(|it| it.unwrap().key().unwrap().to_owned()).collect();
        let expected: Vec<_> = xattrs.keys().map(|key| format!("SCHILY.xattr.{key}")).collect();
        assert_eq!(records, expected);
    }

    #[test]
    fn a_file_with_holes_is_in_the_layer_with_its_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(3 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"here", 2 << 20).unwrap();
        let mut tree = Tree::default();
        tree.add_file(&path, "/x", None).unwrap();
        let task = Progress::off().task("x", Unit::Bytes, None);
        let (_, bytes) = tree.write(Vec::new(), &PLAIN, 0, None, &task).unwrap();
        let mut content = Vec::new();
        let mut archive = tar::Archive::new(&bytes[..]);
        io::Read::read_to_end(&mut archive.entries().unwrap().next().unwrap().unwrap(), &mut content).unwrap();
        assert!(content == std::fs::read(&path).unwrap());
    }

    #[test]
    fn a_hard_link_whose_file_was_replaced_is_an_error() {
        let mut tree = Tree::default();
        tree.insert("/b", Node::new(Kind::HardLink("a".into()), 0o644)).unwrap();
        let task = Progress::off().task("x", Unit::Bytes, None);
        let error = tree.write(io::sink(), &PLAIN, 0, None, &task).unwrap_err();
        assert_eq!(error.to_string(), "/b: the file it is a link to, /a, is not in the layer");
    }
}
