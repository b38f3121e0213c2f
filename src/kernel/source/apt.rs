//! apt repositories: `dists/SUITE/InRelease`, and the `Packages` that it lists with their digests.
//!
//! With a key ring the signature of `InRelease` (or of `Release` in `Release.gpg`) must be right, and everything behind it
//! hangs on its digests; without one the digests only guard against damage, and a warning says so. `Valid-Until` is kept,
//! so that nobody can hold back security updates by serving an old state. Indexes are fetched by their digest where the
//! repository offers that, because a mirror in the middle of an update has old and new files side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use url::Url;

use crate::causes;
use crate::compression::{LimitedReader, decoder, read_ahead};
use crate::fs;
use crate::http::{self, Http};
use crate::kernel::checksum::Checksum;
use crate::kernel::package::Package;
use crate::kernel::source::cache::Cache;
use crate::kernel::source::keyring::Keyring;
use crate::kernel::source::stanzas::parse_packages;
use crate::kernel::source::transfer::{self, Expected};
use crate::kernel::source::{Error, Listing, Options, is_missing, rpm_md};
use crate::kernel::unpack::deb::fields;
use crate::limits;
use crate::reference;

/// A suite of an apt repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AptRepository {
    /// The directory that holds `dists` and `pool`.
    pub base: Url,
    /// `bookworm`, `bookworm-security`.
    pub suite: String,
    /// `main` and others.
    pub components: Vec<String>,
    /// Architectures that its line in `sources.list` names; those that are asked for, when empty.
    pub architectures: Vec<String>,
    /// The key ring that its line names; the one of the run comes first.
    pub signed_by: Option<PathBuf>,
}

/// What `InRelease` says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Release {
    valid_until: Option<Timestamp>,
    by_hash: bool,
    /// Whether packages for all machines are in indexes of their own.
    has_all: bool,
    /// By path below `dists/SUITE`.
    files: BTreeMap<String, Expected>,
}

/// Lists the kernel packages of a suite.
pub(super) async fn packages(http: &Http, apt: &AptRepository, options: &Options) -> Result<Listing, Error> {
    let options = &match &apt.signed_by {
        Some(path) if options.keyring.is_none() => {
            let keyring = Keyring::read(&fs::read(path, limits::KEYRING)?);
            let keyring = keyring.map_err(|source| Error::Keyring { path: path.clone(), source })?;
            Options { keyring: Some(Arc::new(keyring)), ..options.clone() }
        }
        _ => options.clone(),
    };
    let dist = match apt.is_flat() {
        true => join(&apt.base, &format!("{}/", apt.suite.trim_matches(['/', '.'])))?,
        false => join(&apt.base, &format!("dists/{}/", apt.suite))?,
    };
    let (text, signature) = match release_text(http, &dist, options).await {
        Err(Error::Http(error)) if is_missing(&error) && !apt.is_flat() => return Err(not_there(http, apt).await),
        text => text?,
    };
    let release = Release::parse(&text).map_err(|why| Error::malformed(&dist, why))?;
    if let Some(any) = release.files.values().next() {
        any.is_good_enough(&dist, options)?;
    }
    if let Some(until) = release.valid_until.filter(|until| *until < options.now && !options.allow_expired) {
        return Err(Error::Expired { url: Box::new(dist), until });
    }
    let machines: Vec<&str> = match &options.machines[..] {
        [] if !apt.architectures.is_empty() => apt.architectures.iter().map(String::as_str).collect(),
        [] => vec!["amd64"],
        machines => machines.iter().map(|machine| debian_name(machine.as_str())).collect(),
    };
    let mut parts: Vec<String> = Vec::new();
    if apt.is_flat() {
        parts.push(String::new());
    }
    for component in &apt.components {
        // security.debian.org calls its components updates/main and keeps them in main.
        let component = component.strip_prefix("updates/").unwrap_or(component);
        parts.extend(machines.iter().map(|machine| format!("{component}/binary-{machine}/")));
        let all = format!("{component}/binary-all/");
        // Where it is listed and not said to be in the others as well.
        if release.has_all && release.indexes(&all).next().is_some() {
            parts.push(all);
        }
    }
    let (mut listing, mut read, mut first) = (Listing::default(), 0, None);
    listing.unchecked = (signature == Signature::Unchecked).then(|| dist.clone());
    for part in parts {
        match index_of(http, apt, &dist, &release, &part, options).await {
            Ok(found) => {
                read += 1;
                listing.packages.extend(found.packages);
                listing.problems.extend(found.problems);
            }
            // A component or machine that is not there costs only itself.
            Err(error) => {
                listing.problems.push(match error {
                    Error::NoComponent { .. } => causes::line(&error),
                    _ => format!("{}{part}: {}", http::shown(&dist), causes::line(&error)),
                });
                first = first.or(Some(error));
            }
        }
    }
    if apt.is_flat() {
        let is_for = |package: &Package| {
            let architecture = &*package.name.architecture;
            architecture == "all" || machines.contains(&architecture)
        };
        listing.packages.retain(is_for);
    }
    match first {
        Some(error) if read == 0 => Err(error),
        _ => Ok(listing),
    }
}

