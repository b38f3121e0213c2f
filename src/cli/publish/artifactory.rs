//! `haversack publish artifactory`: files to a repository of Artifactory.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::cli::Context;
use crate::cli::global::ParallelArgs;
use crate::cli::outcome::Outcome;
use crate::ops::publish::artifactory::{self, ArtifactoryOptions, Published};
use crate::ops::publish::{key_value, server};
use crate::publish::artifactory::{DeployOptions, LeftOut, Wanted};

/// Upload packages to a repository of Artifactory
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct ArtifactoryArgs {
    /// Directory whose files go to the same paths in the repository, or kernel set (kernels.json, fetch.lock) with its packages beside it
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
    /// Print which files would be uploaded, and to which URLs, and upload nothing
    #[arg(long)]
    dry_run: bool,
    /// In place of a line, write `^` to stderr for each upload
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    parallel: ParallelArgs<4>,
    /// Maximum number of seconds spent on failed requests and the pauses after them
    #[arg(long, value_name = "SECONDS", default_value_t = 720)]
    retry_limit: u32,
}

pub(super) fn run(args: &ArtifactoryArgs, context: &Context) -> Outcome {
    let options = args.options(context);
    let plan = artifactory::plan(&options)?;
    for LeftOut { path, why } in &plan.left_out {
        context.ui.warn(format_args!("{}: left out: {why}", path.display()));
    }
    let (token, key) = (args.token_file.as_deref(), args.api_key_file.as_deref());
    let login = artifactory::login(token, key, &context.config.environment)?;
    let starting = |file: &Wanted| match args.interactive {
        true => context.ui.mark('^'),
        false => context.ui.say(format_args!("uploading {}", file.path)),
    };
    let published = artifactory::deploy(plan, &options, login, starting, context.ui.progress())?;
    if args.interactive && published.has_sent() {
        context.ui.mark('\n');
    }
    context.ui.warn_of(published.warnings());
    context.ui.result(&published, Published::to_text)?;
    Ok(published.done().into())
}

impl ArtifactoryArgs {
    fn options(&self, context: &Context) -> ArtifactoryOptions {
        ArtifactoryOptions {
            source: self.source.clone(),
            url: self.url.clone(),
            repository: self.repo.clone(),
            prefix: self.prefix.clone(),
            allow_local: self.allow_local,
            hidden: self.hidden,
            deploy: DeployOptions {
                overwrite: self.overwrite,
                properties: self.property.clone(),
                dry_run: self.dry_run,
                parallel: self.parallel.count(),
            },
            patience: Duration::from_secs(self.retry_limit.into()),
            http: context.http.clone(),
        }
    }
}

const HELP: &str = "\
Examples:
  haversack publish artifactory packages/ --url https://host/artifactory --repo redhat-sources --dry-run
  haversack publish artifactory kernels.json --url https://host/artifactory --repo redhat-sources --token-file token

Exit status: 0 everything is in the repository, 1 nothing is, 2 wrong command line, 3 finished, but some files failed, were left out, \
exist with different content or could not be compared; each is named";
