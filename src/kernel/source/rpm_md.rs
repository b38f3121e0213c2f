//! rpm repositories: `repodata/repomd.xml`, and the `primary.xml` that it names with its digest.
//!
//! `primary.xml` of a distribution describes 60,000 packages in 200 MiB; it is read as a stream and only what may be a
//! kernel package is kept. Entities are not expanded and a document type is refused, so that there is nothing to blow up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

use quick_xml::events::{BytesStart, Event};
use url::Url;

use crate::compression::{LimitedReader, decoder, read_ahead};
use crate::digest::Digest;
use crate::http::{self, Http};
use crate::kernel::checksum::Checksum;
use crate::kernel::package::{Comparison, Format, Name, Package, Relation, Relations};
use crate::kernel::set;
use crate::kernel::source::filelists::FileList;
use crate::kernel::source::modulemd::Modules;
use crate::kernel::source::transfer::{self, Expected};
use crate::kernel::source::xml::{Xml, XmlError, append, append_reference, attribute};
use crate::kernel::source::{Error, Listing, Options, Wanted, is_missing};
use crate::limits::{self, Count, Exceeded, PACKAGE_OVERHEAD, RELATION_OVERHEAD};
use crate::reference;

/// Where the indexes of a repository are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Indexes {
    primary: Index,
    filelists: Option<Index>,
    modules: Option<Index>,
}

/// Where an index is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) href: String,
    pub(super) expected: Expected,
}

/// Lists the kernel packages of a repository: `url` is its directory, or a mirror list or metalink that names several.
pub(super) async fn packages(http: &Http, url: &Url, options: &Options) -> Result<Listing, Error> {
    if !is_list(url) {
        // An address that is no repository may be that of a list of mirrors, whatever it looks like.
        return match from_mirror(http, url, &[], options).await {
            // A host that does not answer has no list either.
            Err(Error::Http(error)) if error.status_code().is_none() => Err(error.into()),
            Err(error @ (Error::Http(_) | Error::Xml { .. })) => match mirrors_of(http, url, options).await {
                Ok(mirrors) if !mirrors.places.is_empty() => from_any(http, url, mirrors, options).await,
                _ => match error {
                    // Its signature, and the files that it names, may be missing of a repository that is one.
                    Error::Http(error) if is_missing(&error) && is_of(&error, "repomd.xml") => {
                        Err(Error::NoRpmRepository { url: Box::new(directory(url)) })
                    }
                    error => Err(error),
                },
            },
            result => result,
        };
    }
    let mirrors = mirrors_of(http, url, options).await?;
    from_any(http, url, mirrors, options).await
}

/// The mirrors of a list, and what the list says of their `repomd.xml`.
struct Mirrors {
    places: Vec<Url>,
    repomd: Vec<Checksum>,
}

async fn mirrors_of(http: &Http, url: &Url, options: &Options) -> Result<Mirrors, Error> {
    let list = transfer::small(http, url, LIST_LIMIT, options.cache.as_ref()).await?;
    let list = String::from_utf8_lossy(&list);
    Ok(Mirrors { places: mirrors(&list, options), repomd: stated_repomd(&list) })
}

/// Reads the first mirror that has what it should have.
async fn from_any(http: &Http, url: &Url, mirrors: Mirrors, options: &Options) -> Result<Listing, Error> {
    let Mirrors { places, repomd } = mirrors;
    let mut last = Error::malformed(url, "it names no mirror");
    for (at, mirror) in places.iter().enumerate() {
        match from_mirror(http, mirror, &repomd, options).await {
            Ok(listing) => {
                let others = places.iter().enumerate().filter(|(other, _)| *other != at);
                let others = others.map(|(_, place)| directory(place)).collect();
                let mirrors = set::Mirrors { base: directory(mirror), others };
                return Ok(Listing { mirrors: Some(mirrors), ..listing });
            }
            Err(error) => {
                tracing::info!("{}: {error}", http::shown(mirror));
                last = error;
            }
        }
    }
    Err(last)
}

