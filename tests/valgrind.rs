//! The backends `cachegrind` and `callgrind` on real programs, through the library.
//!
//! Programs of known length are assembled by the C compiler; without one, or without Valgrind, a test says so.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use counterfoil::backend::valgrind::{Cachegrind, Callgrind, Valgrind};
use counterfoil::backend::{Backend, BackendError, Detail};
use counterfoil::model::{Caveat, Outcome, Run};
use counterfoil::sys::spawn::{Launch, SpawnError, Stream};
use counterfoil::sys::tree::TreeError;

/// Says why a test cannot run here; with `COUNTERFOIL_NO_SKIPS=1` that is a failure.
fn skip(reason: &str) {
    assert!(
        std::env::var_os("COUNTERFOIL_NO_SKIPS").is_none_or(|value| value != "1"),
        "skipped: {reason}"
    );
    eprintln!("skipped: {reason}");
}

/// What the tests need, or none and the reason said.
fn tools(needed: &[&str]) -> Option<()> {
    if let Err(missing) = Valgrind::find() {
        skip(&missing.to_string());
        return None;
    }
    for tool in needed {
        if Command::new(tool).arg("--version").output().is_err() {
            skip(&format!("no {tool}"));
            return None;
        }
    }
    Some(())
}

/// Builds a program without a C library from assembly.
fn assemble(folder: &Path, source: &str) -> PathBuf {
    let text = folder.join("program.s");
    let program = folder.join("program");
    fs::write(&text, format!(".globl _start\n_start:\n{source}")).unwrap();
    let built = Command::new("gcc")
        .args(["-nostdlib", "-static", "-o"])
        .args([&program, &text])
        .status();
    assert!(built.unwrap().success());
    program
}

fn launch(command: &[&str]) -> Launch {
    let null = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let null = Stream::File(std::sync::Arc::new(null.into()));
    Launch {
        program: command[0].into(),
        args: command.iter().map(OsString::from).collect(),
        env: vec!["PATH=/usr/bin:/bin".into(), "PYTHONHASHSEED=0".into()],
        stdin: null.clone(),
        stdout: null.clone(),
        stderr: null,
        fixed_addresses: true,
        fixed_random: true,
        ..Launch::default()
    }
}

fn try_count(backend: &dyn Backend, launch: &Launch) -> Result<Run, BackendError> {
    let scratch = tempfile::tempdir().unwrap();
    backend.run(launch, backend.offers().without_regions(), scratch.path())
}

trait WithoutRegions {
    fn without_regions(self) -> Detail;
}

impl WithoutRegions for Detail {
    fn without_regions(self) -> Detail {
        Detail {
            regions: false,
            ..self
        }
    }
}

fn count(backend: &dyn Backend, command: &[&str]) -> Run {
    try_count(backend, &launch(command)).unwrap()
}

fn by_process(run: &Run) -> Vec<Option<u64>> {
    run.processes.iter().map(|p| p.instructions).collect()
}

/// 1 + 2 * 1000 + 3.
const LOOP: &str = "mov $1000,%ecx\n1: dec %ecx\njnz 1b\nmov $60,%eax\nxor %edi,%edi\nsyscall\n";

/// Both: 1 + 2 * 1000 + 2 + 2, then the parent 3 + 3 and the child 1 + 2 * 500 + 3.
const FORK: &str = "mov $1000,%ecx\n1: dec %ecx\njnz 1b\nmov $57,%eax\nsyscall\n\
                    test %eax,%eax\njz 2f\nnop\nnop\nnop\nmov $60,%eax\nxor %edi,%edi\nsyscall\n\
                    2: mov $500,%ecx\n1: dec %ecx\njnz 1b\nmov $60,%eax\nxor %edi,%edi\nsyscall\n";

#[test]
#[cfg(target_arch = "x86_64")]
fn cachegrind_counts_a_known_program_exactly() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = assemble(folder.path(), LOOP);
    let run = count(&Cachegrind, &[program.to_str().unwrap()]);
    assert_eq!((run.outcome, run.instructions), (Outcome::Exited(0), 2004));
    assert!(run.caveats.contains(&Caveat::RepIterations));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_forked_child_counts_only_what_it_executed_itself() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = assemble(folder.path(), FORK);
    let run = count(&Cachegrind, &[program.to_str().unwrap()]);
    assert_eq!(by_process(&run), [Some(2011), Some(1006)]);
    assert_eq!(run.instructions, 2011 + 1006);
    assert_eq!(run.processes[1].parent, Some(0));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn callgrind_lacks_nothing_but_the_last_block_and_says_so() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = assemble(folder.path(), LOOP);
    let run = count(&Callgrind::default(), &[program.to_str().unwrap()]);
    assert_eq!(run.instructions, 2001);
    let opcodes = run.opcodes.unwrap().0;
    assert_eq!(
        opcodes,
        [
            ("dec".to_owned(), 1000),
            ("jne".to_owned(), 1000),
            ("mov".to_owned(), 1)
        ]
        .into()
    );
    let says = |c: &Caveat| matches!(c, Caveat::Other { text } if text.contains("basic block"));
    assert!(run.caveats.iter().any(says));
    assert!(!run.caveats.contains(&Caveat::RepIterations));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn each_iteration_of_a_rep_instruction_counts_and_is_marked() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = "mov $100,%ecx\nmov %rsp,%rdi\nsub $200,%rdi\nrep stosb\njmp 1f\n1: mov $60,%eax\n\
                  xor %edi,%edi\nsyscall\n";
    let program = assemble(folder.path(), source);
    let run = count(&Callgrind::default(), &[program.to_str().unwrap()]);
    assert!(run.caveats.contains(&Caveat::RepIterations));
    assert!(run.opcodes.unwrap().0["stosb"] >= 100);
}

