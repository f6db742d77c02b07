//! The text of a baseline file: JSON with sorted keys and one number a line, so that it diffs and
//! merges.
//!
//! Pure: text in, [`Baseline`] out, and back. Whoever reads a file passes its path for the errors.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Baseline, BaselineError, Place};
use crate::model::{
    BackendKind, Fingerprint, Functions, Metric, OpcodeMix, RegionCount, Rest, SCHEMA, StoredCase,
    StoredFunctions,
};

/// Reads the text of a baseline file. Nothing in `text` makes it panic.
///
/// With `wanted`, a file of another backend is an error that names the place.
pub fn parse(
    path: &Path,
    text: &str,
    wanted: Option<BackendKind>,
) -> Result<Baseline, BaselineError> {
    if let Some(line) = conflict_line(text) {
        let place = Place::new(path, line, 1);
        return Err(BaselineError::Conflict { place });
    }
    let damaged = |error: serde_json::Error| BaselineError::Damaged {
        place: Place::new(path, error.line(), error.column()),
        problem: problem_of(&error),
    };
    let header: Header = serde_json::from_str(text).map_err(damaged)?;
    check_schema(path, text, header.schema)?;
    let file: File = serde_json::from_str(text).map_err(damaged)?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != file.backend) {
        return Err(BaselineError::OtherBackend {
            place: place_of_key::<AtBackend>(path, text),
            found: file.backend,
            wanted,
        });
    }
    let baseline = file.into_baseline().map_err(|problem| {
        let place = Place::new(path, 1, 1);
        BaselineError::Damaged { place, problem }
    })?;
    Ok(baseline)
}

/// The text of a baseline file, its last newline included. Small functions are summed first.
///
/// A case whose counts contradict each other is refused, because [`parse`] would refuse it.
pub fn render(baseline: &Baseline) -> Result<String, BaselineError> {
    let mut cases = BTreeMap::new();
    for (id, case) in &baseline.cases {
        let case = case.clone().trimmed()?;
        check_sums(&case).map_err(|problem| BaselineError::Inconsistent {
            case: id.clone(),
            problem,
        })?;
        cases.insert(id.clone(), Case::from(case));
    }
    let file = File {
        backend: baseline.backend,
        cases: Unique(cases),
        schema: SCHEMA,
        workload: baseline.workload.clone(),
    };
    // Maps with text keys and plain numbers: serde_json cannot fail on them, and a failure is no
    // panic.
    let text =
        serde_json::to_string_pretty(&file).map_err(|error| BaselineError::Inconsistent {
            case: baseline.workload.clone(),
            problem: error.to_string(),
        })?;
    Ok(text + "\n")
}

/// The line of the first conflict marker. A JSON text has no line that begins like one, since a
/// string cannot hold a line break.
fn conflict_line(text: &str) -> Option<usize> {
    const MARKERS: [&str; 4] = ["<<<<<<<", "|||||||", "=======", ">>>>>>>"];
    let is_marker = |line: &str| MARKERS.iter().any(|marker| line.starts_with(marker));
    text.lines().position(is_marker).map(|index| index + 1)
}

/// serde_json's words without the place at their end, which the error says in front.
fn problem_of(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let at = words.rfind(" at line ").unwrap_or(words.len());
    words.get(..at).unwrap_or(&words).to_owned()
}

fn check_schema(path: &Path, text: &str, found: u64) -> Result<(), BaselineError> {
    let place = || place_of_key::<AtSchema>(path, text);
    match found.cmp(&u64::from(SCHEMA)) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(BaselineError::NewerSchema {
            place: place(),
            found,
        }),
        std::cmp::Ordering::Less => Err(BaselineError::OlderSchema {
            place: place(),
            found,
        }),
    }
}

/// What can be said of a file of any schema.
#[derive(Deserialize)]
struct Header {
    schema: u64,
}

/// Fails at the value of `schema`, so that the JSON reader says where it is.
#[derive(Deserialize)]
struct AtSchema {
    #[serde(rename = "schema")]
    _schema: Stop,
}

/// Fails at the value of `backend`.
#[derive(Deserialize)]
struct AtBackend {
    #[serde(rename = "backend")]
    _backend: Stop,
}

struct Stop;

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Err(D::Error::custom("here"))
    }
}

/// Where the value ends at which reading a `T` stops.
fn place_of_key<'de, T: Deserialize<'de>>(path: &Path, text: &'de str) -> Place {
    match serde_json::from_str::<T>(text) {
        Ok(_) => Place::new(path, 1, 1),
        Err(stop) => Place::new(path, stop.line(), stop.column()),
    }
}

/// A baseline file. Fields stand in the order of their names.
#[derive(Serialize, Deserialize)]
struct File {
    backend: BackendKind,
    cases: Unique<String, Case>,
    schema: u32,
    workload: String,
}

#[derive(Serialize, Deserialize)]
struct Case {
    fingerprint: Facts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    functions: Option<FunctionRows>,
    metrics: Unique<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opcodes: Option<Unique<String, u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    regions: Option<Unique<String, Region>>,
}

#[derive(Serialize, Deserialize)]
struct Facts {
    environment: Unique<String, String>,
    subject: Unique<String, String>,
    #[serde(default, skip_serializing_if = "Unique::is_empty")]
    variables: Unique<String, String>,
}

