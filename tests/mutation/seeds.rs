//! Something right for every reader to begin with.

use std::fs;
use std::path::Path;

use haversack::digest::Digest;
use serde_json::json;
use tar::{EntryType, Header};

use crate::packages::{Deb, Rpm, RpmFile};

/// What a reader takes.
pub(crate) fn of(reader: &str) -> Vec<Vec<u8>> {
    match reader {
        "tar" => vec![tar(&[("a/b", b"hello"), ("c", &[7; 1500])]), extended()],
        "cpio" => vec![rpm_payload(), b"07070X00000000\0\0data070701".to_vec()],
        "deb" => vec![deb().bytes(), plain_deb()],
        "rpm" => vec![rpm().bytes()],
        "primary" => vec![PRIMARY.into()],
        "repomd" => vec![REPOMD.into()],
        "filelists" => vec![FILELISTS.into()],
        "modules" => vec![MODULES.into()],
        "packages" => vec![PACKAGES.into(), b"Package: a\nVersion: 1\n".to_vec()],
        "inrelease" => ["stable/InRelease", "detached/Release", "detached/Release.gpg", "../../trusted.asc"]
            .iter()
            .map(|name| testdata(&format!("kernel/apt/dists/{name}")))
            .collect(),
        "dependency" => DEPENDENCIES.iter().map(|text| text.as_bytes().to_vec()).collect(),
        "definition" => {
            ["catalog", "driver-toolkit"].iter().map(|name| repository(&format!("images/{name}/image.toml"))).collect()
        }
        "list" => vec![LIST.into()],
        "manifest" => vec![manifest(&[b"layer"]).into_bytes(), config().into_bytes(), index().into_bytes()],
        "docker-archive" => vec![docker_archive()],
        "oci-archive" => vec![oci_archive()],
        "chart-index" => vec![testdata("catalog/index.yaml"), CHARTS.into()],
        "kernel-set" => vec![kernel_set()],
        "crawler" => vec![CRAWLER.into()],
        "challenge" => vec![CHALLENGES.into()],
        "carry-document" => {
            let mut documents: Vec<Vec<u8>> =
                CARRIES.iter().map(|carry| testdata(&format!("carry/{carry}/carry.json"))).collect();
            documents.push(receipt());
            documents
        }
        "carry-volume" => CARRIES.iter().map(|carry| testdata(&format!("carry/{carry}/volume-001.zst"))).collect(),
        "carry-parts" => CARRIES.iter().map(|carry| carry_parts(carry)).collect(),
        "skeleton" => vec![skeleton()],
        "recipe" => CLASSES.iter().map(|class| recipe(class)).collect(),
        other => panic!("{other}: no seeds"),
    }
}

fn repository(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn testdata(name: &str) -> Vec<u8> {
    repository(&format!("testdata/{name}"))
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// All kinds of extended headers and entries.
fn extended() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(4);
    tar.append_pax_extensions([
        ("path", &b"p/q"[..]),
        ("size", b"4"),
        ("SCHILY.xattr.user.a", b"b"),
        ("mtime", b"1.5"),
    ])
    .unwrap();
    tar.append_data(&mut header, "x", &b"1234"[..]).unwrap();
    header.set_size(3);
    tar.append_data(&mut header, "long/".repeat(40), &b"123"[..]).unwrap();
    header.set_size(0);
    for (kind, to) in [(EntryType::Symlink, "to"), (EntryType::Link, "x"), (EntryType::Directory, "")] {
        header.set_entry_type(kind);
        match to {
            "" => tar.append_data(&mut header, "d", &b""[..]).unwrap(),
            to => tar.append_link(&mut header, "l", to).unwrap(),
        }
    }
    let mut sparse = Header::new_gnu();
    sparse.set_entry_type(EntryType::GNUSparse);
    sparse.set_size(512);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.sparse[0].offset.copy_from_slice(b"00000001000\0");
    gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
    gnu.realsize.copy_from_slice(b"00000002000\0");
    tar.append_data(&mut sparse, "holes", &[9; 512][..]).unwrap();
    tar.into_inner().unwrap()
}

fn deb() -> Deb {
    Deb::new("linux-headers-6.1.0-1-amd64", "6.1.4-1", "amd64")
        .depends("linux-headers-6.1.0-1-common (= 6.1.4-1), gcc-12 | gcc")
        .directory("./usr/", 0o755)
        .file("./usr/a", 0o644, b"hello")
        .symlink("./usr/b", "a")
        .hard_link("./usr/c", "./usr/a")
}

/// A deb whose members are not compressed, so that what is in them is reached.
fn plain_deb() -> Vec<u8> {
    use std::io::Write;
    let control = tar(&[(
        "control",
        b"Package: a\nVersion: 1:2-3\nArchitecture: amd64\nDepends: b (>= 1), c | d\nProvides: e (= 1)\n",
    )]);
    let data = extended();
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, member) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), ("data.tar", &data)] {
        writeln!(bytes, "{name:16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, member.len()).unwrap();
        bytes.extend_from_slice(member);
    }
    bytes
}

