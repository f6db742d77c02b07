//! The parameters of a workload as the manifest has them, and the placeholders that use them.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::params::{self, Matrix};
use super::reader::{Reader, Value, as_i64, in_order, nearest};
use super::template::{Template, is_name};

/// The parameters of a workload, and which of them some placeholder uses.
pub(super) struct Placeholders<'m> {
    matrix: &'m Matrix,
    used: BTreeSet<String>,
    of_a_service: bool,
}

impl<'m> Placeholders<'m> {
    pub fn new(matrix: &'m Matrix) -> Self {
        Placeholders {
            matrix,
            used: BTreeSet::new(),
            of_a_service: false,
        }
    }

    /// Those of a service: its port, where it has one.
    pub fn of_a_service(matrix: &'m Matrix) -> Self {
        Placeholders {
            of_a_service: true,
            ..Placeholders::new(matrix)
        }
    }

    /// Text with placeholders, each of which must be a parameter.
    pub fn template(&mut self, r: &mut Reader<'_>, value: &Value<'_>, text: &str) -> Template {
        let template = Template::parse(text);
        for name in template.parameters() {
            if self.matrix.iter().any(|(known, _)| known == name) {
                self.used.insert(name.to_owned());
                continue;
            }
            let known: Vec<&str> = self
                .matrix
                .iter()
                .map(|(known, _)| known.as_str())
                .collect();
            let hint = match nearest(name, &known) {
                Some(near) => format!("did you mean `{{{near}}}`?"),
                None if self.of_a_service => format!(
                    "a service has `{{port}}`, where `ready` names one; write `{{{{{name}}}}}` for the text itself"
                ),
                None => format!(
                    "add `{name} = [...]` to `params`, or write `{{{{{name}}}}}` for the text itself"
                ),
            };
            r.problem(
                value.span().start,
                format!("unknown parameter `{{{name}}}`; {hint}"),
            );
        }
        template
    }

    pub fn path(&mut self, r: &mut Reader<'_>, key: &str, value: &Value<'_>) -> Option<Template> {
        let text = r.string(key, value, "a path as a string")?;
        Some(self.template(r, value, text))
    }

    pub fn paths<'t>(&mut self, r: &mut Reader<'t>, key: &str, value: &Value<'t>) -> Vec<Template> {
        let paths = r.array(key, value, "an array of paths").unwrap_or_default();
        paths
            .iter()
            .filter_map(|value| self.path(r, key, value))
            .collect()
    }
}

/// Reads `params`.
pub(super) fn matrix<'t>(r: &mut Reader<'t>, value: &Value<'t>) -> Matrix {
    let mut matrix = Matrix::new();
    let Some(table) = r.table("params", value, "a table, such as `{ n = [10, 1000] }`") else {
        return matrix;
    };
    for (key, value) in in_order(table) {
        let name: &str = key.get_ref();
        if !is_name(name) {
            r.problem(
                key.span().start,
                format!("`{}` cannot be a parameter's name; use letters, digits, `_` and `-`, beginning with a letter or `_`", name.escape_debug()),
            );
            continue;
        }
        let wanted = format!("an array of values, such as `{name} = [10, 1000]`");
        let values = r.array(name, value, &wanted).unwrap_or_default();
        if values.is_empty() && value.get_ref().is_array() {
            r.problem(
                value.span().start,
                format!("parameter `{name}` has no value; write {wanted}, or remove it"),
            );
        }
        let mut texts: Vec<String> = Vec::new();
        for value in values {
            let Some(text) = parameter(r, name, value) else {
                continue;
            };
            if texts.contains(&text) {
                r.problem(
                    value.span().start,
                    format!("parameter `{name}` has the value `{text}` twice; remove one"),
                );
                continue;
            }
            texts.push(text);
        }
        matrix.push((name.to_owned(), texts));
    }
    matrix
}

/// A parameter's value as it is written into the command: integers in decimal, floats as in the
/// manifest.
pub(super) fn parameter(r: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Option<String> {
    match value.get_ref() {
        DeValue::Integer(integer) => {
            let number = as_i64(integer).map(|number| number.to_string());
            if number.is_none() {
                let message = format!("`{name}` does not fit in 64 bits; write it as a string");
                r.problem(value.span().start, message);
            }
            number
        }
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        _ => r
            .any_string(name, value, "strings, integers, floats or booleans")
            .map(str::to_owned),
    }
}

/// Holds the parameters of the workload `name` against their use: each must be used, no two sets must
/// have one id, and there must not be too many of them.
pub(super) fn check(r: &mut Reader<'_>, params: &Value<'_>, name: &str, p: &Placeholders<'_>) {
    check_used(r, params, p.matrix, &p.used);
    check_sets(r, params, name, p.matrix);
}

/// A parameter that nothing uses would count the same thing again and again.
fn check_used(r: &mut Reader<'_>, params: &Value<'_>, matrix: &Matrix, used: &BTreeSet<String>) {
    for (name, _) in matrix.iter().filter(|(name, _)| !used.contains(name)) {
        let table = params.get_ref().as_table();
        let key = table.and_then(|table| table.keys().find(|key| key.get_ref() == name));
        let at = key.map_or(params.span().start, |key| key.span().start);
        r.problem(
            at,
            format!("parameter `{name}` is not used; write `{{{name}}}` where its value belongs (in `command`, `stdin`, `env`, `cwd` or files), or remove it"),
        );
    }
}

/// Two sets of parameters must not have one id, and there must not be too many of them.
fn check_sets(r: &mut Reader<'_>, params: &Value<'_>, workload: &str, matrix: &Matrix) {
    let at = params.span().start;
    if params::cases(matrix).is_none() {
        let most = params::MOST_CASES;
        r.problem(
            at,
            format!("these parameters make more than {most} cases; remove some values"),
        );
        return;
    }
    let mut ids = BTreeSet::new();
    for row in params::product(matrix) {
        let id = params::case_id(workload, &row);
        if !ids.insert(id.clone()) {
            r.problem(
                at,
                format!(
                    "duplicate parameter set: two cases would be called `{id}`; change a value"
                ),
            );
        }
    }
}
