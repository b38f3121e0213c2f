//! Which encoder made a gzip file: guessed by what its header says, tried on the start, proven on the whole.

use std::io::{self, Read, Seek, Write};
use std::time::{Duration, Instant};

use flate2::Decompress;

use crate::compression::encode::member::{Inflated, Input};
use crate::compression::encode::recipe::{GzipRecipe, HEADER, MEMBERS, Member, TAIL, VERBATIM, trailer};
use crate::compression::encode::{Class, PgzipBlock, Writes};

/// What a search may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Plain bytes of all members, at most.
    pub plain: u64,
    /// What an encoder has to reach in plain bytes a second, after the first ten seconds.
    pub slowest: u64,
}

impl Default for Budget {
    /// No limit to the bytes, and a tenth of what the slowest encoders reach.
    fn default() -> Self {
        Budget { plain: u64::MAX, slowest: 500_000 }
    }
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This recipe gave exactly the same bytes.
    Found(GzipRecipe),
    /// There is none.
    Not(Reason),
}

/// Why there is no recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Reason {
    /// It does not begin with a gzip header, or the stream is damaged or cut.
    #[error("it is no whole gzip file")]
    NotGzip,
    /// No class makes these bytes.
    #[error("no known encoder makes these bytes")]
    NoClass,
    /// The encoder that seems right is slower than the budget allows.
    #[error("its encoder takes too long to run again")]
    TooSlow,
    /// More members than a recipe holds, or headers that are too long together.
    #[error("it has too many members")]
    TooManyMembers,
    /// More plain bytes than the budget allows.
    #[error("it decompresses to more than the limit")]
    TooLarge,
    /// What follows the last member is longer than a recipe holds.
    #[error("too much follows its last member")]
    LongTail,
}

/// Finds the recipe of a gzip file. It is proven: [`Outcome::Found`] means that a full run of the encoders gave the very
/// bytes. Read from its start; where it is left is not known. Holds some megabytes, whatever the size.
pub fn find<R: Read + Seek>(compressed: R, budget: &Budget) -> io::Result<Outcome> {
    Ok(find_watched(compressed, budget, &mut |_| ())?.0)
}

/// Like [`find`], and gives `watch` the plain bytes on the way. Whether it was given exactly those, from the first to the last,
/// is the second answer: where an encoder seemed right and was not, it was given some of them twice.
pub fn find_watched<R: Read + Seek>(
    mut compressed: R,
    budget: &Budget,
    watch: &mut dyn FnMut(&[u8]),
) -> io::Result<(Outcome, bool)> {
    compressed.rewind()?;
    let (input, left) = (Input::new(compressed), budget.plain);
    let mut search = Search { input, left, slowest: budget.slowest, watch, given: 0 };
    let outcome = search.members()?;
    let is_all = matches!(&outcome, Outcome::Found(recipe) if recipe.plain_size() == search.given);
    Ok((outcome, is_all))
}

/// Finds the recipe of a small gzip file, and gives the plain bytes with it.
pub fn find_in_memory(compressed: &[u8], budget: &Budget) -> Result<(GzipRecipe, Vec<u8>), Reason> {
    let mut plain = Vec::new();
    let found = find_watched(io::Cursor::new(compressed), budget, &mut |piece| plain.extend_from_slice(piece));
    let recipe = match found.expect("memory is read without errors") {
        (Outcome::Found(recipe), true) => return Ok((recipe, plain)),
        (Outcome::Found(recipe), false) => recipe,
        (Outcome::Not(reason), _) => return Err(reason),
    };
    plain.clear();
    let mut members = compressed;
    for member in &recipe.members {
        members = &members[member.header.len()..];
        let mut stream = flate2::bufread::DeflateDecoder::new(members);
        stream.read_to_end(&mut plain).expect("it has been inflated before");
        members = &stream.into_inner()[8..];
    }
    Ok((recipe, plain))
}

struct Search<'a, R> {
    input: Input<R>,
    /// Plain bytes that may still come.
    left: u64,
    slowest: u64,
    watch: &'a mut dyn FnMut(&[u8]),
    /// Plain bytes that were given to it.
    given: u64,
}

/// What a run of an encoder over a stream came to.
enum Run {
    Same { plain: u64, crc: flate2::Crc },
    Differs,
    TooSlow,
    TooLarge,
}

