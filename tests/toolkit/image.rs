//! `haversack build` of toolkits from packages that were made up.

use serde_json::json;

use crate::packages::Deb;
use crate::{TOOLKIT, definition, documents, file_of, json, kernel, pool, run};

#[test]
fn each_kernel_gets_its_image_and_the_tools_are_one_layer_of_all() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    definition(dir.path(), TOOLKIT);
    let built = json(dir.path(), 0, &["build", "def", "--kernels", "dir:pool", "--output", "oci:out"]);
    let kernels: Vec<_> = built.as_array().unwrap().iter().map(|it| (&it["kernel"], &it["status"])).collect();
    let done = json!("built");
    assert_eq!(kernels, [(&json!("6.1.0-1"), &done), (&json!("6.1.0-2"), &done), (&json!("6.12.9+deb12"), &done)]);
    let layer = |n: usize, layer: usize| built[n]["images"][0]["layers"][layer]["digest"].clone();
    assert_eq!([layer(0, 0), layer(0, 0)], [layer(1, 0), layer(2, 0)]);
    assert_ne!(layer(0, 1), layer(1, 1));

    let image = "out:toolkit:6.12.9_deb12-amd64";
    assert_eq!(built[2]["output"], json!(["oci:out:toolkit:6.12.9_deb12", format!("oci:{image}")]));
    let text = |path: &str| file_of(dir.path(), image, path).map(|bytes| String::from_utf8(bytes).unwrap());
    for (path, expected) in [
        ("usr/bin/gcc", Some("-> gcc-12")),
        ("usr/bin/gcc-12", Some("compiler")),
        ("usr/lib/x86_64-linux-gnu/libc.so.6", Some("libc")),
        ("bin", Some("-> usr/bin")),
        ("usr/bin/su", Some("su")),
        ("usr/share/doc/gcc-12/copyright", None),
        ("usr/lib/modules/6.12.9+deb12-amd64/build", Some("-> /usr/src/linux-headers-6.12.9+deb12-amd64")),
        ("usr/src/linux-headers-6.12.9+deb12-common/Makefile", Some("common")),
        ("usr/lib/linux-kbuild-6.12/x", Some("k")),
        ("etc/release.json", Some(r#"{"KERNEL_VERSION": "6.12.9+deb12-amd64", "RT": "", "RHEL_VERSION": ""}"#)),
    ] {
        assert_eq!(text(path).as_deref(), expected, "{path}");
    }
    let (_, _, config) = documents(dir.path(), image);
    assert_eq!(config["config"]["Labels"]["kernel-version"], "6.12.9+deb12-amd64");
    assert_eq!(config["config"]["Labels"]["version"], "6.12.9+deb12");
    assert_eq!(config["config"]["User"], "1001");

    // Another run, at another time and from other copies, makes the same images.
    let again = json(
        dir.path(),
        0,
        &["build", "def", "--kernels", "dir:pool", "--output", "oci:again", "--release", "6.1.0-2"],
    );
    assert_eq!(again[0]["digest"], built[1]["digest"]);
}

#[test]
fn over_a_base_files_that_yield_leave_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("image.toml"), text).unwrap();
    };
    let users = "{ dest = \"/etc/passwd\", text = \"OF\"";
    write("base", &format!("name = \"base\"\n[[layers]]\nfiles = [{} }}]\n", users.replace("OF", "base")));
    let group = "{ dest = \"/etc/group\", text = \"own\", yields = true }";
    let own =
        format!("name = \"own\"\n[[layers]]\nfiles = [{}, yields = true }}, {group}]\n", users.replace("OF", "own"));
    write("own", &own);
    json(dir.path(), 0, &["build", "base", "--output", "oci:out"]);
    json(dir.path(), 0, &["build", "own", "--output", "oci:out:alone"]);
    json(dir.path(), 0, &["build", "own", "--base", "oci:out:base:latest", "--output", "oci:out:over"]);
    let text = |image: &str, path: &str| String::from_utf8(file_of(dir.path(), image, path).unwrap()).unwrap();
    for (image, passwd) in [("out:alone", "own"), ("out:over", "base")] {
        assert_eq!([text(image, "etc/passwd"), text(image, "etc/group")], [passwd, "own"], "{image}");
    }
}

