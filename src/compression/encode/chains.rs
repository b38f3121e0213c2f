//! The hash chains of zlib and GNU gzip, and the longest match in them.
//!
//! A chain holds the places with the same hash of three bytes, the last one first. Of the first so many, the longest match is taken, of
//! equally long ones that which comes first. [`Chains::search`] finds the same one as a walk through the whole chain does, without
//! the walk: what is longer than three bytes is also in the chain of its first four, and what is longer than five in those of all its
//! sixes, which are short; its ordinal in the chain of three says whether the walk would have come so far. Go's chains, of four bytes,
//! have the help of [`Sixes`], too.

use crate::compression::encode::boxed;
use crate::compression::encode::links::{HALF, Links};
use crate::compression::encode::matches::{common, eight, four};

pub(super) const WINDOW: usize = 2 * HALF;
/// The window, and some room after it for what is read over its end.
pub(super) const ROOM: usize = WINDOW + 1024;
pub(super) type Window = [u8; ROOM];
pub(super) const SHORTEST: usize = 3;
pub(super) const LONGEST: usize = 258;
/// What has to be ahead, unless the end is near.
pub(super) const AHEAD: usize = LONGEST + SHORTEST + 1;
/// The longest distance.
pub(super) const REACH: usize = HALF - AHEAD;

/// A match: its length and place. Below [`SHORTEST`] there is none.
pub(super) type Match = (usize, usize);

/// The chains of a window. Places are below [`WINDOW`]; 0 is none.
pub(super) struct Chains {
    shift: u32,
    mask: usize,
    /// The last place with each hash.
    head: Box<[u16; 1 << 16]>,
    /// What came before each place with the same hash.
    links: Links,
    /// Where long chains are searched.
    quick: Option<Box<Quick>>,
}

/// What a search looks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Where the match is to be used. It is entered.
    pub(super) index: usize,
    /// The place before it with the same hash, less than [`REACH`] away.
    pub(super) candidate: usize,
    /// What is to be beaten, and what is the answer if it is not.
    pub(super) than: Match,
    /// Candidates looked at.
    pub(super) chain: usize,
    /// A match this long ends the search.
    pub(super) nice: usize,
    /// Whether all bytes of every place are there: [`AHEAD`] of them follow.
    pub(super) is_all_there: bool,
}

impl Chains {
    /// Chains with so many bits of hash, of which so many candidates are looked at.
    pub(super) fn new(hash_bits: u32, chain: usize) -> Self {
        Chains {
            shift: hash_bits.div_ceil(3),
            mask: (1 << hash_bits) - 1,
            head: boxed(),
            links: Links::default(),
            quick: (chain >= LONG).then(Box::default),
        }
    }

    /// Enters a place and says which one was before it, 0 if none.
    #[inline(always)]
    pub(super) fn insert(&mut self, window: &Window, index: usize) -> usize {
        let bytes = four(window, index) as usize;
        let (a, b, c) = (bytes & 255, bytes >> 8 & 255, bytes >> 16 & 255);
        let hash = ((a << (2 * self.shift)) ^ (b << self.shift) ^ c) & self.mask & 0xffff;
        let before = usize::from(self.head[hash]);
        self.links.insert(index, before);
        self.head[hash] = index as u16;
        if let Some(quick) = &mut self.quick {
            quick.insert(window, index, before);
        }
        before
    }

    /// The window slides by half.
    pub(super) fn slide(&mut self) {
        forget(&mut self.head[..=self.mask]);
        self.links.slide();
        if let Some(quick) = &mut self.quick {
            quick.fours.slide();
            quick.sixes.slide();
        }
    }

