//! Settings that make no sense or do not fit the server: what is said, and what to do.

use axum::http::Method;

use crate::s3::{Act, DOMAIN};
use crate::{Run, Site, haversack, squashfs};

const ROOTFS: [&str; 4] = ["ims", "n", "-r", "rootfs.sqsh"];

#[test]
fn addresses_without_a_scheme_or_with_secrets_are_refused_in_words() {
    let site = Site::start();
    for (option, url, words) in [
        ("--url", "host/artifactory", "write https://host/artifactory"),
        ("--url", "localhost:8081/artifactory", "write https://localhost:8081/artifactory"),
        ("--url", "ftp://host/artifactory", "expected https://HOST or http://HOST"),
        ("--url", "https://me:pass@host/artifactory", "everybody on the machine can read them"),
        ("--ims-url", "api-gw.local/apis/ims", "write https://api-gw.local/apis/ims"),
        ("--token-url", "localhost:8080", "write https://localhost:8080"),
    ] {
        let run = match option {
            "--url" => site.publish(&["artifactory", ".", "--repo", "r", option, url]),
            _ => site.publish(&[&ROOTFS[..], &[option, url]].concat()),
        };
        assert!(run.status == 2 && run.stderr.contains(words), "{url}: {} {}", run.status, run.stderr);
    }
    let mut command = site.command(&ROOTFS);
    let run = Run::of(command.env("IMS_URL", "api-gw.local/apis/ims").output().unwrap());
    assert!(run.status == 2 && run.stderr.contains("write https://api-gw.local/apis/ims"), "{}", run.stderr);
    let mut command = haversack(site.path("").as_path());
    let args = ["publish", "artifactory", ".", "--url", "https://h", "--repo"];
    assert_eq!(command.args(args).arg("/").output().unwrap().status.code(), Some(2));
}

#[test]
fn what_is_odd_is_said_whatever_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rootfs"), squashfs(300)).unwrap();
    let mut command = haversack(dir.path());
    command.args(["--offline", "--quiet", "publish", "ims", "n", "-r", "rootfs", "--ims-url", "http://ims.example"]);
    command.env("HAVERSACK_LOG", "off").env("OAUTH_CLIENT_ENDPOINT", "https://tokens.example");
    command.env("OAUTH_CLIENT_ID", "id").env("OAUTH_CLIENT_SECRET", "secret").env("S3_ENDPOINT", "https://s3.example");
    let run = command.env("S3_BUCKET", "b").env("S3_ACCESS_KEY", "a").env("S3_SECRET_KEY", "k").output().unwrap();
    let run = Run::of(run);
    let warnings: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(
        warnings,
        [
            "warning: the image has no kernel and no initrd, so that no node boots it: give `--kernel` and `--initrd`",
            "warning: http://ims.example/: secrets and tokens are sent there without TLS"
        ],
        "{}",
        run.stderr
    );
    assert_eq!(run.status, 1, "{}", run.stdout);
}

#[test]
fn a_root_file_system_that_is_no_squashfs_is_refused_before_anybody_is_contacted() {
    let dir = tempfile::tempdir().unwrap();
    let (none, cut_off) = (
        "not a squashfs, which the root file system of an image has to be\n\
         hint: make one with `mksquashfs DIR FILE`, or of a container image with `--from REF`\n",
        "the squashfs is cut off: 4999 of its 5000 bytes are there\n\
         hint: bring the file again, or make it anew; where it was copied, the copy was not whole\n",
    );
    let whole = squashfs(5000);
    let mut older = whole.clone();
    older[28] = 3;
    for (content, said) in [
        (&b"no squashfs"[..], none),
        (b"hsq", none),
        (&[&b"sqsh"[..], &whole[4..]].concat(), none),
        (&[&b"hsqs"[..], &[0; 200]].concat(), none),
        (&whole[..95], none),
        (&older, none),
        (&whole[..4999], cut_off),
    ] {
        std::fs::write(dir.path().join("rootfs"), content).unwrap();
        let mut command = haversack(dir.path());
        let run = Run::of(command.args(["publish", "ims", "n", "-r", "rootfs", "--dry-run"]).output().unwrap());
        assert_eq!((run.status, run.stderr), (1, format!("error: rootfs: {said}")), "{content:?}");
    }
    // Devices are as large as they are: what lies behind it is no fault. Credentials of registries play no part where there is none.
    std::fs::write(dir.path().join("rootfs"), [&whole[..], &[0; 4096]].concat()).unwrap();
    let local = [
        "publish",
        "ims",
        "n",
        "-r",
        "rootfs",
        "-k",
        "rootfs",
        "-i",
        "rootfs",
        "--dry-run",
        "--authfile",
        "nowhere.json",
    ];
    let run = Run::of(haversack(dir.path()).args(local).output().unwrap());
    assert_eq!((run.status, &*run.stderr), (0, ""));
    let remote =
        ["publish", "ims", "n", "--from", "docker://127.0.0.1:9/live:1", "-k", "x", "--authfile", "nowhere.json"];
    let run = Run::of(haversack(dir.path()).args(remote).arg("--dry-run").output().unwrap());
    assert_eq!(
        (run.status, &*run.stderr),
        (
            1,
            "error: cannot read nowhere.json\n  because: No such file or directory (os error 2)\nhint: check that nowhere.json and \
             the directories above it exist\n"
        )
    );
}

