//! `haversack catalog …`

mod check;
mod info;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use self::info::DiffArgs;
use crate::catalog::Snapshot;
use crate::catalog::entry::Kind;
use crate::catalog::import::{self, Imported};
use crate::catalog::snapshot::{self, SnapshotOptions, SnapshotReport, Source};
use crate::catalog::store::Found;
use crate::catalog::tree::{self, DumpReport};
use crate::cli::outcome::{Exit, Outcome};
use crate::cli::snapshots::{DumpOptionArgs, SourceArgs, notes};
use crate::cli::{Context, block_on};
use crate::plural::count;

/// Take snapshots of the certified catalog and answer questions from them
#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct CatalogArgs {
    #[command(subcommand)]
    command: CatalogCommand,
}

#[derive(Subcommand)]
enum CatalogCommand {
    /// Take a snapshot, or bring an existing one up to date
    #[command(after_help = SNAPSHOT_HELP)]
    Snapshot(SnapshotArgs),
    /// Write the directory that certsuite reads
    #[command(after_help = DUMP_HELP)]
    Dump(DumpArgs),
    /// Make a snapshot from a directory written by `catalog dump`, or by oct, the earlier catalog tool
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Say whether something is certified
    Check(check::CheckArgs),
    /// Find operators, packages, repositories and charts by words of their names
    #[command(after_help = SEARCH_HELP)]
    Search(SearchArgs),
    /// Compare what two snapshots say is certified
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// Show counts, times, sources and the content digest of a snapshot
    #[command(after_help = INFO_HELP)]
    Info(DbArgs),
}

#[derive(Args)]
struct DbArgs {
    /// Snapshot file
    #[arg(long, value_name = "FILE", default_value = "catalog.db")]
    db: PathBuf,
}

#[derive(Args)]
struct SnapshotArgs {
    #[command(flatten)]
    db: DbArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// Directory with recorded pages of the catalog's API, which are read instead of the network
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Kind to take: operators, containers or charts; may be repeated. Other kinds in the snapshot stay as they are
    #[arg(long, value_name = "KIND", default_values = ["operators", "containers", "charts"])]
    kind: Vec<Kind>,
}

#[derive(Args)]
struct DumpArgs {
    /// Directory in which `data/` and `catalog.db` are written
    directory: PathBuf,
    #[command(flatten)]
    db: DbArgs,
    #[command(flatten)]
    what: DumpOptionArgs,
}

#[derive(Args)]
struct ImportArgs {
    /// Directory that has `data/` in it, or that `data/` itself
    tree: PathBuf,
    #[command(flatten)]
    db: DbArgs,
}

#[derive(Args)]
struct SearchArgs {
    /// Words of the name, or how they begin: 'acme op' finds acme-db-operator
    text: String,
    /// Maximum number of names
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    db: DbArgs,
}

pub(super) fn run(args: CatalogArgs, context: &Context) -> Outcome {
    match args.command {
        CatalogCommand::Snapshot(args) => take(args, context),
        CatalogCommand::Dump(args) => dump(&args, context),
        CatalogCommand::Import(args) => import(&args, context),
        CatalogCommand::Check(args) => check::run(args, context).map_err(|failure| failure.exit(Exit::Usage)),
        CatalogCommand::Search(args) => search(&args, context).map_err(|failure| failure.exit(Exit::Usage)),
        CatalogCommand::Diff(args) => info::compare(&args, context).map_err(|failure| failure.exit(Exit::Usage)),
        CatalogCommand::Info(args) => info::info(&args.db, context),
    }
}

impl CatalogArgs {
    /// What the next run goes on with, when it is stopped.
    pub(super) fn goes_on(&self) -> Option<&'static str> {
        match &self.command {
            CatalogCommand::Snapshot(args) if args.db.db.exists() => {
                Some("the old snapshot is as it was; run the command again, and it goes on with what was fetched")
            }
            CatalogCommand::Snapshot(_) => Some("run the command again: it goes on with what was fetched"),
            CatalogCommand::Dump(_)
            | CatalogCommand::Import(_)
            | CatalogCommand::Check(_)
            | CatalogCommand::Search(_)
            | CatalogCommand::Diff(_)
            | CatalogCommand::Info(_) => None,
        }
    }
}

