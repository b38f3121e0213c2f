//! Where IMS, the token server and S3 are and with which credentials: the options, environment names and mounted files of
//! ims-python-helper.
//!
//! An option wins over the environment, and that over a mounted file. Secrets have no options that hold them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ArgAction;
use url::Url;

use super::{secret, server};
use crate::cli::Context;
use crate::cli::config::Config;
use crate::cli::outcome::Failure;
use crate::http::{HostTls, Http, authority};
use crate::publish::Patience;
use crate::publish::ims::{ClientCredentials, Ims};
use crate::publish::s3::{Addressing, Bucket, BucketOptions, Credentials};

/// The service and its token server.
#[derive(clap::Args)]
#[command(next_help_heading = "Image Management Service")]
pub(super) struct ServiceArgs {
    /// Address of the service [default: $IMS_URL, then https://api-gw-service-nmn.local/apis/ims]
    #[arg(long, value_name = "URL", value_parser = server)]
    ims_url: Option<Url>,
    /// File with the certificate authority of the service and its token server [default: $CA_CERT, then
    /// /etc/cray/ca/certificate_authority.crt if it exists]
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Whether to check the certificates of the service and its token server
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    tls_verify: bool,
    /// Address of the token server [default: $OAUTH_CLIENT_ENDPOINT, then the file `endpoint`]
    #[arg(long, value_name = "URL", value_parser = server)]
    token_url: Option<Url>,
    /// ID of the client [default: $OAUTH_CLIENT_ID, then the file `client-id`]
    #[arg(long, value_name = "ID")]
    oauth_client_id: Option<String>,
    /// File with the client's secret [default: $OAUTH_CLIENT_SECRET, then the file `client-secret` in $OAUTH_CONFIG_DIR or
    /// /etc/admin-client-auth]
    #[arg(long, value_name = "FILE")]
    oauth_client_secret_file: Option<PathBuf>,
    /// Refused: everybody on the machine can read a command line
    #[arg(long, value_name = "SECRET", hide = true)]
    oauth_client_secret: Option<String>,
    /// Maximum number of seconds spent on failed requests and the pauses after them
    #[arg(short = 't', long, value_name = "SECONDS", default_value_t = 720)]
    retry_limit: u32,
    /// Log level: DEBUG, INFO, WARNING, ERROR or CRITICAL [default: $LOG_LEVEL]
    #[arg(short, long, value_name = "LEVEL", ignore_case = true,
          value_parser = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], hide_possible_values = true)]
    log_level: Option<String>,
}

/// The store.
#[derive(clap::Args)]
#[command(next_help_heading = "S3")]
pub(super) struct S3Args {
    /// Address of the S3 server; without a scheme, https:// [default: $S3_ENDPOINT, then $S3_HOST]
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Name of the bucket [default: $S3_BUCKET]
    #[arg(long, value_name = "NAME")]
    s3_bucket: Option<String>,
    /// Access key [default: $S3_ACCESS_KEY, then $AWS_ACCESS_KEY_ID]. Its secret is read from $S3_SECRET_KEY or
    /// $AWS_SECRET_ACCESS_KEY, the token of temporary credentials in $S3_SESSION_TOKEN or, with $AWS_ACCESS_KEY_ID, in $AWS_SESSION_TOKEN
    #[arg(long, value_name = "KEY")]
    s3_access_key: Option<String>,
    /// File with the secret key
    #[arg(long, value_name = "FILE")]
    s3_secret_key_file: Option<PathBuf>,
    /// Refused: everybody on the machine can read a command line
    #[arg(long, value_name = "SECRET", hide = true)]
    s3_secret_key: Option<String>,
    /// `true`, `false` or a file with a certificate authority [default: $S3_SSL_VERIFY, then $S3_SSL_VALIDATE, then true]
    #[arg(long, value_name = "VALUE")]
    s3_ssl_verify: Option<String>,
    /// Region of the bucket [default: with $AWS_ACCESS_KEY_ID, $AWS_REGION or $AWS_DEFAULT_REGION; otherwise us-east-1]
    #[arg(long, value_name = "NAME")]
    s3_region: Option<String>,
    /// Style of addresses: `path` for https://HOST/BUCKET, `virtual` for https://BUCKET.HOST
    #[arg(long, value_name = "STYLE", default_value = "path", value_parser = ["path", "virtual"],
          hide_possible_values = true)]
    s3_addressing: String,
}

