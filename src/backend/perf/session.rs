//! One counted run: opens the counters at the right moments of a tree's life.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::control::{Alive, Control, Server, locked};
use super::meter::Meter;
use super::plan::Plan;
use crate::backend::finish::ProcessTable;
use crate::model::ProcessCount;
use crate::sys::Pid;
use crate::sys::image;
use crate::sys::perf::{Reach, Start};
use crate::sys::ptrace::Stopped;
use crate::sys::tree::{Birth, Watcher};

/// Watches a tree and counts it.
///
/// The total is one counter, opened on the root before its exec, enabled by the exec, inherited by all that descend
/// from it. Each program has one more of its own where the machine has counters enough.
pub struct Session {
    plan: Plan,
    control: Option<Control>,
    /// The counter of the whole tree, once the root exists.
    pub total: Option<Arc<Meter>>,
    /// Why that could not be opened.
    pub refused: Option<io::Error>,
    /// The thread that answers region markers.
    pub server: Option<Server>,
    /// Files that were mapped executable when a process ended.
    pub modules: BTreeSet<PathBuf>,
    alive: Alive,
    breakdown: Breakdown,
}

/// Counters by program.
#[derive(Default)]
struct Breakdown {
    table: ProcessTable,
    meters: HashMap<Pid, Meter>,
    lost: bool,
}

impl Session {
    /// A session by `plan`; region markers come through `control`. `by_process`: whether programs get counters of their own.
    pub fn new(plan: Plan, control: Option<Control>, by_process: bool) -> Session {
        Session {
            plan,
            control,
            total: None,
            refused: None,
            server: None,
            modules: BTreeSet::new(),
            alive: Alive::default(),
            breakdown: Breakdown {
                lost: !by_process,
                ..Breakdown::default()
            },
        }
    }

    /// The programs in order of start, counted where every one of them could be.
    pub fn into_processes(self) -> Vec<ProcessCount> {
        self.breakdown.into_rows()
    }
}

impl Watcher for Session {
    fn held(&mut self, root: Pid) -> io::Result<()> {
        let opened = Meter::open(&self.plan, root, Reach::Tree, Start::AtExec);
        let meter = opened.map(Arc::new).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(0);
            self.refused = Some(error);
            io::Error::from_raw_os_error(errno)
        })?;
        locked(&self.alive).insert(root);
        if let Some(control) = self.control.take() {
            let total = Arc::clone(&meter);
            let count = Box::new(move || total.count());
            self.server = Some(control.serve(count, Arc::clone(&self.alive)));
        }
        self.total = Some(meter);
        Ok(())
    }

    fn program(&mut self, stopped: &Stopped, _former: Pid) -> io::Result<()> {
        let pid = stopped.tid();
        let program = image::executed_path(stopped).or_else(|_| image::executable(pid))?;
        let program = program.display().to_string();
        self.breakdown.settle(pid);
        self.breakdown.table.program(pid, program);
        self.breakdown.open(&self.plan, pid);
        Ok(())
    }

    fn process(&mut self, birth: Birth, child: &Stopped) -> io::Result<()> {
        let pid = child.tid();
        locked(&self.alive).insert(pid);
        self.breakdown.table.process(birth.parent, pid);
        self.breakdown.open(&self.plan, pid);
        Ok(())
    }

    fn ending(&mut self, process: Pid, stopped: &Stopped) -> io::Result<()> {
        if stopped.tid() == process {
            let mappings = image::executable_mappings(process)?;
            self.modules
                .extend(mappings.into_iter().filter_map(|m| m.file));
        }
        Ok(())
    }

    fn ended(&mut self, process: Pid, tid: Pid) {
        if tid == process {
            locked(&self.alive).remove(&process);
            self.breakdown.settle(process);
            self.breakdown.table.ended(process);
        }
    }
}

impl Breakdown {
    /// Counts the program that `pid` is about to execute, or goes on with as a copy of its parent: `pid` is stopped.
    fn open(&mut self, plan: &Plan, pid: Pid) {
        if self.lost {
            return;
        }
        match Meter::open(plan, pid, Reach::Process, Start::Now) {
            Ok(meter) => drop(self.meters.insert(pid, meter)),
            Err(_) => self.lose(),
        }
    }

    /// Takes the count of the program that `pid` ran until now.
    fn settle(&mut self, pid: Pid) {
        let Some(meter) = self.meters.remove(&pid) else {
            return;
        };
        match (meter.count(), self.table.row(pid)) {
            (Ok(count), Some(row)) if self.table.add(row, count).is_ok() => {}
            _ => self.lose(),
        }
    }

    /// A breakdown with holes would not add up: it is given up, the total is not.
    fn lose(&mut self) {
        self.lost = true;
        self.meters.clear();
    }

    fn into_rows(self) -> Vec<ProcessCount> {
        let whole = !self.lost && self.meters.is_empty();
        let mut rows = self.table.into_rows();
        if !whole {
            rows.iter_mut().for_each(|row| row.instructions = None);
        }
        rows
    }
}
