//! Real kernels all the way: a signed repository of them on the loopback interface, listed, fetched, unpacked, and a module
//! built in what came of it.

use super::*;
use crate::server::Server;

/// A throw-away key: its home directory, `key.asc` and a signature function by shell.
struct Signer(PathBuf);

impl Signer {
    fn new(directory: &Path) -> Self {
        let home = directory.join("gnupg");
        fs::create_dir_all(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        let signer = Signer(home);
        signer.gpg("--quick-gen-key test@example.org ed25519 sign never");
        signer.gpg("--armor --output key.asc --export");
        signer
    }

    fn gpg(&self, arguments: &str) {
        let home = self.0.display();
        shell(
            &format!("gpg --homedir {home} --batch --quiet --pinentry-mode loopback --passphrase '' {arguments}"),
            &self.0,
        );
    }

    fn key(&self) -> String {
        self.0.join("key.asc").to_str().unwrap().to_owned()
    }
}

/// What a shell command prints.
pub(super) fn said(command: &str, directory: &Path) -> String {
    let output = Command::new("sh").arg("-c").arg(command).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(super) fn json(arguments: &[&str]) -> (i32, serde_json::Value, String) {
    let (status, stdout, stderr) = haversack(&[arguments, &["--json"]].concat());
    (status, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("no JSON: {stdout}{stderr}")), stderr)
}

/// The releases whose headers the machine's package sources have, oldest first, without special flavours.
fn debian_releases(directory: &Path) -> Vec<String> {
    let search =
        "apt-cache search --names-only '^linux-headers-[0-9]+[.][0-9]+[.][0-9].*-amd64$' | cut -d' ' -f1 | sort -V";
    let names = said(search, directory);
    let releases = names.lines().filter_map(|name| name.strip_prefix("linux-headers-"));
    releases.filter(|release| !release.contains("-rt-") && !release.contains("-cloud-")).map(str::to_owned).collect()
}

/// Downloads the headers of releases with what they share, into `directory/pool`.
fn download(releases: &[String], directory: &Path) {
    let pool = directory.join("pool");
    fs::create_dir_all(&pool).unwrap();
    let depends = releases.iter().map(|release| format!(" linux-headers-{release}")).collect::<String>();
    let depends =
        said(&format!("apt-cache depends{depends} | grep -oE 'linux-(headers|kbuild)-[^ ]*' | sort -u"), &pool);
    shell(&format!("apt-get -qq download {}", depends.split_whitespace().collect::<Vec<_>>().join(" ")), &pool);
}

fn kbuilds(root: &Path) -> usize {
    let names = fs::read_dir(root.join("pool")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with("linux-kbuild-")).count()
}

/// Everything that a kernel's directory and what `dpkg-deb -x` makes of the same packages do not have in common.
pub(super) fn differences(ours: &Path, theirs: &Path) -> Vec<String> {
    let (our, their) = (tree(ours), tree(theirs));
    let mut names: Vec<&PathBuf> = our.keys().chain(their.keys()).collect();
    names.sort();
    names.dedup();
    let differs = names.into_iter().filter(|name| our.get(*name) != their.get(*name));
    differs.map(|name| format!("{}: {:?}, {:?}", name.display(), our.get(name), their.get(name))).collect()
}

/// Compares a kernel's directory with what `dpkg-deb -x` makes of its packages, but for what is made to work from any place:
/// the links to the headers, and what the headers include.
pub(super) fn is_what_dpkg_deb_makes(ours: &Path, theirs: &Path, release: &str) {
    let modules = format!("lib/modules/{release}");
    let makefile = format!("usr/src/linux-headers-{release}/Makefile");
    for link in ["build", "source"].map(|name| format!("{modules}/{name}")) {
        let (our, their) = (fs::read_link(ours.join(&link)).unwrap(), fs::read_link(theirs.join(&link)).unwrap());
        assert_eq!(Path::new("/").join(our.strip_prefix("../../..").unwrap()), their, "{link}");
    }
    let (our, their) = [ours, theirs].map(|root| fs::read_to_string(root.join(&makefile)).unwrap()).into();
    assert_eq!(our, their.replace("/usr/src/", "../"));
    let same = |path: &str| path.starts_with(&modules) || path.starts_with(&makefile);
    let differences = differences(ours, theirs);
    assert_eq!(differences.iter().filter(|line| !same(line)).collect::<Vec<_>>(), Vec::<&String>::new(), "{release}");
    assert_eq!(differences.len(), 3, "{differences:?}");
}

#[test]
#[ignore = "needs debian-mirror, apt-ftparchive, dpkg-deb, gpg and xz; fetches 150 MB of Debian's kernel headers"]
fn debian_kernels_are_listed_fetched_and_unpacked_as_dpkg_deb_unpacks_them() {
    let dir = tempfile::tempdir().unwrap();
    let (root, debs, to) = (dir.path().join("root"), dir.path().join("debs"), dir.path().join("to"));
    let releases = debian_releases(dir.path());
    assert!(releases.len() >= 2, "{releases:?}");
    download(&releases, &root);
    let signer = Signer::new(dir.path());
    let index = "dists/stable/main/binary-amd64";
    shell(
        &format!("mkdir -p {index} && apt-ftparchive packages pool > {index}/Packages && xz -k {index}/Packages"),
        &root,
    );
    shell(
        "apt-ftparchive -o APT::FTPArchive::Release::Suite=stable release dists/stable > R && mv R dists/stable/Release",
        &root,
    );
    let suite = root.join("dists/stable");
    signer.gpg(&format!("--output {0}/InRelease --clearsign {0}/Release", suite.display()));
    let server = Server::start(&root);
    let source = format!("apt:{} stable main", server.url);
    let key = signer.key();

    let (status, list, stderr) = json(&["kernel", "list", &source, "--keyring", &key]);
    assert_eq!((status, &*stderr), (0, ""));
    let listed: Vec<(String, Vec<&str>)> = list["kernels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kernel| {
            let packages = kernel["packages"].as_array().unwrap().iter();
            (kernel["uname"].as_str().unwrap().into(), packages.map(|p| p["role"].as_str().unwrap()).collect())
        })
        .collect();
    let expected: Vec<_> =
        releases.iter().map(|release| (release.clone(), vec!["headers", "common", "kbuild"])).collect();
    assert_eq!(listed, expected);
    let testkey = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kernel/trusted.asc");
    let (status, _, stderr) = json(&["kernel", "list", &source, "--keyring", testkey.to_str().unwrap()]);
    assert!(status == 1 && stderr.contains("none of its signatures (1) is valid"), "{stderr}");

