//! Counts by instruction address, and what they say about opcodes and functions.
//!
//! A backend adds up where instructions ran, by file and stated address, or by address and bytes for code that
//! is in no file. [`Modules`] then reads each file once. Nothing is dropped: what cannot be decoded is counted
//! as [`isa::BAD`](crate::isa::BAD) and reported as such, so that opcodes and functions always sum to the total.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::BackendError;
use crate::isa::{self, Arch, Decoder, Instruction};
use crate::model::{CountOverflow, Functions, OpcodeMix, sum};
use crate::object::{Elf, Symbols, debug_file};
use crate::sys::unread;

/// Code that stands in no file: generated at run time, or the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryCode {
    /// What a report calls the place: `[vdso]`, `[anonymous]`.
    pub label: String,
    /// Where it was, in the process.
    pub address: u64,
    /// Its bytes from `address` on, at most [`isa::LONGEST_BYTES`]; empty when they could not be read.
    pub bytes: Vec<u8>,
}

/// How often the instruction at each address was executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressProfile {
    /// By file and address stated in it.
    files: BTreeMap<PathBuf, HashMap<u64, u64>>,
    memory: BTreeMap<MemoryCode, u64>,
}

impl AddressProfile {
    /// Adds `count` executions of the instruction at `svma` of `file`.
    pub fn add(&mut self, file: &Path, svma: u64, count: u64) -> Result<(), CountOverflow> {
        if !self.files.contains_key(file) {
            self.files.insert(file.to_owned(), HashMap::new());
        }
        let Some(counts) = self.files.get_mut(file) else {
            return Ok(());
        };
        increase(counts.entry(svma).or_default(), count)
    }

    /// Adds `count` executions of an instruction that is in no file.
    pub fn add_memory(&mut self, code: MemoryCode, count: u64) -> Result<(), CountOverflow> {
        increase(self.memory.entry(code).or_default(), count)
    }

    /// Adds every count of `other`.
    pub fn merge(&mut self, other: &AddressProfile) -> Result<(), CountOverflow> {
        for (file, counts) in &other.files {
            for (svma, count) in counts {
                self.add(file, *svma, *count)?;
            }
        }
        for (code, count) in &other.memory {
            self.add_memory(code.clone(), *count)?;
        }
        Ok(())
    }

    /// All executions together.
    pub fn total(&self) -> Result<u64, CountOverflow> {
        let in_files = self.files.values().flat_map(HashMap::values).copied();
        sum(in_files.chain(self.memory.values().copied()))
    }

    /// The files that code ran in, by path.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// The profile without the addresses whose code `drop` recognises, given `most` bytes of it where there are so
    /// many. Code that cannot be read stays.
    pub fn without(
        mut self,
        modules: &Modules,
        most: usize,
        drop: impl Fn(&[u8]) -> bool,
    ) -> AddressProfile {
        for (path, counts) in &mut self.files {
            if let Ok(module) = modules.get(path) {
                counts.retain(|svma, _| !drop(module.elf.code(*svma, most)));
            }
        }
        self.memory.retain(|code, _| !drop(&code.bytes));
        self
    }

    /// Decodes and names every address.
    pub fn attribute(&self, modules: &Modules) -> Result<Attribution, AttributionError> {
        let mut sums = Sums::default();
        for (path, counts) in &self.files {
            sums.add_file(path, counts, modules)?;
        }
        for (code, count) in &self.memory {
            sums.add_memory(code, *count)?;
        }
        Ok(sums.finished)
    }
}

fn increase(slot: &mut u64, count: u64) -> Result<(), CountOverflow> {
    *slot = slot.checked_add(count).ok_or(CountOverflow)?;
    Ok(())
}

/// The mapping that an address of a running program is in.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its first address.
    pub start: u64,
    /// The offset of `start` in the file.
    pub offset: u64,
    /// The file, if it is one's.
    pub file: Option<&'a Path>,
    /// The kernel's name for special memory, or empty.
    pub label: &'a str,
}

/// The same by offset in files, as it is known while a program runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetProfile {
    /// By file and offset in it.
    files: BTreeMap<PathBuf, HashMap<u64, u64>>,
    memory: AddressProfile,
}

impl OffsetProfile {
    /// Adds `count` executions of the instruction `bytes` at `address` where it belongs: to its file, or to the memory
    /// that is none's.
    pub fn add_at(
        &mut self,
        place: Option<Place<'_>>,
        address: u64,
        bytes: &[u8],
        count: u64,
    ) -> Result<(), CountOverflow> {
        if let Some(place) = place
            && let Some(file) = place.file
        {
            return self.add(file, address - place.start + place.offset, count);
        }
        let label = place.map_or("", |place| place.label);
        let label = if label.is_empty() {
            "[anonymous]"
        } else {
            label
        };
        self.add_memory(
            MemoryCode {
                label: label.to_owned(),
                address,
                bytes: bytes.to_vec(),
            },
            count,
        )
    }

