//! Constraints on a cluster's version, by the rules of Masterminds/semver, which Helm and certsuite use.
//!
//! They differ from Cargo's and npm's in what matters here: a comma and a space both mean AND, `||` means OR, a missing
//! or `x` part makes an equality a range, `>=1.20` leaves out pre-releases unless some constraint of the same AND group
//! names one, and a leading `v` is fine everywhere. No crate has these rules; the order of versions is `semver`'s.
//!
//! Source: <https://github.com/Masterminds/semver>, README ("Checking Version Constraints") and constraints.go.

use std::cmp::Ordering;
use std::str::FromStr;
use std::sync::LazyLock;

use regex_lite::Regex;
use semver::{Prerelease, Version};

/// A parsed constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// Any of these must hold.
    any: Vec<Group>,
}

/// The text is no constraint, or no version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a version{}", if *.constraint { " constraint" } else { "" })]
pub struct ParseError {
    text: String,
    constraint: bool,
}

/// All of these must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    comparisons: Vec<Comparison>,
    takes_prereleases: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Comparison {
    operator: Operator,
    version: Version,
    given: Given,
}

/// How much of the version was written; the rest counts as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Nothing,
    Major,
    Minor,
    Patch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    Tilde,
    Caret,
}

impl Constraint {
    /// Whether a version satisfies it. Build metadata is ignored.
    pub fn allows(&self, version: &Version) -> bool {
        self.any.iter().any(|group| {
            (version.pre.is_empty() || group.takes_prereleases)
                && group.comparisons.iter().all(|comparison| comparison.holds(version))
        })
    }
}

/// Parses a version leniently: `v1.25.4+18eadca`, `1.28` and `v2` are versions. Build metadata is dropped, so that it
/// takes no part in comparisons.
pub fn version(text: &str) -> Result<Version, ParseError> {
    let error = || ParseError { text: text.to_owned(), constraint: false };
    let (version, given, rest) = partial(text).ok_or_else(error)?;
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    if !rest.is_empty() || given == Given::Nothing || numbers.contains(['x', 'X', '*']) {
        return Err(error());
    }
    Ok(version)
}

impl FromStr for Constraint {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || ParseError { text: text.to_owned(), constraint: true };
        let any = text.split("||").map(|group| parse_group(group).ok_or_else(error)).collect::<Result<_, _>>()?;
        Ok(Constraint { any })
    }
}

impl Comparison {
    fn holds(&self, version: &Version) -> bool {
        let order = version.cmp_precedence(&self.version);
        let (major, minor) = (version.major.cmp(&self.version.major), version.minor.cmp(&self.version.minor));
        match self.operator {
            // An equality with a part missing is a range: `1.2` is `~1.2`.
            Operator::Equal if self.given == Given::Patch => order == Ordering::Equal,
            Operator::Equal | Operator::Tilde => self.tilde(version, order),
            Operator::NotEqual => match self.given {
                Given::Nothing | Given::Patch => order != Ordering::Equal,
                Given::Major => major != Ordering::Equal,
                Given::Minor => (major, minor) != (Ordering::Equal, Ordering::Equal) || version.pre != self.version.pre,
            },
            Operator::Greater => match self.given {
                // `>11` wants 12, and `>11.1` wants 11.2.
                Given::Major => major == Ordering::Greater,
                Given::Minor => major.then(minor) == Ordering::Greater,
                Given::Nothing | Given::Patch => order == Ordering::Greater,
            },
            Operator::Less => order == Ordering::Less,
            Operator::GreaterOrEqual => order != Ordering::Less,
            Operator::LessOrEqual => match self.given {
                Given::Patch => order != Ordering::Greater,
                Given::Major => major != Ordering::Greater,
                Given::Nothing | Given::Minor => major.then(minor) != Ordering::Greater,
            },
            Operator::Caret => self.caret(version, order),
        }
    }

    fn tilde(&self, version: &Version, order: Ordering) -> bool {
        let all_zero = (self.version.major, self.version.minor, self.version.patch) == (0, 0, 0);
        if order == Ordering::Less {
            return false;
        }
        // `*` and `~0.0.0` take everything.
        if all_zero && matches!(self.given, Given::Nothing | Given::Patch) {
            return true;
        }
        version.major == self.version.major && (version.minor == self.version.minor || self.given == Given::Major)
    }

    fn caret(&self, version: &Version, order: Ordering) -> bool {
        if order == Ordering::Less {
            return false;
        }
        let same_major = version.major == self.version.major;
        let same_minor = same_major && version.minor == self.version.minor;
        match self.given {
            Given::Major => same_major,
            _ if self.version.major > 0 => same_major,
            Given::Minor => same_minor,
            _ if self.version.minor > 0 => same_minor,
            Given::Nothing | Given::Patch => same_minor && version.patch == self.version.patch,
        }
    }
}

