//! The suite commands from end to end.

mod common;

fn main() -> std::process::ExitCode {
    common::run(vec![])
}
