use std::collections::BTreeMap;

fn main() {
    let mut lengths = BTreeMap::new();
    for word in "the quick brown fox jumps over the lazy dog".split(' ') {
        lengths.entry(word.len()).or_insert_with(Vec::new).push(word);
    }
    println!("{lengths:?}");
    let caught = std::panic::catch_unwind(|| lengths[&99].len());
    println!("{}", caught.is_err());
}
