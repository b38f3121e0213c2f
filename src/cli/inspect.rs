//! `haversack inspect`: what an image says of itself.

use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Context, block_on};
use crate::format::Format;
use crate::ops::inspect::{self, InspectOptions, Inspected};
use crate::ops::{Scratch, place};
use crate::reference::ImageRef;
use crate::registry::memory;
use crate::terminal::stop::stoppable;

/// Show an image: its digest, platforms, what it is run with, its layers with their history, and what refers to it
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct InspectArgs {
    /// Image: docker://HOST/REPOSITORY[:TAG|@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME:TAG] or dir:DIR
    #[arg(value_name = "REF", value_parser = place::image)]
    image: ImageRef,
    /// Print the manifest or index exactly as it is
    #[arg(long)]
    raw: bool,
    /// Print only this text, with a value in place of each field, such as '{{.Digest}} {{.Created}}'
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    format: Option<Format>,
    /// Find out which encoder compressed each layer, by reading and compressing all layers again
    #[arg(long, conflicts_with = "raw")]
    encoder: bool,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

pub(super) fn run(args: &InspectArgs, context: &Context) -> Outcome {
    let access = args.registry.access(context)?;
    if args.raw {
        context.ui.bytes(&block_on(async { Ok(inspect::raw(&args.image, &access).await?) })?)?;
        return Ok(Exit::Done);
    }
    let copying = context.copying(memory::PARALLEL);
    let options = InspectOptions { image: args.image.clone(), encoders: args.encoder, access, copying };
    let scratch = Scratch::default();
    let look = || block_on(async { Ok(inspect::inspect(&options, &scratch, context.ui.progress()).await?) });
    let inspected = stoppable(|| scratch.remove(), |signal| context.stopped(signal), look)?;
    match &args.format {
        Some(format) => {
            let filled = format.fill(&inspected.fields()?);
            context.ui.data(filled.map_err(|why| Failure::usage(format!("--format: {why}")))?)?;
        }
        None => context.ui.result(&inspected, Inspected::to_text)?,
    }
    Ok(Exit::of(inspected.is_complete()))
}

const HELP: &str = "\
Fields of --format: Digest, MediaType, Size, Annotations, Images, Referrers, with --encoder also Encoders; if it is a single image, \
also Created, Architecture, Os, User, Entrypoint, Cmd, WorkingDir, Env, Labels, Layers. Names and numbers lead to what is inside of one: \
{{.Images.0.Platform}}. {{json .FIELD}} is a value as JSON.

Examples:
  haversack inspect docker://quay.io/podman/stable:v5
  haversack inspect --json oci:mirror:podman
  haversack inspect --format '{{.Digest}} {{.Created}}' docker://quay.io/podman/stable:v5
  haversack inspect --encoder oci:mirror:podman

Exit status: 0 shown, 1 failed, 2 wrong command line, 3 documents or layers are missing";