    /// The best match. What is beyond the end of the data counts for its length.
    #[inline(always)]
    pub(super) fn search(&self, window: &Window, wanted: Wanted) -> Match {
        let index = wanted.index & (WINDOW - 1);
        let hunt = Hunt::new(window, index, index.saturating_sub(REACH), wanted.than);
        match &self.quick {
            // The first candidate may be the farthest place in reach, later ones may not: then the walk is one step.
            Some(quick) if wanted.is_all_there && wanted.candidate > hunt.limit => {
                let best = quick.search(hunt.clone(), wanted);
                // Without a match of four bytes, the first one of three is the longest.
                if best.0 < SHORTEST { self.walk(hunt, wanted, SHORTEST) } else { best }
            }
            _ => self.walk(hunt, wanted, LONGEST),
        }
    }

    /// Looks at one candidate after the other, until a match is long enough.
    #[inline(always)]
    fn walk(&self, mut hunt: Hunt<'_>, wanted: Wanted, enough: usize) -> Match {
        let mut at = wanted.candidate;
        let mut steps = self.links.steps();
        for _ in 0..wanted.chain {
            if let Some(length) = hunt.longer(at) {
                hunt.take((length, at & 0xffff));
                if length >= wanted.nice.min(enough) {
                    break;
                }
            }
            at = steps.before(at);
            if at <= hunt.limit {
                break;
            }
        }
        hunt.best
    }
}

pub(super) fn forget(places: &mut [u16]) {
    for place in places {
        *place = place.saturating_sub(HALF as u16);
    }
}

/// A search under way.
#[derive(Clone)]
pub(super) struct Hunt<'a> {
    window: &'a Window,
    here: &'a [u8],
    index: usize,
    /// Up to here places are out of reach.
    limit: usize,
    pub(super) best: Match,
    /// The bytes around the end of the best match, of which the last is behind it: what is longer agrees in them.
    tail: u32,
}

impl<'a> Hunt<'a> {
    /// Looks for what is longer than `best`, farther on than `limit`.
    #[inline(always)]
    pub(super) fn new(window: &'a Window, index: usize, limit: usize, best: Match) -> Self {
        let here = &window[index..index + LONGEST];
        Hunt { window, here, index, limit, best, tail: tail(window, index, best.0) }
    }

    /// How long the match at a place is, if it is longer than the best one.
    #[inline(always)]
    pub(super) fn longer(&self, place: usize) -> Option<usize> {
        if tail(self.window, place, self.best.0) != self.tail {
            return None;
        }
        let place = place & 0xffff;
        let length = common(&self.window[place..place + LONGEST], self.here);
        (length > self.best.0).then_some(length)
    }

    #[inline(always)]
    pub(super) fn take(&mut self, best: Match) {
        self.best = best;
        self.tail = tail(self.window, self.index, best.0);
    }
}

#[inline(always)]
fn tail(window: &Window, start: usize, length: usize) -> u32 {
    let word = four(window, (start & 0xffff) + (length.saturating_sub(3) & 0x1ff));
    if length < 3 { word & 0xff_ffff } else { word }
}

/// What makes long chains short.
#[derive(Default)]
struct Quick {
    fours: Grams<4>,
    sixes: Sixes,
}

impl Quick {
    #[inline(always)]
    fn insert(&mut self, window: &Window, index: usize, before: usize) {
        self.fours.insert(window, index);
        self.sixes.insert(window, index, before);
    }

    /// The best match, if it has more than three bytes.
    #[inline(always)]
    fn search(&self, mut hunt: Hunt<'_>, wanted: Wanted) -> Match {
        let mut from = wanted.candidate;
        if hunt.best.0 < SIX - 1 {
            let than = hunt.best;
            hunt.take((than.0.max(3), than.1));
            match self.five(&mut hunt, wanted) {
                Some(five) => from = five - 1,
                None => return if hunt.best.0 == 3 { than } else { hunt.best },
            }
        }
        self.sixes.search(hunt, wanted, from)
    }

    /// Goes on to the first match of five bytes or more, and returns its place if more may come of it.
    #[inline(always)]
    fn five(&self, hunt: &mut Hunt<'_>, wanted: Wanted) -> Option<usize> {
        let mut steps = self.fours.links.steps();
        let mut at = steps.before(hunt.index);
        while at > hunt.limit {
            if let Some(length) = hunt.longer(at) {
                if self.sixes.steps(wanted.candidate, at) >= wanted.chain {
                    break;
                }
                hunt.take((length, at));
                if length >= SIX - 1 {
                    return (length < wanted.nice).then_some(at);
                }
            }
            at = steps.before(at);
        }
        None
    }
}

