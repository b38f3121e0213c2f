//! pgzip and pigz: pieces of the same size, each compressed by itself with the end of the one before as its history, so on
//! all cores.

use rayon::prelude::*;

use crate::compression::encode::Family;
use crate::compression::encode::klauspost::{BASE, CHUNK, PgzipVariant, Tables};
use crate::compression::encode::reuse::{Blocks, More};
use crate::compression::encode::tokens::Tokens;
use crate::compression::encode::zlib::{Flavour, Zlib};

/// The stream of github.com/klauspost/pgzip, or of pigz.
pub(super) struct Pieces {
    kind: Kind,
    /// Bytes of a piece.
    size: usize,
    /// What a piece sees of the one before.
    history: usize,
    /// What is not compressed yet, from `start` on; before it is the end of the piece before.
    held: Vec<u8>,
    start: usize,
    /// How much is held before work begins.
    batch: usize,
    out: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Kind {
    Pgzip(PgzipVariant),
    Pigz { level: u8 },
}

impl Pieces {
    pub(super) fn pgzip(variant: PgzipVariant, block: usize) -> Self {
        Pieces::new(Kind::Pgzip(variant), block, 16 << 10)
    }

    pub(super) fn pigz(level: u8) -> Self {
        Pieces::new(Kind::Pigz { level }, 128 << 10, 32 << 10)
    }

    fn new(kind: Kind, size: usize, history: usize) -> Self {
        let pieces = (BATCH / size).max(2 * rayon::current_num_threads()).min(MOST_HELD / size);
        Pieces { kind, size, history, held: Vec::new(), start: 0, batch: pieces * size, out: Vec::new() }
    }

    /// Compresses the pieces that are held whole, and at the end what is left.
    fn compress(&mut self, is_last: bool) {
        let held = self.held.len() - self.start;
        let end = self.start
            + match self.kind {
                _ if is_last => held,
                Kind::Pgzip(_) => held - held % self.size,
                // Its last piece is made in another way, and may be a whole one.
                Kind::Pigz { .. } => held.saturating_sub(1) / self.size * self.size,
            };
        let starts = (self.start..end).step_by(self.size);
        // pigz writes its last piece although it is empty.
        let starts: Vec<usize> = if is_last && held == 0 { vec![self.start] } else { starts.collect() };
        let made: Vec<Vec<u8>> = starts
            .par_iter()
            .with_max_len(1)
            .map(|start| {
                let to = (start + self.size).min(end);
                let (history, piece) = (&self.held[start.saturating_sub(self.history)..*start], *start..to);
                match self.kind {
                    Kind::Pgzip(variant) => {
                        let from = start - history.len();
                        pgzip_block(&self.held[from..to], history.len(), variant)
                    }
                    Kind::Pigz { level } => Zlib::new(Flavour::Zlib { mem_level: 8 }, level).piece(
                        history,
                        &self.held[piece],
                        is_last && to == end,
                    ),
                }
            })
            .collect();
        made.iter().for_each(|piece| self.out.extend_from_slice(piece));
        if is_last && matches!(self.kind, Kind::Pgzip(_)) {
            let mut blocks = Blocks::new(true);
            // Its last block is never a whole one: there may be nothing in it.
            if held > 0 && held.is_multiple_of(self.size) {
                blocks.stored(&[]);
            }
            blocks.finish();
            self.out.extend_from_slice(&blocks.bits.out);
        }
        let kept = end.min(self.history);
        self.held.drain(..end - kept);
        self.start = kept;
    }
}

impl Family for Pieces {
    fn write(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            // One byte more, so that it is known that a piece is not the last one.
            let room = self.start + self.batch + 1 - self.held.len();
            let (piece, rest) = data.split_at(room.min(data.len()));
            self.held.extend_from_slice(piece);
            data = rest;
            if piece.len() == room {
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

/// A block of pgzip: `source[start..]`, and an empty stored block after it.
fn pgzip_block(source: &[u8], start: usize, variant: PgzipVariant) -> Vec<u8> {
    let mut tables = Tables::new();
    let mut tokens = Tokens::with_capacity(CHUNK);
    // What comes before is only there to fill the tables.
    tables.find(&source[..start], 0, BASE, variant, &mut tokens);
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
                tables.find(&source[..end], at, BASE, variant, &mut tokens);
                blocks.chunk(&mut tokens, chunk, if end == source.len() { More::Flush } else { More::May });
            }
        }
        at = end;
    }
    blocks.stored(&[]);
    blocks.bits.out
}