fn rpm() -> Rpm {
    Rpm::new("kernel-devel", "5.14.0", "1.el9", "x86_64")
        .with(RpmFile::regular("/usr/src/kernels/5.14.0-1.el9.x86_64/Makefile", b"all:\n"))
        .with(RpmFile::symlink("/lib/modules/5.14.0-1.el9.x86_64/build", "/usr/src/kernels/5.14.0-1.el9.x86_64"))
}

fn rpm_payload() -> Vec<u8> {
    let bytes = rpm().bytes();
    let start = bytes.windows(6).position(|six| six == b"070701").unwrap();
    bytes[start..].to_vec()
}

fn described(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(bytes).to_string(), "size": bytes.len() })
}

fn manifest(layers: &[&[u8]]) -> String {
    let layers: Vec<_> = layers.iter().map(|it| described("application/vnd.oci.image.layer.v1.tar", it)).collect();
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": described("application/vnd.oci.image.config.v1+json", config().as_bytes()),
        "layers": layers, "annotations": { "a": "b" }
    })
    .to_string()
}

fn config() -> String {
    json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": { "Env": ["A=b"], "Labels": { "a": "b" } },
        "rootfs": { "type": "layers", "diff_ids": [Digest::sha256(layer()).to_string()] }, "history": [{ "created_by": "x" }]
    })
    .to_string()
}

fn layer() -> Vec<u8> {
    tar(&[("a", b"hello"), (".wh.b", b"")])
}

fn index() -> String {
    let mut image = described(MANIFEST, manifest(&[&layer()]).as_bytes());
    image["annotations"] = json!({ "org.opencontainers.image.ref.name": "x:1" });
    image["platform"] = json!({ "architecture": "arm64", "os": "linux", "variant": "v8" });
    json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [image] })
        .to_string()
}

fn docker_archive() -> Vec<u8> {
    let listed = json!([{ "Config": "c.json", "RepoTags": ["a:1", "b:2"], "Layers": ["l/layer.tar"] }]).to_string();
    tar(&[("c.json", config().as_bytes()), ("l/layer.tar", &layer()), ("manifest.json", listed.as_bytes())])
}

fn oci_archive() -> Vec<u8> {
    let (manifest, config, layer, index) = (manifest(&[&layer()]), config(), layer(), index());
    let name = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::sha256(bytes).hex());
    tar(&[
        (&name(manifest.as_bytes()), manifest.as_bytes()),
        (&name(config.as_bytes()), config.as_bytes()),
        (&name(&layer), &layer),
        ("index.json", index.as_bytes()),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
    ])
}

