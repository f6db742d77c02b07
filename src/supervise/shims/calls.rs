//! The file in which shims note their calls. Pure: bytes in.

/// Numbers that stand for no answer in a note; `sys/answer/x86_64.s` writes them.
const NO_ANSWER: i32 = -1;
const FAILED: i32 = -2;
/// Bytes before the arguments.
const HEAD_BYTES: usize = 16;

/// One note of a shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Which of its answers it gave; absent when none fits; the errno when a step of the one before failed.
    pub answer: Option<Result<usize, i32>>,
    /// The arguments, the zeroth left out.
    pub args: Vec<Vec<u8>>,
}

/// The notes of a file; none when it ends in the middle of one.
pub fn parse(bytes: &[u8]) -> Option<Vec<Noted>> {
    let mut notes = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, behind) = rest.split_at_checked(HEAD_BYTES)?;
        let word = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap_or_default());
        let length = usize::try_from(word(8)).ok()?;
        let (args, behind) = behind.split_at_checked(length)?;
        let answer = match word(0) {
            NO_ANSWER => None,
            FAILED => Some(Err(word(12))),
            number => Some(Ok(usize::try_from(number).ok()?)),
        };
        let args = args.split_inclusive(|byte| *byte == 0);
        let args = args.map(|arg| arg.strip_suffix(b"\0").unwrap_or(arg).to_vec());
        notes.push(Noted {
            answer,
            args: args.collect(),
        });
        rest = behind;
    }
    Some(notes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_note_that_is_cut_off_is_no_note() {
        let note = [&[0u8; 8][..], &[3, 0, 0, 0], &[0; 4], b"ab\0"].concat();
        assert_eq!(parse(&note).unwrap()[0].args, [b"ab"]);
        assert_eq!(parse(&note[..18]), None);
        assert_eq!(parse(&note[..7]), None);
        assert_eq!(parse(b""), Some(Vec::new()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
