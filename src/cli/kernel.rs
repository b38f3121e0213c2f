//! `haversack kernel`: list, fetch and unpack kernel packages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand, ValueEnum};
use url::Url;

use crate::cli::matrix::{self, MatrixArgs};
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::{Context, block_on, refusal};
use crate::fs;
use crate::http::{ClientIdentity, HostTls, Http, HttpOptions};
use crate::kernel::download::{self, FetchOptions};
use crate::kernel::group::{Grouping, Kernel, group};
use crate::kernel::package::Package;
use crate::kernel::release::Machine;
use crate::kernel::set::{Filter, KernelSet};
use crate::kernel::source::cache::Cache;
use crate::kernel::source::keyring::Keyring;
use crate::kernel::source::local::{self, Depth};
use crate::kernel::source::redhat::{RedHat, RedHatOptions};
use crate::kernel::source::{self, Source, Wanted, crawler, preset};
use crate::kernel::unpack::{self, Keys, Status, UnpackOptions, UnpackReport};
use crate::progress::{Narration, Progress, Unit, amount};

/// Kernel packages: which there are, and directories in which modules can be built for them
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the kernels that sources offer, with their packages
    List(List),
    /// Fetch the packages of kernels into a directory
    Fetch(Fetch),
    /// Unpack kernels into directories in which modules can be built
    Unpack(Unpack),
    /// Say which kernels matter: those of OpenShift's releases, or of sources
    Matrix(MatrixArgs),
}

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    from: From,
    /// How the list is written
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    from: From,
    /// The directory to fetch into
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// How many packages at once from one host
    #[arg(long, value_name = "N", default_value_t = 4)]
    parallel: usize,
}

#[derive(Args)]
pub(crate) struct Unpack {
    #[command(flatten)]
    from: From,
    /// The directory to unpack into, as DIR/DISTRIBUTION/RELEASE
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The most that one package may decompress to, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    package_limit: u64,
}

#[derive(Args)]
pub(crate) struct From {
    /// Where packages are: dir:PATH, rpm:URL, apt:URL SUITE COMPONENT…, redhat:CONTENT-SET…, set:FILE (of `kernel list --json`, or fetch.lock),
    /// crawler:FILE (of kernel-crawler)
    #[arg(required_unless_present = "distro", value_name = "SOURCE")]
    sources: Vec<String>,
    /// The repositories of a distribution, in all its versions or in this one: debian:bookworm, rocky:9
    #[arg(long, value_name = "NAME[:VERSION]")]
    distro: Vec<String>,
    /// Where the repositories of --distro are mirrored
    #[arg(long, value_name = "URL", requires = "distro")]
    mirror: Option<String>,
    /// Trust the names of local files instead of reading their headers
    #[arg(long)]
    names_only: bool,
    /// Require that repositories, or rpm files that are unpacked, are signed by a key in this file
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Where the offline token for redhat: is; else in REDHAT_OFFLINE_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The packages that are listed from redhat:
    #[arg(long, value_name = "NAME", default_values = ["kernel-core", "kernel-devel"])]
    package: Vec<String>,
    /// The subscriber API
    #[arg(
        long,
        value_name = "URL",
        hide_short_help = true,
        default_value = "https://api.access.redhat.com/management/v1"
    )]
    redhat_api: Url,
    /// Where access tokens for it come from
    #[arg(long, value_name = "URL", hide_short_help = true, default_value = SSO)]
    redhat_sso: Url,
    /// The certificate to show to the hosts of rpm: and apt: sources, as entitled content needs (PEM)
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Its key, where it is not in the same file
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Keep repositories' metadata in this directory, and ask only whether it changed
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Print a dot for each page of redhat: that was listed and a v for each package that is fetched
    #[arg(short, long)]
    interactive: bool,
    /// Take apt repositories whose Valid-Until is past
    #[arg(long)]
    allow_expired: bool,
    /// Only this release, or those that begin with it
    #[arg(long, value_name = "RELEASE")]
    release: Vec<String>,
    /// Only kernels that are not older
    #[arg(long, value_name = "VERSION")]
    since: Option<String>,
    /// Only this machine, as `uname -m` names it
    #[arg(long, value_name = "MACHINE")]
    arch: Vec<String>,
    /// Only this flavour: default, rt, 64k, cloud, azure …
    #[arg(long, value_name = "FLAVOUR")]
    flavour: Vec<String>,
    /// Of each distribution, machine and flavour only the N newest
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
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

