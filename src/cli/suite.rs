//! What `list`, `record` and `check` share: the manifest, the cases selected, and measuring them all.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use sha2::{Digest, Sha256};

use super::exit::Failure;
use super::shims::Shims;
use super::terminal::Terminal;
use crate::backend::{Detail, Settings};
use crate::baseline::{Output as Kept, Store};
use crate::compare::normalize::{Normalizer, Places};
use crate::compare::snapshot;
use crate::model::{Attempt, Measurement, Outcome, Pin, PinState, ProjectFolder, Shim};
use crate::report;
use crate::suite::{Case, CommandLine, Manifest, Selection};
use crate::supervise::choose::{Chosen, choose};
use crate::supervise::{
    Input, Job, JobError, Measured, Output, Written, build, measure, parallel, shows_folder,
};

/// Which manifest and which of its workloads.
#[derive(clap::Args, Debug)]
pub struct Selecting {
    /// Only workloads whose name contains one of these words, or the one that is named exactly.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Only workloads with this tag; repeat it for several.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// No workload whose name contains this, or with `tag:NAME` none that has the tag.
    #[arg(long, value_name = "FILTER")]
    exclude: Vec<String>,
    /// The manifest; without it, counterfoil.toml here or in the nearest folder above.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// A manifest with all its cases, and those selected.
pub struct Suite {
    /// The manifest.
    pub manifest: Manifest,
    /// Every case, in the manifest's order.
    pub all: Vec<Case>,
    /// The selected ones, in the same order.
    pub selected: Vec<Case>,
    /// Whether nothing was left out.
    pub complete: bool,
}

impl Selecting {
    /// The workloads that one word selects.
    pub fn only(filter: String, manifest: Option<PathBuf>) -> Selecting {
        Selecting {
            filters: vec![filter],
            tag: Vec::new(),
            exclude: Vec::new(),
            manifest,
        }
    }

    /// Reads the manifest and selects.
    pub fn open(&self) -> Result<Suite, Failure> {
        let path = match &self.manifest {
            Some(path) => path.clone(),
            None => Manifest::find(&current_folder()?)?,
        };
        self.select(Manifest::read(&path)?)
    }

    /// Selects from a manifest that is read already.
    fn select(&self, manifest: Manifest) -> Result<Suite, Failure> {
        let all = manifest.cases();
        let selection = self.selection();
        let selected = selection.pick(&all)?.into_iter().cloned().collect();
        Ok(Suite {
            manifest,
            all,
            selected,
            complete: selection.is_everything(),
        })
    }

    /// What the command line asks for.
    fn selection(&self) -> Selection {
        Selection {
            filters: self.filters.clone(),
            tags: self.tag.clone(),
            exclude: self.exclude.clone(),
        }
    }
}

fn current_folder() -> Result<PathBuf, Failure> {
    std::env::current_dir()
        .map_err(|error| Failure::Usage(format!("find the current folder: {error}")))
}

impl Suite {
    /// The folder of its baselines.
    pub fn store(&self) -> Store {
        Store::new(self.manifest.folder.join("baselines"))
    }

    /// Of the same suite in another checkout, the cases that are selected here.
    pub fn elsewhere(&self, folder: &Path) -> Result<Option<Suite>, Failure> {
        let name = self.manifest.path.file_name().unwrap_or_default();
        let path = folder.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        let manifest = Manifest::read(&path)?;
        let all = manifest.cases();
        let wanted = |case: &&Case| {
            self.complete || self.selected.iter().any(|selected| selected.id == case.id)
        };
        let selected = all.iter().filter(wanted).cloned().collect();
        Ok(Some(Suite {
            manifest,
            all,
            selected,
            complete: self.complete,
        }))
    }

    /// Probes the suite's backend.
    pub fn choose(&self, settings: &Settings) -> Result<Chosen, Failure> {
        Ok(choose(
            Some(self.manifest.settings.backend),
            Detail::default(),
            &[],
            settings,
        )?)
    }

    /// Runs the build steps of the selected cases, each once.
    pub fn build(&self, terminal: &Terminal) -> Result<(), Failure> {
        let mut done: Vec<&CommandLine> = Vec::new();
        for step in self.selected.iter().filter_map(|case| case.build.as_ref()) {
            if !done.contains(&step) {
                terminal.note(&format!("building: {}", step.text));
                build::run(step, &self.manifest.folder)?;
                done.push(step);
            }
        }
        Ok(())
    }