#[test]
fn what_the_store_refuses_is_explained() {
    let wrong_region = r#"<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong;
        expecting 'eu-west-1'</Message><Region>eu-west-1</Region></Error>"#;
    let redirect = r#"<Error><Code>PermanentRedirect</Code><Message>use the endpoint</Message>
        <Endpoint>boot-images.s3.eu-west-1.amazonaws.com</Endpoint><Bucket>boot-images</Bucket></Error>"#;
    let token = "<Error><Code>InvalidToken</Code><Message>The provided token is malformed</Message></Error>";
    for (status, body, words) in [
        (400, wrong_region, "hint: the bucket is elsewhere: give `--s3-region eu-west-1`\n"),
        (301, redirect, "`--s3-endpoint https://boot-images.s3.eu-west-1.amazonaws.com`"),
        (400, token, "hint: the token in S3_SESSION_TOKEN or AWS_SESSION_TOKEN is old, or of other keys"),
    ] {
        let site = Site::start();
        site.s3.fault(Method::HEAD, "/boot-images", 1, Act::Answer(status, ""));
        site.s3.fault(Method::GET, "/boot-images", 1, Act::Answer(status, body));
        let run = site.publish(&ROOTFS);
        assert!(run.status == 1 && run.stderr.contains(words), "{}", run.stderr);
        assert!(site.is_clean());
    }
}

#[test]
fn a_bucket_is_a_name_and_a_server_without_tls_is_told() {
    let site = Site::start();
    for bucket in ["boot-images/sub", "s3://boot-images", "/boot-images"] {
        let run = site.publish(&[&ROOTFS[..], &["--s3-bucket", bucket]].concat());
        run.failed("a bucket's name has no slash");
        assert!(run.stderr.contains("hint: give only the bucket's name, `boot-images`"), "{}", run.stderr);
    }
    let bare = site.s3.url.trim_start_matches("http://");
    let run = site.publish(&[&ROOTFS[..], &["--s3-endpoint", bare]].concat());
    run.failed("cannot connect");
    assert!(run.stderr.contains("where it speaks no TLS, write its address with http://"), "{}", run.stderr);
}

#[test]
fn a_token_and_a_region_go_with_their_own_keys_only() {
    for (is_aws, expected, region) in [(true, Some("t0ken"), "/eu-west-3/s3/"), (false, None, "/us-east-1/s3/")] {
        let site = Site::start();
        let mut command = site.command(&ROOTFS);
        command.env("AWS_SESSION_TOKEN", "t0ken").env("AWS_DEFAULT_REGION", "eu-west-3");
        if is_aws {
            command.env_remove("S3_ACCESS_KEY").env("AWS_ACCESS_KEY_ID", "test");
        }
        Run::of(command.output().unwrap()).done();
        let asked = site.s3.requests();
        let token = asked[0].headers.get("x-amz-security-token").map(|token| token.to_str().unwrap());
        assert_eq!(token, expected);
        assert!(asked[0].headers["authorization"].to_str().unwrap().contains(region));
        // Older servers take no body without a length.
        for put in asked.iter().filter(|asked| asked.line.starts_with("PUT")) {
            assert!(put.headers.contains_key("content-length") && !put.headers.contains_key("transfer-encoding"));
        }
    }
}

#[test]
fn a_bucket_before_the_hosts_name_is_signed_and_asked_there() {
    let site = Site::start();
    let endpoint = format!("http://{DOMAIN}");
    let args = ["--s3-addressing", "virtual", "--s3-endpoint", &endpoint];
    let mut command = site.command(&[&ROOTFS[..], &["-k", "vmlinuz"], &args].concat());
    // Nobody resolves that name: a proxy is asked, which is the store.
    command.env("HTTP_PROXY", &site.s3.url).env("NO_PROXY", "127.0.0.1");
    let document = Run::of(command.output().unwrap()).done();
    let id = document["ims_image_record"]["id"].as_str().unwrap().to_owned();
    assert_eq!(site.s3.keys().len(), 3);
    for asked in site.s3.requests() {
        assert_eq!(asked.headers["host"], format!("boot-images.{DOMAIN}").as_str());
        assert!(!asked.line.contains("/boot-images"), "{}", asked.line);
    }
    assert!(site.s3.requests().iter().any(|asked| asked.line == format!("PUT /{id}/kernel")));

    let run = site.publish(&[&ROOTFS[..], &["--s3-addressing", "virtual"]].concat());
    run.failed("virtual addressing needs a server with a name");
}

#[test]
fn kernel_parameters_may_be_none() {
    let site = Site::start();
    site.file("boot_params", b"");
    let document = site.publish(&[&ROOTFS[..], &["-p", "boot_params"]].concat()).done();
    let id = document["ims_image_record"]["id"].as_str().unwrap().to_owned();
    assert_eq!(site.s3.object(&format!("{id}/boot_parameters")), b"");
    assert_eq!(document["ims_image_artifacts"][1]["md5"], "d41d8cd98f00b204e9800998ecf8427e");
}
