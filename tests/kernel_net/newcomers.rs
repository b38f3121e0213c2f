//! What people type before they have read anything: lines of `sources.list`, addresses that are nearly right; whole answers.

use std::path::Path;

use crate::server::Server;
use crate::{APT_TABLE, copy_tree, haversack, testdata};

/// Debian as a mirror has it: an archive and one for security, and a page for each directory.
fn mirror(dir: &Path) -> Server {
    for place in ["debian/dists/stable", "debian/dists/stable-updates", "debian-security/dists/stable-security"] {
        std::fs::create_dir_all(dir.join(place)).unwrap();
        copy_tree(&testdata("apt/dists/stable"), &dir.join(place));
    }
    let server = Server::start(dir);
    server.list_directories();
    server
}

#[test]
fn what_people_have_in_sources_list_is_taken_as_a_source_and_as_a_mirror() {
    let dir = tempfile::tempdir().unwrap();
    let server = mirror(dir.path());
    let keys = testdata("trusted.asc").display().to_string();
    let url = &server.url;
    let done = (0, APT_TABLE.to_owned(), String::new());
    for line in [
        format!("deb {url}/debian stable main"),
        format!("deb [arch=amd64] {url}/debian/ stable main"),
        format!("deb [ arch=amd64 signed-by={keys} ] {url}/debian stable main"),
    ] {
        assert_eq!(haversack(&["kernel", "list", &line]), done, "{line}");
        // The same without quotes.
        let words: Vec<&str> = ["kernel", "list"].into_iter().chain(line.split(' ')).collect();
        assert_eq!(haversack(&words), done, "{line}");
    }
    for mirror in [
        url.clone(),
        format!("{url}/debian"),
        format!("{url}/debian-security/"),
        format!("{url}/debian stable main"),
        format!("deb {url}/debian stable main contrib"),
        format!("deb [arch=amd64 signed-by={keys}] {url}/debian stable main"),
    ] {
        assert_eq!(haversack(&["kernel", "list", "--distro", "debian:stable", "--mirror", &mirror]), done, "{mirror}");
    }
    // Its key ring is used, and another one is not good enough.
    let other = testdata("other.asc").display().to_string();
    std::fs::remove_file(dir.path().join("debian/dists/stable/InRelease")).unwrap();
    copy_tree(&testdata("apt/dists/detached"), &dir.path().join("debian/dists/stable"));
    let line = format!("deb [signed-by={other}] {url}/debian stable main");
    let said = format!(
        "error: {url}/debian/dists/stable/Release: not trusted\n  because: none of its signatures (1) is valid and by a trusted key\n\
         hint: check `--keyring`; the keys are in the distribution's keyring or RPM-GPG-KEY files\n"
    );
    assert_eq!(haversack(&["kernel", "list", &line]), (1, String::new(), said));
}

