//! The programs themselves as judges: Go's own gzip over thousands of pieces, and layers as engines write them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use haversack::compression::encode::{Budget, Class, GzipRecipe, Outcome, find};
use haversack::digest::Digest;
use rayon::prelude::*;

use crate::{Chance, encode};

/// Runs a shell command, which has to succeed.
pub(crate) fn shell(command: &str, directory: &Path) -> String {
    let output = Command::new("sh").arg("-c").arg(command).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A piece of some kind and length, most of them short.
fn piece(chance: &mut Chance) -> Vec<u8> {
    let length = match chance.below(100) {
        0 => chance.below(300_000),
        1..20 => 60_000 + chance.below(12_000),
        _ => chance.below(3000) * (1 + chance.below(3)),
    } as usize;
    match chance.below(6) {
        0 => chance.bytes(length),
        1 => chance.skewed(length),
        2 => {
            let period = 1 + chance.below(400) as usize;
            let mut unit = chance.bytes(period).repeat(length / period + 1);
            unit.truncate(length);
            unit
        }
        _ => chance.text(length),
    }
}

#[test]
#[ignore = "needs go"]
fn ten_thousand_pieces_are_what_go_makes_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/encode/gzip.go");
    fs::copy(source, directory.path().join("gzip.go")).unwrap();
    shell("GOCACHE=$PWD/cache GO111MODULE=off go build -o gzip gzip.go", directory.path());
    // "go version go1.26.8 linux/amd64"
    let version = shell("go version", directory.path());
    let minor: u32 = version.split("go1.").nth(1).unwrap().split(['.', ' ']).next().unwrap().parse().unwrap();
    let (prefix, levels) = if minor < 27 { ("go", &[1, 2, 3, 4, 5, 6, 7, 8, 9][..]) } else { ("go127", &[1, 6][..]) };
    let mut chance = Chance(u64::from(minor));
    let pieces: Vec<(u8, Vec<u8>)> = (0..10_000).map(|at| (levels[at % levels.len()], piece(&mut chance))).collect();
    let mut go =
        Command::new(directory.path().join("gzip")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = std::io::BufWriter::new(go.stdin.take().unwrap());
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            for (level, piece) in &pieces {
                stdin.write_all(&[*level]).unwrap();
                stdin.write_all(&(piece.len() as u32).to_le_bytes()).unwrap();
                stdin.write_all(piece).unwrap();
            }
            drop(stdin);
        });
        go.wait_with_output().unwrap()
    });
    assert!(made.status.success());
    let mut rest = &made.stdout[..];
    let files: Vec<&[u8]> = pieces
        .iter()
        .map(|_| {
            let length = u32::from_le_bytes(rest.split_off(..4).unwrap().try_into().unwrap());
            rest.split_off(..length as usize).unwrap()
        })
        .collect();
    assert!(rest.is_empty());
    let differ: Vec<_> = pieces
        .par_iter()
        .zip(files)
        .filter(|((level, piece), file)| {
            let class: Class = format!("{prefix}-{level}").parse().unwrap();
            encode(class, piece) != file[10..file.len() - 8]
        })
        .map(|((level, piece), _)| (level, piece.len(), Digest::sha256(piece).hex().to_owned()))
        .collect();
    assert!(differ.is_empty(), "{differ:?}");
}

/// A layout with one uncompressed layer: this program's own sources as a tar.
pub(crate) fn plain_layout(directory: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.mode(tar::HeaderMode::Deterministic);
    // In the order of their names, so that what fails on one machine fails on all.
    append(&mut tar, Path::new("src"));
    let tar = tar.into_inner().unwrap();
    let layout = directory.join("plain");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        digest
    };
    let layer = blob(&tar);
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.as_str()] },
    })
    .to_string();
    let config_digest = blob(config.as_bytes());
    let kind = |of: &str| format!("application/vnd.oci.image.{of}");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": kind("manifest.v1+json"),
        "config": {
            "mediaType": kind("config.v1+json"), "digest": config_digest.as_str(), "size": config.len(),
        },
        "layers": [{ "mediaType": kind("layer.v1.tar"), "digest": layer.as_str(), "size": tar.len() }],
    })
    .to_string();
    let digest = blob(manifest.as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": kind("manifest.v1+json"), "digest": digest.as_str(), "size": manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": "x" },
        }],
    });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    tar
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    tar.append_path_with_name(&here, path).unwrap();
    if here.is_dir() {
        for entry in haversack::fs::list(&here).unwrap() {
            append(tar, &path.join(entry.file_name().unwrap()));
        }
    }
}

