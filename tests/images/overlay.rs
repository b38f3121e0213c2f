//! Layers over a base, as engines on overlay file systems and others unpack them: each layer alone, or one over the other.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use haversack::compression::Compression;
use haversack::image::layer::pax::Meta;
use haversack::image::store::layout;
use haversack::image::{LayerOptions, LayerWriter, Layout};
use oci_spec::image::{ImageManifest, MediaType};
use serde_json::json;
use tempfile::TempDir;

use crate::engines::Storage;
use crate::{built, haversack, refused};

/// Times of the base's files; those of the image's are later, and what a test makes later still.
const OLD: i64 = 1_500_000_000;

/// What distributions have: a merged /usr, links of both kinds, directories that are not 0755 of root.
fn base(place: &Path) {
    let options = LayerOptions { compression: Compression::Gzip, level: None };
    let mut layer = LayerWriter::new(Vec::new(), &options).unwrap();
    let meta = |mode, uid| Meta { mode, uid, gid: uid, mtime: OLD, ..Meta::default() };
    for (name, mode, uid) in [
        ("etc", 0o755, 0),
        ("etc/foo", 0o700, 0),
        ("home", 0o755, 0),
        ("home/app", 0o750, 1000),
        ("opt", 0o755, 0),
        ("opt/old", 0o711, 5),
        ("run", 0o755, 0),
        ("tmp", 0o1777, 0),
        ("usr", 0o755, 0),
        ("usr/bin", 0o755, 0),
        ("usr/lib", 0o2755, 0),
        ("usr/lib/modules", 0o755, 0),
        ("var", 0o755, 0),
        ("var/lib", 0o755, 0),
        ("var/lib/data", 0o2775, 33),
    ] {
        layer.directory(Path::new(name), &meta(mode, uid)).unwrap();
    }
    let noted = BTreeMap::from([("user.note".to_owned(), b"kept".to_vec())]);
    layer.directory(Path::new("srv"), &Meta { xattrs: noted, ..meta(0o751, 9) }).unwrap();
    for name in ["etc/foo/gone", "etc/foo/keep", "opt/old/a", "opt/old/b", "usr/lib/libc.so", "usr/bin/sh", "srv/x"] {
        layer.file(Path::new(name), &meta(0o644, 0), 4, &b"base"[..]).unwrap();
    }
    for (name, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("var/run", "/run")] {
        layer.symlink(Path::new(name), &meta(0o777, 0), Path::new(target)).unwrap();
    }
    let (layer, bytes) = layer.finish().unwrap();
    std::fs::create_dir(place).unwrap();
    let store = Layout::create(place).unwrap();
    let described = store.write_blob(MediaType::ImageLayerGzip, &bytes).unwrap();
    let config = json!({
        "architecture": haversack::image::Platform::host().architecture, "os": "linux", "config": dockers(),
        "rootfs": { "type": "layers", "diff_ids": [layer.diff_id.to_string()] },
    });
    let config = store.write_blob(MediaType::ImageConfig, &layout::canonical(&config)).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": config, "layers": [described],
    });
    let manifest = store.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
    store.tag(&manifest, Some("base")).unwrap();
}

/// What Docker has in a configuration, and image-spec has not.
fn dockers() -> serde_json::Value {
    json!({
        "Healthcheck": { "Test": ["CMD", "/check"], "Interval": 30_000_000_000_u64 },
        "OnBuild": ["LABEL later=yes"], "Shell": ["/bin/sh", "-ec"], "StopTimeout": 7,
    })
}

/// Three layers over the base: what they add, through links and beside them; what they remove; what they do both with.
const OVER: &str = r#"
name = "over"
base = "oci:../base:base"
[[layers]]
remove = ["/etc/foo/gone", "/opt/old"]
files = [
    { src = "file", dest = "/tmp/x" },
    { src = "file", dest = "/home/app/config" },
    { src = "file", dest = "/lib/modules/6.1/x.ko" },
    { src = "file", dest = "/var/run/deep/pid" },
    { src = "file", dest = "/etc/foo/new" },
    { src = "file", dest = "/opt/old/c" },
    { src = "file", dest = "/srv/y" },
]
[[layers]]
directories = [{ src = "root", dest = "/" }, { src = "data", dest = "/var/lib/data" }]
links = { "/bin/x" = "../lib/z" }
[[layers]]
files = [{ src = "file", dest = "/lib/modules/6.1/y.ko" }]
remove = ["/tmp/x", "/var/run/deep"]
"#;

