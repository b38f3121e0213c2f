//! `haversack.toml` with every option in it, each commented out, with its help and its default.
//!
//! It is written from what the command line is parsed with, so that it cannot name what is not there.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use crate::settings::keys::is_trust;

/// The whole file.
pub(crate) fn example(command: &Command) -> String {
    let mut text = String::from(HEAD);
    section(command, "", &mut text);
    text
}

fn section(command: &Command, name: &str, text: &mut String) {
    let options: Vec<&Arg> = command.get_arguments().filter(|arg| is_setting(arg)).collect();
    if !options.is_empty() && !name.is_empty() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = write!(text, "\n# {about}\n[{name}]\n");
    }
    for arg in options {
        let long = arg.get_long().expect("settings have a name");
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let help = without_pointers(&help);
        let trust = if is_trust(long) { " (not in ./haversack.toml)" } else { "" };
        for line in wrapped(&format!("{help}{trust}")) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "#{long} = {}", value(arg));
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = if name.is_empty() { sub.get_name().to_owned() } else { format!("{name}.{}", sub.get_name()) };
        section(sub, &name, text);
    }
}

/// A help text without `(below: …)`: what it points to is in the command's help only.
fn without_pointers(help: &str) -> String {
    match help.split_once(" (below: ").and_then(|(before, rest)| Some((before, rest.split_once(')')?.1))) {
        Some((before, after)) => format!("{before}{after}"),
        None => help.to_owned(),
    }
}

fn is_setting(arg: &Arg) -> bool {
    let action = arg.get_action();
    arg.get_long().is_some()
        && !arg.is_hide_set()
        && !matches!(action, ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

/// The default as TOML, or else what kind of value is meant.
fn value(arg: &Arg) -> String {
    let action = arg.get_action();
    if matches!(action, ArgAction::SetTrue) {
        return "false".to_owned();
    }
    if matches!(action, ArgAction::Count) {
        return "0".to_owned();
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let kind = || arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string).unwrap_or_default();
    let has_default = !defaults.is_empty();
    let values = if defaults.is_empty() { vec![kind()] } else { defaults };
    let is_many = matches!(action, ArgAction::Append) || arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let values: Vec<String> = values.iter().map(|value| scalar(value)).collect();
    let value = if is_many { format!("[{}]", values.join(", ")) } else { values.join(", ") };
    if has_default { value } else { value + NO_DEFAULT }
}

/// Numbers and truth values as they are, all else as a string.
fn scalar(text: &str) -> String {
    let is_bare = text.parse::<i64>().is_ok() || matches!(text, "true" | "false");
    if is_bare { text.to_owned() } else { toml::Value::String(text.to_owned()).to_string() }
}

/// Lines of at most 110 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is one");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > 110 {
            lines.push(word.to_owned());
        } else {
            last.push_str(if last.is_empty() { "" } else { " " });
            last.push_str(word);
        }
    }
    lines
}

const HEAD: &str = "\
# Defaults of haversack's options. Take the # before a setting away, and change it.
#
# It is read as $HAVERSACK_CONFIG, else ./haversack.toml, else ~/.config/haversack/haversack.toml. What decides where
# credentials go and whom TLS and signatures trust is not taken from ./haversack.toml, which may be somebody else's.
# Variables win over it: HAVERSACK_PAGE_SIZE is page-size of every command; the command line wins over both.
# Where there is no default, what kind of value is meant stands in capitals.

";

/// What follows a value that is none but says what kind of value is meant.
const NO_DEFAULT: &str = "  # no default";
