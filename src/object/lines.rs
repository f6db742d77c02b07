//! Lines of source code by stated address, out of DWARF.

use std::borrow::Cow;

use addr2line::Context;
use addr2line::gimli::{Dwarf, DwarfSections, EndianSlice, LittleEndian};

use super::{Elf, demangle};

/// A line of source code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `file:line`, the file without its folder.
    pub at: String,
    /// The function as it was written: that which was inlined, where one was.
    pub function: Option<String>,
}

/// The source line of the instruction at `svma`; none where the file has no such information. Reads the tables anew each
/// time: for a few addresses.
pub fn line_at(elf: &Elf, svma: u64) -> Option<Line> {
    // No instruction is there, and what reads the tables adds one.
    svma.checked_add(1)?;
    let sections = DwarfSections::load(|id| -> Result<Cow<'_, [u8]>, addr2line::gimli::Error> {
        Ok(elf.section(id.name()).unwrap_or_default())
    });
    let sections = sections.ok()?;
    let dwarf: Dwarf<EndianSlice<'_, LittleEndian>> =
        sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
    let context = Context::from_dwarf(dwarf).ok()?;
    let mut frames = context.find_frames(svma).skip_all_loads().ok()?;
    let frame = frames.next().ok()??;
    let location = frame.location?;
    let file = location.file?.rsplit('/').next()?.to_owned();
    let function = frame
        .function
        .and_then(|function| Some(function.raw_name().ok()?.into_owned()));
    Some(Line {
        at: format!("{file}:{}", location.line?),
        function: function.map(|name| demangle(&name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Symbols;

    // Where it is inlined into what calls it, it has no symbol: that hangs on how the compiler divides the crate.
    #[test]
    #[inline(never)]
    fn finds_the_line_of_this_test() {
        let file = std::env::current_exe().unwrap();
        let elf = Elf::parse(std::fs::read(file).unwrap()).unwrap();
        let symbols = Symbols::of(&elf).unwrap();
        let name = "lines::tests::finds_the_line_of_this_test";
        let function = symbols.iter().find(|f| f.name().ends_with(name)).unwrap();
        let line = line_at(&elf, function.svma).unwrap();
        assert!(line.at.starts_with("lines.rs:"), "{line:?}");
        let written = "finds_the_line_of_this_test";
        assert!(
            line.function
                .is_some_and(|function| function.contains(written))
        );
        assert_eq!(line_at(&elf, u64::MAX), None);
    }
}