    // One transfer breaks off and is resumed.
    let first = fs::read_dir(root.join("pool")).unwrap().next().unwrap().unwrap().file_name();
    server.break_off(first.to_str().unwrap().to_owned(), 300_000, 1);
    let (status, report, stderr) =
        json(&["kernel", "fetch", &source, "--keyring", &key, "--to", debs.to_str().unwrap(), "--retry-delay", "0"]);
    assert!(status == 0 && stderr.contains("the answer broke off") && stderr.contains("; trying again"), "{stderr}");
    assert_eq!(server.ranges(), ["bytes=300000-"]);
    let requests = server.requests();
    assert_eq!(
        requests.iter().filter(|path| path.starts_with("/pool/")).count(),
        releases.len() * 2 + 1 + kbuilds(&root)
    );
    let files = fs::read_dir(root.join("pool")).unwrap().count();
    assert_eq!(
        (report["fetched"].as_array().unwrap().len(), report["unverified"].as_array().unwrap().len()),
        (files, 0)
    );

    let (status, map, stderr) = unpack(&debs, &to);
    assert_eq!((status, &*stderr), (0, ""));
    for release in &releases {
        let kernel = &map["kernels"][format!("debian/{release}")];
        let theirs = dir.path().join("theirs");
        for package in kernel["packages"].as_array().unwrap() {
            assert_eq!(package["verified"], serde_json::json!(["source-digest"]), "{package}");
            shell(&format!("dpkg-deb -x {} {}", package["file"].as_str().unwrap(), theirs.display()), &debs);
        }
        let ours = to.join("debian").join(release);
        is_what_dpkg_deb_makes(&ours, &theirs, release);
        fs::remove_dir_all(&theirs).unwrap();
        fs::remove_dir_all(&ours).unwrap();
    }
}

