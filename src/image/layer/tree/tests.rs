//! Trees as they are put together, laid over others and written.

use std::io;
use std::os::unix::fs::symlink;

use super::*;
use crate::compression::Compression;
use crate::image::layer::LayerOptions;
use crate::image::layer::pax::{Meta, TarWriter};
use crate::image::layer::rootfs::RootFs;
use crate::progress::{Progress, Unit};

const PLAIN: LayerOptions = LayerOptions { compression: Compression::None, level: None };

fn listing(tree: &Tree, created: i64, clamp: Option<i64>) -> Vec<String> {
    let task = Progress::off().task("x", Unit::Bytes, None);
    let (_, bytes) = tree.write(Vec::new(), &PLAIN, created, clamp, &task).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let lines = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        let link = entry.link_name().unwrap().map(|link| format!(" -> {}", link.display())).unwrap_or_default();
        let (mode, mtime) = (header.mode().unwrap(), header.mtime().unwrap());
        format!("{mode:o} {mtime} {}{link}", entry.path().unwrap().display())
    });
    lines.collect()
}

#[test]
fn entries_are_sorted_parents_first_and_times_are_clamped() {
    let dir = tempfile::tempdir().unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(50);
    for name in ["b", "a"] {
        fs::write(&dir.path().join(name), name.as_bytes()).unwrap();
    }
    std::fs::File::options().write(true).open(dir.path().join("a")).unwrap().set_modified(old).unwrap();
    std::fs::hard_link(dir.path().join("b"), dir.path().join("c")).unwrap();
    symlink("/nowhere", dir.path().join("d")).unwrap();
    let mut tree = Tree::default();
    tree.insert("/tmp", Node::new(Kind::Directory, 0o1777)).unwrap();
    let overrides = Overrides { file_mode: Some(0o600), directory_mode: Some(0o700), ..Overrides::default() };
    tree.add_directory(dir.path(), "/srv/data", &overrides).unwrap();
    tree.insert("/srv-x", Node::new(Kind::Bytes(b"x".to_vec()), 0o644)).unwrap();
    let (tree, _) = tree.over(&Below::default()).unwrap();
    assert_eq!(
        listing(&tree, 100, Some(100)),
        [
            "755 100 srv/",
            "700 100 srv/data/",
            "600 50 srv/data/a",
            "600 100 srv/data/b",
            "600 100 srv/data/c -> srv/data/b",
            "777 100 srv/data/d -> /nowhere",
            "644 100 srv-x",
            "1777 100 tmp/",
        ]
    );
}

#[test]
fn what_cannot_be_in_an_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut tree = Tree::default();
    let file = || Node::new(Kind::Bytes(Vec::new()), 0o644);
    tree.insert("/etc/x", file()).unwrap();
    let errors = [
        tree.insert("/etc/../../x", file()).unwrap_err(),
        tree.insert("/", file()).unwrap_err(),
        tree.insert("/etc/x/y", file()).unwrap_err(),
        tree.insert("/etc/x/y/z", file()).unwrap_err(),
        {
            tree.insert("/d", Node::new(Kind::Directory, 0o755)).unwrap();
            tree.insert("/d.x", file()).unwrap();
            tree.insert("/d/e/f", file()).unwrap();
            tree.insert("/d", file()).unwrap_err()
        },
        tree.insert("/d/e", file()).unwrap_err(),
        tree.insert("/d/.wh.e", file()).unwrap_err(),
        tree.insert("/d/.wh..wh..opq", Node::new(Kind::Directory, 0o755)).unwrap_err(),
        tree.insert("/.wh.d/e", file()).unwrap_err(),
        tree.insert("/.wh.d", Node::new(Kind::Symlink("e".into()), 0o777)).unwrap_err(),
        tree.insert("/.wh.d", Node::new(Kind::Whiteout, 0)).unwrap_err(),
        tree.add_file(dir.path(), "/s", None).unwrap_err(),
        tree.add_file(&socket, "/s", None).unwrap_err(),
        tree.add_directory(dir.path(), "/s", &Overrides::default()).unwrap_err(),
        tree.add_file(&dir.path().join("none"), "/s", None).unwrap_err(),
    ];
    let odd = format!("{}: neither a file, a directory nor a link, and cannot be in an image", socket.display());
    assert_eq!(
        errors.map(|error| error.to_string()),
        [
            "`etc/../../x` is not a path inside the image".to_owned(),
            "`` is not a path inside the image".into(),
            "/etc/x/y: /etc/x is not a directory".into(),
            "/etc/x/y/z: /etc/x is not a directory".into(),
            "/d/e/f: /d is not a directory".into(),
            "/d/e/f: /d/e is not a directory".into(),
            "/d/.wh.e: a name with .wh. before it removes what a layer below has".into(),
            "/d/.wh..wh..opq: a name with .wh. before it removes what a layer below has".into(),
            "/.wh.d/e: a name with .wh. before it removes what a layer below has".into(),
            "/.wh.d: a name with .wh. before it removes what a layer below has".into(),
            "/.wh.d: a name with .wh. before it removes what a layer below has".into(),
            format!(
                "{}: a directory, and `files` takes files: `directories` takes it with all that is in it",
                dir.path().display()
            ),
            odd.clone(),
            odd,
            format!("cannot read {}", dir.path().join("none").display()),
        ]
    );
}

