//! `haversack kernel` against repositories on the loopback interface.

mod digests;
mod fetching;
mod mirrors;
mod newcomers;
#[path = "../packages/mod.rs"]
#[allow(dead_code, reason = "each user takes a part")]
mod packages;
#[path = "../server/mod.rs"]
mod server;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use haversack::digest::Digest;
use server::Server;

fn haversack(arguments: &[&str]) -> (i32, String, String) {
    let output = assert_cmd::Command::cargo_bin("haversack").unwrap().args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/kernel").join(path)
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

const APT_TABLE: &str = "\
DISTRIBUTION  RELEASE        MACHINE  FLAVOUR  PACKAGES
debian        6.1.0-1-amd64  x86_64   default  headers,common,kbuild
";

#[test]
fn apt_suites_are_listed_when_a_trusted_key_signed_them_and_refused_otherwise() {
    let server = Server::start(&testdata("apt"));
    let list = |suite: &str, more: &[&str]| {
        let source = format!("apt:{} {suite} main", server.url);
        haversack(&[&["kernel", "list", &source, "--retries", "0"], more].concat())
    };
    let (trusted, other) = (testdata("trusted.asc"), testdata("other.asc"));
    let (trusted, other) = (trusted.to_str().unwrap(), other.to_str().unwrap());
    for (suite, more, status, why) in [
        ("stable", &["--keyring", trusted][..], 0, ""),
        ("stable", &["--keyring", other], 0, ""),
        ("stable", &[], 0, ""),
        ("detached", &["--keyring", trusted], 0, ""),
        ("detached", &["--keyring", other], 1, "none of its signatures (1) is valid and by a trusted key"),
        ("expired", &["--keyring", trusted, "--allow-expired"], 0, ""),
        (
            "expired",
            &["--keyring", trusted],
            1,
            "valid only until 2020-11-28T12:00:00Z\nhint: the mirror may be old: try another one, or take it as it is with",
        ),
        ("expired", &["--keyring", other, "--allow-expired"], 1, "none of its signatures (1)"),
        ("missing", &[], 1, "no apt repository is here, or it has no suite `missing`"),
    ] {
        let (exit, stdout, stderr) = list(suite, more);
        assert_eq!((exit, stderr.contains(why)), (status, true), "{suite} {more:?}: {stderr}");
        assert_eq!(stdout == APT_TABLE, status == 0, "{suite} {more:?}: {stdout}");
    }
    assert!(server.requests().iter().any(|path| path.contains("/by-hash/SHA256/")));
}

#[test]
fn apt_metadata_that_was_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    copy_tree(&testdata("apt"), dir.path());
    let server = Server::start(dir.path());
    let keyring = testdata("trusted.asc");
    let refused = |suite: &str, why: &str| {
        let source = format!("apt:{} {suite} main", server.url);
        let arguments = ["kernel", "list", &source, "--keyring", keyring.to_str().unwrap(), "--retries", "0"];
        let (status, _, stderr) = haversack(&arguments);
        assert!(status == 1 && stderr.contains(why), "{why}: {stderr}");
    };
    let release = dir.path().join("dists/stable/InRelease");
    let text = fs::read_to_string(&release).unwrap();
    // The signed text itself.
    fs::write(&release, text.replace("Suite: stable", "Suite: staple")).unwrap();
    refused("stable", "none of its signatures (2)");
    // Text before and behind what is signed, which a careless reader takes for part of it.
    fs::write(&release, format!("SHA256:\n 00 1 main/binary-amd64/Packages\n\n{text}")).unwrap();
    refused("stable", "the signature cannot be read");
    fs::write(&release, format!("{text}\nAcquire-By-Hash: no\n")).unwrap();
    refused("stable", "the signature cannot be read");
    fs::write(&release, &text[..text.len() / 2]).unwrap();
    refused("stable", "the signature cannot be read");
    // The index behind it: other content of the same length, and more than was said.
    let index = dir.path().join("dists/detached/main/binary-amd64/Packages.xz");
    let mut bytes = fs::read(&index).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&index, &bytes).unwrap();
    refused("detached", "Packages.xz: the digest is");
    bytes.push(0);
    fs::write(&index, &bytes).unwrap();
    refused("detached", "the answer is larger than");
}

