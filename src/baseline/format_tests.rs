//! What a baseline file looks like, and what is said of a damaged one.

use proptest::prelude::*;

use super::*;

fn sample() -> Baseline {
    let mut functions = Functions::default();
    functions.add("sort", "main", 90).unwrap();
    functions.add("libc.so.6", "memcpy", 10).unwrap();
    let region = RegionCount {
        entries: 2,
        instructions: 60,
        opcodes: Some(OpcodeMix([("add".to_owned(), 60)].into())),
    };
    let case = StoredCase {
        fingerprint: Fingerprint {
            subject: [("sort".to_owned(), "sha256:ab".to_owned())].into(),
            environment: [("arch".to_owned(), "x86_64".to_owned())].into(),
            variables: [("PATH".to_owned(), "sha256:cd".to_owned())].into(),
        },
        metrics: [(Metric::Instructions, 100)].into(),
        opcodes: Some(OpcodeMix(
            [("add".to_owned(), 70), ("mov".to_owned(), 30)].into(),
        )),
        functions: Some(StoredFunctions {
            listed: functions,
            rest: Rest::default(),
        }),
        regions: Some([("parse".to_owned(), region)].into()),
    };
    Baseline {
        workload: "sort".to_owned(),
        backend: BackendKind::Callgrind,
        cases: [("sort[n=1]".to_owned(), case)].into(),
    }
}

fn read(text: &str) -> Result<Baseline, BaselineError> {
    parse(Path::new("b.json"), text, None)
}

