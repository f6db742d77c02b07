//! The names of what is counted, as they stand in reports, baselines and gates.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing that is counted and can be gated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Retired user-mode instructions of the whole process tree.
    Instructions,
    /// Executions of one opcode, by its mnemonic without prefixes (`opcodes.div`).
    Opcode(String),
    /// Retired user-mode instructions inside one marked region (`regions.parse`).
    Region(String),
}

/// A metric's name that nothing here counts.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown metric `{0}`; known are `instructions`, `opcodes.MNEMONIC` and `regions.NAME`")]
pub struct UnknownMetric(pub String);

const OPCODES: &str = "opcodes.";
const REGIONS: &str = "regions.";

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metric::Instructions => f.write_str("instructions"),
            Metric::Opcode(mnemonic) => write!(f, "{OPCODES}{mnemonic}"),
            Metric::Region(name) => write!(f, "{REGIONS}{name}"),
        }
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        let part = |prefix| {
            name.strip_prefix(prefix)
                .filter(|rest: &&str| !rest.is_empty())
        };
        if name == "instructions" {
            Ok(Metric::Instructions)
        } else if let Some(mnemonic) = part(OPCODES) {
            Ok(Metric::Opcode(mnemonic.to_owned()))
        } else if let Some(region) = part(REGIONS) {
            Ok(Metric::Region(region.to_owned()))
        } else {
            Err(UnknownMetric(name.to_owned()))
        }
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_the_metric_that_wrote_it() {
        for name in ["instructions", "opcodes.div", "regions.parse.json"] {
            assert_eq!(name.parse::<Metric>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn refuses_names_that_nothing_counts() {
        for name in ["", "instruction", "opcodes.", "regions.", "cycles"] {
            assert_eq!(name.parse::<Metric>(), Err(UnknownMetric(name.to_owned())));
        }
    }
}
