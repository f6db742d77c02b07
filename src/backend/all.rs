//! Every backend by name.

use super::{Backend, Settings};
use crate::model::BackendKind;

/// The backend of this kind, not yet probed.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(unused_variables, reason = "there is no engine")
)]
pub fn open(kind: BackendKind, settings: &Settings) -> Box<dyn Backend> {
    match kind {
        BackendKind::Perf => Box::new(super::perf::Perf::default()),
        #[cfg(target_arch = "x86_64")]
        BackendKind::Dbi => Box::new(super::dbi::Dbi::new(settings.clone())),
        #[cfg(not(target_arch = "x86_64"))]
        BackendKind::Dbi => Box::new(super::absent::Absent {
            kind,
            reason: "the counting engine translates x86-64 code only",
        }),
        BackendKind::Cachegrind => Box::new(super::valgrind::Cachegrind),
        BackendKind::Callgrind => Box::new(super::valgrind::Callgrind::default()),
        BackendKind::Step => Box::new(super::step::Step::default()),
        BackendKind::Fake => Box::new(super::fake::Fake::from_environment()),
    }
}
