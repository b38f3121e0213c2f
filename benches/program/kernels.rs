//! The header packages of the Debian kernels that apt offers, fetched once into `target/bench-kernels`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;

/// One kernel's header packages.
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) debs: Vec<PathBuf>,
}

pub(crate) fn kernels() -> Vec<Kernel> {
    let cache = cache();
    std::fs::create_dir_all(&cache).unwrap();
    let names = said(Command::new("apt-cache").args([
        "search",
        "--names-only",
        r"^linux-headers-[0-9][^-]*\.[0-9]+(-[0-9]+|\+deb[0-9]+)-amd64$",
    ]));
    let mut releases: Vec<&str> = names
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.strip_prefix("linux-headers-")?.strip_suffix("-amd64"))
        .collect();
    releases.sort_unstable();
    let mut kernels = Vec::new();
    for release in releases {
        let packages = [format!("linux-headers-{release}-amd64"), format!("linux-headers-{release}-common")];
        let find = |name: &String| {
            let files = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
            files.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}_")))
        };
        if packages.iter().any(|name| find(name).is_none()) {
            run(Command::new("apt-get").args(["-qq", "download"]).args(&packages).current_dir(&cache));
        }
        kernels.push(Kernel { release: release.to_owned(), debs: packages.iter().filter_map(find).collect() });
    }
    kernels
}

pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-kernels")
}

/// Unpacks a kernel's packages into a directory of that name.
pub(crate) fn unpack(kernel: &Kernel, into: &Path) -> PathBuf {
    let tree = into.join(&kernel.release);
    std::fs::create_dir_all(&tree).unwrap();
    for deb in &kernel.debs {
        run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&tree));
    }
    tree
}

pub(crate) fn said(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
