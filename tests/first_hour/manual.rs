//! Man pages and completions, read by those who read them for people: `man`, and the shells where they are installed.

use std::process::Command;

use crate::said;

#[test]
fn there_is_a_man_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let (status, pages, talk) = said(dir.path(), &["man", "man1"]);
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    let mut files: Vec<String> = std::fs::read_dir(dir.path().join("man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(pages.lines().collect::<Vec<_>>(), files);
    for page in ["haversack.1", "haversack-copy.1", "haversack-catalog-snapshot.1", "haversack-kernel-matrix.1"] {
        assert!(files.iter().any(|file| file == page), "{page}: {files:?}");
    }
    assert!(!files.iter().any(|file| file.contains("help")), "{files:?}");
    let copy = std::fs::read_to_string(dir.path().join("man1/haversack-copy.1")).unwrap();
    for part in
        [".TH \"haversack-copy\" \"1\"", "Copy an image between registries", "\\-\\-dry\\-run", "Exit status: 0 copied"]
    {
        assert!(copy.contains(part), "{part}: {copy}");
    }
    // As podman's and git's: each option with its value, what there may be several of with dots, and what has to be without brackets.
    let synopsis = |page: &str| {
        let text = std::fs::read_to_string(dir.path().join("man1").join(page)).unwrap();
        let text = text.split(".SH SYNOPSIS\n").nth(1).unwrap().split("\n.SH ").next().unwrap().to_owned();
        let plain = [("\\|.\\|.\\|.\\&", "..."), ("\\fB", ""), ("\\fI", ""), ("\\fR", ""), ("\\-", "-"), ("\\~", " ")];
        let text = plain.iter().fold(text, |text, (from, to)| text.replace(from, to));
        text.strip_prefix(".SY ").unwrap().strip_suffix("\n.YS").unwrap().replace(['\n'], " ").replace('"', "")
    };
    for (page, expected) in [
        (
            "haversack-copy.1",
            "haversack copy [--platform OS/ARCH]... [--no-referrers] [--parallel N] [--dry-run] [--check-blobs] \
             [--src-tls-verify BOOL] [--authfile FILE] [--dest-tls-verify BOOL] [common options] SRC DST",
        ),
        (
            "haversack-login.1",
            "haversack login [-u|--username NAME] [--password-stdin] [--tls-verify BOOL] [--authfile FILE] [common options] REGISTRY",
        ),
        ("haversack-catalog.1", "haversack catalog [common options] COMMAND"),
        ("haversack-doctor.1", "haversack doctor [--tls-verify BOOL] [--authfile FILE] [common options] [WHAT...]"),
        ("haversack-catalog-check.1", "haversack catalog check [--batch FILE] [--db FILE] [common options] [COMMAND]"),
    ] {
        assert_eq!(synopsis(page), expected);
    }
    let build = synopsis("haversack-build.1");
    let one_of =
        "{-o|--output TRANSPORT | --push REF | --explain | --print-definition} [common options] [DEFINITION...]";
    assert!(build.ends_with(one_of), "{build}");
    // Once more: pages are replaced, and are the same.
    assert_eq!(said(dir.path(), &["man", "man1"]), (Some(0), pages, String::new()));
    assert_eq!(std::fs::read_to_string(dir.path().join("man1/haversack-copy.1")).unwrap(), copy);
}

#[test]
#[ignore = "needs man and mandoc"]
fn man_shows_the_pages_and_mandoc_finds_nothing_wrong_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let (_, pages, _) = said(dir.path(), &["man", "man1"]);
    for page in pages.lines() {
        let path = dir.path().join("man1").join(page);
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&path).output().unwrap();
        // A program that is tried out while it is changed knows no date.
        let found = String::from_utf8(lint.stdout).unwrap();
        let found: Vec<&str> = found.lines().filter(|line| !line.contains("missing date, using \"\": TH")).collect();
        assert_eq!(found, [""; 0], "{page}");
        let mut man = Command::new("man");
        man.args(["--warnings", "--nj", "-l"])
            .arg(&path)
            .env("MANWIDTH", "80")
            .env("LC_ALL", "C.UTF-8")
            .env("MAN_KEEP_FORMATTING", "");
        let shown = man.output().unwrap();
        assert_eq!((shown.status.code(), &*String::from_utf8_lossy(&shown.stderr)), (Some(0), ""), "{page}");
        let text = String::from_utf8(shown.stdout).unwrap();
        let name = page.strip_suffix(".1").unwrap();
        assert!(text.contains(name) && text.contains("Exit status: 0 "), "{page}: {text}");
        // No option is without its text, which stands beside or below it.
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let is_option = |line: &str| line.starts_with("       -");
        let is_bare =
            |line: &str| line.split_whitespace().all(|it| it.starts_with(['-', '<', '[']) || it.ends_with(']'));
        let bare = lines.windows(2).find(|pair| is_option(pair[0]) && is_bare(pair[0]) && is_option(pair[1]));
        assert_eq!(bare, None, "{page}");
    }
}

#[test]
fn where_pages_cannot_be_written_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let (status, data, talk) = said(dir.path(), &["man", "file/man1"]);
    assert_eq!((status, data.as_str()), (Some(1), ""));
    assert_eq!(talk, "error: cannot create file/man1\n  because: Not a directory (os error 20)\n");
}

#[test]
fn completions_are_scripts_that_the_shell_takes() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (status, script, talk) = said(dir.path(), &["completions", shell]);
        assert_eq!((status, talk.as_str()), (Some(0), ""), "{shell}");
        assert!(script.contains("haversack") && script.contains("--skip-existing") | script.contains("skip-existing"));
        // Those that are here read it without running it.
        if ["bash", "zsh", "fish"].contains(&shell)
            && Command::new(shell).arg("-c").arg("true").output().is_ok_and(|output| output.status.success())
        {
            let path = dir.path().join(shell);
            std::fs::write(&path, script).unwrap();
            let output = Command::new(shell).arg("-n").arg(&path).output().unwrap();
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn the_version_is_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let said = |option: &str| said(dir.path(), &[option]);
    let (status, line, talk) = said("--version");
    assert_eq!((status, talk.as_str()), (Some(0), ""));
    assert!(line.starts_with(concat!("haversack ", env!("CARGO_PKG_VERSION"))) && line.lines().count() == 1, "{line}");
    assert_eq!(said("-V").1, line);
}
