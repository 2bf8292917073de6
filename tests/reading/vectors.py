"""The golden vectors of docs/vectors: each is decoded and compared with what its comments and derived.json say.

One spelling a value: so besides, each byte is changed in turn, and what then decodes must have another meaning.
"""

import json
import os
import re

from . import parity
from .structures import (DATA, DK, H, KH, Damage, Keys, Pack, config, damaged, footer, forgotten, header,
                         index_block, key_slot, keyring, marker, mirror, need, open_box, open_slot, padme, session, slot_body,
                         snapshot, step, tombstone, trailer)
from .trees import cut, gear_table, list_node, tree_node, xattrs


def counting(begin, length=32):
    """Bytes that count up."""
    return bytes((begin + i) % 256 for i in range(length))


SNAPSHOT_ID = bytes.fromhex("018bcfe56800") + counting(0xa0, 10)
BASE_ID = bytes.fromhex("018bcf4cd180") + counting(0xa0, 10)
REPOSITORY, SLOT = counting(0x10, 16), counting(0x20, 16)
CREATED = 1_700_000_000_000
ID_1, ID_2, ID_3 = counting(0x01), counting(0x42), counting(0x33)
MODIFIED = (1_700_000_000, 0)

# What the comments say, by field.
MEANINGS = {
    "header": {"flags": 1, "epoch": 0, "salt": counting(0x40), "commitment": counting(0x80)},
    "marker": {"min_reader": 0, "repository": REPOSITORY, "created_ms": CREATED},
    "mirror": {"repository": REPOSITORY, "created_ms": CREATED},
    "key_slot_argon2id": {"derivation": 1, "memory_kib": 65_536, "passes": 3, "lanes": 4, "repository": REPOSITORY,
                          "slot": SLOT, "salt": counting(0x30), "created_ms": CREATED + 1, "commitment": counting(0x50),
                          "sealed": counting(0, 272)},
    "key_slot_raw": {"derivation": 2, "memory_kib": 0, "passes": 0, "lanes": 0, "repository": REPOSITORY, "slot": SLOT,
                     "salt": counting(0x30), "created_ms": CREATED + 1, "commitment": counting(0x50),
                     "sealed": counting(0, 272)},
    "slot_body": {"root_key": counting(0x60), "keyring_generation": 1, "label": "laptop"},
    "keyring": {
        "generation": 2, "previous_digest": counting(0x70), "repository": REPOSITORY, "marker_digest": counting(0x90),
        "root_secret": counting(0),
        "epochs": [{"epoch": 0, "keys": [(number, counting(key)) for number, key in ((1, 0x20), (2, 0x21), (3, 0x22), (4, 0x23), (5, 0x24),
                                                                         (6, 0x26), (8, 0x27), (10, 0x25))],
                    "created_ms": CREATED, "gc_from": 0, "state": 0}],
        "slots": [{"slot": SLOT, "role": 0, "kind": 1, "label": "laptop", "created_ms": CREATED + 1},
                  {"slot": counting(0x21, 16), "role": 0, "kind": 2, "label": "", "created_ms": CREATED + 2}],
        "extensions": []},
    "config": {
        "generation": 1, "previous_digest": bytes(32), "incompatible": 0, "read_only_compatible": 0, "compatible": 0,
        "algorithm": 1, "normalization": 1, "min_bytes": 32_768, "average_bytes": 131_072, "max_bytes": 524_288,
        "target_bytes": 1 << 20, "isolation": 1, "level": 3, "pack_data_bytes": 32 << 20, "pack_meta_bytes": 8 << 20,
        "padding": 1, "put_if_absent": 1, "label": "home", "extensions": [(5, b"\1\2")]},
    "config_weak": {
        "generation": 1, "put_if_absent": 0, "label": "home", "extensions": [(5, b"\1\2"), (0x8003, counting(0x11, 16))]},
    "session": {"id": SNAPSHOT_ID, "kind": 0, "started_ms": CREATED, "lease_s": 259_200, "host": "büro",
                "boot": counting(0xb0, 16), "process": 4711, "program": "icecore 0.1.0", "extensions": []},
    "mark": {"cycle": 7, "by": SNAPSHOT_ID, "created_ms": CREATED, "packs": [counting(0x55), counting(0x66)],
             "roots": [SNAPSHOT_ID], "expired": [BASE_ID], "extensions": []},
    "pending": {"cycle": 7, "sessions": [BASE_ID, SNAPSHOT_ID], "extensions": []},
    "plan": {"cycle": 7, "mark_digest": counting(0x70), "delete": [counting(0x55)], "rescued": [counting(0x66)],
             "extensions": []},
    "done": {"cycle": 7, "plan_digest": counting(0x90), "freed_bytes": 5384, "retained": [counting(0x66)],
             "extensions": []},
    "tombstone": {"session": SNAPSHOT_ID, "cycle": 7, "by": BASE_ID, "at_ms": CREATED, "extensions": []},
    "forgotten": {"snapshot": BASE_ID, "at_ms": CREATED, "purge_after_ms": CREATED + 7 * 86_400_000,
                  "reason": "now a0a1a2a3", "by": "anna@büro",
                  "extensions": [(1, SNAPSHOT_ID + (CREATED - 10**7).to_bytes(8, "little") + CREATED.to_bytes(8, "little"))]},
    "damaged": {"pack": counting(0xc0), "chunks": [ID_1, ID_3], "at_ms": CREATED, "extensions": []},
    "xattrs": {b"security.capability": counting(1, 20), b"user.long": bytes(300), b"user.none": b""},
    "tree_branch": (1, [{"id": counting(0x11), "entries": 200, "bytes": 1 << 35, "name": b"Makefile"},
                        {"id": counting(0x12), "entries": 1, "bytes": 0, "name": "é".encode()}]),
    "list_leaf": (0, [(0, 131_072, ID_1), (1, 1 << 20, bytes(32)), (2, 1 << 41, bytes(32))]),
    "list_branch": (1, [(ID_1, 1 << 30, 4096), (ID_2, 7, 1)]),
}
FULL = {
    "id": SNAPSHOT_ID, "series": counting(0xc0, 16), "sequence": 7, "lineage": ("full",), "flags": 0, "origin": None,
    "parent_digest": counting(0xd0), "config_generation": 1, "keyring_generation": 2,
    "start_ns": 1_700_000_000_123_456_789, "end_ns": 1_700_000_060 * 10**9, "zone_minutes": -210,
    "host": "büro", "user": "anna", "uid": 1000, "gid": 100, "paths": [b"/home/anna", b"/srv/\xff"],
    "excludes": ["*.tmp"], "tags": ["daily", "v1"], "program": "icecore 0.1.0", "tree": None, "entries": 0, "bytes": 0,
    "files_new": 1,
    "files_changed": 2, "files_unmodified": 3, "directories_new": 4, "directories_changed": 5,
    "directories_unmodified": 6, "data_chunks": 250, "tree_chunks": 251, "added_bytes": 65_535, "stored_bytes": 65_536,
    "read_bytes": (1 << 32) - 1,
    "processed_files": 1 << 32, "processed_bytes": (1 << 64) - 1, "problems": 0, "extensions": []}
