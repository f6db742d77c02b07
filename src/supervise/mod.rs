//! One workload from command to measurement.

pub mod environment;
