//! The dynamic loader's list of libraries, /etc/ld.so.cache: reading it, leaving entries out, writing it.
//!
//! Pure over bytes. The layout is that of glibc's sysdeps/generic/dl-cache.h. The loader searches the list by bisection, and
//! then goes through all entries of a name: what it executes depends on how many there are, and on nothing else here.

use std::collections::{BTreeSet, VecDeque};

/// What the list begins with, and with what the older one does that may stand before it.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";

/// Bytes of the older list's beginning and of its entries; what follows it stands at a multiple of 8.
const OLD_HEADER_BYTES: usize = 16;
const OLD_ENTRY_BYTES: usize = 12;

/// Bytes of the beginning and of an entry, and where the beginning has what is not the number of entries.
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
const STRINGS_BYTES_AT: usize = 24;
const BYTE_ORDER_AT: usize = 28;
const EXTENSION_AT: usize = 32;

/// Byte orders: not stated, and little-endian.
const BYTE_ORDERS: [u8; 2] = [0, 2];

/// What the extension begins with, and bytes of each section's description behind that and their number.
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const SECTION_BYTES: usize = 16;

/// Sections: what made the list, and names of folders below `glibc-hwcaps`.
const GENERATOR: u32 = 0;
const SUBFOLDERS: u32 = 1;

/// Entries that the loader of x86-64 programs looks at: without a kind, and its own (`_DL_CACHE_DEFAULT_ID`).
const FLAGS: [u32; 2] = [1, 0x303];

/// The high half of `hwcap` where the low half is the number of a subfolder, but for the level of its instruction set.
const IN_SUBFOLDER: u64 = 1 << 30;
const LEVEL: u64 = 0x3ff;

/// Folders that the loader looks into by itself, on one distribution or another.
const DEFAULT_FOLDERS: [&[u8]; 6] = [
    b"/lib/x86_64-linux-gnu",
    b"/usr/lib/x86_64-linux-gnu",
    b"/lib",
    b"/usr/lib",
    b"/lib64",
    b"/usr/lib64",
];

/// Why a list is not understood.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Misread {
    /// It begins with something else.
    #[error("it is of no known format")]
    Format,
    /// It is for machines that order bytes differently.
    #[error("it is in another byte order")]
    ByteOrder,
    /// Something that is referred to is not in it.
    #[error("it has no {what} at byte {at}")]
    Missing {
        /// What.
        what: &'static str,
        /// Where it should be.
        at: usize,
    },
    /// It has an extension that is newer than this code.
    #[error("it has a section of unknown kind {0}")]
    Section(u32),
}

/// A library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What programs ask for.
    pub name: &'a [u8],
    /// The file.
    pub path: &'a [u8],
    flags: u32,
    os_version: u32,
    hwcap: u64,
}

impl Entry<'_> {
    /// The number of its subfolder of `glibc-hwcaps`, if it is in one.
    fn subfolder(&self) -> Option<usize> {
        let in_one = (self.hwcap >> 32) & !LEVEL == IN_SUBFOLDER;
        in_one.then_some(self.hwcap as u32 as usize)
    }

    /// Whether the loader finds the file by itself where there is no such entry.
    fn is_in_default_folder(&self) -> bool {
        let Some(folder) = self.path.strip_suffix(self.name) else {
            return false;
        };
        let Some(folder) = folder.strip_suffix(b"/") else {
            return false;
        };
        DEFAULT_FOLDERS
            .iter()
            .filter_map(|default| folder.strip_prefix(*default))
            .any(|rest| {
                let below = rest.strip_prefix(b"/glibc-hwcaps/");
                rest.is_empty() || below.is_some_and(|name| !name.contains(&b'/'))
            })
    }
}

/// The list. Entries are in the order that the loader's search relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderCache<'a> {
    entries: Vec<Entry<'a>>,
    subfolders: Vec<&'a [u8]>,
    generator: Option<&'a [u8]>,
}

