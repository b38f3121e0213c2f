//! `haversack kernel` from the outside: packages in, directories out, and what is refused.

mod packages;
mod server;
mod sets;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use packages::{Deb, Rpm, RpmFile};

fn haversack(arguments: &[&str]) -> (i32, String, String) {
    let output = assert_cmd::Command::cargo_bin("haversack").unwrap().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn unpack(from: &Path, to: &Path) -> (i32, serde_json::Value, String) {
    let source = format!("dir:{}", from.display());
    // Work that takes long would say how far it is.
    let arguments = ["kernel", "unpack", &source, "--to", to.to_str().unwrap(), "--json", "--progress", "none"];
    let (status, stdout, stderr) = haversack(&arguments);
    (status, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("no report: {stderr}")), stderr)
}

/// `path -> kind, permissions, time, content or target` of everything below a directory. Directories have no time: what is
/// written into them changes it.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut tree = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        let mode = metadata.permissions().mode() & 0o7777;
        let text = if metadata.is_dir() {
            format!("directory {mode:o}")
        } else if metadata.is_symlink() {
            format!("link {}", fs::read_link(entry.path()).unwrap().display())
        } else {
            let digest = haversack::digest::Digest::sha256(fs::read(entry.path()).unwrap());
            format!("file {mode:o} {} {} {digest}", metadata.mtime(), metadata.nlink())
        };
        tree.insert(entry.path().strip_prefix(root).unwrap().to_owned(), text);
    }
    tree
}

fn headers_deb(release: &str) -> Deb {
    let source = format!("usr/src/linux-headers-{release}");
    let common = "usr/src/linux-headers-6.1.0-1-common";
    Deb::new(&format!("linux-headers-{release}"), "6.1.4-1", "amd64")
        .depends("linux-headers-6.1.0-1-common (= 6.1.4-1)")
        .file(&format!("./{source}/Makefile"), 0o644, format!("include /{common}/Makefile\n").as_bytes())
        .file(&format!("./{source}/.config"), 0o644, b"CONFIG_X=y\n")
        .file(
            &format!("./{source}/include/generated/autoconf.h"),
            0o644,
            b"#define CONFIG_GCC_VERSION 120200\n#define CONFIG_CLANG_VERSION 0\n",
        )
        .file(
            &format!("./{source}/include/generated/utsrelease.h"),
            0o644,
            format!("#define UTS_RELEASE \"{release}\"\n").as_bytes(),
        )
        .symlink(&format!("./lib/modules/{release}/build"), &format!("/{source}"))
        .symlink(&format!("./lib/modules/{release}/source"), &format!("/{common}"))
}

fn common_deb() -> Deb {
    Deb::new("linux-headers-6.1.0-1-common", "6.1.4-1", "all").file(
        "./usr/src/linux-headers-6.1.0-1-common/Makefile",
        0o644,
        b"all:\n",
    )
}

#[test]
fn a_debian_kernel_is_unpacked_with_links_and_makefiles_that_work_in_any_place() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    headers_deb("6.1.0-1-amd64").write(&from);
    common_deb().write(&from);
    let (status, report, stderr) = unpack(&from, &to);
    assert_eq!((status, &*stderr), (0, ""));
    let text = serde_json::to_string_pretty(&report).unwrap().replace(to.to_str().unwrap(), "TO");
    // Sizes and digests of packages are those of compressors, which change with their versions.
    let text: String = text
        .lines()
        .filter(|line| !line.contains("\"size\"") && !line.contains("sha256"))
        .map(|line| format!("{line}\n"))
        .collect();
    insta::assert_snapshot!(text, @r#"
        {
          "format": "haversack.unpacked",
          "kernels": {
            "debian/6.1.0-1-amd64": {
              "compiler": {
                "file": "usr/src/linux-headers-6.1.0-1-amd64/include/generated/autoconf.h",
                "name": "gcc",
                "version": "12.2.0"
              },
              "config": {
                "file": "usr/src/linux-headers-6.1.0-1-amd64/.config",
                "kind": "headers",
                "md5": "76ef7a4ac98599609832e69c4757974f",
              },
              "directory": "TO/debian/6.1.0-1-amd64",
              "distribution": "debian",
              "flavour": "default",
              "kernelDirectory": "TO/debian/6.1.0-1-amd64/usr/src/linux-headers-6.1.0-1-amd64",
              "machine": "x86_64",
              "packages": [
                {
                  "file": "linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb",
                  "role": "headers",
                  "unverified": [
                    "source-digest"
                  ],
                  "verified": []
                },
                {
                  "file": "linux-headers-6.1.0-1-common_6.1.4-1_all.deb",
                  "role": "common",
                  "unverified": [
                    "source-digest"
                  ],
                  "verified": []
                }
              ],
              "release": "6.1.0-1-amd64",
              "status": "unpacked"
            }
          },
          "version": 1
        }
        "#);

    let moved = dir.path().join("elsewhere");
    fs::rename(to.join("debian/6.1.0-1-amd64"), &moved).unwrap();
    let build = moved.join("lib/modules/6.1.0-1-amd64/build");
    assert_eq!(fs::read_to_string(build.join(".config")).unwrap(), "CONFIG_X=y\n");
    let make = Command::new("make").arg("-n").arg("-C").arg(&build).output().unwrap();
    assert!(make.status.success(), "{}", String::from_utf8_lossy(&make.stderr));
}

