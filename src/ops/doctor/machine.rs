//! The machine itself: its clock, its disks, whom it trusts, podman.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::causes;
use crate::fs::{self, PathContext};
use crate::http;
use crate::ops::doctor::{Check, DoctorOptions, advice};
use crate::plural;
use crate::progress::{Unit, amount};

pub(super) fn program(options: &DoctorOptions) -> Check {
    let config = match &options.config {
        Some(path) => format!("settings from {}", path.display()),
        None => "no configuration file".to_owned(),
    };
    Check::ok("program", format!("{}; {config}", options.version))
}

/// Compares the clock with those of the servers that answered: certificates and tokens have times in them.
pub(super) fn clock(others: &[(String, Timestamp)]) -> Check {
    let now = Timestamp::now();
    let shown = now.strftime("%Y-%m-%dT%H:%M:%SZ");
    // The nearest: a proxy may answer with an old date.
    let nearest = others.iter().min_by_key(|(_, theirs)| theirs.duration_since(now).abs());
    let Some((host, theirs)) = nearest else {
        return Check::skip("clock", format!("{shown}; not compared, because no server said what time it is there"));
    };
    let seconds = now.duration_since(*theirs).as_secs();
    let next = "set the clock, with chronyd or `timedatectl set-ntp true`; certificates and tokens depend on it";
    match seconds.unsigned_abs() {
        0..=2 => Check::ok("clock", format!("{shown}, as at {host}")),
        3..=60 => Check::ok("clock", format!("{shown}, {seconds} s off {host}")),
        61..=600 => Check::warn("clock", format!("{shown}, {seconds} s off {host}"), next),
        _ => Check::fail("clock", format!("{shown}, {seconds} s off {host}"), next),
    }
}

/// Room and kind of the file system on which `path` is or will be.
pub(super) fn room(what: &str, path: &Path) -> Check {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let shown = format!("{what} {}", path.display());
    let elsewhere = match what {
        "temporary files in" => "set TMPDIR to a directory on a disk with room",
        "cache in" => "set XDG_CACHE_HOME to a directory on a disk with room",
        _ => "work in a directory on a disk with room",
    };
    let (system, kind) = match (rustix::fs::statvfs(there), rustix::fs::statfs(there)) {
        (Ok(system), Ok(kind)) => (system, kind),
        (Err(error), _) | (_, Err(error)) => return Check::fail("room", format!("{shown}: {error}"), elsewhere),
    };
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let name = u64::try_from(kind.f_type).ok().and_then(kind_of);
    let found = format!("{shown}: {} free on {}", amount(free, Unit::Bytes), name.unwrap_or("another file system"));
    if rustix::fs::access(there, rustix::fs::Access::WRITE_OK).is_err() {
        return Check::fail("room", format!("{found}, not writable for this user"), elsewhere);
    }
    match (free, name) {
        (..LITTLE, _) => Check::fail("room", found, elsewhere),
        (..ENOUGH, _) => Check::warn("room", found, elsewhere),
        (_, Some("tmpfs")) => Check::warn("room", format!("{found}, which is memory"), elsewhere),
        (_, Some("vfat")) => {
            Check::warn("room", format!("{found}, which has no files over 4 GiB and no links"), elsewhere)
        }
        _ => Check::ok("room", found),
    }
}

/// Whom TLS trusts.
pub(super) fn trust(options: &DoctorOptions, client: Option<&http::Error>) -> Vec<Check> {
    let roots = http::roots_found();
    let mut checks = vec![match (roots.native, roots.problems.first()) {
        (_, Some(problem)) => Check::warn(
            "trust",
            format!(
                "{} of this machine, and some cannot be read: {problem}",
                plural::count(roots.native, "certificate authority")
            ),
            "check SSL_CERT_FILE, SSL_CERT_DIR and the package ca-certificates",
        ),
        (0, None) => Check::warn(
            "trust",
            "no certificate authorities on this machine: Mozilla's, which are in the program, are trusted",
            "install ca-certificates, or name yours with `--ca-file FILE` or SSL_CERT_FILE",
        ),
        (count, None) => {
            Check::ok("trust", format!("{} of this machine", plural::count(count, "certificate authority")))
        }
    }];
    if let Some(error) = client {
        let next = advice(error, "correct the file, or leave it out");
        checks.push(Check::fail("trust", causes::line(error), next));
    } else if !options.access.http.ca_files.is_empty() {
        let files = options.access.http.ca_files.iter().map(|path| path.display().to_string());
        checks.push(Check::ok("trust", format!("those in {}, too", files.collect::<Vec<_>>().join(", "))));
    }
    checks
}

