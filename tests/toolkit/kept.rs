//! Images that keep kernels, dumped and refreshed.

use std::path::Path;

use serde_json::Value;

use crate::packages::Deb;
use crate::{blob, definition, documents, json, kernel, pool, run};

const KEPT: &str = "name = 'kernels'\n[[layers]]\nkernels = { dest = '/kernels', list = '/kernels/kernels.json' }\n";

/// Unpacks the layers of an image into a directory.
fn root(dir: &Path, image: &str) -> std::path::PathBuf {
    let root = dir.join("root");
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir(&root).unwrap();
    let (_, manifest, _) = documents(dir, image);
    for layer in manifest["layers"].as_array().unwrap() {
        let file = std::fs::File::open(blob(dir, image, layer["digest"].as_str().unwrap())).unwrap();
        tar::Archive::new(zstd::Decoder::new(file).unwrap()).unpack(&root).unwrap();
    }
    root
}

fn dumped(dir: &Path) -> Vec<String> {
    let walk = walkdir::WalkDir::new(dir.join("dump")).sort_by_file_name();
    let files = walk.into_iter().map(Result::unwrap).filter(|entry| !entry.file_type().is_dir());
    files.map(|entry| entry.path().strip_prefix(dir.join("dump")).unwrap().display().to_string()).collect()
}

fn sums_are_right(dir: &Path) {
    let status = std::process::Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(dir.join("dump"))
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_layer_of_a_kernel_stays_what_it_is_when_others_come() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    definition(dir.path(), KEPT);
    let args = ["build", "def", "--kernels", "dir:pool", "--output", "oci:out"];
    let layers = |report: &Value| -> Vec<(String, String)> {
        let layers = report[0]["images"][0]["layers"].as_array().unwrap();
        layers.iter().map(|it| (it["name"].as_str().unwrap().into(), it["digest"].as_str().unwrap().into())).collect()
    };
    let before = layers(&json(dir.path(), 0, &args));
    let names: Vec<&str> = before.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["debian/6.1.0-1-amd64", "debian/6.1.0-2-amd64", "debian/6.12.9+deb12-amd64", "the list"]);
    // One that sorts before all others.
    kernel(&dir.path().join("pool"), "6.1.0-0", "6.1.1-1", "amd64");
    let after = layers(&json(dir.path(), 0, &args));
    assert_eq!(after[1..4], before[..3]);
    assert_ne!(after[4], before[3]);
}

#[test]
fn kernels_are_dumped_with_their_list_and_check_sums() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    definition(dir.path(), KEPT);
    json(dir.path(), 0, &["build", "def", "--kernels", "dir:pool", "--output", "oci:out"]);
    let root = root(dir.path(), "out:kernels:latest");
    let set = root.join("kernels/kernels.json");
    let set = set.to_str().unwrap();
    std::fs::create_dir(dir.path().join("dump")).unwrap();
    let dump = |args: &[&str]| run(dir.path(), &[&["run", "--dump-dir", "dump", "--kernel-set", set], args].concat());
    assert_eq!(dump(&["--release", "6.1.0-2-amd64"]).0, 0);
    assert_eq!(
        dumped(dir.path()),
        [
            "SHA256SUMS",
            "debian/6.1.0-2-amd64/linux-headers-6.1.0-2-amd64_6.1.8-1_amd64.deb",
            "debian/6.1.0-2-amd64/linux-headers-6.1.0-2-common_6.1.8-1_all.deb",
            "debian/6.1.0-2-amd64/linux-kbuild-6.1_6.1.8-1_amd64.deb",
            "kernels.json",
        ]
    );
    sums_are_right(dir.path());
    let (status, unpacked, stderr) =
        run(&dir.path().join("dump"), &["kernel", "unpack", "set:kernels.json", "--to", "../trees"]);
    assert_eq!(status, 0, "{unpacked}{stderr}");
    let (status, _, stderr) = dump(&["--release", "7.0"]);
    assert_eq!((status, stderr.lines().next()), (1, Some("error: 7.0: no such kernel in this image")));
    // A byte of the image that is another one now.
    let package = root.join("kernels/debian/6.1.0-1-amd64/linux-headers-6.1.0-1-common_6.1.4-1_all.deb");
    std::fs::write(&package, b"other").unwrap();
    let (status, _, stderr) = dump(&[]);
    assert!(status == 1 && stderr.contains("the digest is"), "{stderr}");
}

