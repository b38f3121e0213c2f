//! Where packages come from.
//!
//! A source is written `KIND:PLACE`. Some take more words, which follow as arguments of their own:
//! `apt:https://deb.debian.org/debian bookworm main`. A line of `sources.list` is such a source, too.

pub(crate) mod apt;
pub mod cache;
pub mod crawler;
pub mod filelists;
pub mod keyring;
pub mod local;
pub mod modulemd;
pub mod options;
pub mod preset;
pub mod redhat;
pub(crate) mod rpm_md;
pub mod sources_list;
pub(crate) mod stanzas;
mod transfer;
mod xml;

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::LocalSet;
use url::Url;

use crate::fs::PathError;
use crate::http::{self, Http, Retriable, Verdict};
use crate::kernel::checksum::Checksum;
use crate::kernel::package::Package;
use crate::kernel::release::Machine;
use crate::kernel::set::Mirrors;
use crate::kernel::source::cache::Cache;
use crate::kernel::source::filelists::FileList;
use crate::kernel::source::keyring::Keyring;
use crate::kernel::source::modulemd::Modules;
use crate::kernel::source::redhat::RedHat;

pub use self::apt::AptRepository;
pub use self::options::SourceOptions;
pub use self::xml::XmlError;

/// A place with packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `dir:PATH`: local files.
    Directory(PathBuf),
    /// `set:FILE`: a list that `kernel list --json` or `kernel fetch` wrote.
    Set(PathBuf),
    /// `crawler:FILE`: a list of kernel-crawler's.
    Crawler(PathBuf),
    /// `redhat:CONTENT-SET…`: Red Hat's subscriber API; without a content set, those that hold kernels.
    RedHat(Vec<String>),
    /// `rpm:URL`: an rpm repository, or a mirror list or metalink of one.
    Rpm(Url),
    /// `apt:URL SUITE COMPONENT…`: a suite of an apt repository.
    Apt(AptRepository),
}

/// How repositories are read.
#[derive(Clone)]
pub struct Options {
    /// For which machines; for `x86_64`, when empty.
    pub machines: Vec<Machine>,
    /// Keys of which one must have signed the repository; without, signatures are not looked at.
    pub keyring: Option<Arc<Keyring>>,
    /// Takes a repository whose `Valid-Until` is past.
    pub allow_expired: bool,
    /// What time it is.
    pub now: Timestamp,
    /// The subscriber API, for [`Source::RedHat`].
    pub redhat: Option<Arc<RedHat>>,
    /// Which packages are listed.
    pub wanted: Wanted,
    /// Metadata of earlier runs.
    pub cache: Option<Cache>,
}

/// Which packages of a repository are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Those that may belong to a kernel, told by the beginning of their names.
    #[default]
    Kernels,
    /// All of them, to look for dependencies in: with the paths that an rpm repository names among what they provide.
    All,
}

/// Why words are no sources.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    /// It does not begin with a kind.
    #[error(
        "`{0}` is not a valid source; expected apt:, crawler:, dir:, redhat:, rpm: or set:, or a line of sources.list"
    )]
    UnknownKind(String),
    /// A line of `sources.list` that cannot be read.
    #[error("`{0}`: expected deb [arch=… signed-by=/FILE] URL SUITE COMPONENT…, as in sources.list")]
    NoLine(String),
    /// The kind takes one word.
    #[error("`{0}` has a word too many")]
    TooManyWords(String),
    /// The place is empty.
    #[error("`{0}` does not say where")]
    Empty(String),
    /// The place is no URL of a web server.
    #[error("`{0}`: expected an http or https URL")]
    NoUrl(String),
    /// Suite or component are missing.
    #[error("`{0}`: expected apt:URL SUITE COMPONENT…, or apt:URL DIRECTORY/ for a flat repository")]
    NoSuite(String),
}

