//! What the file of a program says before it is executed: for backends that cannot count every program.
//!
//! Follows `#!` lines to the file that the kernel will execute in the end. Says nothing of what a program will
//! execute later.

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc;

use crate::sys::unread;

/// What kind of program a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// ELF of another kind, x32 among them.
    Foreign,
    /// No ELF.
    Other,
}

/// A file that can be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramFile {
    /// Where it is.
    pub path: PathBuf,
    /// What kind of program it is.
    pub format: Format,
    /// Whether it runs as its own user or group (set-uid, set-gid), even if that is ours.
    pub sets_ids: bool,
    /// Whether it runs as another user than ours.
    pub other_user: bool,
}

/// Interpreters of interpreters that the kernel follows at most (fs/exec.c, `exec_binprm`).
const MOST_INTERPRETERS: usize = 5;

/// How much of a file the kernel looks at for `#!` (BINPRM_BUF_SIZE, linux/binfmts.h).
const HEAD_BYTES: u64 = 256;

impl ProgramFile {
    /// The file that is executed in the end if `path` is; none where that cannot be read.
    pub fn executed_for(path: &Path) -> Option<ProgramFile> {
        let mut path = path.to_owned();
        for _ in 0..=MOST_INTERPRETERS {
            let mut head = Vec::new();
            let file = unread::open(&path).ok()?;
            (&file).take(HEAD_BYTES).read_to_end(&mut head).ok()?;
            match interpreter(&head) {
                Some(next) => path = next,
                None => return Some(ProgramFile::of(path, &head, &file.metadata().ok()?)),
            }
        }
        None
    }

    fn of(path: PathBuf, head: &[u8], metadata: &fs::Metadata) -> ProgramFile {
        let mode = metadata.mode();
        let ours = nix::unistd::geteuid().as_raw();
        ProgramFile {
            path,
            format: format(head),
            sets_ids: mode & (libc::S_ISUID | libc::S_ISGID) != 0,
            other_user: mode & libc::S_ISUID != 0 && metadata.uid() != ours,
        }
    }
}

/// The first word behind `#!`.
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let words = line.split(|byte| matches!(byte, b' ' | b'\t'));
    let word = words.into_iter().find(|word| !word.is_empty())?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(word)))
}

/// From the first bytes of an ELF file (elf(5): `e_ident` and `e_machine`).
fn format(head: &[u8]) -> Format {
    const MAGIC: &[u8] = b"\x7fELF";
    const CLASS_32: u8 = 1;
    const CLASS_64: u8 = 2;
    const I386: u8 = 3;
    const X86_64: u8 = 62;
    match (head.get(4), head.get(18)) {
        _ if !head.starts_with(MAGIC) => Format::Other,
        (Some(&CLASS_64), Some(&X86_64)) => Format::X86_64,
        (Some(&CLASS_32), Some(&I386)) => Format::X86,
        _ => Format::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn elf(class: u8, machine: u8) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..4].copy_from_slice(b"\x7fELF");
        (head[4], head[18]) = (class, machine);
        head
    }

    #[test]
    fn tells_programs_apart() {
        let folder = tempfile::tempdir().unwrap();
        let x32 = elf(1, 62);
        let cases = [
            (elf(2, 62), Format::X86_64),
            (elf(1, 3), Format::X86),
            (x32, Format::Foreign),
            (elf(2, 183), Format::Foreign),
            (b"echo".to_vec(), Format::Other),
            (Vec::new(), Format::Other),
        ];
        for (content, format) in cases {
            let path = file(folder.path(), "program", &content, 0o755);
            assert_eq!(ProgramFile::executed_for(&path).unwrap().format, format);
        }
    }

    #[test]
    fn follows_interpreters_and_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let program = file(folder.path(), "program", &elf(1, 3), 0o755);
        let line = format!("#! {} -x\n", program.display());
        let script = file(folder.path(), "script", line.as_bytes(), 0o4755);
        let found = ProgramFile::executed_for(&script).unwrap();
        assert_eq!((found.path, found.format), (program, Format::X86));
        assert!(!found.sets_ids, "of a script that means nothing");
        let own = format!("#!{}\n", script.display());
        fs::write(&script, own).unwrap();
        assert_eq!(ProgramFile::executed_for(&script), None);
    }

    #[test]
    fn sees_set_uid_of_our_own_as_no_other_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "program", &elf(2, 62), 0o4755);
        let found = ProgramFile::executed_for(&path).unwrap();
        assert_eq!((found.sets_ids, found.other_user), (true, false));
    }
}
