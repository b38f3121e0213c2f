//! For each preset a repository in that distribution's own names, made with the packager's own tools: listed, fetched and
//! unpacked by `--distro` alone. The cases are in presets.toml.
//!
//! Three judges: rpm2cpio with cpio, or dpkg-deb, say which files a kernel's packages have; GNU make says whether the kernel
//! directory works, by `make kernelrelease`, to which every part of the headers must contribute; and what is listed with what
//! is said to be unplaced must be all that was built.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::repositories::{json, said};
use super::*;
use crate::server::Server;

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    /// As `--distro` takes it.
    distro: String,
    /// As `--arch` takes it.
    machine: String,
    /// How rpmbuild compresses; none for debs.
    payload: Option<String>,
    v: String,
    u: String,
    /// By the path below the mirror; of apt, `ARCHIVE dists/SUITE/COMPONENT`.
    repositories: BTreeMap<String, Vec<String>>,
    /// The packages of each kernel, each behind its role.
    kernels: BTreeMap<String, String>,
}

/// A package that is to be built.
struct Wanted {
    name: String,
    version: String,
    architecture: String,
    requires: Vec<String>,
    provides: Vec<String>,
    contents: Vec<Vec<String>>,
}

#[test]
#[ignore = "needs rpmbuild, createrepo_c, rpm2cpio, cpio and make"]
fn every_preset_of_rpms_gives_whole_headers_in_its_distributions_own_names() {
    let done: BTreeSet<String> =
        cases().into_iter().filter(|case| case.payload.is_some()).map(|case| run(&case)).collect();
    assert_eq!(done, presets(|source| source.starts_with("rpm:")));
}

#[test]
#[ignore = "needs dpkg-deb, apt-ftparchive and make"]
fn every_preset_of_debs_gives_whole_headers_in_its_distributions_own_names() {
    let done: BTreeSet<String> =
        cases().into_iter().filter(|case| case.payload.is_none()).map(|case| run(&case)).collect();
    assert_eq!(done, presets(|source| source.starts_with("apt:")));
}

fn cases() -> Vec<Case> {
    let cases: Cases = toml::from_str(include_str!("presets.toml")).unwrap();
    let whole = |case: &Case, text: &str| text.replace("{v}", &case.v).replace("{u}", &case.u);
    let mut cases = cases.case;
    for case in &mut cases {
        let kernels = case.kernels.iter().map(|(name, packages)| (whole(case, name), whole(case, packages))).collect();
        let repositories = case.repositories.iter();
        let repositories = repositories
            .map(|(path, packages)| (path.clone(), packages.iter().map(|it| whole(case, it)).collect()))
            .collect();
        (case.kernels, case.repositories) = (kernels, repositories);
    }
    cases
}

/// The presets whose first source is one of these.
fn presets(is_one: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let presets: toml::Table = toml::from_str(include_str!("../../src/kernel/source/presets.toml")).unwrap();
    let of_kind = presets.into_iter().filter(|(_, preset)| is_one(preset["sources"][0].as_str().unwrap()));
    of_kind.map(|(name, _)| name).collect()
}

