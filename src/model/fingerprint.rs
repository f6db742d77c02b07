//! What a measurement is about, and all else that can move its counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Identity of a measurement: named facts, each a short text.
///
/// `subject` is the code that is expected to change: the executable and the files the manifest names.
/// `environment` is everything else that can move a count: architecture, backend, CPU model,
/// build-ids of the shared objects loaded, interpreter versions. Measurements whose environments
/// differ are not comparable, and the facts that differ say why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Name of the file (no folder) to its build-id or SHA-256.
    pub subject: BTreeMap<String, String>,
    /// Name of the fact to its value.
    pub environment: BTreeMap<String, String>,
}
