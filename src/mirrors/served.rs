//! More files for one mirror that everything is at: installers, Talos, Docker, and a page that says where each file goes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use crate::mirrors::{Mirrors, host_of};

/// A mirror that is a bastion of ours, at which repositories are found without their registry in the path, too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// Whether it asks for passwords when images are pulled.
    pub asks_password: bool,
}

impl Mirrors {
    /// The further files.
    pub(super) fn served(&self, served: Served, insecure: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
        let Some(mirror) = self.repositories.values().flatten().next().map(|it| host_of(it)) else { return Vec::new() };
        let is_lax = insecure(mirror);
        let mut files = vec![("install-config.yaml".to_owned(), self.install_config())];
        if !self.hosts.is_empty() {
            files.push(("talos-patch.yaml".to_owned(), self.talos(insecure)));
        }
        // Docker takes a mirror for Docker Hub alone, and asks there for `library/alpine`.
        let has_hub = self.hosts.contains_key("docker.io");
        if has_hub || is_lax {
            let mut daemon = serde_json::Map::new();
            if has_hub {
                let scheme = if is_lax { "http" } else { "https" };
                daemon.insert("registry-mirrors".to_owned(), json!([format!("{scheme}://{mirror}")]));
            }
            if is_lax {
                daemon.insert("insecure-registries".to_owned(), json!([mirror]));
            }
            files.push(("daemon.json".to_owned(), pretty(&daemon.into())));
        }
        if served.asks_password {
            let entry = json!({ "auths": { mirror: { "auth": PLACEHOLDER } } });
            files.push(("pull-secret.json".to_owned(), pretty(&entry)));
        }
        let readme = self.readme(mirror, is_lax, has_hub, served);
        files.push(("README.txt".to_owned(), readme));
        files
    }

    /// What OpenShift's installer is told: it knows mirrors by digest only.
    fn install_config(&self) -> String {
        let mut yaml = "# These lines go into install-config.yaml.\nimageDigestSources:\n".to_owned();
        for (source, mirrors) in &self.repositories {
            let _ = writeln!(yaml, "- source: {source}\n  mirrors:");
            for mirror in mirrors {
                let _ = writeln!(yaml, "  - {mirror}");
            }
        }
        if let Some(authority) = &self.trust {
            yaml += "additionalTrustBundlePolicy: Always\nadditionalTrustBundle: |\n";
            indent(authority, "  ", &mut yaml);
        }
        yaml
    }

    /// Documents of Talos 1.12 and later: RegistryMirrorConfig, RegistryTLSConfig.
    fn talos(&self, insecure: &dyn Fn(&str) -> bool) -> String {
        let mut yaml =
            "# talosctl patch machineconfig --patch @talos-patch.yaml        (Talos 1.12 or later)\n".to_owned();
        for (host, places) in &self.hosts {
            let _ = write!(yaml, "---\napiVersion: v1alpha1\nkind: RegistryMirrorConfig\nname: {host}\nendpoints:\n");
            for (mirror, prefix) in places {
                let scheme = if insecure(mirror) { "http" } else { "https" };
                if prefix.is_empty() {
                    let _ = writeln!(yaml, "  - url: {scheme}://{mirror}");
                } else {
                    let _ = writeln!(yaml, "  - url: {scheme}://{mirror}/v2/{prefix}\n    overridePath: true");
                }
            }
            yaml += "skipFallback: true\n";
        }
        let mirrors: BTreeSet<&str> = self.hosts.values().flatten().map(|(mirror, _)| mirror.as_str()).collect();
        for mirror in mirrors.into_iter().filter(|mirror| !insecure(mirror)) {
            if let Some(authority) = &self.trust {
                let _ = write!(yaml, "---\napiVersion: v1alpha1\nkind: RegistryTLSConfig\nname: {mirror}\nca: |-\n");
                indent(authority.trim_end(), "  ", &mut yaml);
            }
        }
        yaml
    }

