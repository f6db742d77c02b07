//! Reads `callgrind.out` files with instruction addresses (Valgrind manual, "Callgrind Format Specification").
//!
//! A file is one or more parts (`--combine-dumps=yes`, client requests, `callgrind_control`), each with its own
//! trigger and total. Only what each instruction cost itself is taken; calls and jumps are read over. A part
//! is only believed when its lines add up to its total. Pure over bytes.

use std::collections::HashMap;
use std::io::BufRead;

use super::format::{
    FormatError, Lines, Problem, cost, header, instruction_column, number, shown, words,
};
use crate::model::CountOverflow;

/// The name callgrind gives to code that no file it knows holds.
pub const NO_OBJECT: &str = "???";

/// What was counted between two dumps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What made callgrind write it: "Program termination", "Client Request: LABEL".
    pub trigger: String,
    /// Executions by object, then by address: as stated in the object's file, or as in the process for
    /// [`NO_OBJECT`].
    pub objects: HashMap<String, HashMap<u64, u64>>,
    /// The sum of all executions.
    pub total: u64,
}

/// The parts of a file, in the order in which they were written.
pub fn read_parts(reader: impl BufRead) -> Result<Vec<Part>, FormatError> {
    let mut lines = Lines::new(reader);
    let mut file = File::default();
    while let Some(line) = lines.next()? {
        let taken = file.take(line);
        taken.map_err(|problem| lines.error(problem))?;
    }
    file.finish().map_err(|problem| lines.error(problem))
}

/// What the next line of positions and costs is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expect {
    /// A cost of the instruction itself.
    #[default]
    Own,
    /// The inclusive cost of a call, or the place of a jump: not of the instruction itself.
    Foreign,
}

/// What has been read so far.
#[derive(Default)]
struct File {
    parts: Vec<Part>,
    /// The part being read, from its first header to its totals.
    part: Option<Part>,
    /// Objects' names by abbreviation.
    names: HashMap<u64, String>,
    /// Executions of the object being read, until the next `ob=`.
    object: String,
    counts: HashMap<u64, u64>,
    /// Number of positions before the costs, and which of the costs is `Ir`.
    positions: usize,
    column: Option<usize>,
    /// The address of the last line with positions.
    address: u64,
    expect: Expect,
    sum: u64,
    stated: Option<u64>,
}

impl File {
    fn take(&mut self, line: &[u8]) -> Result<(), Problem> {
        match line {
            [] | [b'#', ..] => Ok(()),
            [b'0'..=b'9' | b'+' | b'-' | b'*', ..] => self.take_cost(line),
            [b'o', b'b', b'=', name @ ..] => self.take_object(name),
            [b'c', b'o', b'b', b'=', name @ ..] => self.name(name).map(drop),
            [b'f', b'l' | b'n' | b'i' | b'e', b'=', ..]
            | [b'c', b'f', b'l' | b'n' | b'i' | b'e', b'=', ..] => Ok(()),
            [b'c', b'a', b'l', b'l', b's', b'=', ..]
            | [b'j', b'u', b'm', b'p', b'=', ..]
            | [b'j', b'c', b'n', b'd', b'=', ..] => {
                self.expect = Expect::Foreign;
                Ok(())
            }
            _ => self.take_header(line),
        }
    }

    /// `ADDRESS [LINE] COST ...`
    fn take_cost(&mut self, line: &[u8]) -> Result<(), Problem> {
        let column = self.column.ok_or(Problem::CostBeforeEvents)?;
        let mut columns = words(line);
        let position = columns.next().unwrap_or(line);
        self.address = moved(self.address, position)?;
        if std::mem::take(&mut self.expect) == Expect::Foreign {
            return Ok(());
        }
        let others = self.positions.saturating_sub(1);
        let cost = cost(columns.skip(others), column)?;
        let slot = self.counts.entry(self.address).or_default();
        *slot = slot.checked_add(cost).ok_or(CountOverflow)?;
        self.sum = self.sum.checked_add(cost).ok_or(CountOverflow)?;
        Ok(())
    }

    fn take_object(&mut self, name: &[u8]) -> Result<(), Problem> {
        let name = self.name(name)?;
        self.close_object()?;
        self.object = name;
        Ok(())
    }

