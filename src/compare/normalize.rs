//! Takes out of an output what differs from place to place and from time to time. Works on bytes.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::bytes::{NoExpand, Regex, RegexBuilder};

use crate::model::Normalize;

/// Where this run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The manifest's folder.
    pub project: PathBuf,
    /// The same as programs see it.
    pub shown: PathBuf,
    /// The temporary folder.
    pub temporary: PathBuf,
    /// The user's home, where there is one.
    pub home: Option<PathBuf>,
}

/// What a workload's outputs go through before they are compared or stored.
#[derive(Clone, Debug, Default)]
pub struct Normalizer {
    /// Paths with what stands in their stead, the longest first.
    paths: Vec<(Vec<u8>, &'static str)>,
    times: bool,
    replace: Vec<(Regex, Vec<u8>)>,
}

impl Normalizer {
    /// Gets ready. The manifest's reader has refused patterns that are none.
    pub fn new(normalize: &Normalize, places: &Places) -> Result<Normalizer, regex::Error> {
        let mut normalizer = Normalizer {
            times: normalize.times,
            ..Normalizer::default()
        };
        if normalize.paths {
            normalizer.paths = named(places);
        }
        for replacement in &normalize.replace {
            let regex = lines(&replacement.pattern)?;
            normalizer
                .replace
                .push((regex, replacement.with.clone().into_bytes()));
        }
        Ok(normalizer)
    }

    /// The output without what is to be left out.
    pub fn apply(&self, output: Vec<u8>) -> Vec<u8> {
        let mut output = output;
        for (path, name) in &self.paths {
            output = without_path(&output, path, name);
        }
        if self.times {
            for (regex, name) in TIMES.iter() {
                output = regex
                    .replace_all(&output, NoExpand(name.as_bytes()))
                    .into_owned();
            }
        }
        for (regex, with) in &self.replace {
            output = regex.replace_all(&output, with.as_slice()).into_owned();
        }
        output
    }
}

/// A pattern whose `^` and `$` are the ends of lines.
pub(super) fn lines(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).multi_line(true).build()
}

/// The places with their names, each also as it is behind symbolic links, the longest first.
fn named(places: &Places) -> Vec<(Vec<u8>, &'static str)> {
    let all = [
        (Some(&places.project), "<project>"),
        (Some(&places.shown), "<project>"),
        (Some(&places.temporary), "<tmp>"),
        (places.home.as_ref(), "<home>"),
    ];
    let mut named: Vec<(Vec<u8>, &'static str)> = Vec::new();
    for (path, name) in all
        .into_iter()
        .filter_map(|(path, name)| Some((path?, name)))
    {
        for path in [Some(path.clone()), path.canonicalize().ok()]
            .into_iter()
            .flatten()
        {
            let bytes = trimmed(&path);
            if !bytes.is_empty() && !named.iter().any(|(known, _)| *known == bytes) {
                named.push((bytes, name));
            }
        }
    }
    named.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    named
}

/// A path without slashes at its end; empty when it is the root folder or relative, which say nothing.
fn trimmed(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let end = bytes
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(0, |last| last + 1);
    match path.is_absolute() {
        true => bytes[..end].to_vec(),
        false => Vec::new(),
    }
}

/// Replaces `path` wherever it stands for itself: not in the middle of another path, and not at the beginning of a
/// longer name.
fn without_path(output: &[u8], path: &[u8], name: &str) -> Vec<u8> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte) || *byte >= 0x80;
    let mut result = Vec::with_capacity(output.len());
    let mut at = 0;
    while let Some(rest) = output.get(at..).filter(|rest| !rest.is_empty()) {
        let before = at.checked_sub(1).and_then(|before| output.get(before));
        let behind = rest.get(path.len()..).unwrap_or_default();
        let longer = match behind {
            [b'.', next, ..] => is_name(next),
            [next, ..] => is_name(next),
            [] => false,
        };
        let inside = before.is_some_and(|byte| is_name(byte) || b"./".contains(byte));
        if rest.starts_with(path) && !longer && !inside {
            result.extend(name.as_bytes());
            at += path.len();
        } else {
            result.push(rest[0]);
            at += 1;
        }
    }
    result
}

