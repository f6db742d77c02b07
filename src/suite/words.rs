//! A command written as one string, cut into words like a POSIX shell does it, without any
//! expansion.

/// Why a string is no plain command.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WordError {
    /// A quote that is never closed.
    #[error("the quote {0} is never closed; close it, or write the command as an array of strings")]
    Unbalanced(char),
    /// A backslash at the very end.
    #[error("nothing follows the last backslash; write `\\\\` for a backslash")]
    Dangling,
    /// Something that only a shell could do.
    #[error(
        "`{0}` needs a shell, and none is used here; quote it, or write `[\"sh\", \"-c\", \"...\"]`"
    )]
    NeedsShell(char),
}

/// Cuts `text` into words. Quotes and backslashes work as in a POSIX shell (XCU 2.2); what only a
/// shell could do (pipes, redirections, substitutions) is an error, so that nothing is passed on by
/// mistake.
pub fn split(text: &str) -> Result<Vec<String>, WordError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => single_quoted(&mut chars, word.get_or_insert_default())?,
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => {
                let escaped = chars.next().ok_or(WordError::Dangling)?;
                if escaped != '\n' {
                    word.get_or_insert_default().push(escaped);
                }
            }
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' => {
                return Err(WordError::NeedsShell(c));
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn single_quoted(
    chars: &mut impl Iterator<Item = char>,
    word: &mut String,
) -> Result<(), WordError> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err(WordError::Unbalanced('\''))
}

fn double_quoted(
    chars: &mut impl Iterator<Item = char>,
    word: &mut String,
) -> Result<(), WordError> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            '$' | '`' => return Err(WordError::NeedsShell(c)),
            '\\' => match chars.next().ok_or(WordError::Unbalanced('"'))? {
                '\n' => {}
                escaped @ ('$' | '`' | '"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            _ => word.push(c),
        }
    }
    Err(WordError::Unbalanced('"'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts_words_as_a_shell_does() {
        let words = split(r#" sort -k '1 2'  "a \"b\" \n" c\ d ''x"" "" "#).unwrap();
        assert_eq!(words, ["sort", "-k", "1 2", "a \"b\" \\n", "c d", "x", ""]);
        assert_eq!(split(" \t\n").unwrap(), [""; 0]);
    }

    #[test]
    fn refuses_quotes_that_are_never_closed() {
        assert_eq!(split("a 'b"), Err(WordError::Unbalanced('\'')));
        assert_eq!(split("a \"b"), Err(WordError::Unbalanced('"')));
        assert_eq!(split("a \"b\\"), Err(WordError::Unbalanced('"')));
        assert_eq!(split("a\\"), Err(WordError::Dangling));
    }

    #[test]
    fn refuses_what_only_a_shell_could_do() {
        assert_eq!(split("a | b"), Err(WordError::NeedsShell('|')));
        assert_eq!(split("echo \"$HOME\""), Err(WordError::NeedsShell('$')));
        assert_eq!(split("echo '$HOME' \\$x").unwrap(), ["echo", "$HOME", "$x"]);
    }

    proptest! {
        #[test]
        fn quoted_words_come_back_whole(words in prop::collection::vec(any::<String>(), 0..6)) {
            let quote = |word: &String| format!("'{}'", word.replace('\'', r"'\''"));
            let line = words.iter().map(quote).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(split(&line).unwrap(), words);
        }
    }
}
