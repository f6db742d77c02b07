//! The marker itself: requests in the instruction stream, and the control pipe.

use core::arch::{asm, global_asm};
use core::ffi::{c_char, c_int, c_long};
use core::sync::atomic::{AtomicI32, Ordering};

/// A client request as Valgrind reads it (valgrind/callgrind.h): six words.
#[repr(C)]
pub struct Request {
    code: u64,
    /// NUL-terminated, or empty.
    label: *const u8,
    unused: [u64; 4],
}

// SAFETY: a request is never written to, and its label is a `'static` string.
unsafe impl Sync for Request {}

/// callgrind.h: 'C' << 24 | 'T' << 16, and the number of the request.
const DUMP_AT: u64 = 0x4354_0003;
const START: u64 = 0x4354_0004;
const STOP: u64 = 0x4354_0005;

impl Request {
    /// A dump under this label, which ends with a NUL byte.
    pub const fn dump(label: &'static str) -> Request {
        assert!(matches!(label.as_bytes(), [.., 0]), "a label ends with NUL");
        Request {
            code: DUMP_AT,
            label: label.as_ptr(),
            unused: [0; 4],
        }
    }

    const fn plain(code: u64) -> Request {
        Request {
            code,
            label: core::ptr::null(),
            unused: [0; 4],
        }
    }
}

static START_REQUEST: Request = Request::plain(START);
static STOP_REQUEST: Request = Request::plain(STOP);

/// Makes a request: loads its address, ends the basic block with a jump to the next instruction, and executes the
/// sequence of valgrind.h. Counterfoil knows these very bytes and counts none of them.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! counterfoil_request {
    ($request:path) => {
        // SAFETY: without Valgrind the sequence turns rdi by 128 bits, which is nothing, and exchanges rbx with itself.
        // With it, the request at rax is only read, and rdx is the answer. Both and the flags are declared.
        unsafe {
            core::arch::asm!(
                "lea rax, [rip + {request}]",
                ".byte 0xeb, 0x00",             // jmp .+2
                ".byte 0x48, 0xc1, 0xc7, 0x03", // rol rdi, 3
                ".byte 0x48, 0xc1, 0xc7, 0x0d", // rol rdi, 13
                ".byte 0x48, 0xc1, 0xc7, 0x3d", // rol rdi, 61
                ".byte 0x48, 0xc1, 0xc7, 0x33", // rol rdi, 51
                ".byte 0x48, 0x87, 0xdb",       // xchg rbx, rbx
                request = sym $request,
                out("rax") _,
                out("rdx") _,
                options(nostack),
            );
        }
    };
}

/// The same on arm64.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "aarch64")]
macro_rules! counterfoil_request {
    ($request:path) => {
        // SAFETY: without Valgrind the sequence turns x12 by 128 bits, which is nothing, and x10 is or-ed with itself.
        // With it, the request at x4 is only read, and x3 is the answer. Both are declared.
        unsafe {
            core::arch::asm!(
                "adrp x4, {request}",
                "add x4, x4, :lo12:{request}",
                ".inst 0x14000001", // b .+4
                ".inst 0x93cc0d8c", // ror x12, x12, #3
                ".inst 0x93cc358c", // ror x12, x12, #13
                ".inst 0x93cccd8c", // ror x12, x12, #51
                ".inst 0x93ccf58c", // ror x12, x12, #61
                ".inst 0xaa0a014a", // orr x10, x10, x10
                request = sym $request,
                out("x3") _,
                out("x4") _,
                options(nostack),
            );
        }
    };
}

/// `struct counterfoil_state` of counterfoil.h.
#[repr(C)]
struct State {
    /// Regions that are open now.
    depth: AtomicI32,
    /// One of the constants below.
    control: AtomicI32,
    /// Where to write.
    to: AtomicI32,
    /// Where to read.
    from: AtomicI32,
}

const NOT_LOOKED_FOR: i32 = 0;
const NONE: i32 = 1;
const FOUND: i32 = 2;

// One for the whole program, as the C header has it: weak, so that any number of copies are one.
global_asm!(
    ".pushsection .bss.counterfoil_state_v1, \"aw\", %nobits",
    ".weak counterfoil_state_v1",
    ".type counterfoil_state_v1, %object",
    ".size counterfoil_state_v1, 16",
    ".balign 4",
    "counterfoil_state_v1:",
    ".zero 16",
    ".popsection",
    ".weak environ",
);

unsafe extern "C" {
    static counterfoil_state_v1: State;
}

fn state() -> &'static State {
    // SAFETY: the symbol is defined above (or by the C header, with the same layout) as 16 zeroed bytes aligned to 4,
    // which are four valid atomics, and lives as long as the program.
    unsafe { &counterfoil_state_v1 }
}

