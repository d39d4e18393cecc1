"""libconsulcfg on the real daemon: configuration in shared memory, in programs that link the library as users do."""

import mmap
import os
import re
import struct
import subprocess
import time

import pytest

from support import ROOT
from support.daemon import build_directory
from support.process import Process, clean_environment, run, wait_until
from support.relay import LIST, Relay

MANUAL = 0x8
HEADER, SLOT = 64, 64


class Program:
    """One handle of the library in a program of its own, driven line by line."""

    def __init__(self, tmp_path, service, path, flags=0, timeout_ms=5000, name="shared-client", **options):
        self.child = Process([build_directory() / "tests/shared" / name, service, path, str(flags), str(timeout_ms)],
                             tmp_path, stdin=subprocess.PIPE, **options)
        self.seen = 0
        self.opened = self.answer(40)[-1]

    def send(self, line):
        self.child.write(line.encode() + b"\n")

    def answer(self, deadline=30):
        text = self.child.wait_output(lambda data: data == b"done\n" or data.endswith(b"\ndone\n"), deadline,
                                      start=self.seen)
        self.seen += len(text)
        return text.decode().splitlines()[:-1]

    def ask(self, line):
        self.send(line)
        return self.answer()

    def get(self, key):
        return self.ask(f"get {key}")[0]

    def wait_value(self, key, value, deadline=10.0):
        wait_until(lambda: self.get(key) == value, deadline, f"{key} to be {value}")

    def info(self):
        state, *rest = self.ask("info")[0].split(maxsplit=1)
        return {"state": state, **dict(re.findall(r"(\w+)=([^=]*?)(?= \w+=|$)", rest[0]))}

    def maps(self):
        """How many images it has mapped, and the kilobytes of them that are in its memory."""
        return tuple(map(int, self.ask("maps")[0].split()))

    def time(self, key, threads, ms):
        """How many reads there were, how many waited for the daemon, the shortest and longest of those in ms."""
        n, n_slow, shortest, longest = map(int, self.ask(f"time {key} {threads} {ms}")[0].split())
        return n, n_slow, shortest / 1000, longest / 1000

    def close(self):
        self.child.popen.stdin.close()
        assert self.child.wait() == 0, self.child.stderr


@pytest.fixture
def program(tmp_path):
    def start(*args, **options):
        return Program(tmp_path, *args, **options)
    return start


@pytest.fixture
def running(daemon, tree, prefix):
    """A daemon whose service has a key `key` of value 1."""
    tree.put(prefix + "key", "1")
    return daemon(source=tree.source)


def used_slots(generations):
    return struct.unpack_from("<I", generations, 40)[0]


def raise_slots(running):
    """What a daemon does when it announces new generations."""
    with open(running.runtime / "generations", "r+b") as file, mmap.mmap(file.fileno(), 0) as generations:
        n_used = used_slots(generations)
        assert n_used > 0
        for at in range(HEADER, HEADER + n_used * SLOT, SLOT):
            struct.pack_into("<Q", generations, at, struct.unpack_from("<Q", generations, at)[0] + 1)


# --- reads ------------------------------------------------------------------------------------------------------------

def test_values_come_and_change(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket)
    assert client.opened == "ok"
    assert client.get("key") == "1"
    assert client.get("none") == "No such file or directory"
    assert client.maps()[0] == 1, "an image of the daemon, not one of its own"
    tree.put(prefix + "key", "2")
    client.wait_value("key", "2")
    info = client.info()
    assert (info["state"], info["error"], info["entries"]) == ("live", "ok", "1")
    client.close()


@pytest.mark.parametrize("cuts", [[0], [1], [12], [40], [68]], ids=str)
def test_fault_47_daemon_that_dies_between_a_descriptor_and_its_answer(running, tree, service_name, prefix, program,
                                                                       tmp_path, cuts):
    """So many bytes of the answer come, the descriptor does not. No read fails, and the next daemon's images are mapped."""
    with Relay(tmp_path / "relay", running.socket) as relay:
        client = program(service_name, relay.path)
        assert client.get("key") == "1"
        for value in "2", "3":
            relay.cuts[:] = cuts
            relay.hang_up()
            tree.put(prefix + "key", value)
            wait_until(lambda: client.get("key") != str(int(value) - 1), 10, "the change")
            assert client.get("key") == value and not relay.cuts
        assert client.maps()[0] == 1, "an image of the daemon, not one of its own"
        assert LIST not in relay.operations, "no page of the service came over the socket"
        client.close()


