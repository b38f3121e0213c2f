//! What earlier attacks did not get through, and must not from now on.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, Mode, mkfifoat};
use tar::{EntryType, Header};

use crate::Scene;
use crate::packages::Deb;
use crate::server::{Answer, Image, MANIFEST, Server};

/// An entry with this name as it is, which a writer would refuse.
fn entry(kind: EntryType, name: &str, link: &str, size: &str) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.as_old_mut().size[..size.len()].copy_from_slice(size.as_bytes());
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn members_that_lead_out_lie_or_are_there_twice_are_refused() {
    let file = EntryType::Regular;
    let (empty, outside) = ("00000000000\0", "is outside the archive");
    // Only what `docker save` writes has links, and none of them leads out.
    let link = "is a link";
    for (entries, words) in [
        (entry(file, "../victim", "", empty), outside),
        (entry(file, "/tmp/haversack-victim", "", empty), outside),
        (entry(file, "blobs/../../victim", "", empty), outside),
        (entry(EntryType::Symlink, "index.json", "../victim", empty), link),
        (entry(EntryType::Link, "index.json", "/etc/passwd", empty), link),
        (entry(EntryType::Char, "index.json", "", empty), "is neither a file nor a directory"),
        (entry(EntryType::Fifo, "index.json", "", empty), "is neither a file nor a directory"),
        ([entry(file, "index.json", "", empty), entry(file, "./index.json", "", empty)].concat(), "is there twice"),
        // Sizes: octal of 8 GiB and more, none, negative, no octal digits.
        (entry(file, "index.json", "", "77777777777\0"), "cut off after"),
        (entry(file, "index.json", "", "\u{0}"), "numeric field was not a number"),
        (entry(file, "index.json", "", "-0000000001\0"), "numeric field was not a number"),
        (entry(file, "index.json", "", "99999999999\0"), "numeric field was not a number"),
    ] {
        let scene = Scene::new();
        scene.write("a.tar", [&entries[..], &[0; 1024]].concat());
        for transport in ["oci-archive", "docker-archive"] {
            for command in [&["inspect"][..], &["verify"], &["copy", "--no-referrers"]] {
                let source = format!("{transport}:a.tar");
                let mut args = [command, &[source.as_str()]].concat();
                if command[0] == "copy" {
                    args.push("oci:out:x");
                }
                let words = match (words, transport) {
                    ("is a link", "oci-archive") => "is a link\n",
                    ("is a link", _) => "is a link that leads outside the archive\n",
                    (words, _) => words,
                };
                scene.haversack(&args).refused(words);
            }
        }
        scene.unharmed();
        // And in a package.
        let control = {
            let text = b"Package: linux-headers-6.1.0-1-amd64\nVersion: 6.1.4-1\nArchitecture: amd64\n";
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, "./control", &text[..]).unwrap();
            tar.into_inner().unwrap()
        };
        let mut deb = b"!<arch>\n".to_vec();
        for (name, member) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &control), ("data.tar", &entries)] {
            writeln!(deb, "{name:16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, member.len()).unwrap();
            deb.extend_from_slice(member);
        }
        scene.write("debs/linux-headers-6.1.0-1-amd64_6.1.4-1_amd64.deb", deb);
        // What only lies about its content may be unpacked where it belongs.
        scene.haversack(&["kernel", "unpack", "dir:debs", "--to", "out"]);
        scene.unharmed();
        assert!(!std::path::Path::new("/tmp/haversack-victim").exists());
    }
}

/// A member of an ar whose size is a number of 10 digits, or none.
#[test]
fn sizes_in_ar_headers_are_not_believed() {
    let damaged = "a member's header is damaged";
    for (size, words) in
        [("9999999999", "unexpected end of file"), ("-1", damaged), ("", damaged), ("1e9", damaged), ("0x10", damaged)]
    {
        let mut deb = b"!<arch>\n".to_vec();
        writeln!(deb, "{:16}{:<12}{:<6}{:<6}{:<8}{:<10}`", "debian-binary", 0, 0, 0, 100_644, 4).unwrap();
        deb.extend_from_slice(b"2.0\n");
        writeln!(deb, "{:16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", "control.tar", 0, 0, 0, 100_644).unwrap();
        let scene = Scene::new();
        scene.write("debs/a_1_amd64.deb", deb);
        scene.haversack(&["kernel", "list", "dir:debs"]).refused(words);
    }
}

