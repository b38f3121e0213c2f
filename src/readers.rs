//! Everything that reads bytes from outside, by name: for the mutation run (`tests/mutation`) and the fuzz targets (`fuzz/`), which
//! try to break it. Nothing else uses this.
//!
//! Each takes any bytes and says nothing of what is in them: it must return, soon, and with little memory.

use std::io::{self, Read, Write};
use std::path::Path;

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use url::Url;

use crate::carry::readers as carry;
use crate::catalog::chart_index;
use crate::fs;
use crate::image::Store;
use crate::image::build::definition::Definition;
use crate::image::store::archive::Archive;
use crate::image::store::docker_archive::DockerArchive;
use crate::image::store::layout;
use crate::image::store::verify;
use crate::kernel::package::Relation;
use crate::kernel::resolve::{self, Request, Universe};
use crate::kernel::set::KernelSet;
use crate::kernel::source::keyring::Keyring;
use crate::kernel::source::modulemd::Modules;
use crate::kernel::source::{Wanted, apt, crawler, filelists, rpm_md, stanzas};
use crate::kernel::unpack::deb::Control;
use crate::kernel::unpack::rpm::Head;
use crate::kernel::unpack::tree::Tree;
use crate::kernel::unpack::{cpio, deb, rpm};
use crate::registry::auth::challenge;
use crate::registry::sync::List;
use crate::tarball;

/// A reader of bytes from outside.
pub type Reader = fn(&[u8]);

/// All of them, by the name of what they read.
pub const READERS: &[(&str, Reader)] = &[
    ("tar", tar),
    ("cpio", cpio),
    ("deb", deb),
    ("rpm", rpm),
    ("primary", primary),
    ("repomd", repomd),
    ("filelists", filelists),
    ("modules", modules),
    ("packages", packages),
    ("inrelease", in_release),
    ("dependency", dependency),
    ("definition", definition),
    ("list", list),
    ("manifest", manifest),
    ("docker-archive", docker_archive),
    ("oci-archive", oci_archive),
    ("chart-index", charts),
    ("kernel-set", kernel_set),
    ("crawler", crawled),
    ("challenge", challenge),
    ("carry-document", carry_document),
    ("carry-volume", carry_volume),
    ("carry-parts", carry_parts),
    ("skeleton", skeleton),
    ("recipe", recipe),
];

/// Gives bytes to the reader of this name. Panics when there is none.
pub fn read(name: &str, bytes: &[u8]) {
    let (_, reader) = READERS.iter().find(|(other, _)| *other == name).expect("a reader of this name");
    reader(bytes);
}

fn tar(bytes: &[u8]) {
    let mut archive = tarball::open(bytes);
    let Ok(entries) = archive.entries() else { return };
    for entry in entries {
        let Ok(mut entry) = entry else { return };
        let _ = (entry.path_bytes().len(), entry.link_name_bytes().map(|name| name.len()));
        if let Ok(Some(records)) = entry.pax_extensions() {
            records.for_each(drop);
        }
        // A sparse file of some blocks may say that it has exabytes of holes.
        let _ = io::copy(&mut entry.by_ref().take(READ), &mut io::sink());
    }
}

fn cpio(bytes: &[u8]) {
    let mut archive = cpio::Reader::new(bytes);
    while let Ok(Some(entry)) = archive.next() {
        if let cpio::Entry::Indexed(index) = entry {
            archive.expect(index.into());
        }
    }
}

fn deb(bytes: &[u8]) {
    if let Ok(control) = Control::read(bytes) {
        let _ = (control.name(), control.relations());
    }
    in_directory(|directory| {
        let _ = deb::unpack(bytes, &mut Tree::new(directory.to_owned()), READ);
    });
}

fn rpm(bytes: &[u8]) {
    if let Ok(head) = Head::read(&mut &bytes[..]) {
        let _ = (head.name(), head.relations(), head.vendor());
    }
    in_directory(|directory| {
        let _ = rpm::unpack(bytes, &mut Tree::new(directory.to_owned()), READ, None);
    });
}

fn primary(bytes: &[u8]) {
    let _ = rpm_md::parse_primary(bytes, &base(), Wanted::All);
}

fn repomd(bytes: &[u8]) {
    let _ = rpm_md::parse_repomd(bytes);
}

