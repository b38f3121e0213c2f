//! `scripts/bench.sh kernel`: indexes listed and packages unpacked, side by side with the distributions' own tools, in one run.
//!
//! Takes Debian's index and the headers of its kernels from the machine's apt sources, and makes rpms and an rpm index of
//! them. Everything lies in `HAVERSACK_BENCH_DIR`, by default in memory (`/dev/shm`), so that it is not the disk that is
//! measured. Each time is the best of three. Timings never decide anything here: it always ends with 0.

#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs, reason = "a program for the terminal")]

mod program;

#[path = "../tests/server/mod.rs"]
mod server;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use haversack::digest::Digest;
use program::HAVERSACK;
use server::Server;

const PACKAGES: usize = 100_000;

fn main() {
    let place = std::env::var_os("HAVERSACK_BENCH_DIR").map_or_else(|| "/dev/shm".into(), PathBuf::from);
    let place = if place.is_dir() { place } else { std::env::temp_dir() };
    let dir = tempfile::tempdir_in(place).unwrap();
    println!("| what | measured | target |\n| --- | --- | --- |");
    apt(dir.path());
    primary(dir.path());
    debs(dir.path());
    rpms(dir.path());
}

fn apt(dir: &Path) {
    let index = "apt/dists/bookworm/main/binary-amd64";
    let made = format!(
        "mkdir -p {index}; file=$(apt-get indextargets --format '$(FILENAME)' 'Created-By: Packages' | grep -E '_dists_[a-z]+_main_binary' | head -1)
         [ -n \"$file\" ] && /usr/lib/apt/apt-helper cat-file $file | xz -T1 > {index}/Packages.xz
         cd apt && apt-ftparchive release dists/bookworm > R && mv R dists/bookworm/Release"
    );
    if !sh(&made, dir) {
        return row("kernel list of Debian's main", "apt-get, apt-ftparchive or xz is not there", "≤ 1.3");
    }
    let server = Server::start(&dir.join("apt"));
    let theirs = best(|| sh(&format!("xzcat {index}/Packages.xz | wc -l > /dev/null"), dir));
    let source = format!("apt:{} bookworm main", server.url);
    let ours = best(|| haversack(&["kernel", "list", &source, "-q"], dir).0);
    let size = std::fs::metadata(dir.join(index).join("Packages.xz")).unwrap().len() >> 20;
    let measured = format!("{:.2} ({ours:.2} s, {size} MiB of xz)", ours / theirs);
    row("`kernel list` of Debian's main ÷ `xzcat Packages.xz | wc -l`", &measured, "≤ 1.3");
}

fn primary(dir: &Path) {
    let repodata = dir.join("rpm/repodata");
    std::fs::create_dir_all(&repodata).unwrap();
    let mut xml = format!("<?xml version=\"1.0\"?>\n<metadata packages=\"{PACKAGES}\">\n");
    for n in 0..PACKAGES {
        let name = if n % 1000 == 0 { "kernel-devel" } else { "library" };
        writeln!(
            xml,
            "<package type=\"rpm\"><name>{name}</name><arch>x86_64</arch><version epoch=\"0\" ver=\"5.14.{n}\" rel=\"1.el9\"/>\
             <checksum type=\"sha256\" pkgid=\"YES\">{n:064x}</checksum><summary>a library</summary>\
             <description>{}</description><size package=\"{n}\" installed=\"1\" archive=\"1\"/>\
             <location href=\"Packages/{name}-5.14.{n}-1.el9.x86_64.rpm\"/><format><rpm:requires>{}</rpm:requires>\
             </format></package>",
            "What it is for, at length. ".repeat(20),
            (0..20).map(|k| format!("<rpm:entry name=\"lib{}.so()(64bit)\"/>", n * k % 7919)).collect::<String>()
        )
        .unwrap();
    }
    xml.push_str("</metadata>");
    let mut encoder = zstd::Encoder::new(Vec::new(), 10).unwrap();
    encoder.write_all(xml.as_bytes()).unwrap();
    let compressed = encoder.finish().unwrap();
    std::fs::write(repodata.join("primary.xml.zst"), &compressed).unwrap();
    let repomd = format!(
        "<repomd><data type=\"primary\"><checksum type=\"sha256\">{}</checksum><location href=\"repodata/primary.xml.zst\"/>\
         <size>{}</size></data></repomd>",
        Digest::sha256(&compressed).hex(),
        compressed.len()
    );
    std::fs::write(repodata.join("repomd.xml"), repomd).unwrap();
    let server = Server::start(&dir.join("rpm"));
    let (mut peak, source) = (0, format!("rpm:{}", server.url));
    let ours = best(|| {
        let (is_done, memory) = haversack(&["kernel", "list", &source, "-q"], dir);
        peak = peak.max(memory);
        is_done
    });
    let measured = format!("{} MB ({ours:.2} s for {} MB of XML)", peak / 1000, xml.len() / 1_000_000);
    row("`kernel list` of a primary.xml.zst with 100,000 packages: most resident memory", &measured, "< 64 MB");
}

fn debs(dir: &Path) {
    let fetched = "mkdir debs && cd debs && apt-get -qq download $(apt-cache search --names-only \
         '^linux-headers-[0-9]+[.][0-9]+[.][0-9].*-amd64$' | cut -d' ' -f1 | grep -vE -- '-(rt|cloud)-' | \
         sed -E 's/(.*)-amd64/& \\1-common/')";
    if !sh(fetched, dir) {
        return row("`kernel unpack` of Debian's headers", "apt-get has none", "≥ 2");
    }
    let packages = std::fs::read_dir(dir.join("debs")).unwrap().count();
    let one = "mkdir theirs; for f in debs/*.deb; do dpkg-deb -x $f theirs/$(basename $f); done";
    let two = "mkdir theirs; ls debs/*.deb | xargs -P2 -I{} sh -c 'dpkg-deb -x {} theirs/$(basename {})'";
    unpacked(dir, "debs", &format!("the {packages} header packages of Debian"), "dpkg-deb -x", [one, two]);
}

fn rpms(dir: &Path) {
    let spec = "Name: kernel-devel\nVersion: 5.14.0\nRelease: %{build}.el9\nSummary: x\nLicense: x\nAutoReqProv: no\n\
                %description\nx\n%install\nmkdir -p %{buildroot}/usr/src/kernels/\n\
                cp -a %{tree} %{buildroot}/usr/src/kernels/%{version}-%{release}.x86_64\n\
                %files\n/usr/src/kernels/%{version}-%{release}.x86_64\n";
    std::fs::write(dir.join("kernel.spec"), spec).unwrap();
    let made = "mkdir rpms tree && dpkg-deb -x $(ls debs/*-common_*.deb | head -1) tree
         set -e; for build in 1 2 3 4 5 6; do rpmbuild -bb --quiet --target x86_64 --define \"build $build\" \
            --define \"tree $PWD/$(echo tree/usr/src/*)\" --define '_binary_payload w2T2.xzdio' --define 'debug_package %{nil}' \
            --define '__os_install_post %{nil}' --define \"_topdir $PWD/b\" --define \"_rpmdir $PWD/rpms\" kernel.spec 2>/dev/null; done";
    if !sh(made, dir) {
        return row("`kernel unpack` of rpms", "rpmbuild or the headers are not there", "≥ 2");
    }
    let each = "mkdir -p theirs/$(basename $f); rpm2cpio $f | (cd theirs/$(basename $f) && cpio -idm --quiet)";
    let one = format!("for f in rpms/x86_64/*.rpm; do {each}; done");
    let two = format!("ls rpms/x86_64/*.rpm | xargs -P2 -I{{}} sh -c 'f={{}}; {each}'");
    unpacked(dir, "rpms", "6 kernel-devel of el9 (xz)", "rpm2cpio | cpio -idm", [&one, &two]);
}

/// Both ways and ours in turns, so that all have the machine in the same states.
fn unpacked(dir: &Path, from: &str, what: &str, peer: &str, theirs: [&str; 2]) {
    let (mut times, source) = ([f64::MAX; 3], format!("dir:{from}"));
    for _ in 0..3 {
        for (time, command) in times.iter_mut().zip(theirs) {
            *time = time.min(timed(|| sh(command, dir)));
            std::fs::remove_dir_all(dir.join("theirs")).unwrap();
        }
        times[2] = times[2].min(timed(|| haversack(&["kernel", "unpack", &source, "--to", "ours", "-q"], dir).0));
        std::fs::remove_dir_all(dir.join("ours")).unwrap();
    }
    let [one, two, ours] = times;
    let measured = format!("{:.2} ({one:.1} s, {ours:.1} s)", one / ours);
    row(&format!("`{peer}` one after another ÷ `kernel unpack`: {what}"), &measured, "≥ 2");
    row(&format!("`{peer}`, two at once ÷ `kernel unpack`"), &format!("{:.2} ({two:.1} s)", two / ours), "≥ 1");
}

fn row(what: &str, measured: &str, target: &str) {
    println!("| {what} | {measured} | {target} |");
}

fn sh(command: &str, dir: &Path) -> bool {
    Command::new("bash").args(["-c", command]).current_dir(dir).stderr(Stdio::null()).status().unwrap().success()
}

/// Whether it ended with 0, and how much memory it had at most, in KiB.
fn haversack(arguments: &[&str], dir: &Path) -> (bool, u64) {
    let mut child = Command::new(HAVERSACK)
        .args(arguments)
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut peak = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (status.success(), peak);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn timed(run: impl FnOnce() -> bool) -> f64 {
    let started = Instant::now();
    assert!(run(), "a command failed");
    started.elapsed().as_secs_f64()
}

fn best(mut run: impl FnMut() -> bool) -> f64 {
    (0..3).map(|_| timed(&mut run)).fold(f64::MAX, f64::min)
}
