//! The services of a run: servers beside the workload, started before it and gone after it.
//!
//! Each is a tree of its own, followed like a workload and not counted, so that nothing that it starts outlives it,
//! however it detaches itself. It runs at native speed: only births and ends of processes stop it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::build::Nobody;
use super::cancel::{self, Cancelled};
use super::command::{CommandError, DEFAULT_PATH, resolve};
use super::environment::{self, Environment};
use super::log::{Excerpt, Log};
use super::ports;
use super::scratch::{Scratch, ScratchError};
use crate::model::Network;
use crate::suite::Service;
use crate::sys::handle::Handle;
use crate::sys::sandbox::Sandbox;
use crate::sys::signals::Begins;
use crate::sys::spawn::Launch;
use crate::sys::tree::{self, End, TreeError};

/// How soon a change of a service is seen.
const OFTEN: Duration = Duration::from_millis(5);

/// How long a service may take to end after SIGTERM, before SIGKILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no run with services.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its program cannot be started.
    #[error("start service `{name}`: {source}")]
    Command {
        /// The service.
        name: String,
        /// What is wrong with the program.
        source: CommandError,
    },
    /// It did not start, or could not be followed.
    #[error("run service `{name}`: {source}")]
    Run {
        /// The service.
        name: String,
        /// The answer.
        source: TreeError,
    },
    /// Its log cannot be written or read.
    #[error("the log of service `{name}` in `{}`: {source}; set TMPDIR to a folder that can be written", path.display())]
    Log {
        /// The service.
        name: String,
        /// The log.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// No room for logs.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// Someone else listens on its port.
    #[error(
        "port {port} of service `{name}` is taken by {by}; end that, take another port, or set `network = \"loopback\"` for a network where it is always free"
    )]
    PortTaken {
        /// The service.
        name: String,
        /// The port.
        port: u16,
        /// In words, who has it.
        by: String,
    },
    /// It did not get ready in time.
    #[error("service `{name}` was not ready after {after:?}: {missing}{log}")]
    NotReady {
        /// The service.
        name: String,
        /// Its time.
        after: Duration,
        /// In words, what did not happen.
        missing: String,
        /// What it wrote.
        log: Box<Excerpt>,
    },
    /// It ended, and should have run until it is stopped.
    #[error("service `{name}` {} {during}; a service runs until it is stopped, and does not go into the background{log}", words(*.end))]
    Ended {
        /// The service.
        name: String,
        /// How.
        end: End,
        /// When.
        during: During,
        /// What it wrote.
        log: Box<Excerpt>,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// When a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// While it was waited for.
    Start,
    /// While the workload ran.
    Workload,
}

impl std::fmt::Display for During {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            During::Start => "before it was ready",
            During::Workload => "while the workload ran",
        })
    }
}

fn words(end: End) -> String {
    match end {
        End::Exited(code) => format!("ended with exit code {code}"),
        End::Killed(signal) => format!("was killed by signal {signal}"),
        End::TimedOut => "was killed: its time was up".to_owned(),
    }
}

/// Services on the machine's network run one workload after the other: their ports are the same.
static ON_THE_HOST: Mutex<()> = Mutex::new(());

/// The services of one run; dropped, they are gone.
pub(super) struct Services {
    // In this order: the folder of the logs goes last.
    running: Vec<Running>,
    _alone: Option<MutexGuard<'static, ()>>,
    _folder: Option<Scratch>,
}

impl Services {
    /// Starts them in their order, each when the one before is ready. One that ends by itself takes `workload` along.
    pub(super) fn start(
        services: &[Service],
        sandbox: Option<&Arc<Sandbox>>,
        workload: &Handle,
    ) -> Result<Services, ServiceError> {
        let some = !services.is_empty();
        let on_the_host = some && sandbox.is_none_or(|own| own.own().network == Network::Host);
        let folder = some.then(Scratch::new).transpose()?;
        let path = folder
            .as_ref()
            .map_or(Path::new(""), Scratch::path)
            .to_owned();
        let mut all = Services {
            running: Vec::new(),
            _alone: on_the_host.then(|| ON_THE_HOST.lock().unwrap_or_else(PoisonError::into_inner)),
            _folder: folder,
        };
        for service in services {
            let starting = Starting::new(service, sandbox, &path)?;
            all.running.push(starting.start(workload));
            if let Some(running) = all.running.last_mut() {
                running.wait_until_ready(service)?;
            }
        }
        Ok(all)
    }