/// Chains of six bytes, and how far each place is in the chain that they stand for.
#[derive(Default)]
pub(super) struct Sixes {
    grams: Grams<6>,
    ordinals: Ordinals,
}

impl Sixes {
    /// Enters a place, before which that place was in the chain that is searched.
    #[inline(always)]
    pub(super) fn insert(&mut self, window: &Window, index: usize, before: usize) {
        self.grams.insert(window, index);
        self.ordinals.insert(index, before);
    }

    /// Steps from a place to one in the same chain.
    #[inline(always)]
    pub(super) fn steps(&self, from: usize, to: usize) -> usize {
        self.ordinals.steps(from, to)
    }

    /// The window slides by half.
    pub(super) fn slide(&mut self) {
        self.grams.slide();
    }

    /// Goes on with the places up to `from`, where five bytes or more are the best so far.
    #[inline(always)]
    pub(super) fn search(&self, mut hunt: Hunt<'_>, wanted: Wanted, mut from: usize) -> Match {
        loop {
            let (mut at, offset) = self.rarest(&hunt, from);
            let mut steps = self.grams.links.steps();
            while at > from + offset {
                at = steps.before(at);
            }
            let better = loop {
                if at <= hunt.limit + offset {
                    return hunt.best;
                }
                let place = at - offset;
                if let Some(length) = hunt.longer(place) {
                    break (length, place);
                }
                at = steps.before(at);
            };
            if self.steps(wanted.candidate, better.1) >= wanted.chain {
                return hunt.best;
            }
            hunt.take(better);
            if better.0 >= wanted.nice {
                return better;
            }
            from = better.1 - 1;
        }
    }

    /// What is longer than the best match has all of its sixes, and one that takes in the byte behind it: the chain of that which was
    /// last seen the farthest away, and how far from the start it is. Sixes that begin at or after a place where the match
    /// may be are not all entered yet.
    #[inline(always)]
    fn rarest(&self, hunt: &Hunt<'_>, from: usize) -> (usize, usize) {
        let mut rarest = (self.grams.before(hunt.index), 0);
        let last = (hunt.best.0 - (SIX - 1)).min(hunt.index - from);
        for offset in 1..=last {
            let last_seen = self.grams.last(hunt.window, hunt.index + offset);
            if last_seen + rarest.1 < rarest.0 + offset {
                rarest = (last_seen, offset);
            }
        }
        rarest
    }
}

/// Chains of places with the same so many bytes, at most eight.
struct Grams<const LENGTH: usize> {
    head: Box<[u16; 1 << 15]>,
    links: Links,
}

impl<const LENGTH: usize> Default for Grams<LENGTH> {
    fn default() -> Self {
        Grams { head: boxed(), links: Links::default() }
    }
}

impl<const LENGTH: usize> Grams<LENGTH> {
    #[inline(always)]
    fn hash(window: &Window, index: usize) -> usize {
        let bytes = eight(window, index) << (64 - 8 * LENGTH);
        (bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 49) as usize
    }

    #[inline(always)]
    fn insert(&mut self, window: &Window, index: usize) {
        let hash = Self::hash(window, index);
        self.links.insert(index, usize::from(self.head[hash]));
        self.head[hash] = index as u16;
    }

    /// The last place with the same bytes as are here.
    #[inline(always)]
    fn last(&self, window: &Window, index: usize) -> usize {
        usize::from(self.head[Self::hash(window, index)])
    }

    /// The place before in the chain of one that is entered.
    #[inline(always)]
    fn before(&self, place: usize) -> usize {
        self.links.before(place)
    }

    fn slide(&mut self) {
        forget(&mut *self.head);
        self.links.slide();
    }
}

