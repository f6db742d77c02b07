//! Branches, calls and loops, all of which end.

use super::Writer;
use crate::layout::{CALL_STACK, CELLS, RESUME_AT};

/// Bytes of the jump over a callee.
const SKIPPED: u64 = 5;

impl Writer<'_> {
    /// One of them, with instructions in and around it.
    pub(super) fn flow(&mut self, depth: u32) {
        match self.random.below(11) {
            0..3 => self.forward(depth),
            3 => self.counted(depth),
            4 => self.on_count(depth),
            5 => self.call(depth),
            6 => self.call_by_pointer(depth),
            7 => self.over_junk(),
            8 => self.through_table(),
            9 => self.system_call(),
            _ => self.nowhere(),
        }
    }

    /// A word of memory that no instruction is aimed at. There are enough for a program of full length to use each twice.
    fn cell(&mut self) -> u64 {
        self.cells = (self.cells + 1) % 0xc00;
        CELLS + 8 * self.cells
    }

    /// Prefixes that mean nothing before a branch: hints, `bnd`, REX.
    fn idle_prefixes(&mut self) -> Vec<u8> {
        let mut found = Vec::new();
        if self.random.percent(15) {
            found.push(*self.random.pick(&[0x2e, 0x3e, 0xf2]));
        }
        if self.random.percent(15) {
            found.push(0x40 | self.random.byte() & 0x0f);
        }
        found
    }

    /// A conditional branch forward.
    fn forward(&mut self, depth: u32) {
        let condition = self.random.byte() & 15;
        let prefixes = self.idle_prefixes();
        self.raw(&[&prefixes[..], &[0x0f, 0x80 | condition, 0, 0, 0, 0]].concat());
        let from = self.code.len();
        self.items(3, depth);
        self.patch(from);
        if self.random.percent(50) {
            // A short one, over a single byte.
            let condition = self.random.byte() & 15;
            self.raw(&[0x70 | condition, 1, 0x90]);
        }
    }

    /// Makes the displacement that ends at `from` lead here.
    fn patch(&mut self, from: usize) {
        let distance = (self.code.len() - from) as u32;
        self.code[from - 4..from].copy_from_slice(&distance.to_le_bytes());
    }

    /// A loop over a counter in memory.
    fn counted(&mut self, depth: u32) {
        let cell = self.cell();
        let rounds = 1 + self.random.below(4) as u32;
        self.store(cell, rounds);
        let top = self.here();
        self.items(3, depth);
        self.relative(&[0xff, 0x0d], cell, &[]); // dec dword
        self.relative(&[0x0f, 0x85], top, &[]); // jnz
    }

    /// `loop`, `loope`, `loopne`, `jrcxz`, each with and without the prefix that makes it count in ecx.
    fn on_count(&mut self, depth: u32) {
        let count = self.random.below(3) | if self.random.percent(30) { 1 << 32 } else { 0 };
        self.set(1, count);
        let mut bytes = Vec::new();
        if self.random.percent(40) {
            bytes.push(0x67);
        }
        if self.random.percent(30) {
            bytes.push(0xf3);
        }
        bytes.extend(self.idle_prefixes());
        bytes.extend([0xe0 | self.random.byte() & 3, 5]);
        self.raw(&bytes);
        self.raw(&[0xe9, 0, 0, 0, 0]);
        let from = self.code.len();
        self.items(2, depth);
        self.patch(from);
    }

    /// A call and, behind a jump, what it calls.
    fn call(&mut self, depth: u32) {
        let stack = self.call_stack();
        let prefixes = self.idle_prefixes();
        self.raw(&[&prefixes[..], &[0xe8, 5, 0, 0, 0]].concat());
        self.callee(stack, depth);
    }

    fn call_by_pointer(&mut self, depth: u32) {
        let stack = self.call_stack();
        if self.random.percent(50) {
            let register = *self
                .random
                .pick(&[0u8, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
            let callee = self.here() + 10 + 3 + SKIPPED;
            self.set(register, callee);
            self.raw(&[0x40 | register >> 3, 0xff, 0xd0 | register & 7]);
        } else {
            let cell = self.cell();
            let callee = self.here() + 10 + 10 + 6 + SKIPPED;
            self.store(cell, callee as u32);
            self.store(cell + 4, 0);
            self.relative(&[0xff, 0x15], cell, &[]);
        }
        self.callee(stack, depth);
    }

    /// Sets the stack for a call: where the address is that it returns to.
    fn call_stack(&mut self) -> u64 {
        let stack = CALL_STACK - 8 * self.random.below(0x100);
        self.relative(&[0x48, 0x8d, 0x25], stack, &[]); // lea rsp
        stack - 8
    }

    /// What is called, behind a jump over it. Calls in it use the same stack: the address to return to is written again.
    fn callee(&mut self, stack: u64, depth: u32) {
        let back = self.here();
        self.raw(&[0xe9, 0, 0, 0, 0]);
        let from = self.code.len();
        self.items(3, depth);
        self.relative(&[0x48, 0x8d, 0x25], stack, &[]); // lea rsp
        if depth > 0 {
            self.raw(&[&[0x48, 0xc7, 0x04, 0x24][..], &(back as u32).to_le_bytes()].concat());
        }
        let prefixes = self.idle_prefixes();
        let give_back = match self.random.percent(30) {
            true => vec![0xc2, self.random.byte() & 0x38, 0],
            false => vec![0xc3],
        };
        self.raw(&[prefixes, give_back].concat());
        self.patch(from);
    }

    /// A jump over bytes that are never executed, and that may be any.
    fn over_junk(&mut self) {
        let count = 1 + self.random.byte() % 20;
        let junk = self.random.bytes(count.into());
        self.raw(&[0xeb, count]);
        self.raw(&junk);
    }

    /// `jmp` through a word of memory that says where: by register, by displacement, by both.
    fn through_table(&mut self) {
        let cell = self.cell();
        let register = *self.random.pick(&[0u8, 1, 2, 3, 6, 7]);
        self.store(cell + 4, 0);
        match self.random.below(3) {
            0 => {
                let target = self.here() + 10 + 6;
                self.store(cell, target as u32);
                self.relative(&[0xff, 0x25], cell, &[]);
            }
            1 => {
                let target = self.here() + 10 + 10 + 2;
                self.store(cell, target as u32);
                self.set(register, cell);
                self.raw(&[0xff, 0x20 | register]);
            }
            _ => {
                let target = self.here() + 10 + 10 + 7;
                self.store(cell, target as u32);
                self.set(register, 3);
                let table = (cell - 24) as u32;
                self.raw(
                    &[
                        &[0xff, 0x24, 0xc5 | register << 3][..],
                        &table.to_le_bytes(),
                    ]
                    .concat(),
                );
            }
        }
    }

    /// A call that answers the same each time: `getuid`, or one that no kernel has.
    fn system_call(&mut self) {
        let number = *self.random.pick(&[102, 0x3000_0000]);
        self.set(0, number);
        self.raw(&[0x0f, 0x05]);
    }

    /// A jump to where nothing can be executed.
    fn nowhere(&mut self) {
        let wild = match self.random.below(3) {
            0 => 0x1234,
            1 => self.memory + 0x40,
            _ => 0x7000_0000_0000,
        };
        let register = *self.random.pick(&[0u8, 1, 2, 3, 6, 7]);
        self.store(RESUME_AT + 4, 0);
        let next = self.here() + 10 + 10 + 2;
        self.store(RESUME_AT, next as u32);
        self.set(register, wild);
        self.raw(&[0xff, 0xe0 | register]);
    }
}
