//! `haversack doctor`: each fault that newcomers meet is a line that says what to do next. No test asks another machine.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::docker_registry::DockerRegistry;
use crate::{command, said};

/// Status and the checks, each as `state check: found` and what to do next.
fn examined(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, Vec<(String, Option<String>)>) {
    let mut command = command(dir, &[&["doctor", "--json"], args].concat());
    command
        .env("PATH", dir)
        .env("TMPDIR", dir)
        .env("NO_PROXY", "127.0.0.1")
        .env("REGISTRY_AUTH_FILE", dir.join("auth.json"));
    // What would be asked on another machine.
    for variable in
        ["HAVERSACK_API", "HAVERSACK_CHARTS", "HAVERSACK_REDHAT_API", "HAVERSACK_REDHAT_SSO", "HAVERSACK_GRAPH"]
    {
        command.env(variable, "http://127.0.0.1:9/");
    }
    let Output { status, stdout, stderr } = command.envs(environment.iter().copied()).output().unwrap();
    let report: Value =
        serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)));
    let checks = report["checks"].as_array().unwrap();
    let count = |state: &str| checks.iter().filter(|check| check["state"] == state).count();
    for (field, state) in [("failed", "fail"), ("warned", "warn"), ("skipped", "skip"), ("noted", "note")] {
        assert_eq!(report[field], json!(count(state)), "{field}");
    }
    assert_eq!(status.code(), Some(if count("fail") == 0 { 0 } else { 3 }));
    let text = |check: &Value, key: &str| check[key].as_str().map(str::to_owned);
    let line = |check: &Value| {
        let [state, name, found] = ["state", "check", "found"].map(|key| text(check, key).unwrap());
        (format!("{state} {name}: {found}"), text(check, "next"))
    };
    (status.code(), checks.iter().map(line).collect())
}

/// The checks of a name that are not well.
fn of<'a>(checks: &'a [(String, Option<String>)], name: &str) -> Vec<(&'a str, &'a str)> {
    let of_name = checks.iter().filter(|(line, _)| line.split(':').next().unwrap().ends_with(name));
    of_name.map(|(line, next)| (line.as_str(), next.as_deref().unwrap_or_default())).collect()
}

/// A server that gives every request this answer; its address.
fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn an_offline_doctor_asks_nobody_and_says_what_it_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let (status, checks) = examined(dir.path(), &["--offline", "r.example:5000"], &[]);
    let names: Vec<&str> = checks.iter().map(|(line, _)| line.split([' ', ':']).nth(1).unwrap()).collect();
    let kinds = ["program", "clock", "room", "room", "room", "trust", "proxy", "credentials"];
    assert!(names.starts_with(&kinds) && names.ends_with(&["registry", "podman"]), "{names:?}");
    assert!(names[kinds.len()..names.len() - 2].iter().all(|name| *name == "source"), "{names:?}");
    assert_eq!(status, Some(0), "{checks:?}");
    assert!(
        checks
            .iter()
            .all(|(line, _)| line.starts_with("skip ") == line.contains(": not asked, ") || line.contains("clock"))
    );
    let clock = of(&checks, "clock");
    let compared = "Z; not compared, because no server said what time it is there";
    assert!(clock[0].0.starts_with("skip clock: ") && clock[0].0.ends_with(compared), "{clock:?}");
    let offline = "skip registry: r.example:5000: not asked, because this run is offline";
    assert_eq!(of(&checks, "registry"), [(offline, "")]);
    let version = concat!("ok program: haversack ", env!("CARGO_PKG_VERSION"));
    assert!(checks[0].0.starts_with(version) && checks[0].0.ends_with("; no configuration file"), "{checks:?}");
    let none = format!("ok credentials: none; looked for in {}", dir.path().join("auth.json").display());
    assert_eq!(of(&checks, "credentials"), [(none.as_str(), "")]);
    let without = "install podman where images are to be run; haversack itself does not need it";
    assert_eq!(of(&checks, "podman"), [("warn podman: not installed", without)]);
}

#[test]
fn lines_are_for_people_and_the_status_is_three_when_something_failed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("mirror")).unwrap();
    let (status, lines, talk) = said(dir.path(), &["doctor", "--offline", "mirror"]);
    assert_eq!(status, Some(3), "{lines}");
    let layout = "fail  layout       mirror: not an OCI image layout\n      next: `haversack verify oci:mirror` names all that is wrong; \
                  copy the image there again\n";
    assert!(lines.contains(layout), "{lines}");
    let count = lines.lines().filter(|line| !line.starts_with("      next: ")).count();
    let skipped = lines.lines().filter(|line| line.starts_with("skip  ")).count();
    assert!(skipped > 1 && talk.starts_with(&format!("{count} checks: 1 failed, ")), "{talk}");
    assert!(talk.ends_with(&format!(", {skipped} skipped\n")), "{talk}");
    let (status, _, talk) = said(dir.path(), &["doctor", "nothing"]);
    let why = "expected a registry (HOST[:PORT]), the directory of a layout or a URL; there is no directory `nothing`";
    assert!(status == Some(2) && talk.contains(why), "{talk}");
}