    /// Adds `count` executions of the instruction at `offset` of `file`.
    pub fn add(&mut self, file: &Path, offset: u64, count: u64) -> Result<(), CountOverflow> {
        if let Some(counts) = self.files.get_mut(file) {
            return increase(counts.entry(offset).or_default(), count);
        }
        self.files
            .insert(file.to_owned(), HashMap::from([(offset, count)]));
        Ok(())
    }

    /// Adds `count` executions of an instruction that is in no file.
    pub fn add_memory(&mut self, code: MemoryCode, count: u64) -> Result<(), CountOverflow> {
        self.memory.add_memory(code, count)
    }

    /// Adds every count of `other`.
    pub fn merge(&mut self, other: OffsetProfile) -> Result<(), CountOverflow> {
        for (file, counts) in other.files {
            let slots = self.files.entry(file).or_default();
            for (offset, count) in counts {
                increase(slots.entry(offset).or_default(), count)?;
            }
        }
        self.memory.merge(&other.memory)
    }

    /// By function; an offset that no file can explain stands for itself.
    pub fn functions(self, modules: &Modules) -> Result<Functions, AttributionError> {
        let mut profile = self.memory;
        for (path, counts) in self.files {
            let module = modules.get(&path).ok();
            for (offset, count) in counts {
                let svma = module.as_ref().and_then(|m| m.elf.svma_of_offset(offset));
                profile.add(&path, svma.unwrap_or(offset), count)?;
            }
        }
        Ok(profile.attribute(modules)?.functions)
    }
}

/// What the counts of a profile are counts of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    /// By opcode; sums to the profile's total.
    pub opcodes: OpcodeMix,
    /// By function; sums to the profile's total.
    pub functions: Functions,
    /// Executions of string instructions under a `rep` prefix, as the backend counted them.
    pub rep_strings: u64,
    /// Executions whose bytes could not be read or decoded: they are in `opcodes` as `(bad)`.
    pub undecoded: u64,
    /// One of these places, always the same for the same profile: `cc1+0x1234: 0f 1e ca`.
    pub undecoded_at: Option<String>,
    /// Files whose code or symbols could not be read, with the reason.
    pub unreadable: BTreeMap<PathBuf, String>,
}

/// Why counts could not be attributed.
#[derive(Debug, thiserror::Error)]
pub enum AttributionError {
    /// The counts themselves do not fit.
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
    /// Capstone failed.
    #[error(transparent)]
    Decoder(#[from] isa::DecoderError),
}

impl From<AttributionError> for BackendError {
    fn from(error: AttributionError) -> BackendError {
        match error {
            AttributionError::Overflow(overflow) => overflow.into(),
            AttributionError::Decoder(error) => error.into(),
        }
    }
}

impl From<isa::DecoderError> for BackendError {
    fn from(error: isa::DecoderError) -> BackendError {
        BackendError::Tool {
            tool: "capstone",
            problem: error.to_string(),
            remedy: "report this".to_owned(),
        }
    }
}

/// An attribution in the making.
#[derive(Default)]
struct Sums {
    finished: Attribution,
    decoders: HashMap<Arch, Decoder>,
}

impl Sums {
    fn add_file(
        &mut self,
        path: &Path,
        counts: &HashMap<u64, u64>,
        modules: &Modules,
    ) -> Result<(), AttributionError> {
        let name = file_name(path);
        let module = match modules.get(path) {
            Ok(module) => module,
            Err(reason) => {
                self.finished.unreadable.insert(path.to_owned(), reason);
                let count = sum(counts.values().copied())?;
                return self.add_unknown(&name, &format!("[{name}]"), count);
            }
        };
        let mut by_function: HashMap<String, u64> = HashMap::new();
        for (svma, count) in counts {
            let code = module.elf.code(*svma, isa::LONGEST_BYTES);
            let decoded = self.add_opcode(module.elf.arch(), code, *svma, *count)?;
            if !decoded {
                self.note_undecoded(&name, *svma, code);
            }
            let function = module.function(&name, *svma);
            increase(by_function.entry(function).or_default(), *count)?;
        }
        for (function, count) in by_function {
            self.finished
                .functions
                .add(&name, &module.demangled(function), count)?;
        }
        Ok(())
    }

    fn add_memory(&mut self, code: &MemoryCode, count: u64) -> Result<(), AttributionError> {
        let function = format!("[{}]", code.label.trim_matches(['[', ']']));
        self.finished.functions.add(&function, &function, count)?;
        let decoded = match Arch::native() {
            Some(arch) => self.add_opcode(arch, &code.bytes, code.address, count)?,
            None => self.add_opcode(Arch::X86_64, &[], code.address, count)?,
        };
        if !decoded {
            self.note_undecoded(&function, code.address, &code.bytes);
        }
        Ok(())
    }

