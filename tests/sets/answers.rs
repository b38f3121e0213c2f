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

/// One rule: nothing found is an error, whichever command looked for it, and says what there is instead.
#[test]
fn nothing_found_is_an_error_whichever_command_looked_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let (packages, to) = (format!("dir:{}", fetched(dir.path())), text(&dir.path().join("to")));
    fs::create_dir(dir.path().join("empty")).unwrap();
    let empty = format!("dir:{}", text(&dir.path().join("empty")));
    common_deb().write(&dir.path().join("part"));
    let part = format!("dir:{}", text(&dir.path().join("part")));
    for release in ["6.1.0-2-amd64", "6.1.0-2-rt-amd64"] {
        headers_deb(release).write(&dir.path().join("three"));
    }
    headers_deb("6.1.0-1-amd64").write(&dir.path().join("three"));
    let three = format!("dir:{}", text(&dir.path().join("three")));
    let hint =
        |options: &str| format!("hint: check {options}; `haversack kernel list SOURCE…` alone lists all kernels\n");
    let one = "the one kernel found was not asked for: 6.1.0-1-amd64 (x86_64, default)";
    let newest = "none of the 3 kernels found was asked for; they are 6.1.0-2-rt-amd64 (x86_64, rt), 6.1.0-2-amd64 (x86_64, default), \
                  6.1.0-1-amd64 (x86_64, default)";
    for (source, more, said, options) in [
        (&empty, &[][..], "no package was found", ""),
        (&part, &[], &*format!("no kernel is in the 1 package found: {COMMON} (no kernel here needs it)"), ""),
        (&packages, &["--release", "5.10"], one, "`--release`"),
        (&packages, &["--since", "6.2"], one, "`--since`"),
        (&packages, &["--flavour", "rt", "--arch", "aarch64"], one, "`--arch` and `--flavour`"),
        (&packages, &["--latest", "0"], one, "`--latest`"),
        (&three, &["--release", "5.10"], newest, "`--release`"),
    ] {
        for command in [
            &["list"][..],
            &["fetch", "--to", &to, "--dry-run"],
            &["fetch", "--to", &to, "--progress", "none"],
            &["unpack", "--to", &to],
        ] {
            let arguments = [&["kernel"], command, &[source], more].concat();
            let (status, stdout, stderr) = haversack(&arguments);
            let hint = if options.is_empty() { String::new() } else { hint(options) };
            let error = format!("error: {said}\n{hint}");
            assert!(stderr.ends_with(&error), "{arguments:?}: {stderr}");
            assert_eq!((status, &*stdout, stderr.matches("error: ").count()), (1, "", 1), "{arguments:?}");
        }
    }
    // Of one distribution a matrix has the kernels without a flavour for PCs, where nothing else is said.
    let none = (1, String::new(), format!("error: {one}\n{}", hint("`--release`, `--arch` and `--flavour`")));
    assert_eq!(haversack(&["kernel", "matrix", &packages, "--release", "5.10"]), none);
    let (status, stdout, _) = haversack(&["kernel", "list", &packages, "--release", "5.10", "--json"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &report["error"], &report["status"]), (1, &json!(one), &json!(1)));
    let none = dir.path().join("none");
    fs::write(&none, "# no release\n").unwrap();
    let said = "error: no kernel was found: the channels and lists name no release\n";
    assert_eq!(haversack(&["kernel", "matrix", "--versions", &text(&none)]), (1, String::new(), said.to_owned()));
}

#[test]
fn what_is_no_version_is_refused_as_a_bound_with_what_one_looks_like() {
    let said = |word: &str| {
        format!(
            "error: invalid value '{word}' for '--since <VERSION>': expected a version, such as 6.1, or the beginning of what `uname -r` \
             prints, such as 5.14.0-427\n\nFor more information, try '--help'.\n"
        )
    };
    for command in [&["list"][..], &["fetch", "--to", "x"], &["unpack", "--to", "x"], &["matrix"]] {
        for word in ["foo", "2024-01-01", "v6.1"] {
            let arguments = [&["kernel"], command, &["dir:x", "--since", word]].concat();
            assert_eq!(haversack(&arguments), (2, String::new(), said(word)), "{arguments:?}");
        }
    }
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
        "dry_run": true, "bytes": size, "unchanged": [COMMON], "unchecked": [],
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
        "warning: {}: changed since it was fetched: the digest is {after}, and fetch.lock beside it says {before}; fetch the package \
         again\n",
        text(&common)
    );
    let refused = format!(
        "warning: debian/6.1.0-1-amd64: {COMMON}: damaged: the digest of the file is {after}, not {before}; fetch it again\n"
    );
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
