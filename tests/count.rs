//! `count` and `compare` on real programs: what is counted, what the report says, that runs agree.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use common::Need::{Program, Step};
use common::{
    case, compile, compile_small, count_json, counterfoil, folder, instructions, output, python,
    stderr, stdout, write,
};

fn main() -> ExitCode {
    let valgrind = [Program("valgrind")];
    let gcc = [Program("valgrind"), Program("gcc")];
    let interpreted = [Program("valgrind"), Program("python3")];
    let all = [Program("valgrind"), Program("gcc"), Step];
    let small = [Program("valgrind"), Program("musl-gcc"), Step];
    common::run(vec![
        case("ten_of_ten_runs_of_true_agree", &valgrind, || {
            agrees(&["true"])
        }),
        case(
            "ten_of_ten_runs_of_git_agree",
            &[Program("valgrind"), Program("git")],
            || agrees(&["git", "--version"]),
        ),
        case("ten_of_ten_runs_of_sort_agree", &valgrind, || {
            agrees(&["sort", "/etc/services"])
        }),
        case("ten_of_ten_runs_of_gzip_agree", &valgrind, || {
            agrees(&["gzip", "-c", "/etc/services"])
        }),
        case(
            "ten_of_ten_runs_of_gcc_agree",
            &gcc,
            ten_of_ten_runs_of_gcc_agree,
        ),
        case(
            "ten_of_ten_runs_of_python_agree",
            &interpreted,
            ten_of_ten_runs_of_python_agree,
        ),
        case(
            "stepped_runs_of_real_programs_agree",
            &all,
            stepped_runs_of_real_programs_agree,
        ),
        case(
            "racing_children_are_counted_the_same_in_every_run",
            &all,
            racing_children_are_counted_the_same_in_every_run,
        ),
        case(
            "runs_that_write_to_one_file_agree_and_nothing_is_lost",
            &[Step, Program("python3")],
            runs_that_write_to_one_file_agree_and_nothing_is_lost,
        ),
        case(
            "opcodes_and_functions_sum_to_the_total",
            &interpreted,
            opcodes_and_functions_sum_to_the_total,
        ),
        case(
            "a_tree_is_the_sum_of_its_processes",
            &gcc,
            a_tree_is_the_sum_of_its_processes,
        ),
        case(
            "a_forked_copy_is_counted_once",
            &small,
            a_forked_copy_is_counted_once,
        ),
        case(
            "environment_length_moves_a_bare_count_and_no_pinned_one",
            &gcc,
            environment_length_moves_a_bare_count_and_no_pinned_one,
        ),
        case(
            "a_pinned_run_sees_a_clean_environment",
            &valgrind,
            a_pinned_run_sees_a_clean_environment,
        ),
        case(
            "an_unpinned_run_sees_ours",
            &valgrind,
            an_unpinned_run_sees_ours,
        ),
        case(
            "json_leaves_standard_output_to_the_report",
            &valgrind,
            json_leaves_standard_output_to_the_report,
        ),
        case(
            "the_report_says_which_backend_and_why",
            &valgrind,
            the_report_says_which_backend_and_why,
        ),
        case(
            "refuses_details_a_backend_does_not_count",
            &valgrind,
            refuses_details_a_backend_does_not_count,
        ),
        case(
            "a_valgrind_that_dies_is_no_count",
            &[],
            a_valgrind_that_dies_is_no_count,
        ),
        case(
            "without_valgrind_the_engine_counts",
            &[Step],
            without_valgrind_the_engine_counts,
        ),
        case(
            "auto_passes_a_32_bit_program_to_the_next_backend",
            &[Program("as"), Program("ld"), Step],
            auto_passes_a_32_bit_program_to_the_next_backend,
        ),
        case(
            "auto_passes_a_set_uid_program_to_step",
            &[Program("gcc"), Step],
            auto_passes_a_set_uid_program_to_step,
        ),
        case(
            "a_child_that_is_refused_is_an_error_with_a_remedy",
            &[Program("as"), Program("ld"), Step],
            a_child_that_is_refused_is_an_error_with_a_remedy,
        ),
        case(
            "the_engine_log_is_written_for_the_engine_only",
            &[Step],
            the_engine_log_is_written_for_the_engine_only,
        ),
        case(
            "real_reports_match_their_schemas",
            &all,
            real_reports_match_their_schemas,
        ),
        case(
            "compare_explains_the_difference",
            &gcc,
            compare_explains_the_difference,
        ),
        case(
            "regions_leave_setup_and_teardown_out",
            &small,
            regions_leave_setup_and_teardown_out,
        ),
    ])
}

