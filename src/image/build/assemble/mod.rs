//! Puts a planned image together: layers, written in parallel, then configurations, manifests and the index.
//!
//! All documents are canonical JSON, and nothing in them was not in the definition, the inputs or the base: the same
//! plan gives the same digest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use oci_spec::image::{
    ConfigBuilder, Descriptor, HistoryBuilder, ImageConfiguration, ImageIndex, ImageManifest, ImageManifestBuilder,
    MediaType,
};
use rayon::prelude::*;
use serde::Serialize;

use crate::digest::{Algorithm, Digest};
use crate::image::Platform;
use crate::image::build::base::{BaseImage, BaseParts, ON_BUILD};
use crate::image::build::definition::Definition;
use crate::image::build::fingerprint::{self, FINGERPRINT};
use crate::image::build::plan::{Inputs, Plan};
use crate::image::layer::tree;
use crate::image::layer::{Layer, LayerOptions};
use crate::image::store::layout::{self, Layout};
use crate::progress::{Progress, Unit};

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildReport {
    /// Digest of the index, or of the manifest where there is but one platform.
    pub digest: Digest,
    /// What it is made of, as one digest.
    pub fingerprint: Digest,
    /// Its size.
    pub size: u64,
    /// What of the two it is.
    pub media_type: MediaType,
    /// The image's time.
    #[serde(serialize_with = "as_text")]
    pub created: jiff::Timestamp,
    /// Each platform's image.
    pub images: Vec<PlatformReport>,
}

/// The image of one platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformReport {
    /// Which platform.
    pub platform: Platform,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the configuration.
    pub config: Digest,
    /// The layers that were made, those of the base not among them.
    pub layers: Vec<LayerReport>,
}

/// A layer that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// Its name in the definition.
    pub name: Option<String>,
    /// Digest of the blob.
    pub digest: Digest,
    /// Size of the blob.
    pub size: u64,
    /// Size of the tar in it.
    pub tar_size: u64,
}

