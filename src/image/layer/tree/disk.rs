//! What is on the disk, on its way into a tree: files and directories with modes, times, links and attributes.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::fs::{PathContext, PathError};
use crate::image::layer::tree::{Error, Kind, Node, Tree, relative};
use crate::image::name::Name;

/// What of the files on the disk is replaced when a directory is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Owner of everything.
    pub uid: u64,
    /// Group of everything.
    pub gid: u64,
    /// Mode of the files, where not 0755 for programs and 0644 for others.
    pub file_mode: Option<u32>,
    /// Mode of the directories, where not 0755.
    pub directory_mode: Option<u32>,
    /// Everything takes the image's own time.
    pub forget_times: bool,
}

impl Tree {
    /// Adds a file from the disk under an absolute name.
    ///
    /// A symbolic link is followed here: who names a file wants what is in it. (In [`Tree::add_directory`] links stay.)
    pub fn add_file(&mut self, source: &Path, dest: &str, mode: Option<u32>) -> Result<&mut Node, Error> {
        let metadata = std::fs::metadata(source).at("read", source)?;
        if metadata.is_dir() {
            return Err(Error::NotAFile(source.to_owned()));
        }
        if !metadata.is_file() {
            return Err(Error::OddFile(source.to_owned()));
        }
        let path = relative(dest)?;
        let overrides = Overrides { file_mode: mode, ..Overrides::default() };
        let name = Name::new(&path);
        self.put(name.clone(), Arc::new(node(source, &metadata, &overrides)?))?;
        Ok(Arc::make_mut(self.nodes.get_mut(&name).expect("just added")))
    }

    /// Adds what is in a directory on the disk, under an absolute name that it takes itself, too.
    ///
    /// Hard links within it stay hard links; symbolic links stay as they are, wherever they point.
    pub fn add_directory(&mut self, source: &Path, dest: &str, overrides: &Overrides) -> Result<(), Error> {
        let root = if dest.bytes().all(|b| b == b'/') { PathBuf::new() } else { relative(dest)? };
        let mut entries = Vec::new();
        for entry in walkdir::WalkDir::new(source).sort_by_file_name() {
            entries.push(entry.map_err(|error| {
                let path = error.path().unwrap_or(source).to_owned();
                let source = error.into_io_error().unwrap_or_else(|| io::Error::other("links that lead in a circle"));
                PathError { action: "read", path, source }
            })?);
        }
        // Modes, times and attributes of a hundred thousand files take as long as reading them does.
        let nodes: Vec<(Metadata, Node)> = entries
            .par_iter()
            .map(|entry| {
                // The root may be given as a link to a directory.
                let metadata = if entry.depth() == 0 {
                    std::fs::metadata(source)
                } else {
                    std::fs::symlink_metadata(entry.path())
                };
                let metadata = metadata.at("read", entry.path())?;
                let node = node(entry.path(), &metadata, overrides)?;
                Ok((metadata, node))
            })
            .collect::<Result<_, Error>>()?;
        let mut first_names: HashMap<(u64, u64), PathBuf> = HashMap::new();
        for (entry, (metadata, mut node)) in entries.iter().zip(nodes) {
            let inside = entry.path().strip_prefix(source).expect("the walk stays below its root");
            let path = if inside.as_os_str().is_empty() { root.clone() } else { root.join(inside) };
            if path.as_os_str().is_empty() {
                continue;
            }
            if metadata.is_file() && metadata.nlink() > 1 {
                match first_names.get(&(metadata.dev(), metadata.ino())) {
                    Some(first) => node.kind = Kind::HardLink(first.clone()),
                    None => drop(first_names.insert((metadata.dev(), metadata.ino()), path.clone())),
                }
            }
            self.put(Name::new(&path), Arc::new(node))?;
        }
        Ok(())
    }
}

fn node(source: &Path, metadata: &Metadata, overrides: &Overrides) -> Result<Node, Error> {
    let kind = if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_file() {
        Kind::File { source: source.to_owned(), size: metadata.len() }
    } else if metadata.is_symlink() {
        Kind::Symlink(std::fs::read_link(source).at("read", source)?)
    } else {
        return Err(Error::OddFile(source.to_owned()));
    };
    // A directory of which nothing is said is there for what is in it: in a checkout, tmp is 0755, and no /tmp should be.
    let is_plain = overrides.directory_mode.is_none() && (overrides.uid, overrides.gid) == (0, 0);
    let kind = match kind {
        Kind::Directory if is_plain && metadata.mode() & 0o7000 == 0 => Kind::Parent,
        kind => kind,
    };
    // Of the permissions only whether a file is a program: the rest is the umask of whoever checked it out.
    let special = metadata.mode() & 0o7000;
    let mode = match &kind {
        Kind::Directory | Kind::Parent => overrides.directory_mode.unwrap_or(special | 0o755),
        Kind::Symlink(_) => 0o777,
        _ if metadata.mode() & 0o111 != 0 => overrides.file_mode.unwrap_or(special | 0o755),
        _ => overrides.file_mode.unwrap_or(special | 0o644),
    };
    Ok(Node {
        xattrs: if metadata.is_symlink() { BTreeMap::new() } else { xattrs(source)? },
        kind,
        mode,
        uid: overrides.uid,
        gid: overrides.gid,
        mtime: (!overrides.forget_times).then_some(metadata.mtime()),
    })
}

/// Capabilities and the user's own attributes. SELinux labels and ACLs belong to the host, not to the content.
fn xattrs(source: &Path) -> Result<BTreeMap<String, Vec<u8>>, PathError> {
    // Most files have few or none: room for all that there can be is made only where it is needed.
    let mut names = vec![0; 256];
    let listed = match rustix::fs::llistxattr(source, &mut names[..]) {
        Err(rustix::io::Errno::RANGE) => {
            names.resize(64 << 10, 0);
            rustix::fs::llistxattr(source, &mut names[..])
        }
        listed => listed,
    };
    let length = match listed {
        Ok(length) => length,
        // The file system has none.
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(io::Error::from(error)).at("read the attributes of", source),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        if name != "security.capability" && !name.starts_with("user.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(source, name, &mut value[..])
            .map_err(io::Error::from)
            .at("read the attributes of", source)?;
        value.truncate(length);
        found.insert(name.to_owned(), value);
    }
    Ok(found)
}
