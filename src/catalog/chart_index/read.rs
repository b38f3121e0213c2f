//! Reads a chart index as leniently as Helm and oct do: what is odd about one entry is said, and costs that entry only.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, StrInput};

use crate::catalog::chart_index::{IndexError, PROVIDER_TYPE};
use crate::catalog::entry::Chart;
use crate::limits;
use crate::plural;

/// What an index holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// The charts, in the order of the index.
    pub charts: Vec<Chart>,
    /// What could not be taken as it stands, a line each with its place: entries that were passed over, and fields that were
    /// taken as empty. The first 200 are named and the rest counted.
    pub odd: Vec<String>,
    /// Whether `generated`, which Helm writes after the entries, is there. Without it, half of the index may be missing: a
    /// text that is cut at the end of a line is YAML, too (helm/helm#7988).
    pub complete: bool,
}

impl Index {
    /// What is to be said of an index that ends too early, where it cannot be asked for again.
    pub fn half(&self) -> Option<String> {
        let said = "it ends without `generated`, which comes last: half of it may be missing";
        (!self.complete).then(|| said.to_owned())
    }
}

/// Reads an index. Of every entry the name, the version and the constraint must be texts, or it is passed over; of other
/// fields, what is no text is taken as empty. An empty text is an empty index that is not complete.
pub fn parse(bytes: &[u8]) -> Result<Index, IndexError> {
    let text = std::str::from_utf8(bytes)?;
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = limits::NESTING;
    options.block_nesting_limit = limits::NESTING;
    let mut reader = Reader {
        parser: Parser::new_from_str_with_options(text, options),
        line: 1,
        anchored: HashMap::new(),
        index: Index::default(),
        more: 0,
    };
    reader.read()?;
    let Reader { mut index, more, .. } = reader;
    if more > 0 {
        index.odd.push(format!("{} like these", plural::count(more, "more place")));
    }
    Ok(index)
}

/// How many odd places of an index are named.
const NAMED: usize = 200;

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Where the last event began, from 1.
    line: usize,
    /// Texts with an anchor, for aliases that stand for them.
    anchored: HashMap<usize, Text<'a>>,
    index: Index,
    /// Odd places that were not named.
    more: u64,
}

/// What a scalar says: a text, or nothing (`null`, `~`, or nothing at all).
type Text<'a> = Option<Cow<'a, str>>;

/// A value that has begun.
enum Node<'a> {
    Scalar(Text<'a>),
    Sequence,
    Mapping,
    /// An alias for something that is no text, or for nothing.
    Alias,
}

