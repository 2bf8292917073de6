"""Parity objects by docs/format.md: their layout, and the code by its definition, with polynomials and no fast transform."""

from .structures import H, need

POLYNOMIAL = 0x1002D
BASIS = (0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012,
         0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E)


def parity(data):
    """The fields of a parity object, every byte of which is accounted for."""
    first = header(data[:64], data[64:])
    length = 96 + 16 * (len(first["data"]) + len(first["parity"]))
    shards, last = data[length:len(data) - length], data[len(data) - length:]
    need(len(data) >= 2 * length, "no second header")
    need(last == data[64:length] + data[:64], "the second header is another one")
    size = first["shard_length"]
    need(len(shards) == size * len(first["parity"]), "another count of shards")
    first["shards"] = [shards[at:at + size] for at in range(0, len(shards), size)]
    need([H(shard)[:16] for shard in first["shards"]] == first["parity"], "a shard has another hash")
    return first


def header(head, rest):
    need(len(head) == 64, "cut short")
    need(head[:8] == b"RCO1\x0c\0\0\0", "no header of a parity object")
    number = lambda start, end: int.from_bytes(head[start:end], "little")
    shard_length, parity_shards, length = number(8, 12), number(12, 14), number(16, 24)
    need(not any(head[14:16] + head[24:32]), "zeros that are none")
    need(0 < shard_length <= 65536 and shard_length % 64 == 0, "length of a shard")
    data_shards = -(-length // shard_length)
    need(0 < data_shards <= 16384 and 0 < parity_shards <= 16384, "count of shards")
    table = rest[:16 * (data_shards + parity_shards)]
    need(H(head + table) == rest[len(table):len(table) + 32], "the header's hash")
    hashes = [table[at:at + 16] for at in range(0, len(table), 16)]
    return {"pack": head[32:], "pack_length": length, "shard_length": shard_length,
            "data": hashes[:data_shards], "parity": hashes[data_shards:]}


def shards_of(pack, length):
    return [pack[at:at + length].ljust(length, b"\0") for at in range(0, len(pack), length)]


def encode(shards, count):
    """The shards of parity of these."""
    group = 1
    while group < count:
        group *= 2
    columns = [bytearray(len(shards[0])) for _ in range(count)]
    for point, column in enumerate(columns):
        for start in range(0, len(shards), group):
            weights = lagrange(range(group + start, group + start + group), point)
            for weight, shard in zip(weights, shards[start:start + group]):
                add(column, shard, weight)
    return [bytes(column) for column in columns]


def add(column, shard, weight):
    """Adds weight times shard: of each 64 bytes, 32 low bytes of numbers and then their 32 high bytes."""
    for block in range(0, len(shard), 64):
        for low in range(block, block + 32):
            product = multiply(weight, shard[low] | shard[low + 32] << 8)
            column[low] ^= product & 255
            column[low + 32] ^= product >> 8


def lagrange(points, x):
    """What the value at each point weighs in the value at x of the polynomial through all of them."""
    weights = []
    for point in points:
        weight = 1
        for other in points:
            if other != point:
                weight = multiply(weight, multiply(x ^ other, inverse(point ^ other)))
        weights.append(weight)
    return weights


def element(number):
    """The field's element that a number names: a sum of elements of the basis, one a bit."""
    found = 0
    for bit, base in enumerate(BASIS):
        if number >> bit & 1:
            found ^= base
    return found


NUMBERS = {element(number): number for number in range(65536)}


def product_of(left, right):
    found = 0
    while right:
        if right & 1:
            found ^= left
        left <<= 1
        if left >> 16:
            left ^= POLYNOMIAL
        right >>= 1
    return found


def multiply(left, right):
    return NUMBERS[product_of(element(left), element(right))]


def inverse(number):
    """Its power of 2^16 - 2."""
    found, base = 1, element(number)
    for bit in range(1, 16):
        base = product_of(base, base)
        found = product_of(found, base)
    return NUMBERS[found]


def verify(golden):
    """The vector, against the pack that its comment describes."""
    pack = bytes((i * i >> 3 if i % 3 == 0 else 64 + 7 * i) & 255 for i in range(300))
    found = parity(golden)
    need(found["pack"] == H(pack) and found["pack_length"] == 300, "vector parity: the pack")
    shards = shards_of(pack, found["shard_length"])
    need([H(shard)[:16] for shard in shards] == found["data"], "vector parity: hashes of the pack's shards")
    need(encode(shards, len(found["parity"])) == found["shards"], "vector parity: its shards")