fn agrees(command: &[&str]) {
    let arguments = [
        &["--backend", "cachegrind", "--repeat", "10", "--"],
        command,
    ]
    .concat();
    let report = count_json(&arguments);
    assert_eq!(report["repeats"]["agree"], true, "{:#}", report["repeats"]);
    assert_eq!(
        report["repeats"]["instructions"].as_array().unwrap().len(),
        10
    );
    assert!(
        instructions(&report) > 50_000,
        "the loader alone is more: {report:#}"
    );
}

/// Python makes a number of every time that stat(2) gives, and a time of whole seconds is less work: the times of access
/// that a fresh file system has, until the first run lists Python's folders. That run is made here, uncounted.
fn ten_of_ten_runs_of_python_agree() {
    let command = [python(), "-c", "pass"];
    let first = std::process::Command::new(command[0])
        .args(&command[1..])
        .status();
    assert!(first.unwrap().success());
    agrees(&command);
}

/// The C library draws the name of gcc's temporary file from the clock, and draws again once in 22 times
/// (2^64 mod 62^10 of 2^64): some twenty instructions. Nothing else may vary; without a temporary file nothing may at all.
fn ten_of_ten_runs_of_gcc_agree() {
    let folder = folder();
    let source = write(
        folder.path(),
        "a.c",
        "int square(int x) { return x * x; }\n",
    );
    let source = source.to_str().unwrap();
    agrees(&["gcc", "-O2", "-S", source, "-o", "/dev/null"]);

    let object = folder.path().join("a.o");
    let command = ["gcc", "-O2", "-c", source, "-o", object.to_str().unwrap()];
    // The assembler treats an object file that is there otherwise than one that is not.
    assert!(
        std::process::Command::new(command[0])
            .args(&command[1..])
            .status()
            .unwrap()
            .success()
    );
    let arguments = [
        &["--backend", "cachegrind", "--repeat", "10", "--"],
        &command[..],
    ]
    .concat();
    let report = count_json(&arguments);
    let counts: Vec<u64> =
        serde_json::from_value(report["repeats"]["instructions"].clone()).unwrap();
    let least = counts.iter().min().unwrap();
    let redraws: Vec<u64> = counts.iter().map(|count| count - least).collect();
    assert!(redraws.iter().all(|more| *more <= 60), "{redraws:?}");
}

fn stepped_runs_of_real_programs_agree() {
    for command in [
        &["true"][..],
        &["sh", "-c", "(true); (true)"],
        &["sort", "/etc/hostname"],
    ] {
        let arguments = [&["--backend", "step", "--repeat", "3", "--"], command].concat();
        let report = count_json(&arguments);
        assert_eq!(
            report["repeats"]["agree"], true,
            "{command:?}: {:#}",
            report["repeats"]
        );
    }
}

/// Which child of a pipeline ends first is chance, and the shell does more or less for it. The children themselves always
/// do the same: here two instructions and the system call that ends them.
fn racing_children_are_counted_the_same_in_every_run() {
    let folder = folder();
    let source = ".globl _start\n_start: mov $60, %eax\nxor %edi, %edi\nsyscall\n";
    let child = compile(folder.path(), "child.S", source, &["-nostdlib", "-static"]);
    let child = child.to_str().unwrap();
    let script = format!("{child} | {child} | {child}");
    for _ in 0..4 {
        let report = count_json(&["--backend", "step", "--", "sh", "-c", &script]);
        let rows = report["processes"].as_array().unwrap();
        let count = |row: &serde_json::Value| row["instructions"].as_u64().unwrap();
        let total: u64 = rows.iter().map(count).sum();
        assert_eq!(total, instructions(&report), "{report:#}");
        let children = rows.iter().filter(|row| row["program"] == child);
        let counts: Vec<u64> = children.map(count).collect();
        assert_eq!(counts, [3; 3], "{report:#}");
    }
}

