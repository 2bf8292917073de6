"""What is stored outside of chunks, in the order and by the names of docs/format.md: keys, boxes, packs, index.

Written from that document alone. A decoder returns a value or raises Damage; nothing is believed before it was checked.
"""

import collections
import hmac
import re
import struct

import argon2.low_level
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Damage(Exception):
    """What is wrong, in words."""


def need(holds, what):
    if not holds:
        raise Damage(what)


# Conventions

def H(data, length=32):
    return blake3(data).digest(length=length)


def KH(key, data, length=32):
    return blake3(data, key=key).digest(length=length)


def DK(purpose, material, length=32):
    return blake3(material, derive_key_context="repo-core 2026 v1 " + purpose).digest(length=length)


class Cursor:
    """Takes bytes from the front of what is stored; nothing is believed to be there before it was seen."""

    def __init__(self, data, what):
        self.data, self.what, self.at = data, what, 0

    def take(self, count):
        need(count <= len(self.data) - self.at, f"{self.what} ends early")
        self.at += count
        return bytes(self.data[self.at - count:self.at])

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def zeros(self, count):
        need(not any(self.take(count)), f"{self.what}: not zero where it must be")

    def varint(self, bits=64):
        value = self.number(1)
        if value >= 251:
            need(value <= 253, f"{self.what}: unknown marker of an integer")
            size, least = {251: (2, 251), 252: (4, 1 << 16), 253: (8, 1 << 32)}[value]
            value = self.number(size)
            need(value >= least, f"{self.what}: an integer in a longer form than needed")
        need(value < 1 << bits, f"{self.what}: an integer of more than {bits} bits")
        return value

    def signed(self, bits=64):
        value = self.varint(bits)
        return -(value >> 1) - 1 if value & 1 else value >> 1

    def bytes(self, least=0, most=1 << 24):
        length = self.varint()
        need(least <= length <= most, f"{self.what}: a length of {length}")
        return self.take(length)

    def end(self):
        need(self.at == len(self.data), f"{self.what}: bytes left over")


def ascends(keys, what):
    keys = list(keys)
    need(all(left < right for left, right in zip(keys, keys[1:])), f"{what}: not strictly ascending")


# Objects and names

TYPES = {"format": 15, "mirror": 23, "keys": 13, "keyring": 11, "config": 10, "packs/d": 1, "packs/m": 2, "index": 3, "snapshots": 4,
         "sessions": 5, "forgotten": 17, "damaged": 18}
STAGES = {"mark": 6, "pending": 7, "plan": 8, "done": 9}
# A purpose has the number of the type, or one that several types share.
PURPOSES = {7: 6, 9: 6, 14: 5, 17: 6, 18: 6}
NAMES = re.compile(r"(format|mirror|keys/[0-9a-f]{32}|keyring/[0-9a-f]{16}|config/[0-9a-f]{16}|snapshots/[0-9a-f]{32}|"
                   r"sessions/[0-9a-f]{32}(\.r[0-9a-f]{4})?|gc/[0-9a-f]{16}\.(mark|pending|plan|done)|forgotten/[0-9a-f]{32}|"
                   r"index/[0-9a-f]{64}|packs/[dm]/(?P<p>[0-9a-f]{2})/(?P=p)[0-9a-f]{62}|"
                   r"parity/(?P<q>[0-9a-f]{2})/(?P=q)[0-9a-f]{62}\.[0-9a-f]{4}|damaged/[0-9a-f]{64}\.[0-9a-f]{4})")
DOUBLED = re.compile("(format|keys|keyring|config|snapshots)(/|$)")


# The marker

def marker(data):
    need(len(data) == 128 and H(data[:96]) == data[96:], "format: its hash is wrong")
    c = Cursor(data[:96], "format")
    need(c.take(4) == b"RCO1" and c.number(1) == 15, "format: no marker")
    need(c.take(3) == bytes(3), "format: another version, suite or flag")
    found = {"min_reader": c.number(4)}
    need(found["min_reader"] == 0, "format: for newer readers")
    c.zeros(4)
    found |= {"repository": c.take(16), "created_ms": c.number(8)}
    c.zeros(56)
    return found


