//! Who may do what, and that nobody learns a secret.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use haversack::digest::Digest;

use crate::pushing::{begin, manifest_of, push, put};
use crate::server::{Answer, Serve, arg, image, layout};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn users(dir: &Path, users: &[(&str, &str)]) -> String {
    let line = |(user, password): &(&str, &str)| format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
    let path = dir.join("users");
    std::fs::write(&path, format!("# users\n{}", users.iter().map(line).collect::<String>())).unwrap();
    path.to_str().unwrap().to_owned()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// Serves with the password `x` of `ann`, whose check takes a tenth of a second and more.
fn slow_to_check(dir: &Path) -> Serve {
    let store = layout(dir, "store");
    let path = dir.join("users");
    std::fs::write(&path, format!("ann:{}\n", bcrypt::hash("x", 11).unwrap())).unwrap();
    Serve::start(&[arg(&store), "--htpasswd", path.to_str().unwrap()])
}

fn send(serve: &Serve, method: &str, path: &str, who: &str, body: &[u8]) -> Answer {
    let mut headers = vec![("Content-Type", MANIFEST)];
    headers.extend((!who.is_empty()).then_some(("Authorization", who)));
    serve.send(method, path, &headers, body)
}

#[test]
fn passwords_are_asked_for_and_checked_and_in_no_log() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"x"), Some("a/b:1")).unwrap();
    let file = users(dir.path(), &[("ann", "se:cret"), ("bob", "other")]);
    let serve = Serve::start(&[arg(&store), "--htpasswd", &file]);
    let (ann, wrong, nobody) = (basic("ann", "se:cret"), basic("ann", "other"), basic("eve", "se:cret"));
    for (who, status) in [
        ("", 401),
        (wrong.as_str(), 401),
        (nobody.as_str(), 401),
        ("Basic !", 401),
        ("Bearer x", 401),
        (ann.as_str(), 200),
    ] {
        for path in ["/v2/", "/v2/a/b/manifests/1", "/v2/_catalog", "/metrics"] {
            let answer = send(&serve, "GET", path, who, b"");
            assert_eq!(answer.status, status, "{path} {who}");
            assert_eq!(answer.header("www-authenticate").starts_with("Basic realm="), status == 401);
            assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
        }
    }
    assert_eq!(serve.get("/healthz").status, 200);
    // Another user from now on, without a restart.
    users(dir.path(), &[("carl", "new")]);
    assert_eq!(send(&serve, "GET", "/v2/", &basic("carl", "new"), b"").status, 200);
    assert_eq!(send(&serve, "GET", "/v2/", &ann, b"").status, 401);
    // A file that is none keeps those who were there.
    std::fs::write(&file, "dora:{SHA}x").unwrap();
    assert_eq!(send(&serve, "GET", "/v2/", &basic("dora", "x"), b"").status, 401);
    assert_eq!(send(&serve, "GET", "/v2/", &basic("carl", "new"), b"").status, 200);
    let log = serve.log_with("the users stay as they were");
    assert!(log.contains(" ann GET /v2/a/b/manifests/1 200"), "{log}");
    for secret in ["se:cret", ann.strip_prefix("Basic ").unwrap(), "$2b$"] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn a_user_who_may_not_push_can_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let file = users(dir.path(), &[("ci", "x"), ("reader", "x")]);
    let serve =
        Serve::start(&["--writable", arg(&store), "--htpasswd", &file, "--anonymous-pull", "--push", "ci=team"]);
    let (ci, reader) = (basic("ci", "x"), basic("reader", "x"));
    let start = send(&serve, "POST", "/v2/team/app/blobs/uploads/", &ci, b"");
    assert_eq!(start.status, 202);
    let session = start.header("location").to_owned();
    let blob = Digest::sha256(b"blob");
    let pushed = send(&serve, "POST", &format!("/v2/team/app/blobs/uploads/?digest={blob}"), &ci, b"blob");
    assert_eq!(pushed.status, 201);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{blob}","size":4}},"layers":[]}}"#
    );
    assert_eq!(send(&serve, "PUT", "/v2/team/app/manifests/latest", &ci, manifest.as_bytes()).status, 201);
    // podman sends the second when it knows no user.
    for (who, status) in [("", 401), (&*basic("", ""), 401), (reader.as_str(), 403)] {
        for (method, path) in [
            ("PUT", "/v2/team/app/manifests/latest".to_owned()),
            ("PUT", format!("/v2/team/app/manifests/{}?tag=latest", Digest::sha256(&manifest))),
            ("DELETE", "/v2/team/app/manifests/latest".to_owned()),
            ("DELETE", format!("/v2/team/app/blobs/{blob}")),
            ("POST", format!("/v2/other/blobs/uploads/?mount={blob}&from=team/app")),
            ("POST", format!("/v2/other/blobs/uploads/?digest={blob}")),
            ("PATCH", session.clone()),
            ("PUT", format!("{session}?digest={blob}")),
            ("DELETE", session.clone()),
            ("GET", session.clone()),
        ] {
            let answer = send(&serve, method, &path, who, manifest.as_bytes());
            assert_eq!(answer.status, status, "{method} {path}");
        }
        assert_eq!(send(&serve, "GET", "/v2/team/app/manifests/latest", who, b"").status, 200);
    }
    // Who may push to some repositories may not push to others.
    let denied = send(&serve, "POST", "/v2/teams/app/blobs/uploads/", &ci, b"");
    assert_eq!((denied.status, denied.error().1.as_str()), (403, "DENIED"));
    assert_eq!(send(&serve, "GET", "/v2/", "", b"").status, 200);
    assert_eq!(send(&serve, "GET", "/v2/", &basic("ci", "wrong"), b"").status, 401);
    assert!(!serve.log_with("403").contains(session.rsplit('/').next().unwrap()));
}

