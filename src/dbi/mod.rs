//! The counting engine's translator: x86-64 code in, x86-64 code out that counts itself. Touches no process.
//!
//! | module | what it is |
//! |---|---|
//! | [`decode`] | what one instruction is and does, as far as it matters here |
//! | [`plan`] | which instructions make a unit of translation, and where its blocks are counted |
//! | [`emit`] | a unit's new code, and what each place in it means |
//! | [`cache`] | the translated units of an address space, and the links between them |
//! | [`cpu`] | what `cpuid` says of the processors that programs are shown |
//! | [`layout`] | where things are in memory that the program and the tracer share |
//! | [`assemble`] | the few instructions that are added |
//!
//! The caller provides the memory ([`cache::Memory`]), the original code ([`cache::Program`]), and stops the program at
//! the right moments (`backend::dbi`).

pub mod assemble;
pub mod cache;
pub mod cpu;
pub mod decode;
pub mod emit;
pub mod layout;
pub mod plan;
