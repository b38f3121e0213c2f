//! Questions as people and batches write them, answered or refused.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::catalog::check::{self, ContainerQuestion, Question, Verdict};
use crate::catalog::constraint;
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::store::{self, Info, Snapshot};
use crate::digest::{self, Digest};

/// An answer, and from when it is.
#[derive(Debug, Serialize)]
pub struct Answered {
    /// The answer.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What is certified and much like it, where it is not.
    pub near: Vec<String>,
    /// When the snapshot was taken.
    pub snapshot: Instant,
    /// Seconds since then.
    pub age_seconds: i64,
}

/// Why something cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a version of OpenShift.
    #[error("--ocp-version {0:?}: expected MAJOR.MINOR, such as 4.16")]
    OpenShift(String),
    /// Not a version of Kubernetes.
    #[error("--kube-version {0:?}: expected a version, such as v1.29.4")]
    Kubernetes(String),
    /// Not a digest.
    #[error("{image}: {reason}")]
    Digest {
        /// The reference.
        image: String,
        /// What is wrong with its digest.
        reason: digest::Error,
    },
    /// A reference that certsuite would not understand.
    #[error("{0:?}: expected REGISTRY/REPOSITORY[:TAG][@DIGEST], or a digest")]
    Image(String),
    /// It does not say which of several.
    #[error("{asked}: {lack}; in the snapshot: {}", candidates.join(", "))]
    Which {
        /// What was asked about.
        asked: String,
        /// What it does not say.
        lack: &'static str,
        /// The first of what it may mean.
        candidates: Vec<String>,
    },
    /// Not the name of a CSV.
    #[error(
        "{0}: expected the name of a CSV, NAME.VERSION, such as acme-db-operator.v1.0.0; there is no package of this name, either"
    )]
    Csv(String),
    /// The snapshot does not hold what the question is about.
    #[error("{}: the snapshot has no {}, so there is no answer", db.display(), kind.plural())]
    Lacking {
        /// The snapshot.
        db: PathBuf,
        /// What it has none of.
        kind: Kind,
    },
    /// The snapshot failed.
    #[error("{0}")]
    Store(#[from] store::Error),
}

/// Answers a question, or says why there is no answer.
pub fn ask(snapshot: &Snapshot, question: &Question) -> Result<Answered, Error> {
    let info = snapshot.info()?;
    if let Some(kind) = lacking(&info, question) {
        return Err(Error::Lacking { db: snapshot.path().to_owned(), kind });
    }
    let verdict = check::check(snapshot, question)?;
    if !verdict.certified {
        refuse_vague(snapshot, question)?;
    }
    let near = if verdict.certified { Vec::new() } else { check::near(snapshot, question)? };
    Ok(Answered { verdict, near, snapshot: info.taken, age_seconds: info.taken.age() })
}

/// A no would not be believed where the question does not say what is meant: a repository without a tag, the name of a package.
fn refuse_vague(snapshot: &Snapshot, question: &Question) -> Result<(), Error> {
    let candidates = check::candidates(snapshot, question)?;
    let asked = match question {
        Question::Container(image) => format!("{}/{}", image.registry, image.repository),
        Question::Operator(operator) => operator.csv_name.clone(),
        Question::Helm(_) | Question::KubeConstraint(_) => return Ok(()),
    };
    match (check::lack(question), question) {
        (Some(lack), _) if !candidates.is_empty() => Err(Error::Which { asked, lack, candidates }),
        (_, Question::Operator(_)) if !asked.contains('.') && check::near(snapshot, question)?.is_empty() => {
            Err(Error::Csv(asked))
        }
        _ => Ok(()),
    }
}

