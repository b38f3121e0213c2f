//! `login`, `logout`, `list-tags` and `delete` against Debian's docker-registry; podman and skopeo read what was written.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::docker_registry::DockerRegistry;
use crate::{command, said};

fn login(dir: &Path, registry: &str, user: &str, password: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let args = [&["login", registry, "--username", user, "--password-stdin", "--tls-verify=false"], more].concat();
    let mut child =
        command(dir, &args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A layout `store` with two images, `one` and `two`.
fn images(dir: &Path) {
    for name in ["one", "two"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
        let definition = format!("name = \"x\"\n[[layers]]\nfiles = [{{ dest = \"/f\", text = \"{name}\" }}]\n");
        std::fs::write(dir.join(name).join("image.toml"), definition).unwrap();
        let output = format!("oci:store:{name}");
        let (status, _, talk) = said(dir, &["build", name, "--no-sbom", "--output", &output]);
        assert_eq!(status, Some(0), "{talk}");
    }
}

fn push(dir: &Path, name: &str, to: &str) {
    let (status, _, talk) = said(dir, &["copy", &format!("oci:store:{name}"), to, "--dest-tls-verify=false"]);
    assert_eq!(status, Some(0), "{talk}");
}

/// What another program says, its settings those of the directory alone.
fn other(dir: &Path, program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("XDG_RUNTIME_DIR")
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
#[ignore = "needs docker-registry, skopeo and podman"]
fn a_login_is_tried_and_podman_and_skopeo_take_what_was_written() {
    let (registry, dir) = (DockerRegistry::guarded("me", "secret"), tempfile::tempdir().unwrap());
    let (dir, host) = (dir.path(), registry.address.as_str());
    images(dir);
    let auth = dir.join("sub/auth.json");
    let file = ["--authfile", "sub/auth.json"];

    let wrong = format!(
        "error: {host}: the user `me` is not let in with this password\nhint: nothing was written; some registries want a token \
         in place of the password, or a robot's full name\n"
    );
    assert_eq!(login(dir, host, "me", "wrong", &file), (Some(1), String::new(), wrong));
    assert!(!auth.exists());

    let kept = format!("logged in to {host} as me; kept in sub/auth.json\n");
    assert_eq!(login(dir, host, "me", "secret\n", &file), (Some(0), kept, String::new()));
    assert_eq!(std::fs::metadata(&auth).unwrap().permissions().mode() & 0o777, 0o600);
    let json = r#"{"auths":{"HOST":{"auth":"bWU6c2VjcmV0"}}}"#.replace("HOST", host);
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&auth).unwrap()).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(&json).unwrap());

    let (status, _, talk) = said(
        dir,
        &[
            "copy",
            "oci:store:one",
            &format!("docker://{host}/a/b:1"),
            "--dest-tls-verify=false",
            "--authfile",
            "sub/auth.json",
        ],
    );
    assert_eq!(status, Some(0), "{talk}");
    let there = format!("docker://{host}/a/b:1");
    let (done, text) = other(dir, "skopeo", &["inspect", "--tls-verify=false", "--authfile", "sub/auth.json", &there]);
    assert!(done && text.contains("\"Digest\""), "{text}");
    assert!(!other(dir, "skopeo", &["inspect", "--tls-verify=false", "--authfile", "none.json", &there]).0);
    let (done, text) = other(dir, "podman", &["login", "--get-login", "--authfile", "sub/auth.json", host]);
    assert_eq!((done, text.as_str()), (true, "me\n"));

    // What podman writes beside stays, and it can log out of what we wrote.
    let (done, text) = other(
        dir,
        "podman",
        &[
            "login",
            "--tls-verify=false",
            "--authfile",
            "sub/auth.json",
            "-u",
            "me",
            "-p",
            "secret",
            &format!("{host}/team"),
        ],
    );
    assert!(done, "{text}");
    let (status, json, talk) = said(dir, &["--json", "logout", host, "--authfile", "sub/auth.json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    assert_eq!(report, serde_json::json!({ "registry": host, "file": "sub/auth.json" }));
    let left: serde_json::Value = serde_json::from_slice(&std::fs::read(&auth).unwrap()).unwrap();
    assert_eq!(left["auths"].as_object().unwrap().keys().collect::<Vec<_>>(), [&format!("{host}/team")]);
    let (status, _, talk) = said(dir, &["logout", host, "--authfile", "sub/auth.json"]);
    assert_eq!((status, talk), (Some(1), format!("error: {host}: not logged in by sub/auth.json\n")));
    login(dir, host, "me", "secret", &file);
    let (done, text) = other(dir, "podman", &["logout", "--authfile", "sub/auth.json", host]);
    assert!(done, "{text}");
}

/// The helper stands for one of docker's, in its protocol.
#[test]
fn a_helper_that_does_not_forget_a_login_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("bin")).unwrap();
    let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap());
    let failed = "error: the credential helper `docker-credential-x` failed to erase for r.example\n  because: the keychain is locked\n";
    for (erase, is_in_file, status, told) in [
        ("exit 0", false, 0, ""),
        ("echo credentials not found in native keychain; exit 1", true, 0, ""),
        (
            "echo credentials not found in native keychain; exit 1",
            false,
            1,
            "error: r.example: not logged in by auth.json\n",
        ),
        ("echo the keychain is locked >&2; exit 1", false, 1, failed),
        // It is taken out of the file all the same.
        ("echo the keychain is locked >&2; exit 1", true, 1, failed),
    ] {
        let helper = dir.join("bin/docker-credential-x");
        std::fs::write(&helper, format!("#!/bin/sh\n[ $1 = erase ] || {{ echo not found; exit 1; }}\n{erase}\n"))
            .unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let auths = if is_in_file {
            serde_json::json!({ "r.example": { "auth": "bWU6c2VjcmV0" } })
        } else {
            serde_json::json!({})
        };
        let file = serde_json::json!({ "auths": auths, "credHelpers": { "r.example": "x" } });
        std::fs::write(dir.join("auth.json"), file.to_string()).unwrap();
        let mut command = command(dir, &["logout", "r.example", "--authfile", "auth.json"]);
        let output = command.env("PATH", &path).output().unwrap();
        assert_eq!(
            (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
            (Some(status), told),
            "{erase} {is_in_file}"
        );
        let left: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("auth.json")).unwrap()).unwrap();
        assert_eq!(left["auths"], serde_json::json!({}));
    }
}

