//! A package as a repository or a directory offers it: its name taken apart, where it is, what it needs.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::kernel::checksum::Checksum;
use crate::kernel::version::Order;

/// The two formats in which distributions ship kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// RPM, of Red Hat, Fedora, SUSE, Oracle, Amazon, Photon.
    Rpm,
    /// Debian's, also Ubuntu's and Garden Linux's.
    Deb,
}

/// What a package is called: the parts of its file name.
///
/// `FromStr` reads a file name, a path or a URL; `Display` writes the file name. They round-trip for names without an
/// epoch, which file names do not carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Name {
    /// The package's name: `kernel-devel`, `linux-headers-6.1.0-56-amd64`.
    pub name: String,
    /// Its version, with the release after a dash for rpm, without an epoch: `5.14.0-427.68.1.el9_4`, `6.1.192-2`.
    pub version: String,
    /// Its architecture in its own distribution's words: `x86_64`, `noarch`, `amd64`, `all`.
    pub architecture: String,
    /// Its format.
    pub format: Format,
}

/// A package and where it can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// What it is called.
    pub name: Name,
    /// Where it is: a URL, or a path for a local file.
    pub location: String,
    /// Its size in bytes, where the source says it.
    pub size: Option<u64>,
    /// The SHA-256 digest of the whole file, where the source says it.
    pub sha256: Option<Digest>,
    /// A digest of another kind that the source states in place of SHA-256: of an old repository SHA-1, which only tells damage.
    pub checksum: Option<Checksum>,
    /// Whether an index or a list stated the SHA-256 digest. A digest computed from the file itself proves nothing about it.
    pub is_digest_stated: bool,
    /// What it needs and offers, where metadata was read; `None` when only the file name is known.
    pub relations: Option<Relations>,
    /// Who made it, as an rpm's `Vendor` says.
    pub vendor: Option<String>,
}

/// What a package says about others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    /// All of these, each of them any one of several.
    pub depends: Vec<Vec<Relation>>,
    /// What it offers beside its own name; for an rpm also the paths that others may ask for.
    pub provides: Vec<Relation>,
    /// What it cannot be beside (`Conflicts`, and Debian's `Breaks`).
    pub conflicts: Vec<Relation>,
    /// The packages whose place it takes (rpm's `Obsoletes`), by their names.
    pub obsoletes: Vec<Relation>,
    /// The epoch of its version, which [`Name`] does not carry.
    pub epoch: u32,
    /// What `uname -r` prints on the kernel that its files are for, where their paths tell (`lib/modules/RELEASE`).
    pub release: Option<String>,
}

/// Another package or a capability, with or without a bound on its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The name of the package or capability.
    pub name: String,
    /// `=`, `>=`, `<=`, `>>` or `<<`, and the version.
    pub version: Option<(Comparison, String)>,
}

/// How versions must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `>>`, or `>` in rpm
    Later,
    /// `<<`, or `<` in rpm
    Earlier,
}

/// A text that is no file name of a package.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// It ends neither in `.rpm` nor in `.deb`.
    #[error("`{0}` is neither an rpm nor a deb")]
    UnknownFormat(String),
    /// Parts are missing.
    #[error("`{0}` is not NAME-VERSION-RELEASE.ARCH.rpm")]
    NotRpm(String),
    /// Parts are missing.
    #[error("`{0}` is not NAME_VERSION_ARCH.deb")]
    NotDeb(String),
}

impl Format {
    /// How its versions are ordered.
    pub fn order(self) -> Order {
        match self {
            Format::Rpm => Order::Rpm,
            Format::Deb => Order::Deb,
        }
    }
}

impl Package {
    /// A package of which only the place is known, named by its file name.
    pub fn from_location(location: &str) -> Result<Self, NameError> {
        Ok(Package {
            name: location.parse()?,
            location: location.to_owned(),
            size: None,
            sha256: None,
            checksum: None,
            is_digest_stated: false,
            relations: None,
            vendor: None,
        })
    }
}

impl Package {
    /// Whether the source states a digest of any kind, so that it is known when the right file is there.
    pub fn has_digest(&self) -> bool {
        self.sha256.is_some() || self.checksum.is_some()
    }