/// Times and what stands in their stead, in the order in which they are looked for.
static TIMES: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let date = r"[0-9]{4}-[01][0-9]-[0-3][0-9]";
    let clock = r"[0-2]?[0-9]:[0-5][0-9]:[0-5][0-9](?:[.,][0-9]+)?";
    let unit = r"(?:ns|us|µs|μs|ms|s|secs?|seconds?|mins?|minutes?|h|hours?)";
    let patterns = [
        // ISO 8601 and RFC 3339, with a blank for the `T`, and with or without seconds and zone.
        (
            format!(
                r"(?-u:\b){date}[T ][0-2][0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?(?:Z|[+-][0-2][0-9]:?[0-5][0-9])?"
            ),
            "<time>",
        ),
        (format!(r"(?-u:\b){date}(?-u:\b)"), "<date>"),
        (format!(r"(?-u:\b){clock}(?-u:\b)"), "<time>"),
        // 1h 2m 3.4s, 2m3s, 1.23s, 15 ms.
        (
            format!(r"(?-u:\b)(?:[0-9]+h ?)?(?:[0-9]+m ?)?[0-9]+(?:\.[0-9]+)? ?{unit}(?-u:\b)"),
            "<duration>",
        ),
    ];
    let compiled = patterns
        .iter()
        .map(|(pattern, name)| (lines(pattern).ok(), *name));
    // None is lost: a test looks for each.
    compiled
        .filter_map(|(regex, name)| Some((regex?, name)))
        .collect()
});

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Replacement;

    fn places() -> Places {
        Places {
            project: "/home/me/project".into(),
            shown: "/srv/project".into(),
            temporary: "/tmp".into(),
            home: Some("/home/me/".into()),
        }
    }

    fn normalized(normalize: &Normalize, text: &str) -> String {
        let normalizer = Normalizer::new(normalize, &places()).unwrap();
        String::from_utf8(normalizer.apply(text.into())).unwrap()
    }

    fn times(text: &str) -> String {
        let normalize = Normalize {
            times: true,
            ..Normalize::default()
        };
        normalized(&normalize, text)
    }

    fn paths(text: &str) -> String {
        let normalize = Normalize {
            paths: true,
            ..Normalize::default()
        };
        normalized(&normalize, text)
    }

    #[test]
    fn dates_times_and_durations_are_named() {
        assert_eq!(TIMES.len(), 4, "every pattern compiles");
        for (text, expected) in [
            ("at 2024-02-29T23:59:59Z.", "at <time>."),
            ("2024-02-29 23:59:59,123 INFO", "<time> INFO"),
            ("2024-02-29T23:59+02:00", "<time>"),
            ("on 2024-02-29", "on <date>"),
            ("12:34:56.789 and 1:02:03", "<time> and <time>"),
            (
                "took 1.23s, 15 ms, 3 seconds",
                "took <duration>, <duration>, <duration>",
            ),
            ("in 1h 2m 3.5s or 2m3s", "in <duration> or <duration>"),
        ] {
            assert_eq!(times(text), expected);
        }
    }

    #[test]
    fn what_only_looks_like_a_time_stays() {
        for text in [
            "1700000000",
            "10:20",
            "version 1.2.3",
            "64 KiB",
            "5 sheep",
            "x86s",
            "1234-56-78",
            "a12ms",
        ] {
            assert_eq!(times(text), text);
        }
    }

    #[test]
    fn the_longest_path_that_fits_is_named() {
        let text = "/home/me/project/a.py:3 /srv/project/b /home/me/x /tmp/y \"/tmp\" /home/me.";
        assert_eq!(
            paths(text),
            "<project>/a.py:3 <project>/b <home>/x <tmp>/y \"<tmp>\" <home>."
        );
    }

    #[test]
    fn a_path_inside_another_or_before_a_longer_name_stays() {
        for text in [
            "/var/tmp/x",
            "/tmpfs",
            "/tmp.old",
            "/home/me2",
            "./tmp",
            "/home/me-too",
        ] {
            assert_eq!(paths(text), text);
        }
    }

    #[test]
    fn patterns_come_last_and_in_order_with_their_groups() {
        let replace = |pattern: &str, with: &str| Replacement {
            pattern: pattern.to_owned(),
            with: with.to_owned(),
        };
        let normalize = Normalize {
            paths: true,
            times: true,
            replace: vec![
                replace("^pid ([0-9]+)$", "pid <$1>"),
                replace("<4[0-9]+>", "<pid>"),
            ],
        };
        let text = "pid 42\npid 7\n a pid 42\n/tmp 3s\n";
        assert_eq!(
            normalized(&normalize, text),
            "pid <pid>\npid <7>\n a pid 42\n<tmp> <duration>\n"
        );
    }

    #[test]
    fn bytes_that_are_no_text_pass_through() {
        let normalize = Normalize {
            paths: true,
            times: true,
            replace: Vec::new(),
        };
        let normalizer = Normalizer::new(&normalize, &places()).unwrap();
        assert_eq!(
            normalizer.apply(b"\xff\xfe 3s \x80/tmp".to_vec()),
            b"\xff\xfe <duration> \x80/tmp"
        );
    }

    proptest! {
        #[test]
        fn normalizing_twice_is_normalizing_once(text in "[-0-9:. TZhms/tmphoe\n]{0,60}") {
            let normalize = Normalize { paths: true, times: true, replace: Vec::new() };
            let once = normalized(&normalize, &text);
            prop_assert_eq!(normalized(&normalize, &once), once);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let normalize = Normalize { paths: true, times: true, replace: Vec::new() };
            Normalizer::new(&normalize, &places()).unwrap().apply(bytes);
        }
    }
}