#[test]
fn capabilities_and_the_users_attributes_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    fs::write(&file, b"x").unwrap();
    let mut xattrs = BTreeMap::from([("user.note".to_owned(), b"mine".to_vec())]);
    // Only root may give capabilities away: here cap_net_bind_service, as `setcap` writes it.
    if rustix::process::geteuid().is_root() {
        xattrs.insert("security.capability".to_owned(), [vec![1, 0, 0, 2, 0, 4], vec![0; 14]].concat());
    }
    for (name, value) in &xattrs {
        rustix::fs::setxattr(&file, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    }
    let mut tree = Tree::default();
    tree.add_directory(dir.path(), "/", &Overrides::default()).unwrap();
    assert_eq!(tree.nodes().map(|(path, node)| (path, &node.xattrs)).collect::<Vec<_>>(), [("x".into(), &xattrs)]);
    let task = Progress::off().task("x", Unit::Bytes, None);
    let (_, bytes) = tree.write(Vec::new(), &PLAIN, 0, None, &task).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let records: Vec<_> =
        entry.pax_extensions().unwrap().unwrap().map(|it| it.unwrap().key().unwrap().to_owned()).collect();
    let expected: Vec<_> = xattrs.keys().map(|key| format!("SCHILY.xattr.{key}")).collect();
    assert_eq!(records, expected);
}

#[test]
fn a_file_with_holes_is_in_the_layer_with_its_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"here", 2 << 20).unwrap();
    let mut tree = Tree::default();
    tree.add_file(&path, "/x", None).unwrap();
    let task = Progress::off().task("x", Unit::Bytes, None);
    let (_, bytes) = tree.write(Vec::new(), &PLAIN, 0, None, &task).unwrap();
    let mut content = Vec::new();
    let mut archive = tar::Archive::new(&bytes[..]);
    io::Read::read_to_end(&mut archive.entries().unwrap().next().unwrap().unwrap(), &mut content).unwrap();
    assert!(content == std::fs::read(&path).unwrap());
}

#[test]
fn a_hard_link_whose_file_was_replaced_is_an_error() {
    let mut tree = Tree::default();
    tree.insert("/b", Node::new(Kind::HardLink("a".into()), 0o644)).unwrap();
    let task = Progress::off().task("x", Unit::Bytes, None);
    let error = tree.write(io::sink(), &PLAIN, 0, None, &task).unwrap_err();
    assert_eq!(error.to_string(), "/b: the file it is a link to, /a, is not in the layer");
}

