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
    ("gnu-1", "080a94a882e1df55c5511211398e3524"),
    ("gnu-2", "96a8d6b45c522be455e8d2d108057751"),
    ("gnu-3", "502c57d160845bf9853da1c35af7a839"),
    ("gnu-4", "bcde88454e243cf32b41065e3fac7111"),
    ("gnu-5", "366f4881902f2bee15a96d3916a63a13"),
    ("gnu-6", "cb39a80c4a11924f4e3cd182d705442e"),
    ("gnu-7", "6ab9647a6f1c805706979c10f062b924"),
    ("gnu-8", "be0e5df83f5a4c40c8f20782676b7c02"),
    ("gnu-9", "be0e5df83f5a4c40c8f20782676b7c02"),
    ("go-1", "829dc4add9475d9ca385b06223446880"),
    ("go-2", "66442d5164fae6d78d2253b682ffa027"),
    ("go-3", "f92c12301b9df53185c84aa74b7877da"),
    ("go-4", "ea0c37ff9407f0b3d55199f8bce49521"),
    ("go-5", "95cab9b0add8bd8433a811a5fbeb3d23"),
    ("go-6", "3051acffa514aef38ea45e71bffa8ef3"),
    ("go-6-tar", "3051acffa514aef38ea45e71bffa8ef3"),
    ("go-6-tarsplit", "3051acffa514aef38ea45e71bffa8ef3"),
    ("go-7", "248359ebc476aa88b1ed3fd554832c8c"),
    ("go-8", "77a3e9bc1e841f7d8bbd843037853730"),
    ("go-9", "77a3e9bc1e841f7d8bbd843037853730"),
    ("go127-1", "60da01b2e2becb93d5fb2e65c59f22ec"),
    ("go127-6", "7248131ce8daf0c9e4a38221f38dfb75"),
    ("pgzip-a-1m", "5ade4ff984ce0b0d6aea2bdbec5fa29f"),
    ("pgzip-a-256k", "14a508b4ddc4743dffcb302a1d9a8500"),
    ("pgzip-b-1m", "2469d322f55aac41207dfdeb921c7223"),
    ("pgzip-b-256k", "134f2a1508aff6047d49f3de5b004e04"),
    ("pgzip-c-1m", "c0833e8dc9b323ec6446df00e904f814"),
    ("pgzip-c-256k", "f468835e69ac2fca2e65e8a3565bb652"),
    ("pgzip-d-1m", "234e2d848a012a91988e2987976126d8"),
    ("pgzip-d-256k", "900bb64443e266894a8090ad3cc603ba"),
    ("pigz-1", "1465742954b5b7169750118eaa2517ca"),
    ("pigz-2", "be0b9aa6326939fa99e5795515879094"),
    ("pigz-3", "b204d217b81c7ba0e5840351e512a5f5"),
    ("pigz-4", "876eb72faf66448289c4e79722517105"),
    ("pigz-5", "bf92beeba86338aac49d00be958565f6"),
    ("pigz-6", "4f9b34c38d6d58ee58f6e953087859c3"),
    ("pigz-7", "cb74f90d652f8d6c566478e054a75dd6"),
    ("pigz-8", "9282832ad475ef680fb5ab33d2052ce7"),
    ("pigz-9", "9282832ad475ef680fb5ab33d2052ce7"),
    ("zlib-1-m8", "ffee420d5579f7785396529b7d8916e4"),
    ("zlib-1-m9", "ad71cc97dbd949b1425ca46d9c701dfe"),
    ("zlib-2-m8", "0046bcb1e1027eeb5a0c045084f8fc7a"),
    ("zlib-2-m9", "65bff1bed21e1d3458ad7fcb17d44f7f"),
    ("zlib-3-m8", "bac07204de873af638daf9b6017e47a9"),
    ("zlib-3-m9", "c3336467858ec7142d6ea98314c962bc"),
    ("zlib-4-m8", "3743d5b0974f366bb3f70f91210db425"),
    ("zlib-4-m9", "b831739bab5b5d2012d90d205d7525ee"),
    ("zlib-5-m8", "26d2485a380f77cd8bd3e43e11047786"),
    ("zlib-5-m9", "5d6b134cd6faf9dd83658a376c41cbfe"),
    ("zlib-6-m8", "513e0984823555e91e897c9b590fad27"),
    ("zlib-6-m9", "532eb685efcb647c5255bf5d12292eb3"),
    ("zlib-7-m8", "3021ef83279c477fba1fd6e6a9e2434c"),
    ("zlib-7-m9", "89a98819c928476c1bacb8450246255d"),
    ("zlib-8-m8", "33ce990a422613f1331e357584427ba5"),
    ("zlib-8-m9", "c98d28bd038844c03d936970b163c74c"),
    ("zlib-9-m8", "33ce990a422613f1331e357584427ba5"),
    ("zlib-9-m9", "41d88bc5c26c8c896ab00f97ac4c9879"),
    ("zlib-rs-0.6.8-64k-0", "09370c796914d61a34a8d71a8aeffc15"),
    ("zlib-rs-0.6.8-64k-1", "d4b72fcd5af6f86c4628704cc3d01de5"),
    ("zlib-rs-0.6.8-64k-2", "f636b17ffd972a82ec7a3adaa78ca168"),
    ("zlib-rs-0.6.8-64k-3", "3f4c7e056981937021c9fdf4c7f3f2d8"),
    ("zlib-rs-0.6.8-64k-4", "d66c911cd5b095ba32a7a7ea0d044de8"),
    ("zlib-rs-0.6.8-64k-5", "b7f78c25d60e6bb93a58e29e5dbd4076"),
    ("zlib-rs-0.6.8-64k-6", "049c46b2f473faf3b3faef32d201b543"),
    ("zlib-rs-0.6.8-64k-7", "4b33b3c01dc282203165fb11a881cb02"),
    ("zlib-rs-0.6.8-64k-8", "7fa85744cbd476635b371fee306c8d61"),
    ("zlib-rs-0.6.8-64k-9", "cbc9c9941dffc09bdb112f28bb1b6ade"),
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
