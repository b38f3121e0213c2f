//! Go's compress/flate from 1.27 on, which came from klauspost's: levels 6 and 1. How it is written to does not show.

use crate::compression::encode::klauspost::{
    BASE, CHUNK, LONGEST, MARGIN, PgzipVariant, REACH, Tables, long_hash, measured, put_long_copy, short_hash,
};
use crate::compression::encode::matches::{common, eight, four};
use crate::compression::encode::reuse::{Blocks, More};
use crate::compression::encode::tokens::Tokens;
use crate::compression::encode::{Family, boxed};

/// What is held, the chunk that is collected included.
const HELD: usize = 5 * CHUNK;

/// An encoder of level 6 or 1.
pub(super) struct Go127 {
    finder: Finder,
    blocks: Blocks,
    tokens: Tokens,
    /// History, and from `start` on the chunk that is collected.
    held: Vec<u8>,
    start: usize,
    /// What positions in the tables are counted from.
    base: u32,
}

enum Finder {
    Sixth(Tables),
    First(Box<[u32; TABLE]>),
}

const TABLE: usize = 1 << 15;

impl Go127 {
    /// Level 1, or 6.
    pub(super) fn new(level: u8) -> Self {
        let finder = if level == 1 { Finder::First(boxed()) } else { Finder::Sixth(Tables::new()) };
        Go127 {
            finder,
            blocks: Blocks::new(false),
            tokens: Tokens::with_capacity(CHUNK),
            held: Vec::with_capacity(HELD),
            start: 0,
            base: BASE,
        }
    }

    fn end_chunk(&mut self, more: More) {
        let chunk = &self.held[self.start..];
        match chunk.len() {
            0 => return,
            1..=32 => self.blocks.stored(chunk),
            33..128 => self.blocks.literals_only(chunk, More::Flush),
            _ => {
                match &mut self.finder {
                    Finder::Sixth(tables) => find_sixth(tables, &self.held, self.start, self.base, &mut self.tokens),
                    Finder::First(table) => find_first(table, &self.held, self.start, self.base, &mut self.tokens),
                }
                self.blocks.chunk(&mut self.tokens, chunk, more);
            }
        }
        self.start = self.held.len();
        if self.start + CHUNK > HELD {
            let gone = self.start - REACH as usize;
            self.held.drain(..gone);
            self.start -= gone;
            self.base += gone as u32;
        }
        if self.base > 1 << 31 {
            let shift = self.base - BASE;
            self.base = BASE;
            match &mut self.finder {
                Finder::Sixth(tables) => tables.lower(shift),
                Finder::First(table) => table.iter_mut().for_each(|place| *place = place.saturating_sub(shift)),
            }
        }
    }
}

impl Family for Go127 {
    fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.held.len() - self.start == CHUNK {
                self.end_chunk(More::May);
            }
            let room = CHUNK - (self.held.len() - self.start);
            let (piece, rest) = data.split_at(room.min(data.len()));
            self.held.extend_from_slice(piece);
            data = rest;
        }
    }

    fn finish(&mut self) {
        self.end_chunk(More::Flush);
        self.blocks.finish();
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.blocks.bits.out
    }
}

/// Where a candidate is, if it is in reach and the next four bytes are the same.
#[inline(always)]
fn agrees(source: &[u8], base: u32, candidate: u32, at: usize, bytes: u64) -> Option<usize> {
    let distance = (at as u32 + base).wrapping_sub(candidate);
    if distance >= REACH {
        return None;
    }
    let from = at - distance as usize;
    (four(source, from) == bytes as u32).then_some(from)
}

