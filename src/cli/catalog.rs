//! `haversack catalog …`

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use crate::catalog::check::{self, ChartQuestion, ContainerQuestion, OperatorQuestion, Question, Verdict};
use crate::catalog::diff::{self, Diff};
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::snapshot::{self, How, SnapshotOptions, SnapshotReport, Source};
use crate::catalog::store::{Answer, Open};
use crate::catalog::tree::{self, DumpOptions, DumpReport, ImportReport};
use crate::catalog::{Draft, Info, Snapshot};
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::{Context, block_on};
use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs::PathContext;

/// Snapshot the certified catalog and answer from the snapshot
#[derive(Args)]
pub(super) struct CatalogArgs {
    #[command(subcommand)]
    command: CatalogCommand,
}

#[derive(Subcommand)]
enum CatalogCommand {
    /// Take a snapshot, or bring the one there is up to date
    Snapshot(SnapshotArgs),
    /// Write the directory that certsuite reads
    Dump(DumpArgs),
    /// Read a directory that oct or `dump` wrote into a snapshot
    Import(ImportArgs),
    /// Say whether something is certified: exit status 0 yes, 1 no, 2 no answer
    Check(CheckArgs),
    /// Find operators, packages, repositories and charts by words of their names
    Search(SearchArgs),
    /// Compare what two snapshots answer
    Diff(DiffArgs),
    /// Show counts, times, sources and the content digest
    Info(DbArgs),
}

#[derive(Args)]
struct DbArgs {
    /// The snapshot
    #[arg(long, value_name = "FILE", default_value = "catalog.db")]
    db: PathBuf,
}

/// Where the catalog is, and how to read it. The images' refresh takes the same.
#[derive(Args)]
pub(super) struct SourceArgs {
    /// Base URL of the catalog's API
    #[arg(long, value_name = "URL", default_value = "https://catalog.redhat.com/api/containers", value_parser = web)]
    api: Url,
    /// URL of the chart index; the unpublished certified charts lie beside it
    #[arg(long, value_name = "URL", default_value = "https://charts.openshift.io/index.yaml", value_parser = web)]
    charts: Url,
    /// Whose operators; may be given more than once
    #[arg(long, value_name = "NAME", default_value = "certified-operators")]
    organization: Vec<String>,
    /// Requests at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Rows a page; the server may give fewer
    #[arg(long, value_name = "ROWS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    page_size: u64,
    /// Read everything, even where a refresh would do
    #[arg(long)]
    full: bool,
    /// Read everything when that was last done so many days ago
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    full_after: u16,
    /// Take the snapshot although a kind lost more than a fifth of its answers, or all of them
    #[arg(long)]
    accept_shrink: bool,
}

#[derive(Args)]
struct SnapshotArgs {
    #[command(flatten)]
    db: DbArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// Take it from recorded bodies in this directory instead
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// What to take; may be given more than once. The rest stays as it is
    #[arg(long, value_name = "KIND", value_parser = kind, default_values = ["operators", "containers", "charts"])]
    kind: Vec<Kind>,
}

#[derive(Args)]
struct DumpArgs {
    /// Where `data/` is written, and `catalog.db` beside it
    directory: PathBuf,
    #[command(flatten)]
    db: DbArgs,
    #[command(flatten)]
    what: DumpOptionArgs,
}

/// What a dump leaves out.
#[derive(Args)]
pub(super) struct DumpOptionArgs {
    /// Leave `catalog.db` out
    #[arg(long)]
    no_db: bool,
    /// Leave out charts of the community, which nobody certified
    #[arg(long)]
    no_community: bool,
}

#[derive(Args)]
struct ImportArgs {
    /// The tree, or its `data/`
    tree: PathBuf,
    #[command(flatten)]
    db: DbArgs,
}

