"""client/stub on the real daemon, and on one that sends what a daemon never sends."""

import re
import socket
import struct
import subprocess
import threading

import pytest

from support import ROOT
from support.daemon import build_directory
from support.process import Process, scratch, remove, wait_until


class Stub:
    """One handle of the stub in a program of its own, driven line by line."""

    def __init__(self, tmp_path, service, path, timeout_ms=5000):
        self.child = Process([build_directory() / "tests/stub/stub-client", service, path, str(timeout_ms)],
                             tmp_path, stdin=subprocess.PIPE)
        self.seen = 0
        self.opened = self.answer()[-1]

    def send(self, line):
        self.child.write(line.encode() + b"\n")

    def answer(self, deadline=20):
        text = self.child.wait_output(lambda data: data == b"done\n" or data.endswith(b"\ndone\n"), deadline,
                                      start=self.seen)
        self.seen += len(text)
        return text.decode().splitlines()[:-1]

    def ask(self, line):
        self.send(line)
        return self.answer()

    def get(self, key):
        result, *value = self.ask(f"get {key}")
        if not value:
            return result
        data = bytes.fromhex(value[0])
        assert result == f"ok {len(data) - 1}" and data[-1:] == b"\0"
        return data[:-1]

    def close(self):
        self.child.popen.stdin.close()
        assert self.child.wait() == 0, self.child.stderr


@pytest.fixture
def stub(tmp_path):
    def start(*args, **options):
        return Stub(tmp_path, *args, **options)
    return start


def test_the_stub_is_one_short_file():
    assert len((ROOT / "client/stub/consulcfg-stub.c").read_text().splitlines()) <= 400
    included = re.findall(r'#include "(.*)"', (ROOT / "client/stub/consulcfg-stub.c").read_text())
    assert included == ["consulcfg-stub.h"]


def test_get(daemon, tree, service_name, prefix, stub):
    blob = bytes(range(256)) * 5
    big = bytes(i * 7 % 251 for i in range(3 << 20))  # many reads of a socket, above a page of LIST
    for key, value in {"db/url": b"postgres://x", "blob": blob, "empty": b"", "big": big, "k" * 250: b"long"}.items():
        tree.put(prefix + key, value)
    client = stub(service_name, daemon(source=tree.source).socket)
    assert client.opened == "ok 0"
    assert client.get("db/url") == b"postgres://x"
    assert client.get("blob") == blob
    assert client.get("empty") == b""
    assert client.get("big") == big
    assert client.get("k" * 250) == b"long"
    assert client.get("none") == "error No such file or directory"
    assert client.ask("get") == ["error Invalid argument"], "an empty key"
    assert client.ask("get " + "x" * 4096) == ["error No such file or directory"]
    assert client.ask("get " + "x" * 4097) == ["error Invalid argument"]
    assert client.ask("get-4 db/url") == ["ok 12", b"pos\0".hex()]
    assert client.ask("get-0 db/url") == ["ok 12"]
    assert client.get("db/url") == b"postgres://x"
    client.close()


def test_list(daemon, tree, service_name, prefix, stub):
    expected = {f"many/{i:04d}": b"v" * (i % 40) for i in range(1000)}
    expected.update({f"big/{i}": b"b" * 700_000 for i in range(3)})  # a page each
    for key, value in expected.items():
        tree.put(prefix + key, value)
    client = stub(service_name, daemon(source=tree.source).socket)

    def lines(start):
        return [f"{key} {len(value)} {value[:15].hex()}" for key, value in sorted(expected.items())
                if key.startswith(start)]
    assert client.ask("list") == lines("") + ["ok 0"]
    assert client.ask("list big/") == lines("big/") + ["ok 0"]
    assert client.ask("list none") == ["ok 0"]
    assert client.ask("list-2 many/") == lines("many/")[:2] + ["ok 7"]
    assert client.get("many/0003") == b"vvv"
    client.close()


