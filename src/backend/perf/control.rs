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
use super::meter::MeterError;
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

/// Reads the counter.
pub type Count = Box<dyn Fn() -> Result<u64, MeterError> + Send>;

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

    /// Serves it on a thread until [`Server::finish`]. `count` is what the counter says at the moment.
    pub fn serve(self, count: Count, alive: Alive) -> Server {
        let done = Arc::new(AtomicBool::new(false));
        let service = Service {
            markers: self.markers,
            answers: self.answers,
            count,
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
        // Two, since a line that the program did not finish takes the first. A service that has failed already holds the
        // pipe no more; the failure is what it returns.
        let _ = self.wake.write_all(b"\n\n");
        match self.thread.join() {
            Ok(seen) => seen,
            Err(_) => Err(io::Error::other("its thread ended early").into()),
        }
    }
}

struct Service {
    markers: PipeReader,
    answers: PipeWriter,
    count: Count,
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
        while let Some(line) = self.next(&mut waiting)? {
            if failure.is_none() {
                failure = self.mark(&line).err();
            }
            self.answer()?;
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Seen {
                ledger: self.ledger,
                unsettled: self.unsettled,
            }),
        }
    }

    /// The next line; none when the program has ended and all it wrote was seen.
    fn next(&mut self, waiting: &mut Vec<u8>) -> Result<Option<String>, ControlError> {
        loop {
            if let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).take(end).collect();
                if line.is_empty() && self.done.load(Ordering::SeqCst) {
                    return Ok(None);
                }
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if !self.fill(waiting)? {
                return Ok(None);
            }
        }
    }

    /// Reads more of the pipe; false when there will be no more.
    fn fill(&mut self, waiting: &mut Vec<u8>) -> Result<bool, ControlError> {
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
        let now = (self.count)()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::sync::atomic::AtomicU64;

    /// The program's ends of the pipe, and a service whose counter goes up by ten with each look.
    fn served() -> (PipeWriter, PipeReader, Server) {
        let mut launch = Launch::default();
        let control = Control::open(&mut launch).unwrap();
        assert_eq!(launch.env, ["COUNTERFOIL_CONTROL=198,199"]);
        let numbers: Vec<RawFd> = launch.files.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, [CTL, ACK]);
        let end = |at: usize| OwnedFd::try_clone(&launch.files[at].0).unwrap();
        let (ctl, ack) = (PipeWriter::from(end(0)), PipeReader::from(end(1)));
        let looks = AtomicU64::new(0);
        let count = Box::new(move || Ok(looks.fetch_add(10, Ordering::SeqCst)));
        (ctl, ack, control.serve(count, Alive::default()))
    }

    fn mark(ctl: &mut PipeWriter, ack: &mut PipeReader, line: &str) {
        writeln!(ctl, "{line}").unwrap();
        ack.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn every_marker_is_answered_and_counted_and_the_service_ends_though_others_hold_the_pipe() {
        let (mut ctl, mut ack, server) = served();
        for line in ["begin:a", "begin:b", "end:b", "end:a"] {
            mark(&mut ctl, &mut ack, line);
        }
        let seen = server.finish().unwrap();
        assert_eq!(seen.unsettled, 4);
        let (regions, total) = seen.ledger.finish(99).unwrap();
        assert_eq!(
            (regions["a"].instructions, regions["b"].instructions),
            (30, 10)
        );
        assert_eq!(total, 30);
        drop((ctl, ack));
    }

    #[test]
    fn a_program_that_writes_nonsense_is_answered_and_its_run_is_an_error() {
        let (mut ctl, mut ack, server) = served();
        mark(&mut ctl, &mut ack, "begin:a");
        mark(&mut ctl, &mut ack, "hello");
        mark(&mut ctl, &mut ack, "end:a");
        let error = server.finish().unwrap_err();
        assert_eq!(error.to_string(), "`hello` is no region marker");
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let (mut ctl, _ack, server) = served();
        let written = ctl.write_all(&[b'x'; 3 * LONGEST_LINE]);
        // The service closes its end when it gives up, perhaps before all is written.
        assert!(written.is_ok() || written.unwrap_err().kind() == io::ErrorKind::BrokenPipe);
        let error = server.finish().unwrap_err();
        assert!(error.to_string().contains("is no region marker"), "{error}");
    }

    #[test]
    fn a_marker_that_was_cut_off_by_the_programs_end_is_taken_as_it_stands() {
        let (mut ctl, _ack, server) = served();
        ctl.write_all(b"begin:a").unwrap();
        drop(ctl);
        let seen = server.finish().unwrap();
        assert_eq!(seen.ledger.finish(99).unwrap().1, 99);
    }
}