/// The packages of one index.
async fn index_of(
    http: &Http,
    apt: &AptRepository,
    dist: &Url,
    release: &Release,
    part: &str,
    options: &Options,
) -> Result<Listing, Error> {
    let file = smallest(http, dist, release, part, options.cache.as_ref()).await?;
    let (base, wanted) = (apt.base.clone(), options.wanted);
    let parsed = tokio::task::spawn_blocking(move || {
        let (_, reader) = decoder(BufReader::with_capacity(256 << 10, file))?;
        read_ahead(LimitedReader::new(reader, INDEX_LIMIT), |index| parse_packages(index, &base, wanted))
    });
    let parsed = parsed.await.expect("reading an index does not panic");
    parsed.map_err(|source| Error::Index { url: Box::new(dist.clone()), source })
}

impl AptRepository {
    /// Whether its index lies beside the packages: NVIDIA's, those of the Open Build Service.
    fn is_flat(&self) -> bool {
        self.suite.ends_with('/')
    }
}

/// What is known of a signature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signature {
    /// A trusted key made it.
    Checked,
    /// There is one, and no key ring to check it with.
    Unchecked,
    /// There is none.
    Absent,
}

async fn release_text(http: &Http, dist: &Url, options: &Options) -> Result<(String, Signature), Error> {
    let (keyring, cache) = (options.keyring.as_deref(), options.cache.as_ref());
    let url = join(dist, "InRelease")?;
    let untrusted = |url: &Url| {
        let url = Box::new(url.clone());
        move |source| Error::Signature { url, source }
    };
    match transfer::small(http, &url, RELEASE_LIMIT, cache).await {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| Error::malformed(&url, "it is no text"))?;
            match keyring {
                Some(keyring) => {
                    let text = keyring.verify_cleartext(&text).map_err(untrusted(&url))?;
                    Ok((text, Signature::Checked))
                }
                None if text.contains(ARMOR) => Ok((text, Signature::Unchecked)),
                None => Ok((text, Signature::Absent)),
            }
        }
        Err(error) if is_missing(&error) => {
            let url = join(dist, "Release")?;
            let bytes = transfer::small(http, &url, RELEASE_LIMIT, cache).await?;
            let detached = join(dist, "Release.gpg")?;
            let signature = match keyring {
                Some(keyring) => {
                    let signature = transfer::small(http, &detached, RELEASE_LIMIT, cache).await?;
                    keyring.verify_detached(&bytes, &signature).map_err(untrusted(&url))?;
                    Signature::Checked
                }
                None if transfer::is_there(http, &detached).await => Signature::Unchecked,
                None => Signature::Absent,
            };
            let text = String::from_utf8(bytes).map_err(|_| Error::malformed(&url, "it is no text"))?;
            Ok((text, signature))
        }
        Err(error) => Err(error.into()),
    }
}

