//! Reads `cachegrind.out` files (Valgrind manual, "Cachegrind file format").
//!
//! Only the total is taken, and it is only believed when the lines add up to it. Pure over bytes.

use std::io::BufRead;

use super::format::{
    FormatError, Lines, Problem, cost, header, instruction_column, number, shown, words,
};
use crate::model::CountOverflow;

/// Instructions that a file counts: its `summary:`, which its lines sum to.
pub fn read_total(reader: impl BufRead) -> Result<u64, FormatError> {
    let mut lines = Lines::new(reader);
    let mut file = File::default();
    while let Some(line) = lines.next()? {
        let taken = file.take(line);
        taken.map_err(|problem| lines.error(problem))?;
    }
    file.total().map_err(|problem| lines.error(problem))
}

/// What has been read so far.
#[derive(Default)]
struct File {
    column: Option<usize>,
    sum: u64,
    summary: Option<u64>,
}

impl File {
    fn take(&mut self, line: &[u8]) -> Result<(), Problem> {
        match line {
            [] => Ok(()),
            [b'0'..=b'9', ..] => self.take_cost(line),
            [b'f', b'l' | b'n' | b'i' | b'e', b'=', ..] | [b'#', ..] => Ok(()),
            _ => self.take_header(line),
        }
    }

    /// `LINE COST COST ...`
    fn take_cost(&mut self, line: &[u8]) -> Result<(), Problem> {
        let column = self.column.ok_or(Problem::CostBeforeEvents)?;
        let mut columns = words(line);
        columns.next().map(number).transpose()?;
        let cost = cost(columns, column)?;
        self.sum = self.sum.checked_add(cost).ok_or(CountOverflow)?;
        Ok(())
    }

    fn take_header(&mut self, line: &[u8]) -> Result<(), Problem> {
        let (key, value) = header(line).ok_or_else(|| Problem::Unknown(shown(line)))?;
        match key {
            b"events" => self.column = Some(instruction_column(value)?),
            b"summary" => {
                let column = self.column.ok_or(Problem::CostBeforeEvents)?;
                self.summary = Some(cost(words(value), column)?);
            }
            b"desc" | b"cmd" | b"version" | b"creator" | b"pid" => {}
            _ => return Err(Problem::Unknown(shown(line))),
        }
        Ok(())
    }

    fn total(&self) -> Result<u64, Problem> {
        let stated = self.summary.ok_or(Problem::Truncated)?;
        if stated == self.sum {
            Ok(stated)
        } else {
            Err(Problem::Sum {
                lines: self.sum,
                stated,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: &str = "desc: I1 cache: 1 B\ncmd: ./a b\nevents: Ir\nfl=a.c\nfn=main\n\
                         3 10\n4 5\nfl=???\nfn=(below main)\n0 2\nsummary: 17\n";

    fn problem(text: &str) -> String {
        read_total(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn reads_the_total_that_the_lines_sum_to() {
        assert_eq!(read_total(SMALL.as_bytes()).unwrap(), 17);
    }

    #[test]
    fn takes_the_instruction_column_among_others() {
        let text = "events: Dr Ir\nfl=a\nfn=b\n1 9 4\n2 7\nsummary: 16 4\n";
        assert_eq!(read_total(text.as_bytes()).unwrap(), 4);
    }

    #[test]
    fn a_total_that_the_lines_do_not_sum_to_is_an_error() {
        let text = SMALL.replace("4 5", "4 6");
        assert_eq!(
            problem(&text),
            "line 12: the lines sum to 18, but the file says 17"
        );
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let cut = SMALL.find("summary").unwrap();
        assert_eq!(
            problem(&SMALL[..cut]),
            "line 11: the file ends without its total"
        );
        assert_eq!(problem(""), "line 1: the file ends without its total");
    }

    #[test]
    fn damaged_lines_are_named() {
        assert_eq!(problem("events: Ir\n1 x\n"), "line 2: `x` is not a number");
        assert_eq!(problem("1 1\n"), "line 1: a cost before `events:`");
        assert_eq!(problem("events: Dr\n"), "line 1: there is no event `Ir`");
        assert_eq!(
            problem("hello\n"),
            "line 1: `hello` is not a line of this format"
        );
        let full = format!("events: Ir\n1 {}\n2 1\n", u64::MAX);
        assert!(problem(&full).starts_with("line 3: a sum of counts"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read_total(bytes.as_slice());
        }

        #[test]
        fn any_counts_come_back(counts in proptest::collection::vec(0u64..1 << 40, 0..50)) {
            let mut text = "events: Ir\nfl=f\nfn=g\n".to_owned();
            for (line, count) in counts.iter().enumerate() {
                text += &format!("{line} {count}\n");
            }
            let total: u64 = counts.iter().sum();
            text += &format!("summary: {total}\n");
            prop_assert_eq!(read_total(text.as_bytes()).unwrap(), total);
        }
    }
}
