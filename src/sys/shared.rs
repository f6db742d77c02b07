//! Memory that we share with programs we trace: a file without a name, mapped there and here.
//!
//! What a program executes or counts in is written here with plain stores. The file is sparse: only pages that were
//! touched take memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use nix::libc;

/// More bytes than all programs of a run will ever map.
const LENGTH_BYTES: i64 = 1 << 62;

/// Shared memory of one run.
#[derive(Debug)]
pub struct Shared {
    file: File,
}

impl Shared {
    /// New memory, all zeros.
    pub fn new() -> io::Result<Shared> {
        // SAFETY: the name is a NUL-terminated constant; the answer is checked before it becomes an owner.
        let fd = unsafe { libc::memfd_create(c"counterfoil".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        let file = unsafe { File::from_raw_fd(fd) };
        // SAFETY: changes the length of a file of our own; no pointers.
        if unsafe { libc::ftruncate(fd, LENGTH_BYTES) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared { file })
    }

    /// The descriptor in this process.
    pub fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The file that it is.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Maps `length` bytes from `offset` on, whole pages both.
    pub fn window(&self, offset: u64, length: u64) -> io::Result<Window> {
        // SAFETY: a new mapping at an address of the kernel's choice; the answer is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                self.descriptor(),
                offset as i64,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Window {
            start: start.cast(),
            length: length as usize,
        })
    }

    /// Writes bytes that nobody looks at yet.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Gives the pages of a stretch back; it reads as zeros afterwards.
    pub fn discard(&self, offset: u64, length: u64) {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: changes a file of our own; no pointers. Failure leaves memory in use, which is no error.
        unsafe { libc::fallocate(self.descriptor(), mode, offset as i64, length as i64) };
    }
}

/// A mapped stretch of [`Shared`]. Offsets are from its start; each access is checked against its end.
#[derive(Debug)]
pub struct Window {
    start: *mut u8,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone, and it is reached through checked stores only.
unsafe impl Send for Window {}

impl Window {
    fn place(&self, offset: u64, bytes: usize) -> *mut u8 {
        let offset = offset as usize;
        assert!(
            offset <= self.length && bytes <= self.length - offset,
            "access beyond a window"
        );
        self.start.wrapping_add(offset)
    }

    /// Writes bytes that nobody looks at yet.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let to = self.place(offset, bytes.len());
        // SAFETY: `place` has checked that the bytes are inside the mapping, which lives as long as `self` and which no
        // Rust reference points into.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
    }

    /// Reads bytes.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        let from = self.place(offset, into.len());
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }

    /// Stores a byte, after all stores before.
    pub fn store_u8(&self, offset: u64, value: u8) {
        let to = self.place(offset, 1);
        // SAFETY: inside the mapping (`place`), which lives as long as `self`; a byte is always aligned, and other processes
        // only read it meanwhile.
        unsafe { AtomicU8::from_ptr(to) }.store(value, Ordering::Release);
    }

    /// Stores four bytes at once, after all stores before. On x86-64 any address will do that does not cross eight bytes.
    pub fn store_u32(&self, offset: u64, value: u32) {
        let to = self.place(offset, 4).cast::<u32>();
        if to.is_aligned() {
            // SAFETY: inside the mapping (`place`) and aligned (checked); other processes only read it meanwhile.
            unsafe { AtomicU32::from_ptr(to) }.store(value, Ordering::Release);
        } else {
            std::sync::atomic::fence(Ordering::Release);
            // SAFETY: inside the mapping (`place`); an unaligned store needs no alignment.
            unsafe { to.write_unaligned(value) }
        }
    }

    /// Stores eight bytes at once, after all stores before; `offset` is a multiple of 8.
    pub fn store_u64(&self, offset: u64, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    /// Reads eight bytes; `offset` is a multiple of 8.
    pub fn load_u64(&self, offset: u64) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Reads words while the program changes them, one after the other; `offset` is a multiple of 8. Pages are made of holes.
    pub fn words(&self, offset: u64, count: usize) -> impl Iterator<Item = u64> {
        assert!(offset.is_multiple_of(8), "a word is not aligned");
        let first = self.place(offset, 8 * count).cast::<AtomicU64>();
        // SAFETY: all of them are inside the mapping (`place`), which lives as long as `self`; aligned, because mappings begin
        // at pages; any bits are a word.
        let words = unsafe { std::slice::from_raw_parts(first, count) };
        words.iter().map(|word| word.load(Ordering::Relaxed))
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "a word is not aligned");
        let at = self.place(offset, 8).cast::<u64>();
        // SAFETY: inside the mapping (`place`), which lives as long as `self`; aligned, because mappings begin at pages.
        unsafe { AtomicU64::from_ptr(at) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: exactly what `window` has mapped; nothing borrows from it any more.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_show_the_same_memory_and_holes_are_zeros() {
        let shared = Shared::new().unwrap();
        let (a, b) = (
            shared.window(1 << 30, 8192).unwrap(),
            shared.window(1 << 30, 4096).unwrap(),
        );
        a.write(3, b"counted");
        a.store_u64(16, 7);
        a.store_u32(26, 9);
        let mut bytes = [0; 7];
        b.read(3, &mut bytes);
        assert_eq!((&bytes, b.load_u64(16)), (b"counted", 7));
        assert_eq!(b.words(16, 2).collect::<Vec<_>>(), [7, 9 << 16]);
        b.read(26, &mut bytes[..4]);
        assert_eq!(&bytes[..4], &9u32.to_le_bytes());
        shared.discard(1 << 30, 4096);
        assert_eq!(b.load_u64(16), 0);
    }

    #[test]
    #[should_panic(expected = "beyond a window")]
    fn refuses_what_is_outside() {
        Shared::new()
            .unwrap()
            .window(0, 4096)
            .unwrap()
            .write(4090, &[0; 7]);
    }
}
