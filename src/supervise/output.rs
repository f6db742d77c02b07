//! Standard output and error of the runs: passed through, redirected, or kept for the snapshots.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

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
}

impl Sinks {
    pub(super) fn open(output: Output) -> io::Result<Sinks> {
        let stream = |file: OwnedFd| Stream::File(Arc::new(file));
        let (stdout, stderr, kept) = match output {
            Output::Inherit => (Stream::Inherit, Stream::Inherit, None),
            Output::ToStderr => {
                let stderr = io::stderr().as_fd().try_clone_to_owned()?;
                (stream(stderr), Stream::Inherit, None)
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