/// The class of the one gzip file in a directory, which is made again and compared.
fn class_in(directory: &Path) -> String {
    let [class] = classes_in(directory).try_into().unwrap();
    class
}

/// The classes of the gzip files in a directory, each of which is made again and compared.
pub(crate) fn classes_in(directory: &Path) -> Vec<String> {
    let mut gzips = haversack::fs::list(directory).unwrap();
    gzips.retain(|path| fs::read(path).unwrap().starts_with(&[0x1f, 0x8b]));
    gzips.iter().map(|gzip| class_of(gzip)).collect()
}

fn class_of(gzip: &Path) -> String {
    let outcome = find(File::open(gzip).unwrap(), &Budget::default()).unwrap();
    let Outcome::Found(recipe) = outcome else { panic!("{}: {outcome:?}", gzip.display()) };
    let recipe = GzipRecipe::from_bytes(&recipe.to_bytes()).unwrap();
    let mut made = Vec::new();
    recipe.rebuild(flate2::read::GzDecoder::new(File::open(gzip).unwrap()), &mut made).unwrap();
    assert!(made == fs::read(gzip).unwrap());
    recipe.members[0].class.to_string()
}

#[test]
#[ignore = "needs skopeo, podman and buildah"]
fn layers_of_skopeo_podman_and_buildah_are_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    plain_layout(here);
    shell("skopeo copy --insecure-policy --dest-compress oci:plain:x dir:skopeo", here);
    let storage = "--root=$PWD/storage --runroot=$PWD/run --storage-driver=vfs";
    shell(&format!("podman {storage} pull oci:plain:x"), here);
    shell(&format!("podman {storage} push --compress plain dir:podman"), here);
    shell(&format!("buildah {storage} push plain dir:buildah"), here);
    for program in ["skopeo", "podman", "buildah"] {
        let class = class_in(&here.join(program));
        assert!(class.starts_with("pgzip-") && class.ends_with("-1m"), "{program}: {class}");
    }
}

#[test]
#[ignore = "needs umoci"]
fn layers_of_umoci_are_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    fs::write(here.join("tar"), plain_layout(here)).unwrap();
    shell("umoci init --layout umoci && umoci new --image umoci:x && umoci insert --image umoci:x tar /tar", here);
    let class = class_in(&here.join("umoci/blobs/sha256"));
    // Blocks of 256 KiB before 0.4.8, of 1 MiB since.
    assert!(class.starts_with("pgzip-"), "{class}");
}

#[test]
#[ignore = "needs gzip and pigz"]
fn files_of_gzip_and_pigz_are_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let plain = plain_layout(here);
    let mut chance = Chance(9);
    // Around the place where GNU gzip stops to look for matches near the end of its window, and whole pieces of pigz.
    let lengths = [65_273, 65_274, 65_280, 65_400, 65_535, 65_536, 65_537, 98_304, 131_072, 262_144, 262_145, 300_000];
    for length in lengths {
        let from = chance.below((plain.len() - length) as u32) as usize;
        fs::write(here.join("piece"), &plain[from..from + length]).unwrap();
        for level in [1, 3, 4, 6, 9] {
            for (program, class) in [("gzip", "gnu"), ("pigz -T -p 4", "pigz")] {
                shell(&format!("{program} -n -c -{level} piece > made"), here);
                let made = fs::read(here.join("made")).unwrap();
                let class: Class = format!("{class}-{level}").parse().unwrap();
                let ours = encode(class, &plain[from..from + length]);
                assert!(ours == made[10..made.len() - 8], "{class}, {length} bytes from {from}");
            }
        }
    }
}