/// Why there is no `Release` file: tells a suite that the repository does not have from a path that leads to no repository.
async fn not_there(http: &Http, apt: &AptRepository) -> Error {
    let (url, suite) = (Box::new(apt.base.clone()), apt.suite.clone());
    let Ok(dists) = join(&apt.base, "dists") else { return Error::NoAptRepository { url, suite } };
    match transfer::small(http, &rpm_md::directory(&dists), LISTING_LIMIT, None).await {
        Ok(page) => Error::NoSuite { known: listed(&String::from_utf8_lossy(&page)), url, suite },
        // Many servers list no directories, and say so in other ways than that it is not there.
        Err(error) => match error.status_code().map(|status| status.as_u16()) {
            Some(404 | 410) => Error::NoAptRepository { url, suite },
            _ => Error::NoSuite { known: Vec::new(), url, suite },
        },
    }
}

/// The directories that a server's page for a directory leads to.
fn listed(page: &str) -> Vec<String> {
    let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split_once("/\"")).map(|(name, _)| name);
    let is_name = |name: &&str| {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'+');
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(is_usual)
    };
    let names: BTreeSet<&str> = links.filter(is_name).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// Fetches an index in the smallest form that is stated, or, where a mirror lacks that one, in the next.
async fn smallest(
    http: &Http,
    dist: &Url,
    release: &Release,
    directory: &str,
    cache: Option<&Cache>,
) -> Result<std::fs::File, Error> {
    let mut missing = None;
    for stated in release.indexes(directory) {
        match index(http, dist, stated, release.by_hash, cache).await {
            Err(Error::Http(error)) if is_missing(&error) => missing = missing.or(Some(error)),
            result => return result,
        }
    }
    let unlisted = || Error::NoComponent {
        url: Box::new(dist.clone()),
        part: directory.trim_end_matches('/').to_owned(),
        known: release.parts(),
    };
    Err(missing.map_or_else(unlisted, Error::from))
}

async fn index(
    http: &Http,
    dist: &Url,
    (path, expected): (&str, &Expected),
    by_hash: bool,
    cache: Option<&Cache>,
) -> Result<std::fs::File, Error> {
    if by_hash {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let url =
            join(dist, &format!("{directory}/by-hash/{}/{}", expected.digest.directory(), expected.digest.hex()))?;
        match transfer::large(http, &url, expected, cache).await {
            Err(Error::Http(error)) if is_missing(&error) => {}
            result => return result,
        }
    }
    transfer::large(http, &join(dist, path)?, expected, cache).await
}

impl Release {
    /// Reads the fields of a Release file, signed or not. The error says why it is of no use.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        // An unverified InRelease still has its armour around it.
        let text = &text.replace("\r\n", "\n");
        let text = match text.split_once(ARMOR) {
            Some((_, rest)) => {
                let text = rest.split_once("\n\n").ok_or(UNUSABLE)?.1;
                text.split("-----BEGIN PGP SIGNATURE-----").next().unwrap_or_default()
            }
            None => text,
        };
        let fields = fields(text);
        // The strongest that there is.
        let kinds = ["sha512", "sha256", "sha384", "sha224", "sha1", "md5sum"];
        let mut kinds = ["sha256"].into_iter().chain(kinds);
        let kind = kinds.find(|kind| fields.contains_key(*kind)).ok_or(UNUSABLE)?;
        let files = fields[kind].lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let digest = Checksum::new(kind, words.next()?)?;
            let size = words.next()?.parse().ok()?;
            let path = words.next()?;
            Some((path.strip_prefix("./").unwrap_or(path).to_owned(), Expected { digest, size: Some(size) }))
        });
        let date = |text: &String| Some(jiff::fmt::rfc2822::parse(&text.replace(" UTC", " GMT")).ok()?.timestamp());
        let valid_until = match fields.get("valid-until") {
            // A date that cannot be read is no reason to believe for ever.
            Some(text) => Some(date(text).ok_or("its Valid-Until is not a date")?),
            None => None,
        };
        Ok(Release {
            valid_until,
            by_hash: fields.get("acquire-by-hash").is_some_and(|value| value == "yes"),
            has_all: fields.get("architectures").is_some_and(|value| value.split_whitespace().any(|it| it == "all"))
                && fields.get("no-support-for-architecture-all").is_none_or(|value| value != "Packages"),
            files: files.collect(),
        })
    }

    /// The components with their machines: `main/binary-amd64`.
    fn parts(&self) -> Vec<String> {
        let parts = self.files.keys().filter_map(|path| path.rsplit_once("/Packages")).map(|(part, _)| part);
        let parts: BTreeSet<&str> = parts.filter(|part| part.contains("/binary-")).collect();
        parts.into_iter().map(str::to_owned).collect()
    }

    /// The forms of an index, whose path begins with `directory` and its slash, the smallest first.
    fn indexes(&self, directory: &str) -> impl Iterator<Item = (&str, &Expected)> {
        ["xz", "zst", "bz2", "gz"]
            .into_iter()
            .map(move |ending| format!("{directory}Packages.{ending}"))
            .chain([format!("{directory}Packages")])
            .filter_map(|path| self.files.get_key_value(&path))
            .map(|(path, expected)| (&**path, expected))
    }
}

