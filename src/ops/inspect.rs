//! What an image says of itself: what `haversack inspect` shows.

use std::fmt::Write as _;

use oci_spec::image::Descriptor;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::carry::LayerEncoder;
use crate::causes;
use crate::digest::Digest;
use crate::escape::in_line;
use crate::image::store::inspect::{self, InspectReport};
use crate::image::store::layout;
use crate::ops::{Access, Error, Scratch, carry};
use crate::plural;
use crate::progress::{Progress, Unit, amount};
use crate::reference::ImageRef;
use crate::registry::{CopyOptions, referrers};

/// What is looked at.
#[derive(Clone, Debug)]
pub struct InspectOptions {
    /// The image.
    pub image: ImageRef,
    /// Whether to find out who compressed each layer, for which all of them are read and compressed again.
    pub encoders: bool,
    /// How its registry is spoken to.
    pub access: Access,
    /// How layers are brought from there.
    pub copying: CopyOptions,
}

/// An image, and what refers to it.
#[derive(Debug, Serialize)]
pub struct Inspected {
    /// The image.
    #[serde(flatten)]
    pub report: InspectReport,
    /// What refers to it.
    pub referrers: Vec<ReferrerLine>,
    /// Who compressed its layers, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoders: Option<Encoders>,
    /// What may refer to it and could not be read, with the reason.
    #[serde(skip)]
    pub unread: Vec<String>,
}

/// Who compressed the layers of an image.
#[derive(Debug, Serialize)]
pub struct Encoders {
    /// Each layer once.
    pub layers: Vec<LayerEncoder>,
    /// Layers that are not where the image is, as they may not be distributed.
    pub left_out: Vec<Digest>,
}

/// Something that refers to the image: a signature, an SBOM.
#[derive(Debug, Serialize)]
pub struct ReferrerLine {
    /// Its digest.
    pub digest: String,
    /// Bytes of its manifest.
    pub size: u64,
    /// What it is, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The tag that leads to it, where a tag does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// The manifest or index exactly as it is.
pub async fn raw(image: &ImageRef, access: &Access) -> Result<Vec<u8>, Error> {
    let (source, image) = access.open(image).await?;
    Ok(source.document(&image).await?)
}

/// Reads an image's documents, and finds out what refers to it. What is damaged or missing is a problem in the report.
pub async fn inspect(options: &InspectOptions, scratch: &Scratch, progress: &Progress) -> Result<Inspected, Error> {
    let (source, image) = options.access.open(&options.image).await?;
    let documents = source.documents(&image).await?;
    let found = referrers::list(&source, &layout::digest_of(&image)?).await?;
    let mut read = |described: &Descriptor| match documents.get(described.digest().as_ref()) {
        Some(Ok(bytes)) => Ok(bytes.clone()),
        Some(Err(error)) => Err(causes::line(error)),
        None => Err("not read".to_owned()),
    };
    let bytes = read(&image).expect("the outermost document was read");
    let report = inspect::inspect(&image, &bytes, &mut read)?;
    let lines = found.referrers.into_iter().map(|referrer| ReferrerLine {
        digest: referrer.described.digest().to_string(),
        size: referrer.described.size(),
        artifact_type: referrer.described.artifact_type().as_ref().map(ToString::to_string),
        tag: referrer.tag,
    });
    let unread = found.unread.iter().map(|(what, error)| format!("{what}: {}", causes::line(error)));
    let (referrers, unread): (_, Vec<String>) = (lines.collect(), unread.collect());
    // Before the layers are looked at, which takes minutes.
    unread.iter().for_each(|line| tracing::warn!("{line}"));
    let encoders = match options.encoders {
        true => Some(encoders(options, scratch, progress).await?),
        false => None,
    };
    Ok(Inspected { report, referrers, encoders, unread })
}

async fn encoders(options: &InspectOptions, scratch: &Scratch, progress: &Progress) -> Result<Encoders, Error> {
    let work = scratch.directory("haversack-inspect-")?;
    let copying = CopyOptions { referrers: false, ..options.copying.clone() };
    let found = carry::encoders(&options.image, work.path(), &options.access, &copying, progress);
    let (layers, left_out) = found.await?;
    Ok(Encoders { layers, left_out })
}

impl Inspected {
    /// Whether nothing was missing.
    pub fn is_complete(&self) -> bool {
        self.report.images.iter().all(|image| image.problem.is_none())
            && self.unread.is_empty()
            && self.encoders.as_ref().is_none_or(|encoders| encoders.left_out.is_empty())
    }

