//! Go's compress/flate up to 1.26 at levels 2 to 9: hash chains over a window of 64 KiB.
//!
//! What is found depends on when the window slides, and it slides with a write: so where writes begin shows in the
//! output, and [`Cutter`] says where they do.

use crate::compression::encode::bits::Bits;
use crate::compression::encode::huffman::{Codes, Header, fixed_distances, fixed_literals, put_tokens};
use crate::compression::encode::matches::{common, four};
use crate::compression::encode::tokens::{DISTANCES, END, LITERALS, Tokens};
use crate::compression::encode::writes::{Cutter, Writes};
use crate::compression::encode::{Family, boxed};

/// What a level may spend.
#[derive(Clone, Copy)]
struct Effort {
    /// A pending match this long is taken without looking for a better one. 0: the first match is always taken.
    lazy: usize,
    /// A match this long ends the search.
    nice: usize,
    /// Candidates looked at.
    chain: usize,
    /// Matches up to this long enter all their places into the table, where the first match is taken.
    inserts: usize,
}

const EFFORTS: [Effort; 8] = [
    Effort { lazy: 0, nice: 16, chain: 8, inserts: 5 },
    Effort { lazy: 0, nice: 32, chain: 32, inserts: 6 },
    Effort { lazy: 4, nice: 16, chain: 16, inserts: 0 },
    Effort { lazy: 16, nice: 32, chain: 32, inserts: 0 },
    Effort { lazy: 16, nice: 128, chain: 128, inserts: 0 },
    Effort { lazy: 32, nice: 128, chain: 256, inserts: 0 },
    Effort { lazy: 128, nice: 258, chain: 1024, inserts: 0 },
    Effort { lazy: 258, nice: 258, chain: 4096, inserts: 0 },
];

const REACH: usize = 1 << 15;
const WINDOW: usize = 2 * REACH;
const HASHES: usize = 1 << 17;
/// The shortest match.
const SHORTEST: usize = 4;
const LONGEST: usize = 258;
/// From 4 bytes only matches that are nearer than this pay.
const NEAR: usize = 4096;
/// Tokens of a block.
const BLOCK: usize = 1 << 14;

/// An encoder of levels 2 to 9.
pub(super) struct Go {
    effort: Effort,
    cutter: Cutter,
    bits: Bits,
    tokens: Tokens,
    fixed: (Codes<LITERALS>, Codes<DISTANCES>),
    /// The window, and some bytes after it so that words can be read at its end.
    window: Box<[u8; WINDOW + 1024]>,
    /// What of it is filled, where the search is, and where the block began, if that is still in the window.
    end: usize,
    index: usize,
    block_start: Option<usize>,
    /// The last place with each hash, and for each place the one before with the same hash; as positions plus `offset`,
    /// which grows as the window slides, so that 0 and what has left the window are below it.
    head: Box<[u32; HASHES]>,
    previous: Box<[u32; REACH]>,
    offset: u32,
    /// What was at the head when the last place was entered.
    candidate: u32,
    /// The match at the place before, which a better one may replace.
    pending: Match,
    /// Whether the byte before is neither written nor part of a match yet.
    has_literal: bool,
}

#[derive(Clone, Copy)]
struct Match {
    length: usize,
    distance: usize,
}

const NO_MATCH: Match = Match { length: SHORTEST - 1, distance: 0 };

impl Go {
    pub(super) fn new(level: u8, writes: Writes) -> Self {
        Go {
            effort: EFFORTS[usize::from(level.clamp(2, 9)) - 2],
            cutter: Cutter::new(writes),
            bits: Bits::default(),
            tokens: Tokens::with_capacity(BLOCK),
            fixed: (fixed_literals(), fixed_distances()),
            window: boxed(),
            end: 0,
            index: 0,
            block_start: Some(0),
            head: boxed(),
            previous: boxed(),
            offset: 1,
            candidate: 0,
            pending: NO_MATCH,
            has_literal: false,
        }
    }

