//! A tree laid over what lies below it: the layers of the build beneath, and those of the base.
//!
//! Engines on overlay file systems unpack each layer alone. A directory that a layer has no entry for is made anew then
//! (0755, of root) and hides the attributes of the one below; one that is a link below hides the link and all that it led
//! to. So a layer has an entry for each directory that its entries lie in, as it is below, and an entry whose name leads
//! through a link below is where that link leads, which is what copying into the running system would do.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path};
use std::sync::Arc;

use crate::image::layer::pax::Meta;
use crate::image::layer::rootfs::{self, RootFs};
use crate::image::layer::tree::{Error, Kind, Node, Tree};
use crate::image::name::Name;
use crate::limits;

/// What lies below a layer.
#[derive(Clone, Debug, Default)]
pub struct Below<'a> {
    /// The base's files, where there is one.
    pub base: Option<&'a RootFs>,
    /// Layers over it, from the lowest, each laid over those before.
    pub layers: Vec<&'a Tree>,
}

/// What is seen under a name.
enum Seen<'a> {
    Directory(Attributes),
    Link(&'a Path),
    Other,
}

/// Those of a directory. Without a time, it is only there for what is in it.
#[derive(Clone, Debug)]
struct Attributes {
    mode: u32,
    uid: u64,
    gid: u64,
    xattrs: BTreeMap<String, Vec<u8>>,
    mtime: Option<i64>,
}

impl Tree {
    /// The layer that this tree is over `below`: with the directories that entries lie in, and each entry where links of
    /// lower layers lead. Removals of what is not there are left out; their names are returned, too.
    ///
    /// An entry below something that is no directory is an error, two that links lead to one place are as well.
    pub fn over(&self, below: &Below<'_>) -> Result<(Tree, Vec<Name>), Error> {
        let mut laying = Laying { below, made: Tree::default(), places: HashMap::new() };
        let mut came_from: HashMap<Name, Name> = HashMap::new();
        let mut moved: HashMap<Name, Name> = HashMap::new();
        let mut useless = Vec::new();
        for (name, node) in &self.nodes {
            let mut place = laying.directory(&name.parent(), name)?.join(name.last());
            let mut node = Arc::clone(node);
            match &node.kind {
                Kind::Directory | Kind::Parent => place = laying.led_to(place),
                // The link has a name above its own, so that where it leads is known already.
                Kind::HardLink(target) => {
                    if let Some(to) = moved.get(&Name::new(target)) {
                        Arc::make_mut(&mut node).kind = Kind::HardLink(to.path());
                    }
                }
                Kind::Merge(_) | Kind::Yielding(_) if below.look(&place).is_some() => continue,
                Kind::Merge(target) => {
                    let link = Kind::Symlink(target.clone());
                    Arc::make_mut(&mut node).kind = link;
                }
                Kind::Yielding(bytes) => {
                    let file = Kind::Bytes(bytes.clone());
                    Arc::make_mut(&mut node).kind = file;
                }
                Kind::Whiteout if below.look(&place).is_none() => {
                    useless.push(name.clone());
                    continue;
                }
                _ => {}
            }
            if node.kind == Kind::Parent
                && let Some(Seen::Directory(there)) = below.look(&place)
            {
                node = Arc::new(there.node(node.mtime));
            }
            if place != *name {
                moved.insert(name.clone(), place.clone());
            }
            if let Some(first) = came_from.insert(place.clone(), name.clone()) {
                let there = laying.made.nodes.get(&place).is_some_and(|there| there.kind.is_directory());
                if !there || !node.kind.is_directory() {
                    let (first, second, place) = (first.path(), name.path(), place.path());
                    return Err(Error::SamePlace { first, second, place });
                }
            }
            laying.put(place, node)?;
        }
        laying.made.sort_links();
        Ok((laying.made, useless))
    }

    /// Of several names of a file, the first has the content: who unpacks a layer meets it first.
    fn sort_links(&mut self) {
        let late = self.links.iter().filter_map(|(file, names)| Some((file, names.first()?)));
        let late: Vec<(Name, Name)> =
            late.filter(|(file, first)| first < file).map(|(file, first)| (file.clone(), first.clone())).collect();
        for (file, first) in late {
            let Some(node) = self.nodes.get(&file).filter(|node| node.kind.is_file()).cloned() else { continue };
            self.unlink(&file);
            let link = Node { kind: Kind::HardLink(first.path()), ..Node::clone(&node) };
            self.nodes.insert(file.clone(), Arc::new(link));
            self.links.entry(first).or_default().insert(file);
        }
    }
}

/// A tree on its way over others.
struct Laying<'a> {
    below: &'a Below<'a>,
    made: Tree,
    /// Where directories are, by what they are called.
    places: HashMap<Name, Name>,
}

