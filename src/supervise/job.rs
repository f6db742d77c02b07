//! Running one command as often as asked and making a measurement of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build::Nobody;
use super::cancel::{self, Cancelled};
use super::choose::Chosen;
use super::command::{CommandError, Resolved, resolve};
use super::environment::StackLayout;
use super::fingerprint::{self, FingerprintError};
use super::follow;
use super::inherited;
use super::input::{Input, Source};
use super::machine::{self, MachineError};
use super::output::{Output, Sinks, Written};
use super::sandbox::{self, NetworkError};
use super::scratch::{Scratch, ScratchError};
use super::service::{ServiceError, Services};
use super::shims::record::Recording;
use super::shims::{Ready, ShimError};
use super::surroundings::Surroundings;
use crate::backend::{BackendError, Detail, finish};
use crate::model::explanation::Disturbance;
use crate::model::{
    BackendKind, Fingerprint, Machine, Measurement, Metric, Network, Outcome, Pin, PinState,
    Pinning, ProjectFolder, Repeats, Run, Shim, Shown, Split,
};
use crate::suite::{Recorder, Service};
use crate::sys::handle::Handle;
use crate::sys::spawn::Launch;
use crate::sys::tree;
use crate::sys::unread;

/// A command to measure, and how.
#[derive(Clone, Debug)]
pub struct Job {
    /// Program and arguments; the program is looked up in the `PATH` that the program itself will see.
    pub command: Vec<OsString>,
    /// Variables to set; they win over all others.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory; ours when absent.
    pub cwd: Option<PathBuf>,
    /// Its standard input.
    pub input: Input,
    /// Its standard output and error.
    pub output: Output,
    /// Whether sources of variation are removed.
    pub pin: bool,
    /// Whether it runs apart from our terminal and ends with us.
    pub own_session: bool,
    /// What the random bytes of a pinned run follow from. Jobs that run side by side have different ones, or
    /// they would choose the same names for temporary files.
    pub seed: u64,
    /// The machine that its programs shall see.
    pub shown: Shown,
    /// A condition that is changed on purpose in a pinned run.
    pub disturbance: Option<Disturbance>,
    /// The CPU a pinned run is confined to.
    pub cpu: usize,
    /// Its time limit.
    pub timeout: Option<Duration>,
    /// How often it runs; at least once.
    pub runs: u32,
    /// What is counted besides instructions.
    pub detail: Detail,
    /// Code under this folder is the subject; all other code is environment. Absent: the program is the subject.
    pub project: Option<PathBuf>,
    /// More files of the subject.
    pub subject: Vec<PathBuf>,
    /// Commands whose output is a fact of the environment.
    pub facts: Vec<Vec<String>>,
    /// Fake programs in front of `PATH`.
    pub shims: Vec<Shim>,
    /// The network that it has.
    pub network: Network,
    /// What runs beside it, started anew for each run.
    pub services: Vec<Service>,
    /// The exit code that is a success, any when absent; the logs of the services are kept when a run ends otherwise.
    pub exit: Option<i32>,
}

/// A measurement and what its runs wrote (where that was kept), in order.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The counts and all that belongs to them.
    pub measurement: Measurement,
    /// Output of each run; empty unless [`Output::Keep`].
    pub written: Vec<Written>,
    /// Logs of services that were kept because a run did not end as it should, by the service's name.
    pub logs: Vec<(String, PathBuf)>,
}

/// Why a job has no measurement.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The program cannot be started.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// No room for temporary files.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Input or output could not be set up.
    #[error("{doing}: {source}")]
    Stream {
        /// What was attempted.
        doing: String,
        /// The answer.
        source: io::Error,
    },
    /// A fact of the fingerprint could not be had.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    /// The machine that was asked for cannot be shown.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A shim was not called as it should be, or could not be made.
    #[error(transparent)]
    Shim(ShimError),
    /// The kernel refuses the network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A service failed.
    #[error(transparent)]
    Service(Box<ServiceError>),
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<ShimError> for JobError {
    fn from(error: ShimError) -> JobError {
        match error {
            ShimError::Cancelled(stop) => JobError::Cancelled(stop),
            other => JobError::Shim(other),
        }
    }
}

impl From<ServiceError> for JobError {
    fn from(error: ServiceError) -> JobError {
        match error {
            ServiceError::Cancelled(stop) => JobError::Cancelled(stop),
            ServiceError::Scratch(error) => JobError::Scratch(error),
            error => JobError::Service(Box::new(error)),
        }
    }
}