#[test]
fn every_instruction_of_a_real_program_has_an_opcode_and_a_function() {
    let callgrind = Callgrind::default();
    for command in [
        vec!["/usr/bin/perl", "-e", "print 1"],
        vec!["/usr/bin/python3", "-c", "pass"],
        vec!["/usr/bin/git", "--version"],
        vec!["/bin/true"],
    ] {
        if tools(&[]).is_none() {
            return;
        }
        if !Path::new(command[0]).exists() {
            skip(&format!("no {}", command[0]));
            continue;
        }
        let run = count(&callgrind, &command);
        let opcodes = run.opcodes.unwrap();
        assert_eq!(opcodes.total(), Ok(run.instructions), "{command:?}");
        assert_eq!(
            opcodes.0.get("(bad)"),
            None,
            "{command:?}: {:?}",
            run.caveats
        );
        assert_eq!(run.functions.unwrap().total(), Ok(run.instructions));
        assert!(run.modules.iter().any(|file| file.starts_with("/usr")));
    }
}

#[test]
fn the_processes_of_a_compiler_add_up_and_lost_counts_are_named() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let object = folder.path().join("a.o");
    let command = [
        "/usr/bin/gcc",
        "-c",
        source.to_str().unwrap(),
        "-o",
        object.to_str().unwrap(),
    ];
    let run = count(&Callgrind::default(), &command);
    let programs: Vec<_> = run
        .processes
        .iter()
        .filter_map(|p| p.program.rsplit('/').next())
        .collect();
    assert_eq!(programs, ["gcc", "cc1", "as"]);
    assert_eq!(
        by_process(&run).into_iter().flatten().sum::<u64>(),
        run.instructions
    );
    assert_eq!(run.opcodes.unwrap().total(), Ok(run.instructions));
    assert!(run.caveats.contains(&Caveat::LostBeforeExec { execs: 2 }));
    assert!(object.exists());
}

#[test]
fn a_subshell_does_not_count_its_parent_again() {
    if tools(&[]).is_none() {
        return;
    }
    let work = "i=0; while [ $i -lt 300 ]; do i=$((i+1)); done";
    let alone = count(&Cachegrind, &["/bin/sh", "-c", work]);
    let forked = count(
        &Cachegrind,
        &["/bin/sh", "-c", &format!("{work}; (:); (:)")],
    );
    assert_eq!(forked.processes.len(), 3);
    let own = by_process(&forked)[1].unwrap();
    assert!(
        own < alone.instructions / 4,
        "{own} of {}",
        alone.instructions
    );
    assert_eq!(
        by_process(&forked)[1].is_some(),
        by_process(&forked)[2].is_some()
    );
}

#[test]
fn the_same_program_counts_the_same_twice() {
    if tools(&[]).is_none() {
        return;
    }
    let command = ["/bin/sh", "-c", "(:); echo $(echo 1)"];
    let first = count(&Cachegrind, &command);
    assert_eq!(
        first.instructions,
        count(&Cachegrind, &command).instructions
    );
}

#[test]
fn exit_codes_and_signals_are_those_of_the_program() {
    if tools(&[]).is_none() {
        return;
    }
    let outcome = |script: &str| count(&Cachegrind, &["/bin/sh", "-c", script]).outcome;
    assert_eq!(outcome("exit 7"), Outcome::Exited(7));
    assert_eq!(outcome("kill -TERM $$"), Outcome::Killed(15));
}

#[test]
fn a_killed_program_is_marked_as_not_counted() {
    if tools(&[]).is_none() {
        return;
    }
    let run = count(
        &Cachegrind,
        &["/bin/sh", "-c", "/bin/sh -c 'kill -KILL $PPID'; :"],
    );
    assert_eq!(run.outcome, Outcome::Killed(9));
    assert_eq!(by_process(&run)[0], None);
    assert!(format!("{:?}", run.caveats).contains("killed by signal 9"));
}

#[test]
fn a_missing_program_is_an_error_of_ours_and_not_of_valgrind() {
    if tools(&[]).is_none() {
        return;
    }
    let error = try_count(&Cachegrind, &launch(&["/nonexistent/program"])).unwrap_err();
    let BackendError::Tree(TreeError::Spawn(SpawnError::Child { errno, .. })) = error else {
        panic!("{error}");
    };
    assert_eq!(errno.kind(), std::io::ErrorKind::NotFound);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_instruction_valgrind_does_not_know_is_named_with_a_remedy() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = assemble(
        folder.path(),
        "vmovups (%rsp),%zmm0\nmov $60,%eax\nsyscall\n",
    );
    let error = try_count(&Cachegrind, &launch(&[program.to_str().unwrap()])).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("does not know an instruction") && text.contains("AVX-512"),
        "{text}"
    );
}

#[test]
fn what_a_user_configured_for_valgrind_does_not_matter() {
    if tools(&[]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".valgrindrc"), "--nonsense=1\n").unwrap();
    let mut launch = launch(&["/bin/true"]);
    launch.cwd = Some(folder.path().to_owned());
    launch.env.push("VALGRIND_OPTS=--nonsense=2".into());
    launch
        .env
        .push(format!("HOME={}", folder.path().display()).into());
    assert_eq!(
        try_count(&Cachegrind, &launch).unwrap().outcome,
        Outcome::Exited(0)
    );
}

#[test]
fn both_backends_answer_a_probe() {
    if tools(&[]).is_none() {
        return;
    }
    let version = Valgrind::find().unwrap().version;
    assert_eq!(Cachegrind.probe().unwrap().version, version);
    assert_eq!(Callgrind::default().probe().unwrap().version, version);
}
