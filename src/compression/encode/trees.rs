//! Huffman codes and blocks as zlib and GNU gzip build them: trees by a heap, lengths cut back where they are too long.

use crate::compression::encode::bits::Bits;
use crate::compression::encode::huffman::{Codes, LENGTHS_ORDER, fixed_distances, fixed_literals, put_tokens};
use crate::compression::encode::tokens::{DISTANCES, END, LITERALS, Tokens, distance_extra};

/// Writes blocks.
pub(super) struct Blocks {
    pub(super) bits: Bits,
    fixed: (Codes<LITERALS>, Codes<DISTANCES>),
}

impl Blocks {
    pub(super) fn new() -> Self {
        Blocks { bits: Bits::default(), fixed: (fixed_literals(), fixed_distances()) }
    }

    /// Writes a block in the shortest way and empties `tokens`. It stands for `length` bytes: `stored`, if they are still
    /// there.
    pub(super) fn put(&mut self, tokens: &mut Tokens, stored: Option<&[u8]>, length: usize, is_last: bool) {
        tokens.literals[END] = 1;
        let extra = tokens.extra_bits();
        let fixed_size = self.fixed.0.bits(&tokens.literals) + self.fixed.1.bits(&tokens.distances) + extra;
        let literals = Tree::new(&tokens.literals, 15);
        let distances = Tree::new(&tokens.distances, 15);
        let rows = [row(&literals.lengths[..literals.used]), row(&distances.lengths[..distances.used])].concat();
        let mut counts = [0; 19];
        for (symbol, _) in &rows {
            counts[usize::from(*symbol)] += 1;
        }
        let lengths = Tree::<19>::new(&counts, 7);
        let written = LENGTHS_ORDER.iter().rposition(|symbol| lengths.lengths[*symbol] > 0).unwrap_or(0).max(3) + 1;
        let header_extra = (2 * counts[16] + 3 * counts[17] + 7 * counts[18]) as usize;
        let header_size = 14 + 3 * written + lengths.codes.bits(&counts) + header_extra;
        let size =
            header_size + literals.codes.bits(&tokens.literals) + distances.codes.bits(&tokens.distances) + extra;
        let fixed_bytes = (fixed_size + 3 + 7) >> 3;
        let bytes = ((size + 3 + 7) >> 3).min(fixed_bytes);
        if let Some(stored) = stored.filter(|_| length + 4 <= bytes) {
            self.bits.stored(stored, is_last);
        } else if fixed_bytes == bytes {
            self.bits.put(0b010 | u32::from(is_last), 3);
            put_tokens(&tokens.list, &self.fixed.0, &self.fixed.1, &mut self.bits);
            self.fixed.0.put(END, &mut self.bits);
        } else {
            self.bits.put(0b100 | u32::from(is_last), 3);
            self.bits.put(literals.used as u32 - 257, 5);
            self.bits.put(distances.used as u32 - 1, 5);
            self.bits.put(written as u32 - 4, 4);
            for symbol in &LENGTHS_ORDER[..written] {
                self.bits.put(u32::from(lengths.lengths[*symbol]), 3);
            }
            for (symbol, extra) in rows {
                lengths.codes.put(usize::from(symbol), &mut self.bits);
                if symbol >= 16 {
                    self.bits.put(u32::from(extra), [2, 3, 7][usize::from(symbol) - 16]);
                }
            }
            put_tokens(&tokens.list, &literals.codes, &distances.codes, &mut self.bits);
            literals.codes.put(END, &mut self.bits);
        }
        if is_last {
            self.bits.align();
        }
        tokens.clear();
    }
}

impl Blocks {
    /// Goes on to the next byte, with as little as there is for it: nothing, empty fixed blocks, or an empty stored one.
    pub(super) fn align(&mut self) {
        let odd = self.bits.odd();
        if odd % 2 == 1 {
            self.bits.stored(&[], false);
            return;
        }
        while self.bits.odd() > 0 {
            self.bits.put(0b010, 10);
        }
        self.bits.align();
    }
}

/// Bits of the extra fields of distances, and an estimate of the rest: what a block would take with eight bits a literal
/// or length and five a distance.
pub(super) fn rough_size(tokens: &Tokens) -> usize {
    let distances = tokens.distances.iter().zip(0..).map(|(count, symbol)| *count * (5 + distance_extra(symbol)));
    (tokens.list.len() * 8 + distances.sum::<u32>() as usize) >> 3
}

/// Matches among the tokens.
pub(super) fn matches(tokens: &Tokens) -> usize {
    tokens.literals[257..].iter().sum::<u32>() as usize
}

/// A code, of which at least two symbols have one.
struct Tree<const N: usize> {
    lengths: [u8; N],
    codes: Codes<N>,
    /// Symbols up to the last that has a code.
    used: usize,
}

