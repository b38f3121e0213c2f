//! `haversack build images/driver-toolkit`: an image for each kernel, from one definition with variables.
//!
//! A tag that is the same for all machines is the index's, one that is not is that machine's image alone. A kernel that fails
//! is named and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci_spec::image::Descriptor;
use serde::Serialize;

use super::explain::{Explained, explain};
use super::inputs::{FoundBase, inputs};
use super::output::{Outputs, Workplace};
use super::packages::{Packages, shard};
use super::recipe::{RECIPE, Recipes};
use super::variables::{tag, values, without_rt};
use super::{BuildArgs, hint_binary};
use crate::cli::Context;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::stop::Scratch;
use crate::fs;
use crate::image::build::assemble::BuildReport;
use crate::image::build::definition::Base;
use crate::image::build::packages::join;
use crate::image::build::sbom::{self, Contents};
use crate::image::build::{assemble, plan};
use crate::image::{Definition, Inputs, LayerCache, LayerOptions, Layout, Place, Platform, Template};
use crate::kernel::classify::Role;
use crate::kernel::group::Kernel;
use crate::kernel::matrix::{self, Matrix, without_machine};
use crate::kernel::release::{Machine, compare_versions};
use crate::reference::ImageRef;

/// One image that is wanted.
#[derive(Clone, Debug)]
struct Wanted {
    /// What `uname -r` prints without the machine.
    kernel: String,
    rhel: String,
    machines: BTreeSet<Machine>,
}

/// What became of it.
#[derive(Serialize)]
struct Toolkit {
    name: String,
    kernel: String,
    machines: BTreeSet<Machine>,
    status: Status,
    output: Vec<ImageRef>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    report: Option<BuildReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Built,
    Present,
    Failed,
}

/// All that the images of one run have in common.
struct Workshop<'a> {
    args: &'a BuildArgs,
    directory: &'a Path,
    template: &'a Template,
    options: LayerOptions,
    recipes: Recipes,
    packages: Packages<'a>,
    cache: LayerCache,
    scratch: PathBuf,
    bases: Mutex<BTreeMap<(String, Platform), (Layout, Descriptor)>>,
    context: &'a Context,
}

/// The image of one kernel, before it is put together.
struct Prepared {
    definition: Definition,
    inputs: Inputs,
    base: Option<(Layout, Descriptor)>,
}

pub(super) fn run(
    args: &BuildArgs,
    directory: &Path,
    template: &Template,
    scratch: &Scratch,
    context: &Context,
) -> Outcome {
    let outline = template.outline()?;
    let outputs = Outputs::new(args, 1, context)?;
    let recipes = Recipes::new(args, directory, template, &outline, context)?;
    let mut done = Vec::new();
    let mut wanted = Vec::new();
    let shard = args.packages.shard.as_deref();
    let shard = shard.map(|text| shard_of(text, context)).transpose()?;
    if let Some(path) = &args.packages.matrix {
        let matrix = Matrix::parse(&fs::read(path, MATRIX_LIMIT)?);
        let matrix = matrix.map_err(|error| Failure::from(error).about(path.display()))?;
        let entries = matrix.entries.into_iter();
        wanted = entries.map(|it| Wanted { kernel: it.kernel, rhel: it.rhel, machines: it.machines }).collect();
        keep_shard(&mut wanted, shard);
        // Before any source is read: most runs of a schedule have nothing to do.
        done = skip_existing(args, directory, template, &recipes, &outputs, &mut wanted, context)?;
        if wanted.is_empty() {
            return report(&done, Exit::Done, context);
        }
    }
    let Workplace { beside, place, passing: _passing } = outputs.workplace(args.explain, scratch)?;
    let machines = machines(args, &outline, &wanted);
    let packages = Packages::read(args, &outline, &machines, beside.path(), context)?;
    if args.packages.matrix.is_none() {
        wanted = from_kernels(&packages.kernels, &args.packages.release)?;
        if wanted.is_empty() {
            return Err(nothing(&packages.kernels));
        }
        keep_shard(&mut wanted, shard);
        done = skip_existing(args, directory, template, &recipes, &outputs, &mut wanted, context)?;
    }
    if outputs.has_name() && wanted.len() > 1 {
        return Err(Failure::usage(format!("{} images cannot have one name", wanted.len()))
            .hint("leave the name out of `--output` and `--push`, or choose one kernel with `--release`"));
    }
    let source_exit = packages.exit;
    let workshop = Workshop {
        args,
        directory,
        template,
        options: args.layer_options()?,
        recipes,
        packages,
        cache: LayerCache::default(),
        scratch: beside.path().to_owned(),
        bases: Mutex::default(),
        context,
    };
    let Some(mut place) = place else {
        let explained: Vec<Explained> = wanted.iter().map(|it| workshop.explain(it)).collect::<Result<_, _>>()?;
        context.ui.result(&explained, |explained| explained.iter().map(Explained::to_text).collect())?;
        return Ok(source_exit);
    };
    done.extend(build_all(&workshop, &wanted, &mut place, &outputs));
    done.sort_by(|a, b| compare_versions(&a.kernel, &b.kernel));
    let created = done.iter().filter_map(|toolkit| Some(toolkit.report.as_ref()?.created.as_second())).max();
    drop((workshop, beside));
    place.finish(created.unwrap_or(0))?;
    report(&done, source_exit, context)
}

