//! How far numbers in a program's output may be from the numbers in its snapshot.

/// A number `actual` matches `expected` when |actual - expected| <= `atol` + `rtol` * |expected|.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tolerance {
    /// Relative to the expected number; finite and not negative.
    pub rtol: f64,
    /// In the number's own unit; finite and not negative.
    pub atol: f64,
}

impl Tolerance {
    /// Whether `actual` is near enough. NaN matches NaN, and an infinity only itself.
    pub fn allows(self, expected: f64, actual: f64) -> bool {
        if expected.is_nan() || actual.is_nan() {
            return expected.is_nan() && actual.is_nan();
        }
        if expected.is_infinite() || actual.is_infinite() {
            return expected == actual;
        }
        (actual - expected).abs() <= self.atol + self.rtol * expected.abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_numbers_match_only_themselves() {
        let wide = Tolerance {
            rtol: 1.0,
            atol: 1e300,
        };
        assert!(wide.allows(f64::NAN, f64::NAN));
        assert!(!wide.allows(f64::NAN, 0.0));
        assert!(wide.allows(f64::INFINITY, f64::INFINITY));
        assert!(!wide.allows(f64::INFINITY, f64::NEG_INFINITY));
        assert!(!wide.allows(f64::INFINITY, f64::MAX));
    }

    #[test]
    fn the_border_itself_is_allowed() {
        let quarter = Tolerance {
            rtol: 0.25,
            atol: 0.0,
        };
        assert!(quarter.allows(4.0, 5.0));
        assert!(!quarter.allows(4.0, 5.0000001));
        assert!(!quarter.allows(0.0, 1e-300));
    }
}
