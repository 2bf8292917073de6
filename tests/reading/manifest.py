"""Trees as lines of text, one an entry; tests/fixture/README.md says what is in them. Read, made and compared here."""

import collections
import os
import stat
import tempfile

from blake3 import blake3

from .structures import H, need


# The inode flags that say something about the entry itself, and not about how the file system keeps it.
FLAGS = 0x8300f8


def shown(data):
    """Bytes as ASCII; long ones by their hash."""
    escaped = "".join(chr(byte) if chr(byte) in SAFE else f"%{byte:02X}" for byte in data)
    return escaped if len(escaped) <= 100 else "blake3:" + H(data).hex()


SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/"


def shown_path(path):
    return "/".join("".join(chr(byte) if chr(byte) in SAFE else f"%{byte:02X}" for byte in name) for name in path)


def shown_runs(runs):
    """start-end of each run of data, those that touch taken together."""
    merged = []
    for start, end in runs:
        if merged and merged[-1][1] == start:
            merged[-1][1] = end
        elif start < end:
            merged.append([start, end])
    return shown(".".join(f"{start}-{end}" for start, end in merged).encode())


class Content:
    """Hashes a file: for each block of 4096 that is not all zero, u64 offset and its bytes. Holes take no time."""

    def __init__(self):
        self.hasher, self.begin, self.block = blake3(), 0, bytearray()

    def update(self, offset, data):
        """The bytes at offset, which never goes back; what was left out is zeros."""
        gap = offset - self.begin - len(self.block)
        if gap and self.block:
            fill = min(gap, 4096 - len(self.block))
            self.feed(bytes(fill))
            gap -= fill
        if gap:
            self.begin += gap // 4096 * 4096
            self.feed(bytes(gap % 4096))
        self.feed(data)

    def feed(self, data):
        view = memoryview(data)
        while len(view):
            taken = view[:4096 - len(self.block)]
            self.block += taken
            view = view[len(taken):]
            if len(self.block) == 4096:
                self.flush()

    def flush(self):
        if any(self.block):
            self.hasher.update(self.begin.to_bytes(8, "little") + self.block)
        self.begin += len(self.block)
        self.block = bytearray()

    def finish(self, size):
        if self.block:
            self.block += bytes(min(4096, size - self.begin) - len(self.block))
            self.flush()
        return self.hasher.hexdigest()


def line(kind, mode, owner, modified, **more):
    """The fields of an entry, by name."""
    fields = {"kind": kind, "mode": f"{mode:04o}", "owner": "%d:%d" % owner, "modified": "%d.%09d" % modified}
    return fields | {name: str(value) for name, value in more.items()}


def read_manifest(path):
    entries = {}
    with open(path, encoding="ascii") as file:
        for text in file:
            if not text.startswith("#"):
                name, *fields = text.rstrip("\n").split(" ")
                entries[name] = dict(field.split("=", 1) for field in fields)
    return entries


def link_groups(entries, groups):
    """Names all names of one thing by the first of them."""
    for group in groups.values():
        if len(group) > 1:
            for name in group:
                entries[name]["links"] = min(group)


def compare(what, expected, found, but=()):
    """Prints what differs, and says how much that is."""
    problems = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in expected or name not in found:
            problems.append(f"{name}: {'missing' if name in expected else 'extra'}")
            continue
        left, right = expected[name], found[name]
        for field in sorted(left.keys() | right.keys()):
            if left.get(field) != right.get(field) and not field.startswith(tuple(but) or ("\0",)):
                problems.append(f"{name}: {field}: {left.get(field)} became {right.get(field)}")
    for problem in problems:
        print(f"  {what}: {problem}")
    need(not problems, f"{what}: {len(problems)} differences")
    print(f"  {what}: {len(found)} entries as in the manifest" + (f", but for {', '.join(but)}" if but else ""))


def portrait(target):
    """What lies in a directory, as a manifest says it; and whether its file system tells of holes."""
    entries, groups = {}, collections.defaultdict(list)

    def look(parent, path):
        for name in sorted(os.listdir(parent)):
            name = os.fsencode(name)
            seen, below = os.stat(name, dir_fd=parent, follow_symlinks=False), path + (name,)
            kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
                     stat.S_IFSOCK: "socket", stat.S_IFBLK: "block", stat.S_IFCHR: "char"}
            kind = kinds[stat.S_IFMT(seen.st_mode)]
            modified = divmod(seen.st_mtime_ns, 10**9)
            fields = line(kind, stat.S_IMODE(seen.st_mode), (seen.st_uid, seen.st_gid), modified)
            through = b"/proc/self/fd/%d/%s" % (parent, name)
            for attribute in os.listxattr(through, follow_symlinks=False):
                value = os.getxattr(through, attribute, follow_symlinks=False)
                fields["xattr:" + shown(os.fsencode(attribute))] = shown(value)
            if kind == "file":
                fields |= look_into(name, parent, seen.st_size)
            elif kind == "symlink":
                fields["target"] = shown(os.readlink(name, dir_fd=parent))
            elif kind in ("block", "char"):
                fields["special"] = f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}"
            entries[shown_path(below)] = fields
            if kind == "directory":
                inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
                look(inside, below)
                os.close(inside)
            elif seen.st_nlink > 1:
                groups[seen.st_dev, seen.st_ino].append(shown_path(below))

    def look_into(name, parent, size):
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent)
        content, runs, offset = Content(), [], 0
        while offset < size:
            try:
                start = os.lseek(file, offset, os.SEEK_DATA)
            except OSError:
                break
            offset = os.lseek(file, start, os.SEEK_HOLE)
            runs.append((start, offset))
            for at in range(start, offset, 1 << 20):
                content.update(at, os.pread(file, min(1 << 20, offset - at), at))
        os.close(file)
        return {"size": str(size), "content": content.finish(size), "data": shown_runs(runs)}

    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    look(root, ())
    os.close(root)
    link_groups(entries, groups)
    return entries


def keeps_holes(place):
    with tempfile.TemporaryFile(dir=place) as file:
        file.truncate(1 << 20)
        return os.lseek(file.fileno(), 0, os.SEEK_HOLE) == 0
