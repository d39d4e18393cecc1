"""consulcfg-image(5) is enough to read an image: a short reader, written from it, on what the real daemon hands out.
And consulcfg-protocol(7) is enough to get it: FETCH and GENFILE, with descriptors."""

import array
import base64
import contextlib
import importlib.machinery
import importlib.util
import json
import mmap
import os
import re
import socket
import struct
import time

import pytest

from support import ROOT
from support.process import run, wait_until

READER = ROOT / "tests/support/image-reader"
HELLO, GET, FETCH, GENFILE = 1, 4, 9, 10
OK, NO_DATA, LIMIT, KEEP = 0, 2, 6, 11
FOREVER = 0xffffffff
LIVE = 1


def load():
    """The reader as a module."""
    loader = importlib.machinery.SourceFileLoader("image_reader", str(READER))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


reader = load()


class Client:
    """Speaks the protocol as the page has it; descriptors go into a queue, in the order they come."""

    def __init__(self, path, service):
        self.service, self.fds, self.data, self.tag, self.held = service.encode(), [], b"", 0, None
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        assert self.call(HELLO, struct.pack("<HHHH", 1, 1, 1, 0))[1][4:6] == b"\1\0", "images of major 1"

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)

    def send(self, op, payload=b""):
        self.tag += 1
        frame = struct.pack("<IHHI", len(payload), op, 0, self.tag) + payload
        if self.held is None:
            self.socket.sendall(frame)
        else:
            self.held += frame
        return self.tag

    @contextlib.contextmanager
    def together(self):
        """The requests of the block go out in one piece: the daemon has all of them before it answers one."""
        self.held = b""
        yield
        frames, self.held = self.held, None
        self.socket.sendall(frames)

    def receive(self):
        """(tag, status, payload)"""
        while len(self.data) < 12 or len(self.data) < 12 + struct.unpack_from("<I", self.data)[0]:
            data, control, flags, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(2 * 4), socket.MSG_CMSG_CLOEXEC)
            assert data and not flags & socket.MSG_CTRUNC
            self.data += data
            for level, kind, payload in control:
                assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
                self.fds += array.array("i", payload)
        length, _, status, tag = struct.unpack_from("<IHHI", self.data)
        payload, self.data = self.data[12:12 + length], self.data[12 + length:]
        return tag, status, payload

    def call(self, op, payload=b""):
        """(status, payload) of a request that has the connection to itself."""
        tag = self.send(op, payload)
        got, *reply = self.receive()
        assert got == tag
        return reply

    def ask(self, generation, timeout_ms=0):
        return self.send(FETCH, struct.pack("<QI", generation, timeout_ms) + self.service)

    def fetch(self, generation=0, timeout_ms=0):
        """(status, fields of the reply or its text)"""
        self.ask(generation, timeout_ms)
        return self.fetched(self.receive())

    def fetched(self, reply):
        _, status, payload = reply
        return status, struct.unpack("<QQQQIIQII", payload) if status in (OK, KEEP) else payload.decode()

    def image(self, generation=0, timeout_ms=10_000):
        """(fields of the reply, the image)"""
        status, fields = self.fetch(generation, timeout_ms)
        assert status == OK, fields
        fd, = self.fds
        self.fds.clear()
        image = reader.open_descriptor(fd)
        os.close(fd)
        return fields, image


@pytest.fixture
def client():
    made = []

    def connect(*args):
        made.append(Client(*args))
        return made[-1]
    yield connect
    for one in made:
        one.close()


class Genfile:
    """The generation file as the page has it."""

    def __init__(self, fd):
        self.bytes = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        self.file = os.fstat(fd).st_dev, os.fstat(fd).st_ino
        magic, major, _, self.header_size, self.slot_size, self.n_slots = struct.unpack_from("=8sHHIII", self.bytes)
        assert (magic, major) == (b"CCFGGEN\n", 1)
        assert 64 <= self.header_size <= len(self.bytes) and self.slot_size >= 64
        assert self.header_size % 8 == self.slot_size % 8 == 0

    @classmethod
    def of(cls, client):
        assert client.call(GENFILE) == [OK, b""]
        fd, = client.fds
        client.fds.clear()
        with contextlib.closing(os.fdopen(fd, "rb")):
            return cls(fd)

    def slot(self, number):
        """(change, confirmed_at, index, state)"""
        at = self.header_size + number * self.slot_size
        assert number < self.n_slots and at + self.slot_size <= len(self.bytes)
        return struct.unpack_from("=QQQI", self.bytes, at)

    def is_alive(self):
        alive_at, alive_for = struct.unpack_from("=QQ", self.bytes, 24)
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) <= alive_at + alive_for


def test_the_reader_is_short():
    assert len(READER.read_text().splitlines()) < 120


