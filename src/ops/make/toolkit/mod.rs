//! An image for each kernel, from one definition with variables: `haversack build images/driver-toolkit`.
//!
//! A tag that is the same for all machines is the index's, one that is not is that machine's image alone. A kernel that fails
//! is named and the others go on.

mod compiler;
mod packages;
mod recipe;
mod report;
mod universes;
pub(crate) mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_spec::image::Descriptor;

use crate::causes;
use crate::fs;
use crate::image::build::definition::Base;
use crate::image::build::sbom::{self, Contents};
use crate::image::build::{Assembly, BaseImage, join, plan};
use crate::image::{Definition, Inputs, LayerCache, Layout, Place, Platform, Template};
use crate::kernel::classify::Role;
use crate::kernel::group::Kernel;
use crate::kernel::matrix::{self, Matrix, without_machine};
use crate::kernel::release::Machine;
use crate::kernel::source::SourceOptions;
use crate::ops::make::explain::{Explained, explain};
use crate::ops::make::inputs::{FoundBase, inputs};
use crate::ops::make::output::{Outputs, Workplace};
pub(crate) use crate::ops::make::toolkit::packages::kept;
use crate::ops::make::toolkit::packages::{OfKernel, Packages};
use crate::ops::make::toolkit::recipe::{RECIPE, Recipes};
pub use crate::ops::make::toolkit::report::{Status, Toolkit};
use crate::ops::make::toolkit::variables::{tag, values, without_rt};
use crate::ops::make::{MakeOptions, MakeReport};
use crate::ops::{Done, Error, Scratch, hints};
use crate::progress::Progress;
use crate::shard::Shard;

/// Images of kernels and of their packages.
#[derive(Clone, Debug)]
pub struct PackageOptions {
    /// Where kernels are.
    pub kernels: SourceOptions,
    /// Where all other packages are; `None`: where the kernels are.
    pub packages: Option<SourceOptions>,
    /// Only these releases, with or without the machine, or those that begin with one; all without a flavour, when empty.
    pub releases: Vec<String>,
    /// A file with the kernels that images are wanted for, as `kernel matrix` writes it.
    pub matrix: Option<PathBuf>,
    /// Maximum number of images that are built at one time.
    pub jobs: usize,
    /// Which share of the kernels.
    pub shard: Option<Shard>,
    /// Keeps fetched packages here for the next time.
    pub cache: Option<PathBuf>,
}

impl Default for PackageOptions {
    fn default() -> Self {
        PackageOptions {
            kernels: SourceOptions::default(),
            packages: None,
            releases: Vec::new(),
            matrix: None,
            jobs: 2,
            shard: None,
            cache: None,
        }
    }
}

/// One image that is wanted.
#[derive(Clone, Debug)]
struct Wanted {
    /// What `uname -r` prints without the machine.
    kernel: String,
    rhel: String,
    machines: BTreeSet<Machine>,
}

/// All that the images of one run have in common.
struct Workshop<'a> {
    options: &'a MakeOptions,
    directory: &'a Path,
    template: &'a Template,
    recipes: Recipes,
    packages: Packages<'a>,
    cache: LayerCache,
    scratch: PathBuf,
    bases: Mutex<BTreeMap<(String, Platform), BaseImage>>,
    progress: &'a Progress,
}

/// The image of one kernel, before it is put together.
struct Prepared {
    definition: Definition,
    inputs: Inputs,
    base: Option<BaseImage>,
    /// What is wrong with it.
    lacks: Vec<String>,
}

