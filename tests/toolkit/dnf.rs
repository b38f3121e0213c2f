//! What a toolkit is made of, compared with what dnf would install from the same repository: files that only the list of files
//! has, streams of modules, packages that replace others.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::{documents, run};

/// `NAME VERSION-RELEASE: what the spec file says`.
const PACKAGES: &[Package] = &[
    ("kernel-devel", "5.14.0-427.el9", "Provides: kernel-devel-uname-r = 5.14.0-427.el9.x86_64"),
    // A file that primary.xml does not have, one in a rich dependency, and one that it has.
    (
        "app",
        "1-1",
        "Requires: /usr/share/data/thing\nRequires: (/usr/share/data/other or absent)\nRequires: /usr/bin/tool",
    ),
    ("data", "1-1", "FILES /usr/share/data/thing"),
    ("data2", "1-1", "FILES /usr/share/data/other"),
    ("alone", "1-1", "FILES /usr/share/alone"),
    ("tool", "1-1", "FILES /usr/bin/tool"),
    ("tool-user", "1-1", "Requires: /usr/bin/tool"),
    // The default stream, another one, and what is in no stream and newer than both.
    ("perl", "5.26.3-1.module", ""),
    ("perl", "5.32.1-1.module", "Requires: perl-of-another-stream"),
    ("perl", "5.40.0-1", "Requires: perl-of-no-stream"),
    ("perl-of-another-stream", "1-1.module", ""),
    ("perl-of-no-stream", "1-1", ""),
    // Its builds need streams of the module above.
    ("dbi", "1.641-1.module", "Requires: perl = 5.26.3"),
    ("dbi", "1.641-2.module", "Requires: perl = 5.32.1"),
    // Without a default stream.
    ("secret", "2-1.module", ""),
    ("secret-user", "1-1", "Requires: (secret or plain)"),
    ("plain", "1-1", ""),
    // What replaced another package, and provides it or not.
    ("old", "1-1", ""),
    ("new", "2-1", "Obsoletes: old < 2\nProvides: old = 2"),
    ("older", "1-1", ""),
    ("newer", "1-1", "Obsoletes: older <= 1"),
    ("user-of-old", "1-1", "Requires: old"),
    ("user-of-older", "1-1", "Requires: older"),
    ("unaffected", "3-1", ""),
    ("new-one", "1-1", "Obsoletes: unaffected < 3"),
];

const MODULES: &str = r#"---
document: modulemd
version: 2
data:
  name: perl
  stream: "5.26"
  version: 820181219174508
  context: 9edba152
  arch: x86_64
  summary: x
  description: >-
    x
  license: { module: [MIT] }
  dependencies:
  - requires: { platform: [el8] }
  artifacts: { rpms: [ "perl-0:5.26.3-1.module.x86_64" ] }
...
---
document: modulemd
version: 2
data:
  name: perl
  stream: "5.32"
  version: 820181219174509
  context: 9edba153
  arch: x86_64
  summary: x
  description: x
  license: { module: [MIT] }
  dependencies:
  - requires: { platform: [el8] }
  artifacts: { rpms: [ "perl-0:5.32.1-1.module.x86_64", "perl-of-another-stream-0:1-1.module.x86_64" ] }
...
---
document: modulemd
version: 2
data:
  name: dbi
  stream: "1"
  version: 1
  context: aaaaaaaa
  arch: x86_64
  summary: x
  description: x
  license: { module: [MIT] }
  dependencies:
  - requires: { platform: [el8], perl: ["5.26"] }
  artifacts: { rpms: [ "dbi-0:1.641-1.module.x86_64" ] }
...
---
document: modulemd
version: 2
data:
  name: dbi
  stream: "1"
  version: 1
  context: bbbbbbbb
  arch: x86_64
  summary: x
  description: x
  license: { module: [MIT] }
  dependencies:
  - requires: { platform: [el8], perl: ["5.32"] }
  artifacts: { rpms: [ "dbi-0:1.641-2.module.x86_64" ] }
...
---
document: modulemd
version: 2
data:
  name: secret
  stream: "2"
  version: 1
  context: cccccccc
  arch: x86_64
  summary: x
  description: x
  license: { module: [MIT] }
  artifacts: { rpms: [ "secret-0:2-1.module.x86_64" ] }
...
---
document: modulemd-defaults
version: 1
data: { module: perl, stream: "5.26", profiles: {} }
...
---
document: modulemd-defaults
version: 1
data: { module: dbi, stream: "1", profiles: {} }
...
"#;

