//! What every command has, and how the program may be called.

use super::*;

/// The help of this command and of each below it, after its options, with its name.
fn helps(command: &clap::Command, path: &str) -> Vec<(String, String)> {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    let own = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let below = command.get_subcommands().flat_map(|it| helps(it, &path)).collect::<Vec<_>>();
    std::iter::once((path, own)).chain(below).collect()
}

/// The words of a command line of an example, in which a single quote begins and ends a word.
fn words(line: &str) -> Vec<&str> {
    let parts = line.split('\'').enumerate();
    parts.flat_map(|(at, part)| if at % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }).collect()
}

#[test]
fn every_command_has_examples_that_are_command_lines_of_it_and_tells_its_exit_statuses() {
    for (name, help) in helps(&Args::command(), "") {
        let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  haversack ")).collect();
        assert!(help.contains("Examples:\n  haversack ") && help.contains("\n\nExit status: 0 "), "{name}: {help}");
        assert!(examples.iter().any(|line| line.trim_start().starts_with(&name)), "{name}: {examples:?}");
        // A terminal breaks paragraphs where they have to be.
        let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
        let lines: Vec<&str> = help.lines().collect();
        let broken = lines.windows(2).find(|pair| is_prose(pair[0]) && is_prose(pair[1]));
        assert_eq!(broken, None, "{name}");
        for line in examples {
            let parsed = Args::command().try_get_matches_from(words(line));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn the_command_line_is_well_formed() {
    Args::command().debug_assert();
}

#[test]
fn the_old_script_name_means_run() {
    let args = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
    assert_eq!(applet(args(&["./run.sh"])), args(&["./run.sh", "run"]));
    assert_eq!(applet(args(&["/usr/oct/run.sh", "--json"])), args(&["/usr/oct/run.sh", "run", "--json"]));
    assert_eq!(applet(args(&["haversack", "dump"])), args(&["haversack", "dump"]));
}