/// Why a repository cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error("{0}")]
    Http(#[from] http::Error),
    /// The subscriber API cannot be used.
    #[error("{0}")]
    RedHat(#[from] redhat::Error),
    /// A source needs a token and there is none.
    #[error("no offline token for the subscriber API was given")]
    NoToken,
    /// A temporary file cannot be written.
    #[error("{0}")]
    Path(#[from] PathError),
    /// A file is another one than the one above it says.
    #[error("{0}")]
    Mismatch(#[from] Mismatch),
    /// It is not signed by a trusted key.
    #[error("{}: not trusted", http::shown(url))]
    Signature {
        /// Which file.
        url: Box<Url>,
        /// Why.
        source: keyring::Error,
    },
    /// The key ring of a line of `sources.list` cannot be used.
    #[error("{}: no key ring", path.display())]
    Keyring {
        /// The file.
        path: PathBuf,
        /// Why.
        source: keyring::Error,
    },
    /// Its time is over.
    #[error("{}: valid only until {until}", http::shown(url))]
    Expired {
        /// Which suite.
        url: Box<Url>,
        /// Until when it said to be valid.
        until: Timestamp,
    },
    /// There is no rpm repository.
    #[error("{}: no rpm repository is here, for it has no repodata/repomd.xml", http::shown(url))]
    NoRpmRepository {
        /// Where it should be.
        url: Box<Url>,
    },
    /// There is no apt repository, or one that lists nothing and does not have the suite.
    #[error("{}: no apt repository is here, or it has no suite `{suite}`", http::shown(url))]
    NoAptRepository {
        /// Where it should be.
        url: Box<Url>,
        /// The suite.
        suite: String,
    },
    /// An apt repository has no such suite.
    #[error("{}: it has no suite `{suite}`{}", http::shown(url), having(known))]
    NoSuite {
        /// The repository.
        url: Box<Url>,
        /// The suite.
        suite: String,
        /// Those that it lists; none, where it lists nothing.
        known: Vec<String>,
    },
    /// A suite has no such component, or not for the machine.
    #[error("{}: it has no `{part}`{}", http::shown(url), having(known))]
    NoComponent {
        /// The suite.
        url: Box<Url>,
        /// Component and machine, as they stand in paths: `main/binary-amd64`.
        part: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// It is not what it should be.
    #[error("{}: {why}", http::shown(url))]
    Malformed {
        /// What.
        url: Box<Url>,
        /// In which way.
        why: &'static str,
    },
    /// An index cannot be read.
    #[error("{}: its index cannot be read", http::shown(url))]
    Index {
        /// Of which suite.
        url: Box<Url>,
        /// Why.
        source: std::io::Error,
    },
    /// An XML file cannot be understood.
    #[error("{}: cannot be understood", http::shown(url))]
    Xml {
        /// Which file.
        url: Box<Url>,
        /// Why.
        source: XmlError,
    },
}

/// What came from a URL is not what should have come.
#[derive(Debug, thiserror::Error)]
#[error("{}: the digest is {actual}, not {expected}", http::shown(url))]
pub struct Mismatch {
    /// From where.
    pub url: Box<Url>,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub actual: String,
}

/// What a repository offers.
#[derive(Debug, Default)]
pub struct Listing {
    /// The packages.
    pub packages: Vec<Package>,
    /// Packages and parts of it that had to be passed over, each with the reason.
    pub problems: Vec<String>,
    /// Where else its packages can be had.
    pub mirrors: Option<Mirrors>,
    /// Where the files of its packages are listed, of an rpm repository with [`Wanted::All`].
    pub files: Option<FileList>,
    /// The modules of which its packages are, likewise.
    pub modules: Modules,
    /// Its address, where it is signed and there was no key ring to check that with.
    pub unchecked: Option<Url>,
}

impl Wanted {
    /// Whether a package called so is listed.
    fn admits(self, name: &str) -> bool {
        self == Wanted::All || KERNEL_NAMES.iter().any(|beginning| name.starts_with(beginning))
    }
}

impl Error {
    fn malformed(url: &Url, why: &'static str) -> Self {
        Error::Malformed { url: Box::new(url.clone()), why }
    }

    fn xml(url: &Url, source: XmlError) -> Self {
        Error::Xml { url: Box::new(url.clone()), source }
    }
}

impl Retriable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Error::Http(error) => error.verdict(),
            _ => Verdict::Permanent,
        }
    }
}

/// What is there in place of what is not.
fn having(known: &[String]) -> String {
    let more = known.len().saturating_sub(KNOWN);
    let named = known[..known.len() - more].join(", ");
    match (known.is_empty(), more) {
        (true, _) => String::new(),
        (_, 0) => format!("; it has {named}"),
        _ => format!("; it has {named} and {more} more"),
    }
}

/// How many are named.
const KNOWN: usize = 12;

/// Whether an answer says that something is not there. Some servers say of what is not there that it is forbidden.
fn is_missing(error: &http::Error) -> bool {
    error.status_code().is_some_and(|status| matches!(status.as_u16(), 403 | 404 | 410))
}

/// Lists the packages of several repositories side by side, each with its own error, in the order of the repositories.
pub async fn packages_of_all(http: &Http, repositories: Vec<Source>, options: &Options) -> Vec<Result<Listing, Error>> {
    let local = LocalSet::new();
    let running: Vec<_> = repositories
        .into_iter()
        .map(|repository| {
            let (http, options) = (http.clone(), options.clone());
            local.spawn_local(async move { packages(&http, &repository, &options).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in running {
        results.push(local.run_until(task).await.expect("listing a repository does not panic"));
    }
    results
}

/// Lists the packages that a repository offers. [`Source::Rpm`], [`Source::Apt`] and [`Source::RedHat`] are repositories; for others there
/// are [`local::offer`], [`crawler::offer`] and `KernelSet::parse`.
pub async fn packages(http: &Http, source: &Source, options: &Options) -> Result<Listing, Error> {
    let mut listing = match source {
        Source::Rpm(url) => rpm_md::packages(http, url, options).await?,
        Source::Apt(repository) => apt::packages(http, repository, options).await?,
        Source::RedHat(content_sets) => {
            let redhat = options.redhat.as_deref().ok_or(Error::NoToken)?;
            let machines = match &options.machines[..] {
                [] => vec!["x86_64".parse().unwrap_or_else(|never| match never {})],
                machines => machines.to_vec(),
            };
            let mut packages = Vec::new();
            for machine in &machines {
                let defaults = redhat::default_content_sets(machine);
                for content_set in if content_sets.is_empty() { &defaults } else { content_sets } {
                    packages.extend(redhat.packages(content_set, machine).await?);
                }
            }
            return Ok(Listing { packages, ..Listing::default() });
        }
        Source::Directory(_) | Source::Set(_) | Source::Crawler(_) => return Ok(Listing::default()),
    };
    if options.keyring.is_some() {
        // A signature vouches for digests; what has none that nobody else can meet would come unverified.
        let is_covered =
            |package: &Package| package.sha256.is_some() || package.checksum.as_ref().is_some_and(Checksum::is_strong);
        let unknown = listing.packages.extract_if(.., |package| !is_covered(package));
        listing.problems.extend(unknown.map(|package| {
            let stated = package.checksum.as_ref().map_or("no digest that can be compared", Checksum::kind);
            format!("{}: {stated} is stated, so that the signature does not cover it", package.name)
        }));
    }
    Ok(listing)
}

impl Source {
    /// Reads sources from the words of a command line.
    pub fn parse_all(words: &[String]) -> Result<Vec<Self>, ParseError> {
        let mut groups: Vec<Vec<&str>> = Vec::new();
        for word in words {
            let kind = word.split_once(':').map(|(kind, _)| kind);
            let begins = kind.is_some_and(|kind| KINDS.contains(&kind)) || sources_list::begins(word);
            match groups.last_mut() {
                Some(group) if !begins => group.push(word),
                _ if kind == Some("apt") || sources_list::begins(word) => {
                    groups.push(word.split_whitespace().collect());
                }
                _ => groups.push(vec![word]),
            }
        }
        groups.into_iter().map(|group| Source::parse(&group)).collect()
    }

    fn parse(words: &[&str]) -> Result<Self, ParseError> {
        let text = words.join(" ");
        if words.first() == Some(&"deb") {
            let line = sources_list::line(words).filter(|line| line.words.len() > 1);
            let Some(line) = line else { return Err(ParseError::NoLine(text)) };
            let mut apt = vec![format!("apt:{}", line.words[0])];
            apt.extend_from_slice(&line.words[1..]);
            let source = Source::parse(&apt.iter().map(String::as_str).collect::<Vec<_>>())?;
            return Ok(match source {
                Source::Apt(repository) => Source::Apt(AptRepository {
                    architectures: line.architectures,
                    signed_by: line.signed_by,
                    ..repository
                }),
                other => other,
            });
        }
        let Some((kind, place)) = words.first().and_then(|word| word.split_once(':')) else {
            return Err(ParseError::UnknownKind(text));
        };
        if kind == "redhat" {
            let first = Some(place).filter(|place| !place.is_empty());
            let sets = first.into_iter().chain(words[1..].iter().copied()).map(str::to_owned);
            return Ok(Source::RedHat(sets.collect()));
        }
        if place.is_empty() {
            return Err(ParseError::Empty(text));
        }
        let url = || match place.parse::<Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
            _ => Err(ParseError::NoUrl(text.clone())),
        };
        let source = match (kind, &words[1..]) {
            // A flat repository has no components: `./`, `/`.
            ("apt", [suite, components @ ..]) if components.is_empty() == suite.ends_with('/') => {
                let components = components.iter().map(|component| (*component).to_owned()).collect();
                let (base, suite) = (url()?, (*suite).to_owned());
                return Ok(Source::Apt(AptRepository {
                    base,
                    suite,
                    components,
                    architectures: Vec::new(),
                    signed_by: None,
                }));
            }
            ("apt", _) => return Err(ParseError::NoSuite(text)),
            ("dir", _) => Source::Directory(place.into()),
            ("set", _) => Source::Set(place.into()),
            ("crawler", _) => Source::Crawler(place.into()),
            ("rpm", _) => Source::Rpm(url()?),
            _ => return Err(ParseError::UnknownKind(text)),
        };
        if words.len() > 1 { Err(ParseError::TooManyWords(text)) } else { Ok(source) }
    }
}

/// How the names of kernel packages begin, of rpms and of debs.
const KERNEL_NAMES: [&str; 4] = ["kernel", "linux", "proxmox-", "pve-"];

const KINDS: [&str; 6] = ["apt", "crawler", "dir", "redhat", "rpm", "set"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_from_words_and_others_are_refused() {
        let parse = |text: &str| Source::parse_all(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let apt = |components: &[&str]| {
            Source::Apt(AptRepository {
                base: "https://h/debian".parse().unwrap(),
                suite: "bookworm".into(),
                components: components.iter().map(|component| (*component).to_owned()).collect(),
                architectures: Vec::new(),
                signed_by: None,
            })
        };
        let signed = Source::Apt(AptRepository {
            base: "https://h/debian".parse().unwrap(),
            suite: "bookworm".into(),
            components: vec!["main".into()],
            architectures: vec!["arm64".into()],
            signed_by: Some("/k.gpg".into()),
        });
        let rpm = || Source::Rpm("http://h/os/".parse().unwrap());
        for (text, expected) in [
            ("dir:/a", Ok(vec![Source::Directory("/a".into())])),
            (
                "apt:https://h/debian bookworm main contrib rpm:http://h/os/ set:x.json",
                Ok(vec![apt(&["main", "contrib"]), rpm(), Source::Set("x.json".into())]),
            ),
            ("apt:https://h/debian", Err(ParseError::NoSuite("apt:https://h/debian".into()))),
            ("apt:https://h/debian sid", Err(ParseError::NoSuite("apt:https://h/debian sid".into()))),
            ("deb https://h/debian bookworm main dir:/a", Ok(vec![apt(&["main"]), Source::Directory("/a".into())])),
            (
                "rpm:http://h/os/ deb [arch=arm64 signed-by=/k.gpg] https://h/debian bookworm main",
                Ok(vec![rpm(), signed]),
            ),
            ("deb https://h/debian", Err(ParseError::NoLine("deb https://h/debian".into()))),
            ("deb [arch=arm64] h bookworm main", Err(ParseError::NoUrl("apt:h bookworm main".into()))),
            ("/a", Err(ParseError::UnknownKind("/a".into()))),
            ("redhat:", Ok(vec![Source::RedHat(vec![])])),
            ("redhat:a-rpms b-rpms", Ok(vec![Source::RedHat(vec!["a-rpms".into(), "b-rpms".into()])])),
            ("dir:", Err(ParseError::Empty("dir:".into()))),
            ("dir:/a b", Err(ParseError::TooManyWords("dir:/a b".into()))),
            ("rpm:file:///etc", Err(ParseError::NoUrl("rpm:file:///etc".into()))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for first in ["apt:https://h/debian bookworm main", "deb https://h/debian  bookworm main"] {
            let one_word = vec![first.to_owned(), "dir:/a b".to_owned()];
            assert_eq!(Source::parse_all(&one_word), Ok(vec![apt(&["main"]), Source::Directory("/a b".into())]));
        }
    }
}
