//! Credential helpers: `docker-credential-NAME VERB`, with the registry on standard input.
//!
//! A helper is somebody else's program. What it says on standard error is shown, and one that does not end is ended.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::plural;
use crate::registry::auth::login::{Error, Login};

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    user: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Asks a helper for the credentials of a registry.
pub(super) fn helper(name: &str, registry: &str) -> Result<Login, Error> {
    // What Docker's own programs keep for its hub has this name.
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    ask(&format!("docker-credential-{name}"), server, WAIT)
}

/// Whether a helper failed only for it is not there.
pub(super) fn is_not_installed(error: &Error) -> bool {
    matches!(error, Error::Helper { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn ask(program: &str, registry: &str, wait: Duration) -> Result<Login, Error> {
    let failed = |source| Error::Helper { program: program.to_owned(), registry: registry.to_owned(), source };
    let ended = run(program, "get", registry.as_bytes(), wait).map_err(failed)?;
    if !ended.success {
        // Which stream it is on depends on the helper, too.
        return if is_unknown(&ended.stdout) || is_unknown(&ended.stderr) {
            Ok(Login::Anonymous)
        } else {
            Err(failed(io::Error::other(ended.said())))
        };
    }
    let answer: Answer = serde_json::from_str(&ended.stdout).map_err(|error| failed(error.into()))?;
    Ok(match answer.user.as_str() {
        "<token>" => Login::Identity(answer.secret),
        "" if answer.secret.is_empty() => Login::Anonymous,
        _ => Login::Basic { user: answer.user, password: answer.secret },
    })
}

/// Tells a helper to store or to erase credentials, in the words of its protocol.
pub(super) fn tell(name: &str, verb: &'static str, registry: &str, input: &[u8]) -> Result<(), Error> {
    let program = format!("docker-credential-{name}");
    let failed = |source| Error::Told { program: program.clone(), verb, registry: registry.to_owned(), source };
    let ended = run(&program, verb, input, WAIT).map_err(failed)?;
    if ended.success { Ok(()) } else { Err(failed(io::Error::other(ended.said()))) }
}

/// Has a helper erase credentials. `false` when it has none, or is not there.
pub(super) fn erase(name: &str, registry: &str) -> Result<bool, Error> {
    match tell(name, "erase", registry, registry.as_bytes()) {
        Ok(()) => Ok(true),
        Err(Error::Told { source, .. })
            if source.kind() == io::ErrorKind::NotFound || is_unknown(&source.to_string()) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether a helper says that it has nothing. The case depends on the helper.
fn is_unknown(said: &str) -> bool {
    said.to_lowercase().contains("not found")
}

/// How a helper ended, and what it said.
struct Ended {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Why it failed, in its own words.
    fn said(&self) -> String {
        let said: Vec<&str> =
            [&self.stderr, &self.stdout].iter().map(|it| it.trim()).filter(|it| !it.is_empty()).collect();
        said.join(": ")
    }
}

fn run(program: &str, verb: &str, input: &[u8], wait: Duration) -> io::Result<Ended> {
    let until = Instant::now() + wait;
    let mut child =
        Command::new(program).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // A helper that does not read its input answers all the same; one that reads none of it must not keep us.
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let stdout = Collected::of(child.stdout.take().expect("it was asked for"));
    let stderr = Collected::of(child.stderr.take().expect("it was asked for"));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            let why = format!("no answer within {}; it was ended", plural::count(wait.as_secs(), "second"));
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        thread::sleep(POLL);
    };
    Ok(Ended { success: status.success(), stdout: stdout.text(), stderr: stderr.text() })
}

/// What comes out of a pipe.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    is_over: mpsc::Receiver<()>,
}

impl Collected {
    fn of(mut stream: impl Read + Send + 'static) -> Self {
        let (sender, is_over) = mpsc::channel();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&bytes);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                let mut bytes = collected.lock().expect("no holder panics");
                if bytes.len() < ANSWER {
                    bytes.extend_from_slice(&piece[..n]);
                }
            }
            let _ = sender.send(());
        });
        Collected { bytes, is_over }
    }

    /// All of it. What the program started and left running may hold the pipe open: then what has come.
    fn text(self) -> String {
        let _ = self.is_over.recv_timeout(LINGER);
        String::from_utf8_lossy(&self.bytes.lock().expect("no holder panics")).into_owned()
    }
}

/// How long a helper may take: some ask the user for a password.
const WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// How long its output is waited for when it has ended.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of an answer.
const ANSWER: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::fs;

    #[test]
    fn what_helpers_say_is_understood_on_either_stream_and_who_hangs_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-x");
        let basic = |user: &str, password: &str| Ok(Login::Basic { user: user.into(), password: password.into() });
        for (script, expected) in [
            (r#"read it; echo "{\"Username\":\"$it\",\"Secret\":\"s\"}""#, basic("reg.example", "s")),
            (r#"echo '{"Username":"<token>","Secret":"t"}'"#, Ok(Login::Identity("t".into()))),
            (r#"echo '{"ServerURL":"","Username":"","Secret":""}'"#, Ok(Login::Anonymous)),
            ("echo credentials not found in native keychain; exit 1", Ok(Login::Anonymous)),
            ("echo Credentials Not Found >&2; exit 1", Ok(Login::Anonymous)),
            ("echo locked >&2; exit 1", Err("locked")),
            ("echo locked; echo the keychain >&2; exit 1", Err("the keychain: locked")),
            // A child keeps the pipes open.
            (r#"sleep 60 & echo '{"Username":"a","Secret":"b"}'; exec 1>&- 2>&-"#, basic("a", "b")),
            ("sleep 60", Err("no answer within 1 second; it was ended")),
        ] {
            fs::write(&path, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
            let started = Instant::now();
            let found = ask(path.to_str().unwrap(), "reg.example", Duration::from_secs(1));
            let found = found.map_err(|error| match error {
                Error::Helper { source, .. } => source.to_string(),
                other => panic!("{other}"),
            });
            assert_eq!(found, expected.map_err(str::to_owned), "{script}");
            assert!(started.elapsed() < Duration::from_secs(10), "{script}");
        }
    }
}