/// A step of it for buildah.
enum Step {
    Copy(&'static str, &'static str),
    Link(&'static str, &'static str),
    Remove(&'static str),
}

const STEPS: &[Step] = &[
    Step::Remove("etc/foo/gone"),
    Step::Remove("opt/old"),
    Step::Copy("file", "/tmp/x"),
    Step::Copy("file", "/home/app/config"),
    Step::Copy("file", "/lib/modules/6.1/x.ko"),
    Step::Copy("file", "/var/run/deep/pid"),
    Step::Copy("file", "/etc/foo/new"),
    Step::Copy("file", "/opt/old/c"),
    Step::Copy("file", "/srv/y"),
    // One by one: buildah would put a directory in the place of the link /lib.
    Step::Copy("root/new", "/new"),
    Step::Copy("root/lib", "/lib"),
    Step::Copy("data", "/var/lib/data"),
    Step::Link("usr/bin/x", "../lib/z"),
    Step::Copy("file", "/lib/modules/6.1/y.ko"),
    Step::Remove("tmp/x"),
    Step::Remove("run/deep"),
];

fn over() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    base(&dir.path().join("base"));
    for directory in ["over/root/lib/sub", "over/root/new", "over/data/in"] {
        std::fs::create_dir_all(dir.path().join(directory)).unwrap();
    }
    for file in ["file", "root/lib/z", "root/lib/sub/s", "root/new/n", "data/in/d", "data/e"] {
        std::fs::write(dir.path().join("over").join(file), "over\n").unwrap();
    }
    std::fs::write(dir.path().join("over/image.toml"), OVER).unwrap();
    dir
}

/// What a name is: kind, mode, owner, target, attributes, and the time, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    what: String,
    time: i64,
}

type Files = BTreeMap<PathBuf, Entry>;

fn entry(kind: char, mode: u32, owner: (u64, u64), more: &str, time: i64) -> Entry {
    let (uid, gid) = owner;
    Entry { what: format!("{kind} {:o} {uid}:{gid}{more}", mode & 0o7777), time }
}

/// A root file system on the disk.
fn on_disk(root: &Path) -> Files {
    let entries = walkdir::WalkDir::new(root).min_depth(1).into_iter().map(Result::unwrap);
    let files = entries.map(|it| {
        let metadata = it.path().symlink_metadata().unwrap();
        let owner = (u64::from(metadata.uid()), u64::from(metadata.gid()));
        let (kind, mode, more) = if metadata.is_dir() {
            let mut value = [0; 100];
            let noted = rustix::fs::lgetxattr(it.path(), "user.note", &mut value);
            let noted = noted.map(|n| format!(" {}", String::from_utf8_lossy(&value[..n]))).unwrap_or_default();
            ('d', metadata.mode(), noted)
        } else if metadata.is_symlink() {
            ('l', 0o777, format!(" {}", std::fs::read_link(it.path()).unwrap().display()))
        } else {
            ('f', metadata.mode(), format!(" {}", metadata.len()))
        };
        (it.path().strip_prefix(root).unwrap().to_owned(), entry(kind, mode, owner, &more, metadata.mtime()))
    });
    files.collect()
}