    /// Whether it fulfils a relation, by its name or by what it provides.
    pub fn offers(&self, relation: &Relation) -> bool {
        let order = self.name.format.order();
        let is_provided = |provided: &Relation| {
            provided.name == relation.name
                && match (&relation.version, &provided.version) {
                    (None, _) => true,
                    (Some((comparison, bound)), Some((_, version))) => {
                        comparison.holds(order.compare_with_bound(version, bound))
                    }
                    // Debian: what is provided without a version fulfils no bound (policy 7.5); rpm: any.
                    (Some(_), None) => order == Order::Rpm,
                }
        };
        relation.admits(&self.name.name, &self.name.version, order)
            || self.relations.iter().flat_map(|relations| &relations.provides).any(is_provided)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let path = if text.contains("://") { text.split(['?', '#']).next().unwrap_or_default() } else { text };
        let file = unescape(path.rsplit('/').next().unwrap_or_default());
        let parts = |name: &str, version: String, architecture: &str, format| {
            let all = [name, &version, architecture];
            let fine = all.iter().all(|part| !part.is_empty() && !part.contains(|c: char| c.is_control() || c == '/'));
            fine.then(|| Name { name: name.into(), version, architecture: architecture.into(), format })
        };
        if let Some(stem) = file.strip_suffix(".rpm") {
            let name = || {
                let (rest, architecture) = stem.rsplit_once('.')?;
                let (rest, release) = rest.rsplit_once('-')?;
                let (name, version) = rest.rsplit_once('-')?;
                if version.is_empty() || release.is_empty() {
                    return None;
                }
                parts(name, format!("{version}-{release}"), architecture, Format::Rpm)
            };
            return name().ok_or_else(|| NameError::NotRpm(file.clone()));
        }
        if let Some(stem) = file.strip_suffix(".deb").or_else(|| file.strip_suffix(".ddeb")) {
            let name = || {
                let (rest, architecture) = stem.rsplit_once('_')?;
                let (name, version) = rest.split_once('_')?;
                // An epoch is left out of file names by archives, and written as `%3a` by apt's cache.
                let version = version.split_once(':').map_or(version, |(_, version)| version);
                parts(name, version.to_owned(), architecture, Format::Deb)
            };
            return name().ok_or_else(|| NameError::NotDeb(file.clone()));
        }
        Err(NameError::UnknownFormat(file))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Name { name, version, architecture, format } = self;
        match format {
            Format::Rpm => write!(f, "{name}-{version}.{architecture}.rpm"),
            Format::Deb => write!(f, "{name}_{version}_{architecture}.deb"),
        }
    }
}

impl Relations {
    /// Reads the fields of a Debian package (deb-control(5)), of which those that it lacks are empty.
    pub fn from_deb_fields(fields: &BTreeMap<String, String>) -> Self {
        let field = |name: &str| fields.get(name).map_or("", String::as_str);
        let depends = format!("{},{}", field("depends"), field("pre-depends"));
        let conflicts = format!("{},{}", field("conflicts"), field("breaks"));
        Relations {
            conflicts: Relations::from_deb(&conflicts, "").depends.into_iter().flatten().collect(),
            epoch: field("version").split_once(':').and_then(|(epoch, _)| epoch.parse().ok()).unwrap_or(0),
            ..Relations::from_deb(&depends, field("provides"))
        }
    }

    /// Reads Debian's `Depends` and `Provides` fields.
    pub fn from_deb(depends: &str, provides: &str) -> Self {
        let list = |text: &str| -> Vec<Vec<Relation>> {
            text.split(',')
                .map(|group| group.split('|').filter_map(Relation::from_deb).collect::<Vec<_>>())
                .filter(|group| !group.is_empty())
                .collect()
        };
        let provides = list(provides).into_iter().flatten().collect();
        Relations { depends: list(depends), provides, ..Relations::default() }
    }
}

impl Relation {
    /// Reads one relation of a Debian field, `gcc (>= 4:12)`.
    pub(crate) fn from_deb(text: &str) -> Option<Self> {
        let text = text.trim();
        let (name, bound) = match text.split_once('(') {
            Some((name, bound)) => (name.trim(), bound.split_once(')')?.0.trim()),
            None => (text, ""),
        };
        // `python3:any` asks for any architecture; `[amd64]` is for sources only.
        let name = name.split([':', '[', ' ']).next().unwrap_or_default();
        if name.is_empty() {
            return None;
        }
        let version = SIGNS
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, bound.strip_prefix(sign)?.trim().to_owned())));
        Some(Relation { name: name.to_owned(), version })
    }

    /// Reads what [`Display`](fmt::Display) writes. Names of rpm capabilities may have blanks and parentheses in them.
    pub fn parse(text: &str) -> Self {
        let bounded = || {
            let (name, bound) = text.strip_suffix(')')?.rsplit_once(" (")?;
            let (sign, version) = bound.split_once(' ')?;
            let comparison = SIGNS.iter().find(|(known, _)| *known == sign)?.1;
            Some(Relation { name: name.to_owned(), version: Some((comparison, version.to_owned())) })
        };
        bounded().unwrap_or_else(|| Relation { name: text.to_owned(), version: None })
    }

    /// Whether a package with this name and version fulfils the relation. An epoch on either side alone is overlooked,
    /// because file names do not carry one.
    pub fn admits(&self, name: &str, version: &str, order: Order) -> bool {
        if name != self.name {
            return false;
        }
        let Some((comparison, bound)) = &self.version else { return true };
        let bound = if version.contains(':') { bound } else { bound.split_once(':').map_or(bound.as_str(), |b| b.1) };
        comparison.holds(order.compare_with_bound(version, bound))
    }
}

