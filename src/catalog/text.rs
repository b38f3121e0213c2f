//! Snapshots, trees and answers for people.

use std::fmt::Write as _;

use crate::catalog::check::Verdict;
use crate::catalog::diff::Diff;
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::import::Imported;
use crate::catalog::snapshot::{How, SnapshotReport};
use crate::catalog::store::{Answer, Found, Info};
use crate::catalog::tree::DumpReport;
use crate::escape::in_line;
use crate::plural;
use crate::progress::{Unit, amount};

impl Instant {
    /// Whole seconds since then; none when it is in the future.
    pub fn age(self) -> i64 {
        (Instant::now().micros() - self.micros()).max(0) / 1_000_000
    }

    /// How old what was taken then is, in words.
    pub fn age_text(self) -> String {
        let ahead = self.micros() - Instant::now().micros();
        match (ahead / 3_600_000_000, self.age() / 3600) {
            // Clocks differ by minutes.
            (0, _) if ahead > 300_000_000 => "in the future by this host's clock".into(),
            (hours @ 1.., _) => format!("{hours} h in the future by this host's clock"),
            (_, hours @ ..48) => format!("{hours} h old"),
            (_, hours) => format!("{} old", plural::count(hours / 24, "day")),
        }
    }
}

impl SnapshotReport {
    /// What should be known beside the counts: what could not be read, and what is odd.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kind, done) in &self.kinds {
            lines.extend(done.notes.iter().chain(&done.odd).cloned());
            let Some(reason) = &done.failed else { continue };
            let kind_name = kind.plural();
            lines.push(match self.info.kinds.get(kind) {
                Some(old) => format!("the {kind_name} are still those of {}: {reason}", old.taken),
                None => format!("the snapshot has no {kind_name}: {reason}"),
            });
        }
        lines
    }

    /// What was taken, by kind.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (kind, done) in &self.kinds {
            let rows = self.info.kinds.get(kind).map(|info| info.rows).unwrap_or_default();
            let (read, removed) = (done.read, done.removed);
            let how = match done.how {
                How::Full if read >= rows => "all fetched".to_owned(),
                How::Full if read == 0 => "all fetched by the run before".to_owned(),
                How::Full => format!("all fetched, {read} in this run and the others in the run before"),
                How::Refresh => format!("brought up to date, {removed} removed"),
                How::Unchanged => "unchanged".to_owned(),
                How::Kept if self.info.kinds.contains_key(kind) => "could not be read, kept as they were".to_owned(),
                How::Kept => {
                    let _ = writeln!(text, "{}: none (could not be read)", kind.plural());
                    continue;
                }
            };
            let _ = writeln!(text, "{}: {} ({how})", kind.plural(), plural::count(rows, row_of(*kind)));
        }
        let _ = writeln!(text, "taken: {}\ncontent: {}", self.info.taken, self.info.digest);
        text
    }
}

impl DumpReport {
    /// What the tree lacks because the snapshot does.
    pub fn warnings(&self) -> Vec<String> {
        let line = |kind: &str| format!("the snapshot has no {kind}: certsuite will take none for certified");
        self.missing.iter().map(|kind| line(kind.plural())).collect()
    }

    /// What was written, in a line.
    pub fn to_text(&self) -> String {
        let data = self.directory.join("data");
        let DumpReport { containers, operators, charts, .. } = self;
        {
            let counts = [(*operators, Kind::Operator), (*containers, Kind::Container), (*charts, Kind::Chart)];
            format!("{}: {}\n", data.display(), entries(counts))
        }
    }
}

impl Imported {
    /// What was read, and the digest of it.
    pub fn to_text(&self) -> String {
        let (db, read, content) = (self.db.display(), &self.read, &self.info.digest);
        let counts = [(read.operators, Kind::Operator), (read.containers, Kind::Container), (read.charts, Kind::Chart)];
        format!("{db}: {}\ncontent: {content}\n", entries(counts))
    }
}

