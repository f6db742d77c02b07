//! Tests of [`super`]: partings made by hand, and what they are put down to.

use super::*;
use crate::model::course::Answer;
use crate::model::explanation::Spot;

/// Places 0 to 9 are in `main` of the program, 10 to 19 in `lookdict` of it, those from 100 on in the C library.
fn name(place: Place) -> Named {
    let function = match place.offset {
        0..10 => "main",
        10..20 => "lookdict",
        _ => "memcpy",
    };
    Named {
        spot: Spot {
            module: "prog".to_owned(),
            function: function.to_owned(),
            line: Some(format!("prog.c:{}", place.offset)),
        },
        library: place.offset >= 100,
    }
}

fn place(offset: u64) -> Place {
    Place { origin: 0, offset }
}

fn unlike(call: &'static str, file: Option<&str>, asked_at: u64) -> Unlike {
    Unlike {
        first: Answer {
            call,
            file: file.map(Into::into),
            digest: 1,
            parts: None,
            shown: "1".to_owned(),
        },
        second: "2".to_owned(),
        reordered: false,
        callers: vec![place(asked_at)],
    }
}

fn parted(at: u64, answers: Vec<Unlike>) -> Parting {
    Parting {
        row: 0,
        program: "/bin/prog".to_owned(),
        at: place(at),
        branch: true,
        counts: (1, 0),
        counted: place(at + 1),
        after: 1000,
        callers: vec![place(110), place(3)],
        threads: 1,
        answers,
        signals: false,
        asked: Vec::new(),
    }
}

fn found(parting: &Parting, under: Option<Disturbance>) -> Finding {
    finding(parting, &Evidence { under, name: &name })
}

#[test]
fn the_nearest_answer_that_matters_is_the_cause() {
    let answers = vec![
        unlike("fstat", None, 3),
        unlike("clock_gettime", None, 12),
        unlike("getpid", None, 13),
    ];
    let found = found(&parted(5, answers), None);
    assert_eq!(found.cause, Cause::Clock);
    assert_eq!(found.answers.len(), 3);
}

#[test]
fn what_the_parting_function_asked_for_comes_before_what_is_nearer() {
    let answers = vec![unlike("clock_gettime", None, 12), unlike("getpid", None, 4)];
    assert_eq!(found(&parted(5, answers), None).cause, Cause::Pid);
}

#[test]
fn files_tell_random_bytes_from_other_input() {
    let of = |file| found(&parted(5, vec![unlike("read", Some(file), 4)]), None).cause;
    assert_eq!(of("/dev/urandom"), Cause::Random);
    assert_eq!(of("/etc/hosts"), Cause::Input);
}

#[test]
fn a_folder_with_other_files_is_not_one_in_another_order() {
    let of = |reordered| {
        let read = unlike("getdents64", None, 4);
        found(&parted(5, vec![Unlike { reordered, ..read }]), None).cause
    };
    assert_eq!(of(true), Cause::DirectoryOrder);
    assert_eq!(of(false), Cause::DirectoryContents);
}

#[test]
fn the_changed_condition_outweighs_all_answers() {
    let parting = parted(12, vec![unlike("clock_gettime", None, 12)]);
    assert_eq!(
        found(&parting, Some(Disturbance::Aslr)).cause,
        Cause::AddressHash
    );
    assert_eq!(
        found(&parting, Some(Disturbance::EnvLength)).cause,
        Cause::Environment
    );
    assert_eq!(found(&parting, Some(Disturbance::Load)).cause, Cause::Clock);
    let in_main = parted(5, Vec::new());
    assert_eq!(
        found(&in_main, Some(Disturbance::Aslr)).cause,
        Cause::Addresses
    );
}

#[test]
fn threads_signals_and_instructions_are_causes_of_their_own() {
    let threads = Parting {
        threads: 2,
        ..parted(5, Vec::new())
    };
    assert_eq!(found(&threads, None).cause, Cause::Threads);
    let signals = Parting {
        signals: true,
        ..parted(5, Vec::new())
    };
    assert_eq!(found(&signals, None).cause, Cause::Signal);
    let stamp = Parting {
        asked: vec![("rdtsc", place(4))],
        ..parted(5, Vec::new())
    };
    assert_eq!(found(&stamp, None).cause, Cause::Clock);
    assert_eq!(found(&parted(5, Vec::new()), None).cause, Cause::Unknown);
}

#[test]
fn code_of_the_c_library_is_shown_with_its_caller() {
    let found = found(&parted(105, Vec::new()), None);
    assert_eq!(found.called_by.unwrap().line.unwrap(), "prog.c:3");
    assert_eq!(found.at.function, "memcpy");
}

#[test]
fn one_answer_of_each_kind_and_asker_is_shown() {
    let answers = vec![
        unlike("read", None, 4),
        unlike("read", None, 5),
        unlike("read", None, 12),
    ];
    assert_eq!(found(&parted(5, answers), None).answers.len(), 2);
}