def mirror(data):
    need(len(data) == 128 and H(data[:96]) == data[96:], "mirror: its hash is wrong")
    c = Cursor(data[:96], "mirror")
    need(c.take(8) == b"RCO1\x17\0\0\0", "mirror: another object, version, suite or flag")
    c.zeros(8)
    found = {"repository": c.take(16), "created_ms": c.number(8)}
    c.zeros(56)
    return found


# Key slots

def key_slot(data):
    need(len(data) == 436 and H(data[:404]) == data[404:], "key slot: its hash is wrong")
    c = Cursor(data[:404], "key slot")
    need(c.take(6) == b"RCO1\x0d\0", "key slot: another object or version")
    found = {"derivation": c.number(1)}
    c.zeros(1)
    found |= {"memory_kib": c.number(4), "passes": c.number(4), "lanes": c.number(4)}
    c.zeros(4)
    found |= {"repository": c.take(16), "slot": c.take(16), "salt": c.take(32), "created_ms": c.number(8),
              "commitment": c.take(32), "length": c.number(4), "sealed": c.take(272), "associated": data[:132]}
    need(found["length"] == 272, "key slot: another length")
    memory, passes, lanes = found["memory_kib"], found["passes"], found["lanes"]
    if found["derivation"] == 1:
        need(19_456 <= memory <= 4_194_304 and 1 <= passes <= 64 and 1 <= lanes <= 64
             and memory * passes <= 16_777_216, "key slot: a cost that is not accepted")
    else:
        need(found["derivation"] == 2 and memory == passes == lanes == 0, "key slot: unknown derivation")
    return found


def wrapping_key(slot, secret):
    if slot["derivation"] == 2:
        return KH(secret, slot["salt"])
    return argon2.low_level.hash_secret_raw(secret, slot["salt"], slot["passes"], slot["memory_kib"], slot["lanes"], 32,
                                            argon2.low_level.Type.ID, version=0x13)


def slot_body(data):
    need(len(data) == 256, "key slot: a body of another length")
    c = Cursor(data, "body of a key slot")
    found = {"root_key": c.take(32), "keyring_generation": c.number(8)}
    length = c.number(2)
    need(length <= 214, "key slot: a longer label")
    found["label"] = c.take(length).decode()
    c.zeros(256 - c.at)
    return found


def open_slot(data, secret):
    """The body, or None if the secret is of another slot."""
    slot = key_slot(data)
    wrapping = wrapping_key(slot, secret)
    if not hmac.compare_digest(DK("slot commit", wrapping), slot["commitment"]):
        return None
    try:
        return slot_body(AESGCM(DK("slot enc", wrapping)).decrypt(bytes(12), slot["sealed"], slot["associated"]))
    except InvalidTag:
        raise Damage("key slot: authentication failed") from None


def key_file(data):
    """32 raw bytes, or 64 hexadecimal digits with or without a line end."""
    return data if len(data) == 32 else bytes.fromhex(data.decode().removesuffix("\n").removesuffix("\r"))


# Recovery kit

def recovery_kit(text):
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    need(len(lines) == 5, "a recovery kit has five lines")
    contents = []
    for number, line in enumerate(lines):
        typed = re.sub(r"[\s-]", "", line.split(":")[-1]).upper().translate(str.maketrans("OIL", "011"))
        need(len(typed) == 16 and set(typed) <= set(digits), f"line {number} of the recovery kit is mistyped")
        value = 0
        for digit in typed:
            value = value << 5 | digits.index(digit)
        content, check = value.to_bytes(10, "big")[:8], value.to_bytes(10, "big")[8:]
        need(check == H(b"icecore recovery kit line" + bytes([number]) + content)[:2], f"line {number} is mistyped")
        contents.append(content)
    root_key = b"".join(contents[:4])
    need(contents[4] == DK("recovery kit", root_key)[:8], "lines of different recovery kits")
    return root_key


# Header of sealed objects, and keys of one object

def header(data, kind):
    c = Cursor(data[:80], "header")
    need(c.take(7) == b"RCO1" + bytes([kind, 0, 1]), "header: another object, version or suite")
    found = {"flags": c.number(1), "epoch": c.number(4)}
    need(found["flags"] <= 1, "header: unknown flag")
    need(c.take(4) == bytes(4), "header: an extension")
    return found | {"salt": c.take(32), "commitment": c.take(32)}


