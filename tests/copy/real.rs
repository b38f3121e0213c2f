//! A real registry, and what there is to be put into it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{done, haversack};

/// Debian's docker-registry on a free port of the loopback, ended with the test.
pub(crate) struct Real {
    child: Child,
    pub(crate) address: String,
    dir: TempDir,
}

impl Real {
    pub(crate) fn start() -> Self {
        Real::with("")
    }

    /// With more lines for the `http:` section of its configuration, indented by two.
    pub(crate) fn with(http: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {address}\n{http}",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < until, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Real { child, address, dir }
    }

    /// Where it keeps what it has.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn at(&self, image: &str) -> String {
        format!("docker://{}/{image}", self.address)
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A layout `store` with a two-platform image `x` and a referrer of it.
pub(crate) fn two_platforms(dir: &Path) -> String {
    std::fs::create_dir(dir.join("def")).unwrap();
    std::fs::write(dir.join("other"), "a program").unwrap();
    let text = "name = 'x'\n[[layers]]\nbinary = '/x'\n[[layers]]\nfiles = [{ text = 'data', dest = '/y' }]\n";
    std::fs::write(dir.join("def/image.toml"), text).unwrap();
    let build = [
        "build",
        "def",
        "--no-sbom",
        "--json",
        "-o",
        "oci:store:x",
        "--platform=linux/amd64",
        "--platform=linux/arm64",
        "--binary=linux/amd64=other",
        "--binary=linux/arm64=def/image.toml",
    ];
    let digest = done(&haversack(dir, &build))[0]["digest"].as_str().unwrap().to_owned();
    let layout = haversack::image::Layout::open(&dir.join("store")).unwrap();
    let image = layout.find(Some("x")).unwrap();
    let empty = layout.write_blob(oci_spec::image::MediaType::EmptyJSON, b"{}").unwrap();
    let sbom = layout.write_blob("text/spdx+json".into(), b"an SBOM").unwrap();
    let referrer = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "text/spdx+json", "config": empty, "layers": [sbom],
        "subject": { "mediaType": image.media_type(), "digest": image.digest(), "size": image.size() },
    });
    let bytes = haversack::image::store::layout::canonical(&referrer);
    let referrer = layout.write_blob(oci_spec::image::MediaType::ImageManifest, &bytes).unwrap();
    layout.tag(&referrer, None).unwrap();
    digest
}

/// A certificate authority `ca`, and with its signature a server's certificate and `client.pem`, all in `dir`.
pub(crate) fn certificates(dir: &Path) {
    let script = "
        set -e
        new() { openssl req -newkey rsa:2048 -nodes -subj \"/CN=$1\" -keyout $1.key \"${@:2}\" 2>/dev/null; }
        new ca -x509 -days 2 -out ca.pem
        printf 'subjectAltName=IP:127.0.0.1' > extensions
        for name in server client; do
            new $name | openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
                -out $name.pem 2>/dev/null
        done";
    assert!(Command::new("bash").args(["-c", script]).current_dir(dir).status().unwrap().success());
}

/// A layout `from` with an image `x` of so many layers of so many bytes, which do not compress. Returns how many bytes
/// that is, at least.
pub(crate) fn large(dir: &Path, layers: u32, bytes: usize) -> u64 {
    std::fs::create_dir(dir.join("def")).unwrap();
    let mut text = "name = 'x'\n".to_owned();
    for layer in 0..layers {
        let mut seed = layer + 1;
        let noise = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        });
        std::fs::write(dir.join(format!("def/{layer}")), noise.take(bytes).collect::<Vec<_>>()).unwrap();
        text += &format!("[[layers]]\nfiles = [{{ src = '{layer}', dest = '/{layer}' }}]\n");
    }
    std::fs::write(dir.join("def/image.toml"), text).unwrap();
    done(&haversack(dir, &["build", "def", "--no-sbom", "--json", "-o", "oci:from:x"]));
    u64::from(layers) * bytes as u64
}
