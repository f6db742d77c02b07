//! Valgrind's cachegrind and callgrind.

pub mod cachegrind_out;
pub mod callgrind_out;
mod format;
mod launch;
#[cfg(target_arch = "x86_64")]
mod snapshot;
pub use format::FormatError;