    /// Moves the counts of the object being read into the part.
    fn close_object(&mut self) -> Result<(), Problem> {
        if self.counts.is_empty() {
            return Ok(());
        }
        let name = if self.object.is_empty() {
            NO_OBJECT
        } else {
            &self.object
        };
        let part = self.part.get_or_insert_default();
        let into = part.objects.entry(name.to_owned()).or_default();
        for (address, count) in self.counts.drain() {
            let slot = into.entry(address).or_default();
            *slot = slot.checked_add(count).ok_or(CountOverflow)?;
        }
        Ok(())
    }

    /// `NAME`, `(ID) NAME` or `(ID)`.
    fn name(&mut self, text: &[u8]) -> Result<String, Problem> {
        let full = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(rest) = text.strip_prefix(b"(") else {
            return Ok(full(text));
        };
        let close = rest.iter().position(|byte| *byte == b')');
        let (id, name) = close
            .and_then(|at| rest.split_at_checked(at))
            .ok_or_else(|| Problem::Unknown(shown(text)))?;
        let id = number(id)?;
        match name.strip_prefix(b")").unwrap_or(name).trim_ascii() {
            [] => self.names.get(&id).cloned().ok_or(Problem::Name(id)),
            name => {
                self.names.insert(id, full(name));
                Ok(full(name))
            }
        }
    }

    fn take_header(&mut self, line: &[u8]) -> Result<(), Problem> {
        let (key, value) = header(line).ok_or_else(|| Problem::Unknown(shown(line)))?;
        match key {
            b"part" => self.begin_part()?,
            b"desc" => {
                if let Some(trigger) = value.strip_prefix(b"Trigger:") {
                    let text = String::from_utf8_lossy(trigger.trim_ascii()).into_owned();
                    self.part.get_or_insert_default().trigger = text;
                }
            }
            b"positions" => self.positions = words(value).count(),
            b"events" => self.column = Some(instruction_column(value)?),
            b"summary" | b"totals" => self.take_total(value, key == b"totals")?,
            b"version" | b"creator" | b"pid" | b"cmd" | b"thread" | b"event" | b"rcmd" => {}
            _ => return Err(Problem::Unknown(shown(line))),
        }
        Ok(())
    }

    /// `summary:` stands before a part's lines, `totals:` behind them.
    fn take_total(&mut self, value: &[u8], last: bool) -> Result<(), Problem> {
        let column = self.column.ok_or(Problem::CostBeforeEvents)?;
        let stated = cost(words(value), column)?;
        match self.stated {
            Some(before) if before != stated => {
                return Err(Problem::Sum {
                    lines: before,
                    stated,
                });
            }
            _ => self.stated = Some(stated),
        }
        if last {
            self.end_part()?;
        }
        Ok(())
    }

    fn begin_part(&mut self) -> Result<(), Problem> {
        if self.part.is_some() {
            return Err(Problem::Truncated);
        }
        self.part = Some(Part::default());
        self.column = None;
        Ok(())
    }

    fn end_part(&mut self) -> Result<(), Problem> {
        self.close_object()?;
        let mut part = self.part.take().unwrap_or_default();
        let stated = self.stated.take().ok_or(Problem::Truncated)?;
        let lines = std::mem::take(&mut self.sum);
        if stated != lines {
            return Err(Problem::Sum { lines, stated });
        }
        part.total = lines;
        self.parts.push(part);
        self.address = 0;
        Ok(())
    }

    fn finish(self) -> Result<Vec<Part>, Problem> {
        if self.part.is_some() || self.parts.is_empty() {
            return Err(Problem::Truncated);
        }
        Ok(self.parts)
    }
}

