//! What people and programs read: every rendering, as a snapshot, and every JSON document against its schema.

use std::collections::BTreeMap;

use counterfoil::model::explanation::{
    Cause, Disturbance, Explanation, Finding, OtherAnswer, Spot, Trial,
};
use counterfoil::model::{
    Attempt, BackendInfo, BackendKind, Caveat, Change, Comparison, Difference, Fingerprint,
    FunctionCount, Limit, Measurement, Metric, MetricChange, OpcodeMix, Outcome, Pin, Pinning,
    ProcessCount, RegionCount, Repeats, Split, Verdict,
};
use counterfoil::report::{Checkup, Side, State, Top, View, WorkloadRow, json, markdown, terminal};

const PLAIN: View = View {
    colour: false,
    width: None,
};
const TERMINAL: View = View {
    colour: false,
    width: Some(80),
};
const COLOUR: View = View {
    colour: true,
    width: Some(80),
};

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn facts(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    rows.iter()
        .map(|(fact, value)| (fact.to_string(), value.to_string()))
        .collect()
}

fn pinned() -> Pinning {
    use Pin::*;
    let mut pinning = Pinning::default();
    for pin in [
        Aslr,
        Environment,
        StackLayout,
        AtRandom,
        Vdso,
        HashSeeds,
        Locale,
        TimeZone,
        CpuDispatch,
        CacheThresholds,
        OneCpu,
        Stdin,
    ] {
        pinning.pinned(pin);
    }
    pinning
}

fn split() -> Split {
    Split {
        own: 1_000_000,
        children: 15_000_977,
        processes: 3,
    }
}

/// What `counterfoil count -- true` gives.
fn simple() -> Measurement {
    Measurement {
        command: words("true"),
        backend: BackendInfo {
            name: BackendKind::Cachegrind,
            version: "3.19.0".to_owned(),
            why: "no PMU: this machine shows no hardware counter; cachegrind is the fallback"
                .to_owned(),
        },
        outcome: Outcome::Exited(0),
        metrics: BTreeMap::from([(Metric::Instructions, 142_311)]),
        opcodes: None,
        functions: None,
        regions: None,
        processes: vec![ProcessCount {
            index: 0,
            parent: None,
            program: "/usr/bin/true".to_owned(),
            replaces: false,
            instructions: Some(142_311),
        }],
        split: None,
        shims: BTreeMap::new(),
        repeats: Repeats {
            instructions: vec![142_311],
            agree: true,
        },
        pinned: pinned(),
        fingerprint: Fingerprint {
            subject: facts(&[("true", "5b9a1c0d22e8f9a3746c0f7be1ac2d4e6f708192")]),
            environment: facts(&[("arch", "x86_64"), ("cpu", "AMD EPYC 7763")]),
            variables: facts(&[("PATH", "sha256:f00d")]),
        },
        caveats: Vec::new(),
        attempts: Vec::new(),
    }
}

fn function(module: &str, function: &str, instructions: u64) -> FunctionCount {
    FunctionCount {
        module: module.to_owned(),
        function: function.to_owned(),
        instructions,
    }
}

fn opcodes() -> OpcodeMix {
    let names = [
        "mov", "lea", "cmp", "add", "sub", "test", "je", "jne", "push", "pop", "call", "ret",
        "xor", "and", "or", "shl", "shr", "movzx", "jmp", "nop", "imul", "div", "cmove",
    ];
    let count = |position: usize| 9_000_000 >> position;
    let counts = names
        .iter()
        .enumerate()
        .map(|(position, name)| (name.to_string(), count(position)));
    OpcodeMix(counts.collect())
}

