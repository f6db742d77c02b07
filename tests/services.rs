//! Networks and services from end to end: what a workload without the machine's network meets, servers beside it, and
//! what becomes of those that fail.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use common::Need::{DefaultBackend, Program};
use common::{
    assert_no_process, case, compile, count_json, counterfoil, eventually, folder, mark,
    processes_with, skipped, stderr, stdout, write,
};
use libtest_mimic::Trial;
use tempfile::TempDir;

fn main() -> ExitCode {
    let python = [DefaultBackend, Program(PYTHON)];
    let gcc = [DefaultBackend, Program("gcc")];
    let unshare = [DefaultBackend, Program(PYTHON), Program("unshare")];
    let mut trials = vec![
        case(
            "an_attempt_without_a_network_fails_and_is_reported",
            &gcc,
            an_attempt_without_a_network_fails_and_is_reported,
        ),
        case(
            "a_failure_names_what_was_tried_to_reach",
            &gcc,
            a_failure_names_what_was_tried_to_reach,
        ),
        case(
            "answers_in_many_pieces_have_one_count",
            &python,
            answers_in_many_pieces_have_one_count,
        ),
        case(
            "a_service_that_is_never_ready_is_an_error_with_its_log",
            &python,
            a_service_that_is_never_ready_is_an_error_with_its_log,
        ),
        case(
            "a_service_that_dies_ends_the_workload",
            &python,
            a_service_that_dies_ends_the_workload,
        ),
        case(
            "a_port_that_is_taken_is_named_with_its_owner",
            &python,
            a_port_that_is_taken_is_named_with_its_owner,
        ),
        case(
            "nothing_outlives_the_run_however_it_detaches_itself",
            &python,
            nothing_outlives_the_run_however_it_detaches_itself,
        ),
        case(
            "a_workload_that_fails_keeps_the_logs",
            &python,
            a_workload_that_fails_keeps_the_logs,
        ),
        case(
            "an_interrupted_start_leaves_nothing",
            &python,
            an_interrupted_start_leaves_nothing,
        ),
        case(
            "a_sandbox_that_is_refused_says_what_to_do",
            &unshare,
            a_sandbox_that_is_refused_says_what_to_do,
        ),
        case("a_full_disk_is_named", &unshare, a_full_disk_is_named),
    ];
    trials.push(pip());
    common::run(trials)
}

/// The distribution's: one in PATH may be a script that starts others.
const PYTHON: &str = "/usr/bin/python3";

/// Listens on 127.0.0.1 at its argument; answers each connection in pieces, with pauses between them.
const SERVER: &str = r#"
import socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1])))
server.listen()
print("serving", flush=True)
while True:
    peer, _ = server.accept()
    peer.recv(100)
    for piece in range(20):
        peer.sendall(b"x" * 100)
        sum(range(piece * 1000))
    peer.close()
"#;

/// Connects to its argument and reads until the end.
const CLIENT: &str = r#"
import socket, sys
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
peer.sendall(b"go")
pieces = 0
while peer.recv(150):
    pieces += 1
print(pieces)
"#;

/// Connects to an address that nobody has here.
const CONNECT: &str = r#"
#include <arpa/inet.h>
#include <sys/socket.h>
__attribute__((noinline)) static int reach(const char *ip) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(443)};
    inet_aton(ip, &to.sin_addr);
    int failed = connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&to, sizeof to);
    return failed + 1;
}
__attribute__((noinline)) static int phones_home(void) { return reach("192.0.2.7") + 1; }
int main(void) { return phones_home() == 1 ? 7 : 0; }
"#;

struct Project {
    folder: TempDir,
    mark: String,
}

impl Project {
    /// A suite, with the two programs above below it: Python lists the folder of a script, and what is in it counts.
    fn new(name: &str, manifest: &str) -> Project {
        let project = Project {
            folder: folder(),
            mark: mark(name),
        };
        for (name, text) in [
            ("counterfoil.toml", manifest),
            ("programs/server.py", SERVER),
            ("programs/client.py", CLIENT),
        ] {
            write(project.path(), name, &text.replace("@python", PYTHON));
        }
        fs::create_dir(project.path().join("tmp")).unwrap();
        project
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = counterfoil(arguments);
        command
            .current_dir(self.path())
            .env("TMPDIR", self.path().join("tmp"))
            .env("MARK", &self.mark);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert_no_process(&self.mark);
        output
    }

