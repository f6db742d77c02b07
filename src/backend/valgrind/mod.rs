//! Valgrind's cachegrind and callgrind.
//!
//! # What a process's count holds
//! Valgrind counts one process from the first instruction of its dynamic loader to its end, all threads together,
//! and each iteration of a `rep` string instruction. It loads one small library of its own into every process
//! (`vgpreload_core`), which the loader's work for it is counted with. The CPU it shows to the program is its own
//! version of the host's.
//!
//! # Trees
//! Two things go wrong with processes when out files are simply added up, and both are dealt with:
//! - A forked child inherits its parent's counts and writes them again: [`snapshot`] takes them off exactly.
//! - A process that execs loses what it had counted: the execs are counted and named in a caveat.
//!
//! Callgrind adds a block's cost when the next block begins, so the block that a process, a thread or a signal handler
//! ends in is missing in its count (cachegrind has it), and a forked child's count begins with the block that forked.
//! [`pending`] reads these blocks from callgrind's memory; a caveat says where that did not work.
//!
//! # What is lost at an exec, and why
//! The fork's trick does not work at the host's execve: Valgrind has by then made a mess that it does not return from,
//! and when the call fails it exits without writing anything (coregrind/m_syswrap/syswrap-generic.c,
//! `handle_pre_sys_execve`). The last moment from which it does return is its own open(2) of the program, in
//! `VG_(pre_exec_check)`. A seccomp filter could report that call to us; but the filter stays on processes that
//! outlive the run untraced, and every open that it reports would fail there with ENOSYS. (The filter that is used
//! here costs such a process no more than its log.)
//!
//! A process that is killed by SIGKILL writes nothing; a caveat names it.

mod cachegrind;
pub mod cachegrind_out;
mod callgrind;
pub mod callgrind_out;
mod family;
mod format;
mod launch;
mod pending;
mod run;
#[cfg(target_arch = "x86_64")]
mod snapshot;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::family::Member;
use super::program_file::{Format, ProgramFile};
use super::selftest::{self, Machine};
use super::{Backend, BackendError, Detail, Ready, Unavailable};
use crate::model::ProcessCount;
use crate::sys::spawn::Launch;

pub use cachegrind::Cachegrind;
pub use callgrind::Callgrind;
pub use format::FormatError;
pub use launch::Valgrind;

use self::launch::Tool;

/// An error when more is wanted than the backend has.
fn check_offer(backend: &dyn Backend, want: Detail) -> Result<(), BackendError> {
    let offer = backend.offers();
    let what = [
        (want.opcodes && !offer.opcodes, "opcodes"),
        (want.functions && !offer.functions, "functions"),
        (want.regions && !offer.regions, "regions"),
    ];
    match what.into_iter().find(|(missing, _)| *missing) {
        Some((_, what)) => Err(BackendError::NotOffered {
            kind: backend.kind(),
            what,
            remedy: "use the backend `callgrind` or `step`",
        }),
        None => Ok(()),
    }
}

/// Why Valgrind would not start a program.
fn refuses(tool: Tool, program: &Path) -> Option<String> {
    let file = ProgramFile::executed_for(program)?;
    let path = file.path.display();
    match file.format {
        // coregrind/m_ume/main.c, `VG_(check_executable)`: whoever's the file is.
        _ if file.sets_ids => Some(format!("`{path}` runs as its own user or group (set-uid)")),
        Format::X86 if cfg!(target_arch = "x86_64") && !launch::has_32_bit(tool) => Some(format!(
            "`{path}` is a 32-bit program, which this Valgrind was built without"
        )),
        Format::Foreign if cfg!(target_arch = "x86_64") => {
            Some(format!("`{path}` is no program of this machine"))
        }
        _ => None,
    }
}

/// Instructions that callgrind may leave out where tracing or filters are forbidden: the basic block a process
/// ends in, at most a whole one (`--vex-guest-max-insns`, 50).
const LAST_BLOCK: u64 = 50;

/// Counts a program of known length, which ends with `lacking` instructions in its last block or fewer.
fn probe(backend: &dyn Backend, lacking: u64) -> Result<Ready, Unavailable> {
    let valgrind = Valgrind::find()?;
    let broken = |reason: String| Unavailable {
        reason,
        remedy: "run `valgrind true` by hand and see what it says".to_owned(),
    };
    let no_folder = |error: std::io::Error| Unavailable {
        reason: format!("a program cannot be put into the temporary folder: {error}"),
        remedy: "set TMPDIR to a folder that can be written and executed from".to_owned(),
    };
    let folder = tempfile::tempdir().map_err(no_folder)?;
    let known = selftest::program(Machine::HERE, 1000);
    let program = folder.path().join("known");
    write_program(&program, &known.elf).map_err(no_folder)?;
    let launch = Launch {
        args: vec![program.clone().into_os_string()],
        program,
        ..Launch::default()
    };
    let run = backend.run(&launch, Detail::default(), folder.path());
    let run = run.map_err(|error| broken(error.to_string()))?;
    let least = known.instructions.saturating_sub(lacking);
    if !(least..=known.instructions).contains(&run.instructions) {
        return Err(broken(format!(
            "it counted {} instructions of a program that executes {}",
            run.instructions, known.instructions
        )));
    }
    Ok(Ready {
        version: valgrind.version,
        notes: vec![
            "each iteration of a rep string instruction counts as one instruction".to_owned(),
            "counts hold for this CPU model only".to_owned(),
        ],
    })
}

fn write_program(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, bytes)?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
}

/// The processes a report lists, with parents numbered as in that list.
fn listed(members: &[Member], counts: &[Option<u64>]) -> Vec<ProcessCount> {
    let mut places = Vec::with_capacity(members.len());
    let mut rows: Vec<ProcessCount> = Vec::new();
    for (member, count) in members.iter().zip(counts) {
        let parent = member
            .parent
            .and_then(|index| places.get(index).copied().flatten());
        places.push(member.is_listed().then_some(rows.len()));
        if member.is_listed() {
            rows.push(ProcessCount {
                index: rows.len(),
                parent,
                program: member.program.display().to_string(),
                replaces: replaces(members, member),
                instructions: *count,
            });
        }
    }
    rows
}

/// Whether a member took its parent's place in the same process.
fn replaces(members: &[Member], member: &Member) -> bool {
    let parent = member.parent.and_then(|index| members.get(index));
    parent.is_some_and(|parent| parent.pid == member.pid)
}

/// The files that any process had mapped executable, Valgrind's own left out.
fn modules(members: &[Member]) -> Vec<PathBuf> {
    let files = members.iter().flat_map(|m| &m.mappings);
    let files: BTreeSet<PathBuf> = files.filter_map(|m| m.file.clone()).collect();
    files.into_iter().collect()
}
