#!/usr/bin/python3
"""Writes the images of this folder: ok-* must be taken, bad-* found out by whoever follows every offset. Written from
consulcfg-image(5), not from the daemon's own writer, to whose bytes the ok-* are compared."""

import pathlib
import struct

import xxhash

MAGIC = b"CCFGIMG\n"
FIELDS = {  # of the header: offset and format
    "magic": (0, "8s"), "major": (8, "H"), "minor": (10, "H"), "header_size": (12, "I"), "size": (16, "Q"),
    "n_entries": (24, "Q"), "digest": (32, "Q"), "seed": (40, "Q"), "n_slots": (48, "I"), "max_probe": (52, "I"),
    "n_samples": (56, "I"), "slots_off": (64, "Q"), "samples_off": (72, "Q"), "records_off": (80, "Q"),
}


def aligned(data):
    return data + b"\0" * (-len(data) % 8)


def record(key, value, index=0, flags=0, layer=0):
    data = aligned(struct.pack("<QIHBB", index, len(value), len(key), layer, flags != 0) + key + b"\0" + value + b"\0")
    return data + struct.pack("<Q", flags) if flags else data


def digest_of(entries):
    digest = 0
    for key, value, *_ in entries:
        digest = xxhash.xxh3_64_intdigest(value, xxhash.xxh3_64_intdigest(key, digest))
    return digest


def index_of(keys, units, n_slots, n_all_slots, unit_bits):
    """The slots, and the longest walk."""
    slots, longest = [0] * n_all_slots, 0
    for key, unit in zip(keys, units):
        hash_ = xxhash.xxh3_64_intdigest(key, 0)
        home = at = (hash_ >> 32) * n_slots >> 32
        while slots[at]:
            at += 1
        slots[at] = (hash_ & 0xFFFFFFFF) >> unit_bits << unit_bits | unit
        longest = max(longest, at - home + 1)
    return slots, longest


