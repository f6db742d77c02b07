//! Programs of several threads and processes under `dbi`: they take turns, and have one count.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use common::{Need, case, counterfoil, folder, instructions, output, python, stderr, stdout};
use serde_json::Value;

const GCC: &[Need] = &[Need::Step, Need::Program("gcc")];

fn main() -> ExitCode {
    common::run(vec![
        case(
            "threads_that_wait_for_each_other_do_so_in_the_same_order",
            GCC,
            in_order,
        ),
        case("a_busy_machine_changes_no_order", GCC, beside_others),
        case("a_thread_may_execute_another_program", GCC, executes),
        case(
            "python_counts_the_same",
            &[Need::Step, Need::Program("python3")],
            in_python,
        ),
        case(
            "sort_counts_the_same",
            &[Need::Step, Need::Program("sort")],
            in_sort,
        ),
        case(
            "xz_counts_the_same",
            &[Need::Step, Need::Program("xz")],
            in_xz,
        ),
        case(
            "java_counts_the_same",
            &[Need::Step, Need::Program("java"), Need::Program("javac")],
            in_java,
        ),
        case(
            "node_counts_the_same",
            &[Need::Step, Need::Program("node")],
            in_node,
        ),
        case("pipelines_count_the_same", &[Need::Step], in_pipelines),
        case(
            "parallel_make_counts_the_same",
            &[Need::Step, Need::Program("gcc"), Need::Program("make")],
            in_make,
        ),
        case(
            "python_processes_count_the_same_and_their_time_passes",
            &[Need::Step, Need::Program("python3")],
            in_python_processes,
        ),
        case("processes_that_are_killed_count_the_same", GCC, killed),
        case(
            "who_waits_for_the_end_of_a_process_is_woken_in_order",
            GCC,
            ends,
        ),
        case("who_polls_sees_all_that_has_happened", GCC, polls),
        case(
            "a_thread_that_is_woken_for_nothing_does_not_keep_its_turn",
            GCC,
            told_to_end,
        ),
        case(
            "a_process_that_loops_ends_when_its_time_is_up",
            &[Need::Step],
            loops,
        ),
        case("timers_fire_by_the_clock", GCC, timers),
        case(
            "a_turn_that_takes_too_long_ends_and_is_named",
            GCC,
            too_long,
        ),
        case("who_computes_is_stopped_in_time", GCC, in_time),
        case(
            "a_thread_that_waits_without_a_sign_has_a_slice",
            GCC,
            slices,
        ),
        case(
            "slices_end_turns_that_nobody_else_would",
            GCC,
            slices_of_all,
        ),
        case("all_threads_end_when_time_is_up", GCC, time_is_up),
        case("threads_run_freely_when_asked_for", GCC, free),
        case("turns_need_the_engine_and_its_clock", GCC, refusals),
    ])
}

fn built(folder: &Path, source: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/threads");
    let program = folder.join(source.trim_end_matches(".c"));
    let status = Command::new("gcc")
        .args(["-O1", "-pthread", "-o"])
        .args([&program, &tests.join(source)])
        .status();
    assert!(status.unwrap().success());
    program
}

/// What a program writes, how it ends, and the report.
fn ran(folder: &Path, options: &[&str], command: &[&str]) -> (String, Option<i32>, Value) {
    let count = ["count", "--backend", "dbi", "--json", "--quiet"];
    let mut run = counterfoil(&[&count, options, &["--"], command].concat());
    let ran = output(run.current_dir(folder));
    let report = serde_json::from_slice(&ran.stdout);
    let report = report.unwrap_or_else(|error| panic!("{error}: {}", stderr(&ran)));
    (stderr(&ran), ran.status.code(), report)
}

/// A run in which threads took turns to the end.
#[derive(Debug, PartialEq)]
struct Run {
    text: String,
    code: Option<i32>,
    instructions: u64,
    /// Whose they were, and when they began.
    turns: Vec<String>,
}

fn counted(folder: &Path, command: &[&str]) -> Run {
    let log = folder.join("engine.log");
    let options = ["--engine-log", log.to_str().unwrap()];
    let (text, code, report) = ran(folder, &options, command);
    assert_eq!(report["pinned"]["thread-order"]["state"], "pinned");
    let log = std::fs::read_to_string(&log).unwrap();
    let turns = log
        .lines()
        .filter_map(|line| Some(line.split_once(" turn of ")?.1.to_owned()));
    Run {
        text,
        code,
        instructions: instructions(&report),
        turns: turns.collect(),
    }
}

