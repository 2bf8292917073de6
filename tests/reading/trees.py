"""What chunks hold, by the names of docs/format.md: how files are cut, trees, node records, lists, attributes.

`cut`, `grow_tree` and `grow_list` do a writer's work again, to compare: so the document suffices for writers, too.
"""

import struct

from .structures import DK, KH, LIST, TREE, Cursor, ascends, extensions, need, need_items, u64, u8, within


# Chunker

MASKS = [int(digits, 16) for digits in """1804110 1803110 18035100 1800035300 19000353000 590003530000 d90003530000
    d90103530000 d90303530000 d90313530000 d90f03530000 d90303537000 d90703537000 d90707537000 d91707537000 d91747537000
    d91767537000 d93767537000 d93777537000 d93777577000 db3777577000""".split()]


def cut(data, gear, min_bytes, average_bytes, max_bytes, normalization):
    """The lengths of the chunks of data."""
    entry = average_bytes.bit_length() - 1 - 5
    small, large = MASKS[entry + normalization], MASKS[entry - normalization]
    lengths, begin = [], 0
    while begin < len(data):
        left = len(data) - begin
        end = min(left, max_bytes)
        length = left if left <= min_bytes else end
        if left > min_bytes:
            centre, value = min(average_bytes, end) & ~1, 0
            for mask, first, bound in ((small, min_bytes, centre), (large, max(centre, min_bytes), end & ~1)):
                for i in range(first, bound):
                    value = (value << 1) + gear[data[begin + i]] & 0xffff_ffff_ffff_ffff
                    if not value & mask:
                        length = i
                        break
                else:
                    continue
                break
        lengths.append(length)
        begin += length
    return lengths


def gear_table(root_secret):
    return struct.unpack("<256Q", DK("chunker gear", root_secret, 2048))


# Trees

def tree_node(data):
    """The level, and records with their bytes, or children."""
    need(len(data) <= 1 << 20, "a tree node that is too long")
    c = Cursor(data, "tree node")
    version, level = c.number(1), c.number(1)
    c.zeros(2)
    count = c.number(4)
    need(version == 1 and level <= 20 and count, "tree node: version, level or count")
    items = []
    for _ in range(need_items(c, count)):
        if level == 0:
            stored = c.take(c.number(4))
            items.append(node_record(stored) | {"stored": stored})
        else:
            child = {"id": c.take(32), "entries": c.number(8), "bytes": c.number(8), "name": c.take(c.number(2))}
            need(child["name"] and child["entries"], "a child that is empty")
            items.append(child)
    c.end()
    ascends((item["name"] for item in items), "names")
    if level:
        need(max(sum(item[what] for item in items) for what in ("entries", "bytes")) < 1 << 64, "sums of a branch")
    return level, items


def grow_tree(items, keys):
    """The root's id that a writer makes of (name, entries, bytes, stored record), and how many nodes that takes."""
    level, nodes = 0, 0
    items = [(name, entries, size, struct.pack("<I", len(stored)) + stored) for name, entries, size, stored in items]
    while True:
        above, node, length = [], [], 8

        def close():
            stored = struct.pack("<BBHI", 1, level, 0, len(node)) + b"".join(item[3] for item in node)
            name, entries, size = node[0][0], sum(item[1] for item in node), sum(item[2] for item in node)
            child = KH(keys.of_ids[TREE], stored) + struct.pack("<QQH", entries, size, len(name)) + name
            above.append((name, entries, size, child))

        for item in items:
            if node and length + len(item[3]) > 131_072:
                close()
                node, length = [], 8
            node.append(item)
            length += len(item[3])
            if length >= 16_384 and KH(keys.split, item[0])[0] == 0:
                close()
                node, length = [], 8
        if node:
            close()
        nodes += len(above)
        if len(above) == 1:
            return above[0][3][:32], nodes
        items, level = above, level + 1


# Node records

KINDS = ["file", "directory", "symlink", "fifo", "socket", "block", "char"]
NONE, INLINE, EXTENTS, LISTED, SUBTREE, TARGET = range(6)
HOLE = 2  # kinds of extent: 0 data, 1 zero, 2 hole


