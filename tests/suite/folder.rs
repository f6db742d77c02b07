//! Where programs see the project's folder: at one path, whatever checkout they run in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::Need::{DefaultBackend, Program};
use crate::common::{case, compile, folder, output, python, stderr, stdout, write};

pub fn cases() -> Vec<Trial> {
    let programs = [DefaultBackend, Program("gcc"), Program(python())];
    let user = [
        DefaultBackend,
        Program("gcc"),
        Program(python()),
        Program("setpriv"),
    ];
    let refusing = [DefaultBackend, Program("unshare")];
    vec![
        case(
            "a_baseline_holds_in_a_checkout_elsewhere",
            &programs,
            a_baseline_holds_in_a_checkout_elsewhere,
        ),
        case(
            "a_baseline_of_another_user_holds_in_a_checkout_elsewhere",
            &user,
            a_baseline_of_another_user_holds_in_a_checkout_elsewhere,
        ),
        case(
            "reports_name_the_checkout_and_programs_the_fixed_path",
            &programs,
            reports_name_the_checkout_and_programs_the_fixed_path,
        ),
        case(
            "a_refusal_is_named_and_the_folder_is_the_real_one",
            &refusing,
            a_refusal_is_named_and_the_folder_is_the_real_one,
        ),
        case(
            "a_way_out_of_the_project_leaves_it_where_it_is",
            &[DefaultBackend],
            a_way_out_of_the_project_leaves_it_where_it_is,
        ),
        case(
            "a_service_sees_the_project_where_the_workload_does",
            &[DefaultBackend],
            a_service_sees_the_project_where_the_workload_does,
        ),
    ]
}

