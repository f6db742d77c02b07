//! What the supervisor costs over the bare tool: `cargo bench --bench overhead`.
//!
//! Runs the same workload of about one second (natively a few hundredths) under `valgrind --tool=cachegrind` started by
//! hand and under `counterfoil count --backend cachegrind`, in turns, and prints the medians and their ratio. A figure for people, not
//! a test: times wobble.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 11;

/// A loop that takes about a second under cachegrind.
const WORKLOAD: [&str; 3] = [
    "sh",
    "-c",
    "i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done",
];

fn main() {
    let folder = std::env::temp_dir().join(format!("counterfoil-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let mut bare = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..RUNS {
        bare.push(time(&mut by_hand(&folder)));
        ours.push(time(&mut supervised()));
    }
    let _ = std::fs::remove_dir_all(&folder);
    let (bare, ours) = (median(bare), median(ours));
    println!("valgrind by hand    {bare:>8.1?} (median of {RUNS})");
    println!("counterfoil count   {ours:>8.1?}");
    println!(
        "ratio               {:.3}",
        ours.as_secs_f64() / bare.as_secs_f64()
    );
}

fn by_hand(folder: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args([
            "-q",
            "--tool=cachegrind",
            "--cache-sim=no",
            "--trace-children=yes",
            "--vgdb=no",
        ])
        .arg(format!("--cachegrind-out-file={}/out.%p", folder.display()))
        .args(WORKLOAD);
    command
}

fn supervised() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_counterfoil"));
    command
        .args(["count", "--backend", "cachegrind", "--"])
        .args(WORKLOAD);
    command
}

fn time(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