#[derive(Args)]
struct CheckArgs {
    #[command(subcommand)]
    question: Option<CheckCommand>,
    /// Read questions from a file (`-` for stdin) as JSON lines, and answer each with a line
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
    /// The snapshot
    #[arg(long, global = true, value_name = "FILE", default_value = "catalog.db")]
    db: PathBuf,
}

#[derive(Subcommand)]
enum CheckCommand {
    /// A container image, by digest or by tag
    Container {
        /// `REGISTRY/REPOSITORY[:TAG][@DIGEST]`, or a digest alone
        image: String,
    },
    /// An operator, by the name of its cluster service version
    Operator {
        /// `NAME.VERSION`
        csv_name: String,
        /// Certified for this OpenShift version, `MAJOR.MINOR`
        #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
        ocp_version: String,
    },
    /// A Helm chart, by name and version
    Chart {
        /// The chart's name
        name: String,
        /// Its version
        version: String,
        /// Certified for this version of Kubernetes
        #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
        kube_version: String,
    },
}

#[derive(Args)]
struct SearchArgs {
    /// Words; the last one may be unfinished
    text: String,
    /// Names at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    db: DbArgs,
}

#[derive(Args)]
struct DiffArgs {
    /// The old snapshot
    old: PathBuf,
    /// The new snapshot
    new: PathBuf,
    /// End with status 1 when they differ
    #[arg(long)]
    exit_code: bool,
}

pub(super) fn run(args: CatalogArgs, context: &Context) -> Outcome {
    match args.command {
        CatalogCommand::Snapshot(args) => take(args, context),
        CatalogCommand::Dump(args) => dump(&args, context),
        CatalogCommand::Import(args) => import(&args, context),
        CatalogCommand::Check(args) => answer(args, context).map_err(|failure| failure.exit(Exit::Usage)),
        CatalogCommand::Search(args) => search(&args, context),
        CatalogCommand::Diff(args) => compare(&args, context),
        CatalogCommand::Info(args) => info(&args.db, context),
    }
}

impl SourceArgs {
    /// The services, with the client of this run.
    pub(super) fn online(&self, context: &Context) -> Result<Source, Failure> {
        let (api, charts) = (Box::new(self.api.clone()), Box::new(self.charts.clone()));
        Ok(Source::Online { http: context.http()?, api, charts })
    }

    pub(super) fn options(&self) -> SnapshotOptions {
        SnapshotOptions {
            organizations: self.organization.clone(),
            parallel: self.parallel.into(),
            page_size: self.page_size,
            full: self.full,
            full_after: Duration::from_secs(u64::from(self.full_after) * 24 * 3600),
            accept_shrink: self.accept_shrink,
            ..SnapshotOptions::default()
        }
    }
}