#[test]
fn those_who_guess_are_told_to_wait_and_those_who_know_wait_once() {
    let dir = tempfile::tempdir().unwrap();
    let serve = slow_to_check(dir.path());
    let ann = basic("ann", "x");
    assert_eq!(send(&serve, "GET", "/v2/", &ann, b"").status, 200);
    let started = Instant::now();
    for _ in 0..200 {
        assert_eq!(send(&serve, "GET", "/v2/", &ann, b"").status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    users(dir.path(), &[("ann", "x")]);
    let guess = |n: usize| send(&serve, "GET", "/v2/", &basic("ann", &n.to_string()), b"");
    let statuses: Vec<u16> = (0..25).map(|n| guess(n).status).collect();
    assert_eq!((statuses[19], statuses[20]), (401, 429));
    assert_eq!(guess(99).header("retry-after"), "60");
}

#[test]
fn all_connections_of_a_client_cost_one_check_of_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let serve = slow_to_check(dir.path());
    let ann = basic("ann", "x");
    let checks = || {
        let metrics = String::from_utf8(send(&serve, "GET", "/metrics", &ann, b"").body).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("haversack_password_checks_total "));
        line.map(str::to_owned)
    };
    // A client begins with as many as it may have, before the first is answered.
    let start = std::sync::Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(send(&serve, "GET", "/v2/", &ann, b"").status, 200);
            });
        }
    });
    assert_eq!(checks().as_deref(), Some("1"));
    assert_eq!(send(&serve, "GET", "/v2/", &basic("ann", "y"), b"").status, 401);
    assert_eq!(checks().as_deref(), Some("2"));
}

#[test]
fn what_other_sites_make_a_browser_send_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = Serve::start(&["--writable", arg(&store), "--name", "bastion.example:5000"]);
    let own = format!("http://{}", serve.address);
    for (header, value, status) in [
        ("Sec-Fetch-Site", "cross-site", 403),
        ("Sec-Fetch-Site", "same-site", 403),
        ("Sec-Fetch-Site", "same-origin", 202),
        ("Origin", "https://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", own.as_str(), 202),
        ("X", "y", 202),
    ] {
        let answer = serve.send("POST", "/v2/a/b/blobs/uploads/", &[(header, value)], b"");
        assert_eq!(answer.status, status, "{header}: {value}");
        assert!(answer.headers.keys().all(|name| !name.starts_with("access-control-")));
    }
    // A name that somebody else's DNS leads here.
    for (host, status) in [
        ("evil.example", 403),
        ("localhost:5000", 202),
        ("[::1]:5000", 202),
        ("bastion.example", 403),
        ("bastion.example:5000", 202),
    ] {
        let text = format!("POST /v2/a/b/blobs/uploads/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(serve.raw(text.as_bytes(), false).status, status, "{host}");
    }
}

#[test]
fn metrics_count_and_hold_nothing_of_clients() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = Serve::start(&["--writable", arg(&store)]);
    let manifest = manifest_of(&serve, "a/b", b"layer");
    assert_eq!(put(&serve, "a/b/manifests/1", MANIFEST, &manifest).status, 201);
    push(&serve, "a/b", b"more");
    let session = begin(&serve, "a/b");
    assert_eq!(serve.send("BREW", "/v2/", &[], b"").status, 405);
    let metrics = || String::from_utf8(serve.get("/metrics").body).unwrap();
    let mut text = metrics();
    // Connections that were closed here are counted until the other side has seen it.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !text.contains("haversack_connections 1\n") && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(20));
        text = metrics();
    }
    for line in [
        "haversack_requests_total{method=\"POST\",status=\"201\"} 3\n",
        "haversack_requests_total{method=\"OTHER\",status=\"405\"} 1\n",
        "haversack_tags 1\n",
        "\nhaversack_connections ",
        "# TYPE haversack_requests_total counter\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("BREW") && !text.contains(session.rsplit('/').next().unwrap()));
    assert_eq!(serve.get("/readyz").status, 200);
}