impl<R: Read + Seek> Search<'_, R> {
    fn members(&mut self) -> io::Result<Outcome> {
        let mut recipe = GzipRecipe::default();
        let mut verbatim = 0;
        loop {
            let start = self.input.position();
            let before = recipe.members.last().map(|member| member.class);
            match self.member(before)? {
                Ok(member) => {
                    verbatim += member.header.len();
                    recipe.members.push(member);
                    if recipe.members.len() > MEMBERS || verbatim > VERBATIM {
                        return Ok(Outcome::Not(Reason::TooManyMembers));
                    }
                }
                // The end of the file, or something after the last member.
                Err(Reason::NotGzip) if !recipe.members.is_empty() => {
                    self.input.seek(start)?;
                    self.input.read(TAIL + 1, &mut recipe.tail)?;
                    let fits = recipe.tail.len() <= TAIL;
                    return Ok(if fits { Outcome::Found(recipe) } else { Outcome::Not(Reason::LongTail) });
                }
                Err(reason) => return Ok(Outcome::Not(reason)),
            }
        }
    }

    fn give(&mut self, plain: &[u8]) {
        self.given = self.given.saturating_add(plain.len() as u64);
        (self.watch)(plain);
    }

    /// The member that begins here. `likely` is tried first.
    fn member(&mut self, likely: Option<Class>) -> io::Result<Result<Member, Reason>> {
        let Some(header) = self.input.header()?.filter(|header| header.len() <= HEADER) else {
            return Ok(Err(Reason::NotGzip));
        };
        let body = self.input.position();
        let mut probe = Probe { plain: vec![0; PROBE], eaten: Vec::new(), is_whole: false };
        let mut stream = Decompress::new(false);
        let mut made = 0;
        while made < PROBE && !probe.is_whole {
            match self.input.inflate(&mut stream, &mut probe.plain[made..], &mut probe.eaten)? {
                Inflated::Some(n) => made += n,
                Inflated::Last(n) => (made, probe.is_whole) = (made + n, true),
                Inflated::Broken => return Ok(Err(Reason::NotGzip)),
            }
        }
        probe.plain.truncate(made);
        if made as u64 > self.left {
            return Ok(Err(Reason::TooLarge));
        }
        if !probe.is_whole && !is_pgzip(&header) {
            probe.plain.truncate(SHORT_PROBE);
        }
        for class in candidates(&header, likely, probe.is_whole).into_iter().filter(|class| probe.agrees(*class)) {
            let run = if probe.is_whole {
                let mut crc = flate2::Crc::new();
                crc.update(&probe.plain);
                self.give(&probe.plain);
                Run::Same { plain: made as u64, crc }
            } else {
                self.input.seek(body)?;
                self.run(class)?
            };
            let (plain, crc) = match run {
                Run::Same { plain, crc } => (plain, crc),
                Run::Differs => continue,
                Run::TooSlow => return Ok(Err(Reason::TooSlow)),
                Run::TooLarge => return Ok(Err(Reason::TooLarge)),
            };
            self.left -= plain;
            let mut end = Vec::new();
            if self.input.read(8, &mut end)? < 8 {
                return Ok(Err(Reason::NotGzip));
            }
            let own = (end != trailer(&crc, plain)).then(|| end.try_into().expect("eight bytes"));
            return Ok(Ok(Member { header, class, plain, trailer: own }));
        }
        Ok(Err(Reason::NoClass))
    }

    /// Runs an encoder over the stream that begins here and compares all that it makes. After [`Run::Same`] the stream
    /// has been read to its end.
    fn run(&mut self, class: Class) -> io::Result<Run> {
        let started = Instant::now();
        let mut stream = Decompress::new(false);
        let mut encoder = class.encoder(Comparison::default());
        let mut crc = flate2::Crc::new();
        let mut piece = vec![0; PIECE];
        let mut plain = 0;
        loop {
            let inflated = self.input.inflate(&mut stream, &mut piece, &mut encoder.inner.expected)?;
            let (made, is_last) = match inflated {
                Inflated::Some(n) => (n, false),
                Inflated::Last(n) => (n, true),
                Inflated::Broken => return Ok(Run::Differs),
            };
            plain += made as u64;
            if plain > self.left {
                return Ok(Run::TooLarge);
            }
            crc.update(&piece[..made]);
            self.give(&piece[..made]);
            if encoder.write_all(&piece[..made]).is_err() || encoder.inner.expected.len() > MOST_BEHIND {
                return Ok(Run::Differs);
            }
            if is_last {
                let is_same = encoder.finish().is_ok_and(Comparison::ends_same);
                return Ok(if is_same { Run::Same { plain, crc } } else { Run::Differs });
            }
            let time = started.elapsed().saturating_sub(Duration::from_secs(10)).as_secs_f64();
            if (plain as f64) < time * self.slowest as f64 {
                return Ok(Run::TooSlow);
            }
        }
    }
}