ROOT = {"tree": counting(0xe0), "entries": 300, "bytes": 1 << 33}
MEANINGS |= {
    "snapshot_full": FULL,
    "snapshot_incremental": FULL | ROOT | {"lineage": ("incremental", BASE_ID), "flags": 3,
                                           "origin": bytes.fromhex("01897bd98400") + counting(0xa0, 10)},
    "snapshot_differential": FULL | ROOT | {"lineage": ("differential", BASE_ID), "flags": 6},
}
# Of each entry of tree_leaf, what its comments say.
ENTRIES = [
    {"name": b"Makefile", "kind": "file", "mode": 0o644, "uid": 1000, "gid": 1000, "user": b"anna", "group": b"anna",
     "modified": (1_700_000_000, 123_456_789), "changed": (1_700_000_100, 5), "born": (1_700_000_099, 999_999_999),
     "inode": 1_234_567, "device": 0x801, "extents": [(0, 70_000, ID_1)], "size": 70_000, "links": 1},
    {"name": b"a b", "kind": "file", "mode": 0o4755, "uid": 0, "gid": (1 << 32) - 1, "user": b"root",
     "group": "würfel".encode(), "modified": (-1, 999_999_999), "changed": ((3 << 31) - 1, 0),
     "inode": (1 << 64) - 1, "device": 1 << 32, "links": 3,
     "flags": 16, "inline": b"hello", "size": 5, "xattrs": {b"user.a": b"\0\xff", b"user.b": b""},
     "extensions": [(7, b"x")]},
    {"name": b"b", "kind": "block", "special": 0x801, "mode": 0o660, "uid": 0, "gid": 0, "modified": (0, 0)},
    {"name": b"c", "kind": "char", "special": 0x103, "mode": 0o666, "gid": 5, "modified": (1 << 40, 0)},
    {"name": b"d", "kind": "directory", "mode": 0o1777, "uid": 250, "root": counting(0x77), "entries": 1_000_000,
     "bytes": 1 << 40, "attributes": counting(0x78)},
    {"name": b"e", "kind": "directory", "content": 0, "mode": 0o755, "uid": 251, "links": 2},
    {"name": b"f", "kind": "fifo", "mode": 0, "user": None, "group": b"wheel"},
    {"name": b"g", "kind": "file", "root": counting(0x79), "level": 1, "chunks": 12_345, "size": 1 << 34},
    {"name": b"\xfe", "kind": "socket", "mode": 0o777},
    {"name": b"\xfe\1", "kind": "symlink", "target": b"../x"},
    {"name": b"\xff", "kind": "file", "extents": [(2, 1 << 40, bytes(32)), (0, 16 << 20, ID_2), (1, 4096, bytes(32))]},
]
DECODERS = {
    "header": lambda data: header(data, 1), "marker": marker, "mirror": mirror, "key_slot_argon2id": key_slot, "key_slot_raw": key_slot,
    "slot_body": slot_body, "keyring": keyring, "config": config, "config_weak": config, "session": session, "damaged": damaged,
    "mark": lambda data: step("mark", data), "pending": lambda data: step("pending", data),
    "plan": lambda data: step("plan", data), "done": lambda data: step("done", data), "tombstone": tombstone,
    "forgotten": forgotten, "snapshot_full": snapshot,
    "snapshot_incremental": snapshot, "snapshot_differential": snapshot, "xattrs": xattrs, "tree_leaf": tree_node,
    "tree_branch": tree_node, "list_leaf": list_node, "list_branch": list_node, "index_block": index_block,
    "footer": lambda data: footer(data, (DATA,), 1228), "trailer": lambda data: trailer(data, 5384),
    "parity": parity.parity,
}


