//! The parameter matrix of a workload.

use std::collections::BTreeMap;

/// One set of parameters: values by name, as they are written into the command.
pub(super) type Values = BTreeMap<String, String>;

/// The names with their values, in the order of the manifest.
pub(super) type Matrix = Vec<(String, Vec<String>)>;

/// How many cases a matrix may make: more is a mistake, and would fill the memory.
pub(super) const MOST_CASES: usize = 10_000;

/// How many sets of values there are; absent when more than [`MOST_CASES`].
pub(super) fn cases(matrix: &Matrix) -> Option<usize> {
    matrix
        .iter()
        .try_fold(1usize, |cases, (_, values)| cases.checked_mul(values.len()))
        .filter(|cases| *cases <= MOST_CASES)
}

/// Every combination, as rows of (name, value) in the order of the manifest; the last parameter
/// changes fastest. One empty row when there are no parameters.
pub(super) fn product(matrix: &Matrix) -> Vec<Vec<(String, String)>> {
    let mut rows = vec![Vec::new()];
    for (name, values) in matrix {
        let longer = |row: &Vec<(String, String)>| {
            let with = |value: &String| {
                let mut row = row.clone();
                row.push((name.clone(), value.clone()));
                row
            };
            values.iter().map(with).collect::<Vec<_>>()
        };
        rows = rows.iter().flat_map(longer).collect();
    }
    rows
}

/// A case's id: `sort[n=1000,mode=fast]`, or the workload's name when there are no parameters.
pub(super) fn case_id(workload: &str, row: &[(String, String)]) -> String {
    if row.is_empty() {
        return workload.to_owned();
    }
    let pairs: Vec<_> = row
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{workload}[{}]", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: &[(&str, &[&str])]) -> Matrix {
        let row = |(name, values): &(&str, &[&str])| {
            (
                (*name).to_owned(),
                values.iter().map(|v| (*v).to_owned()).collect(),
            )
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn the_last_parameter_changes_fastest() {
        let matrix = matrix(&[("n", &["1", "2"]), ("mode", &["a", "b"])]);
        let ids: Vec<_> = product(&matrix)
            .iter()
            .map(|row| case_id("w", row))
            .collect();
        let expected = [
            "w[n=1,mode=a]",
            "w[n=1,mode=b]",
            "w[n=2,mode=a]",
            "w[n=2,mode=b]",
        ];
        assert_eq!(ids, expected);
        assert_eq!(cases(&matrix), Some(4));
    }

    #[test]
    fn no_parameters_make_one_case_with_the_workloads_name() {
        assert_eq!(case_id("w", &product(&Vec::new())[0]), "w");
    }

    #[test]
    fn a_matrix_that_would_fill_the_memory_is_counted_without_being_built() {
        let hundred: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let wide = |n: usize| vec![("p".to_owned(), hundred.clone()); n];
        assert_eq!(cases(&wide(2)), Some(10_000));
        assert_eq!(cases(&wide(3)), None);
        assert_eq!(cases(&wide(40)), None);
    }
}
