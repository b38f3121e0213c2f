//! Servers that send us, or our secrets, elsewhere, and those that never come to an end.

use std::sync::Arc;
use std::time::Duration;

use crate::Scene;
use crate::server::{Answer, Image, MANIFEST, Server};

const SECRET: &str = "hunter2-refresh";

/// The offline token of a subscriber, the refresh token of a registry's login and the secret of a client, which go to a token
/// server in the body of a request, are not repeated where it redirects to.
#[test]
fn a_secret_in_a_body_is_not_repeated_to_another_host() {
    for status in [307, 308] {
        let sink = Server::sink();
        let elsewhere = sink.url("/collect");
        let redirecting = move |_: &_| Answer::new(status, "").with("location", elsewhere.clone());
        let tokens = Server::start(redirecting);
        let scene = Scene::new();

        // A registry's refresh token.
        let realm = format!("Bearer realm=\"{}\",service=\"x\"", tokens.url("/token"));
        let registry = Server::start(move |_| Answer::new(401, "").with("www-authenticate", realm.clone()));
        let auth = format!(r#"{{"auths":{{"{}":{{"identitytoken":"{SECRET}"}}}}}}"#, registry.address);
        scene.write("auth.json", auth);
        let source = format!("docker://{}/r/i:1", registry.address);
        let copy = ["copy", &source, "oci:store:x", "--authfile=auth.json", "--src-tls-verify=false", "--retries=0"];
        assert_eq!(scene.haversack(&copy).code, 1);

        // A subscriber's offline token.
        scene.write("token", SECRET);
        let (sso, api) = (tokens.url("/token"), tokens.url("/management/v1"));
        let list = [
            "kernel",
            "list",
            "redhat:rhel-9",
            "--token-file=token",
            "--redhat-sso",
            &sso,
            "--redhat-api",
            &api,
            "--retries=0",
        ];
        let ended = scene.haversack(&list);
        assert_ne!(ended.code, 0, "{ended:#?}");

        assert!(!sink.received(SECRET), "{status}: {:#?}", sink.seen());
        assert!(!sink.received("refresh_token"), "{status}: {:#?}", sink.seen());
        // The test is about something: the server that is trusted did get it.
        assert!(tokens.seen().iter().filter(|it| String::from_utf8_lossy(&it.body).contains(SECRET)).count() >= 2);
    }
}

/// A client's secret is in a header.
#[test]
fn a_secret_in_a_header_is_not_repeated_to_another_host() {
    for status in [301, 302, 303, 307, 308] {
        let sink = Server::sink();
        let elsewhere = sink.url("/collect");
        let tokens = Server::start(move |_| Answer::new(status, "").with("location", elsewhere.clone()));
        let scene = Scene::new();
        scene.write("secret", SECRET);
        scene.write("rootfs", crate::squashfs());
        let url = tokens.url("/token");
        let ended = scene.haversack(&[
            "publish",
            "ims",
            "name",
            "--rootfs=rootfs",
            "--token-url",
            &url,
            "--oauth-client-id=me",
            "--oauth-client-secret-file=secret",
            "--ims-url",
            &tokens.url("/ims"),
            "--s3-endpoint",
            &tokens.url("/s3"),
            "--s3-bucket=b",
            "--s3-access-key=k",
            "--s3-secret-key-file=secret",
            "--retry-limit=0",
            "--retries=0",
        ]);
        assert_ne!(ended.code, 0, "{ended:#?}");
        // base64 of `me:hunter2-refresh`
        for secret in [SECRET, "bWU6aHVudGVyMi1yZWZyZXNo", "client_credentials"] {
            assert!(!sink.received(secret), "{status}: {:#?}", sink.seen());
        }
    }
}

/// What asks for something has its secrets in headers alone, and is followed elsewhere: without them.
#[test]
fn a_secret_in_the_header_of_a_question_is_left_out_elsewhere() {
    for status in [301, 302, 303, 307, 308] {
        let sink = Server::sink();
        let elsewhere = sink.url("/collect");
        let server = Server::start(move |request| {
            let has_secret =
                request.headers.iter().any(|(name, _)| name == "authorization" || name == "x-jfrog-art-api");
            match &*request.path {
                "/v2/" if !has_secret => Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
                "/v2/" => Answer::new(200, "{}"),
                _ if !has_secret => Answer::new(401, "").with("www-authenticate", "Basic realm=\"x\""),
                _ => Answer::new(status, "").with("location", elsewhere.clone()),
            }
        });
        let scene = Scene::new();
        scene.write("secret", SECRET);
        scene.write("files/x", "x");
        // base64 of `me:hunter2-refresh`
        scene.write(
            "auth.json",
            format!(r#"{{"auths":{{"{}":{{"auth":"bWU6aHVudGVyMi1yZWZyZXNo"}}}}}}"#, server.address),
        );
        let (source, url) = (format!("docker://{}/r/i:1", server.address), server.url("/artifactory"));
        for args in [
            &["inspect", &source, "--tls-verify=false", "--authfile=auth.json", "--retries=0"][..],
            &["publish", "artifactory", "files", "--url", &url, "--repo=r", "--token-file=secret", "--retries=0"],
            &["publish", "artifactory", "files", "--url", &url, "--repo=r", "--api-key-file=secret", "--retries=0"],
        ] {
            let (before, asked) = (server.seen().len(), sink.seen().len());
            let ended =
                scene.haversack(&[args, &[if args[0] == "publish" { "--retry-limit=0" } else { "-q" }]].concat());
            assert_ne!(ended.code, 0, "{ended:#?}");
            // The test is about something: who is trusted got the secret, and it was gone on elsewhere.
            let trusted = &server.seen()[before..];
            assert!(trusted.iter().any(|it| {
                ["authorization", "x-jfrog-art-api"]
                    .iter()
                    .any(|name| it.headers.iter().any(|(header, _)| header == name))
            }));
            assert!(sink.seen().len() > asked, "{status}: {args:?}: {ended:#?}");
        }
        for secret in [SECRET, "bWU6aHVudGVyMi1yZWZyZXNo"] {
            assert!(!sink.received(secret), "{status}: {:#?}", sink.seen());
        }
    }
}

/// At this rate a manifest of 4 MiB would take 24 days; no wait for the next byte is long.
#[test]
fn a_document_at_a_byte_now_and_then_is_given_up() {
    let image = Image::small();
    let server = Server::start(move |request| {
        let mut answer = image.answer(&request.path).unwrap_or(Answer::new(404, ""));
        if request.path.contains("/manifests/") {
            (answer.pause, answer.body) = (Some(Duration::from_millis(200)), vec![b' '; 1 << 20]);
        }
        answer
    });
    let scene = Scene::new();
    let source = format!("docker://{}/r/i:1", server.address);
    let copy = ["copy", &source, "oci:store:x", "--src-tls-verify=false", "--retries=0", "--timeout=1"];
    scene.haversack(&copy).refused("seconds are too slow");
    let repository = server.url("/repo");
    let slow = Server::start(move |_| Answer {
        pause: Some(Duration::from_millis(200)),
        ..Answer::new(200, vec![b' '; 1 << 20])
    });
    drop(repository);
    let list = ["kernel", "list", &format!("rpm:{}", slow.url("/")), "--retries=0", "--timeout=1"];
    scene.haversack(&list).refused("seconds are too slow");
}

#[test]
fn pages_without_an_end_are_a_limit_and_a_message() {
    let image = Image::small();
    let server = Server::start(move |request| match request.path.split_once("/tags/list") {
        Some((before, query)) => {
            let page: u64 = query.rsplit('=').next().and_then(|page| page.parse().ok()).unwrap_or(0) % 1_000_000;
            let next = format!("<{before}/tags/list?n=1000&last={}>; rel=\"next\"", page + 1);
            // A page of as many names as it takes for the limit to be near.
            let tags: Vec<String> = (0..2000).map(|tag| format!("t{page}-{tag}")).collect();
            Answer::new(200, serde_json::json!({ "name": "r/i", "tags": tags }).to_string()).with("link", next)
        }
        None => image.answer(&request.path).unwrap_or(Answer::new(404, "")),
    });
    let scene = Scene::new();
    let list = format!(
        "to = 'oci:store'\n[[images]]\nregistry = '{}'\nrepositories = ['r/i']\ntags = ['none-of-them*']\n",
        server.address
    );
    scene.write("list.toml", list);
    let ended = scene.haversack(&["sync", "list.toml", "--src-tls-verify=false", "--retries=0"]);
    ended.refused("more than 1000000 names in its list");
}

/// Referrers that refer to each other, or to themselves, as no honest digest can but a registry's answers may.
#[test]
fn referrers_that_go_round_in_circles_are_read_once() {
    let image = Arc::new(Image::small());
    let listed = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            { "mediaType": MANIFEST, "digest": image.digest(), "size": image.manifest.len(), "artifactType": "a/b" }
        ]
    });
    let server = Server::start(move |request| match request.path.contains("/referrers/") {
        true => Answer::new(200, listed.to_string()).with("content-type", "application/vnd.oci.image.index.v1+json"),
        false => image.answer(&request.path).unwrap_or(Answer::new(404, "")),
    });
    let scene = Scene::new();
    let source = format!("docker://{}/r/i:1", server.address);
    let ended = scene.haversack(&["copy", &source, "oci:store:x", "--src-tls-verify=false", "--retries=0"]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let lists = server.paths("GET").into_iter().filter(|path| path.contains("/referrers/"));
    assert_eq!((lists.count(), server.seen().len() < 50), (1, true), "{:#?}", server.seen());
}