/// Returns the preset's name.
fn run(case: &Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (root, fetched, to) = (dir.path().join("mirror"), dir.path().join("fetched"), dir.path().join("to"));
    fs::create_dir(&root).unwrap();
    let server = Server::start(&root);
    let built = match &case.payload {
        Some(payload) => rpm_repositories(case, payload, dir.path(), &root, &server.url),
        None => apt_repositories(case, dir.path(), &root),
    };
    let name = &case.distro;
    let distro = ["--distro", name, "--mirror", &server.url, "--arch", &case.machine, "--retries", "0"];
    let (status, list, stderr) = json(&[&["kernel", "list"][..], &distro].concat());
    assert_eq!((status, &*stderr), (0, ""), "{name}");
    let texts = |value: &serde_json::Value, keys: &[&str]| {
        keys.iter().map(|key| value[*key].as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let mut listed = BTreeMap::new();
    let mut seen: Vec<String> = Vec::new();
    for kernel in list["kernels"].as_array().unwrap() {
        let packages = kernel["packages"].as_array().unwrap();
        seen.extend(packages.iter().map(|package| texts(package, &["name", "version", "architecture"])));
        let packages: Vec<String> = packages.iter().map(|package| texts(package, &["role", "name"])).collect();
        let key = format!("{}/{}", kernel["distribution"].as_str().unwrap(), kernel["uname"].as_str().unwrap());
        assert_eq!(kernel.get("missing"), None, "{name} {key}");
        listed.insert(key, packages.join(", "));
    }
    assert_eq!(listed, case.kernels, "{name}");
    let unplaced = list.get("unplaced").and_then(|unplaced| unplaced.as_array()).into_iter().flatten();
    seen.extend(unplaced.map(|package| texts(package, &["name", "version", "architecture"])));
    seen.sort();
    seen.dedup();
    let of_kernels =
        |package: &&String| ["kernel", "linux", "proxmox-", "pve-"].iter().any(|begin| package.starts_with(begin));
    assert_eq!(seen.iter().collect::<Vec<_>>(), built.keys().filter(of_kernels).collect::<Vec<_>>(), "{name}");

    let arguments = ["kernel", "fetch", "--to", fetched.to_str().unwrap()];
    let (status, report, stderr) = json(&[&arguments[..], &distro, &["-q"]].concat());
    assert_eq!((status, &*stderr, &report["unverified"]), (0, "", &serde_json::json!([])), "{name}");
    let (status, report, stderr) = unpack(&fetched, &to);
    assert_eq!((status, &*stderr), (0, ""), "{name}");
    let unpacked = report["kernels"].as_object().unwrap();
    assert_eq!(unpacked.keys().collect::<Vec<_>>(), case.kernels.keys().collect::<Vec<_>>(), "{name}");
    for (key, kernel) in unpacked {
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        for package in kernel["packages"].as_array().unwrap() {
            extract(&fetched.join(package["file"].as_str().unwrap()), &theirs);
        }
        moved(&theirs);
        let ours = to.join(key);
        assert_eq!(repositories::differences(&ours, &theirs), Vec::<String>::new(), "{name} {key}");
        assert_eq!(kernel.get("missing"), None, "{name} {key}");
        // A signed image beside nothing has no headers; all others must build.
        if let Some(directory) = kernel["kernelDirectory"].as_str() {
            let release = said(&format!("make -s -C '{directory}' kernelrelease"), dir.path());
            assert_eq!(release.trim(), key.split_once('/').unwrap().1, "{name} {key}");
        } else {
            assert!(!case.kernels[key].contains("devel ") && !case.kernels[key].contains("headers "), "{name} {key}");
        }
        fs::remove_dir_all(&theirs).unwrap();
    }
    name.split(':').next().unwrap().to_owned()
}

fn extract(package: &Path, to: &Path) {
    match package.extension().unwrap().to_str().unwrap() {
        "rpm" => shell(&format!("rpm2cpio '{}' | cpio -idm --quiet --no-preserve-owner", package.display()), to),
        _ => shell(&format!("dpkg-deb -x '{}' .", package.display()), to),
    };
}

/// Does by hand what `unpack` does so that a tree works from any place: links of modules and makefiles without the root.
fn moved(root: &Path) {
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let below = entry.path().strip_prefix(root).unwrap();
        let is_link = entry.file_type().is_symlink();
        if is_link && (below.ends_with("build") || below.ends_with("source")) {
            let target = fs::read_link(entry.path()).unwrap();
            if let Ok(target) = target.strip_prefix("/") {
                let up = "../".repeat(below.components().count() - 1);
                fs::remove_file(entry.path()).unwrap();
                std::os::unix::fs::symlink(Path::new(&up).join(target), entry.path()).unwrap();
            }
        } else if entry.file_type().is_file() && below.ends_with("Makefile") {
            let (text, time) =
                (fs::read_to_string(entry.path()).unwrap(), entry.metadata().unwrap().modified().unwrap());
            fs::write(entry.path(), text.replace("include /usr/src/", "include ../")).unwrap();
            fs::File::options().append(true).open(entry.path()).unwrap().set_modified(time).unwrap();
        }
    }
}

impl Wanted {
    fn parse(line: &str) -> Self {
        let mut parts = line.split("; ");
        let [name, version, architecture] = parts.next().unwrap().split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let mut wanted = Wanted {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: architecture.to_owned(),
            requires: Vec::new(),
            provides: Vec::new(),
            contents: Vec::new(),
        };
        for part in parts {
            let (kind, rest) = part.split_once(' ').unwrap();
            let list = || rest.split(", ").map(str::to_owned).collect();
            match kind {
                "requires" => wanted.requires = list(),
                "provides" => wanted.provides = list(),
                _ => wanted.contents.push(part.split(' ').map(str::to_owned).collect()),
            }
        }
        wanted
    }

    /// Without the epoch, which file names do not have.
    fn plain_version(&self) -> &str {
        self.version.split_once(':').map_or(&self.version, |(_, version)| version)
    }

    /// As lists write it.
    fn says(&self) -> String {
        format!("{} {} {}", self.name, self.plain_version(), self.architecture)
    }

    /// Writes the files of the package below `root`.
    fn write(&self, root: &Path) {
        fs::create_dir_all(root).unwrap();
        for content in &self.contents {
            let words: Vec<&str> = content.iter().map(String::as_str).collect();
            write_content(root, &words);
        }
    }
}

/// What there is in packages. The word `make kernelrelease` prints goes through every part that a kernel's headers are made of.
fn write_content(root: &Path, words: &[&str]) {
    let file = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let link = |path: &str, to: &str| {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, root.join(path)).unwrap();
    };
    let headers = |directory: &str, uname: &str, makefile: &str| {
        file(&format!("{directory}/Makefile"), makefile);
        file(&format!("{directory}/.config"), "CONFIG_MODULES=y\n");
        file(&format!("{directory}/include/config/kernel.release"), &format!("{uname}\n"));
        file(&format!("{directory}/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{uname}\"\n"));
        link(&format!("lib/modules/{uname}/build"), &format!("/{directory}"));
    };
    let prints = "kernelrelease:\n\t@cat include/config/kernel.release\n";
    match *words {
        ["boot", uname] => {
            file(&format!("boot/vmlinuz-{uname}"), "MZ");
            file(&format!("boot/config-{uname}"), "CONFIG_MODULES=y\n");
        }
        ["modules", uname, name] => file(&format!("lib/modules/{uname}/kernel/{name}.ko"), name),
        ["other", name] => file(&format!("usr/share/{name}/file"), name),
        // All in one directory: Red Hat's and what comes from it, Photon's.
        ["kernels", uname] => {
            headers(&format!("usr/src/kernels/{uname}"), uname, prints);
            link(&format!("lib/modules/{uname}/source"), "build");
        }
        ["headers", uname] => headers(&format!("usr/src/linux-headers-{uname}"), uname, prints),
        // SUSE: the objects of a flavour include the sources, which the azure and longterm flavours have for themselves.
        ["suse", version, "source"] => file(&format!("usr/src/linux-{version}/Makefile"), prints),
        ["suse", version, flavour, "source"] => file(&format!("usr/src/linux-{version}-{flavour}/Makefile"), prints),
        ["suse", version, flavour, "links"] => {
            let uname = format!("{version}-{flavour}");
            link(&format!("usr/lib/modules/{uname}/build"), &format!("/usr/src/linux-{version}-obj/x86_64/{flavour}"));
            link(&format!("usr/lib/modules/{uname}/source"), &format!("/usr/src/linux-{version}"));
        }
        ["suse", version, flavour] => {
            let source = if flavour == "default" { version.to_owned() } else { format!("{version}-{flavour}") };
            let directory = format!("usr/src/linux-{source}-obj/x86_64/{flavour}");
            file(&format!("{directory}/Makefile"), &format!("include ../../../linux-{source}/Makefile\n"));
            file(&format!("{directory}/include/config/kernel.release"), &format!("{version}-{flavour}\n"));
        }
        // Debian: the makefile includes that of all flavours by its absolute path, and that one the scripts of kbuild.
        ["debian", uname, common, kbuild] => {
            let directory = format!("usr/src/linux-headers-{uname}");
            headers(&directory, uname, &format!("include /usr/src/linux-headers-{common}/Makefile\n"));
            link(&format!("{directory}/scripts"), &format!("../../lib/linux-kbuild-{kbuild}/scripts"));
            link(&format!("lib/modules/{uname}/source"), &format!("/usr/src/linux-headers-{common}"));
        }
        ["common", name] => {
            let text = "include scripts/Kbuild.include\nkernelrelease:\n\t@$(say) include/config/kernel.release\n";
            file(&format!("usr/src/linux-headers-{name}/Makefile"), text);
        }
        ["kbuild", version] => {
            file(&format!("usr/lib/linux-kbuild-{version}/scripts/Kbuild.include"), "say := cat\n");
        }
        // Ubuntu: the flavour's directory is full of links into the one that they share.
        ["ubuntu", uname, shared] => {
            let directory = format!("usr/src/linux-headers-{uname}");
            headers(&directory, uname, "");
            fs::remove_file(root.join(&directory).join("Makefile")).unwrap();
            link(&format!("{directory}/Makefile"), &format!("../{shared}/Makefile"));
        }
        ["shared", name] => file(&format!("usr/src/{name}/Makefile"), prints),
        _ => panic!("no content is called {words:?}"),
    }
}

