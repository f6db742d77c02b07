//! A writer of baselines that is killed at any moment leaves the old file or the new one, whole.
//!
//! The test starts itself again as the writer, which replaces one file without end, and kills it
//! with SIGKILL.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use counterfoil::baseline::{Baseline, Store};
use counterfoil::model::{BackendKind, Metric, OpcodeMix, StoredCase};

/// Set for the writer: the folder to write to.
const FOLDER: &str = "COUNTERFOIL_TEST_KILLED_WRITER";
const KILLS: u64 = 60;
/// The test goes on until it has seen a writer die inside a write, but not for ever.
const MOST_KILLS: u64 = 1000;
/// Enough opcodes that a file spans many pages.
const OPCODES: u64 = 2000;

/// Two versions that differ in every number, so that a mixture of them does not pass for either.
fn version(number: u64) -> Baseline {
    let opcodes: BTreeMap<_, _> = (0..OPCODES)
        .map(|i| (format!("opcode{i}"), 1_000_000_000 * number + i))
        .collect();
    let case = StoredCase {
        metrics: [(Metric::Instructions, opcodes.values().sum())].into(),
        opcodes: Some(OpcodeMix(opcodes)),
        ..StoredCase::default()
    };
    Baseline {
        workload: "killed".to_owned(),
        backend: BackendKind::Step,
        cases: [("killed".to_owned(), case)].into(),
    }
}

/// The writer itself; does nothing when run as a plain test.
#[test]
fn writes_without_end_when_asked_to() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let store = Store::new(folder);
    loop {
        for number in [1, 2] {
            store.save(&version(number)).unwrap();
        }
    }
}

fn writer(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_without_end_when_asked_to"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_writer_killed_at_any_moment_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    store.save(&version(1)).unwrap();
    let (mut seen_new, mut seen_leftover) = (false, false);
    for kill in 0..MOST_KILLS {
        if kill >= KILLS && seen_new && seen_leftover {
            break;
        }
        let mut child = writer(folder.path());
        // Different moments of the start, of a write, and between writes; later ones when the machine is too busy
        // for the writer to get that far.
        let patience = 1 + kill / KILLS;
        std::thread::sleep(Duration::from_micros(
            patience * (5_000 + 1_237 * (kill % KILLS)),
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = store.load("killed", None).unwrap().unwrap();
        assert!(found == version(1) || found == version(2), "kill {kill}");
        seen_new |= found == version(2);
        seen_leftover |= entries(folder.path()) > 1;
        assert_eq!(store.workloads().unwrap(), ["killed"]);
    }
    assert!(
        seen_new,
        "no writer ever came to write: the test shows nothing"
    );
    assert!(
        seen_leftover,
        "no writer was ever killed inside a write: the test shows nothing"
    );
    store.save(&version(1)).unwrap();
    assert_eq!(entries(folder.path()), 1, "leftovers stay");
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}
