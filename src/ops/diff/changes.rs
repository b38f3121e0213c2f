//! What differs between two carries, and how that is said.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::escape::in_line;

/// What differs; what is only in the first is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DiffReport {
    /// Images, by name.
    pub images: Changes,
    /// Packages of images that both have, by image and platform.
    pub packages: BTreeMap<String, Changes>,
    /// Kernels, `DISTRIBUTION UNAME MACHINE`.
    pub kernels: Changes,
    /// Facts of the certified catalog.
    pub catalog: Changes,
    /// What was not compared, and why.
    pub not_compared: Vec<String>,
}

/// Things that are there or not, or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Only in the second.
    pub added: Vec<Named>,
    /// Only in the first.
    pub removed: Vec<Named>,
    /// In both, and not the same.
    pub changed: Vec<Changed>,
}

/// Something that is only in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// What it is called.
    pub name: String,
    /// Its digest or version; nothing where the name says it all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// Something that is in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What it is called.
    pub name: String,
    /// Its digest or versions in the first.
    pub old: String,
    /// The same in the second.
    pub new: String,
}

impl Changes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Compares what has a name and a version.
    pub(super) fn of(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Self {
        let named = |(name, version): (&String, &String)| Named { name: name.clone(), version: version.clone() };
        let changed = old.iter().filter_map(|(name, old)| {
            let new = new.get(name).filter(|new| *new != old)?;
            Some(Changed { name: name.clone(), old: old.clone(), new: new.clone() })
        });
        Changes {
            changed: changed.collect(),
            added: new.iter().filter(|(name, _)| !old.contains_key(*name)).map(named).collect(),
            removed: old.iter().filter(|(name, _)| !new.contains_key(*name)).map(named).collect(),
        }
    }
}

impl DiffReport {
    /// Whether anything differs.
    pub fn differs(&self) -> bool {
        ![&self.images, &self.kernels, &self.catalog].iter().all(|changes| changes.is_empty())
            || !self.packages.is_empty()
    }

    /// What differs, for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        section(&mut text, "images", &self.images);
        for (image, packages) in &self.packages {
            section(&mut text, &format!("packages of {image}"), packages);
        }
        section(&mut text, "kernels", &self.kernels);
        section(&mut text, "certified catalog", &self.catalog);
        if text.is_empty() {
            text += "nothing differs\n";
        }
        for line in &self.not_compared {
            let _ = writeln!(text, "not compared: {}", in_line(line));
        }
        text
    }
}

fn section(text: &mut String, title: &str, changes: &Changes) {
    if changes.is_empty() {
        return;
    }
    let Changes { added, removed, changed } = changes;
    let _ = writeln!(text, "{title}: {} added, {} removed, {} changed", added.len(), removed.len(), changed.len());
    for (sign, list) in [('-', removed), ('+', added)] {
        for named in list {
            let line = format!("  {sign} {} {}", in_line(&named.name), in_line(&named.version));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    for changed in changed {
        let _ =
            writeln!(text, "  ~ {}: {} -> {}", in_line(&changed.name), in_line(&changed.old), in_line(&changed.new));
    }
}
