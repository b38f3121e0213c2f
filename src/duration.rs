//! Lengths of time as people write them.

use std::time::Duration;

/// A length of time: `90s`, `15m`, `24h`, `7d`, `2w`, `1h30m`; a bare number is seconds. The error says what was expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a length of time such as 90s, 15m, 24h or 7d, not `{text}`");
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let n: u32 = rest[..end].parse().map_err(|_| wrong())?;
        let unit = rest[end..].chars().next().expect("found above");
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return Err(wrong()),
        };
        sum += u64::from(n) * seconds;
        rest = &rest[end + unit.len_utf8()..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(sum)) }
}

/// The same, where seconds are hardly ever meant: a number other than 0 has a unit.
pub fn with_unit(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(number) if number > 0 => Err(format!("say the unit: {number}h, {number}m, {number}d or {number}s")),
        _ => parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_refused_where_seconds_are_hardly_meant() {
        let said = with_unit("12").unwrap_err();
        assert_eq!(said, "say the unit: 12h, 12m, 12d or 12s");
        let read = ["0", "12s", "7d"].map(|text| with_unit(text).unwrap().as_secs());
        assert_eq!(read, [0, 12, 604_800]);
    }

    #[test]
    fn lengths_of_time_are_read_in_the_units_that_people_write() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("90", Some(90)),
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("24h", Some(86_400)),
            ("1h30m", Some(5400)),
            ("7d", Some(604_800)),
            ("2w", Some(1_209_600)),
            ("", None),
            ("h", None),
            ("5x", None),
            ("5é", None),
            ("1h30", None),
            ("-1s", None),
            ("99999999999s", None),
        ] {
            assert_eq!(parse(text).ok().map(|it| it.as_secs()), seconds, "{text}");
        }
    }
}
