//! Image references as people type them: what lacks a transport is completed where one meaning is plain, or else answered
//! with what was probably meant.

use std::path::{Path, PathBuf};

use crate::carry;
use crate::image::Store;
use crate::image::store::{self, archive};
use crate::reference::{self, ImageRef, Remote, Target};

/// Parses a reference; the error suggests what to write.
pub fn image(text: &str) -> Result<ImageRef, String> {
    if let Some(reason) = of_others(text) {
        return Err(reason);
    }
    text.parse().map_err(|error| explained(text, &error))
}

/// What to write for a reference that other programs take, or that is written like a URL.
fn of_others(text: &str) -> Option<String> {
    if let Some(rest) = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
        let host = rest.strip_suffix('/').unwrap_or(rest);
        let remote = if reference::is_host(host) { format!("{host}/REPOSITORY:TAG") } else { rest.to_owned() };
        return Some(format!("an image in a registry has no scheme of the web; write docker://{remote}"));
    }
    let (transport, rest) = text.split_once(':')?;
    match transport {
        "docker" if !rest.starts_with("//") && rest.contains('/') => {
            Some(format!("two slashes are missing; write docker://{}", rest.trim_start_matches('/')))
        }
        "docker-daemon" => Some(
            "the store of Docker's daemon is not read or written; `docker save NAME > FILE` writes what docker-archive:FILE reads, and \
             `docker load < FILE` reads what it writes"
                .to_owned(),
        ),
        "containers-storage" => Some(
            "the store of podman is not read or written; `podman save --format oci-archive --output FILE NAME` writes what \
             oci-archive:FILE reads, and `podman load --input FILE` reads what it writes"
                .to_owned(),
        ),
        "oci" | "oci-archive" | "docker-archive" | "dir" => {
            let path = rest.strip_prefix("//").filter(|path| !path.is_empty() && !path.starts_with('/'))?;
            Some(format!("a path has no slashes before it; write {transport}:{path}, or {transport}:/{path} for one from the root"))
        }
        _ => None,
    }
}

/// Parses a reference, or takes the path of a layout, a directory or an archive.
pub fn image_or_path(text: &str) -> Result<ImageRef, String> {
    if let Some(whole) = part_of(Path::new(text)) {
        return Err(whole);
    }
    match at(Path::new(text), None) {
        Some(found) => Ok(found),
        None if !text.is_empty() && !text.contains(['/', ':', '@']) => Err(format!(
            "there is no file or directory `{text}` here; an image in a registry is docker://HOST/REPOSITORY:TAG"
        )),
        None => image(text),
    }
}

/// What to write for a file that lies in a carry or a layout and means nothing alone.
fn part_of(file: &Path) -> Option<String> {
    let directory = file.parent().filter(|_| file.is_file())?;
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let what = match (directory.join("oci-layout").is_file(), directory.join(carry::CARRY).is_file()) {
        (true, _) if file.ends_with("index.json") || file.ends_with("oci-layout") => "an OCI layout",
        (false, true) => "a carry",
        _ => return None,
    };
    Some(format!("`{}` is a part of {what}; write its directory: {}", file.display(), directory.display()))
}

/// The same for what may be a carry, which is known by its path; whether there is one is said when it is opened.
pub fn carry_or_image(text: &str) -> Result<ImageRef, String> {
    match image_or_path(text) {
        Err(_) if !text.contains(':') && part_of(Path::new(text)).is_none() => {
            Ok(ImageRef::Oci { path: text.into(), name: None })
        }
        found => found,
    }
}

/// An image in a registry.
pub fn remote(text: &str) -> Result<Remote, String> {
    match image(text) {
        Ok(ImageRef::Docker(remote)) => Ok(remote),
        Ok(_) => Err("expected an image in a registry, docker://HOST/REPOSITORY:TAG".to_owned()),
        // A directory of that name would be refused next.
        Err(reason) => Err(match of_others(text).is_none().then(|| completed(text)).flatten() {
            Some(remote) if !text.starts_with("docker:") => format!("the transport is missing; write {remote}"),
            _ => reason,
        }),
    }
}

