//! Programs built from source and counted in this process, by a backend of the test's choice.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use counterfoil::backend::{Backend, Detail};
use counterfoil::model::Run;
use counterfoil::sys::spawn::Launch;
use tempfile::TempDir;

/// A program built from source in a folder of its own.
pub struct Program {
    pub folder: TempDir,
    pub path: PathBuf,
}

/// Compiles; a missing compiler fails the test, because without it nothing here is tested.
pub fn compile(name: &str, source: &str, flags: &[&str]) -> Program {
    built_by("gcc", name, source, flags)
}

/// A C program whose start is some hundred instructions, with a small C library (musl) and no dynamic loader.
pub fn compile_small(name: &str, source: &str, flags: &[&str]) -> Program {
    built_by("musl-gcc", name, source, &[&["-static"], flags].concat())
}

fn built_by(compiler: &str, name: &str, source: &str, flags: &[&str]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join(name), folder.path().join("prog"));
    std::fs::write(&file, source).unwrap();
    let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/include");
    let mut command = Command::new(compiler);
    command.args(["-g", "-I"]).arg(shim).arg("-o").arg(&path);
    let status = command.arg(&file).args(flags).status();
    let status = status.unwrap_or_else(|_| panic!("{compiler} is needed: install it"));
    assert!(status.success());
    Program { folder, path }
}

impl Program {
    pub fn launch(&self) -> Launch {
        Launch {
            program: self.path.clone(),
            args: vec![self.path.clone().into_os_string()],
            fixed_addresses: true,
            own_session: true,
            timeout: Some(Duration::from_secs(100)),
            ..Launch::default()
        }
    }

    /// A run whose details sum to its total.
    pub fn counted(&self, backend: &dyn Backend, launch: &Launch, want: Detail) -> Run {
        let run = backend.run(launch, want, self.folder.path());
        let run = run.unwrap_or_else(|error| panic!("{}: {error}", backend.kind()));
        if let Some(opcodes) = &run.opcodes {
            let total = opcodes.total();
            assert_eq!(total, Ok(run.instructions), "opcodes sum to the total");
        }
        if let Some(functions) = &run.functions {
            let total = functions.total();
            assert_eq!(total, Ok(run.instructions), "functions sum to the total");
        }
        run
    }
}

pub fn opcode(run: &Run, mnemonic: &str) -> u64 {
    let opcodes = run.opcodes.as_ref().unwrap();
    opcodes.0.get(mnemonic).copied().unwrap_or(0)
}

pub fn function(run: &Run, name: &str) -> u64 {
    let functions = run.functions.as_ref().unwrap();
    functions.get("prog", name).unwrap_or(0)
}