/// Answers a line of a batch, a [`Question`] in JSON, with the line itself and `certified`, or with `error`; that is given apart, too.
pub fn answer_line(
    snapshot: &Snapshot,
    info: &Info,
    line: &[u8],
) -> Result<(Map<String, Value>, Option<String>), store::Error> {
    let mut fields: Map<String, Value> = serde_json::from_slice(line).unwrap_or_default();
    let asked = serde_json::from_slice::<Question>(line).map_err(|error| format!("not a question: {error}"));
    let asked = asked.and_then(|question| match (empty(&question), lacking(info, &question)) {
        (Some(field), _) => Err(format!("nothing is asked: `{field}` is empty")),
        (None, Some(kind)) => Err(format!("the snapshot has no {}", kind.plural())),
        (None, None) => Ok(question),
    });
    let error = match asked {
        Ok(question) => {
            fields.insert("certified".into(), check::is_certified(snapshot, &question)?.into());
            None
        }
        Err(error) => {
            fields.insert("error".into(), error.clone().into());
            Some(error)
        }
    };
    Ok((fields, error))
}

/// The field without which a question asks nothing, where it is empty.
fn empty(question: &Question) -> Option<&'static str> {
    let fields = match question {
        Question::Container(image) if image.digest.is_empty() => [("repository", &image.repository); 2],
        Question::Container(image) => [("digest", &image.digest); 2],
        Question::Operator(operator) => [("csv_name", &operator.csv_name); 2],
        Question::Helm(chart) => [("chart", &chart.chart), ("version", &chart.version)],
        Question::KubeConstraint(asked) => [("version", &asked.version); 2],
    };
    fields.into_iter().find(|(_, value)| value.trim().is_empty()).map(|(field, _)| field)
}

/// What the snapshot does not hold, where the question is about just that.
fn lacking(info: &Info, question: &Question) -> Option<Kind> {
    question.kind().filter(|kind| !info.kinds.contains_key(kind))
}

/// The minor version of OpenShift, by which operators are certified: `4.16` of `v4.16.3`. Refuses what is no version: any
/// answer about it would mean nothing.
pub fn minor(version: &str) -> Result<String, Error> {
    let plain = version.strip_prefix('v').unwrap_or(version);
    let mut parts = plain.splitn(3, '.');
    match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) if [major, minor].iter().all(|part| part.parse::<u32>().is_ok()) => {
            Ok(format!("{major}.{minor}"))
        }
        _ => Err(Error::OpenShift(version.to_owned())),
    }
}

/// A version of Kubernetes, as clusters print it.
pub fn kubernetes(version: String) -> Result<String, Error> {
    match constraint::version(&version) {
        Ok(_) => Ok(version),
        Err(_) => Err(Error::Kubernetes(version)),
    }
}

/// Takes an image reference apart as certsuite does. What podman and browsers put before a name is taken off.
pub fn container(image: &str) -> Result<ContainerQuestion, Error> {
    let image =
        ["docker://", "https://", "http://"].iter().find_map(|scheme| image.strip_prefix(scheme)).unwrap_or(image);
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, digest),
        None if image.starts_with("sha256:") => ("", image),
        None => (image, ""),
    };
    if !digest.is_empty()
        && let Err(reason) = digest.parse::<Digest>()
    {
        return Err(Error::Digest { image: image.to_owned(), reason });
    }
    let question = ContainerQuestion::of(name, digest);
    let (registry, repository) = (&question.registry, &question.repository);
    // No host of the catalog is one word but `non_registry`: a word before the slash is most likely part of the repository.
    let is_host = registry.contains(['.', ':', '_']) || registry == "localhost";
    if digest.is_empty() && (!is_host || repository.is_empty()) {
        return Err(Error::Image(image.to_owned()));
    }
    Ok(question)
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
            assert!(container(image).is_err(), "{image}");
        }
    }

    #[test]
    fn openshift_versions_are_taken_as_clusters_print_them() {
        for (version, expected) in [("4.16", "4.16"), ("4.16.3", "4.16"), ("v4.5", "4.5"), ("v4.5.0-rc.1", "4.5")] {
            assert_eq!(minor(version).unwrap(), expected);
        }
        for version in ["", "4", "x.y", "latest", "4.x", "v", "4.16,4.17"] {
            assert!(matches!(minor(version), Err(Error::OpenShift(it)) if it == version), "{version}");
        }
        for version in ["", "latest", "nonsense", "1.x"] {
            assert!(matches!(kubernetes(version.into()), Err(Error::Kubernetes(it)) if it == version), "{version}");
        }
        assert_eq!(kubernetes("v1.29.4+abc".into()).unwrap(), "v1.29.4+abc");
    }
}