/// A compiler with its children, everything asked for, and everything that can go wrong.
fn full() -> Measurement {
    let mix = opcodes();
    let total = mix.total().unwrap();
    let process = |index, parent, program: &str, instructions| ProcessCount {
        index,
        parent,
        program: program.to_owned(),
        replaces: false,
        instructions,
    };
    let region = |entries, instructions, opcodes| RegionCount {
        entries,
        instructions,
        opcodes,
    };
    let mut pinned = pinned();
    let old = "glibc 2.28 does not know the tunables";
    pinned.free(Pin::CpuDispatch, old);
    pinned.free(Pin::CacheThresholds, old);
    pinned.free(Pin::OneCpu, "sched_setaffinity is forbidden here");
    Measurement {
        command: [words("gcc -O2 -c"), vec!["a file.c".to_owned()]].concat(),
        backend: BackendInfo {
            name: BackendKind::Callgrind,
            version: "3.19.0".to_owned(),
            why: "asked for".to_owned(),
        },
        outcome: Outcome::Killed(6),
        metrics: BTreeMap::from([
            (Metric::Instructions, total),
            (Metric::Opcode("div".to_owned()), 4),
            (Metric::Region("parse".to_owned()), 12_345_678),
        ]),
        opcodes: Some(mix),
        functions: Some(
            [
                function("cc1", "ggc_internal_alloc(unsigned long, void (*)(void*), unsigned long, unsigned long)", 6_000_000),
                function("cc1", "\x1b[2Jevil", 5_000_000),
                function("libc.so.6", "__memset_avx2_unaligned_erms", 4_000_000),
                function("as", "[as+0x1234]", 2_000_000),
                function("ld-linux-x86-64.so.2", "_dl_relocate_object", 999_991),
                function("ld-linux-x86-64.so.2", "do_lookup_x", 1),
            ]
            .into_iter()
            .collect(),
        ),
        regions: Some(BTreeMap::from([
            ("parse".to_owned(), region(1, 12_345_678, Some(opcodes()))),
            ("parse/日本語".to_owned(), region(1200, 345_678, None)),
        ])),
        processes: vec![
            process(0, None, "gcc", Some(1_000_000)),
            process(1, Some(0), "/usr/libexec/gcc/x86_64-linux-gnu/12/cc1", Some(14_999_000)),
            process(2, Some(1), "sh", Some(977)),
            process(3, Some(0), "as", None),
        ],
        split: Some(split()),
        shims: BTreeMap::from([("uv".to_owned(), 2)]),
        repeats: Repeats {
            instructions: vec![total, total + 3, total, total - 9],
            agree: false,
        },
        pinned,
        fingerprint: Fingerprint {
            subject: facts(&[("gcc", "5b9a1c0d22e8f9a3746c0f7be1ac2d4e6f708192")]),
            environment: facts(&[("arch", "x86_64"), ("libc.so.6", "0f3c")]),
            variables: BTreeMap::new(),
        },
        caveats: vec![
            Caveat::RepIterations,
            Caveat::LeftRunning {
                programs: vec!["ccache-daemon".to_owned(), "sleep".to_owned()],
            },
            Caveat::LostBeforeExec { execs: 2 },
            Caveat::Other {
                text: "the kernel is older than 5.3.".to_owned(),
            },
        ],
        attempts: vec![Attempt {
            program: "/usr/bin/git".to_owned(),
            pid: 4711,
            address: "93.184.216.34:443".to_owned(),
            times: 3,
            callers: vec![Spot {
                module: "libcurl.so.4".to_owned(),
                function: "Curl_conn_connect".to_owned(),
                line: None,
            }],
        }],
    }
}

fn change(name: &str, before: impl Into<Option<u64>>, after: impl Into<Option<u64>>) -> Change {
    Change {
        name: name.to_owned(),
        before: before.into(),
        after: after.into(),
    }
}

fn metric(before: Option<u64>, after: Option<u64>, limit: Limit, holds: bool) -> MetricChange {
    MetricChange {
        metric: Metric::Instructions,
        before,
        after,
        limit: Some(limit),
        holds,
    }
}

fn compared(workload: &str, verdict: Verdict, metrics: Vec<MetricChange>) -> Comparison {
    Comparison {
        workload: workload.to_owned(),
        verdict,
        metrics,
        functions: Vec::new(),
        opcodes: Vec::new(),
        environment: Vec::new(),
        subject: Vec::new(),
        variables: Vec::new(),
        detail: None,
        split: None,
        shims: BTreeMap::new(),
    }
}

