//! Kernels unpacked into directories in which modules can be built, without root, containers or other programs.
//!
//! ```text
//! DIR/debian/6.1.0-56-amd64/usr/src/linux-headers-6.1.0-56-amd64/…      a kernel: the files of all its packages
//! DIR/debian/6.1.0-56-amd64.json                                        its entry of the report
//! ```
//!
//! Kernels are unpacked side by side, each all or nothing: its directory appears when every package in it was read to the
//! end and found right, and then at once. One that fails is named with the reason and the others go on. A kernel whose
//! entry lies there with the same packages is left as it is, so that a run that was killed can be run again.
//!
//! The report (`haversack.unpacked`, version 1) is a map from `DISTRIBUTION/RELEASE` to what became of it. Where two kernels
//! would have one name (two machines, two builds of one release), the machine or the build is added to it.

pub(crate) mod cpio;
pub(crate) mod deb;
mod earlier;
mod inspect;
pub(crate) mod place;
mod report;
pub(crate) mod rpm;
pub(crate) mod tree;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rayon::prelude::*;

use crate::causes;
use crate::digest::{Algorithm, Digest, HashingReader};
use crate::fs::{self, AtomicDir, Held, PathError, SpoolWriter};
use crate::kernel::classify::{Role, told_release};
use crate::kernel::group::Kernel;
use crate::kernel::package::{Format, Package};
use crate::limits;
use crate::progress::{Progress, Unit};

use self::earlier::entry_in;
pub use self::inspect::{Compiler, Config, ConfigKind};
pub use self::report::{Check, Special, Status, UnpackReport, Unpacked, UnpackedPackage};
pub use self::tree::Placement;

/// How kernels are unpacked.
pub struct UnpackOptions {
    /// The most that one package may decompress to, in bytes.
    pub package_limit: u64,
    /// Keys of which one must have signed each rpm; without, signatures are not looked at, and the report says so.
    pub keys: Option<Keys>,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        // The largest package of today, a debug kernel's modules, has 1.5 GiB.
        UnpackOptions { package_limit: 8 << 30, keys: None }
    }
}

/// OpenPGP keys for the signatures of rpm packages.
pub struct Keys(::rpm::signature::pgp::Verifier);

impl Keys {
    /// Those that can sign rpms, of public keys in ASCII armour.
    pub fn of(armored: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut keys = ::rpm::signature::pgp::Verifier::new();
        let mut last = None;
        let mut usable = 0;
        for key in armored {
            match keys.load_from_asc(&key) {
                Ok(()) => usable += 1,
                // One key of a kind that rpm does not know must not cost the others.
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) if usable == 0 => Err(Error::NoKeys(Box::new(error))),
            _ => Ok(Keys(keys)),
        }
    }
}

/// What was checked of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    verified: Vec<Check>,
    unverified: Vec<Check>,
}

impl Checks {
    fn record(&mut self, check: Check, is_verified: bool) {
        if is_verified { self.verified.push(check) } else { self.unverified.push(check) }
    }
}