/// How many places come before each in its chain of three. Numbers wrap, and count from anywhere: differences are what counts, and only
/// between places within reach of each other, of which there are fewer than [`HALF`].
struct Ordinals(Box<[u16; HALF]>);

impl Default for Ordinals {
    fn default() -> Self {
        Ordinals(boxed())
    }
}

impl Ordinals {
    #[inline(always)]
    fn insert(&mut self, index: usize, before: usize) {
        self.0[index & (HALF - 1)] = self.0[before & (HALF - 1)].wrapping_add(1);
    }

    /// Steps from a place to one in the same chain.
    #[inline(always)]
    fn steps(&self, from: usize, to: usize) -> usize {
        usize::from(self.0[from & (HALF - 1)].wrapping_sub(self.0[to & (HALF - 1)]))
    }
}

const SIX: usize = 6;
/// From so many candidates on, more chains are worth their upkeep.
pub(super) const LONG: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::encode::boxed;

    /// Windows in which the same six bytes, the same hash and longer and longer matches come up again and again.
    fn windows() -> Vec<(&'static str, Box<Window>)> {
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut kinds: Vec<(&'static str, Box<Window>)> = Vec::new();
        let mut kind = |name, byte: &mut dyn FnMut(usize, &[u8]) -> u8| {
            let mut window: Box<Window> = boxed();
            for at in 0..WINDOW {
                window[at] = byte(at, &window[..at]);
            }
            kinds.push((name, window));
        };
        kind("zeros", &mut |_, _| 0);
        kind("a period of seven", &mut |at, _| b"abcabcd"[at % 7]);
        kind("two letters", &mut |_, _| b'a' + random(2) as u8);
        kind("any bytes", &mut |_, _| random(256) as u8);
        let words: Vec<Vec<u8>> = (0..300).map(|word| format!("{:x} ", word * word).into_bytes()).collect();
        let mut word = (0, 0);
        kind("words", &mut |_, _| {
            if word.1 == words[word.0].len() {
                word = (random(words.len()), 0);
            }
            word.1 += 1;
            words[word.0][word.1 - 1]
        });
        let block: Vec<u8> = (0..REACH).map(|_| random(256) as u8).collect();
        kind("the same again as far away as may be", &mut |at, _| block[at % REACH]);
        let mut from = 0;
        kind("copies of what was, with faults", &mut |at, before| {
            if at < 64 || random(40) == 0 {
                from = random(at.max(1));
                return random(4) as u8;
            }
            from = (from + 1).min(at - 1);
            before[from]
        });
        kinds
    }

    #[test]
    fn the_quick_search_finds_what_a_walk_finds() {
        for (name, window) in windows() {
            for (hash_bits, chain) in [(15, 4096), (16, 256)] {
                let mut quick = Chains::new(hash_bits, chain);
                assert!(quick.quick.is_some());
                let mut plain = Chains::new(hash_bits, 0);
                let mut found = 0;
                for index in 0..REACH + (8 << 10) {
                    let candidate = plain.insert(&window, index);
                    assert_eq!(quick.insert(&window, index), candidate);
                    // Some are enough; the numbers below share no factor with this one.
                    if candidate == 0 || index - candidate > REACH || index % 13 > 0 {
                        continue;
                    }
                    let than = ([2, 3, 4, 5, 6, 9, 40, 200][index % 8], 7);
                    let chain = if index % 3 == 0 { chain >> 2 } else { chain };
                    let nice = if index % 5 == 0 { 130 } else { LONGEST };
                    let wanted = Wanted { index, candidate, than, chain, nice, is_all_there: true };
                    let best = plain.search(&window, wanted);
                    assert_eq!(quick.search(&window, wanted), best, "{name}, {wanted:?}");
                    found += usize::from(best != than);
                    // Before the end of the data the walk is the only way.
                    let wanted = Wanted { is_all_there: false, ..wanted };
                    assert_eq!(quick.search(&window, wanted), best, "{name}, {wanted:?}");
                }
                assert!(found > 0, "{name}");
            }
        }
    }
}
