//! Where members of packages are written: a directory that no member can leave.
//!
//! The tree remembers what it wrote. A member may stand only in directories that it made itself, so a symbolic link that
//! an earlier member left cannot lead a later one outside. Devices, sockets and setuid or setgid files are refused: no
//! kernel package has any.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, linkat, mkdirat, openat, symlinkat};

use crate::fs::{self, PathContext};
use crate::kernel::unpack::Error;

/// A directory that is being filled.
pub(crate) struct Tree {
    root: PathBuf,
    members: HashMap<PathBuf, Member>,
    placement: Option<Placement>,
    /// The directory of the last member. The next one is mostly in it too, and its path need not be walked again.
    current: Option<(PathBuf, OwnedFd)>,
    /// What is copied goes through here; a new one for each of 12,000 files would cost more than most of them.
    buffer: Vec<u8>,
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
        Tree { root, members: HashMap::new(), placement: None, current: None, buffer: vec![0; 64 << 10] }
    }

    /// Fills `root` with what is to become a layer: members go where `placement` says, and set-id bits are dropped,
    /// since nobody in the image is to become somebody else.
    pub(crate) fn placed(root: PathBuf, placement: Placement) -> Self {
        Tree { placement: Some(placement), ..Tree::new(root) }
    }

    /// Makes a directory; one that is there is fine.
    pub(crate) fn directory(&mut self, name: &[u8], attributes: Attributes) -> Result<(), Error> {
        // Every archive begins with the root itself.
        if matches!(name, b"." | b"./" | b"/") {
            return Ok(());
        }
        let Some(name) = &self.placed_name(name) else { return Ok(()) };
        let (path, target) = self.place(name, attributes.mode)?;
        let member = Member::Directory { mode: attributes.mode & 0o777 };
        match self.members.get(&path) {
            Some(Member::Directory { .. }) => {}
            Some(_) => return Err(refused(name, "it is a directory here and something else in another package")),
            None => {
                let directory = self.directory_of(&path)?;
                mkdirat(directory, file_name(&path), Mode::from_raw_mode(0o755))
                    .map_err(io::Error::from)
                    .at("create", &target)?;
            }
        }
        self.members.insert(path, member);
        Ok(())
    }

    /// Writes a regular file. The same name with the same content again, from another package, is fine.
    pub(crate) fn file(&mut self, name: &[u8], attributes: Attributes, data: &mut impl Read) -> Result<u64, Error> {
        let Some(name) = &self.placed_name(name) else {
            return std::io::copy(data, &mut io::sink()).map_err(Error::Payload);
        };
        let (path, target) = self.place(name, attributes.mode)?;
        match self.members.get(&path) {
            None => {}
            Some(Member::File) if is_same(&target, data)? => return Ok(0),
            Some(_) => return Err(refused(name, "another package has it with other content")),
        }
        let mode = attributes.mode & 0o777;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(self.directory_of(&path)?, file_name(&path), flags, Mode::from_raw_mode(mode));
        let mut file = opened.map(File::from).map_err(io::Error::from).at("create", &target)?;
        let size = copy_sparsely(data, &mut file, &target, &mut self.buffer)?;
        // The process's mask may have taken something away; asking costs less than saying it once more each time.
        if file.metadata().at("read", &target)?.permissions().mode() & 0o777 != mode {
            file.set_permissions(Permissions::from_mode(mode)).at("set the permissions of", &target)?;
        }
        set_time(&file, attributes.mtime).at("set the time of", &target)?;
        self.members.insert(path, Member::File);
        Ok(size)
    }

    /// Makes `name` another name of the file `of`.
    pub(crate) fn hard_link(&mut self, name: &[u8], of: &[u8]) -> Result<(), Error> {
        let (new, old) = (self.placed_name(name), self.placed_name(of));
        let Some(name) = &new else { return Ok(()) };
        let Some(of) = &old else { return Err(refused(name, "it is a hard link to a file that is left out")) };
        let (path, target) = self.place(name, 0)?;
        let (original, source) = self.place(of, 0)?;
        if self.members.get(&original) != Some(&Member::File) {
            return Err(refused(name, "it is a hard link to something that is no file of this package"));
        }
        if self.members.contains_key(&path) {
            return Err(refused(name, "another package has it with other content"));
        }
        let directory = self.directory_of(&path)?;
        linkat(CWD, &source, directory, file_name(&path), AtFlags::empty())
            .map_err(io::Error::from)
            .at("create", &target)?;
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
        let (path, target) = self.place(name, 0)?;
        let to = PathBuf::from(std::ffi::OsStr::from_bytes(to));
        if to.as_os_str().is_empty() || to.as_os_str().as_bytes().contains(&0) {
            return Err(refused(name, "it is a symbolic link to nothing"));
        }
        match self.members.get(&path) {
            None => {}
            Some(Member::Link(other)) if *other == to => return Ok(()),
            Some(_) => return Err(refused(name, "another package has it with other content")),
        }
        symlinkat(&to, self.directory_of(&path)?, file_name(&path)).map_err(io::Error::from).at("create", &target)?;
        self.members.insert(path, Member::Link(to));
        Ok(())
    }

    /// Puts a link in the place of another.
    pub(crate) fn relink(&mut self, path: &Path, to: PathBuf) -> Result<(), Error> {
        let target = self.root.join(path);
        fs::remove_file(&target)?;
        std::os::unix::fs::symlink(&to, &target).at("create", &target)?;
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
            Some(Member::File) => Ok(Some(fs::read(&self.root.join(path), limit)?)),
            _ => Ok(None),
        }
    }

    /// Replaces a regular file's content and keeps its permissions and time.
    pub(crate) fn rewrite(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        let target = self.root.join(path);
        let metadata = std::fs::metadata(&target).at("read", &target)?;
        fs::write(&target, content)?;
        std::fs::set_permissions(&target, metadata.permissions()).at("set the permissions of", &target)?;
        Ok(())
    }

    /// Follows a symbolic link of this tree to a member of this tree. An absolute one counts from the tree's root.
    pub(crate) fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            match self.members.get(&path)? {
                Member::Link(to) => path = normal(path.parent()?, to)?,
                _ => return Some(path),
            }
        }
        None
    }

    /// Gives directories their permissions. They were writable until now, so that they could be filled.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        for (path, member) in &self.members {
            let Member::Directory { mode } = member else { continue };
            let target = self.root.join(path);
            // The owner keeps access: what cannot be entered cannot be removed or synced either.
            let mode = mode | 0o700;
            let metadata = std::fs::symlink_metadata(&target).at("read", &target)?;
            if metadata.permissions().mode() & 0o777 != mode {
                std::fs::set_permissions(&target, Permissions::from_mode(mode))
                    .at("set the permissions of", &target)?;
            }
        }
        Ok(())
    }

    /// The directory that a member stands in, open.
    fn directory_of(&mut self, path: &Path) -> Result<BorrowedFd<'_>, Error> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if self.current.as_ref().is_none_or(|(current, _)| current != parent) {
            let target = self.root.join(parent);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::open(&target, flags, Mode::empty());
            self.current = Some((parent.to_owned(), opened.map_err(io::Error::from).at("open", &target)?));
        }
        Ok(self.current.as_ref().expect("it was opened").1.as_fd())
    }

    /// Under which name a member is written, or `None` when it is left out.
    fn placed_name<'n>(&self, name: &'n [u8]) -> Option<Cow<'n, [u8]>> {
        match &self.placement {
            None => Some(Cow::Borrowed(name)),
            Some(placement) => placement.apply(name).map(Cow::Owned),
        }
    }

    /// The place of a member, whose parents exist and are directories.
    fn place(&mut self, name: &[u8], mode: u32) -> Result<(PathBuf, PathBuf), Error> {
        let mode = if self.placement.is_some() { mode & !0o6000 } else { mode };
        // `chmod u+s` on a shell in a package would hand it out to every user of the machine that unpacks.
        if mode & 0o6000 != 0 {
            return Err(refused(name, "it is setuid or setgid"));
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
                    let target = self.root.join(&ancestor);
                    std::fs::create_dir(&target).at("create", &target)?;
                    self.members.insert(ancestor, Member::Directory { mode: 0o755 });
                }
            }
        }
        let target = self.root.join(&path);
        Ok((path, target))
    }
}

