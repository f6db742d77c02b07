//! The environment of a pinned run: which variables reach the program, and padding that fixes its stack.
//!
//! Pure: it reads the variables it is given, sets none, and knows nothing of processes. The caller must
//! compute the padding last, from the very path, arguments and variables that exec will get.
//!
//! The program's count must not depend on who runs it where, so only what is needed to run *the same
//! program* is passed on ([`PASSED_ON`]), what chooses between implementations is fixed ([`fixed`]), and
//! what the user's manifest sets comes last and wins. Not set here, because each can break or change a
//! program: `NPY_DISABLE_CPU_FEATURES` (NumPy refuses to start when a feature is part of its build's
//! baseline), `GODEBUG` (some Go programs read and rewrite it). A manifest's `env` can set both.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::model::{Pin, Pinning, ProjectFolder};

/// Variables that reach the program as they are, each because without it another program, or none, would run.
pub const PASSED_ON: [&str; 13] = [
    "CARGO_HOME",       // Where rustup's proxies find their tools.
    "HOME",             // Configuration and tools that live there; many programs fail without it.
    "LD_LIBRARY_PATH",  // Which shared libraries are loaded.
    "PATH",             // Which programs are found.
    "PYENV_ROOT",       // Which interpreter pyenv's shims start,
    "PYENV_VERSION",    // and in which version.
    "PYTHONHOME",       // Which standard library Python loads,
    "PYTHONPATH",       // and which modules.
    "RUSTUP_HOME",      // Which Rust toolchains there are,
    "RUSTUP_TOOLCHAIN", // and which one runs.
    "TMPDIR",           // Where the program can write.
    "USER",             // Who owns what it writes.
    "VIRTUAL_ENV",      // Which Python environment is active.
];

/// Masks what lies above the x86-64 baseline in glibc's choice of implementations, then fixes the preferences
/// that glibc derives from the CPU's vendor and model. Order matters: a preference that needs a masked
/// feature is ignored. Names: `sysdeps/x86/cpu-tunables.c` of glibc 2.26 to 2.41; `*_Usable` are spellings
/// before 2.33. A name that a version does not know is skipped by it.
#[cfg(target_arch = "x86_64")]
const HWCAPS: &str = "-AVX512F,-AVX512CD,-AVX512BW,-AVX512DQ,-AVX512ER,-AVX512PF,-AVX512VL,\
-AVX2,-AVX,-FMA4,-FMA,-BMI1,-BMI2,-LZCNT,-MOVBE,-POPCNT,-SSE4_2,-SSE4_1,-SSSE3,-ERMS,-FSRM,-RTM,\
-XSAVEC,-AVX512F_Usable,-AVX512DQ_Usable,-AVX2_Usable,-AVX_Usable,-FMA_Usable,-FMA4_Usable,\
-XSAVEC_Usable,-Prefer_ERMS,-Prefer_FSRM,-Prefer_No_VZEROUPPER,-Prefer_No_AVX512,\
-AVX_Fast_Unaligned_Load,-MathVec_Prefer_No_AVX512,-Slow_BSF,-Slow_SSE4_2,-Fast_Rep_String,\
-Fast_Copy_Backward,-Prefer_PMINUB_for_stringop,-Avoid_STOSB,-Avoid_Non_Temporal_Memset,\
Fast_Unaligned_Load,Fast_Unaligned_Copy";

/// Cache sizes in bytes (a first level of 32 KiB, a shared one of 1 MiB) and the sizes from which copies
/// change their method: glibc's own defaults for those caches and 16-byte vectors.
#[cfg(target_arch = "x86_64")]
const CACHES: [(&str, &str); 6] = [
    ("x86_data_cache_size", "32768"),
    ("x86_shared_cache_size", "1048576"),
    ("x86_non_temporal_threshold", "786432"),
    ("x86_rep_movsb_threshold", "2048"),
    ("x86_rep_stosb_threshold", "2048"),
    ("x86_memset_non_temporal_threshold", "786432"),
];

/// Arenas of malloc: what glibc derives from one CPU, without a look at how many the machine has.
const MALLOC_ARENAS: &str = "glibc.malloc.arena_max=8";

