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

/// Both: 1 + 2 * 1000 + 2 + 2, then the parent 6 to wait for the child and 3, the child 1 + 2 * 500 + 3.
const FORK: &str = "mov $1000,%ecx\n1: dec %ecx\njnz 1b\nmov $57,%eax\nsyscall\n\
                    test %eax,%eax\njz 2f\nmov $-1,%edi\nxor %esi,%esi\nxor %edx,%edx\nxor %r10d,%r10d\n\
                    mov $61,%eax\nsyscall\nmov $60,%eax\nxor %edi,%edi\nsyscall\n\
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
    assert_eq!(by_process(&run), [Some(2014), Some(1006)]);
    assert_eq!(run.instructions, 2014 + 1006);
    assert_eq!(run.processes[1].parent, Some(0));
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_child_that_no_tracer_is_told_of_is_named() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let clone = "mov $56,%eax\nmov $0x800011,%edi\nxor %esi,%esi\nsyscall\n";
    let forks = FORK.replace("mov $57,%eax\nsyscall\n", clone);
    assert_ne!(forks, FORK);
    let program = assemble(folder.path(), &forks);
    let backends: [&dyn Backend; 2] = [&Cachegrind, &Callgrind::default()];
    for backend in backends {
        let run = count(backend, &[program.to_str().unwrap()]);
        assert_eq!(run.processes.len(), 1);
        let named = |caveat: &Caveat| format!("{caveat:?}").contains("CLONE_UNTRACED");
        assert!(run.caveats.iter().any(named), "{:?}", run.caveats);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn callgrind_counts_the_last_block_of_a_process_too() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = assemble(folder.path(), LOOP);
    let run = count(&Callgrind::default(), &[program.to_str().unwrap()]);
    assert_eq!(run.instructions, 2004);
    let opcodes = [
        ("dec", 1000),
        ("jne", 1000),
        ("mov", 2),
        ("syscall", 1),
        ("xor", 1),
    ];
    let opcodes = opcodes.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(run.opcodes.unwrap().0, opcodes.into());
    assert_eq!(run.caveats, []);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_block_that_forks_counts_once_on_callgrind() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = assemble(folder.path(), FORK);
    let run = count(&Callgrind::default(), &[program.to_str().unwrap()]);
    assert_eq!(by_process(&run), [Some(2014), Some(1006)]);
    assert_eq!(run.opcodes.unwrap().total(), Ok(2014 + 1006));
    assert_eq!(run.caveats, []);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_program_that_is_killed_by_its_own_signal_counts_its_last_block() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = "mov $39,%eax\nsyscall\nmov %eax,%edi\nmov $15,%esi\nmov $62,%eax\nsyscall\nud2\n";
    let program = assemble(folder.path(), source);
    let run = count(&Callgrind::default(), &[program.to_str().unwrap()]);
    assert_eq!((run.outcome, run.instructions), (Outcome::Killed(15), 6));
    assert_eq!(run.caveats, []);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_block_that_a_fault_cut_short_is_named() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = assemble(
        folder.path(),
        "nop\nxor %eax,%eax\nmov (%rax),%eax\nnop\nsyscall\n",
    );
    let run = count(&Callgrind::default(), &[program.to_str().unwrap()]);
    assert_eq!(run.outcome, Outcome::Killed(11));
    let says = |c: &Caveat| matches!(c, Caveat::Other { text } if text.contains("raised a signal"));
    assert!(run.caveats.iter().any(says), "{:?}", run.caveats);
}

/// `// expect KEY=VALUE` in the first lines of a program, the backend's own before the common one.
#[cfg(target_arch = "x86_64")]
fn expected(source: &str, backend: &str) -> u64 {
    let value = |key: &str| {
        let sign = format!("// expect {key}instructions=");
        let line = source.lines().find_map(|line| line.strip_prefix(&sign));
        line.map(|number| number.trim().parse().unwrap())
    };
    value(&format!("{backend}.")).or_else(|| value("")).unwrap()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn programs_known_by_construction_match_on_both_backends() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/asm/x86_64");
    for entry in fs::read_dir(sources).unwrap() {
        let source = entry.unwrap().path();
        let text = fs::read_to_string(&source).unwrap();
        let program = folder.path().join(source.file_stem().unwrap());
        let built = Command::new("gcc")
            .args(["-nostdlib", "-static", "-o"])
            .args([&program, &source])
            .status();
        assert!(built.unwrap().success());
        let callgrind = Callgrind::default();
        let backends: [&dyn Backend; 2] = [&Cachegrind, &callgrind];
        for backend in backends {
            let name = backend.kind().to_string();
            let run = count(backend, &[program.to_str().unwrap()]);
            // What a process has executed before it execs is lost, and named: 10 of the child's there.
            let lost = run.caveats.contains(&Caveat::LostBeforeExec { execs: 1 });
            let lost = if lost { 10 } else { 0 };
            assert_eq!(lost > 0, source.ends_with("exec.S"), "{name} {source:?}");
            let known = expected(&text, &name);
            assert_eq!(run.instructions + lost, known, "{name} {source:?}");
            if let Some(opcodes) = run.opcodes {
                assert_eq!(opcodes.total(), Ok(run.instructions), "{name} {source:?}");
            }
        }
    }
}

