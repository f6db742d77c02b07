//! Marked regions: `step` and `dbi` count the same in them, and what callgrind counts, on programs marked in C, C++ and Rust.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "common/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use counterfoil::backend::dbi::Dbi;
use counterfoil::backend::step::Step;
use counterfoil::backend::{Backend, BackendError, Detail};
use counterfoil::model::Run;
use counterfoil::sys::spawn::Launch;
use program::{Program, compile, function, opcode};

const REGIONS: Detail = Detail {
    opcodes: true,
    functions: true,
    regions: true,
};

/// Those that count regions in the instruction stream by themselves.
const BACKENDS: [fn() -> Box<dyn Backend>; 2] =
    [|| Box::new(Step::default()), || Box::new(Dbi::default())];

impl Program {
    fn pinned(&self) -> Launch {
        Launch {
            fixed_random: true,
            ..self.launch()
        }
    }

    fn by(&self, backend: &dyn Backend) -> Run {
        let run = self.counted(backend, &self.pinned(), REGIONS);
        assert!(run.opcodes.is_some() && run.functions.is_some());
        run
    }

    /// The run that both agree on.
    fn run(&self) -> Run {
        let [step, dbi] = BACKENDS.map(|open| self.by(&*open()));
        assert_eq!(dbi.outcome, step.outcome);
        assert_eq!(dbi.regions, step.regions, "dbi and step");
        assert_eq!(dbi.instructions, step.instructions);
        assert_eq!(dbi.opcodes, step.opcodes);
        assert_eq!(dbi.functions, step.functions);
        assert_eq!(dbi.caveats, step.caveats);
        dbi
    }
}

#[test]
fn a_program_without_regions_is_refused_when_regions_are_wanted() {
    let program = compile("prog.c", "int main(void) { return 0; }", &[]);
    for backend in BACKENDS.map(|open| open()) {
        let answer = backend.run(&program.pinned(), REGIONS, program.folder.path());
        let refused = matches!(
            answer,
            Err(BackendError::Tool {
                tool: "regions",
                ..
            })
        );
        assert!(refused, "{}", backend.kind());
    }
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
        let run = compile("prog.c", &source, flags).run();
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
    let run = compile("prog.cc", &source, &["-std=c++11", "-O1"]).run();
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
    let run = compile("prog.c", &source, &["-O1"]).run();
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
    let run = compile("prog.c", &source, &["-O2"]).run();
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
    let run = compile("prog.c", &source, &["-O2"]).run();
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
    let run = compile("prog.c", &source, &["-O2"]).run();
    assert_eq!(opcode(&run, "dec"), 100);
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
    // What a panic does depends on the heap, and so on how many reads /proc/self/maps took at the start.
    let program = rust(&source, &["-O"], None);
    for backend in BACKENDS.map(|open| open()) {
        let run = program.by(&*backend);
        let [("guard", 1, 201), ("plain", 2, 402), ("thrown", 1, _)] = regions(&run)[..] else {
            panic!("{}: {:?}", backend.kind(), run.regions)
        };
        assert_eq!(run.caveats, []);
    }
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
    let run = rust(&source, &["-O"], Some(&part)).run();
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
        regions(&program.run()),
        [("a", 1, before + b + after), ("b", 1, b)]
    );
}

