//! What a script in the place of a recorded program does: calls the real one, passes everything through, and notes
//! down what came out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{ShimError, file_error};
use crate::model::{Answer, Content};

/// The first argument with which such a script starts us.
pub const ARGUMENT: &str = "record-shim-call";

/// What we must know.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    /// The real program.
    pub program: PathBuf,
    /// `PATH` without the scripts.
    pub path: OsString,
    pub files: Vec<String>,
}

/// Where the order of a program is.
pub(super) fn order_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("order-{name}"))
}

/// Calls the real program with `args`, and notes what came out. The exit code is the program's.
pub fn run(script: &Path, args: &[OsString]) -> Result<i32, ShimError> {
    let name = script.file_name().unwrap_or_default().to_string_lossy();
    let folder = script.ancestors().nth(2).unwrap_or(Path::new("/"));
    let order = order_path(folder, &name);
    let text = fs::read_to_string(&order).map_err(file_error("read", &order))?;
    let read: Result<Order, _> = serde_json::from_str(&text).map_err(io::Error::from);
    let (answer, code) = made(&read.map_err(file_error("read", &order))?, &name, args)?;
    let calls = folder.join(format!("calls-{name}"));
    note(&calls, &answer).map_err(file_error("write", &calls))?;
    Ok(code)
}

/// Makes the call; the answer, or why it cannot be replayed, and the code to exit with.
fn made(
    order: &Order,
    name: &str,
    args: &[OsString],
) -> Result<(Result<Answer, String>, i32), ShimError> {
    let stamps = |files: &[String]| files.iter().map(|path| stamp(path)).collect::<Vec<_>>();
    let before = stamps(&order.files);
    let mut command = Command::new(&order.program);
    std::os::unix::process::CommandExt::arg0(&mut command, name);
    command.args(args).env("PATH", &order.path);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(file_error("execute", &order.program))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr) = std::thread::scope(|scope| {
        let err = scope.spawn(|| passed_on(err, io::stderr()));
        (passed_on(out, io::stdout()), err.join().unwrap_or_default())
    });
    let status = child
        .wait()
        .map_err(file_error("wait for", &order.program))?;
    let Some(code) = status.code() else {
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0);
        let problem = format!("signal {signal} killed the real program, and a shim can only exit");
        return Ok((Err(problem), 128 + signal));
    };
    let words: Option<Vec<String>> = args
        .iter()
        .map(|arg| arg.to_str().map(str::to_owned))
        .collect();
    let Some(words) = words else {
        return Ok((Err("an argument is not UTF-8".to_owned()), code));
    };
    let mut files = BTreeMap::new();
    for (path, before) in order.files.iter().zip(&before) {
        if stamp(path) != *before
            && let Ok(content) = fs::read(path)
        {
            files.insert(path.clone(), Content(content));
        }
    }
    let answer = Answer {
        args: Some(words),
        stdout: Content(stdout),
        stderr: Content(stderr),
        exit: u8::try_from(code).unwrap_or(u8::MAX),
        files,
    };
    Ok((Ok(answer), code))
}

/// What changes whenever a file is written or replaced.
fn stamp(path: &str) -> Option<(u64, i64, i64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

/// Passes on what a stream gives as it comes, and returns it. A reader that has gone does not stop the program.
fn passed_on(stream: Option<impl Read>, mut to: impl Write) -> Vec<u8> {
    let mut all = Vec::new();
    let mut part = [0; 1 << 16];
    let Some(mut stream) = stream else {
        return all;
    };
    while let Ok(got @ 1..) = stream.read(&mut part) {
        all.extend(&part[..got]);
        let _ = to.write_all(&part[..got]).and_then(|()| to.flush());
    }
    all
}

/// Appends a line; calls may come at the same time.
fn note(calls: &Path, answer: &Result<Answer, String>) -> io::Result<()> {
    let line = serde_json::to_string(answer)? + "\n";
    let file = OpenOptions::new().create(true).append(true).open(calls)?;
    let mut file =
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
    file.write_all(line.as_bytes())
}
