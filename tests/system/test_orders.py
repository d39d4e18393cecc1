"""What an operator was told is done is done: over a kill right after the reply, over a disk that takes nothing."""

import os
import re
import shutil
import socket
import struct
import threading

import pytest

from support.process import one_line, wait_until
from test_access import operations
from test_backup import away, back, backup_path, wait_backup
from test_backup_faults import inject, release
from test_pins import history, put_and_keep

FREEZE, THAW = 1, 2


@pytest.fixture
def told(daemon, tree, service_name):
    """A daemon with two generations of one service, a = old, new; `old` is the first one's number."""
    running = daemon(source=tree.source)
    running.name = service_name
    running.watcher = running.watch(service_name)
    tree.put(f"config/{service_name}/b", "same")
    running.old = put_and_keep(running, tree, service_name, "a", "old")
    put_and_keep(running, tree, service_name, "a", "new")
    return running


def pins_path(running):
    return running.state / "pins" / f"{running.name}.1"


def start_without_source(running, tree):
    """What is served then is what the disk has."""
    away(tree)
    running.start()
    return running.listing(running.name)


# --- a kill right after the reply -------------------------------------------------------------------------------------

def test_a_freeze_outlives_a_kill_right_after_the_reply(told, tree):
    told.cli("freeze", "--reason", "bad push", told.name, "previous", check=True)
    told.kill9()
    assert start_without_source(told, tree)["a"] == "old"
    entry = told.service(told.name)
    assert entry["state"] == "frozen" and entry["frozen"]["reason"] == "bad push"


def test_a_thaw_outlives_a_kill_right_after_the_reply(told, tree):
    told.cli("freeze", told.name, "previous", check=True)
    told.cli("thaw", told.name, check=True)
    told.kill9()
    assert start_without_source(told, tree)["a"] == "new"
    assert told.service(told.name)["frozen"] is None


def test_an_override_outlives_a_kill_right_after_the_reply(told, tree):
    told.cli("override", told.name, "a=mine", check=True)
    told.kill9()
    assert start_without_source(told, tree) == {"a": "mine", "b": "same"}
    assert told.service(told.name)["overrides"] == 1


def test_a_cleared_override_outlives_a_kill_right_after_the_reply(told, tree):
    told.cli("override", told.name, "a=mine", check=True)
    told.cli("override", "--clear", told.name, check=True)
    told.kill9()
    assert start_without_source(told, tree) == {"a": "new", "b": "same"}
    assert told.service(told.name)["overrides"] == 0


def test_what_was_forgotten_is_gone_when_the_reply_comes(told):
    told.cli("forget", told.name, str(told.old), check=True)
    told.kill9()
    assert not any(b"old" in path.read_bytes() for path in told.state.rglob("*") if path.is_file())


def on_disk(running, *values):
    """Those of these values that stand in any file."""
    data = b"".join(path.read_bytes() for path in running.state.rglob("*") if path.is_file())
    return [value for value in values if value.encode() in data]


def test_what_was_forgotten_is_gone_before_its_successor_had_its_turn_on_the_disk(told, tree):
    """A service is written once a second; what is served is written first."""
    tree.put(f"config/{told.name}/a", "served")
    told.wait_value(told.name, "a", "served")
    told.cli("forget", told.name, check=True)
    assert on_disk(told, "old", "new", "served") == ["served"]
    told.kill9()
    assert start_without_source(told, tree)["a"] == "served"


def test_what_is_being_written_when_it_is_forgotten_is_gone_with_the_reply(told, tree):
    """Also where it is served no more, and what is served waits for its turn behind it."""
    tracer = inject(told, "fsync:delay_enter=300ms")
    tree.put(f"config/{told.name}/a", "between")
    wait_until(lambda: "fsync" in (told.tmp_path / "strace").read_text(), 10, "a write")
    tree.put(f"config/{told.name}/a", "served")
    told.wait_value(told.name, "a", "served")
    told.cli("forget", told.name, check=True)
    assert on_disk(told, "old", "new", "between", "served") == ["served"]
    release(tracer)
    assert len(history(told, told.name)) == 1


# --- a disk that takes nothing ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("call,error", [("openat", "ENOSPC"), ("openat", "EROFS"), ("writev", "EDQUOT"), ("fsync", "EIO"),
                                        ("renameat", "ENOSPC")])
def test_a_disk_that_fails_is_told_and_tried_again(told, tree, call, error):
    tracer = inject(told, f"{call}:error={error}")
    done = told.cli("freeze", told.name, "previous")
    assert done.returncode == 5 and done.stderr.count(b"\n") == 1, done
    said = os.strerror(getattr(__import__("errno"), error)).encode()
    assert b"in force, but only until the daemon ends" in done.stderr and said in done.stderr
    assert told.get(told.name, "a") == "old" and told.service(told.name)["state"] == "frozen"
    lines = [line for line in told.log().splitlines() if "what operators said of it is not on the disk" in line]
    assert len(lines) == 1 and said.decode() in lines[0], lines
    assert not pins_path(told).exists()
    release(tracer)
    told.wait_log("what operators said of it is on the disk now", 40)
    wait_backup(told, told.name, 40)
    told.kill9()
    assert start_without_source(told, tree)["a"] == "old" and told.service(told.name)["state"] == "frozen"


