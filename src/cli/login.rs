//! `haversack login` and `haversack logout`: credentials in the file that podman reads, too.

use std::io::Read;
use std::path::PathBuf;

use crate::cli::outcome::{Exit, Failure, Outcome};
use crate::cli::registries::TlsArgs;
use crate::cli::{Context, block_on};
use crate::ops::Access;
use crate::ops::login::{self, LoggedIn, LoggedOut, LoginOptions, LoginPlace};
use crate::registry::AuthFiles;
use crate::terminal::{Ui, prompt};

/// Log in to a registry and keep the user and password in podman's file
#[derive(clap::Args)]
#[command(after_help = LOGIN_HELP)]
pub(super) struct LoginArgs {
    /// Registry: HOST[:PORT], or HOST[:PORT]/NAMESPACE for a part of it
    #[arg(value_name = "REGISTRY")]
    place: LoginPlace,
    /// User name [default: asked for on a terminal]
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Read the password or token from standard input instead of asking for it on a terminal
    #[arg(long)]
    password_stdin: bool,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    file: FileArgs,
}

/// Log out of a registry: remove its user and password from podman's file
#[derive(clap::Args)]
#[command(after_help = LOGOUT_HELP)]
pub(super) struct LogoutArgs {
    /// Registry: HOST[:PORT], or HOST[:PORT]/NAMESPACE for a part of it
    #[arg(value_name = "REGISTRY")]
    place: LoginPlace,
    #[command(flatten)]
    file: FileArgs,
}

impl LoginArgs {
    /// User and password, of which those that are not given are asked for as `podman login` asks.
    fn credentials(&self, ui: &Ui) -> Result<(String, String), Failure> {
        let (place, name) = (&self.place, self.username.as_deref());
        if !prompt::is_possible() || self.password_stdin {
            let user = name.unwrap_or("NAME");
            let hint = format!("haversack login {place} --username {user} --password-stdin < FILE");
            let usage = |message| Err(Failure::usage(message).hint(hint));
            return match name {
                None => usage("nobody can be asked for the user here: add --username"),
                Some(_) if !self.password_stdin => {
                    usage("nobody can be asked for the password here: add --password-stdin, or run it on a terminal")
                }
                Some(name) => Ok((name.to_owned(), password()?)),
            };
        }
        let asked = || prompt::line(ui, &format!("Username for {place}: "));
        let user = name.map_or_else(asked, |name| Ok(name.to_owned()))?;
        if user.is_empty() {
            return Err(Failure::usage("no user was named"));
        }
        match prompt::hidden(ui, &format!("Password of {user}: "))? {
            password if password.is_empty() => Err(Failure::usage("no password was typed")),
            password => Ok((user, password)),
        }
    }
}

#[derive(clap::Args)]
struct FileArgs {
    /// File with credentials [default: REGISTRY_AUTH_FILE or podman's]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

impl FileArgs {
    /// The file that is written, and those that are looked in.
    fn files(&self, context: &Context) -> Result<(PathBuf, AuthFiles), Failure> {
        if let Some(path) = &self.authfile {
            return Ok((path.clone(), AuthFiles { paths: vec![path.clone()], ..AuthFiles::default() }));
        }
        let mut paths = context.config.environment.auth_files();
        let nowhere = || Failure::usage("neither HOME nor XDG_RUNTIME_DIR is set: name a file with --authfile");
        let first = paths.first().cloned().ok_or_else(nowhere)?;
        paths.dedup();
        Ok((first, AuthFiles { paths, ..AuthFiles::default() }))
    }
}

pub(super) fn login(args: &LoginArgs, context: &Context) -> Outcome {
    let (file, auth) = args.file.files(context)?;
    let access = Access { http: context.http.clone(), auth, verify_tls: args.tls.tls_verify };
    let (user, password) = args.credentials(&context.ui)?;
    let options = LoginOptions { place: args.place.clone(), user, password, file, access };
    let report = block_on(async { Ok(login::login(&options).await?) })
        .map_err(|failure| failure.without_tls(|_| super::ONE_REGISTRY))?;
    if !report.checked {
        context.ui.warn(format_args!("{}: the registry lets everybody in and did not check the password", args.place));
    }
    context.ui.result(&report, LoggedIn::to_text)?;
    Ok(Exit::Done)
}

pub(super) fn logout(args: &LogoutArgs, context: &Context) -> Outcome {
    let (file, others) = args.file.files(context)?;
    let report = login::logout(&args.place, &file, &others)?;
    if let Some(origin) = &report.remaining {
        context.ui.warn(format_args!("credentials for {} are still found in {origin}", report.registry));
    }
    context.ui.result(&report, LoggedOut::to_text)?;
    Ok(Exit::Done)
}

/// The password on standard input, without the line feed that `echo` and editors put behind it.
fn password() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(LONGEST + 1).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage("the password on standard input is not UTF-8"))?;
    let password = text.trim_end_matches(['\n', '\r']);
    match password {
        "" => Err(Failure::usage("there is no password on standard input")),
        _ if text.len() as u64 > LONGEST => Err(Failure::usage("the password on standard input is too long")),
        _ => Ok(password.to_owned()),
    }
}

/// Bytes of a password; tokens of cloud registries have some thousand.
const LONGEST: u64 = 64 << 10;

const LOGIN_HELP: &str = "\
The registry is asked first; nothing is written if it refuses. The file is that of `podman login`: $REGISTRY_AUTH_FILE, or \
$XDG_RUNTIME_DIR/containers/auth.json, or /run/containers/UID/auth.json. The last two are lost when the machine restarts; to stay \
logged in, add `--authfile ~/.config/containers/auth.json`, which all commands read as well. If the file names a credential helper, \
the helper keeps the password.

Examples:
  haversack login quay.io
  haversack login quay.io --username team+robot --password-stdin
  haversack login registry.local:5000 --username me --password-stdin --authfile auth.json

Exit status: 0 logged in, 1 refused or failed and nothing was written, 2 wrong command line";

const LOGOUT_HELP: &str = "\
Examples:
  haversack logout quay.io

Exit status: 0 logged out, 1 not logged in, 2 wrong command line";