#[test]
fn both_backends_count_the_same_of_a_program_that_forks() {
    if tools(&[]).is_none() {
        return;
    }
    let command = [
        "/bin/sh",
        "-c",
        "(:); x=$(echo 1); trap : USR1; kill -USR1 $$",
    ];
    let callgrind = Callgrind::default();
    let (one, other) = (count(&Cachegrind, &command), count(&callgrind, &command));
    assert_eq!(by_process(&one).len(), by_process(&other).len());
    // The children do not look at their process ids, which differ.
    assert_eq!(by_process(&one)[1..], by_process(&other)[1..]);
    let short = |c: &Caveat| matches!(c, Caveat::Other { .. });
    assert!(!other.caveats.iter().any(short), "{:?}", other.caveats);
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
    let opcodes = run.opcodes.unwrap();
    assert_eq!(opcodes.total(), Ok(run.instructions));
    assert_eq!(opcodes.0.get("(bad)"), None, "{:?}", run.caveats);
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
    // A child that is waited for. While dash reads from one, what it does depends on when the child's end is signalled, also
    // under Valgrind alone: an instruction more or less.
    let command = ["/bin/sh", "-c", "(:)"];
    let [first, second] = [(); 2].map(|()| count(&Cachegrind, &command).instructions);
    assert_eq!(first, second);
}

#[test]
fn a_shell_whose_children_signal_their_end_is_counted_by_callgrind() {
    if tools(&[]).is_none() {
        return;
    }
    let run = count(
        &Callgrind::default(),
        &["/bin/bash", "-c", "(:); x=$(echo hi); ls / | sort"],
    );
    assert_eq!(run.outcome, Outcome::Exited(0));
    assert_eq!(run.opcodes.unwrap().total(), Ok(run.instructions));
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
fn a_program_whose_time_is_up_is_ended_and_marked() {
    if tools(&[]).is_none() {
        return;
    }
    let mut launch = launch(&["/bin/sh", "-c", "trap '' TERM; while :; do :; done"]);
    launch.timeout = Some(std::time::Duration::from_millis(700));
    let run = try_count(&Cachegrind, &launch).unwrap();
    assert_eq!(run.outcome, Outcome::TimedOut);
    assert_eq!(by_process(&run), [None]);
    assert!(format!("{:?}", run.caveats).contains("they are missing"));
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
#[cfg(target_arch = "x86_64")]
fn a_region_counts_what_stands_between_its_marks() {
    if tools(&["gcc"]).is_none() {
        return;
    }
    let mark = |request: &str, label: &str| {
        format!(
            "lea {label}(%rip),%rax\nmov $0x4354000{request},%ecx\nmov %rcx,-64(%rsp)\n\
             mov %rax,-56(%rsp)\nlea -64(%rsp),%rax\nxor %edx,%edx\njmp 9f\n9: rol $3,%rdi\n\
             rol $13,%rdi\nrol $61,%rdi\nrol $51,%rdi\nxchg %rbx,%rbx\njmp 9f\n9:\n"
        )
    };
    let (start, begin) = (mark("4", "begin"), mark("3", "begin"));
    let end = mark("3", "end");
    let source = format!(
        "{start}{begin}mov $1000,%ecx\n1: dec %ecx\njnz 1b\n{end}mov $60,%eax\nxor %edi,%edi\n\
         syscall\nbegin: .asciz \"counterfoil:begin:a\"\nend: .asciz \"counterfoil:end:a\"\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let program = assemble(folder.path(), &source);
    let scratch = tempfile::tempdir().unwrap();
    let want = Callgrind::default().offers();
    let launch = launch(&[program.to_str().unwrap()]);
    let run = Callgrind::default()
        .run(&launch, want, scratch.path())
        .unwrap();
    let region = &run.regions.unwrap()["a"];
    // The jump behind `begin`, the loop, and six that load the request of `end`; its own jump is the marker.
    assert_eq!((region.entries, region.instructions), (1, 2008));
    assert_eq!(run.opcodes.unwrap().total(), Ok(run.instructions));
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
