//! `haversack config`: what is set outside the command line, and what can be.

use std::path::PathBuf;

use clap::CommandFactory;
use serde::Serialize;

use crate::cli::outcome::{Exit, Outcome};
use crate::cli::{Args, Context};
use crate::settings::{Setting, example};
use crate::table;

/// Show what haversack.toml and the environment set, or an example of a haversack.toml
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct ConfigArgs {
    /// Print a haversack.toml with every option of every command, commented out
    #[arg(long)]
    example: bool,
}

#[derive(Serialize)]
struct Configuration {
    /// The file that is read.
    file: Option<PathBuf>,
    settings: Vec<Setting>,
    /// Variables that look like ours and that nothing reads.
    unread: Vec<String>,
}

pub(super) fn run(args: &ConfigArgs, context: &Context) -> Outcome {
    let command = Args::command();
    if args.example {
        context.ui.data(example(&command).trim_end())?;
        return Ok(Exit::Done);
    }
    let configuration = Configuration {
        file: context.config.file().map(Into::into),
        settings: context.config.settings(&command),
        unread: context.config.unread(&command),
    };
    for variable in &configuration.unread {
        context.ui.warn(format_args!("{variable}: no option of haversack has this variable"));
    }
    if configuration.settings.is_empty() {
        context.ui.say("nothing is set; `haversack config --example` shows what can be");
    }
    context.ui.result(&configuration, |configuration| {
        let row = |setting: &Setting| [setting.key.clone(), setting.value.clone(), setting.origin.clone()];
        table::columns(configuration.settings.iter().map(row))
    })?;
    Ok(Exit::Done)
}

const HELP: &str = "\
Examples:
  haversack config
  haversack config --example

Exit status: 0 shown, 2 wrong command line or configuration";
