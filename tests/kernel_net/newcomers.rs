//! What people type before they have read anything: lines of `sources.list`, addresses that are nearly right; whole answers.

use std::path::Path;

use crate::server::Server;
use crate::{APT_TABLE, copy_tree, haversack, testdata};

/// What is said of a signed repository without a key ring.
pub(crate) fn unchecked(url: &str, more: &str) -> String {
    let keys = "give the distribution's keyring or RPM-GPG-KEY file with `--keyring`";
    match more {
        "" => format!("warning: {url}: its signature was not checked; {keys}\n"),
        more => format!("warning: {url} and {more}: their signatures were not checked; {keys}\n"),
    }
}

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
    let done = |said: &str| (0, APT_TABLE.to_owned(), said.to_owned());
    let stable = format!("{url}/debian/dists/stable");
    let (one, three) = (unchecked(&stable, ""), unchecked(&stable, "2 more repositories"));
    for (line, said) in [
        (format!("deb {url}/debian stable main"), &*one),
        (format!("deb [arch=amd64] {url}/debian/ stable main"), &one),
        (format!("deb [ arch=amd64 signed-by={keys} ] {url}/debian stable main"), ""),
    ] {
        assert_eq!(haversack(&["kernel", "list", &line]), done(said), "{line}");
        // The same without quotes.
        let words: Vec<&str> = ["kernel", "list"].into_iter().chain(line.split(' ')).collect();
        assert_eq!(haversack(&words), done(said), "{line}");
    }
    for (mirror, said) in [
        (url.clone(), &*three),
        (format!("{url}/debian"), &three),
        (format!("{url}/debian-security/"), &three),
        // A line is the suite that it names.
        (format!("{url}/debian stable main"), &one),
        (format!("deb {url}/debian stable main"), &one),
        (format!("deb [arch=amd64 signed-by={keys}] {url}/debian stable main"), ""),
    ] {
        server.take_requests();
        let listed = haversack(&["kernel", "list", "--distro", "debian:stable", "--mirror", &mirror]);
        assert_eq!(listed, done(said), "{mirror}");
        let asks_others = server.take_requests().iter().any(|path| !path.starts_with("/debian/dists/stable/"));
        assert_eq!(asks_others, said == three, "{mirror}");
    }
    let hint = "hint: give the URL alone, for all that the distribution has there; or the line as a SOURCE, without `--distro`\n";
    let line = format!("deb {url}/debian stable main");
    for (distro, why) in [
        ("debian:trixie", "--mirror: its suite is `stable`, and --distro asks for debian:trixie".to_owned()),
        ("rocky:9", format!("--mirror: `{line}` is for apt, and rocky has rpm repositories")),
    ] {
        let refused = haversack(&["kernel", "list", "--distro", distro, "--mirror", &line]);
        assert_eq!(refused, (2, String::new(), format!("error: {why}\n{hint}")), "{distro}");
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
    let not_checked = unchecked(&format!("{url}/debian/dists/stable"), "");
    let warning = format!("warning: {}: it has no suite `stabel`; it has stable, stable-updates\n", bare(&bad));
    let both = format!("{warning}{not_checked}");
    assert_eq!(haversack(&["kernel", "list", &good, &bad]), (3, APT_TABLE.to_owned(), both));
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
            "",
            &*format!(
                "{not_checked}error: no package of these kernels has the role core; they have headers, common, kbuild\n"
            )
        )
    );
}

#[test]
fn a_signed_repository_without_keys_is_said_to_be_unchecked_for_people_and_programs() {
    let dir = tempfile::tempdir().unwrap();
    let server = mirror(dir.path());
    let url = &server.url;
    let served = |path: &str| dir.path().join(path);
    for place in ["debian/dists/detached", "debian/dists/unsigned"] {
        copy_tree(&testdata("apt/dists/detached"), &served(place));
    }
    std::fs::remove_file(served("debian/dists/unsigned/Release.gpg")).unwrap();
    for place in ["signed", "bare"] {
        crate::rpm_repository(
            &served(place),
            crate::primary(&crate::rpm_package("kernel-devel", "1.el9", "")).as_bytes(),
        );
    }
    std::fs::write(served("signed/repodata/repomd.xml.asc"), "a signature").unwrap();
    let keys = testdata("trusted.asc").display().to_string();
    let to = served("to").display().to_string();
    for (source, place, more) in [
        (format!("apt:{url}/debian stable main"), Some("debian/dists/stable"), &[][..]),
        (format!("apt:{url}/debian detached main"), Some("debian/dists/detached"), &[]),
        (format!("apt:{url}/debian unsigned main"), None, &[]),
        (format!("rpm:{url}/signed"), Some("signed/"), &[]),
        (format!("rpm:{url}/bare"), None, &[]),
        (format!("apt:{url}/debian stable main"), None, &["--keyring", &keys]),
    ] {
        let place = place.map(|place| format!("{url}/{place}"));
        let said = place.as_deref().map(|place| unchecked(place, "")).unwrap_or_default();
        let places = serde_json::json!(place.as_slice());
        let run = |args: &[&str]| {
            let (status, stdout, stderr) =
                haversack(&[&["kernel"], args, &[&source, "--json", "--retries", "0"], more].concat());
            (status, serde_json::from_str::<serde_json::Value>(&stdout).unwrap(), stderr)
        };
        let (status, list, stderr) = run(&["list"]);
        assert_eq!((status, stderr), (0, said.clone()), "{source}");
        assert_eq!(list.get("unchecked"), place.as_ref().map(|_| &places), "{source}");
        let (status, planned, stderr) = run(&["fetch", "--to", &to, "--dry-run"]);
        assert_eq!((status, &planned["unchecked"], stderr), (0, &places, said.clone()), "{source}");
        // The packages are not there: what was found out about the repository is said nevertheless.
        let (status, fetched, stderr) = run(&["fetch", "--to", &to, "--progress", "none"]);
        assert_eq!((status, &fetched["unchecked"]), (1, &places), "{source}");
        assert!(stderr.starts_with(&said) && stderr.contains("its signature") == place.is_some(), "{source}: {stderr}");
    }
}

#[test]
fn who_names_no_source_is_told_both_ways() {
    let said = "error: neither a SOURCE nor a distribution is given\n\
                hint: name a source, such as rpm:URL or dir:PATH, or a distribution: `--distro debian:bookworm`\n";
    for command in [&["kernel", "list"][..], &["kernel", "fetch", "--to", "packages"]] {
        assert_eq!(haversack(command), (2, String::new(), said.to_owned()), "{command:?}");
    }
}