fn sum(counts: &serde_json::Value) -> u64 {
    counts
        .as_object()
        .unwrap()
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum()
}

/// Python asks where its output stands, and does more behind what the run before has written, if it sees that.
fn runs_that_write_to_one_file_agree_and_nothing_is_lost() {
    let folder = folder();
    let program = "import sys; print('out', flush=True); sys.stderr.write('err\\n')";
    for (name, append) in [("written", false), ("appended", true)] {
        let path = write(folder.path(), name, "");
        let mut file = fs::File::options()
            .write(true)
            .append(append)
            .open(&path)
            .unwrap();
        let mut command = counterfoil(&["count", "--backend", "dbi", "--repeat", "3", "--"]);
        command.args(["/usr/bin/python3", "-c", program]);
        command.stdout(file.try_clone().unwrap());
        command.stderr(file.try_clone().unwrap());
        assert!(command.status().unwrap().success());
        file.write_all(b"behind\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let runs = "out\nerr\n".repeat(3);
        assert!(text.starts_with(&runs), "{text}");
        assert!(text.contains("3 of 3 runs agree"), "{text}");
        assert!(text.ends_with("behind\n"), "{text}");
    }
}

fn opcodes_and_functions_sum_to_the_total() {
    for command in [&[python(), "-c", "pass"][..], &["git", "--version"]] {
        let arguments = [
            &["--opcodes", "--functions", "--backend", "callgrind", "--"],
            command,
        ]
        .concat();
        let report = count_json(&arguments);
        let total = instructions(&report);
        assert_eq!(sum(&report["opcodes"]), total, "{command:?}");
        let functions = report["functions"].as_array().unwrap();
        let by_function: u64 = functions
            .iter()
            .map(|row| row["instructions"].as_u64().unwrap())
            .sum();
        assert_eq!(by_function, total, "{command:?}");
        let unknown = functions
            .iter()
            .filter(|row| row["module"].as_str().unwrap().contains("???"));
        assert_eq!(unknown.count(), 0, "{command:?}");
        assert!(report["opcodes"].get("(bad)").is_none(), "{command:?}");
    }
}

fn a_tree_is_the_sum_of_its_processes() {
    let folder = folder();
    let source = write(folder.path(), "a.c", "int main(void) { return 0; }\n");
    let program = folder.path().join("a.out");
    let command = [
        "gcc",
        source.to_str().unwrap(),
        "-o",
        program.to_str().unwrap(),
    ];
    let report = count_json(&[&["--backend", "cachegrind", "--"], &command[..]].concat());
    let processes = report["processes"].as_array().unwrap();
    let programs: Vec<_> = processes
        .iter()
        .map(|p| p["program"].as_str().unwrap())
        .collect();
    for name in ["gcc", "cc1", "as", "ld"] {
        assert!(
            programs.iter().any(|program| program.contains(name)),
            "{name} in {programs:?}"
        );
    }
    let counts = processes
        .iter()
        .filter_map(|process| process["instructions"].as_u64());
    assert_eq!(counts.sum::<u64>(), instructions(&report), "{report:#}");
    assert!(program.exists(), "gcc did its work");
}

/// The parent's work before the fork must not be counted again in the child.
fn a_forked_copy_is_counted_once() {
    let source = "
        #include <sys/wait.h>
        #include <unistd.h>
        static void work(long n) { for (volatile long i = 0; i < n; i++) ; }
        int main(void) {
            work(10000);
            if (fork() == 0) { work(10); _exit(0); }
            wait(0);
            return 0;
        }";
    let folder = folder();
    let program = compile_small(folder.path(), "fork.c", source, &[]);
    let program = program.to_str().unwrap();
    let stepped = instructions(&count_json(&["--backend", "step", "--", program]));
    for backend in ["cachegrind", "callgrind"] {
        let counted = instructions(&count_json(&["--backend", backend, "--", program]));
        let off = counted.abs_diff(stepped);
        assert!(off < stepped / 50, "{backend} {counted}, step {stepped}");
    }
}

fn environment_length_moves_a_bare_count_and_no_pinned_one() {
    let folder = folder();
    let source = include_str!("pinning/strings.c");
    let program = compile(folder.path(), "strings.c", source, &["-O2"]);
    let program = program.to_str().unwrap();
    let count = |length: usize, pin: &[&str]| {
        let variable = format!("LENGTH={}", "x".repeat(length));
        let mut arguments = vec![
            "count",
            "--json",
            "--backend",
            "callgrind",
            "--env",
            &variable,
        ];
        arguments.extend(pin);
        arguments.extend(["--", program]);
        // Unpinned runs get our environment, so it must be the same everywhere but for LENGTH.
        let mut command = counterfoil(&arguments);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap());
        let run = output(&mut command);
        instructions(
            &serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{}", stderr(&run))),
        )
    };
    let lengths = [1, 2, 7, 16, 40, 63, 1000, 5000];
    let spread = |pin: &[&str]| {
        let counts: Vec<u64> = lengths.iter().map(|length| count(*length, pin)).collect();
        let (least, most) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
        (most - least, least)
    };
    let (moved, least) = spread(&["--no-pin"]);
    assert!(
        moved * 100 > least,
        "bare, it moves by a percent or more: {moved} of {least}"
    );
    assert_eq!(spread(&[]).0, 0, "pinned, it does not move at all");
}

