//! An error and what caused it.

use std::error::Error;
use std::io::{self, ErrorKind};

use crate::escape;

/// The error and what caused it, outermost first.
pub fn of<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The texts of the chain in one line, `outer: inner: innermost`. An error that only says again what it wraps is said once.
pub fn line(error: &(dyn Error + 'static)) -> String {
    once(of(error).map(text).collect()).join(": ")
}

/// What an error says. Of an input that ends too early, the standard library says what it has of a buffer of ours.
fn text(error: &(dyn Error + 'static)) -> String {
    match error.to_string() {
        text if text == "failed to fill whole buffer" => "it ends too early".to_owned(),
        text => text,
    }
}

/// The texts of the chain, each in one line, outermost first.
///
/// A line feed in one came from outside, where it could begin a line that looks like one of ours; but what the readers of files
/// of the user say shows the lines in question.
pub fn lines(error: &(dyn Error + 'static)) -> Vec<String> {
    let one_line = |error: &(dyn Error + 'static)| {
        let text = text(error);
        if error.is::<toml::de::Error>() || error.is::<Box<toml::de::Error>>() {
            text.trim_end().to_owned()
        } else {
            escape::line(&text).into_owned()
        }
    };
    once(of(error).map(one_line).collect())
}

/// Without what says again what stands before it. Wrappers say what they wrap (they are not `transparent`, or the wrapped one would have
/// no hint), and SQLite's errors come once more with their number.
fn once(mut texts: Vec<String>) -> Vec<String> {
    let is_again = |rest: &str| rest.is_empty() || rest.ends_with(": ");
    texts.dedup_by(|later, earlier| later.strip_suffix(&**earlier).is_some_and(is_again));
    texts
}

/// The first error of this type in the chain.
pub fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    of(error).find_map(|cause| cause.downcast_ref())
}

/// Whether a file system had no room. What was fetched is not kept then, or the disk would stay full.
pub fn is_full_disk(error: &(dyn Error + 'static)) -> bool {
    of(error).any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Outer {
        what: &'static str,
        source: std::io::Error,
    }

    #[test]
    fn a_chain_is_one_line_and_says_nothing_twice() {
        let inner = || std::io::Error::other("disk full");
        for (what, line_of_it) in
            [("cannot write x", "cannot write x: disk full"), ("disk full", "disk full"), ("full", "full: disk full")]
        {
            assert_eq!(line(&Outer { what, source: inner() }), line_of_it);
        }
        let numbered = Outer { what: "disk full", source: std::io::Error::other("error 13: disk full") };
        assert_eq!((line(&numbered).as_str(), lines(&numbered)), ("disk full", vec!["disk full".to_owned()]));
        assert!(find::<std::io::Error>(&Outer { what: "x", source: inner() }).is_some());
        assert!(find::<std::fmt::Error>(&Outer { what: "x", source: inner() }).is_none());
    }
}
