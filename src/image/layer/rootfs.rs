//! Layers seen as the one file system that they make, without unpacking them.
//!
//! ```text
//! layer 0 ─┐
//! layer 1 ─┼─► each read once, from the lowest up ─► a name, what it is, and the entry that has its last version
//! layer 2 ─┘
//! ```
//!
//! Names and the attributes of directories are in memory, some 100 bytes for each, contents are not. Whiteouts are those of
//! the image specification (`layer.md#whiteouts`): `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` everything in
//! its directory. An entry whose name leads through a link is where that link leads inside the root, as for all that
//! unpack one layer over the other; a directory that no entry describes is implied by what is in it.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use crate::image::layer::pax::Meta;
use crate::image::name::Name;
use crate::limits::{self, Count};
use crate::tarball;

/// What layers make together.
#[derive(Clone, Debug)]
pub struct RootFs {
    members: BTreeMap<Name, Member>,
    layers: usize,
    count: Count,
}

/// The last version of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which layer it is in, counted from the lowest.
    pub layer: usize,
    /// Which entry of that layer.
    pub entry: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory; one that is only implied by what is in it has no attributes of its own.
    Directory(Option<Box<Meta>>),
    /// A symbolic link with its target.
    Symlink(PathBuf),
    /// Another name for the file that the target was in its layer.
    HardLink(Name),
    /// A device or a pipe.
    Other,
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs { members: BTreeMap::new(), layers: 0, count: Count::new("entries in layers", limits::ENTRIES) }
    }
}

impl RootFs {
    /// Lays a layer, given as its uncompressed tar, over those before.
    ///
    /// Entries outside the root are nothing in it. An entry more than [`limits::ENTRIES`] is an error.
    pub fn apply(&mut self, tar: impl Read) -> io::Result<()> {
        let layer = self.layers;
        let mut hidden = HashSet::new();
        let mut archive = tarball::open(tar);
        for (number, entry) in archive.entries()?.enumerate() {
            let entry = entry?;
            self.count.one()?;
            // Its records are defaults for those that read them; it is no file, though it has a name.
            if entry.header().entry_type().is_pax_global_extensions() {
                continue;
            }
            if let Some(path) = inside(&entry.path()?)? {
                self.note(layer, number, &path, entry, &mut hidden)?;
            }
        }
        self.layers += 1;
        Ok(())
    }

    /// What is under a name; links are not followed.
    pub fn get(&self, name: &Name) -> Option<&Member> {
        self.members.get(name)
    }

    /// All names, parents before what is in them.
    pub fn members(&self) -> impl Iterator<Item = (&Name, &Member)> {
        self.members.iter()
    }

    /// Where a path leads after all links on the way, as seen from inside the root; `None` where that is nowhere.
    pub fn resolve(&self, path: &Path) -> Option<Name> {
        self.walk(Name::root(), path, true).filter(|name| self.members.contains_key(name))
    }