def test_fault_47_daemon_that_dies_while_a_program_opens(running, service_name, program, tmp_path):
    with Relay(tmp_path / "relay", running.socket) as relay:
        relay.cuts[:] = [12]
        client = program(service_name, relay.path)
        assert client.opened == "ok" and client.get("key") == "1" and client.maps()[0] == 1 and not relay.cuts
        client.close()


def test_a_pinned_view_stays_until_it_is_unpinned(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket)
    for pin, value in enumerate(["1", "2", "3"]):
        tree.put(prefix + "key", value)
        client.wait_value("key", value)
        client.ask(f"pin {pin}")
    assert [client.ask(f"view {pin} key") for pin in range(3)] == [["1"], ["2"], ["3"]]
    assert client.maps()[0] == 3
    client.ask("unpin 1")
    assert client.maps()[0] == 2, "the memory of generation 2 is given back"
    assert [client.ask(f"view {pin} key") for pin in (0, 2)] == [["1"], ["3"]]
    client.ask("unpin 0")
    client.ask("unpin 2")
    assert client.maps()[0] == 1
    for number in range(20):
        tree.put(prefix + "key", f"n{number}")
        client.wait_value("key", f"n{number}")
    assert client.maps()[0] == 1, "generations that nobody reads"
    client.close()


@pytest.mark.parametrize("name", ["shared-client", "shared-client-plain"])
def test_a_million_reads_make_no_system_call(name, running, service_name, program):
    client = program(service_name, running.socket, name=name)
    assert client.ask("calm key 1000000") == ["ok", "exited 0"]
    assert client.ask("calm none 1000") == ["ok", "exited 1"], "the children's status counts"
    client.close()


def test_taking_a_generation_does_not_walk_the_image(running, tree, service_name, prefix, program):
    big = os.urandom(4_000_000).hex().encode()
    for number in range(4):
        tree.put(f"{prefix}big/{number}", big)
    client = program(service_name, running.socket, timeout_ms=20000)
    wait_until(lambda: client.get("big/3")[:50] == big[:50].decode(), 20, "the large values")
    tree.put(prefix + "key", "2")
    client.wait_value("key", "2")
    n, resident = client.maps()
    assert n == 1
    assert resident <= 4 * 64, f"{resident} kB of 32 MB: the header, a slot and a record, as the kernel reads around"
    client.close()


def test_odd_keys(running, service_name, program):
    client = program(service_name, running.socket)
    absent, invalid = "No such file or directory", "Invalid argument"
    assert client.ask("odd-key 0") == [absent, "absent", invalid, "absent"]
    assert client.ask("odd-key 5") == [absent, "absent", "bound", "absent"]
    assert client.ask("odd-key 5000") == [absent, "absent", invalid, "absent"]
    client.close()


def test_bound_values(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket)
    client.ask("bind number")
    assert client.ask("bound") == ["-1"], "absent: the fallback"

    def becomes(text, value, unparsable):
        tree.put(prefix + "number", text)
        client.wait_value("number", text)
        assert client.ask("bound") == [value]
        assert client.info()["unparsable"] == unparsable
    becomes("5", "5", "0")
    becomes("five", "5", "1")
    becomes("99999999999999999999", "5", "1")
    becomes("6", "6", "0")
    tree.delete(prefix + "number")
    wait_until(lambda: client.ask("bound") == ["-1"], 10, "the fallback")
    client.close()


# --- a daemon in whatever state ---------------------------------------------------------------------------------------

def test_a_stopped_daemon_delays_one_read_a_little(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket)
    assert client.get("key") == "1"
    with running.stopped():
        raise_slots(running)
        reads, slow, shortest, longest = client.time("key", 1, 1500)
        assert 2 <= slow <= 4, "after 0, 120, 340 and 760 ms, then each second"
        assert shortest < 60 and longest < 500, "20 ms, and what a busy machine adds to one of them"
        assert reads > 200
        _, slow, _, longest = client.time("key", 8, 1200)
        assert slow <= 4, "one thread asks, the others read on"
        assert longest < 500
        assert client.get("key") == "1"
    tree.put(prefix + "key", "2")
    client.wait_value("key", "2")
    client.close()


