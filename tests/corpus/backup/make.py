#!/usr/bin/python3
"""Writes the backups of this folder: ok-* must be taken by the daemon and by the library, bad-* refused by both. Written
from consulcfg-image(5)."""

import pathlib
import runpy
import struct

import xxhash

folder = pathlib.Path(__file__).parent
images = runpy.run_path(str(folder.parent / "image/make.py"))
image, IMAGES = images["image"], images["IMAGES"]

NAMES = (b"billing", b"consul", b"dc1", b"", b"", b"config/billing/")
LAYERS = NAMES[:5] + (b"config/defaults/", b"config/site/", b"config/billing/")
PINS = (b"billing", b"pins", b"", b"", b"", b"")
MAGIC = b"CCFGBAK\n"
FOOTER = 320


def joined(names):
    return b"".join(name + b"\0" for name in names)


def footer_of(image_, names, sizes=None, major=1, minor=0, magic=MAGIC, extra=b"", size=None, image_hash=None):
    """The footer but for its hash; `extra` is what a later minor would put in front."""
    image_size, names_size = sizes or (len(image_), len(names))
    hash_ = xxhash.xxh3_64_intdigest(image_) if image_hash is None else image_hash
    data = struct.pack("<9Q16s", image_size, hash_, names_size, 1700000000000001, 42, 0, 1700000000000000, 1700000000000000,
                       5000000, bytes(range(16)))
    data += struct.pack("<16Q80x", *range(1, 17))
    data += struct.pack("<IHH", FOOTER + len(extra) if size is None else size, major, minor)
    return extra + data, magic


def backup(image_, names=NAMES, **other):
    names = names if isinstance(names, bytes) else joined(names)
    footer, magic = footer_of(image_, names, **other)
    hash_ = xxhash.xxh3_64_intdigest(footer, xxhash.xxh3_64_intdigest(names, 0))
    return image_ + names + footer + struct.pack("<Q", hash_) + magic


def note(value=b"", until=0, by=b"root", reason=b"on call"):
    """A value of the pins: who, why, until when, and what is overridden."""
    return struct.pack("<QQ", 1700000000000000, until) + by + b"\0" + reason + b"\0" + value


def flipped(data, off):
    changed = bytearray(data)
    changed[off] ^= 1
    return bytes(changed)


ONE = IMAGES["ok-one"]
GOOD = backup(ONE)
FILES = {
    "ok-one": GOOD,
    "ok-empty": backup(IMAGES["ok-empty"]),
    "ok-many-of-three-layers": backup(IMAGES["ok-many"], LAYERS),
    "ok-flags": backup(IMAGES["ok-flags"]),
    "ok-sixteen-layers": backup(ONE, NAMES[:5] + tuple(b"config/%d/" % i for i in range(16))),
    "ok-later-minor": backup(ONE, minor=7),
    "ok-longer-footer-of-a-later-minor": backup(ONE, minor=7, extra=b"later" * 8),
    "ok-pins": backup(image([(b"f", note()), (b"odb/url", note(b"postgres://spare", 1800000000000000))]), PINS),
    "ok-pins-that-say-nothing": backup(image([(b"f", b""), (b"odb/url", b"x"), (b"z", note())]), PINS),
    "bad-nothing": b"",
    "bad-image-alone": ONE,
    "bad-footer-alone": GOOD[-FOOTER:],
    "bad-cut": GOOD[:-1],
    "bad-cut-in-front": GOOD[8:],
    "bad-cut-in-the-middle": GOOD[:len(ONE) // 2] + GOOD[len(ONE):],
    "bad-longer": GOOD + b"\0",
    "bad-zeros-for-a-block": GOOD[:128] + b"\0" * (len(ONE) - 128) + GOOD[len(ONE):],
    "bad-zeros": b"\0" * len(GOOD),
    "bad-bit-in-image": flipped(GOOD, 150),
    "bad-bit-in-names": flipped(GOOD, len(ONE) + 2),
    "bad-bit-in-generation": flipped(GOOD, len(GOOD) - FOOTER + 24),
    "bad-bit-in-unused": flipped(GOOD, len(GOOD) - FOOTER + 250),
    "bad-bit-in-hash": flipped(GOOD, len(GOOD) - 16),
    "bad-magic": backup(ONE, magic=b"CCFGBAK\0"),
    "bad-major": backup(ONE, major=2),
    "bad-image-hash": backup(ONE, image_hash=0),
    "bad-image-size-0": backup(ONE, sizes=(0, len(joined(NAMES)))),
    "bad-image-size-highest": backup(ONE, sizes=(0xFFFFFFFFFFFFFFFF, len(joined(NAMES)))),
    "bad-names-size-highest": backup(ONE, sizes=(len(ONE), 0xFFFFFFFFFFFFFFFF)),
    "bad-sizes-that-wrap": backup(ONE, sizes=(len(ONE) + 1, len(joined(NAMES)) - 1)),
    "bad-footer-size-0": backup(ONE, size=0),
    "bad-footer-size-highest": backup(ONE, size=0xFFFFFFFF),
    "bad-footer-size-short": backup(ONE, size=FOOTER - 1),
    "bad-footer-size-into-names": backup(ONE, size=FOOTER + 8),
    "bad-no-names": backup(ONE, b""),
    "bad-names-no-end": backup(ONE, joined(NAMES)[:-1] + b"/"),
    "bad-names-too-few": backup(ONE, NAMES[:5]),
    "bad-names-too-many": backup(ONE, NAMES[:5] + tuple(b"config/%d/" % i for i in range(17))),
    "bad-of-another-service": backup(ONE, (b"billin",) + NAMES[1:]),
    "bad-no-image": backup(b"\0" * len(ONE)),
    "bad-image-of-another-major": backup(IMAGES["bad-major"]),
    "bad-image-whose-size-lies": backup(IMAGES["bad-size"]),
    "bad-image-whose-records-are-more": backup(images["field"](IMAGES["ok-many"], "n_entries", 1)),
    "bad-image-whose-records-are-fewer": backup(images["field"](IMAGES["ok-many"], "n_entries", 101)),
    "bad-image-whose-order-is-wrong": backup(IMAGES["bad-order"]),
    "bad-image-whose-keys-come-twice": backup(IMAGES["bad-twice"]),
    "bad-image-below-a-header": backup(ONE[:64]),
}

if __name__ == "__main__":
    for old in folder.glob("*.bin"):
        old.unlink()
    for title, data in FILES.items():
        (folder / f"{title}.bin").write_bytes(data)