/// Runs a program again: all turns and the rest of it are as before.
fn is_as_before(folder: &Path, command: &[&str], before: &Run, run: u32) {
    let now = counted(folder, command);
    let mut turns = now.turns.iter().zip(&before.turns);
    if let Some(at) = turns.position(|(now, before)| now != before) {
        let around = at.saturating_sub(3)..(at + 3).min(now.turns.len());
        panic!(
            "run {run} of {command:?}: turn {at} is {}, before {}: {:?}",
            now.turns[at], before.turns[at], &now.turns[around]
        );
    }
    assert_eq!(now, *before, "run {run} of {command:?}");
}

/// Runs a program again and again: the same each time.
fn is_the_same(folder: &Path, command: &[&str], runs: u32) -> Run {
    let first = counted(folder, command);
    assert!(!first.turns.is_empty());
    for run in 1..runs {
        is_as_before(folder, command, &first, run);
    }
    first
}

fn in_order() {
    let folder = folder();
    let program = built(folder.path(), "turns.c");
    let Run { text, code, .. } = is_the_same(folder.path(), &[program.to_str().unwrap()], 5);
    assert_eq!(code, Some(3), "{text}");
    let order = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}: {text}"))
            .trim()
            .to_owned()
    };
    assert_eq!(order("look "), "abcd".repeat(60));
    // By the times they sleep: 12, 9, 6 and 3 ms.
    assert!(order("sleep ").starts_with("dcdb"), "{text}");
    let timed = order("timed ");
    assert!(timed.starts_with("AbC") && !timed.contains('!'), "{text}");
    assert_eq!(order("child "), "7z");
    for (name, length) in [("contend ", 240), ("pass ", 240), ("signal ", 4)] {
        assert_eq!(order(name).len(), length, "{text}");
    }
}

/// Processes that are killed when the test ends.
struct Neighbours(Vec<Child>);

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// More than there are CPUs, and none of them ever waits.
fn busy() -> Neighbours {
    let loops = || {
        Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
    };
    Neighbours((0..4).map(|_| loops().unwrap()).collect())
}

fn beside_others() {
    let folder = folder();
    let program = built(folder.path(), "turns.c");
    let command = [program.to_str().unwrap()];
    let alone = counted(folder.path(), &command);
    let _neighbours = busy();
    for run in 1..4 {
        is_as_before(folder.path(), &command, &alone, run);
    }
}

fn executes() {
    let folder = folder();
    let program = built(folder.path(), "turns.c");
    let command = [program.to_str().unwrap(), "executed"];
    let Run { text, code, .. } = is_the_same(folder.path(), &command, 2);
    assert!(text.ends_with("executed\n"), "{text}");
    assert_eq!(code, Some(0));
}

fn in_python() {
    let folder = folder();
    let script = common::write(
        folder.path(),
        "pool.py",
        "import concurrent.futures, queue, threading, time\n\
         q, done = queue.Queue(3), []\n\
         def take():\n\
         \x20   while (x := q.get()) is not None:\n\
         \x20       done.append(x)\n\
         \x20       if x % 20 == 0: time.sleep(0.002)\n\
         threads = [threading.Thread(target=take) for _ in range(3)]\n\
         for t in threads: t.start()\n\
         for i in range(200): q.put(i)\n\
         for t in threads: q.put(None)\n\
         for t in threads: t.join()\n\
         with concurrent.futures.ThreadPoolExecutor(4) as pool:\n\
         \x20   print(sum(pool.map(lambda n: sum(range(n * 50)), range(100))), hash(tuple(done)))\n",
    );
    python_is_the_same(folder.path(), &script);
}

/// The first to import a module on a machine compiles it, and keeps that for all others: nobody counted is the first.
fn python_is_the_same(folder: &Path, script: &Path) -> Run {
    assert!(
        Command::new(python())
            .arg(script)
            .output()
            .unwrap()
            .status
            .success()
    );
    is_the_same(folder, &[python(), script.to_str().unwrap()], 4)
}

