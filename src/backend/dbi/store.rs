//! Translated code kept from run to run: a file for each program in a folder of the user's.
//!
//! A file's name says which program, laid out how, and translated by which engine. What is in it is used only where
//! every page of the program's code that was looked at to make it is the same as then. A file is written whole and
//! renamed into place, and carries a sum: one that is damaged, or of another engine, is as good as none.
//!
//! Code that can be stopped in time costs more than other code, so there is a file for each of both kinds, and that of timed
//! code knows which commands needed it.

mod habits;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::mem::{offset_of, size_of};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::SystemTime;

use bytemuck::{Pod, Zeroable};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

use habits::{Command, Habits};

use super::maps::Line;
use super::ranges::Range;
use super::space::{Space, Translations};
use crate::dbi::cache::image::{Frozen, Image, Piece, Stretch};
use crate::model::{CpuModel, Machine};
use crate::sys::Pid;
use crate::sys::mapped::Mapped;
use crate::sys::ptrace::Stopped;

/// The variable that names the folder. Empty: nothing is kept.
pub const FOLDER_VARIABLE: &str = "COUNTERFOIL_CACHE_DIR";

/// Bytes that all files together may have; beyond that the ones go that were not used for longest.
const MOST_BYTES: u64 = 512 << 20;

/// Bytes that one file may have.
const MOST_FILE_BYTES: usize = 64 << 20;

/// What the file begins with; the digit is the format's.
const MAGIC: [u8; 8] = *b"cfcode 5";

/// Bytes of a page (x86-64).
const PAGE: u64 = 4096;

/// How long the time of a file's last use may be wrong.
const USE_SECONDS: u64 = 3600;

/// Which program, laid out how, translated by which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u128);

/// The beginning of a file.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    key: [u64; 2],
    /// Sum of everything behind the header.
    sum: [u64; 2],
    pages: u64,
    /// Units that later runs have executed and not found here.
    missed: u64,
    /// In a file of timed code: who needs it.
    habits: Habits,
}

impl Header {
    fn fits(&self, key: Key) -> bool {
        self.magic == MAGIC && self.key == halves(key.0)
    }
}

/// A page of the program's code, and the sum of what was in it.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Page {
    address: u64,
    sum: u64,
}

/// What a file holds.
pub struct Stored {
    /// The translations.
    pub image: Image,
    pages: Vec<Page>,
    missed: u64,
}