fn listed(dir: &Path, repository: &str) -> Vec<String> {
    let (status, lines, talk) = said(dir, &["list-tags", "--tls-verify=false", repository]);
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    lines.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn tags_are_listed_as_skopeo_lists_them() {
    let (registry, dir) = (DockerRegistry::start(), tempfile::tempdir().unwrap());
    let dir = dir.path();
    images(dir);
    for tag in ["v1.10", "latest", "v1.9", "2.0", "10.0"] {
        push(dir, "one", &registry.at(&format!("a/b:{tag}")));
    }
    let there = registry.at("a/b");
    let (done, theirs) = other(dir, "skopeo", &["list-tags", "--tls-verify=false", &there]);
    assert!(done, "{theirs}");
    let (status, ours, talk) = said(dir, &["list-tags", "--json", "--tls-verify=false", &there]);
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let sorted = ["2.0", "10.0", "latest", "v1.9", "v1.10"];
    let (ours, mut theirs) = (value(&ours), value(&theirs));
    assert_eq!(ours["Tags"], serde_json::json!(sorted));
    // The same tags, and all else: the order of theirs is that of the registry's disk.
    let tags = theirs["Tags"].as_array_mut().unwrap();
    tags.sort_by_key(|tag| sorted.iter().position(|it| tag == it));
    assert_eq!(ours, theirs);
    assert_eq!(listed(dir, &there), sorted);
    let host = &registry.address;
    let gone = format!(
        "error: {host}/a/c: not found\nhint: check the name of the repository; {host} may hide what needs a login (`haversack \
         login {host}`)\n"
    );
    assert_eq!(said(dir, &["list-tags", "--tls-verify=false", &registry.at("a/c")]), (Some(1), String::new(), gone));
    let (status, _, talk) = said(dir, &["list-tags", &registry.at("a/b:2.0")]);
    let why = format!("tags are those of a repository; write docker://{}/a/b", registry.address);
    assert!(status == Some(2) && talk.contains(&why), "{talk}");
}

#[test]
#[ignore = "needs docker-registry and skopeo"]
fn an_image_is_deleted_when_no_other_tag_names_it_or_when_told_to() {
    let (registry, dir) = (DockerRegistry::guarded("me", "secret"), tempfile::tempdir().unwrap());
    let (dir, host) = (dir.path(), registry.address.as_str());
    images(dir);
    let auth = dir.join(".config/containers/auth.json");
    login(dir, host, "me", "secret", &["--authfile", auth.to_str().unwrap()]);
    for (image, tag) in [("one", "1"), ("one", "1.0"), ("one", "latest"), ("two", "2")] {
        push(dir, image, &registry.at(&format!("a/b:{tag}")));
    }
    let tags = || listed(dir, &registry.at("a/b"));
    let delete = |image: &str, more: &[&str]| {
        said(dir, &[&["delete", "--tls-verify=false", &registry.at(image)], more].concat())
    };
    let (_, digest) = other(
        dir,
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            "--authfile",
            auth.to_str().unwrap(),
            "--format",
            "{{.Digest}}",
            &registry.at("a/b:1"),
        ],
    );
    let digest = digest.trim();
    let by_digest = format!("a/b@{digest}");
    let shared = |image: &str, others: &str, more: &str| {
        let text = format!(
            "error: {host}/{image}: other tags name this image ({digest}) and would go with it: {others}\n\
             hint: `--yes` deletes it with all its tags{more}\n"
        );
        (Some(1), String::new(), text)
    };
    let only = "; `--only-tag` deletes this tag alone, where the registry can";
    assert_eq!(delete("a/b:1", &[]), shared("a/b:1", "1.0, latest", only));
    assert_eq!(delete(&by_digest, &[]), shared(&by_digest, "1, 1.0, latest", ""));
    assert_eq!(tags(), ["1", "1.0", "2", "latest"]);

    // This registry deletes by digest only, and says so; what it says next is not what was refused before.
    for (image, others) in [
        (
            "a/b:1",
            "with `--yes` in place of `--only-tag`, the image is deleted with all other tags that name it: 1.0, latest",
        ),
        ("a/b:2", "no other tag names its image: without `--only-tag`, image and tag are deleted together"),
    ] {
        let alone = format!("error: {host}/{image}: the registry does not delete a tag alone\nhint: {others}\n");
        assert_eq!(delete(image, &["--only-tag"]), (Some(1), String::new(), alone));
    }
    let digest_only = format!(
        "error: {host}/{by_digest}: a digest is not a tag\nhint: name the tag in place of the digest, or delete the image with all \
         its tags with `--yes` in place of `--only-tag`\n"
    );
    assert_eq!(delete(&by_digest, &["--only-tag"]), (Some(2), String::new(), digest_only));
    let (status, json, talk) = delete("a/b:2", &["--json"]);
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["tags"], &report["only_tag"]), (&serde_json::json!(["2"]), &serde_json::json!(false)));
    assert_eq!(tags(), ["1", "1.0", "latest"]);
    let gone = format!("deleted {host}/a/b:1.0\n  {digest}\n  tags gone: 1, 1.0, latest\n");
    assert_eq!(delete("a/b:1.0", &["--yes"]), (Some(0), gone, String::new()));
    let (status, _, talk) = delete("a/b:1.0", &["--yes"]);
    let hint = format!("hint: `haversack list-tags docker://{host}/a/b` shows which tags there are\n");
    assert_eq!((status, talk), (Some(1), format!("error: {host}/a/b:1.0: not found\n{hint}")));
    let (status, _, talk) = delete("a/b", &[]);
    let what = format!(
        "error: {host}/a/b: neither a tag nor a digest says which image\nhint: name one: `haversack list-tags docker://{host}/a/b` shows them\n"
    );
    assert_eq!((status, talk), (Some(2), what));
}

