//! `haversack kernel`: list, fetch and unpack kernel packages.

mod matrix;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use self::matrix::MatrixArgs;
use crate::cli::Context;
use crate::cli::global::ParallelArgs;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::sources::{self, LocalArgs, SourceArgs};
use crate::kernel::download::FetchReport;
use crate::kernel::set::{Filter, KernelSet};
use crate::kernel::source::SourceOptions;
use crate::kernel::unpack::UnpackReport;
use crate::ops::gather;
use crate::ops::packages::{self, FetchOptions, Roles, UnpackKernels, WouldFetch};
use crate::progress::Narration;

/// List, fetch and unpack kernel packages, to build modules with
#[derive(Subcommand)]
pub(super) enum Command {
    /// List the kernels that sources offer, with their packages
    #[command(after_help = LIST_HELP)]
    List(List),
    /// Fetch the packages of kernels into a directory
    #[command(after_help = FETCH_HELP)]
    Fetch(Fetch),
    /// Unpack kernels into directories in which modules can be built
    #[command(after_help = UNPACK_HELP)]
    Unpack(Unpack),
    /// List the kernels to build for: those of OpenShift releases, or of sources
    #[command(after_help = MATRIX_HELP)]
    Matrix(Box<MatrixArgs>),
}

#[derive(Args)]
pub(super) struct List {
    /// Format of the list
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    from: From,
}

#[derive(Args)]
pub(super) struct Fetch {
    /// Directory to fetch into
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    parallel: ParallelArgs<4>,
    /// Fetch only packages of this role: core, devel, headers, common, kbuild, modules, image, config or meta; `build` stands for
    /// those that modules are built with, which leaves the kernel itself out; may be repeated [default: all]
    #[arg(long, value_name = "ROLE")]
    role: Vec<Roles>,
    /// Print what would be fetched, and fetch nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    from: From,
}

#[derive(Args)]
pub(super) struct Unpack {
    /// Packages on this machine: dir:PATH, or set:FILE with the packages in its directory, such as the fetch.lock of `kernel fetch`
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// Machine to include, as `uname -m` prints it; may be repeated [default: every machine]
    #[arg(long, value_name = "MACHINE")]
    arch: Vec<String>,
    #[command(flatten)]
    local: LocalArgs,
    /// Directory to unpack into, as DIR/DISTRIBUTION/RELEASE
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Maximum size in GiB that one package may decompress to
    #[arg(long, value_name = "GIB", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    package_limit: u64,
}

/// Sources, what they need, and which kernels of them are wanted.
#[derive(Args)]
pub(in crate::cli) struct From {
    /// Source of packages: dir:PATH, rpm:URL, 'apt:URL SUITE COMPONENT…', a line of sources.list, redhat:CONTENT-SET…, crawler:FILE (a
    /// list of kernel-crawler's) or set:FILE (what `kernel list --json` prints, or the fetch.lock that `kernel fetch` writes)
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// Machine to include, as `uname -m` prints it; may be repeated [default: x86_64 in repositories, every machine in local packages]
    #[arg(long, value_name = "MACHINE")]
    arch: Vec<String>,
    /// In place of progress, write marks to stderr: `.` for each page listed from redhat:, `v` for each package that is fetched
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    source: SourceArgs,
}

impl From {
    fn options(&self, context: &Context) -> Result<SourceOptions, Failure> {
        let options = self.source.options(&self.sources, context)?;
        if options.is_empty() {
            return Err(Failure::usage("neither a SOURCE nor a distribution is given")
                .hint("name a source, such as rpm:URL or dir:PATH, or a distribution: `--distro debian:bookworm`"));
        }
        let filter = Filter { machines: sources::machines(&self.arch), ..options.filter };
        // Marks where they are asked for; else lines where nobody watches, as the log of a build server.
        let narration = Narration { marks: self.interactive, lines: !self.interactive && options.narration.lines };
        Ok(SourceOptions { filter, narration, ..options })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Table,
    /// What `--json` prints: kernels.json
    Json,
    /// The list that driverkit reads
    KernelCrawler,
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::List(args) => list(args, context),
        Command::Fetch(args) => fetch(args, context),
        Command::Unpack(args) => unpack(args, context),
        Command::Matrix(args) => matrix::run(args, context),
    }
}

