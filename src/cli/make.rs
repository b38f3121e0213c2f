//! `haversack build`: from definitions to images.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;

use crate::cli::Context;
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::RegistryArgs;
use crate::cli::sources::SourceArgs;
use crate::image::{LayerOptions, Platform, Template};
use crate::kernel::source::{Source, SourceOptions};
use crate::ops::Scratch;
use crate::ops::make::toolkit::PackageOptions;
use crate::ops::make::{self, MakeOptions, MakeReport};
use crate::reference::ImageRef;
use crate::shard::Shard;
use crate::terminal::stop::stoppable;

/// Build images from definitions
#[derive(clap::Args)]
#[command(after_help = HELP, override_usage = USAGE, group = clap::ArgGroup::new("where").args(["output", "push", "explain", "print_definition"]).required(true).multiple(true))]
pub(super) struct BuildArgs {
    /// Directories with an image.toml, or definitions that come with the program: bastion, catalog, driver-toolkit, kernels
    #[arg(value_name = "DEFINITION")]
    definitions: Vec<PathBuf>,
    /// Destination: oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME:TAG], dir:DIR or
    /// docker://HOST/REPOSITORY[:TAG]; NAME and TAG default to the definition's name and tags
    #[arg(short, long, value_name = "TRANSPORT")]
    output: Option<ImageRef>,
    /// Send the image to a registry, alone or besides --output: docker://HOST/REPOSITORY[:TAG]; TAG defaults to the definition's tags
    #[arg(long, value_name = "REF")]
    push: Option<ImageRef>,
    /// Skip an image that all outputs already have, made by this version from the same inputs, definition and base
    #[arg(long)]
    skip_existing: bool,
    /// Base image, instead of the definition's
    #[arg(long, value_name = "REF")]
    base: Option<ImageRef>,
    /// Attach no SBOM, the list of what is in the image
    #[arg(long)]
    no_sbom: bool,
    /// Catalog snapshot, for images that hold one
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Build for this platform instead of the definition's
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<Platform>,
    /// haversack program to put into images of another platform, such as linux/arm64=PATH
    #[arg(long, value_name = "PLATFORM=PATH", value_parser = make::binary)]
    binary: Vec<(Platform, PathBuf)>,
    /// Compression of layers: zstd, gzip or none
    #[arg(long, default_value = "zstd", hide_possible_values = true, value_parser = PossibleValuesParser::new(["zstd", "gzip", "none"]))]
    compression: String,
    /// Compression level: gzip 1 to 9, zstd 1 to 19
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=19))]
    level: Option<i32>,
    /// Print what would be in the images, and write nothing
    #[arg(long)]
    explain: bool,
    /// Print the definitions, and build nothing; saved as DIR/image.toml, they can be changed and built with `build DIR`
    #[arg(long)]
    print_definition: bool,
    #[command(flatten)]
    packages: PackageArgs,
    #[command(flatten)]
    registries: RegistryArgs,
}

