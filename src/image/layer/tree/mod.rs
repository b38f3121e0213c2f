//! What a layer will hold, sorted, before a byte of it is written.
//!
//! A tree is names and metadata in memory and contents on the disk. It is what `--explain` shows and what is written.

mod disk;
mod key;
mod over;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::disk::Overrides;
pub use self::over::Below;
use crate::fs::{self, OutsideError, PathContext, PathError, Slice};
use crate::image::name::Name;

/// Entries of a layer by name, relative to the image's root. Parents sort before what is in them, and are directories.
///
/// As it is put together, a tree need not have the directories that its entries lie in; [`Tree::over`] adds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Shared by all trees that have them: a clone of a tree is a list of names.
    nodes: BTreeMap<Name, Arc<Node>>,
    /// Other names of files, by the name that has the content.
    links: BTreeMap<Name, BTreeSet<Name>>,
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
    /// A directory for what is in it: where layers below have it, with the attributes that it has there.
    Parent,
    /// A directory without anything that layers below have in it.
    Opaque,
    /// A file with its content here.
    Bytes(Vec<u8>),
    /// The same, unless layers below have something of that name.
    Yielding(Vec<u8>),
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
    /// A symbolic link, unless layers below have something of that name.
    Merge(PathBuf),
    /// Another name for a file of the same tree that sorts before it.
    HardLink(PathBuf),
    /// Removes what a layer below has under this name.
    Whiteout,
}

/// Why something cannot be in a tree.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that leaves the image's root.
    #[error("`{0}` is not a path inside the image")]
    Outside(String),
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
    /// A directory where a file is asked for.
    #[error("{}: a directory, and `files` takes files: `directories` takes it with all that is in it", .0.display())]
    NotAFile(PathBuf),
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
    /// Two entries that links of layers below lead to one place.
    #[error("/{} and /{}: both are /{} in what lies below", first.display(), second.display(), place.display())]
    SamePlace {
        /// One name.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Where links lead both.
        place: PathBuf,
    },
    /// A name below links that lead nowhere.
    #[error("/{}: the links in /{} lead in a circle", path.display(), above.display())]
    Circle {
        /// The name.
        path: PathBuf,
        /// The directory that cannot be entered.
        above: PathBuf,
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

impl From<OutsideError> for Error {
    // That error says the same, of no directory in particular.
    fn from(error: OutsideError) -> Self {
        Error::Outside(error.name)
    }
}

impl Node {
    /// An entry of root's, with the image's own time and no attributes.
    pub fn new(kind: Kind, mode: u32) -> Self {
        Node { kind, mode, uid: 0, gid: 0, mtime: None, xattrs: BTreeMap::new() }
    }

    /// Bytes of content; 0 for what has none.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Bytes(bytes) | Kind::Yielding(bytes) => bytes.len() as u64,
            Kind::File { size, .. } => *size,
            Kind::Slice(slice) => slice.size(),
            _ => 0,
        }
    }
}

impl Kind {
    /// Whether other entries can be in it.
    pub fn is_directory(&self) -> bool {
        matches!(self, Kind::Directory | Kind::Parent | Kind::Opaque)
    }

    /// Whether it has content of its own.
    fn is_file(&self) -> bool {
        matches!(self, Kind::Bytes(_) | Kind::Yielding(_) | Kind::File { .. } | Kind::Slice(_))
    }
}

impl Tree {
    /// Adds an entry under an absolute name, in place of one of that name.
    pub fn insert(&mut self, dest: &str, node: Node) -> Result<(), Error> {
        self.put(Name::new(&relative(dest)?), Arc::new(node))
    }

    /// Adds an entry under a name relative to the root, in place of one of that name.
    pub fn add(&mut self, path: &Path, node: Node) -> Result<(), Error> {
        self.put(Name::new(path), Arc::new(node))
    }