/// Joins a path to a base that is a directory, whether or not it ends in a slash. The path cannot lead to another host.
pub(super) fn join(base: &Url, path: &str) -> Result<Url, Error> {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let below = reference::url_below(base, parts);
    below.map_err(|_| Error::malformed(base, "a path in it leads elsewhere"))
}

fn debian_name(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" => "armhf",
        "i686" => "i386",
        "ppc64le" => "ppc64el",
        other => other,
    }
}

const RELEASE_LIMIT: u64 = 16 << 20;
/// A page with the suites of a repository.
const LISTING_LIMIT: u64 = 1 << 20;
/// All of Debian's main, the largest there is, has 60 MiB.
const INDEX_LIMIT: u64 = 2 << 30;
/// Stands before a text that is signed.
const ARMOR: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
/// What is said of a text that is something else.
const UNUSABLE: &str = "no usable Release file";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::source::Wanted;

    proptest! {
        /// Fields in any order, twice, without values, with other bytes in them; and no fields at all.
        #[test]
        fn no_text_makes_reading_an_index_or_a_release_panic(
            fields in prop::collection::vec((0..14_usize, "[ -~é\n]{0,24}"), 0..12),
            noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            const FIELDS: [&str; 14] = [
                "Package: linux-headers-6.1.0-1-amd64", "Package", "Version", "Architecture", "Depends", "Provides",
                "Filename", "Size", "SHA256", " ", "", "Valid-Until", "Acquire-By-Hash", "-----BEGIN PGP SIGNED MESSAGE-----",
            ];
            let text: String = fields.iter().map(|(field, value)| format!("{}: {value}\n", FIELDS[*field])).collect();
            let base = "https://h/debian".parse().unwrap();
            let _ = Release::parse(&text);
            for bytes in [text.as_bytes(), &noise, &[text.as_bytes(), &noise].concat()] {
                for wanted in [Wanted::Kernels, Wanted::All] {
                    let Listing { packages, .. } = parse_packages(bytes, &base, wanted).unwrap();
                    // What is taken for a package stays in the repository and has a file's name.
                    for package in packages {
                        prop_assert!(package.location.starts_with("https://h/debian/"), "{}", package.location);
                        prop_assert!(!package.name.to_string().contains('/'));
                    }
                }
            }
        }
    }

    #[test]
    fn paths_cannot_leave_the_repository() {
        let base = "https://h/debian/".parse().unwrap();
        assert_eq!(join(&base, "pool/a+b.deb").unwrap().as_str(), "https://h/debian/pool/a+b.deb");
        assert_eq!(join(&base, "https://evil/x").unwrap().host_str(), Some("h"));
        assert!(join(&base, "../../x").is_err());
    }
}