/// Whether an error is about a file of this name.
fn is_of(error: &http::Error, name: &str) -> bool {
    matches!(error, http::Error::Status { url, .. } if url.path().rsplit('/').next() == Some(name))
}

/// A repository's address with a slash at its end.
#[expect(clippy::disallowed_methods, reason = "a slash behind what is a path already")]
pub(super) fn directory(place: &Url) -> Url {
    let mut place = place.clone();
    if !place.path().ends_with('/') {
        place.set_path(&format!("{}/", place.path()));
    }
    place
}

async fn from_mirror(http: &Http, base: &Url, stated: &[Checksum], options: &Options) -> Result<Listing, Error> {
    let base = directory(base);
    let cache = options.cache.as_ref();
    let url = join(&base, "repodata/repomd.xml")?;
    let repomd = transfer::small(http, &url, REPOMD_LIMIT, cache).await?;
    // A mirror that is behind, or not honest.
    if !stated.is_empty() && !stated.iter().any(|stated| stated.is_of(&repomd)) {
        return Err(Error::malformed(&url, "its digest is none of those that the metalink states"));
    }
    let mut unchecked = None;
    if let Some(keyring) = &options.keyring {
        let signature = transfer::small(http, &join(&base, "repodata/repomd.xml.asc")?, REPOMD_LIMIT, cache).await?;
        keyring
            .verify_detached(&repomd, &signature)
            .map_err(|source| Error::Signature { url: Box::new(url.clone()), source })?;
    } else if transfer::is_there(http, &join(&base, "repodata/repomd.xml.asc")?).await {
        unchecked = Some(base.clone());
    }
    let Indexes { primary, filelists, modules } =
        parse_repomd(&repomd[..]).map_err(|source| Error::xml(&url, source))?;
    primary.expected.is_good_enough(&url, options)?;
    let url = join(&base, &primary.href)?;
    let file = transfer::large(http, &url, &primary.expected, cache).await?;
    let (wanted, at) = (options.wanted, base.clone());
    let mut listing = read(file, url, move |xml| parse_primary(xml, &at, wanted)).await?;
    listing.unchecked = unchecked;
    if wanted == Wanted::All {
        listing.files = filelists.map(|index| FileList::new(&base, index)).transpose()?;
        if let Some(Index { href, expected }) = modules {
            let url = join(&base, &href)?;
            let file = transfer::large(http, &url, &expected, cache).await?;
            let (modules, problems) = read(file, url, |yaml| Modules::read(yaml).map_err(XmlError::Io)).await?;
            listing.modules = modules;
            listing.problems.extend(problems);
        }
    }
    Ok(listing)
}

/// Decompresses an index and reads it, away from those who wait for the network.
async fn read<T: Send + 'static>(
    file: File,
    url: Url,
    parse: impl FnOnce(&mut dyn BufRead) -> Result<T, XmlError> + Send + 'static,
) -> Result<T, Error> {
    let parsed = tokio::task::spawn_blocking(move || {
        let (_, reader) = decoder(BufReader::with_capacity(256 << 10, file))?;
        read_ahead(LimitedReader::new(reader, PRIMARY_LIMIT), |mut index| parse(&mut index))
    });
    parsed.await.expect("reading an index does not panic").map_err(|source| Error::xml(&url, source))
}