def image(entries, is_in_order=True):
    """Of (key, value, index, flags, layer)."""
    entries = sorted(entries) if is_in_order else entries
    records = [record(*entry) for entry in entries]
    n = len(entries)
    n_slots = max(4 * n, 1)
    n_all_slots = (n_slots + min(max(n, 1), 256) + 1) // 2 * 2
    n_samples = (n + 7) // 8
    samples_off = 128 + 4 * n_all_slots
    records_off = (samples_off + 4 * n_samples + 7) // 8 * 8
    size = records_off + sum(map(len, records))
    units, at = [], records_off
    for data in records:
        units.append(at // 8)
        at += len(data)
    slots, longest = index_of([entry[0] for entry in entries], units, n_slots, n_all_slots, (size // 8).bit_length())
    header = struct.pack("<8sHHIQQQQIIIIQQQ40x", MAGIC, 1, 0, 128, size, n, digest_of(entries), 0, n_slots, longest,
                         n_samples, 0, 128, samples_off, records_off)
    numbers = struct.pack(f"<{n_all_slots + n_samples}I", *slots, *units[::8])
    return aligned(header + numbers) + b"".join(records)


def field(data, name, value):
    """The same with another number in its header."""
    off, kind = FIELDS[name]
    if callable(value):
        value = value(struct.unpack_from("<" + kind, data, off)[0])
    changed = bytearray(data)
    struct.pack_into("<" + kind, changed, off, value)
    return bytes(changed)


def at_records(data, off, patch):
    """The same with other bytes, counted from the first record."""
    off += struct.unpack_from("<Q", data, 80)[0]
    return data[:off] + patch + data[off + len(patch):]


ONE = image([(b"db/url", b"postgres://db.example", 7)])
MANY = image([(b"db/%03d" % i, b"value %d" % (i * i), i, 0, i % 3) for i in range(100)])
IMAGES = {
    "ok-empty": image([]),
    "ok-one": ONE,
    "ok-many": MANY,
    "ok-flags": image([(b"lock", b"", 9, 0x8000000000000001), (b"plain", b"x", 9)]),
    "ok-binary": image([(b"cert", bytes(range(256))), (b"empty", b""), (b"zero", b"\0")]),
    "ok-longest-key": image([(b"k" * 4096, b"x")]),
    "ok-keys-begin-alike": image([(b"a", b"1"), (b"a/b", b"2"), (b"a/b/c", b"3"), (b"a0", b"4"), ("ä".encode(), b"5")]),
    "ok-later-minor": field(ONE, "minor", 9),
    "bad-nothing": b"",
    "bad-half-a-header": ONE[:64],
    "bad-cut": ONE[:-8],
    "bad-longer": ONE + b"\0" * 8,
    "bad-magic": field(ONE, "magic", b"CCFGIMG\0"),
    "bad-major": field(ONE, "major", 2),
    "bad-header-size": field(ONE, "header_size", 127),
    "bad-size": field(ONE, "size", lambda size: size + 1),
    "bad-no-slots": field(ONE, "n_slots", 0),
    "bad-slots-above-end": field(ONE, "n_slots", 0xFFFFFFFF),
    "bad-probe-above-end": field(ONE, "max_probe", 0xFFFFFFFF),
    "bad-slots-in-header": field(ONE, "slots_off", 120),
    "bad-slots-unaligned": field(ONE, "slots_off", 132),
    "bad-slots-off-highest": field(ONE, "slots_off", 0xFFFFFFFFFFFFFFF8),
    "bad-samples-off-above-end": field(ONE, "samples_off", lambda _: len(ONE) + 8),
    "bad-n-samples-highest": field(ONE, "n_samples", 0xFFFFFFFF),
    "bad-records-off-unaligned": field(ONE, "records_off", lambda off: off + 4),
    "bad-records-off-above-end": field(ONE, "records_off", lambda _: len(ONE) + 8),
    "bad-n-entries-highest": field(ONE, "n_entries", 0xFFFFFFFFFFFFFFFF),
    "bad-one-entry-less": field(MANY, "n_entries", 99),
    "bad-end": field(ONE + b"\xff" * 8, "size", len(ONE) + 8),
    "bad-record-that-nobody-counts": field(ONE, "n_entries", 0),
    "bad-digest": field(ONE, "digest", lambda digest: digest ^ 1),
    "bad-seed": field(ONE, "seed", 0xFFFFFFFFFFFFFFFF),
    "bad-probe-too-short": field(MANY, "max_probe", 1),
    "bad-value": at_records(ONE, 16 + 7, b"q"),
    "bad-value-beyond-end": at_records(ONE, 8, struct.pack("<I", 0xFFFFFFFF)),
    "bad-value-a-byte-longer": at_records(ONE, 8, struct.pack("<I", 22)),
    "bad-key-beyond-end": at_records(ONE, 12, b"\xff\xff"),
    "bad-key-empty": at_records(ONE, 12, b"\0\0"),
    "bad-key-no-end": at_records(ONE, 16 + 6, b"/"),
    "bad-flags-beyond-end": at_records(ONE, 15, b"\1"),
    "bad-record-in-the-middle": at_records(MANY, 50 * 32 + 8, b"\xff\xff\xff\xff"),
    "bad-sample": MANY[:128 + 4 * 500] + b"\xff\xff\xff\xff" + MANY[128 + 4 * 500 + 4:],
    "bad-slot-of-another": MANY[:128] + b"\xff" * (4 * 500) + MANY[128 + 4 * 500:],
    "bad-slots-all-empty": MANY[:128] + b"\0" * (4 * 500) + MANY[128 + 4 * 500:],
    "bad-order": image([(b"b", b"1"), (b"a", b"2")], is_in_order=False),
    "bad-twice": image([(b"a", b"1"), (b"a", b"2")], is_in_order=False),
    "bad-key-with-nul": image([(b"a\0b", b"1")]),
    "bad-key-not-utf8": image([(b"a\xff", b"1")]),
    "bad-key-too-long": image([(b"k" * 4097, b"1")]),
}

if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent
    for old in folder.glob("*.bin"):
        old.unlink()
    for title, data in IMAGES.items():
        (folder / f"{title}.bin").write_bytes(data)
