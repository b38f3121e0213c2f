//! What `--version` says: from git, from an archive that git made, from neither.

#[path = "../version/mod.rs"]
mod version;

use std::fs;
use std::path::Path;
use std::process::Command;

fn git(directory: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"])
        .args(args)
        // 2025-11-26 23:59:59 in UTC, and the day after where it was committed.
        .envs([("GIT_AUTHOR_DATE", "1764201599 +0200"), ("GIT_COMMITTER_DATE", "1764201599 +0200")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_commit_is_that_of_the_checkout_the_worktree_or_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let [checkout, worktree, archive] = ["checkout", "worktree", "archive"].map(|name| dir.path().join(name));
    fs::create_dir_all(checkout.join("version")).unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["version/commit.txt", ".gitattributes"] {
        fs::copy(ours.join(file), checkout.join(file)).unwrap();
    }
    git(&checkout, &["init", "--quiet"]);
    git(&checkout, &["add", "."]);
    git(&checkout, &["commit", "--quiet", "--message", "one"]);
    let commit = git(&checkout, &["rev-parse", "HEAD"]);
    let known = format!(" ({} 2025-11-26)", &commit[..12]);
    assert_eq!(version::of(&checkout, None), known);
    assert_eq!(version::of(&checkout, Some("0")), format!(" ({} 1970-01-01)", &commit[..12]));
    let watched = version::watched(&checkout);
    assert!(watched.len() == 2 && watched[0].ends_with("HEAD") && watched[1].contains("refs/heads/"), "{watched:?}");

    git(&checkout, &["worktree", "add", "--quiet", "--detach", worktree.to_str().unwrap()]);
    assert_eq!(version::of(&worktree, None), known);
    assert!(version::watched(&worktree).iter().all(|path| worktree.join(path).exists()));

    git(&checkout, &["archive", "--prefix", "archive/", "--output", "../a.tar", "HEAD"]);
    assert!(Command::new("tar").args(["xf", "a.tar"]).current_dir(dir.path()).status().unwrap().success());
    assert_eq!(version::of(&archive, None), known);
    assert_eq!(version::watched(&archive), Vec::<String>::new());

    fs::write(checkout.join("version/commit.txt"), "other").unwrap();
    assert_eq!(version::of(&checkout, None), format!(" ({}+changes 2025-11-26)", &commit[..12]));
    // Sources that lie in somebody else's checkout are not of its commit.
    let inside = checkout.join("inside");
    fs::create_dir(&inside).unwrap();
    assert_eq!(version::of(&inside, None), "");
}

#[test]
fn without_git_the_date_that_is_given_is_said_and_else_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (epoch, said) in [
        (None, ""),
        (Some("nothing"), ""),
        (Some("951782400"), " (2000-02-29)"),
        (Some("4107542400"), " (2100-03-01)"),
        (Some("-1"), " (1969-12-31)"),
    ] {
        assert_eq!(version::of(dir.path(), epoch), said, "{epoch:?}");
    }
}

/// What the Containerfile is built with is what the program in the image says: the script tells podman, and the Containerfile writes
/// it where the build looks.
#[test]
fn the_image_is_told_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (checkout, source, bin) = (dir.path().join("checkout"), dir.path().join("source"), dir.path().join("bin"));
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    for directory in [&checkout.join("scripts"), &source.join("version"), &bin] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::copy(ours.join("scripts/image.sh"), checkout.join("scripts/image.sh")).unwrap();
    git(&checkout, &["init", "--quiet"]);
    git(&checkout, &["add", "."]);
    git(&checkout, &["commit", "--quiet", "--message", "one"]);
    // Stands for podman: writes its arguments down, a line each.
    fs::write(bin.join("podman"), "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    fs::set_permissions(bin.join("podman"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let told = || {
        let output =
            Command::new(checkout.join("scripts/image.sh")).arg("--quiet").env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("build\n") && text.ends_with("--tag\nlocalhost/haversack\n--quiet\n.\n"), "{text}");
        text.lines().find_map(|line| line.strip_prefix("COMMIT=")).unwrap().to_owned()
    };
    let containerfile = fs::read_to_string(ours.join("Containerfile")).unwrap();
    let write = containerfile.lines().find_map(|line| line.strip_prefix("RUN ").filter(|it| it.contains("COMMIT")));
    let said = |commit: &str| {
        let status =
            Command::new("sh").args(["-c", write.unwrap()]).current_dir(&source).env("COMMIT", commit).status();
        assert!(status.unwrap().success());
        version::of(&source, None)
    };
    assert_eq!(said(""), "");
    let commit = git(&checkout, &["rev-parse", "HEAD"]);
    assert_eq!(said(&told()), format!(" ({} 2025-11-26)", &commit[..12]));
    fs::write(checkout.join("scripts/image.sh"), fs::read_to_string(ours.join("scripts/image.sh")).unwrap() + "\n")
        .unwrap();
    assert_eq!(said(&told()), format!(" ({}+changes 2025-11-26)", &commit[..12]));
}