impl<'a> LoaderCache<'a> {
    /// Reads the entries that the loader of x86-64 programs looks at.
    pub fn parse(file: &'a [u8]) -> Result<LoaderCache<'a>, Misread> {
        let start = start(file)?;
        let part = &file[start..];
        let count = word(part, MAGIC.len(), "header")? as usize;
        if !BYTE_ORDERS.contains(&byte_order(part)?) {
            return Err(Misread::ByteOrder);
        }
        let entries = entries(part, count)?;
        let mut cache = LoaderCache {
            entries,
            subfolders: Vec::new(),
            generator: None,
        };
        // The loader counts from the beginning of the file here, not of the part.
        match word(part, EXTENSION_AT, "header")? {
            0 => {}
            extension => cache.extend(file, extension as usize)?,
        }
        let known = 0..cache.subfolders.len();
        let mut named = cache.entries.iter().filter_map(Entry::subfolder);
        match named.find(|number| !known.contains(number)) {
            Some(at) => Err(Misread::Missing {
                what: "subfolder",
                at,
            }),
            None => Ok(cache),
        }
    }

    fn extend(&mut self, file: &'a [u8], extension: usize) -> Result<(), Misread> {
        const WHAT: &str = "extension";
        if word(file, extension, WHAT)? != EXTENSION_MAGIC {
            return Err(Misread::Missing {
                what: WHAT,
                at: extension,
            });
        }
        let sections = word(file, extension.saturating_add(4), WHAT)? as usize;
        for number in 0..sections {
            let at = extension + 8 + number * SECTION_BYTES;
            let section = bytes(file, at, SECTION_BYTES, WHAT)?;
            let field = |at| word(section, at, WHAT);
            let content = bytes(file, field(8)? as usize, field(12)? as usize, "section")?;
            match field(0)? {
                GENERATOR => self.generator = Some(content),
                SUBFOLDERS => {
                    let names = content.chunks_exact(4).map(|name| {
                        let at = word(name, 0, "subfolder")?;
                        text(file, at as usize, "name of a subfolder")
                    });
                    self.subfolders = names.collect::<Result<_, _>>()?;
                }
                kind => return Err(Misread::Section(kind)),
            }
        }
        Ok(())
    }

    /// The names of libraries that are loaded with those: all that they need, and that these do. `needs` says what a file
    /// does. Names that are not in the list lead nowhere.
    pub fn closure(
        &self,
        first: &[Vec<u8>],
        mut needs: impl FnMut(&[u8]) -> Vec<Vec<u8>>,
    ) -> BTreeSet<Vec<u8>> {
        let mut found = BTreeSet::new();
        let mut open: VecDeque<Vec<u8>> = first.iter().cloned().collect();
        while let Some(name) = open.pop_front() {
            if found.contains(&name) {
                continue;
            }
            for entry in self.entries.iter().filter(|entry| entry.name == name) {
                open.extend(needs(entry.path));
            }
            found.insert(name);
        }
        found
    }

    /// The names of those that the loader does not find alone.
    pub fn elsewhere(&self) -> impl Iterator<Item = Vec<u8>> {
        let elsewhere = self.entries.iter().filter(|e| !e.is_in_default_folder());
        elsewhere.map(|entry| entry.name.to_vec())
    }

    /// The list of what is named. Of a name it has all entries or none.
    pub fn only(&self, named: &BTreeSet<Vec<u8>>) -> LoaderCache<'a> {
        let kept = |e: &&Entry<'_>| named.contains(e.name);
        let mut entries: Vec<Entry<'a>> = self.entries.iter().filter(kept).copied().collect();
        let used: BTreeSet<usize> = entries.iter().filter_map(Entry::subfolder).collect();
        for entry in &mut entries {
            if let Some(number) = entry.subfolder() {
                let renumbered = used.range(..number).count() as u64;
                entry.hwcap = entry.hwcap & !u64::from(u32::MAX) | renumbered;
            }
        }
        LoaderCache {
            entries,
            subfolders: used.iter().map(|n| self.subfolders[*n]).collect(),
            generator: self.generator,
        }
    }

