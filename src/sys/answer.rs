//! The code of the program that stands in for another (a shim): machine code that is carried along and never called here.
//!
//! It is written in assembly, so that what it executes does not change with a compiler; `answer/x86_64.s` says what it
//! does and what the table behind it looks like. Whoever makes a program of it puts the table right behind the code.

/// The exit code of the program when it could not answer: nobody recorded the call, or something failed on the way.
pub const UNANSWERED: u8 = 96;

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.counterfoil_answer, \"a\", @progbits",
    include_str!("answer/x86_64.s"),
    ".popsection",
);

/// The code for this machine; none where it has not been written.
#[cfg(target_arch = "x86_64")]
pub fn code() -> Option<&'static [u8]> {
    unsafe extern "C" {
        static counterfoil_answer_begin: u8;
        static counterfoil_answer_end: u8;
    }
    let (begin, end) = (
        &raw const counterfoil_answer_begin,
        &raw const counterfoil_answer_end,
    );
    let length = end.addr() - begin.addr();
    // SAFETY: both labels stand in the one section above, begin before end, with nothing but its bytes between them,
    // which are read-only and live as long as the program.
    Some(unsafe { std::slice::from_raw_parts(begin, length) })
}

/// The code for this machine; none where it has not been written.
#[cfg(not(target_arch = "x86_64"))]
pub fn code() -> Option<&'static [u8]> {
    None
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_code_ends_with_the_exit_code_that_is_promised() {
        let exit = [0xbf, UNANSWERED, 0, 0, 0, 0x0f, 0x05]; // mov edi, UNANSWERED; syscall
        let code = code().unwrap();
        assert!(
            code[code.len() - 24..]
                .windows(7)
                .any(|bytes| bytes == exit)
        );
    }
}
