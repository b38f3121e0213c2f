//! What an image is made of, as one digest that is known before the image is.
//!
//! `build --skip-existing` compares it with the annotation that every built image has on its manifests and its index:
//!
//! ```text
//! io.haversack.fingerprint = sha256:HEX     of the canonical JSON of
//!     { format, tool, definition, annotations, created, base, compression, level, platforms, layers }
//! ```
//!
//! `definition` is all of it but tags, platforms, base and layers. `base` is the digest that the base's reference leads
//! to now, `tool` the version of this program, and `layers` has for each layer its name and, for each platform it
//! differs for, the digest of its uncompressed tar: contents, modes, owners, times and attributes are all in it. Over a base it is
//! the layer as it is defined: what it becomes there follows from the base, which need not be fetched to be compared. A layer
//! whose content follows from something that has a digest already (a package) may have that in its place
//! ([`PlannedLayer::identity`]), and then need not be there to be compared.

use rayon::prelude::*;
use serde::Serialize;

use crate::digest::Digest;
use crate::image::build::definition::Definition;
use crate::image::build::plan::{CATALOG_DIGEST, CATALOG_TAKEN, Inputs, Plan, PlannedLayer};
use crate::image::layer::LayerOptions;
use crate::image::layer::tree;
use crate::image::store::layout;
use crate::image::{Platform, Tree};
use crate::progress::{Progress, Unit};

/// The annotation of manifests and indexes.
pub const FINGERPRINT: &str = "io.haversack.fingerprint";

/// Reads what would go into an image, without compressing or writing it.
pub fn fingerprint(
    definition: &Definition,
    inputs: &Inputs,
    plan: &Plan,
    base: Option<&Digest>,
    options: &LayerOptions,
    progress: &Progress,
) -> Result<Digest, tree::Error> {
    let parts = plan.parts();
    let unknown = parts.iter().filter(|(layer, ..)| layer.identity.is_none());
    let total = unknown.map(|(_, _, tree)| tree.size()).sum();
    let task = progress.task(format!("reading what {} is made of", definition.name), Unit::Bytes, Some(total));
    let identities: Vec<Digest> = parts
        .par_iter()
        .map(|(layer, _, tree)| match &layer.identity {
            Some(identity) => Ok(identity.clone()),
            None => {
                let diff_id = inputs.cache.diff_id(tree, created(inputs, plan), plan.epoch, &task)?;
                // What gives way to what is below is written as any other, but becomes something else over a base.
                let yielding = tree.yielding().map(|(name, kind)| format!("{:?} {}", name.path(), kind.is_directory()));
                let yielding: Vec<String> = yielding.filter(|_| base.is_some()).collect();
                let both = || Digest::sha256(layout::canonical(&(&diff_id, &yielding)));
                Ok(if yielding.is_empty() { diff_id } else { both() })
            }
        })
        .collect::<Result<_, tree::Error>>()?;
    Ok(of(definition, inputs, plan, base, options, &identities))
}

/// A catalog that says what it said before makes no other image, whenever it was taken.
pub(crate) fn is_by_content(inputs: &Inputs) -> bool {
    inputs.catalog.is_some() && inputs.annotations.contains_key(CATALOG_DIGEST)
}

/// The time that counts: not that of the catalog, where its content does.
pub(crate) fn created(inputs: &Inputs, plan: &Plan) -> i64 {
    if is_by_content(inputs) { inputs.epoch.unwrap_or(0) } else { plan.created() }
}

/// The fingerprint, when what identifies each of [`Plan::parts`] is known.
pub(crate) fn of(
    definition: &Definition,
    inputs: &Inputs,
    plan: &Plan,
    base: Option<&Digest>,
    options: &LayerOptions,
    identities: &[Digest],
) -> Digest {
    let mut annotations = inputs.annotations.clone();
    annotations.retain(|name, _| !(is_by_content(inputs) && name == CATALOG_TAKEN));
    let layers = plan.parts().into_iter().zip(identities);
    let layers =
        layers.map(|((layer, platform, _), identity)| Part { name: layer.name.as_deref(), platform, identity });
    let made_of = MadeOf {
        format: 1,
        tool: env!("CARGO_PKG_VERSION"),
        definition,
        annotations: &annotations,
        created: created(inputs, plan),
        base,
        compression: format!("{:?}", options.compression).to_lowercase(),
        level: options.level,
        platforms: &inputs.platforms,
        layers: layers.collect(),
    };
    Digest::sha256(layout::canonical(&made_of))
}

impl Plan {
    /// The layers in order, each as often as it differs between platforms.
    pub fn parts(&self) -> Vec<(&PlannedLayer, Option<&Platform>, &Tree)> {
        let parts = self
            .layers()
            .iter()
            .flat_map(|layer| layer.trees.iter().map(move |(platform, tree)| (layer, platform.as_ref(), tree)));
        parts.collect()
    }
}

#[derive(Serialize)]
struct MadeOf<'a> {
    format: u32,
    tool: &'static str,
    definition: &'a Definition,
    annotations: &'a std::collections::BTreeMap<String, String>,
    created: i64,
    base: Option<&'a Digest>,
    compression: String,
    level: Option<i32>,
    platforms: &'a [Platform],
    layers: Vec<Part<'a>>,
}

