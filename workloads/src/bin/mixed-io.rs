//! expect stdout="lines 2000 bytes 11662 sum 43852\n"
//! Mixed compute and I/O: writes numbers to a file of its own, reads them back, adds up their digits.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};

fn digits(text: &str) -> u64 {
    text.bytes().map(|digit| u64::from(digit - b'0')).sum()
}

fn main() -> io::Result<()> {
    // The name's length is that of any process id, so that it moves no count.
    let name = format!("counterfoil-mixed-io-{:010}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let mut file = BufWriter::new(File::create(&path)?);
    for number in 0..2000u64 {
        writeln!(file, "{}", number * number % 100_003)?;
    }
    file.into_inner()?.sync_all()?;
    let (mut lines, mut bytes, mut sum) = (0, 0, 0);
    for line in BufReader::new(File::open(&path)?).lines() {
        let line = line?;
        lines += 1;
        bytes += line.len() + 1;
        sum += digits(&line);
    }
    fs::remove_file(&path)?;
    println!("lines {lines} bytes {bytes} sum {sum}");
    Ok(())
}
