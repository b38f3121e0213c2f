//! What a kernel's unpacked packages say about it, and what must be changed in them to work in another place.
//!
//! Packages expect to lie at `/`: `lib/modules/RELEASE/build` is an absolute link, Debian's headers include
//! `/usr/src/linux-headers-VERSION-common/Makefile`. Both are made relative, so that the directory can be moved.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, hex};
use crate::kernel::release::Release;
use crate::kernel::unpack::Error;
use crate::kernel::unpack::tree::{Member, Tree, normal};

/// What was found in a kernel's directory. Paths are relative to it.
pub(crate) struct Found {
    pub(crate) kernel_directory: Option<PathBuf>,
    pub(crate) release: Option<String>,
    pub(crate) compiler: Option<Compiler>,
    pub(crate) config: Option<Config>,
    /// Makefiles that the kernel directory's own one includes and that are in no package.
    pub(crate) lacks: Vec<String>,
}

/// What a kernel was compiled with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    /// `gcc` or `clang`.
    pub name: String,
    /// Its version: `12.2.0`.
    pub version: String,
    /// Where that is written.
    pub file: PathBuf,
}

/// A kernel's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Which file it is.
    pub file: PathBuf,
    /// What kind of file. The digests of one kind say nothing about those of another: Debian's `.config` of the headers
    /// has settings that `/boot/config` has not.
    pub kind: ConfigKind,
    /// The MD5 digest of the file, as probe-builder names its probes.
    pub md5: String,
    /// The SHA-256 digest of the file.
    pub sha256: Digest,
}

/// Which file a configuration was read from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConfigKind {
    /// `/boot/config-RELEASE`.
    Boot,
    /// `/lib/modules/RELEASE/config`.
    Modules,
    /// `.config` of the headers.
    Headers,
}

/// Makes links and makefiles work where they are, and looks at what is there.
pub(crate) fn adapt(tree: &mut Tree, release: &Release) -> Result<Found, Error> {
    let links = module_links(tree)?;
    let kernel_directory = kernel_directory(tree, release, &links);
    if let Some(directory) = &kernel_directory {
        fix_makefile(tree, directory)?;
    }
    let says = match &kernel_directory {
        Some(directory) => stated_release(tree, directory)?,
        None => None,
    };
    let compiler = match &kernel_directory {
        Some(directory) => compiler(tree, directory)?,
        None => None,
    };
    let says = says.filter(|says| *says != release.uname);
    let config = config(tree, &[says.as_deref(), Some(&release.uname)], kernel_directory.as_deref())?;
    let lacks = match &kernel_directory {
        Some(directory) => lacking(tree, directory)?,
        None => Vec::new(),
    };
    Ok(Found { kernel_directory, release: says, compiler, config, lacks })
}

/// Makes `lib/modules/*/{build,source}` relative. Returns where the `build` links point.
fn module_links(tree: &mut Tree) -> Result<Vec<PathBuf>, Error> {
    let mut absolute = Vec::new();
    let mut builds = Vec::new();
    for modules in MODULES {
        for (path, member) in tree.below(Path::new(modules), 2) {
            let Member::Link(to) = member else { continue };
            let Some(name) = path.file_name().filter(|name| *name == "build" || *name == "source") else { continue };
            let Some(target) = path.parent().and_then(|parent| normal(parent, to)) else { continue };
            if to.is_absolute() {
                absolute.push((path.to_owned(), target.clone()));
            }
            if name == "build" {
                builds.push(path.to_owned());
            }
        }
    }
    for (path, target) in absolute {
        // As many steps up as there are directories above the link.
        let up = path.components().count() - 1;
        let to: PathBuf = std::iter::repeat_n("..", up).map(Path::new).chain([&*target]).collect();
        tree.relink(&path, to)?;
    }
    Ok(builds.iter().filter_map(|build| tree.resolve(build)).collect())
}

fn kernel_directory(tree: &Tree, release: &Release, builds: &[PathBuf]) -> Option<PathBuf> {
    let is_directory = |path: &PathBuf| matches!(tree.member(path), Some(Member::Directory { .. }));
    let uname = &release.uname;
    let named = [format!("usr/src/kernels/{uname}"), format!("usr/src/linux-headers-{uname}")].map(PathBuf::from);
    // SUSE: usr/src/linux-VERSION-obj/MACHINE/FLAVOUR
    let object = || {
        let ending = Path::new(release.machine.as_str()).join(&release.flavour);
        let candidates = tree.below(Path::new("usr/src"), 3).into_iter().map(|(path, _)| path);
        candidates.filter(|path| path.ends_with(&ending)).map(Path::to_owned).find(|path| {
            let tree = path.iter().nth(2).unwrap_or_default();
            tree.to_string_lossy().ends_with("-obj")
        })
    };
    let named = named.into_iter().find(is_directory);
    named.or_else(|| object().into_iter().chain(builds.iter().cloned()).find(is_directory))
}

