//! Where the courses of two runs part first.
//!
//! Two runs are walked side by side, from one moment that both have to the next: code reached for the first time, an answer
//! of the machine, a signal. Only instructions whose counts differ in the end are looked at, so that threads, and whatever
//! evens out, do not lead astray. The first stretch after which their counts differ has the parting in it, and in the
//! stretch it is the branch of which not all that surrounds it differs.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::course_index::{Deltas, Indexed, Origins, Way};
use crate::model::course::{Answer, Courses, Event, Flow, Moment, Origin, Place};

/// An answer of the machine that was not the same in both runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlike {
    /// The call and what it answered in the first run.
    pub first: Answer,
    /// What it answered in the second.
    pub second: String,
    /// Whether that had the same parts, in another order.
    pub reordered: bool,
    /// Who asked: return addresses of the first run, innermost first.
    pub callers: Vec<Place>,
}

/// Where two runs part.
#[derive(Clone, Debug, PartialEq)]
pub struct Parting {
    /// The program, by its position in order of start.
    pub row: usize,
    /// Its path.
    pub program: String,
    /// The branch, or the first instruction that not both execute equally often.
    pub at: Place,
    /// Whether it is a branch that went different ways.
    pub branch: bool,
    /// How often the instruction at `counted` was executed in each run, in the end.
    pub counts: (u64, u64),
    /// The instruction whose counts differ: `at`, or what the branch leads to.
    pub counted: Place,
    /// Instructions that both runs have executed before, in this program, at the least.
    pub after: u64,
    /// Return addresses near it, innermost first.
    pub callers: Vec<Place>,
    /// Threads that the program had then; one where they took turns.
    pub threads: usize,
    /// Answers before it that were not alike, the nearest first.
    pub answers: Vec<Unlike>,
    /// Signals that were delivered before it in one run and not, or elsewhere, in the other.
    pub signals: bool,
    /// What instructions of the program ask the machine for: `rdtsc`.
    pub asked: Vec<(&'static str, Place)>,
}

/// Where `second` parts from `first` in code of the origins that are `looked_at`; none where every instruction of these was
/// executed equally often. Places are in the terms of `first`, or beyond its origins where only the second has them: see
/// [`origin`].
pub fn parting(
    first: &Courses,
    second: &Courses,
    looked_at: &dyn Fn(&Origin) -> bool,
) -> Option<Parting> {
    let (ours, theirs) = (Origins::own(first), Origins::of(second, first));
    let pairs = first.programs.iter().zip(&second.programs);
    let found = pairs.filter_map(|(a, b)| {
        let (a, b) = (Indexed::new(a, &ours), Indexed::new(b, &theirs));
        let looked_at = |place: &Place| origin(first, second, place.origin).is_some_and(looked_at);
        Walk::new(&a, &b, &looked_at)?.part()
    });
    found.min_by_key(|(at, _)| *at).map(|(_, parting)| parting)
}

/// What an origin's number in a parting means.
pub fn origin<'a>(first: &'a Courses, second: &'a Courses, number: u32) -> Option<&'a Origin> {
    let known = first.origins.get(number as usize);
    known.or_else(|| second.origins.get(Origins::of(second, first).back(number)?))
}

/// Two courses of one program, side by side.
struct Walk<'a> {
    a: &'a Indexed<'a>,
    b: &'a Indexed<'a>,
    /// Counts in the end of the instructions whose counts differ.
    ends: HashMap<Place, (i128, i128)>,
}

/// A moment's name: the same in both runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Reached(Place),
    Answered(&'static str, usize),
    Signal(i32, usize),
    Over,
}

