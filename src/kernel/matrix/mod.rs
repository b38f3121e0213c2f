//! Which kernels matter: a list of kernels, each with the machines that it is wanted for.
//!
//! ```json
//! {
//!   "format": "haversack.matrix", "version": 1,
//!   "entries": [
//!     { "rhel": "8.4", "kernel": "4.18.0-305.40.1.el8_4", "machines": ["aarch64", "x86_64"],
//!       "rt": "4.18.0-305.40.1.rt7.112.el8_4", "releases": ["4.9.23", "4.9.24"] }
//!   ],
//!   "failed": { "4.9.25 x86_64": "…" }
//! }
//! ```
//!
//! `kernel` is what `uname -r` prints without the machine. Two forms for GitHub's workflows are written and read, too, each on
//! one line, as `fromJson` wants it: the one of the old build-matrix script and one for `strategy.matrix`.
//!
//! ```text
//! {"versions":[{"rhel":"8.4","kernel":"4.18.0-305.40.1.el8_4","archs":"linux/amd64,linux/arm64"}]}
//! {"include":[{"rhel":"8.4","kernel":"4.18.0-305.40.1.el8_4","platform":"linux/amd64","arch":"x86_64"}]}
//! ```

pub mod graph;
pub mod labels;
pub mod payload;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kernel::release::{Machine, Release};
use crate::kernel::version::Order;

/// Kernels with their machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    format: String,
    version: u32,
    /// The kernels, sorted from the oldest to the newest.
    pub entries: Vec<Entry>,
    /// What could not be found out, and why: by release and machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, String>,
}

/// One kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The version of RHEL that its name tells, `8.4`; empty for other distributions' kernels.
    pub rhel: String,
    /// What `uname -r` prints, without the machine.
    pub kernel: String,
    /// For which machines.
    pub machines: BTreeSet<Machine>,
    /// The real-time kernel beside it, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rt: Option<String>,
    /// The kernel with pages of 64 KiB beside it.
    #[serde(default, rename = "64k", skip_serializing_if = "Option::is_none")]
    pub pages_64k: Option<String>,
    /// Which OpenShift releases it is in.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub releases: BTreeSet<String>,
}

/// Why a text is no matrix.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON of any of the shapes.
    #[error("not a matrix of kernels")]
    Parse(#[from] serde_json::Error),
    /// It is something else.
    #[error("not a matrix of kernels: expected `entries`, `versions` or `include`")]
    Shape,
    /// From a later program.
    #[error("a matrix of version {0}; this program reads version {VERSION}")]
    Version(u32),
    /// A platform that no kernel has.
    #[error("`{0}` is no platform such as linux/amd64")]
    Platform(String),
}

impl Matrix {
    /// Joins entries of one kernel and sorts them.
    pub fn new(entries: impl IntoIterator<Item = Entry>, failed: BTreeMap<String, String>) -> Self {
        let mut by_kernel: BTreeMap<String, Entry> = BTreeMap::new();
        for entry in entries {
            let joined = by_kernel.entry(entry.kernel.clone()).or_insert_with(|| Entry {
                rhel: entry.rhel.clone(),
                kernel: entry.kernel.clone(),
                ..Entry::default()
            });
            joined.machines.extend(entry.machines);
            joined.releases.extend(entry.releases);
            joined.rt = joined.rt.take().or(entry.rt);
            joined.pages_64k = joined.pages_64k.take().or(entry.pages_64k);
        }
        let mut entries: Vec<Entry> = by_kernel.into_values().collect();
        entries.sort_by(|a, b| compare(&a.kernel, &b.kernel));
        Matrix { format: FORMAT.into(), version: VERSION, entries, failed }
    }

