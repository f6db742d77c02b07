//! ELF files: identity, code by stated address, names of functions. Pure over bytes.
//!
//! It reads no file, but for [`build_id_of`] and [`needed_by`]: the caller hands over the bytes, and looks for separate
//! debug files where [`debug_file`] says. Addresses are those stated in the file (`svma`); turning addresses of a process
//! into them is [`Elf::svma_of_offset`] with the process's mappings. Any bytes give an answer or an error.

mod lines;
mod needed;
mod symbols;
pub mod unwind;

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Architecture, Endianness, Object, ObjectSection, ReadRef};

use crate::isa::Arch;

pub use lines::{Line, line_at};
pub use needed::{Needed, needed_by};
pub use symbols::{Function, Symbols, demangle};

/// Why bytes cannot be used as an ELF file.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// They are no ELF file, or a damaged one.
    #[error("read an ELF file: {0}")]
    Damaged(#[from] object::Error),
    /// They are for a machine without a decoder here.
    #[error("read an ELF file: no decoder for {0:?}")]
    Machine(Architecture),
    /// What they name is not in them.
    #[error("read an ELF file: a library's name is not in it")]
    Name,
}

/// A part of the file that is loaded into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address, as stated in the file.
    pub svma: u64,
    /// Offset of its bytes in the file.
    pub offset: u64,
    /// Bytes that come from the file.
    pub len_bytes: u64,
    /// Whether it is code.
    pub executable: bool,
}

/// An ELF executable, shared object or debug file.
#[derive(Clone, Debug)]
pub struct Elf {
    data: Vec<u8>,
    arch: Arch,
    build_id: Option<Vec<u8>>,
    segments: Vec<Segment>,
    interpreter: Option<PathBuf>,
}

impl Elf {
    /// Reads headers only; symbols are read by [`Symbols::of`].
    pub fn parse(data: Vec<u8>) -> Result<Elf, ObjectError> {
        let file = object::File::parse(data.as_slice())?;
        let arch = match file.architecture() {
            Architecture::I386 => Arch::X86,
            Architecture::X86_64 => Arch::X86_64,
            Architecture::Aarch64 => Arch::Aarch64,
            other => return Err(ObjectError::Machine(other)),
        };
        let build_id = file.build_id()?.map(<[u8]>::to_vec);
        let (segments, interpreter) = match &file {
            object::File::Elf32(file) => program_headers(file.elf_header(), file.data())?,
            object::File::Elf64(file) => program_headers(file.elf_header(), file.data())?,
            _ => (Vec::new(), None),
        };
        Ok(Elf {
            arch,
            build_id,
            segments,
            interpreter,
            data,
        })
    }

    /// What it is compiled for.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The linker's identity of its contents.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// The build-id as lower-case hexadecimal digits.
    pub fn build_id_hex(&self) -> Option<String> {
        let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect();
        self.build_id().map(hex)
    }

    /// The dynamic loader it asks for; absent in static executables and in most shared objects.
    pub fn interpreter(&self) -> Option<&Path> {
        self.interpreter.as_deref()
    }

    /// Its loaded parts, in the order of the program headers.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The stated address of what stands at `offset` of the file and is loaded as code.
    pub fn svma_of_offset(&self, offset: u64) -> Option<u64> {
        let code = self.segments.iter().filter(|s| s.executable);
        code.filter_map(|s| {
            let inside = offset
                .checked_sub(s.offset)
                .filter(|at| *at < s.len_bytes)?;
            s.svma.checked_add(inside)
        })
        .next()
    }

    /// The bytes from stated address `svma` to the end of its segment, at most `most` of them; empty where
    /// the file has none.
    pub fn code(&self, svma: u64, most: usize) -> &[u8] {
        self.segments
            .iter()
            .find_map(|s| self.bytes_in(s, svma))
            .map_or(&[], |bytes| bytes.get(..most).unwrap_or(bytes))
    }

    /// A section's bytes, unpacked if they are packed; none where it has no such section.
    pub(crate) fn section(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let file = self.file().ok()?;
        file.section_by_name(name)?.uncompressed_data().ok()
    }

    /// The stated addresses of a section.
    pub(crate) fn section_range(&self, name: &str) -> Option<Range<u64>> {
        let file = self.file().ok()?;
        let section = file.section_by_name(name)?;
        Some(section.address()..section.address().checked_add(section.size())?)
    }

