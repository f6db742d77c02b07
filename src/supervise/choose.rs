//! Which backend counts: the one asked for, or the best that works here.

use super::cancel::{self, Cancelled};
use crate::backend::{Backend, BackendError, Detail, Settings, Unavailable, all};
use crate::model::{BackendInfo, BackendKind};

/// A backend that was probed and counts, and what to report of it.
pub struct Chosen {
    /// The backend.
    pub backend: Box<dyn Backend>,
    /// Its name and version, and why it was chosen.
    pub info: BackendInfo,
}

/// No backend can do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// The backend that was asked for cannot.
    #[error(transparent)]
    Asked(#[from] BackendError),
    /// None of all can.
    #[error("no backend works here{}; `counterfoil doctor` says more", list(.0))]
    None(Vec<(BackendKind, Unavailable)>),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn list(tried: &[(BackendKind, Unavailable)]) -> String {
    tried
        .iter()
        .map(|(kind, why)| format!("\n  {kind}: {why}"))
        .collect()
}

/// Backends in the order `auto` tries them: fast before slow. callgrind comes after cachegrind because it is
/// slower, and is reached when the detail asked for needs it.
const ORDER: [BackendKind; 5] = [
    BackendKind::Perf,
    BackendKind::Dbi,
    BackendKind::Cachegrind,
    BackendKind::Callgrind,
    BackendKind::Step,
];

/// The backend `asked` for, or with none the first that gives `want` and passes its probe.
pub fn choose(
    asked: Option<BackendKind>,
    want: Detail,
    settings: &Settings,
) -> Result<Chosen, ChooseError> {
    let chosen = match asked {
        Some(kind) => take(kind, want, settings).map_err(ChooseError::from),
        None => choose_best(want, settings),
    };
    // A probe that a signal cut short says nothing about its backend.
    cancel::check()?;
    chosen
}

fn take(kind: BackendKind, want: Detail, settings: &Settings) -> Result<Chosen, BackendError> {
    let backend = all::open(kind, settings);
    refuse_missing_detail(kind, backend.offers(), want)?;
    let ready = backend
        .probe()
        .map_err(|source| BackendError::Unavailable { kind, source })?;
    let info = BackendInfo {
        name: kind,
        version: ready.version,
        why: "asked for".to_owned(),
    };
    Ok(Chosen { backend, info })
}

fn refuse_missing_detail(
    kind: BackendKind,
    offers: Detail,
    want: Detail,
) -> Result<(), BackendError> {
    let remedy = "use `--backend callgrind` or `--backend step`, or let `auto` choose";
    let missing = [
        (want.opcodes && !offers.opcodes, "opcodes"),
        (want.functions && !offers.functions, "functions"),
        (want.regions && !offers.regions, "regions"),
    ];
    match missing.into_iter().find(|(missing, _)| *missing) {
        Some((_, what)) => Err(BackendError::NotOffered { kind, what, remedy }),
        None => Ok(()),
    }
}

fn choose_best(want: Detail, settings: &Settings) -> Result<Chosen, ChooseError> {
    let mut passed = Vec::new();
    let mut tried = Vec::new();
    for kind in ORDER {
        let backend = all::open(kind, settings);
        if !want.within(backend.offers()) {
            passed.push(format!(
                "{kind} does not count {}",
                lacking(backend.offers(), want)
            ));
            continue;
        }
        match backend.probe() {
            Ok(ready) => {
                let why = explain(kind, &passed);
                let info = BackendInfo {
                    name: kind,
                    version: ready.version,
                    why,
                };
                return Ok(Chosen { backend, info });
            }
            Err(unavailable) => {
                passed.push(format!("{kind}: {}", unavailable.reason));
                tried.push((kind, unavailable));
            }
        }
    }
    Err(ChooseError::None(tried))
}

fn lacking(offers: Detail, want: Detail) -> &'static str {
    match (
        want.opcodes && !offers.opcodes,
        want.functions && !offers.functions,
    ) {
        (true, _) => "opcodes",
        (_, true) => "functions",
        _ => "regions",
    }
}

fn explain(kind: BackendKind, passed: &[String]) -> String {
    match (kind, passed) {
        (_, []) => "the first choice".to_owned(),
        (BackendKind::Step, _) => format!("the last resort, slow; {}", passed.join("; ")),
        _ => passed.join("; "),
    }
}
