//! The classes and their names.

use std::fmt;
use std::str::FromStr;

use crate::compression::encode::ours::ZLIB_RS;
use crate::compression::encode::{PgzipVariant, Writes};

/// A class of encoders that make the same bytes, named by behaviour. Carries hold the names: they are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// github.com/klauspost/pgzip at its default level, as skopeo, podman, buildah and umoci use it: `pgzip-a-1m`.
    Pgzip {
        /// What changed between releases of klauspost/compress.
        variant: PgzipVariant,
        /// How it was cut into blocks.
        block: PgzipBlock,
    },
    /// Go's compress/gzip up to Go 1.26, as docker, containerd and buildkit use it: `go-6`, `go-6-tar`.
    Go {
        /// 1 to 9; 6 is the default.
        level: u8,
        /// How the writer cut the stream.
        writes: Writes,
    },
    /// Go's compress/gzip from Go 1.27 on: `go127-6`.
    Go127 {
        /// 1, or 6, the default.
        level: u8,
    },
    /// zlib: Java, Python, and most others: `zlib-6-m8`.
    Zlib {
        /// 1 to 9; 6 is the default.
        level: u8,
        /// 8, the default, or 9.
        mem_level: u8,
    },
    /// pigz, which is zlib over pieces of 128 KiB: `pigz-9`, as Debian's base images.
    Pigz {
        /// 1 to 9; 6 is the default.
        level: u8,
    },
    /// GNU gzip: `gnu-9`, as Debian's changelogs.
    Gnu {
        /// 1 to 9; 6 is the default.
        level: u8,
    },
    /// zlib-rs in the version that is built in, as [`Encoder`](crate::compression::Encoder) uses it, in pieces of 64 KiB:
    /// `zlib-rs-0.6.8-64k-6`. Of another version is another class, which is unknown here.
    Ours {
        /// 0 to 9; 6 is the default.
        level: u8,
    },
}

/// Plain bytes of a block of pgzip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PgzipBlock {
    /// 1 MiB.
    Mebibyte,
    /// 256 KiB: umoci before 2023.
    Quarter,
}

impl PgzipBlock {
    pub(super) fn bytes(self) -> usize {
        match self {
            PgzipBlock::Mebibyte => 1 << 20,
            PgzipBlock::Quarter => 256 << 10,
        }
    }
}

/// No class has this name here; one of a later release may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no encoder is called {0:?}: perhaps a later release knows it")]
pub struct UnknownClass(pub String);

impl Class {
    /// All there are. One that is missing is never found: `tests::listed` counts them.
    pub fn all() -> impl Iterator<Item = Class> {
        use PgzipVariant::{A, B, C, D};
        let pgzip = [PgzipBlock::Mebibyte, PgzipBlock::Quarter]
            .into_iter()
            .flat_map(|block| [A, B, C, D].map(|variant| Class::Pgzip { variant, block }));
        let levels = [6, 9, 1, 5, 4, 7, 8, 3, 2];
        let go = levels.map(|level| Class::Go { level, writes: Writes::Copy });
        // The others are of use for what engines write: at the default level.
        let other_writes = [Writes::Tar, Writes::TarSplit].map(|writes| Class::Go { level: 6, writes });
        let go127 = [6, 1].map(|level| Class::Go127 { level });
        let gnu = levels.map(|level| Class::Gnu { level });
        let zlib = [8, 9].into_iter().flat_map(move |mem_level| levels.map(|level| Class::Zlib { level, mem_level }));
        let pigz = levels.map(|level| Class::Pigz { level });
        let ours = [6, 9, 1, 5, 4, 7, 8, 3, 2, 0].map(|level| Class::Ours { level });
        pgzip.chain(go).chain(go127).chain(other_writes).chain(gnu).chain(zlib).chain(pigz).chain(ours)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Class::Pgzip { variant, block } => {
                let variant = match variant {
                    PgzipVariant::A => "a",
                    PgzipVariant::B => "b",
                    PgzipVariant::C => "c",
                    PgzipVariant::D => "d",
                };
                let block = match block {
                    PgzipBlock::Mebibyte => "1m",
                    PgzipBlock::Quarter => "256k",
                };
                write!(f, "pgzip-{variant}-{block}")
            }
            Class::Go { level, writes } => {
                let writes = match writes {
                    Writes::Copy => "",
                    Writes::Tar => "-tar",
                    Writes::TarSplit => "-tarsplit",
                };
                write!(f, "go-{level}{writes}")
            }
            Class::Go127 { level } => write!(f, "go127-{level}"),
            Class::Zlib { level, mem_level } => write!(f, "zlib-{level}-m{mem_level}"),
            Class::Ours { level } => write!(f, "zlib-rs-{ZLIB_RS}-64k-{level}"),
            Class::Pigz { level } => write!(f, "pigz-{level}"),
            Class::Gnu { level } => write!(f, "gnu-{level}"),
        }
    }
}

impl FromStr for Class {
    type Err = UnknownClass;

    fn from_str(name: &str) -> Result<Self, UnknownClass> {
        // There are few, and a name has one spelling only.
        Class::all().find(|class| class.to_string() == name).ok_or_else(|| UnknownClass(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The family of a class, and how many of it there are. A new one does not compile until it is counted here; then it must be in
    /// `all`, too, and in the list of the test below.
    fn listed(class: Class) -> (&'static str, usize) {
        match class {
            Class::Pgzip {
                variant: PgzipVariant::A | PgzipVariant::B | PgzipVariant::C | PgzipVariant::D,
                block: PgzipBlock::Mebibyte | PgzipBlock::Quarter,
            } => ("pgzip", 4 * 2),
            Class::Go { writes: Writes::Copy, .. } => ("go", 9),
            Class::Go { writes: Writes::Tar | Writes::TarSplit, .. } => ("go of tars", 2),
            Class::Go127 { .. } => ("go127", 2),
            Class::Zlib { .. } => ("zlib", 9 * 2),
            Class::Pigz { .. } => ("pigz", 9),
            Class::Gnu { .. } => ("gnu", 9),
            Class::Ours { .. } => ("ours", 10),
        }
    }

    #[test]
    fn all_classes_are_listed() {
        let (mut counted, mut expected) = (BTreeMap::new(), BTreeMap::new());
        for (family, count) in Class::all().map(listed) {
            *counted.entry(family).or_insert(0) += 1;
            expected.insert(family, count);
        }
        assert_eq!(counted, expected);
        let families: Vec<&str> = counted.into_keys().collect();
        assert_eq!(families, ["gnu", "go", "go of tars", "go127", "ours", "pgzip", "pigz", "zlib"]);
    }

    #[test]
    fn every_class_has_a_name_of_its_own_that_is_read_back() {
        let mut names = BTreeSet::new();
        for class in Class::all() {
            let name = class.to_string();
            assert_eq!(name.parse(), Ok(class));
            assert!(names.insert(name));
        }
        for name in ["", "go-6 ", "go-10", "GO-6", "pgzip-e-1m", "go127-5", "zlib-rs-0.5.0-64k-6", "zlib-rs-0.6.8-6"] {
            assert_eq!(name.parse::<Class>(), Err(UnknownClass(name.to_owned())));
        }
    }
}