#[test]
fn a_second_run_leaves_what_is_the_same_and_replaces_what_changed_or_is_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    headers_deb("6.1.0-1-amd64").write(&from);
    common_deb().write(&from);
    let kernel = |report: &serde_json::Value| report["kernels"]["debian/6.1.0-1-amd64"]["status"].clone();
    assert_eq!(kernel(&unpack(&from, &to).1), "unpacked");
    let first = tree(&to);
    assert_eq!(kernel(&unpack(&from, &to).1), "unchanged");

    // What a killed run leaves: an unfinished directory, or a whole one without its entry.
    fs::create_dir(to.join("debian/.6.1.0-1-amd64.abcdef.partial")).unwrap();
    fs::remove_file(to.join("debian/6.1.0-1-amd64.json")).unwrap();
    fs::remove_dir_all(to.join("debian/6.1.0-1-amd64/lib")).unwrap();
    assert_eq!(kernel(&unpack(&from, &to).1), "unpacked");
    let strip = |tree: BTreeMap<PathBuf, String>| {
        tree.into_iter().filter(|(path, _)| path.extension().is_none_or(|end| end != "json")).collect::<Vec<_>>()
    };
    assert_eq!(strip(tree(&to)), strip(first).into_iter().map(fresh_makefile(&to)).collect::<Vec<_>>());

    common_deb().file("./usr/src/linux-headers-6.1.0-1-common/new", 0o644, b"new").write(&from);
    assert_eq!(kernel(&unpack(&from, &to).1), "unpacked");
    assert!(to.join("debian/6.1.0-1-amd64/usr/src/linux-headers-6.1.0-1-common/new").exists());
}

/// The makefile is written anew by each run and so has a new time.
fn fresh_makefile(root: &Path) -> impl Fn((PathBuf, String)) -> (PathBuf, String) {
    let now = tree(root);
    move |(path, text)| match path.ends_with("linux-headers-6.1.0-1-amd64/Makefile") {
        true => (path.clone(), now[&path].clone()),
        false => (path, text),
    }
}

