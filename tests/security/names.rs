//! Names that a registry lists become paths at another registry and entries in files.

use std::sync::Arc;

use crate::Scene;
use crate::server::{Answer, Image, Server};

/// A registry with one image under all the tags and in all the repositories that it lists.
fn registry(tags: &'static [&'static str], repositories: &'static [&'static str]) -> Server {
    let image = Arc::new(Image::small());
    Server::start(move |request| match request.path.split('?').next().unwrap() {
        "/v2/_catalog" => Answer::new(200, serde_json::json!({ "repositories": repositories }).to_string()),
        path if path.ends_with("/tags/list") => {
            Answer::new(200, serde_json::json!({ "name": "team/app", "tags": tags }).to_string())
        }
        // Signatures and the like are found under tags that are made of digests.
        path if path.contains("/manifests/sha256-") => Answer::new(404, ""),
        path => image.answer(path).unwrap_or(Answer::new(404, "")),
    })
}

fn list(source: &Server, to: &str, repositories: &str) -> String {
    format!(
        "to = '{to}'\n[[images]]\nregistry = '{}'\nrepositories = ['{repositories}']\ntags = ['**']\n",
        source.address
    )
}

const SYNC: &[&str] =
    &["sync", "list.toml", "--json", "--retries=0", "--src-tls-verify=false", "--dest-tls-verify=false"];

/// Each leads out of its path in a URL, is another path in it, or is another entry in a file.
const FORGED: &[&str] = &[
    "..\\..\\..\\..\\victim\\app\\manifests\\latest",
    "../../../victim/app/manifests/latest",
    "..%2f..%2fvictim",
    "x?y=z",
    "x#y",
    "x\n    - evil.example/victim",
    "x\"\n[[registry]]\nlocation = \"evil.example",
    ".hidden",
    "",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000",
];

#[test]
fn a_tag_that_is_none_reaches_no_other_repository_and_is_named() {
    let mut tags = vec!["good"];
    tags.extend_from_slice(FORGED);
    let source = registry(tags.leak(), &["team/app"]);
    let (sink, scene) = (Server::sink(), Scene::new());
    scene.write("list.toml", list(&source, &format!("docker://{}/mirror", sink.address), "team/app"));
    let ended = scene.haversack(SYNC);
    assert_eq!(ended.code, 3, "{ended:#?}");
    let written: Vec<_> = sink.paths("PUT").into_iter().filter(|path| path.contains("/manifests/")).collect();
    assert_eq!(written, ["/v2/mirror/team/app/manifests/good"]);
    let strays = |path: &String| !path.starts_with("/v2/mirror/team/app/") && path != "/v2/";
    assert_eq!(sink.seen().into_iter().map(|it| it.path).filter(strays).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(source.seen().into_iter().filter(|it| it.path.contains("victim")).count(), 0);
    // Exit status 3 is for what is named.
    let report = ended.json();
    let failed = report["failed"].to_string();
    assert!(failed.contains("victim"), "{report:#}");
}

#[test]
fn a_repository_that_is_none_reaches_no_other_path_and_no_configuration_file() {
    let mut repositories = vec!["team/app"];
    repositories.extend_from_slice(FORGED);
    let source = registry(&["1"], repositories.leak());
    let (sink, scene) = (Server::sink(), Scene::new());
    scene.write("list.toml", list(&source, &format!("docker://{}/mirror", sink.address), "**"));
    let ended = scene.haversack(&[SYNC, &["--mirror-config=config"]].concat());
    assert_eq!(ended.code, 3, "{ended:#?}");
    let strays = |path: &String| !path.starts_with("/v2/mirror/team/app/") && path != "/v2/";
    assert_eq!(sink.seen().into_iter().map(|it| it.path).filter(strays).collect::<Vec<_>>(), [""; 0]);
    let mut files = 0;
    for entry in walkdir::WalkDir::new(scene.home().join("config")).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(!text.contains("evil") && !text.contains("victim"), "{}:\n{text}", entry.path().display());
            files += 1;
        }
    }
    assert!(files >= 3);
}

/// A layout's names come from outside, too.
#[test]
fn a_name_in_a_layout_forges_no_entry_and_no_path() {
    let (sink, scene) = (Server::sink(), Scene::new());
    let image = Image::small();
    for (number, name) in FORGED.iter().enumerate() {
        let path = scene.home().join(format!("store{number}"));
        image.write_layout(&path);
        let index = std::fs::read_to_string(path.join("index.json")).unwrap();
        let name = serde_json::to_string(&format!("quay.io/team/app:{name}")).unwrap();
        std::fs::write(path.join("index.json"), index.replace("\"x\"", &name)).unwrap();
        scene.write(
            "list.toml",
            format!("to = 'docker://{}/mirror'\n[[images]]\nfrom = 'oci:store{number}'\n", sink.address),
        );
        let ended = scene.haversack(&[SYNC, &["--mirror-config=config"]].concat());
        assert_ne!(ended.code, 0, "{ended:#?}");
        for entry in walkdir::WalkDir::new(scene.home()).into_iter().map(Result::unwrap) {
            if entry.path().components().any(|part| part.as_os_str() == "config") && entry.file_type().is_file() {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                assert!(!text.contains("evil") && !text.contains("victim"), "{}:\n{text}", entry.path().display());
            }
        }
    }
    assert_eq!(sink.paths("PUT"), [""; 0]);
}