    /// Measures the selected cases side by side; results in their order.
    pub fn measure(
        &self,
        chosen: &Chosen,
        terminal: &Terminal,
        shims: Shims<'_>,
    ) -> Result<Vec<Ran>, Failure> {
        let recordings = self.selected.iter().map(|case| shims.load(case));
        let recordings: Vec<_> = recordings.collect::<Result<_, _>>()?;
        let places = self.places();
        let cpus = parallel::cpus();
        let workers = self.manifest.settings.jobs.map_or(cpus.len(), Into::into);
        let progress = terminal.progress(self.selected.len());
        let one = |index: usize, worker: usize| {
            let case = &self.selected[index];
            let mut job = self.job(case, chosen, cpus[worker % cpus.len()]);
            let recorded = match shims.equip(case, &mut job, chosen, &recordings[index])? {
                Ok(recorded) => recorded,
                Err(why) => return Ok(Ran::Failed(why)),
            };
            let before: Vec<_> = files(case).map(stamp).collect();
            measure(&job, chosen).map(|measured| ran(case, measured, &before, &places, recorded))
        };
        let results = parallel::run(self.selected.len(), workers, one, |index, _| {
            progress.set_message(self.selected[index].id.clone());
            progress.inc(1);
        });
        progress.finish_and_clear();
        let mut all = Vec::new();
        for (case, result) in self.selected.iter().zip(results) {
            all.push(settle(case, result)?);
        }
        let backend = chosen.info.name;
        let wanted = self.selected.iter().zip(&all);
        let wanted = wanted.filter(|(case, _)| shows_folder(backend, case.shown));
        for why in where_it_is(wanted.map(|(_, ran)| ran)) {
            terminal.note(&format!("not pinned: project folder: {why}"));
        }
        Ok(all)
    }

    /// The names of the selected workloads, each once.
    pub fn workloads(&self) -> BTreeSet<&str> {
        self.selected
            .iter()
            .map(|case| case.workload.as_str())
            .collect()
    }

    /// Where this run is.
    fn places(&self) -> Places {
        let project = project(&self.manifest.folder).to_owned();
        let folder = ProjectFolder::new(project.clone(), project);
        Places {
            project: self.manifest.folder.clone(),
            shown: folder.inside(&self.manifest.folder),
            temporary: std::env::temp_dir(),
            home: std::env::var_os("HOME").map(PathBuf::from),
        }
    }

    /// The job of a case on the first CPU, its recorded shims as they are stored.
    pub fn job_to_explain(&self, case: &Case, chosen: &Chosen) -> Result<Job, Failure> {
        let store = self.store();
        let shims = Shims::Replay(&store);
        let loaded = shims.load(case)?;
        let mut job = self.job(case, chosen, parallel::cpus()[0]);
        match shims.equip(case, &mut job, chosen, &loaded)? {
            Ok(_) => Ok(job),
            Err(why) => Err(Failure::Usage(why)),
        }
    }

    fn job(&self, case: &Case, chosen: &Chosen, cpu: usize) -> Job {
        let mut command: Vec<OsString> = case.command.iter().map(OsString::from).collect();
        command[0] = case.program.clone().into();
        let offers = chosen.backend.offers();
        Job {
            command,
            env: exported(case)
                .chain(&case.env)
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            cwd: Some(case.cwd.clone()),
            input: case.stdin.clone().map_or(Input::Null, Input::File),
            output: Output::Keep,
            pin: true,
            own_session: true,
            seed: seed_of(&case.id),
            shown: case.shown,
            disturbance: None,
            cpu,
            timeout: Some(case.timeout),
            runs: case.repeat,
            detail: Detail {
                regions: case.regions,
                ..offers
            },
            project: Some(project(&self.manifest.folder).to_owned()),
            subject: case.subject.clone(),
            facts: case
                .fingerprint
                .iter()
                .map(|fact| fact.argv.clone())
                .collect(),
            shims: Vec::new(),
            network: case.network,
            services: case.services.clone(),
            exit: (!case.snapshot.exit).then_some(case.exit),
        }
    }
}

/// Why programs saw the project where it is, each reason once: their counts are those of this checkout.
pub fn where_it_is<'a>(all: impl IntoIterator<Item = &'a Ran>) -> BTreeSet<&'a str> {
    let counted = all.into_iter().filter_map(|ran| match ran {
        Ran::Counted(counted) => Some(&counted.measurement.pinned),
        Ran::Failed(_) => None,
    });
    let free = counted.filter_map(|pinned| match pinned.0.get(&Pin::ProjectFolder)? {
        PinState::Free(why) => Some(why.as_str()),
        PinState::Pinned => None,
    });
    free.collect()
}

