//! Measurements held against each other, and outputs against their snapshots. Pure: data in, data
//! out.
//!
//! [`judge`] gives the verdict on one case against its baseline, [`missing`] and [`failed`] those
//! that need no counts, [`sides`] sets any number of commands beside each other,
//! [`snapshot`] compares output.

mod changes;
mod gate;
mod judge;
mod numbers;
mod side_by_side;
pub mod snapshot;

pub use judge::{disagreement, failed, judge, missing, not_reproducible, wrong_output};
pub use side_by_side::sides;
