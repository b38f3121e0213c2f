use std::io::{self, Read};

use crate::carry::skeleton::header::BLOCK;
use crate::carry::skeleton::{Joined, Sink, Skeleton, WHAT};
use crate::carry::{Error, Lookup};

/// Keeps contents in memory.
#[derive(Default)]
struct Kept(Vec<Vec<u8>>, Vec<Vec<u8>>);

impl Sink for Kept {
    fn content(&mut self, path: &[u8], body: &mut dyn Read, refs: &mut Vec<u32>) -> Result<u64, Error> {
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes)?;
        // In pieces, as what is large.
        for piece in bytes.chunks(1000) {
            refs.push(u32::try_from(self.0.len()).unwrap());
            self.0.push(piece.to_vec());
        }
        self.1.push(path.to_vec());
        Ok(bytes.len() as u64)
    }
}

impl Lookup for &Kept {
    fn size(&self, content: u32) -> Result<u64, Error> {
        Ok(self.0[content as usize].len() as u64)
    }

    fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error> {
        Ok(Box::new(io::Cursor::new(self.0[content as usize].clone())))
    }
}

fn there_and_back(tar: &[u8]) -> (Kept, usize) {
    let mut kept = Kept::default();
    let skeleton = Skeleton::split(&mut &*tar, &mut kept).unwrap().to_bytes(|content| content);
    let mut back = Vec::new();
    Joined::new(Skeleton::from_bytes(&skeleton).unwrap(), &kept).read_to_end(&mut back).unwrap();
    assert!(back == tar, "{} and {} bytes", back.len(), tar.len());
    (kept, skeleton.len())
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, body: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(body.len() as u64);
        header.set_mtime(1_700_000_000);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, body).unwrap();
    };
    for number in 0..300 {
        let body = vec![b'x'; number * 7];
        add(&format!("usr/src/linux-headers-6.1.0-{number}/include/file.h"), tar::EntryType::Regular, &body);
    }
    add(&"long/".repeat(60), tar::EntryType::Directory, b"");
    add(&format!("{}file", "longer/".repeat(40)), tar::EntryType::Regular, b"body");
    builder.into_inner().unwrap()
}

#[test]
fn a_tar_comes_back_and_its_contents_are_its_files() {
    let tar = archive();
    let (kept, skeleton) = there_and_back(&tar);
    assert_eq!(kept.1[2], b"usr/src/linux-headers-6.1.0-3/include/file.h");
    assert_eq!(kept.1.last().unwrap().len(), "longer/".len() * 40 + 4);
    assert_eq!(kept.1.len(), 300);
    // Before it is compressed; the tar has three times as many bytes in headers and padding as it has in contents.
    assert!(skeleton < 300 * 40, "{skeleton}");
}

#[test]
fn what_is_cut_anywhere_or_has_a_byte_changed_anywhere_comes_back() {
    let tar = archive();
    let tail = &tar[tar.len() - 8 * BLOCK..];
    for end in (0..tail.len()).step_by(37) {
        there_and_back(&tail[..end]);
    }
    for at in (0..4 * BLOCK).chain(tar.len() - 6 * BLOCK..tar.len()) {
        let mut changed = tar[..].to_vec();
        changed[at] ^= 1 << (at % 8);
        let start = if at < 4 * BLOCK { 0 } else { tar.len() - 8 * BLOCK };
        let end = if at < 4 * BLOCK { 8 * BLOCK } else { tar.len() };
        there_and_back(&changed[start..end]);
    }
}

#[test]
fn what_is_no_tar_and_several_tars_come_back() {
    let tar = archive();
    for bytes in [
        Vec::new(),
        vec![0; 100],
        vec![0; 3 * BLOCK],
        vec![7; 5000],
        [&tar[..], &tar[..], b"trailing"].concat(),
        [&[0; 1024][..], &tar[..]].concat(),
    ] {
        there_and_back(&bytes);
    }
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA; thirteen odd archives"]
fn odd_archives_come_back() {
    let data = std::env::var("HAVERSACK_REAL_DATA").unwrap();
    let inputs = std::fs::File::open(format!("{data}/carry/inputs.tar.xz")).unwrap();
    let (_, inputs) = crate::compression::decoder(io::BufReader::new(inputs)).unwrap();
    let mut seen = 0;
    for entry in tar::Archive::new(inputs).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        there_and_back(&bytes);
        seen += usize::from(entry.path().unwrap().starts_with("odd") && !bytes.is_empty());
    }
    assert_eq!(seen, 13);
}

#[test]
fn a_skeleton_that_is_wrong_is_an_error_and_never_a_panic_or_endless() {
    let tar = archive();
    let mut kept = Kept::default();
    let skeleton = Skeleton::split(&mut &tar[..40 * BLOCK], &mut kept).unwrap().to_bytes(|content| content);
    let mut errors = 0;
    for at in 0..skeleton.len() {
        for bit in [0, 3, 7] {
            let mut changed = skeleton.clone();
            changed[at] ^= 1 << bit;
            let kept = Bounded(&kept);
            let read = Skeleton::from_bytes(&changed)
                .map_err(io::Error::other)
                .and_then(|skeleton| io::copy(&mut Joined::new(skeleton, kept).take(1 << 20), &mut io::sink()));
            errors += usize::from(read.is_err());
        }
        assert!(Skeleton::from_bytes(&skeleton[..at]).is_err() || at > skeleton.len() - kept.0.len() - 1);
    }
    assert!(errors > 100, "{errors}");
}

struct Bounded<'a>(&'a Kept);

impl Lookup for Bounded<'_> {
    fn size(&self, content: u32) -> Result<u64, Error> {
        if content as usize >= self.0.0.len() {
            return Err(Error::Odd { what: WHAT, why: "a content that is not there" });
        }
        self.0.size(content)
    }

    fn open(&self, content: u32) -> Result<Box<dyn Read + Send>, Error> {
        self.size(content)?;
        self.0.open(content)
    }
}

#[test]
fn an_archive_that_is_nearly_all_headers_is_content_from_some_size_on() {
    let mut builder = tar::Builder::new(Vec::new());
    let value = vec![b'a'; 1_000_000];
    for number in 0..40 {
        builder.append_pax_extensions([("comment", &value[..])]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(4);
        builder.append_data(&mut header, format!("file-{number}"), &b"text"[..]).unwrap();
    }
    let (kept, size) = there_and_back(&builder.into_inner().unwrap());
    // What it has of the archive, and the numbers of what is content.
    assert!((super::split::MOST..super::split::MOST + (2 << 20)).contains(&size), "{size}");
    assert!(kept.0.len() > 6_000, "{}", kept.0.len());
}

#[test]
fn a_skeleton_with_more_contents_than_there_can_be_is_refused() {
    let mut bytes = vec![1];
    bytes.extend_from_slice(&[0; super::COLUMNS]);
    bytes.resize(bytes.len() + super::split::MOST / 2 + 1, 0);
    assert!(matches!(Skeleton::from_bytes(&bytes), Err(Error::TooMany(_))));
}
