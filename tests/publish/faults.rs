//! What goes wrong: each fault ends the run in bounded time, with one JSON object, and nothing left or all of it named.
//!
//! Time is bounded by the settings of the tests: three tries more, ten milliseconds apart at first, five seconds each.

use axum::http::Method;
use serde_json::{Value, json};

use crate::s3::Act;
use crate::{JOB, Run, Site, content, squashfs};

/// Options, variables, and words of the reason.
type Unchecked<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

/// Status, media type and body.
type Answer = (u16, &'static str, &'static str);

const HTML: &str = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>";
const PROBLEM: &str =
    r#"{"status": 422, "title": "Unprocessable Entity", "detail": "It is not to be.", "errors": {"link": ["Bad."]}}"#;

/// Whether a run ended before anything was created.
#[track_caller]
fn nothing_was_created(site: &Site) {
    let calls = site.service.lines("NONE");
    assert!(calls.iter().all(|call| !call.starts_with("POST /images")), "{calls:?}");
    assert!(site.s3.requests().iter().all(|asked| asked.line.starts_with("HEAD") || asked.line.starts_with("GET")));
    assert!(site.is_clean());
}

#[test]
fn what_can_be_checked_is_checked_before_anything_is_created() {
    let site = Site::start();
    site.file("empty", b"");
    let mut arm = content(0x300);
    arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    site.file("arm", &arm);
    let unknown = JOB.replace('d', "e");
    let cases: [Unchecked<'_>; 10] = [
        (&["-r", "rootfs.sqsh", "-k", "nope"], &[], "cannot open nope: No such file or directory"),
        (&["-k", "vmlinuz", "-i", "initramfs"], &[], "no root file system is given"),
        (&[], &[], "no root file system is given"),
        (&["-r", "empty"], &[], "empty: the file is empty"),
        (&["-r", "auth"], &[], "auth: not a regular file"),
        (&["-r", "rootfs.sqsh", "-k", "arm"], &[], "arm: this is a kernel for aarch64, the image is for x86_64"),
        (&["-r", "rootfs.sqsh"], &[("S3_BUCKET", "nosuchbucket")], "s3://nosuchbucket/: NoSuchBucket (404 Not Found)"),
        (&["-r", "rootfs.sqsh"], &[("S3_SECRET_KEY", "wrong")], "SignatureDoesNotMatch (403 Forbidden)"),
        (&["-r", "rootfs.sqsh", &unknown], &[], "the service does not know it"),
        (
            &["-r", "rootfs.sqsh"],
            &[("OAUTH_CLIENT_SECRET", "wrong")],
            "no token for client `admin-client`: Invalid client or Invalid client credentials (unauthorized_client)",
        ),
    ];
    for (args, variables, words) in cases {
        let mut command = site.command(&[&["ims", "n"], args].concat());
        command.envs(variables.iter().copied());
        Run::of(command.output().unwrap()).failed(words);
        nothing_was_created(&site);
    }
    let tokens = site.service.lines("NONE").iter().filter(|line| *line == "POST /token").count();
    assert_eq!(tokens, 4, "a refused client asks once");
}

#[test]
fn command_lines_that_make_no_sense_end_with_2() {
    let site = Site::start();
    for args in [
        &["ims", "n", "-r", "rootfs.sqsh", "-r", "vmlinuz"][..],
        &["ims", "n", "notauuid", "-r", "rootfs.sqsh"],
        &["ims", "n", "-r", "rootfs.sqsh", "--arch", "arm64"],
        &["ims", " ", "-r", "rootfs.sqsh"],
        &["ims", "n", "-r", "rootfs.sqsh", "--metadata", "x"],
        &["ims", "n", "-r", "rootfs.sqsh", "--oauth-client-secret", "not-a-real-secret"],
        &["ims", "n", "-r", "rootfs.sqsh", "--s3-secret-key", crate::SECRET],
        &["ims"],
    ] {
        let run = site.publish(args);
        assert_eq!((run.status, &run.json()["result"]), (2, &json!("failure")), "{args:?}: {}", run.stderr);
    }
    let mut command = site.command(&["ims", "n", "-r", "rootfs.sqsh"]);
    let run = Run::of(command.env("IMS_JOB_ID", "notauuid").output().unwrap());
    assert_eq!(
        (run.status, run.json()),
        (2, json!({ "error": "IMS_JOB_ID: `notauuid`: expected a UUID", "result": "failure" }))
    );
    assert!(site.service.requests().is_empty());
}

#[test]
fn missing_settings_are_named_with_where_to_put_them() {
    let site = Site::start();
    for (variable, words) in [
        ("OAUTH_CONFIG_DIR", "not configured: the address of the token server"),
        ("S3_ENDPOINT", "not configured: the address of the S3 server"),
        ("S3_BUCKET", "not configured: the bucket"),
        ("S3_ACCESS_KEY", "not configured: the S3 access key"),
        ("S3_SECRET_KEY", "not configured: the S3 secret key"),
    ] {
        let mut command = site.command(&["ims", "n", "-r", "rootfs.sqsh"]);
        let run = Run::of(command.env_remove(variable).output().unwrap());
        run.failed(words);
        assert!(run.stderr.contains("hint: give --"), "{}", run.stderr);
    }
    let mut command = site.command(&["ims", "n", "-r", "rootfs.sqsh"]);
    let run = Run::of(command.env("OAUTH_CONFIG_DIR", site.path("nodir")).output().unwrap());
    run.failed("nodir/endpoint");
}