#[test]
fn an_index_that_a_mirror_lacks_is_taken_in_the_next_form_that_is_stated() {
    let dir = tempfile::tempdir().unwrap();
    let dist = dir.path().join("dists/stable");
    fs::create_dir_all(dist.join("main/binary-amd64")).unwrap();
    let index = "Package: linux-headers-6.1.0-1-amd64\nVersion: 6.1.4-1\nArchitecture: amd64\n\
        Filename: pool/linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb\nSize: 1\n";
    let line =
        |form: &str| format!(" {} {} main/binary-amd64/{form}\n", Digest::sha256(index.as_bytes()).hex(), index.len());
    let forms = ["Packages.xz", "Packages.gz", "Packages"].map(line).concat();
    fs::write(dist.join("Release"), format!("Suite: stable\nSHA256:\n{forms}")).unwrap();
    let server = Server::start(dir.path());
    let source = format!("apt:{} stable main", server.url);
    let list = || haversack(&["kernel", "list", &source, "--retries", "0"]);
    let (status, _, stderr) = list();
    assert!(status == 1 && stderr.contains("Packages.xz: 404 Not Found"), "{stderr}");
    fs::write(dist.join("main/binary-amd64/Packages"), index).unwrap();
    let (status, stdout, stderr) = list();
    assert!(status == 0 && stdout.contains("6.1.0-1-amd64"), "{stderr}");
}

/// A repository of two kernels, its `primary.xml` as it is given.
fn rpm_repository(root: &Path, primary: &[u8]) {
    fs::create_dir_all(root.join("repodata")).unwrap();
    fs::write(root.join("repodata/primary.xml"), primary).unwrap();
    let repomd = format!(
        "<?xml version=\"1.0\"?><repomd xmlns=\"http://linux.duke.edu/metadata/repo\">\
         <data type=\"filelists\"><checksum type=\"sha256\">{}</checksum><location href=\"x\"/></data>\
         <data type=\"primary\"><checksum type=\"sha256\">{}</checksum><open-checksum type=\"sha256\">00</open-checksum>\
         <location href=\"repodata/primary.xml\"/><size>{}</size></data></repomd>",
        "0".repeat(64),
        Digest::sha256(primary).hex(),
        primary.len()
    );
    fs::write(root.join("repodata/repomd.xml"), repomd).unwrap();
}

fn primary(packages: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata xmlns=\"http://linux.duke.edu/metadata/common\" \
         xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\" packages=\"2\">{packages}</metadata>"
    )
}

fn rpm_package(name: &str, release: &str, more: &str) -> String {
    format!(
        "<package type=\"rpm\"><name>{name}</name><arch>x86_64</arch><version epoch=\"0\" ver=\"5.14.0\" rel=\"{release}\"/>\
         <checksum type=\"sha256\" pkgid=\"YES\">{}</checksum><summary>a &lt;b&gt; &amp; c</summary>\
         <size package=\"100\" installed=\"2\" archive=\"3\"/><location href=\"Packages/k/{name}-5.14.0-{release}.x86_64.rpm\"/>\
         <format><rpm:vendor>x</rpm:vendor>{more}</format></package>",
        "1".repeat(64)
    )
}