/// More than GNU sort takes two threads for (src/sort.c, SUBTHREAD_LINES_HEURISTIC: 128 Ki).
const LINES: usize = 150_000;

/// Lines in no order, with a generator of Lehmer's (Park and Miller, 1988).
fn numbers(folder: &Path) -> String {
    let numbers = std::iter::successors(Some(1u64), |n| Some(n * 48_271 % 0x7fff_ffff));
    let lines: String = numbers.take(LINES).map(|n| format!("{n}\n")).collect();
    let file = common::write(folder, "numbers", &lines);
    file.to_str().unwrap().to_owned()
}

fn in_sort() {
    let folder = folder();
    let numbers = numbers(folder.path());
    let command = [
        "sort",
        "--parallel=4",
        "-S",
        "32M",
        "-o",
        "sorted",
        &numbers,
    ];
    is_the_same(folder.path(), &command, 4);
}

fn in_xz() {
    let folder = folder();
    let numbers = numbers(folder.path());
    // So that the first run has something to replace, as the others have.
    common::write(folder.path(), "numbers.xz", "");
    let command = ["xz", "-T4", "--block-size=64KiB", "-k", "-f", &numbers];
    is_the_same(folder.path(), &command, 4);
}

fn in_java() {
    let folder = folder();
    let source = common::write(
        folder.path(),
        "Pool.java",
        "import java.util.concurrent.*;\n\
         import java.util.stream.*;\n\
         class Pool {\n\
         \x20 public static void main(String[] none) throws Exception {\n\
         \x20   ExecutorService pool = Executors.newFixedThreadPool(4);\n\
         \x20   Future<Long> half = pool.submit(() -> LongStream.range(0, 20000).map(i -> i * i % 7).sum());\n\
         \x20   long other = IntStream.range(0, 20000).parallel().filter(i -> Integer.toString(i).contains(\"7\")).count();\n\
         \x20   System.err.println(half.get() + other);\n\
         \x20   pool.shutdown();\n\
         \x20 }\n\
         }\n",
    );
    let compiled = Command::new("javac").arg(source).status();
    assert!(compiled.unwrap().success());
    let path = folder.path().to_str().unwrap();
    let Run { text, .. } = is_the_same(folder.path(), &["java", "-cp", path, "Pool"], 3);
    assert!(text.contains("46876"), "{text}");
}

fn in_node() {
    let folder = folder();
    let script = common::write(
        folder.path(),
        "workers.js",
        "const { Worker, isMainThread, parentPort } = require('worker_threads');\n\
         if (isMainThread) {\n\
         \x20 let sum = 0, left = 3;\n\
         \x20 for (let i = 0; i < 3; i++)\n\
         \x20   new Worker(__filename).on('message', n => { sum += n; if (--left == 0) console.log(sum); });\n\
         } else {\n\
         \x20 let n = 0;\n\
         \x20 for (let i = 0; i < 50000; i++) n += i % 7;\n\
         \x20 parentPort.postMessage(n);\n\
         }\n",
    );
    let command = ["node", script.to_str().unwrap()];
    let Run { text, .. } = is_the_same(folder.path(), &command, 3);
    assert_eq!(text, "449991\n");
}

/// Commands of a shell whose processes wait for each other: for data and room in pipes, for ends, for a while.
const PIPELINES: [&str; 4] = [
    "seq 20000 | sort -r | uniq | head -n 3 >&2",
    "(seq 3000; echo done) | while read line; do last=$line; done | cat; yes | head -n 5000 | wc -l >&2",
    "for n in 3 1 2; do (sleep 0.00$n; echo $n >&2) & done; wait",
    "seq 400 | xargs -P 3 -n 20 echo | wc -w >&2",
];

fn in_pipelines() {
    let folder = folder();
    for pipeline in PIPELINES {
        is_the_same(folder.path(), &["sh", "-c", pipeline], 4);
    }
    let _neighbours = busy();
    let Run { text, .. } = is_the_same(folder.path(), &["sh", "-c", PIPELINES[0]], 3);
    assert_eq!(text, "9999\n9998\n9997\n");
    let Run { text, .. } = is_the_same(folder.path(), &["sh", "-c", PIPELINES[2]], 3);
    assert_eq!(text, "1\n2\n3\n");
}

