//! `haversack kernel`: list, fetch and unpack kernel packages.

mod matrix;
pub(super) mod source;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use self::matrix::MatrixArgs;
use self::source::SourceArgs;
use crate::cli::Context;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::kernel::classify::Role;
use crate::kernel::download::FetchReport;
use crate::kernel::set::{Filter, KernelSet};
use crate::kernel::source::SourceOptions;
use crate::kernel::unpack::UnpackReport;
use crate::ops::gather;
use crate::ops::packages::{self, FetchOptions, UnpackKernels, WouldFetch};
use crate::progress::Narration;

/// Kernel packages: which there are, and directories in which modules can be built for them
#[derive(Subcommand)]
pub(super) enum Command {
    /// List the kernels that sources offer, with their packages
    List(List),
    /// Fetch the packages of kernels into a directory
    Fetch(Fetch),
    /// Unpack kernels into directories in which modules can be built
    Unpack(Unpack),
    /// Say which kernels matter: those of OpenShift's releases, or of sources
    Matrix(Box<MatrixArgs>),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    from: From,
    /// How the list is written
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Args)]
pub(super) struct Fetch {
    #[command(flatten)]
    from: From,
    /// The directory to fetch into
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Maximum number of parallel transfers from one host
    #[arg(long, value_name = "N", default_value_t = 4)]
    parallel: usize,
    /// Fetch only packages of this role: core, devel, headers, common, kbuild, modules, image, config, meta; or `build`, all that
    /// modules are built with and not the kernel itself [default: all]
    #[arg(long, value_name = "ROLE", value_parser = roles)]
    role: Vec<Roles>,
    /// Print what would be fetched, and fetch nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct Unpack {
    #[command(flatten)]
    from: From,
    /// The directory to unpack into, as DIR/DISTRIBUTION/RELEASE
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The most that one package may decompress to, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    package_limit: u64,
}

/// Sources, what they need, and which kernels of them are wanted.
#[derive(Args)]
pub(in crate::cli) struct From {
    /// Where packages are: dir:PATH, rpm:URL, apt:URL SUITE COMPONENT…, redhat:CONTENT-SET…, set:FILE (of `kernel list --json`, or fetch.lock),
    /// crawler:FILE (of kernel-crawler)
    #[arg(required_unless_present = "distro", value_name = "SOURCE")]
    sources: Vec<String>,
    /// Machine to include, as `uname -m` names it; may be repeated [default: all; of repositories, x86_64]
    #[arg(long, value_name = "MACHINE")]
    arch: Vec<String>,
    /// Print a dot for each page of redhat: that was listed and a v for each package that is fetched
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    source: SourceArgs,
}

impl From {
    fn options(&self, context: &Context) -> Result<SourceOptions, Failure> {
        let options = self.source.options(&self.sources, context)?;
        let filter = Filter { machines: source::machines(&self.arch), ..options.filter };
        // Marks where they are asked for; lines where nobody watches, as the log of a build server.
        let narration = Narration { marks: self.interactive, ..options.narration };
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
    let found = gather::kernels(&args.from.options(context)?, &context.http, context.ui.progress())?;
    let set = KernelSet::new(found.kernels).with_unplaced(found.unplaced);
    match args.format {
        Some(Format::KernelCrawler) => context.ui.data(serde_json::to_string_pretty(&set.kernel_crawler())?)?,
        Some(Format::Json) => context.ui.data(serde_json::to_string_pretty(&set)?)?,
        Some(Format::Table) => context.ui.data(set.to_text().trim_end())?,
        None => context.ui.result(&set, KernelSet::to_text)?,
    }
    Ok(Exit::of(found.complete))
}

/// What `--role` names.
#[derive(Clone)]
struct Roles(Vec<Role>);

fn roles(text: &str) -> Result<Roles, String> {
    if text == "build" {
        return Ok(Roles(vec![Role::Devel, Role::Headers, Role::Common, Role::Kbuild, Role::Config]));
    }
    let found = Role::ALL.into_iter().find(|role| role.name() == text);
    let known = || format!("known roles: build, {}", Role::ALL.map(Role::name).join(", "));
    found.map(|role| Roles(vec![role])).ok_or_else(known)
}

fn fetch(args: &Fetch, context: &Context) -> Outcome {
    let options = FetchOptions {
        from: args.from.options(context)?,
        roles: args.role.iter().flat_map(|roles| roles.0.iter().copied()).collect(),
        to: args.to.clone(),
        per_host: args.parallel,
        http: context.http.clone(),
    };
    let gathered = options.gather(context.ui.progress())?;
    let complete = gathered.complete;
    if args.dry_run {
        context.ui.result(&packages::would_fetch(&gathered.kernels), WouldFetch::to_text)?;
        return Ok(Exit::of(complete));
    }
    let report = packages::fetch(gathered, &options, context.ui.progress())?;
    context.ui.warn_of(report.warnings());
    context.ui.result(&report, FetchReport::to_text)?;
    Ok(Exit::of(complete && report.failed.is_empty()))
}

fn unpack(args: &Unpack, context: &Context) -> Outcome {
    let options = UnpackKernels {
        from: args.from.options(context)?,
        to: args.to.clone(),
        package_limit: args.package_limit << 30,
        http: context.http.clone(),
    };
    let unpacked = packages::unpack(&options, context.ui.progress())?;
    context.ui.warn_of(unpacked.warnings);
    context.ui.result(&unpacked.report, UnpackReport::to_text)?;
    Ok(Exit::of(unpacked.complete))
}
