//! What the engine did, for developers who look for a mistake in it: one line an event.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::sys::Pid;

/// A log, or none.
#[derive(Debug, Default)]
pub struct Log(Option<RefCell<BufWriter<File>>>);

impl Log {
    /// A log in a new file.
    pub fn to(path: &Path) -> io::Result<Log> {
        Ok(Log(Some(RefCell::new(BufWriter::new(File::create(path)?)))))
    }

    /// Whether there is one.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Notes an event of a process. A line that cannot be written is lost: the count does not depend on it.
    pub fn note(&self, process: Pid, line: impl FnOnce() -> String) {
        if let Some(file) = &self.0 {
            let mut file = file.borrow_mut();
            let _ = writeln!(file, "{process} {}", line());
            let _ = file.flush();
        }
    }
}
