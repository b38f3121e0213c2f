//! What a machine must be to run an image: `linux/amd64`, `linux/arm64/v8`.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::PlatformBuilder;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Operating system, architecture and variant in Go's words, as image indexes use them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`, for everything we build.
    pub os: String,
    /// `amd64`, `arm64`, `ppc64le`, `s390x` …
    pub architecture: String,
    /// `v7`, `v8`: where an architecture has several.
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// It has another form.
    #[error("`{0}` is not a valid platform: expected OS/ARCHITECTURE[/VARIANT], such as linux/amd64")]
    Form(String),
    /// The kernel's name for an architecture, where Go's is used.
    #[error("`{text}` is not a valid platform: in images, {} is called {name}", text.split('/').nth(1).unwrap_or_default())]
    Machine {
        /// What was given.
        text: String,
        /// Go's name.
        name: &'static str,
    },
}

impl Platform {
    /// The platform of the running program.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            // Rust's name does not tell the byte order, which Go's does.
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            other => other,
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    /// Whether an image for `offered` is what was asked for by `self`. Without a variant here, any variant will do; `arm64`
    /// is `arm64/v8`, as in containerd's platforms package.
    pub fn accepts(&self, offered: &Platform) -> bool {
        self.os == offered.os
            && self.architecture == offered.architecture
            && (self.variant.is_none() || self.full_variant() == offered.full_variant())
    }

    fn full_variant(&self) -> Option<&str> {
        self.variant.as_deref().or((self.architecture == "arm64").then_some("v8"))
    }

    /// As it stands in a descriptor.
    pub fn to_spec(&self) -> oci_spec::image::Platform {
        let platform = PlatformBuilder::default().os(self.os.as_str()).architecture(self.architecture.as_str());
        match &self.variant {
            Some(variant) => platform.variant(variant),
            None => platform,
        }
        .build()
        .expect("os and architecture are set")
    }
}

impl From<&oci_spec::image::Platform> for Platform {
    fn from(spec: &oci_spec::image::Platform) -> Self {
        Platform {
            os: spec.os().to_string(),
            architecture: spec.architecture().to_string(),
            variant: spec.variant().clone(),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(Error::Form(text.to_owned())),
        };
        let of_machine = [("x86_64", "amd64"), ("aarch64", "arm64"), ("i386", "386"), ("i686", "386")];
        if let Some((_, name)) = of_machine.into_iter().find(|(machine, _)| *machine == architecture) {
            return Err(Error::Machine { text: text.to_owned(), name });
        }
        if !parts.into_iter().all(word) {
            return Err(Error::Form(text.to_owned()));
        }
        Ok(Platform { os: os.into(), architecture: architecture.into(), variant: variant.map(Into::into) })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_round_trip_and_a_missing_variant_accepts_any() {
        for text in ["linux/amd64", "linux/arm64/v8"] {
            let platform: Platform = text.parse().unwrap();
            assert_eq!(platform.to_string(), text);
            assert_eq!(Platform::from(&platform.to_spec()), platform);
        }
        for text in ["linux", "amd64", "linux/", "linux/AMD64", "a/b/c/d", "linux/../x"] {
            assert_eq!(text.parse::<Platform>(), Err(Error::Form(text.to_owned())));
        }
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert!(platform("linux/arm64").accepts(&platform("linux/arm64/v8")));
        assert!(platform("linux/arm64/v8").accepts(&platform("linux/arm64")));
        assert!(!platform("linux/arm/v8").accepts(&platform("linux/arm")));
        assert!(!platform("linux/arm64/v9").accepts(&platform("linux/arm64")));
        assert!(!platform("linux/arm64/v9").accepts(&platform("linux/arm64/v8")));
    }
}
