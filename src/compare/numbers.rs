//! Cuts output into numbers and the text between them.
//!
//! A number is a decimal one, with sign, fraction and exponent where it has them, or `nan`, `inf`,
//! `infinity` in any case. It does not begin inside a word or a number (`x86_64` is text); a unit
//! may follow it (`10ms`).

/// A number, or a piece of text without one. Tokens follow each other without gaps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    /// Offset of its first byte.
    pub at: usize,
    /// Its bytes, never none.
    pub text: &'a [u8],
    /// Its value when it is a number.
    pub number: Option<f64>,
}

/// The tokens of `bytes`, in order; text is as long as possible.
pub(super) fn tokens(bytes: &[u8]) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let token = token_at(bytes, at)?;
        at += token.text.len();
        Some(token)
    })
}

fn token_at(bytes: &[u8], at: usize) -> Option<Token<'_>> {
    if at >= bytes.len() {
        return None;
    }
    if let Some((text, number)) = number_at(bytes, at) {
        let number = Some(number);
        return Some(Token { at, text, number });
    }
    let end = (at + 1..bytes.len())
        .find(|end| number_at(bytes, *end).is_some())
        .unwrap_or(bytes.len());
    Some(Token {
        at,
        text: bytes.get(at..end)?,
        number: None,
    })
}

/// The number that begins at `at`, if one does.
fn number_at(bytes: &[u8], at: usize) -> Option<(&[u8], f64)> {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    if before.is_some_and(|b| continues_word(*b)) {
        return None;
    }
    let rest = bytes.get(at..)?;
    let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
    let unsigned = rest.get(sign..)?;
    let len = match special_len(unsigned) {
        Some(len) => len,
        None => decimal_len(unsigned)?,
    };
    let text = rest.get(..sign + len)?;
    let value = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some((text, value))
}

/// Whether a number cannot begin right after this byte.
fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn special_len(bytes: &[u8]) -> Option<usize> {
    ["infinity", "inf", "nan"].into_iter().find_map(|word| {
        let head = bytes.get(..word.len())?;
        let ends = !bytes.get(word.len()).is_some_and(|b| continues_word(*b));
        (ends && head.eq_ignore_ascii_case(word.as_bytes())).then_some(word.len())
    })
}

fn decimal_len(bytes: &[u8]) -> Option<usize> {
    let whole = digits(bytes);
    let after = bytes.get(whole..)?;
    let fraction = match after.split_first() {
        Some((b'.', more)) => digits(more),
        _ => 0,
    };
    // A point without digits after it ends a sentence and is no part of the number.
    let point = usize::from(fraction > 0);
    if whole + fraction == 0 {
        return None;
    }
    let mantissa = whole + point + fraction;
    Some(mantissa + exponent_len(bytes.get(mantissa..)?))
}

fn exponent_len(bytes: &[u8]) -> usize {
    let Some((b'e' | b'E', rest)) = bytes.split_first() else {
        return 0;
    };
    let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
    match digits(rest.get(sign..).unwrap_or_default()) {
        0 => 0,
        digits => 1 + sign + digits,
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(text: &str) -> Vec<&str> {
        let number = |t: Token<'_>| t.number.map(|_| t.at..t.at + t.text.len());
        let ranges = tokens(text.as_bytes()).filter_map(number);
        ranges.map(|range| &text[range]).collect()
    }

    #[test]
    fn finds_every_way_of_writing_a_number() {
        assert_eq!(
            numbers("1 -2 +3.5 .5 1e5 1.5E-3 2e+10 -inf NaN Infinity"),
            [
                "1", "-2", "+3.5", ".5", "1e5", "1.5E-3", "2e+10", "-inf", "NaN", "Infinity"
            ]
        );
    }

    #[test]
    fn takes_units_sentences_and_ranges_apart() {
        assert_eq!(
            numbers("10ms, 3e, 7. x=1;y=-2 (4)"),
            ["10", "3", "7", "1", "-2", "4"]
        );
        // A sign or a point right after a number begins no second one.
        assert_eq!(numbers("[1,2] 1.5.2 3-4"), ["1", "2", "1.5", "2", "3", "4"]);
    }

    #[test]
    fn words_are_no_numbers() {
        assert_eq!(numbers("x86_64 nancy info v1 e5 - + . ..."), [""; 0]);
    }

    proptest! {
        #[test]
        fn tokens_follow_each_other_without_gaps(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut joined = Vec::new();
            for token in tokens(&bytes) {
                prop_assert_eq!(token.at, joined.len());
                prop_assert!(!token.text.is_empty());
                joined.extend_from_slice(token.text);
            }
            prop_assert_eq!(joined, bytes);
        }

        #[test]
        fn a_printed_float_is_one_number(value: f64) {
            for text in [format!("{value}"), format!("{value:e}")] {
                prop_assert_eq!(numbers(&text), [text.as_str()]);
            }
        }
    }
}