    /// Reads any of the three forms.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let value: Value = serde_json::from_slice(json)?;
        if value.get("entries").is_some() {
            let matrix: Matrix = serde_json::from_value(value)?;
            return match (&*matrix.format, matrix.version) {
                (FORMAT, VERSION) => Ok(Matrix::new(matrix.entries, matrix.failed)),
                (FORMAT, version) => Err(Error::Version(version)),
                _ => Err(Error::Shape),
            };
        }
        let rows = value.get("versions").or_else(|| value.get("include")).and_then(Value::as_array);
        let entries: Result<Vec<Entry>, Error> = rows.ok_or(Error::Shape)?.iter().map(github_entry).collect();
        Ok(Matrix::new(entries?, BTreeMap::new()))
    }

    /// The form of the old workflow.
    pub fn github(&self) -> Value {
        let row = |entry: &Entry| {
            let mut archs: Vec<String> = entry.machines.iter().map(platform).collect();
            archs.sort();
            json!({ "rhel": entry.rhel, "kernel": entry.kernel, "archs": archs.join(",") })
        };
        json!({ "versions": self.entries.iter().map(row).collect::<Vec<_>>() })
    }

    /// A job for each kernel and machine: `strategy: matrix: ${{ fromJson(…) }}`.
    pub fn github_include(&self) -> Value {
        let rows = self.entries.iter().flat_map(|entry| {
            entry.machines.iter().map(move |machine| {
                let Entry { rhel, kernel, .. } = entry;
                json!({ "rhel": rhel, "kernel": kernel, "platform": platform(machine), "arch": machine })
            })
        });
        json!({ "include": rows.collect::<Vec<_>>() })
    }
}

impl Entry {
    /// A kernel of any distribution.
    pub fn of(release: &Release) -> Self {
        let kernel = without_machine(release);
        Entry { rhel: rhel(&kernel), kernel, machines: [release.machine.clone()].into(), ..Entry::default() }
    }
}

/// Orders kernels of which only the name is known, those of rpm distributions first: the two orders cannot be mixed.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (order, other) = (Order::of_uname(a), Order::of_uname(b));
    order.cmp(&other).then_with(|| order.compare_unames(a, b)).then_with(|| a.cmp(b))
}

/// What `uname -r` prints without the machine: `4.18.0-305.el8`, `5.14.0-427.el9_4+rt`, `6.1.0-56`, `6.1.0-56-cloud`.
pub fn without_machine(release: &Release) -> String {
    let uname = &release.uname;
    let machine = release.machine.as_str();
    let (plain, variant) = uname.split_once('+').filter(|(plain, _)| plain.ends_with(machine)).unwrap_or((uname, ""));
    if let Some(plain) = plain.strip_suffix(machine).and_then(|plain| plain.strip_suffix('.')) {
        return if variant.is_empty() { plain.to_owned() } else { format!("{plain}+{variant}") };
    }
    let last = uname.rsplit_once('-');
    let of_debian = last.filter(|(_, word)| matches!(word.parse::<Machine>(), Ok(other) if other == release.machine));
    of_debian.map_or_else(|| uname.clone(), |(plain, _)| plain.to_owned())
}

/// What `uname -r` can print for an entry on a machine: with the machine's name as RPMs have it,
/// `5.14.0-427.el9_4.x86_64+rt`, and where it is no kernel of RHEL, as Debian has it, `6.1.0-56-amd64`.
pub fn with_machine(entry: &Entry, machine: &Machine) -> Vec<String> {
    let of_rpm = match entry.kernel.split_once('+') {
        Some((plain, variant)) if !entry.rhel.is_empty() => format!("{plain}.{machine}+{variant}"),
        _ => format!("{}.{machine}", entry.kernel),
    };
    let mut names = vec![of_rpm];
    if entry.rhel.is_empty() {
        names.push(format!("{}-{}", entry.kernel, architecture(machine)));
    }
    names
}

/// The version of RHEL in a kernel's name: `el8_4` is 8.4, `el8` is 8, wherever it stands (`…el8_2.dt1`).
pub fn rhel(kernel: &str) -> String {
    let tag = kernel.split(['.', '+']).find_map(|part| {
        let tag = part.strip_prefix("el")?;
        tag.starts_with(|c: char| c.is_ascii_digit()).then_some(tag)
    });
    tag.map(|tag| tag.replacen('_', ".", 1)).unwrap_or_default()
}

/// The platform of an image for a machine.
pub fn platform(machine: &Machine) -> String {
    format!("linux/{}", architecture(machine))
}

fn architecture(machine: &Machine) -> &str {
    match machine.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i686" => "386",
        other => other,
    }
}

