//! Numbers for people: grouped counts, differences, percentages and ratios.
//!
//! Everything is computed in integers, digit by digit, so that a difference of 1 in 2^64 still shows. A
//! percentage is never rounded to 0 when the counts differ, nor to the limit it is shown beside.

/// More decimals than these add nothing: the smallest ratio of two counts is 1 / 2^64, about 5e-20.
const MOST_EXTRA_DECIMALS: usize = 24;

/// `1234567` as `1,234,567`.
pub fn grouped(count: u64) -> String {
    group(&count.to_string())
}

/// A difference with its sign: `+1,234`, `-5`, `0`.
pub fn signed(delta: i128) -> String {
    let digits = group(&delta.unsigned_abs().to_string());
    match delta {
        0 => digits,
        1.. => format!("+{digits}"),
        _ => format!("-{digits}"),
    }
}

fn group(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How far `after` lies from `before`, as `+8.1 %`; absent when `before` is 0, as there is no such percentage.
///
/// Two or three digits that count, more where fewer would read as `unlike` (a limit such as `0.5`) or
/// as everything being gone.
pub fn percent(before: u64, after: u64, unlike: Option<&str>) -> Option<String> {
    if before == 0 {
        return None;
    }
    if before == after {
        return Some("0 %".to_owned());
    }
    let sign = if after > before { '+' } else { '-' };
    let parts = u128::from(before.abs_diff(after)) * 100;
    let whole = u128::from(before);
    let digits = if parts >= whole { 3 } else { 2 };
    let mut avoid: Vec<&str> = unlike.into_iter().collect();
    if after > 0 && after < before {
        avoid.push("100");
    }
    let text = shortest(parts, whole, digits, &avoid);
    let text = match text.contains('.') {
        true => text,
        false => group(&text),
    };
    Some(format!("{sign}{text} %"))
}

/// `value` as a multiple of `base`, as `1.081`; absent when `base` is 0. Only equal counts give `1`.
pub fn ratio(value: u64, base: u64) -> Option<String> {
    if base == 0 {
        return None;
    }
    let avoid: &[&str] = if value == base { &[] } else { &["1"] };
    Some(shortest(u128::from(value), u128::from(base), 4, avoid))
}

/// `part` of `whole` in percent with one decimal, for a column: `93.1`, `<0.1`, `>99.9`. Empty when `whole` is 0.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return String::new();
    }
    let (text, _) = decimal(u128::from(part) * 100, u128::from(whole), 1);
    match text.as_str() {
        "0.0" if part > 0 => "<0.1".to_owned(),
        "100.0" if part < whole => ">99.9".to_owned(),
        _ => text,
    }
}

