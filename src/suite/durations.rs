//! Durations as a manifest writes them: a whole number and a unit.

use std::time::Duration;

/// A text that is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a duration; write a whole number above 0 and a unit: `\"500ms\"`, `\"60s\"`, `\"2m\"` or `\"1h\"`"
)]
pub struct BadDuration(pub String);

/// Reads `500ms`, `60s`, `2m` or `1h`.
pub fn parse(text: &str) -> Result<Duration, BadDuration> {
    let bad = || BadDuration(text.to_owned());
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms: u64 = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let ms = number.checked_mul(unit_ms).ok_or_else(bad)?;
    (ms > 0)
        .then_some(Duration::from_millis(ms))
        .ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_unit() {
        let ms = |text| parse(text).map(|d| d.as_millis());
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("60s"), Ok(60_000));
        assert_eq!(ms("2m"), Ok(120_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in [
            "",
            "60",
            "s",
            "0s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1d",
            "18446744073709551615h",
        ] {
            assert_eq!(parse(text), Err(BadDuration(text.to_owned())));
        }
    }
}