#[test]
fn toggles_may_interrupt_instrumentation_and_be_without_it() {
    let source = format!(
        "#include <valgrind/callgrind.h>\nint main(void) {{ CALLGRIND_START_INSTRUMENTATION; {BURN};
           CALLGRIND_TOGGLE_COLLECT; {BURN}; CALLGRIND_TOGGLE_COLLECT; {BURN}; CALLGRIND_STOP_INSTRUMENTATION;
           {BURN}; CALLGRIND_DUMP_STATS; CALLGRIND_TOGGLE_COLLECT; {BURN}; CALLGRIND_DUMP_STATS_AT(\"x\");
           {BURN}; CALLGRIND_START_INSTRUMENTATION; {BURN}; CALLGRIND_STOP_INSTRUMENTATION; {BURN}; return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O2"]).run();
    assert_eq!(opcode(&run, "dec"), 600);
    let names: Vec<_> = regions(&run).iter().map(|region| region.0).collect();
    assert_eq!(names, ["collected", "instrumented", "x"]);
}

#[test]
fn regions_may_be_nested_in_themselves_overlap_and_end_too_often() {
    let source = format!(
        "#include <counterfoil.h>
         static void deep(int n) {{ COUNTERFOIL_REGION_BEGIN(\"deep\"); {BURN}; if (n) deep(n - 1);
           COUNTERFOIL_REGION_END(\"deep\"); }}
         int main(void) {{ deep(9); COUNTERFOIL_REGION_BEGIN(\"a\"); {BURN}; COUNTERFOIL_REGION_BEGIN(\"b\"); {BURN};
           COUNTERFOIL_REGION_END(\"a\"); {BURN}; COUNTERFOIL_REGION_END(\"b\"); COUNTERFOIL_REGION_END(\"b\");
           COUNTERFOIL_REGION_BEGIN(\"open\"); {BURN}; return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O1"]).run();
    let entered: Vec<_> = regions(&run).iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(entered, [("a", 1), ("b", 1), ("deep", 10), ("open", 1)]);
    assert_eq!(opcode(&run, "dec"), 1400);
    assert_eq!(run.caveats.len(), 2, "{:?}", run.caveats);
}

#[test]
fn a_forked_child_counts_apart_and_an_executed_program_begins_anew() {
    let source = format!(
        "#include <counterfoil.h>\n#include <unistd.h>\n#include <sys/wait.h>
         int main(int argc, char **argv) {{
           int s = 0; (void)argv;
           if (argc > 1) {{ {BURN}; COUNTERFOIL_REGION_BEGIN(\"executed\"); {BURN}; COUNTERFOIL_REGION_END(\"executed\"); return 3; }}
           for (int i = 0; i < 3; i++) {{
             COUNTERFOIL_REGION_BEGIN(\"parent\"); {BURN};
             if (!fork()) {{ {BURN}; COUNTERFOIL_REGION_END(\"parent\"); {BURN}; COUNTERFOIL_REGION_BEGIN(\"child\"); {BURN};
               COUNTERFOIL_REGION_END(\"child\");
               if (i == 2) execl(\"/proc/self/exe\", \"prog\", \"x\", (char *)0);
               _exit(0); }}
             wait(&s); {BURN}; COUNTERFOIL_REGION_END(\"parent\"); {BURN}; }}
           return s >> 8; }}"
    );
    let run = compile("prog.c", &source, &["-O1"]).run();
    let entered: Vec<_> = regions(&run).iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(entered, [("child", 3), ("executed", 1), ("parent", 3)]);
    let of = |name: &str| run.regions.as_ref().unwrap()[name].instructions;
    assert_eq!((of("child"), of("executed")), (603, 201));
    assert_eq!(opcode(&run, "dec"), 1300);
}

#[test]
fn signal_handlers_count_in_the_region_they_interrupt() {
    let source = format!(
        "#include <counterfoil.h>\n#include <signal.h>\n#include <string.h>
         static void caught(int s) {{ (void)s; {BURN}; COUNTERFOIL_REGION_BEGIN(\"handler\"); {BURN};
           COUNTERFOIL_REGION_END(\"handler\"); }}
         int main(void) {{ struct sigaction a; memset(&a, 0, sizeof a);
           a.sa_handler = caught; sigaction(SIGUSR1, &a, 0);
           for (int i = 0; i < 20; i++) {{ COUNTERFOIL_REGION_BEGIN(\"main\"); {BURN}; raise(SIGUSR1);
             COUNTERFOIL_REGION_END(\"main\"); raise(SIGUSR1); }}
           return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O1"]).run();
    let entered: Vec<_> = regions(&run).iter().map(|r| (r.0, r.1)).collect();
    assert_eq!(entered, [("handler", 40), ("main", 20)]);
    assert_eq!(opcode(&run, "dec"), 20 * (100 + 200) + 20 * 100);
}

#[test]
fn no_timer_makes_a_mark_be_lost_or_made_twice() {
    // Signals come wherever the program is, in the middle of markers too. Step would take minutes.
    let source = format!(
        "#include <counterfoil.h>\n#include <signal.h>\n#include <sys/time.h>
         static volatile int ticks; static void tick(int s) {{ (void)s; ticks++; }}
         int main(void) {{ struct itimerval t = {{{{0, 200}}, {{0, 200}}}};
           signal(SIGALRM, tick); setitimer(ITIMER_REAL, &t, 0);
           for (int i = 0; i < 2000 || ticks < 50; i++) {{ COUNTERFOIL_REGION_BEGIN(\"a\"); {BURN};
             COUNTERFOIL_REGION_END(\"a\"); if (i >= 2000) {{ {BURN}; }} else {{ COUNTERFOIL_REGION_BEGIN(\"b\");
             COUNTERFOIL_REGION_END(\"b\"); }} }}
           return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O1"]).by(&Dbi::default());
    let all = regions(&run);
    assert_eq!((all[1].0, all[1].1), ("b", 2000));
    assert_eq!(opcode(&run, "dec"), 100 * all[0].1);
    assert_eq!(run.caveats, []);
}

#[test]
fn a_thread_that_waits_meanwhile_adds_nothing() {
    // The thread's read begins before the region and returns behind it.
    let source = format!(
        "#include <counterfoil.h>\n#include <pthread.h>\n#include <stdio.h>\n#include <unistd.h>
         static int go[2]; static pid_t thread;
         static void *wait_for(void *none) {{ char c; thread = gettid(); (void)!read(go[0], &c, 1); return none; }}
         static int sleeps(void) {{ char name[64], text[512] = {{0}}; snprintf(name, 64, \"/proc/self/task/%d/stat\", thread);
           FILE *f = fopen(name, \"r\"); char state = 0;
           if (f) {{ (void)!fread(text, 1, 511, f); fclose(f); sscanf(text, \"%*d %*s %c\", &state); }}
           return state == 'S'; }}
         int main(void) {{ pthread_t t; (void)!pipe(go); pthread_create(&t, 0, wait_for, 0);
           while (!*(volatile pid_t *)&thread || !sleeps()) usleep(1000);
           for (int i = 0; i < 3; i++) {{ COUNTERFOIL_REGION_BEGIN(\"a\"); {BURN}; COUNTERFOIL_REGION_END(\"a\"); }}
           (void)!write(go[1], \"x\", 1); pthread_join(t, 0);
           COUNTERFOIL_REGION_BEGIN(\"b\"); {BURN}; COUNTERFOIL_REGION_END(\"b\"); return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O1", "-D_GNU_SOURCE", "-pthread"]).run();
    assert_eq!(regions(&run), [("a", 3, 603), ("b", 1, 201)]);
}

#[test]
fn a_region_counts_what_all_threads_do_meanwhile() {
    let source = format!(
        "#include <counterfoil.h>\n#include <pthread.h>
         static void *burn(void *none) {{ for (int i = 0; i < 50; i++) {{ {BURN}; }} return none; }}
         int main(void) {{ pthread_t t[4];
           for (int round = 0; round < 5; round++) {{
             COUNTERFOIL_REGION_BEGIN(\"a\");
             for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, burn, 0);
             for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
             COUNTERFOIL_REGION_END(\"a\"); burn(0); }}
           return 0; }}"
    );
    let program = compile("prog.c", &source, &["-O1", "-pthread"]);
    // What the C library does to make threads and to wait for them is chance.
    let [step, dbi] = BACKENDS.map(|open| program.by(&*open()));
    let burned = function(&step, "burn");
    assert!(burned > 5 * 4 * 50 * 201, "{burned}");
    assert_eq!(function(&dbi, "burn"), burned);
    assert_eq!((regions(&step)[0].1, regions(&dbi)[0].1), (5, 5));
}

#[test]
fn threads_that_mark_at_the_same_time_lose_no_mark_and_count_nothing_twice() {
    let source = format!(
        "#include <counterfoil.h>\n#include <pthread.h>
         static void *mark(void *none) {{ for (int i = 0; i < 200; i++) {{ COUNTERFOIL_REGION_BEGIN(\"a\"); {BURN};
           COUNTERFOIL_REGION_END(\"a\"); }} return none; }}
         int main(void) {{ pthread_t t[4]; COUNTERFOIL_REGION_BEGIN(\"all\");
           for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, mark, 0);
           for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
           COUNTERFOIL_REGION_END(\"all\"); return 0; }}"
    );
    let run = compile("prog.c", &source, &["-O1", "-pthread"]).by(&Dbi::default());
    let of = |name: &str| run.regions.as_ref().unwrap()[name].clone();
    assert_eq!((of("a").entries, of("all").entries), (800, 1));
    // Up to a unit of the burning loop, two instructions, for each other thread and mark.
    let burned = opcode(&run, "dec");
    assert!((80_000..80_000 + 1600 * 3).contains(&burned), "{burned}");
}

#[test]
fn code_that_is_kept_from_run_to_run_knows_whether_its_markers_count() {
    let source = format!(
        "#include <counterfoil.h>\nint main(void) {{ for (int i = 0; i < 5; i++) {{
           COUNTERFOIL_REGION_BEGIN(\"a\"); {BURN}; COUNTERFOIL_REGION_END(\"a\"); }} return 0; }}"
    );
    let program = compile("prog.c", &source, &["-O1"]);
    let whole = |backend: &dyn Backend| {
        let run = backend.run(&program.pinned(), Detail::default(), program.folder.path());
        run.unwrap().instructions
    };
    let all = whole(&Step::default());
    for _ in 0..3 {
        let run = program.by(&Dbi::default());
        assert_eq!(regions(&run), [("a", 5, 1005)]);
        assert_eq!(whole(&Dbi::default()), all);
    }
}

#[test]
fn markers_count_like_other_code_where_no_regions_are_wanted() {
    let source = "#include <counterfoil.h>\n#include <valgrind/callgrind.h>
        int main(void) { for (int i = 0; i < 10; i++) { COUNTERFOIL_REGION_BEGIN(\"a\"); COUNTERFOIL_REGION_END(\"a\");
          CALLGRIND_TOGGLE_COLLECT; } return 0; }";
    let program = compile("prog.c", source, &["-O1"]);
    let want = Detail {
        opcodes: true,
        ..Detail::default()
    };
    let [step, dbi] = BACKENDS.map(|open| {
        let run = open().run(&program.pinned(), want, program.folder.path());
        run.unwrap()
    });
    assert_eq!(step.instructions, dbi.instructions);
    assert_eq!(step.opcodes, dbi.opcodes);
    assert!(opcode(&dbi, "rol") >= 10 * 5 * 4);
}
