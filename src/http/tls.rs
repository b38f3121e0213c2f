//! What TLS needs to know about single hosts: whom to trust, as whom to introduce oneself, whether to check at all.
//!
//! Each host has a client of its own where it has settings of its own, so that a client certificate, or the leave to
//! skip checks, does not reach the host that another one redirects to. Settings are given ([`HostTls`]) or lie in
//! directories, as podman and docker have them (containers-certs.d(5)):
//!
//! ```text
//! DIR/HOST[:PORT]/NAME.crt      a certificate authority
//!                 NAME.cert     a client certificate,
//!                 NAME.key      and its key
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use reqwest::{Certificate, Client, Identity, redirect};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;

use crate::fs;
use crate::http::{Error, HttpOptions, leaf};

/// How one host is spoken to.
#[derive(Clone, Debug)]
pub struct HostTls {
    /// `HOST`, or `HOST:PORT` where the port is not that of the scheme.
    pub host: String,
    /// Whether its certificate is checked.
    pub verify: bool,
    /// The certificate to show.
    pub identity: Option<ClientIdentity>,
    /// PEM files with certificate authorities that are trusted for this host.
    pub ca_files: Vec<PathBuf>,
}

/// A certificate to show, and its key; both may be in one file.
#[derive(Clone, Debug)]
pub struct ClientIdentity {
    /// PEM file with the certificate and those between it and the authority's.
    pub certificate: PathBuf,
    /// PEM file with the key, which is not encrypted.
    pub key: PathBuf,
}

impl HostTls {
    /// A host without settings.
    pub fn new(host: impl Into<String>) -> Self {
        HostTls { host: host.into(), verify: true, identity: None, ca_files: Vec::new() }
    }
}

/// The clients of a run, by host.
pub(super) struct Clients {
    /// Trusts nobody: for plain HTTP, and to make requests with that another one sends.
    plain: Client,
    /// For hosts without settings, when TLS is first spoken: to read the host's 140 authorities takes as long as a
    /// whole run that finds nothing to do.
    general: OnceLock<Client>,
    /// Those that were given, beside the host's.
    authorities: Vec<CertificateDer<'static>>,
    given: Vec<HostTls>,
    directories: Vec<PathBuf>,
    timeouts: [Duration; 2],
    gzip: bool,
    /// `None` for a host without settings of its own.
    by_host: Mutex<HashMap<String, Option<Client>>>,
}

impl Clients {
    pub(super) fn new(options: &HttpOptions) -> Result<Arc<Self>, Error> {
        // ring rather than aws-lc: it needs a C compiler only, no CMake. A second call finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut given = Vec::new();
        let directly = options.cert_dirs.iter().map(|directory| Directory::read(directory));
        for directory in directly.collect::<Result<Vec<_>, _>>()? {
            // Shown to everybody it would tell everybody who we are.
            if let Some(path) = directory.certificates.first().or(directory.keys.first()) {
                return Err(Error::Misplaced { path: path.clone() });
            }
            directory.authorities.iter().try_for_each(|path| authorities(path, &mut given))?;
        }
        options.ca_files.iter().try_for_each(|path| authorities(path, &mut given))?;
        let timeouts = [options.connect_timeout, options.read_timeout];
        Ok(Arc::new(Clients {
            plain: build(&[], &[], None, true, timeouts, options.gzip)?,
            general: OnceLock::new(),
            authorities: given,
            given: options.hosts.clone(),
            directories: options.cert_dirs.clone(),
            timeouts,
            gzip: options.gzip,
            by_host: Mutex::default(),
        }))
    }

    /// To make requests with.
    pub(super) fn plain(&self) -> &Client {
        &self.plain
    }

    /// To send a request to a URL with.
    pub(super) fn of(&self, url: &Url) -> Result<Client, Error> {
        let host = authority(url);
        let mut by_host = self.by_host.lock().expect("no holder panics");
        if !by_host.contains_key(&host) {
            by_host.insert(host.clone(), self.own(&host)?);
        }
        if let Some(own) = &by_host[&host] {
            return Ok(own.clone());
        }
        if url.scheme() == "http" {
            return Ok(self.plain.clone());
        }
        if let Some(general) = self.general.get() {
            return Ok(general.clone());
        }
        let general = build(&roots(), &self.authorities, None, true, self.timeouts, self.gzip)?;
        Ok(self.general.get_or_init(|| general).clone())
    }

