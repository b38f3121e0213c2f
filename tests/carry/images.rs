//! Images that are made here: layers of every kind that a carry tells apart.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use haversack::compression::{Compression, Encoder};
use haversack::digest::{Algorithm, Digest};
use haversack::image::Layout;
use haversack::image::store::layout::{canonical, descriptor};
use oci_spec::image::{Descriptor, MediaType};

/// Text that differs by seed, as source code does.
pub(crate) fn text(seed: u64, lines: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut text = Vec::new();
    for _ in 0..lines {
        let (name, value) = (random.next() % 5000, random.next() % 100);
        writeln!(text, "#define CONFIG_OPTION_{name} {value} /* as it is */").unwrap();
    }
    text
}

/// Bytes that nothing compresses.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A tar of files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_700_000_000);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What GNU gzip makes of it.
pub(crate) fn gzip(bytes: &[u8], level: &str) -> Vec<u8> {
    let mut child =
        Command::new("gzip").args(["-n", "-c", level]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output.stdout
}

/// What this program's own encoder makes of it.
pub(crate) fn ours(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), compression, None).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Adds an image of ready layers to a layout, and names it.
pub(crate) fn image(layout: &Layout, name: Option<&str>, layers: &[(&str, &[u8])]) -> Descriptor {
    let plain = |bytes: &[u8]| {
        let (_, reader) = haversack::compression::decoder(bytes).unwrap();
        Digest::of_reader(reader, Algorithm::Sha256).unwrap().0
    };
    let diff_ids: Vec<Digest> = layers.iter().map(|(_, bytes)| plain(bytes)).collect();
    let layers: Vec<Descriptor> = layers.iter().map(|(kind, bytes)| blob(layout, kind, bytes)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = layout.write_blob(MediaType::ImageConfig, &canonical(&config)).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": layers,
    });
    let image = layout.write_blob(MediaType::ImageManifest, &canonical(&manifest)).unwrap();
    if let Some(name) = name {
        layout.tag(&image, Some(name)).unwrap();
    }
    image
}

pub(crate) fn blob(layout: &Layout, kind: &str, bytes: &[u8]) -> Descriptor {
    let blob = layout.write_blob(MediaType::Other(kind.to_owned()), bytes).unwrap();
    let digest = blob.digest().to_string().parse().unwrap();
    descriptor(MediaType::Other(kind.to_owned()), &digest, bytes.len() as u64)
}

pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A layout with images of every kind.
pub(crate) fn varied(root: &Path) -> Layout {
    let layout = Layout::create(root).unwrap();
    let changes = text(1, 3000);
    let files = |release: u64| {
        let packed = gzip(&[&text(release, 20)[..], &changes].concat(), "-9");
        tar(&[
            ("usr/share/doc/linux/changelog.gz", &packed),
            ("usr/src/linux/include/config.h", &text(7, 2000)),
            ("usr/src/linux/include/own.h", &text(release, 100)),
            ("usr/src/linux/empty", b""),
            ("boot/vmlinuz", &noise(3, 300_000)),
        ])
    };
    image(&layout, Some("example.org/kernels:1"), &[(GZIP, &gzip(&files(10), "-6"))]);
    let second = image(&layout, Some("example.org/kernels:2"), &[(GZIP, &gzip(&files(11), "-6")), (TAR, &files(12))]);
    let third = image(&layout, None, &[(ZSTD, &ours(&files(13), Compression::Zstd)), (GZIP, &odd(&files(14)))]);
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": [second, third],
    });
    let index = layout.write_blob(MediaType::ImageIndex, &canonical(&index)).unwrap();
    layout.tag(&index, Some("example.org/list:1")).unwrap();
    // A signature, as it is listed when it has come along.
    let empty = layout.write_blob(MediaType::EmptyJSON, b"{}").unwrap();
    let signature = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": "application/vnd.example.signature",
        "config": empty, "layers": [empty], "subject": index,
    });
    let mut signature = layout.write_blob(MediaType::ImageManifest, &canonical(&signature)).unwrap();
    signature.set_artifact_type(Some(MediaType::Other("application/vnd.example.signature".to_owned())));
    layout.tag(&signature, None).unwrap();
    layout
}

/// A gzip file that no encoder makes: stored blocks of odd sizes.
fn odd(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut chunks = bytes.chunks(777).peekable();
    let mut crc = flate2::Crc::new();
    while let Some(chunk) = chunks.next() {
        out.push(u8::from(chunks.peek().is_none()));
        let length = u16::try_from(chunk.len()).unwrap();
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
        crc.update(chunk);
    }
    out.extend(crc.sum().to_le_bytes());
    out.extend(crc.amount().to_le_bytes());
    out
}
