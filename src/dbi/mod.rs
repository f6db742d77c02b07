//! The counting engine: a binary translator that adds counters to the code of a process.
//!
//! What is here so far is pure over bytes; nothing touches a process.

pub mod decode;
