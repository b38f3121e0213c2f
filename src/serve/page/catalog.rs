//! The certified catalog: how old it is, how much is in it, and whether something is certified, with the row that decides.

use std::path::Path;

use askama::Template;
use hyper::StatusCode;
use serde::Serialize;

use crate::catalog::check::{self, Question, Verdict, questions};
use crate::catalog::entry::Kind;
use crate::catalog::near::near;
use crate::catalog::store::{Answer as Row, Error, Hit, Info, Snapshot};
use crate::causes;
use crate::escape::in_line;
use crate::serve::answer::{Answer, Refusal};
use crate::serve::page::found::File;
use crate::serve::page::{Frame, Page, age, blocking, html, json, not_given};
use crate::serve::request::Request;

#[derive(Template)]
#[template(path = "catalog.html")]
struct Shown<'a> {
    frame: Frame<'a>,
    query: &'a str,
    ocp: &'a str,
    kube: &'a str,
    taken: String,
    age: String,
    kinds: Vec<(String, u64, u64, String)>,
    answers: Vec<Answered>,
    hits: Vec<Link>,
    from: Option<File>,
}

/// A name that leads to the question about it.
struct Link {
    kind: String,
    name: String,
    query: String,
}

/// What is here, and the answers to what was asked.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    info: Info,
    age_seconds: i64,
    answers: Vec<Answered>,
    /// Names that hold the words of the question.
    hits: Vec<Hit>,
    /// The image that it is in, if it was not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<File>,
}

/// A question as it was understood, and its answer.
#[derive(Serialize)]
struct Answered {
    question: Question,
    #[serde(flatten)]
    verdict: Verdict,
    /// What is certified and much like it, where it is not.
    near: Vec<String>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    unanswered: Option<String>,
}

pub(super) async fn answer(page: &Page, request: &Request, is_json: bool) -> Result<Answer, Refusal> {
    let from = page.finder.found().catalog.clone();
    let path = page.shown.catalog.clone().or_else(|| from.as_ref().map(|from| from.path.clone()));
    let path = path.ok_or_else(|| not_given("catalog", "--catalog catalog.db"))?;
    let field = |key: &str| request.one(key).unwrap_or_default();
    let (query, ocp, kube) = (field("q"), field("ocp"), field("kube"));
    if [query, ocp, kube].iter().any(|text| text.len() > LONGEST) {
        return Err(Refusal::new(
            StatusCode::URI_TOO_LONG,
            "UNSUPPORTED",
            format!("at most {LONGEST} bytes are asked for"),
        ));
    }
    let (text, of_ocp, of_kube) = (query.to_owned(), ocp.to_owned(), kube.to_owned());
    let looked = blocking(move || look(&path, &text, &of_ocp, &of_kube)).await?;
    let mut found = looked.map_err(|error| {
        tracing::error!("{}", causes::line(&error));
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "the catalog cannot be read; the log says why")
    })?;
    found.from = from;
    if is_json {
        return Ok(json(&found));
    }
    let link = |hit: Hit| {
        let mut asked = url::form_urlencoded::Serializer::new(String::new());
        asked.append_pair("q", &hit.name).append_pair("ocp", ocp).append_pair("kube", kube);
        Link { kind: in_line(&hit.kind), name: in_line(&hit.name), query: asked.finish() }
    };
    let taken = jiff::Timestamp::from(found.info.taken);
    let kinds = found.info.kinds.iter();
    html(&Shown {
        frame: page.frame(request),
        query,
        ocp,
        kube,
        taken: taken.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        age: age(taken),
        kinds: kinds.map(|(kind, it)| (kind.plural().to_owned(), it.rows, it.answers, in_line(&it.source))).collect(),
        answers: found.answers,
        hits: found.hits.into_iter().map(link).collect(),
        from: found.from,
    })
}