fn in_make() {
    let folder = folder();
    common::write(
        folder.path(),
        "Makefile",
        "all: a b c\na b c: %: %.c\n\tgcc -pipe -o $@ $<\n",
    );
    for name in ["a", "b", "c"] {
        let source = "#include <stdio.h>\nint main(void) { return puts(\"made\") < 0; }\n";
        common::write(folder.path(), &format!("{name}.c"), source);
    }
    // Run before it is counted: what is there to be replaced is the same each time.
    let command = ["make", "-s", "-B", "-j3"];
    let made = Command::new("make")
        .args(&command[1..])
        .current_dir(folder.path())
        .status();
    assert!(made.unwrap().success());
    is_the_same(folder.path(), &command, 3);
}

fn in_python_processes() {
    let folder = folder();
    let script = common::write(
        folder.path(),
        "pool.py",
        "import multiprocessing, subprocess, sys, time\n\
         def work(n): return sum(range(n))\n\
         if __name__ == '__main__':\n\
         \x20   with multiprocessing.Pool(3) as pool:\n\
         \x20       print(sum(pool.map(work, range(600))), file=sys.stderr)\n\
         \x20   start = time.monotonic_ns()\n\
         \x20   subprocess.run(['seq', '20000'], stdout=subprocess.DEVNULL)\n\
         \x20   print(time.monotonic_ns() - start, file=sys.stderr)\n",
    );
    let Run { text, .. } = python_is_the_same(folder.path(), &script);
    let (sum, passed) = text.trim().split_once('\n').unwrap();
    assert_eq!(sum, "35820200");
    // What `seq` executes alone is more than a million instructions.
    assert!(passed.parse::<u64>().unwrap() > 1_000_000, "{passed}");
}

fn killed() {
    let folder = folder();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/programs");
    let program = folder.path().join("killed_early");
    let built = Command::new("gcc")
        .args(["-O1", "-o"])
        .args([&program, &tests.join("killed_early.c")])
        .status();
    assert!(built.unwrap().success());
    is_the_same(folder.path(), &[program.to_str().unwrap()], 2);
}

fn ends() {
    let folder = folder();
    let program = built(folder.path(), "ends.c");
    let Run { text, code, .. } = is_the_same(folder.path(), &[program.to_str().unwrap()], 4);
    assert_eq!((code, text.trim()), (Some(0), "wr".repeat(40).as_str()));
}

fn polls() {
    let folder = folder();
    let program = built(folder.path(), "polls.c");
    let Run { text, code, .. } = is_the_same(folder.path(), &[program.to_str().unwrap()], 3);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "300 of 300\n0 after 50 ms\n")
    );
}

fn told_to_end() {
    let folder = folder();
    let program = built(folder.path(), "told.c");
    let Run { code, .. } = is_the_same(folder.path(), &[program.to_str().unwrap()], 3);
    assert_eq!(code, Some(0));
}

fn loops() {
    let folder = folder();
    let start = Instant::now();
    let command = ["timeout", "0.5", "sh", "-c", "while :; do :; done"];
    let Run {
        code, instructions, ..
    } = is_the_same(folder.path(), &command, 3);
    assert_eq!(code, Some(124));
    // Half a second, at a nanosecond an instruction.
    assert!(
        (500_000_000..510_000_000).contains(&instructions),
        "{instructions}"
    );
    assert!(start.elapsed() < Duration::from_secs(30));
}

fn timers() {
    let folder = folder();
    let program = built(folder.path(), "timers.c");
    let Run { text, .. } = is_the_same(folder.path(), &[program.to_str().unwrap()], 3);
    let lines: Vec<&str> = text.lines().collect();
    for (line, beginning) in lines.iter().zip([
        "alarm after ",
        "ten intervals after ",
        "every 5000 us, 4",
        "of CPU time after ",
        "timer after ",
        "sleep -1, 1, 2.000",
        "thread 7",
        "file 1",
        // Twenty million rounds of a volatile variable, at three nanoseconds or more each.
        "file ",
    ]) {
        assert!(line.starts_with(beginning), "{text}");
    }
    assert_eq!(lines.len(), 9);
    // As natively: a signal of the kernel's own, and one of a timer's (asm-generic/siginfo.h).
    assert!(
        lines[0].ends_with(" code 128") && lines[4].ends_with(" code -2, value 42"),
        "{text}"
    );
}

