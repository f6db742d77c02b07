//! Counts one command with the perf backend and prints the result as JSON: `perf_probe -- [--regions] CMD...`.

use std::process::ExitCode;

use counterfoil::backend::perf::Perf;
use counterfoil::backend::{Backend, Detail};
use counterfoil::sys::spawn::Launch;
use serde_json::json;

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().skip(2).collect();
    let regions = words.first().is_some_and(|word| word == "--regions");
    if regions {
        words.remove(0);
    }
    let Some(program) = words.first() else {
        eprintln!("usage: perf_probe -- [--regions] CMD...");
        return ExitCode::from(125);
    };
    let launch = Launch {
        program: program.into(),
        args: words.clone(),
        fixed_addresses: true,
        fixed_random: true,
        ..Launch::default()
    };
    let want = Detail {
        regions,
        ..Detail::default()
    };
    match Perf::new().run(&launch, want, std::path::Path::new("/tmp")) {
        Ok(run) => {
            let report = json!({
                "metrics": { "instructions": run.instructions },
                "regions": run.regions,
                "processes": run.processes,
                "pinned": run.pinning,
                "caveats": run.caveats,
                "outcome": run.outcome,
            });
            println!("{report}");
            ExitCode::from(run.outcome.code() as u8)
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(125)
        }
    }
}