#[test]
#[ignore = "needs docker-registry"]
fn a_registry_that_keeps_its_images_is_said_to() {
    let (registry, dir) = (DockerRegistry::start(), tempfile::tempdir().unwrap());
    images(dir.path());
    push(dir.path(), "one", &registry.at("a/b:1"));
    let (status, data, talk) = said(dir.path(), &["delete", "--tls-verify=false", &registry.at("a/b:1")]);
    assert_eq!((status, data.as_str()), (Some(1), ""));
    let (_, digest, _) =
        said(dir.path(), &["inspect", "--format", "{{.Digest}}", "--tls-verify=false", &registry.at("a/b:1")]);
    let kept = format!(
        "error: {}/a/b@{}: the registry does not let it be deleted\nhint: docker-registry deletes with `storage: {{delete: \
         {{enabled: true}}}}` (REGISTRY_STORAGE_DELETE_ENABLED=true), `haversack serve` with `--writable`; elsewhere, look at the \
         registry's own page\n",
        registry.address,
        digest.trim()
    );
    assert_eq!(talk, kept);
    assert_eq!(listed(dir.path(), &registry.at("a/b")), ["1"]);
    // It lets everybody in, and so cannot say whether the password is right.
    let (status, _, talk) = login(dir.path(), &registry.address, "me", "x", &["--authfile", "auth.json"]);
    let warned =
        format!("warning: {}: the registry lets everybody in and did not check the password\n", registry.address);
    assert_eq!((status, talk), (Some(0), warned));
}