fn differs(fact: &str, before: Option<&str>, after: Option<&str>) -> Difference {
    Difference {
        fact: fact.to_owned(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
    }
}

fn regressed() -> Comparison {
    let half = Limit::Percent(0.5);
    let mut regressed = compared(
        "sort[n=100000]",
        Verdict::Regressed,
        vec![
            metric(Some(81_000_000), Some(87_561_004), half, false),
            MetricChange {
                metric: Metric::Opcode("div".to_owned()),
                before: Some(0),
                after: Some(100_000),
                limit: Some(Limit::Ceiling(1000)),
                holds: false,
            },
            MetricChange {
                metric: Metric::Region("load".to_owned()),
                before: Some(5),
                after: Some(5),
                limit: None,
                holds: true,
            },
        ],
    );
    regressed.functions = vec![
        change(
            "sort-lines: core::slice::sort::merge<&str>",
            60_000_000,
            66_000_000,
        ),
        change("sort-lines: sort_lines::key", None, 900_000),
        change("libc.so.6: __memcmp_sse2", 700_000, 361_004),
        change("libc.so.6: malloc", 9, 8),
    ];
    regressed.opcodes = vec![
        change("mov", 20_000_000, 25_000_000),
        change("div", None, 100_000),
        change("bswap", 12, None),
    ];
    regressed.subject = vec![differs(
        "sort-lines",
        Some("5b9a1c0d22e8f9a3746c0f7be1ac2d4e6f708192"),
        Some("aa9a1c0d22e8f9a3746c0f7be1ac2d4e6f708192"),
    )];
    regressed.split = Some(split());
    regressed.shims = BTreeMap::from([("git".to_owned(), 1), ("uv".to_owned(), 2)]);
    regressed
}

/// One workload of every verdict.
fn suite() -> Vec<Comparison> {
    let half = Limit::Percent(0.5);
    let both = |before, after, holds| vec![metric(Some(before), Some(after), half, holds)];
    let mut elsewhere = compared(
        "hash",
        Verdict::Regressed,
        both(1_000_000, 1_005_010, false),
    );
    elsewhere.functions = vec![change("libcrypto.so.3: sha256_block", 10, 5_020)];
    let mut other = compared("zip", Verdict::NotComparable, both(5000, 5100, true));
    other.environment = vec![
        differs("cpu", Some("AMD EPYC 7763"), Some("Intel Xeon 8370C")),
        differs("libz.so.1", None, Some("91ab")),
    ];
    let mut output = compared("json", Verdict::WrongOutput, both(700, 700, true));
    output.detail = Some("stdout is not the snapshot:\n-[1, 2]\n+[1, 3]\t\x1b[31m\n".to_owned());
    let mut failed = compared("net", Verdict::Failed, Vec::new());
    failed.detail = Some("exit code 2, expected 0".to_owned());
    let mut unstable = compared("threads", Verdict::NotReproducible, both(900, 905, true));
    unstable.detail = Some("2 runs disagree: 905, 907".to_owned());
    vec![
        compared(
            "asm/loop",
            Verdict::Identical,
            both(1_000_004, 1_000_004, true),
        ),
        compared(
            "sort[n=1000]",
            Verdict::Identical,
            both(810_000, 810_000, true),
        ),
        regressed(),
        elsewhere,
        compared(
            "parse",
            Verdict::Improved,
            both(1_000_000_000, 999_999_999, true),
        ),
        compared(
            "tokens",
            Verdict::Within,
            vec![metric(Some(4000), Some(4019), Limit::Absolute(1000), true)],
        ),
        compared(
            "fresh",
            Verdict::New,
            vec![metric(None, Some(77), half, true)],
        ),
        compared(
            "gone",
            Verdict::Missing,
            vec![metric(Some(5), None, half, true)],
        ),
        other,
        unstable,
        output,
        failed,
    ]
}

fn sides() -> Vec<Side> {
    let side = |command: &str, instructions: u64| {
        let mut measurement = simple();
        measurement.command = words(command);
        measurement
            .metrics
            .insert(Metric::Instructions, instructions);
        Side {
            measurement,
            opcodes: Vec::new(),
            functions: Vec::new(),
        }
    };
    let mut slower = side("sort -R lines.txt", 12_345_678);
    slower.opcodes = vec![change("mov", 400_000, 4_000_000), change("nop", 5, None)];
    slower.functions = vec![change("sort: md5_process_block", None, 9_000_000)];
    slower.measurement.outcome = Outcome::Exited(2);
    slower.measurement.repeats = Repeats {
        instructions: vec![12_345_678, 12_345_679],
        agree: false,
    };
    slower.measurement.caveats = vec![Caveat::RepIterations];
    vec![
        side("sort lines.txt", 1_234_567),
        slower,
        side("sort lines.txt --stable", 1_234_568),
        side("true", 142),
    ]
}

fn rows() -> Vec<WorkloadRow> {
    let row = |workload: &str, command: &str, tags: &[&str], baseline| WorkloadRow {
        workload: workload.to_owned(),
        command: words(command),
        tags: tags.iter().map(|tag| tag.to_string()).collect(),
        baseline,
    };
    vec![
        row(
            "sort[n=1000]",
            "target/release/sort-lines 1000",
            &["component", "fast"],
            Some(810_000),
        ),
        row("größe", "python3 -c pass", &[], None),
    ]
}

fn checkups() -> Vec<Checkup> {
    let checkup = |name: &str, state, reason: &str, remedy: Option<&str>, backend| Checkup {
        name: name.to_owned(),
        state,
        reason: reason.to_owned(),
        remedy: remedy.map(str::to_owned),
        backend,
    };
    vec![
        checkup(
            "perf",
            State::Out,
            "this machine shows no hardware counter (perf_event_open: ENOENT)",
            Some("nothing can be done inside a virtual machine without a PMU; use `callgrind`"),
            Some(BackendKind::Perf),
        ),
        checkup(
            "step",
            State::Ok,
            "counts exactly",
            None,
            Some(BackendKind::Step),
        ),
        checkup(
            "callgrind",
            State::Warn,
            "Valgrind 3.19.0 counts each iteration of a `rep` string instruction",
            None,
            Some(BackendKind::Callgrind),
        ),
        checkup(
            "freeze_on_smi",
            State::Warn,
            "off, so that firmware interrupts are counted",
            Some("echo 1 > /sys/devices/cpu/freeze_on_smi"),
            None,
        ),
    ]
}

#[test]
fn count_of_a_simple_command_is_four_lines() {
    let text = terminal::count(&simple(), Top::First(20), &PLAIN);
    assert_eq!(text.lines().count(), 4);
    insta::assert_snapshot!(text);
}

#[test]
fn count_with_every_detail() {
    insta::assert_snapshot!(terminal::count(&full(), Top::First(4), &TERMINAL));
}

#[test]
fn count_shows_all_rows_when_asked() {
    let text = terminal::count(&full(), Top::All, &PLAIN);
    assert!(!text.contains("other"));
    insta::assert_snapshot!(text);
}

#[test]
fn count_without_pinning_gives_the_reason_once() {
    let mut measurement = simple();
    let pins: Vec<_> = measurement.pinned.held().collect();
    for pin in pins {
        measurement.pinned.free(pin, "`--no-pin` was given");
    }
    measurement.repeats.instructions = vec![142_311; 10];
    insta::assert_snapshot!(terminal::count(&measurement, Top::First(20), &TERMINAL));
}

#[test]
fn count_of_a_large_tree_is_by_program() {
    let mut measurement = simple();
    measurement.processes = (0..1000)
        .map(|index| ProcessCount {
            index,
            parent: index.checked_sub(1),
            program: ["sh", "grep", "sed"][index % 3].to_owned(),
            replaces: false,
            instructions: Some(100 + index as u64 % 3),
        })
        .collect();
    insta::assert_snapshot!(terminal::count(&measurement, Top::First(20), &PLAIN));
}

#[test]
fn compare_of_four_commands() {
    insta::assert_snapshot!(terminal::compare(&sides(), Top::First(20), &PLAIN));
}

#[test]
fn check_with_every_verdict() {
    insta::assert_snapshot!(terminal::check(&suite(), Top::First(3), &PLAIN));
}

#[test]
fn check_in_colour() {
    let text = terminal::check(&suite()[1..4], Top::First(1), &COLOUR);
    insta::assert_snapshot!(text.replace('\x1b', "␛"));
}

#[test]
fn check_of_an_empty_selection() {
    insta::assert_snapshot!(terminal::check(&[], Top::First(3), &PLAIN));
}

#[test]
fn record_says_what_changes() {
    insta::assert_snapshot!(terminal::record(&suite(), false, &PLAIN));
}

#[test]
fn record_says_what_was_written() {
    let text = terminal::record(&suite()[..3], true, &PLAIN);
    assert!(
        text.ends_with("3 workloads: 1 baseline written\n"),
        "{text}"
    );
}

#[test]
fn list_of_a_suite() {
    insta::assert_snapshot!(terminal::list(&rows(), &PLAIN));
}

#[test]
fn doctor_on_a_machine_without_counters() {
    insta::assert_snapshot!(terminal::doctor(&checkups(), &TERMINAL));
}

#[test]
fn doctor_where_nothing_works() {
    let text = terminal::doctor(&checkups()[..1], &PLAIN);
    assert!(text.ends_with("\nno backend works here\n"), "{text}");
}

#[test]
fn markdown_with_every_verdict() {
    insta::assert_snapshot!(markdown::check(&suite(), Top::First(3)));
}

#[test]
fn count_as_json() {
    insta::assert_snapshot!(json::count(&simple()).unwrap());
}

#[test]
fn check_as_json() {
    insta::assert_snapshot!(json::check(&suite()[2..9]).unwrap());
}

#[test]
fn no_plain_report_has_colour_codes_trailing_blanks_or_an_unfinished_line() {
    for text in every_terminal_report(&PLAIN) {
        assert!(!text.contains('\x1b'), "{text}");
        assert!(text.ends_with('\n'), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }
}

#[test]
fn colours_change_nothing_but_the_colour() {
    for (coloured, plain) in every_terminal_report(&COLOUR)
        .into_iter()
        .zip(every_terminal_report(&TERMINAL))
    {
        assert!(coloured.contains('\x1b'));
        assert_eq!(without_codes(&coloured), plain);
    }
}

#[test]
fn no_report_breaks_on_a_terminal_of_any_width() {
    for width in 0..200 {
        let view = View {
            colour: false,
            width: Some(width),
        };
        for text in every_terminal_report(&view) {
            assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
        }
    }
}

#[test]
fn a_markdown_report_stays_below_what_a_comment_may_hold() {
    let many: Vec<_> = std::iter::repeat_n(suite(), 300).flatten().collect();
    let text = markdown::check(&many, Top::First(3));
    assert!(text.len() < 65_536, "{} bytes", text.len());
    assert!(text.contains("more workloads"), "{text}");
    assert!(text.contains("explanations left out"), "{text}");
    let mut long = regressed();
    long.detail = Some("ü".repeat(100_000));
    let text = markdown::check(&[long], Top::First(3));
    assert!(text.contains("[shortened]"), "{text}");
    assert!(text.len() < 20_000, "{} bytes", text.len());
}

/// Texts of any characters, many of them such as a terminal or Markdown obeys.
fn hostile() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let obeyed = proptest::sample::select(vec![
        '\x1b', '\u{9b}', '\u{202e}', '\r', '\n', '\t', '|', '`',
    ]);
    let characters = proptest::collection::vec(prop_oneof![obeyed, any::<char>()], 0..20);
    characters.prop_map(|characters| characters.into_iter().collect())
}

proptest::proptest! {
    #[test]
    fn no_name_or_output_reaches_the_terminal_as_a_control_character(
        name in hostile(), detail in hostile(), width in proptest::option::of(0usize..120)
    ) {
        let mut comparison = regressed();
        comparison.workload = name.clone();
        comparison.functions[0].name = name.clone();
        comparison.subject[0].before = Some(name.clone());
        comparison.detail = Some(detail);
        let mut measurement = full();
        measurement.command = vec![name.clone()];
        measurement.backend.why = name.clone();
        measurement.processes[1].program = name;
        let view = View { colour: false, width };
        let texts = [
            terminal::check(&[comparison.clone()], Top::All, &view),
            terminal::count(&measurement, Top::All, &view),
            markdown::check(&[comparison], Top::All),
        ];
        for text in texts {
            let bad = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            proptest::prop_assert_eq!(bad, None);
        }
    }
}

fn every_terminal_report(view: &View) -> [String; 7] {
    let top = Top::First(3);
    [
        terminal::count(&simple(), top, view),
        terminal::count(&full(), top, view),
        terminal::compare(&sides(), top, view),
        terminal::check(&suite(), top, view),
        terminal::record(&suite(), false, view),
        terminal::list(&rows(), view),
        terminal::doctor(&checkups(), view),
    ]
}

fn without_codes(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').expect("a colour code ends in m").1);
    }
    out
}

