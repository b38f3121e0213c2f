//! What goes right: the same calls, headers, bodies and output as the old helper's.

use serde_json::{Value, json};

use crate::{JOB, Site, content, masked, squashfs};

fn id_of(document: &Value) -> String {
    document["ims_image_record"]["id"].as_str().unwrap().to_owned()
}

fn entry(name: &str, media_type: &str, md5: &str) -> Value {
    let path = format!("s3://boot-images/IMAGE-ID/{name}");
    json!({ "link": { "etag": "ETAG", "path": path, "type": "s3" }, "md5": md5, "type": media_type })
}

fn hex_md5(bytes: &[u8]) -> String {
    haversack::digest::hex(&haversack::publish::s3::md5(bytes))
}

#[test]
fn five_artifacts_make_the_calls_of_the_old_helper_and_print_what_it_printed() {
    let site = Site::start();
    site.file("vmlinux.debug", &content(5000));
    site.file("boot_params", b"console=ttyS0 quiet root=live:s3://boot-images/x/rootfs\n");
    let run = site.publish(&[
        "ims",
        "my new image",
        "-r",
        "rootfs.sqsh",
        "-k",
        "vmlinuz",
        "-i",
        "initramfs",
        "-d",
        "vmlinux.debug",
        "-p",
        "boot_params",
    ]);
    let document = run.done();
    let id = id_of(&document);
    let manifest = site.s3.object(&format!("{id}/manifest.json"));
    let md5s = ["rootfs.sqsh", "vmlinuz", "initramfs", "vmlinux.debug", "boot_params"]
        .map(|name| hex_md5(&std::fs::read(site.path(name)).unwrap()));
    let artifacts = [
        entry("rootfs", "application/vnd.cray.image.rootfs.squashfs", &md5s[0]),
        entry("kernel", "application/vnd.cray.image.kernel", &md5s[1]),
        entry("initrd", "application/vnd.cray.image.initrd", &md5s[2]),
        entry("debug_kernel", "application/vnd.cray.image.debug.kernel", &md5s[3]),
        entry("boot_parameters", "application/vnd.cray.image.parameters.boot", &md5s[4]),
    ];
    let mut printed = artifacts.to_vec();
    printed.push(entry("manifest.json", "application/json", &hex_md5(&manifest)));
    let link = json!({ "etag": "ETAG", "path": "s3://boot-images/IMAGE-ID/manifest.json", "type": "s3" });
    let expected = json!({
        "ims_image_artifacts": printed,
        "ims_image_record": {
            "arch": "x86_64", "created": "CREATED", "id": "IMAGE-ID", "link": link, "metadata": {}, "name": "my new image",
        },
        "result": "success",
    });
    assert_eq!(masked(&document, &id), expected);
    assert!(run.stdout.starts_with("{\n    \"ims_image_artifacts\": [\n        {\n"), "{}", run.stdout);

    let stored: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(masked(&stored, &id), json!({ "artifacts": artifacts, "created": "CREATED", "version": "1.0" }));
    assert_eq!(stored["artifacts"][0]["link"]["etag"], md5s[0]);

    assert_eq!(site.service.lines(&id), ["POST /token", "GET /images", "POST /images", "PATCH /images/ID"]);
    let bodies: Vec<String> = site.service.requests().into_iter().map(|asked| asked.body).collect();
    assert_eq!(bodies[0], "grant_type=client_credentials");
    let etag = hex_md5(&manifest);
    assert_eq!(
        [&bodies[2], &bodies[3]].map(|body| serde_json::from_str::<Value>(body).unwrap()),
        [
            json!({ "name": "my new image", "arch": "x86_64" }),
            json!({ "link": { "path": format!("s3://boot-images/{id}/manifest.json"), "etag": etag, "type": "s3" } }),
        ]
    );
    let mut calls = vec!["HEAD ".to_owned()];
    for name in ["rootfs", "kernel", "initrd", "debug_kernel", "boot_parameters", "manifest.json"] {
        calls.extend([format!("PUT /ID/{name}"), format!("HEAD /ID/{name}")]);
    }
    assert_eq!(site.s3.lines(&id), calls);
    let puts: Vec<_> = site.s3.requests().into_iter().filter(|asked| asked.line.starts_with("PUT")).collect();
    let metadata = |at: usize| {
        let headers = puts[at].headers.iter();
        let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
        let own = headers
            .filter_map(|(name, value)| Some((name.as_str().strip_prefix("x-amz-meta-")?.to_owned(), text(value))));
        serde_json::to_value(own.collect::<std::collections::BTreeMap<_, _>>()).unwrap()
    };
    assert_eq!(
        metadata(1),
        json!({ "md5sum": md5s[1], "x-shasta-ims-image-id": id, "x-shasta-ims-image-name": "my new image" })
    );
    assert_eq!(metadata(5), json!({ "md5sum": etag }));
    for put in puts {
        let names: Vec<&str> = put.headers.keys().map(axum::http::HeaderName::as_str).collect();
        let is_trailing =
            |name: &&str| name.contains("trailer") || name.contains("checksum") || *name == "content-encoding";
        assert_eq!(names.iter().find(|name| is_trailing(name)), None);
        assert_eq!(put.headers["x-amz-content-sha256"].len(), 64);
    }
}

