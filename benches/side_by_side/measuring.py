"""Runs one program and measures it; knows the machine, the build and the place to work in.

What is run, in which order and what the figures mean is the business of the callers. This
process stays small on purpose: Linux lets a started program inherit its parent's peak memory
as the least it can report, so whatever holds many names (comparing trees, removing them)
happens in processes of its own.
"""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import threading
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
RESULTS = PROJECT / "benches" / "RESULTS.md"

# What decides the figures: a commit that touches none of these leaves earlier rows valid.
MEASURED_PATHS = ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "repo-core", "repo-cli",
                  "benches/peers", "benches/memory", "benches/side_by_side")

MIB = 1 << 20
GIB = 1 << 30


def say(text):
    """To the person who waits; tables and rows go elsewhere."""
    print(text, file=sys.stderr, flush=True)


def refuse(text):
    """Ends the program because something it needs is not there. Nothing was measured wrongly."""
    say(f"{os.path.basename(sys.argv[0])}: {text}")
    raise SystemExit(2)


# --- one program ----------------------------------------------------------------------


def run(command, env, log, stdin=None, space_guard=None):
    """Runs `command` to its end and returns its figures as a dictionary.

    Wall time by the monotonic clock, from before the start to after the end; processor seconds
    and peak resident memory (KiB) from wait4, so they hold for the program and the children it
    waited for. Output goes to the file `log`: a terminal or a pipe would have a say in the time.
    """
    with open(log, "wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, env=env, stdin=stdin or subprocess.DEVNULL,
                                   stdout=output, stderr=subprocess.STDOUT)
        ended = threading.Event()
        if space_guard:
            threading.Thread(target=_watch, args=(process, ended, space_guard), daemon=True).start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            ended.set()
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "wall_s": round(wall, 4),
        "user_s": round(usage.ru_utime, 3),
        "system_s": round(usage.ru_stime, 3),
        "peak_rss_kib": usage.ru_maxrss,
        "peak_rss_floor_kib": own_peak_kib(),
        "exit": process.returncode,
    }


def _watch(process, ended, guard):
    """Kills the program before it fills the place it writes to; on tmpfs that is the memory."""
    directory, least_bytes = guard
    while not ended.wait(0.25):
        if free_bytes(directory) < least_bytes:
            say(f"killed: less than {least_bytes // MIB} MiB left in {directory}")
            process.kill()
            return


def own_peak_kib():
    """Peak memory of this process: the least that a program started from here can report."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def tail(log, lines=15):
    """The end of a log, for a person who wants to know why a program failed."""
    with open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - 4096))
        return "\n".join("    " + line for line in
                         file.read().decode("utf-8", "replace").splitlines()[-lines:])


# --- the machine and the code ---------------------------------------------------------


def machine():
    """One line that tells machines apart; rows of two machines never meet in one table."""
    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = " ".join(line.split(":", 1)[1].split())
                break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return (f"{model}, {os.cpu_count()} cores, {round(memory / GIB)} GiB, "
            f"{platform.system()} {platform.release()}")


def today():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")


def commit():
    """The newest commit that touched what decides the figures, and whether it was changed since."""
    def git(*arguments):
        done = subprocess.run(("git", "-C", str(PROJECT), *arguments, "--", *MEASURED_PATHS),
                              capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""
    name = git("log", "-1", "--format=%h", "--abbrev=10") or "unknown"
    return name + ("-dirty" if git("status", "--porcelain") else "")


def build():
    """Builds the release binary and returns its path, as cargo names it."""
    say("building icecore (release)")
    command = ("cargo", "build", "--release", "--locked", "--package", "repo-cli",
               "--message-format=json-render-diagnostics")
    binary = None
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as cargo:
        for line in cargo.stdout:
            message = json.loads(line)
            if message.get("executable") and message["target"]["name"] == "icecore":
                binary = message["executable"]
    if cargo.returncode != 0 or binary is None:
        refuse("cargo could not build icecore")
    return binary


def target_directory():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))


def fingerprint(path):
    """Sixteen hex digits of a file's SHA-256: says whether a row is of this very binary."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return digest.hexdigest()[:16]