/// A proxy of the environment, without the password that may be in it.
pub(super) fn proxy(variable: &str, value: &str) -> Check {
    if variable.eq_ignore_ascii_case("NO_PROXY") {
        return Check::ok("proxy", format!("{variable}: {value}"));
    }
    let url = if value.contains("://") { value.parse::<url::Url>() } else { format!("http://{value}").parse() };
    match url {
        Ok(url) if url.has_host() => Check::ok("proxy", format!("{variable}: {}", http::shown(&url))),
        _ => Check::fail("proxy", format!("{variable}: not the address of a proxy"), "write http://HOST:PORT"),
    }
}

/// Whether podman is there and its settings work. Images can be built, carried and served without it.
pub(super) fn podman(path: Option<&OsStr>) -> Check {
    let without = "install podman where images are to be run; haversack itself does not need it";
    let Some(program) = program_in(path, "podman") else { return Check::warn("podman", "not installed", without) };
    let format = "{{.Version.Version}}, {{if .Host.Security.Rootless}}rootless{{else}}root{{end}}, \
                  {{.Store.GraphDriverName}} in {{.Store.GraphRoot}}";
    let next = "run `podman info`; rootless users need lines in /etc/subuid and /etc/subgid";
    match answer(Command::new(&program).args(["info", "--format", format])) {
        Ok(Ok(said)) => Check::ok("podman", said.trim()),
        Ok(Err(said)) => {
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("`podman info` fails");
            Check::warn("podman", last.trim(), next)
        }
        Err(error) => Check::warn("podman", format!("{}: {error}", program.display()), next),
    }
}

/// What a program says: on stdout when it succeeds, on stderr when it does not. It is ended when it takes too long.
fn answer(command: &mut Command) -> io::Result<Result<String, String>> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + PATIENCE;
    // What is said is a few lines, which a pipe holds.
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > until => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", PATIENCE.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let mut text = String::new();
    if status.success() {
        child.stdout.take().expect("it is piped").take(SAID).read_to_string(&mut text)?;
        return Ok(Ok(text));
    }
    child.stderr.take().expect("it is piped").take(SAID).read_to_string(&mut text)?;
    Ok(Err(text))
}

/// The program of this name that a shell would run.
pub(super) fn program_in(path: Option<&OsStr>, name: &str) -> Option<PathBuf> {
    let is_program = |file: &PathBuf| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
    std::env::split_paths(path?).map(|directory| directory.join(name)).find(is_program)
}

/// Whether others than its owner may do something with a file.
pub(super) fn is_open_to_others(path: &Path) -> bool {
    let found = fs::open_any(path).and_then(|file| file.metadata().at("read", path));
    found.is_ok_and(|found| found.mode() & 0o077 != 0)
}

/// File systems by their numbers in statfs(2).
fn kind_of(number: u64) -> Option<&'static str> {
    Some(match number & 0xffff_ffff {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x4d44 => "vfat",
        0x2011_bab0 => "exfat",
        0x2fc1_2fc1 => "zfs",
        0x0102_1997 => "9p",
        0x6573_5546 => "fuse",
        _ => return None,
    })
}

/// Bytes with which no job of ours ends.
const LITTLE: u64 = 200 << 20;
/// Bytes that the images of a small site take.
const ENOUGH: u64 = 5 << 30;
/// Bytes of what a program says that are read.
const SAID: u64 = 64 << 10;
/// The longest that podman takes to say how it is set up.
const PATIENCE: Duration = Duration::from_secs(20);
