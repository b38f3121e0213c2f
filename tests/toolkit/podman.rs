//! Toolkits and kernel images under podman.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engines::{self, Storage};
use crate::{json, run, server};

/// The image that a layout has under a name, in podman's storage until the end of the test.
struct Loaded(String);

impl Loaded {
    fn new(dir: &Path, image: &str) -> Self {
        let output = Command::new("podman")
            .args(["pull", "--quiet", &format!("oci:{image}")])
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Loaded(String::from_utf8(output.stdout).unwrap().trim().lines().last().unwrap().to_owned())
    }

    /// Runs it without a network; returns status and output.
    fn run(&self, options: &[&str], command: &[&str]) -> (i32, String) {
        let output = Command::new("podman")
            .args(["run", "--rm", "--network", "none"])
            .args(options)
            .arg(&self.0)
            .args(command)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = Command::new("podman").args(["rmi", "--force", &self.0]).output();
    }
}

/// A repository of the real packages that scripts/debs.sh fetched, as apt-ftparchive makes it.
fn repository(dir: &Path) -> String {
    let root = dir.join("debian");
    let binary = root.join("dists/bookworm/main/binary-amd64");
    std::fs::create_dir_all(&binary).unwrap();
    let pool = crate::variable("HAVERSACK_DEBS");
    std::os::unix::fs::symlink(pool, root.join("pool")).unwrap();
    let archive = |args: &[&str], to: PathBuf| {
        let output = Command::new("apt-ftparchive").args(args).current_dir(&root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(to, output.stdout).unwrap();
    };
    archive(&["packages", "pool"], binary.join("Packages"));
    archive(&["release", "dists/bookworm"], root.join("dists/bookworm/Release"));
    root.display().to_string()
}

/// A module of its own, with something of the kernel in it.
const MODULE: &str = r#"
#include <linux/module.h>
#include <linux/slab.h>
static void *held;
static int __init begin(void) { held = kmalloc(64, GFP_KERNEL); return held ? 0 : -ENOMEM; }
static void __exit end(void) { kfree(held); }
module_init(begin);
module_exit(end);
MODULE_LICENSE("GPL");
"#;

/// Writes the module's sources, and says how they are mounted.
fn module(dir: &Path) -> String {
    let src = dir.join("src");
    std::fs::create_dir(&src).unwrap();
    std::fs::write(src.join("held.c"), MODULE).unwrap();
    std::fs::write(src.join("Makefile"), "obj-m := held.o\n").unwrap();
    format!("{}:/src:ro", src.display())
}

const BUILD: &str = "set -e; . /etc/driver-toolkit-release.sh; mkdir /tmp/m; cp /src/* /tmp/m; \
    make -s -C /lib/modules/$KERNEL_VERSION/build M=/tmp/m modules >&2; modinfo -F vermagic /tmp/m/held.ko";

#[test]
#[ignore = "needs podman, apt-ftparchive and HAVERSACK_DEBS; scripts/debs.sh fetches real packages for it"]
fn a_module_compiles_in_the_toolkit_of_each_kernel_and_names_that_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let server = server::Server::start(Path::new(&repository(dir.path())));
    let source = format!("apt:{} bookworm main", server.url);
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/driver-toolkit");
    let definition = definition.to_str().unwrap();
    let listed = json(dir.path(), 0, &["kernel", "list", &source, "--flavour", "default"]);
    let kernels = listed["kernels"].as_array().unwrap();
    let of = |series: &str, count: usize| -> Vec<String> {
        let unames = kernels.iter().map(|it| it["uname"].as_str().unwrap().to_owned());
        unames.filter(|it| it.starts_with(series)).take(count).collect()
    };
    let releases = [of("6.1.", 2), of("6.12.", 1)].concat();
    assert_eq!(releases.len(), 3, "two releases of 6.1 and one of 6.12 are expected in HAVERSACK_DEBS");
    let mut args = vec!["build", definition, "--kernels", &source, "--packages", &source, "--output", "oci:out"];
    args.extend(releases.iter().flat_map(|release| ["--release", release]));
    json(dir.path(), 0, &args);
    let volume = module(dir.path());
    for release in releases {
        let image = Loaded::new(dir.path(), &format!("out:driver-toolkit:{}", release.replace('+', "_")));
        let (status, said) = image.run(&["--user", "1001", "-v", &volume], &["sh", "-c", BUILD]);
        let names_it = said.lines().any(|line| line.starts_with(&format!("{release} SMP")));
        assert!(status == 0 && names_it, "{release}: {said}");
    }
}

