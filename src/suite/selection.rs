//! Which cases of a suite a command is about.

use std::collections::BTreeSet;

use super::Case;

/// What the command line asks for. Nothing asked for is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Parts of case ids, or whole ones: a case must match one of them, if there are any. A filter
    /// that is exactly some case's id or some workload's name means only that one.
    pub filters: Vec<String>,
    /// Tags: a case must have one of them, if there are any.
    pub tags: Vec<String>,
    /// Parts of case ids, or `tag:NAME`: a case must match none of them.
    pub exclude: Vec<String>,
}

/// Why nothing is selected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectionError {
    /// No workload has this tag.
    #[error("no workload has the tag `{tag}`; {}", there_are("tags are", known))]
    UnknownTag {
        /// The tag asked for.
        tag: String,
        /// The tags there are.
        known: Vec<String>,
    },
    /// No case matches this filter.
    #[error("nothing matches `{filter}`; {}", there_are("workloads are", known))]
    NoMatch {
        /// The filter.
        filter: String,
        /// The workloads there are.
        known: Vec<String>,
    },
    /// Each part of the selection matches something, but nothing matches all of them.
    #[error(
        "nothing is left of the selection; {}; ask for less or exclude less",
        there_are("workloads are", known)
    )]
    Empty {
        /// The workloads there are.
        known: Vec<String>,
    },
}

fn there_are(what: &str, known: &[String]) -> String {
    if known.is_empty() {
        return "there are none".to_owned();
    }
    format!("the {what} {}", known.join(", "))
}

impl Selection {
    /// The cases selected, in their order. Every filter and tag must match something.
    pub fn pick<'c>(&self, cases: &'c [Case]) -> Result<Vec<&'c Case>, SelectionError> {
        for tag in self
            .tags
            .iter()
            .map(String::as_str)
            .chain(self.excluded_tags())
        {
            if !cases.iter().any(|case| has_tag(case, tag)) {
                return Err(SelectionError::UnknownTag {
                    tag: tag.to_owned(),
                    known: all(cases.iter().flat_map(|case| &case.tags)),
                });
            }
        }
        let names = self
            .exclude
            .iter()
            .filter(|exclude| tag_of(exclude).is_none());
        for filter in self.filters.iter().chain(names) {
            if !cases.iter().any(|case| case.id.contains(filter)) {
                return Err(SelectionError::NoMatch {
                    filter: filter.clone(),
                    known: workloads(cases),
                });
            }
        }
        let picked: Vec<_> = cases
            .iter()
            .filter(|case| self.wants(case, cases))
            .collect();
        if picked.is_empty() {
            let known = workloads(cases);
            return Err(SelectionError::Empty { known });
        }
        Ok(picked)
    }

    /// Whether everything is selected, whatever there is.
    pub fn is_everything(&self) -> bool {
        *self == Selection::default()
    }

    fn wants(&self, case: &Case, cases: &[Case]) -> bool {
        let named = self
            .filters
            .iter()
            .any(|filter| matches(filter, case, cases));
        let tagged = self.tags.iter().any(|tag| has_tag(case, tag));
        let excluded = self.exclude.iter().any(|exclude| match tag_of(exclude) {
            Some(tag) => has_tag(case, tag),
            None => case.id.contains(exclude),
        });
        (named || self.filters.is_empty()) && (tagged || self.tags.is_empty()) && !excluded
    }

    fn excluded_tags(&self) -> impl Iterator<Item = &str> {
        self.exclude.iter().filter_map(|exclude| tag_of(exclude))
    }
}

fn matches(filter: &str, case: &Case, cases: &[Case]) -> bool {
    let exactly = |case: &Case| case.id == filter || case.workload == filter;
    if cases.iter().any(exactly) {
        exactly(case)
    } else {
        case.id.contains(filter)
    }
}

fn tag_of(exclude: &str) -> Option<&str> {
    exclude.strip_prefix("tag:")
}

fn has_tag(case: &Case, tag: &str) -> bool {
    case.tags.iter().any(|other| other == tag)
}

fn workloads(cases: &[Case]) -> Vec<String> {
    all(cases.iter().map(|case| &case.workload))
}

/// Each name once, sorted.
fn all<'n>(names: impl Iterator<Item = &'n String>) -> Vec<String> {
    names
        .collect::<BTreeSet<_>>()
        .into_iter()
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Manifest;
    use super::*;

    fn cases() -> Vec<Case> {
        let text = r#"
            [[workload]]
            name = "sort"
            command = ["sort", "{n}"]
            params = { n = [1, 10] }
            tags = ["quick", "c"]
            [[workload]]
            name = "sort-big"
            command = "sort big"
            tags = ["slow"]
            [[workload]]
            name = "gzip"
            command = "gzip"
        "#;
        Manifest::parse(Path::new("counterfoil.toml"), text)
            .unwrap()
            .cases()
    }

    fn pick(filters: &[&str], tags: &[&str], exclude: &[&str]) -> Result<Vec<String>, String> {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let selection = Selection {
            filters: strings(filters),
            tags: strings(tags),
            exclude: strings(exclude),
        };
        let cases = cases();
        let picked = selection.pick(&cases).map_err(|error| error.to_string())?;
        Ok(picked.iter().map(|case| case.id.clone()).collect())
    }

    fn picked(ids: &[&str]) -> Result<Vec<String>, String> {
        Ok(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[test]
    fn nothing_asked_for_is_everything_in_order() {
        assert_eq!(
            pick(&[], &[], &[]),
            picked(&["sort[n=1]", "sort[n=10]", "sort-big", "gzip"])
        );
    }

    #[test]
    fn a_filter_is_a_part_of_the_id_unless_it_is_a_whole_name() {
        assert_eq!(
            pick(&["sor"], &[], &[]),
            picked(&["sort[n=1]", "sort[n=10]", "sort-big"])
        );
        assert_eq!(
            pick(&["sort"], &[], &[]),
            picked(&["sort[n=1]", "sort[n=10]"])
        );
        assert_eq!(pick(&["sort[n=1]"], &[], &[]), picked(&["sort[n=1]"]));
        assert_eq!(
            pick(&["zip", "big"], &[], &[]),
            picked(&["sort-big", "gzip"])
        );
    }

    #[test]
    fn tags_and_exclusions_narrow_it() {
        assert_eq!(
            pick(&[], &["slow", "c"], &[]),
            picked(&["sort[n=1]", "sort[n=10]", "sort-big"])
        );
        assert_eq!(pick(&[], &[], &["tag:c", "gz"]), picked(&["sort-big"]));
        assert_eq!(
            pick(&["sor"], &["quick"], &["n=10"]),
            picked(&["sort[n=1]"])
        );
    }

    #[test]
    fn what_selects_nothing_is_an_error_that_lists_what_there_is() {
        assert_eq!(
            pick(&[], &["fast"], &[]),
            Err("no workload has the tag `fast`; the tags are c, quick, slow".to_owned())
        );
        assert_eq!(
            pick(&["srot"], &[], &[]),
            Err("nothing matches `srot`; the workloads are gzip, sort, sort-big".to_owned())
        );
        assert!(pick(&[], &[], &["tag:none"]).is_err());
        assert!(
            pick(&["gzip"], &["slow"], &[])
                .unwrap_err()
                .contains("nothing is left")
        );
    }
}