/// Runs the job's command under the chosen backend, one run after the other. A run that exceeds its time ends the
/// series. Runs that disagree are not an error: [`Measurement::repeats`] says so.
pub fn measure(job: &Job, chosen: &Chosen) -> Result<Measured, JobError> {
    let cwd = working_folder(job)?;
    let machine = machine::shown(job, chosen)?;
    let shims = Ready::prepare(&job.shims, job.seed)?;
    let bin = shims.as_ref().map(Ready::bin);
    let (resolved, launches) = prepare(job, &cwd, chosen, machine, bin.as_deref())?;
    let mut calls = BTreeMap::new();
    let mut input =
        Source::prepare(&job.input, job.runs).map_err(stream(input_name(&job.input)))?;
    let mut runs = Vec::new();
    let (mut written, mut logs) = (Vec::new(), Vec::new());
    for number in 1..=job.runs.max(1) {
        cancel::check()?;
        if let Some(shims) = &shims {
            shims.begin()?;
        }
        let mut once = run_once(job, chosen, &launches, &mut input)?;
        cancel::check()?;
        if let Some(shims) = &shims {
            let of_run = shims.finish(&mut once.run)?;
            if number == 1 {
                calls = of_run;
            }
        }
        written.extend(once.written);
        logs.extend(once.logs);
        runs.push(once.run);
        if runs
            .last()
            .is_some_and(|run| run.outcome == Outcome::TimedOut)
        {
            break;
        }
        if let Some(Outcome::Killed(signal)) = runs.last().map(|run| run.outcome)
            && number < job.runs
        {
            cancel::check_death(signal)?;
        }
    }
    let fingerprint = fingerprint::take(
        job,
        machine,
        &resolved.program,
        &cwd,
        &runs[0].modules,
        &chosen.info,
        passed_on(job, chosen, machine),
    )?;
    Ok(Measured {
        measurement: summarise(job, chosen, machine, runs, fingerprint, calls),
        written,
        logs,
    })
}

/// A run that was not counted, in which the real programs behind shims were called.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What they answered.
    pub shims: Vec<Shim>,
    /// How the run ended.
    pub outcome: Outcome,
    /// What it wrote.
    pub written: Written,
    /// Logs of services that were kept because it did not end as it should.
    pub logs: Vec<(String, PathBuf)>,
}

/// Runs the job's command once, uncounted, and records the programs that `recorders` name. The job's own shims are not
/// in its way.
pub fn record(job: &Job, chosen: &Chosen, recorders: &[Recorder]) -> Result<Recorded, JobError> {
    let cwd = working_folder(job)?;
    let machine = machine::shown(job, chosen)?;
    let path = Surroundings::of(job, machine, None, None).path();
    let recording = Recording::prepare(recorders, job.seed, &path, &cwd)?;
    let (_, launches) = prepare(job, &cwd, chosen, machine, Some(&recording.bin()))?;
    let mut input = Source::prepare(&job.input, 1).map_err(stream(input_name(&job.input)))?;
    let outcome = |finished: &tree::Finished| finish::outcome(finished.end);
    let backend = chosen.info.name;
    let once = surrounded(job, backend, &launches, &mut input, outcome, |launch| {
        Ok(tree::run(launch, &mut Nobody).map_err(BackendError::from)?)
    })?;
    cancel::check()?;
    Ok(Recorded {
        shims: recording.finish()?,
        outcome: finish::outcome(once.run.end),
        written: once.written.unwrap_or_default(),
        logs: once.logs,
    })
}

/// The file that a job's command will execute, from the root folder on.
pub fn program(job: &Job) -> Result<PathBuf, JobError> {
    let cwd = working_folder(job)?;
    let path = Surroundings::of(job, Machine::default(), None, None).path();
    Ok(cwd.join(resolve(&job.command, &path, &cwd)?.program))
}

pub(super) fn working_folder(job: &Job) -> Result<PathBuf, JobError> {
    let ours = std::env::current_dir().map_err(stream("find the current folder".to_owned()))?;
    Ok(job
        .cwd
        .as_ref()
        .map_or_else(|| ours.clone(), |cwd| ours.join(cwd)))
}

pub(super) fn stream(doing: String) -> impl FnOnce(io::Error) -> JobError {
    move |source| JobError::Stream { doing, source }
}

pub(super) fn input_name(input: &Input) -> String {
    match input {
        Input::File(path) => format!("open standard input `{}`", path.display()),
        Input::Null | Input::Inherit => "set up standard input".to_owned(),
    }
}

/// The launch that all runs share; only the streams differ.
pub(super) struct Launches {
    /// For programs that see the project's folder where it is.
    outside: Launch,
    /// For those that see it where it is seen everywhere, if there is to be any.
    inside: Option<Launch>,
}

