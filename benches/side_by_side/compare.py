"""Compares two trees and says what differs: the judge of every restore.

Names, kinds, modes, owners, modification times to the nanosecond, sizes, link targets, device
numbers, extended attributes, link counts, and every byte of every file. Not compared: access
and change times, inode numbers, and (unless asked) where a file has holes.

    python3 compare.py [--holes] [--contents] LEFT RIGHT    exit code 0: nothing differs, 1: something does

--holes     holes must be where they were
--contents  the metadata of the two directories themselves does not count: a tool that puts a
            tree's entries straight into the target never had that directory to restore
"""

import argparse
import collections
import json
import os
import stat

PIECE = 1 << 20
EXAMPLES_MAX = 10


class Differences:
    """Counts what differs by its kind, and keeps the first few as examples."""

    def __init__(self):
        self.counts = collections.Counter()
        self.examples = []

    def add(self, kind, path, left="", right=""):
        self.counts[kind] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{kind}: {path or '.'!r} {left} {right}".rstrip())


def compare(left, right, same_holes=False, contents=False):
    """Walks both trees together. Memory grows with the largest directory, not with the tree."""
    found, entries, content_bytes, waiting = Differences(), 0, 0, [""]
    while waiting:
        relative = waiting.pop()
        a, b = os.path.join(left, relative), os.path.join(right, relative)
        a_stat = os.lstat(a)
        entries += 1
        try:
            b_stat = os.lstat(b)
        except FileNotFoundError:
            found.add("missing", relative)
            continue
        if stat.S_IFMT(a_stat.st_mode) != stat.S_IFMT(b_stat.st_mode):
            found.add("kind", relative, stat.filemode(a_stat.st_mode), stat.filemode(b_stat.st_mode))
            continue
        if relative or not contents:
            compare_metadata(found, relative, a, b, a_stat, b_stat)
        if stat.S_ISDIR(a_stat.st_mode):
            names, others = set(os.listdir(a)), set(os.listdir(b))
            for name in others - names:
                found.add("additional", os.path.join(relative, name))
            waiting.extend(os.path.join(relative, name) for name in names)
        elif stat.S_ISLNK(a_stat.st_mode):
            if os.readlink(a) != os.readlink(b):
                found.add("link target", relative, os.readlink(a), os.readlink(b))
        elif stat.S_ISREG(a_stat.st_mode):
            content_bytes += a_stat.st_size
            if a_stat.st_size != b_stat.st_size:
                found.add("size", relative, a_stat.st_size, b_stat.st_size)
            else:
                compare_content(found, relative, a, b, a_stat, b_stat, same_holes)
    return found, entries, content_bytes


def compare_metadata(found, relative, a, b, a_stat, b_stat):
    for kind, x, y in (
        ("mode", stat.S_IMODE(a_stat.st_mode), stat.S_IMODE(b_stat.st_mode)),
        ("owner", (a_stat.st_uid, a_stat.st_gid), (b_stat.st_uid, b_stat.st_gid)),
        ("modification time", a_stat.st_mtime_ns, b_stat.st_mtime_ns),
    ):
        if x != y:
            found.add(kind, relative, oct(x) if kind == "mode" else x, oct(y) if kind == "mode" else y)
    if not stat.S_ISDIR(a_stat.st_mode) and a_stat.st_nlink != b_stat.st_nlink:
        found.add("link count", relative, a_stat.st_nlink, b_stat.st_nlink)
    if (stat.S_ISCHR(a_stat.st_mode) or stat.S_ISBLK(a_stat.st_mode)) and a_stat.st_rdev != b_stat.st_rdev:
        found.add("device", relative, a_stat.st_rdev, b_stat.st_rdev)
    if attributes(a) != attributes(b):
        found.add("extended attributes", relative)


def attributes(path):
    return {name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)}


def compare_content(found, relative, a, b, a_stat, b_stat, same_holes):
    with open(a, "rb", buffering=0) as x, open(b, "rb", buffering=0) as y:
        length = a_stat.st_size
        if all(s.st_blocks * 512 >= length for s in (a_stat, b_stat)):
            ranges = [(0, length)]
        else:
            here, there = data_ranges(x, length), data_ranges(y, length)
            if same_holes and here != there:
                found.add("holes", relative, f"{len(here)} ranges", f"{len(there)} ranges")
            # What is a hole in both is zero in both; everything else is read.
            ranges = here if here == there else here + there
        if not all(equal(x, y, start, end) for start, end in ranges):
            found.add("content", relative)


def data_ranges(file, length):
    """Where the file is not a hole, as [(start, end)]."""
    ranges, offset = [], 0
    while offset < length:
        try:
            start = os.lseek(file.fileno(), offset, os.SEEK_DATA)
        except OSError:  # ENXIO: no more data
            break
        offset = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        ranges.append((start, min(offset, length)))
    return ranges


def equal(x, y, start, end):
    while start < end:
        count = min(PIECE, end - start)
        here, there = os.pread(x.fileno(), count, start), os.pread(y.fileno(), count, start)
        if here != there or not here:
            return False
        start += len(here)
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--holes", action="store_true")
    parser.add_argument("--contents", action="store_true")
    parser.add_argument("left")
    parser.add_argument("right")
    options = parser.parse_args()
    found, entries, content_bytes = compare(options.left, options.right, options.holes, options.contents)
    print(json.dumps({"entries": entries, "content_bytes": content_bytes,
                      "differences": found.counts.total(), "kinds": found.counts,
                      "examples": found.examples}))
    raise SystemExit(1 if found.counts else 0)


if __name__ == "__main__":
    main()
