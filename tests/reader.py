#!/usr/bin/env python3
"""An independent reader of icecore repositories, written from docs/format.md alone.

It shares no code with the library: BLAKE3, AES-256-GCM, Argon2id and zstd come from PyPI (`pip install blake3
cryptography zstandard argon2-cffi`). So it shows that the document is complete, and that what is stored can be had back
without us. It is stricter than a reader must be: it also proves what the document says of writers (nonces, padding,
where files, trees and lists are cut). Any difference ends it with exit code 1. What is stored is decoded in reading/;
here are opening, checking, restoring and comparing.

    reader.py                                              the vectors and the fixture of this project
    reader.py --vectors DIR                                golden vectors
    reader.py --repository DIR --key-file F                every object, chunk and snapshot
              --password-file F | --recovery-kit F         ...opened otherwise
              [--snapshot ID] --restore OUT                and the newest, or this, into a new directory
              [--manifest M]                               and compared: what is recorded, and what was restored
"""

import argparse
import collections
import os
import stat
import sys
import tempfile

from reading import vectors
from reading.manifest import (FLAGS, Content, compare, keeps_holes, line, link_groups, portrait, read_manifest, shown,
                              shown_path, shown_runs)
from reading.parity import parity
from reading.structures import (DATA, DK, DOUBLED, H, KH, LIST, NAMES, TREE, TYPES, XATTR, Chunk, Damage, Keys, damaged,
                                ObjectKeys, Pack, config, forgotten, index_block, key_file, key_slot, keyring,
                                marker, need, open_box, open_frame, open_slot, recovery_kit, session, snapshot, step,
                                tombstone)
from reading.trees import (EXTENTS, HOLE, INLINE, LISTED, NONE, SUBTREE, cut, gear_table, grow_list, grow_tree,
                           list_node, tree_node, xattrs)


# Opening

