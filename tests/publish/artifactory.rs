//! `publish artifactory`: what is uploaded, passed over, left and replaced, and with which credentials.

use axum::http::Method;
use haversack::digest::Digest;
use serde_json::{Value, json};

use crate::artifactory_server::{Server, packages, paths};
use crate::{Run, haversack};

#[test]
fn the_first_run_uploads_the_second_nothing_and_a_changed_file_is_reported() {
    let (server, dir) = (Server::start(), packages());
    let run = server.run(&dir, &["-q", "-i", "--property", "origin=rhsm", "--property", "a b=c;d"]);
    let document = run.done();
    assert_eq!(paths(&document, "uploaded"), ["a.rpm", "b.rpm", "el 9/c+1.rpm"]);
    assert_eq!((&document["sent_bytes"], run.stderr.as_str()), (&json!(11), "^^^\n"));
    assert_eq!(server.files(), ["a.rpm", "b.rpm", "el 9/c+1.rpm"]);
    assert_eq!(server.shared.lock().unwrap().properties["a.rpm"], "origin=rhsm;a%20b=c%3Bd");
    let puts = server.requests().iter().filter(|(line, _)| line.starts_with("PUT")).count();
    assert_eq!(puts, 6, "checksums first, then the bytes");

    let run = server.run(&dir, &["--property", "origin=rhsm"]);
    assert_eq!((paths(&run.done(), "skipped").len(), server.requests().len()), (3, 1), "one listing");
}

#[test]
fn identical_files_are_passed_over_and_different_ones_replaced_only_when_asked() {
    let (server, dir) = (Server::start(), packages());
    std::fs::remove_dir_all(dir.path().join("packages/el 9")).unwrap();
    server.run(&dir, &[]).done();
    server.requests();
    let document = server.run(&dir, &[]).done();
    assert_eq!((paths(&document, "skipped").len(), document["uploaded"].as_array().unwrap().len()), (2, 0));
    assert_eq!(server.requests().len(), 1, "one listing");

    std::fs::write(dir.path().join("packages/b.rpm"), "changed").unwrap();
    let run = server.run(&dir, &[]);
    let different =
        json!([{ "path": "b.rpm", "sha256": Digest::sha256("changed"), "there": Digest::sha256("two").hex() }]);
    assert_eq!((run.status, &run.json()["different"]), (3, &different));
    assert_eq!(server.shared.lock().unwrap().files["b.rpm"], b"two");
    let document = server.run(&dir, &["--overwrite", "--dry-run"]).done();
    assert_eq!(paths(&document, "replaced"), ["b.rpm"]);
    assert_eq!(server.shared.lock().unwrap().files["b.rpm"], b"two");
    let document = server.run(&dir, &["--overwrite"]).done();
    assert_eq!(paths(&document, "replaced"), ["b.rpm"]);
    assert_eq!(server.shared.lock().unwrap().files["b.rpm"], b"changed");
}

#[test]
fn content_that_the_server_knows_is_not_sent() {
    let (server, dir) = (Server::start(), packages());
    server.run(&dir, &[]).done();
    let document = server.run(&dir, &["--prefix", "copy/of"]).done();
    let by_checksum = document["uploaded"].as_array().unwrap().iter().all(|deployed| deployed["by_checksum"] == true);
    assert_eq!((by_checksum, &document["sent_bytes"]), (true, &json!(0)));
    assert!(server.files().contains(&"copy/of/a.rpm".to_owned()));
}

#[test]
fn a_server_that_refuses_to_list_is_searched() {
    for status in [403, 400, 501] {
        let (server, dir) = (Server::start(), packages());
        server.run(&dir, &[]).done();
        server.fault(Method::GET, "api/storage", 99, status);
        server.requests();
        let document = server.run(&dir, &[]).done();
        assert_eq!(paths(&document, "skipped").len(), 3, "{status}");
        assert!(server.requests().iter().any(|(line, _)| line == "POST /artifactory/api/search/aql"));
    }
}

