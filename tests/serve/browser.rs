//! The page as a browser has it: nothing is loaded from elsewhere, nothing is complained of, everybody can read and use it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use haversack::image::Layout;
use haversack::image::store::layout::canonical;
use oci_spec::image::{Descriptor, MediaType};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};

use crate::server::{Serve, arg, artifact, index, layout};
use crate::shown::{catalog, kernels};

/// A browser without a window, spoken to through two pipes (Chrome DevTools Protocol).
struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    sent: u64,
    events: Vec<Value>,
}

impl Browser {
    fn start(dir: &Path) -> Self {
        let (to, from) = (dir.join("to"), dir.join("from"));
        for pipe in [&to, &from] {
            mkfifoat(CWD, pipe, Mode::from_raw_mode(0o600)).unwrap();
        }
        let script = "exec chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run \
                      --user-data-dir=\"$3\" --remote-debugging-pipe about:blank 3<\"$1\" 4>\"$2\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).args([&to, &from, &dir.join("profile")]).env("HOME", dir);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let to = File::options().write(true).open(to).unwrap();
        let from = BufReader::new(File::open(from).unwrap());
        let mut browser = Browser { child, to, from, session: None, sent: 0, events: Vec::new() };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({ "targetId": target, "flatten": true }));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Sends a command and waits for its result.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.read();
            if message["id"] == json!(self.sent) {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert!(!bytes.is_empty(), "the browser ended");
        serde_json::from_slice(&bytes[..bytes.len() - 1]).unwrap()
    }

    fn wait_for(&mut self, event: &str) {
        loop {
            if let Some(at) = self.events.iter().position(|it| it["method"] == event) {
                self.events.drain(..=at).for_each(drop);
                return;
            }
            let message = self.read();
            self.events.push(message);
        }
    }

    /// Opens a page; what was asked for and what was complained of meanwhile.
    fn open(&mut self, url: &str) -> (Vec<String>, Vec<String>) {
        self.events.clear();
        self.call("Page.navigate", &json!({ "url": url }));
        while !self.events.iter().any(|it| it["method"] == "Page.loadEventFired") {
            let message = self.read();
            self.events.push(message);
        }
        // What it says after that has come with the answer to this.
        self.evaluate("new Promise(done => setTimeout(done, 100))");
        let of = |method: &'static str| self.events.iter().filter(move |it| it["method"] == method);
        let asked =
            of("Network.requestWillBeSent").map(|it| it["params"]["request"]["url"].as_str().unwrap().to_owned());
        let complaints =
            of("Log.entryAdded").chain(of("Runtime.consoleAPICalled")).chain(of("Runtime.exceptionThrown"));
        (asked.collect(), complaints.map(|it| it["params"].to_string()).collect())
    }

    fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let found = self.call("Runtime.evaluate", &params);
        assert!(found.get("exceptionDetails").is_none(), "{found}");
        found["result"]["value"].clone()
    }

    fn look(&mut self, width: u32, scheme: &str) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", &media);
    }

    fn press(&mut self, key: &str) {
        let (code, text) = if key == "Enter" { (13, "\r") } else { (9, "") };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An image as a distribution has it: a base that others have, too, and something of its own.
fn made(store: &Layout, own: (u8, usize), architecture: &str) -> Descriptor {
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-02T03:04:05Z",
        "rootfs": { "type": "layers", "diff_ids": [] },
        "history": [{ "created_by": "ADD rootfs.tar.xz /" }, { "created_by": "RUN make install" }],
        "config": { "Labels": { "org.opencontainers.image.title": "app", "kernel-version": "5.14.0-427.el9.x86_64" } },
    });
    let config = store.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let base = store.write_blob(MediaType::ImageLayer, &[architecture.as_bytes(), &vec![1; 3 << 20]].concat()).unwrap();
    let own = store.write_blob(MediaType::ImageLayer, &vec![own.0; own.1 << 20]).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [base, own],
    });
    store.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap()
}

/// With something of everything that the page shows, good and bad.
fn filled(dir: &Path) -> Layout {
    let store = layout(dir, "mirror");
    for (tag, own) in [("1.1", (2, 1)), ("1.2", (3, 2)), ("1.3", (4, 2))] {
        let list = index(&store, &[&made(&store, own, "amd64"), &made(&store, (own.0 + 10, own.1), "arm64")]);
        store.tag(&list, Some(&format!("quay.io/org/app:{tag}"))).unwrap();
        store.tag(&artifact(&store, &list, "application/spdx+json", tag), None).unwrap();
    }
    store.tag(&made(&store, (9, 1), "amd64"), Some("quay.io/org/driver-toolkit:5.14.0-427.el9")).unwrap();
    let broken = made(&store, (8, 1), "s390x");
    store.tag(&broken, Some("registry.example/other/thing:1")).unwrap();
    let layer = haversack::digest::Digest::sha256(vec![8; 1 << 20]);
    std::fs::write(store.blob_path(&layer), vec![7; 1 << 20]).unwrap();
    let receipts = store.root().join(".haversack/receipts");
    std::fs::create_dir_all(&receipts).unwrap();
    let state = haversack::digest::Digest::sha256("state");
    let receipt = json!({
        "carry": "7d0c1f2a9b3e4d5c", "site": "plant-7", "state": state, "unpacked": "2026-11-20T03:04:05Z",
        "code": "PUHR6KU3HZGVZ6AAAAAAAAAAAAAAABCD",
    });
    std::fs::write(receipts.join("7d0c1f2a9b3e4d5c.json"), receipt.to_string()).unwrap();
    store
}

