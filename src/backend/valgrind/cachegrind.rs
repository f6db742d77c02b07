//! The backend `cachegrind`: totals by process, without caches, opcodes or functions.

use std::path::Path;

use super::cachegrind_out::read_total;
use super::family::NoAutopsy;
use super::launch::{Extent, Tool, Valgrind};
use super::run::{Counts, open, own_counts, run};
use super::{listed, probe};
use crate::backend::{Backend, BackendError, Detail, Ready, Unavailable};
use crate::model::{BackendKind, Caveat, Run, sum};
use crate::sys::spawn::Launch;

/// Valgrind's cachegrind with its cache simulation off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cachegrind;

impl Backend for Cachegrind {
    fn kind(&self) -> BackendKind {
        BackendKind::Cachegrind
    }

    fn offers(&self) -> Detail {
        Detail::default()
    }

    fn refuses(&self, program: &Path) -> Option<String> {
        super::refuses(Tool::Cachegrind, program)
    }

    fn probe(&self) -> Result<Ready, Unavailable> {
        probe(self, 0)
    }

    fn needs_folder(&self) -> bool {
        true
    }

    fn run(&self, launch: &Launch, want: Detail, scratch: &Path) -> Result<Run, BackendError> {
        super::check_offer(self, want)?;
        let valgrind = Valgrind::find().map_err(|source| BackendError::Unavailable {
            kind: self.kind(),
            source,
        })?;
        let tool = Tool::Cachegrind;
        let ran = run(
            &valgrind,
            tool,
            Extent::Whole,
            launch,
            scratch,
            &mut NoAutopsy,
        )?;
        let mut caveats = ran.caveats;
        let mut counts = Vec::new();
        for member in &ran.members {
            let read = |file: &Path| read_total(open(file)?);
            let own = own_counts(tool, member, scratch, &mut caveats, read, u64::checked_sub)?;
            counts.push(match own {
                Counts::Own(count) => Some(count),
                Counts::Lost => None,
            });
        }
        caveats.push(Caveat::RepIterations);
        Ok(Run {
            outcome: ran.outcome,
            instructions: sum(counts.iter().flatten().copied())?,
            opcodes: None,
            functions: None,
            regions: None,
            processes: listed(&ran.members, &counts),
            modules: super::modules(&ran.members),
            pinning: ran.pinning,
            caveats,
            attempts: ran.attempts,
        })
    }
}
