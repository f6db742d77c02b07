//! What recording would change, to be shown before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use super::Baseline;
use crate::model::{BackendKind, CountOverflow, Metric, StoredCase};

/// What happens to one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It had no baseline.
    Add {
        /// Retired user-mode instructions.
        instructions: u64,
    },
    /// Something of it changes: a count, or only the fingerprint (then both counts are equal).
    Change {
        /// Retired user-mode instructions of the old baseline.
        before: u64,
        /// Retired user-mode instructions now.
        after: u64,
    },
    /// Measured again, and everything is equal.
    Same,
    /// Not measured this time; it stays as it is.
    Keep,
    /// The manifest has no such case any more.
    Drop,
    /// Not measured this time, and counted by another backend than the suite's.
    DropOtherBackend {
        /// That backend.
        backend: BackendKind,
    },
}

/// One case and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedChange {
    /// The case's id.
    pub case: String,
    /// What happens.
    pub step: Step,
}

/// What recording would do to one workload's file.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Every case, by id.
    pub changes: Vec<PlannedChange>,
    /// The file's content afterwards; without cases the file goes away.
    pub after: Baseline,
}

impl Plan {
    /// Whether the file would change at all.
    pub fn changes_anything(&self) -> bool {
        let idle = |change: &PlannedChange| matches!(change.step, Step::Same | Step::Keep);
        !self.changes.iter().all(idle)
    }
}

/// Plans to record `measured` over `old`. `in_manifest` are the ids of all cases of the workload:
/// those that were not measured stay, those that are not in it go.
pub fn plan(
    workload: &str,
    backend: BackendKind,
    old: Option<&Baseline>,
    measured: BTreeMap<String, StoredCase>,
    in_manifest: &BTreeSet<String>,
) -> Result<Plan, CountOverflow> {
    let mut plan = Plan {
        changes: Vec::new(),
        after: Baseline {
            workload: workload.to_owned(),
            backend,
            cases: BTreeMap::new(),
        },
    };
    let same_backend = old.is_none_or(|old| old.backend == backend);
    for (case, new) in measured {
        let new = new.trimmed()?;
        let before = old.and_then(|old| old.cases.get(&case));
        let step = measured_step(before, &new, same_backend);
        plan.after.cases.insert(case.clone(), new);
        plan.changes.push(PlannedChange { case, step });
    }
    if let Some(old) = old {
        plan.carry_over(old, in_manifest);
    }
    plan.changes.sort_by(|a, b| a.case.cmp(&b.case));
    Ok(plan)
}

impl Plan {
    fn carry_over(&mut self, old: &Baseline, in_manifest: &BTreeSet<String>) {
        let same_backend = old.backend == self.after.backend;
        for (id, stored) in &old.cases {
            if self.after.cases.contains_key(id) {
                continue;
            }
            let step = if !in_manifest.contains(id) {
                Step::Drop
            } else if same_backend {
                self.after.cases.insert(id.clone(), stored.clone());
                Step::Keep
            } else {
                Step::DropOtherBackend {
                    backend: old.backend,
                }
            };
            let case = id.clone();
            self.changes.push(PlannedChange { case, step });
        }
    }
}

fn measured_step(before: Option<&StoredCase>, new: &StoredCase, same_backend: bool) -> Step {
    let instructions = |case: &StoredCase| case.value(&Metric::Instructions).unwrap_or(0);
    match before {
        None => Step::Add {
            instructions: instructions(new),
        },
        Some(old) if same_backend && old == new => Step::Same,
        Some(old) => Step::Change {
            before: instructions(old),
            after: instructions(new),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(instructions: u64) -> StoredCase {
        StoredCase {
            metrics: BTreeMap::from([(Metric::Instructions, instructions)]),
            ..StoredCase::default()
        }
    }

    fn cases(rows: &[(&str, u64)]) -> BTreeMap<String, StoredCase> {
        let row = |(id, count): &(&str, u64)| ((*id).to_owned(), case(*count));
        rows.iter().map(row).collect()
    }

    fn old(backend: BackendKind) -> Baseline {
        Baseline {
            workload: "w".to_owned(),
            backend,
            cases: cases(&[
                ("w[n=1]", 10),
                ("w[n=2]", 20),
                ("w[n=3]", 30),
                ("w[n=9]", 90),
            ]),
        }
    }

    fn steps(plan: &Plan) -> Vec<(&str, &Step)> {
        plan.changes
            .iter()
            .map(|change| (change.case.as_str(), &change.step))
            .collect()
    }

    fn manifest() -> BTreeSet<String> {
        (1..=4).map(|n| format!("w[n={n}]")).collect()
    }

    #[test]
    fn names_every_case_once_with_what_happens_to_it() {
        let old = old(BackendKind::Callgrind);
        let measured = cases(&[("w[n=1]", 11), ("w[n=2]", 20), ("w[n=4]", 40)]);
        let plan = plan(
            "w",
            BackendKind::Callgrind,
            Some(&old),
            measured,
            &manifest(),
        )
        .unwrap();
        let expected = [
            (
                "w[n=1]",
                &Step::Change {
                    before: 10,
                    after: 11,
                },
            ),
            ("w[n=2]", &Step::Same),
            ("w[n=3]", &Step::Keep),
            ("w[n=4]", &Step::Add { instructions: 40 }),
            ("w[n=9]", &Step::Drop),
        ];
        assert_eq!(steps(&plan), expected);
        assert!(plan.changes_anything());
        let kept: Vec<_> = plan.after.cases.keys().collect();
        assert_eq!(kept, ["w[n=1]", "w[n=2]", "w[n=3]", "w[n=4]"]);
    }

    #[test]
    fn the_same_counts_by_another_backend_are_a_change_and_the_unmeasured_go() {
        let old = old(BackendKind::Step);
        let plan = plan(
            "w",
            BackendKind::Callgrind,
            Some(&old),
            cases(&[("w[n=1]", 10)]),
            &manifest(),
        )
        .unwrap();
        let other = Step::DropOtherBackend {
            backend: BackendKind::Step,
        };
        let expected = [
            (
                "w[n=1]",
                &Step::Change {
                    before: 10,
                    after: 10,
                },
            ),
            ("w[n=2]", &other),
            ("w[n=3]", &other),
            ("w[n=9]", &Step::Drop),
        ];
        assert_eq!(steps(&plan), expected);
        assert_eq!(plan.after.cases.len(), 1);
    }

    #[test]
    fn recording_the_same_again_changes_nothing() {
        let old = old(BackendKind::Callgrind);
        let ids = old.cases.keys().cloned().collect();
        let plan = plan("w", old.backend, Some(&old), old.cases.clone(), &ids).unwrap();
        assert!(!plan.changes_anything());
        assert_eq!(plan.after, old);
    }
}
