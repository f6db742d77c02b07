//! Counting in a container as Docker makes them by default: its filter of system calls, its capabilities, its /proc. What
//! is counted there is what is counted outside, and what cannot be pinned is said.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};

use common::Need::{DefaultBackend, Program};
use common::{
    assert_no_process, case, compile, count_in, eventually, folder, mark, output, processes_with,
    python, skipped, stderr, stdout, write,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::{Value, json};
use tempfile::TempDir;

fn main() -> ExitCode {
    let needs = [DefaultBackend, Program("runc"), Program("gcc")];
    let git = [DefaultBackend, Program("runc"), Program("git")];
    let python = [DefaultBackend, Program("runc"), Program(python())];
    type Test<'a> = (&'static str, &'a [common::Need], fn());
    let tests: [Test<'_>; 6] = [
        (
            "a_count_is_that_outside_for_root_and_for_others",
            &needs,
            a_count_is_that_outside_for_root_and_for_others,
        ),
        ("git_counts_as_outside", &git, git_counts_as_outside),
        (
            "python_has_one_count_and_with_its_own_ids_that_outside",
            &python,
            python_has_one_count_and_with_its_own_ids_that_outside,
        ),
        (
            "what_is_refused_is_named_with_the_remedy",
            &needs,
            what_is_refused_is_named_with_the_remedy,
        ),
        (
            "a_baseline_of_outside_holds_inside",
            &needs,
            a_baseline_of_outside_holds_inside,
        ),
        (
            "a_container_that_is_stopped_leaves_nothing",
            &needs,
            a_container_that_is_stopped_leaves_nothing,
        ),
    ];
    let root = geteuid().is_root();
    let trials = tests.map(|(name, needs, body)| match root {
        true => case(name, needs, body),
        false => skipped(name, "not root, which makes containers".to_owned()),
    });
    common::run(trials.into())
}

/// Capabilities that Docker leaves to root (docs.docker.com, "Linux kernel capabilities").
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Calls that Docker refuses whatever they ask for, of those that some kernel has ("Seccomp security profiles for Docker").
const REFUSED: &str = "_sysctl acct add_key afs_syscall clock_settime create_module delete_module finit_module \
    get_kernel_syms get_mempolicy getpmsg init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp \
    kexec_file_load kexec_load keyctl mbind migrate_pages move_pages nfsservctl open_by_handle_at pidfd_getfd pivot_root \
    process_madvise putpmsg query_module reboot request_key security set_mempolicy set_mempolicy_home_node settimeofday \
    swapoff swapon sysfs tuxcall uselib userfaultfd ustat vhangup vserver";

/// Those that it allows with CAP_SYS_ADMIN.
const ADMINISTRATORS: &str = "bpf clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr \
    move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount2 unshare";

/// personality(2): what Docker lets through. Not among it: ADDR_NO_RANDOMIZE.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// All CLONE_NEW flags but CLONE_NEWTIME (clone(2)).
const NAMESPACES: u32 = 0x7e02_0000;

/// Files of /proc that Docker hides, and those that it makes read-only.
const MASKED: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Every call that this machine's headers know: a filter names calls, and refuses all numbers that it has no name for.
fn calls() -> Vec<String> {
    let headers = [
        "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "/usr/include/asm/unistd_64.h",
    ];
    let text = headers
        .iter()
        .find_map(|path| fs::read_to_string(path).ok());
    let text = text.expect("the kernel's headers, which gcc comes with");
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("#define __NR_"));
    names
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// Docker's filter for a process that may be an administrator.
fn filter(administrator: bool) -> Value {
    let special = |name: &str| ["personality", "clone", "clone3"].contains(&name);
    let refused = |name: &str| REFUSED.split_whitespace().any(|refused| refused == name);
    let administrators = |name: &str| ADMINISTRATORS.split_whitespace().any(|call| call == name);
    let allowed = calls().into_iter().filter(|name| {
        !special(name) && !refused(name) && (administrator || !administrators(name))
    });
    let allow = |names: Vec<String>, arguments: Value| json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": arguments });
    let only = |name: &str, operation: &str, value: u32| {
        let argument = json!([{ "index": 0, "value": value, "op": operation }]);
        allow(vec![name.to_owned()], argument)
    };
    let mut rules = vec![allow(allowed.collect(), json!([]))];
    rules.extend(PERSONALITIES.map(|value| only("personality", "SCMP_CMP_EQ", value)));
    match administrator {
        true => rules.push(allow(
            vec!["clone".to_owned(), "clone3".to_owned()],
            json!([]),
        )),
        false => {
            let missing =
                json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 });
            rules.extend([only("clone", "SCMP_CMP_MASKED_EQ", NAMESPACES), missing]);
        }
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    })
}