    /// Adds what is in a package under an absolute name, beside what other packages put there.
    ///
    /// Packages share directories, links and files that are the same; a file with other content is an error.
    pub fn add_package(&mut self, package: &Tree, dest: &str, name: &str) -> Result<(), Error> {
        let root = if dest.bytes().all(|b| b == b'/') { PathBuf::new() } else { relative(dest)? };
        for (inside, package_node) in &package.nodes {
            let path = root.join(inside.path());
            let mut node = Arc::clone(package_node);
            if let Kind::HardLink(target) = &node.kind {
                let target = root.join(target);
                Arc::make_mut(&mut node).kind = Kind::HardLink(target);
            }
            let name_of = Name::new(&path);
            if let Some(there) = self.nodes.get(&name_of) {
                // Hard links are by their contents what files are; what is there may have more names.
                if let (Some(ours), Some(theirs)) = (self.slice(there), package.slice(package_node))
                    && ours.is_same(theirs).at("compare", &path)?
                {
                    continue;
                }
                if there.kind != node.kind && !(there.kind.is_directory() && node.kind.is_directory()) {
                    return Err(Error::Clash { path, package: name.to_owned() });
                }
            }
            self.put(name_of, node)?;
        }
        Ok(())
    }

    /// Whether there is something of that name, which begins with `/`.
    pub fn holds(&self, dest: &str) -> bool {
        relative(dest).is_ok_and(|path| self.nodes.contains_key(&Name::new(&path)))
    }

    /// The content of a file, of at most `limit` bytes; `None` where there is none.
    pub fn content(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
        let kind = |path: &Path| self.nodes.get(&Name::new(path)).map(|node| &node.kind);
        let found = match kind(path) {
            Some(Kind::HardLink(target)) => kind(target),
            found => found,
        };
        match found {
            Some(Kind::Bytes(bytes) | Kind::Yielding(bytes)) => Ok(Some(bytes.clone())),
            Some(Kind::File { source, .. }) => fs::read(source, limit).map(Some),
            Some(Kind::Slice(slice)) => fs::read_limited(slice.reader(), limit).at("read", path).map(Some),
            _ => Ok(None),
        }
    }

    /// Adds the entries of another tree, in place of those of the same names.
    pub fn merge(&mut self, other: Tree) -> Result<(), Error> {
        other.nodes.into_iter().try_for_each(|(name, node)| self.put(name, node))
    }

    /// Gives what has no time of its own this one, in seconds since 1970: the layer is the same in every image.
    pub fn settle_times(&mut self, time: i64) {
        for node in self.nodes.values_mut().filter(|node| node.mtime.is_none()) {
            Arc::make_mut(node).mtime = Some(time);
        }
    }

    /// Lets everybody read files and enter directories.
    pub fn make_readable(&mut self) {
        for node in self.nodes.values_mut() {
            let mode = node.mode | if node.kind.is_directory() { 0o555 } else { 0o444 };
            if mode != node.mode {
                Arc::make_mut(node).mode = mode;
            }
        }
    }

    /// Whether nothing in it takes the image's time.
    pub(crate) fn has_own_times(&self) -> bool {
        self.nodes.values().all(|node| node.mtime.is_some())
    }

    /// The entries with their names, relative to the root, in the order they are written.
    pub fn nodes(&self) -> impl Iterator<Item = (PathBuf, &Node)> {
        self.nodes.iter().map(|(name, node)| (name.path(), &**node))
    }

    /// Bytes of content of all entries.
    pub fn size(&self) -> u64 {
        self.nodes.values().map(|node| node.size()).sum()
    }

    /// The time of the youngest thing that came from the disk.
    pub fn youngest(&self) -> Option<i64> {
        self.nodes.values().filter_map(|node| node.mtime).max()
    }