impl Diff {
    /// What differs, a line each, and how much of it there is.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (sign, facts) in [('-', &self.removed), ('+', &self.added)] {
            text.extend(facts.iter().map(|fact| format!("{sign} {}\n", in_line(fact))));
        }
        for change in &self.changed {
            let _ = writeln!(text, "~ {}: {} -> {}", in_line(&change.what), in_line(&change.old), in_line(&change.new));
        }
        let (added, removed, changed) = (self.added.len(), self.removed.len(), self.changed.len());
        text + &format!("{added} added, {removed} removed, {changed} changed\n")
    }
}

impl Info {
    /// What a snapshot of so many bytes holds, by kind.
    pub fn to_text(&self, bytes: u64) -> String {
        let age = self.taken.age_text();
        let mut text =
            format!("taken: {}, {age}\ncontent: {}\nsize: {}\n", self.taken, self.digest, amount(bytes, Unit::Bytes));
        for (kind, about) in &self.kinds {
            let distinct = match kind {
                Kind::Operator => format!(", {} of CSV and OpenShift version", plural::count(about.answers, "pair")),
                Kind::Container => format!(", {}", plural::count(about.answers, "digest")),
                Kind::Chart if about.answers == about.rows => String::new(),
                Kind::Chart => format!(", {} of them different", about.answers),
            };
            let _ = writeln!(text, "{}: {}{distinct}", kind.plural(), plural::count(about.rows, row_of(*kind)));
            let _ = writeln!(text, "  from {}", in_line(&about.source));
            if !about.filter.is_empty() {
                let _ = writeln!(text, "  where {}", in_line(&about.filter));
            }
            let _ = match about.walked.is_known() {
                true => writeln!(text, "  taken {}, all of it last fetched {}", about.taken, about.walked),
                false => writeln!(text, "  imported; written {}", about.taken),
            };
        }
        text
    }
}

impl Found {
    /// A name in each line, behind what has it.
    pub fn to_text(&self) -> String {
        self.hits.iter().map(|hit| format!("{}\t{}\n", in_line(&hit.kind), in_line(&hit.name))).collect()
    }
}

impl Verdict {
    /// The answer and what decided it, or else what is `near`; from the snapshot that was taken then.
    pub fn to_text(&self, near: &[String], taken: Instant) -> String {
        let mut text = match &self.other_name {
            Some(name) => format!(
                "certified by its digest, but not under the name {}, which the catalog does not have for it\n",
                in_line(name)
            ),
            None => String::from(if self.certified { "certified\n" } else { "not certified\n" }),
        };
        match &self.row {
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
                    "image: {}{}",
                    in_line(if image.architecture.is_empty() { "unknown architecture" } else { &image.architecture }),
                    in_line(identity(&image.id))
                );
                let digests = if image.digests.is_empty() { "none".to_owned() } else { image.digests.join(", ") };
                let _ = writeln!(text, "  its digests: {}", in_line(digests));
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
                if let Some(reason) = &self.reason {
                    let _ = writeln!(text, "reason: {reason}");
                }
                let nothing = "nothing; `haversack catalog search WORD` looks for words of names";
                if !near.is_empty() || self.reason.is_none() {
                    let near = if near.is_empty() { nothing.to_owned() } else { near.join(", ") };
                    let _ = writeln!(text, "similar and certified: {}", in_line(near));
                }
            }
        }
        let _ = writeln!(text, "snapshot: {taken}, {}", taken.age_text());
        text
    }
}

/// What a snapshot holds of a kind, one by one.
fn row_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Operator => "bundle",
        Kind::Container => "image",
        Kind::Chart => "chart version",
    }
}

/// What a tree holds: images are in it by each of their digests.
fn entries(counts: [(u64, Kind); 3]) -> String {
    let count = |(count, kind)| match kind {
        Kind::Operator => plural::count(count, "operator bundle"),
        Kind::Container => plural::count(count, "image digest"),
        Kind::Chart => plural::count(count, "chart version"),
    };
    counts.map(count).join(", ")
}

fn identity(id: &str) -> String {
    if id.is_empty() { String::new() } else { format!(" (_id {id})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_from_the_future_is_said_to_be() {
        let hours = |hours: i64| Instant::now().plus_seconds(hours * 3600 + 30).age_text();
        assert_eq!(hours(-3), "2 h old");
        assert_eq!(hours(-72), "2 days old");
        assert_eq!(hours(5), "5 h in the future by this host's clock");
    }
}
