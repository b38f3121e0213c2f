//! `haversack run`, `dump` and `refresh` in an image of kernels, which `HAVERSACK_KERNEL_SET` tells from one of the catalog.
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

use super::entrypoint::{PlaceArgs, check_place};
use super::kernel::{From, gather, redhat};
use super::outcome::{Exit, Failure, Outcome};
use super::{Context, block_on};
use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::fs::{self, AtomicDir, AtomicFile, PathContext};
use crate::kernel::download::{self, FetchOptions};
use crate::kernel::set::{Entry, Filter, KernelSet};
use crate::kernel::unpack;

/// Which kernels, for images that hold some.
#[derive(clap::Args)]
#[command(next_help_heading = "In images of kernels")]
pub(super) struct KernelImageArgs {
    /// The list of kernels in this image
    #[arg(long, value_name = "FILE")]
    pub(super) kernel_set: Option<PathBuf>,
    /// Only this release, or those that begin with it
    #[arg(long, value_name = "RELEASE")]
    release: Vec<String>,
    /// Refresh from these sources, as for `kernel list`
    #[arg(long, value_name = "SOURCE", num_args = 1..)]
    pub(super) kernel_source: Vec<String>,
}

/// Writes the kernels of the image.
pub(super) fn dump(args: &KernelImageArgs, set: &Path, place: &PlaceArgs, context: &Context) -> Outcome {
    check_place(place)?;
    let mut kernels = KernelSet::parse(&fs::read(set, SET_LIMIT)?)?;
    let filter = Filter { releases: args.release.clone(), ..Filter::default() };
    kernels.kernels.retain(|kernel| filter.admits(&kernel.release));
    if let Some(release) = args.release.iter().find(|release| {
        let only = Filter { releases: vec![(*release).clone()], ..Filter::default() };
        !kernels.kernels.iter().any(|kernel| only.admits(&kernel.release))
    }) {
        return Err(Failure::new(format!("{release}: this image has no such kernel"))
            .hint("leave `--release` out to dump all that it has"));
    }
    let (from, to) = (fs::parent(set), &place.dump_dir);
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
    context.ui.say(format_args!("{} kernels in {}", kernels.kernels.len(), to.display()));
    Ok(Exit::Done)
}

/// Fetches what the sources have now.
pub(super) fn refresh(args: &KernelImageArgs, place: &PlaceArgs, context: &Context) -> Outcome {
    check_place(place)?;
    let words = args.kernel_source.iter().flat_map(|source| source.split_whitespace()).map(str::to_owned);
    let releases = args.release.iter().flat_map(|release| ["--release".to_owned(), release.clone()]);
    let from = From::parse(words.chain(releases))?;
    let (mut kernels, mut exit) = gather(&from, context)?;
    let http = context.http()?;
    let options = FetchOptions { redhat: redhat(&from, &http, context)?, ..FetchOptions::default() };
    let (to, progress) = (&place.dump_dir, context.ui.progress());
    let names = unpack::directory_names(&kernels);
    let mut sums = BTreeMap::new();
    let mut is_whole = vec![true; kernels.len()];
    for (at, (kernel, name)) in kernels.iter_mut().zip(&names).enumerate() {
        let directory = fs::join_inside(to, Path::new(name))?;
        let packages: Vec<_> = kernel.packages.iter().map(|(_, package)| package.clone()).collect();
        let (report, right) =
            block_on(async { Ok(download::fetch_packages(&http, &packages, &directory, &options, progress).await?) })?;
        for (file, why) in &report.failed {
            context.ui.warn(format_args!("{name}: {file}: {why}"));
            (exit, is_whole[at]) = (Exit::Partial, false);
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
        return Err(Failure::new("no kernel could be fetched; the list of those that are there stays as it was")
            .hint("see the warnings above; `dump` writes what the image holds, without a network"));
    }
    finish(&KernelSet::new(kernels), &sums, to)?;
    context.ui.say(format_args!("{count} kernels in {}", to.display()));
    Ok(exit)
}

fn copy_packages(kernel: &Entry, from: &Path, to: &Path, sums: &mut BTreeMap<String, Digest>) -> Result<(), Failure> {
    for package in &kernel.packages {
        let (source, target) = (from.join(&package.location), fs::join_inside(to, Path::new(&package.location))?);
        fs::create_dir_all(fs::parent(&target))?;
        let mut reader = fs::open(&source)?;
        let mut writer = HashingWriter::new(AtomicFile::create(&target)?, Algorithm::Sha256);
        io::copy(&mut reader, &mut writer).at("write", &target)?;
        let (digest, _, file) = writer.finish();
        if let Some(expected) = package.sha256.as_ref().filter(|expected| **expected != digest) {
            let place = source.display();
            return Err(Failure::new(format!("{place}: the digest is {digest}, not {expected}"))
                .hint("the image is damaged: `haversack verify` it, and copy it again"));
        }
        file.finish()?;
        sums.insert(package.location.clone(), digest);
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path, name: &Path, sums: &mut BTreeMap<String, Digest>) -> Result<(), Failure> {
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
fn finish(kernels: &KernelSet, sums: &BTreeMap<String, Digest>, to: &Path) -> Result<(), Failure> {
    let lines: String = sums.iter().map(|(file, digest)| format!("{}  {file}\n", digest.hex())).collect();
    fs::write(&to.join("SHA256SUMS"), lines.as_bytes())?;
    let mut json = serde_json::to_vec_pretty(kernels)?;
    json.write_all(b"\n")?;
    Ok(fs::write(&to.join("kernels.json"), &json)?)
}

const SET_LIMIT: u64 = 1 << 30;
