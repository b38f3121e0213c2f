//! What a match finder says: literals and matches, counted by their Huffman symbols while they come.

/// Symbols of literals and lengths that may be used (RFC 1951, 3.2.5), and those of distances.
pub(super) const LITERALS: usize = 286;
pub(super) const DISTANCES: usize = 30;

/// The symbol that ends a block.
pub(super) const END: usize = 256;

/// Extra bits by length symbol − 257, and the shortest length of each, less 3.
pub(super) const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
pub(super) const LENGTH_BASE: [u8; 29] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 255];

/// Length symbol − 257 by length − 3. 258 has a symbol of its own.
pub(super) const LENGTH_SYMBOL: [u8; 256] = {
    let mut symbols = [0; 256];
    let mut symbol = 0;
    while symbol < 29 {
        let mut length = LENGTH_BASE[symbol] as usize;
        while length < 256 {
            symbols[length] = symbol as u8;
            length += 1;
        }
        symbol += 1;
    }
    symbols
};

/// The symbol of a distance − 1 below 32768.
#[inline(always)]
pub(super) fn distance_symbol(less_one: u32) -> u32 {
    if less_one < 4 {
        return less_one;
    }
    let top = 31 - less_one.leading_zeros();
    2 * top + (less_one >> (top - 1) & 1)
}

/// Extra bits of a distance symbol.
#[inline(always)]
pub(super) fn distance_extra(symbol: u32) -> u32 {
    (symbol >> 1).saturating_sub(1)
}

/// A literal (distance 0, the byte in the upper half) or a match (distance 1 to 32768, length − 3 in the upper half).
#[derive(Clone, Copy)]
pub(super) struct Token(u32);

impl Token {
    #[inline(always)]
    pub(super) fn is_literal(self) -> bool {
        self.0 & 0xffff == 0
    }

    /// The byte of a literal, or length − 3.
    #[inline(always)]
    pub(super) fn value(self) -> u8 {
        (self.0 >> 16) as u8
    }

    #[inline(always)]
    pub(super) fn distance(self) -> u32 {
        self.0 & 0xffff
    }
}

/// The tokens of a block.
pub(super) struct Tokens {
    pub(super) list: Vec<Token>,
    pub(super) literals: [u32; LITERALS],
    pub(super) distances: [u32; DISTANCES],
}

impl Tokens {
    pub(super) fn with_capacity(tokens: usize) -> Self {
        Tokens { list: Vec::with_capacity(tokens), literals: [0; LITERALS], distances: [0; DISTANCES] }
    }

    #[inline(always)]
    pub(super) fn literal(&mut self, byte: u8) {
        self.list.push(Token(u32::from(byte) << 16));
        self.literals[usize::from(byte)] += 1;
    }

    /// `length` from 3 to 258, `distance` from 1 to 32768.
    #[inline(always)]
    pub(super) fn copy(&mut self, length: u32, distance: u32) {
        debug_assert!((3..=258).contains(&length) && (1..=32768).contains(&distance));
        let value = length.wrapping_sub(3) & 0xff;
        self.list.push(Token(value << 16 | distance));
        self.literals[257 + usize::from(LENGTH_SYMBOL[value as usize])] += 1;
        self.distances[distance_symbol(distance.wrapping_sub(1) & 0x7fff) as usize] += 1;
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.literals = [0; LITERALS];
        self.distances = [0; DISTANCES];
    }

    /// The bits after the symbols of all lengths and distances.
    pub(super) fn extra_bits(&self) -> usize {
        let lengths = self.literals[257..].iter().zip(LENGTH_EXTRA).map(|(count, bits)| *count * u32::from(bits));
        let distances = self.distances.iter().zip(0..).map(|(count, symbol)| *count * distance_extra(symbol));
        lengths.chain(distances).sum::<u32>() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_those_of_the_tables_in_the_standard() {
        let lengths = [3, 10, 11, 12, 13, 18, 19, 35, 67, 130, 131, 162, 163, 226, 227, 257, 258];
        let symbols = lengths.map(|length: usize| LENGTH_SYMBOL[length - 3]);
        assert_eq!(symbols, [0, 7, 8, 8, 9, 11, 12, 16, 20, 23, 24, 24, 25, 26, 27, 27, 28]);
        let distances = [1, 4, 5, 6, 7, 8, 9, 256, 257, 4096, 4097, 8193, 16384, 16385, 24576, 24577, 32768];
        let symbols = distances.map(|distance: u32| distance_symbol(distance - 1));
        assert_eq!(symbols, [0, 3, 4, 4, 5, 5, 6, 15, 16, 23, 24, 26, 27, 28, 28, 29, 29]);
        assert_eq!((distance_extra(0), distance_extra(3), distance_extra(4), distance_extra(29)), (0, 0, 1, 13));
    }
}