    /// The file, without an older list before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut strings = Strings {
            start: HEADER_BYTES + self.entries.len() * ENTRY_BYTES,
            bytes: Vec::new(),
        };
        let mut out = vec![0; HEADER_BYTES];
        for entry in &self.entries {
            let path = strings.add(entry.path);
            let name = match entry.path.strip_suffix(entry.name) {
                Some(folder) => path + folder.len() as u32,
                None => strings.add(entry.name),
            };
            for field in [entry.flags, name, path, entry.os_version] {
                put(&mut out, field);
            }
            out.extend_from_slice(&entry.hwcap.to_le_bytes());
        }
        let names = self.subfolders.iter().map(|name| strings.add(name));
        let names: Vec<u8> = names.flat_map(u32::to_le_bytes).collect();
        let extension = (strings.start + strings.bytes.len()).next_multiple_of(4);
        out[..MAGIC.len()].copy_from_slice(MAGIC);
        for (at, value) in [
            (MAGIC.len(), self.entries.len()),
            (STRINGS_BYTES_AT, strings.bytes.len()),
            (BYTE_ORDER_AT, BYTE_ORDERS[1].into()),
            (EXTENSION_AT, extension),
        ] {
            out[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        out.extend_from_slice(&strings.bytes);
        out.resize(extension, 0);
        self.put_extension(&mut out, &names);
        out
    }

    fn put_extension(&self, out: &mut Vec<u8>, names: &[u8]) {
        let generator = self.generator.map(|text| (GENERATOR, text));
        let subfolders = (!names.is_empty()).then_some((SUBFOLDERS, names));
        // Numbers before text: so they stand at multiples of 4.
        let sections: Vec<(u32, &[u8])> = subfolders.into_iter().chain(generator).collect();
        let mut at = out.len() + 8 + sections.len() * SECTION_BYTES;
        put(out, EXTENSION_MAGIC);
        put(out, sections.len() as u32);
        for (kind, content) in &sections {
            for field in [*kind, 0, at as u32, content.len() as u32] {
                put(out, field);
            }
            at += content.len();
        }
        for (_, content) in &sections {
            out.extend_from_slice(content);
        }
    }
}

/// Strings behind the entries of a file.
struct Strings {
    start: usize,
    bytes: Vec<u8>,
}

impl Strings {
    /// Adds one, and gives its place in the file.
    fn add(&mut self, string: &[u8]) -> u32 {
        let at = self.start + self.bytes.len();
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        at as u32
    }
}

fn put(out: &mut Vec<u8>, field: u32) {
    out.extend_from_slice(&field.to_le_bytes());
}

/// Where the list begins.
fn start(file: &[u8]) -> Result<usize, Misread> {
    let start = match file.starts_with(OLD_MAGIC) {
        true => {
            let count = word(file, OLD_HEADER_BYTES - 4, "header")? as usize;
            (OLD_HEADER_BYTES + count.saturating_mul(OLD_ENTRY_BYTES)).next_multiple_of(8)
        }
        false => 0,
    };
    let part = file.get(start..).ok_or(Misread::Format)?;
    part.starts_with(MAGIC)
        .then_some(start)
        .ok_or(Misread::Format)
}

fn byte_order(part: &[u8]) -> Result<u8, Misread> {
    bytes(part, BYTE_ORDER_AT, 1, "header").map(|order| order[0])
}

fn entries(part: &[u8], count: usize) -> Result<Vec<Entry<'_>>, Misread> {
    let length = count.saturating_mul(ENTRY_BYTES);
    let all = bytes(part, HEADER_BYTES, length, "entries")?;
    let mut entries = Vec::new();
    for entry in all.chunks_exact(ENTRY_BYTES) {
        let field = |at| word(entry, at, "entry");
        let flags = field(0)?;
        if FLAGS.contains(&flags) {
            entries.push(Entry {
                name: text(part, field(4)? as usize, "name")?,
                path: text(part, field(8)? as usize, "path")?,
                flags,
                os_version: field(12)?,
                hwcap: u64::from(field(20)?) << 32 | u64::from(field(16)?),
            });
        }
    }
    Ok(entries)
}

fn bytes<'a>(
    from: &'a [u8],
    at: usize,
    length: usize,
    what: &'static str,
) -> Result<&'a [u8], Misread> {
    let end = at.saturating_add(length);
    from.get(at..end).ok_or(Misread::Missing { what, at })
}

fn word(from: &[u8], at: usize, what: &'static str) -> Result<u32, Misread> {
    let bytes = bytes(from, at, 4, what)?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u32::from(*byte)))
}

/// What stands there up to a null byte.
fn text<'a>(from: &'a [u8], at: usize, what: &'static str) -> Result<&'a [u8], Misread> {
    let missing = Misread::Missing { what, at };
    let rest = from.get(at..).ok_or(missing)?;
    let length = rest.iter().position(|byte| *byte == 0).ok_or(missing)?;
    Ok(&rest[..length])
}

#[cfg(test)]
#[path = "loader_cache_tests.rs"]
mod tests;
