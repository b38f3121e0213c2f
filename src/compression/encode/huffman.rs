//! Huffman codes as Go's compress/flate and what came of it build them, and the blocks' headers.
//!
//! Lengths are those of package-merge, level by level: of equal frequencies the lower symbol comes first, and a pair goes
//! before a leaf of the same weight. So the lengths are given by the counts alone.

use crate::compression::encode::bits::Bits;
use crate::compression::encode::tokens::{DISTANCES, LENGTH_BASE, LENGTH_EXTRA, LENGTH_SYMBOL, LITERALS};
use crate::compression::encode::tokens::{Token, distance_extra, distance_symbol};

/// A code for `N` symbols: the bits, reversed, and above them their number from bit 16 on. 0 is no code.
#[derive(Clone)]
pub(super) struct Codes<const N: usize>(pub(super) [u32; N]);

impl<const N: usize> Codes<N> {
    pub(super) const NONE: Self = Codes([0; N]);

    /// The best code for these counts in which no code is longer than `limit` bits, at most 15. With one or two symbols
    /// each has one bit.
    pub(super) fn best(counts: &[u32], limit: usize) -> Self {
        let mut leaves = [(0u32, 0u16); LITERALS];
        let mut used = 0;
        for (symbol, count) in counts.iter().enumerate() {
            if *count > 0 {
                leaves[used] = (*count, symbol as u16);
                used += 1;
            }
        }
        let mut lengths = [0u8; N];
        if used <= 2 {
            for (_, symbol) in &leaves[..used] {
                lengths[usize::from(*symbol)] = 1;
            }
            return Codes::of_lengths(&lengths);
        }
        // Their symbols rise already, and equal counts keep that order.
        let leaves = &mut leaves[..used];
        leaves.sort_unstable_by_key(|(count, symbol)| u64::from(*count) << 16 | u64::from(*symbol));
        let per_length = package_merge(leaves, limit.min(used - 1));
        // The rarest have the longest.
        let mut rest = leaves.iter();
        for (length, count) in per_length.iter().enumerate().rev() {
            for (_, symbol) in rest.by_ref().take(*count) {
                lengths[usize::from(*symbol)] = length as u8;
            }
        }
        Codes::of_lengths(&lengths)
    }

    /// The canonical code of these lengths (RFC 1951, 3.2.2).
    pub(super) fn of_lengths(lengths: &[u8; N]) -> Self {
        let mut next = [0u32; 17];
        for length in lengths {
            next[usize::from(*length) + 1] += 1;
        }
        next[1] = 0;
        for length in 1..16 {
            next[length + 1] = (next[length + 1] + next[length]) << 1;
        }
        // `next[l]` is now the first code of length l.
        let mut codes = [0; N];
        for (code, length) in codes.iter_mut().zip(lengths) {
            if *length > 0 {
                let value = next[usize::from(*length)];
                next[usize::from(*length)] += 1;
                *code = value.reverse_bits() >> (32 - u32::from(*length)) | u32::from(*length) << 16;
            }
        }
        Codes(codes)
    }

    #[inline(always)]
    pub(super) fn length(&self, symbol: usize) -> u32 {
        self.0[symbol] >> 16
    }

    #[inline(always)]
    pub(super) fn put(&self, symbol: usize, bits: &mut Bits) {
        let code = self.0[symbol];
        bits.put(code & 0xffff, code >> 16);
    }

    /// The bits that so many of each symbol take.
    pub(super) fn bits(&self, counts: &[u32]) -> usize {
        counts.iter().zip(&self.0).map(|(count, code)| *count as usize * (code >> 16) as usize).sum()
    }

    /// Whether every symbol that occurs has a code.
    pub(super) fn covers(&self, counts: &[u32]) -> bool {
        counts.iter().zip(&self.0).all(|(count, code)| *count == 0 || *code != 0)
    }
}