/// The start of a stream.
struct Probe {
    plain: Vec<u8>,
    eaten: Vec<u8>,
    /// Whether it is all of it.
    is_whole: bool,
}

impl Probe {
    fn agrees(&self, class: Class) -> bool {
        let mut encoder = class.encoder(Start { expected: &self.eaten, is_whole: self.is_whole });
        // Piece by piece, because most are wrong from the start.
        let is_same = self.plain.chunks(PIECE).all(|piece| encoder.write_all(piece).is_ok());
        if !is_same || !self.is_whole {
            return is_same && encoder.flush().is_ok();
        }
        encoder.finish().is_ok_and(|rest| rest.expected.is_empty())
    }
}

/// Fails when what is written differs from what is expected; beyond that, unless it is whole, anything goes.
struct Start<'a> {
    expected: &'a [u8],
    is_whole: bool,
}

impl Write for Start<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let length = buf.len().min(self.expected.len());
        let (expected, rest) = self.expected.split_at(length);
        if expected != &buf[..length] || self.is_whole && length < buf.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.expected = rest;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two streams that come piece by piece, each sometimes ahead of the other.
#[derive(Default)]
struct Comparison {
    expected: Vec<u8>,
    made: Vec<u8>,
}

impl Comparison {
    fn compare(&mut self) -> io::Result<()> {
        let length = self.expected.len().min(self.made.len());
        if self.expected[..length] != self.made[..length] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.expected.drain(..length);
        self.made.drain(..length);
        Ok(())
    }

    fn ends_same(mut self) -> bool {
        self.compare().is_ok() && self.expected.is_empty() && self.made.is_empty()
    }
}

impl Write for Comparison {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.made.extend_from_slice(buf);
        self.compare()?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The classes to try, the likeliest first: by operating system, extra flags and time in the header. Those that would
/// have written another header are left out for small files, of which there are many.
fn candidates(header: &[u8], likely: Option<Class>, is_small: bool) -> Vec<Class> {
    let is_pgzip = is_pgzip(header);
    let level = match header[8] {
        2 => 9,
        4 => 1,
        _ => 6,
    };
    // 255 is written by Go, Java and Python, 3 by programs in C, 0 by Java before 16.
    let (is_unknown, is_unix) = (header[9] == 255, header[9] == 3);
    // 0 is what this header says, 1 what writes such headers with other settings, 2 what does not.
    let rank = |writes_such: bool, is_level: bool| match (writes_such, is_level) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    };
    let unlikeliness = move |class: Class| match class {
        Class::Pgzip { block, .. } => rank(is_pgzip, block == PgzipBlock::Mebibyte),
        Class::Go { level: of_class, writes } => {
            rank(is_unknown && !is_pgzip, of_class == level && writes == Writes::Copy)
        }
        Class::Go127 { level: of_class } => rank(is_unknown && !is_pgzip, of_class == level),
        Class::Ours { level: of_class } => rank(is_unknown && !is_pgzip, of_class == level),
        Class::Gnu { level: of_class } | Class::Pigz { level: of_class } => rank(is_unix, of_class == level),
        Class::Zlib { level: of_class, mem_level } => rank(!is_pgzip, of_class == level && mem_level == 8),
    };
    let mut classes: Vec<_> = Class::all()
        .filter(|class| Some(*class) != likely)
        .map(|class| (unlikeliness(class), class))
        .filter(|(unlikeliness, _)| !is_small || *unlikeliness < 2)
        .collect();
    // What packagers compress change logs and manual pages with comes first of those that are as likely.
    classes.sort_by_key(|(unlikeliness, class)| (*unlikeliness, !matches!(class, Class::Gnu { .. })));
    likely.into_iter().chain(classes.into_iter().map(|(_, class)| class)).collect()
}

/// Whether a header has the time that pgzip writes.
fn is_pgzip(header: &[u8]) -> bool {
    header[4..8] == [0x00, 0x09, 0x6e, 0x88]
}

/// Plain bytes that are tried first; a block of pgzip and some.
const PROBE: usize = (1 << 20) + (64 << 10);
/// Where the header is not pgzip's: two of pigz' pieces and some, and the first blocks of all others.
const SHORT_PROBE: usize = 320 << 10;
/// What is inflated at a time.
const PIECE: usize = 64 << 10;
/// An encoder that is so far behind is not the one: the longest wait is for pgzip, 32 MiB of plain bytes.
const MOST_BEHIND: usize = 64 << 20;