/// What chooses between implementations in the C library.
#[cfg(target_arch = "x86_64")]
fn glibc_tunables(dispatch: bool) -> String {
    let mut tunables = vec![MALLOC_ARENAS.to_owned()];
    // Before 2.29 the namespace was `tune`; each version skips the other's names.
    for namespace in ["cpu", "tune"] {
        if dispatch {
            tunables.push(format!("glibc.{namespace}.hwcaps={HWCAPS}"));
            let caches = CACHES.map(|(name, value)| format!("glibc.{namespace}.{name}={value}"));
            tunables.extend(caches);
        }
    }
    tunables.join(":")
}

/// What chooses between implementations in the C library: on 64-bit Arm one name for the core.
#[cfg(not(target_arch = "x86_64"))]
fn glibc_tunables(dispatch: bool) -> String {
    let core = if dispatch {
        ":glibc.cpu.name=generic"
    } else {
        ""
    };
    format!("{MALLOC_ARENAS}{core}")
}

/// Variables with one value everywhere.
fn fixed(dispatch: bool) -> Vec<(&'static str, String)> {
    // The time after which jemalloc returns memory is wall-clock time, and its arenas follow the number of
    // CPUs. Rust's build of it reads a name of its own.
    const JEMALLOC: &str = "dirty_decay_ms:0,muzzy_decay_ms:0,narenas:4";
    let mut variables = vec![
        ("GLIBC_TUNABLES", glibc_tunables(dispatch)),
        ("LANG", "C.UTF-8".into()),
        ("LC_ALL", "C.UTF-8".into()),
        ("MALLOC_CONF", JEMALLOC.into()),
        ("_RJEM_MALLOC_CONF", JEMALLOC.into()),
        ("PERL_HASH_SEED", "0".into()),
        ("PERL_PERTURB_KEYS", "0".into()),
        ("PYTHONHASHSEED", "0".into()),
        ("TZ", "UTC".into()),
    ];
    if dispatch && cfg!(target_arch = "x86_64") {
        // MMX, FXSR, SSE and SSE2 of CPUID leaf 1, nothing of leaf 7: OPENSSL_ia32cap(3). Both libraries
        // keep code for such a CPU in every build that chooses at run time.
        variables.push(("OPENSSL_ia32cap", "0x7800000:0".into()));
        variables.push(("OPENBLAS_CORETYPE", "Prescott".into()));
    }
    variables
}

/// Variables of ours as programs are given them: those that see the project's `folder` elsewhere have its path there.
pub fn seen<'a>(
    ours: impl IntoIterator<Item = (OsString, OsString)> + 'a,
    folder: Option<&'a ProjectFolder>,
) -> impl Iterator<Item = (OsString, OsString)> + 'a {
    ours.into_iter().map(move |(name, value)| {
        let seen = folder.map(|folder| folder.inside_each(&value));
        (name, seen.unwrap_or(value))
    })
}

/// Variables of a pinned run, `NAME` to value, not yet padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    dispatch: bool,
}

impl Environment {
    /// Takes from `ours` what is passed on, adds what is fixed, and lets `own` (the manifest's `env`) win.
    /// `dispatch` masks what libraries see of the real CPU; without it, they choose by the one that they are shown.
    pub fn new(
        ours: impl IntoIterator<Item = (OsString, OsString)>,
        own: impl IntoIterator<Item = (OsString, OsString)>,
        dispatch: bool,
    ) -> Self {
        let passed = |(name, _): &(OsString, OsString)| PASSED_ON.iter().any(|known| name == known);
        let mut variables: BTreeMap<_, _> = ours.into_iter().filter(passed).collect();
        variables.extend(
            fixed(dispatch)
                .into_iter()
                .map(|(n, v)| (n.into(), v.into())),
        );
        variables.extend(own);
        Environment {
            variables,
            dispatch,
        }
    }

    /// The value of a variable, before padding.
    pub fn value(&self, name: &str) -> Option<OsString> {
        self.variables.get(OsStr::new(name)).cloned()
    }

