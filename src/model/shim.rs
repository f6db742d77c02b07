//! What a shim, a fake program, answers when it is called.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One answer of a shim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The arguments that it is the answer to, the zeroth left out; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// What is written to standard output.
    #[serde(default, skip_serializing_if = "Content::is_empty")]
    pub stdout: Content,
    /// What is written to standard error.
    #[serde(default, skip_serializing_if = "Content::is_empty")]
    pub stderr: Content,
    /// The exit code.
    #[serde(default)]
    pub exit: u8,
    /// Files that are written, by path; a relative one starts from the folder of the caller.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Content>,
}

/// A fake program in front of `PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    /// The name it is called by.
    pub name: String,
    /// Whether the answers were recorded from the real program, and not written by hand.
    pub recorded: bool,
    /// Its answers; the first that fits is given.
    pub answers: Vec<Answer>,
}

/// Bytes, in files an array of their lines where they are text, so that a change of a line is one line of a diff.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content(pub Vec<u8>);

impl Content {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Bytes of a line of hexadecimal digits.
const HEX_LINE_BYTES: usize = 40;

/// Content in a file.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "an array of lines, or `{ \"hex\": [...] }` with lines of hexadecimal digits"
)]
enum Written {
    Lines(Vec<String>),
    Hex { hex: Vec<String> },
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits = |part: &[u8]| part.iter().map(|byte| format!("{byte:02x}")).collect();
        let written = match std::str::from_utf8(&self.0) {
            Ok(text) => Written::Lines(text.split_inclusive('\n').map(str::to_owned).collect()),
            Err(_) => Written::Hex {
                hex: self.0.chunks(HEX_LINE_BYTES).map(digits).collect(),
            },
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Lines(lines) => Ok(Content(lines.concat().into_bytes())),
            Written::Hex { hex } => {
                let bytes = hex
                    .iter()
                    .map(|line| bytes_of(line))
                    .collect::<Option<Vec<_>>>();
                let bytes = bytes.ok_or_else(|| {
                    serde::de::Error::custom("`hex` has something else than pairs of digits")
                });
                Ok(Content(bytes?.concat()))
            }
        }
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match pair {
        [a, b] => {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
            };
            Some(digit(*a)? << 4 | digit(*b)?)
        }
        _ => None,
    };
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_written_line_by_line() {
        let json = serde_json::to_string(&Content(b"a\n\nb".to_vec())).unwrap();
        assert_eq!(json, r#"["a\n","\n","b"]"#);
    }

    #[test]
    fn what_is_not_hexadecimal_is_refused() {
        for bad in [
            r#"{"hex":["0"]}"#,
            r#"{"hex":["zz"]}"#,
            r#"{"hex":["\u00e4"]}"#,
            "1",
        ] {
            assert!(serde_json::from_str::<Content>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_whole(bytes in prop::collection::vec(any::<u8>(), 0..200), text: String) {
            for content in [Content(bytes), Content(text.into_bytes())] {
                let json = serde_json::to_string(&content).unwrap();
                prop_assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
            }
        }
    }
}