#[test]
fn a_layout_of_pipes_links_and_thousands_of_levels_is_looked_through() {
    let image = Image::small();
    let scene = Scene::new();
    let store = scene.home().join("store");
    image.write_layout(&store);
    let blobs = store.join("blobs/sha256");
    mkfifoat(CWD, blobs.join("0".repeat(64)), Mode::from_raw_mode(0o666)).unwrap();
    symlink(scene.victim(), blobs.join("1".repeat(64))).unwrap();
    symlink("/", blobs.join("root")).unwrap();
    symlink("/dev/zero", blobs.join("2".repeat(64))).unwrap();
    // Deeper than a path may be long.
    let mut at = rustix::fs::open(&blobs, rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..4000 {
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o777)).unwrap();
        at = rustix::fs::openat(&at, "d", rustix::fs::OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(at);
    let ended = scene.haversack(&["verify", "oci:store"]);
    assert_eq!(ended.code, 1, "{ended:#?}");
    scene.haversack(&["copy", "oci:store:x", "oci-archive:out"]);
    scene.unharmed();
    // A blob of the image that is a link or a pipe.
    let name = image.blobs[0].0.strip_prefix("sha256:").unwrap().to_owned();
    for plant in ["link", "pipe"] {
        fs::remove_file(blobs.join(&name)).unwrap();
        match plant {
            "link" => symlink(scene.victim(), blobs.join(&name)).unwrap(),
            _ => mkfifoat(CWD, blobs.join(&name), Mode::from_raw_mode(0o666)).unwrap(),
        }
        assert_ne!(scene.haversack(&["verify", "oci:store"]).code, 0);
        assert_ne!(scene.haversack(&["copy", "oci:store:x", "oci:other:x"]).code, 0);
        scene.unharmed();
    }
}

/// Somebody exchanges directories for links while a package is unpacked.
#[test]
fn a_race_for_the_directories_that_are_unpacked_to_is_not_won() {
    let scene = Scene::new();
    let mut deb = Deb::new("linux-headers-6.1.0-1-amd64", "6.1.4-1", "amd64");
    for n in 0..300 {
        deb = deb.file(&format!("./usr/src/linux-headers-6.1.0-1-amd64/d{n}/Makefile"), 0o644, b"all:\n");
    }
    deb.write(&scene.home().join("debs"));
    let (elsewhere, out) = (scene.dir.path().join("elsewhere"), scene.home().join("out"));
    let (theirs, list) = (elsewhere.join("6.1.0-1-amd64/precious"), elsewhere.join("6.1.0-1-amd64.json"));
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    for file in [&theirs, &list] {
        fs::write(file, crate::VICTIM).unwrap();
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // In milliseconds: for an instant, for some steps, for a whole run.
            let mut holds = [0, 5, 400].into_iter().cycle();
            while !is_over.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&out).into_iter().flatten().flatten() {
                    let (path, aside) = (entry.path(), scene.home().join("aside"));
                    if fs::rename(&path, &aside).is_ok() {
                        let _ = symlink(&elsewhere, &path);
                        std::thread::sleep(std::time::Duration::from_millis(holds.next().unwrap()));
                        let _ = fs::remove_file(&path);
                        let _ = fs::rename(&aside, &path);
                        let _ = fs::remove_dir_all(&aside);
                        std::thread::sleep(std::time::Duration::from_millis(2));
                    }
                }
            }
        });
        for _ in 0..30 {
            scene.haversack(&["kernel", "unpack", "dir:debs", "--to", "out"]);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // What is under the names that would be written is somebody else's, and stays.
    for file in [&theirs, &list] {
        assert_eq!(fs::read(file).unwrap(), crate::VICTIM, "{}", file.display());
    }
    assert_eq!(fs::read(scene.victim()).unwrap(), crate::VICTIM);
}

