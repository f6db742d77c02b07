//! Standard output and error of the runs: passed through, redirected, or kept for the snapshots.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::fcntl::{self, FcntlArg, OFlag};
use nix::sys::stat::Mode;

use crate::sys::spawn::Stream;

/// Where a workload's output goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Where ours goes.
    #[default]
    Inherit,
    /// Both to our standard error, because our standard output is taken.
    ToStderr,
    /// To `/dev/null`.
    Discard,
    /// Into files, returned as bytes.
    Keep,
}

/// What a run wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// The two streams of one run, and how to get back what was written.
pub(super) struct Sinks {
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
    kept: Option<(File, File)>,
    /// The files that we write to, too, in the order in which they are given back: if both are one, the other way round.
    _ours: [Option<Appending>; 2],
}

/// A regular file that our own output goes to, and which the program appends to by a description of its own (open(2)): where
/// ours stands, behind what was written before, would be another place in each run, and programs look (python3 does).
struct Appending {
    ours: File,
    /// Device and inode.
    id: (u64, u64),
    flags: OFlag,
    its: Arc<OwnedFd>,
}

impl Appending {
    /// None for what is no such file, or cannot be opened again. If it is `other`'s, too, the two share the description.
    fn to(ours: BorrowedFd<'_>, other: Option<&Appending>) -> Option<Appending> {
        let mut ours = File::from(ours.try_clone_to_owned().ok()?);
        let about = ours.metadata().ok()?;
        if !about.is_file() {
            return None;
        }
        let flags = fcntl::fcntl(&ours, FcntlArg::F_GETFL).ok()?;
        let flags = OFlag::from_bits_retain(flags);
        if !flags.contains(OFlag::O_APPEND) && ours.stream_position().ok()? < about.len() {
            return None;
        }
        let id = (about.dev(), about.ino());
        let its = match other.filter(|other| other.id == id) {
            Some(other) => Arc::clone(&other.its),
            None => {
                let path = format!("/proc/self/fd/{}", ours.as_raw_fd());
                let how = flags & OFlag::O_ACCMODE | OFlag::O_APPEND | OFlag::O_CLOEXEC;
                Arc::new(fcntl::open(path.as_str(), how, Mode::empty()).ok()?)
            }
        };
        // What we have to say meanwhile goes behind what the program has said.
        fcntl::fcntl(&ours, FcntlArg::F_SETFL(flags | OFlag::O_APPEND)).ok()?;
        Some(Appending {
            ours,
            id,
            flags,
            its,
        })
    }

    fn stream(one: Option<&Appending>) -> Stream {
        one.map_or(Stream::Inherit, |one| Stream::File(Arc::clone(&one.its)))
    }
}

impl Drop for Appending {
    fn drop(&mut self) {
        let _ = self.ours.seek(SeekFrom::End(0));
        let _ = fcntl::fcntl(&self.ours, FcntlArg::F_SETFL(self.flags));
    }
}

impl Sinks {
    /// `pin`: what is in our files already is nothing that the program can see.
    pub(super) fn open(output: Output, pin: bool) -> io::Result<Sinks> {
        let stream = |file: OwnedFd| Stream::File(Arc::new(file));
        let appending = |ours: BorrowedFd<'_>, other: Option<&Appending>| {
            pin.then(|| Appending::to(ours, other)).flatten()
        };
        let mut ours = [None, None];
        let (stdout, stderr, kept) = match output {
            Output::Inherit => {
                let out = appending(io::stdout().as_fd(), None);
                let err = appending(io::stderr().as_fd(), out.as_ref());
                let streams = [out.as_ref(), err.as_ref()].map(Appending::stream);
                ours = [err, out];
                let [stdout, stderr] = streams;
                (stdout, stderr, None)
            }
            Output::ToStderr => {
                let err = appending(io::stderr().as_fd(), None);
                let stderr = Appending::stream(err.as_ref());
                let stdout = match &stderr {
                    Stream::Inherit => stream(io::stderr().as_fd().try_clone_to_owned()?),
                    Stream::File(_) => stderr.clone(),
                };
                ours = [err, None];
                (stdout, stderr, None)
            }
            Output::Discard => {
                let null = || {
                    File::options()
                        .write(true)
                        .open("/dev/null")
                        .map(OwnedFd::from)
                };
                (stream(null()?), stream(null()?), None)
            }
            Output::Keep => {
                let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
                let copies = (out.try_clone()?.into(), err.try_clone()?.into());
                (stream(copies.0), stream(copies.1), Some((out, err)))
            }
        };
        Ok(Sinks {
            stdout,
            stderr,
            kept,
            _ours: ours,
        })
    }

    /// What the run wrote, where it was kept.
    pub(super) fn collect(self) -> io::Result<Option<Written>> {
        let read = |mut file: File| {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes).map(|_| bytes)
        };
        let Some((out, err)) = self.kept else {
            return Ok(None);
        };
        Ok(Some(Written {
            stdout: read(out)?,
            stderr: read(err)?,
        }))
    }
}