/// Reads `repomd.xml`: where its indexes are.
pub(crate) fn parse_repomd(reader: impl BufRead) -> Result<Indexes, XmlError> {
    let mut reader = Xml::new(reader);
    let (mut buffer, mut text) = (Vec::new(), String::new());
    let mut indexes: HashMap<String, Option<Index>> = HashMap::new();
    let (mut what, mut href, mut digest, mut size, mut kind) = (None, None, None, None, String::new());
    loop {
        match reader.next(&mut buffer)? {
            Event::DocType(_) => return Err(XmlError::Content("it has a document type")),
            Event::Start(tag) | Event::Empty(tag) => {
                text.clear();
                match tag.local_name().as_ref() {
                    "data" => {
                        what = attribute(&tag, "type")?;
                        (href, digest, size) = (None, None, None);
                    }
                    "location" => href = attribute(&tag, "href")?,
                    "checksum" => kind = attribute(&tag, "type")?.unwrap_or_default(),
                    _ => {}
                }
            }
            Event::Text(part) => append(&mut text, &part)?,
            Event::End(tag) => match tag.local_name().as_ref() {
                "checksum" => digest = Checksum::new(&kind, text.trim()),
                "size" => size = text.trim().parse::<u64>().ok(),
                "data" => {
                    let index = href.take().zip(digest.take());
                    let index = index.map(|(href, digest)| Index { href, expected: Expected { digest, size } });
                    // Others are databases, delta packages and what repositories make up.
                    if let Some(what) =
                        what.take().filter(|what| matches!(&**what, "primary" | "filelists" | "modules"))
                    {
                        indexes.insert(what, index);
                    }
                }
                _ => {}
            },
            Event::Eof => {
                let mut index = |what| indexes.remove(what).flatten();
                let (filelists, modules) = (index("filelists"), index("modules"));
                return match indexes.remove("primary") {
                    Some(Some(primary)) => Ok(Indexes { primary, filelists, modules }),
                    Some(None) => Err(XmlError::Content("primary has no place, or no digest of a known kind")),
                    None => Err(XmlError::Content("it names no primary")),
                };
            }
            _ => {}
        }
        buffer.clear();
    }
}

/// A package while it is read.
#[derive(Default)]
struct Partial {
    name: String,
    architecture: String,
    version: Option<String>,
    checksum: Option<Checksum>,
    size: Option<u64>,
    location: Option<String>,
    base: Option<String>,
    vendor: Option<String>,
    relations: Relations,
    /// How many relations there are.
    kept: usize,
}