fn a_pinned_run_sees_a_clean_environment() {
    let run = output(
        counterfoil(&[
            "count",
            "--backend",
            "cachegrind",
            "--env",
            "MINE=1",
            "--env",
            "KEPT",
            "--",
            "env",
        ])
        .env("SECRET", "hidden")
        .env("KEPT", "two"),
    );
    let seen = stdout(&run);
    assert!(!seen.contains("SECRET"), "{seen}");
    for line in ["MINE=1\n", "KEPT=two\n", "PYTHONHASHSEED=0\n", "TZ=UTC"] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
}

fn an_unpinned_run_sees_ours() {
    let mut command = counterfoil(&["count", "--backend", "cachegrind", "--no-pin", "--", "env"]);
    let run = output(command.env("OURS", "here"));
    assert!(stdout(&run).contains("OURS=here\n"));
    assert!(!stdout(&run).contains("COUNTERFOIL_PAD"));
}

fn json_leaves_standard_output_to_the_report() {
    let run = output(&mut counterfoil(&[
        "count",
        "--json",
        "--backend",
        "cachegrind",
        "--",
        "echo",
        "words",
    ]));
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert!(stderr(&run).contains("words\n"));
    for key in [
        "schema",
        "command",
        "backend",
        "metrics",
        "repeats",
        "pinned",
        "fingerprint",
    ] {
        assert!(report.get(key).is_some(), "{key} in {report:#}");
    }
    assert_eq!(report["command"], serde_json::json!(["echo", "words"]));
}

fn the_report_says_which_backend_and_why() {
    let run = output(&mut counterfoil(&["count", "--opcodes", "--", "true"]));
    let report = stderr(&run);
    assert!(report.contains("dbi"), "{report}");
    assert!(report.contains("perf does not count opcodes"), "{report}");
}

fn refuses_details_a_backend_does_not_count() {
    let run = output(&mut counterfoil(&[
        "count",
        "--backend",
        "cachegrind",
        "--opcodes",
        "--",
        "true",
    ]));
    assert_eq!(run.status.code(), Some(125));
    let message = stderr(&run);
    assert!(
        message.contains("cachegrind") && message.contains("opcodes"),
        "{message}"
    );
}