def test_the_example_of_the_page_is_an_image():
    page = (ROOT / "man/consulcfg-image.5.scd").read_text()
    lines = re.findall(r"^[0-9a-f]{3}  ((?:[0-9a-f]{2} {0,2}){16})", page, re.MULTILINE)
    image = reader.Image(bytes.fromhex("".join(lines)))
    image.verify()
    assert list(image.walk()) == [[b"db/url", b"x", (0, 0, 0)]]
    assert image.get(b"db/url") == b"x" and image.get(b"db/ur") is None


KEYS = {
    "present": b"postgres://db1/billing",
    "empty": b"",
    "binary": bytes(range(256)) * 3,
    "nul": b"\0",
    "a": b"one byte of key",
    "ümlaut/é": "wörter".encode(),
    "large": bytes(i * 7 % 251 for i in range(1 << 20)),
    "long/" + "/".join(["k" * 200] * 12): b"a key of many blocks of the hash",
}


def test_keys_are_found(daemon, tree, service_name, prefix, client):
    for key, value in KEYS.items():
        tree.put(prefix + key, value)
    fields, image = client(daemon(source=tree.source).socket, service_name).image()
    for key, value in KEYS.items():
        assert image.get(key.encode()) == value
    for missing in ("absent", "presen", "present/", "b", "lon", "", "A", "\x7f"):
        assert image.get(missing.encode()) is None
    assert fields[1:3] == (image.digest, len(KEYS)) == (image.digest, image.n_entries)
    image.verify()


def test_prefixes_are_walked(daemon, tree, service_name, prefix, client):
    keys = [f"{group}/{i}" for group in ("a", "b", "bb", "c") for i in range(203)] + ["b!", "b0"]
    for key in keys:
        tree.put(prefix + key, key[::-1])
    _, image = client(daemon(source=tree.source).socket, service_name).image()
    for wanted in ("", "a", "a/", "b", "b/", "b/1", "bb/202", "c/99", "c/990", "0", "z", "bc"):
        expected = sorted(key for key in keys if key.startswith(wanted))
        assert [key.decode() for key, _, _ in image.walk(wanted.encode())] == expected, wanted
    assert all(value == key[::-1] for key, value, _ in image.walk())
    image.verify()


def test_a_service_without_keys(daemon, tree, service_name, client):
    fields, image = client(daemon(source=tree.source).socket, service_name).image()
    assert list(image.walk()) == [] and image.get(b"key") is None
    assert fields[1:3] == (image.digest, image.n_entries) == (0, 0)
    image.verify()


def test_flags_indexes_and_layers(daemon, double, service_name, client):
    double.put("config/common/low", b"common")
    double.put("config/common/both", b"common", flags=5)
    double.put(f"config/{service_name}/both", b"own")
    double.put(f"config/{service_name}/high", b"own", flags=(1 << 64) - 1)
    config = "[service *]\nlayers=config/common/ config/{service}/\n"
    running = daemon(source=f"consul:{double.url}", config=config)
    _, image = client(running.socket, service_name).image()
    found = {key.decode(): (value, *more) for key, value, more in image.walk()}
    indexes = {key: entry[1] for key, entry in found.items()}
    assert found == {
        "both": (b"own", indexes["both"], 0, 1),
        "high": (b"own", indexes["high"], (1 << 64) - 1, 1),
        "low": (b"common", indexes["low"], 0, 0),
    }
    assert indexes["low"] < indexes["both"] < indexes["high"]
    image.verify()


def test_the_program(daemon, tree, service_name, prefix, client):
    for key, value in KEYS.items():
        tree.put(prefix + key, value)
    asking = client(daemon(source=tree.source).socket, service_name)
    assert asking.fetch(timeout_ms=10_000)[0] == OK
    path = f"/proc/{os.getpid()}/fd/{asking.fds[0]}"
    done = run([READER, path, "list"])
    assert json.loads(done.stdout) == {key: base64.b64encode(value).decode() for key, value in KEYS.items()}
    assert run([READER, path, "get", "binary"]).stdout == KEYS["binary"]
    assert run([READER, path, "get", "none"]).returncode == 1
    assert run([READER, path, "verify"]).returncode == 0
    with open(os.memfd_create("unsealed", os.MFD_ALLOW_SEALING), "wb") as copy:
        copy.write(reader.open_descriptor(asking.fds[0]).data)
        copy.flush()
        with pytest.raises(reader.Bad, match="not sealed"):
            reader.open_descriptor(copy.fileno())