/// Reads `primary.xml`.
pub(crate) fn parse_primary(reader: impl BufRead, base: &Url, wanted: Wanted) -> Result<Listing, XmlError> {
    let mut reader = Xml::new(reader);
    let (mut buffer, mut text) = (Vec::new(), String::new());
    let (mut count, mut kept) = (Count::new("packages", limits::PACKAGES), limits::kept());
    let mut listing = Listing::default();
    let mut package = Partial::default();
    let mut checksum_kind = None;
    let mut is_root_seen = false;
    // Which of the lists of relations we are in.
    let mut list = List::Other;
    loop {
        match reader.next(&mut buffer)? {
            Event::DocType(_) => return Err(XmlError::Content("it has a document type")),
            Event::Start(tag) | Event::Empty(tag) => {
                text.clear();
                match tag.local_name().as_ref() {
                    "metadata" => is_root_seen = true,
                    "package" => {
                        count.one()?;
                        package = Partial::default();
                    }
                    // The name comes before all else that is kept, and most packages are not wanted.
                    _ if !package.name.is_empty() && !wanted.admits(&package.name) => {}
                    "version" => {
                        let part = |name| Ok::<_, XmlError>(attribute(&tag, name)?.unwrap_or_default());
                        package.version = Some(format!("{}-{}", part("ver")?, part("rel")?));
                        package.relations.epoch = part("epoch")?.parse().unwrap_or(0);
                    }
                    "checksum" => checksum_kind = attribute(&tag, "type")?,
                    "size" => package.size = attribute(&tag, "package")?.and_then(|size| size.parse().ok()),
                    "location" => {
                        package.location = attribute(&tag, "href")?;
                        package.base = attribute(&tag, "xml:base")?;
                    }
                    "provides" => list = List::Provides,
                    "requires" => list = List::Requires,
                    "conflicts" => list = List::Conflicts,
                    "obsoletes" => list = List::Obsoletes,
                    "recommends" | "suggests" | "supplements" | "enhances" => list = List::Other,
                    "entry" => {
                        let found = relation(&tag)?;
                        package.keep(found.as_ref(), &mut kept)?;
                        let relations = &mut package.relations;
                        match (&list, found) {
                            (List::Provides, Some(relation)) => relations.provides.push(relation),
                            (List::Requires, Some(relation)) => relations.depends.push(vec![relation]),
                            (List::Conflicts, Some(relation)) => relations.conflicts.push(relation),
                            (List::Obsoletes, Some(relation)) => relations.obsoletes.push(relation),
                            _ => {}
                        }
                    }
                    _ => {}
                }
            }
            Event::Text(part) => append(&mut text, &part)?,
            // Descriptions may have others; nothing that is kept does.
            Event::GeneralRef(reference) => append_reference(&mut text, &reference)?,
            Event::End(tag) => match tag.local_name().as_ref() {
                "name" if package.name.is_empty() => package.name = std::mem::take(&mut text),
                "arch" => package.architecture = std::mem::take(&mut text),
                "checksum" => {
                    package.checksum = checksum_kind.take().and_then(|kind| Checksum::new(&kind, text.trim()));
                }
                // Programs and configuration files, which packages may require by their path.
                "file" if wanted == Wanted::All => {
                    let file = Relation { name: std::mem::take(&mut text), version: None };
                    package.keep(Some(&file), &mut kept)?;
                    package.relations.provides.push(file);
                }
                "vendor" => package.vendor = Some(std::mem::take(&mut text)).filter(|vendor| !vendor.is_empty()),
                "package" if wanted.admits(&package.name) => match std::mem::take(&mut package).finish(base) {
                    Ok(package) => {
                        kept.several(PACKAGE_OVERHEAD + 2 * package.location.len())?;
                        listing.packages.push(package);
                    }
                    Err(problem) => {
                        kept.several(problem.len())?;
                        listing.problems.push(problem);
                    }
                },
                _ => {}
            },
            Event::Eof if !is_root_seen => return Err(XmlError::Content("it is no primary.xml")),
            Event::Eof => return Ok(listing),
            _ => {}
        }
        buffer.clear();
    }
}

/// Lists of relations in `rpm:format`.
enum List {
    Provides,
    Requires,
    Conflicts,
    Obsoletes,
    Other,
}

impl Partial {
    /// Counts a relation that is kept.
    fn keep(&mut self, relation: Option<&Relation>, kept: &mut Count) -> Result<(), Exceeded> {
        self.kept += 1;
        limits::at_most(self.kept, limits::RELATIONS, "names that a package needs or provides")?;
        let texts =
            relation.map_or(0, |it| it.name.len() + it.version.as_ref().map_or(0, |(_, version)| version.len()));
        kept.several(RELATION_OVERHEAD + texts)
    }

    /// The package, or what is wrong with it.
    fn finish(self, base: &Url) -> Result<Package, String> {
        let Partial { name, architecture, version, checksum, size, location, base: other, vendor, relations, kept: _ } =
            self;
        let called = name.clone();
        let wrong = |why: &str| format!("{called}: {why}");
        let version = version.ok_or_else(|| wrong("it has no version"))?;
        let name = Name { name, version, architecture, format: Format::Rpm };
        // The parts become a file's name here and must be one.
        if name.to_string().parse::<Name>().ok().as_ref() != Some(&name) {
            return Err(wrong("its name is none of a file"));
        }
        let href = location.ok_or_else(|| wrong("it has no place"))?;
        // As dnf does: relative to the repository, and a directory whether or not it says so.
        let base = match other.as_deref().map(str::trim).filter(|other| !other.is_empty()) {
            Some(other) => {
                let joined = reference::resolve(base, &format!("{}/", other.trim_end_matches('/')));
                joined.map_err(|_| wrong(&format!("its xml:base `{other}` is not an HTTP URL")))?
            }
            None => base.clone(),
        };
        let location = join(&base, &href)
            .map_err(|_| wrong(&format!("it is at `{href}` of `{}`, not at an HTTP URL", http::shown(&base))))?;
        let sha256: Option<Digest> = checksum.as_ref().and_then(Checksum::sha256);
        Ok(Package {
            name,
            location: location.into(),
            size,
            is_digest_stated: sha256.is_some(),
            checksum: checksum.filter(|_| sha256.is_none()),
            sha256,
            relations: Some(relations),
            vendor,
        })
    }
}

