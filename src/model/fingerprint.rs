//! What a measurement is about, and all else that can move its counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Identity of a measurement: named facts, each a short text.
///
/// `subject` is the code that is expected to change: the executable and the files the manifest names.
/// `environment` is everything else that can move a count: architecture, backend, CPU model,
/// build-ids of the shared objects loaded, interpreter versions. Measurements whose environments
/// differ are not comparable, and the facts that differ say why.
///
/// `variables` are those that reached the program from outside, `PATH` and `HOME` among them, each with a digest of
/// its value. They move counts by little, from one user to the next, and so do not make measurements incomparable: where a
/// count has moved and nothing else has, they are the reason to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Name of the file (no folder) to its build-id or SHA-256.
    pub subject: BTreeMap<String, String>,
    /// Name of the fact to its value.
    pub environment: BTreeMap<String, String>,
    /// Name of the variable to the digest of its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}
