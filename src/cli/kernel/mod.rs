//! `haversack kernel`: list, fetch and unpack kernel packages.

mod matrix;
pub(super) mod source;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use self::matrix::MatrixArgs;
use self::source::SourceArgs;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::{Context, block_on};
use crate::fs;
use crate::kernel::classify::Role;
use crate::kernel::download::{self, FetchOptions};
use crate::kernel::group::Kernel;
use crate::kernel::set::{Filter, KernelSet};
use crate::kernel::source::SourceOptions;
use crate::kernel::unpack::{self, Keys, Status, UnpackOptions, UnpackReport, Unpacked};
use crate::limits;
use crate::ops::gather::{self, Gathered};
use crate::progress::{Narration, Progress, Unit, amount};
use crate::table;

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
    let Gathered { kernels, unplaced, complete, .. } = gather(&args.from.options(context)?, context)?;
    let set = KernelSet::new(kernels).with_unplaced(unplaced);
    match args.format {
        Some(Format::KernelCrawler) => {
            let list = serde_json::to_string_pretty(&set.kernel_crawler())?;
            context.ui.data(list)?;
        }
        Some(Format::Json) => context.ui.data(serde_json::to_string_pretty(&set)?)?,
        Some(Format::Table) => context.ui.data(table(&set).trim_end())?,
        None => context.ui.result(&set, table)?,
    }
    Ok(Exit::of(complete))
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

/// What a fetch would bring.
#[derive(Serialize)]
struct WouldFetch {
    dry_run: bool,
    packages: Vec<WouldFetchPackage>,
    /// Of those whose size is stated.
    bytes: u64,
}

#[derive(Serialize)]
struct WouldFetchPackage {
    file: String,
    /// Bytes, where the source states them.
    size: Option<u64>,
    location: String,
}

fn would_fetch(kernels: &[Kernel], context: &Context) -> Result<(), Failure> {
    let packages = kernels.iter().flat_map(|kernel| &kernel.packages);
    let packages = packages.map(|(_, package)| (package.name.to_string(), package)).collect::<BTreeMap<_, _>>();
    let packages = packages.into_iter().map(|(file, package)| WouldFetchPackage {
        file,
        size: package.size,
        location: package.location.clone(),
    });
    let packages: Vec<_> = packages.collect();
    let bytes = limits::total(packages.iter().filter_map(|package| package.size));
    let would = WouldFetch { dry_run: true, packages, bytes };
    context.ui.result(&would, |would| {
        let size = |size: Option<u64>| size.map_or("unknown size".to_owned(), |size| amount(size, Unit::Bytes));
        let lines = would.packages.iter().map(|package| format!("{:>12}  {}\n", size(package.size), package.file));
        let unknown = would.packages.iter().filter(|package| package.size.is_none()).count();
        let more = if unknown > 0 { format!(", and {unknown} of unknown size") } else { String::new() };
        let total = amount(would.bytes, Unit::Bytes);
        lines.collect::<String>() + &format!("{} packages would be fetched: {total}{more}\n", would.packages.len())
    })?;
    Ok(())
}

fn fetch(args: &Fetch, context: &Context) -> Outcome {
    let from = args.from.options(context)?;
    let Gathered { mut kernels, mirrors, complete, .. } = gather(&from, context)?;
    if !args.role.is_empty() {
        let is_wanted = |role: &Role| args.role.iter().any(|roles| roles.0.contains(role));
        kernels.iter_mut().for_each(|kernel| kernel.packages.retain(|(role, _)| is_wanted(role)));
        kernels.retain(|kernel| !kernel.packages.is_empty());
    }
    if args.dry_run {
        would_fetch(&kernels, context)?;
        return Ok(Exit::of(complete));
    }
    let places = kernels.iter().flat_map(|kernel| &kernel.packages).map(|(_, package)| &*package.location);
    let http = gather::client(&from, places, &context.http)?;
    let redhat = gather::redhat(&from, &http);
    let options = FetchOptions { per_host: args.parallel, redhat, mirrors, narration: from.narration };
    // Bars and marks would write over each other.
    let off = Progress::off();
    let progress = if args.from.interactive { &off } else { context.ui.progress() };
    let report = block_on(async { Ok(download::fetch(&http, kernels, &args.to, &options, progress).await?) })?;
    for (file, why) in &report.failed {
        context.ui.warn(format_args!("{file}: {why}"));
    }
    for file in &report.replaced {
        context.ui.warn(format_args!("{file}: was here with other content and was replaced"));
    }
    for file in &report.unverified {
        context.ui.warn(format_args!("{file}: no source states its digest; it is whole, and was not verified"));
    }
    for file in &report.weak {
        context.ui.warn(format_args!("{file}: only MD5 or SHA-1 is stated of it, which tells damage and not forgery"));
    }
    for (file, elsewhere) in report.elsewhere.iter().take(SAID) {
        context.ui.warn(format_args!("{file}: {}; fetched from {}", elsewhere.why, elsewhere.from));
    }
    if report.elsewhere.len() > SAID {
        context.ui.warn(format_args!("{} more came from other mirrors", report.elsewhere.len() - SAID));
    }
    context.ui.result(&report, |report| {
        let elsewhere = match report.elsewhere.len() {
            0 => String::new(),
            count => format!(", {count} from other mirrors"),
        };
        format!(
            "{} fetched ({}{elsewhere}), {} unchanged, {} failed\n",
            report.fetched.len(),
            amount(report.bytes, Unit::Bytes),
            report.unchanged.len(),
            report.failed.len()
        )
    })?;
    Ok(Exit::of(complete && report.failed.is_empty()))
}