def test_manual_reads_are_not_delayed(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket, flags=MANUAL)
    with running.stopped():
        raise_slots(running)
        assert client.time("key", 2, 500)[1] == 0
        assert client.ask("dispatch") == ["0"], "does not wait either"
    tree.put(prefix + "key", "2")
    running.wait_value(service_name, "key", "2")
    assert client.get("key") == "1", "only dispatch and wait take what is new"
    wait_until(lambda: (client.ask("dispatch"), client.get("key"))[1] == "2", 10, "a dispatch to take it")
    tree.put(prefix + "key", "3")
    assert client.ask("wait 10000") == ["ok"]
    assert client.get("key") == "3"
    client.close()


def test_a_killed_daemon_is_missed_by_nobody(running, tree, service_name, prefix, program):
    reader, manual, child = (program(service_name, running.socket, flags=flags) for flags in (0, MANUAL, 0))
    reader.ask("bind key")
    manual.ask("watch key")
    running.kill9()
    n, slow, _, _ = reader.time("key", 4, 300)
    assert n > 100 and slow == 0, "nothing tells a reader that the daemon is gone, and nothing has to"
    assert reader.ask("bound") == ["1"]
    inode = os.stat(running.runtime / "generations").st_ino
    running.restart()
    assert os.stat(running.runtime / "generations").st_ino == inode, "the file that clients have mapped"
    tree.put(prefix + "key", "2")
    running.wait_value(service_name, "key", "2")
    wait_until(lambda: reader.ask("bound") == ["2"], 1.0, "the change in a program that only ever reads")
    child.wait_value("key", "2", 1.0)
    assert manual.ask("poll 2000")[:1] == ["key key: 1 -> 2"]
    assert reader.info()["state"] == "live"
    for client in (reader, manual, child):
        client.close()


def test_a_dead_daemon_never_shows_as_live(daemon, tree, service_name, prefix, program):
    tree.put(prefix + "key", "1")
    running = daemon(source=tree.source, config="[consul]\nwait=1s\n")
    client = program(service_name, running.socket)
    assert client.info()["state"] == "live"
    running.kill9()
    wait_until(lambda: client.info()["state"] == "stale", 10, "the heartbeat to be missed")
    assert client.get("key") == "1"
    client.close()


def test_the_generation_file_survives_a_restart(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket)
    path = running.runtime / "generations"
    before = path.read_bytes()
    inode = path.stat().st_ino
    assert used_slots(before) > 0
    running.stop()
    running.start()
    after = path.read_bytes()
    assert path.stat().st_ino == inode and len(before) == len(after)
    for at in range(HEADER, HEADER + used_slots(before) * SLOT, SLOT):
        assert before[at:at + 8] != after[at:at + 8], "every used slot is raised"
    client.close()


@pytest.mark.parametrize("kind", ["symlink", "foreign", "corrupt", "directory"])
def test_a_strange_generation_file(kind, running, tree, service_name, prefix, program):
    path = running.runtime / "generations"
    client = program(service_name, running.socket)
    running.stop()
    good = path.read_bytes()
    target = running.tmp_path / "target"
    target.write_bytes(b"precious")
    if kind in ("symlink", "directory"):
        path.unlink()
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "directory":
        path.mkdir()
    elif kind == "foreign":
        path.write_bytes(b"something else altogether\n" * 10)
    else:
        path.write_bytes(bytes(255 - byte for byte in good[:64]) + good[64:])
    running.start()
    assert target.read_bytes() == b"precious"
    tree.put(prefix + "key", "2")
    other = program(service_name, running.socket)
    assert other.opened == "ok"
    other.wait_value("key", "2")
    tree.put(prefix + "key", "3")
    other.wait_value("key", "3")
    if kind in ("foreign", "corrupt"):
        client.wait_value("key", "3")
    client.close()
    other.close()


