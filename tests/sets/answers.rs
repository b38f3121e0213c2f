//! What `haversack kernel` says and ends with when there is nothing, when a part is there already, and when something was changed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::{common_deb, haversack, headers_deb};

const HEADERS: &str = "linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb";
const COMMON: &str = "linux-headers-6.1.0-1-common_6.1.4-1_all.deb";

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A directory with a kernel's packages, fetched from another one.
fn fetched(dir: &Path) -> String {
    let (from, to) = (dir.join("from"), dir.join("packages"));
    headers_deb("6.1.0-1-amd64").write(&from);
    common_deb().write(&from);
    let (status, _, stderr) = haversack(&["kernel", "fetch", &format!("dir:{}", text(&from)), "--to", &text(&to)]);
    assert_eq!(status, 0, "{stderr}");
    text(&to)
}

/// One rule: nothing found is a no, whichever command looked for it.
#[test]
fn nothing_found_is_status_1_whichever_command_looked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (packages, to) = (format!("dir:{}", fetched(dir.path())), text(&dir.path().join("to")));
    fs::create_dir(dir.path().join("empty")).unwrap();
    let empty = format!("dir:{}", text(&dir.path().join("empty")));
    common_deb().write(&dir.path().join("part"));
    let part = format!("dir:{}", text(&dir.path().join("part")));
    let (kernels, matrix) =
        ("DISTRIBUTION  RELEASE  MACHINE  FLAVOUR  PACKAGES\n", "KERNEL  RHEL  MACHINES  RT  RELEASES\n");
    for (command, stdout) in [
        (&["list"][..], kernels),
        (&["fetch", "--to", &to, "--dry-run"], "0 packages would be fetched: 0 B\n"),
        (&["fetch", "--to", &to, "--progress", "none"], "0 fetched (0 B), 0 unchanged, 0 failed\n"),
        (&["unpack", "--to", &to], "KERNEL  STATUS  COMPILER  CONFIG (MD5)  DIRECTORY\n"),
        (&["matrix"], matrix),
    ] {
        for (source, release, said) in [
            (&empty, None, "no package was found"),
            (&part, None, "no kernel is in the 1 package found"),
            (&packages, Some("5.10"), "the one kernel found is not one that was asked for"),
        ] {
            let release: Vec<&str> = release.iter().flat_map(|it| ["--release", it]).collect();
            let arguments = [&["kernel"], command, &[source], &release].concat();
            let expected = (1, stdout.to_owned(), format!("warning: {said}\n"));
            assert_eq!(haversack(&arguments), expected, "{arguments:?}");
        }
    }
    let none = dir.path().join("none");
    fs::write(&none, "# no release\n").unwrap();
    let said = "warning: no kernel was found: the channels and lists name no release\n";
    assert_eq!(haversack(&["kernel", "matrix", "--versions", &text(&none)]), (1, matrix.to_owned(), said.to_owned()));
}

#[test]
fn a_dry_run_says_what_is_there_already_and_what_would_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let to = fetched(dir.path());
    let source = format!("dir:{}", text(&dir.path().join("from")));
    let run = |more: &[&str]| {
        haversack(&[&["kernel", "fetch", &source, "--to", &to, "--dry-run", "--progress", "none"], more].concat())
    };
    let all = "0 packages would be fetched: 0 B; 2 are there\n";
    assert_eq!(run(&[]), (0, all.to_owned(), String::new()));
    fs::write(Path::new(&to).join(HEADERS), "other").unwrap();
    let (status, stdout, stderr) = run(&["--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let size = fs::metadata(dir.path().join("from").join(HEADERS)).unwrap().len();
    let location = text(&dir.path().join("from").join(HEADERS));
    let expected = json!({
        "dry_run": true, "bytes": size, "unchanged": [COMMON],
        "packages": [{ "file": HEADERS, "size": size, "location": location, "replaces": true }],
    });
    assert_eq!((status, report, &*stderr), (0, expected, ""));
    let (_, stdout, _) = run(&[]);
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].ends_with(&format!("  {HEADERS}  (replaces one with other content)")), "{stdout}");
    assert!(lines[1].starts_with("1 package would be fetched: ") && lines[1].ends_with("; 1 is there"), "{stdout}");
}