    /// Goes along a path from a directory. What is not there is taken as a directory; links that lead in a circle lead
    /// nowhere.
    fn walk(&self, from: Name, path: &Path, follow_last: bool) -> Option<Name> {
        let mut left = vec![path.to_owned()];
        let mut at = from;
        let mut links = 0;
        while let Some(next) = left.pop() {
            let mut parts = next.components();
            let Some(part) = parts.next() else { continue };
            let rest = parts.as_path().to_owned();
            let is_last = rest.as_os_str().is_empty() && left.iter().all(|path| path.as_os_str().is_empty());
            left.push(rest);
            match part {
                Component::RootDir => at = Name::root(),
                Component::ParentDir => at = at.parent(),
                Component::Normal(part) => {
                    let next = at.join(part.as_bytes());
                    match self.members.get(&next) {
                        Some(Member { kind: Kind::Symlink(target), .. }) if follow_last || !is_last => {
                            links += 1;
                            if links > limits::LINKS {
                                return None;
                            }
                            left.push(target.clone());
                        }
                        _ => at = next,
                    }
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Some(at)
    }

    fn note<R: Read>(
        &mut self,
        layer: usize,
        entry: usize,
        path: &Path,
        data: tar::Entry<'_, R>,
        hidden: &mut HashSet<Name>,
    ) -> io::Result<()> {
        let Some(name) = self.walk(Name::root(), path, false) else { return Ok(()) };
        if let Some(removed) = name.last().strip_prefix(b".wh.") {
            let (gone, is_opaque) = match removed {
                b".wh..opq" => (name.parent(), true),
                // What aufs keeps for itself.
                _ if removed.starts_with(b".wh.") || removed.is_empty() => return Ok(()),
                _ => (name.parent().join(removed), false),
            };
            // Once for each name, however often a layer says so: looking at all that is below takes its time.
            if hidden.insert(gone.clone()) {
                self.hide(&gone, is_opaque, layer);
            }
            return Ok(());
        }
        let target = || -> io::Result<PathBuf> { Ok(data.link_name()?.unwrap_or_default().into_owned()) };
        let kind = match data.header().entry_type() {
            EntryType::Directory => Kind::Directory(Some(Box::new(meta(data)?))),
            EntryType::Symlink => Kind::Symlink(target()?),
            EntryType::Link => {
                let target = inside(&target()?)?.and_then(|target| self.walk(Name::root(), &target, false));
                match target.as_ref().and_then(|target| self.members.get(target)) {
                    Some(Member { kind: Kind::Symlink(target), .. }) => Kind::Symlink(target.clone()),
                    _ => Kind::HardLink(target.unwrap_or_else(Name::root)),
                }
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            _ => Kind::Other,
        };
        self.insert(name, Member { layer, entry, kind });
        Ok(())
    }

    fn insert(&mut self, name: Name, member: Member) {
        let Member { layer, entry, .. } = member;
        let is_directory = |member: Option<&Member>| matches!(member, Some(Member { kind: Kind::Directory(_), .. }));
        let missing = |above: &&[u8]| !is_directory(self.members.get(*above));
        let missing: Vec<Name> = name.ancestors().take_while(missing).map(Name::from).collect();
        for above in missing {
            self.members.insert(above, Member { layer, entry, kind: Kind::Directory(None) });
        }
        // What was a directory and is none any more has nothing in it.
        if is_directory(self.members.get(&name)) && !is_directory(Some(&member)) {
            self.hide(&name, true, usize::MAX);
        }
        self.members.insert(name, member);
    }

    /// Takes away what is in a directory, and itself unless only its contents are meant, where it is of an earlier layer.
    fn hide(&mut self, gone: &Name, only_contents: bool, layer: usize) {
        let from = if only_contents { Bound::Excluded(gone) } else { Bound::Included(gone) };
        let from = self.members.range::<Name, _>((from, Bound::Unbounded));
        let below = from.take_while(|(name, _)| *name == gone || name.is_in(gone));
        let old: Vec<Name> = below.filter(|(_, member)| member.layer < layer).map(|(name, _)| name.clone()).collect();
        for name in old {
            self.members.remove(&name);
        }
    }
}

/// The path of an entry as one inside the root; `None` for the root itself and what leads out of it.
fn inside(name: &Path) -> io::Result<Option<PathBuf>> {
    limits::name(name.as_os_str().as_bytes())?;
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir if !path.pop() => return Ok(None),
            _ => {}
        }
    }
    Ok(Some(path).filter(|path| !path.as_os_str().is_empty()))
}

/// The attributes of an entry, those in PAX headers before those in its own.
fn meta<R: Read>(mut entry: tar::Entry<'_, R>) -> io::Result<Meta> {
    let header = entry.header();
    let mut meta = Meta {
        mode: header.mode()? & 0o7777,
        uid: header.uid()?,
        gid: header.gid()?,
        mtime: header.mtime()?.try_into().unwrap_or(0),
        xattrs: BTreeMap::new(),
    };
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        let Ok(key) = record.key() else { continue };
        if let Some(name) = key.strip_prefix(XATTR) {
            meta.xattrs.insert(name.to_owned(), record.value_bytes().to_vec());
        } else if let (PAX_MTIME, Ok(value)) = (key, record.value()) {
            let (seconds, fraction) = value.split_once('.').unwrap_or((value, ""));
            let seconds: i64 = seconds.parse().map_err(|_| io::Error::other(format!("`{value}` is no time")))?;
            // Whole seconds, towards the past.
            let is_later = value.starts_with('-') && fraction.bytes().any(|digit| digit != b'0');
            meta.mtime = seconds - i64::from(is_later);
        }
    }
    Ok(meta)
}

/// What names of extended attributes follow in PAX headers.
pub const XATTR: &str = "SCHILY.xattr.";
const PAX_MTIME: &str = "mtime";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::layer::pax::TarWriter;

    /// A layer of `NAME/`, `NAME`, `NAME -> TARGET` and `NAME => FILE`, hard links.
    fn layer(entries: &[&str]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for entry in entries {
            let meta = Meta { mode: 0o750, uid: 7, ..Meta::default() };
            if let Some((name, target)) = entry.split_once(" -> ") {
                tar.symlink(Path::new(name), &meta, Path::new(target)).unwrap();
            } else if let Some((name, target)) = entry.split_once(" => ") {
                tar.hard_link(Path::new(name), &meta, Path::new(target)).unwrap();
            } else if let Some(name) = entry.strip_suffix('/') {
                tar.directory(Path::new(name), &meta).unwrap();
            } else {
                tar.file(Path::new(entry), &meta, 0, io::empty()).unwrap();
            }
        }
        tar.finish().unwrap()
    }

