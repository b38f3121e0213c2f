//! Questions as people and batches write them, answered or refused.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::catalog::check::{self, ContainerQuestion, OperatorQuestion, Question, Verdict};
use crate::catalog::constraint;
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::near;
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
    #[error("not a version of OpenShift: {0:?}; expected MAJOR.MINOR, such as 4.16")]
    OpenShift(String),
    /// Not a version of Kubernetes.
    #[error("not a version of Kubernetes: {0:?}; expected one such as v1.29.4")]
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
    #[error("{image:?}: expected REGISTRY/REPOSITORY[:TAG][@DIGEST], or a digest{}", in_the_snapshot(near))]
    Image {
        /// The reference.
        image: String,
        /// Images with a name like it, where somebody has looked.
        near: Vec<String>,
    },
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
        "{asked}: expected the name of a CSV, NAME.VERSION, such as acme-db-operator.v1.0.0; there is no package of this name, \
         either{}",
        in_the_snapshot(near)
    )]
    Csv {
        /// What was asked about.
        asked: String,
        /// Operators with a name like it.
        near: Vec<String>,
    },
    /// Certsuite asks for `MAJOR.MINOR`, and says no to whatever is longer.
    #[error("operators are certified for MAJOR.MINOR: ask for {minor} instead of {asked}; it is certified for that")]
    Longer {
        /// The version that was asked for.
        asked: String,
        /// That of it which has an answer.
        minor: String,
    },
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
    let near = if verdict.certified { Vec::new() } else { near::near(snapshot, question)? };
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
        (_, Question::Operator(_))
            if !asked.contains('.') && near::of_the_same_name(snapshot, question)?.is_empty() =>
        {
            Err(Error::Csv { near: near::near(snapshot, question)?, asked })
        }
        _ => Ok(()),
    }
}

/// Answers a line of a batch, a [`Question`] in JSON, with the line itself and `certified`, or with `error`; that is given apart, too.
///
/// A no where [`ask`] would refuse the question has both: certsuite asks in these words and hears no, and people are told why that
/// means nothing. A version that is none has no answer: certsuite ends there, or says no to all.
pub fn answer_line(
    snapshot: &Snapshot,
    info: &Info,
    line: &[u8],
) -> Result<(Map<String, Value>, Option<String>), store::Error> {
    let mut fields: Map<String, Value> = serde_json::from_slice(line).unwrap_or_default();
    let asked = serde_json::from_slice::<Question>(line).map_err(|error| format!("not a question: {error}"));
    let asked = asked.and_then(|question| match (lacking(info, &question), versions(&question)) {
        (Some(kind), _) => Err(format!("the snapshot has no {}", kind.plural())),
        (None, Err(error)) => Err(error.to_string()),
        (None, Ok(())) => Ok(question),
    });
    let error = match asked {
        Ok(question) => {
            let certified = check::is_certified(snapshot, &question)?;
            fields.insert("certified".into(), certified.into());
            match (empty(&question), certified) {
                (Some(field), _) => Some(format!("nothing is asked: `{field}` is empty")),
                (None, true) => None,
                (None, false) => match believable(snapshot, &question) {
                    Ok(()) => None,
                    Err(Error::Store(error)) => return Err(error),
                    Err(error) => Some(error.to_string()),
                },
            }
        }
        Err(error) => Some(error),
    };
    if let Some(error) = &error {
        fields.insert("error".into(), error.clone().into());
    }
    Ok((fields, error))
}

/// Refuses versions of platforms that are none.
fn versions(question: &Question) -> Result<(), Error> {
    match question {
        Question::Operator(operator) if !operator.ocp_version.is_empty() => minor(&operator.ocp_version).map(drop),
        Question::Helm(chart) if !chart.kube_version.is_empty() => kubernetes(chart.kube_version.clone()).map(drop),
        Question::KubeConstraint(asked) if !asked.version.is_empty() => kubernetes(asked.version.clone()).map(drop),
        _ => Ok(()),
    }
}

/// Refuses a question to which a no would not be believed.
fn believable(snapshot: &Snapshot, question: &Question) -> Result<(), Error> {
    match question {
        Question::Container(image) if image.digest.is_empty() => well_formed(image, &image.name())?,
        Question::Container(image) => {
            well_formed(image, format!("{}@{}", image.name(), image.digest).trim_start_matches('@'))?;
        }
        Question::Operator(operator) => {
            let minor = minor(&operator.ocp_version).unwrap_or_default();
            if minor != operator.ocp_version {
                let asked = OperatorQuestion { ocp_version: minor.clone(), ..operator.clone() };
                if check::is_certified(snapshot, &Question::Operator(asked))? {
                    return Err(Error::Longer { asked: operator.ocp_version.clone(), minor });
                }
            }
            // Only what has no version may be a package, for which all are looked through.
            if operator.csv_name.contains('.') {
                return Ok(());
            }
        }
        _ => {}
    }
    refuse_vague(snapshot, question)
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
    let question = ContainerQuestion::of(name, digest);
    well_formed(&question, image)?;
    Ok(question)
}

/// The same for a question to this snapshot, if it can be read: a reference without its registry is answered with the images that it
/// may mean.
pub fn container_of(db: &Path, image: &str) -> Result<ContainerQuestion, Error> {
    match (container(image), Snapshot::open(db)) {
        (Err(Error::Image { image, .. }), Ok(snapshot)) => {
            let asked = ContainerQuestion::of(&format!("/{}", image.trim_start_matches('/')), "");
            let near = near::near(&snapshot, &Question::Container(asked))?;
            Err(Error::Image { image, near })
        }
        (question, _) => question,
    }
}

fn in_the_snapshot(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; in the snapshot: {}", near.join(", ")) }
}

/// Refuses an image that certsuite would not look for, by the text in which it was written.
fn well_formed(question: &ContainerQuestion, image: &str) -> Result<(), Error> {
    let ContainerQuestion { registry, repository, digest, .. } = question;
    if !digest.is_empty()
        && let Err(reason) = digest.parse::<Digest>()
    {
        return Err(Error::Digest { image: image.to_owned(), reason });
    }
    // No host of the catalog is one word but `non_registry`: a word before the slash is most likely part of the repository.
    let is_host = registry.contains(['.', ':', '_']) || registry == "localhost";
    if digest.is_empty() && (!is_host || repository.is_empty()) {
        return Err(Error::Image { image: image.to_owned(), near: Vec::new() });
    }
    Ok(())
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