/// Finds the matches of the chunk `source[start..]`; no tokens at all mean that there is none.
fn find_sixth(tables: &mut Tables, source: &[u8], start: usize, base: u32, tokens: &mut Tokens) {
    if source.len() - start <= MARGIN + 1 {
        return;
    }
    let limit = source.len() - MARGIN;
    let mut emitted = start;
    let mut now = eight(source, start);
    let mut at = start;
    let mut repeated = 1;
    'matches: loop {
        let mut next = at;
        let mut length = 0;
        let mut from;
        let (mut short, mut long) = (short_hash(now), long_hash(now));
        loop {
            at = next;
            next = at + 1 + ((at - emitted) >> 7);
            if next > limit {
                break 'matches;
            }
            let short_candidate = tables.short(short);
            let candidates = tables.long(long);
            let coming = eight(source, next);
            tables.put_short(short, at as u32 + base);
            tables.put_long(long, at as u32 + base);
            (short, long) = (short_hash(coming), long_hash(coming));
            let next_place = next as u32 + base;
            if (at as u32 + base).wrapping_sub(candidates[0]) < REACH {
                let second = agrees(source, base, candidates[1], at, now);
                let first = agrees(source, base, candidates[0], at, now);
                if let Some(found) = first.or(second) {
                    tables.put_short(short, next_place);
                    tables.put_long(long, next_place);
                    from = found;
                    if let (Some(first), Some(second)) = (first, second) {
                        length = measured(source, at, first);
                        let other = measured(source, at, second);
                        if other > length {
                            (from, length) = (second, other);
                        }
                    }
                    break;
                }
            }
            if let Some(found) = agrees(source, base, short_candidate, at, now) {
                from = found;
                length = measured(source, at, from);
                let candidates = tables.long(long);
                tables.put_short(short, next_place);
                tables.put_long(long, next_place);
                // The last distance again, one further.
                let other = at + 1 - repeated;
                if four(source, other) == (now >> 8) as u32 {
                    let other_length = measured(source, at + 1, other);
                    if other_length > length {
                        (from, length, at) = (other, other_length, at + 1);
                        break;
                    }
                }
                if next_place.wrapping_sub(candidates[0]) < REACH {
                    for candidate in candidates {
                        let Some(other) = agrees(source, base, candidate, next, coming) else { continue };
                        let other_length = measured(source, next, other);
                        if other_length > length {
                            (from, length, at) = (other, other_length, next);
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
        if end < limit {
            let later = at + 2;
            for candidate in tables.long(long_hash(eight(source, end))) {
                // From where the match would have to begin.
                let distance =
                    (later as u32 + base).wrapping_sub(candidate.wrapping_add(2).wrapping_sub(length as u32));
                if distance as i32 >= REACH as i32 {
                    break;
                }
                if distance as i32 <= 0 || distance as usize > later {
                    continue;
                }
                let other = later - distance as usize;
                let other_length = common(&source[later..], &source[other..]);
                if other_length > length {
                    (from, length, at) = (other, other_length, later);
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
        put_long_copy(tokens, length, (at - from) as u32, PgzipVariant::B);
        repeated = at - from;
        at += length;
        emitted = at;
        if next >= at {
            at = next + 1;
        }
        if at >= limit {
            for inner in (next + 1..source.len() - 8).step_by(2) {
                let bytes = eight(source, inner);
                tables.put_short(short_hash(bytes), inner as u32 + base);
                tables.put_long(long_hash(bytes), inner as u32 + base);
            }
            break;
        }
        for inner in (next + 1..at - 1).step_by(2) {
            let bytes = eight(source, inner);
            tables.put_short(short_hash(bytes), inner as u32 + base);
            tables.put_long(long_hash(bytes), inner as u32 + base);
            tables.put_long(long_hash(bytes >> 8), inner as u32 + base + 1);
        }
        now = eight(source, at);
    }
    put_rest(source, emitted, tokens);
}

/// As [`find_sixth`], for level 1.
fn find_first(table: &mut [u32; TABLE], source: &[u8], start: usize, base: u32, tokens: &mut Tokens) {
    if source.len() - start <= MARGIN + 1 {
        return;
    }
    let hash = |bytes: u64| ((bytes << 24).wrapping_mul(889_523_592_379) >> 49) as usize & (TABLE - 1);
    let limit = source.len() - MARGIN;
    let mut emitted = start;
    let mut now = eight(source, start);
    let mut at = start;
    'matches: loop {
        let mut next;
        let mut from;
        loop {
            let slot = hash(now);
            next = at + 2 + ((at - emitted) >> 5);
            if next > limit {
                break 'matches;
            }
            let candidate = std::mem::replace(&mut table[slot], at as u32 + base);
            let coming = eight(source, next);
            let slot = hash(coming);
            if let Some(found) = agrees(source, base, candidate, at, now) {
                from = found;
                table[slot] = next as u32 + base;
                break;
            }
            now = coming;
            at = next;
            next = at + 1;
            let candidate = std::mem::replace(&mut table[slot], at as u32 + base);
            if let Some(found) = agrees(source, base, candidate, at, now) {
                from = found;
                table[slot] = next as u32 + base;
                break;
            }
            now >>= 8;
            at = next;
        }
        loop {
            let mut length = 4 + common(&source[at + 4..], &source[from + 4..]);
            while from > 0 && at > emitted && source[from - 1] == source[at - 1] {
                from -= 1;
                at -= 1;
                length += 1;
            }
            for byte in &source[emitted..at] {
                tokens.literal(*byte);
            }
            put_long_copy(tokens, length, (at - from) as u32, PgzipVariant::B);
            at += length;
            emitted = at;
            if next >= at {
                at = next + 1;
            }
            if at >= limit {
                if at + length + 8 < source.len() {
                    table[hash(eight(source, at))] = at as u32 + base;
                }
                break 'matches;
            }
            let bytes = eight(source, at - 2);
            table[hash(bytes)] = (at - 2) as u32 + base;
            let slot = hash(bytes >> 16);
            let candidate = std::mem::replace(&mut table[slot], at as u32 + base);
            // Here, and only here, a match may be as far as a distance goes.
            let distance = (at as u32 + base).wrapping_sub(candidate);
            if distance > REACH || four(source, at - distance as usize) != (bytes >> 16) as u32 {
                now = bytes >> 24;
                at += 1;
                break;
            }
            from = at - distance as usize;
        }
    }
    put_rest(source, emitted, tokens);
}

/// The literals after the last match, if there was one.
fn put_rest(source: &[u8], emitted: usize, tokens: &mut Tokens) {
    if !tokens.list.is_empty() {
        source[emitted..].iter().for_each(|byte| tokens.literal(*byte));
    }
}
