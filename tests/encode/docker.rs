//! Layers as Docker writes them: its daemon, without a network, pushes to Debian's registry.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::real::{classes_in, plain_layout, shell};

/// A server in the background, which is stopped at the end.
struct Server(Child);

impl Server {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        Server(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The daemon stops what it has started.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Waits until a command says that it succeeded.
fn wait_for(what: &str, log: &Path, is_there: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_there() {
        let log = || fs::read_to_string(log).unwrap();
        assert!(started.elapsed() < Duration::from_secs(60), "{what} has not started: {}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "needs dockerd, docker, docker-registry and skopeo"]
fn layers_that_docker_pushes_are_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(here.join("tar"), plain_layout(here)).unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
        here.join("registry").display()
    );
    fs::write(here.join("registry.yml"), config).unwrap();
    let log = here.join("registry.log");
    let _registry = Server::start(Command::new("docker-registry").arg("serve").arg(here.join("registry.yml")), &log);
    wait_for("the registry", &log, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let socket = format!("unix://{}", here.join("socket").display());
    let log = here.join("docker.log");
    let mut daemon = Command::new("dockerd");
    daemon.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
    daemon.args(["--storage-driver=vfs", "--host", &socket]);
    for (option, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
        daemon.arg(option).arg(here.join(name));
    }
    let _daemon = Server::start(&mut daemon, &log);
    let is_up = || Command::new("docker").args(["-H", &socket, "version"]).output().unwrap().status.success();
    wait_for("dockerd", &log, is_up);

    let image = format!("127.0.0.1:{port}/x");
    shell(&format!("docker -H {socket} import tar {image}:1"), here);
    fs::create_dir(here.join("build")).unwrap();
    fs::copy(here.join("tar"), here.join("build/tar")).unwrap();
    fs::write(here.join("build/Dockerfile"), format!("FROM {image}:1\nCOPY tar /tar\n")).unwrap();
    shell(&format!("DOCKER_BUILDKIT=0 docker -H {socket} build -q -t {image}:2 build"), here);
    shell(&format!("docker -H {socket} push -q {image}:2"), here);
    shell(&format!("skopeo copy --insecure-policy --src-tls-verify=false docker://{image}:2 dir:pushed"), here);
    let classes = classes_in(&here.join("pushed"));
    assert_eq!(classes.len(), 2);
    // Go's compress/gzip at its default level, of any release.
    for class in classes {
        assert!(class == "go-6" || class == "go127-6", "{class}");
    }
}
