//! From definitions to images: what `haversack build` does.

pub mod explain;
pub mod inputs;
pub mod output;
mod text;
pub mod toolkit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::digest::Digest;
use crate::image::build::assemble::BuildReport;
use crate::image::build::definition::Base;
use crate::image::build::sbom::{self, Contents};
use crate::image::build::{Assembly, BaseImage, fingerprint, plan};
use crate::image::store::layout;
use crate::image::{Definition, LayerOptions, Layout, Platform, Template};
use crate::ops::make::explain::{Explained, explain};
use crate::ops::make::inputs::{FoundBase, inputs};
use crate::ops::make::output::{Given, Outputs, Workplace};
use crate::ops::make::toolkit::{PackageOptions, Toolkit};
use crate::ops::{Access, Done, Error, Scratch};
use crate::progress::Progress;
use crate::reference::ImageRef;
use crate::registry::LeftOut;

/// What is built, of what, and where it goes.
#[derive(Clone, Debug, Default)]
pub struct MakeOptions {
    /// Directories with an `image.toml`, or names of definitions that come with the program.
    pub definitions: Vec<PathBuf>,
    /// Where images are written.
    pub output: Option<ImageRef>,
    /// Where they are sent, too.
    pub push: Option<ImageRef>,
    /// Builds nothing where all outputs hold an image made of the same.
    pub skip_existing: bool,
    /// The base, instead of what definitions say; paths are absolute.
    pub base: Option<ImageRef>,
    /// Leaves the list of what is in the image out.
    pub no_sbom: bool,
    /// The catalog snapshot, for images that hold one.
    pub catalog: Option<PathBuf>,
    /// The platforms, instead of what definitions say.
    pub platforms: Vec<Platform>,
    /// The program for other platforms than this one's.
    pub binaries: Vec<(Platform, PathBuf)>,
    /// How layers are compressed.
    pub layers: LayerOptions,
    /// Writes nothing and reports what would be in the images.
    pub explain: bool,
    /// No time in an image is later: seconds since 1970.
    pub epoch: Option<i64>,
    /// For images of kernels and of their packages.
    pub packages: PackageOptions,
    /// How bases are read from registries.
    pub source: Access,
    /// How images are pushed.
    pub destination: Access,
}

/// What a run made.
#[derive(Serialize)]
#[serde(untagged)]
pub enum MakeReport {
    /// What would be in the images.
    Explained(Vec<Explained>),
    /// Images of definitions without variables.
    Images(Vec<Made>),
    /// Images of kernels.
    Toolkits(Vec<Toolkit>),
}

/// What became of a definition.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Made {
    /// An image was built.
    Built(Built),
    /// It is there already.
    Skipped(Skipped),
}

/// One image that was not built, as it is there.
#[derive(Serialize)]
pub struct Skipped {
    /// The definition's name.
    pub name: String,
    /// Where it is.
    pub output: Vec<ImageRef>,
    /// What it is made of.
    pub fingerprint: Digest,
    /// Always true: tells it from one that was built.
    pub skipped: bool,
}

/// One image that was built.
#[derive(Serialize)]
pub struct Built {
    /// The definition's name.
    pub name: String,
    /// Where it is.
    pub output: Vec<ImageRef>,
    /// Digest of the manifest that has the SBOM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<Digest>,
    /// What an output has no place for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// What was made.
    #[serde(flatten)]
    pub report: BuildReport,
}

