//! Packages fetched into a directory, from a server that breaks off, comes to a halt, changes its files or has none.

use packages::{Deb, Rpm, RpmFile};
use serde_json::json;

use super::*;

/// A list of one kernel with the given packages, as `kernel list --json` writes it.
pub(crate) fn set(directory: &Path, server: &Server, packages: &[(&str, &[u8], bool)]) -> String {
    let packages: Vec<serde_json::Value> = packages
        .iter()
        .map(|(role, content, has_digest)| {
            let file = format!("kernel-{role}-5.14.0-1.el9.x86_64.rpm");
            let mut package = json!({
                "role": role, "name": format!("kernel-{role}"), "version": "5.14.0-1.el9", "architecture": "x86_64",
                "format": "rpm", "location": format!("{}/{file}", server.url),
            });
            if *has_digest {
                package["sha256"] = Digest::sha256(content).as_str().into();
                package["size"] = content.len().into();
            }
            package
        })
        .collect();
    let set = json!({
        "format": "haversack.kernels", "version": 1,
        "kernels": [{
            "distribution": "el", "uname": "5.14.0-1.el9.x86_64", "machine": "x86_64", "flavour": "default",
            "build": "5.14.0-1.el9", "packages": packages,
        }],
    });
    fs::write(directory.join("set.json"), set.to_string()).unwrap();
    format!("set:{}", directory.join("set.json").display())
}

#[test]
fn fetching_resumes_checks_skips_replaces_and_locks() {
    let dir = tempfile::tempdir().unwrap();
    let (served, to) = (dir.path().join("served"), dir.path().join("to"));
    fs::create_dir(&served).unwrap();
    let (core, devel): (Vec<u8>, Vec<u8>) = ((0..200_000_u32).flat_map(u32::to_be_bytes).collect(), rpm(b"devel"));
    let file = |role: &str| format!("kernel-{role}-5.14.0-1.el9.x86_64.rpm");
    fs::write(served.join(file("core")), &core).unwrap();
    fs::write(served.join(file("devel")), &devel).unwrap();
    let server = Server::start(&served);
    let source = set(dir.path(), &server, &[("core", &core, true), ("devel", &devel, false)]);
    let fetch = |source: &str| {
        let arguments =
            ["kernel", "fetch", source, "--to", to.to_str().unwrap(), "--json", "--retries", "2", "--retry-delay", "0"];
        let (status, stdout, stderr) = haversack(&arguments);
        (status, serde_json::from_str::<serde_json::Value>(&stdout).unwrap(), stderr)
    };
    // The server breaks off in the middle of the larger one, twice.
    server.break_off(file("core"), 300_000, 2);
    let (status, report, stderr) = fetch(&source);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(
        report,
        json!({
            "fetched": [file("core"), file("devel")], "unchanged": [], "unchecked": [], "replaced": [], "unverified": [file("devel")],
            "weak": [], "elsewhere": {}, "failed": {}, "bytes": core.len() + devel.len(),
        })
    );
    assert_eq!(fs::read(to.join(file("core"))).unwrap(), core);
    let ranges: Vec<String> = server.ranges();
    assert_eq!(ranges, ["bytes=300000-", "bytes=600000-"]);

    // What a killed run left is continued; what is wrong in it is found by the digest and fetched anew.
    for (left, sent) in [(&core[..700_000], 100_000), (&b"something else"[..], core.len())] {
        fs::remove_file(to.join(file("core"))).unwrap();
        fs::write(to.join(format!(".{}.part", file("core"))), left).unwrap();
        let (status, report, stderr) = fetch(&source);
        assert_eq!((status, &report["fetched"]), (0, &json!([file("core")])), "{stderr}");
        assert!(report["bytes"].as_u64().unwrap() >= sent as u64);
        assert_eq!(fs::read(to.join(file("core"))).unwrap(), core);
    }

    // The lock has the digest that no source stated: what changes is then refused.
    let lock = format!("set:{}", to.join("fetch.lock").display());
    fs::copy(to.join("fetch.lock"), dir.path().join("fetch.lock")).unwrap();
    assert_eq!(fetch(&lock).1["unchanged"], json!([file("core"), file("devel")]));
    fs::write(to.join(file("devel")), b"spoilt").unwrap();
    let (status, report, stderr) = fetch(&lock);
    assert_eq!((status, &report["replaced"]), (0, &json!([file("devel")])), "{stderr}");
    fs::write(served.join(file("devel")), rpm(b"evil!")).unwrap();
    fs::remove_file(to.join(file("devel"))).unwrap();
    let (status, report, stderr) = fetch(&lock);
    assert_eq!((status, &report["unchanged"]), (3, &json!([file("core")])));
    assert!(stderr.contains("the digest is"), "{stderr}");
    assert!(!to.join(file("devel")).exists());
    let left: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_longer_file_than_was_stated_is_not_taken_and_a_missing_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (served, to) = (dir.path().join("served"), dir.path().join("to"));
    fs::create_dir(&served).unwrap();
    fs::write(served.join("kernel-core-5.14.0-1.el9.x86_64.rpm"), vec![7; 1 << 20]).unwrap();
    let server = Server::start(&served);
    let source = set(dir.path(), &server, &[("core", b"short", true), ("devel", b"missing", true)]);
    let (status, _, stderr) = haversack(&["kernel", "fetch", &source, "--to", to.to_str().unwrap(), "--retries", "0"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("the answer is larger than 5 bytes") && stderr.contains("404 Not Found"), "{stderr}");
    let left: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("kernel")), "{left:?}");
}