/// The position that `word` says, seen from the one before: `*` the same, `+N` and `-N` so far away, else itself.
fn moved(from: u64, word: &[u8]) -> Result<u64, Problem> {
    let outside = || Problem::Position(shown(word));
    match word {
        b"*" => Ok(from),
        [b'+', distance @ ..] => from.checked_add(number(distance)?).ok_or_else(outside),
        [b'-', distance @ ..] => from.checked_sub(number(distance)?).ok_or_else(outside),
        _ => number(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "# callgrind format\nversion: 1\ncreator: callgrind-3.19.0\npid: 7\ncmd: x\n\
                        part: 1\n\ndesc: Timerange: Basic block 0 - 9\n\
                        desc: Trigger: Program termination\n\npositions: instr line\nevents: Ir\n";

    fn read(body: &str) -> Vec<Part> {
        read_parts(format!("{HEAD}{body}").as_bytes()).unwrap()
    }

    fn problem(body: &str) -> String {
        let error = read_parts(format!("{HEAD}{body}").as_bytes()).unwrap_err();
        error.problem.to_string()
    }

    #[test]
    fn reads_own_costs_and_skips_calls_and_jumps() {
        let parts = read(
            "summary: 10\n\nob=(1) /bin/a b\nfl=(1) a.c\nfn=(1) main\n0x1000 3 1\n+4 * 2\n* * 3\n\
             cob=(2) /lib/c.so\ncfi=(3) c.c\ncfn=(2) f\ncalls=1 0x50 9\n+8 +1 100\n-4 -1 1\n\
             jcnd=1/2 +4 +1\n* *\n\nob=(2)\nfn=(2)\n0x50 9 3\n\ntotals: 10\n",
        );
        let [part] = parts.as_slice() else {
            panic!("{parts:?}")
        };
        assert_eq!(part.total, 10);
        assert_eq!(part.trigger, "Program termination");
        let main = HashMap::from([(0x1000, 1), (0x1004, 5), (0x1008, 1)]);
        assert_eq!(part.objects["/bin/a b"], main);
        assert_eq!(part.objects["/lib/c.so"], HashMap::from([(0x50, 3)]));
    }

    #[test]
    fn reads_parts_with_their_triggers() {
        let parts = read(
            "ob=(1) a\nfn=(1) f\n0x10 0 4\ntotals: 4\npart: 2\ndesc: Trigger: Client Request: x\n\
             positions: instr line\nevents: Ir\nob=(1)\nfn=(1)\n0x10 0 5\ntotals: 5\n",
        );
        let seen: Vec<_> = parts
            .iter()
            .map(|p| (p.trigger.as_str(), p.total))
            .collect();
        assert_eq!(seen, [("Program termination", 4), ("Client Request: x", 5)]);
    }

    #[test]
    fn a_total_that_the_lines_do_not_sum_to_is_an_error() {
        let sum = "the lines sum to 4, but the file says 5";
        assert_eq!(problem("ob=(1) a\n0x10 0 4\ntotals: 5\n"), sum);
        assert_eq!(problem("summary: 4\nob=(1) a\n0x10 0 4\ntotals: 5\n"), sum);
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let cut = "the file ends without its total";
        assert_eq!(problem("ob=(1) a\n0x10 0 4\n"), cut);
        assert_eq!(problem("ob=(1) a\n0x10 0 4\npart: 2\n"), cut);
        assert_eq!(read_parts(&b""[..]).unwrap_err().problem.to_string(), cut);
    }

    #[test]
    fn damaged_lines_are_named() {
        assert_eq!(
            problem("ob=(3)\n"),
            "the name `(3)` was never given in full"
        );
        assert_eq!(
            problem("-1 0 1\n"),
            "the position `-1` leaves the address space"
        );
        assert_eq!(problem("0x10 0 1x\n"), "`1x` is not a number");
        assert_eq!(problem("ob=(1\n"), "`(1` is not a line of this format");
        let full = format!("0x10 0 {}\n+1 0 1\n", u64::MAX);
        assert!(problem(&full).starts_with("a sum of counts"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read_parts(bytes.as_slice());
            let _ = read_parts([HEAD.as_bytes(), &bytes].concat().as_slice());
        }

        #[test]
        fn any_counts_come_back(
            rows in proptest::collection::vec((0u64..4, 0u64..1 << 40, 0u64..1 << 40), 1..50),
        ) {
            let mut text = String::new();
            let mut expected: HashMap<String, HashMap<u64, u64>> = HashMap::new();
            let mut last = 0u64;
            for (object, address, count) in &rows {
                text += &format!("ob=({object}) o{object}\n");
                text += &match address.checked_sub(last) {
                    Some(step) => format!("+{step} * {count}\n"),
                    None => format!("-{} * {count}\n", last - address),
                };
                last = *address;
                *expected.entry(format!("o{object}")).or_default().entry(*address).or_default() +=
                    count;
            }
            let total: u64 = rows.iter().map(|row| row.2).sum();
            text += &format!("totals: {total}\n");
            let parts = read(&text);
            prop_assert_eq!(&parts[0].objects, &expected);
            prop_assert_eq!(parts[0].total, total);
        }
    }
}