pub(crate) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::List(args) => list(args, context),
        Command::Fetch(args) => fetch(args, context),
        Command::Unpack(args) => unpack(args, context),
        Command::Matrix(args) => matrix::run(args, context),
    }
}

fn list(args: &List, context: &Context) -> Outcome {
    let (kernels, exit) = gather(&args.from, context)?;
    let set = KernelSet::new(kernels);
    match args.format {
        Some(Format::KernelCrawler) => {
            let list = serde_json::to_string_pretty(&set.kernel_crawler())?;
            context.ui.data(list)?;
        }
        Some(Format::Json) => context.ui.data(serde_json::to_string_pretty(&set)?)?,
        Some(Format::Table) => context.ui.data(table(&set).trim_end())?,
        None => context.ui.result(&set, table)?,
    }
    Ok(exit)
}

fn fetch(args: &Fetch, context: &Context) -> Outcome {
    let (kernels, exit) = gather(&args.from, context)?;
    let places = kernels.iter().flat_map(|kernel| &kernel.packages).map(|(_, package)| &*package.location);
    let http = http(&args.from, places, context)?;
    let options = FetchOptions {
        per_host: args.parallel,
        redhat: redhat(&args.from, &http, context)?,
        narration: narration(&args.from, context),
    };
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
        context.ui.warn(format_args!("{file}: no source states its digest; it was not verified"));
    }
    context.ui.result(&report, |report| {
        format!(
            "{} fetched ({}), {} unchanged, {} failed\n",
            report.fetched.len(),
            amount(report.bytes, Unit::Bytes),
            report.unchanged.len(),
            report.failed.len()
        )
    })?;
    Ok(if report.failed.is_empty() { exit } else { Exit::Partial })
}

fn unpack(args: &Unpack, context: &Context) -> Outcome {
    let (kernels, exit) = gather(&args.from, context)?;
    if let Some(remote) = kernels.iter().flat_map(|kernel| &kernel.packages).find(|(_, p)| p.location.contains("://")) {
        return Err(Failure::usage(format!("{} is not here", remote.1.location))
            .hint("fetch the packages first: haversack kernel fetch SOURCE… --to DIR, then unpack dir:DIR"));
    }
    let keys = match &args.from.keyring {
        Some(path) => Some(Keys::from_armor(&fs::read(path, KEYRING_LIMIT)?).map_err(|error| about(error, path))?),
        None => None,
    };
    let options = UnpackOptions { package_limit: args.package_limit << 30, keys };
    let report = unpack::unpack(&kernels, &args.to, &options, context.ui.progress())?;
    for (name, kernel) in &report.kernels {
        if let Some(error) = &kernel.error {
            context.ui.warn(format_args!("{name}: {error}"));
        }
    }
    context.ui.result(&report, unpacked)?;
    let failed = report.kernels.values().any(|kernel| kernel.status == Status::Failed);
    Ok(if failed { Exit::Partial } else { exit })
}