#[test]
fn passwords_in_plain_and_half_a_certificate_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let file = users(dir.path(), &[("ann", "x")]);
    let bad = dir.path().join("bad");
    std::fs::write(&bad, "ann:x\n").unwrap();
    for (args, status, words) in [
        (vec!["--listen", "0.0.0.0:0", "--htpasswd", file.as_str()], 2, "passwords would be sent for everybody"),
        (vec!["--htpasswd", bad.to_str().unwrap()], 1, "line 1: expected USER:HASH"),
        (vec!["--tls-cert", file.as_str()], 2, "--tls-key"),
        (vec!["--tls-cert", file.as_str(), "--tls-key", file.as_str()], 1, "no certificate in PEM"),
        (vec!["--anonymous-pull"], 2, "--htpasswd"),
    ] {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("haversack"));
        command.args(["serve", arg(&store)]).args(&args);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(status) && text.contains(words), "{args:?}: {text}");
    }
}

#[test]
#[ignore = "needs openssl, curl and skopeo; they judge the certificate, and log in"]
fn others_trust_the_own_authority_and_the_certificate_made_by_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"x"), Some("a/b:1")).unwrap();
    let file = users(dir.path(), &[("ann", "x")]);
    let authority = dir.path().join("authority");
    let args = ["--tls-self-signed", authority.to_str().unwrap(), "--name", "bastion.example:5000"];
    let crt = authority.join("ca.crt");
    let crt = crt.to_str().unwrap();
    let mut first = Vec::new();
    // The second start has another certificate of the same authority.
    for _ in 0..2 {
        let serve = Serve::start(&[&["--writable", arg(&store), "--htpasswd", &file], &args[..]].concat());
        let read = std::fs::read(crt).unwrap();
        assert!(first.is_empty() || first == read);
        first = read;
        for name in ["bastion.example", "localhost", "127.0.0.1"] {
            let kind = if name.starts_with("127") { "-verify_ip" } else { "-verify_hostname" };
            let output = Command::new("openssl")
                .args(["s_client", "-connect", &serve.address, "-CAfile", crt, "-verify_return_error", "-x509_strict"])
                .args([kind, name, "-alpn", "h2,http/1.1"])
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("Verify return code: 0 (ok)") && text.contains("ALPN protocol: http/1.1"), "{text}");
        }
        let url = format!("https://{}/v2/a/b/manifests/1", serve.address);
        let curl = |args: &[&str]| Command::new("curl").args(["-sS", "--cacert", crt]).args(args).output().unwrap();
        let output = curl(&["-u", "ann:x", "-w", "%{http_code}", "-o", "/dev/null", &url]);
        assert_eq!(output.stdout, b"200", "{output:?}");
        // When it ends is said as openssl reads it.
        let shown = format!(
            "openssl s_client -connect {} </dev/null 2>/dev/null | openssl x509 -noout -enddate",
            serve.address
        );
        let output = Command::new("sh").args(["-c", &format!("{shown} -dateopt iso_8601")]).output().unwrap();
        let ends = String::from_utf8(output.stdout).unwrap().trim().replace("notAfter=", "").replace(' ', "T");
        let state = curl(&["-u", "ann:x", &format!("https://{}/api/v1/state", serve.address)]).stdout;
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        assert_eq!(state["certificate"]["ends"], serde_json::json!(ends), "{state}");
        assert!((364..=365).contains(&state["certificate"]["days"].as_i64().unwrap()), "{state}");
        let metrics = curl(&["-u", "ann:x", &format!("https://{}/metrics", serve.address)]).stdout;
        assert!(String::from_utf8(metrics).unwrap().contains("\nhaversack_certificate_end_seconds 1"));
        let plain = serve.raw(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", false);
        assert_eq!(plain.status, 0);
        // Half a greeting keeps nobody out.
        let mut half = serve.connect();
        std::io::Write::write_all(&mut half, &[0x16, 3, 1]).unwrap();
        let certs = dir.path().join("certs");
        std::fs::create_dir_all(&certs).unwrap();
        std::fs::copy(crt, certs.join("ca.crt")).unwrap();
        let target = format!("docker://{}/a/copy:1", serve.address);
        let source = format!("docker://{}/a/b:1", serve.address);
        let certs = certs.to_str().unwrap();
        let output = Command::new("skopeo")
            .args(["copy", "--preserve-digests", "--src-cert-dir", certs, "--dest-cert-dir", certs])
            .args(["--src-creds", "ann:x", "--dest-creds", "ann:x", &source, &target])
            .env("HOME", dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        half.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert!(half.read(&mut [0; 1]).is_err());
    }
}
