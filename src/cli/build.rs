//! `haversack build`: from definitions to images.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::Descriptor;
use serde::Serialize;

use super::copy::{RegistryArgs, open_source, repository};
use super::outcome::{Exit, Failure, Outcome};
use super::{Context, block_on};
use crate::catalog::Snapshot;
use crate::catalog::tree::{self, DumpOptions};
use crate::compression::Compression;
use crate::fs;
use crate::image::assemble::BuildReport;
use crate::image::definition::Base;
use crate::image::plan::{CatalogInput, Plan};
use crate::image::tree::{Kind, Node};
use crate::image::{Definition, Inputs, LayerOptions, Layout, Platform, Store, archive, assemble, plan};
use crate::progress::{Unit, amount};
use crate::reference::{ImageRef, Remote, Target as RemoteTarget};
use crate::registry::{CopyOptions, Source, Target, copy};

/// Build images from definitions
#[derive(clap::Args)]
pub(super) struct BuildArgs {
    /// Directories with an image.toml, such as images/catalog
    #[arg(required = true, value_name = "DEFINITION")]
    definitions: Vec<PathBuf>,
    /// Where to: oci:DIR[:NAME] or oci-archive:FILE[:NAME]; without a NAME the definition's name and tags
    #[arg(short, long, value_name = "TRANSPORT", required_unless_present_any = ["explain", "push"])]
    output: Option<ImageRef>,
    /// Send the image to a registry, too: docker://HOST/REPOSITORY[:TAG]; without a TAG the definition's tags
    #[arg(long, value_name = "REF")]
    push: Option<ImageRef>,
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

/// What is known of the catalog that goes into an image.
pub(super) struct CatalogFacts {
    /// When the snapshot was taken.
    pub(super) taken: jiff::Timestamp,
    /// Digest of what it says.
    pub(super) digest: String,
    /// How many of what.
    pub(super) counts: BTreeMap<String, u64>,
}

/// One image that was built.
#[derive(Serialize)]
struct Built {
    name: String,
    output: Vec<ImageRef>,
    #[serde(flatten)]
    report: BuildReport,
}

/// One image that would be built.
#[derive(Serialize)]
struct Explained {
    name: String,
    platforms: Vec<Platform>,
    layers: Vec<ExplainedLayer>,
}

#[derive(Serialize)]
struct ExplainedLayer {
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    bytes: u64,
    entries: Vec<ExplainedEntry>,
}

#[derive(Serialize)]
struct ExplainedEntry {
    path: PathBuf,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    uid: u64,
    gid: u64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<PathBuf>,
}

pub(super) fn run(args: &BuildArgs, context: &Context) -> Outcome {
    let definitions: Vec<(&Path, Definition)> = args
        .definitions
        .iter()
        .map(|directory| Ok((directory.as_path(), Definition::read(directory)?)))
        .collect::<Result<_, Failure>>()?;
    let named = args.output.as_ref().is_some_and(|output| output_name(output).is_some());
    if named && definitions.len() > 1 {
        return Err(Failure::usage("several images cannot have one name").hint("leave the name out of `--output`"));
    }
    let options = LayerOptions { compression: args.compression.into(), level: args.level };
    // What is only pushed is built in a layout that goes away.
    let passing = tempfile::tempdir()?;
    let output = match (&args.output, &args.push) {
        (None, Some(_)) => Some(ImageRef::Oci { path: passing.path().join("layout"), name: None }),
        (output, _) => output.clone(),
    };
    let pushed = args.push.as_ref().map(push_target).transpose()?;
    if definitions.len() > 1 && pushed.is_some() {
        return Err(Failure::usage("several images cannot be pushed to one repository").hint("build them one by one"));
    }
    let mut work = match &output {
        Some(output) if !args.explain => Some(Work::start(output)?),
        _ => None,
    };
    // What is prepared for an image may be large: it lies where the image will.
    let scratch = match &work {
        Some(work) => tempfile::Builder::new().prefix(".haversack-build.").tempdir_in(work.layout.root())?,
        None => tempfile::tempdir()?,
    };
    let mut explained = Vec::new();
    let mut built = Vec::new();
    for (number, (directory, definition)) in definitions.iter().enumerate() {
        let into = scratch.path().join(number.to_string());
        let inputs = inputs(args, directory, definition, &into, context)?;
        let plan = plan(definition, &inputs).map_err(hint_binary)?;
        let Some(work) = &mut work else {
            explained.push(explain(definition, &inputs, &plan));
            continue;
        };
        let base = match &definition.base {
            Base::Scratch => None,
            Base::Image(reference) => {
                let from = Layout::create(&scratch.path().join(format!("base-{number}")))?;
                let image = copy_base(reference, directory, &from, args, context)?;
                Some((from, image))
            }
        };
        let base = base.as_ref().map(|(from, image)| (from, image));
        let progress = context.ui.progress();
        let (image, report) = assemble(definition, &inputs, &plan, base, &options, &work.layout, progress)?;
        let mut output = work.name(&image, definition, report.created.as_second())?;
        if let Some(remote) = &pushed {
            let sent = push(remote, &image, definition, &work.layout, args, context)?;
            if args.output.is_none() {
                output.clear();
            }
            output.extend(sent);
        }
        built.push(Built { name: definition.name.clone(), output, report });
    }
    match work {
        Some(work) => {
            work.finish()?;
            context.ui.result(&built, |built| built.iter().map(Built::to_text).collect())?;
        }
        None => context.ui.result(&explained, |explained| explained.iter().map(Explained::to_text).collect())?,
    }
    Ok(Exit::Done)
}

/// Writes the tree for certsuite (as `data`) and a copy of the snapshot (as `catalog.db`) into the directory `into`.
fn catalog_inputs(db: &Path, into: &Path) -> Result<CatalogFacts, Failure> {
    let snapshot = Snapshot::open(db)?;
    let info = snapshot.info()?;
    let data = into.join("data");
    fs::create_dir_all(&data)?;
    tree::write_data(&snapshot, &data, &DumpOptions::default())?;
    snapshot.copy_to(&into.join("catalog.db"))?;
    let counts = info.kinds.iter().map(|(kind, about)| (kind.plural().to_owned(), about.rows)).collect();
    Ok(CatalogFacts { taken: info.taken.into(), digest: info.digest, counts })
}

fn inputs(
    args: &BuildArgs,
    directory: &Path,
    definition: &Definition,
    into: &Path,
    context: &Context,
) -> Result<Inputs, Failure> {
    let mut inputs = Inputs {
        directory: directory.to_owned(),
        platforms: match (&args.platform[..], &definition.platforms[..]) {
            ([], []) => vec![Platform::host()],
            ([], defined) => defined.to_vec(),
            (asked, _) => asked.to_vec(),
        },
        binaries: args.binary.iter().cloned().collect(),
        epoch: context.config.source_date_epoch()?,
        ..Inputs::default()
    };
    inputs.platforms.sort();
    inputs.platforms.dedup();
    if let std::collections::btree_map::Entry::Vacant(own) = inputs.binaries.entry(Platform::host()) {
        own.insert(plan::running_program()?);
    }
    if definition.layers.iter().any(|layer| layer.catalog.is_some()) {
        let Some(db) = &args.catalog else {
            let name = &definition.name;
            return Err(Failure::usage(format!("{name}: the image holds the certified catalog, and none was given"))
                .hint("give a snapshot with `--catalog FILE`; `haversack catalog snapshot` takes one"));
        };
        fs::create_dir_all(into)?;
        let facts = catalog_inputs(db, into)?;
        inputs.catalog =
            Some(CatalogInput { tree: into.join("data"), db: into.join("catalog.db"), taken: facts.taken.as_second() });
        let mut note =
            |key: &str, value: String| inputs.annotations.insert(format!("io.haversack.catalog.{key}"), value);
        note("taken", facts.taken.to_string());
        note("digest", facts.digest);
        for (kind, count) in facts.counts {
            note(&format!("count.{kind}"), count.to_string());
        }
    }
    Ok(inputs)
}

/// Copies a base into a layout. Paths are relative to the definition, as its files are.
fn copy_base(
    reference: &ImageRef,
    directory: &Path,
    layout: &Layout,
    args: &BuildArgs,
    context: &Context,
) -> Result<Descriptor, Failure> {
    let reference = match reference.clone() {
        ImageRef::Oci { path, name } => ImageRef::Oci { path: directory.join(path), name },
        ImageRef::OciArchive { path, name } => ImageRef::OciArchive { path: directory.join(path), name },
        other => other,
    };
    block_on(async {
        let auth = args.registries.auth(context);
        let (source, image) = open_source(&reference, args.registries.src_tls_verify, &auth, context).await?;
        let options = CopyOptions { referrers: false, retry: context.http.retry, ..CopyOptions::default() };
        copy(&source, &image, &Target::Layout(layout.clone()), None, &options, context.ui.progress()).await?;
        Ok(image)
    })
}

fn push_target(reference: &ImageRef) -> Result<Remote, Failure> {
    match reference {
        ImageRef::Docker(remote) if !matches!(remote.target, RemoteTarget::Digest(_)) => Ok(remote.clone()),
        other => Err(Failure::usage(format!("{other}: images are pushed to docker://HOST/REPOSITORY[:TAG]"))),
    }
}

/// Sends an image to a registry under the tag that was named, or all of the definition's; returns where it is then.
fn push(
    remote: &Remote,
    image: &Descriptor,
    definition: &Definition,
    layout: &Layout,
    args: &BuildArgs,
    context: &Context,
) -> Result<Vec<ImageRef>, Failure> {
    let tags = match &remote.target {
        RemoteTarget::Tag(tag) => vec![tag.clone()],
        _ => definition.tags.clone(),
    };
    block_on(async {
        let auth = args.registries.auth(context);
        let repository = repository(remote, args.registries.dest_tls_verify, true, &auth, context).await?;
        let source = Source::Store(Arc::new(Store::Layout(layout.clone())));
        let options = CopyOptions { referrers: false, retry: context.http.retry, ..CopyOptions::default() };
        let mut pushed = Vec::new();
        for tag in tags {
            let target = Target::Repository(repository.clone());
            copy(&source, image, &target, Some(&tag), &options, context.ui.progress()).await?;
            pushed.push(ImageRef::Docker(remote.with(RemoteTarget::Tag(tag))));
        }
        Ok(pushed)
    })
}

/// Where images are built, and what happens at the end.
struct Work {
    layout: Layout,
    output: ImageRef,
    /// The images by name, and the youngest image's time.
    images: Vec<Descriptor>,
    created: i64,
    /// An archive is built in a layout beside it, which goes away.
    temporary: Option<tempfile::TempDir>,
}

impl Work {
    fn start(output: &ImageRef) -> Result<Self, Failure> {
        let (layout, temporary) = match output {
            ImageRef::Oci { path, .. } => (Layout::create(path)?, None),
            ImageRef::OciArchive { path, .. } => {
                let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let temporary = tempfile::Builder::new().prefix(".haversack-build.").tempdir_in(beside)?;
                (Layout::create(&temporary.path().join("layout"))?, Some(temporary))
            }
            other => {
                return Err(Failure::usage(format!("{other}: images are built into oci: or oci-archive:"))
                    .hint("build into oci:DIR and `haversack copy` from there"));
            }
        };
        Ok(Work { layout, output: output.clone(), images: Vec::new(), created: 0, temporary })
    }

