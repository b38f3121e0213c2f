//! Driver toolkits, kernel images and the matrix, as people run them.

mod deploy;
mod dnf;
#[path = "../docker_registry/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod docker_registry;
#[path = "../engines/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod engines;
mod image;
mod kept;
mod matrix;
#[path = "../packages/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod packages;
mod podman;
mod registry;
mod rpm;
mod scale;
#[path = "../server/mod.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use packages::Deb;
use serde_json::Value;

fn haversack(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("haversack"));
    command.args(args).args(["--progress", "none"]).current_dir(dir).env("XDG_CACHE_HOME", dir.join("cache"));
    command.output().unwrap()
}

/// Where something is that a test needs.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// Status, stdout and stderr.
fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = haversack(dir, args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The JSON result of a run that is to end with this status.
fn json(dir: &Path, status: i32, args: &[&str]) -> Value {
    let (actual, stdout, stderr) = run(dir, &[args, &["--json"]].concat());
    assert_eq!(actual, status, "{args:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

/// A file of an image in a layout, from the topmost layer that has it.
fn file_of(dir: &Path, image: &str, path: &str) -> Option<Vec<u8>> {
    use std::io::Read;
    let (_, manifest, _) = documents(dir, image);
    for layer in manifest["layers"].as_array().unwrap().iter().rev() {
        let blob = std::fs::File::open(blob(dir, image, layer["digest"].as_str().unwrap())).unwrap();
        let mut tar = tar::Archive::new(zstd::Decoder::new(blob).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap() == Path::new(path) {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                if let Some(link) = entry.link_name().unwrap() {
                    bytes = format!("-> {}", link.display()).into_bytes();
                }
                return Some(bytes);
            }
        }
    }
    None
}

/// Digest, manifest and configuration of an image `LAYOUT:NAME`.
fn documents(dir: &Path, image: &str) -> (String, Value, Value) {
    let (layout, name) = image.split_once(':').unwrap();
    let read = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let index = read(&dir.join(layout).join("index.json"));
    let is_it = |it: &&Value| it["annotations"]["org.opencontainers.image.ref.name"] == name;
    let found = index["manifests"].as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("no {name}"));
    let digest = found["digest"].as_str().unwrap().to_owned();
    let manifest = read(&blob(dir, image, &digest));
    let config = manifest["config"]["digest"].as_str();
    let config = config.map(|digest| read(&blob(dir, image, digest))).unwrap_or_default();
    (digest, manifest, config)
}

fn blob(dir: &Path, image: &str, digest: &str) -> std::path::PathBuf {
    let layout = image.split_once(':').unwrap().0;
    dir.join(layout).join("blobs").join(digest.replace(':', "/"))
}

/// Packages of three kernels and of a compiler, made up, in `pool`.
fn pool(dir: &Path) {
    let pool = dir.join("pool");
    for (abi, build) in [("6.1.0-1", "6.1.4-1"), ("6.1.0-2", "6.1.8-1")] {
        kernel(&pool, abi, build, "amd64");
    }
    kernel(&pool, "6.12.9+deb12", "6.12.9-1~deb12u1", "amd64");
    Deb::new("linux-kbuild-6.1", "6.1.8-1", "amd64")
        .file("usr/lib/linux-kbuild-6.1/scripts/x", 0o755, b"k")
        .write(&pool);
    Deb::new("linux-kbuild-6.12", "6.12.9-1", "amd64").file("usr/lib/linux-kbuild-6.12/x", 0o755, b"k").write(&pool);
    Deb::new("gcc", "12.2.0-3", "amd64").depends("gcc-12 (>= 12.2.0-1~)").symlink("usr/bin/gcc", "gcc-12").write(&pool);
    let compiler = Deb::new("gcc-12", "12.2.0-14", "amd64").depends("libc6 (>= 2.36)");
    compiler
        .file("usr/bin/gcc-12", 0o755, b"compiler")
        .file("usr/share/doc/gcc-12/copyright", 0o644, b"c")
        .write(&pool);
    Deb::new("libc6", "2.36-9", "amd64").file("lib/x86_64-linux-gnu/libc.so.6", 0o755, b"libc").write(&pool);
    Deb::new("setuid", "1", "amd64").file("bin/su", 0o4755, b"su").write(&pool);
}

fn kernel(pool: &Path, abi: &str, build: &str, machine: &str) {
    let series = if abi.starts_with("6.12") { "6.12" } else { "6.1" };
    let depends = format!("linux-headers-{abi}-common (= {build}), linux-kbuild-{series}, gcc-12");
    let headers = Deb::new(&format!("linux-headers-{abi}-{machine}"), build, machine).depends(&depends);
    headers
        .file(&format!("usr/src/linux-headers-{abi}-{machine}/Makefile"), 0o644, abi.as_bytes())
        .symlink(&format!("lib/modules/{abi}-{machine}/build"), &format!("/usr/src/linux-headers-{abi}-{machine}"))
        .write(pool);
    let common = Deb::new(&format!("linux-headers-{abi}-common"), build, "all");
    common.file(&format!("usr/src/linux-headers-{abi}-common/Makefile"), 0o644, b"common").write(pool);
}

/// A definition as images/driver-toolkit has it, for the packages of [`pool`].
const TOOLKIT: &str = r#"
name = "toolkit"
tags = ["${tag}", "${release-tag}"]
user = "1001"
labels = { "kernel-version" = "${release}", "version" = "${version}" }
[[layers]]
name = "tools"
files = [{ dest = "/etc/passwd", text = "builder:x:1001:1001::/:/bin/sh\n" }]
[layers.packages]
deb = ["gcc", "setuid"]
merge = { "/bin" = "/usr/bin", "/lib" = "/usr/lib" }
exclude = ["/usr/share/doc"]
[[layers]]
name = "kernel"
files = [{ dest = "/etc/release.json", text = "{\"KERNEL_VERSION\": \"${release}\", \"RT\": \"${rt}\", \"RHEL_VERSION\": \"${rhel}\"}" }]
kernels = { flavours = ["rt"] }
"#;

fn definition(dir: &Path, text: &str) {
    std::fs::create_dir_all(dir.join("def")).unwrap();
    std::fs::write(dir.join("def/image.toml"), text).unwrap();
}
