//! What those who use a mirror need to find it: files for OpenShift, podman, CRI-O and containerd.
//!
//! ```text
//! DIR/image-digest-mirror-set.yaml      OpenShift: images by digest   (oc apply -f)
//!     image-tag-mirror-set.yaml         OpenShift: images by tag
//!     registries.conf.d/50-haversack.conf   podman, skopeo, CRI-O     (/etc/containers/registries.conf.d)
//!     certs.d/HOST/hosts.toml           containerd                    (/etc/containerd/certs.d)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::fs::{self, PathError};
use crate::reference::{ImageRef, Remote, Target};
use crate::registry::sync::Way;

/// Where each mirrored repository is.
#[derive(Debug, Default)]
struct Mirrors {
    /// `HOST/REPOSITORY` to those of its mirrors.
    repositories: BTreeMap<String, BTreeSet<String>>,
    /// Those of which images were mirrored by tag.
    tagged: BTreeSet<String>,
    /// `HOST` to `MIRROR/PREFIX`, as far as repositories keep their path there.
    hosts: BTreeMap<String, BTreeSet<(String, String)>>,
    /// Repositories with another path at the mirror, which containerd cannot be told.
    renamed: BTreeSet<String>,
}

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
    let mirrors = Mirrors::of(ways);
    let mut files = Vec::new();
    if !mirrors.repositories.is_empty() {
        let all: BTreeSet<_> = mirrors.repositories.keys().cloned().collect();
        files.push(("image-digest-mirror-set.yaml".to_owned(), mirrors.openshift(&DIGESTS, &all)));
        if !mirrors.tagged.is_empty() {
            files.push(("image-tag-mirror-set.yaml".to_owned(), mirrors.openshift(&TAGS, &mirrors.tagged)));
        }
        files.push(("registries.conf.d/50-haversack.conf".to_owned(), mirrors.podman(insecure)));
    }
    for (host, places) in &mirrors.hosts {
        files.push((format!("certs.d/{host}/hosts.toml"), containerd(host, places, insecure)));
    }
    let mut written = Written { files: Vec::new(), renamed: mirrors.renamed.into_iter().collect() };
    for (name, text) in files {
        let path = directory.join(name);
        fs::create_dir_all(fs::parent(&path))?;
        fs::write(&path, text.as_bytes())?;
        written.files.push(path);
    }
    Ok(written)
}

/// One of OpenShift's two kinds.
struct Kind {
    kind: &'static str,
    key: &'static str,
}

impl Mirrors {
    fn of(ways: &[Way]) -> Self {
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
            let (from, to) = (repository(&source), repository(mirror));
            mirrors.repositories.entry(from.clone()).or_default().insert(to);
            if !matches!(source.target, Target::Digest(_)) {
                mirrors.tagged.insert(from.clone());
            }
            match mirror.repository.strip_suffix(&source.repository) {
                Some(prefix) if prefix.is_empty() || prefix.ends_with('/') => {
                    let place = (mirror.registry.clone(), prefix.trim_end_matches('/').to_owned());
                    mirrors.hosts.entry(source.registry).or_default().insert(place);
                }
                _ => {
                    mirrors.renamed.insert(from);
                }
            }
        }
        mirrors
    }

    /// config.openshift.io/v1
    fn openshift(&self, kind: &Kind, repositories: &BTreeSet<String>) -> String {
        let Kind { kind, key } = kind;
        let mut yaml = format!(
            "apiVersion: config.openshift.io/v1\nkind: {kind}\nmetadata:\n  name: haversack\nspec:\n  {key}:\n"
        );
        for source in repositories {
            let _ = writeln!(yaml, "  - source: {source}\n    mirrors:");
            for mirror in &self.repositories[source] {
                let _ = writeln!(yaml, "    - {mirror}");
            }
        }
        yaml
    }

    /// containers-registries.conf(5)
    fn podman(&self, insecure: &dyn Fn(&str) -> bool) -> String {
        let mut conf = String::new();
        for (source, mirrors) in &self.repositories {
            let _ = writeln!(conf, "[[registry]]\nprefix = \"{source}\"\nlocation = \"{source}\"\n");
            for mirror in mirrors {
                let _ = writeln!(conf, "[[registry.mirror]]\nlocation = \"{mirror}\"");
                if insecure(host_of(mirror)) {
                    conf.push_str("insecure = true\n");
                }
                conf.push('\n');
            }
        }
        conf
    }
}

/// containerd's docs/hosts.md. A path in a host's address needs `override_path`.
fn containerd(host: &str, places: &BTreeSet<(String, String)>, insecure: &dyn Fn(&str) -> bool) -> String {
    let server = if host == "docker.io" { "registry-1.docker.io" } else { host };
    let mut text = format!("server = \"https://{server}\"\n");
    for (mirror, prefix) in places {
        let lax = insecure(mirror);
        let scheme = if lax { "http" } else { "https" };
        let path = if prefix.is_empty() { String::new() } else { format!("/v2/{prefix}") };
        let _ = writeln!(text, "\n[host.\"{scheme}://{mirror}{path}\"]\ncapabilities = [\"pull\", \"resolve\"]");
        if !prefix.is_empty() {
            text.push_str("override_path = true\n");
        }
        if lax {
            text.push_str("skip_verify = true\n");
        }
    }
    text
}

fn repository(remote: &Remote) -> String {
    format!("{}/{}", remote.registry, remote.repository)
}

fn host_of(repository: &str) -> &str {
    repository.split('/').next().unwrap_or_default()
}

const DIGESTS: Kind = Kind { kind: "ImageDigestMirrorSet", key: "imageDigestMirrors" };
const TAGS: Kind = Kind { kind: "ImageTagMirrorSet", key: "imageTagMirrors" };

#[cfg(test)]
mod tests {
    use super::*;

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
