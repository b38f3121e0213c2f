//! Files to a repository of Artifactory: what `haversack publish artifactory` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use url::Url;

use crate::environment::Environment;
use crate::fs;
use crate::http::{Http, HttpOptions};
use crate::kernel::set::{self, KernelSet, Place};
use crate::ops::publish::{Refusal, secret};
use crate::ops::{Done, Error, block_on, hints};
use crate::plural::count;
use crate::progress::{Progress, Unit, amount};
use crate::publish::Patience;
use crate::publish::artifactory::{
    Artifactory, DeployOptions, DeployReport, Deployed, FailedFile, LeftOut, Login, Wanted, files_below,
};
use crate::table;

/// What is uploaded where.
#[derive(Clone, Debug)]
pub struct ArtifactoryOptions {
    /// A directory, or a kernel set with fetched packages.
    pub source: PathBuf,
    /// Address of the server.
    pub url: Url,
    /// Name of the repository.
    pub repository: String,
    /// Directory in the repository that everything goes under; may be empty.
    pub prefix: String,
    /// Whether local files are taken that a set names outside its own directory.
    pub allow_local: bool,
    /// Whether files are taken whose names begin with a dot.
    pub hidden: bool,
    /// How files are uploaded.
    pub deploy: DeployOptions,
    /// Time that may be spent on failed requests and the pauses after them.
    pub patience: Duration,
    /// How the server is spoken to.
    pub http: HttpOptions,
}

/// What is to be uploaded, and what is not.
#[derive(Debug)]
pub struct Plan {
    wanted: Vec<Wanted>,
    repository: String,
    /// What is left out, and why.
    pub left_out: Vec<LeftOut>,
}

/// What was uploaded.
#[derive(Debug, Serialize)]
pub struct Published {
    url: Url,
    repository: String,
    dry_run: bool,
    left_out: Vec<LeftOut>,
    /// What became of each file.
    #[serde(flatten)]
    pub report: DeployReport,
    #[serde(skip)]
    overwrite: bool,
}

/// Finds out what is to be uploaded.
pub fn plan(options: &ArtifactoryOptions) -> Result<Plan, Error> {
    // As shells complete it, and as addresses end.
    let repository = options.repository.trim_end_matches('/');
    if repository.is_empty() {
        return Err(Refusal::NoRepositoryName.into());
    }
    for (option, text) in [("--repo", repository), ("--prefix", &options.prefix)] {
        if text.split('/').any(|part| matches!(part, "." | "..")) || option == "--repo" && text.contains('/') {
            return Err(Refusal::RepositoryPath { option, text: text.to_owned() }.into());
        }
    }
    let (mut wanted, left_out) = wanted(options)?;
    let prefix = options.prefix.trim_matches('/');
    if !prefix.is_empty() {
        wanted.iter_mut().for_each(|file| file.path = format!("{prefix}/{}", file.path));
    }
    Ok(Plan { wanted, repository: repository.to_owned(), left_out })
}

fn wanted(options: &ArtifactoryOptions) -> Result<(Vec<Wanted>, Vec<LeftOut>), Error> {
    if options.source.is_dir() {
        return Ok(files_below(&options.source, options.hidden)?);
    }
    let set = KernelSet::parse(&fs::read(&options.source, SET_LIMIT)?)?;
    let mut wanted: Vec<Wanted> = Vec::new();
    for package in set.each_package() {
        let name = package.location.rsplit('/').next().unwrap_or_default().to_owned();
        let place = match set::place(&package.location, &package.name, &options.source, options.allow_local) {
            // What has a URL lies beside the set, where `kernel fetch` puts it.
            Place::Url => set::place(&name, &package.name, &options.source, false),
            place => place,
        };
        let file = match place {
            Place::File(file) => file,
            Place::Outside => {
                return Err(
                    Refusal::OutsideSet { package: package.location.clone(), set: options.source.clone() }.into()
                );
            }
            Place::Url | Place::Nowhere => {
                return Err(Refusal::NotYetFetched(package.location.clone()).into());
            }
        };
        // The same one is there for each kernel that needs it; of two others, the second would replace the first.
        match wanted.iter().find(|other| other.path == name) {
            Some(other) if other.file == file => {}
            Some(other) => {
                return Err(Refusal::SameFile { name, one: other.file.clone(), other: file }.into());
            }
            None => wanted.push(Wanted { file, path: name, sha256: package.sha256.clone() }),
        }
    }
    Ok((wanted, Vec::new()))
}

/// Uploads what was planned; `starting` is told of each file.
pub fn deploy(
    plan: Plan,
    options: &ArtifactoryOptions,
    login: Login,
    starting: impl Fn(&Wanted),
    progress: &Progress,
) -> Result<Published, Error> {
    let Plan { wanted, repository, left_out } = plan;
    if wanted.is_empty() {
        return Err(Refusal::NoFiles(options.source.clone()).into());
    }
    let patience = Arc::new(Patience::new(options.http.retry, options.patience));
    let http = Http::new(&options.http)?;
    let server = Artifactory::new(http, patience, options.url.clone(), &repository, login);
    let report =
        block_on(async { Ok::<_, Error>(server.deploy(&wanted, &options.deploy, starting, progress).await?) })?;
    let DeployOptions { dry_run, overwrite, .. } = options.deploy;
    Ok(Published { url: options.url.clone(), repository, dry_run, left_out, report, overwrite })
}

