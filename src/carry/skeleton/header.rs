//! The header of an entry: its fields, and what they are expected to be.

use std::ops::Range;

/// The size field that goes with a body: eleven octal digits, ended as in the header before.
pub(super) fn size_field(before: &[u8; BLOCK], body: u64) -> [u8; 12] {
    let mut field = [before[SIZE.end - 1]; 12];
    let mut rest = body;
    for digit in field[..11].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest & 7).expect("three bits");
        rest >>= 3;
    }
    field
}

/// The checksum field that a header should have: six octal digits, NUL and a blank.
pub(super) fn sum_field(block: &[u8; BLOCK]) -> [u8; 8] {
    let mut field = *b"000000\0 ";
    let mut rest = sum(block);
    for digit in field[..6].iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest & 7).expect("three bits");
        rest >>= 3;
    }
    field
}

/// The sum of a header's bytes, its checksum taken for blanks.
fn sum(block: &[u8; BLOCK]) -> u32 {
    let all: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let field: u32 = block[SUM].iter().map(|byte| u32::from(*byte)).sum();
    all - field + 8 * u32::from(b' ')
}

/// Whether a block is a header. Old programs summed signed bytes.
pub(super) fn has_right_sum(block: &[u8; BLOCK]) -> bool {
    let Some(said) = number(&block[SUM]) else { return false };
    let high = block.iter().enumerate().filter(|(at, byte)| !SUM.contains(at) && **byte >= 0x80).count();
    let signed = i64::from(sum(block)) - 256 * high as i64;
    said == u64::from(sum(block)) || u64::try_from(signed).is_ok_and(|signed| said == signed)
}

/// A number as fields have it: octal digits between blanks and NULs, or base-256 (GNU).
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let is_small = high.split_first().is_some_and(|(first, rest)| *first == 0x80 && rest.iter().all(|it| *it == 0));
        let low = u64::from_be_bytes(low.try_into().expect("eight bytes"));
        return (is_small && low <= i64::MAX.cast_unsigned()).then_some(low);
    }
    let end = |byte: &u8| matches!(byte, 0 | b' ');
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = field[start..].split(end).next().unwrap_or_default();
    if digits.is_empty() {
        return field.iter().all(end).then_some(0);
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// What a header calls its entry.
pub(super) fn path_of(block: &[u8; BLOCK]) -> Vec<u8> {
    let text = |field: Range<usize>| block[field].split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    // GNU's old headers have times where ustar has the prefix.
    let prefix = if block[MAGIC].starts_with(b"ustar\0") { text(PREFIX) } else { Vec::new() };
    if prefix.is_empty() {
        text(FIELDS[NAME].clone())
    } else {
        [&prefix, &b"/"[..], &text(FIELDS[NAME].clone())].concat()
    }
}

pub(super) fn padding_of(size: u64) -> usize {
    usize::try_from(size.wrapping_neg() % BLOCK as u64).expect("below 512")
}

/// A field without the NULs at its end.
pub(super) fn trim(field: &[u8]) -> &[u8] {
    let end = field.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &field[..end]
}

pub(super) const BLOCK: usize = 512;

/// The fields of a header, which together are all of it.
pub(super) const FIELDS: [Range<usize>; 16] = [
    0..100,
    100..108,
    108..116,
    116..124,
    SIZE,
    136..148,
    SUM,
    TYPE,
    157..257,
    MAGIC,
    265..297,
    297..329,
    329..337,
    337..345,
    PREFIX,
    500..512,
];
pub(super) const NAME: usize = 0;
pub(super) const SIZE_FIELD: usize = 4;
pub(super) const SUM_FIELD: usize = 6;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const SUM: Range<usize> = 148..156;
pub(super) const TYPE: Range<usize> = 156..157;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
/// Whether further blocks with GNU's map of a sparse file follow the header, and one of those.
pub(super) const SPARSE_GOES_ON: usize = 482;
pub(super) const SPARSE_BLOCK_GOES_ON: usize = 504;
