//! Answers whether something is certified, as certsuite asks and as certsuite would answer, from the snapshot alone.

use serde::{Deserialize, Serialize};

use crate::catalog::constraint::{self, Constraint};
use crate::catalog::entry::{Chart, Image, Kind, Repository, stored_registry};
use crate::catalog::near::NEAR;
use crate::catalog::store::{Answer, Error, Snapshot};
use crate::digest::Digest;

/// A question, in the form of a line of a batch: `{"kind":"container","args":{…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "args", rename_all = "snake_case")]
pub enum Question {
    /// Is this image certified? By digest when there is one, else by registry, repository and tag.
    Container(ContainerQuestion),
    /// Is this operator certified for this OpenShift version?
    Operator(OperatorQuestion),
    /// Is this chart certified for this cluster?
    #[serde(alias = "chart")]
    Helm(ChartQuestion),
    /// Does this version satisfy this constraint?
    KubeConstraint(ConstraintQuestion),
}

impl Question {
    /// What it is about; nothing in the snapshot for a constraint.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Question::Container(_) => Some(Kind::Container),
            Question::Operator(_) => Some(Kind::Operator),
            Question::Helm(_) => Some(Kind::Chart),
            Question::KubeConstraint(_) => None,
        }
    }
}

/// What is asked about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerQuestion {
    /// Host name.
    pub registry: String,
    /// Name below it.
    pub repository: String,
    /// Tag; empty means `latest`.
    pub tag: String,
    /// Digest of the image or of a manifest list that it stands in; the rest is not looked at then.
    pub digest: String,
}

/// What is asked about an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorQuestion {
    /// `NAME.VERSION` of the cluster service version.
    pub csv_name: String,
    /// `MAJOR.MINOR`; empty for any.
    pub ocp_version: String,
}

/// What is asked about a chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChartQuestion {
    /// The chart's name.
    pub chart: String,
    /// Its version.
    pub version: String,
    /// The cluster's version, as `kubectl version` prints it; empty for any.
    pub kube_version: String,
}

/// A version and a constraint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConstraintQuestion {
    /// The version.
    pub version: String,
    /// The constraint.
    pub constraint: String,
}

/// The answer to one question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Yes or no.
    pub certified: bool,
    /// The row that decided, where one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Answer>,
    /// The name that was asked for beside the digest, where the image with that digest is another's: the digest decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_name: Option<String>,
    /// Why not, where there is more to say than that no row matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answers a question from the snapshot.
pub fn check(snapshot: &Snapshot, question: &Question) -> Result<Verdict, Error> {
    match question {
        Question::Container(question) => {
            if question.digest.is_empty() {
                let image = snapshot.image_by_tag(&question.registry, &question.repository, tag(question))?;
                return Ok(Verdict::from_row(image.map(Answer::Container)));
            }
            let image = snapshot.image_by_digest(&question.digest)?;
            let other_name = image.as_ref().filter(|image| !question.is_named_by(image)).map(|_| question.name());
            let reason = image.is_none().then(|| "the snapshot has no image with this digest".to_owned());
            Ok(Verdict { other_name, reason, ..Verdict::from_row(image.map(Answer::Container)) })
        }
        Question::Operator(question) => {
            let bundle = snapshot.operator(&question.csv_name, &question.ocp_version)?;
            Ok(Verdict::from_row(bundle.map(Answer::Operator)))
        }
        Question::Helm(question) => {
            let charts = snapshot.charts_named(&question.chart, &question.version)?;
            Ok(chart_verdict(charts, &question.kube_version))
        }
        Question::KubeConstraint(question) => Ok(match satisfies(&question.version, &question.constraint) {
            Ok(certified) => Verdict { certified, ..Verdict::default() },
            Err(error) => Verdict { reason: Some(error.to_string()), ..Verdict::default() },
        }),
    }
}

/// What a question may mean that does not say which of several: images of a repository without a tag that is named, CSVs of a
/// package or of a name without a version. None where it says which, or where there is nothing of that name.
pub fn candidates(snapshot: &Snapshot, question: &Question) -> Result<Vec<String>, Error> {
    match question {
        Question::Container(question) if question.digest.is_empty() && question.tag.is_empty() => {
            snapshot.tags_of(&question.registry, &question.repository, NEAR)
        }
        Question::Operator(question) => {
            let found = snapshot.csvs_of(&question.csv_name, NEAR)?;
            // It says which: one that is there for other versions of OpenShift.
            Ok(if found.contains(&question.csv_name) { Vec::new() } else { found })
        }
        _ => Ok(Vec::new()),
    }
}

