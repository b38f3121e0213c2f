//! Hundreds of connections for a minute while everything goes wrong that can: only what was made to fail fails.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use haversack::digest::Digest;
use haversack::image::Layout;

use crate::pushing::{begin, manifest_of, put};
use crate::server::{Answer, Serve, arg, bytes, image, layout};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a kind of client met: answers by what they were, such as `200` or `200 cut`.
#[derive(Default)]
struct Met(Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>);

impl Met {
    fn count(&self, who: &'static str, answer: &Answer) {
        let what = if answer.is_whole { answer.status.to_string() } else { format!("{} cut", answer.status) };
        *self.0.lock().unwrap().entry(who).or_default().entry(what).or_default() += 1;
    }

    /// Which answers a kind of client met.
    fn of(&self, who: &str) -> Vec<String> {
        let met = self.0.lock().unwrap();
        met.get(who).unwrap_or_else(|| panic!("{who} met nothing")).keys().cloned().collect()
    }
}

#[test]
#[ignore = "needs wrk; a minute (HAVERSACK_STORM_SECONDS) of load with faults"]
fn in_a_storm_nothing_fails_but_what_was_made_to_fail_and_memory_is_bounded() {
    let seconds: u64 = std::env::var("HAVERSACK_STORM_SECONDS").ok().map_or(60, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let store = layout(dir.path(), "store");
    let (small, large, bad) = (vec![1; 100 << 10], vec![2; 16 << 20], vec![3; 2 << 20]);
    let sound = image(&store, &small);
    store.tag(&sound, Some("a/sound:1")).unwrap();
    store.tag(&image(&store, &large), Some("a/large:1")).unwrap();
    store.tag(&image(&store, &bad), Some("a/bad:1")).unwrap();
    let moving = [image(&store, b"one"), image(&store, b"other")];
    store.tag(&moving[0], Some("a/moving:1")).unwrap();
    let args = ["--writable", arg(&store), "--no-access-log", "--idle-timeout", "10", "--scrub-every", "5s"];
    let serve = Serve::start(&args);
    let status = |what: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/status", serve.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with(what)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let files = || std::fs::read_dir(format!("/proc/{}/fd", serve.child.id())).unwrap().count();
    assert_eq!(serve.get("/v2/a/sound/manifests/1").status, 200);
    let (before, memory) = (files(), status("VmRSS:"));

    // wrk asks for what is sound, and so every answer that is not is an error.
    let blob = format!("/v2/a/sound/blobs/{}", Digest::sha256(&small));
    let script = dir.path().join("mixed.lua");
    let lua = format!(
        "local n = 0\nlocal paths = {{ '/v2/a/sound/manifests/1', '{blob}', '/v2/a/sound/tags/list', '/v2/' }}\n\
         request = function()\n  n = n + 1\n  return wrk.format('GET', paths[n % 4 + 1])\nend\n"
    );
    std::fs::write(&script, lua).unwrap();
    let mut wrk = Command::new("wrk");
    wrk.args(["-c", "500", "-t", "2", "--timeout", "20s", "-d", &format!("{seconds}s"), "-s"]).arg(&script);
    let wrk = wrk.arg(format!("http://{}", serve.address)).stdout(Stdio::piped()).spawn().unwrap();

    let (met, pushed, stop) = (Met::default(), AtomicU64::new(0), AtomicBool::new(false));
    let until = Instant::now() + Duration::from_secs(seconds);
    let goes_on = || Instant::now() < until && !stop.load(Ordering::Relaxed);
    let storm = Storm { serve: &serve, store: &store, met: &met };
    let moved = moving.each_ref().map(|it| bytes(&store, it));
    let output = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while goes_on() {
                    storm.goes_away_in_the_middle(&large);
                }
            });
            scope.spawn(|| {
                while goes_on() {
                    storm.gives_an_upload_up();
                }
            });
            scope.spawn(|| {
                while goes_on() {
                    storm.asks_for_what_is_damaged(&bad);
                }
            });
            scope.spawn(|| {
                while goes_on() {
                    storm.asks_for_what_moves(&moved);
                }
            });
        }
        for _ in 0..40 {
            scope.spawn(|| {
                while goes_on() {
                    storm.reads_slowly(&large, &goes_on);
                }
            });
        }
        scope.spawn(|| {
            while goes_on() {
                storm.damages_and_repairs(&bad);
            }
        });
        scope.spawn(|| {
            while goes_on() {
                for described in &moving {
                    store.tag(described, Some("a/moving:1")).unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        });
        scope.spawn(|| {
            while goes_on() {
                storm.pushes(pushed.fetch_add(1, Ordering::Relaxed));
            }
        });
        let output = wrk.wait_with_output();
        stop.store(true, Ordering::Relaxed);
        output.unwrap()
    });
    let text = String::from_utf8(output.stdout).unwrap();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("errors:") || line.contains("Non-2xx")).collect();
    let requests = text.lines().find(|line| line.contains(" requests in ")).unwrap_or_default();
    let told =
        format!("{requests}, {} pushes, peak {} KiB, {:?}", pushed.load(Ordering::Relaxed), status("VmHWM:"), met.0);
    // For who runs it with `--nocapture`.
    let _ = writeln!(std::io::stderr(), "{told}");
    assert!(output.status.success() && errors.is_empty(), "{text}{told}");

    // What was damaged was refused or cut off, and everything else was whole.
    for (who, allowed) in [
        ("damaged", &["200", "200 cut", "404", "503"][..]),
        ("moving", &["200"]),
        ("upload", &["202"]),
        ("pushed", &["200"]),
    ] {
        let other: Vec<String> = met.of(who).into_iter().filter(|it| !allowed.contains(&it.as_str())).collect();
        assert!(other.is_empty(), "{who}: {other:?}");
    }
    assert!(met.of("damaged").contains(&"404".to_owned()), "no damage was met: {:?}", met.of("damaged"));
    let metrics = String::from_utf8(serve.get("/metrics").body).unwrap();
    assert!(!metrics.contains("status=\"500\""), "{metrics}");
    assert!(status("VmHWM:") < memory + (64 << 10), "{} KiB, {memory} at first", status("VmHWM:"));
    let until = Instant::now() + Duration::from_secs(30);
    while files() > before + 4 {
        assert!(Instant::now() < until, "{} files are open, {before} were", files());
        std::thread::sleep(Duration::from_millis(50));
    }
    serve.signal("-TERM");
    drop(serve);
    let haversack = assert_cmd::cargo::cargo_bin!("haversack");
    std::fs::write(store.blob_path(&Digest::sha256(&bad)), &bad).unwrap();
    let verified = Command::new(haversack).args(["verify", arg(&store)]).output().unwrap();
    // These images have layers which their configurations know nothing of, and tags were taken from some.
    let known = ["and its configuration has 0", "what no image needs takes room"];
    let said = String::from_utf8(verified.stdout).unwrap();
    let others: Vec<&str> = said.lines().filter(|line| !known.iter().any(|it| line.contains(it))).collect();
    assert!(others.len() == 1 && others[0].starts_with("oci:"), "{others:?}");
}

