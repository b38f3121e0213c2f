//! The image, under podman.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::engines::{self, Storage};
use crate::stand_in::{self, StandIn};
use crate::{Run, Site, catalog};

#[test]
#[ignore = "needs podman; scripts/test.sh runs it where podman works"]
fn the_image_dumps_without_a_network_and_refreshes_with_one_under_podman() {
    let server = StandIn::start(catalog(1000, 200));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let definition = concat!(env!("CARGO_MANIFEST_DIR"), "/images/catalog");
    let image = "localhost/haversack-test-catalog:latest";
    let build = |archive: &str| {
        let output = format!("oci-archive:{archive}:{image}");
        site.run(&["build", definition, "--catalog", "catalog.db", "--output", &output, "--json"]).json()[0]["digest"]
            .clone()
    };
    assert_eq!(build("one.tar"), build("two.tar"), "two builds, one digest");
    assert!(std::fs::read(site.path("one.tar")).unwrap() == std::fs::read(site.path("two.tar")).unwrap());

    let podman = |args: &[&str]| podman(&site, args);
    podman(&["load", "--input", "one.tar"]).done();
    let (_, mount) = dump_directory(&site);
    let anybody = ["run", "--rm", "--read-only", "--user", "1234:1234", "-v", &mount];
    let without_network = [&anybody[..], &["--network", "none"]].concat();

    let run = podman(&[&without_network[..], &["--env", "OCT_DUMP_ONLY=true", image]].concat()).done();
    assert_eq!(run.stdout(), "OCT: Dumping current DB to /tmp/dump\n");
    site.run(&["catalog", "dump", "expected"]).done();
    let tree = |root: &str| -> Vec<(PathBuf, Vec<u8>)> {
        let files = walkdir::WalkDir::new(site.path(root)).sort_by_file_name().into_iter().map(Result::unwrap);
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let name = entry.path().strip_prefix(site.path(root)).unwrap().to_owned();
                (name, std::fs::read(entry.path()).unwrap())
            })
            .collect()
    };
    assert!(tree("dump") == tree("expected"));

    // Old commands, and questions, work in the image as well.
    podman(&[&without_network[..], &["--env", "OCT_DUMP_ONLY=true", image, "./run.sh"]].concat()).done();
    podman(&[&without_network[..], &["--entrypoint", "./run.sh", "--env", "OCT_DUMP_ONLY=true", image]].concat())
        .done();
    let run = podman(&[&without_network[..], &[image, "catalog", "check", "operator", "op1-operator.v1.0.0"]].concat());
    assert!(run.done().stdout().starts_with("certified\n"));

    // Without a network there is nothing to refresh from; the tree stays.
    podman(&[&without_network[..], &["--env", "HAVERSACK_RETRIES=0", image]].concat())
        .failed(1, &["OCT_DUMP_ONLY=true"]);
    assert!(tree("dump") == tree("expected"));

    server.state().bundles.push(stand_in::bundle(5000));
    let (api, charts) = (format!("HAVERSACK_API={}", server.api()), format!("HAVERSACK_CHARTS={}", server.charts()));
    podman(&[&anybody[..], &["--network", "host", "--env", &api, "--env", &charts, image]].concat()).done();
    let refreshed = tree("dump");
    site.snapshot(&server, &[]).done();
    site.run(&["catalog", "dump", "expected"]).done();
    let operators = |tree: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        tree.into_iter().filter(|(name, _)| name.starts_with("data/operators")).collect()
    };
    assert!(operators(refreshed) == operators(tree("expected")));
    podman(&["rmi", image]).done();
}

#[test]
#[ignore = "needs podman, mount, dpkg-deb and HAVERSACK_DEBS; over a base of Debian, on overlay and on vfs"]
fn over_a_base_the_image_dumps_and_the_base_stays_what_it_is() {
    let server = StandIn::start(catalog(20, 10));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let debs = std::env::var("HAVERSACK_DEBS").expect("HAVERSACK_DEBS is not set");
    engines::debian(Path::new(&debs), &site.path("base"));
    let definition = concat!(env!("CARGO_MANIFEST_DIR"), "/images/catalog");
    let base = ["--base", "oci:base:debian", "--output", "oci:over:catalog"];
    site.run(&[&["build", definition, "--catalog", "catalog.db"][..], &base].concat()).done();
    for driver in ["overlay", "vfs"] {
        let storage = Storage::new(driver);
        let id = storage.last_line(site.dir.path(), &["podman", "pull", "--quiet", "oci:over:catalog"]);
        let run = ["podman", "run", "--rm", "--network", "none", "--user", "1234:1234"];
        let shell = ["--entrypoint", "/bin/sh", &id, "-c", engines::AS_BELOW];
        let said = storage.run(site.dir.path(), &[&run[..], &shell].concat());
        assert!(engines::is_as_below(&said), "{driver}: {said}");
        let dumped = storage.run(site.dir.path(), &[&run[..], &["--env", "OCT_DUMP_ONLY=true", &id]].concat());
        assert_eq!(dumped, "OCT: Dumping current DB to /tmp/dump\n", "{driver}");
    }
}

