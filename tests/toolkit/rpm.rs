//! A toolkit over RPMs that rpmbuild made, on a base from a registry.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::docker_registry::DockerRegistry;
use crate::{documents, file_of, json, run};

const KERNEL: &str = r#"
Name: kernel
Version: 5.14.0
Release: 427.35.1.el9_4
Summary: made up
License: none
AutoReqProv: no
%define uname %{version}-%{release}.%{_target_cpu}
%description
made up
%package core
Summary: made up
Requires: dracut, linux-firmware
Provides: kernel-core-uname-r = %{uname}
%description core
made up
%package devel
Summary: made up
Requires: (gcc >= 11.4 or clang), make, /usr/bin/perl
Provides: kernel-devel-uname-r = %{uname}
%description devel
made up
%package modules
Summary: made up
Provides: kernel-modules-uname-r = %{uname}
%description modules
made up
%package -n kernel-rt-devel
Summary: made up
Provides: kernel-rt-devel-uname-r = %{uname}+rt
%description -n kernel-rt-devel
made up
%install
d=%{buildroot}
mkdir -p $d/lib/modules/%{uname}/kernel $d/usr/src/kernels/%{uname} $d/usr/src/kernels/%{uname}+rt
echo 'CONFIG_CC_VERSION_TEXT="gcc (GCC) 11.4.1 20231218 (Red Hat 11.4.1-3)"' >$d/lib/modules/%{uname}/config
echo x >$d/lib/modules/%{uname}/kernel/x.ko
echo make >$d/usr/src/kernels/%{uname}/Makefile
echo make >$d/usr/src/kernels/%{uname}+rt/Makefile
ln -s /usr/src/kernels/%{uname} $d/lib/modules/%{uname}/build
%files core
/lib/modules/%{uname}/config
%files devel
/usr/src/kernels/%{uname}
/lib/modules/%{uname}/build
%files modules
/lib/modules/%{uname}/kernel
%files -n kernel-rt-devel
/usr/src/kernels/%{uname}+rt
"#;

/// `NAME VERSION RELEASE REQUIRES PROVIDES FILE`.
const OTHERS: &[[&str; 6]] = &[
    ["gcc", "11.4.1", "3.el9", "libmpc.so.3()(64bit), /bin/sh", "", "/usr/bin/gcc"],
    ["gcc", "11.5.0", "5.el9", "libmpc.so.3()(64bit), /bin/sh", "", "/usr/bin/gcc"],
    ["libmpc", "1.2.1", "4.el9", "glibc >= 2.34", "libmpc.so.3()(64bit)", "/lib64/libmpc.so.3"],
    ["make", "4.3", "8.el9", "", "", "/usr/bin/make"],
    ["perl-interpreter", "5.32.1", "481.el9", "", "", "/usr/bin/perl"],
    ["kernel-headers", "5.14.0", "427.35.1.el9_4", "", "", "/usr/include/linux/version.h"],
];

const TOOLKIT: &str = r#"
name = "driver-toolkit"
tags = ["${tag}", "${release-tag}"]
user = "1001"
labels = { "version" = "${version}", "kernel-rt-version" = "${rt}" }
[[layers]]
name = "tools"
packages = { rpm = ["make", "kernel-headers"], compiler = ["gcc"], provided = ["glibc", "/bin/sh"], merge = { "/bin" = "/usr/bin", "/lib64" = "/usr/lib64", "/lib" = "/usr/lib" } }
[[layers]]
name = "kernel"
files = [{ dest = "/etc/driver-toolkit-release.json", text = "{\"KERNEL_VERSION\": \"${release}\", \"RT_KERNEL_VERSION\": \"${rt}\", \"RHEL_VERSION\": \"${rhel}\"}\n" }]
kernels = { flavours = ["rt"] }
"#;