#[test]
fn packages_beside_a_lock_are_unpacked_and_what_is_elsewhere_is_refused_before_it_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let packages = fetched(dir.path());
    let lock = Path::new(&packages).join("fetch.lock");
    // As fetched from a repository that is out of reach now.
    let set = fs::read_to_string(&lock).unwrap();
    let set = set.replace(&text(&dir.path().join("from")), "http://127.0.0.1:9/pool");
    assert_eq!(set.matches("http://127.0.0.1:9/pool").count(), 2, "{set}");
    fs::write(&lock, set).unwrap();
    let to = text(&dir.path().join("to"));
    let (status, _, stderr) = haversack(&["kernel", "unpack", &format!("set:{}", text(&lock)), "--to", &to]);
    assert_eq!((status, &*stderr), (0, ""));
    // One that is gone meanwhile is its kernel's matter, as in `dir:`; the command line is right.
    fs::remove_file(Path::new(&packages).join(COMMON)).unwrap();
    let other = text(&dir.path().join("other"));
    let (status, report, stderr) =
        haversack(&["kernel", "unpack", &format!("set:{}", text(&lock)), "--to", &other, "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let kernel = &report["kernels"]["debian/6.1.0-1-amd64"];
    let why = format!("{COMMON}: http://127.0.0.1:9/pool/{COMMON} is not here; `haversack kernel fetch` brings it");
    assert_eq!((status, &kernel["status"], &kernel["error"]), (1, &json!("failed"), &json!(why)), "{stderr}");
    fs::remove_file(Path::new(&packages).join(HEADERS)).unwrap();
    let (status, _, stderr) = haversack(&["kernel", "unpack", &format!("set:{}", text(&lock)), "--to", &other]);
    assert!(
        status == 2
            && stderr.ends_with(
                "dir:DIR
"
            )
            && stderr.contains(
                " is not here
"
            ),
        "{stderr}"
    );
    let hint = "hint: fetch the packages first: haversack kernel fetch SOURCE… --to DIR, then unpack dir:DIR\n";
    for (source, place) in [
        ("rpm:http://127.0.0.1:9/os", "http://127.0.0.1:9/os"),
        ("apt:http://127.0.0.1:9/debian stable main", "http://127.0.0.1:9/debian"),
        ("redhat:content-set", "redhat:content-set"),
        ("crawler:list.json", "what list.json lists"),
    ] {
        let said = format!("error: {place} is not here\n{hint}");
        assert_eq!(haversack(&["kernel", "unpack", source, "--to", &to]), (2, String::new(), said), "{source}");
    }
    let (_, help, _) = haversack(&["kernel", "unpack", "--help"]);
    for other in ["rpm:", "apt:", "redhat:", "--distro", "--mirror", "--token-file", "--interactive"] {
        assert!(!help.contains(other), "{other}: {help}");
    }
}

#[test]
fn a_package_that_was_changed_since_it_was_fetched_is_refused_and_its_kernel_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let packages = fetched(dir.path());
    let (source, to) = (format!("dir:{packages}"), text(&dir.path().join("to")));
    let common = Path::new(&packages).join(COMMON);
    let digest = || haversack::digest::Digest::sha256(fs::read(&common).unwrap());
    let before = digest();
    crate::packages::Deb::new("linux-headers-6.1.0-1-common", "6.1.4-1", "all")
        .file("./usr/src/linux-headers-6.1.0-1-common/Makefile", 0o644, b"all: other\n")
        .write(Path::new(&packages));
    let after = digest();
    let changed = format!(
        "warning: {}: changed since it was fetched: the digest is {after}, and fetch.lock beside it says {before}\n",
        text(&common)
    );
    let refused =
        format!("warning: debian/6.1.0-1-amd64: {COMMON}: damaged: the digest of the file is {after}, not {before}\n");
    let (status, stdout, stderr) = haversack(&["kernel", "unpack", &source, "--to", &to, "--progress", "none"]);
    assert_eq!((status, stderr), (1, format!("{changed}{refused}")));
    assert_eq!(stdout.lines().nth(1).unwrap().split_whitespace().nth(1), Some("failed"), "{stdout}");
    // It is listed as a package of its kernel, with the digest that it should have.
    let (status, stdout, stderr) = haversack(&["kernel", "list", &source, "--json", "--progress", "none"]);
    assert_eq!((status, stderr), (3, changed));
    assert!(stdout.contains(before.as_str()) && !stdout.contains(after.as_str()), "{stdout}");
}

/// Other programs write digests in capitals, and a list that contradicts itself is not believed.
#[test]
fn digests_in_capitals_are_the_same_and_a_wrong_size_is_wrong_whatever_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let packages = fetched(dir.path());
    let lock = fs::read_to_string(Path::new(&packages).join("fetch.lock")).unwrap();
    let mut set: Value = serde_json::from_str(&lock).unwrap();
    let to = text(&dir.path().join("to"));
    let path = Path::new(&packages).join("set.json");
    let source = format!("set:{}", text(&path));
    let run = |set: &Value| {
        fs::write(&path, set.to_string()).unwrap();
        haversack(&["kernel", "fetch", &source, "--to", &to, "--allow-local", "--progress", "none"])
    };
    let sha256 = &mut set["kernels"][0]["packages"][0]["sha256"];
    *sha256 = sha256.as_str().unwrap().to_uppercase().replace("SHA256:", "sha256:").into();
    let (status, _, stderr) = run(&set);
    assert_eq!((status, &*stderr), (0, ""));
    let locked = fs::read_to_string(Path::new(&to).join("fetch.lock")).unwrap();
    assert_eq!(locked.matches("\"sha256\": \"sha256:").count(), 2, "{locked}");
    // Larger than stated, and what lies there is so, too.
    let size = set["kernels"][0]["packages"][0]["size"].as_u64().unwrap();
    set["kernels"][0]["packages"][0]["size"] = (size - 1).into();
    let file = set["kernels"][0]["packages"][0]["location"].as_str().unwrap().to_owned();
    let name = file.rsplit('/').next().unwrap();
    let (status, stdout, stderr) = run(&set);
    assert_eq!(status, 3, "{stdout}");
    assert_eq!(stderr, format!("warning: {name}: {file}: {size} bytes are there, where {} were stated\n", size - 1));
}
