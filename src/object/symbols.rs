//! The functions of an ELF file by stated address.
//!
//! Symbols may overlap, nest, lack a size or share an address. An address belongs to the function that begins
//! nearest before it and reaches it; one without a size reaches to the next symbol or its section's end.

use object::{Architecture, Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};

use super::{Elf, ObjectError};
use crate::isa::Arch;

/// A named stretch of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// First address, as stated in the file.
    pub svma: u64,
    /// First address behind it.
    pub end: u64,
    /// Its name as the linker knows it.
    pub linkage_name: String,
}

impl Function {
    /// The name a person wrote: demangled, without the hash that Rust appends.
    pub fn name(&self) -> String {
        demangle(&self.linkage_name)
    }
}

/// The functions of a file, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// Sorted by `svma`; of those at one address only the best-named is here.
    functions: Vec<Function>,
    /// For each function the largest `end` of it and all before it, so that a search knows when to stop.
    reach: Vec<u64>,
}

impl Symbols {
    /// The functions of `elf`: its full and its dynamic symbols, local ones too, and its PLT entries.
    pub fn of(elf: &Elf) -> Result<Symbols, ObjectError> {
        let file = elf.file()?;
        let mut found = Vec::new();
        for symbol in file.symbols().chain(file.dynamic_symbols()) {
            found.extend(candidate(&file, &symbol));
        }
        found.extend(plt(&file, elf.arch()));
        Ok(Symbols::from_candidates(found))
    }

    /// The functions of both; those of `self` come first where both name an address.
    pub fn merged(self, other: Symbols) -> Symbols {
        let rank = |rank| move |function| Candidate { function, rank };
        let ours = self.functions.into_iter().map(rank(0));
        let theirs = other.functions.into_iter().map(rank(1));
        Symbols::from_candidates(ours.chain(theirs).collect())
    }

    fn from_candidates(mut found: Vec<Candidate>) -> Symbols {
        found.sort_by(|a, b| a.key().cmp(&b.key()));
        found.dedup_by_key(|candidate| candidate.function.svma);
        let mut functions: Vec<Function> = found.into_iter().map(|c| c.function).collect();
        close_open_ends(&mut functions);
        let reach = functions.iter().scan(0, |furthest: &mut u64, f| {
            *furthest = f.end.max(*furthest);
            Some(*furthest)
        });
        Symbols {
            reach: reach.collect(),
            functions,
        }
    }

    /// The innermost function that holds `svma`.
    pub fn at(&self, svma: u64) -> Option<&Function> {
        let behind = self.functions.partition_point(|f| f.svma <= svma);
        let before = self.functions.get(..behind)?.iter().zip(&self.reach).rev();
        before
            .take_while(|(_, reach)| **reach > svma)
            .map(|(function, _)| function)
            .find(|function| function.end > svma)
    }

    /// The end of whichever function reaches furthest among those that begin before `svma`.
    pub fn end_before(&self, svma: u64) -> Option<u64> {
        let behind = self.functions.partition_point(|f| f.svma <= svma);
        self.reach.get(behind.checked_sub(1)?).copied()
    }

    /// Every function, by address.
    pub fn iter(&self) -> impl Iterator<Item = &Function> {
        self.functions.iter()
    }
}

/// A possible name of an address; the least of its `key` wins.
struct Candidate {
    function: Function,
    rank: u8,
}

impl Candidate {
    /// By address; at one address global before weak before local, sized before unsized, then by name, so that
    /// the choice does not hang on the order in the file.
    fn key(&self) -> (u64, bool, u8, &str) {
        let Function {
            svma,
            end,
            linkage_name,
        } = &self.function;
        (*svma, end == svma, self.rank, linkage_name)
    }
}

fn candidate<'data>(
    file: &object::File<'data>,
    symbol: &object::Symbol<'data, '_>,
) -> Option<Candidate> {
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let code = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Label)
        || is_indirect(symbol)
        || (symbol.kind() == SymbolKind::Unknown && section.kind() == object::SectionKind::Text);
    let name = String::from_utf8_lossy(symbol.name_bytes().ok()?);
    // The Arm ABI marks code and data with `$x` and `$d` (ELF for the Arm 64-bit Architecture, 5.5).
    if !code || name.is_empty() || name.starts_with('$') {
        return None;
    }
    let rank = match (symbol.is_local(), symbol.is_weak()) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    let svma = symbol.address();
    let limit = section.address().checked_add(section.size())?;
    let end = svma.checked_add(symbol.size())?.min(limit.max(svma));
    let function = Function {
        svma,
        end,
        linkage_name: name.into_owned(),
    };
    Some(Candidate { function, rank })
}

