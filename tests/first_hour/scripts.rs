//! `scripts/test.sh` changes a machine only when it is told to.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Runs a copy of the script where what could change the machine only writes down that it was called. Its status, its output and
/// what was called.
fn run(args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let (bin, called) = (dir.path().join("bin"), dir.path().join("called"));
    std::fs::create_dir_all(dir.path().join("scripts")).unwrap();
    std::fs::create_dir(&bin).unwrap();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    for script in ["test.sh", "podman.sh", "debs.sh"] {
        std::fs::copy(scripts.join(script), dir.path().join("scripts").join(script)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    for tool in "bash env echo dirname df tail xargs tee mktemp rm ls grep sed awk cat sort mkdir mv".split(' ') {
        let found = std::env::split_paths(&path).map(|part| part.join(tool)).find(|file| file.is_file());
        symlink(found.unwrap_or_else(|| panic!("{tool}")), bin.join(tool)).unwrap();
    }
    let stub = |name: &str, text: &str| {
        std::fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    };
    stub("id", "echo 0");
    stub("cargo", "exit 0");
    for name in ["apt-get", "apt-cache", "dnf", "pip", "pip3", "python3", "systemctl", "mount", "umount", "useradd"] {
        stub(name, &format!("echo {name} \"$@\" >> {}", called.display()));
    }
    let output = Command::new(bin.join("bash"))
        .arg(dir.path().join("scripts/test.sh"))
        .args(args)
        .env_clear()
        .env("PATH", &bin)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text, std::fs::read_to_string(called).unwrap_or_default())
}

#[test]
fn nothing_is_installed_without_being_asked_for_and_no_service_is_stopped() {
    let (status, text, called) = run(&[], &[]);
    assert_eq!((status, called.as_str()), (Some(0), ""), "{text}");
    assert!(text.starts_with("==> Takes 25 minutes on two cores, and 5 GB in target/; "), "{text}");
    assert!(text.contains("==> Not installed: cc ") && text.ends_with("==> All passed\n"), "{text}");

    for (args, variables) in [(&["--install"][..], &[][..]), (&[], &[("CI", "true")])] {
        let (status, text, called) = run(args, variables);
        assert_eq!(status, Some(0), "{text}");
        assert!(
            called.starts_with("apt-get update -qq\napt-get install -y -qq ") && called.contains(" podman "),
            "{called}"
        );
        assert!(called.contains("python3 -m venv target/validators\n"), "{called}");
        assert!(!called.contains("systemctl") && !called.contains("pip install"), "{called}");
    }
    let (status, text, called) = run(&["--help"], &[]);
    assert_eq!((status, text.as_str(), called.as_str()), (Some(2), "usage: scripts/test.sh [--install]\n", ""));
}
