//! What those who use a mirror need to find it: files for OpenShift, podman, CRI-O, containerd, k3s and RKE2.
//!
//! ```text
//! DIR/image-digest-mirror-set.yaml      OpenShift: images by digest   (oc apply -f)
//!     image-tag-mirror-set.yaml         OpenShift: images by tag
//!     registries.conf.d/50-haversack.conf   podman, skopeo, CRI-O     (/etc/containers/registries.conf.d)
//!     certs.d/HOST/hosts.toml           containerd                    (/etc/containerd/certs.d)
//! ```
//!
//! and, where an authority is to be trusted,
//!
//! ```text
//!     trusted-ca.yaml                   OpenShift: the mirror's authority; the first lines say what to do with it
//!     containers-certs.d/MIRROR/ca.crt  podman, skopeo, CRI-O, Docker (/etc/containers/certs.d, /etc/docker/certs.d)
//!     certs.d/HOST/ca.crt               containerd, named in hosts.toml
//!     registries.yaml                   k3s and RKE2                  (/etc/rancher/{k3s,rke2}/registries.yaml)
//! ```
//!
//! and, where everything is at one bastion,
//!
//! ```text
//!     install-config.yaml               OpenShift's installer: imageDigestSources, additionalTrustBundle
//!     talos-patch.yaml                  Talos: RegistryMirrorConfig, RegistryTLSConfig
//!     daemon.json                       Docker: Docker Hub only       (/etc/docker/daemon.json)
//!     pull-secret.json                  an entry of a pull secret, without the password
//!     README.txt                        where each file goes
//! ```

mod served;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub use self::served::Served;
use crate::fs::{self, PathError};

/// Where each mirrored repository is.
#[derive(Debug, Default)]
pub struct Mirrors {
    /// `HOST/REPOSITORY` to those of its mirrors.
    repositories: BTreeMap<String, BTreeSet<String>>,
    /// Those of which images were mirrored by tag.
    tagged: BTreeSet<String>,
    /// `HOST` to `MIRROR/PREFIX`, as far as repositories keep their path there.
    hosts: BTreeMap<String, BTreeSet<(String, String)>>,
    /// Repositories with another path at the mirror, which containerd cannot be told.
    renamed: BTreeSet<String>,
    /// The mirror's authority, in PEM, where it is not one that everybody trusts.
    pub trust: Option<String>,
    /// What the mirror is, if it is one that everything is at.
    pub served: Option<Served>,
}

/// One of OpenShift's two kinds.
struct Kind {
    kind: &'static str,
    key: &'static str,
}

impl Mirrors {
    /// Adds a repository of a registry and its place at a mirror; `by_tag` says whether its images are asked for by tag there, too.
    pub fn add(&mut self, registry: &str, repository: &str, mirror: &str, at: &str, by_tag: bool) {
        let (from, to) = (format!("{registry}/{repository}"), format!("{mirror}/{at}"));
        self.repositories.entry(from.clone()).or_default().insert(to);
        if by_tag {
            self.tagged.insert(from.clone());
        }
        match at.strip_suffix(repository) {
            Some(prefix) if prefix.is_empty() || prefix.ends_with('/') => {
                let place = (mirror.to_owned(), prefix.trim_end_matches('/').to_owned());
                self.hosts.entry(registry.to_owned()).or_default().insert(place);
            }
            _ => {
                self.renamed.insert(from);
            }
        }
    }

    /// Repositories that containerd will not find, because their path at the mirror is another.
    pub fn renamed(&self) -> Vec<String> {
        self.renamed.iter().cloned().collect()
    }

    /// Writes the files; which they are. `insecure` says which mirrors are spoken to without checking certificates.
    pub fn write(&self, insecure: &dyn Fn(&str) -> bool, directory: &Path) -> Result<Vec<PathBuf>, PathError> {
        let mut written = Vec::new();
        for (name, text) in self.files(insecure) {
            let path = directory.join(name);
            fs::create_dir_all(fs::parent(&path))?;
            fs::write(&path, text.as_bytes())?;
            written.push(path);
        }
        Ok(written)
    }

