//! expect stdout="visited 65536 last 0\n"
//! Memory-intensive: follows one cycle through 65536 places of 64 bytes in a scattered order, four megabytes.

const PLACES: usize = 1 << 16;

#[derive(Clone)]
#[repr(align(64))]
struct Place {
    next: usize,
}

fn main() {
    // A full cycle: multiplier 4k + 1 and odd increment (Hull and Dobell, 1962).
    let next = |at: usize| (at * 20_077 + 12_345) % PLACES;
    let places: Vec<Place> = (0..PLACES).map(|at| Place { next: next(at) }).collect();
    let (mut at, mut visited) = (0, 0);
    loop {
        at = std::hint::black_box(&places)[at].next;
        visited += 1;
        if at == 0 {
            break;
        }
    }
    println!("visited {visited} last {at}");
}
