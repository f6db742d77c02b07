//! What a manifest means, and what is said of a wrong one.

use proptest::prelude::*;

use super::*;
use crate::model::{Folder, Limit, Metric, User};
use crate::suite::Ready;

const FULL: &str = r#"
[suite]
backend = "step"
repeat = 3
jobs = 4
timeout = "2m"
[gate]
instructions = "1%"
opcodes.div = 0
[[workload]]
name = "sort"
command = ["target/release/sort-lines", "{n}", "{mode}"]
params = { n = [1_000, 0x10], mode = ["fast", true, 1e-9] }
build = "cargo build --release -p workloads"
tags = ["component"]
stdin = "data/{n}.txt"
env = { MODE = "{mode}", RAW = "{{mode}}" }
cwd = "run/{n}"
timeout = "500ms"
exit = 3
snapshot = { stdout = true, files = ["out-{n}.json"], rtol = 1e-9 }
gate = { instructions = "0%", "opcodes.mul" = "+5", regions.parse.json = "<=7" }
regions = true
fingerprint = ["python3 --version", ["uname", "-r"]]
subject = ["src/{mode}.py"]
repeat = 5
[[workload]]
name = "plain"
command = "sh -c 'exit 0'"
"#;

fn parse(text: &str) -> Result<Manifest, SuiteError> {
    Manifest::parse(Path::new("/suite/counterfoil.toml"), text)
}

fn words(text: &str) -> String {
    let parsed = Manifest::parse(Path::new("counterfoil.toml"), text);
    parsed.unwrap_err().to_string()
}

/// The problems of one workload that is fine but for `line`, which is line 4 of the file.
fn wrong(line: &str) -> String {
    words(&format!(
        "[[workload]]\nname = \"a\"\ncommand = [\"x\"]\n{line}\n"
    ))
}

#[test]
fn reads_every_key() {
    let manifest = parse(FULL).unwrap();
    assert_eq!(manifest.settings.backend, BackendKind::Step);
    assert_eq!(manifest.settings.jobs, NonZeroUsize::new(4));
    let cases = manifest.cases();
    let ids: Vec<_> = cases.iter().map(|case| case.id.as_str()).collect();
    let expected = [
        "sort[n=1000,mode=fast]",
        "sort[n=1000,mode=true]",
        "sort[n=1000,mode=1e-9]",
        "sort[n=16,mode=fast]",
        "sort[n=16,mode=true]",
        "sort[n=16,mode=1e-9]",
        "plain",
    ];
    assert_eq!(ids, expected);
    let case = &cases[0];
    assert_eq!(case.command, ["target/release/sort-lines", "1000", "fast"]);
    assert_eq!(case.program, Path::new("/suite/target/release/sort-lines"));
    assert_eq!(case.build.as_ref().unwrap().argv[..2], ["sh", "-c"]);
    assert_eq!(
        case.stdin.as_deref(),
        Some(Path::new("/suite/data/1000.txt"))
    );
    assert_eq!(case.env["MODE"], "fast");
    assert_eq!(case.env["RAW"], "{mode}");
    assert_eq!(case.cwd, Path::new("/suite/run/1000"));
    assert_eq!(case.timeout, Duration::from_millis(500));
    assert_eq!((case.exit, case.repeat, case.regions), (3, 5, true));
    let files = [(
        "out-1000.json".to_owned(),
        PathBuf::from("/suite/out-1000.json"),
    )];
    assert_eq!(case.snapshot.files, files);
    assert_eq!(case.snapshot.tolerance.unwrap().rtol, 1e-9);
    let limit = |name: &str| case.gate[&name.parse::<Metric>().unwrap()];
    assert_eq!(limit("instructions"), Limit::Percent(0.0));
    assert_eq!(limit("opcodes.div"), Limit::Ceiling(0));
    assert_eq!(limit("opcodes.mul"), Limit::Absolute(5));
    assert_eq!(limit("regions.parse.json"), Limit::Ceiling(7));
    assert_eq!(case.fingerprint[1].argv, ["uname", "-r"]);
    assert_eq!(case.subject, [Path::new("/suite/src/fast.py")]);
}