fn take(args: SnapshotArgs, context: &Context) -> Outcome {
    let source = match args.from {
        Some(directory) => Source::Recorded(directory),
        None => args.source.online(context)?,
    };
    let options = SnapshotOptions { kinds: args.kind, ..args.source.options() };
    let report =
        block_on(async { Ok(snapshot::snapshot(&source, &args.db.db, &options, context.ui.progress()).await?) })?;
    notes(&report, context);
    context.ui.result(&report, SnapshotReport::to_text)?;
    Ok(Exit::of(report.is_complete()))
}

fn dump(args: &DumpArgs, context: &Context) -> Outcome {
    let snapshot = Snapshot::open(&args.db.db)?;
    let report = tree::dump(&snapshot, &args.directory, &args.what.options())?;
    context.ui.result(&report, DumpReport::to_text)?;
    context.ui.warn_of(report.warnings());
    Ok(Exit::of(report.missing.is_empty()))
}

fn import(args: &ImportArgs, context: &Context) -> Outcome {
    let imported = import::import(&args.tree, &args.db.db)?;
    context.ui.warn_of(imported.read.passed_over.iter().chain(&imported.read.odd));
    context.ui.result(&imported, Imported::to_text)?;
    Ok(Exit::of(imported.read.odd.is_empty()))
}

fn search(args: &SearchArgs, context: &Context) -> Outcome {
    let snapshot = Snapshot::open(&args.db.db)?;
    let found = snapshot.search(&args.text, args.limit)?;
    context.ui.result(&found, Found::to_text)?;
    let Found { hits, more } = found;
    if more > 0 {
        let shown = args.limit;
        context.ui.say(format_args!("{} more; `--limit` shows more than {shown}", count(more, "name")));
    } else if hits.is_empty() {
        context.ui.say(format_args!("nothing in {} has `{}` in its name", args.db.db.display(), args.text));
    }
    Ok(if hits.is_empty() { Exit::No } else { Exit::Done })
}

const HELP: &str = "\
Examples:
  haversack catalog snapshot
  haversack catalog check container registry.connect.redhat.com/acme/db:1.0
  haversack catalog search acme

Exit status: 0 done, 1 failed, 2 wrong command line; `check`, `search` and `diff` answer with it: 0 yes, 1 no, 2 no answer";

const SNAPSHOT_HELP: &str = "\
Examples:
  haversack catalog snapshot
  haversack catalog snapshot --db monday.db --kind operators --kind charts
  haversack catalog snapshot --api http://mirror.local/api/containers --charts http://mirror.local/index.yaml

The directory of --from holds what the API and the charts' server answered: operators/*.json, pages of v1/operators/bundles; images/*.json, pages of \
v1/images; index.yaml and unpublished-certified-charts.yaml, the charts. What is not there is not taken.

Exit status: 0 taken, 1 failed, and no new snapshot was written, 2 wrong command line, 3 taken, but a kind could not be read";

const DUMP_HELP: &str = "\
Examples:
  haversack catalog dump offline-db

Exit status: 0 written, 1 failed, 2 wrong command line, 3 written, but the snapshot lacks some of it";

const IMPORT_HELP: &str = "\
Examples:
  haversack catalog import offline-db --db imported.db

Exit status: 0 read, 1 failed, 2 wrong command line, 3 read, except for what the warnings name";

const SEARCH_HELP: &str = "\
Examples:
  haversack catalog search 'acme db'

Exit status: 0 found, 1 nothing found, 2 no answer: the snapshot cannot be read, or a wrong command line";

const DIFF_HELP: &str = "\
Examples:
  haversack catalog diff old.db new.db --exit-code

Exit status: 0 compared, 1 they differ and --exit-code is given, 2 no answer: a snapshot that cannot be read, or a wrong command line, \
3 compared, except for a kind that only one of them has";

const INFO_HELP: &str = "\
Examples:
  haversack catalog info --db monday.db

Exit status: 0 shown, 1 failed, 2 wrong command line";