#[test]
fn trees_are_kept_and_dumped_when_the_definition_says_unpacked() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    definition(dir.path(), &KEPT.replace("list", "unpacked = true, list"));
    json(dir.path(), 0, &["build", "def", "--kernels", "dir:pool", "--release", "6.1.0-1", "--output", "oci:out"]);
    let set = root(dir.path(), "out:kernels:latest").join("kernels/kernels.json");
    std::fs::create_dir(dir.path().join("dump")).unwrap();
    for _ in 0..2 {
        let (status, _, stderr) =
            run(dir.path(), &["dump", "--dump-dir", "dump", "--kernel-set", set.to_str().unwrap()]);
        assert_eq!(status, 0, "{stderr}");
    }
    assert_eq!(
        dumped(dir.path()),
        [
            "SHA256SUMS",
            "debian/6.1.0-1-amd64/lib/modules/6.1.0-1-amd64/build",
            "debian/6.1.0-1-amd64/usr/lib/linux-kbuild-6.1/scripts/x",
            "debian/6.1.0-1-amd64/usr/src/linux-headers-6.1.0-1-amd64/Makefile",
            "debian/6.1.0-1-amd64/usr/src/linux-headers-6.1.0-1-common/Makefile",
            "kernels.json",
        ]
    );
    sums_are_right(dir.path());
}

#[test]
fn roles_and_options_that_mean_nothing_are_refused_and_an_empty_image_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    for (text, more, status, why) in [
        (KEPT.replace("list =", "roles = ['headres'], list ="), &[][..], 2, "unknown role `headres`"),
        (KEPT.to_owned(), &["--matrix", "none.json"], 2, "--matrix: this definition makes one image of all kernels"),
        (KEPT.to_owned(), &["--release", "6.1.0-1", "--shard", "2/3"], 1, "the image would be empty"),
    ] {
        definition(dir.path(), &text);
        let args = [&["build", "def", "--kernels", "dir:pool", "--output", "oci:out"], more].concat();
        let (actual, _, stderr) = run(dir.path(), &args);
        assert!(actual == status && stderr.contains(why), "{why}: {actual} {stderr}");
    }
}

