//! A program under `count` behaves as if counterfoil were not there: streams, exit codes, signals, job control.

mod common;

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, Output, Stdio};
use std::time::Duration;

use common::Need::{Program, Step};
use common::{
    assert_no_process, case, compile, compile_small, counterfoil, folder, mark, output, stderr,
    stdout, write,
};

/// Backends that every machine of the tests has, by how they run the program.
const BACKENDS: [&str; 4] = ["dbi", "cachegrind", "callgrind", "step"];

/// Those that are the program's tracer and nothing else: Valgrind loses a signal that comes while it replaces itself.
const TRACERS: [&str; 2] = ["dbi", "step"];

fn main() -> ExitCode {
    let all = [Program("valgrind"), Program("gcc"), Step];
    let small = [Program("valgrind"), Program("musl-gcc"), Step];
    common::run(vec![
        case(
            "passes_exit_codes_through",
            &small,
            passes_exit_codes_through,
        ),
        case(
            "reports_death_by_signal_as_a_shell_does",
            &small,
            reports_death_by_signal_as_a_shell_does,
        ),
        case(
            "passes_input_and_output_through_untouched",
            &small,
            passes_input_and_output_through_untouched,
        ),
        case(
            "gives_every_repeat_the_same_input",
            &all,
            gives_every_repeat_the_same_input,
        ),
        case(
            "survives_a_reader_that_goes_away",
            &all,
            survives_a_reader_that_goes_away,
        ),
        case("passes_a_signal_on", &all, passes_a_signal_on),
        case(
            "a_signal_before_the_program_runs_stops_us",
            &all,
            a_signal_before_the_program_runs_stops_us,
        ),
        case(
            "a_signal_that_ends_a_run_ends_the_repeats",
            &all,
            a_signal_that_ends_a_run_ends_the_repeats,
        ),
        case("dies_with_us", &[Program("setsid"), Step], dies_with_us),
        case(
            "leaves_interruption_to_the_program",
            &all,
            leaves_interruption_to_the_program,
        ),
        case(
            "returns_when_a_background_child_is_left",
            &all,
            returns_when_a_background_child_is_left,
        ),
        case(
            "kills_the_whole_tree_when_time_is_up",
            &small,
            kills_the_whole_tree_when_time_is_up,
        ),
        case(
            "says_what_is_wrong_with_a_program_that_cannot_start",
            &all,
            says_what_is_wrong_with_a_program_that_cannot_start,
        ),
        case(
            "runs_scripts_with_and_without_interpreter_line",
            &all,
            runs_scripts_with_and_without_interpreter_line,
        ),
        case(
            "hands_open_files_and_ignored_signals_on",
            &all,
            hands_open_files_and_ignored_signals_on,
        ),
        case(
            "stops_and_goes_on_with_job_control",
            &all,
            stops_and_goes_on_with_job_control,
        ),
    ])
}

fn under(backend: &str, command: &[&str]) -> std::process::Command {
    let arguments: Vec<&str> = ["count", "--backend", backend, "--"]
        .iter()
        .chain(command)
        .copied()
        .collect();
    counterfoil(&arguments)
}

/// It ended so, wrote this to standard output, and our report says this of it.
#[track_caller]
fn ended(backend: &str, run: &Output, code: i32, wrote: &str, report: &str) {
    assert_eq!(
        (run.status.code(), stdout(run).as_str()),
        (Some(code), wrote),
        "{backend}"
    );
    let said = stderr(run);
    assert!(said.contains(report), "{backend}: {said}");
}

/// Ends with the code that it is told, or by the signal when it is negative; told nothing, copies its input and complains.
const ACTS: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **words) {
    if (count > 1) {
        int told = atoi(words[1]);
        if (told < 0) kill(getpid(), -told);
        return told;
    }
    static char buffer[4096];
    ssize_t got;
    while ((got = read(0, buffer, sizeof buffer)) > 0) write(1, buffer, got);
    write(2, "oops\n", 5);
    return 0;
}
"#;

fn passes_exit_codes_through() {
    let folder = folder();
    let program = compile_small(folder.path(), "acts.c", ACTS, &[]);
    for backend in BACKENDS {
        for code in [0, 1, 42, 255] {
            let told = code.to_string();
            let run = output(&mut under(backend, &[program.to_str().unwrap(), &told]));
            assert_eq!(run.status.code(), Some(code), "{backend}: {}", stderr(&run));
        }
    }
}

