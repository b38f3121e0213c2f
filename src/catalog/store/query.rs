//! Questions to a finished snapshot.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use crate::catalog::entry::{Bundle, Chart, Image, Instant, Repository, split_csv_name, stored_registry};
use crate::catalog::store::{DIGEST_PREFIX, Error, Snapshot, packed_digest, sqlite, unpacked};
use crate::natural;

/// The row that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Answer {
    /// An operator bundle.
    Operator(Bundle),
    /// A container image.
    Container(Image),
    /// A chart version.
    Chart(Chart),
}

impl Snapshot {
    /// The bundle with this CSV name, split as certsuite splits it, for this OpenShift version, or any when empty.
    pub fn operator(&self, csv_name: &str, ocp_version: &str) -> Result<Option<Bundle>, Error> {
        let (name, version) = split_csv_name(csv_name);
        let sql = format!(
            "{SELECT_BUNDLE} WHERE csv.name = ?1 AND csv.version = ?2 AND (?3 = '' OR bundle.ocp_version = ?3)
             ORDER BY bundle.ocp_version, bundle.channel LIMIT 1"
        );
        self.one(&sql, params![name, version, ocp_version], bundle)
    }

    /// The image that is known by this digest, compared byte by byte.
    pub fn image_by_digest(&self, digest: &str) -> Result<Option<Image>, Error> {
        let found =
            self.one("SELECT image FROM digest WHERE digest = ?1 LIMIT 1", params![packed_digest(digest)], |row| {
                row.get::<_, i64>(0)
            })?;
        found.map(|image| self.image(image)).transpose()
    }

    /// The image with this tag in this repository.
    pub fn image_by_tag(&self, registry: &str, repository: &str, tag: &str) -> Result<Option<Image>, Error> {
        let found =
            self.one(IMAGE_BY_TAG, params![stored_registry(registry), repository, tag], |row| row.get::<_, i64>(0))?;
        found.map(|image| self.image(image)).transpose()
    }

    /// Whether any image is known by this digest.
    pub fn has_digest(&self, digest: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM digest WHERE digest = ?1 LIMIT 1";
        Ok(self.one(sql, params![packed_digest(digest)], |_| Ok(()))?.is_some())
    }

    /// Whether any image has this tag in this repository.
    pub fn has_tag(&self, registry: &str, repository: &str, tag: &str) -> Result<bool, Error> {
        Ok(self.one(IMAGE_BY_TAG, params![stored_registry(registry), repository, tag], |_| Ok(()))?.is_some())
    }

    /// Every chart version with this name and version, in the order of the index.
    pub fn charts_named(&self, name: &str, version: &str) -> Result<Vec<Chart>, Error> {
        let mut charts = Vec::new();
        self.each(
            &format!("{SELECT_CHART} WHERE name = ?1 AND version = ?2 ORDER BY chart"),
            params![name, version],
            |row| {
                charts.push(chart(row)?);
                Ok(())
            },
        )?;
        Ok(charts)
    }

    /// The bundles of this name, `CSV for OpenShift VERSION`: those of the same version, or else of others, newest first.
    pub fn operators_like(&self, csv_name: &str, limit: u32) -> Result<Vec<String>, Error> {
        let (name, version) = split_csv_name(csv_name);
        let mut found = Vec::new();
        for of_version in [Some(version), None] {
            if !found.is_empty() {
                break;
            }
            self.each(
                "SELECT DISTINCT csv.csv_name, bundle.ocp_version FROM csv JOIN bundle USING (csv)
                 WHERE csv.name = ?1 AND (?2 IS NULL OR csv.version = ?2)
                 ORDER BY bundle.created DESC, bundle.ocp_version DESC LIMIT ?3",
                params![name, of_version, limit],
                |row| {
                    let (csv_name, ocp): (String, String) = (row.get(0)?, row.get(1)?);
                    found.push(format!("{csv_name} for OpenShift {ocp}"));
                    Ok(())
                },
            )?;
        }
        Ok(found)
    }

    /// The CSVs of this package, or of this name without a version; the newest first.
    pub fn csvs_of(&self, name: &str, limit: u32) -> Result<Vec<String>, Error> {
        self.names(
            "SELECT csv.csv_name FROM csv JOIN bundle USING (csv) WHERE csv.package = ?1 OR csv.name = ?1
             GROUP BY csv.csv_name ORDER BY max(bundle.created) DESC, csv.csv_name DESC LIMIT ?2",
            params![name, limit],
        )
    }

