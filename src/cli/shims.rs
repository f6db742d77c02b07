//! The shims of a suite's cases: written by hand, replayed from what `record` has kept, or recorded anew.

use super::exit::Failure;
use super::suite::unexpected_end;
use crate::baseline::Store;
use crate::model::{Outcome, Shim};
use crate::suite::{Case, Recorder, ShimSource};
use crate::supervise::choose::Chosen;
use crate::supervise::{Job, JobError, record};

/// Where the answers of recorded shims come from.
#[derive(Clone, Copy, Debug)]
pub enum Shims<'a> {
    /// From this store.
    Replay(&'a Store),
    /// From the real programs, now.
    Record,
}

impl Shims<'_> {
    /// The recordings of one case, in the order of its recorded shims; absent where there is none yet.
    pub fn load(self, case: &Case) -> Result<Vec<Option<Shim>>, Failure> {
        let Shims::Replay(store) = self else {
            return Ok(Vec::new());
        };
        let load =
            |recorder: &Recorder| store.load_recording(&case.workload, &case.id, &recorder.name);
        let loaded: Result<_, _> = recorders(case).map(load).collect();
        Ok(loaded?)
    }

    /// Gives `job`, which runs `case`, its shims. What was recorded on the way, or why the case has failed.
    pub fn equip(
        self,
        case: &Case,
        job: &mut Job,
        chosen: &Chosen,
        loaded: &[Option<Shim>],
    ) -> Result<Result<Vec<Shim>, String>, JobError> {
        let written = case.shims.iter().filter_map(|source| match source {
            ShimSource::Canned(shim) => Some(shim.clone()),
            ShimSource::Recorded(_) => None,
        });
        let written: Vec<Shim> = written.collect();
        let wanted: Vec<Recorder> = recorders(case).cloned().collect();
        if wanted.is_empty() {
            job.shims = written;
            return Ok(Ok(Vec::new()));
        }
        let recorded = match self {
            Shims::Replay(_) => replayed(&wanted, loaded),
            Shims::Record => {
                job.shims.clone_from(&written);
                anew(case, job, chosen, &wanted)?
            }
        };
        Ok(recorded.map(|recorded| {
            job.shims = written
                .into_iter()
                .chain(recorded.iter().cloned())
                .collect();
            match self {
                Shims::Replay(_) => Vec::new(),
                Shims::Record => recorded,
            }
        }))
    }
}

/// The shims of a case that are recorded.
pub fn recorders(case: &Case) -> impl Iterator<Item = &Recorder> {
    case.shims.iter().filter_map(|source| match source {
        ShimSource::Recorded(recorder) => Some(recorder),
        ShimSource::Canned(_) => None,
    })
}

fn replayed(wanted: &[Recorder], loaded: &[Option<Shim>]) -> Result<Vec<Shim>, String> {
    let one = |(recorder, shim): (&Recorder, &Option<Shim>)| {
        let none = || {
            let name = &recorder.name;
            format!(
                "shim `{name}` has no recording here; run `counterfoil record`, which calls the real `{name}`"
            )
        };
        shim.clone().ok_or_else(none)
    };
    wanted.iter().zip(loaded).map(one).collect()
}

fn anew(
    case: &Case,
    job: &Job,
    chosen: &Chosen,
    wanted: &[Recorder],
) -> Result<Result<Vec<Shim>, String>, JobError> {
    let recorded = record(job, chosen, wanted)?;
    let fine = match recorded.outcome {
        Outcome::Exited(code) => case.snapshot.exit || code == case.exit,
        Outcome::Killed(_) | Outcome::TimedOut => false,
    };
    if fine {
        return Ok(Ok(recorded.shims));
    }
    let how = unexpected_end(
        case,
        recorded.outcome,
        &[],
        &[recorded.written],
        &recorded.logs,
    );
    Ok(Err(format!("when its shims were recorded, {how}")))
}