    fn listing(layers: &[&[&str]]) -> Vec<String> {
        let mut rootfs = RootFs::default();
        layers.iter().for_each(|entries| rootfs.apply(&layer(entries)[..]).unwrap());
        let line = |(name, member): (&Name, &Member)| {
            let name = name.path().display().to_string();
            match &member.kind {
                Kind::Directory(Some(meta)) => format!("{name}/ {:o} {}", meta.mode, meta.uid),
                Kind::Directory(None) => format!("{name}/"),
                Kind::Symlink(target) => format!("{name} -> {}", target.display()),
                Kind::HardLink(target) => format!("{name} => {}", target.path().display()),
                _ => format!("{name} {}", member.layer),
            }
        };
        rootfs.members().map(line).collect()
    }

    #[test]
    fn later_layers_hide_and_replace_what_earlier_ones_have() {
        for (layers, expected) in [
            (&[&["a/", "a/x", "b/y"][..], &["a/.wh.x", "b/z"]][..], &["a/ 750 7", "b/", "b/y 0", "b/z 1"][..]),
            (&[&["a/", "a/b/x", "a/y"], &["a/z", "a/.wh..wh..opq"]], &["a/ 750 7", "a/z 1"]),
            (&[&["a/b/c/x"], &[".wh.a", "a/new"]], &["a/", "a/new 1"]),
            (&[&["a/", "a/x"], &["a"]], &["a 1"]),
            (&[&["a"], &["a/x"]], &["a/", "a/x 1"]),
            // Names that begin alike are others.
            (&[&["a/x", "a.b", "ab"], &[".wh.a"]], &["a.b 0", "ab 0"]),
            // What the layer itself has stays.
            (&[&["a/x"], &["a/y", "a/.wh.y"]], &["a/", "a/x 0", "a/y 1"]),
            (&[&["a/x"], &["a/.wh..wh.plnk", "a/.wh."]], &["a/", "a/x 0"]),
        ] {
            assert_eq!(listing(layers), expected, "{layers:?}");
        }
    }

    #[test]
    fn entries_below_links_are_where_the_links_lead() {
        for (layers, expected) in [
            (
                &[&["usr/lib/", "lib -> usr/lib"][..], &["lib/x", "lib/d/"]][..],
                &["lib -> usr/lib", "usr/", "usr/lib/ 750 7", "usr/lib/d/ 750 7", "usr/lib/x 1"][..],
            ),
            (
                &[&["run/", "var/run -> ../run"], &["var/run/x"]],
                &["run/ 750 7", "run/x 1", "var/", "var/run -> ../run"],
            ),
            (&[&["a -> /b", "b -> /../c"], &["a/x"]], &["a -> /b", "b -> /../c", "c/", "c/x 1"]),
            (&[&["usr/lib/x", "lib -> usr/lib"], &["lib/.wh.x"]], &["lib -> usr/lib", "usr/", "usr/lib/"]),
            // A link that is replaced is not followed, and one in a circle leads nowhere.
            (&[&["usr/lib/", "lib -> usr/lib"], &["lib/"]], &["lib/ 750 7", "usr/", "usr/lib/ 750 7"]),
            (&[&["a -> b", "b -> a"], &["a/x"]], &["a -> b", "b -> a"]),
            (&[&["x", "y => x", "l -> x", "m => l"]], &["l -> x", "m -> x", "x 0", "y => x"]),
        ] {
            assert_eq!(listing(layers), expected, "{layers:?}");
        }
    }

    #[test]
    fn attributes_come_from_pax_headers_where_there_are_any() {
        let xattrs = BTreeMap::from([("user.x".to_owned(), b"\0\xff".to_vec())]);
        let expected = Meta { mode: 0o2775, uid: 3_000_000, gid: 8, mtime: -5, xattrs };
        let mut tar = TarWriter::new(Vec::new());
        tar.directory(Path::new("a"), &expected).unwrap();
        let mut rootfs = RootFs::default();
        rootfs.apply(&tar.finish().unwrap()[..]).unwrap();
        assert_eq!(rootfs.get(&Name::new(Path::new("a"))).unwrap().kind, Kind::Directory(Some(Box::new(expected))));
    }

    #[test]
    fn a_global_header_is_no_file_and_names_that_lead_out_are_none() {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::XGlobalHeader);
        header.set_path("pax_global_header").unwrap();
        header.set_size(22);
        header.set_mode(0o644);
        header.set_cksum();
        let mut tar = header.as_bytes().to_vec();
        tar.extend_from_slice(&[&b"22 comment=0123456789\n"[..], &[0; 490]].concat());
        tar.extend_from_slice(&layer(&["../x", "/", "./", "/etc/y", "a/../z"]));
        let mut rootfs = RootFs::default();
        rootfs.apply(&tar[..]).unwrap();
        let names: Vec<_> = rootfs.members().map(|(name, _)| name.path().display().to_string()).collect();
        assert_eq!(names, ["etc", "etc/y", "z"]);
    }
}
