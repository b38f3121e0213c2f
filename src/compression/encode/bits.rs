//! Bits in the order of DEFLATE: the least significant first, Huffman codes reversed.

/// Collects bits into bytes.
#[derive(Default)]
pub(super) struct Bits {
    held: u64,
    count: u32,
    /// What is whole already.
    pub(super) out: Vec<u8>,
}

impl Bits {
    /// Appends the lowest `count` bits of `value`, which has no others; at most 32.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u32, count: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    /// Begins a run of many bits: not more than `BYTES` − 8 bytes of them.
    #[inline(always)]
    pub(super) fn run<const BYTES: usize>(&mut self) -> Run<'_, BYTES> {
        let mut run = Run { bytes: [0; BYTES], filled: 0, held: self.held, count: self.count, bits: self };
        run.put(0, 0);
        run
    }

    /// Bits after the last whole byte.
    pub(super) fn odd(&self) -> u32 {
        self.count % 8
    }

    /// Fills up the last byte with zeros.
    pub(super) fn align(&mut self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..bytes]);
        (self.held, self.count) = (0, 0);
    }

    /// A stored block, of at most 65535 bytes.
    pub(super) fn stored(&mut self, bytes: &[u8], is_last: bool) {
        let length = u16::try_from(bytes.len()).expect("a stored block has at most 65535 bytes");
        self.put(u32::from(is_last), 3);
        self.align();
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&(!length).to_le_bytes());
        self.out.extend_from_slice(bytes);
    }
}

/// Bits on their way, in a buffer of their own: what is whole is moved there without asking how much it is.
pub(super) struct Run<'a, const BYTES: usize> {
    bytes: [u8; BYTES],
    filled: usize,
    held: u64,
    /// Fewer than 8.
    count: u32,
    bits: &'a mut Bits,
}

impl<const BYTES: usize> Run<'_, BYTES> {
    /// Appends the lowest `count` bits of `value`, which has no others; at most 56.
    #[inline(always)]
    pub(super) fn put(&mut self, value: u64, count: u32) {
        self.held |= value << self.count;
        self.count += count;
        self.bytes[self.filled..self.filled + 8].copy_from_slice(&self.held.to_le_bytes());
        self.filled += (self.count / 8) as usize;
        self.held >>= self.count & !7;
        self.count %= 8;
    }

    /// Ends it.
    #[inline(always)]
    pub(super) fn finish(self) {
        self.bits.out.extend_from_slice(&self.bytes[..self.filled]);
        (self.bits.held, self.bits.count) = (self.held, self.count);
    }
}
