//! The Helm chart index: read from YAML, written as YAML.
//!
//! Of the index, what answers depend on is kept: name, version, the constraint on the cluster's version, who provides
//! the chart, and where it can be had. Scalars are taken as they are written (`version: 1.0` is `1.0`), as Helm does.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Deserialize;

use crate::catalog::constraint::Constraint;
use crate::catalog::entry::{Chart, Instant};

/// A text that is no chart index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not UTF-8.
    #[error("not UTF-8")]
    Encoding(#[from] std::str::Utf8Error),
    /// Not YAML of the right shape.
    #[error("line {line}, column {column}: {reason}")]
    Yaml {
        /// Line, from 1; 0 where it is not known.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong there.
        reason: String,
    },
}

/// Parses an index. Charts come in the order of their keys, versions in that of the file.
pub fn parse(bytes: &[u8]) -> Result<Vec<Chart>, IndexError> {
    #[derive(Deserialize)]
    struct Index {
        entries: Option<BTreeMap<String, Option<Vec<Entry>>>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry {
        name: Option<String>,
        version: Option<String>,
        kube_version: Option<String>,
        digest: Option<String>,
        urls: Option<Vec<String>>,
        annotations: Option<BTreeMap<String, Option<String>>>,
    }
    let text = std::str::from_utf8(bytes)?;
    // An empty file is an empty index, to Helm's reader too.
    let Some(index): Option<Index> =
        serde_saphyr::from_str_with_options(text, options()).map_err(|error| yaml(&error))?
    else {
        return Ok(Vec::new());
    };
    let charts = index.entries.unwrap_or_default().into_iter().flat_map(|(key, versions)| {
        versions.unwrap_or_default().into_iter().map(move |entry| Chart {
            key: key.clone(),
            name: entry.name.unwrap_or_default(),
            version: entry.version.unwrap_or_default(),
            kube_version: entry.kube_version.unwrap_or_default(),
            provider_type: entry
                .annotations
                .and_then(|mut annotations| annotations.remove(PROVIDER_TYPE).flatten())
                .unwrap_or_default(),
            unpublished: false,
            digest: entry.digest.unwrap_or_default(),
            urls: entry.urls.unwrap_or_default(),
        })
    });
    Ok(charts.collect())
}

/// Replaces constraints that do not parse by one that no version satisfies, and says which.
///
/// certsuite crashes on such a constraint, and Helm would not install the chart on any cluster.
pub fn replace_unusable_constraints(charts: &mut [Chart]) -> Vec<String> {
    let mut replaced = Vec::new();
    for chart in charts {
        if !chart.kube_version.is_empty() && chart.kube_version.parse::<Constraint>().is_err() {
            let Chart { name, version, kube_version, .. } = &*chart;
            replaced.push(format!(
                "chart {name} {version}: the constraint `{kube_version}` cannot be parsed, so no cluster satisfies it"
            ));
            NOTHING.clone_into(&mut chart.kube_version);
        }
    }
    replaced
}

/// Writes an index that Helm and certsuite read. The same charts and instant give the same bytes.
pub fn write(charts: &[Chart], generated: Instant, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "apiVersion: v1\nentries:{}", if charts.is_empty() { " {}" } else { "" })?;
    let mut sorted: Vec<&Chart> = charts.iter().collect();
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    let mut key = None;
    for chart in sorted {
        if key != Some(&chart.key) {
            writeln!(out, "  {}:", quoted(&chart.key))?;
            key = Some(&chart.key);
        }
        writeln!(out, "  - name: {}", quoted(&chart.name))?;
        writeln!(out, "    version: {}", quoted(&chart.version))?;
        if !chart.kube_version.is_empty() {
            writeln!(out, "    kubeVersion: {}", quoted(&chart.kube_version))?;
        }
        if !chart.digest.is_empty() {
            writeln!(out, "    digest: {}", quoted(&chart.digest))?;
        }
        if !chart.provider_type.is_empty() {
            writeln!(out, "    annotations:\n      {PROVIDER_TYPE}: {}", quoted(&chart.provider_type))?;
        }
        if !chart.urls.is_empty() {
            writeln!(out, "    urls:")?;
            for url in &chart.urls {
                writeln!(out, "    - {}", quoted(url))?;
            }
        }
    }
    writeln!(out, "generated: {}", quoted(&generated.to_string()))
}