#[test]
fn sources_that_do_not_answer_fail_when_somebody_chose_them() {
    let dir = tempfile::tempdir().unwrap();
    let healthy = format!("http://{}/", server("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    let [missing, locked] = ["404 Not Found", "401 Unauthorized"].map(|status| {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        format!("http://{}/", server(answer.leak()))
    });
    let broken =
        format!("http://{}/", server("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    let plain = format!("https://{}/", healthy.trim_start_matches("http://").trim_end_matches('/'));
    let (status, checks) = examined(dir.path(), &[&healthy, &broken, &plain, &missing, &locked], &[]);
    assert_eq!(status, Some(3));
    let sources = of(&checks, "source");
    assert_eq!(sources[0], (&*format!("ok source: {healthy} (named here): answers"), ""));
    let trouble = "the server, or a proxy on the way, is in trouble: try again later";
    assert_eq!(sources[1], (&*format!("fail source: {broken} (named here): 502 Bad Gateway"), trouble));
    assert!(sources[2].0.starts_with(&format!("fail source: {plain} (named here): cannot connect: ")), "{sources:?}");
    assert!(
        sources[2].1.starts_with("add the certificate authority of 127.0.0.1 with `--ca-file FILE`"),
        "{sources:?}"
    );
    let below = "the server is there; commands ask for what is below this address: check its path if they find nothing";
    assert_eq!(sources[3], (&*format!("note source: {missing} (named here): answers 404 Not Found"), below));
    let let_in = "the server is there; whether it lets the command in shows when that runs";
    assert_eq!(sources[4], (&*format!("note source: {locked} (named here): answers 401 Unauthorized"), let_in));
    let refused =
        "fail source: http://127.0.0.1:9/ (catalog snapshot --api): cannot connect: Connection refused (os error 111)";
    assert_eq!(sources[5].0, refused);
    assert!(sources[5].1.starts_with("check that 127.0.0.1 can be reached from here"), "{sources:?}");
    assert_eq!(sources.len(), 6, "asked once: {sources:?}");
}

#[test]
fn a_clock_that_is_wrong_is_seen_by_that_of_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let old = server(
        "HTTP/1.1 200 OK\r\nDate: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let (status, checks) = examined(dir.path(), &[&format!("http://{old}/")], &[]);
    let clock = of(&checks, "clock");
    assert_eq!(status, Some(3));
    assert!(clock[0].0.starts_with("fail clock: 2") && clock[0].0.ends_with(&format!(" s off {old}")), "{clock:?}");
    assert!(clock[0].1.starts_with("set the clock"), "{clock:?}");
}

#[test]
fn credentials_are_named_without_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    let shown = path.display();
    let examine = |text: &str, mode: u32| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let (status, checks) = examined(dir.path(), &["--offline"], &[]);
        let found = of(&checks, "credentials");
        (status, found[0].0.to_owned(), found[0].1.to_owned())
    };
    // me:secret
    let some = r#"{ "auths": { "r.example": { "auth": "bWU6c2VjcmV0" } } }"#;
    assert_eq!(examine(some, 0o600), (Some(0), format!("ok credentials: {shown}: for r.example"), String::new()));
    let open = (
        Some(0),
        format!("warn credentials: {shown}: for r.example; others may read it"),
        format!("chmod 600 {shown}"),
    );
    assert_eq!(examine(some, 0o644), open);
    let (status, found, _) = examine("{", 0o600);
    let start = format!("fail credentials: {shown}: not a file of credentials: ");
    assert!(status == Some(3) && found.starts_with(&start), "{found}");
    let lacking = (
        Some(3),
        format!(
            "fail credentials: {shown}: for a.example (docker-credential-gone); the helper docker-credential-gone is not in PATH"
        ),
        format!("install docker-credential-gone, or take it out of {shown} and log in again"),
    );
    assert_eq!(examine(r#"{ "credHelpers": { "a.example": "gone" } }"#, 0o600), lacking);
}

#[test]
fn certificates_and_proxies_that_cannot_be_used_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (status, checks) = examined(
        dir.path(),
        &["--offline", "--ca-file", "gone.pem"],
        &[("HTTPS_PROXY", "http://me:secret@proxy.example:3128"), ("HTTP_PROXY", "http://")],
    );
    assert_eq!(status, Some(3));
    let trust = of(&checks, "trust");
    let (_, unasked) = examined(dir.path(), &["r.example", "--ca-file", "gone.pem"], &[]);
    let skipped = "skip registry: r.example: not asked, because the certificates to trust cannot be read (see trust)";
    assert_eq!(of(&unasked, "registry"), [(skipped, "")]);
    let gone = "fail trust: cannot open gone.pem: No such file or directory (os error 2)";
    assert_eq!(trust[1], (gone, "check that gone.pem and the directories above it exist"));
    assert_eq!(
        of(&checks, "proxy"),
        [
            ("ok proxy: HTTPS_PROXY: http://proxy.example:3128/", ""),
            ("fail proxy: HTTP_PROXY: not the address of a proxy", "write http://HOST:PORT"),
            ("ok proxy: NO_PROXY: 127.0.0.1", ""),
        ]
    );
}

#[test]
fn a_layout_that_lacks_a_layer_is_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("one")).unwrap();
    let definition = "name = \"x\"\n[[layers]]\nfiles = [{ dest = \"/f\", text = \"1\" }]\n";
    std::fs::write(dir.path().join("one/image.toml"), definition).unwrap();
    let (status, _, talk) = said(dir.path(), &["build", "one", "--no-sbom", "--output", "oci:store:x:1"]);
    assert_eq!(status, Some(0), "{talk}");
    let (status, checks) = examined(dir.path(), &["--offline", "store"], &[]);
    let whole = of(&checks, "layout");
    assert!(status == Some(0) && whole[0].0.starts_with("ok layout: store: 1 image, "), "{whole:?}");
    let manifest = said(dir.path(), &["inspect", "--json", "oci:store:x:1"]).1;
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let layer = manifest["images"][0]["layers"][0]["digest"].as_str().unwrap();
    std::fs::remove_file(dir.path().join("store/blobs/sha256").join(&layer["sha256:".len()..])).unwrap();
    let (status, checks) = examined(dir.path(), &["--offline", "oci:store"], &[]);
    let next = "`haversack verify oci:store` names all that is wrong; copy the image there again";
    assert_eq!(
        (status, of(&checks, "layout")),
        (Some(3), vec![(&*format!("fail layout: store: x:1: {layer} is not whole"), next)])
    );
}

