//! Engines with storage of their own, and a base of real packages for them.

use std::path::Path;
use std::process::Command;

use haversack::image::Layout;
use haversack::image::store::layout;
use oci_spec::image::MediaType;
use serde_json::json;
use tempfile::TempDir;

/// podman's and buildah's storage with a driver, in a directory of its own.
pub(crate) struct Storage {
    root: TempDir,
    driver: &'static str,
}

impl Storage {
    pub(crate) fn new(driver: &'static str) -> Self {
        Storage { root: tempfile::tempdir().unwrap(), driver }
    }

    /// Runs `podman` or `buildah`, as the first of the arguments says, and returns what it printed.
    pub(crate) fn run(&self, dir: &Path, args: &[&str]) -> String {
        let here = |name: &str| self.root.path().join(name).display().to_string();
        let output = Command::new(args[0])
            .args(["--root", &here("root"), "--runroot", &here("run"), "--storage-driver", self.driver])
            .args(&args[1..])
            .current_dir(dir)
            .env("CONTAINERS_CONF", concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/podman/containers.conf"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {args:?}: {said}", self.driver);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The last line of what it printed: the ID or the place of something.
    pub(crate) fn last_line(&self, dir: &Path, args: &[&str]) -> String {
        self.run(dir, args).trim().lines().last().unwrap_or_default().to_owned()
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // The driver keeps its directory mounted.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let mut places: Vec<&str> = places.filter(|place| Path::new(place).starts_with(self.root.path())).collect();
        places.reverse();
        for place in places {
            let _ = Command::new("umount").arg(place).output();
        }
    }
}

/// A base as Debian has it, of the packages in a directory: a merged /usr, and directories that are not 0755 of root. It is
/// `oci:PLACE:debian` then.
pub(crate) fn debian(packages: &Path, place: &Path) {
    let root = tempfile::tempdir().unwrap();
    let script = r#"
        set -e; umask 022
        for it in bin sbin lib lib64; do mkdir -p "$1/usr/$it"; ln -s "usr/$it" "$1/$it"; done
        for it in base-files bash coreutils dash findutils grep libacl1 libattr1 libc-bin libc6 libcrypt1 libgcc-s1 libgmp10 \
            libpcre2-8-0 libselinux1 libssl3 libtinfo6 mawk sed; do
            for deb in "$2/$it"_*.deb; do
                dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink --numeric-owner -p -C "$1"
            done
        done
        ln -sf dash "$1/usr/bin/sh"
        mkdir -p "$1/home/app" "$1/var/lib/data" "$1/etc/foo"
        chmod 0750 "$1/home/app"; chown 1000:1000 "$1/home/app"
        chown 33:33 "$1/var/lib/data"; chmod 2775 "$1/var/lib/data"
        echo root:x:0:0:root:/root:/bin/bash >"$1/etc/passwd"
    "#;
    let output = Command::new("sh").args(["-c", script, "sh"]).arg(root.path()).arg(packages).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tar = Command::new("tar").args(["--numeric-owner", "--sort=name", "-c", "."]).current_dir(root.path()).output();
    let tar = tar.unwrap().stdout;
    std::fs::create_dir(place).unwrap();
    let store = Layout::create(place).unwrap();
    let layer = store.write_blob(MediaType::ImageLayer, &tar).unwrap();
    let config = json!({
        "architecture": haversack::image::Platform::host().architecture, "os": "linux",
        "config": { "Env": ["PATH=/usr/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest().to_string()] },
    });
    let config = store.write_blob(MediaType::ImageConfig, &layout::canonical(&config)).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": config, "layers": [layer],
    });
    let manifest = store.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
    store.tag(&manifest, Some("debian")).unwrap();
}

/// What is to be as it is in that base, wherever an image is built over it.
pub(crate) const AS_BELOW: &str =
    "stat -c '%n %a %u:%g' /tmp /home/app /var/lib/data; readlink /lib /bin; ldd /bin/bash";

/// Whether [`AS_BELOW`] said so.
pub(crate) fn is_as_below(said: &str) -> bool {
    let expected = ["/tmp 1777 0:0", "/home/app 750 1000:1000", "/var/lib/data 2775 33:33", "usr/lib", "usr/bin"];
    expected.iter().all(|line| said.lines().any(|it| it == *line))
        && said.contains("libc.so.6 => ")
        && !said.contains("not found")
}