#[test]
fn compressors_that_want_gigabytes_are_refused() {
    let scene = Scene::new();
    // A zstd frame with a window of 2 GiB, and an xz block with a dictionary of 4 GiB.
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8][..], &[0xff; 64]].concat();
    let mut xz = Vec::new();
    let options = {
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(1 << 30);
        options
    };
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    // The encoder would need it, too: the size is put into the block's header by hand.
    drop(filters);
    let mut small = liblzma::write::XzEncoder::new(Vec::new(), 0);
    small.write_all(&[b'x'; 4096]).unwrap();
    xz.extend_from_slice(&small.finish().unwrap());
    // Stream header 12 bytes; block header: size, flags, filter id, size of properties, dictionary, padding, CRC32.
    let end = 12 + (usize::from(xz[12]) + 1) * 4;
    let dictionary = (12..end).find(|at| xz[*at] == 0x21).unwrap() + 2;
    xz[dictionary] = 40;
    let crc = crc32(&xz[12..end - 4]);
    xz[end - 4..end].copy_from_slice(&crc.to_le_bytes());
    for (name, data, words) in
        [("data.tar.zst", zstd, "requires too much memory"), ("data.tar.xz", xz, "memory limit reached")]
    {
        let mut deb = b"!<arch>\n".to_vec();
        for (name, member) in
            [("debian-binary", &b"2.0\n"[..]), (&name.replace("data", "control"), &data), (name, &data)]
        {
            writeln!(deb, "{name:16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, member.len()).unwrap();
            deb.extend_from_slice(member);
            deb.resize(deb.len().next_multiple_of(2), b'\n');
        }
        scene.write("debs/a_1_amd64.deb", deb);
        scene.haversack(&["kernel", "list", "dir:debs"]).refused(words);
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// An image whose layers, all the same, decompress to more than anybody has.
#[test]
fn a_bomb_that_is_named_thousands_of_times_is_given_up_at_its_limit() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 19).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(2 << 30), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    let digest = |bytes: &[u8]| haversack::digest::Digest::sha256(bytes).to_string();
    let count = 20_000;
    let config = serde_json::json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": vec![digest(b""); count] } });
    let config = config.to_string().into_bytes();
    let layer = serde_json::json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": digest(&bomb), "size": bomb.len() });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": vec![layer; count],
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&config), "size": config.len() },
    });
    let image = Image {
        manifest: manifest.to_string().into_bytes(),
        blobs: vec![(digest(&bomb), bomb), (digest(&config), config)],
    };
    let scene = Scene::new();
    image.write_layout(&scene.home().join("store"));
    let ended = scene.haversack(&["verify", "oci:store", "--max-layer-size=1"]);
    let words = "decompresses to more than the limit of 1073741824 bytes";
    assert!(ended.code == 1 && ended.stdout.contains(words), "{ended:#?}");
    assert_eq!(scene.haversack(&["inspect", "oci:store:x"]).code, 0);
}

