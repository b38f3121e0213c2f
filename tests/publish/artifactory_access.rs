//! `publish artifactory` for those who may not see everything, and against servers that do not show it.

use axum::http::Method;
use serde_json::json;

use crate::artifactory_server::{Server, packages, paths};
use crate::{Run, haversack};

#[test]
fn what_a_trimmed_search_leaves_out_is_asked_for_and_never_replaced_unasked() {
    for limit in [0, 1, 2] {
        let (server, dir) = (Server::start(), packages());
        server.put("a.rpm", "one");
        server.put("b.rpm", "of somebody else");
        server.put("c.rpm", "of no concern");
        server.fault(Method::GET, "api/storage", 99, 400);
        server.shared.lock().unwrap().search_limit = Some(limit);
        let run = server.run(&dir, &[]);
        let document = run.json();
        assert_eq!((run.status, paths(&document, "different")), (3, vec!["b.rpm".to_owned()]), "{limit}");
        assert_eq!(
            (paths(&document, "skipped"), paths(&document, "uploaded")),
            (vec!["a.rpm".into()], vec!["el 9/c+1.rpm".into()])
        );
        assert_eq!(server.shared.lock().unwrap().files["b.rpm"], b"of somebody else");
        assert!(run.stderr.contains("results are trimmed"), "{}", run.stderr);
        let document = server.run(&dir, &["--overwrite"]).done();
        assert_eq!(paths(&document, "replaced"), ["b.rpm"]);
    }
}

#[test]
fn who_may_neither_list_nor_search_uploads_file_by_file() {
    for (listing, search) in [(400, 403), (403, 403), (403, 400), (501, 405), (400, 404)] {
        let (server, dir) = (Server::start(), packages());
        server.put("a.rpm", "one");
        server.put("b.rpm", "of somebody else");
        server.fault(Method::GET, "api/storage", 99, listing);
        server.fault(Method::POST, "api/search", 99, search);
        let run = server.run(&dir, &[]);
        let document = run.json();
        assert_eq!(run.status, 3, "{listing} {search}: {}", run.stderr);
        assert_eq!(
            (paths(&document, "skipped"), paths(&document, "different")),
            (vec!["a.rpm".into()], vec!["b.rpm".into()])
        );
        assert_eq!(
            (paths(&document, "uploaded"), &document["not_compared"]),
            (vec!["el 9/c+1.rpm".into()], &json!([]))
        );
        assert_eq!(server.shared.lock().unwrap().files["b.rpm"], b"of somebody else");
    }
}

#[test]
fn what_could_not_be_compared_is_uploaded_and_counted() {
    let (server, dir) = (Server::start(), packages());
    server.shared.lock().unwrap().is_open = true;
    // Without credentials, a server asks for some where there is something to read; and takes what is written.
    server.fault(Method::GET, "api/storage", 99, 401);
    server.fault(Method::POST, "api/search", 99, 401);
    server.fault(Method::HEAD, "b.rpm", 99, 401);
    let run = |more: &[&str]| {
        let mut command = haversack(dir.path());
        command.args(["publish", "artifactory", "packages", "--url", &server.url, "--repo", "redhat-sources/"]);
        Run::of(command.args(more).output().unwrap())
    };
    let planned = run(&["--dry-run"]);
    assert_eq!((planned.status, server.files().len()), (3, 0), "{}", planned.stderr);
    assert!(
        planned.stderr.contains("b.rpm: would be uploaded without knowing whether it existed"),
        "{}",
        planned.stderr
    );
    // Which files, and where each would be.
    let place = format!("{}/redhat-sources", server.url.trim_end_matches('/'));
    let expected = format!(
        "{place}\n  3 files to be uploaded\n           3 B  {place}/a.rpm\n           3 B  {place}/b.rpm\n           5 B  \
         {place}/el%209/c%2B1.rpm\n  1 of them could not be compared with what existed before\n"
    );
    assert_eq!(planned.stdout, expected);
    let done = run(&[]);
    assert_eq!((done.status, server.files().len()), (3, 3), "{}", done.stderr);
    assert!(done.stdout.contains("  1 of them could not be compared with what existed before\n"), "{}", done.stdout);
    assert!(done.stderr.contains("b.rpm: uploaded without knowing whether it existed"), "{}", done.stderr);
    let document = run(&["--json"]).json();
    assert_eq!((paths(&document, "not_compared"), paths(&document, "skipped").len()), (vec!["b.rpm".to_owned()], 2));
    // Whoever replaces what is there has nothing to compare.
    assert_eq!(run(&["--overwrite"]).status, 0);
}

#[test]
fn a_file_whose_content_the_server_keeps_to_itself_is_left() {
    let (server, dir) = (Server::start(), packages());
    server.fault(Method::GET, "api/storage", 99, 403);
    server.fault(Method::POST, "api/search", 99, 403);
    // Something answers that has no checksums: a directory, a proxy, a page.
    server.redirect(Method::HEAD, "b.rpm", 302, "/login");
    let run = server.run(&dir, &[]);
    assert_eq!((run.status, paths(&run.json(), "different")), (3, vec!["b.rpm".to_owned()]));
    assert!(run.stderr.contains("b.rpm: exists, and the server does not state its checksum"), "{}", run.stderr);
    let mut command = haversack(dir.path());
    command.args(["publish", "artifactory", "packages", "--url", &server.url, "--repo", "redhat-sources"]);
    let said = Run::of(command.env("ARTIFACTORY_TOKEN", "t0ken").output().unwrap()).stdout;
    assert!(said.ends_with("  1 file exists, nobody knows with which content, and was left\n"), "{said}");
}

#[test]
fn credentials_that_are_not_taken_end_the_run_before_anything_is_sent() {
    let (server, dir) = (Server::start(), packages());
    for path in ["api/storage", "redhat-sources"] {
        let mut command = haversack(dir.path());
        command.args(["publish", "artifactory", "packages", "--url", &server.url, "--repo", "redhat-sources"]);
        server.fault(Method::GET, "api/storage", 1, if path == "api/storage" { 401 } else { 403 });
        server.fault(Method::POST, "api/search", 1, 403);
        let run = Run::of(command.env("ARTIFACTORY_TOKEN", "0ld").output().unwrap());
        assert!(run.status == 1 && run.stderr.contains("hint: give an access token"), "{}", run.stderr);
        // A server without words is not quoted.
        assert!(!run.stderr.contains(": \n"), "{}", run.stderr);
        assert_eq!(server.files().len(), 0);
    }
}

#[test]
fn what_is_refused_by_its_checksum_is_not_sent() {
    for status in [405, 409] {
        let (server, dir) = (Server::start(), packages());
        server.fault(Method::PUT, "b.rpm", 1, status);
        let run = server.run(&dir, &[]);
        assert_eq!((run.status, paths(&run.json(), "failed")), (3, vec!["b.rpm".to_owned()]), "{status}");
        let puts =
            server.requests().iter().filter(|(line, _)| line.starts_with("PUT") && line.contains("b.rpm")).count();
        assert_eq!((puts, server.files().len()), (1, 2), "{status}");
    }
}

#[test]
fn an_empty_file_is_taken() {
    let (server, dir) = (Server::start(), packages());
    std::fs::write(dir.path().join("packages/empty"), "").unwrap();
    let document = server.run(&dir, &[]).done();
    assert_eq!(paths(&document, "uploaded").len(), 4);
    assert_eq!(server.shared.lock().unwrap().files["empty"], b"");
}
