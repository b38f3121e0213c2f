//! Lists of mirrors: what the first of a list does not give, the next does, and that is said.

use packages::{Rpm, RpmFile};
use serde_json::{Value, json};

use super::*;

const FILES: [&str; 3] = [
    "kernel-core-5.14.0-1.el9.x86_64.rpm",
    "kernel-devel-5.14.0-1.el9.x86_64.rpm",
    "kernel-modules-5.14.0-1.el9.x86_64.rpm",
];

fn content(file: &str) -> Vec<u8> {
    let name = file.split("-5.14").next().unwrap();
    Rpm::new(name, "5.14.0", "1.el9", "x86_64").with(RpmFile::regular("/x", &[file.len() as u8; 100_000])).bytes()
}

/// A mirror with the packages in a directory beside the repository, as Amazon has them, or in it.
fn mirror(root: &Path, pool: &str) {
    fs::create_dir_all(root.join("os/Packages/k")).unwrap();
    fs::create_dir_all(root.join("blobs")).unwrap();
    let mut xml = String::new();
    for file in FILES {
        let content = content(file);
        fs::write(root.join("os").join(pool).join(file), &content).unwrap();
        let (name, digest) = (file.split("-5.14").next().unwrap(), Digest::sha256(&content));
        xml += &rpm_package(name, "1.el9", "")
            .replace(&"1".repeat(64), digest.hex())
            .replace("package=\"100\"", &format!("package=\"{}\"", content.len()))
            .replace("href=\"Packages/k/", &format!("href=\"{pool}"));
    }
    rpm_repository(&root.join("os"), primary(&xml).as_bytes());
}

/// Three mirrors and a list of them.
struct Three {
    dir: tempfile::TempDir,
    servers: Vec<Server>,
}

impl Three {
    fn new(pool: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let roots = ["a", "b", "c"].map(|name| dir.path().join(name));
        roots.iter().for_each(|root| mirror(root, pool));
        let servers: Vec<Server> = roots.iter().map(|root| Server::start(root)).collect();
        let list: String = servers.iter().map(|server| format!("{}/os\n", server.url)).collect();
        fs::write(dir.path().join("a/mirrorlist"), list).unwrap();
        Three { dir, servers }
    }

    fn fetch(&self, more: &[&str]) -> (i32, Value, String) {
        let (source, to) = (format!("rpm:{}/mirrorlist", self.servers[0].url), self.to());
        let arguments = ["kernel", "fetch", &source, "--to", to.to_str().unwrap(), "--json", "--retry-delay", "0"];
        let (status, stdout, stderr) = haversack(&[&arguments[..], more].concat());
        (status, serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("no report: {stderr}")), stderr)
    }

    fn to(&self) -> PathBuf {
        self.dir.path().join("to")
    }

    fn path(&self, mirror: usize, file: &str) -> PathBuf {
        self.dir.path().join(["a", "b", "c"][mirror]).join("os/Packages/k").join(file)
    }
}

#[test]
fn a_package_that_one_mirror_does_not_give_comes_from_the_next() {
    let file = FILES[1];
    type Fault = fn(&Three);
    let faults: [(&str, Fault); 6] = [
        ("404 Not Found", |three| fs::remove_file(three.path(0, FILES[1])).unwrap()),
        ("403 Forbidden", |three| three.servers[0].fail(FILES[1], 403, 9)),
        ("503 Service Unavailable", |three| three.servers[0].fail(FILES[1], 503, 9)),
        ("no answer in time", |three| three.servers[0].stall(Some((FILES[1].to_owned(), 50_000)))),
        ("the answer broke off", |three| three.servers[0].break_off(FILES[1].to_owned(), 50_000, 9)),
        ("the digest is", |three| {
            let mut bytes = content(FILES[1]);
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(three.path(0, FILES[1]), bytes).unwrap();
        }),
    ];
    for (why, fault) in faults {
        let three = Three::new("Packages/k/");
        fault(&three);
        let (status, report, stderr) = three.fetch(&["--retries", "3", "--timeout", "1"]);
        assert_eq!((status, &report["fetched"]), (0, &json!(FILES)), "{why}: {stderr}");
        let elsewhere = report["elsewhere"].as_object().unwrap();
        assert_eq!(elsewhere.keys().collect::<Vec<_>>(), [file], "{why}");
        let (from, said) = (&elsewhere[file]["from"], elsewhere[file]["why"].as_str().unwrap());
        assert_eq!(*from, json!(format!("{}/os/Packages/k/{file}", three.servers[1].url)), "{why}");
        assert!(said.contains(why) && said.contains(&three.servers[0].url), "{why}: {said}");
        assert!(stderr.contains(&format!("{file}: ")) && stderr.contains("; fetched from "), "{stderr}");
        assert!(!stderr.contains("trying again"), "{why}: nobody waits while there are other mirrors: {stderr}");
        assert_eq!(fs::read(three.to().join(file)).unwrap(), content(file), "{why}");
        assert!(three.servers[2].requests().is_empty(), "{why}");
        // What came from the first is continued at the second.
        let ranges = if why.contains("broke off") || why.contains("in time") { 1 } else { 0 };
        assert_eq!(three.servers[1].ranges().len(), ranges, "{why}");
    }
}

