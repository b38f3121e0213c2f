//! TLS: a certificate that is given, or one of an authority of our own.
//!
//! Nodes trust an authority once. So it is the authority that is kept (`ca.crt`, and `ca.key`, which nobody else may read), and the
//! certificate is made anew at each start and each month, with all names that this host has: none runs out while nobody looks,
//! and no node has to be touched again (mirror-registry's pull request 132 and others tell what happens else).

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use x509_cert::der::Decode as _;

use crate::digest::Digest;
use crate::fs::{self, PathContext, PathError};
use crate::serve::stamp::Stamp;

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum Identity {
    /// PEM files, read again when they change.
    Files {
        /// The certificate, and those between it and its authority's.
        certificate: PathBuf,
        /// Its key, not encrypted.
        key: PathBuf,
    },
    /// An authority in this directory, made there when there is none.
    Own {
        /// The directory.
        directory: PathBuf,
        /// Names and addresses beside those that the host has.
        names: Vec<String>,
    },
}

impl Identity {
    /// An authority in this directory, for these names with or without ports and for the address that is listened at.
    pub fn own(directory: PathBuf, names: &[String], listen: IpAddr) -> Self {
        let mut names: Vec<String> = names.iter().map(|name| host(name).to_owned()).collect();
        names.extend((!listen.is_unspecified()).then(|| listen.to_string()));
        Identity::Own { directory, names }
    }
}

/// A name without its port.
fn host(name: &str) -> &str {
    let host = match name.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => name,
    };
    host.trim_matches(['[', ']'])
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that is not what it should be.
    #[error("{}: no {what} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// `certificate` or `key`.
        what: &'static str,
    },
    /// The two do not belong together, or are of a kind that is not known.
    #[error("{}: the certificate cannot be used with this key", path.display())]
    Pair {
        /// The certificate.
        path: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// A name that no certificate can have.
    #[error("a certificate cannot be made")]
    Make(#[from] rcgen::Error),
    /// The key of an authority that others may read is not one.
    #[error("{}: others than its owner may read or replace it", .0.display())]
    Exposed(PathBuf),
    /// A file.
    #[error("{0}")]
    Path(#[from] PathError),
}

/// What a server shows to clients, and how it is kept fresh.
pub(super) struct Tls {
    pub(super) config: Arc<rustls::ServerConfig>,
    current: Arc<Current>,
    again: Arc<Notify>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().expect("no holder panics").clone())
    }
}

impl Tls {
    /// Reads or makes the certificate, and keeps it fresh. Within a runtime.
    pub(super) fn new(identity: Identity) -> Result<Self, Error> {
        let current = Arc::new(Current(RwLock::new(Arc::new(identity.load()?))));
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3");
        let mut config = builder.with_no_client_auth().with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let kept = Arc::downgrade(&current);
        let again: Arc<Notify> = Arc::default();
        let asked = again.clone();
        tokio::spawn(async move {
            let mut seen = identity.stamp();
            let mut age = 0;
            loop {
                let is_asked = tokio::select! { () = tokio::time::sleep(LOOK) => false, () = asked.notified() => true };
                let Some(current) = kept.upgrade() else { return };
                (age, seen) = match identity.stamp() {
                    now if now == seen && age < RENEW && !is_asked => (age + 1, seen),
                    now => {
                        match identity.load() {
                            Ok(fresh) => *current.0.write().expect("no holder panics") = Arc::new(fresh),
                            Err(error) => {
                                tracing::error!("the certificate stays as it was: {}", crate::causes::line(&error));
                            }
                        }
                        (0, now)
                    }
                };
            }
        });
        Ok(Tls { config: Arc::new(config), current, again })
    }

    /// When the certificate that is shown now ends; `None` where that cannot be told.
    pub(super) fn ends(&self) -> Option<jiff::Timestamp> {
        let current = self.current.0.read().expect("no holder panics").clone();
        let certificate = x509_cert::Certificate::from_der(current.cert.first()?).ok()?;
        let ends = certificate.tbs_certificate.validity.not_after.to_unix_duration();
        jiff::Timestamp::from_second(ends.as_secs().try_into().ok()?).ok()
    }

    /// Has the certificate read or made again now.
    pub(super) fn reload(&self) {
        self.again.notify_one();
    }
}

impl Identity {
    fn stamp(&self) -> [Option<Stamp>; 2] {
        match self {
            Identity::Files { certificate, key } => [Stamp::at(certificate), Stamp::at(key)],
            Identity::Own { .. } => [None, None],
        }
    }

    fn load(&self) -> Result<CertifiedKey, Error> {
        match self {
            Identity::Files { certificate, key } => {
                let unusable = |path: &Path, what| Error::Pem { path: path.to_owned(), what };
                let pem = fs::read(certificate, PEM)?;
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
                let chain = chain.ok().filter(|chain| !chain.is_empty());
                let chain = chain.ok_or_else(|| unusable(certificate, "certificate"))?;
                let secret = PrivateKeyDer::from_pem_slice(&fs::read(key, PEM)?).map_err(|_| unusable(key, "key"))?;
                pair(chain, secret, certificate)
            }
            Identity::Own { directory, names } => {
                let authority = Authority::open(directory)?;
                let (leaf, key) = authority.issue(&all_names(names))?;
                pair(vec![leaf], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())), directory)
            }
        }
    }
}

fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>, path: &Path) -> Result<CertifiedKey, Error> {
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|source| Error::Pair { path: path.to_owned(), source })
}

