//! `publish ims` to moto, an S3 of somebody else's making, with the bucket in the path and before the host's name.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Run, Site, content, squashfs};

/// A running server, ended with the test.
struct Moto {
    url: String,
    child: Child,
}

impl Moto {
    fn start() -> Self {
        // Free now, and hardly taken by anybody else in the next second.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("moto_server is in the PATH");
        let moto = Moto { url: format!("http://127.0.0.1:{port}"), child };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "moto does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
        moto
    }

    fn curl(&self, args: &[&str], path: &str) -> Vec<u8> {
        let output = Command::new("curl")
            .args(["-sSf", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", "test:x"])
            .args(args)
            .arg(format!("{}{path}", self.url))
            .output()
            .unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs moto_server and curl; `pip install moto[server]` brings the first"]
fn moto_has_what_was_sent_in_either_style() {
    let moto = Moto::start();
    moto.curl(&["-X", "PUT"], "/boot-images");
    let site = Site::start();
    site.service.trust();
    let (rootfs, kernel) = (squashfs(17 << 20), content(9000));
    site.file("rootfs.sqsh", &rootfs);
    for (style, endpoint) in [("path", moto.url.as_str()), ("virtual", "http://s3.us-east-1.amazonaws.com")] {
        let args = ["ims", style, "-r", "rootfs.sqsh", "-k", "vmlinuz", "--s3-addressing", style];
        let mut command = site.command(&[&args[..], &["--s3-endpoint", endpoint]].concat());
        // The name leads elsewhere: moto is asked as a proxy.
        command.env("HTTP_PROXY", &moto.url).env("NO_PROXY", "127.0.0.1");
        let document = Run::of(command.output().unwrap()).done();
        let id = document["ims_image_record"]["id"].as_str().unwrap();
        for (name, expected) in [("rootfs", &rootfs), ("kernel", &kernel)] {
            assert!(moto.curl(&[], &format!("/boot-images/{id}/{name}")) == *expected, "{style} {name}");
        }
        assert!(document["ims_image_artifacts"][0]["link"]["etag"].as_str().unwrap().ends_with("-3"));
    }
}
