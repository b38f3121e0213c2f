//! Kernel sets from the outside: what was listed or fetched once is fetched and unpacked again as it was.

mod answers;

use std::path::Path;

use serde_json::Value;

use crate::haversack;
use crate::packages::{Deb, Rpm, RpmFile};

/// Headers that need others of which only `Depends` tells that they belong together.
fn odd_headers(release: &str) -> Deb {
    let source = format!("usr/src/linux-headers-{release}");
    Deb::new(&format!("linux-headers-{release}"), "6.6.20-1", "arm64")
        .depends("linux-headers-of-the-house (= 6.6.20-1), gcc-12")
        .file(&format!("./{source}/Makefile"), 0o644, b"include /usr/src/linux-headers-of-the-house/Makefile\n")
        .symlink(&format!("./lib/modules/{release}/build"), &format!("/{source}"))
}

fn of_the_house() -> Deb {
    Deb::new("linux-headers-of-the-house", "6.6.20-1", "all").file(
        "./usr/src/linux-headers-of-the-house/Makefile",
        0o644,
        b"all:\n",
    )
}

/// `RELEASE: FILE FILE…` for each kernel of a set or a report.
fn says(json: &str) -> Vec<String> {
    let json: Value = serde_json::from_str(json).unwrap();
    let kernels = json["kernels"].as_array().unwrap().iter();
    let line = |kernel: &Value| {
        let packages = kernel["packages"].as_array().unwrap().iter();
        let names: Vec<String> =
            packages.map(|it| format!("{} ({})", it["name"].as_str().unwrap(), it["role"].as_str().unwrap())).collect();
        format!("{}: {}", kernel["uname"].as_str().unwrap(), names.join(", "))
    };
    kernels.map(line).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_set_and_a_lock_give_back_the_packages_and_their_roles() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    odd_headers("6.6.20-x-arm64").write(&at("from"));
    of_the_house().write(&at("from"));
    let from = format!("dir:{}", at("from").display());
    let (status, listed, stderr) = haversack(&["kernel", "list", &from, "--json"]);
    assert_eq!((status, &*stderr), (0, ""));
    let expected = ["6.6.20-x-arm64: linux-headers-6.6.20-x-arm64 (headers), linux-headers-of-the-house (common)"];
    assert_eq!(says(&listed), expected);
    std::fs::write(at("kernels.json"), &listed).unwrap();
    let version_1 = listed.replace("\"version\": 2,", "\"version\": 1,");
    assert_ne!(version_1, listed);
    std::fs::write(at("old.json"), &version_1).unwrap();

    for set in ["kernels.json", "old.json"] {
        let set = format!("set:{}", at(set).display());
        let (status, again, stderr) = haversack(&["kernel", "list", &set, "--json"]);
        assert_eq!((status, says(&again), &*stderr), (0, expected.map(str::to_owned).to_vec(), ""), "{set}");
        let to = at("trees");
        let (status, _, stderr) = haversack(&["kernel", "unpack", &set, "--to", path(&to), "--progress", "none"]);
        assert_eq!((status, &*stderr), (0, ""), "{set}");
        assert!(to.join("debian/6.6.20-x-arm64/usr/src/linux-headers-of-the-house/Makefile").is_file());
        std::fs::remove_dir_all(&to).unwrap();
    }

    let (set, to) = (format!("set:{}", at("kernels.json").display()), at("fetched"));
    let (status, _, _) = haversack(&["kernel", "fetch", &set, "--to", path(&to), "--progress", "none"]);
    assert_eq!(status, 0);
    let lock = format!("set:{}", to.join("fetch.lock").display());
    for source in [&[&*lock][..], &[&format!("dir:{}", to.display()), "--names-only"]] {
        let (status, again, stderr) = haversack(&[&["kernel", "list", "--json"], source].concat());
        assert_eq!((status, says(&again)), (0, expected.map(str::to_owned).to_vec()), "{source:?}: {stderr}");
    }
}

