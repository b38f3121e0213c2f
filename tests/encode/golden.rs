//! What each class makes of inputs that are made here, as facts. The encoders were compared with the real ones by
//! `vectors.rs` when these were taken; where the real data is not at hand, these tell that nothing has changed.

use std::collections::BTreeMap;

use haversack::compression::encode::Class;
use haversack::digest::Digest;
use rayon::prelude::*;

use crate::{Chance, encode};

/// Inputs around the sizes at which encoders decide differently, of several kinds. All in all some 900 kB.
pub(crate) fn inputs() -> Vec<Vec<u8>> {
    let mut chance = Chance(17);
    let text = chance.text(300_000);
    let mut inputs: Vec<_> = [0, 1, 12, 13, 16, 17, 32, 33, 127, 128, 129, 5000, 65534, 65535, 65536, 131_071]
        .map(|length| text[text.len() - length..].to_vec())
        .into();
    inputs.push(chance.bytes(70_000));
    inputs.push(chance.skewed(140_000));
    inputs.push(vec![0; 70_000]);
    let mixed = [text, chance.bytes(10_000), chance.text(20_000), chance.skewed(30_000), vec![7; 4000]].concat();
    inputs.push(mixed);
    inputs
}

const EXPECTED: &[(&str, &str)] = &[
    ("go-2", "66442d5164fae6d78d2253b682ffa027"),
    ("go-3", "f92c12301b9df53185c84aa74b7877da"),
    ("go-4", "ea0c37ff9407f0b3d55199f8bce49521"),
    ("go-5", "95cab9b0add8bd8433a811a5fbeb3d23"),
    ("go-6", "3051acffa514aef38ea45e71bffa8ef3"),
    ("go-7", "248359ebc476aa88b1ed3fd554832c8c"),
    ("go-8", "77a3e9bc1e841f7d8bbd843037853730"),
    ("go-9", "77a3e9bc1e841f7d8bbd843037853730"),
    ("pgzip-a-1m", "5ade4ff984ce0b0d6aea2bdbec5fa29f"),
    ("pgzip-a-256k", "14a508b4ddc4743dffcb302a1d9a8500"),
    ("pgzip-b-1m", "2469d322f55aac41207dfdeb921c7223"),
    ("pgzip-b-256k", "134f2a1508aff6047d49f3de5b004e04"),
    ("pgzip-c-1m", "c0833e8dc9b323ec6446df00e904f814"),
    ("pgzip-c-256k", "f468835e69ac2fca2e65e8a3565bb652"),
    ("pgzip-d-1m", "234e2d848a012a91988e2987976126d8"),
    ("pgzip-d-256k", "900bb64443e266894a8090ad3cc603ba"),
];

#[test]
fn what_every_class_makes_has_not_changed_and_is_inflated_to_what_went_in() {
    let inputs = inputs();
    let classes: Vec<Class> = Class::all().collect();
    let made: BTreeMap<String, String> = classes
        .par_iter()
        .map(|class| {
            let mut all = Vec::new();
            for input in &inputs {
                let made = encode(*class, input);
                let mut back = Vec::new();
                std::io::copy(&mut flate2::read::DeflateDecoder::new(&made[..]), &mut back).unwrap();
                assert!(back == *input, "{class}, {} bytes", input.len());
                all.extend(made);
            }
            (class.to_string(), Digest::sha256(&all).hex()[..32].to_owned())
        })
        .collect();
    let expected = EXPECTED.iter().map(|(class, digest)| (class.to_string(), digest.to_string())).collect();
    assert_eq!(made, expected);
}