/// How many symbols get each length, for leaves that rise in weight. More than two leaves; `limit` at most 15.
fn package_merge(leaves: &[(u32, u16)], limit: usize) -> [usize; 16] {
    // Items of a level: leaves and pairs of the level below, by weight. How many of the first n are leaves is kept for
    // each level; the top level needs 2·leaves − 2 items, the one below twice the pairs among them, and so on.
    const ITEMS: usize = 2 * LITERALS;
    let needed = 2 * leaves.len() - 2;
    let mut is_leaf = [[false; ITEMS]; 16];
    let mut below = [0u32; ITEMS];
    let mut level_items = [0u32; ITEMS];
    let mut length_below = leaves.len();
    for (item, (count, _)) in below.iter_mut().zip(leaves) {
        *item = *count;
    }
    is_leaf[1][..leaves.len()].fill(true);
    for flags in is_leaf.iter_mut().take(limit + 1).skip(2) {
        let pairs = length_below / 2;
        let length = needed.min(leaves.len() + pairs);
        let (mut leaf, mut pair) = (0, 0);
        for (item, flag) in level_items.iter_mut().zip(flags).take(length) {
            let of_leaf = leaves.get(leaf).map_or(u32::MAX, |leaf| leaf.0);
            let of_pair = if pair < pairs { below[2 * pair] + below[2 * pair + 1] } else { u32::MAX };
            let takes_leaf = of_leaf < of_pair;
            *item = if takes_leaf { of_leaf } else { of_pair };
            *flag = takes_leaf;
            leaf += usize::from(takes_leaf);
            pair += usize::from(!takes_leaf);
        }
        std::mem::swap(&mut below, &mut level_items);
        length_below = length;
    }
    let mut per_length = [0; 16];
    let mut items = needed;
    let mut at_least = [0; 17];
    // At the top level as many leaves count as have a code of one bit or more, below it of two or more.
    for (level, length) in (1..=limit).rev().zip(1..) {
        let of_level = is_leaf[level][..items].iter().filter(|leaf| **leaf).count();
        at_least[length] = of_level;
        items = 2 * (items - of_level);
    }
    for length in 1..=15 {
        per_length[length] = at_least[length] - at_least[length + 1];
    }
    per_length
}

/// The order in which the lengths of the code for lengths are written (RFC 1951, 3.2.7).
pub(super) const LENGTHS_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The header of a dynamic block: the lengths of both codes in one run-length coded row.
pub(super) struct Header {
    /// Symbols of the code for lengths, each with its extra value.
    row: Vec<(u8, u8)>,
    codes: Codes<19>,
    counts: [u32; 19],
    literals: usize,
    distances: usize,
    written: usize,
}

impl Header {
    /// Of the first so many codes of each.
    pub(super) fn new(
        literal_codes: &Codes<LITERALS>,
        literals: usize,
        distance_codes: &Codes<DISTANCES>,
        distances: usize,
    ) -> Self {
        let mut lengths = [0u8; LITERALS + DISTANCES];
        let lengths = &mut lengths[..literals + distances];
        let codes = literal_codes.0[..literals].iter().chain(&distance_codes.0[..distances]);
        for (length, code) in lengths.iter_mut().zip(codes) {
            *length = (code >> 16) as u8;
        }
        let row = run_lengths(lengths);
        let mut counts = [0; 19];
        for (symbol, _) in &row {
            counts[usize::from(*symbol)] += 1;
        }
        let mut written = 19;
        while written > 4 && counts[LENGTHS_ORDER[written - 1]] == 0 {
            written -= 1;
        }
        Header { row, codes: Codes::best(&counts, 7), counts, literals, distances, written }
    }

    /// Its size in bits, the three before it included.
    pub(super) fn bits(&self) -> usize {
        let extra = 2 * self.counts[16] + 3 * self.counts[17] + 7 * self.counts[18];
        17 + 3 * self.written + self.codes.bits(&self.counts) + extra as usize
    }

    pub(super) fn put(&self, bits: &mut Bits, is_last: bool) {
        bits.put(0b100 | u32::from(is_last), 3);
        bits.put(self.literals as u32 - 257, 5);
        bits.put(self.distances as u32 - 1, 5);
        bits.put(self.written as u32 - 4, 4);
        for symbol in &LENGTHS_ORDER[..self.written] {
            bits.put(self.codes.length(*symbol), 3);
        }
        for (symbol, extra) in &self.row {
            self.codes.put(usize::from(*symbol), bits);
            let extra_bits = [2, 3, 7];
            if let Some(count) = symbol.checked_sub(16) {
                bits.put(u32::from(*extra), extra_bits[usize::from(count)]);
            }
        }
    }
}