#[test]
fn rpm_repositories_are_listed_in_every_compression_and_through_mirror_lists() {
    let dir = tempfile::tempdir().unwrap();
    let provides = "<rpm:provides><rpm:entry name=\"kernel-rt-devel-uname-r\" flags=\"EQ\" epoch=\"0\" \
                    ver=\"5.14.0\" rel=\"9.el9.x86_64+rt-odd\"/></rpm:provides>";
    let xml = primary(
        &[
            rpm_package("bash", "1.el9", ""),
            rpm_package("kernel-core", "1.el9", ""),
            rpm_package("kernel-devel", "1.el9", ""),
            rpm_package("kernel-rt-devel", "9.el9", provides),
        ]
        .concat(),
    );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(xml.as_bytes()).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(xml.as_bytes()).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(xml.as_bytes()).unwrap();
    for (name, bytes) in [
        ("plain", xml.clone().into_bytes()),
        ("gz", gzip.finish().unwrap()),
        ("bz2", bzip2.finish().unwrap()),
        ("xz", xz.finish().unwrap()),
        ("zst", zstd::encode_all(xml.as_bytes(), 1).unwrap()),
    ] {
        rpm_repository(&dir.path().join(name), &bytes);
    }
    rpm_repository(&dir.path().join("x86_64/os"), xml.as_bytes());
    let server = Server::start(dir.path());
    fs::write(
        dir.path().join("mirror.list"),
        format!("# comment\n{url}/gone/$basearch/\n{url}/$basearch/os\n", url = server.url),
    )
    .unwrap();
    fs::write(
        dir.path().join("metalink"),
        format!(
            "<metalink><url protocol=\"rsync\">rsync://x/repodata/repomd.xml</url>\
             <url protocol=\"http\">{}/xz/repodata/repomd.xml</url></metalink>",
            server.url
        ),
    )
    .unwrap();
    for place in ["plain", "gz/", "bz2", "xz", "zst", "mirror.list", "metalink"] {
        let source = format!("rpm:{}/{place}", server.url);
        let (status, stdout, stderr) = haversack(&["kernel", "list", &source, "--retries", "0"]);
        assert_eq!((status, &*stderr), (0, ""), "{place}");
        assert_eq!(
            stdout,
            "DISTRIBUTION  RELEASE                     MACHINE  FLAVOUR  PACKAGES\n\
             el            5.14.0-1.el9.x86_64         x86_64   default  core,devel\n\
             el            5.14.0-9.el9.x86_64+rt-odd  x86_64   rt       devel\n",
            "{place}"
        );
    }
}

#[test]
fn xml_with_entities_or_other_tricks_is_refused_and_the_other_repositories_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let laughs = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]>";
    let xml = primary(&rpm_package("kernel-devel", "1.el9", ""));
    let cases = [
        ("entities", xml.replacen('\n', laughs, 1), "it has a document type"),
        ("external", xml.replacen('\n', "<!DOCTYPE x SYSTEM \"file:///etc/passwd\">", 1), "it has a document type"),
        ("cut", xml[..xml.len() / 2].to_owned(), "not well-formed"),
        ("html", "<html><body>login</body></html>".to_owned(), "it is no primary.xml"),
        ("nothing", String::new(), "it is no primary.xml"),
    ];
    for (name, xml, _) in &cases {
        rpm_repository(&dir.path().join(name), xml.as_bytes());
    }
    rpm_repository(&dir.path().join("good"), xml.as_bytes());
    let server = Server::start(dir.path());
    let good = format!("rpm:{}/good", server.url);
    for (name, _, why) in cases {
        let bad = format!("rpm:{}/{name}", server.url);
        let (status, stdout, stderr) = haversack(&["kernel", "list", &bad, &good, "--retries", "0"]);
        assert!(status == 3 && stderr.contains(why) && stderr.contains(name), "{name}: {stderr}");
        assert!(stdout.contains("5.14.0-1.el9.x86_64"), "{name}: {stdout}");
    }
}

#[test]
fn kept_metadata_is_asked_about_checked_again_and_not_trusted_when_it_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let (served, cache) = (dir.path().join("served"), dir.path().join("cache"));
    copy_tree(&testdata("apt"), &served);
    let server = Server::start(&served);
    let source = format!("apt:{} stable main", server.url);
    let list = |key: &str| {
        let (cache, key) = (cache.to_str().unwrap(), testdata(key));
        let more = ["--keyring", key.to_str().unwrap(), "--cache-dir", cache, "--retries", "0"];
        haversack(&[&["kernel", "list", &source][..], &more].concat())
    };
    let requests = || server.take_requests().len();
    let done = (0, APT_TABLE.to_owned(), String::new());
    assert_eq!((list("trusted.asc"), requests(), server.not_modified()), (done.clone(), 2, 0));
    // The second time the index is not asked for and InRelease is not sent.
    assert_eq!((list("trusted.asc"), requests(), server.not_modified()), (done.clone(), 1, 1));
    // What is kept is as good as what comes, and no better.
    let empty = dir.path().join("none.asc");
    fs::write(&empty, "").unwrap();
    assert_eq!(list(empty.to_str().unwrap()).0, 1);
    for kept in haversack::fs::list(&cache).unwrap() {
        let mut bytes = fs::read(&kept).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&kept, bytes).unwrap();
    }
    requests();
    assert_eq!((list("trusted.asc"), requests(), server.not_modified()), (done, 2, 1));
    // A new state of the repository is seen.
    fs::copy(served.join("dists/expired/InRelease"), served.join("dists/stable/InRelease")).unwrap();
    let (status, _, stderr) = list("trusted.asc");
    assert!(status == 1 && stderr.contains("valid only until"), "{stderr}");
}

