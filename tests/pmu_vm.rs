//! The perf backend on a real counter: an emulated arm64 machine whose PMU counts instructions exactly.
//!
//! Programs of known counts (`tests/pmu/programs`, each states its count on its first line) and the binary under test are
//! built for arm64 and run in the machine; `tests/pmu/README.md` says how. All cases of one kind of machine share one boot.
//! Where the tools are missing every test is reported as ignored, with the reason in its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

/// The counting commands in the machine, plain and for regions.
const COUNT: &str = "/pmu/counterfoil count --backend perf --json --";
const COUNT_REGIONS: &str = "/pmu/counterfoil count --backend perf --json --regions --";

/// The exit code when counting itself failed.
const COUNTING_FAILED: i32 = 125;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What one case printed, and its exit code.
#[derive(Clone, Debug)]
struct Case {
    output: String,
    code: i32,
}

type Test = fn() -> Result<(), Failed>;
type Cases = BTreeMap<String, Vec<Case>>;

/// The kinds of machine, each with its options for `run-vm`.
#[derive(Clone, Copy)]
enum Kind {
    Full,
    NoPmu,
    NoInstructions,
}

fn main() {
    let args = Arguments::from_args();
    let tests: [(&str, Test); 16] = [
        ("a_loop_counts_as_constructed", || program("loop")),
        ("both_halves_of_a_fork_are_counted", || program("fork")),
        ("a_program_executed_by_a_child_is_counted", || {
            program("exec")
        }),
        ("all_threads_are_counted", || program("threads")),
        ("system_calls_and_page_faults_cost_nothing", || {
            program("kernel")
        }),
        ("the_suites_arm64_programs_count_as_constructed", suite),
        ("regions_of_the_c_header_are_counted", marked),
        ("programs_of_a_tree_are_counted_apart", programs_apart),
        ("regions_count_as_constructed", regions),
        ("a_marker_counts_where_the_program_waits", || {
            program("late")
        }),
        ("a_program_that_enters_no_region_is_an_error", no_region),
        ("every_repeat_gives_the_same_count", repeats),
        ("groups_and_crowds_count_exactly_or_not_at_all", groups),
        ("a_count_without_a_free_counter_is_refused", hog),
        ("a_user_is_told_of_perf_event_paranoid", paranoid),
        (
            "a_machine_that_cannot_count_says_which_part_is_missing",
            absent,
        ),
    ];
    let missing = missing_tools();
    let strict = std::env::var_os("COUNTERFOIL_NO_SKIPS").is_some_and(|v| v == "1");
    let trials = tests.into_iter().map(|(name, test)| match &missing {
        None => Trial::test(name, test),
        Some(reason) if strict => {
            let reason = reason.clone();
            Trial::test(name, move || Err(reason.into()))
        }
        Some(reason) => {
            Trial::test(format!("{name} (skipped: {reason})"), test).with_ignored_flag(true)
        }
    });
    libtest_mimic::run(&args, trials.collect()).exit();
}

/// Why the machine cannot be built or run here, if so.
fn missing_tools() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    [
        ("qemu-system-aarch64", "qemu-system-arm"),
        ("cpio", "cpio"),
        (
            "aarch64-linux-gnu-gcc",
            "gcc-aarch64-linux-gnu and libc6-dev-arm64-cross",
        ),
        ("apt-get", "a Debian host"),
    ]
    .into_iter()
    .find(|(tool, _)| !found(tool))
    .map(|(tool, package)| format!("no {tool}, which needs {package}"))
}

fn script(name: &str) -> Command {
    let mut command = Command::new(Path::new(ROOT).join("tests/pmu").join(name));
    command.current_dir(ROOT);
    command
}

fn output(command: &mut Command) -> Result<String, String> {
    let done = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&done.stderr);
    Err(format!("{command:?}: {}\n{text}\n{errors}", done.status))
}

