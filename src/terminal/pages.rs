//! Man pages of commands, laid out as those of podman and git are: a SYNOPSIS with the values of options.

use std::io;

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;

/// The page of a command, with the name of its file; `date` is that of the program, where it is known.
pub(crate) fn page(command: &Command, version: &str, date: &str) -> io::Result<(String, String)> {
    // What is left out of the short help would have no text.
    let page = Man::new(command.clone().mut_args(|arg| arg.hide_short_help(false)));
    let name = page.get_filename();
    let mut bytes = Vec::new();
    page.render(&mut bytes)?;
    let title = name.trim_end_matches(".1");
    let head = format!(".TH \"{title}\" \"1\" \"{date}\" \"haversack {version}\" \"haversack\"");
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().map(|line| if line.starts_with(".TH ") { &head } else { line }).collect();
    let synopsis = synopsis(command);
    if let Some(at) = lines.iter().position(|line| *line == ".SH SYNOPSIS") {
        let end = lines[at + 1..].iter().position(|line| line.starts_with(".SH ")).map_or(lines.len(), |n| at + 1 + n);
        lines.splice(at + 1..end, synopsis.lines());
    }
    // No breaks beside empty lines.
    let text = lines.join("\n").replace("\n.br\n\n.br\n", "\n.sp\n");
    Ok((name, text.replace("\n.SH EXTRA\n", "\n.SH EXAMPLES AND EXIT STATUS\n") + "\n"))
}

/// How a command is called, a line for each of its own options; those of all commands are one word.
fn synopsis(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let mut lines = vec![format!(".SY \"{}\"", escaped(name))];
    let groups = command.get_groups().filter(|group| group.is_required_set());
    let choices: Vec<Vec<&Arg>> = groups
        .map(|group| {
            let is_in = |arg: &&Arg| group.get_args().any(|id| id == arg.get_id());
            command.get_arguments().filter(is_in).collect()
        })
        .filter(|choice: &Vec<&Arg>| !choice.is_empty() && choice.iter().all(|arg| !arg.is_positional()))
        .collect();
    let is_choice = |arg: &Arg| choices.iter().flatten().any(|other| other.get_id() == arg.get_id());
    let is_common = |arg: &Arg| arg.is_global_set() && arg.get_help_heading() == Some(COMMON);
    let own = command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_common(arg) && !is_choice(arg));
    let own: Vec<&Arg> = own.filter(|arg| !is_help(arg)).collect();
    for arg in own.iter().filter(|arg| !arg.is_positional()) {
        let dots = if matches!(arg.get_action(), ArgAction::Append | ArgAction::Count) { DOTS } else { "" };
        lines.push(match arg.is_required_set() {
            true => format!("{}{dots}", option(arg)),
            false => format!("[{}]{dots}", option(arg)),
        });
    }
    lines.extend(choices.iter().map(|choice| {
        let options: Vec<String> = choice.iter().map(|arg| option(arg)).collect();
        format!("{{{}}}", options.join("\\~| "))
    }));
    lines.push("[\\fIcommon\\~options\\fR]".to_owned());
    for arg in own.iter().filter(|arg| arg.is_positional()) {
        let many = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
        let value = format!("{}{}", value(arg), if many { DOTS } else { "" });
        lines.push(if arg.is_required_set() { value } else { format!("[{value}]") });
    }
    if command.has_subcommands() {
        lines.push(match command.is_subcommand_required_set() || command.is_arg_required_else_help_set() {
            true => "\\fICOMMAND\\fR".to_owned(),
            false => "[\\fICOMMAND\\fR]".to_owned(),
        });
    }
    lines.push(".YS".to_owned());
    lines.join("\n")
}

/// An option and its value, which are not broken apart.
fn option(arg: &Arg) -> String {
    let bold = |text: String| format!("\\fB{}\\fR", escaped(&text));
    let names = [arg.get_short().map(|short| format!("-{short}")), arg.get_long().map(|long| format!("--{long}"))];
    let names: Vec<String> = names.into_iter().flatten().map(bold).collect();
    let names = names.join("|");
    let range = arg.get_num_args().unwrap_or_default();
    let dots = if range.max_values() > 1 { DOTS } else { "" };
    match (range.takes_values(), range.min_values()) {
        (false, _) => names,
        (true, 0) => format!("{names}[={}]", value(arg)),
        (true, _) => format!("{names}\\~{}{dots}", value(arg)),
    }
}

fn value(arg: &Arg) -> String {
    let name = arg.get_value_names().map(|names| names.join(" ")).unwrap_or_else(|| arg.get_id().to_string());
    format!("\\fI{}\\fR", escaped(&name))
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

/// A text in which roff reads nothing.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace(' ', "\\~")
}

/// The heading of the options of every command.
const COMMON: &str = "Common options";
/// Three dots, after which no sentence ends.
const DOTS: &str = "\\|.\\|.\\|.\\&";