    /// Their trees.
    pub(super) fn handles(&self) -> Vec<Handle> {
        let handles = self.running.iter().map(|running| running.handle.clone());
        handles.collect()
    }

    /// An error if one has ended by itself.
    pub(super) fn check(&self) -> Result<(), ServiceError> {
        let mut running = self.running.iter();
        running.try_for_each(|running| running.check(During::Workload))
    }

    /// Keeps the logs for whoever looks into a failure of the workload: the services with the files.
    pub(super) fn keep_logs(&self) -> Vec<(String, PathBuf)> {
        let kept = |running: &Running| Some((running.name.clone(), running.log.keep()?));
        self.running.iter().filter_map(kept).collect()
    }
}

impl Drop for Services {
    /// The last one that was started may use those before it.
    fn drop(&mut self) {
        while let Some(running) = self.running.pop() {
            drop(running);
        }
    }
}

/// A service that is about to start.
struct Starting<'a> {
    service: &'a Service,
    launch: Launch,
    log: Log,
    /// Whose network it is in.
    observer: u32,
    /// The sign of readiness that an earlier run has left.
    stale: Option<Stamp>,
}

impl<'a> Starting<'a> {
    fn new(
        service: &'a Service,
        sandbox: Option<&Arc<Sandbox>>,
        folder: &Path,
    ) -> Result<Starting<'a>, ServiceError> {
        let observer = sandbox.map_or_else(std::process::id, |sandbox| {
            sandbox.keeper().as_raw().unsigned_abs()
        });
        check_port(service, observer)?;
        let log = Log::new(folder.join(format!("{}.log", service.name)));
        let launch = launch(service, sandbox, &log)?;
        Ok(Starting {
            service,
            launch,
            log,
            observer,
            stale: service.ready.file.as_deref().and_then(stamp),
        })
    }

    /// Follows it in a thread of its own.
    fn start(self, workload: &Handle) -> Running {
        let ended = Arc::new(Mutex::new(None));
        let stopping = Arc::new(AtomicBool::new(false));
        let handle = self.launch.handle.clone();
        let thread = {
            let (ended, stopping, workload) = (ended.clone(), stopping.clone(), workload.clone());
            let launch = self.launch;
            std::thread::spawn(move || {
                let result = tree::run(&launch, &mut Nobody).map(|finished| finished.end);
                *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                // The workload may be about to start: it is killed as soon as it has.
                while !stopping.load(Ordering::SeqCst) {
                    tree::kill(&workload);
                    std::thread::sleep(OFTEN);
                }
            })
        };
        Running {
            name: self.service.name.clone(),
            log: self.log,
            observer: self.observer,
            stale: self.stale,
            handle,
            ended,
            stopping,
            thread: Some(thread),
        }
    }
}

fn check_port(service: &Service, observer: u32) -> Result<(), ServiceError> {
    let Some(port) = service.ready.port else {
        return Ok(());
    };
    match ports::listeners(observer, port).first() {
        None => Ok(()),
        Some(inode) => Err(ServiceError::PortTaken {
            name: service.name.clone(),
            port,
            by: ports::owner(*inode).unwrap_or_else(|| "a process of another user".to_owned()),
        }),
    }
}