#[test]
#[ignore = "needs docker-registry"]
fn registries_say_whether_they_let_us_in() {
    let (registry, dir) = (DockerRegistry::guarded("me", "secret"), tempfile::tempdir().unwrap());
    let host = registry.address.as_str();
    let auth = dir.path().join("auth.json");
    let registries = |password: &str, more: &[&str]| {
        let entry = |text: &str| format!(r#"{{ "auths": {{ "{host}": {{ "auth": "{text}" }} }} }}"#);
        if !password.is_empty() {
            std::fs::write(&auth, entry(password)).unwrap();
        }
        let (status, checks) = examined(dir.path(), &[&[host], more].concat(), &[]);
        let found = of(&checks, "registry");
        assert_eq!((status, found.len()), (Some(3), 1), "the sources are out of reach, and it is asked once");
        (found[0].0.to_owned(), found[0].1.to_owned())
    };
    let lax = ["--tls-verify=false"];
    let none = format!("ok registry: {host}: answers; there are no credentials for it");
    assert_eq!(registries("", &lax), (none, String::new()));
    assert_eq!(
        registries("bWU6c2VjcmV0", &lax),
        (format!("ok registry: {host}: answers and lets me in"), String::new())
    );
    let wrong = format!("fail registry: {host}: the user `me` is not let in with this password");
    let next = format!("log in again with `haversack login {host}`, or out with `haversack logout {host}`");
    assert_eq!(registries("bWU6d3Jvbmc=", &lax), (wrong, next));
    let (plain, next) = registries("bWU6c2VjcmV0", &[]);
    assert!(plain.starts_with(&format!("fail registry: {host}: answers in plain HTTP, without TLS")), "{plain}");
    assert_eq!(next, "if no TLS is intended there, add `--tls-verify=false`");
}

#[test]
#[ignore = "needs podman"]
fn podman_is_asked_how_it_is_set_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap();
    let (_, checks) = examined(dir.path(), &["--offline"], &[("PATH", &path)]);
    let podman = of(&checks, "podman");
    assert!(podman[0].0.starts_with("ok podman: ") && podman[0].0.contains(" in /"), "{podman:?}");
}