class ObjectKeys:
    """The keys of one object: opens its messages."""

    def __init__(self, purpose_key, head):
        self.header = bytes(head[:80])
        keys = KH(purpose_key, self.header[:48], 128)
        self.key, commitment, self.padding_seed, self.nonce_key = keys[:32], keys[32:64], keys[64:96], keys[96:]
        need(hmac.compare_digest(commitment, self.header[48:]), "authentication failed: the commitment")

    def open(self, domain, ordinal, associated, stored):
        need(len(stored) >= 24, "a sealed message is too short")
        iv, prefix = stored[:8], bytes([domain]) + ordinal.to_bytes(3, "little")
        try:
            plaintext = AESGCM(self.key).decrypt(prefix + iv, stored[8:], associated)
        except InvalidTag:
            raise Damage("authentication failed") from None
        need(iv == KH(self.nonce_key, prefix + associated + plaintext)[:8], "a nonce of another making")
        return plaintext


# Padding

def padme_step(length):
    exponent = length.bit_length() - 1
    return 1 if exponent <= 0 else 1 << max(exponent - exponent.bit_length(), 0)


def padme(length):
    step = padme_step(length)
    return (length + step - 1) // step * step


# Boxes

def open_box(name, data, purpose_key, kind):
    need(len(data) >= 80 + 24 + 32 and H(data[:-32]) == data[-32:], f"{name}: its hash is wrong")
    header(data, kind)
    plaintext = ObjectKeys(purpose_key, data).open(0, 0, data[:80] + name.encode(), data[80:-32])
    c = Cursor(plaintext, name)
    length = c.number(4)
    need(len(plaintext) == padme(4 + length), f"{name}: padding of another length")
    payload = c.take(length)
    c.zeros(len(plaintext) - c.at)
    return payload


# The codec: a kind is a function from a cursor to a value

def u8(c): return c.number(1)
def u16(c): return c.varint(16)
def u32(c): return c.varint(32)
def u64(c): return c.varint(64)
def i8(c): return (c.number(1) + 128) % 256 - 128
def i16(c): return c.signed(16)
def i64(c): return c.signed(64)
def count_bytes(c): return c.bytes()


def text(c):
    try:
        return c.bytes().decode()
    except UnicodeDecodeError:
        raise Damage(f"{c.what}: text that is not UTF-8") from None


def within(kind, allowed):
    def value(c):
        found = kind(c)
        need(found in allowed, f"{c.what}: a value of {found}")
        return found
    return value


boolean = within(u8, (0, 1))
def fixed(size): return lambda c: c.take(size)
def list_of(kind): return lambda c: [kind(c) for _ in range(need_items(c, c.varint()))]
def option(kind): return lambda c: kind(c) if boolean(c) else None
def record(**kinds): return lambda c: {name: kind(c) for name, kind in kinds.items()}
def power_of_two(least, most): return within(u32, [1 << n for n in range(25) if least <= 1 << n <= most])


def need_items(c, count):
    need(count <= len(c.data) - c.at, f"{c.what}: {count} items in fewer bytes")
    return count


def extensions(c, critical=()):
    found = [(c.varint(16), c.bytes()) for _ in range(need_items(c, c.varint()))]
    ascends((tag for tag, _ in found), f"extensions of {c.what}")
    need(all(tag < 1 << 15 or tag in critical for tag, _ in found), f"{c.what}: an unknown critical extension")
    return found


def payload(what, data, limit, critical=()):
    need(len(data) <= limit, f"{what}: too long")
    c = Cursor(data, what)
    found = PAYLOADS[what](c)
    found["extensions"] = extensions(c, critical)
    c.end()
    return found


def lineage(c):
    return [lambda: ("full",), lambda: ("incremental", c.take(16)), lambda: ("differential", c.take(16))][
        within(u32, (0, 1, 2))(c)]()


EPOCH = record(epoch=u32, keys=list_of(lambda c: (u8(c), c.take(32))), created_ms=u64, gc_from=within(u64, (0,)),
               state=within(u8, (0, 1, 2)))
