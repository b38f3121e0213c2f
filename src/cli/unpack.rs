//! `haversack unpack`: images out of what crossed the gap.

use std::path::PathBuf;

use crate::carry::PublicKey;
use crate::cli::outcome::{Exit, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Context, block_on};
use crate::ops::carry::{self, UnpackOptions, UnpackTo, Unpacked};
use crate::registry::memory;

/// Unpack a carry into a layout or a registry; every digest is what it was
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct UnpackArgs {
    /// The directory with carry.json and volumes; run it again for each medium, in any order
    #[arg(value_name = "CARRY")]
    carry: PathBuf,
    /// Where to: oci:DIR or docker://HOST[:PORT][/PATH]
    #[arg(long, value_name = "TRANSPORT")]
    to: UnpackTo,
    /// Refuse the carry unless this public key (PEM) signed it [default: nobody's signature is asked for]
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// Also write plain files and directories, which `pack file:PATH` packed, into this directory; nothing there is replaced
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Where images are made before they are pushed to a registry, and where their receipt is written
    #[arg(long, value_name = "DIR", default_value = ".")]
    work: PathBuf,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

pub(super) fn run(args: &UnpackArgs, context: &Context) -> Outcome {
    let copying = context.copying(memory::PARALLEL);
    let options = UnpackOptions {
        key: args.key.as_deref().map(PublicKey::read).transpose()?,
        work: args.work.clone(),
        files: args.files.clone(),
        now: context.now()?,
    };
    let access = args.registry.access(context)?;
    let progress = context.ui.progress();
    let unpacked =
        block_on(async { Ok(carry::unpack(&args.carry, &args.to, &options, &access, &copying, progress).await?) })?;
    context.ui.result(&unpacked, Unpacked::to_text)?;
    for line in &unpacked.report.damaged {
        context.ui.error(line);
    }
    Ok(Exit::of(unpacked.report.complete && unpacked.not_pushed.is_empty()))
}

const HELP: &str = "\
Examples:
  haversack unpack /media/disc --to oci:mirror
  haversack unpack carry --to docker://bastion:5000

Exit status: 0 unpacked, 1 failed, 2 wrong command line, 3 volumes are missing or damaged, or images have no name to be
pushed under";
