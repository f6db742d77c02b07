//! How far a metric may rise before its gate fails.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A gate's limit, as written in a manifest. A count may always fall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// `"0.5%"`: at most this many parts in 100 above the baseline.
    Percent(f64),
    /// `"+1000"`: at most this many above the baseline.
    Absolute(u64),
    /// `1000` or `"<=1000"`: at most this many, whatever the baseline says.
    Ceiling(u64),
}

/// A text that is not a limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a limit; write `\"0.5%\"` (above the baseline), `\"+1000\"` (above the baseline) or `\"<=1000\"` (hard ceiling)"
)]
pub struct LimitError(pub String);

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let bad = || LimitError(text.to_owned());
        let count = |digits: &str| digits.trim().replace('_', "").parse().map_err(|_| bad());
        if let Some(number) = text.strip_suffix('%') {
            let percent: f64 = number.trim().parse().map_err(|_| bad())?;
            let usable = percent.is_finite() && percent >= 0.0;
            usable.then_some(Limit::Percent(percent)).ok_or_else(bad)
        } else if let Some(digits) = text.strip_prefix('+') {
            count(digits).map(Limit::Absolute)
        } else if let Some(digits) = text.strip_prefix("<=") {
            count(digits).map(Limit::Ceiling)
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Percent(percent) => write!(f, "{percent}%"),
            Limit::Absolute(count) => write!(f, "+{count}"),
            Limit::Ceiling(count) => write!(f, "<={count}"),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a limit: \"0.5%\", \"+1000\", \"<=1000\" or a whole number"
        )]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(count) => Ok(Limit::Ceiling(count)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_way_of_writing_a_limit() {
        assert_eq!("0.5%".parse(), Ok(Limit::Percent(0.5)));
        assert_eq!("+1_000".parse(), Ok(Limit::Absolute(1000)));
        assert_eq!("<= 7".parse(), Ok(Limit::Ceiling(7)));
    }

    #[test]
    fn refuses_what_could_be_read_two_ways() {
        for text in ["", "5", "-1%", "NaN%", "inf%", "+-3", "%", "<=", "1e3"] {
            assert_eq!(text.parse::<Limit>(), Err(LimitError(text.to_owned())));
        }
    }
}
