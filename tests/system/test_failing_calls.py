"""Every call that may fail for want of memory, descriptors or disk does fail once, in the daemon and in the library: what
comes of it is an error or an older answer, never a crash, a leak or a hang, and afterwards all is as it was. The programs
carry the sanitizers of the developer build.

The Nth call fails, for N from 1 until a run meets no Nth call. Of the allocations of a day a sample: each STEP-th, from
a random one on."""

import contextlib
import itertools
import os
import random
import shutil
import socket
import struct
import time

import pytest

from support.failing import FAMILIES, FailingDaemon, FailNth
from support.process import wait_until
from test_shared_memory import Program

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

HELLO, STATUS, HISTORY, PIN = 1, 8, 16, 18  # proto/wire.h
FREEZE, THAW = 1, 2

SEED = int(os.environ.get("CONSULCFG_FAIL_SEED", random.randrange(1 << 32)))
STEP = {"memory": 2}


def numbers(step, salt):
    """1, 2, 3, ... or each step-th; the seed is in the failure of a test."""
    at = 1 + random.Random(SEED + salt).randrange(step)
    while True:
        yield at
        at += step


# --- the start --------------------------------------------------------------------------------------------------------

@pytest.fixture
def prepared(tmp_path, tree, consulcfg):
    """A daemon that has been stopped while a service was in use and another one frozen: it has backups and pins."""
    names = ("used", "frozen")
    for service in names:
        tree.put(f"config/{service}/a", "old")
    running = FailingDaemon(tmp_path, source=tree.source)
    with consulcfg.open("used", socket=running.socket) as cfg, consulcfg.open("frozen", socket=running.socket) as frozen:
        assert cfg["a"] == "old"
        wait_until(lambda: all((running.state / "backup/private" / f"{name}.1").exists() for name in names), 10, "backups")
        running.cli("freeze", "frozen", str(frozen.generation), check=True)
        running.stop()
    for service in names:
        tree.put(f"config/{service}/a", "new")
    shutil.copytree(running.state, tmp_path / "state")
    return running


def start_over(running, tmp_path):
    """On the same state; READY (None), or the exit status."""
    shutil.rmtree(running.state)
    shutil.copytree(tmp_path / "state", running.state)
    running.start(ready=False)
    wait_until(lambda: "1" in running.notify.values("READY") or not running.process.running, 20, "READY=1 or an end")
    return running.process.status


def check_refusal(running, what):
    """Could not start: one line that says so at the end, and the status of consulcfgd(8)."""
    assert running.process.status in (1, 2), what
    assert running.log().splitlines()[-1].startswith("consulcfgd: "), f"{what}: {running.log()}"
    running.process.expect_status = running.process.status
    assert not running.process.end(), what


def value(consulcfg, running, service, key="a"):
    """What a client gets that comes now, or why it gets none."""
    try:
        with consulcfg.open(service, socket=running.socket, timeout=5) as cfg:
            return cfg.get(key)
    except (OSError, consulcfg.Error) as error:
        return repr(error)


def frozen(running):
    """What the frozen service may have: another value only where the log says that the state could not be read."""
    lost = [line for line in running.log().splitlines() if "error: " in line and " used: " not in line and
            ("backup" in line or "not in force" in line)]
    return {"old", "new"} if lost else {"old"}


@pytest.mark.parametrize("family", FAMILIES)
def test_start(prepared, consulcfg, tmp_path, family):
    """It starts all the same, or says why not; what runs then serves the newest, and what is frozen as it was."""
    refused = []
    for nth in itertools.count(1):
        prepared.fail.arm(family, nth)
        status = start_over(prepared, tmp_path)
        if status is None:
            value(consulcfg, prepared, "used"), value(consulcfg, prepared, "frozen")
        failed = prepared.fail.failed
        prepared.fail.disarm()
        what = f"{family} {nth}, {failed}"
        if status is None:
            for service, wanted in (("used", {"new"}), ("frozen", frozen(prepared))):
                wait_until(lambda: value(consulcfg, prepared, service) in wanted, 10,
                           lambda: f"{what}: {service} is {value(consulcfg, prepared, service)}; {prepared.log()}")
            prepared.stop()
        else:
            refused.append(failed)
            check_refusal(prepared, what)
        if failed is None:
            break
    assert nth > 20 and refused


# --- a day of a daemon ------------------------------------------------------------------------------------------------

