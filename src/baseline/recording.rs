//! The file of a recorded shim: JSON with an answer for each call, its output line by line, so that it diffs.
//!
//! Pure: text in, answers out, and back.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BaselineError, Place};
use crate::model::{Answer, SCHEMA, Shim};

/// The file. Fields stand in the order of their names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    answers: Vec<Answer>,
    schema: u32,
    shim: String,
}

/// Reads the recording of shim `name`. Nothing in `text` makes it panic.
pub fn parse_recording(path: &Path, name: &str, text: &str) -> Result<Shim, BaselineError> {
    let damaged = |line, column, problem: String| BaselineError::Recording {
        place: Place::new(path, line, column),
        problem,
    };
    let file: File = serde_json::from_str(text).map_err(|error| {
        let words = error.to_string();
        let words = words
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
        damaged(error.line(), error.column(), words)
    })?;
    if file.schema != SCHEMA {
        return Err(damaged(
            1,
            1,
            format!(
                "schema {}, but this version reads schema {SCHEMA}",
                file.schema
            ),
        ));
    }
    if file.shim != name {
        return Err(damaged(1, 1, format!("it is about shim `{}`", file.shim)));
    }
    Ok(Shim {
        name: file.shim,
        recorded: true,
        answers: file.answers,
    })
}

/// The text of a recording, its last newline included.
pub fn render_recording(shim: &Shim) -> Result<String, BaselineError> {
    let file = File {
        answers: shim.answers.clone(),
        schema: SCHEMA,
        shim: shim.name.clone(),
    };
    let text = serde_json::to_string_pretty(&file);
    let text = text.map_err(|error| BaselineError::Inconsistent {
        case: shim.name.clone(),
        problem: error.to_string(),
    })?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Content;

    fn shim() -> Shim {
        let answer = Answer {
            args: Some(vec!["pip".to_owned(), "list".to_owned()]),
            stdout: Content(b"a 1\nb 2\n".to_vec()),
            exit: 3,
            files: [("out".to_owned(), Content(vec![0xff, 0]))].into(),
            ..Answer::default()
        };
        Shim {
            name: "uv".to_owned(),
            recorded: true,
            answers: vec![answer],
        }
    }

    fn parsed(text: &str) -> Result<Shim, String> {
        parse_recording(Path::new("uv.json"), "uv", text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_recording_is_written_line_by_line_and_read_again() {
        let text = render_recording(&shim()).unwrap();
        assert_eq!(parsed(&text), Ok(shim()));
        insta::assert_snapshot!(text, @r#"
        {
          "answers": [
            {
              "args": [
                "pip",
                "list"
              ],
              "stdout": [
                "a 1\n",
                "b 2\n"
              ],
              "exit": 3,
              "files": {
                "out": {
                  "hex": [
                    "ff00"
                  ]
                }
              }
            }
          ],
          "schema": 1,
          "shim": "uv"
        }
        "#);
    }

    #[test]
    fn a_recording_that_is_none_names_the_place_and_what_to_do() {
        let text = render_recording(&shim()).unwrap();
        let error = |text: &str| parsed(text).unwrap_err();
        let remedy = "; restore the file from version control, or run `counterfoil record`";
        for (text, start) in [
            (
                "{\n  \"answers\": [",
                "uv.json:2:14: damaged recording: EOF",
            ),
            (
                &text.replace("uv", "git"),
                "uv.json:1:1: damaged recording: it is about shim `git`",
            ),
            (
                &text.replace("\"schema\": 1", "\"schema\": 2"),
                "uv.json:1:1: damaged recording: schema 2",
            ),
            (
                &text.replace("exit", "exti"),
                "uv.json:12:12: damaged recording: unknown field `exti`",
            ),
        ] {
            let error = error(text);
            assert!(
                error.starts_with(start) && error.ends_with(remedy),
                "{error}"
            );
        }
    }
}