/// Builds the images of a definition with variables. Of one kernel, what is wrong is the error; of several, one that fails is in
/// the report and the others go on.
pub(crate) fn make(
    options: &MakeOptions,
    directory: &Path,
    template: &Template,
    scratch: &Scratch,
    progress: &Progress,
) -> Result<(MakeReport, Done), Error> {
    let outline = template.outline()?;
    let outputs = Outputs::new(options, 1, progress)?;
    let recipes = Recipes::new(options, directory, template, &outline)?;
    let PackageOptions { releases, matrix, shard, .. } = &options.packages;
    let keep_shard = |wanted: &mut Vec<Wanted>| {
        if let Some(shard) = shard {
            shard.keep(wanted);
        }
    };
    let mut done = Vec::new();
    let mut wanted = Vec::new();
    if let Some(path) = matrix {
        let matrix = Matrix::parse(&fs::read(path, MATRIX_LIMIT)?);
        let matrix = matrix.map_err(|error| Error::from(error).about(path.display()))?;
        let entries = matrix.entries.into_iter();
        wanted = entries.map(|it| Wanted { kernel: it.kernel, rhel: it.rhel, machines: it.machines }).collect();
        keep_shard(&mut wanted);
        // Before any source is read: most runs of a schedule have nothing to do.
        done = skip_existing(options, directory, template, &recipes, &outputs, &mut wanted)?;
        if wanted.is_empty() {
            return Ok((MakeReport::Toolkits(done), Done::All));
        }
    }
    let Workplace { place, beside, passing: _passing } = outputs.workplace(options.explain, scratch)?;
    let machines = machines(options, &outline, &wanted);
    let packages = Packages::read(options, &outline, &machines, beside.path(), progress)?;
    if matrix.is_none() {
        wanted = from_kernels(&packages.kernels, releases)?;
        if wanted.is_empty() {
            return Err(nothing(&packages.kernels));
        }
        keep_shard(&mut wanted);
        done = skip_existing(options, directory, template, &recipes, &outputs, &mut wanted)?;
    }
    if outputs.has_name() && wanted.len() > 1 {
        return Err(Error::SameName(wanted.len()));
    }
    let complete = packages.complete;
    let workshop = Workshop {
        options,
        directory,
        template,
        recipes,
        packages,
        cache: LayerCache::default(),
        scratch: beside.path().to_owned(),
        bases: Mutex::default(),
        progress,
    };
    let Some(mut place) = place else {
        let explained: Vec<Explained> = wanted.iter().map(|it| workshop.explain(it)).collect::<Result<_, _>>()?;
        return Ok((MakeReport::Explained(explained), Done::of(wanted.len(), complete)));
    };
    let built = match &wanted[..] {
        [only] if done.is_empty() => {
            workshop.build(only, &Mutex::new(&mut place), &outputs).map(|toolkit| vec![toolkit])
        }
        _ => Ok(build_all(&workshop, &wanted, &mut place, &outputs)),
    };
    // Before an error is one: a place with nothing in it goes away.
    drop((workshop, beside));
    done.extend(built?);
    done.sort_by(|a, b| matrix::compare(&a.kernel, &b.kernel));
    let created = done.iter().filter_map(|toolkit| Some(toolkit.report.as_ref()?.created.as_second())).max();
    place.finish(created.unwrap_or(0))?;
    // A share of few kernels may be none.
    if done.is_empty() && complete {
        return Ok((MakeReport::Toolkits(done), Done::All));
    }
    let there = done.iter().filter(|toolkit| toolkit.status != Status::Failed).count();
    let is_whole = complete && done.iter().all(|toolkit| toolkit.error.is_none());
    Ok((MakeReport::Toolkits(done), Done::of(there, is_whole)))
}

/// The machines whose packages are read.
fn machines(options: &MakeOptions, outline: &Definition, wanted: &[Wanted]) -> Vec<Machine> {
    let platforms = match (&options.platforms[..], &outline.platforms[..]) {
        ([], []) => vec![Platform::host()],
        ([], defined) => defined.to_vec(),
        (asked, _) => asked.to_vec(),
    };
    let machine = |platform: &Platform| {
        let Ok(machine) = platform.architecture.parse::<Machine>();
        machine
    };
    let all: BTreeSet<Machine> = match wanted.is_empty() {
        true => platforms.iter().map(machine).collect(),
        false => wanted.iter().flat_map(|it| it.machines.clone()).collect(),
    };
    all.into_iter().collect()
}

/// Why none of these is one to make an image for.
fn nothing(kernels: &[Kernel]) -> Error {
    let flavours: BTreeSet<&str> = kernels.iter().map(|kernel| &*kernel.release.flavour).collect();
    Error::OnlyFlavoured(Vec::from_iter(flavours).join(", "))
}