/// The newest release of each series: 6.1 has one `kbuild` for all, 6.12 one for each and a `vmlinux` for BTF.
#[test]
#[ignore = "needs debian-mirror, make, gcc-12 and pahole; fetches 30 MB of Debian's kernel headers"]
fn a_module_compiles_against_an_unpacked_kernel_that_was_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (to, module) = (dir.path().join("to"), dir.path().join("module"));
    let series = |release: &str| release.split('.').take(2).collect::<Vec<_>>().join(".");
    let mut releases = debian_releases(dir.path());
    // The list is sorted, so the last of each series is the newest.
    releases.reverse();
    releases.dedup_by_key(|release| series(release));
    download(&releases, dir.path());
    let (status, _, stderr) = unpack(&dir.path().join("pool"), &to);
    assert_eq!((status, &*stderr), (0, ""));
    let moved = dir.path().join("elsewhere/deep/down");
    fs::create_dir_all(moved.parent().unwrap()).unwrap();
    fs::rename(to.join("debian"), &moved).unwrap();
    for release in &releases {
        let _ = fs::remove_dir_all(&module);
        build_module(&moved.join(release).join("lib/modules").join(release).join("build"), release, &module);
    }
}

/// Builds a module against a kernel in `module`, a new directory, and looks at which release it is for.
pub(super) fn build_module(build: &Path, release: &str, module: &Path) {
    fs::create_dir(module).unwrap();
    fs::write(module.join("Makefile"), "obj-m := hello.o\n").unwrap();
    fs::write(
        module.join("hello.c"),
        "#include <linux/init.h>\n#include <linux/module.h>\n\
         static int __init hello_init(void)\n{\n\tpr_info(\"hello\\n\");\n\treturn 0;\n}\n\
         static void __exit hello_exit(void)\n{\n}\n\
         module_init(hello_init);\nmodule_exit(hello_exit);\nMODULE_LICENSE(\"GPL\");\n",
    )
    .unwrap();
    shell(&format!("make -C {} M=$PWD modules", build.display()), module);
    let built = fs::read(module.join("hello.ko")).unwrap();
    let magic = format!("vermagic={release} ");
    assert!(built.windows(magic.len()).any(|bytes| bytes == magic.as_bytes()), "{magic}");
}

/// A kernel-devel with whatever a payload can have.
const SPEC: &str = r#"
Name: kernel-devel
Version: 5.14.0
Release: %{build}.el9
Summary: x
License: x
Provides: kernel-devel-uname-r = %{version}-%{release}.x86_64
AutoReqProv: no
%description
x
%install
d=%{buildroot}/usr/src/kernels/%{version}-%{release}.x86_64
mkdir -p $d/include/generated $d/empty %{buildroot}/lib/modules/%{version}-%{release}.x86_64 %{buildroot}/boot
echo 'all:' > $d/Makefile
echo CONFIG_X=%{build} > $d/.config
head -c 300000 /dev/zero | tr '\0' 'a' > $d/large
echo same > $d/one
ln $d/one $d/two
ln $d/one $d/include/three
ln -s ../Makefile $d/include/link
ln -s ../../../usr/src/kernels/%{version}-%{release}.x86_64 %{buildroot}/lib/modules/%{version}-%{release}.x86_64/build
touch %{buildroot}/boot/ghost
%files
%defattr(-,root,root,-)
%attr(0750,root,root) /usr/src/kernels/%{version}-%{release}.x86_64/Makefile
/usr/src/kernels/%{version}-%{release}.x86_64/.config
/usr/src/kernels/%{version}-%{release}.x86_64/large
/usr/src/kernels/%{version}-%{release}.x86_64/one
/usr/src/kernels/%{version}-%{release}.x86_64/two
/usr/src/kernels/%{version}-%{release}.x86_64/include
%attr(0700,root,root) %dir /usr/src/kernels/%{version}-%{release}.x86_64/empty
/lib/modules/%{version}-%{release}.x86_64/build
%ghost /boot/ghost
"#;