def first_line(command, env=None):
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    return (done.stdout or done.stderr).strip().split("\n")[0]


# --- places ---------------------------------------------------------------------------


def file_system(path):
    """Type of the file system that holds `path`: tmpfs, ext4, …"""
    path, best = os.path.realpath(path), ("", "unknown")
    with open("/proc/mounts") as mounts:
        for line in mounts:
            _, point, kind = line.split()[:3]
            point = point.encode().decode("unicode_escape")
            if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best[0]):
                best = (point, kind)
    return best[1]


def available_memory():
    with open("/proc/meminfo") as memory:
        for line in memory:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def free_bytes(directory):
    """Bytes that can still be written there; on tmpfs no more than there is memory for."""
    stat = os.statvfs(directory)
    free = stat.f_bavail * stat.f_frsize
    return min(free, available_memory()) if file_system(directory) == "tmpfs" else free


def require_space(directory, bytes_needed, what):
    free = free_bytes(directory)
    if free < bytes_needed:
        refuse(f"{what} needs {bytes_needed / GIB:.1f} GiB in {directory}, and {free / GIB:.1f} GiB "
               "are free" + (" (tmpfs: of memory)" if file_system(directory) == "tmpfs" else ""))


@contextlib.contextmanager
def work_directory(base, name):
    """A directory for one benchmark at a time, empty at the start and gone at the end.

    What a killed run left behind is removed: the lock proves that nobody uses it.
    """
    os.makedirs(base, exist_ok=True)
    path = os.path.join(os.path.realpath(base), name)
    with open(path + ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            refuse(f"another run is using {path}")
        remove(path)
        os.mkdir(path, 0o700)
        try:
            yield path
        finally:
            remove(path)
            os.unlink(lock.name)


def remove(*paths):
    subprocess.run(("rm", "-rf", "--", *paths), check=True)


def tree_size(path):
    """(bytes in files, bytes that a copy on tmpfs takes, files); holes are not counted."""
    total, on_tmpfs, files, waiting = 0, 0, 0, [path]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                on_tmpfs += 1024  # an inode and its name, roughly
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                    continue
                files += 1
                if entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    held = min(stat.st_size, stat.st_blocks * 512)
                    total += stat.st_size
                    on_tmpfs += -(-held // 4096) * 4096
    return total, on_tmpfs, files


def reserve(repository):
    """Bytes that icecore keeps free for the moment when a disk is full: a file that holds nothing, 0 for others."""
    try:
        return os.path.getsize(os.path.join(repository, "tmp", "ballast"))
    except OSError:
        return 0


def compare(left, right, *flags):
    """What differs between two trees, found by a process of its own (see the head of this file)."""
    script = pathlib.Path(__file__).with_name("compare.py")
    done = subprocess.run([sys.executable, str(script), *flags, left, right], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"comparing failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


# --- results --------------------------------------------------------------------------


def write_section(name, text, path=RESULTS):
    """Puts `text` into its own section of the results; other programs' sections stay."""
    opening, closing = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    old = path.read_text() if path.exists() else (
        "# Results\n\nOutput of `benches/peers` and `benches/memory`, not edited by hand; "
        "benches/README.md says what each figure means.\n")
    section = f"{opening}\n{text.strip()}\n{closing}\n"
    if opening in old and closing in old:
        before, rest = old.split(opening, 1)
        after = rest.split(closing, 1)[1].lstrip("\n")
        new = before + section + (("\n" + after) if after else "")
    elif name == "benches/peers" and "<!-- " in old:
        # The side-by-side comes first, whichever program ran first.
        head, rest = old.split("<!-- ", 1)
        new = head + section + "\n<!-- " + rest
    else:
        new = old.rstrip("\n") + "\n\n" + section
    path.write_text(new)
    say(f"written: {path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path}")


def append_row(path, row):
    """One row, at once and durably: an interrupted benchmark loses only the step it was in."""
    with open(path, "a") as file:
        file.write(json.dumps(row, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(path):
    """Rows written so far; a line torn by a crash is left out."""
    rows = []
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                with contextlib.suppress(json.JSONDecodeError):
                    rows.append(json.loads(line))
    return rows