#[test]
fn a_job_is_told_of_its_image_wherever_the_options_stand() {
    let orders: [&[&str]; 3] = [
        &[
            "ims",
            "job image",
            "E3A46CF3-1150-4BBF-B7C9-504993917F7D",
            "-r",
            "rootfs.sqsh",
            "-k",
            "vmlinuz",
            "-i",
            "initramfs",
        ],
        &["ims", "-i", "initramfs", "-k", "vmlinuz", "--arch", "x86_64", "-r", "rootfs.sqsh", "job image", JOB],
        &[
            "ims",
            "-v",
            "-t",
            "720",
            "-l",
            "INFO",
            "job image",
            "-r",
            "rootfs.sqsh",
            JOB,
            "-kvmlinuz",
            "--initrd=initramfs",
        ],
    ];
    for args in orders {
        let site = Site::start();
        let document = site.publish(args).done();
        let id = id_of(&document);
        assert_eq!(document["ims_job_record"], site.service.job());
        assert_eq!(site.service.job()["resultant_image_id"], *id);
        let calls =
            ["POST /token", "GET /images", "GET /jobs/JOB", "POST /images", "PATCH /images/ID", "PATCH /jobs/JOB"];
        assert_eq!(site.service.lines(&id), calls);
        assert_eq!(site.service.requests().last().unwrap().body, format!(r#"{{"resultant_image_id":"{id}"}}"#));
        let rootfs = site.s3.requests().into_iter().find(|asked| asked.line.starts_with("PUT")).unwrap();
        assert_eq!(rootfs.headers["x-amz-meta-x-shasta-ims-job-id"], JOB);
    }
}

#[test]
fn urls_can_be_options_and_the_job_a_variable() {
    let site = Site::start();
    let token_url = format!("{}/token", site.service.url);
    let args = [
        "ims",
        "n",
        "-r",
        "rootfs.sqsh",
        "-k",
        "vmlinuz",
        "-i",
        "initramfs",
        "--ims-url",
        &site.service.url,
        "--token-url",
        &token_url,
    ];
    let mut command = site.command(&args);
    command.env_remove("OAUTH_CONFIG_DIR").env_remove("IMS_URL").env("IMS_JOB_ID", JOB);
    command.env("OAUTH_CLIENT_ID", "admin-client").env("OAUTH_CLIENT_SECRET", "not-a-real-secret");
    command.env_remove("S3_ENDPOINT").env("S3_HOST", &site.s3.url);
    let document = crate::Run::of(command.output().unwrap()).done();
    assert_eq!(document["ims_job_record"]["id"], JOB);
}

#[test]
fn a_job_status_is_set_and_a_refusal_is_told_in_the_services_words() {
    let site = Site::start();
    let document = site.publish(&["ims-job-status", JOB, "packaging_artifacts"]).done();
    assert_eq!(document, json!({ "ims_job_record": site.service.job(), "result": "success" }));
    assert_eq!(site.service.job()["status"], "packaging_artifacts");
    assert_eq!(site.service.requests()[1].body, r#"{"status":"packaging_artifacts"}"#);

    site.publish(&["ims-job-status", &JOB.to_uppercase(), "error"]).done();
    let run = site.publish(&["ims-job-status", JOB, "nonsense"]);
    run.failed("(status: Job state must be one of: creating, packaging_artifacts, success, error.)");
    let unknown = JOB.replace('d', "e");
    site.publish(&["ims-job-status", &unknown, "error"]).failed("404 Not Found: Requested resource does not exist.");
    assert_eq!(site.publish(&["ims-job-status", "building_image"]).status, 2);
    assert_eq!(site.publish(&["ims-job-status", "notauuid", "error"]).status, 2);
}

#[test]
fn large_files_go_in_parts_and_are_whole_on_the_other_side() {
    let site = Site::start();
    // As recorded: 20 MiB, exactly 8 MiB, one byte less.
    let sizes = [("rootfs.sqsh", 20 << 20), ("vmlinuz", 8 << 20), ("initramfs", (8 << 20) - 1)];
    let contents = sizes.map(|(name, size)| {
        let content = squashfs(size);
        site.file(name, &content);
        content
    });
    let document = site.ims("multipart", &[]).done();
    let id = id_of(&document);
    for ((key, content), parts) in ["rootfs", "kernel", "initrd"].into_iter().zip(&contents).zip([3, 1, 0]) {
        assert!(site.s3.object(&format!("{id}/{key}")) == *content, "{key}");
        let of_part = format!("PUT /boot-images/{id}/{key}?partNumber=");
        assert_eq!(site.s3.requests().iter().filter(|asked| asked.line.starts_with(&of_part)).count(), parts, "{key}");
    }
    let etags: Vec<&str> =
        (0..3).map(|at| document["ims_image_artifacts"][at]["link"]["etag"].as_str().unwrap()).collect();
    assert!(etags[0].ends_with("-3") && etags[1].ends_with("-1") && etags[2] == hex_md5(&contents[2]), "{etags:?}");
    assert_eq!(site.s3.open_parts(), 0);
}

#[test]
fn an_image_that_is_there_is_taken_when_name_architecture_and_content_are_the_same() {
    let site = Site::start();
    let first = id_of(&site.ims("skip me", &["--skip-existing"]).done());
    site.s3.forget();
    site.service.forget();
    let document = site.ims("skip me", &["--skip-existing", "--metadata", "stage=prod"]).done();
    assert_eq!((id_of(&document), &document["ims_image_artifacts"]), (first.clone(), &json!([])));
    assert_eq!(document["ims_image_record"]["metadata"], json!({ "stage": "prod" }));
    assert!(site.s3.lines(&first).iter().all(|line| !line.starts_with("PUT")));
    assert!(site.service.lines(&first).iter().all(|line| !line.starts_with("POST /images")));

    assert_ne!(id_of(&site.ims("skip me", &["--skip-existing", "--arch", "aarch64"]).done()), first);
    assert_ne!(id_of(&site.ims("other", &["--skip-existing"]).done()), first);
    std::fs::remove_file(site.s3.root().join("boot-images").join(&first).join("kernel")).unwrap();
    assert_ne!(id_of(&site.ims("skip me", &["--skip-existing"]).done()), first);
    site.file("vmlinuz", &content(9001));
    site.ims("skip me", &["--skip-existing"]).done();
    assert_eq!(site.service.images().len(), 5);
}

#[test]
fn metadata_is_set_one_entry_at_a_time() {
    let site = Site::start();
    let document = site.ims("n", &["--metadata", "owner=me", "--metadata", "stage=a=b"]).done();
    assert_eq!(document["ims_image_record"]["metadata"], json!({ "owner": "me", "stage": "a=b" }));
    let bodies: Vec<String> = site.service.requests().into_iter().map(|asked| asked.body).collect();
    assert_eq!(bodies[4], r#"{"metadata":{"key":"owner","operation":"set","value":"me"}}"#);
}

#[test]
fn a_dry_run_prints_the_plan_and_contacts_nobody() {
    let site = Site::start();
    let document = site.ims("n", &["--dry-run"]).done();
    assert_eq!(
        document["uploads"][0],
        json!({ "file": "rootfs.sqsh", "parts": 1, "size": 20_000, "to": "s3://boot-images/IMAGE-ID/rootfs" })
    );
    assert_eq!(document["manifest"]["artifacts"].as_array().unwrap().len(), 3);
    assert!(site.service.requests().is_empty() && site.s3.requests().is_empty());
}

#[test]
fn whether_certificates_are_checked_is_said_in_words_or_by_a_file() {
    let site = Site::start();
    for (variable, value, words) in [
        ("S3_SSL_VERIFY", "true", None),
        ("S3_SSL_VERIFY", "False", None),
        ("S3_SSL_VALIDATE", "off", None),
        ("S3_SSL_VERIFY", "authority.pem", Some("authority.pem")),
        ("CA_CERT", "authority.pem", Some("authority.pem")),
    ] {
        let mut command = site.command(&["ims", "n", "-r", "rootfs.sqsh"]);
        let run = crate::Run::of(command.env(variable, value).output().unwrap());
        match words {
            Some(words) => drop(run.failed(words)),
            None => drop(run.done()),
        }
    }
}
