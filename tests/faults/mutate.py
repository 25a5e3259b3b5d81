"""Breaks files in the ways that break parsers; the same (seed, number) always makes the same bytes. Used by test_hostile.py."""
import random

NUMBERS = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff]
ATOMS = [b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"stsz", b"stco", b"stsc", b"stts", b"ctts", b"stss", b"elst", b"mdat", b"moof", b"traf", b"trun",
         b"avcC", b"hvcC", b"av1C", b"esds", b"dref", b"udta", b"meta", b"keys", b"ilst", b"sidx", b"mvhd", b"tkhd", b"LIST", b"strf", b"strh", b"idx1", b"data",
         b"fmt ", b"COMM", b"SSND", b"IHDR", b"IDAT"]
IDS = [bytes.fromhex(x) for x in ("1a45dfa3", "18538067", "1549a966", "1654ae6b", "1f43b675", "1c53bb6b", "114d9b74", "1254c367", "ae", "a3", "a0", "63a2", "e0")]


def bit_flips(r, data, other):
    for _ in range(r.choice([1, 1, 2, 8, 64])):
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)


def header_flips(r, data, other):
    for _ in range(r.choice([1, 2, 4, 16])):
        data[r.randrange(min(len(data), 2048))] = r.randrange(256)


def run_of_bytes(r, data, other):
    at, n = r.randrange(len(data)), r.choice([1, 4, 32, 512])
    data[at:at + n] = r.choice([bytes(n), b"\xff" * n, r.randbytes(n)])


def truncation(r, data, other):
    del data[r.randrange(len(data)):]


def hole(r, data, other):
    at = r.randrange(len(data))
    del data[at:at + r.choice([1, 4, 188, 2000])]


def repetition(r, data, other):
    at, n = r.randrange(len(data)), r.choice([4, 64, 1024, 8192])
    data[at:at] = data[at:at + n] * r.choice([1, 2, 20])


def number(r, data, other):
    width = r.choice([1, 2, 4, 8])
    at = r.randrange(r.choice([len(data), min(len(data), 4096)]))
    data[at:at + width] = (r.choice(NUMBERS) & (1 << 8 * width) - 1).to_bytes(width, r.choice(["big", "little"]))


def places(data, names):
    return [(n, i) for n in names for i in [data.find(n)] if i >= 0]


def atom_size(r, data, other):
    found = places(data, ATOMS)
    if not found:
        return number(r, data, other)
    name, at = r.choice(found)
    riff = data[:4] == b"RIFF"
    at += 4 if riff else -4
    if at >= 0:
        data[at:at + 4] = (r.choice(NUMBERS) if r.random() < 0.6 else r.randrange(1 << 20)).to_bytes(4, "little" if riff else "big")


def ebml_size(r, data, other):
    found = places(data, IDS) if data[:4] == IDS[0] else []
    if not found:
        return atom_size(r, data, other)
    name, at = r.choice(found)
    at += len(name)
    lie = r.choice([b"\xff", b"\x80", b"\x01" + b"\xff" * 7, b"\x01" + r.randbytes(7), b"\x10" + r.randbytes(3), bytes([r.randrange(256)])])
    data[at:at + len(lie)] = lie


def entries(r, data, other):
    """The fields behind an atom's name: versions, counts, table entries."""
    found = places(data, ATOMS)
    if not found:
        return header_flips(r, data, other)
    at = r.choice(found)[1] + 4 + 4 * r.randrange(8)
    data[at:at + 4] = r.choice(NUMBERS).to_bytes(4, "big")


def splice(r, data, other):
    data[r.randrange(len(data)):] = other[r.randrange(len(other) or 1):]


def graft(r, data, other):
    at, start = r.randrange(len(data)), r.randrange(len(other) or 1)
    data[at:at] = other[start:start + r.choice([16, 256, 4096])]


KINDS = [bit_flips, header_flips, run_of_bytes, truncation, hole, repetition, number, atom_size, ebml_size, entries, splice, graft]


def mutate(seeds, seed, n):
    """Mutation n: (index of its seed file, its bytes). seeds: the bytes of the seed files."""
    r = random.Random(f"{seed}:{n}")
    index = n % len(seeds)
    data = bytearray(seeds[index])
    other = seeds[r.randrange(len(seeds))]
    for _ in range(r.choice([1, 1, 1, 2, 3, 6])):
        if data:
            r.choice(KINDS)(r, data, other)
    return index, bytes(data[:2 << 20])
