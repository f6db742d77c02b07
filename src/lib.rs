//! Counterfoil counts what a program executes, keeps the counts, and holds the next run against them.
//!
//! # Layers
//!
//! Imports run from later lines to earlier ones only, never sideways; `tests/tidy.rs` holds it.
//!
//! | layer | what it is |
//! |---|---|
//! | [`model`] | plain data: metrics, counts, runs, measurements, comparisons |
//! | [`isa`] | machine code through capstone: decoding, opcode names |
//! | [`object`] | ELF files: build-ids, symbols, code, load maps; pure over bytes |
//! | [`sys`] | the kernel: spawning, ptrace, signals; every `unsafe` is here |
//! | [`dbi`] | the counting engine's translator: x86-64 code in, x86-64 code out that counts itself; pure |
//! | [`backend`] | ways of counting behind one trait: perf, dbi, cachegrind, callgrind, step, fake |
//! | [`suite`] | `counterfoil.toml`: workloads, parameters, gates, selection |
//! | [`supervise`] | one workload from command to measurement: pinning, network, services, shims, repeats, output |
//! | [`compare`] | measurement against measurement, output against output, course against course; verdicts; pure |
//! | [`baseline`] | the files of accepted measurements |
//! | [`report`] | finished data in, text out: terminal, JSON, Markdown |
//! | [`cli`] | one file a subcommand; exit codes; the only layer that prints |

pub mod backend;
pub mod baseline;
pub mod cli;
pub mod compare;
pub mod dbi;
pub mod isa;
pub mod model;
pub mod object;
pub mod report;
pub mod suite;
pub mod supervise;
pub mod sys;