def test_what_the_disk_did_not_take_is_over_after_a_kill(told, tree):
    """As it was said: what was served before the freeze is served again, and nothing is called frozen."""
    tracer = inject(told, "openat:error=ENOSPC")
    assert told.cli("freeze", told.name, "previous").returncode == 5
    told.process.expect_status = None
    told.kill9()
    release(tracer)
    assert start_without_source(told, tree)["a"] == "new"
    assert told.service(told.name)["state"] == "backup" and told.service(told.name)["frozen"] is None


def test_what_was_forgotten_and_is_not_gone_is_told(told):
    tracer = inject(told, "unlinkat:error=EROFS")
    done = told.cli("forget", told.name, str(told.old))
    release(tracer)
    assert done.returncode == 5 and b"not everything is removed: unlink: Read-only file system" in done.stderr
    assert told.old in [entry["generation"] for entry in history(told, told.name)]


def test_what_a_disk_that_fails_cannot_replace_is_told(told, tree):
    """The history goes; the backup before is still there, as there would be none else."""
    tracer = inject(told, "writev:error=ENOSPC")
    tree.put(f"config/{told.name}/a", "served")
    told.wait_value(told.name, "a", "served")
    done = told.cli("forget", told.name)
    assert done.returncode == 5 and b"not everything is removed: write: No space left on device" in done.stderr, done
    assert on_disk(told, "old", "new", "served") == ["new"] and not history(told, told.name)
    release(tracer)
    told.cli("forget", told.name, check=True)
    assert on_disk(told, "old", "new", "served") == ["served"]


def test_a_service_that_ends_and_comes_back_is_still_frozen(daemon, tree, service_name):
    """Also where the disk does not have it yet."""
    running = daemon(source=tree.source, config="[services]\nlinger=0\n")
    running.name = service_name
    watcher = running.watch(service_name)
    put_and_keep(running, tree, service_name, "a", "old")
    put_and_keep(running, tree, service_name, "a", "new")
    tracer = inject(running, "openat:error=ENOSPC")
    assert running.cli("freeze", service_name, "previous").returncode == 5
    watcher.kill9()
    wait_until(lambda: not running.knows(service_name), 10, "the service to end")
    running.wait_value(service_name, "a", "old")
    watcher = running.watch(service_name)
    assert running.service(service_name)["state"] == "frozen"
    running.cli("thaw", service_name)
    running.wait_value(service_name, "a", "new")
    watcher.kill9()
    wait_until(lambda: not running.knows(service_name), 10, "the service to end")
    running.wait_value(service_name, "a", "new")
    release(tracer)


# --- what it is frozen at ---------------------------------------------------------------------------------------------

@pytest.fixture
def half(told):
    """Killed when the freeze was on the disk, and the contents that belong to it were not."""
    before = backup_path(told, told.name).read_bytes()
    told.cli("freeze", told.name, "previous", check=True)
    told.kill9()
    backup_path(told, told.name).write_bytes(before)
    return told


def test_what_the_backup_lacks_comes_from_the_history(half, tree):
    last = half.old
    assert start_without_source(half, tree)["a"] == "old"
    entry = half.service(half.name)
    assert entry["state"] == "frozen" and entry["generation"] > last
    wait_backup(half, half.name)
    back(tree)
    tree.put(f"config/{half.name}/a", "newest")
    wait_until(lambda: history(half, half.name)[0]["generation"] > entry["generation"], 10, "the source's word")
    assert half.get(half.name, "a") == "old"
    half.cli("thaw", half.name, check=True)
    half.wait_value(half.name, "a", "newest")


def test_a_damaged_backup_is_no_end_of_a_freeze(half, tree):
    path = backup_path(half, half.name)
    path.write_bytes(b"damaged")
    assert start_without_source(half, tree)["a"] == "old"
    assert half.service(half.name)["state"] == "frozen"


def test_a_freeze_at_what_is_gone_is_over(half, tree):
    """Better what there is, and loudly, than something else under the name of what was frozen."""
    shutil.rmtree(half.state / "history" / half.name)
    assert start_without_source(half, tree)["a"] == "new"
    assert half.service(half.name)["frozen"] is None
    half.wait_log("it is frozen no more")
    wait_until(lambda: not pins_path(half).exists(), 5, "nothing left of it")


# --- a large one ------------------------------------------------------------------------------------------------------

