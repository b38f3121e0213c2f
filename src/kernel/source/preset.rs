//! Where distributions keep their kernels: `--distro NAME[:VERSION]` as the sources that one would write out.
//!
//! The places are data, in `presets.toml`. They change; each can be asked of another mirror, and what a preset does not
//! know can be written as a source. A mirror that is given as a line of `sources.list` is the suite that the line names, and no
//! other.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use crate::kernel::release::Machine;
use crate::kernel::source::{AptRepository, ParseError, Source, sources_list};

#[derive(Deserialize)]
struct Preset {
    mirror: String,
    /// Mirrors of machines that the first one does not have.
    #[serde(default)]
    mirrors: BTreeMap<String, String>,
    versions: Vec<String>,
    sources: Vec<String>,
}

/// Why there is no such preset.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// No distribution is called so.
    #[error("no preset is called `{name}` (known: {})", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The mirror makes it no source.
    #[error("{0}")]
    Source(#[from] ParseError),
    /// A line of `sources.list` for a distribution whose repositories are of another kind.
    #[error("--mirror: `{line}` is for apt, and {name} has rpm repositories")]
    NotApt {
        /// The line.
        line: String,
        /// The distribution.
        name: String,
    },
    /// A line of `sources.list` with a suite that was not asked for.
    #[error("--mirror: its suite is `{suite}`, and --distro asks for {name}:{version}")]
    OtherSuite {
        /// The suite.
        suite: String,
        /// The distribution.
        name: String,
        /// The version of it that was asked for.
        version: String,
    },
}

impl Preset {
    /// The suite of a line of `sources.list`, with or without `deb` before it.
    fn line(&self, name: &str, version: Option<&str>, line: &str) -> Result<Source, Error> {
        let is_whole = sources_list::begins(line) || line.trim_start().starts_with("apt:");
        let words = if is_whole { line.to_owned() } else { format!("apt:{line}") };
        let source = Source::parse_all(&[words])?.pop().ok_or_else(|| ParseError::NoLine(line.to_owned()))?;
        let Source::Apt(AptRepository { suite, .. }) = &source else {
            return Err(ParseError::NoLine(line.to_owned()).into());
        };
        if !self.sources.iter().any(|source| source.starts_with("apt:")) {
            return Err(Error::NotApt { line: line.to_owned(), name: name.to_owned() });
        }
        // `bookworm-security` is of bookworm, and so was `buster/updates` of buster.
        let is_of = |version: &str| {
            suite.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
        };
        match version.filter(|version| !is_of(version)) {
            Some(version) => {
                Err(Error::OtherSuite { suite: suite.clone(), name: name.to_owned(), version: version.to_owned() })
            }
            None => Ok(source),
        }
    }

    /// What `{mirror}` stands for, from the address that people have: it names the directory of the repository there,
    /// `https://mirror.example/debian`, which the sources add themselves.
    fn base(&self, mirror: &str) -> Result<String, ParseError> {
        let address = mirror.trim().strip_prefix("apt:").unwrap_or(mirror.trim()).trim_end_matches('/');
        let is_web = address.parse::<Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_web {
            return Err(ParseError::NoUrl(mirror.to_owned()));
        }
        let directories = self.sources.iter().filter_map(|source| {
            let directory = source.strip_prefix("apt:{mirror}/")?.split(' ').next()?;
            address.strip_suffix(directory)?.strip_suffix('/')
        });
        Ok(directories.min_by_key(|base| base.len()).unwrap_or(address).to_owned())
    }
}

