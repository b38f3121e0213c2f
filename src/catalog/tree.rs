//! The directory that certsuite and oct read, written from a snapshot and read into one.
//!
//! ```text
//! DIR/data/archive.json                                  {"containers":N,"operators":N,"charts":N}
//! DIR/data/containers/containers.db                      one JSON object, DIGEST: image
//! DIR/data/helm/helm.db                                  a Helm index, YAML
//! DIR/data/operators/operator_catalog_page_P_500.db      {"data":[bundle, …]}, P from 0
//! DIR/catalog.db                                         the snapshot itself, unless it is not wanted
//! ```
//!
//! What unmodified certsuite answers from this tree is better than from oct's: an image is found by every digest it is
//! known by, that of its manifest list above all, which is what nodes report; entries that share a digest keep the
//! repositories of all; tags that were removed are gone; bundles without a dot in their name get the dot that the
//! reader asks for; constraints that would crash the reader are replaced by one that nothing satisfies. The same
//! snapshot always gives the same bytes.
//!
//! [`read`] follows certsuite's reader, its oddities with operators included, and answers what that answers. It differs
//! where that reader is at odds with itself: `registry.redhat.io` is found as it stands, and a key that stands twice in
//! containers.db keeps the tags of both. Field names are taken in the one spelling that trees have.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::catalog::chart_index::{self, IndexError};
use crate::catalog::entry::{Bundle, COMMUNITY, Chart, Image, Instant, Kind, Repository, stored_registry};
use crate::catalog::store::{self, Draft, KindInfo, NO_DIGEST, Snapshot};
use crate::digest::{Algorithm, Digest, HashingWriter};
use crate::fs::{self, AtomicDir, AtomicFile, PathContext, PathError};

/// What a dump writes.
#[derive(Clone, Debug, Default)]
pub struct DumpOptions {
    /// Leaves `catalog.db` out.
    pub without_db: bool,
    /// Leaves out charts of the community, which nobody certified although they stand in the index.
    pub without_community: bool,
    /// A `data` directory that was written from this very snapshot, to be copied instead of being written once more. The
    /// images hold one, for consumers that copy it out of them.
    pub ready: Option<PathBuf>,
}

/// What a dump wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpReport {
    /// The directory that holds `data`.
    pub directory: PathBuf,
    /// Keys of containers.db.
    pub containers: u64,
    /// Distinct bundles.
    pub operators: u64,
    /// Chart versions.
    pub charts: u64,
}

/// What an import read, beside the rows that it took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    /// Images by key.
    pub containers: u64,
    /// Bundles.
    pub operators: u64,
    /// Chart versions.
    pub charts: u64,
    /// What certsuite would pass over, and so did we; a line each.
    pub passed_over: Vec<String>,
}