#[test]
#[ignore = "needs openssl; scripts/test.sh runs it where it is"]
fn entitled_repositories_are_shown_the_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let script = "
        set -e
        new() { openssl req -newkey rsa:2048 -nodes -subj \"/CN=$1\" -keyout $1.key \"${@:2}\" 2>/dev/null; }
        new ca -x509 -days 2 -out ca.pem
        printf 'subjectAltName=IP:127.0.0.1' > extensions
        for name in server client; do
            new $name | openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
                -out $name.pem 2>/dev/null
        done
        cat client.pem client.key > both.pem";
    assert!(Command::new("bash").args(["-c", script]).current_dir(dir.path()).status().unwrap().success());
    rpm_repository(&dir.path().join("os"), primary(&rpm_package("kernel-devel", "1.el9", "")).as_bytes());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-WWW", "-Verify", "1", "-verify_return_error", "-CAfile", "ca.pem"])
        .args(["-cert", "server.pem", "-key", "server.key", "-accept", &format!("127.0.0.1:{port}")])
        .current_dir(dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (ca, certificate, key, both) = (at("ca.pem"), at("client.pem"), at("client.key"), at("both.pem"));
    let source = format!("rpm:https://127.0.0.1:{port}/os");
    let list = |more: &[&str], retries| {
        let arguments = ["kernel", "list", &source, "--ca-file", &ca, "--retries", retries, "--retry-delay", "0.1"];
        haversack(&[&arguments[..], more].concat())
    };
    // The first one also waits for the server to listen.
    let results = [
        list(&["--client-cert", &certificate, "--client-key", &key], "100"),
        list(&["--client-cert", &both], "1"),
        list(&[], "0"),
        list(&["--client-key", &key], "0"),
    ];
    server.kill().unwrap();
    server.wait().unwrap();
    let [pair, one, none, keyless] = results;
    assert!(pair.0 == 0 && pair.1.contains("5.14.0-1.el9.x86_64"), "{}", pair.2);
    assert_eq!((one.0, &one.1), (0, &pair.1), "{}", one.2);
    assert_eq!((none.0, keyless.0), (1, 2), "{}{}", none.2, keyless.2);
}

#[test]
fn nothing_is_requested_offline() {
    let server = Server::start(&testdata("apt"));
    let source = format!("apt:{} stable main", server.url);
    let (status, _, stderr) = haversack(&["kernel", "list", &source, "--offline"]);
    assert_eq!((status, stderr.contains("not requested, because this run is offline")), (1, true), "{stderr}");
    assert_eq!(server.requests(), Vec::<String>::new());
}

/// A repository as other systems and tools write it: every place that `xml:base` can state, and one that is refused by name.
#[test]
fn places_are_resolved_against_the_repository_and_what_is_passed_over_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let at = |base: &str, release: &str| {
        rpm_package("kernel-devel", release, "").replace("<location ", &format!("<location xml:base=\"{base}\" "))
    };
    let whole = [at("", "1.el9"), at("Packages", "2.el9"), at("https://h/other/", "3.el9")].concat();
    rpm_repository(&dir.path().join("r"), primary(&whole).as_bytes());
    rpm_repository(&dir.path().join("bad"), primary(&(whole + &at("file:///srv/x", "4.el9"))).as_bytes());
    let server = Server::start(dir.path());
    let list =
        |name: &str| haversack(&["kernel", "list", &format!("rpm:{}/{name}", server.url), "--json", "--retries", "0"]);
    let (status, stdout, stderr) = list("r");
    assert_eq!((status, &*stderr), (0, ""));
    let set: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let places: Vec<&str> =
        set["kernels"].as_array().unwrap().iter().map(|it| it["packages"][0]["location"].as_str().unwrap()).collect();
    // Where a base ends without a slash it is a directory all the same.
    let bases = [format!("{}/r", server.url), format!("{}/r/Packages", server.url), "https://h/other".to_owned()];
    let expected: Vec<String> = bases
        .iter()
        .zip(1..)
        .map(|(base, n)| format!("{base}/Packages/k/kernel-devel-5.14.0-{n}.el9.x86_64.rpm"))
        .collect();
    assert_eq!(places, expected);
    let (status, stdout, stderr) = list("bad");
    assert_eq!((status, stdout.matches("kernel-devel").count() >= 3), (3, true));
    let words = "passed over: kernel-devel: its xml:base `file:///srv/x` is not an HTTP URL";
    assert!(stderr.contains(words), "{stderr}");
}