/// Builds the packages of each repository with one spec file, and the repositories. Returns what there is.
fn rpm_repositories(case: &Case, payload: &str, dir: &Path, root: &Path, url: &str) -> BTreeMap<String, String> {
    let mut built = BTreeMap::new();
    for (number, (path, lines)) in case.repositories.iter().enumerate() {
        let stage = dir.join(format!("stage-{number}"));
        let mut spec = format!(
            "Name: all\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nVendor: {}\nAutoReqProv: no\n%description\nx\n",
            if case.distro.starts_with("opensuse") { "SUSE LLC" } else { "x" }
        );
        let mut install = "%install\n".to_owned();
        let mut files = String::new();
        for wanted in lines.iter().map(|line| Wanted::parse(line)) {
            let Wanted { name, version, architecture, requires, provides, .. } = &wanted;
            let (version, release) = version.rsplit_once('-').unwrap();
            let own = stage.join(name);
            wanted.write(&own);
            spec +=
                &format!("%package -n {name}\nSummary: x\nVersion: {version}\nRelease: {release}\nAutoReqProv: no\n");
            if architecture == "noarch" {
                spec += "BuildArch: noarch\n";
            }
            spec.extend(requires.iter().map(|it| format!("Requires: {it}\n")));
            spec.extend(provides.iter().map(|it| format!("Provides: {it}\n")));
            spec += &format!("%description -n {name}\nx\n");
            install += &format!("cp -a {}/. %{{buildroot}}/\n", own.display());
            files += &format!("%files -n {name}\n%defattr(-,root,root,-)\n");
            for entry in walkdir::WalkDir::new(&own).min_depth(1).into_iter().map(Result::unwrap) {
                let below = entry.path().strip_prefix(&own).unwrap().display();
                files += &if entry.file_type().is_dir() { String::new() } else { format!("/{below}\n") };
            }
            built.insert(wanted.says(), path.clone());
        }
        // Amazon's lists of mirrors lead to a directory of their own, and that to packages outside of it.
        let is_list = path.ends_with("mirror.list");
        let (repository, pool) = match is_list {
            true => (root.join("repository/guid"), root.join("blobstore/x")),
            false => (root.join(path), root.join(path).join("Packages/k")),
        };
        fs::create_dir_all(&repository).unwrap();
        fs::create_dir_all(&pool).unwrap();
        if !lines.is_empty() {
            fs::write(dir.join("all.spec"), spec + &install + &files).unwrap();
            let define = [
                "debug_package %{nil}".to_owned(),
                "__os_install_post %{nil}".to_owned(),
                "_build_name_fmt %%{name}-%%{version}-%%{release}.%%{arch}.rpm".to_owned(),
                format!("_binary_payload {payload}"),
                format!("_topdir {}/topdir", dir.display()),
                format!("_rpmdir {}", pool.display()),
            ];
            let define: String = define.iter().map(|it| format!(" --define '{it}'")).collect();
            shell(&format!("rpmbuild -bb --quiet --target {}{define} all.spec", case.machine), dir);
        }
        if is_list {
            let (pool, repository_path) = (pool.display(), repository.display());
            shell(
                &format!("createrepo_c --quiet --location-prefix ../../blobstore/x/ -o {repository_path} {pool}"),
                dir,
            );
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), format!("{url}/gone/\n{url}/repository/guid/\n")).unwrap();
        } else {
            shell("createrepo_c --quiet .", &repository);
        }
    }
    built
}