impl Laying<'_> {
    /// Where a directory is that `entry` lies in.
    fn directory(&mut self, name: &Name, entry: &Name) -> Result<Name, Error> {
        if *name == Name::root() {
            return Ok(Name::root());
        }
        if let Some(place) = self.places.get(name) {
            return Ok(place.clone());
        }
        let parent = self.directory(&name.parent(), entry)?;
        let place = match self.walk(parent, name.last()) {
            Walked::To(place) => place,
            Walked::NoDirectory(above) => {
                return Err(Error::NotADirectory { path: entry.path(), above: above.path() });
            }
            Walked::Circle => return Err(Error::Circle { path: entry.path(), above: name.path() }),
        };
        self.places.insert(name.clone(), place.clone());
        Ok(place)
    }

    /// Where a directory goes: through a link that leads to one, or to nothing yet, and else in the link's place.
    fn led_to(&self, place: Name) -> Name {
        if !matches!(self.look(&place), Some(Seen::Link(_))) {
            return place;
        }
        match self.walk(place.parent(), place.last()) {
            Walked::To(target) => target,
            Walked::NoDirectory(_) | Walked::Circle => place,
        }
    }

    fn walk(&self, from: Name, part: &[u8]) -> Walked {
        let mut at = from;
        let mut left = vec![part.to_owned()];
        let mut links = 0;
        while let Some(part) = left.pop() {
            let next = at.join(&part);
            match part.as_slice() {
                b"/" => at = Name::root(),
                b".." => at = at.parent(),
                _ => match self.look(&next) {
                    Some(Seen::Link(target)) => {
                        links += 1;
                        if links > limits::LINKS {
                            return Walked::Circle;
                        }
                        let parts = target.components().filter(|part| *part != Component::CurDir);
                        left.extend(parts.rev().map(|part| part.as_os_str().as_encoded_bytes().to_owned()));
                    }
                    Some(Seen::Other) => return Walked::NoDirectory(next),
                    Some(Seen::Directory(_)) | None => at = next,
                },
            }
        }
        Walked::To(at)
    }

    /// What is under a name once the tree is there, as far as it is.
    fn look(&self, name: &Name) -> Option<Seen<'_>> {
        match look_in(&self.made, name) {
            InTree::Here(seen, _) => Some(seen),
            InTree::Gone => None,
            InTree::NotHere => self.below.look(name),
        }
    }

    /// Puts an entry in its place, and into directories as they are below.
    fn put(&mut self, place: Name, node: Arc<Node>) -> Result<(), Error> {
        let missing = place.ancestors().take_while(|above| !self.made.nodes.contains_key(*above));
        let missing: Vec<Name> = missing.map(Name::from).collect();
        for above in missing.into_iter().rev() {
            let parent = match self.below.look(&above) {
                Some(Seen::Directory(there)) => there.node(None),
                _ => Node::new(Kind::Parent, 0o755),
            };
            self.made.put(above, Arc::new(parent))?;
        }
        self.made.put(place, node)
    }
}

/// Where a name leads.
enum Walked {
    To(Name),
    NoDirectory(Name),
    Circle,
}

impl Below<'_> {
    /// What is under a name; links are not followed.
    fn look(&self, name: &Name) -> Option<Seen<'_>> {
        // Attributes are those of the uppermost layer that has it. Its time is that of one that declares it: what is only there
        // for what is in it has no time of its own, and a layer stays the same whatever others have such directories.
        let mut known: Option<Attributes> = None;
        for tree in self.layers.iter().rev() {
            match look_in(tree, name) {
                InTree::Here(Seen::Directory(there), is_declared) => {
                    let mtime = there.mtime.filter(|_| is_declared);
                    known = Some(Attributes { mtime, ..known.unwrap_or(there) });
                    if is_declared {
                        return known.map(Seen::Directory);
                    }
                }
                InTree::Here(other, _) => return known.map(Seen::Directory).or(Some(other)),
                InTree::Gone => return known.map(Seen::Directory),
                InTree::NotHere => {}
            }
        }
        let base = self.base.and_then(|base| base.get(name)).map(|member| match &member.kind {
            rootfs::Kind::Directory(Some(meta)) => Seen::Directory(Attributes::from(&**meta)),
            rootfs::Kind::Directory(None) => {
                Seen::Directory(Attributes::from(&Meta { mode: 0o755, ..Meta::default() }))
            }
            rootfs::Kind::Symlink(target) => Seen::Link(target),
            _ => Seen::Other,
        });
        match (known, base) {
            (Some(known), Some(Seen::Directory(there))) => {
                Some(Seen::Directory(Attributes { mtime: there.mtime, ..known }))
            }
            (Some(known), _) => Some(Seen::Directory(known)),
            (None, base) => base,
        }
    }
}

/// What one tree says about a name.
enum InTree<'a> {
    /// What it is, and whether it is declared or only there for what is in it.
    Here(Seen<'a>, bool),
    /// It hides what is below it.
    Gone,
    NotHere,
}

fn look_in<'a>(tree: &'a Tree, name: &Name) -> InTree<'a> {
    let Some(node) = tree.nodes.get(name) else {
        let hides = |above: &[u8]| {
            let node = tree.nodes.get(above);
            node.is_some_and(|node| !matches!(node.kind, Kind::Directory | Kind::Parent))
        };
        return if name.ancestors().any(hides) { InTree::Gone } else { InTree::NotHere };
    };
    match &node.kind {
        Kind::Whiteout => InTree::Gone,
        Kind::Symlink(target) | Kind::Merge(target) => InTree::Here(Seen::Link(target), true),
        kind if kind.is_directory() => {
            let Node { mode, uid, gid, mtime, xattrs, .. } = Node::clone(node);
            let attributes = Attributes { mode, uid, gid, xattrs, mtime };
            InTree::Here(Seen::Directory(attributes), !matches!(kind, Kind::Parent))
        }
        _ => InTree::Here(Seen::Other, true),
    }
}

impl Attributes {
    /// A directory for what is in it, with these; `mtime` where they have no time.
    fn node(self, mtime: Option<i64>) -> Node {
        let Attributes { mode, uid, gid, xattrs, mtime: own } = self;
        Node { kind: Kind::Parent, mode, uid, gid, mtime: own.or(mtime), xattrs }
    }
}

impl From<&Meta> for Attributes {
    fn from(meta: &Meta) -> Self {
        let Meta { mode, uid, gid, mtime, xattrs } = meta.clone();
        Attributes { mode, uid, gid, xattrs, mtime: Some(mtime) }
    }
}
