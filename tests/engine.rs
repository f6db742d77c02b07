//! The programs of `tests/engine/programs` under a counting backend: each behaves as natively, and the exact ones count what
//! single-stepping counts. Does not generate code at random.
//!
//! `COUNTERFOIL_ENGINE_BACKEND` names another backend than `dbi`. A program is run when the first lines of its file say how.

mod common;

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::{counterfoil, instructions, output, stderr, which};
use libtest_mimic::{Failed, Trial};

/// No program natively takes a second; an engine that needs this long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let backend = std::env::var("COUNTERFOIL_ENGINE_BACKEND").unwrap_or_else(|_| "dbi".to_owned());
    let unknown = unknown(&backend);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/programs");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of programs")
        .map(|entry| entry.expect("its entry").path())
        .collect();
    files.sort();
    let mut trials = Vec::new();
    for program in files.iter().filter_map(|file| Program::read(file)) {
        for build in program.builds.clone() {
            trials.push(trial(program.clone(), build, &backend, unknown.clone()));
        }
    }
    common::run(trials)
}

/// Why no program can be run here at all. A backend that is known and fails is no such reason.
fn unknown(backend: &str) -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("not an x86-64 machine".to_owned());
    }
    let run = output(&mut counterfoil(&["count", "-b", backend, "--help"]));
    (!run.status.success()).then(|| {
        let error = stderr(&run);
        format!("{backend}: {}", error.lines().next().unwrap_or("no count"))
    })
}

/// How to make one file from a source: compiler and arguments.
#[derive(Clone)]
struct Build {
    name: String,
    command: Vec<String>,
}

impl Build {
    /// `NAME: COMPILER FLAGS...`.
    fn parse(text: &str) -> Self {
        let (name, command) = text.split_once(':').expect("NAME: COMPILER FLAGS");
        Self {
            name: name.trim().to_owned(),
            command: command.split_whitespace().map(str::to_owned).collect(),
        }
    }
}

/// A source file and what its first lines say (`tests/engine/programs/README.md`).
#[derive(Clone)]
struct Program {
    source: PathBuf,
    name: String,
    prints: String,
    exits: i32,
    builds: Vec<Build>,
    libraries: Vec<Build>,
    exact: bool,
    /// Counted with `--no-pin`: it wants what pinned programs do not get.
    unpinned: bool,
    needs: Vec<String>,
    /// Backends that refuse it, and what they say.
    refused: Vec<(String, String)>,
}

impl Program {
    /// None for a file that is no program.
    fn read(source: &Path) -> Option<Self> {
        let extension = source.extension()?.to_str()?;
        if !["c", "cpp", "rs", "S"].contains(&extension) {
            return None;
        }
        let text = fs::read_to_string(source).expect("the source");
        let mut program = Self {
            source: source.to_owned(),
            name: source.file_stem()?.to_str()?.to_owned(),
            prints: String::new(),
            exits: 0,
            builds: Vec::new(),
            libraries: Vec::new(),
            exact: false,
            unpinned: false,
            needs: Vec::new(),
            refused: Vec::new(),
        };
        for line in text.lines().map_while(|line| line.strip_prefix("// ")) {
            program.take(line);
        }
        assert!(!program.builds.is_empty(), "no build: {}", source.display());
        Some(program)
    }

    /// One line of the comment at the top.
    fn take(&mut self, line: &str) {
        match line.split_once(' ') {
            _ if line == "exact" => self.exact = true,
            _ if line == "unpinned" => self.unpinned = true,
            Some(("prints:", text)) => self.prints += &format!("{text}\n"),
            Some(("exits:", code)) => self.exits = code.parse().expect("an exit code"),
            Some(("refused", refusal)) => {
                let text = refusal.strip_prefix("by ").expect("a backend");
                let (backend, text) = text.split_once(": ").expect("what it says");
                self.refused.push((backend.to_owned(), text.to_owned()));
            }
            Some(("needs:", need)) => self.needs.push(need.to_owned()),
            Some(("build", build)) => self.builds.push(Build::parse(build)),
            Some(("library", library)) => self.libraries.push(Build::parse(library)),
            _ => (),
        }
    }

