//! The backends `cachegrind` and `callgrind` on real programs, through the library.
use counterfoil::backend::valgrind::{Cachegrind, Callgrind};
use counterfoil::backend::{Backend, Detail};
use counterfoil::sys::spawn::Launch;
use std::path::Path;
#[test]
fn try_it() {
    let all = Detail {
        opcodes: true,
        functions: true,
        regions: false,
    };
    let cmd: Vec<String> = std::env::var("CMD")
        .unwrap_or("/tmp/exp/b/fe".into())
        .split(' ')
        .map(String::from)
        .collect();
    for (b, want) in [
        (&Cachegrind as &dyn Backend, Detail::default()),
        (&Callgrind::default(), all),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let launch = Launch {
            program: cmd[0].clone().into(),
            args: cmd.iter().map(|s| s.into()).collect(),
            env: vec!["PATH=/usr/bin:/bin".into()],
            fixed_random: true,
            fixed_addresses: true,
            ..Launch::default()
        };
        let t = std::time::Instant::now();
        match b.run(&launch, want, scratch.path()) {
            Err(e) => eprintln!("ERR {e}"),
            Ok(run) => {
                eprintln!(
                    "{:?} {} {:?} {:?}",
                    run.outcome,
                    run.instructions,
                    run.caveats,
                    t.elapsed()
                );
                for p in &run.processes {
                    eprintln!("  {p:?}");
                }
                if let Some(o) = &run.opcodes {
                    assert_eq!(o.total().unwrap(), run.instructions);
                    eprintln!("bad {:?}", o.0.get("(bad)"));
                }
                if let Some(f) = &run.functions {
                    assert_eq!(f.total().unwrap(), run.instructions);
                    for r in f.largest_first().iter().take(12) {
                        eprintln!("  {r:?}");
                    }
                    for (m, n, c) in f.iter() {
                        if m.starts_with("[") {
                            eprintln!("   MEM {m} {n} {c}");
                        }
                    }
                }
            }
        }
    }
    let _ = Path::new("/");
}
