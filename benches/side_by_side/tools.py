"""The tools that are compared: how each is called for each step, and what it needs around it.

Every tool works as its own documentation says a user would call it: default settings, a
password, its cache switched on. The one setting that is varied is the extra verification.
"""

import dataclasses
import os
import shutil
import typing

from . import measuring

PASSWORD = "the same password for every tool"

STEPS = ("init", "first", "again", "next", "restore", "check", "check-read-data", "forget-prune", "fresh")

# Which steps must have run in the same repository before a step means what it says.
NEEDS = {
    "init": (),
    "first": ("init",),
    "again": ("init", "first"),
    "next": ("init", "first"),
    "restore": ("init", "first", "next"),
    "check": ("init", "first", "next"),
    "check-read-data": ("init", "first", "next"),
    "forget-prune": ("init", "first", "next"),
    "fresh": ("init", "first", "next", "forget-prune"),
}

# Of our own repository alone: what it would be if the next version were all it ever held.
OWN_STEPS = ("fresh",)


@dataclasses.dataclass(frozen=True)
class Tool:
    """One row of the tables: a program, and whether its extra verification is off."""
    slug: str
    program: str
    label: str
    verifies: bool
    by_default: bool = True
    arguments: typing.Callable | None = None

    def command(self, binary, step, places):
        return [binary, *self.arguments(step, places, self.verifies)]


def _as_icecore(step, places, verifies):
    """icecore takes restic's own command line. The peers keep no parity, and size is compared without it."""
    more = {"init": ("--parity", "0"), "forget-prune": ("--undelete-within", "0")}
    return [*_as_restic(step, places, verifies), *more.get(step, ())]


def _as_restic(step, places, verifies):
    verb = {
        "init": ("init",),
        "first": ("backup", places.source),
        "again": ("backup", places.source),
        "next": ("backup", places.source),
        "restore": ("restore", "latest", "-t", places.target),
        "check": ("check",),
        "check-read-data": ("check", "--read-data"),
        "forget-prune": ("forget", "--keep-last", "1", "--prune"),
        "fresh": ("backup", places.source),
    }[step]
    return ["-r", places.repository, *(() if verifies else ("--no-extra-verify",)), *verb]


def _as_rustic(step, places, verifies):
    """rustic keeps the extra verification as a property of the repository, set at init."""
    verb = {
        "init": ("init", *(() if verifies else ("--set-extra-verify", "false"))),
        "first": ("backup", places.source),
        "again": ("backup", places.source),
        "next": ("backup", places.source),
        "restore": ("restore", "latest", places.target),
        "check": ("check",),
        "check-read-data": ("check", "--read-data"),
        # Without it what is unused goes in a second prune, a day later.
        "forget-prune": ("forget", "--keep-last", "1", "--prune", "--instant-delete"),
    }[step]
    return ["-r", places.repository, "--no-progress", *verb]


TOOLS = (
    Tool("icecore", "icecore", "icecore", True, arguments=_as_icecore),
    Tool("icecore-unverified", "icecore", "icecore `--no-extra-verify`", False, arguments=_as_icecore),
    Tool("restic", "restic", "restic", True, arguments=_as_restic),
    Tool("restic-unverified", "restic", "restic `--no-extra-verify`", False, arguments=_as_restic),
    Tool("rustic", "rustic", "rustic", True, arguments=_as_rustic),
    Tool("rustic-unverified", "rustic", "rustic `set-extra-verify=false`", False, by_default=False,
         arguments=_as_rustic),
)

VERSION_ARGUMENTS = {"icecore": ("version",), "restic": ("version",), "rustic": ("--version",)}


def find(program, peers_directory):
    """The peer's binary, or None: the peers' own directory first, then PATH."""
    own = os.path.join(peers_directory, program)
    return own if os.access(own, os.X_OK) else shutil.which(program)


def version(program, binary):
    return measuring.first_line([binary, *VERSION_ARGUMENTS[program]])


@dataclasses.dataclass(frozen=True)
class Places:
    """Where one (tool, run) works. `state` holds all but the source and is fresh each time."""
    source: str
    state: str

    @property
    def repository(self):
        return os.path.join(self.state, "repository")

    @property
    def target(self):
        return os.path.join(self.state, "target")

    @property
    def log(self):
        return os.path.join(self.state, "log")

    def make(self):
        measuring.remove(self.state)
        for name in ("home", "tmp", "cache", "target"):
            os.makedirs(os.path.join(self.state, name))

    def environment(self):
        """Nothing from outside has a say: no configuration, cache or variable of the user."""
        env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": os.path.join(self.state, "home"),
            "TMPDIR": os.path.join(self.state, "tmp"),
            "XDG_CACHE_HOME": os.path.join(self.state, "cache"),
            "XDG_CONFIG_HOME": os.path.join(self.state, "home"),
        }
        env.update({f"{program.upper()}_PASSWORD": PASSWORD for program in VERSION_ARGUMENTS})
        return env

    def restored(self):
        """Where the source's tree is inside the target, and how to compare it: most tools keep
        its whole path, rustic puts its entries straight into the target."""
        whole = self.target + self.source
        return (whole, ()) if os.path.isdir(whole) else (self.target, ("--contents",))


# --- dd and cp -a: what the disk itself takes for the same bytes and files ---------------

REFERENCE = Tool("reference", "reference", "`dd` / `cp -a`", True, by_default=False)
REFERENCE_STEPS = ("first", "again", "next", "restore", "restore-synced", "check-read-data")


def reference_command(step, places, noise, length):
    """A backup writes its bytes and syncs them: dd. A restore writes files: cp -a, which is
    measured with and without a sync at its end, since tools differ in that. A check reads."""
    if step == "restore":
        return ["cp", "-a", places.source, places.target]
    if step == "restore-synced":
        return ["sh", "-c", 'cp -a "$1" "$2" && sync -f "$2"', "sh", places.source, places.target]
    if step == "check-read-data":
        return ["sh", "-c", 'for f in "$1"/*; do dd if="$f" of=/dev/null bs=1M status=none; done', "sh",
                places.repository]
    return ["dd", f"if={noise}", f"of={os.path.join(places.repository, step)}", "bs=1M", f"count={length}", "iflag=count_bytes,fullblock",
            "conv=fsync", "status=none"]