/// A repository of a registry, without a tag or a digest. The error says what to write at once, whatever else is missing.
pub fn repository(text: &str) -> Result<Remote, String> {
    let rest = ["docker://", "https://", "http://", "docker:"].iter().find_map(|start| text.strip_prefix(start));
    let remote: Result<Remote, _> = rest.unwrap_or(text).parse();
    match (text.parse(), remote) {
        (Ok(ImageRef::Docker(remote)), _) if remote.target == Target::Unnamed => Ok(remote),
        (Ok(ImageRef::Docker(remote)), _) => {
            Err(format!("tags are those of a repository; write docker://{}", remote.with(Target::Unnamed)))
        }
        (Ok(_), _) => Err("expected a repository of a registry, docker://HOST/REPOSITORY".to_owned()),
        (Err(_), Ok(remote)) => Err(format!("write docker://{}", remote.with(Target::Unnamed))),
        (Err(_), Err(reference::Error::NoRepository(host))) => Err(format!(
            "the repository is missing; write docker://{host}/REPOSITORY (the tags of one repository are listed, not the \
             repositories of a registry)"
        )),
        (Err(_), Err(reference::Error::ShortName(name))) => {
            let such = completed(name.split([':', '@']).next().unwrap_or_default());
            let such = such.map(|remote| format!(", such as {remote}")).unwrap_or_default();
            Err(format!("`{name}`: short names are not guessed; write docker://HOST/REPOSITORY{such}"))
        }
        (Err(_), Err(error)) => Err(error.to_string()),
    }
}

/// The directory of a layout, with or without its transport.
pub fn layout(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("oci:").unwrap_or(text);
    if path.is_empty() { Err("expected the directory of a layout".to_owned()) } else { Ok(path.into()) }
}

/// What lies at a path.
fn at(path: &Path, name: Option<&str>) -> Option<ImageRef> {
    let (path, name) = (path.to_owned(), name.map(str::to_owned));
    if path.is_dir() {
        let is_dir = path.join("manifest.json").is_file() && name.is_none();
        return Some(if is_dir { ImageRef::Dir { path } } else { ImageRef::Oci { path, name } });
    }
    if !path.is_file() {
        return None;
    }
    // What Docker saves without a layout beside is told by its having none.
    let archive = ImageRef::OciArchive { path: path.clone(), name: None };
    Some(match Store::open(&archive) {
        Err(store::Error::Archive(archive::Error::NotAnArchive { .. })) => ImageRef::DockerArchive { path, name },
        _ => ImageRef::OciArchive { path, name },
    })
}

/// The error, with what to write instead where the transport is missing.
fn explained(text: &str, error: &reference::Error) -> String {
    if !matches!(error, reference::Error::Transport(_)) {
        return error.to_string();
    }
    let (path, name) = text.split_once(':').map_or((text, None), |(path, name)| (path, Some(name)));
    if let Some(found) = at(Path::new(text), None).or_else(|| at(Path::new(path), name)) {
        return format!("the transport is missing; write {found}");
    }
    let is_path = ["/", "./", "../", "~"].iter().any(|start| text.starts_with(start))
        || PathBuf::from(path).extension().is_some_and(|extension| extension == "tar");
    if is_path {
        return format!(
            "there is no file or directory `{path}`, and no transport is given (oci:DIR, oci-archive:FILE, …)"
        );
    }
    // One word is rather the name of a directory to be made.
    let is_word = !text.contains(['/', ':', '@']);
    match completed(text) {
        Some(remote) if is_word => {
            format!(
                "the transport is missing; write oci:{text} for a directory, or {remote} for an image in a registry"
            )
        }
        Some(remote) => format!("the transport is missing; for an image in a registry, write {remote}"),
        None => error.to_string(),
    }
}

/// What `docker pull` would complete a name to; here it is written which registry is meant.
fn completed(text: &str) -> Option<String> {
    if reference::is_host(text) {
        return Some(format!("docker://{text}/REPOSITORY:TAG"));
    }
    let first = text.split('/').next().unwrap_or_default();
    let has_host = text.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let remote = match (has_host, text.contains('/')) {
        (true, _) => format!("docker://{text}"),
        (false, true) => format!("docker://docker.io/{text}"),
        (false, false) => format!("docker://docker.io/library/{text}"),
    };
    remote.parse::<ImageRef>().is_ok().then_some(remote)
}
