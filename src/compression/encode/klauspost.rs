//! The block encoder of github.com/klauspost/compress/flate at level 5, which pgzip's default is: two hash tables, one of
//! them with two generations, and Huffman codes that may serve several blocks.

use crate::compression::encode::boxed;
use crate::compression::encode::matches::{common, eight, four};
use crate::compression::encode::tokens::Tokens;

/// What changed between releases and shows in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PgzipVariant {
    /// 1.15.10 to 1.18.0.
    A,
    /// 1.18.1 on: headers hold only the codes that are used.
    B,
    /// 1.15.0 to 1.15.9: a better match is looked for at its very start.
    C,
    /// 1.14: besides, long matches are split after 255 bytes.
    D,
}

/// Bytes of a block; a shorter one is the last before a flush.
pub(super) const CHUNK: usize = 65535;
/// Matches are nearer than this.
pub(super) const REACH: u32 = 1 << 15;
/// No match begins in the last bytes of a chunk.
pub(super) const MARGIN: usize = 11;
pub(super) const LONGEST: usize = 258;
/// What positions in tables are counted from, so that 0 is out of reach of all of them.
pub(super) const BASE: u32 = REACH;

const TABLE: usize = 1 << 15;

/// The tables of the match finder. Places are positions in the source plus a base of at least [`BASE`].
pub(super) struct Tables {
    /// By the next 4 bytes.
    short: Box<[u32; TABLE]>,
    /// By the next 7 bytes: the last place and the one before.
    long: Box<[[u32; 2]; TABLE]>,
}

#[inline(always)]
pub(super) fn short_hash(bytes: u64) -> usize {
    ((bytes as u32).wrapping_mul(2_654_435_761) >> 17) as usize
}

#[inline(always)]
pub(super) fn long_hash(bytes: u64) -> usize {
    ((bytes << 8).wrapping_mul(58_295_818_150_454_627) >> 49) as usize
}

impl Tables {
    pub(super) fn new() -> Self {
        Tables { short: boxed(), long: boxed_pairs() }
    }

    /// Takes so much from all places, as the base sinks.
    pub(super) fn lower(&mut self, by: u32) {
        for place in self.short.iter_mut().chain(self.long.iter_mut().flatten()) {
            *place = place.saturating_sub(by);
        }
    }

    #[inline(always)]
    pub(super) fn short(&self, hash: usize) -> u32 {
        self.short[hash & (TABLE - 1)]
    }

    #[inline(always)]
    pub(super) fn long(&self, hash: usize) -> [u32; 2] {
        self.long[hash & (TABLE - 1)]
    }

    #[inline(always)]
    pub(super) fn put_short(&mut self, hash: usize, place: u32) {
        self.short[hash & (TABLE - 1)] = place;
    }

    #[inline(always)]
    pub(super) fn put_long(&mut self, hash: usize, place: u32) {
        let entry = &mut self.long[hash & (TABLE - 1)];
        *entry = [place, entry[0]];
    }

