//! Names in an image, in an order that costs no more than comparing bytes.

use std::borrow::Borrow;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A path relative to an image's root.
///
/// Names are sorted as [`Path`]s are, component by component, so that a directory comes before what is in it. A tree of
/// a hundred thousand files compares millions of them, and paths are taken apart for each comparison; here the components
/// have a NUL between them, which no component contains and which is less than all that do, and bytes are compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// The name of a relative path without `.` and `..`.
    pub fn new(path: &Path) -> Self {
        let mut bytes = Vec::with_capacity(path.as_os_str().len());
        for component in path.components() {
            if !bytes.is_empty() {
                bytes.push(0);
            }
            bytes.extend_from_slice(component.as_os_str().as_bytes());
        }
        Name(bytes)
    }

    /// The root itself, which all others are in.
    pub fn root() -> Self {
        Name(Vec::new())
    }

    /// A name in this directory.
    pub fn join(&self, last: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + last.len());
        bytes.extend_from_slice(&self.0);
        if !bytes.is_empty() {
            bytes.push(0);
        }
        bytes.extend_from_slice(last);
        Name(bytes)
    }

    /// The directory that it lies in; the root lies in itself.
    pub fn parent(&self) -> Self {
        self.ancestors().next().map_or_else(Name::root, Name::from)
    }

    /// Its components, from the one below the root.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == 0).filter(|part| !part.is_empty())
    }

    /// As a path.
    pub fn path(&self) -> PathBuf {
        path(&self.0)
    }

    /// The last component.
    pub fn last(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// What it lies in, from the nearest directory up to the one below the root. Each can be looked up in a map of names.
    pub fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        let parent = |name: &[u8]| name.iter().rposition(|byte| *byte == 0);
        std::iter::successors(parent(&self.0).map(|end| &self.0[..end]), move |name| {
            parent(name).map(|end| &name[..end])
        })
    }

    /// Whether it lies in `directory`, however deep.
    pub fn is_in(&self, directory: &Name) -> bool {
        let rest = self.0.strip_prefix(&*directory.0);
        rest.is_some_and(|rest| if directory.0.is_empty() { !rest.is_empty() } else { rest.first() == Some(&0) })
    }
}

impl From<&[u8]> for Name {
    /// One of [`Name::ancestors`] as a name of its own.
    fn from(ancestor: &[u8]) -> Self {
        Name(ancestor.to_owned())
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().fmt(f)
    }
}

fn path(name: &[u8]) -> PathBuf {
    let bytes = name.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_as_paths_are() {
        let mut paths = ["a", "a/b", "a.b", "a/b/c", "a-", "ab", "b", "a/\u{1}", "é/x"].map(PathBuf::from);
        let mut names = paths.each_ref().map(|path| Name::new(path));
        paths.sort();
        names.sort();
        assert_eq!(names.each_ref().map(Name::path), paths);
    }

    #[test]
    fn a_name_is_taken_apart_and_put_together() {
        let name = Name::new(Path::new("a/b"));
        assert_eq!(name.components().collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!((name.parent().join(b"b"), Name::root().join(b"a")), (name.clone(), name.parent()));
        assert_eq!((name.parent().parent(), Name::root().parent()), (Name::root(), Name::root()));
        assert_eq!(Name::root().components().count(), 0);
    }

    #[test]
    fn ancestors_come_from_the_nearest_to_the_one_below_the_root() {
        let name = Name::new(Path::new("a/b/c"));
        assert_eq!((name.last(), Name::new(Path::new("a")).last()), (&b"c"[..], &b"a"[..]));
        assert_eq!(name.ancestors().map(path).collect::<Vec<_>>(), ["a/b", "a"].map(PathBuf::from));
        for (directory, is_in) in
            [("", true), ("a", true), ("a/b", true), ("a/b/c", false), ("a/bc", false), ("b", false)]
        {
            assert_eq!(name.is_in(&Name::new(Path::new(directory))), is_in, "{directory}");
        }
    }
}
