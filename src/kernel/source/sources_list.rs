//! Lines of `sources.list`, as people have them: `deb [arch=amd64 signed-by=FILE] URL SUITE COMPONENT…`.
//!
//! Of the options, those that say which machines are listed and who signs mean the same here. The others are apt's own
//! (`trusted`, `lang`, `pdiffs`) and change nothing that is read.

use std::path::PathBuf;

/// What a line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Address, suite and components.
    pub words: Vec<String>,
    /// Architectures, as Debian calls them; empty where the line names none.
    pub architectures: Vec<String>,
    /// The file with the keys of which one must have signed.
    pub signed_by: Option<PathBuf>,
}

/// Whether words of a command line begin such a line: it may be one word, or several.
pub fn begins(word: &str) -> bool {
    word.split_whitespace().next() == Some("deb")
}

/// Reads a line from its words, which begin with `deb`.
pub fn line(words: &[&str]) -> Option<Line> {
    let text = words.join(" ");
    let rest = text.strip_prefix("deb")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => ("", rest),
    };
    let mut line = Line { words: rest.split_whitespace().map(str::to_owned).collect(), ..Line::default() };
    for option in options.split_whitespace() {
        match option.split_once('=')? {
            ("arch", names) => line.architectures = names.split(',').map(str::to_owned).collect(),
            // Keys may also stand in the line by their fingerprints, which says nothing about where they are.
            ("signed-by", file) if file.starts_with('/') => line.signed_by = Some(file.into()),
            ("signed-by", _) => return None,
            _ => {}
        }
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_the_options_that_mean_something_here() {
        let read = |text: &str| line(&text.split(' ').collect::<Vec<_>>());
        let words = || ["http://h/debian", "bookworm", "main"].map(str::to_owned).to_vec();
        let plain = Line { words: words(), ..Line::default() };
        for (text, expected) in [
            ("deb http://h/debian bookworm main", Some(plain.clone())),
            ("deb [ trusted=yes ] http://h/debian bookworm main", Some(plain.clone())),
            (
                "deb [arch=amd64,arm64 signed-by=/k.gpg] http://h/debian bookworm main",
                Some(Line {
                    architectures: vec!["amd64".to_owned(), "arm64".to_owned()],
                    signed_by: Some("/k.gpg".into()),
                    ..plain
                }),
            ),
            ("deb [signed-by=0123ABCD] http://h/debian bookworm main", None),
            ("deb [arch=amd64 http://h/debian bookworm main", None),
            ("apt:http://h/debian bookworm main", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert!(begins("deb") && begins("deb http://h x y") && !begins("debian") && !begins("dir:deb"));
    }
}