def test_changes(daemon, tree, service_name, prefix, stub):
    tree.put(prefix + "key", "1")
    client = stub(service_name, daemon(source=tree.source).socket)
    assert client.ask("wait 5000") == ["ok 0"], "the present generation"
    assert client.ask("wait 0") == ["error Connection timed out"]
    assert client.ask("wait 30") == ["error Connection timed out"]
    client.send("wait 20000")
    tree.put(prefix + "key", "2")
    assert client.answer() == ["ok 0"]
    assert client.get("key") == b"2"
    # A change that comes between two waits is not lost.
    assert client.ask("wait 0") == ["error Connection timed out"]
    tree.put(prefix + "key", "3")
    wait_until(lambda: client.get("key") == b"3", 10, "the change")
    assert client.ask("wait 5000") == ["ok 0"]
    assert client.ask("wait-from-0 5000") == ["ok 0"]
    assert client.ask("wait 0") == ["error Connection timed out"]
    assert client.ask("wait-from-0 5000") == ["ok 0"], "a WATCH was open"
    client.close()


def test_no_data(daemon, service_name, stub, tmp_path):
    running = daemon(source=f"dir:{tmp_path / 'none'}")
    client = stub(service_name, running.socket, timeout_ms=1500)
    assert client.opened == "error No data available"
    assert client.get("key") == "error No data available"
    assert client.ask("wait 100") == ["error Connection timed out"]
    (tmp_path / "none/config" / service_name).mkdir(parents=True)
    (tmp_path / "none/config" / service_name / "key").write_text("here")
    assert client.ask("wait 20000") == ["ok 0"]
    wait_until(lambda: client.get("key") == b"here", 10, "the value")
    client.close()


def test_daemon_restarts(daemon, tree, service_name, prefix, stub):
    tree.put(prefix + "key", "1")
    running = daemon(source=tree.source)
    client = stub(service_name, running.socket)
    assert client.get("key") == b"1"
    assert client.ask("wait 5000") == ["ok 0"]
    running.restart()
    assert client.get("key") == b"1", "on a new connection"
    running.stop()
    assert client.get("key") == "error Connection refused"
    assert client.ask("list") == ["error Connection refused"]
    assert client.ask("wait 50") == ["error Connection refused"]
    client.send("wait 30000")
    tree.put(prefix + "key", "2")
    running.start()
    assert client.answer() == ["ok 0"]
    wait_until(lambda: client.get("key") == b"2", 10, "the new value")
    client.close()


def test_stopped_daemon_does_not_hold_up(daemon, tree, service_name, prefix, stub):
    tree.put(prefix + "key", "1")
    running = daemon(source=tree.source)
    client = stub(service_name, running.socket, timeout_ms=200)
    with running.stopped():
        assert client.get("key") == "error Connection timed out"
        assert client.get("key") == "error Connection timed out", "now while connecting"
        assert client.ask("wait 200") == ["error Connection timed out"]
    wait_until(lambda: client.get("key") == b"1", 10, "the value")
    client.close()


# --- a hostile daemon -------------------------------------------------------------------------------------------------

def frame(op, payload=b"", status=0, length=None):
    return struct.pack("<IHHI", len(payload) if length is None else length, op, status, 0) + payload


HELLO = frame(1, struct.pack("<HHHHI", 1, 0, 1, 0, 1) + b"0")
OPEN = frame(2, struct.pack("<QQQQII", 5, 1, 1, 1, 1, 0))
ENTRY = struct.pack("<QQIHBB", 1, 0, 3, 3, 0, 0) + b"keyval"
PAGE = struct.pack("<QQ", 5, 0)


class Hostile:
    """Sends the same bytes to whoever connects, then closes, or holds the connection without a word."""

    def __init__(self, answer, hold):
        self.folder = scratch()
        self.path = self.folder / "socket"
        self.answer, self.hold, self.held = answer, hold, []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(50)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            connection.settimeout(5)
            try:
                connection.sendall(self.answer)
            except OSError:
                pass  # the client left before it read all
            if self.hold:
                self.held.append(connection)
            else:
                connection.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        for connection in (self.listener, *self.held):
            connection.close()
        remove(self.folder)


@pytest.fixture
def hostile():
    made = []

    def start(answer, hold=False):
        made.append(Hostile(answer, hold))
        return made[-1]
    yield start
    for server in made:
        server.close()