impl<'a> Walk<'a> {
    /// None where nothing differs in the end.
    fn new(
        a: &'a Indexed<'a>,
        b: &'a Indexed<'a>,
        looked_at: &dyn Fn(&Place) -> bool,
    ) -> Option<Walk<'a>> {
        let mut ends: HashMap<Place, (i128, i128)> = HashMap::new();
        for (place, count) in a.counts(0..a.course.events.len()) {
            ends.entry(place).or_default().0 = count;
        }
        for (place, count) in b.counts(0..b.course.events.len()) {
            ends.entry(place).or_default().1 = count;
        }
        ends.retain(|place, (a, b)| a != b && looked_at(place));
        (!ends.is_empty()).then_some(Walk { a, b, ends })
    }

    /// The parting, with its position among all events of the first run.
    fn part(&self) -> Option<(u64, Parting)> {
        let theirs: HashMap<Name, usize> = names(self.b).into_iter().zip(0..).collect();
        let mut difference = Difference::default();
        let (mut from, mut other) = (0, 0);
        for (index, name) in names(self.a).into_iter().enumerate() {
            self.add(&mut difference, self.a, index..index + 1, 1);
            let reads =
                |indexed: &Indexed<'_>, at: usize| indexed.course.events[at].risen.is_some();
            let both = theirs.get(&name).copied();
            let Some(met) = both.filter(|met| *met >= other) else {
                continue;
            };
            if !reads(self.a, index) || !reads(self.b, met) {
                continue;
            }
            self.add(&mut difference, self.b, other..met + 1, -1);
            if difference.open > 0 {
                let at = self.a.course.events[index].at;
                let parting = self.within(from..index + 1, other..met + 1, &difference)?;
                return Some((at, parting));
            }
            (from, other) = (index + 1, met + 1);
        }
        None
    }

    /// Adds what was executed of the instructions that differ in the end.
    fn add(&self, to: &mut Difference, of: &Indexed<'_>, events: Range<usize>, sign: i128) {
        let risen = of.course.events[events]
            .iter()
            .filter_map(|event| event.risen.as_ref());
        for (counter, count) in risen.flatten() {
            for (place, part) in of.instructions(*counter) {
                if self.ends.contains_key(&place) {
                    to.add(place, sign * part * i128::from(*count));
                }
            }
        }
    }

    /// The parting in a stretch of each course.
    fn within(
        &self,
        ours: Range<usize>,
        theirs: Range<usize>,
        difference: &Difference,
    ) -> Option<Parting> {
        let (a, b) = (self.a.counts(ours.clone()), self.b.counts(theirs.clone()));
        let ways = self.ways(&a, &b);
        let differs = |place: &Place| difference.of.get(place).is_some_and(|count| *count != 0);
        let reached = [(self.a, ours.end), (self.b, theirs.end)].map(|(of, end)| last(of, end));
        let executed = |place: &Place| {
            a.contains_key(place) || b.contains_key(place) || reached.contains(&Some(*place))
        };
        let branch = ways
            .iter()
            .filter_map(|way| fork(way, &differs, &executed))
            .min_by_key(|fork| fork.0);
        let first = ways.iter().map(|way| way.at).find(differs);
        let (at, counted) = match branch {
            Some((_, at, counted)) => (at, counted),
            None => (first?, first?),
        };
        let (one, two) = self.ends.get(&counted).copied().unwrap_or_default();
        let count = |count: i128| u64::try_from(count).unwrap_or(0);
        let events = &self.a.course.events;
        Some(Parting {
            row: self.a.course.row,
            program: self.a.course.program.clone(),
            at,
            branch: branch.is_some(),
            counts: (count(one), count(two)),
            counted,
            after: self
                .a
                .counts(0..ours.start)
                .values()
                .map(|n| count(*n))
                .sum(),
            callers: callers(self.a, &events[ours.clone()]),
            threads: events[ours.clone()]
                .iter()
                .map(|event| event.threads)
                .max()
                .unwrap_or(0),
            answers: self.answers(ours.end),
            signals: self.signals(ours.end, theirs.end),
            asked: asked(self.a, self.b),
        })
    }

    /// What either run executed in its stretch, in the order in which it was reached first.
    fn ways(&self, a: &Deltas, b: &Deltas) -> Vec<Way> {
        let mut seen = BTreeMap::new();
        let executed = |way: &Way| a.contains_key(&way.at) || b.contains_key(&way.at);
        let mut ways = Vec::new();
        for way in self.a.ways().chain(self.b.ways()).filter(executed) {
            if seen.insert(way.at, ()).is_none() {
                ways.push(way);
            }
        }
        ways
    }

    /// Answers of the first `end` events that are not alike, the nearest first.
    fn answers(&self, end: usize) -> Vec<Unlike> {
        let theirs: HashMap<Name, &Event> = names(self.b)
            .into_iter()
            .zip(&self.b.course.events)
            .collect();
        let ours = names(self.a)
            .into_iter()
            .zip(&self.a.course.events)
            .take(end);
        let unlike =
            ours.filter_map(
                |(name, event)| match (&event.moment, &theirs.get(&name)?.moment) {
                    (Moment::Answered(one), Moment::Answered(two)) if one.digest != two.digest => {
                        Some(Unlike {
                            first: one.clone(),
                            second: two.shown.clone(),
                            reordered: one.parts.is_some() && one.parts == two.parts,
                            callers: event
                                .callers
                                .iter()
                                .map(|place| self.a.place(*place))
                                .collect(),
                        })
                    }
                    _ => None,
                },
            );
        let mut unlike: Vec<Unlike> = unlike.collect();
        unlike.reverse();
        unlike
    }

    /// Whether signals came at different points.
    fn signals(&self, ours: usize, theirs: usize) -> bool {
        let signals = |of: &Indexed<'_>, end: usize| {
            let events = of.course.events.iter().take(end);
            events
                .filter(|event| matches!(event.moment, Moment::Signal(_)))
                .count()
        };
        signals(self.a, ours) + signals(self.b, theirs) > 0
    }
}

