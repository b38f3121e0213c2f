//! What a checkout brings along as `haversack.toml`, and what the environment may do.

use std::os::unix::fs::PermissionsExt;

use crate::Scene;
use crate::run;
use crate::server::{Answer, Server};

const SECRET: &str = "hunter2-secret";

#[test]
fn a_file_in_the_working_directory_does_not_say_where_secrets_go() {
    let sink = Server::sink();
    for (section, key, value) in [
        ("publish.ims", "token-url", sink.url("/token")),
        ("publish.ims", "ims-url", sink.url("/ims")),
        ("publish.ims", "s3-endpoint", sink.url("/s3")),
        ("publish.ims", "tls-verify", "false".to_owned()),
        ("publish.artifactory", "url", sink.url("/artifactory")),
        ("kernel.list", "redhat-sso", sink.url("/sso")),
        ("kernel.list", "redhat-api", sink.url("/api")),
        ("copy", "src-tls-verify", "false".to_owned()),
        ("copy", "authfile", "auth.json".to_owned()),
        ("copy", "ca-file", "ca.pem".to_owned()),
    ] {
        let scene = Scene::new();
        let (section, key) = (if key == "ca-file" { "" } else { section }, key);
        let table = if section.is_empty() { String::new() } else { format!("[{section}]\n") };
        scene.write("haversack.toml", format!("{table}{key} = '{value}'\n"));
        scene.write("secret", SECRET);
        scene.write("rootfs", crate::squashfs());
        scene.write("files/x", "x");
        for args in [
            &[
                "publish",
                "ims",
                "n",
                "--rootfs=rootfs",
                "--oauth-client-id=me",
                "--oauth-client-secret-file=secret",
                "--s3-bucket=b",
                "--s3-access-key=k",
                "--s3-secret-key-file=secret",
                "--retry-limit=0",
            ][..],
            &["publish", "artifactory", "files", "--repo=r", "--token-file=secret", "--retry-limit=0"],
            &["kernel", "list", "redhat:rhel-9", "--token-file=secret", "--retries=0"],
        ] {
            let offline_but_for_the_sink = [
                ("HTTPS_PROXY", "http://127.0.0.1:9"),
                ("HTTP_PROXY", "http://127.0.0.1:9"),
                ("NO_PROXY", "127.0.0.1"),
            ];
            let ended = run(&scene.home(), args, &offline_but_for_the_sink);
            assert_ne!(ended.code, 0);
            assert!(ended.stderr.contains(&format!("{key}` cannot be set here")), "{ended:#?}");
        }
        assert_eq!(sink.seen().len(), 0, "{key}: {:#?}", sink.seen());
    }
}

#[test]
fn a_file_that_others_may_write_to_is_not_read_and_that_is_said() {
    let scene = Scene::new();
    scene.write("haversack.toml", "offline = true\n");
    let file = scene.home().join("haversack.toml");
    let server = Server::start(|_| Answer::new(404, ""));
    let source = format!("docker://{}/r/i:1", server.address);
    let inspect = ["inspect", &source, "--tls-verify=false", "--retries=0"];
    assert!(scene.haversack(&inspect).stderr.contains("offline"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let ended = scene.haversack(&inspect);
    assert!(ended.stderr.contains("haversack.toml is not read: others than this user may write to it"), "{ended:#?}");
    assert!(!server.seen().is_empty());
}

#[test]
fn what_a_file_sets_is_said() {
    let scene = Scene::new();
    scene.write("haversack.toml", "offline = true\n[catalog.snapshot]\npage-size = 7\n");
    let ended = scene.haversack(&["-v", "inspect", "docker://127.0.0.1:1/r/i:1", "--tls-verify=false"]);
    assert!(ended.stderr.contains("haversack.toml sets catalog.snapshot.page-size, offline"), "{ended:#?}");
}

/// The environment is the user's own, and so is the file in the home directory.
#[test]
fn the_environment_and_the_users_own_file_satisfy_what_is_required() {
    let sink = Server::sink();
    let (scene, url) = (Scene::new(), sink.url("/artifactory"));
    scene.write("files/x", "x");
    let publish = ["publish", "artifactory", "files", "--retry-limit=0", "--retries=0"];
    run(&scene.home(), &publish, &[("HAVERSACK_URL", &url), ("HAVERSACK_REPO", "from-environment")]);
    let asked = |repository: &str| {
        sink.seen().iter().any(|it| it.path.ends_with(&format!("/{repository}?list&deep=1&listFolders=0")))
    };
    assert!(asked("from-environment"), "{:#?}", sink.seen());
    scene.write(
        ".config/haversack/haversack.toml",
        format!("[publish.artifactory]\nurl = '{url}'\nrepo = 'from-file'\n"),
    );
    scene.haversack(&publish);
    assert!(asked("from-file"), "{:#?}", sink.seen());
}
