//! Small inputs that ask for gigabytes, for as much time, or for a stack without an end.

use std::fmt::Write as _;
use std::io::Write as _;

use tar::{EntryType, Header};

use crate::Scene;
use crate::packages::{Deb, Rpm, RpmFile};
use crate::server::{Answer, Image, Server};

/// `size` bytes of a tar: an extended header that says so, and zeros.
fn huge_header(kind: EntryType, size: u64) -> impl std::io::Read {
    use std::io::Read;
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    let bytes = header.as_bytes().to_vec();
    std::io::Cursor::new(bytes).chain(std::io::repeat(b'x').take(size))
}

fn zstd(mut content: impl std::io::Read) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut content, &mut encoder).unwrap();
    encoder.finish().unwrap()
}

const EXTENDED: &[EntryType] = &[EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader];

/// A deb of these members.
fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, member) in members {
        writeln!(bytes, "{name:16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, member.len()).unwrap();
        bytes.extend_from_slice(member);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

fn tar_file(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap()
}

const GIB: u64 = 1 << 30;
const CONTROL: &str = "Package: linux-headers-6.1.0-1-amd64\nVersion: 6.1.4-1\nArchitecture: amd64\n";
const DEB: &str = "debs/linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb";
const UNPACK: &[&str] = &["kernel", "unpack", "dir:debs", "--to", "out"];
const LIST: &[&str] = &["kernel", "list", "dir:debs"];

#[test]
fn extended_headers_of_gigabytes_are_refused_in_debs() {
    for kind in EXTENDED {
        let huge = zstd(huge_header(*kind, 2 * GIB));
        let control = zstd(&tar_file("./control", CONTROL.as_bytes())[..]);
        let scene = Scene::new();
        for members in [
            [("debian-binary", &b"2.0\n"[..]), ("control.tar.zst", &huge), ("data.tar.zst", &control)],
            [("debian-binary", &b"2.0\n"[..]), ("control.tar.zst", &control), ("data.tar.zst", &huge)],
        ] {
            scene.write(DEB, ar(&members));
            assert_ne!(scene.haversack(UNPACK).code, 0);
            scene.haversack(LIST);
        }
    }
}

#[test]
fn extended_headers_of_gigabytes_are_refused_in_archives_and_layers() {
    for kind in EXTENDED {
        let scene = Scene::new();
        // A file with a hole: it takes no place on the disk.
        let file = std::fs::File::create(scene.home().join("a.tar")).unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(2 * GIB);
        header.set_cksum();
        (&file).write_all(header.as_bytes()).unwrap();
        file.set_len(2 * GIB + 2048).unwrap();
        for transport in ["oci-archive", "docker-archive"] {
            scene.haversack(&["inspect", &format!("{transport}:a.tar")]).refused("more than 1048576 bytes in a header");
        }
        let image = Image::of(vec![zstd(huge_header(*kind, 2 * GIB))]);
        image.write_layout(&scene.home().join("store"));
        let publish = ["publish", "ims", "n", "--from=oci:store:x", "--rootfs=/rootfs", "--kernel=/k", "--dry-run"];
        scene.haversack(&publish).refused("more than 1048576 bytes in a header");
    }
}

#[test]
fn names_of_thousands_of_directories_are_refused() {
    let deep = "d/".repeat(60_000);
    let mut long = Vec::new();
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(deep.len() as u64);
    header.set_cksum();
    long.extend_from_slice(header.as_bytes());
    long.extend_from_slice(deep.as_bytes());
    long.resize(long.len().next_multiple_of(512), 0);
    long.extend_from_slice(&tar_file("x", b"x"));
    let scene = Scene::new();
    let control = zstd(&tar_file("./control", CONTROL.as_bytes())[..]);
    scene.write(
        DEB,
        ar(&[("debian-binary", b"2.0\n"), ("control.tar.zst", &control), ("data.tar.zst", &zstd(&long[..]))]),
    );
    assert_ne!(scene.haversack(UNPACK).code, 0);
    scene.write("a.tar", &long);
    scene.haversack(&["inspect", "oci-archive:a.tar"]).refused("in a name");
    Image::of(vec![long]).write_layout(&scene.home().join("store"));
    let publish = ["publish", "ims", "n", "--from=oci:store:x", "--rootfs=/rootfs", "--kernel=/k", "--dry-run"];
    scene.haversack(&publish).refused("in a name");
    // In an rpm, names are in the header and in the cpio.
    let name = format!("/{}x", "d/".repeat(30_000));
    let rpm = Rpm::new("kernel-devel", "5.14.0", "1.el9", "x86_64").with(RpmFile::regular(&name, b"x"));
    let other = Scene::new();
    other.write("debs/kernel-devel-5.14.0-1.el9.x86_64.rpm", rpm.bytes());
    assert_ne!(other.haversack(UNPACK).code, 0);
    other.haversack(LIST);
}

/// A repository with this `primary.xml`.
fn repository(primary: Vec<u8>) -> Server {
    repository_with(primary, Vec::new())
}

/// And with this package.
fn repository_with(primary: Vec<u8>, package: Vec<u8>) -> Server {
    let digest = haversack::digest::Digest::sha256(&primary);
    let repomd = format!(
        "<repomd><data type=\"primary\"><checksum type=\"sha256\">{}</checksum><location href=\"repodata/p.xml.zst\"/></data></repomd>",
        digest.hex()
    );
    Server::start(move |request| match request.path.as_str() {
        "/repodata/repomd.xml" => Answer::new(200, repomd.clone()),
        "/repodata/p.xml.zst" => Answer::new(200, primary.clone()),
        path if path.ends_with(".rpm") => Answer::new(200, package.clone()),
        _ => Answer::new(404, ""),
    })
}

/// `head`, then `middle` so many times, then `tail`, compressed.
fn repeated(head: &str, middle: &str, times: u64, tail: &str) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(head.as_bytes()).unwrap();
    let chunk = middle.repeat(1 << 10);
    for _ in 0..times >> 10 {
        encoder.write_all(chunk.as_bytes()).unwrap();
    }
    encoder.write_all(tail.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const PACKAGE: &str = "<package><name>kernel-core</name><arch>x86_64</arch><version epoch=\"0\" ver=\"5\" rel=\"1\"/>\
     <checksum type=\"sha256\">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum><location href=\"k.rpm\"/>";

#[test]
fn xml_that_is_large_in_any_way_is_a_limit_and_a_message() {
    let open = format!("<metadata>{PACKAGE}");
    for (primary, words) in [
        (repeated("<metadata><package><name x=\"", "x", 2 * GIB, "\">"), "bytes in an XML tag or text"),
        (repeated("<metadata><package><name>", "x", 2 * GIB, "</name>"), "bytes in an XML tag or text"),
        (repeated("<metadata><package><name>kernel", "&amp;x", GIB / 4, "</name>"), "bytes in an XML tag or text"),
        (repeated("<metadata><!-- ", "x", 2 * GIB, " -->"), "bytes in an XML tag or text"),
        (repeated("<metadata>", "<a>", GIB / 16, ""), "levels of nesting"),
        (repeated("<metadata>", &format!("{PACKAGE}</package>"), 3 << 20, "</metadata>"), "more than"),
        (repeated(&format!("{open}<format><provides>"), "<entry name=\"x\"/>", 3 << 20, ""), "names that a package"),
        (repeated(&format!("{open}<format><requires>"), "<entry name=\"x\"/>", 3 << 20, ""), "names that a package"),
    ] {
        let server = repository(primary);
        let source = format!("rpm:{}", server.url("/"));
        Scene::new().haversack(&["kernel", "list", &source, "--retries=0"]).refused(words);
    }
}

#[test]
fn repomd_that_is_large_in_any_way_is_a_limit_and_a_message() {
    let piece = "bytes in an XML tag or text";
    for (body, words) in [
        ("<a>".repeat(5 << 20), "levels of nesting"),
        (format!("<repomd><data type=\"{}\"/>", "x".repeat(15 << 20)), piece),
        ("x".repeat(15 << 20), piece),
        ("<a/>".repeat(5 << 20), "the answer is larger than 16777216 bytes"),
    ] {
        let server = Server::start(move |_| Answer::new(200, body.clone()));
        let source = format!("rpm:{}", server.url("/"));
        Scene::new().haversack(&["kernel", "list", &source, "--retries=0"]).refused(words);
    }
}

/// An apt repository with this index.
fn suite(packages: Vec<u8>) -> Server {
    let digest = haversack::digest::Digest::sha256(&packages);
    let release = format!("SHA256:\n {} {} main/binary-amd64/Packages.zst\n", digest.hex(), packages.len());
    Server::start(move |request| match request.path.as_str() {
        "/dists/s/InRelease" => Answer::new(200, release.clone()),
        "/dists/s/main/binary-amd64/Packages.zst" => Answer::new(200, packages.clone()),
        _ => Answer::new(404, ""),
    })
}

#[test]
fn indexes_of_debs_that_are_large_in_any_way_are_a_limit_and_a_message() {
    let stanza = "Package: linux-headers-1\nVersion: 1-1\nArchitecture: amd64\nFilename: a\n";
    for (packages, words) in [
        (repeated("", &format!("{stanza}\n"), 8 << 20, ""), "more than"),
        (repeated("", "Package: linux\n\n", 64 << 20, ""), "more than 1000000 packages"),
        (repeated(&format!("{stanza}Depends: "), "a,", 3 << 20, "\n\n"), "index cannot be read"),
        (repeated(&format!("{stanza}Provides: "), "a|", 3 << 20, "\n\n"), "index cannot be read"),
        (repeated(stanza, "x:\n", 3 << 20, "\n\n"), "index cannot be read"),
        (repeated("Package: linux", "x", GIB, "\n\n"), "index cannot be read"),
    ] {
        let server = suite(packages);
        let source = format!("apt:{} s main", server.url("/"));
        Scene::new().haversack(&["kernel", "list", &source, "--retries=0"]).refused(words);
    }
}

#[test]
fn control_files_that_are_large_in_any_way_are_refused() {
    for (middle, times, words) in [
        ("Depends: a\n", 3 << 20, "larger than 4194304 bytes"),
        ("a,", 1 << 20, "more than 100000 names that a package needs"),
        ("a|", 1 << 20, "more than 100000 names that a package needs"),
        ("\nx:", 1 << 20, "more than 100000 fields of a package"),
    ] {
        let mut text = format!("{CONTROL}Depends: ");
        text += &middle.repeat(times);
        let scene = Scene::new();
        let control = zstd(&tar_file("./control", text.as_bytes())[..]);
        let data = zstd(&tar_file("./x", b"x")[..]);
        scene.write(DEB, ar(&[("debian-binary", b"2.0\n"), ("control.tar.zst", &control), ("data.tar.zst", &data)]));
        scene.haversack(LIST).refused(words);
    }
}

#[test]
fn a_crawlers_list_of_nothing_is_a_limit_and_a_message() {
    for middle in ["{},", "{\"headers\":[\"\",\"\"]},"] {
        let scene = Scene::new();
        scene.write("list.zst", repeated("{\"Debian\":[", middle, 32 << 20, "{}]}"));
        scene.haversack(&["kernel", "list", "crawler:list.zst"]).refused("more than");
    }
    let scene = Scene::new();
    scene.write("list.zst", repeated("{\"Debian\":[{\"headers\":[", "\"\",", 32 << 20, "\"\"]}]}"));
    scene.haversack(&["kernel", "list", "crawler:list.zst"]).refused("more than 1000000 entries");
}

/// Tables that are views, which answer what they like, and one of them for ever.
#[test]
fn a_database_of_views_is_no_snapshot() {
    let scene = Scene::new();
    let testdata = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/catalog");
    let from = format!("--from={}", testdata.display());
    assert_eq!(scene.haversack(&["catalog", "snapshot", &from]).code, 0);
    let digest = format!("sha256:{}", "0".repeat(64));
    let questions = [
        &["catalog", "info"][..],
        &["catalog", "search", "a"],
        &["catalog", "check", "container", &digest],
        &["catalog", "dump", "out"],
    ];
    assert_eq!(scene.haversack(&["catalog", "info"]).code, 0);
    let good = std::fs::read(scene.home().join("catalog.db")).unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS";
    for change in [
        format!("DROP TABLE digest; CREATE VIEW digest AS {endless} digest, i AS image, 1 AS main FROM n"),
        format!("DROP TABLE meta; CREATE VIEW meta AS {endless} key, 'x' AS value FROM n"),
        format!(
            "DROP TABLE repository; CREATE VIEW repository AS {endless} repository, 'a' AS registry, i AS name FROM n"
        ),
        format!(
            "DROP TABLE csv; CREATE VIEW csv AS {endless} csv, i AS csv_name, i AS name, i AS version, i AS package, 'o' AS organization FROM n"
        ),
        "CREATE TRIGGER t AFTER INSERT ON tag BEGIN DELETE FROM tag; END".to_owned(),
        "DROP INDEX csv_name".to_owned(),
        "ALTER TABLE chart ADD COLUMN x GENERATED ALWAYS AS (zeroblob(1000000000))".to_owned(),
    ] {
        let path = scene.home().join("catalog.db");
        std::fs::write(&path, &good).unwrap();
        rusqlite::Connection::open(&path).unwrap().execute_batch(&change).unwrap();
        let before = std::fs::read(&path).unwrap();
        for question in questions {
            let ended = scene.haversack(question);
            assert!(ended.code != 0 && ended.stderr.contains("not a catalog snapshot"), "{change}: {ended:#?}");
        }
        // And nothing foreign is replaced.
        scene.haversack(&["catalog", "snapshot", &from]).refused("not a catalog snapshot");
        assert!(std::fs::read(&path).unwrap() == before);
    }
}

/// Entries of an rpm's header that all share one long text: each is read to its end.
#[test]
fn an_rpm_whose_entries_share_a_text_is_refused() {
    let size = 16_usize << 20;
    let mut section = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    section.extend(60_000_u32.to_be_bytes());
    section.extend((size as u32).to_be_bytes());
    for tag in 0..60_000_u32 {
        section.extend([1000 + tag, 6, 0, 1].iter().flat_map(|word| word.to_be_bytes()));
    }
    section.resize(section.len() + size - 1, b'x');
    section.push(0);
    let mut bytes = vec![0xed, 0xab, 0xee, 0xdb, 3, 0];
    bytes.resize(96, 0);
    bytes.extend_from_slice(&section);
    let scene = Scene::new();
    scene.write("debs/kernel-devel-5.14.0-1.el9.x86_64.rpm", &bytes);
    scene.haversack(LIST).refused("share their bytes");
    // And one that is nothing but the ends of texts.
    let mut section = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
    section.extend(1_u32.to_be_bytes());
    section.extend((size as u32).to_be_bytes());
    section.extend([1117, 8, 0, size as u32].iter().flat_map(|word| word.to_be_bytes()));
    section.resize(section.len() + size, 0);
    bytes.truncate(96);
    bytes.extend_from_slice(&section);
    scene.write("debs/kernel-devel-5.14.0-1.el9.x86_64.rpm", &bytes);
    scene.haversack(LIST).refused("2,000,000 texts");
}

/// Builds an image of the packages that the one called p0 needs, for a kernel; these elements of `primary.xml` describe them.
fn build(packages: &str) -> crate::Ended {
    let rpm = Rpm::new("kernel-devel", "5.14.0", "1.el9", "x86_64")
        .with(RpmFile::regular("/usr/src/kernels/5.14.0-1.el9.x86_64/Makefile", b"all:\n"))
        .bytes();
    let devel = format!(
        "<package><name>kernel-devel</name><arch>x86_64</arch><version epoch=\"0\" ver=\"5.14.0\" rel=\"1.el9\"/>\
         <checksum type=\"sha256\">{}</checksum><location href=\"kernel-devel-5.14.0-1.el9.x86_64.rpm\"/></package>",
        haversack::digest::Digest::sha256(&rpm).hex()
    );
    let primary = zstd(format!("<metadata>{devel}{packages}</metadata>").as_bytes());
    let server = repository_with(primary, rpm);
    let scene = Scene::new();
    scene.write(
        "images/x/image.toml",
        "name = 'x'\ntags = ['${tag}']\n[[layers]]\nname = 'tools'\n[layers.packages]\nrpm = ['p0']\n",
    );
    let source = format!("rpm:{}", server.url("/"));
    scene.haversack(&[
        "build",
        "images/x",
        "--kernels",
        &source,
        "--packages",
        &source,
        "--output=oci:out",
        "--retries=0",
    ])
}

fn package(name: &str, requires: &str) -> String {
    format!(
        "<package><name>{name}</name><arch>x86_64</arch><version epoch=\"0\" ver=\"5\" rel=\"1\"/>\
         <checksum type=\"sha256\">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>\
         <location href=\"{name}.rpm\"/><format><requires><entry name=\"{requires}\"/></requires></format></package>"
    )
}

#[test]
fn a_chain_of_twenty_thousand_dependencies_is_a_limit_and_a_message() {
    let mut primary = String::new();
    for n in 0..20_000 {
        let _ = write!(primary, "{}", package(&format!("p{n}"), &format!("p{}", n + 1)));
    }
    build(&primary).refused("more than 5000 packages are needed");
}

#[test]
fn rich_dependencies_in_thousands_of_brackets_are_no_dependency() {
    for requires in [
        format!("{}a{}", "(".repeat(30_000), ")".repeat(30_000)),
        "(".repeat(60_000),
        format!("{}a{}", "(a and ".repeat(5_000), ")".repeat(5_000)),
        format!("{}a{}", "(a or ".repeat(5_000), ")".repeat(5_000)),
        format!("({})", "(a and b) and ".repeat(4_000)),
    ] {
        build(&package("p0", &requires)).refused("no source has it");
    }
}

/// `docker save` names a layer once for each image that has it.
#[test]
fn a_layer_that_is_named_thousands_of_times_is_read_once() {
    let layer = zstd(std::io::Read::take(std::io::repeat(0), 64 << 20));
    // Not zeros, or it would not be large.
    let mut noise = vec![0_u8; 8 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    let layer = [layer, zstd(&noise[..])].concat();
    let count = 5_000;
    let config = serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers",
        "diff_ids": vec![haversack::digest::Digest::sha256(b"").to_string(); count] } });
    let manifest =
        serde_json::json!([{ "Config": "c.json", "RepoTags": ["a:1"], "Layers": vec!["l/layer.tar"; count] }]);
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("c.json", config.to_string().as_bytes()),
        ("manifest.json", manifest.to_string().as_bytes()),
        ("l/layer.tar", &layer),
    ] {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    }
    let scene = Scene::new();
    scene.write("a.tar", tar.into_inner().unwrap());
    scene.haversack(&["inspect", "docker-archive:a.tar"]);
    scene.haversack(&["copy", "docker-archive:a.tar", "oci:out:x"]);
}