/// Each attack is a kernel of its own; the error of each must name it, the good kernel must come through, and nothing may
/// appear outside.
#[test]
fn bad_debs_are_refused_one_by_one_and_the_others_come_through() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to, outside) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    headers_deb("6.1.0-1-amd64").write(&from);
    common_deb().write(&from);
    let target = outside.to_str().unwrap();
    let bad = |n: usize| Deb::new(&format!("linux-headers-6.1.0-{n}-amd64"), "6.1.4-1", "amd64");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        // Absolute and climbing names overwrite files of the host.
        (bad(100).raw_file(b"/etc/cron.d/x", 0o644, b"x").bytes(), "its name leads out of the directory"),
        (bad(101).raw_file(b"./a/../../../x", 0o644, b"x").bytes(), "its name leads out of the directory"),
        // A link out of the tree, then a file through it.
        (
            bad(102).symlink("./link", target).file("./link/x", 0o644, b"x").bytes(),
            "`./link/x`: one of its parents is no directory",
        ),
        (bad(103).symlink("./a", ".").symlink("./a/b", target).bytes(), "`./a/b`: one of its parents is no directory"),
        // A directory in the place of a link would be chmodded through it.
        (bad(104).symlink("./d", target).directory("./d", 0o777).bytes(), "is there as something else"),
        (bad(105).symlink("./f", &format!("{target}/f")).file("./f", 0o644, b"x").bytes(), "with other content"),
        // A hard link to a file of the host.
        (bad(106).hard_link("./h", "/etc/passwd").bytes(), "its name leads out of the directory"),
        (bad(107).hard_link("./h", "./missing").bytes(), "a hard link to something that is no file"),
        (bad(108).symlink("./s", "/etc/passwd").hard_link("./h", "./s").bytes(), "a hard link to something"),
        (bad(109).device("./dev").bytes(), "it is a device, a pipe or a socket"),
        (bad(110).file("./sh", 0o4755, b"x").bytes(), "it is setuid or setgid"),
        (bad(111).file("./sh", 0o2755, b"x").bytes(), "it is setuid or setgid"),
        // The same name twice.
        (bad(112).file("./x", 0o644, b"1").file("./x", 0o644, b"2").bytes(), "with other content"),
    ];
    for (n, (bytes, _)) in cases.iter().enumerate() {
        fs::write(from.join(format!("bad{n}.deb")), bytes).unwrap();
    }
    let (status, report, stderr) = unpack(&from, &to);
    assert_eq!(status, 3, "{stderr}");
    for (n, (_, why)) in cases.iter().enumerate() {
        let kernel = &report["kernels"][format!("debian/6.1.0-{}-amd64", 100 + n)];
        let error = kernel["error"].as_str().unwrap_or_default();
        assert!(error.contains(why) && error.contains(&format!("6.1.0-{}-amd64", 100 + n)), "{why}: {kernel}");
    }
    assert_eq!(report["kernels"]["debian/6.1.0-1-amd64"]["status"], "unpacked");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    let left: Vec<_> = fs::read_dir(to.join("debian")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn debs_cut_off_or_changed_anywhere_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = headers_deb("6.1.0-1-amd64").bytes();
    for cut in [0, 7, 40, 68, 100, 200, good.len() / 2, good.len() - 20] {
        let (from, to) = (dir.path().join(format!("from{cut}")), dir.path().join(format!("to{cut}")));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("cut.deb"), &good[..cut]).unwrap();
        let (status, report, stderr) = unpack(&from, &to);
        assert_eq!(status, 1, "{cut}: {report} {stderr}");
        assert!(!to.join("debian/6.1.0-1-amd64").exists());
    }
    let with = |range: std::ops::Range<usize>, text: &[u8]| {
        let mut bytes = good.clone();
        bytes[range].copy_from_slice(text);
        let from = dir.path().join("changed");
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("changed.deb"), bytes).unwrap();
        unpack(&from, &dir.path().join("to")).2
    };
    for (stderr, why) in [
        (with(0..8, b"!<arkh>\n"), "it does not begin like a deb"),
        (with(8..13, b"other"), "its first member is not debian-binary"),
        (with(68..70, b"9."), "its format is not 2.x"),
        // The size of the second member, as large as the field allows.
        (with(72 + 48..72 + 58, b"9999999999"), "it cannot be read to its end"),
        (with(72 + 48..72 + 58, b"-1        "), "a member's header is damaged"),
        (with(72 + 58..72 + 60, b"xx"), "a member's header is damaged"),
    ] {
        assert!(stderr.contains(why), "{why}: {stderr}");
    }
}

#[test]
fn what_decompresses_to_more_than_the_limit_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    // 1.5 GiB of zeros in some KiB.
    Deb::new("linux-headers-6.1.0-1-amd64", "6.1.4-1", "amd64").zeros("./bomb", 3 << 29).write(&from);
    let source = format!("dir:{}", from.display());
    let to_text = to.to_str().unwrap();
    let (status, _, stderr) = haversack(&["kernel", "unpack", &source, "--to", to_text, "--package-limit", "1"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("decompresses to more than the limit of 1073741824 bytes"), "{stderr}");
    assert_eq!(fs::read_dir(to.join("debian")).unwrap().count(), 0);
}

/// As old packages have it: a maintainer's name in Latin-1.
#[test]
fn a_control_file_in_another_encoding_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    headers_deb("6.1.0-1-amd64").line(b"Maintainer: J\xf6rg M\xfcller <x@example.org>\n").write(&from);
    common_deb().line(b"Homepage: \xff\xfe\n").write(&from);
    let (status, report, stderr) = unpack(&from, &dir.path().join("to"));
    assert_eq!((status, &*stderr), (0, ""));
    let packages = report["kernels"]["debian/6.1.0-1-amd64"]["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 2, "{report}");
}

