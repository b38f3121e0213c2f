//! References as people write them, there and back.

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn every_transport_round_trips() {
    for text in [
        "docker://registry.example/a/b:1.2".to_owned(),
        "docker://localhost:5000/a__b/c-d.e".to_owned(),
        "docker://localhost/a".to_owned(),
        "docker://[::1]:5000/a:latest".to_owned(),
        format!("docker://quay.io/a/b@{DIGEST}"),
        format!("docker://quay.io/a/b:1.2@{DIGEST}"),
        "oci:/srv/store".to_owned(),
        "oci:store:localhost/x:latest".to_owned(),
        "oci-archive:x.tar:v1".to_owned(),
        "docker-archive:x.tar:localhost/x:latest".to_owned(),
        "docker-archive:x.tar:a:1,localhost/b:2".to_owned(),
        "docker-archive:x.tar:@1".to_owned(),
        format!("oci:store:@{DIGEST}"),
        "dir:/tmp/x".to_owned(),
        "dir:mirror/quay.io/a:1.2".to_owned(),
    ] {
        assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
    }
}

#[test]
fn a_path_ends_at_the_first_colon_and_the_rest_is_the_name() {
    let expected = ImageRef::Oci { path: "store".into(), name: Some("localhost:5000/x:latest".into()) };
    assert_eq!("oci:store:localhost:5000/x:latest".parse(), Ok(expected));
    assert_eq!("dir:a/b:1".parse(), Ok(ImageRef::Dir { path: "a/b:1".into() }));
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_reason() {
    let digest = |text: &str, digits: &str| Error::Digest {
        text: text.to_owned(),
        source: digits.parse::<Digest>().unwrap_err(),
    };
    let upper = DIGEST.to_uppercase().replace("SHA", "sha");
    let with_upper = format!("quay.io/a@{upper}");
    let bad_tag = format!("quay.io/a:.1@{DIGEST}");
    for (text, error) in [
        ("alpine", Error::Transport("alpine".into())),
        ("containers-storage:x", Error::Transport("containers-storage:x".into())),
        ("docker://alpine", Error::ShortName("alpine".into())),
        ("docker://library/alpine:3", Error::ShortName("library/alpine:3".into())),
        ("docker://quay.io/Upper/case", Error::Repository("quay.io/Upper/case".into())),
        ("docker://quay.io/../a", Error::Repository("quay.io/../a".into())),
        ("docker://alpine:3.20", Error::ShortName("alpine:3.20".into())),
        ("docker://alpine:42", Error::ShortName("alpine:42".into())),
        ("docker://alpine:latest", Error::ShortName("alpine:latest".into())),
        ("docker://alpine/", Error::ShortName("alpine/".into())),
        ("docker://quay.io", Error::NoRepository("quay.io".into())),
        ("docker://quay.io/", Error::NoRepository("quay.io".into())),
        ("docker://localhost", Error::NoRepository("localhost".into())),
        ("docker://10.0.0.1:80/", Error::NoRepository("10.0.0.1:80".into())),
        ("docker://bastion:5000", Error::NoRepository("bastion:5000".into())),
        ("docker://quay.io/a:", Error::Tag("quay.io/a:".into())),
        ("docker://quay.io/a:.x", Error::Tag("quay.io/a:.x".into())),
        (&format!("docker://{bad_tag}"), Error::Tag(bad_tag)),
        (&format!("docker://{with_upper}"), digest(&with_upper, &upper)),
        ("docker://quay.io/a@md5:00", digest("quay.io/a@md5:00", "md5:00")),
        ("oci:", Error::NoPath("oci:".into())),
        ("oci::x", Error::NoPath("oci::x".into())),
        ("oci:a:", Error::Name("oci:a:".into())),
        ("oci:a:b c", Error::Name("oci:a:b c".into())),
        ("oci:a:b,c", Error::Name("oci:a:b,c".into())),
        ("docker-archive:a:b,", Error::Name("docker-archive:a:b,".into())),
        ("oci:a:@x", Error::Name("oci:a:@x".into())),
    ] {
        assert_eq!(text.parse::<ImageRef>().unwrap_err(), error, "{text}");
    }
}

#[test]
fn names_from_outside_round_trip_or_are_refused() {
    for (text, is_repository, is_tag) in [
        ("a", true, true),
        ("a/b-c/d__e.f", true, false),
        ("1.2_x-Y", false, true),
        ("", false, false),
        ("a/", false, false),
        ("a//b", false, false),
        ("../a", false, false),
        ("..", false, false),
        (r"..\..\victim\app\manifests\latest", false, false),
        ("v1\n    - evil.example/x", false, false),
        ("a\"]", false, false),
        ("a%2e%2e", false, false),
        ("a?b", false, false),
        ("\u{1b}[2J", false, false),
    ] {
        assert_eq!(
            text.parse::<RepositoryName>().ok().map(String::from),
            is_repository.then(|| text.to_owned()),
            "{text}"
        );
        assert_eq!(text.parse::<Tag>().ok().map(String::from), is_tag.then(|| text.to_owned()), "{text}");
    }
    assert!("a".repeat(255).parse::<RepositoryName>().is_ok() && "a".repeat(256).parse::<RepositoryName>().is_err());
    assert!("a".repeat(128).parse::<Tag>().is_ok() && "a".repeat(129).parse::<Tag>().is_err());
}

#[test]
fn what_goes_into_a_url_stays_below_its_base() {
    let base: Url = "https://reg.example/v2/?x=1".parse().unwrap();
    for (parts, expected) in [
        (&["a", "manifests", "1.0"][..], Some("https://reg.example/v2/a/manifests/1.0")),
        (&["a", r"..\..\b"], Some("https://reg.example/v2/a/..%5C..%5Cb")),
        (&["a/../../b", "c?d#e%2f"], Some("https://reg.example/v2/a%2F..%2F..%2Fb/c%3Fd%23e%252f")),
        (&["a", ".."], None),
        (&["a", "."], None),
        (&["", "a"], None),
    ] {
        let url = url_below(&base, parts.iter().copied()).ok().map(|url| url.to_string());
        assert_eq!(url.as_deref(), expected, "{parts:?}");
    }
}