/// Debian's makefile names the headers that several flavours share by an absolute path; all lie side by side.
fn fix_makefile(tree: &mut Tree, directory: &Path) -> Result<(), Error> {
    let makefile = directory.join("Makefile");
    let Some(content) = text(tree, &makefile)? else { return Ok(()) };
    let mut fixed = content.clone();
    for before in ["include ", "-C ", "O="] {
        fixed = fixed.replace(&format!("{before}/usr/src/"), &format!("{before}../"));
    }
    if fixed != content {
        tree.rewrite(&makefile, fixed.as_bytes())?;
    }
    Ok(())
}

/// What the makefile in the kernel directory includes by a path and is not there: `make` would stop at once.
fn lacking(tree: &Tree, directory: &Path) -> Result<Vec<String>, Error> {
    let Some(content) = text(tree, &directory.join("Makefile"))? else { return Ok(Vec::new()) };
    let included = content.lines().filter_map(|line| line.strip_prefix("include ")).map(str::trim);
    // What a variable is part of, only make knows; what lies below is found by more than its path.
    let outside = included.filter(|path| path.starts_with(['.', '/']) && !path.contains(['$', '*', ' ', '(']));
    let mut lacking = Vec::new();
    for path in outside {
        let Some(path) = normal(directory, Path::new(path)) else { continue };
        let is_there = path.ancestors().any(|part| matches!(tree.member(part), Some(Member::Link(_))))
            || matches!(tree.member(&path), Some(Member::File));
        if !is_there {
            lacking.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(lacking)
}

/// What modules that are built here will ask for. Debian's `kernel.release` leaves out the ABI, its `utsrelease.h` does not.
fn stated_release(tree: &Tree, directory: &Path) -> Result<Option<String>, Error> {
    if let Some(header) = text(tree, &directory.join("include/generated/utsrelease.h"))? {
        return Ok(header.split('"').nth(1).map(str::to_owned));
    }
    Ok(text(tree, &directory.join("include/config/kernel.release"))?.map(|text| text.trim().to_owned()))
}

fn compiler(tree: &Tree, directory: &Path) -> Result<Option<Compiler>, Error> {
    let found = |name: &str, version: String, file: PathBuf| Some(Compiler { name: name.to_owned(), version, file });
    let autoconf = directory.join("include/generated/autoconf.h");
    if let Some(content) = text(tree, &autoconf)? {
        for (name, setting) in [("gcc", "#define CONFIG_GCC_VERSION "), ("clang", "#define CONFIG_CLANG_VERSION ")] {
            let number = content.lines().find_map(|line| line.strip_prefix(setting)?.trim().parse::<u32>().ok());
            // The compiler that was not used has version 0.
            if let Some(number) = number.filter(|number| *number > 0) {
                let version = format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100);
                return Ok(found(name, version, autoconf));
            }
        }
    }
    // Before 4.18 the configuration did not know its compiler.
    for file in ["include/generated/compile.h", "include/compile.h"] {
        let file = directory.join(file);
        let Some(content) = text(tree, &file)? else { continue };
        let version = content.split_once("gcc version ").and_then(|(_, rest)| rest.split([' ', '"']).next());
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            return Ok(found("gcc", version.to_owned(), file));
        }
    }
    Ok(None)
}

/// The configuration under the first of the names of a release that has one, or else that of the headers.
fn config(tree: &Tree, unames: &[Option<&str>], directory: Option<&Path>) -> Result<Option<Config>, Error> {
    use md5::Digest as _;
    let named = unames.iter().flatten().flat_map(|uname| {
        [
            (ConfigKind::Boot, Some(PathBuf::from(format!("boot/config-{uname}")))),
            (ConfigKind::Modules, Some(PathBuf::from(format!("lib/modules/{uname}/config")))),
            (ConfigKind::Modules, Some(PathBuf::from(format!("usr/lib/modules/{uname}/config")))),
        ]
    });
    let places = named.chain([(ConfigKind::Headers, directory.map(|directory| directory.join(".config")))]);
    for (kind, file) in places {
        let Some(file) = file else { continue };
        let Some(content) = tree.read(&file, TEXT_LIMIT)? else { continue };
        let md5 = hex(&md5::Md5::digest(&content));
        return Ok(Some(Config { file, kind, md5, sha256: Digest::sha256(&content) }));
    }
    Ok(None)
}

fn text(tree: &Tree, path: &Path) -> Result<Option<String>, Error> {
    Ok(tree.read(path, TEXT_LIMIT)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// Configurations have some 300 KiB.
const TEXT_LIMIT: u64 = 16 << 20;