/// A folder that is in the container under the same path, and what the container is made from.
struct Container {
    folder: TempDir,
    bundle: TempDir,
    user: u32,
    administrator: bool,
    /// Where else the folder is in the container, which then begins there.
    also: Option<&'static str>,
}

/// Where the binary is in it: users may not see the folder that it is in.
const BINARY: &str = "/counterfoil";

/// What is there of the machine.
const SHARED: [&str; 3] = ["/usr", "/etc", "/opt"];

impl Container {
    /// As `docker run` makes it for root, or with `--user` for another, who then may become nobody else.
    fn of(user: u32) -> Container {
        let (folder, bundle) = (folder(), folder());
        fs::create_dir(folder.path().join("tmp")).unwrap();
        for open in [folder.path(), &folder.path().join("tmp")] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let root = bundle.path().join("rootfs");
        for name in ["tmp", "srv"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
                symlink(target, root.join(name)).unwrap();
            }
        }
        Container {
            folder,
            bundle,
            user,
            administrator: false,
            also: None,
        }
    }

    /// With `--cap-add SYS_ADMIN`.
    fn of_an_administrator() -> Container {
        Container {
            administrator: true,
            ..Container::of(0)
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The same outside and inside.
    fn environment(&self) -> [String; 4] {
        [
            "PATH=/usr/bin:/bin".to_owned(),
            "HOME=/nonexistent".to_owned(),
            format!("TMPDIR={}", self.path().join("tmp").display()),
            "COUNTERFOIL_CACHE_DIR=".to_owned(),
        ]
    }

    fn mounts(&self) -> Vec<Value> {
        let mount = |place: &str, kind: &str, options: &[&str]| json!({ "destination": place, "type": kind, "source": kind, "options": options });
        let bind = |from: &Path, place: &Path, right: &str| json!({ "destination": place, "type": "bind", "source": from, "options": ["rbind", "rprivate", right] });
        let mut mounts = vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount(
                "/dev/shm",
                "tmpfs",
                &["nosuid", "noexec", "nodev", "mode=1777"],
            ),
        ];
        let shared = SHARED.iter().map(Path::new).filter(|path| path.exists());
        mounts.extend(shared.map(|path| bind(path, path, "ro")));
        mounts.push(bind(self.path(), self.path(), "rw"));
        let also = self
            .also
            .map(|place| bind(self.path(), Path::new(place), "rw"));
        mounts.extend(also);
        let binary = Path::new(env!("CARGO_BIN_EXE_counterfoil"));
        mounts.push(bind(binary, Path::new(BINARY), "ro"));
        mounts
    }

    fn config(&self, arguments: &[&str], more: &str) -> Value {
        let mut capabilities = CAPABILITIES.to_vec();
        if self.administrator {
            capabilities.push("CAP_SYS_ADMIN");
        }
        let own = if self.user == 0 {
            &capabilities[..]
        } else {
            &[]
        };
        let environment = self.environment();
        let environment = environment.iter().map(String::as_str).chain([more]);
        let environment: Vec<_> = environment.collect();
        let command = [&[BINARY], arguments].concat();
        let namespaces = ["pid", "network", "ipc", "uts", "mount"];
        let namespaces = namespaces.map(|kind| json!({ "type": kind }));
        json!({
            "ociVersion": "1.0.0",
            "hostname": "4f2c1b7a9d10",
            "root": { "path": "rootfs" },
            "mounts": self.mounts(),
            "process": {
                "user": { "uid": self.user, "gid": self.user },
                "args": command,
                "env": environment,
                "cwd": self.also.map_or(self.path(), Path::new),
                "capabilities": { "bounding": capabilities, "effective": own, "permitted": own },
                "noNewPrivileges": self.user != 0,
            },
            "linux": {
                "namespaces": namespaces,
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
                "seccomp": filter(self.administrator),
            },
        })
    }

    /// `counterfoil` in a new container, which has one more variable.
    fn command(&self, arguments: &[&str], more: &str) -> Command {
        let config = self.config(arguments, more).to_string();
        write(self.bundle.path(), "config.json", &config);
        let name = self.bundle.path().file_name().unwrap();
        let mut command = Command::new("runc");
        let state = self.bundle.path().join("state");
        command.arg("--root").arg(state).args(["run", "--bundle"]);
        command.arg(self.bundle.path()).arg(name);
        command.stdin(Stdio::null());
        command
    }

    fn inside(&self, arguments: &[&str]) -> Output {
        output(&mut self.command(arguments, "MORE="))
    }

    /// The same command outside.
    fn outside(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_counterfoil"));
        let environment = self.environment();
        let variables = environment.iter().filter_map(|text| text.split_once('='));
        command.args(arguments).env_clear().envs(variables);
        output(command.stdin(Stdio::null()).current_dir(self.path()))
    }

    /// Nothing is left in the temporary folder.
    #[track_caller]
    fn assert_clean(&self) {
        let left: Vec<PathBuf> = fs::read_dir(self.path().join("tmp"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// The count of a command, inside twice, and with `outside` there, too.
    #[track_caller]
    fn counts(&self, command: &[&str], outside: bool) -> Vec<u64> {
        let arguments = [&["count", "--backend", "dbi", "--"], command].concat();
        let mut runs = vec![self.inside(&arguments), self.inside(&arguments)];
        if outside {
            runs.push(self.outside(&arguments));
        }
        let counts = runs.iter().map(|run| count_in(&stderr(run))).collect();
        self.assert_clean();
        counts
    }

    #[track_caller]
    fn counts_as_outside(&self, command: &[&str]) {
        let counts = self.counts(command, true);
        let same = counts.iter().all(|count| *count == counts[0]);
        assert!(same, "{command:?}: inside twice and outside: {counts:?}");
    }
}

/// Threads that wait for each other: the C library asks for clone3(2), which containers refuse.
const THREADS: &str = "#include <pthread.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long total;
static void *work(void *unused) {
  for (long i = 0; i < 1000; i++) {
    pthread_mutex_lock(&lock);
    total += i;
    pthread_mutex_unlock(&lock);
  }
  return unused;
}
int main(void) {
  pthread_t threads[4];
  for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, 0);
  for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
  return total != 4 * 499500;
}
";

/// Looks at each byte of its own path.
const PATH: &str = "int main(int count, char **arguments) {
  int sum = 0;
  for (char *at = arguments[0]; *at; at++) sum += *at;
  return sum == 0;
}
";

fn a_count_is_that_outside_for_root_and_for_others() {
    for user in [0, 1000] {
        let container = Container::of(user);
        container.counts_as_outside(&["true"]);
        for (name, kind) in [
            ("any.c", "-pie"),
            ("fixed.c", "-no-pie"),
            ("alone.c", "-static"),
        ] {
            let program = compile(container.path(), name, THREADS, &[kind, "-pthread"]);
            container.counts_as_outside(&[program.to_str().unwrap()]);
        }
    }
}

fn git_counts_as_outside() {
    Container::of(0).counts_as_outside(&["git", "--version"]);
}

/// It makes numbers of its process id, which only a container with more rights can pin.
fn python_has_one_count_and_with_its_own_ids_that_outside() {
    // Whether it can seek in its input is work to it, and runc makes a pipe of ours.
    let script = format!("exec {} -I -c pass </dev/null", python());
    let command = ["sh", "-c", &script];
    let counts = Container::of(1000).counts(&command, false);
    assert_eq!(counts[0], counts[1]);
    let counts = Container::of_an_administrator().counts(&command, true);
    let same = counts.iter().all(|count| *count == counts[0]);
    assert!(same, "inside twice and outside: {counts:?}");
}

fn what_is_refused_is_named_with_the_remedy() {
    for user in [0, 1000] {
        let container = Container::of(user);
        let report = stderr(&container.inside(&["count", "--", "true"]));
        let free = report.split_once("not pinned  ").expect(&report).1;
        assert!(
            free.starts_with("process ids: the kernel refuses a PID namespace here")
                && free.contains("`--cap-add SYS_ADMIN`"),
            "{report}"
        );
        assert!(!free.contains("address layout"), "{report}");
        for network in ["none", "loopback"] {
            let run = container.inside(&["count", "--network", network, "--", "true"]);
            let text = stderr(&run);
            assert_eq!(run.status.code(), Some(125), "{text}");
            for part in [
                &format!("`network = \"{network}\"` takes a network namespace"),
                "`--cap-add SYS_ADMIN`",
                "or set `network = \"host\"`",
            ] {
                assert!(text.contains(part), "{text}");
            }
        }
        let doctor = stdout(&container.inside(&["doctor"]));
        assert!(
            doctor.contains("moves programs to fixed addresses"),
            "{doctor}"
        );
    }
    let container = Container::of_an_administrator();
    let run = container.inside(&["count", "--network", "none", "--", "true"]);
    let report = stderr(&run);
    assert!(run.status.success(), "{report}");
    assert!(!report.contains("process ids: the kernel"), "{report}");
}

/// To the last instruction if the project is in the container where programs see it outside.
fn a_baseline_of_outside_holds_inside() {
    let container = Container::of(0);
    compile(container.path(), "threads.c", THREADS, &["-pthread"]);
    compile(container.path(), "path.c", PATH, &[]);
    let workload =
        |name: &str| format!("[[workload]]\nname = \"{name}\"\ncommand = [\"./{name}.bin\"]\n");
    let manifest = workload("threads") + &workload("path");
    write(container.path(), "counterfoil.toml", &manifest);
    let recorded = container.outside(&["record"]);
    assert!(recorded.status.success(), "{}", stderr(&recorded));
    let check = |container: &Container| {
        let checked = container.inside(&["check"]);
        let report = format!("{}{}", stdout(&checked), stderr(&checked));
        assert_eq!(checked.status.code(), Some(0), "{report}");
        container.assert_clean();
        report
    };
    let report = check(&container);
    assert!(report.contains("1 identical, 1 "), "{report}");
    assert!(
        report
            .contains("not pinned: project folder: the kernel refuses to show it at /srv/project"),
        "{report}"
    );
    let report = check(&Container {
        also: Some("/srv/project"),
        ..container
    });
    assert!(report.contains("2 workloads: 2 identical"), "{report}");
    assert!(!report.contains("project folder"), "{report}");
}

fn a_container_that_is_stopped_leaves_nothing() {
    let container = Container::of(0);
    let mark = mark("stopped");
    let variable = format!("MARK={mark}");
    let command = ["sh", "-c", "sleep 100 & sleep 100"];
    let command = [&["count", "--env", "MARK", "--"], &command[..]].concat();
    let mut runc = Killed(container.command(&command, &variable).spawn().unwrap());
    eventually("both sleep", || {
        let all = processes_with(&mark);
        all.iter().filter(|name| name.starts_with("sleep")).count() == 2
    });
    // `docker stop`: to the first process alone, which is counterfoil.
    kill(Pid::from_raw(runc.0.id() as i32), Signal::SIGTERM).unwrap();
    assert_no_process(&mark);
    runc.0.wait().unwrap();
    container.assert_clean();
}

/// Killed when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
