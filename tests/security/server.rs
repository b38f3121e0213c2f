//! A web server of a few lines that answers as the test says and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query, as they were sent.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What is sent back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// After each byte of the body, this long nothing.
    pub(crate) pause: Option<Duration>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Answer { status, headers: Vec::new(), body: body.into(), pause: None }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

pub(crate) struct Server {
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers until the test ends.
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (seen.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || {
                    // The client may go away at any time.
                    let _ = serve(stream, &log, &*answer);
                });
            }
        });
        Server { address, seen }
    }

    /// Takes everything that a registry is sent, and has nothing.
    pub(crate) fn sink() -> Self {
        Server::start(|request| match request.method.as_str() {
            "POST" => Answer::new(202, "").with("location", format!("{}upload", request.path)),
            "PATCH" => Answer::new(202, "").with("location", request.path.clone()),
            "PUT" => Answer::new(201, ""),
            _ if request.path == "/v2/" => Answer::new(200, "{}"),
            _ => Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was asked, in order.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// `METHOD PATH` of each request with this method.
    pub(crate) fn paths(&self, method: &str) -> Vec<String> {
        self.seen().into_iter().filter(|request| request.method == method).map(|request| request.path).collect()
    }

    /// Whether these bytes came here, in a path, a header or a body.
    pub(crate) fn received(&self, secret: &str) -> bool {
        self.seen().iter().any(|request| {
            format!("{} {:?}", request.path, request.headers).contains(secret)
                || String::from_utf8_lossy(&request.body).contains(secret)
        })
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &(dyn Fn(&Request) -> Answer + Send + Sync),
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let header = |name: &str| headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str());
        let mut body = Vec::new();
        if let Some(length) = header("content-length").and_then(|length| length.parse().ok()) {
            reader.by_ref().take(length).read_to_end(&mut body)?;
        } else if header("transfer-encoding").is_some() {
            loop {
                line.clear();
                reader.read_line(&mut line)?;
                let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
                reader.by_ref().take(size).read_to_end(&mut body)?;
                line.clear();
                reader.read_line(&mut line)?;
                if size == 0 {
                    break;
                }
            }
        }
        let request = Request { method, path, headers, body };
        let answer = answer(&request);
        let is_head = request.method == "HEAD";
        log.lock().unwrap().push(request);
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !answer.headers.iter().any(|(name, _)| name == "content-length") {
            head += &format!("content-length: {}\r\n", answer.body.len());
        }
        writer.write_all(head.as_bytes())?;
        writer.write_all(b"\r\n")?;
        match answer.pause {
            _ if is_head => {}
            None => writer.write_all(&answer.body)?,
            Some(pause) => {
                for byte in &answer.body {
                    writer.write_all(std::slice::from_ref(byte))?;
                    std::thread::sleep(pause);
                }
            }
        }
    }
}

/// One image as a registry has it: its manifest, and its blobs by digest.
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) blobs: Vec<(String, Vec<u8>)>,
}

impl Image {
    pub(crate) fn small() -> Self {
        Image::of(vec![vec![0; 1024]])
    }

    /// An image of uncompressed layers.
    pub(crate) fn of(layers: Vec<Vec<u8>>) -> Self {
        let digest = |bytes: &[u8]| haversack::digest::Digest::sha256(bytes).to_string();
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids }
        });
        let config = config.to_string().into_bytes();
        let described = |media_type: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|layer| described("application/vnd.oci.image.layer.v1.tar", layer)).collect::<Vec<_>>(),
        });
        let blobs = layers.into_iter().chain([config]).map(|bytes| (digest(&bytes), bytes)).collect();
        Image { manifest: manifest.to_string().into_bytes(), blobs }
    }

    pub(crate) fn digest(&self) -> String {
        haversack::digest::Digest::sha256(&self.manifest).to_string()
    }

    /// What a registry answers that has nothing but this image, under every name; `None` for lists.
    pub(crate) fn answer(&self, path: &str) -> Option<Answer> {
        if path == "/v2/" {
            return Some(Answer::new(200, "{}"));
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            let blob = self.blobs.iter().find(|(name, _)| name == digest);
            return Some(blob.map_or(Answer::new(404, ""), |(_, bytes)| Answer::new(200, bytes.clone())));
        }
        path.contains("/manifests/").then(|| Answer::new(200, self.manifest.clone()).with("content-type", MANIFEST))
    }

    /// Writes it as a layout with the one name `x`.
    pub(crate) fn write_layout(&self, path: &std::path::Path) {
        let blobs = path.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for (digest, bytes) in
            self.blobs.iter().map(|(digest, bytes)| (digest.clone(), bytes)).chain([(self.digest(), &self.manifest)])
        {
            std::fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), bytes).unwrap();
        }
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": MANIFEST, "digest": self.digest(), "size": self.manifest.len(),
                "annotations": { "org.opencontainers.image.ref.name": "x" }
            }]
        });
        std::fs::write(path.join("index.json"), index.to_string()).unwrap();
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
