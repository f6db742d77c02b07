//! From a function to its caller, by the call frame information of ELF files (System V ABI, AMD64 supplement, section 3.7).

use std::ops::Range;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{FrameAddress, MayAllocateDuringUnwind, Module, ModuleSectionInfo, Unwinder};

use super::Elf;
use crate::isa::{LONGEST_CALL_BYTES, may_end_in_call};

/// Walks a stack of x86-64 outwards, a function at a time.
pub struct Callers<'a> {
    unwinder: UnwinderX86_64<Vec<u8>, MayAllocateDuringUnwind>,
    cache: CacheX86_64<MayAllocateDuringUnwind>,
    registers: UnwindRegsX86_64,
    at: FrameAddress,
    /// The address of the first byte of the stack.
    bottom: u64,
    stack: &'a [u8],
}

impl<'a> Callers<'a> {
    /// Of a thread whose next instruction is at `pc`, with what is on its stack from `sp` on.
    pub fn of(pc: u64, sp: u64, fp: u64, stack: &'a [u8]) -> Callers<'a> {
        Callers {
            unwinder: UnwinderX86_64::new(),
            cache: CacheX86_64::new(),
            registers: UnwindRegsX86_64::new(pc, sp, fp),
            at: FrameAddress::from_instruction_pointer(pc),
            bottom: sp,
            stack,
        }
    }

    /// An address in the function that it has come to: of the next instruction, or of the call that was made from there.
    pub fn address(&self) -> u64 {
        self.at.address_for_lookup()
    }

    /// Says what code is at `code`: that of a file, which begins at `base` less its stated addresses.
    pub fn learn(&mut self, elf: &Elf, code: Range<u64>, base: u64) {
        let module = Module::new(String::new(), code, base, Sections(elf));
        self.unwinder.add_module(module);
    }

    /// Goes on to the caller, if there is one. Where frames are guessed at for want of information, an address that is not
    /// behind a call (`called` says whether) is no return address.
    pub fn go_on(&mut self, called: impl FnOnce(u64) -> bool) -> bool {
        let (bottom, stack) = (self.bottom, self.stack);
        let mut read = |address: u64| word_at(stack, address.wrapping_sub(bottom)).ok_or(());
        let cache = &mut self.cache;
        let next = self
            .unwinder
            .unwind_frame(self.at, &mut self.registers, cache, &mut read);
        let next = next.ok().flatten().filter(|address| called(*address));
        match next.and_then(FrameAddress::from_return_address) {
            Some(next) => {
                self.at = next;
                true
            }
            None => false,
        }
    }
}

fn word_at(bytes: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// Whether a `call` may end at a stated address.
pub fn is_behind_call(elf: &Elf, svma: u64) -> bool {
    let start = svma.checked_sub(LONGEST_CALL_BYTES as u64);
    start.is_some_and(|start| may_end_in_call(elf.code(start, LONGEST_CALL_BYTES)))
}

/// The sections that tell of frames. Code is not looked at: what compilers write today is described throughout.
struct Sections<'a>(&'a Elf);

impl ModuleSectionInfo<Vec<u8>> for Sections<'_> {
    fn base_svma(&self) -> u64 {
        0
    }

    fn section_svma_range(&mut self, name: &[u8]) -> Option<Range<u64>> {
        self.0.section_range(std::str::from_utf8(name).ok()?)
    }

    fn section_data(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        let name = std::str::from_utf8(name).ok()?;
        let tells = matches!(name, ".eh_frame" | ".eh_frame_hdr" | ".debug_frame");
        tells.then(|| self.0.section(name))?.map(Vec::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_without_code_that_is_known_has_no_callers() {
        let stack = [7; 256];
        let mut callers = Callers::of(0x1000, 0x7000, 0x7010, &stack);
        assert_eq!(callers.address(), 0x1000);
        assert!(!callers.go_on(|_| false));
        assert_eq!(word_at(&stack, 249), None);
        assert_eq!(word_at(&stack, u64::MAX), None);
    }
}