/// Names are bytes for rpm, and older packages have them in Latin-1. The judges are rpm2cpio and cpio.
#[test]
#[ignore = "needs rpm2cpio and cpio"]
fn names_in_an_rpm_that_are_not_utf8_are_the_bytes_that_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let (from, to, theirs) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("theirs"));
    let directory = "/usr/src/kernels/5.14.0-1.el9.x86_64";
    let file = "kernel-devel-5.14.0-1.el9.x86_64.rpm";
    let rpm = Rpm::new("kernel-devel", "5.14.0", "1.el9", "x86_64")
        .with(RpmFile::regular(&format!("{directory}/Makefile"), b"all:\n"))
        .with(RpmFile::regular(&format!("{directory}/café.h"), b"x"))
        .with(RpmFile::symlink(&format!("{directory}/link"), "café.h"))
        .latin();
    [&from, &theirs].iter().for_each(|path| fs::create_dir(path).unwrap());
    fs::write(from.join(file), rpm.bytes()).unwrap();
    let (status, stdout, stderr) =
        haversack(&["kernel", "unpack", &format!("dir:{}", from.display()), "--to", to.to_str().unwrap()]);
    assert_eq!((status, &*stderr), (0, ""), "{stdout}");
    let command = format!("rpm2cpio {} | cpio -idm --quiet", from.join(file).display());
    assert!(Command::new("sh").args(["-c", &command]).current_dir(&theirs).status().unwrap().success());
    let (name, ours) = (Path::new(std::ffi::OsStr::from_bytes(b"caf\xe9\xff.h")), to.join("el/5.14.0-1.el9.x86_64"));
    for root in [ours, theirs] {
        let headers = root.join(&directory[1..]);
        assert_eq!(fs::read(headers.join(name)).unwrap(), b"x");
        assert_eq!(fs::read_link(headers.join("link")).unwrap(), name);
    }
}

#[test]
fn two_packages_with_one_name_and_other_content_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    common_deb().write(&from);
    headers_deb("6.1.0-1-amd64").write(&from);
    headers_deb("6.1.0-1-amd64").file("./other", 0o644, b"").write(&from.join("z"));
    let (status, report, stderr) = unpack(&from, &dir.path().join("to"));
    assert_eq!(status, 3);
    assert!(
        stderr.contains("z/linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb: another package has this name"),
        "{stderr}"
    );
    assert_eq!(report["kernels"]["debian/6.1.0-1-amd64"]["status"], "unpacked");
}

fn devel_rpm(n: usize) -> Rpm {
    Rpm::new("kernel-devel", "5.14.0", &format!("{n}.el9"), "x86_64")
}