#[test]
fn what_passes_is_tried_again_and_makes_one_image() {
    let json = "application/json";
    let cases: [(&str, Method, &str, Answer, bool); 7] = [
        ("POST refused", Method::POST, "/images", (503, json, "{}"), false),
        ("POST done, answer lost", Method::POST, "/images", (502, "text/html", HTML), true),
        ("PATCH refused", Method::PATCH, "/images", (503, json, "{}"), false),
        ("PATCH done, answer lost", Method::PATCH, "/images", (502, "text/html", HTML), true),
        ("job refused", Method::PATCH, "/jobs", (503, json, "{}"), false),
        ("list refused", Method::GET, "/images", (504, "text/html", HTML), false),
        ("token refused", Method::POST, "/token", (502, "text/html", HTML), false),
    ];
    for (name, method, path, answer, is_done) in cases {
        let site = Site::start();
        // Twice, except where the first was done: then there must be no second.
        site.service.fault(method.clone(), path, if is_done { 1 } else { 2 }, answer, is_done);
        let run = site.ims("n", &[JOB]);
        assert_eq!(run.status, 0, "{name}: {}", run.stderr);
        assert_eq!(site.service.images().len(), 1, "{name}");
        assert_eq!(site.s3.keys().len(), 4, "{name}");
    }
}

