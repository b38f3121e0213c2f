//! `haversack publish artifactory`: files to a repository of Artifactory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use url::Url;

use super::settings::variable;
use super::{key_value, secret, server};
use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::{Context, block_on};
use crate::fs;
use crate::kernel::set::{self, KernelSet, Place};
use crate::progress::{Unit, amount};
use crate::publish::Patience;
use crate::publish::artifactory::{
    Artifactory, DeployOptions, DeployReport, Deployed, FailedFile, LeftOut, Login, Wanted, files_below,
};

/// Upload packages to a repository of Artifactory
#[derive(clap::Args)]
pub(in crate::cli) struct ArtifactoryArgs {
    /// Directory whose files go to the same paths in the repository, or kernel set (kernels.json) with fetched packages
    #[arg(value_name = "DIR|SET")]
    source: PathBuf,
    /// Address of the server, mostly https://HOST/artifactory
    #[arg(long, value_name = "URL", value_parser = server)]
    url: Url,
    /// Name of the repository
    #[arg(long, value_name = "NAME")]
    repo: String,
    /// Directory in the repository to put everything under
    #[arg(long, value_name = "PATH", default_value = "")]
    prefix: String,
    /// File with an access token [default: $ARTIFACTORY_TOKEN, then $JFROG_ACCESS_TOKEN]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with an API key, for servers that still accept them [default: $ARTIFACTORY_API_KEY]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Upload local files that a set names outside its own directory
    #[arg(long)]
    allow_local: bool,
    /// Replace files that exist with different content
    #[arg(long)]
    overwrite: bool,
    /// Property to set on each uploaded file; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    property: Vec<(String, String)>,
    /// Also upload files whose names begin with a dot
    #[arg(long)]
    hidden: bool,
    /// Print what would be uploaded without uploading anything
    #[arg(long)]
    dry_run: bool,
    /// Print `^` on stderr for each upload, as the header downloader did
    #[arg(short, long)]
    interactive: bool,
    /// Maximum number of parallel uploads
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    parallel: u16,
    /// Maximum number of seconds spent on failed requests and the pauses after them
    #[arg(long, value_name = "SECONDS", default_value_t = 720)]
    retry_limit: u32,
}

#[derive(Serialize)]
struct Published<'a> {
    url: &'a Url,
    repository: &'a str,
    dry_run: bool,
    left_out: Vec<LeftOut>,
    #[serde(flatten)]
    report: DeployReport,
}

pub(super) fn run(args: &ArtifactoryArgs, context: &Context) -> Outcome {
    // As shells complete it, and as addresses end.
    let repository = args.repo.trim_end_matches('/');
    if repository.is_empty() {
        return Err(Failure::usage("--repo: the name of the repository is missing"));
    }
    for (option, text) in [("--repo", repository), ("--prefix", &args.prefix)] {
        if text.split('/').any(|part| matches!(part, "." | "..")) || option == "--repo" && text.contains('/') {
            return Err(Failure::usage(format!("{option}: `{text}` is not a path inside the repository")));
        }
    }
    let (mut wanted, left_out) = wanted(args)?;
    for LeftOut { path, why } in &left_out {
        context.ui.warn(format_args!("{}: left out: {why}", path.display()));
    }
    if wanted.is_empty() {
        return Err(Failure::new(format!("{}: no files to upload", args.source.display())));
    }
    let prefix = args.prefix.trim_matches('/');
    if !prefix.is_empty() {
        wanted.iter_mut().for_each(|file| file.path = format!("{prefix}/{}", file.path));
    }
    let patience = Arc::new(Patience::new(context.http.retry, Duration::from_secs(args.retry_limit.into())));
    let server = Artifactory::new(context.http()?, patience, args.url.clone(), repository, login(args, context)?);
    let options = DeployOptions {
        overwrite: args.overwrite,
        properties: args.property.clone(),
        dry_run: args.dry_run,
        parallel: args.parallel.into(),
    };
    let starting = |file: &Wanted| match args.interactive {
        true => context.ui.mark('^'),
        false => context.ui.say(format_args!("uploading {}", file.path)),
    };
    let report = block_on(async { Ok(server.deploy(&wanted, &options, starting, context.ui.progress()).await?) })?;
    if args.interactive && !args.dry_run && !(report.uploaded.is_empty() && report.replaced.is_empty()) {
        context.ui.mark('\n');
    }
    for failed in &report.failed {
        context.ui.warn(format_args!("{}: {}", failed.path, failed.error));
    }
    for different in &report.different {
        let content = if different.there.is_some() {
            "exists with different content"
        } else {
            "exists, and the server does not state its checksum"
        };
        context.ui.warn(format_args!("{}: {content}; only `--overwrite` replaces it", different.path));
    }
    for FailedFile { path, error } in &report.without_properties {
        context.ui.warn(format_args!("{path}: uploaded without its properties: {error}"));
    }
    for FailedFile { path, error } in &report.not_compared {
        context
            .ui
            .warn(format_args!("{path}: uploaded without knowing whether it existed with different content: {error}"));
    }
    // With `--overwrite`, what was there makes no difference.
    let is_compared = report.not_compared.is_empty() || args.overwrite;
    let is_whole = [&report.failed, &report.without_properties].iter().all(|list| list.is_empty())
        && report.different.is_empty()
        && left_out.is_empty()
        && is_compared;
    let published = Published { url: &args.url, repository, dry_run: args.dry_run, left_out, report };
    context.ui.result(&published, Published::to_text)?;
    Ok(Exit::of(is_whole))
}