/// Why a tree cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The snapshot failed.
    #[error("{0}")]
    Store(#[from] store::Error),
    /// The file system failed.
    #[error("{0}")]
    Path(#[from] PathError),
    /// There is no tree.
    #[error("{}: no certification data here (expected containers/, helm/ and operators/, or data/ with them)", path.display())]
    NoTree {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The place for a dump is not a directory.
    #[error("{}: not a directory", path.display())]
    NotADirectory {
        /// The place.
        path: PathBuf,
    },
    /// The place for a dump is not there.
    #[error("{}: no such directory", path.display())]
    NoDirectory {
        /// The place.
        path: PathBuf,
    },
    /// A file is not what certsuite could read.
    #[error("{}: not a JSON object of images", path.display())]
    Containers {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The chart index cannot be read.
    #[error("{}: not a chart index", path.display())]
    Charts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IndexError,
    },
    /// A copy is not what was copied.
    #[error("{}: differs from {}, which was copied to it", path.display(), original.display())]
    Copy {
        /// The copy.
        path: PathBuf,
        /// What was copied.
        original: PathBuf,
    },
    /// What was written is not what was meant to be.
    #[error("{}: what was written reads back as {found}, not as {expected}", path.display())]
    Verify {
        /// The file.
        path: PathBuf,
        /// What was written.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
}

/// Writes the tree below `directory`, in place of the one that is there, which stays until the new one is whole.
///
/// `directory` is created when only its last part is missing. What else lies in it is left alone.
pub fn dump(snapshot: &Snapshot, directory: &Path, options: &DumpOptions) -> Result<DumpReport, Error> {
    if directory.exists() && !directory.is_dir() {
        return Err(Error::NotADirectory { path: directory.to_owned() });
    }
    if !directory.exists() {
        if !fs::parent(directory).is_dir() {
            return Err(Error::NoDirectory { path: directory.to_owned() });
        }
        std::fs::create_dir(directory).at("create", directory)?;
    }
    let db = directory.join("catalog.db");
    if db.is_dir() {
        let source = std::io::ErrorKind::IsADirectory.into();
        return Err(PathError { action: "replace", path: db, source }.into());
    }
    let data = AtomicDir::create(&directory.join("data"))?;
    let mut report = match &options.ready {
        Some(ready) if !options.without_community => copy_data(ready, data.path())?,
        _ => write_data(snapshot, data.path(), options)?,
    };
    report.directory = directory.to_owned();
    // Dumping beside the snapshot itself must not touch it.
    let itself = db.canonicalize().is_ok_and(|db| snapshot.path().canonicalize().is_ok_and(|path| path == db));
    if itself {
        data.finish()?;
        return Ok(report);
    }
    if options.without_db {
        data.finish()?;
        // What an earlier dump left would be of another snapshot than the tree. Only a snapshot is removed.
        if Snapshot::open(&db).is_ok() {
            fs::remove_file(&db)?;
        }
        return Ok(report);
    }
    // Both are whole before either takes its place.
    fs::remove_abandoned(&db);
    let mut copy = AtomicFile::create(&db)?;
    std::io::copy(&mut fs::open(snapshot.path())?, &mut copy).at("write", &db)?;
    data.finish()?;
    copy.finish()?;
    Ok(report)
}

/// Writes what belongs below `data/` into an existing, empty directory, and reads it back.
pub fn write_data(snapshot: &Snapshot, data: &Path, options: &DumpOptions) -> Result<DumpReport, Error> {
    for kind in ["containers", "helm", "operators"] {
        fs::create_dir_all(&data.join(kind))?;
    }
    let mut charts = snapshot.charts()?;
    charts.retain(|chart| !options.without_community || chart.provider_type != COMMUNITY);
    let taken = snapshot.info()?.taken;
    // Images are most of the tree; the rest is written beside them, each over a connection of its own.
    let path = snapshot.path();
    let (containers, operators) = rayon::join(
        || -> Result<u64, Error> {
            let (keys, written) = write_containers(&Snapshot::open(path)?, data)?;
            verify(data, &[written])?;
            Ok(keys)
        },
        || -> Result<u64, Error> {
            let (rows, mut written) = write_operators(&Snapshot::open(path)?, data)?;
            let mut helm = File::create(data, "helm/helm.db")?;
            helm.write(|out| chart_index::write(&charts, taken, out))?;
            written.push(helm.finish()?);
            verify(data, &written)?;
            Ok(rows)
        },
    );
    let (containers, operators, charts) = (containers?, operators?, charts.len() as u64);
    let mut archive = File::create(data, "archive.json")?;
    archive
        .write(|out| write!(out, "{{\"containers\":{containers},\"operators\":{operators},\"charts\":{charts}}}"))?;
    verify(data, &[archive.finish()?])?;
    Ok(DumpReport { directory: data.to_owned(), containers, operators, charts })
}

/// Copies a tree that is there already, and compares the copy.
fn copy_data(ready: &Path, data: &Path) -> Result<DumpReport, Error> {
    for entry in walkdir::WalkDir::new(ready).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(std::io::Error::from).at("list", ready)?;
        let name = entry.path().strip_prefix(ready).expect("what is found lies below the root");
        let to = data.join(name);
        if entry.file_type().is_dir() {
            fs::create_dir_all(&to)?;
            continue;
        }
        fs::copy(entry.path(), &to)?;
        let (mut copied, mut original) = (fs::open(&to)?, fs::open(entry.path())?);
        if !same(&mut copied, &mut original).at("read", &to)? {
            return Err(Error::Copy { path: to, original: entry.into_path() });
        }
    }
    #[derive(Deserialize)]
    struct Counts {
        containers: u64,
        operators: u64,
        charts: u64,
    }
    let archive = data.join("archive.json");
    let text = fs::read(&archive, 1 << 10)?;
    let Counts { containers, operators, charts } =
        serde_json::from_slice(&text).map_err(std::io::Error::from).at("read", &archive)?;
    Ok(DumpReport { directory: data.to_owned(), containers, operators, charts })
}

/// Whether two readers give the same bytes.
fn same(one: &mut impl BufRead, other: &mut impl BufRead) -> std::io::Result<bool> {
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        if left[..length] != right[..length] {
            return Ok(false);
        }
        one.consume(length);
        other.consume(length);
    }
}

/// A file of the tree that is being written.
struct File {
    out: HashingWriter<BufWriter<std::fs::File>>,
    path: PathBuf,
    name: String,
}

/// A file of the tree that was written.
struct Written {
    /// Below `data/`.
    name: String,
    digest: Digest,
}

impl File {
    fn create(data: &Path, name: &str) -> Result<Self, PathError> {
        let path = data.join(name);
        let file = fs::create_new(&path)?;
        let out = HashingWriter::new(BufWriter::with_capacity(256 << 10, file), Algorithm::Sha256);
        Ok(File { out, path, name: name.to_owned() })
    }

    fn write(
        &mut self,
        write: impl FnOnce(&mut HashingWriter<BufWriter<std::fs::File>>) -> std::io::Result<()>,
    ) -> Result<(), PathError> {
        write(&mut self.out).at("write", &self.path)
    }

    fn finish(self) -> Result<Written, PathError> {
        let (digest, _, mut out) = self.out.finish();
        out.flush().at("write", &self.path)?;
        Ok(Written { name: self.name, digest })
    }
}

/// An image as it stands in containers.db, fields in Go's order.
#[derive(Serialize)]
struct ContainerOut<'a> {
    _id: &'a str,
    creation_date: String,
    architecture: &'a str,
    certified: bool,
    image_id: &'a str,
    repositories: Vec<RepositoryOut<'a>>,
}

