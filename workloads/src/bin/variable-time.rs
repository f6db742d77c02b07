//! expect stdout="items 3000 steps 215063 longest 216\n"
//! Items of variable time: how many steps each of 3000 numbers takes to reach 1 (Collatz).

fn steps(start: u64) -> u32 {
    let step = |number: &u64| match number {
        1 => None,
        even if even % 2 == 0 => Some(even / 2),
        odd => Some(3 * odd + 1),
    };
    std::iter::successors(Some(start), step)
        .skip(1)
        .map(|_| 1)
        .sum()
}

fn main() {
    let all: Vec<u32> = (1..=3000).map(steps).collect();
    let longest = all.iter().max().copied().unwrap_or_default();
    println!(
        "items {} steps {} longest {longest}",
        all.len(),
        all.iter().sum::<u32>()
    );
}
