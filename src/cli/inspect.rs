//! `haversack inspect`: what an image says of itself.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::outcome::{Exit, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::{Context, block_on, place};
use crate::escape::in_line;
use crate::image::store::inspect::{self, InspectReport};
use crate::image::store::layout;
use crate::progress::{Unit, amount};
use crate::reference::ImageRef;
use crate::registry::referrers;

/// Show an image's manifest, configuration, layers and history
#[derive(clap::Args)]
pub(super) struct InspectArgs {
    /// docker://HOST/REPOSITORY[:TAG|@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME:TAG] or dir:DIR
    #[arg(value_name = "REF", value_parser = place::image)]
    image: ImageRef,
    /// Print the manifest or index exactly as it is
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    report: InspectReport,
    referrers: Vec<ReferrerLine>,
}

/// Something that refers to the image: a signature, an SBOM.
#[derive(Serialize)]
struct ReferrerLine {
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
}

pub(super) fn run(args: &InspectArgs, context: &Context) -> Outcome {
    let access = args.registry.access(context)?;
    let (image, documents, found) = block_on(async {
        let (source, image) = access.open(&args.image).await?;
        let documents = source.documents(&image).await?;
        let digest = layout::digest_of(&image)?;
        let found = if args.raw { Vec::new() } else { referrers::list(&source, &digest).await? };
        Ok((image, documents, found))
    })?;
    let mut read = |described: &oci_spec::image::Descriptor| {
        let digest = described.digest().to_string();
        Ok::<_, layout::Error>(documents.get(&digest).cloned().unwrap_or_default())
    };
    if args.raw {
        context.ui.bytes(&read(&image)?)?;
        return Ok(Exit::Done);
    }
    let report = inspect::inspect(&image, &mut read)?;
    let lines = found.into_iter().map(|referrer| ReferrerLine {
        digest: referrer.described.digest().to_string(),
        size: referrer.described.size(),
        artifact_type: referrer.described.artifact_type().as_ref().map(ToString::to_string),
        tag: referrer.tag,
    });
    let inspected = Inspected { report, referrers: lines.collect() };
    context.ui.result(&inspected, |inspected| {
        let mut text = to_text(&inspected.report);
        for line in &inspected.referrers {
            let what = line.artifact_type.as_deref().or(line.tag.as_deref()).unwrap_or("an image");
            let what = in_line(what);
            let _ = writeln!(text, "referrer {} {what}", line.digest);
        }
        text
    })?;
    Ok(Exit::Done)
}

fn to_text(report: &InspectReport) -> String {
    let mut text = format!("{}\n  {}, {} bytes\n", report.digest, in_line(&report.media_type), report.size);
    for (key, value) in &report.annotations {
        let _ = writeln!(text, "  {}: {}", in_line(key), in_line(value));
    }
    for image in &report.images {
        let platform = image.platform.as_ref().map(ToString::to_string);
        let what = image.artifact_type.clone().or(platform).unwrap_or_else(|| "image".to_owned());
        let what = in_line(what);
        let size = amount(image.layer_bytes, Unit::Bytes);
        let _ = writeln!(text, "{what} {}, {} layers, {size}", image.digest, image.layers.len());
        if let Some(subject) = &image.subject {
            let _ = writeln!(text, "  about    {subject}");
        }
        if let Some(created) = &image.created {
            let _ = writeln!(text, "  created  {}", in_line(created));
        }
        for layer in &image.layers {
            let history = in_line(layer.history.as_deref().unwrap_or_default());
            let _ = writeln!(text, "  {} {:>12}  {history}", layer.digest, amount(layer.size, Unit::Bytes));
        }
    }
    text
}
