//! Images that are put together, with and without a base.

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
    let (definition, plan, options, progress) = (&definition, &plan, &options, &Progress::off());
    Assembly { definition, inputs, plan, base, options, layout, progress }.write().unwrap()
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
    let (definition, inputs, plan, base) = (&definition, &other, &planned, Some(&base));
    let (options, layout, progress) = (&options, &layout, &Progress::off());
    let error = Assembly { definition, inputs, plan, base, options, layout, progress }.write();
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
