//! A share of the work: every N-th item, so that N workers that share nothing do all of it once.

use std::str::FromStr;

/// Shard I of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one, from 0 to `of - 1`.
    which: usize,
    /// Of how many.
    of: usize,
}

/// Why a text is not a shard.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// It has another form, or I is not among N.
    #[error("`{0}` is not a valid shard: expected I/N, such as 1/4")]
    Malformed(String),
    /// `/N`, and nothing says which.
    #[error("`{0}` does not say which shard")]
    Which(String),
}

impl Shard {
    /// Reads `I/N`, or `/N` with the I of `index`: the completion index of a Kubernetes job.
    ///
    /// People count 1 to N, Kubernetes counts 0 to N-1: either way each shard is there once.
    pub fn parse(text: &str, index: Option<&str>) -> Result<Self, Error> {
        let malformed = || Error::Malformed(text.to_owned());
        let (which, of) = text.split_once('/').unwrap_or(("", text));
        let which = if which.is_empty() { index.ok_or_else(|| Error::Which(text.to_owned()))? } else { which };
        let which: usize = which.parse().map_err(|_| malformed())?;
        let of: usize = of.parse().map_err(|_| malformed())?;
        if of == 0 || which > of {
            return Err(malformed());
        }
        Ok(Shard { which: which % of, of })
    }

    /// Leaves what belongs to this shard.
    pub fn keep<T>(self, items: &mut Vec<T>) {
        let mut at = 0;
        items.retain(|_| {
            at += 1;
            at % self.of == self.which
        });
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Shard::parse(text, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_everything_once_whether_they_are_counted_from_0_or_1() {
        for first in [0, 1] {
            let mut all = Vec::new();
            for n in first..first + 4 {
                let mut items: Vec<u32> = (0..10).collect();
                Shard::parse(&format!("{n}/4"), None).unwrap().keep(&mut items);
                all.extend(items);
            }
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<_>>());
        }
        assert_eq!(Shard::parse("/4", Some("3")), Ok(Shard { which: 3, of: 4 }));
        assert_eq!(Shard::parse("4", Some("0")), Ok(Shard { which: 0, of: 4 }));
        for (text, why) in [
            ("5/4", "`5/4` is not a valid shard: expected I/N, such as 1/4"),
            ("x/4", "`x/4` is not a valid shard: expected I/N, such as 1/4"),
            ("1/0", "`1/0` is not a valid shard: expected I/N, such as 1/4"),
            ("/4", "`/4` does not say which shard"),
        ] {
            assert_eq!(text.parse::<Shard>().unwrap_err().to_string(), why);
        }
    }
}