/// The sum of a page's bytes.
pub fn page_sum(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

fn halves(sum: u128) -> [u64; 2] {
    [sum as u64, (sum >> 64) as u64]
}

impl Key {
    /// The key of a program that is stopped at its exec, whose memory is `lines`. `places` are those of the code cache, and
    /// `marked` says whether markers are looked for, `machine` what the program is shown.
    pub fn of(
        thread: &Stopped,
        lines: &[Line<'_>],
        places: &[u64],
        marked: bool,
        machine: Machine,
    ) -> Option<Key> {
        let files = || lines.iter().filter(|line| line.file().is_some());
        let mut head = [0; PAGE as usize];
        let first = files().find(|line| line.offset == 0)?;
        thread.read(first.start, &mut head).ok()?;
        let mut sum = Xxh3::new();
        sum.update(env!("COUNTERFOIL_ENGINE_ID").as_bytes());
        let manners = [marked, machine.virtual_time, machine.turns, machine.slices];
        sum.update(&manners.map(u8::from));
        sum.update(machine.cpu.map_or("host", CpuModel::name).as_bytes());
        sum.update(bytemuck::cast_slice(places));
        for line in files() {
            sum.update(bytemuck::cast_slice(&[line.start, line.end, line.offset]));
        }
        sum.update(&head);
        Some(Key(sum.digest128()))
    }
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The user's folder, made if it is not there; none where there cannot be one that is ours alone.
    pub fn open() -> Option<Store> {
        let folder = match std::env::var_os(FOLDER_VARIABLE) {
            Some(folder) if folder.is_empty() => return None,
            Some(folder) => PathBuf::from(folder),
            None => home()?.join("counterfoil"),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .ok()?;
        let about = fs::metadata(&folder).ok()?;
        let others_write = about.permissions().mode() & 0o022 != 0;
        let ours = about.uid() == nix::unistd::geteuid().as_raw();
        (ours && !others_write).then_some(Store { folder })
    }

    fn file(&self, key: Key, timed: bool) -> PathBuf {
        let kind = if timed { ".timed" } else { "" };
        self.folder.join(format!("{:032x}{kind}.code", key.0))
    }

    /// What was kept of a program, of code of one kind.
    fn load(&self, key: Key, timed: bool) -> Option<Stored> {
        let file = File::open(self.file(key, timed)).ok()?;
        let about = file.metadata().ok()?;
        let length = usize::try_from(about.len()).ok()?;
        if !(1..=MOST_FILE_BYTES).contains(&length) {
            return None;
        }
        let stored = read(Mapped::new(&file, length).ok()?, key)?;
        if stored.image.is_timed() != timed {
            return None;
        }
        note_use(&file, about.modified().ok());
        Some(stored)
    }

    /// Who needed timed code of a program, if there is any of it.
    fn habits(&self, key: Key) -> Option<Habits> {
        let mut header = Header::zeroed();
        let file = File::open(self.file(key, true)).ok()?;
        file.read_exact_at(bytemuck::bytes_of_mut(&mut header), 0)
            .ok()?;
        header.fits(key).then_some(header.habits)
    }

    /// Keeps what was executed of a program that is over, as soon as it pays to write all of it again, as code of the kind
    /// that it needed. Failure is only lost time for the next run.
    pub fn keep(&self, space: &Space) {
        let translations = space.translations.borrow();
        let kept = &translations.kept;
        let Some(key) = kept.key.filter(|_| kept.every_page_lasted()) else {
            return;
        };
        let habits = kept.habits_now();
        let new = translations.executed_anew();
        let missed = kept.missed().saturating_add(new);
        let loaded = kept.stored.as_ref().map(|stored| stored.image.is_timed());
        let of_other_kind = loaded.is_some_and(|timed| timed != kept.timed);
        let writes = match of_other_kind {
            true => self.load(key, kept.timed).is_none(),
            false => pays(missed, kept.units_before()),
        };
        if writes {
            self.write(key, space, &translations, habits.unwrap_or_default());
        } else if new > 0 && !of_other_kind {
            let at = offset_of!(Header, missed);
            let _ = self.note(key, kept.timed, at, bytemuck::bytes_of(&missed));
        }
        let are_written = writes && kept.timed;
        if let Some(habits) = habits.filter(|_| !are_written && habits != kept.habits) {
            let at = offset_of!(Header, habits);
            let _ = self.note(key, true, at, bytemuck::bytes_of(&habits));
        }
    }

    fn write(&self, key: Key, space: &Space, translations: &Translations, habits: Habits) {
        let (pages, frozen) = gather(space, translations);
        let bytes = write(&pages, &frozen, key, habits);
        let timed = translations.kept.timed;
        if bytes.len() <= MOST_FILE_BYTES && self.replace(key, timed, &bytes).is_ok() {
            let _ = self.tidy();
        }
    }

    /// Changes what the header of a file says that its sum does not cover. If that is torn or lost, a file is only written
    /// sooner or later, or one of the wrong kind is used.
    fn note(&self, key: Key, timed: bool, at: usize, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.file(key, timed))?;
        file.write_all_at(bytes, at as u64)
    }

    fn replace(&self, key: Key, timed: bool, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .suffix(".new")
            .tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        file.persist(self.file(key, timed))?;
        Ok(())
    }

    /// Removes what was not used for longest, where there is too much, and what was never finished.
    fn tidy(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            let used = about.modified()?;
            let age = SystemTime::now().duration_since(used).unwrap_or_default();
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "code") {
                files.push((used, about.len(), path));
            } else if age.as_secs() > USE_SECONDS
                && path.extension().is_some_and(|end| end == "new")
            {
                let _ = fs::remove_file(path);
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if total <= MOST_BYTES {
                break;
            }
            let _ = fs::remove_file(path);
            total -= bytes;
        }
        Ok(())
    }
}

/// The user's folder for caches (XDG Base Directory Specification).
fn home() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let named = std::env::var_os("XDG_CACHE_HOME").and_then(|path| absolute(path.into()));
    named.or_else(|| Some(absolute(std::env::var_os("HOME")?.into())?.join(".cache")))
}

/// Files are removed by the time of their last use: writes it down now and then.
fn note_use(file: &File, before: Option<SystemTime>) {
    let now = SystemTime::now();
    let age = before.and_then(|before| now.duration_since(before).ok());
    if age.is_none_or(|age| age.as_secs() > USE_SECONDS) {
        let _ = file.set_modified(now);
    }
}

