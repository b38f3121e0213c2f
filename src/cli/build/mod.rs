//! `haversack build`: from definitions to images.

mod explain;
mod inputs;
mod output;
mod packages;
mod recipe;
mod toolkit;
mod variables;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::explain::{Explained, explain};
use self::inputs::{FoundBase, inputs};
use self::output::{Outputs, Workplace};
use self::packages::PackageArgs;
pub(super) use self::variables::tag;
use super::Context;
use super::copy::RegistryArgs;
use super::outcome::{Exit, Failure, Outcome};
use super::stop::{Scratch, stoppable};
use crate::compression::Compression;
use crate::digest::Digest;
use crate::image::build::assemble::BuildReport;
use crate::image::build::definition::Base;
use crate::image::build::sbom::{self, Contents};
use crate::image::build::{assemble, fingerprint, plan};
use crate::image::store::layout;
use crate::image::{Definition, LayerOptions, Layout, Platform, Template};
use crate::progress::{Unit, amount};
use crate::reference::ImageRef;

/// Build images from definitions
#[derive(clap::Args)]
pub(super) struct BuildArgs {
    /// Directories with an image.toml, such as images/catalog
    #[arg(required = true, value_name = "DEFINITION")]
    definitions: Vec<PathBuf>,
    /// Where to: oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME:TAG], dir:DIR or
    /// docker://HOST/REPOSITORY[:TAG]; without a NAME or TAG the definition's name and tags
    #[arg(short, long, value_name = "TRANSPORT", required_unless_present_any = ["explain", "push"])]
    output: Option<ImageRef>,
    /// Send the image to a registry, too: docker://HOST/REPOSITORY[:TAG]; without a TAG the definition's tags
    #[arg(long, value_name = "REF")]
    push: Option<ImageRef>,
    /// Build nothing where all outputs hold an image made of the same inputs, definition and base by this version
    #[arg(long)]
    skip_existing: bool,
    /// Lay the image over this one, instead of what the definition says
    #[arg(long, value_name = "REF")]
    base: Option<ImageRef>,
    /// Attach no list of what is in the image
    #[arg(long)]
    no_sbom: bool,
    /// The catalog snapshot, for images that hold one
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Build for this platform instead of the definition's
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<Platform>,
    /// The haversack program for another platform than this one's
    #[arg(long, value_name = "PLATFORM=PATH", value_parser = binary)]
    binary: Vec<(Platform, PathBuf)>,
    /// How layers are compressed
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    compression: Compressor,
    /// The compressor's own level: gzip 1 to 9, zstd 1 to 19
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=19))]
    level: Option<i32>,
    /// Print what would be in the images and write nothing
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    packages: PackageArgs,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// The compressors of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Compressor {
    /// Small and fast
    #[default]
    Zstd,
    /// For what reads nothing else
    Gzip,
    /// Plain tar
    None,
}

/// What became of a definition.
#[derive(Serialize)]
#[serde(untagged)]
enum Done {
    Built(Built),
    Skipped(Skipped),
}

/// One image that was not built, as it is there.
#[derive(Serialize)]
struct Skipped {
    name: String,
    output: Vec<ImageRef>,
    fingerprint: Digest,
    skipped: bool,
}

/// One image that was built.
#[derive(Serialize)]
struct Built {
    name: String,
    output: Vec<ImageRef>,
    /// Digest of the manifest that has the SBOM.
    #[serde(skip_serializing_if = "Option::is_none")]
    sbom: Option<Digest>,
    #[serde(flatten)]
    report: BuildReport,
}

impl BuildArgs {
    /// How layers are compressed, at a level that the compressor has.
    fn layer_options(&self) -> Result<LayerOptions, Failure> {
        match self.level {
            Some(level) if self.compression == Compressor::Gzip && level > 9 => {
                Err(Failure::usage(format!("--level {level}: gzip has the levels 1 to 9")))
            }
            level => Ok(LayerOptions { compression: self.compression.into(), level }),
        }
    }
}

pub(super) fn run(args: &BuildArgs, context: &Context) -> Outcome {
    let scratch = Scratch::default();
    let told = |name: &str| {
        context.ui.error(Failure::new(format!("stopped by {name}")));
        // As shells say it of a program that a signal ended.
        if name == "SIGINT" { 130 } else { 143 }
    };
    stoppable(&scratch, told, || build(args, &scratch, context))
}