/// An image for each kernel that was asked for: all without a flavour, or those that are named.
fn from_kernels(kernels: &[Kernel], releases: &[String]) -> Result<Vec<Wanted>, Error> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut found = BTreeSet::new();
    for kernel in kernels {
        let release = &kernel.release;
        let name = without_machine(release);
        let named = releases.iter().find(|it| **it == release.uname || **it == name);
        let begins =
            |it: &&String| release.uname.strip_prefix(&***it).is_some_and(|rest| rest.starts_with(['.', '-', '+']));
        let begins = releases.iter().find(begins).filter(|_| release.flavour == "default");
        found.extend(named.or(begins));
        if named.or(begins).is_none() && !(releases.is_empty() && release.flavour == "default") {
            continue;
        }
        match wanted.iter_mut().find(|it| it.kernel == name) {
            Some(there) => drop(there.machines.insert(release.machine.clone())),
            None => {
                let machines = [release.machine.clone()].into();
                wanted.push(Wanted { rhel: matrix::rhel(&name), kernel: name, machines });
            }
        }
    }
    let missing: Vec<String> = releases.iter().filter(|release| !found.contains(release)).cloned().collect();
    if missing.is_empty() { Ok(wanted) } else { Err(Error::NoKernel { releases: missing }) }
}

fn build_all(workshop: &Workshop<'_>, wanted: &[Wanted], place: &mut Place, outputs: &Outputs<'_>) -> Vec<Toolkit> {
    let (next, place, done) = (AtomicUsize::new(0), Mutex::new(place), Mutex::new(Vec::new()));
    // What to do about many images is said with the first.
    let told = Mutex::new(BTreeSet::new());
    let worker = || {
        while let Some(wanted) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let toolkit = workshop.build(wanted, &place, outputs).unwrap_or_else(|error| {
                let failed = Toolkit::failed(wanted, &error);
                let hint = causes::of(&error).find_map(hints::hint);
                let is_new = |hint: &String| told.lock().expect("no holder panics").insert(hint.clone());
                let hint = hint.filter(is_new).map(|hint| format!("; {hint}")).unwrap_or_default();
                tracing::warn!("{}: {}{hint}", wanted.kernel, failed.error.as_deref().unwrap_or_default());
                failed
            });
            done.lock().expect("no holder panics").push(toolkit);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workshop.options.packages.jobs.min(wanted.len()) {
            scope.spawn(worker);
        }
    });
    done.into_inner().expect("no holder panics")
}