SLOT = record(slot=fixed(16), role=within(u8, (0,)), kind=within(u8, (1, 2, 3)), label=text, created_ms=u64)
PAYLOADS = {
    "keyring": record(generation=u64, previous_digest=fixed(32), repository=fixed(16), marker_digest=fixed(32),
                      root_secret=fixed(32), epochs=list_of(EPOCH), slots=list_of(SLOT)),
    "config": record(
        generation=u64, previous_digest=fixed(32), incompatible=within(u64, (0,)), read_only_compatible=u64,
        compatible=u64, algorithm=within(u8, (1,)), normalization=within(u8, range(4)),
        min_bytes=power_of_two(64, 1 << 20), average_bytes=power_of_two(256, 1 << 22),
        max_bytes=power_of_two(1024, 1 << 24),
        target_bytes=within(u32, range(4096, (1 << 23) + 1)), isolation=within(u8, (0, 1)),
        level=within(i8, range(1, 20)), pack_data_bytes=within(u32, range(1 << 16, (1 << 29) + 1)),
        pack_meta_bytes=within(u32, range(1 << 16, (1 << 29) + 1)),
        padding=within(u8, (0, 1)), put_if_absent=boolean, label=text),
    "session": record(id=fixed(16), kind=within(u8, range(6)), started_ms=u64, lease_s=u32, host=text, boot=fixed(16),
                      process=u32, program=text),
    "mark": record(cycle=u64, by=fixed(16), created_ms=u64, packs=list_of(fixed(32)), roots=list_of(fixed(16)),
                   expired=list_of(fixed(16))),
    "pending": record(cycle=u64, sessions=list_of(fixed(16))),
    "plan": record(cycle=u64, mark_digest=fixed(32), delete=list_of(fixed(32)), rescued=list_of(fixed(32))),
    "done": record(cycle=u64, plan_digest=fixed(32), freed_bytes=u64, retained=list_of(fixed(32))),
    "tombstone": record(session=fixed(16), cycle=u64, by=fixed(16), at_ms=u64),
    "forgotten": record(snapshot=fixed(16), at_ms=u64, purge_after_ms=u64, reason=text, by=text),
    "damaged": record(pack=fixed(32), chunks=list_of(fixed(32)), at_ms=u64),
    "snapshot": record(
        id=fixed(16), series=fixed(16), sequence=u64, lineage=lineage, flags=within(u32, range(8)),
        origin=option(fixed(16)), parent_digest=fixed(32), config_generation=u64,
        keyring_generation=u64, start_ns=i64, end_ns=i64,
        zone_minutes=within(i16, range(-1439, 1440)), host=text, user=text, uid=u32, gid=u32,
        paths=list_of(count_bytes), excludes=list_of(text), tags=list_of(text), program=text,
        tree=option(fixed(32)), entries=u64, bytes=u64,
        **{name: u64 for name in "files_new files_changed files_unmodified directories_new directories_changed "
           "directories_unmodified data_chunks tree_chunks added_bytes stored_bytes read_bytes processed_files "
           "processed_bytes problems".split()}),
}


# Keyring, config, session, snapshot

def keyring(data):
    found = payload("keyring", data, 1 << 20)
    need(found["epochs"], "keyring: no epoch")
    ascends((epoch["epoch"] for epoch in found["epochs"]), "epochs")
    for epoch in found["epochs"]:
        ascends((purpose for purpose, _ in epoch["keys"]), "purposes")
    slots = [slot["slot"] for slot in found["slots"]]
    need(len(set(slots)) == len(slots), "keyring: a slot twice")
    need(all(len(slot["label"].encode()) <= 214 for slot in found["slots"]), "keyring: a longer label")
    return found


GC_OWNER = 0x8003


def config(data):
    found = payload("config", data, 1 << 16, (GC_OWNER,))
    owner = dict(found["extensions"]).get(GC_OWNER)
    need((owner is None) == bool(found["put_if_absent"]) and (owner is None or len(owner) == 16), "config: an owner")
    need(found["generation"] and found["min_bytes"] <= found["average_bytes"] <= found["max_bytes"], "config: sizes")
    return found


def session(data):
    return payload("session", data, 1 << 16)


def step(what, data):
    """A step of a cycle: mark, pending, plan or done."""
    found = payload(what, data, 64 << 20)
    need(found["cycle"], f"{what}: cycles count from 1")
    for field in ("packs", "roots", "expired", "sessions", "delete", "rescued", "retained"):
        ascends(found.get(field, []), f"{what}: {field}")
    need(not set(found.get("delete", [])) & set(found.get("rescued", [])), "plan: a pack both deleted and rescued")
    return found