fn write(pages: &[Page], frozen: &Frozen, key: Key, habits: Habits) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<Header>()];
    bytes.extend_from_slice(bytemuck::cast_slice(pages));
    frozen.store(&mut bytes);
    let header = Header {
        magic: MAGIC,
        key: halves(key.0),
        sum: halves(xxh3_128(&bytes[size_of::<Header>()..])),
        pages: pages.len() as u64,
        missed: 0,
        habits,
    };
    bytes[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&header));
    bytes
}

fn read(file: Mapped, key: Key) -> Option<Stored> {
    let (header, rest) = file.as_ref().split_at_checked(size_of::<Header>())?;
    let header: Header = bytemuck::pod_read_unaligned(header);
    if !header.fits(key) || header.sum != halves(xxh3_128(rest)) {
        return None;
    }
    let length = usize::try_from(header.pages)
        .ok()?
        .checked_mul(size_of::<Page>())?;
    let pages = bytemuck::try_cast_slice(rest.get(..length)?).ok()?.to_vec();
    Some(Stored {
        pages,
        missed: header.missed,
        image: Image::load(Box::new(file), size_of::<Header>() + length)?,
    })
}

/// Whether it pays to write a file of so many units again. All of it takes about as long as to translate an eighth anew
/// (measured with python3): so what was lost for want of writing is never much more than what writing takes.
fn pays(missed: u64, kept: u32) -> bool {
    const SOME: u64 = 16;
    const SHARE: u64 = 8;
    missed > u64::from(kept) / SHARE + SOME
}

/// What is to be kept: of code that is mapped, what was executed in this run or an earlier one; of other code, what was
/// kept before.
fn gather(space: &Space, translations: &Translations) -> (Vec<Page>, Frozen) {
    let current = translations.cache.current();
    let mut pages = Vec::new();
    let mut stretches = Vec::new();
    let lasting = |range: &&Range| !range.volatile && range.file.is_some();
    for range in space.ranges.iter().filter(lasting) {
        let (start, end) = (range.start, range.end);
        let first = current.partition_point(|(pc, _)| *pc < start);
        let inside = current[first..].iter().take_while(|(pc, _)| *pc < end);
        let units: Vec<u32> = inside
            .filter(|(_, unit)| translations.is_wanted(*unit))
            .map(|(_, unit)| *unit)
            .collect();
        if units.is_empty() {
            continue;
        }
        stretches.push(Stretch { start, end, units });
        pages.extend(translations.kept.pages_in(start, end));
    }
    if let Some(before) = &translations.kept.stored {
        for piece in before.image.pieces() {
            let gone = space
                .ranges
                .overlapping(piece.start, piece.end)
                .next()
                .is_none();
            if gone {
                stretches.push(Stretch {
                    start: piece.start,
                    end: piece.end,
                    units: piece.units().collect(),
                });
                pages.extend(before.pages_of(piece));
            }
        }
    }
    pages.sort_unstable_by_key(|page: &Page| page.address);
    let frozen = translations
        .cache
        .freeze(stretches, translations.kept.timed);
    (pages, frozen)
}

impl Stored {
    fn pages_of(&self, piece: &Piece) -> impl Iterator<Item = Page> {
        let first = self
            .pages
            .partition_point(|page| page.address < piece.start);
        let end = piece.end;
        let inside = self.pages[first..].iter().copied();
        inside.take_while(move |page| page.address < end)
    }

    /// Whether the program's code is what it was when a piece was made.
    fn fits(&self, thread: &Stopped, piece: &Piece) -> bool {
        /// A buffer for more of them is memory that is new each time, and costs more than the calls it saves.
        const AT_ONCE: usize = 16;
        let pages: Vec<Page> = self.pages_of(piece).collect();
        let mut buffer = vec![0; AT_ONCE * PAGE as usize];
        pages
            .chunk_by(|one, next| next.address == one.address + PAGE)
            .flat_map(|run| run.chunks(AT_ONCE))
            .all(|run| {
                let bytes = &mut buffer[..run.len() * PAGE as usize];
                let got = thread.read(run[0].address, bytes).unwrap_or(0);
                let mut sums = bytes.chunks_exact(PAGE as usize).map(page_sum);
                got == bytes.len() && run.iter().all(|page| Some(page.sum) == sums.next())
            })
    }
}

/// What an address space knows of what is kept.
#[derive(Clone, Default)]
pub struct Kept {
    /// Under which name; none: nothing is kept.
    pub key: Option<Key>,
    /// What was kept before.
    pub stored: Option<Rc<Stored>>,
    /// Whether the program has needed timed code.
    timed: bool,
    /// Who needed it in earlier runs, if there is a file of it.
    habits: Option<Habits>,
    /// The program's command, where it was asked for.
    command: Option<Command>,
    /// Sums of the pages that translations rely on, and whether each is a page that was always the same.
    pages: BTreeMap<u64, (u64, bool)>,
    /// Which units were executed, as bits.
    executed: Vec<u64>,
}

