//! The page at `/` and its JSON.

use haversack::digest::Digest;
use haversack::image::store::layout::canonical;
use oci_spec::image::MediaType;
use serde_json::json;

use crate::server::{Serve, arg, artifact, image, index, layout};

const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[test]
fn the_page_says_what_is_here_and_shows_what_images_say_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let hostile = "<script>alert(1)</script>\u{202e}\"'";
    let config = json!({
        "architecture": "amd64", "os": hostile, "created": "2026-01-02T03:04:05Z",
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let config = store.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let layer = store.write_blob(MediaType::ImageLayer, &vec![1; 3 << 20]).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer],
    });
    let one = store.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
    let list = index(&store, &[&one, &image(&store, b"other")]);
    store.tag(&list, Some("quay.io/org/app:1.2")).unwrap();
    store.tag(&artifact(&store, &list, hostile, ""), None).unwrap();
    let lacks = image(&store, b"lacks this");
    store.tag(&lacks, Some("quay.io/org/app:lacks")).unwrap();
    std::fs::remove_file(store.blob_path(&haversack::digest::Digest::sha256(b"lacks this"))).unwrap();
    let serve = Serve::start(&[arg(&store)]);

    let text = |path: &str| {
        let answer = serve.get(path);
        assert_eq!(answer.status, 200, "{path}");
        for (name, value) in [
            ("content-security-policy", POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
        assert_eq!(
            (serve.head(path).status, serve.head(path).header("content-length")),
            (200, answer.header("content-length"))
        );
        String::from_utf8(answer.body).unwrap()
    };
    let first = text("/");
    assert!(first.contains(r#"<a href="/images/quay.io/org/app">quay.io/org/app</a></th><td>2</td>"#), "{first}");
    assert!(first.contains("<p>1 repository, 2 tags, "), "{first}");
    let page = text("/images/quay.io/org/app");
    for expected in [
        "&#60;script&#62;alert(1)&#60;/script&#62;\\u{202e}",
        "2026-01-02T03:04:05Z",
        "3.00 MiB",
        "linux/amd64",
        "✓ complete",
        "✗ incomplete, not served",
        "not verified",
        &format!("podman pull --tls-verify=false {}/quay.io/org/app:1.2", serve.address),
        list.digest().as_ref(),
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    for text in [&first, &page, &text("/?q=%3Cscript%3E%22")] {
        // No script, no style in it, nothing from elsewhere.
        for never in ["<script", "style=\"", "http://", "https://", "\u{202e}", "onerror"] {
            assert!(!text.contains(never), "{never}: {text}");
        }
    }
    assert!(text("/style.css").contains("color-scheme: light dark"));
    assert_eq!(serve.get("/images/none").status, 404);
    assert_eq!(serve.get("/images/..%2f..%2fetc").status, 404);
    let found: serde_json::Value = serde_json::from_str(&text("/api/v1/repositories/quay.io/org/app")).unwrap();
    assert_eq!(found["tags"][0]["digest"], json!(list.digest()));
    assert!(found["tags"][1]["lacking"][0].as_str().unwrap().ends_with(" is not there"));
}

#[test]
fn long_lists_come_in_pages_and_names_are_searched() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let one = image(&store, b"1");
    for n in 0..120 {
        store.tag(&one, Some(&format!("quay.io/a/r{n:03}:1"))).unwrap();
        store.tag(&one, Some(&format!("quay.io/a/tags:{n:03}"))).unwrap();
    }
    let serve = Serve::start(&[arg(&store)]);
    for (path, rows, next) in [
        ("/api/v1/repositories", 100, Some("last=quay.io%2Fa%2Fr099")),
        ("/api/v1/repositories?last=quay.io%2Fa%2Fr099", 21, None),
        ("/api/v1/repositories?q=R11", 10, None),
        ("/api/v1/repositories?q=%25%27", 0, None),
    ] {
        let found = serve.get(path).json();
        assert_eq!((found["repositories"].as_array().unwrap().len(), found["next"].as_str()), (rows, next), "{path}");
    }
    let tags = serve.get("/api/v1/repositories/quay.io/a/tags").json();
    assert_eq!((tags["tags"].as_array().unwrap().len(), &tags["next"]), (100, &json!("last=099")));
    let text = String::from_utf8(serve.get("/images/quay.io/a/tags").body).unwrap();
    assert!(text.contains(r#"<a rel="next" href="/images/quay.io/a/tags?last=099">"#), "{text}");
}

#[test]
fn an_image_shows_what_it_is_made_of_what_it_shares_and_what_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let hostile = "<script>alert(1)</script>\u{202e}\"'";
    let made = |own: &[u8], architecture: &str| {
        let config = json!({
            "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
            "rootfs": { "type": "layers", "diff_ids": [] }, "history": [{ "created_by": hostile }, { "comment": "two" }],
            "config": { "Labels": { "title": hostile } },
        });
        let config = store.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
        let base = store.write_blob(MediaType::ImageLayer, &vec![1; 3 << 20]).unwrap();
        let own = store.write_blob(MediaType::ImageLayer, own).unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [base, own],
        });
        store.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap()
    };
    let (amd64, arm64) = (made(&vec![2; 1 << 20], "amd64"), made(&vec![3; 2 << 20], "arm64"));
    let list = index(&store, &[&amd64, &arm64]);
    store.tag(&list, Some("quay.io/org/app:1.2")).unwrap();
    store.tag(&amd64, Some("quay.io/org/app:amd64")).unwrap();
    let about = artifact(&store, &list, hostile, "");
    store.tag(&about, None).unwrap();
    let serve = Serve::start(&[arg(&store), "--name", "bastion.example:5000"]);
    let has = |path: &str, all: &[&str]| {
        let answer = serve.get(path);
        assert_eq!((answer.status, answer.header("content-security-policy")), (200, POLICY), "{path}");
        let text = String::from_utf8(answer.body).unwrap();
        for expected in all {
            assert!(text.contains(expected), "{path}: {expected}: {text}");
        }
        for never in ["<script", "style=\"", "http://", "https://", "\u{202e}"] {
            assert!(!text.contains(never), "{path}: {never}: {text}");
        }
    };
    let digest = Digest::sha256(vec![1; 3 << 20]);
    let manifest = format!("<a href=\"/images/quay.io/org/app@{}\">", amd64.digest());
    let image_words = "9.00 MiB in 2 images, 6.00 MiB on the disk: 33 % is shared";
    let at_tag = "podman pull --tls-verify=false bastion.example:5000/quay.io/org/app:1.2";
    let at_digest = format!("--image=bastion.example:5000/quay.io/org/app@{}", list.digest());
    let list_page =
        ["linux/arm64", &manifest, image_words, at_tag, &at_digest, "Not verified", "role=\"img\"", digest.as_str()];
    has("/images/quay.io/org/app:1.2", &list_page);
    let shown = [
        "Labels",
        "&#60;script&#62;",
        "<li><code>two</code></li>",
        "1 other images here",
        "no other image",
        "<dd>amd64</dd>",
    ];
    has(&format!("/images/quay.io/org/app@{}", amd64.digest()), &shown);
    has(&format!("/images/quay.io/org/app@{}", about.digest()), &["oras pull --plain-http", list.digest().as_ref()]);
    // The list's two, and the one that has a tag of its own is the same again.
    has("/images/quay.io/org/app", &["13.00 MiB in 3 images, 6.00 MiB on the disk: 53 % is shared", "1.2 linux/amd64"]);
    for gone in ["app:none", "app@sha256:00", &format!("app@{digest}"), "none:1"] {
        assert_eq!(serve.get(&format!("/images/quay.io/org/{gone}")).status, 404, "{gone}");
    }
}

#[test]
fn nodes_fetch_the_files_that_they_need_from_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"1"), Some("quay.io/org/app:1")).unwrap();
    let serve = Serve::start(&[arg(&store)]);
    let text = |path: &str| String::from_utf8(serve.get(path).body).unwrap();
    let page = text("/nodes");
    assert!(
        page.contains("<a href=\"/nodes/registries.conf.d/50-haversack.conf\">") && page.contains("talosctl"),
        "{page}"
    );
    let conf = text("/nodes/registries.conf.d/50-haversack.conf");
    assert!(conf.contains(&format!("location = \"{}/quay.io/org/app\"\ninsecure = true", serve.address)), "{conf}");
    assert_eq!(
        text("/nodes/daemon.json"),
        format!("{{\n  \"insecure-registries\": [\n    \"{}\"\n  ]\n}}\n", serve.address)
    );
    assert_eq!(serve.get("/nodes/none").status, 404);
    let answer = serve.raw(b"GET /nodes HTTP/1.1\r\nHost: a\"b\r\nConnection: close\r\n\r\n", false);
    assert!([400, 403, 421].contains(&answer.status), "{answer:?}");
}
