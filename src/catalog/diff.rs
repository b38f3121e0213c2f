//! What two snapshots answer differently.
//!
//! Both are read as sorted facts (see `store`), side by side, so memory does not grow with them. Charts whose
//! constraint or provider changed are one change, not a removal and an addition.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use serde::Serialize;

use crate::catalog::entry::Kind;
use crate::catalog::store::{Error, Snapshot};

/// The differences, sorted; what was only in the old snapshot is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Facts of the new snapshot alone, such as `operator a.v1 4.16 stable`.
    pub added: Vec<String>,
    /// Facts of the old snapshot alone.
    pub removed: Vec<String>,
    /// Charts that both have, with another constraint or provider.
    pub changed: Vec<Change>,
    /// What one of the snapshots does not have at all, and was not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<NotCompared>,
}

/// A kind that only one of the snapshots has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotCompared {
    /// The snapshot without it.
    pub snapshot: PathBuf,
    /// What it has none of.
    pub kind: Kind,
}

/// A fact that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What: `chart NAME VERSION`.
    pub what: String,
    /// What the old snapshot says of it.
    pub old: String,
    /// What the new one says.
    pub new: String,
}

impl Diff {
    /// Whether both answer the same.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Compares two snapshots.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Result<Diff, Error> {
    let mut diff = Diff { not_compared: not_compared(old, new)?, ..Diff::default() };
    let lacking: Vec<Kind> = diff.not_compared.iter().map(|it| it.kind).collect();
    thread::scope(|scope| {
        // SQLite's connections stay on their threads' stacks; the facts of one come over a bounded channel.
        let (sender, old_facts) = mpsc::sync_channel::<String>(1024);
        let reader = Snapshot::open(old.path())?;
        let reading = scope.spawn(move || {
            reader.each_fact(|fact| {
                // The receiver is gone when the other side failed; its error is the one to report.
                let _ = sender.send(fact);
                Ok::<_, Error>(())
            })
        });
        let is_compared = |fact: &String| !lacking.contains(&kind_of(fact));
        let mut pending = old_facts.iter().filter(is_compared).peekable();
        new.each_fact(|fact| {
            if !is_compared(&fact) {
                return Ok(());
            }
            while let Some(old) = pending.next_if(|old| *old < fact) {
                diff.removed.push(old);
            }
            if pending.next_if(|old| *old == fact).is_none() {
                diff.added.push(fact);
            }
            Ok::<_, Error>(())
        })?;
        diff.removed.extend(pending);
        reading.join().expect("the reader does not panic")
    })?;
    diff.pair_charts();
    for facts in [&mut diff.added, &mut diff.removed] {
        for fact in facts {
            *fact = fact.replace('\t', " ");
        }
    }
    Ok(diff)
}

/// Who has no containers has not seen them: that is no difference.
fn not_compared(old: &Snapshot, new: &Snapshot) -> Result<Vec<NotCompared>, Error> {
    let (old_kinds, new_kinds) = (old.info()?.kinds, new.info()?.kinds);
    let lacks = |snapshot: &Snapshot, kind| NotCompared { snapshot: snapshot.path().to_owned(), kind };
    let kinds = Kind::ALL.into_iter();
    let found = kinds.filter_map(|kind| match (old_kinds.contains_key(&kind), new_kinds.contains_key(&kind)) {
        (false, true) => Some(lacks(old, kind)),
        (true, false) => Some(lacks(new, kind)),
        _ => None,
    });
    Ok(found.collect())
}

/// What a fact is about, by its first word.
fn kind_of(fact: &str) -> Kind {
    match fact.split('\t').next() {
        Some("chart") => Kind::Chart,
        Some("operator") => Kind::Operator,
        _ => Kind::Container,
    }
}

impl Diff {
    /// What was not compared, a line each.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let line = |it: &NotCompared| format!("{} has no {}: not compared", it.snapshot.display(), it.kind.plural());
        self.not_compared.iter().map(line)
    }

    /// Turns a chart that was removed and added with the same name and version into a change.
    fn pair_charts(&mut self) {
        let subject = |fact: &str| {
            let mut fields = fact.splitn(4, '\t');
            let (kind, name, version) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "chart").then(|| (format!("chart {name} {version}"), fields.next().unwrap_or_default().to_owned()))
        };
        let mut added = std::mem::take(&mut self.added);
        self.removed.retain(|removed| {
            let Some((what, old)) = subject(removed) else { return true };
            let Some(at) = added.iter().position(|fact| subject(fact).is_some_and(|(other, _)| other == what)) else {
                return true;
            };
            let new = subject(&added.remove(at)).map(|(_, new)| new).unwrap_or_default();
            let words = |text: &str| text.split('\t').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ");
            self.changed.push(Change { what, old: words(&old), new: words(&new) });
            false
        });
        self.added = added;
    }
}