/// What the sources offer; the status is [`Exit::Partial`] when some of it could not be had.
pub(super) fn packages(from: &From, wanted: Wanted, context: &Context) -> Result<(Vec<Package>, Exit), Failure> {
    let mut sources = Source::parse_all(&from.sources).map_err(|error| Failure::from(error).exit(Exit::Usage))?;
    let default = "x86_64".parse().unwrap_or_else(|never| match never {});
    for distro in &from.distro {
        for machine in machines(from).iter().chain(from.arch.is_empty().then_some(&default)) {
            let preset = preset::sources(distro, machine, from.mirror.as_deref());
            for source in preset.map_err(|error| Failure::from(error).exit(Exit::Usage))? {
                // One suite of an apt repository serves all machines.
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
        }
    }
    let mut exit = Exit::Done;
    let mut packages: Vec<Package> = Vec::new();
    let depth = if from.names_only { Depth::Names } else { Depth::Headers };
    let mut repositories = Vec::new();
    for source in sources {
        match source {
            Source::Directory(path) => {
                let (found, problems) = local::packages(&path, depth, context.ui.progress())?;
                for problem in problems {
                    exit = Exit::Partial;
                    let failure = Failure::from(problem.error);
                    context.ui.warn(format_args!("{}: {failure}", problem.path.display()));
                }
                packages.extend(found);
            }
            Source::Set(path) => {
                let set = KernelSet::parse(&fs::read(&path, SET_LIMIT)?);
                let set = set.map_err(|error| about(error, &path))?;
                packages.extend(set.into_packages().into_iter().map(|package| at_hand(package, &path)));
            }
            Source::Crawler(path) => {
                let list = crawler::packages(fs::open(&path)?);
                packages.extend(list.map_err(|error| about(error, &path))?);
            }
            Source::Rpm(_) | Source::Apt(_) | Source::RedHat(_) => repositories.push(source),
        }
    }
    for result in from_repositories(repositories, from, wanted, context)? {
        match result {
            Ok(found) => packages.extend(found),
            Err(error) => {
                exit = Exit::Partial;
                context.ui.warn(Failure::from(error));
            }
        }
    }
    Ok((packages, exit))
}

/// The kernels that the sources offer, filtered; the status is [`Exit::Partial`] when some of it could not be had.
pub(super) fn gather(from: &From, context: &Context) -> Result<(Vec<Kernel>, Exit), Failure> {
    let (packages, mut exit) = packages(from, Wanted::Kernels, context)?;
    let count = packages.len();
    let mut grouping = group(packages);
    if say(&grouping, context) {
        exit = Exit::Partial;
    }
    let filter = Filter {
        releases: from.release.clone(),
        since: from.since.clone(),
        machines: machines(from),
        flavours: from.flavour.clone(),
        latest: from.latest,
    };
    let before = grouping.kernels.len();
    filter.apply(&mut grouping.kernels);
    match (before, grouping.kernels.len()) {
        (0, _) => context.ui.warn(format_args!("no kernel is among the {count} packages that were found")),
        (_, 0) => {
            context.ui.warn(format_args!("none of the {before} kernels that were found is one that was asked for"));
        }
        _ => {}
    }
    Ok((grouping.kernels, exit))
}

/// A package of a set where the set says, as seen from here or from the set, or beside the set: what was fetched from a disk
/// lies beside its `fetch.lock` when the disk is gone.
fn at_hand(package: Package, set: &Path) -> Package {
    if package.location.contains("://") || Path::new(&package.location).exists() {
        return package;
    }
    let places = [fs::parent(set).join(&package.location), fs::parent(set).join(package.name.to_string())];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Package { location: place.to_string_lossy().into_owned(), ..package },
        None => package,
    }
}

fn about(error: impl Into<Failure>, path: &Path) -> Failure {
    error.into().about(path.display())
}

impl From {
    /// What the words of a command line mean.
    pub(super) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Failure> {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            from: From,
        }
        let words = std::iter::once("kernel".to_owned()).chain(words);
        let only = <Only as clap::Parser>::try_parse_from(words).map_err(|error| Failure::usage(refusal(&error)))?;
        Ok(only.from)
    }
}

/// What repositories offer, side by side, each with its own error.
fn from_repositories(
    repositories: Vec<Source>,
    from: &From,
    wanted: Wanted,
    context: &Context,
) -> Result<Vec<Result<Vec<Package>, source::Error>>, Failure> {
    if repositories.is_empty() {
        return Ok(Vec::new());
    }
    let keyring = match &from.keyring {
        Some(path) => {
            Some(Arc::new(Keyring::read(&fs::read(path, KEYRING_LIMIT)?).map_err(|error| about(error, path))?))
        }
        None => {
            tracing::info!("no key ring was given: signatures of repositories are not checked");
            None
        }
    };
    let places: Vec<&str> = repositories.iter().filter_map(place).collect();
    let http = http(from, places.into_iter(), context)?;
    let options = source::Options {
        machines: machines(from),
        keyring,
        allow_expired: from.allow_expired,
        now: jiff::Timestamp::now(),
        redhat: redhat(from, &http, context)?,
        wanted,
        cache: from.cache_dir.as_deref().map(Cache::open).transpose()?,
    };
    block_on(async { Ok(source::packages_of_all(&http, repositories, &options).await) })
}

/// The subscriber API, when there is a token for it.
pub(super) fn redhat(from: &From, http: &Http, context: &Context) -> Result<Option<Arc<RedHat>>, Failure> {
    let token = match &from.token_file {
        Some(path) => Some(String::from_utf8_lossy(&fs::read(path, 1 << 20)?).trim().to_owned()),
        None => context.config.variable("REDHAT_OFFLINE_TOKEN").map(str::to_owned),
    };
    let Some(offline_token) = token else { return Ok(None) };
    let names = from.package.clone();
    let options = RedHatOptions { api: from.redhat_api.clone(), sso: from.redhat_sso.clone(), offline_token, names };
    Ok(Some(Arc::new(RedHat::new(http.clone(), options).narrated(narration(from, context)))))
}

