//! pgzip: blocks of the same size, each compressed by itself with the end of the one before as its history, so on all
//! cores.

use rayon::prelude::*;

use crate::compression::encode::Family;
use crate::compression::encode::klauspost::{BASE, CHUNK, PgzipVariant, Tables};
use crate::compression::encode::reuse::{Blocks, More};
use crate::compression::encode::tokens::Tokens;

/// What a block sees of the one before, if that is longer.
const TAIL: usize = 16 << 10;

/// The stream of github.com/klauspost/pgzip.
pub(super) struct Pgzip {
    variant: PgzipVariant,
    block: usize,
    /// What is not compressed yet, from `start` on; before it is the tail of the block before.
    held: Vec<u8>,
    start: usize,
    /// How much is held before work begins.
    batch: usize,
    out: Vec<u8>,
}

impl Pgzip {
    pub(super) fn new(variant: PgzipVariant, block: usize) -> Self {
        let blocks = (BATCH / block).max(2 * rayon::current_num_threads()).min(MOST_HELD / block).max(1);
        Pgzip { variant, block, held: Vec::new(), start: 0, batch: blocks * block, out: Vec::new() }
    }

    /// Compresses the full blocks that are held, and as the last one what is left.
    fn compress(&mut self, is_last: bool) {
        let (variant, start) = (self.variant, self.start);
        let left = if is_last { 0 } else { (self.held.len() - start) % self.block };
        let held = &self.held[..self.held.len() - left];
        let ends: Vec<_> =
            (start..held.len()).step_by(self.block).map(|at| (at, (at + self.block).min(held.len()))).collect();
        let blocks: Vec<Vec<u8>> = ends
            .par_iter()
            .with_max_len(1)
            .map_init(Worker::new, |worker, (from, to)| {
                worker.compress(&held[from.saturating_sub(TAIL)..*to], (*from).min(TAIL), variant)
            })
            .collect();
        for block in blocks {
            self.out.extend_from_slice(&block);
        }
        let tail = if self.block > TAIL { TAIL } else { 0 };
        let kept = held.len().min(tail);
        if is_last {
            let mut end = Blocks::new(true);
            // The last block is never a full one: there may be nothing in it.
            if (held.len() - start).is_multiple_of(self.block) {
                end.stored(&[]);
            }
            end.finish();
            self.out.extend_from_slice(&end.bits.out);
        }
        self.held.drain(..self.held.len() - left - kept);
        self.start = kept;
    }
}

impl Family for Pgzip {
    fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let room = self.start + self.batch - self.held.len();
            let (piece, rest) = data.split_at(room.min(data.len()));
            self.held.extend_from_slice(piece);
            data = rest;
            if self.held.len() == self.start + self.batch {
                self.compress(false);
            }
        }
    }

    fn hand_on(&mut self) {
        self.compress(false);
    }

    fn finish(&mut self) {
        self.compress(true);
    }

    fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }
}

/// What is held at most at a time, if no core has to idle for it.
const BATCH: usize = 8 << 20;
const MOST_HELD: usize = 32 << 20;

struct Worker {
    tables: Tables,
    tokens: Tokens,
    used: bool,
}

impl Worker {
    fn new() -> Self {
        Worker { tables: Tables::new(), tokens: Tokens::with_capacity(CHUNK), used: false }
    }

    /// Compresses `source[start..]`.
    fn compress(&mut self, source: &[u8], start: usize, variant: PgzipVariant) -> Vec<u8> {
        if std::mem::replace(&mut self.used, true) {
            self.tables.clear();
        }
        let Worker { tables, tokens, .. } = self;
        // What comes before is only there to fill the tables.
        tables.find(&source[..start], 0, BASE, variant, tokens);
        tokens.clear();
        let mut blocks = Blocks::new(variant != PgzipVariant::B);
        blocks.bits.out.reserve((source.len() - start) / 2);
        let mut at = start;
        while at < source.len() {
            let end = (at + CHUNK).min(source.len());
            let chunk = &source[at..end];
            match chunk.len() {
                0..=32 => blocks.stored(chunk),
                33..128 => blocks.literals_only(chunk, More::Flush),
                _ => {
                    tables.find(&source[..end], at, BASE, variant, tokens);
                    blocks.chunk(tokens, chunk, if end == source.len() { More::Flush } else { More::May });
                }
            }
            at = end;
        }
        blocks.stored(&[]);
        std::mem::take(&mut blocks.bits.out)
    }
}
