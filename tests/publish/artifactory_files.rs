//! Which files `publish artifactory` takes, under which names and with which properties.

use serde_json::json;

use crate::artifactory_server::{Server, packages, paths};
use crate::{Run, haversack};

#[test]
fn names_of_all_kinds_are_the_same_there_and_found_again() {
    let (server, dir) = (Server::start(), packages());
    let names = ["a;b=c.rpm", "100%.rpm", "50%25.rpm", "c#?.rpm", "d:e+f~g^h.rpm", "größe &c.rpm", "x\\y.rpm"];
    for name in names {
        std::fs::write(dir.path().join("packages").join(name), name).unwrap();
    }
    assert_eq!(paths(&server.run(&dir, &[]).done(), "uploaded").len(), 3 + names.len());
    for name in names {
        assert!(server.files().contains(&name.to_owned()), "{name}: {:?}", server.files());
    }
    assert_eq!(paths(&server.run(&dir, &[]).done(), "skipped").len(), 3 + names.len());
    // A list of addresses in place of names does not hide a file.
    server.shared.lock().unwrap().lists_addresses = true;
    std::fs::write(dir.path().join("packages/el 9/c+1.rpm"), "changed").unwrap();
    let run = server.run(&dir, &[]);
    assert_eq!((run.status, paths(&run.json(), "different")), (3, vec!["el 9/c+1.rpm".to_owned()]));
}

#[test]
fn properties_that_the_server_drops_are_missed() {
    let (server, dir) = (Server::start(), packages());
    let args = ["--property", "origin=rhsm", "--property", "a b=c;d,e", "--property", "origin=other"];
    assert_eq!(server.run(&dir, &args).done()["without_properties"], json!([]));

    let (server, dir) = (Server::start(), packages());
    server.shared.lock().unwrap().drops_properties = true;
    let run = server.run(&dir, &args);
    let document = run.json();
    assert_eq!((run.status, paths(&document, "without_properties").len(), server.files().len()), (3, 3, 3));
    let error = document["without_properties"][0]["error"].as_str().unwrap();
    assert!(error.starts_with("the server did not store a b, origin;"), "{error}");
    assert!(run.stderr.contains("a.rpm: uploaded without its properties"), "{}", run.stderr);
}

#[test]
fn what_is_left_out_of_a_directory_is_said_and_counted() {
    let (server, dir) = (Server::start(), packages());
    let packages = dir.path().join("packages");
    std::fs::create_dir(packages.join(".git")).unwrap();
    std::fs::write(packages.join(".git/config"), "of git").unwrap();
    std::fs::write(packages.join(".treeinfo"), "[tree]").unwrap();
    std::os::unix::fs::symlink("nowhere", packages.join("dangling")).unwrap();
    std::os::unix::fs::symlink("a.rpm", packages.join("link.rpm")).unwrap();
    let run = server.run(&dir, &[]);
    let document = run.json();
    assert_eq!((run.status, server.files().len()), (3, 4), "{}", run.stderr);
    assert_eq!(paths(&document, "left_out"), ["packages/.git", "packages/.treeinfo", "packages/dangling"]);
    assert!(run.stderr.contains("packages/.treeinfo: left out: its name begins with a dot"), "{}", run.stderr);

    std::fs::remove_file(packages.join("dangling")).unwrap();
    assert_eq!(server.run(&dir, &["--hidden"]).done()["left_out"], json!([]));
    assert_eq!(server.files(), [".git/config", ".treeinfo", "a.rpm", "b.rpm", "el 9/c+1.rpm", "link.rpm"]);
}

#[test]
fn two_packages_of_one_name_do_not_replace_each_other() {
    let (server, dir) = (Server::start(), packages());
    for (place, content) in [("one", "of one"), ("two", "of another")] {
        std::fs::create_dir(dir.path().join(place)).unwrap();
        std::fs::write(dir.path().join(place).join("same.deb"), content).unwrap();
    }
    let run = |locations: [&str; 2]| {
        let package = |location: &str| {
            json!({ "role": "headers", "name": location.split_once('/').unwrap().0, "version": "6.1.192-2", "architecture": "amd64", "format": "deb",
                    "location": location })
        };
        let kernel = json!({
            "distribution": "debian", "uname": "6.1.0-56-amd64", "machine": "x86_64", "flavour": "default",
            "build": "6.1.192-2", "packages": locations.map(package),
        });
        let set = json!({ "format": "haversack.kernels", "version": 1, "kernels": [kernel] });
        std::fs::write(dir.path().join("kernels.json"), set.to_string()).unwrap();
        let mut command = haversack(dir.path());
        command.args(["publish", "artifactory", "kernels.json", "--url", &server.url, "--repo", "redhat-sources"]);
        Run::of(command.arg("--json").env("ARTIFACTORY_TOKEN", "t0ken").output().unwrap())
    };
    let clash = run(["one/same.deb", "two/same.deb"]);
    assert!(clash.status == 1 && clash.stderr.contains("same.deb: two packages of the set"), "{}", clash.stderr);
    assert_eq!(server.files().len(), 0);
    assert_eq!(paths(&run(["one/same.deb", "one/same.deb"]).done(), "uploaded"), ["same.deb"]);
}
