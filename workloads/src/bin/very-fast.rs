//! expect stdout="3\n"
//! A very fast function: a handful of instructions, called once. What counts here is what surrounds it.

#[inline(never)]
fn add(left: u64, right: u64) -> u64 {
    left + right
}

fn main() {
    println!("{}", std::hint::black_box(add)(1, 2));
}
