//! Things with their number, as people say them.

use std::fmt::Display;

/// `1 image`, `2 images`: `one` is what a single one is called; its last word changes.
pub fn count<N: Copy + Display + PartialEq + From<u8>>(n: N, one: &str) -> String {
    format!("{n} {}", noun(n, one))
}

/// The word alone, for where the number stands elsewhere.
pub fn noun<N: Copy + PartialEq + From<u8>>(n: N, one: &str) -> String {
    if n == N::from(1) {
        return one.to_owned();
    }
    let is_vowel = |letter: char| "aeiou".contains(letter);
    match one.strip_suffix('y') {
        Some(stem) if !stem.ends_with(is_vowel) => format!("{stem}ies"),
        _ if ["s", "x", "ch", "sh"].iter().any(|end| one.ends_with(end)) => format!("{one}es"),
        _ => format!("{one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_all_others_are_many() {
        for (n, one, expected) in [
            (0_u64, "image", "0 images"),
            (1, "image", "1 image"),
            (2, "image", "2 images"),
            (1, "repository", "1 repository"),
            (3, "repository", "3 repositories"),
            (2, "key", "2 keys"),
            (2, "index", "2 indexes"),
            (2, "batch", "2 batches"),
            (2, "rejected package", "2 rejected packages"),
        ] {
            assert_eq!(count(n, one), expected);
        }
    }
}