class Repository:
    """A directory with one file an object, opened with (derivation, secret); a recovery kit is ("kit", root key)."""

    def __init__(self, path, how, secret):
        self.path = path
        self.names = self.listed()
        marked, self.marker = self.get("format", marker)
        root_key, slot = (secret, None) if how == "kit" else self.unlocked(how, secret, marked["repository"])
        newest = self.newest("keyring")
        ring = self.get(newest, lambda data: keyring(open_box(newest, data, DK("keyring", root_key), 11)))[0]
        need(ring["generation"] == int(newest[-16:], 16), "a keyring of another name")
        need(ring["marker_digest"] == H(self.marker), "another marker")
        need(ring["repository"] == marked["repository"], "another repository")
        need(slot is None or slot in [entry["slot"] for entry in ring["slots"]], "the key slot was removed")
        self.keys, self.keyring_generation = Keys(ring), ring["generation"]
        newest = self.newest("config")
        self.config = self.get(newest, lambda data: config(self.keys.box(newest, data)))[0]
        need(self.config["generation"] == int(newest[-16:], 16), "a config of another name")
        self.gear = gear_table(self.keys.secret)
        self.frames = collections.OrderedDict()

    def listed(self):
        """All objects by name. Other names are no part of the repository; here there should be none."""
        names = set()
        for directory, below, files in os.walk(self.path):
            if directory == self.path and "tmp" in below:
                below.remove("tmp")
            names |= {os.path.relpath(os.path.join(directory, name), self.path) for name in files}
        for name in names:
            first = name.removeprefix("r/")
            need(NAMES.fullmatch(first) and (name == first or DOUBLED.match(first)), f"{name}: no object has this name")
        return sorted(names)

    def raw(self, name, offset=0, length=None):
        with open(os.path.join(self.path, name), "rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def get(self, name, decode):
        """What was decoded, and its bytes: of the object, or of its second copy if that fails."""
        for copy in (name, "r/" + name):
            try:
                data = self.raw(copy)
                return decode(data), data
            except (Damage, OSError) as problem:
                if copy.startswith("r/"):
                    raise Damage(f"{name}: {problem}") from None

    def below(self, prefix):
        first = {name.removeprefix("r/") for name in self.names if name.removeprefix("r/").startswith(prefix + "/")}
        return sorted(first)

    def newest(self, prefix):
        names = self.below(prefix)
        need(names, f"no object of {prefix}/")
        return names[-1]

    def unlocked(self, how, secret, repository):
        """The root key, and the slot that held it."""
        for name in self.below("keys"):
            slot, data = self.get(name, key_slot)
            need(slot["slot"].hex() == name[-32:] and slot["repository"] == repository, f"{name}: another slot's name")
            if slot["derivation"] == how and (body := open_slot(data, secret)):
                return body["root_key"], slot["slot"]
        raise Damage("the secret opens no key slot")

    # Chunks

    def load_index(self):
        """Where chunks lie, from the index: id → {(pack, ordinal, frame, chunk)}, and the rows of packs."""
        places, rows = collections.defaultdict(set), {}
        for name in self.below("index"):
            index = self.pack(name)
            for number, block in enumerate(index.frames):
                data = index.frame(number)
                packs, frames, chunks = index_block(data)
                record = [chunk for chunk in index.chunks if chunk.frame == number]
                first = chunks[0].id if chunks else bytes(32)
                need(record == [Chunk(number, first, 0, len(data), DATA)], f"{name}: the record of a block")
                for row in packs:
                    need(rows.setdefault(row[0], row) == row, f"{name}: two rows of one pack")
                for chunk in chunks:
                    row, ordinal, frame = frames[chunk.frame]
                    places[chunk.id].add((self.pack_name(packs[row]), ordinal, frame, chunk._replace(frame=None)))
        return places, rows

    def load_footers(self):
        """The same without any index: all that it says stands in the packs."""
        places, rows = collections.defaultdict(set), {}
        for name in self.below("packs"):
            pack = self.pack(name)
            kind = {"d": 1, "m": 2}[name[6]]
            row = (bytes.fromhex(name[-64:]), pack.length, len(pack.chunks), pack.writer, kind)
            rows[row[0]] = row
            for chunk in pack.chunks:
                frame = pack.frames[chunk.frame]._replace(first=None)
                places[chunk.id].add((name, chunk.frame, frame, chunk._replace(frame=None)))
        return places, rows

    @staticmethod
    def pack_name(row):
        return f"packs/{'dm'[row[4] - 1]}/{row[0].hex()[:2]}/{row[0].hex()}"

    def pack(self, name):
        length = os.path.getsize(os.path.join(self.path, name))
        return Pack(name, length, lambda offset, length: self.raw(name, offset, length), self.keys)

    def chunk(self, name, kind):
        """A chunk, with its id proved; one frame is opened for all its chunks."""
        problems = ["no place is known"]
        for pack, ordinal, frame, place in self.places.get(name, ()):
            try:
                need(place.kind == kind, "of another kind")
                if (pack, ordinal) not in self.frames:
                    head = self.raw(pack, 0, 80)
                    purpose_key = self.keys.purpose_key(head, TYPES[pack[:7]])
                    stored = self.raw(pack, frame.offset, frame.stored)
                    self.frames[pack, ordinal] = open_frame(ObjectKeys(purpose_key, head), ordinal, frame, stored)
                    if len(self.frames) > 32:
                        self.frames.popitem(last=False)
                self.frames.move_to_end((pack, ordinal))
                data = self.frames[pack, ordinal][place.offset:place.offset + place.length]
                need(KH(self.keys.of_ids[kind], data) == name, "of another id")
                return data
            except (Damage, OSError) as problem:
                problems.append(f"{pack}: {problem}")
        raise Damage(f"chunk {name.hex()} is lost: {problems[-1]}")

    # Trees and lists

    def entries(self, root, entries, size):
        """The records of a directory, with all that only the whole shows proved: levels, names, sums, cuts."""
        found, sums, nodes = [], [0, 0], 0

        def descend(name, level, first, bound):
            nonlocal nodes
            nodes += 1
            found_level, items = tree_node(self.chunk(name, TREE))
            need(level is None or found_level == level, "a child of another level")
            need(first is None or items[0]["name"] == first, "a child that begins with another name")
            need(bound is None or items[-1]["name"] < bound, "a child beyond its names")
            if found_level == 0:
                found.extend(items)
                below = [(1 + item.get("entries", 0), item.get("bytes", item["size"])) for item in items]
            else:
                bounds = [item["name"] for item in items[1:]] + [bound]
                for item, bound in zip(items, bounds):
                    begin = list(sums)
                    descend(item["id"], found_level - 1, item["name"], bound)
                    below = [sums[0] - begin[0], sums[1] - begin[1]]
                    need(below == [item["entries"], item["bytes"]], "sums of a child")
                return
            for count, length in below:
                sums[0], sums[1] = sums[0] + count, sums[1] + length
            need(sums[0] <= entries, "more entries than there should be")

        descend(root, None, None, None)
        need(sums == [entries, size], f"a directory has {sums}, not {[entries, size]}")
        items = [(item["name"], 1 + item.get("entries", 0), item.get("bytes", item["size"]), item["stored"])
                 for item in found]
        need(grow_tree(items, self.keys) == (root, nodes), "a tree that is cut otherwise")
        self.counted["nodes of trees"] += nodes
        return found

    def extents(self, node):
        """(kind, length, id) of a file's pieces, in order; a list is proved as a tree is."""
        if node["content"] in (NONE, EXTENTS):
            return node.get("extents", [])
        found = []

        def descend(name, level, length, chunks):
            begin = len(found)
            self.counted["nodes of lists"] += 1
            found_level, items = list_node(self.chunk(name, LIST))
            need(found_level == level, "a list node of another level")
            if level == 0:
                found.extend(items)
            for child in items if level else ():
                descend(child[0], level - 1, *child[1:])
            below = found[begin:]
            need(sum(extent[1] for extent in below) == length, "the length of a list")
            need(sum(extent[0] == DATA for extent in below) == chunks, "the chunks of a list")

        descend(node["root"], node["level"], node["size"], node["chunks"])
        need(grow_list(found, self.keys) == (node["root"], node["level"]), "a list that is cut otherwise")
        return found

    def runs(self, node):
        """(offset, bytes) of all data of a file, chunk by chunk. Zeros are None: (offset, None, length)."""
        if node["content"] == INLINE:
            yield 0, node["inline"], len(node["inline"])
            return
        extents, offset = self.extents(node), 0
        need(len(extents) <= 64 or node["content"] == LISTED, "many extents in a record")
        run = []
        for kind, length, name in extents + [(HOLE, 0, None)]:
            data = self.chunk(name, DATA) if kind == DATA else None
            need(data is None or len(data) == length, "a chunk of another length")
            if kind == HOLE:
                self.prove_cuts(run)
                run = []
            else:
                run.append((data, length))
                yield offset, data, length
            offset += length

    def prove_cuts(self, run):
        """A writer would cut this run of data so. In Python that takes time: long runs are believed."""
        if sum(length for _, length in run) > 4 << 20:
            return
        c = self.config
        data = b"".join(bytes(length) if data is None else data for data, length in run)
        lengths = cut(data, self.gear, c["min_bytes"], c["average_bytes"], c["max_bytes"], c["normalization"])
        expected, at = [], 0
        for length in lengths:
            zero = not any(data[at:at + length])
            if zero and expected and expected[-1][0]:
                expected[-1] = (True, expected[-1][1] + length)
            else:
                expected.append((zero, length))
            at += length
        need(expected == [(data is None, length) for data, length in run], "a file that is cut otherwise")
        self.counted["runs of data cut again"] += 1

    # Checking

    def check(self):
        """Every object and every chunk, with and without the index."""
        self.counted = collections.Counter(objects=len(self.names))
        for name in self.names:
            first = name.removeprefix("r/")
            need(name == first or self.raw(first) == self.raw(name), f"{name}: not the same as its first copy")
            if DOUBLED.match(name) and "r/" + name not in self.names:
                need(name.startswith("snapshots/") and self.raw(name)[4] == 14, f"{name}: has no second copy")
            if name.startswith(("packs/", "index/")):
                self.check_pack(name)
        for name in self.below("parity"):
            found = parity(self.raw(name))
            need((found["pack"].hex(), len(found["parity"])) == (name[10:74], int(name[-4:], 16)), f"{name}: another's")
        for name in self.below("damaged"):
            lost = damaged(self.keys.box(name, self.raw(name)))
            need(lost["pack"].hex() == name[8:72], f"{name}: another pack's name")
        for name in self.below("sessions"):
            running = session(self.keys.box(name, self.raw(name)))
            need(running["id"].hex() == name[9:41], f"{name}: another session's name")
        for name in self.below("gc"):
            stage = name.split(".")[1]
            found = step(stage, self.keys.box(name, self.raw(name)))
            need(found["cycle"] == int(name[3:19], 16), f"{name}: another cycle's")
        self.places, rows = self.load_footers()
        places, indexed = self.load_index()
        packs = set(self.below("packs"))
        places = {name: {place for place in found if place[0] in packs} for name, found in places.items()}
        places = {name: found for name, found in places.items() if found}
        known = all(found <= self.places.get(name, set()) for name, found in places.items())
        need(known, "the index says other than the packs")
        need(all(rows.get(id, row) == row for id, row in indexed.items()), "the index says other of packs")
        if unindexed := len(self.places) - len(places):
            print(f"  {unindexed} chunks that are not in the index")

    def check_pack(self, name):
        need(H(self.raw(name)).hex() == name[-64:], f"{name}: its name is not its hash")
        pack = self.pack(name)
        if self.config["padding"]:
            pack.prove_padding()
        for number in range(len(pack.frames)):
            data = pack.frame(number)
            for chunk in pack.chunks:
                if chunk.frame == number and not name.startswith("index/"):
                    plaintext = data[chunk.offset:chunk.offset + chunk.length]
                    need(KH(self.keys.of_ids[chunk.kind], plaintext) == chunk.id, f"{name}: a chunk of another id")
                    self.counted["chunks"] += 1

    def snapshots(self):
        """Ascending by end, sequence and id: no tombstones, and none that is forgotten."""
        found, digests = [], collections.defaultdict(set)
        for name in self.below("snapshots"):
            (kind, record), data = self.get(name, lambda data: self.snapshot_or_tombstone(name, data))
            if kind == 14:
                need(record["session"].hex() == name[-32:], f"{name}: another session's tombstone")
                self.counted["tombstones"] += 1
                continue
            need(record["id"].hex() == name[-32:], f"{name}: another snapshot's name")
            label = b"paths\0" + b"\0".join([record["host"].encode(), *sorted(record["paths"])])
            if record["series"] != KH(self.keys.series, label)[:16]:
                print(f"  {name}: of a series that has a name")
            digests[record["series"], record["sequence"]].add(H(data))
            found.append((record["end_ns"], record["sequence"], record["id"], record))
        found.sort(key=lambda item: item[:3])
        for *_, record in found:
            # One that is gone was forgotten and pruned.
            before = digests.get((record["series"], record["sequence"] - 1), {record["parent_digest"]})
            need(record["parent_digest"] in before, f"snapshot {record['id'].hex()}: of another parent")
        return [item[3] for item in found if item[2] not in self.forgotten()]

    def snapshot_or_tombstone(self, name, data):
        payload, kind = self.keys.box(name, data), data[4]
        return kind, tombstone(payload) if kind == 14 else snapshot(payload)

    def forgotten(self):
        """The snapshots that are not shown, though they may still be there."""
        ids = set()
        for name in self.below("forgotten"):
            found = forgotten(self.keys.box(name, self.raw(name)))
            need(found["snapshot"].hex() == name[-32:], f"{name}: of another snapshot")
            ids.add(found["snapshot"])
        return ids


# Restoring

class Restore:
    """Writes a snapshot below a new directory, relative to open directories, and notes what is recorded of it."""

    def __init__(self, repository, target):
        self.repository, self.recorded, self.groups, self.first = repository, {}, collections.defaultdict(list), {}
        self.not_set = set()
        os.mkdir(target)
        self.target = os.open(target, os.O_RDONLY | os.O_DIRECTORY)

    def run(self, record):
        if record["tree"]:
            self.directory(self.target, (), record["tree"], record["entries"], record["bytes"])
        link_groups(self.recorded, self.groups)
        return self.recorded

    def directory(self, parent, path, root, entries, size):
        for node in self.repository.entries(root, entries, size):
            below = path + (node["name"],)
            need(len(below) <= 1000, "directories without end")
            self.entry(parent, node, below)

    def entry(self, parent, node, path):
        name, shown_name = node["name"], shown_path(path)
        attributes = xattrs(self.repository.chunk(node["attributes"], XATTR)) if node["attributes"] else node["xattrs"]
        fields = line(node["kind"], node["mode"], (node["uid"], node["gid"]), node["modified"])
        fields |= {"xattr:" + shown(name): shown(value) for name, value in attributes.items()}
        if node["flags"] & FLAGS:
            fields["flags"] = f"{node['flags'] & FLAGS:#x}"
        self.recorded[shown_name] = fields
        group = (node["device"], node["inode"])
        linked = node["kind"] != "directory" and node["links"] > 1
        if linked:
            self.groups[group].append(shown_name)
        if node["kind"] == "file":
            self.file(None if linked and group in self.first else parent, node, fields)
        elif node["kind"] == "directory":
            os.mkdir(name, 0o700, dir_fd=parent)
            inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            if node["content"] == SUBTREE:
                self.directory(inside, path, node["root"], node["entries"], node["bytes"])
            os.close(inside)
        elif not linked or group not in self.first:
            self.special(parent, node)
        if node["kind"] == "symlink":
            fields["target"] = shown(node["target"])
        if node["kind"] in ("block", "char"):
            fields["special"] = f"{os.major(node['special'])}:{os.minor(node['special'])}"
        if linked and group in self.first:
            other, other_name = self.first[group]
            os.link(other_name, name, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)
            return
        if linked:
            self.first[group] = (os.dup(parent), name)
        self.dress(parent, node, attributes)

    def file(self, parent, node, fields):
        """Hashes a file and writes it; only hashes it without a parent. Zeros are written, holes are left out."""
        out, content, runs = None, Content(), []
        if parent is not None:
            out = os.open(node["name"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=parent)
        for offset, data, length in self.repository.runs(node):
            runs.append((offset, offset + length))
            for at in range(0, length, 1 << 20):
                piece = bytes(min(1 << 20, length - at)) if data is None else data[at:at + (1 << 20)]
                content.update(offset + at, piece)
                if out is not None:
                    need(os.pwrite(out, piece, offset + at) == len(piece), "a short write")
        if out is not None:
            os.ftruncate(out, node["size"])
            os.close(out)
        fields |= {"size": str(node["size"]), "content": content.finish(node["size"]), "data": shown_runs(runs)}

    @staticmethod
    def special(parent, node):
        if node["kind"] == "symlink":
            os.symlink(node["target"], node["name"], dir_fd=parent)
        else:
            kinds = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "block": stat.S_IFBLK, "char": stat.S_IFCHR}
            os.mknod(node["name"], kinds[node["kind"]] | 0o600, node["special"], dir_fd=parent)

    def dress(self, parent, node, attributes):
        """Owner first, for giving away clears other things; times last. What needs privilege is noted."""
        name, is_symlink = node["name"], node["kind"] == "symlink"
        mode = node["mode"]
        if not self.attempt("owner", os.chown, name, node["uid"], node["gid"], dir_fd=parent, follow_symlinks=False):
            self.not_set.add("mode")
            mode &= 0o1777  # setuid would lend the rights of whoever restores
        if not is_symlink:
            os.chmod(name, mode, dir_fd=parent)
        for attribute, value in attributes.items():
            path = b"/proc/self/fd/%d/%s" % (parent, name)
            self.attempt("xattr:" + shown(attribute), os.setxattr, path, attribute, value, follow_symlinks=False)
        seconds, nanoseconds = node["modified"]
        modified = seconds * 10**9 + nanoseconds
        os.utime(name, ns=(modified, modified), dir_fd=parent, follow_symlinks=False)

    def attempt(self, field, function, *arguments, **options):
        try:
            function(*arguments, **options)
            return True
        except OSError as problem:
            if field not in self.not_set:
                print(f"  not set: {field}: {problem}")
            self.not_set.add(field)
            return False


# Command line

def secret_of(options):
    for path, how, decode in ((options.key_file, 2, key_file),
                              (options.password_file, 1, lambda data: data.rstrip(b"\r\n")),
                              (options.recovery_kit, "kit", lambda data: recovery_kit(data.decode()))):
        if path:
            with open(path, "rb") as file:
                data = file.read()
            return how, decode(data)
    raise SystemExit("a repository needs --key-file, --password-file or --recovery-kit")


def counts(repository):
    """What was counted since it was last asked."""
    counted, repository.counted = repository.counted, collections.Counter()
    return ", ".join(f"{count} {what}" for what, count in counted.items())


def read_repository(options):
    repository = Repository(options.repository, *secret_of(options))
    repository.check()
    snapshots = repository.snapshots()
    # Without an id no partial one is meant.
    snapshots_meant = snapshots if options.snapshot else [found for found in snapshots if not found["flags"] & 4]
    wanted = [found for found in snapshots_meant if (options.snapshot or "") in (found["id"].hex(), found["id"].hex()[12:])
              or found["id"].hex()[12:].startswith(options.snapshot or "")]
    need(wanted and (len(wanted) == 1 or not options.snapshot), "no snapshot, or more than one")
    print(f"  {len(snapshots)} snapshots, {counts(repository)}")
    if not options.restore:
        return
    restore = Restore(repository, options.restore)
    recorded = restore.run(wanted[-1])
    print(f"  restored {wanted[-1]['id'].hex()[12:]}, {counts(repository)}")
    if options.manifest:
        expected = read_manifest(options.manifest)
        compare("recorded", expected, recorded)
        but = sorted(restore.not_set | {"flags"} | (set() if keeps_holes(options.restore) else {"data"}))
        compare("restored", expected, portrait(options.restore), but)


def everything():
    here = os.path.dirname(os.path.abspath(__file__))
    print("vectors")
    vectors.verify(os.path.join(here, "..", "docs", "vectors"))
    fixture = os.path.join(here, "fixture")
    for manifest, selected, secret in (("second", None, "key-file"), ("first", "first.id", "recovery-kit"),
                                       ("second", None, "password-file")):
        print(f"fixture, {manifest} snapshot, opened by {secret}")
        with tempfile.TemporaryDirectory() as scratch:
            arguments = ["--repository", f"{fixture}/repository", f"--{secret}", f"{fixture}/{secret}"]
            arguments += ["--restore", f"{scratch}/restored", "--manifest", f"{fixture}/{manifest}.manifest"]
            if selected:
                with open(f"{fixture}/{selected}", encoding="ascii") as file:
                    arguments += ["--snapshot", file.read().strip()]
            read_repository(parse(arguments))


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in "vectors repository key-file password-file recovery-kit snapshot restore manifest".split():
        parser.add_argument("--" + option)
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    try:
        if options.vectors:
            vectors.verify(options.vectors)
        if options.repository:
            read_repository(options)
        if not options.vectors and not options.repository:
            everything()
    except (Damage, OSError, ValueError) as problem:
        sys.exit(f"reader: {problem}")
    print("reader: all is as the document says")


if __name__ == "__main__":
    main()
