//! Whether a count keeps within its limit, in whole numbers: nothing is rounded at the border.

use crate::model::Limit;

/// Billionths of a percent in a whole: 100 percent of 10^9 each.
const WHOLE: u128 = 100_000_000_000;

/// A metric on both sides, as a gate sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// There is a baseline that can be compared, with this count, or without the metric.
    Comparable(Option<u64>),
    /// There is none, or none that can be compared: only ceilings can be judged.
    Nothing,
}

/// Why a limit does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breach {
    /// The count is beyond the limit.
    Beyond,
    /// This run has no count of the metric.
    NotCounted,
    /// The baseline has no count of the metric to start from.
    NotInBaseline,
}

/// Holds `after` against `limit`. What cannot be judged although it should be is a breach, never
/// silently green.
pub(super) fn hold(limit: Limit, before: Before, after: Option<u64>) -> Result<(), Breach> {
    let after = after.ok_or(Breach::NotCounted)?;
    let holds = match (limit, before) {
        (Limit::Ceiling(most), _) => after <= most,
        (_, Before::Nothing) => true,
        (_, Before::Comparable(None)) => return Err(Breach::NotInBaseline),
        (Limit::Absolute(most), Before::Comparable(Some(before))) => {
            after.saturating_sub(before) <= most
        }
        (Limit::Percent(percent), Before::Comparable(Some(before))) => {
            within_percent(percent, before, after)
        }
    };
    if holds { Ok(()) } else { Err(Breach::Beyond) }
}

/// Whether `after` is at most `percent` above `before`.
fn within_percent(percent: f64, before: u64, after: u64) -> bool {
    let rise = u128::from(after.saturating_sub(before));
    // `Limit` has at most 9 decimals and at most 10^6 percent: the product is a whole number below
    // 2^53, and `round` takes away what binary fractions added. Beyond that the cast saturates,
    // which is as good.
    let billionths = (percent * 1e9).round() as u128;
    // The left side is below 2^101. A right side that does not fit in 128 bits is larger.
    match u128::from(before).checked_mul(billionths) {
        Some(allowed) => rise * WHOLE <= allowed,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(limit: &str, before: u64, after: u64) -> bool {
        let limit = limit.parse().unwrap();
        hold(limit, Before::Comparable(Some(before)), Some(after)).is_ok()
    }

    #[test]
    fn a_percentage_is_exact_at_its_border() {
        // In binary, 0.1 % of 3000 is a little more than 3, and 0.7 % of 1000 a little less than 7.
        assert!(holds("0.1%", 3000, 3003) && !holds("0.1%", 3000, 3004));
        assert!(holds("0.7%", 1000, 1007) && !holds("0.7%", 1000, 1008));
        assert!(holds("0%", 5, 5) && !holds("0%", 5, 6));
        assert!(holds("0%", 5, 4));
        assert!(holds("100%", 0, 0) && !holds("100%", 0, 1));
    }

    #[test]
    fn a_percentage_of_the_largest_counts_is_exact() {
        let before = u64::MAX / 1000 * 500;
        let tenth = before / 1000;
        assert!(holds("0.1%", before, before + tenth));
        assert!(!holds("0.1%", before, before + tenth + 1));
        assert!(holds("1000000%", u64::MAX, u64::MAX));
        assert!(holds("0.000000001%", 100_000_000_000, 100_000_000_001));
        assert!(!holds("0.000000001%", 99_999_999_999, 100_000_000_000));
    }

    #[test]
    fn an_absolute_limit_counts_from_the_baseline_and_a_ceiling_does_not() {
        assert!(holds("+10", 5, 15) && !holds("+10", 5, 16));
        assert!(holds("<=10", 50, 10) && !holds("<=10", 50, 11));
    }

    #[test]
    fn a_ceiling_needs_no_baseline_and_the_others_wait_for_one() {
        let over = |limit: &str| hold(limit.parse().unwrap(), Before::Nothing, Some(11));
        assert_eq!(over("<=10"), Err(Breach::Beyond));
        assert_eq!(over("+0"), Ok(()));
        assert_eq!(over("0%"), Ok(()));
    }

    #[test]
    fn what_was_not_counted_never_holds() {
        for limit in ["100%", "+100", "<=100"] {
            let limit = limit.parse().unwrap();
            let not_counted = Err(Breach::NotCounted);
            assert_eq!(hold(limit, Before::Nothing, None), not_counted);
            assert_eq!(hold(limit, Before::Comparable(Some(1)), None), not_counted);
        }
        let from_nothing = hold(Limit::Absolute(9), Before::Comparable(None), Some(1));
        assert_eq!(from_nothing, Err(Breach::NotInBaseline));
    }

    proptest! {
        #[test]
        fn a_wider_limit_holds_whenever_a_narrower_one_does(
            before: u64, after: u64, a in 0u64..10_000_000, b in 0u64..10_000_000,
        ) {
            let (narrow, wide) = (a.min(b), a.max(b));
            let percent = |n: u64| Limit::Percent(n as f64 / 1000.0);
            for [narrow, wide] in [
                [percent(narrow), percent(wide)],
                [Limit::Absolute(narrow), Limit::Absolute(wide)],
                [Limit::Ceiling(narrow), Limit::Ceiling(wide)],
            ] {
                let before = Before::Comparable(Some(before));
                if hold(narrow, before, Some(after)).is_ok() {
                    prop_assert!(hold(wide, before, Some(after)).is_ok());
                }
            }
        }

        #[test]
        fn a_count_may_always_fall(before: u64, less: u64, thousandths in 0u64..10_000_000) {
            let after = before.saturating_sub(less);
            let before = Before::Comparable(Some(before));
            let percent = Limit::Percent(thousandths as f64 / 1000.0);
            prop_assert!(hold(percent, before, Some(after)).is_ok());
            prop_assert!(hold(Limit::Absolute(0), before, Some(after)).is_ok());
        }

        #[test]
        fn thousandths_of_a_percent_agree_with_whole_numbers(
            before in 0u64..1 << 40, rise in 0u64..1 << 30, thousandths in 0u64..1_000_000,
        ) {
            let text = format!("{}.{:03}%", thousandths / 1000, thousandths % 1000);
            let exact = u128::from(rise) * 100_000 <= u128::from(before) * u128::from(thousandths);
            prop_assert_eq!(holds(&text, before, before + rise), exact);
        }
    }
}