#[test]
#[ignore = "needs podman; scripts/test.sh runs it where podman works"]
fn podman_stop_ends_a_refresh_at_once_and_the_next_goes_on_where_it_stopped() {
    let server = StandIn::start(catalog(3000, 200));
    let site = Site::new();
    site.snapshot(&server, &[]).done();
    let definition = concat!(env!("CARGO_MANIFEST_DIR"), "/images/catalog");
    let image = "localhost/haversack-test-stop:latest";
    let output = format!("oci-archive:image.tar:{image}");
    site.run(&["build", definition, "--catalog", "catalog.db", "--output", &output]).done();
    let podman = |args: &[&str]| podman(&site, args);
    podman(&["load", "--input", "image.tar"]).done();
    let (dump, mount) = dump_directory(&site);
    let (api, charts) = (format!("HAVERSACK_API={}", server.api()), format!("HAVERSACK_CHARTS={}", server.charts()));
    let all = ["--user", "1234:1234", "--network", "host", "-v", &mount, "--env", &api, "--env", &charts];
    let how = ["--env", "HAVERSACK_PAGE_SIZE=50", "--env", "HAVERSACK_FULL=true", "--env", "HAVERSACK_PARALLEL=1"];
    let name = format!("haversack-test-stop-{}", std::process::id());

    server.take_log();
    server.state().latency = Duration::from_millis(20);
    podman(&[&["run", "--detach", "--name", &name][..], &all, &how, &[image]].concat()).done();
    server.wait_for(|state| state.log.len() > 60);
    // Who does not end by himself is killed after ten seconds, and then has the status 137.
    podman(&["stop", "--time", "10", &name]).done();
    let run = podman(&["inspect", "--format", "{{.State.ExitCode}}", &name]).done();
    assert_eq!(run.stdout().trim(), "143");
    assert!(podman(&["logs", &name]).stderr().contains("error: stopped by SIGTERM"));
    podman(&["rm", &name]).done();
    let before = server.take_log().len();

    let run = podman(&[&["run", "--rm"][..], &all, &how, &[image]].concat()).done();
    assert!(run.stderr().contains("Went on with what an earlier run had fetched"), "{}", run.stderr());
    let after = server.take_log().len();
    std::fs::remove_dir_all(dump.join("data")).unwrap();
    std::fs::remove_file(dump.join("catalog.db")).unwrap();
    podman(&[&["run", "--rm"][..], &all, &how, &[image]].concat()).done();
    let whole = server.take_log().len();
    assert!(after + 30 < whole, "{before} requests before the stop, {after} after it, {whole} without one");
    podman(&["rmi", image]).done();
}

/// A directory that anybody in a container may write to, and how it is mounted.
fn dump_directory(site: &Site) -> (PathBuf, String) {
    let dump = site.path("dump");
    std::fs::create_dir(&dump).unwrap();
    std::fs::set_permissions(&dump, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let mount = format!("{}:/tmp/dump:Z", dump.display());
    (dump, mount)
}

fn podman(site: &Site, args: &[&str]) -> Run {
    let mut command = Command::new("podman");
    command.args(args).current_dir(site.dir.path());
    if std::env::var_os("CONTAINERS_CONF").is_none() && !podman_works_as_it_is() {
        command.env("CONTAINERS_CONF", concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/podman/containers.conf"));
    }
    Run(command.output().unwrap())
}

/// Whether podman can run anything without settings of ours: 127 is the container's word that there is no such program.
fn podman_works_as_it_is() -> bool {
    let rootfs = tempfile::tempdir().unwrap();
    let run = Command::new("podman")
        .args(["run", "--rm", "--network", "none", "--rootfs", rootfs.path().to_str().unwrap(), "/nothing"])
        .output()
        .unwrap();
    run.status.code() == Some(127)
}
