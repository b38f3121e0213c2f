//! `haversack catalog check`: questions as people write them, answered or refused.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::catalog::Snapshot;
use crate::catalog::check::{ChartQuestion, OperatorQuestion, Question};
use crate::catalog::question;
use crate::cli::Context;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::fs::{self, PathContext};
use crate::plural;

#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct CheckArgs {
    #[command(subcommand)]
    question: Option<CheckCommand>,
    /// Answer every question in this file (`-` for stdin), a JSON document in each line
    #[arg(long, value_name = "FILE")]
    batch: Option<PathBuf>,
    /// Snapshot file
    #[arg(long, global = true, value_name = "FILE", default_value = "catalog.db")]
    db: PathBuf,
}

#[derive(Subcommand)]
enum CheckCommand {
    /// Say whether a container image is certified, by digest or by tag
    #[command(after_help = CONTAINER_HELP)]
    Container {
        /// Image: REGISTRY/REPOSITORY[:TAG][@DIGEST], or a digest alone; a digest decides, whatever the name is
        image: String,
    },
    /// Say whether an operator is certified, by the name of its cluster service version (CSV)
    #[command(after_help = OPERATOR_HELP)]
    Operator {
        /// Name of the CSV, NAME.VERSION
        csv_name: String,
        /// OpenShift version to be certified for, MAJOR.MINOR [default: any]
        #[arg(long, value_name = "VERSION")]
        ocp_version: Option<String>,
    },
    /// Say whether a Helm chart is certified, by name and version
    #[command(after_help = CHART_HELP)]
    Chart {
        /// Name of the chart
        name: String,
        /// Version of the chart
        version: String,
        /// Kubernetes version to be certified for [default: any]
        #[arg(long, value_name = "VERSION")]
        kube_version: Option<String>,
    },
}

pub(super) fn run(args: CheckArgs, context: &Context) -> Outcome {
    let question = match (args.question, args.batch) {
        (None, Some(path)) => return batch(&path, &args.db, context),
        (Some(CheckCommand::Container { image }), None) => {
            Question::Container(question::container_of(&args.db, &image)?)
        }
        (Some(CheckCommand::Operator { csv_name, ocp_version }), None) => {
            let ocp_version = ocp_version.as_deref().map(question::minor).transpose()?.unwrap_or_default();
            Question::Operator(OperatorQuestion { csv_name, ocp_version })
        }
        (Some(CheckCommand::Chart { name: chart, version, kube_version }), None) => {
            let kube_version = kube_version.map(question::kubernetes).transpose()?.unwrap_or_default();
            Question::Helm(ChartQuestion { chart, version, kube_version })
        }
        (None, None) => return Err(Failure::usage("nothing to check: name what, or give `--batch`")),
        (Some(_), Some(_)) => return Err(Failure::usage("either one thing is checked, or `--batch`")),
    };
    let answered = question::ask(&Snapshot::open(&args.db)?, &question)?;
    context.ui.result(&answered, |answered| answered.verdict.to_text(&answered.near, answered.snapshot))?;
    Ok(if answered.verdict.certified { Exit::Done } else { Exit::No })
}

/// Answers every line, in order; a line that cannot be answered is named, and the others go on.
#[expect(clippy::disallowed_methods, reason = "JSON lines, streamed: serde escapes what is in them")]
fn batch(path: &Path, db: &Path, context: &Context) -> Outcome {
    let snapshot = Snapshot::open(db)?;
    let info = snapshot.info()?;
    let input: Box<dyn BufRead> =
        if path == Path::new("-") { Box::new(BufReader::new(io::stdin())) } else { Box::new(fs::open(path)?) };
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut refused = 0;
    for (number, line) in input.split(b'\n').enumerate() {
        let line = line.at("read", path)?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (answer, error) = question::answer_line(&snapshot, &info, &line)?;
        if let Some(error) = error {
            refused += 1;
            context.ui.warn(format_args!("{}: line {}: {error}", path.display(), number + 1));
        }
        serde_json::to_writer(&mut output, &answer).map_err(io::Error::from)?;
        output.write_all(b"\n")?;
    }
    output.flush()?;
    context.ui.say(format_args!("answered from the snapshot of {}, {}", info.taken, info.taken.age_text()));
    if refused > 0 {
        context
            .ui
            .warn(format_args!("not answered: {}; a question looks like {QUESTION}", plural::count(refused, "line")));
    }
    Ok(Exit::of(refused == 0))
}

const QUESTION: &str = r#"{"kind":"operator","args":{"csv_name":"a.v1","ocp_version":"4.16"}}"#;

const HELP: &str = r#"Examples:
  haversack catalog check container registry.connect.redhat.com/acme/db:1.0
  haversack catalog check operator acme-db-operator.v1.0.0 --ocp-version 4.16
  haversack catalog check --batch questions.jsonl

A line of --batch is a JSON document like one of these; empty lines are skipped:
  {"kind":"container","args":{"registry":"registry.connect.redhat.com","repository":"acme/db","tag":"1.0"}}
  {"kind":"container","args":{"digest":"sha256:…"}}
  {"kind":"operator","args":{"csv_name":"acme-db-operator.v1.0.0","ocp_version":"4.16"}}
  {"kind":"helm","args":{"chart":"acme-db","version":"1.1.0","kube_version":"v1.29.4"}}
Each line is printed again with "certified": true or false added. What is not a valid question gets "error" instead. A question gets both if certsuite would take the answer for a no, although the question is incomplete: OpenShift 4.16.3 instead of 4.16, an image without a tag, half a digest.

Exit status: 0 certified, 1 not certified, 2 no answer; with --batch: 0 all lines were answered, whatever the answers are, 2 the snapshot or the file cannot be read, 3 some lines were not answered"#;

const CONTAINER_HELP: &str = "\
Examples:
  haversack catalog check container registry.connect.redhat.com/acme/db:1.0

Exit status: 0 certified, 1 not certified, 2 no answer: the question is incomplete, or the snapshot cannot be read";

const OPERATOR_HELP: &str = "\
Examples:
  haversack catalog check operator acme-db-operator.v1.0.0 --ocp-version 4.16

Exit status: 0 certified, 1 not certified, 2 no answer: the question is incomplete, or the snapshot cannot be read";

const CHART_HELP: &str = "\
Examples:
  haversack catalog check chart acme-db 1.1.0 --kube-version 1.29

Exit status: 0 certified, 1 not certified, 2 no answer: the question is incomplete, or the snapshot cannot be read";