#[test]
fn bad_rpms_are_refused_one_by_one_and_the_others_come_through() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to, outside) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("outside"));
    fs::create_dir_all(&from).unwrap();
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let file = RpmFile::regular;
    let good = || devel_rpm(1).with(file("/usr/src/kernels/5.14.0-1.el9.x86_64/Makefile", b"all:\n"));
    let cases: Vec<(Rpm, &str)> = vec![
        (devel_rpm(100).with(file("/a/../../x", b"x")), "its name leads out of the directory"),
        (devel_rpm(101).with(file("//etc/x", b"x")), "its name leads out of the directory"),
        (
            devel_rpm(102).with(RpmFile::symlink("/link", target)).with(file("/link/x", b"x")),
            "one of its parents is no directory",
        ),
        (devel_rpm(103).with(RpmFile { mode: 0o020_644, ..file("/dev/x", b"") }), "a device, a pipe or a socket"),
        (devel_rpm(104).with(RpmFile { mode: 0o104_755, ..file("/bin/x", b"") }), "it is setuid or setgid"),
        // What the signed header says and what the payload holds must be the same.
        (devel_rpm(105).with(RpmFile { payload_name: Some("./b"), ..file("/a", b"x") }), "the header does not list it"),
        (devel_rpm(106).with(RpmFile { in_payload: false, ..file("/a", b"x") }), "the payload has it not"),
        (devel_rpm(107).with(RpmFile { listed_size: Some(9), ..file("/a", b"x") }), "disagree on its size"),
        (
            devel_rpm(108).with(RpmFile { listed_target: Some("elsewhere"), ..RpmFile::symlink("/a", "b") }),
            "disagree on where it points",
        ),
        (devel_rpm(109).with(file("/a", b"x")).twice(), "the payload has it twice"),
        (devel_rpm(110).with(RpmFile { payload_mode: Some(0o120_777), ..file("/a", b"x") }), "disagree on what it is"),
        (devel_rpm(111).with(file("/a", b"x")).payload_digest(&"0".repeat(64)), "the digest of the payload is"),
        (devel_rpm(112).with(file("/a", b"x")).header_digest(&"0".repeat(64)), "the digest of the header is"),
        (devel_rpm(113).with(file("/a", b"x")).cut(40), "it cannot be read to its end"),
    ];
    fs::write(from.join("good.rpm"), good().bytes()).unwrap();
    for (n, (rpm, _)) in cases.iter().enumerate() {
        fs::write(from.join(format!("bad{n}.rpm")), rpm.bytes()).unwrap();
    }
    let (status, report, stderr) = unpack(&from, &to);
    assert_eq!(status, 3, "{stderr}");
    for (n, (_, why)) in cases.iter().enumerate() {
        let kernel = &report["kernels"][format!("el/5.14.0-{}.el9.x86_64", 100 + n)];
        let error = kernel["error"].as_str().unwrap_or_default();
        assert!(error.contains(why) && error.contains(&format!("kernel-devel-5.14.0-{}", 100 + n)), "{why}: {kernel}");
    }
    assert_eq!(report["kernels"]["el/5.14.0-1.el9.x86_64"]["status"], "unpacked");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_dir(to.join("el")).unwrap().count(), 2);
}

#[test]
fn a_key_ring_is_taken_in_both_forms_and_says_that_debs_have_no_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let (rpms, debs) = (dir.path().join("rpms"), dir.path().join("debs"));
    fs::create_dir_all(&rpms).unwrap();
    fs::create_dir_all(&debs).unwrap();
    fs::write(rpms.join("kernel.rpm"), devel_rpm(1).with(RpmFile::regular("/a", b"x")).bytes()).unwrap();
    headers_deb("6.1.0-1-amd64").write(&debs);
    common_deb().write(&debs);
    let armored = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kernel/trusted.asc");
    let mut packets = Vec::new();
    pgp::armor::Dearmor::new(BufReader::new(fs::File::open(&armored).unwrap())).read_to_end(&mut packets).unwrap();
    let binary = dir.path().join("trusted.gpg");
    fs::write(&binary, packets).unwrap();
    for keys in [&armored, &binary] {
        let unpack = |from: &Path| {
            let (source, to) =
                (format!("dir:{}", from.display()), dir.path().join("to").join(from.file_name().unwrap()));
            let to = to.to_str().unwrap();
            let (status, _, stderr) = haversack(&[
                "kernel",
                "unpack",
                &source,
                "--to",
                to,
                "--keyring",
                keys.to_str().unwrap(),
                "--progress",
                "none",
            ]);
            (status, stderr)
        };
        let unsigned =
            "el/5.14.0-1.el9.x86_64: kernel-devel-5.14.0-1.el9.x86_64.rpm: it is not signed, and keys were given";
        let (status, said) = unpack(&rpms);
        assert!(status == 1 && said.contains(unsigned), "{}: {said}", keys.display());
        let unchecked = "warning: signatures of .deb files are not checked: linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb and 1 more; \
            those of their repository are, with `--keyring` of `kernel fetch`\n";
        assert_eq!(unpack(&debs), (3, unchecked.to_owned()), "{}", keys.display());
    }
}

#[test]
fn rpm_headers_with_absurd_sizes_and_offsets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let good = devel_rpm(1).with(RpmFile::regular("/a", b"x")).bytes();
    let header = Rpm::header_offset(&good);
    let word = |n: u32| n.to_be_bytes();
    for (at, value, why) in [
        (0, word(0), "it does not begin like an rpm"),
        (96, word(0), "a header does not begin like one"),
        (header + 8, word(u32::MAX), "a header's size is out of bounds"),
        (header + 12, word(u32::MAX), "a header's size is out of bounds"),
        (header + 12, word(1 << 20), "it cannot be read to its end"),
        // The first entry's offset, count and type.
        (header + 16 + 8, word(u32::MAX), "an entry of a header points out of it"),
        (header + 16 + 12, word(u32::MAX), "an entry of a header points out of it"),
        (header + 16 + 4, word(77), "an entry of a header points out of it"),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value);
        let from = dir.path().join("from");
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("bad.rpm"), bytes).unwrap();
        let (status, _, stderr) = unpack(&from, &dir.path().join("to"));
        assert!(status == 1 && stderr.contains(why), "{why}: {stderr}");
    }
}

