//! The keys that a definition may have, so that an unknown one is named with the nearest of them.

/// The keys of a table, and the tables below them.
pub(crate) struct Keys {
    pub(crate) plain: &'static [&'static str],
    pub(crate) tables: &'static [(&'static str, &'static Keys)],
}

/// The first key that means nothing, and in words what was perhaps meant, or which keys there are.
pub(crate) fn unknown_key(table: &toml::Table, keys: &Keys, above: &str) -> Option<(String, String)> {
    table.iter().find_map(|(key, value)| {
        if let Some((_, below)) = keys.tables.iter().find(|(name, _)| name == key) {
            return match value {
                toml::Value::Table(inner) => unknown_key(inner, below, &format!("{above}{key}.")),
                toml::Value::Array(items) => items
                    .iter()
                    .enumerate()
                    .find_map(|(n, item)| unknown_key(item.as_table()?, below, &format!("{above}{key}[{n}]."))),
                _ => None,
            };
        }
        if keys.plain.contains(&key.as_str()) {
            return None;
        }
        let known = keys.plain.iter().copied().chain(keys.tables.iter().map(|(name, _)| *name));
        // A slip of the finger or two is what it is, however short the key; of others, how they begin counts more.
        let slips = |known: &&str| strsim::osa_distance(key, known);
        let near = known.clone().filter(|known| slips(known) <= 2).min_by_key(slips);
        let likeness = |known: &&str| strsim::jaro_winkler(key, known);
        let alike = || known.clone().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|it| likeness(it) > 0.8);
        let what = match near.or_else(alike) {
            Some(nearest) => format!("the nearest known one is `{nearest}`"),
            None => format!("known ones are {}", known.collect::<Vec<_>>().join(", ")),
        };
        Some((format!("{above}{key}"), what))
    })
}

pub(super) const TOP: Keys = Keys {
    plain: &[
        "name",
        "tags",
        "platforms",
        "base",
        "entrypoint",
        "cmd",
        "env",
        "user",
        "workdir",
        "labels",
        "annotations",
        "volumes",
        "stop-signal",
    ],
    tables: &[("layers", &LAYER)],
};
const LAYER: Keys = Keys {
    plain: &["name", "binary", "ca-roots", "links", "remove"],
    tables: &[
        ("catalog", &Keys { plain: &["tree", "db"], tables: &[] }),
        ("packages", &PACKAGES),
        ("kernels", &Keys { plain: &["dest", "unpacked", "list", "roles", "flavours"], tables: &[] }),
        ("files", &Keys { plain: &["src", "text", "dest", "mode", "uid", "gid", "yields"], tables: &[] }),
        ("directories", &Keys { plain: &["src", "dest", "mode", "file-mode", "uid", "gid"], tables: &[] }),
    ],
};

const PACKAGES: Keys = Keys { plain: &["deb", "rpm", "compiler", "provided", "merge", "exclude"], tables: &[] };
