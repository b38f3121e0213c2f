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
    "natural",
    "plural",
    "progress",
    "sqlite",
    "table",
    "tarball",
];

/// `module: what it may use beside itself and the leaves`. The longest matching prefix of a file's module counts.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("lib", &[]),
    ("readers", &["carry", "catalog", "image", "kernel", "registry"]),
    (
        "cli",
        &[
            "ops", "catalog", "kernel", "registry", "carry", "site", "serve", "publish", "image", "http", "settings",
            "terminal",
        ],
    ),
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
    ("settings", &[]),
    ("terminal", &[]),
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
        let known = used_by(&fs::read_to_string(&file).unwrap(), &module);
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
        ("ops::make", "terminal::ui", false),
        ("kernel", "ops", false),
        ("kernel::source::local", "http", false),
    ] {
        assert_eq!(may_know(module, used), may, "{module} -> {used}");
    }
    let source =
        "use crate::fs::{self, PathError};\n    let x = crate::http::Http::new();\n// crate::carry in a comment\n";
    assert_eq!(used_by(source, "image::layer"), ["fs", "http"]);
    let source =
        "use super::{Error, plan};\n    super::super::http::get(); pub(super) fn x() {}\n    image::super_fast();\n";
    assert_eq!(used_by(source, "image::build::plan"), ["image::build", "image::http"]);
    let source = "use super::super::super::http::Http;\nuse crate::kernel::source::redhat::RedHat;\n";
    assert_eq!(used_by(source, "image::build::plan"), ["http", "kernel::source"]);
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

/// The modules that code names by `crate::`, `haversack::` (in main.rs) or `super::`, of which the last counts from `module`. Braces
/// directly after a marker name the module itself.
fn paths_in(source: &str, module: &str) -> Vec<Vec<String>> {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let mut found = Vec::new();
    for line in code {
        let mut at = 0;
        while let Some(start) = line[at..].find(is_word).map(|start| at + start) {
            let word = &line[start..][..line[start..].find(|c| !is_word(c)).unwrap_or(line.len() - start)];
            at = start + word.len();
            let mut parts: Vec<&str> = word.split("::").collect();
            let mut base: Vec<&str> = match parts[0] {
                "crate" | "haversack" if parts.len() > 1 => Vec::new(),
                "super" if parts.len() > 1 => module.split("::").collect(),
                _ => continue,
            };
            while parts.first() == Some(&"super") {
                base.pop();
                parts.remove(0);
            }
            parts.retain(|part| !matches!(*part, "crate" | "haversack"));
            let modules =
                parts.into_iter().take_while(|part| !part.is_empty() && part.chars().all(|c| !c.is_uppercase()));
            let path: Vec<String> = base.into_iter().chain(modules).map(str::to_owned).collect();
            found.extend((!path.is_empty()).then_some(path));
        }
    }
    found
}

/// The same as far as the table goes: two parts, but of `http` and the leaves, which are whole.
fn used_by(source: &str, module: &str) -> Vec<String> {
    let shown = |path: Vec<String>| match &*path[0] {
        first if first == "http" || LEAVES.contains(&first) => first.to_owned(),
        _ => path[..path.len().min(2)].join("::"),
    };
    paths_in(source, module).into_iter().map(shown).collect()
}

/// Which rooms, the directories below `src`, know each other, with the files that make it so. What is above or below is no other
/// room: a directory's own file knows its parts, and they know it.
fn rooms_known() -> BTreeMap<String, BTreeMap<String, String>> {
    let modules = modules();
    let room_of: BTreeMap<&str, String> = modules
        .iter()
        .map(|(file, module)| {
            let room = file.parent().unwrap().strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
            (module.as_str(), room.to_str().unwrap().to_owned())
        })
        .collect();
    let mut known: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (file, module) in modules.iter().filter(|(_, module)| !module.ends_with("tests")) {
        let source = fs::read_to_string(file).unwrap();
        // Tests stand last, and may take from everywhere what they need.
        let code = source.split("#[cfg(test)]\nmod").next().unwrap();
        for path in paths_in(code, module) {
            let named = (1..=path.len()).rev().map(|parts| path[..parts].join("::"));
            let Some((used, other)) = named.filter_map(|name| room_of.get_key_value(name.as_str())).next() else {
                continue;
            };
            let room = &room_of[module.as_str()];
            let is_inside = |one: &str, of: &str| format!("{one}/").starts_with(&format!("{of}/")) || of.is_empty();
            if !is_inside(room, other) && !is_inside(other, room) {
                let why = format!("{module} uses {used}");
                known.entry(room.clone()).or_default().entry(other.clone()).or_insert(why);
            }
        }
    }
    known
}

/// A way from a room back to it, if there is one.
fn circle(known: &BTreeMap<String, BTreeMap<String, String>>, room: &str) -> Option<Vec<String>> {
    let mut came_by: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut open = vec![room];
    while let Some(at) = open.pop() {
        for (next, why) in known.get(at).into_iter().flatten() {
            if came_by.contains_key(next.as_str()) {
                continue;
            }
            came_by.insert(next, (at, why));
            if next != room {
                open.push(next);
                continue;
            }
            let (mut way, mut back) = (Vec::new(), room);
            loop {
                let (before, why) = came_by[back];
                way.insert(0, why.to_owned());
                if before == room {
                    return Some(way);
                }
                back = before;
            }
        }
    }
    None
}