/// Mirrors that call their files alike may still have others: nothing would tell that two were mixed.
#[test]
fn without_a_digest_nothing_is_continued_at_another_mirror() {
    let three = Three::new("Packages/k/");
    for name in ["a", "b", "c"] {
        let root = three.dir.path().join(name).join("os");
        let xml = fs::read_to_string(root.join("repodata/primary.xml")).unwrap();
        rpm_repository(&root, xml.replace("type=\"sha256\" pkgid", "type=\"of-no-kind\" pkgid").as_bytes());
    }
    let file = FILES[1];
    three.servers[0].break_off(file.to_owned(), 50_000, 9);
    let (status, report, stderr) = three.fetch(&["--retries", "0"]);
    assert_eq!((status, &report["unverified"]), (0, &json!(FILES)), "{stderr}");
    assert!(report["elsewhere"][file]["why"].as_str().unwrap().contains("the answer broke off"), "{report}");
    assert_eq!(fs::read(three.to().join(file)).unwrap(), content(file));
    assert_eq!(three.servers[1].ranges(), Vec::<String>::new());
}

#[test]
fn what_no_mirror_has_is_named_with_how_many_were_asked() {
    let three = Three::new("Packages/k/");
    let file = FILES[2];
    (0..3).for_each(|mirror| fs::remove_file(three.path(mirror, file)).unwrap());
    fs::remove_file(three.path(0, FILES[0])).unwrap();
    fs::remove_file(three.path(1, FILES[0])).unwrap();
    let (status, report, stderr) = three.fetch(&["--retries", "0"]);
    assert_eq!((status, &report["fetched"]), (3, &json!([FILES[0], FILES[1]])), "{stderr}");
    let why = report["failed"][file].as_str().unwrap();
    let first = format!("{}/os/Packages/k/{file}: 404 Not Found", three.servers[0].url);
    assert_eq!(why, format!("{first}; 2 more mirrors of the list did not give it either"));
    assert_eq!(
        report["elsewhere"][FILES[0]]["from"],
        json!(format!("{}/os/Packages/k/{}", three.servers[2].url, FILES[0]))
    );
    // When all are only busy, the first is waited for.
    fs::write(three.path(0, file), content(file)).unwrap();
    three.servers.iter().for_each(|server| server.fail(file, 503, 1));
    let (status, report, stderr) = three.fetch(&["--retries", "1"]);
    assert_eq!((status, &report["fetched"], &report["elsewhere"]), (0, &json!([file]), &json!({})), "{stderr}");
}

/// The packages lie beside the repository, and the mirror that was read is the second of the list.
#[test]
fn mirrors_are_found_from_whichever_was_read() {
    let three = Three::new("../blobs/");
    fs::remove_file(three.dir.path().join("a/os/repodata/repomd.xml")).unwrap();
    for name in ["b", "a"] {
        fs::remove_file(three.dir.path().join(name).join("blobs").join(FILES[0])).unwrap();
    }
    let (status, report, stderr) = three.fetch(&["--retries", "0"]);
    assert_eq!((status, &report["fetched"]), (0, &json!(FILES)), "{stderr}");
    let elsewhere = json!({ FILES[0]: {
        "from": format!("{}/blobs/{}", three.servers[2].url, FILES[0]),
        "why": format!("{}/blobs/{}: 404 Not Found", three.servers[1].url, FILES[0]),
    }});
    assert_eq!(report["elsewhere"], elsewhere);
    // Those before it are in the list, too.
    let source = format!("rpm:{}/mirrorlist", three.servers[0].url);
    let (_, stdout, stderr) = haversack(&["kernel", "list", &source, "--json", "--retries", "0"]);
    let set: Value = serde_json::from_str(&stdout).unwrap();
    let url = |mirror: usize| format!("{}/os/", three.servers[mirror].url);
    assert_eq!(set["mirrors"], json!([{ "base": url(1), "others": [url(0), url(2)] }]), "{stderr}");
}

/// What was listed once is fetched from the list another time, when the mirror that was read may be gone.
#[test]
fn a_list_says_which_mirrors_there_are() {
    let three = Three::new("Packages/k/");
    let list = three.dir.path().join("kernels.json");
    let source = format!("rpm:{}/mirrorlist", three.servers[0].url);
    let (status, stdout, stderr) = haversack(&["kernel", "list", &source, "--json"]);
    assert_eq!((status, &*stderr), (0, ""));
    fs::write(&list, &stdout).unwrap();
    let url = |mirror: usize| format!("{}/os/", three.servers[mirror].url);
    let set: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(set["mirrors"], json!([{ "base": url(0), "others": [url(1), url(2)] }]));
    let file = FILES[1];
    (0..2).for_each(|mirror| fs::remove_file(three.path(mirror, file)).unwrap());
    let (set, to) = (format!("set:{}", list.display()), three.to());
    let fetch = ["kernel", "fetch", &set, "--to", to.to_str().unwrap(), "--json", "--retries", "0"];
    let (status, stdout, stderr) = haversack(&fetch);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &report["fetched"]), (0, &json!(FILES)), "{stderr}");
    assert_eq!(report["elsewhere"][file]["from"], json!(format!("{}Packages/k/{file}", url(2))), "{stderr}");
    let lock: Value = serde_json::from_slice(&fs::read(three.to().join("fetch.lock")).unwrap()).unwrap();
    assert_eq!(lock["mirrors"], json!([{ "base": url(0), "others": [url(1), url(2)] }]));
    // Where nothing of the repository is in the list, neither are its mirrors.
    let (_, stdout, _) = haversack(&["kernel", "list", &source, "--json", "--release", "4.18"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap().get("mirrors"), None, "{stdout}");
    // A list of mirrors of other repositories says nothing about these packages.
    let (status, stdout, _) = haversack(&["kernel", "list", &format!("rpm:{}", url(0)), "--json"]);
    assert_eq!((status, serde_json::from_str::<Value>(&stdout).unwrap().get("mirrors")), (0, None));
}