/// Whether it is an indirect function: its code chooses the implementation.
fn is_indirect(symbol: &object::Symbol<'_, '_>) -> bool {
    match symbol.flags() {
        object::SymbolFlags::Elf { st_info, .. } => st_info.st_type() == object::elf::STT_GNU_IFUNC,
        _ => false,
    }
}

/// Lets functions without a size reach to the next one.
fn close_open_ends(functions: &mut [Function]) {
    let mut next = None;
    for function in functions.iter_mut().rev() {
        if function.end == function.svma {
            function.end = next.unwrap_or(function.svma.saturating_add(1));
        }
        next = Some(function.svma);
    }
}

/// The entries of the procedure linkage table, as `name@plt`. Their layout is the psABIs': sixteen bytes each, in
/// the order of the relocations; `.plt` begins with a header, `.plt.sec` does not.
fn plt(file: &object::File<'_>, arch: Arch) -> Vec<Candidate> {
    const ENTRY_BYTES: u64 = 16;
    let header_bytes = if arch == Arch::Aarch64 { 32 } else { 16 };
    let section = |name| file.section_by_name(name);
    let (table, header) = match (section(".plt.sec"), section(".plt")) {
        (Some(table), _) => (table, 0),
        (None, Some(table)) => (table, header_bytes),
        (None, None) => return Vec::new(),
    };
    let names = plt_names(file);
    let expected = (names.len() as u64)
        .checked_mul(ENTRY_BYTES)
        .and_then(|entries| entries.checked_add(header));
    if expected.is_none_or(|bytes| bytes > table.size()) {
        return Vec::new();
    }
    let starts = (0u64..).map_while(|i| {
        let offset = i.checked_mul(ENTRY_BYTES)?.checked_add(header)?;
        table.address().checked_add(offset)
    });
    let entry = |(svma, name): (u64, Option<String>)| {
        Some(Candidate {
            function: Function {
                svma,
                end: svma.checked_add(ENTRY_BYTES)?,
                linkage_name: format!("{}@plt", name?),
            },
            rank: 3,
        })
    };
    starts.zip(names).filter_map(entry).collect()
}

/// The targets of the jump-slot relocations, in order of their slots in the global offset table.
fn plt_names(file: &object::File<'_>) -> Vec<Option<String>> {
    let jump_slot = match file.architecture() {
        Architecture::Aarch64 => object::elf::R_AARCH64_JUMP_SLOT,
        Architecture::X86_64 => object::elf::R_X86_64_JUMP_SLOT,
        _ => object::elf::R_386_JMP_SLOT,
    };
    let symbols = file.dynamic_symbol_table();
    let slots = file.dynamic_relocations().into_iter().flatten();
    slots
        .filter(|(_, relocation)| {
            relocation.flags() == object::RelocationFlags::Elf { r_type: jump_slot }
        })
        .map(|(_, relocation)| {
            use object::ObjectSymbolTable;
            let RelocationTarget::Symbol(index) = relocation.target() else {
                return None;
            };
            let symbol = symbols.as_ref()?.symbol_by_index(index).ok()?;
            Some(String::from_utf8_lossy(symbol.name_bytes().ok()?).into_owned())
        })
        .collect()
}

/// Longest name that is demangled: cpp_demangle's work can grow with the square of it.
const LONGEST_MANGLED: usize = 4096;

/// Rust's names without their hash, C++'s with their parameters, all others as they are.
pub fn demangle(name: &str) -> String {
    if name.len() > LONGEST_MANGLED {
        return name.to_owned();
    }
    let (stem, suffix) = name
        .strip_suffix("@plt")
        .map_or((name, ""), |stem| (stem, "@plt"));
    if let Ok(rust) = rustc_demangle::try_demangle(stem) {
        return format!("{rust:#}{suffix}");
    }
    let cpp = stem
        .starts_with("_Z")
        .then(|| cpp_demangle::Symbol::new(stem).ok()?.demangle().ok())
        .flatten();
    cpp.map_or_else(|| name.to_owned(), |text| text + suffix)
}
