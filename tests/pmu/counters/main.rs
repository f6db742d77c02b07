//! Opens many counters on one command and prints what each says: `perf_counters CMD...`.
//!
//! Three lines: a group of a leader and four more events, each one's count or why there is none; the error of a group of
//! twenty; how many of twenty pinned counters of their own counted, and how many were refused.

use std::io;

use counterfoil::sys::Pid;
use counterfoil::sys::perf::{Counter, Event, Reach, Start};
use counterfoil::sys::spawn::Launch;
use counterfoil::sys::tree::{self, Watcher};

/// More than any PMU has counters.
const TOO_MANY: usize = 20;

#[derive(Default)]
struct Open {
    grouped: bool,
    counters: Vec<Counter>,
    failed: Option<io::Error>,
    wanted: usize,
}

impl Watcher for Open {
    fn held(&mut self, root: Pid) -> io::Result<()> {
        for _ in 0..self.wanted {
            let leader = self.counters.first().filter(|_| self.grouped);
            match Counter::open(
                Event::INSTRUCTIONS,
                root,
                Reach::Tree,
                Start::AtExec,
                leader,
            ) {
                Ok(counter) => self.counters.push(counter),
                Err(error) => self.failed = Some(error),
            }
        }
        Ok(())
    }
}

fn run(wanted: usize, grouped: bool) -> Result<Open, tree::TreeError> {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let launch = Launch {
        program: words.first().map(Into::into).unwrap_or_default(),
        args: words,
        ..Launch::default()
    };
    let mut open = Open {
        grouped,
        wanted,
        ..Open::default()
    };
    tree::run(&launch, &mut open)?;
    Ok(open)
}

fn main() -> Result<(), tree::TreeError> {
    let group = run(5, true)?;
    let counts = group.counters.iter().map(|counter| match counter.count() {
        Ok(count) => count.to_string(),
        Err(error) => format!("({error})"),
    });
    println!("group {}", counts.collect::<Vec<_>>().join(" "));
    match run(TOO_MANY, true)?.failed {
        Some(error) => println!("too large a group: {error}"),
        None => println!("too large a group: opened"),
    }
    let crowd = run(TOO_MANY, false)?;
    let counted = crowd
        .counters
        .iter()
        .filter(|counter| counter.count().is_ok());
    let counted = counted.count();
    println!("crowd {counted} counted {} refused", TOO_MANY - counted);
    Ok(())
}