def test_a_slot_that_was_another_services(daemon, tree, program):
    """A service closes while a program that was its client lives on: its slot goes to the next service."""
    for name in ("one", "two"):
        tree.put(f"config/{name}/key", name)
    running = daemon(source=tree.source, config="[services]\nlinger=0\n")
    one = program("one", running.socket)
    assert one.get("key") == "one"
    # The program's connection ends behind its back; nothing else keeps the service open.
    one.ask("steal")
    wait_until(lambda: not running.knows("one"), 10, "the service to be closed")
    two = program("two", running.socket)
    assert two.get("key") == "two"
    for number in range(5):
        tree.put("config/two/key", f"two {number}")
        two.wait_value("key", f"two {number}")
        assert one.get("key") == "one"
    tree.put("config/one/key", "one again")
    one.wait_value("key", "one again")
    assert two.get("key") == "two 4"
    one.close()
    two.close()


# --- children ---------------------------------------------------------------------------------------------------------

def test_children_refresh_on_their_own(running, tree, service_name, prefix, program, tmp_path):
    client = program(service_name, running.socket)
    ready = tmp_path / "ready"
    client.send(f"fork 8 key 2 {ready}")
    wait_until(lambda: ready.exists() and len(ready.read_bytes()) == 8, 10, "all children to have read")
    tree.put(prefix + "key", "2")
    assert client.answer() == ["exited 0"] * 8
    client.wait_value("key", "2")
    client.close()


@pytest.mark.parametrize("name, fork", [("shared-stress", "no-fork"), ("shared-stress-plain", "fork")])
def test_threads_use_a_handle_in_every_way(name, fork, running, tree, service_name, prefix, tmp_path):
    stress(name, fork, running, tree, service_name, prefix, tmp_path, 2)


@pytest.mark.long
def test_the_race_detector_finds_nothing(running, tree, service_name, prefix, tmp_path):
    stress("shared-stress-tsan", "no-fork", running, tree, service_name, prefix, tmp_path, 6)


def stress(name, fork, running, tree, service_name, prefix, tmp_path, seconds):
    tree.put(prefix + "letters", "a" * 300)
    tree.put(prefix + "number", "1")
    running.cli("get", service_name, "number", check=True)
    running.wait_value(service_name, "number", "1")
    running.wait_value(service_name, "letters", "a" * 300)
    child = Process([build_directory() / "tests/shared" / name, service_name, running.socket, str(seconds), fork],
                    tmp_path, env=clean_environment({"TSAN_OPTIONS": "halt_on_error=0:exitcode=66"}))
    number = 0
    while child.running:
        number += 1
        tree.put(prefix + "letters", "abcdefgh"[number % 8] * (100 + number % 200))
        tree.put(prefix + "number", str(number))
        time.sleep(0.02)  # the pace: without a rest many changes would be one generation
    assert child.status == 0, child.stderr
    generations, told = map(int, child.stdout.split())
    assert generations > 5 and told > 5