#[derive(Serialize, Deserialize)]
struct FunctionRows {
    /// Module to function to instructions.
    listed: Unique<String, Unique<String, u64>>,
    rest: RestRow,
}

#[derive(Serialize, Deserialize)]
struct RestRow {
    functions: u64,
    instructions: u64,
    largest: u64,
}

#[derive(Serialize, Deserialize)]
struct Region {
    entries: u64,
    instructions: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opcodes: Option<Unique<String, u64>>,
}

/// A sorted map that refuses to read a key twice: one of two counts would be lost in silence.
#[derive(Default)]
struct Unique<K, V>(BTreeMap<K, V>);

impl<K, V> Unique<K, V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Unique<K, V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<String, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor(PhantomData))
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = Unique<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("`{key}` stands twice")));
            }
            map.insert(key, entries.next_value()?);
        }
        Ok(Unique(map))
    }
}

impl File {
    fn into_baseline(self) -> Result<Baseline, String> {
        let mut cases = BTreeMap::new();
        for (id, case) in self.cases.0 {
            let case = case
                .into_stored()
                .map_err(|what| format!("case `{id}`: {what}"))?;
            cases.insert(id, case);
        }
        Ok(Baseline {
            workload: self.workload,
            backend: self.backend,
            cases,
        })
    }
}

impl Case {
    fn into_stored(self) -> Result<StoredCase, String> {
        let mut metrics = BTreeMap::new();
        for (name, count) in self.metrics.0 {
            let metric: Metric = name.parse().map_err(|unknown| format!("{unknown}"))?;
            metrics.insert(metric, count);
        }
        let region = |(name, region): (String, Region)| (name, region.into());
        let case = StoredCase {
            fingerprint: Fingerprint {
                subject: self.fingerprint.subject.0,
                environment: self.fingerprint.environment.0,
                variables: self.fingerprint.variables.0,
            },
            metrics,
            opcodes: self.opcodes.map(|mix| OpcodeMix(mix.0)),
            functions: self.functions.map(FunctionRows::into_stored).transpose()?,
            regions: self
                .regions
                .map(|regions| regions.0.into_iter().map(region).collect()),
        };
        check_sums(&case)?;
        Ok(case)
    }
}

/// Holds the counts of a case against each other: a merge by lines can take some from each side.
fn check_sums(case: &StoredCase) -> Result<(), String> {
    let Some(instructions) = case.value(&Metric::Instructions) else {
        return Err("no `instructions` in its metrics".to_owned());
    };
    if let Some(functions) = &case.functions {
        functions
            .total()
            .map_err(|overflow| format!("functions: {overflow}"))?;
    }
    let Some(opcodes) = &case.opcodes else {
        return Ok(());
    };
    let sum = opcodes
        .total()
        .map_err(|overflow| format!("opcodes: {overflow}"))?;
    if sum == instructions {
        Ok(())
    } else {
        Err(format!(
            "its opcodes sum to {sum}, its instructions are {instructions}"
        ))
    }
}

impl FunctionRows {
    fn into_stored(self) -> Result<StoredFunctions, String> {
        let mut listed = Functions::default();
        for (module, functions) in self.listed.0 {
            for (function, count) in functions.0 {
                listed
                    .add(&module, &function, count)
                    .map_err(|overflow| overflow.to_string())?;
            }
        }
        let rest = Rest {
            functions: self.rest.functions,
            instructions: self.rest.instructions,
            largest: self.rest.largest,
        };
        Ok(StoredFunctions { listed, rest })
    }
}

impl From<StoredFunctions> for FunctionRows {
    fn from(functions: StoredFunctions) -> Self {
        let mut listed: BTreeMap<String, Unique<String, u64>> = BTreeMap::new();
        for (module, function, count) in functions.listed.iter() {
            let rows = listed
                .entry(module.to_owned())
                .or_insert_with(|| Unique(BTreeMap::new()));
            rows.0.insert(function.to_owned(), count);
        }
        let rest = functions.rest;
        FunctionRows {
            listed: Unique(listed),
            rest: RestRow {
                functions: rest.functions,
                instructions: rest.instructions,
                largest: rest.largest,
            },
        }
    }
}

impl From<StoredCase> for Case {
    fn from(case: StoredCase) -> Self {
        let name = |(metric, count): (Metric, u64)| (metric.to_string(), count);
        let region = |(name, region): (String, RegionCount)| (name, Region::from(region));
        Case {
            fingerprint: Facts {
                environment: Unique(case.fingerprint.environment),
                subject: Unique(case.fingerprint.subject),
                variables: Unique(case.fingerprint.variables),
            },
            functions: case.functions.map(FunctionRows::from),
            metrics: Unique(case.metrics.into_iter().map(name).collect()),
            opcodes: case.opcodes.map(|mix| Unique(mix.0)),
            regions: case
                .regions
                .map(|regions| Unique(regions.into_iter().map(region).collect())),
        }
    }
}

impl From<RegionCount> for Region {
    fn from(region: RegionCount) -> Self {
        Region {
            entries: region.entries,
            instructions: region.instructions,
            opcodes: region.opcodes.map(|mix| Unique(mix.0)),
        }
    }
}

impl From<Region> for RegionCount {
    fn from(region: Region) -> Self {
        RegionCount {
            entries: region.entries,
            instructions: region.instructions,
            opcodes: region.opcodes.map(|mix| OpcodeMix(mix.0)),
        }
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