    /// Takes in what fits of `data`, after a slide if the search has come far enough.
    fn fill(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(WINDOW - self.end);
        self.window[self.end..self.end + n].copy_from_slice(&data[..n]);
        self.end += n;
        n
    }

    fn slide(&mut self) {
        if self.index < WINDOW - (SHORTEST + LONGEST) {
            return;
        }
        self.window.copy_within(REACH..WINDOW, 0);
        self.index -= REACH;
        self.end -= REACH;
        self.block_start = self.block_start.and_then(|start| start.checked_sub(REACH));
        self.offset += REACH as u32;
        if self.offset > 1 << 30 {
            let shift = self.offset - 1;
            self.offset = 1;
            self.candidate = self.candidate.saturating_sub(shift);
            for place in self.head.iter_mut().chain(self.previous.iter_mut()) {
                *place = place.saturating_sub(shift);
            }
        }
    }

    #[inline(always)]
    fn insert(&mut self, index: usize) -> u32 {
        let bytes: [u8; 4] = self.window[index..index + 4].try_into().expect("four bytes");
        let head = &mut self.head[(u32::from_be_bytes(bytes).wrapping_mul(0x1e35_a7bd) >> 15) as usize];
        let before = *head;
        self.previous[index & (REACH - 1)] = before;
        *head = index as u32 + self.offset;
        before
    }

    /// The best match at `index` beginning with the candidate.
    #[inline(always)]
    fn search(&self, lookahead: usize) -> Match {
        let index = self.index;
        let most = lookahead.min(LONGEST);
        let nice = most.min(self.effort.nice);
        let window = &*self.window;
        let previous = &*self.previous;
        let here = &window[index..index + most];
        let farthest = index.saturating_sub(REACH) as i32;
        let offset = self.offset as i32;
        let mut best = NO_MATCH;
        let mut at = self.candidate as i32 - offset;
        // A better match agrees in the byte at the end of the best one, and in those before it.
        let tail = |start: usize, length: usize| four(window, (start & (WINDOW - 1)) + ((length - 3) & 0x1ff));
        let mut wanted = tail(index, best.length);
        for _ in 0..self.effort.chain {
            let place = at as usize & (WINDOW - 1);
            if tail(place, best.length) == wanted {
                let length = common(&window[place..place + most], here);
                if length > best.length && (length > SHORTEST || index - place <= NEAR) {
                    best = Match { length, distance: index - place };
                    if length >= nice {
                        break;
                    }
                    wanted = tail(index, length);
                }
            }
            // What came before that has been overwritten.
            if at == index as i32 - REACH as i32 {
                break;
            }
            at = previous[place & (REACH - 1)] as i32 - offset;
            if at < farthest {
                break;
            }
        }
        best
    }

    /// Works on what is in the window, up to where a match could reach beyond it; `closing`, up to its end.
    fn step(&mut self, closing: bool) {
        if self.effort.lazy == 0 { self.step_as::<false>(closing) } else { self.step_as::<true>(closing) }
    }