    fn readme(&self, mirror: &str, is_lax: bool, has_hub: bool, served: Served) -> String {
        let mut text = format!("Files for nodes that are to find images at {mirror}\n\n");
        let mut say = |file: &str, what: &str| {
            let _ = writeln!(text, "{file}\n    {what}\n");
        };
        say(
            "registries.conf.d/50-haversack.conf",
            "podman, skopeo, buildah, CRI-O: into /etc/containers/registries.conf.d/",
        );
        if self.trust.is_some() {
            say(
                &format!("containers-certs.d/{mirror}/ca.crt"),
                "podman, skopeo, buildah, CRI-O: into /etc/containers/certs.d/; Docker: into /etc/docker/certs.d/",
            );
            say("trusted-ca.yaml", "OpenShift, running: its first lines say what to do");
            say("registries.yaml", "k3s: into /etc/rancher/k3s/; RKE2: into /etc/rancher/rke2/");
        }
        say("certs.d/", "containerd: into /etc/containerd/certs.d/, which config_path in its configuration names");
        say(
            "image-digest-mirror-set.yaml, image-tag-mirror-set.yaml",
            "OpenShift 4.13 and later, running: oc apply -f; nodes may be drained",
        );
        say("install-config.yaml", "OpenShift, to be installed: lines for install-config.yaml");
        say("talos-patch.yaml", "Talos 1.12 and later: talosctl patch machineconfig --patch @talos-patch.yaml");
        match (has_hub, is_lax) {
            (false, false) => {}
            (true, _) => say(
                "daemon.json",
                "Docker: into /etc/docker/. It helps for images of Docker Hub only: Docker knows no mirror of another registry.\n    Pull those by their name here.",
            ),
            (false, true) => say(
                "daemon.json",
                "Docker: into /etc/docker/, so that it speaks to this server without TLS. Pull images by their name here.",
            ),
        }
        if served.asks_password {
            let how = format!(
                "Kubernetes, OpenShift: an entry for the pull secret; its `auth` is base64 of USER:PASSWORD, or let\n    \
                 podman login --authfile pull-secret.json {mirror}\n    write it"
            );
            say("pull-secret.json", &how);
        }
        if !self.renamed.is_empty() {
            let renamed = self.renamed();
            let _ = writeln!(
                text,
                "containerd and Talos do not find these, whose path is another here: {}",
                renamed.join(", ")
            );
        }
        text
    }
}

fn pretty(value: &serde_json::Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("it has string keys");
    text.push('\n');
    text
}

fn indent(text: &str, by: &str, to: &mut String) {
    for line in text.lines() {
        let _ = writeln!(to, "{by}{line}");
    }
}

/// base64 of `USER:PASSWORD`, which is to be replaced.
const PLACEHOLDER: &str = "VVNFUjpQQVNTV09SRA==";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_gets_a_file_and_a_line_that_says_where_it_goes() {
        let mut mirrors = Mirrors { trust: Some("-----BEGIN-----\nAAAA\n".to_owned()), ..Mirrors::default() };
        mirrors.add("docker.io", "library/alpine", "b.example:5000", "docker.io/library/alpine", true);
        mirrors.add("quay.io", "org/app", "b.example:5000", "quay.io/org/app", true);
        let mut all = String::new();
        for (name, text) in mirrors.served(Served { asks_password: true }, &|_| false) {
            if name != "README.txt" {
                all += &format!("== {name}\n{text}");
            }
        }
        insta::assert_snapshot!(all, @r#"
        == install-config.yaml
        # These lines go into install-config.yaml.
        imageDigestSources:
        - source: docker.io/library/alpine
          mirrors:
          - b.example:5000/docker.io/library/alpine
        - source: quay.io/org/app
          mirrors:
          - b.example:5000/quay.io/org/app
        additionalTrustBundlePolicy: Always
        additionalTrustBundle: |
          -----BEGIN-----
          AAAA
        == talos-patch.yaml
        # talosctl patch machineconfig --patch @talos-patch.yaml        (Talos 1.12 or later)
        ---
        apiVersion: v1alpha1
        kind: RegistryMirrorConfig
        name: docker.io
        endpoints:
          - url: https://b.example:5000/v2/docker.io
            overridePath: true
        skipFallback: true
        ---
        apiVersion: v1alpha1
        kind: RegistryMirrorConfig
        name: quay.io
        endpoints:
          - url: https://b.example:5000/v2/quay.io
            overridePath: true
        skipFallback: true
        ---
        apiVersion: v1alpha1
        kind: RegistryTLSConfig
        name: b.example:5000
        ca: |-
          -----BEGIN-----
          AAAA
        == daemon.json
        {
          "registry-mirrors": [
            "https://b.example:5000"
          ]
        }
        == pull-secret.json
        {
          "auths": {
            "b.example:5000": {
              "auth": "VVNFUjpQQVNTV09SRA=="
            }
          }
        }
        "#);
        // Each file is in the list, and nothing else is.
        mirrors.served = Some(Served { asks_password: true });
        for trust in [mirrors.trust.clone(), None] {
            let lax = trust.is_none();
            mirrors.trust = trust;
            let files = mirrors.files(&|_| lax);
            let readme = &files.iter().find(|(name, _)| name == "README.txt").unwrap().1;
            for (name, _) in files.iter().filter(|(name, _)| name != "README.txt") {
                let directory = name.split('/').next().unwrap();
                assert!(readme.contains(if directory == "certs.d" { "certs.d/\n" } else { name }), "{name}: {readme}");
            }
            assert_eq!(readme.contains("ca.crt"), !lax, "{readme}");
            let daemon = &files.iter().find(|(name, _)| name == "daemon.json").unwrap().1;
            assert_eq!((daemon.contains("insecure"), daemon.contains("http://b.example:5000")), (lax, lax), "{daemon}");
        }
    }
}
