//! The list of libraries that a program's loader is shown: those that the program needs, whatever else is installed.
//!
//! At a program's start the loader looks up what that is linked with, and nothing else. Later a program may load
//! anything (dlopen(3)): then the list also has what the loader would not find by itself.
//!
//! Reads the list, the program and its libraries as the program sees them (its root may be another), and each of them
//! once. A list that is out of date, or a file that cannot be read, makes an entry too many or too few: the loader
//! then searches its folders, and finds the same library.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::loader_cache::{LoaderCache, Misread};
use crate::object::{Needed, needed_by};
use crate::sys::Pid;
use crate::sys::image;
use crate::sys::unread;

/// Where glibc's loader has its list (ld.so(8)).
pub const LIST: &str = "/etc/ld.so.cache";

/// Why a program is shown the list as it is.
#[derive(Debug, thiserror::Error)]
pub enum AsItIs {
    /// It cannot be read.
    #[error("read {LIST}: {0}")]
    Unreadable(#[from] io::Error),
    /// It is not understood.
    #[error("read {LIST}: {0}")]
    Misread(#[from] Misread),
    /// The program is started without a loader: it reads the list for what is in it, as ldconfig(8) does.
    #[error("{LIST} is read by a program that has no loader")]
    NoLoader,
}

/// When the list is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// By the loader, which starts a program.
    Start,
    /// By a program that runs.
    Later,
}

/// A file, as long as nobody writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Identity {
    fn of(file: &Metadata) -> Identity {
        Identity {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// A list, and what was made of it.
#[derive(Default)]
struct List {
    bytes: Vec<u8>,
    /// What programs are shown; nothing for those that have no loader.
    shown: HashMap<(Identity, When), Option<Rc<[u8]>>>,
    /// What libraries need; nothing of those that cannot be read.
    needs: HashMap<PathBuf, Option<Needed>>,
}

/// What was made for the programs of a run.
#[derive(Default)]
pub struct Libraries {
    lists: HashMap<Identity, List>,
}

impl Libraries {
    /// The list that is shown to the program that a process executes.
    pub fn shown_to(&mut self, process: Pid, when: When) -> Result<Rc<[u8]>, AsItIs> {
        let root = PathBuf::from(format!("/proc/{process}/root"));
        let program = PathBuf::from(format!("/proc/{process}/exe"));
        let path = root.join(LIST.trim_start_matches('/'));
        let about = fs::metadata(&path)?;
        if !about.is_file() {
            return Err(Misread::Format.into());
        }
        let list = match self.lists.entry(Identity::of(&about)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(List {
                bytes: unread::read(&path)?,
                ..List::default()
            }),
        };
        let when = match when {
            When::Start if preloads(process, &root) => When::Later,
            when => when,
        };
        let key = (Identity::of(&fs::metadata(&program)?), when);
        let shown = match list.shown.get(&key) {
            Some(shown) => shown.clone(),
            None => {
                let made = list.made_for(&program, &root, when)?;
                list.shown.insert(key, made.clone());
                made
            }
        };
        shown.ok_or(AsItIs::NoLoader)
    }
}

impl List {
    fn made_for(
        &mut self,
        program: &Path,
        root: &Path,
        when: When,
    ) -> Result<Option<Rc<[u8]>>, Misread> {
        let Some(program) = needs_of(program).filter(|program| program.has_loader) else {
            return Ok(None);
        };
        let all = LoaderCache::parse(&self.bytes)?;
        let needs = &mut self.needs;
        let mut all_known = true;
        let mut named = all.closure(&program.libraries, |library| {
            let path = Path::new(OsStr::from_bytes(library));
            let seen = || root.join(path.strip_prefix("/").unwrap_or(path));
            let known = needs.entry(path.to_owned());
            let needed = known.or_insert_with(|| needs_of(&seen())).as_ref();
            all_known &= needed.is_some();
            needed.map_or_else(Vec::new, |needed| needed.libraries.clone())
        });
        if when == When::Later || !all_known {
            named.extend(all.elsewhere());
        }
        Ok(Some(all.only(&named).to_bytes().into()))
    }
}

/// What a file needs; none if it cannot be read.
fn needs_of(path: &Path) -> Option<Needed> {
    needed_by(&unread::open(path).ok()?).ok()
}

/// Whether a process that has just begun its program has the loader load more than that is linked with (ld.so(8)).
fn preloads(process: Pid, root: &Path) -> bool {
    const VARIABLES: [&[u8]; 2] = [b"LD_PRELOAD=", b"LD_AUDIT="];
    const FILE: &str = "etc/ld.so.preload";
    let Ok(variables) = image::read_proc(&format!("/proc/{process}/environ")) else {
        return true;
    };
    let asks = |variable: &[u8]| VARIABLES.iter().any(|name| variable.starts_with(name));
    variables.split(|byte| *byte == 0).any(asks) || root.join(FILE).exists()
}