fn words(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn reads_back_what_it_wrote() {
    let text = render(&sample()).unwrap();
    assert_eq!(read(&text).unwrap(), sample());
}

#[test]
fn is_sorted_with_one_number_a_line() {
    insta::assert_snapshot!(render(&sample()).unwrap(), @r#"
    {
      "backend": "callgrind",
      "cases": {
        "sort[n=1]": {
          "fingerprint": {
            "environment": {
              "arch": "x86_64"
            },
            "subject": {
              "sort": "sha256:ab"
            },
            "variables": {
              "PATH": "sha256:cd"
            }
          },
          "functions": {
            "listed": {
              "libc.so.6": {
                "memcpy": 10
              },
              "sort": {
                "main": 90
              }
            },
            "rest": {
              "functions": 0,
              "instructions": 0,
              "largest": 0
            }
          },
          "metrics": {
            "instructions": 100
          },
          "opcodes": {
            "add": 70,
            "mov": 30
          },
          "regions": {
            "parse": {
              "entries": 2,
              "instructions": 60,
              "opcodes": {
                "add": 60
              }
            }
          }
        }
      },
      "schema": 1,
      "workload": "sort"
    }
    "#);
}

#[test]
fn names_the_place_where_a_truncated_file_ends() {
    let text = render(&sample()).unwrap();
    let half = &text[..text.find("\"memcpy\"").unwrap() + 12];
    let lines = half.lines().count();
    assert!(
        words(half).starts_with(&format!("b.json:{lines}:")),
        "{}",
        words(half)
    );
    assert!(words(half).contains("restore the file from version control"));
    assert!(words("").starts_with("b.json:1:1: damaged baseline: EOF"));
}

#[test]
fn refuses_each_key_that_stands_twice() {
    let text = render(&sample()).unwrap();
    for line in ["\"add\": 70,", "\"schema\": 1,", "\"arch\": \"x86_64\""] {
        let separator = if line.ends_with(',') { "" } else { "," };
        let twice = text.replace(line, &format!("{line}{separator}\n{line}"));
        let words = words(&twice);
        assert!(
            words.contains("twice") || words.contains("duplicate field"),
            "{words}"
        );
    }
}

#[test]
fn names_the_first_marker_of_a_merge_conflict() {
    let text = render(&sample()).unwrap();
    let line = text.lines().position(|l| l.contains("\"mov\"")).unwrap() + 1;
    let mut lines: Vec<_> = text.lines().collect();
    lines.insert(line - 1, "<<<<<<< HEAD");
    let merged = lines.join("\n");
    assert!(
        words(&merged).starts_with(&format!("b.json:{line}:1: unresolved merge conflict")),
        "{}",
        words(&merged)
    );
}

#[test]
fn names_the_place_of_another_schema() {
    let text = render(&sample()).unwrap();
    let line = text.lines().position(|l| l.contains("\"schema\"")).unwrap() + 1;
    let newer = words(&text.replace("\"schema\": 1", "\"schema\": 2"));
    assert!(newer.starts_with(&format!("b.json:{line}:")), "{newer}");
    assert!(newer.contains("use a newer counterfoil"));
    let older = words(&text.replace("\"schema\": 1", "\"schema\": 0"));
    assert!(older.contains("older than any"), "{older}");
}

#[test]
fn a_newer_schema_is_said_even_when_the_rest_is_unknown() {
    assert!(words(r#"{"schema": 9, "cases": 7}"#).contains("baseline of schema 9"));
}

#[test]
fn names_the_place_of_another_backend() {
    let text = render(&sample()).unwrap();
    let error = parse(Path::new("b.json"), &text, Some(BackendKind::Step)).unwrap_err();
    let words = error.to_string();
    assert!(words.starts_with("b.json:2:"), "{words}");
    assert!(words.contains("baseline of backend `callgrind`, but the suite counts with `step`"));
}

#[test]
fn refuses_counts_that_a_merge_by_lines_mixed() {
    let text = render(&sample()).unwrap();
    let mixed = text.replace("\"mov\": 30", "\"mov\": 31");
    assert!(words(&mixed).contains("its opcodes sum to 101, its instructions are 100"));
}

#[test]
fn does_not_write_what_it_would_not_read() {
    let mut bad = sample();
    for case in bad.cases.values_mut() {
        case.metrics.insert(Metric::Instructions, 1);
    }
    let error = render(&bad).unwrap_err().to_string();
    assert!(error.contains("the baseline was not written"), "{error}");
}

#[test]
fn refuses_counts_that_are_not_whole_or_do_not_fit() {
    let text = render(&sample()).unwrap();
    for bad in ["-1", "1.5", "18446744073709551616", "\"7\"", "null"] {
        let words = words(&text.replace("\"mov\": 30", &format!("\"mov\": {bad}")));
        assert!(words.contains("invalid"), "{words}");
    }
    let huge = text.replace("\"mov\": 30", "\"mov\": 18446744073709551615");
    assert!(words(&huge).contains("does not fit in 64 bits"));
}

#[test]
fn ignores_fields_that_a_later_version_of_this_schema_added() {
    let text = render(&sample()).unwrap();
    let more = text.replace("\"schema\"", "\"note\": [1, {\"a\": null}],\n\"schema\"");
    assert_eq!(read(&more).unwrap(), sample());
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = read(&text);
    }

    #[test]
    fn no_damage_to_a_good_file_makes_the_reader_panic(
        at in any::<prop::sample::Index>(),
        cut in 0usize..40,
        put in ".{0,12}",
    ) {
        let text = render(&sample()).unwrap();
        let start = at.index(text.len());
        let end = (start + cut).min(text.len());
        let damaged = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Ok(baseline) = read(&damaged) {
            prop_assert!(read(&render(&baseline).unwrap()).is_ok());
        }
    }

    #[test]
    fn any_case_reads_back_as_it_was_written(
        counts in prop::collection::btree_map("[a-z\"\\\\ \u{e4}\n]{1,6}", 0u64..1 << 40, 1..20),
        id in any::<String>(),
    ) {
        let mut baseline = sample();
        let total = counts.values().sum();
        let functions = counts.iter().map(|(name, n)| crate::model::FunctionCount {
            module: name.clone(),
            function: name.clone(),
            instructions: *n,
        });
        let case = StoredCase {
            metrics: [(Metric::Instructions, total)].into(),
            functions: Some(StoredFunctions {
                listed: functions.collect(),
                rest: Rest::default(),
            }),
            opcodes: Some(OpcodeMix(counts)),
            ..StoredCase::default()
        };
        baseline.cases.insert(id.clone(), case.clone());
        let read = read(&render(&baseline).unwrap()).unwrap();
        prop_assert_eq!(&read.cases[&id], &case.trimmed().unwrap());
        prop_assert_eq!(render(&read).unwrap(), render(&baseline).unwrap());
    }
}
