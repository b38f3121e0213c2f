//! Many images into one registry.

use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use serde_json::{Value, json};

use crate::docker_registry::DockerRegistry;
use crate::packages::Deb;
use crate::{TOOLKIT, definition, json, kernel, pool, run};

fn matrix(dir: &std::path::Path, count: usize) {
    pool(dir);
    let mut entries = Vec::new();
    for n in 0..count {
        kernel(&dir.join("pool"), &format!("6.1.0-{}", n + 10), &format!("6.1.{}-1", n + 20), "amd64");
        entries.push(json!({ "rhel": "", "kernel": format!("6.1.0-{}", n + 10), "archs": "linux/amd64" }));
    }
    std::fs::write(dir.join("matrix.json"), json!({ "versions": entries }).to_string()).unwrap();
    definition(dir, TOOLKIT);
}

fn statuses(report: &Value) -> Vec<(&str, &str)> {
    let pair = |it: &'_ Value| -> (&'static str, &'static str) {
        let text = |key: &str| -> &'static str { it[key].as_str().unwrap().to_owned().leak() };
        (text("kernel"), text("status"))
    };
    report.as_array().unwrap().iter().map(pair).collect()
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn what_the_registry_has_is_not_built_again_and_a_changed_definition_is() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), DockerRegistry::start());
    matrix(dir.path(), 3);
    let to = registry.at("driver-toolkit");
    let args = [
        "build",
        "def",
        "--matrix",
        "matrix.json",
        "--kernels",
        "dir:pool",
        "--push",
        &to,
        "--skip-existing",
        "--jobs",
        "2",
        "--dest-tls-verify=false",
    ];
    let first = json(dir.path(), 0, &args);
    assert_eq!(statuses(&first), [("6.1.0-10", "built"), ("6.1.0-11", "built"), ("6.1.0-12", "built")]);
    assert_eq!(
        first[0]["output"],
        json!([registry.at("driver-toolkit:6.1.0-10"), registry.at("driver-toolkit:6.1.0-10-amd64")])
    );
    // Nothing is read: the packages are gone.
    std::fs::rename(dir.path().join("pool"), dir.path().join("away")).unwrap();
    let second = json(dir.path(), 0, &args);
    assert_eq!(statuses(&second), [("6.1.0-10", "present"), ("6.1.0-11", "present"), ("6.1.0-12", "present")]);
    std::fs::rename(dir.path().join("away"), dir.path().join("pool")).unwrap();

    let matrix = ["kernel", "matrix", "dir:pool", "--missing-in", &to, "--dest-tls-verify=false", "--format", "github"];
    let (_, missing, _) = run(dir.path(), &matrix);
    assert!(missing.contains("6.1.0-1\"") && !missing.contains("6.1.0-10"), "{missing}");

    definition(dir.path(), &TOOLKIT.replace("1001\"\nlabels", "1002\"\nlabels"));
    assert_eq!(statuses(&json(dir.path(), 0, &args))[0], ("6.1.0-10", "built"));
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn shards_at_once_make_every_image_once_although_one_is_killed_and_repeated() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), DockerRegistry::start());
    matrix(dir.path(), 8);
    // Something to be at work on while it is killed.
    let noise: Vec<u8> = (0..16_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    Deb::new("libc6", "2.37-1", "amd64")
        .file("lib/x86_64-linux-gnu/libc.so.6", 0o755, &noise)
        .write(&dir.path().join("pool"));
    let to = registry.at("driver-toolkit");
    let args = |shard: usize| -> Vec<String> {
        let shard = format!("{shard}/4");
        let words = [
            "build",
            "def",
            "--matrix",
            "matrix.json",
            "--kernels",
            "dir:pool",
            "--push",
            &to,
            "--skip-existing",
            "--dest-tls-verify=false",
            "--json",
            "--progress",
            "none",
            "--shard",
            &shard,
        ];
        words.map(str::to_owned).to_vec()
    };
    let start = |shard: usize| {
        let mut command = Command::new(cargo_bin!("haversack"));
        command.args(args(shard)).current_dir(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut workers: Vec<_> = (0..4).map(start).collect();
    // Not before it has sent something.
    let uploads = registry.data().join("docker/registry/v2/repositories/driver-toolkit/_uploads");
    while !uploads.exists() && workers[2].try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    workers[2].kill().unwrap();
    let mut built = Vec::new();
    for (number, worker) in workers.into_iter().enumerate() {
        let output = worker.wait_with_output().unwrap();
        if number != 2 {
            assert!(output.status.success(), "{number}: {}", String::from_utf8_lossy(&output.stderr));
            built.extend(serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().clone());
        }
    }
    let again: Vec<String> = args(2);
    let again = json(
        dir.path(),
        0,
        &again
            .iter()
            .map(String::as_str)
            .filter(|it| *it != "--json" && *it != "--progress" && *it != "none")
            .collect::<Vec<_>>(),
    );
    built.extend(again.as_array().unwrap().clone());
    let mut kernels: Vec<&str> = built.iter().map(|it| it["kernel"].as_str().unwrap()).collect();
    kernels.sort_unstable();
    assert_eq!(kernels, (10..18).map(|n| format!("6.1.0-{n}")).collect::<Vec<_>>());
    for kernel in kernels {
        let (status, _, stderr) = run(
            dir.path(),
            &["copy", &format!("{to}:{kernel}"), &format!("oci:copy:{kernel}"), "--src-tls-verify=false"],
        );
        assert_eq!(status, 0, "{stderr}");
    }
    assert_eq!(run(dir.path(), &["verify", "oci:copy"]).0, 0);
}
