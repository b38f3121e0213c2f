//! Debian's docker-registry on a free port of the loopback, ended with the test.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running registry with its data in a directory of its own.
pub(crate) struct DockerRegistry {
    child: Child,
    pub(crate) address: String,
    dir: TempDir,
}

impl DockerRegistry {
    pub(crate) fn start() -> Self {
        DockerRegistry::with("")
    }

    /// One that lets in one user with one password, and deletes.
    pub(crate) fn guarded(user: &str, password: &str) -> Self {
        // Made before the registry is, which reads it when it starts.
        let users = format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap());
        DockerRegistry::with_users("auth: {htpasswd: {realm: here, path: htpasswd}}\n", &users, &[])
    }

    /// One that speaks TLS, with a certificate and its key.
    pub(crate) fn with_tls(certificate: &Path, key: &Path) -> Self {
        let tls = [("REGISTRY_HTTP_TLS_CERTIFICATE", certificate), ("REGISTRY_HTTP_TLS_KEY", key)];
        DockerRegistry::with_users("", "", &tls)
    }

    fn with(more: &str) -> Self {
        DockerRegistry::with_users(more, "", &[])
    }

    fn with_users(more: &str, users: &str, environment: &[(&str, &Path)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nhttp: {{addr: {address}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: {}}}}}\n{more}",
            dir.path().display(),
            !users.is_empty()
        );
        std::fs::write(dir.path().join("htpasswd"), users).unwrap();
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", "config.yml"])
            .current_dir(dir.path())
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < until, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        DockerRegistry { child, address, dir }
    }

    /// A reference to an image in it.
    pub(crate) fn at(&self, image: &str) -> String {
        format!("docker://{}/{image}", self.address)
    }

    /// Where it keeps its data.
    pub(crate) fn data(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