#[derive(Serialize)]
struct RepositoryOut<'a> {
    registry: &'a str,
    repository: &'a str,
    tags: Vec<TagOut<'a>>,
}

#[derive(Serialize)]
struct TagOut<'a> {
    name: &'a str,
}

fn write_containers(snapshot: &Snapshot, data: &Path) -> Result<(u64, Written), Error> {
    let mut file = File::create(data, "containers/containers.db")?;
    let mut keys = 0;
    // Hashed and written in pieces, an image each.
    let mut line = Vec::from(*b"{");
    snapshot.each_digest(|key, image| {
        let repositories = image.repositories.iter().map(|repository| RepositoryOut {
            registry: &repository.registry,
            repository: &repository.repository,
            tags: repository.tags.iter().map(|name| TagOut { name }).collect(),
        });
        let entry = ContainerOut {
            _id: &image.id,
            creation_date: if image.created.is_known() { image.created.to_string() } else { String::new() },
            architecture: &image.architecture,
            certified: true,
            image_id: image.digests.first().map_or("", String::as_str),
            repositories: repositories.collect(),
        };
        line.extend_from_slice(if keys == 0 { b"\n" } else { b",\n" });
        keys += 1;
        file.write(|out| {
            serde_json::to_writer(&mut line, key)?;
            line.push(b':');
            serde_json::to_writer(&mut line, &entry)?;
            out.write_all(&line)
        })?;
        line.clear();
        Ok::<_, Error>(())
    })?;
    line.extend_from_slice(b"\n}\n");
    file.write(|out| out.write_all(&line))?;
    Ok((keys, file.finish()?))
}

fn write_operators(snapshot: &Snapshot, data: &Path) -> Result<(u64, Vec<Written>), Error> {
    #[derive(Serialize)]
    struct BundleOut<'a> {
        channel_name: &'a str,
        csv_name: &'a str,
        ocp_version: &'a str,
    }
    let end = |mut page: File| -> Result<Written, PathError> {
        page.write(|out| out.write_all(b"\n]}\n"))?;
        page.finish()
    };
    let mut rows = 0;
    let mut page: Option<File> = None;
    let mut written = Vec::new();
    snapshot.each_operator(|csv_name, ocp_version, channel| {
        // The reader drops names without a dot, and finds them when one stands at the end.
        let dotted = if csv_name.contains('.') { csv_name.to_owned() } else { format!("{csv_name}.") };
        let row = BundleOut { channel_name: channel, csv_name: &dotted, ocp_version };
        let mut line = Vec::from(&b",\n"[..]);
        if rows % OPERATORS_A_PAGE == 0 {
            written.extend(page.take().map(end).transpose()?);
            let number = rows / OPERATORS_A_PAGE;
            let name = format!("operators/operator_catalog_page_{number}_{OPERATORS_A_PAGE}.db");
            page = Some(File::create(data, &name)?);
            line = Vec::from(&b"{\"data\":[\n"[..]);
        }
        rows += 1;
        page.as_mut().expect("a page was begun at the first row").write(|out| {
            serde_json::to_writer(&mut line, &row)?;
            out.write_all(&line)
        })?;
        Ok::<_, Error>(())
    })?;
    written.extend(page.map(end).transpose()?);
    Ok((rows, written))
}