fn filelists(bytes: &[u8]) {
    let _ = filelists::parse(bytes, &["/usr/share/x".to_owned()].into());
}

fn modules(bytes: &[u8]) {
    if let Ok((modules, _)) = Modules::read(bytes) {
        modules.apply(&[], &mut Vec::new());
    }
}

fn packages(bytes: &[u8]) {
    let _ = stanzas::parse_packages(bytes, &base(), Wanted::All);
}

fn in_release(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = apt::Release::parse(&text);
    // A key ring and what it signs, which may both be anything.
    if let Ok(keyring) = Keyring::read(bytes) {
        let _ = (keyring.verify_cleartext(&text), keyring.verify_detached(bytes, bytes));
    }
    if let Ok(keyring) = Keyring::read(KEY) {
        let _ = (keyring.verify_cleartext(&text), keyring.verify_detached(b"", bytes));
    }
}

fn dependency(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let wanted = vec![resolve::wanted(&text), vec![Relation { name: text.into_owned(), version: None }]];
    let machine = "x86_64".parse().unwrap_or_else(|never| match never {});
    let _ = Universe::new(Vec::new(), &machine).resolve(&Request { wanted, ..Request::default() });
}

fn definition(bytes: &[u8]) {
    let _ = Definition::parse(Path::new("image.toml"), &String::from_utf8_lossy(bytes));
}

fn list(bytes: &[u8]) {
    let _ = List::parse(Path::new("list.toml"), &String::from_utf8_lossy(bytes));
}

fn manifest(bytes: &[u8]) {
    let _ = layout::parse::<ImageConfiguration>("x", bytes);
    let _ = layout::parse::<ImageManifest>("x", bytes);
    if let Ok(index) = layout::parse::<ImageIndex>("x", bytes) {
        for described in index.manifests() {
            let _ = (layout::digest_of(described), layout::ref_name(described));
        }
    }
}

fn docker_archive(bytes: &[u8]) {
    in_directory(|directory| {
        let path = directory.join("a.tar");
        if write(&path, bytes) {
            let _ = DockerArchive::open(&path).map(|archive| archive.index());
        }
    });
}

fn oci_archive(bytes: &[u8]) {
    in_directory(|directory| {
        let path = directory.join("a.tar");
        if write(&path, bytes)
            && let Ok(archive) = Archive::open(&path)
        {
            let options = verify::VerifyOptions { layer_limit: READ };
            let _ =
                verify::verify(&Store::Archive(Box::new(archive)), None, &options, &crate::progress::Progress::off());
        }
    });
}

fn charts(bytes: &[u8]) {
    let _ = chart_index::parse(bytes);
}

fn kernel_set(bytes: &[u8]) {
    let _ = KernelSet::parse(bytes).map(|set| set.kernel_crawler().to_string());
}

fn crawled(bytes: &[u8]) {
    let _ = crawler::offer(bytes);
}

fn challenge(bytes: &[u8]) {
    let values = bytes.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok());
    let _ = challenge::challenge(&values.map(|value| (WWW_AUTHENTICATE, value)).collect::<HeaderMap>());
}

fn carry_document(bytes: &[u8]) {
    in_directory(|directory| drop(carry::document(directory, bytes)));
}

fn carry_volume(bytes: &[u8]) {
    in_directory(|directory| drop(carry::volume(directory, bytes)));
}

fn carry_parts(bytes: &[u8]) {
    in_directory(|directory| drop(carry::parts(directory, bytes)));
}

fn skeleton(bytes: &[u8]) {
    let _ = carry::skeleton(bytes);
}

fn recipe(bytes: &[u8]) {
    let _ = carry::recipe(bytes);
}

fn base() -> Url {
    "https://h.example/".parse().expect("a URL")
}

fn in_directory(work: impl FnOnce(&Path)) {
    if let Ok(directory) = tempfile::tempdir() {
        work(directory.path());
    }
}

/// Without waiting for the disk, as [`fs::write`] does.
fn write(path: &Path, bytes: &[u8]) -> bool {
    fs::create_new(path).is_ok_and(|mut file| file.write_all(bytes).is_ok())
}

/// Bytes that are read or unpacked of anything.
const READ: u64 = 1 << 20;

const KEY: &[u8] = include_bytes!("../testdata/kernel/trusted.asc");
