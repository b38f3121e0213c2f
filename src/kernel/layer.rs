//! Packages unpacked on their way into layers, each once for all layers it is in.
//!
//! Their files do not become files again: contents go into a spool, names and attributes into a tree each. No script of a
//! package runs. What a script would do and an image needs is declared with the image.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use crate::digest::Digest;
use crate::fs::Spool;
use crate::image::Tree;
use crate::image::layer::tree::{Kind, Node};
use crate::kernel::group::Kernel;
use crate::kernel::package::Package;
use crate::kernel::release::Release;
use crate::kernel::unpack::place::accessible;
use crate::kernel::unpack::tree::{self, Member};
use crate::kernel::unpack::{self, UnpackOptions};
use crate::limits;
use crate::progress::{Progress, Unit};

pub use crate::kernel::unpack::{Error, Placement};

/// What was unpacked so far.
pub struct Unpacked {
    spool: Spool,
    placement: Placement,
    options: UnpackOptions,
    packages: Mutex<HashMap<Key, Arc<Tree>>>,
}

/// A package: its file name, and its digest where a source gave it.
type Key = (String, Option<Digest>);

impl Unpacked {
    /// Nothing yet; contents will be in files in `directory`, and members of packages where `placement` says.
    pub fn new(directory: &Path, placement: Placement, options: UnpackOptions) -> Self {
        Unpacked { spool: Spool::new(directory), placement, options, packages: Mutex::default() }
    }

    /// Unpacks packages, whose locations are paths; those that were unpacked before are not read again. Returns their
    /// trees in the order of the packages.
    pub fn packages(&self, packages: &[Package], progress: &Progress) -> Result<Vec<Arc<Tree>>, Error> {
        let total = limits::total(packages.iter().filter_map(|package| package.size));
        let task = progress.task("unpacking", Unit::Bytes, Some(total));
        let trees: Vec<Result<Arc<Tree>, Error>> = packages
            .par_iter()
            .with_max_len(1)
            .map(|package| {
                let tree = self.package(package)?;
                task.add(package.size.unwrap_or(0));
                Ok(tree)
            })
            .collect();
        // Of several errors the first, whichever came first.
        trees.into_iter().collect()
    }

    fn package(&self, package: &Package) -> Result<Arc<Tree>, Error> {
        let name = package.name.to_string();
        let key = (name.clone(), package.sha256.clone());
        if let Some(tree) = self.packages.lock().expect("no holder panics").get(&key) {
            return Ok(tree.clone());
        }
        let named = |source| Error::Package { package: name.clone(), source: Box::new(source) };
        let mut members = tree::Tree::placed(self.spool.writer()?, self.placement.clone());
        unpack::contents_into(package, &mut members, &self.options).map_err(named)?;
        let tree = Arc::new(of_members(members)?);
        // Somebody else may have been faster, with the same package.
        Ok(self.packages.lock().expect("no holder panics").entry(key).or_insert(tree).clone())
    }

    /// Unpacks a kernel as `kernel unpack` does.
    pub fn kernel(&self, kernel: &Kernel) -> Result<Tree, Error> {
        of_members(unpack::spooled(kernel, self.spool.writer()?, &self.options)?)
    }
}

/// Only files keep their times; directories and links take the layer's.
fn of_members(tree: tree::Tree) -> Result<Tree, Error> {
    let (members, mut files) = tree.into_members();
    let members: BTreeMap<PathBuf, Member> = members.into_iter().collect();
    let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
    let mut tree = Tree::default();
    for (path, member) in members {
        let node = match member {
            // As dpkg has it: a directory that is there stays as it is.
            Member::Directory { mode } => Node::new(Kind::Parent, accessible(mode)),
            Member::Link(to) => Node::new(Kind::Symlink(to), 0o777),
            Member::File => {
                let file = files.remove(&path).expect("each file has its content in the spool");
                let kind = match first_names.get(&file.number) {
                    Some(first) => Kind::HardLink(first.clone()),
                    None => {
                        first_names.insert(file.number, path.clone());
                        Kind::Slice(file.slice)
                    }
                };
                Node { mtime: Some(file.mtime.try_into().unwrap_or(0)), ..Node::new(kind, file.mode) }
            }
        };
        tree.add(&path, node)?;
    }
    Ok(tree)
}