DAMAGE = {  # what the page says to check: (offset, bytes)
    "magic": (0, b"X"), "major": (8, b"\2\0"), "header_size": (12, b"\0\0\0\0"), "size": (16, b"\0" * 8),
    "n_slots": (48, b"\xff" * 4), "no slots": (48, b"\0" * 4), "max_probe": (52, b"\xff" * 4),
    "n_samples": (56, b"\xff" * 4), "n_entries": (24, b"\xff" * 8), "slots_off": (64, b"\0" * 8),
    "slots_off odd": (64, b"\x81"), "samples_off": (72, b"\xf8" + b"\xff" * 7), "records_off": (80, b"\xff" * 7),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_headers_are_refused(case, daemon, tree, service_name, prefix, client):
    tree.put(prefix + "key", b"value")
    _, image = client(daemon(source=tree.source).socket, service_name).image()
    data = bytearray(image.data)
    reader.Image(bytes(data)).verify()
    off, damage = DAMAGE[case]
    data[off:off + len(damage)] = damage
    with pytest.raises(reader.Bad):
        reader.Image(bytes(data))


def test_damage_behind_the_header_leads_nowhere(daemon, tree, service_name, prefix, client):
    keys = [f"key/{i}" for i in range(20)]
    for key in keys:
        tree.put(prefix + key, b"value")
    _, image = client(daemon(source=tree.source).socket, service_name).image()
    for at in range(128, len(image.data)):
        data = bytearray(image.data)
        data[at] ^= 0xff
        damaged = reader.Image(bytes(data))
        with contextlib.suppress(reader.Bad):
            assert len(list(damaged.walk())) <= len(keys)
        for key in keys:
            damaged.get(key.encode())


def test_changes_show_in_the_generation_file(daemon, tree, service_name, prefix, client):
    tree.put(prefix + "key", b"1")
    running = daemon(source=tree.source)
    asking = client(running.socket, service_name)
    genfile = Genfile.of(asking)
    (generation, *_, state, _, change, slot, _), image = asking.image()
    assert image.get(b"key") == b"1" and state == LIVE
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert genfile.slot(slot)[0] == change and genfile.slot(slot)[3] == LIVE and genfile.is_alive()
    assert now - 60 * 10**9 < genfile.slot(slot)[1] <= now

    status, fields = asking.fetch(generation)
    assert status == KEEP and fields[0] == generation and fields[6:8] == (change, slot) and not asking.fds
    start = time.monotonic()
    assert asking.fetch(generation, timeout_ms=50)[0] == KEEP and time.monotonic() - start >= 0.05

    tree.put(prefix + "key", b"2")
    wait_until(lambda: genfile.slot(slot)[0] != change, 10, "the change to show")
    fields, newer = asking.image(generation, timeout_ms=0)
    assert fields[0] > generation and newer.get(b"key") == b"2"
    assert image.get(b"key") == b"1", "what is mapped stays"

    asking.ask(fields[0], FOREVER)
    tree.put(prefix + "key", b"3")
    assert asking.fetched(asking.receive())[0] == OK


def test_a_restart_shows_in_the_generation_file(daemon, tree, service_name, prefix, client):
    tree.put(prefix + "key", b"1")
    running = daemon(source=tree.source)
    asking = client(running.socket, service_name)
    genfile = Genfile.of(asking)
    (generation, *_, change, slot, _), _ = asking.image()
    running.restart()
    assert genfile.slot(slot)[0] != change
    again = client(running.socket, service_name)
    assert Genfile.of(again).file == genfile.file, "the runtime directory keeps it"
    fields, _ = again.image()
    assert fields[0] >= generation, "the same contents may have the same number"


def test_no_data(daemon, service_name, tmp_path, client):
    asking = client(daemon(source=f"dir:{tmp_path / 'none'}").socket, service_name)
    assert asking.fetch()[0] == NO_DATA and not asking.fds
    assert asking.fetch(timeout_ms=30)[0] == NO_DATA
    folder = tmp_path / "none/config" / service_name
    asking.ask(0, FOREVER)
    folder.mkdir(parents=True)
    (folder / "key").write_text("here")
    assert asking.fetched(asking.receive())[0] == OK
    assert reader.open_descriptor(asking.fds[0]).get(b"key") == b"here"


def test_descriptors_that_are_not_taken_are_limited(daemon, tree, service_name, prefix, client):
    tree.put(prefix + "key", b"value")
    asking = client(daemon(source=tree.source).socket, service_name)
    assert asking.fetch(timeout_ms=10_000)[0] == OK
    with asking.together():
        tags = [asking.ask(0) for _ in range(2)] + [asking.send(GENFILE)]
        tags += [asking.send(GET, bytes([len(service_name)]) + service_name.encode() + b"key")]
    replies = [asking.receive() for _ in tags]
    assert [tag for tag, _, _ in replies] == tags, "none waits, so they come in order"
    assert replies[3][1] == OK and replies[3][2][8:] == b"value"
    assert [status for _, status, _ in replies[:3]] == [OK, OK, LIMIT]
    assert len(asking.fds) == 3, "two of these, and one of before"
    assert asking.fetch()[0] == OK, "after all was received"