#[test]
fn hard_links_ghosts_and_owners_of_an_rpm_are_what_its_header_says() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    let linked = |name, in_payload| RpmFile { inode: 7, in_payload, ..RpmFile::regular(name, b"same") };
    let rpm = devel_rpm(1)
        .with(RpmFile { links: 3, has_data: false, ..linked("/a/one", true) })
        .with(RpmFile { links: 3, has_data: false, ..linked("/a/two", true) })
        .with(RpmFile { links: 3, ..linked("/a/zzz", true) })
        .with(RpmFile { ghost: true, in_payload: false, ..RpmFile::regular("/boot/config", b"") })
        .with(RpmFile { group: "kvm", capabilities: "cap_net_admin=ep", ..RpmFile::regular("/a/tool", b"x") });
    fs::write(from.join("good.rpm"), rpm.bytes()).unwrap();
    let (status, report, stderr) = unpack(&from, &to);
    assert_eq!((status, &*stderr), (0, ""));
    let kernel = &report["kernels"]["el/5.14.0-1.el9.x86_64"];
    assert_eq!(
        kernel["packages"][0]["special"],
        serde_json::json!([
            { "path": "a/tool", "user": "root", "group": "kvm", "capabilities": "cap_net_admin=ep" }
        ])
    );
    assert_eq!(kernel["packages"][0]["verified"], serde_json::json!(["header-digest", "payload-digest"]));
    assert_eq!(kernel["packages"][0]["unverified"], serde_json::json!(["signature", "source-digest"]));
    let names: Vec<String> = tree(&to.join("el/5.14.0-1.el9.x86_64"))
        .into_iter()
        .map(|(path, text)| format!("{} {}", path.display(), text.split(" sha256").next().unwrap()))
        .collect();
    assert_eq!(
        names,
        ["a directory 755", "a/one file 644 1 3", "a/tool file 644 1 1", "a/two file 644 1 3", "a/zzz file 644 1 3"]
    );
}

/// Killed at whatever it was doing; then run again.
#[test]
fn unpacking_goes_on_after_a_killed_run() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to, other) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("other"));
    common_deb().write(&from);
    for release in ["6.1.0-1-amd64", "6.1.0-1-cloud-amd64", "6.1.0-1-arm64"] {
        headers_deb(release).zeros("./large", 1 << 26).write(&from);
    }
    unpack(&from, &other);
    let arguments = ["kernel", "unpack", &format!("dir:{}", from.display()), "--to", to.to_str().unwrap()];
    let mut run = Command::new(assert_cmd::cargo::cargo_bin("haversack"))
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Something is there, whole or not.
    while fs::read_dir(to.join("debian")).map_or(0, Iterator::count) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    let (status, report, stderr) = unpack(&from, &to);
    assert_eq!((status, &*stderr), (0, ""));
    assert_eq!(report["kernels"].as_object().unwrap().len(), 3);
    for entry in fs::read_dir(to.join("debian")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let (ours, theirs) = (tree(&path), tree(&other.join("debian").join(path.file_name().unwrap())));
            // The makefile is written anew and has a new time.
            let makefile = |name: &Path| name.ends_with("Makefile");
            assert!(
                ours.iter().filter(|(name, _)| !makefile(name)).eq(theirs.iter().filter(|(name, _)| !makefile(name)))
            );
            assert_eq!(ours.len(), theirs.len());
        }
    }
    assert_eq!(fs::read_dir(to.join("debian")).unwrap().count(), 6);
}