#[test]
fn what_does_not_pass_ends_the_run_and_leaves_nothing() {
    let site = Site::start();
    let problem = "application/problem+json";
    let cases: [(Method, &str, usize, Answer, &str); 6] = [
        (Method::PATCH, "/images", 4, (502, "text/html", HTML), "502 Bad Gateway: 502 Bad Gateway"),
        (
            Method::PATCH,
            "/images",
            1,
            (422, problem, PROBLEM),
            "422 Unprocessable Entity: It is not to be. (link: Bad.)",
        ),
        (
            Method::PATCH,
            "/jobs",
            1,
            (500, problem, r#"{"detail": "No Kubernetes."}"#),
            "500 Internal Server Error: No Kubernetes.",
        ),
        (Method::POST, "/images", 4, (503, "text/html", HTML), "503 Service Unavailable"),
        (Method::POST, "/token", 4, (502, "text/html", HTML), "502 Bad Gateway"),
        (Method::POST, "/token", 1, (200, "text/html", HTML), "the answer has no bearer token"),
    ];
    for (method, path, times, answer, words) in cases {
        site.service.fault(method, path, times, answer, false);
        let document = site.ims("n", &[JOB]).failed(words);
        assert_eq!(document.get("left_behind"), None, "{words}");
        assert!(site.is_clean(), "{words}: {:?} {:?}", site.service.images(), site.s3.keys());
    }
}

#[test]
fn tokens_are_renewed_before_they_expire_and_once_when_they_are_refused() {
    let site = Site::start();
    site.service.lifetime(0);
    site.ims("expired", &[]).done();
    let forms = || site.service.requests().into_iter().filter(|asked| asked.line == "POST /token");
    assert_eq!(forms().count(), 4);
    assert!(
        forms()
            .all(|asked| asked.body == "grant_type=client_credentials" && asked.headers.contains_key("authorization"))
    );

    let site = Site::start();
    site.service.stale(1);
    site.ims("stale", &[]).done();
    site.service.stale(99);
    site.ims("stale", &[]).failed("GET http://127.0.0.1");
}

#[test]
fn a_store_in_trouble_is_tried_again_and_one_that_lies_is_found_out() {
    let large = squashfs(20 << 20);
    let get = "uploadId=";
    let cases: [(Method, &str, usize, Act, Option<&str>); 12] = [
        (Method::PUT, "/rootfs", 2, Act::Refuse(503, "SlowDown"), None),
        (Method::PUT, "/kernel", 3, Act::Refuse(500, "InternalError"), None),
        (Method::POST, get, 1, Act::RefuseAfter(500, "InternalError"), None),
        (Method::HEAD, "/kernel", 1, Act::Refuse(503, ""), None),
        (Method::PUT, "/kernel", 1, Act::RefuseAfter(503, "SlowDown"), None),
        (Method::PUT, "/rootfs", 99, Act::Refuse(503, "SlowDown"), Some("SlowDown (503 Service Unavailable): x")),
        (Method::HEAD, "/rootfs", 1, Act::Refuse(403, ""), Some("rootfs: Forbidden (403 Forbidden)")),
        // No MD5 of parts: what a server does that encrypts.
        (Method::HEAD, "/rootfs", 1, Act::WrongEtag(""), None),
        (
            Method::HEAD,
            "/rootfs",
            1,
            Act::WrongEtag("-3"),
            Some("rootfs: the ETag is 00000000000000000000000000000000-3"),
        ),
        (
            Method::HEAD,
            "/kernel",
            1,
            Act::WrongEtag(""),
            Some("kernel: the ETag is 00000000000000000000000000000000, expected"),
        ),
        (Method::PUT, "/initrd", 1, Act::Refuse(403, "AccessDenied"), Some("AccessDenied (403 Forbidden): x")),
        (Method::PUT, "/manifest.json", 99, Act::Refuse(500, "InternalError"), Some("InternalError")),
    ];
    for (method, part, times, act, words) in cases {
        let site = Site::start();
        site.file("rootfs.sqsh", &large);
        site.s3.fault(method.clone(), part, times, act);
        let run = site.ims("n", &[]);
        let Some(words) = words else {
            run.done();
            assert_eq!(site.s3.open_parts(), 0);
            continue;
        };
        let document = run.failed(words);
        assert_eq!(document.get("left_behind"), None, "{words}");
        assert!(site.is_clean() && site.s3.open_parts() == 0, "{method} {part}");
    }
}

#[test]
fn a_server_that_never_answers_costs_the_time_that_was_set() {
    let site = Site::start();
    site.s3.fault(Method::PUT, "/kernel", 2, Act::Hang);
    let mut command = site.command(&["ims", "n", "-r", "rootfs.sqsh", "-k", "vmlinuz"]);
    let run = Run::of(command.env("HAVERSACK_TIMEOUT", "0.3").env("HAVERSACK_RETRIES", "1").output().unwrap());
    run.failed("no answer in time");
    assert!(site.is_clean());

    let mut command = site.command(&["ims", "n", "-r", "rootfs.sqsh", "-t", "0", "--ims-url", "http://127.0.0.1:9"]);
    Run::of(command.env("HAVERSACK_RETRIES", "99999").output().unwrap()).failed("cannot connect");
}

#[test]
fn files_that_change_while_they_are_uploaded_are_not_published() {
    for size in [9000, 9 << 20] {
        let site = Site::start();
        let kernel = site.file("vmlinuz", &content(size));
        site.s3.fault(Method::PUT, "/kernel", 1, Act::Append(kernel));
        site.ims("n", &[]).failed("vmlinuz: the file changed while it was read");
        assert!(site.is_clean() && site.s3.open_parts() == 0);
    }
}

#[test]
fn what_cannot_be_removed_is_named() {
    let site = Site::start();
    site.service.fault(Method::PATCH, "/images", 1, (422, "application/problem+json", PROBLEM), false);
    site.service.fault(Method::DELETE, "/images", 99, (503, "text/html", HTML), false);
    site.s3.fault(Method::DELETE, "/kernel", 99, Act::Refuse(403, "AccessDenied"));
    let document = site.ims("n", &[]).failed("It is not to be.");
    let id = site.service.images()[0]["id"].as_str().unwrap().to_owned();
    let left = json!([format!("image record {id}"), format!("s3://boot-images/{id}/kernel")]);
    assert_eq!(document["left_behind"], left);
    assert_eq!(site.s3.keys(), [format!("{id}/kernel")]);
}

#[test]
fn names_of_any_language_and_length_are_kept_in_the_record() {
    let site = Site::start();
    let long = "ö".repeat(3000);
    for name in ["größe", "模様  two spaces", "=?UTF-8?B?eA==?=", long.as_str()] {
        let document = site.ims(name, &[]).done();
        assert_eq!(document["ims_image_record"]["name"], name);
    }
    let longest = site
        .s3
        .requests()
        .iter()
        .filter_map(|asked| asked.headers.get("x-amz-meta-x-shasta-ims-image-name").map(axum::http::HeaderValue::len))
        .max();
    assert!(longest.is_some_and(|longest| longest <= 1024), "{longest:?}");
}

#[test]
fn two_runs_at_once_make_two_whole_images_or_one_when_it_is_to_be_one() {
    for (more, images) in [(&[][..], 2), (&["--skip-existing"], 1)] {
        let site = Site::start();
        let args = [&["ims", "twice", "-r", "rootfs.sqsh", "-k", "vmlinuz"], more].concat();
        let start = || site.command(&args).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let runs = [start(), start()].map(|child| Run::of(child.wait_with_output().unwrap()).done());
        assert_eq!(site.service.images().len(), images);
        assert_eq!(site.s3.keys().len(), 3 * images);
        let ids: std::collections::BTreeSet<String> =
            runs.iter().map(|run| run["ims_image_record"]["id"].to_string()).collect();
        assert_eq!(ids.len(), images);
    }
}

#[test]
fn an_image_without_a_root_file_system_is_made_only_when_that_is_said() {
    let site = Site::start();
    let document = site.publish(&["ims", "empty image", "--allow-no-rootfs"]).done();
    assert_eq!((&document["ims_image_artifacts"], &document["ims_image_record"]["link"]), (&json!([]), &Value::Null));
    // The service has the last word.
    site.publish(&["ims", "n", "-k", "vmlinuz", "--allow-no-rootfs"]).failed("does not include any rootfs artifacts");
}