/// A valgrind that prints what the real one prints on an AVX-512 instruction, and dies.
fn a_valgrind_that_dies_is_no_count() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let fake = write(folder.path(), "valgrind", "#!/bin/sh\nkill -ILL $$\n");
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let mut command = counterfoil(&["count", "--backend", "cachegrind", "--", "true"]);
    let run = output(command.env("PATH", path));
    assert_eq!(run.status.code(), Some(125), "{}", stderr(&run));
    assert!(stderr(&run).contains("valgrind"), "{}", stderr(&run));
    assert!(
        !stderr(&run).contains("instructions  "),
        "no count: {}",
        stderr(&run)
    );
}

/// A program of three instructions that exits with 7 and needs no library.
fn program_of_32_bits(folder: &Path) -> PathBuf {
    let code = ".globl _start\n_start: mov $1, %eax\nmov $7, %ebx\nint $0x80\n";
    let source = write(folder, "short.s", code);
    let (object, program) = (folder.join("short.o"), folder.join("short"));
    let made = |command: &mut Command| assert!(command.status().unwrap().success());
    made(
        Command::new("as")
            .args(["--32", "-o"])
            .args([&object, &source]),
    );
    made(
        Command::new("ld")
            .args(["-m", "elf_i386", "-o"])
            .args([&program, &object]),
    );
    program
}

/// Which backend `auto` took for a program, why, and the whole report. None where hardware counters count everything.
fn auto_for(program: &Path) -> Option<(String, String, serde_json::Value)> {
    let report = count_json(&["--", program.to_str().unwrap()]);
    let text = |key| report["backend"][key].as_str().unwrap().to_owned();
    let (name, why) = (text("name"), text("why"));
    (name != "perf").then_some((name, why, report))
}

fn auto_passes_a_32_bit_program_to_the_next_backend() {
    let folder = folder();
    let program = program_of_32_bits(folder.path());
    let script = format!("#!{}\n", program.display());
    let script = write(folder.path(), "script", &script);
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    for file in [&program, &script] {
        let Some((name, why, report)) = auto_for(file) else {
            return;
        };
        let refusal = format!(
            "dbi: not supported: `{}` is no 64-bit x86 program",
            program.display()
        );
        assert_ne!(name, "dbi");
        assert!(why.contains(&refusal), "{why}");
        assert_eq!(instructions(&report), 3);
    }
}

fn auto_passes_a_set_uid_program_to_step() {
    let folder = folder();
    let program = compile(folder.path(), "main.c", "int main(void) { return 0; }", &[]);
    // Only root can give a file away; a file of our own is the engine's again.
    let given = std::os::unix::fs::chown(&program, Some(65534), None).is_ok();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let Some((name, why, _)) = auto_for(&program) else {
        return;
    };
    if given {
        assert_eq!(name, "step");
        assert!(why.contains("runs as another user (set-uid)"), "{why}");
    } else {
        assert_eq!(name, "dbi");
    }
}

fn a_child_that_is_refused_is_an_error_with_a_remedy() {
    let folder = folder();
    let program = program_of_32_bits(folder.path());
    let script = format!("echo first; {}; echo last", program.display());
    let run = output(&mut counterfoil(&[
        "count", "-b", "dbi", "--", "sh", "-c", &script,
    ]));
    assert_eq!(run.status.code(), Some(125));
    assert_eq!(stdout(&run), "first\n");
    let error = stderr(&run);
    assert!(error.contains("is no 64-bit x86 program"), "{error}");
    assert!(error.contains("use `--backend step`"), "{error}");
}

fn the_engine_log_is_written_for_the_engine_only() {
    let folder = folder();
    let log = folder.path().join("log");
    let log_name = log.to_str().unwrap();
    let count = |backend| {
        let all = [
            "count",
            "-b",
            backend,
            "--engine-log",
            log_name,
            "--",
            "true",
        ];
        output(&mut counterfoil(&all))
    };
    assert!(count("dbi").status.success());
    assert!(fs::read_to_string(&log).unwrap().contains("begins at"));
    let refused = count("step");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--engine-log is for `--backend dbi`"));
}