impl DumpOptionArgs {
    pub(super) fn options(&self) -> DumpOptions {
        DumpOptions { without_db: self.no_db, without_community: self.no_community, ready: None }
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
    context.ui.result(&report, snapshot_text)?;
    Ok(Exit::of(report.is_complete()))
}

/// Says what the user should know of a snapshot beside its counts.
pub(super) fn notes(report: &SnapshotReport, context: &Context) {
    if report.resumed {
        context.ui.say("Went on with what an interrupted run had fetched");
    }
    for (kind, done) in &report.kinds {
        for line in done.notes.iter().chain(&done.odd) {
            context.ui.warn(line);
        }
        if let Some(reason) = &done.failed {
            let kind_name = kind.plural();
            match report.info.kinds.get(kind) {
                Some(old) => {
                    context.ui.warn(format_args!("the {kind_name} are still those of {}: {reason}", old.taken));
                }
                None => {
                    context.ui.warn(format_args!("the snapshot has no {kind_name}: {reason}"));
                }
            }
        }
    }
}

fn snapshot_text(report: &SnapshotReport) -> String {
    let mut text = String::new();
    for (kind, done) in &report.kinds {
        let about = report.info.kinds.get(kind).map(|info| info.rows).unwrap_or_default();
        let how = match done.how {
            How::Full => "read in full",
            How::Refresh => "refreshed",
            How::Unchanged => "unchanged",
            How::Kept => "could not be read, kept as they were",
        };
        let _ = writeln!(text, "{}: {about} ({how}, {} rows read, {} removed)", kind.plural(), done.read, done.removed);
    }
    let _ = writeln!(text, "taken: {}\ncontent: {}", report.info.taken, report.info.digest);
    text
}

fn dump(args: &DumpArgs, context: &Context) -> Outcome {
    let snapshot = Snapshot::open(&args.db.db)?;
    let report = tree::dump(&snapshot, &args.directory, &args.what.options())?;
    context.ui.result(&report, dump_text)?;
    Ok(dump_exit(&report, context))
}

/// Says what the tree lacks because the snapshot does, and gives the status.
pub(super) fn dump_exit(report: &DumpReport, context: &Context) -> Exit {
    for kind in &report.missing {
        let kind = kind.plural();
        context.ui.warn(format_args!("the snapshot has no {kind}: certsuite will take none for certified"));
    }
    Exit::of(report.missing.is_empty())
}

pub(super) fn dump_text(report: &DumpReport) -> String {
    format!(
        "{}: {} image keys, {} operator bundles, {} charts\n",
        report.directory.join("data").display(),
        report.containers,
        report.operators,
        report.charts
    )
}

fn import(args: &ImportArgs, context: &Context) -> Outcome {
    #[derive(Serialize)]
    struct Imported {
        read: ImportReport,
        info: Info,
    }
    let (draft, open) = Draft::open(&args.db.db, &format!("import {}", args.tree.display()), false)?;
    if open == Open::Resumed {
        // An import is quick, and the tree may be another one by now.
        draft.discard()?;
        return import(args, context);
    }
    let (read, kinds) = match tree::read(&args.tree, &draft) {
        Ok(read) => read,
        Err(error) => {
            draft.discard()?;
            return Err(error.into());
        }
    };
    let taken = kinds.iter().map(|(_, info)| info.taken).min().unwrap_or_default();
    let imported = Imported { read, info: draft.finish(taken, kinds)?.info()? };
    for line in imported.read.passed_over.iter().chain(&imported.read.odd) {
        context.ui.warn(line);
    }
    let complete = imported.read.odd.is_empty();
    context.ui.result(&imported, |Imported { read, info }| {
        format!(
            "{}: {} image keys, {} operator bundles, {} charts\ncontent: {}\n",
            args.db.db.display(),
            read.containers,
            read.operators,
            read.charts,
            info.digest
        )
    })?;
    Ok(Exit::of(complete))
}

fn answer(args: CheckArgs, context: &Context) -> Outcome {
    let question = match (args.question, args.batch) {
        (None, Some(path)) => return batch(&path, &args.db, context),
        (Some(CheckCommand::Container { image }), None) => Question::Container(container(&image)?),
        (Some(CheckCommand::Operator { csv_name, ocp_version }), None) => {
            Question::Operator(OperatorQuestion { csv_name, ocp_version: minor(&ocp_version) })
        }
        (Some(CheckCommand::Chart { name: chart, version, kube_version }), None) => {
            Question::Helm(ChartQuestion { chart, version, kube_version })
        }
        (None, None) => return Err(Failure::usage("nothing to check: name what, or give `--batch`")),
        (Some(_), Some(_)) => return Err(Failure::usage("either one thing is checked, or `--batch`")),
    };
    #[derive(Serialize)]
    struct Answered {
        #[serde(flatten)]
        verdict: Verdict,
        snapshot: Instant,
        age_seconds: i64,
    }
    let snapshot = Snapshot::open(&args.db)?;
    let info = snapshot.info()?;
    if let Some(lacking) = lacking(&info, &question) {
        return Err(Failure::new(format!("{}: {lacking}, so there is no answer", args.db.display()))
            .hint("take them, too: `haversack catalog snapshot`"));
    }
    let verdict = check::check(&snapshot, &question)?;
    let taken = info.taken;
    let answered = Answered { verdict, snapshot: taken, age_seconds: age(taken) };
    context.ui.result(&answered, |answered| verdict_text(&answered.verdict, taken))?;
    Ok(if answered.verdict.certified { Exit::Done } else { Exit::No })
}

/// What the snapshot does not hold, where the question is about just that.
fn lacking(info: &Info, question: &Question) -> Option<String> {
    let kind = question.kind()?;
    let held = info.kinds.contains_key(&kind);
    (!held).then(|| format!("the snapshot has no {}", kind.plural()))
}

/// The minor version of OpenShift, by which operators are certified: `4.16` of `v4.16.3`.
fn minor(version: &str) -> String {
    let plain = version.strip_prefix('v').unwrap_or(version);
    let mut parts = plain.splitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if [major, minor].iter().all(|part| part.parse::<u32>().is_ok()) => {
            format!("{major}.{minor}")
        }
        _ => version.to_owned(),
    }
}