#[test]
fn an_image_of_twenty_five_thousand_layers_ends() {
    let layers: Vec<Vec<u8>> = (0..25_000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let image = Image::of(layers);
    let scene = Scene::new();
    image.write_layout(&scene.home().join("store"));
    for args in
        [&["inspect", "oci:store:x"][..], &["verify", "oci:store"], &["copy", "oci:store:x", "oci-archive:other.tar"]]
    {
        let ended = scene.haversack(args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
    }
}

/// What nobody asks for in a document is passed over, however deep it is, and what is kept whole is refused.
#[test]
fn documents_a_million_levels_deep_are_passed_over_or_refused() {
    let image = Image::small();
    let [array, object] = [("[", "", "]"), ("{\"a\":", "1", "}")]
        .map(|(open, inner, close)| open.repeat(500_000) + inner + &close.repeat(500_000));
    for deep in [array, object] {
        let scene = Scene::new();
        let put = |name: &str, text: &str| scene.write(name, text.replace("DEEP", &deep));
        put("set.json", r#"{"format":"haversack.kernels","version":2,"kernels":[],"x":DEEP}"#);
        put("list.json", r#"{"Debian":[{"x":DEEP}]}"#);
        image.write_layout(&scene.home().join("store"));
        put("store/index.json", r#"{"schemaVersion":2,"manifests":[],"x":DEEP}"#);
        put("tree/data/containers/containers.db", r#"{"a":{"x":DEEP}}"#);
        std::fs::create_dir_all(scene.home().join("tree/data/operators")).unwrap();
        put("tree/data/helm/helm.db", "apiVersion: v1\nentries: {}\ngenerated: 2026-11-01\n");
        put("auth.json", r#"{"auths":{},"x":DEEP}"#);
        let manifest = r#"{"schemaVersion":2,"layers":[],"x":DEEP}"#.replace("DEEP", &deep);
        let tags = format!("{{\"name\":\"r/i\",\"tags\":[],\"x\":{deep}}}");
        let server = Server::start(move |request| match &*request.path {
            "/v2/" => Answer::new(200, "{}"),
            path if path.contains("/manifests/") => Answer::new(200, manifest.clone()).with("content-type", MANIFEST),
            _ => Answer::new(200, tags.clone()),
        });
        let source = format!("docker://{}/r/i:1", server.address);
        let repository = format!("docker://{}/r/i", server.address);
        for (args, code) in [
            // Read, and there is no kernel in it.
            (&["kernel", "list", "set:set.json"][..], 1),
            (&["kernel", "list", "crawler:list.json"], 1),
            // There is no image in it.
            (&["inspect", "oci:store"], 1),
            (&["catalog", "import", "tree"], 0),
            (&["inspect", &source, "--tls-verify=false", "--retries=0", "--authfile=auth.json"], 0),
            (&["list-tags", &repository, "--tls-verify=false", "--retries=0"], 0),
        ] {
            let ended = scene.haversack(args);
            assert_eq!(ended.code, code, "{args:?}: {ended:#?}");
            assert!(args[0] != "kernel" || ended.stderr == "error: no package was found\n", "{ended:#?}");
        }
        // A configuration is kept whole to be shown.
        let config = r#"{"architecture":"amd64","os":"linux","x":DEEP}"#.replace("DEEP", &deep);
        let name = haversack::digest::Digest::sha256(config.as_bytes()).to_string();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": name, "size": config.len(),
            },
        });
        let image = Image { manifest: manifest.to_string().into_bytes(), blobs: vec![(name, config.into_bytes())] };
        image.write_layout(&scene.home().join("other"));
        let ended = scene.haversack(&["inspect", "oci:other:x"]);
        assert!(ended.code == 3 && ended.stdout.contains("its configuration is not JSON"), "{ended:#?}");
    }
    let scene = Scene::new();
    let levels = "more than 64 levels of nesting";
    for (toml, words) in [
        ("a = [".repeat(200_000), levels),
        ("a = {b=".repeat(100_000), levels),
        (format!("[{}a]", "a.".repeat(200_000)), levels),
        (format!("[{0}a]\n{0}a = {{ {0}a = 1 }}", "a.".repeat(60)), levels),
        ("[a]\n".repeat(200_000), "duplicate key"),
    ] {
        scene.write("images/x/image.toml", &toml);
        scene.write("list.toml", &toml);
        scene.write("haversack.toml", &toml);
        let ended = scene.haversack(&["inspect", "oci:store"]);
        assert!(ended.code == 2 && ended.stderr.contains(words), "{ended:#?}");
        fs::remove_file(scene.home().join("haversack.toml")).unwrap();
        scene.haversack(&["build", "images/x", "--output=oci:out"]).refused(words);
        scene.haversack(&["sync", "list.toml"]).refused(words);
    }
}

#[test]
fn servers_that_send_too_much_or_in_circles_are_given_up() {
    let scene = Scene::new();
    let gzip_bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(&mut std::io::repeat(b' ').take(1 << 30), &mut encoder).unwrap();
        encoder.finish().unwrap()
    };
    let flood =
        Answer { headers: (0..100_000).map(|n| (format!("x-{n}"), "y".repeat(100))).collect(), ..Answer::new(200, "") };
    let bad_chunks = Answer::new(200, "zz\r\nhello").with("transfer-encoding", "chunked").with("content-length", "5");
    let bomb = Answer::new(200, gzip_bomb).with("content-encoding", "gzip").with("content-type", "application/json");
    let endless = Answer::new(200, vec![b' '; 64 << 20]).with("content-length", "18446744073709551615");
    for answer in [flood, bad_chunks, bomb, endless] {
        let answer = answer.clone();
        let server = Server::start(move |_| answer.clone());
        let (image, repository, url) =
            (format!("docker://{}/r/i:1", server.address), format!("rpm:{}", server.url("/")), server.url(""));
        for args in [
            &["inspect", &image, "--tls-verify=false"][..],
            &["kernel", "list", &repository],
            &["catalog", "snapshot", "--kind=operators", "--api", &url],
            &["catalog", "snapshot", "--kind=charts", "--charts", &url],
        ] {
            let ended = scene.haversack(&[args, &["--retries=0", "--timeout=5"]].concat());
            assert_ne!(ended.code, 0, "{ended:#?}");
        }
    }
    let around = Server::start(|request| Answer::new(302, "").with("location", format!("{}x", request.path)));
    let image = format!("docker://{}/r/i:1", around.address);
    assert_ne!(scene.haversack(&["inspect", &image, "--tls-verify=false", "--retries=0"]).code, 0);
    assert!(around.seen().len() < 50, "{}", around.seen().len());
}

#[test]
fn secrets_are_not_said_however_much_is_said() {
    let scene = Scene::new();
    let server = Server::start(|request| match request.path.starts_with("/token") {
        true => Answer::new(401, r#"{"error":"no"}"#),
        false => Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
    });
    scene.write("secret", "hunter2");
    scene.write("rootfs", crate::squashfs());
    scene.write("auth.json", format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpodW50ZXIy"}}}}}}"#, server.address));
    let (image, token, ims) = (format!("docker://{}/r/i:1", server.address), server.url("/token"), server.url("/ims"));
    for args in [
        &["inspect", &image, "--tls-verify=false", "--authfile=auth.json"][..],
        &["kernel", "list", "redhat:rhel-9", "--token-file=secret", "--redhat-sso", &token],
        &[
            "publish",
            "ims",
            "n",
            "--rootfs=rootfs",
            "--token-url",
            &token,
            "--oauth-client-id=me",
            "--oauth-client-secret-file=secret",
            "--ims-url",
            &ims,
            "--s3-endpoint",
            &ims,
            "--s3-bucket=b",
            "--s3-access-key=k",
            "--s3-secret-key-file=secret",
            "--retry-limit=0",
        ],
    ] {
        let ended = scene.haversack(&[args, &["-vvv", "--retries=1", "--retry-delay=0"]].concat());
        assert_ne!(ended.code, 0);
        for secret in ["hunter2", "dXNlcjpodW50ZXIy", "bWU6aHVudGVyMg"] {
            assert!(!ended.stderr.contains(secret) && !ended.stdout.contains(secret), "{ended:#?}");
        }
    }
    assert!(server.received("hunter2") && server.received("dXNlcjpodW50ZXIy"));
}

/// Sizes in documents that no file has.
#[test]
fn sizes_that_are_negative_or_beyond_every_disk_are_refused() {
    let image = Image::small();
    for size in ["-1", "18446744073709551615", "18446744073709551616", "9223372036854775807", "1e400", "\"5\""] {
        let scene = Scene::new();
        let text = String::from_utf8(image.manifest.clone()).unwrap().replace(":1024", &format!(":{size}"));
        let other = Image { manifest: text.into_bytes(), blobs: image.blobs.clone() };
        other.write_layout(&scene.home().join("store"));
        assert_ne!(scene.haversack(&["verify", "oci:store"]).code, 0, "{size}");
        assert_ne!(scene.haversack(&["copy", "oci:store:x", "oci:out:x"]).code, 0, "{size}");
    }
}
