//! How a run ends: any error becomes what failed, why, what to do next, and an exit status.
//!
//! Errors arrive as they are. Their chain of causes is printed once, and the hint is looked up by type along that
//! chain: a module's error says what happened, `ops::hints` what a user may do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::causes;
use crate::ops::{self, Done, hints};
use crate::settings;
use crate::terminal::Ui;

/// The exit statuses, the same for all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no, or the work failed.
    No = 1,
    /// The command line cannot be understood; for what answers (`catalog check`, `search`, `diff`), also: no answer could be given.
    Usage = 2,
    /// Finished, but some items failed, each named.
    Partial = 3,
}

impl Exit {
    /// How a run ends of which some part may be missing.
    pub(crate) fn of(complete: bool) -> Self {
        if complete { Exit::Done } else { Exit::Partial }
    }
}

impl From<Done> for Exit {
    fn from(done: Done) -> Self {
        match done {
            Done::All => Exit::Done,
            Done::Part => Exit::Partial,
            Done::Nothing => Exit::No,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What a command returns.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
    exit: Exit,
}

impl Failure {
    /// A command line that clap accepts but that makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure { error: message.into().into(), hint: None, exit: Exit::Usage }
    }

    /// Something that failed in the command itself, in words of its own.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure { error: message.into().into(), hint: None, exit: Exit::No }
    }

    /// Says what to do next, in place of what would be found for the error's type.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says what else to do, after what is found for the error's type.
    pub(crate) fn and_hint(mut self, hint: impl Into<String>) -> Self {
        let first = self.hint.take().or_else(|| self.known_hint());
        let hint = hint.into();
        self.hint = Some(match first {
            Some(first) => format!("{first}\nhint: {hint}"),
            None => hint,
        });
        self
    }

    /// Names the option of the command in question that takes a registry without TLS; `option` is told its host.
    pub(crate) fn without_tls(self, option: impl Fn(&str) -> &'static str) -> Self {
        let Some(hint) = hints::without_tls(&*self.error, option) else { return self };
        self.hint(hint)
    }

    /// Ends the run with another status than 1.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The status to end with.
    pub(crate) fn status(&self) -> Exit {
        self.exit
    }

    /// What failed and why, in a line and without a hint.
    pub(crate) fn reason(&self) -> String {
        causes::line(&*self.error)
    }

    /// Whether a file system had no room.
    pub(crate) fn is_full_disk(&self) -> bool {
        causes::is_full_disk(&*self.error)
    }

    /// Says it and ends the run: on stderr for people, and with `--json` on stdout for programs.
    pub(crate) fn end(&self, ui: &Ui) -> ExitCode {
        if ui.is_json() {
            // Where its reader has gone, nobody needs it.
            let _ = ui.result(&self.report(), |_| String::new());
        }
        self.said(ui)
    }

    /// The same where programs have been told.
    pub(crate) fn said(&self, ui: &Ui) -> ExitCode {
        ui.error(self);
        self.status().into()
    }

    /// Whether the reader of our output went away, as `head` does. That is no failure.
    ///
    /// Only `ui` writes there, and its errors arrive as they are; a connection that breaks is a cause of something else.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let is_usage = causes::find::<ops::Error>(&error).is_some_and(ops::Error::is_usage);
        Failure { error: Box::new(error), hint: None, exit: if is_usage { Exit::Usage } else { Exit::No } }
    }
}

impl Failure {
    /// What failed, then each cause; and what to do about it.
    fn parts(&self) -> (Vec<String>, Option<String>) {
        (causes::lines(&*self.error), self.hint.clone().or_else(|| self.known_hint()))
    }

    /// What is known about the error's type, or that of one of its causes.
    fn known_hint(&self) -> Option<String> {
        causes::of(&*self.error).find_map(|error| settings::hint(error).or_else(|| hints::hint(error)))
    }

    /// The same for programs, as `--json` prints it.
    pub(crate) fn report(&self) -> FailureReport {
        let (texts, hint) = self.parts();
        let mut texts = texts.into_iter();
        FailureReport {
            error: texts.next().unwrap_or_default(),
            because: texts.collect(),
            hint,
            status: self.exit as u8,
        }
    }
}

/// What a run failed of.
#[derive(Debug, serde::Serialize)]
pub(crate) struct FailureReport {
    error: String,
    /// Its causes, the innermost last.
    because: Vec<String>,
    /// What to do next.
    hint: Option<String>,
    /// The exit status.
    status: u8,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (texts, hint) = self.parts();
        f.write_str(&texts.join("\n  because: "))?;
        hint.map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::PathContext;
    use crate::registry;

    #[test]
    fn a_chain_is_printed_once_with_the_hint_for_its_kind() {
        let full: Result<(), io::Error> = Err(io::Error::from(io::ErrorKind::StorageFull));
        let failure = Failure::from(full.at("write", "/x/catalog.db").unwrap_err());
        insta::assert_snapshot!(failure, @r"
        cannot write /x/catalog.db
          because: no storage space
        hint: free some space on the file system of /x/catalog.db and run the command again; nothing was replaced
        ");
    }

    #[test]
    fn a_reader_that_went_away_is_told_from_a_failure() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_broken_pipe());
        assert!(!Failure::new("x").is_broken_pipe());
        let connection = registry::Error::Io(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(!Failure::from(connection).is_broken_pipe());
    }
}