#[test]
#[ignore = "needs mount; makes a file system of 8 MiB, so root runs it"]
fn a_disk_that_fills_costs_the_kernels_that_do_not_fit_and_leaves_nothing_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (from, disk) = (dir.path().join("from"), dir.path().join("disk"));
    common_deb().write(&from);
    headers_deb("6.1.0-1-amd64").write(&from);
    // Not zeros: those would be a hole.
    headers_deb("6.1.0-1-rt-amd64").file("./large", 0o644, &vec![7; 16 << 20]).write(&from);
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&disk).status().unwrap();
    assert!(mounted.success());
    let (status, report, stderr) = unpack(&from, &disk);
    let kept = haversack::fs::list(&disk.join("debian")).unwrap();
    fs::remove_file(from.join("linux-headers-6.1.0-1-rt-amd64_6.1.4-1_amd64.deb")).unwrap();
    let (after, _, _) = unpack(&from, &disk);
    let left = haversack::fs::list(&disk.join("debian")).unwrap();
    assert!(Command::new("umount").arg("-l").arg(&disk).status().unwrap().success());
    assert_eq!(status, 3, "{stderr}");
    assert!(stderr.contains("6.1.0-1-rt-amd64") && stderr.contains("No space left on device"), "{stderr}");
    assert_eq!(report["kernels"]["debian/6.1.0-1-rt-amd64"]["status"], "failed");
    // The small one may have come at the moment when the disk was full; in a second run it fits.
    let names = |paths: Vec<PathBuf>| -> Vec<String> {
        paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let (kept, left) = (names(kept), names(left));
    assert!(kept.is_empty() || kept == left, "{kept:?}");
    assert_eq!((after, &*left), (0, &["6.1.0-1-amd64".to_owned(), "6.1.0-1-amd64.json".into()][..]));
}

mod real;

#[test]
fn packages_of_a_directory_are_fetched_and_the_lock_keeps_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for release in ["6.1.0-1-amd64", "6.1.0-2-amd64"] {
        headers_deb(release).write(&from);
    }
    common_deb().write(&from);
    let source = format!("dir:{}", from.display());
    let fetch = |source: &str, more: &[&str]| {
        let arguments = ["kernel", "fetch", source, "--to", to.to_str().unwrap(), "--progress", "none"];
        haversack(&[&arguments, more].concat())
    };
    let (status, _, stderr) = fetch(&source, &[]);
    assert_eq!(status, 0, "{stderr}");
    for file in fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path()) {
        let copy = to.join(file.file_name().unwrap());
        assert_eq!(fs::read(&copy).unwrap(), fs::read(&file).unwrap(), "{}", file.display());
    }
    let lock = fs::read(to.join("fetch.lock")).unwrap();
    // Neither a run about less nor one that finds nothing forgets what lies there.
    assert_eq!(fetch(&source, &["--release", "6.1.0-2-amd64"]).0, 0);
    assert_eq!(fs::read(to.join("fetch.lock")).unwrap(), lock);
    assert_ne!(fetch("dir:/nowhere", &[]).0, 0);
    assert_eq!(fs::read(to.join("fetch.lock")).unwrap(), lock);
    // Another machine gets the same from it, without the directory that it came from.
    fs::rename(&from, dir.path().join("away")).unwrap();
    let (set, other) = (format!("set:{}", to.join("fetch.lock").display()), dir.path().join("other"));
    let (status, _, stderr) = haversack(&["kernel", "fetch", &set, "--to", other.to_str().unwrap()]);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(fs::read_dir(&other).unwrap().count(), fs::read_dir(&to).unwrap().count());
    fs::rename(dir.path().join("away"), &from).unwrap();
    // What is gone is forgotten.
    fs::remove_file(to.join("linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb")).unwrap();
    fs::remove_file(from.join("linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb")).unwrap();
    assert_eq!(fetch(&source, &[]).0, 0);
    let text = fs::read_to_string(to.join("fetch.lock")).unwrap();
    assert!(text.contains("6.1.0-2-amd64") && !text.contains("6.1.0-1-amd64"), "{text}");
    // One of a later release, or damaged, is not replaced by one that lists less.
    let lock = to.join("fetch.lock");
    for (content, why) in [
        (
            text.replacen("\"version\": 2", "\"version\": 3", 1),
            "a list of kernels of format `haversack.kernels` version 3; this program reads haversack.kernels up to version 2",
        ),
        ("damaged".to_owned(), "not a list of kernels\n  because: expected value at line 1 column 1"),
    ] {
        fs::write(&lock, &content).unwrap();
        let (status, _, stderr) = fetch(&source, &[]);
        let expected = format!(
            "error: {}: cannot be gone on with\n  because: {why}\nhint: give another `--to`, or move that file away: the packages \
             beside it stay, and their kernels are not in the new list\n",
            lock.display()
        );
        assert_eq!((status, stderr), (1, expected));
        assert_eq!(fs::read_to_string(&lock).unwrap(), content);
    }
}

