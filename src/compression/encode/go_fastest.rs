//! Go's compress/flate up to 1.26 at level 1: blocks of 65535 bytes and one hash table, as Snappy has it.

use crate::compression::encode::bits::Bits;
use crate::compression::encode::go::used;
use crate::compression::encode::huffman::{Codes, Header, put_tokens};
use crate::compression::encode::matches::{common, eight, four};
use crate::compression::encode::tokens::{DISTANCES, END, LITERALS, Tokens};
use crate::compression::encode::{Family, boxed};

const BLOCK: usize = 65535;
const REACH: u32 = 1 << 15;
/// No match begins in the last bytes of a block.
const MARGIN: usize = 15;
const TABLE: usize = 1 << 14;

/// An encoder of level 1.
pub(super) struct GoFastest {
    bits: Bits,
    tokens: Tokens,
    /// The block before, and from `start` on the one that is collected.
    held: Vec<u8>,
    start: usize,
    /// Four bytes and where they were last, as a position in what is held plus `base`.
    table: Box<[(u32, u32); TABLE]>,
    base: u32,
}

impl GoFastest {
    pub(super) fn new() -> Self {
        GoFastest {
            bits: Bits::default(),
            tokens: Tokens::with_capacity(BLOCK),
            held: Vec::with_capacity(2 * BLOCK),
            start: 0,
            table: boxed(),
            base: BLOCK as u32,
        }
    }

    fn find(&mut self) {
        let (source, base, tokens) = (&self.held[..], self.base, &mut self.tokens);
        let slot = |bytes: u32| (bytes.wrapping_mul(0x1e35_a7bd) >> 18) as usize & (TABLE - 1);
        if source.len() - self.start <= MARGIN + 1 {
            source[self.start..].iter().for_each(|byte| tokens.literal(*byte));
            return;
        }
        let limit = source.len() - MARGIN;
        let mut emitted = self.start;
        let mut at = self.start;
        let mut bytes = four(source, at);
        'blocks: loop {
            let mut skip = 32;
            let mut next = at;
            let mut distance;
            loop {
                at = next;
                let step = skip >> 5;
                next = at + step;
                skip += step;
                if next > limit {
                    break 'blocks;
                }
                let (seen, place) = self.table[slot(bytes)];
                self.table[slot(bytes)] = (bytes, at as u32 + base);
                distance = (at as u32 + base).wrapping_sub(place);
                if distance <= REACH && seen == bytes {
                    break;
                }
                bytes = four(source, next);
            }
            source[emitted..at].iter().for_each(|byte| tokens.literal(*byte));
            loop {
                let most = (source.len() - at).min(258);
                let from = at - distance as usize;
                let length = 4 + common(&source[at + 4..at + most], &source[from + 4..]);
                tokens.copy(length as u32, distance);
                at += length;
                emitted = at;
                if at >= limit {
                    break 'blocks;
                }
                let coming = eight(source, at - 1);
                self.table[slot(coming as u32)] = (coming as u32, (at - 1) as u32 + base);
                bytes = (coming >> 8) as u32;
                let (seen, place) = self.table[slot(bytes)];
                self.table[slot(bytes)] = (bytes, at as u32 + base);
                distance = (at as u32 + base).wrapping_sub(place);
                if distance > REACH || seen != bytes {
                    bytes = (coming >> 16) as u32;
                    at += 1;
                    break;
                }
            }
        }
        source[emitted..].iter().for_each(|byte| tokens.literal(*byte));
    }

    /// Writes the block that is collected.
    fn end_block(&mut self) {
        let length = self.held.len() - self.start;
        match length {
            0 => return,
            1..=16 => self.bits.stored(&self.held[self.start..], false),
            17..128 => put_literals(&self.held[self.start..], &mut self.bits),
            _ => {
                self.find();
                let input = &self.held[self.start..];
                if self.tokens.list.len() > length - (length >> 4) {
                    put_literals(input, &mut self.bits);
                } else {
                    put_block(&mut self.tokens, input, &mut self.bits);
                }
                self.tokens.clear();
            }
        }
        self.held.drain(..self.start);
        self.base += self.start as u32;
        self.start = length;
        if self.base > 1 << 31 {
            let shift = self.base - BLOCK as u32;
            self.base -= shift;
            for (_, place) in self.table.iter_mut() {
                *place = place.saturating_sub(shift);
            }
        }
    }
}

fn put_block(tokens: &mut Tokens, input: &[u8], bits: &mut Bits) {
    tokens.literals[END] = 1;
    if used(&tokens.distances) == 0 {
        tokens.distances[0] = 1;
    }
    let literals = Codes::best(&tokens.literals, 15);
    let distances = Codes::best(&tokens.distances, 15);
    let header = Header::new(&literals, used(&tokens.literals), &distances, used(&tokens.distances));
    let size = header.bits() + literals.bits(&tokens.literals) + distances.bits(&tokens.distances);
    if (input.len() + 5) * 8 < size + (size >> 4) {
        bits.stored(input, false);
        return;
    }
    header.put(bits, false);
    put_tokens(&tokens.list, &literals, &distances, bits);
    literals.put(END, bits);
}

fn put_literals(input: &[u8], bits: &mut Bits) {
    let mut counts = [0; END + 1];
    for byte in input {
        counts[usize::from(*byte)] += 1;
    }
    counts[END] = 1;
    let literals = Codes::<LITERALS>::best(&counts, 15);
    let mut distances = Codes::<DISTANCES>::NONE;
    distances.0[0] = 1 << 16;
    let header = Header::new(&literals, END + 1, &distances, 1);
    // The distance that is never used counts, too.
    let size = header.bits() + literals.bits(&counts) + 1;
    if (input.len() + 5) * 8 < size + (size >> 4) {
        bits.stored(input, false);
        return;
    }
    header.put(bits, false);
    for byte in input {
        literals.put(usize::from(*byte), bits);
    }
    literals.put(END, bits);
}

impl Family for GoFastest {
    fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.held.len() - self.start == BLOCK {
                self.end_block();
            }
            let room = BLOCK - (self.held.len() - self.start);
            let (piece, rest) = data.split_at(room.min(data.len()));
            self.held.extend_from_slice(piece);
            data = rest;
        }
    }

    fn finish(&mut self) {
        self.end_block();
        self.bits.stored(&[], true);
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.bits.out
    }
}
