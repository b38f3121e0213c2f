//! Rows 1 to 7, 25 to 27, 31, 33 and 36 of the protocol: what those who pull ask for.

use haversack::digest::Digest;
use serde_json::{Value, json};

use crate::server::{Serve, arg, artifact, bytes, image, index, layout};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn an_image_is_pulled_by_tag_and_by_digest_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let content: Vec<u8> = (0..2048_u32).map(|n| n as u8).collect();
    let (amd64, arm64) = (image(&store, &content), image(&store, b"other"));
    let list = index(&store, &[&amd64, &arm64]);
    store.tag(&list, Some("quay.io/org/app:1.2")).unwrap();
    let serve = Serve::start(&[arg(&store)]);

    for path in ["/v2/", "/v2"] {
        let answer = serve.get(path);
        assert_eq!((answer.status, answer.header("docker-distribution-api-version")), (200, "registry/2.0"), "{path}");
    }
    for (path, described, kind) in [
        ("/v2/quay.io/org/app/manifests/1.2".to_owned(), &list, INDEX),
        ("/v2/org/app/manifests/1.2".to_owned(), &list, INDEX),
        ("/v2/org/app/manifests/1.2?ns=quay.io".to_owned(), &list, INDEX),
        (format!("/v2/quay.io/org/app/manifests/{}", list.digest()), &list, INDEX),
        (format!("/v2/quay.io/org/app/manifests/{}", amd64.digest()), &amd64, MANIFEST),
        (format!("/v2/org/app/manifests/{}", arm64.digest().to_string().replace(':', "%3A")), &arm64, MANIFEST),
        // Row 6: a manifest among the blobs keeps its type.
        (format!("/v2/org/app/blobs/{}", arm64.digest()), &arm64, MANIFEST),
    ] {
        let accept = [("Accept", "application/json"), ("Accept", kind)];
        let (get, head) = (serve.send("GET", &path, &accept, b""), serve.send("HEAD", &path, &accept, b""));
        assert_eq!((get.status, &get.body), (200, &bytes(&store, described)), "{path}");
        let digest = described.digest().to_string();
        for answer in [&get, &head] {
            let length = described.size().to_string();
            let found = ["content-type", "content-length", "docker-content-digest"].map(|name| answer.header(name));
            assert_eq!(found, [kind, &length, &digest], "{path}");
        }
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    let layer = Digest::sha256(&content);
    let path = format!("/v2/quay.io/org/app/blobs/{layer}");
    for _ in 0..2 {
        let get = serve.send("GET", &path, &[("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5")], b"");
        assert_eq!((get.status, get.body, get.headers.get("content-encoding")), (200, content.clone(), None));
    }
    let head = serve.head(&path);
    let found = ["content-length", "accept-ranges", "docker-content-digest"].map(|name| head.header(name));
    assert_eq!((head.status, found), (200, ["2048", "bytes", layer.as_str()]));
    let etag = head.header("etag").to_owned();
    assert_eq!(serve.send("GET", &path, &[("If-None-Match", &etag)], b"").status, 304);
}

#[test]
fn ranges_are_answered_in_one_part_or_in_several() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let content: Vec<u8> = (0..2048_u32).map(|n| (n / 7) as u8).collect();
    store.tag(&image(&store, &content), Some("a/b:1")).unwrap();
    let serve = Serve::start(&[arg(&store)]);
    let path = format!("/v2/a/b/blobs/{}", Digest::sha256(&content));
    for (range, start, end) in
        [("500-1499", 500, 1500), ("500-", 500, 2048), ("-500", 1548, 2048), ("2000-5000", 2000, 2048)]
    {
        let answer = serve.send("GET", &path, &[("Range", &format!("bytes={range}"))], b"");
        let says = format!("bytes {start}-{}/2048", end - 1);
        assert_eq!((answer.status, answer.header("content-range")), (206, says.as_str()), "{range}");
        assert_eq!(answer.body, content[start..end], "{range}");
    }
    for range in ["bytes=500-0", "bytes=5000-10000"] {
        let answer = serve.send("GET", &path, &[("Range", range)], b"");
        assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */2048"), "{range}");
    }
    let answer = serve.send("GET", &path, &[("Range", "bytes=0-9,100-199")], b"");
    assert_eq!(answer.status, 206);
    let boundary = answer.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert!(boundary.bytes().all(|b| b.is_ascii_alphanumeric() || b"-:".contains(&b)), "{boundary}");
    let part = |range: &str, bytes: &[u8]| {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes {range}/2048\r\n\r\n"
        );
        [head.as_bytes(), bytes].concat()
    };
    let expected = [part("0-9", &content[..10]), part("100-199", &content[100..200])].concat();
    assert_eq!(answer.body, [expected.as_slice(), format!("\r\n--{boundary}--\r\n").as_bytes()].concat());
    let many = format!("bytes={}", "0-2047,".repeat(50));
    let answer = serve.send("GET", &path, &[("Range", &many)], b"");
    assert_eq!((answer.status, answer.body), (200, content));
}

