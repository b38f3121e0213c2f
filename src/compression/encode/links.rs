//! What comes before a place in its hash chain.
//!
//! A walk along a chain waits for each step from memory. So each place has the four places before it together, and every fourth step
//! alone is waited for. An entry is copied from the place before, which may have given its own up to a later one when it is out of
//! reach: what follows a place out of reach may be anything, and walks end there.

use crate::compression::encode::boxed;

/// Places in reach; those that are so far apart share an entry.
pub(super) const HALF: usize = 1 << 15;

/// For each place those before it in its chain, the nearest in the lowest bits, 0 if there is none.
pub(super) struct Links(Box<[u64; HALF]>);

impl Default for Links {
    fn default() -> Self {
        Links(boxed())
    }
}

impl Links {
    /// Enters a place, before which that place is in its chain.
    #[inline(always)]
    pub(super) fn insert(&mut self, index: usize, before: usize) {
        self.0[index & (HALF - 1)] = self.0[before & (HALF - 1)] << 16 | before as u64 & 0xffff;
    }

    /// The place before in the chain.
    #[inline(always)]
    pub(super) fn before(&self, place: usize) -> usize {
        (self.0[place & (HALF - 1)] & 0xffff) as usize
    }

    /// Begins to go along a chain.
    #[inline(always)]
    pub(super) fn steps(&self) -> Steps<'_> {
        Steps { links: self, held: 0, left: 0 }
    }

    /// The window slides by half.
    pub(super) fn slide(&mut self) {
        for places in self.0.iter_mut() {
            let stays = *places >> 15 & 0x0001_0001_0001_0001;
            *places &= stays * 0x7fff;
        }
    }
}

/// Steps along a chain.
pub(super) struct Steps<'a> {
    links: &'a Links,
    /// The places that come next, as they lie together.
    held: u64,
    left: u32,
}

impl Steps<'_> {
    /// The place before that to which the last step led, at first before any.
    #[inline(always)]
    pub(super) fn before(&mut self, place: usize) -> usize {
        if self.left == 0 {
            (self.held, self.left) = (self.links.0[place & (HALF - 1)], 4);
        }
        let before = (self.held & 0xffff) as usize;
        self.held >>= 16;
        self.left -= 1;
        before
    }
}