/// Runs: a length once, then what repeats of it by 3 to 6; zeros by 11 to 138, then by 3 to 10; what is left one by one.
fn run_lengths(lengths: &[u8]) -> Vec<(u8, u8)> {
    let mut row = Vec::with_capacity(lengths.len());
    for run in lengths.chunk_by(|a, b| a == b) {
        let (length, mut left) = (run[0], run.len());
        if length > 0 {
            row.push((length, 0));
            left -= 1;
            while left >= 3 {
                let taken = left.min(6);
                row.push((16, taken as u8 - 3));
                left -= taken;
            }
        } else {
            while left >= 11 {
                let taken = left.min(138);
                row.push((18, taken as u8 - 11));
                left -= taken;
            }
            if left >= 3 {
                row.push((17, left as u8 - 3));
                left = 0;
            }
        }
        row.extend(std::iter::repeat_n((length, 0), left));
    }
    row
}

/// The codes of fixed blocks (RFC 1951, 3.2.6).
pub(super) fn fixed_literals() -> Codes<LITERALS> {
    // The two at the end are never used, but take part.
    let mut lengths = [8; LITERALS + 2];
    lengths[144..256].fill(9);
    lengths[256..280].fill(7);
    let mut codes = Codes::NONE;
    codes.0.copy_from_slice(&Codes::of_lengths(&lengths).0[..LITERALS]);
    codes
}

pub(super) fn fixed_distances() -> Codes<DISTANCES> {
    Codes::of_lengths(&[5; DISTANCES])
}

/// Writes the tokens of a block, without its end.
pub(super) fn put_tokens(tokens: &[Token], literals: &Codes<LITERALS>, distances: &Codes<DISTANCES>, bits: &mut Bits) {
    // A length's code and its extra bits in one.
    let mut lengths = [(0u32, 0u32); 256];
    for (value, entry) in lengths.iter_mut().enumerate() {
        let symbol = usize::from(LENGTH_SYMBOL[value]);
        let code = literals.0[257 + symbol];
        let extra = value as u32 - u32::from(LENGTH_BASE[symbol]);
        *entry = (code & 0xffff | extra << (code >> 16), (code >> 16) + u32::from(LENGTH_EXTRA[symbol]));
    }
    for tokens in tokens.chunks(TOGETHER) {
        let mut run = bits.run::<{ TOGETHER * MOST_BYTES + 8 }>();
        for token in tokens {
            let value = usize::from(token.value());
            if token.is_literal() {
                let code = literals.0[value];
                run.put(u64::from(code & 0xffff), code >> 16);
                continue;
            }
            let (length, count) = lengths[value];
            let distance = token.distance().wrapping_sub(1) & 0x7fff;
            let symbol = distance_symbol(distance);
            let extra = distance_extra(symbol);
            let code = distances.0[symbol as usize];
            let low = distance & ((1 << extra) - 1);
            let code = (code & 0xffff | low << (code >> 16), (code >> 16) + extra);
            run.put(u64::from(length) | u64::from(code.0) << count, count + code.1);
        }
        run.finish();
    }
}

/// Tokens that are written at a time, and bytes of each, at most: 15 bits for a length and 5 after it, 15 and 13 for a distance.
const TOGETHER: usize = 512;
const MOST_BYTES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stay_within_the_limit_and_ties_take_the_pair() {
        let mut counts = [0; 20];
        let (mut a, mut b) = (1, 1);
        for count in &mut counts {
            *count = a;
            (a, b) = (b, a + b);
        }
        let lengths = |limit| Codes::<20>::best(&counts, limit).0.map(|code| code >> 16);
        assert_eq!(lengths(7), [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 6, 6, 4, 4, 3, 3, 2, 2]);
        assert_eq!(Codes::<5>::best(&[1, 1, 1, 1, 2], 15).0.map(|code| code >> 16), [3, 3, 3, 3, 1]);
        assert_eq!(Codes::<3>::best(&[0, 9, 1], 15).0, [0, 1 << 16, 1 << 16 | 1]);
        assert_eq!(Codes::<3>::best(&[0, 9, 0], 15).0, [0, 1 << 16, 0]);
    }

    #[test]
    fn rows_of_lengths_are_cut_in_one_way() {
        let lengths = [[8; 9].as_slice(), &[0; 2], &[5; 3], &[0; 150], &[7]].concat();
        let row = [(8, 0), (16, 3), (8, 0), (8, 0), (0, 0), (0, 0), (5, 0), (5, 0), (5, 0), (18, 127), (18, 1), (7, 0)];
        assert_eq!(run_lengths(&lengths), row);
    }
}