/// The login of a file with a token or a key, or else of what the environment has.
pub fn login(token_file: Option<&Path>, key_file: Option<&Path>, environment: &Environment) -> Result<Login, Error> {
    if let Some(path) = token_file {
        return Ok(Login::Bearer(secret(path)?));
    }
    if let Some(path) = key_file {
        return Ok(Login::ApiKey(secret(path)?));
    }
    let token = ARTIFACTORY_TOKENS.iter().find_map(|name| environment.word(name));
    Ok(match (token, environment.word("ARTIFACTORY_API_KEY")) {
        (Some(token), _) => Login::Bearer(token.to_owned()),
        (None, Some(key)) => Login::ApiKey(key.to_owned()),
        (None, None) => Login::Anonymous,
    })
}

impl Published {
    /// What is to be known of single files: those that failed, and those that were left.
    pub fn warnings(&self) -> Vec<String> {
        let DeployReport { failed, different, without_properties, not_compared, .. } = &self.report;
        let failed = failed.iter().map(|failed| format!("{}: {}", failed.path, failed.error));
        let different = different.iter().map(|different| {
            let content = match different.there {
                Some(_) => "exists with different content",
                None => "exists, and the server does not state its checksum",
            };
            format!("{}: {content}; only `--overwrite` replaces it", different.path)
        });
        let without = without_properties
            .iter()
            .map(|FailedFile { path, error }| format!("{path}: uploaded without its properties: {error}"));
        let verb = if self.dry_run { "would be uploaded" } else { "uploaded" };
        let not_compared = not_compared.iter().map(|FailedFile { path, error }| {
            format!("{path}: {verb} without knowing whether it existed with different content: {error}")
        });
        // What to do about it is the same for all of them.
        let advice = self.report.refused.as_ref().and_then(|error| hints::hint(error));
        failed.chain(different).chain(without).chain(not_compared).chain(advice).collect()
    }

    /// Whether anything was sent.
    pub fn has_sent(&self) -> bool {
        let nothing = self.report.uploaded.is_empty() && self.report.replaced.is_empty();
        !(self.dry_run || nothing)
    }

    /// How much is in the repository as it is here.
    pub fn done(&self) -> Done {
        let DeployReport { uploaded, replaced, skipped, failed, different, without_properties, not_compared, .. } =
            &self.report;
        // With `--overwrite`, what was there makes no difference.
        let is_compared = not_compared.is_empty() || self.overwrite;
        let is_whole = failed.is_empty()
            && without_properties.is_empty()
            && different.is_empty()
            && self.left_out.is_empty()
            && is_compared;
        Done::of(uploaded.len() + replaced.len() + skipped.len(), is_whole)
    }

    /// What was uploaded, for people.
    pub fn to_text(&self) -> String {
        let DeployReport {
            uploaded,
            replaced,
            not_compared,
            without_properties,
            skipped,
            different,
            failed,
            sent_bytes,
            refused: _,
        } = &self.report;
        let by_checksum = uploaded.iter().chain(replaced).filter(|deployed: &&Deployed| deployed.by_checksum).count();
        let unknown = different.iter().filter(|different| different.there.is_none()).count();
        let verb = if self.dry_run { "to be uploaded" } else { "uploaded" };
        let files = count(uploaded.len() + replaced.len(), "file");
        let mut text = format!("{}/{}\n  {files} {verb}", self.url.as_str().trim_end_matches('/'), self.repository);
        match self.dry_run {
            true => text.push('\n'),
            false => text += &format!(": {} sent\n", amount(*sent_bytes, Unit::Bytes)),
        }
        let planned = uploaded.iter().map(|file| (file, "")).chain(replaced.iter().map(|file| (file, "  (replaced)")));
        for (Deployed { size, url, .. }, how) in planned.filter(|_| self.dry_run) {
            text += &format!("  {:>12}  {url}{how}\n", amount(*size, Unit::Bytes));
        }
        let counts = [
            (
                by_checksum,
                [
                    "of them by checksum only: the server already had its content",
                    "of them by checksum only: the server already had their content",
                ],
            ),
            (replaced.len(), ["of them replaced different content"; 2]),
            (not_compared.len(), ["of them could not be compared with what existed before"; 2]),
            (without_properties.len(), ["of them without its properties", "of them without their properties"]),
            (skipped.len(), ["file already existed", "files already existed"]),
            (
                different.len() - unknown,
                ["file exists with different content and was left", "files exist with different content and were left"],
            ),
            (
                unknown,
                [
                    "file exists, nobody knows with which content, and was left",
                    "files exist, nobody knows with which content, and were left",
                ],
            ),
            (self.left_out.len(), ["file or directory left out", "files or directories left out"]),
            (failed.len(), ["file failed", "files failed"]),
        ];
        text + &table::counts(counts.map(|(count, what)| (count as u64, what)))
    }
}

/// The variables that may have an access token, the first that is set counts.
const ARTIFACTORY_TOKENS: [&str; 2] = ["ARTIFACTORY_TOKEN", "JFROG_ACCESS_TOKEN"];

/// Bytes of a kernel set, at most.
const SET_LIMIT: u64 = 256 << 20;