/// Reads every file back and compares it with what was meant to be written, before the tree takes the old one's place.
fn verify(data: &Path, written: &[Written]) -> Result<(), Error> {
    for file in written {
        let path = data.join(&file.name);
        let (found, _) = Digest::of_file(&path)?;
        if found != file.digest {
            return Err(Error::Verify { path, expected: file.digest.clone(), found });
        }
    }
    Ok(())
}

/// Reads a tree of oct's or of ours, 2022's formats included, into a draft. `path` is the tree or its `data/`.
pub fn read(path: &Path, draft: &Draft) -> Result<(ImportReport, Vec<(Kind, KindInfo)>), Error> {
    let data = if path.join("data").is_dir() { path.join("data") } else { path.to_owned() };
    if !data.join("containers").is_dir() && !data.join("operators").is_dir() && !data.join("helm").is_dir() {
        return Err(Error::NoTree { path: path.to_owned() });
    }
    let mut report = ImportReport::default();
    let (charts, replaced) = read_charts(&data.join("helm/helm.db"))?;
    report.charts = charts.len() as u64;
    report.passed_over.extend(replaced);
    let mut failed = None;
    // Oct's last page repeats rows; a row of the same `_id` but with other content is another row.
    let mut seen: HashMap<String, (String, String, String)> = HashMap::new();
    draft.transaction(|draft| {
        for kind in Kind::ALL {
            draft.clear(kind)?;
        }
        draft.replace_charts(&charts, false)?;
        let containers = read_containers(&data.join("containers/containers.db"), |key, entry| {
            report.containers += 1;
            draft.merge_image(&entry.into_image(key)).map_err(Error::from)
        });
        let operators = containers.and_then(|()| {
            read_operators(&data.join("operators"), |bundle| {
                report.operators += 1;
                let content = (bundle.csv_name.clone(), bundle.ocp_version.clone(), bundle.channel.clone());
                let first = seen.entry(bundle.id.clone()).or_insert_with(|| content.clone());
                let id = if *first == content { bundle.id.clone() } else { String::new() };
                draft.put_bundle(&Bundle { id, ..bundle.clone() }).map_err(Error::from)
            })
        });
        match operators {
            Ok(passed_over) => report.passed_over.extend(passed_over),
            // The transaction is rolled back for an error of the store; others are kept aside until it is closed.
            Err(Error::Store(error)) => return Err(error),
            Err(error) => failed = Some(error),
        }
        Ok(())
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let source = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let taken = written_at(&data);
    let about = |kind| (kind, KindInfo { source: source.clone(), taken, ..KindInfo::default() });
    Ok((report, Kind::ALL.map(about).into()))
}

/// When the tree was written: the newest of its files.
fn written_at(data: &Path) -> Instant {
    let files = ["archive.json", "containers/containers.db", "helm/helm.db", "operators"];
    let modified = |file| std::fs::metadata(data.join(file)).and_then(|metadata| metadata.modified()).ok();
    let newest = files.into_iter().filter_map(modified).max();
    newest.and_then(|time| jiff::Timestamp::try_from(time).ok()).map(Instant::from).unwrap_or_default()
}

/// An image as trees hold it: today's fields and 2022's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    _id: Option<String>,
    creation_date: Option<String>,
    architecture: Option<String>,
    repositories: Option<Vec<Option<ContainerRepository>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerRepository {
    registry: Option<String>,
    repository: Option<String>,
    tags: Option<Vec<Option<ContainerTag>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ContainerTag {
    name: Option<String>,
}

impl Container {
    fn into_image(self, key: String) -> Image {
        let repository = |entry: ContainerRepository| Repository {
            registry: stored_registry(entry.registry.as_deref().unwrap_or_default()).to_owned(),
            repository: entry.repository.unwrap_or_default(),
            tags: entry.tags.into_iter().flatten().flatten().filter_map(|tag| tag.name).collect(),
        };
        Image {
            id: self._id.unwrap_or_default(),
            architecture: self.architecture.unwrap_or_default(),
            // Oct kept images without a digest under the empty key.
            digests: if key.is_empty() || key.starts_with(NO_DIGEST) { Vec::new() } else { vec![key] },
            repositories: self.repositories.into_iter().flatten().flatten().map(repository).collect(),
            created: self.creation_date.and_then(|date| date.parse().ok()).unwrap_or_default(),
            updated: Instant::default(),
        }
    }
}

/// Passes every entry of containers.db, one at a time: the file may have tens of megabytes.
///
/// Of a key that stands there twice the last value counts, for certsuite; here both are passed, which can only add
/// tags. Real files have no such keys.
fn read_containers(path: &Path, visit: impl FnMut(String, Container) -> Result<(), Error>) -> Result<(), Error> {
    struct Entries<F>(F);

    impl<'de, F: FnMut(String, Container) -> Result<(), Error>> DeserializeSeed<'de> for Entries<F> {
        type Value = Option<Error>;

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Error>, D::Error> {
            deserializer.deserialize_map(self)
        }
    }

    impl<'de, F: FnMut(String, Container) -> Result<(), Error>> Visitor<'de> for Entries<F> {
        type Value = Option<Error>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with an image for each digest")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Option<Error>, A::Error> {
            while let Some((key, value)) = map.next_entry::<String, Option<Container>>()? {
                if let Err(error) = (self.0)(key, value.unwrap_or_default()) {
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    return Ok(Some(error));
                }
            }
            Ok(None)
        }
    }

    let file = fs::open(path)?;
    let malformed = |source| Error::Containers { path: path.to_owned(), source };
    let mut deserializer = serde_json::Deserializer::from_reader(file);
    let failed = Entries(visit).deserialize(&mut deserializer).map_err(malformed)?;
    deserializer.end().map_err(malformed)?;
    failed.map_or(Ok(()), Err)
}

/// Passes every bundle of the operators directory as certsuite's reader sees it, and returns what it passes over.
///
/// That reader goes through every entry in the order of the names' bytes and decodes all files into one value that it
/// does not clear: a row that lacks a field has that of the same row of the files before it.
fn read_operators(directory: &Path, mut visit: impl FnMut(&Bundle) -> Result<(), Error>) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Page {
        data: Option<Vec<Option<Row>>>,
    }
    #[derive(Default, Deserialize)]
    struct Row {
        _id: Option<String>,
        csv_name: Option<String>,
        ocp_version: Option<String>,
        channel_name: Option<String>,
        package: Option<String>,
        organization: Option<String>,
        creation_date: Option<String>,
        last_update_date: Option<String>,
    }
    let mut passed_over = Vec::new();
    let mut remembered: Vec<Bundle> = Vec::new();
    let mut dotless = 0;
    for path in fs::list(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let page = match read_page(&path) {
            Ok(page) => page,
            Err(reason) => {
                if name != ".keep" {
                    passed_over.push(format!("operators/{name}: {reason}"));
                }
                continue;
            }
        };
        let Page { data: Some(rows) } = page else { continue };
        for (index, row) in rows.into_iter().enumerate() {
            if remembered.len() == index {
                remembered.push(Bundle::default());
            }
            let bundle = &mut remembered[index];
            let row = row.unwrap_or_default();
            let date = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or_default();
            let keep = |field: &mut String, text: Option<String>| {
                if let Some(text) = text {
                    *field = text;
                }
            };
            keep(&mut bundle.csv_name, row.csv_name);
            keep(&mut bundle.ocp_version, row.ocp_version);
            keep(&mut bundle.channel, row.channel_name);
            bundle.id = row._id.unwrap_or_default();
            bundle.package = row.package.unwrap_or_default();
            bundle.organization = row.organization.unwrap_or_default();
            (bundle.created, bundle.updated) = (date(row.creation_date), date(row.last_update_date));
            if bundle.csv_name.contains('.') {
                visit(bundle)?;
            } else {
                dotless += 1;
            }
        }
    }
    if dotless > 0 {
        passed_over.push(format!("operators: {dotless} bundles whose name has no dot"));
    }
    return Ok(passed_over);

    fn read_page(path: &Path) -> Result<Page, String> {
        let file = fs::open_file(path).map_err(|error| error.source.to_string())?;
        let mut text = String::new();
        // As a text first: serde_json reads from a file byte by byte.
        BufReader::new(file).take(PAGE_LIMIT).read_to_string(&mut text).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| format!("not a page of bundles: {error}"))
    }
}

/// The charts of helm.db, and what was replaced in them.
fn read_charts(path: &Path) -> Result<(Vec<Chart>, Vec<String>), Error> {
    let bytes = fs::read(path, chart_index::LIMIT)?;
    let mut charts = chart_index::parse(&bytes).map_err(|source| Error::Charts { path: path.to_owned(), source })?;
    let replaced = chart_index::replace_unusable_constraints(&mut charts);
    Ok((charts, replaced))
}

const OPERATORS_A_PAGE: u64 = 500;

/// A page of full rows has 4 MB at most; anything far above is no page.
const PAGE_LIMIT: u64 = 256 << 20;