/// The folder that becomes `/pmu` in the machine, built once.
fn built() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> Result<PathBuf, String> {
    let target = Path::new(ROOT).join("target/pmu-vm");
    let cargo = [
        "cargo",
        "build",
        "--locked",
        "--package",
        "counterfoil",
        "--package",
        "perf-counters",
    ];
    output(script("cross").args(cargo).env("CARGO_TARGET_DIR", &target))?;
    let folder = target.join("machine");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let built = target.join("aarch64-unknown-linux-gnu/debug");
    for binary in ["counterfoil", "perf_counters"] {
        let stripped = folder.join(Path::new(binary).file_name().unwrap_or_default());
        output(
            Command::new("aarch64-linux-gnu-strip")
                .arg("-o")
                .arg(stripped)
                .arg(built.join(binary)),
        )?;
    }
    for name in [
        "loop", "fork", "exec", "threads", "kernel", "regions", "late",
    ] {
        let options = ["-nostdlib", "-static", "-o"];
        compile(&options, &folder.join(name), &source(name))?;
    }
    let hog = Path::new(ROOT).join("tests/pmu/programs/hog.c");
    compile(&["-O1", "-static", "-o"], &folder.join("hog"), &hog)?;
    let include = Path::new(ROOT).join("shim/include");
    let include = include.to_string_lossy();
    let marked = Path::new(ROOT).join("tests/pmu/programs/marked.c");
    compile(
        &["-O1", "-static", "-I", &include, "-o"],
        &folder.join("marked"),
        &marked,
    )?;
    let mut suite = Command::new(Path::new(ROOT).join("workloads/asm/build"));
    suite.arg("aarch64").arg(folder.join("suite"));
    output(suite.env("CC", "aarch64-linux-gnu-gcc"))?;
    let cases = Path::new(ROOT).join("tests/pmu/cases.sh");
    std::fs::copy(cases, folder.join("cases.sh")).map_err(|error| error.to_string())?;
    Ok(folder)
}

fn compile(options: &[&str], into: &Path, source: &Path) -> Result<String, String> {
    output(
        Command::new("aarch64-linux-gnu-gcc")
            .args(options)
            .arg(into)
            .arg(source),
    )
}

fn source(program: &str) -> PathBuf {
    let programs = Path::new(ROOT).join("tests/pmu/programs");
    programs.join(program).with_extension("S")
}

/// What `program` states on its first line.
fn expected(program: &str) -> u64 {
    let text = std::fs::read_to_string(source(program)).expect("a program's source");
    let line = text.lines().next().unwrap_or_default();
    let number = line
        .strip_prefix("// Expects: ")
        .and_then(|rest| rest.strip_suffix(" instructions"))
        .and_then(|number| number.parse().ok());
    number.expect("a first line with the expected count")
}

/// The cases that this kind of machine showed; booted once.
fn cases(kind: Kind) -> Result<&'static Cases, Failed> {
    static SHOWN: [OnceLock<Result<Cases, String>>; 3] = [const { OnceLock::new() }; 3];
    let shown = SHOWN[kind as usize].get_or_init(|| boot(kind));
    shown.as_ref().map_err(|error| Failed::from(error.as_str()))
}

fn boot(kind: Kind) -> Result<Cases, String> {
    let folder = built()?;
    let mut command = script("run-vm");
    match kind {
        Kind::Full => {}
        Kind::NoPmu => drop(command.arg("-N")),
        Kind::NoInstructions => drop(command.arg("-n")),
    }
    let which = if matches!(kind, Kind::Full) {
        "full"
    } else {
        "bare"
    };
    command.arg("-f").arg(format!("{}:/pmu", folder.display()));
    command.args([
        "-e",
        &format!("COUNT={COUNT}"),
        "-e",
        &format!("COUNT_REGIONS={COUNT_REGIONS}"),
    ]);
    command.args(["--", "sh", "/pmu/cases.sh", which]);
    Ok(parse(&output(&mut command)?))
}

fn parse(text: &str) -> Cases {
    let mut cases = Cases::new();
    for part in text.split("@@case ").skip(1) {
        let (name, rest) = part.split_once('\n').unwrap_or((part, ""));
        let (output, code) = rest.split_once("@@end ").unwrap_or((rest, "-1"));
        let case = Case {
            output: output.to_owned(),
            code: code.trim().parse().unwrap_or(-1),
        };
        cases.entry(name.to_owned()).or_default().push(case);
    }
    cases
}

fn case(kind: Kind, name: &str) -> Result<Case, Failed> {
    let first = cases(kind)?.get(name).and_then(|cases| cases.first());
    Ok(first
        .ok_or(format!("the machine did not show `{name}`"))?
        .clone())
}

/// The report of a case that must have counted.
fn report(case: &Case) -> Result<Value, Failed> {
    let text = case.output.find('{').zip(case.output.rfind('}'));
    let json = text.and_then(|(first, last)| case.output.get(first..=last));
    match json.map(serde_json::from_str) {
        Some(Ok(report)) if case.code != COUNTING_FAILED => Ok(report),
        _ => Err(format!("no report: {case:?}").into()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), Failed> {
    if found == expected {
        return Ok(());
    }
    Err(format!("found {found:?}, expected {expected:?}").into())
}

/// A case that must have been refused, in these words.
fn refused(case: &Case, words: &[&str]) -> Result<(), Failed> {
    let said = words.iter().all(|word| case.output.contains(word));
    if case.code == COUNTING_FAILED && said {
        return Ok(());
    }
    Err(format!("not refused with {words:?}: {case:?}").into())
}

fn program(name: &str) -> Result<(), Failed> {
    let report = report(&case(Kind::Full, name)?)?;
    same(
        report["metrics"]["instructions"].as_u64(),
        Some(expected(name)),
    )
}

/// The programs of `workloads/asm`, which every backend must match.
fn suite() -> Result<(), Failed> {
    let folder = Path::new(ROOT).join("workloads/asm/aarch64");
    let mut programs = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let stated = |key: &str| -> Option<u64> {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("// expect {key}=")));
            line.and_then(|number| number.trim().parse().ok())
        };
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let case = case(Kind::Full, &format!("suite-{name}"))?;
        let counted = report(&case)?["metrics"]["instructions"].as_u64();
        same((&name, counted), (&name, stated("instructions")))?;
        let code = stated("exit").unwrap_or(0);
        same((&name, u64::try_from(case.code).ok()), (&name, Some(code)))?;
        programs += 1;
    }
    same(programs >= 7, true)
}