def read(directory, name):
    """The bytes of a vector, and the name that its object is bound to."""
    with open(os.path.join(directory, name + ".hex"), encoding="utf-8") as file:
        text = file.read()
    bound = re.search(r"^# Name: (\S+)$", text, re.MULTILINE)
    digits = "".join(line.split("#")[0] for line in text.splitlines())
    return bytes.fromhex(digits), bound and bound.group(1)


def verify(directory):
    vectors = {name.removesuffix(".hex"): read(directory, name.removesuffix(".hex"))
               for name in sorted(os.listdir(directory)) if name.endswith(".hex")}
    for name, decode in DECODERS.items():
        verify_structure(name, decode, vectors[name][0])
    verify_sealed(vectors)
    parity.verify(vectors["parity"][0])
    verify_derived(directory)
    verify_cuts(directory)
    others = vectors.keys() - DECODERS.keys() - SEALED
    need(not others, f"vectors that nobody reads: {', '.join(sorted(others))}")
    print(f"  {len(vectors)} vectors, derived.json and cuts.txt mean what they say")


def verify_structure(name, decode, data):
    try:
        found = decode(data)
    except Damage as problem:
        raise Damage(f"vector {name}: {problem}") from None
    if name == "tree_leaf":
        need(found[0] == 0 and len(found[1]) == len(ENTRIES), "vector tree_leaf: its entries")
        for number, (entry, meaning) in enumerate(zip(found[1], ENTRIES), 1):
            same(f"tree_leaf: entry {number}", {field: entry.get(field) for field in meaning}, meaning)
        need(found[1][7]["modified"] == MODIFIED, "vector tree_leaf: a time")
    elif name in MEANINGS:
        meaning = MEANINGS[name]
        if isinstance(meaning, dict) and name != "xattrs":
            need(meaning.keys() <= found.keys(), f"vector {name}: fields")
            same(name, {field: found[field] for field in meaning}, meaning)
        else:
            same(name, found, meaning)
    for i in range(len(data)):
        changed = data[:i] + bytes([data[i] ^ 1]) + data[i + 1:]
        same_meaning = meaning_of(decode, changed) == meaning_of(decode, data)
        need(not same_meaning, f"vector {name}: byte {i} may be spelled otherwise")


