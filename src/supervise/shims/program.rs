//! The file of a shim: code that never changes, and a table of what it answers. Pure: bytes out.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::backend::selftest::{self, Machine};
use crate::model::{Answer, Shim};
use crate::sys::answer::{self, UNANSWERED};

/// Words of the table's head, of an answer and of an operation; `sys/answer/x86_64.s` reads them.
const HEAD_WORDS: usize = 3;
const ANSWER_WORDS: usize = 3;
const OPERATION_WORDS: usize = 4;
/// Bytes of arguments that fit any.
const ANY: u32 = u32::MAX;
/// Instead of a descriptor: the file that was opened last.
const OPENED: u32 = u32::MAX;
/// Permissions of a file that a shim writes, before the umask.
const MODE: u32 = 0o666;

/// A step of an answer, with the numbers that the code knows it by.
enum Operation<'a> {
    Exit(u8),
    Write(u32, &'a [u8]),
    MakeFolder(&'a str),
    Open(&'a str),
    Close,
    WriteArguments(u32),
}

/// More bytes than a table can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its answers are larger than 4 GiB together")]
pub struct TooLarge;

/// The executable file of `shim`, which notes its calls in the file `calls`; none where no code has been written for
/// this machine.
pub fn file(shim: &Shim, calls: &Path) -> Option<Result<Vec<u8>, TooLarge>> {
    let code = answer::code()?;
    let table = table(shim, calls);
    Some(table.map(|table| selftest::elf(Machine::HERE, &[code, &table].concat())))
}

/// What tells the answers of a shim from others.
pub fn identity(shim: &Shim) -> String {
    let table = table(shim, Path::new("")).unwrap_or_default();
    let sum = Sha256::digest(table);
    let digits: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// The table that stands behind the code.
fn table(shim: &Shim, calls: &Path) -> Result<Vec<u8>, TooLarge> {
    let unknown = format!(
        "counterfoil: shim `{}` has no answer to these arguments:",
        shim.name
    );
    let unknown = [
        Operation::Write(2, unknown.as_bytes()),
        Operation::WriteArguments(2),
        Operation::Write(2, b"\n"),
        Operation::Exit(UNANSWERED),
    ];
    let lists: Vec<Vec<Operation>> = shim.answers.iter().map(operations).collect();
    let steps = unknown.len() + lists.iter().map(Vec::len).sum::<usize>();
    let words = HEAD_WORDS + ANSWER_WORDS * lists.len() + OPERATION_WORDS * steps;
    let mut table = Table {
        words: Vec::with_capacity(words),
        data: Vec::new(),
        data_at: 4 * words,
    };
    let mut operations_at = 4 * (HEAD_WORDS + ANSWER_WORDS * lists.len());
    let path = table.text(calls.as_os_str().as_bytes())?;
    table
        .words
        .extend([path, offset(lists.len())?, offset(operations_at)?]);
    operations_at += 4 * OPERATION_WORDS * unknown.len();
    for (answer, list) in shim.answers.iter().zip(&lists) {
        table.arguments(answer)?;
        table.words.push(offset(operations_at)?);
        operations_at += 4 * OPERATION_WORDS * list.len();
    }
    for operation in unknown.iter().chain(lists.iter().flatten()) {
        table.operation(operation)?;
    }
    Ok(table.bytes())
}

fn operations(answer: &Answer) -> Vec<Operation<'_>> {
    let mut list = Vec::new();
    for (path, content) in &answer.files {
        let above = path.match_indices('/').filter(|(at, _)| *at > 0);
        list.extend(above.map(|(at, _)| Operation::MakeFolder(&path[..at])));
        list.extend([
            Operation::Open(path),
            Operation::Write(OPENED, &content.0),
            Operation::Close,
        ]);
    }
    for (descriptor, bytes) in [(1, &answer.stdout.0), (2, &answer.stderr.0)] {
        if !bytes.is_empty() {
            list.push(Operation::Write(descriptor, bytes));
        }
    }
    list.push(Operation::Exit(answer.exit));
    list
}

struct Table {
    words: Vec<u32>,
    data: Vec<u8>,
    /// Where the data will begin.
    data_at: usize,
}

impl Table {
    /// Adds data; where it is in the table.
    fn data(&mut self, bytes: &[u8]) -> Result<u32, TooLarge> {
        let at = offset(self.data_at + self.data.len());
        self.data.extend(bytes);
        at
    }

    /// Adds text with a NUL byte at its end.
    fn text(&mut self, bytes: &[u8]) -> Result<u32, TooLarge> {
        let at = self.data(bytes);
        self.data.push(0);
        at
    }

    fn arguments(&mut self, answer: &Answer) -> Result<(), TooLarge> {
        let words = match &answer.args {
            None => [ANY, 0],
            Some(args) => {
                let bytes: Vec<u8> = args
                    .iter()
                    .flat_map(|arg| [arg.as_bytes(), b"\0"].concat())
                    .collect();
                [offset(bytes.len())?, self.data(&bytes)?]
            }
        };
        self.words.extend(words);
        Ok(())
    }

    fn operation(&mut self, operation: &Operation<'_>) -> Result<(), TooLarge> {
        let words = match operation {
            Operation::Exit(code) => [0, u32::from(*code), 0, 0],
            Operation::Write(to, bytes) => [1, *to, self.data(bytes)?, offset(bytes.len())?],
            Operation::MakeFolder(path) => [2, 0, self.text(path.as_bytes())?, 0],
            Operation::Open(path) => [3, MODE, self.text(path.as_bytes())?, 0],
            Operation::Close => [4, 0, 0, 0],
            Operation::WriteArguments(to) => [5, *to, 0, 0],
        };
        self.words.extend(words);
        Ok(())
    }

    fn bytes(self) -> Vec<u8> {
        let words = self.words.iter().flat_map(|word| word.to_le_bytes());
        words.chain(self.data).collect()
    }
}

fn offset(bytes: usize) -> Result<u32, TooLarge> {
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes < ANY)
        .ok_or(TooLarge)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Output};

    use super::super::calls::{Noted, parse};
    use super::*;
    use crate::model::Content;

    fn answer(args: &[&str], stdout: &str, exit: u8) -> Answer {
        Answer {
            args: Some(args.iter().map(|arg| (*arg).to_owned()).collect()),
            stdout: Content(stdout.into()),
            exit,
            ..Answer::default()
        }
    }

    /// Runs a shim with each of these arguments, and returns its outputs and what it noted.
    fn run(
        answers: Vec<Answer>,
        calls: &[&[&str]],
    ) -> (Vec<Output>, Vec<Noted>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (program, log) = (folder.path().join("uv"), folder.path().join("calls"));
        let shim = Shim {
            name: "uv".to_owned(),
            recorded: false,
            answers,
        };
        fs::write(&program, file(&shim, &log).unwrap().unwrap()).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&log, b"").unwrap();
        let one = |args: &&[&str]| {
            let mut command = Command::new(&program);
            command.args(*args).current_dir(folder.path());
            command.output().unwrap()
        };
        let outputs = calls.iter().map(one).collect();
        let noted = parse(&fs::read(&log).unwrap()).unwrap();
        (outputs, noted, folder)
    }

    fn noted(answer: Option<usize>, args: &[&str]) -> Noted {
        Noted {
            answer: answer.map(Ok),
            args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        }
    }

    #[test]
    fn the_first_answer_that_fits_is_given_and_every_call_is_noted() {
        let answers = vec![
            answer(&["--version"], "uv 1\n", 0),
            answer(&[], "nothing\n", 3),
            answer(&["a b", ""], "two\n", 0),
        ];
        let calls: [&[&str]; 4] = [&["a b", ""], &[], &["--version"], &["--version", "x"]];
        let (outputs, log, _folder) = run(answers, &calls);
        let got = |i: usize| {
            let out: &Output = &outputs[i];
            (
                String::from_utf8_lossy(&out.stdout).into_owned(),
                out.status.code(),
            )
        };
        assert_eq!(got(0), ("two\n".to_owned(), Some(0)));
        assert_eq!(got(1), ("nothing\n".to_owned(), Some(3)));
        assert_eq!(got(2), ("uv 1\n".to_owned(), Some(0)));
        assert_eq!(got(3), (String::new(), Some(i32::from(UNANSWERED))));
        let said = "counterfoil: shim `uv` has no answer to these arguments: --version x\n";
        assert_eq!(String::from_utf8_lossy(&outputs[3].stderr), said);
        let expected = [
            noted(Some(2), &["a b", ""]),
            noted(Some(1), &[]),
            noted(Some(0), &["--version"]),
            noted(None, &["--version", "x"]),
        ];
        assert_eq!(log, expected);
    }

    #[test]
    fn an_answer_without_arguments_fits_any_and_writes_its_files() {
        let all = Answer {
            stdout: Content(vec![b'x'; 300_000]),
            stderr: Content(b"warned\n".to_vec()),
            files: [
                ("deep/er/out".to_owned(), Content(vec![0, 1, 255])),
                ("empty".to_owned(), Content::default()),
            ]
            .into(),
            ..Answer::default()
        };
        let (outputs, log, folder) = run(vec![all], &[&["anything"]]);
        assert_eq!(outputs[0].status.code(), Some(0));
        assert_eq!(outputs[0].stdout.len(), 300_000);
        assert_eq!(outputs[0].stderr, b"warned\n");
        assert_eq!(log, [noted(Some(0), &["anything"])]);
        let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert_eq!(read("deep/er/out"), [0, 1, 255]);
        assert_eq!(read("empty"), [0; 0]);
    }

    #[test]
    fn what_cannot_be_written_is_noted_with_its_errno() {
        let file = |path: &str| Answer {
            files: [(path.to_owned(), Content(vec![1]))].into(),
            ..Answer::default()
        };
        for (path, errno) in [("/dev/full", 28), ("calls/below/a/file", 20)] {
            let (outputs, log, _folder) = run(vec![file(path)], &[&["a"]]);
            assert_eq!(outputs[0].status.code(), Some(i32::from(UNANSWERED)));
            assert_eq!(log[0], noted(Some(0), &["a"]));
            assert_eq!(log[1].answer, Some(Err(errno)), "{path}");
        }
    }
}