PROTOCOL = "error Protocol error"
RESET = "error Connection reset by peer"
LATE = "error Connection timed out"
GREETING = {
    "nothing": (b"", RESET),
    "garbage": (bytes(range(255, 0, -1)) * 50, PROTOCOL),
    "zeros": (bytes(5000), PROTOCOL),
    "half a header": (HELLO[:7], RESET),
    "half a payload": (HELLO[:15], RESET),
    "short hello": (frame(1, b"\1\0\0\0"), PROTOCOL),
    "empty hello": (frame(1), PROTOCOL),
    "other version": (frame(1, struct.pack("<HHHHI", 2, 0, 1, 0, 1)), PROTOCOL),
    "other op": (frame(4) + OPEN, PROTOCOL),
    "watch without being asked": (HELLO + frame(7, OPEN[12:]), PROTOCOL),
    "above 1 GiB": (frame(1, length=(1 << 30) + 1), PROTOCOL),
    "4 GiB": (frame(1, length=0xffffffff), PROTOCOL),
    "1 GiB that ends": (frame(1, HELLO[12:], length=1 << 30), RESET),
    "full": (frame(1, b"full", status=6), "error Device or resource busy"),
    "no version": (frame(1, b"", status=7), "error Protocol not supported"),
    "unknown status": (frame(1, b"?", status=77), "error Input/output error"),
    "status above a byte": (frame(1, b"?", status=0x100), "error Input/output error"),
    "denied": (HELLO + frame(2, b"no", status=3), "error Permission denied"),
}


@pytest.mark.parametrize("case", GREETING)
def test_hostile_greeting(case, hostile, stub):
    answer, expected = GREETING[case]
    client = stub("billing", hostile(answer).path)
    assert client.opened == expected
    assert client.get("key") == expected
    client.close()


REPLIES = {
    "short get": ("get key", frame(4, b"1234567"), PROTOCOL),
    "empty get": ("get key", frame(4), PROTOCOL),
    "value cut": ("get key", frame(4, b"12345678value", length=9999), RESET),
    "value of 4 GiB": ("get key", frame(4, b"12345678", length=0xffffffff), PROTOCOL),
    "value above the buffer, cut": ("get key", frame(4, b"12345678", length=1 << 30), RESET),
    "text cut": ("get key", frame(4, b"no su", status=1, length=11), RESET),
    "reply to another": ("get key", frame(6, PAGE), PROTOCOL),
    "short list": ("list", frame(6, PAGE[:15]), PROTOCOL),
    "half an entry": ("list", frame(6, PAGE + ENTRY[:20]), PROTOCOL),
    "key behind the frame": ("list", frame(6, PAGE + ENTRY[:25]), PROTOCOL),
    "value behind the frame": ("list", frame(6, PAGE + ENTRY[:-1]), PROTOCOL),
    "long key": ("list", frame(6, PAGE + struct.pack("<QQIHBB", 1, 0, 0, 65535, 0, 0) + b"k" * 60000), PROTOCOL),
    "value of 4 GiB in a list": ("list", frame(6, PAGE + struct.pack("<QQIHBB", 1, 0, 0xffffffff, 1, 0, 0) + b"kv"),
                                 PROTOCOL),
    "list cut": ("list", frame(6, PAGE + ENTRY, length=500), RESET),
    "short watch": ("wait 100", frame(7, b"1234"), PROTOCOL),
    "watch denied": ("wait 100", frame(7, b"no", status=3), "error Permission denied"),
    "other reply than watch": ("wait 100", frame(4, b"12345678"), PROTOCOL),
}


@pytest.mark.parametrize("case", REPLIES)
def test_hostile_reply(case, hostile, stub):
    command, answer, expected = REPLIES[case]
    client = stub("billing", hostile(HELLO + OPEN + answer).path)
    assert client.opened == "ok 0"
    assert client.ask(command)[-1] == expected
    client.close()


@pytest.mark.parametrize("answer", [b"", HELLO, HELLO[:5], HELLO + OPEN, HELLO + OPEN + frame(4, b"1234567890", length=50)],
                         ids=["nothing", "hello", "half a hello", "no reply", "half a reply"])
def test_silent_daemon(answer, hostile, stub):
    client = stub("billing", hostile(answer, hold=True).path, timeout_ms=100)
    assert client.opened == ("ok 0" if OPEN in answer else LATE)
    assert client.get("key") == LATE
    assert client.get("key") == LATE
    client.close()


@pytest.mark.parametrize("pages, hold", [(100_000, True), (40, False)], ids=["one connection", "over and over"])
def test_endless_pages_end_with_the_time(pages, hold, hostile, stub):
    page = frame(6, struct.pack("<QQ", 5, 9) + ENTRY)
    client = stub("billing", hostile(HELLO + OPEN + page * pages, hold).path, timeout_ms=100)
    assert client.opened == "ok 0"
    assert client.ask("list")[-1] == LATE
    client.close()
