//! Courses by instruction: counts out of the counters of blocks, with the places of two runs under the same names.

use std::collections::HashMap;

use crate::model::course::{Block, Course, Courses, Flow, Origin, Place};

/// Names of origins of one run in terms of another's.
pub struct Origins(Vec<u32>);

impl Origins {
    /// Those of `other` as `courses` has them; what only `other` has comes behind.
    pub fn of(other: &Courses, courses: &Courses) -> Origins {
        let known: HashMap<&Origin, u32> = courses.origins.iter().zip(0..).collect();
        let mut next = courses.origins.len() as u32;
        let mut name = |origin| {
            known.get(origin).copied().unwrap_or_else(|| {
                next += 1;
                next - 1
            })
        };
        Origins(other.origins.iter().map(&mut name).collect())
    }

    /// Those of a run in its own terms.
    pub fn own(courses: &Courses) -> Origins {
        Origins((0..courses.origins.len() as u32).collect())
    }

    /// A place of the other run.
    pub fn place(&self, place: Place) -> Place {
        Place {
            origin: self
                .0
                .get(place.origin as usize)
                .copied()
                .unwrap_or(u32::MAX),
            offset: place.offset,
        }
    }

    /// The origin of a place, by its name in the other run.
    pub fn back(&self, origin: u32) -> Option<usize> {
        self.0.iter().position(|name| *name == origin)
    }
}

/// A signed count by place.
pub type Deltas = HashMap<Place, i128>;

/// One program's course with places under common names.
pub struct Indexed<'a> {
    /// The course.
    pub course: &'a Course,
    origins: &'a Origins,
    /// By counter: its block, and the first of the block's instructions that it speaks of.
    counters: HashMap<u32, (usize, u16, i128)>,
}

impl<'a> Indexed<'a> {
    /// Looks at every block once.
    pub fn new(course: &'a Course, origins: &'a Origins) -> Indexed<'a> {
        let mut counters = HashMap::new();
        for (index, block) in course.blocks.iter().enumerate() {
            counters.insert(block.counter, (index, 0, 1));
            for (counter, done) in &block.exits {
                counters.insert(*counter, (index, *done, -1));
            }
        }
        Indexed {
            course,
            origins,
            counters,
        }
    }

    /// A place of it under its common name.
    pub fn place(&self, place: Place) -> Place {
        self.origins.place(place)
    }

    /// The instructions that a counter speaks of, and whether it adds to their counts (1) or takes from them (-1).
    pub fn instructions(&self, counter: u32) -> impl Iterator<Item = (Place, i128)> {
        let origins = self.origins;
        let found = self.counters.get(&counter);
        let part = found.map(|(index, from, sign)| (&self.course.blocks[*index], *from, *sign));
        part.into_iter().flat_map(move |(block, from, sign)| {
            let steps = block.steps.iter().skip(from.into());
            steps.map(move |step| (origins.place(step.place), sign))
        })
    }

    /// Executions by instruction of a stretch of events.
    pub fn counts(&self, events: std::ops::Range<usize>) -> Deltas {
        let mut counts = Deltas::new();
        let events = self.course.events.get(events).unwrap_or_default();
        for (counter, count) in events
            .iter()
            .filter_map(|event| event.risen.as_ref())
            .flatten()
        {
            for (place, sign) in self.instructions(*counter) {
                *counts.entry(place).or_default() += sign * i128::from(*count);
            }
        }
        counts.retain(|_, count| *count != 0);
        counts
    }

    /// Every instruction with where control goes from it: the next, and the target of a transfer.
    pub fn ways(&self) -> impl Iterator<Item = Way> {
        self.course
            .blocks
            .iter()
            .flat_map(move |block| self.ways_of(block))
    }

    fn ways_of(&self, block: &'a Block) -> impl Iterator<Item = Way> {
        block.steps.iter().map(|step| Way {
            at: self.place(step.place),
            next: self.place(Place {
                offset: step.place.offset + u64::from(step.bytes),
                ..step.place
            }),
            flow: match step.flow {
                Flow::Branch(to) => Flow::Branch(self.place(to)),
                Flow::Jump(to) => Flow::Jump(self.place(to)),
                Flow::Call(to) => Flow::Call(self.place(to)),
                plain => plain,
            },
        })
    }
}

/// An instruction and where control goes from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The instruction.
    pub at: Place,
    /// The one behind it.
    pub next: Place,
    /// What it does with control.
    pub flow: Flow,
}