/// Why a package cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The package belongs to a kernel, and this is what is wrong with it.
    #[error("{package}")]
    Package {
        /// Its file name.
        package: String,
        /// What is wrong.
        source: Box<Error>,
    },
    /// An earlier run unpacked more than there is now.
    #[error("not here: {missing}; {} has it, and is left as it is until you remove it", directory.display())]
    Incomplete {
        /// What is there.
        directory: PathBuf,
        /// What it would lack.
        missing: String,
    },
    /// It is on a server.
    #[error("{0} is not here; `haversack kernel fetch` brings it")]
    NotHere(String),
    /// It breaks its format.
    #[error("damaged: {0}")]
    Malformed(&'static str),
    /// It cannot be read to the end or decompressed.
    #[error("damaged: it cannot be read to its end")]
    Payload(#[source] io::Error),
    /// The header cannot be understood.
    #[error("damaged: its header cannot be understood")]
    Header(#[source] Box<::rpm::Error>),
    /// A digest is another one than it should be.
    #[error("damaged: the digest of the {what} is {actual}, not {expected}")]
    Mismatch {
        /// Of what.
        what: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// No key of a ring can sign packages.
    #[error("none of its keys can sign rpm packages")]
    NoKeys(#[source] Box<::rpm::Error>),
    /// Keys were given, and it has no signature.
    #[error("it is not signed, and keys were given")]
    Unsigned,
    /// None of the keys given made its signature.
    #[error("its signature is by none of the keys given")]
    BadSignature(#[source] Box<::rpm::Error>),
    /// A member that no kernel package has.
    #[error("refused: `{name}`: {why}")]
    Refused {
        /// The member.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{0}")]
    Path(#[from] PathError),
    /// What it holds cannot be in an image.
    #[error("{0}")]
    Layer(#[from] crate::image::layer::tree::Error),
    /// Somebody else is at work.
    #[error("{}: another run is unpacking into it", .0.display())]
    Locked(PathBuf),
}

impl Error {
    fn rpm(error: ::rpm::Error) -> Self {
        Error::Header(Box::new(error))
    }
}

/// Unpacks kernels below `root`, which is created. A package whose location is a URL is not here, and its kernel fails.
///
/// Only an unusable `root` is an error; kernels that cannot be unpacked are in the report.
pub fn unpack(
    kernels: &[Kernel],
    root: &Path,
    options: &UnpackOptions,
    progress: &Progress,
) -> Result<UnpackReport, Error> {
    fs::create_dir_all(root)?;
    // Two runs would clear away each other's unfinished directories.
    let lock = fs::Lock::directory(root, "").map_err(|error| match error.source.kind() {
        io::ErrorKind::ResourceBusy => Error::Locked(root.to_owned()),
        _ => error.into(),
    })?;
    let packages = kernels.iter().flat_map(|kernel| &kernel.packages);
    let total = limits::total(packages.filter_map(|(_, package)| package.size));
    let task = progress.task("unpacking", Unit::Bytes, Some(total));
    let kernels = &by_their_headers(kernels);
    let names = directory_names(kernels);
    clear_unfinished(root, &names)?;
    let kernels = thread::scope(|scope| {
        let (sender, done) = mpsc::channel();
        let publisher = scope.spawn(|| publish(done, lock.file()));
        names.into_par_iter().zip(kernels).for_each_with(sender, |sender, (name, kernel)| {
            let work = fill(kernel, root, &name, options);
            task.add(limits::total(kernel.packages.iter().filter_map(|(_, package)| package.size)));
            sender.send((name, work)).expect("the publisher takes all");
        });
        publisher.join().expect("publishing does not panic")
    });
    Ok(UnpackReport { format: "haversack.unpacked".into(), version: 1, kernels })
}

/// The kernels under the releases that the files in their packages are for, where only names were read so far.
fn by_their_headers(kernels: &[Kernel]) -> Vec<Kernel> {
    let told = |kernel: &Kernel| {
        let unread = |package: &Package| package.name.format == Format::Rpm && told_release(package).is_none();
        let mut packages = kernel.packages.iter().filter(|(role, package)| *role != Role::Meta && unread(package));
        // A package that cannot be read is found out when it is unpacked.
        packages.find_map(|(_, package)| {
            let mut file = BufReader::new(fs::open_file(Path::new(&package.location)).ok()?);
            rpm::Head::read(&mut file).ok()?.relations().ok()?.release
        })
    };
    let renamed = kernels.par_iter().map(|kernel| {
        let mut kernel = kernel.clone();
        if let Some(uname) = told(&kernel) {
            kernel.release.uname = uname;
        }
        kernel
    });
    renamed.collect()
}

/// What became of a kernel before it is published.
enum Work {
    /// Nothing is left to do, because it is there or because it failed.
    Done(Unpacked),
    /// Its directory is filled and not visible yet.
    Filled { target: AtomicDir, held: Held, entry: PathBuf, unpacked: Unpacked },
}

/// Makes filled directories visible, together those that are filled at the time: the disk is written to while further
/// kernels are being unpacked, from the beginning on, and nobody waits for it but this.
#[expect(clippy::needless_pass_by_value, reason = "when it ends, so must those that send to it")]
fn publish(done: mpsc::Receiver<(String, Work)>, root: &File) -> BTreeMap<String, Unpacked> {
    let mut kernels = BTreeMap::new();
    loop {
        let first = match done.recv_timeout(SYNC_INTERVAL) {
            Ok(first) => first,
            Err(mpsc::RecvTimeoutError::Disconnected) => return kernels,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Only so that there is less to do in the end; whether it worked is seen there.
                let _early = rustix::fs::syncfs(root);
                continue;
            }
        };
        let (mut targets, mut entries) = (Vec::new(), Vec::new());
        for (name, work) in std::iter::once(first).chain(done.try_iter()) {
            match work {
                Work::Done(unpacked) => {
                    kernels.insert(name, unpacked);
                }
                Work::Filled { target, held, entry, unpacked } => match fs::remove_file(&entry) {
                    Ok(()) => {
                        targets.push(target);
                        entries.push((name, held, entry, unpacked));
                    }
                    Err(error) => {
                        kernels.insert(name, unpacked.failed(&held.told(error).into()));
                    }
                },
            }
        }
        for ((name, held, entry, unpacked), finished) in entries.into_iter().zip(AtomicDir::finish_all(targets)) {
            let json = serde_json::to_vec_pretty(&unpacked).expect("an entry has no maps with odd keys");
            let unpacked = match finished.and_then(|()| fs::write(&entry, &json)) {
                Ok(()) => unpacked,
                Err(error) => unpacked.failed(&held.told(error).into()),
            };
            kernels.insert(name, unpacked);
        }
    }
}

impl Unpacked {
    fn failed(self, error: &Error) -> Self {
        let advice = if error.is_damage() { "; fetch it again" } else { "" };
        let error = causes::line(error) + advice;
        Unpacked { status: Status::Failed, error: Some(error), ..self }
    }
}

/// `DISTRIBUTION/RELEASE` for each kernel, with machine and build where that is not enough to tell them apart.
pub(crate) fn directory_names(kernels: &[Kernel]) -> Vec<String> {
    let mut same: HashMap<(&str, &str), Vec<&Kernel>> = HashMap::new();
    for kernel in kernels {
        same.entry((&kernel.release.distribution, &kernel.release.uname)).or_default().push(kernel);
    }
    let name = |kernel: &Kernel| {
        let release = &kernel.release;
        let others = &same[&(&*release.distribution, &*release.uname)];
        let mut name = format!("{}/{}", release.distribution, release.uname);
        if others.iter().any(|other| other.release.machine != release.machine) {
            name.push_str(&format!("_{}", release.machine));
        }
        if others.iter().any(|other| other.release.build != release.build) {
            name.push_str(&format!("_{}", release.build));
        }
        name
    };
    kernels.iter().map(name).collect()
}

fn fill(kernel: &Kernel, root: &Path, name: &str, options: &UnpackOptions) -> Work {
    let (release, directory) = (&kernel.release, &root.join(name));
    let blank = Unpacked {
        status: Status::Unpacked,
        error: None,
        distribution: release.distribution.clone(),
        release: release.uname.clone(),
        machine: release.machine.clone(),
        flavour: release.flavour.clone(),
        directory: directory.to_owned(),
        kernel_directory: None,
        release_in_headers: None,
        compiler: None,
        config: None,
        packages: Vec::new(),
        missing: kernel.missing.clone(),
    };
    try_fill(kernel, root, name, options, blank.clone()).unwrap_or_else(|error| Work::Done(blank.failed(&error)))
}

fn try_fill(kernel: &Kernel, root: &Path, name: &str, options: &UnpackOptions, blank: Unpacked) -> Result<Work, Error> {
    let directory = &root.join(name);
    // A name out of a header or an index: `..` would be a directory above ours.
    fs::join_inside(Path::new(""), Path::new(&blank.release))
        .ok()
        .filter(|path| path.components().count() == 1)
        .ok_or(Error::Malformed("its release is no name for a directory"))?;
    // From here on names are those of the directory that was entered, whatever is called so by then.
    let held = fs::hold_beneath(root, fs::parent(Path::new(name)))?;
    if let Some(earlier) = Unpacked::earlier(directory, &held) {
        if let Some(unpacked) = earlier.unchanged(kernel, options) {
            return Ok(Work::Done(unpacked));
        }
        if let Some(missing) = earlier.lost(kernel) {
            return Err(Error::Incomplete { directory: directory.to_owned(), missing });
        }
    }
    let told = |error| match error {
        Error::Path(error) => Error::Path(held.told(error)),
        error => error,
    };
    let target = AtomicDir::create(&held.join(file_name(directory))).map_err(|error| held.told(error))?;
    let entry = entry_in(&held, directory);
    let mut tree = tree::Tree::new(target.path().to_owned());
    let mut packages = Vec::new();
    for (role, package) in &kernel.packages {
        let named = |error| Error::Package { package: package.name.to_string(), source: Box::new(told(error)) };
        packages.push(package_into(package, *role, &mut tree, options).map_err(named)?);
    }
    let found = inspect::adapt(&mut tree, &kernel.release).map_err(told)?;
    tree.finish().map_err(told)?;
    let unpacked = Unpacked {
        kernel_directory: found.kernel_directory.map(|path| directory.join(path)),
        release: found.release.clone().unwrap_or(blank.release),
        release_in_headers: found.release,
        compiler: found.compiler,
        config: found.config,
        packages,
        missing: [blank.missing, found.lacks].concat(),
        ..blank
    };
    Ok(Work::Filled { target, held, entry, unpacked })
}

/// Unpacks a kernel's packages on their way into a layer; links and makefiles work as they do in a directory.
pub(crate) fn spooled(kernel: &Kernel, writer: SpoolWriter, options: &UnpackOptions) -> Result<tree::Tree, Error> {
    let mut tree = tree::Tree::spooled(writer);
    for (_, package) in &kernel.packages {
        let named = |source| Error::Package { package: package.name.to_string(), source: Box::new(source) };
        contents_into(package, &mut tree, options).map_err(named)?;
    }
    inspect::adapt(&mut tree, &kernel.release)?;
    Ok(tree)
}

fn package_into(
    package: &Package,
    role: Role,
    tree: &mut tree::Tree,
    options: &UnpackOptions,
) -> Result<UnpackedPackage, Error> {
    let (sha256, size, Checks { verified, unverified }, special) = contents_into(package, tree, options)?;
    Ok(UnpackedPackage { file: package.name.to_string(), role, size, sha256, verified, unverified, special })
}

/// Unpacks a package whose location is a path; returns its digest, its size and what was checked.
pub(crate) fn contents_into(
    package: &Package,
    tree: &mut tree::Tree,
    options: &UnpackOptions,
) -> Result<(Digest, u64, Checks, Vec<Special>), Error> {
    let path = Path::new(&package.location);
    if package.location.contains("://") {
        return Err(Error::NotHere(package.location.clone()));
    }
    let file = fs::open_file(path)?;
    let mut hashed = HashingReader::new(file, Algorithm::Sha256);
    let (mut checks, special) = match package.name.format {
        Format::Rpm => {
            let keys = options.keys.as_ref().map(|keys| &keys.0);
            rpm::unpack(&mut hashed, tree, options.package_limit, keys)?
        }
        Format::Deb => {
            deb::unpack(BufReader::with_capacity(256 << 10, &mut hashed), tree, options.package_limit)?;
            (Checks::default(), Vec::new())
        }
    };
    io::copy(&mut hashed, &mut io::sink()).map_err(Error::Payload)?;
    let (sha256, size, _) = hashed.finish();
    match &package.sha256 {
        Some(expected) if *expected != sha256 => {
            return Err(Error::Mismatch { what: "file", expected: expected.to_string(), actual: sha256.to_string() });
        }
        _ => checks.record(Check::SourceDigest, package.is_digest_stated),
    }
    Ok((sha256, size, checks, special))
}

/// Whether a package is whole by what it says about itself: an rpm by the digest or the size of its payload, a deb by the sizes
/// of its members. What is in it is not looked at.
pub fn whole(path: &Path, format: Format) -> Result<(), Error> {
    let reader = BufReader::with_capacity(256 << 10, fs::open_file(path)?);
    match format {
        Format::Rpm => rpm::whole(reader),
        Format::Deb => deb::Control::read(reader).map(drop),
    }
}

/// Removes what killed runs left of these kernels, `.NAME.….partial`, each directory looked through once.
fn clear_unfinished(root: &Path, names: &[String]) -> Result<(), Error> {
    let directories: HashSet<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    let parents: HashSet<&Path> = directories.iter().map(|directory| fs::parent(directory)).collect();
    for parent in parents {
        // One that leads elsewhere is found out when it is written to.
        if !parent.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        for path in fs::list(parent)? {
            let name = file_name(&path);
            let Some(left) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".partial")) else { continue };
            // What stands between the name and the end has no dots in it, but a name may.
            let is_ours = left.match_indices('.').any(|(at, _)| directories.contains(&parent.join(&left[..at])));
            if is_ours && path.is_dir() {
                fs::remove_dir_all(&path)?;
            }
        }
    }
    Ok(())
}

/// How long the disk may rest while kernels are being unpacked.
const SYNC_INTERVAL: Duration = Duration::from_millis(200);

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
