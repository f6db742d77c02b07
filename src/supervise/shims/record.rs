//! Recording: the real programs behind shims are called once, and what they do becomes the shims' answers.
//!
//! Instead of a shim, a script of its name stands in front of `PATH` that starts this very program again ([`call`]): it
//! calls the real one, passes everything through, and notes down what came out. Nothing of that run is counted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::call::{self, Order, order_path};
use super::folder::Folder;
use super::verify::typed;
use super::{ShimError, file_error};
use crate::model::{Answer, Shim};
use crate::suite::Recorder;
use crate::supervise::command::resolve;

/// The longest `#!` line that every kernel takes (BINPRM_BUF_SIZE was 128 before Linux 5.1).
const LONGEST_INTERPRETER_LINE: usize = 127;

/// Scripts in the place of programs. Dropped, they are gone.
pub(in crate::supervise) struct Recording<'a> {
    folder: Folder,
    recorders: &'a [Recorder],
}

impl<'a> Recording<'a> {
    /// Puts a script in the place of each of `recorders`; `path` is where the real ones are found, seen from `cwd`.
    pub fn prepare(
        recorders: &'a [Recorder],
        number: u64,
        path: &OsStr,
        cwd: &Path,
    ) -> Result<Recording<'a>, ShimError> {
        let folder = Folder::take(number)?;
        let ourselves = folder.path().join("recorder");
        let here =
            std::env::current_exe().map_err(file_error("find", Path::new("/proc/self/exe")))?;
        std::os::unix::fs::symlink(here, &ourselves).map_err(file_error("make", &ourselves))?;
        for recorder in recorders {
            let problem = |problem: String| ShimError::Record {
                shim: recorder.name.clone(),
                problem,
            };
            let found = resolve(&[recorder.name.clone().into()], path, cwd)
                .map_err(|error| problem(format!("its real program is needed once: {error}")))?;
            let order = Order {
                program: cwd.join(found.program),
                path: path.to_owned(),
                files: recorder.files.clone(),
            };
            let line = [
                b"#!",
                ourselves.as_os_str().as_bytes(),
                b" ",
                call::ARGUMENT.as_bytes(),
                b"\n",
            ]
            .concat();
            if line.len() > LONGEST_INTERPRETER_LINE
                || line[2..].iter().filter(|b| **b == b' ').count() > 1
            {
                return Err(problem(format!(
                    "`{}` is too long, or has blanks in it; set TMPDIR to a short path",
                    ourselves.display()
                )));
            }
            folder.program(&recorder.name, &line)?;
            write_order(&folder, &recorder.name, &order)?;
        }
        Ok(Recording { folder, recorders })
    }

    /// The folder to put in front of `PATH`.
    pub fn bin(&self) -> PathBuf {
        self.folder.bin()
    }

    /// The shims that were recorded, once the run is over. Their answers are in the order of their arguments.
    pub fn finish(&self) -> Result<Vec<Shim>, ShimError> {
        let one = |recorder: &Recorder| {
            let path = self.folder.calls(&recorder.name);
            let text = match fs::read_to_string(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                text => text.map_err(file_error("read", &path))?,
            };
            let problem = |problem: String| ShimError::Record {
                shim: recorder.name.clone(),
                problem,
            };
            Ok(Shim {
                name: recorder.name.clone(),
                recorded: true,
                answers: merged(&text).map_err(problem)?,
            })
        };
        self.recorders.iter().map(one).collect()
    }
}

fn write_order(folder: &Folder, name: &str, order: &Order) -> Result<(), ShimError> {
    let path = order_path(folder.path(), name);
    let text = serde_json::to_string(order).map_err(io::Error::from);
    let written = text.and_then(|text| fs::write(&path, text));
    written.map_err(file_error("write", &path))
}

/// The answers that the lines of a file hold, each once, sorted; or why they cannot be replayed.
fn merged(text: &str) -> Result<Vec<Answer>, String> {
    let mut answers: BTreeMap<Vec<String>, Answer> = BTreeMap::new();
    for line in text.lines() {
        let noted: Result<Answer, String> = serde_json::from_str(line)
            .map_err(|_| "a note of a call is damaged; is the disk full?".to_owned())?;
        let answer = noted?;
        let args = answer.args.clone().unwrap_or_default();
        let words: Vec<_> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        if answers
            .insert(args, answer.clone())
            .is_some_and(|before| before != answer)
        {
            return Err(format!(
                "two calls with the arguments {} had different answers, and a recording has one for each; leave this program real, or write its answers by hand",
                typed(&words)
            ));
        }
    }
    Ok(answers.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str], exit: u8) -> String {
        let answer: Result<Answer, String> = Ok(Answer {
            args: Some(args.iter().map(|arg| (*arg).to_owned()).collect()),
            exit,
            ..Answer::default()
        });
        serde_json::to_string(&answer).unwrap() + "\n"
    }

    #[test]
    fn equal_calls_are_one_answer_and_answers_are_sorted() {
        let text = line(&["b"], 0) + &line(&["a"], 1) + &line(&["b"], 0);
        let answers = merged(&text).unwrap();
        assert_eq!(answers.iter().map(|a| a.exit).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn two_answers_to_the_same_arguments_are_refused() {
        let error = merged(&(line(&["a b"], 0) + &line(&["a b"], 1))).unwrap_err();
        assert!(
            error.starts_with("two calls with the arguments `'a b'`"),
            "{error}"
        );
        assert!(merged("{").unwrap_err().contains("damaged"));
    }
}