def node_record(data):
    c = Cursor(data, "node record")
    node = {"name": c.bytes(1, 4096)}
    need(node["name"] not in (b".", b"..") and not set(node["name"]) & {0, 0x2f}, "a name that is not allowed")
    kinds, bits = c.number(1), c.number(2)
    node["kind"], node["content"] = KINDS[min(kinds & 15, 6)], kinds >> 4
    allowed = {"file": (NONE, INLINE, EXTENTS, LISTED), "directory": (NONE, SUBTREE), "symlink": (TARGET,)}
    need(kinds & 15 <= 6 and kinds >> 4 in allowed.get(node["kind"], (NONE,)), "kinds that do not fit")

    def optional(bit, absent, read):
        if not bits >> bit & 1:
            return absent
        found = read()
        need(found != absent, f"field {bit} is there with its default")
        return found

    def time(base):
        seconds, nanoseconds = c.signed(), c.varint(32)
        need(nanoseconds < 10**9, "a time of too many nanoseconds")
        return (seconds + base[0] + (1 << 63)) % (1 << 64) - (1 << 63), nanoseconds

    node["mode"], node["uid"] = c.varint(32), c.varint(32)
    need(node["mode"] <= 0o7777, "a mode")
    node["gid"] = optional(0, node["uid"], lambda: c.varint(32))
    node["user"] = optional(1, None, lambda: c.bytes(1, 1024))
    node["group"] = optional(3, node["user"] if bits >> 2 & 1 else None, lambda: c.bytes(1, 1024))
    same = node["group"] is not None and node["group"] == node["user"]
    need(bool(bits >> 2 & 1) == same and not (same and bits >> 3 & 1), "a group's name in another way than needed")
    node["modified"] = time((0, 0))
    node["changed"] = optional(4, node["modified"], lambda: time(node["modified"]))
    node["born"] = optional(5, None, lambda: time(node["changed"]))
    node["accessed"] = optional(6, None, lambda: time(node["changed"]))
    node["inode"], node["device"] = optional(7, 0, c.varint), optional(8, 0, c.varint)
    node["links"] = optional(9, 1, lambda: c.varint(32))
    node["special"] = optional(10, 0, c.varint)
    node["flags"] = optional(11, 0, lambda: c.varint(32))
    node["unsteady"] = bits >> 12 & 1
    node["size"] = 0
    if node["content"] == INLINE:
        node["inline"] = c.bytes(1, 512)
        node["size"] = len(node["inline"])
    elif node["content"] == EXTENTS:
        node["extents"] = []
        for _ in range(within(u64, range(1, 65))(c)):
            kind, length = within(u8, (0, 1, 2))(c), c.varint()
            node["extents"].append((kind, length, c.take(32) if kind == 0 else bytes(32)))
        node["size"] = size_of(node["extents"])
    elif node["content"] == LISTED:
        node |= {"root": c.take(32), "level": within(u8, range(7))(c), "chunks": c.varint(), "size": c.varint(63)}
    elif node["content"] == SUBTREE:
        node |= {"root": c.take(32), "entries": c.varint(), "bytes": c.varint()}
        need(node["entries"], "a directory's tree without entries")
    elif node["content"] == TARGET:
        node["target"] = c.bytes(0, 65_536)
    node["xattrs"], node["attributes"], node["extensions"] = {}, None, []
    if bits >> 13 & 1:
        node["xattrs"] = attributes(c, 4096)
        need(node["xattrs"], "field 13 is there with its default")
    if bits >> 14 & 1:
        need(not node["xattrs"], "attributes twice")
        node["attributes"] = c.take(32)
    if bits >> 15:
        node["extensions"] = extensions(c)
        need(node["extensions"], "field 15 is there with its default")
    c.end()
    return node


def size_of(extents):
    need(all(length and (kind or length <= 16 << 20) for kind, length, _ in extents), "the length of an extent")
    total = sum(length for _, length, _ in extents)
    need(total < 1 << 63, "the length of a file")
    return total


# Chunk lists

def list_node(data):
    """The level, and extents (kind, length, id) or children (id, length, chunks)."""
    c = Cursor(data, "list node")
    version, level = c.number(1), c.number(1)
    c.zeros(2)
    count = c.number(4)
    need(version == 1 and level <= 6 and 1 <= count <= 4096, "list node: version, level or count")
    items = []
    for _ in range(count):
        name, length, last = c.take(32), c.number(8), c.number(8)
        if level == 0:
            need(last <= 2 and (last == 0 or name == bytes(32)), "an extent")
            items.append((last, length, name))
        else:
            items.append((name, length, last))
    c.end()
    need(level == 0 or all(length for _, length, _ in items) and sum(item[1] for item in items) < 1 << 63, "lengths")
    if level == 0:
        size_of(items)
    return level, items


def grow_list(extents, keys):
    """The root's id that a writer makes, and its level."""
    items = [(name + struct.pack("<QQ", length, kind), length, kind == 0, kind == 0) for kind, length, name in extents]
    level = 0
    while True:
        above, node = [], []

        def close():
            stored = struct.pack("<BBHI", 1, level, 0, len(node)) + b"".join(item[0] for item in node)
            length, chunks = sum(item[1] for item in node), sum(item[2] for item in node)
            above.append((KH(keys.of_ids[LIST], stored) + struct.pack("<QQ", length, chunks), length, chunks, True))

        for item in items:
            splits = node and node[-1][3] and int.from_bytes(node[-1][0][30:32], "little") & 0x3ff == 0
            if len(node) == 4096 or len(node) >= 256 and splits:
                close()
                node = []
            node.append(item)
        close()
        if len(above) == 1:
            return above[0][0][:32], level
        items, level = above, level + 1


# Extended attributes

def attributes(c, most):
    found, total = [], 0
    for _ in range(need_items(c, c.varint())):
        found.append((c.bytes(1, 4096), c.bytes()))
        total += sum(map(len, found[-1]))
    need(total <= most and all(0 not in name for name, _ in found), "extended attributes")
    ascends((name for name, _ in found), "names of attributes")
    return dict(found)


def xattrs(data):
    c = Cursor(data, "extended attributes")
    need(c.number(1) == 1, "extended attributes: version")
    found = attributes(c, 16 << 20)
    c.end()
    return found
