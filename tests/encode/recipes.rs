//! Recipes: found, proven, written down, followed.

use std::io::{self, Cursor, Read};

use haversack::compression::encode::{Budget, Class, GzipRecipe, Outcome, Reason, find, find_in_memory};

use crate::{Chance, GO_HEADER, PGZIP_HEADER, encode, gzip, header_of};

fn class(name: &str) -> Class {
    name.parse().unwrap()
}

/// Finds the recipe, sends it through its bytes, and compares what it makes.
fn found(file: &[u8]) -> Vec<String> {
    let Outcome::Found(recipe) = find(Cursor::new(file), &Budget::default()).unwrap() else {
        panic!("there is no recipe");
    };
    let recipe = GzipRecipe::from_bytes(&recipe.to_bytes()).unwrap();
    let (in_memory, plain) = find_in_memory(file, &Budget::default()).unwrap();
    assert_eq!(recipe, in_memory);
    let mut made = Vec::new();
    recipe.rebuild(&plain[..], &mut made).unwrap();
    assert!(made == file);
    recipe.members.iter().map(|member| member.class.to_string()).collect()
}

fn not_found(file: &[u8], budget: &Budget) -> Reason {
    match find(Cursor::new(file), budget).unwrap() {
        Outcome::Found(_) => panic!("there is a recipe"),
        Outcome::Not(reason) => reason,
    }
}

#[test]
fn the_class_of_every_file_is_found_and_the_file_made_again() {
    let text = Chance(1).text(20_000);
    for class in Class::all() {
        let name = class.to_string();
        for plain in [&[][..], b"short", &text] {
            let classes = found(&gzip(header_of(class), class, plain));
            // Where two make the same, either will do.
            assert!(classes.len() == 1 && encode(classes[0].parse().unwrap(), plain) == encode(class, plain), "{name}");
        }
    }
}

#[test]
fn a_file_longer_than_what_is_tried_first_is_compared_to_its_end() {
    let mut chance = Chance(2);
    let plain = [chance.text(100_000), chance.bytes(1_000_000), vec![0; 20_000], chance.text(100_000)].concat();
    for (header, name) in [(PGZIP_HEADER, "pgzip-b-1m"), (GO_HEADER, "go-6")] {
        assert_eq!(found(&gzip(header, class(name), &plain)), [name]);
    }
    // The first megabyte by one encoder, the rest by another: no class.
    let flushed = encode(class("pgzip-a-1m"), &plain[..1 << 20]);
    let rest = encode(class("go-6"), &plain[1 << 20..]);
    let end = b"\0\0\0\xff\xff\x03\0";
    assert!(flushed.ends_with(end));
    let mixed = [PGZIP_HEADER, &flushed[..flushed.len() - end.len()], &rest, b"trailer!"].concat();
    assert_eq!(not_found(&mixed, &Budget::default()), Reason::NoClass);
}

/// Entries that repeat at the longest distance, and end where the window is about to slide.
#[test]
fn how_an_archive_was_written_is_found_where_it_shows() {
    let mut chance = Chance(2);
    let mut content = chance.bytes(33_000);
    let mut tar = tar::Builder::new(Vec::new());
    for _ in 0..16 {
        for _ in 0..60 {
            let at = chance.below(33_000) as usize;
            content[at] = chance.next() as u8;
        }
        let size = 32_020 + chance.below(236) as usize;
        let mut header = tar::Header::new_ustar();
        header.set_size(size as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "name", &content[..size]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    for name in ["go-6", "go-6-tar"] {
        assert_eq!(found(&gzip(GO_HEADER, class(name), &tar)), [name]);
    }
}

#[test]
fn members_headers_trailers_and_what_follows_them_are_kept() {
    let go = |header: &[u8], plain: &[u8]| gzip(header, class("go-6"), plain);
    let named = b"\x1f\x8b\x08\x1e\x12\x34\x56\x78\0\xff\x02\0exname\0comment\0cr";
    let file = [
        go(named, b"one"),
        gzip(PGZIP_HEADER, class("pgzip-a-1m"), &b"two ".repeat(1000)),
        go(GO_HEADER, b""),
        go(GO_HEADER, b""),
    ]
    .concat();
    assert_eq!(found(&file), ["go-6", "pgzip-a-1m", "go-6", "go-6"]);
    for tail in [&[0; 700][..], b"no member", b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xff"] {
        assert_eq!(found(&[&file, tail].concat()).len(), 4);
    }
    let mut wrong_sum = file;
    let end = wrong_sum.len();
    wrong_sum[end - 3] ^= 1;
    assert_eq!(found(&wrong_sum).len(), 4);
    let many = go(GO_HEADER, b"a file of an estargz").repeat(3000);
    let Outcome::Found(recipe) = find(Cursor::new(&many), &Budget::default()).unwrap() else { panic!("no recipe") };
    assert_eq!((recipe.members.len(), recipe.plain_size()), (3000, 60_000));
    assert!(recipe.to_bytes().len() < 3000 * 3);
}

#[test]
fn what_has_no_recipe_is_said_why() {
    let plain = Chance(3).text(30_000);
    let file = gzip(GO_HEADER, class("go-6"), &plain);
    let budget = Budget::default();
    for length in [0, 5, 10, 11, 1000, file.len() - 9, file.len() - 1] {
        assert_eq!(not_found(&file[..length], &budget), Reason::NotGzip, "{length}");
    }
    let damaged = |at: usize| {
        let mut file = file.clone();
        file[at] ^= 0x10;
        file
    };
    assert_eq!(not_found(&damaged(0), &budget), Reason::NotGzip);
    // Another literal, at best, which the encoder makes, too; then the sum in the trailer is what is odd.
    for at in [5_000, 5_003, 5_004, 5_007] {
        match find(Cursor::new(damaged(at)), &budget).unwrap() {
            Outcome::Found(recipe) => {
                assert!(recipe.members[0].trailer.is_some(), "{at}");
                assert_eq!(found(&damaged(at)), ["go-6"]);
            }
            Outcome::Not(reason) => assert!(matches!(reason, Reason::NotGzip | Reason::NoClass), "{at}: {reason}"),
        }
    }
    assert_eq!(not_found(&[&file, &[0; 70_000][..]].concat(), &budget), Reason::LongTail);
    let less = Budget { plain: 29_999, ..budget };
    assert_eq!(not_found(&file, &less), Reason::TooLarge);
    let (_, back) = find_in_memory(&file, &Budget { plain: 30_000, ..budget }).unwrap();
    assert!(back == plain);
    // 1:1000, and a limit that is reached in the full run.
    let bomb = gzip(GO_HEADER, class("go-6"), &[0; 3_000_000]);
    assert_eq!(not_found(&bomb, &Budget { plain: 2_000_000, ..budget }), Reason::TooLarge);
}

#[test]
fn an_error_of_the_file_is_no_reason_but_an_error() {
    struct Broken(Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            match self.0.read(&mut buf[..1000])? {
                0 => Err(io::Error::other("the disk is gone")),
                n => Ok(n),
            }
        }
    }
    impl io::Seek for Broken {
        fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
            self.0.seek(position)
        }
    }
    let file = gzip(GO_HEADER, class("go-6"), &Chance(4).text(50_000));
    let error = find(Broken(Cursor::new(file)), &Budget::default()).unwrap_err();
    assert_eq!(error.to_string(), "the disk is gone");
}
