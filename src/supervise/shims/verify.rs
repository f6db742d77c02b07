//! Whether every call of a shim was answered, and none went past it. Pure.

use std::io;
use std::path::Path;

use super::ShimError;
use super::calls::Noted;
use crate::model::{Outcome, ProcessCount, Shim};

/// What a backend has seen of a run.
pub(super) struct Noticed<'a> {
    pub processes: &'a [ProcessCount],
    pub outcome: Outcome,
    /// The folder of the shims.
    pub bin: &'a Path,
}

/// How often `shim` was called, or what went wrong first.
pub(super) fn verify(
    shim: &Shim,
    notes: &[Noted],
    seen: &Noticed<'_>,
    lost: impl FnOnce(String) -> ShimError,
) -> Result<u64, ShimError> {
    let mut calls = 0;
    for note in notes {
        match note.answer {
            Some(Ok(_)) => calls += 1,
            Some(Err(errno)) => {
                return Err(ShimError::Failed {
                    shim: shim.name.clone(),
                    args: typed(&note.args),
                    source: io::Error::from_raw_os_error(errno),
                });
            }
            None => {
                return Err(ShimError::NoAnswer {
                    shim: shim.name.clone(),
                    args: typed(&note.args),
                    remedy: remedy(shim),
                });
            }
        }
    }
    if let Some(error) = bypass(shim, seen) {
        return Err(error);
    }
    let executed = executed(shim, seen);
    // One that was killed with the whole tree may not have got to noting anything.
    if executed > calls && seen.outcome != Outcome::TimedOut {
        return Err(lost(format!(
            "it was executed {executed} times, and noted {calls} calls"
        )));
    }
    Ok(calls)
}

fn remedy(shim: &Shim) -> String {
    match shim.recorded {
        true => "nobody recorded that call: run `counterfoil record`, which makes it for real"
            .to_owned(),
        false => format!(
            "add a `[[shim.{}.call]]` with these `args` to the manifest",
            shim.name
        ),
    }
}

/// How often the backend saw it executed.
pub(super) fn executed(shim: &Shim, seen: &Noticed<'_>) -> u64 {
    let ours = seen.bin.join(&shim.name);
    let begun = begun(seen.processes).filter(|program| Path::new(&program.program) == ours);
    begun.map(|_| 1).sum()
}

/// Rows that begin with an exec: a forked copy has its parent's program.
fn begun(processes: &[ProcessCount]) -> impl Iterator<Item = &ProcessCount> {
    let differs = |program: &&ProcessCount| {
        let parent = program.parent.and_then(|parent| processes.get(parent));
        program.replaces || parent.is_none_or(|parent| parent.program != program.program)
    };
    processes.iter().filter(differs)
}

/// A program of the shim's name that was executed and is not the shim.
fn bypass(shim: &Shim, seen: &Noticed<'_>) -> Option<ShimError> {
    let is_it = |program: &&ProcessCount| {
        let path = Path::new(&program.program);
        path.file_name()
            .is_some_and(|name| name == shim.name.as_str())
            && !path.starts_with(seen.bin)
    };
    let program = seen.processes.iter().find(is_it)?;
    let parent = program.parent.and_then(|parent| seen.processes.get(parent));
    Some(ShimError::Bypassed {
        shim: shim.name.clone(),
        path: program.program.clone(),
        by: parent.map_or_else(String::new, |parent| format!(" by `{}`", parent.program)),
    })
}

/// Arguments as one could type them.
pub(super) fn typed(args: &[Vec<u8>]) -> String {
    if args.is_empty() {
        return "(none)".to_owned();
    }
    let plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,".contains(c);
    let word = |arg: &Vec<u8>| {
        let text = String::from_utf8_lossy(arg);
        match !text.is_empty() && text.chars().all(plain) {
            true => text.into_owned(),
            false => format!("'{}'", text.replace('\'', r"'\''")),
        }
    };
    let words: Vec<_> = args.iter().map(word).collect();
    format!("`{}`", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shim(recorded: bool) -> Shim {
        Shim {
            name: "uv".to_owned(),
            recorded,
            answers: Vec::new(),
        }
    }

    fn program(parent: Option<usize>, path: &str, replaces: bool) -> ProcessCount {
        ProcessCount {
            index: 0,
            parent,
            program: path.to_owned(),
            replaces,
            instructions: None,
        }
    }

    fn noted(answer: Option<Result<usize, i32>>) -> Noted {
        Noted {
            answer,
            args: vec![b"pip".to_vec(), b"a b".to_vec()],
        }
    }

    fn verified(
        recorded: bool,
        notes: &[Noted],
        processes: &[ProcessCount],
    ) -> Result<u64, String> {
        let seen = Noticed {
            processes,
            outcome: Outcome::Exited(0),
            bin: Path::new("/t/bin"),
        };
        let lost = |lost| ShimError::Lost {
            shim: "uv".to_owned(),
            lost,
            folder: "/t".into(),
        };
        verify(&shim(recorded), notes, &seen, lost).map_err(|error| error.to_string())
    }

    #[test]
    fn answered_calls_are_counted_and_held_against_what_was_executed() {
        let shell = program(None, "/bin/sh", false);
        let copy = program(Some(0), "/bin/sh", false);
        let called = program(Some(1), "/t/bin/uv", true);
        let tree = [shell, copy, called];
        assert_eq!(verified(false, &[noted(Some(Ok(0)))], &tree), Ok(1));
        let lost = verified(false, &[], &tree).unwrap_err();
        assert!(
            lost.contains("executed 1 times, and noted 0 calls"),
            "{lost}"
        );
        let unseen = verified(false, &[noted(Some(Ok(0)))], &tree[..1]);
        assert_eq!(unseen, Ok(1));
    }

    #[test]
    fn a_call_without_an_answer_names_arguments_and_remedy() {
        let of = |recorded| verified(recorded, &[noted(None)], &[]).unwrap_err();
        assert!(of(true).contains(
            "arguments `pip 'a b'`; nobody recorded that call: run `counterfoil record`"
        ));
        assert!(of(false).contains("add a `[[shim.uv.call]]` with these `args`"));
    }

    #[test]
    fn a_program_of_the_name_that_is_not_the_shim_names_path_and_caller() {
        let tree = [
            program(None, "/bin/sh", false),
            program(Some(0), "/opt/uv", true),
        ];
        let error = verified(false, &[], &tree).unwrap_err();
        let start = "`/opt/uv` was executed by `/bin/sh`, past the shim `uv`";
        assert!(error.starts_with(start), "{error}");
    }

    #[test]
    fn an_answer_that_could_not_be_given_says_why() {
        let error = verified(false, &[noted(Some(Ok(0))), noted(Some(Err(28)))], &[]).unwrap_err();
        assert!(error.contains("No space left on device"), "{error}");
    }
}