    /// Logs that were kept.
    fn logs(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path().join("tmp")).unwrap().flatten();
        files.map(|file| file.path()).collect()
    }
}

#[track_caller]
fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

fn an_attempt_without_a_network_fails_and_is_reported() {
    let folder = folder();
    // Nothing but the call frame information leads from one function to the next.
    let options = ["-O1", "-fomit-frame-pointer"];
    let program = compile(folder.path(), "connect.c", CONNECT, &options);
    let program = program.to_str().unwrap();
    for network in ["none", "loopback"] {
        let report = count_json(&["--backend", "dbi", "--network", network, program]);
        assert_eq!(report["outcome"]["value"], 7);
        let attempts = report["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{report:#}");
        assert_eq!(attempts[0]["address"], "192.0.2.7:443");
        assert_eq!(attempts[0]["program"], program);
        assert_eq!(attempts[0]["pid"], 2, "as the program knows itself");
        let callers = attempts[0]["callers"].as_array().unwrap();
        let functions: Vec<_> = callers.iter().map(|caller| &caller["function"]).collect();
        assert_eq!(functions[..3], ["reach", "phones_home", "main"]);
        assert_eq!(report["pinned"]["network"]["state"], "pinned");
    }
    let output =
        counterfoil(&["count", "--backend", "step", "--network", "none", program]).output();
    contains(
        &stderr(&output.unwrap()),
        &["tried to connect to 192.0.2.7:443, from `reach` in connect.bin: "],
    );
}

fn a_failure_names_what_was_tried_to_reach() {
    let project = Project::new(
        "tried",
        "[[workload]]\nname = \"a\"\ncommand = [\"./connect.bin\"]\nnetwork = \"none\"\n",
    );
    compile(project.path(), "connect.c", CONNECT, &[]);
    let output = project.run(&["record"]);
    assert_eq!(output.status.code(), Some(4));
    contains(
        &stdout(&output),
        &[
            "exit code 7",
            "connect.bin (pid ",
            "tried to connect to 192.0.2.7:443",
        ],
    );
}

fn answers_in_many_pieces_have_one_count() {
    let workload = |name| {
        format!(
            "[[workload]]\nname = \"{name}\"\ncommand = [\"@python\", \"programs/client.py\", \"4711\"]\nservices = [\"server\"]\nsnapshot = {{ stdout = true }}\n"
        )
    };
    // Side by side, each with the same port.
    let manifest = format!(
        "[suite]\nrepeat = 5\njobs = 2\n[service.server]\ncommand = [\"@python\", \"programs/server.py\", \"{{port}}\"]\nready = {{ port = 4711, line = \"serving\" }}\n{}{}",
        workload("a"),
        workload("b")
    );
    let project = Project::new("pieces", &manifest);
    let output = project.run(&["record"]);
    assert!(
        output.status.success(),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    contains(&stdout(&output), &["2 baselines written"]);
    let output = project.run(&["check"]);
    assert!(output.status.success(), "{}", stdout(&output));
    contains(&stdout(&output), &["2 identical"]);
    assert_eq!(project.logs(), [""; 0].map(PathBuf::from), "no log stays");
}

/// A suite of one workload with one service.
fn one(service: &str, workload: &str) -> String {
    format!(
        "[suite]\nrepeat = 1\n[service.server]\n{service}\n[[workload]]\nname = \"a\"\nservices = [\"server\"]\n{workload}\n"
    )
}

fn a_service_that_is_never_ready_is_an_error_with_its_log() {
    let manifest = one(
        "command = [\"@python\", \"-c\", \"import time; print('warming up', flush=True); time.sleep(60)\"]\nready = { port = 4711, timeout = \"700ms\" }",
        "command = \"true\"",
    );
    let project = Project::new("never", &manifest);
    let output = project.run(&["record"]);
    assert_eq!(output.status.code(), Some(4));
    contains(
        &stdout(&output),
        &[
            "service `server` was not ready after 700ms: nobody listens on port 4711",
            "its log is kept in",
            "warming up",
        ],
    );
    let logs = project.logs();
    assert_eq!(logs.len(), 1);
    contains(&stdout(&output), &[logs[0].to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&logs[0]).unwrap(), "warming up\n");
}

fn a_service_that_dies_ends_the_workload() {
    let manifest = one(
        "command = [\"@python\", \"-c\", \"import time, sys; print('up', flush=True); time.sleep(1); print('no more', flush=True); sys.exit(3)\"]\nready = { line = \"up\" }",
        "command = [\"sleep\", \"60\"]",
    );
    let project = Project::new("dies", &manifest);
    let start = Instant::now();
    let output = project.run(&["record"]);
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "it waits for nothing"
    );
    assert_eq!(output.status.code(), Some(4));
    contains(
        &stdout(&output),
        &[
            "service `server` ended with exit code 3 while the workload ran",
            "no more",
        ],
    );
    assert_eq!(project.logs().len(), 1);
}