impl Kept {
    /// The program of a process needs timed code.
    pub fn need_timed(&mut self, process: Pid) {
        if self.key.is_some() && !self.timed {
            self.timed = true;
            self.command = self.command.or_else(|| Command::of(process));
        }
    }

    /// What is known of who needs timed code, now that the program is over; none where nobody does.
    fn habits_now(&self) -> Option<Habits> {
        if self.habits.is_none() && !self.timed {
            return None;
        }
        let mut habits = self.habits.unwrap_or_default();
        habits.learn(self.command?, self.timed);
        Some(habits)
    }

    /// A page was read for a translation.
    pub fn note_page(&mut self, address: u64, bytes: &[u8]) {
        if self.key.is_some() {
            let sum = page_sum(bytes);
            let known = self.pages.entry(address).or_insert((sum, true));
            known.1 &= known.0 == sum;
        }
    }

    /// A unit was executed.
    pub fn note_executed(&mut self, unit: u32) {
        let word = unit as usize / 64;
        if word >= self.executed.len() {
            self.executed.resize(word + 1, 0);
        }
        self.executed[word] |= 1 << (unit % 64);
    }

    fn was_executed(&self, unit: u32) -> bool {
        let word = self.executed.get(unit as usize / 64);
        word.is_some_and(|word| word >> (unit % 64) & 1 != 0)
    }

    fn pages_in(&self, start: u64, end: u64) -> impl Iterator<Item = Page> {
        let pages = self.pages.range(start..end);
        pages.map(|(address, (sum, _))| Page {
            address: *address,
            sum: *sum,
        })
    }

    /// Whether all that was read of the program's code has stayed as it was.
    fn every_page_lasted(&self) -> bool {
        self.pages.values().all(|(_, same)| *same)
    }

    /// Units that earlier runs have missed.
    fn missed(&self) -> u64 {
        self.stored.as_ref().map_or(0, |stored| stored.missed)
    }

    /// How many units were kept before.
    fn units_before(&self) -> u32 {
        self.stored
            .as_ref()
            .map_or(0, |stored| stored.image.units())
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timed = |stored: &Rc<Stored>| stored.image.is_timed();
        let kind = if self.stored.as_ref().is_some_and(timed) {
            ", as code that can be stopped in time"
        } else {
            ""
        };
        write!(text, "{} units are kept of it{kind}", self.units_before())
    }
}

impl Translations {
    /// Whether a unit is worth keeping: it was kept before, or executed.
    fn is_wanted(&self, unit: u32) -> bool {
        unit < self.kept.units_before() || self.kept.was_executed(unit)
    }

    /// How many units were executed that are not kept.
    fn executed_anew(&self) -> u64 {
        let before = self.kept.units_before();
        let all = self.cache.units().len() as u32;
        let new = (before..all).filter(|unit| self.kept.was_executed(*unit));
        new.count() as u64
    }

    /// Uses what is kept for code that has just been mapped to `start..end`, if it is the same code.
    pub fn activate(&mut self, thread: &Stopped, start: u64, end: u64) -> bool {
        let Some(stored) = self.kept.stored.clone() else {
            return false;
        };
        let pieces = stored.image.pieces();
        let same = |piece: &Piece| piece.start == start && piece.end == end;
        let Some(number) = pieces.iter().position(same) else {
            return false;
        };
        let piece = &pieces[number];
        if !self.cache.suits(&stored.image) || !stored.fits(thread, piece) {
            return false;
        }
        self.cache.activate(&stored.image, number, &self.memory);
        for page in stored.pages_of(piece) {
            self.kept.pages.insert(page.address, (page.sum, true));
        }
        true
    }
}

/// Loads what is kept of the program of a process into an empty code cache: code of the kind that it needs, or is expected to.
pub fn recall(store: &Store, key: Key, process: Pid, translations: &mut Translations) {
    let Translations { cache, kept, .. } = translations;
    kept.key = Some(key);
    kept.habits = store.habits(key);
    kept.command = kept.habits.and_then(|_| Command::of(process));
    let expected = kept.habits.zip(kept.command);
    let expected = expected.is_some_and(|(habits, command)| habits.expect_timed(command));
    if let Some(stored) = store.load(key, expected || cache.is_timed())
        && cache.adopt(&stored.image)
    {
        kept.stored = Some(Rc::new(stored));
    }
}
