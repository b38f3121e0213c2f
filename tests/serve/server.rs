//! A running `haversack serve`, a client that sends exactly what it is told to, and layouts to serve.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use haversack::image::Layout;
use haversack::image::store::layout::{canonical, descriptor};
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Value, json};

/// It ends with the test.
pub(crate) struct Serve {
    pub(crate) child: Child,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
}

impl Serve {
    /// Serves layouts at a free port.
    pub(crate) fn start(args: &[&str]) -> Self {
        Serve::start_with(&["--listen", "127.0.0.1:0"], args)
    }

    /// Serves layouts where `listen` says.
    pub(crate) fn start_with(listen: &[&str], args: &[&str]) -> Self {
        let mut command = Command::new(cargo_bin!("haversack"));
        command.arg("serve").args(listen).args(args);
        Serve::of(command)
    }

    /// What a command starts that prints its URL.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, written) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let address = url.trim().rsplit('/').next().unwrap().to_owned();
        assert!(!address.is_empty(), "it did not start: {}", log.lock().unwrap());
        Serve { child, address, log }
    }

    /// What was said on stderr until it holds `text`.
    pub(crate) fn log_with(&self, text: &str) -> String {
        for _ in 0..200 {
            let log = self.log.lock().unwrap().clone();
            if log.contains(text) {
                return log;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("`{text}` is not in the log: {}", self.log.lock().unwrap());
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub(crate) fn head(&self, path: &str) -> Answer {
        self.send("HEAD", path, &[], b"")
    }

    /// Sends one request on a connection of its own.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let says_length = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !says_length && (!body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH")) {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        self.raw(&[text.as_bytes(), body].concat(), method == "HEAD")
    }

    /// Sends bytes and reads an answer.
    pub(crate) fn raw(&self, bytes: &[u8], is_head: bool) -> Answer {
        let mut stream = self.connect();
        // A server that has refused already may have closed.
        let _ = stream.write_all(bytes);
        Answer::read(&mut BufReader::new(stream), is_head)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, with the names of headers in lower case.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body was as long as announced.
    pub(crate) is_whole: bool,
}

impl Answer {
    pub(crate) fn read(reader: &mut impl BufRead, is_head: bool) -> Self {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        if status == 100 {
            return Answer::read(reader, is_head);
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse::<u64>().unwrap());
        let mut body = Vec::new();
        let read = if is_head { Ok(0) } else { reader.take(length).read_to_end(&mut body) };
        let is_whole = read.is_ok() && (is_head || body.len() as u64 == length);
        Answer { status, headers, body, is_whole }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code and the message of an error.
    pub(crate) fn error(&self) -> (u16, String, String) {
        let error = &self.json()["errors"][0];
        (self.status, error["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }
}

/// An image with a layer of these bytes, in a layout, not named.
pub(crate) fn image(layout: &Layout, content: &[u8]) -> Descriptor {
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config())).unwrap();
    let layer = layout.write_blob(MediaType::ImageLayer, content).unwrap();
    manifest(layout, &json!({ "config": config, "layers": [layer] }))
}

pub(crate) fn config() -> Value {
    json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } })
}

/// Something that is about another manifest.
pub(crate) fn artifact(layout: &Layout, subject: &Descriptor, kind: &str, note: &str) -> Descriptor {
    let empty = layout.write_blob(MediaType::EmptyJSON, b"{}").unwrap();
    let plain =
        descriptor(subject.media_type().clone(), &subject.digest().to_string().parse().unwrap(), subject.size());
    let content = json!({
        "artifactType": kind, "config": empty, "layers": [empty], "subject": plain, "annotations": { "note": note },
    });
    manifest(layout, &content)
}

pub(crate) fn index(layout: &Layout, manifests: &[&Descriptor]) -> Descriptor {
    let content = json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": manifests });
    layout.write_blob(MediaType::ImageIndex, &canonical(&content)).unwrap()
}

/// A manifest with the content that is given.
pub(crate) fn manifest(layout: &Layout, content: &Value) -> Descriptor {
    let mut content = content.clone();
    content["schemaVersion"] = json!(2);
    content["mediaType"] = json!(MediaType::ImageManifest);
    layout.write_blob(MediaType::ImageManifest, &canonical(&content)).unwrap()
}

/// The bytes of a blob.
pub(crate) fn bytes(layout: &Layout, described: &Descriptor) -> Vec<u8> {
    std::fs::read(path(layout, described)).unwrap()
}

pub(crate) fn path(layout: &Layout, described: &Descriptor) -> std::path::PathBuf {
    layout.blob_path(&described.digest().to_string().parse().unwrap())
}

pub(crate) fn layout(dir: &Path, name: &str) -> Layout {
    Layout::create(&dir.join(name)).unwrap()
}

/// The path as an argument.
pub(crate) fn arg(layout: &Layout) -> &str {
    layout.root().to_str().unwrap()
}
