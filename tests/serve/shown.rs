//! What the page shows besides images: the catalog, kernels, carries and the state of things; and that its JSON is as described.

use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use haversack::digest::Digest;
use haversack::image::store::layout::canonical;
use oci_spec::image::MediaType;
use serde_json::{Value, json};

use crate::server::{Serve, arg, artifact, image, index, layout};

const IMAGE: &str = "sha256:000afa8dd9ef13fbd08c62dd528463ebcfba012d6e829dbd1f5c5a1a0d765fed";
pub(crate) const UNAME: &str = "5.14.0-427.el9.x86_64";
pub(crate) const HOSTILE: &str = "<script>alert(1)</script>\u{202e}\"'";

/// A snapshot with one of each kind.
pub(crate) fn catalog(dir: &Path) -> String {
    let data = dir.join("tree/data");
    for kind in ["containers", "operators", "helm"] {
        std::fs::create_dir_all(data.join(kind)).unwrap();
    }
    let write = |name: &str, value: &str| std::fs::write(data.join(name), value).unwrap();
    let repositories =
        json!([{ "registry": "registry.connect.redhat.com", "repository": "org/app", "tags": [{ "name": "0.7" }] }]);
    let one = json!({ "_id": "5f05", "architecture": HOSTILE, "certified": true, "repositories": repositories });
    write("containers/containers.db", &json!({ IMAGE: one }).to_string());
    let bundle = json!({ "channel_name": "beta", "csv_name": "some-operator.v0.3.6", "ocp_version": "4.5" });
    write("operators/operator_catalog_page_0_500.db", &json!({ "data": [bundle] }).to_string());
    write(
        "helm/helm.db",
        "apiVersion: v1\nentries:\n  c:\n  - {name: some-chart, version: 1.2.0, kubeVersion: '>=1.20', \
         annotations: {charts.openshift.io/providerType: partner}}\ngenerated: '2026-01-01T00:00:00Z'\n",
    );
    write("archive.json", r#"{"containers":1,"operators":1,"charts":1}"#);
    let path = dir.join("catalog.db").display().to_string();
    let tree = dir.join("tree").display().to_string();
    let imported = Command::new(cargo_bin!("haversack")).args(["catalog", "import", &tree, "--db", &path]).output();
    assert!(imported.as_ref().unwrap().status.success(), "{imported:?}");
    path
}

pub(crate) fn kernels(dir: &Path) -> String {
    let package = json!({
        "role": "devel", "name": "kernel-devel", "version": "5.14.0-427.el9", "architecture": "x86_64", "format": "rpm",
        "location": HOSTILE, "size": 2_097_152, "sha256": Digest::sha256("devel"),
    });
    let kernel = |uname: &str| {
        json!({
            "distribution": "el", "uname": uname, "machine": "x86_64", "flavour": "default", "build": "5.14.0-427.el9",
            "packages": [package], "missing": ["gcc-12"],
        })
    };
    let kernels: Vec<Value> = [UNAME, "5.14.0-428.el9.x86_64"].map(kernel).to_vec();
    let set = json!({ "format": "haversack.kernels", "version": 2, "kernels": kernels });
    let path = dir.join("kernels.json");
    std::fs::write(&path, set.to_string()).unwrap();
    path.display().to_string()
}

fn text(serve: &Serve, path: &str) -> String {
    let answer = serve.get(path);
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(answer.status, 200, "{path}: {text}");
    assert!(!text.contains("<script") && !text.contains('\u{202e}') && !text.contains("style=\""), "{path}: {text}");
    text
}

#[test]
fn the_catalog_answers_whether_something_is_certified_and_by_which_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let serve = Serve::start(&["--catalog", &catalog(dir.path()), arg(&store)]);
    let page = text(&serve, "/");
    assert!(page.contains(r#"<a href="/catalog">"#) && !page.contains(r#"<a href="/kernels">"#), "{page}");
    let page = text(&serve, "/catalog");
    assert!(page.contains("just now") && page.contains("<td>tree</td>") && !page.contains("/tree"), "{page}");
    for (query, expected) in [
        (format!("q={IMAGE}"), &["✓ Certified", "registry.connect.redhat.com/org/app: 0.7", "&#60;script&#62;"][..]),
        ("q=registry.connect.redhat.com/org/app:0.7".to_owned(), &["✓ Certified", IMAGE]),
        ("q=docker://registry.connect.redhat.com/org/app:0.8".to_owned(), &["✗ Not certified", "org/app:0.7"]),
        ("q=some-operator.v0.3.6&ocp=v4.5.9".to_owned(), &["✓ Certified", "beta", "for OpenShift 4.5"]),
        ("q=some-operator.v0.3.6&ocp=4.6".to_owned(), &["✗ Not certified", "some-operator.v0.3.6"]),
        ("q=some-operator.v0.3.6&ocp=new".to_owned(), &["? No answer", "is not a version of OpenShift"]),
        ("q=some-chart+1.2.0&kube=v1.29.4".to_owned(), &["✓ Certified", "partner"]),
        ("q=some-chart+1.2.0&kube=v1.19.0".to_owned(), &["✗ Not certified", "it asks for Kubernetes"]),
        ("q=some-chart+1.2.0&kube=%3Cx%3E".to_owned(), &["? No answer"]),
        ("q=chart".to_owned(), &[r#"<a href="/catalog?q=some-chart+1.2.0&#38;ocp=&#38;kube=">some-chart 1.2.0</a>"#]),
        ("q=nothing+of+this+kind".to_owned(), &["<p>None.</p>"]),
    ] {
        let page = text(&serve, &format!("/catalog?{query}"));
        for expected in expected {
            assert!(page.contains(expected), "{query}: {expected}: {page}");
        }
    }
    let found = serve.get(&format!("/api/v1/catalog?q={IMAGE}")).json();
    assert_eq!((&found["answers"][0]["certified"], &found["answers"][0]["row"]["id"]), (&json!(true), &json!("5f05")));
    assert_eq!(serve.get(&format!("/catalog?q={}", "a".repeat(300))).status, 414);
    assert_eq!(serve.get("/kernels").status, 404);
    std::fs::remove_file(dir.path().join("catalog.db")).unwrap();
    assert_eq!((serve.get("/catalog?q=x").status, serve.get("/").status), (503, 200));
}

#[test]
fn what_uname_prints_leads_to_packages_and_to_toolkits_that_fit() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    for (name, label) in
        [("a/driver-toolkit:1", UNAME), ("a/driver-toolkit:2", "5.14.0-428.el9.x86_64"), ("a/other:1", UNAME)]
    {
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
            "config": { "Labels": { "kernel-version": label } },
        });
        let config = store.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [] });
        let image = store.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
        store.tag(&image, Some(name)).unwrap();
    }
    store.tag(&image(&store, b"x"), Some("a/other:5.14.0-427.el9")).unwrap();
    let serve = Serve::start(&["--kernels", &kernels(dir.path()), "--name", "bastion:5000", arg(&store)]);
    let exact = text(&serve, &format!("/kernels?q={UNAME}"));
    for expected in [
        "2.00 MiB",
        Digest::sha256("devel").hex(),
        "gcc-12",
        "podman pull --tls-verify=false bastion:5000/a/driver-toolkit@",
        "driver-toolkit:1",
        "&#60;script",
    ] {
        assert!(exact.contains(expected), "{expected}: {exact}");
    }
    assert!(!exact.contains("driver-toolkit:2") && !exact.contains("<h3>5.14.0-428"), "{exact}");
    let part = serve.get("/api/v1/kernels?q=5.14.0").json();
    assert_eq!((part["kernels"].as_array().unwrap().len(), &part["toolkits"]), (2, &json!([])));
    // The file changes while it is shown.
    std::fs::write(dir.path().join("kernels.json"), r#"{"format":"haversack.kernels","version":2,"kernels":[]}"#)
        .unwrap();
    assert!(text(&serve, "/kernels").contains("0 kernels."));
    std::fs::write(dir.path().join("kernels.json"), "{").unwrap();
    assert_eq!(serve.get("/kernels").status, 503);
}

