//! Kernel sets from the outside: what was listed or fetched once is fetched and unpacked again as it was.

use std::path::Path;

use serde_json::Value;

use crate::haversack;
use crate::packages::Deb;

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
    assert_eq!(status, 0, "{stderr}");
}

#[test]
fn what_belongs_to_no_kernel_is_listed_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    odd_headers("6.6.20-x-arm64").write(dir.path());
    of_the_house().write(dir.path());
    Deb::new("linux-kbuild-5.10", "5.10.1-1", "arm64").write(dir.path());
    Deb::new("linux-libc-dev", "6.6.20-1", "arm64").write(dir.path());
    let from = format!("dir:{}", dir.path().display());
    let (status, listed, _) = haversack(&["kernel", "list", &from, "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let unplaced = listed["unplaced"].as_array().unwrap().iter();
    let unplaced: Vec<(&str, &str)> =
        unplaced.map(|it| (it["name"].as_str().unwrap(), it["reason"].as_str().unwrap())).collect();
    assert_eq!((status, unplaced), (0, vec![("linux-kbuild-5.10", "unused"), ("linux-libc-dev", "not-for-building")]));
    let (_, _, said) = haversack(&["kernel", "list", &from, "-v"]);
    assert!(said.contains("linux-kbuild-5.10_5.10.1-1_arm64.deb: left out: no kernel here needs it"), "{said}");
}
