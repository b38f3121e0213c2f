//! Lists that are understood, and those that are refused.

use super::*;

fn parse(text: &str) -> Result<List, String> {
    List::parse(Path::new("x.toml"), text).map_err(|error| match error {
        Error::Parse { source, .. } => source.message().to_owned(),
        other => other.to_string(),
    })
}

#[test]
fn images_keep_their_path_below_the_target_and_their_name_in_a_layout() {
    let list = parse(
        "to = 'docker://m:5000/a/b/'\n[[images]]\nregistry = 'quay.io'\nrepositories = ['o/r']\ntags = ['*']\n\
         [[images]]\nregistry = 'quay.io'\nrepositories = ['o/r']\ntags = ['*']\nto = 'docker://m:5000'\n\
         [[images]]\nregistry = 'quay.io'\nrepositories = ['o/r']\ntags = ['*']\nto = 'oci:store'\n\
         [[images]]\nregistry = 'quay.io'\nrepositories = ['o/r']\ntags = ['*']\nas = 'n'\n",
    )
    .unwrap();
    let image: Remote = "quay.io/o/r:1".parse().unwrap();
    let places: Vec<_> = list
        .images
        .iter()
        .map(|entry| list.way(entry, ImageRef::Docker(image.clone()), &image).destination.to_string())
        .collect();
    let expected =
        ["docker://m:5000/a/b/o/r:1", "docker://m:5000/o/r:1", "oci:store:quay.io/o/r:1", "docker://m:5000/a/b/n:1"];
    assert_eq!(places, expected);
    assert_eq!(list.stores(), ["oci:store".parse().unwrap()]);
}

#[test]
fn what_cannot_be_meant_is_refused_with_the_reason() {
    let head = "to = 'oci:x'\n[[images]]\n";
    for (text, problem) in [
        ("to = 'oci:x'\n", "x.toml: no [[images]] in it"),
        (
            &format!(
                "[registries.'q.io']\nparallel = 0\n{}",
                "[[images]]\nto = 'oci:x'\nregistry = 'q.io'\nrepositories = ['a']\ntags = ['1']"
            ),
            "x.toml: registries: `parallel` is at least 1",
        ),
        (
            "[[images]]\nsource = 'docker://q.io/a'\n",
            "x.toml: unknown key `images[0].source`; known ones are registry, repositories, tags, semver, short-versions, digests, \
             from, names, platforms, referrers, to, as",
        ),
        ("too = 'oci:x'\n", "x.toml: unknown key `too`; the nearest known one is `to`"),
        (
            &format!("{head}registy = 'q.io'"),
            "x.toml: unknown key `images[0].registy`; the nearest known one is `registry`",
        ),
        (
            "[registries.'q.io']\ntls = true",
            "x.toml: unknown key `registries.\"q.io\".tls`; the nearest known one is `tls-verify`",
        ),
        ("[[images]]\nregistry = 'q.io'", "x.toml: images[0]: no `to`, here or at the top"),
        (&format!("{head}tags = ['1']"), "x.toml: images[0]: give either `registry` or `from`"),
        (
            &format!("{head}registry = 'alpine'"),
            "x.toml: images[0]: registry: `alpine` is no HOST or HOST:PORT with a dot or a port in it",
        ),
        (
            &format!("{head}registry = 'q.io'\ntags = ['1']"),
            "x.toml: images[0]: no `repositories`; all that the registry lists are \"**\"",
        ),
        (
            &format!("{head}registry = 'q.io'\nrepositories = ['a']"),
            "x.toml: images[0]: none of `tags`, `semver` and `digests`; all tags are \"*\"",
        ),
        (
            &format!("{head}registry = 'q.io'\nrepositories = ['A']\ntags = ['1']"),
            "x.toml: images[0]: repositories: `A` is no repository's path",
        ),
        (
            &format!("{head}registry = 'q.io'\nrepositories = ['a', 'b']\ntags = ['1']\nas = 'c'"),
            "x.toml: images[0]: as: only with one repository that is no pattern",
        ),
        (
            &format!("{head}from = 'docker://q.io/a'"),
            "x.toml: images[0]: from: a registry is given by `registry`, `repositories` and `tags`",
        ),
        (&format!("{head}from = 'oci:a:b'"), "x.toml: images[0]: from: which images is said by `names`"),
        (&format!("{head}semver = '>>1'"), "`>>1`: unexpected character '>' while parsing major version number"),
        (&format!("{head}tags = ['[']"), "`[`: Pattern syntax error near position 0: invalid range pattern"),
        (
            &format!("{head}digests = ['sha256:AB']"),
            "`sha256:AB`: expected 64 lower-case hexadecimal digits after the colon",
        ),
        ("to = 'docker://m:5000/a:1'\n", "`docker://m:5000/a:1`: repositories and tags are added to it"),
        ("to = 'dir:x'\n", "`dir:x`: holds one image only"),
    ] {
        assert_eq!(parse(text).unwrap_err(), problem, "{text}");
    }
}

#[test]
fn patterns_stop_at_slashes_unless_they_are_doubled() {
    #[derive(Deserialize)]
    struct One {
        name: Name,
    }
    for (pattern, name, matches) in [
        ("v1.*", "v1.2", true),
        ("v1.*", "v2.1", false),
        ("1.0", "1.0", true),
        ("1.0", "1x0", false),
        ("org/*", "org/app", true),
        ("org/*", "org/a/b", false),
        ("org/**", "org/a/b", true),
        ("**", "org/a", true),
        ("4.1[45]", "4.15", true),
        ("4.1[45]", "4.16", false),
        ("?", "a", true),
    ] {
        let One { name: parsed } = toml::from_str(&format!("name = '{pattern}'")).unwrap();
        assert_eq!(parsed.matches(name), matches, "{pattern} {name}");
    }
}
