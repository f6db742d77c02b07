//! The list of libraries that dynamic loaders are shown under `dbi`: counts do not depend on what else is installed.
//!
//! Each test runs in a mount namespace whose /etc/ld.so.cache is one that ldconfig made of other libraries.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use common::{Need, case, compile, counterfoil, folder, output, python, skipped, stderr, stdout};

/// Where the loader has its list.
const LIST: &str = "/etc/ld.so.cache";

/// More than are installed on a small machine.
const MORE: usize = 300;

fn main() -> ExitCode {
    let cases: [(&'static str, fn()); 7] = [
        (
            "a_count_is_the_same_whatever_is_installed",
            same_whatever_is_installed,
        ),
        (
            "a_list_that_is_not_understood_is_shown_as_it_is",
            not_understood,
        ),
        (
            "a_program_with_another_root_finds_its_own_libraries",
            another_root,
        ),
        (
            "a_program_that_changes_its_root_finds_its_own_libraries",
            root_changed,
        ),
        (
            "what_only_the_list_tells_of_is_found",
            found_in_another_folder,
        ),
        ("who_reads_the_list_for_itself_sees_all_of_it", all_of_it),
        ("who_writes_the_list_writes_the_real_one", writes),
    ];
    let needs = [Need::Step, Need::Program("gcc"), Need::Program("git")];
    let refused = refused();
    let trials = cases.map(|(name, body)| match &refused {
        Some(why) => skipped(name, why.clone()),
        None => case(name, &needs, body),
    });
    common::run(trials.into())
}

/// Why no other list can be mounted or made here.
fn refused() -> Option<String> {
    let script = format!("mount --bind /etc/passwd {LIST} && ldconfig --version");
    match inside(&script).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(stderr(&output).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// A shell that is root in a user and mount namespace of its own.
fn inside(script: &str) -> Command {
    let mut command = Command::new("unshare");
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(["-rm", "sh", "-c", script])
        .env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Puts libraries below `root`, each where it is here, and lists them.
fn list(root: &Path, libraries: &[PathBuf], configured: &str) -> PathBuf {
    for library in libraries {
        put(root, library, library);
    }
    common::write(root, "etc/ld.so.conf", configured);
    let script = format!("ldconfig -X -r '{}'", root.display());
    let made = output(&mut inside(&script));
    assert!(made.status.success(), "{}", stderr(&made));
    root.join(LIST.trim_start_matches('/'))
}

/// Puts a file below `root`.
fn put(root: &Path, place: &Path, file: &Path) {
    let place = root.join(place.strip_prefix("/").unwrap());
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::copy(file, place).unwrap();
}

/// The libraries that a program or a library is linked with, as ldd finds them.
fn linked_with(file: &str) -> Vec<PathBuf> {
    let ldd = output(Command::new("ldd").arg(file));
    let text = stdout(&ldd);
    let paths = text
        .lines()
        .filter_map(|line| line.split_once(" => ")?.1.split(' ').next());
    paths.map(PathBuf::from).collect()
}

/// Counts where `list` is the machine's: what it wrote, and how much it executed.
fn counted(list: &Path, options: &[&str], program: &[&str]) -> (String, u64) {
    counted_after("true", list, options, program)
}

/// The same, once `before` has been done there.
fn counted_after(before: &str, list: &Path, options: &[&str], program: &[&str]) -> (String, u64) {
    let ran = run(before, list, options, program);
    assert!(ran.status.success(), "{program:?}: {}", stderr(&ran));
    (stdout(&ran), common::count_in(&stderr(&ran)))
}

fn run(before: &str, list: &Path, options: &[&str], program: &[&str]) -> Output {
    let ours = counterfoil(&[&["count", "--backend", "dbi"], options, &["--"], program].concat());
    let script = format!("mount --bind \"$0\" {LIST} && {before} && exec \"$@\"");
    let mut command = inside(&script);
    command.arg(list).arg(ours.get_program());
    command.args(ours.get_args());
    for (name, value) in ours.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    output(&mut command)
}

/// The list of what `program` is linked with, in a folder.
fn list_for(folder: &Path, program: &str) -> PathBuf {
    list(&folder.join("tree"), &linked_with(program), "")
}

/// Modules of Python that bring libraries along when they are imported.
fn modules() -> Vec<String> {
    let text = "import _ssl, _sqlite3; print(_ssl.__file__, _sqlite3.__file__)";
    let asked = output(Command::new(python()).args(["-c", text]));
    assert!(asked.status.success(), "{}", stderr(&asked));
    let files = stdout(&asked);
    files.split_whitespace().map(str::to_owned).collect()
}

/// Two machines: one has what the programs are linked with, the other also what they load later, and a lot besides.
fn two_lists(folder: &Path) -> [PathBuf; 2] {
    let programs = ["/bin/true", "/usr/bin/git", python()];
    let few: Vec<PathBuf> = programs.iter().flat_map(|p| linked_with(p)).collect();
    let home = few[0].parent().unwrap().to_owned();
    let small = list(&folder.join("few"), &few, "");
    let large = folder.join("more");
    let nothing = compile(folder, "n.c", "int nothing;", &["-shared", "-fPIC"]);
    for number in 0..MORE {
        let name = format!("libnothing{number}.so.1");
        put(&large, &home.join(name), &nothing);
    }
    let later = modules().into_iter().flat_map(|file| linked_with(&file));
    let all: Vec<PathBuf> = few.iter().cloned().chain(later).collect();
    [small, list(&large, &all, "")]
}

fn same_whatever_is_installed() {
    let folder = folder();
    let [few, more] = two_lists(folder.path());
    let loads = "import ssl, sqlite3; print(ssl.OPENSSL_VERSION, sqlite3.sqlite_version)";
    let programs: [&[&str]; 5] = [
        &["/bin/true"],
        &["git", "--version"],
        &[python(), "-c", "pass"],
        &[python(), "-c", loads],
        &["sh", "-c", "for i in 1 2 3; do /bin/echo $i; done"],
    ];
    for program in programs {
        // First natively: it sets the times of access of what Python reads, which are part of its work.
        let native = output(Command::new(program[0]).args(&program[1..]));
        let first = counted(&few, &[], program);
        assert_eq!(counted(&more, &[], program), first, "{program:?}");
        assert_eq!(first.0, stdout(&native), "{program:?}");
    }
    // So the lists do differ, and programs that see the real machine see them.
    let real = |list| counted(list, &["--cpu", "host"], &["/bin/true"]).1;
    assert_ne!(real(&few), real(&more));
}

/// A library in a folder of its own: linked with, preloaded, and loaded by a program that runs; where none of this is, nothing
/// of it is seen.
fn found_in_another_folder() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let shared = ["-shared", "-fPIC", "-Wl,-soname,libown.so.1"];
    let text = "#include <unistd.h>\n__attribute__((constructor)) static void own(void) { write(1, \"own\\n\", 4); }";
    let own = compile(folder.path(), "own.c", text, &shared);
    let place = folder.path().join("apart/libown.so.1");
    fs::create_dir(place.parent().unwrap()).unwrap();
    fs::copy(&own, &place).unwrap();
    let empty = "int main(void) { return 0; }";
    let plain = compile(folder.path(), "plain.c", empty, &[]);
    let linked = compile(
        folder.path(),
        "linked.c",
        empty,
        &["-Wl,--no-as-needed", &path("own.bin")],
    );
    let loads = compile(
        folder.path(),
        "loads.c",
        "#include <dlfcn.h>\nint main(void) { return !dlopen(\"libown.so.1\", RTLD_NOW); }",
        &[],
    );
    let few = linked_with(plain.to_str().unwrap());
    let without = list(&folder.path().join("without"), &few, "");
    let more: Vec<PathBuf> = few.iter().cloned().chain([place.clone()]).collect();
    let with = list(
        &folder.path().join("with"),
        &more,
        place.parent().unwrap().to_str().unwrap(),
    );
    let [plain, linked, loads] = [&plain, &linked, &loads].map(|path| path.to_str().unwrap());
    assert_eq!(counted(&with, &[], &[linked]).0, "own\n");
    assert_eq!(counted(&with, &[], &[loads]).0, "own\n");
    let preload = ["--env", "LD_PRELOAD=libown.so.1"];
    assert_eq!(counted(&with, &preload, &[plain]).0, "own\n");
    assert_eq!(
        counted(&with, &[], &[plain]),
        counted(&without, &[], &[plain])
    );
    assert!(!run("true", &without, &[], &[loads]).status.success());
}

fn not_understood() {
    let folder = folder();
    let whole = list_for(folder.path(), "/bin/true");
    let log = folder.path().join("log");
    let options = ["--engine-log", log.to_str().unwrap()];
    let shown = || {
        fs::read_to_string(&log)
            .unwrap()
            .contains("libraries are shown as they are: read /etc/ld.so.cache: it ")
    };
    counted(&whole, &options, &["/bin/true"]);
    assert!(!shown());
    let mut bytes = fs::read(&whole).unwrap();
    for (at, byte) in [(19, b'2'), (0, b'x'), (23, 0x7f)] {
        let place: &mut u8 = &mut bytes[at];
        let before = std::mem::replace(place, byte);
        let damaged = folder.path().join("damaged");
        fs::write(&damaged, &bytes).unwrap();
        counted(&damaged, &options, &["/bin/true"]);
        assert!(shown(), "byte {at}");
        bytes[at] = before;
    }
}

/// A folder that can be another root: with a list of its own, in which a library is that is nowhere else.
fn root_with_own_library(folder: &Path) -> PathBuf {
    let root = folder.join("root");
    let own = compile(
        folder,
        "own.c",
        "int own(void) { return 42; }",
        &["-shared", "-fPIC", "-Wl,-soname,libown.so.1"],
    );
    put(&root, Path::new("/opt/own/libown.so.1"), &own);
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    put(&root, loader, loader);
    list(&root, &linked_with("/bin/true"), "/opt/own\n");
    root
}

fn another_root() {
    let folder = folder();
    let root = root_with_own_library(folder.path());
    let program = compile(
        folder.path(),
        "program.c",
        "#include <stdio.h>\nint own(void);\nint main(void) { printf(\"%d\\n\", own()); return 0; }",
        &[
            "-Wl,--no-as-needed",
            folder.path().join("own.bin").to_str().unwrap(),
        ],
    );
    put(&root, Path::new("/program"), &program);
    fs::create_dir(root.join("proc")).unwrap();
    let before = format!("mount --rbind /proc '{}/proc'", root.display());
    let program = ["chroot", root.to_str().unwrap(), "/program"];
    let (written, _) = counted_after(&before, Path::new(LIST), &[], &program);
    assert_eq!(written, "42\n");
}

/// What programs are shown is opened through /proc, which is not there.
fn root_changed() {
    let folder = folder();
    let root = root_with_own_library(folder.path());
    let program = compile(
        folder.path(),
        "enters.c",
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n#include <unistd.h>\n
         int main(int count, char **arguments) {
           if (chroot(arguments[1])) { perror(\"chroot\"); return 1; }
           void *library = dlopen(\"libown.so.1\", RTLD_NOW);
           if (!library) { puts(dlerror()); return 1; }
           int (*own)(void) = (int (*)(void))dlsym(library, \"own\");
           printf(\"%d\\n\", own()); return 0; }",
        &[],
    );
    let program = [program.to_str().unwrap(), root.to_str().unwrap()];
    let first = counted(Path::new(LIST), &[], &program);
    assert_eq!(first.0, "42\n");
    assert_eq!(counted(Path::new(LIST), &[], &program), first);
}

fn all_of_it() {
    let folder = folder();
    let list = list_for(folder.path(), "/usr/bin/git");
    let mut native = inside("ldconfig -p -C \"$0\"");
    let native = stdout(&output(native.arg(&list)));
    let (shown, _) = counted(&list, &[], &["ldconfig", "-p"]);
    let libraries = |text: &str| {
        let lines = text.lines().filter(|line| line.contains(" => "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(libraries(&native).len() > 1, "{native}");
    assert_eq!(libraries(&shown), libraries(&native));
}

fn writes() {
    let folder = folder();
    let list = list_for(folder.path(), "/bin/true");
    let before = fs::read(&list).unwrap();
    let script = format!("echo more >> {LIST}");
    counted(&list, &[], &["sh", "-c", &script]);
    assert_eq!(
        fs::read(&list).unwrap(),
        [before, b"more\n".to_vec()].concat()
    );
}
