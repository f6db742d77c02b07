//! What a service writes: a file that goes with the run, unless something fails.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statvfs::statvfs;

use crate::sys::spawn::Stream;

/// Bytes of a log that an error shows.
const TAIL_BYTES: u64 = 2000;

/// The log of one service.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// Bytes that were searched already, and the last line among them as far as it goes.
    searched: u64,
    line: Vec<u8>,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Log {
        Log {
            path,
            searched: 0,
            line: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Nothing to read, and the empty log to write to.
    pub(super) fn streams(&self) -> io::Result<(Stream, Stream)> {
        let stream = |file: File| Stream::File(Arc::new(OwnedFd::from(file)));
        let log = File::options()
            .append(true)
            .create_new(true)
            .open(&self.path)?;
        Ok((stream(File::open("/dev/null")?), stream(log)))
    }

    /// Whether a line has `text` in it, of those written since the last call that found none.
    pub(super) fn has(&mut self, text: &str) -> io::Result<bool> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.searched))?;
        let mut new = Vec::new();
        self.searched += file.read_to_end(&mut new)? as u64;
        self.line.extend(new);
        let found = self
            .line
            .split(|byte| *byte == b'\n')
            .any(|line| String::from_utf8_lossy(line).contains(text));
        let last = self.line.iter().rposition(|byte| *byte == b'\n');
        self.line.drain(..last.map_or(0, |at| at + 1));
        Ok(found)
    }

    /// Keeps it beyond the run, and says where; none when that is impossible, or nothing was written.
    pub(super) fn keep(&self) -> Option<PathBuf> {
        let length = fs::metadata(&self.path).ok()?.len();
        if length == 0 {
            return None;
        }
        let name = self.path.file_stem()?.to_str()?;
        let place = tempfile::Builder::new()
            .prefix(&format!("counterfoil-service-{name}-"))
            .suffix(".log")
            .tempfile()
            .ok()?;
        fs::rename(&self.path, place.path()).ok()?;
        place.keep().ok().map(|(_, path)| path)
    }

    /// Keeps it, and takes what an error shows of it.
    pub(super) fn excerpt(&self) -> Excerpt {
        let tail = tail(&self.path).unwrap_or_default();
        let folder = self.path.parent().map(Path::to_owned);
        let is_full =
            |folder: &PathBuf| statvfs(folder).is_ok_and(|system| system.blocks_available() == 0);
        Excerpt {
            full: folder.filter(is_full),
            kept: self.keep(),
            tail,
        }
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// What an error shows of a log, as the end of its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The folder that has no room left for it.
    pub full: Option<PathBuf>,
    /// Where the whole log is kept.
    pub kept: Option<PathBuf>,
    /// Its last lines.
    pub tail: String,
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(folder) = &self.full {
            let folder = folder.display();
            write!(
                f,
                "; no room is left in `{folder}` for its log: free some, or set TMPDIR to another folder"
            )?;
        }
        if let Some(path) = &self.kept {
            write!(f, "; its log is kept in `{}`", path.display())?;
        }
        match self.tail.as_str() {
            "" => f.write_str("; it wrote nothing"),
            tail => write!(f, "; it ends:\n{tail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_line_is_found_however_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::new(folder.path().join("x.log"));
        let (_, _output) = log.streams().unwrap();
        let mut file = File::options().append(true).open(log.path()).unwrap();
        for (written, found) in [
            ("list", false),
            ("ening\non ", true),
            ("3141", false),
            ("\nlistening", true),
        ] {
            file.write_all(written.as_bytes()).unwrap();
            assert_eq!(log.has("listening").unwrap(), found, "after {written:?}");
        }
    }

    #[test]
    fn a_log_is_kept_once_and_shown_by_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(folder.path().join("x.log"));
        assert_eq!(log.excerpt().to_string(), "; it wrote nothing");
        fs::write(log.path(), "a".repeat(3000) + "b\n").unwrap();
        let excerpt = log.excerpt();
        let kept = excerpt.kept.clone().unwrap();
        assert_eq!(fs::metadata(&kept).unwrap().len(), 3002);
        assert_eq!(excerpt.tail.len(), 1999);
        assert!(
            excerpt
                .to_string()
                .contains(&format!("kept in `{}`", kept.display()))
        );
        fs::remove_file(kept).unwrap();
    }
}