fn verdict_text(verdict: &Verdict, taken: Instant) -> String {
    let mut text = String::from(if verdict.certified { "certified\n" } else { "not certified\n" });
    match &verdict.row {
        Some(Answer::Operator(bundle)) => {
            let _ = writeln!(
                text,
                "bundle: {} for OpenShift {}, channel {}{}",
                in_line(&bundle.csv_name),
                in_line(&bundle.ocp_version),
                in_line(&bundle.channel),
                in_line(identity(&bundle.id))
            );
        }
        Some(Answer::Container(image)) => {
            let _ = writeln!(
                text,
                "image: {} {}{}",
                in_line(image.digests.first().map_or("without a digest", String::as_str)),
                in_line(&image.architecture),
                in_line(identity(&image.id))
            );
            for repository in &image.repositories {
                let tags = repository.tags.join(", ");
                let _ = writeln!(
                    text,
                    "  {}",
                    in_line(format_args!("{}/{}: {tags}", repository.registry, repository.repository))
                );
            }
        }
        Some(Answer::Chart(chart)) => {
            let provider = if chart.provider_type.is_empty() { "unknown" } else { &chart.provider_type };
            let kube = if chart.kube_version.is_empty() { "any" } else { &chart.kube_version };
            let line =
                format_args!("{} {}, provider {provider}, Kubernetes {kube}", chart.name, chart.version).to_string();
            let _ = writeln!(text, "chart: {}", in_line(line));
        }
        None => {
            if let Some(reason) = &verdict.reason {
                let _ = writeln!(text, "reason: {reason}");
            }
        }
    }
    let _ = writeln!(text, "snapshot: {taken}, {}", age_text(taken));
    text
}

fn identity(id: &str) -> String {
    if id.is_empty() { String::new() } else { format!(" (_id {id})") }
}

fn age(taken: Instant) -> i64 {
    (Instant::now().micros() - taken.micros()).max(0) / 1_000_000
}

/// How old what was taken then is, in words.
pub(super) fn age_text(taken: Instant) -> String {
    let ahead = taken.micros() - Instant::now().micros();
    match (ahead / 3_600_000_000, age(taken) / 3600) {
        // Clocks differ by minutes.
        (0, _) if ahead > 300_000_000 => "in the future by this host's clock".into(),
        (hours @ 1.., _) => format!("{hours} h in the future by this host's clock"),
        (_, hours @ ..48) => format!("{hours} h old"),
        (_, hours) => format!("{} days old", hours / 24),
    }
}

