//! How far a metric may rise before its gate fails.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Metric;

/// The limit of each gated metric.
pub type Gate = BTreeMap<Metric, Limit>;

/// What holds where nothing else is said: instructions may rise by half a percent.
pub fn default_gate() -> Gate {
    Gate::from([(Metric::Instructions, Limit::Percent(0.5))])
}

/// A percentage has at most this many decimals, so that it can be held against counts without rounding.
const PERCENT_DECIMALS: usize = 9;
/// The largest percentage; with it, billionths of a percent are whole numbers below 2^53.
const PERCENT_MOST: f64 = 1e6;

/// A gate's limit, as written in a manifest. A count may always fall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// `"0.5%"`: at most this many parts in 100 above the baseline; at most 1000000, with at most 9 decimals.
    Percent(f64),
    /// `"+1000"`: at most this many above the baseline.
    Absolute(u64),
    /// `1000` or `"<=1000"`: at most this many, whatever the baseline says.
    Ceiling(u64),
}

/// A text that is not a limit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a limit; write `\"0.5%\"` (above the baseline; at most 9 decimals), `\"+1000\"` (above the baseline) or `\"<=1000\"` (hard ceiling)"
)]
pub struct LimitError(pub String);

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let bad = || LimitError(text.to_owned());
        let count = |digits: &str| {
            let digits = digits.trim().replace('_', "");
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).ok_or_else(bad)
        };
        if let Some(number) = text.strip_suffix('%') {
            let digits = number.trim();
            let percent: f64 = digits.parse().map_err(|_| bad())?;
            let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let decimals = digits.split_once('.').map_or(0, |(_, after)| after.len());
            let usable = plain && decimals <= PERCENT_DECIMALS && percent <= PERCENT_MOST;
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
        for text in [
            "",
            "5",
            "-1%",
            "NaN%",
            "inf%",
            "+-3",
            "%",
            "<=",
            "1e3",
            "1e2%",
            "1000001%",
            "0.0000000001%",
            "++1",
        ] {
            assert_eq!(text.parse::<Limit>(), Err(LimitError(text.to_owned())));
        }
    }
}
