//! Modular repositories (`modules.yaml`): of a module only one stream counts, its default or the one that is asked for.
//!
//! ```yaml
//! document: modulemd                   # a build of a stream
//! data: { name: perl, stream: "5.32", dependencies: [{ requires: { platform: [el8] } }],
//!         artifacts: { rpms: [perl-4:5.32.1-471.module+el8.6.0+13324+628a2397.x86_64] } }
//! ---
//! document: modulemd-defaults
//! data: { module: perl, stream: "5.26" }
//! ```
//!
//! As dnf does: what is in a stream that does not count is not there; what is in one that counts hides the packages of the
//! same name that are in no stream. A build whose `requires` name a stream that does not count does not count either.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::{self, BufRead, Read};
use std::str::FromStr;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::kernel::package::Package;
use crate::limits::{self, Count};

/// A stream of a module, written `perl:5.32`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream {
    /// The module.
    pub module: String,
    /// Its stream.
    pub stream: String,
}

/// What the repositories say of modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    builds: Vec<Build>,
    defaults: BTreeMap<String, String>,
}

/// A build of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Build {
    of: Stream,
    /// Of each module that it needs one of these streams; `-5.24` is any but that one, none is any.
    requires: Vec<BTreeMap<String, Vec<String>>>,
    /// `NAME-EPOCH:VERSION-RELEASE.ARCHITECTURE`
    artifacts: Vec<String>,
}

/// A text that is not a stream of a module.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a stream of a module; expected NAME:STREAM, such as perl:5.32")]
pub struct NotAStream(String);

impl FromStr for Stream {
    type Err = NotAStream;

    fn from_str(text: &str) -> Result<Self, NotAStream> {
        match text.split_once(':') {
            Some((module, stream)) if !module.is_empty() && !stream.is_empty() && !stream.contains(':') => {
                Ok(Stream { module: module.to_owned(), stream: stream.to_owned() })
            }
            _ => Err(NotAStream(text.to_owned())),
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.module, self.stream)
    }
}

impl Modules {
    /// Reads `modules.yaml`. The second list has the documents that could not be understood, each with the reason.
    pub(crate) fn read(mut reader: impl BufRead) -> io::Result<(Self, Vec<String>)> {
        let (mut modules, mut problems) = (Modules::default(), Vec::new());
        let (mut count, mut kept) = (Count::new("modules", limits::PACKAGES), limits::kept());
        let (mut document, mut line) = (Vec::new(), Vec::new());
        loop {
            line.clear();
            let n = reader.by_ref().take(limits::DOCUMENT).read_until(b'\n', &mut line)?;
            let is_mark = matches!(line.trim_ascii_end(), b"---" | b"...");
            if n == 0 || is_mark {
                count.one()?;
                if let Err(problem) = modules.take(&document) {
                    kept.several(problem.len())?;
                    problems.push(problem);
                }
                document.clear();
            } else {
                kept.several(n)?;
                limits::at_most(document.len() + n, DOCUMENT, "bytes of a module")?;
                document.extend_from_slice(&line);
            }
            if n == 0 {
                return Ok((modules, problems));
            }
        }
    }