fn rpmbuild(dir: &Path, name: &str, spec: &str) {
    let path = dir.join(format!("{name}.spec"));
    std::fs::write(&path, spec).unwrap();
    let top = format!("_topdir {}", dir.join("rpmbuild").display());
    let output = Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--target", "x86_64", "--define", &top, "--define", "_build_id_links none"])
        .args(["--define", "debug_package %{nil}", "--define", "__os_install_post %{nil}"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "needs rpmbuild, createrepo_c and docker-registry; scripts/test.sh runs it where they are"]
fn rpms_and_what_they_need_are_laid_over_a_base_from_a_registry() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), DockerRegistry::start());
    rpmbuild(dir.path(), "kernel", KERNEL);
    for [name, version, release, requires, provides, file] in OTHERS {
        let line = |key: &str, value: &str| if value.is_empty() { String::new() } else { format!("{key}: {value}\n") };
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: {release}\nSummary: x\nLicense: x\nAutoReqProv: no\n{}{}\
             %description\nx\n%install\nmkdir -p %{{buildroot}}$(dirname {file})\necho {version} >%{{buildroot}}{file}\n%files\n{file}\n",
            line("Requires", requires),
            line("Provides", provides),
        );
        rpmbuild(dir.path(), &format!("{name}-{version}"), &spec);
    }
    let repository = dir.path().join("rpmbuild/RPMS");
    assert!(Command::new("createrepo_c").arg("--quiet").arg(&repository).status().unwrap().success());
    let server = crate::server::Server::start(&repository);
    let source = format!("rpm:{}/", server.url);

    let define = |name: &str, text: &str| {
        std::fs::create_dir_all(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("image.toml"), text).unwrap();
    };
    define(
        "ubi",
        "name = 'ubi'\nlabels = { 'com.redhat.component' = 'ubi' }\n[[layers]]\nlinks = { '/bin' = 'usr/bin' }\nfiles = [{ text = 'sh', dest = '/usr/bin/sh' }]",
    );
    define("def", TOOLKIT);
    let base = registry.at("ubi9:9.4");
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let pushed = json(dir.path(), 0, &[&["build", "ubi", "--push", &base], &tls[..]].concat());
    let args = ["build", "def", "--kernels", &source, "--packages", &source, "--base", &base, "--output", "oci:out"];
    let built = json(dir.path(), 0, &[&args[..], &tls].concat());
    let (version, release) = ("5.14.0-427.35.1.el9_4", "5.14.0-427.35.1.el9_4.x86_64");
    assert_eq!(
        built[0]["output"],
        json!([format!("oci:out:driver-toolkit:{version}"), format!("oci:out:driver-toolkit:{release}")])
    );
    let image = format!("out:driver-toolkit:{release}");
    let text = |path: &str| file_of(dir.path(), &image, path).map(|bytes| String::from_utf8(bytes).unwrap());
    for (path, expected) in [
        // The compiler that built the kernel, not the newest.
        ("usr/bin/gcc", Some("11.4.1\n")),
        ("usr/lib64/libmpc.so.3", Some("1.2.1\n")),
        ("usr/bin/perl", Some("5.32.1\n")),
        ("usr/bin/make", Some("4.3\n")),
        ("usr/include/linux/version.h", Some("5.14.0\n")),
        ("usr/bin/sh", Some("sh")),
        ("usr/src/kernels/5.14.0-427.35.1.el9_4.x86_64/Makefile", Some("make\n")),
        ("usr/src/kernels/5.14.0-427.35.1.el9_4.x86_64+rt/Makefile", Some("make\n")),
        ("usr/lib/modules/5.14.0-427.35.1.el9_4.x86_64/kernel/x.ko", Some("x\n")),
        (
            "etc/driver-toolkit-release.json",
            Some(
                "{\"KERNEL_VERSION\": \"5.14.0-427.35.1.el9_4.x86_64\", \"RT_KERNEL_VERSION\": \"5.14.0-427.35.1.el9_4.x86_64+rt\", \"RHEL_VERSION\": \"9.4\"}\n",
            ),
        ),
    ] {
        assert_eq!(text(path).as_deref(), expected, "{path}");
    }
    let (_, _, config) = documents(dir.path(), &image);
    let labels = &config["config"]["Labels"];
    let expected = [
        ("version", json!(version)),
        ("kernel-rt-version", json!(format!("{release}+rt"))),
        ("com.redhat.component", json!("ubi")),
        ("org.opencontainers.image.base.name", json!(base.trim_start_matches("docker://"))),
        ("org.opencontainers.image.base.digest", pushed[0]["digest"].clone()),
    ];
    for (label, expected) in expected {
        assert_eq!(labels[label], expected, "{label}");
    }
    assert_eq!(run(dir.path(), &["verify", "oci:out"]).0, 0);

    // A base for other machines only.
    let arm = registry.at("arm:1");
    json(dir.path(), 0, &[&["build", "ubi", "--push", &arm, "--platform", "linux/arm64"], &tls[..]].concat());
    let args = ["build", "def", "--kernels", &source, "--base", &arm, "--output", "oci:out"];
    let failed = json(dir.path(), 1, &[&args[..], &tls].concat());
    assert!(failed["error"].as_str().unwrap().contains("the base has no image for linux/amd64"), "{failed}");
}