fn kernel_set() -> Vec<u8> {
    let package = json!({
        "role": "headers", "name": "linux-headers-6.1.0-1-amd64", "version": "6.1.4-1", "architecture": "amd64", "format": "deb",
        "location": "https://h.example/a.deb", "size": 5, "sha256": Digest::sha256(b"x").to_string()
    });
    let kernel = json!({
        "distribution": "debian", "uname": "6.1.0-1-amd64", "machine": "x86_64", "flavour": "default", "build": "6.1.4-1",
        "packages": [package], "missing": ["a"]
    });
    json!({ "format": "haversack.kernels", "version": 1, "kernels": [kernel] }).to_string().into_bytes()
}

/// The frames of a carry, decompressed, each after its length; contents that it is built on are zeros.
fn carry_parts(carry: &str) -> Vec<u8> {
    let mut frames = carry_frames(carry);
    frames.insert(1, vec![0; 4096]);
    let mut bytes = Vec::new();
    for part in frames {
        bytes.extend_from_slice(&u32::try_from(part.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&part);
    }
    bytes
}

/// What is in the zstd frames of a carry's only volume; the table comes first.
fn carry_frames(carry: &str) -> Vec<Vec<u8>> {
    let volume = testdata(&format!("carry/{carry}/volume-001.zst"));
    let mut rest = &volume[..];
    let mut frames = Vec::new();
    while let Some((magic, after)) = rest.split_first_chunk::<4>() {
        if u32::from_le_bytes(*magic) & 0xffff_fff0 == 0x184d_2a50 {
            let (length, after) = after.split_first_chunk::<4>().unwrap();
            rest = &after[u32::from_le_bytes(*length) as usize..];
            continue;
        }
        let mut frame = Vec::new();
        let length = zstd::zstd_safe::find_frame_compressed_size(rest).unwrap();
        std::io::copy(&mut zstd::Decoder::new(&rest[..length]).unwrap(), &mut frame).unwrap();
        frames.push(frame);
        rest = &rest[length..];
    }
    frames
}

/// The skeleton in a carry of one layer: its last content. The lengths of contents come third in its table, behind those of frames.
fn skeleton() -> Vec<u8> {
    let frames = carry_frames(CARRIES[0]);
    let mut table = &frames[0][b"haversack carry table\x01".len()..];
    let mut numbers = || {
        let count = haversack::varint::take(&mut table).unwrap();
        (0..count).map(|_| haversack::varint::take(&mut table).unwrap()).collect::<Vec<_>>()
    };
    let _ = numbers();
    let length = usize::try_from(*numbers().last().unwrap()).unwrap();
    let contents = frames.last().unwrap();
    contents[contents.len() - length..].to_vec()
}

/// A gzip file of 3,000 bytes in two members, the second with a trailer of its own.
fn recipe(class: &str) -> Vec<u8> {
    let mut bytes = vec![1, 2, 0, u8::try_from(class.len()).unwrap()];
    bytes.extend_from_slice(class.as_bytes());
    bytes.extend_from_slice(b"\x0a\x1f\x8b\x08\0\0\0\0\0\0\xff\xd0\x0f");
    bytes.extend_from_slice(b"\x07\xe8\x0712345678\0");
    bytes
}

fn receipt() -> Vec<u8> {
    json!({
        "carry": "9063fb60bbca1fe17d089979d8e37d41", "site": "plant-7", "state": Digest::sha256(b"x").to_string(),
        "unpacked": "2026-11-26T15:12:22Z", "code": "37GZ-RUJW-G5AS-ZETA-WAGB-QPX7-ZX6D-OMEW"
    })
    .to_string()
    .into_bytes()
}

/// Carries of both versions of the format, and one that is built on another.
const CARRIES: [&str; 3] = ["format-1", "format-2/base", "format-2/delta"];

/// One encoder of each family.
const CLASSES: [&str; 9] =
    ["pgzip-a-1m", "pgzip-b-1m", "pgzip-d-256k", "go-6-tar", "go-1", "go127-6", "zlib-6-m8", "pigz-6", "gnu-9"];

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const REPOMD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo"><revision>1</revision>
<data type="filelists"><location href="f"/></data>
<data type="primary"><checksum type="sha256">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>
<location href="repodata/primary.xml.zst"/><size>5</size></data></repomd>"#;

const FILELISTS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<filelists xmlns="http://linux.duke.edu/metadata/filelists" packages="1">
<package pkgid="00" name="x" arch="noarch"><version epoch="0" ver="1" rel="1"/><file>/usr/share/x</file><file type="dir">/y&amp;z</file></package>
</filelists>"#;

const MODULES: &str = r#"---
document: modulemd
version: 2
data: { name: perl, stream: "5.32", dependencies: [{ requires: { platform: [el8], x: [] } }], artifacts: { rpms: [perl-4:5.32.1-471.x86_64] } }
...
---
document: modulemd-defaults
version: 1
data: { module: perl, stream: "5.26" }
...
"#;

const PRIMARY: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1">
<package type="rpm"><name>kernel-core</name><arch>x86_64</arch><version epoch="0" ver="5.14.0" rel="1.el9"/>
<checksum type="sha256" pkgid="YES">e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855</checksum>
<description>a &amp; b &lt;c&gt; <![CDATA[d]]></description><size package="5" installed="6"/><location xml:base="https://o.example" href="k.rpm"/>
<format><rpm:vendor>V</rpm:vendor><rpm:provides><rpm:entry name="kernel" flags="EQ" epoch="1" ver="5.14.0" rel="1.el9"/></rpm:provides>
<rpm:requires><rpm:entry name="(a or (b and c))"/><rpm:entry name="d" flags="GE" ver="1"/></rpm:requires>
<rpm:conflicts><rpm:entry name="e" flags="LT" ver="2"/></rpm:conflicts><file>/usr/bin/a</file></format></package></metadata>"#;

const PACKAGES: &str = "Package: linux-headers-6.1.0-1-amd64\nVersion: 1:6.1.4-1\nArchitecture: amd64\nDepends: gcc-12 (>= 12.2), a | b\n\
    Provides: c (= 1), d\nConflicts: e (<< 2)\nDescription: x\n more\n .\nFilename: pool/l/a.deb\nSize: 5\n\
    SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\nPackage: bash\nVersion: 5\nArchitecture: amd64\nFilename: b\n\n";

const DEPENDENCIES: &[&str] = &[
    "gcc-12 (>= 4:12.2.0-3~bpo1) | gcc [amd64 !i386] <!nocheck>",
    "(a >= 1.0 or (b and (c with d)))",
    "(kernel-core-uname-r = 5.14.0-1.el9.x86_64 if (x unless y else z))",
    "config(a) = 1:2-3",
];

const LIST: &str = "to = 'docker://m.example:5000/mirror'\nplatforms = ['linux/amd64']\n[registries.'quay.io']\ntls-verify = true\nparallel = 4\n\
    [[images]]\nregistry = 'quay.io'\nrepositories = ['org/app', 'team/*']\ntags = ['1.0', 'v2.*']\nsemver = '>=1.2, <2'\n\
    [[images]]\nfrom = 'oci:store'\nnames = ['quay.io/org/*']\nto = 'docker://o.example/backup'\nas = 'x/y'\n";

const CHARTS: &str = "apiVersion: v1\nentries:\n  a-b:\n  - &x {name: b, version: 1.0.0, kubeVersion: '>=1.20', urls: [u], annotations: {charts.openshift.io/providerType: partner}}\n  - <<: *x\n    version: 2.0.0\ngenerated: '2026-01-01T00:00:00Z'\n";

const CRAWLER: &str = r#"{"Debian":[{"kernelversion":1,"kernelrelease":"5.10","target":"debian","headers":["http://h/linux-headers-5.10.0-8-amd64_5.10.46-5_amd64.deb"]}],"X":[{"headers":null}]}"#;

const CHALLENGES: &str = "Basic realm=\"x\"\nBearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"repository:a/b:pull\"\nNegotiate";
