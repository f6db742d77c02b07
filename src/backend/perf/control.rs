//! The control pipe: a program's region markers, answered by a thread of ours that reads the counter at each.
//!
//! The program finds `COUNTERFOIL_CONTROL=CTL,ACK` in its environment, writes `begin:NAME` or `end:NAME` and a newline to
//! descriptor CTL, and reads one byte from ACK. The counter is read while the program sleeps in that read, so
//! the same instructions lie inside a region in every run.

use std::collections::BTreeSet;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ledger::{Ledger, RegionError};
use super::meter::{Meter, MeterError};
use crate::sys::Pid;
use crate::sys::spawn::Launch;
use crate::sys::waiting::{Waiting, in_read};

/// The descriptors' numbers in the program: high, so that no program expects them free, and below those that
/// starting a program needs for itself.
const CTL: RawFd = 198;
const ACK: RawFd = 199;

/// The variable that tells the program of them.
const VARIABLE: &str = "COUNTERFOIL_CONTROL";

/// How long a program may take from its marker to the read of the answer, before it is counted as it is.
const PATIENCE: Duration = Duration::from_millis(200);

/// How often to look in between.
const INTERVAL: Duration = Duration::from_micros(50);

/// A marker's line is shorter than this; a longer one is refused before it fills the memory.
const LONGEST_LINE: usize = 4096;

/// Why regions could not be counted.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Marks that make no sense.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The counter failed at a marker.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The pipe failed.
    #[error("the control pipe: {0}")]
    Pipe(#[from] io::Error),
}

/// The processes that are alive now, kept by whoever follows the tree.
pub type Alive = Arc<Mutex<BTreeSet<Pid>>>;

/// The set, whoever held it last.
pub fn locked(alive: &Alive) -> MutexGuard<'_, BTreeSet<Pid>> {
    alive.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pipe, made and not yet served.
pub struct Control {
    markers: PipeReader,
    answers: PipeWriter,
    wake: PipeWriter,
}

impl Control {
    /// Makes the pipe and hands the program's ends to `launch`.
    pub fn open(launch: &mut Launch) -> io::Result<Control> {
        let (markers, ctl) = io::pipe()?;
        let (ack, answers) = io::pipe()?;
        let wake = ctl.try_clone()?;
        launch.files.push((Arc::new(ctl.into()), CTL));
        launch.files.push((Arc::new(ack.into()), ACK));
        launch.env.push(format!("{VARIABLE}={CTL},{ACK}").into());
        Ok(Control {
            markers,
            answers,
            wake,
        })
    }

    /// Serves it on a thread until [`Server::finish`].
    pub fn serve(self, meter: Arc<Meter>, alive: Alive) -> Server {
        let done = Arc::new(AtomicBool::new(false));
        let service = Service {
            markers: self.markers,
            answers: self.answers,
            meter,
            alive,
            done: Arc::clone(&done),
            ledger: Ledger::default(),
            unsettled: 0,
        };
        Server {
            thread: std::thread::spawn(move || service.run()),
            wake: self.wake,
            done,
        }
    }
}

/// What was seen at the pipe.
#[derive(Debug, Default)]
pub struct Seen {
    /// The regions, some perhaps still open.
    pub ledger: Ledger,
    /// Markers at which the program did not come to rest, so that the counter may have been read a few instructions
    /// too early or too late.
    pub unsettled: u64,
}

/// The thread that serves a pipe.
pub struct Server {
    thread: JoinHandle<Result<Seen, ControlError>>,
    wake: PipeWriter,
    done: Arc<AtomicBool>,
}

impl Server {
    /// Ends the service once the program has ended. Processes that it left running may still hold the pipe.
    pub fn finish(mut self) -> Result<Seen, ControlError> {
        self.done.store(true, Ordering::SeqCst);
        // A service that has failed already holds the pipe no more; the failure is what it returns.
        let _ = self.wake.write_all(b"\n");
        match self.thread.join() {
            Ok(seen) => seen,
            Err(_) => Err(io::Error::other("its thread ended early").into()),
        }
    }
}

struct Service {
    markers: PipeReader,
    answers: PipeWriter,
    meter: Arc<Meter>,
    alive: Alive,
    done: Arc<AtomicBool>,
    ledger: Ledger,
    unsettled: u64,
}

impl Service {
    /// Serves to the end. After a failure the program is still answered, so that it does not wait for ever.
    fn run(mut self) -> Result<Seen, ControlError> {
        let mut failure = None;
        let mut waiting = Vec::new();
        while self.fill(&mut waiting)? {
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let line =
                    String::from_utf8_lossy(line.get(..end).unwrap_or_default()).into_owned();
                if line.is_empty() && self.done.load(Ordering::SeqCst) {
                    continue;
                }
                if failure.is_none() {
                    failure = self.mark(&line).err();
                }
                self.answer()?;
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Seen {
                ledger: self.ledger,
                unsettled: self.unsettled,
            }),
        }
    }

    /// Reads more of the pipe; false when there will be no more, or none that matters.
    fn fill(&mut self, waiting: &mut Vec<u8>) -> Result<bool, ControlError> {
        if self.done.load(Ordering::SeqCst) && waiting.is_empty() {
            return Ok(false);
        }
        if waiting.len() > LONGEST_LINE {
            let start = waiting.get(..40).unwrap_or_default();
            let start = String::from_utf8_lossy(start).into_owned();
            return Err(RegionError::NoMarker(start).into());
        }
        let mut bytes = [0; 512];
        let length = self.markers.read(&mut bytes)?;
        waiting.extend(bytes.iter().take(length));
        Ok(length > 0)
    }

    fn mark(&mut self, line: &str) -> Result<(), ControlError> {
        if !self.settled() {
            self.unsettled = self.unsettled.saturating_add(1);
        }
        let now = self.meter.count()?;
        Ok(self.ledger.mark(line, now)?)
    }

    /// Waits until a thread of the tree sleeps in the read of the answer.
    fn settled(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let processes: Vec<Pid> = locked(&self.alive).iter().copied().collect();
            let states: Vec<Waiting> = processes.iter().map(|p| in_read(*p, ACK)).collect();
            if states.contains(&Waiting::Yes) {
                return true;
            }
            if !states.contains(&Waiting::No) || Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Lets the program go on. One that is gone needs no answer.
    fn answer(&mut self) -> Result<(), ControlError> {
        match self.answers.write_all(b"\n") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}