/// Programs that handle their own path, each in its way.
const MANIFEST: &str = "[[workload]]
name = \"python\"
command = [\"/usr/bin/env\", \"INTERPRETER\", \"-B\", \"main.py\"]
snapshot = { stdout = true }
[[workload]]
name = \"c\"
command = [\"./path.bin\"]
snapshot = { stdout = true }
[[workload]]
name = \"sh\"
command = [\"./script.sh\", \"a\"]
snapshot = { stdout = true }
cwd = \"sub\"
[[workload]]
name = \"absolute\"
command = [\"sh\", \"-c\", \"exec $PYTHONPATH/../path.bin\"]
";

/// Looks at each byte of three paths.
const C: &str = "#include <stdio.h>
#include <unistd.h>
int main(int count, char **arguments) {
  char folder[4096], file[4096] = {0};
  long sum = 0;
  if (!getcwd(folder, sizeof folder) || readlink(\"/proc/self/exe\", file, sizeof file - 1) < 0) return 1;
  char *paths[] = {folder, file, arguments[0]};
  for (int i = 0; i < 3; i++)
    for (char *at = paths[i]; *at; at++) sum += *at;
  printf(\"%ld\\n\", sum);
  return 0;
}
";

/// What was written to both streams.
fn said(output: &Output) -> String {
    format!("{}{}", stdout(output), stderr(output))
}

/// Two checkouts with paths of different lengths, whose folder all may enter.
struct Checkouts {
    root: TempDir,
}

impl Checkouts {
    fn new() -> Checkouts {
        let checkouts = Checkouts { root: folder() };
        let first = checkouts.first();
        fs::create_dir_all(first.join("sub")).unwrap();
        fs::create_dir(checkouts.tmp()).unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(checkouts.root.path(), open).unwrap();
        write(
            &first,
            "counterfoil.toml",
            &MANIFEST.replace("INTERPRETER", python()),
        );
        write(
            &first,
            "main.py",
            "import os\nprint(hash(os.getcwd()) * hash(__file__))\n",
        );
        compile(&first, "path.c", C, &[]);
        let script = write(&first, "script.sh", "#!/bin/sh\necho \"$0 $PWD\"\n");
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        checkouts
    }

    fn first(&self) -> PathBuf {
        self.root.path().join("short")
    }

    fn tmp(&self) -> PathBuf {
        self.root.path().join("tmp")
    }

    /// A copy of the first.
    fn second(&self) -> PathBuf {
        let second = self
            .root
            .path()
            .join("a-folder-whose-name-is-longer-by-far");
        let copied = Command::new("cp")
            .arg("-a")
            .args([self.first(), second.clone()])
            .status();
        assert!(copied.unwrap().success());
        second
    }

    /// Our binary in a checkout, by way of `through` if that is any program.
    fn run(&self, through: &[&str], checkout: &Path, arguments: &[&str]) -> Output {
        let binary = env!("CARGO_BIN_EXE_counterfoil");
        let words = [through, &[binary], arguments].concat();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(checkout)
            .env("TMPDIR", self.tmp())
            .env("PYTHONPATH", checkout.join("sub"))
            .env("COUNTERFOIL_CACHE_DIR", "")
            .stdin(Stdio::null());
        output(&mut command)
    }

    /// Recorded in one and checked in the other.
    #[track_caller]
    fn agree(&self, through: &[&str]) {
        let recorded = self.run(through, &self.first(), &["record"]);
        assert!(recorded.status.success(), "{}", said(&recorded));
        let checked = self.run(through, &self.second(), &["check"]);
        let said = said(&checked);
        assert!(said.contains("4 workloads: 4 identical"), "{said}");
        assert!(!said.contains("not pinned"), "{said}");
    }
}

fn a_baseline_holds_in_a_checkout_elsewhere() {
    Checkouts::new().agree(&[]);
}

/// As whoever runs the tests, if that is not root.
fn a_baseline_of_another_user_holds_in_a_checkout_elsewhere() {
    let checkouts = Checkouts::new();
    if !nix::unistd::geteuid().is_root() {
        return checkouts.agree(&[]);
    }
    let root = checkouts.root.path();
    let given = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(root)
        .status();
    assert!(given.unwrap().success());
    // Users may not see the folder that our binary is in.
    let binary = write(root, "counterfoil", "");
    fs::copy(env!("CARGO_BIN_EXE_counterfoil"), &binary).unwrap();
    let nobody = "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\"";
    let script = format!("shift; {nobody} \"$@\"");
    checkouts.agree(&["sh", "-c", &script, binary.to_str().unwrap()]);
}

fn reports_name_the_checkout_and_programs_the_fixed_path() {
    let checkouts = Checkouts::new();
    let first = checkouts.first();
    let recorded = checkouts.run(&[], &first, &["record"]);
    assert!(recorded.status.success(), "{}", said(&recorded));
    let snapshot = fs::read_to_string(first.join("baselines/sh/stdout")).unwrap();
    assert_eq!(snapshot, "/srv/project/script.sh /srv/project/sub\n");
    let baseline = fs::read_to_string(first.join("baselines/c.json")).unwrap();
    let baseline: Value = serde_json::from_str(&baseline).unwrap();
    let case = &baseline["cases"]["c"];
    let subject = &case["fingerprint"]["subject"];
    assert!(subject["path.bin"].is_string(), "{subject}");
    let functions = &case["functions"]["listed"]["path.bin"];
    assert!(functions["main"].is_u64(), "{functions}");
    let explained = checkouts.run(&[], &first, &["explain", "c", "--json"]);
    assert!(
        !stdout(&explained).contains("/srv/project"),
        "{}",
        stdout(&explained)
    );
    let plain = checkouts.run(&[], &first, &["count", "--", "pwd"]);
    assert_eq!(stdout(&plain).trim(), first.to_str().unwrap());
}

fn a_refusal_is_named_and_the_folder_is_the_real_one() {
    let checkouts = Checkouts::new();
    let script = "echo 0 > /proc/sys/user/max_mnt_namespaces; exec \"$0\" \"$@\"";
    let through = ["unshare", "--user", "--map-root-user", "sh", "-c", script];
    let first = checkouts.first();
    let recorded = checkouts.run(&through, &first, &["record", "sh"]);
    let said = said(&recorded);
    assert!(recorded.status.success(), "{said}");
    for part in [
        "not pinned: project folder: the kernel refuses to show it at /srv/project",
        "user.max_mnt_namespaces",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let snapshot = fs::read_to_string(first.join("baselines/sh/stdout")).unwrap();
    assert!(snapshot.starts_with(first.to_str().unwrap()), "{snapshot}");
}

fn a_way_out_of_the_project_leaves_it_where_it_is() {
    let checkouts = Checkouts::new();
    let first = checkouts.first();
    write(checkouts.root.path(), "outside", "outside\n");
    let lines = "[[workload]]\nname = \"w\"\ncommand = [\"cat\", \"../outside\"]\nsnapshot = { stdout = true }\n";
    let asked = "[[workload]]\nname = \"asked\"\nfolder = \"host\"\ncommand = [\"pwd\"]\nsnapshot = { stdout = true }\n";
    write(&first, "counterfoil.toml", &format!("{lines}{asked}"));
    let recorded = checkouts.run(&[], &first, &["record"]);
    let said = said(&recorded);
    assert!(recorded.status.success(), "{said}");
    let notes = said.matches("not pinned: project folder: ").count();
    let named = said.contains("not pinned: project folder: `../outside` leads out of it");
    assert!(named && notes == 1, "{said}");
    let snapshot = |name: &str| fs::read_to_string(first.join("baselines").join(name)).unwrap();
    assert_eq!(snapshot("w/stdout"), "outside\n");
    assert_eq!(snapshot("asked/stdout").trim(), first.to_str().unwrap());
}

fn a_service_sees_the_project_where_the_workload_does() {
    let checkouts = Checkouts::new();
    let first = checkouts.first();
    let service = "[service.here]\ncommand = [\"sh\", \"-c\", \"pwd > told; ls /proc/self/fd >> told; echo up; exec sleep 100\"]\nready = { line = \"up\" }\n";
    let workload = "[[workload]]\nname = \"w\"\ncommand = [\"head\", \"-1\", \"told\"]\nservices = [\"here\"]\nsnapshot = { stdout = true }\n";
    write(&first, "counterfoil.toml", &format!("{service}{workload}"));
    let recorded = checkouts.run(&[], &first, &["record"]);
    assert!(recorded.status.success(), "{}", said(&recorded));
    let snapshot = fs::read_to_string(first.join("baselines/w/stdout")).unwrap();
    assert_eq!(snapshot, "/srv/project\n");
    // Its /proc is the machine's, where it has itself.
    let told = fs::read_to_string(first.join("told")).unwrap();
    assert!(told.lines().count() > 3, "{told}");
}
