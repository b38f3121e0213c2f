//! What comes from outside does not move the cursor, change the title or look like a line of ours (CWE-150).

use crate::server::{Answer, Server};
use crate::{Ended, Scene};

/// ESC, BEL, the one-character CSI of C1, a new line of ours, a carriage return, and what turns the direction of text.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\nerror: forged\u{202e}";

#[track_caller]
fn is_plain(ended: &Ended) {
    for text in [&ended.stdout, &ended.stderr] {
        let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
        assert!(!text.contains(odd), "{ended:#?}");
    }
    let forged = ended.stderr.lines().chain(ended.stdout.lines()).filter(|line| line.starts_with("error: forged"));
    assert_eq!(forged.count(), 0, "{ended:#?}");
}

#[test]
fn a_servers_words_are_one_plain_line() {
    let said = serde_json::json!({ "errors": [{ "code": "DENIED", "message": EVIL }] }).to_string();
    let server = Server::start(move |_| Answer::new(400, said.clone()).with("content-type", "application/json"));
    let scene = Scene::new();
    let source = format!("docker://{}/r/i:1", server.address);
    for more in [&[][..], &["--json"], &["-vv"]] {
        let ended = scene
            .haversack(&[&["inspect", &source, "--tls-verify=false", "--retries=1", "--retry-delay=0"], more].concat());
        assert_eq!(ended.code, 1);
        is_plain(&ended);
    }
    let html = Server::start(|_| Answer::new(500, format!("<title>{EVIL}</title>")).with("content-type", "text/html"));
    let source = format!("rpm:{}", html.url("/"));
    is_plain(&scene.haversack(&["kernel", "list", &source, "--retries=1", "--retry-delay=0", "-vv"]));
}

#[test]
fn names_in_lists_layouts_and_archives_are_plain() {
    let scene = Scene::new();
    let image = crate::server::Image::small();
    image.write_layout(&scene.home().join("store"));
    let index = std::fs::read_to_string(scene.home().join("store/index.json")).unwrap();
    scene.write("store/index.json", index.replace("\"x\"", &serde_json::to_string(EVIL).unwrap()));
    scene.write(&format!("store/{}", EVIL.replace('/', "")), "stray");
    for args in [
        &["inspect", "oci:store"][..],
        &["verify", "oci:store"],
        &["verify", "oci:store", "--json"],
        &["inspect", "oci:store", "--json"],
        &["inspect", "oci:store:nothing"],
    ] {
        is_plain(&scene.haversack(args));
    }
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    tar.append_data(&mut header, format!("x{EVIL}"), &b""[..]).unwrap();
    header.set_entry_type(tar::EntryType::Fifo);
    tar.append_data(&mut header, format!("y{EVIL}"), &b""[..]).unwrap();
    scene.write("evil.tar", tar.into_inner().unwrap());
    is_plain(&scene.haversack(&["inspect", "oci-archive:evil.tar"]));
    // Names of files here.
    scene.write(&format!("debs/x{EVIL}_1_amd64.deb"), "no deb");
    is_plain(&scene.haversack(&["kernel", "list", "dir:debs"]));
    is_plain(&scene.haversack(&["kernel", "list", "dir:debs", "--json"]));
    // What clap says of a value, which may be a script's.
    is_plain(&scene.haversack(&["verify", &EVIL.replace('\n', "")]));
}