fn file_name(path: &Path) -> &Path {
    Path::new(path.file_name().expect("`join_inside` refuses names without one"))
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

/// Copies and leaves holes where there are only zeros: a `vmlinux` has many, and a made-up file may be nothing else.
fn copy_sparsely(data: &mut impl Read, file: &mut File, target: &Path, buffer: &mut [u8]) -> Result<u64, Error> {
    let (mut size, mut hole) = (0_u64, 0_u64);
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match data.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Payload(error)),
            }
        }
        let chunk = &buffer[..filled];
        if filled == buffer.len() && chunk.iter().all(|byte| *byte == 0) {
            hole += filled as u64;
        } else {
            if hole > 0 && filled > 0 {
                file.seek(SeekFrom::Start(size)).at("write", target)?;
                hole = 0;
            }
            file.write_all(chunk).at("write", target)?;
        }
        size += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    if hole > 0 {
        file.set_len(size).at("write", target)?;
    }
    Ok(size)
}

fn is_same(target: &Path, data: &mut impl Read) -> Result<bool, Error> {
    let mut other = fs::open(target)?;
    let (mut ours, mut theirs) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let n = data.read(&mut ours).map_err(Error::Payload)?;
        if n == 0 {
            return Ok(other.read(&mut theirs).at("read", target)? == 0);
        }
        if other.read_exact(&mut theirs[..n]).is_err() || ours[..n] != theirs[..n] {
            return Ok(false);
        }
    }
}

fn set_time(file: &File, seconds: u64) -> io::Result<()> {
    let time = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
    rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })?;
    Ok(())
}

/// As many links in a row as the kernel follows.
const MOST_LINKS: usize = 40;