/// Parses comparisons that are separated by commas or spaces, `A - B` among them.
///
/// Which texts are constraints is told by Masterminds' own expressions: what they refuse, certsuite cannot read.
fn parse_group(text: &str) -> Option<Group> {
    let grammar = grammar();
    let text = grammar.range.replace_all(text, ">= $1, <= $2 ");
    if !grammar.whole.is_match(&text) {
        return None;
    }
    let mut comparisons: Vec<Comparison> = Vec::new();
    for found in grammar.one.find_iter(&text) {
        let (operator, after) = parse_operator(found.as_str());
        let (version, given, rest) = partial(after.trim_start_matches(BLANKS))?;
        if !rest.is_empty() {
            return None;
        }
        comparisons.push(Comparison { operator: operator.unwrap_or(Operator::Equal), version, given });
    }
    let takes_prereleases = comparisons.iter().any(|comparison| !comparison.version.pre.is_empty());
    Some(Group { comparisons, takes_prereleases })
}

/// The expressions of constraints.go. Blanks are Go's: no vertical tab, and none outside ASCII.
struct Grammar {
    /// `A - B`.
    range: Regex,
    /// One or more comparisons with a comma or blanks between.
    whole: Regex,
    /// A comparison.
    one: Regex,
}

fn grammar() -> &'static Grammar {
    static GRAMMAR: LazyLock<Grammar> = LazyLock::new(|| {
        let blank = r"[\t\n\f\r ]";
        let operators = r"=||!=|>|<|>=|=>|<=|=<|~|~>|\^";
        let version = r"v?[0-9|xX*]+(?:\.[0-9|xX*]+)?(?:\.[0-9|xX*]+)?(?:-[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*)?(?:\+[0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*)?";
        let one = format!("(?:{operators}){blank}*(?:{version})");
        let regex = |text: String| Regex::new(&text).expect("it is well-formed");
        Grammar {
            range: regex(format!("{blank}*({version}){blank}+-{blank}+({version}){blank}*")),
            whole: regex(format!("^{blank}*{one}{blank}*(?:(?:{blank}+|,{blank}*){one}{blank}*)*$")),
            one: regex(one),
        }
    });
    &GRAMMAR
}

fn parse_operator(text: &str) -> (Option<Operator>, &str) {
    // Two characters before one, so that `>=` is not `>` and a stray `=`.
    for (symbol, operator) in [
        ("!=", Operator::NotEqual),
        (">=", Operator::GreaterOrEqual),
        ("=>", Operator::GreaterOrEqual),
        ("<=", Operator::LessOrEqual),
        ("=<", Operator::LessOrEqual),
        ("~>", Operator::Tilde),
        ("=", Operator::Equal),
        (">", Operator::Greater),
        ("<", Operator::Less),
        ("~", Operator::Tilde),
        ("^", Operator::Caret),
    ] {
        if let Some(rest) = text.strip_prefix(symbol) {
            return (Some(operator), rest);
        }
    }
    (None, text)
}

/// Parses the version at the start of `text`: up to three numbers or wildcards, a pre-release, build metadata. Returns
/// what follows it.
fn partial(text: &str) -> Option<(Version, Given, &str)> {
    let mut rest = text.strip_prefix('v').unwrap_or(text);
    let mut numbers = [None; 3];
    for (index, number) in numbers.iter_mut().enumerate() {
        let tail = match (index, rest.strip_prefix('.')) {
            (0, _) => rest,
            (_, Some(tail)) => tail,
            (_, None) => break,
        };
        let end = tail.find(|c: char| !c.is_ascii_digit() && !matches!(c, 'x' | 'X' | '*')).unwrap_or(tail.len());
        let (part, after) = tail.split_at(end);
        *number = match part {
            "" => return None,
            "x" | "X" | "*" => None,
            digits => Some(digits.parse::<u64>().ok()?),
        };
        rest = after;
    }
    let given = match numbers {
        [None, ..] => Given::Nothing,
        [_, None, _] => Given::Major,
        [_, _, None] => Given::Minor,
        _ => Given::Patch,
    };
    let number = |index: usize, needed: &[Given]| if needed.contains(&given) { numbers[index].unwrap_or(0) } else { 0 };
    let mut version = Version::new(
        number(0, &[Given::Major, Given::Minor, Given::Patch]),
        number(1, &[Given::Minor, Given::Patch]),
        number(2, &[Given::Patch]),
    );
    let identifier =
        |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '.')).unwrap_or(text.len());
    if let Some(tail) = rest.strip_prefix('-') {
        let end = identifier(tail);
        version.pre = Prerelease::new(&tail[..end]).ok().filter(|pre| !pre.is_empty())?;
        rest = &tail[end..];
    }
    if let Some(tail) = rest.strip_prefix('+') {
        let end = identifier(tail);
        if tail[..end].split('.').any(str::is_empty) {
            return None;
        }
        rest = &tail[end..];
    }
    Some((version, given, rest))
}

