//! `haversack inspect`: what an image says of itself.

use std::fmt::Write as _;

use super::Context;
use super::outcome::{Exit, Outcome};
use crate::image::Store;
use crate::image::inspect::{self, InspectReport};
use crate::progress::{Unit, amount};
use crate::reference::ImageRef;

/// Show an image's manifest, configuration, layers and history
#[derive(clap::Args)]
pub(super) struct InspectArgs {
    /// oci:DIR[:NAME] or oci-archive:FILE[:NAME]
    #[arg(value_name = "REF")]
    image: ImageRef,
    /// Print the manifest or index exactly as it is
    #[arg(long)]
    raw: bool,
}

pub(super) fn run(args: &InspectArgs, context: &Context) -> Outcome {
    let (store, image) = Store::open_image(&args.image)?;
    if args.raw {
        context.ui.bytes(&store.read_document(&image)?)?;
        return Ok(Exit::Done);
    }
    let report = inspect::inspect(&image, &mut |described| store.read_document(described))?;
    context.ui.result(&report, to_text)?;
    Ok(Exit::Done)
}

fn to_text(report: &InspectReport) -> String {
    let mut text = format!("{}\n  {}, {} bytes\n", report.digest, report.media_type, report.size);
    for (key, value) in &report.annotations {
        let _ = writeln!(text, "  {key}: {value}");
    }
    for image in &report.images {
        let platform = image.platform.as_ref().map(ToString::to_string);
        let what = image.artifact_type.clone().or(platform).unwrap_or_else(|| "image".to_owned());
        let size = amount(image.layer_bytes, Unit::Bytes);
        let _ = writeln!(text, "{what} {}, {} layers, {size}", image.digest, image.layers.len());
        if let Some(subject) = &image.subject {
            let _ = writeln!(text, "  about    {subject}");
        }
        if let Some(created) = &image.created {
            let _ = writeln!(text, "  created  {created}");
        }
        for layer in &image.layers {
            let history = layer.history.as_deref().unwrap_or_default();
            let _ = writeln!(text, "  {} {:>12}  {history}", layer.digest, amount(layer.size, Unit::Bytes));
        }
    }
    text
}
