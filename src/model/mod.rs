//! Plain data: what is counted, what a measurement is made of, how two of them compare.
//!
//! Nothing here measures, reads a file or prints. Every other layer may use this one.

mod comparison;
mod counts;
pub mod course;
pub mod explanation;
mod fingerprint;
mod folder;
mod limit;
mod machine;
mod measurement;
mod metric;
mod network;
mod normalize;
mod pinning;
mod shim;
mod stored;
mod tolerance;

pub use comparison::{Change, Comparison, Difference, MetricChange, Side, Verdict};
pub use counts::{CountOverflow, FunctionCount, Functions, OpcodeMix, sum};
pub use fingerprint::Fingerprint;
pub use folder::ProjectFolder;
pub use limit::{Gate, Limit, LimitError, default_gate};
pub use machine::{
    Cpu, CpuModel, Folder, Machine, Shown, Threads, Time, UnknownChoice, UnknownCpu, User,
};
pub use measurement::{
    BackendInfo, BackendKind, Caveat, Measurement, Outcome, ProcessCount, RegionCount, Repeats,
    Run, Split, UnknownBackend,
};
pub use metric::{Metric, UnknownMetric};
pub use network::{Attempt, Network, UnknownNetwork};
pub use normalize::{Normalize, Replacement};
pub use pinning::{Pin, PinState, Pinning};
pub use shim::{Answer, Content, Shim};
pub use stored::{Accepted, Rest, StoredCase, StoredFunctions};
pub use tolerance::Tolerance;

/// Version of everything this program writes as JSON: reports and baselines.
///
/// It grows by one when a field changes its meaning or disappears; new fields do not change it.
/// What was not counted or does not apply is an absent key: nothing here is ever written as `null`.
pub const SCHEMA: u32 = 1;