fn github_entry(row: &Value) -> Result<Entry, Error> {
    let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    // The script's form of 2022-03-16 has one machine an entry, `arch`.
    let platforms =
        ["archs", "platform", "arch"].into_iter().map(text).find(|text| !text.is_empty()).unwrap_or_default();
    let machines = platforms.split(',').map(|name| match name.trim().strip_prefix("linux/").unwrap_or(name.trim()) {
        "" => Err(Error::Platform(name.to_owned())),
        name if name.contains('/') => Err(Error::Platform(name.to_owned())),
        name => {
            let Ok(machine) = name.parse::<Machine>();
            Ok(machine)
        }
    });
    let kernel = text("kernel");
    if kernel.is_empty() {
        return Err(Error::Shape);
    }
    Ok(Entry { rhel: text("rhel"), kernel, machines: machines.collect::<Result<_, _>>()?, ..Entry::default() })
}

const FORMAT: &str = "haversack.matrix";
const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn release(uname: &str, machine: &str) -> Release {
        let Ok(machine) = machine.parse();
        let text = String::new;
        Release { distribution: text(), uname: uname.into(), machine, flavour: text(), build: text() }
    }

    #[test]
    fn a_kernels_name_tells_its_version_and_that_of_rhel() {
        for (uname, machine, kernel, el) in [
            ("4.18.0-305.40.1.el8_4.x86_64", "x86_64", "4.18.0-305.40.1.el8_4", "8.4"),
            ("4.18.0-305.el8.x86_64", "x86_64", "4.18.0-305.el8", "8"),
            ("4.18.0-193.24.1.el8_2.dt1.x86_64", "x86_64", "4.18.0-193.24.1.el8_2.dt1", "8.2"),
            ("5.14.0-427.35.1.el9_4.x86_64+rt", "x86_64", "5.14.0-427.35.1.el9_4+rt", "9.4"),
            ("6.12.0-100.el10_1.aarch64+64k", "aarch64", "6.12.0-100.el10_1+64k", "10.1"),
            ("6.1.0-56-cloud-amd64", "x86_64", "6.1.0-56-cloud", ""),
            ("6.12.117+deb12-amd64", "x86_64", "6.12.117+deb12", ""),
            ("5.4.0-86-generic", "x86_64", "5.4.0-86-generic", ""),
        ] {
            let entry = Entry::of(&release(uname, machine));
            assert_eq!((&*entry.kernel, &*entry.rhel), (kernel, el), "{uname}");
        }
    }

    #[test]
    fn every_form_is_read_back_and_entries_of_one_kernel_are_joined() {
        let entries = [
            ("4.18.0-305.40.1.el8_4.x86_64", "x86_64"),
            ("4.18.0-305.9.1.el8_4.x86_64", "x86_64"),
            ("4.18.0-305.40.1.el8_4.aarch64", "aarch64"),
        ]
        .map(|(uname, machine)| Entry::of(&release(uname, machine)));
        let matrix = Matrix::new(entries, BTreeMap::new());
        insta::assert_snapshot!(matrix.github(), @r#"{"versions":[{"archs":"linux/amd64","kernel":"4.18.0-305.9.1.el8_4","rhel":"8.4"},{"archs":"linux/amd64,linux/arm64","kernel":"4.18.0-305.40.1.el8_4","rhel":"8.4"}]}"#);
        for form in [serde_json::to_value(&matrix).unwrap(), matrix.github(), matrix.github_include()] {
            assert_eq!(Matrix::parse(form.to_string().as_bytes()).unwrap(), matrix, "{form}");
        }
        let old = br#"{"versions":[{"rhel":"8.4","ubi-digest":"sha256:0","kernel":"k","arch":"linux/amd64","arch_tag":"x86_64"}]}"#;
        assert_eq!(Matrix::parse(old).unwrap().entries[0].machines, ["x86_64".parse().unwrap()].into());
        for (text, why) in [
            ("[]", "not a matrix of kernels: expected `entries`, `versions` or `include`"),
            ("{\"versions\":[{\"kernel\":\"k\"}]}", "`` is no platform such as linux/amd64"),
            (
                "{\"versions\":[{\"archs\":\"linux/amd64\"}]}",
                "not a matrix of kernels: expected `entries`, `versions` or `include`",
            ),
            (
                "{\"format\":\"haversack.matrix\",\"version\":2,\"entries\":[]}",
                "a matrix of version 2; this program reads version 1",
            ),
        ] {
            assert_eq!(Matrix::parse(text.as_bytes()).unwrap_err().to_string(), why);
        }
    }
}
