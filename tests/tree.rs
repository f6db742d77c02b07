//! Following a tree at full speed: everything is seen, and nothing behaves differently for it.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use counterfoil::sys::Pid;
use counterfoil::sys::ptrace::Stopped;
use counterfoil::sys::spawn::{Launch, Stream};
use counterfoil::sys::tree::{self, Birth, End, Finished, Watcher};

/// Notes what it is told.
#[derive(Default)]
struct Notes {
    programs: usize,
    processes: BTreeSet<i32>,
    threads: usize,
    ended: BTreeSet<i32>,
}

impl Watcher for Notes {
    fn program(&mut self, stopped: &Stopped, _former: Pid) -> io::Result<()> {
        self.programs += 1;
        self.processes.insert(stopped.tid().as_raw());
        Ok(())
    }

    fn process(&mut self, _birth: Birth, child: &Stopped) -> io::Result<()> {
        self.processes.insert(child.tid().as_raw());
        Ok(())
    }

    fn thread(&mut self, _process: Pid, _thread: &Stopped) -> io::Result<()> {
        self.threads += 1;
        Ok(())
    }

    fn ended(&mut self, process: Pid, tid: Pid) {
        if process == tid {
            self.ended.insert(tid.as_raw());
        }
    }
}

fn shell(script: &str) -> Launch {
    Launch {
        program: "/bin/sh".into(),
        args: ["sh", "-c", script].map(OsString::from).to_vec(),
        env: vec!["PATH=/usr/local/bin:/usr/bin:/bin".into()],
        own_session: true,
        timeout: Some(Duration::from_secs(60)),
        ..Launch::default()
    }
}

fn follow(launch: &Launch) -> (Finished, Notes) {
    let mut notes = Notes::default();
    let finished = tree::run(launch, &mut notes).unwrap_or_else(|error| panic!("{error}"));
    finished.traced.as_ref().expect("ptrace is needed");
    (finished, notes)
}

/// Whether a process runs: a zombie that its new parent has not reaped yet does not.
fn lives(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find(|line| line.starts_with("State:"));
    state.is_some_and(|state| !state.contains('Z'))
}

#[test]
fn every_process_of_a_busy_shell_begins_and_ends() {
    let script = "i=0; while [ $i -lt 60 ]; do /bin/true & ( : ) & i=$((i+1)); done; wait; echo a | cat | sort | cat >/dev/null";
    let (finished, notes) = follow(&shell(script));
    assert_eq!(finished.end, End::Exited(0));
    assert_eq!(notes.processes, notes.ended);
    assert!(notes.programs >= 1 + 60 + 3, "{}", notes.programs);
    assert!(finished.left_running.is_empty());
}

#[test]
fn exit_codes_and_fatal_signals_are_the_programs_own() {
    assert_eq!(follow(&shell("exit 41")).0.end, End::Exited(41));
    for signal in [1, 2, 3, 6, 9, 10, 11, 13, 15] {
        let (finished, _) = follow(&shell(&format!("kill -{signal} $$; exit 3")));
        assert_eq!(finished.end, End::Killed(signal));
    }
}

#[test]
fn job_control_works_under_us() {
    // A traced process that is stopped by a signal shows as `t`.
    let script = "sh -c 'kill -STOP $$; exit 5' & c=$!
        while ! grep -q '^State:.[Tt]' /proc/$c/status; do :; done; sleep 0.2
        grep -q '^State:.[Tt]' /proc/$c/status || exit 9; kill -CONT $c; wait $c; exit $?";
    assert_eq!(follow(&shell(script)).0.end, End::Exited(5));
}

#[test]
fn a_time_out_ends_the_whole_tree() {
    let launch = Launch {
        timeout: Some(Duration::from_millis(300)),
        ..shell("trap '' TERM; (trap '' TERM; while :; do :; done) & while :; do sleep 1000; done")
    };
    let begin = Instant::now();
    let (finished, notes) = follow(&launch);
    assert_eq!(finished.end, End::TimedOut);
    assert!(begin.elapsed() < Duration::from_secs(20));
    for pid in notes.processes {
        assert!(!lives(pid), "{pid} lives");
    }
}

#[test]
fn a_background_child_is_named_and_ended_with_a_session_of_its_own() {
    let (finished, notes) = follow(&shell("sleep 1000 & exit 4"));
    assert_eq!(finished.end, End::Exited(4));
    assert_eq!(finished.left_running.len(), 1);
    for pid in notes.processes {
        assert!(!lives(pid), "{pid} lives");
    }
}

#[test]
fn a_background_child_is_let_go_where_the_session_is_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (told, mark) = (folder.path().join("told"), folder.path().join("mark"));
    let wait = format!(
        "i=0; until [ -e {} ] || [ $i -gt 1000 ]; do i=$((i+1)); sleep 0.1; done",
        told.display()
    );
    let launch = Launch {
        own_session: false,
        ..shell(&format!("({wait}; echo x > {}) & exit 0", mark.display()))
    };
    let (finished, _) = follow(&launch);
    assert!(!finished.left_running.is_empty());
    assert!(!mark.exists());
    std::fs::write(told, "").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !mark.exists() {
        assert!(
            Instant::now() < deadline,
            "the child died when it was let go"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn several_trees_are_followed_at_once() {
    std::thread::scope(|scope| {
        for code in 0..6 {
            scope.spawn(move || {
                for _ in 0..5 {
                    let script = format!("/bin/true; (exit 3); /bin/true | cat; exit {code}");
                    let (finished, notes) = follow(&shell(&script));
                    assert_eq!(finished.end, End::Exited(code));
                    assert_eq!(notes.processes, notes.ended);
                }
            });
        }
    });
}

#[test]
fn descriptors_reach_the_program_under_their_numbers_and_no_other_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let file = Arc::new(OwnedFd::from(File::create(&path).unwrap()));
    let launch = Launch {
        stdin: Stream::File(Arc::new(OwnedFd::from(File::open("/dev/null").unwrap()))),
        stdout: Stream::File(Arc::clone(&file)),
        files: vec![(file, 7)],
        ..shell("ls /proc/$$/fd; echo seven >&7")
    };
    let (finished, _) = follow(&launch);
    assert_eq!(finished.end, End::Exited(0));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("seven\n"), "{text}");
    let numbers: Vec<&str> = text.lines().filter(|l| *l != "seven").collect();
    // What a program started in the ordinary way finds open, and number 7.
    let mut ordinary = std::process::Command::new("/bin/sh");
    let plain = ordinary.args(["-c", "ls /proc/$$/fd"]).output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    let expected: BTreeSet<&str> = plain.lines().chain(["7"]).collect();
    assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), expected);
}