fn explanation() -> Explanation {
    let spot = |function: &str, line: Option<&str>| Spot {
        module: "draw".to_owned(),
        function: function.to_owned(),
        line: line.map(str::to_owned),
    };
    let agrees = Trial {
        disturbance: None,
        instructions: 173_864,
        against: 173_864,
        outcome: Outcome::Exited(0),
        agrees: true,
        finding: None,
        note: None,
    };
    let finding = Finding {
        program: "/home/user/draw".to_owned(),
        at: spot("draw", Some("draw.c:9")),
        branch: true,
        leads_to: Some(spot("draw", Some("draw.c:10"))),
        called_by: Some(spot("main", None)),
        earlier: Some(spot("strlen", None)),
        executions: (1, 171),
        after_instructions: 168_920,
        cause: Cause::Clock,
        answers: vec![OtherAnswer {
            call: "read".to_owned(),
            file: Some("/etc/hosts".to_owned()),
            first: "a2".to_owned(),
            second: "ab".to_owned(),
            by: Some(spot("draw", Some("draw.c:8"))),
        }],
        remedy: Cause::Clock.remedy().to_owned(),
    };
    Explanation {
        subject: "draw[n=1]".to_owned(),
        instructions: 173_864,
        trials: vec![
            agrees.clone(),
            Trial {
                disturbance: Some(Disturbance::Time),
                instructions: 173_918,
                agrees: false,
                finding: Some(finding),
                note: Some("as an example".to_owned()),
                ..agrees
            },
        ],
    }
}