#[test]
fn several_machines_make_an_index_and_each_machine_has_its_own_tag() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    kernel(&dir.path().join("pool"), "6.1.0-2", "6.1.8-1", "arm64");
    for (name, version, depends) in [
        ("gcc", "12.2.0-3", "gcc-12"),
        ("gcc-12", "12.2.0-14", "libc6"),
        ("libc6", "2.36-9", "libc6"),
        ("setuid", "1", "libc6"),
        ("linux-kbuild-6.1", "6.1.8-1", "libc6"),
    ] {
        Deb::new(name, version, "arm64")
            .depends(depends)
            .file(&format!("usr/x/{name}"), 0o644, b"arm")
            .write(&dir.path().join("pool"));
    }
    definition(dir.path(), TOOLKIT);
    let args = [
        "build",
        "def",
        "--kernels",
        "dir:pool",
        "--output",
        "oci:out",
        "--platform",
        "linux/amd64",
        "--platform",
        "linux/arm64",
        "--release",
        "6.1.0-2",
    ];
    let built = json(dir.path(), 0, &args);
    assert_eq!(
        built[0]["output"],
        json!(["oci:out:toolkit:6.1.0-2", "oci:out:toolkit:6.1.0-2-arm64", "oci:out:toolkit:6.1.0-2-amd64"])
    );
    let (_, index, _) = documents(dir.path(), "out:toolkit:6.1.0-2");
    let listed: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["digest"], &it["platform"]["architecture"]))
        .collect();
    let digest = |tag: &str| json!(documents(dir.path(), &format!("out:toolkit:{tag}")).0);
    assert_eq!(listed, [(&digest("6.1.0-2-arm64"), &json!("arm64")), (&digest("6.1.0-2-amd64"), &json!("amd64"))]);
    assert_eq!(run(dir.path(), &["verify", "oci:out"]).0, 0);
}

/// The headers of a kernel say which compiler it was built with. Whoever builds modules for it with another is to know.
#[test]
fn a_kernel_whose_compiler_nobody_has_is_built_with_another_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    let pool = dir.path().join("pool");
    for (abi, build, compiler) in [
        ("6.1.0-1", "6.1.4-1", "gcc-12 (Debian 12.2.0-14) 12.2.0"),
        ("6.1.0-2", "6.1.8-1", "x86_64-linux-gnu-gcc-14 (Debian 14.2.0-1) 14.2.0"),
    ] {
        let directory = format!("usr/src/linux-headers-{abi}-amd64");
        Deb::new(&format!("linux-headers-{abi}-amd64"), build, "amd64")
            .depends(&format!("linux-headers-{abi}-common (= {build}), linux-kbuild-6.1, gcc-12"))
            .file(&format!("{directory}/.config"), 0o644, format!("CONFIG_CC_VERSION_TEXT=\"{compiler}\"\n").as_bytes())
            .file(&format!("{directory}/Makefile"), 0o644, abi.as_bytes())
            .symlink(&format!("lib/modules/{abi}-amd64/build"), &format!("/{directory}"))
            .write(&pool);
    }
    definition(dir.path(), &TOOLKIT.replace("deb = [\"gcc\", \"setuid\"]", "deb = [\"setuid\"]\ncompiler = [\"gcc\"]"));
    let arguments = ["build", "def", "--kernels", "dir:pool", "--release", "6.1.0-1", "--release", "6.1.0-2"];
    let built = json(dir.path(), 3, &[&arguments[..], &["--output", "oci:out"]].concat());
    let said =
        |n: usize| ["kernel", "status", "error"].map(|key| built[n][key].as_str().unwrap_or_default().to_owned());
    assert_eq!(said(0), ["6.1.0-1", "built", ""]);
    let lacks = "it was compiled with gcc 14.2.0, of which no source has any 14.x; the image has gcc 12.2.0";
    assert_eq!(said(1), ["6.1.0-2", "built", lacks]);
    let compilers =
        ["6.1.0-1", "6.1.0-2"].map(|tag| file_of(dir.path(), &format!("out:toolkit:{tag}"), "usr/bin/gcc-12"));
    assert_eq!(compilers, [Some(b"compiler".to_vec()), Some(b"compiler".to_vec())]);
    let (status, _, stderr) = run(dir.path(), &[&arguments[..], &["--output", "oci:other"]].concat());
    assert!(status == 3 && stderr.contains(lacks), "{stderr}");
}

