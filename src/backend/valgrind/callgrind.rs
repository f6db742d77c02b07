//! The backend `callgrind`: counts by instruction address, and from them opcodes, functions and regions.
//!
//! Callgrind names an address by object and stated address where the address lies in the object's `.text`. All
//! other code (`.init`, `.plt`, `.fini`, generated code) it puts under `???` with its address in the process;
//! the process's mappings at its end then say which file it is in, or its bytes are read from memory.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::callgrind_out::{NO_OBJECT, Part, read_parts};
use super::family::{Autopsy, Member};
use super::launch::{Extent, Tool, Valgrind};
use super::pending;
use super::run::{Counts, Ran, open, own_counts, run};
use super::{listed, probe};
use crate::backend::profile::{AddressProfile, Attribution, MemoryCode, Modules};
use crate::backend::regions::{self, Chunk, ChunkEnd, Open, Regions};
use crate::backend::selftest::Machine;
use crate::backend::{Backend, BackendError, Detail, Ready, Unavailable};
use crate::model::{BackendKind, Caveat, CountOverflow, Run, sum};
use crate::sys::image::Mapping;
use crate::sys::spawn::Launch;
use crate::sys::unread;

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
            regions: true,
        }
    }

    fn refuses(&self, program: &Path) -> Option<String> {
        super::refuses(Tool::Callgrind, program)
    }

    fn probe(&self) -> Result<Ready, Unavailable> {
        probe(self, super::LAST_BLOCK)
    }

    fn needs_folder(&self) -> bool {
        true
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
        let extent = if want.regions {
            extent_of(launch)
        } else {
            Extent::Whole
        };
        let tool = Tool::Callgrind;
        let ran = run(&valgrind, tool, extent, launch, scratch, &mut reader)?;
        if want.regions {
            self.count_regions(ran, extent, want, scratch)
        } else {
            self.count(ran, want, scratch)
        }
    }
}

