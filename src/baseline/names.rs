//! File names from case ids: safe on every file system, and never two cases in one file.

use sha2::{Digest, Sha256};

/// Longer names are cut and told apart by a hash. File systems allow 255 bytes; suffixes follow.
const LONGEST_BYTES: usize = 80;

/// `text` as a part of a file name: itself where it is short and made of small letters, digits and
/// `._=,-`; otherwise what can be kept of it and the first 64 bits of its SHA-256.
///
/// Capital letters count as unsafe, because some file systems take `a` and `A` for the same name.
pub(super) fn file_name(text: &str) -> String {
    let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=,-".contains(c);
    let kept: String = text
        .chars()
        .map(|c| if safe(c) { c } else { '_' })
        .take(LONGEST_BYTES)
        .collect();
    if kept == text && !kept.starts_with('.') {
        return kept;
    }
    let digest = Sha256::digest(text.as_bytes());
    let hash: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}+{hash}", kept.trim_start_matches('.'))
}

/// The parameters in a case id: `n=1000` of `sort[n=1000]`; absent when it has none.
pub(super) fn parameters<'a>(workload: &str, case: &'a str) -> Option<&'a str> {
    case.strip_prefix(workload)?
        .strip_prefix('[')?
        .strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_name_stays_as_it_is() {
        assert_eq!(file_name("n=1000,mode=fast"), "n=1000,mode=fast");
    }

    #[test]
    fn what_no_file_system_takes_is_replaced_and_still_told_apart() {
        let names: Vec<_> = ["a/b", "a_b", "a:b", "A_b", "..", ".", "", "ä"]
            .map(file_name)
            .into();
        for (i, name) in names.iter().enumerate() {
            assert!(name.is_ascii() && !name.contains('/') && !name.starts_with('.'));
            assert!(
                names[..i]
                    .iter()
                    .all(|other| !other.eq_ignore_ascii_case(name)),
                "{name} in {names:?}"
            );
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        assert!(file_name(&"x".repeat(10_000)).len() < 120);
        assert_ne!(file_name(&"x".repeat(81)), file_name(&"x".repeat(82)));
    }

    #[test]
    fn parameters_are_what_stands_in_the_brackets() {
        assert_eq!(parameters("sort", "sort[n=1]"), Some("n=1"));
        assert_eq!(parameters("sort", "sort"), None);
        assert_eq!(parameters("sort", "sorted[n=1]"), None);
    }
}
