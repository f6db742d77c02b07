//! Callgrind's client requests, and the switches they turn.

/// callgrind.h: the client requests, from VG_USERREQ_TOOL_BASE('C','T') on.
pub mod request {
    pub const DUMP: u64 = 0x4354_0000;
    pub const ZERO: u64 = DUMP + 1;
    pub const TOGGLE: u64 = DUMP + 2;
    pub const DUMP_AT: u64 = DUMP + 3;
    pub const START: u64 = DUMP + 4;
    pub const STOP: u64 = DUMP + 5;
}

/// Callgrind's switches.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    /// START_ and STOP_INSTRUMENTATION.
    pub instrument: bool,
    /// TOGGLE_COLLECT between these two.
    pub collect: bool,
    /// TOGGLE_COLLECT without START_INSTRUMENTATION.
    pub toggled: bool,
}

impl Switches {
    /// As every program begins.
    pub const AT_START: Switches = Switches {
        instrument: false,
        collect: true,
        toggled: false,
    };

    /// Whether instructions count now.
    pub fn counting(self) -> bool {
        (self.instrument && self.collect) || (!self.instrument && self.toggled)
    }

    /// TOGGLE_COLLECT.
    pub fn toggle(&mut self) {
        if self.instrument {
            self.collect = !self.collect;
        } else {
            self.toggled = !self.toggled;
        }
    }
}