/// A client that shows its certificate to the hosts of the places and to no other.
fn http<'a>(from: &From, places: impl Iterator<Item = &'a str>, context: &Context) -> Result<Http, Failure> {
    // Content is known by its digest; a server must not wrap it into another compression.
    let mut options = HttpOptions { gzip: false, ..context.http.clone() };
    if let Some(certificate) = &from.client_cert {
        let key = from.client_key.as_ref().unwrap_or(certificate).clone();
        let identity = ClientIdentity { certificate: certificate.clone(), key };
        let hosts: BTreeSet<String> = places.filter_map(host).collect();
        let with = |host| HostTls { identity: Some(identity.clone()), ..HostTls::new(host) };
        options.hosts.extend(hosts.into_iter().map(with));
    }
    Ok(Http::new(&options)?)
}

/// `HOST`, with the port where it is not that of the scheme.
fn host(place: &str) -> Option<String> {
    let url = place.parse::<Url>().ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// The address of a repository.
fn place(source: &Source) -> Option<&str> {
    match source {
        Source::Rpm(url) => Some(url.as_str()),
        Source::Apt(apt) => Some(apt.base.as_str()),
        _ => None,
    }
}

/// Marks where they are asked for; lines where nobody watches, as the log of a build server.
fn narration(from: &From, context: &Context) -> Narration {
    Narration { marks: from.interactive, lines: context.ui.is_logged() }
}

fn machines(from: &From) -> Vec<Machine> {
    let machine = |machine: &String| {
        let Ok(machine) = machine.parse();
        machine
    };
    from.arch.iter().map(machine).collect()
}

/// Says what was left out, and whether any of it is a fault.
fn say(grouping: &Grouping, context: &Context) -> bool {
    for (package, reason) in &grouping.ignored {
        tracing::info!("{}: left out: {reason}", package.name);
    }
    for package in &grouping.unused {
        tracing::info!("{}: left out: no kernel here needs it", package.name);
    }
    for package in &grouping.conflicts {
        context
            .ui
            .warn(format_args!("{}: another package has this name and other content; left out", package.location));
    }
    let missing = grouping.kernels.iter().flat_map(|kernel| kernel.missing.iter().map(|what| (&kernel.release, what)));
    for (release, what) in missing {
        tracing::warn!("{release}: {what} is not here");
    }
    !grouping.conflicts.is_empty()
}

fn table(set: &KernelSet) -> String {
    let rows: Vec<[String; 5]> = set
        .kernels
        .iter()
        .map(|kernel| {
            let release = &kernel.release;
            let mut roles: Vec<&str> = kernel.packages.iter().map(|package| package.role.name()).collect();
            roles.dedup();
            [
                release.distribution.clone(),
                release.uname.clone(),
                release.machine.to_string(),
                release.flavour.clone(),
                roles.join(","),
            ]
        })
        .collect();
    let mut rows = rows.iter().map(|row| row.each_ref().map(String::as_str)).collect::<Vec<_>>();
    rows.insert(0, ["DISTRIBUTION", "RELEASE", "MACHINE", "FLAVOUR", "PACKAGES"]);
    columns(&rows)
}

fn unpacked(report: &UnpackReport) -> String {
    let mut rows =
        vec![["KERNEL".to_owned(), "STATUS".into(), "COMPILER".into(), "CONFIG (MD5)".into(), "DIRECTORY".into()]];
    for (name, kernel) in &report.kernels {
        let status = match kernel.status {
            Status::Unpacked => "unpacked",
            Status::Unchanged => "unchanged",
            Status::Failed => "failed",
        };
        let compiler = kernel.compiler.as_ref().map(|compiler| format!("{} {}", compiler.name, compiler.version));
        let config = kernel.config.as_ref().map(|config| config.md5.clone());
        rows.push([
            name.clone(),
            status.into(),
            compiler.unwrap_or_else(|| "-".into()),
            config.unwrap_or_else(|| "-".into()),
            kernel.kernel_directory.as_ref().unwrap_or(&kernel.directory).display().to_string(),
        ]);
    }
    let rows: Vec<[&str; 5]> = rows.iter().map(|row| row.each_ref().map(String::as_str)).collect();
    columns(&rows)
}

/// Lines with the columns aligned, the last one ragged.
pub(super) fn columns<const N: usize>(rows: &[[&str; N]]) -> String {
    let widths: Vec<usize> = (0..N).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

const SSO: &str = "https://sso.redhat.com/auth/realms/redhat-external/protocol/openid-connect/token";
/// A set of 100,000 kernels has some 100 MiB.
const SET_LIMIT: u64 = 1 << 30;
const KEYRING_LIMIT: u64 = 16 << 20;
