//! Tests of [`super`]: courses made by hand, and where they part.

use super::*;
use crate::model::course::{Block, Course, Step};

/// Code at offset `at` of one file; each instruction is one byte long.
fn place(at: u64) -> Place {
    Place {
        origin: 0,
        offset: at,
    }
}

fn block(counter: u32, at: u64, flows: &[Flow], exits: &[(u32, u16)]) -> Block {
    let step = |(index, flow): (usize, &Flow)| Step {
        place: place(at + index as u64),
        bytes: 1,
        flow: *flow,
    };
    Block {
        steps: flows.iter().enumerate().map(step).collect(),
        counter,
        exits: exits.to_vec(),
    }
}

fn event(at: u64, moment: Moment, risen: &[(u32, u64)]) -> Event {
    Event {
        at,
        moment,
        risen: Some(risen.to_vec()),
        threads: 1,
        callers: Vec::new(),
    }
}

fn reached(at: u64) -> Moment {
    Moment::Reached(place(at))
}

fn answered(call: &'static str, digest: u64) -> Moment {
    Moment::Answered(Answer {
        call,
        file: None,
        digest,
        parts: None,
        shown: digest.to_string(),
    })
}

fn courses(blocks: Vec<Block>, events: Vec<Event>) -> Courses {
    Courses {
        origins: vec![Origin::File("/bin/prog".into())],
        programs: vec![Course {
            row: 0,
            program: "/bin/prog".to_owned(),
            blocks,
            events,
        }],
    }
}

/// A branch at 2 that goes on at 3 or leads to 10; both lead to 20. In this run `taken` of `times`.
fn branches(pid: u64, times: u64, taken: u64) -> Courses {
    let blocks = vec![
        block(0, 0, &[Flow::On, Flow::On, Flow::Branch(place(10))], &[]),
        block(1, 3, &[Flow::Jump(place(20))], &[]),
        block(2, 10, &[Flow::Jump(place(20))], &[]),
        block(3, 20, &[Flow::Elsewhere], &[]),
    ];
    let mut events = vec![
        event(1, reached(0), &[]),
        event(2, answered("getpid", pid), &[]),
    ];
    let way = if taken > 0 { 10 } else { 3 };
    events.push(event(3, reached(way), &[(0, 1)]));
    events.push(event(4, reached(20), &[(if taken > 0 { 2 } else { 1 }, 1)]));
    events.push(event(5, Moment::Over, &[(3, times)]));
    courses(blocks, events)
}

#[test]
fn runs_that_execute_the_same_do_not_part() {
    assert_eq!(
        parting(&branches(7, 1, 0), &branches(8, 1, 0), &|_| true),
        None
    );
}

#[test]
fn a_branch_that_goes_two_ways_is_where_runs_part() {
    let found = parting(&branches(7, 1, 0), &branches(8, 1, 1), &|_| true).unwrap();
    assert_eq!((found.at, found.branch), (place(2), true));
    assert_eq!((found.counted, found.counts), (place(3), (1, 0)));
    let answers: Vec<_> = found
        .answers
        .iter()
        .map(|one| (one.first.call, one.second.as_str()))
        .collect();
    assert_eq!(answers, [("getpid", "8")]);
}

#[test]
fn code_that_is_not_looked_at_does_not_part() {
    let nothing = |_: &Origin| false;
    assert_eq!(
        parting(&branches(7, 1, 0), &branches(8, 1, 1), &nothing),
        None
    );
}

/// A loop at 1 and 2 that is left for 3 by the branch at 1; it calls 10, which was executed before, too.
fn loops(turns: u64) -> Courses {
    let blocks = vec![
        block(0, 0, &[Flow::Call(place(10))], &[]),
        block(
            1,
            1,
            &[Flow::Branch(place(3)), Flow::Call(place(10))],
            &[(2, 1)],
        ),
        block(3, 3, &[Flow::Elsewhere], &[]),
        block(4, 10, &[Flow::On, Flow::Elsewhere], &[]),
    ];
    let events = vec![
        event(1, reached(0), &[]),
        event(2, reached(10), &[(0, 1)]),
        event(3, reached(1), &[(4, 1)]),
        event(4, reached(3), &[(1, turns + 1), (2, 1), (4, turns)]),
        event(5, Moment::Over, &[(3, 1)]),
    ];
    courses(blocks, events)
}

#[test]
fn the_branch_of_a_loop_is_found_and_not_what_the_loop_calls() {
    let found = parting(&loops(5), &loops(9), &|_| true).unwrap();
    assert_eq!((found.at, found.branch), (place(1), true));
    assert_eq!((found.counted, found.counts), (place(2), (5, 9)));
    assert_eq!(found.after, 3);
}

#[test]
fn moments_that_come_in_another_order_do_not_lead_astray() {
    let blocks = || {
        vec![
            block(0, 0, &[Flow::On], &[]),
            block(1, 10, &[Flow::On], &[]),
            block(2, 20, &[Flow::On], &[]),
        ]
    };
    let run = |first: u64, last: u64| {
        let second = 30 - first;
        let counter = |at: u64| (at / 10) as u32;
        courses(
            blocks(),
            vec![
                event(1, reached(0), &[]),
                event(2, reached(first), &[(0, 1)]),
                event(3, reached(second), &[(counter(first), 1)]),
                event(4, answered("read", last), &[(counter(second), 1)]),
                event(5, Moment::Over, &[(0, last)]),
            ],
        )
    };
    let found = parting(&run(10, 4), &run(20, 6), &|_| true).unwrap();
    assert_eq!((found.at, found.counts), (place(0), (5, 7)));
    assert_eq!(found.answers.len(), 1);
}

#[test]
fn the_same_file_is_the_same_origin_whatever_its_number() {
    let mut other = branches(8, 1, 1);
    other.origins.insert(0, Origin::Memory("[vdso]".to_owned()));
    let moved = |place: &mut Place| place.origin += 1;
    for block in &mut other.programs[0].blocks {
        for step in &mut block.steps {
            moved(&mut step.place);
            if let Flow::Branch(to) | Flow::Jump(to) = &mut step.flow {
                moved(to);
            }
        }
    }
    for event in &mut other.programs[0].events {
        if let Moment::Reached(place) = &mut event.moment {
            moved(place);
        }
    }
    let found = parting(&branches(7, 1, 0), &other, &|_| true).unwrap();
    assert_eq!(found.at, place(2));
}