#[derive(Serialize)]
struct Part<'a> {
    name: Option<&'a str>,
    platform: Option<&'a Platform>,
    identity: &'a Digest,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::compression::Compression;
    use crate::fs;
    use crate::image::Layout;
    use crate::image::build::plan::CatalogInput;
    use crate::image::build::{Assembly, plan};

    const TEXT: &str = "name = 'x'\ntags = ['1']\nbase = 'oci:b'\nentrypoint = ['/a']\n[[layers]]\n\
                        files = [{ src = 'a', dest = '/a', mode = '0644' }]";

    /// The fingerprint after a change to the definition's text, the file, or what else counts.
    fn with(text: &str, content: &str, change: impl Fn(&mut Inputs, &mut LayerOptions), base: &str) -> Digest {
        let dir = tempfile::tempdir().unwrap();
        fs::write(&dir.path().join("a"), content.as_bytes()).unwrap();
        let mut inputs = Inputs {
            directory: dir.path().to_owned(),
            platforms: vec!["linux/amd64".parse().unwrap()],
            epoch: Some(5),
            ..Inputs::default()
        };
        let mut options = LayerOptions::default();
        change(&mut inputs, &mut options);
        let definition = Definition::parse(Path::new("image.toml"), text).unwrap();
        let plan = plan(&definition, &inputs).unwrap();
        let base = Digest::sha256(base);
        fingerprint(&definition, &inputs, &plan, Some(&base), &options, &Progress::off()).unwrap()
    }

    #[test]
    fn what_changes_the_image_changes_the_fingerprint_and_nothing_else_does() {
        let same = |_: &mut Inputs, _: &mut LayerOptions| {};
        let first = with(TEXT, "a", same, "b");
        // A constant: a change here makes every image be built once more.
        insta::assert_snapshot!(first, @"sha256:3a8a52e6072cbe69c61edfbd6c0c0f863a68aa1596f8b72db88826aef31d7044");
        for (what, other) in [
            ("the tag", with(&TEXT.replace("'1'", "'2'"), "a", same, "b")),
            ("where the base comes from", with(&TEXT.replace("oci:b", "oci:c"), "a", same, "b")),
            ("a comment", with(&format!("# x\n{TEXT}"), "a", same, "b")),
        ] {
            assert_eq!(first, other, "{what}");
        }
        for (what, other) in [
            ("content", with(TEXT, "b", same, "b")),
            ("mode", with(&TEXT.replace("0644", "0600"), "a", same, "b")),
            ("entrypoint", with(&TEXT.replace("'/a']\n", "'/b']\n"), "a", same, "b")),
            ("base", with(TEXT, "a", same, "c")),
            ("time", with(TEXT, "a", |inputs, _| inputs.epoch = Some(6), "b")),
            ("platform", with(TEXT, "a", |inputs, _| inputs.platforms = vec!["linux/arm64".parse().unwrap()], "b")),
            ("annotation", with(TEXT, "a", |inputs, _| drop(inputs.annotations.insert("a".into(), "b".into())), "b")),
            ("compressor", with(TEXT, "a", |_, options| options.compression = Compression::Gzip, "b")),
            ("level", with(TEXT, "a", |_, options| options.level = Some(9), "b")),
        ] {
            assert_ne!(first, other, "{what}");
        }
    }

    #[test]
    fn a_catalog_counts_by_what_it_says_and_not_by_when_it_was_taken() {
        let text = "name = 'x'\n[[layers]]\nfiles = [{ text = 'x', dest = '/x' }]\n[[layers]]\ncatalog = { tree = '/t', db = '/d' }";
        let made = |taken: i64, digest: &str| {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(&dir.path().join("data")).unwrap();
            fs::write(&dir.path().join("catalog.db"), taken.to_string().as_bytes()).unwrap();
            let (tree, db) = (dir.path().join("data"), dir.path().join("catalog.db"));
            let annotations = [(CATALOG_DIGEST, digest.to_owned()), (CATALOG_TAKEN, taken.to_string())];
            let inputs = Inputs {
                directory: dir.path().to_owned(),
                platforms: vec!["linux/amd64".parse().unwrap()],
                catalog: Some(CatalogInput { tree, db, taken }),
                annotations: annotations.map(|(name, value)| (name.to_owned(), value)).into(),
                ..Inputs::default()
            };
            let definition = Definition::parse(Path::new("image.toml"), text).unwrap();
            let plan = plan(&definition, &inputs).unwrap();
            let (options, progress) = (LayerOptions::default(), Progress::off());
            let known = fingerprint(&definition, &inputs, &plan, None, &options, &progress).unwrap();
            let layout = Layout::create(&dir.path().join("layout")).unwrap();
            let (definition, inputs, plan, base) = (&definition, &inputs, &plan, None);
            let (options, layout, progress) = (&options, &layout, &progress);
            let (_, report) = Assembly { definition, inputs, plan, base, options, layout, progress }.write().unwrap();
            // What is known before is what the image says afterwards.
            assert_eq!(report.fingerprint, known);
            (known, report.digest)
        };
        let (first, later, other) = (made(5, "sha256:a"), made(6, "sha256:a"), made(5, "sha256:b"));
        assert_eq!(first.0, later.0);
        assert_ne!(first.1, later.1);
        assert_ne!(first.0, other.0);
    }
}