/// Takes an image reference apart as certsuite does: what follows the last colon after the last slash is the tag. What
/// podman and browsers put before a name is taken off.
fn container(image: &str) -> Result<ContainerQuestion, Failure> {
    let image =
        ["docker://", "https://", "http://"].iter().find_map(|scheme| image.strip_prefix(scheme)).unwrap_or(image);
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, digest),
        None if image.starts_with("sha256:") => ("", image),
        None => (image, ""),
    };
    if !digest.is_empty()
        && let Err(error) = digest.parse::<Digest>()
    {
        return Err(Failure::usage(format!("{image}: {error}")));
    }
    let (registry, rest) = name.split_once('/').unwrap_or(("", name));
    let (repository, tag) = match rest.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (rest, ""),
    };
    if digest.is_empty() && (registry.is_empty() || repository.is_empty()) {
        return Err(Failure::usage(format!("{image:?}: expected REGISTRY/REPOSITORY[:TAG][@DIGEST], or a digest"))
            .hint(
                "the catalog knows images by the registry's name, such as `registry.connect.redhat.com/ORG/NAME:TAG`",
            ));
    }
    Ok(ContainerQuestion {
        registry: registry.into(),
        repository: repository.into(),
        tag: tag.into(),
        digest: digest.into(),
    })
}

/// Answers every line with the line itself and `certified`, in order; a line that is no question is answered with
/// `error` instead and named, and the others go on.
fn batch(path: &Path, db: &Path, context: &Context) -> Outcome {
    let snapshot = Snapshot::open(db)?;
    let info = snapshot.info()?;
    let input: Box<dyn BufRead> =
        if path == Path::new("-") { Box::new(BufReader::new(io::stdin())) } else { Box::new(crate::fs::open(path)?) };
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut refused = 0;
    for (number, line) in input.split(b'\n').enumerate() {
        let line = line.at("read", path)?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut fields: Map<String, Value> = serde_json::from_slice(&line).unwrap_or_default();
        let asked = serde_json::from_slice::<Question>(&line).map_err(|error| format!("not a question: {error}"));
        let asked = asked.and_then(|question| lacking(&info, &question).map_or(Ok(question), Err));
        match asked {
            Ok(question) => fields.insert("certified".into(), check::is_certified(&snapshot, &question)?.into()),
            Err(error) => {
                refused += 1;
                context.ui.warn(format_args!("{}: line {}: {error}", path.display(), number + 1));
                fields.insert("error".into(), error.into())
            }
        };
        serde_json::to_writer(&mut output, &fields).map_err(io::Error::from)?;
        output.write_all(b"\n")?;
    }
    output.flush()?;
    let taken = info.taken;
    context.ui.say(format_args!("answered from the snapshot of {taken}, {}", age_text(taken)));
    if refused > 0 {
        context.ui.warn(format_args!("{refused} lines were not answered; a question looks like {QUESTION}"));
        return Ok(Exit::Partial);
    }
    Ok(Exit::Done)
}

const QUESTION: &str = r#"{"kind":"operator","args":{"csv_name":"a.v1","ocp_version":"4.16"}}"#;

fn search(args: &SearchArgs, context: &Context) -> Outcome {
    let hits = Snapshot::open(&args.db.db)?.search(&args.text, args.limit)?;
    context.ui.result(&hits, |hits| {
        hits.iter().map(|hit| format!("{}\t{}\n", in_line(&hit.kind), in_line(&hit.name))).collect()
    })?;
    Ok(if hits.is_empty() { Exit::No } else { Exit::Done })
}

fn compare(args: &DiffArgs, context: &Context) -> Outcome {
    let diff = diff::diff(&Snapshot::open(&args.old)?, &Snapshot::open(&args.new)?)?;
    context.ui.result(&diff, diff_text)?;
    Ok(if args.exit_code && !diff.is_empty() { Exit::No } else { Exit::Done })
}

fn diff_text(diff: &Diff) -> String {
    let mut text = String::new();
    for fact in &diff.removed {
        let _ = writeln!(text, "- {}", in_line(fact));
    }
    for fact in &diff.added {
        let _ = writeln!(text, "+ {}", in_line(fact));
    }
    for change in &diff.changed {
        let _ = writeln!(text, "~ {}: {} -> {}", in_line(&change.what), in_line(&change.old), in_line(&change.new));
    }
    let _ =
        writeln!(text, "{} added, {} removed, {} changed", diff.added.len(), diff.removed.len(), diff.changed.len());
    text
}