/// `1 run`, `2 runs`, `3 processes`.
pub fn counted(count: usize, noun: &str) -> String {
    let plural = match count {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", group(&count.to_string()))
}

/// `numerator / denominator` with `digits` digits that count, or with as many more as it takes to differ
/// from every number in `avoid`. Zeros at the end are left out where that is exact, so that `10` is ten and
/// `10.00` is nearly ten. The denominator is not 0.
fn shortest(numerator: u128, denominator: u128, digits: usize, avoid: &[&str]) -> String {
    let least = decimals_for(numerator, denominator, digits);
    let mut text = String::new();
    for decimals in least..=least + MOST_EXTRA_DECIMALS {
        let (rounded, exact) = decimal(numerator, denominator, decimals);
        let short = trimmed(&rounded);
        let found = !avoid.contains(&short);
        text = if exact { short.to_owned() } else { rounded };
        if found {
            break;
        }
    }
    text
}

/// Decimals that show `digits` digits, counted from the first that is not 0.
fn decimals_for(numerator: u128, denominator: u128, digits: usize) -> usize {
    let whole = numerator / denominator;
    if whole > 0 {
        return digits.saturating_sub(whole.to_string().len());
    }
    let mut scaled = numerator;
    let mut zeros = 0;
    while scaled > 0 && scaled < denominator {
        scaled *= 10;
        zeros += 1;
    }
    (zeros + digits).saturating_sub(1)
}

/// `numerator / denominator` with exactly `decimals` decimals, rounded half up, by long division; and whether
/// nothing was rounded.
fn decimal(numerator: u128, denominator: u128, decimals: usize) -> (String, bool) {
    let mut digits = (numerator / denominator).to_string().into_bytes();
    let point = digits.len();
    let mut rest = numerator % denominator;
    for _ in 0..decimals {
        rest *= 10;
        digits.push(b'0' + u8::try_from(rest / denominator).unwrap_or(9));
        rest %= denominator;
    }
    let carried = rest * 2 >= denominator && round_up(&mut digits);
    let point = point + usize::from(carried);
    let mut text: String = digits.into_iter().map(char::from).collect();
    if decimals > 0 {
        text.insert(point, '.');
    }
    (text, rest == 0)
}

/// Adds one to the last digit. True when that took one more digit in front.
fn round_up(digits: &mut Vec<u8>) -> bool {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return false;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
    true
}

fn trimmed(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_difference_of_one_in_a_billion_shows() {
        let text = percent(1_000_000_000, 1_000_000_001, None);
        assert_eq!(text.as_deref(), Some("+0.0000001 %"));
        assert_eq!(
            percent(u64::MAX, u64::MAX - 1, None).as_deref(),
            Some("-0.0000000000000000054 %")
        );
    }

    #[test]
    fn percentages_carry_two_or_three_digits() {
        let cases = [
            (1_000_000, 1_081_000, "+8.1 %"),
            (1000, 2234, "+123 %"),
            (1000, 1123, "+12.3 %"),
            (1000, 995, "-0.5 %"),
            (3, 2, "-33.3 %"),
            (3, 4, "+33.3 %"),
            (1000, 0, "-100 %"),
            (7, 7, "0 %"),
            (1, u64::MAX, "+1,844,674,407,370,955,161,400 %"),
        ];
        for (before, after, text) in cases {
            assert_eq!(percent(before, after, None).as_deref(), Some(text));
        }
        assert_eq!(percent(0, 5, None), None);
    }

    #[test]
    fn a_percentage_is_never_rounded_to_the_limit_it_is_shown_beside() {
        let text = percent(1_000_000, 1_005_010, Some("0.5"));
        assert_eq!(text.as_deref(), Some("+0.501 %"));
        assert_eq!(
            percent(1_000_000, 1_005_000, Some("0.5")).as_deref(),
            Some("+0.5 %")
        );
    }

    #[test]
    fn almost_all_is_not_all() {
        assert_eq!(percent(100_000, 1, None).as_deref(), Some("-99.999 %"));
        assert_eq!(share(99_999, 100_000), ">99.9");
        assert_eq!(share(1, 100_000), "<0.1");
        assert_eq!(share(0, 100_000), "0.0");
        assert_eq!(share(5, 5), "100.0");
        assert_eq!(share(5, 0), "");
    }

    #[test]
    fn ratios_of_counts_that_differ_are_not_one() {
        let cases = [
            (1, 1, "1"),
            (2, 1, "2"),
            (1_081, 1_000, "1.081"),
            (1_000_000_001, 1_000_000_000, "1.000000001"),
            (9_999_999, 10_000_000, "0.9999999"),
            (1, 800, "0.00125"),
            (0, 5, "0"),
            (10, 1, "10"),
            (12_345_678, 1_234_567, "10.00"),
        ];
        for (value, base, text) in cases {
            assert_eq!(ratio(value, base).as_deref(), Some(text));
        }
        assert_eq!(ratio(1, 0), None);
    }

    proptest! {
        #[test]
        fn grouping_reads_back(count: u64) {
            let text = grouped(count);
            prop_assert_eq!(text.replace(',', "").parse::<u64>(), Ok(count));
            let mut groups = text.split(',');
            prop_assert!((1..=3).contains(&groups.next().unwrap().len()));
            prop_assert!(groups.all(|group| group.len() == 3));
        }

        #[test]
        fn signed_differences_read_back(before: u64, after: u64) {
            let delta = i128::from(after) - i128::from(before);
            prop_assert_eq!(signed(delta).replace(',', "").parse::<i128>(), Ok(delta));
        }

        #[test]
        fn a_percentage_is_zero_exactly_when_the_counts_are_equal(
            before in 1u64.., step in -1000i64..1000
        ) {
            let after = before.saturating_add_signed(step);
            let text = percent(before, after, None).unwrap();
            let digits = text.trim_start_matches(['+', '-']).trim_end_matches(" %");
            let zero = digits.chars().all(|c| c == '0' || c == '.');
            prop_assert_eq!(zero, before == after, "{}", text);
        }

        #[test]
        fn a_percentage_is_right_to_two_digits(before in 1u64.., after: u64) {
            let text = percent(before, after, None).unwrap();
            let shown: f64 = text.trim_end_matches(" %").replace(',', "").parse().unwrap();
            let truth = (after as f64 - before as f64) / before as f64 * 100.0;
            prop_assert!((shown - truth).abs() <= truth.abs() * 0.051, "{} for {}", text, truth);
        }

        #[test]
        fn a_ratio_is_one_exactly_when_the_counts_are_equal(base in 1u64.., value: u64) {
            prop_assert_eq!(ratio(value, base).unwrap() == "1", value == base);
        }

        #[test]
        fn a_ratio_next_to_one_is_not_one(base in 1u64..u64::MAX) {
            prop_assert_ne!(ratio(base + 1, base).unwrap(), "1");
        }
    }
}