impl ServiceArgs {
    /// What `--log-level` and `$LOG_LEVEL` add to `-v`.
    pub(super) fn verbosity(&self, config: &Config) -> u8 {
        match self.log_level.as_deref().or(variable(config, "LOG_LEVEL")).map(str::to_uppercase).as_deref() {
            Some("DEBUG") => 2,
            Some("INFO") => 1,
            _ => 0,
        }
    }

    /// Patience with both servers.
    pub(super) fn patience(&self, context: &Context) -> Arc<Patience> {
        Arc::new(Patience::new(context.http.retry, Duration::from_secs(self.retry_limit.into())))
    }

    /// The service.
    pub(super) fn ims(&self, patience: Arc<Patience>, context: &Context) -> Result<Ims, Failure> {
        let config = &context.config;
        refuse(self.oauth_client_secret.as_ref(), "--oauth-client-secret", "OAUTH_CLIENT_SECRET")?;
        let base = match &self.ims_url {
            Some(url) => url.clone(),
            None => url("IMS_URL", variable(config, "IMS_URL").unwrap_or(DEFAULT_IMS))?,
        };
        let mounted = Mounted::find(config);
        let endpoint = match &self.token_url {
            Some(url) => url.clone(),
            None => {
                let value = mounted.value(config, "OAUTH_CLIENT_ENDPOINT", "endpoint")?;
                url(
                    "the token endpoint",
                    &value.ok_or_else(|| {
                        missing("the address of the token server", "--token-url", "OAUTH_CLIENT_ENDPOINT")
                    })?,
                )?
            }
        };
        let id = match &self.oauth_client_id {
            Some(id) => Some(id.clone()),
            None => mounted.value(config, "OAUTH_CLIENT_ID", "client-id")?,
        };
        let client_secret = match &self.oauth_client_secret_file {
            Some(path) => Some(secret(path)?),
            None => mounted.value(config, "OAUTH_CLIENT_SECRET", "client-secret")?,
        };
        for place in [&base, &endpoint] {
            check_scheme(place, context);
        }
        let cert = self.cert.clone().or_else(|| variable(config, "CA_CERT").map(PathBuf::from)).or_else(mounted_ca);
        let places = [&base, &endpoint];
        let http = http(context, cert, if self.tls_verify { &[] } else { &places })?;
        let credentials = ClientCredentials {
            url: endpoint,
            id: id.ok_or_else(|| missing("the client's id", "--oauth-client-id", "OAUTH_CLIENT_ID"))?,
            secret: client_secret
                .ok_or_else(|| missing("the client's secret", "--oauth-client-secret-file", "OAUTH_CLIENT_SECRET"))?,
        };
        Ok(Ims::new(http, patience, base, credentials))
    }
}

