//! `haversack run`, `dump` and `refresh`: what the catalog image does when it is started. (What an image of kernels does is
//! in [`kernel_image`](crate::ops::kernel_image).)
//!
//! ```text
//! podman run --rm -v DIR:/tmp/dump:Z --env OCT_DUMP_ONLY=true IMAGE     dump: no network, no other writable place
//! podman run --rm -v DIR:/tmp/dump:Z IMAGE                              refresh, then dump
//! ```
//!
//! The snapshot in the image is named by `HAVERSACK_DB` in its environment, like any other default.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::catalog::entry::Instant;
use crate::catalog::snapshot;
use crate::catalog::tree::DumpOptions;
use crate::catalog::{Snapshot, tree};
use crate::cli::catalog::{DumpOptionArgs, SourceArgs, age_text, dump_exit, dump_text, notes};
use crate::cli::kernel::source::SourceArgs as KernelSourceArgs;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::{Context, block_on};
use crate::fs;
use crate::ops::kernel_image::{self, KernelImageOptions};

/// Do what the environment says: dump with `OCT_DUMP_ONLY=true`, else refresh and dump
#[derive(Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    refresh: RefreshArgs,
}

/// Write the snapshot of this image to the dump directory
#[derive(Args)]
pub(super) struct DumpArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    what: DumpOptionArgs,
    #[command(flatten)]
    kernels: KernelSetArgs,
    /// Keep only this release, or those that begin with it
    #[arg(long, value_name = "RELEASE", help_heading = IN_KERNEL_IMAGES)]
    release: Vec<String>,
}

/// Bring the snapshot of this image up to date and write it to the dump directory
#[derive(Args)]
pub(super) struct RefreshArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    what: DumpOptionArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// When the catalog cannot be read, dump the newest snapshot there is, of this image or dumped before, and end with status 3
    #[arg(long)]
    fallback: bool,
    #[command(flatten)]
    kernels: KernelSetArgs,
    /// Refresh from these sources, as for `kernel list`
    #[arg(long, value_name = "SOURCE", num_args = 1.., help_heading = IN_KERNEL_IMAGES)]
    kernel_source: Vec<String>,
    #[command(flatten)]
    kernel_options: KernelSourceArgs,
}

/// What tells an image of kernels from one of the catalog.
#[derive(Args)]
#[command(next_help_heading = IN_KERNEL_IMAGES)]
struct KernelSetArgs {
    /// List of the kernels in this image
    #[arg(long, value_name = "FILE")]
    kernel_set: Option<PathBuf>,
}

#[derive(Args)]
struct PlaceArgs {
    /// The directory to write to, which must be there and writable
    #[arg(long, value_name = "DIR", default_value = "/tmp/dump")]
    dump_dir: PathBuf,
    /// The snapshot of this image
    #[arg(long, value_name = "FILE", default_value = "catalog.db")]
    db: PathBuf,
    /// The tree that was written from the snapshot of this image, to be copied
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,
}

pub(super) fn run(args: RunArgs, context: &Context) -> Outcome {
    let RefreshArgs { kernels, kernel_source, kernel_options, .. } = &args.refresh;
    // An image of kernels that names no source has nothing to refresh from.
    let has_source = !kernel_source.is_empty() || kernel_options.has_distro();
    if context.config.environment.is_true("OCT_DUMP_ONLY") || (kernels.kernel_set.is_some() && !has_source) {
        let release = kernel_options.releases().to_vec();
        let RefreshArgs { place, what, kernels, .. } = args.refresh;
        return dump(&DumpArgs { place, what, kernels, release }, context);
    }
    refresh(&args.refresh, context)
}

pub(super) fn dump(args: &DumpArgs, context: &Context) -> Outcome {
    if let Some(set) = &args.kernels.kernel_set {
        check_place(&args.place)?;
        let options = KernelImageOptions { releases: args.release.clone(), to: args.place.dump_dir.clone() };
        let count = kernel_image::dump(set, &options)?;
        context.ui.say(format_args!("{count} kernels in {}", args.place.dump_dir.display()));
        return Ok(Exit::Done);
    }
    if !args.release.is_empty() {
        return Err(Failure::usage("--release: this image holds the catalog, and no kernels"));
    }
    check_place(&args.place)?;
    let snapshot = Snapshot::open(&args.place.db)?;
    write(&snapshot, &args.place, &args.what, Tree::OfTheImage, context)
}