/// An image's layers as an overlay file system shows them: each is unpacked alone, where missing parents are made as engines
/// make them, and then what is above hides what is below.
fn overlaid(dir: &Path, image: &serde_json::Value) -> Files {
    let store = Layout::open(&dir.join("layout")).unwrap();
    let named = store.find(Some("over:latest")).unwrap();
    assert_eq!(image["digest"], named.digest().to_string());
    let manifest: ImageManifest = layout::parse("x", &store.read_document(&named).unwrap()).unwrap();
    let mut merged = Files::new();
    for described in manifest.layers() {
        let blob = std::io::BufReader::new(store.open_blob(described).unwrap());
        let (_, mut content) = haversack::compression::decoder(blob).unwrap();
        let mut tar = Vec::new();
        content.read_to_end(&mut tar).unwrap();
        let mut upper = Files::new();
        let mut hidden = Vec::new();
        for member in tar::Archive::new(&tar[..]).entries().unwrap() {
            let mut member = member.unwrap();
            let path: PathBuf = member.path().unwrap().components().collect();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                upper.entry(above.to_owned()).or_insert(entry('d', 0o755, (0, 0), "", i64::MAX));
            }
            if let Some(removed) = name.strip_prefix(".wh.") {
                hidden.push((path.with_file_name(removed), removed == ".wh..opq"));
                continue;
            }
            let attributes = member.pax_extensions().unwrap();
            let noted = attributes.into_iter().flatten().map(Result::unwrap);
            let noted = noted.filter(|record| record.key() == Ok("SCHILY.xattr.user.note"));
            let noted: String = noted.map(|record| format!(" {}", record.value().unwrap())).collect();
            let header = member.header();
            let kind = header.entry_type();
            let (letter, more) = match member.link_name().unwrap() {
                Some(target) if kind.is_symlink() => ('l', format!(" {}", target.display())),
                Some(target) => panic!("{} is a link to {}", path.display(), target.display()),
                None if kind.is_dir() => ('d', noted),
                None => ('f', format!(" {}", header.size().unwrap())),
            };
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            let time = i64::try_from(header.mtime().unwrap()).unwrap();
            upper.insert(path, entry(letter, header.mode().unwrap(), owner, &more, time));
        }
        for (path, is_opaque) in hidden {
            let gone = if is_opaque { path.parent().unwrap() } else { &path };
            assert!(is_opaque || !upper.contains_key(gone), "{}: removed and there in one layer", gone.display());
            merged.retain(|name, _| !name.starts_with(gone));
        }
        for (path, above) in &upper {
            if !above.what.starts_with('d') {
                merged.retain(|name, _| !name.starts_with(path));
            }
        }
        merged.extend(upper);
    }
    merged
}

#[test]
fn what_lies_below_keeps_its_modes_owners_times_and_links_on_an_overlay() {
    let dir = over();
    let image = built(dir.path(), &["over", "--output", "oci:layout"]);
    let files = overlaid(dir.path(), &image);
    let lines: Vec<String> = files.iter().map(|(path, entry)| format!("{} {}", path.display(), entry.what)).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    bin l 777 0:0 usr/bin
    etc d 755 0:0
    etc/foo d 700 0:0
    etc/foo/keep f 644 0:0 4
    etc/foo/new f 644 0:0 5
    home d 755 0:0
    home/app d 750 1000:1000
    home/app/config f 644 0:0 5
    lib l 777 0:0 usr/lib
    new d 755 0:0
    new/n f 644 0:0 5
    opt d 755 0:0
    opt/old d 755 0:0
    opt/old/c f 644 0:0 5
    run d 755 0:0
    srv d 751 9:9 kept
    srv/x f 644 0:0 4
    srv/y f 644 0:0 5
    tmp d 1777 0:0
    usr d 755 0:0
    usr/bin d 755 0:0
    usr/bin/sh f 644 0:0 4
    usr/bin/x l 777 0:0 ../lib/z
    usr/lib d 2755 0:0
    usr/lib/libc.so f 644 0:0 4
    usr/lib/modules d 755 0:0
    usr/lib/modules/6.1 d 755 0:0
    usr/lib/modules/6.1/x.ko f 644 0:0 5
    usr/lib/modules/6.1/y.ko f 644 0:0 5
    usr/lib/sub d 755 0:0
    usr/lib/sub/s f 644 0:0 5
    usr/lib/z f 644 0:0 5
    var d 755 0:0
    var/lib d 755 0:0
    var/lib/data d 2775 33:33
    var/lib/data/e f 644 0:0 5
    var/lib/data/in d 755 0:0
    var/lib/data/in/d f 644 0:0 5
    var/run l 777 0:0 /run
    ");
    for (path, entry) in files {
        let is_new =
            entry.what.ends_with(" 5") || ["new", "in", "sub", "6.1", "old"].iter().any(|it| path.ends_with(it));
        let is_link = path.ends_with("bin/x");
        assert!(is_new || is_link || entry.time == OLD, "{}: {entry:?}", path.display());
    }
    // What is explained is what is there.
    let explained = crate::done(&haversack(dir.path(), &["build", "over", "--explain"]));
    assert!(explained.contains("parent    1777 0:0          0 /tmp\n"), "{explained}");
    assert!(explained.contains("emptied    755 0:0          0 /opt/old\n"), "{explained}");
}