/// Whether an instruction is a branch at which runs part: what surrounds it differs in part only. With its rank, its place
/// and that of which counts differ. Best is one that both execute equally often, with different ways on; then one whose
/// own count differs, while one way on does not: a loop.
fn fork(
    way: &Way,
    differs: &impl Fn(&Place) -> bool,
    executed: &impl Fn(&Place) -> bool,
) -> Option<(u8, Place, Place)> {
    let Flow::Branch(target) = way.flow else {
        return None;
    };
    let ways = [way.next, target];
    let differing = ways.into_iter().find(|to| differs(to));
    if !differs(&way.at) {
        return differing.map(|to| (0, way.at, to));
    }
    let equal = ways.iter().any(|to| executed(to) && !differs(to));
    equal.then_some((1, way.at, differing.unwrap_or(way.at)))
}

/// The code that the last event before `end` has reached.
fn last(of: &Indexed<'_>, end: usize) -> Option<Place> {
    match of.course.events.get(end.checked_sub(1)?)?.moment {
        Moment::Reached(place) => Some(of.place(place)),
        _ => None,
    }
}

/// What either run asked the machine for.
fn asked(a: &Indexed<'_>, b: &Indexed<'_>) -> Vec<(&'static str, Place)> {
    let asks = a.ways().chain(b.ways()).filter_map(|way| match way.flow {
        Flow::Asks(what) => Some((way.at, what)),
        _ => None,
    });
    let asks: BTreeMap<Place, &'static str> = asks.collect();
    asks.into_iter()
        .map(|(place, what)| (what, place))
        .collect()
}

/// The return addresses of the last event that has some.
fn callers(of: &Indexed<'_>, events: &[Event]) -> Vec<Place> {
    let last = events.iter().rev().find(|event| !event.callers.is_empty());
    let callers = last.map_or(&[][..], |event| &event.callers);
    callers.iter().map(|place| of.place(*place)).collect()
}

/// The names of a course's moments, in order.
fn names(of: &Indexed<'_>) -> Vec<Name> {
    let mut calls: HashMap<&str, usize> = HashMap::new();
    let mut signals: HashMap<i32, usize> = HashMap::new();
    let nth = |number: &mut usize| {
        *number += 1;
        *number
    };
    let name = |event: &Event| match &event.moment {
        Moment::Reached(place) => Name::Reached(of.place(*place)),
        Moment::Answered(answer) => {
            Name::Answered(answer.call, nth(calls.entry(answer.call).or_default()))
        }
        Moment::Signal(number) => Name::Signal(*number, nth(signals.entry(*number).or_default())),
        Moment::Over => Name::Over,
    };
    of.course.events.iter().map(name).collect()
}

/// By how much counts differ so far, and of how many instructions.
#[derive(Default)]
struct Difference {
    of: Deltas,
    open: usize,
}

impl Difference {
    fn add(&mut self, place: Place, count: i128) {
        let slot = self.of.entry(place).or_default();
        let before = *slot != 0;
        *slot += count;
        match (before, *slot != 0) {
            (false, true) => self.open += 1,
            (true, false) => self.open -= 1,
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "parting_tests.rs"]
mod tests;