class Operator:
    """Requests that may be refused, or cost the connection."""

    def __init__(self, path):
        self.path = os.fspath(path)

    def ask(self, op, payload):
        """The status of the reply; None: there was none."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)  # nothing may hang: TimeoutError is an OSError, so it is asked for below
            client.connect(self.path)
            client.sendall(struct.pack("<IHHIHHHH", 8, HELLO, 0, 1, 1, 1, 1, 0) +
                           struct.pack("<IHHI", len(payload), op, 0, 2) + payload)
            file = client.makefile("rb")
            for _ in range(2):
                try:
                    header = file.read(12)
                except TimeoutError:
                    pytest.fail("no reply, and no end either")
                if len(header) < 12:
                    return None
                length, _, status, _ = struct.unpack("<IHHI", header)
                file.read(length)
            return status
        return None

    def pin(self, what, service, key=b""):
        return self.ask(PIN, struct.pack("<BQB", what, 0, len(service)) + service.encode() + b"\0" +
                        struct.pack("<H", len(key)) + key)


def a_day(running, consulcfg, tree, service, operator):
    """A client comes, has a snapshot, is told of a change; an operator freezes and thaws; the settings are read anew."""
    with contextlib.suppress(OSError, consulcfg.Error, TimeoutError):
        with consulcfg.open(service, socket=running.socket, timeout=2) as cfg:
            generation = cfg.generation
            tree.put(f"config/{service}/a", "2")
            cfg.wait(0.3)
            operator.pin(FREEZE, service, str(generation).encode())
            operator.ask(HISTORY, service.encode())
            operator.pin(THAW, service)
            operator.ask(STATUS, b"\1")
    running.sighup()
    tree.put(f"config/{service}/b", "3")


def check_day(running, consulcfg, service, operator, what):
    """After a day on which something failed."""
    assert running.process.running, f"{what}: {running.log()[-3000:]}"
    operator.pin(THAW, service)
    wait_until(lambda: value(consulcfg, running, service, "b") == "3", 10,
               lambda: f"{what}: {value(consulcfg, running, service, 'b')}; {running.log()[-3000:]}")


@pytest.mark.parametrize("family", FAMILIES)
def test_day(tmp_path, tree, consulcfg, family):
    """The daemon lives on, and once calls work again each service has its newest value, without another change."""
    tree.put("config/steady/a", "1")
    running = FailingDaemon(tmp_path, source=tree.source)
    operator = Operator(running.socket)
    met = set()
    with consulcfg.open("steady", socket=running.socket) as steady:
        for nth in numbers(STEP.get(family, 1), FAMILIES[family]):
            service = f"svc-{nth}"
            tree.put(f"config/{service}/a", "1")
            running.fail.arm(family, nth)
            a_day(running, consulcfg, tree, service, operator)
            failed = running.fail.failed
            running.fail.disarm()
            check_day(running, consulcfg, service, operator, f"seed {SEED}: {family} {nth}, {failed}")
            if failed is None:
                break
            met.add(failed)
        tree.put("config/steady/a", "9")
        wait_until(lambda: steady.get("a") == "9", 10, "who was there all along to have the newest")
    assert len(met) >= 4, met
    running.stop()


# --- the library ------------------------------------------------------------------------------------------------------

@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program with the library inside; program.fail makes its calls fail."""
    fail = FailNth(tmp_path / "fail-nth-client")
    monkeypatch.setenv("FAIL_NTH", fail.path)

    def start(service, path):
        return Program(tmp_path, service, path, timeout_ms=3000, name="../faults/failing-shared-client")
    start.fail = fail
    return start


def use(client, tree, old, new):
    """A change of the value, seen or not: every answer is a value that the key had, or an error."""
    client.ask("fd")
    client.ask("watch key")
    client.ask("bind key")
    client.ask("pin 0")
    tree.put("config/svc/key", new)
    client.ask("wait 200")
    assert client.get("key") in (old, new)
    client.ask("dispatch")
    assert client.ask("view 0 key")[0] in (old, new)
    client.ask("unpin 0")
    client.ask("info")


def each_failure(program, family, path, use_it):
    """Starts the program again and again; use_it is told which failure it is. The names of what failed."""
    met = set()
    for nth in itertools.count(1):
        program.fail.arm(family, nth)
        client = program("svc", path)
        what = f"{family} {nth}, {program.fail.failed}"
        if client.opened == "ok":
            use_it(client, nth, what)
        failed = program.fail.failed
        program.fail.disarm()
        assert client.opened == "ok" or failed, f"{what}: {client.opened}"
        client.close()
        if failed is None:
            return met
        met.add(failed)


@pytest.mark.parametrize("family", FAMILIES)
def test_library(daemon, tree, program, family):
    """Open, a snapshot, a change, a pinned view, an event loop. Afterwards the program has the newest value."""
    tree.put("config/svc/key", "0")
    running = daemon(source=tree.source)
    values = ["0"]

    def use_it(client, nth, what):
        values.append(str(nth))
        use(client, tree, *values[-2:])
        program.fail.disarm()
        wait_until(lambda: client.get("key") == str(nth), 10, lambda: f"{what}: {client.info()}")
    met = each_failure(program, family, running.socket, use_it)
    assert met or family == "files", met


@pytest.mark.parametrize("family", FAMILIES)
def test_library_without_a_daemon(daemon, tree, program, family):
    """It reads the backup; a program that could not asks again."""
    tree.put("config/svc/key", "1")
    running = daemon(source=tree.source)
    with contextlib.closing(Program(running.tmp_path, "svc", running.socket)) as client:
        wait_until(lambda: (running.state / "backup/private/svc.1").exists(), 10, "a backup")
        assert client.get("key") == "1"
        running.stop()

    def use_it(client, nth, what):
        assert client.get("key") == "1", what
        assert client.info()["state"] == "backup", what
    assert each_failure(program, family, running.socket, use_it) or family == "socket"