/// A field of an entry.
enum Field<'a> {
    Absent,
    Text(Text<'a>),
    /// No text, or there twice.
    Odd(&'static str),
}

impl<'a> Field<'a> {
    fn put(&mut self, node: Result<Text<'a>, &'static str>) {
        *self = match (&self, node) {
            (Field::Absent, Ok(text)) => Field::Text(text),
            (Field::Absent, Err(what)) => Field::Odd(what),
            _ => Field::Odd("stands there twice"),
        };
    }

    /// The text; empty where there is none. Or what is odd.
    fn text(self) -> Result<String, &'static str> {
        match self {
            Field::Absent | Field::Text(None) => Ok(String::new()),
            Field::Text(Some(text)) => Ok(text.into_owned()),
            Field::Odd(what) => Err(what),
        }
    }
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), IndexError> {
        while let Some(event) = self.event()? {
            if matches!(event, Event::DocumentStart(..)) {
                break;
            }
        }
        let Some(event) = self.event()? else { return Ok(()) };
        match self.node(event) {
            Some(Node::Mapping) => self.document()?,
            // Nothing but comments, or nothing at all.
            Some(Node::Scalar(None)) | None => return Ok(()),
            Some(_) => {
                let reason = "expected a mapping with `entries`".to_owned();
                return Err(IndexError::Yaml { line: self.line as u64, column: 1, reason });
            }
        }
        while let Some(event) = self.event()? {
            if !matches!(event, Event::DocumentStart(..)) {
                continue;
            }
            let begins = self.line;
            let Some(event) = self.event()? else { break };
            if !matches!(self.node(event), Some(Node::Scalar(None))) {
                self.odd_at(begins, "a second YAML document begins; it is not read");
                return Ok(());
            }
        }
        Ok(())
    }

    /// The top level, after its beginning.
    fn document(&mut self) -> Result<(), IndexError> {
        let mut seen = false;
        while let Some(key) = self.key()? {
            match key.as_deref() {
                Some("entries") => {
                    if std::mem::replace(&mut seen, true) {
                        self.odd("`entries` stands there twice; both are read");
                    }
                    match self.value()? {
                        Node::Mapping => self.entries()?,
                        Node::Scalar(None) => {}
                        other => {
                            let reason = "`entries` is no mapping".to_owned();
                            let line = self.line as u64;
                            self.skip(&other)?;
                            return Err(IndexError::Yaml { line, column: 1, reason });
                        }
                    }
                }
                Some("generated") => match self.value()? {
                    Node::Scalar(Some(_)) => self.index.complete = true,
                    other => self.skip(&other)?,
                },
                _ => self.skip_value()?,
            }
        }
        Ok(())
    }

    /// `entries`, after its beginning: lists of versions by key.
    fn entries(&mut self) -> Result<(), IndexError> {
        let mut keys: HashSet<Cow<'a, str>> = HashSet::new();
        while let Some(key) = self.key()? {
            let Some(key) = key else {
                self.odd("a key of `entries` is no text; what it holds is passed over");
                self.skip_value()?;
                continue;
            };
            if !keys.insert(key.clone()) {
                self.odd(format_args!("`{key}` stands there twice; both are read"));
            }
            match self.value()? {
                Node::Scalar(None) => {}
                Node::Sequence => self.versions(&key)?,
                other => {
                    self.odd(format_args!("`{key}` is no list of versions; it is passed over"));
                    self.skip(&other)?;
                }
            }
        }
        Ok(())
    }

    /// The list of one key, after its beginning.
    fn versions(&mut self, key: &str) -> Result<(), IndexError> {
        let mut number = 0;
        loop {
            let Some(event) = self.event()? else { return Ok(()) };
            let Some(node) = self.node(event) else { return Ok(()) };
            number += 1;
            let begins = self.line;
            match node {
                Node::Mapping => self.entry(key, number, begins)?,
                other => {
                    self.odd(format_args!("version {number} of `{key}` is no mapping; it is passed over"));
                    self.skip(&other)?;
                }
            }
        }
    }

    /// One version of a chart, after its beginning.
    fn entry(&mut self, key: &str, number: usize, begins: usize) -> Result<(), IndexError> {
        let (mut name, mut version, mut kube) = (Field::Absent, Field::Absent, Field::Absent);
        let (mut digest, mut provider) = (Field::Absent, Field::Absent);
        let mut urls = Vec::new();
        let mut aside: Vec<String> = Vec::new();
        let mut merged = false;
        while let Some(field) = self.key()? {
            match field.as_deref() {
                Some("name") => name.put(self.text()?),
                Some("version") => version.put(self.text()?),
                Some("kubeVersion") => kube.put(self.text()?),
                Some("digest") => digest.put(self.text()?),
                Some("urls") => self.urls(&mut urls, &mut aside)?,
                Some("annotations") => self.annotations(&mut provider, &mut aside)?,
                Some("<<") => {
                    merged = true;
                    self.skip_value()?;
                }
                _ => self.skip_value()?,
            }
        }
        let passed = |what: String| format!("version {number} of `{key}` is passed over: {what}");
        let (name, version, kube) = (name.text(), version.text(), kube.text());
        let (name, version, kube_version) = match (name, version, kube) {
            _ if merged => {
                self.odd_at(begins, passed("it takes fields from elsewhere by a merge key (`<<`)".into()));
                return Ok(());
            }
            (Ok(name), Ok(version), Ok(kube)) if !name.is_empty() && !version.is_empty() => (name, version, kube),
            (name, version, kube) => {
                let wrong = [("name", name, true), ("version", version, true), ("kubeVersion", kube, false)];
                let wrong = wrong.into_iter().filter_map(|(field, text, needed)| match text {
                    Err(what) => Some(format!("its {field} {what}")),
                    Ok(text) => (needed && text.is_empty()).then(|| format!("it has no {field}")),
                });
                self.odd_at(begins, passed(wrong.collect::<Vec<_>>().join(", ")));
                return Ok(());
            }
        };
        for (field, what) in [("digest", &mut digest), ("provider type", &mut provider)] {
            if let Field::Odd(odd) = what {
                aside.push(format!("its {field} {odd}"));
                *what = Field::Absent;
            }
        }
        if !aside.is_empty() {
            let what = format!("of {name} {version}: {}; the rest is taken", aside.join(", "));
            self.odd_at(begins, what);
        }
        self.index.charts.push(Chart {
            key: key.to_owned(),
            name,
            version,
            kube_version,
            provider_type: provider.text().unwrap_or_default(),
            unpublished: false,
            digest: digest.text().unwrap_or_default(),
            urls,
        });
        Ok(())
    }

    fn urls(&mut self, urls: &mut Vec<String>, aside: &mut Vec<String>) -> Result<(), IndexError> {
        match self.value()? {
            Node::Sequence => {}
            Node::Scalar(None) => return Ok(()),
            other => {
                aside.push("its urls are no list".into());
                return self.skip(&other);
            }
        }
        loop {
            let Some(event) = self.event()? else { return Ok(()) };
            match self.node(event) {
                None => return Ok(()),
                Some(Node::Scalar(Some(url))) => urls.push(url.into_owned()),
                Some(Node::Scalar(None)) => {}
                Some(other) => {
                    aside.push("one of its urls is no text".into());
                    self.skip(&other)?;
                }
            }
        }
    }

    fn annotations(&mut self, provider: &mut Field<'a>, aside: &mut Vec<String>) -> Result<(), IndexError> {
        match self.value()? {
            Node::Mapping => {}
            Node::Scalar(None) => return Ok(()),
            other => {
                aside.push("its annotations are no mapping".into());
                return self.skip(&other);
            }
        }
        while let Some(key) = self.key()? {
            let value = self.text()?;
            match key.as_deref() {
                Some(PROVIDER_TYPE) => provider.put(value),
                Some(key) => {
                    if let Err(what) = value {
                        aside.push(format!("its annotation {key} {what}"));
                    }
                }
                None => aside.push("one of its annotations has a name that is no text".into()),
            }
        }
        Ok(())
    }

    /// The next key of the mapping at hand; the inner `None` for one that is no text.
    fn key(&mut self) -> Result<Option<Text<'a>>, IndexError> {
        let Some(event) = self.event()? else { return Ok(None) };
        match self.node(event) {
            None => Ok(None),
            Some(Node::Scalar(text)) => Ok(Some(text)),
            Some(other) => {
                self.skip(&other)?;
                Ok(Some(None))
            }
        }
    }

    /// The value of a key.
    fn value(&mut self) -> Result<Node<'a>, IndexError> {
        let event = self.event()?;
        Ok(event.and_then(|event| self.node(event)).unwrap_or(Node::Scalar(None)))
    }

    /// The value of a key, as a text. What is none is read to its end.
    fn text(&mut self) -> Result<Result<Text<'a>, &'static str>, IndexError> {
        Ok(match self.value()? {
            Node::Scalar(text) => Ok(text),
            other => {
                self.skip(&other)?;
                Err("is no text")
            }
        })
    }

    fn skip_value(&mut self) -> Result<(), IndexError> {
        let node = self.value()?;
        self.skip(&node)
    }

    /// Reads a value that has begun to its end.
    fn skip(&mut self, node: &Node<'a>) -> Result<(), IndexError> {
        let mut depth = u64::from(matches!(node, Node::Sequence | Node::Mapping));
        while depth > 0 {
            let Some(event) = self.event()? else { return Ok(()) };
            match self.node(event) {
                Some(Node::Sequence | Node::Mapping) => depth += 1,
                Some(_) => {}
                None => depth -= 1,
            }
        }
        Ok(())
    }

    /// What an event begins; `None` where it ends something.
    fn node(&mut self, event: Event<'a>) -> Option<Node<'a>> {
        Some(match event {
            Event::Scalar(text, style, anchor, _) => {
                // The core schema's words for nothing, as Helm's reader takes them (yaml.org/spec/1.2.2, 10.3.2).
                let nothing = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let text = (!nothing).then_some(text);
                if anchor != 0 {
                    self.anchored.insert(anchor, text.clone());
                }
                Node::Scalar(text)
            }
            Event::SequenceStart(..) => Node::Sequence,
            Event::MappingStart(..) => Node::Mapping,
            Event::Alias(anchor) => match self.anchored.get(&anchor) {
                Some(text) => Node::Scalar(text.clone()),
                None => Node::Alias,
            },
            Event::UnresolvedAlias(_) => Node::Alias,
            _ => return None,
        })
    }

    fn event(&mut self) -> Result<Option<Event<'a>>, IndexError> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(Some(event))
            }
            Some(Err(error)) => Err(malformed(&error)),
        }
    }

    fn odd(&mut self, what: impl std::fmt::Display) {
        self.odd_at(self.line, what);
    }

    fn odd_at(&mut self, line: usize, what: impl std::fmt::Display) {
        if self.index.odd.len() < NAMED {
            self.index.odd.push(format!("line {line}: {what}"));
        } else {
            self.more += 1;
        }
    }
}

fn malformed(error: &ScanError) -> IndexError {
    let place = error.marker();
    IndexError::Yaml { line: place.line() as u64, column: place.col() as u64 + 1, reason: error.kind().to_string() }
}

#[cfg(test)]
mod tests;