#[test]
fn a_mirror_whose_repomd_is_none_of_the_metalinks_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    for (name, release) in [("old", "1.el9"), ("new", "2.el9")] {
        rpm_repository(&dir.path().join(name), primary(&rpm_package("kernel-devel", release, "")).as_bytes());
    }
    let server = Server::start(dir.path());
    let repomd = fs::read(dir.path().join("new/repodata/repomd.xml")).unwrap();
    // What anybody can meet does not vouch for another one.
    let weak = digests::sum("md5sum", &dir.path().join("old/repodata/repomd.xml"));
    let url = |name: &str| format!("<url protocol=\"http\">{}/{name}/repodata/repomd.xml</url>", server.url);
    let metalink = format!(
        "<metalink><files><file name=\"repomd.xml\"><verification><hash type=\"md5\">{weak}</hash><hash type=\"sha256\">{}</hash>\
         </verification><resources>{}{}</resources></file></files></metalink>",
        Digest::sha256(&repomd).hex(),
        url("old"),
        url("new")
    );
    // Its name does not say what it is.
    fs::write(dir.path().join("baseos"), metalink).unwrap();
    let (status, stdout, stderr) =
        haversack(&["kernel", "list", &format!("rpm:{}/baseos", server.url), "--retries", "0"]);
    assert_eq!((status, &*stderr), (0, ""));
    assert!(stdout.contains("5.14.0-2.el9") && !stdout.contains("5.14.0-1.el9"), "{stdout}");
}

