//! What holds for any input: what is encoded is inflated to what went in, however it arrives; recipes that somebody has
//! tampered with are refused or are recipes.

use std::io::{Read, Write};

use haversack::compression::encode::{Class, GzipRecipe, Member};
use rayon::prelude::*;

use crate::{Chance, encode};

#[test]
fn any_input_is_inflated_to_itself_and_how_it_arrives_does_not_show() {
    let classes: Vec<Class> = Class::all().collect();
    (0..600u64).into_par_iter().for_each(|seed| {
        let mut chance = Chance(seed);
        let class = classes[seed as usize % classes.len()];
        let mut plain = Vec::new();
        for _ in 0..chance.below(6) {
            let length = (chance.below(200) * chance.below(200)) as usize;
            match chance.below(5) {
                0 => plain.extend(chance.bytes(length)),
                1 => plain.extend(chance.skewed(length)),
                2 => plain.resize(plain.len() + length, chance.next() as u8),
                3 if length < plain.len() => plain.extend_from_within(plain.len() - length..),
                _ => plain.extend(chance.text(length)),
            }
        }
        let made = encode(class, &plain);
        let mut back = Vec::new();
        let mut stream = flate2::bufread::DeflateDecoder::new(&made[..]);
        stream.read_to_end(&mut back).unwrap();
        assert!(back == plain && stream.into_inner().is_empty(), "{class}, seed {seed}");
        // zlib-rs is not ours to promise that.
        if !matches!(class, Class::Ours { .. }) {
            let mut encoder = class.encoder(Vec::new());
            let mut rest = &plain[..];
            while !rest.is_empty() {
                let some = rest.len().min(1 + chance.below(3000) as usize);
                encoder.write_all(&rest[..some]).unwrap();
                rest = &rest[some..];
                if chance.below(20) == 0 {
                    encoder.flush().unwrap();
                }
            }
            assert!(encoder.finish().unwrap() == made, "{class}, seed {seed}");
        }
    });
}

#[test]
fn a_hundred_thousand_changed_recipes_are_refused_or_read_back() {
    let member = |class: &str, header: &[u8], plain, trailer| Member {
        class: class.parse().unwrap(),
        header: header.to_vec(),
        plain,
        trailer,
    };
    let recipe = GzipRecipe {
        members: vec![
            member("pgzip-a-1m", crate::PGZIP_HEADER, 123_456_789, None),
            member("gnu-9", crate::UNIX_HEADER, 7, Some([9; 8])),
            member("gnu-9", crate::UNIX_HEADER, 1 << 40, None),
        ],
        tail: vec![0; 20],
    };
    let bytes = recipe.to_bytes();
    let mut chance = Chance(5);
    let mut read = 0;
    for _ in 0..100_000 {
        let mut changed = bytes.clone();
        for _ in 0..1 + chance.below(3) {
            let at = chance.below(changed.len() as u32) as usize;
            match chance.below(4) {
                0 => changed[at] = chance.next() as u8,
                1 => changed[at] ^= 1 << chance.below(8),
                2 => changed.truncate(at.max(1)),
                _ => changed.insert(at, chance.next() as u8),
            }
        }
        if let Ok(recipe) = GzipRecipe::from_bytes(&changed) {
            assert_eq!(GzipRecipe::from_bytes(&recipe.to_bytes()), Ok(recipe));
            read += 1;
        }
    }
    assert!((1000..90_000).contains(&read), "{read}");
}
