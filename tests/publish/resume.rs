//! Runs that are killed, stopped, or fail after much was sent.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use axum::http::Method;
use serde_json::Value;

use crate::s3::Act;
use crate::{JOB, Run, Site, squashfs};

/// Starts an upload of 40 MiB in five parts, one at a time, and waits until it hangs at the fourth.
fn hanging(site: &Site) -> Child {
    site.file("rootfs.sqsh", &squashfs(40 << 20));
    site.s3.fault(Method::PUT, "partNumber=4", 99, Act::Hang);
    let args = ["ims", "n", "-r", "rootfs.sqsh", "-k", "vmlinuz", "--parallel", "1"];
    let mut command = site.command(&args);
    command.env("HAVERSACK_TIMEOUT", "60");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !site.s3.requests().iter().any(|asked| asked.line.contains("partNumber=4")) {
        assert!(started.elapsed() < Duration::from_secs(60), "the fourth part was never sent");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn rerun(site: &Site) -> Value {
    site.s3.heal();
    site.s3.forget();
    site.service.forget();
    site.publish(&["ims", "n", "-r", "rootfs.sqsh", "-k", "vmlinuz", "--parallel", "1"]).done()
}

#[test]
fn after_a_kill_the_next_run_sends_only_what_is_missing() {
    let site = Site::start();
    let mut child = hanging(&site);
    signal(&child, rustix::process::Signal::KILL);
    child.wait().unwrap();
    let id = site.service.images()[0]["id"].as_str().unwrap().to_owned();

    let document = rerun(&site);
    assert_eq!(document["ims_image_record"]["id"], *id);
    let lines = site.s3.lines(&id);
    let parts: Vec<&String> = lines.iter().filter(|line| line.starts_with("PUT /ID/rootfs")).collect();
    assert_eq!(parts, ["PUT /ID/rootfs?partNumber=4&uploadId=U", "PUT /ID/rootfs?partNumber=5&uploadId=U"]);
    assert!(!site.service.lines(&id).contains(&"POST /images".to_owned()));
    assert!(site.s3.object(&format!("{id}/rootfs")) == squashfs(40 << 20));
    assert_eq!((site.service.images().len(), site.s3.keys().len(), site.s3.open_parts()), (1, 3, 0));
    // Nothing is left of it: the next run is one of its own.
    assert_ne!(rerun(&site)["ims_image_record"]["id"], *id);
}

#[test]
fn what_a_killed_run_began_is_not_relied_on_when_it_is_gone() {
    // The record; the upload; the content here.
    for gone in ["record", "upload", "content"] {
        let site = Site::start();
        let mut child = hanging(&site);
        signal(&child, rustix::process::Signal::KILL);
        child.wait().unwrap();
        let id = site.service.images()[0]["id"].as_str().unwrap().to_owned();
        let mut expected = squashfs(40 << 20);
        match gone {
            "upload" => {
                for entry in std::fs::read_dir(site.s3.root()).unwrap() {
                    let path = entry.unwrap().path();
                    if path.file_name().unwrap().to_str().unwrap().starts_with(".upload") {
                        std::fs::remove_file(path).unwrap();
                    }
                }
            }
            "content" => {
                expected[7] ^= 1;
                site.file("rootfs.sqsh", &expected);
            }
            _ => site.service.remove_images(),
        }
        let document = rerun(&site);
        let new = document["ims_image_record"]["id"].as_str().unwrap();
        assert_eq!(new == id, gone == "upload", "{gone}");
        assert!(site.s3.object(&format!("{new}/rootfs")) == expected, "{gone}");
    }
}

#[test]
fn a_run_that_is_stopped_removes_what_it_made() {
    for sent in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let site = Site::start();
        let child = hanging(&site);
        site.s3.heal();
        signal(&child, sent);
        let run = Run::of(child.wait_with_output().unwrap());
        let document = run.failed("stopped by SIG");
        assert_eq!(document.get("left_behind"), None);
        assert!(site.is_clean() && site.s3.open_parts() == 0, "{:?}", site.s3.keys());
        let deleted: Vec<String> =
            site.service.lines("NONE").into_iter().filter(|line| line.starts_with("DELETE")).collect();
        assert_eq!(deleted.len(), 1);
    }
}

#[test]
fn what_is_kept_after_a_failure_is_completed_by_the_next_run_without_sending_it_again() {
    let site = Site::start();
    site.service.fault(Method::PATCH, "/jobs", 4, (503, "text/html", "busy"), false);
    let document = site.ims("n", &[JOB, "--keep"]).failed("503 Service Unavailable: busy");
    let id = site.service.images()[0]["id"].as_str().unwrap().to_owned();
    let keys = ["initrd", "kernel", "manifest.json", "rootfs"].map(|name| format!("s3://boot-images/{id}/{name}"));
    assert_eq!(document["left_behind"], serde_json::json!([&[format!("image record {id}")], &keys[..]].concat()));

    site.s3.forget();
    let document = site.ims("n", &[JOB]).done();
    assert_eq!(document["ims_image_record"]["id"], *id);
    assert_eq!(document["ims_image_artifacts"].as_array().unwrap().len(), 4);
    assert!(site.s3.lines(&id).iter().all(|line| !line.starts_with("PUT")));
    assert_eq!(site.service.job()["resultant_image_id"], *id);
}

/// Ends an upload while the service has made its record and not answered yet.
fn ended_while_creating(site: &Site, sent: rustix::process::Signal, answer: u64) -> Run {
    site.service.slow(Duration::from_secs(answer));
    let mut command = site.command(&["ims", "n", "-r", "rootfs.sqsh", "-k", "vmlinuz"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while site.service.images().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "no record was created");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, sent);
    let run = Run::of(child.wait_with_output().unwrap());
    site.service.slow(Duration::ZERO);
    run
}

#[test]
fn a_run_that_is_stopped_while_its_record_is_created_removes_it() {
    let site = Site::start();
    // Who may not list the records may create one.
    let forbidden = (403, "application/problem+json", r#"{"detail":"not for you"}"#);
    for may_list in [true, false] {
        if !may_list {
            site.service.fault(Method::GET, "/images", 1, forbidden, false);
        }
        ended_while_creating(&site, rustix::process::Signal::INT, 1).failed("stopped by SIGINT");
        assert!(site.is_clean(), "{may_list}");
    }
}

#[test]
fn a_record_of_which_nobody_knows_whether_it_was_created_is_named() {
    let site = Site::start();
    // It is made, and the answer is lost; then the records cannot be listed.
    site.service.fault(Method::POST, "/images", 99, (503, "text/html", "busy"), true);
    let mut command = site.command(&["ims", "n", "-r", "rootfs.sqsh", "-k", "vmlinuz"]);
    let child =
        command.env("HAVERSACK_RETRY_DELAY", "2").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while site.service.images().is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "no record was created");
        std::thread::sleep(Duration::from_millis(5));
    }
    let forbidden = (403, "application/problem+json", r#"{"detail":"not for you"}"#);
    site.service.fault(Method::GET, "/images", 99, forbidden, false);
    let document = Run::of(child.wait_with_output().unwrap()).failed("not for you");
    let left = document["left_behind"][0].as_str().unwrap();
    let expected = "an image record `n` (perhaps; the records could not be listed: GET SERVICE/images: 403 Forbidden: not for you)";
    assert_eq!(left.replace(&site.service.url, "SERVICE"), expected);
    assert_eq!(document["left_behind"].as_array().unwrap().len(), 1);
}

#[test]
fn a_record_that_was_being_created_when_a_run_was_killed_is_completed_and_another_one_is_not() {
    for is_other in [false, true] {
        let site = Site::start();
        ended_while_creating(&site, rustix::process::Signal::KILL, 30);
        let id = site.service.images()[0]["id"].as_str().unwrap().to_owned();
        if is_other {
            // Of somebody else, from another day.
            site.service.backdate();
        }
        let document = site.publish(&["ims", "n", "-r", "rootfs.sqsh", "-k", "vmlinuz"]).done();
        assert_eq!(document["ims_image_record"]["id"] == *id, !is_other);
        assert_eq!(site.service.images().len(), if is_other { 2 } else { 1 });
    }
}