/// Which compiler a kernel was built with, told from the configuration in its packages: `12.2.0`.
///
/// `CONFIG_CC_VERSION_TEXT="gcc (GCC) 11.4.1 …"`, or before 4.18 the line `# Compiler: gcc (GCC) 8.5.0 …`.
pub fn compiler(packages: &[Arc<Tree>], release: &Release) -> Result<Option<String>, Error> {
    let Release { uname, machine, .. } = release;
    let (version, flavour) = uname.rsplit_once('-').unwrap_or((uname, ""));
    for package in packages {
        let places = [
            format!("lib/modules/{uname}/config"),
            format!("usr/lib/modules/{uname}/config"),
            format!("usr/src/kernels/{uname}/.config"),
            format!("boot/config-{uname}"),
            format!("usr/src/linux-headers-{uname}/.config"),
            // SUSE's, of the sources that most flavours share and of its own.
            format!("usr/src/linux-{version}-obj/{machine}/{flavour}/.config"),
            format!("usr/src/linux-{uname}-obj/{machine}/{flavour}/.config"),
        ];
        for place in places {
            let Some(text) = package.content(Path::new(&place), CONFIG_LIMIT)? else { continue };
            if let Some(version) = gcc_version(&String::from_utf8_lossy(&text)) {
                return Ok(Some(version));
            }
        }
    }
    Ok(None)
}

fn gcc_version(config: &str) -> Option<String> {
    let line = config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_CC_VERSION_TEXT=").or_else(|| line.strip_prefix("# Compiler: ")))?;
    // `gcc (GCC) 11.4.1 20230605 (Red Hat 11.4.1-2)`, `x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0`, Amazon's `gcc10-cc (GCC) …`.
    let (program, rest) = line.trim_matches('"').split_once(' ')?;
    if !program.rsplit('/').next()?.split('-').any(|word| word.starts_with("gcc")) {
        return None;
    }
    let (_, after) = rest.split_once(')')?;
    let version = after.split_whitespace().next()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

const CONFIG_LIMIT: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_what_the_configuration_says() {
        for (config, expected) in [
            ("A=y\nCONFIG_CC_VERSION_TEXT=\"gcc (GCC) 11.4.1 20230605 (Red Hat 11.4.1-2)\"\n", Some("11.4.1")),
            ("CONFIG_CC_VERSION_TEXT=\"gcc-12 (Debian 12.2.0-14) 12.2.0\"", Some("12.2.0")),
            ("CONFIG_CC_VERSION_TEXT=\"x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0-23ubuntu4) 13.2.0\"", Some("13.2.0")),
            ("CONFIG_CC_VERSION_TEXT=\"gcc10-cc (GCC) 10.5.0 20230707 (Red Hat 10.5.0-1)\"", Some("10.5.0")),
            ("CONFIG_CC_VERSION_TEXT=\"gcc (SUSE Linux) 7.5.0\"", Some("7.5.0")),
            (
                "CONFIG_CC_VERSION_TEXT=\"/opt/rh/gcc-toolset-13/root/usr/bin/gcc (GCC) 13.3.1 20240611 (Red Hat 13.3.1-2)\"",
                Some("13.3.1"),
            ),
            ("CONFIG_CC_VERSION_TEXT=\"aarch64-linux-android-clang (x) 1\"", None),
            ("#\n# Compiler: gcc (GCC) 8.4.1 20200928 (Red Hat 8.4.1-1)\n", Some("8.4.1")),
            ("CONFIG_CC_VERSION_TEXT=\"clang version 15.0.7\"", None),
            ("CONFIG_CC_VERSION_TEXT=\"gcc\"", None),
            ("", None),
        ] {
            assert_eq!(gcc_version(config).as_deref(), expected, "{config}");
        }
    }
}