fn unpack(args: &Unpack, context: &Context) -> Outcome {
    let Gathered { kernels, complete, .. } = gather(&args.from.options(context)?, context)?;
    if let Some(remote) = kernels.iter().flat_map(|kernel| &kernel.packages).find(|(_, p)| p.location.contains("://")) {
        return Err(Failure::usage(format!("{} is not here", remote.1.location))
            .hint("fetch the packages first: haversack kernel fetch SOURCE… --to DIR, then unpack dir:DIR"));
    }
    let keys = match &args.from.source.keyring {
        Some(path) => Some(
            Keys::from_armor(&fs::read(path, KEYRING_LIMIT)?)
                .map_err(|error| Failure::from(error).about(path.display()))?,
        ),
        None => None,
    };
    let options = UnpackOptions { package_limit: args.package_limit << 30, keys };
    let report = unpack::unpack(&kernels, &args.to, &options, context.ui.progress())?;
    for (name, kernel) in &report.kernels {
        if let Some(error) = &kernel.error {
            context.ui.warn(format_args!("{name}: {error}"));
        }
        for what in kernel.missing.iter().filter(|what| !kernels.iter().any(|it| it.missing.contains(what))) {
            context.ui.warn(format_args!("{name}: {what} is in none of its packages, and modules cannot be built"));
        }
    }
    context.ui.result(&report, unpacked)?;
    let failed = |kernel: &Unpacked| kernel.status == Status::Failed || !kernel.missing.is_empty();
    Ok(Exit::of(complete && !report.kernels.values().any(failed)))
}

fn gather(from: &SourceOptions, context: &Context) -> Result<Gathered, Failure> {
    Ok(gather::kernels(from, &context.http, context.ui.progress())?)
}

fn table(set: &KernelSet) -> String {
    let rows = set.kernels.iter().map(|kernel| {
        let release = &kernel.release;
        let mut roles: Vec<&str> = kernel.packages.iter().map(|package| package.role.name()).collect();
        roles.dedup();
        let (distribution, uname) = (release.distribution.clone(), release.uname.clone());
        [distribution, uname, release.machine.to_string(), release.flavour.clone(), roles.join(",")]
    });
    table::with_head(["DISTRIBUTION", "RELEASE", "MACHINE", "FLAVOUR", "PACKAGES"], rows)
}

fn unpacked(report: &UnpackReport) -> String {
    let rows = report.kernels.iter().map(|(name, kernel)| {
        let status = match kernel.status {
            Status::Unpacked => "unpacked",
            Status::Unchanged => "unchanged",
            Status::Failed => "failed",
        };
        let compiler = kernel.compiler.as_ref().map(|compiler| format!("{} {}", compiler.name, compiler.version));
        let config = kernel.config.as_ref().map(|config| config.md5.clone());
        [
            name.clone(),
            status.into(),
            compiler.unwrap_or_else(|| "-".into()),
            config.unwrap_or_else(|| "-".into()),
            kernel.kernel_directory.as_ref().unwrap_or(&kernel.directory).display().to_string(),
        ]
    });
    table::with_head(["KERNEL", "STATUS", "COMPILER", "CONFIG (MD5)", "DIRECTORY"], rows)
}

const KEYRING_LIMIT: u64 = 16 << 20;

/// So many packages of other mirrors are named one by one.
const SAID: usize = 20;
