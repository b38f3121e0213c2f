//! Writes that are redirected: a page is no answer to a write, wherever it is, and nothing is stored.

use axum::http::Method;

use crate::artifactory_server::{Server, packages, paths};
use crate::login_page::LoginPage;
use crate::s3::Act;
use crate::{JOB, Site, squashfs};

const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

#[test]
fn artifactory_has_what_it_says_that_it_has() {
    let elsewhere = LoginPage::start();
    for status in STATUSES {
        for to in ["/login", &elsewhere.url] {
            let (server, dir) = (Server::start(), packages());
            server.redirect(Method::PUT, "a.rpm", status, to);
            let run = server.run(&dir, &[]);
            let document = run.json();
            assert_eq!((run.status, paths(&document, "failed")), (3, vec!["a.rpm".to_owned()]), "{status} {to}");
            let error = document["failed"][0]["error"].as_str().unwrap();
            assert!(error.contains("/login"), "the place is named: {error}");
            assert_eq!(server.files(), ["b.rpm", "el 9/c+1.rpm"]);

            server.fault(Method::GET, "api/storage", 99, 403);
            server.redirect(Method::POST, "api/search/aql", status, to);
            let run = server.run(&dir, &[]);
            assert!(run.status == 1 && run.stderr.contains("hint: "), "{status} {to}: {}", run.stderr);
        }
    }
    assert!(!elsewhere.saw_secrets());
}

#[test]
fn artifactory_that_moved_is_found_where_the_method_is_kept_and_is_named_where_it_is_not() {
    for status in STATUSES {
        let (server, dir) = (Server::start(), packages());
        server.shared.lock().unwrap().moved = Some(status);
        let run = server.run(&dir, &[]);
        if status >= 307 {
            assert_eq!(paths(&run.done(), "uploaded").len(), 3);
            assert_eq!(server.files().len(), 3);
            continue;
        }
        assert_eq!((run.status, server.files().len()), (1, 0), "{}", run.stderr);
        let error = run.json()["failed"][0]["error"].as_str().unwrap().to_owned();
        assert!(error.contains("/jfrog/artifactory/redhat-sources/a.rpm: uploads and changes"), "{error}");
    }
}

#[test]
fn a_file_counts_as_uploaded_when_the_server_says_what_it_has() {
    let (server, dir) = (Server::start(), packages());
    // It stores and does not say so: it is asked.
    server.shared.lock().unwrap().is_silent = true;
    assert_eq!(paths(&server.run(&dir, &[]).done(), "uploaded").len(), 3);
    // One that does not even then is not believed.
    let (server, dir) = (Server::start(), packages());
    server.shared.lock().unwrap().is_silent = true;
    server.fault(Method::HEAD, "", 99, 403);
    let run = server.run(&dir, &[]);
    assert_eq!((run.status, paths(&run.json(), "failed").len()), (1, 3));
    let error = run.json()["failed"][0]["error"].as_str().unwrap().to_owned();
    assert!(
        error.ends_with("answered with 201 Created, but the server does not confirm that it has the file"),
        "{error}"
    );
}

#[test]
fn the_image_service_and_its_token_server_answer_themselves() {
    let elsewhere = LoginPage::start();
    for status in STATUSES {
        for to in ["/login", &elsewhere.url] {
            for (method, path) in [
                (Method::POST, "/token"),
                (Method::POST, "/images"),
                (Method::PATCH, "/images"),
                (Method::PATCH, "/jobs"),
            ] {
                let site = Site::start();
                site.service.redirect(method.clone(), path, status, to);
                let document = site.ims("n", &[JOB]).failed("");
                assert_eq!(document.get("left_behind"), None, "{method} {path} {status} {to}");
                assert!(site.is_clean(), "{method} {path} {status} {to}");
                assert!(site.service.job()["resultant_image_id"].is_null());
            }
            // What could not be removed is said to be there.
            let site = Site::start();
            site.service.redirect(Method::PATCH, "/images", status, to);
            site.service.redirect(Method::DELETE, "/images", status, to);
            let document = site.ims("n", &[]).failed("");
            assert!(document["left_behind"][0].as_str().unwrap().starts_with("image record"), "{status} {to}");
            site.service.heal();
        }
    }
    assert!(!elsewhere.saw_secrets());
}

#[test]
fn what_s3_has_it_says_under_the_address_that_was_signed() {
    let elsewhere = LoginPage::start();
    let large = squashfs(9 << 20);
    for status in STATUSES {
        for to in ["/login", &elsewhere.url] {
            for (method, part) in [
                (Method::PUT, "/kernel"),
                (Method::PUT, "partNumber=2"),
                (Method::POST, "rootfs?uploads"),
                (Method::POST, "rootfs?uploadId="),
                (Method::PUT, "/manifest.json"),
                (Method::HEAD, "/kernel"),
            ] {
                let site = Site::start();
                site.file("rootfs.sqsh", &large);
                site.s3.fault(method.clone(), part, usize::MAX, Act::Redirect(status, to.to_owned()));
                let document = site.ims("n", &[]).failed("/login");
                assert!(document["error"].as_str().unwrap().contains("s3://boot-images/"), "{document}");
                assert_eq!(document.get("left_behind"), None, "{method} {part} {status} {to}");
                assert!(site.is_clean() && site.s3.open_parts() == 0, "{method} {part} {status} {to}");
            }
            let site = Site::start();
            site.s3.fault(Method::PUT, "/initrd", usize::MAX, Act::Refuse(403, "AccessDenied"));
            site.service.fault(Method::DELETE, "/images", 99, (503, "text/html", ""), false);
            site.s3.fault(Method::DELETE, "/kernel", usize::MAX, Act::Redirect(status, to.to_owned()));
            let document = site.ims("n", &[]).failed("AccessDenied");
            assert!(document["left_behind"].to_string().contains("/kernel"), "{status} {to}: {document}");
        }
    }
    assert!(!elsewhere.saw_secrets());
}