#[test]
fn what_docker_has_in_a_bases_configuration_is_kept() {
    let dir = over();
    let output = haversack(dir.path(), &["build", "over", "--output", "oci:layout"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("ONBUILD triggers are kept and were not run"), "{said}");
    let store = Layout::open(&dir.path().join("layout")).unwrap();
    let image = store.find(Some("over:latest")).unwrap();
    let manifest: ImageManifest = layout::parse("x", &store.read_document(&image).unwrap()).unwrap();
    let shown = store.read_document(manifest.config()).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    for (name, value) in dockers().as_object().unwrap() {
        assert_eq!(&shown["config"][name], value, "{name}");
    }
}

#[test]
fn what_no_layer_can_hold_over_the_base_is_refused() {
    let dir = over();
    for (layer, problem) in [
        ("files = [{ text = 'x', dest = '/bin/sh/x' }]", "/bin/sh/x: /usr/bin/sh is not a directory"),
        (
            "files = [{ text = 'x', dest = '/lib/x' }, { text = 'y', dest = '/usr/lib/x' }]",
            "/lib/x and /usr/lib/x: both are /usr/lib/x in what lies below",
        ),
        (
            "directories = [{ dest = '/etc/.wh.passwd', mode = '0700' }]",
            "/etc/.wh.passwd: a name with .wh. before it removes what a layer below has",
        ),
    ] {
        let text = format!("name = 'over'\nbase = 'oci:../base:base'\n[[layers]]\n{layer}\n");
        std::fs::write(dir.path().join("over/image.toml"), text).unwrap();
        let (status, said) = refused(&haversack(dir.path(), &["build", "over", "--output", "oci:layout"]));
        assert_eq!((status, said.lines().next()), (1, Some(&*format!("error: {problem}"))));
    }
}

#[test]
#[ignore = "needs podman, buildah and mount; the same steps by buildah and by us, on overlay and on vfs"]
fn engines_see_of_our_image_what_buildah_makes_by_the_same_steps() {
    let dir = over();
    let image = built(dir.path(), &["over", "--output", "oci:layout"]);
    let ours = overlaid(dir.path(), &image);
    let started = jiff::Timestamp::now().as_second() - 3600;
    for driver in ["overlay", "vfs"] {
        let storage = Storage::new(driver);
        let container = storage.last_line(dir.path(), &["buildah", "from", "oci:base:base"]);
        let root = PathBuf::from(storage.last_line(dir.path(), &["buildah", "mount", &container]));
        for step in STEPS {
            match step {
                Step::Copy(from, to) => {
                    let from = dir.path().join("over").join(from);
                    drop(storage.run(dir.path(), &["buildah", "copy", &container, from.to_str().unwrap(), to]));
                }
                Step::Link(at, target) => symlink(target, root.join(at)).unwrap(),
                Step::Remove(path) if root.join(path).is_dir() => std::fs::remove_dir_all(root.join(path)).unwrap(),
                Step::Remove(path) => std::fs::remove_file(root.join(path)).unwrap(),
            }
        }
        let expected = on_disk(&root);
        storage.run(dir.path(), &["buildah", "umount", &container]);
        let id = storage.last_line(dir.path(), &["podman", "pull", "--quiet", "oci:layout:over:latest"]);
        let root = PathBuf::from(storage.last_line(dir.path(), &["podman", "image", "mount", &id]));
        let unpacked = on_disk(&root);
        storage.run(dir.path(), &["podman", "image", "unmount", &id]);
        let what = |files: &Files| files.iter().map(|(path, it)| (path.clone(), it.what.clone())).collect::<Vec<_>>();
        assert_eq!(what(&unpacked), what(&expected), "{driver}");
        assert_eq!(what(&unpacked), what(&ours), "{driver}");
        for (path, theirs) in expected.iter().filter(|(_, theirs)| theirs.time < started) {
            assert_eq!(unpacked[path].time, theirs.time, "{driver}: {}", path.display());
        }
    }
}
