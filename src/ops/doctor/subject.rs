//! What people name to be looked at.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use crate::ops::login::LoginPlace;
use crate::reference::ImageRef;

/// Something else to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A registry, `HOST[:PORT]`.
    Registry(String),
    /// A layout.
    Layout(PathBuf),
    /// A server.
    Url(Url),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(Ok(url)) = text.contains("://").then(|| text.parse::<Url>())
            && matches!(url.scheme(), "http" | "https")
        {
            return Ok(Subject::Url(url));
        }
        match text.parse::<ImageRef>() {
            Ok(ImageRef::Docker(remote)) => return Ok(Subject::Registry(remote.registry)),
            Ok(ImageRef::Oci { path, .. }) => return Ok(Subject::Layout(path)),
            _ if Path::new(text).is_dir() => return Ok(Subject::Layout(text.into())),
            _ => {}
        }
        let place: Result<LoginPlace, _> = text.parse();
        place.map(|place| Subject::Registry(place.registry)).map_err(|_| {
            format!(
                "expected a registry (HOST[:PORT]), the directory of a layout or a URL; there is no directory `{text}`"
            )
        })
    }
}