fn wanted(args: &ArtifactoryArgs) -> Result<(Vec<Wanted>, Vec<LeftOut>), Failure> {
    if args.source.is_dir() {
        return Ok(files_below(&args.source, args.hidden)?);
    }
    let set = KernelSet::parse(&fs::read(&args.source, SET_LIMIT)?)?;
    let mut wanted: Vec<Wanted> = Vec::new();
    for package in set.each_package() {
        let name = package.location.rsplit('/').next().unwrap_or_default().to_owned();
        let place = match set::place(&package.location, &package.name, &args.source, args.allow_local) {
            // What has a URL lies beside the set, where `kernel fetch` puts it.
            Place::Url => set::place(&name, &package.name, &args.source, false),
            place => place,
        };
        let file = match place {
            Place::File(file) => file,
            Place::Outside => {
                let error = format!("{}: outside the directory of {}", package.location, args.source.display());
                return Err(Failure::new(error).hint("allow files outside it with `--allow-local`"));
            }
            Place::Url | Place::Nowhere => {
                return Err(Failure::new(format!("{}: not fetched", package.location))
                    .hint("fetch the set's packages with `haversack kernel fetch`, and name the directory"));
            }
        };
        // The same one is there for each kernel that needs it; of two others, the second would replace the first.
        match wanted.iter().find(|other| other.path == name) {
            Some(other) if other.file == file => {}
            Some(other) => {
                let (one, two) = (other.file.display(), file.display());
                return Err(Failure::new(format!("{name}: two packages of the set have this name: {one} and {two}"))
                    .hint("put them into directories of one directory, and name that in place of the set"));
            }
            None => wanted.push(Wanted { file, path: name }),
        }
    }
    Ok((wanted, Vec::new()))
}

fn login(args: &ArtifactoryArgs, context: &Context) -> Result<Login, Failure> {
    let first = |names: &[&str]| names.iter().find_map(|name| variable(&context.config, name)).map(str::to_owned);
    if let Some(path) = &args.token_file {
        return Ok(Login::Bearer(secret(path)?));
    }
    if let Some(path) = &args.api_key_file {
        return Ok(Login::ApiKey(secret(path)?));
    }
    Ok(match (first(&["ARTIFACTORY_TOKEN", "JFROG_ACCESS_TOKEN"]), first(&["ARTIFACTORY_API_KEY"])) {
        (Some(token), _) => Login::Bearer(token),
        (None, Some(key)) => Login::ApiKey(key),
        (None, None) => Login::Anonymous,
    })
}

impl Published<'_> {
    fn to_text(&self) -> String {
        let DeployReport {
            uploaded,
            replaced,
            not_compared,
            without_properties,
            skipped,
            different,
            failed,
            sent_bytes,
        } = &self.report;
        let by_checksum = uploaded.iter().chain(replaced).filter(|deployed: &&Deployed| deployed.by_checksum).count();
        let verb = if self.dry_run { "to be uploaded" } else { "uploaded" };
        let mut text = format!("{}/{}\n  {} files {verb}", self.url, self.repository, uploaded.len() + replaced.len());
        if !self.dry_run {
            text += &format!(": {} sent", amount(*sent_bytes, Unit::Bytes));
        }
        text.push('\n');
        for (count, what) in [
            (by_checksum, "of them by checksum only: the server already had their content"),
            (replaced.len(), "of them replaced different content"),
            (not_compared.len(), "of them could not be compared with what existed before"),
            (without_properties.len(), "of them without their properties"),
            (skipped.len(), "files already existed"),
            (different.len(), "files exist with different content and were left"),
            (self.left_out.len(), "files or directories left out"),
            (failed.len(), "files failed"),
        ] {
            if count > 0 {
                text += &format!("  {count} {what}\n");
            }
        }
        text
    }
}

const SET_LIMIT: u64 = 256 << 20;