/// Opened for each question: it may be replaced at any time, and opening takes a fraction of a millisecond.
fn look(path: &Path, query: &str, ocp: &str, kube: &str) -> Result<Found, Error> {
    let snapshot = Snapshot::open(path)?;
    let mut info = snapshot.info()?;
    // The directory that a tree was read from is nobody's business.
    for kind in info.kinds.values_mut().filter(|kind| !kind.source.contains("://")) {
        kind.source = Path::new(&kind.source).file_name().unwrap_or_default().to_string_lossy().into_owned();
    }
    let mut answers = Vec::new();
    for question in questions(query, ocp, kube) {
        let unanswered = unanswered(&info, &question);
        if unanswered.is_some() {
            answers.push(Answered { question, verdict: Verdict::default(), near: Vec::new(), unanswered });
            continue;
        }
        let verdict = check::check(&snapshot, &question)?;
        let candidates = if verdict.certified { Vec::new() } else { check::candidates(&snapshot, &question)? };
        let unanswered = check::lack(&question).filter(|_| !candidates.is_empty()).map(str::to_owned);
        let near = match &unanswered {
            Some(_) => candidates,
            None if verdict.certified => Vec::new(),
            None => near(&snapshot, &question)?,
        };
        answers.push(Answered { question, verdict, near, unanswered });
    }
    // One letter is in nearly every name.
    let is_worth_it = query.chars().filter(|c| c.is_alphanumeric()).count() > 1;
    let hits = if is_worth_it { snapshot.search(query, HITS)?.hits } else { Vec::new() };
    let age_seconds = jiff::Timestamp::now().as_second() - jiff::Timestamp::from(info.taken).as_second();
    Ok(Found { info, age_seconds, answers, hits, from: None })
}

/// Why nothing can be said, where a no would be wrong.
fn unanswered(info: &Info, question: &Question) -> Option<String> {
    let kind = question.kind()?;
    if !info.kinds.contains_key(&kind) {
        return Some(format!("the snapshot has no {}", kind.plural()));
    }
    match question {
        Question::Operator(asked) if kind == Kind::Operator => {
            let is_minor = |text: &str| {
                text.split_once('.').is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok())
            };
            let version = &asked.ocp_version;
            let is_wrong = !version.is_empty() && !is_minor(version);
            is_wrong.then(|| format!("“{}” is not a version of OpenShift, such as 4.16", in_line(version)))
        }
        Question::Helm(asked) if !asked.kube_version.is_empty() => {
            let error = crate::catalog::constraint::version(&asked.kube_version).err()?;
            Some(error.to_string())
        }
        _ => None,
    }
}

impl Answered {
    fn what(&self) -> String {
        in_line(match &self.question {
            Question::Container(it) if !it.digest.is_empty() => format!("image {}", it.digest),
            Question::Container(it) => {
                let tag = if it.tag.is_empty() { "latest" } else { &it.tag };
                format!("image {}/{}:{tag}", it.registry, it.repository)
            }
            Question::Operator(it) if it.ocp_version.is_empty() => format!("operator {}", it.csv_name),
            Question::Operator(it) => format!("operator {} for OpenShift {}", it.csv_name, it.ocp_version),
            Question::Helm(it) if it.kube_version.is_empty() => format!("chart {} {}", it.chart, it.version),
            Question::Helm(it) => format!("chart {} {} for Kubernetes {}", it.chart, it.version, it.kube_version),
            Question::KubeConstraint(it) => format!("{} in {}", it.version, it.constraint),
        })
    }

    fn near(&self) -> Vec<String> {
        self.near.iter().map(in_line).collect()
    }

    fn other_name(&self) -> Option<String> {
        self.verdict.other_name.as_ref().map(in_line)
    }

    /// The row that decided, field by field.
    fn row(&self) -> Vec<(&'static str, String)> {
        let mut fields = match &self.verdict.row {
            None => Vec::new(),
            Some(Row::Operator(it)) => vec![
                ("Bundle", in_line(&it.csv_name)),
                ("OpenShift", in_line(&it.ocp_version)),
                ("Channel", in_line(&it.channel)),
                ("Package", in_line(&it.package)),
                ("Organization", in_line(&it.organization)),
                ("_id", in_line(&it.id)),
            ],
            Some(Row::Container(it)) => {
                let mut fields: Vec<_> = it.digests.iter().map(|digest| ("Digest", in_line(digest))).collect();
                fields.push(("Architecture", in_line(&it.architecture)));
                for at in &it.repositories {
                    let tags = at.tags.join(", ");
                    fields.push(("In", in_line(format_args!("{}/{}: {tags}", at.registry, at.repository))));
                }
                fields.push(("_id", in_line(&it.id)));
                fields
            }
            Some(Row::Chart(it)) => vec![
                ("Chart", in_line(format_args!("{} {}", it.name, it.version))),
                ("Kubernetes", in_line(if it.kube_version.is_empty() { "any" } else { &it.kube_version })),
                ("Provider", in_line(&it.provider_type)),
                ("Digest", in_line(&it.digest)),
            ],
        };
        fields.retain(|(_, value)| !value.is_empty());
        fields
    }
}

/// Bytes of a question.
const LONGEST: usize = 255;
/// Names that are shown.
const HITS: u32 = 50;