def tombstone(data):
    return payload("tombstone", data, 1 << 16)


def forgotten(data):
    return payload("forgotten", data, 1 << 16)


def damaged(data):
    found = payload("damaged", data, 64 << 20)
    ascends(found["chunks"], "damaged")
    return found


def snapshot(data):
    found = payload("snapshot", data, 1 << 20)
    need((found["tree"] is None) == (found["entries"] == 0), "snapshot: a tree, or entries, without the other")
    return found


class Keys:
    """What a keyring gives."""

    def __init__(self, ring):
        self.epochs = {epoch["epoch"]: dict(epoch["keys"]) for epoch in ring["epochs"]}
        self.secret = ring["root_secret"]
        self.of_ids = [DK("id " + kind, self.secret) for kind in ("data", "tree", "list", "xattr")]
        self.split, self.series = DK("tree split", self.secret), DK("series", self.secret)

    def purpose_key(self, data, kind):
        epoch = header(data, kind)["epoch"]
        purpose = PURPOSES.get(kind, kind)
        need(purpose in self.epochs.get(epoch, {}), f"no key for objects of type {kind} in epoch {epoch}")
        return self.epochs[epoch][purpose]

    def box(self, name, data):
        kind = STAGES[name.split(".")[1]] if name.startswith("gc/") else TYPES[name.split("/")[0]]
        # A session's name among the snapshots may be taken by a tombstone.
        kind = 14 if kind == 4 and data[4:5] == b"\x0e" else kind
        return open_box(name, data, self.purpose_key(data, kind), kind)


# Chunks and their ids

DATA, TREE, LIST, XATTR = range(4)


# Packs and frames

Frame = collections.namedtuple("Frame", "offset stored raw codec first")
Chunk = collections.namedtuple("Chunk", "frame id offset length kind")


def trailer(data, length):
    sealed, zero, whole, magic = struct.unpack("<IIQ8s", data)
    need(zero == 0 and magic == b"RCO1END1" and whole == length, "trailer")
    need(24 < sealed <= 64 << 20 and (sealed - 24) % 4096 == 0 and sealed + 104 <= length, "trailer: a length")
    return sealed