fn launch(
    service: &Service,
    sandbox: Option<&Arc<Sandbox>>,
    log: &Log,
) -> Result<Launch, ServiceError> {
    let environment = |folder| {
        let own = service.env.iter();
        let own = own.map(|(name, value)| (name.into(), value.into()));
        Environment::new(environment::seen(std::env::vars_os(), folder), own, true)
    };
    let path = environment(None).value("PATH");
    let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
    let mut command: Vec<OsString> = service.command.iter().map(OsString::from).collect();
    if let Some(program) = command.first_mut() {
        *program = service.program.clone().into();
    }
    let resolved = resolve(&command, &path, &service.cwd);
    let resolved = resolved.map_err(|source| ServiceError::Command {
        name: service.name.clone(),
        source,
    })?;
    let folder = sandbox.and_then(|sandbox| sandbox.own().folder.as_ref());
    let (resolved, cwd) = match folder {
        Some(folder) => (resolved.inside(folder), folder.inside(&service.cwd)),
        None => (resolved, service.cwd.clone()),
    };
    let (stdin, output) = log.streams().map_err(|source| ServiceError::Log {
        name: service.name.clone(),
        path: log.path().to_owned(),
        source,
    })?;
    Ok(Launch {
        program: resolved.program,
        args: resolved.args,
        env: environment(folder).plain(),
        cwd: Some(cwd),
        stdin,
        stdout: output.clone(),
        stderr: output,
        fixed_addresses: true,
        own_session: true,
        signals: Begins::Afresh,
        sandbox: sandbox.cloned(),
        // What it makes of processes would give those of the workload other ids.
        host_ids: true,
        ..Launch::default()
    })
}

/// What changes when a file is written or replaced.
type Stamp = (u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// A service that has been started.
struct Running {
    name: String,
    log: Log,
    observer: u32,
    stale: Option<Stamp>,
    handle: Handle,
    ended: Arc<Mutex<Option<Result<End, TreeError>>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn wait_until_ready(&mut self, service: &Service) -> Result<(), ServiceError> {
        let start = Instant::now();
        loop {
            cancel::check()?;
            let missing = self.missing(service)?;
            // It may have ended since it was looked at, or have been killed with all else.
            let checked = self.check(During::Start);
            cancel::check()?;
            checked?;
            let Some(missing) = missing else {
                return Ok(());
            };
            if start.elapsed() >= service.ready.timeout {
                return Err(ServiceError::NotReady {
                    name: self.name.clone(),
                    after: service.ready.timeout,
                    missing,
                    log: Box::new(self.log.excerpt()),
                });
            }
            std::thread::sleep(OFTEN);
        }
    }

    /// In words, which sign of readiness is not there yet.
    fn missing(&mut self, service: &Service) -> Result<Option<String>, ServiceError> {
        let ready = &service.ready;
        if let Some(port) = ready.port
            && ports::listeners(self.observer, port).is_empty()
        {
            return Ok(Some(format!("nobody listens on port {port}")));
        }
        if let Some(file) = &ready.file {
            let now = stamp(file);
            if now.is_none() || now == self.stale {
                return Ok(Some(format!("it did not write `{}`", file.display())));
            }
        }
        if let Some(line) = &ready.line {
            let seen = self.log.has(line).map_err(|source| ServiceError::Log {
                name: self.name.clone(),
                path: self.log.path().to_owned(),
                source,
            })?;
            if !seen {
                return Ok(Some(format!("it wrote no line with `{line}`")));
            }
        }
        Ok(None)
    }

    /// An error if it has ended by itself.
    fn check(&self, during: During) -> Result<(), ServiceError> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.take() {
            None => Ok(()),
            Some(Ok(end)) => {
                *ended = Some(Ok(end));
                Err(ServiceError::Ended {
                    name: self.name.clone(),
                    end,
                    during,
                    log: Box::new(self.log.excerpt()),
                })
            }
            Some(Err(source)) => Err(ServiceError::Run {
                name: self.name.clone(),
                source,
            }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else {
            return;
        };
        tree::ask_to_end(&self.handle);
        let asked = Instant::now();
        while !thread.is_finished() {
            if asked.elapsed() >= PATIENCE || cancel::check().is_err() {
                tree::kill(&self.handle);
            }
            std::thread::sleep(OFTEN);
        }
        let _ = thread.join();
    }
}
