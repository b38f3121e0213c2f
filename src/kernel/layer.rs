//! Packages unpacked on their way into layers, each into a directory of its own.
//!
//! ```text
//! ROOT/gcc-12_12.2.0-14_amd64.deb/usr/bin/x86_64-linux-gnu-gcc-12 …      one directory a package, for all layers it is in
//! ```
//!
//! No script of a package runs. What a script would do and an image needs is declared with the image.

use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::fs::{self, PathContext};
use crate::kernel::package::Package;
use crate::kernel::unpack::tree::Tree;
use crate::kernel::unpack::{self, UnpackOptions};
use crate::progress::{Progress, Unit};

pub use crate::kernel::unpack::{Error, Placement};

/// Unpacks packages, whose locations are paths, below `root`; those that are there already are left as they are.
///
/// Returns their directories in the order of the packages. A package that was not read to its end has none.
pub fn unpack(
    packages: &[Package],
    root: &Path,
    placement: &Placement,
    options: &UnpackOptions,
    progress: &Progress,
) -> Result<Vec<PathBuf>, Error> {
    fs::create_dir_all(root)?;
    let total = packages.iter().filter_map(|package| package.size).sum();
    let task = progress.task("unpacking", Unit::Bytes, Some(total));
    packages
        .par_iter()
        .map(|package| {
            let directory = root.join(package.name.to_string());
            let named = |source| Error::Package { package: package.name.to_string(), source: Box::new(source) };
            if !directory.is_dir() {
                one(package, root, &directory, placement, options).map_err(named)?;
            }
            task.add(package.size.unwrap_or(0));
            Ok(directory)
        })
        .collect()
}

fn one(
    package: &Package,
    root: &Path,
    directory: &Path,
    placement: &Placement,
    options: &UnpackOptions,
) -> Result<(), Error> {
    let unfinished =
        tempfile::Builder::new().prefix(".unpacking.").tempdir_in(root).at("create a directory in", root)?;
    let into = unfinished.path().join("package");
    fs::create_dir_all(&into)?;
    let mut tree = Tree::placed(into.clone(), placement.clone());
    unpack::contents_into(package, &mut tree, options)?;
    tree.finish()?;
    match std::fs::rename(&into, directory) {
        // Somebody else was faster, with the same package.
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
        result => Ok(result.at("create", directory)?),
    }
}

/// Which compiler a kernel was built with, told from the configuration in its unpacked packages: `12.2.0`.
///
/// `CONFIG_CC_VERSION_TEXT="gcc (GCC) 11.4.1 …"`, or before 4.18 the line `# Compiler: gcc (GCC) 8.5.0 …`.
pub fn compiler(directories: &[PathBuf], uname: &str) -> Result<Option<String>, Error> {
    for directory in directories {
        let places = [
            format!("lib/modules/{uname}/config"),
            format!("usr/lib/modules/{uname}/config"),
            format!("usr/src/kernels/{uname}/.config"),
            format!("boot/config-{uname}"),
        ];
        for path in places.map(|place| directory.join(place)).iter().filter(|path| path.is_file()) {
            let text = fs::read(path, CONFIG_LIMIT)?;
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
    let rest = line.trim_matches('"').strip_prefix("gcc")?;
    // `gcc (GCC) 11.4.1 20230605 (Red Hat 11.4.1-2)`, `gcc-12 (Debian 12.2.0-14) 12.2.0`.
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
            ("#\n# Compiler: gcc (GCC) 8.4.1 20200928 (Red Hat 8.4.1-1)\n", Some("8.4.1")),
            ("CONFIG_CC_VERSION_TEXT=\"clang version 15.0.7\"", None),
            ("CONFIG_CC_VERSION_TEXT=\"gcc\"", None),
            ("", None),
        ] {
            assert_eq!(gcc_version(config).as_deref(), expected, "{config}");
        }
    }
}
