//! Measurements held against each other, and outputs against their snapshots. Pure: data in, data
//! out.
//!
//! [`judge`] gives the verdict on one case against its baseline, [`missing`] and [`failed`] those
//! that need no counts, [`sides`] sets any number of commands beside each other,
//! [`normalize`] takes out of outputs what differs anyway, [`snapshot`] compares them, and
//! [`parity`] does so between cases. [`parting`] finds where the courses of two runs part, and [`finding`] why.

mod cause;
mod changes;
mod course_index;
mod gate;
mod judge;
pub mod normalize;
mod numbers;
pub mod parity;
mod parting;
mod side_by_side;
pub mod snapshot;

pub use cause::{Evidence, finding};
pub use judge::{disagreement, failed, judge, missing, not_reproducible, noted, wrong_output};
pub use parting::{Parting, origin, parting};
pub use side_by_side::sides;