#[test]
fn carries_and_the_state_of_things_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    store.tag(&image(&store, b"layer"), Some("quay.io/org/app:1")).unwrap();
    store.tag(&image(&store, b"bad"), Some("quay.io/org/bad:1")).unwrap();
    let receipts = store.root().join(".haversack/receipts");
    std::fs::create_dir_all(&receipts).unwrap();
    let receipt = json!({
        "carry": "c1", "site": HOSTILE, "state": Digest::sha256("s"), "unpacked": "2026-01-02T03:04:05Z", "code": "ABC",
    });
    std::fs::write(receipts.join("c1.json"), receipt.to_string()).unwrap();
    std::fs::write(receipts.join("c2.json"), "{").unwrap();
    std::fs::write(store.blob_path(&Digest::sha256("layer")), "LAYER").unwrap();
    let manifest = image(&store, b"bad").digest().to_string().parse().unwrap();
    std::fs::write(store.blob_path(&manifest), "{}").unwrap();
    let serve = Serve::start(&[arg(&store)]);
    serve.get(&format!("/v2/quay.io/org/app/blobs/{}", Digest::sha256("layer")));
    let page = text(&serve, "/carries");
    for expected in ["<code>c1</code>", "2026-01-02T03:04:05Z", "days ago", "&#60;script", "✗ 1 receipt cannot be read"]
    {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    let page = text(&serve, "/state");
    for expected in [
        Digest::sha256("layer").as_str(),
        r#"<a href="/images/quay.io/org/app">"#,
        "damaged: its bytes have another digest",
        manifest.as_str(),
        "For reading only.",
        " free of ",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

/// Follows `$ref`, and says what of a value is not as a schema has it.
fn differs(schemas: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    if let Some(name) = schema["$ref"].as_str() {
        return differs(schemas, &schemas[name.rsplit('/').next().unwrap()], value, at);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = &schema["type"];
    if allowed != kind && !allowed.as_array().is_some_and(|kinds| kinds.contains(&json!(kind))) {
        return vec![format!("{at}: {kind}, expected {allowed}")];
    }
    let mut found = Vec::new();
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(differs(schemas, &schema["items"], item, &format!("{at}[{n}]")));
    }
    if let Some(properties) = schema["properties"].as_object() {
        let missing =
            schema["required"].as_array().unwrap().iter().filter(|key| value.get(key.as_str().unwrap()).is_none());
        found.extend(missing.map(|key| format!("{at}: no {key}")));
        for (key, value) in value.as_object().unwrap() {
            match properties.get(key) {
                Some(schema) => found.extend(differs(schemas, schema, value, &format!("{at}.{key}"))),
                None => found.push(format!("{at}: {key} is not described")),
            }
        }
    }
    found
}

#[test]
fn every_answer_is_as_the_description_of_the_interface_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let one = index(&store, &[&image(&store, b"layer"), &image(&store, b"other")]);
    store.tag(&one, Some("quay.io/org/app:1")).unwrap();
    let about = artifact(&store, &one, "a/b", "");
    store.tag(&about, None).unwrap();
    let by_digest = format!("/api/v1/repositories/quay.io/org/app@{}", about.digest());
    let receipts = store.root().join(".haversack/receipts");
    std::fs::create_dir_all(&receipts).unwrap();
    let receipt =
        json!({ "carry": "c1", "state": Digest::sha256("s"), "unpacked": "2026-01-02T03:04:05Z", "code": "ABC" });
    std::fs::write(receipts.join("c1.json"), receipt.to_string()).unwrap();
    let (catalog, kernels) = (catalog(dir.path()), kernels(dir.path()));
    let layer = crate::found::tar(&[("a", b"content"), ("b -> a", b"")]);
    let files = image(&store, &layer);
    store.tag(&files, Some("quay.io/org/files:1")).unwrap();
    let files = format!("/api/v1/repositories/quay.io/org/files@{}/layers/{}", files.digest(), Digest::sha256(&layer));
    let serve = Serve::start(&["--catalog", &catalog, "--kernels", &kernels, "--layer-files", arg(&store)]);
    let described = serve.get("/api/v1/openapi.json").json();
    let schemas = &described["components"]["schemas"];
    let asked = [
        ("/api/v1/repositories", vec!["/api/v1/repositories", "/api/v1/repositories?q=none"]),
        ("/api/v1/repositories/{name}", vec!["/api/v1/repositories/quay.io/org/app"]),
        ("/api/v1/repositories/{name}@{digest}", vec![by_digest.as_str(), "/api/v1/repositories/quay.io/org/app:1"]),
        ("/api/v1/repositories/{name}@{digest}/layers/{layer}", vec![&files]),
        (
            "/api/v1/catalog",
            vec!["/api/v1/catalog?q=some-chart+1.2.0", "/api/v1/catalog?q=other.v1&ocp=4.5", "/api/v1/catalog"],
        ),
        ("/api/v1/kernels", vec!["/api/v1/kernels", "/api/v1/kernels?q=5.14"]),
        ("/api/v1/carries", vec!["/api/v1/carries"]),
        ("/api/v1/state", vec!["/api/v1/state"]),
    ];
    let paths: Vec<&String> = described["paths"].as_object().unwrap().keys().collect();
    let mut known: Vec<&str> = asked.iter().map(|(path, _)| *path).collect();
    known.sort_unstable();
    assert_eq!(paths, known);
    for (path, examples) in &asked {
        let schema = &described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        for example in examples {
            let answer = serve.get(example);
            assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"), "{example}");
            assert_eq!(differs(schemas, schema, &answer.json(), example), Vec::<String>::new());
        }
    }
    let refused = serve.get("/api/v1/repositories/none");
    assert_eq!(refused.status, 404);
    assert_eq!(schemas["Errors"]["required"], json!(["errors"]));
}
