//! Files that come out of a container image or a bundle.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use haversack::image::Layout;
use haversack::image::store::layout;
use oci_spec::image::MediaType;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::{Run, Site, content, squashfs};

/// A member of a layer: its name, its type, and what is in it or where it leads.
type Member<'a> = (&'a str, EntryType, &'a [u8]);

fn layer(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, data) in members {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o640 });
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_700_000_000);
        match kind {
            EntryType::Symlink | EntryType::Link => {
                header.set_size(0);
                tar.append_link(&mut header, name, std::str::from_utf8(data).unwrap()).unwrap();
            }
            _ => {
                header.set_size(data.len() as u64);
                // By hand, since the library refuses to write what attackers do.
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_cksum();
                tar.append(&header, *data).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

/// An image of three layers, the second compressed, whose later ones replace and hide what is in the earlier ones.
fn image(place: &Path) {
    use EntryType::{Directory, Link, Regular, Symlink};
    let large = content(300_000);
    let squashfs = squashfs(5004);
    let layers = [
        layer(&[
            ("./boot/", Directory, b""),
            ("./boot/vmlinuz-6.1", Regular, &large),
            ("./boot/initramfs", Regular, b"the old one"),
            ("./opt/", Directory, b""),
            ("./opt/hidden", Regular, b"x"),
            ("./etc/", Directory, b""),
            ("./etc/kept", Regular, b"kept"),
            ("./etc/was-directory/", Directory, b""),
            ("./etc/was-directory/in", Regular, b"x"),
        ]),
        layer(&[
            ("boot/initramfs", Regular, b"the new one"),
            ("boot/vmlinuz", Symlink, b"/live/../boot/vmlinuz-6.1"),
            ("boot/same", Link, b"boot/initramfs"),
            ("opt/.wh..wh..opq", Regular, b""),
            ("opt/new", Regular, b"new"),
            ("etc/was-directory", Regular, b"a file"),
            ("../outside", Regular, b"x"),
        ]),
        layer(&[("live/", Directory, b""), ("live/root.squashfs", Regular, &squashfs), ("etc/.wh.kept", Regular, b"")]),
    ];
    std::fs::create_dir(place).unwrap();
    let store = Layout::create(place).unwrap();
    let described: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(number, layer)| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(layer).unwrap();
            match number {
                1 => store.write_blob(MediaType::ImageLayerGzip, &gzip.finish().unwrap()).unwrap(),
                _ => store.write_blob(MediaType::ImageLayer, layer).unwrap(),
            }
        })
        .collect();
    let config = store.write_blob(MediaType::ImageConfig, br#"{"architecture":"amd64","os":"linux"}"#).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": config, "layers": described,
    });
    let manifest = store.write_blob(MediaType::ImageManifest, &layout::canonical(&manifest)).unwrap();
    store.tag(&manifest, Some("live")).unwrap();
}

fn object(site: &Site, document: &Value, key: &str) -> Vec<u8> {
    site.s3.object(&format!("{}/{key}", document["ims_image_record"]["id"].as_str().unwrap()))
}

#[test]
fn files_are_taken_out_of_the_layers_of_an_image() {
    let site = Site::start();
    image(&site.path("layout"));
    let from = ["ims", "n", "--from", "oci:layout:live", "-r", "live/root.squashfs", "-k", "/boot/vmlinuz"];
    let document = site.publish(&[&from[..], &["-i", "boot/same"]].concat()).done();
    assert!(object(&site, &document, "kernel") == content(300_000));
    assert_eq!(object(&site, &document, "initrd"), b"the new one");
    assert_eq!(document["ims_image_artifacts"][0]["file"], "root.squashfs");
    for (path, words) in [
        ("opt/hidden", "the image has no file opt/hidden"),
        ("etc/kept", "the image has no file etc/kept"),
        ("boot", "the image has no file boot"),
        ("etc/was-directory/in", "the image has no file etc/was-directory/in"),
        ("../outside", "the image has no file ../outside"),
    ] {
        site.publish(&[&from[..], &["-i", path]].concat()).failed(words);
    }
    let run = site.publish(&["ims", "n", "--from", "oci:layout:live", "-r", "live/root.squashfs", "-k", "vmlin"]);
    let said = "error: the image has no file vmlin; it has /boot/vmlinuz-6.1\nhint: with `--from`, files are named by their path in the \
                image: `--kernel /boot/vmlinuz-RELEASE`\n";
    assert!(run.status == 1 && run.stderr.ends_with(said), "{}", run.stderr);
    site.publish(&["ims", "n", "--from", "oci:nowhere", "-k", "x"]).failed("nowhere");
}