pub(super) fn refresh(args: &RefreshArgs, context: &Context) -> Outcome {
    if args.kernels.kernel_set.is_some() {
        return refresh_kernels(args, context);
    }
    if !args.kernel_source.is_empty() || args.kernel_options.has_distro() {
        return Err(Failure::usage("--kernel-source, --distro: this image holds the catalog, and no kernels"));
    }
    check_place(&args.place)?;
    // Opened before anything is written: what is wrong with it is the first thing to know.
    let embedded = Snapshot::open(&args.place.db)?;
    let mut options = args.source.options();
    if context.config.environment.is_true("OCT_FORCE_REGENERATE_DB") {
        context.ui.data("OCT: Forced db regeneration.")?;
        options.full = true;
    }
    // In the dump directory, since nothing else may be writable; a killed run is gone on with from here. Only who holds
    // the lock may copy or remove.
    let work = args.place.dump_dir.join(".haversack-refresh");
    fs::create_dir_all(&work)?;
    let lock = fs::open_any(&work)?;
    if lock.try_lock().is_err() {
        return Err(Failure::new(format!("{}: another refresh is under way", args.place.dump_dir.display()))
            .hint("wait for it to end, or refresh into another directory"));
    }
    let db = work.join("catalog.db");
    let refreshed = base(&embedded, &args.place.dump_dir).copy_to(&db).map_err(Failure::from).and_then(|()| {
        let source = args.source.online(context)?;
        block_on(async { Ok(snapshot::snapshot(&source, &db, &options, context.ui.progress()).await?) })
    });
    match refreshed {
        Ok(report) => {
            notes(&report, context);
            let written = write(&Snapshot::open(&db)?, &args.place, &args.what, Tree::New, context);
            fs::remove_dir_all(&work)?;
            written.map(|exit| if report.is_complete() { exit } else { Exit::Partial })
        }
        Err(failure) => {
            put_away(&work, &db, &failure)?;
            let newest = Newest::of(&embedded, &args.place.dump_dir)?;
            if args.fallback {
                context.ui.error(&failure);
                context.ui.warn(format_args!("the catalog could not be read; {newest}"));
                let dump_dir = &args.place.dump_dir;
                let _partial_anyway = match newest.place {
                    Place::Image => write(&embedded, &args.place, &args.what, Tree::OfTheImage, context)?,
                    Place::Dump => write(&base(&embedded, dump_dir), &args.place, &args.what, Tree::New, context)?,
                    Place::TreeAlone => Exit::Partial,
                };
                return Ok(Exit::Partial);
            }
            Err(failure.and_hint(format!(
                "{} is as it was. Without a network, use dump-only mode (`--env OCT_DUMP_ONLY=true`), which writes the \
                 snapshot of {} in this image; or `refresh --fallback`, which takes the newest of that and of what was \
                 dumped before",
                args.place.dump_dir.display(),
                embedded.info()?.taken
            )))
        }
    }
}

/// What a failed refresh fetched stays for the next, as beside any snapshot; the copy that it began with goes away. On a full
/// disk all of it goes, or it would stay full.
fn put_away(work: &Path, db: &Path, failure: &Failure) -> Result<(), Failure> {
    let left = fs::list(work)?.iter().any(|path| path.extension().is_some_and(|extension| extension == "work"));
    if failure.is_full_disk() || !left {
        fs::remove_dir_all(work)?;
    } else {
        fs::remove_file(db)?;
    }
    Ok(())
}

/// The newest that can be dumped without the catalog.
struct Newest {
    place: Place,
    /// When that was taken.
    taken: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The snapshot of the image.
    Image,
    /// The snapshot that an earlier refresh or dump left beside the tree.
    Dump,
    /// A tree without a snapshot beside it, which can only stay as it is.
    TreeAlone,
}

