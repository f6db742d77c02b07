//! Standard input of the runs: every repeat reads the same bytes.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::sys::spawn::Stream;

/// Where a workload's standard input comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Input {
    /// Ours. With several runs it is read to its end first, and each run gets a copy (a terminal is shared).
    #[default]
    Inherit,
    /// `/dev/null`.
    Null,
    /// This file, opened anew for each run.
    File(PathBuf),
}

/// Standard input that can be handed out several times.
pub(super) enum Source {
    Shared,
    File(PathBuf),
    /// Our own input from `from` on: a regular file, or a copy of what could only be read once.
    Rewound {
        file: File,
        from: u64,
    },
}

impl Source {
    /// Gets ready for `runs` runs.
    pub(super) fn prepare(input: &Input, runs: u32) -> io::Result<Source> {
        match input {
            Input::Null => Ok(Source::File("/dev/null".into())),
            Input::File(path) => File::open(path).map(|_| Source::File(path.clone())),
            Input::Inherit if runs == 1 || io::stdin().is_terminal() => Ok(Source::Shared),
            Input::Inherit => Source::keep(),
        }
    }

    fn keep() -> io::Result<Source> {
        let mut file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        if let Ok(from) = file.stream_position()
            && file.metadata()?.is_file()
        {
            return Ok(Source::Rewound { file, from });
        }
        let mut copy = tempfile::tempfile()?;
        let mut chunk = [0; 1 << 16];
        loop {
            match file.read(&mut chunk)? {
                0 => {
                    return Ok(Source::Rewound {
                        file: copy,
                        from: 0,
                    });
                }
                length => copy.write_all(&chunk[..length])?,
            }
        }
    }

    /// The stream for the next run.
    pub(super) fn next(&mut self) -> io::Result<Stream> {
        let file = match self {
            Source::Shared => return Ok(Stream::Inherit),
            Source::File(path) => File::open(path)?,
            Source::Rewound { file, from } => {
                file.seek(SeekFrom::Start(*from))?;
                file.try_clone()?
            }
        };
        Ok(Stream::File(Arc::new(OwnedFd::from(file))))
    }
}
