//! zlib at levels 1 to 9, and GNU gzip, which it came from: hash chains over a window of 64 KiB.

use crate::compression::encode::chains::{AHEAD, Chains, Match, REACH, ROOM, SHORTEST, WINDOW, Wanted};
use crate::compression::encode::links::HALF;
use crate::compression::encode::tokens::Tokens;
use crate::compression::encode::trees::{Blocks, matches, rough_size};
use crate::compression::encode::{Family, boxed};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// zlib with so much memory: 8 is the default, 9 the most.
    Zlib { mem_level: u8 },
    /// GNU gzip.
    Gnu,
}

/// What a level may spend.
#[derive(Clone, Copy)]
struct Effort {
    /// A pending match of this length is good: only a quarter of the chain is searched for a better one.
    good: usize,
    /// From this length on no better one is looked for. Where the first match is always taken: matches up to this length
    /// enter all their places into the table.
    lazy: usize,
    /// A match this long ends the search.
    nice: usize,
    /// Candidates looked at.
    chain: usize,
    /// Whether the first match is always taken.
    is_greedy: bool,
}

const fn effort(good: usize, lazy: usize, nice: usize, chain: usize, is_greedy: bool) -> Effort {
    Effort { good, lazy, nice, chain, is_greedy }
}

const EFFORTS: [Effort; 9] = [
    effort(4, 4, 8, 4, true),
    effort(4, 5, 16, 8, true),
    effort(4, 6, 32, 32, true),
    effort(4, 4, 16, 16, false),
    effort(8, 16, 32, 32, false),
    effort(8, 16, 128, 128, false),
    effort(8, 32, 128, 256, false),
    effort(32, 128, 258, 1024, false),
    effort(32, 258, 258, 4096, false),
];

/// A match of three bytes has to be nearer than this.
const TOO_FAR: usize = 4096;

/// An encoder of both kinds.
pub(super) struct Zlib {
    flavour: Flavour,
    level: u8,
    effort: Effort,
    /// Tokens of a block.
    block: usize,
    blocks: Blocks,
    tokens: Tokens,
    window: Box<[u8; ROOM]>,
    end: usize,
    index: usize,
    /// Where the block began; below 0 that has left the window.
    block_start: isize,
    chains: Chains,
    /// The match at the place before, which a better one may replace.
    pending: Match,
    /// Whether the byte before is neither written nor part of a match yet.
    has_literal: bool,
    /// Whether it was seen that nothing follows.
    knows_end: bool,
}

impl Zlib {
    pub(super) fn new(flavour: Flavour, level: u8) -> Self {
        let level = level.clamp(1, 9);
        let (block, hash_bits) = match flavour {
            Flavour::Zlib { mem_level } => ((1 << (mem_level + 6)) - 1, u32::from(mem_level) + 7),
            Flavour::Gnu => ((1 << 15) - 1, 15),
        };
        let effort = EFFORTS[usize::from(level) - 1];
        Zlib {
            flavour,
            level,
            effort,
            block,
            blocks: Blocks::new(),
            tokens: Tokens::with_capacity(block),
            window: boxed(),
            end: 0,
            index: 0,
            block_start: 0,
            chains: Chains::new(hash_bits, effort.chain),
            pending: (SHORTEST - 1, 0),
            has_literal: false,
            knows_end: false,
        }
    }

    /// The stream of `data` after `history`, of at most 32 KiB, which is known but not part of it. Unless it is the last
    /// piece it ends with a byte, but not the stream.
    pub(super) fn piece(mut self, history: &[u8], data: &[u8], is_last: bool) -> Vec<u8> {
        self.window[..history.len()].copy_from_slice(history);
        // The last places of the history are entered with what comes after them: the chains look at up to eight bytes.
        let after = data.len().min(8);
        self.window[history.len()..history.len() + after].copy_from_slice(&data[..after]);
        let ahead = after.min(2);
        for index in 0..(history.len() + ahead).saturating_sub(2) {
            self.insert(index);
        }
        (self.index, self.end, self.block_start) = (history.len(), history.len(), history.len() as isize);
        self.write(data);
        if is_last {
            self.finish();
        } else {
            self.step(true);
            self.put_pending_literal();
            if !self.tokens.list.is_empty() {
                self.end_block(false);
            }
            self.blocks.align();
        }
        self.blocks.bits.out
    }

    fn put_pending_literal(&mut self) {
        if std::mem::take(&mut self.has_literal) {
            self.tokens.literal(self.window[self.index - 1]);
        }
    }

    fn slide(&mut self) {
        if self.index < HALF + REACH {
            return;
        }
        self.window.copy_within(HALF..WINDOW, 0);
        self.index -= HALF;
        self.end -= HALF;
        self.pending.1 = self.pending.1.wrapping_sub(HALF);
        self.block_start -= HALF as isize;
        self.chains.slide();
    }

    #[inline(always)]
    fn insert(&mut self, index: usize) -> usize {
        self.chains.insert(&self.window, index)
    }

    /// The best match longer than `longer_than` from the candidate on; its length is cut at the end.
    #[inline(always)]
    fn search(&self, candidate: usize, longer_than: usize) -> Match {
        let lookahead = self.end - self.index;
        let chain = if longer_than >= self.effort.good { self.effort.chain >> 2 } else { self.effort.chain };
        let nice = match self.flavour {
            Flavour::Zlib { .. } => self.effort.nice.min(lookahead),
            Flavour::Gnu => self.effort.nice,
        };
        let (index, than, is_all_there) = (self.index, (longer_than, self.pending.1), lookahead >= AHEAD);
        let (length, place) =
            self.chains.search(&self.window, Wanted { index, candidate, than, chain, nice, is_all_there });
        (length.min(lookahead), place)
    }