type Package = (&'static str, &'static str, &'static str);

/// A spec file for packages of different names; each has a file that is called like it.
fn spec(packages: &[&Package]) -> String {
    let mut spec = "Name: all\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\n%description\nx\n".to_owned();
    let (mut install, mut files) = ("%install\n".to_owned(), String::new());
    for (name, version, says) in packages {
        let (upstream, release) = version.rsplit_once('-').unwrap();
        let mark = format!("/usr/share/marks/{name}-{version}");
        let (own, says): (Vec<&str>, Vec<&str>) = says.lines().partition(|line| line.starts_with("FILES "));
        writeln!(spec, "%package -n {name}\nSummary: x\nVersion: {upstream}\nRelease: {release}\nAutoReqProv: no")
            .unwrap();
        writeln!(spec, "{}\n%description -n {name}\nx", says.join("\n")).unwrap();
        writeln!(files, "%files -n {name}").unwrap();
        for file in own.iter().map(|line| &line["FILES ".len()..]).chain([&*mark]) {
            writeln!(install, "mkdir -p %{{buildroot}}$(dirname {file})\necho {name} >%{{buildroot}}{file}").unwrap();
            writeln!(files, "{file}").unwrap();
        }
    }
    spec + &install + &files
}

fn rpmbuild(dir: &Path, spec: &str) {
    std::fs::write(dir.join("all.spec"), spec).unwrap();
    let top = format!("_topdir {}", dir.join("rpmbuild").display());
    let output = Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--target", "x86_64", "--define", &top, "--define", "_build_id_links none"])
        .args(["--define", "debug_package %{nil}", "--define", "__os_install_post %{nil}"])
        .arg(dir.join("all.spec"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Builds everything, versions of one name one after the other.
fn repository(dir: &Path) -> std::path::PathBuf {
    let mut left: Vec<&Package> = PACKAGES.iter().collect();
    while !left.is_empty() {
        let mut names = BTreeSet::new();
        let now: Vec<&Package> = left.extract_if(.., |(name, ..)| names.insert(*name)).collect();
        rpmbuild(dir, &spec(&now));
    }
    let repository = dir.join("rpmbuild/RPMS/x86_64");
    std::fs::write(dir.join("modules.yaml"), MODULES).unwrap();
    for command in [
        format!("createrepo_c --quiet {}", repository.display()),
        format!("modifyrepo_c --mdtype=modules modules.yaml {}/repodata", repository.display()),
    ] {
        let output = Command::new("sh").args(["-c", &command]).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    repository
}

/// What dnf would install, as `NAME-VERSION-RELEASE`.
fn dnf(dir: &Path, url: &str, wanted: &[&str], streams: &[&str]) -> BTreeSet<String> {
    let (root, to) = (dir.join("root"), dir.join("downloads"));
    let _ = (std::fs::remove_dir_all(&root), std::fs::remove_dir_all(&to));
    std::fs::create_dir_all(&root).unwrap();
    let run = |words: &[&str]| {
        let output = Command::new("dnf")
            .arg(format!("--installroot={}", root.display()))
            .arg(format!("--repofrompath=r,{url}"))
            .args(["--repo=r", "--releasever=8", "--nogpgcheck", "-y", "--setopt=module_platform_id=platform:el8"])
            .args(["--setopt=reposdir=/nowhere", "--setopt=varsdir=/nowhere", "--setopt=install_weak_deps=0"])
            .arg(format!("--setopt=cachedir={}", dir.join("dnf").display()))
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    if !streams.is_empty() {
        run(&[&["module", "enable"], streams].concat());
    }
    let to_text = format!("--downloaddir={}", to.display());
    run(&[&["install", "--downloadonly", &to_text], wanted].concat());
    let files = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    files.map(|file| file.trim_end_matches(".x86_64.rpm").to_owned()).collect()
}

/// What a toolkit is made of, by the marks of the packages.
fn toolkit(dir: &Path, url: &str, wanted: &[&str], streams: &[&str]) -> BTreeSet<String> {
    let _ = std::fs::remove_dir_all(dir.join("out"));
    std::fs::create_dir_all(dir.join("def")).unwrap();
    let wanted = format!("{wanted:?}");
    let definition = format!(
        "name = 'toolkit'\ntags = ['x']\n[[layers]]\nname = 'tools'\npackages = {{ rpm = {wanted} }}\n[[layers]]\nname = 'kernel'\nkernels = {{}}\n"
    );
    std::fs::write(dir.join("def/image.toml"), definition.replace("'x'", "'${tag}'")).unwrap();
    let source = format!("rpm:{url}");
    let modules: Vec<&str> = streams.iter().flat_map(|stream| ["--module", stream]).collect();
    let arguments = ["build", "def", "--kernels", &source, "--output", "oci:out", "--json"];
    let (status, stdout, stderr) = run(dir, &[&arguments[..], &modules].concat());
    assert_eq!(status, 0, "{wanted} {streams:?}: {stderr}{stdout}");
    let (_, manifest, _) = documents(dir, "out:toolkit:5.14.0-427.el9");
    let mut marks = BTreeSet::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let blob = dir.join("out/blobs").join(layer["digest"].as_str().unwrap().replace(':', "/"));
        let mut tar = tar::Archive::new(zstd::Decoder::new(std::fs::File::open(blob).unwrap()).unwrap());
        for entry in tar.entries().unwrap() {
            let path = entry.unwrap().path().unwrap().into_owned();
            let mark = path.strip_prefix("usr/share/marks").ok().and_then(|mark| mark.to_str());
            marks.extend(mark.filter(|mark| !mark.is_empty()).map(str::to_owned));
        }
    }
    marks.remove("kernel-devel-5.14.0-427.el9");
    marks
}

#[test]
#[ignore = "needs rpmbuild, createrepo_c, modifyrepo_c and dnf"]
fn a_toolkit_is_made_of_what_dnf_would_install() {
    let dir = tempfile::tempdir().unwrap();
    let server = crate::server::Server::start(&repository(dir.path()));
    for (wanted, streams, expected) in [
        (&["app"][..], &[][..], &["app-1-1", "data-1-1", "data2-1-1", "tool-1-1"][..]),
        // A file is asked for as a package is, also one that nothing else needs.
        (&["/usr/share/alone"], &[], &["alone-1-1"]),
        (&["tool"], &[], &["tool-1-1"]),
        (&["tool-user"], &[], &["tool-1-1", "tool-user-1-1"]),
        (&["perl"], &[], &["perl-5.26.3-1.module"]),
        (&["perl"], &["perl:5.32"], &["perl-5.32.1-1.module", "perl-of-another-stream-1-1.module"]),
        (&["dbi"], &[], &["dbi-1.641-1.module", "perl-5.26.3-1.module"]),
        (
            &["dbi"],
            &["perl:5.32"],
            &["dbi-1.641-2.module", "perl-5.32.1-1.module", "perl-of-another-stream-1-1.module"],
        ),
        (&["secret-user"], &[], &["plain-1-1", "secret-user-1-1"]),
        (&["secret"], &["secret:2"], &["secret-2-1.module"]),
        (&["old"], &[], &["new-2-1"]),
        (&["user-of-old"], &[], &["new-2-1", "user-of-old-1-1"]),
        (&["older"], &[], &["newer-1-1"]),
        (&["user-of-older"], &[], &["older-1-1", "user-of-older-1-1"]),
        (&["unaffected", "new-one"], &[], &["new-one-1-1", "unaffected-3-1"]),
    ] {
        let expected: BTreeSet<String> = expected.iter().map(|it| (*it).to_owned()).collect();
        let what = format!("{wanted:?} {streams:?}");
        assert_eq!(dnf(dir.path(), &server.url, wanted, streams), expected, "dnf: {what}");
        server.take_requests();
        assert_eq!(toolkit(dir.path(), &server.url, wanted, streams), expected, "{what}");
        // The list of files is fetched by whom it tells something.
        let lists = server.take_requests().iter().filter(|path| path.contains("filelists")).count();
        assert_eq!(lists, usize::from(["app", "/usr/share/alone"].contains(&wanted[0])), "{what}");
    }
    // What cannot be beside each other, and a stream that nobody has.
    let source = format!("rpm:{}", server.url);
    std::fs::write(
        dir.path().join("def/image.toml"),
        "name = 'toolkit'\ntags = ['${tag}']\n[[layers]]\nname = 'tools'\npackages = { rpm = ['user-of-older', 'newer'] }\n[[layers]]\nname = 'kernel'\nkernels = {}\n",
    )
    .unwrap();
    let arguments = ["build", "def", "--kernels", &source, "--output", "oci:out", "--module", "perl:9"];
    let (status, stdout, stderr) = run(dir.path(), &arguments);
    assert_eq!(status, 1, "{stdout}");
    assert!(stderr.contains("no repository has the stream perl:9"), "{stderr}");
    assert!(stderr.contains("replaces older-1-1"), "{stderr}");
}
