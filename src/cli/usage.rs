//! A command line that clap refuses: for people as clap says it, with `--json` as every other failure is said, too.

use std::borrow::Cow;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Command;
use clap::error::ErrorKind;

use super::outcome::{Exit, Failure};
use super::{publish, registries};
use crate::escape;
use crate::settings::Config;
use crate::terminal::Ui;

/// Whether results are to be JSON, as far as that can be told before the command line is understood.
pub(super) fn is_json(args: &[OsString]) -> bool {
    let is_it = |arg: &OsString| arg == "--json" || arg.to_string_lossy().starts_with("--json=");
    args.iter().take_while(|arg| *arg != "--").any(is_it)
}

/// Whether they are where the command line does not say so.
pub(super) fn is_json_by_default(command: &Command) -> bool {
    let mut options = command.get_arguments().filter(|arg| arg.get_long() == Some("json"));
    options.any(|option| option.get_default_values().iter().any(|value| value == "true"))
}

/// Says what is wrong with a command line, and ends the run. Help and the version, which are no errors to clap's callers, are printed.
pub(super) fn end(error: clap::Error, args: &[OsString], config: &Config, ui: &Ui) -> ExitCode {
    let error = registries::with_tips(error);
    let is_told = publish::tell_usage(args, &error, ui);
    if let Some(error) = config.blamed(&error, args) {
        let failure = Failure::from(error).exit(Exit::Usage);
        return if is_told { failure.said(ui) } else { failure.end(ui) };
    }
    if ui.is_json() && error.use_stderr() && !is_told {
        let _ = ui.result(&failure(&error).report(), |_| String::new());
    }
    // clap knows its own exit status (2, or 0 for help) and stream. Its colours are its own; what is in its words may be anything.
    let text = error.render().to_string();
    match escape::lines(&text) {
        Cow::Borrowed(_) => error.exit(),
        Cow::Owned(plain) => ui.error(plain.trim_start_matches("error: ").trim_end()),
    }
    Exit::Usage.into()
}

/// Why clap refuses a command line, without the usage that follows after an empty line.
pub(super) fn refusal(error: &clap::Error) -> String {
    // clap lists the commands here, old names among them.
    if matches!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) {
        return "a command is missing".to_owned();
    }
    let text = error.to_string();
    let reason = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect::<Vec<_>>().join(" ");
    reason.trim_start_matches("error: ").to_owned()
}

/// The reason, and clap's tips as the hint, or else how the command is used.
fn failure(error: &clap::Error) -> Failure {
    let failure = Failure::usage(refusal(error));
    let text = error.to_string();
    let after = |start: &str| text.lines().filter_map(|line| line.trim_start().strip_prefix(start)).collect::<Vec<_>>();
    match (&*after("tip: "), &*after("Usage: ")) {
        ([], []) => failure,
        ([], usage) => failure.hint(format!("usage: {}", usage.join(" "))),
        (tips, _) => failure.hint(tips.join("; ")),
    }
}
