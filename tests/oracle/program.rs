//! Building a generated program, running it natively and under the engine.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use iced_x86::Code;
use libtest_mimic::Failed;

use crate::common::{counterfoil, instructions, stderr, which};
use crate::compare::{Dump, difference};
use crate::encodings::Entry;
use crate::generate::{Generated, Note};
use crate::layout::{
    CODE, CODE_BYTES, FAR_MEMORY, FS_BASE, IMAGES, MEMORY_BYTES, NEAR_MEMORY, RUNTIME, STATE,
};

/// Has the engine stop a program after each few backward or indirect jumps and calls (`backend/dbi/engine/deadline.rs`).
const TIMED: [(&str, &str); 1] = [("COUNTERFOIL_TIMED_ROUNDS", "3")];

/// Room for all records of a program.
const LOG_BYTES: u64 = 64 << 20;

/// What the processor offers.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Why no program can be compared here.
    pub missing: Option<String>,
    /// AVX, and so on: what `xsave` is asked for, and how many bytes that is at most (Intel SDM volume 1, section 13.4).
    states: u32,
    state_bytes: usize,
    /// Names of features, as /proc/cpuinfo has them.
    flags: Vec<String>,
}

impl Machine {
    #[cfg(target_arch = "x86_64")]
    pub fn probe() -> Machine {
        let avx = std::is_x86_feature_detected!("avx");
        let avx512 = std::is_x86_feature_detected!("avx512f");
        let missing = if which("gcc").is_none() {
            Some("no gcc in PATH".to_owned())
        } else {
            (!std::is_x86_feature_detected!("xsave"))
                .then(|| "the processor has no xsave".to_owned())
        };
        let (states, state_bytes) = match (avx, avx512) {
            (_, true) => (0xe7, 2688),
            (true, false) => (7, 832),
            _ => (3, 576),
        };
        Machine {
            missing,
            states,
            state_bytes,
            flags: flags(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub fn probe() -> Machine {
        Machine {
            missing: Some("not an x86-64 machine".to_owned()),
            states: 0,
            state_bytes: 0,
            flags: Vec::new(),
        }
    }

    /// Whether it is likely to execute an instruction: what /proc/cpuinfo has no name for counts as there, unless it
    /// is newer than the names.
    pub fn has(&self, entry: &Entry) -> bool {
        const EXTENSIONS: [&str; 22] = [
            "aeskle",
            "amx",
            "avx",
            "cet",
            "cmpccxadd",
            "fma4",
            "gfni",
            "kl",
            "lwp",
            "movdir",
            "msrlist",
            "padlock",
            "ptwrite",
            "rao",
            "sm3",
            "sm4",
            "sha512",
            "tbm",
            "tsx",
            "uintr",
            "wide_kl",
            "xop",
        ];
        entry.code.cpuid_features().iter().all(|feature| {
            let name = format!("{feature:?}").to_lowercase();
            let optional = EXTENSIONS.iter().any(|prefix| name.starts_with(prefix));
            !optional || self.flags.contains(&name)
        })
    }

    fn record_bytes(&self) -> usize {
        (256 + self.state_bytes).next_multiple_of(64)
    }
}

/// The features of this processor.
fn flags() -> Vec<String> {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("flags"));
    line.unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// What kind of memory the code is in, and how far operands are from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file: taken not to change.
    File,
    /// The same, with operands that a copy of the code does not reach.
    Far,
    /// Memory without a file: compared with its translation at each entry.
    Anonymous,
    /// The same, writable.
    Writable,
}

impl Kind {
    /// Most programs are files.
    pub fn of(seed: u64) -> Kind {
        match seed % 8 {
            2 | 5 => Kind::Far,
            4 => Kind::Anonymous,
            7 => Kind::Writable,
            _ => Kind::File,
        }
    }

    pub fn memory(self) -> u64 {
        match self {
            Kind::Far => FAR_MEMORY,
            _ => NEAR_MEMORY,
        }
    }

    /// The protection of code that is no file.
    fn protection(self) -> Option<u64> {
        match self {
            Kind::File | Kind::Far => None,
            Kind::Anonymous => Some(5),
            Kind::Writable => Some(7),
        }
    }
}

/// A program that can be run.
pub struct Program {
    file: PathBuf,
    record_bytes: usize,
    generated: Generated,
    /// Whether it is single-stepped, too.
    stepped: bool,
}

impl Program {
    /// Links generated code to the runtime.
    pub fn build(
        seed: u64,
        kind: Kind,
        generated: Generated,
        machine: &Machine,
    ) -> Result<Program, Failed> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oracle/{seed}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("code"), &generated.code)?;
        fs::write(folder.join("skips"), &generated.skips)?;
        fs::write(folder.join("images"), &generated.images)?;
        fs::write(folder.join("memory"), &generated.memory)?;
        let file = folder.join("program");
        let record_bytes = machine.record_bytes();
        let mut command = Command::new("gcc");
        command.args([
            "-nostdlib",
            "-static",
            "-Wl,--build-id=none",
            "-Wl,-z,noexecstack",
        ]);
        for (section, address) in [
            ("runtime", RUNTIME),
            ("generated", CODE),
            ("state", STATE),
            ("images", IMAGES),
            ("memory", kind.memory()),
        ] {
            command.arg(format!("-Wl,--section-start=.{section}={address:#x}"));
        }
        for (name, value) in [
            ("RECORD", record_bytes as u64),
            ("STATES", machine.states.into()),
            ("STATE_BYTES", machine.state_bytes as u64),
            ("MEMORY", kind.memory()),
            ("MEMORY_BYTES", MEMORY_BYTES),
            ("FS_BASE", FS_BASE),
            ("CODE", CODE),
            ("CODE_BYTES", CODE_BYTES),
            ("LOG_BYTES", LOG_BYTES),
        ] {
            command.arg(format!("-D{name}={value:#x}"));
        }
        if let Some(protection) = kind.protection() {
            command.arg(format!("-DVOLATILE={protection}"));
        }
        let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/runtime.S");
        let made = command
            .arg("-o")
            .arg(&file)
            .arg(runtime)
            .current_dir(&folder)
            .output()?;
        if !made.status.success() {
            return Err(format!("gcc: {}", stderr(&made)).into());
        }
        // A program that is single-stepped loses the trap of `int1`, and may be ended by that of `int3`.
        let traps = |note: &Note| matches!(note.code, Some(Code::Int1 | Code::Int3));
        let has_traps = generated.notes.iter().any(traps);
        Ok(Program {
            file,
            record_bytes,
            generated,
            stepped: seed.is_multiple_of(4) && !has_traps,
        })
    }

