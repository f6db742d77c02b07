//! How the C library's allocator asks the kernel for memory.

#[cfg(target_env = "gnu")]
use nix::libc;

/// From how many bytes on an allocation is a mapping of its own, which is given back when it is freed.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: libc::c_int = 64 << 20;

/// How many bytes at the end of the heap may be free before they are given back, and how many more than needed are asked for.
#[cfg(target_env = "gnu")]
const SPARE_BYTES: [libc::c_int; 2] = [64 << 20, 256 << 10];

/// Keeps memory that was freed for what comes next: by default glibc gives back all pieces of more than 128 KiB
/// (mallopt(3)), and each page is then filled with zeros anew.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, MAPPED_BYTES),
        (libc::M_TRIM_THRESHOLD, SPARE_BYTES[0]),
        (libc::M_TOP_PAD, SPARE_BYTES[1]),
    ] {
        // SAFETY: sets a number of the allocator. A value that it does not take changes nothing.
        unsafe { libc::mallopt(parameter, value) };
    }
}