    /// Those that came from outside, and that nobody has replaced: name and value.
    pub fn passed_on(
        &self,
        own: &[(OsString, OsString)],
    ) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let names = PASSED_ON.iter().map(OsStr::new);
        let names = names.filter(|name| own.iter().all(|(replaced, _)| replaced != name));
        names.filter_map(|name| Some((name, self.variables.get(name)?.as_os_str())))
    }

    /// Whether `name` still has the value that was fixed for it.
    fn keeps(&self, name: &str) -> bool {
        let value = self.variables.get(OsStr::new(name));
        let fixed = fixed(self.dispatch);
        fixed
            .iter()
            .any(|(n, v)| *n == name && value.is_some_and(|value| value == v.as_str()))
    }

    /// Records what these variables pin, and what the manifest's own took back.
    pub fn note(&self, pinning: &mut Pinning) {
        pinning.pinned(Pin::Environment);
        let pins: [(Pin, &[&str]); 5] = [
            (
                Pin::HashSeeds,
                &["PYTHONHASHSEED", "PERL_HASH_SEED", "PERL_PERTURB_KEYS"],
            ),
            (Pin::Locale, &["LANG", "LC_ALL"]),
            (Pin::TimeZone, &["TZ"]),
            (Pin::CpuDispatch, &["GLIBC_TUNABLES"]),
            (Pin::CacheThresholds, &["GLIBC_TUNABLES"]),
        ];
        for (pin, names) in pins {
            match names.iter().find(|name| !self.keeps(name)) {
                Some(name) => pinning.free(pin, format!("`env` sets {name}")),
                None => pinning.pinned(pin),
            }
        }
    }

    /// The variables as `NAME=value`, without padding: those of the user, then those with a fixed value,
    /// each sorted by name. The fixed ones come last because that is the end of the stack that does not move:
    /// the dynamic loader's search through `GLIBC_TUNABLES` takes steps that depend on its address.
    pub fn plain(&self) -> Vec<OsString> {
        let fixed = fixed(self.dispatch);
        let last = |name: &OsString| fixed.iter().any(|(known, _)| name == known);
        let joined = |(name, value): (&OsString, &OsString)| {
            OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let (last, first): (Vec<_>, Vec<_>) =
            self.variables.iter().partition(|(name, _)| last(name));
        first.into_iter().chain(last).map(joined).collect()
    }

    /// The variables with padding around them, so that the initial stack pointer of `path`, executed with
    /// `args` (the zeroth included), is the same for any path, arguments and variables: as long as they fit
    /// one quantum of 16 KiB, and otherwise modulo that. A script has its own `path`, and the `args` of its
    /// interpreter: see [`script_args`].
    pub fn padded(&self, layout: StackLayout, path: &OsStr, args: &[OsString]) -> Vec<OsString> {
        let path_size = size(path);
        let zeroth = match (layout, args.first()) {
            (StackLayout::Kernel, Some(zeroth)) => size(zeroth),
            (StackLayout::Kernel, None) => 0,
            (StackLayout::Valgrind, _) => path_size,
        };
        let rest = args.iter().skip(1).map(|arg| size(arg)).sum::<usize>();
        let texts = Texts {
            path: path_size,
            args: zeroth + rest,
            count: args.len(),
        };
        pad(&texts, self.plain())
    }
}

/// Who lays out the program's stack. Both put the same parts in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackLayout {
    /// The kernel, at exec.
    Kernel,
    /// Valgrind, which makes the path it was given the zeroth argument.
    Valgrind,
}

/// The arguments with which the kernel starts the interpreter of the script at `path` (execve(2),
/// "Interpreter scripts"), when `head`, the first bytes of that file, name one.
pub fn script_args(head: &[u8], path: &OsStr, args: &[OsString]) -> Option<Vec<OsString>> {
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?
        .trim_ascii();
    let mut words = line.splitn(2, |byte| *byte == b' ' || *byte == b'\t');
    let interpreter = words.next().filter(|word| !word.is_empty())?;
    let option = words.next().map(<[u8]>::trim_ascii);
    let ahead = [Some(interpreter), option, Some(path.as_bytes())];
    let ahead = ahead
        .into_iter()
        .flatten()
        .map(|word| OsString::from_vec(word.to_vec()));
    Some(ahead.chain(args.iter().skip(1).cloned()).collect())
}

/// The first variable of a padded environment. Below it on the stack lie the arguments' texts, so that these
/// keep their place whatever the variables hold.
const FIRST: &str = "COUNTERFOIL_PAD=";
/// The last one. Above it lies the path that was executed, so that the variables keep theirs.
const LAST: &str = "COUNTERFOIL_PAD_PATH=";
/// The stack is brought to a multiple of this, in bytes.
const QUANTUM: usize = 16 << 10;
/// The path and the padding beside it are brought to a multiple of this, in bytes.
const PATH_QUANTUM: usize = 512;

