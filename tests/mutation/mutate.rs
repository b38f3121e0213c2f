//! What becomes of something right: bytes and pieces of it changed, doubled, left out, exchanged, or with what breaks readers put in.

/// The input with this number.
pub(crate) fn input(reader: &str, seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Random(
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ reader.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31) ^ u64::from(byte)),
    );
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        change(&mut bytes, seeds, &mut random);
    }
    // Most of what is changed in a tar is seen by the check sums, and nothing behind them would ever be tried.
    if random.below(4) > 0 {
        right_check_sums(&mut bytes);
    }
    bytes.truncate(MOST);
    bytes
}

fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    if bytes.is_empty() {
        bytes.extend_from_slice(&seeds[random.below(seeds.len())]);
    }
    let at = random.below(bytes.len());
    // Mostly short, now and then anything.
    let most = if random.below(4) == 0 { bytes.len() - at } else { 16.min(bytes.len() - at) };
    let end = at + 1 + random.below(most.max(1)).min(bytes.len() - at - 1);
    match random.below(10) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = *random.of(&[0, 1, 0x7f, 0x80, 0xff, b'\n', b' ', b'0', b'/', b'"', b'<', b'(']),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let piece = bytes[at..end].to_vec();
            let times = *random.of(&[1, 2, 50, 2000]);
            let piece = piece.repeat(times.min(MOST / piece.len() + 1));
            bytes.splice(at..at, piece).for_each(drop);
        }
        4 => bytes.truncate(at),
        5 | 6 => {
            let word = random.of(WORDS).as_bytes();
            let end = if random.below(2) == 0 { at } else { end };
            bytes.splice(at..end, word.iter().copied()).for_each(drop);
        }
        7 => number(bytes, at, random),
        8 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            bytes.splice(at..end, other[from..].iter().copied().take(4096)).for_each(drop);
        }
        _ => bytes[at..end].iter_mut().for_each(|byte| *byte = random.next() as u8),
    }
    bytes.truncate(MOST);
}

/// Puts a number that breaks things in the place of the next one, in decimal, hexadecimal or binary.
fn number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_hexdigit).map(|start| at + start) else { return };
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    match random.below(3) {
        0 => {
            let digit = *random.of(b"0179f");
            bytes[start..start + length].fill(digit);
        }
        1 => {
            let text = random.of(&[
                "-1",
                "0",
                "4294967296",
                "9223372036854775807",
                "18446744073709551615",
                "1e999",
                "99999999999999999999",
            ]);
            bytes.splice(start..start + length, text.bytes()).for_each(drop);
        }
        _ => {
            let value: u32 = *random.of(&[0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x0100_0000]);
            let end = (at + 4).min(bytes.len());
            bytes.splice(at..end, value.to_be_bytes()).for_each(drop);
        }
    }
}

/// Gives what look like headers of a tar their check sums.
fn right_check_sums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] != b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// The same numbers on every machine (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What has a meaning somewhere, or has none and is taken for one.
const WORDS: &[&str] = &[
    "../",
    "/",
    "..\\",
    "\0",
    "\u{1b}[2J",
    "\u{202e}",
    "%2e%2e%2f",
    "((((((((((((((((",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":",
    "]}",
    "\"",
    "'",
    "<![CDATA[",
    "<!DOCTYPE a [<!ENTITY b \"c\">]>",
    "&b;",
    "&#x110000;",
    "&#0;",
    "<a>",
    "</a>",
    "/>",
    "<!--",
    "-->",
    "<?",
    "\r\n",
    "\n\n",
    "|",
    ",",
    ":",
    "= ",
    "&x ",
    "*x ",
    "- ",
    "? ",
    "!!binary ",
    "true",
    "null",
    "NaN",
    "-",
    "@",
    "sha256:",
    "sha512:",
    "size=",
    "path=",
    "GNU.sparse.",
    "TRAILER!!!",
    "070701",
    "07070X",
    "-----BEGIN PGP SIGNED MESSAGE-----\n",
    "-----BEGIN PGP SIGNATURE-----\n",
    "Bearer ",
    "realm=\"",
    "é",
    "\u{feff}",
    "\u{ffff}",
    "1:",
    "~",
    "^",
    "(>= ",
    " or ",
    " and ",
    " with ",
    " if ",
];

/// Bytes of an input; what is larger breaks readers in other ways, which tests/security tries.
const MOST: usize = 256 << 10;
