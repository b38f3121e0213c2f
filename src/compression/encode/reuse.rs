//! The blocks of github.com/klauspost/compress/flate: a header may stay open, and its codes serve the next block too.

use crate::compression::encode::bits::Bits;
use crate::compression::encode::go::used;
use crate::compression::encode::huffman::{Codes, Header, fixed_distances, fixed_literals, put_tokens};
use crate::compression::encode::tokens::{DISTANCES, END, LENGTH_EXTRA, LITERALS, Tokens, distance_extra};

/// Writes blocks.
pub(super) struct Blocks {
    pub(super) bits: Bits,
    /// Whether headers hold codes up to the last possible symbol, as long as more blocks may use them.
    full_headers: bool,
    literals: Codes<LITERALS>,
    distances: Codes<DISTANCES>,
    /// The size of the open header in bits, 0 if none is open.
    open: usize,
    /// Whether the open one has codes for literals alone.
    is_literal_only: bool,
    fixed: (Codes<LITERALS>, Codes<DISTANCES>),
}

/// Whether more blocks may follow that use the same codes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    May,
    Flush,
}

/// With fewer tokens than this, fixed codes are tried.
const FEW: usize = 250;

impl Blocks {
    pub(super) fn new(full_headers: bool) -> Self {
        Blocks {
            bits: Bits::default(),
            full_headers,
            literals: Codes::NONE,
            distances: Codes::NONE,
            open: 0,
            is_literal_only: false,
            fixed: (fixed_literals(), fixed_distances()),
        }
    }

    /// Writes the end that an open header owes.
    pub(super) fn close(&mut self) {
        if self.open > 0 {
            self.literals.put(END, &mut self.bits);
            self.open = 0;
        }
    }

    /// A stored block.
    pub(super) fn stored(&mut self, bytes: &[u8]) {
        self.close();
        self.bits.stored(bytes, false);
    }

    fn stored_or_fixed(&mut self, input: &[u8], is_stored: bool, tokens: &Tokens) {
        if is_stored {
            self.stored(input);
            return;
        }
        self.close();
        self.bits.put(0b010, 3);
        put_tokens(&tokens.list, &self.fixed.0, &self.fixed.1, &mut self.bits);
        self.fixed.0.put(END, &mut self.bits);
    }

    fn fixed_size(&self, tokens: &Tokens, extra: usize) -> usize {
        3 + self.fixed.0.bits(&tokens.literals) + self.fixed.1.bits(&tokens.distances) + extra
    }

    /// The last block, empty.
    pub(super) fn finish(&mut self) {
        self.close();
        self.bits.put(0b011, 3);
        self.bits.put(0, 7);
        self.bits.align();
    }

    /// A chunk with what was found in it, whichever way is shortest. `tokens` are empty after it.
    pub(super) fn chunk(&mut self, tokens: &mut Tokens, input: &[u8], more: More) {
        if tokens.list.is_empty() {
            self.stored(input);
        } else if tokens.list.len() > input.len() - (input.len() >> 4) {
            self.literals_only(input, more);
        } else {
            self.dynamic(tokens, input, more);
        }
        tokens.clear();
    }

    fn dynamic(&mut self, tokens: &mut Tokens, input: &[u8], more: More) {
        let is_flush = more == More::Flush;
        let count = tokens.list.len() + usize::from(is_flush);
        if is_flush || !self.full_headers {
            tokens.literals[END] = 1;
        }
        if self.open > 0
            && (self.is_literal_only
                || !self.literals.covers(&tokens.literals)
                || !self.distances.covers(&tokens.distances))
        {
            self.close();
        }
        let (literals, distances) = if is_flush || !self.full_headers {
            let distances = used(&tokens.distances);
            if distances == 0 {
                tokens.distances[0] = 1;
            }
            (used(&tokens.literals), distances.max(1))
        } else {
            (LITERALS, DISTANCES)
        };
        let extra = tokens.extra_bits();
        let stored_size = (input.len() + 5) * 8;
        if self.open > 0 {
            let mut new_size = self.open + estimate(tokens, count);
            new_size += self.literals.length(END) as usize + (new_size >> 7);
            let reuse_size = self.literals.bits(&tokens.literals) + self.distances.bits(&tokens.distances) + extra;
            let size = new_size.min(reuse_size);
            if new_size < reuse_size {
                self.close();
            }
            if count < FEW && self.fixed_size(tokens, extra) + 7 < size {
                self.stored_or_fixed(input, stored_size <= size, tokens);
                return;
            }
            if stored_size <= size {
                self.stored(input);
                return;
            }
        }
        if self.open == 0 {
            tokens.literals[END] = 1;
            self.literals = Codes::best(&tokens.literals, 15);
            self.distances = Codes::best(&tokens.distances, 15);
            let header = Header::new(&self.literals, literals, &self.distances, distances);
            let size =
                header.bits() + self.literals.bits(&tokens.literals) + self.distances.bits(&tokens.distances) + extra;
            let fixed_size = self.fixed_size(tokens, extra);
            if count < FEW && fixed_size <= size {
                self.stored_or_fixed(input, stored_size <= fixed_size, tokens);
                return;
            }
            if stored_size <= size {
                self.stored(input);
                return;
            }
            header.put(&mut self.bits, false);
            self.open = header.bits();
            self.is_literal_only = false;
        }
        put_tokens(&tokens.list, &self.literals, &self.distances, &mut self.bits);
        if is_flush {
            self.close();
        }
    }