/// What all runs start. `bin` comes first in the program's `PATH`; the program itself is not looked for there.
pub(super) fn prepare(
    job: &Job,
    cwd: &Path,
    chosen: &Chosen,
    machine: Machine,
    bin: Option<&Path>,
) -> Result<(Resolved, Launches), JobError> {
    let path = Surroundings::of(job, machine, None, None).path();
    let resolved = resolve(&job.command, &path, cwd)?;
    let launch = |folder: Option<&ProjectFolder>| {
        let env = Surroundings::of(job, machine, bin, folder);
        let shown = folder.map_or_else(|| resolved.clone(), |folder| resolved.inside(folder));
        let mut env = env.for_program(&shown, &head(&cwd.join(&resolved.program)), layout(chosen));
        if let (Some(Disturbance::EnvLength), Some(first)) = (job.disturbance, env.first_mut()) {
            // The padding, so that no other variable is longer and none is more.
            first.push("x".repeat(follow::MORE_BYTES));
        }
        let seen = |cwd: &PathBuf| folder.map_or_else(|| cwd.clone(), |folder| folder.inside(cwd));
        Launch {
            cwd: job.cwd.as_ref().map(seen),
            ..started(job, machine, shown, env)
        }
    };
    let folder = sandbox::seen(job, chosen.info.name).ok();
    let launches = Launches {
        outside: launch(None),
        inside: folder.as_ref().map(|folder| launch(Some(folder))),
    };
    Ok((resolved, launches))
}

/// The variables that reach the program from outside, as the fingerprint has them. Those of a run that is not pinned are
/// not known by name.
fn passed_on(job: &Job, chosen: &Chosen, machine: Machine) -> BTreeMap<String, String> {
    let folder = sandbox::seen(job, chosen.info.name).ok();
    match Surroundings::of(job, machine, None, folder.as_ref()) {
        Surroundings::Pinned(environment) => fingerprint::digests(environment.passed_on(&job.env)),
        Surroundings::Ours(_) => BTreeMap::new(),
    }
}

/// A job's program with these variables, and with the pins that hold from the start.
fn started(job: &Job, machine: Machine, resolved: Resolved, env: Vec<OsString>) -> Launch {
    Launch {
        program: resolved.program,
        args: resolved.args,
        env,
        fixed_addresses: job.pin && job.disturbance != Some(Disturbance::Aslr),
        fixed_random: job.pin,
        no_vdso: job.pin,
        no_clone3: job.pin,
        random_seed: job.pin.then_some(job.seed),
        cpu: (job.pin && job.disturbance != Some(Disturbance::CpuCount)).then_some(job.cpu),
        own_session: job.own_session,
        machine,
        signals: inherited::signals(job),
        stack_limit: inherited::stack_limit(job),
        timeout: job.timeout,
        ..Launch::default()
    }
}

/// Valgrind lays its client's stack out itself.
fn layout(chosen: &Chosen) -> StackLayout {
    match chosen.info.name {
        BackendKind::Cachegrind | BackendKind::Callgrind => StackLayout::Valgrind,
        BackendKind::Perf | BackendKind::Dbi | BackendKind::Step | BackendKind::Fake => {
            StackLayout::Kernel
        }
    }
}

/// The first bytes of a file, as many as the kernel looks at for `#!` (BINPRM_BUF_SIZE, linux/binfmts.h).
fn head(file: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = unread::open(file).and_then(|file| file.take(256).read_to_end(&mut bytes));
    read.map_or_else(|_| Vec::new(), |_| bytes)
}

/// One run, and what is left of it.
pub(super) struct Once<T> {
    pub(super) run: T,
    /// Whether it had process ids of its own.
    ids: PinState,
    /// Whether it saw the project where that is seen everywhere; absent without a project.
    folder: Option<PinState>,
    /// Whether its programs were the user asked for; absent where none was.
    user: Option<PinState>,
    written: Option<Written>,
    logs: Vec<(String, PathBuf)>,
}

fn run_once(
    job: &Job,
    chosen: &Chosen,
    launches: &Launches,
    input: &mut Source,
) -> Result<Once<Run>, JobError> {
    let needed = chosen.backend.needs_folder();
    let scratch = needed.then(Scratch::new).transpose()?;
    let folder = scratch.as_ref().map_or(Path::new(""), Scratch::path);
    let outcome = |run: &Run| run.outcome;
    let backend = chosen.info.name;
    let mut once = surrounded(job, backend, launches, input, outcome, |launch| {
        Ok(chosen.backend.run(launch, job.detail, folder)?)
    })?;
    let pins = &mut once.run.pinning.0;
    pins.insert(Pin::ProcessIds, once.ids.clone());
    if let Some(folder) = once.folder.clone() {
        pins.insert(Pin::ProjectFolder, folder);
    }
    if let Some(user) = once.user.clone() {
        pins.insert(Pin::User, user);
    }
    Ok(once)
}

