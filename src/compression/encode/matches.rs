//! How far two places agree.

/// The eight bytes from `at` on.
#[inline(always)]
pub(super) fn eight(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The four bytes from `at` on.
#[inline(always)]
pub(super) fn four(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// How many bytes from the start of both are equal, at most as many as the shorter has.
#[inline(always)]
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    let most = a.len().min(b.len());
    let (a, b) = (&a[..most], &b[..most]);
    let mut length = 0;
    while length + 8 <= most {
        let differ = eight(a, length) ^ eight(b, length);
        if differ != 0 {
            return length + (differ.trailing_zeros() >> 3) as usize;
        }
        length += 8;
    }
    length + a[length..].iter().zip(&b[length..]).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_far_as_both_agree_and_reach() {
        let text: Vec<u8> = (0..100).collect();
        for length in 0..40 {
            for differs in 0..40 {
                let mut other = text[..40].to_vec();
                other[differs] = 255;
                assert_eq!(common(&text[..length], &other), length.min(differs));
                assert_eq!(common(&other, &text[..length]), length.min(differs));
            }
        }
    }
}