#[test]
fn a_wrong_suite_is_told_from_a_wrong_address_and_a_wrong_component() {
    let dir = tempfile::tempdir().unwrap();
    let server = mirror(dir.path());
    let url = &server.url;
    let (suite, address, component) = (
        "check the suite, the word behind the address: bookworm, noble",
        "check the address, which ends before dists/ as https://deb.debian.org/debian does, and the suite behind it",
        "check the components, the words behind the suite, and `--arch`",
    );
    for (source, status, said) in [
        (
            format!("apt:{url}/debian stabel main"),
            1,
            format!("error: {url}/debian: it has no suite `stabel`; it has stable, stable-updates\nhint: {suite}\n"),
        ),
        (
            format!("apt:{url}/debain stable main"),
            1,
            format!("error: {url}/debain: no apt repository is here, or it has no suite `stable`\nhint: {address}\n"),
        ),
        (
            format!("apt:{url}/debian stable mian"),
            1,
            format!(
                "error: {url}/debian/dists/stable: it has no `mian/binary-amd64`; it has main/binary-amd64\nhint: {component}\n"
            ),
        ),
        (
            format!("rpm:{url}/debian"),
            1,
            format!(
                "error: {url}/debian/: no rpm repository is here, for it has no repodata/repomd.xml\nhint: give the address of \
                 the directory that has repodata/ in it, or of a list of mirrors\n"
            ),
        ),
        (
            format!("{url}/debian"),
            2,
            format!(
                "error: `{url}/debian` is not a valid source; expected apt:, crawler:, dir:, redhat:, rpm: or set:, or a line of \
                 sources.list\nhint: write `rpm:{url}/debian`, or `'apt:{url}/debian SUITE COMPONENT'`\n"
            ),
        ),
        (
            format!("deb {url}/debian"),
            2,
            format!(
                "error: `deb {url}/debian`: expected deb [arch=… signed-by=/FILE] URL SUITE COMPONENT…, as in sources.list\n"
            ),
        ),
    ] {
        assert_eq!(haversack(&["kernel", "list", &source]), (status, String::new(), said), "{source}");
    }
    // A server that shows no directories says it in another way.
    server.fail("", 403, 1);
    let said = format!("error: {url}/debian: it has no suite `stabel`\nhint: {suite}\n");
    assert_eq!(haversack(&["kernel", "list", &format!("apt:{url}/debian stabel main")]), (1, String::new(), said));
}

#[test]
fn where_nothing_could_be_read_the_run_failed_and_where_something_could_it_is_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let server = mirror(dir.path());
    let url = &server.url;
    let (good, bad) = (format!("apt:{url}/debian stable main"), format!("apt:{url}/debian stabel main"));
    let bare = |source: &str| source.strip_prefix("apt:").unwrap().split(' ').next().unwrap().to_owned();
    let warning = format!("warning: {}: it has no suite `stabel`; it has stable, stable-updates\n", bare(&bad));
    assert_eq!(haversack(&["kernel", "list", &good, &bad]), (3, APT_TABLE.to_owned(), warning.clone()));
    let failed = warning.repeat(2) + "error: none of the 2 repositories could be read\n";
    for command in [&["kernel", "list"][..], &["kernel", "fetch", "--to", "packages"], &["kernel", "matrix"]] {
        assert_eq!(haversack(&[command, &[&bad, &bad]].concat()), (1, String::new(), failed.clone()), "{command:?}");
    }
    // A host that has no name, and a port where nobody listens.
    let said = "error: nohost.invalid: no such host is known here\nhint: check the name nohost.invalid and whether this machine has a network\n";
    assert_eq!(
        haversack(&["kernel", "fetch", "--to", "packages", "rpm:http://nohost.invalid/os"]),
        (1, String::new(), said.to_owned())
    );
    let (_, _, stderr) =
        haversack(&["kernel", "list", "rpm:http://127.0.0.1:9/os", "--retries", "1", "--retry-delay", "0"]);
    let hint = "check that 127.0.0.1 can be reached from here (proxies are taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY; \
                further certificate authorities from SSL_CERT_FILE and `--ca-file`)";
    let refused = "http://127.0.0.1:9/os/repodata/repomd.xml: cannot connect";
    assert_eq!(
        stderr,
        format!(
            "warning: {refused}: Connection refused (os error 111); trying again in 0.0 s (1 of 1)\nwarning: {refused}: Connection refused (os error 111); given up after 2 \
             tries\nerror: {refused}\n  because: \
             Connection refused (os error 111)\nhint: {hint}\n"
        )
    );
    // A role that no package has.
    let (status, stdout, stderr) =
        haversack(&["kernel", "fetch", "--to", "packages", "--role", "core", "--dry-run", &good]);
    assert_eq!(
        (status, &*stdout, &*stderr),
        (
            1,
            "0 packages would be fetched: 0 B\n",
            "warning: no package of these kernels has the role core; they have common, headers, kbuild\n"
        )
    );
}