/// The environment of the program; null where there is no libc.
fn environment() -> *const *const c_char {
    let place: *const *const *const c_char;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: loads the address of a weak symbol from the global offset table: null when nobody defines it.
    unsafe {
        asm!("mov {}, qword ptr [rip + environ@GOTPCREL]", out(reg) place, options(nostack, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: loads the address of a weak symbol from the global offset table: null when nobody defines it.
    unsafe {
        asm!(
            "adrp {0}, :got:environ",
            "ldr {0}, [{0}, :got_lo12:environ]",
            out(reg) place,
            options(nostack, readonly)
        );
    }
    if place.is_null() {
        return core::ptr::null();
    }
    // SAFETY: environ(7) is a variable of this type; it is not null here.
    unsafe { *place }
}

/// read(2) or write(2) without libc: the result, or an errno below zero.
///
/// # Safety
/// `bytes` must be good for reading (write) or writing (read) `length` bytes.
unsafe fn call(write: bool, file: c_int, bytes: *mut u8, length: usize) -> c_long {
    let result: c_long;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel touches only the bytes that the caller vouches for; all registers it changes are declared.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") c_long::from(write) => result,
            in("rdi") c_long::from(file),
            in("rsi") bytes,
            in("rdx") length,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel touches only the bytes that the caller vouches for, and changes x0 alone.
    unsafe {
        asm!(
            "svc #0",
            in("x8") if write { 64 } else { 63 },
            inlateout("x0") c_long::from(file) => result,
            in("x1") bytes,
            in("x2") length,
            options(nostack),
        );
    }
    result
}

/// The value of `NAME=value` in `variable`, a NUL-terminated string, as two numbers.
///
/// # Safety
/// `variable` must be a NUL-terminated string.
unsafe fn control_of(variable: *const c_char) -> Option<(i32, i32)> {
    // SAFETY: the caller vouches for the string.
    let text = unsafe { core::ffi::CStr::from_ptr(variable) }.to_bytes();
    let value = text.strip_prefix(b"COUNTERFOIL_CONTROL=")?;
    let (to, from) = core::str::from_utf8(value).ok()?.split_once(',')?;
    Some((to.parse().ok()?, from.parse().ok()?))
}

fn find_control() -> Option<(i32, i32)> {
    let mut place = environment();
    if place.is_null() {
        return None;
    }
    loop {
        // SAFETY: environ(7) is a table of NUL-terminated strings that ends with a null pointer; `place` has not
        // passed its end.
        let variable = unsafe { *place };
        if variable.is_null() {
            return None;
        }
        // SAFETY: a string of that table.
        if let Some(control) = unsafe { control_of(variable) } {
            return Some(control);
        }
        // SAFETY: this entry was not the last.
        place = unsafe { place.add(1) };
    }
}

#[cold]
fn look_for_control(state: &State) -> i32 {
    let control = match find_control() {
        Some((to, from)) => {
            state.to.store(to, Ordering::Relaxed);
            state.from.store(from, Ordering::Relaxed);
            FOUND
        }
        None => NONE,
    };
    state.control.store(control, Ordering::Release);
    control
}

const EINTR: c_long = 4;

/// A call that signals do not interrupt.
///
/// # Safety
/// As [`call`].
unsafe fn call_to_the_end(write: bool, file: c_int, bytes: *mut u8, length: usize) -> c_long {
    loop {
        // SAFETY: as the caller vouches.
        let result = unsafe { call(write, file, bytes, length) };
        if result != -EINTR {
            return result;
        }
    }
}

/// Tells the holder of the control pipe and waits for its answer. A pipe that fails is not used again.
#[cold]
fn tell(state: &State, message: &[u8]) {
    let mut control = state.control.load(Ordering::Acquire);
    if control == NOT_LOOKED_FOR {
        control = look_for_control(state);
    }
    if control != FOUND {
        return;
    }
    let to = state.to.load(Ordering::Relaxed);
    let from = state.from.load(Ordering::Relaxed);
    let mut answer = 0u8;
    // SAFETY: write(2) only reads the message, which is `length` bytes long; read(2) writes one byte to a local.
    let told = unsafe {
        call_to_the_end(true, to, message.as_ptr().cast_mut(), message.len())
            == message.len() as c_long
            && call_to_the_end(false, from, &raw mut answer, 1) == 1
    };
    if !told {
        state.control.store(NONE, Ordering::Release);
    }
}

/// What goes before the request of a begin.
pub fn before_begin(message: &'static [u8]) {
    let state = state();
    if state.depth.fetch_add(1, Ordering::Relaxed) == 0 {
        crate::counterfoil_request!(START_REQUEST);
    }
    if state.control.load(Ordering::Relaxed) != NONE {
        tell(state, message);
    }
}

/// What goes behind the request of an end.
pub fn after_end(message: &'static [u8]) {
    let state = state();
    if state.control.load(Ordering::Relaxed) != NONE {
        tell(state, message);
    }
    let open = state.depth.load(Ordering::Relaxed) > 0;
    if open && state.depth.fetch_sub(1, Ordering::Relaxed) == 1 {
        crate::counterfoil_request!(STOP_REQUEST);
    }
}