#[test]
fn what_is_not_there_is_404_in_the_form_that_clients_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"x"), Some("quay.io/a/b:1")).unwrap();
    let stray = image(&store, b"stray");
    let serve = Serve::start(&[arg(&store)]);
    let none = Digest::sha256(b"none");
    for (path, code) in [
        ("/v2/a/b/manifests/2".to_owned(), "MANIFEST_UNKNOWN"),
        ("/v2/a/b/manifests/1?ns=other.example".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/b/manifests/{none}"), "MANIFEST_UNKNOWN"),
        // What lies in the layout and belongs to no repository is not there.
        (format!("/v2/a/b/manifests/{}", stray.digest()), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/b/blobs/{}", Digest::sha256(b"stray")), "BLOB_UNKNOWN"),
        (format!("/v2/other/blobs/{}", Digest::sha256(b"x")), "BLOB_UNKNOWN"),
        (format!("/v2/a/b/blobs/{none}"), "BLOB_UNKNOWN"),
        ("/v2/other/tags/list".to_owned(), "NAME_UNKNOWN"),
    ] {
        let (status, found, message) = serve.get(&path).error();
        assert_eq!((status, found.as_str()), (404, code), "{path}: {message}");
        assert_eq!(serve.head(&path).status, 404, "{path}");
    }
    for (path, code) in [
        ("/v2/a/b/manifests/sha256:baddigeststring", "DIGEST_INVALID"),
        ("/v2/a/b/blobs/sha256:baddigeststring", "DIGEST_INVALID"),
        ("/v2/a/b/referrers/sha256:baddigeststring", "DIGEST_INVALID"),
        ("/v2/A/b/manifests/1", "NAME_INVALID"),
        ("/v2/a/b/tags/list?n=-1", "PAGINATION_NUMBER_INVALID"),
        ("/v2/_catalog?n=many", "PAGINATION_NUMBER_INVALID"),
    ] {
        let (status, found, _) = serve.get(path).error();
        assert_eq!((status, found.as_str()), (400, code), "{path}");
    }
    for (method, path) in [
        ("POST", "/v2/a/b/blobs/uploads/".to_owned()),
        ("PUT", "/v2/a/b/manifests/1".to_owned()),
        ("DELETE", "/v2/a/b/manifests/1".to_owned()),
        ("DELETE", format!("/v2/a/b/blobs/{}", Digest::sha256(b"x"))),
    ] {
        let (status, code, message) = serve.send(method, &path, &[], b"").error();
        assert_eq!((status, code.as_str()), (405, "UNSUPPORTED"), "{method} {path}");
        assert!(message.contains("--writable"), "{message}");
    }
}

#[test]
fn names_in_layouts_are_repositories_and_tags() {
    let dir = tempfile::tempdir().unwrap();
    let (store, second) = (layout(dir.path(), "My Store"), layout(dir.path(), "second"));
    let [one, two, three] = [b"1", b"2", b"3"].map(|content| image(&store, content));
    for (described, name) in [
        (&one, "quay.io/org/app:1"),
        (&two, "ghcr.io/org/app:1"),
        (&one, "quay.io/org/app:same"),
        (&one, "ghcr.io/org/app:same"),
        (&one, "docker.io/alpine:3"),
        (&two, "localhost:5000/tool:x"),
        (&three, "plain/name:1"),
        (&three, "latest"),
    ] {
        store.tag(described, Some(name)).unwrap();
    }
    let other = image(&second, b"4");
    second.tag(&other, Some("quay.io/org/app:1")).unwrap();
    second.tag(&other, Some("quay.io/org/app:2")).unwrap();
    let serve = Serve::start(&[arg(&store), arg(&second)]);
    for (path, expected) in [
        ("quay.io/org/app/manifests/1", Some(&one)),
        ("ghcr.io/org/app/manifests/1", Some(&two)),
        ("org/app/manifests/1", None),
        ("org/app/manifests/1?ns=quay.io", Some(&one)),
        ("org/app/manifests/1?ns=ghcr.io", Some(&two)),
        ("org/app/manifests/same", Some(&one)),
        ("quay.io/org/app/manifests/2", Some(&other)),
        ("org/app/manifests/2", Some(&other)),
        ("docker.io/library/alpine/manifests/3", Some(&one)),
        ("docker.io/alpine/manifests/3", Some(&one)),
        ("library/alpine/manifests/3", Some(&one)),
        ("alpine/manifests/3", Some(&one)),
        ("alpine/manifests/3?ns=docker.io", Some(&one)),
        ("localhost_5000/tool/manifests/x", Some(&two)),
        ("tool/manifests/x", Some(&two)),
        ("tool/manifests/x?ns=localhost:5000", Some(&two)),
        ("plain/name/manifests/1", Some(&three)),
        ("my-store/manifests/latest", Some(&three)),
    ] {
        let answer = serve.head(&format!("/v2/{path}"));
        let expected = expected.map_or((404, String::new()), |it| (200, it.digest().to_string()));
        assert_eq!((answer.status, answer.header("docker-content-digest").to_owned()), expected, "{path}");
    }
    let (_, _, message) = serve.get("/v2/org/app/manifests/1").error();
    assert_eq!(message, "org/app:1 is another image in each of ghcr.io/org/app, quay.io/org/app; name one of them");
    let catalog = serve.get("/v2/_catalog").json();
    let expected = [
        "docker.io/library/alpine",
        "ghcr.io/org/app",
        "localhost_5000/tool",
        "my-store",
        "plain/name",
        "quay.io/org/app",
    ];
    assert_eq!(catalog, json!({ "repositories": expected }));
    let log = serve.log_with("manifests\n");
    assert!(log.contains("1 name without a repository, so served as tags of `my-store`"), "{log}");
    let differs = format!("`quay.io/org/app:1` is another image in {} than in {}", arg(&second), arg(&store));
    assert!(log.contains(&differs), "{log}");
    let serve = Serve::start(&[arg(&store), "--repository", "team/all"]);
    assert_eq!(serve.head("/v2/team/all/manifests/latest").status, 200);
}

#[test]
fn lists_come_in_pages_with_links() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let one = image(&store, b"1");
    for n in 0..5 {
        store.tag(&one, Some(&format!("a/b:{n}"))).unwrap();
    }
    let serve = Serve::start(&[arg(&store)]);
    let list = |query: &str| {
        let answer = serve.get(&format!("/v2/a/b/tags/list{query}"));
        let tags =
            answer.json()["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect::<String>();
        (tags, answer.header("link").to_owned())
    };
    for (query, tags, link) in [
        ("", "01234", ""),
        ("?n=2", "01", r#"</v2/a/b/tags/list?last=1&n=2>; rel="next""#),
        ("?last=1&n=2", "23", r#"</v2/a/b/tags/list?last=3&n=2>; rel="next""#),
        ("?last=3&n=2", "4", ""),
        ("?last=2", "34", ""),
        ("?n=0", "", ""),
        ("?n=9223372036854775808", "01234", ""),
        ("?n=99999999999999999999999999", "01234", ""),
        ("?last=zzz", "", ""),
    ] {
        assert_eq!(list(query), (tags.to_owned(), link.to_owned()), "{query}");
    }
    let answer = serve.get("/v2/_catalog?n=100000");
    assert_eq!(answer.json(), json!({ "repositories": ["a/b"] }));
}

#[test]
fn referrers_are_listed_whatever_told_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let one = image(&store, b"1");
    store.tag(&one, Some("quay.io/a/b:1")).unwrap();
    let hex = one.digest().to_string().replace(':', "-");
    let sbom = artifact(&store, &one, "application/spdx+json", "unnamed");
    store.tag(&sbom, None).unwrap();
    let signature = image(&store, b"signature");
    store.tag(&signature, Some(&format!("{hex}.sig"))).unwrap();
    // A list as registries without the API keep it, of something that says nothing of a subject.
    let listed = image(&store, b"listed");
    store.tag(&index(&store, &[&listed]), Some(&hex)).unwrap();
    // About what is about the image.
    let about_sbom = artifact(&store, &sbom, "application/x.signature", "of the sbom");
    store.tag(&about_sbom, None).unwrap();
    let serve = Serve::start(&[arg(&store)]);

    let list = |subject: &str, query: &str| {
        let answer = serve.get(&format!("/v2/quay.io/a/b/referrers/{subject}{query}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, INDEX));
        let list = answer.json();
        assert_eq!((&list["schemaVersion"], &list["mediaType"]), (&json!(2), &json!(INDEX)));
        let mut digests: Vec<Value> = list["manifests"].as_array().unwrap().clone();
        digests.sort_by_key(|entry| entry["artifactType"].to_string());
        (digests, answer.header("oci-filters-applied").to_owned())
    };
    let (found, filters) = list(one.digest().as_ref(), "");
    let listed_entry = json!({
        "digest": listed.digest(), "size": listed.size(), "mediaType": MANIFEST,
        "artifactType": "application/vnd.oci.image.config.v1+json",
    });
    let sbom_entry = json!({
        "digest": sbom.digest(), "size": sbom.size(), "mediaType": MANIFEST,
        "artifactType": "application/spdx+json", "annotations": { "note": "unnamed" },
    });
    assert_eq!((found, filters.as_str()), (vec![sbom_entry.clone(), listed_entry], ""));
    let (found, filters) = list(one.digest().as_ref(), "?artifactType=application/spdx%2Bjson&artifactType=x");
    assert_eq!((found, filters.as_str()), (vec![sbom_entry], "artifactType"));
    assert_eq!(list(sbom.digest().as_ref(), "").0[0]["digest"], json!(about_sbom.digest()));
    assert_eq!(
        serve.head(&format!("/v2/a/b/manifests/{hex}.sig")).header("docker-content-digest"),
        signature.digest().as_ref()
    );
    let none = serve.get(&format!("/v2/not/there/referrers/{}", one.digest()));
    assert_eq!((none.status, none.json()["manifests"].clone()), (200, json!([])));
}

#[test]
fn what_others_put_into_the_layout_is_there_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = Serve::start(&[arg(&store)]);
    let one = image(&store, b"1");
    for tag in ["a/b:1", "a/b:2", "a/c:1"] {
        let path = format!("/v2/{}", tag.replace(':', "/manifests/"));
        assert_eq!(serve.get(&path).status, 404);
        store.tag(&one, Some(tag)).unwrap();
        assert_eq!(serve.get(&path).status, 200);
    }
    store.untag(&one).unwrap();
    assert_eq!(serve.get("/v2/a/b/manifests/1").status, 404);
    // Half an index.json, as a program that does not rename writes it for a moment.
    store.tag(&one, Some("a/b:1")).unwrap();
    assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
    std::fs::write(store.root().join("index.json"), "{").unwrap();
    assert_eq!(serve.get("/v2/a/b/manifests/1").status, 200);
    serve.log_with("what was there before is served");
}

#[test]
fn a_signal_ends_it_with_what_is_under_way_finished_and_the_log_has_a_line_for_each_request() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let content = vec![7; 24 << 20];
    store.tag(&image(&store, &content), Some("a/b:1")).unwrap();
    let mut serve = Serve::start(&[arg(&store), "--json"]);
    // `--json` prints an object on stdout, of which the first line is a brace.
    assert_eq!(serve.address, "{");
    serve = Serve::start(&[arg(&store)]);
    let mut stream = serve.connect();
    let path = format!("/v2/a/b/blobs/{}", Digest::sha256(&content));
    std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    serve.signal("-TERM");
    serve.log_with("SIGTERM: finishing what is under way");
    let answer = crate::server::Answer::read(&mut std::io::BufReader::new(stream), false);
    assert!(answer.status == 200 && answer.is_whole && answer.body == content);
    assert_eq!(serve.child.wait().unwrap().code(), Some(0));
    let log = serve.log_with(&format!("127.0.0.1 GET {path} 200 {} B", content.len()));
    assert!(!log.contains("given up"), "{log}");
}

#[test]
fn nodes_are_told_where_everything_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let one = image(&store, b"1");
    for name in ["quay.io/org/app:1", "docker.io/alpine:3", "localhost:5000/x:1", "org/none:1", "latest"] {
        store.tag(&one, Some(name)).unwrap();
    }
    let (nodes, authority) = (dir.path().join("nodes"), dir.path().join("ca"));
    let serve = Serve::start(&[
        arg(&store),
        "--name",
        "bastion.example:5000",
        "--tls-self-signed",
        authority.to_str().unwrap(),
        "--mirror-config",
        nodes.to_str().unwrap(),
    ]);
    serve.log_with("registries.yaml");
    let read = |name: &str| std::fs::read_to_string(nodes.join(name)).unwrap();
    let conf = read("registries.conf.d/50-haversack.conf");
    for (from, to) in [
        ("docker.io/library/alpine", "docker.io/library/alpine"),
        ("localhost:5000/x", "localhost_5000/x"),
        ("quay.io/org/app", "quay.io/org/app"),
    ] {
        let entry = format!(
            "[[registry]]\nprefix = \"{from}\"\nlocation = \"{from}\"\n\n[[registry.mirror]]\nlocation = \"bastion.example:5000/{to}\"\n"
        );
        assert!(conf.contains(&entry), "{conf}");
    }
    assert!(!conf.contains("insecure") && !conf.contains("org/none"), "{conf}");
    assert_eq!(
        read("certs.d/quay.io/hosts.toml"),
        "server = \"https://quay.io\"\n\n[host.\"https://bastion.example:5000/v2/quay.io\"]\n\
         capabilities = [\"pull\", \"resolve\"]\noverride_path = true\nca = \"/etc/containerd/certs.d/quay.io/ca.crt\"\n"
    );
    let crt = std::fs::read_to_string(authority.join("ca.crt")).unwrap();
    for name in ["containers-certs.d/bastion.example:5000/ca.crt", "certs.d/quay.io/ca.crt"] {
        assert_eq!(read(name), crt);
    }
    assert!(read("trusted-ca.yaml").contains("\n  bastion.example..5000: |\n    -----BEGIN CERTIFICATE-----\n"));
    assert!(read("install-config.yaml").contains("additionalTrustBundle: |\n  -----BEGIN CERTIFICATE-----\n"));
    let talos = "name: quay.io\nendpoints:\n  - url: https://bastion.example:5000/v2/quay.io\n    overridePath: true\nskipFallback: true\n";
    assert!(read("talos-patch.yaml").contains(talos) && read("README.txt").contains("Docker Hub only"));
    assert_eq!(read("daemon.json"), "{\n  \"registry-mirrors\": [\n    \"https://bastion.example:5000\"\n  ]\n}\n");
    assert!(!nodes.join("pull-secret.json").exists());
    let yaml = read("registries.yaml");
    assert!(yaml.contains("  \"quay.io\":\n    endpoint:\n    - \"https://bastion.example:5000\"\n    rewrite:\n      \"^(.*)$\": \"quay.io/$1\"\n"), "{yaml}");
}