#[test]
fn explain_says_where_and_why() {
    insta::assert_snapshot!(terminal::explain(&explanation(), &TERMINAL));
}

mod schema {
    //! Every document against its file in `docs/schema`.

    use serde_json::Value;

    use super::*;

    fn read(name: &str) -> Value {
        let path = format!("{}/docs/schema/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn problems(name: &str, document: &Value) -> Vec<String> {
        let schema = read(name);
        jsonschema::draft202012::meta::validate(&schema).expect("the schema is a schema");
        let validator = jsonschema::validator_for(&schema).expect("the schema compiles");
        validator
            .iter_errors(document)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect()
    }

    /// Every document that can be rendered, with the name of its schema.
    fn documents() -> Vec<(&'static str, Value)> {
        let timed_out = Measurement {
            outcome: Outcome::TimedOut,
            ..simple()
        };
        let documents = [
            ("count", json::count(&simple())),
            ("count", json::count(&full())),
            ("count", json::count(&timed_out)),
            ("compare", json::compare(&sides())),
            ("check", json::check(&suite())),
            ("check", json::check(&[])),
            ("check", json::record(&suite())),
            ("list", json::list(&rows())),
            ("doctor", json::doctor(&checkups())),
            ("explain", json::explain(&explanation())),
        ];
        documents
            .into_iter()
            .map(|(name, text)| (name, serde_json::from_str(&text.unwrap()).unwrap()))
            .collect()
    }

    #[test]
    fn every_document_is_as_its_schema_says() {
        for (name, document) in documents() {
            assert_eq!(problems(name, &document), [""; 0], "{name}: {document:#}");
        }
    }

    #[test]
    fn a_document_of_one_kind_is_refused_by_every_other_schema() {
        for (name, document) in documents() {
            for other in ["count", "compare", "check", "list", "doctor", "explain"] {
                let accepted = problems(other, &document).is_empty();
                assert_eq!(accepted, name == other, "{name} against {other}");
            }
        }
    }

    #[test]
    fn a_key_that_the_schema_does_not_know_is_refused_at_every_depth() {
        for (name, document) in documents() {
            for place in objects_with_fixed_keys(&document) {
                let mut spoiled = document.clone();
                let object = spoiled.pointer_mut(&place).and_then(Value::as_object_mut);
                object.unwrap().insert("sürplus".to_owned(), Value::Null);
                assert_ne!(problems(name, &spoiled), [""; 0], "{name} at `{place}`");
            }
        }
    }

    #[test]
    fn a_document_without_one_of_its_top_level_keys_is_refused() {
        let optional = [
            "opcodes",
            "functions",
            "regions",
            "split",
            "shims",
            "attempts",
        ];
        for (name, document) in documents() {
            for key in document.as_object().unwrap().keys() {
                let mut cut = document.clone();
                cut.as_object_mut().unwrap().remove(key);
                let accepted = problems(name, &cut).is_empty();
                assert_eq!(accepted, optional.contains(&key.as_str()), "{name}: {key}");
            }
        }
    }

    #[test]
    fn null_is_never_written() {
        for (name, document) in documents() {
            assert!(!document.to_string().contains("null"), "{name}");
        }
    }

    #[test]
    fn the_count_document_reads_back_as_the_measurement() {
        for measurement in [simple(), full()] {
            let text = json::count(&measurement).unwrap();
            assert_eq!(
                serde_json::from_str::<Measurement>(&text).unwrap(),
                measurement
            );
        }
    }

    #[test]
    fn definitions_of_the_same_name_are_the_same_in_every_schema() {
        let mut seen = std::collections::BTreeMap::new();
        for name in ["count", "compare", "check", "list", "doctor", "explain"] {
            let schema = read(name);
            for (key, definition) in schema["$defs"].as_object().into_iter().flatten() {
                let first = seen
                    .entry(key.clone())
                    .or_insert_with(|| definition.clone());
                assert_eq!(first, definition, "{key} in {name}");
            }
        }
    }

    /// JSON pointers of all objects whose keys the schema lists. The others are maps from names of the
    /// user's or the program's to values.
    fn objects_with_fixed_keys(document: &Value) -> Vec<String> {
        let maps = [
            "metrics",
            "opcodes",
            "regions",
            "pinned",
            "subject",
            "environment",
            "summary",
        ];
        let mut places = Vec::new();
        let mut open = vec![(String::new(), document)];
        while let Some((place, value)) = open.pop() {
            let name = place.rsplit('/').next().unwrap_or_default();
            match value {
                Value::Object(object) => {
                    if !maps.contains(&name) || name == "pinned" || name == "summary" {
                        places.push(place.clone());
                    }
                    // A name with a slash in it would need escaping, and its like is tested anyway.
                    let keys = object.iter().filter(|(key, _)| !key.contains('/'));
                    open.extend(keys.map(|(key, value)| (format!("{place}/{key}"), value)));
                }
                Value::Array(items) => {
                    let items = items.iter().enumerate();
                    open.extend(items.map(|(index, item)| (format!("{place}/{index}"), item)));
                }
                _ => {}
            }
        }
        places
    }
}
