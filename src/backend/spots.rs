//! Places of a course by name: function, module and line.

use std::path::Path;

use super::profile::Modules;
use crate::model::course::{Origin, Place};
use crate::model::explanation::{Named, Spot};
use crate::object::{Elf, Line, debug_file, line_at};
use crate::sys::unread;

/// Beginnings of the file names of the C library and the dynamic loader, of glibc and musl.
const LIBRARY: [&str; 7] = [
    "libc.",
    "libc-",
    "ld-linux",
    "ld-2",
    "ld-musl",
    "libpthread",
    "libm.",
];

/// Names a place whose origin is known. The file must be as it was when it ran.
pub fn name(modules: &Modules, origin: Option<&Origin>, place: Place) -> Named {
    match origin {
        Some(Origin::File(path)) => in_file(modules, path, place.offset),
        Some(Origin::Memory(label)) => in_memory(label, place.offset),
        None => in_memory("[unknown]", place.offset),
    }
}

/// Whether code is the C library's or the dynamic loader's.
pub fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    LIBRARY.iter().any(|start| name.starts_with(start))
}

/// Whether code is the dynamic loader's.
pub fn is_loader(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("ld-")
}

fn in_memory(label: &str, address: u64) -> Named {
    Named {
        spot: Spot {
            module: label.to_owned(),
            function: format!("{address:#x}"),
            line: None,
        },
        library: false,
    }
}

fn in_file(modules: &Modules, path: &Path, offset: u64) -> Named {
    let file = path.file_name().unwrap_or(path.as_os_str());
    let module = file.to_string_lossy().into_owned();
    let library = is_library(path);
    let found = modules.get(path).ok();
    let found = found.and_then(|found| {
        let svma = found.elf.svma_of_offset(offset)?;
        Some((found, svma))
    });
    let Some((found, svma)) = found else {
        let function = format!("[{module}+{offset:#x}]");
        let line = None;
        return Named {
            spot: Spot {
                module,
                function,
                line,
            },
            library,
        };
    };
    let line = line_at(&found.elf, svma).or_else(|| line_of_debug_file(&found.elf, svma));
    let written = line.as_ref().and_then(|line| line.function.clone());
    let known = || found.symbols.at(svma).map(|known| known.name());
    let function = written
        .or_else(known)
        .unwrap_or_else(|| format!("[{module}+{svma:#x}]"));
    let line = line.map(|line| line.at);
    Named {
        spot: Spot {
            module,
            function,
            line,
        },
        library,
    }
}

/// The line as the separate debug file has it.
fn line_of_debug_file(elf: &Elf, svma: u64) -> Option<Line> {
    let path = elf.build_id().and_then(debug_file)?;
    let debug = Elf::parse(unread::read(&path).ok()?).ok()?;
    let same = debug.build_id() == elf.build_id();
    same.then(|| line_at(&debug, svma)).flatten()
}