/// The end marker costs some instructions, the same each time.
fn marked() -> Result<(), Failed> {
    let report = report(&case(Kind::Full, "repeat-marked")?)?;
    let region = &report["regions"]["body"];
    same(region["entries"].as_u64(), Some(3))?;
    let over = region["instructions"]
        .as_u64()
        .and_then(|counted| counted.checked_sub(600_000));
    match over {
        Some(3..=300) => Ok(()),
        _ => Err(format!("not three times 200000 and a little: {region}").into()),
    }
}

fn programs_apart() -> Result<(), Failed> {
    let rows = |name: &str| -> Result<Vec<Option<u64>>, Failed> {
        let report = report(&case(Kind::Full, name)?)?;
        let rows = report["processes"].as_array().cloned().unwrap_or_default();
        Ok(rows
            .iter()
            .map(|row| row["instructions"].as_u64())
            .collect())
    };
    same(rows("fork")?, vec![Some(200_022), Some(200_009)])?;
    same(rows("exec")?, vec![Some(17), Some(6), Some(2_000_005)])?;
    same(rows("threads")?, vec![Some(400_022)])
}

fn regions() -> Result<(), Failed> {
    program("regions")?;
    let report = report(&case(Kind::Full, "regions")?)?;
    let region = |name: &str| {
        let region = &report["regions"][name];
        (region["entries"].as_u64(), region["instructions"].as_u64())
    };
    same(region("inner"), (Some(2), Some(400_028)))?;
    same(region("outer"), (Some(1), Some(200_034)))?;
    same(&report["caveats"], &serde_json::json!([]))
}

fn no_region() -> Result<(), Failed> {
    let case = case(Kind::Full, "no-region")?;
    let said = case.output.contains("entered no region");
    same((said, case.code != 0), (true, true))
}

fn repeats() -> Result<(), Failed> {
    for name in [
        "repeat-threads",
        "repeat-regions",
        "repeat-marked",
        "repeat-shell",
    ] {
        let cases = cases(Kind::Full)?.get(name).cloned().unwrap_or_default();
        let reports: Vec<Value> = cases.iter().map(report).collect::<Result<_, _>>()?;
        same(reports.len(), 10)?;
        let counts = reports
            .iter()
            .map(|r| r["metrics"]["instructions"].as_u64());
        let distinct: std::collections::BTreeSet<_> = counts.collect();
        same((name, distinct.len()), (name, 1))?;
        same(distinct.contains(&None), false)?;
    }
    Ok(())
}

/// The emulated PMU has six counters for instructions.
fn groups() -> Result<(), Failed> {
    let case = case(Kind::Full, "groups")?;
    let fork = expected("fork");
    let group = format!("group {fork} {fork} {fork} {fork} {fork}");
    let lines: Vec<&str> = case.output.lines().collect();
    same(
        lines,
        vec![
            group.as_str(),
            "too large a group: Invalid argument (os error 22)",
            "crowd 6 counted 14 refused",
        ],
    )
}

fn hog() -> Result<(), Failed> {
    refused(
        &case(Kind::Full, "hog")?,
        &["no free hardware counter", "end other profilers"],
    )
}

fn paranoid() -> Result<(), Failed> {
    let words = [
        "perf_event_paranoid is 3",
        "sysctl kernel.perf_event_paranoid=2",
    ];
    refused(&case(Kind::Full, "paranoid")?, &words)?;
    let report = report(&case(Kind::Full, "user")?)?;
    same(
        report["metrics"]["instructions"].as_u64(),
        Some(expected("loop")),
    )
}

fn absent() -> Result<(), Failed> {
    refused(&case(Kind::NoPmu, "loop")?, &["shows no hardware counter"])?;
    let words = ["the PMU `armv8_pmuv3` has no instruction counter"];
    refused(&case(Kind::NoInstructions, "loop")?, &words)
}