fn too_long() {
    let folder = folder();
    let program = built(folder.path(), "waits_shared.c");
    let (text, code, report) = ran(folder.path(), &[], &[program.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
    let order = &report["pinned"]["thread-order"];
    assert_eq!(order["state"], "free");
    let why = order["why"].as_str().unwrap();
    assert!(
        why.contains("without a system call while others were ready"),
        "{why}"
    );
}

fn in_time() {
    let folder = folder();
    let program = built(folder.path(), "deadline.c");
    let Run { instructions, .. } = is_the_same(folder.path(), &[program.to_str().unwrap()], 4);
    // Five times ten milliseconds, at a nanosecond an instruction.
    assert!(
        (50_000_000..51_000_000).contains(&instructions),
        "{instructions}"
    );
}

/// Rounds of a loop that a slice has, and what each executes at least.
const SLICE: u64 = 1 << 23;

fn slices() {
    let folder = folder();
    let program = built(folder.path(), "waits.c");
    let Run { instructions, .. } = is_the_same(folder.path(), &[program.to_str().unwrap()], 3);
    assert!(
        (3 * SLICE..8 * SLICE).contains(&instructions),
        "{instructions}"
    );
}

fn slices_of_all() {
    let folder = folder();
    let program = built(folder.path(), "waits_shared.c");
    let count = || {
        let command = [program.to_str().unwrap()];
        let (text, code, report) = ran(folder.path(), &["--threads", "slices"], &command);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(report["pinned"]["thread-order"]["state"], "pinned");
        common::instructions(&report)
    };
    let first = count();
    assert!((3 * SLICE..8 * SLICE).contains(&first), "{first}");
    assert_eq!(count(), first);
}

fn time_is_up() {
    let folder = folder();
    let source = "#include <pthread.h>\n#include <unistd.h>\n\
                  static void *waits(void *n) { pause(); return n; }\n\
                  int main(void) { pthread_t t; for (int i = 0; i < 3; i++) pthread_create(&t, 0, waits, 0); \
                  return pthread_join(t, 0); }\n";
    let program = common::compile(folder.path(), "stuck.c", source, &["-pthread"]);
    let start = Instant::now();
    let program = program.to_str().unwrap();
    let ran = output(&mut counterfoil(&[
        "count",
        "--timeout",
        "1s",
        "--",
        program,
    ]));
    assert_eq!(ran.status.code(), Some(124), "{}", stderr(&ran));
    assert!(start.elapsed() < Duration::from_secs(60));
    let left = Command::new("pgrep")
        .args(["-f", program])
        .stdout(Stdio::null())
        .status();
    assert!(!left.unwrap().success(), "threads are left");
}

fn free() {
    let folder = folder();
    let program = built(folder.path(), "turns.c");
    let command = [program.to_str().unwrap()];
    let (text, code, report) = ran(folder.path(), &["--threads", "free"], &command);
    assert_eq!(code, Some(3), "{text}");
    let order = &report["pinned"]["thread-order"];
    assert_eq!(
        (&order["state"], &order["why"]),
        (&"free".into(), &"they were to run freely".into())
    );
    let (_, _, report) = ran(folder.path(), &["--time", "real"], &["true"]);
    assert_eq!(
        report["pinned"]["thread-order"]["why"],
        "real time was asked for"
    );
}

fn refusals() {
    for (options, expected) in [
        (
            &["--threads", "turns", "--time", "real"][..],
            "leave out `threads`, or set `time` to virtual",
        ),
        (
            &["--threads", "turns", "--backend", "step"],
            "`step` shows programs the real order of threads",
        ),
        (
            &["--threads", "fast"],
            "`fast` is no way for threads to run; use turns or slices or free",
        ),
    ] {
        let ran = output(&mut counterfoil(
            &[&["count"], options, &["--", "true"]].concat(),
        ));
        assert!(!ran.status.success() && stdout(&ran).is_empty());
        assert!(stderr(&ran).contains(expected), "{}", stderr(&ran));
    }
}
