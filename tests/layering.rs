//! Who may know whom. The table is the architecture in `src/lib.rs`; a `use crate::…` that breaks it fails here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The leaves: they know only each other.
const LEAVES: &[&str] = &[
    "causes",
    "limits",
    "shard",
    "varint",
    "digest",
    "duration",
    "environment",
    "escape",
    "format",
    "compression",
    "reference",
    "fs",
    "mirrors",
    "progress",
    "table",
    "tarball",
];

/// `module: what it may use beside itself and the leaves`. The longest matching prefix of a file's module counts.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    ("readers", &["carry", "catalog", "image", "kernel", "registry"]),
    ("cli", &["ops", "catalog", "kernel", "registry", "carry", "site", "serve", "publish", "image", "http"]),
    ("ops", &["catalog", "kernel", "registry", "carry", "site", "publish", "image", "http"]),
    ("catalog", &[]),
    ("catalog::client", &["http"]),
    ("catalog::charts", &["http"]),
    ("catalog::snapshot", &["http"]),
    ("kernel", &["image"]),
    ("kernel::source", &["http", "image"]),
    ("kernel::source::local", &["image"]),
    ("kernel::download", &["http", "image"]),
    ("kernel::matrix", &["http", "image"]),
    ("registry", &["http", "image"]),
    ("carry", &["image"]),
    ("site", &["carry", "image"]),
    ("serve", &["image"]),
    ("serve::page", &["image", "catalog", "kernel"]),
    ("publish", &["http", "image"]),
    ("image", &[]),
    ("http", &[]),
];

const ONLINE_CATALOG: &[&str] = &["catalog::client", "catalog::charts", "catalog::snapshot"];

/// Files of a module that must work without a network may not use these siblings, which do not.
const OFFLINE: &[(&str, &[&str])] = &[
    ("catalog::store", ONLINE_CATALOG),
    ("catalog::tree", ONLINE_CATALOG),
    ("catalog::check", ONLINE_CATALOG),
    ("catalog::diff", ONLINE_CATALOG),
    ("serve", &["catalog::client", "catalog::charts", "catalog::snapshot", "kernel::source", "kernel::download"]),
    ("kernel::release", &["kernel::source", "kernel::download"]),
    ("kernel::package", &["kernel::source", "kernel::download"]),
    ("kernel::set", &["kernel::source", "kernel::download"]),
    ("kernel::unpack", &["kernel::source", "kernel::download"]),
    ("kernel::resolve", &["kernel::source", "kernel::download"]),
    ("kernel::layer", &["kernel::source", "kernel::download"]),
];

#[test]
fn no_use_breaks_the_table() {
    let mut broken = Vec::new();
    for (file, module) in modules() {
        let known = used_by(&fs::read_to_string(&file).unwrap());
        for used in known {
            if !may_know(&module, &used) {
                broken.push(format!("{module} ({}) uses crate::{used}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_table_is_enforced() {
    for (module, used, may) in [
        ("image::layer", "http", false),
        ("image::layer", "digest::Digest", true),
        ("image::layer", "image::layout::Layout", true),
        ("catalog::store", "http::Http", false),
        ("catalog::store", "catalog::client::Catalog", false),
        ("catalog::store", "catalog::entry::Chart", true),
        ("catalog::client", "http::Http", true),
        ("catalog::client", "kernel", false),
        ("digest", "fs", true),
        ("digest", "http", false),
        ("cli::make", "catalog::Snapshot", true),
        ("ops::make", "catalog::Snapshot", true),
        ("ops::make", "cli::ui", false),
        ("kernel", "ops", false),
        ("kernel::source::local", "http", false),
    ] {
        assert_eq!(may_know(module, used), may, "{module} -> {used}");
    }
    let source =
        "use crate::fs::{self, PathError};\n    let x = crate::http::Http::new();\n// crate::carry in a comment\n";
    assert_eq!(used_by(source), ["fs", "http"]);
}

fn may_know(module: &str, used: &str) -> bool {
    let top = |path: &str| path.split("::").next().unwrap_or_default().to_owned();
    let inside = |path: &str, of: &str| path == of || path.starts_with(&format!("{of}::"));
    let offline = OFFLINE.iter().filter(|(prefix, _)| inside(module, prefix));
    if offline.flat_map(|(_, forbidden)| *forbidden).any(|forbidden| inside(used, forbidden)) {
        return false;
    }
    let used_top = top(used);
    if used_top == top(module) || LEAVES.contains(&used_top.as_str()) {
        return true;
    }
    let rules: BTreeMap<_, _> =
        MAY_KNOW.iter().filter(|(prefix, _)| inside(module, prefix)).map(|rule| (rule.0.len(), rule.1)).collect();
    rules.last_key_value().is_some_and(|(_, allowed)| allowed.contains(&used_top.as_str()))
}

/// The paths after `crate::` (or `haversack::` in main.rs) in code. Braces directly after it are not our style.
fn used_by(source: &str) -> Vec<String> {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut used = Vec::new();
    for line in code {
        for marker in ["crate::", "haversack::"] {
            for (at, _) in line.match_indices(marker) {
                let path: String = line[at + marker.len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                    .collect();
                let modules: Vec<&str> = path
                    .split("::")
                    .take_while(|part| !part.is_empty() && part.chars().all(|c| !c.is_uppercase()))
                    .take(2)
                    .collect();
                // `crate::http::Http` gives http; `crate::fs::read(..)` gives fs::read, of which the module counts.
                let path = modules.join("::");
                let path =
                    if path.contains("::") && LEAVES.contains(&modules[0]) { modules[0].to_owned() } else { path };
                let path = match path.strip_prefix("http::") {
                    Some(_) => "http".to_owned(),
                    None => path,
                };
                if !path.is_empty() {
                    used.push(path);
                }
            }
        }
    }
    used
}

fn modules() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = path.strip_prefix(&root).unwrap().with_extension("");
                let parts: Vec<_> =
                    module.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
                files.push((path.clone(), parts.join("::")));
            }
        }
    }
    assert!(files.len() > 5, "the source tree was not found");
    files
}

#[test]
fn operations_know_neither_the_command_line_nor_the_terminal() {
    for (file, module) in modules().into_iter().filter(|(_, module)| module.starts_with("ops")) {
        let source = fs::read_to_string(&file).unwrap();
        for word in ["clap::", "use clap", "println!", "eprintln!", "io::stdout", "io::stderr", "Failure"] {
            assert!(!source.contains(word), "{module} ({}): {word}", file.display());
        }
    }
}

/// A command is arguments, one call and printing; what is longer does work that belongs into `ops`.
#[test]
fn no_file_of_the_command_line_is_long() {
    for (file, module) in modules().into_iter().filter(|(_, module)| module.starts_with("cli")) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 400, "{module} ({}) has {lines} lines", file.display());
    }
}
