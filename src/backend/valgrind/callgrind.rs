//! The backend `callgrind`: counts by instruction address, and from them opcodes, functions and regions.
//!
//! Callgrind names an address by object and stated address where the address lies in the object's `.text`. All
//! other code (`.init`, `.plt`, `.fini`, generated code) it puts under `???` with its address in the process;
//! the process's mappings at its end then say which file it is in, or its bytes are read from memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::callgrind_out::{NO_OBJECT, Part, read_parts};
use super::family::{Autopsy, Member};
use super::launch::{Extent, Tool, Valgrind};
use super::run::{Counts, Ran, open, own_counts, run};
use super::{listed, probe};
use crate::backend::profile::{AddressProfile, Attribution, AttributionError, MemoryCode, Modules};
use crate::backend::{Backend, BackendError, Detail, Ready, Unavailable};
use crate::model::{BackendKind, Caveat, CountOverflow, Run, sum};
use crate::sys::image::Mapping;
use crate::sys::spawn::Launch;

/// Valgrind's callgrind with instruction addresses.
#[derive(Debug, Default)]
pub struct Callgrind {
    modules: Modules,
}

impl Backend for Callgrind {
    fn kind(&self) -> BackendKind {
        BackendKind::Callgrind
    }

    fn offers(&self) -> Detail {
        Detail {
            opcodes: true,
            functions: true,
            regions: false,
        }
    }

    fn probe(&self) -> Result<Ready, Unavailable> {
        probe(self)
    }

    fn run(&self, launch: &Launch, want: Detail, scratch: &Path) -> Result<Run, BackendError> {
        super::check_offer(self, want)?;
        let valgrind = Valgrind::find().map_err(|source| BackendError::Unavailable {
            kind: self.kind(),
            source,
        })?;
        let mut reader = Reader {
            modules: &self.modules,
        };
        let tool = Tool::Callgrind;
        let ran = run(&valgrind, tool, Extent::Whole, launch, scratch, &mut reader)?;
        self.count(ran, want, scratch)
    }
}

impl Callgrind {
    fn count(&self, ran: Ran, want: Detail, scratch: &Path) -> Result<Run, BackendError> {
        let mut caveats = ran.caveats;
        let mut profile = AddressProfile::default();
        let mut counts = Vec::new();
        for member in &ran.members {
            let read = |file: &Path| read_counts(file);
            let own = own_counts(Tool::Callgrind, member, scratch, &mut caveats, read, less)?;
            let Counts::Own(objects) = own else {
                counts.push(None);
                continue;
            };
            counts.push(Some(total(&objects)?));
            self.place(member, &objects, &mut profile)?;
        }
        let instructions = sum(counts.iter().flatten().copied())?;
        let attribution = profile
            .attribute(&self.modules)
            .map_err(attribution_error)?;
        caveats.extend(attribution_caveats(&attribution));
        Ok(Run {
            outcome: ran.outcome,
            instructions,
            opcodes: want.opcodes.then_some(attribution.opcodes),
            functions: want.functions.then_some(attribution.functions),
            regions: None,
            processes: listed(&ran.members, &counts),
            modules: super::modules(&ran.members),
            pinning: ran.pinning,
            caveats,
        })
    }

    /// Adds the counts of one process, each in the file it belongs to.
    fn place(
        &self,
        member: &Member,
        objects: &Objects,
        profile: &mut AddressProfile,
    ) -> Result<(), CountOverflow> {
        for (object, counts) in objects {
            for (address, count) in counts {
                if object != NO_OBJECT {
                    profile.add(Path::new(object), *address, *count)?;
                    continue;
                }
                match locate(&self.modules, &member.mappings, *address) {
                    Some((file, svma)) => profile.add(&file, svma, *count)?,
                    None => profile.add_memory(memory_code(member, *address), *count)?,
                }
            }
        }
        Ok(())
    }
}

/// Executions by object and address.
type Objects = HashMap<String, HashMap<u64, u64>>;

fn read_counts(file: &Path) -> Result<Objects, super::FormatError> {
    let parts = read_parts(open(file)?)?;
    let mut all = Objects::new();
    for Part { objects, .. } in parts {
        for (object, counts) in objects {
            let into = all.entry(object).or_default();
            for (address, count) in counts {
                let slot = into.entry(address).or_default();
                *slot = slot.checked_add(count).ok_or(super::FormatError {
                    line: 0,
                    problem: CountOverflow.into(),
                })?;
            }
        }
    }
    Ok(all)
}

/// `whole` without `base`; none when `base` has more anywhere.
fn less(mut whole: Objects, base: Objects) -> Option<Objects> {
    for (object, counts) in base {
        for (address, count) in counts {
            let slot = whole.get_mut(&object)?.get_mut(&address)?;
            *slot = slot.checked_sub(count)?;
        }
    }
    Some(whole)
}

fn total(objects: &Objects) -> Result<u64, CountOverflow> {
    sum(objects.values().flat_map(HashMap::values).copied())
}

/// The file and stated address of an address in a process.
fn locate(modules: &Modules, mappings: &[Mapping], address: u64) -> Option<(PathBuf, u64)> {
    let mapping = mapping_at(mappings, address)?;
    let file = mapping.file.as_ref()?;
    let inside = address.checked_sub(mapping.start)?;
    let module = modules.get(file).ok()?;
    let svma = module
        .elf
        .svma_of_offset(mapping.offset.checked_add(inside)?)?;
    Some((file.clone(), svma))
}

fn mapping_at(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    mappings
        .iter()
        .find(|m| m.start <= address && address < m.end)
}

fn memory_code(member: &Member, address: u64) -> MemoryCode {
    let label = mapping_at(&member.mappings, address).map_or("unmapped", |mapping| {
        match (mapping.label.as_str(), &mapping.file) {
            ("", None) => "anonymous",
            ("", Some(_)) => "file",
            (label, _) => label,
        }
    });
    MemoryCode {
        label: label.to_owned(),
        address,
        bytes: member.memory.get(&address).cloned().unwrap_or_default(),
    }
}

/// Says which code must be read from memory, because no file holds it.
struct Reader<'a> {
    modules: &'a Modules,
}

impl Autopsy for Reader<'_> {
    fn wanted(&mut self, out_file: &Path, mappings: &[Mapping]) -> Vec<u64> {
        let Ok(mut objects) = read_counts(out_file) else {
            return Vec::new();
        };
        let unknown = objects.remove(NO_OBJECT).unwrap_or_default();
        let in_no_file = |address: &u64| locate(self.modules, mappings, *address).is_none();
        unknown.into_keys().filter(in_no_file).collect()
    }
}

fn attribution_error(error: AttributionError) -> BackendError {
    match error {
        AttributionError::Overflow(overflow) => overflow.into(),
        AttributionError::Decoder(error) => BackendError::Tool {
            tool: "capstone",
            problem: error.to_string(),
            remedy: "report this".to_owned(),
        },
    }
}

fn attribution_caveats(attribution: &Attribution) -> Vec<Caveat> {
    let mut caveats = Vec::new();
    if attribution.rep_strings > 0 {
        caveats.push(Caveat::RepIterations);
    }
    if attribution.undecoded > 0 {
        let files = attribution.unreadable.iter();
        let files: Vec<String> = files
            .map(|(file, reason)| format!("; {}: {reason}", file.display()))
            .collect();
        caveats.push(Caveat::Other {
            text: format!(
                "the opcodes of {} instructions are unknown and stand as `(bad)`{}",
                attribution.undecoded,
                files.concat()
            ),
        });
    }
    caveats
}
