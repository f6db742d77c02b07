//! expect stdout="primes 1229 sum 5736396\n"
//! CPU-intensive: the primes below 10000 by trial division, nothing allocated.

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn main() {
    let (count, sum) = (0..10_000u32)
        .filter(|number| is_prime(*number))
        .fold((0, 0), |(count, sum), prime| (count + 1, sum + prime));
    println!("primes {count} sum {sum}");
}
