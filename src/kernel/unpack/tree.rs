//! What members of packages make: a tree that no member can leave.
//!
//! The tree remembers what it was given. A member may stand only in directories that it made itself, so a symbolic link
//! that an earlier member left cannot lead a later one outside. Devices, sockets and setuid or setgid files are refused: no
//! kernel package has any. Where the tree is, on the disk or in a spool, is another file's business.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::fs::{self, SpoolWriter};
use crate::kernel::unpack::Error;
use crate::kernel::unpack::place::{Directory, Place, Spooled, SpooledFile};
use crate::limits;

/// A tree that is being filled.
pub(crate) struct Tree {
    members: HashMap<PathBuf, Member>,
    placement: Option<Placement>,
    place: Place,
}

/// Where members of packages go in an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Directories that are others, without leading slashes: `bin` is `usr/bin`.
    pub merge: BTreeMap<PathBuf, PathBuf>,
    /// What is left out with all that is below, without leading slashes: `usr/share/doc`.
    pub exclude: Vec<PathBuf>,
}

impl Placement {
    fn apply(&self, name: &[u8]) -> Option<Vec<u8>> {
        let name = tidy(name);
        let merged = self.merge.iter().find_map(|(from, to)| Some(to.join(name.strip_prefix(from).ok()?)));
        let name = merged.unwrap_or(name);
        // Joining nothing leaves a slash at the end.
        let name: PathBuf = name.components().collect();
        let is_excluded = self.exclude.iter().any(|excluded| name.starts_with(excluded));
        (!is_excluded).then(|| name.into_os_string().into_encoded_bytes())
    }
}

/// `./bin/x` as `bin/x`; `..` stays, to be refused.
fn tidy(name: &[u8]) -> PathBuf {
    let path = Path::new(std::ffi::OsStr::from_bytes(name));
    path.components()
        .filter(|part| !matches!(part, std::path::Component::CurDir | std::path::Component::RootDir))
        .collect()
}

/// What was written under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// A directory, with the permissions that it gets in the end.
    Directory { mode: u32 },
    /// A regular file.
    File,
    /// A symbolic link with its target.
    Link(PathBuf),
}

/// Permissions and time of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    /// Type and permissions as `st_mode` has them; only permissions count here.
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) mtime: u64,
}

impl Tree {
    /// Fills `root`, which exists and is empty.
    pub(crate) fn new(root: PathBuf) -> Self {
        Tree { members: HashMap::new(), placement: None, place: Place::Directory(Directory::new(root)) }
    }

    /// Keeps the contents in a spool, on their way into a layer.
    pub(crate) fn spooled(writer: SpoolWriter) -> Self {
        Tree { members: HashMap::new(), placement: None, place: Place::Spool(Spooled::new(writer)) }
    }

    /// The same; members go where `placement` says, and set-id bits are dropped, since nobody in the image is to become
    /// somebody else.
    pub(crate) fn placed(writer: SpoolWriter, placement: Placement) -> Self {
        Tree { placement: Some(placement), ..Tree::spooled(writer) }
    }

    /// Makes a directory; one that is there is fine.
    pub(crate) fn directory(&mut self, name: &[u8], attributes: Attributes) -> Result<(), Error> {
        // Every archive begins with the root itself.
        if matches!(name, b"." | b"./" | b"/") {
            return Ok(());
        }
        let Some(name) = &self.placed_name(name) else { return Ok(()) };
        let path = self.locate(name, attributes.mode)?;
        let member = Member::Directory { mode: attributes.mode & 0o1777 };
        match self.members.get(&path) {
            Some(Member::Directory { .. }) => {}
            Some(_) => return Err(refused(name, "it is a directory here and is there as something else")),
            None => self.place.directory(&path)?,
        }
        self.members.insert(path, member);
        Ok(())
    }

    /// Writes a regular file. The same name with the same content again, from another package, is fine.
    pub(crate) fn file(&mut self, name: &[u8], attributes: Attributes, data: &mut impl Read) -> Result<u64, Error> {
        let Some(name) = &self.placed_name(name) else {
            return std::io::copy(data, &mut io::sink()).map_err(Error::Payload);
        };
        let path = self.locate(name, attributes.mode)?;
        match self.members.get(&path) {
            None => {}
            Some(Member::File) if self.place.is_same(&path, data)? => return Ok(0),
            Some(_) => return Err(refused(name, "it is there with other content")),
        }
        let size = self.place.file(&path, attributes, data)?;
        self.members.insert(path, Member::File);
        Ok(size)
    }

    /// Makes `name` another name of the file `of`.
    pub(crate) fn hard_link(&mut self, name: &[u8], of: &[u8]) -> Result<(), Error> {
        let (new, old) = (self.placed_name(name), self.placed_name(of));
        let Some(name) = &new else { return Ok(()) };
        let Some(of) = &old else { return Err(refused(name, "it is a hard link to a file that is left out")) };
        let path = self.locate(name, 0)?;
        let original = self.locate(of, 0)?;
        if self.members.get(&original) != Some(&Member::File) {
            return Err(refused(name, "it is a hard link to something that is no file of this package"));
        }
        match self.members.get(&path) {
            None => {}
            Some(Member::File) if self.place.are_same(&path, &original)? => return Ok(()),
            Some(_) => return Err(refused(name, "it is there with other content")),
        }
        self.place.hard_link(&path, &original)?;
        self.members.insert(path, Member::File);
        Ok(())
    }

