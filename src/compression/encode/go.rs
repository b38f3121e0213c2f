//! Go's compress/flate up to 1.26 at levels 2 to 9: hash chains over a window of 64 KiB.
//!
//! What is found depends on when the window slides, and it slides with a write: so where writes begin shows in the
//! output, and [`Cutter`] says where they do.

use crate::compression::encode::bits::Bits;
use crate::compression::encode::chains::{Hunt, LONG, LONGEST, Sixes, WINDOW, Wanted, Window, forget};
use crate::compression::encode::huffman::{Codes, Header, fixed_distances, fixed_literals, put_tokens};
use crate::compression::encode::links::{HALF as REACH, Links};
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

const HASHES: usize = 1 << 17;
/// The shortest match.
const SHORTEST: usize = 4;
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
    window: Box<Window>,
    /// What of it is filled, where the search is, and where the block began, if that is still in the window.
    end: usize,
    index: usize,
    block_start: Option<usize>,
    /// The last place with each hash, and what came before each place with the same hash; as positions plus 1, 0 if there is none in
    /// the window.
    head: Box<[u16; HASHES]>,
    links: Links,
    /// Where long chains are searched.
    sixes: Option<Box<Sixes>>,
    /// What was at the head when the last place was entered.
    candidate: u16,
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
        let effort = EFFORTS[usize::from(level.clamp(2, 9)) - 2];
        Go {
            effort,
            cutter: Cutter::new(writes),
            bits: Bits::default(),
            tokens: Tokens::with_capacity(BLOCK),
            fixed: (fixed_literals(), fixed_distances()),
            window: boxed(),
            end: 0,
            index: 0,
            block_start: Some(0),
            head: boxed(),
            links: Links::default(),
            sixes: (effort.chain >= LONG).then(Box::default),
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
        self.candidate = self.candidate.saturating_sub(REACH as u16);
        forget(&mut *self.head);
        self.links.slide();
        if let Some(sixes) = &mut self.sixes {
            sixes.slide();
        }
    }

    #[inline(always)]
    fn insert(&mut self, index: usize) -> u16 {
        let bytes: [u8; 4] = self.window[index..index + 4].try_into().expect("four bytes");
        let head = &mut self.head[(u32::from_be_bytes(bytes).wrapping_mul(0x1e35_a7bd) >> 15) as usize];
        let before = *head;
        self.links.insert(index + 1, before.into());
        if let Some(sixes) = &mut self.sixes {
            sixes.insert(&self.window, index, usize::from(before).wrapping_sub(1));
        }
        *head = index as u16 + 1;
        before
    }

    /// The best match at `index` beginning with the candidate.
    #[inline(always)]
    fn search(&self, lookahead: usize) -> Match {
        match &self.sixes {
            // Where the window begins is out of reach, and all bytes of every place are there.
            Some(sixes) if self.index > REACH && lookahead >= LONGEST + 8 => {
                self.search_quick(sixes).unwrap_or_else(|| self.walk(lookahead, 5))
            }
            _ => self.walk(lookahead, LONGEST),
        }
    }

    /// The best match, if it has more than five bytes.
    #[inline(always)]
    fn search_quick(&self, sixes: &Sixes) -> Option<Match> {
        let (index, candidate) = (self.index, usize::from(self.candidate) - 1);
        let Effort { chain, nice, .. } = self.effort;
        // The farthest place has given up its entries to this one.
        let farthest = index - REACH;
        let mut hunt = Hunt::new(&self.window, index, farthest, (5, 0));
        let wanted = Wanted { index, candidate, than: hunt.best, chain, nice, is_all_there: true };
        hunt.take(sixes.search(hunt.clone(), wanted, index - 1));
        if hunt.best.0 < nice
            && let Some(length) = hunt.longer(farthest)
            && self.steps_to_farthest() < chain
        {
            hunt.take((length, farthest));
        }
        let (length, place) = hunt.best;
        (length > 5).then(|| Match { length, distance: index - place })
    }

    /// How many steps it is from the candidate to the farthest place that is in reach, if that has the same hash.
    fn steps_to_farthest(&self) -> usize {
        let farthest = self.index - REACH;
        let (mut at, mut links, mut steps) = (usize::from(self.candidate), self.links.steps(), 0);
        while at > farthest + 1 {
            (at, steps) = (links.before(at), steps + 1);
        }
        steps
    }

    /// Looks at one candidate after the other, until a match is long enough.
    #[inline(always)]
    fn walk(&self, lookahead: usize, enough: usize) -> Match {
        let index = self.index;
        let most = lookahead.min(LONGEST);
        let nice = most.min(self.effort.nice).min(enough);
        let window = &*self.window;
        let here = &window[index..index + most];
        let farthest = index.saturating_sub(REACH);
        let mut best = NO_MATCH;
        let mut at = usize::from(self.candidate);
        let mut steps = self.links.steps();
        // A better match agrees in the byte at the end of the best one, and in those before it.
        let tail = |start: usize, length: usize| four(window, (start & (WINDOW - 1)) + ((length - 3) & 0x1ff));
        let mut wanted = tail(index, best.length);
        for _ in 0..self.effort.chain {
            let place = at - 1;
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
            // The farthest place has given up its entry.
            if index - place == REACH {
                break;
            }
            at = steps.before(at);
            if at <= farthest {
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
            let farthest = self.index.saturating_sub(REACH);
            let worthwhile = if LAZY {
                lookahead > before.length && before.length < self.effort.lazy
            } else {
                lookahead >= SHORTEST
            };
            if worthwhile && usize::from(self.candidate) > farthest {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that repeat after so many, but for faults; the same sixes come up in between.
    fn repeating(period: usize, letters: u32) -> Vec<u8> {
        let mut state = 1_u32;
        let mut random = move |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < 5 * REACH {
            let from = bytes.len().checked_sub(period);
            match from.filter(|_| random(50) > 0) {
                Some(from) => bytes.push(bytes[from]),
                None => bytes.push(b'a' + random(letters) as u8),
            }
        }
        bytes
    }

    #[test]
    fn the_quick_search_makes_what_a_walk_makes() {
        for (period, letters) in
            [(7, 2), (500, 4), (REACH - 1, 3), (REACH, 2), (REACH, 3), (REACH + 1, 3), (REACH, 26), (6 * REACH, 3)]
        {
            let plain = repeating(period, letters);
            for level in 7..=9 {
                let made = |is_quick: bool| {
                    let mut go = Go::new(level, Writes::Copy);
                    assert!(go.sixes.is_some());
                    if !is_quick {
                        go.sixes = None;
                    }
                    go.write(&plain);
                    go.finish();
                    std::mem::take(go.out())
                };
                assert!(made(true) == made(false), "period {period}, {letters} letters, level {level}");
            }
        }
    }
}
