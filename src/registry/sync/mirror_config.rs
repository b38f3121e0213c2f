//! What those who use a mirror need to find it, after a sync: see [`mirrors`](crate::mirrors) for the files.

use std::path::{Path, PathBuf};

use crate::fs::PathError;
use crate::mirrors::Mirrors;
use crate::reference::{ImageRef, Remote};
use crate::registry::sync::Way;

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// The files.
    pub files: Vec<PathBuf>,
    /// Repositories that containerd will not find, because their path at the mirror is another.
    pub renamed: Vec<String>,
}

/// Writes the files for what was mirrored from registries to registries. `insecure` says which registries are spoken to
/// without checking certificates.
pub fn write(ways: &[Way], insecure: &dyn Fn(&str) -> bool, directory: &Path) -> Result<Written, PathError> {
    let mut mirrors = Mirrors::default();
    for way in ways {
        // What comes out of a layout has the name of where it was before.
        let source = match &way.source {
            ImageRef::Docker(remote) => remote.clone(),
            stored => match stored.name().and_then(|name| name.parse::<Remote>().ok()) {
                Some(remote) => remote,
                None => continue,
            },
        };
        let ImageRef::Docker(mirror) = &way.destination else { continue };
        let by_tag = source.target.digest().is_none();
        mirrors.add(&source.registry, &source.path(), &mirror.registry, &mirror.repository, by_tag);
    }
    let files = mirrors.write(insecure, directory)?;
    Ok(Written { files, renamed: mirrors.renamed() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    #[test]
    fn every_consumer_is_told_where_a_repository_is_now() {
        let way = |source: &str, destination: &str| Way {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            platforms: Vec::new(),
            referrers: true,
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        let ways = [
            way("docker://quay.io/o/a:1", "docker://m.example:5000/p/o/a:1"),
            way("docker://quay.io/o/a:2", "docker://m.example:5000/p/o/a:2"),
            way(&format!("docker://quay.io/o/b@{digest}"), &format!("docker://m.example:5000/p/o/b@{digest}")),
            way("oci:store:docker.io/library/c:1", "docker://lax.example/library/c:1"),
            way("docker://quay.io/o/d:1", "docker://lax.example/other:1"),
            way("docker://quay.io/o/e:1", "oci:store:quay.io/o/e:1"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let written = write(&ways, &|host| host == "lax.example", dir.path()).unwrap();
        assert_eq!(written.renamed, ["quay.io/o/d"]);
        let mut all = String::new();
        for path in &written.files {
            let text = String::from_utf8(fs::read(path, 1 << 20).unwrap()).unwrap();
            all += &format!("== {}\n{text}", path.strip_prefix(dir.path()).unwrap().display());
        }
        insta::assert_snapshot!(all, @r#"
        == image-digest-mirror-set.yaml
        apiVersion: config.openshift.io/v1
        kind: ImageDigestMirrorSet
        metadata:
          name: haversack
        spec:
          imageDigestMirrors:
          - source: docker.io/library/c
            mirrors:
            - lax.example/library/c
          - source: quay.io/o/a
            mirrors:
            - m.example:5000/p/o/a
          - source: quay.io/o/b
            mirrors:
            - m.example:5000/p/o/b
          - source: quay.io/o/d
            mirrors:
            - lax.example/other
        == image-tag-mirror-set.yaml
        apiVersion: config.openshift.io/v1
        kind: ImageTagMirrorSet
        metadata:
          name: haversack
        spec:
          imageTagMirrors:
          - source: docker.io/library/c
            mirrors:
            - lax.example/library/c
          - source: quay.io/o/a
            mirrors:
            - m.example:5000/p/o/a
          - source: quay.io/o/d
            mirrors:
            - lax.example/other
        == registries.conf.d/50-haversack.conf
        [[registry]]
        prefix = "docker.io/library/c"
        location = "docker.io/library/c"

        [[registry.mirror]]
        location = "lax.example/library/c"
        insecure = true

        [[registry]]
        prefix = "quay.io/o/a"
        location = "quay.io/o/a"

        [[registry.mirror]]
        location = "m.example:5000/p/o/a"

        [[registry]]
        prefix = "quay.io/o/b"
        location = "quay.io/o/b"

        [[registry.mirror]]
        location = "m.example:5000/p/o/b"

        [[registry]]
        prefix = "quay.io/o/d"
        location = "quay.io/o/d"

        [[registry.mirror]]
        location = "lax.example/other"
        insecure = true

        == certs.d/docker.io/hosts.toml
        server = "https://registry-1.docker.io"

        [host."http://lax.example"]
        capabilities = ["pull", "resolve"]
        skip_verify = true
        == certs.d/quay.io/hosts.toml
        server = "https://quay.io"

        [host."https://m.example:5000/v2/p"]
        capabilities = ["pull", "resolve"]
        override_path = true
        "#);
    }
}