#[test]
fn kernels_that_fail_are_named_and_the_others_are_built() {
    let dir = tempfile::tempdir().unwrap();
    pool(dir.path());
    let pool = dir.path().join("pool");
    // Headers whose common part is of another build; headers without; a dependency that nobody has; a damaged package.
    kernel(&pool, "6.1.0-3", "6.1.9-1", "amd64");
    std::fs::remove_file(pool.join("linux-headers-6.1.0-3-common_6.1.9-1_all.deb")).unwrap();
    Deb::new("linux-headers-6.1.0-3-common", "6.1.9-2", "all").write(&pool);
    Deb::new("linux-image-6.1.0-4-amd64", "6.1.10-1", "amd64").write(&pool);
    let lost = Deb::new("linux-headers-6.1.0-5-amd64", "6.1.11-1", "amd64").depends("compiler-of-mars (>= 3)");
    lost.file("usr/src/x", 0o644, b"x").write(&pool);
    let clash = Deb::new("linux-headers-6.1.0-6-amd64", "6.1.12-1", "amd64").depends("other");
    clash.file("usr/src/same", 0o644, b"one").write(&pool);
    Deb::new("other", "1", "all").file("usr/src/same", 0o644, b"two").write(&pool);
    definition(dir.path(), TOOLKIT);
    std::fs::write(
        dir.path().join("matrix"),
        r#"{"versions":[{"rhel":"","kernel":"6.1.0-1","archs":"linux/amd64,linux/s390x"},{"rhel":"","kernel":"6.1.0-3","archs":"linux/amd64"},
            {"rhel":"","kernel":"6.1.0-4","archs":"linux/amd64"},{"rhel":"","kernel":"6.1.0-5","archs":"linux/amd64"},
            {"rhel":"","kernel":"6.1.0-6","archs":"linux/amd64"},{"rhel":"","kernel":"6.1.0-9","archs":"linux/amd64"}]}"#,
    )
    .unwrap();
    let built =
        json(dir.path(), 3, &["build", "def", "--matrix", "matrix", "--kernels", "dir:pool", "--output", "oci:out"]);
    let lines: Vec<String> = built
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            format!(
                "{} {}: {}",
                it["kernel"].as_str().unwrap(),
                it["status"].as_str().unwrap(),
                it["error"].as_str().unwrap_or_default().lines().next().unwrap_or_default()
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    6.1.0-1 built: no source has it for s390x; the image is without
    6.1.0-3 failed: 6.1.0-3-amd64: its headers need linux-headers-6.1.0-3-common (= 6.1.9-1), which no source has
    6.1.0-4 failed: 6.1.0-4-amd64: its headers (kernel-devel, linux-headers) are in no source
    6.1.0-5 failed: 6.1.0-5-amd64: what its headers need cannot be had: compiler-of-mars (>= 3): no source has it
    6.1.0-6 failed: linux-headers-6.1.0-6-amd64_6.1.12-1_amd64.deb: /usr/src/same is in another package with other content
    6.1.0-9 failed: no source has packages of this kernel
    ");
    // What to do about it is said where it happens, and once.
    let (_, _, stderr) =
        run(dir.path(), &["build", "def", "--matrix", "matrix", "--kernels", "dir:pool", "--output", "oci:again"]);
    let line = "warning: 6.1.0-5: 6.1.0-5-amd64: what its headers need cannot be had: compiler-of-mars (>= 3): no source has it; add a \
                source that has it with `--packages`; or list it as `provided` in the definition, when the base has it\n";
    assert_eq!((stderr.matches(line).count(), stderr.matches("add a source that has it").count()), (1, 1), "{stderr}");
    let missing = ["--release", "7.0", "--release", "8.0"];
    let (status, _, stderr) = run(
        dir.path(),
        &[&["build", "def", "--kernels", "dir:pool", "--output", "oci:none/such"][..], &missing].concat(),
    );
    let said =
        "error: 7.0, 8.0: no such kernel in any source\nhint: `haversack kernel list SOURCE…` shows which there are\n";
    assert!(status == 1 && stderr.ends_with(said), "{stderr}");
    // One kernel that is asked for and fails is a failure, and what was made for it is gone.
    let one = ["build", "def", "--kernels", "dir:pool", "--release", "6.1.0-4", "--output", "oci:none"];
    let (status, stdout, stderr) = run(dir.path(), &one);
    let said = "error: 6.1.0-4-amd64: its headers (kernel-devel, linux-headers) are in no source\nhint: add a repository that has \
                them; on EL 9 and later kernel-devel is in AppStream\n";
    assert!(status == 1 && stdout.is_empty() && stderr.ends_with(said), "{stdout}{stderr}");
    // Nothing of several is a failure, too.
    let several = [&one[..6], &["--release", "6.1.0-5", "--output", "oci:none"]].concat();
    let failed = json(dir.path(), 1, &several);
    assert_eq!(failed.as_array().unwrap().iter().filter(|it| it["status"] == "failed").count(), 2, "{failed}");
    assert!(!dir.path().join("none").exists());
    for (args, why) in [
        (&["--output", "oci:out"][..], "the image holds kernels, and no source of them was given"),
        (&["--kernels", "dir:pool", "--output", "oci:out:one"], "images would be written under the same name"),
        (&["--kernels", "dir:pool", "--output", "oci:out", "--shard", "9/4"], "`9/4` is not a valid shard"),
    ] {
        let (status, _, stderr) = run(dir.path(), &[&["build", "def"], args].concat());
        assert!(status == 2 && stderr.contains(why), "{args:?}: {stderr}");
    }
}
