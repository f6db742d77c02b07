//! What getdents64(2) gives: entries of a directory, one behind the other.
//!
//! Pure over bytes. Layout: `struct linux_dirent64` of getdents64(2).

/// Where an entry has its offset, by which the next call goes on, its length and its name.
const OFFSET: usize = 8;
const LENGTH: usize = 16;
const NAME: usize = 19;

/// The entries that are whole, and what is behind them.
pub fn entries(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut entries = Vec::new();
    let mut rest = bytes;
    while let Some((entry, behind)) = first(rest) {
        entries.push(entry);
        rest = behind;
    }
    (entries, rest)
}

fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = bytes.get(LENGTH..LENGTH + 2)?.try_into().ok()?;
    let length = usize::from(u16::from_ne_bytes(length));
    bytes.split_at_checked(length).filter(|_| length > NAME)
}

/// The name of an entry.
pub fn name(entry: &[u8]) -> &[u8] {
    let name = entry[NAME..].split(|byte| *byte == 0).next();
    name.unwrap_or_default()
}

/// Entries in order of their names, if all are whole. Offsets stay where they are.
pub fn sorted(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut parts, rest) = entries(bytes);
    if !rest.is_empty() {
        return None;
    }
    let offsets: Vec<&[u8]> = parts.iter().map(|part| &part[OFFSET..LENGTH]).collect();
    parts.sort_by_key(|part| name(part));
    let mut sorted = Vec::with_capacity(bytes.len());
    for (part, offset) in parts.iter().zip(offsets) {
        let start = sorted.len();
        sorted.extend_from_slice(part);
        sorted[start + OFFSET..start + LENGTH].copy_from_slice(offset);
    }
    Some(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, offset: u64) -> Vec<u8> {
        let length = (19 + name.len() + 1).next_multiple_of(8);
        let mut bytes = vec![0; length];
        bytes[8..16].copy_from_slice(&offset.to_ne_bytes());
        bytes[16..18].copy_from_slice(&(length as u16).to_ne_bytes());
        bytes[19..19 + name.len()].copy_from_slice(name.as_bytes());
        bytes
    }

    #[test]
    fn a_directory_is_in_order_of_names_and_goes_on_where_it_did() {
        let given = [
            entry("zebra", 5),
            entry("a-much-longer-name", 9),
            entry("b", 12),
        ]
        .concat();
        let expected = [
            entry("a-much-longer-name", 5),
            entry("b", 9),
            entry("zebra", 12),
        ]
        .concat();
        assert_eq!(sorted(&given), Some(expected));
        assert_eq!(sorted(&given[..30]), None);
        assert_eq!(sorted(&[]), Some(Vec::new()));
    }
}