/// Those who make it.
struct Storm<'a> {
    serve: &'a Serve,
    store: &'a Layout,
    met: &'a Met,
}

impl Storm<'_> {
    fn blob(&self, repository: &str, content: &[u8]) -> std::net::TcpStream {
        let mut stream = self.serve.connect();
        let path = format!("/v2/{repository}/blobs/{}", Digest::sha256(content));
        let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        stream
    }

    fn goes_away_in_the_middle(&self, large: &[u8]) {
        let _ = self.blob("a/large", large).read(&mut [0; 1000]);
        let mut half = self.serve.connect();
        let _ = half.write_all(b"GET /v2/a/sound/manif");
        std::thread::sleep(Duration::from_millis(5));
    }

    /// As slowly as a satellite link, and then not at all any more.
    fn reads_slowly(&self, large: &[u8], goes_on: &dyn Fn() -> bool) {
        let mut stream = self.blob("a/large", large);
        let mut first = [0; 200];
        stream.read_exact(&mut first).unwrap();
        assert!(first.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&first));
        for _ in 0..50 {
            if !goes_on() || stream.read(&mut [0; 200]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn gives_an_upload_up(&self) {
        let answer = self.serve.send("POST", "/v2/a/pushed/blobs/uploads/", &[], b"");
        self.met.count("upload", &answer);
        let mut stream = self.serve.connect();
        let head = format!("PATCH {} HTTP/1.1\r\nHost: {}\r\n", answer.header("location"), self.serve.address);
        let _ = stream.write_all(format!("{head}Content-Length: 1000000\r\n\r\n").as_bytes());
        let _ = stream.write_all(&[7; 100_000]);
        std::thread::sleep(Duration::from_millis(10));
    }

    fn damages_and_repairs(&self, bad: &[u8]) {
        let path = self.store.blob_path(&Digest::sha256(bad));
        let mut wrong = bad.to_vec();
        wrong[bad.len() / 2] ^= 1;
        std::fs::write(&path, &wrong).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        std::fs::write(&path, bad).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }

    fn asks_for_what_is_damaged(&self, bad: &[u8]) {
        let answer = self.serve.get(&format!("/v2/a/bad/blobs/{}", Digest::sha256(bad)));
        let is_right = !answer.is_whole || answer.status != 200 || answer.body == bad;
        assert!(is_right, "{} wrong bytes were served, {:?}", answer.body.len(), answer.headers);
        self.met.count("damaged", &answer);
    }

    fn asks_for_what_moves(&self, either: &[Vec<u8>; 2]) {
        let answer = self.serve.get("/v2/a/moving/manifests/1");
        let says = answer.header("docker-content-digest");
        assert!(answer.status != 200 || says == Digest::sha256(&answer.body).as_str() && either.contains(&answer.body));
        self.met.count("moving", &answer);
    }

    /// What is pushed meanwhile is there.
    fn pushes(&self, n: u64) {
        let content = format!("pushed {n}").repeat(10_000);
        let manifest = manifest_of(self.serve, "a/pushed", content.as_bytes());
        assert_eq!(put(self.serve, "a/pushed/manifests/1", MANIFEST, &manifest).status, 201);
        let answer = self.serve.get("/v2/a/pushed/manifests/1");
        assert_eq!(answer.body, manifest);
        self.met.count("pushed", &answer);
        drop(begin(self.serve, "a/pushed"));
    }
}
