//! Random bytes that are the same in every run: getrandom(2) answered by the tracer.
//!
//! Each process has a stream of its own, derived from its parent's, so that what it reads does not depend on which of
//! two siblings is faster. Not for keys: whoever knows the seed knows every byte.

use std::collections::HashMap;
use std::io;

use nix::unistd::Pid;

use super::ptrace::Stopped;

/// The longest request that is answered here, in bytes; the kernel answers longer ones.
#[cfg(target_arch = "x86_64")]
const LONGEST_BYTES: u64 = 1 << 20;

/// A stream of numbers: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), whose constants these are.
#[derive(Clone, Copy, Debug)]
pub struct Stream(pub u64);

impl Stream {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 7);
        while bytes.len() < length {
            bytes.extend(self.draw().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// The streams of one tree.
#[derive(Debug)]
pub(super) struct Random {
    seed: u64,
    streams: HashMap<Pid, Stream>,
    /// Whether every call is answered; otherwise why not.
    pub(super) passed: io::Result<()>,
}

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random {
            seed,
            streams: HashMap::new(),
            passed: Ok(()),
        }
    }

    fn stream(&mut self, process: Pid) -> &mut Stream {
        self.streams.entry(process).or_insert(Stream(self.seed))
    }

    /// A process is born: its stream starts from a number of its parent's. To be called while the parent holds still.
    pub(super) fn birth(&mut self, parent: Pid, child: Pid) {
        let start = self.stream(parent).draw();
        self.streams.insert(child, Stream(start));
    }

    /// A process has ended; its number may come again.
    pub(super) fn end(&mut self, process: Pid) {
        self.streams.remove(&process);
    }

    /// Answers the call that the thread is about to make, if it is getrandom. Whether it was.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn answer(&mut self, process: Pid, stopped: &Stopped) -> nix::Result<bool> {
        let registers = stopped.registers()?;
        if registers.orig_rax != nix::libc::SYS_getrandom as u64 {
            return Ok(false);
        }
        let length = registers.rsi;
        if length > LONGEST_BYTES {
            self.passed = Err(io::Error::other(
                "a program asked for more than 1 MiB at once",
            ));
            return Ok(true);
        }
        let bytes = self.stream(process).bytes(length as usize);
        if length > 0 && stopped.write(registers.rdi, &bytes).is_err() {
            // A bad address: the kernel answers as it always does.
            return Ok(true);
        }
        stopped.answer_call(&registers, length)?;
        Ok(true)
    }

    /// Answers nothing: the filter reports no such call on this architecture.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn answer(&mut self, _process: Pid, _stopped: &Stopped) -> nix::Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers from seed 1234567, as the reference implementation's users publish them.
    #[test]
    fn the_stream_is_splitmix64() {
        let mut stream = Stream(1_234_567);
        assert_eq!(stream.draw(), 6_457_827_717_110_365_317);
        assert_eq!(stream.draw(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_child_reads_other_bytes_than_its_parent_and_its_siblings_the_same_ones_in_every_run() {
        let pids = [1, 2, 3].map(Pid::from_raw);
        let run = || {
            let mut random = Random::new(7);
            random.birth(pids[0], pids[1]);
            random.birth(pids[0], pids[2]);
            pids.map(|pid| random.stream(pid).bytes(5))
        };
        let [parent, first, second] = run();
        assert_eq!(run(), [parent.clone(), first.clone(), second.clone()]);
        assert!(parent != first && first != second && parent != second);
    }
}