/// Images of kernels and of their packages.
#[derive(clap::Args)]
#[command(next_help_heading = "Images of packages")]
struct PackageArgs {
    /// Sources of kernels, as for `kernel list`: all words up to the next option
    #[arg(long, value_name = "SOURCE", num_args = 1..)]
    kernels: Vec<String>,
    /// Sources of all other packages, such as the compiler [default: those of --kernels]
    #[arg(long, value_name = "SOURCE", num_args = 1..)]
    packages: Vec<String>,
    /// Build an image for each kernel in this file, which `kernel matrix --json` prints
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,
    /// Maximum number of parallel builds
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Build only shard I of N, such as 1/4; `/4` takes I from JOB_COMPLETION_INDEX
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Directory that keeps fetched packages for the next build [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    package_cache: Option<PathBuf>,
    #[command(flatten)]
    from: SourceArgs,
}

impl BuildArgs {
    fn options(&self, context: &Context) -> Result<MakeOptions, Failure> {
        let base = self.base.as_ref().map(|base| Ok::<_, Failure>(base.below(&std::path::absolute(".")?)));
        Ok(MakeOptions {
            definitions: self.definitions.clone(),
            output: self.output.clone(),
            push: self.push.clone(),
            skip_existing: self.skip_existing,
            base: base.transpose()?,
            no_sbom: self.no_sbom,
            catalog: self.catalog.clone(),
            platforms: self.platform.clone(),
            binaries: self.binary.clone(),
            layers: LayerOptions::parse(&self.compression, self.level).map_err(Failure::usage)?,
            explain: self.explain,
            epoch: context.config.environment.source_date_epoch()?,
            packages: self.packages.options(context)?,
            source: self.registries.source(context)?,
            destination: self.registries.destination(context)?,
        })
    }
}

pub(super) fn run(args: &BuildArgs, context: &Context) -> Outcome {
    if args.definitions.is_empty() {
        return Err(make::no_definition(&args.packages.kernels, &args.packages.packages).into());
    }
    if args.print_definition {
        for definition in &args.definitions {
            context.ui.bytes(Template::find(definition)?.text().as_bytes())?;
        }
        return Ok(Exit::Done);
    }
    let scratch = Scratch::default();
    stoppable(|| scratch.remove(), |signal| context.stopped(signal), || build(args, &scratch, context))
}

fn build(args: &BuildArgs, scratch: &Scratch, context: &Context) -> Outcome {
    let is_written = |host: &str| {
        let places = args.output.iter().chain(&args.push);
        places.into_iter().any(|place| matches!(place, ImageRef::Docker(remote) if remote.registry == host))
    };
    let option = |host: &str| if is_written(host) { "--dest-tls-verify=false" } else { "--src-tls-verify=false" };
    let made = make::make(&args.options(context)?, scratch, context.ui.progress());
    let (report, done) = made.map_err(|error| Failure::from(error).without_tls(option))?;
    context.ui.result(&report, MakeReport::to_text)?;
    Ok(done.into())
}

impl PackageArgs {
    fn options(&self, context: &Context) -> Result<PackageOptions, Failure> {
        let mut from = self.from.options(&[], context)?;
        // Chosen when all kernels are known: a release may be named without its machine.
        let releases = std::mem::take(&mut from.filter.releases);
        let sources = |words: &[String]| {
            let sources = Source::parse_all(words).map_err(|error| Failure::from(error).exit(Exit::Usage))?;
            Ok::<_, Failure>(SourceOptions { sources, ..from.clone() })
        };
        let index = context.config.environment.variable("JOB_COMPLETION_INDEX");
        let shard = self.shard.as_deref().map(|text| Shard::parse(text, index));
        Ok(PackageOptions {
            kernels: sources(&self.kernels)?,
            // What a distribution has is in its repositories of kernels.
            packages: (!self.packages.is_empty()).then(|| sources(&self.packages)).transpose()?,
            releases,
            matrix: self.matrix.clone(),
            jobs: self.jobs.into(),
            shard: shard.transpose().map_err(|error| Failure::from(error).exit(Exit::Usage))?,
            cache: self.package_cache.clone(),
        })
    }
}

const USAGE: &str =
    "haversack build DEFINITION… (--output TRANSPORT | --push REF | --explain | --print-definition) [OPTIONS]";

const HELP: &str = "\
Examples:
  haversack build catalog --catalog catalog.db --output oci-archive:catalog.tar
  haversack build bastion --output oci:mirror --push docker://registry.local:5000/bastion
  haversack build driver-toolkit --distro debian:bookworm --latest 1 --output oci:toolkits
  haversack build kernels --kernels 'apt:https://deb.debian.org/debian bookworm main' --latest 1 --output oci:mirror
  haversack build --print-definition driver-toolkit

A definition of your own is a directory with an image.toml (all its keys: docs/formats.md):
  name = 'tools'
  base = 'docker://registry.access.redhat.com/ubi9/ubi:9.4'
  [[layers]]
  files = [{ src = 'site.conf', dest = '/etc/site.conf', mode = '0644' }]
  directories = [{ src = 'root', dest = '/srv' }, { dest = '/var/empty' }]
`src` is relative to that directory; `text` in place of it is the content of a file; a directory without it is empty.

Exit status: 0 built, 1 failed, 2 wrong command line, 3 some images were not built or lack something; each is named";
