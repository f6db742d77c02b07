//! What can be wrong with a manifest: every problem with its line, column and remedy.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::FILE_NAME;

/// One problem of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what to do about it.
    pub message: String,
}

/// Why there is no manifest to work with.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// Neither here nor in any folder above.
    #[error(
        "no `{FILE_NAME}` in `{}` or any folder above; run `counterfoil init` to make one, or name it with `--manifest`",
        from.display()
    )]
    NotFound {
        /// Where the search began.
        from: PathBuf,
    },
    /// The file could not be read.
    #[error("read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// It is no valid manifest: all that is wrong, in the order of the file.
    #[error("{}", Listed { path, problems })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

/// Problems as a compiler prints them, one a line.
struct Listed<'a> {
    path: &'a PathBuf,
    problems: &'a [Problem],
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            let Problem {
                line,
                column,
                message,
            } = problem;
            let path = self.path.display();
            write!(f, "{newline}{path}:{line}:{column}: {message}")?;
        }
        Ok(())
    }
}