    fn own(&self, host: &str) -> Result<Option<Client>, Error> {
        let mut settings: Vec<HostTls> = self.given.iter().filter(|given| given.host == host).cloned().collect();
        for directory in &self.directories {
            settings.extend(Directory::read(&directory.join(host))?.settings(host)?);
        }
        if settings.is_empty() {
            return Ok(None);
        }
        let verify = settings.iter().all(|one| one.verify);
        let roots = if verify { roots() } else { Vec::new() };
        let mut given = self.authorities.clone();
        settings.iter().flat_map(|one| &one.ca_files).try_for_each(|path| authorities(path, &mut given))?;
        let identity = settings.iter().find_map(|one| one.identity.as_ref());
        build(&roots, &given, identity, verify, self.timeouts, self.gzip).map(Some)
    }
}

/// What is in `DIR/HOST[:PORT]`, sorted by name.
#[derive(Default)]
struct Directory {
    authorities: Vec<PathBuf>,
    certificates: Vec<PathBuf>,
    keys: Vec<PathBuf>,
}

impl Directory {
    /// A directory that is not there is empty, and so is one that is not ours to read, as docker's may be.
    fn read(path: &Path) -> Result<Self, Error> {
        let mut found = Directory::default();
        for entry in fs::list(path).unwrap_or_default() {
            let of_kind = match entry.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => &mut found.authorities,
                Some("cert") => &mut found.certificates,
                Some("key") => &mut found.keys,
                _ => continue,
            };
            of_kind.push(entry);
        }
        Ok(found)
    }

    fn settings(self, host: &str) -> Result<Option<HostTls>, Error> {
        for (some, others, lacking) in
            [(&self.certificates, &self.keys, "key"), (&self.keys, &self.certificates, "cert")]
        {
            let alone = some.iter().find(|path| !others.contains(&path.with_extension(lacking)));
            if let Some(path) = alone {
                return Err(Error::Unpaired { path: path.clone(), lacking: path.with_extension(lacking) });
            }
        }
        let Directory { authorities: ca_files, certificates, .. } = self;
        if ca_files.is_empty() && certificates.is_empty() {
            return Ok(None);
        }
        let identity = certificates.into_iter().next();
        let identity =
            identity.map(|certificate| ClientIdentity { key: certificate.with_extension("key"), certificate });
        Ok(Some(HostTls { identity, ca_files, ..HostTls::new(host) }))
    }
}

