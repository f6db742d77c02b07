//! The `step` backend against programs whose counts are known by construction.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use counterfoil::backend::step::Step;
use counterfoil::backend::{Backend, BackendError, Detail};
use counterfoil::model::{Caveat, Outcome, Pin, PinState, Run};
use counterfoil::sys::spawn::Launch;
use tempfile::TempDir;

const ALL: Detail = Detail {
    opcodes: true,
    functions: true,
    regions: false,
};

const REGIONS: Detail = Detail {
    opcodes: true,
    functions: true,
    regions: true,
};

/// A program built from source in a folder of its own.
struct Program {
    folder: TempDir,
    path: PathBuf,
}

/// Compiles; a missing compiler fails the test, because without it nothing here is tested.
fn compile(name: &str, source: &str, flags: &[&str]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join(name), folder.path().join("prog"));
    std::fs::write(&file, source).unwrap();
    let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/include");
    let mut gcc = Command::new("gcc");
    gcc.args(["-g", "-I"]).arg(shim).arg("-o").arg(&path);
    let status = gcc.arg(&file).args(flags).status();
    assert!(status.expect("gcc is needed: install it").success());
    Program { folder, path }
}

fn asm(body: &str) -> Program {
    let source = format!(".intel_syntax noprefix\n.globl _start\n.text\n{body}\n");
    compile("prog.S", &source, &["-nostdlib", "-static"])
}

fn c(body: &str) -> Program {
    compile("prog.c", body, &["-O1", "-pthread"])
}

impl Program {
    fn launch(&self) -> Launch {
        Launch {
            program: self.path.clone(),
            args: vec![self.path.clone().into_os_string()],
            fixed_addresses: true,
            own_session: true,
            timeout: Some(Duration::from_secs(100)),
            ..Launch::default()
        }
    }

    fn run(&self, want: Detail) -> Run {
        let run = Step::default().run(&self.launch(), want, self.folder.path());
        let run = run.unwrap_or_else(|error| panic!("{error}"));
        if let Some(opcodes) = &run.opcodes {
            assert_eq!(
                opcodes.total(),
                Ok(run.instructions),
                "opcodes sum to the total"
            );
        }
        if let Some(functions) = &run.functions {
            assert_eq!(
                functions.total(),
                Ok(run.instructions),
                "functions sum to the total"
            );
        }
        if !want.regions {
            let rows = run.processes.iter().map(|row| row.instructions.unwrap());
            assert_eq!(
                rows.sum::<u64>(),
                run.instructions,
                "processes sum to the total"
            );
        }
        run
    }

    fn count(&self) -> Run {
        let run = self.run(ALL);
        assert_eq!(run.outcome, Outcome::Exited(0));
        assert_eq!(run.caveats, []);
        run
    }
}

fn opcode(run: &Run, mnemonic: &str) -> u64 {
    let opcodes = run.opcodes.as_ref().unwrap();
    opcodes.0.get(mnemonic).copied().unwrap_or(0)
}

fn function(run: &Run, name: &str) -> u64 {
    run.functions
        .as_ref()
        .unwrap()
        .get("prog", name)
        .unwrap_or(0)
}

/// Three instructions that end the process.
const EXIT: &str = "mov eax, 231; xor edi, edi; syscall";

