//! What the encoders themselves made of the inputs in the real data.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use haversack::compression;
use haversack::digest::Digest;
use rayon::prelude::*;

use crate::{GO_HEADER, PGZIP_HEADER, UNIX_HEADER, encode, gzip};

/// The class that a row's encoder belongs to and the header of its files, if they are whole gzip files.
fn class_of(encoder: &str) -> (String, Option<Vec<u8>>) {
    let (program, rest) = encoder.split_once('/').unwrap();
    let (version, level) = rest.split_once('/').unwrap();
    let level = level.strip_prefix("level").unwrap_or("6");
    let with_level = |header: &[u8]| {
        let mut header = header.to_vec();
        header[8] = match level {
            "9" => 2,
            "1" => 4,
            _ => 0,
        };
        Some(header)
    };
    match (program, version) {
        ("pgzip", "klauspost-1.20.3") => ("pgzip-b-1m".to_owned(), Some(PGZIP_HEADER.to_vec())),
        ("pgzip", _) => ("pgzip-a-1m".to_owned(), Some(PGZIP_HEADER.to_vec())),
        ("go-compress-gzip", "1.19.8" | "1.26.10") => (format!("go-{level}"), with_level(GO_HEADER)),
        ("go-compress-gzip", "1.27.4") => (format!("go127-{level}"), with_level(GO_HEADER)),
        ("gnu-gzip-n", _) => (format!("gnu-{level}"), with_level(UNIX_HEADER)),
        ("zlib-raw-deflate", "memlevel-8") => (format!("zlib-{level}-m8"), None),
        _ => panic!("a new encoder: {encoder}"),
    }
}

#[test]
#[ignore = "needs HAVERSACK_REAL_DATA"]
#[expect(clippy::disallowed_methods, reason = "tests have no configuration")]
fn what_the_real_encoders_made_is_made_again() {
    let data = PathBuf::from(std::env::var_os("HAVERSACK_REAL_DATA").expect("HAVERSACK_REAL_DATA")).join("carry");
    let archive = BufReader::new(File::open(data.join("inputs.tar.xz")).unwrap());
    let mut inputs = BTreeMap::new();
    for entry in tar::Archive::new(compression::decoder(archive).unwrap().1).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        if let Some(name) = path.strip_prefix("edge/").filter(|name| !name.is_empty()) {
            let mut plain = Vec::new();
            entry.read_to_end(&mut plain).unwrap();
            inputs.insert(name.to_owned(), plain);
        }
    }
    let vectors = std::fs::read_to_string(data.join("vectors.tsv")).unwrap();
    let rows: Vec<Vec<&str>> =
        vectors.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect()).collect();
    let outcomes: Vec<_> = rows
        .par_iter()
        .map(|row| {
            let (class, header) = class_of(row[0]);
            let (class, plain) = (class.parse().unwrap(), &inputs[row[1]]);
            let made = match header {
                Some(header) => gzip(&header, class, plain),
                None => encode(class, plain),
            };
            let is_same = made.len().to_string() == row[2] && Digest::sha256(&made).hex() == row[3];
            (row[0], row[1], is_same)
        })
        .collect();
    let wrong: Vec<_> = outcomes.iter().filter(|(.., is_same)| !is_same).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let mut held = BTreeMap::<&str, usize>::new();
    for (encoder, ..) in &outcomes {
        *held.entry(encoder.split('/').next().unwrap()).or_default() += 1;
    }
    assert_eq!(
        held,
        [("gnu-gzip-n", 9 * 23), ("go-compress-gzip", 12 * 23), ("pgzip", 4 * 23), ("zlib-raw-deflate", 9 * 23),]
            .into()
    );
}