    /// Compiles what is older than its sources; the program has the name of its source.
    fn compile(&self, build: &Build) -> Result<PathBuf, Failed> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("engine")
            .join(format!("{}-{}", self.name, build.name));
        fs::create_dir_all(&folder)?;
        for library in &self.libraries {
            self.make(&folder.join(&library.name), library)?;
        }
        let program = folder.join(&self.name);
        self.make(&program, build)?;
        Ok(program)
    }

    fn make(&self, file: &Path, build: &Build) -> Result<(), Failed> {
        if self.is_fresh(file) {
            return Ok(());
        }
        let source = self.source.to_str().expect("a path in UTF-8");
        let (before, after) = build.command.split_at(
            // Libraries are searched for what the objects before them lack.
            build
                .command
                .iter()
                .position(|word| word.starts_with("-l"))
                .unwrap_or(build.command.len()),
        );
        let made = Command::new(&before[0])
            .args(&before[1..])
            .arg(source)
            .args(after)
            .arg("-o")
            .arg(file)
            .current_dir(file.parent().expect("its folder"))
            .output()?;
        if made.status.success() {
            Ok(())
        } else {
            Err(format!("{}: {}", build.command.join(" "), stderr(&made)).into())
        }
    }

    fn is_fresh(&self, file: &Path) -> bool {
        let time = |file: &Path| fs::metadata(file).and_then(|file| file.modified()).ok();
        let made = time(file);
        let shared = ["check.h", "check.inc"].map(|name| time(&self.source.with_file_name(name)));
        made.is_some() && made > time(&self.source) && shared.iter().all(|shared| made > *shared)
    }

    /// Why it cannot be run here. What the machine lacks cannot be installed: that is a skip under `COUNTERFOIL_NO_SKIPS` too.
    fn lacks(&self) -> Option<String> {
        let holds = |file: &str, word: &str| {
            fs::read_to_string(file).is_ok_and(|text| {
                text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .any(|found| found == word)
            })
        };
        self.needs.iter().find_map(|need| match need.as_str() {
            // SAFETY: takes nothing, cannot fail.
            "root" => (unsafe { libc::geteuid() } != 0).then(|| "not root".to_owned()),
            "vsyscall" => {
                (!holds("/proc/self/maps", "vsyscall")).then(|| "no vsyscall page".to_owned())
            }
            flag => (!holds("/proc/cpuinfo", flag)).then(|| format!("the processor has no {flag}")),
        })
    }
}

fn trial(program: Program, build: Build, backend: &str, unknown: Option<String>) -> Trial {
    let name = format!("{}_{}", program.name, build.name.replace('-', "_"));
    let compiler = &build.command[0];
    let missing = which(compiler)
        .is_none()
        .then(|| format!("no {compiler} in PATH"));
    let lacks = program.lacks();
    let forbidden = std::env::var_os("COUNTERFOIL_NO_SKIPS").is_some_and(|value| value == "1");
    if let (true, None, Some(reason)) = (forbidden, &lacks, unknown.clone().or(missing.clone())) {
        return Trial::test(name, move || {
            Err(format!("cannot run here: {reason}").into())
        });
    }
    if let Some(reason) = lacks.or(unknown).or(missing) {
        return Trial::test(name, || Ok(()))
            .with_kind(format!("skipped: {reason}"))
            .with_ignored_flag(true);
    }
    let backend = backend.to_owned();
    let exact = program.exact;
    let trial = Trial::test(name, move || check(&program, &build, &backend));
    if exact {
        trial.with_kind("exact")
    } else {
        trial
    }
}

fn check(program: &Program, build: &Build, backend: &str) -> Result<(), Failed> {
    let file = program.compile(build)?;
    let native = finish(&mut Command::new(&file), &file.with_extension("native"))?;
    let expected = Ended {
        stdout: program.prints.clone(),
        stderr: String::new(),
        code: program.exits,
    };
    same("natively", &native, "expected", &expected)?;
    let file_name = file.to_str().expect("a path in UTF-8");
    let options = ["count", "--backend", backend, "--quiet"];
    let unpinned: &[_] = if program.unpinned { &["--no-pin"] } else { &[] };
    let mut counted = counterfoil(&[&options[..], unpinned, &["--", file_name]].concat());
    let counted = finish(&mut counted, &file.with_extension("counted"))?;
    if let Some((_, text)) = program.refused.iter().find(|(by, _)| by == backend) {
        return refuses(&counted, text);
    }
    same(backend, &counted, "natively", &native)?;
    // One build is enough for the oracle, which takes a thousand times as long: the one without a dynamic loader.
    let compared = program
        .builds
        .iter()
        .find(|build| build.name.starts_with("static"));
    let compared = compared.or(program.builds.first());
    let is_compared = compared.is_some_and(|compared| compared.name == build.name);
    if program.exact && is_compared && backend != "step" {
        counts_as_step(backend, &file)?;
    }
    Ok(())
}

