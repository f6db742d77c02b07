//! Text with `{name}` placeholders for parameters.

use std::collections::BTreeMap;

/// Text, cut into pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Parameter(String),
}

impl Template {
    /// Cuts `text`. `{name}` is a placeholder and `{{name}}` the text `{name}`; every other brace
    /// is itself.
    pub fn parse(text: &str) -> Self {
        let mut template = Template::default();
        let mut rest = text;
        while let Some((before, brace)) = rest.find('{').and_then(|at| rest.split_at_checked(at)) {
            template.text(before);
            rest = template.brace(brace);
        }
        template.text(rest);
        template
    }

    /// Takes what begins with a brace, and gives back what follows it.
    fn brace<'a>(&mut self, text: &'a str) -> &'a str {
        if let Some((name, rest)) = enclosed(text, "{{", "}}") {
            self.text("{");
            self.text(name);
            self.text("}");
            return rest;
        }
        if let Some((name, rest)) = enclosed(text, "{", "}") {
            self.pieces.push(Piece::Parameter(name.to_owned()));
            return rest;
        }
        let braces = if text.starts_with("{{") { "{{" } else { "{" };
        self.text(braces);
        text.strip_prefix(braces).unwrap_or_default()
    }

    fn text(&mut self, text: &str) {
        if let Some(Piece::Text(last)) = self.pieces.last_mut() {
            last.push_str(text);
        } else if !text.is_empty() {
            self.pieces.push(Piece::Text(text.to_owned()));
        }
    }

    /// The names of its placeholders.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Parameter(name) => Some(name.as_str()),
        })
    }

    /// The text with every placeholder filled in. The manifest's reader has refused unknown names.
    pub fn fill(&self, values: &BTreeMap<String, String>) -> String {
        let value = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Parameter(name) => values.get(name).cloned().unwrap_or_default(),
        };
        self.pieces.iter().map(value).collect()
    }
}

/// Whether `name` can be a parameter's name.
pub(super) fn is_name(name: &str) -> bool {
    let start = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(start)
        && name
            .chars()
            .all(|c| start(c) || c.is_ascii_digit() || c == '-')
}

/// The parameter's name between `open` and `close` at the beginning of `text`, and what follows.
fn enclosed<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let (name, rest) = text.strip_prefix(open)?.split_once(close)?;
    is_name(name).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str) -> String {
        let values = BTreeMap::from([("n".to_owned(), "10".to_owned())]);
        Template::parse(text).fill(&values)
    }

    #[test]
    fn fills_in_placeholders_and_leaves_other_braces() {
        assert_eq!(filled("a{n}b{n}"), "a10b10");
        assert_eq!(filled("{{n}} {{{n}}}"), "{n} {{10}}");
        assert_eq!(
            filled("awk '{print $1}' {\"a\": {n}} {"),
            "awk '{print $1}' {\"a\": 10} {"
        );
    }

    #[test]
    fn knows_its_parameters() {
        let template = Template::parse("{a} {{b}} {c-d} {1} {a}");
        let names: Vec<_> = template.parameters().collect();
        assert_eq!(names, ["a", "c-d", "a"]);
    }

    proptest! {
        #[test]
        fn text_without_names_in_braces_stays_itself(text in "[{} .,0-9\u{e4}]{0,20}") {
            prop_assert_eq!(filled(&text), text);
        }
    }
}
