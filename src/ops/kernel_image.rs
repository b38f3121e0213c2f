//! What an image of kernels does when it is started: `dump` and `refresh`.
//!
//! ```text
//! DIR/debian/6.1.0-56-amd64/linux-headers-….deb     packages, or the tree of a kernel that the image has unpacked
//! DIR/kernels.json                                  which kernels there are, with places relative to DIR
//! DIR/SHA256SUMS                                    for sha256sum -c
//! ```
//!
//! `dump` writes what the image has, `refresh` what sources have now. Either way the list is written last.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::fs::{self, AtomicDir, AtomicFile, PathContext};
use crate::http::{Http, HttpOptions};
use crate::kernel::download::{self, FetchOptions};
use crate::kernel::set::{Entry, Filter, KernelSet};
use crate::kernel::source::SourceOptions;
use crate::kernel::unpack;
use crate::limits;
use crate::ops::gather::{self, Gathered};
use crate::ops::{Error, block_on};
use crate::progress::Progress;

/// Which kernels are written where.
#[derive(Clone, Debug, Default)]
pub struct KernelImageOptions {
    /// Only these releases, or those that begin with one; all, when empty.
    pub releases: Vec<String>,
    /// The directory to write to.
    pub to: PathBuf,
}

/// Writes the kernels of the image, whose list is `set`; returns how many there are.
pub fn dump(set: &Path, options: &KernelImageOptions) -> Result<usize, Error> {
    let KernelImageOptions { releases, to } = options;
    let mut kernels = KernelSet::parse(&fs::read(set, limits::KERNEL_SET)?)?;
    let filter = Filter { releases: releases.clone(), ..Filter::default() };
    kernels.kernels.retain(|kernel| filter.admits(&kernel.release));
    let missing = Filter::unmet(releases, &kernels.kernels.iter().map(|kernel| &kernel.release));
    if !missing.is_empty() {
        return Err(Error::NotInImage { releases: missing });
    }
    let from = fs::parent(set);
    let mut sums = BTreeMap::new();
    for kernel in &kernels.kernels {
        let Some(first) = kernel.packages.first() else { continue };
        let tree = Path::new(&first.location).parent().unwrap_or(Path::new("")).to_owned();
        if from.join(&first.location).is_file() {
            copy_packages(kernel, from, to, &mut sums)?;
        } else {
            copy_tree(&fs::join_inside(from, &tree)?, &fs::join_inside(to, &tree)?, &tree, &mut sums)?;
        }
    }
    finish(&kernels, &sums, to)?;
    Ok(kernels.kernels.len())
}

/// Fetches what the sources have now. The flag is false when some of it could not be had; each is warned of.
pub fn refresh(
    from: &SourceOptions,
    options: &KernelImageOptions,
    http: &HttpOptions,
    progress: &Progress,
) -> Result<(usize, bool), Error> {
    let Gathered { mut kernels, mirrors, mut complete, .. } = gather::kernels(from, http, progress)?.or_nothing()?;
    let http = Http::new(http)?;
    let fetching = FetchOptions { redhat: gather::redhat(from, &http), mirrors, ..FetchOptions::default() };
    let to = &options.to;
    let names = unpack::directory_names(&kernels);
    let mut sums = BTreeMap::new();
    let mut is_whole = vec![true; kernels.len()];
    for (at, (kernel, name)) in kernels.iter_mut().zip(&names).enumerate() {
        let directory = fs::join_inside(to, Path::new(name))?;
        let packages: Vec<_> = kernel.packages.iter().map(|(_, package)| package.clone()).collect();
        let (report, right) = block_on::<_, Error>(async {
            Ok(download::fetch_packages(&http, &packages, &directory, &fetching, progress).await?)
        })?;
        for (file, why) in &report.failed {
            tracing::warn!("{name}: {file}: {why}");
            (complete, is_whole[at]) = (false, false);
        }
        for (_, package) in &mut kernel.packages {
            let file = package.name.to_string();
            if let Some((digest, size)) = right.get(&file) {
                (package.sha256, package.size) = (Some(digest.clone()), Some(*size));
                sums.insert(format!("{name}/{file}"), digest.clone());
            }
            package.location = format!("{name}/{file}");
        }
    }
    let mut is_whole = is_whole.into_iter();
    kernels.retain(|_| is_whole.next().unwrap_or(false));
    let count = kernels.len();
    if count == 0 {
        return Err(Error::NothingFetched);
    }
    finish(&KernelSet::new(kernels), &sums, to)?;
    Ok((count, complete))
}

fn copy_packages(kernel: &Entry, from: &Path, to: &Path, sums: &mut BTreeMap<String, Digest>) -> Result<(), Error> {
    for package in &kernel.packages {
        let (source, target) = (from.join(&package.location), fs::join_inside(to, Path::new(&package.location))?);
        fs::create_dir_all(fs::parent(&target))?;
        let mut reader = fs::open(&source)?;
        let mut writer = HashingWriter::new(AtomicFile::create(&target)?, Algorithm::Sha256);
        io::copy(&mut reader, &mut writer).at("write", &target)?;
        let (digest, _, file) = writer.finish();
        if let Some(expected) = package.sha256.as_ref().filter(|expected| **expected != digest) {
            return Err(Error::DamagedImage { file: source, expected: expected.clone(), actual: digest });
        }
        file.finish()?;
        sums.insert(package.location.clone(), digest);
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path, name: &Path, sums: &mut BTreeMap<String, Digest>) -> Result<(), Error> {
    fs::create_dir_all(fs::parent(to))?;
    let target = AtomicDir::create(to)?;
    for entry in walkdir::WalkDir::new(from).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(io::Error::from).at("read", from)?;
        let inside = entry.path().strip_prefix(from).expect("the walk stays below its root");
        let place = target.path().join(inside);
        let kind = entry.file_type();
        if kind.is_dir() {
            fs::create_dir_all(&place)?;
        } else if kind.is_symlink() {
            let to = std::fs::read_link(entry.path()).at("read", entry.path())?;
            std::os::unix::fs::symlink(to, &place).at("create", &place)?;
        } else {
            let mut writer = HashingWriter::new(fs::create_new(&place)?, Algorithm::Sha256);
            io::copy(&mut fs::open(entry.path())?, &mut writer).at("write", &place)?;
            let (digest, _, file) = writer.finish();
            let metadata = entry.metadata().map_err(io::Error::from).at("read", entry.path())?;
            file.set_permissions(metadata.permissions()).at("set the permissions of", &place)?;
            // A kernel's build compares times.
            file.set_modified(metadata.modified().at("read", entry.path())?).at("set the time of", &place)?;
            sums.insert(name.join(inside).to_string_lossy().into_owned(), digest);
        }
    }
    Ok(target.finish()?)
}

/// Writes check sums and list, the list last.
fn finish(kernels: &KernelSet, sums: &BTreeMap<String, Digest>, to: &Path) -> Result<(), Error> {
    let lines: String = sums.iter().map(|(file, digest)| format!("{}  {file}\n", digest.hex())).collect();
    fs::write(&to.join("SHA256SUMS"), lines.as_bytes())?;
    let mut json = serde_json::to_vec_pretty(kernels)?;
    json.write_all(b"\n")?;
    Ok(fs::write(&to.join("kernels.json"), &json)?)
}