/// Whiteouts, each of which is looked up among all names of the layers below.
#[test]
fn thousands_of_whiteouts_over_thousands_of_files_end() {
    let layer = |name: &dyn Fn(u32) -> String, count: u32| {
        let mut bytes = Vec::new();
        for n in 0..count {
            let mut header = Header::new_gnu();
            let name = name(n);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(0);
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
        }
        bytes.resize(bytes.len() + 1024, 0);
        zstd(&bytes[..])
    };
    let files = layer(&|n| format!("d/f{n}"), 100_000);
    for whiteouts in [
        layer(&|n| format!("d/.wh.x{n}"), 100_000),
        layer(&|n| format!("e{n}/.wh..wh..opq"), 100_000),
        layer(&|n| if n % 2 == 0 { format!("d/g{n}") } else { "d/.wh..wh..opq".to_owned() }, 100_000),
    ] {
        let scene = Scene::new();
        Image::of(vec![files.clone(), whiteouts]).write_layout(&scene.home().join("store"));
        let publish = ["publish", "ims", "n", "--from=oci:store:x", "--rootfs=/rootfs", "--kernel=/k", "--dry-run"];
        scene.haversack(&publish).refused("the image has no file");
    }
}

/// The index of charts is another document that is held whole.
#[test]
fn an_index_of_charts_that_is_nothing_but_nodes_is_a_limit_and_a_message() {
    let whole = "generated: \"2026-11-01T00:00:00Z\"\n";
    for (body, words) in [
        (format!("apiVersion: v1\nentries:\n  a:\n{}", "  - {}\n".repeat(6 << 20)), "ends without `generated`"),
        (format!("apiVersion: v1\nentries: {}", "[".repeat(40 << 20)), "recursion limit exceeded"),
        (format!("apiVersion: v1\nentries:\n{}", "  a: [,]\n".repeat(4 << 20)), "line 3, column 7"),
        (
            format!("apiVersion: v1\nx: &x [{}]\nentries:\n  a: [{}]\n", "a,".repeat(1000), "*x,".repeat(1 << 20)),
            "ends without `generated`",
        ),
        (
            format!("apiVersion: v1\nentries:\n{}{whole}", "  a: []\n".repeat(9 << 20)),
            "the answer is larger than 67108864 bytes",
        ),
    ] {
        let server = Server::start(move |request| match &*request.path {
            "/index.yaml" => Answer::new(200, body.clone()),
            _ => Answer::new(200, format!("apiVersion: v1\nentries: {{}}\n{whole}")),
        });
        let charts = server.url("/index.yaml");
        let snapshot = ["catalog", "snapshot", "--kind=charts", "--charts", &charts, "--retries=0"];
        let ended = Scene::new().haversack(&snapshot);
        ended.refused(words);
        assert!(ended.stderr.contains("/index.yaml"), "{ended:#?}");
    }
}

/// A deb that is right is still unpacked under the same limits.
#[test]
fn what_is_within_the_limits_still_works() {
    let scene = Scene::new();
    let deep = format!("./usr/src/linux-headers-6.1.0-1-amd64/{}Makefile", "d/".repeat(20));
    let deb = Deb::new("linux-headers-6.1.0-1-amd64", "6.1.4-1", "amd64")
        .file("./usr/src/linux-headers-6.1.0-1-amd64/Makefile", 0o644, b"all:\n")
        .file(&deep, 0o644, b"all:\n");
    scene.write(DEB, deb.bytes());
    for args in [LIST, UNPACK] {
        let ended = scene.haversack(args);
        assert_eq!(ended.code, 0, "{ended:#?}");
    }
    let headers = scene.home().join("out/debian/6.1.0-1-amd64/usr/src/linux-headers-6.1.0-1-amd64");
    assert_eq!(std::fs::read(headers.join("d/".repeat(20)).join("Makefile")).unwrap(), b"all:\n");
}
