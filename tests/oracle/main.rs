//! Random programs of every instruction that user mode allows, executed by the processor and by the engine: registers,
//! flags, memory and signals are equal.
//!
//! Each instruction is in one program at least, in one encoding of many. `COUNTERFOIL_ORACLE_SEEDS=FROM..TO` compares
//! the programs of these seeds instead; `scripts/fuzz-engine` does so for as long as is wanted.

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod encodings;
mod generate;
mod layout;
mod program;
mod random;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::LazyLock;

use encodings::Entry;
use generate::{Wish, generate};
use libtest_mimic::{Failed, Trial};
use program::{Kind, Machine, Program};
use random::Random;

/// All instructions.
static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(encodings::all);

/// Programs that have, between them, each instruction once.
const PARTS: u64 = 4;

fn main() -> ExitCode {
    let machine = Machine::probe();
    let mut trials = Vec::new();
    for seed in seeds() {
        let name = format!("seed_{seed}");
        let missing = machine.missing.clone();
        trials.push(match missing {
            Some(reason) => common::skipped(&name, reason),
            None => Trial::test(name, move || compare_seed(seed)),
        });
    }
    common::run(trials)
}

/// The seeds that were asked for, or those that are always compared.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("COUNTERFOIL_ORACLE_SEEDS") else {
        return 0..2 * PARTS;
    };
    let range = text
        .split_once("..")
        .map(|(from, to)| (from.parse(), to.parse()));
    match range {
        Some((Ok(from), Ok(to))) => from..to,
        _ => panic!("COUNTERFOIL_ORACLE_SEEDS={text}: not FROM..TO"),
    }
}

/// Makes the program of a seed and compares its runs.
fn compare_seed(seed: u64) -> Result<(), Failed> {
    let machine = Machine::probe();
    let mut order: Vec<&Entry> = ENTRIES.iter().collect();
    let mut random = Random::new(seed / PARTS);
    for index in (1..order.len()).rev() {
        order.swap(index, random.below(index as u64 + 1) as usize);
    }
    // One in eight of what this processor does not have is enough: each is refused in the same way.
    order.retain(|entry| machine.has(entry) || random.percent(12));
    let part = order.len().div_ceil(PARTS as usize);
    let mine: Vec<&Entry> = order
        .chunks(part)
        .nth((seed % PARTS) as usize)
        .unwrap_or_default()
        .to_vec();
    let kind = Kind::of(seed);
    let generated = generate(&Wish {
        seed,
        memory: kind.memory(),
        code_is_kept: kind != Kind::Writable,
        entries: &mine,
        others: &order,
    });
    Program::build(seed, kind, generated, &machine)?.compare()
}