#[test]
#[ignore = "needs rpmbuild, createrepo_c, rpm2cpio, cpio and gpg; scripts/test.sh installs them"]
fn rpms_from_a_signed_repository_are_the_trees_that_rpm2cpio_and_cpio_make() {
    let dir = tempfile::tempdir().unwrap();
    let (root, rpms, to) = (dir.path().join("root"), dir.path().join("rpms"), dir.path().join("to"));
    fs::create_dir(&root).unwrap();
    fs::write(dir.path().join("kernel.spec"), SPEC).unwrap();
    let payloads = ["w9.gzdio", "w9.bzdio", "w6.xzdio", "w9.lzdio", "w19.zstdio", "w.ufdio"];
    for (build, payload) in payloads.iter().enumerate() {
        let define = format!(
            "--define 'build {build}' --define '_binary_payload {payload}' --define '_topdir {}/b'",
            dir.path().display()
        );
        let define = format!(
            "{define} --define '_rpmdir {}' --define '_build_name_fmt %{{name}}-%{{version}}-%{{release}}.%{{arch}}.rpm'",
            root.display()
        );
        shell(
            &format!("rpmbuild -bb --quiet --target x86_64 --define 'debug_package %{{nil}}' {define} kernel.spec"),
            dir.path(),
        );
    }
    shell("createrepo_c --quiet .", &root);
    let signer = Signer::new(dir.path());
    let repomd = root.join("repodata/repomd.xml");
    signer.gpg(&format!("--armor --detach-sign {}", repomd.display()));
    let server = Server::start(&root);
    let (source, key) = (format!("rpm:{}", server.url), signer.key());
    let arguments = |to: &'static str| [to, &source, "--keyring", &key, "--retries", "0"].map(str::to_owned);
    let run = |verb: &'static str, more: &[&str]| {
        let arguments = arguments(verb);
        let arguments: Vec<&str> =
            ["kernel"].into_iter().chain(arguments.iter().map(String::as_str)).chain(more.iter().copied()).collect();
        json(&arguments)
    };

    let (status, list, stderr) = run("list", &[]);
    assert_eq!((status, &*stderr), (0, ""));
    let names: Vec<String> = (0..payloads.len()).map(|build| format!("5.14.0-{build}.el9.x86_64")).collect();
    let listed: Vec<&str> =
        list["kernels"].as_array().unwrap().iter().map(|kernel| kernel["uname"].as_str().unwrap()).collect();
    assert_eq!(listed, names);
    let (status, report, stderr) = run("fetch", &["--to", rpms.to_str().unwrap(), "-q"]);
    assert_eq!((status, &*stderr, report["fetched"].as_array().unwrap().len()), (0, "", payloads.len()));
    let (status, map, stderr) = unpack(&rpms, &to);
    assert_eq!((status, &*stderr), (0, ""));
    for name in &names {
        let package = &map["kernels"][format!("el/{name}")]["packages"][0];
        assert_eq!(package["verified"], serde_json::json!(["header-digest", "payload-digest", "source-digest"]));
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        let file = rpms.join(package["file"].as_str().unwrap());
        shell(&format!("rpm2cpio {} | cpio -idm --quiet --no-preserve-owner", file.display()), &theirs);
        assert_eq!(differences(&to.join("el").join(name), &theirs), Vec::<String>::new(), "{name}");
        fs::remove_dir_all(&theirs).unwrap();
    }

    let good = fs::read_to_string(&repomd).unwrap();
    fs::write(&repomd, good.replace("<revision>", "<revision>1")).unwrap();
    let (status, _, stderr) = run("list", &[]);
    assert!(status == 1 && stderr.contains("repomd.xml: not trusted"), "{stderr}");
    fs::write(&repomd, &good).unwrap();
    let primary = haversack::fs::list(&root.join("repodata")).unwrap();
    let primary = primary.into_iter().find(|path| path.to_str().unwrap().contains("-primary.xml")).unwrap();
    let mut bytes = fs::read(&primary).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&primary, bytes).unwrap();
    let (status, _, stderr) = run("list", &[]);
    assert!(status == 1 && stderr.contains("-primary.xml") && stderr.contains("the digest is"), "{stderr}");
    fs::remove_file(repomd.with_file_name("repomd.xml.asc")).unwrap();
    let (status, _, stderr) = run("list", &[]);
    assert!(status == 1 && stderr.contains("repomd.xml.asc"), "{stderr}");
}
