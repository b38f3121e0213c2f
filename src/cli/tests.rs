//! What every command has, and how the program may be called.

use std::collections::BTreeSet;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction};

use super::*;
use crate::settings::{example, is_trust};

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

/// The options of a command and those below it, each as the key of a file: `catalog.snapshot.page-size`.
fn options(command: &clap::Command, prefix: &str) -> BTreeSet<String> {
    let is_for_help = |arg: &&Arg| {
        matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
    };
    let own = command.get_arguments().filter(|arg| !arg.is_hide_set() && !is_for_help(arg)).filter_map(Arg::get_long);
    let own = own.map(|long| format!("{prefix}{long}"));
    let below = command.get_subcommands().flat_map(|sub| options(sub, &format!("{prefix}{}.", sub.get_name())));
    own.chain(below).collect()
}

/// The keys of a file in the same form.
fn keys_of(table: &toml::Table, prefix: &str) -> BTreeSet<String> {
    let keys = table.iter().flat_map(|(key, value)| match value {
        toml::Value::Table(inner) => keys_of(inner, &format!("{prefix}{key}.")),
        _ => BTreeSet::from([format!("{prefix}{key}")]),
    });
    keys.collect()
}

/// Every option of the program that a file in the working directory may not set, so that a new one is thought about.
#[test]
fn what_decides_whom_we_trust_is_not_for_the_working_directory() {
    fn find(command: &clap::Command, found: &mut BTreeSet<String>) {
        let long = |arg: &Arg| arg.get_long().map(str::to_owned);
        found.extend(command.get_arguments().filter_map(long).filter(|option| is_trust(option)));
        command.get_subcommands().for_each(|sub| find(sub, found));
    }
    let mut found = BTreeSet::new();
    find(&Args::command(), &mut found);
    insta::assert_snapshot!(found.into_iter().collect::<Vec<_>>().join(" "), @"allow-expired allow-local anonymous-pull api-key-file authfile ca-file cert cert-dir client-cert client-key dest-tls-verify htpasswd ims-url key keyring ledger listen oauth-client-id oauth-client-secret oauth-client-secret-file plain-passwords redhat-api redhat-sso registry-map s3-access-key s3-endpoint s3-secret-key s3-secret-key-file sign src-tls-verify tls-cert tls-key tls-self-signed tls-verify token-file token-url url writable yes");
}

#[test]
fn every_setting_is_in_the_example_and_the_parser_takes_it_as_it_is_and_with_all_defaults() {
    let text = example(&Args::command());
    assert_eq!(keys_of(&toml::from_str(&text).unwrap(), ""), BTreeSet::new());
    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
    let taken = |line: &str| if is_setting(line) { line[1..].to_owned() } else { line.to_owned() };
    let whole: toml::Table = toml::from_str(&text.lines().map(taken).collect::<Vec<_>>().join("\n")).unwrap();
    let found = keys_of(&whole, "");
    assert_eq!(found, options(&Args::command(), ""));
    assert!(found.len() > 100, "{}", found.len());

    let is_default = |line: &&str| !line.ends_with("  # no default");
    let config = Config::of_file(&text.lines().filter(is_default).map(taken).collect::<Vec<_>>().join("\n"));
    fn lines(command: &clap::Command, before: &[String]) -> Vec<Vec<String>> {
        let here = [before, &[command.get_name().to_owned()]].concat();
        let below: Vec<_> = command.get_subcommands().flat_map(|sub| lines(sub, &here)).collect();
        [vec![here], below].concat()
    }
    for line in lines(&Args::command(), &[]) {
        let Err(error) = config.apply(Args::command()).try_get_matches_from(&line) else { continue };
        let is_refused = matches!(error.kind(), ErrorKind::InvalidValue | ErrorKind::ValueValidation);
        assert!(!is_refused, "{line:?}: {error}");
    }
}

#[test]
fn a_setting_has_its_help_and_its_default() {
    let text = example(&Args::command());
    for part in [
        "# Print results as JSON\n#json = false\n",
        "[catalog.snapshot]\n",
        "#api = \"https://catalog.redhat.com/api/containers\"\n",
        "(not in ./haversack.toml)\n#authfile = \"FILE\"  # no default\n",
        "#kind = [\"operators\", \"containers\", \"charts\"]\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("below"), "nothing is below: {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 140));
}
