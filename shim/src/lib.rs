//! Marks stretches of a program, so that counterfoil counts them apart.
//!
//! ```
//! # fn parse() {}
//! {
//!     let _region = counterfoil_shim::region!("parse");
//!     parse();
//! } // the region ends here
//!
//! counterfoil_shim::begin!("parse");
//! parse();
//! counterfoil_shim::end!("parse");
//! ```
//!
//! Names are string literals. Regions may nest, overlap and be entered any number of times, by any thread; a region counts what
//! all threads of the process do meanwhile. Without counterfoil a marker costs a few dozen instructions at most and
//! does nothing. On machines other than x86-64 and arm64 Linux it is nothing at all.
//!
//! A marker is a client request of callgrind, which callgrind and counterfoil's own backends see in the instruction
//! stream. Where the environment has `COUNTERFOIL_CONTROL=WRITE,READ`, two file descriptors, `begin:NAME\n` or
//! `end:NAME\n` is also written to the first and one byte read from the second: this is how hardware counters are
//! switched. The C header `counterfoil.h` does the same, and shares its state with this crate when both are linked into
//! one program.
//!
//! The crate needs neither std nor anything else. The macros expand to inline assembly, so a crate that forbids unsafe code cannot use them.

#![no_std]

/// What the macros expand to; nothing here is for use by name.
#[doc(hidden)]
#[cfg(all(
    target_os = "linux",
    any(
        all(target_arch = "x86_64", target_pointer_width = "64"),
        target_arch = "aarch64"
    )
))]
pub mod marker;

/// Whether this machine has markers.
#[doc(hidden)]
#[macro_export]
#[cfg(all(
    target_os = "linux",
    any(
        all(target_arch = "x86_64", target_pointer_width = "64"),
        target_arch = "aarch64"
    )
))]
macro_rules! counterfoil_marked {
    ($($marker:tt)*) => { $($marker)* };
}

/// Whether this machine has markers.
#[doc(hidden)]
#[macro_export]
#[cfg(not(all(
    target_os = "linux",
    any(
        all(target_arch = "x86_64", target_pointer_width = "64"),
        target_arch = "aarch64"
    )
)))]
macro_rules! counterfoil_marked {
    ($($marker:tt)*) => {};
}

/// Begins a region.
#[macro_export]
macro_rules! begin {
    ($name:literal) => {
        $crate::counterfoil_marked! {{
            static HERE: $crate::marker::Request = $crate::marker::Request::dump(
                concat!("counterfoil:begin:", $name, "\0"),
            );
            $crate::marker::before_begin(concat!("begin:", $name, "\n").as_bytes());
            $crate::counterfoil_request!(HERE);
        }}
    };
}

/// Ends a region.
#[macro_export]
macro_rules! end {
    ($name:literal) => {
        $crate::counterfoil_marked! {{
            static HERE: $crate::marker::Request = $crate::marker::Request::dump(
                concat!("counterfoil:end:", $name, "\0"),
            );
            $crate::counterfoil_request!(HERE);
            $crate::marker::after_end(concat!("end:", $name, "\n").as_bytes());
        }}
    };
}

/// Begins a region that ends where the value it returns is dropped, also when a panic unwinds.
#[macro_export]
macro_rules! region {
    ($name:literal) => {{
        struct Region;
        impl Drop for Region {
            #[inline(always)]
            fn drop(&mut self) {
                $crate::end!($name);
            }
        }
        $crate::begin!($name);
        Region
    }};
}