#[test]
fn a_layer_has_the_links_holes_modes_and_times_that_the_packages_have_on_however_many_cores() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    let odd = "usr/lib/linux-kbuild-6.1/scripts";
    Deb::new("linux-kbuild-6.1", "6.1.8-1", "amd64")
        .file(&format!("{odd}/x"), 0o750, b"k")
        // A name that sorts before that of the file.
        .hard_link(&format!("{odd}/a"), &format!("{odd}/x"))
        .zeros(&format!("{odd}/zeros"), 200_000)
        .file(&format!("{odd}/empty"), 0o600, b"")
        .symlink(&format!("{odd}/link"), "../x")
        .write(&dir.path().join("pool"));
    definition(dir.path(), &KEPT.replace("list", "unpacked = true, list"));
    let digests = ["1", "8"].map(|threads| {
        let args = ["build", "def", "--kernels", "dir:pool", "--release", "6.1.0-2", "--progress", "none", "--json"];
        let output = format!("oci:out{threads}");
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("haversack"));
        command.args(args).args(["--output", &output]).env("RAYON_NUM_THREADS", threads).current_dir(dir.path());
        let built = command.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        serde_json::from_slice::<Value>(&built.stdout).unwrap()[0]["digest"].clone()
    });
    assert_eq!(digests[0], digests[1]);

    let (_, manifest, _) = documents(dir.path(), "out1:kernels:latest");
    let layer = blob(dir.path(), "out1:kernels:latest", manifest["layers"][0]["digest"].as_str().unwrap());
    let mut tar = tar::Archive::new(zstd::Decoder::new(std::fs::File::open(layer).unwrap()).unwrap());
    let base = "kernels/debian/6.1.0-2-amd64";
    let lines = tar.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let (path, header) = (entry.path().unwrap().into_owned(), entry.header());
        let link = entry.link_name().unwrap().map(|link| format!(" -> {}", link.display())).unwrap_or_default();
        format!("{:o} {} {}{link}", header.mode().unwrap(), header.size().unwrap(), path.display()).replace(base, "")
    });
    let lines: Vec<String> = lines.filter(|line| line.contains("/scripts/") && !line.ends_with("scripts/")).collect();
    assert_eq!(
        lines,
        [
            format!("754 1 /{odd}/a"),
            format!("644 0 /{odd}/empty"),
            format!("777 0 /{odd}/link -> ../x"),
            format!("754 0 /{odd}/x -> /{odd}/a"),
            format!("644 200000 /{odd}/zeros"),
        ]
    );
    // The same files as on the disk, readable for whoever runs the image.
    let args = ["kernel", "unpack", "dir:pool", "--release", "6.1.0-2", "--to", "trees"];
    let (status, _, stderr) = run(dir.path(), &args);
    assert_eq!(status, 0, "{stderr}");
    let (image, disk) =
        (root(dir.path(), "out1:kernels:latest").join(base), dir.path().join("trees/debian/6.1.0-2-amd64"));
    let listing = |root: &Path| -> Vec<String> {
        let walk = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().map(Result::unwrap);
        let line = |entry: walkdir::DirEntry| {
            use std::os::unix::fs::MetadataExt;
            let metadata = entry.path().symlink_metadata().unwrap();
            let name = entry.path().strip_prefix(root).unwrap().display().to_string();
            match metadata.is_file() {
                true => {
                    let content = std::fs::read(entry.path()).unwrap();
                    let digest = haversack::digest::Digest::sha256(content);
                    format!("{name} {:o} {} {} {digest}", metadata.mode() | 0o444, metadata.mtime(), metadata.nlink())
                }
                false => format!("{name} {:o} {:?}", metadata.mode(), std::fs::read_link(entry.path()).ok()),
            }
        };
        walk.map(line).collect()
    };
    assert_eq!(listing(&image), listing(&disk));
}

#[test]
fn a_refresh_fetches_what_the_sources_have_now_into_the_same_place() {
    let dir = tempfile::tempdir().unwrap();
    let served = dir.path().join("served");
    pool(&served);
    Deb::new("linux-kbuild-6.1", "6.1.9-1", "amd64")
        .file("usr/lib/linux-kbuild-6.1/scripts/x", 0o755, b"n")
        .write(&served.join("pool"));
    let registry = crate::registry::Registry::start();
    let mut list = Vec::new();
    for entry in std::fs::read_dir(served.join("pool")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        registry.file(&format!("/{}", name.replace('+', "%2B")), std::fs::read(entry.path()).unwrap());
        list.push(format!("http://{}/{}", registry.address, name.replace('+', "%2B")));
    }
    let crawled = serde_json::json!({ "Debian": [{ "kernelversion": "1", "kernelrelease": "6.1.0-2", "target": "debian", "headers": list }] });
    std::fs::write(dir.path().join("list.json"), crawled.to_string()).unwrap();
    std::fs::create_dir(dir.path().join("dump")).unwrap();
    let args = [
        "run",
        "--dump-dir",
        "dump",
        "--kernel-set",
        "none",
        "--kernel-source",
        "crawler:list.json",
        "--release",
        "6.1.0-2-amd64",
    ];
    let (status, _, stderr) = run(dir.path(), &args);
    assert_eq!(status, 0, "{stderr}");
    assert!(
        dumped(dir.path()).contains(&"debian/6.1.0-2-amd64/linux-headers-6.1.0-2-amd64_6.1.8-1_amd64.deb".to_owned())
    );
    sums_are_right(dir.path());
}