    /// Names of what gives way to what layers below have, by which two trees of the same bytes may differ over them.
    pub(crate) fn yielding(&self) -> impl Iterator<Item = (&Name, &Kind)> {
        let kinds = self.nodes.iter().map(|(name, node)| (name, &node.kind));
        kinds.filter(|(_, kind)| matches!(kind, Kind::Parent | Kind::Merge(_) | Kind::Yielding(_)))
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

    fn put(&mut self, name: Name, mut node: Arc<Node>) -> Result<(), Error> {
        let not_a_directory = |above: &Name, name: &Name| {
            let (above, path) = (above.path(), name.path());
            Err(Error::NotADirectory { above, path })
        };
        // Of whatever kind: who unpacks the layer would take it for a whiteout.
        if name.components().any(|part| part.starts_with(b".wh.")) {
            return Err(Error::Reserved(name.path()));
        }
        // What a directory that is here lies in was looked at when it came.
        let nearest = name.ancestors().find(|above| self.nodes.contains_key(*above)).map(Name::from);
        if let Some((above, there)) = nearest.and_then(|above| self.nodes.get_key_value(&above)) {
            match there.kind {
                // With what it lay in, it is removed already.
                Kind::Whiteout if node.kind == Kind::Whiteout => return Ok(()),
                // Something new in what is removed.
                Kind::Whiteout => {
                    let above = above.clone();
                    self.nodes.insert(above, Arc::new(Node::new(Kind::Opaque, 0o755)));
                }
                _ if there.kind.is_directory() => {}
                _ => return not_a_directory(above, &name),
            }
        }
        if node.kind == Kind::Whiteout {
            let after = self.nodes.range::<Name, _>((Bound::Excluded(&name), Bound::Unbounded));
            let within = after.take_while(|(it, _)| it.is_in(&name)).filter(|(_, it)| it.kind == Kind::Whiteout);
            let within: Vec<Name> = within.map(|(it, _)| it.clone()).collect();
            within.iter().for_each(|it| drop(self.nodes.remove(it)));
        }
        // What is in a directory that is only implied so far counts, too.
        let next = self.nodes.range::<Name, _>((Bound::Excluded(&name), Bound::Unbounded)).next();
        let inside = next.map(|(next, _)| next).filter(|next| next.is_in(&name));
        let there = self.nodes.get(&name);
        let was_removed = there.is_some_and(|there| matches!(there.kind, Kind::Opaque | Kind::Whiteout));
        match &node.kind {
            // A directory that was declared stays what it is.
            Kind::Parent if there.is_some_and(|it| matches!(it.kind, Kind::Directory | Kind::Opaque)) => return Ok(()),
            Kind::Directory | Kind::Parent if was_removed => Arc::make_mut(&mut node).kind = Kind::Opaque,
            // One name cannot be both, removed and there, but a directory can be new.
            Kind::Whiteout => match there.filter(|there| there.kind.is_directory()) {
                Some(there) => node = Arc::new(Node { kind: Kind::Opaque, ..Node::clone(there) }),
                None if inside.is_some() => node = Arc::new(Node::new(Kind::Opaque, 0o755)),
                None => {}
            },
            kind if kind.is_directory() => {}
            _ => {
                if let Some(inside) = inside {
                    return not_a_directory(&name, inside);
                }
            }
        }
        self.unlink(&name);
        if let Kind::HardLink(target) = &node.kind {
            self.links.entry(Name::new(target)).or_default().insert(name.clone());
        }
        self.nodes.insert(name, node);
        Ok(())
    }

    /// Takes an entry out. The other names of a file keep its content.
    fn unlink(&mut self, name: &Name) {
        let Some(node) = self.nodes.remove(name) else { return };
        if let Kind::HardLink(target) = &node.kind {
            let target = Name::new(target);
            if let Some(names) = self.links.get_mut(&target) {
                names.remove(name);
            }
        }
        if !node.kind.is_file() {
            return;
        }
        let Some(mut names) = self.links.remove(name) else { return };
        let Some(first) = names.pop_first() else { return };
        for other in &names {
            let link = Node { kind: Kind::HardLink(first.path()), ..Node::clone(&node) };
            self.nodes.insert(other.clone(), Arc::new(link));
        }
        if !names.is_empty() {
            self.links.insert(first.clone(), names);
        }
        self.nodes.insert(first, node);
    }
}

/// A name in the image without its leading slash.
fn relative(dest: &str) -> Result<PathBuf, OutsideError> {
    fs::join_inside(Path::new(""), Path::new(dest.trim_start_matches('/')))
}

#[cfg(test)]
mod tests;