    /// The versions of this chart, `NAME VERSION`, in the order of the index.
    pub fn charts_like(&self, name: &str, limit: u32) -> Result<Vec<String>, Error> {
        self.names(
            "SELECT name || ' ' || version FROM chart WHERE name = ?1 GROUP BY version ORDER BY min(chart) LIMIT ?2",
            params![name, limit],
        )
    }

    /// The tags of this repository, `REGISTRY/REPOSITORY:TAG`; the last versions first.
    pub fn tags_of(&self, registry: &str, repository: &str, limit: u32) -> Result<Vec<String>, Error> {
        let mut images = self.names(
            "SELECT DISTINCT registry || '/' || name || ':' || tag FROM repository JOIN tag USING (repository)
             WHERE registry = ?1 AND name = ?2",
            params![stored_registry(registry), repository],
        )?;
        images.sort_unstable_by(|a, b| natural::compare(b, a));
        images.truncate(limit as usize);
        Ok(images)
    }

    /// Every repository: its registry and its name.
    pub fn repositories(&self) -> Result<Vec<(String, String)>, Error> {
        self.pairs("SELECT registry, name FROM repository")
    }

    /// The names of every operator: that of its package and that of its CSVs, each with the latter, without a version.
    pub fn operator_names(&self) -> Result<Vec<(String, String)>, Error> {
        self.pairs("SELECT DISTINCT package, name FROM csv UNION SELECT DISTINCT name, name FROM csv")
    }

    /// The name of every chart.
    pub fn chart_names(&self) -> Result<Vec<String>, Error> {
        self.names("SELECT DISTINCT name FROM chart", [])
    }

    fn pairs(&self, sql: &str) -> Result<Vec<(String, String)>, Error> {
        let mut pairs = Vec::new();
        self.each(sql, [], |row| {
            pairs.push((row.get(0)?, row.get(1)?));
            Ok(())
        })?;
        Ok(pairs)
    }

    fn names(&self, sql: &str, params: impl rusqlite::Params) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        self.each(sql, params, |row| {
            names.push(row.get(0)?);
            Ok(())
        })?;
        Ok(names)
    }

    /// Passes every distinct (CSV name, OpenShift version, channel) in that order.
    pub fn each_operator<E: From<Error>>(
        &self,
        mut visit: impl FnMut(&str, &str, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        // Sorted here, which takes half as long as SQLite's own tree of what is distinct.
        let mut rows: Vec<(String, String, String)> = Vec::new();
        self.each(
            "SELECT csv_name, ocp_version, channel FROM bundle JOIN csv USING (csv) WHERE csv_name <> ''",
            [],
            |row| {
                rows.push((row.get(0)?, row.get(1)?, row.get(2)?));
                Ok(())
            },
        )?;
        rows.sort_unstable();
        rows.dedup();
        rows.iter().try_for_each(|(csv_name, ocp_version, channel)| visit(csv_name, ocp_version, channel))
    }

    /// Every chart version, by key, name and place in the index.
    pub fn charts(&self) -> Result<Vec<Chart>, Error> {
        let mut charts = Vec::new();
        self.each(&format!("{SELECT_CHART} ORDER BY key, chart"), [], |row| {
            charts.push(chart(row)?);
            Ok(())
        })?;
        Ok(charts)
    }

    /// Passes every fact, sorted, as the line that goes into the content digest, without its newline.
    pub fn each_fact<E: From<Error>>(&self, visit: impl FnMut(String) -> Result<(), E>) -> Result<(), E> {
        self.each_or(FACTS, fact, visit)
    }

    fn image(&self, number: i64) -> Result<Image, Error> {
        let row =
            self.one("SELECT id, architecture, created, updated FROM image WHERE image = ?1", [number], |row| {
                image(row, 0)
            })?;
        let mut found = row.unwrap_or_default();
        self.each("SELECT digest FROM digest WHERE image = ?1 ORDER BY main DESC, digest", [number], |row| {
            found.digests.push(unpacked(row.get_ref(0)?, DIGEST_PREFIX));
            Ok(())
        })?;
        self.each(TAGS_OF_IMAGE, [number], |row| {
            let (registry, repository): (String, String) = (row.get(0)?, row.get(1)?);
            let same = |last: &&mut Repository| last.registry == registry && last.repository == repository;
            match found.repositories.last_mut().filter(same) {
                Some(last) => last.tags.push(row.get(2)?),
                None => found.repositories.push(Repository { registry, repository, tags: vec![row.get(2)?] }),
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, Error> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(params, read).optional())
            .map_err(|error| sqlite(&self.path, error))
    }

    pub(super) fn each(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        mut visit: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), Error> {
        let run = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params)?;
            while let Some(row) = rows.next()? {
                visit(row)?;
            }
            Ok(())
        };
        run().map_err(|error| sqlite(&self.path, error))
    }

    /// Like `each`, for visitors that fail in ways of their own.
    fn each_or<T, E: From<Error>>(
        &self,
        sql: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
        mut visit: impl FnMut(T) -> Result<(), E>,
    ) -> Result<(), E> {
        let named = |error| sqlite(&self.path, error);
        let mut statement = self.connection.prepare_cached(sql).map_err(named)?;
        let mut rows = statement.query([]).map_err(named)?;
        while let Some(row) = rows.next().map_err(named)? {
            visit(read(row).map_err(named)?)?;
        }
        Ok(())
    }
}