fn list(args: &List, context: &Context) -> Outcome {
    let found = gather::kernels(&args.from.options(context)?, &context.http, context.ui.progress())?.or_nothing()?;
    let done = found.done();
    let set = KernelSet::new(found.kernels).with_unplaced(found.unplaced).with_mirrors(found.mirrors);
    let set = set.with_unchecked(found.unchecked);
    match args.format {
        Some(Format::KernelCrawler) => context.ui.data(serde_json::to_string_pretty(&set.kernel_crawler())?)?,
        Some(Format::Json) => context.ui.data(serde_json::to_string_pretty(&set)?)?,
        Some(Format::Table) => context.ui.data(set.to_text().trim_end())?,
        None => context.ui.result(&set, KernelSet::to_text)?,
    }
    Ok(done.into())
}

fn fetch(args: &Fetch, context: &Context) -> Outcome {
    let options = FetchOptions {
        from: args.from.options(context)?,
        roles: args.role.iter().flat_map(|roles| roles.0.iter().copied()).collect(),
        to: args.to.clone(),
        per_host: args.parallel.count(),
        http: context.http.clone(),
    };
    let gathered = options.gather(context.ui.progress())?;
    if args.dry_run {
        let report = packages::would_fetch(&gathered, &options, context.ui.progress())?;
        context.ui.result(&report, WouldFetch::to_text)?;
        return Ok(report.done().into());
    }
    let (report, done) = packages::fetch(gathered, &options, context.ui.progress())?;
    context.ui.warn_of(report.warnings());
    context.ui.result(&report, FetchReport::to_text)?;
    Ok(done.into())
}

fn unpack(args: &Unpack, context: &Context) -> Outcome {
    let options = UnpackKernels {
        from: args.local.options(&args.sources, &args.arch)?,
        to: args.to.clone(),
        package_limit: args.package_limit << 30,
        http: context.http.clone(),
    };
    let unpacked = packages::unpack(&options, context.ui.progress())?;
    context.ui.warn_of(unpacked.warnings);
    context.ui.result(&unpacked.report, UnpackReport::to_text)?;
    Ok(unpacked.done.into())
}

/// After the help of `haversack kernel`.
pub(super) const GROUP_HELP: &str = "\
Examples:
  haversack kernel list --distro debian:bookworm --latest 2
  haversack kernel fetch --distro debian:bookworm --latest 1 --to packages
  haversack kernel unpack dir:packages --to trees

Exit status: 0 done, 1 failed or nothing found, 2 wrong command line, 3 done in part";

const LIST_HELP: &str = "\
Examples:
  haversack kernel list --distro rocky:9
  haversack kernel list rpm:http://mirror.local/rocky/9/BaseOS/x86_64/os --release 5.14.0-503
  haversack kernel list 'apt:http://mirror.local/debian bookworm main' --json

Exit status: 0 listed, 1 failed or nothing found, 2 wrong command line, 3 listed, but some sources could not be read";

const FETCH_HELP: &str = "\
Examples:
  haversack kernel fetch --distro debian:bookworm --latest 1 --role build --to packages
  haversack kernel fetch rpm:http://mirror.local/rocky/9/BaseOS/x86_64/os --to packages --dry-run

Exit status: 0 all is there, 1 failed or nothing found, 2 wrong command line, 3 some packages or sources failed; each is named";

const UNPACK_HELP: &str = "\
Examples:
  haversack kernel unpack dir:packages --to trees

Exit status: 0 all unpacked, 1 failed or nothing found, 2 wrong command line, 3 some kernels failed or lack packages; each is named";

const MATRIX_HELP: &str = "\
Examples:
  haversack kernel matrix --channel stable-4.18
  haversack kernel matrix dir:packages --json
  haversack kernel matrix --channel stable-4.18 --missing-in docker://registry.local:5000/driver-toolkit --format json

Exit status: 0 listed, or all have their images, 1 failed or nothing found, 2 wrong command line, 3 listed, but some releases or \
sources could not be read";
