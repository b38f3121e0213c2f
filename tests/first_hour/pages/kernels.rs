//! The commands of docs/kernels.md, with real packages of Debian.

use std::process::Command;

use super::world::{ORDINARY, World};
use super::{Page, walk_in};

pub(super) const PAGE: Page = Page {
    name: "docs/kernels.md",
    // The releases of the page are those of the day it was written; here, they are the newest that there are packages of.
    given: r#"
        source='apt:http://deb.example/debian bookworm main'
        haversack kernel list "$source" --flavour default --json > all.json
        newest() { jq -r '.kernels[].uname' all.json | grep "^$1" | sort -V | tail -n 1; }
        old=$(newest '6\.1\.') new=$(newest '6\.12\.')
        new=${new%-amd64}
        cp ~/../debian.asc .
        printf '%s\n' '#include <linux/module.h>' 'MODULE_LICENSE("GPL");' > empty.c
        echo 'obj-m := empty.o' > Makefile"#,
    answers: &[],
    other: &[("6.12.117+deb12", "$new"), ("6.12.117_deb12", "${new//+/_}"), ("6.1.0-56-amd64", "$old")],
    elsewhere: &[
        ("haversack kernel list --distro", "tests/real asks the distribution's own repositories"),
        ("haversack kernel matrix", "tests/toolkit/matrix.rs has an update service and releases"),
        ("haversack build driver-toolkit --matrix", "tests/toolkit/rpm.rs has repositories of rpm packages"),
    ],
};

/// A world in which deb.example is an archive of the packages that scripts/debs.sh fetched, signed by debian.asc.
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn world(user: &'static str) -> World {
    let world = World::new(user);
    let debs = std::env::var_os("HAVERSACK_DEBS").expect("HAVERSACK_DEBS is not set");
    let script = r#"
        set -e
        suite=hosts/www/debian/dists/bookworm
        mkdir -p "$suite/main/binary-amd64" gpg
        chmod 700 gpg
        ln -s "$1" hosts/www/debian/pool
        (cd hosts/www/debian && apt-ftparchive packages pool > dists/bookworm/main/binary-amd64/Packages)
        (cd hosts/www/debian && apt-ftparchive -o APT::FTPArchive::Release::Suite=bookworm release dists/bookworm > ../Release)
        mv hosts/www/Release "$suite/Release"
        gpg() { command gpg --homedir gpg --batch --quiet --pinentry-mode loopback --passphrase '' "$@"; }
        gpg --quick-gen-key packer@example.org ed25519 sign never
        gpg --armor --output debian.asc --export
        gpg --output "$suite/InRelease" --clearsign "$suite/Release""#;
    // gpg leaves an agent, which ends with its namespace.
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "bash", "-c", script, "world"])
        .arg(debs)
        .current_dir(world.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    world
}

#[test]
#[ignore = "needs podman, mount, newuidmap, ip, unshare, setpriv, openssl, docker-registry, python3, apt-ftparchive, gpg, jq, make, gcc and HAVERSACK_DEBS; in namespaces of its own"]
fn every_command_of_the_page_on_kernels_works_as_root_and_as_an_ordinary_user() {
    for user in ["root", ORDINARY] {
        let wrong = walk_in(&world(user), &PAGE, user);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// What the page says of those who are not root: there, the toolkit's own user writes into a mounted directory as well.
#[test]
#[ignore = "needs podman, mount, newuidmap, ip, unshare, setpriv, openssl, docker-registry, python3, apt-ftparchive, gpg, jq and HAVERSACK_DEBS; in namespaces of its own"]
fn user_1001_of_a_toolkit_builds_in_a_directory_of_an_ordinary_user() {
    let world = world(ORDINARY);
    let script = format!(
        r#"set -eu; {}
        haversack build driver-toolkit --kernels "$source" --release $new --output oci:out
        image=oci:out:driver-toolkit:${{new//+/_}}
        make="make -C /lib/modules/$new-amd64/build M=/src modules"
        podman run --rm --network none -v "$PWD:/src" $image $make && exit 9
        podman run --rm --network none --userns keep-id:uid=1001,gid=1001 -v "$PWD:/src:Z" $image sh -c "id -u; $make"
        stat -c %U empty.ko"#,
        PAGE.given
    );
    let output = world.run(&script);
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && lines.contains(&"1001") && lines.last() == Some(&ORDINARY), "{said}\n{talk}");
}
