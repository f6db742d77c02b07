//! `counterfoil.toml`: which workloads there are, with which parameters, and what is asked of each.
//!
//! [`Manifest::find`] and [`Manifest::read`] get it from disk, [`Manifest::parse`] reads text, and
//! [`Manifest::cases`] are the workloads with their parameters filled in; [`Selection`] picks from
//! them. Nothing here starts a program.

mod case;
mod durations;
mod error;
mod manifest;
mod outputs;
mod params;
mod placeholders;
mod reader;
mod selection;
mod service;
mod shared;
mod shims;
mod template;
mod words;
mod workload;

pub use case::{Case, CommandLine, Ready, Service, Snapshot};
pub use durations::{BadDuration, parse as parse_duration};
pub use error::{Problem, SuiteError};
pub use manifest::{Manifest, Settings};
pub use outputs::{Differs, Parity, Part};
pub use selection::{Selection, SelectionError};
pub use shims::{Recorder, ShimSource};
pub use words::{WordError, split as split_words};

/// The file's name, in the folder that its relative paths start from.
pub const FILE_NAME: &str = "counterfoil.toml";