    /// The files by their names, and what is in them.
    pub fn files(&self, insecure: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut files = Vec::new();
        if !self.repositories.is_empty() {
            let all: BTreeSet<_> = self.repositories.keys().cloned().collect();
            files.push(("image-digest-mirror-set.yaml".to_owned(), self.openshift(&DIGESTS, &all)));
            if !self.tagged.is_empty() {
                files.push(("image-tag-mirror-set.yaml".to_owned(), self.openshift(&TAGS, &self.tagged)));
            }
            files.push(("registries.conf.d/50-haversack.conf".to_owned(), self.podman(insecure)));
        }
        for (host, places) in &self.hosts {
            files.push((format!("certs.d/{host}/hosts.toml"), self.containerd(host, places, insecure)));
        }
        if let Some(authority) = &self.trust {
            let mirrors: BTreeSet<&str> = self.repositories.values().flatten().map(|it| host_of(it)).collect();
            for mirror in &mirrors {
                files.push((format!("containers-certs.d/{mirror}/ca.crt"), authority.clone()));
            }
            for host in self.hosts.keys() {
                files.push((format!("certs.d/{host}/ca.crt"), authority.clone()));
            }
            files.push(("trusted-ca.yaml".to_owned(), trusted(&mirrors, authority)));
            files.push(("registries.yaml".to_owned(), self.rancher(&mirrors)));
        }
        files.extend(self.served.into_iter().flat_map(|served| self.served(served, insecure)));
        files
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

    /// containerd's docs/hosts.md. A path in a host's address needs `override_path`.
    fn containerd(&self, host: &str, places: &BTreeSet<(String, String)>, insecure: &dyn Fn(&str) -> bool) -> String {
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
            } else if self.trust.is_some() {
                let _ = writeln!(text, "ca = \"/etc/containerd/certs.d/{host}/ca.crt\"");
            }
        }
        text
    }

    /// docs.k3s.io/installation/private-registry
    fn rancher(&self, mirrors: &BTreeSet<&str>) -> String {
        let mut yaml = "mirrors:\n".to_owned();
        for (host, places) in &self.hosts {
            let _ = writeln!(yaml, "  \"{host}\":\n    endpoint:");
            for (mirror, _) in places {
                let _ = writeln!(yaml, "    - \"https://{mirror}\"");
            }
            if let Some((_, prefix)) = places.iter().find(|(_, prefix)| !prefix.is_empty()) {
                let _ = writeln!(yaml, "    rewrite:\n      \"^(.*)$\": \"{prefix}/$1\"");
            }
        }
        yaml += "configs:\n";
        for mirror in mirrors {
            let file = format!("/etc/containerd/certs.d/{mirror}/ca.crt");
            let _ = writeln!(yaml, "  \"{mirror}\":\n    tls:\n      ca_file: {file}");
        }
        yaml
    }
}

/// A ConfigMap for `additionalTrustedCA`, in whose keys the colon of a port is two dots.
fn trusted(mirrors: &BTreeSet<&str>, authority: &str) -> String {
    let mut yaml = "# oc apply -f trusted-ca.yaml\n\
                    # oc patch image.config.openshift.io/cluster --type merge -p \\\n\
                    #   '{\"spec\":{\"additionalTrustedCA\":{\"name\":\"haversack-ca\"}}}'\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: haversack-ca\n  namespace: openshift-config\ndata:\n"
        .to_owned();
    for mirror in mirrors {
        let _ = writeln!(yaml, "  {}: |", mirror.replace(':', ".."));
        for line in authority.lines() {
            let _ = writeln!(yaml, "    {line}");
        }
    }
    yaml
}

fn host_of(repository: &str) -> &str {
    repository.split('/').next().unwrap_or_default()
}

const DIGESTS: Kind = Kind { kind: "ImageDigestMirrorSet", key: "imageDigestMirrors" };
const TAGS: Kind = Kind { kind: "ImageTagMirrorSet", key: "imageTagMirrors" };
