//! What is in deploy/ and .github/: valid, and in words that this program knows.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// The arguments of every container in a file.
fn arguments(yaml: &serde_json::Value, found: &mut Vec<Vec<String>>) {
    match yaml {
        serde_json::Value::Object(map) => {
            if let Some(args) = map.get("args").and_then(|args| args.as_array()) {
                found.push(args.iter().map(|arg| arg.as_str().unwrap().to_owned()).collect());
            }
            map.values().for_each(|value| arguments(value, found));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| arguments(value, found)),
        _ => {}
    }
}

#[test]
fn every_option_in_the_manifests_is_one_of_this_program() {
    let mut found = Vec::new();
    for path in files("deploy/kubernetes") {
        let text = std::fs::read_to_string(&path).unwrap();
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        documents.iter().for_each(|yaml| arguments(yaml, &mut found));
    }
    assert_eq!(found.len(), 4);
    for args in found {
        // With --help behind them, options are read and nothing is done.
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--help"]).collect();
        let (status, help, error) = run(Path::new("/"), &args);
        assert!(status == 0 && help.contains("Usage: haversack"), "{args:?}: {error}");
        let wrong: Vec<&str> = args[..args.len() - 1].iter().copied().chain(["--no-such-option", "--help"]).collect();
        assert_eq!(run(Path::new("/"), &wrong).0, 2);
    }
}

/// The words behind a key of a unit, with its continued lines.
fn words_behind(key: &str, text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_option_of_the_units_and_of_the_bastion_image_is_one_of_serve() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let unit = words_behind("ExecStart=", &read("deploy/systemd/haversack-serve.service"));
    let image: toml::Value = toml::from_str(&read("images/bastion/image.toml")).unwrap();
    let command = image["cmd"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    let commands =
        [unit[1..].to_vec(), words_behind("Exec=", &read("deploy/podman/haversack-serve.container")), command];
    let (_, help, _) = run(Path::new("/"), &["serve", "--help"]);
    for command in commands {
        assert_eq!(command[0], "serve");
        let options: Vec<&String> = command.iter().filter(|word| word.starts_with("--")).collect();
        assert!(options.iter().any(|option| *option == "--listen"), "{command:?}");
        for option in options {
            let option = option.split('=').next().unwrap();
            assert!(help.split_whitespace().any(|word| word == option), "{option} is none of serve's");
        }
        let args: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let (status, _, error) = run(Path::new("/"), &args);
        assert_eq!(status, 0, "{args:?}: {error}");
    }
}

#[test]
#[ignore = "needs kubernetes-validate and check-jsonschema; scripts/test.sh installs them where pip can"]
fn validators_find_nothing_in_manifests_and_workflows() {
    let check = |mut command: Command, files: Vec<PathBuf>| {
        let output = command.args(files).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
    };
    let mut kubernetes = Command::new("kubernetes-validate");
    kubernetes.arg("--strict");
    check(kubernetes, files("deploy/kubernetes"));
    let mut workflows = Command::new("check-jsonschema");
    workflows.args(["--builtin-schema", "vendor.github-workflows"]);
    check(workflows, files(".github/workflows"));
}
