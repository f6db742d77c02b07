//! The network that a program has, and what it tried to reach that is not there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::explanation::Spot;

/// The network that a program has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// None at all: every attempt to reach another address fails, its own machine's too.
    None,
    /// A network of its own with 127.0.0.1 and ::1, where nobody listens but itself and its services.
    Loopback,
    /// The machine's.
    #[default]
    Host,
}

/// A text that names no network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown network `{0}`; known are `none`, `loopback` and `host`")]
pub struct UnknownNetwork(pub String);

impl Network {
    /// Every one of them.
    pub const ALL: [Network; 3] = [Network::None, Network::Loopback, Network::Host];

    /// The name used on the command line and in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Network::None => "none",
            Network::Loopback => "loopback",
            Network::Host => "host",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        let mut all = Network::ALL.into_iter();
        all.find(|network| network.name() == name)
            .ok_or_else(|| UnknownNetwork(name.to_owned()))
    }
}

/// What a program without the machine's network tried to reach in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The program: path of its executable.
    pub program: String,
    /// Its process, as this run numbered it.
    pub pid: i32,
    /// The address with its port: `93.184.216.34:443`, `[2001:db8::1]:53`.
    pub address: String,
    /// How often it was tried.
    pub times: u64,
    /// Who tried it first: the function that called the C library, its caller, and so on; empty where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<Spot>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_no_other_is_known() {
        for network in Network::ALL {
            assert_eq!(network.name().parse(), Ok(network));
        }
        let unknown = UnknownNetwork("lo".to_owned());
        assert_eq!("lo".parse::<Network>(), Err(unknown));
    }
}