impl<const N: usize> Tree<N> {
    fn new(counts: &[u32; N], limit: u8) -> Self {
        let mut heap =
            Heap { order: [0; 2 * LITERALS], length: 0, weight: [0; 2 * LITERALS], depth: [0; 2 * LITERALS] };
        let mut used = 0;
        for (symbol, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            heap.length += 1;
            heap.order[heap.length] = symbol as u16;
            heap.weight[symbol] = *count;
            used = symbol + 1;
        }
        while heap.length < 2 {
            let symbol = if used < 2 { used } else { 0 };
            used = used.max(symbol + 1);
            heap.length += 1;
            heap.order[heap.length] = symbol as u16;
            heap.weight[symbol] = 1;
        }
        for at in (1..=heap.length / 2).rev() {
            heap.sift(at);
        }
        // All nodes, the heaviest last; inner ones are numbered from N on.
        let mut nodes = [0u16; 2 * LITERALS];
        let mut parent = [0u16; 2 * LITERALS];
        let mut count = 0;
        let mut node = N;
        while heap.length >= 2 {
            let first = heap.order[1];
            heap.order[1] = heap.order[heap.length];
            heap.length -= 1;
            heap.sift(1);
            let second = heap.order[1];
            nodes[count] = first;
            nodes[count + 1] = second;
            count += 2;
            let (a, b) = (usize::from(first), usize::from(second));
            heap.weight[node] = heap.weight[a] + heap.weight[b];
            heap.depth[node] = heap.depth[a].max(heap.depth[b]) + 1;
            parent[a] = node as u16;
            parent[b] = node as u16;
            heap.order[1] = node as u16;
            node += 1;
            heap.sift(1);
        }
        let nodes = &nodes[..count];
        let root = node - 1;
        let mut depth = [0u8; 2 * LITERALS];
        let mut of_length = [0usize; 16];
        let mut overflow = 0i32;
        for node in nodes.iter().rev().map(|node| usize::from(*node)) {
            debug_assert!(node != root);
            depth[node] = depth[usize::from(parent[node])] + 1;
            if depth[node] > limit {
                depth[node] = limit;
                overflow += 1;
            }
            if node < N {
                of_length[usize::from(depth[node])] += 1;
            }
        }
        let mut lengths = [0u8; N];
        let leaves = nodes.iter().map(|node| usize::from(*node)).filter(|node| *node < N);
        if overflow == 0 {
            for symbol in leaves {
                lengths[symbol] = depth[symbol];
            }
            return Tree { lengths, codes: Codes::of_lengths(&lengths), used };
        }
        let limit = usize::from(limit);
        while overflow > 0 {
            let shorter = (1..limit).rev().find(|length| of_length[*length] > 0).expect("not all are too long");
            of_length[shorter] -= 1;
            of_length[shorter + 1] += 2;
            of_length[limit] -= 1;
            overflow -= 2;
        }
        let mut leaves = leaves;
        for length in (1..=limit).rev() {
            for symbol in leaves.by_ref().take(of_length[length]) {
                lengths[symbol] = length as u8;
            }
        }
        Tree { lengths, codes: Codes::of_lengths(&lengths), used }
    }
}

/// The lightest first, of the same weight the shallower.
struct Heap {
    /// From 1 on.
    order: [u16; 2 * LITERALS],
    length: usize,
    weight: [u32; 2 * LITERALS],
    depth: [u8; 2 * LITERALS],
}

impl Heap {
    fn precedes(&self, a: u16, b: u16) -> bool {
        let (a, b) = (usize::from(a), usize::from(b));
        (self.weight[a], self.depth[a]) <= (self.weight[b], self.depth[b])
    }

    fn sift(&mut self, mut at: usize) {
        let moved = self.order[at];
        let mut child = 2 * at;
        while child <= self.length {
            if child < self.length && self.precedes(self.order[child + 1], self.order[child]) {
                child += 1;
            }
            if self.precedes(moved, self.order[child]) {
                break;
            }
            self.order[at] = self.order[child];
            at = child;
            child *= 2;
        }
        self.order[at] = moved;
    }
}

/// The run-length coded lengths of one code: symbols with their extra values.
fn row(lengths: &[u8]) -> Vec<(u8, u8)> {
    let mut row = Vec::with_capacity(lengths.len());
    let mut before = None;
    let mut count = 0;
    // A run is over at its longest, which depends on what came before it.
    let (mut most, mut least) = if lengths[0] == 0 { (138, 3) } else { (7, 4) };
    for (at, length) in lengths.iter().enumerate() {
        let next = lengths.get(at + 1);
        count += 1;
        if count < most && next == Some(length) {
            continue;
        }
        if count < least {
            row.extend(std::iter::repeat_n((*length, 0), count));
        } else if *length > 0 {
            if before != Some(*length) {
                row.push((*length, 0));
                count -= 1;
            }
            row.push((16, count as u8 - 3));
        } else if count <= 10 {
            row.push((17, count as u8 - 3));
        } else {
            row.push((18, count as u8 - 11));
        }
        count = 0;
        before = Some(*length);
        (most, least) = match next {
            Some(0) => (138, 3),
            next if next == Some(length) => (6, 3),
            _ => (7, 4),
        };
    }
    row
}
