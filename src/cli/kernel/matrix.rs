//! `haversack kernel matrix`: which kernels to build for.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::Context;
use crate::cli::global::ParallelArgs;
use crate::cli::outcome::{Failure, Outcome};
use crate::cli::registries::RegistryArgs;
use crate::cli::sources::{self, SourceArgs};
use crate::kernel::matrix::Matrix;
use crate::kernel::set::Filter;
use crate::kernel::source::SourceOptions;
use crate::ops::matrix::{self, GRAPH, MatrixOptions, MatrixReport, PAYLOADS};
use crate::plural::count;
use crate::reference::ImageRef;

#[derive(Args)]
pub(in crate::cli) struct MatrixArgs {
    /// Source whose kernels are listed, as for `kernel list`
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// OpenShift channel whose releases' kernels are listed, such as stable-4.18; may be repeated
    #[arg(long, value_name = "NAME")]
    channel: Vec<String>,
    /// Update graph of OpenShift: URL of the service, file with its answer, or directory or archive of the graph data
    #[arg(long, value_name = "URL|PATH", default_value = GRAPH)]
    graph: String,
    /// File of OpenShift releases whose kernels are listed, one per line
    #[arg(long, value_name = "FILE")]
    versions: Vec<PathBuf>,
    /// Repository of release images, for releases known only by version
    #[arg(long, value_name = "REPOSITORY", default_value = PAYLOADS)]
    payloads: String,
    /// Registry to read instead of another, such as quay.io=mirror.example:5000
    #[arg(long, value_name = "FROM=TO", value_parser = matrix::mapping)]
    registry_map: Vec<(String, String)>,
    /// Machine to include; may be repeated [default: x86_64]
    #[arg(long, value_name = "MACHINE")]
    arch: Vec<String>,
    /// Leave out kernels for which this repository already has images for all their machines
    #[arg(long, value_name = "docker://REPOSITORY")]
    missing_in: Option<ImageRef>,
    /// Format of the output [default: table, or json with --json]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Directory for cached image metadata [default: $XDG_CACHE_HOME/haversack/matrix]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    #[command(flatten)]
    parallel: ParallelArgs<8>,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    registries: RegistryArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Table,
    /// What `--json` prints, and `build --matrix` reads
    Json,
    /// One line for GitHub's workflows: {"versions":[{"rhel","kernel","archs"}]}
    Github,
    /// One line for `strategy.matrix`: {"include":[{"rhel","kernel","platform","arch"}]}
    GithubInclude,
}

pub(super) fn run(args: &MatrixArgs, context: &Context) -> Outcome {
    let report = matrix::matrix(&args.options(context)?, context.ui.progress());
    // Releases that cannot be read are named one by one.
    let report = report.map_err(|error| Failure::from(error).without_tls(|_| "--dest-tls-verify=false"))?;
    let done = report.done();
    context.ui.warn_of(report.warning());
    let MatrixReport { matrix, left_out, unknown_place, .. } = report;
    if let Some(place) = args.missing_in.as_ref().filter(|_| unknown_place.is_none()) {
        let before = matrix.entries.len() + left_out;
        let has = if before == 1 { "has" } else { "have" };
        context.ui.say(format_args!("{left_out} of {} {has} all images in {place}", count(before, "kernel")));
    }
    match args.format {
        Some(Format::Json) => context.ui.data(serde_json::to_string_pretty(&matrix)?)?,
        Some(Format::Github) => context.ui.data(matrix.github())?,
        Some(Format::GithubInclude) => context.ui.data(matrix.github_include())?,
        Some(Format::Table) => context.ui.data(matrix.to_text().trim_end())?,
        None => context.ui.result(&matrix, Matrix::to_text)?,
    }
    Ok(done.into())
}

impl MatrixArgs {
    fn options(&self, context: &Context) -> Result<MatrixOptions, Failure> {
        let mut kernels = self.source.options(&self.sources, context)?;
        if kernels.filter.flavours.is_empty() {
            kernels =
                SourceOptions { filter: Filter { flavours: vec!["default".to_owned()], ..kernels.filter }, ..kernels };
        }
        let defaults = MatrixOptions::default();
        Ok(MatrixOptions {
            kernels,
            machines: match self.arch.is_empty() {
                true => defaults.machines,
                false => sources::machines(&self.arch).into_iter().collect(),
            },
            channels: self.channel.clone(),
            graph: self.graph.clone(),
            versions: self.versions.clone(),
            payloads: self.payloads.clone(),
            registry_map: self.registry_map.clone(),
            missing_in: self.missing_in.clone(),
            cache: self.cache.clone().or_else(|| Some(context.config.environment.cache_dir()?.join("matrix"))),
            parallel: self.parallel.count(),
            source: self.registries.source(context)?,
            destination: self.registries.destination(context)?,
        })
    }
}
