//! Valgrind's cachegrind and callgrind.

pub mod cachegrind_out;
pub mod callgrind_out;
mod format;
pub use format::FormatError;