fn build(args: &BuildArgs, scratch: &Scratch, context: &Context) -> Outcome {
    let mut definitions: Vec<(&Path, Definition)> = Vec::new();
    for directory in &args.definitions {
        let template = Template::read(directory)?;
        if !template.variables().is_empty() {
            if args.definitions.len() > 1 {
                let message = format!("{}: makes an image for each kernel, and is built alone", directory.display());
                return Err(Failure::usage(message).hint("build the others in a run of their own"));
            }
            return toolkit::run(args, directory, &template, scratch, context);
        }
        let mut definition = template.fill(&BTreeMap::new())?;
        if let Some(base) = &args.base {
            definition.base = Base::Image(base.below(&std::path::absolute(".")?));
        }
        definitions.push((directory.as_path(), definition));
    }
    let options = args.layer_options()?;
    let outputs = Outputs::new(args, definitions.len(), context)?;
    let Workplace { beside, mut place, passing: _passing } = outputs.workplace(args.explain, scratch)?;
    let mut explained = Vec::new();
    let mut done = Vec::new();
    let mut youngest = 0;
    for (number, (directory, definition)) in definitions.iter().enumerate() {
        let into = beside.path().join(number.to_string());
        let inputs = inputs(args, directory, definition, &into, context)?;
        let plan = plan(definition, &inputs).map_err(hint_binary)?;
        let Some(place) = &mut place else {
            explained.push(explain(definition, &inputs, &plan));
            continue;
        };
        let (name, progress) = (definition.name.clone(), context.ui.progress());
        let found = FoundBase::find(definition, directory, args, context)?;
        if args.skip_existing {
            let base = found.as_ref().map(|base| layout::digest_of(&base.image)).transpose()?;
            let fingerprint = fingerprint(definition, &inputs, &plan, base.as_ref(), &options, progress)?;
            if let Some(output) = outputs.hold(definition, &fingerprint)? {
                done.push(Done::Skipped(Skipped { name, output, fingerprint, skipped: true }));
                continue;
            }
        }
        let from = Layout::create(&beside.path().join(format!("base-{number}")))?;
        if let Some(base) = &found {
            base.fetch(&inputs.platforms, &from, args, context)?;
        }
        let base = found.as_ref().map(|base| (&from, &base.image));
        let (image, report) = assemble(definition, &inputs, &plan, base, &options, place.layout(), progress)?;
        youngest = youngest.max(report.created.as_second());
        let sbom = (!args.no_sbom).then(|| {
            let base = found.as_ref().map(|base| (base.reference.to_string(), base.image.digest().to_string()));
            sbom::document(&report, &Contents { name: &name, base, components: &inputs.components() })
        });
        let (output, sbom) = outputs.give(place, &image, definition, sbom.as_deref())?;
        done.push(Done::Built(Built { name, output, sbom, report }));
    }
    drop(beside);
    match place {
        Some(place) => {
            place.finish(youngest)?;
            context.ui.result(&done, |done| done.iter().map(Done::to_text).collect())?;
        }
        None => context.ui.result(&explained, |explained| explained.iter().map(Explained::to_text).collect())?,
    }
    Ok(Exit::Done)
}

impl Done {
    fn to_text(&self) -> String {
        match self {
            Done::Built(built) => built.to_text(),
            Done::Skipped(skipped) => skipped.to_text(),
        }
    }
}

impl Skipped {
    fn to_text(&self) -> String {
        let outputs = self.output.iter().map(|output| format!("{output}\n")).collect::<String>();
        format!("{outputs}  nothing built: it is there, made of the same inputs ({})\n", self.fingerprint)
    }
}

impl Built {
    fn to_text(&self) -> String {
        let mut text = String::new();
        for output in &self.output {
            let _ = writeln!(text, "{output}");
        }
        let _ = writeln!(text, "  digest   {}", self.report.digest);
        if let Some(sbom) = &self.sbom {
            let _ = writeln!(text, "  sbom     {sbom}");
        }
        let _ = writeln!(text, "  created  {}", self.report.created);
        for image in &self.report.images {
            let bytes = image.layers.iter().map(|layer| layer.size).sum();
            let (layers, size) = (image.layers.len(), amount(bytes, Unit::Bytes));
            let _ = writeln!(text, "  {:<8} {}, {layers} layers, {size}", image.platform.to_string(), image.manifest);
        }
        text
    }
}

impl From<Compressor> for Compression {
    fn from(compressor: Compressor) -> Self {
        match compressor {
            Compressor::Zstd => Compression::Zstd,
            Compressor::Gzip => Compression::Gzip,
            Compressor::None => Compression::None,
        }
    }
}

fn hint_binary(error: plan::Error) -> Failure {
    match &error {
        plan::Error::NoBinary { platform } => {
            let hint = format!("give one with `--binary {platform}=PATH`, or choose with `--platform`");
            Failure::from(error).hint(hint)
        }
        _ => error.into(),
    }
}

fn binary(text: &str) -> Result<(Platform, PathBuf), String> {
    let (platform, path) = text.split_once('=').ok_or("expected PLATFORM=PATH, such as linux/arm64=./haversack")?;
    Ok((platform.parse().map_err(|error| format!("{error}"))?, path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_catalog_image_holds_the_snapshot_where_the_program_looks_for_it() {
        let definition = Definition::read(Path::new("images/catalog")).unwrap();
        let catalogs: Vec<_> = definition.layers.iter().filter_map(|layer| layer.catalog.as_ref()).collect();
        assert_eq!(catalogs.len(), 1);
        assert_eq!(definition.env.get("HAVERSACK_DB"), Some(&catalogs[0].db));
        assert_eq!(catalogs[0].tree, "/usr/oct/cmd/tnf/fetch/data");
    }
}