    fn take(&mut self, document: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(document);
        if text.lines().all(|line| line.trim().is_empty() || line.starts_with(['#', '%'])) {
            return Ok(());
        }
        let described: Document = serde_saphyr::from_str(&text)
            .map_err(|error| format!("modules.yaml: a document cannot be read: {error}"))?;
        let Document { document, data } = described;
        match (&*document, data.name, data.module, data.stream) {
            ("modulemd", Some(module), _, Some(stream)) => {
                let requires = data.dependencies.0.into_iter().map(|one| one.requires).collect();
                let artifacts = data.artifacts.rpms;
                self.builds.push(Build { of: Stream { module, stream }, requires, artifacts });
            }
            ("modulemd-defaults", _, Some(module), Some(stream)) => {
                self.defaults.entry(module).or_insert(stream);
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes in what another repository says. Of two defaults the first holds.
    pub fn extend(&mut self, other: Modules) {
        self.builds.extend(other.builds);
        for (module, stream) in other.defaults {
            self.defaults.entry(module).or_insert(stream);
        }
    }

    /// Those of the streams asked for that no repository has.
    pub fn unknown<'a>(&self, asked: &'a [Stream]) -> Vec<&'a Stream> {
        asked.iter().filter(|asked| !self.builds.iter().any(|build| build.of == **asked)).collect()
    }

    /// Leaves out the packages of streams that do not count, and those that a stream that counts hides.
    pub fn apply(&self, asked: &[Stream], packages: &mut Vec<Package>) {
        if self.builds.is_empty() {
            return;
        }
        let mut streams: HashMap<&str, &str> = self.defaults.iter().map(|(it, stream)| (&**it, &**stream)).collect();
        streams.extend(asked.iter().map(|asked| (&*asked.module, &*asked.stream)));
        let mut modular: HashSet<&str> = HashSet::new();
        let (mut active, mut names): (HashSet<&str>, HashSet<&str>) = (HashSet::new(), HashSet::new());
        for build in &self.builds {
            let artifacts = build.artifacts.iter().map(String::as_str);
            modular.extend(artifacts.clone());
            if streams.get(&*build.of.module) == Some(&&*build.of.stream) && build.is_met(&streams) {
                active.extend(artifacts.clone());
                names.extend(artifacts.filter_map(|artifact| artifact.rsplitn(3, '-').nth(2)));
            }
        }
        packages.retain(|package| {
            let name = &package.name;
            let epoch = package.relations.as_ref().map_or(0, |relations| relations.epoch);
            let called = match name.version.rsplit_once('-') {
                Some((version, release)) => format!("{}-{epoch}:{version}-{release}.{}", name.name, name.architecture),
                None => return true,
            };
            match modular.contains(&*called) {
                true => active.contains(&*called),
                false => !names.contains(&*name.name),
            }
        });
    }
}

impl Build {
    /// Whether the streams that count are such as it needs. The platform is the distribution itself.
    fn is_met(&self, streams: &HashMap<&str, &str>) -> bool {
        let is_one = |(module, wanted): (&String, &Vec<String>)| {
            if module == "platform" {
                return true;
            }
            let Some(stream) = streams.get(&**module) else { return false };
            let (not, wanted): (Vec<&str>, Vec<&str>) =
                wanted.iter().map(String::as_str).partition(|it| it.starts_with('-'));
            !not.iter().any(|it| it[1..] == **stream) && (wanted.is_empty() || wanted.contains(stream))
        };
        self.requires.is_empty() || self.requires.iter().any(|requires| requires.iter().all(is_one))
    }
}

#[derive(Deserialize)]
struct Document {
    document: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    name: Option<String>,
    module: Option<String>,
    stream: Option<String>,
    #[serde(default)]
    dependencies: Dependencies,
    #[serde(default)]
    artifacts: Artifacts,
}

/// A list; in version 1 it is a table that says nothing of streams.
#[derive(Default)]
struct Dependencies(Vec<Dependency>);

impl<'de> Deserialize<'de> for Dependencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Dependencies;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dependencies")
            }

            fn visit_unit<E>(self) -> Result<Dependencies, E> {
                Ok(Dependencies::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Dependencies, A::Error> {
                let mut dependencies = Vec::new();
                while let Some(dependency) = list.next_element()? {
                    dependencies.push(dependency);
                }
                Ok(Dependencies(dependencies))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Dependencies, A::Error> {
                while table.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Dependencies::default())
            }
        }

        // Not by trying one form after the other: a stream `5.30` would be a number by then, and 5.3.
        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
struct Dependency {
    #[serde(default)]
    requires: BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
struct Artifacts {
    #[serde(default)]
    rpms: Vec<String>,
}

/// The largest module of a distribution has 400 KiB.
const DOCUMENT: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::package::Relations;

    const YAML: &str = r#"---
document: modulemd
version: 2
data:
  name: perl
  stream: 5.30
  dependencies: [{ buildrequires: { platform: [el8] }, requires: { platform: [el8] } }]
  artifacts:
    rpms: [perl-4:5.30.1-1.module.x86_64, perl-libs-4:5.30.1-1.module.x86_64]
...
---
# A comment.
document: modulemd
version: 2
data: { name: perl, stream: "5.32", artifacts: { rpms: [perl-4:5.32.1-1.module.x86_64] } }
---
document: modulemd
version: 2
data:
  name: dbi
  stream: master
  dependencies:
  - requires: { perl: [-5.30] }
  artifacts: { rpms: [dbi-0:1-2.module.x86_64] }
---
document: modulemd-defaults
version: 1
data: { module: perl, stream: 5.30 }
---
document: modulemd-defaults
version: 1
data: { module: dbi, stream: master }
---
document: modulemd-translations
version: 1
data: { module: perl, stream: master, modified: 201805231425 }
--- 
document: modulemd
data: [
...
"#;

    #[test]
    fn only_what_is_in_streams_that_count_is_there_and_it_hides_what_is_in_none() {
        let (modules, problems) = Modules::read(YAML.as_bytes()).unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let packages = || -> Vec<Package> {
            [
                ("perl-5.30.1-1.module.x86_64.rpm", 4),
                ("perl-5.32.1-1.module.x86_64.rpm", 4),
                ("perl-5.40.0-1.el8.x86_64.rpm", 0),
                // The same but for its epoch: it is not that of the stream.
                ("perl-libs-5.30.1-1.module.x86_64.rpm", 0),
                ("perl-libs-5.30.1-1.module.x86_64.rpm", 4),
                ("dbi-1-2.module.x86_64.rpm", 0),
                ("dbi-1-1.el8.x86_64.rpm", 0),
                ("bash-5-1.el8.x86_64.rpm", 0),
            ]
            .into_iter()
            .map(|(file, epoch)| {
                let package = Package::from_location(file).unwrap();
                Package { relations: Some(Relations { epoch, ..Relations::default() }), ..package }
            })
            .collect()
        };
        for (asked, expected) in [
            (&[][..], "perl-5.30.1-1.module perl-libs-5.30.1-1.module dbi-1-1.el8 bash-5-1.el8"),
            (&["perl:5.32"], "perl-5.32.1-1.module perl-libs-5.30.1-1.module dbi-1-2.module bash-5-1.el8"),
        ] {
            let asked: Vec<Stream> = asked.iter().map(|text: &&str| text.parse().unwrap()).collect();
            let mut packages = packages();
            modules.apply(&asked, &mut packages);
            let names: Vec<String> =
                packages.iter().map(|package| format!("{}-{}", package.name.name, package.name.version)).collect();
            assert_eq!(names.join(" "), expected, "{asked:?}");
        }
        let asked: Vec<Stream> = ["perl:5.30", "perl:6", "ruby:3"].map(|text| text.parse().unwrap()).into();
        let unknown: Vec<String> = modules.unknown(&asked).into_iter().map(Stream::to_string).collect();
        assert_eq!(unknown, ["perl:6", "ruby:3"]);
        for text in ["", "perl", "perl:", ":5", "a:b:c"] {
            assert_eq!(text.parse::<Stream>(), Err(NotAStream(text.to_owned())));
        }
    }
}