/// The bytes of `length` up to the next multiple of `quantum`.
fn gap(length: usize, quantum: usize) -> usize {
    length.next_multiple_of(quantum) - length
}

fn filled(name: &str, padding: usize) -> OsString {
    OsString::from(format!("{name}{}", "x".repeat(padding)))
}

/// What a text takes on the stack, its closing NUL included.
fn size(text: &OsStr) -> usize {
    text.len() + 1
}

/// Sizes in bytes of what stands beside the variables on the stack.
struct Texts {
    path: usize,
    args: usize,
    /// How many arguments there are.
    count: usize,
}

/// Puts padding before and after `env`.
///
/// Linux (`fs/exec.c`, `create_elf_tables` in `fs/binfmt_elf.c`) copies the path, the variables and the
/// arguments to the top of the stack, S bytes in all, rounds down to 16, puts some constants below, then
/// pointers: I of 8 bytes, for arguments, variables, their two ends and the count; and rounds down again.
/// With S + 8 I constant and equal to 8 modulo 16, both roundings together are constant, too, whether I is
/// even or odd. Valgrind builds its program's stack itself (`initimg-linux.c`), rounds S up to 8 and the
/// whole down to 16: constant for the same reason.
fn pad(texts: &Texts, env: Vec<OsString>) -> Vec<OsString> {
    const POINTER: usize = 8;
    let last = filled(LAST, gap(texts.path + size(OsStr::new(LAST)), PATH_QUANTUM));
    // Our two variables, two null pointers and the count of arguments.
    let pointers = texts.count + env.len() + 5;
    let variables = env.iter().map(|variable| size(variable)).sum::<usize>();
    let around = size(&last) + size(OsStr::new(FIRST));
    let stack = texts.path + texts.args + variables + around + POINTER * pointers;
    // Eight more than a multiple of the quantum remain.
    let first = filled(FIRST, gap(stack + QUANTUM - 8, QUANTUM));
    [vec![first], env, vec![last]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(n, v)| (n.into(), v.into())).collect()
    }

    #[test]
    fn passes_on_what_is_needed_and_nothing_else() {
        let env = Environment::new(pairs(&[("PATH", "/bin"), ("SECRET", "1")]), [], true).plain();
        assert!(env.contains(&OsString::from("PATH=/bin")));
        assert!(!env.iter().any(|v| v.as_bytes().starts_with(b"SECRET")));
        assert_eq!(env.first(), Some(&OsString::from("PATH=/bin")));
    }

    #[test]
    fn the_manifests_own_variables_win_and_their_pins_are_given_up() {
        let env = Environment::new([], pairs(&[("TZ", "Asia/Tokyo")]), true);
        assert!(env.plain().contains(&OsString::from("TZ=Asia/Tokyo")));
        let mut pinning = Pinning::default();
        env.note(&mut pinning);
        assert_eq!(
            pinning.missing().collect::<Vec<_>>(),
            [(Pin::TimeZone, "`env` sets TZ")]
        );
    }

    #[test]
    fn strings_and_pointers_add_up_to_the_same_for_all_lengths() {
        for path in [1, 5, 511, 512, 600] {
            for value in 0..40 {
                for count in 0..5 {
                    let own = pairs(&[("A", &"v".repeat(value))]);
                    let path = OsString::from("p".repeat(path));
                    let args = vec![OsString::from("arg"); count];
                    let env =
                        Environment::new([], own, true).padded(StackLayout::Kernel, &path, &args);
                    let texts = env
                        .iter()
                        .chain(&args)
                        .map(|text| size(text))
                        .sum::<usize>();
                    let pointers = 8 * (env.len() + args.len() + 3);
                    assert_eq!((size(&path) + texts + pointers) % QUANTUM, 8);
                }
            }
        }
    }

    #[test]
    fn a_scripts_arguments_are_those_of_its_interpreter() {
        let args = ["x".into(), "y".into()];
        let made = |head: &[u8]| script_args(head, OsStr::new("./s"), &args);
        let words = |list: &[&str]| Some(list.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(made(b"#!/bin/sh\nexit"), words(&["/bin/sh", "./s", "y"]));
        assert_eq!(
            made(b"#! /usr/bin/env -S a b \n"),
            words(&["/usr/bin/env", "-S a b", "./s", "y"])
        );
        assert_eq!(made(b"\x7fELF"), None);
        assert_eq!(made(b"#!\n"), None);
    }
}
