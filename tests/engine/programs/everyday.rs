// A Rust program: threads over channels, a panic caught and one in a thread, hash maps, formatted floats.
// prints: sum 499500 caught oops joined true words 3 pi 3.14159
// build dynamic: rustc -O
use std::collections::HashMap;
use std::sync::mpsc;
use std::{panic, thread};

fn main() {
    panic::set_hook(Box::new(|_| {}));
    let (sender, receiver) = mpsc::channel();
    for part in 0..10u64 {
        let sender = sender.clone();
        thread::spawn(move || sender.send((part * 100..(part + 1) * 100).sum::<u64>()).unwrap());
    }
    drop(sender);
    let sum: u64 = receiver.iter().sum();
    let caught = panic::catch_unwind(|| panic!("oops")).unwrap_err();
    let joined = thread::spawn(|| panic!("in a thread")).join().is_err();
    let mut words = HashMap::new();
    for word in "one two three two one".split(' ') {
        *words.entry(word).or_insert(0) += 1;
    }
    println!(
        "sum {sum} caught {} joined {joined} words {} pi {:.5}",
        caught.downcast_ref::<&str>().unwrap(),
        words.len(),
        std::f64::consts::PI
    );
}