def meaning_of(decode, data):
    """What data means, without its own bytes; None if it means nothing."""
    try:
        found = decode(data)
    except (Damage, ValueError):
        return None
    if decode is tree_node:
        found = [{field: item[field] for field in item if field != "stored"} for item in found[1]]
    return found


def same(name, found, meaning):
    if isinstance(meaning, dict):
        different = [field for field in meaning if found.get(field) != meaning[field]]
        need(not different, f"vector {name}: " + ", ".join(f"{field} is {found.get(field)!r}" for field in different))
    need(found == meaning, f"vector {name}: {found!r}")


SEALED = {"sealed_" + name
          for name in ("slot_password", "slot_key_file", "keyring", "session", "config", "snapshot", "pack", "mark", "plan",
                       "tombstone", "forgotten")}


def verify_sealed(vectors):
    body, ring = vectors["slot_body"][0], vectors["keyring"][0]
    by_password, by_key_file = vectors["sealed_slot_password"][0], vectors["sealed_slot_key_file"][0]
    need(open_slot(by_password, b"correct horse") == slot_body(body), "vector sealed_slot_password")
    need(open_slot(by_password, b"correct hors") is None, "a wrong password opened a slot")
    need(open_slot(by_key_file, counting(0x80)) == slot_body(body), "vector sealed_slot_key_file")
    data, name = vectors["sealed_keyring"]
    need(open_box(name, data, DK("keyring", slot_body(body)["root_key"]), 11) == ring, "vector sealed_keyring")
    keys = Keys(keyring(ring))
    for vector, opened in (("session", "session"), ("config", "config"), ("snapshot", "snapshot_incremental"),
                           ("mark", "mark"), ("plan", "plan"), ("tombstone", "tombstone"), ("forgotten", "forgotten")):
        data, name = vectors["sealed_" + vector]
        need(keys.box(name, data) == vectors[opened][0], f"vector sealed_{vector}")
        try:
            keys.box(name.replace("0", "f", 1), data)
        except Damage:
            continue
        raise Damage(f"vector sealed_{vector} opens under another name")
    data, name = vectors["sealed_pack"]
    need(H(data).hex() == name[-64:], "vector sealed_pack: its name")
    pack = Pack(name, len(data), lambda offset, length: data[offset:offset + length], keys)
    pack.prove_padding()
    chunks = [pack.frame(chunk.frame)[chunk.offset:chunk.offset + chunk.length] for chunk in pack.chunks]
    need(chunks == [b"hello", b"world" * 40, b"icecore " * 500], "vector sealed_pack: its chunks")
    ids = [KH(keys.of_ids[DATA], chunk) for chunk in chunks]
    need([chunk.id for chunk in pack.chunks] == ids, "vector sealed_pack: its ids")
    need([frame.codec for frame in pack.frames] == [0, 1], "vector sealed_pack: its codecs")


def verify_derived(directory):
    secret, master = counting(0), counting(0x20)
    with open(os.path.join(directory, "derived.json"), encoding="utf-8") as file:
        derived = json.load(file)
    rules = {
        r"DK\((.*), root secret\)": lambda purpose: DK(purpose, secret).hex(),
        r"DK\((.*), master key\)": lambda purpose: DK(purpose, master).hex(),
        r"gear\[(\d+)\]": lambda i: f"{gear_table(secret)[int(i)]:016x}",
        r'id\((\w+), "(.*)"\)': lambda kind, chunk: KH(DK("id " + kind, secret), chunk.encode()).hex(),
        r'splits after name "(.*)", .*': lambda name: KH(DK("tree split", secret), name.encode())[:1].hex(),
        r"padme\((\d+)\)": lambda length: padme(int(length)),
        r"comment": lambda: derived["comment"],
    }
    for name, value in derived.items():
        found = [rule(*match.groups()) for pattern, rule in rules.items() if (match := re.fullmatch(pattern, name))]
        need(found == [value], f"derived.json: {name} is {found}")


def verify_cuts(directory):
    data = H(b"cuts", 40_001)
    with open(os.path.join(directory, "cuts.txt"), encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                normalization, lengths = line.split(":")
                found = cut(data, gear_table(counting(0)), 64, 256, 1024, int(normalization))
                need(found == [int(length) for length in lengths.split()], f"cuts.txt: normalization {normalization}")