/// A double-quoted scalar, so that nothing that a name may hold can change the structure. JSON's strings are such scalars,
/// but for characters that YAML does not take as they are.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let odd =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    if !json.contains(odd) {
        return json;
    }
    json.chars().map(|c| if odd(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// The defaults of the YAML reader stop documents that grow by aliases; a real index is far larger than its other
/// limits and has no aliases.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000_000,
            max_nodes: 10_000_000,
            max_total_scalar_bytes: LIMIT as usize,
            max_aliases: 1000,
        },
    }
}

fn yaml(error: &serde_saphyr::Error) -> IndexError {
    let (line, column) = error.location().map_or((0, 0), |place| (place.line(), place.column()));
    let reason = error.without_snippet().to_string();
    IndexError::Yaml { line, column, reason: reason.lines().next().unwrap_or_default().to_owned() }
}

/// Largest index that is read, in bytes: thirty times that of 2026.
pub const LIMIT: u64 = 64 << 20;

const PROVIDER_TYPE: &str = "charts.openshift.io/providerType";

/// A constraint that no version satisfies: none is less than the least.
const NOTHING: &str = "< 0.0.0-0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_taken_as_written_and_what_is_written_reads_back() {
        let index = "
apiVersion: v1
entries:
  acme-db:
  - name: db
    version: 1.0
    kubeVersion: '>=1.20'
    annotations: {charts.openshift.io/providerType: partner, other: 1}
    urls: [https://acme.example/db.tgz]
  - {name: db, version: 0x10, kubeVersion: null}
  - {name: db, version: v1, kubeversion: 1.30, maintainers: [{name: x}]}
  empty:
generated: '2026-08-20T00:00:00Z'
";
        let chart = |version: &str| Chart {
            key: "acme-db".into(),
            name: "db".into(),
            version: version.into(),
            ..Chart::default()
        };
        let charts = parse(index.as_bytes()).unwrap();
        let first = Chart {
            kube_version: ">=1.20".into(),
            provider_type: "partner".into(),
            urls: vec!["https://acme.example/db.tgz".into()],
            ..chart("1.0")
        };
        assert_eq!(charts, [first, chart("0x10"), chart("v1")]);

        let mut written = Vec::new();
        write(&charts, Instant::from_micros(1), &mut written).unwrap();
        assert_eq!(parse(&written).unwrap(), charts);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn names_that_look_like_yaml_stay_names() {
        let chart = Chart {
            key: "a: b\n- x".into(),
            name: "\"é\u{1}\u{7f}\u{85}\u{feff}".into(),
            version: "#".into(),
            ..Chart::default()
        };
        let mut written = Vec::new();
        write(std::slice::from_ref(&chart), Instant::default(), &mut written).unwrap();
        assert_eq!(parse(&written).unwrap(), [chart]);
    }

    #[test]
    fn html_is_refused_with_its_place() {
        let error = parse(b"<html><body>502 Bad Gateway</body></html>").unwrap_err();
        assert!(error.to_string().starts_with("line 1, column 1:"), "{error}");
    }

    #[test]
    fn a_constraint_that_does_not_parse_is_replaced_and_named() {
        let chart = |constraint: &str| Chart { name: "a".into(), kube_version: constraint.into(), ..Chart::default() };
        let mut charts = [chart(">=1.2"), chart("garbage"), chart("")];
        let replaced = replace_unusable_constraints(&mut charts);
        assert_eq!(charts, [chart(">=1.2"), chart(NOTHING), chart("")]);
        assert_eq!(replaced.len(), 1);
        assert!(!NOTHING.parse::<Constraint>().unwrap().allows(&semver::Version::new(0, 0, 0)));
    }
}
