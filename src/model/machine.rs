//! The machine that a program is shown in place of the real one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A processor that programs are shown, named after the level of the x86-64 psABI whose instructions it has.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum CpuModel {
    /// SSE4.2.
    #[serde(rename = "x86-64-v2")]
    V2,
    /// AVX2.
    #[default]
    #[serde(rename = "x86-64-v3")]
    V3,
    /// AVX-512.
    #[serde(rename = "x86-64-v4")]
    V4,
}

impl CpuModel {
    /// Every model.
    pub const ALL: [CpuModel; 3] = [CpuModel::V2, CpuModel::V3, CpuModel::V4];

    /// Its name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            CpuModel::V2 => "x86-64-v2",
            CpuModel::V3 => "x86-64-v3",
            CpuModel::V4 => "x86-64-v4",
        }
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Which processor programs shall see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&str", try_from = "String")]
pub enum Cpu {
    /// The default model where this machine can execute what it promises, else this machine's own.
    #[default]
    Any,
    /// This one, or none.
    Model(CpuModel),
    /// That of this machine.
    Host,
}

/// No such processor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no CPU; use x86-64-v2, x86-64-v3, x86-64-v4 or host")]
pub struct UnknownCpu(String);

impl FromStr for Cpu {
    type Err = UnknownCpu;

    fn from_str(text: &str) -> Result<Cpu, UnknownCpu> {
        let model = CpuModel::ALL.into_iter().find(|model| model.name() == text);
        match model {
            Some(model) => Ok(Cpu::Model(model)),
            None if text == "host" => Ok(Cpu::Host),
            None => Err(UnknownCpu(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Cpu {
    type Error = UnknownCpu;

    fn try_from(text: String) -> Result<Cpu, UnknownCpu> {
        text.parse()
    }
}

impl From<Cpu> for &'static str {
    fn from(cpu: Cpu) -> &'static str {
        match cpu {
            Cpu::Any => "any",
            Cpu::Model(model) => model.name(),
            Cpu::Host => "host",
        }
    }
}

/// A text that is none of a few names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is {what}; use {choices}")]
pub struct UnknownChoice {
    given: String,
    what: &'static str,
    choices: String,
}

/// That of several whose name is given; `what` is said of another name.
fn one_of<T, const N: usize>(
    given: &str,
    choices: [(&'static str, T); N],
    what: &'static str,
) -> Result<T, UnknownChoice> {
    let names = choices.each_ref().map(|(name, _)| *name).join(" or ");
    let mut choices = choices.into_iter();
    let chosen = choices.find(|(name, _)| *name == given);
    chosen.map(|(_, choice)| choice).ok_or(UnknownChoice {
        given: given.to_owned(),
        what,
        choices: names,
    })
}

/// Which time programs shall see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Time {
    /// A clock that starts at the same moment in every run, and advances by a nanosecond an instruction and by what the
    /// program sleeps.
    #[default]
    Virtual,
    /// That of this machine.
    Real,
}

impl FromStr for Time {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Time, UnknownChoice> {
        let both = [("virtual", Time::Virtual), ("real", Time::Real)];
        one_of(text, both, "no time")
    }
}

/// How the threads of a process run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Threads {
    /// One at a time, until it waits for something: in the same order in every run.
    #[default]
    Turns,
    /// The same, and not for longer than a slice.
    Slices,
    /// As the kernel has them run.
    Free,
}

impl FromStr for Threads {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Threads, UnknownChoice> {
        let all = [
            ("turns", Threads::Turns),
            ("slices", Threads::Slices),
            ("free", Threads::Free),
        ];
        one_of(text, all, "no way for threads to run")
    }
}

/// Where the programs of a suite see the project's folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Folder {
    /// At one path, whatever checkout they run in.
    #[default]
    Fixed,
    /// Where it is.
    Host,
}

impl FromStr for Folder {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Folder, UnknownChoice> {
        let both = [("fixed", Folder::Fixed), ("host", Folder::Host)];
        one_of(text, both, "no place for the project's folder")
    }
}

/// Who programs find themselves to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum User {
    /// The user who runs us.
    #[default]
    Host,
    /// Root, with no more rights than that user has.
    Root,
}

impl FromStr for User {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<User, UnknownChoice> {
        let both = [("host", User::Host), ("root", User::Root)];
        one_of(text, both, "no user")
    }
}

/// The machine that is asked for; what is absent is for others to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The processor.
    pub cpu: Option<Cpu>,
    /// The time.
    pub time: Option<Time>,
    /// How threads run.
    pub threads: Option<Threads>,
    /// Where the project's folder is seen.
    pub folder: Option<Folder>,
    /// Who its programs are.
    pub user: Option<User>,
}

/// What a run's programs are shown of the machine; what is absent is the real one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The processor.
    pub cpu: Option<CpuModel>,
    /// Whether clocks are virtual.
    pub virtual_time: bool,
    /// Whether the machine has a fixed name, kernel, memory and load, one CPU, and directories in order.
    pub host: bool,
    /// Whether threads and processes take turns.
    pub turns: bool,
    /// Whether no turn takes longer than a slice.
    pub slices: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_known_by_its_name_or_refused_with_the_names_there_are() {
        for model in CpuModel::ALL {
            assert_eq!(model.name().parse(), Ok(Cpu::Model(model)));
        }
        assert_eq!("host".parse(), Ok(Cpu::Host));
        let error = "haswell".parse::<Cpu>().unwrap_err().to_string();
        assert!(
            error.contains("`haswell`") && error.contains("x86-64-v3"),
            "{error}"
        );
    }
}