#[test]
#[ignore = "needs mksquashfs and unsquashfs; makes a root file system of an image's files"]
fn a_root_file_system_is_made_of_all_files_of_an_image() {
    let site = Site::start();
    image(&site.path("layout"));
    let mut command = site.command(&["ims", "n", "--from", "oci:layout:live", "-k", "boot/vmlinuz"]);
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    let document = Run::of(command.output().unwrap()).done();
    let squashfs = site.file("made.squashfs", &object(&site, &document, "rootfs"));
    let listed = Command::new("unsquashfs").args(["-lln", "-UTC"]).arg(&squashfs).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let members: BTreeMap<&str, String> = listed
        .lines()
        .filter_map(|line| {
            let (attributes, path) = line.split_once(" squashfs-root/")?;
            let words: Vec<&str> = attributes.split_whitespace().collect();
            Some((path, words[..3].join(" ")))
        })
        .collect();
    let expected = BTreeMap::from([
        ("boot", "drwxr-xr-x 7/8"),
        ("boot/initramfs", "-rw-r----- 7/8 11"),
        ("boot/same", "-rw-r----- 7/8 11"),
        ("boot/vmlinuz -> /live/../boot/vmlinuz-6.1", "lrw"),
        ("boot/vmlinuz-6.1", "-rw-r----- 7/8 300000"),
        ("etc", "drwxr-xr-x 7/8"),
        ("etc/was-directory", "-rw-r----- 7/8 6"),
        ("live", "drwxr-xr-x 7/8"),
        ("live/root.squashfs", "-rw-r----- 7/8 5004"),
        ("opt", "drwxr-xr-x 7/8"),
        ("opt/new", "-rw-r----- 7/8 3"),
    ]);
    assert_eq!(members.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{listed}");
    for (path, attributes) in &members {
        assert!(attributes.starts_with(expected[path]), "{path}: {attributes}");
    }
}

#[test]
fn without_mksquashfs_the_way_out_is_told() {
    let site = Site::start();
    image(&site.path("layout"));
    let mut command = site.command(&["ims", "n", "--from", "oci:layout:live"]);
    let run = Run::of(command.env("PATH", site.path("auth")).output().unwrap());
    run.failed("mksquashfs is not installed");
    assert!(run.stderr.contains("hint: install squashfs-tools"), "{}", run.stderr);
}

#[test]
fn a_run_that_is_stopped_before_it_has_contacted_anybody_says_so_and_leaves_no_files() {
    let site = Site::start();
    image(&site.path("layout"));
    for directory in ["bin", "scratch"] {
        std::fs::create_dir(site.path(directory)).unwrap();
    }
    let tool = site.file("bin/mksquashfs", b"#!/bin/sh\ntouch \"$0.begun\"\nexec /bin/sleep 60\n");
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = site.command(&["ims", "n", "--from", "oci:layout:live", "-k", "boot/vmlinuz"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", site.path("bin").display())).env("TMPDIR", site.path("scratch"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while !site.path("bin/mksquashfs.begun").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "mksquashfs was never run");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(std::fs::read_dir(site.path("scratch")).unwrap().count(), 1);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    Run::of(child.wait_with_output().unwrap()).failed("stopped by SIGTERM");
    assert_eq!(std::fs::read_dir(site.path("scratch")).unwrap().count(), 0);
}

#[test]
fn a_bundle_is_uploaded_later_from_elsewhere_and_not_when_it_was_changed() {
    let site = Site::start();
    let document = site.ims("carried", &["--bundle", "bundle", "--arch", "aarch64", "--metadata", "stage=prod"]).done();
    assert_eq!(document["bundle"]["artifacts"][1]["file"], "vmlinuz");
    assert!(site.service.requests().is_empty() && site.s3.requests().is_empty());
    let mut names: Vec<_> =
        std::fs::read_dir(site.path("bundle")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ims-bundle.json", "initrd", "kernel", "rootfs"]);

    let other = Site::start();
    let bundle = site.path("bundle");
    let document = other.publish(&["ims", "--from", bundle.to_str().unwrap()]).done();
    let record = &document["ims_image_record"];
    assert_eq!((&record["name"], &record["arch"]), (&json!("carried"), &json!("aarch64")));
    assert_eq!(record["metadata"], json!({ "stage": "prod" }));
    assert!(object(&other, &document, "initrd") == content(7000));

    let wrong = other.publish(&["ims", "--from", bundle.to_str().unwrap(), "--arch", "x86_64"]);
    assert!(wrong.status == 2 && wrong.stderr.contains("the bundle is for aarch64"), "{}", wrong.stderr);
    std::fs::write(bundle.join("kernel"), content(9001)).unwrap();
    other.publish(&["ims", "--from", bundle.to_str().unwrap()]).failed("damaged or exchanged");
    assert_eq!(other.publish(&["ims"]).status, 2);
}
