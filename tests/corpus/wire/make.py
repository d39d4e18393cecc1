#!/usr/bin/env python3
"""Writes the request frames of this folder: one frame per file; ok-* must be taken, bad-* refused."""

import pathlib
import struct

HELLO, OPEN, CLOSE, GET, MGET, LIST, WATCH, STATUS, FETCH, GENFILE, ACCEPT, RESYNC, EXPLAIN = range(1, 14)
HISTORY, RECALL, PIN, PREVIEW = range(16, 20)
FOREVER = 0xFFFFFFFF


def frame(op, payload=b"", length=None, status=0, tag=7):
    return struct.pack("<IHHI", len(payload) if length is None else length, op, status, tag) + payload


def name(text):
    return bytes([len(text)]) + text


def keys(*texts):
    return b"".join(struct.pack("<H", len(text)) + text for text in texts)


def pin(what, key=b"", value=b"", reason=b"on call", service=b"billing", duration=0):
    return struct.pack("<BQ", what, duration) + name(service) + name(reason) + keys(key) + value


FRAMES = {
    "ok-hello": frame(HELLO, struct.pack("<HHHH", 1, 1, 1, 0)),
    "ok-hello-of-a-later-minor": frame(HELLO, struct.pack("<HHHHI", 1, 3, 2, 0, 99)),
    "ok-open": frame(OPEN, struct.pack("<I", 5000) + b"billing"),
    "ok-open-forever": frame(OPEN, struct.pack("<I", FOREVER) + b"billing"),
    "ok-open-without-name": frame(OPEN, struct.pack("<I", 0)),  # the shape is fine, the name is not
    "ok-close": frame(CLOSE, b"billing"),
    "ok-close-empty": frame(CLOSE),
    "ok-get": frame(GET, name(b"billing") + b"db/url"),
    "ok-get-binary-key": frame(GET, name(b"billing") + b"\x00\xff\n"),
    "ok-get-empty-key": frame(GET, name(b"billing")),
    "ok-get-longest": frame(GET, name(b"n" * 64) + b"k" * 4096),
    "ok-get-name-of-255": frame(GET, name(b"n" * 255) + b"k"),
    "ok-mget": frame(MGET, name(b"billing") + keys(b"db/url", b"cache_ttl", b"")),
    "ok-mget-no-keys": frame(MGET, name(b"billing")),
    "ok-list": frame(LIST, struct.pack("<QQ", 0, 0) + name(b"billing") + b"db/"),
    "ok-list-next-page": frame(LIST, struct.pack("<QQ", 1700000000000001, 4096) + name(b"billing")),
    "ok-watch": frame(WATCH, struct.pack("<Q", 1700000000000001) + b"billing"),
    "ok-explain": frame(EXPLAIN, name(b"billing") + b"db/url"),
    "ok-status-daemon": frame(STATUS, b"\x00"),
    "ok-status-services": frame(STATUS, b"\x01billing"),
    "ok-status-unknown-kind": frame(STATUS, b"\xff"),
    "ok-accept": frame(ACCEPT, struct.pack("<BQ", 0, 0) + b"billing"),
    "ok-accept-digest": frame(ACCEPT, struct.pack("<BQ", 1, 0xD74D7614277AD193) + b"billing"),
    "ok-resync": frame(RESYNC, b"billing"),
    "ok-resync-all": frame(RESYNC),
    "ok-fetch": frame(FETCH, struct.pack("<QI", 1700000000000001, 5000) + b"billing"),
    "ok-genfile": frame(GENFILE),
    "ok-genfile-of-a-later-minor": frame(GENFILE, b"more"),
    "ok-history": frame(HISTORY, b"billing"),
    "ok-recall": frame(RECALL, struct.pack("<Q", 1700000000000001) + b"billing"),
    "ok-pin-freeze": frame(PIN, pin(1, b"previous", duration=3600000000)),
    "ok-pin-thaw": frame(PIN, pin(2)),
    "ok-pin-override": frame(PIN, pin(3, b"db/url", b"postgres://spare")),
    "ok-pin-clear": frame(PIN, pin(4, b"db/url")),
    "ok-pin-forget": frame(PIN, pin(5)),
    "ok-preview": frame(PREVIEW, b"billing"),
    "ok-largest": frame(GET, name(b"s") + b"k" * (65536 - 2)),
    "ok-highest-tag": frame(CLOSE, b"billing", tag=0xFFFFFFFF),
    "bad-empty": b"",
    "bad-half-a-header": frame(CLOSE)[:7],
    "bad-length-beyond-limit": frame(GET, name(b"s") + b"k", length=65537),
    "bad-length-highest": frame(GET, name(b"s") + b"k", length=0xFFFFFFFF),
    "bad-length-above-payload": frame(GET, name(b"s") + b"k", length=4),
    "bad-length-below-payload": frame(GET, name(b"s") + b"k", length=2),
    "bad-status-in-request": frame(CLOSE, b"billing", status=1),
    "bad-op-zero": frame(0),
    "bad-op-between": frame(EXPLAIN + 1, b"billing"),
    "bad-op-next": frame(PREVIEW + 1, b"billing"),
    "bad-op-highest": frame(0xFFFF),
    "bad-hello-short": frame(HELLO, b"\x01\x00\x01\x00\x01\x00\x00"),
    "bad-hello-empty": frame(HELLO),
    "bad-open-empty": frame(OPEN),
    "bad-open-half-timeout": frame(OPEN, b"\x01\x02\x03"),
    "bad-explain-empty": frame(EXPLAIN),
    "bad-explain-name-beyond-end": frame(EXPLAIN, b"\x08billing"),
    "bad-get-empty": frame(GET),
    "bad-get-name-beyond-end": frame(GET, b"\x08billing"),
    "bad-get-name-of-255-beyond-end": frame(GET, b"\xff" + b"n" * 254),
    "bad-mget-empty": frame(MGET),
    "bad-mget-name-beyond-end": frame(MGET, b"\x08billing"),
    "bad-mget-half-length": frame(MGET, name(b"billing") + keys(b"a") + b"\x01"),
    "bad-mget-key-beyond-end": frame(MGET, name(b"billing") + keys(b"a") + b"\x02\x00b"),
    "bad-mget-key-of-65535": frame(MGET, name(b"billing") + b"\xff\xff" + b"k" * 100),
    "bad-list-short": frame(LIST, b"\x00" * 15),
    "bad-list-no-name": frame(LIST, b"\x00" * 16),
    "bad-list-name-beyond-end": frame(LIST, b"\x00" * 16 + b"\x02s"),
    "bad-watch-short": frame(WATCH, b"\x00" * 7),
    "bad-status-empty": frame(STATUS),
    "bad-fetch-empty": frame(FETCH),
    "bad-fetch-half-timeout": frame(FETCH, b"\x00" * 11),
    "bad-recall-short": frame(RECALL, b"\x00" * 7),
    "bad-pin-empty": frame(PIN),
    "bad-pin-short": frame(PIN, b"\x01" + b"\x00" * 7),
    "bad-pin-name-beyond-end": frame(PIN, struct.pack("<BQ", 1, 0) + b"\x08billing"),
    "bad-pin-no-reason": frame(PIN, struct.pack("<BQ", 1, 0) + name(b"billing")),
    "bad-pin-reason-beyond-end": frame(PIN, struct.pack("<BQ", 1, 0) + name(b"billing") + b"\xff"),
    "bad-pin-key-beyond-end": frame(PIN, struct.pack("<BQ", 3, 0) + name(b"billing") + name(b"") + b"\x02\x00k"),
    "bad-accept-empty": frame(ACCEPT),
    "bad-accept-short": frame(ACCEPT, b"\x01" + b"\x00" * 7),
}

if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent
    for old in folder.glob("*.bin"):
        old.unlink()
    for title, data in FRAMES.items():
        (folder / f"{title}.bin").write_bytes(data)