    /// Runs it in each way; what differs is the error.
    pub fn compare(&self) -> Result<(), Failed> {
        let native = self.run(&mut Command::new(&self.file), "native", "stdout")?;
        let native = self.dump(&native, "natively")?;
        let (engine, count) = self.counted("dbi", &[])?;
        let (timed, timed_count) = self.counted("dbi", &TIMED)?;
        for engine in [engine, timed] {
            let engine = self.dump(&engine, "under the engine")?;
            if let Some(text) = difference(&native, &engine, &self.generated.notes) {
                return Err(format!("{}: {text}", self.file.display()).into());
            }
        }
        self.same("in timed code", timed_count, count)?;
        if self.stepped {
            let (_, stepped) = self.counted("step", &[])?;
            self.same("step", stepped, count)?;
        }
        self.tell_outcomes(&native)?;
        Ok(fs::remove_dir_all(self.beside(""))?)
    }

    fn same(&self, how: &str, other: u64, count: u64) -> Result<(), Failed> {
        if other == count {
            return Ok(());
        }
        let file = self.file.display();
        Err(format!("{file}: dbi counts {count}, {how} {other}").into())
    }

    /// Appends to the file that `COUNTERFOIL_ORACLE_OUTCOMES` names, if it does, a line for each instruction that was
    /// compared: its name and whether it faulted. (Those that a branch led around are among them.)
    fn tell_outcomes(&self, native: &Dump) -> Result<(), Failed> {
        let Some(file) = std::env::var_os("COUNTERFOIL_ORACLE_OUTCOMES") else {
            return Ok(());
        };
        let faults = native.faults();
        let mut lines = String::new();
        for note in &self.generated.notes {
            if let Some(code) = note.code {
                let outcome = if faults.contains(&note.at) {
                    "fault"
                } else {
                    "done"
                };
                lines += &format!("{code:?} {outcome}\n");
            }
        }
        let mut file = File::options().create(true).append(true).open(file)?;
        Ok(file.write_all(lines.as_bytes())?)
    }

    /// What the program has written under a backend (to standard error, as standard output is the report's), and its count.
    fn counted(&self, backend: &str, variables: &[(&str, &str)]) -> Result<(Vec<u8>, u64), Failed> {
        let mut command = counterfoil(&["count", "--backend", backend, "--json", "--"]);
        command.envs(variables.iter().copied());
        let report = format!("{backend}-report");
        self.run(command.arg(&self.file), backend, &report)?;
        let text = fs::read(self.beside(&report))?;
        let report = serde_json::from_slice(&text)
            .map_err(|error| format!("{backend}: no report: {error}"))?;
        Ok((fs::read(self.beside(backend))?, instructions(&report)))
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.file.with_file_name(name)
    }

    /// Runs to the end with the streams in files; the program's own is `dump`.
    fn run(&self, command: &mut Command, dump: &str, other: &str) -> Result<Vec<u8>, Failed> {
        let (dump, other) = (self.beside(dump), self.beside(other));
        let is_native = other.ends_with("stdout");
        let (out, err) = if is_native {
            (&dump, &other)
        } else {
            (&other, &dump)
        };
        let status = command
            .stdin(Stdio::null())
            .stdout(File::create(out)?)
            .stderr(File::create(err)?)
            .status()?;
        if !status.success() {
            let text = fs::read(&dump)?;
            let text = String::from_utf8_lossy(&text[..text.len().min(2000)]).into_owned();
            return Err(format!("{}: {status}: {text}", dump.display()).into());
        }
        Ok(fs::read(dump)?)
    }

    fn dump<'a>(&self, bytes: &'a [u8], how: &str) -> Result<Dump<'a>, Failed> {
        Dump::of(bytes, self.record_bytes)
            .ok_or_else(|| format!("{how}: {} bytes", bytes.len()).into())
    }
}