impl Workshop<'_> {
    fn build(&self, wanted: &Wanted, place: &Mutex<&mut Place>, outputs: &Outputs<'_>) -> Result<Toolkit, Error> {
        let (kernels, missing) = self.kernels(wanted)?;
        let layout = place.lock().expect("no holder panics").layout().clone();
        let mut images = Vec::new();
        let mut definitions = Vec::new();
        let mut components = Vec::new();
        let (mut bases, mut lacks) = (Vec::new(), Vec::new());
        // An image that lacks a machine is not what was wanted, and not there the next time.
        let machines = kernels.iter().map(|kernel| kernel.release.machine.clone()).collect();
        for kernel in kernels {
            let Prepared { definition, inputs, base, lacks: its } = self.prepare(wanted, kernel, &machines)?;
            lacks.extend(its);
            let plan = plan(&definition, &inputs)?;
            if let (Some(base), Base::Image(reference)) = (&base, &definition.base) {
                bases.push((reference.to_string(), base.image().digest().to_string()));
            }
            components.push(inputs.components());
            let options = &self.options.layers;
            let assembly = Assembly {
                definition: &definition,
                inputs: &inputs,
                plan: &plan,
                base: base.as_ref(),
                options,
                layout: &layout,
                progress: self.progress,
            };
            images.push(assembly.write()?);
            definitions.push(definition);
        }
        let (image, report) = join(&images, &layout)?;
        let common = |tag: &String| definitions.iter().all(|definition| definition.tags.contains(tag));
        let with_tags = |definition: &Definition, is_common: bool| {
            let tags = definition.tags.iter().filter(|tag| common(tag) == is_common).cloned().collect();
            Definition { tags, ..definition.clone() }
        };
        let all: BTreeSet<_> = components.iter().flatten().cloned().collect();
        let mut named = vec![(&image, &report, with_tags(&definitions[0], true), all.into_iter().collect())];
        if !outputs.has_name() {
            let own = images.iter().zip(&definitions).zip(components);
            named.extend(own.map(|(((image, report), it), made_of)| (image, report, with_tags(it, false), made_of)));
            // What has no tag of its own is found in the list of all machines.
            named.retain(|(_, _, definition, _)| !definition.tags.is_empty());
        }
        let mut output = Vec::new();
        for (image, report, definition, components) in &named {
            let contents = Contents { name: &definition.name, base: bases.first().cloned(), components };
            let sbom = (!self.options.no_sbom).then(|| sbom::document(report, &contents));
            let mut place = place.lock().expect("no holder panics");
            let given = outputs.name(&mut place, image, definition, sbom.as_deref())?;
            drop(place);
            output.extend(given.output);
            lacks.extend(given.left_out.iter().map(ToString::to_string));
            output.extend(outputs.push(&layout, image, definition)?);
        }
        let mut toolkit = Toolkit::new(wanted, &definitions[0].name, Status::Built, output);
        toolkit.report = Some(report);
        if !missing.is_empty() {
            let missing = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            lacks.push(format!("no source has it for {missing}; the image is without"));
        }
        lacks.dedup();
        if !lacks.is_empty() {
            let error = lacks.join("; ");
            tracing::warn!("{}: {error}", wanted.kernel);
            toolkit.error = Some(error);
        }
        Ok(toolkit)
    }

    fn explain(&self, wanted: &Wanted) -> Result<Explained, Error> {
        let kernel = self.kernels(wanted)?.0[0];
        let Prepared { definition, inputs, base, .. } = self.prepare(wanted, kernel, &wanted.machines)?;
        let mut plan = plan(&definition, &inputs)?;
        if let Some(base) = base {
            plan = base.lay(&plan, &inputs.platforms, self.progress)?;
        }
        Ok(explain(&definition, &inputs, &plan))
    }

    /// The kernels for an image, one for each machine, and the machines for which there is none.
    fn kernels(&self, wanted: &Wanted) -> Result<(Vec<&Kernel>, Vec<Machine>), Error> {
        let mut by_machine: BTreeMap<&Machine, &Kernel> = BTreeMap::new();
        // Sorted from the oldest build to the newest, so the newest stays.
        for kernel in &self.packages.kernels {
            let Kernel { release, .. } = kernel;
            if without_machine(release) == wanted.kernel && wanted.machines.contains(&release.machine) {
                by_machine.insert(&release.machine, kernel);
            }
        }
        if by_machine.is_empty() {
            return Err(Error::NoPackages);
        }
        for kernel in by_machine.values() {
            usable(kernel)?;
        }
        let missing = wanted.machines.iter().filter(|machine| !by_machine.contains_key(machine)).cloned().collect();
        Ok((by_machine.into_values().collect(), missing))
    }

    /// The definition for one kernel, and what goes into its image.
    fn prepare(&self, wanted: &Wanted, kernel: &Kernel, machines: &BTreeSet<Machine>) -> Result<Prepared, Error> {
        let outline = self.template.outline()?;
        let flavours: Vec<String> =
            outline.layers.iter().filter_map(|it| it.kernels.as_ref()).flat_map(|it| it.flavours.clone()).collect();
        let siblings: Vec<&Kernel> = flavours.iter().filter_map(|flavour| self.sibling(kernel, flavour)).collect();
        let mut values = values(&wanted.kernel, &wanted.rhel);
        let release = &kernel.release;
        values.insert("release", release.uname.clone());
        values.insert("release-tag", tag(&release.uname));
        values.insert("machine", release.machine.to_string());
        values.insert("distribution", release.distribution.clone());
        for sibling in &siblings {
            let name = if sibling.release.flavour == "rt" { "rt" } else { "64k" };
            values.insert(name, sibling.release.uname.clone());
        }
        let definition = self.options.with_base(self.template.fill(&values)?);
        let platform: Platform = matrix::platform(&release.machine).parse()?;
        let into = self.scratch.join("inputs");
        let mut inputs = inputs(self.options, self.directory, &definition, &into, self.progress)?;
        inputs.platforms = vec![platform];
        let OfKernel { parts, lacks } = self.packages.of_kernel(&definition, kernel, &siblings)?;
        inputs.parts = parts;
        inputs.cache = self.cache.clone();
        let base = self.base(&definition, &inputs.platforms[0])?;
        if let (Some(_), Base::Image(reference)) = (&base, &definition.base) {
            let name = reference.to_string();
            let name = name.strip_prefix("docker://").unwrap_or(&name).to_owned();
            inputs.annotations.insert(oci_spec::image::ANNOTATION_BASE_IMAGE_NAME.to_owned(), name);
        }
        let recipe = self.recipes.of(&wanted.kernel, &wanted.rhel, machines, base.as_ref().map(BaseImage::image))?;
        inputs.annotations.insert(RECIPE.to_owned(), recipe.to_string());
        Ok(Prepared { definition, inputs, base, lacks })
    }

    /// Another flavour of the same kernel: the same version but for what the flavour adds to it.
    fn sibling(&self, kernel: &Kernel, flavour: &str) -> Option<&Kernel> {
        let own = &kernel.release;
        let is_sibling = |other: &&Kernel| {
            let Kernel { release, .. } = other;
            release.flavour == flavour
                && (&release.distribution, &release.machine) == (&own.distribution, &own.machine)
                && without_rt(&release.build) == own.build
        };
        (own.flavour == "default").then(|| self.packages.kernels.iter().rev().find(is_sibling)).flatten()
    }

    /// The base with its layers for one platform, fetched once.
    fn base(&self, definition: &Definition, platform: &Platform) -> Result<Option<BaseImage>, Error> {
        let Base::Image(reference) = &definition.base else { return Ok(None) };
        let key = (reference.to_string(), platform.clone());
        let mut bases = self.bases.lock().expect("no holder panics");
        if let Some(base) = bases.get(&key) {
            return Ok(Some(base.clone()));
        }
        let found = FoundBase::find(definition, self.directory, self.options)?;
        let Some(found) = found else { return Ok(None) };
        let layout = Layout::create(&self.scratch.join(format!("base-{}", bases.len())))?;
        found.fetch(std::slice::from_ref(platform), &layout, self.options, self.progress)?;
        let base = BaseImage::new(&layout, &found.image);
        bases.insert(key, base.clone());
        Ok(Some(base))
    }
}