fn reports_death_by_signal_as_a_shell_does() {
    let folder = folder();
    let program = compile_small(folder.path(), "acts.c", ACTS, &[]);
    for backend in BACKENDS {
        for number in [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV] {
            let told = (-number).to_string();
            let run = output(&mut under(backend, &[program.to_str().unwrap(), &told]));
            assert_eq!(
                run.status.code(),
                Some(128 + number),
                "{backend}: {}",
                stderr(&run)
            );
        }
    }
}

fn passes_input_and_output_through_untouched() {
    let folder = folder();
    let program = compile_small(folder.path(), "acts.c", ACTS, &[]);
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for backend in BACKENDS {
        let mut child = under(backend, &[program.to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let copy = bytes.clone();
        let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
        let run = child.wait_with_output().unwrap();
        writer.join().unwrap();
        assert_eq!(run.stdout, bytes, "{backend}");
        assert!(
            stderr(&run).starts_with("oops\n"),
            "{backend}: {}",
            stderr(&run)
        );
        assert!(
            !stderr(&run).contains("=="),
            "no word of Valgrind's own: {}",
            stderr(&run)
        );
    }
}

fn gives_every_repeat_the_same_input() {
    let mut child = counterfoil(&[
        "count",
        "--backend",
        "cachegrind",
        "--repeat",
        "3",
        "--",
        "sort",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    child.stdin.take().unwrap().write_all(b"b\na\n").unwrap();
    let run = child.wait_with_output().unwrap();
    assert_eq!(stdout(&run), "a\nb\na\nb\na\nb\n");
    assert!(stderr(&run).contains("3 of 3"), "{}", stderr(&run));
}

fn survives_a_reader_that_goes_away() {
    for backend in BACKENDS {
        let mut child = under(backend, &["sh", "-c", "while echo y; do :; done"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 2];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let run = child.wait_with_output().unwrap();
        assert_eq!(
            run.status.code(),
            Some(128 + 13),
            "{backend}: {}",
            stderr(&run)
        );
    }
}

const WAITS: &str = "trap 'echo caught; exit 7' TERM INT; echo ready; while :; do sleep 0.05; done";

fn start_waiting(backend: &str) -> std::process::Child {
    let mut child = under(backend, &["sh", "-c", WAITS])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    child
}

fn kill(target: &str, signal: &str) {
    let status = std::process::Command::new("kill")
        .args([signal, "--", target])
        .status()
        .unwrap();
    assert!(status.success());
}

fn passes_a_signal_on() {
    for backend in BACKENDS {
        let child = start_waiting(backend);
        kill(&child.id().to_string(), "-TERM");
        let run = child.wait_with_output().unwrap();
        ended(backend, &run, 7, "caught\n", "instructions");
    }
}

/// At whatever moment SIGTERM comes, the program does not run to its end: it dies of it, or is not started.
fn a_signal_before_the_program_runs_stops_us() {
    for backend in TRACERS {
        for moment in [5, 20, 50, 100, 150, 200, 300, 450, 700] {
            let mut child = under(backend, &["sleep", "1000"])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(moment));
            let pid = child.id().to_string();
            kill(&pid, "-TERM");
            let mut said = String::new();
            let mut pipe = child.stderr.take().unwrap();
            pipe.read_to_string(&mut said).unwrap();
            let status = child.wait().unwrap();
            // Before `main` nobody has taken charge of signals.
            let before_main = status.signal() == Some(15) && said.is_empty();
            assert!(
                before_main || status.code() == Some(128 + 15),
                "{backend}, {moment} ms: {status}, {said}"
            );
        }
    }
}

fn a_signal_that_ends_a_run_ends_the_repeats() {
    for backend in TRACERS {
        let arguments = ["count", "--backend", backend, "--repeat", "3", "--"];
        let script = ["sh", "-c", "echo ready; exec sleep 1000"];
        let mut child = counterfoil(&[&arguments[..], &script].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let pipe = child.stdout.as_mut().unwrap();
        pipe.read_exact(&mut ready).unwrap();
        kill(&child.id().to_string(), "-TERM");
        let run = child.wait_with_output().unwrap();
        assert_eq!(run.status.code(), Some(128 + 15), "{backend}");
        assert_eq!(stdout(&run), "", "{backend}: no second run");
        let said = stderr(&run);
        assert!(said.contains("stopped by signal 15"), "{backend}: {said}");
    }
}

/// Ctrl-C on a real terminal: script(1) makes one, and byte 3 typed into it is the interrupt character.
fn leaves_interruption_to_the_program() {
    for backend in BACKENDS {
        let mut terminal = Terminal::run(&format!(
            "{} count --backend {backend} -- sh -c \"{WAITS}\"",
            env!("CARGO_BIN_EXE_counterfoil")
        ));
        terminal.wait_for("ready");
        terminal.type_in("\x03");
        terminal.wait_for("caught");
        terminal.wait_for("instructions");
        let (code, rest) = terminal.end();
        assert_eq!(code, Some(7), "{backend}: {rest}");
    }
}

fn returns_when_a_background_child_is_left() {
    for backend in BACKENDS {
        if TRACERS.contains(&backend) {
            ends_a_background_child(backend);
            continue;
        }
        let folder = folder();
        let note = folder.path().join("pid");
        let script = format!(
            "sleep 1000 >/dev/null 2>&1 & echo $! >{}; echo done",
            note.display()
        );
        let run = output(&mut under(backend, &["sh", "-c", &script]));
        let pid = std::fs::read_to_string(note).unwrap();
        // A child that was waited for, or hurt, could not be ended now.
        kill(pid.trim(), "-KILL");
        ended(backend, &run, 0, "done\n", "still r");
    }
}

/// It cannot go on without us.
fn ends_a_background_child(backend: &str) {
    let mark = mark(backend);
    let variable = format!("MARK={mark}");
    let script = "sleep 1000 >/dev/null 2>&1 & echo done";
    let options = ["count", "--backend", backend, "--env", &variable];
    let run = output(&mut counterfoil(
        &[&options[..], &["--", "sh", "-c", script]].concat(),
    ));
    assert_no_process(&mark);
    // The report names what is not counted.
    ended(backend, &run, 0, "done\n", "still r");
}

/// However its processes detach themselves: with us goes the first process of their namespace, and with that all others.
fn dies_with_us() {
    for backend in TRACERS {
        let mark = mark(backend);
        let script = "setsid sh -c 'sleep 1000; :' & sleep 1000 & echo ready; wait";
        let options = ["count", "--backend", backend, "--env"];
        let variable = format!("MARK={mark}");
        let mut child =
            counterfoil(&[&options[..], &[&variable, "--", "sh", "-c", script]].concat())
                .env("MARK", &mark)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
        let mut ready = [0; 6];
        let pipe = child.stdout.as_mut().unwrap();
        pipe.read_exact(&mut ready).unwrap();
        kill(&child.id().to_string(), "-KILL");
        child.wait().unwrap();
        assert_no_process(&mark);
    }
}

/// Three generations that wait; the middle one makes the file of the name that it is told.
const GENERATIONS: &str = r#"
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **words) {
    if (fork() == 0) {
        if (fork() != 0) close(creat(words[1], 0600));
    }
    for (;;) sleep(1000);
}
"#;

fn kills_the_whole_tree_when_time_is_up() {
    for backend in BACKENDS {
        let folder = folder();
        let program = compile_small(folder.path(), "generations.c", GENERATIONS, &[]);
        let program = program.to_str().unwrap();
        let started = folder.path().join("started");
        let mark = mark(backend);
        let variable = format!("MARK={mark}");
        // A busy machine may need longer to start them all.
        for limit in ["2s", "8s", "32s", "128s"] {
            let options = ["count", "--backend", backend, "--env", &variable];
            let file = started.to_str().unwrap();
            let command = ["--timeout", limit, "--", program, file];
            let run = output(&mut counterfoil(&[&options[..], &command].concat()));
            assert_eq!(run.status.code(), Some(124), "{backend}: {}", stderr(&run));
            assert!(stderr(&run).contains("time"), "{backend}: {}", stderr(&run));
            assert_no_process(&mark);
            if started.exists() {
                break;
            }
        }
        assert!(started.exists(), "{backend}: its child never began");
    }
}

fn says_what_is_wrong_with_a_program_that_cannot_start() {
    let folder = folder();
    let plain = write(folder.path(), "plain", "text");
    for backend in BACKENDS {
        for (program, code, words) in [
            ("no-such-program-anywhere", 127, "not found in PATH"),
            ("/no/such/file", 127, "does not exist"),
            (plain.to_str().unwrap(), 126, "chmod +x"),
            ("/tmp", 126, "folder"),
        ] {
            let run = output(&mut under(backend, &[program]));
            assert_eq!(
                run.status.code(),
                Some(code),
                "{backend} {program}: {}",
                stderr(&run)
            );
            assert!(
                stderr(&run).contains(words),
                "{backend} {program}: {}",
                stderr(&run)
            );
        }
    }
}

fn runs_scripts_with_and_without_interpreter_line() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    for (name, text) in [
        ("with", "#!/bin/sh\necho $0 $1\n"),
        ("without", "echo $0 $1\n"),
    ] {
        let script = write(folder.path(), name, text);
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        for backend in BACKENDS {
            let run = output(&mut under(backend, &[script.to_str().unwrap(), "word"]));
            assert_eq!(
                stdout(&run),
                format!("{} word\n", script.display()),
                "{backend}"
            );
        }
    }
}

const INHERITS: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    struct sigaction hup, pipe;
    sigset_t mask;
    sigaction(SIGHUP, 0, &hup);
    sigaction(SIGPIPE, 0, &pipe);
    sigprocmask(SIG_BLOCK, 0, &mask);
    printf("%d %d %d %d\n", hup.sa_handler == SIG_IGN, pipe.sa_handler == SIG_DFL,
           sigismember(&mask, SIGTERM), (int)write(9, "nine", 4));
    return 0;
}
"#;

fn hands_open_files_and_ignored_signals_on() {
    let folder = folder();
    let program = compile(folder.path(), "inherits.c", INHERITS, &[]);
    for backend in BACKENDS {
        let script = format!(
            "trap '' HUP; exec 9>{0}/nine; exec {1} count --backend {backend} -- {2}",
            folder.path().display(),
            env!("CARGO_BIN_EXE_counterfoil"),
            program.display()
        );
        let run = output(std::process::Command::new("sh").args(["-c", &script]));
        assert_eq!(stdout(&run), "1 1 0 4\n", "{backend}: {}", stderr(&run));
        assert_eq!(
            std::fs::read(folder.path().join("nine")).unwrap(),
            b"nine",
            "{backend}"
        );
    }
}

/// An interactive shell on a real terminal stops the whole job with Ctrl-Z and brings it back with fg.
fn stops_and_goes_on_with_job_control() {
    for backend in BACKENDS {
        let folder = folder();
        let told = folder.path().join("told");
        let mut terminal = Terminal::run("env PS1='prompt: ' bash --norc --noprofile -i");
        terminal.wait_for("prompt: ");
        terminal.type_in(&format!(
            "{} count --backend {backend} -- sh -c 'echo re\"\"ady; until [ -e {} ]; do sleep 0.1; done; echo sl\"\"ept'\n",
            env!("CARGO_BIN_EXE_counterfoil"),
            told.display()
        ));
        terminal.wait_for("ready");
        terminal.type_in("\x1a");
        terminal.wait_for("Stopped");
        terminal.wait_for("prompt: ");
        write(folder.path(), "told", "");
        terminal.shows_not("slept", Duration::from_millis(500));
        terminal.type_in("fg\n");
        terminal.wait_for("slept");
        terminal.wait_for("instructions");
        terminal.wait_for("prompt: ");
        terminal.type_in("exit 3\n");
        let (code, rest) = terminal.end();
        assert_eq!(code, Some(3), "{backend}: {rest}");
    }
}

/// How long a terminal may show nothing new.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command on a terminal of its own.
struct Terminal {
    script: std::process::Child,
    shown: std::sync::mpsc::Receiver<Vec<u8>>,
    text: String,
}

impl Terminal {
    fn run(command: &str) -> Terminal {
        let mut script = std::process::Command::new("script")
            // `exec`: a shell that stays would die of the interrupt itself.
            .args(["-qefc", &format!("exec {command}"), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = script.stdout.take().unwrap();
        let (send, shown) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                let _ = send.send(chunk[..length].to_vec());
            }
        });
        Terminal {
            script,
            shown,
            text: String::new(),
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.script
            .stdin
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
    }

    /// Waits until `words` have been shown, and forgets everything up to them.
    fn wait_for(&mut self, words: &str) {
        while !self.text.contains(words) {
            match self.shown.recv_timeout(PATIENCE) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => {
                    let _ = self.script.kill();
                    panic!("no `{words}` ({error}) in: {}", self.text);
                }
            }
        }
        let end = self.text.find(words).unwrap() + words.len();
        self.text.drain(..end);
    }

    /// Nothing of the kind is shown for some time.
    #[track_caller]
    fn shows_not(&mut self, words: &str, time: Duration) {
        std::thread::sleep(time);
        for bytes in self.shown.try_iter() {
            self.text.push_str(&String::from_utf8_lossy(&bytes));
        }
        assert!(!self.text.contains(words), "`{words}` in: {}", self.text);
    }

    /// The exit code of the command, and what was shown to the end.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.script.wait().unwrap().code();
        self.text.extend(
            self.shown
                .iter()
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        );
        (code, self.text)
    }
}
