//! The only place that prints: data to stdout, talk to stderr. What controls a terminal is spelled out ([`escape`]), wherever
//! it came from.

#![expect(clippy::disallowed_methods, reason = "this is the place")]

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::escape;
use crate::progress::{self, Progress};

/// What the user sees of a run.
pub(crate) struct Ui {
    quiet: bool,
    json: bool,
    is_logged: bool,
    progress: Progress,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressMode {
    /// Bars on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A line now and then
    Plain,
    /// Nothing
    None,
}

impl Ui {
    pub(crate) fn new(quiet: bool, json: bool, mode: ProgressMode) -> Self {
        let progress = match mode {
            _ if quiet => Progress::off(),
            ProgressMode::None => Progress::off(),
            ProgressMode::Plain => Progress::plain(),
            ProgressMode::Auto if io::stderr().is_terminal() => Progress::bars(),
            ProgressMode::Auto => Progress::plain(),
        };
        let is_logged = !quiet && mode != ProgressMode::None && !io::stderr().is_terminal();
        Ui { quiet, json, is_logged, progress }
    }

    /// Whether what is said goes into a log and not to somebody who watches.
    pub(crate) fn is_logged(&self) -> bool {
        self.is_logged
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether nothing is said but results, warnings and errors.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Where work reports how far it is.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Prints a line of the result to stdout.
    pub(crate) fn data(&self, line: impl Display) -> io::Result<()> {
        let line = line.to_string();
        self.progress.suspend(|| writeln!(io::stdout().lock(), "{}", escape::lines(&line)))
    }

    /// Writes bytes to stdout as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.progress.suspend(|| io::stdout().lock().write_all(bytes))
    }

    /// Prints a result to stdout: with `--json` the value itself, else what `text` makes of it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        if self.json {
            let mut json = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
            json.push('\n');
            return self.progress.suspend(|| io::stdout().lock().write_all(escape::json(&json).as_bytes()));
        }
        let text = text(value);
        self.progress.suspend(|| io::stdout().lock().write_all(escape::lines(&text).as_bytes()))
    }

    /// Says something on stderr, unless `--quiet`.
    pub(crate) fn say(&self, line: impl Display) {
        if !self.quiet {
            self.talk(line);
        }
    }

    /// Warns on stderr, even with `--quiet`.
    pub(crate) fn warn(&self, line: impl Display) {
        self.talk(format_args!("warning: {}", escape::line(&line.to_string())));
    }

    /// Warns of each of these.
    pub(crate) fn warn_of(&self, lines: impl IntoIterator<Item = impl Display>) {
        lines.into_iter().for_each(|line| self.warn(line));
    }

    /// Says on stderr why the run failed.
    pub(crate) fn error(&self, text: impl Display) {
        self.talk(format_args!("error: {text}"));
    }

    /// Writes one character to stderr, even with `--quiet`, for those who watch a line grow.
    pub(crate) fn mark(&self, mark: char) {
        self.progress.suspend(|| {
            let _ = write!(io::stderr().lock(), "{mark}");
        });
    }

    /// Writes a question to stderr, to be answered behind it, even with `--quiet`.
    pub(crate) fn ask(&self, question: &str) {
        self.progress.suspend(|| {
            let _ = write!(io::stderr().lock(), "{}", escape::lines(question));
        });
    }

    fn talk(&self, line: impl Display) {
        let line = line.to_string();
        // When stderr is gone there is nobody to tell.
        self.progress.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{}{}", progress::end_of_marks(), escape::lines(&line));
        });
    }
}