def footer(data, kinds, offset):
    """The writer, the frames and the chunks; offset is the footer's own."""
    c = Cursor(data, "footer")
    writer, n, m = c.take(16), c.number(4), c.number(4)
    c.zeros(8)
    end = c.number(8)
    need(1 <= n <= 65_535 and n <= m <= 1 << 20 and 40 + 20 * n + 44 * m <= len(data), "footer: counts")
    frames = []
    for _ in range(n):
        frames.append(Frame(c.number(4), c.number(4), c.number(4), c.number(1), (c.zeros(3), c.number(4))[1]))
    at = 80
    for frame in frames:
        need(frame.offset == at and 24 < frame.stored, "the place of a frame")
        need(0 < frame.raw <= 16 << 20 and frame.codec <= 1, "a frame record")
        at += frame.stored
    need(at == end <= offset and frames[0].first == 0 and frames[-1].first < m, "footer: the end of its frames")
    ascends((frame.first for frame in frames), "first chunks")
    chunks, number, last = [], -1, 0
    for i in range(m):
        if number + 1 < n and frames[number + 1].first == i:
            number, last = number + 1, 0
        chunk = Chunk(number, c.take(32), c.number(4), c.number(4), c.number(1))
        c.zeros(3)
        need(chunk.kind in kinds and chunk.length and last <= chunk.offset, "a chunk record")
        last = chunk.offset + chunk.length
        need(last <= frames[number].raw, "a chunk beyond its frame")
        chunks.append(chunk)
    need(len(data) == (c.at + 4095) // 4096 * 4096, "footer: its length")
    c.zeros(len(data) - c.at)
    return writer, frames, chunks


def open_frame(keys, number, frame, stored):
    associated = keys.header + struct.pack("<IBxxx", frame.raw, frame.codec)
    plaintext = keys.open(1, number, associated, stored)
    if frame.codec == 1:
        try:
            about = zstandard.get_frame_parameters(plaintext)
            need(about.content_size == frame.raw, "a frame of another length")
            need(not about.dict_id and not about.has_checksum, "a frame of another make")
            plaintext = zstandard.ZstdDecompressor().decompress(plaintext, frame.raw, allow_extra_data=False)
        except zstandard.ZstdError as problem:
            raise Damage(f"zstd: {problem}") from None
    need(len(plaintext) == frame.raw, "a frame of another length")
    return plaintext


class Pack:
    """A pack or an index object: a name, its keys, its footer, and bytes from a function (offset, length)."""

    def __init__(self, name, length, read, keys):
        self.name, self.length, self.read = name, length, read
        need(204 < length <= 1 << 30, "a length")
        kind = next(kind for prefix, kind in TYPES.items() if name.startswith(prefix))
        self.keys = ObjectKeys(keys.purpose_key(read(0, 80), kind), read(0, 80))
        sealed = trailer(read(length - 24, 24), length)
        self.footer_offset = length - 24 - sealed
        associated = self.keys.header + struct.pack("<QQ", self.footer_offset, length)
        plaintext = self.keys.open(2, 0, associated, read(self.footer_offset, sealed))
        kinds = {1: (DATA,), 2: (TREE, LIST, XATTR), 3: (DATA,)}[kind]
        self.writer, self.frames, self.chunks = footer(plaintext, kinds, self.footer_offset)

    def frame(self, number):
        frame = self.frames[number]
        return open_frame(self.keys, number, frame, self.read(frame.offset, frame.stored))

    def prove_padding(self):
        """The length and the bytes that a writer pads with."""
        end = self.frames[-1].offset + self.frames[-1].stored
        bare = self.length - (self.footer_offset - end)
        if bare < 4 << 20:
            part = int.from_bytes(KH(self.keys.padding_seed, b"step")[:8], "little") * padme_step(bare) >> 64
            padded = padme(bare + part)
        else:
            padded = (bare + 65_535) // 65_536 * 65_536
        need(self.length == padded, f"padded to {self.length}, not {padded}")
        padding = KH(self.keys.padding_seed, b"pad", padded - bare)
        need(self.read(end, padded - bare) == padding, "padding of other bytes")


# Index objects

def index_block(data):
    """The pack rows, the frame rows, and the chunks with their rows."""
    need(len(data) <= 1 << 20, "an index block that is too long")
    c = Cursor(data, "index block")
    n, p, f, bases = (c.number(4) for _ in range(4))
    need(bases == 0 and p <= 65_535 and f <= 65_535, "index block: counts")
    need(len(data) == 16 + 60 * p + 24 * f + 43 * n, "index block: its length")
    packs, frames = [], []
    for _ in range(p):
        packs.append((c.take(32), c.number(4), c.number(4), c.take(16), within(u8, (1, 2))(c)))
        c.zeros(3)
    for _ in range(f):
        row = c.number(2)
        c.zeros(2)
        ordinal, offset, stored, raw, codec = (c.number(size) for size in (4, 4, 4, 4, 1))
        c.zeros(3)
        need(row < p and 0 < raw <= 16 << 20 and codec <= 1 and ordinal < 65_535, "a frame row")
        need(80 <= offset and 24 < stored and offset + stored <= packs[row][1], "a frame row beyond its pack")
        if frames and frames[-1][0] == row:
            need(frames[-1][2].offset + frames[-1][2].stored <= offset, "frames that overlap")
        frames.append((row, ordinal, Frame(offset, stored, raw, codec, None)))
    ascends((frame[:2] for frame in frames), "frame rows")
    columns = [[c.number(size) if size < 32 else c.take(32) for _ in range(n)] for size in (32, 2, 4, 4, 1)]
    chunks = [Chunk(frame, *rest) for frame, *rest in zip(columns[1], columns[0], *columns[2:])]
    need(all(left.id <= right.id for left, right in zip(chunks, chunks[1:])), "chunks of a block do not ascend")
    for chunk in chunks:
        need(chunk.frame < f and chunk.length and chunk.offset + chunk.length <= frames[chunk.frame][2].raw, "an entry")
        kind = packs[frames[chunk.frame][0]][4]
        need(chunk.kind in {1: (DATA,), 2: (TREE, LIST, XATTR)}[kind], "an entry of a kind that its pack cannot hold")
    return packs, frames, chunks
