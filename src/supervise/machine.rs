//! Which machine a job's programs are shown, and what of it remains the real one.

use super::choose::Chosen;
use super::job::Job;
use crate::dbi::cpu;
use crate::model::explanation::Disturbance;
use crate::model::{BackendKind, Cpu, CpuModel, Machine, Pin, Pinning, Threads, Time};
use crate::sys::machine::cpu_flags;

/// Why a pin of the machine does not hold.
const HOST_ASKED: &str = "the real machine was asked for";

/// Why a pin does not hold that another backend could hold.
pub(super) fn as_it_is(backend: BackendKind) -> String {
    format!("`{backend}` executes the program on this machine as it is")
}

/// The machine that was asked for cannot be shown here.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Programs would use instructions that this one does not have.
    #[error(
        "this machine's CPU cannot stand in for {model}: it has no {}; choose a lower one (x86-64-v2), or `host`",
        missing.join(", no ")
    )]
    Cpu {
        /// The model.
        model: CpuModel,
        /// The features, as Linux names them.
        missing: Vec<&'static str>,
    },
    /// Turns follow from the virtual clock.
    #[error(
        "threads take turns by the virtual clock, and real time was asked for; leave out `threads`, or set `time` to virtual"
    )]
    TurnsByRealTime,
    /// Another backend than the engine.
    #[error("`{backend}` shows programs the real {what}; only `dbi` can show another")]
    Backend {
        /// Which.
        backend: BackendKind,
        /// CPU, time or order of threads.
        what: &'static str,
    },
}

/// The machine that a job's programs are shown by this backend.
pub(super) fn shown(job: &Job, chosen: &Chosen) -> Result<Machine, MachineError> {
    let backend = chosen.info.name;
    if backend != BackendKind::Dbi {
        let what = match (job.shown.cpu, job.shown.time, job.shown.threads) {
            (Some(Cpu::Model(_)), _, _) => "CPU",
            (_, Some(Time::Virtual), _) => "time",
            (_, _, Some(Threads::Turns | Threads::Slices)) => "order of threads",
            _ => return Ok(Machine::default()),
        };
        return Err(MachineError::Backend { backend, what });
    }
    let free = if job.pin { Cpu::Any } else { Cpu::Host };
    let cpu = match job.shown.cpu.unwrap_or(free) {
        Cpu::Host => None,
        Cpu::Model(model) => {
            let missing = missing(model);
            if !missing.is_empty() {
                return Err(MachineError::Cpu { model, missing });
            }
            Some(model)
        }
        Cpu::Any => Some(CpuModel::default()).filter(|model| missing(*model).is_empty()),
    };
    let free = if job.pin { Time::Virtual } else { Time::Real };
    let virtual_time = job.shown.time.unwrap_or(free) == Time::Virtual;
    Ok(Machine {
        cpu,
        virtual_time,
        turns: turns(job, virtual_time)?,
        slices: job.shown.threads == Some(Threads::Slices),
        // Whoever wants the real processor wants the machine around it, but where that alone is to differ.
        host: job.pin
            && job.disturbance != Some(Disturbance::CpuCount)
            && (job.shown.cpu != Some(Cpu::Host) || job.disturbance == Some(Disturbance::CpuModel)),
    })
}

/// Whether threads take turns. Those that wait for a time are woken by the virtual clock.
fn turns(job: &Job, virtual_time: bool) -> Result<bool, MachineError> {
    match job.shown.threads {
        Some(Threads::Turns | Threads::Slices) if !virtual_time => {
            Err(MachineError::TurnsByRealTime)
        }
        Some(threads) => Ok(threads != Threads::Free),
        None => Ok(job.pin && virtual_time),
    }
}

/// What this machine lacks of a model.
fn missing(model: CpuModel) -> Vec<&'static str> {
    let flags = cpu_flags();
    let has = |needed: &str| flags.iter().any(|flag| flag == needed);
    let needed = cpu::needs(model).into_iter();
    needed.filter(|needed| !has(needed)).collect()
}

/// Records what is shown in the place of the real machine, and why the rest is not.
pub(super) fn note(job: &Job, machine: Machine, backend: BackendKind, pinning: &mut Pinning) {
    let only_dbi = || as_it_is(backend);
    match (machine.cpu, backend) {
        (Some(_), _) => pinning.pinned(Pin::CpuModel),
        (None, BackendKind::Dbi) if job.shown.cpu == Some(Cpu::Host) => {
            pinning.free(Pin::CpuModel, HOST_ASKED);
        }
        (None, BackendKind::Dbi) => {
            let model = CpuModel::default();
            let lacks = missing(model).join(", ");
            pinning.free(
                Pin::CpuModel,
                format!("this one is no {model} (without {lacks})"),
            );
        }
        (None, _) => pinning.free(Pin::CpuModel, only_dbi()),
    }
    for pin in [Pin::Host, Pin::DirectoryOrder] {
        match (machine.host, backend) {
            (true, _) => pinning.pinned(pin),
            (false, BackendKind::Dbi) => pinning.free(pin, HOST_ASKED),
            (false, _) => pinning.free(pin, only_dbi()),
        }
    }
    match (machine.virtual_time, backend) {
        (true, _) => pinning.pinned(Pin::Clock),
        (false, BackendKind::Dbi) => pinning.free(Pin::Clock, "real time was asked for"),
        (false, _) => pinning.free(Pin::Clock, only_dbi()),
    }
    match (machine.turns, backend) {
        // The backend knows whether they did.
        (true, _) => {}
        (false, BackendKind::Dbi) if machine.virtual_time => {
            pinning.free(Pin::ThreadOrder, "they were to run freely");
        }
        (false, BackendKind::Dbi) => pinning.free(Pin::ThreadOrder, "real time was asked for"),
        (false, _) => pinning.free(Pin::ThreadOrder, only_dbi()),
    }
}