#[test]
fn what_headers_need_and_no_source_has_is_missing_and_the_status_is_3() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    odd_headers("6.6.20-x-arm64").write(&at("from"));
    let from = format!("dir:{}", at("from").display());
    let (status, listed, stderr) = haversack(&["kernel", "list", &from, "--json"]);
    assert_eq!(status, 3, "{stderr}");
    assert_eq!(stderr, "warning: debian 6.6.20-x-arm64: linux-headers-of-the-house (= 6.6.20-1) is not here\n");
    std::fs::write(at("kernels.json"), &listed).unwrap();
    let set = format!("set:{}", at("kernels.json").display());
    let (status, again, _) = haversack(&["kernel", "list", &set, "--json"]);
    assert_eq!((status, again), (3, listed));
    // What is missing may be in another source.
    of_the_house().write(&at("more"));
    let more = format!("dir:{}", at("more").display());
    let (status, whole, stderr) = haversack(&["kernel", "list", &set, &more, "--json"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(says(&whole)[0].ends_with("linux-headers-of-the-house (common)"));
    // Nobody asked for the kernel that lacks something.
    let (status, _, stderr) = haversack(&["kernel", "list", &from, "--release", "5.10", "--json"]);
    assert_eq!(
        (status, &*stderr),
        (
            1,
            "error: the one kernel found was not asked for: 6.6.20-x-arm64 (aarch64, x)\nhint: check `--release`; `haversack kernel list \
         SOURCE…` alone lists all kernels\n"
        )
    );
}

#[test]
fn what_belongs_to_no_kernel_is_listed_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    odd_headers("6.6.20-x-arm64").write(dir.path());
    of_the_house().write(dir.path());
    Deb::new("linux-kbuild-5.10", "5.10.1-1", "arm64").write(dir.path());
    Deb::new("linux-libc-dev", "6.6.20-1", "arm64").write(dir.path());
    // The same name with another content.
    of_the_house().file("./other", 0o644, b"").write(&dir.path().join("z"));
    let from = format!("dir:{}", dir.path().display());
    let (status, listed, _) = haversack(&["kernel", "list", &from, "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let unplaced = listed["unplaced"].as_array().unwrap().iter();
    let unplaced: Vec<(&str, &str)> =
        unplaced.map(|it| (it["name"].as_str().unwrap(), it["reason"].as_str().unwrap())).collect();
    let expected = vec![
        ("linux-headers-of-the-house", "conflict"),
        ("linux-kbuild-5.10", "unused"),
        ("linux-libc-dev", "not-for-building"),
    ];
    assert_eq!((status, unplaced), (3, expected));
    let (_, _, said) = haversack(&["kernel", "list", &from, "-v"]);
    assert!(said.contains("linux-kbuild-5.10_5.10.1-1_arm64.deb: left out: no kernel here needs it"), "{said}");
}

/// Photon's real-time kernel says its patch level in `uname -r` and not in its version. Its files tell.
fn photon_rt() -> (Rpm, Rpm) {
    let release = "5.10.25-rt34-9.ph4-rt";
    let source = format!("/usr/src/linux-headers-{release}");
    let utsrelease = format!("#define UTS_RELEASE \"{release}\"\n");
    let devel = Rpm::new("linux-rt-devel", "5.10.25", "9.ph4", "x86_64")
        .with(RpmFile::regular(&format!("{source}/Makefile"), b"all:\n"))
        .with(RpmFile::regular(&format!("{source}/include/generated/utsrelease.h"), utsrelease.as_bytes()))
        .with(RpmFile::symlink(&format!("/lib/modules/{release}/build"), &source));
    let image = Rpm::new("linux-rt", "5.10.25", "9.ph4", "x86_64")
        .with(RpmFile::regular(&format!("/boot/config-{release}"), b"CONFIG_RT=y\n"))
        .with(RpmFile::regular(&format!("/lib/modules/{release}/modules.order"), b""));
    (devel, image)
}

#[test]
fn a_kernel_is_called_what_its_files_call_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (devel, image) = photon_rt();
    std::fs::create_dir(at("from")).unwrap();
    for (name, rpm) in [("linux-rt-devel", devel), ("linux-rt", image)] {
        std::fs::write(at("from").join(format!("{name}-5.10.25-9.ph4.x86_64.rpm")), rpm.bytes()).unwrap();
    }
    let from = format!("dir:{}", at("from").display());
    let release = "5.10.25-rt34-9.ph4-rt";
    let (status, listed, stderr) = haversack(&["kernel", "list", &from, "--json"]);
    assert_eq!((status, &*stderr), (0, ""));
    assert_eq!(says(&listed), [format!("{release}: linux-rt-devel (devel), linux-rt (image)")]);
    // What one of them tells holds for the other.
    let silent = Rpm::new("linux-rt", "5.10.25", "9.ph4", "x86_64").with(RpmFile::regular("/usr/share/x", b""));
    let image = at("from").join("linux-rt-5.10.25-9.ph4.x86_64.rpm");
    let telling = std::fs::read(&image).unwrap();
    std::fs::write(&image, silent.bytes()).unwrap();
    let (_, listed, _) = haversack(&["kernel", "list", &from, "--json"]);
    assert_eq!(says(&listed), [format!("{release}: linux-rt-devel (devel), linux-rt (image)")]);
    std::fs::write(&image, telling).unwrap();
    // Names do not know it; unpacking does, and finds the configuration.
    let (_, named, _) = haversack(&["kernel", "list", &from, "--names-only", "--json"]);
    assert!(says(&named)[0].starts_with("5.10.25-9.ph4-rt: "), "{named}");
    let report = |to: &str, only: &[&str]| -> Value {
        let arguments = ["kernel", "unpack", &from, "--to", to, "--json", "--progress", "none"];
        let (status, report, stderr) = haversack(&[&arguments, only].concat());
        assert_eq!(status, 0, "{stderr}");
        serde_json::from_str(&report).unwrap()
    };
    for (to, only) in [("one", &[][..]), ("other", &["--names-only"])] {
        for status in ["unpacked", "unchanged"] {
            let report = report(path(&at(to)), only);
            let kernel = &report["kernels"][format!("photon/{release}")];
            assert_eq!(kernel["release"], release, "{report}");
            assert_eq!(kernel["config"]["file"], format!("boot/config-{release}"));
            // Of a name no digest is known, so that nothing can be told to be the same.
            assert_eq!(kernel["status"], if only.is_empty() { status } else { "unpacked" });
        }
        assert!(at(to).join(format!("photon/{release}/boot/config-{release}")).is_file());
    }
}

#[test]
fn headers_whose_makefile_includes_what_nobody_has_are_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    odd_headers("6.6.20-x-arm64").write(&at("from"));
    let (from, to) = (format!("dir:{}", at("from").display()), at("to"));
    // A name says nothing about what is needed.
    for status in ["unpacked", "unpacked"] {
        let arguments = ["kernel", "unpack", &from, "--names-only", "--to", path(&to), "--json", "--progress", "none"];
        let (code, report, stderr) = haversack(&arguments);
        let report: Value = serde_json::from_str(&report).unwrap();
        let kernel = &report["kernels"]["debian/6.6.20-x-arm64"];
        assert_eq!((code, kernel["status"].as_str()), (3, Some(status)), "{stderr}");
        assert_eq!(kernel["missing"][0], "usr/src/linux-headers-of-the-house/Makefile");
        assert!(stderr.contains("is in none of its packages, and modules cannot be built"), "{stderr}");
    }
}
