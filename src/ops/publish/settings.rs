//! Where IMS, the token server and S3 are and with which credentials: the options, environment names and mounted files of
//! ims-python-helper.
//!
//! An option wins over the environment, and that over a mounted file. Secrets have no options that hold them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::environment::Environment;
use crate::http::{HostTls, Http, HttpOptions, authority};
use crate::ops::Error;
use crate::ops::publish::{Refusal, secret, server};
use crate::publish::Patience;
use crate::publish::ims::{ClientCredentials, Ims};
use crate::publish::s3::{Addressing, Bucket, BucketOptions, Credentials};

/// What the command line says of the service and its token server.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Address of the service.
    pub url: Option<Url>,
    /// Certificate authority of both.
    pub cert: Option<PathBuf>,
    /// Whether their certificates are checked.
    pub verify_tls: bool,
    /// Address of the token server.
    pub token_url: Option<Url>,
    /// ID of the client.
    pub client_id: Option<String>,
    /// File with its secret.
    pub client_secret_file: Option<PathBuf>,
    /// Whether the secret itself was given, which is refused.
    pub has_secret: bool,
}

/// What the command line says of the store.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// Address of the server; without a scheme, https.
    pub endpoint: Option<String>,
    /// Name of the bucket.
    pub bucket: Option<String>,
    /// Access key.
    pub access_key: Option<String>,
    /// File with the secret key.
    pub secret_key_file: Option<PathBuf>,
    /// Whether the secret itself was given, which is refused.
    pub has_secret: bool,
    /// `true`, `false` or a file with a certificate authority.
    pub ssl_verify: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Style of addresses.
    pub addressing: Addressing,
}

impl ServiceOptions {
    /// The service; `warn` is told when secrets go there in the clear.
    pub fn ims(
        &self,
        patience: Arc<Patience>,
        http: &HttpOptions,
        environment: &Environment,
        warn: impl Fn(&str),
    ) -> Result<Ims, Error> {
        refuse(self.has_secret, "--oauth-client-secret", "OAUTH_CLIENT_SECRET")?;
        let base = match &self.url {
            Some(url) => url.clone(),
            None => url("IMS_URL", environment.word("IMS_URL").unwrap_or(DEFAULT_IMS))?,
        };
        let mounted = Mounted::find(environment);
        let endpoint = match &self.token_url {
            Some(url) => url.clone(),
            None => {
                let value = mounted.value(environment, "OAUTH_CLIENT_ENDPOINT", "endpoint")?;
                url(
                    "the token endpoint",
                    &value.ok_or_else(|| {
                        missing("the address of the token server", "--token-url", "OAUTH_CLIENT_ENDPOINT")
                    })?,
                )?
            }
        };
        let id = match &self.client_id {
            Some(id) => Some(id.clone()),
            None => mounted.value(environment, "OAUTH_CLIENT_ID", "client-id")?,
        };
        let client_secret = match &self.client_secret_file {
            Some(path) => Some(secret(path)?),
            None => mounted.value(environment, "OAUTH_CLIENT_SECRET", "client-secret")?,
        };
        for place in [&base, &endpoint] {
            check_scheme(place, &warn);
        }
        let cert = self.cert.clone().or_else(|| environment.word("CA_CERT").map(PathBuf::from)).or_else(mounted_ca);
        let places = [&base, &endpoint];
        let http = client(http, cert, if self.verify_tls { &[] } else { &places })?;
        let credentials = ClientCredentials {
            url: endpoint,
            id: id.ok_or_else(|| missing("the client's id", "--oauth-client-id", "OAUTH_CLIENT_ID"))?,
            secret: client_secret
                .ok_or_else(|| missing("the client's secret", "--oauth-client-secret-file", "OAUTH_CLIENT_SECRET"))?,
        };
        Ok(Ims::new(http, patience, base, credentials))
    }
}