/// What Go's expressions call white space.
const BLANKS: [char; 5] = ['\t', '\n', '\u{c}', '\r', ' '];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_hold_as_masterminds_rules_say() {
        for (constraint, yes, no) in [
            ("v1.25.x", &["v1.25.4+18eadca", "1.25.0"][..], &["1.24.9", "1.26.0"][..]),
            ("v1.24.x", &[], &["v1.25.4+18eadca"]),
            (">= v1.23.x", &["v1.25.4+18eadca", "1.23.0"], &["1.22.9"]),
            ("< v2.2.x", &["v1.25.4+18eadca", "2.1.9"], &["2.2.0"]),
            (">= 1.16.0 < 1.28.0", &["1.16.0", "1.27.9"], &["1.28.0", "1.15.9"]),
            (">=1.16.0,<1.28.0", &["1.20.1"], &["1.28.0"]),
            (">= 1.20.0", &["1.25.4"], &["v1.25.4-rc.1"]),
            (">= 1.20.0-0", &["v1.25.4-rc.1", "1.20.0"], &["1.19.9"]),
            (">= 1.20.0-0 < 1.27", &["v1.25.4-rc.1"], &["1.27.0"]),
            ("1.2 - 1.4.5", &["1.2.0", "1.4.5"], &["1.4.6", "1.1.9"]),
            ("^1.2.3", &["1.9.0"], &["2.0.0", "1.2.2"]),
            ("^0.2.3", &["0.2.9"], &["0.3.0"]),
            ("^0.0.3", &["0.0.3"], &["0.0.4"]),
            ("^0", &["0.9.9"], &["1.0.0"]),
            ("~1.2.3", &["1.2.9"], &["1.3.0"]),
            ("~1", &["1.9.0"], &["2.0.0"]),
            ("~> 1.2", &["1.2.9"], &["1.3.0"]),
            ("*", &["0.0.0", "99.0.0"], &["1.0.0-rc.1"]),
            ("=1.2", &["1.2.7"], &["1.3.0"]),
            ("1.2.3", &["1.2.3+build"], &["1.2.4"]),
            ("!=1.2", &["1.3.0"], &["1.2.7"]),
            ("!=1", &["2.0.0"], &["1.2.7"]),
            (">11", &["12.0.0"], &["11.1.0"]),
            (">11.1", &["11.2.0"], &["11.1.9"]),
            ("<=11", &["11.9.9"], &["12.0.0"]),
            ("<=11.1", &["11.1.9"], &["11.2.0"]),
            ("<1.2 || >=2", &["1.1.0", "2.0.0"], &["1.2.0"]),
            ("=> 1.2, =< 1.4.0", &["1.4.0"], &["1.4.1"]),
        ] {
            let parsed: Constraint = constraint.parse().unwrap_or_else(|error| panic!("{error}"));
            for text in yes {
                assert!(parsed.allows(&version(text).unwrap()), "{text} satisfies {constraint}");
            }
            for text in no {
                assert!(!parsed.allows(&version(text).unwrap()), "{text} does not satisfy {constraint}");
            }
        }
    }

    #[test]
    fn what_is_no_constraint_or_version_is_refused() {
        for text in [
            "",
            "garbage",
            ">=",
            "1.2.3.4",
            ">= 1.2 &&",
            "1.2 ||",
            ">=1.2,",
            "1.-2",
            "1.2.3-",
            // No separator (Masterminds/semver#186), blanks that are not Go's, a dot too many.
            ">=1.20.0<1.40.0",
            ">=1.20\u{a0}<1.40",
            ">=1.20\u{3000}<1.40",
            ">=1.20\u{b}<1.40",
            ">=1.20\u{85}",
            ">1.19 1.20 - 1.40",
            ">=1.20.0+a..b",
        ] {
            let error = ParseError { text: text.to_owned(), constraint: true };
            assert_eq!(text.parse::<Constraint>(), Err(error), "{text}");
        }
        for text in ["", "x", "1.x", "latest", "1.2.3.4", "v", "1.2 ", "1.31.0+a..b", "1.31.0+"] {
            assert_eq!(version(text).unwrap_err().to_string(), format!("`{text}` is not a version"));
        }
    }
}
