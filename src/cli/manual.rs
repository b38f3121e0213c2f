//! `haversack completions` and `haversack man`: what shells and `man` know of the command line.

use std::path::PathBuf;

use clap::CommandFactory;
use serde::Serialize;

use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::{Args, Context, VERSION};
use crate::fs;
use crate::terminal;

/// Write a completion script for a shell
#[derive(clap::Args)]
#[command(after_help = COMPLETIONS_HELP)]
pub(super) struct CompletionsArgs {
    /// Shell to complete commands for
    shell: clap_complete::Shell,
}

/// Write a man page for each command into a directory
#[derive(clap::Args)]
#[command(after_help = MAN_HELP)]
pub(super) struct ManArgs {
    /// Directory, created if it does not exist; pages in it are replaced
    directory: PathBuf,
}

#[derive(Serialize)]
struct Pages {
    directory: PathBuf,
    pages: Vec<String>,
}

pub(super) fn completions(args: &CompletionsArgs, context: &Context) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "haversack", &mut script);
    context.ui.data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}

pub(super) fn man(args: &ManArgs, context: &Context) -> Outcome {
    // `help` of each command would be a page for each of the others again.
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    fs::create_dir_all(&args.directory)?;
    let mut pages = Vec::new();
    write_pages(&command, args, &mut pages)?;
    pages.sort();
    let pages = Pages { directory: args.directory.clone(), pages };
    context.ui.result(&pages, |pages| pages.pages.iter().map(|page| format!("{page}\n")).collect())?;
    Ok(Exit::Done)
}

fn write_pages(command: &clap::Command, args: &ManArgs, pages: &mut Vec<String>) -> Result<(), Failure> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(command, args, pages)?;
    }
    let date = VERSION.rsplit([' ', ')']).find(|word| word.parse::<jiff::civil::Date>().is_ok()).unwrap_or_default();
    let (name, text) = terminal::page(command, env!("CARGO_PKG_VERSION"), date)?;
    fs::write(&args.directory.join(&name), text.as_bytes())?;
    pages.push(name);
    Ok(())
}

const COMPLETIONS_HELP: &str = "\
Examples:
  haversack completions bash

Where it goes, for one user:
  bash  ~/.local/share/bash-completion/completions/haversack
  zsh   _haversack in a directory of $fpath
  fish  ~/.config/fish/completions/haversack.fish

Exit status: 0 written, 2 wrong command line";

const MAN_HELP: &str = "\
Examples:
  haversack man man1
  haversack man /usr/local/share/man/man1

Exit status: 0 written, 1 failed, 2 wrong command line";