/// A base: `MODE UID MTIME NAME/`, `NAME` and `NAME -> TARGET`.
fn base(entries: &[&str]) -> RootFs {
    let mut tar = TarWriter::new(Vec::new());
    for entry in entries {
        if let Some((name, target)) = entry.split_once(" -> ") {
            tar.symlink(Path::new(name), &Meta::default(), Path::new(target)).unwrap();
        } else if let [mode, uid, mtime, name] = entry.split(' ').collect::<Vec<_>>()[..] {
            let mode = u32::from_str_radix(mode, 8).unwrap();
            let (uid, mtime) = (uid.parse().unwrap(), mtime.parse().unwrap());
            tar.directory(Path::new(name), &Meta { mode, uid, mtime, ..Meta::default() }).unwrap();
        } else {
            tar.file(Path::new(entry), &Meta::default(), 0, io::empty()).unwrap();
        }
    }
    let mut rootfs = RootFs::default();
    rootfs.apply(&tar.finish().unwrap()[..]).unwrap();
    rootfs
}

/// A tree of `NAME`, `NAME/` (declared, 0700), `+NAME/` (as it is below), `-NAME`, `NAME -> TARGET`, `NAME ~> TARGET` (a merge)
/// and `NAME => FILE`.
fn tree(entries: &[&str]) -> Tree {
    let mut tree = Tree::default();
    for entry in entries {
        let (name, node) = if let Some((name, target)) = entry.split_once(" -> ") {
            (name, Node::new(Kind::Symlink(target.into()), 0o777))
        } else if let Some((name, target)) = entry.split_once(" ~> ") {
            (name, Node::new(Kind::Merge(target.into()), 0o777))
        } else if let Some((name, target)) = entry.split_once(" => ") {
            (name, Node::new(Kind::HardLink(target.into()), 0o644))
        } else if let Some(name) = entry.strip_prefix('-') {
            (name, Node::new(Kind::Whiteout, 0))
        } else if let Some(name) = entry.strip_prefix('+') {
            (name, Node::new(Kind::Parent, 0o755))
        } else if entry.ends_with('/') {
            (*entry, Node { mtime: Some(70), ..Node::new(Kind::Directory, 0o700) })
        } else {
            (*entry, Node::new(Kind::Bytes(Vec::new()), 0o644))
        };
        tree.insert(name, node).unwrap();
    }
    tree
}

/// What is in the tar of the last of these layers over a base; the time of what has none is 9.
fn laid(below: &RootFs, layers: &[&[&str]]) -> Result<Vec<String>, Error> {
    let mut done: Vec<Tree> = Vec::new();
    for entries in layers {
        let below = Below { base: Some(below), layers: done.iter().collect() };
        let (mut over, _) = tree(entries).over(&below)?;
        over.settle_times(9);
        done.push(over);
    }
    Ok(listing(done.last().unwrap(), 9, None))
}