    /// The fields of the JSON, and of a single image what skopeo and podman have at the top of their own: all written as those
    /// programs write them.
    pub fn fields(&self) -> Result<Value, Error> {
        let mut fields = Map::new();
        if let Value::Object(ours) = serde_json::to_value(self)? {
            fields.extend(ours.into_iter().map(|(name, value)| (pascal(&name), value)));
        }
        if let [image] = &*self.report.images {
            let config = &image.config;
            for (name, place) in [("Created", "/created"), ("Architecture", "/architecture"), ("Os", "/os")] {
                fields.insert(name.to_owned(), config.pointer(place).cloned().unwrap_or_default());
            }
            for name in ["User", "Entrypoint", "Cmd", "WorkingDir", "Env", "Labels"] {
                fields.insert(name.to_owned(), config["config"][name].clone());
            }
            let layers = image.layers.iter().map(|layer| layer.digest.as_str()).collect::<Vec<_>>();
            fields.insert("Layers".to_owned(), layers.into());
        }
        Ok(fields.into())
    }

    /// The image for people, with what refers to it.
    pub fn to_text(&self) -> String {
        let mut text = image_text(&self.report);
        for line in &self.referrers {
            let what = line.artifact_type.as_deref().or(line.tag.as_deref()).unwrap_or("an image");
            let _ = writeln!(text, "referrer {} {}", line.digest, in_line(what));
        }
        text + &self.encoders.as_ref().map(Encoders::to_text).unwrap_or_default()
    }
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

fn image_text(report: &InspectReport) -> String {
    let mut text = format!("{}\n  {}, {} bytes\n", report.digest, in_line(&report.media_type), report.size);
    for (key, value) in &report.annotations {
        let _ = writeln!(text, "  {}: {}", in_line(key), in_line(value));
    }
    for image in &report.images {
        let platform = image.platform.as_ref().map(ToString::to_string);
        let what = image.artifact_type.clone().or(platform).unwrap_or_else(|| "image".to_owned());
        let what = in_line(what);
        let size = amount(image.layer_bytes, Unit::Bytes);
        let _ = writeln!(text, "{what} {}, {}, {size}", image.digest, plural::count(image.layers.len(), "layer"));
        if let Some(problem) = &image.problem {
            let _ = writeln!(text, "  problem    {problem}");
        }
        if let Some(subject) = &image.subject {
            let _ = writeln!(text, "  about      {subject}");
        }
        if let Some(created) = &image.created {
            let _ = writeln!(text, "  created    {}", in_line(created));
        }
        for (name, value) in configured(&image.config["config"]) {
            let _ = writeln!(text, "  {name:<10} {}", in_line(value));
        }
        for layer in &image.layers {
            let history = in_line(layer.history.as_deref().unwrap_or_default());
            let _ = writeln!(text, "  {} {:>12}  {history}", layer.digest, amount(layer.size, Unit::Bytes));
        }
    }
    text
}

/// What an image is run with, as `podman inspect` has it: a line for each value, those that are empty left out.
fn configured(config: &Value) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for (name, shown) in [
        ("User", "user"),
        ("Entrypoint", "entrypoint"),
        ("Cmd", "cmd"),
        ("WorkingDir", "workdir"),
        ("Env", "env"),
        ("ExposedPorts", "port"),
        ("Volumes", "volume"),
        ("StopSignal", "stopsignal"),
        ("Labels", "label"),
    ] {
        match &config[name] {
            Value::String(text) if !text.is_empty() => lines.push((shown, text.clone())),
            // Each may hold spaces: the words of a command are told apart as JSON tells them.
            Value::Array(words) if name != "Env" && !words.is_empty() => lines.push((shown, config[name].to_string())),
            Value::Array(variables) => {
                lines.extend(variables.iter().filter_map(|it| Some((shown, it.as_str()?.to_owned()))));
            }
            Value::Object(labels) if name == "Labels" => lines.extend(
                labels.iter().map(|(key, value)| (shown, format!("{key}={}", value.as_str().unwrap_or_default()))),
            ),
            Value::Object(keys) => lines.extend(keys.keys().map(|key| (shown, key.clone()))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    lines
}

/// `media_type` as `MediaType`.
fn pascal(name: &str) -> String {
    let upper =
        |part: &str| part.get(..1).map(str::to_uppercase).unwrap_or_default() + part.get(1..).unwrap_or_default();
    name.split('_').map(upper).collect()
}