fn without_valgrind_the_engine_counts() {
    let folder = folder();
    let command = &mut counterfoil(&["count", "--json", "--", "/bin/true"]);
    let run = output(command.env("PATH", folder.path()));
    let report: serde_json::Value =
        serde_json::from_slice(&run.stdout).unwrap_or_else(|_| panic!("{}", stderr(&run)));
    assert!(
        ["dbi", "perf"].contains(&report["backend"]["name"].as_str().unwrap()),
        "{report:#}"
    );
}

fn compare_explains_the_difference() {
    let folder = folder();
    let source = |divide: &str| {
        format!(
            "int main(int c, char **v) {{ volatile unsigned x = 7; for (int i = 0; i < 5000; i++) x = x {divide}; return 0; }}"
        )
    };
    let plain = compile(folder.path(), "plain.c", &source("+ 3"), &["-O1"]);
    let divides = compile(
        folder.path(),
        "divides.c",
        &source("/ (unsigned)(c + 2)"),
        &["-O1"],
    );
    let run = output(&mut counterfoil(&[
        "compare",
        plain.to_str().unwrap(),
        divides.to_str().unwrap(),
    ]));
    let report = stdout(&run);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    assert!(
        report.contains("div") && report.contains("+5,000") && report.contains("main"),
        "{report}"
    );
}

fn regions_leave_setup_and_teardown_out() {
    let include = format!("-I{}/shim/include", env!("CARGO_MANIFEST_DIR"));
    let source = r#"
        #include <counterfoil.h>
        static void work(long n) { for (volatile long i = 0; i < n; i++) ; }
        int main(void) {
            work(10000);
            for (int i = 0; i < 3; i++) {
                COUNTERFOIL_REGION_BEGIN("middle");
                work(1000);
                COUNTERFOIL_REGION_END("middle");
            }
            work(10000);
            return 0;
        }"#;
    let folder = folder();
    let program = compile_small(folder.path(), "regions.c", source, &[&include]);
    let mut counts = Vec::new();
    for backend in ["step", "dbi", "callgrind"] {
        let report = count_json(&[
            "--regions",
            "--backend",
            backend,
            "--",
            program.to_str().unwrap(),
        ]);
        let region = &report["regions"]["middle"];
        assert_eq!(region["entries"], 3, "{backend}: {report:#}");
        counts.push(region["instructions"].as_u64().unwrap());
        assert_eq!(instructions(&report), counts[counts.len() - 1], "{backend}");
    }
    assert!(
        counts.iter().all(|count| *count == counts[0]),
        "step, dbi and callgrind: {counts:?}"
    );
    assert!((9_000..30_000).contains(&counts[0]), "{counts:?}");
}

fn real_reports_match_their_schemas() {
    let tree = ["sh", "-c", "true; exit 3"];
    let killed = ["sh", "-c", "kill -TERM $$"];
    for (schema, arguments) in [
        (
            "count",
            [
                &["count", "--json", "--opcodes", "--functions", "--"],
                &tree[..],
            ]
            .concat(),
        ),
        (
            "count",
            [
                &[
                    "count",
                    "--json",
                    "--backend",
                    "step",
                    "--repeat",
                    "2",
                    "--",
                ],
                &killed[..],
            ]
            .concat(),
        ),
        (
            "count",
            [
                &[
                    "count",
                    "--json",
                    "--no-pin",
                    "--backend",
                    "cachegrind",
                    "--",
                ],
                &tree[..],
            ]
            .concat(),
        ),
        (
            "compare",
            vec!["compare", "--json", "true", "false", "echo a"],
        ),
        ("doctor", vec!["doctor", "--json"]),
        (
            "list",
            vec![
                "list",
                "--json",
                "--manifest",
                concat!(env!("CARGO_MANIFEST_DIR"), "/counterfoil.toml"),
            ],
        ),
    ] {
        let path = format!("{}/docs/schema/{schema}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let validator = jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap();
        let run = output(&mut counterfoil(&arguments));
        let report = serde_json::from_slice(&run.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", stderr(&run)));
        let problems: Vec<_> = validator
            .iter_errors(&report)
            .map(|e| e.to_string())
            .collect();
        assert!(problems.is_empty(), "{arguments:?}: {problems:#?}");
    }
}