/// The sources of a distribution, `NAME` or `NAME:VERSION`, for a machine, from its own mirror or another.
pub fn sources(distribution: &str, machine: &Machine, mirror: Option<&str>) -> Result<Vec<Source>, Error> {
    let presets: BTreeMap<String, Preset> = toml::from_str(include_str!("presets.toml")).expect("the tests read it");
    let (name, version) = match distribution.split_once(':') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (distribution, None),
    };
    let Some(preset) = presets.get(name) else {
        return Err(Error::Unknown { name: name.to_owned(), known: presets.into_keys().collect() });
    };
    if let Some(line) = mirror.filter(|mirror| mirror.split_whitespace().nth(1).is_some()) {
        return Ok(vec![preset.line(name, version.as_deref(), line)?]);
    }
    let versions = version.map_or_else(|| preset.versions.clone(), |version| vec![version]);
    let own = preset.mirrors.get(machine.as_str()).unwrap_or(&preset.mirror);
    let mirror = mirror.map(|mirror| preset.base(mirror)).transpose()?;
    let mirror = mirror.as_deref().unwrap_or(own).trim_end_matches('/');
    let mut words = Vec::new();
    for version in &versions {
        for source in &preset.sources {
            words.push(
                source.replace("{mirror}", mirror).replace("{version}", version).replace("{machine}", machine.as_str()),
            );
        }
    }
    Ok(Source::parse_all(&words)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_gives_sources_and_a_mirror_and_a_version_are_taken() {
        let machine: Machine = "aarch64".parse().unwrap_or_else(|never| match never {});
        let presets: BTreeMap<String, Preset> = toml::from_str(include_str!("presets.toml")).unwrap();
        for (name, preset) in &presets {
            let sources = sources(name, &machine, None).unwrap();
            assert_eq!(sources.len(), preset.versions.len() * preset.sources.len(), "{name}");
            for source in sources {
                let place = match source {
                    Source::Rpm(url) => url.to_string(),
                    Source::Apt(apt) => format!("{} {} {}", apt.base, apt.suite, apt.components.join(" ")),
                    other => panic!("{name}: {other:?}"),
                };
                assert!(!place.contains(['{', '}']) && !place.contains("%7B"), "{name}: {place}");
            }
        }
        let url = |path: &str| Source::Rpm(format!("http://m/{path}").parse().unwrap());
        assert_eq!(
            sources("rocky:8.9", &machine, Some("http://m/")),
            Ok(vec![url("8.9/BaseOS/aarch64/os/"), url("8.9/AppStream/aarch64/os/")])
        );
        let ubuntu = |machine: &str| {
            let machine: Machine = machine.parse().unwrap_or_else(|never| match never {});
            let Source::Apt(apt) = sources("ubuntu:noble", &machine, None).unwrap().remove(0) else { panic!("apt") };
            apt.base.to_string()
        };
        // Other machines than PCs are on other servers.
        assert_eq!(ubuntu("x86_64"), "http://archive.ubuntu.com/ubuntu");
        assert_eq!(ubuntu("aarch64"), "http://ports.ubuntu.com/ubuntu-ports");
        // What people have in sources.list.
        let debian = |mirror: &str| {
            let sources = sources("debian:bookworm", &machine, Some(mirror))?;
            Ok(sources.into_iter().map(|source| match source {
                Source::Apt(apt) => format!("{} {}", apt.base, apt.suite),
                other => panic!("{other:?}"),
            }))
            .map(|sources| sources.collect::<Vec<_>>())
        };
        let usual = [
            "http://m/debian bookworm",
            "http://m/debian bookworm-updates",
            "http://m/debian-security bookworm-security",
        ];
        for mirror in ["http://m", "http://m/", "http://m/debian/", "http://m/debian-security"] {
            assert_eq!(debian(mirror).unwrap(), usual, "{mirror}");
        }
        assert_eq!(debian("http://m/debian/debian").unwrap()[0], "http://m/debian/debian bookworm");
        for mirror in ["deb [arch=amd64", "m/debian", "", "deb http://m/debian"] {
            assert!(matches!(debian(mirror), Err(Error::Source(_))), "{mirror}");
        }
        // A line is the suite that it names, with all that it says.
        let apt = |suite: &str, components: &[&str]| AptRepository {
            base: "http://m/debian".parse().unwrap(),
            suite: suite.to_owned(),
            components: components.iter().map(|it| (*it).to_owned()).collect(),
            architectures: Vec::new(),
            signed_by: None,
        };
        let signed = AptRepository {
            architectures: vec!["amd64".to_owned()],
            signed_by: Some("/k.gpg".into()),
            ..apt("bookworm", &["main"])
        };
        for (mirror, source) in [
            ("deb http://m/debian bookworm main contrib", apt("bookworm", &["main", "contrib"])),
            ("http://m/debian bookworm-security main", apt("bookworm-security", &["main"])),
            ("apt:http://m/debian bookworm main", apt("bookworm", &["main"])),
            ("deb [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm main", signed),
        ] {
            for distribution in ["debian", "debian:bookworm"] {
                assert_eq!(
                    sources(distribution, &machine, Some(mirror)),
                    Ok(vec![Source::Apt(source.clone())]),
                    "{mirror}"
                );
            }
        }
        let refused =
            |distribution: &str, line: &str| sources(distribution, &machine, Some(line)).unwrap_err().to_string();
        assert_eq!(
            refused("debian:trixie", "deb http://m/debian bookworm main"),
            "--mirror: its suite is `bookworm`, and --distro asks for debian:trixie"
        );
        assert_eq!(
            refused("rocky:9", "deb http://m/debian bookworm main"),
            "--mirror: `deb http://m/debian bookworm main` is for apt, and rocky has rpm repositories"
        );
        let error = sources("plan9", &machine, None).unwrap_err().to_string();
        assert!(error.starts_with("no preset is called `plan9` (known: alinux, almalinux,"), "{error}");
    }
}
