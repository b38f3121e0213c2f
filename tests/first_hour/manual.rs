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
    for part in [".TH haversack-copy 1", "Copy an image between registries", "\\-\\-dry\\-run", "Exit status: 0 copied"]
    {
        assert!(copy.contains(part), "{part}: {copy}");
    }
    // Once more: pages are replaced, and are the same.
    assert_eq!(said(dir.path(), &["man", "man1"]), (Some(0), pages, String::new()));
    assert_eq!(std::fs::read_to_string(dir.path().join("man1/haversack-copy.1")).unwrap(), copy);
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
