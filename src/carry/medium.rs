//! How large volumes are, by the names of what they are written to.

/// Bytes that files can have on a medium (`cd`, `dvd`, `dvd-dl`, `bd`, `bd-dl`, `fat32`), or that a size says: `700M`, `4GiB`. Of discs,
/// what a file system takes on them is subtracted. The error says what was expected.
pub fn medium(text: &str) -> Result<u64, String> {
    let disc = |bytes: u64| bytes - (4 << 20);
    let size = match text {
        // Sectors of 2,048 bytes: ECMA-130 (80 minutes), ECMA-267, -279 and the Blu-ray Disc Association's figures.
        "cd" => disc(360_000 * 2048),
        "dvd" => disc(2_295_104 * 2048),
        "dvd-dl" => disc(4_171_712 * 2048),
        "bd" => disc(12_219_392 * 2048),
        "bd-dl" => disc(24_438_784 * 2048),
        // A file on FAT32 is one byte shorter than 4 GiB.
        "fat32" => u64::from(u32::MAX),
        size => {
            let digits = size.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
            let unit = match &size[digits.len()..] {
                "" | "B" => 1,
                "K" | "kB" => 1000,
                "KiB" => 1 << 10,
                "M" | "MB" => 1_000_000,
                "MiB" => 1 << 20,
                "G" | "GB" => 1_000_000_000,
                "GiB" => 1 << 30,
                "T" | "TB" => 1_000_000_000_000,
                _ => return Err("expected cd, dvd, dvd-dl, bd, bd-dl, fat32 or a size as 700M, 25G, 4GiB".into()),
            };
            let number = digits.parse::<u64>().map_err(|_| "expected a number before the unit")?;
            number.checked_mul(unit).ok_or("too large")?
        }
    };
    if size < SMALLEST {
        return Err(format!("a volume has at least {}MiB", SMALLEST >> 20));
    }
    Ok(size)
}

/// Bytes of the smallest volume: the largest content that is not cut has 8 MiB.
const SMALLEST: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_have_the_sizes_that_are_printed_on_them() {
        for (text, expected) in [
            ("cd", Some(737_280_000 - (4 << 20))),
            ("dvd", Some(4_700_372_992 - (4 << 20))),
            ("dvd-dl", Some(8_543_666_176 - (4 << 20))),
            ("bd", Some(25_025_314_816 - (4 << 20))),
            ("bd-dl", Some(50_050_629_632 - (4 << 20))),
            ("fat32", Some(4_294_967_295)),
            ("700M", Some(700_000_000)),
            ("4GiB", Some(4 << 30)),
            ("100000000", Some(100_000_000)),
            ("1M", None),
            ("floppy", None),
            ("99999999999T", None),
        ] {
            assert_eq!(medium(text).ok(), expected, "{text}");
        }
    }
}