#[test]
#[ignore = "needs chromium and HAVERSACK_AXE; it opens every page, narrow and wide, light and dark, and searches by keyboard alone"]
fn every_page_is_quiet_keeps_to_itself_and_is_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let (catalog, kernels) = (catalog(dir.path()), kernels(dir.path()));
    let serve =
        Serve::start(&["--catalog", &catalog, "--kernels", &kernels, "--name", "bastion.example:5000", arg(&store)]);
    serve.get(&format!(
        "/v2/registry.example/other/thing/blobs/{}",
        haversack::digest::Digest::sha256(vec![8; 1 << 20])
    ));
    let axe = std::fs::read_to_string(std::env::var("HAVERSACK_AXE").unwrap()).unwrap();
    let pictures = std::env::var_os("HAVERSACK_PICTURES").map(std::path::PathBuf::from);
    let mut browser = Browser::start(dir.path());
    let pages = [
        ("images", "/"),
        ("repository", "/images/quay.io/org/app"),
        ("image", "/images/quay.io/org/app:1.2"),
        ("incomplete", "/images/registry.example/other/thing"),
        ("catalog", "/catalog?q=some-operator.v0.3.6&ocp=4.5"),
        ("no", "/catalog?q=some-operator.v0.3.6&ocp=4.6"),
        ("kernels", "/kernels?q=5.14.0-427.el9.x86_64"),
        ("carries", "/carries"),
        ("nodes", "/nodes"),
        ("state", "/state"),
    ];
    for (name, path) in pages {
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")] {
            let at = format!("{name} {width} {scheme}");
            browser.look(width, scheme);
            let (asked, complaints) = browser.open(&format!("http://{}{path}", serve.address));
            let elsewhere = |url: &&String| !url.starts_with(&format!("http://{}/", serve.address));
            assert_eq!((asked.iter().find(elsewhere), complaints), (None, Vec::new()), "{at}");
            assert!(asked.len() >= 2, "{at}: {asked:?}");
            let wide = browser.evaluate("document.documentElement.scrollWidth - window.innerWidth");
            assert!(wide.as_i64().unwrap() <= 0, "{at}: it is {wide} wider than the window");
            if let Some(pictures) = pictures.as_ref().filter(|_| ["repository", "catalog"].contains(&name)) {
                let taken = browser.call("Page.captureScreenshot", &json!({ "format": "png" }));
                let bytes = STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
                std::fs::write(pictures.join(format!("{name}-{width}-{scheme}.png")), bytes).unwrap();
            }
            browser.evaluate(&axe);
            let found =
                browser.evaluate("axe.run(document, { resultTypes: ['violations'] }).then(it => it.violations)");
            let describe = |it: &Value| format!("{} {}: {}", it["impact"], it["id"], it["nodes"][0]["html"]);
            let found: Vec<String> = found.as_array().unwrap().iter().map(describe).collect();
            assert_eq!(found, Vec::<String>::new(), "{at}");
        }
    }

    // By keyboard alone.
    browser.open(&format!("http://{}/", serve.address));
    let mut seen = Vec::new();
    let focus = |browser: &mut Browser, on: &str, seen: &mut Vec<String>| {
        for _ in 0..30 {
            browser.press("Tab");
            let at = browser.evaluate("document.activeElement.id || document.activeElement.textContent");
            seen.push(at.as_str().unwrap().to_owned());
            if at == on {
                return;
            }
        }
        panic!("{on} is not reached: {seen:?}");
    };
    focus(&mut browser, "Certified catalog", &mut seen);
    assert_eq!(seen[0], "To the content");
    browser.events.clear();
    browser.press("Enter");
    browser.wait_for("Page.loadEventFired");
    focus(&mut browser, "q", &mut seen);
    browser.call("Input.insertText", &json!({ "text": "some-chart 1.2.0" }));
    browser.events.clear();
    browser.press("Enter");
    browser.wait_for("Page.loadEventFired");
    let answer = browser.evaluate("document.querySelector('.answer').textContent");
    assert!(answer.as_str().unwrap().contains("✓ Certified"), "{answer}");
}
