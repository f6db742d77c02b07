//! What a file asks of the dynamic loader: the one it names, and the libraries it cannot do without.

use std::fs::File;

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef, elf};

use super::ObjectError;

/// What the dynamic loader is to do for a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Whether it names a loader, and is not the kernel's alone to start.
    pub has_loader: bool,
    /// Names of libraries (`DT_NEEDED`), in the order of the file.
    pub libraries: Vec<Vec<u8>>,
}

/// What a 64-bit ELF file asks of the loader; only the parts are read that say so. A file without section headers asks
/// for no library.
pub fn needed_by(file: &File) -> Result<Needed, ObjectError> {
    let parts = ReadCache::new(file);
    Ok(read(&parts)?)
}

fn read<'data, R: ReadRef<'data>>(data: R) -> Result<Needed, object::Error> {
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let parts = header.program_headers(endian, data)?;
    let dynamic = header.sections(endian, data)?.dynamic_table(endian, data)?;
    let needed = dynamic.iter().filter(|entry| entry.tag == elf::DT_NEEDED);
    let names = needed.map(|entry| dynamic.string(entry).map(<[u8]>::to_vec));
    Ok(Needed {
        has_loader: parts
            .iter()
            .any(|part| part.p_type(endian) == elf::PT_INTERP),
        libraries: names.collect::<Result<_, _>>()?,
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
