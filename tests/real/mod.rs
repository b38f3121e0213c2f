//! Real packages, compared with what the distributions' own tools make of them.

mod debian;
mod presets;
mod repositories;

use super::*;

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn real_data(path: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("HAVERSACK_REAL_DATA").expect("HAVERSACK_REAL_DATA")).join(path)
}

/// Runs a shell command and returns whether its program is there and it succeeded.
fn shell(command: &str, directory: &Path) -> bool {
    let output = Command::new("sh").arg("-c").arg(command).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

/// One package of each compressor and of each kind of signature, each alone in its directory, since they share a name.
#[test]
#[ignore = "needs HAVERSACK_REAL_DATA, rpm2cpio and cpio; .ci/run sets the first"]
fn rpms_of_every_compressor_are_unpacked_as_rpm2cpio_and_cpio_unpack_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = Vec::new();
    for path in haversack::fs::list(&real_data("kernel/rpm-fixtures")).unwrap() {
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !file.starts_with("kernel-") {
            continue;
        }
        let (from, to, theirs) = (dir.path().join(&file), dir.path().join("to"), dir.path().join("theirs"));
        fs::create_dir_all(&from).unwrap();
        fs::copy(&path, from.join(&file)).unwrap();
        let _ = fs::remove_dir_all(&to);
        let (status, report, stderr) = unpack(&from, &to);
        assert_eq!((status, &*stderr), (0, ""), "{file}");
        let (name, kernel) = report["kernels"].as_object().unwrap().iter().next().unwrap();
        compared.push(format!("{file}: {name} verified={}", kernel["packages"][0]["verified"]));
        let ours = tree(&to.join(name));
        {
            let _ = fs::remove_dir_all(&theirs);
            fs::create_dir(&theirs).unwrap();
            shell(&format!("rpm2cpio {} | cpio -idm --quiet --no-preserve-owner", path.display()), &theirs);
            let differs = |(path, text): &(PathBuf, String)| ours.get(path) != Some(text);
            let theirs: Vec<_> = tree(&theirs).into_iter().collect();
            // Absolute `build` and `source` links are made relative; these packages have relative ones.
            assert_eq!(theirs.iter().filter(|entry| differs(entry)).collect::<Vec<_>>(), Vec::<&_>::new(), "{file}");
            assert_eq!(theirs.len(), ours.len(), "{file}");
        }
    }
    insta::assert_snapshot!(compared.join("\n"), @r#"
        kernel-core.zstdio.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-devel.bzdio.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-devel.gzdio.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-devel.lzdio.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-devel.signed-v3v4.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-devel.signed-v4.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-devel.ufdio.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-devel.xzdio.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-devel.zstdio.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        kernel-meta-nofiles.rpm: el/5.14.0-427.68.1.el9_4.x86_64 verified=["header-digest","payload-digest"]
        "#);
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA; .ci/run sets it"]
fn signatures_are_verified_with_the_right_key_and_refused_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let armored = real_data("kernel/rpm-fixtures/fixture-key.asc");
    let mut packets = Vec::new();
    pgp::armor::Dearmor::new(BufReader::new(fs::File::open(&armored).unwrap())).read_to_end(&mut packets).unwrap();
    let key = dir.path().join("fixture-key.gpg");
    fs::write(&key, packets).unwrap();
    for (file, status, verified) in [
        ("kernel-devel.signed-v4.rpm", 0, r#"["header-digest","signature","payload-digest"]"#),
        ("kernel-devel.signed-v3v4.rpm", 0, r#"["header-digest","signature","payload-digest"]"#),
        ("kernel-devel.xzdio.rpm", 1, "null"),
    ] {
        let from = dir.path().join(file);
        fs::create_dir(&from).unwrap();
        fs::copy(real_data("kernel/rpm-fixtures").join(file), from.join(file)).unwrap();
        let source = format!("dir:{}", from.display());
        let to = dir.path().join("to").join(file);
        let (to, key) = (to.to_str().unwrap(), key.to_str().unwrap());
        let (exit, stdout, stderr) = haversack(&["kernel", "unpack", &source, "--to", to, "--keyring", key, "--json"]);
        let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let kernel = report["kernels"].as_object().unwrap().values().next().unwrap();
        let packages = kernel["packages"].get(0).map_or(serde_json::Value::Null, |package| package["verified"].clone());
        assert_eq!((exit, &*packages.to_string()), (status, verified), "{file} {stderr}");
    }
}

/// 4 GiB and 4 bytes of nothing: the payload is in rpm's stripped form, and the hole stays a hole.
#[test]
#[ignore = "needs HAVERSACK_REAL_DATA; .ci/run sets it"]
fn a_file_above_4_gib_is_unpacked_from_a_stripped_payload() {
    use haversack::kernel::classify::Role;
    use haversack::kernel::group::Kernel;
    use haversack::kernel::package::{Format, Name, Package};
    use haversack::kernel::release::Release;

    let dir = tempfile::tempdir().unwrap();
    let name = Name { name: "big".into(), version: "1-1".into(), architecture: "x86_64".into(), format: Format::Rpm };
    let package = Package {
        location: real_data("kernel/rpm-fixtures/bigfile-stripped-cpio-07070X.rpm").to_str().unwrap().into(),
        ..Package::from_location(&name.to_string()).unwrap()
    };
    let release = Release {
        distribution: "el".into(),
        uname: "1".into(),
        machine: "x86_64".parse().unwrap(),
        flavour: "default".into(),
        build: "1".into(),
    };
    let kernel = Kernel { release, packages: vec![(Role::Devel, package)], missing: Vec::new() };
    let progress = haversack::progress::Progress::off();
    let report = haversack::kernel::unpack::unpack(&[kernel], dir.path(), &Default::default(), &progress).unwrap();
    assert_eq!(report.kernels["el/1"].error, None);
    let big = dir.path().join("el/1/usr/share/bigfile");
    let sparse = fs::metadata(big.join("sparse")).unwrap();
    assert_eq!((sparse.len(), sparse.blocks() < 1000), (4_294_967_300, true));
    assert_eq!(fs::read_to_string(big.join("small2")).unwrap(), "hi\n");
    assert_eq!(fs::metadata(big.join("small")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(big.join("link")).unwrap(), Path::new("small"));
}

#[test]
#[ignore = "needs dpkg-deb; Debian's package tools"]
fn debs_of_every_compressor_are_unpacked_as_dpkg_deb_unpacks_them() {
    let dir = tempfile::tempdir().unwrap();
    let long = "d".repeat(90);
    let control =
        "Package: linux-headers-6.1.0-1-amd64\\nVersion: 6.1.4-1\\nArchitecture: amd64\\nMaintainer: x <x@x>\\n";
    shell(
        &format!(
            "mkdir -p t/DEBIAN t/usr/src/{long}/{long} t/lib && printf '{control}Description: x\\n' > t/DEBIAN/control \
             && echo x > t/usr/src/{long}/{long}/file && ln t/usr/src/{long}/{long}/file t/usr/src/hard \
             && ln -s ../usr/src/hard t/lib/link && ln -s /nowhere/{long}/{long} t/lib/away && chmod 750 t/usr/src/hard \
             && mkdir -m 700 t/lib/private && touch -d @12345 t/usr/src/hard t/lib/private/x"
        ),
        dir.path(),
    );
    for compressor in ["none", "gzip", "xz", "zstd"] {
        let (from, to) = (dir.path().join(compressor), dir.path().join(format!("{compressor}-to")));
        fs::create_dir(&from).unwrap();
        shell(&format!("dpkg-deb --root-owner-group -Z{compressor} -b t {compressor}/x.deb"), dir.path());
        shell(&format!("dpkg-deb -x {compressor}/x.deb {compressor}-theirs"), dir.path());
        let (status, _, stderr) = unpack(&from, &to);
        assert_eq!((status, &*stderr), (0, ""), "{compressor}");
        let theirs = tree(&dir.path().join(format!("{compressor}-theirs")));
        assert_eq!(tree(&to.join("debian/6.1.0-1-amd64")), theirs, "{compressor}");
    }
}