impl Callgrind {
    fn count(&self, ran: Ran, want: Detail, scratch: &Path) -> Result<Run, BackendError> {
        let mut caveats = ran.caveats;
        let mut profile = AddressProfile::default();
        let mut counts = Vec::new();
        let mut short = BTreeSet::new();
        for member in &ran.members {
            let read = |file: &Path| read_counts(file);
            let own = own_counts(Tool::Callgrind, member, scratch, &mut caveats, read, less)?;
            let Counts::Own(objects) = own else {
                counts.push(None);
                continue;
            };
            let objects = match complete(member, objects)? {
                Complete::Exact(objects) => objects,
                Complete::Short(objects, reason) => {
                    short.insert(reason);
                    objects
                }
            };
            counts.push(Some(total(&objects)?));
            self.place(member, &objects, &mut profile)?;
        }
        let instructions = sum(counts.iter().flatten().copied())?;
        let attribution = profile.attribute(&self.modules)?;
        caveats.extend(attribution_caveats(&attribution));
        caveats.extend(short.into_iter().map(last_block));
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
            attempts: ran.attempts,
        })
    }

    fn count_regions(
        &self,
        ran: Ran,
        extent: Extent,
        want: Detail,
        scratch: &Path,
    ) -> Result<Run, BackendError> {
        let mut caveats = ran.caveats;
        let mut regions = Regions::default();
        let mut opened: Vec<Vec<Open>> = Vec::new();
        let mut counts = Vec::new();
        let mut rep_strings = false;
        for member in &ran.members {
            let read = |file: &Path| read_parts(open(file)?);
            let own = own_counts(
                Tool::Callgrind,
                member,
                scratch,
                &mut caveats,
                read,
                less_parts,
            )?;
            let mut open = at_fork(member, &opened);
            let mut history = vec![open.clone()];
            if let Counts::Own(parts) = own {
                for part in &parts {
                    let (chunk, repeats) = self.chunk(member, part, extent, want)?;
                    rep_strings |= repeats;
                    regions.chunk(&mut open, &chunk)?;
                    history.push(open.clone());
                }
            }
            counts.push(None);
            opened.push(history);
            regions.program_ended(open);
        }
        let marked = regions.finish()?;
        caveats.extend(marked.caveats);
        if rep_strings {
            caveats.push(Caveat::RepIterations);
        }
        Ok(Run {
            outcome: ran.outcome,
            instructions: marked.instructions,
            opcodes: marked.opcodes.filter(|_| want.opcodes),
            functions: marked.functions.filter(|_| want.functions),
            regions: Some(marked.regions),
            processes: listed(&ran.members, &counts),
            modules: super::modules(&ran.members),
            pinning: ran.pinning,
            caveats,
            attempts: ran.attempts,
        })
    }

    /// One part as a chunk, markers left out; and whether `rep` instructions ran in it.
    fn chunk(
        &self,
        member: &Member,
        part: &Part,
        extent: Extent,
        want: Detail,
    ) -> Result<(Chunk, bool), BackendError> {
        let mut profile = AddressProfile::default();
        self.place(member, &part.objects, &mut profile)?;
        let marker = |code: &[u8]| regions::in_marker(Machine::HERE, code);
        let profile = profile.without(&self.modules, regions::MARKER_BYTES, marker);
        let attribution = profile.attribute(&self.modules)?;
        let chunk = Chunk {
            end: chunk_end(&part.trigger, extent),
            instructions: profile.total()?,
            opcodes: want.opcodes.then_some(attribution.opcodes),
            functions: want.functions.then_some(attribution.functions),
        };
        Ok((chunk, attribution.rep_strings > 0))
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

/// valgrind/callgrind.h: the numbers of CALLGRIND_TOGGLE_COLLECT and CALLGRIND_START_INSTRUMENTATION.
const TOGGLE_COLLECT: [u8; 4] = 0x4354_0002u32.to_le_bytes();
const START_INSTRUMENTATION: [u8; 4] = 0x4354_0004u32.to_le_bytes();

/// What callgrind must count for the marks that the program has. Programs that only toggle collection need
/// instrumentation from the start; for all others it is off until they switch it on.
fn extent_of(launch: &Launch) -> Extent {
    let program = launch.cwd.clone().unwrap_or_default().join(&launch.program);
    let code = unread::read(&program).unwrap_or_default();
    let has = |request: [u8; 4]| code.windows(request.len()).any(|window| window == request);
    if has(TOGGLE_COLLECT) && !has(START_INSTRUMENTATION) {
        Extent::Collected
    } else {
        Extent::Instrumented
    }
}

/// The regions open in a process when it begins.
fn at_fork(member: &Member, opened: &[Vec<Open>]) -> Open {
    let parent = member.parent.filter(|_| member.is_copy());
    let history = parent.and_then(|index| opened.get(index));
    let open = history.and_then(|history| history.get(member.parent_parts).or(history.last()));
    open.map(Open::forked).unwrap_or_default()
}

fn chunk_end(trigger: &str, extent: Extent) -> ChunkEnd {
    let label = trigger
        .strip_prefix("Client Request")
        .map(|rest| rest.trim_start_matches(':').trim());
    match label {
        Some(label) if !label.is_empty() => ChunkEnd::Label(label.to_owned()),
        _ if extent == Extent::Collected => ChunkEnd::Collected,
        _ => ChunkEnd::Instrumented,
    }
}

/// `parts` without what the process had inherited, which is all in the first of them: a dump sets counts to 0.
fn less_parts(mut parts: Vec<Part>, base: Vec<Part>) -> Option<Vec<Part>> {
    let first = parts.first_mut()?;
    for part in base {
        first.objects = less(std::mem::take(&mut first.objects), part.objects)?;
        first.total = first.total.checked_sub(part.total)?;
    }
    Some(parts)
}

/// Executions by object and address.
type Objects = pending::Executions;

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

/// The counts of a process with the blocks that callgrind leaves out.
enum Complete {
    /// They are all in.
    Exact(Objects),
    /// They could not be told, because of this.
    Short(Objects, String),
}

/// Adds what callgrind had begun and not counted, and takes away what the process's parent had begun.
fn complete(member: &Member, mut objects: Objects) -> Result<Complete, CountOverflow> {
    let uncounted = &member.uncounted;
    let Some(last) = &uncounted.last else {
        let reason = uncounted.doubt.clone();
        let unseen = || "its end was not seen".to_owned();
        return Ok(Complete::Short(objects, reason.unwrap_or_else(unseen)));
    };
    pending::add(&mut objects, last)?;
    pending::add(&mut objects, &uncounted.handlers)?;
    let reason = match (
        less(objects.clone(), uncounted.before.clone()),
        &uncounted.doubt,
    ) {
        (Some(own), None) => return Ok(Complete::Exact(own)),
        (Some(own), Some(doubt)) => return Ok(Complete::Short(own, doubt.clone())),
        (None, _) => "the block that forked it is not in its counts",
    };
    Ok(Complete::Short(objects, reason.to_owned()))
}

/// Callgrind adds a block's cost when the next one begins, so that the block a process ends in is never added.
fn last_block(reason: String) -> Caveat {
    Caveat::Other {
        text: format!(
            "callgrind leaves out, or counts twice, the last basic block of a process or a signal handler ({reason})"
        ),
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
                "the opcodes of {} instructions are unknown and stand as `(bad)`, one at {}{}",
                attribution.undecoded,
                attribution
                    .undecoded_at
                    .as_deref()
                    .unwrap_or("an unreadable file"),
                files.concat()
            ),
        });
    }
    caveats
}
