"""What scripts/engine-programs and scripts/bench-engine share: running with a time limit, tables, inputs. Decides nothing."""

import collections
import glob
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REAL = os.path.join(ROOT, "tests/engine/real")
PROGRAMS = os.path.join(ROOT, "tests/engine/programs")

# `cpu`: seconds of user and system time of the whole tree, as far as it was waited for. `code` is None when time was up.
Finished = collections.namedtuple("Finished", "stdout stderr code cpu")


# Ended by its caller, a script still ends what it started.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def run(argv, folder, limit):
    """Runs to the end, or kills the session it started after `limit` seconds."""
    before = cpu_seconds()
    child = subprocess.Popen(
        argv, cwd=folder, env=environment(), start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    try:
        stdout, stderr = child.communicate(timeout=limit)
        code = child.returncode if child.returncode >= 0 else 128 - child.returncode
    except subprocess.TimeoutExpired:
        stdout, stderr, code = b"", b"", None
        end(child)
    except BaseException:
        end(child)
        raise
    return Finished(stdout, stderr, code, cpu_seconds() - before)


def end(child):
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment():
    """What a pinned run gets as well."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "TZ": "UTC"}


def counted(binary, backend, argv, limit):
    """The command that counts another; counterfoil itself ends what takes too long."""
    return [binary, "count", "--backend", backend, "--quiet", "--timeout", f"{limit}s", "--", *argv]


def instructions(finished):
    """The count in a report on standard error, where the program's own messages stand before it."""
    found = re.findall(rb"^([\d,]+) instructions: ", finished.stderr, re.MULTILINE)
    return int(found[-1].replace(b",", b"")) if found else None


def last_error(finished):
    lines = [line for line in finished.stderr.decode(errors="replace").splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith(("counterfoil:", "error:"))]
    return (ours or lines or ["no message"])[-1].strip()


def binary(path):
    """counterfoil at `path`, or built here."""
    if path is None:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
        path = os.path.join(ROOT, "target/release/counterfoil")
    return os.path.abspath(path)


def machine():
    cpuinfo = open("/proc/cpuinfo").read()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    cpu = model[1] if model else platform.machine()
    return f"{cpu}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def version(argv):
    """The first thing that looks like a version in what a command says."""
    if not shutil.which(argv[0]):
        return ""
    said = run(argv, "/", 30)
    found = re.search(rb"\d+\.\d[\w.+-]*", said.stdout + said.stderr)
    return found[0].decode() if found else ""


def table(head, rows, markdown):
    """Text; columns whose head ends in a colon are right-aligned."""
    right = [name.endswith(":") for name in head]
    rows = [[name.rstrip(":") for name in head]] + [[str(cell) for cell in row] for row in rows]
    if markdown:
        rows.insert(1, ["---:" if is_right else "---" for is_right in right])
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    widths = [max(map(len, column)) for column in zip(*rows)]
    cells = lambda row: (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right))
    return "\n".join("  ".join(cells(row)).rstrip() for row in rows)


def text_file(path, size):
    """Words, the same ones every time."""
    chance = random.Random(1)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(1, 9))) for _ in range(3000)]
    written = 0
    with open(path, "w") as file:
        while written < size:
            written += file.write(" ".join(chance.choices(words, k=10)) + "\n")


def repository(path, commits):
    """A git repository of so many commits, the same one every time."""
    subprocess.run(["git", "init", "-q", "-b", "main", path], check=True)
    stream = subprocess.run(
        ["python3", os.path.join(REAL, "repository.py"), str(commits)], check=True, stdout=subprocess.PIPE
    ).stdout
    subprocess.run(["git", "-C", path, "fast-import", "--quiet"], input=stream, check=True)
    subprocess.run(["git", "-C", path, "checkout", "-q", "main"], check=True)


def c_source():
    """Arguments for gcc: a C file of the capstone crate, a real one that takes about a second. None when cargo has not fetched it."""
    home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
    found = sorted(glob.glob(home + "/registry/src/*/capstone-sys-*/capstone/arch/AArch64/AArch64InstPrinter.c"))
    if not found:
        return None
    top = found[-1].split("/arch/")[0]
    return ["-I", top + "/include", "-I", top, "-DCAPSTONE_HAS_ARM64", "-w", found[-1]]
