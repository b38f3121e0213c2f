//! What an image is to be: `images/NAME/image.toml`.
//!
//! ```toml
//! name = "tools"                       # in archives and layouts; a repository's name
//! tags = ["1.2", "latest"]             # default: latest
//! platforms = ["linux/amd64"]          # default: that of the running program
//! base = "scratch"                     # or docker://…, oci:DIR[:NAME], oci-archive:FILE[:NAME]; paths from here
//! entrypoint = ["/usr/bin/tool"]       # cmd, user, workdir, volumes, stop-signal, as in the image configuration
//! env = { PATH = "/usr/bin" }
//! labels = { a = "b" }                 # in the configuration; annotations: in manifest and index
//!
//! [[layers]]                           # one layer each, in order; any mix of
//! name = "program"                     # what the history says about it
//! binary = "/usr/bin/haversack"        # this program, built for the platform
//! ca-roots = "/etc/ssl/certs/ca-certificates.crt"     # Mozilla's certificate authorities as PEM
//! catalog = { tree = "/data", db = "/catalog.db" }    # the certified catalog's tree and snapshot
//! packages = { deb = ["gcc"], rpm = ["gcc"] }         # packages and what they depend on: see image/packages.rs
//! kernels = { dest = "/kernels" }      # packages of kernels, a layer for each release; see there, too
//! files = [{ src = "a.conf", dest = "/etc/a.conf", mode = "0644", uid = 0, gid = 0 }, { text = "x", dest = "/etc/x" }]
//! directories = [{ src = "root", dest = "/" }, { dest = "/tmp", mode = "1777" }]   # without src: an empty one
//! links = { "/usr/bin/tool" = "haversack" }           # symbolic links and their targets
//! remove = ["/etc/motd"]               # what the layers below have
//! ```
//!
//! Names after `src` are relative to the definition's directory and stay inside it. Modes are octal texts; files and
//! directories keep their own without one. Unknown keys are errors.

mod check;
mod keys;
mod packages;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, de};

use self::keys::TOP;
pub(crate) use self::keys::{Keys, unknown_key};
pub use self::packages::{KernelsDefinition, PackagesDefinition};
use crate::fs::{self, PathError};
use crate::image::Platform;
use crate::image::build::embedded::EMBEDDED;
use crate::limits;
use crate::reference::ImageRef;

/// An image as we describe it.
///
/// Written as JSON, it is what the [fingerprint](crate::image::build::fingerprint) has of it: neither where it comes from nor
/// what it is called, and not its layers, which are in there as their contents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Definition {
    /// Name in archives and layouts.
    pub name: String,
    /// Tags that it gets where the output names none.
    #[serde(default = "latest", skip_serializing)]
    pub tags: Vec<String>,
    /// For which platforms; none means that of the running program.
    #[serde(default, skip_serializing)]
    pub platforms: Vec<Platform>,
    /// What lies below the layers.
    #[serde(default, skip_serializing)]
    pub base: Base,
    /// What it is made of.
    #[serde(default, skip_serializing)]
    pub layers: Vec<LayerDefinition>,
    /// Configuration: the program.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Configuration: its default arguments.
    #[serde(default)]
    pub cmd: Vec<String>,
    /// Configuration: environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Configuration: user and group.
    pub user: Option<String>,
    /// Configuration: working directory.
    pub workdir: Option<String>,
    /// Configuration: labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations of manifest and index.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Configuration: volumes.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Configuration: the signal that stops it.
    pub stop_signal: Option<String>,
}

/// What lies below the layers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    #[default]
    Scratch,
    /// An image.
    Image(ImageRef),
}