# --- other people's programs ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["steal", "steal-with-a-file"])
def test_a_descriptor_taken_from_the_library(how, running, tree, service_name, prefix, program, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    client = program(service_name, running.socket)
    assert client.ask("steal" if how == "steal" else f"steal {victim}") == ["1"]
    tree.put(prefix + "key", "2")
    client.wait_value("key", "2", 3)
    assert victim.read_bytes() == b"mine"
    client.close()
    assert victim.read_bytes() == b"mine"


def test_a_program_without_free_descriptors(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket)
    assert client.ask("files 4") == ["ok"]  # three streams and the socket
    tree.put(prefix + "key", "2")
    client.wait_value("key", "2")
    client.ask("files 100")
    tree.put(prefix + "key", "3")
    client.wait_value("key", "3")
    assert client.info()["error"] == "ok"
    client.close()


def test_another_user_is_judged_as_that(daemon, tree, service_name, prefix, program):
    if os.getuid() != 0:
        pytest.fail("needs root: run the tests as root, as CI does")
    tree.put(prefix + "key", "1")
    running = daemon(source=tree.source, config=f"[service {service_name}]\naccess=user:root\n")
    client = program(service_name, running.socket)
    os.chmod(running.short, 0o755)
    assert client.ask("uid 65534") == ["ok"]
    tree.put(prefix + "key", "2")
    running.wait_value(service_name, "key", "2")
    wait_until(lambda: client.info()["error"] == "Permission denied", 5, "the denial to be told")
    assert client.get("key") == "1", "what is held stays"
    assert client.info()["state"] == "stale"
    assert client.ask("uid 0") == ["ok"]
    client.wait_value("key", "2")
    client.close()


def test_a_library_that_is_unloaded(running, service_name, tmp_path):
    done = run([build_directory() / "tests/shared/shared-unload", build_directory() / "tests/shared/libconsulcfg-plain.so",
                service_name, running.socket])
    assert (done.returncode, done.stdout) == (0, b"1\n"), done.stderr


# --- event loops ------------------------------------------------------------------------------------------------------

def test_callbacks_come_for_what_changed(running, tree, service_name, prefix, program):
    tree.put(prefix + "db/url", "a")
    client = program(service_name, running.socket)
    client.wait_value("db/url", "a")
    client.ask("watch db/")
    client.ask("watch ")
    fd = client.ask("fd")
    tree.put(prefix + "db/url", "b")
    assert client.ask("poll 10000") == ["db/ db/url: a -> b", " db/url: a -> b", "2"]
    tree.put(prefix + "key", "2")
    assert client.ask("poll 10000") == [" key: 1 -> 2", "1"]
    tree.put(prefix + "db/url", "b")  # the same again
    assert client.ask("poll 300") == ["0"]
    tree.delete(prefix + "db/url")
    assert client.ask("poll 10000") == ["db/ db/url: b -> none", " db/url: b -> none", "2"]
    # A daemon that comes back with other contents.
    running.kill9()
    tree.put(prefix + "db/url", "c")
    running.restart()
    assert client.ask("poll 10000") == ["db/ db/url: none -> c", " db/url: none -> c", "2"]
    assert client.ask("fd") == fd
    client.close()


def test_a_program_that_never_dispatches_costs_nothing(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket, flags=MANUAL)
    client.ask("watch key")
    client.ask("fd")
    client.ask("dispatch")

    def numbers():
        kept = {name for name in running.open_fds().values() if "memfd:consulcfg" in name}
        return len(running.open_fds()), len(kept)
    for number in range(2, 30):
        tree.put(prefix + "key", str(number))
        running.wait_value(service_name, "key", str(number))
        if number == 5:
            before = numbers()
    wait_until(lambda: numbers() <= before, 5, lambda: f"no more than {before} descriptors; there are {numbers()}")
    assert client.ask("poll 10000") == ["key key: 1 -> 29", "1"], "nothing is lost but what was in between"
    client.close()


@pytest.mark.parametrize("loop", ["libevent", "asyncio"])
def test_event_loops(loop, running, tree, service_name, prefix, tmp_path):
    folder = build_directory() / "tests/shared"
    argv = [folder / "shared-loop-libevent"] if loop == "libevent" else [
        ROOT / "tests/shared/loop-asyncio", folder / "libconsulcfg-plain.so"]
    child = Process([*argv, service_name, running.socket], tmp_path)
    child.wait_output(b"ready\n")
    tree.put(prefix + "key", "2")
    child.wait_output(b"key: 1 -> 2\n")
    running.kill9()
    tree.put(prefix + "key", "3")
    running.restart()
    child.wait_output(b"key: 2 -> 3\n")
    tree.put(prefix + "end", "now")
    child.wait_output(b"end: none -> now\n")
    assert child.wait() == 0
    assert child.stdout == b"ready\nkey: 1 -> 2\nkey: 2 -> 3\nend: none -> now\n", "each change once"


# --- memory -----------------------------------------------------------------------------------------------------------

@pytest.mark.long
def test_valgrind_finds_nothing(running, tree, service_name, prefix, program):
    client = program(service_name, running.socket, timeout_ms=30000, name="shared-client-plain",
                     wrapper=("valgrind", "--quiet", "--leak-check=full", "--error-exitcode=9"))
    assert client.opened == "ok"
    client.ask("bind key")
    client.ask("watch ")
    client.ask("pin 0")
    client.ask("fd")
    for number in range(2, 8):
        tree.put(prefix + "key", str(number))
        client.wait_value("key", str(number), 20)
        client.ask("dispatch")
        client.ask("odd-key 50")
        client.info()
    assert client.ask("time key 4 300")[0]
    assert client.ask("bound") == ["7"]
    running.kill9()
    running.restart()
    tree.put(prefix + "key", "8")
    client.wait_value("key", "8", 20)
    assert client.ask("view 0 key") == ["1"]
    client.ask("unpin 0")
    client.child.popen.stdin.close()
    assert client.child.wait(30) == 0, client.child.stderr
    assert client.child.stderr == b""
