//! The `step` backend against programs whose counts are known by construction.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "common/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use counterfoil::backend::step::Step;
use counterfoil::backend::{Backend, Detail};
use counterfoil::model::{Caveat, Outcome, Pin, PinState, Run};
use counterfoil::sys::spawn::Launch;
use program::{Program, compile, compile_small, function, opcode};

const ALL: Detail = Detail {
    opcodes: true,
    functions: true,
    regions: false,
};

fn asm(body: &str) -> Program {
    let source = format!(".intel_syntax noprefix\n.globl _start\n.text\n{body}\n");
    compile("prog.S", &source, &["-nostdlib", "-static"])
}

/// A C program that starts quickly, for what is not about its C library.
fn c(body: &str) -> Program {
    compile_small("prog.c", body, &["-O1"])
}

/// With the C library and the dynamic loader of real programs.
fn dynamic(body: &str) -> Program {
    compile("prog.c", body, &["-O1", "-pthread"])
}

impl Program {
    fn run(&self, want: Detail) -> Run {
        let run = self.counted(&Step::default(), &self.launch(), want);
        let rows = run.processes.iter().map(|row| row.instructions.unwrap());
        assert_eq!(
            rows.sum::<u64>(),
            run.instructions,
            "processes sum to the total"
        );
        run
    }

    fn count(&self) -> Run {
        let run = self.run(ALL);
        assert_eq!(run.outcome, Outcome::Exited(0));
        assert_eq!(run.caveats, []);
        run
    }
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
    let run = dynamic("#include <pthread.h>\n
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
    let run = dynamic("#include <pthread.h>\n#include <unistd.h>\n
        static void *work(void *p) { pause(); return p; }
        int main() { pthread_t t; for (int i = 0; i < 20; i++) pthread_create(&t, 0, work, 0); _exit(0); }")
    .count();
    assert_eq!(run.processes.len(), 1);
}

#[test]
fn an_exec_by_another_thread_than_the_first_is_followed() {
    let run = dynamic("#include <pthread.h>\n#include <unistd.h>\n
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
fn a_child_that_no_tracer_is_told_of_is_refused() {
    // clone, and clone3 with its flags in memory.
    let clone = "mov eax, 56; mov edi, 0x800011; xor esi, esi; syscall";
    let clone3 = "mov eax, 435; lea rdi, flags[rip]; mov esi, 88; syscall";
    for call in [clone, clone3] {
        let program = asm(&format!(
            "_start: {call}; {EXIT}\n.data\nflags: .quad 0x800000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0"
        ));
        let error = Step::default().run(&program.launch(), ALL, Path::new("/"));
        let error = error
            .expect_err("no count of half the processes")
            .to_string();
        for part in ["CLONE_UNTRACED", "`step`", "prog"] {
            assert!(error.contains(part), "{error}");
        }
    }
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
    let program = dynamic("#include <stdio.h>\nint main() { printf(\"%s\", \"\"); return 0; }");
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