/// SHA512 alone, ends of lines of another system, packages for all machines in an index of their own, a component that is
/// not there, and a flat repository.
#[test]
fn apt_repositories_are_read_as_apt_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let stanza = |n: u32, architecture: &str| {
        format!(
            "Package: linux-headers-6.1.0-{n}-amd64\r\nVersion: 6.1.4-1\r\nArchitecture: {architecture}\r\n\
             Filename: ./linux-headers-6.1.0-{n}-amd64_6.1.4-1_{architecture}.deb\r\nSize: 1\r\n\r\n"
        )
    };
    let of_machine = [stanza(1, "amd64"), stanza(2, "amd64"), stanza(3, "amd64")].concat();
    let for_all = "Package: linux-headers-6.1.0-1-common\nVersion: 6.1.4-1\nArchitecture: all\nFilename: c.deb\n";
    let dist = dir.path().join("dists/stable");
    let mut list = String::new();
    for (name, text) in [("main/binary-amd64/Packages", &*of_machine), ("main/binary-all/Packages", for_all)] {
        let path = dist.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let sum = Command::new("sha512sum").arg(&path).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        list.push_str(&format!(" {} {} {name}\r\n", sum.split(' ').next().unwrap(), text.len()));
    }
    fs::write(dist.join("Release"), format!("Suite: stable\r\nArchitectures: all amd64\r\nSHA512:\r\n{list}")).unwrap();
    // A flat repository has one index for all machines.
    let flat = of_machine.clone() + &stanza(4, "arm64");
    fs::write(dir.path().join("Packages"), &flat).unwrap();
    let sum = Digest::sha256(&flat);
    fs::write(dir.path().join("Release"), format!("SHA256:\n {} {} Packages\n", sum.hex(), flat.len())).unwrap();
    let server = Server::start(dir.path());
    let list = |source: &str| {
        let (status, stdout, stderr) = haversack(&["kernel", "list", source, "--retries", "0"]);
        (status, stdout.lines().filter(|line| line.starts_with("debian")).count(), stdout, stderr)
    };
    let (status, kernels, stdout, stderr) = list(&format!("apt:{} stable main", server.url));
    assert_eq!((status, kernels, &*stderr), (0, 3, ""));
    assert!(stdout.contains("headers,common"), "{stdout}");
    // security.debian.org's name of it.
    let (status, kernels, _, stderr) = list(&format!("apt:{} stable updates/main", server.url));
    assert_eq!((status, kernels, &*stderr), (0, 3, ""));
    let (status, kernels, _, stderr) = list(&format!("apt:{} stable main extra", server.url));
    assert_eq!((status, kernels), (3, 3));
    assert!(stderr.contains("it has no `extra/binary-amd64`; it has main/binary-all, main/binary-amd64"), "{stderr}");
    // A signature around it that is not looked at.
    let release = fs::read_to_string(dist.join("Release")).unwrap();
    let begin = "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\n";
    let end = "-----BEGIN PGP SIGNATURE-----\r\n\r\n=\r\n-----END PGP SIGNATURE-----\r\n";
    fs::write(dist.join("InRelease"), format!("{begin}{release}{end}")).unwrap();
    let (status, kernels, _, stderr) = list(&format!("apt:{} stable main", server.url));
    let place = format!("{}/dists/stable", server.url);
    assert_eq!((status, kernels, stderr), (0, 3, newcomers::unchecked(&place, "")));
    fs::remove_file(dist.join("InRelease")).unwrap();
    for directory in ["./", "/"] {
        let (status, kernels, _, stderr) = list(&format!("apt:{} {directory}", server.url));
        assert_eq!((status, kernels, &*stderr), (0, 3, ""), "{directory}");
    }
    // The index for all machines is read where the others do not have its packages, too, and a date that is none is not for ever.
    let release = fs::read_to_string(dist.join("Release")).unwrap();
    for (fields, is_asked_for, status) in [
        ("Architectures: all amd64", true, 0),
        ("Architectures: amd64", false, 0),
        ("Architectures: all amd64\r\nNo-Support-for-Architecture-all: Packages", false, 0),
        ("Architectures: all amd64\r\nValid-Until: Fri, 01 Jan 2100 00:00:00 UTC", true, 0),
        ("Architectures: all amd64\r\nValid-Until: next week", false, 1),
    ] {
        fs::write(dist.join("Release"), release.replace("Architectures: all amd64", fields)).unwrap();
        server.take_requests();
        let (exit, _, _, stderr) = list(&format!("apt:{} stable main", server.url));
        let is_asked = server.requests().iter().any(|path| path.contains("binary-all"));
        assert_eq!((exit, is_asked), (status, is_asked_for), "{fields}: {stderr}");
        let said = format!("error: {}/dists/stable: its Valid-Until is not a date\n", server.url);
        assert_eq!(stderr, if status == 1 { said } else { String::new() }, "{fields}");
    }
    fs::write(dist.join("Release"), release).unwrap();
    // A changed index is refused whatever it is compared by.
    fs::write(dist.join("main/binary-amd64/Packages"), of_machine.replace("6.1.4-1", "6.1.4-2")).unwrap();
    let (status, kernels, _, stderr) = list(&format!("apt:{} stable main", server.url));
    assert_eq!((status, kernels), (1, 0));
    assert!(stderr.contains("the digest is sha512:"), "{stderr}");
}