impl Comparison {
    /// Whether a version that compares so with the bound fulfils it.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::AtLeast => order.is_ge(),
            Comparison::AtMost => order.is_le(),
            Comparison::Later => order.is_gt(),
            Comparison::Earlier => order.is_lt(),
        }
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let Some((comparison, version)) = &self.version else { return Ok(()) };
        let sign = SIGNS.iter().find(|(_, known)| known == comparison).map_or("=", |(sign, _)| sign);
        write!(f, " ({sign} {version})")
    }
}

/// How comparisons are written, longer signs first.
const SIGNS: &[(&str, Comparison)] = &[
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">>", Comparison::Later),
    ("<<", Comparison::Earlier),
    ("=", Comparison::Equal),
];

/// Undoes `%2B` and the like, which URLs and apt's cache put into file names.
fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(code) if bytes[at] == b'%' => {
                plain.push(code);
                at += 3;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_taken_apart_and_put_together() {
        for (file, name, version, architecture) in [
            ("kernel-rt-devel-4.18.0-305.rt7.72.el8.x86_64.rpm", "kernel-rt-devel", "4.18.0-305.rt7.72.el8", "x86_64"),
            ("linux-kbuild-6.1_6.1.192-2_amd64.deb", "linux-kbuild-6.1", "6.1.192-2", "amd64"),
            (
                "linux-headers-6.12.117+deb12-amd64_6.12.117-1~deb12u1_amd64.deb",
                "linux-headers-6.12.117+deb12-amd64",
                "6.12.117-1~deb12u1",
                "amd64",
            ),
        ] {
            let parsed: Name = file.parse().unwrap();
            assert_eq!((&*parsed.name, &*parsed.version, &*parsed.architecture), (name, version, architecture));
            assert_eq!(parsed.to_string(), file);
        }
        let url = "https://h/pool/linux-headers-6.12.117%2Bdeb12-amd64_1%3a6.12.117-1_amd64.deb?x=/y";
        assert_eq!(url.parse::<Name>().unwrap().to_string(), "linux-headers-6.12.117+deb12-amd64_6.12.117-1_amd64.deb");
    }

    #[test]
    fn texts_that_are_no_package_names_are_refused() {
        for (text, error) in [
            ("", NameError::UnknownFormat("".into())),
            ("vmlinuz", NameError::UnknownFormat("vmlinuz".into())),
            ("kernel.rpm", NameError::NotRpm("kernel.rpm".into())),
            ("kernel-5.14.x86_64.rpm", NameError::NotRpm("kernel-5.14.x86_64.rpm".into())),
            ("-1-2.x86_64.rpm", NameError::NotRpm("-1-2.x86_64.rpm".into())),
            ("linux-headers.deb", NameError::NotDeb("linux-headers.deb".into())),
            ("a%2f..%2fb_1_all.deb", NameError::NotDeb("a/../b_1_all.deb".into())),
        ] {
            assert_eq!(text.parse::<Name>().unwrap_err(), error);
        }
    }

    proptest::proptest! {
        /// Names come from file systems and servers. Whatever is taken for a name is classified without a panic, and is
        /// the name of a file and not a path.
        #[test]
        fn any_text_is_a_file_name_or_refused(text in ".{0,40}", kind in 0..6_usize) {
            let shape = ["", "linux-headers-", "kernel-", "linux-headers-5.4.0-", "kernel-default-devel-5.", "linux-kbuild-"][kind];
            for text in [format!("{shape}{text}.rpm"), format!("{shape}{text}_1-1_amd64.deb"), text] {
                if let Ok(package) = Package::from_location(&text) {
                    let file = package.name.to_string();
                    assert!(!file.contains('/') && std::path::Path::new(&file).file_name().is_some(), "{file}");
                    let _ = crate::kernel::group::group(vec![package]);
                }
            }
        }
    }

    #[test]
    fn dependencies_are_read_with_alternatives_and_bounds() {
        let relations = Relations::from_deb(
            "linux-base (>= 4.12~), a (= 1-2) | b:any, linux-kbuild-6.1 (>= 1:6.1.192-1), ,gcc-12",
            "linux-headers, linux-headers-3.0 (= 3)",
        );
        let texts: Vec<Vec<String>> =
            relations.depends.iter().map(|group| group.iter().map(Relation::to_string).collect()).collect();
        assert_eq!(
            texts,
            [
                vec!["linux-base (>= 4.12~)"],
                vec!["a (= 1-2)", "b"],
                vec!["linux-kbuild-6.1 (>= 1:6.1.192-1)"],
                vec!["gcc-12"]
            ]
        );
        assert_eq!(relations.provides.len(), 2);
        let kbuild = &relations.depends[2][0];
        assert!(kbuild.admits("linux-kbuild-6.1", "6.1.192-2", Order::Deb));
        assert!(!kbuild.admits("linux-kbuild-6.1", "6.1.187-1", Order::Deb));
        assert!(!kbuild.admits("linux-kbuild-6.2", "6.1.192-2", Order::Deb));
    }
}
