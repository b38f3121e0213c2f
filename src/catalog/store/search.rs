//! Names that hold words.

use std::cmp::Ordering;

use serde::Serialize;

use crate::catalog::store::{Error, Snapshot};
use crate::natural;

/// A name that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// `operator`, `package`, `container` or `chart`.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The first names.
    pub hits: Vec<Hit>,
    /// How many more there are.
    pub more: u64,
}

impl Snapshot {
    /// Names that hold every word of `text`, or words that begin so, in the order of their versions; at most `limit`, and how many there
    /// are beside them.
    pub fn search(&self, text: &str, limit: u32) -> Result<Found, Error> {
        let Some(asked) = Asked::of(text) else { return Ok(Found { hits: Vec::new(), more: 0 }) };
        let mut first = First { names: Vec::new(), limit: limit as usize, last: None, all: 0 };
        self.each(NAMES, [&asked.words], |row| {
            let name = row.get_ref(1)?.as_str()?;
            if asked.numbers_are_in(name) {
                first.add(row.get(0)?, name);
            }
            Ok(())
        })?;
        first.cut();
        let more = (first.all - first.names.len()) as u64;
        first.names.sort_unstable_by(compare);
        let hit = |(kind, name): Named| Hit { kind: KINDS[kind].to_owned(), name };
        Ok(Found { hits: first.names.into_iter().map(hit).collect(), more })
    }
}

/// A name, and which of [`KINDS`] it is of.
type Named = (usize, String);

/// The first names of many, which need not be kept and sorted all: a word may be in every name.
struct First {
    names: Vec<Named>,
    limit: usize,
    /// The last of the first that are known so far: what comes behind it is none of them.
    last: Option<Named>,
    all: usize,
}

impl First {
    fn add(&mut self, kind: usize, name: &str) {
        self.all += 1;
        if self.last.as_ref().is_some_and(|(_, last)| natural::compare(name, last).is_gt()) {
            return;
        }
        self.names.push((kind, name.to_owned()));
        if self.names.len() > self.limit.saturating_mul(2) {
            self.cut();
        }
    }

    /// Keeps as many as are asked for.
    fn cut(&mut self) {
        if self.limit == 0 {
            self.names.clear();
        } else if self.limit < self.names.len() {
            let (_, last, _) = self.names.select_nth_unstable_by(self.limit - 1, compare);
            self.last = Some(last.clone());
            self.names.truncate(self.limit);
        }
    }
}

fn compare((a_kind, a): &Named, (b_kind, b): &Named) -> Ordering {
    natural::compare(a, b).then_with(|| KINDS[*a_kind].cmp(KINDS[*b_kind]))
}

/// What the rows of `words` are about, by the rest of their number.
const KINDS: [&str; 4] = ["operator", "package", "container", "chart"];
/// The two kinds that there are most of are joined, which takes half as long as a question of its own for each row.
const NAMES: &str = "
    SELECT words.rowid % 4, CASE words.rowid % 4
        WHEN 0 THEN csv.csv_name
        WHEN 1 THEN csv.package
        WHEN 2 THEN (SELECT registry || '/' || name FROM repository WHERE repository = words.rowid / 4)
        ELSE (SELECT name || ' ' || version FROM chart WHERE chart = words.rowid / 4)
    END FROM words LEFT JOIN csv ON words.rowid % 4 < 2 AND csv.csv = words.rowid / 4 WHERE words MATCH ?1";

/// What is asked of FTS5, and what is then looked for in the names.
struct Asked {
    /// Quoted, a word means itself whatever the syntax makes of its characters.
    words: String,
    /// Short numbers, such as those of a version, beside other words. Thousands of others begin so, whose lists FTS5 would merge for
    /// each question, which takes longer than all the rest.
    numbers: Vec<String>,
}

impl Asked {
    fn of(text: &str) -> Option<Self> {
        let is_short_number = |word: &&str| word.len() < 3 && word.bytes().all(|byte| byte.is_ascii_digit());
        let (mut numbers, mut words): (Vec<&str>, Vec<&str>) = words(text).partition(is_short_number);
        if words.is_empty() {
            std::mem::swap(&mut numbers, &mut words);
        }
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"*")).collect();
        let numbers = numbers.into_iter().map(str::to_owned).collect();
        (!quoted.is_empty()).then(|| Asked { words: quoted.join(" AND "), numbers })
    }

    fn numbers_are_in(&self, name: &str) -> bool {
        self.numbers.iter().all(|number| words(name).any(|word| word.starts_with(number.as_str())))
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_are_those_that_sorting_all_would_put_first() {
        let names: Vec<Named> = (0..1000_usize).map(|n| (n % 4, format!("op.v1.{}", n * 7919 % 500))).collect();
        let mut sorted = names.clone();
        sorted.sort_by(compare);
        for limit in [0, 1, 2, 10, 499, 999, 1000, 5000] {
            let mut first = First { names: Vec::new(), limit, last: None, all: 0 };
            names.iter().for_each(|(kind, name)| first.add(*kind, name));
            first.cut();
            first.names.sort_by(compare);
            assert!(first.names == sorted[..limit.min(1000)] && first.all == 1000, "{limit}");
        }
    }

    #[test]
    fn short_numbers_are_looked_for_in_the_names_that_other_words_find() {
        for (text, words, numbers) in [
            ("acme db", Some("\"acme\"* AND \"db\"*"), &[][..]),
            ("operator-20000.v1.2.30", Some("\"operator\"* AND \"20000\"* AND \"v1\"*"), &["2", "30"]),
            ("1.2", Some("\"1\"* AND \"2\"*"), &[]),
            ("-.", None, &[]),
        ] {
            let asked = Asked::of(text);
            assert_eq!(asked.as_ref().map(|asked| asked.words.as_str()), words, "{text}");
            assert_eq!(asked.map(|asked| asked.numbers).unwrap_or_default(), numbers, "{text}");
        }
        let asked = Asked::of("acme 2 10").unwrap();
        for (name, found) in [
            ("acme.v2.10.0", false),
            ("acme 2.10", true),
            ("acme.v1.2.10", true),
            ("acme.v1.20.1", false),
            ("acme 20 101", true),
            ("acme-12-10", false),
        ] {
            assert_eq!(asked.numbers_are_in(name), found, "{name}");
        }
    }
}