/// The exit code of counterfoil's own failures (docs/guide.md).
const COUNTING_FAILED: i32 = 125;

fn refuses(counted: &Ended, text: &str) -> Result<(), Failed> {
    if counted.code == COUNTING_FAILED && counted.stderr.contains(text) {
        return Ok(());
    }
    Err(format!(
        "exit code {}, not refused with \"{text}\":\n{}",
        counted.code, counted.stderr
    )
    .into())
}

fn counts_as_step(backend: &str, file: &Path) -> Result<(), Failed> {
    let (ours, oracle) = (count(backend, file)?, count("step", file)?);
    if ours == oracle {
        return Ok(());
    }
    let difference = ours.cast_signed() - oracle.cast_signed();
    Err(format!("{backend} counts {ours}, step {oracle}: {difference:+}").into())
}

/// Instructions of one run of the program.
fn count(backend: &str, file: &Path) -> Result<u64, Failed> {
    let report = file.with_extension(format!("{backend}.json"));
    let name = file.to_str().expect("a path in UTF-8");
    // What programs ask the machine for, the oracle lets it answer.
    let machine = ["--cpu", "host", "--time", "real"];
    let options = ["count", "-b", backend, "--json"];
    let mut command = counterfoil(&[&options[..], &machine, &["--", name]].concat());
    let ended = finish(&mut command, &report)?;
    serde_json::from_str(&ended.stdout)
        .map(|report| instructions(&report))
        .map_err(|error| format!("{backend}: no report: {error}\n{}", ended.stderr).into())
}

/// What is seen of a program from outside.
struct Ended {
    stdout: String,
    /// Only told: counterfoil's report is in it.
    stderr: String,
    /// As a shell reports it: 128 and the signal's number for a death by signal.
    code: i32,
}

/// Runs to the end, output in files named after `record` so that a process that is left behind holds up nobody. It gets
/// no other descriptors: cargo hands down those of its job server.
fn finish(command: &mut Command, record: &Path) -> Result<Ended, Failed> {
    let errors = record.with_extension("stderr");
    let close_on_exec = || {
        // SAFETY: takes three numbers and touches no memory.
        match unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(close_on_exec) };
    let mut child = command
        .current_dir(record.parent().expect("its folder"))
        .stdin(Stdio::null())
        .stdout(File::create(record)?)
        .stderr(File::create(&errors)?)
        .process_group(0)
        .spawn()?;
    let start = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
            None => {
                end(&mut child)?;
                return Err(format!("still running after {PATIENCE:?}: {command:?}").into());
            }
        }
    };
    Ok(Ended {
        stdout: read(record)?,
        stderr: read(&errors)?,
        code: code(status),
    })
}

/// A file as text, whatever its bytes are.
fn read(file: &Path) -> Result<String, Failed> {
    Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
}

/// Kills a child that leads its process group, and the group: what it started must not outlive the test.
fn end(child: &mut Child) -> Result<(), Failed> {
    let group = child.id().cast_signed();
    // SAFETY: takes two numbers; the group is ours until its leader is waited for.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    child.wait()?;
    Ok(())
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().expect("a signal or a code"))
}

fn same(who: &str, is: &Ended, whom: &str, should: &Ended) -> Result<(), Failed> {
    if (&is.stdout, is.code) == (&should.stdout, should.code) {
        return Ok(());
    }
    let text = |ended: &Ended| format!("exit code {} and {:?}", ended.code, ended.stdout);
    Err(format!(
        "{who}: {}\n{whom}: {}\n{}",
        text(is),
        text(should),
        is.stderr
    )
    .into())
}