    /// Makes a symbolic link. Its target is kept as it is and never followed.
    pub(crate) fn symlink(&mut self, name: &[u8], to: &[u8]) -> Result<(), Error> {
        // `/bin -> usr/bin` of a package is what the placement makes itself.
        if self.placement.as_ref().is_some_and(|placement| placement.merge.contains_key(&tidy(name))) {
            return Ok(());
        }
        let Some(name) = &self.placed_name(name) else { return Ok(()) };
        let path = self.locate(name, 0)?;
        let to = PathBuf::from(std::ffi::OsStr::from_bytes(to));
        if to.as_os_str().is_empty() || to.as_os_str().as_bytes().contains(&0) {
            return Err(refused(name, "it is a symbolic link to nothing"));
        }
        match self.members.get(&path) {
            None => {}
            Some(Member::Link(other)) if *other == to => return Ok(()),
            Some(_) => return Err(refused(name, "it is there with other content")),
        }
        self.place.symlink(&path, &to)?;
        self.members.insert(path, Member::Link(to));
        Ok(())
    }

    /// Puts a link in the place of another.
    pub(crate) fn relink(&mut self, path: &Path, to: PathBuf) -> Result<(), Error> {
        self.place.relink(path, &to)?;
        self.members.insert(path.to_owned(), Member::Link(to));
        Ok(())
    }

    /// What is there, by its path from the root.
    pub(crate) fn member(&self, path: &Path) -> Option<&Member> {
        self.members.get(path)
    }

    /// What is `depth` levels below a directory, sorted.
    pub(crate) fn below(&self, path: &Path, depth: usize) -> Vec<(&Path, &Member)> {
        let is_there = |name: &Path| name.ancestors().nth(depth) == Some(path);
        let mut inside: Vec<_> = self.members.iter().map(|(name, member)| (&**name, member)).collect();
        inside.retain(|(name, _)| is_there(name));
        inside.sort_by_key(|(name, _)| *name);
        inside
    }

    /// Reads a regular file of at most `limit` bytes, or `None` where there is none.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.members.get(path) {
            Some(Member::File) => self.place.read(path, limit).map(Some),
            _ => Ok(None),
        }
    }

    /// Replaces a regular file's content and keeps its permissions and time.
    pub(crate) fn rewrite(&mut self, path: &Path, content: &[u8]) -> Result<(), Error> {
        self.place.rewrite(path, content)
    }

    /// Follows a symbolic link of this tree to a member of this tree. An absolute one counts from the tree's root.
    pub(crate) fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..limits::LINKS {
            match self.members.get(&path)? {
                Member::Link(to) => path = normal(path.parent()?, to)?,
                _ => return Some(path),
            }
        }
        None
    }

    /// Gives directories their permissions. They were writable until now, so that they could be filled.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let Place::Directory(place) = &self.place else { return Ok(()) };
        for (path, member) in &self.members {
            if let Member::Directory { mode } = member {
                place.set_mode(path, *mode)?;
            }
        }
        Ok(())
    }

    /// All members with the contents of the files, which are in the spool.
    pub(crate) fn into_members(self) -> (HashMap<PathBuf, Member>, HashMap<PathBuf, SpooledFile>) {
        match self.place {
            Place::Spool(spooled) => (self.members, spooled.into_files()),
            Place::Directory(_) => (self.members, HashMap::new()),
        }
    }

    /// Under which name a member is written, or `None` when it is left out.
    fn placed_name<'n>(&self, name: &'n [u8]) -> Option<Cow<'n, [u8]>> {
        match &self.placement {
            None => Some(Cow::Borrowed(name)),
            Some(placement) => placement.apply(name).map(Cow::Owned),
        }
    }

    /// The path of a member, whose parents exist then and are directories.
    fn locate(&mut self, name: &[u8], mode: u32) -> Result<PathBuf, Error> {
        let mode = if self.placement.is_some() { mode & !0o6000 } else { mode };
        // `chmod u+s` on a shell in a package would hand it out to every user of the machine that unpacks.
        if mode & 0o6000 != 0 {
            return Err(refused(name, "it is setuid or setgid"));
        }
        if name.contains(&0) {
            return Err(refused(name, "its name has a NUL in it"));
        }
        let path = fs::join_inside(Path::new(""), Path::new(std::ffi::OsStr::from_bytes(name)))
            .map_err(|_| refused(name, "its name leads out of the directory"))?;
        let missing: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .filter(|ancestor| !ancestor.as_os_str().is_empty())
            .take_while(|ancestor| !matches!(self.members.get(*ancestor), Some(Member::Directory { .. })))
            .map(Path::to_owned)
            .collect();
        for ancestor in missing.into_iter().rev() {
            match self.members.get(&ancestor) {
                // `x -> /etc`, then `x/passwd`.
                Some(_) => return Err(refused(name, "one of its parents is no directory")),
                None => {
                    self.place.directory(&ancestor)?;
                    self.members.insert(ancestor, Member::Directory { mode: 0o755 });
                }
            }
        }
        Ok(path)
    }
}

pub(crate) fn refused(name: &[u8], why: &'static str) -> Error {
    Error::Refused { name: String::from_utf8_lossy(name).into_owned(), why }
}

/// `to` as seen from `directory`, without dots; `None` when it leads above the root.
pub(crate) fn normal(directory: &Path, to: &Path) -> Option<PathBuf> {
    use std::path::Component;
    let mut path = if to.is_absolute() { PathBuf::new() } else { directory.to_owned() };
    for component in to.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Spool;

    #[test]
    fn a_name_with_a_nul_is_no_name_of_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("on-disk");
        std::fs::create_dir(&directory).unwrap();
        for mut tree in [Tree::new(directory), Tree::spooled(Spool::new(dir.path()).writer().unwrap())] {
            let error = tree.file(b"etc\0passwd", Attributes { mode: 0o644, mtime: 0 }, &mut io::empty()).unwrap_err();
            assert_eq!(error.to_string(), "refused: `etc\0passwd`: its name has a NUL in it");
        }
    }
}