fn info(db: &Path, context: &Context) -> Outcome {
    #[derive(Serialize)]
    struct About {
        #[serde(flatten)]
        info: Info,
        age_seconds: i64,
        bytes: u64,
    }
    let snapshot = Snapshot::open(db)?;
    let info = snapshot.info()?;
    let bytes = std::fs::metadata(db)?.len();
    let about = About { age_seconds: age(info.taken), bytes, info };
    context.ui.result(&about, |About { info, bytes, .. }| {
        let mut text = format!(
            "taken: {}, {}\ncontent: {}\nsize: {}\n",
            info.taken,
            age_text(info.taken),
            info.digest,
            crate::progress::amount(*bytes, crate::progress::Unit::Bytes)
        );
        for (kind, about) in &info.kinds {
            let _ = writeln!(text, "{}: {} rows, {} answers", kind.plural(), about.rows, about.answers);
            let _ = writeln!(text, "  from {}", in_line(&about.source));
            if !about.filter.is_empty() {
                let _ = writeln!(text, "  where {}", in_line(&about.filter));
            }
            let _ = match about.walked.is_known() {
                true => writeln!(text, "  taken {}, last read in full {}", about.taken, about.walked),
                false => writeln!(text, "  imported; written {}", about.taken),
            };
        }
        text
    })?;
    Ok(Exit::Done)
}

fn web(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("expected an http:// or https:// URL".into()),
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    match text {
        "operator" | "operators" => Ok(Kind::Operator),
        "container" | "containers" | "image" | "images" => Ok(Kind::Container),
        "chart" | "charts" | "helm" => Ok(Kind::Chart),
        _ => Err("expected operators, containers or charts".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references_are_taken_apart_as_certsuite_does() {
        let question = |registry: &str, repository: &str, tag: &str, digest: &str| ContainerQuestion {
            registry: registry.into(),
            repository: repository.into(),
            tag: tag.into(),
            digest: digest.into(),
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, expected) in [
            ("quay.io/a/b:1", question("quay.io", "a/b", "1", "")),
            ("quay.io/a/b", question("quay.io", "a/b", "", "")),
            ("localhost:5000/a", question("localhost:5000", "a", "", "")),
            (&format!("quay.io/a/b:1@{digest}"), question("quay.io", "a/b", "1", &digest)),
            (&digest, question("", "", "", &digest)),
            (&format!("https://quay.io/a/b@{digest}"), question("quay.io", "a/b", "", &digest)),
            ("docker://quay.io/a/b:1", question("quay.io", "a/b", "1", "")),
        ] {
            assert_eq!(container(image).unwrap(), expected, "{image}");
        }
        for image in ["", "httpd:2", "quay.io/", "quay.io/a/b@sha256:0", "sha256:0", "docker://"] {
            assert_eq!(container(image).unwrap_err().status(), Exit::Usage, "{image}");
        }
    }

    #[test]
    fn openshift_versions_are_taken_as_clusters_print_them() {
        for (version, expected) in [
            ("4.16", "4.16"),
            ("4.16.3", "4.16"),
            ("v4.5", "4.5"),
            ("v4.5.0-rc.1", "4.5"),
            ("", ""),
            ("4", "4"),
            ("x.y", "x.y"),
        ] {
            assert_eq!(minor(version), expected);
        }
    }

    #[test]
    fn what_is_from_the_future_is_said_to_be() {
        let hours = |hours: i64| age_text(Instant::now().plus_seconds(hours * 3600 + 30));
        assert_eq!(hours(-3), "2 h old");
        assert_eq!(hours(-72), "2 days old");
        assert_eq!(hours(5), "5 h in the future by this host's clock");
    }
}