#[test]
fn what_is_not_said_has_a_default() {
    let manifest = parse("[[workload]]\nname = \"a\"\ncommand = \"sh -c 'exit 0'\"").unwrap();
    let expected = match cfg!(target_arch = "x86_64") {
        true => BackendKind::Dbi,
        false => BackendKind::Callgrind,
    };
    assert_eq!(manifest.settings.backend, expected);
    let case = &manifest.cases()[0];
    assert_eq!(case.command, ["sh", "-c", "exit 0"]);
    assert_eq!(case.program, Path::new("sh"));
    assert_eq!((case.exit, case.repeat), (0, 2));
    assert_eq!(case.timeout, Duration::from_secs(300));
    assert_eq!(case.cwd, Path::new("/suite"));
    assert_eq!(case.gate, default_gate());
    assert!(!case.snapshot.is_wanted());
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    let text = "[[workload]]\nname = \"a\"\n  comand = [\"x\"]\ncommand = \"x\"";
    let expected = "counterfoil.toml:3:3: unknown key `comand`; did you mean `command`?";
    assert_eq!(words(text), expected);
    assert!(wrong("cheese = \"none\"").starts_with(
        "counterfoil.toml:4:1: unknown key `cheese`; known here are `name`, `command`"
    ));
    assert!(words("[sute]\n").contains("1:2: unknown key `sute`; did you mean `suite`?"));
}