/// Why an image cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The base has no image for a platform.
    #[error("the base has no image for {platform}")]
    NoBase {
        /// The platform.
        platform: Platform,
    },
    /// A layer of the base that is no file system.
    #[error("the base's layer {layer}: cannot be read")]
    BaseLayer {
        /// Its digest.
        layer: String,
        /// Why not.
        source: io::Error,
    },
    /// What is to be in a layer.
    #[error("{0}")]
    Tree(#[from] tree::Error),
    /// The layout.
    #[error("{0}")]
    Layout(#[from] layout::Error),
}

/// Writes what was planned into a layout and returns the descriptor of the image, which has no name there yet.
///
/// The layers of the base are copied; over a base, they are read as well, since layers have the directories that they lie
/// in as those have them.
pub fn assemble(
    definition: &Definition,
    inputs: &Inputs,
    plan: &Plan,
    base: Option<&BaseImage>,
    options: &LayerOptions,
    layout: &Layout,
    progress: &Progress,
) -> Result<(Descriptor, BuildReport), Error> {
    // Over a base it is that of the layers as they are defined: what they become over it follows from its digest.
    let laid;
    let (plan, known) = match base {
        None => (plan, None),
        Some(base) => {
            let digest = layout::digest_of(base.image()).map_err(layout::Error::from)?;
            let known = fingerprint::fingerprint(definition, inputs, plan, Some(&digest), options, progress)?;
            laid = base.lay(plan, &inputs.platforms, progress)?;
            (&laid, Some(known))
        }
    };
    let parts = plan.parts();
    let total = parts.iter().map(|(_, _, tree)| tree.size()).sum();
    let task = progress.task(format!("packing {}", definition.name), Unit::Bytes, Some(total));
    let written: Vec<Layer> = parts
        .par_iter()
        // Whoever is ready takes the next one, large as they are.
        .with_max_len(1)
        .map(|(_, _, tree)| {
            if let Some(layer) = inputs.cache.find(tree, options, plan.epoch) {
                return Ok(layer);
            }
            let blob = layout.blob_writer(Algorithm::Sha256)?;
            let (layer, blob) = tree.write(blob, options, plan.created(), plan.epoch, &task)?;
            blob.finish()?;
            inputs.cache.add(tree, options, plan.epoch, &layer);
            Ok(layer)
        })
        .collect::<Result<_, Error>>()?;

    let created = jiff::Timestamp::from_second(plan.created()).unwrap_or_default();
    let labels = annotations(&definition.annotations, inputs, created, base.map(BaseImage::image));
    let by_content = fingerprint::is_by_content(inputs);
    let fingerprint = match known {
        Some(known) => known,
        None => {
            let identities: Vec<Digest> = parts
                .par_iter()
                .zip(&written)
                .map(|((layer, _, tree), written)| match &layer.identity {
                    Some(identity) => Ok(identity.clone()),
                    None if by_content => tree.diff_id(fingerprint::created(inputs, plan), plan.epoch, &task),
                    None => Ok(written.diff_id.clone()),
                })
                .collect::<Result<_, tree::Error>>()?;
            fingerprint::of(definition, inputs, plan, None, options, &identities)
        }
    };
    let mut annotations = labels.clone();
    annotations.insert(FINGERPRINT.to_owned(), fingerprint.to_string());
    let mut images = Vec::new();
    let mut manifests = Vec::new();
    for platform in &inputs.platforms {
        let mine = parts.iter().zip(&written).filter(|((_, only, _), _)| only.is_none_or(|only| only == platform));
        let layers: Vec<(Option<&str>, &Layer)> =
            mine.map(|((planned, ..), layer)| (planned.name.as_deref(), layer)).collect();
        let mut image = match base {
            Some(base) => base.of(platform)?,
            None => BaseParts::default(),
        };
        if let Some(base) = base {
            image.layers.iter().try_for_each(|layer| layout.take_blob(base.layout(), layer))?;
        }
        for (name, layer) in &layers {
            image.layers.push(layout::descriptor(layer.media_type.clone(), &layer.digest, layer.size));
            image.config.rootfs_mut().diff_ids_mut().push(layer.diff_id.to_string());
            let history = HistoryBuilder::default()
                .created(created.to_string())
                .created_by(format!("haversack build {}", definition.name))
                .comment(name.unwrap_or("layer"))
                .build()
                .expect("every field has a default");
            let mut all = image.config.history().clone().unwrap_or_default();
            all.push(history);
            image.config.set_history(Some(all));
        }
        configure(&mut image.config, definition, platform, &labels, created);
        if image.docker.contains_key(ON_BUILD) {
            tracing::warn!("{}: the base's ONBUILD triggers are kept and were not run", definition.name);
        }
        let mut config = serde_json::to_value(&image.config).expect("a configuration is JSON");
        for (name, value) in image.docker {
            config["config"][name] = value;
        }
        let config = layout.write_blob(MediaType::ImageConfig, &layout::canonical(&config))?;
        let has_zstd = image.layers.iter().any(|layer| layer.media_type().as_ref().ends_with("+zstd"));
        let config_digest = layout::digest_of(&config).map_err(layout::Error::from)?;
        let document: ImageManifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(image.layers)
            .annotations(annotations.clone().into_iter().collect::<std::collections::HashMap<_, _>>())
            .build()
            .expect("version, configuration and layers are set");
        let mut manifest = layout.write_blob(MediaType::ImageManifest, &layout::canonical(&document))?;
        images.push(PlatformReport {
            platform: platform.clone(),
            manifest: layout::digest_of(&manifest).map_err(layout::Error::from)?,
            config: config_digest,
            layers: layers.into_iter().map(|(name, layer)| LayerReport::new(name, layer)).collect(),
        });
        manifest.set_platform(Some(platform.to_spec()));
        if has_zstd {
            // skopeo would add it to the entries of an index that it copies, which then has another digest.
            manifest.set_annotations(Some([(ZSTD.to_owned(), "true".to_owned())].into()));
        }
        manifests.push(manifest);
    }
    let image = match &manifests[..] {
        [only] => layout::descriptor(MediaType::ImageManifest, &images[0].manifest, only.size()),
        _ => {
            let mut index: ImageIndex = layout::index_of(manifests);
            index.set_annotations(Some(annotations.into_iter().collect()));
            layout.write_blob(MediaType::ImageIndex, &layout::canonical(&index))?
        }
    };
    let report = BuildReport {
        fingerprint,
        digest: layout::digest_of(&image).map_err(layout::Error::from)?,
        size: image.size(),
        media_type: image.media_type().clone(),
        created,
        images,
    };
    Ok((image, report))
}

/// By which containers/image tells images with zstd from those that older engines can read.
const ZSTD: &str = "io.github.containers.compression.zstd";

impl LayerReport {
    fn new(name: Option<&str>, layer: &Layer) -> Self {
        LayerReport {
            name: name.map(str::to_owned),
            digest: layer.digest.clone(),
            size: layer.size,
            tar_size: layer.tar_size,
        }
    }
}

/// The labels of the configuration, which are annotations of manifest and index, too.
fn annotations(
    own: &BTreeMap<String, String>,
    inputs: &Inputs,
    created: jiff::Timestamp,
    base: Option<&Descriptor>,
) -> BTreeMap<String, String> {
    let mut all = inputs.annotations.clone();
    all.insert(oci_spec::image::ANNOTATION_CREATED.to_owned(), created.to_string());
    all.extend(base.map(|base| (oci_spec::image::ANNOTATION_BASE_IMAGE_DIGEST.to_owned(), base.digest().to_string())));
    all.extend(own.clone());
    all
}

fn configure(
    config: &mut ImageConfiguration,
    definition: &Definition,
    platform: &Platform,
    annotations: &BTreeMap<String, String>,
    created: jiff::Timestamp,
) {
    let old = config.config().clone().unwrap_or_else(|| ConfigBuilder::default().build().expect("all have defaults"));
    let mut new = old.clone();
    let mut env: BTreeMap<String, String> = old
        .env()
        .iter()
        .flatten()
        .filter_map(|variable| variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    env.extend(definition.env.clone());
    new.set_env((!env.is_empty()).then(|| env.iter().map(|(name, value)| format!("{name}={value}")).collect()));
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    if !definition.entrypoint.is_empty() {
        new.set_entrypoint(some(&definition.entrypoint));
        // The base's arguments were for the base's program.
        new.set_cmd(None);
    }
    if !definition.cmd.is_empty() {
        new.set_cmd(some(&definition.cmd));
    }
    if definition.user.is_some() {
        new.set_user(definition.user.clone());
    }
    if definition.workdir.is_some() {
        new.set_working_dir(definition.workdir.clone());
    }
    if definition.stop_signal.is_some() {
        new.set_stop_signal(definition.stop_signal.clone());
    }
    let volumes: BTreeSet<String> = old.volumes().iter().flatten().chain(&definition.volumes).cloned().collect();
    new.set_volumes((!volumes.is_empty()).then(|| volumes.into_iter().collect()));
    let mut labels = old.labels().clone().unwrap_or_default();
    labels.extend(annotations.clone());
    labels.extend(definition.labels.clone());
    new.set_labels(Some(labels));
    config.set_config(Some(new));
    config.set_created(Some(created.to_string()));
    config.set_os(platform.os.as_str().into());
    config.set_architecture(platform.architecture.as_str().into());
    config.set_variant(platform.variant.clone().or(config.variant().clone()));
}

fn as_text<S: serde::Serializer>(time: &jiff::Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs;
    use crate::image::build::plan;
    use crate::image::build::plan::CatalogInput;

    fn write(path: &Path, text: &str, mtime: u64) {
        fs::write(path, text.as_bytes()).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(mtime);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    }

    fn build(text: &str, inputs: &Inputs, layout: &Layout, base: Option<&BaseImage>) -> (Descriptor, BuildReport) {
        let definition = Definition::parse(Path::new("image.toml"), text).unwrap();
        let plan = plan(&definition, inputs).unwrap();
        let options = LayerOptions::default();
        assemble(&definition, inputs, &plan, base, &options, layout, &Progress::off()).unwrap()
    }

    fn inputs(dir: &Path) -> Inputs {
        write(&dir.join("a.conf"), "a", 1000);
        write(&dir.join("amd64"), "for amd64", 2000);
        write(&dir.join("arm64"), "for arm64", 3000);
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        Inputs {
            directory: dir.to_owned(),
            platforms: vec![platform("linux/amd64"), platform("linux/arm64")],
            binaries: [("linux/amd64", "amd64"), ("linux/arm64", "arm64")]
                .map(|(name, file)| (platform(name), dir.join(file)))
                .into(),
            ..Inputs::default()
        }
    }

    const TWO: &str = r#"
        name = "x"
        entrypoint = ["/bin/x"]
        cmd = ["run"]
        env = { B = "2", A = "1" }
        annotations = { "org.opencontainers.image.title" = "X" }
        labels = { l = "m" }
        [[layers]]
        name = "program"
        binary = "/bin/x"
        [[layers]]
        files = [{ src = "a.conf", dest = "/etc/a.conf" }]
    "#;

    #[test]
    fn platforms_share_what_has_no_program_in_it_and_the_digest_is_always_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path());
        let reports = ["one", "two"].map(|name| {
            let layout = Layout::create(&dir.path().join(name)).unwrap();
            build(TWO, &inputs, &layout, None).1
        });
        assert_eq!(reports[0], reports[1]);
        let [amd64, arm64] = &reports[0].images[..] else { panic!("{:?}", reports[0].images) };
        assert_ne!(amd64.layers[0].digest, arm64.layers[0].digest);
        assert_eq!(amd64.layers[1].digest, arm64.layers[1].digest);
        // A constant: what a change of compressor, tar or JSON would do to everybody's digests shows here.
        insta::assert_snapshot!(reports[0].digest, @"sha256:19af368d50b0479b9ff78fc2e9e986d7879fe787d6be353e3eeb0a01aee07401");
        assert_eq!(reports[0].created.to_string(), "1970-01-01T00:16:40Z");
    }

    #[test]
    fn the_configuration_says_what_the_definition_says() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = Inputs { platforms: vec!["linux/amd64".parse().unwrap()], ..inputs(dir.path()) };
        let layout = Layout::create(&dir.path().join("layout")).unwrap();
        let (image, report) = build(TWO, &inputs, &layout, None);
        assert_eq!(report.digest, report.images[0].manifest);
        let document: ImageManifest = layout::parse("x", &layout.read_document(&image).unwrap()).unwrap();
        let config = layout.read_document(document.config()).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
        config.as_object_mut().unwrap().remove("rootfs");
        insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap(), @r#"
        {
          "architecture": "amd64",
          "config": {
            "Cmd": [
              "run"
            ],
            "Entrypoint": [
              "/bin/x"
            ],
            "Env": [
              "A=1",
              "B=2"
            ],
            "Labels": {
              "l": "m",
              "org.opencontainers.image.created": "1970-01-01T00:16:40Z",
              "org.opencontainers.image.title": "X"
            }
          },
          "created": "1970-01-01T00:16:40Z",
          "history": [
            {
              "comment": "program",
              "created": "1970-01-01T00:16:40Z",
              "created_by": "haversack build x"
            },
            {
              "comment": "layer",
              "created": "1970-01-01T00:16:40Z",
              "created_by": "haversack build x"
            }
          ],
          "os": "linux"
        }
        "#);
    }

    #[test]
    fn a_base_keeps_its_layers_below_and_what_is_not_said_anew() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = Inputs { platforms: vec!["linux/amd64".parse().unwrap()], ..inputs(dir.path()) };
        let layout = Layout::create(&dir.path().join("layout")).unwrap();
        let (base, below) = build(TWO, &inputs, &layout, None);
        let (from, other) = (layout.clone(), Layout::create(&dir.path().join("other")).unwrap());
        let over =
            "name = 'y'\nbase = 'oci:x'\nentrypoint = ['/y']\nenv = { A = '3' }\n[[layers]]\nremove = ['/etc/a.conf']";
        let (image, report) = build(over, &inputs, &other, Some(&BaseImage::new(&layout, &base)));
        let layout = other;
        let document: ImageManifest = layout::parse("x", &layout.read_document(&image).unwrap()).unwrap();
        let layers: Vec<String> = document.layers().iter().map(|layer| layer.digest().to_string()).collect();
        let expected = below.images[0].layers.iter().chain(&report.images[0].layers);
        assert_eq!(layers, expected.map(|layer| layer.digest.to_string()).collect::<Vec<_>>());
        let config: ImageConfiguration = layout::parse("x", &layout.read_document(document.config()).unwrap()).unwrap();
        let run = config.config().clone().unwrap();
        assert_eq!(run.env().clone().unwrap(), ["A=3", "B=2"]);
        assert_eq!((run.entrypoint().clone(), run.cmd().clone()), (Some(vec!["/y".to_owned()]), None));
        assert_eq!((config.history().as_ref().unwrap().len(), config.rootfs().diff_ids().len()), (3, 3));

        let other = Inputs { platforms: vec!["linux/s390x".parse().unwrap()], ..inputs };
        let definition = Definition::parse(Path::new("image.toml"), over).unwrap();
        let planned = plan(&definition, &other).unwrap();
        let options = LayerOptions::default();
        let base = BaseImage::new(&from, &base);
        let error = assemble(&definition, &other, &planned, Some(&base), &options, &layout, &Progress::off());
        assert_eq!(error.unwrap_err().to_string(), "the base has no image for linux/s390x");
    }

    #[test]
    fn a_catalog_gives_its_time_and_nothing_else_of_how_its_files_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut inputs = inputs(dir.path());
        let text = "name = 'x'\n[[layers]]\ncatalog = { tree = '/t', db = '/d' }\n[[layers]]\nbinary = '/b'";
        let digests = [(10, 0o644), (20, 0o600)].map(|(mtime, mode)| {
            let from = dir.path().join(mtime.to_string());
            fs::create_dir_all(&from.join("data")).unwrap();
            for name in ["data/archive.json", "catalog.db"] {
                write(&from.join(name), "{}", mtime);
                std::fs::set_permissions(from.join(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            }
            let (tree, db) = (from.join("data"), from.join("catalog.db"));
            inputs.catalog = Some(CatalogInput { tree, db, taken: 1_700_000_000 });
            write(&dir.path().join("amd64"), "for amd64", mtime);
            let layout = Layout::create(&from.join("layout")).unwrap();
            build(text, &inputs, &layout, None).1
        });
        assert_eq!(digests[0], digests[1]);
        assert_eq!(digests[0].created.as_second(), 1_700_000_000);
    }
}
