//! Timers of other processes made to fire: the signals that they send, and the files that can be read then.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use super::files::file_of;

/// `si_timerid` of the signals of setitimer(2), which have none: no timer has this id.
const NO_ID: i32 = -1;

/// Bytes of a `siginfo_t` (asm-generic/siginfo.h).
const INFO_BYTES: usize = 128;

/// A signal that a timer sends (sigaction(2)).
#[derive(Clone, Copy, Debug)]
pub struct TimerSignal {
    /// Its number.
    pub number: i32,
    /// The id of a timer of timer_create(2); none for one of setitimer(2).
    pub timer: Option<i32>,
    /// What goes with it.
    pub value: u64,
    /// The thread that gets it; none: the process.
    pub thread: Option<Pid>,
}

impl TimerSignal {
    /// As `siginfo_t`: number, errno, code; then timer, overruns and value.
    fn info(self) -> [u8; INFO_BYTES] {
        let mut info = [0; INFO_BYTES];
        info[0..4].copy_from_slice(&self.number.to_ne_bytes());
        info[8..12].copy_from_slice(&libc::SI_TIMER.to_ne_bytes());
        info[16..20].copy_from_slice(&self.timer.unwrap_or(NO_ID).to_ne_bytes());
        info[24..32].copy_from_slice(&self.value.to_ne_bytes());
        info
    }

    /// Sends it. One that waits already for a process or thread is not sent twice (timer_getoverrun(2)).
    pub fn send(self, process: Pid) -> io::Result<()> {
        let to = self.thread.unwrap_or(process);
        if is_pending(to, self.number) {
            return Ok(());
        }
        let info = self.info();
        // SAFETY: both calls read 128 bytes from the pointer, which is to as many. A process that is gone is an error.
        let answer = unsafe {
            match self.thread {
                Some(thread) => libc::syscall(
                    libc::SYS_rt_tgsigqueueinfo,
                    process.as_raw(),
                    thread.as_raw(),
                    self.number,
                    info.as_ptr(),
                ),
                None => libc::syscall(
                    libc::SYS_rt_sigqueueinfo,
                    process.as_raw(),
                    self.number,
                    info.as_ptr(),
                ),
            }
        };
        match Errno::result(answer) {
            Ok(_) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a signal is one that [`TimerSignal`] has sent for a timer of setitimer(2). From the kernel itself it has another
/// code and nothing besides.
pub(super) fn is_of_interval(info: &libc::siginfo_t) -> bool {
    // SAFETY: `siginfo_t` has 128 bytes, and those from the 16th on are a number, of any value.
    let timer = unsafe { (&raw const *info).cast::<i32>().add(4).read() };
    info.si_code == libc::SI_TIMER && timer == NO_ID
}

/// Makes it what the kernel sends.
pub(super) fn as_from_kernel(info: &mut libc::siginfo_t) {
    let number = info.si_signo;
    // SAFETY: all bytes zero are a value of this plain structure.
    *info = unsafe { std::mem::zeroed() };
    info.si_signo = number;
    info.si_code = libc::SI_KERNEL;
}

/// Whether a signal waits for a thread, or for its process.
fn is_pending(thread: Pid, number: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let bit = 1u64 << (number - 1);
    ["SigPnd:", "ShdPnd:"].iter().any(|name| {
        super::image::signal_mask(&status, name).is_some_and(|pending| pending & bit != 0)
    })
}

/// A timer's file among those of another process.
#[derive(Debug)]
pub struct TimerFile {
    file: OwnedFd,
    process: Pid,
    descriptor: i32,
}

impl TimerFile {
    /// Gets at it (pidfd_getfd(2)); none if it is no timer's file.
    pub fn of(process: Pid, descriptor: i32) -> io::Result<Option<TimerFile>> {
        let link = fs::read_link(format!("/proc/{process}/fd/{descriptor}"));
        if !link.is_ok_and(|link| link.as_os_str() == "anon_inode:[timerfd]") {
            return Ok(None);
        }
        Ok(Some(TimerFile {
            file: file_of(process, descriptor)?,
            process,
            descriptor,
        }))
    }

    /// It has fired so often more than whoever reads it knows.
    pub fn fire(&self, times: u64) -> io::Result<()> {
        /// linux/timerfd.h: TFD_IOC_SET_TICKS
        const SET_TICKS: libc::c_ulong = 0x4008_5400;
        let ticks = self.ticks().saturating_add(times);
        // SAFETY: reads eight bytes from the pointer, which is to a live local of as many.
        let answer = unsafe { libc::ioctl(self.file.as_raw_fd(), SET_TICKS, &raw const ticks) };
        match Errno::result(answer) {
            Ok(_) => Ok(()),
            // A kernel without it (CONFIG_CHECKPOINT_RESTORE): it fires by itself, once.
            Err(Errno::ENOTTY | Errno::EINVAL) => self.fire_soon(),
            Err(error) => Err(error.into()),
        }
    }

    fn fire_soon(&self) -> io::Result<()> {
        let at_once = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: 0,
                tv_nsec: 1,
            },
        };
        // SAFETY: the first pointer is to a live local, and nothing is written to the second.
        let answer = unsafe {
            libc::timerfd_settime(
                self.file.as_raw_fd(),
                0,
                &raw const at_once,
                std::ptr::null_mut(),
            )
        };
        Ok(Errno::result(answer).map(drop)?)
    }

    /// How often it has fired that was not read yet (proc_pid_fdinfo(5)).
    fn ticks(&self) -> u64 {
        let path = format!("/proc/{}/fdinfo/{}", self.process, self.descriptor);
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("ticks:"));
        line.and_then(|ticks| ticks.trim().parse().ok())
            .unwrap_or(0)
    }
}