/// Root has built it, and the image's own user, who is nobody on this machine, works in it.
#[test]
#[ignore = "needs podman, apt-ftparchive and HAVERSACK_DEBS; scripts/debs.sh fetches real packages for it"]
fn the_user_of_a_toolkit_writes_where_it_must_and_nowhere_else_and_builds_in_a_directory_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let server = server::Server::start(Path::new(&repository(dir.path())));
    let source = format!("apt:{} bookworm main", server.url);
    let listed = json(dir.path(), 0, &["kernel", "list", &source, "--flavour", "default", "--since", "6.12"]);
    let release = listed["kernels"][0]["uname"].as_str().unwrap().to_owned();
    json(
        dir.path(),
        0,
        &["build", "driver-toolkit", "--kernels", &source, "--release", &release, "--output", "oci:out"],
    );
    let image = Loaded::new(dir.path(), &format!("out:driver-toolkit:{}", release.replace('+', "_")));
    let look = "id -u; cd; pwd; touch here; find / -xdev -type d -writable 2> /dev/null | sort";
    assert_eq!(
        image.run(&[], &["sh", "-c", look]),
        (0, "1001\n/home/builder\n/home/builder\n/tmp\n/var/lock\n/var/tmp\n".to_owned())
    );
    // Nothing of the image is another user's, nor has a bit that makes its reader somebody else.
    let odd = "find / -xdev ! -user 0 ! -path '/home/builder*'; find / -xdev -type f -perm /6000";
    assert_eq!(image.run(&["--user", "0"], &["sh", "-c", odd]), (0, String::new()));
    let _ = module(dir.path());
    let volume = format!("{}:/src", dir.path().join("src").display());
    let make =
        format!("make -s -C /lib/modules/{release}/build M=/src modules 2>&1 | grep -v '^warning: '; ls /src/*.ko");
    // A directory that is root's stays as it is.
    let (status, said) = image.run(&["-v", &volume], &["sh", "-c", &make]);
    assert!(status != 0 && said.contains("Permission denied"), "{said}");
    std::os::unix::fs::chown(dir.path().join("src"), Some(1001), Some(1001)).unwrap();
    let (status, said) = image.run(&["-v", &volume], &["sh", "-c", &make]);
    assert_eq!((status, said.lines().last()), (0, Some("/src/held.ko")), "{said}");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(dir.path().join("src/held.ko")).unwrap());
    assert_eq!(owner, 1001);
}

#[test]
#[ignore = "needs podman, mount, apt-ftparchive and HAVERSACK_DEBS; over a base of Debian and over nothing, on overlay and on vfs"]
fn a_toolkit_compiles_and_keeps_its_base_on_overlay_and_on_vfs() {
    let dir = tempfile::tempdir().unwrap();
    let server = server::Server::start(Path::new(&repository(dir.path())));
    let source = format!("apt:{} bookworm main", server.url);
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/driver-toolkit");
    let definition = definition.to_str().unwrap();
    let listed = json(dir.path(), 0, &["kernel", "list", &source, "--flavour", "default"]);
    let kernels = listed["kernels"].as_array().unwrap().iter().map(|it| it["uname"].as_str().unwrap().to_owned());
    let release = kernels.into_iter().find(|it| it.starts_with("6.1.")).unwrap();
    engines::debian(Path::new(&crate::variable("HAVERSACK_DEBS")), &dir.path().join("base"));
    let volume = module(dir.path());
    for (place, base) in [("over", &["--base", "oci:base:debian"][..]), ("scratch", &[])] {
        let output = format!("oci:{place}:toolkit");
        let args = ["build", definition, "--kernels", &source, "--packages", &source, "--release", &release];
        json(dir.path(), 0, &[&args[..], &["--output", &output], base].concat());
        for driver in ["overlay", "vfs"] {
            let storage = Storage::new(driver);
            let id = storage.last_line(dir.path(), &["podman", "pull", "--quiet", &output]);
            let shell = |user: &str, script: &str| {
                let run =
                    ["podman", "run", "--rm", "--network", "none", "--user", user, "-v", &volume, &id, "sh", "-c"];
                storage.run(dir.path(), &[&run[..], &[script]].concat())
            };
            let said = shell("1000", BUILD);
            assert!(said.lines().any(|line| line.starts_with(&format!("{release} SMP"))), "{place}, {driver}: {said}");
            if base.is_empty() {
                let said = shell("1000", "stat -c '%a %u' /tmp /var/tmp /root; readlink /lib; ldd /bin/bash");
                assert!(said.starts_with("1777 0\n1777 0\n700 0\nusr/lib\n"), "{place}, {driver}: {said}");
                assert!(said.contains("libc.so.6 => ") && !said.contains("not found"), "{place}, {driver}: {said}");
            } else {
                let said = shell("1000", engines::AS_BELOW);
                assert!(engines::is_as_below(&said), "{place}, {driver}: {said}");
                // Of a user that the file has: podman adds others to it.
                assert_eq!(shell("0", "cat /etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n", "{place}, {driver}");
            }
        }
    }
}

#[test]
#[ignore = "needs podman; scripts/test.sh runs it where podman works"]
fn an_image_of_kernels_dumps_as_any_user_and_says_what_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    crate::pool(dir.path());
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("images/kernels");
    json(dir.path(), 0, &["build", definition.to_str().unwrap(), "--kernels", "dir:pool", "--output", "oci:out"]);
    let image = Loaded::new(dir.path(), "out:haversack-kernels:latest");
    let dump = dir.path().join("dump");
    std::fs::create_dir(&dump).unwrap();
    std::fs::set_permissions(&dump, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let volume = format!("{}:/tmp/dump", dump.display());
    for user in ["0", "1001", "54321:54321"] {
        let options = ["--user", user, "--read-only", "--read-only-tmpfs=false", "-v", &volume];
        let (status, said) = image.run(&options, &[]);
        assert_eq!(status, 0, "{user}: {said}");
        let check = Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&dump).status();
        assert!(check.unwrap().success(), "{user}");
        for entry in std::fs::read_dir(&dump).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
        }
    }
    let (status, said) = image.run(&["--user", "1001", "-v", &volume], &["dump", "--release", "6.1.0-2-amd64"]);
    assert_eq!(status, 0, "{said}");
    let (_, unpacked, _) = run(&dump, &["kernel", "list", "dir:debian"]);
    assert!(unpacked.contains("6.1.0-2-amd64") && !unpacked.contains("6.1.0-1-amd64"), "{unpacked}");
    let source = "HAVERSACK_KERNEL_SOURCE=rpm:http://mirror.invalid/os/";
    let (status, said) = image.run(&["--env", source, "-v", &volume], &["run", "--retries", "0"]);
    assert!(status != 0 && said.contains("mirror.invalid"), "{status}: {said}");
}
