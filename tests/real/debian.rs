//! Debian's own mirror, as apt on this machine knows it: the flavours rt and cloud, and another machine's kernels.
//!
//! Of each flavour and series the newest release is taken, so that what is fetched stays below 100 MB a machine. Flavours are
//! those of the mirror of today; that each of them is there is part of the test.

use std::collections::BTreeSet;

use super::repositories::{build_module, is_what_dpkg_deb_makes, json, said};
use super::*;

/// The sources of Debian's packages that apt is set up with: `apt:URL SUITE COMPONENT`.
fn sources() -> Vec<String> {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
    let targets = said(
        &format!("apt-get indextargets --format '{format}' 'Created-By: Packages' 'Origin: Debian'"),
        Path::new("/"),
    );
    let sources: BTreeSet<String> = targets.lines().map(|line| format!("apt:{line}")).collect();
    sources.into_iter().collect()
}

/// Lists, fetches and unpacks the newest headers of each series for a machine, of these flavours, and compares them with what
/// dpkg-deb makes of the same packages. Returns the flavour and release of each; they stay below `to/debian`.
fn newest(machine: &str, flavours: &[&str], directory: &Path, to: &Path) -> Vec<(String, String)> {
    let sources = sources();
    assert!(!sources.is_empty(), "apt has no sources of Debian's packages");
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let mut from: Vec<&str> = sources.iter().map(String::as_str).collect();
    from.extend(["--arch", machine, "--keyring", keyring]);
    from.extend(flavours.iter().flat_map(|flavour| ["--flavour", flavour]));
    let (status, list, stderr) = json(&[&["kernel", "list"][..], &from].concat());
    assert_eq!((status, &*stderr), (0, ""), "{machine}");
    let series = |release: &str| release.split('.').take(2).collect::<Vec<_>>().join(".");
    // From the oldest to the newest: the last of each stays.
    let mut newest: BTreeMap<(String, String), String> = BTreeMap::new();
    for kernel in list["kernels"].as_array().unwrap() {
        let has_headers = kernel["packages"].as_array().unwrap().iter().any(|package| package["role"] == "headers");
        let (flavour, release) = (kernel["flavour"].as_str().unwrap(), kernel["uname"].as_str().unwrap());
        if has_headers {
            newest.insert((flavour.to_owned(), series(release)), release.to_owned());
        }
    }
    let found: BTreeSet<&str> = newest.keys().map(|(flavour, _)| &**flavour).collect();
    assert_eq!(found, flavours.iter().copied().collect(), "{machine}");
    from.extend(newest.values().flat_map(|release| ["--release", release]));
    let fetched = directory.join(format!("fetched-{machine}"));
    let fetch = ["kernel", "fetch", "--role", "build", "-q", "--to", fetched.to_str().unwrap()];
    let (status, report, stderr) = json(&[&fetch[..], &from].concat());
    assert_eq!((status, &*stderr, &report["unverified"]), (0, "", &serde_json::json!([])), "{machine}");
    let (status, map, stderr) = unpack(&fetched, to);
    assert_eq!((status, &*stderr), (0, ""), "{machine}");
    let unpacked = map["kernels"].as_object().unwrap();
    assert_eq!(unpacked.len(), newest.len(), "{machine}: {:?}", unpacked.keys());
    for release in newest.values() {
        let kernel = &unpacked[&format!("debian/{release}")];
        assert_eq!((kernel["machine"].as_str(), kernel.get("missing")), (Some(machine), None), "{release}");
        let roles: Vec<&str> =
            kernel["packages"].as_array().unwrap().iter().map(|package| package["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["headers", "common", "kbuild"], "{release}");
        let theirs = directory.join("theirs");
        for package in kernel["packages"].as_array().unwrap() {
            shell(&format!("dpkg-deb -x {} {}", package["file"].as_str().unwrap(), theirs.display()), &fetched);
        }
        is_what_dpkg_deb_makes(&to.join("debian").join(release), &theirs, release);
        fs::remove_dir_all(&theirs).unwrap();
    }
    newest.into_iter().map(|((flavour, _), release)| (flavour, release)).collect()
}

#[test]
#[ignore = "needs debian-mirror, dpkg-deb, make, gcc-12 and pahole; fetches 60 MB of Debian's kernel headers"]
fn real_time_and_cloud_kernels_of_debians_mirror_are_whole_and_modules_are_built_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    for (flavour, release) in newest("x86_64", &["rt", "cloud"], dir.path(), &to) {
        let build = to.join("debian").join(&release).join("lib/modules").join(&release).join("build");
        build_module(&build, &release, &dir.path().join(format!("module-{flavour}-{release}")));
    }
}

/// Its programs are for another machine, so that nothing is built here.
#[test]
#[ignore = "needs debian-mirror and dpkg-deb; fetches 90 MB of Debian's kernel headers"]
fn kernels_for_arm64_of_debians_mirror_are_what_dpkg_deb_makes_of_them() {
    let dir = tempfile::tempdir().unwrap();
    newest("aarch64", &["default", "rt", "cloud"], dir.path(), &dir.path().join("to"));
}
