//! Any number of commands side by side, the first being what the others are held against.

use std::collections::BTreeSet;

use serde::Serialize;

use super::changes::function_name;
use crate::model::{BackendKind, Measurement, Metric};

/// One count of every command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// A metric, an opcode, or `module: function`.
    pub name: String,
    /// The count of each command, in their order; absent where it was not counted or never ran.
    pub counts: Vec<Option<u64>>,
    /// Each count divided by the first command's, for display; absent where either is absent or the
    /// first is 0.
    pub ratios: Vec<Option<f64>>,
}

/// The commands' counts side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideBySide {
    /// The backend that counted all of them; absent when it was not one, and then nothing is
    /// compared.
    pub backend: Option<BackendKind>,
    /// `instructions`, then regions by name.
    pub metrics: Vec<Row>,
    /// Opcodes whose counts differ, the largest difference from the first command first.
    pub opcodes: Vec<Row>,
    /// Functions whose counts differ, the largest difference from the first command first.
    pub functions: Vec<Row>,
}

/// Sets measurements beside each other. Counts of different backends are never compared: then there
/// are no rows.
pub fn side_by_side(measurements: &[Measurement]) -> SideBySide {
    let backend = one_backend(measurements);
    if backend.is_none() {
        return SideBySide {
            backend,
            metrics: Vec::new(),
            opcodes: Vec::new(),
            functions: Vec::new(),
        };
    }
    SideBySide {
        backend,
        metrics: metrics(measurements),
        opcodes: opcodes(measurements),
        functions: functions(measurements),
    }
}

fn one_backend(measurements: &[Measurement]) -> Option<BackendKind> {
    let first = measurements.first()?.backend.name;
    let same = measurements.iter().all(|m| m.backend.name == first);
    same.then_some(first)
}

fn metrics(measurements: &[Measurement]) -> Vec<Row> {
    let regions = measurements.iter().flat_map(|m| m.regions.iter().flatten());
    let names: BTreeSet<Metric> = std::iter::once(Metric::Instructions)
        .chain(measurements.iter().flat_map(|m| m.metrics.keys().cloned()))
        .chain(regions.map(|(name, _)| Metric::Region(name.clone())))
        .collect();
    let count = |metric: &Metric| measurements.iter().map(|m| m.value(metric)).collect();
    names
        .iter()
        .map(|metric| Row::new(metric.to_string(), count(metric)))
        .collect()
}

fn opcodes(measurements: &[Measurement]) -> Vec<Row> {
    let mixes = || measurements.iter().filter_map(|m| m.opcodes.as_ref());
    let names: BTreeSet<&String> = mixes().flat_map(|mix| mix.0.keys()).collect();
    let rows = names.into_iter().map(|name| {
        let count = |m: &Measurement| m.opcodes.as_ref()?.0.get(name).copied();
        Row::new(name.clone(), measurements.iter().map(count).collect())
    });
    largest_first(rows)
}

fn functions(measurements: &[Measurement]) -> Vec<Row> {
    let all = || measurements.iter().filter_map(|m| m.functions.as_ref());
    let names: BTreeSet<(&str, &str)> = all()
        .flat_map(|functions| functions.iter().map(|(module, name, _)| (module, name)))
        .collect();
    let rows = names.into_iter().map(|(module, name)| {
        let count = |m: &Measurement| m.functions.as_ref()?.get(module, name);
        let counts = measurements.iter().map(count).collect();
        Row::new(function_name(module, name), counts)
    });
    largest_first(rows)
}

impl Row {
    fn new(name: String, counts: Vec<Option<u64>>) -> Self {
        let first = counts.first().copied().flatten().filter(|count| *count > 0);
        // Ratios are for display; all judging is done on the counts.
        let ratio = |count: &Option<u64>| Some((*count)? as f64 / first? as f64);
        let ratios = counts.iter().map(ratio).collect();
        Row {
            name,
            counts,
            ratios,
        }
    }

    /// The largest difference of any command from the first; an absent count is 0.
    fn spread(&self) -> u64 {
        let first = self.counts.first().copied().flatten().unwrap_or(0);
        let apart = |count: &Option<u64>| count.unwrap_or(0).abs_diff(first);
        self.counts.iter().map(apart).max().unwrap_or(0)
    }
}

fn largest_first(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut rows: Vec<_> = rows.filter(|row| row.spread() > 0).collect();
    rows.sort_by(|a, b| {
        b.spread()
            .cmp(&a.spread())
            .then_with(|| a.name.cmp(&b.name))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::measurement;
    use super::*;

    #[test]
    fn ratios_are_against_the_first_command() {
        let all = [
            measurement(200, &[]),
            measurement(300, &[]),
            measurement(100, &[]),
        ];
        let table = side_by_side(&all);
        let row = &table.metrics[0];
        assert_eq!(row.name, "instructions");
        assert_eq!(row.counts, [Some(200), Some(300), Some(100)]);
        assert_eq!(row.ratios, [Some(1.0), Some(1.5), Some(0.5)]);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let row = Row::new("div".to_owned(), vec![Some(0), Some(3), None]);
        assert_eq!(row.ratios, [None, None, None]);
    }

    #[test]
    fn the_opcode_that_differs_most_comes_first_and_equal_ones_are_left_out() {
        let all = [
            measurement(10, &[("add", 5), ("mov", 4), ("ret", 1)]),
            measurement(17, &[("add", 6), ("mov", 4), ("div", 7)]),
        ];
        let table = side_by_side(&all);
        let names: Vec<_> = table.opcodes.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["div", "add", "ret"]);
        assert_eq!(table.opcodes[0].counts, [None, Some(7)]);
    }

    #[test]
    fn counts_of_two_backends_are_not_set_beside_each_other() {
        let mut all = [measurement(1, &[]), measurement(1, &[])];
        all[1].backend.name = BackendKind::Perf;
        let table = side_by_side(&all);
        assert_eq!((table.backend, table.metrics.len()), (None, 0));
        assert_eq!(side_by_side(&[]).backend, None);
    }
}