    /// A chunk in which matches do not pay.
    pub(super) fn literals_only(&mut self, input: &[u8], more: More) {
        let mut counts = [0u32; LITERALS];
        for byte in input {
            counts[usize::from(*byte)] += 1;
        }
        if input.len() > 1024 {
            // Bytes that are as even as chance makes them.
            let average = input.len() as f64 / 256.0;
            let spread: f64 = counts[..256].iter().map(|count| (f64::from(*count) - average).powi(2)).sum();
            if spread < (2 * input.len()) as f64 {
                self.stored(input);
                return;
            }
        }
        counts[END] = 1;
        let codes = Codes::<LITERALS>::best(&counts[..=END], 15);
        let mut estimate = codes.bits(&counts[..=END]) + if self.open > 0 { self.open } else { GUESSED_HEADER };
        estimate += estimate >> 7;
        if (input.len() + 5) * 8 <= estimate {
            self.stored(input);
            return;
        }
        if self.open > 0 && (!self.literals.covers(&counts[..256]) || estimate < self.literals.bits(&counts[..256])) {
            self.close();
        }
        if self.open == 0 {
            self.literals = codes;
            let mut distances = Codes::NONE;
            distances.0[0] = 1 << 16;
            let header = Header::new(&self.literals, END + 1, &distances, 1);
            header.put(&mut self.bits, false);
            self.open = header.bits();
            self.is_literal_only = true;
        }
        self.bits.out.reserve(input.len());
        for byte in input {
            self.literals.put(usize::from(*byte), &mut self.bits);
        }
        if more == More::Flush {
            self.close();
            self.is_literal_only = false;
        }
    }
}

/// What the header of a block of literals is taken to be, in bits.
const GUESSED_HEADER: usize = 70 * 8;

/// What the tokens would take with the best codes, by their entropy. In single precision and in this order: the sum decides.
fn estimate(tokens: &Tokens, count: usize) -> usize {
    let mut entropy = 0f32;
    let mut bits = 0;
    let mut copies = 0;
    let share = 1.0 / count as f32;
    let weigh = |count: u32, share: f32| {
        let n = count as f32;
        (-log2(n * share)).clamp(1.0, 15.0) * n
    };
    for n in tokens.literals[..256].iter().filter(|n| **n > 0) {
        entropy += weigh(*n, share);
    }
    entropy += 15.0;
    for (n, extra) in tokens.literals[257..].iter().zip(LENGTH_EXTRA).filter(|(n, _)| **n > 0) {
        entropy += weigh(*n, share);
        bits += *n * u32::from(extra);
        copies += *n;
    }
    if copies > 0 {
        let share = 1.0 / copies as f32;
        for (n, symbol) in tokens.distances.iter().zip(0..).filter(|(n, _)| **n > 0) {
            entropy += weigh(*n, share);
            bits += *n * distance_extra(symbol);
        }
    }
    entropy as usize + bits as usize
}

/// The logarithm as approximated there.
fn log2(value: f32) -> f32 {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 255) as i32 - 128;
    let mantissa = f32::from_bits((bits & 0x807f_ffff) + (127 << 23));
    exponent as f32 + ((-0.344_848_43 * mantissa + 2.024_665_8) * mantissa - 0.674_877_6)
}
