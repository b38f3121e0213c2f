//! `haversack inspect`: what an image says of itself.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::carry::LayerEncoder;
use crate::causes;
use crate::cli::format::Format;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::OneRegistryArgs;
use crate::cli::stop::stoppable;
use crate::cli::{Context, block_on, place};
use crate::digest::Digest;
use crate::escape::in_line;
use crate::image::store::inspect::{self, InspectReport};
use crate::image::store::layout;
use crate::ops::{Access, Scratch, carry};
use crate::progress::{Unit, amount};
use crate::reference::ImageRef;
use crate::registry::{CopyOptions, referrers};

/// Show an image's manifest, configuration, layers and history
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct InspectArgs {
    /// docker://HOST/REPOSITORY[:TAG|@DIGEST], oci:DIR[:NAME], oci-archive:FILE[:NAME],
    /// docker-archive:FILE[:NAME:TAG] or dir:DIR
    #[arg(value_name = "REF", value_parser = place::image)]
    image: ImageRef,
    /// Print the manifest or index exactly as it is
    #[arg(long)]
    raw: bool,
    /// Print this text with fields of the JSON in it, such as '{{.digest}} {{.Created}}'
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    format: Option<Format>,
    /// Say which encoder compressed each layer; all layers are read and compressed again to know it
    #[arg(long, conflicts_with = "raw")]
    encoder: bool,
    #[command(flatten)]
    registry: OneRegistryArgs,
}

#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    report: InspectReport,
    referrers: Vec<ReferrerLine>,
    /// Asked for by `--encoder`.
    #[serde(skip_serializing_if = "Option::is_none")]
    encoders: Option<Encoders>,
}

#[derive(Serialize)]
struct Encoders {
    /// Each layer once.
    layers: Vec<LayerEncoder>,
    /// Layers that are not where the image is, as they may not be distributed.
    left_out: Vec<Digest>,
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
    if args.raw {
        let bytes = block_on(async {
            let (source, image) = access.open(&args.image).await?;
            Ok(source.document(&image).await?)
        })?;
        context.ui.bytes(&bytes)?;
        return Ok(Exit::Done);
    }
    let (image, documents, found) = block_on(async {
        let (source, image) = access.open(&args.image).await?;
        let documents = source.documents(&image).await?;
        let digest = layout::digest_of(&image)?;
        let found = referrers::list(&source, &digest).await?;
        for (what, error) in &found.unread {
            context.ui.warn(format_args!("{what}: {}", causes::line(error)));
        }
        Ok((image, documents, found))
    })?;
    let mut read = |described: &oci_spec::image::Descriptor| match documents.get(described.digest().as_ref()) {
        Some(Ok(bytes)) => Ok(bytes.clone()),
        Some(Err(error)) => Err(causes::line(error)),
        None => Err("not read".to_owned()),
    };
    let bytes = read(&image).expect("the outermost document was read");
    let report = inspect::inspect(&image, &bytes, &mut read)?;
    let complete = report.images.iter().all(|image| image.problem.is_none()) && found.unread.is_empty();
    let lines = found.referrers.into_iter().map(|referrer| ReferrerLine {
        digest: referrer.described.digest().to_string(),
        size: referrer.described.size(),
        artifact_type: referrer.described.artifact_type().as_ref().map(ToString::to_string),
        tag: referrer.tag,
    });
    let encoders = if args.encoder { Some(encoders(args, context, &access)?) } else { None };
    let complete = complete && encoders.as_ref().is_none_or(|encoders| encoders.left_out.is_empty());
    let inspected = Inspected { report, referrers: lines.collect(), encoders };
    if let Some(format) = &args.format {
        let filled = format.fill(&fields(&inspected)?);
        context.ui.data(filled.map_err(|why| Failure::usage(format!("--format: {why}")))?)?;
        return Ok(Exit::of(complete));
    }
    context.ui.result(&inspected, |inspected| {
        let mut text = to_text(&inspected.report);
        for line in &inspected.referrers {
            let what = line.artifact_type.as_deref().or(line.tag.as_deref()).unwrap_or("an image");
            let what = in_line(what);
            let _ = writeln!(text, "referrer {} {what}", line.digest);
        }
        if let Some(encoders) = &inspected.encoders {
            text += &encoders.to_text();
        }
        text
    })?;
    Ok(Exit::of(complete))
}

/// What `--json` prints, and of a single image what skopeo has at the top of its own.
fn fields(inspected: &Inspected) -> Result<Value, Failure> {
    let mut fields = serde_json::to_value(inspected)?;
    if let ([image], Some(fields)) = (&*inspected.report.images, fields.as_object_mut()) {
        let config = &image.config;
        for (name, value) in [
            ("Created", config.get("created")),
            ("Architecture", config.get("architecture")),
            ("Os", config.get("os")),
            ("Labels", config.pointer("/config/Labels")),
            ("Env", config.pointer("/config/Env")),
        ] {
            fields.insert(name.to_owned(), value.cloned().unwrap_or_default());
        }
        let layers = image.layers.iter().map(|layer| layer.digest.as_str()).collect::<Vec<_>>();
        fields.insert("Layers".to_owned(), layers.into());
    }
    Ok(fields)
}

fn encoders(args: &InspectArgs, context: &Context, access: &Access) -> Result<Encoders, Failure> {
    let scratch = Scratch::default();
    stoppable(
        &scratch,
        |signal| context.stopped(signal),
        || {
            let work = scratch.directory("haversack-inspect-")?;
            let copying = CopyOptions { referrers: false, ..context.copying() };
            let found = carry::encoders(&args.image, work.path(), access, &copying, context.ui.progress());
            let (layers, left_out) = block_on(async { Ok(found.await?) })?;
            Ok(Encoders { layers, left_out })
        },
    )
}

impl Encoders {
    fn to_text(&self) -> String {
        let mut text = String::new();
        for layer in &self.layers {
            let encoder = layer.encoder.as_deref().unwrap_or("no known encoder");
            let why = layer.reason.as_ref().map(|reason| format!(": {}", in_line(reason))).unwrap_or_default();
            let _ = writeln!(text, "encoder  {} {encoder}{why}", layer.digest);
        }
        for digest in &self.left_out {
            let _ =
                writeln!(text, "encoder  {digest} not looked at: the layer may not be distributed and is not there");
        }
        text
    }
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
        if let Some(problem) = &image.problem {
            let _ = writeln!(text, "  problem  {problem}");
        }
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

const HELP: &str = "\
Examples:
  haversack inspect docker://quay.io/podman/stable:v5
  haversack inspect --json oci:mirror:podman
  haversack inspect --format {{.Digest}} docker://quay.io/podman/stable:v5
  haversack inspect --encoder oci:mirror:podman

Exit status: 0 shown, 1 failed, 2 wrong command line, 3 documents or layers are missing";