    /// Gives the image its names; returns where it can be found under them.
    fn name(&mut self, image: &Descriptor, definition: &Definition, created: i64) -> Result<Vec<ImageRef>, Failure> {
        let names = match output_name(&self.output) {
            Some(name) => vec![name.to_owned()],
            None => definition.tags.iter().map(|tag| format!("{}:{tag}", definition.name)).collect(),
        };
        self.created = self.created.max(created);
        for name in &names {
            self.layout.tag(image, Some(name))?;
            self.images.push(self.layout.find(Some(name))?);
        }
        Ok(names.into_iter().map(|name| with_name(&self.output, name)).collect())
    }

    fn finish(self) -> Result<(), Failure> {
        if let ImageRef::OciArchive { path, .. } = &self.output {
            archive::write(&self.layout, &self.images, path, self.created)?;
        }
        drop(self.temporary);
        Ok(())
    }
}

impl Built {
    fn to_text(&self) -> String {
        let mut text = String::new();
        for output in &self.output {
            let _ = writeln!(text, "{output}");
        }
        let _ = writeln!(text, "  digest   {}", self.report.digest);
        let _ = writeln!(text, "  created  {}", self.report.created);
        for image in &self.report.images {
            let bytes = image.layers.iter().map(|layer| layer.size).sum();
            let (layers, size) = (image.layers.len(), amount(bytes, Unit::Bytes));
            let _ = writeln!(text, "  {:<8} {}, {layers} layers, {size}", image.platform.to_string(), image.manifest);
        }
        text
    }
}

impl Explained {
    fn to_text(&self) -> String {
        let platforms: Vec<String> = self.platforms.iter().map(Platform::to_string).collect();
        let mut text = format!("{} for {}\n", self.name, platforms.join(", "));
        for (number, layer) in self.layers.iter().enumerate() {
            let name = layer.name.as_deref().unwrap_or("layer");
            let only = layer.platform.as_ref().map(|platform| format!(" ({platform})")).unwrap_or_default();
            let _ = writeln!(text, "  {} {name}{only}: {}", number + 1, amount(layer.bytes, Unit::Bytes));
            for entry in &layer.entries {
                let target = entry.target.as_ref().map(|to| format!(" -> {}", to.display())).unwrap_or_default();
                let ExplainedEntry { kind, mode, uid, gid, size, path, .. } = entry;
                let _ = writeln!(text, "    {kind:9} {mode:>4} {uid}:{gid} {size:>10} {}{target}", path.display());
            }
        }
        text
    }
}

fn explain(definition: &Definition, inputs: &Inputs, plan: &Plan) -> Explained {
    let layers = plan.layers().iter().flat_map(|layer| {
        layer.trees.iter().map(|(platform, tree)| ExplainedLayer {
            name: layer.name.clone(),
            platform: platform.clone(),
            bytes: tree.nodes().map(|(_, node)| node.size()).sum(),
            entries: tree.nodes().map(|(path, node)| ExplainedEntry::new(path, node)).collect(),
        })
    });
    Explained { name: definition.name.clone(), platforms: inputs.platforms.clone(), layers: layers.collect() }
}

impl ExplainedEntry {
    fn new(path: &Path, node: &Node) -> Self {
        let (kind, target) = match &node.kind {
            Kind::Directory => ("directory", None),
            Kind::Bytes(_) | Kind::File { .. } => ("file", None),
            Kind::Symlink(target) => ("link", Some(target.clone())),
            Kind::HardLink(target) => ("hardlink", Some(Path::new("/").join(target))),
            Kind::Whiteout => ("removed", None),
        };
        ExplainedEntry {
            path: Path::new("/").join(path),
            kind,
            mode: format!("{:o}", node.mode),
            uid: node.uid,
            gid: node.gid,
            size: node.size(),
            target,
        }
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

fn output_name(output: &ImageRef) -> Option<&str> {
    match output {
        ImageRef::Oci { name, .. } | ImageRef::OciArchive { name, .. } => name.as_deref(),
        _ => None,
    }
}

fn with_name(output: &ImageRef, name: String) -> ImageRef {
    match output.clone() {
        ImageRef::Oci { path, .. } => ImageRef::Oci { path, name: Some(name) },
        ImageRef::OciArchive { path, .. } => ImageRef::OciArchive { path, name: Some(name) },
        other => other,
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