    /// Finds the matches of the chunk `source[start..]`, whose history is what comes before. No tokens at all mean that
    /// none was found.
    pub(super) fn find(&mut self, source: &[u8], start: usize, base: u32, variant: PgzipVariant, tokens: &mut Tokens) {
        if source.len() - start <= MARGIN + 1 {
            return;
        }
        let limit = source.len() - MARGIN;
        let mut emitted = start;
        let mut now = eight(source, start);
        let mut at = start;
        'matches: loop {
            let mut next = at;
            let mut length = 0;
            let mut from;
            let mut short = short_hash(now);
            let mut long = long_hash(now);
            loop {
                at = next;
                next = at + 1 + ((at - emitted) >> 6);
                if next > limit {
                    break 'matches;
                }
                let place = at as u32 + base;
                let short_candidate = self.short[short & (TABLE - 1)];
                let candidates = self.long[long & (TABLE - 1)];
                let coming = eight(source, next);
                self.put_short(short, place);
                self.long[long & (TABLE - 1)] = [place, candidates[0]];
                short = short_hash(coming);
                long = long_hash(coming);
                let next_place = next as u32 + base;
                // Where a candidate is, if it is in reach and the next four bytes are the same.
                let agrees = |candidate: u32, place: u32, bytes: u64| {
                    let distance = place.wrapping_sub(candidate);
                    let from = (place - base).wrapping_sub(distance) as usize;
                    (distance < REACH && four(source, from) == bytes as u32).then_some(from)
                };
                if place.wrapping_sub(candidates[0]) < REACH {
                    if let Some(first) = agrees(candidates[0], place, now) {
                        self.put_short(short, next_place);
                        self.put_long(long, next_place);
                        from = first;
                        if let Some(second) = agrees(candidates[1], place, now) {
                            length = measured(source, at, first);
                            let other = measured(source, at, second);
                            if other > length {
                                (from, length) = (second, other);
                            }
                        }
                        break;
                    }
                    if let Some(second) = agrees(candidates[1], place, now) {
                        self.put_short(short, next_place);
                        self.put_long(long, next_place);
                        from = second;
                        break;
                    }
                }
                if let Some(found) = agrees(short_candidate, place, now) {
                    from = found;
                    length = measured(source, at, from);
                    let candidates = self.long[long & (TABLE - 1)];
                    self.put_short(short, next_place);
                    self.put_long(long, next_place);
                    if next_place.wrapping_sub(candidates[0]) < REACH {
                        for candidate in candidates {
                            let Some(other) = agrees(candidate, next_place, coming) else { continue };
                            let other_length = measured(source, next, other);
                            if other_length > length {
                                (from, length, at) = (other, other_length, next);
                                break;
                            }
                        }
                    }
                    break;
                }
                now = coming;
            }
            if length == 0 {
                length = 4 + common(&source[at + 4..], &source[from + 4..]);
            } else if length == LONGEST {
                length += common(&source[at + LONGEST..], &source[from + LONGEST..]);
            }
            // Perhaps what the end of the match was seen with before is longer.
            let end = at + length;
            if length < 30 && end < limit {
                let skip = if matches!(variant, PgzipVariant::A | PgzipVariant::B) { 2 } else { 0 };
                let candidate = self.long[long_hash(eight(source, end))][0];
                let distance = (end as u32 + base).wrapping_sub(candidate);
                if distance < REACH && distance > 0 && distance as usize <= at + skip {
                    let other = at + skip - distance as usize;
                    let other_length = common(&source[at + skip..], &source[other..]);
                    if other_length > length {
                        (from, length, at) = (other, other_length, at + skip);
                    }
                }
            }
            while from > 0 && at > emitted && source[from - 1] == source[at - 1] {
                from -= 1;
                at -= 1;
                length += 1;
            }
            for byte in &source[emitted..at] {
                tokens.literal(*byte);
            }
            put_long_copy(tokens, length, (at - from) as u32, variant);
            at += length;
            emitted = at;
            if next >= at {
                at = next + 1;
            }
            if at >= limit {
                break;
            }
            // What is inside the match is entered in part.
            let mut inner = at - length + 1;
            if inner < at - 1 {
                let bytes = eight(source, inner);
                let place = inner as u32 + base;
                self.put_short(short_hash(bytes), place);
                self.put_long(long_hash(bytes), place);
                self.put_long(long_hash(bytes >> 8), place + 1);
                self.put_short(short_hash(bytes >> 16), place + 2);
                inner += 4;
                while inner < at - 1 {
                    let bytes = eight(source, inner);
                    let place = inner as u32 + base;
                    self.put_long(long_hash(bytes), place);
                    self.put_short(short_hash(bytes >> 8), place + 1);
                    inner += 3;
                }
            }
            let bytes = eight(source, at - 1);
            let place = (at - 1) as u32 + base;
            self.put_short(short_hash(bytes), place);
            self.put_long(long_hash(bytes), place);
            now = bytes >> 8;
        }
        if emitted < source.len() && !tokens.list.is_empty() {
            for byte in &source[emitted..] {
                tokens.literal(*byte);
            }
        }
    }
}

/// How long a match is whose first four bytes agree, up to the longest.
#[inline(always)]
pub(super) fn measured(source: &[u8], at: usize, from: usize) -> usize {
    let most = (source.len() - at).min(LONGEST);
    4 + common(&source[at + 4..at + most], &source[from + 4..])
}

/// A match of any length in pieces that DEFLATE has.
pub(super) fn put_long_copy(tokens: &mut Tokens, mut length: usize, distance: u32, variant: PgzipVariant) {
    while length > 0 {
        let piece = match length {
            ..=LONGEST => length,
            // At least three have to be left.
            262.. if variant != PgzipVariant::D => LONGEST,
            _ => LONGEST - 3,
        };
        tokens.copy(piece as u32, distance);
        length -= piece;
    }
}

fn boxed_pairs() -> Box<[[u32; 2]; TABLE]> {
    vec![[0; 2]; TABLE].try_into().expect("the length is given")
}
