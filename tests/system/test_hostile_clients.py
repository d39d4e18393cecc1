"""Clients that break the protocol or hold on to the daemon: they lose, nobody else does."""

import os
import socket
import struct
import time

import pytest

from support import ROOT
from support.process import wait_until

HELLO, OPEN, GET = 1, 2, 4
BAD_REQUEST = 4
LIMIT_FRAME = 64 << 10


def frame(op, payload, tag=1, length=None):
    return struct.pack("<IHHI", len(payload) if length is None else length, op, 0, tag) + payload


HELLO_FRAME = frame(HELLO, struct.pack("<HHHH", 1, 1, 1, 0))


def get_frame(service, key, tag=2):
    return frame(GET, bytes([len(service)]) + service.encode() + key.encode(), tag)


class Client:
    """A connection that sends what it likes."""

    def __init__(self, running):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(15)
        self.socket.connect(os.fspath(running.socket))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)
        return self

    def until_closed(self):
        """Everything the daemon sends before it closes."""
        data = b""
        while True:
            try:
                part = self.socket.recv(65536)
            except ConnectionResetError:
                return data
            if not part:
                return data
            data += part

    def reply(self):
        """The next frame: (op, status, tag, payload)."""
        length, op, status, tag = struct.unpack("<IHHI", self._exactly(12))
        return op, status, tag, self._exactly(length)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, "the daemon closed the connection"
            data += part
        return data


@pytest.fixture
def running(daemon, tree, service_name, prefix):
    """A daemon with a=1, and an honest watch that must live through the test."""
    tree.put(prefix + "a", "1")
    made = daemon(source=tree.source)
    watcher = made.watch(service_name)
    yield made
    tree.put(prefix + "a", "2")
    watcher.wait_output(b"a\t2\n", 5)


def replies(data):
    """Frames of a byte string: [(op, status)]"""
    found = []
    while len(data) >= 12:
        length, op, status, _ = struct.unpack("<IHHI", data[:12])
        found.append((op, status))
        data = data[12 + length:]
    return found


MALFORMED = {
    "name beyond the end": frame(GET, b"\xc8billing"),
    "empty get": frame(GET, b""),
    "oversized": frame(GET, b"\x07billingk", length=LIMIT_FRAME + 1),
    "of 4 GiB": frame(GET, b"", length=2 ** 32 - 1),
    "status in a request": struct.pack("<IHHI", 0, GET, 7, 1),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_or_oversized_frame_ends_only_its_connection(running, service_name, what):
    with Client(running) as bad, Client(running) as good:
        good.send(HELLO_FRAME)
        assert good.reply()[:2] == (HELLO, 0)
        found = replies(bad.send(HELLO_FRAME + MALFORMED[what]).until_closed())
        assert found[0] == (HELLO, 0) and found[1:] in ([], [(GET, BAD_REQUEST)]), found
        op, status, _, payload = good.send(get_frame(service_name, "a")).reply()
        assert (op, status, payload[8:]) == (GET, 0, b"1")
    assert running.get(service_name, "a") == "1"


@pytest.mark.parametrize("path", sorted((ROOT / "tests/corpus/wire").glob("bad-*.bin")), ids=lambda path: path.stem)
def test_frames_of_the_corpus_hurt_nobody(running, service_name, path):
    with Client(running) as bad:
        bad.send(HELLO_FRAME + path.read_bytes())
        bad.socket.shutdown(socket.SHUT_WR)
        assert replies(bad.until_closed())[0] == (HELLO, 0)
    assert running.get(service_name, "a") == "1"


def test_frame_truncated_at_any_byte_is_dropped(running, service_name):
    whole = HELLO_FRAME + get_frame(service_name, "a")
    for size in range(len(whole)):
        with Client(running) as bad:
            bad.send(whole[:size])
            bad.socket.shutdown(socket.SHUT_WR)
            assert replies(bad.until_closed()) == [(HELLO, 0)] * (size >= len(HELLO_FRAME))
    assert running.get(service_name, "a") == "1"


def test_client_that_says_nothing_is_ended_and_holds_up_nobody(running, service_name):
    before = len(running.open_fds())
    start = time.monotonic()
    clients = [Client(running) for _ in range(50)]
    assert running.get(service_name, "a") == "1"
    assert all(client.until_closed() == b"" for client in clients)
    assert 4 <= time.monotonic() - start < 15
    for client in clients:
        client.socket.close()
    wait_until(lambda: len(running.open_fds()) <= before, 5, "their descriptors to be free")


def test_client_that_never_reads_is_not_read_from_and_holds_up_nobody(running, tree, service_name, prefix):
    tree.put(prefix + "big", "x" * 10_000)
    running.wait_value(service_name, "big", "x" * 10_000, 5)
    with Client(running) as greedy:
        greedy.send(HELLO_FRAME)
        greedy.socket.setblocking(False)
        wanted, sent = get_frame(service_name, "big") * 2000, 0
        full_since = time.monotonic()
        while time.monotonic() - full_since < 0.5:  # until nothing is taken any more
            try:
                sent += greedy.socket.send(wanted[sent % len(wanted):])
                full_since = time.monotonic()
                assert sent < 1 << 20, "the daemon reads on although nobody takes its replies"
            except BlockingIOError:
                time.sleep(0.01)
        start = time.monotonic()
        for _ in range(5):
            assert running.get(service_name, "a") == "1"
        assert time.monotonic() - start < 5