/// A run that is killed in the middle of a transfer, and another one.
#[test]
fn fetching_goes_on_where_a_killed_run_was() {
    let dir = tempfile::tempdir().unwrap();
    let (served, to) = (dir.path().join("served"), dir.path().join("to"));
    fs::create_dir(&served).unwrap();
    let core: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
    let file = "kernel-core-5.14.0-1.el9.x86_64.rpm";
    fs::write(served.join(file), &core).unwrap();
    fs::write(served.join("kernel-devel-5.14.0-1.el9.x86_64.rpm"), b"devel").unwrap();
    let server = Server::start(&served);
    server.stall(Some((file.to_owned(), 500_000)));
    let source = set(dir.path(), &server, &[("core", &core, true), ("devel", b"devel", true)]);
    let arguments = ["kernel", "fetch", &source, "--to", to.to_str().unwrap(), "--json"];
    let mut run = Command::new(assert_cmd::cargo::cargo_bin("haversack"))
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let part = to.join(format!(".{file}.part"));
    while fs::metadata(&part).map_or(0, |metadata| metadata.len()) < 500_000
        || !to.join("kernel-devel-5.14.0-1.el9.x86_64.rpm").exists()
    {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(!to.join(file).exists() && !to.join("fetch.lock").exists());
    server.stall(None);
    let (status, stdout, stderr) = haversack(&arguments);
    assert_eq!(status, 0, "{stderr}");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((report["fetched"].as_array().unwrap().len(), report["bytes"].as_u64()), (1, Some(300_000)), "{report}");
    assert_eq!(server.ranges(), ["bytes=500000-"]);
    assert!(fs::read(to.join(file)).unwrap() == core);
    let left: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn what_a_build_server_logs_is_dated_and_marks_replace_it_when_it_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let served = dir.path().join("served");
    fs::create_dir(&served).unwrap();
    let file = "kernel-core-5.14.0-1.el9.x86_64.rpm";
    fs::write(served.join(file), b"core").unwrap();
    let server = Server::start(&served);
    let source = set(dir.path(), &server, &[("core", b"core", true)]);
    let said = |to: &str, more: &[&str]| {
        let to = dir.path().join(to);
        haversack(&[&["kernel", "fetch", &source, "--to", to.to_str().unwrap()][..], more].concat()).2
    };
    let log = said("a", &[]);
    let lines: Vec<&str> = log.lines().map(|line| line.split_once("] ").unwrap().1).collect();
    let expected = [
        format!("INFO - Downloading {file}"),
        format!("INFO - Successfully downloaded {file}"),
        "INFO - All done".into(),
    ];
    assert_eq!(lines, expected);
    let time = log.split([' ', '[', ']']).nth(2).unwrap();
    assert_eq!(time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>(), "00:00:00,000");
    let again = said("a", &[]);
    assert!(again.contains("exists and checksums match, so it will not be downloaded."), "{again}");
    assert_eq!(said("b", &["-q", "-i"]), "v\n");
    assert_eq!(said("d", &["-i"]), "v\n");
    // What goes wrong between marks has a line of its own.
    server.fail(file, 503, 1);
    let retried =
        format!("v\nwarning: {}/{file}: 503 Service Unavailable; trying again in 0.0 s (1 of 5)\n", server.url);
    assert_eq!(said("e", &["-i", "--retry-delay", "0"]), retried);
    assert_eq!(said("c", &["--progress", "none"]), "");
}

/// A whole rpm with one file of this content.
fn rpm(content: &[u8]) -> Vec<u8> {
    Rpm::new("kernel-devel", "5.14.0", "1.el9", "x86_64").with(RpmFile::regular("/usr/src/x", content)).bytes()
}

/// Without a digest, what breaks off is continued only in the state in which it began, and only where the server can say so.
#[test]
fn a_file_that_changes_while_it_is_fetched_is_never_a_mixture() {
    use server::Validators::{Dates, Fresh, Nothing, Tags, TagsIgnored, Weak};
    let (old, new) = (rpm(&[b'a'; 400_000]), rpm(&[b'b'; 400_000]));
    let file = "kernel-devel-5.14.0-1.el9.x86_64.rpm";
    // What the server says, whether the file changes, whether the digest is stated: which ranges are asked for, how many answers.
    for (validators, changes, is_stated, ranges, answers) in [
        (Tags, false, false, 1, 2),
        (Tags, true, false, 1, 2),
        // It sends the rest of the new file, of which the tag tells.
        (TagsIgnored, true, false, 1, 3),
        (Dates, false, false, 1, 2),
        (Dates, true, false, 1, 2),
        (Weak, false, false, 0, 2),
        // A file that changes twice in a second has one date.
        (Fresh, true, false, 0, 2),
        (Nothing, true, false, 0, 2),
        (Nothing, false, true, 1, 2),
        (Tags, true, true, 1, 2),
        // Only the digest tells, at the end.
        (Nothing, true, true, 1, 3),
    ] {
        let what = format!("{validators:?} changes={changes} stated={is_stated}");
        let dir = tempfile::tempdir().unwrap();
        let (served, to) = (dir.path().join("served"), dir.path().join("to"));
        fs::create_dir(&served).unwrap();
        fs::write(served.join(file), &old).unwrap();
        let server = Server::start(&served);
        server.say(validators);
        server.break_off(file.to_owned(), 300_000, 1);
        if changes {
            server.change_when_broken_off(file, &new);
        }
        let expected = if changes { &new } else { &old };
        let source = set(dir.path(), &server, &[("devel", expected, is_stated)]);
        let (status, _, stderr) = haversack(&[
            "kernel",
            "fetch",
            &source,
            "--to",
            to.to_str().unwrap(),
            "--retries",
            "2",
            "--retry-delay",
            "0",
        ]);
        assert_eq!(status, 0, "{what}: {stderr}");
        assert!(fs::read(to.join(file)).unwrap() == *expected, "{what}");
        assert_eq!((server.ranges().len(), server.requests().len()), (ranges, answers), "{what}");
        let is_conditional = !matches!(validators, Fresh | Weak | Nothing);
        let conditions = server.conditions();
        assert_eq!(
            conditions.iter().filter(|it| !it.is_empty()).count(),
            usize::from(is_conditional),
            "{conditions:?}"
        );
    }
}

/// Without a digest: a short answer that has no length, one that is no package, and one of another size than is stated.
#[test]
fn what_is_not_a_whole_package_gets_no_name() {
    let dir = tempfile::tempdir().unwrap();
    let (served, to) = (dir.path().join("served"), dir.path().join("to"));
    fs::create_dir(&served).unwrap();
    let deb = Deb::new("linux-headers-6.1.0-1-amd64", "6.1.4-1", "amd64").file("./usr/src/x", 0o644, &[b'x'; 100_000]);
    let whole = [
        ("kernel-devel-5.14.0-1.el9.x86_64.rpm", rpm(&[b'x'; 100_000])),
        ("linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb", deb.bytes()),
    ];
    let server = Server::start(&served);
    let mut list = Vec::new();
    for (file, bytes) in &whole {
        fs::write(served.join(file), bytes).unwrap();
        list.push(format!("{}/{file}", server.url));
    }
    // A list that states nothing but places.
    let crawled = json!({ "any": [{ "kernelversion": "1", "kernelrelease": "x", "target": "x", "headers": list }] });
    fs::write(dir.path().join("list.json"), crawled.to_string()).unwrap();
    let source = format!("crawler:{}", dir.path().join("list.json").display());
    let fetch = || {
        let arguments = ["kernel", "fetch", &source, "--to", to.to_str().unwrap(), "--json", "--retries", "0"];
        let (status, stdout, stderr) = haversack(&arguments);
        (status, serde_json::from_str::<serde_json::Value>(&stdout).unwrap(), stderr)
    };
    for (file, bytes) in &whole {
        let _ = fs::remove_dir_all(&to);
        // Every place to break off at: in the lead or the first member, in a header, in the payload, before its last bytes (a deb may lack its padding).
        for cut in [0, 7, 70, 200, bytes.len() / 2, bytes.len() - 2] {
            server.shorten(file, Some(cut));
            let (status, report, stderr) = fetch();
            assert_eq!((status, report["failed"].as_object().unwrap().len()), (3, 1), "{file} {cut}: {stderr}");
            let why = report["failed"][*file].as_str().unwrap();
            assert!(why.contains("what came is not a whole package"), "{why}");
            assert!(!to.join(file).exists() && !to.join(format!(".{file}.part")).exists(), "{file} {cut}");
        }
        server.shorten(file, None);
        let page = "<html>Please log in</html>\n".repeat(9);
        fs::write(served.join(file), page).unwrap();
        let (status, report, _) = fetch();
        assert!(status == 3 && report["failed"][*file].as_str().unwrap().contains("does not begin like"), "{report}");
        // One that lies there like that is not believed either.
        fs::write(to.join(file), &bytes[..bytes.len() - 2]).unwrap();
        fs::write(served.join(file), bytes).unwrap();
        let (status, report, stderr) = fetch();
        assert_eq!((status, &report["replaced"]), (0, &json!([file])), "{stderr}");
        assert!(stderr.contains("no source states its digest; it is whole, and was not verified"), "{stderr}");
        assert_eq!(fs::read(to.join(file)).unwrap(), *bytes);
    }
    let (status, report, stderr) = fetch();
    assert_eq!((status, report["unchanged"].as_array().unwrap().len()), (0, 2), "{stderr}");
    assert!(!stderr.contains("checksums match"), "{stderr}");
    // The size is all that is stated.
    let mut kernels = haversack::kernel::set::KernelSet::parse(&fs::read(to.join("fetch.lock")).unwrap()).unwrap();
    for package in kernels.kernels.iter_mut().flat_map(|kernel| &mut kernel.packages) {
        (package.sha256, package.size) = (None, package.size.map(|size| size + 1));
    }
    fs::write(dir.path().join("sizes.json"), serde_json::to_vec(&kernels).unwrap()).unwrap();
    let sizes = format!("set:{}", dir.path().join("sizes.json").display());
    fs::remove_dir_all(&to).unwrap();
    let (status, _, stderr) = haversack(&["kernel", "fetch", &sizes, "--to", to.to_str().unwrap(), "--retries", "0"]);
    assert!(status == 1 && stderr.matches("bytes came, where").count() == 2, "{stderr}");
}
