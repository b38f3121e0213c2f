//! `haversack unpack`: images out of what crossed the gap.

use std::path::PathBuf;

use crate::carry::{Contents, PublicKey};
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Context, block_on};
use crate::ops::carry::{self, UnpackOptions, UnpackTo, Unpacked};
use crate::registry::memory;

/// Unpack a carry into a layout or a registry; all digests stay the same
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct UnpackArgs {
    /// Directory with carry.json and volumes; of several media, unpack one after another, in any order
    #[arg(value_name = "CARRY")]
    carry: PathBuf,
    /// Destination: oci:DIR or docker://HOST[:PORT][/PATH]
    #[arg(long, value_name = "TRANSPORT")]
    to: UnpackTo,
    /// Refuse the carry unless this public key (PEM) signed it [default: no signature is required]
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// Also write the plain files and directories of the carry into this directory; existing ones are not replaced
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Also keep the contents of layers in the layout, so that later carries unpack without reading these layers again; needs
    /// room for them uncompressed
    #[arg(long)]
    keep_contents: bool,
    /// With --to docker://: directory for the receipt, ID.json, which says that the carry has arrived, and for the images until they are
    /// pushed
    #[arg(long, value_name = "DIR", default_value = ".")]
    work: PathBuf,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

pub(super) fn run(args: &UnpackArgs, context: &Context) -> Outcome {
    if args.keep_contents && matches!(args.to, UnpackTo::Registry { .. }) {
        return Err(Failure::usage("--keep-contents: contents are kept in a layout (--to oci:DIR), not in a registry"));
    }
    let copying = context.copying(memory::PARALLEL);
    let options = UnpackOptions {
        key: args.key.as_deref().map(PublicKey::read).transpose()?,
        work: args.work.clone(),
        files: args.files.clone(),
        contents: if args.keep_contents { Contents::Kept } else { Contents::Dropped },
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
    context.ui.warn_of(unpacked.warnings());
    Ok(Exit::of(unpacked.is_complete()))
}

const HELP: &str = "\
An image HOST/REPOSITORY:TAG goes to REPOSITORY:TAG below PATH in a registry, as with `sync`; docker.io/alpine is library/alpine. One whose \
name is a single WORD, as that of oci:DIR:WORD, goes to WORD:latest.

Examples:
  haversack unpack /media/disc --to oci:mirror
  haversack unpack carry --to docker://bastion:5000

Exit status: 0 unpacked, 1 failed, 2 wrong command line, 3 volumes are missing or damaged, images \
without a name were not pushed, or contents of layers could not be kept";
