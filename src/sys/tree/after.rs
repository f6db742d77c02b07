//! The end of a tree: descendants that go on after the root has ended, and all that is left after an error.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::Pid;

use super::live::{kill_tree, send};
use super::{Report, Tree, TreeError, follow, step_trap, wait};
use crate::sys::image;
use crate::sys::ptrace::{Pace, Stopped};

/// How long descendants may go on after the root has ended before they count as left running.
const GRACE: Duration = Duration::from_secs(1);

impl Tree<'_> {
    /// After the root has ended: lets descendants end by themselves for a while.
    pub(super) fn wait_for_descendants(&mut self) -> Result<(), TreeError> {
        let deadline = Instant::now() + GRACE;
        while self.someone_lives() && Instant::now() < deadline {
            let next = self.turns.advance(self.watcher);
            next.map_err(follow("choose whose turn it is"))?;
            match wait(-1, libc::WNOHANG) {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(report) => self.handle(report)?,
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    self.threads.clear();
                    self.orphans.clear();
                }
                Err(error) => return Err(follow("wait for descendants")(error)),
            }
        }
        Ok(())
    }

    pub(super) fn someone_lives(&self) -> bool {
        !(self.threads.is_empty() && self.orphans.is_empty())
    }

    /// Ends or lets go of whoever still lives, and notes their programs.
    pub(super) fn give_up_descendants(&mut self) -> Result<(), TreeError> {
        let processes: BTreeSet<Pid> = self.threads.values().copied().collect();
        self.left_running = processes
            .into_iter()
            .filter_map(|p| image::executable(p).ok())
            .collect();
        if self.kill_left {
            kill_tree(self.root, libc::SIGKILL);
            return self.reap();
        }
        self.let_go()
    }

    /// Kills whoever still stops, and waits for the end of all. Some may be nowhere but here: born, and not admitted
    /// before the error that has led here. Set going without the watcher they would fault for ever.
    fn reap(&mut self) -> Result<(), TreeError> {
        for (_, (orphan, _)) in self.orphans.drain() {
            let tid = orphan.tid();
            self.threads.insert(tid, tid);
            send(tid.as_raw(), libc::SIGKILL);
            let _ = orphan.resume(Pace::Run, None);
        }
        while self.someone_lives() {
            match wait(-1, 0) {
                Ok(Some((tid, Report::Ended(end)))) => self.on_end(tid, end),
                Ok(Some((tid, Report::Stopped { .. }))) => {
                    send(tid.as_raw(), libc::SIGKILL);
                    let _ = Stopped::from_wait(tid).resume(Pace::Run, None);
                }
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => break,
                Err(error) => return Err(follow("wait for killed processes")(error)),
            }
        }
        Ok(())
    }

    /// Detaches from every thread; each must be stopped for that.
    fn let_go(&mut self) -> Result<(), TreeError> {
        for (_, (orphan, _)) in self.orphans.drain() {
            let _ = orphan.detach(None);
        }
        for tid in self.threads.keys() {
            let _ = nix::sys::ptrace::interrupt(*tid);
        }
        while self.someone_lives() {
            match wait(-1, 0) {
                Ok(Some((tid, Report::Ended(end)))) => self.on_end(tid, end),
                Ok(Some((tid, Report::Stopped { signal, event }))) => {
                    let stopped = Stopped::from_wait(tid);
                    let ours = signal == libc::SIGTRAP
                        && self.watcher.pace() == Pace::Step
                        && stopped.signal_code().ok().and_then(step_trap).is_some();
                    let pending = (event == 0 && !ours).then_some(signal);
                    let _ = stopped.detach(pending);
                    self.forget(tid);
                }
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => break,
                Err(error) => return Err(follow("let go of descendants")(error)),
            }
        }
        Ok(())
    }

    /// After an error: nothing of the tree may go on unseen.
    pub(super) fn abandon(&mut self) {
        kill_tree(self.root, libc::SIGKILL);
        let _ = self.reap();
    }
}