/// An authority of our own. What it is follows from its key, so that nothing else need be read to sign.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn open(directory: &Path) -> Result<Self, Error> {
        let (key_path, path) = (directory.join("ca.key"), directory.join("ca.crt"));
        fs::create_dir_all(directory)?;
        if std::fs::symlink_metadata(&key_path).is_err() {
            // Two that start at one time must not have two authorities.
            let _lock = fs::Lock::wait(&directory.join(".ca.lock"))?;
            if std::fs::symlink_metadata(&key_path).is_err() {
                write_secret(&key_path, KeyPair::generate()?.serialize_pem().as_bytes())?;
            }
        }
        let found = std::fs::symlink_metadata(&key_path).at("read", &key_path)?;
        if found.permissions().mode() & 0o077 != 0 || fs::is_writable_by_others(&key_path).at("read", &key_path)? {
            return Err(Error::Exposed(key_path));
        }
        let pem = String::from_utf8(fs::read_regular(&key_path, PEM)?).unwrap_or_default();
        let key = KeyPair::from_pem(&pem).map_err(|_| Error::Pem { path: key_path, what: "key" })?;
        let mut params = CertificateParams::new(Vec::new())?;
        let mark = Digest::sha256(key.public_key_raw());
        params.distinguished_name.push(DnType::CommonName, format!("haversack serve {}", &mark.hex()[..12]));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, 20 * 365);
        if !path.exists() {
            fs::write(&path, params.self_signed(&key)?.pem().as_bytes())?;
        }
        Ok(Authority { issuer: Issuer::new(params, key) })
    }

    fn issue(&self, names: &[String]) -> Result<(CertificateDer<'static>, KeyPair), Error> {
        let mut params = CertificateParams::new(names.to_vec())?;
        let first = names.first().map_or("haversack", String::as_str);
        params.distinguished_name.push(DnType::CommonName, first.get(..64).unwrap_or(first));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, 365);
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok((leaf.der().clone(), key))
    }
}

/// A certificate's own clock counts from midnight.
fn set_validity(params: &mut CertificateParams, days: i32) {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let [from, to] = [-2, days].map(|days| {
        let date = today.saturating_add(jiff::Span::new().days(days));
        let number = |n: i8| n.unsigned_abs();
        rcgen::date_time_ymd(date.year().into(), number(date.month()), number(date.day()))
    });
    // The clocks of hosts without a network are wrong.
    (params.not_before, params.not_after) = (from, to);
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), PathError> {
    let mut file = fs::create_new(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).at("set the permissions of", path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).at("write", path)
}

/// The names that are given, and those that the kernel knows of.
fn all_names(given: &[String]) -> Vec<String> {
    let mut names: Vec<String> = given.to_vec();
    let read = |path: &str| fs::read(Path::new(path), PEM).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let host = read("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    names.extend((!host.is_empty() && host != "(none)").then_some(host));
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    names.extend(addresses(&read("/proc/net/fib_trie").unwrap_or_default()));
    names.extend(addresses_6(&read("/proc/net/if_inet6").unwrap_or_default()));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// This host's addresses in `/proc/net/fib_trie`: a line with the address, and one that says `/32 host LOCAL`.
fn addresses(trie: &str) -> Vec<String> {
    let lines: Vec<&str> = trie.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter(|pair| pair[1].starts_with("/32 host LOCAL"));
    let found = pairs.filter_map(|pair| pair[0].strip_prefix("|-- ")?.parse::<IpAddr>().ok());
    found.map(|address| address.to_string()).collect()
}

/// This host's addresses in `/proc/net/if_inet6`, but those of one link.
fn addresses_6(table: &str) -> Vec<String> {
    let address = |line: &str| {
        let bits = u128::from_str_radix(line.split_whitespace().next()?, 16).ok()?;
        let address = std::net::Ipv6Addr::from(bits);
        (!address.is_unicast_link_local()).then(|| address.to_string())
    };
    table.lines().filter_map(address).collect()
}

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// After so many looks a certificate is made anew: a month.
const RENEW: u32 = 30 * 24 * 60 * 2;
/// Certificate files are small; this only keeps a wrong path from being read into memory.
const PEM: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_addresses_are_read_from_the_kernels_tables() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.1.2.0\n        /24 link UNICAST\n     |-- 10.1.2.3\n        \
                    /32 host LOCAL\n     |-- 10.1.2.255\n        /32 link BROADCAST\n";
        assert_eq!(addresses(trie), ["10.1.2.3"]);
        let table = "00000000000000000000000000000001 01 80 10 80 lo\nfe800000000000000000000000000001 02 40 20 80 eth0\n\
                     fd000000000000000000000000000005 02 40 00 80 eth0\n";
        assert_eq!(addresses_6(table), ["::1", "fd00::5"]);
    }

    #[test]
    fn the_authority_is_kept_and_its_key_is_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let own = Identity::Own { directory: dir.path().join("ca"), names: vec!["bastion.example".to_owned()] };
        own.load().unwrap();
        let read = |name: &str| std::fs::read(dir.path().join("ca").join(name)).unwrap();
        let (crt, key) = (read("ca.crt"), read("ca.key"));
        own.load().unwrap();
        assert!(read("ca.crt") == crt && read("ca.key") == key);
        let path = dir.path().join("ca/ca.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(own.load(), Err(Error::Exposed(_))));
    }
}