impl Newest {
    fn of(embedded: &Snapshot, dump_dir: &Path) -> Result<Self, Failure> {
        let mut newest = Newest { place: Place::Image, taken: embedded.info()?.taken };
        let beside = base(embedded, dump_dir);
        if beside.path() != embedded.path() {
            newest = Newest { place: Place::Dump, taken: beside.info()?.taken };
        }
        match tree::written(dump_dir) {
            Some(taken) if taken > newest.taken => Ok(Newest { place: Place::TreeAlone, taken }),
            _ => Ok(newest),
        }
    }
}

impl std::fmt::Display for Newest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (taken, age) = (self.taken, age_text(self.taken));
        match self.place {
            Place::Image => write!(f, "dumping the snapshot of {taken} in this image, {age}"),
            Place::Dump => {
                write!(
                    f,
                    "keeping the snapshot of {taken} that was dumped before, {age}: that in this image is no newer"
                )
            }
            Place::TreeAlone => {
                write!(
                    f,
                    "keeping the tree of {taken} that was dumped before, {age}: the snapshot in this image is no newer"
                )
            }
        }
    }
}

fn refresh_kernels(args: &RefreshArgs, context: &Context) -> Outcome {
    check_place(&args.place)?;
    let words: Vec<String> =
        args.kernel_source.iter().flat_map(|source| source.split_whitespace()).map(str::to_owned).collect();
    let from = args.kernel_options.options(&words, context)?;
    let options = KernelImageOptions { to: args.place.dump_dir.clone(), ..KernelImageOptions::default() };
    let (count, complete) = kernel_image::refresh(&from, &options, &context.http, context.ui.progress())?;
    context.ui.say(format_args!("{count} kernels in {}", args.place.dump_dir.display()));
    Ok(Exit::of(complete))
}

/// What a refresh starts from: the snapshot that an earlier one left in the dump directory, unless that of the image is newer.
fn base(embedded: &Snapshot, dump_dir: &Path) -> Snapshot {
    let open = |path: &Path| Snapshot::open(path).ok();
    let of = |snapshot: &Snapshot| snapshot.info().ok().map(|info| (info.taken, info.digest));
    // Servers' clocks tell seconds: of two that are as old, the dumped one was taken from the other.
    let newer = |earlier: &Snapshot| match (of(earlier), of(embedded)) {
        (Some(earlier), Some(embedded)) => {
            earlier.0 > embedded.0 || (earlier.0 == embedded.0 && earlier.1 != embedded.1)
        }
        (earlier, _) => earlier.is_some(),
    };
    let earlier = open(&dump_dir.join("catalog.db")).filter(newer);
    earlier.or_else(|| open(embedded.path())).expect("it is open already")
}

fn check_place(place: &PlaceArgs) -> Result<(), Failure> {
    let directory = &place.dump_dir;
    let hint = "mount a directory there that this user may write to: `podman run -v DIR:/tmp/dump:Z …`";
    if !directory.is_dir() {
        return Err(Failure::new(format!("{}: no such directory to dump to", directory.display())).hint(hint));
    }
    let probe = tempfile::Builder::new().prefix(".haversack.").tempfile_in(directory);
    match probe {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(format!("{}: cannot be written to: {error}", directory.display())).hint(hint)),
    }
}

/// Whether the tree of the image is that of the snapshot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tree {
    OfTheImage,
    New,
}

fn write(snapshot: &Snapshot, place: &PlaceArgs, what: &DumpOptionArgs, tree: Tree, context: &Context) -> Outcome {
    context.ui.data(format_args!("OCT: Dumping current DB to {}", place.dump_dir.display()))?;
    let ready = place.tree.clone().filter(|_| tree == Tree::OfTheImage);
    let report = tree::dump(snapshot, &place.dump_dir, &DumpOptions { ready, ..what.options() })?;
    context.ui.say(dump_text(&report).trim_end());
    Ok(dump_exit(&report, context))
}

const IN_KERNEL_IMAGES: &str = "In images of kernels";