#[test]
fn what_cannot_be_read_in_a_directory_is_named_and_the_rest_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    headers_deb("6.1.0-1-amd64").write(dir.path());
    let source = format!("dir:{}", dir.path().display());
    let (_, before, _) = haversack(&["kernel", "list", &source]);
    let whole = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path()).next().unwrap();
    let half = fs::read(&whole).unwrap();
    fs::write(dir.path().join("half.deb"), &half[..half.len() - 40]).unwrap();
    let data = half.windows(8).position(|window| window == b"data.tar").unwrap();
    fs::write(dir.path().join("no-data.deb"), &half[..data]).unwrap();
    std::os::unix::fs::symlink("gone.rpm", dir.path().join("dangling.rpm")).unwrap();
    std::os::unix::fs::symlink("gone", dir.path().join("no-package")).unwrap();
    std::os::unix::fs::symlink(".", dir.path().join("circle")).unwrap();
    let (status, stdout, stderr) = haversack(&["kernel", "list", &source]);
    assert_eq!((status, stdout), (3, before));
    assert!(stderr.contains("no-data.deb: damaged: it has no data"), "{stderr}");
    let named = ["half.deb", "no-data.deb", "dangling.rpm", "circle"].map(|name| (name, true));
    for (name, is_named) in named.into_iter().chain([("no-package", false)]) {
        assert_eq!(stderr.contains(name), is_named, "{name}: {stderr}");
    }
}

/// The classic of a full disk or an interrupted copy.
#[test]
fn a_package_that_is_cut_off_is_named_with_what_to_do_and_its_kernel_is_not_called_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    headers_deb("6.1.0-1-amd64").write(&from);
    common_deb().write(&from);
    let common = from.join("linux-headers-6.1.0-1-common_6.1.4-1_all.deb");
    let whole = fs::read(&common).unwrap();
    let run = || {
        let (from, to) = (format!("dir:{}", from.display()), to.display().to_string());
        let (status, stdout, stderr) = haversack(&["kernel", "unpack", &from, "--to", &to, "--progress", "none"]);
        let row = stdout.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap().to_owned();
        (status, row, stderr.replace(&*from, "from").replace(&common.display().to_string(), "COMMON"))
    };
    // In its header, so that nobody knows what it is; and one whose contents are damaged.
    fs::write(&common, &whole[..100]).unwrap();
    let said = "warning: COMMON: damaged: it cannot be read to its end: it ends too early; fetch the package again\n\
                warning: debian 6.1.0-1-amd64: linux-headers-6.1.0-1-common (= 6.1.4-1) is not here\n\
                warning: debian/6.1.0-1-amd64: usr/src/linux-headers-6.1.0-1-common/Makefile is in none of its packages, and modules cannot be built\n";
    assert_eq!(run(), (3, "incomplete".to_owned(), said.to_owned()));
    let mut damaged = whole;
    let at = damaged.len() - 20;
    damaged[at..].fill(0x55);
    fs::write(&common, damaged).unwrap();
    let (status, row, said) = run();
    assert_eq!((status, &*row), (1, "failed"), "{said}");
    let (beginning, end) = (
        "warning: debian/6.1.0-1-amd64: linux-headers-6.1.0-1-common_6.1.4-1_all.deb: damaged: ",
        "; fetch it again\n",
    );
    assert!(said.starts_with(beginning) && said.ends_with(end) && said.lines().count() == 1, "{said}");
}

#[test]
fn a_complete_kernel_is_not_exchanged_for_one_that_lacks_something() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    headers_deb("6.1.0-1-amd64").write(&from);
    common_deb().write(&from);
    assert_eq!(unpack(&from, &to).0, 0);
    let before = tree(&to);
    for common in fs::read_dir(&from).unwrap().map(|entry| entry.unwrap().path()) {
        if common.to_str().unwrap().contains("common") {
            fs::remove_file(common).unwrap();
        }
    }
    let (status, report, _) = unpack(&from, &to);
    let kernel = report["kernels"].as_object().unwrap().values().next().unwrap();
    assert_eq!((status, &kernel["status"]), (1, &serde_json::json!("failed")));
    let error = kernel["error"].as_str().unwrap();
    assert!(error.contains("common") && error.contains("until you remove it"), "{error}");
    assert_eq!(tree(&to), before);
}