    fn bytes_in(&self, segment: &Segment, svma: u64) -> Option<&[u8]> {
        let inside = svma
            .checked_sub(segment.svma)
            .filter(|at| *at < segment.len_bytes)?;
        let start = segment.offset.checked_add(inside)?;
        let end = segment.offset.checked_add(segment.len_bytes)?;
        let end = end.min(self.data.len() as u64);
        self.data
            .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// The bytes of the file.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    fn file(&self) -> Result<object::File<'_>, object::Error> {
        object::File::parse(self.data.as_slice())
    }

    /// The name its `.gnu_debuglink` gives its separate debug file.
    pub fn debug_link(&self) -> Option<PathBuf> {
        let (name, _) = self.file().ok()?.gnu_debuglink().ok()??;
        Some(PathBuf::from(String::from_utf8_lossy(name).into_owned()))
    }

    /// Whether it has a symbol table of its own; a stripped file has only what the dynamic loader needs.
    pub fn has_symbols(&self) -> bool {
        self.file().is_ok_and(|file| {
            file.section_by_name(".symtab")
                .is_some_and(|s| s.size() > 0)
        })
    }
}

/// The loaded segments and the interpreter.
fn program_headers<'data, Header, R>(
    header: &Header,
    data: R,
) -> Result<(Vec<Segment>, Option<PathBuf>), ObjectError>
where
    Header: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let endian = header.endian()?;
    let headers = header.program_headers(endian, data)?;
    let loaded = headers.iter().filter(|h| h.p_type(endian) == elf::PT_LOAD);
    let segments = loaded.map(|h| Segment {
        svma: h.p_vaddr(endian).into(),
        offset: h.p_offset(endian).into(),
        len_bytes: h.p_filesz(endian).into(),
        executable: h.p_flags(endian).contains(elf::PF_X),
    });
    let interpreter = headers.iter().find_map(|h| {
        let path = h.interpreter(endian, data).ok()??;
        Some(PathBuf::from(String::from_utf8_lossy(path).into_owned()))
    });
    Ok((segments.collect(), interpreter))
}

/// The build-id of an ELF file for any machine, of which only the parts are read that lead to it.
pub fn build_id_of(file: &std::fs::File) -> Option<Vec<u8>> {
    let parts = object::ReadCache::new(file);
    let file = object::File::parse(&parts).ok()?;
    Some(file.build_id().ok()??.to_vec())
}

/// Where Linux distributions put the separate debug file of a build-id (GDB manual, "Separate Debug Files").
pub fn debug_file(build_id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = build_id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    (!rest.is_empty())
        .then(|| PathBuf::from(format!("/usr/lib/debug/.build-id/{first:02x}/{rest}.debug")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ourselves() -> Elf {
        let file = std::env::current_exe().unwrap();
        Elf::parse(std::fs::read(file).unwrap()).unwrap()
    }

    #[test]
    fn reads_the_program_that_runs_this_test() {
        let elf = ourselves();
        assert_eq!(Some(elf.arch()), Arch::native());
        assert!(elf.interpreter().is_some() && elf.has_symbols());
        let code = elf.segments().iter().find(|s| s.executable).unwrap();
        assert_eq!(elf.svma_of_offset(code.offset), Some(code.svma));
        assert_eq!(
            elf.code(code.svma, 4),
            &elf.data()[code.offset as usize..][..4]
        );
    }

    #[test]
    fn names_rust_functions_without_their_hash() {
        let symbols = Symbols::of(&ourselves()).unwrap();
        let name = "object::tests::names_rust_functions_without_their_hash";
        assert!(symbols.iter().any(|f| f.name().ends_with(name)));
    }

    #[test]
    fn demangles_what_compilers_mangle_and_nothing_else() {
        assert_eq!(demangle("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangle("_ZN3foo3bar17h0123456789abcdefE"), "foo::bar");
        assert_eq!(demangle("_ZN3foo3barEi@plt"), "foo::bar(int)@plt");
        assert_eq!(demangle("main"), "main");
    }

    #[test]
    fn debug_files_are_sought_by_build_id() {
        let path = debug_file(&[0xab, 0xcd, 0x01]).unwrap();
        assert_eq!(path, Path::new("/usr/lib/debug/.build-id/ab/cd01.debug"));
        assert_eq!(debug_file(&[]), None);
    }

    proptest! {
        #[test]
        fn a_damaged_file_gives_an_answer(at in 0usize..4096, byte: u8, length in 0usize..8192) {
            let mut data = std::fs::read("/bin/true").unwrap();
            data.truncate(data.len().min(length + 4096));
            if let Some(slot) = data.get_mut(at) {
                *slot = byte;
            }
            if let Ok(elf) = Elf::parse(data) {
                let _ = Symbols::of(&elf);
                let _ = elf.code(at as u64, 15);
            }
        }
    }
}