/// The lifetime of a token is a number of a server's.
#[test]
fn a_token_that_lives_for_ever_is_a_token() {
    for lifetime in ["18446744073709551615", "1e300", "-1", "9223372036854775807"] {
        let server = Server::start(move |_| {
            Answer::new(200, format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":{lifetime}}}"#))
        });
        let scene = Scene::new();
        scene.write("secret", SECRET);
        scene.write("rootfs", crate::squashfs());
        scene.haversack(&[
            "publish",
            "ims",
            "name",
            "--rootfs=rootfs",
            "--token-url",
            &server.url("/token"),
            "--oauth-client-id=me",
            "--oauth-client-secret-file=secret",
            "--ims-url",
            &server.url("/ims"),
            "--s3-endpoint",
            &server.url("/s3"),
            "--s3-bucket=b",
            "--s3-access-key=k",
            "--s3-secret-key-file=secret",
            "--retry-limit=0",
            "--retries=0",
        ]);
        scene.haversack(&[
            "kernel",
            "list",
            "redhat:rhel-9",
            "--token-file=secret",
            "--redhat-sso",
            &server.url("/token"),
            "--redhat-api",
            &server.url("/management/v1"),
            "--retries=0",
        ]);
        assert!(server.seen().len() >= 2);
    }
}
