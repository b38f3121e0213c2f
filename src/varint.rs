//! Numbers as tables of bytes have them: LEB128, seven bits a byte, the least first, the eighth bit set in all but the last.

/// Why no number can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// The bytes end within it.
    Cut,
    /// It has more than 64 bits.
    TooLarge,
}

/// Adds a number.
pub fn put(number: u64, to: &mut Vec<u8>) {
    let mut rest = number;
    while rest >= 0x80 {
        to.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    to.push(u8::try_from(rest).expect("seven bits"));
}

/// Adds bytes, their number before them.
pub fn put_bytes(bytes: &[u8], to: &mut Vec<u8>) {
    put(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

/// Takes a number from the front.
pub fn take(rest: &mut &[u8]) -> Result<u64, Bad> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first().ok_or(Bad::Cut)?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Bad::TooLarge)
}
