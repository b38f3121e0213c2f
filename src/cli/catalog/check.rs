//! `haversack catalog check`: questions as people write them, answered or refused.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::catalog::check::{self, ChartQuestion, ContainerQuestion, OperatorQuestion, Question, Verdict};
use crate::catalog::constraint;
use crate::catalog::entry::Instant;
use crate::catalog::store::Answer;
use crate::catalog::{Info, Snapshot};
use crate::cli::Context;
use crate::cli::catalog::{age, age_text};
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::digest::Digest;
use crate::escape::in_line;
use crate::fs::PathContext;

#[derive(Args)]
pub(super) struct CheckArgs {
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
        #[arg(long, value_name = "VERSION")]
        ocp_version: Option<String>,
    },
    /// A Helm chart, by name and version
    Chart {
        /// The chart's name
        name: String,
        /// Its version
        version: String,
        /// Certified for this version of Kubernetes
        #[arg(long, value_name = "VERSION")]
        kube_version: Option<String>,
    },
}

pub(super) fn run(args: CheckArgs, context: &Context) -> Outcome {
    let question = match (args.question, args.batch) {
        (None, Some(path)) => return batch(&path, &args.db, context),
        (Some(CheckCommand::Container { image }), None) => Question::Container(container(&image)?),
        (Some(CheckCommand::Operator { csv_name, ocp_version }), None) => {
            let ocp_version = ocp_version.as_deref().map(minor).transpose()?.unwrap_or_default();
            Question::Operator(OperatorQuestion { csv_name, ocp_version })
        }
        (Some(CheckCommand::Chart { name: chart, version, kube_version }), None) => {
            let kube_version = kube_version.map(kubernetes).transpose()?.unwrap_or_default();
            Question::Helm(ChartQuestion { chart, version, kube_version })
        }
        (None, None) => return Err(Failure::usage("nothing to check: name what, or give `--batch`")),
        (Some(_), Some(_)) => return Err(Failure::usage("either one thing is checked, or `--batch`")),
    };
    #[derive(Serialize)]
    struct Answered {
        #[serde(flatten)]
        verdict: Verdict,
        /// What is certified and much like it, where it is not.
        near: Vec<String>,
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
    let near = if verdict.certified { Vec::new() } else { check::near(&snapshot, &question)? };
    let answered = Answered { verdict, near, snapshot: taken, age_seconds: age(taken) };
    context.ui.result(&answered, |answered| verdict_text(&answered.verdict, &answered.near, taken))?;
    Ok(if answered.verdict.certified { Exit::Done } else { Exit::No })
}

/// What the snapshot does not hold, where the question is about just that.
fn lacking(info: &Info, question: &Question) -> Option<String> {
    let kind = question.kind()?;
    let held = info.kinds.contains_key(&kind);
    (!held).then(|| format!("the snapshot has no {}", kind.plural()))
}

/// The minor version of OpenShift, by which operators are certified: `4.16` of `v4.16.3`. Refuses what is no version: any
/// answer about it would mean nothing.
fn minor(version: &str) -> Result<String, Failure> {
    let plain = version.strip_prefix('v').unwrap_or(version);
    let mut parts = plain.splitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if [major, minor].iter().all(|part| part.parse::<u32>().is_ok()) => {
            Ok(format!("{major}.{minor}"))
        }
        _ => Err(Failure::usage(format!("--ocp-version {version:?}: expected MAJOR.MINOR, such as 4.16"))
            .hint("`oc get clusterversion` shows it; leave the option out to ask for any version")),
    }
}

/// A version of Kubernetes, as clusters print it.
fn kubernetes(version: String) -> Result<String, Failure> {
    match constraint::version(&version) {
        Ok(_) => Ok(version),
        Err(_) => Err(Failure::usage(format!("--kube-version {version:?}: expected a version, such as v1.29.4"))
            .hint("`kubectl version` shows it; leave the option out to ask for any version")),
    }
}

fn verdict_text(verdict: &Verdict, near: &[String], taken: Instant) -> String {
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
            let line = format!("{} {}, provider {provider}, Kubernetes {kube}", chart.name, chart.version);
            let _ = writeln!(text, "chart: {}", in_line(line));
        }
        None => {
            if let Some(reason) = &verdict.reason {
                let _ = writeln!(text, "reason: {reason}");
            }
            if !near.is_empty() {
                let _ = writeln!(text, "certified: {}", in_line(near.join(", ")));
            }
        }
    }
    let _ = writeln!(text, "snapshot: {taken}, {}", age_text(taken));
    text
}

fn identity(id: &str) -> String {
    if id.is_empty() { String::new() } else { format!(" (_id {id})") }
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
#[expect(clippy::disallowed_methods, reason = "JSON lines, streamed: serde escapes what is in them")]
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
        for (version, expected) in [("4.16", "4.16"), ("4.16.3", "4.16"), ("v4.5", "4.5"), ("v4.5.0-rc.1", "4.5")] {
            assert_eq!(minor(version).unwrap(), expected);
        }
        for version in ["", "4", "x.y", "latest", "4.x", "v", "4.16,4.17"] {
            assert_eq!(minor(version).unwrap_err().status(), Exit::Usage, "{version}");
        }
        for version in ["", "latest", "nonsense", "1.x"] {
            assert_eq!(kubernetes(version.into()).unwrap_err().status(), Exit::Usage, "{version}");
        }
        assert_eq!(kubernetes("v1.29.4+abc".into()).unwrap(), "v1.29.4+abc");
    }
}