impl S3Options {
    /// The bucket.
    pub fn bucket(
        &self,
        patience: Arc<Patience>,
        http: &HttpOptions,
        environment: &Environment,
    ) -> Result<Bucket, Error> {
        refuse(self.has_secret, "--s3-secret-key", "S3_SECRET_KEY")?;
        let first = |option: &Option<String>, names: &[&str]| {
            option.clone().or_else(|| names.iter().find_map(|name| environment.word(name)).map(str::to_owned))
        };
        let endpoint = first(&self.endpoint, &["S3_ENDPOINT", "S3_HOST"])
            .ok_or_else(|| missing("the address of the S3 server", "--s3-endpoint", "S3_ENDPOINT"))?;
        // Some mount the bare name of the host.
        let endpoint = if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") };
        let endpoint = url("the S3 server", &endpoint)?;
        let name =
            first(&self.bucket, &["S3_BUCKET"]).ok_or_else(|| missing("the bucket", "--s3-bucket", "S3_BUCKET"))?;
        let access_key = first(&self.access_key, &["S3_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
            .ok_or_else(|| missing("the S3 access key", "--s3-access-key", "S3_ACCESS_KEY"))?;
        let secret_key = match &self.secret_key_file {
            Some(path) => secret(path)?,
            None => first(&None, &["S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY"])
                .ok_or_else(|| missing("the S3 secret key", "--s3-secret-key-file", "S3_SECRET_KEY"))?,
        };
        // A token belongs to its keys: what another tool left in AWS_SESSION_TOKEN would spoil ours.
        let is_aws = self.access_key.is_none() && environment.word("S3_ACCESS_KEY").is_none();
        let of_keys: &[&str] = if is_aws { &["S3_SESSION_TOKEN", "AWS_SESSION_TOKEN"] } else { &["S3_SESSION_TOKEN"] };
        let session_token = first(&None, of_keys);
        let verify = first(&self.ssl_verify, &["S3_SSL_VERIFY", "S3_SSL_VALIDATE"]);
        let (cert, verify) = match verify.as_deref().map(|value| (value, value.to_lowercase())) {
            None => (None, true),
            Some((_, value)) if ["true", "on", "yes", "y", "t", "1"].contains(&value.as_str()) => (None, true),
            Some((_, value)) if ["false", "off", "no", "n", "f", "0"].contains(&value.as_str()) => (None, false),
            Some((path, _)) => (Some(PathBuf::from(path)), true),
        };
        let at = &endpoint;
        let http = client(http, cert.or_else(mounted_ca), if verify { &[] } else { std::slice::from_ref(&at) })?;
        let credentials = Credentials { access_key, secret_key, session_token };
        let of_keys: &[&str] = if is_aws { &["AWS_REGION", "AWS_DEFAULT_REGION"] } else { &[] };
        let region = first(&self.region, of_keys).unwrap_or_else(|| "us-east-1".to_owned());
        let addressing = self.addressing;
        let options = BucketOptions { endpoint, name, region, addressing, credentials };
        Ok(Bucket::new(http, patience, options)?)
    }

    /// The bucket's name, where it is known.
    pub fn bucket_name(&self, environment: &Environment) -> Option<String> {
        self.bucket.clone().or_else(|| environment.word("S3_BUCKET").map(str::to_owned))
    }
}

/// The directory that Kubernetes mounts the client's credentials at.
struct Mounted(Option<PathBuf>);

impl Mounted {
    fn find(environment: &Environment) -> Self {
        let default = || Some(PathBuf::from("/etc/admin-client-auth")).filter(|path| path.is_dir());
        Mounted(environment.word("OAUTH_CONFIG_DIR").map(PathBuf::from).or_else(default))
    }

    /// The value of a variable, else of a file in the directory.
    fn value(&self, environment: &Environment, name: &str, file: &str) -> Result<Option<String>, Error> {
        match (environment.word(name), &self.0) {
            (Some(value), _) => Ok(Some(value.to_owned())),
            (None, Some(directory)) => secret(&directory.join(file)).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// A client that also trusts `cert`, and does not check the certificates of `unchecked`.
fn client(http: &HttpOptions, cert: Option<PathBuf>, unchecked: &[&Url]) -> Result<Http, Error> {
    let mut options = http.clone();
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
pub fn state_directory(environment: &Environment) -> Option<PathBuf> {
    let home = || Some(Path::new(environment.word("HOME")?).join(".local/state"));
    Some(environment.word("XDG_STATE_HOME").map(PathBuf::from).or_else(home)?.join("haversack/ims"))
}

fn url(what: &'static str, text: &str) -> Result<Url, Error> {
    server(text).map_err(|why| Refusal::Address { what, text: text.trim().to_owned(), why }.into())
}

fn check_scheme(place: &Url, warn: impl Fn(&str)) {
    let is_local = matches!(place.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if place.scheme() == "http" && !is_local {
        warn(&format!("{place}: secrets and tokens are sent there without TLS"));
    }
}

fn refuse(is_given: bool, option: &'static str, variable: &'static str) -> Result<(), Error> {
    if is_given { Err(Refusal::SecretOption { option, variable }.into()) } else { Ok(()) }
}

fn missing(what: &'static str, option: &'static str, variable: &'static str) -> Error {
    Refusal::NotConfigured { what, option, variable }.into()
}

const DEFAULT_IMS: &str = "https://api-gw-service-nmn.local/apis/ims";