#[test]
fn every_problem_is_said_at_once_in_the_order_of_the_file() {
    let text = "[suite]\nbackend = \"auto\"\nrepeat = 0\n[[workload]]\nname = \"a/b\"\ncommand = []\nexit = \"1\"\n";
    insta::assert_snapshot!(words(text), @r#"
    counterfoil.toml:2:11: `backend = "auto"` is not for suites: `record` and `check` must count with the same backend; name one, such as `dbi`
    counterfoil.toml:3:10: `repeat` is out of range; write a whole number from 1 to 1000
    counterfoil.toml:5:8: name `a/b` cannot be a file's name; use at most 100 letters, digits, `.`, `_` and `-`, beginning with a letter, digit or `_`, and not ending in `.` or `.json`
    counterfoil.toml:6:11: `command` names no program; write `command = ["program", "argument"]`
    counterfoil.toml:7:8: `exit` is a string; write a whole number from 0 to 255
    "#);
}

#[test]
fn each_mistake_is_named_with_its_remedy() {
    for (line, expected) in [
        (
            "timeout = 60",
            "4:11: `timeout` is an integer; write a string with a unit, such as `\"60s\"`",
        ),
        ("timeout = \"60\"", "4:11: `60` is not a duration; write"),
        (
            "params = { n = [] }",
            "4:16: parameter `n` has no value; write an array of values",
        ),
        (
            "params = { n = 5 }",
            "4:16: `n` is an integer; write an array of values, such as `n = [10, 1000]`",
        ),
        (
            "params = { n = [1] }",
            "4:12: parameter `n` is not used; write `{n}` where",
        ),
        (
            "params = { n = [1, 0x1] }",
            "4:20: parameter `n` has the value `1` twice",
        ),
        (
            "params = { \"a b\" = [1] }",
            "4:12: `a b` cannot be a parameter's name",
        ),
        (
            "params = { n = [[1]] }",
            "4:17: `n` is an array; write strings, integers",
        ),
        (
            "stdin = \"{m}\"",
            "4:9: unknown parameter `{m}`; add `m = [...]` to `params`, or write `{{m}}`",
        ),
        (
            "gate = { cycles = 1 }",
            "4:10: unknown metric `cycles`; known are `instructions`",
        ),
        ("gate = { instruction = 1 }", "did you mean `instructions`?"),
        (
            "gate = { python-opcodes = \"0.1%\" }",
            "4:10: unknown metric `python-opcodes`",
        ),
        (
            "gate = { instructions = \"5\" }",
            "4:25: `5` is not a limit; write",
        ),
        (
            "gate = { instructions = 0.5 }",
            "4:25: `instructions` is a float; write a limit",
        ),
        (
            "gate = { instructions = -1 }",
            "4:25: `instructions` is out of range; write a whole number from 0",
        ),
        (
            "env = { A = 1 }",
            "4:13: `A` is an integer; write a string, in quotes",
        ),
        (
            "env = { \"A=\" = \"1\" }",
            "4:9: `A=` cannot be a variable's name",
        ),
        (
            "exit = 256",
            "4:8: `exit` is out of range; write a whole number from 0 to 255",
        ),
        (
            "snapshot = { rtol = 1e-9 }",
            "4:12: this snapshot compares nothing",
        ),
        (
            "snapshot = { stdout = true, atol = -1 }",
            "4:36: `atol` must be finite and not negative",
        ),
        (
            "snapshot = { stdout = true, rtol = nan }",
            "4:36: `rtol` must be finite and not negative",
        ),
        (
            "snapshot = { stdut = true }",
            "4:14: unknown key `stdut`; did you mean `stdout`?",
        ),
        ("cwd = \"a\\u0000b\"", "4:7: `cwd` contains a NUL character"),
        ("stdin = \"\"", "4:9: `stdin` is empty"),
        ("build = []", "4:9: `build` names no program"),
        (
            "tags = \"a\"",
            "4:8: `tags` is a string; write an array of strings",
        ),
        (
            "regions = 1",
            "4:11: `regions` is an integer; write `true` or `false`",
        ),
        ("exit = ", "not valid TOML"),
    ] {
        let words = wrong(line);
        assert!(
            words.contains(expected),
            "{line}\n  said: {words}\n  not:  {expected}"
        );
        assert!(
            words
                .lines()
                .all(|line| line.starts_with("counterfoil.toml:")),
            "{words}"
        );
    }
}

/// A manifest with a service table and the further lines of a workload.
fn with_service(service: &str, workload: &str) -> String {
    format!("[service.pypi]\n{service}\n[[workload]]\nname = \"a\"\ncommand = \"x\"\n{workload}\n")
}

#[test]
fn a_workload_with_a_service_has_a_network_of_its_own_and_what_the_service_exports() {
    let service = "command = \"bin/serve -p {port}\"\nexport = { URL = \"http://127.0.0.1:{port}/{{port}}\" }\nready = { port = 3141, file = \"up\", line = \"on\", timeout = \"5s\" }";
    let manifest = parse(&with_service(service, "services = [\"pypi\"]")).unwrap();
    let case = &manifest.cases()[0];
    assert_eq!(case.network, Network::Loopback);
    let [service] = case.services.as_slice() else {
        panic!("{:?}", case.services)
    };
    assert_eq!(service.command, ["bin/serve", "-p", "3141"]);
    assert_eq!(service.program, Path::new("/suite/bin/serve"));
    assert_eq!(service.export["URL"], "http://127.0.0.1:3141/{port}");
    assert_eq!(service.cwd, Path::new("/suite"));
    let ready = Ready {
        port: Some(3141),
        file: Some("/suite/up".into()),
        line: Some("on".to_owned()),
        timeout: Duration::from_secs(5),
    };
    assert_eq!(service.ready, ready);
}

#[test]
fn the_network_is_the_workloads_or_the_suites_or_the_machines() {
    let network = |suite: &str, workload: &str| {
        let text =
            format!("[suite]\n{suite}\n[[workload]]\nname = \"a\"\ncommand = \"x\"\n{workload}\n");
        parse(&text).unwrap().cases()[0].network
    };
    assert_eq!(network("", ""), Network::Host);
    assert_eq!(network("network = \"none\"", ""), Network::None);
    let both = network("network = \"none\"", "network = \"loopback\"");
    assert_eq!(both, Network::Loopback);
}

#[test]
fn variables_are_those_of_the_suite_and_the_workloads_own_win() {
    let text = "[suite]\nenv = { PATH = \"/bin\", A = \"1\" }\n[[workload]]\nname = \"a\"\ncommand = \"x\"\nenv = { A = \"2\" }\n";
    let env = &parse(text).unwrap().cases()[0].env;
    assert_eq!((env["PATH"].as_str(), env["A"].as_str()), ("/bin", "2"));
    let text = text.replace("/bin", "{dir}");
    let error = parse(&text).unwrap_err().to_string();
    assert!(
        error.contains("2:16: ") && error.contains("{dir}"),
        "{error}"
    );
}

#[test]
fn the_folder_and_the_user_are_the_workloads_or_the_suites() {
    let shown = |suite: &str, workload: &str| {
        let text =
            format!("[suite]\n{suite}\n[[workload]]\nname = \"a\"\ncommand = \"x\"\n{workload}\n");
        let shown = parse(&text).map(|manifest| manifest.cases()[0].shown);
        shown.map(|shown| (shown.folder, shown.user))
    };
    assert_eq!(shown("", "").unwrap(), (None, None));
    let suite = "folder = \"host\"\nuser = \"root\"";
    let (host, root) = (Some(Folder::Host), Some(User::Root));
    assert_eq!(shown(suite, "").unwrap(), (host, root));
    let own = shown(suite, "folder = \"fixed\"\nuser = \"host\"").unwrap();
    assert_eq!(own, (Some(Folder::Fixed), Some(User::Host)));
    for (wrong, message) in [
        (
            "folder = \"real\"",
            "`real` is no place for the project's folder; use fixed or host",
        ),
        ("user = \"me\"", "`me` is no user; use host or root"),
    ] {
        let error = shown(wrong, "").unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn each_mistake_of_a_service_is_named_with_its_remedy() {
    const GOOD: &str = "command = \"x\"\nready = { port = 1 }";
    const USED: &str = "services = [\"pypi\"]";
    for (service, workload, expected) in [
        (
            GOOD,
            "",
            "1:10: service `pypi` is not used; add `services = [\"pypi\"]`",
        ),
        (
            GOOD,
            "services = [\"pypy\"]",
            "7:13: unknown service `pypy`; did you mean `pypi`?",
        ),
        (
            GOOD,
            "services = [\"zzzz\"]",
            "7:13: unknown service `zzzz`; known are `pypi`, and a table `[service.zzzz]` makes another",
        ),
        (
            GOOD,
            "services = [\"pypi\", \"pypi\"]",
            "7:21: service `pypi` is named twice",
        ),
        (
            GOOD,
            "services = \"pypi\"",
            "7:12: `services` is a string; write an array of names",
        ),
        (
            GOOD,
            "services = [\"pypi\"]\nnetwork = \"none\"",
            "8:11: without a network, service `pypi` cannot be reached",
        ),
        (
            GOOD,
            "services = [\"pypi\"]\nnetwork = \"lo\"",
            "8:11: unknown network `lo`; known are `none`, `loopback` and `host`",
        ),
        (
            "command = \"x\"",
            USED,
            "1:10: service `pypi` without `ready`",
        ),
        (
            "ready = { port = 1 }",
            USED,
            "1:10: service `pypi` without `command`",
        ),
        (
            "command = \"x\"\nready = {}",
            USED,
            "3:9: `ready` names no sign",
        ),
        (
            "command = \"x\"\nready = { port = 0 }",
            USED,
            "3:18: `port` is out of range",
        ),
        (
            "command = \"x\"\nready = { prt = 1 }",
            USED,
            "3:11: unknown key `prt`; did you mean `port`?",
        ),
        (
            "command = \"x {port}\"\nready = { line = \"up\" }",
            USED,
            "2:11: unknown parameter `{port}`; a service has `{port}`, where `ready` names one",
        ),
        (
            "comand = \"x\"\nready = { port = 1 }",
            USED,
            "2:1: unknown key `comand`; did you mean `command`?",
        ),
    ] {
        let words = words(&with_service(service, workload));
        assert!(
            words.contains(expected),
            "{service} {workload}\n  said: {words}\n  not:  {expected}"
        );
    }
    let two = "[service.b]\ncommand = \"x\"\nready = { port = 1 }\n";
    let words = words(&format!(
        "{two}{}",
        with_service(GOOD, "services = [\"b\", \"pypi\"]")
    ));
    assert!(
        words.contains("services `b` and `pypi` have the same port"),
        "{words}"
    );
}

#[test]
fn commands_that_need_a_shell_or_never_close_a_quote_are_refused() {
    let command = |text: &str| words(&format!("[[workload]]\nname = \"a\"\ncommand = {text}"));
    assert!(command("\"a | b\"").contains("3:11: `|` needs a shell"));
    assert!(command("\"a 'b\"").contains("3:11: the quote ' is never closed"));
    assert!(command("\"\"").contains("3:11: `command` names no program"));
    assert!(command("[\"\"]").contains("3:11: `command` names no program"));
    assert!(command("[\"a\", 1]").contains("3:17: `command` is an integer"));
    assert!(command("1").contains("3:11: `command` is an integer; write an array of strings"));
}

#[test]
fn duplicate_names_are_refused_also_when_only_the_case_differs() {
    let text = "[[workload]]\nname = \"a\"\ncommand = \"x\"\n[[workload]]\nname = \"A\"\ncommand = \"x\"\n";
    assert!(
        words(text).starts_with("counterfoil.toml:5:8: duplicate name `A`: line 2 has it already")
    );
}

#[test]
fn names_that_cannot_be_file_names_are_refused() {
    for bad in [
        "",
        ".a",
        "a/b",
        "a b",
        "ä",
        "a.",
        "-a",
        "a.json",
        &"x".repeat(101),
    ] {
        let text = format!("[[workload]]\nname = \"{bad}\"\ncommand = \"x\"\n");
        assert!(words(&text).contains("2:8: "), "{bad}: {}", words(&text));
    }
    assert!(parse("[[workload]]\nname = \"A.b_c-1\"\ncommand = \"x\"\n").is_ok());
}

#[test]
fn two_sets_of_parameters_with_one_id_are_refused() {
    let params = "params = { a = [\"1,b=2\", \"1\"], b = [\"3\", \"2,b=3\"] }\nstdin = \"{a}{b}\"";
    assert!(
        wrong(params)
            .contains("duplicate parameter set: two cases would be called `a[a=1,b=2,b=3]`")
    );
}

#[test]
fn a_manifest_without_a_workload_says_what_to_add() {
    let expected =
        "counterfoil.toml:1:1: no workload; add a `[[workload]]` table with `name` and `command`";
    assert_eq!(words(""), expected);
    assert!(
        words("[workload]\nname = \"a\"")
            .contains("1:1: `workload` is a table; write `[[workload]]`")
    );
    assert!(words("[[workload]]\n").contains("1:1: workload without `name`"));
}

#[test]
fn the_nearest_manifest_above_is_found_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b");
    fs::create_dir_all(&deep).unwrap();
    let path = folder.path().join(FILE_NAME);
    fs::write(&path, "[[workload]]\nname = \"a\"\ncommand = \"x\"\n").unwrap();
    assert_eq!(Manifest::find(&deep).unwrap(), path);
    assert_eq!(Manifest::read(&path).unwrap().folder, folder.path());
    fs::write(&path, b"# \xff").unwrap();
    let error = Manifest::read(&path).unwrap_err().to_string();
    assert!(error.contains("counterfoil.toml:1:3: not UTF-8"), "{error}");
    let error = Manifest::read(&deep).unwrap_err().to_string();
    assert!(error.starts_with("read `"), "{error}");
}

#[test]
fn columns_count_characters() {
    let text = "[[workload]]\nname = \"a\"\ncommand = \"x\"\nenv = { A = \"ä\", B = 1 }\n";
    assert!(
        words(text).contains(":4:22: `B` is an integer"),
        "{}",
        words(text)
    );
}

#[test]
fn the_manifest_that_init_writes_is_a_good_one() {
    let manifest = parse(include_str!("../cli/templates/counterfoil.toml")).unwrap();
    assert!(manifest.cases().len() > 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_damage_to_a_good_manifest_makes_the_reader_panic(
        at in any::<prop::sample::Index>(),
        cut in 0usize..40,
        put in "[\\[\\]{}=\"'.,a-z0-9\n \u{0}\u{e4}-]{0,12}",
    ) {
        let start = at.index(FULL.len());
        let end = (start + cut).min(FULL.len());
        let damaged = format!("{}{put}{}", &FULL[..start], &FULL[end..]);
        match parse(&damaged) {
            Ok(manifest) => prop_assert!(!manifest.cases().is_empty()),
            Err(error) => prop_assert!(error.to_string().starts_with("/suite/counterfoil.toml:")),
        }
    }
}
