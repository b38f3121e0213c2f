//! Reads a tree into a snapshot that is being made.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::catalog::chart_index::{self, Index};
use crate::catalog::entry::{Bundle, Chart, Image, Instant, Kind, Repository, stored_registry};
use crate::catalog::store::{Draft, KindInfo, NO_DIGEST};
use crate::catalog::tree::{Error, ImportReport};
use crate::fs;
use crate::limits;
use crate::plural;

/// Reads a tree of oct's or of ours, 2022's formats included, into a draft. `path` is the tree or its `data/`.
pub fn read(path: &Path, draft: &Draft) -> Result<(ImportReport, Vec<(Kind, KindInfo)>), Error> {
    let data = if path.join("data").is_dir() { path.join("data") } else { path.to_owned() };
    if !data.join("containers").is_dir() && !data.join("operators").is_dir() && !data.join("helm").is_dir() {
        return Err(Error::NoTree { path: path.to_owned() });
    }
    let mut report = ImportReport::default();
    let charts = read_charts(&data.join("helm/helm.db"), &mut report)?;
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
        passed_over.push(format!("operators: {} without a dot in the name", plural::count(dotless, "bundle")));
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

/// The charts of helm.db; what is to be said of them goes into the report.
fn read_charts(path: &Path, report: &mut ImportReport) -> Result<Vec<Chart>, Error> {
    let bytes = fs::read(path, limits::CHART_INDEX)?;
    let index = chart_index::parse(&bytes).map_err(|source| Error::Charts { path: path.to_owned(), source })?;
    let half = index.half();
    let Index { mut charts, odd, .. } = index;
    report.charts = charts.len() as u64;
    report.odd.extend(odd.into_iter().chain(half).map(|odd| format!("helm/helm.db: {odd}")));
    report.passed_over.extend(chart_index::replace_unusable_constraints(&mut charts));
    Ok(charts)
}

/// When the charts of the tree below `directory` were taken, by the last line of its chart index; `None` where there is no
/// tree, or none that says so. This is what tells an older dump from a newer one where no snapshot lies beside it.
pub fn written(directory: &Path) -> Option<Instant> {
    let mut file = fs::open_file(&directory.join("data/helm/helm.db")).ok()?;
    let end = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(end.saturating_sub(LAST_LINE))).ok()?;
    let mut last = Vec::new();
    file.take(LAST_LINE).read_to_end(&mut last).ok()?;
    let text = String::from_utf8_lossy(&last).into_owned();
    let line = text.lines().rev().find_map(|line| line.strip_prefix("generated:"))?;
    line.trim().trim_matches(['"', '\'']).parse().ok()
}

/// Bytes in which the last line of a chart index ends.
const LAST_LINE: u64 = 256;

/// A page of full rows has 4 MB at most; anything far above is no page.
const PAGE_LIMIT: u64 = 256 << 20;