/// What a case's services have it know; its own variables win.
fn exported(case: &Case) -> impl Iterator<Item = (&String, &String)> {
    case.services.iter().flat_map(|service| &service.export)
}

/// The folder whose code is the subject: the repository or checkout that the manifest is in (its root has `.git`, a
/// folder or a file), otherwise the manifest's folder.
fn project(folder: &Path) -> &Path {
    let root = folder.ancestors().find(|above| above.join(".git").exists());
    root.unwrap_or(folder)
}

/// A number for the random bytes of a case: its own, and the same on every machine.
fn seed_of(id: &str) -> u64 {
    let digest = Sha256::digest(id.as_bytes());
    digest
        .iter()
        .take(8)
        .fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// What became of one case, before it is held against anything.
pub enum Ran {
    /// It ran as expected.
    Counted(Box<Counted>),
    /// It did not, in words.
    Failed(String),
}

/// A case that ran as expected.
pub struct Counted {
    /// Its counts.
    pub measurement: Measurement,
    /// What is held against snapshots, as its first run wrote it.
    pub outputs: Vec<(OwnedOutput, Vec<u8>)>,
    /// In words, how the outputs of two runs differ by more than the snapshot's tolerance.
    pub unsteady: Option<String>,
    /// The shims that were recorded anew for it.
    pub recorded: Vec<Shim>,
}

/// Names one output of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedOutput {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The exit code.
    Exit,
    /// A file, by its name in the manifest.
    File(String),
}

impl OwnedOutput {
    /// As the store of snapshots names it.
    pub fn key(&self) -> Kept<'_> {
        match self {
            OwnedOutput::Stdout => Kept::Stdout,
            OwnedOutput::Stderr => Kept::Stderr,
            OwnedOutput::Exit => Kept::Exit,
            OwnedOutput::File(name) => Kept::File(name),
        }
    }

    /// Where a run's output has it; none for an exit code or a file.
    fn stream(&self) -> Option<fn(&Written) -> &Vec<u8>> {
        match self {
            OwnedOutput::Stdout => Some(|written| &written.stdout),
            OwnedOutput::Stderr => Some(|written| &written.stderr),
            OwnedOutput::Exit | OwnedOutput::File(_) => None,
        }
    }

    /// As a report names it.
    pub fn words(&self) -> String {
        match self {
            OwnedOutput::Stdout => "standard output".to_owned(),
            OwnedOutput::Stderr => "standard error".to_owned(),
            OwnedOutput::Exit => "exit code".to_owned(),
            OwnedOutput::File(name) => format!("file `{name}`"),
        }
    }
}

/// A case that cannot be measured has failed; only what concerns the whole command is an error.
fn settle(case: &Case, result: Option<Result<Ran, JobError>>) -> Result<Ran, Failure> {
    match result {
        Some(Ok(ran)) => Ok(ran),
        Some(Err(JobError::Cancelled(stop))) => Err(stop.into()),
        Some(Err(error @ JobError::Scratch(_))) => Err(error.into()),
        Some(Err(error)) => Ok(Ran::Failed(error.to_string())),
        None => Ok(Ran::Failed(format!(
            "the worker that measured `{}` died",
            case.id
        ))),
    }
}

