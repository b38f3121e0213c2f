//! The Helm chart index: read from YAML, written as YAML.
//!
//! Of the index, what answers depend on is kept: name, version, the constraint on the cluster's version, who provides
//! the chart, and where it can be had. Scalars are taken as they are written (`version: 1.0` is `1.0`), as Helm does.

mod read;

use std::io::{self, Write};

pub use self::read::{Index, parse};
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

const PROVIDER_TYPE: &str = "charts.openshift.io/providerType";

/// A constraint that no version satisfies: none is less than the least.
const NOTHING: &str = "< 0.0.0-0";

#[cfg(test)]
mod tests {
    use super::*;

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
        let read = Index { charts: vec![chart], odd: Vec::new(), complete: true };
        assert_eq!(parse(&written).unwrap(), read);
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
