//! Lists of packages from elsewhere that name files of this machine.

use crate::Scene;
use crate::server::{Answer, Server};

/// A set of one package with this location, which has the right digest of the victim's file.
fn set(location: &str) -> String {
    let sha256 = haversack::digest::Digest::sha256(crate::VICTIM).to_string();
    serde_json::json!({
        "format": "haversack.kernels", "version": 1,
        "kernels": [{
            "distribution": "debian", "uname": "6.1.0-1-amd64", "machine": "x86_64", "flavour": "default", "build": "6.1.4-1",
            "packages": [{
                "role": "headers", "name": "linux-headers-6.1.0-1-amd64", "version": "6.1.4-1", "architecture": "amd64",
                "format": "deb", "location": location, "size": crate::VICTIM.len(), "sha256": sha256
            }]
        }]
    })
    .to_string()
}

/// A repository that is empty and takes everything.
fn artifactory() -> Server {
    Server::start(|request| match request.method.as_str() {
        "GET" => Answer::new(200, r#"{"uri":"u","created":"c","files":[]}"#),
        _ if request.headers.iter().any(|(name, _)| name == "x-checksum-deploy") => Answer::new(404, "{}"),
        _ => Answer::new(201, "{}"),
    })
}

/// Places outside the set's own directory.
fn outside(scene: &Scene) -> Vec<String> {
    let victim = scene.victim();
    std::os::unix::fs::symlink(&victim, scene.home().join("link")).unwrap();
    std::os::unix::fs::symlink(scene.dir.path(), scene.home().join("up")).unwrap();
    let absolute = victim.display().to_string();
    vec![
        format!("file://{absolute}"),
        absolute,
        "../victim".into(),
        "./x/../../victim".into(),
        "link".into(),
        "up/victim".into(),
    ]
}

#[test]
fn a_set_does_not_get_files_of_this_machine_fetched() {
    let scene = Scene::new();
    for location in outside(&scene) {
        scene.write("kernels.json", set(&location));
        let ended =
            scene.haversack(&["kernel", "fetch", "set:kernels.json", "--to", "out", "--retries=0", "--offline"]);
        assert_ne!(ended.code, 0, "{location}: {ended:#?}");
        let found = std::fs::read_dir(scene.home().join("out")).into_iter().flatten().flatten();
        let names: Vec<_> = found.map(|entry| entry.file_name()).filter(|name| name != "fetch.lock").collect();
        assert!(names.is_empty(), "{location}: {names:?}");
        scene.unharmed();
    }
}

#[test]
fn a_set_does_not_get_files_of_this_machine_uploaded() {
    let scene = Scene::new();
    for location in outside(&scene) {
        let sink = artifactory();
        scene.write("kernels.json", set(&location));
        let url = sink.url("/artifactory");
        let publish =
            ["publish", "artifactory", "kernels.json", "--url", &url, "--repo=r", "--retry-limit=0", "--retries=0"];
        let ended = scene.haversack(&publish);
        assert_ne!(ended.code, 0, "{location}: {ended:#?}");
        assert!(!sink.received("precious"), "{location}");
        assert_eq!(sink.paths("PUT"), [""; 0], "{location}");
    }
}

/// The list of a crawler has URLs and nothing else.
#[test]
fn a_crawlers_list_does_not_name_files_of_this_machine() {
    let scene = Scene::new();
    let deb = scene.dir.path().join("home/linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb");
    std::fs::write(&deb, crate::VICTIM).unwrap();
    for location in [deb.display().to_string(), format!("file://{}", deb.display())] {
        let list = serde_json::json!({ "Debian": [{ "headers": [location] }] });
        scene.write("list.json", list.to_string());
        let ended =
            scene.haversack(&["kernel", "fetch", "crawler:list.json", "--to", "out", "--retries=0", "--offline"]);
        assert!(!scene.home().join("out").join(deb.file_name().unwrap()).exists(), "{ended:#?}");
    }
}

/// What `kernel fetch` wrote lies beside its lock, and is found there.
#[test]
fn packages_beside_their_set_are_published_as_before() {
    let scene = Scene::new();
    let sink = artifactory();
    let name = "linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb";
    scene.write(name, crate::VICTIM);
    for location in [name.to_owned(), format!("https://h.example/pool/{name}"), format!("./{name}")] {
        scene.write("kernels.json", set(&location));
        let url = sink.url("/artifactory");
        scene.haversack(&[
            "publish",
            "artifactory",
            "kernels.json",
            "--url",
            &url,
            "--repo=r",
            "--retry-limit=0",
            "--retries=0",
        ]);
        assert!(sink.paths("PUT").iter().any(|path| path.ends_with(name)), "{location}: {:?}", sink.paths("PUT"));
    }
}
