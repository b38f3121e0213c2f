//! The orders of versions against the packagers themselves: `rpm`'s own function and `dpkg --compare-versions`.
//!
//! The pairs are versions of real packages, each with the next ones of a shuffled list, and odd ones made here.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use haversack::kernel::package::{Format, Package};
use haversack::kernel::version::Order;

#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn real_data(path: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("HAVERSACK_REAL_DATA").expect("HAVERSACK_REAL_DATA")).join(path)
}

/// Versions of one format from the real lists, without their order.
fn versions(format: Format) -> Vec<String> {
    let mut versions = BTreeSet::new();
    for path in haversack::fs::list(&real_data("kernel/filenames")).unwrap() {
        let text = String::from_utf8(haversack::fs::read(&path, 10 << 20).unwrap()).unwrap();
        let names = text.lines().filter_map(|file| Package::from_location(file).ok());
        versions.extend(names.filter(|package| package.name.format == format).map(|package| package.name.version));
    }
    let mut versions: Vec<String> = versions.into_iter().collect();
    versions.sort_by_key(|version| haversack::digest::Digest::sha256(version.as_bytes()).to_string());
    versions
}

fn pairs(real: &[String], odd: &[&str]) -> Vec<(String, String)> {
    let near = (1..4).flat_map(|step| real.iter().zip(real.iter().skip(step)));
    let mut sorted = real.to_vec();
    sorted.sort();
    let similar = sorted.windows(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    let odd = odd.iter().flat_map(|a| odd.iter().map(|b| ((*a).to_owned(), (*b).to_owned())));
    near.map(|(a, b)| (a.clone(), b.clone())).chain(similar.collect::<Vec<_>>()).chain(odd).collect()
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA and rpm"]
fn rpm_orders_versions_as_we_do() {
    let odd = [
        "1.0",
        "1.0^20230101",
        "1.0.1",
        "1.0~rc1",
        "1.0~rc1^git1",
        "1.0^git1~pre",
        "1.00",
        "1.0a",
        "1.a",
        "1.0.",
        "1..0",
        "1",
        "a",
        "10xyz",
        "xyz10",
        "5.13~rc7",
        "2.6.32^",
        "~",
        "^",
    ];
    // A whole version has no function in rpm's Lua of old; each of its parts is compared by the same.
    let parts = |text: &str| text.split('-').map(str::to_owned).collect::<Vec<_>>();
    let real: BTreeSet<String> = versions(Format::Rpm).iter().flat_map(|version| parts(version)).collect();
    let real: Vec<String> = real.into_iter().collect();
    let pairs = pairs(&real, &odd);
    let mut theirs = Vec::new();
    for chunk in pairs.chunks(500) {
        let mut script = String::new();
        for (a, b) in chunk {
            write!(script, "print(rpm.vercmp([[{a}]], [[{b}]]) .. ' ')").unwrap();
        }
        let output = Command::new("rpm").arg("--eval").arg(format!("%{{lua:{script}}}")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        theirs.extend(String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned));
    }
    assert_eq!(theirs.len(), pairs.len());
    assert!(pairs.len() > 3_000, "{}", pairs.len());
    for ((a, b), theirs) in pairs.iter().zip(theirs) {
        let ours = match Order::Rpm.compare(a, b) {
            Ordering::Less => "-1",
            Ordering::Equal => "0",
            Ordering::Greater => "1",
        };
        assert_eq!(ours, theirs, "{a} {b}");
    }
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA and dpkg"]
fn dpkg_orders_versions_as_we_do() {
    let odd = [
        "1.0",
        "1.0-1",
        "1.0-0",
        "1.0+b1-1",
        "1.0~rc1-1",
        "1.0.1-1",
        "1.0-1~deb12u1",
        "1.0-1-2",
        "0:1.0-1",
        "1:0.1",
        "1.0a-1",
        "1.0A-1",
        "01.0",
        "6.14~rc1-1~exp1",
        "6.14-1",
        "1.0~~",
        "1.0~",
    ];
    let pairs = pairs(&versions(Format::Deb), &odd);
    assert!(pairs.len() > 3_000, "{}", pairs.len());
    // One shell asks for all: a process each would take minutes.
    let script = r#"while read -r a b; do
        if dpkg --compare-versions "$a" lt "$b"; then echo lt; elif dpkg --compare-versions "$a" gt "$b"; then echo gt; else echo eq; fi
    done"#;
    let mut shell =
        Command::new("sh").arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    let asked = pairs.clone();
    let writer = std::thread::spawn(move || {
        for (a, b) in asked {
            writeln!(stdin, "{a} {b}").unwrap();
        }
    });
    let output = shell.wait_with_output().unwrap();
    writer.join().unwrap();
    let theirs: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(theirs.len(), pairs.len());
    for ((a, b), theirs) in pairs.iter().zip(theirs) {
        let ours = match Order::Deb.compare(a, b) {
            Ordering::Less => "lt",
            Ordering::Equal => "eq",
            Ordering::Greater => "gt",
        };
        assert_eq!(ours, theirs, "{a} {b}");
    }
}