#[test]
fn rooms_know_each_other_in_no_circle() {
    let known = rooms_known();
    assert!(known.len() > 20, "{known:?}");
    let circles: Vec<String> = known.keys().filter_map(|room| circle(&known, room)).map(|way| way.join(", ")).collect();
    assert!(circles.is_empty(), "{}", circles.join("\n"));

    let of = |edges: &[(&str, &str)]| {
        let mut known: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for (one, other) in edges {
            known.entry((*one).to_owned()).or_default().insert((*other).to_owned(), format!("{one} uses {other}"));
        }
        known
    };
    assert_eq!(circle(&of(&[("a", "b"), ("b", "c"), ("a", "c")]), "a"), None);
    let way = ["a uses b", "b uses c", "c uses a"].map(str::to_owned).to_vec();
    assert_eq!(circle(&of(&[("a", "b"), ("b", "c"), ("b", "d"), ("c", "a")]), "a"), Some(way));
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
        assert!(lines <= 350, "{module} ({}) has {lines} lines", file.display());
    }
}

/// Where a scheme and what follows it are put together by hand, and why that may be. Whatever else becomes a part of a URL goes through
/// `reference::url_below` or `reference::resolve`, which clippy sees to (`url::Url::join`, `path_segments_mut`, `set_path`).
const BY_HAND: &[(&str, &str)] = &[
    ("catalog::store", "SQLite's way to name a file, with every byte of the path encoded"),
    ("cli::serve", "is printed: an address that we listen at"),
    ("image::build::sbom", "names a document, by a digest"),
    ("mirrors", "files for nodes; hosts and repositories were parsed"),
    ("mirrors::served", "files for nodes; hosts and repositories were parsed"),
    ("ops::doctor::machine", "a proxy as the environment has it, parsed at once"),
    ("ops::hints::publish", "is printed"),
    ("ops::publish", "is printed"),
    ("ops::publish::settings", "an address that the user gave without a scheme, parsed at once"),
    ("registry::client", "a registry's host, which was parsed, and parsed once more"),
];

#[test]
fn no_url_is_put_together_by_hand() {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (file, module) in modules().into_iter().filter(|(_, module)| !module.ends_with("tests")) {
        let source = fs::read_to_string(&file).unwrap();
        let code = source.split("#[cfg(test)]\nmod").next().unwrap();
        for line in code.lines().filter(|line| is_url_by_hand(line)) {
            found.insert(module.clone(), format!("{module} ({}): {}", file.display(), line.trim()));
        }
    }
    let allowed = |module: &String| BY_HAND.iter().any(|(one, _)| one == module);
    let others: Vec<_> = found.iter().filter(|(module, _)| !allowed(module)).map(|(_, line)| &**line).collect();
    assert!(others.is_empty(), "{}", others.join("\n"));
    let gone: Vec<_> = BY_HAND.iter().filter(|(module, _)| !found.contains_key(*module)).collect();
    assert!(gone.is_empty(), "nothing to allow: {gone:?}");
}

/// Whether a line has a text with a scheme, and braces that something is put into behind it. References of images (`docker://`) and places of
/// a store (`s3://`) are parsed by their own grammars, or said.
fn is_url_by_hand(line: &str) -> bool {
    let code = line.trim_start().replace("\\\"", "'");
    let texts = code.split('"').skip(1).step_by(2);
    let by_hand = |text: &str| {
        let behind = |(at, _): (usize, &str)| {
            let scheme = text[..at].rsplit(|c: char| !c.is_alphanumeric() && !"{}".contains(c)).next().unwrap_or("");
            text[at..].contains('{') && !matches!(scheme, "docker" | "s3")
        };
        text.match_indices("://").any(behind)
    };
    !code.starts_with("//") && texts.into_iter().any(by_hand)
}

#[test]
fn urls_by_hand_are_seen() {
    for (line, is_one) in [
        (r#"let url: Url = format!("https://{host}/v2/").parse()?;"#, true),
        (r#"let url = format!("{scheme}://{}", host);"#, true),
        (r#"let url = format!("https://h.example/{name}");"#, true),
        (r#"let image = format!("docker://{host}/{name}").parse::<ImageRef>()?;"#, false),
        (r#"const API: &str = "https://h.example/api";"#, false),
        (r#"text.starts_with("https://") && format!("{text}").is_empty()"#, false),
        (r#"// `format!("https://{host}")` in a comment"#, false),
    ] {
        assert_eq!(is_url_by_hand(line), is_one, "{line}");
    }
}

/// A limit that nobody looks at is none.
#[test]
fn every_limit_of_the_table_is_taken_by_a_reader() {
    let sources: Vec<(String, String)> =
        modules().into_iter().map(|(file, module)| (module, fs::read_to_string(file).unwrap())).collect();
    let table = &sources.iter().find(|(module, _)| module == "limits").unwrap().1;
    let table = table.split("#[cfg(test)]\nmod").next().unwrap();
    let names: Vec<&str> =
        table.split("pub const ").skip(1).filter_map(|rest| rest.split_once(':').map(|(name, _)| name)).collect();
    assert!(names.len() > 15, "{names:?}");
    let is_taken = |name: &str| {
        let uses = |source: &str| {
            let imported = source.split("use crate::limits").skip(1).any(|it| {
                it.split(';')
                    .next()
                    .unwrap_or_default()
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .any(|it| it == name)
            });
            imported
                || source
                    .split("limits::")
                    .skip(1)
                    .any(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next() == Some(name))
        };
        let others = sources.iter().filter(|(module, _)| module != "limits");
        // Some are looked at by functions of the table itself.
        others.map(|(_, source)| source).any(|source| uses(source))
            || table
                .lines()
                .any(|line| !line.contains("const ") && !line.trim_start().starts_with("//") && line.contains(name))
    };
    let idle: Vec<&&str> = names.iter().filter(|name| !is_taken(name)).collect();
    assert!(idle.is_empty(), "no reader takes {idle:?}");
}
