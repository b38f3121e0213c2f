//! `haversack list-tags` and `haversack delete`: what a repository holds, and taking something out.

use crate::cli::global::ParallelArgs;
use crate::cli::outcome::{Exit, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Context, block_on};
use crate::ops::place;
use crate::ops::tags::{self, DeleteOptions, Deleted, Tags};
use crate::reference::Remote;

/// List the tags of a repository, in the order of their versions
#[derive(clap::Args)]
#[command(after_help = LIST_HELP)]
pub(super) struct ListTagsArgs {
    /// Repository: docker://HOST/REPOSITORY
    #[arg(value_name = "REPOSITORY", value_parser = place::repository)]
    repository: Remote,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

/// Delete an image from a registry; refused without --yes if other tags name it
#[derive(clap::Args)]
#[command(after_help = DELETE_HELP)]
pub(super) struct DeleteArgs {
    /// Image: docker://HOST/REPOSITORY:TAG or docker://HOST/REPOSITORY@DIGEST
    #[arg(value_name = "REF", value_parser = place::remote)]
    image: Remote,
    /// Delete the image together with all other tags that name it
    #[arg(short, long)]
    yes: bool,
    /// Delete only this tag and keep the image, if the registry can
    #[arg(long, conflicts_with = "yes")]
    only_tag: bool,
    #[command(flatten)]
    parallel: ParallelArgs<8>,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

pub(super) fn list_tags(args: &ListTagsArgs, context: &Context) -> Outcome {
    let access = args.registry.access(context)?;
    let report = block_on(async { Ok(tags::list(&args.repository, &access).await?) })?;
    context.ui.warn_of(report.warning());
    context.ui.result(&report, Tags::to_text)?;
    Ok(Exit::of(report.refused.is_empty()))
}

pub(super) fn delete(args: &DeleteArgs, context: &Context) -> Outcome {
    let options = DeleteOptions {
        image: args.image.clone(),
        yes: args.yes,
        only_tag: args.only_tag,
        parallel: args.parallel.count(),
    };
    let access = args.registry.access(context)?;
    let report = block_on(async { Ok(tags::delete(&options, &access).await?) })?;
    context.ui.result(&report, Deleted::to_text)?;
    Ok(Exit::Done)
}

const LIST_HELP: &str = "\
1.9 stands before 1.10, and words such as latest behind the versions. With --json, prints what `skopeo list-tags` prints, in this order.

Examples:
  haversack list-tags docker://quay.io/podman/stable

Exit status: 0 listed, 1 failed, 2 wrong command line, 3 listed without names that are not valid tags";

const DELETE_HELP: &str = "\
A registry deletes an image by its digest, and with it every tag that names the image. So nothing is deleted without --yes if \
there are other tags. The image's signatures and SBOMs stay, and so do the images that an index lists. Space is freed when the \
registry collects garbage.

Examples:
  haversack delete docker://registry.local:5000/acme/db:1.0
  haversack delete --yes docker://registry.local:5000/acme/db:1.0

Exit status: 0 deleted, 1 not deleted, 2 wrong command line";