/// `HOST`, or `HOST:PORT` where the port is not that of the scheme, as it stands in references to images.
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A client that trusts `roots` and what was `given` besides.
fn build(
    roots: &[CertificateDer<'static>],
    given: &[CertificateDer<'static>],
    identity: Option<&ClientIdentity>,
    verify: bool,
    [connect_timeout, read_timeout]: [Duration; 2],
    gzip: bool,
) -> Result<Client, Error> {
    let mut builder = Client::builder()
        .user_agent(concat!("haversack/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .read_timeout(read_timeout)
        .gzip(gzip)
        // Followed by `Http::send`: the next host has its own settings.
        .redirect(redirect::Policy::none());
    if verify && !given.is_empty() {
        let shown = identity.map(chain_and_key).transpose()?;
        let config = leaf::config(roots, given, shown).map_err(|source| Error::Setup { source })?;
        builder = builder.tls_backend_preconfigured(config);
    } else {
        // A host's store may hold certificates that rustls does not take; one of them must not cost the others.
        let roots = roots.iter().filter_map(|der| Certificate::from_der(der).ok());
        builder = builder.tls_certs_only(roots).tls_danger_accept_invalid_certs(!verify);
        if let Some(identity) = identity {
            builder = builder.identity(self::identity(identity)?);
        }
    }
    builder.build().map_err(|source| Error::Setup { source: Box::new(source) })
}

fn identity(files: &ClientIdentity) -> Result<Identity, Error> {
    let mut pem = fs::read(&files.certificate, PEM_LIMIT)?;
    if files.key != files.certificate {
        pem.push(b'\n');
        pem.extend(fs::read(&files.key, PEM_LIMIT)?);
    }
    Identity::from_pem(&pem).map_err(|source| Error::Certificate {
        path: files.certificate.clone(),
        what: "client certificate with its key",
        source: Box::new(source),
    })
}

/// The certificates and the key of the same, for rustls itself.
fn chain_and_key(files: &ClientIdentity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let mut chain = Vec::new();
    authorities(&files.certificate, &mut chain)?;
    let key =
        PrivateKeyDer::from_pem_slice(&fs::read(&files.key, PEM_LIMIT)?).map_err(|source| Error::Certificate {
            path: files.key.clone(),
            what: "client certificate with its key",
            source: Box::new(source),
        })?;
    Ok((chain, key))
}

fn authorities(path: &Path, found: &mut Vec<CertificateDer<'static>>) -> Result<(), Error> {
    let bytes = fs::read(path, PEM_LIMIT)?;
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        found.push(certificate.map_err(|source| Error::Certificate {
            path: path.to_owned(),
            what: "PEM certificates",
            source: Box::new(source),
        })?);
    }
    Ok(())
}

/// The trusted roots: the host's (`SSL_CERT_FILE` included), or the bundled Mozilla set where the host has none, as in
/// an image without a base.
fn roots() -> Vec<CertificateDer<'static>> {
    let started = Instant::now();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("some of the host's certificate authorities cannot be read: {error}");
    }
    let native = found.certs;
    let bundled = if native.is_empty() { webpki_root_certs::TLS_SERVER_ROOT_CERTS } else { &[] };
    let roots: Vec<_> = native.into_iter().chain(bundled.iter().cloned()).collect();
    tracing::debug!("{} trusted roots in {:?}", roots.len(), started.elapsed());
    roots
}

/// What a host has of trusted roots.
#[derive(Clone, Debug)]
pub struct RootsFound {
    /// How many; the bundled ones are trusted when there are none.
    pub native: usize,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// Looks for the host's trusted roots, as a run that speaks TLS does.
pub fn roots_found() -> RootsFound {
    let found = rustls_native_certs::load_native_certs();
    RootsFound { native: found.certs.len(), problems: found.errors.iter().map(ToString::to_string).collect() }
}

/// Certificate files are small; this only keeps a wrong path from being read into memory.
const PEM_LIMIT: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_client_of_its_own_where_something_is_said_about_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("reg.example:5000")).unwrap();
        std::fs::write(dir.path().join("reg.example:5000/ca.crt"), "").unwrap();
        let lax = HostTls { verify: false, ..HostTls::new("lax.example") };
        let options =
            HttpOptions { cert_dirs: vec![dir.path().to_owned()], hosts: vec![lax], ..HttpOptions::default() };
        let clients = Clients::new(&options).unwrap();
        for (host, own) in [
            ("reg.example:5000", true),
            ("reg.example", false),
            ("lax.example", true),
            ("lax.example:8443", false),
            ("other.example", false),
        ] {
            assert_eq!(clients.own(host).unwrap().is_some(), own, "{host}");
        }
    }

    #[test]
    fn half_a_client_certificate_and_one_for_everybody_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("reg.example");
        std::fs::create_dir_all(&host).unwrap();
        let options = || HttpOptions { cert_dirs: vec![dir.path().to_owned()], ..HttpOptions::default() };
        let own = || Clients::new(&options()).unwrap().own("reg.example").map(|own| own.is_some());
        for (name, lacking) in [("a.cert", "a.key"), ("b.key", "b.cert")] {
            std::fs::write(host.join(name), "").unwrap();
            let expected = format!("{}: {} is not there", host.join(name).display(), host.join(lacking).display());
            assert_eq!(own().unwrap_err().to_string(), expected);
            std::fs::remove_file(host.join(name)).unwrap();
        }
        std::fs::write(dir.path().join("me.cert"), "").unwrap();
        let error = Clients::new(&options()).map(|_| ()).unwrap_err().to_string();
        let expected = format!("{}: a client certificate is for one host", dir.path().join("me.cert").display());
        assert_eq!(error, expected);
    }
}