fn relation(tag: &BytesStart<'_>) -> Result<Option<Relation>, XmlError> {
    let Some(name) = attribute(tag, "name")? else { return Ok(None) };
    let comparison = match attribute(tag, "flags")?.as_deref() {
        Some("EQ") => Some(Comparison::Equal),
        Some("GE") => Some(Comparison::AtLeast),
        Some("LE") => Some(Comparison::AtMost),
        Some("GT") => Some(Comparison::Later),
        Some("LT") => Some(Comparison::Earlier),
        _ => None,
    };
    let version = match (attribute(tag, "ver")?, attribute(tag, "rel")?) {
        (Some(version), Some(release)) => Some(format!("{version}-{release}")),
        (version, _) => version,
    };
    let epoch = attribute(tag, "epoch")?.filter(|epoch| epoch != "0");
    let version = version.map(|version| epoch.map_or(version.clone(), |epoch| format!("{epoch}:{version}")));
    Ok(Some(Relation { name, version: comparison.zip(version) }))
}

/// Joins a place to its repository. A repository may name places on other hosts, but only by HTTP.
pub(super) fn join(base: &Url, href: &str) -> Result<Url, Error> {
    reference::resolve(base, href).map_err(|_| Error::malformed(base, "a place in it is no HTTP URL"))
}

fn is_list(url: &Url) -> bool {
    // Who answers questions is no directory.
    if url.query().is_some() {
        return true;
    }
    let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    ["mirrorlist", "mirror.list", "metalink"].iter().any(|word| last.contains(word))
}

/// The mirrors of a list, a URL a line, or of a metalink, which names `repomd.xml` on each.
fn mirrors(list: &str, options: &Options) -> Vec<Url> {
    let machine = options.machines.first().map_or("x86_64", |machine| machine.as_str());
    let is_metalink = list.contains("<metalink");
    let places = list.split(if is_metalink { ['<', '>'] } else { ['\n', '\r'] });
    places
        .map(str::trim)
        .filter(|place| place.starts_with("http://") || place.starts_with("https://"))
        .filter_map(|place| match is_metalink {
            true => place.strip_suffix("repodata/repomd.xml"),
            false => Some(place),
        })
        .filter_map(|place| place.replace("$basearch", machine).parse().ok())
        .collect()
}

/// The digests of `repomd.xml` that a metalink states, of today's and of those before it; the strongest kind there is.
fn stated_repomd(list: &str) -> Vec<Checksum> {
    let hashes = list.split("<hash ").skip(1).filter_map(|part| {
        let (head, rest) = part.split_once('>')?;
        let kind = head.split("type=").nth(1)?.trim_start_matches(['"', '\'']);
        let kind = kind.split(['"', '\'']).next()?;
        Checksum::new(kind, rest.split('<').next()?.trim())
    });
    hashes.filter(Checksum::is_strong).collect()
}

const LIST_LIMIT: u64 = 4 << 20;
const REPOMD_LIMIT: u64 = 16 << 20;
/// Ten times what the largest distribution has.
const PRIMARY_LIMIT: u64 = 4 << 30;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_reading_xml_panic(text in "(<[a-z:/! ]{0,9}[\"=a-z&;# ]{0,9}>?|[a-z<>&;]{0,5}){0,30}") {
            let base = "https://h/".parse().unwrap();
            for text in [text.clone(), format!("<metadata><package><name>kernel</name>{text}</package></metadata>")] {
                let _ = parse_primary(text.as_bytes(), &base, Wanted::All);
                let _ = parse_repomd(text.as_bytes());
            }
        }
    }
}