/// Takes out what all outputs hold already, made by the same recipe.
fn skip_existing(
    options: &MakeOptions,
    directory: &Path,
    template: &Template,
    recipes: &Recipes,
    outputs: &Outputs<'_>,
    wanted: &mut Vec<Wanted>,
) -> Result<Vec<Toolkit>, Error> {
    if !options.skip_existing || wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut bases: BTreeMap<String, Option<Descriptor>> = BTreeMap::new();
    let mut asked = Vec::new();
    let mut name = String::new();
    for wanted in wanted.iter() {
        // Tags in which the machine plays no part are the index's.
        let fill = |machine: &str| {
            let mut values = values(&wanted.kernel, &wanted.rhel);
            values.extend(["release", "release-tag", "machine"].map(|name| (name, machine.to_owned())));
            template.fill(&values)
        };
        let definition = options.with_base(fill("a")?);
        let other = fill("b")?;
        let tags: Vec<String> = definition.tags.iter().filter(|tag| other.tags.contains(tag)).cloned().collect();
        let key = format!("{:?}", definition.base);
        if !bases.contains_key(&key) {
            let base = FoundBase::find(&definition, directory, options)?;
            bases.insert(key.clone(), base.map(|base| base.image));
        }
        let recipe = recipes.of(&wanted.kernel, &wanted.rhel, &wanted.machines, bases[&key].as_ref())?;
        name.clone_from(&definition.name);
        asked.push((Definition { tags, ..definition }, recipe));
    }
    let there = outputs.hold_all(&asked, RECIPE)?;
    let mut done = Vec::new();
    let mut at = 0;
    wanted.retain(|wanted| {
        at += 1;
        let Some(output) = there[at - 1].clone() else { return true };
        done.push(Toolkit::new(wanted, &name, Status::Present, output));
        false
    });
    Ok(done)
}

/// Whether modules can be built with what there is of a kernel.
fn usable(kernel: &Kernel) -> Result<(), Error> {
    let release = kernel.release.uname.clone();
    if !kernel.packages.iter().any(|(role, _)| matches!(role, Role::Devel | Role::Headers)) {
        return Err(Error::NoHeaders { release });
    }
    if !kernel.missing.is_empty() {
        return Err(Error::HeadersIncomplete { release, missing: kernel.missing.join(", ") });
    }
    Ok(())
}

const MATRIX_LIMIT: u64 = 64 << 20;