/// Builds the images of definitions. What failed singly is in the report.
pub fn make(options: &MakeOptions, scratch: &Scratch, progress: &Progress) -> Result<(MakeReport, Done), Error> {
    let mut definitions: Vec<(&Path, Definition)> = Vec::new();
    for directory in &options.definitions {
        let template = Template::find(directory)?;
        if !template.variables().is_empty() {
            if options.definitions.len() > 1 {
                return Err(Error::NotAlone(directory.clone()));
            }
            return toolkit::make(options, directory, &template, scratch, progress);
        }
        let definition = template.fill(&BTreeMap::new())?;
        definitions.push((directory.as_path(), options.with_base(definition)));
    }
    let outputs = Outputs::new(options, definitions.len(), progress)?;
    let Workplace { mut place, beside, passing: _passing } = outputs.workplace(options.explain, scratch)?;
    let mut explained = Vec::new();
    let mut made = Vec::new();
    let (mut youngest, mut complete) = (0, true);
    for (number, (directory, definition)) in definitions.iter().enumerate() {
        let into = beside.path().join(number.to_string());
        let inputs = inputs(options, directory, definition, &into, progress)?;
        let plan = plan(definition, &inputs)?;
        let name = definition.name.clone();
        let found = FoundBase::find(definition, directory, options)?;
        if let (true, Some(_)) = (options.skip_existing, &place) {
            let base = found.as_ref().map(|base| layout::digest_of(&base.image)).transpose()?;
            let fingerprint = fingerprint(definition, &inputs, &plan, base.as_ref(), &options.layers, progress)?;
            if let Some(output) = outputs.hold(definition, &fingerprint)? {
                made.push(Made::Skipped(Skipped { name, output, fingerprint, skipped: true }));
                continue;
            }
        }
        let from = Layout::create(&beside.path().join(format!("base-{number}")))?;
        if let Some(base) = &found {
            base.fetch(&inputs.platforms, &from, options, progress)?;
        }
        let base = found.as_ref().map(|base| BaseImage::new(&from, &base.image));
        let Some(place) = &mut place else {
            let laid = base.map(|base| base.lay(&plan, &inputs.platforms, progress)).transpose()?;
            explained.push(explain(definition, &inputs, laid.as_ref().unwrap_or(&plan)));
            continue;
        };
        let (inputs, plan, base, layout) = (&inputs, &plan, base.as_ref(), place.layout());
        let assembly = Assembly { definition, inputs, plan, base, options: &options.layers, layout, progress };
        let (image, report) = assembly.write()?;
        youngest = youngest.max(report.created.as_second());
        let sbom = (!options.no_sbom).then(|| {
            let base = found.as_ref().map(|base| (base.reference.to_string(), base.image.digest().to_string()));
            sbom::document(&report, &Contents { name: &name, base, components: &inputs.components() })
        });
        let Given { output, sbom, left_out } = outputs.give(place, &image, definition, sbom.as_deref())?;
        for left_out in &left_out {
            complete = false;
            tracing::warn!("{name}: {left_out}");
        }
        made.push(Made::Built(Built { name, output, sbom, left_out, report }));
    }
    drop(beside);
    let Some(place) = place else { return Ok((MakeReport::Explained(explained), Done::All)) };
    place.finish(youngest)?;
    let done = Done::of(made.len(), complete);
    Ok((MakeReport::Images(made), done))
}

/// No definition was named: `kernels` and `packages` are the words of options that take all up to the next one.
pub fn no_definition(kernels: &[String], packages: &[String]) -> Error {
    let taken = [("--kernels", kernels), ("--packages", packages)];
    let taken = taken.into_iter().find_map(|(option, words)| Some((option, words.get(1..)?.last()?.clone())));
    Error::NoDefinition { taken }
}

/// Reads `PLATFORM=PATH`: the program for a platform.
pub fn binary(text: &str) -> Result<(Platform, PathBuf), String> {
    let (platform, path) = text.split_once('=').ok_or("expected PLATFORM=PATH, such as linux/arm64=./haversack")?;
    Ok((platform.parse().map_err(|error| format!("{error}"))?, path.into()))
}

impl MakeOptions {
    /// The definition over the base that was asked for.
    pub(crate) fn with_base(&self, definition: Definition) -> Definition {
        match &self.base {
            Some(base) => Definition { base: Base::Image(base.clone()), ..definition },
            None => definition,
        }
    }
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