    /// Keeps the least of all places, so that the choice does not hang on the order of a hash map.
    fn note_undecoded(&mut self, module: &str, address: u64, code: &[u8]) {
        let bytes: String = code.iter().map(|byte| format!(" {byte:02x}")).collect();
        let place = format!("{module}+{address:#x}:{bytes}");
        let known = &mut self.finished.undecoded_at;
        if known.as_ref().is_none_or(|least| place < *least) {
            *known = Some(place);
        }
    }

    fn add_unknown(
        &mut self,
        module: &str,
        function: &str,
        count: u64,
    ) -> Result<(), AttributionError> {
        self.finished.functions.add(module, function, count)?;
        self.finished.opcodes.add(isa::BAD, count)?;
        increase(&mut self.finished.undecoded, count)?;
        Ok(())
    }

    /// Whether it could be decoded.
    fn add_opcode(
        &mut self,
        arch: Arch,
        code: &[u8],
        address: u64,
        count: u64,
    ) -> Result<bool, AttributionError> {
        let instruction = self.decoder(arch)?.decode(code, address);
        let mnemonic = instruction.as_ref().map_or(isa::BAD, |i| &i.mnemonic);
        self.finished.opcodes.add(mnemonic, count)?;
        let decoded = mnemonic != isa::BAD;
        if !decoded {
            increase(&mut self.finished.undecoded, count)?;
        }
        if matches!(
            &instruction,
            Some(Instruction {
                rep_string: true,
                ..
            })
        ) {
            increase(&mut self.finished.rep_strings, count)?;
        }
        Ok(decoded)
    }

    fn decoder(&mut self, arch: Arch) -> Result<&Decoder, isa::DecoderError> {
        use std::collections::hash_map::Entry;
        match self.decoders.entry(arch) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(Decoder::new(arch)?)),
        }
    }
}

/// A file's name without its folder.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// An ELF file with its symbols, read once.
#[derive(Debug)]
pub struct Module {
    /// Its code.
    pub elf: Elf,
    /// Its functions, those of its separate debug file among them.
    pub symbols: Symbols,
}

impl Module {
    fn read(path: &Path) -> Result<Module, String> {
        let elf = read_elf(path)?;
        let symbols = Symbols::of(&elf).map_err(|error| error.to_string())?;
        if elf.has_symbols() {
            return Ok(Module { elf, symbols });
        }
        let debug = elf.build_id().and_then(debug_file);
        let more = debug
            .and_then(|path| read_elf(&path).ok())
            .filter(|debug| debug.build_id() == elf.build_id())
            .and_then(|debug| Symbols::of(&debug).ok());
        let symbols = match more {
            Some(more) => more.merged(symbols),
            None => symbols,
        };
        Ok(Module { elf, symbols })
    }

    /// The linkage name at `svma`, or where the stretch without a name begins.
    fn function(&self, module: &str, svma: u64) -> String {
        match self.symbols.at(svma) {
            Some(function) => function.linkage_name.clone(),
            None => format!("[{module}+{:#x}]", self.unnamed_start(svma)),
        }
    }

    fn unnamed_start(&self, svma: u64) -> u64 {
        let segments = self.elf.segments().iter().map(|s| s.svma);
        let start = segments.filter(|start| *start <= svma).max().unwrap_or(0);
        self.symbols
            .end_before(svma)
            .map_or(start, |end| end.max(start))
    }

    fn demangled(&self, linkage_name: String) -> String {
        crate::object::demangle(&linkage_name)
    }
}

fn read_elf(path: &Path) -> Result<Elf, String> {
    let data = unread::read(path).map_err(|error| error.to_string())?;
    Elf::parse(data).map_err(|error| error.to_string())
}

/// Which file stood at a path: it may be built anew between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
}

impl From<Metadata> for Version {
    fn from(metadata: Metadata) -> Version {
        Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// A file that was read, or why it could not be.
type Answer = Result<Arc<Module>, String>;

/// The files code ran in, each read once for as long as it does not change.
#[derive(Debug, Default)]
pub struct Modules {
    known: Mutex<HashMap<PathBuf, (Version, Answer)>>,
}

impl Modules {
    /// The module at `path`, or why it cannot be read.
    pub fn get(&self, path: &Path) -> Result<Arc<Module>, String> {
        let version = fs::metadata(path)
            .map_err(|error| error.to_string())?
            .into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, answer)) = known.get(path)
            && *read == version
        {
            return answer.clone();
        }
        let answer = Module::read(path).map(Arc::new);
        known.insert(path.to_owned(), (version, answer.clone()));
        answer
    }
}