    /// Works on what is in the window, up to where a match could reach beyond it; `closing`, up to its end.
    fn step(&mut self, closing: bool) {
        if self.effort.is_greedy { self.step_greedy(closing) } else { self.step_lazy(closing) }
    }

    /// Whether to go on. Near the end, where there is nothing to fill the window with, it slides all the same.
    #[inline(always)]
    fn has_enough(&mut self, closing: bool) -> bool {
        let lookahead = self.end - self.index;
        if lookahead >= AHEAD {
            return true;
        }
        if closing && !(self.flavour == Flavour::Gnu && std::mem::replace(&mut self.knows_end, true)) {
            self.slide();
            if self.flavour == Flavour::Gnu {
                // What hashes of the last bytes take in.
                self.window[self.end..self.end + 2].fill(0);
            }
        }
        closing && lookahead > 0
    }

    /// Enters a place and says where the one before with the same hash is, if that may be a match.
    #[inline(always)]
    fn candidate(&mut self) -> Option<usize> {
        if self.end - self.index < SHORTEST {
            return None;
        }
        let candidate = self.insert(self.index);
        // GNU gzip does not slide when it knows the end, and looks for nothing where it would read over it.
        let is_late = self.flavour == Flavour::Gnu && self.index > WINDOW - AHEAD;
        (candidate != 0 && self.index - candidate <= REACH && !is_late).then_some(candidate)
    }

    fn step_greedy(&mut self, closing: bool) {
        while self.has_enough(closing) {
            let found = self.candidate().map(|candidate| self.search(candidate, SHORTEST - 1));
            let Some((length, place)) = found.filter(|(length, _)| *length >= SHORTEST) else {
                self.tokens.literal(self.window[self.index]);
                let is_full = self.is_block_full();
                self.index += 1;
                self.end_block_if(is_full);
                continue;
            };
            self.tokens.copy(length as u32, (self.index - place) as u32);
            let is_full = self.is_block_full();
            let next = self.index + length;
            if length <= self.effort.lazy && self.end - next >= SHORTEST {
                for index in self.index + 1..next {
                    self.insert(index);
                }
            }
            self.index = next;
            self.end_block_if(is_full);
        }
    }

    fn step_lazy(&mut self, closing: bool) {
        while self.has_enough(closing) {
            let candidate = self.candidate();
            let before = std::mem::replace(&mut self.pending.0, SHORTEST - 1);
            let before_place = self.pending.1;
            if let Some(candidate) = candidate.filter(|_| before < self.effort.lazy) {
                self.pending = self.search(candidate, before);
                if self.pending.0 == SHORTEST && self.index.wrapping_sub(self.pending.1) > TOO_FAR {
                    self.pending.0 = SHORTEST - 1;
                }
            }
            if before >= SHORTEST && self.pending.0 <= before {
                self.tokens.copy(before as u32, (self.index - 1).wrapping_sub(before_place) as u32);
                let is_full = self.is_block_full();
                let next = self.index + before - 1;
                let last = self.end - SHORTEST;
                for index in self.index + 1..next.min(last + 1) {
                    self.insert(index);
                }
                self.index = next;
                self.has_literal = false;
                self.pending.0 = SHORTEST - 1;
                self.end_block_if(is_full);
            } else {
                if self.has_literal {
                    self.tokens.literal(self.window[self.index - 1]);
                    let is_full = self.is_block_full();
                    self.end_block_if(is_full);
                }
                self.has_literal = true;
                self.index += 1;
            }
        }
    }

    /// Whether the token that was just added ends the block.
    #[inline(always)]
    fn is_block_full(&self) -> bool {
        let count = self.tokens.list.len();
        count == self.block
            || self.flavour == Flavour::Gnu && count & 0xfff == 0 && self.level > 2 && self.is_good_end()
    }

    /// Whether what follows is perhaps different enough for codes of its own.
    fn is_good_end(&self) -> bool {
        let length = (self.index as isize - self.block_start) as usize;
        matches(&self.tokens) < self.tokens.list.len() / 2 && rough_size(&self.tokens) < length / 2
    }

    #[inline(always)]
    fn end_block_if(&mut self, is_full: bool) {
        if is_full {
            self.end_block(false);
        }
    }

    fn end_block(&mut self, is_last: bool) {
        let length = (self.index as isize - self.block_start) as usize;
        let stored = usize::try_from(self.block_start).ok().map(|start| &self.window[start..self.index]);
        self.blocks.put(&mut self.tokens, stored, length, is_last);
        self.block_start = self.index as isize;
    }
}

impl Family for Zlib {
    fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let (piece, rest) = data.split_at(data.len().min(WINDOW - self.end));
            self.window[self.end..self.end + piece.len()].copy_from_slice(piece);
            self.end += piece.len();
            data = rest;
            // Only a full window is worked on, so that how the bytes arrive does not show.
            if self.end == WINDOW && !data.is_empty() {
                self.step(false);
                self.slide();
            }
        }
    }

    fn finish(&mut self) {
        self.step(true);
        self.put_pending_literal();
        self.end_block(true);
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.blocks.bits.out
    }
}