fn a_port_that_is_taken_is_named_with_its_owner() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let service = format!(
        "command = [\"@python\", \"programs/server.py\", \"{{port}}\"]\nready = {{ port = {port} }}"
    );
    let workload = format!("command = [\"@python\", \"programs/client.py\", \"{port}\"]");
    let project = Project::new(
        "taken",
        &one(&service, &format!("{workload}\nnetwork = \"host\"")),
    );
    let output = project.run(&["record"]);
    assert_eq!(output.status.code(), Some(4));
    let owner = format!("(pid {})", std::process::id());
    contains(
        &stdout(&output),
        &[
            &format!("port {port} of service `server` is taken by"),
            &owner,
            "`network = \"loopback\"`",
        ],
    );
    drop(taken);
    let output = project.run(&["record"]);
    assert!(output.status.success(), "{}", stdout(&output));
    // In a network of one's own it is free in any case.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let project = Project::new("free", &one(&service, &workload));
    let output = project.run(&["record"]);
    assert!(output.status.success(), "{}", stdout(&output));
}

/// Leaves a process behind in a session of its own whose parent is gone.
const ESCAPE: &str = r#"
import os, time
def escape():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open(f"escaped-{os.getpid()}", "w").close()
            time.sleep(600)
        os._exit(0)
    os.wait()
"#;

fn nothing_outlives_the_run_however_it_detaches_itself() {
    let service = "command = [\"@python\", \"-c\", \"from escape import *; escape(); print('up', flush=True); time.sleep(600)\"]\nready = { line = \"up\" }\nenv = { MARK = \"THE-MARK\", PYTHONPATH = \".\" }";
    let workload = "command = [\"@python\", \"-c\", \"from escape import *; escape()\"]\nenv = { MARK = \"THE-MARK\", PYTHONPATH = \".\" }";
    let mark = mark("escape");
    for backend in ["dbi", "callgrind"] {
        if backend == "callgrind" && common::which("valgrind").is_none() {
            continue;
        }
        let manifest = one(service, workload)
            .replace("THE-MARK", &mark)
            .replace("[suite]", &format!("[suite]\nbackend = \"{backend}\""));
        let project = Project::new("escape", &manifest);
        write(project.path(), "escape.py", ESCAPE);
        let output = project.run(&["record"]);
        let escaped = fs::read_dir(project.path()).unwrap().flatten();
        let escaped =
            escaped.filter(|file| file.file_name().to_string_lossy().starts_with("escaped-"));
        assert_eq!(escaped.count(), 2, "{}{}", stdout(&output), stderr(&output));
        assert_no_process(&mark);
    }
}

fn a_workload_that_fails_keeps_the_logs() {
    let manifest = one(
        "command = [\"@python\", \"programs/server.py\", \"{port}\"]\nready = { port = 4711 }",
        "command = \"false\"",
    );
    let project = Project::new("fails", &manifest);
    let output = project.run(&["record"]);
    assert_eq!(output.status.code(), Some(4));
    contains(
        &stdout(&output),
        &[
            "it ended with exit code 1, not 0",
            "the log of service `server` is kept in",
        ],
    );
    assert_eq!(fs::read_to_string(&project.logs()[0]).unwrap(), "serving\n");
    // Where the exit code is held against a snapshot, any is a success.
    let held = manifest + "snapshot = { exit = true }\n";
    let project = Project::new("held", &held);
    let output = project.run(&["record"]);
    assert!(output.status.success(), "{}", stdout(&output));
    assert_eq!(project.logs().len(), 0);
}