/// Runs the program with the job's streams, with what it has of its own and beside its services.
pub(super) fn surrounded<T>(
    job: &Job,
    backend: BackendKind,
    launches: &Launches,
    input: &mut Source,
    outcome: impl FnOnce(&T) -> Outcome,
    run: impl FnOnce(&Launch) -> Result<T, JobError>,
) -> Result<Once<T>, JobError> {
    let sinks = Sinks::open(job.output, job.pin)
        .map_err(stream("set up the program's output".to_owned()))?;
    let with_streams = |launch: &Launch, stdin| Launch {
        stdin,
        stdout: sinks.stdout.clone(),
        stderr: sinks.stderr.clone(),
        ..launch.clone()
    };
    let stdin = input.next().map_err(stream(input_name(&job.input)))?;
    let launch = with_streams(&launches.outside, stdin.clone());
    let own = sandbox::open(job, backend, &launch)?;
    let launch = match launches.inside.as_ref().filter(|_| own.shows_project()) {
        Some(inside) => with_streams(inside, stdin),
        None => launch,
    };
    let handle = Handle::default();
    let services = Services::start(&job.services, own.sandbox.as_ref(), &handle)?;
    let launch = Launch {
        sandbox: own.sandbox,
        handle,
        beside: services.handles(),
        ..launch
    };
    let program = cancel::Program::begins();
    let run = run(&launch);
    drop(program);
    cancel::check()?;
    services.check()?;
    let run = run?;
    let succeeded = match outcome(&run) {
        Outcome::Exited(code) => job.exit.is_none_or(|wanted| wanted == code),
        Outcome::Killed(_) | Outcome::TimedOut => false,
    };
    let logs = match succeeded {
        true => Vec::new(),
        false => services.keep_logs(),
    };
    drop(services);
    let written = sinks
        .collect()
        .map_err(stream("read the program's output".to_owned()))?;
    Ok(Once {
        run,
        ids: own.ids,
        folder: own.folder,
        user: own.user,
        written,
        logs,
    })
}

fn summarise(
    job: &Job,
    chosen: &Chosen,
    machine: Machine,
    runs: Vec<Run>,
    fingerprint: Fingerprint,
    shims: BTreeMap<String, u64>,
) -> Measurement {
    let repeats = Repeats {
        instructions: runs.iter().map(|run| run.instructions).collect(),
        agree: runs.windows(2).all(|pair| same_counts(&pair[0], &pair[1])),
    };
    let mut runs = runs.into_iter();
    let Some(first) = runs.next() else {
        unreachable!("a job runs at least once")
    };
    Measurement {
        command: job
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        backend: chosen.info.clone(),
        outcome: first.outcome,
        metrics: BTreeMap::from([(Metric::Instructions, first.instructions)]),
        opcodes: first.opcodes.filter(|_| job.detail.opcodes),
        functions: first.functions.filter(|_| job.detail.functions),
        regions: first.regions,
        split: Split::of(&first.processes),
        processes: first.processes,
        shims,
        repeats,
        pinned: pinning(job, chosen, machine, first.pinning),
        fingerprint,
        caveats: first.caveats,
        attempts: first.attempts,
    }
}

/// Everything that the definition of a count covers must be equal; pinning and modules are not counts.
fn same_counts(a: &Run, b: &Run) -> bool {
    a.outcome == b.outcome
        && a.instructions == b.instructions
        && a.opcodes == b.opcodes
        && a.functions == b.functions
        && a.regions == b.regions
}

/// What the backend held, and what the environment and the streams of this job hold.
fn pinning(job: &Job, chosen: &Chosen, machine: Machine, held_by_backend: Pinning) -> Pinning {
    let mut all = match job.pin {
        true => pinned(job, chosen, machine, held_by_backend),
        false => unpinned(held_by_backend),
    };
    match job.network {
        // The backend knows why the answers of services are not fixed.
        _ if all.0.contains_key(&Pin::Network) => {}
        Network::Host => all.free(Pin::Network, "the host's network"),
        Network::None | Network::Loopback => all.pinned(Pin::Network),
    }
    all
}

/// Of what a run has of its own, only that which was asked for by name is there.
fn unpinned(held: Pinning) -> Pinning {
    let by_name = [Pin::ProjectFolder, Pin::User];
    let mut all = held;
    all.0.retain(|pin, _| by_name.contains(pin));
    for pin in Pin::ALL.into_iter().filter(|pin| !by_name.contains(pin)) {
        all.free(pin, "pinning is switched off");
    }
    all
}

fn pinned(job: &Job, chosen: &Chosen, machine: Machine, held_by_backend: Pinning) -> Pinning {
    let mut all = held_by_backend;
    all.pinned(Pin::StackLayout);
    if let Surroundings::Pinned(environment) = Surroundings::of(job, machine, None, None) {
        environment.note(&mut all);
    }
    machine::note(job, machine, chosen.info.name, &mut all);
    inherited::note(job, &mut all);
    match job.input {
        Input::Inherit => all.free(Pin::Stdin, "the program reads ours"),
        Input::Null | Input::File(_) => all.pinned(Pin::Stdin),
    }
    all
}