#[test]
fn the_probe_counts_and_says_its_version() {
    let ready = Step::default()
        .probe()
        .unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(ready.version, env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_straight_line_counts_its_length() {
    let run = asm(&format!("_start: .rept 100; nop; .endr; {EXIT}")).count();
    assert_eq!(run.instructions, 103);
    assert_eq!((opcode(&run, "nop"), opcode(&run, "syscall")), (100, 1));
    assert_eq!(function(&run, "_start"), 103);
}

#[test]
fn a_loop_counts_every_round() {
    let run = asm(&format!(
        "_start: mov ecx, 1000; 1: dec ecx; jnz 1b; {EXIT}"
    ))
    .count();
    assert_eq!(run.instructions, 1 + 2000 + 3);
    assert_eq!((opcode(&run, "dec"), opcode(&run, "jne")), (1000, 1000));
}

#[test]
fn an_instruction_that_jumps_to_itself_counts_every_time() {
    let run = asm(&format!("_start: mov ecx, 50; 1: loop 1b; {EXIT}")).count();
    assert_eq!(run.instructions, 1 + 50 + 3);
}

#[test]
fn a_rep_string_instruction_counts_once_whatever_its_length() {
    for length in [0, 1, 2, 1000] {
        let body = format!(
            "_start: mov ecx, {length}; lea rsi, [rip+a]; lea rdi, [rip+b]; rep movsb; {EXIT}
             .bss; a: .space 4096; b: .space 4096"
        );
        let run = asm(&body).count();
        assert_eq!(run.instructions, 4 + 3, "length {length}");
        assert_eq!(opcode(&run, "movsb"), 1);
    }
}

#[test]
fn both_halves_of_a_fork_count() {
    let run = asm(&format!(
        "_start: mov eax, 57; syscall; test eax, eax; jz child
         mov edi, eax; xor esi, esi; xor edx, edx; xor r10d, r10d; mov eax, 61; syscall
         {EXIT}
         child: .rept 50; nop; .endr; {EXIT}"
    ))
    .count();
    let rows: Vec<_> = run
        .processes
        .iter()
        .map(|r| (r.parent, r.instructions))
        .collect();
    assert_eq!(rows, [(None, Some(4 + 6 + 3)), (Some(0), Some(2 + 50 + 3))]);
}

#[test]
fn a_child_whose_first_instruction_is_a_system_call_counts_it_once() {
    // Behind fork, eax is 0 in the child, so that `syscall` is read(0, 0, 0); in the parent it is no call at all.
    let run = asm(&format!(
        "_start: xor edi, edi; xor edx, edx; mov eax, 57; syscall; syscall; nop; {EXIT}"
    ))
    .run(ALL);
    let rows: Vec<_> = run.processes.iter().map(|r| r.instructions).collect();
    assert_eq!(rows, [Some(4 + 2 + 3), Some(2 + 3)]);
}

#[test]
fn an_exec_begins_a_program_of_its_own() {
    let run = asm(&format!(
        "_start: mov rdi, [rsp+8]; cmp qword ptr [rsp], 3; je done
         push 0; lea rax, [rip+two]; push rax; push rax; push rdi; mov rsi, rsp; xor edx, edx
         mov eax, 59; syscall; hlt
         done: .rept 20; nop; .endr; {EXIT}
         .data; two: .asciz \"x\""
    ))
    .count();
    let rows: Vec<_> = run
        .processes
        .iter()
        .map(|r| (r.parent, r.instructions))
        .collect();
    assert_eq!(rows, [(None, Some(3 + 9)), (Some(0), Some(3 + 20 + 3))]);
}

#[test]
fn vfork_and_exec_count_on_both_sides() {
    let run = c("#include <unistd.h>\n#include <sys/wait.h>\n
        int main(int n, char **v) { if (n > 1) return 0;
          char *args[] = { v[0], \"x\", 0 };
          for (int i = 0; i < 3; i++) { if (vfork() == 0) { execv(v[0], args); _exit(9); } int s; wait(&s);
            if (s) return 1; } return 0; }")
    .count();
    assert_eq!(run.processes.len(), 7);
    let deep = run
        .processes
        .iter()
        .filter(|r| r.parent.is_some_and(|p| p > 0));
    let counts: Vec<_> = deep.map(|r| r.instructions).collect();
    assert_eq!(counts, [counts[0]; 3]);
}

#[test]
fn every_thread_counts() {
    let run = c("#include <pthread.h>\n
        __attribute__((naked, used, noinline)) void burn(void) { __asm__(\"mov $1000,%ecx\\n1: dec %ecx\\njnz 1b\\nret\"); }
        static void *work(void *p) { for (int i = 0; i < 5; i++) burn(); return p; }
        int main() { pthread_t t[8]; for (int i = 0; i < 8; i++) pthread_create(&t[i], 0, work, 0);
          for (int i = 0; i < 8; i++) pthread_join(t[i], 0); burn(); return 0; }")
    .count();
    assert_eq!(function(&run, "burn"), 2002 * 41);
    assert_eq!(run.processes.len(), 1);
}

#[test]
fn threads_that_an_exit_cuts_off_leave_the_count_sound() {
    let run = c("#include <pthread.h>\n#include <unistd.h>\n
        static void *work(void *p) { pause(); return p; }
        int main() { pthread_t t; for (int i = 0; i < 20; i++) pthread_create(&t, 0, work, 0); _exit(0); }")
    .count();
    assert_eq!(run.processes.len(), 1);
}

#[test]
fn an_exec_by_another_thread_than_the_first_is_followed() {
    let run = c("#include <pthread.h>\n#include <unistd.h>\n
        static char **args; static void *work(void *p) { args[1] = \"x\"; execv(args[0], args); return p; }
        int main(int n, char **v) { if (n > 1) return 0; char *a[] = { v[0], 0, 0 }; args = a; pthread_t t;
          pthread_create(&t, 0, work, 0); for (;;) pause(); }")
    .count();
    assert_eq!(run.processes.len(), 2);
}

/// Installs `handler` for a signal, with six instructions, and goes on with `body`.
fn with_handler(signal: u32, flags: u32, body: &str) -> Program {
    asm(&format!(
        "_start: mov eax, 13; mov edi, {signal}; lea rsi, [rip+act]; xor edx, edx; mov r10d, 8; syscall
         {body}
         restore: mov eax, 15; syscall
         .data; act: .quad handler, {flags} | 0x04000000, restore, 0"
    ))
}

#[test]
fn a_signal_handler_and_its_return_count() {
    let run = with_handler(
        10,
        0,
        &format!(
            "mov eax, 39; syscall; mov edi, eax; mov esi, 10; mov eax, 62; syscall
             nop; nop; {EXIT}
             handler: .rept 7; nop; .endr; ret"
        ),
    )
    .count();
    // Installing, getpid, kill, handler (7 + ret), sigreturn, two nops, exit.
    assert_eq!(run.instructions, 6 + 2 + 4 + 8 + 2 + 2 + 3);
}

#[test]
fn a_fault_that_its_handler_repairs_counts_once() {
    // The handler sets rbx in the context it returns to: uc_mcontext.gregs[REG_RBX], at 40 + 11 * 8.
    let run = with_handler(
        11,
        4,
        &format!(
            "xor ebx, ebx; mov ecx, [rbx]; {EXIT}
             handler: lea rax, [rip+act]; mov [rdx+128], rax; ret"
        ),
    )
    .count();
    assert_eq!(run.instructions, 6 + 2 + 3 + 2 + 3);
}

#[test]
fn a_breakpoint_of_the_program_reaches_its_own_handler() {
    let run = with_handler(5, 0, &format!("int3; nop; {EXIT}; handler: nop; ret")).count();
    assert_eq!(run.instructions, 6 + 1 + 2 + 2 + 1 + 3);
}

#[test]
fn a_fatal_fault_is_not_counted_and_kills_as_ever() {
    let run = asm("_start: nop; xor eax, eax; mov eax, [rax]; nop").run(ALL);
    assert_eq!(run.outcome, Outcome::Killed(11));
    assert_eq!(run.instructions, 2);
}

#[test]
fn a_program_does_not_see_that_it_is_stepped() {
    let run = asm(&format!(
        "_start: pushfq; pop rax; test eax, 0x100; jnz bad
         pushfq; popfq; pushfw; pop ax; test ax, 0x100; jnz bad
         mov eax, 39; syscall; test r11d, 0x100; jnz bad
         {EXIT}
         bad: ud2"
    ))
    .count();
    assert_eq!(run.instructions, 4 + 6 + 4 + 3);
}

#[test]
fn a_restarted_system_call_is_followed() {
    c(
        "#include <signal.h>\n#include <unistd.h>\n#include <sys/wait.h>\n#include <time.h>\n
        static volatile int seen; static void on(int s) { seen++; }
        int main() { int p[2]; char b; if (pipe(p)) return 3;
          struct sigaction a = { .sa_handler = on, .sa_flags = SA_RESTART };
          sigaction(SIGUSR1, &a, 0); pid_t me = getpid();
          if (!fork()) { struct timespec t = { 0, 200000000 }; nanosleep(&t, 0); kill(me, SIGUSR1);
            nanosleep(&t, 0); return write(p[1], \"x\", 1) != 1; }
          if (read(p[0], &b, 1) != 1) return 1; wait(0); return seen == 1 ? 0 : 2; }",
    )
    .count();
}

#[test]
fn a_program_that_stops_itself_goes_on_when_continued() {
    c("#include <signal.h>\n#include <unistd.h>\n#include <sys/wait.h>\n
        int main() { pid_t c = fork(); if (!c) { raise(SIGSTOP); _exit(7); }
          int s; if (waitpid(c, &s, WUNTRACED) != c || !WIFSTOPPED(s)) return 1;
          kill(c, SIGCONT); if (waitpid(c, &s, 0) != c) return 2; return WEXITSTATUS(s) == 7 ? 0 : 3; }")
    .count();
}

#[test]
fn a_program_that_kills_its_children_is_followed() {
    c("#include <signal.h>\n#include <unistd.h>\n#include <sys/wait.h>\n
        int main() { for (int i = 0; i < 30; i++) { pid_t c = fork(); if (!c) for (;;) ;
          kill(c, SIGKILL); int s; if (waitpid(c, &s, 0) != c || WTERMSIG(s) != 9) return 1; } return 0; }")
    .count();
}

#[test]
fn a_crowd_of_children_is_followed() {
    let run = c("#include <unistd.h>\n#include <sys/wait.h>\n
        __attribute__((naked, used, noinline)) void burn(void) { __asm__(\"mov $100,%ecx\\n1: dec %ecx\\njnz 1b\\nret\"); }
        int main() { for (int i = 0; i < 100; i++) if (!fork()) { burn(); _exit(0); }
          for (int i = 0; i < 100; i++) wait(0); return 0; }")
    .count();
    assert_eq!(run.processes.len(), 101);
    assert_eq!(function(&run, "burn"), 202 * 100);
}

#[test]
fn a_child_that_outlives_the_program_is_named() {
    let run = c("#include <unistd.h>\n
        int main() { if (!fork()) { for (;;) pause(); } return 0; }")
    .run(ALL);
    assert_eq!(run.outcome, Outcome::Exited(0));
    let [Caveat::LeftRunning { programs }] = &run.caveats[..] else {
        panic!("{:?}", run.caveats)
    };
    assert_eq!(programs.len(), 1);
}

#[test]
fn a_child_that_is_let_go_is_not_hurt() {
    // The child outlives the program, and is busy when it is let go; once told, it writes a file. Untold, it ends
    // by itself some time.
    let program = c(
        "#include <unistd.h>\n#include <fcntl.h>\n#include <time.h>\n
        int main(int n, char **v) { if (fork()) return 0;
          time_t begin = time(0); while (access(v[1], F_OK)) if (time(0) > begin + 200) return 1;
          return open(v[2], O_CREAT | O_WRONLY, 0600) < 0; }",
    );
    let told = program.folder.path().join("told");
    let mark = program.folder.path().join("alive");
    let mut launch = program.launch();
    launch.args.push(told.clone().into_os_string());
    launch.args.push(mark.clone().into_os_string());
    launch.own_session = false;
    let run = Step::default()
        .run(&launch, ALL, program.folder.path())
        .unwrap();
    assert!(
        matches!(&run.caveats[..], [Caveat::LeftRunning { .. }]),
        "{:?}",
        run.caveats
    );
    std::fs::write(told, "").unwrap();
    for _ in 0..600 {
        if mark.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the child died when it was let go");
}

#[test]
fn a_program_whose_time_is_up_is_killed() {
    let program = asm("_start: jmp _start");
    let launch = Launch {
        timeout: Some(Duration::from_millis(300)),
        ..program.launch()
    };
    let run = Step::default()
        .run(&launch, ALL, program.folder.path())
        .unwrap();
    assert_eq!(run.outcome, Outcome::TimedOut);
}

#[test]
fn a_missing_program_is_an_error_that_names_it() {
    let launch = Launch {
        program: "/nonexistent/program".into(),
        args: vec!["program".into()],
        ..Launch::default()
    };
    let error = Step::default()
        .run(&launch, ALL, Path::new("/"))
        .unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/program"),
        "{error}"
    );
}

#[test]
fn code_made_at_run_time_is_counted_under_its_mapping() {
    let run = asm(&format!(
        "_start: mov eax, 9; xor edi, edi; mov esi, 4096; mov edx, 7; mov r10d, 0x22; mov r8, -1; xor r9d, r9d; syscall
         mov rbx, rax; mov dword ptr [rbx], 0xc3909090; call rbx
         mov dword ptr [rbx], 0xc3f8f8f8; call rbx; {EXIT}"
    ))
    .count();
    assert_eq!(run.instructions, 8 + 3 + 4 + 2 + 4 + 3);
    assert_eq!((opcode(&run, "nop"), opcode(&run, "clc")), (3, 3));
    let functions = run.functions.unwrap();
    assert_eq!(functions.get("[anonymous]", "[anonymous]"), Some(8));
}

#[test]
fn a_dynamic_program_gives_the_same_count_every_time() {
    let program = c("#include <stdio.h>\nint main() { printf(\"%s\", \"\"); return 0; }");
    let first = program.count();
    assert_eq!(first.instructions, program.count().instructions);
    assert!(
        first.modules.iter().any(|m| m.ends_with("prog")),
        "{:?}",
        first.modules
    );
    assert!(
        first
            .modules
            .iter()
            .any(|m| m.to_string_lossy().contains("libc"))
    );
}

#[test]
fn pins_are_reported_as_they_held() {
    let program = asm(&format!("_start: {EXIT}"));
    let launch = Launch {
        cpu: Some(0),
        fixed_random: true,
        ..program.launch()
    };
    let run = Step::default()
        .run(&launch, ALL, program.folder.path())
        .unwrap();
    for pin in [Pin::Aslr, Pin::AtRandom, Pin::OneCpu] {
        assert_eq!(run.pinning.0.get(&pin), Some(&PinState::Pinned), "{pin}");
    }
}

#[test]
fn a_program_without_regions_is_refused_when_regions_are_wanted() {
    let program = asm(&format!("_start: {EXIT}"));
    let answer = Step::default().run(&program.launch(), REGIONS, program.folder.path());
    assert!(matches!(
        answer,
        Err(BackendError::Tool {
            tool: "regions",
            ..
        })
    ));
}

/// The regions of a run as (name, entries, instructions).
fn regions(run: &Run) -> Vec<(&str, u64, u64)> {
    let regions = run.regions.as_ref().unwrap().iter();
    regions
        .map(|(name, r)| (name.as_str(), r.entries, r.instructions))
        .collect()
}

/// A hundred rounds: 201 instructions.
const BURN: &str = r#"__asm__ volatile("mov $100,%%ecx\n1: dec %%ecx\njnz 1b" ::: "rcx", "cc")"#;

#[test]
fn a_region_counts_what_is_between_its_markers_and_nothing_of_them() {
    let source = format!(
        "#include <counterfoil.h>\nint main(void) {{
           for (int i = 0; i < 3; i++) {{ COUNTERFOIL_REGION_BEGIN(\"burn\"); {BURN};
             COUNTERFOIL_REGION_END(\"burn\"); }}
           COUNTERFOIL_REGION_BEGIN(\"empty\"); COUNTERFOIL_REGION_END(\"empty\"); return 0; }}"
    );
    for flags in [
        &["-O0"][..],
        &["-O2"],
        &["-O2", "-fPIC", "-pie"],
        &["-static"],
    ] {
        let run = compile("prog.c", &source, flags).run(REGIONS);
        assert_eq!(
            regions(&run),
            [("burn", 3, 603), ("empty", 1, 0)],
            "{flags:?}"
        );
        assert_eq!((run.instructions, opcode(&run, "dec")), (603, 300));
        assert_eq!(function(&run, "main"), 603);
        assert_eq!(run.caveats, []);
    }
}

#[test]
fn nested_regions_count_in_each_open_one() {
    // One translation unit as C++, nested calls; a's own part is its two inner markers.
    let source = format!(
        "#include <counterfoil.h>\nint main() {{
           COUNTERFOIL_REGION_BEGIN(\"a\"); COUNTERFOIL_REGION_BEGIN(\"b\"); {BURN};
           COUNTERFOIL_REGION_END(\"b\"); {BURN}; COUNTERFOIL_REGION_END(\"a\"); return 0; }}"
    );
    let run = compile("prog.cc", &source, &["-std=c++11", "-O1"]).run(REGIONS);
    let [("a", 1, a), ("b", 1, 201)] = regions(&run)[..] else {
        panic!("{:?}", run.regions)
    };
    assert!((402..450).contains(&a), "{a}");
    assert_eq!(run.instructions, a);
}

#[test]
fn a_child_forked_in_a_region_counts_in_it() {
    let source = format!(
        "#include <counterfoil.h>\n#include <unistd.h>\n#include <sys/wait.h>\nint main(void) {{
           int s; COUNTERFOIL_REGION_BEGIN(\"a\"); if (!fork()) {{ {BURN}; _exit(0); }} wait(&s);
           COUNTERFOIL_REGION_END(\"a\"); return s; }}"
    );
    let run = compile("prog.c", &source, &["-O1"]).run(REGIONS);
    assert_eq!(opcode(&run, "dec"), 100);
    assert_eq!(run.caveats, []);
}

#[test]
fn a_program_marked_for_callgrind_works_unchanged() {
    let source = format!(
        "#include <valgrind/callgrind.h>\nint main(void) {{
           CALLGRIND_START_INSTRUMENTATION; {BURN}; CALLGRIND_DUMP_STATS_AT(\"x\"); {BURN}; {BURN};
           CALLGRIND_STOP_INSTRUMENTATION; {BURN}; return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O2"]).run(REGIONS);
    let [("instrumented", 1, rest), ("x", 1, x)] = regions(&run)[..] else {
        panic!("{:?}", run.regions)
    };
    // The header's own stores before each request are a few instructions.
    assert!(
        (201..230).contains(&x) && (402..430).contains(&rest),
        "{x} {rest}"
    );
    assert_eq!(opcode(&run, "dec"), 300);
    assert_eq!(run.instructions, x + rest);
}

#[test]
fn a_program_that_only_toggles_is_counted_while_it_is_on() {
    let source = format!(
        "#include <valgrind/callgrind.h>\nint main(void) {{ {BURN};
           CALLGRIND_TOGGLE_COLLECT; {BURN}; CALLGRIND_TOGGLE_COLLECT; {BURN};
           CALLGRIND_TOGGLE_COLLECT; {BURN}; CALLGRIND_TOGGLE_COLLECT; return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O2"]).run(REGIONS);
    assert_eq!(opcode(&run, "dec"), 200);
    assert_eq!(
        run.regions.unwrap().keys().collect::<Vec<_>>(),
        ["collected"]
    );
}

#[test]
fn zeroed_counts_are_forgotten() {
    let source = format!(
        "#include <valgrind/callgrind.h>\nint main(void) {{ CALLGRIND_START_INSTRUMENTATION; {BURN};
           CALLGRIND_ZERO_STATS; {BURN}; CALLGRIND_STOP_INSTRUMENTATION; return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O2"]).run(REGIONS);
    assert_eq!(opcode(&run, "dec"), 100);
}

#[test]
fn markers_change_nothing_for_a_program_that_is_not_counted() {
    let source = "#include <counterfoil.h>\nint main(void) { COUNTERFOIL_REGION_BEGIN(\"a\");
        COUNTERFOIL_REGION_END(\"a\"); return 7; }";
    let program = compile("prog.c", source, &["-O2"]);
    assert_eq!(
        Command::new(&program.path).status().unwrap().code(),
        Some(7)
    );
}

#[test]
fn regions_are_told_to_the_control_pipe_and_wait_for_its_answer() {
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    let source = "#include <counterfoil.h>\nint main(void) { COUNTERFOIL_REGION_BEGIN(\"a\");
        COUNTERFOIL_REGION_BEGIN(\"b\"); COUNTERFOIL_REGION_END(\"b\"); COUNTERFOIL_REGION_END(\"a\"); return 0; }";
    let program = compile("prog.c", source, &["-O2"]);
    let (mut told, tell) = std::io::pipe().unwrap();
    let (answers, mut answer) = std::io::pipe().unwrap();
    let launch = Launch {
        env: vec!["OTHER=1".into(), "COUNTERFOIL_CONTROL=50,51".into()],
        files: vec![
            (Arc::new(OwnedFd::from(tell)), 50),
            (Arc::new(OwnedFd::from(answers)), 51),
        ],
        ..program.launch()
    };
    answer.write_all(b"....").unwrap();
    let run = Step::default()
        .run(&launch, ALL, program.folder.path())
        .unwrap();
    assert_eq!(run.outcome, Outcome::Exited(0));
    drop(launch);
    let mut text = String::new();
    told.read_to_string(&mut text).unwrap();
    assert_eq!(text, "begin:a\nbegin:b\nend:b\nend:a\n");
}

/// Compiles a Rust program with the shim crate, and a C object to link with it if any.
fn rust(source: &str, flags: &[&str], c_part: Option<&str>) -> Program {
    let rustc = |arguments: &[&std::ffi::OsStr]| {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let status = Command::new(rustc)
            .args(["--edition", "2024"])
            .args(arguments)
            .status();
        assert!(status.expect("rustc is needed").success());
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim");
    let kind = [
        "--crate-name",
        "counterfoil_shim",
        "--crate-type",
        "rlib",
        "-O",
        "-o",
    ];
    let library = at("libcounterfoil_shim.rlib");
    let mut arguments: Vec<&std::ffi::OsStr> = kind.iter().map(std::ffi::OsStr::new).collect();
    let crate_file = shim.join("src/lib.rs");
    arguments.extend([library.as_os_str(), crate_file.as_os_str()]);
    rustc(&arguments);
    std::fs::write(at("prog.rs"), source).unwrap();
    let (program, path, object) = (at("prog.rs"), at("prog"), at("part.o"));
    let mut dependency = std::ffi::OsString::from("counterfoil_shim=");
    dependency.push(&library);
    let mut link = std::ffi::OsString::from("link-arg=");
    link.push(&object);
    let mut arguments: Vec<&std::ffi::OsStr> = flags.iter().map(std::ffi::OsStr::new).collect();
    arguments.extend([
        "--extern".as_ref(),
        dependency.as_os_str(),
        "-o".as_ref(),
        path.as_os_str(),
    ]);
    if let Some(part) = c_part {
        std::fs::write(at("part.c"), part).unwrap();
        let mut gcc = Command::new("gcc");
        gcc.args(["-O1", "-c", "-I"])
            .arg(shim.join("include"))
            .arg("-o")
            .arg(&object);
        assert!(gcc.arg(at("part.c")).status().unwrap().success());
        arguments.extend(["-C".as_ref(), link.as_os_str()]);
    }
    arguments.push(program.as_os_str());
    rustc(&arguments);
    Program { folder, path }
}

/// A hundred rounds, 201 instructions, in Rust.
const RUST_BURN: &str =
    r#"unsafe { core::arch::asm!("mov ecx, 100", "2: dec ecx", "jnz 2b", out("ecx") _) }"#;

#[test]
fn regions_of_the_rust_crate_count_exactly() {
    let source = format!(
        "use counterfoil_shim::{{begin, end, region}};
         fn main() {{
           for _ in 0..2 {{ begin!(\"plain\"); {RUST_BURN}; end!(\"plain\"); }}
           {{ let _inside = region!(\"guard\"); {RUST_BURN}; }}
           let _ = std::panic::catch_unwind(|| {{ let _inside = region!(\"thrown\"); std::panic::resume_unwind(Box::new(())); }});
         }}"
    );
    let run = rust(&source, &["-O"], None).run(REGIONS);
    let [("guard", 1, guard), ("plain", 2, plain), ("thrown", 1, _)] = regions(&run)[..] else {
        panic!("{:?}", run.regions)
    };
    assert_eq!((guard, plain), (201, 402));
    assert_eq!(run.caveats, []);
}

#[test]
fn c_and_rust_share_the_depth_of_their_regions() {
    // If C did not know of the region in Rust, its end would stop the counting of the rest.
    let source = format!(
        "use counterfoil_shim::{{begin, end}};
         unsafe extern \"C\" {{ fn inner(); }}
         fn main() {{ begin!(\"outer\"); unsafe {{ inner() }}; {RUST_BURN}; end!(\"outer\"); }}"
    );
    let part = format!(
        "#include <counterfoil.h>\nvoid inner(void) {{ COUNTERFOIL_REGION_BEGIN(\"inner\"); {BURN};
           COUNTERFOIL_REGION_END(\"inner\"); }}"
    );
    let run = rust(&source, &["-O"], Some(&part)).run(REGIONS);
    let [("inner", 1, 201), ("outer", 1, outer)] = regions(&run)[..] else {
        panic!("{:?}", run.regions)
    };
    assert!((402..460).contains(&outer), "{outer}");
    assert_eq!(opcode(&run, "dec"), 200);
}

/// What callgrind counts between two dumps, by the label of the second.
fn callgrind_chunks(program: &Program) -> Vec<(String, u64)> {
    let out = program.folder.path().join("callgrind.out");
    let mut to = std::ffi::OsString::from("--callgrind-out-file=");
    to.push(&out);
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "-q",
        "--tool=callgrind",
        "--instr-atstart=no",
        "--combine-dumps=yes",
    ]);
    let status = valgrind
        .args([
            "--dump-instr=yes".as_ref(),
            to.as_os_str(),
            program.path.as_os_str(),
        ])
        .status();
    assert!(status.expect("valgrind is needed: install it").success());
    let text = std::fs::read_to_string(out).unwrap();
    let labels = text
        .lines()
        .filter_map(|l| l.strip_prefix("desc: Trigger: "));
    let labels = labels.map(|l| l.trim_start_matches("Client Request: ").to_owned());
    let totals = text.lines().filter_map(|l| l.strip_prefix("totals: "));
    labels.zip(totals.map(|t| t.parse().unwrap())).collect()
}

#[test]
fn callgrind_counts_the_same_between_markers() {
    let source = format!(
        "#include <counterfoil.h>
         __attribute__((noinline)) static int fib(int n) {{ return n < 2 ? n : fib(n - 1) + fib(n - 2); }}
         int main(void) {{ volatile int n = 12, sum = 0;
           COUNTERFOIL_REGION_BEGIN(\"a\"); {BURN}; COUNTERFOIL_REGION_BEGIN(\"b\"); sum += fib(n);
           COUNTERFOIL_REGION_END(\"b\"); __asm__ volatile(\"nop; nop; nop\"); sum += fib(n);
           COUNTERFOIL_REGION_END(\"a\"); return sum != 288; }}"
    );
    let program = compile("prog.c", &source, &["-O2"]);
    let chunks = callgrind_chunks(&program);
    // In each chunk callgrind has one request of the marker before, and the address and jump of the one behind.
    let chunk = |label: &str| {
        let of_label = chunks.iter().filter(|(l, _)| l == label);
        of_label.map(|(_, count)| count - 3).sum::<u64>()
    };
    let (before, b, after) = (
        chunk("counterfoil:begin:b"),
        chunk("counterfoil:end:b"),
        chunk("counterfoil:end:a"),
    );
    assert!(b > 300, "{chunks:?}");
    assert_eq!(
        regions(&program.run(REGIONS)),
        [("a", 1, before + b + after), ("b", 1, b)]
    );
}