#[test]
fn what_entries_lie_in_is_in_the_layer_as_it_is_below() {
    let below = base(&["1777 0 5 tmp", "755 0 5 usr", "2755 0 6 usr/lib", "lib -> usr/lib", "etc/foo/x", "file"]);
    for (layers, expected) in [
        (&[&["tmp/x"][..]][..], &["1777 5 tmp/", "644 9 tmp/x"][..]),
        (&[&["new/x"]], &["755 9 new/", "644 9 new/x"]),
        (&[&["-etc/foo/x"]], &["755 0 etc/", "755 0 etc/foo/", "0 9 etc/foo/.wh.x"]),
        // Through a link, to where it leads; a directory too, but what is no directory takes the link's place.
        (&[&["lib/x"]], &["755 5 usr/", "2755 6 usr/lib/", "644 9 usr/lib/x"]),
        (&[&["lib/"]], &["755 5 usr/", "700 70 usr/lib/"]),
        (&[&["+lib/", "lib/x"]], &["755 5 usr/", "2755 6 usr/lib/", "644 9 usr/lib/x"]),
        (&[&["lib"]], &["644 9 lib"]),
        (&[&["-lib"]], &["0 9 .wh.lib"]),
        (&[&["lib -> elsewhere"]], &["777 9 lib -> elsewhere"]),
        (
            &[&["lib/a", "lib/b => lib/a"]],
            &["755 5 usr/", "2755 6 usr/lib/", "644 9 usr/lib/a", "644 9 usr/lib/b -> usr/lib/a"],
        ),
        // The first name in the tar has the content, wherever links lead the others.
        (
            &[&["lib/a", "opt/b => lib/a"]],
            &["755 9 opt/", "644 9 opt/b", "755 5 usr/", "2755 6 usr/lib/", "644 9 usr/lib/a -> opt/b"],
        ),
        // Said, or not said.
        (&[&["tmp/"]], &["700 70 tmp/"]),
        (&[&["+tmp/"]], &["1777 5 tmp/"]),
        // Links that are there only where nothing is below.
        (&[&["usr ~> x", "lib ~> y", "lib64 ~> z"]], &["777 9 lib64 -> z"]),
        // Of layers of the build.
        (&[&["d/", "d/x"], &["d/y"]], &["700 70 d/", "644 9 d/y"]),
        (&[&["d/"], &["d/y"], &["d/z"]], &["700 70 d/", "644 9 d/z"]),
        (&[&["tmp/x"], &["tmp/y"]], &["1777 5 tmp/", "644 9 tmp/y"]),
        (&[&["tmp/"], &["tmp/y"]], &["700 70 tmp/", "644 9 tmp/y"]),
        (&[&["-tmp"], &["tmp/y"]], &["755 9 tmp/", "644 9 tmp/y"]),
        (&[&["-lib"], &["lib/y"]], &["755 9 lib/", "644 9 lib/y"]),
        (&[&["bin -> usr/bin"], &["bin/y"]], &["755 5 usr/", "755 9 usr/bin/", "644 9 usr/bin/y"]),
        (&[&["d -> /tmp/../tmp/e"], &["d/y"]], &["1777 5 tmp/", "755 9 tmp/e/", "644 9 tmp/e/y"]),
        // One name cannot be removed and there, but a directory can be emptied.
        (
            &[&["etc/foo/y", "-etc/foo"]],
            &["755 0 etc/", "755 9 etc/foo/", "0 9 etc/foo/.wh..wh..opq", "644 9 etc/foo/y"],
        ),
        (
            &[&["-etc/foo", "etc/foo/y"]],
            &["755 0 etc/", "755 9 etc/foo/", "0 9 etc/foo/.wh..wh..opq", "644 9 etc/foo/y"],
        ),
        (&[&["tmp/", "-tmp"]], &["700 70 tmp/", "0 70 tmp/.wh..wh..opq"]),
        (&[&["-etc/foo/x", "-etc/foo"]], &["755 0 etc/", "0 9 etc/.wh.foo"]),
        (&[&["-etc/foo", "-etc/foo/x"]], &["755 0 etc/", "0 9 etc/.wh.foo"]),
        (&[&["etc/foo/y", "-etc/foo"], &["-etc/foo/x"]], &[]),
        // What is not there needs no removal, and no directory for it.
        (&[&["-etc/bar", "-none/x"]], &[]),
    ] {
        assert_eq!(laid(&below, layers).unwrap(), expected, "{layers:?}");
    }
}

#[test]
fn what_cannot_be_laid_over_what_is_below_is_refused() {
    let below = base(&["755 0 5 usr", "lib -> usr", "a -> b", "b -> a", "file", "to-file -> file"]);
    for (entries, expected) in [
        (&["file/x"][..], "/file/x: /file is not a directory"),
        (&["to-file/x"], "/to-file/x: /file is not a directory"),
        (&["a/x"], "/a/x: the links in /a lead in a circle"),
        (&["lib/x", "usr/x"], "/lib/x and /usr/x: both are /usr/x in what lies below"),
    ] {
        assert_eq!(laid(&below, &[entries]).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_file_that_is_replaced_leaves_its_content_to_its_other_names() {
    let mut tree = Tree::default();
    let file = |text: &str| Node::new(Kind::Bytes(text.as_bytes().to_vec()), 0o644);
    tree.insert("/a", file("old")).unwrap();
    for name in ["/b", "/c"] {
        tree.insert(name, Node::new(Kind::HardLink("a".into()), 0o644)).unwrap();
    }
    tree.insert("/a", file("new")).unwrap();
    assert_eq!(listing(&tree, 0, None), ["644 0 a", "644 0 b", "644 0 c -> b"]);
    assert_eq!(tree.content(Path::new("c"), 9).unwrap().unwrap(), b"old");
    tree.insert("/b", file("newer")).unwrap();
    assert_eq!(tree.content(Path::new("c"), 9).unwrap().unwrap(), b"old");
}