    fn step_as<const LAZY: bool>(&mut self, closing: bool) {
        // The last place with four bytes is not entered.
        let insert_end = self.end.saturating_sub(SHORTEST - 1);
        loop {
            let lookahead = self.end - self.index;
            if lookahead < SHORTEST + LONGEST && (!closing || lookahead == 0) {
                break;
            }
            if self.index < insert_end {
                self.candidate = self.insert(self.index);
            }
            let before = std::mem::replace(&mut self.pending, NO_MATCH);
            let farthest = self.index.saturating_sub(REACH) as i64;
            let worthwhile = if LAZY {
                lookahead > before.length && before.length < self.effort.lazy
            } else {
                lookahead >= SHORTEST
            };
            if worthwhile && i64::from(self.candidate) - i64::from(self.offset) >= farthest {
                self.pending = self.search(lookahead);
            }
            let (is_match, found) = if LAZY {
                (before.length >= SHORTEST && self.pending.length <= before.length, before)
            } else {
                (self.pending.length >= SHORTEST, self.pending)
            };
            if is_match {
                self.tokens.copy(found.length as u32, found.distance as u32);
                let next = self.index + found.length - usize::from(LAZY);
                if LAZY || found.length <= self.effort.inserts {
                    for index in self.index + 1..next.min(insert_end) {
                        self.insert(index);
                    }
                }
                self.index = next;
                if LAZY {
                    self.has_literal = false;
                    self.pending = NO_MATCH;
                }
                self.end_block_if_full(self.index);
            } else if LAZY {
                if self.has_literal {
                    self.tokens.literal(self.window[self.index - 1]);
                    self.end_block_if_full(self.index);
                }
                self.index += 1;
                self.has_literal = true;
            } else {
                self.tokens.literal(self.window[self.index]);
                self.end_block_if_full(self.index + 1);
                self.index += 1;
            }
        }
        if closing {
            if std::mem::take(&mut self.has_literal) {
                self.tokens.literal(self.window[self.index - 1]);
            }
            if !self.tokens.list.is_empty() {
                self.end_block(self.index);
            }
        }
    }

    #[inline(always)]
    fn end_block_if_full(&mut self, end: usize) {
        if self.tokens.list.len() == BLOCK {
            self.end_block(end);
        }
    }

    fn end_block(&mut self, end: usize) {
        let stored = self.block_start.filter(|start| *start <= end).map(|start| &self.window[start..end]);
        self.block_start = Some(end);
        put_block(&mut self.tokens, stored, &self.fixed, &mut self.bits);
        self.tokens.clear();
    }
}

/// Writes a block in the shortest way. `stored` is what it stands for, if that is still there.
fn put_block(tokens: &mut Tokens, stored: Option<&[u8]>, fixed: &(Codes<LITERALS>, Codes<DISTANCES>), bits: &mut Bits) {
    tokens.literals[END] += 1;
    let literals = used(&tokens.literals);
    let mut distances = used(&tokens.distances);
    if distances == 0 {
        // A code of one, which a decoder wants.
        tokens.distances[0] = 1;
        distances = 1;
    }
    let stored = stored.filter(|bytes| bytes.len() <= 65535);
    // Both kinds of codes have them: they only matter against stored bytes.
    let extra = if stored.is_some() { tokens.extra_bits() } else { 0 };
    let fixed_size = 3 + fixed.0.bits(&tokens.literals) + fixed.1.bits(&tokens.distances) + extra;
    let literal_codes = Codes::best(&tokens.literals, 15);
    let distance_codes = Codes::best(&tokens.distances, 15);
    let header = Header::new(&literal_codes, literals, &distance_codes, distances);
    let dynamic_size =
        header.bits() + literal_codes.bits(&tokens.literals) + distance_codes.bits(&tokens.distances) + extra;
    if let Some(bytes) = stored.filter(|bytes| (bytes.len() + 5) * 8 < fixed_size.min(dynamic_size)) {
        bits.stored(bytes, false);
        return;
    }
    let (literal_codes, distance_codes) = if dynamic_size < fixed_size {
        header.put(bits, false);
        (&literal_codes, &distance_codes)
    } else {
        bits.put(0b010, 3);
        (&fixed.0, &fixed.1)
    };
    put_tokens(&tokens.list, literal_codes, distance_codes, bits);
    literal_codes.put(END, bits);
}

/// How many symbols there are up to the last one that occurs.
pub(super) fn used(counts: &[u32]) -> usize {
    counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1)
}

impl Family for Go {
    fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (length, begins) = self.cutter.next(data);
            let (mut piece, rest) = data.split_at(length);
            data = rest;
            let mut taken = if begins { 0 } else { self.fill(piece) };
            loop {
                piece = &piece[taken..];
                if piece.is_empty() {
                    break;
                }
                self.step(false);
                self.slide();
                taken = self.fill(piece);
            }
        }
    }

    fn finish(&mut self) {
        self.step(true);
        self.bits.stored(&[], true);
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.bits.out
    }
}
