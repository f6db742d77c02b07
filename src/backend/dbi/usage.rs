//! How much memory and time a process has used, as its files of /proc tell: by what it has mapped and executed, not by what the
//! kernel has given it. Pure over text.

use super::maps;
use super::shown::ticks;
use crate::dbi::layout::UP_NS;

/// Bytes of a page (x86-64).
const PAGE: u64 = 4096;

/// The state of a thread that we hold: the program shall not see that.
const HELD: &str = "t";

/// The state of a thread that runs, or waits.
fn state(runs: bool) -> &'static str {
    if runs { "R" } else { "S" }
}

/// What a process has mapped, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// All of it.
    all: u64,
    /// What it can access: all of that is said to be in memory.
    accessible: u64,
    /// What of that are files.
    files: u64,
    /// What of that it can execute.
    code: u64,
    /// What of that it can write.
    data: u64,
}

impl Mapped {
    /// By its mappings (proc_pid_maps(5)), the engine's own left out.
    pub fn of(text: &str) -> Mapped {
        let mut sum = Mapped::default();
        for line in maps::lines(text) {
            let pages = (line.end - line.start) / PAGE;
            let rights = line.rights.as_bytes();
            let has = |at: usize, right: u8| rights[at] == right;
            let (read, write, execute) = (has(0, b'r'), has(1, b'w'), has(2, b'x'));
            sum.all += pages;
            for (counts, part) in [
                (read || write || execute, &mut sum.accessible),
                (read && line.file().is_some(), &mut sum.files),
                (execute, &mut sum.code),
                (write, &mut sum.data),
            ] {
                *part += if counts { pages } else { 0 };
            }
        }
        sum
    }

    /// /proc/PID/statm (proc_pid_statm(5)).
    pub fn statm(&self) -> String {
        let Mapped {
            all,
            accessible,
            files,
            code,
            data,
        } = self;
        format!("{all} {accessible} {files} {code} 0 {data} 0\n")
    }

    /// /proc/PID/stat (proc_pid_stat(5)) of a process that has used so many nanoseconds; none if it is no such text. `asks`:
    /// whether it reads that itself, and so does not hold still.
    pub fn stat(&self, real: &str, used_ns: u64, asks: bool) -> Option<String> {
        let (name, rest) = real.rsplit_once(") ")?;
        let told = [
            (14, ticks(used_ns)),
            (22, ticks(UP_NS)),
            (23, self.all * PAGE),
            (24, self.accessible),
        ];
        // Faults, time of the kernel and of children, the CPU, its policy and what is waited for it.
        const NONE: [usize; 12] = [10, 11, 12, 13, 15, 16, 17, 39, 41, 42, 43, 44];
        // The first behind the name is the third of all.
        let fields = rest.trim_end().split(' ').zip(3..).map(|(field, number)| {
            let known = told.iter().find(|(told, _)| *told == number);
            match known {
                Some((_, value)) => value.to_string(),
                None if number == 3 && field == HELD => state(asks).to_owned(),
                None if NONE.contains(&number) => "0".to_owned(),
                None => field.to_owned(),
            }
        });
        let fields: Vec<String> = fields.collect();
        Some(format!("{name}) {}\n", fields.join(" ")))
    }

    /// /proc/PID/status (proc_pid_status(5)) of the same.
    pub fn status(&self, real: &str, asks: bool) -> String {
        let kib = |pages: u64| Some((pages * PAGE / 1024, " kB"));
        let line = |line: &str| {
            let Some((name, was)) = line.split_once(':') else {
                return format!("{line}\n");
            };
            if name == "State" && was.trim_start().starts_with(HELD) {
                let word = if asks { "running" } else { "sleeping" };
                return format!("State:\t{} ({word})\n", state(asks));
            }
            let value = match name {
                "VmPeak" | "VmSize" => kib(self.all),
                "VmHWM" | "VmRSS" => kib(self.accessible),
                "RssAnon" => kib(self.accessible - self.files.min(self.accessible)),
                "RssFile" => kib(self.files),
                "VmData" => kib(self.data),
                "VmLib" => kib(self.code),
                "VmPTE" | "VmSwap" | "RssShmem" => kib(0),
                "voluntary_ctxt_switches" | "nonvoluntary_ctxt_switches" => Some((0, "")),
                _ => None,
            };
            match value {
                Some((number, "")) => format!("{name}:\t{number}\n"),
                Some((number, unit)) => format!("{name}:\t{number:>8}{unit}\n"),
                None => format!("{line}\n"),
            }
        };
        real.lines().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00402000 r-xp 00000000 08:01 12 /bin/x
00402000-00403000 rw-p 00002000 08:01 12 /bin/x
00500000-00510000 ---p 00000000 00:00 0 
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
";

    #[test]
    fn what_is_mapped_is_what_is_in_memory() {
        let mapped = Mapped::of(MAPS);
        assert_eq!(mapped.statm(), "52 36 3 2 0 34 0\n");
    }

    #[test]
    fn numbers_of_this_run_are_replaced_and_the_rest_stays() {
        let fields: Vec<String> = (4..=52).map(|field| format!("{field}00")).collect();
        let real = format!("7 (a) b) t {}\n", fields.join(" "));
        let stat = Mapped::of(MAPS).stat(&real, 30_000_000, true).unwrap();
        let shown: Vec<&str> = stat.trim_end().split(' ').collect();
        // The name has a space.
        let field = |number: usize| shown[number];
        assert!(stat.starts_with("7 (a) b) R 400 500 "));
        assert_eq!([field(10), field(14), field(15)], ["0", "3", "0"]);
        assert_eq!([field(22), field(23), field(24)], ["90000", "212992", "36"]);
        assert_eq!([field(25), field(39), field(52)], ["2500", "0", "5200"]);
    }

    #[test]
    fn status_keeps_its_lines() {
        let real = "Name:\tx\nState:\tt (tracing stop)\nVmSize:\t  999 kB\nVmRSS:\t  99 kB\nThreads:\t1\nvoluntary_ctxt_switches:\t77\n";
        let shown = Mapped::of(MAPS).status(real, false);
        assert_eq!(
            shown,
            "Name:\tx\nState:\tS (sleeping)\nVmSize:\t     208 kB\nVmRSS:\t     144 kB\nThreads:\t1\nvoluntary_ctxt_switches:\t0\n"
        );
    }
}