fn shard_of(text: &str, context: &Context) -> Result<(usize, usize), Failure> {
    shard(text, context.config.variable("JOB_COMPLETION_INDEX"))
}

fn keep_shard(wanted: &mut Vec<Wanted>, shard: Option<(usize, usize)>) {
    let Some((which, of)) = shard else { return };
    let mut at = 0;
    wanted.retain(|_| {
        at += 1;
        at % of == which
    });
}

/// The machines whose packages are read.
fn machines(args: &BuildArgs, outline: &Definition, wanted: &[Wanted]) -> Vec<Machine> {
    let platforms = match (&args.platform[..], &outline.platforms[..]) {
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

/// Why there is no kernel to make an image for.
fn nothing(kernels: &[Kernel]) -> Failure {
    let flavours: BTreeSet<&str> = kernels.iter().map(|kernel| &*kernel.release.flavour).collect();
    if flavours.is_empty() {
        return Failure::new("the sources have no kernels")
            .hint("`haversack kernel list SOURCE…` shows what a source has");
    }
    let flavours = Vec::from_iter(flavours).join(", ");
    Failure::new(format!("all kernels of the sources have a flavour ({flavours}), and such are taken only by name"))
        .hint("name them with `--release UNAME`, or in a `--matrix`")
}

/// An image for each kernel that was asked for: all without a flavour, or those that are named.
fn from_kernels(kernels: &[Kernel], releases: &[String]) -> Result<Vec<Wanted>, Failure> {
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
    match releases.iter().find(|release| !found.contains(release)) {
        Some(release) => Err(Failure::new(format!("{release}: no source has this kernel"))
            .hint("`haversack kernel list SOURCE…` shows which there are")),
        None => Ok(wanted),
    }
}

fn build_all(workshop: &Workshop<'_>, wanted: &[Wanted], place: &mut Place, outputs: &Outputs<'_>) -> Vec<Toolkit> {
    let (next, place, done) = (AtomicUsize::new(0), Mutex::new(place), Mutex::new(Vec::new()));
    let worker = || {
        while let Some(wanted) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let toolkit = workshop.build(wanted, &place, outputs).unwrap_or_else(|failure| {
                workshop.context.ui.warn(format_args!("{}: {failure}", wanted.kernel));
                Toolkit::failed(wanted, &failure)
            });
            done.lock().expect("no holder panics").push(toolkit);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..usize::from(workshop.args.packages.jobs).min(wanted.len()) {
            scope.spawn(worker);
        }
    });
    done.into_inner().expect("no holder panics")
}

fn report(done: &[Toolkit], exit: Exit, context: &Context) -> Outcome {
    context.ui.result(&done, |done| done.iter().map(Toolkit::to_text).collect())?;
    let failed = done.iter().any(|toolkit| toolkit.error.is_some());
    Ok(if failed { Exit::Partial } else { exit })
}

impl Workshop<'_> {
    fn build(&self, wanted: &Wanted, place: &Mutex<&mut Place>, outputs: &Outputs<'_>) -> Result<Toolkit, Failure> {
        let (kernels, missing) = self.kernels(wanted)?;
        let layout = place.lock().expect("no holder panics").layout().clone();
        let mut images = Vec::new();
        let mut definitions = Vec::new();
        let mut components = Vec::new();
        let mut bases = Vec::new();
        // An image that lacks a machine is not what was wanted, and not there the next time.
        let machines = kernels.iter().map(|kernel| kernel.release.machine.clone()).collect();
        for kernel in kernels {
            let Prepared { definition, inputs, base } = self.prepare(wanted, kernel, &machines)?;
            let plan = plan(&definition, &inputs).map_err(hint_binary)?;
            let base = base.as_ref().map(|(layout, image)| (layout, image));
            if let (Some((_, image)), Base::Image(reference)) = (base, &definition.base) {
                bases.push((reference.to_string(), image.digest().to_string()));
            }
            components.push(inputs.components());
            let progress = self.context.ui.progress();
            images.push(assemble(&definition, &inputs, &plan, base, &self.options, &layout, progress)?);
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
            let sbom = (!self.args.no_sbom).then(|| sbom::document(report, &contents));
            let mut place = place.lock().expect("no holder panics");
            output.extend(outputs.name(&mut place, image, definition, sbom.as_deref())?.0);
            drop(place);
            output.extend(outputs.push(&layout, image, definition)?);
        }
        let mut toolkit = Toolkit::new(wanted, &definitions[0].name, Status::Built, output);
        toolkit.report = Some(report);
        if !missing.is_empty() {
            let missing = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let error = format!("no source has it for {missing}; the image is without");
            self.context.ui.warn(format_args!("{}: {error}", wanted.kernel));
            toolkit.error = Some(error);
        }
        Ok(toolkit)
    }

    fn explain(&self, wanted: &Wanted) -> Result<Explained, Failure> {
        let kernel = self.kernels(wanted)?.0[0];
        let Prepared { definition, inputs, .. } = self.prepare(wanted, kernel, &wanted.machines)?;
        let plan = plan(&definition, &inputs).map_err(hint_binary)?;
        Ok(explain(&definition, &inputs, &plan))
    }

    /// The kernels for an image, one for each machine, and the machines for which there is none.
    fn kernels(&self, wanted: &Wanted) -> Result<(Vec<&Kernel>, Vec<Machine>), Failure> {
        let mut by_machine: BTreeMap<&Machine, &Kernel> = BTreeMap::new();
        // Sorted from the oldest build to the newest, so the newest stays.
        for kernel in &self.packages.kernels {
            let Kernel { release, .. } = kernel;
            if without_machine(release) == wanted.kernel && wanted.machines.contains(&release.machine) {
                by_machine.insert(&release.machine, kernel);
            }
        }
        if by_machine.is_empty() {
            return Err(Failure::new("no source has packages of this kernel"));
        }
        for kernel in by_machine.values() {
            usable(kernel)?;
        }
        let missing = wanted.machines.iter().filter(|machine| !by_machine.contains_key(machine)).cloned().collect();
        Ok((by_machine.into_values().collect(), missing))
    }

    /// The definition for one kernel, and what goes into its image.
    fn prepare(&self, wanted: &Wanted, kernel: &Kernel, machines: &BTreeSet<Machine>) -> Result<Prepared, Failure> {
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
        let definition = with_base(self.template.fill(&values)?, self.args)?;
        let platform: Platform = matrix::platform(&release.machine).parse()?;
        let into = self.scratch.join("inputs");
        let mut inputs = inputs(self.args, self.directory, &definition, &into, self.context)?;
        inputs.platforms = vec![platform];
        inputs.parts = self.packages.of_kernel(&definition, kernel, &siblings)?;
        inputs.cache = self.cache.clone();
        let base = self.base(&definition, &inputs.platforms[0])?;
        if let (Some(_), Base::Image(reference)) = (&base, &definition.base) {
            let name = reference.to_string();
            let name = name.strip_prefix("docker://").unwrap_or(&name).to_owned();
            inputs.annotations.insert(oci_spec::image::ANNOTATION_BASE_IMAGE_NAME.to_owned(), name);
        }
        let recipe = self.recipes.of(&wanted.kernel, &wanted.rhel, machines, base.as_ref().map(|(_, image)| image))?;
        inputs.annotations.insert(RECIPE.to_owned(), recipe.to_string());
        Ok(Prepared { definition, inputs, base })
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
    fn base(&self, definition: &Definition, platform: &Platform) -> Result<Option<(Layout, Descriptor)>, Failure> {
        let Base::Image(reference) = &definition.base else { return Ok(None) };
        let key = (reference.to_string(), platform.clone());
        let mut bases = self.bases.lock().expect("no holder panics");
        if let Some(base) = bases.get(&key) {
            return Ok(Some(base.clone()));
        }
        let found = FoundBase::find(definition, self.directory, self.args, self.context)?;
        let Some(found) = found else { return Ok(None) };
        let layout = Layout::create(&self.scratch.join(format!("base-{}", bases.len())))?;
        found.fetch(std::slice::from_ref(platform), &layout, self.args, self.context)?;
        bases.insert(key, (layout.clone(), found.image.clone()));
        Ok(Some((layout, found.image)))
    }
}

/// Takes out what all outputs hold already, made by the same recipe.
fn skip_existing(
    args: &BuildArgs,
    directory: &Path,
    template: &Template,
    recipes: &Recipes,
    outputs: &Outputs<'_>,
    wanted: &mut Vec<Wanted>,
    context: &Context,
) -> Result<Vec<Toolkit>, Failure> {
    if !args.skip_existing || wanted.is_empty() {
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
        let definition = with_base(fill("a")?, args)?;
        let other = fill("b")?;
        let tags: Vec<String> = definition.tags.iter().filter(|tag| other.tags.contains(tag)).cloned().collect();
        let key = format!("{:?}", definition.base);
        if !bases.contains_key(&key) {
            let base = FoundBase::find(&definition, directory, args, context)?;
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

fn with_base(definition: Definition, args: &BuildArgs) -> Result<Definition, Failure> {
    let Some(base) = &args.base else { return Ok(definition) };
    let base = Base::Image(base.below(&std::path::absolute(".")?));
    Ok(Definition { base, ..definition })
}

/// Whether modules can be built with what there is of a kernel.
fn usable(kernel: &Kernel) -> Result<(), Failure> {
    let uname = &kernel.release.uname;
    if !kernel.packages.iter().any(|(role, _)| matches!(role, Role::Devel | Role::Headers)) {
        return Err(Failure::new(format!("{uname}: its headers (kernel-devel, linux-headers) are in no source"))
            .hint("add a repository that has them; on EL 9 and later kernel-devel is in AppStream"));
    }
    if !kernel.missing.is_empty() {
        return Err(Failure::new(format!(
            "{uname}: its headers need {}, which no source has",
            kernel.missing.join(", ")
        )));
    }
    Ok(())
}

impl Toolkit {
    fn new(wanted: &Wanted, name: &str, status: Status, output: Vec<ImageRef>) -> Self {
        let Wanted { kernel, machines, .. } = wanted.clone();
        Toolkit { name: name.to_owned(), kernel, machines, status, output, report: None, error: None }
    }

    fn failed(wanted: &Wanted, failure: &Failure) -> Self {
        let error = Some(failure.to_string());
        Toolkit { error, ..Toolkit::new(wanted, "", Status::Failed, Vec::new()) }
    }

    fn to_text(&self) -> String {
        let digest = self.report.as_ref().map(|report| format!("  {}", report.digest)).unwrap_or_default();
        let status = match self.status {
            Status::Built => "built",
            Status::Present => "present",
            Status::Failed => "failed",
        };
        let output: String = self.output.iter().map(|output| format!("    {output}\n")).collect();
        format!("{status:8} {}{digest}\n{output}", self.kernel)
    }
}

const MATRIX_LIMIT: u64 = 64 << 20;
