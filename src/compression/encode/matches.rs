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
    let mut length = 0;
    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, b_rest) = b.as_chunks::<8>();
    for (x, y) in a_words.iter().zip(b_words) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return length + (differ.trailing_zeros() >> 3) as usize;
        }
        length += 8;
    }
    let rest = if a_words.len() == b_words.len() {
        a_rest.iter().zip(b_rest).take_while(|(x, y)| x == y).count()
    } else {
        a[length..].iter().zip(&b[length..]).take_while(|(x, y)| x == y).count()
    };
    length + rest
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
