//! As a service: sockets that are handed over, certificates that are read again, too few files.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::server::{Serve, arg, image, layout};

#[test]
fn a_socket_that_is_handed_over_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"1"), Some("a/b:1")).unwrap();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    // As systemd does: it is the fourth file, and the variables say so.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\" 3<&0 </dev/null";
    let started = |socket: OwnedFd| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(assert_cmd::cargo::cargo_bin!("haversack"));
        command.args(["serve", arg(&store), "--listen", "192.0.2.1:1"]).stdin(Stdio::from(socket));
        command
    };
    let serve = Serve::of(started(socket.into()));
    assert_eq!(serve.address, address);
    assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
    // What is no socket that listens is not one.
    let file = std::fs::File::open("/dev/null").unwrap();
    let output = started(file.into()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
#[ignore = "needs openssl; it looks at the certificate that is shown"]
fn a_hangup_has_the_certificate_made_again_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let authority = dir.path().join("ca");
    let serve = Serve::start(&["--tls-self-signed", authority.to_str().unwrap(), arg(&store)]);
    let certificate = || {
        let mut shown = Command::new("openssl");
        shown.args(["s_client", "-connect", &serve.address]).stdin(Stdio::null()).stderr(Stdio::null());
        let shown = String::from_utf8(shown.output().unwrap().stdout).unwrap();
        shown.split("-----BEGIN CERTIFICATE-----").nth(1).unwrap().split("-----END").next().unwrap().to_owned()
    };
    let first = certificate();
    assert_eq!(certificate(), first);
    serve.signal("-HUP");
    serve.log_with("SIGHUP");
    for _ in 0..200 {
        if certificate() != first {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    panic!("it is still the first one");
}

#[test]
fn with_few_files_there_are_few_connections_and_all_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, &vec![1; 1 << 20]), Some("a/b:1")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 80; exec \"$@\"", "sh"]).arg(assert_cmd::cargo::cargo_bin!("haversack"));
    command.args(["serve", arg(&store), "--listen", "127.0.0.1:0"]);
    let serve = Serve::of(command);
    serve.log_with("10 connections at one time");
    let blob = format!("/v2/a/b/blobs/{}", haversack::digest::Digest::sha256(vec![1; 1 << 20]));
    let whole = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..60).map(|_| scope.spawn(|| serve.get(&blob))).collect();
        asked.into_iter().map(|it| it.join().unwrap()).filter(|answer| answer.status == 200 && answer.is_whole).count()
    });
    assert_eq!(whole, 60);
    assert!(!serve.log_with("connections").contains("could not be accepted"));
}
