//! `Range: bytes=…` (RFC 9110, 14.1.2).

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Everything; also where the header is none that a server has to understand.
    Whole,
    /// Parts, each `start..end` with something in it.
    Parts(Vec<std::ops::Range<u64>>),
    /// Nothing of what there is.
    Unsatisfiable,
}

/// Reads the header for something of `size` bytes.
///
/// Many parts, or parts that are together more than the whole, are answered with the whole: a server may, and a short request
/// must not cost a long answer.
pub(super) fn asked(header: &str, size: u64) -> Asked {
    let Some(list) = header.strip_prefix("bytes=") else { return Asked::Whole };
    let (mut parts, mut total) = (Vec::new(), 0_u64);
    for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let Some((first, last)) = text.split_once('-') else { return Asked::Whole };
        let part = match (number(first), number(last)) {
            (Some(first), None) if last.is_empty() => first..size,
            (None, Some(suffix)) if first.is_empty() => size.saturating_sub(suffix)..size,
            // To be ignored says the RFC; the conformance program and users who mistype want to hear of it.
            (Some(first), Some(last)) if last < first => return Asked::Unsatisfiable,
            (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
            _ => return Asked::Whole,
        };
        if part.start < part.end {
            total = total.saturating_add(part.end - part.start);
            parts.push(part);
        }
        if parts.len() > MOST {
            return Asked::Whole;
        }
    }
    match parts.is_empty() {
        true => Asked::Unsatisfiable,
        false if parts.len() > 1 && total > size => Asked::Whole,
        false => Asked::Parts(parts),
    }
}

fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // What is beyond every number is beyond every end.
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// podman's partial pulls of zstd:chunked layers ask for dozens at a time.
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clipped_refused_or_answered_with_the_whole() {
        let parts = |parts: &[(u64, u64)]| Asked::Parts(parts.iter().map(|(start, end)| *start..*end).collect());
        for (header, expected) in [
            ("bytes=500-1499", parts(&[(500, 1500)])),
            ("bytes=500-", parts(&[(500, 2048)])),
            ("bytes=-500", parts(&[(1548, 2048)])),
            ("bytes=-5000", parts(&[(0, 2048)])),
            ("bytes=2000-5000", parts(&[(2000, 2048)])),
            ("bytes=0-0, 5-6", parts(&[(0, 1), (5, 7)])),
            ("bytes=0-0,9999-", parts(&[(0, 1)])),
            ("bytes=500-0", Asked::Unsatisfiable),
            ("bytes=5000-10000", Asked::Unsatisfiable),
            ("bytes=2048-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=99999999999999999999-", Asked::Unsatisfiable),
            ("bytes=0-99999999999999999999", parts(&[(0, 2048)])),
            ("bytes=0-,0-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=1", Asked::Whole),
            ("lines=1-2", Asked::Whole),
        ] {
            assert_eq!(asked(header, 2048), expected, "{header}");
        }
        assert_eq!(asked("bytes=0-", 0), Asked::Unsatisfiable);
        assert_eq!(asked(&format!("bytes={}", "0-0,".repeat(300)), 2048), Asked::Whole);
    }
}
