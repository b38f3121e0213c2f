//! `haversack kernel matrix` over a graph and a registry of small images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::packages::Deb;
use crate::registry::Registry;
use crate::{json, pool, run};

/// An OS image: its name in the payload, its labels, and the files of its last layer.
type Os<'a> = (&'a str, Value, &'a [(&'a str, &'a str)]);

/// Publishes OS images and a payload that lists them; returns the payload as a graph has it.
fn payload(registry: &Registry, oses: &[Os<'_>]) -> String {
    let tags: Vec<Value> = oses
        .iter()
        .map(|(name, labels, layer)| {
            let digest = registry.image(labels, layer);
            json!({ "name": name, "annotations": { "io.openshift.build.versions": "machine-os=1" },
                "from": { "kind": "DockerImage", "name": format!("quay.io/openshift-release-dev/ocp-v4.0-art-dev@{digest}") } })
        })
        .collect();
    let references = json!({ "kind": "ImageStream", "spec": { "tags": tags } }).to_string();
    let digest = registry.image(&json!({}), &[("release-manifests/image-references", &references)]);
    format!("quay.io/openshift-release-dev/ocp-release@{digest}")
}

fn old(kernel: &str) -> Value {
    json!({ "com.coreos.rpm.kernel": format!("{kernel}.x86_64"), "com.coreos.rpm.kernel-rt-core": format!("{}.x86_64", kernel.replace(".el", ".rt7.1.el")) })
}

/// The graph of a channel with every way in which an OS image can name its kernel, or fail to.
fn graph(registry: &Registry) -> Value {
    let meta = r#"{"rpmdb.pkglist": [["kernel-core","0","6.12.0","200.el10_2","x86_64"],["kernel-64k-core","0","6.12.0","200.el10_2","x86_64"]]}"#;
    let meta = [("usr/share/openshift/base/meta.json", meta)];
    let new = json!({ "ostree.linux": "5.14.0-687.el9_8.x86_64" });
    let hack = json!({ "ostree.linux": "true", "io.openshift.metalayer": "true" });
    let payloads: Vec<(&str, String)> = vec![
        ("4.9.0", payload(registry, &[("machine-os-content", old("4.18.0-305.17.1.el8_4"), &[])])),
        ("4.9.4", payload(registry, &[("machine-os-content", old("4.18.0-305.19.1.el8_4"), &[])])),
        ("4.9.10", payload(registry, &[("machine-os-content", old("4.18.0-305.19.1.el8_4"), &[])])),
        ("4.22.0", payload(registry, &[("rhel-coreos", new.clone(), &[]), ("rhel-coreos-10", hack, &meta)])),
        ("4.22.1", payload(registry, &[("rhel-coreos", json!({ "ostree.linux": "true" }), &[])])),
        ("4.22.2", payload(registry, &[("rhel-coreos", json!({}), &[])])),
        (
            "4.22.3",
            payload(registry, &[("a", new, &[]), ("b", json!({ "ostree.linux": "5.14.0-600.el9_8.x86_64" }), &[])]),
        ),
        ("4.22.4", format!("quay.io/openshift-release-dev/ocp-release@sha256:{:064}", 0)),
        ("4.22.5", {
            let empty = registry.image(&json!({}), &[]);
            format!("quay.io/x/y@{empty}")
        }),
    ];
    let nodes: Vec<Value> = payloads
        .iter()
        .map(|(version, payload)| json!({ "version": version, "payload": payload, "metadata": { "x": "y" } }))
        .collect();
    json!({ "version": 1, "nodes": nodes, "edges": [[0, 1], [1, 0]], "conditionalEdges": [], "new": {} })
}

#[test]
fn every_release_is_in_the_matrix_or_named_with_the_reason() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    registry.file("/graph", graph(&registry).to_string().into_bytes());
    let map = format!("quay.io={}", registry.address);
    let url = format!("http://{}/graph", registry.address);
    let args = [
        "kernel",
        "matrix",
        "--channel",
        "stable-4.22",
        "--graph",
        &url,
        "--registry-map",
        &map,
        "--retries",
        "0",
        "--src-tls-verify=false",
    ];
    let mut matrix = json(dir.path(), 3, &args);
    let failed: BTreeMap<String, String> = serde_json::from_value(matrix["failed"].take()).unwrap();
    let first = |text: &String| text.lines().next().unwrap().replace(&registry.address, "HOST");
    let failed: Vec<String> = failed.iter().map(|(name, why)| format!("{name}: {}", first(why))).collect();
    insta::assert_snapshot!(failed.join("\n"), @r"
    4.22.1 x86_64: rhel-coreos: its label ostree.linux is `true`, which is no kernel's version
    4.22.2 x86_64: rhel-coreos: its labels name no kernel
    4.22.3 x86_64: a has the kernel 5.14.0-687.el9_8 and b has 5.14.0-600.el9_8; both are in the matrix
    4.22.4 x86_64: HOST/openshift-release-dev/ocp-release@sha256:0000000000000000000000000000000000000000000000000000000000000000: not found
    4.22.5 x86_64: quay.io/x/y@sha256:86a4cae4b76a9ea9cd5596e65153a8926b70190a68078c678f50f5e7481cb58b: it has no image-references
    ");
    let line = |it: &Value| {
        let rt = it["rt"].as_str().or(it["64k"].as_str()).unwrap_or("-");
        let text = |key: &str| it[key].as_str().unwrap();
        format!("{} {} {} {rt} {}", text("rhel"), text("kernel"), it["machines"], it["releases"])
    };
    let lines: Vec<String> = matrix["entries"].as_array().unwrap().iter().map(line).collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    8.4 4.18.0-305.17.1.el8_4 ["x86_64"] 4.18.0-305.17.1.rt7.1.el8_4 ["4.9.0"]
    8.4 4.18.0-305.19.1.el8_4 ["x86_64"] 4.18.0-305.19.1.rt7.1.el8_4 ["4.9.10","4.9.4"]
    9.8 5.14.0-600.el9_8 ["x86_64"] - ["4.22.3"]
    9.8 5.14.0-687.el9_8 ["x86_64"] - ["4.22.0","4.22.3"]
    10.2 6.12.0-200.el10_2 ["x86_64"] 6.12.0-200.el10_2+64k ["4.22.0"]
    "#);
    assert!(registry.requests().contains(&"/graph?channel=stable-4.22&arch=amd64".to_owned()));

    // What is known by its digest is not asked for again.
    json(dir.path(), 3, &args);
    let again = registry.requests();
    assert!(
        again.iter().all(|uri| uri.starts_with("/graph?") || uri == "/v2/" || uri.contains("sha256:0000")),
        "{again:?}"
    );

    let (_, github, _) = run(dir.path(), &[&args[..], &["--format", "github"]].concat());
    let rows = [
        ("8.4", "4.18.0-305.17.1.el8_4"),
        ("8.4", "4.18.0-305.19.1.el8_4"),
        ("9.8", "5.14.0-600.el9_8"),
        ("9.8", "5.14.0-687.el9_8"),
        ("10.2", "6.12.0-200.el10_2"),
    ]
    .map(|(rhel, kernel)| format!(r#"{{"archs":"linux/amd64","kernel":"{kernel}","rhel":"{rhel}"}}"#));
    assert_eq!(github, format!("{{\"versions\":[{}]}}\n", rows.join(",")));
    let (_, include, _) = run(dir.path(), &[&args[..], &["--format", "github-include"]].concat());
    assert_eq!(include.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&include).unwrap()["include"][0]["platform"], "linux/amd64");
    let (_, table, _) = run(dir.path(), &args);
    assert_eq!(
        table.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["KERNEL", "RHEL", "MACHINES", "RT", "RELEASES"]
    );
}

#[test]
fn what_a_repository_has_is_left_out_and_a_registry_that_lets_nobody_in_has_not_said_no() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    pool(dir.path());
    let to = format!("docker://{}/driver-toolkit", registry.address);
    let image = registry.image(&json!({}), &[]);
    registry.tag("driver-toolkit:6.1.0-2", &image);
    registry.tag("driver-toolkit:6.12.9_deb12.x86_64", &image);
    let args = ["kernel", "matrix", "dir:pool", "--missing-in", &to, "--dest-tls-verify=false"];
    // Without TLS only where that is said.
    let plain =
        "answers in plain HTTP, without TLS\nhint: if no TLS is intended there, add `--dest-tls-verify=false`\n";
    let refused = (1, String::new(), format!("error: {}: {plain}", registry.address));
    assert_eq!(run(dir.path(), &args[..5]), refused);
    let kernels = |matrix: &Value| {
        matrix["entries"].as_array().unwrap().iter().map(|it| it["kernel"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(kernels(&json(dir.path(), 0, &args)), ["6.1.0-1"]);
    // As Debian names it; for another machine; and in an index of both.
    for (tags, left) in [
        (&[("6.1.0-1-amd64", "amd64")][..], vec![]),
        (&[("6.1.0-1-amd64", "arm64")], vec!["6.1.0-1"]),
        (&[("6.1.0-1", "amd64 arm64"), ("6.1.0-2", "arm64")], vec!["6.1.0-2"]),
        (&[("6.1.0-1", "")], vec![]),
    ] {
        for (name, machines) in tags {
            let images: Vec<Value> = machines
                .split(' ')
                .map(|machine| match machine {
                    "" => json!({ "digest": image }),
                    _ => json!({ "digest": image, "platform": { "os": "linux", "architecture": machine } }),
                })
                .collect();
            registry.document(&format!("driver-toolkit:{name}"), &json!({ "schemaVersion": 2, "manifests": images }));
        }
        assert_eq!(kernels(&json(dir.path(), 0, &args)), left, "{tags:?}");
        registry.untag("driver-toolkit:6.1.0-1-amd64");
        registry.tag("driver-toolkit:6.1.0-2", &image);
    }
    // For two machines of which one is there it stays whole: an image that is made takes the place of what is there.
    for (abi, machine) in [("6.1.0-7", "amd64"), ("6.1.0-7", "arm64")] {
        crate::kernel(&dir.path().join("pool"), abi, "6.1.9-1", machine);
        Deb::new("linux-kbuild-6.1", "6.1.9-1", machine).write(&dir.path().join("pool"));
    }
    registry.tag("driver-toolkit:6.1.0-7", &image);
    let both =
        json(dir.path(), 0, &[&args[..], &["--arch", "x86_64", "--arch", "aarch64", "--release", "6.1.0-7"]].concat());
    assert_eq!(both["entries"][0]["machines"], json!(["aarch64", "x86_64"]));
    registry.untag("driver-toolkit:6.1.0-1");
    registry.tag("driver-toolkit:6.1.0-2", &image);
    assert_eq!(kernels(&json(dir.path(), 0, &args[..3])), ["6.1.0-1", "6.1.0-2", "6.1.0-7", "6.12.9+deb12"]);
    registry.lock();
    let (status, stdout, stderr) = run(dir.path(), &args);
    assert_eq!((status, &*stdout), (1, ""));
    assert!(
        stderr.contains("access denied with the available credentials") && stderr.contains("hint: log in"),
        "{stderr}"
    );
}

#[test]
fn a_repository_that_is_not_there_is_told_from_one_that_lacks_everything() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    pool(dir.path());
    registry.file("/v2/driver-toolkit/tags/list", br#"{"name":"driver-toolkit","tags":["other"]}"#.to_vec());
    let missing_in = |name: &str| {
        let place = format!("docker://{}/{name}", registry.address);
        let matrix = ["kernel", "matrix", "dir:pool", "--missing-in", &place, "--dest-tls-verify=false", "--json"];
        let (status, stdout, stderr) = run(dir.path(), &matrix);
        let matrix: Value = serde_json::from_str(&stdout).unwrap();
        (status, matrix["entries"].as_array().unwrap().len(), stderr.replace(&registry.address, "HOST"))
    };
    let (status, kernels, _) = missing_in("driver-toolkit");
    let there = format!("0 of {kernels} kernels have all images in docker://HOST/driver-toolkit\n");
    assert_eq!((status, missing_in("driver-toolkit").2), (0, there));
    // A new one is no mistake: all kernels are to be built.
    let absent = "warning: docker://HOST/driver-toolkt: the registry has no such repository, so that all kernels count as missing; check \
                  its name, unless nothing was pushed there yet\n";
    assert_eq!(missing_in("driver-toolkt"), (0, kernels, absent.to_owned()));
}

#[test]
fn versions_without_places_are_found_by_tag_in_directories_archives_and_lists() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let place = payload(&registry, &[("rhel-coreos", json!({ "ostree.linux": "5.14.0-427.el9_4.x86_64" }), &[])]);
    let digest = place.rsplit('@').next().unwrap();
    for version in ["4.16.1", "4.16.3"] {
        registry.tag(&format!("openshift-release-dev/ocp-release:{version}-x86_64"), digest);
    }
    let channel = "feeder: {name: candidate}\nname: stable-4.16\nversions:\n- 4.16.1\n- 4.16.3\n";
    let data = dir.path().join("graph-data/channels");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("stable-4.16.yaml"), channel).unwrap();
    std::fs::write(dir.path().join("list"), "4.16.3 # this\n4.16.1\n").unwrap();
    let mut tar = tar::Builder::new(std::fs::File::create(dir.path().join("graph.tar")).unwrap());
    tar.append_dir_all("data", dir.path().join("graph-data")).unwrap();
    tar.into_inner().unwrap();
    let map = format!("quay.io={}", registry.address);
    for from in [
        &["--channel", "stable-4.16", "--graph", "graph-data"][..],
        &["--channel", "stable-4.16", "--graph", "graph-data/channels"],
        &["--channel", "stable-4.16", "--graph", "graph.tar"],
        &["--versions", "list"],
    ] {
        let matrix = json(
            dir.path(),
            0,
            &[&["kernel", "matrix", "--src-tls-verify=false", "--registry-map", &map], from].concat(),
        );
        assert_eq!(
            matrix["entries"],
            json!([{ "kernel": "5.14.0-427.el9_4", "machines": ["x86_64"], "rhel": "9.4", "releases": ["4.16.1", "4.16.3"] }]),
            "{from:?}"
        );
    }
    let (status, _, stderr) =
        run(dir.path(), &["kernel", "matrix", "--registry-map", &map, "--versions", "list", "--retries", "0"]);
    assert!(status == 1 && stderr.contains("answers in plain HTTP, without TLS"), "{stderr}");
    for (args, why) in [
        (&[][..], "nothing to make a matrix of"),
        (&["--channel", "x-1", "--graph", "graph-data"], "graph-data: it has no channel x-1"),
        (&["--channel", "x-1", "--graph", "graph.tar"], "graph.tar: it has no channel x-1"),
        (&["--channel", "x-1", "--graph", "list"], "not an update graph"),
        (&["--registry-map", "quay.io"], "expected FROM=TO"),
    ] {
        let (status, _, stderr) = run(dir.path(), &[&["kernel", "matrix"], args].concat());
        assert!(status != 0 && stderr.contains(why), "{args:?}: {stderr}");
    }
}

/// The real graph of a channel, and for every release of it a payload with real labels.
#[test]
#[ignore = "needs HAVERSACK_REAL_DATA and jq; .ci/run sets it"]
fn every_version_of_a_real_channel_is_there_although_numbers_are_missing() {
    let data = Path::new(&crate::variable("HAVERSACK_REAL_DATA")).join("kernel");
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(data.join(path)).unwrap()).unwrap() };
    let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::start());
    let mut labels = read("rhcos/machine-os-content-4.9.0-rc.1.labels.json")["config"]["config"]["Labels"].take();
    let mut graph = read("release-graph/graph_stable-4.9_amd64.json");
    let mut versions = BTreeSet::new();
    for (number, node) in graph["nodes"].as_array_mut().unwrap().iter_mut().enumerate() {
        let kernel = format!("4.18.0-305.{}.1.el8_4", number / 4 + 1);
        labels["com.coreos.rpm.kernel"] = json!(format!("{kernel}.x86_64"));
        node["payload"] = json!(payload(&registry, &[("machine-os-content", labels.clone(), &[])]));
        versions.insert(node["version"].as_str().unwrap().to_owned());
    }
    assert!(versions.contains("4.9.0") && !versions.contains("4.9.2") && !versions.contains("4.9.3"));
    registry.file("/graph", graph.to_string().into_bytes());
    let (url, map) = (format!("http://{}/graph", registry.address), format!("quay.io={}", registry.address));
    let args = [
        "kernel",
        "matrix",
        "--channel",
        "stable-4.9",
        "--graph",
        &url,
        "--registry-map",
        &map,
        "--src-tls-verify=false",
    ];
    let matrix = json(dir.path(), 0, &args);
    let entries = matrix["entries"].as_array().unwrap();
    let found: BTreeSet<String> = entries
        .iter()
        .flat_map(|entry| entry["releases"].as_array().unwrap())
        .map(|version| version.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, versions);
    for (format, filter) in
        [("github", ".versions | length"), ("json", ".entries | length"), ("github-include", ".include | length")]
    {
        let (_, text, _) = run(dir.path(), &[&args[..], &["--format", format]].concat());
        let mut jq = Command::new("jq").arg(filter).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut jq.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let counted = String::from_utf8(jq.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(counted.trim().parse(), Ok(entries.len()), "{format}");
    }
}