/// One layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayerDefinition {
    /// What the history says about it.
    pub name: Option<String>,
    /// Where this program goes.
    pub binary: Option<String>,
    /// Where the certificate authorities go.
    pub ca_roots: Option<String>,
    /// Where the certified catalog goes.
    pub catalog: Option<CatalogDefinition>,
    /// Packages with what they depend on.
    pub packages: Option<PackagesDefinition>,
    /// Packages of kernels.
    pub kernels: Option<KernelsDefinition>,
    /// Files.
    #[serde(default)]
    pub files: Vec<FileDefinition>,
    /// Directories.
    #[serde(default)]
    pub directories: Vec<DirectoryDefinition>,
    /// Symbolic links: name to target. In a layer of packages, what these bring of such a name stays.
    #[serde(default)]
    pub links: BTreeMap<String, String>,
    /// What is removed of the layers below.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// Where the parts of the catalog go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CatalogDefinition {
    /// The directory that certsuite reads.
    pub tree: String,
    /// The snapshot.
    pub db: String,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileDefinition {
    /// Where its content is, beside the definition; this or `text`.
    pub src: Option<PathBuf>,
    /// Its content.
    pub text: Option<String>,
    /// Its name in the image.
    pub dest: String,
    /// Its mode, where not 0755 for a program and 0644 for other files.
    #[serde(default, deserialize_with = "mode")]
    pub mode: Option<u32>,
    /// Its owner.
    #[serde(default)]
    pub uid: u64,
    /// Its group.
    #[serde(default)]
    pub gid: u64,
    /// With `text`: whether a base that has something of that name keeps it.
    #[serde(default)]
    pub yields: bool,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DirectoryDefinition {
    /// What is in it, beside the definition; empty without.
    pub src: Option<PathBuf>,
    /// Its name in the image.
    pub dest: String,
    /// Its mode and that of the directories in it; without, and without an owner, those that lie below keep what they have, and
    /// new ones are 0755.
    #[serde(default, deserialize_with = "mode")]
    pub mode: Option<u32>,
    /// Mode of the files in it, where not 0755 for programs and 0644 for others.
    #[serde(default, deserialize_with = "mode")]
    pub file_mode: Option<u32>,
    /// Owner of everything.
    #[serde(default)]
    pub uid: u64,
    /// Group of everything.
    #[serde(default)]
    pub gid: u64,
}

/// Why a definition, or another file of this kind, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] PathError),
    /// Neither a directory nor the name of a definition that comes with the program.
    #[error(
        "`{name}`: there is no such directory, and no such definition in the program ({})",
        EMBEDDED.map(|(name, _)| name).join(", ")
    )]
    Unknown {
        /// What was named.
        name: String,
    },
    /// It is not TOML, or a value is not of its key's type.
    #[error("{}: not a valid {what}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong and where.
        source: Box<toml::de::Error>,
    },
    /// A key that means nothing.
    #[error("{}: unknown key `{key}`; {known}", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key with those above it.
        key: String,
        /// What was perhaps meant, or which keys there are.
        known: String,
    },
    /// A value of the right type that cannot be.
    #[error("{}: {problem}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Which and why.
        problem: String,
    },
}

impl Definition {
    /// Reads the `image.toml` of a directory.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let bytes = fs::read(&path, 1 << 20)?;
        Definition::parse(&path, &String::from_utf8_lossy(&bytes))
    }

    /// Parses a definition; `path` is for the errors.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let invalid = |source| Error::Parse { path: path.to_owned(), what: "definition", source: Box::new(source) };
        limits::toml(text).map_err(|exceeded| invalid(<toml::de::Error as de::Error>::custom(exceeded)))?;
        let table: toml::Table = toml::from_str(text).map_err(invalid)?;
        if let Some((key, known)) = unknown_key(&table, &TOP, "") {
            return Err(Error::UnknownKey { path: path.to_owned(), key, known });
        }
        // From the text once more, for the line numbers in the errors.
        let definition: Definition = toml::from_str(text).map_err(invalid)?;
        match check::problem(&definition) {
            Some(problem) => Err(Error::Value { path: path.to_owned(), problem }),
            None => Ok(definition),
        }
    }
}

