//! Where packages come from.
//!
//! A source is written `KIND:PLACE`. Some take more words, which follow as arguments of their own:
//! `apt:https://deb.debian.org/debian bookworm main`.

pub mod local;

use std::path::PathBuf;

/// A place with packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `dir:PATH`: local files.
    Directory(PathBuf),
    /// `set:FILE`: a list that `kernel list --json` wrote.
    Set(PathBuf),
}

/// Why words are no sources.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// It does not begin with a kind.
    #[error("`{0}` is no source (known: {KINDS})")]
    UnknownKind(String),
    /// The kind takes one word.
    #[error("`{0}` has a word too many")]
    TooManyWords(String),
    /// The place is empty.
    #[error("`{0}` does not say where")]
    Empty(String),
}

impl Source {
    /// Reads sources from the words of a command line.
    pub fn parse_all(words: &[String]) -> Result<Vec<Self>, ParseError> {
        let mut groups: Vec<Vec<&str>> = Vec::new();
        for word in words {
            let begins = word.split_once(':').is_some_and(|(kind, _)| KINDS.split(", ").any(|known| known == kind));
            match groups.last_mut() {
                Some(group) if !begins => group.push(word),
                _ => groups.push(vec![&**word]),
            }
        }
        groups.into_iter().map(|group| Source::parse(&group)).collect()
    }

    fn parse(words: &[&str]) -> Result<Self, ParseError> {
        let text = words.join(" ");
        let Some((kind, place)) = words[0].split_once(':') else { return Err(ParseError::UnknownKind(text)) };
        if place.is_empty() {
            return Err(ParseError::Empty(text));
        }
        let source = match kind {
            "dir" => Source::Directory(place.into()),
            "set" => Source::Set(place.into()),
            _ => return Err(ParseError::UnknownKind(text)),
        };
        if words.len() > 1 { Err(ParseError::TooManyWords(text)) } else { Ok(source) }
    }
}

const KINDS: &str = "dir, set";