#[test]
fn what_is_written_has_no_credentials_in_it() {
    let dir = tempfile::tempdir().unwrap();
    rpm_repository(&dir.path().join("r"), primary(&rpm_package("kernel-devel", "1.el9", "")).as_bytes());
    let server = Server::start(dir.path());
    let url = server.url.replace("http://", "http://user:secret@");
    // A list of mirrors, one of which has nothing; a package that belongs to no kernel; one that the server does not have.
    fs::write(dir.path().join("mirrorlist"), format!("{url}/none\n{url}/r\n{url}/s\n")).unwrap();
    let packages = ["kernel-devel", "kernel-headers"].map(|name| rpm_package(name, "1.el9", "")).concat();
    rpm_repository(&dir.path().join("r"), primary(&packages).as_bytes());
    let (source, to) = (format!("rpm:{url}/mirrorlist"), dir.path().join("to"));
    let arguments = ["kernel", "list", &source, "--json", "-vv", "--retries", "0"];
    let (status, stdout, stderr) = haversack(&arguments);
    assert_eq!(status, 0, "{stderr}");
    let set: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(set["unplaced"][0]["name"], "kernel-headers", "{stdout}");
    assert_eq!(set["mirrors"][0]["others"].as_array().map(Vec::len), Some(2), "{stdout}");
    assert!(!stdout.contains("secret") && stdout.contains(&server.url), "{stdout}");
    assert!(!stderr.contains("secret") && stderr.contains(&server.url), "{stderr}");
    let arguments = ["kernel", "fetch", &source, "--to", to.to_str().unwrap(), "--json", "-vv", "--retries", "0"];
    let (status, stdout, stderr) = haversack(&arguments);
    assert_eq!(status, 1, "{stderr}");
    assert!(!stdout.contains("secret") && stdout.contains(&server.url), "{stdout}");
    assert!(!stderr.contains("secret") && stderr.contains(&server.url), "{stderr}");
    let lock = fs::read_to_string(to.join("fetch.lock")).unwrap();
    assert!(!lock.contains("secret"), "{lock}");
}

/// What goes wrong with a source is told with its place, and a log is read by others than who typed the command.
#[test]
fn what_is_said_of_a_source_that_fails_has_no_credentials_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let content = b"not the package that was stated".to_vec();
    let package =
        rpm_package("kernel-devel", "1.el9", "").replace("package=\"100\"", &format!("package=\"{}\"", content.len()));
    for name in ["other-digest", "no-xml", "whole"] {
        rpm_repository(&dir.path().join(name), primary(&package).as_bytes());
    }
    fs::create_dir_all(dir.path().join("whole/Packages/k")).unwrap();
    fs::write(dir.path().join("whole/Packages/k/kernel-devel-5.14.0-1.el9.x86_64.rpm"), content).unwrap();
    let primary = dir.path().join("other-digest/repodata/primary.xml");
    fs::write(&primary, fs::read_to_string(&primary).unwrap().replace("5.14.0", "5.14.1")).unwrap();
    rpm_repository(&dir.path().join("no-xml"), b"<html></html>");
    fs::create_dir_all(dir.path().join("apt/dists/empty")).unwrap();
    fs::write(dir.path().join("apt/dists/empty/Release"), "SHA256:\n").unwrap();
    fs::create_dir_all(dir.path().join("apt/dists/bad")).unwrap();
    fs::write(dir.path().join("apt/dists/bad/Release"), "nothing").unwrap();
    copy_tree(&testdata("apt/dists/expired"), &dir.path().join("apt/dists/expired"));
    copy_tree(&testdata("apt/dists/stable"), &dir.path().join("apt/dists/stable"));
    let server = Server::start(dir.path());
    let url = server.url.replace("http://", "http://user:secret@");
    let to = dir.path().join("to").display().to_string();
    let key = testdata("other.asc").display().to_string();
    let fetch = ["kernel", "fetch", "--to", &to, "--json", "--retries", "0"];
    for (source, more, said) in [
        (format!("rpm:{url}/other-digest"), &[][..], "the digest is"),
        (format!("rpm:{url}/no-xml"), &[], "it is no primary.xml"),
        (format!("rpm:{url}/nowhere"), &[], "no rpm repository is here"),
        (format!("rpm:{url}/whole"), &[], "the digest is"),
        (format!("apt:{url}/nowhere stable main"), &[], "no apt repository is here"),
        (format!("apt:{url}/apt empty main"), &[], "it has no `main/binary-amd64`"),
        (format!("apt:{url}/apt bad main"), &[], "no usable Release file"),
        (format!("apt:{url}/apt expired main"), &[], "valid only until"),
        (format!("apt:{url}/apt expired main"), &["--allow-expired", "--keyring", &key], "not trusted"),
    ] {
        let (status, stdout, stderr) = haversack(&[&fetch[..], &[&*source], more].concat());
        assert!(status != 0 && stderr.contains(said), "{source}: {stderr}");
        assert!(!(stdout.clone() + &stderr).contains("secret"), "{source}: {stdout}{stderr}");
    }
}
