//! The order of names with versions in them, as people count: `1.9` before `1.10`, and versions before words (`latest`).
//!
//! It is that of dpkg (deb-version(7)), which `sort -V` has, too.

use std::cmp::Ordering;

/// Compares names; those that mean the same version (`1.01` and `1.1`) by their bytes, so that the order is the same each time.
pub fn compare(a: &str, b: &str) -> Ordering {
    compare_versions(a, b).then_with(|| a.cmp(b))
}

/// dpkg's `verrevcmp`: digits by value, `~` before the end, letters before other signs.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        loop {
            let (x, y) = (weight(a.first()), weight(b.first()));
            if x == 0 && y == 0 {
                break;
            }
            if x != y {
                return x.cmp(&y);
            }
            (a, b) = (&a[1..], &b[1..]);
        }
        let (x, y) = (number(&mut a), number(&mut b));
        let order = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes the digits at the start, without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    &digits[zeros..]
}

/// The rank of a sign that is no digit: `~`, then the end and digits, then letters, then the others.
fn weight(sign: Option<&u8>) -> i32 {
    match sign {
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b'~') => -1,
        Some(b) if b.is_ascii_alphabetic() => i32::from(*b),
        Some(b) => i32::from(*b) + 256,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_are_in_the_order_of_sort_with_v() {
        let expected = [
            "1",
            "1.0",
            "1.0.0",
            "1.0.0-rc1",
            "1.0.0-rc10",
            "1.01",
            "1.1",
            "1.9.2",
            "1.10",
            "1.10-1",
            "2024-09-30",
            "2024-10-01",
            "acme-db 9.9.0",
            "acme-db 10.0.0",
            "acme-db-operator.v1.9.0",
            "acme-db-operator.v1.10.0",
            "latest",
            "ubi8-13",
            "ubi9-2",
            "v4",
            "v4.9",
            "v4.16",
        ];
        let mut ours = expected;
        ours.reverse();
        ours.sort_by(|a, b| compare(a, b));
        assert_eq!(ours, expected);
        let mut sort = Command::new("sort");
        sort.arg("-V").env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = sort.spawn().unwrap();
        child.stdin.take().unwrap().write_all(expected.join("\n").as_bytes()).unwrap();
        let theirs = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(theirs.stdout).unwrap().lines().collect::<Vec<_>>(), expected);
    }
}