@pytest.fixture
def large(daemon, double, service_name, prefix):
    """Two generations of 48 MB on the disk, the source is away."""
    double.put(prefix + "a", "old")
    for number in range(48):
        double.put(f"{prefix}big{number:02}", bytes([number]) * (1 << 20))
    running = daemon(source=f"consul:{double.url}", env={"CONSULCFGD_MEASURE": "1"}, log_level="info")
    running.name = service_name
    watcher = running.watch(service_name)
    wait_backup(running, service_name, 20)
    old = running.service(service_name)["generation"]
    double.put(prefix + "a", "new")
    running.wait_value(service_name, "a", "new", 40)  # a body of 64 MB from a double in Python
    wait_backup(running, service_name, 20)
    watcher.kill9()
    running.stop()
    running.source = "consul:http://127.0.0.1:1"
    running.start()
    running.old = old
    assert running.get(service_name, "a") == "new"
    running.wait_state(service_name, "backup")
    return running


@pytest.mark.long
def test_a_large_freeze_and_its_end_stop_nobody(large):
    before = large.status()["daemon"]["loop_worst_callback_usec"]
    large.cli("freeze", large.name, str(large.old), check=True)
    assert large.get(large.name, "a") == "old"
    large.cli("thaw", large.name, check=True)
    assert large.get(large.name, "a") == "new" and large.service(large.name)["state"] == "backup"
    after = large.status()["daemon"]["loop_worst_callback_usec"]
    print(f"worst callback before {before} us, after {after} us")
    assert after <= max(before, 10_000), "a slice takes less, also with sanitizers"


class Operator:
    """A connection that sends orders and takes replies apart from each other."""

    def __init__(self, running):
        self.running = running
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(os.fspath(running.socket))
        self.socket.sendall(struct.pack("<IHHI", 8, 1, 0, 1) + struct.pack("<HHHH", 1, 1, 1, 0))
        self.reply()

    def send(self, what, key=""):
        name = self.running.name.encode()
        payload = struct.pack("<BQB", what, 0, len(name)) + name + struct.pack("<BH", 0, len(key)) + key.encode()
        self.socket.sendall(struct.pack("<IHHI", len(payload), operations()["PIN"], 0, 2) + payload)

    def reply(self):
        length, _, status, _ = struct.unpack("<IHHI", self.socket.recv(12, socket.MSG_WAITALL))
        text = self.socket.recv(length, socket.MSG_WAITALL) if length else b""
        return status, text


@pytest.mark.long
def test_orders_about_one_service_come_into_force_in_turn(large):
    """A thaw that comes while the contents of a freeze are read ends that freeze."""
    first, second = Operator(large), Operator(large)
    first.send(FREEZE, str(large.old))
    large.status()  # behind it: the order is taken
    second.send(THAW)
    assert first.reply() == (0, b"") and second.reply() == (0, b"")
    assert large.service(large.name)["frozen"] is None and large.get(large.name, "a") == "new"
    assert re.findall("frozen at|thawed", large.log()) == ["frozen at", "thawed"]


# --- a daemon that goes away before it answers ------------------------------------------------------------------------

class Cut:
    """A socket in front of the daemon's: takes orders there, and cuts the connection in place of the first reply."""

    def __init__(self, running, path):
        self.running, self.path = running, path
        self.n_orders, self.n_connections = 0, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.fspath(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            self.n_connections += 1
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _frame(self, end):
        head = end.recv(12, socket.MSG_WAITALL)
        length, op, _, _ = struct.unpack("<IHHI", head)
        return op, head + (end.recv(length, socket.MSG_WAITALL) if length else b"")

    def _carry(self, near):
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(os.fspath(self.running.socket))
            while True:
                op, frame = self._frame(near)
                far.sendall(frame)
                reply = self._frame(far)[1]
                self.n_orders += op == operations()["PIN"]
                if op == operations()["PIN"] and self.n_orders == 1:
                    return
                near.sendall(reply)
        except (OSError, struct.error):
            return
        finally:
            near.close()
            far.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def cut(told, tmp_path):
    made = Cut(told, tmp_path / "cut")
    yield made
    made.close()


def test_an_order_that_was_not_answered_is_not_given_twice(told, cut):
    """ "previous" would be the bad generation the second time."""
    done = told.cli("freeze", "--socket", cut.path, told.name, "previous")
    assert done.returncode == 3 and "consulcfg-status" in one_line(done.stderr)
    assert cut.n_orders == 1
    told.wait_state(told.name, "frozen")
    assert told.get(told.name, "a") == "old"


def test_an_order_that_stands_is_not_called_nothing(told, cut):
    told.cli("override", told.name, "a=mine", check=True)
    done = told.cli("override", "--socket", cut.path, "--clear", told.name)
    assert done.returncode == 3 and cut.n_orders == 1
    told.wait_value(told.name, "a", "new")


def test_an_order_waits_for_a_daemon_that_is_only_about_to_start(told, tmp_path):
    """What went away before it was told is no reason not to tell the next one."""
    path = tmp_path / "closing"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()
    child = told.popen_cli("override", "--socket", path, told.name, "a=mine")
    near = listener.accept()[0]
    near.close()
    listener.close()
    path.unlink()
    path.symlink_to(told.socket)
    assert child.wait() == 0, child.stderr
    assert told.get(told.name, "a") == "mine"
