//! A machine of its own for the commands of a page, see `world.sh`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// An ordinary user with IDs for containers, who exists in the world alone.
pub(crate) const ORDINARY: &str = "walker";

/// What a world is made of: the files of its machine, and one of its users' home.
pub(crate) struct World {
    dir: TempDir,
    user: &'static str,
}

impl World {
    pub(crate) fn new(user: &'static str) -> Self {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
        let world = World { dir: tempfile::tempdir().unwrap(), user };
        std::fs::set_permissions(world.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for folder in ["etc", "hosts/www", "bin", "home"] {
            std::fs::create_dir_all(world.path(folder)).unwrap();
        }
        let own = |file: &str| std::fs::read_to_string(Path::new("/etc").join(file)).unwrap();
        let home = world.path("home");
        let passwd = format!("{}{ORDINARY}:x:61000:61000::{}:/bin/sh\n", own("passwd"), home.display());
        for (file, text) in [
            ("passwd", passwd),
            ("group", format!("{}{ORDINARY}:x:61000:\n", own("group"))),
            ("subuid", format!("{ORDINARY}:200000:65536\n")),
            ("subgid", format!("{ORDINARY}:200000:65536\n")),
            ("hosts", HOSTS.to_owned()),
        ] {
            std::fs::write(world.path("etc").join(file), text).unwrap();
        }
        world.hosts();
        std::fs::copy(cargo_bin!("haversack"), world.path("bin/haversack")).unwrap();
        std::fs::copy(checkout.join("testdata/podman/containers.conf"), world.path("containers.conf")).unwrap();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"/run/storage\"\n",
            world.path("storage").display()
        );
        std::fs::write(world.path("storage.conf"), storage).unwrap();
        let copied =
            Command::new("cp").arg("-r").arg(checkout.join("testdata/catalog")).arg(world.path("pages")).status();
        assert!(copied.unwrap().success());
        if user == ORDINARY {
            std::os::unix::fs::chown(&home, Some(61000), Some(61000)).unwrap();
        }
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a script of bash as the user, at home.
    pub(crate) fn run(&self, script: &str) -> Output {
        std::fs::write(self.path("script"), script).unwrap();
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--net"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/first_hour/pages/world.sh"))
            .args([self.dir.path().as_os_str(), self.user.as_ref(), self.path("script").as_ref()])
            .output()
            .unwrap()
    }

    /// Registries with the names that pages have: `registry.example` at two ports, of which one asks who comes, and
    /// `bastion.example`.
    fn hosts(&self) {
        let hosts = self.path("hosts");
        let names = "subjectAltName=DNS:registry.example,DNS:bastion.example";
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=example"])
            .args(["-addext", names, "-keyout", "authority.key", "-out", "authority.crt"])
            .current_dir(&hosts)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(hosts.join("users"), format!("me:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        let asks = "auth: {htpasswd: {realm: here, path: users}}\n";
        for (name, address, more) in [
            ("registry-443", "127.0.0.2:443", ""),
            ("registry-5000", "127.0.0.2:5000", asks),
            ("bastion-5000", "127.0.0.3:5000", ""),
        ] {
            let config = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
                 http: {{addr: {address}, tls: {{certificate: authority.crt, key: authority.key}}}}\n\
                 storage: {{filesystem: {{rootdirectory: data/{name}}}, delete: {{enabled: true}}}}\n{more}"
            );
            std::fs::write(hosts.join(format!("{name}.yml")), config).unwrap();
        }
    }
}

const HOSTS: &str = "127.0.0.1 localhost\n127.0.0.2 registry.example\n127.0.0.3 bastion.example\n\
                     127.0.0.4 deb.example deb.debian.org\n";