/// Builds the packages of each archive and component, and the indexes of its suites.
fn apt_repositories(case: &Case, dir: &Path, root: &Path) -> BTreeMap<String, String> {
    let mut built = BTreeMap::new();
    let machine = if case.machine == "aarch64" { "arm64" } else { "amd64" };
    for (number, (path, lines)) in case.repositories.iter().enumerate() {
        let (archive, component) = path.split_once(' ').unwrap();
        let (archive, pool) = (root.join(archive), format!("pool/{number}"));
        fs::create_dir_all(archive.join(&pool)).unwrap();
        for wanted in lines.iter().map(|line| Wanted::parse(line)) {
            let stage = dir.join(format!("stage-{number}")).join(&wanted.name);
            wanted.write(&stage);
            let Wanted { name, version, architecture, .. } = &wanted;
            let mut control = format!(
                "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: x <x@example.org>\nDescription: x\n"
            );
            for (field, list) in [("Depends", &wanted.requires), ("Provides", &wanted.provides)] {
                if !list.is_empty() {
                    control += &format!("{field}: {}\n", list.join(", "));
                }
            }
            fs::create_dir(stage.join("DEBIAN")).unwrap();
            fs::write(stage.join("DEBIAN/control"), control).unwrap();
            let file = format!("{name}_{}_{architecture}.deb", wanted.plain_version());
            let to = archive.join(&pool).join(file);
            shell(&format!("dpkg-deb --root-owner-group -Zxz -b {} '{}' >&2", stage.display(), to.display()), dir);
            built.insert(wanted.says(), path.clone());
        }
        let suite = component.rsplit_once('/').unwrap().0;
        shell(
            &format!(
                "mkdir -p {component}/binary-{machine} && \
                 apt-ftparchive --arch {machine} packages {pool} > {component}/binary-{machine}/Packages && \
                 xz -k {component}/binary-{machine}/Packages && \
                 apt-ftparchive -o APT::FTPArchive::Release::Architectures={machine} release {suite} > R && mv R {suite}/Release"
            ),
            &archive,
        );
    }
    built
}