fn an_interrupted_start_leaves_nothing() {
    let mark = mark("start");
    let service = format!(
        "command = [\"sh\", \"-c\", \"touch started; sleep 60 & sleep 60\"]\nready = {{ port = 4711 }}\nenv = {{ MARK = \"{mark}\" }}"
    );
    for (name, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let project = Project::new("start", &one(&service, "command = \"true\""));
        let mut command = project.command(&["record"]);
        let child: Child = command
            .env("MARK", &mark)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        eventually("the service starts", || {
            project.path().join("started").exists()
        });
        assert!(processes_with(&mark).len() > 1);
        let status = Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code, "{}", stderr(&output));
        assert_no_process(&mark);
    }
}

/// Runs a command of ours as root of a user namespace, after `before`.
fn inside(project: &Project, before: &str, arguments: &str) -> Output {
    let ours = env!("CARGO_BIN_EXE_counterfoil");
    let script = format!("set -e; {before}; exec {ours} {arguments}");
    let mut command = Command::new("unshare");
    let output = command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(project.path())
        .env("TMPDIR", project.path().join("tmp"))
        .env("MARK", &project.mark)
        .output()
        .unwrap();
    assert_no_process(&project.mark);
    output
}

fn a_sandbox_that_is_refused_says_what_to_do() {
    let project = Project::new(
        "refused",
        "[[workload]]\nname = \"a\"\ncommand = \"true\"\nnetwork = \"none\"\n",
    );
    let output = inside(
        &project,
        "echo 0 > /proc/sys/user/max_net_namespaces",
        "record",
    );
    assert_eq!(
        output.status.code(),
        Some(4),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    contains(
        &stdout(&output),
        &[
            "`network = \"none\"` takes a network namespace, and the kernel refuses one here",
            "user.max_net_namespaces",
            "or set `network = \"host\"`",
        ],
    );
    let output = inside(
        &project,
        "echo 0 > /proc/sys/user/max_net_namespaces",
        "count --backend dbi -- true",
    );
    assert!(output.status.success(), "{}", stderr(&output));
}

fn a_full_disk_is_named() {
    let service = "command = [\"@python\", \"-c\", \"while True: print('x' * 1000, flush=True)\"]\nready = { port = 4711 }";
    let project = Project::new("full", &one(service, "command = \"true\""));
    let mount = "mount -t tmpfs -o size=256k none tmp";
    let output = inside(&project, mount, "record");
    assert_eq!(
        output.status.code(),
        Some(4),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    contains(
        &stdout(&output),
        &[
            "before it was ready",
            "no room is left in",
            "set TMPDIR to another folder",
        ],
    );
}

/// A virtual environment with pypiserver from PyPI; made once.
fn pypi_server() -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pypiserver");
    if venv.join("bin/pypi-server").exists() {
        return Ok(venv);
    }
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(stderr(&output)
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    run(Path::new(PYTHON), &["-m", "venv", venv.to_str().unwrap()])?;
    let wanted = ["install", "--quiet", "--retries", "1", "pypiserver==2.4.2"];
    run(&venv.join("bin/pip"), &wanted)?;
    Ok(venv)
}

fn pip() -> Trial {
    const NAME: &str = "pip_downloads_and_installs_from_a_server_beside_it_with_one_count";
    match pypi_server() {
        Ok(venv) => Trial::test(NAME, move || {
            pip_from_a_server_beside_it(&venv);
            Ok(())
        }),
        Err(why) => skipped(NAME, format!("no pypiserver from PyPI: {why}")),
    }
}

fn pip_from_a_server_beside_it(venv: &Path) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pypi");
    let manifest = fs::read_to_string(example.join("counterfoil.toml")).unwrap();
    let project = Project::new("pip", &manifest);
    let copy = project.path().join("make_packages.py");
    fs::copy(example.join("make_packages.py"), copy).unwrap();
    std::os::unix::fs::symlink(venv, project.path().join("venv")).unwrap();
    // The first to read the folders of a new environment moves their times of access, which Python asks for.
    project.run(&["check"]);
    let output = project.run(&["record"]);
    assert!(
        output.status.success(),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    contains(&stdout(&output), &["2 baselines written"]);
    let output = project.run(&["check"]);
    assert!(output.status.success(), "{}", stdout(&output));
    contains(&stdout(&output), &["2 identical"]);
}
