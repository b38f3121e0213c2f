//! `build --skip-existing`: when nothing is built, and when all the same something is.

use axum::http::StatusCode;

use crate::docker_registry::DockerRegistry;
use crate::{DEFINITION, built, definition, done, haversack, refused};

#[test]
fn a_layout_that_holds_the_image_is_left_alone_until_something_changes() {
    let dir = definition(DEFINITION);
    let args = ["def", "--output", "oci:store", "--skip-existing"];
    let first = built(dir.path(), &args);
    assert_eq!(first["skipped"], serde_json::Value::Null);
    let state = || std::fs::metadata(dir.path().join("store/index.json")).unwrap().modified().unwrap();
    let before = state();
    let expected = serde_json::json!({
        "name": "tools", "skipped": true, "fingerprint": first["fingerprint"],
        "output": ["oci:store:tools:1.2", "oci:store:tools:latest"],
    });
    assert_eq!(built(dir.path(), &args), expected);
    assert_eq!(state(), before);
    let said = done(&haversack(dir.path(), &[&["build"], &args[..]].concat()));
    let fingerprint = first["fingerprint"].as_str().unwrap();
    assert_eq!(
        said,
        format!(
            "oci:store:tools:1.2\noci:store:tools:latest\n  nothing built: it is there, made of the same inputs ({fingerprint})\n"
        )
    );
    std::fs::write(dir.path().join("def/root/sub/hello"), "hallo\n").unwrap();
    let third = built(dir.path(), &args);
    assert_ne!((&third["digest"], &third["fingerprint"]), (&first["digest"], &first["fingerprint"]));
    assert_eq!(built(dir.path(), &args)["skipped"], true);
    // Neither is an archive emptied because nothing went into it.
    let archive = ["def", "--output", "oci-archive:x.tar", "--skip-existing"];
    built(dir.path(), &archive);
    assert_eq!(built(dir.path(), &archive)["skipped"], true);
    done(&haversack(dir.path(), &["verify", "oci-archive:x.tar"]));
}

#[test]
#[ignore = "needs docker-registry; scripts/test.sh runs it where it is"]
fn a_registry_is_asked_and_a_moved_base_or_a_missing_tag_builds_again() {
    let registry = DockerRegistry::start();
    let dir = definition(DEFINITION);
    let base = registry.at("base:1");
    built(dir.path(), &["def", "--push", &base, "--dest-tls-verify=false"]);
    std::fs::create_dir(dir.path().join("over")).unwrap();
    let over = format!("name = 'over'\ntags = ['a', 'b']\nbase = '{base}'\n[[layers]]\nremove = ['/etc/site.conf']\n");
    std::fs::write(dir.path().join("over/image.toml"), over).unwrap();
    let to = registry.at("over");
    let args = ["over", "--push", &to, "--skip-existing", "--src-tls-verify=false", "--dest-tls-verify=false"];
    let first = built(dir.path(), &args);
    let skipped = built(dir.path(), &args);
    assert_eq!((&skipped["skipped"], &skipped["fingerprint"]), (&true.into(), &first["fingerprint"]));
    assert_eq!(skipped["output"], serde_json::json!([registry.at("over:a"), registry.at("over:b")]));

    // The tag of the base now leads to another image.
    std::fs::write(dir.path().join("def/root/sub/hello"), "hallo\n").unwrap();
    built(dir.path(), &["def", "--push", &base, "--dest-tls-verify=false"]);
    let moved = built(dir.path(), &args);
    assert_ne!(moved["digest"], first["digest"]);
    assert_eq!(built(dir.path(), &args)["skipped"], true);

    let tag = registry.data().join("docker/registry/v2/repositories/over/_manifests/tags/b");
    std::fs::remove_dir_all(&tag).unwrap();
    assert_eq!(built(dir.path(), &args)["digest"], moved["digest"]);
    assert!(tag.is_dir());
}

#[test]
fn a_registry_that_refuses_or_is_in_trouble_is_an_error_and_not_an_absence() {
    for (status, expected) in [
        (StatusCode::UNAUTHORIZED, "access denied with the available credentials"),
        (StatusCode::FORBIDDEN, "access denied with the available credentials"),
        (StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error"),
        (StatusCode::TOO_MANY_REQUESTS, "429 Too Many Requests"),
    ] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move |request: axum::extract::Request| async move {
            if request.uri().path() == "/v2/" { StatusCode::OK } else { status }
        };
        runtime.spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        let dir = definition(DEFINITION);
        let to = format!("docker://{address}/x:1");
        let args = ["build", "def", "--push", &to, "--skip-existing", "--dest-tls-verify=false", "--retries=0"];
        let (code, text) = refused(&haversack(dir.path(), &args));
        assert!(code == 1 && text.contains(expected), "{text}");
    }
}