/// What a question does not say that has such candidates.
pub fn lack(question: &Question) -> Option<&'static str> {
    match question {
        Question::Container(_) => Some("no tag is named, and none is `latest`"),
        Question::Operator(_) => Some("no version is named, which is part of the name of a CSV"),
        Question::Helm(_) | Question::KubeConstraint(_) => None,
    }
}

/// The questions that a text may be, as a person types it into one field: `NAME.vVERSION` of an operator, `HOST/REPOSITORY:TAG` or a
/// digest of an image, `NAME VERSION` of a chart. None when it is a mere word. Versions of the platforms may be empty.
pub fn questions(text: &str, ocp_version: &str, kube_version: &str) -> Vec<Question> {
    let text = text.trim();
    let plain =
        ["docker://", "https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let (name, digest) = match plain.split_once('@') {
        Some((name, digest)) => (name, digest),
        None if plain.starts_with("sha256:") || plain.starts_with("sha512:") => ("", plain),
        None => (plain, ""),
    };
    if digest.parse::<Digest>().is_ok() {
        return vec![Question::Container(ContainerQuestion::of(name, digest))];
    }
    let mut words = plain.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(chart), Some(version), None) => {
            let (chart, version) = (chart.to_owned(), version.to_owned());
            vec![Question::Helm(ChartQuestion { chart, version, kube_version: kube_version.trim().to_owned() })]
        }
        (Some(_), None, None) => match name.split_once('/') {
            Some((registry, rest)) if digest.is_empty() && !registry.is_empty() && !rest.is_empty() => {
                vec![Question::Container(ContainerQuestion::of(name, digest))]
            }
            None if name.contains('.') && digest.is_empty() => {
                let ocp_version = ocp_version.trim().trim_start_matches('v');
                // Operators are certified for minor versions.
                let ocp_version = ocp_version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
                vec![Question::Operator(OperatorQuestion { csv_name: name.to_owned(), ocp_version })]
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Answers yes or no only, for the many questions of a batch.
pub fn is_certified(snapshot: &Snapshot, question: &Question) -> Result<bool, Error> {
    match question {
        Question::Container(question) if question.digest.is_empty() => {
            snapshot.has_tag(&question.registry, &question.repository, tag(question))
        }
        Question::Container(question) => snapshot.has_digest(&question.digest),
        _ => check(snapshot, question).map(|verdict| verdict.certified),
    }
}

impl ContainerQuestion {
    /// Takes `REGISTRY/REPOSITORY[:TAG]` apart as certsuite does: what follows the last colon after the last slash is the tag.
    pub fn of(name: &str, digest: &str) -> Self {
        let (registry, rest) = name.split_once('/').unwrap_or(("", name));
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (rest, ""),
        };
        let (registry, repository, tag) = (registry.to_owned(), repository.to_owned(), tag.to_owned());
        ContainerQuestion { registry, repository, tag, digest: digest.to_owned() }
    }

    /// Whether the image has the name that is asked for, or none is.
    fn is_named_by(&self, image: &Image) -> bool {
        let has = |it: &Repository| {
            it.registry == stored_registry(&self.registry)
                && it.repository == self.repository
                && (self.tag.is_empty() || it.tags.contains(&self.tag))
        };
        self.repository.is_empty() || image.repositories.iter().any(has)
    }

    /// The name without the digest, as people write it.
    pub(crate) fn name(&self) -> String {
        let slash = if self.registry.is_empty() { "" } else { "/" };
        let colon = if self.tag.is_empty() { "" } else { ":" };
        format!("{}{slash}{}{colon}{}", self.registry, self.repository, self.tag)
    }
}

impl Verdict {
    fn from_row(row: Option<Answer>) -> Self {
        Verdict { certified: row.is_some(), row, ..Verdict::default() }
    }
}

fn tag(question: &ContainerQuestion) -> &str {
    if question.tag.is_empty() { "latest" } else { &question.tag }
}

/// Any of the charts with this name and version will do.
fn chart_verdict(charts: Vec<Chart>, kube_version: &str) -> Verdict {
    let mut reason = None;
    for chart in charts {
        if chart.kube_version.is_empty() || kube_version.is_empty() {
            return Verdict::from_row(Some(Answer::Chart(chart)));
        }
        match satisfies(kube_version, &chart.kube_version) {
            Ok(true) => return Verdict::from_row(Some(Answer::Chart(chart))),
            Ok(false) => reason = Some(format!("it asks for Kubernetes {}", chart.kube_version)),
            Err(error) => reason = Some(error.to_string()),
        }
    }
    Verdict { reason, ..Verdict::default() }
}

fn satisfies(version: &str, constraint: &str) -> Result<bool, constraint::ParseError> {
    let version = constraint::version(version)?;
    Ok(constraint.parse::<Constraint>()?.allows(&version))
}
