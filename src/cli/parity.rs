//! Cases that differ in one parameter only, and whose outputs must be the same.

use std::collections::BTreeMap;

use super::suite::{Counted, OwnedOutput, Ran, Suite};
use crate::compare::parity::{Held, Intended, hold};
use crate::compare::snapshot::Labels;
use crate::compare::{noted, wrong_output};
use crate::model::Comparison;
use crate::suite::{Case, Differs, Parity, Part};

/// A case that ran, with its place among the comparisons.
#[derive(Clone, Copy)]
struct Member<'a> {
    case: &'a Case,
    counted: &'a Counted,
    place: usize,
}

/// Holds the outputs of the cases against each other, where their workload asks for it, and says in `comparisons`, which
/// begin with one for each selected case, what is not the same.
pub fn judge(
    suite: &Suite,
    results: &[Ran],
    comparisons: &mut [Comparison],
) -> Result<(), regex::Error> {
    let cases = suite.selected.iter().zip(results).enumerate();
    let mut workloads: BTreeMap<&str, Vec<Member<'_>>> = BTreeMap::new();
    for (place, (case, ran)) in cases {
        if let (Some(_), Ran::Counted(counted)) = (&case.parity, ran) {
            let member = Member {
                case,
                counted,
                place,
            };
            workloads.entry(&case.workload).or_default().push(member);
        }
    }
    for (workload, members) in workloads {
        let all = suite
            .all
            .iter()
            .filter(|case| case.workload == workload)
            .count();
        judge_workload(&members, members.len() == all, comparisons)?;
    }
    Ok(())
}

/// `complete`: whether every case of the workload is there, so that a difference that is meant and does not occur is not
/// in one that is not.
fn judge_workload(
    members: &[Member<'_>],
    complete: bool,
    comparisons: &mut [Comparison],
) -> Result<(), regex::Error> {
    let Some(parity) = members
        .first()
        .and_then(|member| member.case.parity.as_ref())
    else {
        return Ok(());
    };
    let mut occurs = vec![false; parity.differs.len()];
    for group in groups(members, &parity.parameter) {
        let Some((reference, others)) = group.split_first() else {
            continue;
        };
        for other in others {
            let comparison = &mut comparisons[other.place];
            judge_pair(reference, other, parity, &mut occurs, comparison)?;
        }
    }
    let stale = parity
        .differs
        .iter()
        .zip(&occurs)
        .filter(|(_, occurs)| complete && !**occurs);
    for (differs, _) in stale {
        let text = format!(
            "stale: the outputs agree without leave to differ ({}); remove that `differs` from the manifest",
            differs.reason
        );
        noted(&mut comparisons[members[0].place], &text);
    }
    Ok(())
}

/// Members that differ in `parameter` only, in the manifest's order.
fn groups<'a>(members: &[Member<'a>], parameter: &str) -> Vec<Vec<Member<'a>>> {
    let others = |member: &Member<'a>| {
        let params = member.case.params.iter();
        params
            .filter(|(name, _)| name != parameter)
            .collect::<Vec<_>>()
    };
    let mut groups: Vec<Vec<Member<'a>>> = Vec::new();
    for member in members {
        let known = groups
            .iter_mut()
            .find(|group| others(&group[0]) == others(member));
        match known {
            Some(group) => group.push(*member),
            None => groups.push(vec![*member]),
        }
    }
    groups
}

fn judge_pair(
    reference: &Member<'_>,
    other: &Member<'_>,
    parity: &Parity,
    occurs: &mut [bool],
    comparison: &mut Comparison,
) -> Result<(), regex::Error> {
    let labels = Labels {
        expected: &reference.case.id,
        actual: &other.case.id,
    };
    let outputs = reference.counted.outputs.iter().zip(&other.counted.outputs);
    for (index, ((_, expected), (name, actual))) in outputs.enumerate() {
        let part = part(name, index, other.counted);
        let meant = |differs: &Differs| {
            differs.part == part
                && (applies(differs, reference.case) || applies(differs, other.case))
        };
        let meant = parity
            .differs
            .iter()
            .enumerate()
            .filter(|(_, differs)| meant(differs));
        let (places, meant): (Vec<_>, Vec<_>) = meant.unzip();
        let intended = meant
            .iter()
            .map(|differs| Intended::new(differs.pattern.as_deref()));
        let intended = intended.collect::<Result<Vec<_>, _>>()?;
        let tolerance = other.case.snapshot.tolerance;
        let Held {
            mismatch,
            occurs: there,
        } = hold(expected, actual, tolerance, &intended, labels);
        for (place, there) in places.into_iter().zip(there) {
            occurs[place] |= there;
        }
        if let Some(mismatch) = mismatch {
            let text = format!(
                "parity: {} is not that of `{}`: {mismatch}",
                name.words(),
                reference.case.id
            );
            *comparison = wrong_output(comparison.clone(), &text);
        }
    }
    Ok(())
}

/// An output as the manifest names it. Files come last.
fn part(name: &OwnedOutput, index: usize, counted: &Counted) -> Part {
    match name {
        OwnedOutput::Stdout => Part::Stdout,
        OwnedOutput::Stderr => Part::Stderr,
        OwnedOutput::Exit => Part::Exit,
        OwnedOutput::File(_) => {
            let is_file =
                |(name, _): &&(OwnedOutput, Vec<u8>)| matches!(name, OwnedOutput::File(_));
            let files = counted.outputs.iter().filter(is_file).count();
            Part::File(index + files - counted.outputs.len())
        }
    }
}

fn applies(differs: &Differs, case: &Case) -> bool {
    differs.params.iter().all(|(name, value)| {
        let mut params = case.params.iter();
        params.any(|(known, has)| known == name && has == value)
    })
}