impl<'de> Deserialize<'de> for Base {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "scratch" {
            return Ok(Base::Scratch);
        }
        text.parse().map(Base::Image).map_err(de::Error::custom)
    }
}

fn latest() -> Vec<String> {
    vec!["latest".to_owned()]
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match u32::from_str_radix(&text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(Some(mode)),
        _ => Err(de::Error::custom(format_args!("`{text}` is no mode: expected octal digits, such as \"0755\""))),
    }
}

/// The name of a definition in its directory.
pub const FILE: &str = "image.toml";

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        name = "tools/x"
        tags = ["1.2"]
        platforms = ["linux/amd64", "linux/arm64"]
        base = "oci:base:1"
        entrypoint = ["/x"]
        cmd = ["run"]
        env = { PATH = "/bin" }
        user = "1:1"
        workdir = "/w"
        labels = { a = "b" }
        annotations = { c = "d" }
        volumes = ["/v"]
        stop-signal = "SIGINT"
        [[layers]]
        name = "one"
        binary = "/b"
        ca-roots = "/c"
        catalog = { tree = "/t", db = "/d" }
        packages = { deb = ["d"], rpm = ["r"], compiler = ["c"], provided = ["p"], merge = { "/m" = "/n" }, exclude = ["/x"] }
        kernels = { dest = "/k", unpacked = true, list = "/k/i", roles = ["core"], flavours = ["rt"] }
        files = [{ src = "f", dest = "/f", mode = "0640", uid = 1, gid = 2 }, { text = "x", dest = "/g", yields = true }]
        directories = [{ src = "d", dest = "/", mode = "0750", file-mode = "0640", uid = 3, gid = 4 }]
        links = { "/l" = "b" }
        remove = ["/r"]
    "#;

    fn parse(text: &str) -> Result<Definition, String> {
        Definition::parse(Path::new("i.toml"), text).map_err(|error| match error {
            Error::Parse { source, .. } => source.message().to_owned(),
            other => other.to_string(),
        })
    }

    #[test]
    fn every_key_is_known_and_arrives() {
        let definition = parse(WHOLE).unwrap();
        let layer = LayerDefinition {
            name: Some("one".into()),
            binary: Some("/b".into()),
            ca_roots: Some("/c".into()),
            catalog: Some(CatalogDefinition { tree: "/t".into(), db: "/d".into() }),
            packages: Some(PackagesDefinition {
                deb: vec!["d".into()],
                rpm: vec!["r".into()],
                compiler: vec!["c".into()],
                provided: vec!["p".into()],
                merge: [("/m".into(), "/n".into())].into(),
                exclude: vec!["/x".into()],
            }),
            kernels: Some(KernelsDefinition {
                dest: Some("/k".into()),
                unpacked: true,
                list: Some("/k/i".into()),
                roles: vec!["core".into()],
                flavours: vec!["rt".into()],
            }),
            files: vec![
                FileDefinition {
                    src: Some("f".into()),
                    text: None,
                    dest: "/f".into(),
                    mode: Some(0o640),
                    uid: 1,
                    gid: 2,
                    yields: false,
                },
                FileDefinition {
                    src: None,
                    text: Some("x".into()),
                    dest: "/g".into(),
                    mode: None,
                    uid: 0,
                    gid: 0,
                    yields: true,
                },
            ],
            directories: vec![DirectoryDefinition {
                src: Some("d".into()),
                dest: "/".into(),
                mode: Some(0o750),
                file_mode: Some(0o640),
                uid: 3,
                gid: 4,
            }],
            links: [("/l".to_owned(), "b".to_owned())].into(),
            remove: vec!["/r".into()],
        };
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let expected = Definition {
            name: "tools/x".into(),
            tags: vec!["1.2".into()],
            platforms: vec!["linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap()],
            base: Base::Image("oci:base:1".parse().unwrap()),
            layers: vec![layer],
            entrypoint: vec!["/x".into()],
            cmd: vec!["run".into()],
            env: map("PATH", "/bin"),
            user: Some("1:1".into()),
            workdir: Some("/w".into()),
            labels: map("a", "b"),
            annotations: map("c", "d"),
            volumes: vec!["/v".into()],
            stop_signal: Some("SIGINT".into()),
        };
        assert_eq!(definition, expected);
    }

    #[test]
    fn an_unknown_key_is_named_with_the_nearest_known_one() {
        for (text, key, nearest) in [
            ("name = 'x'\nentrypont = []", "entrypont", "entrypoint"),
            ("name = 'x'\nstop_signal = 'x'", "stop_signal", "stop-signal"),
            ("name = 'x'\nlayer = []", "layer", "layers"),
            ("name = 'x'\n[[layers]]\nfile = []", "layers[0].file", "files"),
            (
                "name = 'x'\n[[layers]]\nremove = []\n[[layers]]\nfiles = [{ source = 'x' }]",
                "layers[1].files[0].source",
                "src",
            ),
            ("name = 'x'\n[[layers]]\ncatalog = { tre = 'x' }", "layers[0].catalog.tre", "tree"),
        ] {
            let expected = format!("i.toml: unknown key `{key}`; the nearest known one is `{nearest}`");
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn values_that_cannot_be_are_refused() {
        for (text, problem) in [
            ("", "missing field `name`"),
            ("name = 'Up'", "i.toml: name: `Up` is no repository's name"),
            ("name = 'x:1'", "i.toml: name: `x:1` is no repository's name"),
            ("name = 'x'\ntags = ['-']", "i.toml: tags: `-` is no tag"),
            (
                "name = 'x'\nplatforms = ['amd64']",
                "`amd64` is not a valid platform: expected OS/ARCHITECTURE[/VARIANT], such as linux/amd64",
            ),
            (
                "name = 'x'\nbase = 'docker://alpine'",
                "`alpine`: short names are not guessed; write docker://HOST/REPOSITORY:TAG",
            ),
            ("name = 'x'\nenv = { 'A=' = 'b' }", "i.toml: env: `A=` is no variable's name"),
            ("name = 'x'\n[[layers]]", "i.toml: layers[0]: nothing is in it"),
            ("name = 'x'\n[[layers]]\nbinary = 'b'", "i.toml: layers[0]: `b` does not start with a slash"),
            (
                "name = 'x'\n[[layers]]\nbinary = '/b'\nfiles = [{ text = '', dest = '/b/' }]",
                "i.toml: layers[0]: `/b` is in it twice",
            ),
            (
                "name = 'x'\n[[layers]]\nkernels = { dest = '/k', list = '/i' }",
                "i.toml: layers[0].kernels: `list` is a file in /k, beside what it lists",
            ),
            (
                "name = 'x'\n[[layers]]\nkernels = { unpacked = true }",
                "i.toml: layers[0].kernels: `unpacked` goes with `dest`",
            ),
            ("name = 'x'\n[[layers]]\nlinks = { '/l' = '' }", "i.toml: layers[0].links: /l: it leads nowhere"),
            (
                "name = 'x'\nplatforms = ['linux/x86_64']",
                "`linux/x86_64` is not a valid platform: in images, x86_64 is called amd64",
            ),
            (
                "name = 'x'\n[[layers]]\nfiles = [{ dest = '/x' }]",
                "i.toml: layers[0].files: /x: give either `src` or `text`",
            ),
            (
                "name = 'x'\n[[layers]]\nfiles = [{ dest = '/x', src = 'x', yields = true }]",
                "i.toml: layers[0].files: /x: `yields` is for files with `text`",
            ),
            (
                "name = 'x'\n[[layers]]\nfiles = [{ dest = '/x', text = '', mode = '9' }]",
                "`9` is no mode: expected octal digits, such as \"0755\"",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), problem);
        }
    }
}