impl S3Args {
    /// The bucket.
    pub(super) fn bucket(&self, patience: Arc<Patience>, context: &Context) -> Result<Bucket, Failure> {
        let config = &context.config;
        refuse(self.s3_secret_key.as_ref(), "--s3-secret-key", "S3_SECRET_KEY")?;
        let first = |option: &Option<String>, names: &[&str]| {
            option.clone().or_else(|| names.iter().find_map(|name| variable(config, name)).map(str::to_owned))
        };
        let endpoint = first(&self.s3_endpoint, &["S3_ENDPOINT", "S3_HOST"])
            .ok_or_else(|| missing("the address of the S3 server", "--s3-endpoint", "S3_ENDPOINT"))?;
        // Some mount the bare name of the host.
        let endpoint = if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") };
        let endpoint = url("the S3 server", &endpoint)?;
        let name =
            first(&self.s3_bucket, &["S3_BUCKET"]).ok_or_else(|| missing("the bucket", "--s3-bucket", "S3_BUCKET"))?;
        let access_key = first(&self.s3_access_key, &["S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
            .ok_or_else(|| missing("the S3 access key", "--s3-access-key", "S3_ACCESS_KEY"))?;
        let secret_key = match &self.s3_secret_key_file {
            Some(path) => secret(path)?,
            None => first(&None, &["S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"])
                .ok_or_else(|| missing("the S3 secret key", "--s3-secret-key-file", "S3_SECRET_KEY"))?,
        };
        // A token belongs to its keys: what another tool left in AWS_SESSION_TOKEN would spoil ours.
        let is_aws = self.s3_access_key.is_none() && variable(config, "S3_ACCESS_KEY").is_none();
        let of_keys: &[&str] = if is_aws { &["S3_SESSION_TOKEN", "AWS_SESSION_TOKEN"] } else { &["S3_SESSION_TOKEN"] };
        let session_token = first(&None, of_keys);
        let verify = first(&self.s3_ssl_verify, &["S3_SSL_VERIFY", "S3_SSL_VALIDATE"]);
        let (cert, verify) = match verify.as_deref().map(|value| (value, value.to_lowercase())) {
            None => (None, true),
            Some((_, value)) if ["true", "on", "yes", "y", "t", "1"].contains(&value.as_str()) => (None, true),
            Some((_, value)) if ["false", "off", "no", "n", "f", "0"].contains(&value.as_str()) => (None, false),
            Some((path, _)) => (Some(PathBuf::from(path)), true),
        };
        let at = &endpoint;
        let http = http(context, cert.or_else(mounted_ca), if verify { &[] } else { std::slice::from_ref(&at) })?;
        let credentials = Credentials { access_key, secret_key, session_token };
        let of_keys: &[&str] = if is_aws { &["AWS_REGION", "AWS_DEFAULT_REGION"] } else { &[] };
        let region = first(&self.s3_region, of_keys).unwrap_or_else(|| "us-east-1".to_owned());
        let addressing = match self.s3_addressing.as_str() {
            "virtual" => Addressing::Virtual,
            _ => Addressing::Path,
        };
        let options = BucketOptions { endpoint, name, region, addressing, credentials };
        Ok(Bucket::new(http, patience, options)?)
    }

    /// The bucket's name, where it is known.
    pub(super) fn bucket_name(&self, config: &Config) -> Option<String> {
        self.s3_bucket.clone().or_else(|| variable(config, "S3_BUCKET").map(str::to_owned))
    }
}

/// The directory that Kubernetes mounts the client's credentials at.
struct Mounted(Option<PathBuf>);

impl Mounted {
    fn find(config: &Config) -> Self {
        let default = || Some(PathBuf::from("/etc/admin-client-auth")).filter(|path| path.is_dir());
        Mounted(variable(config, "OAUTH_CONFIG_DIR").map(PathBuf::from).or_else(default))
    }

    /// The value of a variable, else of a file in the directory.
    fn value(&self, config: &Config, name: &str, file: &str) -> Result<Option<String>, Failure> {
        match (variable(config, name), &self.0) {
            (Some(value), _) => Ok(Some(value.to_owned())),
            (None, Some(directory)) => secret(&directory.join(file)).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// The value of a variable that is set and not empty.
pub(super) fn variable<'c>(config: &'c Config, name: &str) -> Option<&'c str> {
    config.environment.variable(name).map(str::trim).filter(|value| !value.is_empty())
}

/// A client that also trusts `cert`, and does not check the certificates of `unchecked`.
fn http(context: &Context, cert: Option<PathBuf>, unchecked: &[&Url]) -> Result<Http, Failure> {
    let mut options = context.http.clone();
    options.ca_files.extend(cert);
    let unchecked = unchecked.iter().map(|url| HostTls { verify: false, ..HostTls::new(authority(url)) });
    options.hosts.extend(unchecked);
    Ok(Http::new(&options)?)
}

/// What the pods of the service mount, where it is there.
fn mounted_ca() -> Option<PathBuf> {
    Some(PathBuf::from("/etc/cray/ca/certificate_authority.crt")).filter(|path| path.is_file())
}

/// Where uploads keep what the next run needs: `$XDG_STATE_HOME/haversack/ims`.
pub(super) fn state_directory(config: &Config) -> Option<PathBuf> {
    let home = || Some(Path::new(variable(config, "HOME")?).join(".local/state"));
    Some(variable(config, "XDG_STATE_HOME").map(PathBuf::from).or_else(home)?.join("haversack/ims"))
}

fn url(what: &str, text: &str) -> Result<Url, Failure> {
    server(text).map_err(|why| Failure::usage(format!("{what}: `{}`: {why}", text.trim())))
}

fn check_scheme(place: &Url, context: &Context) {
    let is_local = matches!(place.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if place.scheme() == "http" && !is_local {
        context.ui.warn(format_args!("{place}: secrets and tokens are sent there without TLS"));
    }
}

fn refuse(secret: Option<&String>, option: &str, variable: &str) -> Result<(), Failure> {
    if secret.is_none() {
        return Ok(());
    }
    Err(Failure::usage(format!("{option} is not taken: everybody on the machine can read a command line"))
        .hint(format!("set {variable}, or name a file with {option}-file")))
}

fn missing(what: &str, option: &str, variable: &str) -> Failure {
    Failure::new(format!("not configured: {what}")).hint(format!("give {option}, or set {variable}"))
}

const DEFAULT_IMS: &str = "https://api-gw-service-nmn.local/apis/ims";
