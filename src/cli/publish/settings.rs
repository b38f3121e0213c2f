//! The options of ims-python-helper: where IMS, the token server and S3 are and with which credentials.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::cli::Context;
use crate::cli::registries::TlsArgs;
use crate::ops::publish::server;
use crate::ops::publish::settings::{S3Options, ServiceOptions};
use crate::publish::Patience;
use crate::publish::s3::Addressing;
use crate::settings::Config;

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
    #[command(flatten)]
    tls: TlsArgs,
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
        let level = self.log_level.as_deref().or(config.environment.word("LOG_LEVEL")).map(str::to_uppercase);
        match level.as_deref() {
            Some("DEBUG") => 2,
            Some("INFO") => 1,
            _ => 0,
        }
    }

    /// Patience with both servers.
    pub(super) fn patience(&self, context: &Context) -> Arc<Patience> {
        Arc::new(Patience::new(context.http.retry, Duration::from_secs(self.retry_limit.into())))
    }

    pub(super) fn options(&self) -> ServiceOptions {
        ServiceOptions {
            url: self.ims_url.clone(),
            cert: self.cert.clone(),
            verify_tls: self.tls.tls_verify,
            token_url: self.token_url.clone(),
            client_id: self.oauth_client_id.clone(),
            client_secret_file: self.oauth_client_secret_file.clone(),
            has_secret: self.oauth_client_secret.is_some(),
        }
    }
}

impl S3Args {
    pub(super) fn options(&self) -> S3Options {
        S3Options {
            endpoint: self.s3_endpoint.clone(),
            bucket: self.s3_bucket.clone(),
            access_key: self.s3_access_key.clone(),
            secret_key_file: self.s3_secret_key_file.clone(),
            has_secret: self.s3_secret_key.is_some(),
            ssl_verify: self.s3_ssl_verify.clone(),
            region: self.s3_region.clone(),
            addressing: if self.s3_addressing == "virtual" { Addressing::Virtual } else { Addressing::Path },
        }
    }
}