/// What changes whenever a file is written or replaced: its number and the time of its last change of any kind, in
/// seconds and nanoseconds. None when there is no file.
type Stamp = Option<(u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// The files that a case's snapshot names.
fn files(case: &Case) -> impl Iterator<Item = &Path> {
    case.snapshot.files.iter().map(|(_, path)| path.as_path())
}

/// `before`: stamps of the files that the snapshot names, before the first run.
fn ran(
    case: &Case,
    measured: Measured,
    before: &[Stamp],
    places: &Places,
    recorded: Vec<Shim>,
) -> Ran {
    let Measured {
        measurement,
        written,
        logs,
    } = measured;
    let is_any_exit = matches!(measurement.outcome, Outcome::Exited(_)) && case.snapshot.exit;
    if measurement.outcome != Outcome::Exited(case.exit) && !is_any_exit {
        return Ran::Failed(unexpected_end(
            case,
            measurement.outcome,
            &measurement.attempts,
            &written,
            &logs,
        ));
    }
    if let Some(path) = files(case)
        .zip(before)
        .find_map(|(path, before)| (before.is_some() && stamp(path) == *before).then_some(path))
    {
        return Ran::Failed(format!(
            "it did not write `{}`, which its snapshot names; the file there is of an earlier run",
            path.display()
        ));
    }
    let normalizer = match Normalizer::new(&case.snapshot.normalize, places) {
        Ok(normalizer) => normalizer,
        Err(error) => return Ran::Failed(error.to_string()),
    };
    match outputs(case, measurement.outcome, written, &normalizer) {
        Ok((outputs, unsteady)) => Ran::Counted(Box::new(Counted {
            measurement,
            outputs,
            unsteady,
            recorded,
        })),
        Err(problem) => Ran::Failed(problem),
    }
}

/// Bytes of standard error that a failure shows.
const TAIL_BYTES: usize = 2000;

/// How a case ended that should have ended otherwise, with the end of its standard error.
pub fn unexpected_end(
    case: &Case,
    outcome: Outcome,
    attempts: &[Attempt],
    written: &[Written],
    logs: &[(String, PathBuf)],
) -> String {
    let mut how = match outcome {
        Outcome::Exited(code) => format!("it ended with exit code {code}, not {}", case.exit),
        Outcome::Killed(signal) => match Signal::try_from(signal) {
            Ok(name) => format!("signal {signal} ({name}) killed it"),
            Err(_) => format!("signal {signal} killed it"),
        },
        Outcome::TimedOut => format!("its time of {:?} was up", case.timeout),
    };
    for attempt in attempts {
        how = format!("{how}; {}", report::attempt(attempt));
    }
    for (service, log) in logs {
        let log = log.display();
        how = format!("{how}; the log of service `{service}` is kept in `{log}`");
    }
    let stderr = written.first().map_or(&[][..], |written| &written.stderr);
    let tail = &stderr[stderr.len().saturating_sub(TAIL_BYTES)..];
    match String::from_utf8_lossy(tail).trim() {
        "" => how,
        text => format!("{how}; its standard error ends:\n{text}"),
    }
}

type Outputs = (Vec<(OwnedOutput, Vec<u8>)>, Option<String>);

/// What the snapshot wants, and how some stream was not the same in each run. Files are as the last run left them.
fn outputs(
    case: &Case,
    outcome: Outcome,
    written: Vec<Written>,
    normalizer: &Normalizer,
) -> Result<Outputs, String> {
    let normalized = |written: Written| Written {
        stdout: normalizer.apply(written.stdout),
        stderr: normalizer.apply(written.stderr),
    };
    let written: Vec<_> = written.into_iter().map(normalized).collect();
    let mut outputs = Vec::new();
    let mut unsteady = None;
    for name in wanted(case) {
        if name == OwnedOutput::Exit {
            outputs.push((name, format!("{}\n", outcome.code()).into_bytes()));
            continue;
        }
        let Some(stream) = name.stream() else {
            continue;
        };
        unsteady = unsteady.or_else(|| difference(case, &name, stream, &written));
        outputs.push((
            name,
            written.first().map(stream).cloned().unwrap_or_default(),
        ));
    }
    for (name, path) in &case.snapshot.files {
        let bytes = fs::read(path).map_err(|error| {
            format!(
                "read `{}`, which its snapshot names: {error}",
                path.display()
            )
        })?;
        outputs.push((OwnedOutput::File(name.clone()), normalizer.apply(bytes)));
    }
    Ok((outputs, unsteady))
}

/// How what a later run wrote to a stream differs from what the first wrote.
fn difference(
    case: &Case,
    name: &OwnedOutput,
    stream: fn(&Written) -> &Vec<u8>,
    written: &[Written],
) -> Option<String> {
    let (first, others) = written.split_first()?;
    let compare = |other| snapshot::compare(stream(first), stream(other), case.snapshot.tolerance);
    let mismatch = others.iter().find_map(|other| compare(other).err())?;
    Some(format!(
        "{} is not the same in every run: line {}, column {}: {}",
        name.words(),
        mismatch.line,
        mismatch.column,
        mismatch.what
    ))
}

/// The outputs that a case's snapshot holds, in the order in which [`Counted::outputs`] has them.
pub fn wanted(case: &Case) -> Vec<OwnedOutput> {
    let streams = [
        (case.snapshot.stdout, OwnedOutput::Stdout),
        (case.snapshot.stderr, OwnedOutput::Stderr),
        (case.snapshot.exit, OwnedOutput::Exit),
    ];
    let streams = streams
        .into_iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, name)| name);
    let files = case
        .snapshot
        .files
        .iter()
        .map(|(name, _)| OwnedOutput::File(name.clone()));
    streams.chain(files).collect()
}