/// The line of a fact, as [`FACTS`] selects it.
pub(super) fn fact(row: &Row<'_>) -> rusqlite::Result<String> {
    let mut line: String = row.get(0)?;
    if line == "digest" {
        line.push('\t');
        line.push_str(&unpacked(row.get_ref(1)?, DIGEST_PREFIX));
        return Ok(line);
    }
    for column in 1..5 {
        if let Some(field) = row.get::<_, Option<String>>(column)? {
            line.push('\t');
            line.push_str(&field);
        }
    }
    Ok(line)
}

/// Every fact once, sorted by bytes. A CSV name without a dot is the same fact as with the dot that the tree needs.
pub(super) const FACTS: &str = "
    SELECT DISTINCT 'chart' AS what, name AS a, version AS b, kube_version AS c, provider_type AS d FROM chart
    UNION SELECT 'digest', digest, NULL, NULL, NULL FROM digest
    UNION SELECT 'operator', iif(instr(csv_name, '.'), csv_name, csv_name || '.'), ocp_version, channel, NULL
        FROM bundle JOIN csv USING (csv) WHERE csv_name <> ''
    UNION SELECT 'tag', registry, name, tag, NULL FROM tag JOIN repository USING (repository)
    ORDER BY 1, 2, 3, 4, 5";

const SELECT_BUNDLE: &str = "
    SELECT bundle.id, csv.csv_name, bundle.ocp_version, bundle.channel, csv.package, csv.organization,
           bundle.created, bundle.updated
    FROM csv JOIN bundle USING (csv)";

const IMAGE_BY_TAG: &str = "
    SELECT tag.image FROM repository JOIN tag USING (repository)
    WHERE repository.name = ?2 AND repository.registry = ?1 AND tag.tag = ?3 LIMIT 1";

const TAGS_OF_IMAGE: &str = "
    SELECT repository.registry, repository.name, tag.tag FROM tag JOIN repository USING (repository)
    WHERE tag.image = ?1 ORDER BY 1, 2, 3";

const SELECT_CHART: &str =
    "SELECT key, name, version, kube_version, provider_type, unpublished, digest, urls FROM chart";

fn bundle(row: &Row<'_>) -> rusqlite::Result<Bundle> {
    Ok(Bundle {
        id: unpacked(row.get_ref(0)?, ""),
        csv_name: row.get(1)?,
        ocp_version: row.get(2)?,
        channel: row.get(3)?,
        package: row.get(4)?,
        organization: row.get(5)?,
        created: Instant::from_micros(row.get(6)?),
        updated: Instant::from_micros(row.get(7)?),
    })
}

pub(super) fn image(row: &Row<'_>, first: usize) -> rusqlite::Result<Image> {
    Ok(Image {
        id: unpacked(row.get_ref(first)?, ""),
        architecture: row.get(first + 1)?,
        created: Instant::from_micros(row.get(first + 2)?),
        updated: Instant::from_micros(row.get(first + 3)?),
        ..Image::default()
    })
}

fn chart(row: &Row<'_>) -> rusqlite::Result<Chart> {
    let urls: String = row.get(7)?;
    Ok(Chart {
        key: row.get(0)?,
        name: row.get(1)?,
        version: row.get(2)?,
        kube_version: row.get(3)?,
        provider_type: row.get(4)?,
        unpublished: row.get(5)?,
        digest: row.get(6)?,
        urls: urls.lines().map(str::to_owned).collect(),
    })
}