/// What a terminal shows of a login at which these keys are typed, a second after another, and its status.
fn login_on_a_terminal(dir: &Path, args: &str, keys: &[&str]) -> (Option<i32>, String) {
    let program = assert_cmd::cargo::cargo_bin!("haversack").display();
    let keys: String = keys.iter().map(|keys| format!("sleep 1; printf '{keys}'; ")).collect();
    let script = format!(
        "({keys}sleep 2) | script --quiet --return --echo always --log-out said --command \
         '{program} login --tls-verify=false {args}; status=$?; stty -a | grep -q \" echo \" && exit $status' > /dev/null"
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).current_dir(dir).env("HOME", dir);
    let status = bash.env_remove("XDG_RUNTIME_DIR").env_remove("REGISTRY_AUTH_FILE").status().unwrap();
    let said = std::fs::read_to_string(dir.join("said")).unwrap().replace('\r', "");
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("Script ")).collect();
    (status.code(), lines.join("\n").trim_end().to_owned())
}

#[test]
#[ignore = "needs docker-registry, script and podman"]
fn on_a_terminal_user_and_password_are_asked_for_and_the_password_is_not_shown() {
    let (registry, dir) = (DockerRegistry::guarded("me", "secret"), tempfile::tempdir().unwrap());
    let (dir, host) = (dir.path(), registry.address.as_str());
    let args = format!("{host} --authfile auth.json");
    let shown = format!("Username for {host}: me\nPassword of me: \nlogged in to {host} as me; kept in auth.json");
    assert_eq!(login_on_a_terminal(dir, &args, &["me\\n", "secrex\\177t\\n"]), (Some(0), shown));
    let (done, text) = other(dir, "podman", &["login", "--get-login", "--authfile", "auth.json", host]);
    assert_eq!((done, text.as_str()), (true, "me\n"));
    std::fs::remove_file(dir.join("auth.json")).unwrap();
    // Ctrl-C ends it as a signal does; the terminal shows again what is typed.
    let (status, shown) = login_on_a_terminal(dir, &format!("{args} --username me"), &["sec\\003"]);
    assert_eq!((status, shown.as_str()), (Some(130), "Password of me:"));
    assert!(!dir.join("auth.json").exists());
}

#[test]
fn a_password_is_not_taken_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody sits at a pipe.
    let login_without = |args: &[&str]| {
        let mut command = command(dir.path(), &[&["login", "r.example"], args].concat());
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let why = "error: nobody can be asked for the password here: add --password-stdin, or run it on a terminal\n\
               hint: haversack login r.example --username me --password-stdin < FILE\n";
    assert_eq!(login_without(&["--username", "me"]), (Some(2), why.to_owned()));
    for args in [&[][..], &["--password-stdin"]] {
        let why = "error: nobody can be asked for the user here: add --username\n\
                   hint: haversack login r.example --username NAME --password-stdin < FILE\n";
        assert_eq!(login_without(args), (Some(2), why.to_owned()));
    }
    let empty = login(dir.path(), "r.example", "me", "\n", &[]);
    assert_eq!(empty, (Some(2), String::new(), "error: there is no password on standard input\n".to_owned()));
}
