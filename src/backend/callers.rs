//! Who made an attempt: the functions on the stack of its thread, by name.

use std::path::PathBuf;
use std::sync::Arc;

use super::profile::{Module, Modules};
use super::spots;
use crate::model::course::{Origin, Place};
use crate::model::explanation::{Named, Spot};
use crate::model::{Attempt, ProjectFolder};
use crate::object::unwind::{Callers, is_behind_call};
use crate::sys::attempts::{Stand, Tried};
use crate::sys::image::Mapping;

/// Functions that are named.
const MOST_NAMED: usize = 8;

/// Functions that are looked at.
const MOST_FRAMES: usize = 64;

/// What was tried, and by whom. `folder`: the project's, where the programs saw it at another place than it is.
pub fn named(tried: Vec<Tried>, modules: &Modules, folder: Option<&ProjectFolder>) -> Vec<Attempt> {
    let outside = |path: PathBuf| ProjectFolder::outside_of(folder, path);
    let stand = |stand: Stand| {
        let mut stand = stand;
        for file in stand.mappings.iter_mut().filter_map(|m| m.file.as_mut()) {
            *file = outside(std::mem::take(file));
        }
        callers(&stand, modules)
    };
    let name = |tried: Tried| Attempt {
        callers: tried.stand.map_or_else(Vec::new, stand),
        program: outside(tried.attempt.program.into()).display().to_string(),
        ..tried.attempt
    };
    tried.into_iter().map(name).collect()
}

/// What was tried by programs whose stack is not their own: they run on a CPU that is a program.
pub fn unnamed(tried: Vec<Tried>) -> Vec<Attempt> {
    tried.into_iter().map(|tried| tried.attempt).collect()
}

/// The functions on a stack, from the one on that called the C library; from the innermost on where that did it by itself.
fn callers(stand: &Stand, modules: &Modules) -> Vec<Spot> {
    let mut named = frames(stand, modules);
    let outside = named.iter().position(|named| !named.library);
    let spots = named.drain(outside.unwrap_or(0)..);
    spots.take(MOST_NAMED).map(|named| named.spot).collect()
}

fn frames(stand: &Stand, modules: &Modules) -> Vec<Named> {
    let registers = stand.registers;
    let mut stack = Callers::of(registers.pc, registers.sp, registers.fp, &stand.stack);
    let mut learnt = Vec::new();
    let mut named = Vec::new();
    while named.len() < MOST_FRAMES {
        let Some(code) = Code::at(stand, modules, stack.address()) else {
            break;
        };
        if !learnt.contains(&code.mapping.start) {
            learnt.push(code.mapping.start);
            let range = code.mapping.start..code.mapping.end;
            stack.learn(&code.module.elf, range, code.base);
        }
        named.push(code.name(modules, stack.address()));
        let called = |address| {
            let caller = Code::at(stand, modules, address);
            caller.is_some_and(|code| is_behind_call(&code.module.elf, address - code.base))
        };
        if !stack.go_on(called) {
            break;
        }
    }
    named
}

/// The file that an address is in.
struct Code<'a> {
    mapping: &'a Mapping,
    module: Arc<Module>,
    /// What its stated addresses are less than those of the process.
    base: u64,
}

impl<'a> Code<'a> {
    fn at(stand: &'a Stand, modules: &Modules, address: u64) -> Option<Code<'a>> {
        let mut mappings = stand.mappings.iter();
        let mapping = mappings.find(|mapping| (mapping.start..mapping.end).contains(&address))?;
        let module = modules.get(mapping.file.as_ref()?).ok()?;
        let svma = module.elf.svma_of_offset(offset_of(mapping, address))?;
        Some(Code {
            mapping,
            module,
            base: address.checked_sub(svma)?,
        })
    }

    fn name(&self, modules: &Modules, address: u64) -> Named {
        let file = self.mapping.file.clone().map(Origin::File);
        let place = Place {
            origin: 0,
            offset: offset_of(self.mapping, address),
        };
        spots::name(modules, file.as_ref(), place)
    }
}

/// The offset in its file of an address in a mapping.
fn offset_of(mapping: &Mapping, address: u64) -> u64 {
    mapping.offset + (address - mapping.start)
}
