//! What a file asks of the dynamic loader: the one it names, and the libraries it cannot do without.

use std::fs::File;

use object::read::StringTable;
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef, elf};

use super::ObjectError;

/// What the dynamic loader is to do for a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Whether it names a loader, and is not the kernel's alone to start.
    pub has_loader: bool,
    /// Names of libraries (`DT_NEEDED` and the like), in the order of the file.
    pub libraries: Vec<Vec<u8>>,
}

/// What a 64-bit ELF file asks of the loader; only the parts are read that say so, as the loader reads them: by segments.
pub fn needed_by(file: &File) -> Result<Needed, ObjectError> {
    let parts = ReadCache::new(file);
    read(&parts)
}

/// Entries that name a library: one that is needed, and those that stand for it or watch it (ld.so(8), elf(5)).
const NAMES: [elf::DynamicTag; 5] = [
    elf::DT_NEEDED,
    elf::DT_AUXILIARY,
    elf::DT_FILTER,
    elf::DT_AUDIT,
    elf::DT_DEPAUDIT,
];

fn read<'data, R: ReadRef<'data>>(data: R) -> Result<Needed, ObjectError> {
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let parts = header.program_headers(endian, data)?;
    let dynamic = parts
        .iter()
        .find_map(|part| part.dynamic(endian, data).transpose());
    let dynamic = dynamic.transpose()?.unwrap_or_default();
    let value = |tag| {
        let entry = dynamic.iter().find(|entry| entry.d_tag(endian) == tag);
        entry.map_or(0, |entry| entry.d_val(endian))
    };
    let (at, size) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ));
    let mut loaded = parts
        .iter()
        .filter(|part| part.p_type(endian) == elf::PT_LOAD);
    let strings = loaded.find_map(|part| {
        let within = at.checked_sub(part.p_vaddr(endian))?;
        let start = part.p_offset(endian).checked_add(within)?;
        (within < part.p_filesz(endian)).then_some(start)
    });
    let strings = strings.map(|start| StringTable::new(data, start, start.saturating_add(size)));
    let named = dynamic
        .iter()
        .filter(|entry| NAMES.contains(&entry.d_tag(endian)));
    let name = |offset: u64| {
        let offset = u32::try_from(offset).ok();
        let name = offset.and_then(|offset| strings.as_ref()?.get(offset).ok());
        name.map(<[u8]>::to_vec).ok_or(ObjectError::Name)
    };
    Ok(Needed {
        has_loader: parts
            .iter()
            .any(|part| part.p_type(endian) == elf::PT_INTERP),
        libraries: named
            .map(|entry| name(entry.d_val(endian)))
            .collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_program_needs_that_runs_this_test() {
        let file = File::open("/proc/self/exe").unwrap();
        let needed = needed_by(&file).unwrap();
        let libc = |name: &Vec<u8>| name.starts_with(b"libc.so");
        assert!(
            needed.has_loader && needed.libraries.iter().any(libc),
            "{needed:?}"
        );
    }

    proptest! {
        #[test]
        fn a_damaged_file_gives_an_answer(at in 0usize..4096, byte: u8, length in 0usize..65536) {
            let mut data = std::fs::read("/bin/true").unwrap();
            data.truncate(length);
            if let Some(slot) = data.get_mut(at) {
                *slot = byte;
            }
            let _ = read(data.as_slice());
        }
    }
}