#[test]
fn trouble_passes_and_what_does_not_is_named_by_file() {
    for (method, part, times, status) in [
        (Method::PUT, "b.rpm", 2, 429),
        (Method::PUT, "b.rpm", 2, 503),
        (Method::PUT, "b.rpm", 2, 0),
        (Method::GET, "api/storage", 2, 0),
        (Method::GET, "api/storage", 2, 429),
    ] {
        let (server, dir) = (Server::start(), packages());
        server.fault(method, part, times, status);
        assert_eq!(paths(&server.run(&dir, &[]).done(), "uploaded").len(), 3, "{part} {status}");
    }
    for (status, words) in
        [(409, "409 Conflict: not now"), (403, "403 Forbidden: not now"), (503, "503 Service Unavailable: not now")]
    {
        let (server, dir) = (Server::start(), packages());
        server.fault(Method::PUT, "b.rpm", 99, status);
        let run = server.run(&dir, &[]);
        assert_eq!((run.status, paths(&run.json(), "uploaded").len()), (3, 2), "{}", run.stderr);
        let error = run.json()["failed"][0]["error"].as_str().unwrap().to_owned();
        assert!(error.ends_with(words), "{error}");
    }
}

#[test]
fn credentials_come_from_the_environment_or_a_file_and_wrong_ones_end_the_run() {
    let (server, dir) = (Server::start(), packages());
    std::fs::write(dir.path().join("token"), "t0ken\n").unwrap();
    std::fs::write(dir.path().join("wrong"), "secret-in-a-file").unwrap();
    let with = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = haversack(dir.path());
        let fixed = ["publish", "artifactory", "packages", "--url", &server.url, "--repo", "redhat-sources"];
        Run::of(command.args(fixed).args(args).envs(variables.iter().copied()).output().unwrap())
    };
    for (variables, args, status) in [
        (&[("ARTIFACTORY_API_KEY", "k3y")][..], &[][..], 0),
        (&[("JFROG_ACCESS_TOKEN", "t0ken")], &[], 0),
        (&[], &["--token-file", "token"], 0),
        (&[], &["--token-file", "wrong"], 1),
        (&[], &["--api-key-file", "token"], 1),
        (&[], &[], 1),
        (&[("ARTIFACTORY_TOKEN", "t0ken")], &["--repo", "nowhere"], 2),
    ] {
        let run = with(variables, args);
        assert_eq!(run.status, status, "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("secret-in-a-file"));
    }
    let mut command = haversack(dir.path());
    command.args(["publish", "artifactory", "packages", "--url", &server.url, "--repo", "nowhere"]);
    let run = Run::of(command.env("ARTIFACTORY_TOKEN", "t0ken").output().unwrap());
    assert!(
        run.status == 1
            && run.stderr.contains("not found (404): no repository `nowhere`, or no Artifactory at this address"),
        "{}",
        run.stderr
    );
}

#[test]
fn the_packages_of_a_kernel_set_are_found_as_stated_or_beside_it() {
    let (server, dir) = (Server::start(), packages());
    let package = |name: &str, location: &str| json!({ "role": "headers", "name": name, "version": "6.1.192-2", "architecture": "amd64", "format": "deb", "location": location });
    let set = |packages: &[Value]| {
        let kernel = json!({
            "distribution": "debian", "uname": "6.1.0-56-amd64", "machine": "x86_64", "flavour": "default",
            "build": "6.1.192-2", "packages": packages,
        });
        let set = json!({ "format": "haversack.kernels", "version": 1, "kernels": [kernel] });
        std::fs::write(dir.path().join("kernels.json"), set.to_string()).unwrap();
        let mut command = haversack(dir.path());
        command.args([
            "publish",
            "artifactory",
            "kernels.json",
            "--url",
            &server.url,
            "--repo",
            "redhat-sources",
            "--json",
        ]);
        Run::of(command.env("ARTIFACTORY_TOKEN", "t0ken").output().unwrap())
    };
    std::fs::write(dir.path().join("far.deb"), "far").unwrap();
    let document = set(&[package("a", "packages/a.rpm"), package("far", "https://mirror.example/pool/far.deb")]).done();
    assert_eq!(paths(&document, "uploaded"), ["a.rpm", "far.deb"]);
    let run = set(&[package("gone", "https://mirror.example/pool/gone.deb")]);
    assert!(run.status == 1 && run.stderr.contains("gone.deb: not fetched"), "{}", run.stderr);
    // A file that is not the one that was listed stays here.
    let listed = |bytes: &[u8]| {
        let mut package = package("b", "packages/b.rpm");
        package["sha256"] = json!(Digest::sha256(bytes).to_string());
        set(&[package])
    };
    let content = std::fs::read(dir.path().join("packages/b.rpm")).unwrap();
    let run = listed(b"what was fetched");
    assert!(run.status != 0 && run.stderr.contains("b.rpm: it has sha256:"), "{} {}", run.status, run.stderr);
    assert_eq!(server.files(), ["a.rpm", "far.deb"]);
    assert_eq!(paths(&listed(&content).done(), "uploaded"), ["b.rpm"]);
}
