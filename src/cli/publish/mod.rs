//! `haversack publish`: packages to Artifactory, boot artifacts to S3 and the Image Management Service.

mod artifactory;
mod ims;
mod input;
mod settings;

use std::path::Path;

use clap::Subcommand;

use super::Context;
use super::outcome::{Failure, Outcome};
use crate::fs;

#[derive(Subcommand)]
pub(super) enum Command {
    Ims(Box<ims::ImsArgs>),
    ImsJobStatus(ims::JobStatusArgs),
    Artifactory(artifactory::ArtifactoryArgs),
}

pub(super) fn run(command: &Command, context: &Context) -> Outcome {
    match command {
        Command::Ims(args) => ims::upload(args, context),
        Command::ImsJobStatus(args) => ims::set_job_status(args, context),
        Command::Artifactory(args) => artifactory::run(args, context),
    }
}

/// How much is to be said, where the command has an option of its own for that.
pub(super) fn verbosity(command: &Command) -> u8 {
    match command {
        Command::Ims(args) => args.service.verbosity(),
        Command::ImsJobStatus(args) => args.service.verbosity(),
        Command::Artifactory(_) => 0,
    }
}

/// The content of a file with a secret, without white space around it.
fn secret(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path, SECRET_LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::new(format!("{}: not a text", path.display())))?;
    Ok(text.trim().to_owned())
}

/// Parses `KEY=VALUE`.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

const SECRET_LIMIT: u64 = 64 << 10;
